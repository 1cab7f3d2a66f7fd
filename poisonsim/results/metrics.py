"""The one registry of metrics: name, unit, direction, definition. Tables, tooltips and expressions use it."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from poisonsim.errors import MetricError, did_you_mean
from poisonsim.units import parse_bytes

if TYPE_CHECKING:
    from poisonsim.results.statistics import Distribution, Estimate


@dataclass(frozen=True)
class Metric:
    """One reported quantity.

    Attributes:
        unit: `bytes`, `1` (a share, ratio or probability), `s`, or what is counted.
        better: `lower`, `higher`, or `-` where neither is better.
        kind: `count`, `amount`, or `flag` for a 0/1 metric whose mean is a probability.
    """

    name: str
    group: str
    unit: str
    better: str
    definition: str
    kind: str = "amount"


_FIXED = (
    Metric("errors", "errors", "UEs", "-", "UEs in the VM's memory so far", "count"),
    Metric("regions_hit", "errors", "regions", "-", "distinct regions with at least one UE", "count"),
    Metric(
        "table_bytes",
        "memory",
        "bytes",
        "lower",
        "page tables added: process tables, stage 2 and KVM's metadata for it",
    ),
    Metric(
        "vmemmap_bytes", "memory", "bytes", "lower", "vmemmap that the host gave up saving (HVO) because of the policy"
    ),
    Metric("direct_map_bytes", "memory", "bytes", "lower", "page tables added where the kernel's direct map was split"),
    Metric(
        "guest_lost_bytes", "memory", "bytes", "lower", "guest memory in holes, kept as poison, or retired by the guest"
    ),
    Metric("host_lost_bytes", "memory", "bytes", "lower", "host memory poisoned, or leaked until the host reboots"),
    Metric(
        "stranded_bytes",
        "memory",
        "bytes",
        "lower",
        "host memory dissolved to base pages: usable, but never a huge page again",
    ),
    Metric("reserved_bytes", "memory", "bytes", "lower", "spare huge pages still held for the policy"),
    Metric(
        "capacity_cost_bytes",
        "memory",
        "bytes",
        "lower",
        "what the host pays: tables + vmemmap + direct map + host lost + reserved",
    ),
    Metric("spares_used", "pool", "pages", "lower", "spare huge pages taken since the host booted", "count"),
    Metric("spares_exhausted", "pool", "1", "lower", "1 once a rule would have migrated and no spare was left", "flag"),
    Metric(
        "tlb_reach_bytes",
        "translation",
        "bytes",
        "higher",
        "sum over leaves of size times the probability that the TLB holds it",
    ),
    Metric("tlb_reach_loss", "translation", "1", "lower", "1 - reach / reach of the same VM without errors"),
    Metric("walks_per_access", "translation", "1", "lower", "page walks per memory access"),
    Metric(
        "slowdown",
        "translation",
        "1",
        "lower",
        "run time / run time of the same VM without errors, middle walk-cost slope",
    ),
    Metric("slowdown_low", "translation", "1", "lower", "slowdown, low end over the published walk-cost slopes"),
    Metric("slowdown_high", "translation", "1", "lower", "slowdown, high end over the published walk-cost slopes"),
    Metric(
        "vm_lost",
        "availability",
        "1",
        "lower",
        "1 once the guest lost memory it cannot run without, or its host panicked; restarts by the policy do not count",
        "flag",
    ),
    Metric(
        "guest_faults",
        "availability",
        "faults",
        "lower",
        "machine checks that the guest gets, at their mean: for new poison, touches of holes and pages not retired",
    ),
    Metric(
        "stall_seconds",
        "availability",
        "s",
        "lower",
        "time the VM waited for splits, refaults, copies, shootdowns, blackouts, restarts, reboots and collapses",
    ),
    Metric("worst_stall_seconds", "availability", "s", "lower", "longest that the VM waited at one time"),
    Metric("evacuations", "availability", "moves", "lower", "live migrations to another host", "count"),
    Metric(
        "restarts",
        "availability",
        "restarts",
        "lower",
        "restarts of the guest, by the policy or after it was lost",
        "count",
    ),
    Metric("reboots", "availability", "reboots", "lower", "reboots of the host that the policy asked for", "count"),
    Metric(
        "fallbacks",
        "pool",
        "times",
        "lower",
        "times that a rule held but could not act: no spare, no host to go to, memory that cannot move",
        "count",
    ),
)


def metrics_for(leaf_sizes: tuple[str, ...]) -> tuple[Metric, ...]:
    """Every metric of a VM whose leaves have these sizes.

    Examples:
        >>> [m.name for m in metrics_for(("1G", "4K")) if m.group == "mapping"]
        ['leaves_1g', 'leaves_4k', 'share_1g', 'share_4k']
    """
    leaves = [
        Metric(f"leaves_{s.lower()}", "mapping", "leaves", "-", f"present {s} leaves of the VM", "count")
        for s in leaf_sizes
    ]
    shares = [
        Metric(f"share_{s.lower()}", "mapping", "1", "-", f"share of VM memory mapped by {s} leaves")
        for s in leaf_sizes
    ]
    return (*_FIXED[:2], *leaves, *shares, *_FIXED[2:])


def known_metric(name: str, metrics: tuple[Metric, ...]) -> Metric:
    """The metric called `name`.

    Raises:
        MetricError: There is none.
    """
    for metric in metrics:
        if metric.name == name:
            return metric
    names = [metric.name for metric in metrics]
    raise MetricError(f"unknown metric '{name}'{did_you_mean(name, names)}; known: {', '.join(names)}")


_COMPARE: dict[str, Callable[[NDArray[np.float64], float], NDArray[np.bool_]]] = {
    "<=": operator.le, ">=": operator.ge, "==": operator.eq, "!=": operator.ne, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
_VALUE = r"(-?[\d._]+(?:[eE][+-]?\d+)?)\s*([A-Za-z%]*)"
_EXPRESSION = re.compile(r"\s*([A-Za-z_]\w*)\s*(<=|>=|==|!=|<|>)\s*([^\s<>=!][^<>=!]*?)\s*")
_OF_MEMORY = re.compile(r"(?P<share>[^%]+)%\s*of\s+(?:(?:the\s+)?(?:host|vm)(?:'s)?\s+)?memory", re.IGNORECASE)


@dataclass(frozen=True)
class Threshold:
    """A parsed `metric operator value`, such as `guest_lost_bytes > 8GiB`.

    Attributes:
        of_memory: Whether the value is a share of the memory that the host backs, which is the VM's.
    """

    metric: Metric
    symbol: str
    value: float
    of_memory: bool = False

    def holds(self, values: NDArray[np.float64], memory_bytes: int) -> NDArray[np.bool_]:
        """Where it holds, elementwise, in a VM of so much memory."""
        return _COMPARE[self.symbol](values, self.value * memory_bytes if self.of_memory else self.value)


def parse_threshold(text: str, metrics: tuple[Metric, ...]) -> Threshold:
    """The comparison written in `text`.

    Raises:
        MetricError: Not `metric operator value`, an unknown metric, or a unit the metric does not have.

    Examples:
        >>> parse_threshold("guest_lost_bytes > 8GiB", metrics_for(("1G", "4K"))).value == 8 << 30
        True
        >>> parse_threshold("guest_lost_bytes > 1% of memory", metrics_for(("1G", "4K"))).value
        0.01
    """
    match = _EXPRESSION.fullmatch(text)
    if match is None:
        raise MetricError(f"'{text}' is not `metric operator value`; write for example \"guest_lost_bytes > 8GiB\"")
    name, symbol, value = match.groups()[:3]
    metric = known_metric(name, metrics)
    try:
        share = share_of_memory(value, metric)
        known = parse_value(value, metric) if share is None else share
    except MetricError as error:
        raise MetricError(f"'{text}': {error}") from None
    return Threshold(metric, symbol, known, of_memory=share is not None)


def share_of_memory(text: str, metric: Metric) -> float | None:
    """The share of the VM's memory that `text` names, as in `0.5% of memory`; None where it names none.

    Raises:
        MetricError: It is no number, or `metric` is no amount of bytes.

    Examples:
        >>> lost, slowdown = (known_metric(name, metrics_for(("1G",))) for name in ("guest_lost_bytes", "slowdown"))
        >>> share_of_memory("0.5% of memory", lost), share_of_memory("8GiB", lost)
        (0.005, None)
    """
    match = _OF_MEMORY.fullmatch(text.strip())
    if match is None:
        return None
    if metric.unit != "bytes":
        raise MetricError(
            f"{text!r}: only an amount of bytes is a share of memory, as in 'capacity_cost_bytes <= 0.5% of memory'"
        )
    try:
        share = float(match["share"]) / 100
    except ValueError:
        share = float("nan")
    if not isfinite(share):
        raise MetricError(f"{text!r} is no share of memory; write one such as 0.5% of memory")
    return share


def parse_value(text: str, metric: Metric) -> float:
    """The value of `metric` written in `text`, in the metric's unit.

    Raises:
        MetricError: It is no number, or has a unit that the metric does not have.

    Examples:
        >>> lost, slowdown = (known_metric(name, metrics_for(("1G",))) for name in ("guest_lost_bytes", "slowdown"))
        >>> parse_value("8GiB", lost) == 8 << 30, parse_value("1.01", slowdown)
        (True, 1.01)
    """
    allowed = {"bytes": "a size such as 8GiB, or a share such as 1% of memory", "1": "a number, or per cent such as 5%"}
    if metric.name.startswith("slowdown"):
        allowed = {"1": "a number such as 1.01, which is 1 % slower"}
    match = re.fullmatch(_VALUE, text)
    try:
        if match is None:
            raise ValueError("is no value")
        number, unit = match.groups()
        if metric.unit == "bytes" and unit not in ("", "%"):
            return float(parse_bytes(number + unit)) if float(number) else 0.0
        if unit == "%" and metric.name.startswith("slowdown"):
            raise ValueError("a slowdown is a ratio")
        if unit == "%" and metric.unit == "bytes":
            raise ValueError("does not say of what it is a share")
        if metric.unit == "1" and unit == "%":
            return float(number) / 100
        if unit in ("", metric.unit):
            return float(number)
        raise ValueError(f"unit '{unit}' does not fit")
    except ValueError as error:
        what = str(error)
        raise MetricError(
            f"{'' if repr(text) in what else f'{text!r} ' if match is None else f'{text!r}: '}{what}; {metric.name} "
            f"takes {allowed.get(metric.unit, f'a number of {metric.unit}')}"
        ) from None


def mean_of(metric: Metric, distribution: Distribution) -> Estimate:
    """Mean of a metric's values; of a 0/1 metric that has no others, the probability of 1.

    Examples:
        >>> from poisonsim.results.statistics import Distribution
        >>> lost = known_metric("vm_lost", metrics_for(("1G", "4K")))
        >>> print(mean_of(lost, Distribution.of(np.array([0.0, 1.0]), np.array([990, 10]))))
        0.01 (0.0048–0.018)
    """
    if metric.kind == "flag" and set(distribution.values) <= {0.0, 1.0}:
        return distribution.share(distribution.values == 1)
    return distribution.mean(metric.unit)
