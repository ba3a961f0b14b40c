"""`latentface bench prior` and `latentface bench ablation`: what a prior is worth, and what the defaults rest on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from latentface.cli.bench import HighSize, NoFetch, Output, Preset, PriorName, Quiet, command_line, names, numbers, told

Factors = Annotated[str, Parameter(name=["--factors", "--factor", "-f"])]


def prior(
    *,
    output: Output,
    high: str,
    prior: PriorName = None,
    high_size: HighSize = None,
    train: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    samples: int | None = None,
    inversions: int | None = None,
    steps: int | None = None,
    detections: int | None = None,
    truncations: str = "0.5,0.7,1",
    perceptual: float = 0.0,
    factor: float = 8.0,
    attributes: Path | None = None,
    into_card: Annotated[bool, Parameter(negative="")] = False,
    limit: int | None = None,
    train_limit: int | None = None,
    seed: int = 0,
    device: str = "auto",
    batch_size: int | None = None,
    no_fetch: NoFetch = False,
    quiet: Quiet = False,
) -> int:
    """Measure a prior: distances to faces, coverage, diversity, faces found, invertibility, by group too, and a sheet.

    Parameters
    ----------
    output
        The folder for prior.csv, groups.csv, prior.md and prior.png.
    high
        Faces that the prior has not seen.
    prior
        A name or a file; by default celeba128.
    high_size
        Side in pixels of the faces that are compared; by default the smaller of the prior's and the data's.
    train
        The faces that it was trained on, for the ratio and the nearest neighbours.
    samples
        Of each truncation; by default 5000, and 1000 of a prior of more than 256 px.
    inversions
        Faces that are searched for in z, w and w_plus; by default 100, and 16 with a prior of more than 256 px.
    steps
        Of each inversion; by default 500, and 100 with a prior of more than 256 px.
    detections
        Faces of each set that are looked for with CenterFace; by default 500, and 200 of a prior of more than 256 px.
    truncations
        Separated by commas.
    perceptual
        Weight of D's features in the inversions, beside the mean square times 100.
    factor
        Of RLSE on the faces that are inverted, for the figures by group; 0 for none.
    attributes
        CelebA's list_attr_celeba.txt, for the groups by sex, age, glasses and hats; found by itself beside the faces.
    into_card
        Write the main figures into the card of the prior's file.
    limit
        Take so many faces of `high` at most.
    train_limit
        Take so many faces of `train` at most.
    seed
        Of the samples and of every choice.
    device
        auto, cpu, cuda.
    batch_size
        Faces computed together.
    no_fetch
        Fetch nothing: neither a prior nor weights of metrics.
    quiet
        Say nothing but errors.
    """
    from latentface.bench.prior.run import run_prior

    with told(quiet) as tell:
        path = run_prior(
            output=output,
            high=high,
            prior=prior,
            high_size=high_size,
            train=train,
            samples=samples,
            inversions_of=inversions,
            steps=steps,
            detections=detections,
            truncations=numbers("--truncations", truncations),
            perceptual=perceptual,
            factor=factor,
            attributes=attributes,
            into_card=into_card,
            limit=limit,
            train_limit=train_limit,
            seed=seed,
            device=device,
            batch=batch_size,
            fetch=not no_fetch,
            command=command_line(),
            on_progress=tell,
        )
    print(path)
    return 0


def ablation(
    *,
    output: Output,
    high: str,
    prior: PriorName = None,
    high_size: HighSize = None,
    factors: Factors = "8,16",
    rows: str | None = None,
    damages: str | None = None,
    damage_rows: str | None = None,
    preset: Preset = "equal",
    metrics: str | None = None,
    limit: int | None = 64,
    seed: int = 0,
    finished: Annotated[bool, Parameter(negative="")] = False,
    device: str = "auto",
    batch_size: int | None = None,
    no_fetch: NoFetch = False,
    quiet: Quiet = False,
) -> int:
    """Move one setting of RLSE at a time, on validation faces: paired differences to the defaults, and controls.

    Parameters
    ----------
    output
        The folder for the tables.
    high
        Validation faces; test faces are refused.
    prior
        A name or a file; by default celeba128.
    high_size
        Side in pixels of the faces that are compared; by default the prior's, 512 at most. Larger ones are shrunk by area.
    factors
        Separated by commas.
    rows
        Groups or rows separated by semicolons or commas: space, mean, geocross, layers, norm, reach, weight, ratio, when,
        starts, steps, rate, schedule, noise, projection, controls, warm. By default all; "none" for the default alone.
    damages
        Inputs of the second table, separated by commas: noise0.05, noise0.05told, jpeg30, a kernel; "none" for no second table.
    damage_rows
        Rows of the second table; by default no semantic loss, three other weights of it, and two controls.
    preset
        "equal" or "paper".
    metrics
        Names separated by commas.
    limit
        Take the first faces only.
    seed
        Of every face.
    finished
        A table more, of what `upscale` makes of the same results: faded where they disagree, and projected.
    device
        auto, cpu, cuda.
    batch_size
        Faces computed together.
    no_fetch
        Fetch nothing: neither a prior nor weights of metrics.
    quiet
        Say nothing but errors.
    """
    from latentface.bench.tables.ablation import run_ablation

    with told(quiet) as tell:
        path = run_ablation(
            output=output,
            high=high,
            prior=prior,
            high_size=high_size,
            factors=numbers("--factors", factors),
            rows=listed(rows),
            damages=listed(damages),
            damage_rows=listed(damage_rows),
            preset=preset,
            metrics=names(metrics),
            limit=limit,
            seed=seed,
            finished=finished,
            device=device,
            batch=batch_size,
            fetch=not no_fetch,
            command=command_line(),
            on_progress=tell,
        )
    print(path)
    return 0


def listed(text: str | None) -> list[str] | None:
    """Split names at semicolons where there are some (a row's name may hold a comma), else at commas; "none" is no name."""
    if text is None or text.strip() == "none":
        return None if text is None else []
    return [part.strip() for part in text.split(";" if ";" in text else ",") if part.strip()]
