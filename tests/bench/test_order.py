"""The poster's statements of RLSE beside paired differences."""

from __future__ import annotations

from latentface.bench.core.poster import table1_figure
from latentface.bench.core.statistics import Estimate
from latentface.bench.tables.order import order_parts, statements
from latentface.bench.tables.tables import Row


def gap(other: str, metric: str, low: float, high: float, *, dataset: str = "test", ours: str = "rlse") -> Row:
    value = Estimate((low + high) / 2, low, high, 9)
    return Row(dataset=dataset, method=f"{ours} - {other}", factor="8", metric=metric, value=value)


GAPS = [
    gap("pulse", "psnr-y", 0.2, 0.9),  # the poster: 23.52 against 22.54
    gap("pulse", "lpips-alex", 0.01, 0.03),  # .25 against .28: less is better
    gap("fsrnet", "psnr-y", -0.5, 0.1),  # 23.52 against 25.08
    gap("fsrnet", "lpips-alex", 0.01, 0.02),  # .25 against .23: RLSE is behind
    gap("pulse", "niqe", -2, -1, dataset="native"),  # 8.94 against 9.81
    gap("pulse", "niqe", -2, -1),  # the poster's NIQE is of native faces
    gap("dgp", "psnr-y", 1, 2),  # the poster has no DGP
    gap("pulse", "psnr", 1, 2),  # nor PSNR over RGB
    gap("rlse", "psnr-y", 1, 2, ours="ilo"),
]


def test_each_statement_has_its_verdict() -> None:
    assert table1_figure("rlse", 8, "lpips-alex", "truth") == 0.25
    found = statements(GAPS, {"test": True, "native": False})
    told = {(s.dataset, s.other, s.metric): (s.ahead, s.verdict) for s in found}
    assert told == {
        ("test", "pulse", "psnr-y"): (True, "holds"),
        ("test", "pulse", "lpips-alex"): (True, "does not hold"),
        ("test", "fsrnet", "psnr-y"): (False, "open"),
        ("test", "fsrnet", "lpips-alex"): (False, "holds"),
        ("native", "pulse", "niqe"): (True, "holds"),
    }


def test_the_table_has_a_line_a_metric_and_counts_them() -> None:
    head, words, table = order_parts(GAPS, {"test": True, "native": False})
    assert head.startswith("### The poster's statements")
    assert "5 statements: 3 hold, 1 do not hold, 1 open" in words
    lines = table.splitlines()
    assert lines[0] == "|  |  | of PULSE | of FSRNet |"
    assert "| test | 8x psnr-y ↑ | ahead: **holds** | behind: open |" in lines
    assert "| native | 8x niqe ↓ | ahead: **holds** |  |" in lines
    assert order_parts(GAPS[6:], {"test": True}) == []
