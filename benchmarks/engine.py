"""What the engine costs on top of the networks: RLSE's loop against bare forward and backward passes.

    python benchmarks/engine.py [--prior FILE] [--batch 16] [--steps 20] [--repeats 5]

The bare passes do the same work of the networks: synthesis, shrinking, D's features of the enlarged result, and the
gradient to w_plus. Both are timed in turn, and the ratio is taken pair by pair, so that a drifting machine cancels.
"""

from __future__ import annotations

import argparse
import platform
import resource
import statistics
import time

import torch
import torch.nn.functional as F

from latentface import Downscale, load_prior
from latentface.devices import reuse_memory
from latentface.explore.engine import explore
from latentface.explore.rlse import RlseSettings
from latentface.prior.prior import Prior


def bare(prior: Prior, low: torch.Tensor, degradation: Downscale, steps: int) -> float:
    """Seconds of the networks' own passes, nothing else."""
    reuse_memory()  # as the engine does
    w_plus = prior.mapping(torch.randn(len(low), prior.z_dim)).contiguous().requires_grad_(True)
    judge = prior.needed_judge()
    size = (judge.resolution, judge.resolution)
    began = time.perf_counter()
    with torch.no_grad():
        wanted = judge.features(F.interpolate(low, size=size, mode="bilinear"))
    for _ in range(steps):
        again = degradation.forward(prior.synthesis(w_plus))
        features = judge.features(F.interpolate(again, size=size, mode="bilinear"))
        loss = (again - low).square().mean() + sum((a - b).abs().mean() for a, b in zip(features, wanted, strict=True))
        torch.autograd.grad(loss, w_plus)
    return time.perf_counter() - began


def engine(prior: Prior, low: torch.Tensor, degradation: Downscale, steps: int) -> float:
    """Seconds of a whole RLSE call of as many steps."""
    began = time.perf_counter()
    explore("rlse", prior, low, degradation=degradation, settings=RlseSettings(steps=steps), seeds=range(len(low)))
    return time.perf_counter() - began


def main() -> None:
    """Time both in turn and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", default="celeba128")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    prior = load_prior(arguments.prior)
    degradation = Downscale(prior.resolution // 8, prior.resolution)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        faces = prior.synthesis(prior.mapping(torch.randn(arguments.batch, prior.z_dim, generator=generator)))
    low = degradation.forward(faces).clamp(0, 1)
    ratios, seconds = [], []
    for repeat in range(arguments.repeats + 1):
        b = bare(prior, low, degradation, arguments.steps)
        e = engine(prior, low, degradation, arguments.steps)
        if repeat:  # the first pair warms up
            ratios.append(e / b)
            seconds.append(e / arguments.steps / arguments.batch)
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"prior {prior.name} ({prior.resolution} px), batch {arguments.batch}, {arguments.steps} steps")
    print(f"engine / bare: median {statistics.median(ratios):.3f}, from {min(ratios):.3f} to {max(ratios):.3f}")
    print(f"engine: {statistics.median(seconds) * 1e3:.1f} ms a step and face")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


if __name__ == "__main__":
    main()
