"""`latentface upscale` on photographs: found, enlarged in common batches, and written, a bounded window at a time."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentface.cli.sheets import PhotoSteps
from latentface.errors import LatentfaceError
from latentface.io.sources import Input

if TYPE_CHECKING:
    from PIL import Image

    from latentface.cli.upscale import Run
    from latentface.faces import Warp
    from latentface.prior.prior import Prior
    from latentface.restore.photo import FoundFaces, Job, PhotoUpscaler
    from latentface.restore.photoresult import PhotoUpscaled


NO_MEMORY = "there is not enough memory; shrink or cut it first, or use a smaller factor (-f)"


def is_photograph(data: bytes, name: str, prior: Prior) -> bool:
    """Say whether a file is a photograph: all but square pictures, smaller than the prior's faces, of an aligned face."""
    from latentface.faces.kind import is_aligned
    from latentface.io.photo import picture_size, register_heic
    from latentface.io.pictures import read_picture

    size = picture_size(data)
    if size is None or size[0] != size[1] or size[0] >= prior.resolution:
        return True
    register_heic(data, name)
    return not is_aligned(read_picture(data, name), prior.alignment)


@dataclass(slots=True)
class PhotoRun:
    """The photographs of one call: those that wait for their faces' batch, and what became of the others."""

    run: Run
    upscaler: PhotoUpscaler
    save_faces: bool
    waiting: list[tuple[Input, dict[str, Any], FoundFaces]] = field(default_factory=list)
    upscaled: int = 0
    left: Counter[str] = field(default_factory=Counter)  # faces that were left, by reason
    wants: int = 0  # px of the prior that would enlarge those that are too large
    plain: int = 0
    a_face: dict[int, float] = field(default_factory=dict)  # seconds, of one sample, by the side of its face

    def start(self) -> None:
        """Say what the background takes, where a network makes it."""
        from latentface.cli.times import precise_duration

        background = self.upscaler.background
        if background is not None:
            seconds = background.seconds_a_megapixel()
            self.run.talk.say(
                f"what surrounds the faces of photographs by {background.record['file']} ({background.model.factor}x): about {precise_duration(seconds)} a megapixel"
            )

    def add(self, item: Input, data: bytes, bar: Any) -> None:
        """Find a photograph's faces, and finish the window when it is full. Failures are told."""
        from latentface.io.atomic import check_folder, sha256
        from latentface.io.photo import Photo
        from latentface.io.records import check_beside, is_done

        try:
            photo = Photo.read(data, item.entry.label)
            request = {
                "input": item.entry.label,
                "input_sha256": sha256(data),
                **self.upscaler.request(photo),
            }
            path = self.run.path(item)
            if not self.run.overwrite:
                if is_done(path, request) and self._has_all(path):
                    self.run.skipped += 1
                    bar.advance(bar.task_ids[0])
                    return
                samples = self.run.upscaler.settings.samples
                check_beside(path, samples, self.run.asked_beside, faces=self.save_faces)
            check_folder(path.parent)
            self.waiting.append((item, request, self.upscaler.find(photo)))
        except (LatentfaceError, MemoryError, RuntimeError) as error:
            self.run.fail(item.entry.label, _reason(error))
            bar.advance(bar.task_ids[0])
            return
        if self.upscaler.full([found for _, _, found in self.waiting]):
            self.flush(bar)

    def flush(self, bar: Any) -> None:
        """Finish the photographs that wait, and write them."""
        waiting, self.waiting = self.waiting, []
        samples = self.run.upscaler.settings.samples
        faces = sum(len(found.jobs) for _, _, found in waiting)
        before = bar.tasks[0].completed if bar.tasks else 0
        self._tell_time(Counter(_octave(job.warp) for _, _, found in waiting for job in found.jobs), len(waiting))
        steps = PhotoSteps() if self.run.save_steps else None

        def on_step(jobs: Sequence[Job], step: Any) -> None:
            bar.advance(bar.task_ids[0], len(waiting) * len(jobs) * step.part / (faces * samples))
            if steps is not None:
                steps.tell(jobs, step)

        results = self.upscaler.finish([found for _, _, found in waiting], on_step)
        for n, (item, request, found) in enumerate(waiting):
            try:
                result = next(results)
            except (LatentfaceError, MemoryError, RuntimeError) as error:
                for other, _, _ in waiting[n:]:
                    self.run.fail(other.entry.label, _reason(error))
                break
            try:
                self._write(item, request, result, steps.sheet(found.jobs) if steps is not None else None)
            except (LatentfaceError, MemoryError, RuntimeError) as error:
                self.run.fail(item.entry.label, _reason(error))
        bar.update(bar.task_ids[0], completed=before + len(waiting))

    def _tell_time(self, sizes: Counter[int], photographs: int) -> None:
        """Say how many faces of which sides were found and how long they will take: a trial at each side."""
        from latentface.bench.core.progress import duration
        from latentface.cli.times import seconds_a_face

        faces = sizes.total()
        if not faces or self.run.talk.quiet:
            return
        for size in sizes.keys() - self.a_face.keys():
            self.a_face[size] = seconds_a_face(self.run.upscaler, size, photograph=True)
        seconds = sum(self.a_face[size] * n for size, n in sizes.items()) * self.run.upscaler.settings.samples
        self.run.talk.say(
            f"{faces} face{'s' if faces != 1 else ''} to upscale in {photographs} photograph{'s' if photographs != 1 else ''}: about {duration(seconds)}"
        )

    def _write(
        self, item: Input, request: dict[str, Any], result: PhotoUpscaled, steps: Image.Image | None = None
    ) -> None:
        """Write NAME.png and what was asked for beside it, and last NAME.json. Raises OutputError."""
        from latentface import __version__
        from latentface.io.atomic import write_json
        from latentface.io.pictures import write_picture
        from latentface.io.records import begin_result, beside, faces_folder, text_chunks

        path = self.run.path(item)
        record = {"input": request["input"], "input_sha256": request["input_sha256"], **result.record}
        chunks = text_chunks(record)
        several = result.samples > 1
        plain = result.enlarged() if several and result.background is not None else None  # a network's costs minutes
        after = result.render(on=plain)
        begin_result(path)
        after.save(path, chunks)
        if self.run.compare:
            write_picture(beside(path, "compare"), result.comparison(after), chunks)
        del after
        if several:
            for k in range(result.samples):
                result.render(k, plain).save(beside(path, str(k + 1)), chunks)
            result.render_spread().save(beside(path, "spread"), chunks)
        if steps is not None:
            write_picture(beside(path, "steps"), steps, chunks)
        if self.save_faces:
            result.save_faces(faces_folder(path))
        write_json(path.with_suffix(".json"), {"version": __version__, **record})
        self.run.done += 1
        self.upscaled += len(result.faces)
        self.run.soft += [round(face.detail) for face in result.faces if face.soft]
        self.left.update(face.reason for face in result.left)
        self.wants = max(self.wants, *(face.wants or 0 for face in result.left), 0)
        self.plain += not result.faces and not result.left
        if result.consistency_db is not None:
            self.run.worst = min(self.run.worst, result.consistency_db)
        self.run.talk.say(f"{item.entry.label}: {result.summary}")
        print(json.dumps({"output": str(path), **record}) if self.run.as_json else path, flush=True)

    def _has_all(self, path: Path) -> bool:
        """Say whether what was asked for beside a finished result is there."""
        from latentface.io.records import beside, faces_folder, read_record

        wanted: list[Path] = [beside(path, "compare")] if self.run.compare else []
        record = read_record(path) or {}
        if record.get("faces_upscaled"):
            wanted += [faces_folder(path) / "01.png"] if self.save_faces else []
            wanted += [beside(path, "steps")] if self.run.save_steps else []
        return all(p.exists() for p in wanted)

    def words(self) -> Sequence[str]:
        """Say what became of the faces."""
        found = self.upscaled + self.left.total()
        parts = (
            [f"{found} face{'s' if found != 1 else ''} found in photographs: {self.upscaled} upscaled"] if found else []
        )
        for reason, count in self.left.items():
            parts.append(f"{count} left as {'it is' if count == 1 else 'they are'} ({reason})")
        if self.wants:
            parts.append(f"a prior of {self.wants} px, given with -p, would enlarge the large ones too")
        if self.plain:
            parts.append(f"{self.plain} photograph{'s' if self.plain != 1 else ''} without a face enlarged plainly")
        return parts


def _octave(warp: Warp) -> int:
    """Return the side of a face in its photograph, rounded up to a power of two."""
    return 1 << max(1, math.ceil(math.log2(warp.transforms[0].scale)))


def _reason(error: Exception) -> str:
    """Return what to tell of a failure; raise again what is a fault of the program."""
    from latentface.devices import out_of_memory

    if isinstance(error, LatentfaceError):
        return str(error)
    if not out_of_memory(error):
        raise error
    return NO_MEMORY
