"""What the poster says of RLSE against each other method, beside what is found here, statement by statement."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from latentface.bench.core import poster
from latentface.bench.core.variants import title_of
from latentface.bench.tables.tables import Row, headed, markdown
from latentface.metrics.registry import METRICS

OURS = "rlse"
WORDS = ("holds", "does not hold", "open")


@dataclass(frozen=True, kw_only=True, slots=True)
class Statement:
    """RLSE is `ahead` of another method or behind it, says the poster; `verdict`: what the paired difference here says."""

    dataset: str
    factor: str
    metric: str
    other: str
    ahead: bool
    verdict: str


def statements(gaps: Sequence[Row], has_truth: Mapping[str, bool]) -> list[Statement]:
    """Return every statement that has figures on both sides.

    Args:
        gaps: differences "rlse - OTHER"; has_truth: of each data set, whether its faces are known.
    """
    found = []
    for gap in gaps:
        ours, _, other = gap.method.partition(" - ")
        kind = "truth" if has_truth[gap.dataset] else "native"
        figures = [poster.table1_figure(m, float(gap.factor), gap.metric, kind) for m in (ours, other)]
        if ours != OURS or figures[0] is None or figures[1] is None or figures[0] == figures[1] or not gap.value.n:
            continue
        sign = 1 if METRICS[gap.metric].direction == "higher" else -1
        theirs = sign * (figures[0] - figures[1]) > 0
        better, worse = (
            min(sign * gap.value.low, sign * gap.value.high) > 0,
            max(sign * gap.value.low, sign * gap.value.high) < 0,
        )
        verdict = WORDS[2] if not (better or worse) else WORDS[0] if better == theirs else WORDS[1]
        found.append(
            Statement(
                dataset=gap.dataset, factor=gap.factor, metric=gap.metric, other=other, ahead=theirs, verdict=verdict
            )
        )
    return found


def order_parts(gaps: Sequence[Row], has_truth: Mapping[str, bool]) -> list[str]:
    """Return the parts of a page: a line a set, factor and metric, a column a method, and how many statements hold."""
    told = statements(gaps, has_truth)
    if not told:
        return []
    others = list(dict.fromkeys(s.other for s in told))
    cells = {(s.dataset, s.factor, s.metric, s.other): s for s in told}
    lines = []
    for place in dict.fromkeys((s.dataset, s.factor, s.metric) for s in told):
        dataset, factor, metric = place
        line = [cells.get((*place, other)) for other in others]
        texts = ["" if s is None else f"{'ahead' if s.ahead else 'behind'}: {_marked(s.verdict)}" for s in line]
        lines.append([dataset, f"{factor}x {headed(metric)}", *texts])
    counts = ", ".join(
        f"{sum(s.verdict == word for s in told)} {word.replace('holds', 'hold').replace('does', 'do')}"
        for word in WORDS
    )
    words = (
        f"The poster says that {title_of(OURS)} is ahead of, or behind, each other method; {len(told)} statements: {counts} "
        "(open: the 95 % interval of the paired difference has zero in it)."
    )
    table = markdown(["", "", *(f"of {title_of(other)}" for other in others)], lines)
    return ["### The poster's statements beside these figures", words, table]


def _marked(verdict: str) -> str:
    return {"holds": "**holds**", "does not hold": "*does not hold*"}.get(verdict, verdict)
