"""What every reader is given, and what several of them do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from poisonsim.logs.alike import distinct, pair
from poisonsim.logs.clock import Clock
from poisonsim.logs.codes import FORMATS, Kind
from poisonsim.logs.events import I32, I64, Bools, EventBatch
from poisonsim.logs.names import Names
from poisonsim.logs.report import FileReport
from poisonsim.logs.source import Block

SAME_EVENT_US = 10_000_000
"""Records of one address from two sources are one event if no more than this apart."""

SAME_MOMENT_US = 2_000_000
"""The same of records that name no address."""


@dataclass
class Context:
    """One file to read, and the names and options of the reading it belongs to.

    Args:
        path: The file.
        report: Where a reader counts what it meets.
        hosts, labels: Names that the batches share.
        tz: Zone of times that name none.
        year, boot: As in `Clock`.
        progress: Told how many bytes of the file have been read.
    """

    path: Path
    report: FileReport
    hosts: Names = field(default_factory=Names)
    labels: Names = field(default_factory=Names)
    tz: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))
    year: int | None = None
    boot: np.datetime64 | None = None
    progress: Callable[[int], None] = lambda _: None

    def clock(self) -> Clock:
        """A clock for the stamps of the file."""
        return Clock(self.report, tz=self.tz, year=self.year, boot=self.boot, path=self.path)

    def batch(self, **columns: Any) -> EventBatch:
        """Events of this file's format."""
        source = FORMATS.index(self.report.format)
        return EventBatch.of(hosts=self.hosts, labels=self.labels, source=source, **columns)


def texts(block: Block, begin: I64, end: I64) -> list[bytes]:
    """Pieces of a block's text, one per pair of places; those that end before they begin are empty."""
    data = block.text.data
    return [bytes(data[a:b]) for a, b in zip(begin.tolist(), end.tolist(), strict=True)]


def coded(block: Block, begin: I64, end: I64, code: Callable[[bytes], int]) -> I64:
    """Codes of pieces of a block's text, int64[n]; each different piece is looked at once."""
    number, first = distinct(block.text, begin, end)
    codes: I64 = np.array([code(text) for text in texts(block, begin[first], end[first])], np.int64)
    return codes[number]


def named(names: Names, block: Block, begin: I64, end: I64) -> I32:
    """Numbers of the names in pieces of a block's text, int32[n]."""
    return coded(block, begin, end, names.number).astype(np.int32)


def count_damage(report: FileReport, block: Block, which: I64 | Bools, what: str) -> None:
    """Counts lines of a block, by mask or by place, as damaged."""
    places = np.flatnonzero(which) if which.dtype == np.bool_ else which
    if len(places):
        report.damaged(what, int(block.lines[places[0]]), block.line(int(places[0])), n=0)
        damage = report.damage[what]
        damage.n += len(places)
        damage.lines += block.lines[places[: max(0, 5 - len(damage.lines))]].tolist()


def same_event(a: EventBatch, b: EventBatch, *, window_us: int = SAME_EVENT_US) -> I64:
    """For each event of `a` the one of `b` that is the same, told by another source; int64[len(a)], -1 none.

    The same are events of one host and one 64-byte line, neither more than `window_us` apart, the first with the
    first, the second with the second, and so on. Events without an address are never the same; those without a time
    count as of one time.

    Examples:
        >>> a = EventBatch.of(address=[4096, 4096, 64])
        >>> same_event(a, EventBatch.of(address=[128, 4100])).tolist()
        [1, -1, -1]
    """
    found = np.full(len(a), -1)
    if not len(a) or not len(b):
        return found
    order_a, order_b = _by_line(a), _by_line(b)
    in_b = pair(_key(a)[order_a], _micros(a)[order_a], _key(b)[order_b], _micros(b)[order_b], window_us)
    found[order_a[in_b >= 0]] = order_b[in_b[in_b >= 0]]
    return found


def same_check(checks: EventBatch, events: EventBatch) -> I64:
    """For each machine check the event that tells of the same error, int64[len(checks)]; -1 none.

    By address where both have one, of several checks of one UE each; else, as memory controllers of AMD name no
    address of the host, by kind and moment.
    """
    same = same_event(checks, events)
    again = (same < 0) & (checks.kind == Kind.UE)  # one UE may make several banks report
    same[again] = same_event(checks[again], events)
    left, free = np.flatnonzero((same < 0) & (checks.address < 0)), np.ones(len(events), np.bool_)
    free[same[same >= 0]] = False
    free &= ~np.isnat(events.time) & np.isin(events.kind, (Kind.CE, Kind.UE))
    left = left[~np.isnat(checks.time[left])]
    others = np.flatnonzero(free)
    left, others = (of[np.argsort(e.kind[of], kind="stable")] for of, e in ((left, checks), (others, events)))
    in_others = pair(
        checks.kind[left].astype(np.int64), _micros(checks)[left], events.kind[others].astype(np.int64),
        _micros(events)[others], SAME_MOMENT_US,
    )  # fmt: skip
    same[left[in_others >= 0]] = others[in_others[in_others >= 0]]
    return same


def _key(events: EventBatch) -> I64:
    key: I64 = (events.address >> 6) ^ (events.host.astype(np.int64) + 1 << 44)
    return key


def _micros(events: EventBatch) -> I64:
    return np.where(np.isnat(events.time), 0, events.time.astype(np.int64))


def _by_line(events: EventBatch) -> I64:
    known = np.flatnonzero(events.address >= 0)
    order: I64 = known[np.argsort(_key(events)[known], kind="stable")]
    return order
