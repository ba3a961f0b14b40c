"""One call of `latentface upscale`: pictures are read, a window at a time, enlarged in common, written, and summed up."""

import json
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from PIL import Image

from latentface.bench.core.progress import duration
from latentface.cli.console import Talk
from latentface.cli.options import OutputSettings
from latentface.devices import out_of_memory
from latentface.errors import LatentfaceError
from latentface.explore.result import Step
from latentface.io.atomic import check_folder, sha256
from latentface.io.photo import Photo
from latentface.io.pictures import to_pillow
from latentface.io.records import beside, check_beside, faces_folder, is_done, read_record
from latentface.io.sheets import comparison_sheet
from latentface.io.sources import Input, read_entry
from latentface.prior import registry
from latentface.restore.aligned import AlignedFace
from latentface.restore.faceresult import Upscaled
from latentface.restore.photoresult import SHEET_FACES, PhotoUpscaled
from latentface.restore.upscaler import Found, Kind, Result, Upscaler
from latentface.restore.verdict import REASONS
from latentface.restore.write import write_result

STEP_SIDE = 192  # px of a preview of a photograph's face that is kept
NO_MEMORY = "there is not enough memory; shrink or cut it first, or use a smaller factor (-f)"


@dataclass(slots=True)
class Tally:
    """What became of the inputs and their faces."""

    done: int = 0
    skipped: int = 0
    failed: int = 0
    worst: float = math.inf  # dB
    soft: list[int] = field(default_factory=list)  # px of detail of the faces that were soft
    located: int = 0
    found: int = 0  # faces of photographs
    upscaled: int = 0  # of them
    left: Counter[str] = field(default_factory=Counter)  # faces that were left, by reason
    wants: int = 0  # px of the prior that would enlarge those that are too large
    plain: int = 0

    def add(self, result: Result, located: bool) -> None:
        """Count a result."""
        self.done += 1
        if result.consistency_db is not None:
            self.worst = min(self.worst, result.consistency_db)
        if not isinstance(result, PhotoUpscaled):
            self.left.update([result.reason] if result.reason else [])
            self.soft += [result.seen.shape[-1]] if result.seen.shape != result.low.shape else []
            return
        self.located += located
        self.found += len(result.faces) + len(result.left)
        self.upscaled += len(result.faces)
        self.soft += [round(face.detail) for face in result.faces if face.soft]
        self.left.update(face.reason for face in result.left)
        self.wants = max(self.wants, *(face.wants or 0 for face in result.left), 0)
        self.plain += not result.faces and not result.left

    def words(self, seconds: float) -> list[str]:
        """Say what was done."""
        parts = [f"{self.done} done in {duration(seconds)}"] if self.done else []
        parts += [f"{self.skipped} already there"] if self.skipped else []
        parts += [f"{self.failed} failed"] if self.failed else []
        if self.found:
            parts.append(f"{counted(self.found, 'face')} found in photographs: {self.upscaled} upscaled")
        parts += [f"{n} left as {'it is' if n == 1 else 'they are'} ({reason})" for reason, n in self.left.items()]
        if any(reason in REASONS for reason in self.left):
            parts.append("--keep-all keeps what is no face, too")
        if self.wants:
            parts.append(f"a prior of {self.wants} px, given with -p, would enlarge the large ones too")
        if self.plain:
            parts.append(f"{counted(self.plain, 'photograph')} without a face enlarged plainly")
        if self.worst < math.inf:
            target = "its input, or a soft one's detail," if self.soft else "its input"
            parts.append(f"each shrinks back to {target} to within {self.worst:.1f} dB or better")
        if self.soft:
            low, high = min(self.soft), max(self.soft)
            sizes = f"{low} px" if low == high else f"{low} to {high} px"
            were = "were" if len(self.soft) > 1 else "was"
            parts.append(
                f"{len(self.soft)} {were} soft and taken as of {sizes} (--detail full takes faces as they are)"
            )
        if self.located:
            parts.append(
                "results say where the photograph was taken, as the input does (--strip-location leaves it out)"
            )
        return parts


class Steps:
    """Keeps small previews of a window's faces at chosen steps, and draws a row of them for each face."""

    def __init__(self) -> None:
        self.seen: dict[int, dict[int, Image.Image]] = {}  # by step and job, of the first sample

    def tell(self, rows: Sequence[tuple[int, int]], step: Step) -> None:
        """Keep previews at steps 1, 2, 5, 10, 20, 50, ... and the last; `rows`: (job, sample) of each face in work."""
        if step.number != step.total and str(step.number).rstrip("0") not in ("1", "2", "5"):
            return
        kept = self.seen.setdefault(step.number, {})
        for (job, sample), face in zip(rows, step.preview(), strict=True):
            if sample == 0:
                kept[job] = to_pillow(face)
                kept[job].thumbnail((STEP_SIDE, STEP_SIDE))

    def sheet(self, jobs: Sequence[int]) -> Image.Image | None:
        """Return the faces of a picture, a row each, the largest first; None without faces or steps."""
        shown = {number: kept for number, kept in sorted(self.seen.items()) if any(job in kept for job in jobs)}
        if not shown:
            return None
        nothing = Image.new("RGB", (1, 1), "white")  # a search that ended early has fewer steps
        return comparison_sheet(
            {f"step {n}": [kept.get(job, nothing) for job in jobs[:SHEET_FACES]] for n, kept in shown.items()}
        )


@dataclass(slots=True)
class Run:
    """One call of the command."""

    upscaler: Upscaler
    talk: Talk
    out: OutputSettings
    kind: Kind
    tally: Tally = field(default_factory=Tally)
    waiting: list[tuple[Input, dict[str, Any], Found]] = field(default_factory=list)
    a_face: dict[tuple[bool, int], float] = field(default_factory=dict)  # seconds a sample, by the side of its face

    def all(self, inputs: Sequence[Input]) -> int:
        """Enlarge every input, and return the exit code."""
        began = time.monotonic()
        if inputs:
            self._announce(len(inputs))
            with self.talk.progress("pictures", len(inputs)) as bar:
                for item in inputs:
                    self._read(item, bar)
                    if self.upscaler.full([found for _, _, found in self.waiting]):
                        self._finish(bar)
                self._finish(bar)
        self.talk.say("; ".join(self.tally.words(time.monotonic() - began)) or "nothing to do")
        return 1 if self.tally.failed else 0

    def fail(self, name: str, reason: str) -> None:
        """Note and tell that one input could not be done."""
        self.tally.failed += 1
        self.talk.warn(reason if reason.startswith(name) else f"{name}: {reason}")

    def _announce(self, count: int) -> None:
        up, background = self.upscaler, self.upscaler.background
        if up.prior.name in registry.PRIORS and up.engine.method.searches:
            self.talk.say(registry.PRIORS[up.prior.name].notice)
        self.talk.say(
            f"{counted(count, 'picture')}, method {up.settings.method}, prior {up.prior.name} ({up.prior.resolution} px), "
            f"on {up.prior.device}; results in {self.out.output}"
        )
        if background is not None and not self.talk.quiet:
            self.talk.say(
                f"what surrounds the faces of photographs by {background.record['file']} ({background.model.factor}x): about {precise_duration(background.seconds_a_megapixel())} a megapixel"
            )

    def _path(self, item: Input) -> Path:
        return (
            self.out.output if self.out.single else self.out.output / item.target.with_name(f"{item.target.name}.png")
        )

    def _read(self, item: Input, bar: Any) -> None:
        """Decode an input, leave it out where its result is there, else find its faces. Failures are told."""
        name = item.entry.label
        try:
            data = read_entry(item.entry)
            photo = Photo.read(data, name)
            left_out = self.out.strip_location and photo.located
            photo = photo.without_location() if left_out else photo
            aligned = self.upscaler.takes_for_aligned(photo, self.kind)
            request = {
                "input": Path(item.entry.name).name,
                "input_sha256": sha256(data),
                **self.upscaler.request(photo, aligned=aligned),
                **({"location": "left out"} if left_out else {}),
            }
            path = self._path(item)
            if is_done(path, request, overwrite=self.out.overwrite) and self._has_all(path):
                self.tally.skipped += 1
                bar.advance(bar.task_ids[0])
                return
            faces = self.out.save_faces and not aligned
            check_beside(path, self.upscaler.settings.count, self.out.beside, faces=faces)
            check_folder(path.parent)
            self.waiting.append((item, request, self.upscaler.find(photo, aligned=aligned)))
        except (LatentfaceError, MemoryError, RuntimeError) as error:
            self.fail(name, reason_of(error))
            bar.advance(bar.task_ids[0])

    def _has_all(self, path: Path) -> bool:
        """Say whether what was asked for beside a finished result is there."""
        record = read_record(path) or {}
        photograph = record.get("kind") == "photograph"
        wanted = [beside(path, name) for name in self.out.beside if name == "compare" or not photograph]
        if photograph and record.get("faces_upscaled"):
            first = next(face["number"] for face in record["faces"] if face["upscaled"])
            wanted += [faces_folder(path) / f"{first:02d}.png"] if self.out.save_faces else []
            wanted += [beside(path, "steps")] if self.out.save_steps else []
        return all(p.exists() for p in wanted)

    def _finish(self, bar: Any) -> None:
        """Search for the faces that wait, and write their pictures."""
        waiting, self.waiting = self.waiting, []
        if not waiting:
            return
        self._tell_time([found for _, _, found in waiting])
        count = self.upscaler.settings.count
        rows = sum(len(found.jobs) for _, _, found in waiting) * count
        before = bar.tasks[0].completed if bar.tasks else 0
        steps = Steps() if self.out.save_steps else None

        def on_step(working: Sequence[tuple[int, int]], step: Step) -> None:
            bar.advance(bar.task_ids[0], len(waiting) * len(working) * step.part / rows)
            if steps is not None:
                steps.tell(working, step)

        results = self.upscaler.finish([found for _, _, found in waiting], on_step)
        first = 0
        for item, request, found in waiting:
            jobs = range(first, first + len(found.jobs))
            first = jobs.stop
            try:
                result = next(results)
                if isinstance(result, Exception):
                    raise result
                self._write(item, request, result, found, steps.sheet(jobs) if steps is not None else None)
            except (LatentfaceError, MemoryError, RuntimeError) as error:
                self.fail(item.entry.label, reason_of(error))
        bar.update(bar.task_ids[0], completed=before + len(waiting))

    def _write(self, item: Input, request: dict[str, Any], result: Result, found: Found, steps: Any) -> None:
        path = self._path(item)
        record = {k: v for k, v in request.items() if k in ("input", "input_sha256", "location")} | dict(result.record)
        more: dict[str, Image.Image] = {} if steps is None else {"steps": steps}
        if self.out.compare and not isinstance(result, PhotoUpscaled):
            more["compare"] = comparison(result)
        write_result(path, result, record, more, compare=self.out.compare, faces=self.out.save_faces)
        self.tally.add(result, not isinstance(found, AlignedFace) and found.photo.located)
        if isinstance(result, PhotoUpscaled):
            self.talk.say(f"{item.entry.label}: {result.summary}")
        print(json.dumps({"output": str(path), **record}) if self.out.as_json else path, flush=True)

    def _tell_time(self, window: Sequence[Found]) -> None:
        """Say how many faces there are and how long they will take: a trial at each size."""
        engine = self.upscaler.engine
        if self.talk.quiet or not engine.method.searches:
            return
        sizes: Counter[tuple[bool, int]] = Counter()
        for found in window:
            for job in found.jobs:
                side = job.home.scale if job.home is not None else float(job.low.shape[-1])
                key = (job.home is None, 1 << max(1, math.ceil(math.log2(side))))
                sizes[key] += 1
                if key not in self.a_face:
                    self.a_face[key] = engine.seconds_a_face(job)
        count = self.upscaler.settings.count
        for aligned, words in ((True, "aligned face"), (False, "face")):
            faces = sum(n for (kind, _), n in sizes.items() if kind == aligned)
            if faces:
                seconds = sum(self.a_face[key] * n for key, n in sizes.items() if key[0] == aligned) * count
                photographs = sum(not isinstance(found, AlignedFace) for found in window)
                where = "" if aligned else f" in {counted(photographs, 'photograph')}"
                self.talk.say(f"{counted(faces, words)} to upscale{where}: about {duration(seconds)}")


def counted(n: int, noun: str) -> str:
    """Return a number with its noun: `1 face`, `2 faces`."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


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
