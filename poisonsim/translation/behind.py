"""Tables of what a second level does behind a first, so that many states are looked up and not computed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from .popularity import Population
from .touch import F64

I64 = npt.NDArray[np.int64]

# Step of both axes in ln t: fine where few classes of leaves let single slopes show, coarse where many smooth them.
# Logarithms of probabilities are interpolated linearly in t itself, which is exact for leaves of one rate; a test
# bounds the error.
_FINE, _COARSE = 0.02, 0.08
_FEW_CLASSES = 12


class BehindTable:
    """`Population.behind` on a lattice of times, filled in where asked; a value does not depend on what else was asked.

    Args:
        leaves: The leaves.
        exclusive: Whether the second level is exclusive of the first.

    Examples:
        >>> from poisonsim.translation.access import Uniform
        >>> from poisonsim.translation.popularity import population
        >>> table = BehindTable(population(Uniform(), 1 << 40, 1 << 30, 1 << 30), exclusive=False)
        >>> table.missed(np.array([100.0]), np.array([np.inf]))
        array([0.])
    """

    def __init__(self, leaves: Population, exclusive: bool) -> None:
        self._leaves, self._exclusive = leaves, exclusive
        self._step = _FINE if leaves.n_classes <= _FEW_CLASSES else _COARSE
        self._low = np.zeros(2, dtype=np.int64)
        self._values = np.empty((5, 0, 0))

    def present(self, t1: F64, t2: F64) -> F64:
        """`Behind.present` of times of one shape, in accesses; inf where all entries fit."""
        # Where the first level holds everything nothing reaches the second.
        return self._looked_up(0, t1, t2, np.where(np.isinf(t1), 0.0, 1.0), lambda logs: -np.expm1(logs))

    def crowding(self, t1: F64, t2: F64) -> F64:
        """`Behind.crowding` of times as above."""
        return self._looked_up(1, t1, t2, np.where(np.isinf(t1), 0.0, 1.0), np.positive)

    def missed(self, t1: F64, t2: F64) -> F64:
        """`Behind.missed` of times as above."""
        return self._looked_up(2, t1, t2, np.zeros(()), np.exp)

    def absent(self, t1: F64, t2: F64) -> F64:
        """`Behind.absent` of times as above."""
        return self._looked_up(3, t1, t2, np.zeros(()), np.exp)

    def reused(self, t1: F64, t2: F64) -> F64:
        """`Behind.reused` of times as above."""
        return self._looked_up(4, t1, t2, np.zeros(()), np.exp)

    def _looked_up(self, which: int, t1: F64, t2: F64, if_all_fit: F64, read: Callable[[F64], F64]) -> F64:
        shape = np.broadcast_shapes(t1.shape, t2.shape)
        result = np.broadcast_to(if_all_fit, shape).ravel()
        t1, t2 = (np.broadcast_to(t, shape).ravel() for t in (t1, t2))
        finite = np.isfinite(t1) & np.isfinite(t2)
        if not finite.any():
            return result.reshape(shape)
        if finite.all():
            return read(self._interpolated(which, t1, t2)).reshape(shape)
        result = result.copy()
        result[finite] = read(self._interpolated(which, t1[finite], t2[finite]))
        return result.reshape(shape)

    def _interpolated(self, which: int, t1: F64, t2: F64) -> F64:
        (row, down), (column, right) = self._cells(t1), self._cells(t2)
        self._cover(row, column)
        values = self._values[which]
        row, column = row - self._low[0], column - self._low[1]
        # Cells are cut along t1 = t2, where the second level begins to outlast the first and slopes jump.
        corner, far = values[row, column], values[row + 1, column + 1]
        side = np.where(right >= down, values[row, column + 1], values[row + 1, column])
        most, least = np.maximum(right, down), np.minimum(right, down)
        return np.asarray(corner * (1 - most) + side * (most - least) + far * least)

    def _cover(self, rows: I64, columns: I64) -> None:
        low = np.array([rows.min(), columns.min()])
        high = np.array([rows.max(), columns.max()]) + 2
        size = np.array(self._values.shape[1:])
        if size.all():
            low, high = np.minimum(low, self._low), np.maximum(high, self._low + size)
        else:
            self._low = low
        if (low == self._low).all() and (high - low == size).all():
            return
        grown = np.empty((5, *(high - low)))
        (top, left), (bottom, right) = self._low.tolist(), (self._low + size).tolist()
        grown[:, top - low[0] : bottom - low[0], left - low[1] : right - low[1]] = self._values
        # What is new lies above, below, left and right of what is known.
        for r0, r1, c0, c1 in (
            (low[0], top, low[1], high[1]),
            (bottom, high[0], low[1], high[1]),
            (top, bottom, low[1], left),
            (top, bottom, right, high[1]),
        ):
            if r0 < r1 and c0 < c1:
                grown[:, r0 - low[0] : r1 - low[0], c0 - low[1] : c1 - low[1]] = self._computed(
                    range(r0, r1), range(c0, c1)
                )
        self._low, self._values = low, grown

    def _computed(self, rows: range, columns: range) -> F64:
        """float64[5, rows, columns]: values of part of the lattice."""
        t1, t2 = (np.exp(self._step * np.array(lattice)) for lattice in (rows, columns))
        found = self._leaves.behind(t1[:, None], t2[None, :], self._exclusive)
        with np.errstate(divide="ignore"):
            values = np.stack(
                np.broadcast_arrays(
                    np.log1p(-np.minimum(found.present, 1.0)),
                    found.crowding,
                    np.log(found.missed),
                    np.log(found.absent),
                    np.log(found.reused),
                )
            )
        return np.asarray(np.maximum(values, -700.0))

    def _cells(self, t: F64) -> tuple[I64, F64]:
        """Lattice cell of each time, and how far into it the time lies, 0 to 1."""
        place = np.floor(np.log(t) / self._step)
        start = np.exp(self._step * place)
        return place.astype(np.int64), np.clip((t / start - 1.0) / np.expm1(self._step), 0.0, 1.0)
