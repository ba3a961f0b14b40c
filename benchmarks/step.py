"""What one step of a search costs, and what made it cheaper: a MobileStyleGAN's synthesis and its gradient to w_plus, one face.

    python benchmarks/step.py [--prior ffhq1024] [--repeats 20] [--threads 1 2] [--compile]

Prints a Markdown table: seconds a step by threads, and how far the gradient is from the plain version's (relative error and
cosine). The first rows add one change after another to the network written plainly; the last ones are the package's own
steps at each exit. Each cell is the median of the repeats, measured in a process of its own, since neither threads nor the
allocator can be changed back. A row is "-" where the processor has no units for bfloat16.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentface.cli import wait_passively

if TYPE_CHECKING:
    from torch import Tensor

# Row -> kind, memory kept by the process, what is asked of the kind.
ROWS: dict[str, tuple[str, bool, str]] = {
    "plain": ("plain", False, ""),
    "plain, compiled": ("plain", False, "compile"),
    "plain, channels last": ("plain", False, "channels last"),
    "plain, memory kept": ("plain", True, ""),
    "plain, channels last, memory kept": ("plain", True, "channels last"),
    "fused (float32)": ("own", True, "float32"),
    "fused, bfloat16": ("own", True, "bfloat16"),
    "fused, bfloat16, memory given back": ("own", False, "bfloat16"),
    "32 px exit, bfloat16": ("32", True, "bfloat16"),
    "128 px exit, float32": ("128", True, "float32"),
    "128 px exit, bfloat16": ("128", True, "bfloat16"),
    "256 px exit, bfloat16": ("256", True, "bfloat16"),
}


def plain_haar(x: Tensor) -> Tensor:
    """x (B, 4 C, h, w), planes ll, lh, hl, hh -> (B, C, 2 h, 2 w)."""
    ll, lh, hl, hh = x.chunk(4, 1)
    out = x.new_zeros(len(x), ll.shape[1], 2 * x.shape[2], 2 * x.shape[3])
    out[:, :, 0::2, 0::2] = ll + lh + hl + hh
    out[:, :, 1::2, 0::2] = ll - lh + hl - hh
    out[:, :, 0::2, 1::2] = ll + lh - hl - hh
    out[:, :, 1::2, 1::2] = ll - lh - hl + hh
    return out


def plain_synthesis(network: Any, w_plus: Tensor) -> Tensor:
    """Return the picture in [-1, 1] of style rows (1, L, D), one operation after another, as the paper has them."""
    import torch.nn.functional as F

    def styled(layer: Any, x: Tensor, w: Tensor) -> Tensor:
        x = x * layer.affine(w)[:, :, None, None]
        if hasattr(layer, "depthwise"):
            x = F.conv2d(x, layer.depthwise, padding=1, groups=x.shape[1])
        x = F.conv2d(x, layer.weight, padding=layer.weight.shape[-1] // 2)
        return F.leaky_relu(x + layer.noise + layer.bias[:, None, None], 0.2)

    row = 0
    x = network.block(4).const
    for r in network.resolutions:
        block = network.block(r)
        if r > 4:
            x = plain_haar(x * block.up(w_plus[:, row])[:, :, None, None])
        x = styled(block.conv1, x, w_plus[:, row])
        if block.convs == 2:
            x = styled(block.conv2, x, w_plus[:, row + 1])
        row += block.convs
    image = block.image
    x = F.conv2d(x * image.affine(w_plus[:, row])[:, :, None, None], image.weight, image.bias)
    return plain_haar(x)


def measure(source: str, row: str, repeats: int) -> dict[str, Any]:
    """Return the median seconds of a row's step, and its gradient, in this process."""
    import torch

    from latentface import load_prior
    from latentface.devices import reuse_memory

    kind, kept, how = ROWS[row]
    if kept:
        reuse_memory()
    prior = load_prior(source)
    if kind.isdigit():
        if int(kind) not in prior.exits:
            return {}
        prior = prior.at(int(kind))
    if how == "bfloat16" and prior.fast_dtype is None:
        return {}
    z = torch.randn(1, prior.z_dim, generator=torch.Generator().manual_seed(0))
    w_plus = prior.mapping(z).contiguous().requires_grad_(True)
    paint: Callable[[Tensor], Tensor]
    if kind == "plain":
        network = prior.generator.synthesis
        layout = torch.channels_last if how == "channels last" else torch.contiguous_format
        for parameter in network.parameters():
            parameter.data = parameter.data.contiguous(memory_format=layout) if parameter.ndim == 4 else parameter.data

        def paint(w_plus: Tensor) -> Tensor:
            return prior.to_unit(plain_synthesis(network, w_plus))

        paint = torch.compile(paint) if how == "compile" else paint
    else:

        def paint(w_plus: Tensor) -> Tensor:
            return prior.synthesis(w_plus, fast=how == "bfloat16")

    times = []
    for _ in range(repeats + 2):  # the first two warm up
        began = time.perf_counter()
        (gradient,) = torch.autograd.grad(paint(w_plus).square().mean(), w_plus)
        times.append(time.perf_counter() - began)
    return {"seconds": statistics.median(times[2:]), "gradient": gradient.flatten().tolist()}


def processor() -> str:
    """Return the processor's name as Linux tells it, or the machine's kind."""
    import platform

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def difference(gradient: list[float], reference: list[float]) -> str:
    """Return the relative error and the cosine of a gradient; "" where it is of another function (an exit)."""
    if len(gradient) != len(reference):
        return ""
    norm = sum(a * a for a in reference) ** 0.5
    own = sum(a * a for a in gradient) ** 0.5
    error = sum((a - b) ** 2 for a, b in zip(gradient, reference, strict=True)) ** 0.5 / norm
    cosine = sum(a * b for a, b in zip(gradient, reference, strict=True)) / (norm * own)
    return f"{error:.1e}, {cosine:.6f}"


def main() -> None:
    """Measure each row in a process of its own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", default="ffhq1024")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--compile", action="store_true", help="the row that needs a C++ compiler, too")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    wait_passively()
    if arguments.row:
        print(json.dumps(measure(arguments.prior, arguments.row, arguments.repeats)))
        return
    import torch

    print(f"{processor()}, {os.cpu_count()} cores, torch {torch.__version__}, prior {arguments.prior}, one face\n")
    heads = [f"{n} thread{'s' if n > 1 else ''}" for n in arguments.threads]
    print(f"| seconds a step, median of {arguments.repeats} | {' | '.join(heads)} | gradient: error, cosine |")
    print("|---" * (len(heads) + 2) + "|")
    reference: list[float] = []
    for row, (_, kept, how) in ROWS.items():
        if how == "compile" and not arguments.compile:
            continue
        cells, gradient = [], []
        for threads in arguments.threads:
            setting = {**os.environ, "OMP_NUM_THREADS": str(threads), "LATENTFACE_MALLOC": "" if kept else "system"}
            call = [sys.executable, __file__, "--prior", arguments.prior, "--repeats", str(arguments.repeats)]
            ended = subprocess.run([*call, "--row", row], env=setting, check=True, stdout=subprocess.PIPE, text=True)
            found = json.loads(ended.stdout.splitlines()[-1])
            cells.append(f"{found['seconds']:.3f}" if found else "-")
            gradient = found.get("gradient", gradient)
        reference = reference or gradient
        print(f"| {row} | {' | '.join(cells)} | {difference(gradient, reference) if gradient else ''} |", flush=True)


if __name__ == "__main__":
    main()
