"""What `latentface upscale` takes besides the settings of the search: where it computes, and what it writes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from latentface.errors import InputError

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
        judge: The prior whose discriminator the semantic loss asks, by name or file, or "none"; by default the prior's own
            or, where it has none, celeba128's.
        background: An ESRGAN file (.pth, .safetensors) that enlarges what surrounds a photograph's faces; by default it is
            bicubic.
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
        output: The folder for the results, or for a single input a file name ending in .png, .jpg, .jpeg, .webp, .tif or
            .tiff.
        picture_format: What results in a folder are written as.
        quality: From 1 to 100, of JPEG and WebP.
        overwrite: Replace results of other settings.
        compare: Write NAME-compare.png: input, bilinear, result; of a photograph, it before and after, and each face.
        save_steps: Write NAME-steps.png: the best face after 1, 2, 5, 10, 20, 50, 100 ... steps; a row a face.
        save_faces: Write a photograph's enlarged faces as NAME-faces/01.png ..., the largest first.
        strip_location: Leave out of the result where the photograph was taken.
        as_json: Print one JSON line a result instead of its path.
        quiet: Print the paths of results, and errors, alone.
    """

    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("upscaled")
    picture_format: Annotated[Literal["png", "jpg", "webp", "tiff"] | None, Parameter(name="--format")] = None
    quality: int = 92
    overwrite: Annotated[bool, Flag] = False
    compare: Annotated[bool, Flag] = False
    save_steps: Annotated[bool, Flag] = False
    save_faces: Annotated[bool, Flag] = False
    strip_location: Annotated[bool, Flag] = False
    as_json: Annotated[bool, Parameter(name="--json", negative="", show_default=False)] = False
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative="", show_default=False)] = False

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise InputError(f"--quality is {self.quality}; expected a whole number from 1 to 100")
        ending = self.output.suffix.lower()
        if ending in UNWRITTEN and not self.output.is_dir():
            raise InputError(
                f"{self.output}: results are written as {', '.join(ENDINGS)}; give the name one of these endings, or a folder"
            )
        if self.single and self.picture_format and ENDINGS[ending] != self.picture_format:
            raise InputError(f"{self.output} and --format {self.picture_format} say two things; leave one of them out")

    @property
    def single(self) -> bool:
        """Whether the output is one file."""
        return self.output.suffix.lower() in ENDINGS and not self.output.is_dir()

    @property
    def ending(self) -> str:
        """How the names of results end."""
        return self.output.suffix if self.single else f".{self.picture_format or 'png'}"

    @property
    def written(self) -> dict[str, Any]:
        """What the record says of the file."""
        kind = self.ending.lower()
        return {"format": kind[1:], **({"quality": self.quality} if ENDINGS[kind] in ("jpg", "webp") else {})}

    @property
    def beside(self) -> list[str]:
        """What is written beside a result because it was asked for; the record does not know of it."""
        return [name for name, asked in (("compare", self.compare), ("steps", self.save_steps)) if asked]
