"""`poisonsim verify`: our arithmetic against something that is not ours."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from poisonsim.cli.common import print_json, print_table, user_errors

if TYPE_CHECKING:
    from poisonsim.translation.calibrate.kernel import Check

DIFFERS = 3
"""Exit code when a check does not hold: neither a usage error nor, of itself, a bug."""

EXAMPLES = (
    "Examples:  poisonsim verify --kernel  |  sudo poisonsim verify --kernel --reserve  |  "
    "poisonsim verify --kernel --json  ||  Exit codes: 0 all that could be checked agree, 3 something differs."
)


@user_errors
def verify_command(
    kernel: bool = typer.Option(
        False, "--kernel", help="Page tables and memory map of the running kernel, of memory as policies leave it."
    ),
    reserve: bool = typer.Option(
        False, "--reserve", help="Grow the kernel's pool of huge pages meanwhile (needs root); it is always set back."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON on stdout, nothing else there."),
) -> None:  # fmt: skip
    """Compare our arithmetic with what can be measured; exit code 3 when something differs.

    --kernel maps 1 GiB of real memory as each policy would leave it and compares the page tables that the kernel
    counts, byte for byte. What the machine does not allow is listed with what would help.
    """
    from poisonsim.errors import ScenarioError

    if not kernel:
        raise ScenarioError("verify: says nothing to compare with; add --kernel")
    checks = _kernel(reserve)
    if as_json:
        print_json({"schema": "poisonsim.verify/1", "kernel": [check.to_dict() for check in checks]})
    else:
        _print_kernel(checks)
    if any(check.verdict == "differs" for check in checks):
        raise typer.Exit(DIFFERS)


def _kernel(reserve: bool) -> Sequence[Check]:
    from poisonsim.translation.calibrate.kernel import verify_kernel
    from poisonsim.translation.calibrate.pool import Terminated

    try:
        return verify_kernel(reserve=reserve, notice=lambda text: typer.echo(text, err=True))
    except KeyboardInterrupt:
        typer.echo("interrupted; the pool of huge pages is as it was", err=True)
        raise typer.Exit(130) from None
    except Terminated as signal:
        typer.echo(f"ended by {signal}; the pool of huge pages is as it was", err=True)
        raise typer.Exit(128 + signal.number) from None


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
