"""What a pipeline asks of a run: conditions that fail it, and how narrow an interval it must reach.

    hgm2m: p99(slowdown) > 1.02              P(guest_lost_bytes > 8GiB) >= 1%
    p99(guest_lost_bytes) within 5%          mean(slowdown) within 0.001
    vm_lost per year <= 0.1%                 capacity_cost_bytes <= 0.5% of memory
    p99.9(stall_seconds) < 30                vm_lost <= 0.1% per year

A metric alone is its mean. Both are data: they are matched by one pattern and evaluated here, never by Python.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from math import isfinite

from poisonsim.engine.plan import Plan
from poisonsim.errors import MetricError, did_you_mean, shown
from poisonsim.results.enough import is_certain, trials_needed
from poisonsim.results.metric_words import value_text
from poisonsim.results.metrics import Metric, Threshold, known_metric, parse_threshold, parse_value, share_of_memory
from poisonsim.results.numbers import as_probability, in_percent
from poisonsim.results.result import Result
from poisonsim.results.statistics import Estimate

MEAN, PROBABILITY = "mean", "P"
STATISTICS = (MEAN, "p50", "p95", "p99", "p99.9", PROBABILITY)
"""The statistics that most ask for; any percentile may be asked for, such as p99.99."""

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
_QUANTITY = (
    r"\s*(?:(?P<policy>[^()<>]*[^()<>\s])\s*:\s*)?"
    r"(?:(?P<statistic>\w+(?:\.\d+)?)\s*\((?P<inside>[^()]*)\)|(?P<alone>\w+))(?P<per_year>\s+per\s+year\b)?\s*"
)
_CONDITION = re.compile(_QUANTITY + r"(?P<symbol><=|>=|<|>)\s*(?P<bound>[^<>=]+?)(?P<late>\s+per\s+year)?\s*")
_WIDTH = re.compile(_QUANTITY + r"within\s+(?P<bound>\S.*)")
_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d{1,9})?)")
_MOST_LETTERS = 300

_ADD_UP = frozenset({
    "errors", "regions_hit", "guest_lost_bytes", "host_lost_bytes", "stranded_bytes", "spares_used",
    "spares_exhausted", "vm_lost", "guest_faults", "stall_seconds", "evacuations", "restarts", "reboots", "fallbacks",
})  # fmt: skip
"""Metrics that grow with the life of a VM, so that they have an amount per year."""


@dataclass(frozen=True)
class Quantity:
    """A number that a run has for each policy: a mean, a quantile, or the probability of a threshold.

    Attributes:
        text: As it was written, without the policy.
        policies: Labels of the policies that it is asked of.
        threshold: Of a probability; else None.
        per_year: Whether it is divided by the years of the horizon.
        of_memory: Whether it is a share of the memory that the host backs, which is the VM's.
    """

    text: str
    policies: tuple[str, ...]
    statistic: str
    metric: Metric
    threshold: Threshold | None
    per_year: bool = False
    of_memory: bool = False

    def of(self, result: Result, policy: str) -> Estimate | None:
        """Its value at the end of the horizon; None where too few trials lie beyond the quantile."""
        value = self._whole(result, policy)
        scenario = result.plan.scenario
        parts = (scenario.horizon.years if self.per_year else 1) * (scenario.vm.memory_bytes if self.of_memory else 1)
        if value is None or parts == 1:
            return value
        unit = "1" if self.of_memory else value.unit
        return Estimate(value.low / parts, value.best / parts, value.high / parts, unit)

    def _whole(self, result: Result, policy: str) -> Estimate | None:
        if self.threshold is not None:
            distribution = result.distribution(policy, self.metric.name)
            memory = result.plan.scenario.vm.memory_bytes
            return distribution.share(self.threshold.holds(distribution.values, memory))
        if self.statistic == MEAN:
            return result.mean(policy, self.metric.name)
        q = quantile_of(self.statistic)
        assert q is not None
        return result.distribution(policy, self.metric.name).quantile(q, self.metric.unit)

    def shown(self, value: Estimate) -> str:
        """A value of it in words; a slowdown as the ratio that a condition on it is written in."""
        return f"{self.number(value)}{' of memory' if self.of_memory else ''}"

    def number(self, value: Estimate) -> str:
        """As `shown`, without what it is of."""
        if self.of_memory:
            return str(in_percent(value))
        if self.threshold is not None:
            return str(as_probability(value))
        if self.metric.name.startswith("slowdown"):  # a ratio near 1; more digits than these mean nothing
            return str(Estimate(round(value.low, 5), round(value.best, 5), round(value.high, 5), value.unit))
        return value_text(self.metric, value)

    def trials_needed(self, plan: Plan) -> int:
        """Trials of a plan below which nothing can be told of it."""
        q, strata = quantile_of(self.statistic), plan.strata
        return 1 if q is None or is_certain(q, strata.weights) else trials_needed(q, strata.heaviest)


@dataclass(frozen=True)
class Verdict:
    """What became of a condition under one policy.

    Attributes:
        value: What it was asked of; None where too few trials tell.
        holds: Whether the best estimate meets it, or nothing can be told.
        clear: Whether both ends of the interval agree with that.
    """

    condition: Condition
    policy: str
    value: Estimate | None

    @property
    def holds(self) -> bool:
        return self.value is None or self.condition.holds(self.value.best)

    @property
    def clear(self) -> bool:
        if self.value is None:
            return False
        return self.condition.holds(self.value.low) == self.condition.holds(self.value.high) == self.holds

    def __str__(self) -> str:
        condition = self.condition
        what = f"{self.policy}: {condition.quantity.text}"
        if self.value is None:
            return f"{what} cannot be told from so few trials; raise --trials"
        told = f"{what} is {condition.quantity.shown(self.value)}, {'' if self.holds else 'not '}{condition.bound_text}"
        return told if self.clear else f"{told}; the interval spans the bound, so more trials (--trials) may turn it"


@dataclass(frozen=True)
class Condition:
    """A parsed `--fail-if`: a quantity against a bound.

    Examples:
        >>> import poisonsim as ps
        >>> res = ps.run("seed-1t-distinct", policies=["unmap1g", "hgm2m"], trials=1000, seed=7)
        >>> for verdict in parse_condition("mean(guest_lost_bytes) > 8GiB", res.metrics, res.policies).verdicts(res):
        ...     print(verdict.holds, verdict)
        True unmap1g: mean(guest_lost_bytes) is 100 GiB, > 8GiB
        False hgm2m: mean(guest_lost_bytes) is 400 KiB, not > 8GiB
    """

    quantity: Quantity
    symbol: str
    bound: float
    bound_text: str

    def holds(self, value: float) -> bool:
        """Whether one value meets it."""
        return _COMPARE[self.symbol](value, self.bound)

    def verdicts(self, result: Result) -> list[Verdict]:
        """What becomes of it under each policy that it is asked of, by the best estimate."""
        return [Verdict(self, policy, self.quantity.of(result, policy)) for policy in self.quantity.policies]


@dataclass(frozen=True)
class Width:
    """A parsed `--until`: how narrow the interval of a quantity must get.

    Attributes:
        relative: Whether `bound` is a share of the best estimate, not an amount.

    Examples:
        >>> import poisonsim as ps
        >>> res = ps.run("seed-1t", policies=["unmap1g"], trials=1000, seed=7)
        >>> width = parse_width("mean(guest_lost_bytes) within 1%", res.metrics, res.policies)
        >>> width.reached(res), width.trials_wanted(res) < 1000
        (True, True)
    """

    quantity: Quantity
    relative: bool
    bound: float
    text: str

    def reached(self, result: Result) -> bool:
        """Whether the half-width is within the bound under every policy that it is asked of."""
        return all(self.excess(value) <= 1 for value in self._values(result))

    def excess(self, value: Estimate | None) -> float:
        """Half-width over what is allowed; infinite where there is none yet, or for a share of nothing."""
        if value is None or self.relative and value.best == 0:
            return float("inf")
        half = max(value.high - value.best, value.best - value.low)
        allowed = self.bound * (abs(value.best) if self.relative else 1)
        return half / allowed if allowed > 0 else float("inf")

    def trials_wanted(self, result: Result) -> float:
        """About how many trials would reach it: half-widths fall with their square root; infinite where none would."""
        worst = max(self.excess(value) for value in self._values(result))
        return result.n_trials * (worst * worst)

    def problem(self, result: Result) -> str:
        """What stands in its way, where it is not reached; empty where more trials alone would do."""
        for policy in self.quantity.policies:
            value = self.quantity.of(result, policy)
            if value is not None and self.relative and value.best == 0:
                return (
                    f"{self.quantity.text} of {policy} is 0 in {result.n_trials:,} trials, and no interval is within "
                    f"a share of 0; give an amount, as in '{self.quantity.text} within {self._amount()}', "
                    "or another policy"
                )
        return ""

    def describe(self, result: Result) -> str:
        """How wide the intervals are, in words."""
        parts = []
        for policy in self.quantity.policies:
            value = self.quantity.of(result, policy)
            parts.append(f"{policy} {'not known yet' if value is None else self.quantity.shown(value)}")
        return f"{self.quantity.text}: {', '.join(parts)}"

    def _values(self, result: Result) -> list[Estimate | None]:
        return [self.quantity.of(result, policy) for policy in self.quantity.policies]

    def _amount(self) -> str:
        return (
            "0.001"
            if self.quantity.threshold or self.quantity.metric.unit == "1"
            else {"bytes": "1MiB"}.get(self.quantity.metric.unit, "0.1")
        )


def quantile_of(statistic: str) -> float | None:
    """The quantile that a percentile such as `p99.9` names; None for what is no percentile between 0 and 100.

    Examples:
        >>> quantile_of("p99.9"), quantile_of("p5"), quantile_of("mean"), quantile_of("p0")
        (0.999, 0.05, None, None)
    """
    match = _PERCENTILE.fullmatch(statistic)
    return float(Decimal(match[1]) / 100) or None if match else None


def check_trials(quantity: Quantity, plan: Plan, trials: int) -> None:
    """Refuses a quantity that so many trials cannot tell.

    Raises:
        MetricError: More trials are needed.
    """
    if trials < (needed := quantity.trials_needed(plan)):
        raise MetricError(
            f"{quantity.text} cannot be told from {trials:,} trials; it takes at least {needed:,}: raise --trials"
        )


SUCH_AS = (
    "'p99(slowdown) > 1.02', 'hgm2m: mean(vm_lost) >= 5%', 'vm_lost per year <= 0.1%' or "
    "'P(guest_lost_bytes > 8GiB) > 1%'"
)
"""Conditions that a message shows."""


def parse_condition(
    text: str,
    metrics: tuple[Metric, ...],
    policies: Sequence[str],
    asked: Sequence[str] | None = None,
    *,
    such_as: str = SUCH_AS,
) -> Condition:
    """The condition written in `text`.

    Args:
        text: `[policy:] mean|p50|p95|p99(metric) [per year] op value`, or `[policy:] P(metric op value) [per year] op
            probability`, where op is one of `<` `<=` `>` `>=`. `metric` alone is its mean, and any percentile between
            0 and 100 goes, such as `p99.9`. `per year` may stand at the end as well. A value of a metric in bytes may
            be a share, such as `0.5% of memory`: of that which backs the VM, so that it is the VM's and the host's.
        metrics: Those of the run.
        policies: Labels of its policies.
        asked: Those that it is asked of where the text names none; default all.
        such_as: What to write instead.

    Raises:
        MetricError: It means nothing; the message says what does.

    Examples:
        >>> from poisonsim.results.metrics import metrics_for
        >>> found = parse_condition("hgm2m: P(guest_lost_bytes > 8GiB) > 1%", metrics_for(("1G", "4K")), ["hgm2m"])
        >>> found.quantity.text, found.symbol, found.bound
        ('P(guest_lost_bytes > 8GiB)', '>', 0.01)
        >>> found = parse_condition("vm_lost per year <= 0.1%", metrics_for(("1G", "4K")), ["hgm2m"])
        >>> found.quantity.text, found.quantity.per_year, found.bound
        ('mean(vm_lost) per year', True, 0.001)
    """
    match = _CONDITION.fullmatch(text) if len(text) <= _MOST_LETTERS else None
    if match is None:
        raise MetricError(
            f"{shown(text)} is no condition: it is `{'[POLICY:] ' if policies else ''}QUANTITY OP VALUE`, where OP is "
            f"one of < <= > >=; write for example {such_as}"
        )
    per_year = bool(match["per_year"] or match["late"])
    if match["per_year"] and match["late"]:
        raise MetricError(f"{shown(text)}: says 'per year' twice; say it once")
    quantity = _quantity(text, match, metrics, policies, asked, per_year=per_year)
    symbol, bound = match["symbol"], match["bound"].strip()
    try:
        share = None if quantity.threshold is not None else share_of_memory(bound, quantity.metric)
    except MetricError as error:
        raise MetricError(f"{shown(text)}: {error}") from None
    if share is not None:
        return Condition(replace(quantity, of_memory=True), symbol, share, f"{symbol} {bound}")
    return Condition(quantity, symbol, _level(text, quantity, bound), f"{symbol} {bound}")


def parse_width(
    text: str, metrics: tuple[Metric, ...], policies: Sequence[str], asked: Sequence[str] | None = None
) -> Width:
    """The half-width written in `text`.

    Args:
        text: `[policy:] mean|p50|p95|p99(metric) [per year] within bound`, or with `P(metric op value)`; the bound in
            per cent of the estimate, or in units of the metric. `metric` alone is its mean.
        metrics: Those of the run.
        policies: Labels of its policies.
        asked: Those that it is asked of where the text names none; default all.

    Raises:
        MetricError: It means nothing; the message says what does.

    Examples:
        >>> from poisonsim.results.metrics import metrics_for
        >>> found = parse_width("p99(guest_lost_bytes) within 64MiB", metrics_for(("1G", "4K")), ["hgm2m"])
        >>> found.relative, found.bound == 64 << 20
        (False, True)
    """
    match = _WIDTH.fullmatch(text) if len(text) <= _MOST_LETTERS else None
    if match is None:
        raise MetricError(
            f"{shown(text)} is no width to reach; write for example 'p99(guest_lost_bytes) within 5%' or "
            "'hgm2m: mean(slowdown) within 0.001'"
        )
    quantity = _quantity(text, match, metrics, policies, asked, per_year=match["per_year"] is not None)
    bound = match["bound"].strip()
    relative = bound.endswith("%")
    if relative or quantity.threshold is not None:
        value = _number(bound.removesuffix("%")) / (100 if relative else 1)
    else:
        value = _level(text, quantity, bound)
    if not (value > 0 and isfinite(value)):
        example = "5%" if relative else "5% or an amount above 0"
        raise MetricError(f"{shown(text)}: {shown(bound)} is no half-width; write for example {example}")
    return Width(quantity, relative, value, text.strip())


def _quantity(
    text: str,
    match: re.Match[str],
    metrics: tuple[Metric, ...],
    policies: Sequence[str],
    asked: Sequence[str] | None,
    *,
    per_year: bool,
) -> Quantity:
    """The part that both forms begin with."""
    name, inside = match["statistic"] or MEAN, (match["inside"] or match["alone"] or "").strip()
    if name not in (MEAN, PROBABILITY) and quantile_of(name) is None:
        raise MetricError(
            f"{shown(text)}: {shown(name)} is not one of {', '.join(STATISTICS)}, nor another percentile between p0 "
            f"and p100{did_you_mean(name, STATISTICS)}"
        )
    of = tuple(policies if asked is None else asked)
    if match["policy"] is not None:
        if match["policy"] not in policies:
            raise MetricError(
                f"{shown(text)}: policy {shown(match['policy'])} is not in this run"
                f"{did_you_mean(match['policy'], policies)}; it has {', '.join(policies)}"
            )
        of = (match["policy"],)
    try:
        threshold = parse_threshold(inside, metrics) if name == PROBABILITY else None
        metric = known_metric(inside, metrics) if threshold is None else threshold.metric
    except MetricError as error:
        raise MetricError(f"{shown(text)}: {error}") from None
    if per_year and metric.name not in _ADD_UP:
        raise MetricError(
            f"{shown(text)}: {metric.name} does not add up over the years; drop 'per year', or ask it of one of "
            f"{', '.join(sorted(_ADD_UP))}"
        )
    return Quantity(f"{name}({inside}){' per year' if per_year else ''}", of, name, metric, threshold, per_year)


def _level(text: str, quantity: Quantity, bound: str) -> float:
    """A bound in the units of the quantity."""
    if quantity.threshold is None:
        try:
            return parse_value(bound, quantity.metric)
        except MetricError as error:
            raise MetricError(f"{shown(text)}: {error}") from None
    value = _number(bound.removesuffix("%")) / (100 if bound.endswith("%") else 1)
    if not 0 <= value <= 1:
        raise MetricError(f"{shown(text)}: {shown(bound)} is no probability; write one such as 1% or 0.01")
    return value


def _number(text: str) -> float:
    """A number, or one that fits nowhere."""
    try:
        return float(text)
    except ValueError:
        return float("nan")
