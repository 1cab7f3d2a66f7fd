"""The event model: what every reader of logs hands out, whatever the format.

An `EventBatch` is a table of columns, all of one length, one row per event. Every number that a log does not say is
-1, every text `""`, every time `NaT`: a reader never guesses, and what reads the events decides what to make of gaps.
Texts (hosts and DIMM labels) are numbers into a `Names` list, so that a column stays an array of integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from poisonsim.logs.codes import CODES, FORMATS, UNKNOWN, Kind, PageType
from poisonsim.logs.names import Names

I8 = NDArray[np.int8]
I16 = NDArray[np.int16]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]
Times = NDArray[np.datetime64]

PAGE_BITS = 12


@dataclass(frozen=True, kw_only=True, eq=False)
class EventBatch:
    """Events of one reading, in the order of the log, as columns of equal length n.

    Args:
        time: When, UTC, datetime64[us][n]; `NaT` where the log does not say.
        kind: `Kind`, int8[n].
        count: Errors that this row stands for, int64[n]: 1, or as many as were logged at once or counted.
        span_s: Seconds in which those happened, int64[n]: 0 an event at a moment; more, a counter that ran so long
            and was read at `time`; `UNKNOWN` (-1) a counter of unknown age, such as a total since the last boot.
        severity: `Severity` of a UE, int8[n].
        found_by: `FoundBy`, int8[n].
        outcome: `Outcome` of what the kernel did, int8[n].
        page_type: `PageType` of a poisoned page, int8[n].
        address: Physical address of the host, in bytes, int64[n]; -1 unknown. The kernel's notices name pages, so
            theirs is that of the page's first byte.
        grain_bytes: How finely `address` is known, int64[n]: the error lies in this many bytes from `address` rounded
            down; 0 unknown.
        socket: Processor socket, int16[n].
        mc: Memory controller, int16[n]: as the log numbers it, over the host (EDAC) or over the socket.
        channel: Channel of the controller, or of the socket where the log knows no controllers, int16[n].
        slot: DIMM slot of the channel, int16[n].
        rank: Rank of the DIMM or of the channel, as the log has it, int16[n].
        bank_group: Bank group of the rank, int16[n].
        bank: Bank of the bank group, int16[n].
        row: Row of the bank, int32[n].
        column: Word of 8 bytes in the row, int32[n].
        device: DRAM chip of the rank, int16[n].
        source: Format it came from, the place in `FORMATS`, int8[n].
        host: Number into `hosts`, int32[n].
        label: Number into `labels`, int32[n]: the DIMM's label, slot name or serial.
        hosts: Names of the hosts; shared by all batches of a reading, so that numbers mean the same in all of them.
        labels: Labels of the DIMMs, likewise.

    Examples:
        >>> batch = EventBatch.of(kind=[Kind.CE, Kind.UE], address=[4096 * 7 + 64, -1], row=[12, 13])
        >>> len(batch), batch.pfn.tolist(), batch.row.tolist(), batch.bank.tolist(), batch.count.tolist()
        (2, [7, -1], [12, 13], [-1, -1], [1, 1])
        >>> batch[batch.kind == Kind.UE].row.tolist()
        [13]
    """

    time: Times
    kind: I8
    count: I64
    span_s: I64
    severity: I8
    found_by: I8
    outcome: I8
    page_type: I8
    address: I64
    grain_bytes: I64
    socket: I16
    mc: I16
    channel: I16
    slot: I16
    rank: I16
    bank_group: I16
    bank: I16
    row: I32
    column: I32
    device: I16
    source: I8
    host: I32
    label: I32
    hosts: Names
    labels: Names

    @classmethod
    def of(cls, *, hosts: Names | None = None, labels: Names | None = None, **columns: Any) -> Self:
        """A batch of the given columns (sequences of one length, or one value for all); all others are unknown.

        Numbers that a column cannot hold are taken for unknown, never wrapped.

        Raises:
            TypeError: A column that events do not have, or none given.
        """
        given = {name: np.asarray(values) for name, values in columns.items()}
        if not given or not given.keys() <= COLUMNS.keys():
            raise TypeError(f"columns are {', '.join(COLUMNS)}; not {', '.join(given.keys() - COLUMNS.keys())}")
        n = max(1 if values.ndim == 0 else len(values) for values in given.values())
        if any(values.ndim and not len(values) for values in given.values()):
            n = 0
        made = {name: _column(name, given.get(name), n) for name in COLUMNS}
        return cls(**made, hosts=Names() if hosts is None else hosts, labels=Names() if labels is None else labels)

    @classmethod
    def empty(cls) -> Self:
        """No events."""
        return cls.of(kind=np.empty(0, np.int8))

    @classmethod
    def concat(cls, batches: Sequence[EventBatch]) -> Self:
        """All events of several batches of one reading, in that order.

        Raises:
            ValueError: Batches of different readings, whose numbers of hosts and labels mean different names.

        Examples:
            >>> one = EventBatch.of(kind=[Kind.CE])
            >>> len(EventBatch.concat([one, one]))
            2
        """
        if not batches:
            return cls.empty()
        first = batches[0]
        if any(b.hosts is not first.hosts or b.labels is not first.labels for b in batches):
            raise ValueError("batches of different readings; read all files in one reading")
        joined = {name: np.concatenate([getattr(b, name) for b in batches]) for name in COLUMNS}
        return cls(**joined, hosts=first.hosts, labels=first.labels)

    def __len__(self) -> int:
        return len(self.kind)

    def __getitem__(self, which: Any) -> Self:
        """The events at a mask, at places or in a slice, as a batch of the same names."""
        return replace(self, **{name: getattr(self, name)[which] for name in COLUMNS})

    @property
    def pfn(self) -> I64:
        """Number of the 4 KiB page that `address` lies in, int64[n]; -1 unknown."""
        return np.where(self.address < 0, UNKNOWN, self.address >> PAGE_BITS)

    @property
    def is_counter(self) -> Bools:
        """Which rows are counters read out, not events at a moment, bool[n]."""
        counters: Bools = self.span_s != 0
        return counters

    @property
    def knows_cell(self) -> Bools:
        """Which rows name a DRAM cell: bank, row and column are all known, bool[n]."""
        return (self.bank >= 0) & (self.row >= 0) & (self.column >= 0)

    def beyond(self, memory_bytes: int) -> Bools:
        """Which rows have an address that a host of this much memory does not have, bool[n].

        Hosts leave holes below 4 GiB and between sockets, so the highest address of `memory_bytes` of memory lies some
        GiB above it; allow for that, and take what is still beyond for damage.

        Examples:
            >>> EventBatch.of(address=[4096, 1 << 40, -1]).beyond(1 << 40).tolist()
            [False, True, False]
        """
        return self.address >= memory_bytes

    @property
    def new_poison(self) -> Bools:
        """Which rows are a page newly poisoned as the kernel says: `POISON` of one not poisoned before, bool[n].

        A log that holds both a UE and the kernel's notice of its page has two rows for one error; count the UEs, or
        count these, but not both.
        """
        new: Bools = (self.kind == Kind.POISON) & (self.page_type != PageType.ALREADY_POISONED)
        return new

    def in_order(self) -> Self:
        """The same events by time; alike ones in the order of the log, those without a time last.

        Examples:
            >>> batch = EventBatch.of(time=np.array(["2025-03-02", "NaT", "2025-03-01"], "M8[us]"), row=[1, 2, 3])
            >>> batch.in_order().row.tolist()
            [3, 1, 2]
        """
        return self[np.argsort(self.time, kind="stable")]

    def to_frame(self) -> pd.DataFrame:
        """A data frame with the same columns, words for codes and names for numbers.

        Examples:
            >>> EventBatch.of(kind=[Kind.UE], host=0, hosts=Names(["a"])).to_frame().loc[0, ["kind", "host"]].tolist()
            ['UE', 'a']
        """
        frame = pd.DataFrame({name: getattr(self, name) for name in COLUMNS})
        for name, codes in CODES.items():
            words = {code.value: code.label for code in codes}  # type: ignore[attr-defined]
            frame[name] = frame[name].map(words).astype("category")
        frame["source"] = np.array([*FORMATS, ""], dtype=object)[self.source]
        frame["host"] = self.hosts.texts(self.host)
        frame["label"] = self.labels.texts(self.label)
        return frame


_TYPES: dict[str, Any] = {
    "Times": np.dtype("M8[us]"), "I8": np.dtype(np.int8), "I16": np.dtype(np.int16), "I32": np.dtype(np.int32),
    "I64": np.dtype(np.int64),
}  # fmt: skip
COLUMNS: dict[str, np.dtype[Any]] = {f.name: _TYPES[str(f.type)] for f in fields(EventBatch) if f.type != "Names"}
"""Every column of `EventBatch` and its type."""
DEFAULTS: dict[str, Any] = {"time": np.datetime64("NaT"), "count": 1, "span_s": 0, "grain_bytes": 0}
"""What a column holds where nothing is said, if that is not `UNKNOWN`."""


def _column(name: str, values: NDArray[Any] | None, n: int) -> NDArray[Any]:
    dtype = COLUMNS[name]
    default = DEFAULTS.get(name, UNKNOWN)
    if values is None:
        return np.full(n, default, dtype)
    if dtype.kind == "i" and values.dtype.kind in "iu" and values.dtype.itemsize > dtype.itemsize:
        limits = np.iinfo(dtype)
        values = np.where((values < limits.min) | (values > limits.max), default, values)
    return np.broadcast_to(values.astype(dtype), (n,)).copy() if values.ndim == 0 else values.astype(dtype, copy=False)
