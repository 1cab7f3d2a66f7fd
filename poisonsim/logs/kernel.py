"""Reader of the kernel's log: EDAC, machine checks, firmware-first reports (GHES), "Memory failure", "Soft offline".

Lines may come from dmesg, the journal (short, short-iso, short-precise), syslog or /dev/kmsg. A machine check and the
EDAC line that decodes it are one event; the kernel's work on the page is another, of kind `POISON` or `SOFT_OFFLINE`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from poisonsim.logs.clock import Clock
from poisonsim.logs.codes import FoundBy, Kind, Outcome, Severity
from poisonsim.logs.context import Context, named, same_event
from poisonsim.logs.events import I64, PAGE_BITS, EventBatch
from poisonsim.logs.fields import EDAC_FIELDS, Found, Table, merged
from poisonsim.logs.kernel_blocks import BLOCK_FIELDS, amd_checks, firmware_reports, machine_checks, told_by_edac
from poisonsim.logs.pages import PAGE_FIELDS, SIGBUS, failures, page_address
from poisonsim.logs.scan import DECIMAL, DECIMAL_BEFORE, HEX, MALFORMED, NO_NUMBER, TWO_HEADS
from poisonsim.logs.source import Block, blocks
from poisonsim.logs.stamps import NO_YEAR, SINCE_BOOT, stamps

_FAILURE = b"Memory failure: 0x"
_SOFT = (b"Soft offline: 0x", b"soft offline: 0x", b"soft_offline: 0x")
_CHECK, _FIRMWARE = b"[Hardware Error]:", b"}[Hardware Error]:"
_HEADS = (
    (b"EDAC MC", DECIMAL), (_FAILURE, HEX), *((text, HEX) for text in _SOFT),
    (_CHECK, NO_NUMBER), (_FIRMWARE, DECIMAL_BEFORE),
)  # fmt: skip
_WORDS = (b"failed", b"busy", b"unknown")
TABLE = Table(
    _HEADS,
    (
        *EDAC_FIELDS, *BLOCK_FIELDS, *PAGE_FIELDS, *((text, NO_NUMBER) for text in _WORDS),
        (b" CE", DECIMAL_BEFORE), (b" UE", DECIMAL_BEFORE), (b"page:0x", HEX), (b"offset:0x", HEX),
        (b" CE page 0x", HEX), (b" UE page 0x", HEX), (b"offset 0x", HEX), (b"grain ", DECIMAL), (b"csrow:", DECIMAL),
    ),
)  # fmt: skip
_TAIL = 256 << 10


def read_kernel(context: Context) -> Iterator[EventBatch]:
    """The events of a kernel log, block by block."""
    clock = context.clock()
    for block in blocks(context.path, context.report, context.progress, open_record):
        yield kernel_events(block, context, clock)


def kernel_events(block: Block, context: Context, clock: Clock) -> EventBatch:
    """The events of some lines; counts the lines."""
    found = Found.of(block, TABLE)
    events = _events(found, context, clock)
    found.settle(context)
    return events


def open_record(block: Block) -> int:
    """The line that starts the last record of several lines, which may go on beyond the block."""
    end = int(block.ends[-1])
    tail = block.text[max(0, end - _TAIL) : end].tobytes()
    starts = (b": Machine Check", b"_STATUS[", b"APEI Generic Hardware Error Source", SIGBUS)
    at = max(tail.rfind(start) for start in starts)
    if at < 0:
        return len(block.lines)
    return int(np.searchsorted(block.starts, end - len(tail) + at, "right")) - 1


def _events(found: Found, context: Context, clock: Clock) -> EventBatch:
    is_block = found.has(_CHECK, _FIRMWARE)
    several = sum((found.has(text).astype(np.int64) for text in TABLE.heads), np.zeros(len(found), np.int64)) > 1
    found.damaged(double := several | (found.state == TWO_HEADS), "two records on one line", context)
    found.damaged(spoilt := ~double & ~is_block & (found.state == MALFORMED), "number missing or too long", context)
    found = found.only(~double & ~spoilt)
    _when_and_where(found, context, clock)
    events, rows = _edac(found.only(found.has(b"EDAC MC")), context)
    for head, of in ((_CHECK, machine_checks), (_CHECK, amd_checks), (_FIRMWARE, firmware_reports)):
        others, at = of(found.only(found.has(head)), context)
        same = same_event(others, events)
        if of is amd_checks:
            same = np.where(same < 0, told_by_edac(others, at, events, rows), same)
        again = (same < 0) & (others.kind == Kind.UE)  # one UE may make several banks report
        same[again] = same_event(others[again], events)
        merged(events, others, same, context)
        events, rows = EventBatch.concat([events, others[same < 0]]), np.concatenate([rows, at[same < 0]])
    for more, at in (
        failures(found.only(found.has(_FAILURE)), _FAILURE, context),
        _soft(found.only(found.has(*_SOFT)), context),
    ):
        events, rows = EventBatch.concat([events, more]), np.concatenate([rows, at])
    return events[np.argsort(rows, kind="stable")]


def _when_and_where(found: Found, context: Context, clock: Clock) -> None:
    block, rows = found.block, found.rows
    kinds, micros, host_from, host_to = stamps(block.text, block.starts[rows], found.where)
    epoch = found.value(b"TIME ", default=0)
    both = np.flatnonzero((epoch > 0) & (kinds == SINCE_BOOT))
    if len(both):
        clock.anchor(int(micros[both[0]]), int(epoch[both[0]]) * 1_000_000)
    no_year = np.flatnonzero(kinds == NO_YEAR)
    dated = np.flatnonzero((epoch[no_year] > 0) & (epoch[no_year] < 1 << 34))
    if len(dated):
        clock.anchor_year(micros[no_year], int(dated[0]), int(epoch[no_year[dated[0]]]) * 1_000_000)
    found.time[:] = clock.times(kinds, micros)
    found.host[:] = named(context.hosts, block, host_from, host_to)


def _edac(found: Found, context: Context) -> tuple[EventBatch, I64]:
    stated = (found.value(b" CE", b" UE") >= 0) | found.has(b" CE page 0x", b" UE page 0x")
    page = found.value(b"page:0x", b" CE page 0x", b" UE page 0x")
    offset = found.value(b"offset:0x", b"offset 0x")
    last = found.block.text[found.block.ends[found.rows] - 1]
    whole = (page >= 0) & (offset >= 0) & ((last == ord(")")) | found.has(b"offset 0x"))
    found.damaged(stated & ~whole, "EDAC line cut short", context)
    cut = np.zeros(len(found), np.bool_)
    if found.block.is_cut:
        cut = ~stated & (found.rows == len(found.block.lines) - 1)
        found.damaged(cut, "EDAC line cut short", context)
    found = found.only(stated & whole)
    found.used()
    is_ue = ~found.has(b" CE", b" CE page 0x")
    page = found.value(b"page:0x", b" CE page 0x", b" UE page 0x")
    address = page << PAGE_BITS | found.value(b"offset:0x", b"offset 0x")
    known = (address > 0) & (page < 1 << 40)
    columns = found.cells()
    columns["slot"] = np.where(columns["slot"] < 0, found.value(b"csrow:"), columns["slot"])
    severity = np.where(is_ue & (columns["found_by"] == FoundBy.SCRUB), Severity.AO, Severity.UNKNOWN)
    return context.batch(
        time=found.time, host=found.host, kind=np.where(is_ue, Kind.UE, Kind.CE),
        count=np.maximum(found.value(b" CE", b" UE"), 1), severity=severity,
        address=np.where(known, address, -1),
        grain_bytes=np.where(known, found.value(b"grain:", b"grain ", default=0), 0),
        mc=found.value(b"EDAC MC"), label=found.labels(context), **columns,
    ), found.rows  # fmt: skip


def _soft(found: Found, context: Context) -> tuple[EventBatch, I64]:
    found.used()
    outcome = np.where(found.has(b"failed", b"busy", b"unknown"), Outcome.FAILED, Outcome.RECOVERED)
    outcome[found.has(b"already poisoned")] = Outcome.IGNORED
    return context.batch(
        time=found.time, host=found.host, kind=Kind.SOFT_OFFLINE, outcome=outcome,
        address=page_address(found.value(*_SOFT)), grain_bytes=1 << PAGE_BITS,
    ), found.rows  # fmt: skip
