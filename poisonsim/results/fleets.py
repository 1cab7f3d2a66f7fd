"""`poisonsim.run_fleet`: VMs of several scenarios as one fleet, under each policy."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from poisonsim.engine.merge import Tally
from poisonsim.engine.plan import Plan
from poisonsim.errors import PolicyError, RunFolderError, RunFolderNotice, ScenarioError, shown
from poisonsim.policy import Policy, load_policies
from poisonsim.results.fleet_file import FleetPart, as_in_file, read_fleet
from poisonsim.results.fleet_folder import FleetFolder
from poisonsim.results.fleet_run import FleetRun
from poisonsim.results.metrics import metrics_for, parse_threshold
from poisonsim.results.runs import DEFAULT_SEED, execute, open_run, plan_run, policies_of, trials_of

if TYPE_CHECKING:
    from concurrent.futures import Executor


class PlannedPart(NamedTuple):
    """A component of a fleet, checked."""

    part: FleetPart
    plan: Plan


FleetProgress: TypeAlias = Callable[[int, int, PlannedPart, Callable[[], Tally]], None]
"""Called after each block with trials done, trials wanted in all, the component, and a function giving its tally."""


@dataclass(frozen=True)
class FleetPlan:
    """A fleet that has been checked and not yet been run; made by `plan_fleet`."""

    title: str
    seed: int
    parts: tuple[PlannedPart, ...]

    @property
    def fleet_id(self) -> str:
        """SHA-256 over all that is simulated. How many VMs there are is not in it: other numbers need no new trials."""
        return sha256(json.dumps([[part.name, plan.run_id] for part, plan in self.parts]).encode()).hexdigest()


def run_fleet(
    fleet: str | Path | Iterable[FleetPart],
    *,
    policies: Iterable[str | Policy | type[Policy]],
    trials: int | None = None,
    seed: int = DEFAULT_SEED,
    threads: int | None = None,
    executor: Executor | None = None,
    progress: FleetProgress | None = None,
    out: str | Path | None = None,
) -> FleetRun:
    """Simulates each policy on every component of a fleet, and adds them up.

    Within a component all policies meet the same errors. Components are independent: each has a seed of its own.

    Args:
        fleet: A TOML file with `[[fleet]]` tables (see `poisonsim.results.fleet_file.read_fleet`), or the components.
        policies: Names (`"hgm2m"`, `"migrate1g:spares=8"`), files (`"./mine.py"`), classes or instances.
        trials: VM lifetimes of each component; default as many as let about 20,000 of its VMs see an error.
        seed: Same seed, same result, whatever the number of threads.
        threads: Worker threads; default one per core.
        executor: Any `concurrent.futures.Executor` to use instead of threads.
        progress: Called after each block; see `FleetProgress`.
        out: Fleet folder to write, and to continue where it holds blocks of this fleet already: a run folder per
            component, and `fleet.csv`, the summary.

    Raises:
        ScenarioError: The fleet, a scenario in it, or an argument cannot be used.
        PolicyError: All problems of all policies in all components, before any trial runs.
        RunFolderError: `out` cannot be written, or holds another fleet.

    Examples:
        >>> import poisonsim as ps
        >>> parts = [ps.FleetPart("many", ps.load_scenario("seed-1t"), 30), ps.FleetPart("few", ps.load_scenario(
        ...     "seed-1t", overrides=["faults.errors=1"]), 70)]
        >>> ps.run_fleet(parts, policies=["hgm2m"], trials=200).total("hgm2m", "errors").best
        3070.0
    """
    plan = plan_fleet(fleet, policies=policies, seed=seed)
    return execute_fleet(plan, trials=trials, threads=threads, executor=executor, progress=progress, out=out)


def plan_fleet(
    fleet: str | Path | Iterable[FleetPart],
    *,
    policies: Iterable[str | Policy | type[Policy]],
    seed: int = DEFAULT_SEED,
    years: float | str | None = None,
) -> FleetPlan:
    """The checked components that `run_fleet` would simulate.

    Args:
        years: Horizon of all components of a file; default that of their scenarios.

    Raises:
        ScenarioError, PolicyError: As `run_fleet`.
    """
    title, parts = read_fleet(fleet, years=years) if isinstance(fleet, (str, Path)) else ("", _listed(fleet))
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
        raise ScenarioError(f"seed = {seed!r} is not a whole number from 0 to 2**64 - 1")
    if len({part.scenario.horizon.years for part in parts}) > 1:
        told = ", ".join(f"{part.name} {part.scenario.horizon.years:g}" for part in parts)
        raise ScenarioError(
            f"components have different horizons, in years: {told}; totals need one, so set horizon.years (--years)"
        )
    loaded = load_policies(policies_of(policies))
    planned: list[PlannedPart] = []
    refused: dict[str, list[str]] = {}
    for part in parts:
        try:
            planned.append(PlannedPart(part, plan_run(part.scenario, policies=loaded, seed=seed_of(seed, part.name))))
        except PolicyError as error:
            for problem in map(as_in_file, error.problems) if isinstance(fleet, (str, Path)) else error.problems:
                refused.setdefault(problem, []).append(part.name)
    if refused:
        raise PolicyError([f"{problem}; in {_components(names)}" for problem, names in refused.items()])
    return FleetPlan(title, seed, tuple(planned))


def seed_of(seed: int, name: str) -> int:
    """The seed of a component: the same whatever else is in the fleet, and another one for each name.

    Examples:
        >>> seed_of(1, "old") == seed_of(1, "old"), seed_of(1, "old") == seed_of(1, "new")
        (True, False)
    """
    return int.from_bytes(sha256(f"{seed}:{name}".encode()).digest()[:6])


def check_threshold(plan: FleetPlan, expression: str) -> None:
    """Refuses a threshold that some component cannot tell.

    Raises:
        MetricError: It means nothing.
    """
    for _, run in plan.parts:
        parse_threshold(expression, metrics_for(run.ladder.sizes))


def execute_fleet(
    plan: FleetPlan,
    *,
    trials: int | None = None,
    threads: int | None = None,
    executor: Executor | None = None,
    progress: FleetProgress | None = None,
    out: str | Path | None = None,
    command: str = "",
) -> FleetRun:
    """As `run_fleet`, for components that `plan_fleet` has checked.

    Args:
        command: How to make this run again, kept in its folder and in the run folders of its components.

    Raises:
        ScenarioError: `trials` or `threads` cannot be used.
        RunFolderError: `out` cannot be written, or holds another fleet.
    """
    wanted = []
    for part, run in plan.parts:
        with _told_where(part):
            wanted.append(trials_of(run, trials, threads))
    folder = None if out is None else FleetFolder(Path(out))
    with ExitStack() as held:
        manifest: dict[str, Any] = {}
        if folder is not None:
            held.enter_context(folder.claimed(plan))
            manifest = folder.manifest_of(plan, wanted, command)
            folder.begin(manifest)
        results, before = [], 0
        for planned, n_trials in zip(plan.parts, wanted, strict=True):

            def show(
                done: int, _: int, tally: Callable[[], Tally], before: int = before, part: PlannedPart = planned
            ) -> None:
                if progress is not None:
                    progress(before + done, sum(wanted), part, tally)

            with _told_where(planned.part), warnings.catch_warnings():
                # The fleet says it once of all its components.
                warnings.filterwarnings("ignore", ".* trials of this run and keeps them", RunFolderNotice)
                results.append(execute(
                    planned.plan, trials=n_trials, threads=threads, executor=executor, progress=show,
                    out=None if folder is None else folder.component(planned.part.name), command=lambda _: command,
                ))  # fmt: skip
            before += n_trials
        found = FleetRun(plan.title, plan.seed, tuple(part for part, _ in plan.parts), tuple(results))
        if folder is not None:
            folder.finish(manifest, found.summary())
    return found


def open_fleet(folder: str | Path) -> FleetRun:
    """The fleet in a folder that `run_fleet(..., out=…)` or the command line wrote.

    Raises:
        RunFolderError: No fleet folder, written by another version, edited, or with components missing or damaged.

    Examples:
        >>> import tempfile
        >>> import poisonsim as ps
        >>> parts = [ps.FleetPart("mine", ps.load_scenario("seed-1t"), 30)]
        >>> with tempfile.TemporaryDirectory() as place:
        ...     made = run_fleet(parts, policies=["hgm2m"], trials=1000, out=f"{place}/a")
        ...     print(open_fleet(f"{place}/a"))
        <poisonsim fleet: 30 mine; hgm2m; seed 1>
    """
    at = FleetFolder(Path(folder))
    manifest = at.read()
    results, parts = [], []
    try:
        for each in manifest["components"]:
            result = open_run(at.component(each["name"]))
            results.append(result)
            parts.append(FleetPart(each["name"], result.plan.scenario, each["vms"]))
    except ScenarioError as error:
        raise RunFolderError([f"{at.path / 'fleet.json'}: {problem}" for problem in error.problems]) from None
    planned = tuple(PlannedPart(part, result.plan) for part, result in zip(parts, results, strict=True))
    plan = FleetPlan(manifest["title"], manifest["seed"], planned)
    if plan.fleet_id != manifest["fleet_id"]:
        raise RunFolderError(
            f"{folder}: does not match its id (edited, or written by another version); run the command again"
        )
    return FleetRun(plan.title, plan.seed, tuple(parts), tuple(results))


def _listed(fleet: Iterable[FleetPart]) -> tuple[FleetPart, ...]:
    """Components given in code."""
    parts = tuple(fleet) if isinstance(fleet, Iterable) else ()
    if not parts or not all(isinstance(part, FleetPart) for part in parts):
        raise ScenarioError(
            f"fleet = {shown(fleet if not isinstance(fleet, Iterable) else list(parts))} is neither a TOML file nor a "
            "list of FleetPart(name, scenario, vms)"
        )
    names = [part.name.lower() for part in parts]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ScenarioError(f"more than one component is called {', '.join(twice)}; give each a name of its own")
    return parts


def _components(names: Sequence[str]) -> str:
    return f"component{'s' if len(names) > 1 else ''} {', '.join(names)}"


@contextmanager
def _told_where(part: FleetPart) -> Iterator[None]:
    """Adds the component to errors that show only there."""
    try:
        yield
    except (ScenarioError, PolicyError) as error:
        raise type(error)([f"{problem}; in component {part.name}" for problem in error.problems]) from None
