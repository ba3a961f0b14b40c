"""`latentface bench`: the poster's tables and ours, and the page that shows them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from latentface.bench.core.progress import OnProgress, Progress, duration
from latentface.cli.console import Talk
from latentface.errors import InputError

app = App(name="bench", help="Make the poster's tables and ours. A run that was cut off goes on where it stopped.")
app.command("latentface.cli.bench_prior:prior")
app.command("latentface.cli.bench_prior:ablation")
app.command("latentface.cli.bench_samples:samples")
app.command("latentface.cli.bench_samples:few_sample")
app.command("latentface.cli.bench_samples:semantic")

Output = Annotated[Path, Parameter(name=["--output", "-o"])]
HighSize = Annotated[int | None, Parameter(name="--high-size")]
PriorName = Annotated[str | None, Parameter(name=["--prior", "-p"])]
NoFetch = Annotated[bool, Parameter(name=["--no-fetch", "--offline"], negative="")]
Quiet = Annotated[bool, Parameter(name=["--quiet", "-q"], negative="")]
Preset = Literal["equal", "paper"]
Projection = Literal["off", "on", "both"]


@app.command
def table1(
    *,
    output: Output,
    high: str | None = None,
    native: str | None = None,
    prior: PriorName = None,
    high_size: HighSize = None,
    factors: str = "8,16",
    methods: str | None = None,
    preset: Preset = "equal",
    projection: Projection = "off",
    metrics: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    gallery: str | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    no_fetch: NoFetch = False,
    quiet: Quiet = False,
) -> int:
    """Compare all methods: PSNR, SSIM, perceptual distances, NIQE, identity.

    Parameters
    ----------
    output
        The folder for the tables, figures and pictures.
    high
        Faces with truth: a folder, a zip, or a data set such as celeba:PATH#test.
    native
        Faces that were small when the photograph was taken.
    prior
        A name or a file; by default celeba128.
    high_size
        Side in pixels of the faces that are compared; by default the prior's, 512 at most. Larger ones are shrunk by area.
    factors
        Separated by commas.
    methods
        Names separated by commas; by default every method that is registered.
    preset
        "equal" (as many generator passes as RLSE's 100 steps and 16 draws) or "paper" (published settings).
    projection
        Whether methods end in faces that shrink exactly to the input.
    metrics
        Names separated by commas; see `latentface metrics`.
    limit
        Take the first faces only.
    seed
        Of every face.
    gallery
        Other photographs of the same people, for verification.
    device
        auto, cpu, cuda.
    batch_size
        Faces computed together.
    no_fetch
        Fetch nothing: neither a prior nor weights of metrics.
    quiet
        Say nothing but errors.
    """
    from latentface.bench.tables.table1 import run_table1

    with told(quiet) as tell:
        path = run_table1(
            output=output,
            high=high,
            native=native,
            prior=prior,
            high_size=high_size,
            factors=numbers("--factors", factors),
            methods=names(methods),
            preset=preset,
            projection=projection,
            metrics=names(metrics),
            limit=limit,
            seed=seed,
            gallery=gallery,
            device=device,
            batch=batch_size,
            fetch=not no_fetch,
            command=command_line(),
            on_progress=tell,
        )
    print(path)
    return 0


@app.command
def table2(
    *,
    output: Output,
    high: str,
    prior: PriorName = None,
    high_size: HighSize = None,
    factors: str = "16,32,64",
    lows: str = "16,8",
    preset: Preset = "equal",
    projection: Projection = "off",
    metrics: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    device: str = "auto",
    batch_size: int | None = None,
    no_fetch: NoFetch = False,
    quiet: Quiet = False,
) -> int:
    """Measure what the discriminator semantic loss gives, with against without.

    Parameters
    ----------
    output
        The folder for the tables.
    high
        Faces with truth.
    prior
        A name or a file; by default celeba128.
    high_size
        Side in pixels of the faces that are compared; by default the prior's, 512 at most. Larger ones are shrunk by area.
    factors
        Separated by commas.
    lows
        Low sizes in pixels to add, separated by commas.
    preset
        "equal" or "paper".
    projection
        Whether results end in faces that shrink exactly to the input.
    metrics
        Names separated by commas.
    limit
        Take the first faces only.
    seed
        Of every face.
    device
        auto, cpu, cuda.
    batch_size
        Faces computed together.
    no_fetch
        Fetch nothing: neither a prior nor weights of metrics.
    quiet
        Say nothing but errors.
    """
    from latentface.bench.tables.table2 import run_table2

    with told(quiet) as tell:
        path = run_table2(
            output=output,
            high=high,
            prior=prior,
            high_size=high_size,
            factors=numbers("--factors", factors),
            lows=[int(n) for n in numbers("--lows", lows)] if lows else [],
            preset=preset,
            projection=projection,
            metrics=names(metrics),
            limit=limit,
            seed=seed,
            device=device,
            batch=batch_size,
            fetch=not no_fetch,
            command=command_line(),
            on_progress=tell,
        )
    print(path)
    return 0


@app.command(name="time")
def timing(
    *,
    output: Output,
    high: str,
    prior: PriorName = None,
    high_size: HighSize = None,
    factors: str = "8",
    methods: str | None = None,
    preset: Preset = "equal",
    repeats: int = 3,
    seed: int = 0,
    device: str = "auto",
    quiet: Quiet = False,
) -> int:
    """Measure seconds a face on this machine: one face alone, and the batch that suits each method best.

    Parameters
    ----------
    output
        The folder for the table.
    high
        Faces with truth.
    prior
        A name or a file; by default celeba128.
    high_size
        Side in pixels of the faces that are compared; by default the prior's, 512 at most. Larger ones are shrunk by area.
    factors
        Separated by commas.
    methods
        Names separated by commas.
    preset
        "equal" or "paper".
    repeats
        Times that each measurement is made.
    seed
        Of every face.
    device
        auto, cpu, cuda.
    quiet
        Say nothing but errors.
    """
    from latentface.bench.tables.timing import run_time

    with told(quiet) as tell:
        path = run_time(
            output=output,
            high=high,
            prior=prior,
            high_size=high_size,
            factors=numbers("--factors", factors),
            methods=names(methods),
            preset=preset,
            repeats=repeats,
            seed=seed,
            device=device,
            command=command_line(),
            on_progress=tell,
        )
    print(path)
    return 0


@app.command
def report(*, output: Output, faces: int = 8, markdown: Path | None = None, quiet: Quiet = False) -> int:
    """Write report.html out of the tables in a folder: one page without outside assets.

    Parameters
    ----------
    output
        A folder that other `bench` commands wrote.
    faces
        Rows of the picture wall.
    markdown
        Also collect the tables, without pictures, into this Markdown file.
    quiet
        Say nothing but errors.
    """
    from latentface.bench.report.report import run_report

    with told(quiet) as tell:
        path = run_report(output, faces=faces, on_progress=tell)
    print(path)
    if markdown is not None:
        from latentface.bench.tables.tables import collect_markdown

        print(collect_markdown(output, markdown))
    return 0


@contextmanager
def told(quiet: bool) -> Iterator[OnProgress]:
    """Give a callback that shows progress: a bar on a terminal, and each new message as a line."""
    talk = Talk(quiet)
    with talk.progress("bench", 1.0, counted=False) as bar:
        yield _teller(talk, bar)


def _teller(talk: Talk, bar: object) -> Callable[[Progress], None]:
    last = ""

    def tell(progress: Progress) -> None:
        nonlocal last
        left = f", {duration(progress.seconds_left)} left" if progress.seconds_left is not None else ""
        if progress.total and hasattr(bar, "update"):
            bar.update(0, completed=progress.done / progress.total)
        if progress.message != last:
            last = progress.message
            count = f" ({progress.done} of {progress.total}{left})" if progress.total else left
            talk.say(progress.message + count)

    return tell


def names(text: str | None) -> list[str] | None:
    """Split names at commas; None stays None."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def numbers(option: str, text: str) -> list[float]:
    """Split numbers at commas. Raises InputError."""
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise InputError(f"{option} is {text!r}; expected numbers separated by commas, such as 8,16") from None


def command_line() -> str:
    """Return the command as it was typed, for the tables; folders of the machine are left to their last part."""
    words = [Path(word).name if word.startswith(("/", "~", "..")) else word for word in sys.argv[1:]]
    return shlex.join(["latentface", *words])
