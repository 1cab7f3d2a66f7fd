"""`poisonsim sweep`: the same policies and seed at every point of a grid of scenario values."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from poisonsim.cli import complete
from poisonsim.cli.common import (
    collected_warnings,
    going_on,
    one_output,
    options,
    print_csv,
    print_json,
    user_errors,
    while_read,
    workers,
)
from poisonsim.cli.run import DEFAULT_POLICIES

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from poisonsim.results.sweep import Sweep, SweepPlan

METRICS = ["guest_lost_bytes", "capacity_cost_bytes", "slowdown", "vm_lost"]
EXAMPLES = (
    "poisonsim sweep cloud-1t-ddr4 --over host.hvo_with_hgm --policy unmap1g --policy hgm2m",
    "poisonsim sweep --over migrate1g:spares=0,1,2,4,8 --over faults.errors=10,100 --policy migrate1g",
    "poisonsim sweep --over host.cpu --set vm.guest_page=1G --policy hgm2m --metric tlb_reach_loss --json",
)
_METRICS = ", ".join(METRICS)


@user_errors
def sweep_command(
    scenario: str = typer.Argument(
        "seed-1t", metavar="SCENARIO", autocompletion=complete.scenarios,
        help="Scenario: a name from `poisonsim catalog list`, or a TOML file.",
    ),
    over: list[str] = typer.Option(
        [], "--over", "--vary", metavar="KEY[=V1,V2,...]", autocompletion=complete.swept,
        help="Scenario key to sweep, or parameter of a policy, as migrate1g:spares=0,4; repeat for a grid. No default. "
        "Without values: all that the key has, as for host.hvo_with_hgm. A value with a comma goes in double quotes.",
    ),
    policy: list[str] = typer.Option(
        [], "--policy", "-p", metavar="NAME[:PARAM=N]|FILE.py", autocompletion=complete.policies,
        help="Policy to simulate; repeat for more. Default: four of them.",
    ),
    metric: list[str] = typer.Option(
        [], "--metric", "-m", metavar="NAME", autocompletion=complete.metrics,
        help=f"Column of the table; repeat for more. Default: {_METRICS}.",
    ),
    year: float = typer.Option(
        None, "--year", metavar="YEAR", help="Year that the table is of. Default: the end of the horizon."
    ),
    trials: int = typer.Option(
        None, "--trials", "-n", min=1, metavar="N",
        help="VM lifetimes at each point. Default: as many as let about 20,000 see an error.",
    ),
    seed: int = typer.Option(1, "--seed", min=0, metavar="N", help="Of every point. Same seed, same result."),
    years: str = typer.Option(
        None, "--years", metavar="TIME", help="Horizon, such as 5 or 18months. Default: the scenario's."
    ),
    settings: list[str] = typer.Option(
        [], "--set", metavar="KEY=VALUE", autocompletion=complete.settings,
        help="Override a scenario key at every point; repeat for more. Default: none."
    ),
    out: Path = typer.Option(
        None, "--out", "-o", metavar="FOLDER", help="Sweep folder. Default: reports/sweep-<scenario>-<sweep id>."
    ),
    threads: int = typer.Option(None, "--threads", min=1, metavar="N", help="Worker threads. Default: one per core."),
    cluster: str = typer.Option(
        None, "--cluster", metavar="ADDRESS",
        help="Dask scheduler whose workers compute, such as tcp://scheduler:8786. Default: threads of this machine.",
    ),
    as_json: bool = typer.Option(
        False, "--json", help="Print every metric and year as JSON on stdout, nothing else there."
    ),
    as_csv: bool = typer.Option(
        False, "--csv", help="Print every metric and year as CSV on stdout, nothing else there."
    ),
    no_report: bool = typer.Option(False, "--no-report", help="Leave out sweep.html and its pictures."),
) -> None:  # fmt: skip
    """Simulate each policy at every point of a grid of scenario values, and print one table of what differs.

    Every point is kept as a run folder in the sweep's; the same command goes on where it was stopped.
    """
    from poisonsim.cli.sweep_tables import print_sweep
    from poisonsim.results.sweep import plan_sweep
    from poisonsim.results.sweep_folder import SweepFolder
    from poisonsim.results.sweep_grid import is_parameter, spelled
    from poisonsim.scenario import resolve_scenario

    one_output({"--json": as_json, "--csv": as_csv})
    values = read_over(over, settings, years)
    resolved = resolve_scenario(scenario, overrides=settings, years=years)
    with collected_warnings():
        plan = plan_sweep(resolved.scenario, over=values, policies=policy or DEFAULT_POLICIES, seed=seed)
    metrics = list(dict.fromkeys(metric or METRICS))
    _check_columns(plan, metrics, year)
    _note_pinned_mappings(plan)
    _note_rules_that_never_act(plan)
    folder = out or Path("reports") / f"sweep-{resolved.name}-{plan.sweep_id[:12]}"
    held: dict[str, object] = {"--years": years, "--trials": trials, "--seed": None if seed == 1 else seed}
    command = shlex.join(
        ["poisonsim", "sweep", scenario, *options({"--over": over, "--policy": policy, "--set": settings, **held})]
    )
    quiet = as_json or as_csv
    with (
        collected_warnings(),
        workers(cluster, threads) as executor,
        going_on(lambda: f"finished points and blocks are kept in {folder}"),
        SweepFolder(folder).claimed(plan),
    ):
        found = _simulate(plan, trials, threads, executor, folder, command)
        with while_read():  # the page is due all the same
            if as_json:
                print_json(found.to_dict())
            elif as_csv:
                print_csv(found.summary())
            else:
                print_sweep(found, resolved.name, metrics, year)
        page = _write_page(found, plan, folder, metrics, year, command, no_report=no_report)
    last = {key: value for key, value in plan.points[-1].settings.items() if not is_parameter(key)}
    words = ["poisonsim", "run", scenario]
    if policy or len(last) < len(plan.over):
        words += options({"--policy": [each.spec or each.label for each in plan.points[-1].plan.policies]})
    here = [*settings, *(f"{key}={spelled(value)}" for key, value in last.items())]
    typer.echo(f"\nsweep folder  {folder}", err=quiet)
    typer.echo(f"every figure  {folder / 'sweep.csv'}", err=quiet)
    if page is not None:
        typer.echo(f"open          {page}", err=quiet)
    typer.echo(f"next          {shlex.join([*words, *options({'--set': here, **held})])}", err=quiet)


def _write_page(
    found: Sweep, plan: SweepPlan, folder: Path, metrics: Sequence[str], year: float | None, command: str, *,
    no_report: bool,
) -> Path | None:  # fmt: skip
    """The sweep's page and its pictures; with `no_report` none, and what an earlier sweep drew is removed.

    Where the folder keeps a sweep of more trials, its page stays as well.
    """
    from poisonsim.report import remove_sweep_page, write_sweep
    from poisonsim.report.swept import SWEEP_PAGE
    from poisonsim.results.sweep_folder import SweepFolder

    if SweepFolder(folder).keeps_more([result.n_trials for _, result in found.points]):
        page = folder / SWEEP_PAGE
        return page if page.exists() else None
    if no_report:
        remove_sweep_page(folder)
        return None
    at = None if year is None else f"{year:g}"
    shown = options({"--metric": [] if metrics == METRICS else list(metrics), "--year": at})
    told = " ".join([command, *map(shlex.quote, shown)])
    return write_sweep(found, folder, metrics=metrics, year=year, command=told, sweep_id=plan.sweep_id)


def _simulate(
    plan: SweepPlan, trials: int | None, threads: int | None, executor: Executor | None, folder: Path, command: str
) -> Sweep:
    """The sweep, with progress over all its points on stderr."""
    from poisonsim.cli.progress import progress_over
    from poisonsim.results.sweep import execute_sweep
    from poisonsim.results.sweep_grid import settings_text

    with progress_over(lambda point: settings_text(point.settings), plan.points[0]) as show:
        return execute_sweep(
            plan, trials=trials, threads=threads, executor=executor, progress=show, out=folder, command=command
        )


def read_over(
    texts: Sequence[str], settings: Sequence[str] = (), years: str | None = None
) -> dict[str, list[object] | None]:
    """Values of each key that `--over` names; None where it names the key alone.

    Args:
        texts: What follows each `--over`.
        settings, years: What `--set` and `--years` hold still.

    Raises:
        ScenarioError: No key, a key twice or held still, or an empty value.

    Examples:
        >>> read_over(["host.spares=0,4", "host.hvo", 'vm.guest_page=2M,{"2M" = 0.9, "4K" = 0.1}'])
        {'host.spares': ['0', '4'], 'host.hvo': None, 'vm.guest_page': ['2M', '{"2M" = 0.9, "4K" = 0.1}']}
    """
    from poisonsim.errors import ScenarioError, shown

    held = {text.partition("=")[0].strip(): f"--set {text}" for text in settings}
    if years is not None:
        held["horizon.years"] = f"--years {years}"
    values: dict[str, list[object] | None] = {}
    problems: list[str] = []
    for text in texts:
        key, equals, tail = text.partition("=")
        key = key.strip()
        listed: list[object] = [part.strip() for part in re.split(r',(?![^{]*})(?=(?:[^"]*"[^"]*")*[^"]*$)', tail)]
        if not key:
            problems.append(f"--over {shown(text)}: names no key; write KEY or KEY=V1,V2, such as host.spares=0,4")
        elif key in values:
            problems.append(f"--over {key}: is given twice; give it once, with all its values")
        elif key in held:
            problems.append(f"--over {key}: is swept, but {held[key]} holds it still; drop one of them")
        elif equals and "" in listed:
            which = f"value {listed.index('') + 1} of {shown(tail)} is empty" if tail.strip() else "has no values"
            problems.append(f"--over {key}: {which}; write every value, as in {key}=V1,V2")
        elif ranges := [part for part in listed if re.fullmatch(r"-?[\d.]+(\.\.|:)-?[\d.:]+", str(part))]:
            problems.append(f"--over {key}: {ranges[0]} is a range; write every value, as in {key}=0,1,2,4,8")
        values.setdefault(key, listed if equals else None)
    if problems:
        raise ScenarioError(problems)
    return values


def _check_columns(plan: SweepPlan, metrics: Sequence[str], year: float | None) -> None:
    """Refuses a metric or year that some point does not have."""
    from poisonsim.engine.block import year_points
    from poisonsim.errors import MetricError
    from poisonsim.results.metrics import known_metric, metrics_for
    from poisonsim.results.sweep_grid import Settings, places

    problems: dict[str, list[Settings]] = {}
    for settings, run in plan.points:
        for name in metrics:
            try:
                known_metric(name, metrics_for(run.ladder.sizes))
            except MetricError as error:
                problems.setdefault(f"--metric: {error}", []).append(settings)
        horizon = run.scenario.horizon
        known = [point * horizon.years / horizon.n_steps for point in year_points(run)]
        if year is not None and not any(abs(year - each) < 1e-9 for each in known):
            one_of = ", ".join(f"{each:g}" for each in known)
            problems.setdefault(f"--year: {year:g} is not a year of the summary; write one of {one_of}", []).append(
                settings
            )
    n_points = len(plan.points)
    if problems:
        raise MetricError(
            [f"{text}; {places(at, n_points)}" if len(at) < n_points else text for text, at in problems.items()]
        )


def _note_pinned_mappings(plan: SweepPlan) -> None:
    """Says which policies do not follow a mapping that is swept, since they stand for one kind."""
    if "host.mapping" in plan.over:
        runs = [run for _, run in plan.points]
        pinned = [
            policy.label
            for i, policy in enumerate(runs[0].policies)
            if any(run.policies[i].shared != (run.scenario.host.mapping == "shared") for run in runs)
        ]
        if pinned:
            typer.echo(f"note: host.mapping is not used by {', '.join(pinned)}, which stand for one of them", err=True)


def _note_rules_that_never_act(plan: SweepPlan) -> None:
    """Says at which points a policy has too few spares for one of its rules."""
    from poisonsim.results.sweep_grid import Settings, places

    found: dict[str, list[Settings]] = {}
    for settings, run in plan.points:
        for policy in run.policies:
            for note in policy.notes:
                found.setdefault(f"policy {policy.label.partition(':')[0]}: {note}", []).append(settings)
    for note, at in found.items():
        typer.echo(f"note: {note}; {places(at, len(plan.points))}", err=True)
