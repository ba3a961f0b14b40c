"""`latentface train exits`: the heads at which `upscale` makes most of a search's steps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from latentface.bench.core.progress import duration
from latentface.cli.console import Talk


def exits(
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    prior: Annotated[str | None, Parameter(name=["--prior", "-p"])] = None,
    minutes: float | None = None,
    steps: int | None = None,
    resume: Annotated[bool, Parameter(negative="")] = False,
    device: str = "auto",
    seed: int = 0,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative="")] = False,
) -> int:
    """Train a MobileStyleGAN prior's exits, of 128 and 256 px, on the prior's own faces: no pictures needed.

    With them most steps of a search are made at an exit, at a fraction of the time.

    Parameters
    ----------
    output
        The exits' file; by default NAME.exits.safetensors beside the prior, where `upscale` looks for it.
    prior
        A name (see `latentface models list`) or a file; by default ffhq1024.
    minutes
        Stop after so long in all.
    steps
        Stop after so many steps, a new face each.
    resume
        Go on where the run with the same output stopped.
    device
        auto, cpu, cuda.
    seed
        Of everything random.
    quiet
        Say nothing but errors.
    """
    from latentface.devices import pick_device
    from latentface.prior.exits import beside
    from latentface.prior.registry import DEFAULT, load_prior
    from latentface.train.exits import ExitSettings, ExitTick, resolutions_text, train_exits

    talk = Talk(quiet)
    loaded = load_prior(prior or DEFAULT, pick_device(device), "none", say=talk.say)
    assert loaded.path is not None  # it was read from a file
    target = output or beside(loaded.path)
    talk.say(f"training on {loaded.device}; the exits go to {target}, the checkpoint to {target}.train")

    with talk.progress("training", 1.0, counted=False) as bar:

        def tick(t: ExitTick) -> None:
            bar.update(bar.task_ids[0], completed=t.done, description=f"step {t.step:,}, loss {t.loss:.3f}")
            if t.saved:
                figures = resolutions_text(t.psnr) or "not measured yet"
                talk.say(f"step {t.step:,}, loss {t.loss:.3f}, {figures}, {duration(t.seconds_left)} left")

        path = train_exits(
            loaded,
            target,
            steps=steps,
            minutes=minutes,
            settings=ExitSettings.for_prior(loaded, seed=seed),
            resume=resume,
            on_tick=tick,
        )
    print(path)
    return 0
