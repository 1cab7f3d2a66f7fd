"""Distinct integer rows, numbered as they come: what blocks have in common, and where a state is in the run's table."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]

_FEWEST = 256


class Rows:
    """Rows of integers, each once, found by a hash of 64 bits; a hash that two rows share is noticed and replaced.

    Examples:
        >>> table = Rows(2)
        >>> table.add(np.array([[1, 2], [3, 4]])).tolist(), table.add(np.array([[3, 4], [5, 6]])).tolist()
        ([0, 1], [1, 2])
        >>> table.all.tolist(), table.find(np.array([[5, 6]])).tolist()
        ([[1, 2], [3, 4], [5, 6]], [2])
    """

    def __init__(self, n_columns: int) -> None:
        self._rows = np.empty((_FEWEST, n_columns), np.int64)
        self._place: dict[int, int] = {}
        self._key = 0
        self._lent = False

    @classmethod
    def of(cls, rows: I64) -> Rows:
        """Those of int64[n, n_columns]."""
        table = cls(rows.shape[1])
        table.add(rows)
        return table

    def __len__(self) -> int:
        return len(self._place)

    @property
    def all(self) -> I64:
        """All rows, int64[n, n_columns]; a view, good until more are added."""
        return self._rows[: len(self)]

    def add(self, rows: I64) -> I64:
        """Adds what is new of int64[n, n_columns]; the number of each."""
        if self._lent:
            self._rows, self._lent = self._rows.copy(), False
        before, place = len(self), self._place
        hashes = _hashed(rows, self._key).tolist()
        places = np.fromiter((place.setdefault(h, len(place)) for h in hashes), np.int64, len(hashes))
        self._rows = with_room(self._rows, len(place))
        new = places >= before
        self._rows[places[new]] = rows[new]
        if np.array_equal(self._rows[places], rows):
            return places
        known = self._rows[:before].copy()  # two rows share a hash
        self._place, self._key = {}, self._key + 1
        self.add(known)
        return self.add(rows)

    def find(self, rows: I64) -> I64:
        """The number of each row of int64[n, n_columns].

        Raises:
            KeyError: There is no such row.
        """
        places = np.fromiter((self._place[h] for h in _hashed(rows, self._key).tolist()), np.int64, len(rows))
        if not np.array_equal(self._rows[places], rows):
            raise KeyError("no such row")
        return places

    def lend(self) -> I64:
        """As `all`, but it stays good: what is added later goes elsewhere."""
        self._lent = True
        return self.all


def with_room(array: I64, n: int) -> I64:
    """`array` with at least `n` rows, the further ones of no value; views of it are not good any more."""
    if n > len(array):
        room = max(n, len(array) + len(array) // 4)
        array.resize((room, *array.shape[1:]), refcheck=False)  # which moves memory rather than copying it
    return array


def _hashed(rows: I64, key: int) -> NDArray[np.uint64]:
    """64 bits of each row: its words mixed, each multiplied by a random odd number of its column, and added up."""
    rng = np.random.Generator(np.random.PCG64(key))
    odd = rng.integers(2**64, size=(2, rows.shape[1]), dtype=np.uint64) | np.uint64(1)
    mixed = rows.astype(np.uint64) * odd[0]
    mixed ^= mixed >> np.uint64(32)
    mixed *= odd[1]
    hashes: NDArray[np.uint64] = mixed.sum(axis=1, dtype=np.uint64)
    return hashes ^ (hashes >> np.uint64(29))
