"""Rows of a plan: what was found of a choice, how the user writes it, and which comes before which."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from poisonsim.policy import Policy
from poisonsim.results.levels import FAILED, MET, OPEN, Level, Standing
from poisonsim.results.plan_candidates import HVO_CHOICES, status_of
from poisonsim.results.plan_measure import Simulation
from poisonsim.results.plan_search import Found, Measured
from poisonsim.results.sweep_grid import Settings, settings_text
from poisonsim.scenario import Scenario
from poisonsim.units import format_bytes

TIE = 2.0**-20
"""Costs that differ by less than this part of the VM's memory count as equal: 1 MiB of 1 TiB."""

STATUSES = ("mainline", "patches", "proposed")
"""How far mechanisms are from what runs today, the nearest first; all else is hypothetical."""


@dataclass(frozen=True, repr=False)
class Row:
    """A choice and what it does.

    Attributes:
        policy: Its label, as it was asked for.
        spec: As `--policy` takes it.
        status: How far its mechanism is from mainline Linux.
        settings: Keys of the scenario that it sets.
        params: Value of each parameter that was searched, spares apart.
        complexity: Whether it acts by the clock or by a `decide`, then the number of its rules.
        just: Whether it just meets some level.
    """

    found: Found
    policy: str
    spec: str
    status: str
    settings: Settings
    params: Mapping[str, int]
    complexity: tuple[bool, int]
    just: bool

    def __repr__(self) -> str:
        return f"<{self.text}: {self.standing}, {format_bytes(self.measured.cost.best)} of host memory>"

    @staticmethod
    def of(found: Found, policy: Policy, simulation: Simulation) -> Row:
        """The row of a choice that was found."""
        _, chosen = simulation.realised(found.choice)
        settings, _ = simulation.settings_of(found.choice)
        params = {
            name: chosen.params.get(name, parameter.default)
            for name, parameter in type(chosen).parameters().items()
            if name != "spares" and name not in policy.params
        }
        timed = any(rule.trigger == "every" for rule in chosen.rules)
        complexity = timed or not chosen.rules, len(chosen.rules)
        just = any(level.just_met(value) for level, value in zip(simulation.levels, found.measured.values, strict=True))
        return Row(
            found, policy.label, chosen.spec or chosen.label, status_of(policy), settings, params, complexity,
            just,
        )  # fmt: skip

    @property
    def measured(self) -> Measured:
        """What it does."""
        return self.found.measured

    @property
    def standing(self) -> Standing:
        """Of all levels together."""
        return self.found.standing

    @property
    def spares(self) -> int | None:
        """Spare huge pages, where their number was searched."""
        return self.found.choice.spares

    @property
    def hvo(self) -> str | None:
        """What becomes of HVO, where the policy does not leave it alone."""
        return self.found.choice.family.hvo

    @property
    def hvo_key(self) -> str | None:
        """The key of the scenario that says what becomes of HVO, where the policy does not leave it alone."""
        return None if self.hvo is None else self.found.choice.family.hvo_key

    def suits_hvo(self, value: str) -> bool:
        """Whether it is a choice where `host.hvo_with_hgm` has this value and the rest of the kernel is as good."""
        keeps = self.hvo_key == "host.hvo_with_keep"
        return self.hvo in (None, "kept" if keeps and value == "off-where-split" else value)

    def suits(self, scenario: Scenario) -> bool:
        """Whether it is a choice where HVO becomes what the scenario says."""
        return self.hvo_key is None or self.hvo == host_value(scenario, self.hvo_key)

    def same_as(self, other: Row) -> bool:
        """Whether two choices differ in nothing that is measured here, nor in what they ask of the host."""
        if (self.settings, self.found.standings) != (other.settings, other.found.standings):
            return False
        mine, its = self.measured, other.measured
        return (mine.cost, mine.slowdown, mine.values) == (its.cost, its.slowdown, its.values)

    @property
    def text(self) -> str:
        """The choice in one clause."""
        return f"{self.spec} with {settings_text(self.settings)}" if self.settings else self.spec

    def to_dict(self, levels: Sequence[Level]) -> dict[str, Any]:
        """The row as plain data."""
        measured = self.measured
        return {
            "policy": self.policy,
            "spec": self.spec,
            "status": self.status,
            "settings": dict(self.settings),
            "params": dict(self.params),
            "spares": self.spares,
            "one_spare_less_may_do": self.found.fewer_open,
            "standing": self.standing,
            "cost_bytes": {"low": measured.cost.low, "best": measured.cost.best, "high": measured.cost.high},
            "slowdown": measured.slowdown.best,
            "trials": measured.trials,
            "levels": [
                {
                    "level": level.text,
                    "standing": standing,
                    "value": None if value is None else {"low": value.low, "best": value.best, "high": value.high},
                }
                for level, standing, value in zip(levels, self.found.standings, measured.values, strict=True)
            ],
        }


class Preference(NamedTuple):
    """What decides between choices of equal cost.

    Attributes:
        better, worse: What is said of the choice that comes first, and of the other.
        key: A number of a row, less being better.
    """

    better: str
    worse: str
    key: Callable[[Row], float]


PREFERENCES = (
    Preference("the faster (to 0.01 %)", "is slower", lambda row: round(row.measured.slowdown.best, 4)),
    Preference("the nearer to mainline", "is further from mainline", lambda row: status_rank(row.status)),
    Preference(
        "what asks less of HVO", "asks more of HVO",
        lambda row: 0 if row.hvo is None else HVO_CHOICES.index(row.hvo),
    ),
    Preference("what has fewer parameters", "has more parameters", lambda row: len(row.found.choice.family.params)),
    Preference("what does not just meet a level", "meets a level only just", lambda row: row.just),
    Preference("the cheaper", "is dearer", lambda row: row.measured.cost.best),
)  # fmt: skip
"""What decides between choices whose costs are equal, the most important first."""


def cheapest_first(every: Iterable[Row], scenario: Scenario) -> tuple[Row, ...]:
    """The best row of each policy: those that meet all levels by cost, then those that may, then those that do not.

    Costs within `tie_bytes` of the lowest are equal: `PREFERENCES` decide between them. Of those that are the same in
    all of that the simplest comes first: no rule by the clock, then the fewest rules.
    """
    tie = tie_bytes(scenario)
    by_policy: dict[str, list[Row]] = {}
    for row in every:
        by_policy.setdefault(row.policy, []).append(row)
    best = [_best(rows, tie) for rows in by_policy.values()]
    return tuple(
        row for standing in (MET, OPEN, FAILED) for row in _ordered([r for r in best if r.standing == standing], tie)
    )


def runner_up_of(rows: Sequence[Row], tie: float) -> Row | None:
    """The next row that meets all levels and costs more than the first by more than a tie; rows cheapest first."""
    met = [row for row in rows if row.standing == MET]
    return next((row for row in met[1:] if row.measured.cost.best > met[0].measured.cost.best + tie), None)


def host_value(scenario: Scenario, key: str) -> str:
    """The value that a scenario has of a key of its host.

    Examples:
        >>> host_value(Scenario(), "host.hvo_with_hgm")
        'off-everywhere'
    """
    value: str = getattr(scenario.host, key.removeprefix("host."))
    return value


def tie_bytes(scenario: Scenario) -> float:
    """Bytes within which costs count as equal.

    Examples:
        >>> tie_bytes(Scenario()) / (1 << 20)
        1.0
    """
    return TIE * scenario.vm.memory_bytes


def status_rank(status: str) -> int:
    """How far a status is from what runs today: 0 for mainline.

    Examples:
        >>> [status_rank(status) for status in ("mainline", "patches, not merged", "proposed", "hypothetical", "")]
        [0, 1, 2, 3, 3]
    """
    return next((rank for rank, known in enumerate(STATUSES) if status.startswith(known)), len(STATUSES))


def rows_table(rows: Sequence[Row], levels: Sequence[Level]) -> pd.DataFrame:
    """Rows as a frame; see `CapacityPlan.table`."""
    records = []
    for row in rows:
        measured = row.measured
        record: dict[str, Any] = {
            "policy": row.policy, "spec": row.spec, "status": row.status, "spares": row.spares,
            "hvo": row.hvo, "standing": row.standing, "cost_bytes": measured.cost.best,
            "cost_low": measured.cost.low, "cost_high": measured.cost.high, "slowdown": measured.slowdown.best,
            "trials": measured.trials,
        }  # fmt: skip
        for level, standing, value in zip(levels, row.found.standings, measured.values, strict=True):
            record[level.text] = None if value is None else value.best
            record[f"{level.text} low"] = None if value is None else value.low
            record[f"{level.text} high"] = None if value is None else value.high
            record[f"{level.text} standing"] = standing
        records.append(record)
    frame = pd.DataFrame(records)
    frame["spares"] = frame["spares"].astype("Int64")
    return frame


def _best(rows: Sequence[Row], tie: float) -> Row:
    """The best of one policy: one that meets all levels, or may, or fails fewest; the cheapest of those."""

    def failing(row: Row) -> tuple[int, int]:
        return row.found.standings.count(FAILED), row.found.standings.count(OPEN)

    least = min(failing(row) for row in rows)
    return _ordered([row for row in rows if failing(row) == least], tie)[0]


def _ordered(rows: Sequence[Row], tie: float) -> list[Row]:
    """By cost, those that tie by all else."""
    left, order = sorted(rows, key=lambda row: row.measured.cost.best), []
    while left:
        lowest = left[0].measured.cost.best
        tied = [row for row in left if row.measured.cost.best <= lowest + tie]
        order += sorted(tied, key=_preference)
        left = left[len(tied) :]
    return order


def _preference(row: Row) -> tuple[Any, ...]:
    return (*(preference.key(row) for preference in PREFERENCES), row.complexity, row.spec)
