"""Rows of a table taken from the pages of an SQLite file themselves, as columns: several times faster than row by row.

Only what is whole is read here (https://www.sqlite.org/fileformat2.html, "B-tree Pages", "Record Format"). Whatever is
not as that says ends the reading with `Unsound`, and SQLite itself is asked for the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from poisonsim.compiled import bare, inlined
from poisonsim.logs.columns import NOTHING
from poisonsim.logs.events import I64, Bools

LEAF, INTERIOR = 13, 5
BATCH_BYTES, ROWS = 2 << 20, 50_000
_HEADER = 8
_DEEPEST = 20
_LEAST_CELL = 6
"""Bytes of the smallest cell, its pointer included."""
_UNSOUND = -1


class Unsound(Exception):
    """Pages that do not hold what they should."""


class Rows(NamedTuple):
    """Rows of a table in the order of their ids.

    Args:
        ids: Of the rows, int64[n].
        whole: Values of the columns of numbers, int64[n_numbers, n]; `NOTHING` where there is none.
        odd: Where such a column holds something else, bool[n_numbers, n].
        text: Pages that hold the texts, uint8[...].
        begin, stop: Where in it each column's text begins and what follows it, int64[n_texts, n]; alike where there
            is none.
        is_beyond: Whether a value goes on in an overflow page, so that these rows are not read.
    """

    ids: I64
    whole: I64
    odd: Bools
    text: NDArray[np.uint8]
    begin: I64
    stop: I64
    is_beyond: bool


class Tree(NamedTuple):
    """The B-tree of a table.

    Args:
        file: The database, open for reading bytes.
        page_bytes: Size of a page.
        usable: Bytes of it that hold something.
        n_pages: Pages of the file.
        root: Number of the table's first page, counted from 1.
    """

    file: Any
    page_bytes: int
    usable: int
    n_pages: int
    root: int

    def rows(self, numbers: Sequence[int], texts: Sequence[int]) -> Iterator[Rows]:
        """The rows, some thousand at a time.

        Args:
            numbers, texts: Places of the columns to read in the table; a row may have fewer.

        Raises:
            Unsound: A page that is not what it should be; the rows before it have been given.
        """
        slot = np.full(max([*numbers, *texts], default=0) + 1, -1)
        slot[[*numbers, *texts]] = np.arange(len(numbers) + len(texts))
        last, most = NOTHING, max(1, BATCH_BYTES // self.page_bytes)
        waiting = np.empty(0, np.int64)
        for leaves in self._leaves(self.root, 0):
            waiting = np.append(waiting, leaves)
            while len(waiting) >= most:
                for rows in self._of(waiting[:most], slot, len(numbers), len(texts), last):
                    yield rows
                    last = int(rows.ids[-1])
                waiting = waiting[most:]
        yield from self._of(waiting, slot, len(numbers), len(texts), last)

    def is_tree(self) -> bool:
        """Whether no page is named twice, so that who follows the pages comes to an end, however damaged they are."""
        seen = np.zeros(self.n_pages + 1, np.bool_)
        ahead = [self.root]
        while ahead:
            number = ahead.pop()
            if not 1 < number <= self.n_pages:
                continue
            if seen[number]:
                return False
            seen[number] = True
            ahead += _children(self._read(np.array([number]))[0], self.usable)[0].tolist()
        return True

    def _of(self, leaves: I64, slot: I64, n_numbers: int, n_texts: int, last: int) -> Iterator[Rows]:
        pages = self._read(leaves)
        if (pages[:, 0] != LEAF).any():
            raise Unsound
        cells = np.minimum(pages[:, 3].astype(np.int64) << 8 | pages[:, 4], self.usable // _LEAST_CELL)
        part = np.cumsum(cells) // ROWS
        for k in np.unique(part[cells > 0]).tolist():
            few = pages[part == k].reshape(-1)
            n = int(cells[part == k].sum())
            ids, whole = np.empty(n, np.int64), np.full((n_numbers, n), NOTHING)
            odd, beyond = np.zeros((n_numbers, n), np.bool_), np.zeros(1, np.bool_)
            begin, stop = np.zeros((n_texts, n), np.int64), np.zeros((n_texts, n), np.int64)
            found = _rows(few, self.page_bytes, self.usable, slot, last, ids, whole, odd, begin, stop, beyond)
            if found != n:
                raise Unsound
            last = int(ids[-1])
            yield Rows(ids, whole, odd, few, begin, stop, bool(beyond[0]))

    def _read(self, numbers: I64) -> NDArray[np.uint8]:
        """Pages by their numbers, uint8[n, page_bytes]; neighbours are read together."""
        pages = np.empty((len(numbers), self.page_bytes), np.uint8)
        if len(numbers) and not 1 < numbers.min() <= numbers.max() <= self.n_pages:
            raise Unsound
        apart = np.flatnonzero(np.diff(numbers, prepend=-1) != 1)
        for begin, end in zip(apart.tolist(), [*apart[1:].tolist(), len(numbers)], strict=False):
            self.file.seek((int(numbers[begin]) - 1) * self.page_bytes)
            if self.file.readinto(pages[begin:end].data) != (end - begin) * self.page_bytes:
                raise Unsound
        return pages

    def _leaves(self, number: int, depth: int) -> Iterator[I64]:
        """Numbers of the leaves below a page, in their order."""
        page = self._read(np.array([number]))[0]
        if page[0] == LEAF:
            yield np.array([number])
            return
        below, is_sound = _children(page, self.usable)
        if depth > _DEEPEST or not is_sound:
            raise Unsound
        if self._read(below[:1])[0, 0] == LEAF:  # then all of them are
            yield below
            return
        for child in below.tolist():
            yield from self._leaves(child, depth + 1)


def _children(page: NDArray[np.uint8], usable: int) -> tuple[I64, bool]:
    """Numbers of the pages that an interior page names, int64[n], and whether it is one that is whole."""
    n, first = int(page[3]) << 8 | int(page[4]), _HEADER + 4
    if page[0] != INTERIOR or first + 2 * n > usable:
        return np.empty(0, np.int64), False
    at = page[first : first + 2 * n].view(">u2").astype(np.int64)
    fits = (at >= first) & (at <= usable - 5)
    numbers = np.append(page[at[fits][:, None] + np.arange(4)], page[None, _HEADER:first], axis=0)
    return numbers.view(">u4")[:, 0].astype(np.int64), bool(fits.all())


@inlined
def _varint(text: Any, at: Any, end: Any) -> Any:
    """The number at a place, of one to nine bytes, and what follows it; the place is `_UNSOUND` where there is none."""
    value = np.uint64(0)
    for k in range(9):
        if at >= end:
            return np.int64(0), np.int64(_UNSOUND)
        byte = np.uint64(text[at])
        at += 1
        if k == 8:
            value = value << np.uint64(8) | byte
            break
        value = value << np.uint64(7) | byte & np.uint64(127)
        if byte < 128:
            break
    return np.int64(value), np.int64(at)


@bare
def _rows(
    text: Any,
    page_bytes: Any,
    usable: Any,
    slot: Any,
    last: Any,
    ids: Any,
    whole: Any,
    odd: Any,
    begin: Any,
    stop: Any,
    beyond: Any,
) -> Any:
    """Fills in the rows of some leaves; gives how many there are, or -1 where something is not as it should be."""
    n, n_numbers = 0, len(whole)
    most_local, least_local = usable - 35, (usable - 12) * 32 // 255 - 23
    for base in range(0, len(text), page_bytes):
        n_cells = np.int64(text[base + 3]) << 8 | np.int64(text[base + 4])
        if text[base] != LEAF or _HEADER + n_cells * 2 > usable or n + n_cells > len(ids):
            return _UNSOUND
        for cell in range(n_cells):
            where = base + _HEADER + 2 * cell
            offset = np.int64(text[where]) << 8 | np.int64(text[where + 1])
            if offset < _HEADER + n_cells * 2:
                return _UNSOUND
            end = base + usable
            payload, at = _varint(text, base + offset, end)
            if at < 0:
                return _UNSOUND
            row, at = _varint(text, at, end)
            if at < 0 or payload < 1 or row <= last:
                return _UNSOUND
            local = payload
            if payload > most_local:
                local = least_local + (payload - least_local) % (usable - 4)
                if local > most_local:
                    local = least_local
            local_end = at + local
            if local_end + (4 if local < payload else 0) > end:
                return _UNSOUND
            header, place = _varint(text, at, local_end)
            header_end = at + header
            if place < 0 or header < 1 or header_end > local_end:
                return _UNSOUND
            data, column = header_end, 0
            while place < header_end:
                serial, place = _varint(text, place, header_end)
                if place < 0 or serial < 0 or serial == 10 or serial == 11:
                    return _UNSOUND
                size = serial
                if serial >= 12:
                    size = (serial - 12) >> 1
                elif serial >= 8:
                    size = 0
                elif serial >= 6:
                    size = 8
                elif serial == 5:
                    size = 6
                if size > at + payload - data:
                    return _UNSOUND
                wanted = slot[column] if column < len(slot) else -1
                if wanted >= 0 and serial > 0:
                    if data + size > local_end:
                        beyond[0] = True
                    elif wanted >= n_numbers:
                        if serial >= 12:
                            begin[wanted - n_numbers, n], stop[wanted - n_numbers, n] = data, data + size
                    elif serial >= 8 and serial < 10:
                        whole[wanted, n] = serial - 8
                    elif serial < 7:
                        value = np.int64(np.int8(text[data]))
                        for k in range(1, size):
                            value = value << 8 | np.int64(text[data + k])
                        whole[wanted, n] = value
                    else:
                        odd[wanted, n] = True
                data += size
                column += 1
            if data != at + payload:
                return _UNSOUND
            ids[n], last = row, row
            n += 1
    return n
