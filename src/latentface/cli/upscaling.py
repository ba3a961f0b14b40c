"""One call of `latentface upscale`: pictures are read, a window at a time, enlarged in common, written, and summed up."""

import errno
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from PIL import Image

from latentface.cli.console import Talk
from latentface.cli.estimate import Estimate
from latentface.cli.options import ENDINGS, OutputSettings
from latentface.cli.steps import Steps
from latentface.cli.tally import Tally
from latentface.devices import out_of_memory
from latentface.errors import LatentfaceError, OutputError
from latentface.explore.result import Step
from latentface.io.atomic import check_folder, sha256
from latentface.io.frames import frame_count
from latentface.io.inputs import Inputs, Listing
from latentface.io.photo import Photo
from latentface.io.pictures import check_writable
from latentface.io.records import beside, check_beside, faces_folder, is_done, read_record
from latentface.io.result_names import Input
from latentface.io.sheets import comparison_sheet
from latentface.io.sources import read_entry
from latentface.prior import registry
from latentface.restore.faceresult import Upscaled
from latentface.restore.photoresult import PhotoUpscaled
from latentface.restore.upscaler import Found, Kind, Result, Upscaler
from latentface.restore.write import write_result
from latentface.words import counted, duration

OF_INPUT = ("input", "input_sha256", "location", "frame", "frames")  # what a record says besides how it was made
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
GOES_ON = "stopped; what is written is whole, and the same command goes on from there"
NOTHING_YET = "stopped before anything was written"
NO_MEMORY = "there is not enough memory; shrink or cut it first, or use a smaller factor (-f)"


@dataclass(frozen=True, slots=True)
class Task:
    """An input, or one frame of it: how messages name it, its result's path, and what decides its result."""

    name: str
    path: Path
    request: dict[str, Any]


class EndsRunError(Exception):
    """No further result can be written either; the arguments are those of `Run.fail`."""


@dataclass(slots=True)
class Run:
    """One call of the command."""

    upscaler: Upscaler
    talk: Talk
    out: OutputSettings
    kind: Kind
    tally: Tally = field(default_factory=Tally)
    waiting: list[tuple[Task, Found]] = field(default_factory=list)
    taken: set[Path] = field(default_factory=set)  # results' paths

    def all(self, listing: Listing) -> int:
        """Enlarge every input, say what was left out, and return the exit code.

        Raises KeyboardInterrupt: at Ctrl-C, with words for what is written.
        """
        began = time.monotonic()
        for name, reason in listing.failures:
            self.fail(name, reason)
        if listing.inputs:
            self._announce(len(listing.inputs))
            try:
                self._each(listing.inputs)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(GOES_ON if self.tally.done else NOTHING_YET) from None
        if listing.left:
            self.talk.say(listing.left_words())
        self.talk.say("; ".join(self.tally.words(time.monotonic() - began)) or "nothing to do")
        return 1 if self.tally.failed else 0

    @property
    def where(self) -> str:
        """On what the faces are computed, in words."""
        return str(self.upscaler.prior.device)

    def _each(self, inputs: Inputs) -> None:
        with self.talk.progress("pictures", len(inputs)) as bar:
            unread = len(inputs)
            try:
                for item in inputs:
                    unread -= 1
                    self._read(item, bar)
                    if self.upscaler.full([found for _, found in self.waiting]):
                        self._finish(bar)
                self._finish(bar)
            except EndsRunError as error:
                self.fail(*error.args)
                self.tally.untried = unread + len(self.waiting)

    def fail(self, name: str, reason: str) -> None:
        """Note and tell that one input could not be done."""
        self.tally.failed += 1
        self.talk.warn(reason if reason.startswith(name) else f"{name}: {reason}")

    def _failed(self, name: str, error: Exception) -> None:
        """Tell of an input that could not be done. Raises EndsRunError: the others cannot be written either."""
        reason = reason_of(error)
        if isinstance(error, OutputError) and self._ends(error.__cause__ or error.__context__):
            raise EndsRunError(name, reason) from None
        self.fail(name, reason)

    def _ends(self, cause: BaseException | None) -> bool:
        """Say whether an error of the disk is of all results: it is full or read-only, or their folder may not be written."""
        folder = self.out.place.parent if self.out.single else self.out.place
        return isinstance(cause, OSError) and (cause.errno in NO_ROOM or not os.access(folder, os.W_OK))

    def _announce(self, count: int) -> None:
        up, background = self.upscaler, self.upscaler.background
        if up.prior.name in registry.PRIORS and up.engine.method.searches:
            self.talk.say(registry.PRIORS[up.prior.name].notice)
        self.talk.say(
            f"{counted(count, 'picture')}, method {up.settings.method}, prior {up.prior.name} ({up.prior.resolution} px), "
            f"on {self.where}; results in {'standard output' if self.out.piped else self.out.place}"
        )
        if background is not None and not self.talk.quiet:
            self.talk.say(
                f"what surrounds the faces of photographs by {background.record['file']} ({background.model.factor}x): about {precise_duration(background.seconds_a_megapixel())} a megapixel"
            )

    def _path(self, item: Input, digest: str, frame: str) -> Path:
        """Return the result's path: one that it has from an earlier run, else the one of the item's name."""
        if self.out.piped:
            return Path(f"result{self.out.ending}")
        if self.out.single:
            place = self.out.place
            return place.with_name(f"{place.stem}{frame}{place.suffix}")
        names = [t.with_name(f"{t.name}{frame}{self.out.ending}") for t in (item.target, *item.others)]
        paths = [self.out.place / name for name in names]

        def has_result(path: Path) -> bool:
            record = read_record(path) or {}
            same = record.get("input_sha256") == digest and record.get("input") == item.entry.file
            return same and path not in self.taken

        return next(filter(has_result, paths), paths[0])

    def _read(self, item: Input, bar: Any) -> None:
        """Read an input; of an animation or several pages each, if all are asked for. Failures are told."""
        name = item.entry.label
        try:
            data = read_entry(item.entry)
        except (LatentfaceError, MemoryError) as error:
            self._failed(name, error)
            bar.advance(bar.task_ids[0])
            return
        count, word = frame_count(data)
        if count == 1 or not self.out.all_frames:
            self.tally.partly += [f"{name}: 1 of {count} {word}s"] if count > 1 else []
            self._decode(item, data, bar, frames=count)
            return
        bar.update(bar.task_ids[0], total=bar.tasks[0].total + count - 1)
        for frame in range(count):
            self._decode(item, data, bar, frame, count, f"-{frame + 1:03d}")

    def _decode(self, item: Input, data: bytes, bar: Any, frame: int = 0, frames: int = 1, suffix: str = "") -> None:
        """Decode a picture, leave it out where its result is there, else find its faces. Failures are told."""
        name = f"{item.entry.label} ({frame + 1} of {frames})" if suffix else item.entry.label
        try:
            photo = Photo.read(data, name, frame)
            left_out = self.out.strip_location and photo.located
            photo = photo.without_location() if left_out else photo
            if photo.remark:
                self.talk.say(f"{name}: {photo.remark}")
            photo, aligned = self.upscaler.taken(photo, self.kind)
            digest = sha256(data)
            request = {
                "input": item.entry.file,
                "input_sha256": digest,
                **self.upscaler.request(photo, aligned=aligned),
                **self.out.written,
                **({"location": "left out"} if left_out else {}),
                **({"frame": frame + 1, "frames": frames} if frames > 1 else {}),
            }
            path = self._path(item, digest, suffix)
            check_writable(path, *request["high_size"])
            if item.others:  # one without others has no choice
                self.taken.add(path)
            if self.out.piped:
                self.waiting.append((Task(name, path, request), self.upscaler.find(photo, aligned=aligned)))
                return
            if is_done(path, request, overwrite=self.out.overwrite) and self._has_all(path):
                self.tally.skipped += 1
                if self.out.as_json:
                    print(json.dumps({"output": str(path), **(read_record(path) or {}), "skipped": True}), flush=True)
                bar.advance(bar.task_ids[0])
                return
            faces = self.out.save_faces and not aligned
            check_beside(path, self.upscaler.settings.count, self.out.beside, faces=faces)
            check_folder(path.parent)
            self.waiting.append((Task(name, path, request), self.upscaler.find(photo, aligned=aligned)))
        except (LatentfaceError, MemoryError, RuntimeError) as error:
            self._failed(name, error)
            bar.advance(bar.task_ids[0])

    def _has_all(self, path: Path) -> bool:
        """Say whether what was asked for beside a finished result is there."""
        record = read_record(path) or {}
        photograph = record.get("kind") == "photograph"
        wanted = [beside(path, name) for name in self.out.beside if name == "compare" or not photograph]
        if photograph and record.get("faces_upscaled"):
            first = next(face["number"] for face in record["faces"] if face["upscaled"])
            wanted += [faces_folder(path) / f"{first:02d}{path.suffix}"] if self.out.save_faces else []
            wanted += [beside(path, "steps")] if self.out.save_steps else []
        return all(p.exists() for p in wanted)

    def _finish(self, bar: Any) -> None:
        """Search for the faces that wait, and write their pictures."""
        waiting, self.waiting = self.waiting, []
        if not waiting:
            return
        estimate = Estimate([found for _, found in waiting], self.talk.say)
        count = self.upscaler.settings.count
        rows = sum(len(found.jobs) for _, found in waiting) * count
        before = bar.tasks[0].completed if bar.tasks else 0
        steps = Steps() if self.out.save_steps else None

        def on_step(working: Sequence[tuple[int, int]], step: Step) -> None:
            share = len(working) * step.part / rows
            bar.advance(bar.task_ids[0], len(waiting) * share)
            estimate.step(share, step.number == step.total)
            if steps is not None:
                steps.tell(working, step)

        results = self.upscaler.finish([found for _, found in waiting], on_step)
        first = 0
        for number, (task, found) in enumerate(waiting, 1):
            jobs = range(first, first + len(found.jobs))
            first = jobs.stop
            try:
                result = next(results)
                if isinstance(result, Exception):
                    raise result
                self._write(task, result, found, steps.sheet(jobs) if steps is not None else None)
            except (LatentfaceError, MemoryError, RuntimeError) as error:
                self.waiting = waiting[number:]  # not tried, where the run ends here
                self._failed(task.name, error)
                self.waiting = []
        bar.update(bar.task_ids[0], completed=before + len(waiting))

    def _write(self, task: Task, result: Result, found: Found, steps: Image.Image | None) -> None:
        facts = (*OF_INPUT, *self.out.written)
        record = {k: v for k, v in task.request.items() if k in facts} | dict(result.record)
        quality = self.out.quality
        if self.out.piped:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / task.path
                write_result(path, result, record, {}, quality=quality)
                sys.stdout.buffer.write(path.read_bytes())
            sys.stdout.buffer.flush()
        else:
            more: dict[str, Image.Image] = {} if steps is None else {"steps": steps}
            if self.out.compare and not isinstance(result, PhotoUpscaled):
                more["compare"] = comparison(result)
            compare, faces = self.out.compare, self.out.save_faces
            write_result(task.path, result, record, more, compare=compare, faces=faces, quality=quality)
        self.tally.add(result)
        if found.photo is not None:
            self.tally.located += found.photo.located
            self.tally.flattened += found.photo.alpha is not None and ENDINGS[self.out.ending.lower()] == "jpg"
        if isinstance(result, PhotoUpscaled):
            self.talk.say(f"{task.name}: {result.summary}")
        if not self.out.piped:
            print(json.dumps({"output": str(task.path), **record}) if self.out.as_json else task.path, flush=True)


def precise_duration(seconds: float) -> str:
    """Write a time for people, tenths of a second too: `0.4 s`, `40 s`, `12 min`."""
    return f"{max(0.1, seconds):.1f} s" if seconds < 9.95 else duration(seconds)


def reason_of(error: Exception) -> str:
    """Return what to tell of a failure; raise again what is a fault of the program."""
    if isinstance(error, LatentfaceError):
        return str(error)
    if not out_of_memory(error):
        raise error
    return NO_MEMORY


def comparison(result: Upscaled) -> Image.Image:
    """Return input, bilinear and result side by side; of a soft face also what was searched with."""
    size = result.high.shape[1:]
    bilinear = F.interpolate(result.low[None], size=size, mode="bilinear", align_corners=False)[0]
    soft = {} if result.seen.shape == result.low.shape else {f"its detail, {result.seen.shape[-1]} px": [result.seen]}
    return comparison_sheet(
        {"input": [result.low], "bilinear": [bilinear], **soft, str(result.record["method"]): [result.high]}
    )
