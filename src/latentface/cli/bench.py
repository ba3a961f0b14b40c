"""`latentface bench`: the poster's tables and ours, and the page that shows them.

Options are the settings of `latentface.bench`, which loads PyTorch only when a command runs.
"""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar

from cyclopts import App, Parameter

from latentface.bench.core.progress import OnProgress, Progress
from latentface.bench.core.settings import DeviceSettings, Output, RunSettings
from latentface.bench.prior.settings import PriorSettings
from latentface.bench.tables.settings import (
    AblationSettings,
    FewSampleSettings,
    SamplesSettings,
    SemanticSettings,
    Table1Settings,
    Table2Settings,
    TimeSettings,
)
from latentface.cli.console import Talk
from latentface.words import duration

T = TypeVar("T")
R = TypeVar("R", bound=DeviceSettings)
app = App(name="bench", help="Make the poster's tables and ours. A run that was cut off goes on where it stopped.")
FLAT = Parameter(name="*")
NOT_ASKED = Table1Settings()
Run = Annotated[RunSettings, FLAT]
Quiet = Annotated[bool, Parameter(name=["--quiet", "-q"], negative="", help="Say nothing but errors.")]


@app.command
def table1(*, table: Annotated[Table1Settings, FLAT] = NOT_ASKED, run: Run, quiet: Quiet = False) -> int:
    """Compare all methods: PSNR, SSIM, perceptual distances, NIQE, identity."""
    from latentface.bench.tables.table1 import run_table1

    return made(run_table1, table, run, quiet)


@app.command
def table2(*, table: Annotated[Table2Settings, FLAT], run: Run, quiet: Quiet = False) -> int:
    """Measure what the discriminator semantic loss gives, with against without."""
    from latentface.bench.tables.table2 import run_table2

    return made(run_table2, table, run, quiet)


@app.command(name="time")
def timing(*, table: Annotated[TimeSettings, FLAT], run: Annotated[DeviceSettings, FLAT], quiet: Quiet = False) -> int:
    """Measure seconds a face on this machine: one face alone, and the batch that suits each method best."""
    from latentface.bench.tables.timing import run_time

    return made(run_time, table, run, quiet)


@app.command
def ablation(*, table: Annotated[AblationSettings, FLAT], run: Run, quiet: Quiet = False) -> int:
    """Move one setting of RLSE at a time, on validation faces: paired differences to the defaults, and controls."""
    from latentface.bench.tables.ablation import run_ablation

    return made(run_ablation, table, run, quiet)


@app.command
def samples(*, table: Annotated[SamplesSettings, FLAT], run: Run, quiet: Quiet = False) -> int:
    """Measure several answers a face: is the error large where they differ, and how good is their mean?"""
    from latentface.bench.tables.calibration import run_samples

    return made(run_samples, table, run, quiet)


@app.command
def few_sample(*, table: Annotated[FewSampleSettings, FLAT], run: Run, quiet: Quiet = False) -> int:
    """Train the supervised baselines on few pairs and many, and compare them with a search, which needs none."""
    from latentface.bench.tables.few_sample import run_few_sample
    from latentface.train.supervised import train_supervised

    return made(partial(run_few_sample, trainer=train_supervised), table, run, quiet)


@app.command
def semantic(*, table: Annotated[SemanticSettings, FLAT], run: Run, quiet: Quiet = False) -> int:
    """Test the discriminator semantic loss once, pooled over seeds and factors."""
    from latentface.bench.tables.pooled import run_pooled

    return made(run_pooled, table, run, quiet)


@app.command
def prior(*, table: Annotated[PriorSettings, FLAT], run: Run, quiet: Quiet = False) -> int:
    """Measure a prior: distances to faces, coverage, diversity, faces found, invertibility, by group too, and a sheet."""
    from latentface.bench.prior.run import run_prior

    return made(run_prior, table, run, quiet)


@app.command
def report(
    *,
    output: Annotated[Output, Parameter(help="A folder that other `bench` commands wrote.")],
    faces: int = 8,
    markdown: Path | None = None,
    quiet: Quiet = False,
) -> int:
    """Write report.html out of the tables in a folder: one page without outside assets.

    Parameters
    ----------
    faces
        Rows of the picture wall.
    markdown
        Also collect the tables, without pictures, into this Markdown file.
    """
    from latentface.bench.report.report import run_report
    from latentface.bench.tables.tables import collect_markdown

    with told(quiet) as tell:
        path = run_report(output, faces=faces, on_progress=tell)
    print(path)
    if markdown is not None:
        print(collect_markdown(output, markdown))
    return 0


def made(run_table: Callable[[T, R], Path], table: T, run: R, quiet: bool) -> int:
    """Make a table, tell how far it is, and print where it lies."""
    with told(quiet) as tell:
        path = run_table(table, replace(run, command=command_line(), on_progress=tell))
    print(path)
    return 0


@contextmanager
def told(quiet: bool) -> Iterator[OnProgress]:
    """Give a callback that shows progress: a bar on a terminal, and each new message as a line."""
    talk = Talk(quiet)
    last = ""
    with talk.progress("bench", 1.0, counted=False) as bar:

        def tell(progress: Progress) -> None:
            nonlocal last
            left = f", {duration(progress.seconds_left)} left" if progress.seconds_left is not None else ""
            if progress.total:
                bar.update(bar.task_ids[0], completed=progress.done / progress.total)
            if progress.message != last:
                last = progress.message
                talk.say(last + (f" ({progress.done} of {progress.total}{left})" if progress.total else left))

        yield tell


def command_line() -> str:
    """Return the command as it was typed, for the tables; folders of the machine are left to their last part."""
    words = [Path(word).name if word.startswith(("/", "~", "..")) else word for word in sys.argv[1:]]
    return shlex.join(["latentface", *words])
