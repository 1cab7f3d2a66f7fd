"""`poisonsim.sweep`: the same policies, seed and number of trials at every point of a grid of scenario values."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import pandas as pd

from poisonsim.engine.merge import Tally
from poisonsim.engine.plan import Plan
from poisonsim.engine.state import ERRORS
from poisonsim.errors import PoisonsimError, PolicyError, ScenarioError
from poisonsim.faults.arrivals import arrivals_of
from poisonsim.policy import Policy, load_policies
from poisonsim.results.result import Result
from poisonsim.results.runs import DEFAULT_SEED, execute, plan_run, policies_of, scenario_of, trials_of
from poisonsim.results.statistics import TAIL_TRIALS
from poisonsim.results.sweep_grid import Settings, places, settings_text, spelled, values_of
from poisonsim.scenario import Scenario

if TYPE_CHECKING:
    from concurrent.futures import Executor

VALUED_KEYS = frozenset({
    "host.cpu", "vm.guest_page",
    "workload.access", "workload.alpha", "workload.over", "workload.hot", "workload.share",
    "workload.cycles_per_access", "workload.accesses_per_page_visit",
    "workload.smt_threads",
})  # fmt: skip
"""Keys that say what a state costs, not which states there are: points that differ in no other are simulated once."""

SAME_ERRORS_KEYS = VALUED_KEYS | {
    "host.free_memory", "host.hgm", "host.hvo", "host.hvo_with_hgm", "host.hvo_with_keep", "host.kernel_reads",
    "host.mapping", "host.page_tables", "host.pinned", "host.replenish", "host.spare_rows", "host.spares",
    "host.table_lock", "horizon.grid", "vm.on_loss", "vm.unmovable", "vm.unrecoverable", "vm.unretired", "vm.vcpus",
}  # fmt: skip
"""Keys that leave every history of errors as it is."""


class PlannedPoint(NamedTuple):
    """A point of the grid, checked."""

    settings: Settings
    plan: Plan


class SweepPoint(NamedTuple):
    """A point of the grid: the value of each swept key there, and the result."""

    settings: Settings
    result: Result


SweepProgress: TypeAlias = Callable[[int, int, PlannedPoint, Callable[[], Tally]], None]
"""Called after each block with trials done, trials wanted in all, the point, and a function that gives its tally."""


@dataclass(frozen=True)
class SweepPlan:
    """A sweep that has been checked and not yet been run; made by `plan_sweep`.

    Attributes:
        scenario: What is the same at every point, and the swept keys as they were.
        over: Values of each swept key.
        points: Every point, the last key changing fastest.
    """

    scenario: Scenario
    over: Mapping[str, tuple[object, ...]]
    points: tuple[PlannedPoint, ...]


@dataclass(frozen=True, repr=False)
class Sweep:
    """Everything a sweep found; made by `poisonsim.sweep`.

    Attributes:
        scenario: What is the same at every point, and the swept keys as they were.
        over: Values of each swept key.
        points: `(settings, result)` of every point, the last key changing fastest.

    Examples:
        >>> import poisonsim as ps
        >>> found = ps.sweep("seed-1t-distinct", over={"host.spares": [0, 4]}, policies=["migrate1g"], trials=1000)
        >>> for settings, result in found.points:
        ...     print(settings, result.distribution("migrate1g", "spares_used").mean())
        {'host.spares': 0} 0
        {'host.spares': 4} 4
    """

    scenario: Scenario
    over: Mapping[str, tuple[object, ...]]
    points: tuple[SweepPoint, ...]

    @property
    def policies(self) -> tuple[str, ...]:
        """Labels of the policies, in the order they were asked for."""
        return self.points[0].result.policies

    def summary(self) -> pd.DataFrame:
        """One row per point, policy, metric and year.

        Returns:
            A column for each swept key, then those of `Result.summary()`: policy, metric, unit, year, mean, mean_low,
            mean_high, p50, p95, p99, p99_low, p99_high. A value that is a table is text, as in TOML.

        Examples:
            >>> import poisonsim as ps
            >>> over = {"host.hvo_with_hgm": ["off-everywhere", "off-where-split", "kept"]}
            >>> frame = ps.sweep("seed-1t-distinct", over=over, policies=["hgm2m"], trials=1000).summary()
            >>> at_end = frame.query("metric == 'vmemmap_bytes' and year == 5")
            >>> [int(mean) for mean in at_end["mean"]]
            [17142120448, 1677312000, 0]
        """
        frames = []
        for settings, result in self.points:
            frame = result.summary()
            for place, (key, value) in enumerate(settings.items()):
                frame.insert(place, key, spelled(value) if isinstance(value, Mapping) else value)
            frames.append(frame)
        return pd.concat(frames, ignore_index=True)

    def to_dict(self) -> dict[str, Any]:
        """The sweep as plain data: what `--json` prints."""
        records = [
            {key: None if isinstance(value, float) and isnan(value) else value for key, value in row.items()}
            for row in self.summary().to_dict("records")
        ]
        return {
            "schema": "poisonsim.sweep/1",
            "scenario": self.scenario.to_dict(),
            "over": {key: list(values) for key, values in self.over.items()},
            "policies": list(self.policies),
            "seed": self.points[0].result.plan.seed,
            "points": [{"settings": dict(settings), "trials": result.n_trials} for settings, result in self.points],
            "summary": records,
        }

    def __repr__(self) -> str:
        return f"<poisonsim sweep: {len(self.points)} points over {', '.join(self.over)}; {', '.join(self.policies)}>"


def sweep(
    scenario: Scenario | str | Path,
    *,
    over: Mapping[str, Iterable[object] | None],
    policies: Iterable[str | Policy | type[Policy]],
    trials: int | None = None,
    seed: int = DEFAULT_SEED,
    threads: int | None = None,
    executor: Executor | None = None,
    progress: SweepProgress | None = None,
) -> Sweep:
    """Simulates each policy at every point of a grid of scenario values, all with the same seed.

    Points that differ in none but `VALUED_KEYS`, such as `host.cpu`, are simulated once. No run folder is
    written.

    Args:
        scenario: A scenario, or the name or path of one.
        over: Values of each dotted key, as `--set` takes them; None for all of a key with a closed set of values.
        policies: Names (`"hgm2m"`, `"migrate1g:spares=8"`), files (`"./mine.py"`), classes or instances.
        trials: VM lifetimes at each point; default as many as let about 20,000 VMs see an error there.
        seed: Same seed, same result, whatever the number of threads; that of every point.
        threads: Worker threads; default one per core.
        executor: Any `concurrent.futures.Executor` to use instead of threads.
        progress: Called after each block; see `SweepProgress`.

    Raises:
        ScenarioError: The scenario, a key, a value at some point, or an argument cannot be used; or the grid has more
            than 400 points.
        PolicyError: All problems of all policies at all points, before any trial runs.

    Examples:
        >>> import poisonsim as ps
        >>> found = ps.sweep("seed-1t", over={"host.hvo_with_hgm": None}, policies=["hgm2m"], trials=1000)
        >>> for settings, result in found.points:
        ...     print(settings["host.hvo_with_hgm"], result.distribution("hgm2m", "vmemmap_bytes").mean().best > 0)
        off-everywhere True
        off-where-split True
        kept False
    """
    plan = plan_sweep(scenario, over=over, policies=policies, seed=seed)
    return execute_sweep(plan, trials=trials, threads=threads, executor=executor, progress=progress)


def plan_sweep(
    scenario: Scenario | str | Path,
    *,
    over: Mapping[str, Iterable[object] | None],
    policies: Iterable[str | Policy | type[Policy]],
    seed: int = DEFAULT_SEED,
) -> SweepPlan:
    """The checked points that `sweep` would simulate.

    Raises:
        ScenarioError, PolicyError: As `sweep`.
    """
    scenario = scenario_of(scenario)
    values = values_of(scenario, over)
    loaded = load_policies(policies_of(policies))
    points: list[PlannedPoint] = []
    grid: list[Settings] = [dict(zip(values, point, strict=True)) for point in product(*values.values())]
    refused: dict[type[PoisonsimError], dict[str, list[Settings]]] = {ScenarioError: {}, PolicyError: {}}
    for settings in grid:
        try:
            at_point = scenario.replace(settings)
        except ScenarioError as error:
            for problem in error.problems:
                where = "--over " if problem.partition(":")[0] in settings else ""
                refused[ScenarioError].setdefault(f"{where}{problem}", []).append(settings)
            continue
        try:
            points.append(PlannedPoint(settings, plan_run(at_point, policies=loaded, seed=seed)))
        except PolicyError as error:
            for problem in error.problems:
                refused[PolicyError].setdefault(problem, []).append(settings)
    for kind, problems in refused.items():
        if problems:
            raise kind([f"{problem}; {places(at, len(grid))}" for problem, at in problems.items()])
    return SweepPlan(scenario, values, tuple(points))


def execute_sweep(
    plan: SweepPlan,
    *,
    trials: int | None = None,
    threads: int | None = None,
    executor: Executor | None = None,
    progress: SweepProgress | None = None,
) -> Sweep:
    """As `sweep`, for points that `plan_sweep` has checked.

    Raises:
        ScenarioError: `trials` or `threads` cannot be used.
    """
    keys = [_states_key(point.plan) for point in plan.points]
    distinct = dict(zip(reversed(keys), reversed(plan.points), strict=True))  # the first point of each key stays
    wanted = {}
    for key in dict.fromkeys(keys):
        with _told_where(distinct[key].settings):
            wanted[key] = trials_of(distinct[key].plan, trials, threads)
    total, before = sum(wanted.values()), 0
    tallies: dict[str, Tally] = {}
    for key, n_trials in wanted.items():
        point = distinct[key]

        def show(
            done: int, _: int, tally: Callable[[], Tally], before: int = before, point: PlannedPoint = point
        ) -> None:
            if progress is not None:
                progress(before + done, total, point, tally)

        with _told_where(point.settings):
            found = execute(point.plan, trials=n_trials, threads=threads, executor=executor, progress=show)
        tallies[key], before = found.tally, before + n_trials
    points = (
        SweepPoint(settings, Result(run, tallies[key])) for key, (settings, run) in zip(keys, plan.points, strict=True)
    )
    return Sweep(plan.scenario, plan.over, tuple(points))


def clearly_lowest(result: Result, metric: str, year: float | None = None) -> tuple[str, ...]:
    """Policies whose mean of a metric is lower than that of all others, paired trial by trial, at 95 % each.

    Those that never differ are lowest together. None where a difference is not clear, or fewer than 10 trials saw a UE.

    Examples:
        >>> import poisonsim as ps
        >>> res = ps.run("seed-1t-distinct", policies=["unmap1g", "hgm4k", "hgm2m"], trials=1000)
        >>> clearly_lowest(res, "guest_lost_bytes"), clearly_lowest(res, "capacity_cost_bytes")
        (('hgm4k', 'hgm2m'), ('hgm2m',))
    """
    errors = result.tally.states[0][:, ERRORS] > 0
    n_hit = int(result.tally.counts[0][errors, -1].sum())
    if arrivals_of(result.plan.scenario).mean > 0 and n_hit < TAIL_TRIALS:
        return ()
    lowest = min(result.policies, key=lambda policy: result.distribution(policy, metric, year).mean().best)
    together = {lowest}
    for other in set(result.policies) - together:
        difference = result.compare(other, to=lowest).differences(metric, year).mean()
        if difference.low == difference.high == 0:
            together.add(other)
        elif difference.low <= 0:
            return ()
    return tuple(policy for policy in result.policies if policy in together)


def _states_key(plan: Plan) -> str:
    """All that the states of trials depend on."""
    tables = plan.scenario.to_dict()
    del tables["title"]
    for key in VALUED_KEYS:
        table, _, last = key.partition(".")
        tables[table].pop(last, None)
    return json.dumps([tables, [[policy.label, policy.digest] for policy in plan.policies], plan.seed], sort_keys=True)


@contextmanager
def _told_where(settings: Settings) -> Iterator[None]:
    """Adds the point to errors that show only there."""
    try:
        yield
    except (ScenarioError, PolicyError) as error:
        raise type(error)([f"{problem}; at {settings_text(settings)}" for problem in error.problems]) from None
