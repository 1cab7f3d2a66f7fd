"""Service levels: conditions that must hold, checked before anything runs, and whether an interval meets them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path
from typing import Literal, TypeAlias

from poisonsim import catalog
from poisonsim.errors import MetricError, ScenarioError, did_you_mean, shown
from poisonsim.results.conditions import PROBABILITY, Condition, Quantity, parse_condition
from poisonsim.results.metrics import Metric
from poisonsim.results.statistics import Estimate

Standing: TypeAlias = Literal["met", "failed", "open"]
"""Of a level: met or failed at both ends of its interval, or open where the interval spans the bound."""

MET: Standing = "met"
FAILED: Standing = "failed"
OPEN: Standing = "open"

EXAMPLE = (
    "--require 'vm_lost per year <= 0.1%' --require 'p99(slowdown) < 1.01' "
    "--require 'capacity_cost_bytes <= 0.5% of memory'"
)
_TURNED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_LONGEST = 1000  # characters of a level
_JUST = 1.25
"""Half-widths of its interval up to which a value that meets a level just meets it."""
_LEAST_MORE = 1.25
"""Times the trials that did not decide a level, the fewest that are said to decide it."""
_POLICY = re.compile(r"\s*([^()<>]*[^()<>\s])\s*:")


@dataclass(frozen=True)
class Level:
    """One service level.

    Examples:
        >>> from poisonsim.results.metrics import metrics_for
        >>> [level] = parse_levels(["vm_lost per year <= 0.1%"], metrics_for(("1G", "4K")))
        >>> level.standing(Estimate(0.0004, 0.0006, 0.0008, "1")), level.standing(Estimate(0.0008, 0.0009, 0.0011, "1"))
        ('met', 'open')
    """

    condition: Condition

    @property
    def quantity(self) -> Quantity:
        """What it is asked of."""
        return self.condition.quantity

    @property
    def text(self) -> str:
        """As it was written, with `mean` where no statistic was."""
        return f"{self.quantity.text} {self.condition.bound_text}"

    @property
    def lower_is_better(self) -> bool:
        """Whether it sets a most."""
        return self.condition.symbol in ("<", "<=")

    def standing(self, value: Estimate | None) -> Standing:
        """What an estimate makes of it; open where there is none."""
        if value is None:
            return OPEN
        ends = {self.condition.holds(end) for end in (value.low, value.best, value.high)}
        return OPEN if len(ends) > 1 else MET if True in ends else FAILED

    def clearance(self, value: Estimate | None) -> float:
        """How clearly a level is met: the way to the bound in half-widths of the interval, which is above 1 if it is.

        Examples:
            >>> from poisonsim.results.metrics import metrics_for
            >>> [level] = parse_levels(["vm_lost <= 1%"], metrics_for(("1G", "4K")))
            >>> level.clearance(Estimate(0.004, 0.006, 0.008, "1")), level.clearance(Estimate(0.0, 0.0, 0.0, "1"))
            (2.0, inf)
        """
        if value is None:
            return 0.0
        half = value.high - value.best if self.lower_is_better else value.best - value.low
        way = self.condition.bound - value.best if self.lower_is_better else value.best - self.condition.bound
        return way / half if half > 0 else inf if way >= 0 else -inf

    def just_met(self, value: Estimate | None) -> bool:
        """Whether it is met by little more than the interval's half-width.

        Examples:
            >>> from poisonsim.results.metrics import metrics_for
            >>> [level] = parse_levels(["vm_lost <= 1%"], metrics_for(("1G", "4K")))
            >>> level.just_met(Estimate(0.006, 0.008, 0.0099, "1")), level.just_met(Estimate(0.004, 0.006, 0.008, "1"))
            (True, False)
        """
        return self.standing(value) == MET and self.clearance(value) < _JUST

    def miss(self, value: Estimate | None) -> float:
        """How many times too high or too low a value is, by its best estimate; 1 or less where it is not.

        Examples:
            >>> from poisonsim.results.metrics import metrics_for
            >>> [level] = parse_levels(["vm_lost <= 1%"], metrics_for(("1G", "4K")))
            >>> level.miss(Estimate(0.015, 0.02, 0.025, "1"))
            2.0
        """
        if value is None:
            return inf
        least = 1.0 if self.quantity.metric.name.startswith("slowdown") else 0.0  # a ratio; what it is above 1 counts
        best, bound = value.best - least, self.condition.bound - least
        over, under = (best, bound) if self.lower_is_better else (bound, best)
        return over / under if under > 0 else inf if over > under else 1.0

    def trials_to_decide(self, value: Estimate | None, trials: int) -> float:
        """About how many trials, more than those, decide an open level: half-widths fall with their square root."""
        if value is None:
            return inf
        gap = abs(value.best - self.condition.bound)
        above = value.best < self.condition.bound
        half = value.high - value.best if above else value.best - value.low
        return trials * max((half / gap) ** 2, _LEAST_MORE) if gap > 0 else inf


def parse_levels(texts: str | Sequence[str], metrics: tuple[Metric, ...]) -> tuple[Level, ...]:
    """The levels written in `texts`, checked against each other.

    Args:
        texts: Conditions as `parse_condition` reads them, that must hold, of no policy by name; one or more.
        metrics: Those of the scenario.

    Raises:
        MetricError: None is given, or some mean nothing, can never fail or never be met, or contradict each other;
            all problems are listed.

    Examples:
        >>> from poisonsim.results.metrics import metrics_for
        >>> parse_levels(["vm_lost <= 100%"], metrics_for(("1G", "4K")))
        Traceback (most recent call last):
        ...
        poisonsim.errors.MetricError: 'vm_lost <= 100%': can never fail, for vm_lost is at most 1; drop it, or ask more
    """
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise MetricError(f"levels = {shown(texts)} is not a list of conditions; write ['vm_lost per year <= 0.1%']")
    if not texts:
        raise MetricError(f"no service level is given; name what must hold, for example {EXAMPLE}")
    problems: list[str] = []
    found: list[Level] = []
    for text in texts:
        try:
            if len(text) > _LONGEST:
                raise MetricError(f"{shown(text)}: has {len(text):,} characters; write a level such as {EXAMPLE}")
            if policy := _POLICY.match(text):
                raise MetricError(
                    f"{shown(text)}: a service level holds for every policy; drop '{policy[1]}:', and name policies "
                    "with --policy"
                )
            level = Level(parse_condition(text, metrics, (), such_as=EXAMPLE))
        except MetricError as error:
            problems += error.problems
            continue
        if problem := _out_of_reach(level) or _clash(level, found) or _backwards(level):
            problems.append(f"{shown(text)}: {problem}")
        found.append(level)
    if problems:
        raise MetricError(problems)
    return tuple(found)


def asks_for_better(condition: Condition) -> bool | None:
    """Whether a condition holds where its figure is on the better side of the bound; None where neither side is.

    Examples:
        >>> from poisonsim.results.metrics import metrics_for
        >>> read = lambda text: parse_condition(text, metrics_for(("1G", "4K")), ["hgm2m"])
        >>> [asks_for_better(read(text)) for text in ("vm_lost < 1%", "P(slowdown < 1.01) < 5%", "errors > 3")]
        [True, False, None]
    """
    quantity = condition.quantity
    if quantity.metric.better not in ("lower", "higher"):
        return None
    lower = quantity.metric.better == "lower"
    if quantity.threshold is not None:
        if quantity.threshold.symbol not in _TURNED:
            return None
        lower = lower == (quantity.threshold.symbol in (">", ">="))
    return lower == (condition.symbol in ("<", "<="))


def always_or_never(condition: Condition) -> str:
    """That a condition holds always, or never, whatever a run finds, and why; empty where both may be.

    Examples:
        >>> from poisonsim.results.metrics import metrics_for
        >>> read = lambda text: parse_condition(text, metrics_for(("1G", "4K")), ["hgm2m"])
        >>> [always_or_never(read(text)) for text in ("P(errors > 3) >= 0", "vm_lost > 100%", "vm_lost > 1%")]
        ['holds always, for P is at least 0', 'can never hold, for vm_lost is at most 1', '']
    """
    told = _out_of_reach(Level(condition)).partition(";")[0]
    return told.replace("can never fail", "holds always").replace("can never be met", "can never hold")


def turned(condition: Condition) -> str:
    """The condition that holds where this one does not, as one writes it.

    Examples:
        >>> from poisonsim.results.metrics import metrics_for
        >>> turned(parse_condition("vm_lost per year > 0.1%", metrics_for(("1G", "4K")), ["hgm2m"]))
        'mean(vm_lost) per year <= 0.1%'
    """
    bound = condition.bound_text.removeprefix(condition.symbol)
    return f"{condition.quantity.text} {_TURNED[condition.symbol]}{bound}"


def read_levels(path: str | Path) -> tuple[str, ...]:
    """The conditions in a TOML file: `levels = ["vm_lost per year <= 0.1%", ...]`.

    Raises:
        ScenarioError: The file is missing, not TOML, or says anything else.

    Examples:
        >>> read_levels("missing.toml")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        poisonsim.errors.ScenarioError: missing.toml: cannot be read: No such file or directory; tried /...missing.toml
    """
    data = catalog.read_toml(Path(path), where=str(path))
    form = 'write levels = ["vm_lost per year <= 0.1%", "p99(slowdown) < 1.01"]'
    problems = [f"{path}: {key}: unknown key{did_you_mean(key, ['levels'])}; {form}" for key in data if key != "levels"]
    levels = data.get("levels")
    if levels is None and not problems:
        problems.append(f"{path}: has no levels; {form}")
    elif levels is not None and (not isinstance(levels, list) or not all(isinstance(each, str) for each in levels)):
        problems.append(f"{path}: levels: {shown(levels)} is not a list of conditions; {form}")
    if problems:
        raise ScenarioError(problems)
    return tuple(levels or ())


def _out_of_reach(level: Level) -> str:
    """Why a level can never fail, or never be met; empty where it can be either."""
    least, most = _range(level.quantity)
    bound, holds = level.condition.bound, level.condition.holds
    what = PROBABILITY if level.quantity.statistic == PROBABILITY else level.quantity.metric.name
    if level.lower_is_better:
        if isfinite(most) and holds(most):
            return f"can never fail, for {what} is at most {most:g}; drop it, or ask more"
        if bound < least or (bound == least and not holds(least)):
            return f"can never be met, for {what} is at least {least:g}; ask less"
    else:
        if isfinite(least) and holds(least):
            return f"can never fail, for {what} is at least {least:g}; drop it, or ask more"
        if bound > most or (bound == most and not holds(most)):
            return f"can never be met, for {what} is at most {most:g}; ask less"
    return ""


def _backwards(level: Level) -> str:
    """That a level asks for what is worse, and what to write instead; empty where it does not."""
    if asks_for_better(level.condition) is not False:
        return ""
    better = level.quantity.metric.better
    return (
        f"holds where things are bad ({level.quantity.metric.name}: {better} is better), but a level is what must "
        f"hold; write '{turned(level.condition)}'"
    )


def _range(quantity: Quantity) -> tuple[float, float]:
    """Least and most that a quantity can be, years and memory apart."""
    metric = quantity.metric
    if quantity.threshold is not None or metric.kind == "flag" or metric.name.startswith("share_"):
        return 0.0, 1.0
    return (-inf, 1.0) if metric.name == "tlb_reach_loss" else (0.0, inf)


def _clash(level: Level, others: Sequence[Level]) -> str:
    """Which other level leaves no value to meet both; empty where none does."""
    for other in others:
        same = level.quantity == other.quantity
        if same and level.lower_is_better != other.lower_is_better:
            most, least = (level, other) if level.lower_is_better else (other, level)
            low, high = least.condition.bound, most.condition.bound
            if low > high or (low == high and not (most.condition.holds(low) and least.condition.holds(low))):
                return f"contradicts '{other.text}'; no value meets both, change one"
        elif same and level.condition.bound == other.condition.bound:
            return f"is given twice, as '{other.text}'; drop one"
    return ""
