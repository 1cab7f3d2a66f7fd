"""`poisonsim report`: write the report of a finished run again, or one page about several runs."""

from __future__ import annotations

import re
from pathlib import Path

import typer

from poisonsim.cli.common import VMS, collected_warnings, user_errors

EXAMPLES = (
    "poisonsim report reports/mine",
    "poisonsim report reports/before reports/after --out q3.html",
    "poisonsim report reports/mine reports/before reports/after --out pages/all.html",
)


@user_errors
def report_command(
    folders: list[Path] = typer.Argument(..., metavar="RUN...", help="Run folders that `poisonsim run` wrote."),
    out: Path = typer.Option(
        None, "--out", "-o", metavar="FILE", help="Page about several runs. Default: report.html of the one run.",
        show_default=False,
    ),
    vms: int = typer.Option(
        None, "--vms", min=1, metavar="N", show_default=False,
        help="Size of the fleet that the page of one run speaks of. Default: the run's.",
    ),
) -> None:  # fmt: skip
    """Write report.html and its pictures for a finished run, or one page that compares several."""
    from poisonsim.engine.lock import hold
    from poisonsim.engine.store import read_manifest
    from poisonsim.errors import RunFolderError
    from poisonsim.report import write_comparison, write_report
    from poisonsim.results.run_folder import mend_summary, require_folder
    from poisonsim.results.runs import open_run

    if (len(folders) > 1) != (out is not None):
        raise RunFolderError(
            f"{len(folders)} run{'s' if len(folders) > 1 else ''} and {'no' if out is None else 'an'} --out: several "
            "runs go to one page, which --out names; a single run's report goes to its folder"
        )
    if vms is not None and out is not None:
        raise RunFolderError("--vms: is of the page of one run; that of several speaks of no fleet")
    for folder in folders:
        require_folder(folder)
    with collected_warnings():
        commands = [str(read_manifest(folder).get("command", "")) for folder in folders]
        if out is None:
            with hold(folders[0]):
                result = open_run(folders[0])
                mend_summary(result, folders[0])
                typer.echo(write_report(result, folders[0], command=commands[0], vms=vms or _vms_of(commands[0])))
            return
        names = [folder.resolve().name for folder in folders]
        if len(set(names)) < len(names):
            names = [str(folder) for folder in folders]
        runs = [
            (name, open_run(folder), command) for name, folder, command in zip(names, folders, commands, strict=True)
        ]
        typer.echo(write_comparison(runs, out))


def _vms_of(command: str) -> int:
    """The fleet that a run was told to speak of, by the command that it keeps."""
    found = re.search(r" --vms (\d{1,15})$", command)
    return int(found[1]) if found else VMS
