"""The DRAM cells that a log names, each once, in memory that grows with cells and not with events."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from poisonsim.fitting.findings import I64
from poisonsim.logs import EventBatch, Kind

KEYS = (
    "host", "socket", "mc", "channel", "slot", "label", "rank", "device", "bank_group", "bank", "row", "column",
    "address", "kind",
)  # fmt: skip
"""What tells one row of `Cells` from another; the first six name a DIMM."""
N_DIMM_KEYS = 6
_SECOND = 1_000_000
_MOST_ROWS = 1 << 20


@dataclass(frozen=True)
class Cells:
    """Distinct cells with errors, sorted by their keys.

    Attributes:
        keys: int64[n, len(KEYS)], -1 where the log does not say.
        first, last: Seconds since 1970 of its first and last error, int64[n].
        errors: How many there were, int64[n].
        n_named, n_events: Events that name a cell, and all CEs and UEs at a moment.
    """

    keys: I64
    first: I64
    last: I64
    errors: I64
    n_named: int
    n_events: int

    def column(self, name: str) -> I64:
        """One of `KEYS`, int64[n]."""
        found: I64 = self.keys[:, KEYS.index(name)]
        return found

    @property
    def by_dimm(self) -> list[I64]:
        """Places of the cells of each DIMM."""
        if not len(self.keys):
            return []
        of_dimm = self.keys[:, :N_DIMM_KEYS]
        fresh = np.flatnonzero((np.diff(of_dimm, axis=0) != 0).any(axis=1)) + 1
        return np.split(np.arange(len(self.keys)), fresh)


class CellCounter:
    """Takes batches of events, and keeps the distinct cells.

    Examples:
        >>> counter = CellCounter()
        >>> batch = EventBatch.of(kind=Kind.CE, bank=0, row=[7, 7, 8], column=0, time=np.datetime64(0, "us"), host=0)
        >>> counter.take(batch)
        >>> cells = counter.found(np.array([0]))
        >>> cells.column("row").tolist(), cells.errors.tolist(), cells.n_events
        ([7, 8], [2, 1], 3)
    """

    def __init__(self) -> None:
        self._parts: list[tuple[I64, I64, I64, I64]] = []
        self._n_rows = 0
        self.n_named = self.n_events = 0

    def take(self, batch: EventBatch) -> None:
        """Notes the cells of a batch."""
        errors = ((batch.kind == Kind.CE) | (batch.kind == Kind.UE)) & (batch.count > 0)
        batch = batch[errors & ~batch.is_counter & ~np.isnat(batch.time)]
        self.n_events += len(batch)
        batch = batch[batch.knows_cell]
        self.n_named += len(batch)
        if not len(batch):
            return
        keys = np.stack([getattr(batch, name).astype(np.int64) for name in KEYS], axis=1)
        second = batch.time.astype(np.int64) // _SECOND
        self._parts.append(_distinct(keys, second, second, batch.count))
        self._n_rows += len(self._parts[-1][0])
        if self._n_rows > _MOST_ROWS:
            self._join()

    def _join(self) -> None:
        self._parts = [_distinct(*(np.concatenate(columns) for columns in zip(*self._parts, strict=True)))]
        self._n_rows = len(self._parts[0][0])

    def found(self, hosts: I64) -> Cells:
        """All cells of the hosts with those numbers, ascending; host `hosts[i]` of the reading is called i."""
        if not self._parts:
            none = np.zeros(0, np.int64)
            return Cells(np.zeros((0, len(KEYS)), np.int64), none, none, none, self.n_named, self.n_events)
        self._join()
        kept = np.isin(self._parts[0][0][:, 0], hosts)
        keys, first, last, errors = (column[kept] for column in self._parts[0])
        keys[:, 0] = np.searchsorted(hosts, keys[:, 0])
        return Cells(keys, first, last, errors, self.n_named, self.n_events)


def _distinct(keys: I64, first: I64, last: I64, errors: I64) -> tuple[I64, I64, I64, I64]:
    order = np.lexsort(keys.T[::-1])
    keys = keys[order]
    begin = np.append(0, np.flatnonzero((np.diff(keys, axis=0) != 0).any(axis=1)) + 1)
    return (
        keys[begin], np.minimum.reduceat(first[order], begin), np.maximum.reduceat(last[order], begin),
        np.add.reduceat(errors[order], begin),
    )  # fmt: skip
