"""`poisonsim report`: write the report of a finished run again."""

from __future__ import annotations

from pathlib import Path

import typer

from poisonsim.cli.common import collected_warnings, user_errors


@user_errors
def report_command(
    folder: Path = typer.Argument(..., metavar="RUN", help="Run folder that `poisonsim run` wrote."),
) -> None:
    """Write report.html and its pictures for a finished run."""
    from poisonsim.engine.store import read_manifest
    from poisonsim.report import write_report
    from poisonsim.results.runs import open_run

    with collected_warnings():
        command = str(read_manifest(folder).get("command", ""))
        typer.echo(write_report(open_run(folder), folder, command=command))
