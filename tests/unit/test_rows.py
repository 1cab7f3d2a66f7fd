"""The table of distinct rows behind every sum of blocks, against a dictionary of bytes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.random import default_rng

from poisonsim.engine import merge, rows
from poisonsim.engine.rows import Extendable, Rows


def by_bytes(pieces: list[np.ndarray]) -> tuple[list[bytes], list[list[int]]]:
    known: dict[bytes, int] = {}
    places = [[known.setdefault(row.tobytes(), len(known)) for row in piece] for piece in pieces]
    return list(known), places


@pytest.mark.parametrize("spread", [1, 3, 2**40])
@pytest.mark.parametrize("colliding", [False, True])
def test_rows_are_numbered_as_they_come(spread: int, colliding: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if colliding:  # until the third key all rows of an even first column share one hash
        whole = rows._hashed
        monkeypatch.setattr(
            rows, "_hashed",
            lambda of, key: np.where((of[:, 0] % 2 == 0) & (key < 2), np.uint64(7), whole(of, key)),
        )  # fmt: skip
    rng, table = default_rng(1), Rows(3)
    pieces = [np.unique(rng.integers(-2, 3, (n, 3)) * spread + n % 2, axis=0) for n in (5, 200, 1, 0, 90, 200)]
    order, expected = by_bytes(pieces)
    assert [table.add(piece).tolist() for piece in pieces] == expected
    assert [row.tobytes() for row in table.all] == order and len(table) == len(order)
    assert [table.find(piece).tolist() for piece in pieces] == expected
    with pytest.raises(KeyError):
        table.find(np.array([[99, 99, 99]]))


def test_what_was_handed_out_stays_as_it_is() -> None:
    table = Rows(2)
    table.add(np.array([[1, 2], [8, 9]]))
    kept, part = table.all, table.all[1:][:, 0]
    for start in range(0, 40_000, 10_000):  # each moves the memory of many rows
        table.add(np.arange(start, start + 10_000).reshape(-1, 2))
        assert kept.tolist() == [[1, 2], [8, 9]] and part.tolist() == [8]
    assert len(table) == 20_001  # [8, 9] is one of them


def test_rows_that_nobody_holds_are_not_copied() -> None:
    table = Extendable(4)
    table.to_write(1000)[:] = 1
    data = table._data
    for n in (1000, 2000):
        table.all  # noqa: B018
        table.to_write(n)[:] += 1
        assert table._data is data
    held = table.all[5:]
    table.to_write(2000)[:] += 1
    assert table._data is not data and (held[:995] == 3).all() and (table.all[:1000] == 4).all()


def test_sums_handed_out_do_not_change() -> None:
    table = merge._Table()
    table.add(np.array([[1], [2]]), np.array([[1, 1], [2, 2]]))
    states, counts = table.shown()
    table.add(np.arange(5000)[:, None], np.ones((5000, 2), np.int64))
    table.add(np.array([[1]]), np.array([[5, 6]]))
    assert (states.tolist(), counts.tolist()) == ([[1], [2]], [[1, 1], [2, 2]])
    states, counts = table.shown()
    assert counts[:2].tolist() == [[7, 8], [3, 3]] and states[:3, 0].tolist() == [1, 2, 0] and len(states) == 5000
