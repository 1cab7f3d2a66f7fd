"""The command line: each command parses, calls the library and prints."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Iterator
from functools import partial
from typing import Any

import typer

from poisonsim.cli import (
    calibrate,
    catalog,
    compare,
    fit,
    fleet,
    help,
    life,
    plan,
    policies,
    replay,
    report,
    run,
    splits,
    sweep,
    verify,
)
from poisonsim.cli.common import EXIT_CODES, examples, forget_stdout
from poisonsim.cli.usage import Command, Group

app = typer.Typer(
    name="poisonsim",
    cls=Group,
    help="What each way of handling memory errors costs a large VM.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"Exit codes: {', '.join(f'{code} {what}' for code, (what, _) in EXIT_CODES.items())}.",
)
_add = partial(app.command, cls=Command)
_add("run", epilog=examples(*run.EXAMPLES))(run.run_command)
_add("compare", epilog=examples(*compare.EXAMPLES))(compare.compare_command)
_add("sweep", epilog=examples(*sweep.EXAMPLES))(sweep.sweep_command)
_add("fleet", epilog=examples(*fleet.EXAMPLES))(fleet.fleet_command)
_add("plan", epilog=examples(*plan.EXAMPLES))(plan.plan_command)
_add("report", epilog=examples(*report.EXAMPLES))(report.report_command)
_add("splits", epilog=examples(*splits.EXAMPLES))(splits.splits_command)
_add("life", epilog=examples(*life.EXAMPLES))(life.life_command)
_add("fit", epilog=examples(*fit.EXAMPLES))(fit.fit_command)
_add("replay", epilog=examples(*replay.EXAMPLES))(replay.replay_command)
_add("calibrate", epilog=examples(*calibrate.EXAMPLES))(calibrate.calibrate_command)
_add("verify", epilog=examples(*verify.EXAMPLES))(verify.verify_command)
app.add_typer(policies.app, name="policies")
app.add_typer(catalog.app, name="catalog")
_add("help", epilog=examples(*help.EXAMPLES))(help.help_command)


@app.callback(invoke_without_command=True)
def root(version: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True)) -> None:
    """What each way of handling memory errors costs a large VM: TLB reach, page tables, lost memory, lost VMs."""
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"poisonsim {installed('poisonsim')}")
        raise typer.Exit


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with its name, such as `policies show`, in the order of the help.

    Examples:
        >>> [name for name, _ in commands()][:3]
        ['run', 'compare', 'sweep']
    """

    def below(path: tuple[str, ...], command: Any) -> Iterator[tuple[str, Any]]:
        for name, inner in getattr(command, "commands", {}).items():
            yield from below((*path, name), inner)
        if not hasattr(command, "commands"):
            yield " ".join(path), command

    yield from below((), typer.main.get_command(app))


def main() -> None:
    """Runs the command line; anything that reaches here is a bug of ours, and is called one."""
    try:
        app()
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            forget_stdout()
            print(f"error: output cannot be written ({error.strerror}); the run folder is intact", file=sys.stderr)
            sys.exit(2)
        traceback.print_exc()
        print("poisonsim: this is a bug of ours; please report it with the lines above", file=sys.stderr)
        sys.exit(1)
