"""The page on logs: formats that are read, and the columns of a table of events."""

from __future__ import annotations

import re

from poisonsim.logs.codes import CODES, FORMATS
from poisonsim.logs.events import COLUMNS, EventBatch
from poisonsim.logs.table import NAMED, WORDS
from poisonsim.manual.markdown import code, meanings_of, page, table

_FORMATS = {
    "rasdaemon": "its SQLite database, `ras-mc_event.db`: `mc_event`, `mce_record` and `memory_failure_event`",
    "kernel": "the kernel log, from dmesg, syslog or journalctl: EDAC, machine checks, firmware (GHES), page handling",
    "journal": "`journalctl -o json`: the kernel's entries, read as the kernel log",
    "mcelog": "the log of the mcelog daemon",
    "trace": "text of the tracepoints `mc_event`, `mce_record` and `memory_failure_event`",
    "edac-sysfs": "counters, as `grep -r . /sys/devices/system/edac/mc` lists them",
    "counters": "`HardwareCorrupted` of /proc/meminfo, and the nodes' `memory_failure` counters",
    "ipmi-sel": "the system event log, as `ipmitool sel elist` lists it: numbers of errors without addresses",
    "redfish": "Redfish `MemoryMetrics`: numbers of errors without addresses",
    "csv": "a table with the columns below",
    "parquet": "the same as Parquet, with `pip install 'poisonsim[parquet]'`",
    "smartmem": "the table made from mcelog that the SmartMem data set uses",
}
_NOT_IN_TABLES = ("source",)


def logs_page() -> str:
    """Formats, and the columns of `EventBatch` as CSV and Parquet have them."""
    meanings = meanings_of(EventBatch)
    rows = [[code(name), _meaning(name, meanings[name])] for name in COLUMNS if name not in _NOT_IN_TABLES]
    return page(
        "Logs that are read",
        "Formats, and the columns of a table of events.",
        "`replay` and `fit` tell the format by its content; `--format` says otherwise. Files may be packed with gzip, "
        "bzip2 or xz. What is damaged is counted and told by kind and line, and the rest is read.",
        table(["format", "is"], [[code(name), _FORMATS[name]] for name in FORMATS]),
        "## Columns of CSV and Parquet",
        "A row is an event. The first row of a CSV names the columns, in any order; only `kind` has to be there, an "
        "empty field is not known, and columns of other names are passed over. Times are ISO 8601 or seconds since "
        "1970, UTC where they name no zone. Numbers are decimal or `0x…`.",
        table(["column", "holds"], rows),
    )


def _meaning(name: str, text: str) -> str:
    """What a docstring says of a column, without the types of arrays; of a coded one its words."""
    text = re.sub(r",? ?(?:u?int\d+|datetime64\[us\])\[n\]", "", text).replace("; `NaT` where the log does not say", "")
    if name in NAMED:
        return {"host": "Name of the host.", "label": "The DIMM's label, slot name or serial."}[name]
    if name in CODES:
        labels = (CODES[name](value).label for value in WORDS[name].values())  # type: ignore[attr-defined]
        what = re.sub(r"^`\w+`(?: of )?", "", text).rstrip(".")
        said = f"Of {what}" if what else {"kind": "What happened", "found_by": "Who found it"}[name]
        return f"{said}: {', '.join(code(label) for label in labels if label)}."
    return text.replace("`UNKNOWN` (-1)", "-1")
