"""Two policies compared in words, as the terminal and the page of several runs show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from poisonsim.results.compare import Comparison
from poisonsim.results.compare_runs import alone_in
from poisonsim.results.metric_words import (
    TITLES,
    comparing_sentence,
    difference_text,
    in_points,
    value_text,
)
from poisonsim.results.metrics import known_metric
from poisonsim.results.numbers import times_text

if TYPE_CHECKING:
    from poisonsim.results.result import Result

METRICS = ("guest_lost_bytes", "capacity_cost_bytes", "table_bytes", "tlb_reach_loss", "slowdown", "vm_lost")
"""What policies are compared by, where nothing else is asked."""


_SAME_RATIO = 0.005
"""How near to 1 a ratio is of which nothing would be left in two digits after the point."""


class Compared(NamedTuple):
    """A comparison in words.

    Attributes:
        what: What is compared, and when.
        how: How far the errors are the same.
        rows: For each metric its name, both means, their difference, and their ratio; that may be empty.
        sentences: The same in sentences, those metrics together in which nothing differs.
    """

    what: str
    how: str
    rows: tuple[tuple[str, str, str, str, str], ...]
    sentences: tuple[str, ...]

    @property
    def n_same(self) -> int:
        """Metrics that are the same, as far as is shown."""
        return sum(row[3].startswith("the same") for row in self.rows)

    @property
    def unclear(self) -> bool:
        """Whether the interval of some difference spans zero."""
        return any(row[3].startswith("~") for row in self.rows)


def left_out(result: Result, base: Result, *, names: tuple[str, str]) -> str:
    """Which policies are not compared, where none is named, as only one of two runs has them; else empty.

    Args:
        names: What to call the runs.

    Examples:
        >>> import poisonsim as ps
        >>> a, b = (ps.run("seed-1t-distinct", policies=p, trials=9) for p in (["unmap1g"], ["unmap1g", "hgm2m"]))
        >>> left_out(b, a, names=("b", "a"))
        'not compared, as only one run has it: hgm2m of b'
    """
    ours, theirs = alone_in(result, base), alone_in(base, result)
    if len(ours) == len(theirs) <= 1:
        return ""
    of_each = ((theirs, names[1]), (ours, names[0]))
    alone = [f"{policy} of {run}" for policies, run in of_each for policy in policies]
    return f"not compared, as only one run has {'it' if len(alone) == 1 else 'them'}: {', '.join(alone)}"


def compared(
    comparison: Comparison, metrics: Sequence[str] = METRICS, year: float | None = None, *, names: tuple[str, str]
) -> Compared:
    """Both policies by each metric.

    Args:
        year: Default the last that both know.
        names: What to call them.

    Raises:
        MetricError: No such metric, or a year at which they are not compared.

    Examples:
        >>> import poisonsim as ps
        >>> res = ps.run("seed-1t-distinct", policies=["hgm2m", "hgm4k"], trials=1000, seed=7)
        >>> both = res.compare("hgm2m", to="hgm4k")
        >>> told = compared(both, ["table_bytes", "vm_lost"], names=("hgm2m", "hgm4k"))
        >>> told.rows[0]
        ('page tables', '1.598 MiB', '409.8 MiB', '−408.2 MiB', '256 ± 0 times less')
        >>> told.sentences[-1]
        'the same in every VM: VMs lost'
    """
    at = comparison.years[-1] if year is None else year
    rows, same, sentences = [], [], []
    for name in metrics:
        known, title = known_metric(name, comparison.metrics), TITLES.get(name, name)
        ratio, gap = comparison.ratio(name, at), difference_text(known, comparison.difference(name, at))
        mine, theirs = comparison.means(name, at)
        times = ""
        if not in_points(known) and ratio is not None and ratio.best > 0:
            alike = ratio.low <= 1 <= ratio.high or abs(ratio.best - 1) < _SAME_RATIO
            times = "" if alike else times_text(ratio)
        rows.append((title, value_text(known, mine), value_text(known, theirs), gap, times))
        if gap == "the same":
            same.append(title)
        else:
            sentences.append(comparing_sentence(comparison, name, at, names=names))
    if same:
        sentences.append(f"the same in every VM: {', '.join(same)}")
    what = f"{names[0]} against {names[1]}, in year {at:g}"
    return Compared(what, _how(comparison), tuple(rows), tuple(sentences))


def _how(comparison: Comparison) -> str:
    if comparison.paired:
        return f"the same errors, paired over {comparison.n_trials:,} trials, with 95 % intervals"
    return (
        f"not paired, since {comparison.unpaired_because}; intervals (95 %) are those of independent means, which are "
        "wider"
    )
