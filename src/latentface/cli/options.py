"""What `latentface upscale` takes besides the settings of the search: where it computes, and what it writes."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from cyclopts import Group, Parameter

from latentface.errors import InputError
from latentface.io import PIPE

ENDINGS = {".png": "png", ".jpg": "jpg", ".jpeg": "jpg", ".webp": "webp", ".tif": "tiff", ".tiff": "tiff"}
UNWRITTEN = frozenset(  # endings of pictures that are not written
    {
        *(".gif", ".bmp", ".avif", ".heic", ".heif", ".jp2", ".j2k", ".jxl", ".jfif", ".jpe", ".jps", ".ppm", ".pgm"),
        *(".pbm", ".pnm", ".apng", ".psd", ".pdf", ".svg", ".tga", ".ico", ".exr", ".hdr", ".dng", ".eps", ".jfi"),
    }
)
Flag = Parameter(negative="", show_default=False)


@Parameter(name="*", group=Group("Prior and machine", sort_key=3))
@dataclass(frozen=True, kw_only=True, slots=True)
class MachineSettings:
    """What the faces come from, and where they are computed.

    Attributes:
        prior: A name (see `latentface models list`) or a file; by default ffhq1024, fetched once, or where that cannot be
            celeba128, which is embedded. Methods without a search take celeba128.
        judge: The prior whose discriminator the semantic loss asks, by name or file, a judge's file, or "none"; by default
            the prior's own or, where it has none, celeba128's.
        background: "realesrgan" (fetched once, 45.7 MB) or an ESRGAN file (.pth, .safetensors, .param) that enlarges what
            surrounds a photograph's faces; by default it is bicubic.
        aligned: Take every picture for an aligned face.
        photo: Take every picture for a photograph.
        device: auto, cpu, cuda, cuda:1, mps.
        batch_size: Faces computed together: auto, with which a face is the same alone and in a folder, or a number.
        offline: Fetch nothing; the environment variable LATENTFACE_OFFLINE=1 says the same.
    """

    prior: Annotated[str | None, Parameter(name=["--prior", "-p"])] = None
    judge: str | None = None
    background: Path | None = None
    aligned: Annotated[bool, Flag] = False
    photo: Annotated[bool, Flag] = False
    device: str = "auto"
    batch_size: str = "auto"
    offline: Annotated[bool, Flag] = False

    def __post_init__(self) -> None:
        if self.aligned and self.photo:
            raise InputError("--aligned and --photo say opposite things; give one of them, or neither")
        if self.aligned and self.background is not None:
            raise InputError(
                "--background is for what surrounds the faces of photographs; with --aligned there is nothing"
            )
        if self.batch_size != "auto" and not (self.batch_size.isdigit() and int(self.batch_size) > 0):
            raise InputError(f"--batch-size is {self.batch_size!r}; expected auto or a number from 1 up")

    @property
    def batch(self) -> int | None:
        """Faces computed together, None for auto."""
        return None if self.batch_size == "auto" else int(self.batch_size)


@Parameter(name="*", group=Group("Output", sort_key=4))
@dataclass(frozen=True, kw_only=True, slots=True)
class OutputSettings:
    """What is written, and where.

    Attributes:
        output: The folder for the results, for a single input a file name ending in .png, .jpg, .jpeg, .webp, .tif or .tiff,
            or - for standard output; by default "upscaled", and standard output for a picture from standard input.
        picture_format: What results in a folder or on standard output are written as; by default png.
        quality: From 1 to 100, of JPEG and WebP.
        all_frames: Enlarge every frame of an animation and every page of a TIFF, as NAME-001.png ...; else the first one.
        overwrite: Replace results of other settings.
        compare: Write NAME-compare.png: input, bilinear, result; of a photograph, it before and after, and each face.
        save_steps: Write NAME-steps.png: the best face after 1, 2, 5, 10, 20, 50, 100 ... steps; a row a face.
        save_faces: Write a photograph's enlarged faces as NAME-faces/01.png ..., the largest first.
        strip_location: Leave out of the result where the photograph was taken.
        manifest: With --ray: a file of the inputs, a JSON line each, made of INPUT where it is not there. Beside it,
            NAME.done.jsonl says what is done, and the same command goes on from there without looking at results or inputs.
        as_json: Print one JSON line a result instead of its path.
        quiet: Print the paths of results, and errors, alone.
    """

    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None
    picture_format: Annotated[Literal["png", "jpg", "webp", "tiff"] | None, Parameter(name="--format")] = None
    quality: int = 92
    all_frames: Annotated[bool, Flag] = False
    overwrite: Annotated[bool, Flag] = False
    compare: Annotated[bool, Flag] = False
    save_steps: Annotated[bool, Flag] = False
    save_faces: Annotated[bool, Flag] = False
    strip_location: Annotated[bool, Flag] = False
    manifest: Path | None = None
    as_json: Annotated[bool, Parameter(name="--json", negative="", show_default=False)] = False
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative="", show_default=False)] = False

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise InputError(f"--quality is {self.quality}; expected a whole number from 1 to 100")
        ending = self.place.suffix.lower()
        if ending in UNWRITTEN and not self.place.is_dir():
            raise InputError(
                f"{self.place}: results are written as {', '.join(ENDINGS)}; give the name one of these endings, or a folder"
            )
        if self.single and self.picture_format and ENDINGS.get(ending, self.picture_format) != self.picture_format:
            raise InputError(f"{self.place} and --format {self.picture_format} say two things; leave one of them out")
        if self.manifest is not None and (self.all_frames or self.single):
            raise InputError(
                "--manifest notes one result a picture, in a folder; leave --all-frames out, and name a folder with -o"
            )

    @property
    def place(self) -> Path:
        """Where the results go."""
        return Path("upscaled") if self.output is None else self.output

    @property
    def piped(self) -> bool:
        """Whether the result goes to standard output."""
        return self.output == Path(PIPE)

    @property
    def single(self) -> bool:
        """Whether the output is one file."""
        return self.piped or (self.place.suffix.lower() in ENDINGS and not self.place.is_dir())

    @property
    def ending(self) -> str:
        """How the names of results end."""
        return self.place.suffix if self.single and not self.piped else f".{self.picture_format or 'png'}"

    @property
    def written(self) -> dict[str, Any]:
        """What the record says of the file."""
        kind = self.ending.lower()
        return {"format": kind[1:], **({"quality": self.quality} if ENDINGS[kind] in ("jpg", "webp") else {})}

    @property
    def folder(self) -> Path | None:
        """The results' folder, None where there is none."""
        return None if self.piped else self.place

    def for_inputs(self, inputs: Sequence[str]) -> Self:
        """Return them for these inputs: what comes from standard input alone goes to standard output, unless told."""
        return replace(self, output=Path(PIPE)) if self.output is None and list(inputs) == [PIPE] else self

    def check(self, samples: int, answer: str) -> None:
        """Check where the results go before anything is loaded. Raises InputError."""
        if self.piped:
            several = self.compare or self.save_steps or self.save_faces or self.all_frames or self.as_json
            if several or (samples > 1 and answer == "one"):
                raise InputError("standard output takes one picture and nothing beside it; name a folder with -o")
            if sys.stdout.isatty():
                raise InputError("standard output is a terminal; send it to a file or a pipe, or name a folder with -o")
            return
        folder = self.place.parent if self.single else self.place
        for place in (folder, *folder.parents):
            if os.path.lexists(place):
                if not os.path.isdir(place):
                    raise InputError(
                        f"{place}: a file stands where the results' folder should be; choose another with -o"
                    )
                return

    @property
    def beside(self) -> list[str]:
        """What is written beside a result because it was asked for; the record does not know of it."""
        return [name for name, asked in (("compare", self.compare), ("steps", self.save_steps)) if asked]
