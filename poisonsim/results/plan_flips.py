"""What would flip the choice of a plan: another error rate, guest page, CPU, HVO, or kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

from poisonsim.errors import ScenarioError
from poisonsim.results.enough import trials_for_means
from poisonsim.results.levels import MET, OPEN, Level
from poisonsim.results.plan_candidates import HVO_CHOICES
from poisonsim.results.plan_measure import Simulation
from poisonsim.results.plan_rows import Row, cheapest_first, runner_up_of, status_rank, tie_bytes
from poisonsim.results.plan_search import Effort, Search
from poisonsim.results.runs import plan_run
from poisonsim.results.sweep_grid import closed_values
from poisonsim.scenario import CountFaults, FieldFaults, Scenario

FACTORS = (0.1, 0.5, 2.0, 10.0)
"""Times the error rate at which the choice is made anew."""

REFINED = 2
"""Times that the stretch in which the choice flips is halved, on a log scale."""

_RATE_STEPS = 2  # of the trials: elsewhere a rough answer will do
MOST_CONTENDERS = 5
"""Policies that are looked at again elsewhere."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Flip:
    """The choice under one changed condition.

    Attributes:
        group: What is changed, such as `error rate`.
        value: To what.
        best: The cheapest contender that meets all levels there; None where none does.
        stays: Whether it is the same choice, but for the number of spares.
        cheaper_open: A cheaper contender that may meet them, too, which the trials do not tell.
        note: Why nothing had to be looked at, where that is so.
        decided: Whether it is known that the choice stays or flips; not where what was chosen is `cheaper_open`.
    """

    group: str
    value: str
    best: Row | None
    stays: bool
    cheaper_open: Row | None = None
    note: str = ""
    decided: bool = True

    def to_dict(self, levels: Sequence[Level]) -> dict[str, Any]:
        """The flip as plain data."""
        return {
            "group": self.group,
            "value": self.value,
            "stays": self.stays,
            "decided": self.decided,
            "best": None if self.best is None else self.best.to_dict(levels),
            "cheaper_open": None if self.cheaper_open is None else self.cheaper_open.to_dict(levels),
            "note": self.note,
        }


def find_flips(
    scenario: Scenario, simulation: Simulation, effort: Effort, rows: Sequence[Row], every: Sequence[Row],
    progress: Progress,
) -> tuple[Flip, ...]:  # fmt: skip
    """The choice under other conditions, among the contenders: the best rows, and cheaper ones that fail as it is.

    HVO and kernel are told from `every`, which was measured already; the other conditions are measured anew, error
    rates from fewer trials.
    """
    best = rows[0] if rows and rows[0].standing == MET else None
    who = contenders(rows, tie_bytes(scenario), simulation.levels)
    at = _Elsewhere(scenario, simulation, effort, who, best, progress)
    return (
        *at.rates(), *at.translated("guest page", "vm.guest_page"), *at.translated("CPU", "host.cpu"),
        *_by_hvo(scenario, every, best), *_by_status(scenario, every, best),
    )  # fmt: skip


def contenders(rows: Sequence[Row], tie: float, levels: Sequence[Level]) -> list[Row]:
    """The policies that could be chosen elsewhere: the best, its runners-up, and those that cost less but fail here.

    Of those that tie with the best and take no spares, only those are looked at that meet some level better than all
    that come before, and so may hold where these fail.

    Args:
        tie: Bytes within which costs are equal.
    """
    met = [row for row in rows if row.standing == MET]
    others = sorted((row for row in rows if row.standing != MET), key=lambda row: row.measured.cost.best)
    if met:
        lowest = met[0].measured.cost.best
        others = [row for row in others if row.measured.cost.best < lowest]
        apart: list[Row] = []
        for row in met:
            tied = row.spares is None and row.measured.cost.best <= lowest + tie
            if not (tied and any(_no_worse(before, row, levels) for before in apart)):
                apart.append(row)
        met = apart
    runner_up = runner_up_of(rows, tie)
    met.sort(key=lambda row: row is not rows[0] and row is not runner_up)  # those that tie leave it its place
    return [*met[:3], *others, *met[3:]][:MOST_CONTENDERS]


def _no_worse(one: Row, other: Row, levels: Sequence[Level]) -> bool:
    """Whether one row is as good as another by every level."""
    values = zip(levels, one.measured.values, other.measured.values, strict=True)
    return all(level.miss(mine) <= level.miss(its) for level, mine, its in values)


@dataclass
class _Elsewhere:
    """Makes the choice anew under other conditions."""

    scenario: Scenario
    simulation: Simulation
    effort: Effort
    who: Sequence[Row]
    best: Row | None
    progress: Progress

    def rates(self) -> list[Flip]:
        """At other error rates; where the choice flips between two of them, at rates in between as well."""
        found = {factor: self._at_rate(factor) for factor in FACTORS}
        if all(flip is None for flip in found.values()):
            return []
        for side in ([1.0, 2.0, 10.0], [1.0, 0.5, 0.1]):
            near, far = side[0], None
            for factor in side[1:]:
                flip = found[factor]
                if flip is not None and not flip.stays:
                    far = factor
                    break
                near = factor
            for _ in range(REFINED if far is not None else 0):
                assert far is not None
                middle = sqrt(near * far)
                flip = found[middle] = self._at_rate(middle)
                near, far = (near, middle) if flip is not None and not flip.stays else (middle, far)
        return [flip for _, flip in sorted(found.items()) if flip is not None]

    def translated(self, group: str, key: str) -> list[Flip]:
        """Under other values of a key that only says what a state costs, without simulating anew."""
        if not any(level.quantity.metric.group == "translation" for level in self.simulation.levels):
            note = "no level is of reach, walks or slowdown"
            return [Flip(group, "any", self.best, stays=True, note=note)] if self.best else []
        table, _, last = key.partition(".")
        own = self.scenario.to_dict()[table].get(last)
        values = [value for value in closed_values(self.scenario, key) if value != own]
        self.progress(f"other values of {key}")
        trials = self.effort.trials[-1]
        runs = self.simulation.simulated([(row.found.choice, trials) for row in self.who])
        flips = []
        for value in values:
            measured = self.simulation.elsewhere(runs, {key: value})
            there = []
            for row, each in zip(self.who, measured, strict=True):
                standings = tuple(
                    level.standing(one) for level, one in zip(self.simulation.levels, each.values, strict=True)
                )
                there.append(replace(row, found=replace(row.found, measured=each, standings=standings)))
            flips.append(self._chosen(group, str(value), there, self.scenario))
        return flips

    def _at_rate(self, factor: float) -> Flip | None:
        """The choice at so many times the error rate; None where there is no such rate."""
        try:
            there = at_rate(self.scenario, factor)
        except ScenarioError:
            return None
        if there == self.scenario:
            return None
        self.progress(f"{factor:.3g} times the error rate")
        simulation = replace(self.simulation, scenario=there, runs=0)
        search = Search(self.simulation.levels, simulation, self._effort_at(there, factor))
        guesses = {row.policy: round(row.spares * factor) for row in self.who if row.spares is not None}
        families = [row.found.choice.family for row in self.who]
        search.run(families, guesses)
        self.simulation.runs += simulation.runs
        policies = self.simulation.policies
        rows = [Row.of(search.found[family], policies[family.policy], simulation) for family in families]
        return self._chosen("error rate", f"×{factor:.3g}", rows, there)

    def _effort_at(self, there: Scenario, factor: float) -> Effort:
        """Fewer trials where each has more errors, but no fewer than tell the levels."""
        plan = plan_run(there, policies=list(self.simulation.policies.values())[:1], seed=self.simulation.seed)
        least = max(level.quantity.trials_needed(plan) for level in self.simulation.levels)
        means = trials_for_means(plan.strata)
        trials = [max(round(n / max(factor, 1)), min(means, n), least) for n in self.effort.trials[:_RATE_STEPS]]
        return replace(self.effort, trials=tuple(dict.fromkeys(trials)))

    def _chosen(self, group: str, value: str, rows: Iterable[Row], scenario: Scenario) -> Flip:
        return _flip(group, value, cheapest_first(rows, scenario), self.best, tie_bytes(scenario))


def at_rate(scenario: Scenario, factor: float) -> Scenario:
    """The scenario with so many times the errors.

    Raises:
        ScenarioError: It cannot have so many.

    Examples:
        >>> at_rate(Scenario(), 0.5).faults.errors
        50
    """
    faults = scenario.faults
    if isinstance(faults, CountFaults):
        return scenario.replace({"faults.errors": round(faults.errors * factor)})
    if isinstance(faults, FieldFaults):
        return scenario.replace({"faults.scale": faults.scale * factor})
    return scenario.replace({"faults.ue_per_tib_year": faults.ue_per_tib_year * factor})


def changes_of_hvo(every: Sequence[Row]) -> dict[str, str]:
    """What the choices do that may cost the host HVO, in words, by the key that says whether it does."""
    words = {"host.hvo_with_hgm": "HGM", "host.hvo_with_keep": "kept poison"}
    keys = {row.hvo_key for row in every}
    return {key: word for key, word in words.items() if key in keys}


def _by_hvo(scenario: Scenario, every: Sequence[Row], best: Row | None) -> list[Flip]:
    """If the host does this with HVO and nothing else: what the scenario says, and each value for all policies."""
    known = [value for value in HVO_CHOICES if any(row.hvo == value for row in every)]
    if len(known) < 2:
        return []
    suiting: dict[str, list[Row]] = {value: [row for row in every if row.suits_hvo(value)] for value in known}
    own = [row for row in every if row.suits(scenario)]
    if own not in suiting.values() and any(row.hvo for row in own):
        suiting = {"as the scenario has it": own, **suiting}
    group = f"HVO with {' and '.join(changes_of_hvo(every).values())}"
    return [
        _flip(group, value, cheapest_first(rows, scenario), best, tie_bytes(scenario))
        for value, rows in suiting.items()
    ]


def _by_status(scenario: Scenario, every: Sequence[Row], best: Row | None) -> list[Flip]:
    """With mechanisms that are no further from mainline Linux."""
    flips = []
    for rank, name in enumerate(("mainline only", "mainline or posted patches")):
        rows = [row for row in every if status_rank(row.status) <= rank]
        if rows:
            flips.append(_flip("kernel", name, cheapest_first(rows, scenario), best, tie_bytes(scenario)))
    return flips


def _flip(group: str, value: str, rows: Sequence[Row], was: Row | None, tie: float) -> Flip:
    """The choice among `rows`; the one that `was` made stays where no other is cheaper by more than a tie."""
    best = rows[0] if rows and rows[0].standing == MET else None
    if best is not None and was is not None:
        most = best.measured.cost.best + tie
        same = (row for row in rows if row.found.choice.family == was.found.choice.family)
        best = next((row for row in same if row.standing == MET and row.measured.cost.best <= most), best)
    dearest = float("inf") if best is None else best.measured.cost.best - tie
    may = next((row for row in rows if row.standing == OPEN and row.measured.cost.best < dearest), None)
    stays = best is was is None or (
        best is not None and was is not None and best.found.choice.family == was.found.choice.family
    )
    decided = stays or may is None or was is None or may.found.choice.family != was.found.choice.family
    return Flip(group, value, best, stays, may, decided=decided)
