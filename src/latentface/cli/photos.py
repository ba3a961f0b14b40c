"""`latentface upscale` on photographs: found, enlarged in common batches, and written, a bounded window at a time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentface.errors import LatentfaceError, OutputError
from latentface.inputs import Input

if TYPE_CHECKING:
    from latentface.cli.upscale import Run
    from latentface.photograph import FoundFaces, PhotoUpscaler
    from latentface.photoresult import PhotoUpscaled


def is_photograph(data: bytes, most: int) -> bool:
    """Say whether a file is to be searched for faces: all but square pictures smaller than the prior's faces."""
    from latentface.photofile import picture_size

    size = picture_size(data)
    return size is None or size[0] != size[1] or size[0] >= most


@dataclass(slots=True)
class PhotoRun:
    """The photographs of one call: those that wait for their faces' batch, and what became of the others."""

    run: Run
    upscaler: PhotoUpscaler
    save_faces: bool
    waiting: list[tuple[Input, dict[str, Any], FoundFaces]] = field(default_factory=list)
    upscaled: int = 0
    left: int = 0
    plain: int = 0

    def add(self, item: Input, data: bytes, bar: Any) -> None:
        """Find a photograph's faces, and finish the window when it is full. Failures are told."""
        from latentface.images import check_folder, sha256
        from latentface.photofile import Photo
        from latentface.results import is_done

        try:
            photo = Photo.read(data, item.entry.label)
            request = {
                "input": item.entry.label,
                "input_sha256": sha256(data),
                **self.upscaler.request(photo),
            }
            path = self.run.path(item)
            if not self.run.overwrite and is_done(path, request) and self._has_all(path):
                self.run.skipped += 1
                bar.advance(bar.task_ids[0])
                return
            check_folder(path.parent)
            self.waiting.append((item, request, self.upscaler.find(photo)))
        except LatentfaceError as error:
            self.run.fail(item.entry.label, str(error))
            bar.advance(bar.task_ids[0])
            return
        if self.upscaler.full([found for _, _, found in self.waiting]):
            self.flush(bar)

    def flush(self, bar: Any) -> None:
        """Finish the photographs that wait, and write them."""
        waiting, self.waiting = self.waiting, []
        faces = sum(len(found.jobs) for _, _, found in waiting)
        before = bar.tasks[0].completed if bar.tasks else 0

        def on_step(rows: int, step: Any) -> None:
            work = step.total * faces * self.run.upscaler.settings.samples
            bar.advance(bar.task_ids[0], len(waiting) * rows / work)

        results = self.upscaler.finish([found for _, _, found in waiting], on_step)
        for n, (item, request, _) in enumerate(waiting):
            try:
                self._write(item, request, next(results))
            except OutputError as error:
                self.run.fail(item.entry.label, str(error))
            except LatentfaceError as error:
                for other, _, _ in waiting[n:]:
                    self.run.fail(other.entry.label, str(error))
                break
        bar.update(bar.task_ids[0], completed=before + len(waiting))

    def _write(self, item: Input, request: dict[str, Any], result: PhotoUpscaled) -> None:
        """Write NAME.png and what was asked for beside it, and last NAME.json. Raises OutputError."""
        from latentface import __version__
        from latentface.images import write_json, write_picture
        from latentface.results import text_chunks

        path = self.run.path(item)
        record = {"input": request["input"], "input_sha256": request["input_sha256"], **result.record}
        chunks = text_chunks(record)
        after = result.render()
        after.save(path, chunks)
        if self.run.compare:
            write_picture(_beside(path, "compare"), result.comparison(after))
        del after
        if result.samples > 1:
            for k in range(result.samples):
                result.render(k).save(_beside(path, str(k + 1)), chunks)
            result.render_spread().save(_beside(path, "spread"), chunks)
        if self.save_faces:
            result.save_faces(_faces_folder(path))
        write_json(path.with_suffix(".json"), {"version": __version__, **record})
        self.run.done += 1
        self.upscaled += len(result.faces)
        self.left += len(result.left)
        self.plain += not result.faces and not result.left
        if result.consistency_db is not None:
            self.run.worst = min(self.run.worst, result.consistency_db)
        self.run.talk.say(f"{item.entry.label}: {result.summary}")
        print(json.dumps({"output": str(path), **record}) if self.run.as_json else path, flush=True)

    def _has_all(self, path: Path) -> bool:
        """Say whether what was asked for beside a finished result is there."""
        from latentface.results import read_record

        wanted: list[Path] = [_beside(path, "compare")] if self.run.compare else []
        record = read_record(path) or {}
        if self.save_faces and record.get("faces_upscaled"):
            wanted.append(_faces_folder(path) / "01.png")
        return all(p.exists() for p in wanted)

    def words(self) -> Sequence[str]:
        """Say what became of the faces."""
        faces = f"{self.upscaled} face{'s' if self.upscaled != 1 else ''} in photographs upscaled"
        parts = [faces] if self.upscaled or self.left else []
        if self.left:
            parts.append(f"{self.left} left as they are")
        if self.plain:
            parts.append(f"{self.plain} photograph{'s' if self.plain != 1 else ''} without a face enlarged plainly")
        return parts


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f"{path.stem}-{what}.png")


def _faces_folder(path: Path) -> Path:
    return path.with_name(f"{path.stem}-faces")
