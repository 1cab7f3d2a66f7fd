"""`poisonsim verify`: our arithmetic against something that is not ours."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from poisonsim.cli.common import pool_set_back, print_json, print_table, user_errors

if TYPE_CHECKING:
    from poisonsim.translation.calibrate.kernel import Check

DIFFERS = 3
"""Exit code when a check does not hold: neither a usage error nor, of itself, a bug."""

EXAMPLES = (
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
    model: bool = typer.Option(False, "--model", help="TLB model against exact simulation; about a minute per CPU."),
    cpu: list[str] = typer.Option(
        [], "--cpu", metavar="CPU|FILE.toml", help="CPU for --model; repeat for more. Default: four of different make."
    ),
    published: bool = typer.Option(False, "--published", help="Predicted against published run-time ratios."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON on stdout, nothing else there."),
) -> None:  # fmt: skip
    """Compare our arithmetic with what can be measured; exit code 3 when something differs.

    --kernel maps 1 GiB of real memory as each policy would leave it and compares the page tables that the kernel
    counts, byte for byte. What the machine does not allow is listed with what would help. --model and --published show
    how far off the translation model is; they judge nothing.
    """
    from poisonsim.errors import ScenarioError

    if not (kernel or model or published):
        raise ScenarioError("verify: says nothing to compare with; add --kernel, --model or --published")
    if cpu and not model:
        raise ScenarioError("--cpu: says for which CPUs the model is checked; add --model")
    if reserve and not kernel:
        raise ScenarioError("--reserve: grows the pool of huge pages for --kernel; add that")
    found: dict[str, Any] = {"schema": "poisonsim.verify/1"}
    checks = _kernel(reserve) if kernel else []
    if kernel:
        found["kernel"] = [check.to_dict() for check in checks]
        if not as_json:
            _print_kernel(checks)
    if model:
        found["model"] = _model(cpu or list(_CPUS), quiet=as_json)
    if published:
        found["published"] = _published(quiet=as_json)
    if as_json:
        print_json(found)
    if any(check.verdict == "differs" for check in checks):
        raise typer.Exit(DIFFERS)


_CPUS = ("zen4", "sapphire-rapids", "cascade-lake", "neoverse-n1")


def _model(cpus: Sequence[str], *, quiet: bool) -> list[dict[str, object]]:
    from poisonsim.translation.agreement import agreement_grid, by_cpu, grid_header, grid_rows

    cells = []
    for name in cpus:
        typer.echo(f"{name}: simulating", err=True)
        cells += agreement_grid([name], seed=1, regions=(0, 64, 512), n_places=3, n_warm=400_000, n_counted=400_000)
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
