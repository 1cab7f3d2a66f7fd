"""Reader of rasdaemon's SQLite database, of version 0.6.8 and later: its tables as one stream, by time.

`mc_event` and `mce_record` (and `extlog_event`) tell of the same error twice; such rows are one event here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from poisonsim.logs.codes import FoundBy, Kind, Severity
from poisonsim.logs.columns import NUMBER, TEXT, Columns
from poisonsim.logs.context import SAME_EVENT_US, Context, same_check
from poisonsim.logs.events import I64, PAGE_BITS, Bools, EventBatch, Times
from poisonsim.logs.fields import EDAC_FIELDS, Found, Table, merged
from poisonsim.logs.mce import AMD, decode
from poisonsim.logs.pages import OUTCOME_WORDS, page_type_of
from poisonsim.logs.sqlite import Database, opened_database
from poisonsim.logs.stamps import stamps

_MOST_GRAIN_BITS = 47
_UMC = b"Unified Memory Controller"
_CELLS = Table((), EDAC_FIELDS)
_MC = {
    "timestamp": TEXT, "err_count": NUMBER, "err_type": TEXT, "err_msg": TEXT, "label": TEXT, "mc": NUMBER,
    "top_layer": NUMBER, "middle_layer": NUMBER, "address": NUMBER, "grain": NUMBER, "driver_detail": TEXT,
}  # fmt: skip
_MCE = {
    "timestamp": TEXT, "status": NUMBER, "addr": NUMBER, "misc": NUMBER, "socketid": NUMBER, "cpuvendor": NUMBER,
    "bank_name": TEXT,
}  # fmt: skip
_EXTLOG = {"timestamp": TEXT, "error_count": NUMBER, "severity": NUMBER, "address": NUMBER}
_FAILURE = {"timestamp": TEXT, "pfn": TEXT, "page_type": TEXT, "action_result": TEXT}
_KINDS = {b"Corrected": Kind.CE, b"Uncorrected": Kind.UE, b"Deferred": Kind.UE, b"Fatal": Kind.UE, b"Info": Kind.NOTICE}


def read_rasdaemon(context: Context) -> Iterator[EventBatch]:
    """The events of a database, by time; rows of one table keep their order."""
    with opened_database(context) as database:
        makers = {"mc_event": (_MC, _corrected), "mce_record": (_MCE, _checks), "extlog_event": (_EXTLOG, _extlog),
                  "memory_failure_event": (_FAILURE, _failures)}  # fmt: skip
        tables = database.expect(makers)
        streams = {name: _Stream(database, name, *makers[name]) for name in tables}
        yield from _merged_by_time(streams, context)


class _Stream:
    """The events of one table, taken by time.

    Args:
        pool: Events taken, but not given out yet.
    """

    def __init__(
        self, database: Database, name: str, columns: dict[str, int], make: Callable[[Columns, Context], EventBatch]
    ) -> None:
        context = database.context
        self._batches = (make(rows, context) for rows in database.rows(name, columns))
        self._ahead: EventBatch | None = None
        self._latest = np.iinfo(np.int64).min
        self.pool = context.batch(kind=np.empty(0, np.int8))
        self.keys = np.empty(0, np.int64)
        self._ahead_keys = self.keys
        self._fetch()

    def _fetch(self) -> None:
        self._ahead = next((batch for batch in self._batches if len(batch)), None)
        if self._ahead is not None:
            keys = np.maximum.accumulate(self._ahead.time.astype(np.int64))
            self._ahead_keys = np.maximum(keys, self._latest)
            self._latest = int(self._ahead_keys[-1])

    @property
    def end(self) -> int | None:
        """Time up to which events are at hand; nothing once there are no more."""
        return None if self._ahead is None else self._latest

    def take(self, until: int | None) -> None:
        """Moves events up to a time, or all there are, to the pool."""
        if self._ahead is None:
            return
        n = len(self._ahead) if until is None else int(np.searchsorted(self._ahead_keys, until, "right"))
        self.pool = EventBatch.concat([self.pool, self._ahead[:n]])
        self.keys = np.concatenate([self.keys, self._ahead_keys[:n]])
        self._ahead, self._ahead_keys = self._ahead[n:], self._ahead_keys[n:]
        if not len(self._ahead):
            self._fetch()

    def drop(self, which: Bools) -> None:
        """Takes events out of the pool."""
        self.pool, self.keys = self.pool[~which], self.keys[~which]


def _merged_by_time(streams: dict[str, _Stream], context: Context) -> Iterator[EventBatch]:
    while True:
        ends = [stream.end for stream in streams.values() if stream.end is not None]
        until = min(ends, default=None)
        for stream in streams.values():
            stream.take(until)
        main = streams.get("mc_event")
        for name in ("mce_record", "extlog_event"):
            if main is not None and name in streams:
                _merge(main.pool, streams[name], context)
        parts, keys = [], []
        for stream in streams.values():
            due = stream.keys <= (np.iinfo(np.int64).max if until is None else until - SAME_EVENT_US)
            parts.append(stream.pool[due])
            keys.append(stream.keys[due])
            stream.drop(due)
        order = np.argsort(np.concatenate(keys), kind="stable")
        yield EventBatch.concat(parts)[order]
        if until is None:
            return


def _merge(into: EventBatch, stream: _Stream, context: Context) -> None:
    same = same_check(stream.pool, into)
    merged(into, stream.pool, same, context)
    stream.drop(same >= 0)


def _times(rows: Columns, context: Context) -> Times:
    block = rows.texts["timestamp"]
    kinds, micros, _, _ = stamps(block.text, block.starts, block.ends)
    bad = kinds == 0
    rows.damaged(bad, "time that is none")
    return context.clock().times(kinds, micros)


def _corrected(rows: Columns, context: Context) -> EventBatch:
    number, types = rows.words("err_type")
    kind = np.array([_KINDS.get(word, -1) for word in types])[number]
    fatal = np.array([word == b"Fatal" for word in types])[number]
    rows.damaged(kind < 0, "unknown type of error")
    messages = rows.coded("err_msg", _found_by)
    number, labels = rows.words("label")
    label = np.array([context.labels.number(word) for word in labels])[number]
    swapped = np.array([b"csrow" in word for word in labels])[number]
    top, middle = rows.numbers("top_layer"), rows.numbers("middle_layer")
    cells = Found.of_block(rows.texts["driver_detail"], _CELLS).cells()
    cells["found_by"] = messages
    cells["channel"] = np.where(cells["channel"] >= 0, cells["channel"], np.where(swapped, middle, top))
    cells["slot"] = np.where(cells["slot"] >= 0, cells["slot"], np.where(swapped, top, middle))
    address, grain = rows.numbers("address", 0), rows.numbers("grain", 0)
    known = address > 0
    severity = np.where((kind == Kind.UE) & (messages == FoundBy.SCRUB), Severity.AO, Severity.UNKNOWN)
    severity[fatal] = Severity.FATAL
    return rows.kept(context.batch(
        time=_times(rows, context), kind=kind, count=np.maximum(rows.numbers("err_count", 1), 1), severity=severity,
        address=np.where(known, address, -1),
        grain_bytes=np.where(known & (grain >= 0) & (grain <= _MOST_GRAIN_BITS), _power(grain), 0),
        mc=rows.numbers("mc"), label=label, **cells,
    ))  # fmt: skip


def _found_by(message: bytes) -> int:
    for word, code in ((b"scrub", FoundBy.SCRUB), (b"read", FoundBy.READ), (b"write", FoundBy.WRITE)):
        if word in message.lower():
            return code
    return FoundBy.UNKNOWN


def _power(bits: I64) -> I64:
    return np.int64(1) << np.clip(bits, 0, _MOST_GRAIN_BITS)


def _checks(rows: Columns, context: Context) -> EventBatch:
    amd = rows.numbers("cpuvendor") == AMD
    umc = amd & (rows.coded("bank_name", lambda name: name.startswith(_UMC)) > 0) if amd.any() else amd
    checks = decode(rows.numbers("status", 0), rows.numbers("addr", 0), rows.numbers("misc", 0), amd, umc)
    if (amd & ~checks.is_memory).any():
        context.report.remark("machine checks of AMD processors that name no memory controller: left to mc_event")
    events = context.batch(
        time=_times(rows, context), kind=checks.kind, count=checks.n_errors, severity=checks.severity,
        found_by=checks.found_by, address=checks.address, grain_bytes=checks.grain_bytes,
        socket=rows.numbers("socketid"), channel=checks.channel,
    )  # fmt: skip
    rows.other(~checks.is_memory)
    return rows.kept(events)


def _extlog(rows: Columns, context: Context) -> EventBatch:
    severity = rows.numbers("severity")  # of CPER: recoverable, fatal, corrected, informational
    kind = np.select([severity == 2, severity == 3], [Kind.CE, Kind.NOTICE], Kind.UE)
    rows.damaged((severity < 0) | (severity > 3), "unknown severity")
    address = rows.numbers("address", 0)
    return rows.kept(context.batch(
        time=_times(rows, context), kind=kind, count=np.maximum(rows.numbers("error_count", 1), 1),
        severity=np.where(severity == 1, Severity.FATAL, Severity.UNKNOWN),
        address=np.where(address > 0, address, -1), grain_bytes=np.where(address > 0, 64, 0),
    ))  # fmt: skip


def _failures(rows: Columns, context: Context) -> EventBatch:
    pfn = rows.hex("pfn")
    rows.damaged((pfn < 0) | (pfn >= 1 << 40), "page number that is none")
    return rows.kept(context.batch(
        time=_times(rows, context), kind=Kind.POISON, address=np.clip(pfn, 0, 1 << 40) << PAGE_BITS,
        grain_bytes=1 << PAGE_BITS, page_type=rows.coded("page_type", page_type_of),
        outcome=rows.coded("action_result", lambda word: OUTCOME_WORDS.get(word, -1)),
    ))  # fmt: skip
