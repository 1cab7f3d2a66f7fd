"""`poisonsim fleet`: VMs of several scenarios as one fleet."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from poisonsim.cli import complete
from poisonsim.cli.common import (
    WIDTH,
    collected_warnings,
    going_on,
    one_output,
    options,
    print_csv,
    print_json,
    print_table,
    user_errors,
    while_read,
    workers,
)
from poisonsim.cli.run import DEFAULT_POLICIES

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from poisonsim.results.fleet_folder import FleetFolder
    from poisonsim.results.fleet_run import FleetRun
    from poisonsim.results.fleets import FleetPlan

EXAMPLES = (
    "poisonsim fleet hosts.toml --policy unmap1g --policy hgm2m",
    "poisonsim fleet hosts.toml --policy migrate1g:spares=8 --years 3 --threshold 'guest_lost_bytes > 8GiB'",
    "poisonsim fleet hosts.toml --policy hgm2m --json",
)


@user_errors
def fleet_command(
    file: Path = typer.Argument(
        ..., metavar="FILE", help="TOML file with a fleet table for each kind of VM: scenario, vms, and maybe set.",
    ),
    policy: list[str] = typer.Option(
        [], "--policy", "-p", metavar="NAME[:PARAM=N]|FILE.py", autocompletion=complete.policies,
        help="Policy to simulate on every component; repeat for more. Default: four of them.",
    ),
    threshold: list[str] = typer.Option(
        [], "--threshold", metavar="CONDITION",
        help="VMs beyond it are counted by year, such as 'guest_lost_bytes > 8GiB'; repeat for more. Default: 1 GiB "
        "lost, 1 % slower, or lost as a whole.",
    ),
    trials: int = typer.Option(
        None, "--trials", "-n", min=1, metavar="N",
        help="VM lifetimes of each component. Default: as many as let about 20,000 see an error.",
    ),
    seed: int = typer.Option(
        1, "--seed", min=0, metavar="N", help="Same seed, same result; each component has one made of it and its name."
    ),
    years: str = typer.Option(
        None, "--years", metavar="TIME", help="Horizon of all, such as 5 or 18months. Default: that of the scenarios."
    ),
    out: Path = typer.Option(
        None, "--out", "-o", metavar="FOLDER", help="Fleet folder. Default: reports/fleet-<file>-<fleet id>."
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
    no_report: bool = typer.Option(False, "--no-report", help="Leave out fleet.html and the pages of the components."),
) -> None:  # fmt: skip
    """Simulate each policy on every component of a fleet, and add up what it costs the fleet.

    Components are independent; within each, all policies meet the same errors. Every component is kept as a run folder
    in the fleet's; the same command goes on where it was stopped, and other numbers of VMs need no new trials.
    """
    from poisonsim.results.fleet_folder import FleetFolder
    from poisonsim.results.fleet_words import THRESHOLDS
    from poisonsim.results.fleets import plan_fleet

    one_output({"--json": as_json, "--csv": as_csv})
    plan = plan_fleet(file, policies=policy or DEFAULT_POLICIES, seed=seed, years=years)
    thresholds = list(dict.fromkeys(threshold or THRESHOLDS))
    _check_thresholds(plan, thresholds)
    folder = out or Path("reports") / f"fleet-{file.stem}-{plan.fleet_id[:12]}"
    held: dict[str, object] = {"--years": years, "--trials": trials, "--seed": None if seed == 1 else seed}
    command = shlex.join(["poisonsim", "fleet", str(file), *options({"--policy": policy, **held})])
    quiet = as_json or as_csv
    at = FleetFolder(folder)
    with (
        collected_warnings(),
        workers(cluster, threads) as executor,
        going_on(lambda: f"finished components and blocks are kept in {folder}"),
        at.claimed(plan),
    ):
        found = _simulate(plan, trials, threads, executor, folder, command)
        with while_read():  # the pages are due all the same
            if as_json:
                print_json(found.to_dict(thresholds))
            elif as_csv:
                print_csv(found.summary())
            else:
                _print_fleet(found, plan, file.stem, thresholds)
        page = _write_pages(found, plan, at, thresholds, threshold, command, no_report=no_report)
    typer.echo(f"\nfleet folder  {folder}", err=quiet)
    typer.echo(f"every figure  {folder / 'fleet.csv'}", err=quiet)
    if page is not None:
        typer.echo(f"open          {page}", err=quiet)
    typer.echo(f"next          poisonsim life {at.component(found.parts[0].name)}", err=quiet)


def _check_thresholds(plan: FleetPlan, thresholds: Sequence[str]) -> None:
    """Refuses what is no threshold of some component, before any trial runs."""
    from poisonsim.errors import MetricError
    from poisonsim.results.fleets import check_threshold

    problems: list[str] = []
    for text in thresholds:
        try:
            check_threshold(plan, text)
        except MetricError as error:
            problems += [f"--threshold {problem}" for problem in error.problems]
    if problems:
        raise MetricError(problems)


def _simulate(
    plan: FleetPlan, trials: int | None, threads: int | None, executor: Executor | None, folder: Path, command: str
) -> FleetRun:
    """The fleet, with progress over all its components on stderr."""
    from poisonsim.cli.progress import progress_over
    from poisonsim.results.fleets import execute_fleet

    with progress_over(lambda planned: planned.part.name, plan.parts[0]) as show:
        return execute_fleet(
            plan, trials=trials, threads=threads, executor=executor, progress=show, out=folder, command=command
        )


def _print_fleet(found: FleetRun, plan: FleetPlan, name: str, thresholds: Sequence[str]) -> None:
    """One table of totals, and one of the VMs beyond each threshold by year."""
    from poisonsim.results.cost_words import spares_sentence
    from poisonsim.results.fleet_words import TOTALS, drained_rows, paired_sentences, total_rows

    horizon = found.parts[0].scenario.horizon
    typer.echo(
        f"{name}: {found.vms:,} VMs in {len(found.parts)} component{'s' if len(found.parts) > 1 else ''}, "
        f"{horizon.years:g} years, seed {plan.seed}, fleet {plan.fleet_id[:12]}\n"
    )
    rows, above = [], ""
    for row in total_rows(found):
        own = [row.component, f"{row.vms:,}"] if row.component != above else ["", ""]
        rows.append([*own, found.policies[row.policy], *row.cells])
        above = row.component
    print_table(["component", "VMs", "policy", *TOTALS], rows, right=3)
    typer.echo(
        "expected totals at the end of the horizon, with 95 % intervals; every metric and year is in fleet.csv\n"
    )
    for sentence in paired_sentences(found):
        typer.echo(textwrap.fill(sentence, width=WIDTH, subsequent_indent="  ", break_on_hyphens=False))
    for part, result in zip(found.parts, found.results, strict=True):
        if note := spares_sentence(result.plan):
            typer.echo(textwrap.fill(f"note: {part.name}: {note}", width=WIDTH, subsequent_indent="  "))
    if len(found.policies) > 1:
        typer.echo("")
    typer.echo("VMs expected beyond a threshold by then; in 19 such fleets of 20 it is no more than p95")
    drained = [drained_rows(found, threshold) for threshold in thresholds]
    lines = []
    for each in drained:
        for p, cells in each.rows:
            first = each.threshold if p == 0 else ""
            lines.append([first, found.policies[p], *(cell.replace(";", ",") for cell in cells)])
    heads = [f"{year:g} year{'s' if year != 1 else ''}" for year in drained[0].years]
    print_table(["threshold", "policy", *heads], lines, right=2)


def _write_pages(
    found: FleetRun, plan: FleetPlan, folder: FleetFolder, thresholds: Sequence[str], asked: list[str], command: str, *,
    no_report: bool,
) -> Path | None:  # fmt: skip
    """The fleet's page and those of its components; with `no_report` none, and older ones are removed."""
    from poisonsim.engine.store import remove_report
    from poisonsim.report import FLEET_PAGE, write_fleet, write_report

    page = folder.path / FLEET_PAGE
    if folder.keeps_more([result.n_trials for result in found.results]):
        return page if page.exists() else None
    for part, result in zip(found.parts, found.results, strict=True):
        if no_report:
            remove_report(folder.component(part.name))
        else:
            write_report(result, folder.component(part.name), command=command)
    if no_report:
        page.unlink(missing_ok=True)
        return None
    told = " ".join([command, *map(shlex.quote, options({"--threshold": asked}))])
    return write_fleet(found, folder.path, thresholds=thresholds, command=told, fleet_id=plan.fleet_id)
