"""`poisonsim.run` and `poisonsim.open_run`: from a scenario, or a run folder, to a result."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from importlib.metadata import version
from math import log10
from pathlib import Path
from typing import Any

from poisonsim.engine.block import compile_decide, run_block, year_points
from poisonsim.engine.merge import Merger, Tally
from poisonsim.engine.plan import MOST_TRIALS, Plan, make_plan, restore_plan
from poisonsim.engine.run import Progress, Stop, block_sizes, simulate_plan
from poisonsim.engine.store import SCHEMA, read_block, read_manifest, write_json
from poisonsim.errors import PolicyError, RunFolderError, RunFolderNotice, ScenarioError, warn
from poisonsim.faults.arrivals import arrivals_of
from poisonsim.policy import Policy
from poisonsim.results.claim import TABLES, write_finished
from poisonsim.results.conditions import Width, check_trials
from poisonsim.results.result import Result
from poisonsim.results.run_folder import claimed_run, mend_summary, tell_edited, trials_held, whole_number
from poisonsim.results.until import MOST_TIMES, stop_rule, width_of
from poisonsim.scenario import Scenario, load_scenario

DEFAULT_SEED = 1

MOST_THREADS = 4096
"""Worker threads that may be asked for; as many as any machine has cores."""
_HIT_TRIALS = 20_000
_MOST_MISSING = 10  # blocks that are named


def run(
    scenario: Scenario | str | Path,
    *,
    policies: Iterable[str | Policy | type[Policy]],
    trials: int | None = None,
    seed: int = DEFAULT_SEED,
    threads: int | None = None,
    executor: Executor | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
    command: str = "",
    until: str | None = None,
) -> Result:
    """Simulates `trials` VM lifetimes under each policy, on identical error histories.

    Args:
        scenario: A scenario, or the name or path of one.
        policies: Names (`"hgm2m"`, `"migrate1g:spares=8"`), files (`"./mine.py"`), classes or instances.
        trials: VM lifetimes; default as many as let about 20,000 VMs see an error.
        seed: Same seed, same result, whatever the number of threads.
        threads: Worker threads; default one per core.
        executor: Any `concurrent.futures.Executor` to use instead of threads.
        out: Run folder to write, and to continue where it holds blocks of this run already.
        progress: Called after each block; see `poisonsim.engine.run.simulate_plan`.
        command: How to make this run again, kept in the run folder and shown in its report.
        until: Stop once an interval is this narrow, such as `"p99(guest_lost_bytes) within 5%"`; `trials` is then the
            most, 50 times its default. See `poisonsim.results.conditions.parse_width`.

    Raises:
        ScenarioError: The scenario, or an argument, cannot be used.
        PolicyError: All problems of all policies, before any trial runs.
        MetricError: `until` means nothing, or cannot be told from so few trials.
        RunFolderError: `out` cannot be written, or holds another run.

    Examples:
        >>> import poisonsim as ps
        >>> res = ps.run("seed-1t", policies=["unmap1g", "hgm2m"], trials=1000, seed=7)
        >>> res.probability("guest_lost_bytes > 1GiB", policy="hgm2m").best
        0.0
    """
    plan = plan_run(scenario_of(scenario), policies=policies, seed=seed)
    width = None if until is None else width_of(plan, until)
    return execute(
        plan, trials=trials, threads=threads, executor=executor, out=out, progress=progress,
        command=lambda _: command, until=width,
    )  # fmt: skip


def scenario_of(scenario: Scenario | str | Path) -> Scenario:
    """The scenario itself, or the one of that name or path.

    Raises:
        ScenarioError: It cannot be used, or is something else.
    """
    if isinstance(scenario, (str, Path)):
        return load_scenario(scenario)
    if not isinstance(scenario, Scenario):
        raise ScenarioError(f"scenario = {scenario!r} is neither a Scenario nor the name or path of one")
    return scenario


def execute(
    plan: Plan,
    *,
    trials: int | None = None,
    threads: int | None = None,
    executor: Executor | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
    command: Callable[[int], str] = lambda trials: "",
    unfinished: str = "",
    until: Width | None = None,
) -> Result:
    """As `run`, for a plan that `plan_run` has checked.

    Args:
        command: Gives how to make this run again with so many trials.
        unfinished: How to go on with it where it is stopped before it has them all; default the same.
        until: Made by `width_of`.

    Raises:
        ScenarioError: `trials` or `threads` cannot be used.
        MetricError: `until` cannot be told from so few trials.
        RunFolderError: `out` cannot be written, or holds another run.
    """
    if until is not None:
        trials = most_trials(plan, trials)
    trials = trials_of(plan, trials, threads)
    if until is not None:
        check_trials(until.quantity, plan, trials)
    if out is None:
        return Result(plan, _simulated(plan, trials, 0, threads, executor, None, progress, until))
    folder = Path(out)
    with claimed_run(folder, plan):
        tell_edited(folder, plan)
        held = trials_held(folder, plan)
        if not held:  # else it goes on to speak of the finished run until this one is
            write_json(folder / "run.json", manifest_of(plan, trials, unfinished or command(trials)))
        result = Result(plan, _simulated(plan, trials, held, threads, executor, folder, progress, until))
        if result.n_trials < held:
            warn(
                f"{folder} holds {held:,} trials of this run and keeps them: its summary.csv and report are of those, "
                f"what is printed here of the first {result.n_trials:,}",
                RunFolderNotice,
            )
        else:
            manifest = manifest_of(plan, result.n_trials, command(result.n_trials))
            summary = result.summary().to_csv(index=False).encode()
            if held == result.n_trials:
                mend_summary(result, folder, summary)
            write_finished(folder, "run", manifest, summary)
    return result


def _simulated(
    plan: Plan,
    trials: int,
    held: int,
    threads: int | None,
    executor: Executor | None,
    folder: Path | None,
    progress: Progress | None,
    until: Width | None,
) -> Tally:
    """The first `trials` trials, or as many whole blocks as `until` takes; `held` of them are in the folder."""

    def simulate(trials: int, stop: Stop | None) -> Tally:
        return simulate_plan(
            plan, trials=trials, threads=threads, executor=executor, folder=folder, progress=progress, stop=stop
        )

    if until is None:
        return simulate(trials, None)
    if whole := min(held, trials) // plan.block_trials * plan.block_trials:
        # Blocks that are there may do; to look at them first keeps others from being computed ahead for nothing.
        stopped = False
        rule = stop_rule(plan, until)

        def note(n_blocks: int, tally: Callable[[], Tally]) -> bool:
            nonlocal stopped
            stopped = rule(n_blocks, tally)
            return stopped

        tally = simulate(whole, note)
        if stopped or whole == trials:
            return tally
    return simulate(trials, stop_rule(plan, until))


def trials_of(plan: Plan, trials: int | None, threads: int | None = None) -> int:
    """How many trials a run of `plan` takes where `trials` are asked for; None is the default.

    Raises:
        ScenarioError: `trials` or `threads` cannot be used.
    """
    trials = default_trials(plan.scenario) if trials is None else trials
    problems = [
        f"{name} = {value!r} is not a whole number of at least 1"
        for name, value in {"trials": trials, "threads": 1 if threads is None else threads}.items()
        if isinstance(value, bool) or not isinstance(value, int) or value < 1
    ]
    if not problems and trials > plan.most_trials:
        problems = [
            f"trials = {trials:,} is more than one run can take; give at most {plan.most_trials:,} for this scenario"
        ]
    if threads is not None and not problems and threads > MOST_THREADS:
        problems = [f"threads = {threads:,} is more than {MOST_THREADS:,}; leave it out for one per core"]
    if problems:
        raise ScenarioError(problems)
    return trials


def most_trials(plan: Plan, trials: int | None) -> int:
    """The most trials of a run that stops by itself: as many as were given, or 50 times the default.

    Examples:
        >>> most_trials(plan_run(Scenario(), policies=["hgm2m"]), None)
        1000000
    """
    return min(MOST_TIMES * default_trials(plan.scenario), plan.most_trials) if trials is None else trials


def plan_run(scenario: Scenario, *, policies: Iterable[str | Policy | type[Policy]], seed: int = DEFAULT_SEED) -> Plan:
    """The checked plan that `run` would simulate.

    Raises:
        ScenarioError: The seed is not a whole number of at least 0, or there is no policy.
        PolicyError: All problems of all policies.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
        raise ScenarioError(f"seed = {seed!r} is not a whole number from 0 to 2**64 - 1")
    plan = make_plan(scenario, policies_of(policies), seed)
    for policy in plan.policies:
        compile_decide(policy.decide, tuple(policy.params))
    return plan


def policies_of(policies: Iterable[str | Policy | type[Policy]]) -> list[str | Policy | type[Policy]]:
    """The policies named, one or many, as a list.

    Raises:
        ScenarioError: There is none, or it is no list.
    """
    if not isinstance(policies, (str, Policy, type, Iterable)):
        raise ScenarioError(f"policies = {policies!r} is not a list of policies; give one such as ['hgm2m']")
    chosen: list[str | Policy | type[Policy]] = (
        [policies] if isinstance(policies, (str, Policy, type)) else list(policies)
    )
    if not chosen:
        raise ScenarioError("no policy is named; give at least one, such as policies=['hgm2m']")
    return chosen


def default_trials(scenario: Scenario) -> int:
    """Trials that let about 20,000 VMs see an error; where none can, 20,000.

    Examples:
        >>> default_trials(load_scenario("seed-1t"))
        20000
        >>> from poisonsim.scenario import RateFaults
        >>> default_trials(Scenario(faults=RateFaults(ue_per_tib_year=1e-9)))
        4000000000000
    """
    p_any = arrivals_of(scenario).p_any
    if p_any == 0 or p_any >= 0.9:
        return _HIT_TRIALS
    wanted = _HIT_TRIALS / p_any
    return min(int(round(wanted, -max(int(log10(wanted)) - 2, 3))), MOST_TRIALS)


def open_run(folder: str | Path) -> Result:
    """The result in a run folder that `run(..., out=…)` or the command line wrote.

    Raises:
        RunFolderError: No run folder, written by another version, edited, or with blocks missing or damaged.
            A policy with a `decide` whose file is gone or has changed counts as edited.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    try:
        scenario = Scenario.from_dict(manifest["scenario"])
        plan = restore_plan(scenario, whole_number(manifest, "seed", 0, 2**64 - 1), manifest["policies"])
        trials, run_id = whole_number(manifest, "trials", 1, plan.most_trials), str(manifest["run_id"])
    except PolicyError as error:
        raise RunFolderError([f"{folder}: {problem}" for problem in error.problems]) from None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, ScenarioError) as error:
        raise RunFolderError(
            f"{folder / 'run.json'}: is not as it was written ({error}); run the command again"
        ) from None
    if plan.run_id != run_id:
        raise RunFolderError(
            f"{folder / 'run.json'}: does not match its run id {run_id[:12]} (edited, or written by another version); "
            "run the command again"
        )
    merger = Merger(len(plan.policies), len(year_points(plan)))
    missing = []
    for index, size in enumerate(block_sizes(plan, trials)):
        block = read_block(folder, run_id, index)
        if block is None or block.n_trials < size:
            missing.append(str(index))
            if len(missing) > _MOST_MISSING:
                break
        elif block.n_trials > size:  # the folder holds a longer run as well, whose last block cannot be cut
            merger.add(run_block(plan, index, size))
        else:
            merger.add(block)
    if missing:
        in_whole = folder.parent.name in ("points", "components")  # of a sweep, or of a fleet
        whole = folder.parent.parent if in_whole else folder
        more = " and more" if missing[_MOST_MISSING:] else ""
        command = f"{manifest.get('command') or 'poisonsim.run(...)'} --out {whole}"
        if not (folder / TABLES["run"]).exists():
            raise RunFolderError(
                f"{folder}: is not finished, its {trials:,} trials are not all there; go on with: {command}"
            )
        raise RunFolderError(
            f"{folder}: blocks {', '.join(missing[:_MOST_MISSING])}{more} are missing or damaged; "
            f"run the same command again, it computes only those: {command}"
        )
    return Result(plan, merger.tally())


def manifest_of(plan: Plan, trials: int, command: str) -> dict[str, Any]:
    """What `run.json` says: all that is needed to compute the run again, and the versions that did."""
    return {
        "schema": SCHEMA,
        "trials": trials,
        "command": command,
        **plan.describe(),
        "software": {
            name: version(name) for name in ("poisonsim", "numpy", "scipy", "numba", "pandas", "matplotlib")
        } | {"python": platform.python_version()},
    }  # fmt: skip
