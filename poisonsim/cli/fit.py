"""`poisonsim fit`: a log to the rates, laws and fault model of a fleet."""

from __future__ import annotations

import shlex
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from poisonsim.cli.common import WIDTH, print_json, print_table, user_errors

if TYPE_CHECKING:
    from poisonsim.fitting.fit import Fit

EXAMPLES = (
    "poisonsim fit errors.csv --hosts 400 --memory 1TiB --since 2025-01-01 --until 2026-01-01",
    "poisonsim fit errors.csv --hosts 400 --memory 1TiB --since 2025-01-01 --until 2026-01-01 --out fitted.toml",
    "poisonsim fit errors.csv --hosts 400 --memory 1TiB --since 2025-01-01 --until 2026-01-01 --installed 2024-06-01 "
    "--json",
)
_MOST_DIMMS = 12
_FEWEST_QUANTILES = 5


@user_errors
def fit_command(
    logs: list[str] = typer.Argument(
        ..., metavar="LOG…", help="Logs of memory errors: rasdaemon databases, kernel logs, mcelog, CSV and others."
    ),
    hosts: int = typer.Option(
        None, "--hosts", metavar="N", show_default=False,
        help="Hosts that were watched, those without a record too. Default: those that the log names, which is biased.",
    ),
    memory: str = typer.Option(
        None, "--memory", metavar="SIZE", show_default=False,
        help="Memory of each host, such as 1TiB. Default: up to the largest address seen, which is biased.",
    ),
    since: str = typer.Option(
        None, "--since", metavar="TIME", show_default=False,
        help="Watched from this UTC time on. Default: the first event, which is biased.",
    ),
    until: str = typer.Option(
        None, "--until", metavar="TIME", show_default=False,
        help="Watched until this UTC time. Default: the last event, which is biased.",
    ),
    installed: str = typer.Option(
        None, "--installed", metavar="TIME", show_default=False,
        help="When the hosts went into service (UTC), for what age does. Default: not known.",
    ),
    inventory: str = typer.Option(
        None, "--inventory", metavar="FILE", show_default=False,
        help="Hosts that are not alike, as CSV: host, memory, since, until, installed. Default: all are alike.",
    ),
    dimm: str = typer.Option(
        None, "--dimm", metavar="NAME|FILE.toml", show_default=False,
        help="What the DIMMs are, for modes and maps: of the catalogue, or a file. Default: ddr4-32g-2rx4, assumed.",
    ),
    model: str = typer.Option(
        None, "--model", metavar="NAME", show_default=False,
        help="Fault model to write, rate or field. Default: field where errors cluster as those of a fault do.",
    ),
    out: Path = typer.Option(
        None, "--out", metavar="FILE.toml", show_default=False,
        help="Write the fault model here, as a scenario that run takes. Default: not written.",
    ),
    png: Path = typer.Option(
        None, "--png", metavar="FILE", show_default=False,
        help="Draw how well the laws fit, as a PNG file. Default: not drawn.",
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
    as_json: bool = typer.Option(False, "--json", help="Print JSON on stdout, nothing else there."),
) -> None:  # fmt: skip
    """Take the memory errors of a fleet's logs, and tell its error rates, how they cluster, and what cannot be told.

    Every number has an interval of 95 %. With --out a fault model is written that run takes, in which every number
    says which log it is from.
    """
    from poisonsim.cli.progress import reading_progress
    from poisonsim.fitting.fit import fit

    _checked(out, png)
    with reading_progress() as progress:
        found = fit(
            logs, hosts=hosts, memory=memory, since=since, until=until, installed=installed, inventory=inventory,
            dimm=dimm, model=model, format=format_, tz=tz, year=year, boot=boot, progress=progress,
        )  # fmt: skip
    written = _written(found, out, png)
    for line in found.report.warnings():
        typer.echo(f"warning: {line}", err=True)
    if as_json:
        print_json(found.to_dict())
    else:
        _print(found)
    for notice in found.notices:
        typer.echo(_filled(f"note: {notice}"), err=True)
    for line in written:
        typer.echo(line, err=as_json)


def _checked(out: Path | None, png: Path | None) -> None:
    """Refuses files that could not be used, before a long log is read.

    Raises:
        ScenarioError: A file with another ending.
    """
    from poisonsim.errors import ScenarioError, shown

    for option, path, ending in (("--out", out, ".toml"), ("--png", png, ".png")):
        if path is not None and path.suffix != ending:
            raise ScenarioError(f"{option}: {shown(str(path))} does not end in {ending}; write {path.name}{ending}")


def _written(found: Fit, out: Path | None, png: Path | None) -> list[str]:
    """Writes the files that were asked for; gives a line on each, and the next command.

    Raises:
        FitError: The log gives no model.
        RunFolderError: A file cannot be written.
    """
    from poisonsim.engine.store import write_whole
    from poisonsim.fitting.model import rate_of_model

    lines = []
    if out is not None:
        for name, text in found.to_toml(name=out.name).items():
            write_whole(out.parent / name, text.encode())
            lines.append(f"model  {out.parent / name}")
        named = str(out) if len(out.parts) > 1 else f"./{out}"
        key, rate = rate_of_model(found)
        lines.append(f"next   poisonsim run {shlex.quote(named)} --policy hgm2m")
        ends = " and ".join(f"--set {key}={end:.3g}" for end in (rate.low, rate.high))
        lines.append(f"       and the ends of the interval of its rate: {ends}; its VM is the base's: see vm.memory")
    if png is not None:
        from poisonsim.report.fitted import fit_png

        write_whole(png, fit_png(found))
        lines.insert(-1 if out is not None else 0, f"fit    {png}")
    return lines


def _print(found: Fit) -> None:
    from poisonsim.fitting.findings import counted
    from poisonsim.units import format_bytes, format_years

    exposure = found.exposure
    derived = f" ({', '.join(exposure.derived)} taken from the log)" if exposure.derived else ""
    mean = "" if exposure.weight is None else " in the mean"
    hit = counted(int((found.errors.counts > 0).sum()), "host")
    incidents = counted(found.incidents.total, "incident")
    typer.echo(
        f"{exposure.n_hosts:,} host{'' if exposure.n_hosts == 1 else 's'} of {format_bytes(exposure.mean_memory_bytes)}"
        f"{mean} for {format_years(exposure.years)}{mean}: {exposure.tib_years:,.4g} TiB-years{derived}\n"
        f"{counted(found.errors.total, 'UE')} on {hit}, in {incidents} (errors of a host with no 30 d between them); "
        f"{counted(found.observed.n_corrected, 'CE')}\n"
    )
    print_table(
        ["finding", "value (95 % interval)", "of", "interval"],
        [[f.label, str(f.estimate).removesuffix(" per TiB-year"), f.counts, f.method] for f in found.findings], right=9,
    )  # fmt: skip
    _print_modes(found)
    _print_maps(found)
    _print_fit(found)
    if found.refusals:
        typer.echo("\ncannot be said")
        for refusal in found.refusals:
            typer.echo(_filled(f"{refusal.label}: {refusal.why}; needed: {refusal.needed}"))


def _print_modes(found: Fit) -> None:
    if not found.modes:
        return
    n = sum(mode.n for mode in found.modes)
    typer.echo(f"\n{n:,} fault{'' if n == 1 else 's'} by the coordinates of their cells")
    rows = [
        [mode.mode, f"{mode.n:,}", f"{mode.n_permanent:,}", str(mode.share),
         str(mode.fit_per_chip).removesuffix(" FIT per chip"), str(mode.p_ue)]
        for mode in found.modes
    ]  # fmt: skip
    print_table(["mode", "faults", "over a day", "share", "FIT per chip", "led to UEs"], rows)


def _print_maps(found: Fit) -> None:
    from poisonsim.units import format_bytes

    if not found.maps:
        return
    typer.echo("\naddress maps")
    rows = []
    for each in found.maps[:_MOST_DIMMS]:
        fit = each.fit
        if fit is None or not fit.explains:
            rows.append([each.dimm, "", each.why, "", "", ""])
        else:
            left = format_bytes(fit.residual_bytes)
            rows.append([each.dimm, str(fit.n_cells), fit.best.name, each.known, left, str(fit.n_tied - 1)])
    print_table(["DIMM of", "cells", "map", "in the catalogue", "left over", "as good"], rows, right=9)
    if len(found.maps) > _MOST_DIMMS:
        typer.echo(f"and {len(found.maps) - _MOST_DIMMS:,} more; all are in --json")


def _print_fit(found: Fit) -> None:
    """How well the laws fit: hosts by number of errors, quantiles of times, and tests."""
    if not found.checks and not found.errors.total:
        return
    typer.echo("\ngoodness of fit")
    rows = found.hosts_by_number()
    names = [f"{row['events']}{'+' if row['or_more'] else ''}" for row in rows]
    if rows:
        print_table(
            ["hosts by UEs" if found.model == "rate" else "hosts by incidents", *names],
            [[said, *(f"{row[key]:,.{digits}f}" for row in rows)] for said, key, digits in (
                ("seen", "seen", 0), ("were all alike", "alike", 1), ("as they differ", "differing", 1),
            )],
        )  # fmt: skip
    share = found.times.incidents.share
    if len(share) >= _FEWEST_QUANTILES:
        at = [0.1, 0.25, 0.5, 0.75, 0.9]
        seen = [float(share[min(int(q * len(share)), len(share) - 1)]) for q in at]
        typer.echo("")
        print_table(
            ["incidents by time", *(f"{q:.0%}".replace("%", " %") for q in at)],
            [["part of the window", *(f"{value:.2f}" for value in seen)],
             ["at a constant rate", *(f"{q:.2f}" for q in at)]],
        )  # fmt: skip
    if found.checks:
        typer.echo("")
        print_table(
            ["check", "seen", "expected", "if", "p", ""],
            [[c.label, f"{c.seen:,.3g}", f"{c.expected:,.3g}", c.law, f"{c.p:.2g}", "" if c.holds else "does not hold"]
             for c in found.checks], right=9,
        )  # fmt: skip
    if found.errors.total:
        why = "errors come together, as those of one fault do" if found.model == "field" else "errors come singly"
        typer.echo(f"\nmodel: {found.model}{'' if found.model_was_asked else f', as {why}'}")


def _filled(text: str) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
