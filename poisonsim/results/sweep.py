"""`poisonsim.sweep`: the same policies, seed and number of trials at every point of a grid of scenario values."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import product
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import pandas as pd

from poisonsim.engine.merge import Tally
from poisonsim.engine.plan import Plan
from poisonsim.errors import PoisonsimError, PolicyError, RunFolderError, RunFolderNotice, ScenarioError
from poisonsim.policy import Policy, load_policies
from poisonsim.results.result import Result
from poisonsim.results.runs import DEFAULT_SEED, execute, open_run, plan_run, policies_of, scenario_of, trials_of
from poisonsim.results.sweep_folder import SweepFolder
from poisonsim.results.sweep_grid import Settings, at_point, is_parameter, places, settings_text, spelled, values_of
from poisonsim.scenario import Scenario

if TYPE_CHECKING:
    from concurrent.futures import Executor

VALUED_KEYS = frozenset({
    "host.cpu", "vm.guest_page",
    "workload.access", "workload.alpha", "workload.over", "workload.hot", "workload.share",
    "workload.cycles_per_access", "workload.accesses_per_page_visit",
    "workload.smt_threads", "workload.virtualised",
})  # fmt: skip
"""Keys that say what a state costs, not which states there are: points that differ in no other are simulated once."""

SAME_ERRORS_KEYS = VALUED_KEYS | {
    "host.costs", "host.free_memory", "host.hgm", "host.hvo", "host.hvo_with_hgm", "host.hvo_with_keep",
    "host.kernel_reads", "host.mapping", "host.page_tables", "host.pinned", "host.replenish", "host.spare_rows",
    "host.spares", "host.stage2_contiguous", "host.table_lock", "horizon.grid", "vm.on_loss", "vm.unmovable",
    "vm.unrecoverable", "vm.unretired", "vm.vcpus",
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
        policies: Labels of the policies as they were asked for, without swept parameters.
    """

    scenario: Scenario
    over: Mapping[str, tuple[object, ...]]
    points: tuple[PlannedPoint, ...]
    policies: tuple[str, ...]

    @property
    def sweep_id(self) -> str:
        """SHA-256 over all that can change a result at any point; trials, threads and progress are not in it."""
        identity = [[settings_text(settings), plan.run_id] for settings, plan in self.points]
        return sha256(json.dumps(identity).encode()).hexdigest()


@dataclass(frozen=True, repr=False)
class Sweep:
    """Everything a sweep found; made by `poisonsim.sweep`.

    Attributes:
        scenario: What is the same at every point, and the swept keys as they were.
        over: Values of each swept key.
        points: `(settings, result)` of every point, the last key changing fastest.
        policies: Labels of the policies as they were asked for. Where a parameter is swept, a result's own labels have
            its value; they come in the same order.

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
    policies: tuple[str, ...]

    def summary(self) -> pd.DataFrame:
        """One row per point, policy, metric and year.

        Returns:
            A column for each swept key, then those of `Result.summary()`: policy, metric, unit, year, mean, mean_low,
            mean_high, p50, p95, p99, p99_low, p99_high. A value that is a table is text, as in TOML.
            Policies are called what they are in `policies`.

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
            frame["policy"] = frame["policy"].map(dict(zip(result.policies, self.policies, strict=True)))
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
    out: str | Path | None = None,
) -> Sweep:
    """Simulates each policy at every point of a grid of scenario values, all with the same seed.

    Points that differ in none but `VALUED_KEYS`, such as `host.cpu`, are simulated once.

    Args:
        scenario: A scenario, or the name or path of one.
        over: Values of each dotted key, as `--set` takes them, or of a policy's parameter, such as
            `"migrate1g:spares"`; None for all of a key with a closed set of values.
        policies: Names (`"hgm2m"`, `"migrate1g:spares=8"`), files (`"./mine.py"`), classes or instances.
        trials: VM lifetimes at each point; default as many as let about 20,000 VMs see an error there.
        seed: Same seed, same result, whatever the number of threads; that of every point.
        threads: Worker threads; default one per core.
        executor: Any `concurrent.futures.Executor` to use instead of threads.
        progress: Called after each block; see `SweepProgress`.
        out: Sweep folder to write, and to continue where it holds points of this sweep already: a run folder per
            simulated point, and `sweep.csv`, the summary.

    Raises:
        RunFolderError: `out` cannot be written, or holds another sweep.
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
    return execute_sweep(plan, trials=trials, threads=threads, executor=executor, progress=progress, out=out)


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
    loaded = load_policies(policies_of(policies))
    values = values_of(scenario, over, loaded)
    points: list[PlannedPoint] = []
    grid: list[Settings] = [dict(zip(values, point, strict=True)) for point in product(*values.values())]
    refused: dict[type[PoisonsimError], dict[str, list[Settings]]] = {ScenarioError: {}, PolicyError: {}}
    for settings in grid:
        try:
            there = scenario.replace({key: value for key, value in settings.items() if not is_parameter(key)})
        except ScenarioError as error:
            for problem in error.problems:
                where = "--over " if problem.partition(":")[0] in settings else ""
                refused[ScenarioError].setdefault(f"{where}{problem}", []).append(settings)
            continue
        try:
            points.append(PlannedPoint(settings, plan_run(there, policies=at_point(loaded, settings), seed=seed)))
        except PolicyError as error:
            for problem in error.problems:
                refused[PolicyError].setdefault(problem, []).append(settings)
    for kind, problems in refused.items():
        if problems:
            raise kind([f"{problem}; {places(at, len(grid))}" for problem, at in problems.items()])
    return SweepPlan(scenario, values, tuple(points), tuple(policy.label for policy in loaded))


def execute_sweep(
    plan: SweepPlan,
    *,
    trials: int | None = None,
    threads: int | None = None,
    executor: Executor | None = None,
    progress: SweepProgress | None = None,
    out: str | Path | None = None,
    command: str = "",
) -> Sweep:
    """As `sweep`, for points that `plan_sweep` has checked.

    Args:
        command: How to make this sweep again, kept in its folder and in the run folders of its points.

    Raises:
        ScenarioError: `trials` or `threads` cannot be used.
        RunFolderError: `out` cannot be written, or holds another sweep.
    """
    keys = [_states_key(point.plan) for point in plan.points]
    distinct = dict(zip(reversed(keys), reversed(plan.points), strict=True))  # the first point of each key stays
    wanted = {}
    for key in dict.fromkeys(keys):
        with _told_where(distinct[key].settings):
            wanted[key] = trials_of(distinct[key].plan, trials, threads)
    folder = None if out is None else SweepFolder(Path(out))
    with ExitStack() as held:
        manifest: dict[str, Any] = {}
        if folder is not None:
            held.enter_context(folder.claimed(plan))
            runs = [(distinct[key].plan.run_id, wanted[key]) for key in keys]
            manifest = folder.manifest_of(plan, runs, command)
            folder.begin(manifest)
        results = _simulated(distinct, wanted, threads, executor, progress, folder, command)
        points = [
            SweepPoint(settings, results[key] if run is distinct[key].plan else Result(run, results[key].tally))
            for key, (settings, run) in zip(keys, plan.points, strict=True)
        ]
        found = Sweep(plan.scenario, plan.over, tuple(points), plan.policies)
        if folder is not None:
            folder.finish(manifest, found.summary())
    return found


def _simulated(
    distinct: Mapping[str, PlannedPoint],
    wanted: Mapping[str, int],
    threads: int | None,
    executor: Executor | None,
    progress: SweepProgress | None,
    folder: SweepFolder | None,
    command: str,
) -> dict[str, Result]:
    """The result of each distinct point, one after the other."""
    total, before = sum(wanted.values()), 0
    results: dict[str, Result] = {}
    for key, n_trials in wanted.items():
        point = distinct[key]

        def show(
            done: int, _: int, tally: Callable[[], Tally], before: int = before, point: PlannedPoint = point
        ) -> None:
            if progress is not None:
                progress(before + done, total, point, tally)

        with _told_where(point.settings), warnings.catch_warnings():
            # The sweep says it once of all its points.
            warnings.filterwarnings("ignore", ".* trials of this run and keeps them", RunFolderNotice)
            results[key] = execute(
                point.plan, trials=n_trials, threads=threads, executor=executor, progress=show,
                out=None if folder is None else folder.point(point.plan.run_id), command=lambda _: command,
            )  # fmt: skip
        before += n_trials
    return results


def open_sweep(folder: str | Path) -> Sweep:
    """The sweep in a folder that `sweep(..., out=…)` or the command line wrote.

    Raises:
        RunFolderError: No sweep folder, written by another version, edited, or with points missing or damaged.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as place:
        ...     made = sweep("seed-1t", over={"host.spares": [0, 4]}, policies=["hgm2m"], trials=1000, out=f"{place}/a")
        ...     print(open_sweep(f"{place}/a"))
        <poisonsim sweep: 2 points over host.spares; hgm2m>
    """
    manifest = SweepFolder(Path(folder)).read()
    runs: dict[str, Result] = {}
    points: list[SweepPoint] = []
    try:
        scenario = Scenario.from_dict(manifest["scenario"])
        for point in manifest["points"]:
            settings, run = point["settings"], point["run"]
            result = runs[run] if run in runs else open_run(Path(folder) / run)
            runs[run] = result
            there = scenario.replace({key: value for key, value in settings.items() if not is_parameter(key)})
            if there != result.plan.scenario:  # it is of another point, and its states are valued anew
                result = Result(replace(result.plan, scenario=there), result.tally)
            points.append(SweepPoint(settings, result))
    except (ScenarioError, TypeError, ValueError, AttributeError) as error:
        raise RunFolderError(f"{folder}: is not as it was written ({error}); run the command again") from None
    over = {key: tuple(values) for key, values in manifest["over"].items()}
    planned = tuple(PlannedPoint(settings, result.plan) for settings, result in points)
    if SweepPlan(scenario, over, planned, tuple(manifest["policies"])).sweep_id != manifest["sweep_id"]:
        raise RunFolderError(
            f"{folder}: does not match its id (edited, or written by another version); run the command again"
        )
    return Sweep(scenario, over, tuple(points), tuple(manifest["policies"]))


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
