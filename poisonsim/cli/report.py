"""`poisonsim report`: write the report of a finished run again, or one page about several runs."""

from __future__ import annotations

import re
from pathlib import Path

import typer

from poisonsim.cli.common import VMS, check_page, collected_warnings, user_errors

EXAMPLES = (
    "poisonsim report reports/mine",
    "poisonsim report reports/before reports/after --out q3.html",
    "poisonsim report reports/mine reports/before reports/after --out pages/all.html",
)


@user_errors
def report_command(
    folders: list[Path] = typer.Argument(..., metavar="RUN...", help="Run folders that `poisonsim run` wrote."),
    out: Path = typer.Option(
        None, "--out", "-o", metavar="FILE", show_default=False,
        help="The page to write, which several runs need. Default: report.html in the one run's folder, with pictures.",
    ),
    vms: int = typer.Option(
        None, "--vms", min=1, metavar="N", show_default=False,
        help="Size of the fleet that the page of one run speaks of. Default: the run's.",
    ),
) -> None:  # fmt: skip
    """Write report.html and its pictures for a finished run, or one page that compares several."""
    from poisonsim.engine.lock import hold
    from poisonsim.engine.store import read_manifest, write_whole
    from poisonsim.errors import RunFolderError
    from poisonsim.report import render, write_comparison, write_report
    from poisonsim.results.run_folder import mend_summary, require_folder
    from poisonsim.results.runs import open_run

    if len(folders) > 1 and out is None:
        raise RunFolderError(f"{len(folders)} runs go to one page; name it: --out FILE.html")
    check_page(out)
    if len(folders) > 1 and vms is not None:
        raise RunFolderError("--vms: is of the page of one run; that of several speaks of no fleet")
    for folder in folders:
        require_folder(folder)
    with collected_warnings():
        commands = [str(read_manifest(folder).get("command", "")) for folder in folders]
        if len(folders) == 1:
            [folder], [command] = folders, commands
            size = vms or _vms_of(command)
            with hold(folder):
                result = open_run(folder)
                if out is None:
                    mend_summary(result, folder)
                    out = write_report(result, folder, command=command, vms=size)
                else:
                    write_whole(out, render(result, command=command, vms=size)[0].encode())
            typer.echo(out)
            return
        assert out is not None
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
