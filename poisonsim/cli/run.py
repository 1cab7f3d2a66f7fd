"""`poisonsim run`: simulate, print, write a run folder."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from poisonsim.cli.common import collected_warnings, print_json, user_errors

if TYPE_CHECKING:
    from poisonsim.engine.plan import Plan
    from poisonsim.scenario import ResolvedScenario

REFERENCE = "unmap1g"
DEFAULT_POLICIES = [REFERENCE, "hgm4k", "hgm2m", "migrate1g"]
EXAMPLES = (
    "Examples:  poisonsim run --policy hgm2m  |  "
    "poisonsim run cloud-1t-ddr4 --policy unmap1g --policy hgm2m --years 3  |  "
    "poisonsim run fleet.toml --policy migrate1g:spares=8 --set host.cpu=zen5 --json"
)


@user_errors
def run_command(
    scenario: str = typer.Argument("seed-1t", help="Scenario: a name from `poisonsim catalog list`, or a TOML file."),
    policy: list[str] = typer.Option(
        [], "--policy", "-p", metavar="NAME[:PARAM=N]|FILE.py",
        help="Policy to simulate; repeat for more. The status quo, unmap1g, runs beside them. Default: four of them.",
    ),
    trials: int = typer.Option(
        None, "--trials", "-n", min=1, help="VM lifetimes. Default: as many as let about 20,000 see an error."
    ),
    seed: int = typer.Option(1, "--seed", min=0, help="Same seed, same result, on any number of threads."),
    years: str = typer.Option(
        None, "--years", metavar="TIME", help="Horizon, such as 5 or 18months. Default: the scenario's."
    ),
    settings: list[str] = typer.Option(
        [], "--set", metavar="KEY=VALUE", help="Override a scenario key, such as host.cpu=zen5; repeat for more."
    ),
    threads: int = typer.Option(None, "--threads", min=1, help="Worker threads. Default: one per core."),
    out: Path = typer.Option(None, "--out", "-o", help="Run folder. Default: reports/<scenario>-<run id>."),
    vms: int = typer.Option(10_000, "--vms", min=1, help="Size of the fleet that the last lines speak of."),
    as_json: bool = typer.Option(False, "--json", help="Print the summary as JSON on stdout, nothing else there."),
    as_csv: bool = typer.Option(False, "--csv", help="Print the summary as CSV on stdout, nothing else there."),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Show the resolved scenario and what to expect; simulate nothing."
    ),
    no_report: bool = typer.Option(False, "--no-report", help="Leave out report.html and its pictures."),
) -> None:  # fmt: skip
    """Simulate VM lifetimes under each policy and compare what they cost, on the same memory errors."""
    from poisonsim.cli.dry_run import print_dry_run
    from poisonsim.cli.progress import progress
    from poisonsim.cli.tables import print_result
    from poisonsim.engine.store import remove_report
    from poisonsim.errors import ScenarioError
    from poisonsim.results.runs import default_trials, execute, plan_run
    from poisonsim.scenario import resolve_scenario

    if as_json and as_csv or dry_run and (as_json or as_csv):
        raise ScenarioError("--json, --csv and --dry-run exclude each other; give one of them")
    resolved = resolve_scenario(scenario, overrides=settings, years=years)
    chosen = policy or DEFAULT_POLICIES
    if REFERENCE not in chosen:
        chosen = [REFERENCE, *chosen]
    plan = plan_run(resolved.scenario, policies=chosen, seed=seed)
    wanted = trials or default_trials(resolved.scenario)
    if dry_run:
        print_dry_run(resolved, plan, wanted, threads)
        return
    folder = out or Path("reports") / f"{resolved.name}-{plan.run_id[:12]}"
    command = command_line(scenario, plan, wanted, settings, years)
    quiet = as_json or as_csv
    _note_pinned_mappings(resolved, plan)
    with collected_warnings():
        with progress(plan, quiet=False) as callback:
            result = execute(plan, trials=wanted, threads=threads, out=folder, progress=callback, command=command)
        if as_json:
            print_json(result.to_dict())
        elif as_csv:
            typer.echo(result.summary().to_csv(index=False), nl=False)
        else:
            print_result(result, resolved, vms=vms)
        if no_report:
            remove_report(folder)  # an older one would speak of another number of trials
        else:
            from poisonsim.report import write_report

            write_report(result, folder, command=command)
    typer.echo(f"\nrun folder  {folder}", err=quiet)
    if not no_report:
        typer.echo(f"open        {folder / 'report.html'}", err=quiet)
    typer.echo(f"next        poisonsim policies show {_without_parameters(plan.policies[-1].spec)}", err=quiet)


def command_line(scenario: str, plan: Plan, trials: int, settings: list[str], years: str | None) -> str:
    """The command that computes this run again, on any machine and number of threads."""
    words = ["poisonsim", "run", scenario]
    for policy in plan.policies:
        words += ["--policy", policy.spec or policy.label]
    for setting in settings:
        words += ["--set", setting]
    if years is not None:
        words += ["--years", years]
    return shlex.join([*words, "--trials", str(trials), "--seed", str(plan.seed)])


def _note_pinned_mappings(resolved: ResolvedScenario, plan: Plan) -> None:
    """Says which policies stand for one kind of mapping only, where the user asked for the other."""
    wanted = resolved.scenario.host.mapping
    pinned = [policy.label for policy in plan.policies if policy.shared != (wanted == "shared")]
    if pinned and resolved.origins["host.mapping"] not in ("default", f"catalogue: {resolved.name}"):
        typer.echo(
            f"note: host.mapping = {wanted} is not used by {', '.join(pinned)}, which stand for the other", err=True
        )


def _without_parameters(spec: str) -> str:
    name, _, tail = spec.rpartition(":")
    return shlex.quote(name if "=" in tail else spec)
