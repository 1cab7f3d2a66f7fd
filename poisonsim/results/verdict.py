"""What a run says, in the five metrics that decide and in plain sentences; the terminal and the report share it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from poisonsim.results.result import Result
from poisonsim.results.statistics import Distribution, Estimate
from poisonsim.units import format_bytes, parse_bytes

_TITLES = {
    "guest_lost_bytes": "guest lost",
    "capacity_cost_bytes": "host cost",
    "slowdown": "slowdown",
    "tlb_reach_loss": "reach lost",
    "vm_lost": "VM lost",
}

_SAME_SPEED = 1e-4  # differences below this are far below what the walk-cost model can tell


@dataclass(frozen=True)
class Cell:
    """One policy's value of one metric, formatted; `p99` is empty where it is not known or means nothing."""

    mean: str
    interval: str
    p99: str


@dataclass(frozen=True)
class Column:
    """One deciding metric over all policies of a run."""

    metric: str
    title: str
    cells: tuple[Cell, ...]


def five_metrics(result: Result) -> tuple[Column, ...]:
    """The metrics that decide, at the end of the horizon.

    Examples:
        >>> import poisonsim as ps
        >>> res = ps.run("seed-1t-distinct", policies=["unmap1g", "hgm2m"], trials=1000, seed=7)
        >>> [cell.mean for cell in five_metrics(res)[0].cells]
        ['100 GiB', '400 KiB']
    """
    return tuple(
        Column(name, title, tuple(_cell(name, result.distribution(policy, name)) for policy in result.policies))
        for name, title in _TITLES.items()
    )


def _cell(metric: str, distribution: Distribution) -> Cell:
    flag = metric == "vm_lost"
    mean = distribution.share(distribution.values == 1) if flag else distribution.mean()
    p99 = None if flag else distribution.quantile(0.99)
    return Cell(
        mean=show_mean(metric, mean),
        interval=f"{show(metric, mean.low)}–{show(metric, mean.high)}",
        p99="" if p99 is None else show(metric, p99.best),
    )


def show_mean(metric: str, mean: Estimate) -> str:
    """A mean with half the width of its interval, in one unit and no more digits than the width justifies.

    Examples:
        >>> show_mean("tlb_reach_loss", Estimate(0.0512, 0.0532, 0.0552, "1"))
        '5.3 ± 0.2 %'
        >>> show_mean("guest_lost_bytes", Estimate(4096.0, 4096.0, 4096.0, "bytes"))
        '4 KiB'
    """
    half = max(mean.high - mean.best, mean.best - mean.low)
    if half <= 1e-9 * abs(mean.best) or half == 0:
        return show(metric, mean.best)
    unit, scale = "", 1.0
    if metric.endswith("_bytes"):
        unit = " " + format_bytes(mean.best).split(" ")[1]
        scale = float(parse_bytes("1" + unit.strip()))
    elif show(metric, 1.0).endswith("%"):
        unit, scale = " %", 0.01
    best, half = mean.best / scale, half / scale
    significant = (5 if metric.startswith("slowdown") else 4) - math.floor(math.log10(abs(best))) - 1 if best else 4
    digits = max(min(math.ceil(-math.log10(half)), max(significant, 0)), 0)
    spread = f"{half:.{digits}f}"
    return f"{best:.{digits}f} ± {spread}{unit}" if float(spread) else show(metric, mean.best)


def show(metric: str, value: float) -> str:
    """A value of a metric as people read it.

    Examples:
        >>> show("table_bytes", 1_675_200), show("slowdown", 1.00377), show("tlb_reach_loss", 0.0977)
        ('1.598 MiB', '1.00377', '9.77 %')
    """
    if metric.endswith("_bytes"):
        return format_bytes(value)
    if metric.startswith("slowdown"):
        return f"{value:.5f}"
    if metric in ("tlb_reach_loss", "vm_lost", "spares_exhausted") or metric.startswith("share_"):
        return f"{100 * value:.3g} %"
    return f"{value:.4g}"


def paired_sentence(result: Result, policy: str, *, to: str) -> str:
    """How `policy` differs from `to` on the same errors, in one sentence; `~` marks a difference that may be none.

    Examples:
        >>> import poisonsim as ps
        >>> res = ps.run("seed-1t-distinct", policies=["unmap1g", "hgm2m"], trials=1000, seed=7)
        >>> paired_sentence(res, "hgm2m", to="unmap1g").split(" than")[0]
        'hgm2m loses 262,144 times less guest memory'
    """
    comparison = result.compare(policy, to=to)
    ratio = comparison.ratio("guest_lost_bytes")
    cost = comparison.differences("capacity_cost_bytes").mean()
    speed = comparison.differences("slowdown").mean()
    more = "more" if cost.best >= 0 else "less"
    pace = f"{_uncertain(speed)}{abs(100 * speed.best):.2g} % {'slower' if speed.best >= 0 else 'faster'}"
    if max(abs(speed.low), abs(speed.high)) < _SAME_SPEED:
        pace = f"at the same speed within {100 * _SAME_SPEED:g} %"
    return (
        f"{policy} loses {_times(ratio)} guest memory than {to} on the same errors, "
        f"costs the host {_uncertain(cost)}{format_bytes(abs(cost.best))} {more} and runs {pace}"
    )


def _times(ratio: Estimate | None) -> str:
    if ratio is None:
        return "no less"
    if ratio.best == 0:
        return "no"
    if ratio.low <= 1 <= ratio.high:
        return "~as much"
    less = ratio.best < 1
    best, near, far = (
        (1 / ratio.best, 1 / ratio.high, 1 / max(ratio.low, 1e-300)) if less else (ratio.best, ratio.low, ratio.high)
    )
    half = (far - near) / 2
    spread = f" ± {half:,.{0 if best >= 100 else 2}f}" if half > 0.5 * 10 ** -(0 if best >= 100 else 2) else ""
    return f"{best:,.{0 if best >= 100 else 2}f}{spread} times {'less' if less else 'more'}"


def _uncertain(difference: Estimate) -> str:
    return "~" if difference.low < 0 < difference.high else ""
