"""Metrics in words: a mean in the form that suits its metric, and sentences that compare two policies by one."""

from __future__ import annotations

from typing import NamedTuple

from poisonsim.results.compare import Comparison
from poisonsim.results.metrics import Metric, known_metric
from poisonsim.results.numbers import Shown, as_probability, in_bytes, in_number, in_percent, times_text
from poisonsim.results.statistics import Estimate

SAME_SLOWDOWN = 0.05
"""Points of run time within which two policies are as fast as each other."""

TITLES = {
    "guest_lost_bytes": "guest lost", "capacity_cost_bytes": "host cost", "slowdown": "slower", "vm_lost": "VMs lost",
    "tlb_reach_loss": "TLB reach lost", "table_bytes": "page tables",
}  # fmt: skip
"""Short names of the metrics that tables show most."""


class _Phrase(NamedTuple):
    """What a policy does with a metric, and how one speaks of amounts of it."""

    verb: str
    noun: str
    less: str = "less"
    more: str = "more"


_NEARLY_ONE = 0.05
_RELATIVE = ("slowdown", "slowdown_low", "slowdown_high", "tlb_reach_loss")
"""Metrics that are relative to the same VM without errors."""
_PHRASES = {
    "guest_lost_bytes": _Phrase("loses", "guest memory"),
    "host_lost_bytes": _Phrase("loses", "host memory"),
    "stranded_bytes": _Phrase("strands", "host memory"),
    "reserved_bytes": _Phrase("reserves", "host memory"),
    "capacity_cost_bytes": _Phrase("costs", "host memory"),
    "table_bytes": _Phrase("costs", "page table"),
    "vmemmap_bytes": _Phrase("costs", "vmemmap"),
    "direct_map_bytes": _Phrase("costs", "page table of the direct map"),
    "tlb_reach_bytes": _Phrase("leaves", "TLB reach"),
    "vm_lost": _Phrase("loses", "VMs", "fewer"),
    "stall_seconds": _Phrase("stalls the VM for", "time"),
    "worst_stall_seconds": _Phrase("stalls the VM at worst for", "time"),
    "tlb_reach_loss": _Phrase("loses", "TLB reach"),
}


def in_points(metric: Metric) -> bool:
    """Whether a metric is a share, or a ratio to the VM without errors, so that its differences are points of per cent.

    Examples:
        >>> from poisonsim.results.metrics import metrics_for
        >>> [metric.name for metric in metrics_for(("1G",)) if in_points(metric)]
        ['share_1g', 'spares_exhausted', 'tlb_reach_loss', 'slowdown', 'slowdown_low', 'slowdown_high', 'vm_lost']
    """
    return metric.kind == "flag" or metric.name.startswith(("share_", "slowdown", "tlb_reach_loss"))


def value_text(metric: Metric, value: Estimate) -> str:
    """An estimate of a metric's level, in the form that `run` prints; `value_shown` has its parts.

    Examples:
        >>> from poisonsim.results.metrics import metrics_for
        >>> slowdown = known_metric("slowdown", metrics_for(("1G", "4K")))
        >>> value_text(slowdown, Estimate(1.0035, 1.0036, 1.0037, "1"))
        '0.36 (0.35–0.37) %'
    """
    return str(value_shown(metric, value))


def value_shown(metric: Metric, value: Estimate) -> Shown:
    """The parts of what `value_text` says: the value, with as many digits as its interval bears, interval and unit."""
    if metric.kind == "flag":
        return as_probability(value)
    if metric.unit == "bytes":
        return in_bytes(value)
    if metric.name.startswith("slowdown"):
        return in_percent(Estimate(value.low - 1, value.best - 1, value.high - 1, "1"))
    return in_percent(value) if in_points(metric) else in_number(value)


def alike(metric: Metric, gap: Estimate) -> bool:
    """Whether two means are the same, or as points of per cent the same to 0.01 at both ends of the interval.

    Examples:
        >>> from poisonsim.results.metrics import metrics_for
        >>> metrics = metrics_for(("1G", "4K"))
        >>> slowdown, lost = (known_metric(name, metrics) for name in ("slowdown", "guest_lost_bytes"))
        >>> alike(slowdown, Estimate(1e-5, 2e-5, 3e-5, "1")), alike(slowdown, Estimate(-1e-3, 0, 1e-3, "1"))
        (True, False)
        >>> alike(lost, Estimate(0, 0, 0, "bytes")), alike(lost, Estimate(1, 1, 1, "bytes"))
        (True, False)
    """
    if gap.low == gap.best == gap.high == 0:
        return True
    return in_points(metric) and in_percent(gap).none and not in_percent(gap).interval


def tied(metric: Metric, gap: Estimate) -> bool:
    """Whether two means are alike, or slowdowns less than `SAME_SLOWDOWN` apart at both ends of the interval.

    Examples:
        >>> from poisonsim.results.metrics import metrics_for
        >>> slowdown = known_metric("slowdown", metrics_for(("1G", "4K")))
        >>> tied(slowdown, Estimate(1e-4, 2e-4, 3e-4, "1")), tied(slowdown, Estimate(1e-4, 4e-4, 7e-4, "1"))
        (True, False)
    """
    same = SAME_SLOWDOWN / 100
    return alike(metric, gap) or (metric.name.startswith("slowdown") and -same < gap.low <= gap.high < same)


def faster(slowdown: Estimate) -> bool:
    """Whether a VM runs faster than without errors, as far as its digits show, for it has less memory left to touch.

    Examples:
        >>> faster(Estimate(0.9997, 0.9998, 0.9999, "1")), faster(Estimate(0.99999, 0.99999, 0.99999, "1"))
        (True, False)
    """
    added = Estimate(slowdown.low - 1, slowdown.best - 1, slowdown.high - 1, "1")
    return slowdown.best < 1 and not in_percent(added).none


def clear_sign(metric: Metric, gap: Estimate) -> int:
    """-1 where a difference of means is clearly below zero, 1 where it is above; 0 where it is neither.

    Of slowdowns less than `SAME_SLOWDOWN` is never clear.

    Examples:
        >>> from poisonsim.results.metrics import metrics_for
        >>> slowdown, lost = (known_metric(n, metrics_for(("1G", "4K"))) for n in ("slowdown", "guest_lost_bytes"))
        >>> clear_sign(lost, Estimate(1, 2, 3, "bytes")), clear_sign(lost, Estimate(-1, 2, 3, "bytes"))
        (1, 0)
        >>> clear_sign(slowdown, Estimate(-0.002, -0.001, -0.0001, "1"))
        -1
        >>> clear_sign(slowdown, Estimate(-0.002, -0.0004, -0.0001, "1"))
        0
    """
    if alike(metric, gap) or (metric.name.startswith("slowdown") and abs(gap.best) < SAME_SLOWDOWN / 100):
        return 0
    return (gap.low > 0) - (gap.high < 0)


def difference_text(metric: Metric, gap: Estimate) -> str:
    """A difference of two means; `~` where its interval spans zero.

    Examples:
        >>> from poisonsim.results.metrics import metrics_for
        >>> lost = known_metric("vm_lost", metrics_for(("1G", "4K")))
        >>> difference_text(lost, Estimate(-0.011, 0.02, 0.051, "1")), difference_text(lost, Estimate(0, 0, 0, "1"))
        ('~+2.0 (−1.1 to 5.1) points', 'the same')
    """
    if gap.low == gap.best == gap.high == 0:
        return "the same"
    if alike(metric, gap):
        return "the same to 0.01 points"
    mark = "~" if spans(gap, 0) else ""
    sign = "+" if gap.best > 0 else ""
    if metric.kind == "flag":
        return f"{mark}{sign}{as_probability(gap, unit='points')}"
    if metric.unit == "bytes":
        return f"{mark}{sign}{in_bytes(gap)}"
    return f"{mark}{sign}{in_percent(gap, unit='points') if in_points(metric) else in_number(gap)}"


def spans(estimate: Estimate, value: float) -> bool:
    """Whether an interval has `value` in it, and is not just that value."""
    return estimate.low <= value <= estimate.high and estimate.low < estimate.high


def comparing_sentence(
    comparison: Comparison, metric: str, year: float | None = None, *, names: tuple[str, str]
) -> str:
    """How the first of two policies differs from the second by one metric; `~` where the interval spans zero or one.

    Args:
        names: What to call them.

    Examples:
        >>> import poisonsim as ps
        >>> res = ps.run("seed-1t-distinct", policies=["hgm2m", "hgm4k"], trials=1000, seed=7)
        >>> both = res.compare("hgm2m", to="hgm4k")
        >>> comparing_sentence(both, "table_bytes", names=("hgm2m", "hgm4k"))
        'hgm2m costs 256 ± 0 times less page table than hgm4k on the same errors'
    """
    policy, to = names
    known = known_metric(metric, comparison.metrics)
    phrase = _PHRASES.get(metric, _Phrase("has", metric))
    gap, many = comparison.difference(metric, year), "many" if metric == "vm_lost" else "much"
    on, then_on = (
        (" on the same errors", ", on the same errors") if comparison.paired else (", on errors of its own",) * 2
    )
    mark = "~" if spans(gap, 0) else ""
    own = not comparison.same_baseline and metric in _RELATIVE
    then = ", each against its own VM without errors" if own else ""
    if gap.low == gap.best == gap.high == 0:
        return f"{policy} {phrase.verb} as {many} {phrase.noun} as {to}{on}{then}"
    if in_points(known) and metric != "vm_lost":
        size = in_percent(_size(gap), unit="points")
        if size.none:
            return f"{policy} and {to} have the same {_noun(metric)} to 0.01 points{on}{then}"
        if metric == "slowdown" and own:
            return f"{policy} is slowed {mark}{size} {'more' if gap.best > 0 else 'less'} than {to}{on}{then}"
        if metric == "slowdown":
            return f"{policy} is {mark}{size} {'slower' if gap.best > 0 else 'faster'} than {to}{on}"
        word = phrase.more if gap.best > 0 else phrase.less
        return f"{policy} {phrase.verb} {mark}{size} {word} {phrase.noun} than {to}{on}{then}"
    ratio = comparison.ratio(metric, year)
    if ratio is None:
        return f"{policy} {phrase.verb} {value_text(known, gap)} of {phrase.noun}, where {to} has none{then_on}"
    if ratio.best == 0:
        return f"{policy} {phrase.verb} no {phrase.noun}, which {to} does{then_on}"
    if ratio.low <= 1 <= ratio.high:
        times = "" if abs(ratio.best - 1) < _NEARLY_ONE else f", {ratio} times"
        return f"{policy} {phrase.verb} ~as {many} {phrase.noun} as {to}{times}{then_on if times else on}"
    if known.unit == "bytes" and abs(ratio.best - 1) < _NEARLY_ONE:
        size, word = in_bytes(_size(gap)), phrase.more if gap.best > 0 else phrase.less
        return f"{policy} {phrase.verb} {mark}{size} {word} {phrase.noun} than {to}{on}"
    times = times_text(ratio, less=phrase.less, more=phrase.more)
    return f"{policy} {phrase.verb} {times} {phrase.noun} than {to}{on}"


def _noun(metric: str) -> str:
    return _PHRASES[metric].noun if metric in _PHRASES else metric


def _size(gap: Estimate) -> Estimate:
    return Estimate(-gap.high, -gap.best, -gap.low, gap.unit) if gap.best < 0 else gap
