"""`poisonsim replay`: a log's own errors under each policy."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from poisonsim.cli import complete
from poisonsim.cli.common import (
    WIDTH,
    check_page,
    command_given,
    one_output,
    options_named,
    print_csv,
    print_json,
    print_table,
    user_errors,
)

if TYPE_CHECKING:
    from poisonsim.replaying.replay import Replay

DEFAULT_POLICIES = ["unmap1g", "hgm4k", "hgm2m", "migrate1g"]
EXAMPLES = (
    "poisonsim replay errors.csv",
    "poisonsim replay errors.csv --policy hgm2m --policy soft-offline --ce-threshold mcelog --csv",
    "poisonsim replay errors.csv --scenario cloud-1t-ddr4 --base 4GiB --anonymise --json",
    "poisonsim replay errors.csv --policy hgm2m --host web7 --life",
    "poisonsim replay errors.csv --out replay.html",
)
_MOST_HOSTS = 12


_OPTIONS = {name: f"--{name.replace('_', '-')}" for name in (
    "base", "host_memory", "since", "years", "ce_threshold", "impute", "imputations", "format", "tz", "year",
    "boot", "seed",
)} | {"hosts": "--host"}  # fmt: skip


@user_errors
def replay_command(
    logs: list[str] = typer.Argument(
        ..., metavar="LOG…", help="Logs of memory errors: rasdaemon databases, kernel logs, mcelog, CSV and others."
    ),
    policy: list[str] = typer.Option(
        [], "--policy", "-p", metavar="NAME[:PARAM=N]|FILE.py", autocompletion=complete.policies,
        help="Policy to replay under; repeat for more. Default: four of them.",
    ),
    scenario: str = typer.Option(
        "seed-1t", "--scenario", metavar="SCENARIO", autocompletion=complete.scenarios,
        help="VM, host and workload: a scenario, whose faults and horizon are not used.",
    ),
    settings: list[str] = typer.Option(
        [], "--set", metavar="KEY=VALUE", autocompletion=complete.settings,
        help="Override a scenario key, such as vm.memory=512GiB; repeat for more. Default: none.",
    ),
    base: str = typer.Option(
        "0", "--base", metavar="SIZE", help="Physical address that backs the first byte of the VM, such as 0x140000000."
    ),
    host_memory: str = typer.Option(
        None, "--host-memory", metavar="SIZE", show_default=False,
        help="Memory of each host, as its addresses run. Default: up to the largest address seen.",
    ),
    since: str = typer.Option(
        None, "--since", metavar="TIME", show_default=False,
        help="Begin at this UTC time, such as 2025-03-01T06:00:00. Default: the first event.",
    ),
    years: str = typer.Option(
        None, "--years", metavar="TIME", show_default=False,
        help="Watch so long, such as 2 or 18months. Default: to the last event, in whole months.",
    ),
    ce_threshold: str = typer.Option(
        None, "--ce-threshold", metavar="NAME", show_default=False,
        help="When corrected errors of a page set off on_ce rules. Default: the scenario's, or rasdaemon.",
    ),
    impute: str = typer.Option(
        "uniform", "--impute", metavar="NAME",
        help="Errors without an address go anywhere (uniform), to bad backing pages (known), or nowhere (none).",
    ),
    imputations: int = typer.Option(
        20, "--imputations", min=1, max=10_000, metavar="N", help="How often what the log does not say is drawn."
    ),
    seed: int = typer.Option(1, "--seed", min=0, metavar="N", help="Same seed, same draws."),
    host: list[str] = typer.Option(
        [], "--host", metavar="NAME", help="Replay this host only; repeat for more. Default: all that the log names."
    ),
    format_: str = typer.Option(
        None, "--format", metavar="NAME", show_default=False, help="Format of the logs. Default: told by their content."
    ),
    tz: str = typer.Option("UTC", "--tz", metavar="NAME", help="Zone of times that name none."),
    year: int = typer.Option(
        None, "--year", min=1970, max=9999, metavar="YEAR", show_default=False,
        help="Year of the first time that names none. Default: the latest that fits the file's own time.",
    ),
    boot: str = typer.Option(
        None, "--boot", metavar="TIME", show_default=False,
        help="When the host was booted, UTC, for kernel logs that count from then. Default: not known.",
    ),
    anonymise: bool = typer.Option(
        False, "--anonymise", help="Leave out names of hosts and files, digests and text of the logs; shift all times."
    ),
    life: bool = typer.Option(
        False, "--life", help="Tell the life of each host's VM under the last policy, for one imputation."
    ),
    out: Path = typer.Option(
        None, "--out", "-o", metavar="FILE.html", show_default=False,
        help="Write a page there that may be sent around: hosts and logs are numbers in it. Default: none.",
    ),
    names: bool = typer.Option(False, "--names", help="Name hosts, logs and times in the page of --out."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON on stdout, nothing else there."),
    as_csv: bool = typer.Option(
        False, "--csv", help="Print a row per host, policy and metric as CSV on stdout, nothing else there."
    ),
) -> None:  # fmt: skip
    """Take the memory errors of a log, and tell what each policy would have made of them on every host.

    The VM of the scenario is placed in every host's memory, from --base on. What the log does not say (pages, times,
    who found an error, whether the guest survives) is drawn several times, and the spread is shown.
    """
    from poisonsim.cli.progress import reading_progress
    from poisonsim.errors import ScenarioError
    from poisonsim.replaying.replay import replay
    from poisonsim.scenario import load_scenario

    one_output({"--json": as_json, "--csv": as_csv, "--life": life})
    check_page(out)
    if names and (out is None or anonymise):
        raise ScenarioError("--names: belongs to --out, and excludes --anonymise")
    with options_named(_OPTIONS), reading_progress() as progress:
        found = replay(
            logs, policies=policy or DEFAULT_POLICIES, scenario=load_scenario(scenario, overrides=settings), base=base,
            host_memory=host_memory, since=since, years=years, ce_threshold=ce_threshold, impute=impute,
            imputations=imputations, hosts=host, anonymise=anonymise, seed=seed, format=format_, tz=tz, year=year,
            boot=boot, progress=progress,
        )  # fmt: skip
    if out is not None:
        from poisonsim.report import write_replay

        write_replay(found, out, command=_command(logs, host, [since, boot, tz, str(out)], names), names=names)
    for line in found.report.warnings():
        typer.echo(f"warning: {line}", err=True)
    if as_json:
        print_json(found.to_dict())
    elif as_csv:
        print_csv(found.summary())
    elif life:
        for name in found.hosts["host"]:
            typer.echo(f"{name}:")
            for line in found.life(name).lines():
                typer.echo(line)
    else:
        _print(found)
    if out is not None:
        typer.echo(f"page  {out}", err=as_json or as_csv)
    for notice in found.notices:
        typer.echo(_filled(f"note: {notice}"), err=True)


def _command(logs: list[str], hosts: list[str], others: list[str | None], names: bool) -> str:
    """The command that was given; without `names`, with what stands for logs, hosts, times and files in their place."""
    words = {**dict.fromkeys(logs, "LOG"), **dict.fromkeys(hosts, "HOST")}
    words |= {
        of: word for of, word in zip(others, ("TIME", "TIME", "ZONE", "PAGE.html"), strict=True) if of is not None
    }
    hidden = {} if names else words

    def told(word: str) -> str:
        option, sign, value = word.rpartition("=")  # as in --host=web7
        return hidden.get(word) or f"{option}{sign}{hidden.get(value, value)}"

    return command_given(told)


def _print(found: Replay) -> None:
    from poisonsim.units import format_bytes

    setting, report, n = found.setting, found.report, len(found.hosts)
    since = f" from {setting.start}{' (shifted)' if setting.anonymised else ''}"
    typer.echo(
        f"{n:,} host{'' if n == 1 else 's'}, {report.n_events:,} events of {report.n_records:,} records "
        f"({report.n_damaged:,} damaged), {setting.watched}{since}; "
        f"{format_bytes(setting.vm_bytes)} VM from {setting.base_bytes:#x}\n"
    )
    shown = found.hosts.sort_values(["placed", "passed"], ascending=False, kind="stable").head(_MOST_HOSTS)
    columns = {
        "CEs": "corrected", "UEs": "uncorrected", "again": "again", "no address": "without_address",
        "outside": "outside", "beyond": "beyond", "CE pages": "passed",
    }  # fmt: skip
    print_table(
        ["host", *columns, "in the VM"],
        [
            [row["host"], *(_number(row[column]) for column in columns.values()),
             _span(row["placed"], row["placed_low"], row["placed_high"], written=_number)]
            for row in shown.to_dict("records")
        ],
    )  # fmt: skip
    _print_rest(n - len(shown))
    typer.echo(_filled(
        "again: of pages that were bad already; outside: in memory that does not back the VM; beyond: past the end of "
        "memory; CE pages: whose corrected errors passed the threshold; in the VM: uncorrected errors, as drawn"
    ))  # fmt: skip
    typer.echo(f"\nall {n:,} together: sums, and of reach and slowdown the mean" if n > 1 else "")
    fleet = found.fleet()
    print_table(["policy", *_SHOWN], [[p, *_cells(fleet[fleet["policy"] == p])] for p in found.policies])
    _print_modes(found)
    if n == 1:
        return
    typer.echo("")
    summary = found.summary()
    rows = []
    for name in shown["host"]:
        for p in found.policies:
            rows.append([name, p, *_cells(summary[(summary["host"] == name) & (summary["policy"] == p)])])
    print_table(["host", "policy", *_SHOWN], rows, right=2)
    _print_rest(n - len(shown))


def _print_modes(found: Replay) -> None:
    from poisonsim.replaying.modes import UNKNOWN

    if not len(found.modes) or (found.modes["mode"] == UNKNOWN).all():
        return
    columns = {
        "faults": "faults", "hosts": "hosts", "errors": "errors", "UEs in VMs": "ue_pages", "CE pages": "ce_pages",
    }  # fmt: skip
    rows = []
    for row in found.modes.to_dict("records"):
        cells = [_number(row[column]) for column in columns.values()]
        rows.append([row["mode"], *(["-"] * 3 + cells[3:] if row["mode"] == UNKNOWN else cells)])
    typer.echo("\nfaults by the coordinates of their cells")
    print_table(["mode", *columns], rows)
    shares = found.loss_by_mode()
    if shares:
        typer.echo("\nguest memory lost, by the mode of the fault")
        hit = [mode for mode in found.modes["mode"] if any(mode in own for own in shares.values())]
        lost = [
            [policy, *(_percent(own[mode].best) if mode in own else "0 %" for mode in hit)]
            for policy, own in shares.items()
        ]
        print_table(["policy", *hit], lost)


def _print_rest(n: int) -> None:
    if n:
        typer.echo(f"and {n:,} more, with fewer errors in their VMs; all are in --csv and --json")


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"


def _bytes(value: float) -> str:
    from poisonsim.units import format_bytes

    return format_bytes(value)


def _percent(value: float) -> str:
    text = f"{100 * value:.2f} %".replace("-", "−")
    return text.removeprefix("−") if text.startswith("−0.00") else text


def _seconds(value: float) -> str:
    return f"{value:.3g} s"


_SHOWN: dict[str, tuple[str, Callable[[float], str], float]] = {
    "regions": ("regions_hit", _number, 0), "guest lost": ("guest_lost_bytes", _bytes, 0),
    "host cost": ("capacity_cost_bytes", _bytes, 0), "tables": ("table_bytes", _bytes, 0),
    "reach lost": ("tlb_reach_loss", _percent, 0), "slower": ("slowdown", _percent, 1),
    "VMs lost": ("vm_lost", _number, 0), "stalls": ("stall_seconds", _seconds, 0),
}  # fmt: skip
"""Columns of the tables: metric, how it is written, and what is taken off first."""


def _cells(rows: Any) -> list[str]:
    by_metric = rows.set_index("metric")[["mean", "low", "high"]]
    return [
        _span(*(by_metric.loc[metric] - less).tolist(), written=written) for metric, written, less in _SHOWN.values()
    ]


def _span(mean: float, low: float, high: float, *, written: Callable[[float], str]) -> str:
    """A mean, with the lowest and highest of the imputations where they differ in what is written."""
    ends = written(low), written(high)
    return written(mean) if ends[0] == ends[1] else f"{written(mean)} ({ends[0]}–{ends[1]})"


def _filled(text: str) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
