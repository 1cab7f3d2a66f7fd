"""`poisonsim plan`: which policy, how many spares and which HVO choice meet given service levels."""

from __future__ import annotations

import shlex
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from poisonsim.cli import complete
from poisonsim.cli.common import (
    FAILED,
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

if TYPE_CHECKING:
    from poisonsim.results.plan import CapacityPlan

EXAMPLES = (
    "poisonsim plan cloud-1t-ddr4 --require 'vm_lost per year <= 0.1%' --require 'capacity_cost_bytes <= 1% of memory'",
    "poisonsim plan seed-1t --require 'guest_lost_bytes <= 1MiB' --policy hgm2m --policy hgm4k",
    "poisonsim plan cloud-1t-ddr4 --require 'spares_exhausted <= 1%' --policy migrate1g --set vm.memory=4TiB --json",
)
_SECONDS_BETWEEN_LINES = 10.0


@user_errors
def plan_command(
    scenario: str = typer.Argument(
        "seed-1t", metavar="SCENARIO", autocompletion=complete.scenarios,
        help="Scenario: a name from `poisonsim catalog list`, or a TOML file.",
    ),
    require: list[str] = typer.Option(
        [], "--require", "-r", metavar="CONDITION", show_default=False,
        help="Service level that must hold at the end; repeat for more. No default.",
    ),
    levels: Path = typer.Option(
        None, "--levels", metavar="FILE.toml",
        help="File with levels = ['CONDITION', ...], beside any --require. Default: none.",
    ),
    policy: list[str] = typer.Option(
        [], "--policy", "-p", metavar="NAME[:PARAM=N]|FILE.py", autocompletion=complete.policies,
        help="Policy to choose from; repeat for more. Default: all that the host can run.",
    ),
    hvo: list[str] = typer.Option(
        [], "--hvo", metavar="VALUE",
        help="What may become of HVO, as host.hvo_with_hgm or host.hvo_with_keep; repeat for more. Default: all.",
    ),
    spares: int = typer.Option(
        None, "--spares", min=0, max=65536, metavar="N", help="Spare huge pages, held still. Default: searched."
    ),
    most_spares: int = typer.Option(
        None, "--most-spares", min=0, max=65536, metavar="N",
        help="Most spare huge pages that are tried. Default: an eighth of the VM's huge pages.",
    ),
    trials: int = typer.Option(
        None, "--trials", "-n", min=1, metavar="N",
        help="Most VM lifetimes of a choice. Default: as many as let about 20,000 see an error.",
    ),
    seed: int = typer.Option(1, "--seed", min=0, metavar="N", help="Same seed, same answer, on any number of threads."),
    years: str = typer.Option(
        None, "--years", metavar="TIME", help="Horizon, such as 5 or 18months. Default: the scenario's."
    ),
    settings: list[str] = typer.Option(
        [], "--set", metavar="KEY=VALUE", autocompletion=complete.settings,
        help="Override a scenario key; one that is searched is held still. Repeat for more. Default: none.",
    ),
    out: Path = typer.Option(
        None, "--out", "-o", metavar="FOLDER", help="Plan folder. Default: reports/plan-<scenario>-<plan id>."
    ),
    threads: int = typer.Option(None, "--threads", min=1, metavar="N", help="Worker threads. Default: one per core."),
    cluster: str = typer.Option(
        None, "--cluster", metavar="ADDRESS",
        help="Dask scheduler whose workers compute, such as tcp://scheduler:8786. Default: threads of this machine.",
    ),
    no_flips: bool = typer.Option(False, "--no-flips", help="Do not look for what would flip the choice."),
    as_json: bool = typer.Option(False, "--json", help="Print the plan as JSON on stdout, nothing else there."),
    as_csv: bool = typer.Option(
        False, "--csv",
        help="Print every policy, parameter and HVO choice, with its best number of spares, as CSV on stdout, nothing "
        "else there.",
    ),
) -> None:  # fmt: skip
    """Find the cheapest policy, number of spares and HVO choice that meet service levels, and what would flip it.

    A level is of the mean or a percentile (p50, p99, p99.9) of a metric, or of the probability P(METRIC OP VALUE) of a
    threshold; a metric alone is its mean. All choices see the same errors; trials are raised only where an interval
    (95 %) spans a level.

    The cost is the mean host memory cost at the end: tables, vmemmap, lost memory and the spares still held, but not
    hosts that are kept to evacuate to (host.spare_hosts).

    Exit code 3 where no choice is known to meet all levels.
    """
    from poisonsim.results.levels import read_levels
    from poisonsim.results.plan import execute_plan, prepare_plan
    from poisonsim.scenario import resolve_scenario

    one_output({"--json": as_json, "--csv": as_csv})
    resolved = resolve_scenario(scenario, overrides=settings, years=years)
    held = {key: resolved.origins[key] == "--set" for key in ("host.hvo_with_hgm", "host.spares")}
    texts = [*require, *(read_levels(levels) if levels is not None else ())]
    prepared = prepare_plan(
        resolved.scenario, levels=texts, policies=policy or None,
        hvo=hvo or None, hold_hvo=held["host.hvo_with_hgm"] and not hvo,
        spares=resolved.scenario.host.spares if spares is None and held["host.spares"] else spares,
        most_spares=most_spares, seed=seed,
    )  # fmt: skip
    folder = out or Path("reports") / f"plan-{resolved.name}-{prepared.plan_id[:12]}"
    held_still = {"--years": years, "--trials": trials, "--seed": None if seed == 1 else seed}
    given = {"--require": texts, "--policy": policy, "--hvo": hvo, "--spares": spares, "--most-spares": most_spares}
    command = shlex.join(["poisonsim", "plan", scenario, *options({**given, "--set": settings, **held_still})])
    quiet = as_json or as_csv
    with collected_warnings():
        with (
            workers(cluster, threads) as executor,
            going_on(lambda: f"finished simulations are kept in {folder}"),
            _progress() as show,
        ):
            found = execute_plan(
                prepared, trials=trials, threads=threads, executor=executor, progress=show, out=folder,
                flips=not no_flips, command=command,
            )  # fmt: skip
        with while_read():  # the exit code is due all the same
            if as_json:
                print_json(found.to_dict())
            elif as_csv:
                print_csv(found.choices())
            else:
                _print_plan(found, resolved.name)
    with while_read():
        typer.echo(f"\nplan folder  {folder}", err=quiet)
        typer.echo(f"all choices  {folder / 'plan.csv'}", err=quiet)
    if found.best is None:  # a run of what does not do is nothing to go on with
        raise typer.Exit(FAILED)
    first = found.best
    kept = [text for text in settings if text.partition("=")[0].strip() not in first.settings]
    here = [*kept, *(f"{key}={value}" for key, value in first.settings.items())]
    words = ["poisonsim", "run", scenario, *options({"--policy": first.spec, "--set": here, **held_still})]
    typer.echo(f"next         {shlex.join(words)}", err=quiet)


def _print_plan(found: CapacityPlan, name: str) -> None:
    """The answer, the table, the runner-up, what is open, and what would flip it."""
    from poisonsim.results.numbers import in_bytes
    from poisonsim.results.plan_words import (
        answer,
        bounds_of_flips,
        cell,
        flip_lines,
        not_in_cost,
        not_known,
        order_words,
        same_lines,
    )
    from poisonsim.units import format_bytes

    vm, horizon = found.scenario.vm, found.scenario.horizon
    _say(f"{name}: {answer(found)}")
    typer.echo("")
    letters = [chr(ord("A") + i) for i in range(len(found.levels))]
    for letter, level in zip(letters, found.levels, strict=True):
        typer.echo(f"{letter}  {level.text}")
    typer.echo("")
    rows = []
    same_trials = len({row.measured.trials for row in found.rows}) == 1
    for row in found.rows:
        params = " ".join(f"{key}={value}" for key, value in row.params.items())
        values = zip(found.levels, row.found.standings, row.measured.values, strict=True)
        rows.append([
            row.policy, params or "-", row.hvo or "-", "-" if row.spares is None else str(row.spares),
            str(in_bytes(row.measured.cost)), *(cell(*each) for each in values),
            "-" if same_trials else f"{row.measured.trials:,}", row.status.partition(",")[0],
        ])  # fmt: skip
    header = ["policy", "with", "HVO", "spares", "host cost", *letters, "trials", "status"]
    used = [i for i in range(len(header)) if i == 0 or any(row[i] != "-" for row in rows)]
    print_table([header[i] for i in used], [[row[i] for i in used] for row in rows], right=sum(i < 3 for i in used))
    tried = _several(len(found.every), "choice")
    if found.n_choices > len(found.every):
        tried += f" ({found.n_choices:,} with every number of spares that was tried)"
    tried += f", measured in {_several(found.n_runs, 'run')}"
    if same_trials:
        tried += f", those above from {found.rows[0].measured.trials:,} trials each"
    _say(
        f"{order_words(found)}. With 95 % intervals, at the end of {horizon.years:g} years of a "
        f"{format_bytes(vm.memory_bytes)} VM; {tried}; seed {found.seed}"
    )
    for line in same_lines(found):
        _say(line)
    if (left_out := not_in_cost(found)) is not None:
        _say(left_out)
    for policy, reason in found.left_out.items():
        _say(f"left out: {policy}: {reason}")
    for line in not_known(found):
        _say(line)
    if found.flips:
        typer.echo("\nwhat would flip the choice")
        for line in flip_lines(found.flips):
            _say(line)
        _say(bounds_of_flips(found))


def _several(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _say(text: str) -> None:
    typer.echo(textwrap.fill(text, width=WIDTH, subsequent_indent="  ", break_on_hyphens=False))


@contextmanager
def _progress() -> Iterator[Callable[[int, str], None]]:
    """A callback that says what is measured next: a line that is written over on a terminal, else one every ten s."""
    last = time.monotonic()

    def show(points: int, what: str) -> None:
        nonlocal last
        if time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            typer.echo(textwrap.shorten(f"{points} choices measured, now: {what}", WIDTH), err=True)

    if not sys.stderr.isatty():
        yield show
        return
    from rich.console import Console

    with Console(stderr=True).status("starting") as status:
        yield lambda points, what: status.update(
            textwrap.shorten(f"{points} choices measured, now: {what}", WIDTH - 20)
        )
