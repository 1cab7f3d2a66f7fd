"""Measures the choices of a plan by simulation: those that share a scenario in one run, on the same errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from poisonsim.engine.merge import Tally
from poisonsim.engine.plan import Plan
from poisonsim.engine.run import simulate_plan
from poisonsim.engine.store import write_json
from poisonsim.policy import Policy
from poisonsim.results.compare_runs import compare
from poisonsim.results.levels import Level
from poisonsim.results.plan_search import Choice, Measured, Request
from poisonsim.results.result import Result
from poisonsim.results.runs import manifest_of, plan_run
from poisonsim.results.statistics import Estimate
from poisonsim.results.sweep_grid import Settings, at_point
from poisonsim.scenario import Scenario


class Run(NamedTuple):
    """A choice in the run that it was simulated in."""

    result: Result
    label: str


@dataclass
class Simulation:
    """A `Measure` that simulates.

    Attributes:
        scenario: What is the same for every choice, and the searched keys as they were.
        policies: Those that families name, by label.
        levels: Whose quantities are measured.
        folder: Where blocks are kept, and read if they are there.
        command: Kept in each run folder.
        runs: Runs made so far.

    Examples:
        >>> from poisonsim.policy import load_policy
        >>> from poisonsim.results.plan_search import Family
        >>> simulation = Simulation(Scenario(), {"migrate1g": load_policy("migrate1g")}, (), seed=1)
        >>> [measured] = simulation([(Choice(Family("migrate1g", takes_spares=True), 200), 500)])
        >>> round(measured.cost.best / (1 << 30), 2)
        200.0
    """

    scenario: Scenario
    policies: Mapping[str, Policy]
    levels: tuple[Level, ...]
    seed: int
    threads: int | None = None
    executor: Executor | None = None
    folder: Path | None = None
    command: str = ""
    runs: int = 0

    def __call__(self, requests: Sequence[Request]) -> list[Measured]:
        """What each choice does, from as many trials as it is wanted from."""
        return [self.measured(*run) for run in self.simulated(requests)]

    def simulated(self, requests: Sequence[Request]) -> list[Run]:
        """The runs that choices are in; those with the same scenario and trials share one."""
        lots: dict[tuple[Scenario, int], dict[Choice, Policy]] = {}
        for choice, trials in requests:
            scenario, policy = self.realised(choice)
            lots.setdefault((scenario, trials), {})[choice] = policy
        found: dict[Request, Run] = {}
        for (scenario, trials), chosen in lots.items():
            plan = plan_run(scenario, policies=chosen.values(), seed=self.seed)
            result = at_end(self._run(plan, trials))
            for choice, policy in chosen.items():
                found[choice, trials] = Run(result, policy.label)
        return [found[request] for request in requests]

    def measured(self, result: Result, label: str) -> Measured:
        """What a policy of a run does."""
        values = tuple(level.quantity.of(result, label) for level in self.levels)
        cost, slowdown = result.mean(label, "capacity_cost_bytes"), result.mean(label, "slowdown")
        return Measured(values, cost, slowdown, result.n_trials)

    def realised(self, choice: Choice) -> tuple[Scenario, Policy]:
        """The scenario and the policy that a choice stands for."""
        settings, given = self.settings_of(choice)
        [policy] = at_point([self.policies[choice.family.policy]], given)
        return _replaced(self.scenario, tuple(settings.items())), policy

    def settings_of(self, choice: Choice) -> tuple[Settings, Settings]:
        """Keys of the scenario that a choice sets, and parameters of its policy as `policy:parameter`."""
        family, spares = choice
        policy = self.policies[family.policy]
        settings: dict[str, object] = {} if family.hvo is None else {family.hvo_key: family.hvo}
        given: dict[str, object] = {f"{policy.name}:{name}": value for name, value in family.params}
        if spares is not None:
            if type(policy).takes_spares():
                given[f"{policy.name}:spares"] = spares
            else:  # only a restart of a lost VM takes them
                settings["host.spares"] = spares
        return settings, given

    def difference(self, a: Choice, b: Choice, trials: int) -> Estimate:
        """Mean host memory cost of `a` less that of `b`, paired trial by trial."""
        plans = []
        for choice in (a, b):
            scenario, policy = self.realised(choice)
            plans.append(plan_run(scenario, policies=[policy], seed=self.seed))
        mine, theirs = (self._run(plan, trials) for plan in plans)
        both = compare(mine, theirs, policy=plans[0].labels[0], to=plans[1].labels[0])
        return both.difference("capacity_cost_bytes")

    def elsewhere(self, runs: Sequence[Run], settings: Settings) -> list[Measured]:
        """What choices do under other values of keys that change no state, without simulating them again."""
        valued: dict[int, Result] = {}
        for run in runs:
            if id(run.result) not in valued:
                plan = run.result.plan
                valued[id(run.result)] = Result(
                    replace(plan, scenario=plan.scenario.replace(settings)), run.result.tally
                )
        return [self.measured(valued[id(run.result)], run.label) for run in runs]

    def _run(self, plan: Plan, trials: int) -> Result:
        self.runs += 1
        # A run of more trials has a folder of its own: it would write over the last block of one that has fewer.
        folder = None if self.folder is None else self.folder / "points" / f"{plan.run_id[:12]}-{trials}"
        if folder is not None:
            write_json(folder / "run.json", manifest_of(plan, trials, self.command))
        tally = simulate_plan(plan, trials=trials, threads=self.threads, executor=self.executor, folder=folder)
        return Result(plan, tally)


@lru_cache(maxsize=64)
def _replaced(scenario: Scenario, settings: tuple[tuple[str, object], ...]) -> Scenario:
    """`Scenario.replace`, which checks every key, once for all choices that set the same."""
    return scenario.replace(dict(settings)) if settings else scenario


def at_end(result: Result) -> Result:
    """The result without states that no trial is in at the end, so that they need not be valued; for the end only."""
    tally = result.tally
    kept = [(counts[:, 0] > 0) | (counts[:, -1] > 0) for counts in tally.counts]  # at the beginning strata are counted
    states, counts = (
        tuple(rows[keep] for rows, keep in zip(each, kept, strict=True)) for each in (tally.states, tally.counts)
    )
    return Result(result.plan, Tally(tally.n_trials, states, counts, (), ()))
