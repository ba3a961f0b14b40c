"""`latentface upscale`: faces and photographs in, larger ones out."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from latentface.bench.core.progress import duration
from latentface.cli.console import Talk
from latentface.cli.photos import PhotoRun, is_photograph
from latentface.cli.sheets import StepSheets, comparison
from latentface.cli.times import precise_duration, seconds_a_face
from latentface.errors import InputError, LatentfaceError, OutputError, PictureError
from latentface.io.sources import Input, list_inputs

WINDOW = 64  # pictures decoded at a time: memory does not grow with their number
Flag = Parameter(negative="")


def upscale(
    *inputs: str,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("upscaled"),
    factor: Annotated[float | None, Parameter(name=["--factor", "-f"])] = None,
    method: Annotated[str, Parameter(name=["--method", "-m"])] = "rlse",
    prior: Annotated[str | None, Parameter(name=["--prior", "-p"])] = None,
    judge: str | None = None,
    preset: str = "default",
    steps: int | None = None,
    full_steps: int | None = None,
    seed: int = 0,
    samples: int | None = None,
    start: Literal["random", "bank", "encoder"] = "random",
    stop: float | None = None,
    answer: Literal["one", "mean"] = "one",
    no_projection: Annotated[bool, Flag] = False,
    kernel: str = "bicubic",
    noise: str | None = None,
    detail: str = "auto",
    aligned: Annotated[bool, Flag] = False,
    photo: Annotated[bool, Flag] = False,
    only_center_face: Annotated[bool, Flag] = False,
    min_face: float = 12.0,
    max_faces: int | None = None,
    save_faces: Annotated[bool, Flag] = False,
    background: Path | None = None,
    device: str = "auto",
    batch_size: str = "auto",
    offline: Annotated[bool, Flag] = False,
    overwrite: Annotated[bool, Flag] = False,
    compare: Annotated[bool, Flag] = False,
    save_steps: Annotated[bool, Flag] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative="")] = False,
) -> int:
    """Enlarge photographs and the faces in them, or aligned faces.

    A square picture smaller than the prior's faces, in which a face stands as in the prior's pictures (or one of at most
    32 px without any face that is found), is an aligned face, and becomes one large face. Everything else is a
    photograph: its faces are found, enlarged and pasted back.

    Parameters
    ----------
    inputs
        Files, folders (with subfolders), globs or zips.
    output
        The folder for the results, or a file name ending in .png for a single input.
    factor
        Enlargement of the side; by default 2 for photographs, and as large as the prior's faces for aligned ones.
    method
        See `latentface methods`.
    prior
        A name (see `latentface models list`) or a file; by default ffhq1024, fetched once, or where that cannot be
        celeba128, which is embedded. Methods without a search take celeba128.
    judge
        The prior whose discriminator the semantic loss asks, by name or file, or "none"; by default the prior's own or,
        where it has none, celeba128's.
    preset
        "default", "paper" (as published: all steps at full size), "equal", or another that the method has (RLSE: "fast").
    steps
        Iterations, instead of the preset's.
    full_steps
        How many of the iterations, the last ones, are made at the prior's full size; the others at an exit of the prior, where
        a step takes an eighth of the time. By default two fifths. With 100 all are, as in the poster.
    seed
        Of the random start, the same for every face.
    samples
        Write so many faces, NAME-1.png ..., and NAME-spread.png: what is known and what is invented.
    start
        "random" is the method's own, for RLSE the best of 16 draws; "bank" starts near the most similar of the prior's own
        faces (collected once, in seconds), "encoder" near the answer of the prior's encoder: from there 25 steps do nearly
        what 100 do from a random start.
    stop
        A face whose loss fell by less than this share in 10 steps, such as 0.02, makes room for the next.
    answer
        "mean" writes the mean of the samples (8 by default) as NAME.png: smoother, nearer to the truth.
    no_projection
        Leave the face as the search found it; it then shrinks only nearly to the input.
    kernel
        How the input was shrunk: bicubic, bilinear, box or lanczos.
    noise
        Standard deviation of the input's noise, from 0 to 1, or "auto", which estimates it for each face of a
        photograph; by default auto for photographs and 0 for aligned faces.
    detail
        "auto" shrinks a soft face to the side that holds its detail before it is enlarged, "full" takes every face at its
        word, and a number is that side in pixels.
    aligned
        Take every picture for an aligned face.
    photo
        Take every picture for a photograph.
    only_center_face
        Of a photograph, enlarge only the face nearest to its middle.
    min_face
        Of a photograph, leave out faces smaller than so many pixels.
    max_faces
        Of a photograph, enlarge only so many faces, the largest.
    save_faces
        Write a photograph's enlarged faces as NAME-faces/01.png ..., the largest first.
    background
        An ESRGAN file (.pth, .safetensors) that enlarges what surrounds a photograph's faces; by default it is bicubic.
    device
        auto, cpu, cuda, cuda:1, mps.
    batch_size
        Faces computed together: auto, or a number.
    offline
        Fetch nothing; the environment variable LATENTFACE_OFFLINE=1 says the same.
    overwrite
        Replace results of other settings.
    compare
        Write NAME-compare.png: input, bilinear, result; of a photograph, it before and after, and each face.
    save_steps
        Write NAME-steps.png: the best face after 1, 2, 5, 10, 20, 50, 100 ... steps; of a photograph, a row a face.
    as_json
        Print one JSON line a result instead of its path.
    quiet
        Print the paths of results, and errors, alone.
    """
    if not inputs:
        raise InputError("name at least one picture, folder or zip")
    if aligned and photo:
        raise InputError("--aligned and --photo say opposite things; give one of them, or neither")
    if aligned and background is not None:
        raise InputError("--background is for what surrounds the faces of photographs; with --aligned there is nothing")
    from latentface.devices import pick_device
    from latentface.photosettings import PhotoSettings
    from latentface.prior.registry import load_prior
    from latentface.restore.background import Background
    from latentface.restore.engine import Upscaler, prior_named
    from latentface.restore.photo import PhotoUpscaler
    from latentface.restore.settings import UpscaleSettings

    talk = Talk(quiet)
    listing = list_inputs(inputs, leave_out=output)
    single = output.suffix.lower() == ".png"
    if single and len(listing.inputs) > 1:
        raise InputError(f"{output} is one file, but {len(listing.inputs)} pictures were named; give a folder with -o")
    settings = UpscaleSettings(
        factor=factor,
        method=method,
        preset=preset,
        steps=steps,
        full_steps=full_steps,
        seed=seed,
        samples=samples if samples is not None else (8 if answer == "mean" else 1),
        start=start,
        stop=stop,
        answer=answer,
        projection=not no_projection,
        kernel=kernel,
        sigma=_noise(noise) or 0.0,
        detail=int(detail) if detail.isdecimal() else detail,
    )
    photo_settings = PhotoSettings(
        factor=2.0 if factor is None else factor,
        only_center_face=only_center_face,
        min_face=min_face,
        max_faces=max_faces,
        noise=_noise(noise),
    )
    batch = _batch(batch_size)
    settings.method_settings()  # a wrong name is told before anything is loaded
    chosen = pick_device(device)
    loaded = load_prior(prior_named(prior, method), chosen, judge, say=talk.say, offline=offline)
    upscaler = Upscaler(loaded, settings, batch=batch, say=talk.warn)
    run = Run(upscaler, talk, output, single, overwrite, compare, save_steps, as_json, all_photos=photo)
    if not aligned:
        around = Background.read(background, chosen) if background is not None else None
        photos = PhotoUpscaler(
            loaded, photo_settings=photo_settings, faces=upscaler, background=around, whole_faces=save_faces
        )
        run.photos = PhotoRun(run, photos, save_faces)
    for name, reason in listing.failures:
        run.fail(name, reason)
    if listing.inputs:
        run.start(len(listing.inputs))
        with talk.progress("faces", len(listing.inputs)) as bar:
            for first in range(0, len(listing.inputs), WINDOW):
                run.window(listing.inputs[first : first + WINDOW], bar)
            if run.photos is not None:
                run.photos.flush(bar)
    return run.finish()


def _noise(text: str | None) -> float | None:
    """Return a standard deviation, or None for "auto" and nothing said."""
    if text is None or text == "auto":
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise InputError(f"--noise is {text!r}; expected auto or a standard deviation from 0 to 1")
    return value


def _batch(text: str) -> int | None:
    if text == "auto":
        return None
    if text.isdigit() and int(text) > 0:
        return int(text)
    raise InputError(f"--batch-size is {text!r}; expected auto or a number from 1 up")


@dataclass(slots=True)
class Run:
    """One call of the command: what it works with, and what became of each input."""

    upscaler: Any
    talk: Talk
    output: Path
    single: bool
    overwrite: bool
    compare: bool
    save_steps: bool
    as_json: bool
    done: int = 0
    skipped: int = 0
    failed: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    worst: float = float("inf")
    soft: list[int] = field(default_factory=list)  # px of detail of the faces that were soft
    photos: PhotoRun | None = None
    all_photos: bool = False
    count: int = 0
    told_time: bool = False

    def start(self, count: int) -> None:
        """Say what will be done, where and with what."""
        from latentface.prior.registry import PRIORS

        up = self.upscaler
        if up.prior.name in PRIORS:
            self.talk.say(PRIORS[up.prior.name].notice)
        self.count = count
        self.talk.say(
            f"{count} picture{'s' if count != 1 else ''}, method {up.settings.method}, prior {up.prior.name} ({up.prior.resolution} px), "
            f"on {up.prior.device}; results in {self.output}"
        )
        if self.photos is not None:
            self.photos.start()

    def path(self, item: Input) -> Path:
        """Where an input's result goes."""
        return self.output if self.single else self.output / item.target.with_name(item.target.name + ".png")

    @property
    def asked_beside(self) -> list[str]:
        """What is written beside a result because it was asked for; the record does not know of it."""
        return [name for name, asked in (("compare", self.compare), ("steps", self.save_steps)) if asked]

    def window(self, items: list[Input], bar: Any) -> None:
        """Decode some inputs, leave out what is done, and enlarge the rest in batches of one size."""
        import torch

        from latentface.io.atomic import sha256
        from latentface.io.photo import register_heic
        from latentface.io.pictures import read_picture
        from latentface.io.records import beside, check_beside, is_done
        from latentface.io.sources import read_entry

        groups: dict[tuple[int, int], list[tuple[Input, Any, dict[str, Any]]]] = {}
        for item in items:
            try:
                data = read_entry(item.entry)
                if self.photos is not None and (
                    self.all_photos or is_photograph(data, item.entry.label, self.upscaler.prior)
                ):
                    self.photos.add(item, data, bar)
                    continue
                register_heic(data, item.entry.label)
                low = read_picture(data, item.entry.label)
                side, target = self.upscaler.plan(*low.shape[1:])
                request = {
                    "input": item.entry.label,
                    "input_sha256": sha256(data),
                    **self.upscaler.request(side, target),
                }
                path = self.path(item)
                if not self.overwrite:
                    if is_done(path, request) and all(beside(path, name).exists() for name in self.asked_beside):
                        self.skipped += 1
                        bar.advance(bar.task_ids[0])
                        continue
                    check_beside(path, self.upscaler.settings.samples, self.asked_beside)
                detail = self.upscaler.aligned_searched_side(low)
                groups.setdefault((side, detail), []).append((item, low, request))
            except (PictureError, InputError, OutputError) as error:
                self.fail(item.entry.label, str(error))
                bar.advance(bar.task_ids[0])
        self._tell_time(sum(map(len, groups.values())) / len(items), max((side for _, side in groups), default=0))
        samples = self.upscaler.settings.samples
        for members in groups.values():
            chunk = max(1, self.upscaler.at_once(len(members) * samples) // samples)
            for start in range(0, len(members), chunk):
                part = members[start : start + chunk]
                self._batch(part, torch.stack([low for _, low, _ in part]), bar)

    def _tell_time(self, share: float, low: int) -> None:
        """Say how long it will take when the first window holds work: what is done or broken costs no trial.

        The first pictures tell what the others will be like: `share` of them are aligned faces to upscale, of up to `low` px.
        """
        if not share or self.told_time or self.talk.quiet:
            return
        self.told_time = True
        a_face = seconds_a_face(self.upscaler, low) * self.upscaler.settings.samples
        faces = round(self.count * share)
        self.talk.say(
            f"aligned faces: about {precise_duration(a_face)} each, about {duration(a_face * faces)} for {faces}"
        )

    def _batch(self, part: list[tuple[Input, Any, dict[str, Any]]], low: Any, bar: Any) -> None:
        from latentface.io.atomic import check_folder
        from latentface.io.records import save_result

        check_folder(self.path(part[0][0]).parent)
        steps = StepSheets(self.upscaler.settings.samples) if self.save_steps else None

        def on_step(rows: Sequence[int], step: Any) -> None:
            bar.advance(bar.task_ids[0], len(rows) * step.part / self.upscaler.settings.samples)
            if steps is not None:
                steps.tell(rows, step)

        before = bar.tasks[0].completed if bar.tasks else 0
        try:
            results = self.upscaler.upscale(low, on_step)
        except LatentfaceError as error:
            for item, _, _ in part:
                self.fail(item.entry.label, str(error))
            return
        for i, ((item, _, request), result) in enumerate(zip(part, results, strict=True)):
            path = self.path(item)
            record = {"input": request["input"], "input_sha256": request["input_sha256"], **result.record}
            try:
                more = {"compare": comparison(result)} if self.compare else {}
                if steps is not None:
                    more["steps"] = steps.strip(i)
                save_result(path, result, record, more)
            except OutputError as error:
                self.fail(item.entry.label, str(error))
                continue
            self.done += 1
            self.worst = min(self.worst, result.consistency_db)
            if result.seen.shape != result.low.shape:
                self.soft.append(result.seen.shape[-1])
            print(json.dumps({"output": str(path), **record}) if self.as_json else path, flush=True)
        bar.update(bar.task_ids[0], completed=before + len(part))

    def fail(self, name: str, reason: str) -> None:
        """Note and tell that one input could not be done."""
        self.failed.append(name)
        self.talk.warn(reason if reason.startswith(name) else f"{name}: {reason}")

    def finish(self) -> int:
        """Say what was done and return the exit code."""
        parts = [f"{self.done} done in {duration(time.monotonic() - self.began)}"] if self.done else []
        if self.skipped:
            parts.append(f"{self.skipped} already there")
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        if self.photos is not None:
            parts += self.photos.words()
        if self.worst < float("inf"):
            target = "its input, or a soft one's detail," if self.soft else "its input"
            parts.append(f"each shrinks back to {target} to within {self.worst:.1f} dB or better")
        if self.soft:
            parts.append(
                f"{len(self.soft)} {'were' if len(self.soft) > 1 else 'was'} soft and taken as of {_sizes(self.soft)} (--detail full takes faces as they are)"
            )
        self.talk.say("; ".join(parts) or "nothing to do")
        return 1 if self.failed else 0


def _sizes(sides: Sequence[int]) -> str:
    low, high = min(sides), max(sides)
    return f"{low} px" if low == high else f"{low} to {high} px"
