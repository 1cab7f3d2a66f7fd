"""`poisonsim sweep`: the same policies and seed at every point of a grid of scenario values."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from poisonsim.cli.common import collected_warnings, print_json, print_table, user_errors
from poisonsim.cli.run import DEFAULT_POLICIES

if TYPE_CHECKING:
    from poisonsim.engine.merge import Tally
    from poisonsim.results.metrics import Metric
    from poisonsim.results.result import Result
    from poisonsim.results.sweep import Sweep, SweepPlan

METRICS = ["guest_lost_bytes", "capacity_cost_bytes", "slowdown", "vm_lost"]
EXAMPLES = (
    "Examples:  poisonsim sweep cloud-1t-ddr4 --over host.hvo_with_hgm --policy unmap1g --policy hgm2m  |  "
    "poisonsim sweep --over host.spares=0,1,2,4,8 --over faults.errors=10,100,1000 --policy migrate1g  |  "
    "poisonsim sweep --over host.cpu --set vm.guest_page=1G --policy hgm2m --metric tlb_reach_loss --json"
)
_TITLES = {
    "guest_lost_bytes": "guest lost", "capacity_cost_bytes": "host cost", "slowdown": "slower", "vm_lost": "VMs lost",
    "tlb_reach_loss": "TLB reach lost",
}  # fmt: skip
_METRICS = ", ".join(METRICS)
_WIDTH = 118
_MOST_NAMED = 3


@user_errors
def sweep_command(
    scenario: str = typer.Argument("seed-1t", help="Scenario: a name from `poisonsim catalog list`, or a TOML file."),
    over: list[str] = typer.Option(
        [], "--over", metavar="KEY[=V1,V2,...]",
        help="Scenario key to sweep; repeat for a grid. No default. Without values: all that the key has, as for "
        "host.hvo_with_hgm. A value with a comma goes in double quotes.",
    ),
    policy: list[str] = typer.Option(
        [], "--policy", "-p", metavar="NAME[:PARAM=N]|FILE.py",
        help="Policy to simulate; repeat for more. Default: four of them.",
    ),
    metric: list[str] = typer.Option(
        [], "--metric", "-m", metavar="NAME",
        help=f"Column of the table; repeat for more. Default: {_METRICS}.",
    ),
    year: float = typer.Option(None, "--year", help="Year that the table is of. Default: the end of the horizon."),
    trials: int = typer.Option(
        None, "--trials", "-n", min=1,
        help="VM lifetimes at each point. Default: as many as let about 20,000 see an error.",
    ),
    seed: int = typer.Option(1, "--seed", min=0, help="Of every point. Same seed, same result."),
    years: str = typer.Option(
        None, "--years", metavar="TIME", help="Horizon, such as 5 or 18months. Default: the scenario's."
    ),
    settings: list[str] = typer.Option(
        [], "--set", metavar="KEY=VALUE", help="Override a scenario key at every point; repeat for more."
    ),
    threads: int = typer.Option(None, "--threads", min=1, help="Worker threads. Default: one per core."),
    as_json: bool = typer.Option(
        False, "--json", help="Print every metric and year as JSON on stdout, nothing else there."
    ),
    csv: Path = typer.Option(
        None, "--csv", metavar="FILE", help="Write every metric and year to a CSV file too. Default: none."
    ),
) -> None:  # fmt: skip
    """Simulate each policy at every point of a grid of scenario values, and print one table of what differs.

    No run folder is written and nothing is kept: the same command computes the same figures again.
    """
    from poisonsim.results.sweep import plan_sweep
    from poisonsim.results.sweep_grid import spelled
    from poisonsim.scenario import resolve_scenario

    values = read_over(over, settings, years)
    resolved = resolve_scenario(scenario, overrides=settings, years=years)
    plan = plan_sweep(resolved.scenario, over=values, policies=policy or DEFAULT_POLICIES, seed=seed)
    metrics = list(dict.fromkeys(metric or METRICS))
    _check_columns(plan, metrics, year)
    if csv is not None:
        _check_file(csv)
    _note_pinned_mappings(plan)
    try:
        with collected_warnings():
            found = _simulate(plan, trials, threads)
            if as_json:
                print_json(found.to_dict())
            else:
                _print_sweep(found, resolved.name, metrics, year)
            if csv is not None:
                _write_csv(found, csv)
    except KeyboardInterrupt:
        typer.echo("interrupted; a sweep keeps nothing, run the same command again", err=True)
        raise typer.Exit(130) from None
    words = ["poisonsim", "run", scenario]
    last = [f"{key}={spelled(value)}" for key, value in plan.points[-1].settings.items()]
    for flag, given in (("--policy", policy), ("--set", [*settings, *last])):
        words += [word for each in given for word in (flag, each)]
    for flag, value in (("--years", years), ("--trials", trials), ("--seed", None if seed == 1 else seed)):
        words += [] if value is None else [flag, str(value)]
    typer.echo("", err=as_json)
    if csv is not None:
        typer.echo(f"csv   {csv}", err=as_json)
    typer.echo(f"next  {shlex.join(words)}", err=as_json)


def _simulate(plan: SweepPlan, trials: int | None, threads: int | None) -> Sweep:
    """The sweep, with progress over all its points on stderr."""
    from poisonsim.cli.progress import current_estimate, progress_with
    from poisonsim.results.sweep import PlannedPoint, execute_sweep
    from poisonsim.results.sweep_grid import settings_text

    at = plan.points[0]

    def estimate(tally: Tally) -> str:
        return f"{settings_text(at.settings)}: {current_estimate(at.plan, tally)}"

    with progress_with(estimate) as show:

        def show_point(done: int, wanted: int, point: PlannedPoint, tally: Callable[[], Tally]) -> None:
            nonlocal at
            at = point
            show(done, wanted, tally)

        return execute_sweep(plan, trials=trials, threads=threads, progress=show_point)


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


def _check_file(file: Path) -> None:
    """Refuses a CSV file that cannot be written, before anything is computed."""
    from poisonsim.errors import ScenarioError

    try:
        if file.exists() and not file.is_file():
            raise ScenarioError(f"--csv {file}: exists and is no file; name another")
        if not file.parent.is_dir():
            raise ScenarioError(f"--csv {file}: there is no folder {file.parent}; make it, or name a file elsewhere")
    except (OSError, ValueError) as error:
        raise ScenarioError(f"--csv {str(file)[:80]!r}: no file can be called so ({error}); name another") from None


def _write_csv(found: Sweep, file: Path) -> None:
    from poisonsim.engine.store import write_whole
    from poisonsim.errors import RunFolderError, ScenarioError

    try:
        write_whole(file, found.summary().to_csv(index=False).encode())
    except RunFolderError as error:
        raise ScenarioError(f"--csv {file}: cannot be written ({error.__cause__}); name another file") from None


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


def _print_sweep(found: Sweep, name: str, metrics: Sequence[str], year: float | None) -> None:
    """One table of all points and policies, and what can be said of it for sure."""
    from poisonsim.results.metrics import known_metric
    from poisonsim.results.sweep_grid import spelled

    first = found.points[0].result
    typer.echo(f"{name}: {_what(found)}\n")
    header = [*found.over, "policy", *(_TITLES.get(metric, metric) for metric in metrics)]
    rows, above = [], [""] * len(found.over)
    cells: dict[str, set[tuple[str, ...]]] = {}
    for settings, result in found.points:
        values = [spelled(value) for value in settings.values()]
        for policy in result.policies:
            differs = next(
                (i for i, pair in enumerate(zip(values, above, strict=True)) if pair[0] != pair[1]), len(values)
            )
            shown = [_cell(result, policy, known_metric(metric, result.metrics), year) for metric in metrics]
            rows.append([*[""] * differs, *values[differs:], policy, *shown])
            cells.setdefault(policy, set()).add(tuple(shown))
            above = values
    print_table(header, rows, right=len(found.over) + 1)
    when = f"in year {year:g}" if year is not None else "at the end of the horizon"
    typer.echo(f"means {when}, with 95 % intervals; --csv FILE or --json has every metric and year")
    lines = _errors_shared(found)
    alike = [policy for policy in first.policies if len(cells[policy]) == 1]
    if alike and len(found.points) > 1:
        lines.append(f"the same at every point, as far as shown: {', '.join(alike)}")
    if len(first.policies) > 1:
        lines.append(f"loses the least guest memory: {_lowest(found, 'guest_lost_bytes', year)}")
        lines.append(f"costs the host least: {_lowest(found, 'capacity_cost_bytes', year)}")
    if lines:
        typer.echo("")
    for line in lines:
        typer.echo(textwrap.fill(line, width=_WIDTH, subsequent_indent="  ", break_on_hyphens=False))


def _what(found: Sweep) -> str:
    """What the points have in common, in words."""
    from poisonsim.units import format_bytes

    vm, n_points = found.scenario.vm, len(found.points)
    common = {
        "vm.memory": f"{format_bytes(vm.memory_bytes)} VM", "vm.backing": f"{vm.backing} pages",
        "horizon.years": f"{found.scenario.horizon.years:g} years",
    }  # fmt: skip
    n_trials = sorted({result.n_trials for _, result in found.points})
    trials = " to ".join(f"{n:,}" for n in dict.fromkeys((n_trials[0], n_trials[-1])))
    points = f"{n_points} point{'s' if n_points > 1 else ''} of {trials} trial{'s' if n_trials[-1] > 1 else ''}"
    words = [text for key, text in common.items() if key not in found.over]
    return ", ".join([*words, points, f"seed {found.points[0].result.plan.seed}"])


def _cell(result: Result, policy: str, metric: Metric, year: float | None) -> str:
    """The mean of a metric with its interval, in the form that `run` prints."""
    from dataclasses import replace

    from poisonsim.results.words import as_probability, in_bytes, in_number, in_percent

    distribution = result.distribution(policy, metric.name, year)
    if metric.kind == "flag":
        return str(as_probability(distribution.share(distribution.values == 1)))
    if metric.unit == "bytes":
        return str(in_bytes(distribution.mean()))
    if metric.name.startswith("slowdown"):
        return str(in_percent(replace(distribution, values=distribution.values - 1).mean()))
    if metric.name.startswith("share_") or metric.name == "tlb_reach_loss":
        return str(in_percent(distribution.mean()))
    return str(in_number(distribution.mean()))


def _errors_shared(found: Sweep) -> list[str]:
    """Which points see the very same errors."""
    from poisonsim.results.sweep import SAME_ERRORS_KEYS

    same = [key for key in found.over if key in SAME_ERRORS_KEYS]
    if len(found.points) == 1 or not same:
        return []
    if len(same) == len(found.over):
        return ["all points see the same errors"]
    return [f"points that differ in {' and '.join(same)} only see the same errors"]


def _lowest(found: Sweep, metric: str, year: float | None) -> str:
    """Which policies have the lowest mean at which points, where that is clear."""
    from poisonsim.results.sweep import clearly_lowest

    where: dict[tuple[str, ...], list[int]] = {}
    for i, (_, result) in enumerate(found.points):
        where.setdefault(clearly_lowest(result, metric, year), []).append(i)
    unclear = where.pop((), [])
    clauses = [f"{_joined(policies, len(found.policies))} {_points(found, at)}" for policies, at in where.items()]
    if unclear:
        clauses.append(f"not clear {_points(found, unclear)}")
    return "; ".join(clauses)


def _joined(policies: tuple[str, ...], n_policies: int) -> str:
    if len(policies) == n_policies:
        return "all alike"
    return " and ".join(filter(None, (", ".join(policies[:-1]), policies[-1])))


def _points(found: Sweep, at: list[int]) -> str:
    """Points in words: all, a part of the grid, or the first few by name."""
    from poisonsim.results.sweep_grid import settings_text, spelled

    if len(at) == len(found.points):
        return "at every point" if len(at) > 1 else "there"
    used = {key: list(dict.fromkeys(spelled(found.points[i].settings[key]) for i in at)) for key in found.over}
    if prod(len(values) for values in used.values()) == len(at):
        parts = [f"{key}={'|'.join(values)}" for key, values in used.items() if len(values) < len(found.over[key])]
        return f"at {' '.join(parts)}"
    named = ", ".join(settings_text(found.points[i].settings) for i in at[:_MOST_NAMED])
    more = len(at) - _MOST_NAMED
    return f"at {named}{f' and {more} more' if more > 0 else ''}"
