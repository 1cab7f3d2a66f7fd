"""`poisonsim verify`: our arithmetic against something that is not ours."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from poisonsim.cli.common import WIDTH, pool_set_back, print_json, print_table, user_errors

if TYPE_CHECKING:
    from poisonsim.results.selfcheck import Section
    from poisonsim.translation.calibrate.kernel import Check

DIFFERS = 3
"""Exit code when a check does not hold: neither a usage error nor, of itself, a bug."""

EXAMPLES = (
    "poisonsim verify",
    "poisonsim verify --full --out reports/full.html",
    "poisonsim verify --kernel",
    "sudo poisonsim verify --kernel --reserve",
    "poisonsim verify --model --cpu zen4",
    "poisonsim verify --published",
    "Exit codes: 0 all that could be checked agree, 3 something differs.",
)


@user_errors
def verify_command(
    kernel: bool = typer.Option(
        False, "--kernel", help="Page tables and memory map of the running kernel, of memory as policies leave it."
    ),
    reserve: bool = typer.Option(
        False, "--reserve", help="Grow the kernel's pool of huge pages meanwhile (needs root); it is always set back."
    ),
    model: bool = typer.Option(
        False, "--model", help="TLB model against exact simulation; a minute per CPU, twenty of them without --cpu."
    ),
    cpu: list[str] = typer.Option(
        [], "--cpu", metavar="CPU|FILE.toml",
        help="CPU for --model; repeat for more. Default: one for each pair of TLB levels in the catalogue.",
    ),
    published: bool = typer.Option(False, "--published", help="Predicted against published run-time ratios."),
    everything: bool = typer.Option(
        False, "--all", help="The self-check, and write its page; so without any of the above."
    ),
    full: bool = typer.Option(
        False, "--full", help="Self-check on the whole grid of CPUs, an hour or two. Default: its hardest cells."
    ),
    runs: int = typer.Option(
        2000, "--runs", min=20, max=1_000_000, metavar="N",
        help="Runs of each kind whose intervals the self-check counts.",
    ),
    seed: int = typer.Option(1, "--seed", min=0, max=2**62, metavar="N", help="Of the self-check."),
    out: Path = typer.Option(
        None, "--out", "-o", metavar="FILE", show_default=False,
        help="Page that the self-check writes. Default: reports/verification.html.",
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON on stdout, nothing else there."),
) -> None:  # fmt: skip
    """Check poisonsim against closed forms, simulation, published runs and the kernel; exit code 3 when a check fails.

    Without options: runs against closed forms, how often 95 % intervals hold the truth over 2,000 runs, the TLB model
    against exact simulation, published runs; reports/verification.html has a verdict for each.

    --kernel maps 1 GiB of real memory as each policy would leave it and compares the page tables that the kernel
    counts, byte for byte. What the machine does not allow is listed with what would help. --model and --published show
    how far off the translation model is; they judge nothing.
    """
    from poisonsim.errors import ScenarioError

    everything = everything or not (kernel or model or published)
    if cpu and not model:
        raise ScenarioError("--cpu: says for which CPUs the model is checked; add --model")
    if reserve and not kernel:
        raise ScenarioError("--reserve: grows the pool of huge pages for --kernel; add that")
    if full and not everything:
        raise ScenarioError("--full: is of the self-check; add --all, or leave out what else is asked for")
    if out is not None and not everything:
        raise ScenarioError("--out: is the page of the self-check; add --all, or leave out what else is asked for")
    if model:
        from poisonsim.translation import load_cpu

        for name in cpu:
            load_cpu(name)  # before the first is simulated
    found: dict[str, Any] = {"schema": "poisonsim.verify/1"}
    page = out or Path("reports/verification.html")
    sections = _self_check(full, runs, seed, page, quiet=as_json) if everything else []
    if everything:
        found["self_check"] = [section.to_dict() for section in sections]
    checks = _kernel(reserve) if kernel else []
    if kernel:
        found["kernel"] = [check.to_dict() for check in checks]
        if not as_json:
            _print_kernel(checks)
    if model:
        found["model"] = _model(cpu, quiet=as_json)
    if published:
        found["published"] = _published(quiet=as_json)
    if as_json:
        print_json(found)
    if any(check.verdict == "differs" for check in checks) or any(each.verdict == "fails" for each in sections):
        raise typer.Exit(DIFFERS)


def _self_check(full: bool, runs: int, seed: int, out: Path, *, quiet: bool) -> Sequence[Section]:
    from poisonsim.report.verification import write_verification
    from poisonsim.results.selfcheck import self_check
    from poisonsim.results.selfcheck.every import verdict_of

    sections = self_check(seed=seed, runs=runs, full=full, progress=lambda text: typer.echo(text, err=True))
    given = {"--full": full or None, "--runs": None if runs == 2000 else runs, "--seed": None if seed == 1 else seed}
    words = [word for flag, value in given.items() if value is not None for word in (flag, str(value))]
    command = " ".join(["poisonsim verify", *(word for word in words if word != "True")])
    path = write_verification(sections, out, seed=seed, command=command)
    if not quiet:
        print_table(["check", "verdict", ""], [[s.title, s.verdict, s.summary] for s in sections], right=3)
        typer.echo("\n" + textwrap.fill(verdict_of(sections), WIDTH, subsequent_indent="  "))
    typer.echo(f"\nevery number  {path}", err=quiet)
    return sections


def _model(cpus: Sequence[str], *, quiet: bool) -> list[dict[str, object]]:
    from poisonsim.translation.agreement import agreement_grid, by_cpu, grid_header, grid_rows
    from poisonsim.translation.cpus import tlb_designs

    cells = []
    for name in cpus or tlb_designs():
        typer.echo(f"{name}: simulating", err=True)
        cells += agreement_grid([name], seed=1, regions=(0, 64, 512))
    if not quiet:
        typer.echo("error of the model's walks per access, where there are at least 0.001\n")
        print_table(list(grid_header()), [list(row) for row in grid_rows(cells)], right=5)
    return [{"cpu": row.cpu, "cells": row.n_cells, "worst": row.worst, "median": row.median} for row in by_cpu(cells)]


def _published(*, quiet: bool) -> list[dict[str, object]]:
    from poisonsim.translation.validation import compare, comparison_rows

    header, rows = ["run", "cpu", "published", "predicted", "verdict", "taken"], comparison_rows(compare())
    if not quiet:
        print_table(header, [list(row) for row in rows], right=len(header))
    return [dict(zip(header, row, strict=True)) for row in rows]


def _kernel(reserve: bool) -> Sequence[Check]:
    from poisonsim.translation.calibrate.kernel import verify_kernel

    with pool_set_back():
        return verify_kernel(reserve=reserve, notice=lambda text: typer.echo(text, err=True))


def _print_kernel(checks: Sequence[Check]) -> None:
    import platform

    from poisonsim.units import GIB, format_bytes

    typer.echo(f"Linux {platform.release()}, {format_bytes(GIB)} of guest memory per mapping; bytes added\n")
    rows = [
        [
            check.what,
            check.policies or "-",
            check.counter,
            f"{check.expected_bytes:,}",
            "-" if check.measured_bytes is None else f"{check.measured_bytes:,}",
            check.verdict,
        ]
        for check in checks
    ]
    print_table(["mapping", "as left by", "counter", "ours", "kernel", "verdict"], rows, right=3)
    judged = [check for check in checks if check.verdict in ("agrees", "differs")]
    n_agree = sum(check.verdict == "agrees" for check in judged)
    typer.echo(f"\n{n_agree} of {len(judged)} agree; {sum(c.verdict == 'not checked' for c in checks)} not checked")
    reasons: dict[str, list[str]] = {}
    for check in checks:
        if check.verdict in ("not checked", "differs"):
            reasons.setdefault(check.why, []).append(check.what)
    for why, whats in reasons.items():
        text = f"{'; '.join(whats)}: {why}"
        typer.echo(
            textwrap.fill(text, width=118, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        )
