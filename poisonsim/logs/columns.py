"""Rows of a database's table as columns, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from poisonsim.logs.alike import distinct
from poisonsim.logs.context import Context, texts
from poisonsim.logs.events import I64, Bools, EventBatch
from poisonsim.logs.scan import whole_numbers
from poisonsim.logs.source import Block

NUMBER, TEXT = 0, 1
NOTHING = np.iinfo(np.int64).min
"""What a column of numbers holds where a row has none."""


@dataclass(eq=False)
class Columns:
    """Some rows of a table, column by column, and which of them are damaged.

    Args:
        context: Where damage is counted.
        table: Name of the table.
        ids: Of the rows, int64[n].
        whole: Columns of whole numbers by name, int64[n] each; `NOTHING` where there is none.
        odd: Which rows of such a column hold something else, bool[n] each; a column without any may be left out.
        texts: Columns of text by name, a line of the block per row; empty where there is none.
    """

    context: Context
    table: str
    ids: I64
    whole: dict[str, I64]
    odd: dict[str, Bools]
    texts: dict[str, Block]
    _bad: Bools = field(init=False)
    _other: Bools = field(init=False)

    def __post_init__(self) -> None:
        self._bad, self._other = np.zeros(len(self), np.bool_), np.zeros(len(self), np.bool_)
        for name, which in self.odd.items():
            self.damaged(which, f"{name} that is no whole number")

    def __len__(self) -> int:
        return len(self.ids)

    def numbers(self, name: str, default: int = -1) -> I64:
        """A column of whole numbers, int64[n]; `default` where it holds nothing."""
        values = self.whole[name]
        return np.where(values == NOTHING, default, values)

    def words(self, name: str) -> tuple[I64, list[bytes]]:
        """The number of each row's word in a column of few different ones, int64[n], and the words."""
        block = self.texts[name]
        number, first = distinct(block.text, block.starts, block.ends)
        return number, texts(block, block.starts[first], block.ends[first])

    def coded(self, name: str, code: Callable[[bytes], int]) -> I64:
        """Codes of such a column, int64[n]."""
        number, words = self.words(name)
        codes: I64 = np.array([code(word) for word in words], np.int64)
        return codes[number]

    def hex(self, name: str) -> I64:
        """A column of texts that are numbers written `0x…`, int64[n]; -1 where it is none."""
        block = self.texts[name]
        values, state = whole_numbers(block.text, block.starts, block.ends)
        return np.where(state == 0, values, -1)

    def damaged(self, which: Bools, what: str) -> None:
        """Counts rows as damaged, each once."""
        rows = np.flatnonzero(which & ~self._bad)
        self._bad |= which
        report = self.context.report
        for n, i in enumerate(rows.tolist()):
            if n > 5:
                report.damage[f"{self.table}: {what}"].n += len(rows) - n
                break
            report.damaged(f"{self.table}: {what}", int(self.ids[i]))

    def other(self, which: Bools) -> None:
        """Notes that rows are sound, but not about memory errors."""
        self._other |= which

    def kept(self, events: EventBatch) -> EventBatch:
        """The events of the rows that are neither damaged nor other; counts the rows."""
        report = self.context.report
        keep = ~self._bad & ~self._other
        report.n_records += len(self)
        report.n_used += int(keep.sum())
        report.n_other += int((self._other & ~self._bad).sum())
        return events if keep.all() else events[keep]
