"""The lines under a table."""

from __future__ import annotations

from latentface.bench.core.statistics import Estimate
from latentface.bench.tables.notes import order_notes
from latentface.bench.tables.tables import Row


def rows(metric: str, factor: str, **means: float) -> list[Row]:
    return [
        Row(dataset="test", method=method, factor=factor, metric=metric, value=Estimate(mean, mean, mean, 5))
        for method, mean in means.items()
    ]


def test_the_posters_order_is_each_metrics_and_factors_own() -> None:
    table = [
        *rows("psnr-y", "16", mganprior=20.0, pulse=21.0, rlse=22.0, vdsr=30.0),
        *rows("ssim", "16", mganprior=0.5, pulse=0.6, rlse=0.4),
        *rows("lpips-alex", "8", mganprior=0.3, pulse=0.2, rlse=0.1),
        *rows("psnr-y", "12", mganprior=1.0, pulse=2.0, rlse=3.0),  # the poster has no figure there
    ]
    assert order_notes(table, {"test": True}) == [
        "The poster's order at 16x on test: psnr-y RLSE, PULSE, mGANprior (here too); "
        "ssim mGANprior, RLSE, PULSE (here PULSE, mGANprior, RLSE).",
        "The poster's order at 8x on test: lpips-alex RLSE, PULSE, mGANprior (here too).",
    ]
    assert order_notes(table, {"test": False}) == []  # on pictures without a truth the poster has NIQE only
    assert order_notes(rows("psnr-y", "16", rlse=22.0), {"test": True}) == []
