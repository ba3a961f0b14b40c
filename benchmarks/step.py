"""What one step of a search costs: a prior's synthesis and its gradient to w_plus, one face, at full size and at each exit.

    python benchmarks/step.py [--prior ffhq1024] [--repeats 20] [--threads 1 2]

Prints a Markdown table: seconds a step in float32 and in bfloat16, by threads, with freed memory kept by the process and with
glibc's own habit (LATENTFACE_MALLOC=system). Each cell is the median of the repeats, measured in a process of its own, since
neither threads nor the allocator can be changed back. bfloat16 is "-" where the processor has no units for it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from latentface.cli import wait_passively


def measure(source: str, repeats: int) -> dict[str, float | None]:
    """Return the median seconds of a step by "side dtype", in this process."""
    import torch

    from latentface import load_prior
    from latentface.devices import reuse_memory

    reuse_memory()
    whole = load_prior(source)
    found: dict[str, float | None] = {}
    for side in (*whole.exits, whole.resolution):
        prior = whole.at(side)
        z = torch.randn(1, prior.z_dim, generator=torch.Generator().manual_seed(0))
        w_plus = prior.mapping(z).contiguous().requires_grad_(True)
        for fast in (False, True):
            times = []
            for _ in range(repeats + 2):  # the first two warm up
                began = time.perf_counter()
                torch.autograd.grad(prior.synthesis(w_plus, fast=fast).square().mean(), w_plus)
                times.append(time.perf_counter() - began)
            usable = not fast or prior.fast_dtype is not None
            found[f"{side} {'bfloat16' if fast else 'float32'}"] = statistics.median(times[2:]) if usable else None
    return found


def processor() -> str:
    """Return the processor's name as Linux tells it, or the machine's kind."""
    import platform

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main() -> None:
    """Measure each setting in a process of its own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", default="ffhq1024")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    wait_passively()
    if arguments.alone:
        print(json.dumps(measure(arguments.prior, arguments.repeats)))
        return
    columns: dict[str, dict[str, float | None]] = {}
    for malloc in ("", "system"):
        for threads in arguments.threads:
            setting = {**os.environ, "OMP_NUM_THREADS": str(threads), "LATENTFACE_MALLOC": malloc}
            call = [
                sys.executable,
                __file__,
                "--alone",
                "--prior",
                arguments.prior,
                "--repeats",
                str(arguments.repeats),
            ]
            ended = subprocess.run(call, env=setting, check=True, stdout=subprocess.PIPE, text=True)
            title = f"{threads} thread{'s' if threads > 1 else ''}{', memory given back' if malloc else ''}"
            columns[title] = json.loads(ended.stdout.splitlines()[-1])
    import torch

    print(f"{processor()}, {os.cpu_count()} cores, torch {torch.__version__}, prior {arguments.prior}, one face")
    print(f"\n| seconds a step, median of {arguments.repeats} | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 1) + "|")
    for row in next(iter(columns.values())):
        side, dtype = row.split()
        cells = ["-" if column[row] is None else f"{column[row]:.3f}" for column in columns.values()]
        print(f"| {side} px, {dtype} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
