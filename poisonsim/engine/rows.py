"""Distinct integer rows, numbered as they come: what blocks have in common, and where a state is in the run's table."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]


class Extendable:
    """Rows of integers that grow where they are, unless somebody holds some that were handed out: those never change.

    Args:
        shape: Of a row.

    Examples:
        >>> table = Extendable(2)
        >>> table.to_write(1)[:] = 7
        >>> held = table.all
        >>> table.to_write(2)[:] = 8
        >>> held.tolist(), table.all.tolist()
        ([[7, 7]], [[8, 8], [8, 8]])
    """

    def __init__(self, *shape: int) -> None:
        self._shape, self._data = shape, bytearray()

    @property
    def all(self) -> I64:
        """All rows, int64[n, *shape]; as long as anybody holds them, or a view of them, they stay as they are."""
        return np.frombuffer(self._data, np.int64).reshape(-1, *self._shape)

    def to_write(self, n: int) -> I64:
        """The same rows, and zeros to make them at least `n`, to be written to at once and then let go."""
        more = bytes(max(8 * n * math.prod(self._shape) - len(self._data), 0))
        try:
            self._data.append(0)  # refused while anybody holds a view of it
            self._data.pop()
            self._data += more
        except BufferError:
            self._data = self._data + more
        return self.all


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
        self._rows = Extendable(n_columns)
        self._place: dict[int, int] = {}
        self._key = 0

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
        """All rows, int64[n, n_columns], which stay as they are."""
        return self._rows.all

    def add(self, rows: I64) -> I64:
        """Adds what is new of int64[n, n_columns]; the number of each."""
        before, place = len(self), self._place
        hashes = _hashed(rows, self._key).tolist()
        places = np.fromiter((place.setdefault(h, len(place)) for h in hashes), np.int64, len(hashes))
        new, known = places >= before, self._rows.to_write(len(place))
        known[places[new]] = rows[new]
        if np.array_equal(known[places], rows):
            return places
        self._rows, self._place, self._key = Extendable(rows.shape[1]), {}, self._key + 1  # two rows share a hash
        self.add(known[:before])
        return self.add(rows)

    def find(self, rows: I64) -> I64:
        """The number of each row of int64[n, n_columns].

        Raises:
            KeyError: There is no such row.
        """
        places = np.fromiter((self._place[h] for h in _hashed(rows, self._key).tolist()), np.int64, len(rows))
        if not np.array_equal(self.all[places], rows):
            raise KeyError("no such row")
        return places


def _hashed(rows: I64, key: int) -> NDArray[np.uint64]:
    """64 bits of each row: its words mixed, each multiplied by a random odd number of its column, and added up."""
    rng = np.random.Generator(np.random.PCG64(key))
    odd = rng.integers(2**64, size=(2, rows.shape[1]), dtype=np.uint64) | np.uint64(1)
    mixed = rows.astype(np.uint64) * odd[0]
    mixed ^= mixed >> np.uint64(32)
    mixed *= odd[1]
    hashes: NDArray[np.uint64] = mixed.sum(axis=1, dtype=np.uint64)
    return hashes ^ (hashes >> np.uint64(29))
