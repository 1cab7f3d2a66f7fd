"""`poisonsim run`: simulate, print, write a run folder."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from poisonsim.cli import complete
from poisonsim.cli.common import (
    FAILED,
    VMS,
    collected_warnings,
    going_on,
    one_output,
    print_csv,
    print_json,
    user_errors,
    while_read,
    workers,
)

if TYPE_CHECKING:
    from poisonsim.engine.plan import Plan
    from poisonsim.results.conditions import Condition, Verdict, Width
    from poisonsim.results.result import Result
    from poisonsim.scenario import ResolvedScenario

REFERENCE = "unmap1g"
DEFAULT_POLICIES = [REFERENCE, "hgm4k", "hgm2m", "migrate1g"]
EXAMPLES = (
    "poisonsim run --policy hgm2m",
    "poisonsim run cloud-1t-ddr4 --policy unmap1g --policy hgm2m --years 3",
    "poisonsim run fleet.toml --policy migrate1g:spares=8 --set host.cpu=zen5 --json",
    "poisonsim run cloud-1t-ddr4 -p hgm2m --until 'mean(vm_lost) within 10%' --fail-if 'vm_lost per year > 1%'",
)


@user_errors
def run_command(
    scenario: str = typer.Argument(
        "seed-1t", metavar="SCENARIO", autocompletion=complete.scenarios,
        help="Scenario: a name from `poisonsim catalog list`, or a TOML file.",
    ),
    policy: list[str] = typer.Option(
        [], "--policy", "-p", metavar="NAME[:PARAM=N]|FILE.py", autocompletion=complete.policies,
        help="Policy to simulate; repeat for more. The status quo, unmap1g, runs beside them. Default: four of them.",
    ),
    trials: int = typer.Option(
        None, "--trials", "-n", min=1, metavar="N", show_default=False,
        help="VM lifetimes, with --until the most. Default: as many as let about 20,000 see an error; with --until 50 "
        "times as many.",
    ),
    until: str = typer.Option(
        None, "--until", metavar="CONDITION", show_default=False,
        help="Go on until an interval (95 %) is this narrow to each side: 'p99(guest_lost_bytes) within 5%', or within "
        "an amount. Default: run all --trials.",
    ),
    fail_if: list[str] = typer.Option(
        [], "--fail-if", metavar="CONDITION", show_default=False,
        help="Exit with code 3 if this holds at the end, such as 'p99(slowdown) > 1.02'. Default: never. Asked of "
        "every --policy, or of one that it names: 'hgm2m: P(guest_lost_bytes > 8GiB) > 1%'. Repeat for more.",
    ),
    seed: int = typer.Option(1, "--seed", min=0, metavar="N", help="Same seed, same result, on any number of threads."),
    years: str = typer.Option(
        None, "--years", metavar="TIME", help="Horizon, such as 5 or 18months. Default: the scenario's."
    ),
    settings: list[str] = typer.Option(
        [], "--set", metavar="KEY=VALUE", autocompletion=complete.settings,
        help="Override a scenario key, such as host.cpu=zen5; repeat for more. Default: none."
    ),
    threads: int = typer.Option(None, "--threads", min=1, metavar="N", help="Worker threads. Default: one per core."),
    cluster: str = typer.Option(
        None, "--cluster", metavar="ADDRESS",
        help="Dask scheduler whose workers compute, such as tcp://scheduler:8786. Default: threads of this machine.",
    ),
    out: Path = typer.Option(
        None, "--out", "-o", metavar="FOLDER", help="Run folder. Default: reports/<scenario>-<run id>."
    ),
    vms: int = typer.Option(
        VMS, "--vms", min=1, metavar="N", help="Size of the fleet that the last lines and the report speak of."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the summary as JSON on stdout, nothing else there."),
    as_csv: bool = typer.Option(False, "--csv", help="Print the summary as CSV on stdout, nothing else there."),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Show the resolved scenario and what to expect; simulate nothing."
    ),
    no_report: bool = typer.Option(False, "--no-report", help="Leave out report.html and its pictures."),
) -> None:  # fmt: skip
    """Simulate VM lifetimes under each policy and compare what they cost, on the same memory errors.

    Conditions are of the mean or a percentile (p50, p99, p99.9) of a metric, or of the probability P(METRIC OP VALUE)
    of a threshold. They are judged by the best estimate; where its interval spans the bound, that is said.
    """
    from poisonsim.cli.dry_run import print_dry_run
    from poisonsim.cli.progress import progress
    from poisonsim.cli.tables import print_result
    from poisonsim.engine.store import remove_report
    from poisonsim.errors import DamagedBlock
    from poisonsim.results.run_folder import claimed_run, trials_held, trials_kept
    from poisonsim.results.runs import default_trials, execute, most_trials, plan_run
    from poisonsim.scenario import resolve_scenario

    one_output({"--json": as_json, "--csv": as_csv, "--dry-run": dry_run})
    resolved = resolve_scenario(scenario, overrides=settings, years=years)
    chosen = policy or DEFAULT_POLICIES
    if REFERENCE not in chosen:
        chosen = [REFERENCE, *chosen]
    plan = plan_run(resolved.scenario, policies=chosen, seed=seed)
    asked = plan.labels[1 if chosen != (policy or DEFAULT_POLICIES) else 0 :]
    width = None if until is None else _width(plan, until, asked)
    wanted = trials or default_trials(resolved.scenario) if width is None else most_trials(plan, trials)
    conditions = _conditions(plan, fail_if, asked, wanted)
    if dry_run:
        print_dry_run(resolved, plan, wanted, threads)
        return
    folder = out or Path("reports") / f"{resolved.name}-{plan.run_id[:12]}"
    command = partial(command_line, scenario, plan, settings, years, vms)
    quiet = as_json or as_csv
    _note_pinned_mappings(resolved, plan)
    for policy_here in plan.policies:
        for note in policy_here.notes:
            typer.echo(f"note: policy {policy_here.label}: {note}", err=True)
    with (
        collected_warnings() as told,
        workers(cluster, threads) as executor,
        going_on(lambda: f"{trials_kept(folder, plan, wanted):,} of {wanted:,} trials are kept in {folder}"),
        claimed_run(folder, plan),
    ):
        held = trials_held(folder, plan)
        with progress(plan, at_most=width is not None) as callback:
            result = execute(
                plan, trials=wanted, threads=threads, executor=executor, out=folder, progress=callback,
                command=command, until=width,
                unfinished=_going_on(scenario, plan, settings, years, vms, wanted, until, asked),
            )  # fmt: skip
        with while_read():  # the report and the verdicts are due all the same
            if as_json:
                print_json(result.to_dict())
            elif as_csv:
                print_csv(result.summary())
            else:
                print_result(result, resolved, vms=vms)
        holds_more = held > result.n_trials  # then its report is of those
        if no_report and not holds_more:
            remove_report(folder)  # an older one would speak of another number of trials
        elif not holds_more:
            from poisonsim.report import write_report

            write_report(result, folder, command=command(result.n_trials), vms=vms)
    with while_read():
        typer.echo(f"\nrun folder  {folder}", err=quiet)
        if (folder / "report.html").exists():
            typer.echo(f"open        {folder / 'report.html'}", err=quiet)
        typer.echo(f"next        poisonsim policies show {_without_parameters(plan.policies[-1].spec)}", err=quiet)
    failed = [_print_verdicts(condition.verdicts(result)) for condition in conditions]
    code = 0 if width is None else _print_width(result, width, wanted)
    if held == result.n_trials and not any(issubclass(each.category, DamagedBlock) for each in told):
        typer.echo(f"note: {folder} held all {held:,} trials already; nothing was simulated", err=True)
    if any(failed) or code:
        raise typer.Exit(FAILED if any(failed) else code)


def _conditions(plan: Plan, texts: Sequence[str], asked: Sequence[str], trials: int) -> list[Condition]:
    """What `--fail-if` asks, checked before any trial runs."""
    from poisonsim.errors import MetricError
    from poisonsim.results.conditions import check_trials, parse_condition
    from poisonsim.results.levels import always_or_never, asks_for_better, turned
    from poisonsim.results.metrics import metrics_for

    found, problems = [], []
    for text in texts:
        try:
            condition = parse_condition(text, metrics_for(plan.ladder.sizes), plan.labels, asked)
            check_trials(condition.quantity, plan, trials)
            if why := always_or_never(condition):
                raise MetricError(f"{text!r}: {why}; name another bound")
            found.append(condition)
            if asks_for_better(condition):
                typer.echo(
                    f"note: --fail-if {text!r} fails where the figure is good; to fail where it is bad write "
                    f"'{turned(condition)}'",
                    err=True,
                )
        except MetricError as error:
            problems += [f"--fail-if {problem}" for problem in error.problems]
    if problems:
        raise MetricError(problems)
    return found


def _width(plan: Plan, text: str, asked: Sequence[str]) -> Width:
    """What `--until` asks, of the policies that were asked for."""
    from poisonsim.errors import MetricError
    from poisonsim.results.until import width_of

    try:
        return width_of(plan, text, asked)
    except MetricError as error:
        raise MetricError([f"--until {problem}" for problem in error.problems]) from None


def _print_verdicts(verdicts: Sequence[Verdict]) -> bool:
    """Says under which policies a condition holds, and where it may as well not; whether it does under any."""
    for verdict in verdicts:
        if verdict.holds or not verdict.clear:
            typer.echo(f"{'failed: ' if verdict.holds else 'note: '}{verdict}", err=True)
    return any(verdict.holds for verdict in verdicts)


def _print_width(result: Result, width: Width, most: int) -> int:
    """Says how many trials it took, or what is in the way; returns the exit code, 2 where none would do."""
    if width.reached(result):
        typer.echo(f"reached: {width.text} after {result.n_trials:,} trials; {width.describe(result)}", err=True)
        return 0
    if problem := width.problem(result):
        typer.echo(f"error: --until: {problem}", err=True)
        return 2
    wanted = width.trials_wanted(result)
    more = f"about {float(f'{wanted:.2g}'):,.0f} would do: raise --trials"
    if wanted > result.plan.most_trials:
        more = "raise --trials, or ask for less"
    told = f"not reached: {width.text} within {most:,} trials; {width.describe(result)}"
    typer.echo(f"warning: {told}; {more}", err=True)
    return FAILED


def command_line(scenario: str, plan: Plan, settings: list[str], years: str | None, vms: int, trials: int) -> str:
    """The command that computes this run again, on any machine and number of threads."""
    words = ["poisonsim", "run", scenario]
    for policy in plan.policies:
        words += ["--policy", policy.spec or policy.label]
    for setting in settings:
        words += ["--set", setting]
    if years is not None:
        words += ["--years", years]
    words += ["--trials", str(trials), "--seed", str(plan.seed)]
    return shlex.join([*words, *([] if vms == VMS else ["--vms", str(vms)])])


def _going_on(
    scenario: str,
    plan: Plan,
    settings: list[str],
    years: str | None,
    vms: int,
    trials: int,
    until: str | None,
    asked: list[str],
) -> str:
    """The command that goes on with a run that was to stop by itself; empty where it was not.

    Only the policies that the precision is asked of are named, and the status quo runs beside them as before.
    """
    if until is None:
        return ""
    of = replace(plan, policies=tuple(policy for policy in plan.policies if policy.label in asked))
    return f"{command_line(scenario, of, settings, years, vms, trials)} --until {shlex.quote(until)}"


def _note_pinned_mappings(resolved: ResolvedScenario, plan: Plan) -> None:
    """Says which policies stand for one kind of mapping only, where the user asked for the other."""
    wanted = resolved.scenario.host.mapping
    pinned = [policy.label for policy in plan.policies if policy.shared != (wanted == "shared")]
    if pinned and resolved.origins["host.mapping"] not in ("default", f"catalogue: {resolved.name}"):
        typer.echo(
            f"note: host.mapping = {wanted} is not used by {', '.join(pinned)}, which stand for the other", err=True
        )


def _without_parameters(spec: str) -> str:
    from poisonsim.policy.loader import split_spec

    return shlex.quote(split_spec(spec)[0])
