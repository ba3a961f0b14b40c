"""The poster's own figures (Shi, Zhang, Li, Ge; ICASSP 2022), printed beside ours: compare the order."""

from collections.abc import Mapping

METHODS = ("bilinear", "mganprior", "pulse", "rlse", "vdsr", "esrgan", "fsrnet")
# (factor, metric) -> a figure for each of METHODS. NIQE is of TinyFace, the rest of CelebA.
_TABLE1: Mapping[tuple[int, str], tuple[float, ...]] = {
    (8, "psnr"): (25.84, 21.29, 22.54, 23.52, 23.18, 23.74, 25.08),
    (8, "ssim"): (0.73, 0.53, 0.54, 0.56, 0.76, 0.63, 0.56),
    (8, "lpips"): (0.57, 0.32, 0.28, 0.25, 0.28, 0.30, 0.23),
    (8, "niqe"): (15.01, 13.28, 9.81, 8.94, 15.12, 16.84, 16.53),
    (16, "psnr"): (22.73, 20.53, 21.43, 21.74, 22.42, 21.83, 23.04),
    (16, "ssim"): (0.56, 0.50, 0.48, 0.49, 0.59, 0.46, 0.62),
    (16, "lpips"): (0.65, 0.36, 0.30, 0.27, 0.33, 0.31, 0.28),
    (16, "niqe"): (18.44, 14.55, 11.98, 10.55, 16.95, 15.64, 15.90),
}
# factor -> metric -> (without the semantic loss, with it)
_TABLE2: Mapping[int, Mapping[str, tuple[float, float]]] = {
    16: {"psnr": (22.66, 23.04), "ssim": (0.54, 0.55), "lpips": (0.24, 0.20)},
    32: {"psnr": (19.93, 20.78), "ssim": (0.42, 0.44), "lpips": (0.27, 0.24)},
    64: {"psnr": (18.93, 19.15), "ssim": (0.33, 0.34), "lpips": (0.30, 0.29)},
}
# Which of our metrics the poster's figure stands beside, and on which kind of set ("truth" or "native").
BESIDE = {
    "psnr-y": ("psnr", "truth"),
    "ssim": ("ssim", "truth"),
    "lpips-alex": ("lpips", "truth"),
    "niqe": ("niqe", "native"),
}
UNSUPERVISED = ("mganprior", "pulse", "rlse")


def table1_figure(method: str, factor: float, metric: str, kind: str) -> float | None:
    """Return the poster's figure beside ours, or None. `kind` is "truth" or "native", of the data set."""
    theirs, on = BESIDE.get(metric, ("", ""))
    row = _TABLE1.get((round(factor), theirs)) if on == kind and factor == round(factor) else None
    return row[METHODS.index(method)] if row is not None and method in METHODS else None


def table2_figure(semantic: bool, factor: float, metric: str) -> float | None:
    """Return the poster's figure with or without the semantic loss, or None."""
    theirs, on = BESIDE.get(metric, ("", ""))
    pair = _TABLE2.get(round(factor), {}).get(theirs) if on == "truth" and factor == round(factor) else None
    return None if pair is None else pair[int(semantic)]
