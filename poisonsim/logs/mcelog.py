"""Reader of mcelog's text: one block of lines per machine check, and the pages that its daemon took out of use."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from poisonsim.logs.codes import Kind, Outcome
from poisonsim.logs.context import Context
from poisonsim.logs.events import PAGE_BITS, EventBatch
from poisonsim.logs.fields import Found, Table
from poisonsim.logs.mce import decode
from poisonsim.logs.scan import DECIMAL, HEX, MALFORMED, NO_NUMBER, TWO_HEADS
from poisonsim.logs.source import Block, blocks

_TITLES = (b"Hardware event. This is not a software error", b"HARDWARE ERROR. This is *NOT* a software problem")
_MCE, _OFFLINED = b"MCE ", b"Offlining page "
_STARTS = Table((*((title, NO_NUMBER) for title in _TITLES), (_MCE, DECIMAL), (_OFFLINED, HEX)), ())
_FIELDS = Table(
    (*((title, NO_NUMBER) for title in _TITLES), (_MCE, DECIMAL), (_OFFLINED, HEX), (b"STATUS ", HEX), (b"ADDR ", HEX)),
    (
        (b"MISC ", HEX), (b"TIME ", DECIMAL), (b"SOCKETID ", HEX), (b"Vendor AMD", NO_NUMBER),
        (b"offlining page failed", NO_NUMBER), (b"failed", NO_NUMBER),
    ),
)  # fmt: skip
_TAIL = 256 << 10


def read_mcelog(context: Context) -> Iterator[EventBatch]:
    """The events of an mcelog, block by block; its records are machine checks, not lines."""
    for lines in blocks(context.path, context.report, context.progress, _last_start):
        block = _records(lines)
        found = Found.of(block, _FIELDS)
        yield _events(found, context)
        found.settle(context)


def _record_starts(block: Block) -> Found:
    found = Found.of(block, _STARTS)
    title = found.has(*_TITLES)
    after_title = np.zeros(len(found), np.bool_)
    after_title[1:] = title[:-1] & (np.diff(found.rows) == 1)
    at_start = found.where == block.starts[found.rows]
    return found.only(title | ((found.has(_MCE) & at_start) & ~after_title) | (found.has(_OFFLINED) & at_start))


def _last_start(block: Block) -> int:
    near = int(np.searchsorted(block.starts, block.ends[-1] - _TAIL))
    tail = Block(block.text, block.starts[near:], block.ends[near:], block.lines[near:], is_cut=False)
    starts = _record_starts(tail).rows
    return near + int(starts[-1]) if len(starts) else len(block.lines)


def _records(block: Block) -> Block:
    """The block with a record, not a line, between each start and end."""
    if not len(block.lines):  # the only line was too long
        return block
    first = _record_starts(block).rows
    if not len(first) or first[0] > 0:
        first = np.concatenate([[0], first])  # what precedes the first start
    last = np.concatenate([first[1:], [len(block.lines)]]) - 1
    return Block(block.text, block.starts[first], block.ends[last], block.lines[first], block.is_cut)


def _events(found: Found, context: Context) -> EventBatch:
    double = found.state == TWO_HEADS
    found.damaged(double, "two machine checks in one", context)
    spoilt = ~double & (found.state == MALFORMED)
    found.damaged(spoilt, "number missing or too long", context)
    found = found.only(~double & ~spoilt)
    started = found.has(*_TITLES, _MCE)
    offlined = found.has(_OFFLINED) & ~started
    found.damaged(started & ~found.has(b"STATUS "), "machine check cut short", context)
    found.damaged(~started & ~offlined, "piece of a machine check", context)
    checks, pages = found.only(started & found.has(b"STATUS ")), found.only(offlined)
    amd = checks.has(b"Vendor AMD")
    said = decode(checks.value(b"STATUS "), checks.value(b"ADDR "), checks.value(b"MISC ", default=0), amd)
    if amd.any():
        context.report.remark("machine checks of AMD processors hold no address of the host: left out")
    checks.used(said.is_memory)
    pages.used()
    events = context.batch(
        time=_times(checks), kind=said.kind, count=said.n_errors, severity=said.severity, found_by=said.found_by,
        address=said.address, grain_bytes=said.grain_bytes, socket=checks.value(b"SOCKETID "), channel=said.channel,
    )[said.is_memory]  # fmt: skip
    address = pages.value(_OFFLINED)
    soft = context.batch(
        time=pages.time, kind=np.full(len(pages), Kind.SOFT_OFFLINE), address=np.where(address > 0, address, -1),
        grain_bytes=1 << PAGE_BITS, outcome=np.where(pages.has(b"failed"), Outcome.FAILED, Outcome.UNKNOWN),
    )  # fmt: skip
    rows = np.concatenate([checks.rows[said.is_memory], pages.rows])
    return EventBatch.concat([events, soft])[np.argsort(rows, kind="stable")]


def _times(found: Found) -> np.ndarray[tuple[int], np.dtype[np.datetime64]]:
    seconds = found.value(b"TIME ", default=0)
    times = seconds.view("M8[s]").astype("M8[us]")
    times[(seconds <= 0) | (seconds > 1 << 36)] = np.datetime64("NaT")
    return times
