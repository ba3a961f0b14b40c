"""The supervised baselines VDSR, ESRGAN and FSRNet: their networks, their weight files, and their methods.

`load_baseline(path)` reads a file trained here or somebody else's ESRGAN; the `Baseline` it returns restores low pictures.
"""

from latentface.supervised.baseline import Baseline, esrgan, fsrnet, vdsr
from latentface.supervised.formats import load_baseline, read_baseline_card, write_baseline
from latentface.supervised.registry import KINDS, SIZES, make_network

__all__ = [
    "KINDS",
    "SIZES",
    "Baseline",
    "esrgan",
    "fsrnet",
    "load_baseline",
    "make_network",
    "read_baseline_card",
    "vdsr",
    "write_baseline",
]
