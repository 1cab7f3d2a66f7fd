"""The pages on what is written: JSON on stdout, and the files of run folders."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from poisonsim.cli import app, commands
from poisonsim.engine.store import DATA_FILES, REPORT_FILES
from poisonsim.manual.markdown import code, page, table

_SAMPLES = {
    "run": "run seed-1t --policy hgm2m --trials 1000 --years 1 --no-report --out {folder}/mine --json",
    "compare": "compare {folder}/mine --year 1 --json",
    "sweep": "sweep --over host.spares=0,1 --policy unmap1g --trials 1000 --years 1 --out {folder}/grid --json",
    "fleet": "fleet {folder}/hosts.toml --policy hgm2m --trials 1000 --years 1 --no-report --out {folder}/fleet --json",
    "plan": "plan seed-1t --require guest_lost_bytes<=1MiB -p hgm2m -p hgm4k --trials 1000 --out {folder}/plan --json",
    "splits": "splits --cpu zen5 --guest-page 4K --json",
    "life": "life {folder}/mine --json",
    "fit": "fit {folder}/cells.csv --hosts 9 --memory 1TiB --since 2025-01-01 --until 2026-01-01 --json",
    "replay": "replay {folder}/errors.csv --policy hgm2m --imputations 2 --json",
    "verify": "verify --published --json",
    "policies list": "policies list --json",
    "policies show": "policies show migrate1g --json",
    "catalog list": "catalog list --json",
    "catalog show": "catalog show linux --json",
}
"""A command line for each command whose JSON is told from what it prints."""

_LOG = "time,host,kind,address\n2025-03-01T06:00:00Z,a,UE,0x40000000\n2025-03-02T06:00:00Z,b,,\n"
"""A log for the sample of `replay`, a record of it damaged."""
_HOSTS = '[[fleet]]\nscenario = "seed-1t"\nvms = 10\n'
"""A fleet for the sample of `fleet`."""

_CELLS = "time,host,kind,address,bank,row,column\n" + "".join(
    f"2025-0{i}-01T06:00:00Z,a,{'UE' if i > 5 else 'CE'},{hex(i << 25)},1,{i},8\n" for i in range(1, 8)
)
"""A log for the sample of `fit`, whose cells are of one column."""

_TABLES = {
    "damage": "by what is wrong: how many records, the first few lines, and what the first says",
    "scenario": "the resolved scenario, by table and key", "settings": "value by key", "over": "values by key",
    "start": "value by metric", "end": "value by metric", "changes": "change by metric",
}  # fmt: skip
"""Tables whose keys are data."""
_NAMES = {str: "text", bool: "true or false", int: "number", float: "number", type(None): "null"}


def json_page() -> str:
    """What each command prints with `--json`."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "errors.csv").write_text(_LOG)
        Path(folder, "cells.csv").write_text(_CELLS)
        Path(folder, "hosts.toml").write_text(_HOSTS)
        printed = {name: _printed(line.format(folder=folder).split()) for name, line in _SAMPLES.items()}
    parts = []
    for name, command in commands():
        if not any("--json" in parameter.opts for parameter in command.params):
            continue
        told = "\n".join(_outline([printed[name]])) if name in printed else _UNTOLD.get(name, _RUN_IT)
        parts.append(f"## `poisonsim {name} --json`\n\n{told}")
    return page(
        "JSON",
        "What each command prints with `--json`, key by key.",
        "With `--json` a command prints one JSON object on stdout and nothing else there. `schema` names what it is "
        "and the version of its form; a change that breaks readers changes the number. Numbers that are not known are "
        "`null`. `run.json` of a run folder is `poisonsim.run/1`, `sweep.json` is `poisonsim.sweep-folder/1`, and "
        "`fleet.json` is `poisonsim.fleet-folder/1`. "
        "With `--csv` the same rows come as CSV.",
        *parts,
    )


_RUN_IT = "Run it to see its keys."
_UNTOLD = {
    "calibrate": "`schema` is `poisonsim.calibration/1`. What was measured of this machine: capacities, walks and "
    "mixtures with their intervals, what could not be had, and the CPU file as text."
}


def _printed(words: list[str]) -> Any:
    """The data that a command line prints, run in this process."""
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(io.StringIO()), suppress(SystemExit):
        app(words)
    return json.loads(out.getvalue())


def _outline(forms: list[dict[str, Any]], depth: int = 0) -> Iterator[str]:
    """Keys of tables of the same form, and the kinds of their values, as a nested list."""
    indent = "  " * depth
    for key in dict.fromkeys(key for form in forms for key in form):
        values = [form[key] for form in forms if key in form]
        inner = [each for value in values for each in (value if isinstance(value, list) else [value])]
        tables = [each for each in inner if isinstance(each, dict)]
        if key == "schema":
            yield f"{indent}- `schema`: `{values[0]}`"
        elif key in _TABLES and isinstance(values[0], dict):
            yield f"{indent}- `{key}`: {_TABLES[key]}"
        elif tables:
            may_lack = " or null" if len(tables) < len(inner) else ""
            yield f"{indent}- `{key}`: {'list of tables' if isinstance(values[0], list) else 'table'}{may_lack}"
            yield from _outline(tables, depth + 1)
        else:
            of = "list of " if isinstance(values[0], list) else ""
            kinds = " or ".join(dict.fromkeys(_NAMES[type(each)] for each in inner))
            yield f"{indent}- `{key}`: {of}{kinds or 'text'}"


def run_folder_page() -> str:
    """The files of run folders, sweep folders and fleet folders."""
    rows = [[code(name), what] for name, what in [*DATA_FILES.items(), *REPORT_FILES.items()]]
    return page(
        "Run folders",
        "What `run`, `sweep` and `fleet` write, file by file.",
        table(["file", "holds"], rows),
        "Each is written whole or not at all. The run id is a hash of scenario, policies and seed: the same command "
        "gives the same folder on any machine and number of threads, more trials only add blocks, and a block that is "
        "missing or damaged is computed again and a damaged one named. Nothing of the environment goes in but "
        "versions. `--out` names the folder; one that holds another run is refused, and so is one that another process "
        "writes to: its `.lock` says who, and counts only while that process lives. A killed run goes on with the "
        "same command.",
        "A sweep folder has `sweep.json` (the grid, and which run is which point), `points/`, with a run folder for "
        "each point, and `sweep.csv`, the summaries of all points in one table.",
        "A fleet folder has `fleet.json` (the components and how many VMs each has), `components/`, with a run folder "
        "for each, and `fleet.csv`: means and totals of every component and, as component `fleet`, of all VMs.",
        "The columns of `summary.csv`:",
        table(["column", "is"], [[code(name), what] for name, what in SUMMARY_COLUMNS.items()]),
    )


SUMMARY_COLUMNS = {
    "policy": "name, with the parameters that were given",
    "metric": "see `poisonsim help metrics`",
    "unit": "of every number in the row; `1` for ratios, shares and probabilities",
    "year": "a year of the horizon, or `life` for the mean over it",
    "mean": "mean over all VMs, those without an error among them; of a 0/1 metric the probability",
    "mean_low": "low end of its interval of 95 %",
    "mean_high": "high end",
    "p50": "median over VMs",
    "p95": "what 95 % of VMs do not exceed",
    "p99": "what 99 % of VMs do not exceed; empty where too few trials lie beyond it to tell",
    "p99_low": "low end of its interval of 95 %",
    "p99_high": "high end",
}


def files_of(folder: Path) -> set[str]:
    """Names of the files in a run folder, blocks as one.

    Examples:
        >>> files_of(Path("no-such-folder"))
        set()
    """
    found = (Path(root, name).relative_to(folder) for root, _, names in os.walk(folder) for name in names)
    return {"blocks/000000.npz" if path.parent.name == "blocks" else str(path) for path in found}
