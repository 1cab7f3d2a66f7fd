"""`poisonsim.plan`: which policy, how many spares and which HVO meet given service levels, cheapest first."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from poisonsim.errors import FewTrialsHit, ScenarioError, warn
from poisonsim.policy import Policy
from poisonsim.results.conditions import check_trials
from poisonsim.results.enough import few_for_means, trials_for_means
from poisonsim.results.levels import MET, Level, parse_levels
from poisonsim.results.metrics import metrics_for
from poisonsim.results.plan_candidates import Candidates, candidates
from poisonsim.results.plan_flips import Flip, find_flips
from poisonsim.results.plan_folder import PlanFolder
from poisonsim.results.plan_measure import Simulation
from poisonsim.results.plan_rows import Row, cheapest_first, rows_table, runner_up_of, tie_bytes
from poisonsim.results.plan_search import RAISE, Effort, Search
from poisonsim.results.runs import DEFAULT_SEED, scenario_of, trials_of
from poisonsim.results.statistics import Estimate
from poisonsim.scenario import Scenario

MOST_SPARES = 8
"""At most this part of the VM's huge pages is tried as spares, where no number is given."""

FIRST_TRIALS = 10
"""This part of the most trials is simulated at first."""

PlanProgress = Callable[[int, str], None]
"""Called before each round with choices measured so far and what is measured next."""


@dataclass(frozen=True)
class PreparedPlan:
    """A plan that has been checked and not yet been run; made by `prepare_plan`.

    Attributes:
        most_spares: Spares beyond which nothing is tried.
    """

    scenario: Scenario
    levels: tuple[Level, ...]
    candidates: Candidates
    seed: int
    most_spares: int

    @property
    def plan_id(self) -> str:
        """SHA-256 over all that can change an answer but the number of trials."""
        identity = [
            self.candidates.plan.run_id, [level.text for level in self.levels], repr(self.candidates.families),
            self.most_spares,
        ]  # fmt: skip
        return sha256(json.dumps(identity).encode()).hexdigest()

    def effort(self, trials: int | None, threads: int | None = None) -> Effort:
        """Trials at first and at most, and spares.

        Raises:
            ScenarioError: `trials` or `threads` cannot be used.
            MetricError: A level cannot be told from so few trials.
        """
        plan = self.candidates.plan
        most = trials_of(plan, trials, threads)
        for level in self.levels:
            check_trials(level.quantity, plan, most)
        least = max(trials_for_means(plan.strata), *(level.quantity.trials_needed(plan) for level in self.levels))
        steps = [min(max(most // FIRST_TRIALS, least, 1), most)]
        while steps[-1] < most:
            steps.append(min(steps[-1] * RAISE, most))
        return Effort(tuple(steps), self.most_spares, tie_bytes(self.scenario))


@dataclass(frozen=True, repr=False)
class CapacityPlan:
    """What meets the service levels, cheapest first; made by `poisonsim.plan`.

    Attributes:
        rows: The best of each policy: those that meet all levels by cost, then those that may, then those that do not.
        every: Of each policy all parameters and HVO choices, each with the least spares that will do.
        flips: What another error rate, guest page, CPU, HVO or kernel would make of the choice.
        left_out: Why policies were not searched, by name.
        gap: Cost of the runner-up less that of the best, paired trial by trial, bytes; None where there is none.
        n_choices, n_runs: Choices that were measured, every number of spares that was tried being one, and simulations
            that took.
        evacuate: Policies of `rows` that may evacuate to the scenario's `host.spare_hosts`, which no cost holds.
    """

    scenario: Scenario
    levels: tuple[Level, ...]
    seed: int
    rows: tuple[Row, ...]
    every: tuple[Row, ...]
    flips: tuple[Flip, ...]
    left_out: Mapping[str, str]
    gap: Estimate | None
    n_choices: int
    n_runs: int
    evacuate: tuple[str, ...]

    @property
    def best(self) -> Row | None:
        """The cheapest choice that clearly meets all levels; None where none does."""
        return self.rows[0] if self.rows and self.rows[0].standing == MET else None

    @property
    def alike(self) -> tuple[Row, ...]:
        """Other policies that meet all levels and cost the same as the best, to within `tie_bytes`."""
        if self.best is None:
            return ()
        most = self.best.measured.cost.best + tie_bytes(self.scenario)
        return tuple(row for row in self.rows[1:] if row.standing == MET and row.measured.cost.best <= most)

    @property
    def runner_up(self) -> Row | None:
        """The cheapest choice of another policy that meets all levels and is not `alike`; None where none does."""
        return runner_up_of(self.rows, tie_bytes(self.scenario))

    def table(self) -> pd.DataFrame:
        """A row per policy, in the order of `rows`.

        Returns:
            Columns policy, spec (as `--policy` takes it), status, spares, hvo (what becomes of it), standing (met, open
            or failed), cost_bytes, cost_low, cost_high, slowdown, trials, then for each level its value, low, high and
            standing.
        """
        return rows_table(self.rows, self.levels)

    def choices(self) -> pd.DataFrame:
        """As `table`, a row per policy, parameters and HVO choice, each with the least spares that will do."""
        return rows_table(self.every, self.levels)

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain data: what `--json` prints."""
        return {
            "schema": "poisonsim.plan/1",
            "scenario": self.scenario.to_dict(),
            "seed": self.seed,
            "levels": [level.text for level in self.levels],
            "best": None if self.best is None else self.best.to_dict(self.levels),
            "alike": [row.spec for row in self.alike],
            "runner_up": None if self.runner_up is None else self.runner_up.to_dict(self.levels),
            "runner_up_costs_more_bytes": None
            if self.gap is None
            else {"low": self.gap.low, "best": self.gap.best, "high": self.gap.high},
            "policies": [row.to_dict(self.levels) for row in self.rows],
            "choices": [row.to_dict(self.levels) for row in self.every],
            "flips": [flip.to_dict(self.levels) for flip in self.flips],
            "left_out": dict(self.left_out),
            "n_choices": self.n_choices,
            "n_runs": self.n_runs,
            "cost_leaves_out_spare_hosts_of": list(self.evacuate),
        }

    def __repr__(self) -> str:
        best = "nothing meets all levels" if self.best is None else self.best.text
        n = len(self.levels)
        return f"<poisonsim plan: {best}; {n} level{'' if n == 1 else 's'}, {self.n_choices} choices measured>"


def plan(
    scenario: Scenario | str | Path,
    *,
    levels: Sequence[str],
    policies: Iterable[str | Policy | type[Policy]] | None = None,
    hvo: Iterable[str] | None = None,
    spares: int | None = None,
    most_spares: int | None = None,
    trials: int | None = None,
    seed: int = DEFAULT_SEED,
    threads: int | None = None,
    executor: Executor | None = None,
    progress: PlanProgress | None = None,
    out: str | Path | None = None,
    flips: bool = True,
) -> CapacityPlan:
    """Which policies meet service levels, with how many spares and which HVO choice, cheapest first.

    All choices see the same errors. Trials are raised only where the interval of a level spans its bound, up to
    `trials`, and a choice that then still does is called open; the best and the runner-up are confirmed by all of them.
    The cost is the mean `capacity_cost_bytes` at the end of
    the horizon: page tables, vmemmap, lost memory and the spares that are still held. Hosts kept to evacuate to are not
    in it.

    Args:
        scenario: A scenario, or the name or path of one.
        levels: What must hold at the end of the horizon, such as `"vm_lost per year <= 0.1%"`,
            `"p99(slowdown) < 1.01"` or `"capacity_cost_bytes <= 0.5% of memory"`.
        policies: What to choose from; default all that are shipped or installed and that the host can run.
        hvo: What may become of HVO, values of `host.hvo_with_hgm` (and of `host.hvo_with_keep`) to choose from; default
            all.
        spares: Spares of every policy, not searched.
        most_spares: Spares beyond which nothing is tried; default an eighth of the VM's huge pages.
        trials: Most VM lifetimes of a choice; default as many as let about 20,000 VMs see an error.
        seed: Same seed, same answer, whatever the number of threads.
        threads: Worker threads; default one per core.
        executor: Any `concurrent.futures.Executor` to use instead of threads.
        progress: Called before each round; see `PlanProgress`.
        out: Folder to keep what is simulated, and to go on from where it holds some of this plan already.
        flips: Whether to look for what would flip the choice.

    Raises:
        ScenarioError: The scenario, or an argument, cannot be used.
        PolicyError: A policy cannot be used.
        MetricError: A level means nothing, can never fail or be met, contradicts another, or needs more trials.
        RunFolderError: `out` cannot be written, or holds something else.

    Examples:
        >>> import poisonsim as ps
        >>> found = ps.plan(
        ...     "seed-1t-distinct", levels=["guest_lost_bytes <= 1MiB", "capacity_cost_bytes <= 3GiB"],
        ...     policies=["unmap1g", "hgm4k", "hgm2m"], hvo=["off-where-split"], trials=1000, flips=False,
        ... )
        >>> print(found.best.text, "costs", round(found.best.measured.cost.best / (1 << 20)), "MiB")
        hgm2m with host.hvo_with_hgm=off-where-split costs 1602 MiB
        >>> found.runner_up.policy, [row.policy for row in found.rows if row.standing == "failed"]
        ('hgm4k', ['unmap1g'])
    """
    prepared = prepare_plan(
        scenario, levels=levels, policies=policies, hvo=hvo, spares=spares, most_spares=most_spares, seed=seed
    )
    return execute_plan(
        prepared, trials=trials, threads=threads, executor=executor, progress=progress, out=out, flips=flips
    )


def prepare_plan(
    scenario: Scenario | str | Path,
    *,
    levels: Sequence[str],
    policies: Iterable[str | Policy | type[Policy]] | None = None,
    hvo: Iterable[str] | None = None,
    hold_hvo: bool = False,
    spares: int | None = None,
    most_spares: int | None = None,
    seed: int = DEFAULT_SEED,
) -> PreparedPlan:
    """What `plan` would search, checked.

    Args:
        hold_hvo: Take what the scenario says becomes of HVO, and choose nothing.

    Raises:
        ScenarioError, PolicyError, MetricError: As `plan`.
    """
    scenario = scenario_of(scenario)
    for name, value in {"spares": spares, "most_spares": most_spares}.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 65536):
            raise ScenarioError(f"{name} = {value!r} is not a whole number from 0 to 65536")
    if spares not in (None, scenario.host.spares):
        scenario = scenario.replace({"host.spares": spares})
    found = candidates(scenario, policies, hvo=hvo, hold_hvo=hold_hvo, search_spares=spares is None, seed=seed)
    parsed = parse_levels(levels, metrics_for(found.plan.ladder.sizes))
    most = max(min(scenario.vm.n_regions // MOST_SPARES, 65536), 1) if most_spares is None else most_spares
    return PreparedPlan(scenario, parsed, found, seed, most)


def execute_plan(
    prepared: PreparedPlan,
    *,
    trials: int | None = None,
    threads: int | None = None,
    executor: Executor | None = None,
    progress: PlanProgress | None = None,
    out: str | Path | None = None,
    flips: bool = True,
    command: str = "",
) -> CapacityPlan:
    """As `plan`, for what `prepare_plan` has checked.

    Args:
        command: How to make this plan again, kept in its folder.

    Raises:
        ScenarioError: `trials` or `threads` cannot be used.
        MetricError: A level needs more trials.
        RunFolderError: `out` cannot be written, or holds something else.
    """
    effort = prepared.effort(trials, threads)
    if few := few_for_means(prepared.candidates.plan.strata, effort.trials[-1]):
        warn(few, FewTrialsHit)
    if out is None:
        return _searched(prepared, effort, threads, executor, progress, None, flips, command)
    levels = tuple(level.text for level in prepared.levels)
    folder = PlanFolder(Path(out), prepared.plan_id, levels, effort.trials[-1], command)
    with folder.claimed():
        folder.begin()
        answer = _searched(prepared, effort, threads, executor, progress, folder.path, flips, command)
        folder.finish(answer)
    return answer


def _searched(
    prepared: PreparedPlan,
    effort: Effort,
    threads: int | None,
    executor: Executor | None,
    progress: PlanProgress | None,
    folder: Path | None,
    flips: bool,
    command: str,
) -> CapacityPlan:
    """The plan, with every run kept in a folder."""
    chosen = prepared.candidates
    simulation = Simulation(
        prepared.scenario, chosen.policies, prepared.levels, prepared.seed, threads, executor, folder, command
    )
    search = Search(prepared.levels, simulation, effort, progress or (lambda n, what: None))
    first = list({family.policy: family for family in reversed(chosen.families)}.values())[::-1]
    search.run(first)
    guesses = {
        family.policy: found.choice.spares for family, found in search.found.items() if found.choice.spares is not None
    }
    search.run([family for family in chosen.families if family not in search.found], guesses)
    every, rows = _ranked(prepared, search, simulation)
    while unsure := [
        row
        for row in (*rows[:1], runner_up_of(rows, tie_bytes(prepared.scenario)))
        if row is not None and row.standing == MET and row.measured.trials < effort.trials[-1]
    ]:
        for row in unsure:
            search.confirm(row.found.choice.family)
        every, rows = _ranked(prepared, search, simulation)
    turned: tuple[Flip, ...] = ()
    if flips:

        def tell(what: str) -> None:
            search.progress(len(search.points), what)

        turned = find_flips(prepared.scenario, simulation, effort, rows, every, tell)
    answer = CapacityPlan(
        prepared.scenario, prepared.levels, prepared.seed, rows, every, turned, chosen.left_out, None,
        len(search.points), simulation.runs, _evacuating(rows, chosen),
    )  # fmt: skip
    if answer.best is not None and answer.runner_up is not None:
        mine, theirs = answer.runner_up.found, answer.best.found
        least = min(mine.measured.trials, theirs.measured.trials)
        gap = simulation.difference(mine.choice, theirs.choice, least)
        answer = replace(answer, gap=gap, n_runs=simulation.runs)
    return answer


def _ranked(prepared: PreparedPlan, search: Search, simulation: Simulation) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """Every choice found, and the best of each policy."""
    chosen = prepared.candidates
    every = tuple(
        Row.of(search.found[family], chosen.policies[family.policy], simulation) for family in chosen.families
    )
    return every, cheapest_first(every, prepared.scenario)


def _evacuating(rows: Sequence[Row], chosen: Candidates) -> tuple[str, ...]:
    """Policies of rows that may evacuate the VM, in their order."""
    can = {policy for policy, compiled in zip(chosen.policies, chosen.plan.policies, strict=True) if compiled.evacuates}
    return tuple(row.policy for row in rows if row.policy in can)
