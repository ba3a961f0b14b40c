"""`latentface bench samples`, `latentface bench few-sample` and `latentface bench semantic`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from latentface.cli.bench import HighSize, NoFetch, Output, Preset, PriorName, Quiet, command_line, names, numbers, told
from latentface.errors import InputError


def samples(
    *,
    output: Output,
    high: str,
    prior: PriorName = None,
    high_size: HighSize = None,
    factors: str = "8,16",
    method: str = "rlse",
    samples: int = 8,
    preset: Preset = "equal",
    metrics: str | None = None,
    limit: int | None = 64,
    seed: int = 0,
    device: str = "auto",
    batch_size: int | None = None,
    no_fetch: NoFetch = False,
    quiet: Quiet = False,
) -> int:
    """Measure several answers a face: is the error large where they differ, and how good is their mean?

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
    method
        The search.
    samples
        Answers a face, from 3 up.
    preset
        "equal" or "paper".
    metrics
        Names separated by commas.
    limit
        Take the first faces only.
    seed
        Of every face's first sample.
    device
        auto, cpu, cuda.
    batch_size
        Samples computed together.
    no_fetch
        Fetch nothing: neither a prior nor weights of metrics.
    quiet
        Say nothing but errors.
    """
    from latentface.bench.tables.calibration import run_samples

    with told(quiet) as tell:
        path = run_samples(
            output=output,
            high=high,
            prior=prior,
            high_size=high_size,
            factors=numbers("--factors", factors),
            method=method,
            samples=samples,
            preset=preset,
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


def few_sample(
    *,
    output: Output,
    high: str,
    train: Annotated[tuple[str, ...], Parameter(consume_multiple=True)],
    prior: PriorName = None,
    high_size: HighSize = None,
    factor: Annotated[int, Parameter(name=["--factor", "-f"])] = 8,
    baselines: str | None = None,
    methods: str = "rlse",
    pairs: str = "100,1000,10000,all",
    minutes: float | None = None,
    steps: int | None = None,
    preset: Preset = "equal",
    metrics: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    device: str = "auto",
    batch_size: int | None = None,
    no_fetch: NoFetch = False,
    quiet: Quiet = False,
) -> int:
    """Train the supervised baselines on few pairs and many, and compare them with a search, which needs none.

    Parameters
    ----------
    output
        The folder for the tables and the trained baselines.
    high
        Faces with truth, none of them in `train`.
    train
        Faces that the baselines are trained on.
    prior
        A name or a file; by default celeba128.
    high_size
        Side in pixels of the faces that are compared; by default the prior's, 512 at most. Larger ones are shrunk by area.
    factor
        A whole one.
    baselines
        vdsr, esrgan, fsrnet, separated by commas; by default all.
    methods
        Searches, separated by commas; differences are to the first.
    pairs
        Numbers of training pairs, separated by commas; "all" for all.
    minutes
        Of each training.
    steps
        Of each training.
    preset
        "equal" or "paper".
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
    from latentface.bench.tables.few_sample import run_few_sample
    from latentface.train.supervised import train_supervised

    with told(quiet) as tell:
        path = run_few_sample(
            output=output,
            high=high,
            train=train,
            trainer=train_supervised,
            prior=prior,
            high_size=high_size,
            factor=factor,
            kinds=names(baselines),
            searches=names(methods) or (),
            pairs=counts(pairs),
            minutes=minutes,
            steps=steps,
            preset=preset,
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


def counts(text: str) -> list[int | None]:
    """Read numbers of pairs; "all" is None. Raises InputError."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part == "all" or (part.isdecimal() and int(part) > 0) for part in parts):
        raise InputError(f"--pairs is {text!r}; expected whole numbers and all, such as 100,1000,all")
    return [None if part == "all" else int(part) for part in parts]


def semantic(
    *,
    output: Output,
    high: str,
    prior: PriorName = None,
    high_size: HighSize = None,
    factors: str = "16,32",
    seeds: str = "0,1,2",
    preset: Preset = "equal",
    metrics: str | None = None,
    limit: int | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    no_fetch: NoFetch = False,
    quiet: Quiet = False,
) -> int:
    """Test the discriminator semantic loss once, pooled over seeds and factors.

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
    seeds
        Separated by commas.
    preset
        "equal" or "paper".
    metrics
        Names separated by commas.
    limit
        Take the first faces only.
    device
        auto, cpu, cuda.
    batch_size
        Faces computed together.
    no_fetch
        Fetch nothing: neither a prior nor weights of metrics.
    quiet
        Say nothing but errors.
    """
    from latentface.bench.tables.pooled import run_pooled

    with told(quiet) as tell:
        path = run_pooled(
            output=output,
            high=high,
            prior=prior,
            high_size=high_size,
            factors=numbers("--factors", factors),
            seeds=[int(n) for n in numbers("--seeds", seeds)],
            preset=preset,
            metrics=names(metrics),
            limit=limit,
            device=device,
            batch=batch_size,
            fetch=not no_fetch,
            command=command_line(),
            on_progress=tell,
        )
    print(path)
    return 0
