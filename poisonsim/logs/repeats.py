"""Events that are equal to an earlier one in every column, found in bounded memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from poisonsim.logs.alike import remember
from poisonsim.logs.codes import Kind
from poisonsim.logs.events import COLUMNS, Bools, EventBatch

_CE_ROWS, _OTHER_ROWS, _WAYS = 1 << 20, 1 << 17, 4
_ODD = np.uint64(0x9E3779B97F4A7C15)


class Repeats:
    """Remembers the latest corrected errors of a reading, some three million, and apart from them the latest others.

    Rows without a time, and counters, are never taken for repeats.

    Examples:
        >>> batch = EventBatch.of(time=np.array(["2025-03-01"] * 2, "M8[us]"), kind=0, row=[7, 7])
        >>> seen = Repeats()
        >>> seen.of(batch).tolist(), seen.of(batch).tolist()
        ([False, True], [True, True])
    """

    def __init__(self) -> None:
        self._ce = np.zeros((_CE_ROWS, _WAYS), np.uint64)
        self._others = np.zeros((_OTHER_ROWS, _WAYS), np.uint64)

    def of(self, batch: EventBatch) -> Bools:
        """Which rows are equal to an earlier one, bool[n]; remembers them all."""
        again = np.zeros(len(batch), np.bool_)
        told = ~np.isnat(batch.time) & ~batch.is_counter
        digest = _digest(batch) | np.uint64(1)
        for table, which in (
            (self._ce, told & (batch.kind == Kind.CE)),
            (self._others, told & (batch.kind != Kind.CE)),
        ):
            again[which] = remember(table, digest[which])
        return again


def _digest(batch: EventBatch) -> NDArray[np.uint64]:
    """64 bits that differ where rows do, but for one pair in 10¹⁹."""
    mix = np.zeros(len(batch), np.uint64)
    for name in COLUMNS:
        column: NDArray[Any] = getattr(batch, name)
        mix = (mix ^ column.astype(np.int64).view(np.uint64)) * _ODD
        mix ^= mix >> np.uint64(29)
    return mix
