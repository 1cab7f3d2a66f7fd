"""Reader of the text of tracepoints `mc_event` and `memory_failure_event` (trace_pipe, trace-cmd, perf script)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from poisonsim.logs.clock import Clock
from poisonsim.logs.codes import FoundBy, Kind, Severity
from poisonsim.logs.context import Context
from poisonsim.logs.events import I64, EventBatch
from poisonsim.logs.fields import EDAC_FIELDS, Found, Table
from poisonsim.logs.pages import PAGE_FIELDS, failures
from poisonsim.logs.scan import DECIMAL, HEX, MALFORMED, NO_NUMBER, TWO_HEADS, split, whole_numbers
from poisonsim.logs.source import blocks
from poisonsim.logs.stamps import stamp_before, stamps

_EVENT, _FAILURE = b"mc_event: ", b"memory_failure_event: pfn 0x"
_TYPES = {
    b"Corrected error": Kind.CE, b"Uncorrected error": Kind.UE, b"Deferred error": Kind.UE, b"Fatal error": Kind.UE,
    b"Info error": Kind.NOTICE,
}  # fmt: skip
_LOCATION = b"location:"
TABLE = Table(
    ((_EVENT, DECIMAL), (_FAILURE, HEX)),
    (
        *EDAC_FIELDS, *PAGE_FIELDS, *((text, NO_NUMBER) for text in _TYPES), (_LOCATION, DECIMAL), (b"mc:", DECIMAL),
        (b"address:0x", HEX),
    ),
)  # fmt: skip


def read_trace(context: Context) -> Iterator[EventBatch]:
    """The events of a trace, block by block."""
    clock = context.clock()
    for block in blocks(context.path, context.report, context.progress):
        found = Found.of(block, TABLE)
        yield _events(found, context, clock)
        found.settle(context)


def _events(found: Found, context: Context, clock: Clock) -> EventBatch:
    double = (found.state == TWO_HEADS) | (found.has(_EVENT) & found.has(_FAILURE))
    found.damaged(double, "two records on one line", context)
    spoilt = ~double & (found.state == MALFORMED)
    found.damaged(spoilt, "number missing or too long", context)
    found = found.only(~double & ~spoilt)
    begin, end = stamp_before(found.block.text, found.block.starts[found.rows], found.where)
    kinds, micros, _, _ = stamps(found.block.text, begin, end)
    found.time[:] = clock.times(kinds, micros)
    events, rows = _errors(found.only(found.has(_EVENT)), context)
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
