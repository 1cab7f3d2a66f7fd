"""Reader of the text of tracepoints `mc_event`, `mce_record` and `memory_failure_event` (trace_pipe, trace-cmd, perf
script). A machine check and the `mc_event` that decodes it are one event.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from poisonsim.logs.clock import Clock
from poisonsim.logs.codes import FoundBy, Kind, Severity
from poisonsim.logs.context import Context, same_check
from poisonsim.logs.events import I64, EventBatch
from poisonsim.logs.fields import EDAC_FIELDS, Found, Table, merged
from poisonsim.logs.mce import AMD, decode, is_umc, umc_place
from poisonsim.logs.pages import PAGE_FIELDS, failures
from poisonsim.logs.scan import (
    DECIMAL,
    DECIMAL_THEN_HEX,
    DIGIT,
    HEX,
    MALFORMED,
    NO_NUMBER,
    TWO_HEADS,
    split,
    whole_numbers,
)  # fmt: skip
from poisonsim.logs.source import Block, blocks
from poisonsim.logs.stamps import stamp_before, stamps

_EVENT, _FAILURE, _CHECK = b"mc_event: ", b"memory_failure_event: pfn 0x", b"mce_record: "
_STATUS, _SPECS, _IPID, _TOGETHER = b", MC", b", MCGc/s: ", b"IPID: ", (b"ADDR/MISC/SYND: ", b"ADDR/MISC: ")
_ADDR, _MISC, _VENDOR, _SOCKET = b", ADDR: ", b", MISC: ", (b"PROCESSOR: ", b"vendor: "), (b"SOCKET: ", b"socket:")
_SYND = b", SYND: "
_WIDTH = 16
"""Digits of a register that the kernel writes with its zeros."""
_TAIL = 256 << 10
_TYPES = {
    b"Corrected error": Kind.CE, b"Uncorrected error": Kind.UE, b"Deferred error": Kind.UE, b"Fatal error": Kind.UE,
    b"Info error": Kind.NOTICE,
}  # fmt: skip
_LOCATION = b"location:"
TABLE = Table(
    ((_EVENT, DECIMAL), (_FAILURE, HEX), (_CHECK, NO_NUMBER)),
    (
        *EDAC_FIELDS, *PAGE_FIELDS, *((text, NO_NUMBER) for text in _TYPES), (_LOCATION, DECIMAL), (b"mc:", DECIMAL),
        (b"address:0x", HEX), (_STATUS, DECIMAL_THEN_HEX), (_SPECS, HEX), (b"SOCKET: ", DECIMAL),
        *((text, DECIMAL) for text in _VENDOR),
        *((text, HEX) for text in (*_TOGETHER, _IPID, _ADDR, _MISC, _SYND)),
    ),
)  # fmt: skip


def read_trace(context: Context) -> Iterator[EventBatch]:
    """The events of a trace, block by block."""
    clock = context.clock()
    for block in blocks(context.path, context.report, context.progress, _last_check):
        found = Found.of(block, TABLE)
        yield _events(found, context, clock)
        found.settle(context)


def _last_check(block: Block) -> int:
    """The last machine check, whose mc_event may be in the next block."""
    end = int(block.ends[-1])
    tail = block.text[max(0, end - _TAIL) : end].tobytes()
    at = tail.rfind(_CHECK)
    return len(block.lines) if at < 0 else int(np.searchsorted(block.starts, end - len(tail) + at, "right")) - 1


def _events(found: Found, context: Context, clock: Clock) -> EventBatch:
    several = sum((found.has(text).astype(np.int64) for text in TABLE.heads), np.zeros(len(found), np.int64)) > 1
    double = (found.state == TWO_HEADS) | several
    found.damaged(double, "two records on one line", context)
    spoilt = ~double & (found.state == MALFORMED)
    found.damaged(spoilt, "number missing or too long", context)
    found = found.only(~double & ~spoilt)
    begin, end = stamp_before(found.block.text, found.block.starts[found.rows], found.where)
    kinds, micros, _, _ = stamps(found.block.text, begin, end)
    found.time[:] = clock.times(kinds, micros)
    events, rows = _errors(found.only(found.has(_EVENT)), context)
    checks, lines = _checks(found.only(found.has(_CHECK)), context)
    same = same_check(checks, events)
    merged(events, checks, same, context)
    events, rows = EventBatch.concat([events, checks[same < 0]]), np.concatenate([rows, lines[same < 0]])
    pages, at = failures(found.only(found.has(_FAILURE)), _FAILURE, context)
    order = np.argsort(np.concatenate([rows, at]), kind="stable")
    return EventBatch.concat([events, pages])[order]


def _errors(found: Found, context: Context) -> tuple[EventBatch, I64]:
    typed = found.has(*_TYPES)
    short = ~typed | ~found.has(b"address:0x") | ~found.has(b"grain:")
    found.damaged(short, "mc_event cut short", context)
    found = found.only(~short)
    found.used()
    kind = np.select([found.has(text) for text in _TYPES], list(_TYPES.values()), Kind.NOTICE)
    columns = found.cells()
    top, middle = _location(found)
    labels = found.labels(context)
    csrow = np.array([*("csrow" in label for label in context.labels.all()), False], np.bool_)
    swapped = csrow[labels]
    for name, layer in (("channel", np.where(swapped, middle, top)), ("slot", np.where(swapped, top, middle))):
        columns[name] = np.where(columns[name] < 0, layer, columns[name])
    severity = np.where((kind == Kind.UE) & (columns["found_by"] == FoundBy.SCRUB), Severity.AO, Severity.UNKNOWN)
    severity[found.has(b"Fatal error")] = Severity.FATAL
    address = found.value(b"address:0x")
    known = address > 0
    return context.batch(
        time=found.time, kind=kind, count=np.maximum(found.value(_EVENT), 1), severity=severity,
        address=np.where(known, address, -1), grain_bytes=np.where(known, found.value(b"grain:"), 0),
        mc=found.value(b"mc:"), label=labels, **columns,
    ), found.rows  # fmt: skip


def _checks(found: Found, context: Context) -> tuple[EventBatch, I64]:
    """The memory errors among machine checks, and the places of their lines."""
    short = ~found.has(_STATUS) | ~(found.has(*_TOGETHER) | found.has(_ADDR)) | ~found.has(*_VENDOR)
    found.damaged(short, "mce_record cut short", context)
    found = found.only(~short)
    misc = np.where(found.has(*_TOGETHER), _register(found, 1), found.value(_MISC, default=0))
    syndrome = np.where(found.has(_TOGETHER[0]), _register(found, 2), found.value(_SYND, default=0))
    amd = found.value(*_VENDOR) == AMD
    umc = amd & is_umc(found.value(_IPID, default=0))
    checks = decode(found.value(_STATUS), found.value(*_TOGETHER, _ADDR, default=0), misc, amd, umc)
    found.used(checks.is_memory)
    channel, slot = umc_place(found.value(_IPID, default=0), syndrome)
    events = context.batch(
        time=found.time, kind=checks.kind, count=checks.n_errors, severity=checks.severity, found_by=checks.found_by,
        address=checks.address, grain_bytes=checks.grain_bytes, socket=found.value(*_SOCKET),
        channel=np.where(umc, channel, checks.channel), slot=np.where(umc, slot, -1),
    )  # fmt: skip
    return events[checks.is_memory], found.rows[checks.is_memory]


def _register(found: Found, n: int) -> I64:
    """The register that is written `n` behind the address, after a stroke, int64[...]; 0 where it is not."""
    text, end = found.block.text, found.block.ends[found.rows]
    begin = np.maximum(found.at(_TOGETHER[0]), found.at(_TOGETHER[1])) + n * (_WIDTH + 1)
    there = (begin >= n * (_WIDTH + 1)) & (begin + _WIDTH <= end)
    digits = DIGIT[text[np.where(there, begin, 0)[:, None] + np.arange(_WIDTH)]] if len(text) >= _WIDTH else None
    if digits is None:
        return np.zeros(len(found), np.int64)
    there &= (digits < 16).all(axis=1)
    shifts = np.arange(_WIDTH)[::-1].astype(np.uint64) * np.uint64(4)
    values: I64 = ((digits & 15).astype(np.uint64) << shifts).sum(axis=1, dtype=np.uint64).view(np.int64)
    return np.where(there, values, 0)


def _location(found: Found) -> tuple[I64, I64]:
    """Top and middle layer of `location:1:0:-1`, int64[n] each."""
    begin = found.at(_LOCATION)
    held = begin >= 0
    begin = np.where(held, begin, 0)
    end = np.where(held, np.minimum(begin + 24, found.block.ends[found.rows]), 0)
    first, stop, _ = split(found.block.text, begin, end, 3, ord(":"))
    layers = []
    for i in (0, 1):
        values, state = whole_numbers(found.block.text, first[:, i], stop[:, i])
        layers.append(np.where(held & (state == 0), values, -1))
    return layers[0], layers[1]
