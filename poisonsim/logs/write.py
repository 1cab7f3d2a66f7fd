"""Events written as logs: CSV and Parquet with all that is known, and formats that machines write, for round trips.

A machine's format carries less than an event knows; what it lacks (hosts in a database, rows in an mcelog) is left out.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from poisonsim.errors import LogError, shown
from poisonsim.logs.codes import UNKNOWN, FoundBy, Kind, Outcome, PageType, Severity
from poisonsim.logs.events import COLUMNS, PAGE_BITS, EventBatch
from poisonsim.logs.parquet import pyarrow_parquet

_MESSAGE = {
    FoundBy.READ: "memory read error",
    FoundBy.SCRUB: "memory scrubbing error",
    FoundBy.WRITE: "memory write error",
}
_TRANSACTION = {FoundBy.READ: 1, FoundBy.WRITE: 2, FoundBy.SCRUB: 4}
_DETAIL = (
    ("ProcessorSocketId", "socket"), ("PhysicalRankId", "rank"), ("Row", "row"), ("Column", "column"),
    ("Bank", "bank"), ("BankGroup", "bank_group"),
)  # fmt: skip
_PAGES = {PageType.HUGE: "huge page", PageType.FREE: "free buddy page", PageType.KERNEL: "reserved kernel page",
          PageType.ALREADY_POISONED: "already poisoned page", PageType.BASE: "dirty LRU page"}  # fmt: skip
_SCHEMA = """
CREATE TABLE mc_event (id INTEGER PRIMARY KEY, timestamp TEXT, err_count INTEGER, err_type TEXT, err_msg TEXT,
    label TEXT, mc INTEGER, top_layer INTEGER, middle_layer INTEGER, lower_layer INTEGER, address INTEGER,
    grain INTEGER, syndrome INTEGER, driver_detail TEXT);
CREATE TABLE mce_record (id INTEGER PRIMARY KEY, timestamp TEXT, mcgcap INTEGER, mcgstatus INTEGER, status INTEGER,
    addr INTEGER, misc INTEGER, ip INTEGER, tsc INTEGER, walltime INTEGER, cpu INTEGER, cpuid INTEGER, apicid INTEGER,
    socketid INTEGER, cs INTEGER, bank INTEGER, cpuvendor INTEGER, bank_name TEXT, error_msg TEXT, mcgstatus_msg TEXT,
    mcistatus_msg TEXT, mcastatus_msg TEXT, user_action TEXT, mc_location TEXT);
CREATE TABLE memory_failure_event (id INTEGER PRIMARY KEY, timestamp TEXT, pfn TEXT, page_type TEXT,
    action_result TEXT);
"""


def write_csv(events: EventBatch, path: str | Path) -> None:
    """Writes events as CSV with every column; `read` gives back the same.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> from poisonsim.logs import read_all
        >>> events = EventBatch.of(kind=[Kind.UE], address=[4096], row=[7], time=np.datetime64("2025-03-01T12:00"))
        >>> with TemporaryDirectory() as folder:
        ...     write_csv(events, Path(folder, "events.csv"))
        ...     again = read_all(Path(folder, "events.csv")).events
        >>> again.address.tolist(), again.row.tolist(), str(again.time[0])
        ([4096], [7], '2025-03-01T12:00:00.000000')
    """
    frame = events.to_frame()
    frame["time"] = np.where(np.isnat(events.time), "", np.datetime_as_string(events.time, timezone="UTC"))
    frame["address"] = np.where(events.address < 0, "", [f"0x{address:x}" for address in events.address.tolist()])
    for name, dtype in COLUMNS.items():
        if dtype.kind == "i" and frame[name].dtype.kind == "i" and name != "span_s":
            frame[name] = frame[name].astype(object).where(frame[name] != UNKNOWN, "")
    frame.to_csv(path, index=False, lineterminator="\n")


def write_parquet(events: EventBatch, path: str | Path) -> None:
    """Writes events as Parquet with every column; `read` gives back the same.

    Raises:
        LogError: pyarrow is not installed.
    """
    import_of = pyarrow_parquet()
    import pyarrow as pa

    frame = events.to_frame()
    columns = {
        name: pa.array(frame[name].astype(str) if frame[name].dtype.kind not in "iM" else frame[name]) for name in frame
    }
    import_of.write_table(pa.table(columns), path)


def write_rasdaemon(events: EventBatch, path: str | Path) -> None:
    """Writes the events of one host as a rasdaemon database, a UE of known severity with its machine check as well.

    Raises:
        LogError: There is such a file already.
    """
    if Path(path).exists():
        raise LogError(f"{path}: exists already; name a file that does not")
    tables: dict[str, list[tuple[Any, ...]]] = {"mc_event": [], "mce_record": [], "memory_failure_event": []}
    for e in _rows(events):
        stamp = _seconds(e["time"]).replace("T", " ") + " +0000"
        if e["kind"] in (Kind.CE, Kind.UE):
            tables["mc_event"].append((
                stamp, e["count"], "Uncorrected" if e["kind"] == Kind.UE else "Corrected", _message(e), _label(e),
                max(e["mc"], 0), e["channel"], e["slot"], -1, max(e["address"], 0), _bits(e["grain_bytes"]), 0,
                _detail(e),
            ))  # fmt: skip
            if e["kind"] == Kind.UE and e["severity"] >= 0 and e["address"] > 0:
                tables["mce_record"].append((stamp, _status(e), e["address"], _MISC, max(e["socket"], 0), 0))
        elif e["kind"] == Kind.POISON:
            page = _PAGES.get(e["page_type"], "unknown page")
            tables["memory_failure_event"].append((stamp, hex(max(e["address"], 0) >> PAGE_BITS), page, _outcome(e)))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(_SCHEMA)
        for name, columns in (
            ("mc_event", "timestamp, err_count, err_type, err_msg, label, mc, top_layer, middle_layer, lower_layer, "
             "address, grain, syndrome, driver_detail"),
            ("mce_record", "timestamp, status, addr, misc, socketid, cpuvendor"),
            ("memory_failure_event", "timestamp, pfn, page_type, action_result"),
        ):  # fmt: skip
            marks = ", ".join("?" * len(columns.split(", ")))
            connection.executemany(f"INSERT INTO {name} ({columns}) VALUES ({marks})", tables[name])


def write_kernel(events: EventBatch, path: str | Path) -> None:
    """Writes events as a kernel log with ISO times, a UE of known severity with its machine check as well."""

    def lines(e: dict[str, Any]) -> Iterator[str]:
        for line in _kernel_lines(e):
            yield f"{e['time']}+00:00 {e['host'] or 'host'} kernel: {line}"

    _write_lines(events, path, lines)


def _kernel_lines(e: dict[str, Any]) -> Iterator[str]:
    """What the kernel says of an event."""
    page, offset = max(e["address"], 0) >> PAGE_BITS, max(e["address"], 0) & ((1 << PAGE_BITS) - 1)
    if e["kind"] in (Kind.CE, Kind.UE):
        if e["kind"] == Kind.UE and e["severity"] >= 0 and e["address"] > 0:
            yield f"mce: [Hardware Error]: CPU 0: Machine Check: 0 Bank 13: {_status(e) & (2**64 - 1):016x}"
            yield f"mce: [Hardware Error]: TSC 0 ADDR {e['address']:x} MISC {_MISC:x}"
        name = "UE" if e["kind"] == Kind.UE else "CE"
        where = "".join(f"{word}:{e[word]} " for word in ("channel", "slot") if e[word] >= 0)
        yield (
            f"EDAC MC{max(e['mc'], 0)}: {e['count']} {name} {_message(e)} on {_label(e)} ({where}"
            f"page:0x{page:x} offset:0x{offset:x} grain:{e['grain_bytes']} - {_detail(e)})"
        )
    elif e["kind"] == Kind.POISON:
        what = _PAGES.get(e["page_type"], "unknown page")
        yield f"Memory failure: 0x{page:x}: recovery action for {what}: {_outcome(e)}"
    elif e["kind"] == Kind.SOFT_OFFLINE:
        how = "page migration failed" if e["outcome"] == Outcome.FAILED else "invalidated"
        yield f"Soft offline: 0x{page:x}: {how}"


def write_journal(events: EventBatch, path: str | Path) -> None:
    """Writes events as a journal's entries in JSON, with the lines that `write_kernel` writes as their messages."""

    def lines(e: dict[str, Any]) -> Iterator[str]:
        micros = int(np.datetime64(e["time"], "us").astype(np.int64))
        for line in _kernel_lines(e):
            yield json.dumps({
                "__REALTIME_TIMESTAMP": str(micros), "_HOSTNAME": e["host"] or "host", "_TRANSPORT": "kernel",
                "SYSLOG_IDENTIFIER": "kernel", "MESSAGE": line,
            })  # fmt: skip

    _write_lines(events, path, lines)


def write_mcelog(events: EventBatch, path: str | Path) -> None:
    """Writes the CEs and UEs among events as mcelog prints them; it knows no rows, banks or hosts."""

    def lines(e: dict[str, Any]) -> Iterator[str]:
        if e["kind"] in (Kind.CE, Kind.UE):
            seconds = int(np.datetime64(e["time"], "s").astype(np.int64))
            yield "Hardware event. This is not a software error."
            yield "MCE 0\nCPU 0 BANK 7 TSC 0"
            yield f"MISC {_MISC:x} ADDR {max(e['address'], 0):x}"
            yield f"TIME {seconds} {np.datetime64(seconds, 's')}"
            yield f"STATUS {_status(e) & (2**64 - 1):x} MCGSTATUS 0"
            yield f"MCGCAP f000c14 APICID 0 SOCKETID {max(e['socket'], 0):x}"

    _write_lines(events, path, lines)


def write_trace(events: EventBatch, path: str | Path) -> None:
    """Writes the CEs, UEs and poisoned pages among events as text of tracepoints, in seconds since 1970; a UE of
    known severity with its machine check as well."""

    def lines(e: dict[str, Any]) -> Iterator[str]:
        seconds = np.datetime64(e["time"]).astype("M8[us]").astype(np.int64) / 1e6
        start = f"  kworker/0:1-88 [000] {seconds:.6f}: "
        if e["kind"] in (Kind.CE, Kind.UE):
            if e["kind"] == Kind.UE and e["severity"] >= 0 and e["address"] > 0:
                yield (
                    f"{start}mce_record: CPU: 0, MCGc/s: f000c14/0, MC13: {_status(e) & (2**64 - 1):016x}, "
                    f"IPID: {0:016x}, ADDR/MISC/SYND: {e['address']:016x}/{_MISC:016x}/{0:016x}, RIP: 00:<{0:016x}>, "
                    f"TSC: 0, PROCESSOR: 0:50657, TIME: {int(seconds)}, SOCKET: {max(e['socket'], 0)}, APIC: 0"
                )
            what = "Uncorrected" if e["kind"] == Kind.UE else "Corrected"
            yield (
                f"{start}mc_event: {e['count']} {what} error{'s' if e['count'] > 1 else ''}: {_message(e)} "
                f"on {_label(e)} (mc:{max(e['mc'], 0)} location:{e['channel']}:{e['slot']}:-1 "
                f"address:0x{max(e['address'], 0):08x} grain:{e['grain_bytes']} syndrome:0x00000000 {_detail(e)})"
            )
        elif e["kind"] == Kind.POISON:
            what = _PAGES.get(e["page_type"], "unknown page")
            page = max(e["address"], 0) >> PAGE_BITS
            yield f"{start}memory_failure_event: pfn 0x{page:x}: recovery action for {what}: {_outcome(e)}"

    _write_lines(events, path, lines)


WRITERS: dict[str, Callable[[EventBatch, str | Path], None]] = {
    "csv": write_csv, "parquet": write_parquet, "rasdaemon": write_rasdaemon, "kernel": write_kernel,
    "journal": write_journal, "mcelog": write_mcelog, "trace": write_trace,
}  # fmt: skip
"""By the name of the format."""

_MISC = 2 << 6 | 6
"""MCi_MISC: a physical address, known to 64 bytes."""


def write(events: EventBatch, path: str | Path, *, format: str) -> None:
    """Writes events in a format, as far as it can carry them.

    Raises:
        LogError: A format that is not written.
    """
    if format not in WRITERS:
        raise LogError(f"format: {shown(format)} is not written; allowed: {', '.join(WRITERS)}")
    WRITERS[format](events, path)


def _rows(events: EventBatch) -> Iterator[dict[str, Any]]:
    """Events as dictionaries; those without a time are taken to be of 1970."""
    times = np.where(np.isnat(events.time), np.datetime64(0, "us"), events.time)
    columns = {name: getattr(events, name).tolist() for name in COLUMNS}
    columns["time"] = np.datetime_as_string(times).tolist()
    columns["host"], columns["label"] = events.hosts.texts(events.host), events.labels.texts(events.label)
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


def _write_lines(events: EventBatch, path: str | Path, lines: Callable[[dict[str, Any]], Iterator[str]]) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for e in _rows(events):
            file.writelines(f"{line}\n" for line in lines(e))


def _seconds(time: str) -> str:
    return time[:19]


def _label(e: dict[str, Any]) -> str:
    return str(e["label"] or "unknown memory")


def _message(e: dict[str, Any]) -> str:
    return _MESSAGE.get(e["found_by"], "memory error")


def _outcome(e: dict[str, Any]) -> str:
    return Outcome(e["outcome"]).name.capitalize() if e["outcome"] >= 0 else "Ignored"


def _detail(e: dict[str, Any]) -> str:
    return "".join(f" {word}:0x{e[name]:x}" for word, name in _DETAIL if e[name] >= 0)


def _bits(grain: int) -> int:
    return max(grain, 1).bit_length() - 1


def _status(e: dict[str, Any]) -> int:
    """MCi_STATUS of an event, as the signed number that SQLite holds."""
    status = 1 << 63 | 1 << 60 | 1 << 59 | (1 << 58 if e["address"] > 0 else 0) | 0x80
    status |= _TRANSACTION.get(e["found_by"], 0) << 4 | (e["channel"] if 0 <= e["channel"] < 15 else 15)
    if e["kind"] == Kind.UE:
        status |= 1 << 61
        status |= {Severity.AR: 3 << 55, Severity.AO: 1 << 56, Severity.FATAL: 1 << 57}.get(e["severity"], 0)
    else:
        status |= min(e["count"], 0x7FFF) << 38
    return status - (1 << 64)
