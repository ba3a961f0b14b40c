"""`latentface degrade`: shrink pictures as the methods assume, to have inputs whose truth is known."""

import io
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from latentface.cli.console import Talk
from latentface.errors import InputError, LatentfaceError, OutputError, UnknownNameError
from latentface.io.inputs import list_inputs


def degrade(
    *inputs: str,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    factor: Annotated[float, Parameter(name=["--factor", "-f"])],
    size: int | None = None,
    kernel: str = "bicubic",
    blur: float = 0.0,
    noise: float = 0.0,
    jpeg: int | None = None,
    seed: int = 0,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative="")] = False,
) -> int:
    """Shrink square pictures.

    Parameters
    ----------
    inputs
        Files, folders, globs or zips.
    output
        The folder for the results.
    factor
        The side is divided by it.
    size
        Resize the picture to this side first: the prior's, for a truth of the result's size.
    kernel
        bicubic, bilinear, box or lanczos.
    blur
        Standard deviation of a Gaussian blur after the shrinking, in pixels of the small picture: soft faces.
    noise
        Standard deviation of Gaussian noise, from 0 to 1.
    jpeg
        Encode as JPEG of this quality (1 to 95) and decode again.
    seed
        Of the noise; each picture's noise depends on it and on nothing else.
    overwrite
        Replace files that are there.
    quiet
        Say nothing but errors.
    """
    if not inputs:
        raise InputError("name at least one picture, folder or zip")
    if not 1 <= factor <= 1024:
        raise InputError(f"the factor is {factor:g}; expected a number from 1 to 1024")
    if size is not None and not 2 <= size <= 8192:
        raise InputError(f"--size is {size}; expected a side from 2 to 8192 px")
    if jpeg is not None and not 1 <= jpeg <= 95:
        raise InputError(f"--jpeg is {jpeg}; expected a quality from 1 to 95")
    if not 0 <= blur <= 100:
        raise InputError(f"--blur is {blur:g}; expected a standard deviation from 0 to 100 px")
    if not 0 <= noise <= 1:
        raise InputError(f"--noise is {noise:g}; expected a standard deviation from 0 to 1")
    import torch
    from PIL import Image
    from scipy.ndimage import gaussian_filter

    from latentface.degradation import KERNELS, Downscale, resize
    from latentface.io.pictures import read_picture, to_pillow, write_picture
    from latentface.io.sources import read_entry

    if kernel not in KERNELS:
        raise UnknownNameError("kernel", kernel, KERNELS)
    talk = Talk(quiet)
    listing = list_inputs(inputs, leave_out=output)
    failed = 0
    for name, reason in listing.failures:
        talk.warn(f"{name}: {reason}")
        failed += 1
    with talk.progress("pictures", len(listing.inputs)) as bar:
        for item in listing.inputs:
            path = output / item.target.with_name(item.target.name + ".png")
            try:
                high = read_picture(read_entry(item.entry), item.entry.label)[None]
                if high.shape[2] != high.shape[3]:
                    raise InputError(f"it is {high.shape[3]} x {high.shape[2]} px; cut out a square first")
                if high.shape[2] < 2:
                    raise InputError("it is 1 x 1 px; at least 2 x 2 are needed")
                if path.exists() and not overwrite:
                    raise OutputError(f"{path}: a file is there; use --overwrite, or another -o")
                if size is not None:
                    high = resize(high, size).clamp(0, 1)
                side = high.shape[2]
                low = Downscale(max(2, round(side / factor)), side, kernel).forward(high)
                if blur:
                    low = torch.from_numpy(gaussian_filter(low.numpy(), (0, 0, blur, blur), mode="nearest"))
                if noise:
                    generator = torch.Generator().manual_seed(seed)
                    low = low + noise * torch.randn(low.shape, generator=generator)
                picture = to_pillow(low[0])
                if jpeg is not None:
                    buffer = io.BytesIO()
                    picture.save(buffer, format="JPEG", quality=jpeg)
                    picture = Image.open(buffer).convert("RGB")
                write_picture(path, picture)
                print(path, flush=True)
            except LatentfaceError as error:
                reason = str(error)
                talk.warn(
                    reason if reason.startswith((item.entry.label, str(path))) else f"{item.entry.label}: {reason}"
                )
                failed += 1
            bar.advance(bar.task_ids[0])
    if listing.left:
        talk.say(listing.left_words())
    talk.say(f"{len(listing.inputs) - failed + len(listing.failures)} done; results in {output}")
    return 1 if failed else 0
