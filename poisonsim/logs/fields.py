"""Lines of a block in which patterns were found: what they say, and what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from poisonsim.logs.codes import UNKNOWN, FoundBy
from poisonsim.logs.context import Context, count_damage, named
from poisonsim.logs.events import I8, I32, I64, Bools, EventBatch
from poisonsim.logs.scan import DECIMAL, HEX, NO_NUMBER, Patterns, heads, numbers_behind, patterns
from poisonsim.logs.source import Block

OTHER, USED, DAMAGED = 0, 1, 2

CELL_FIELDS: tuple[tuple[bytes, int], ...] = (
    (b"ProcessorSocketId:0x", HEX), (b"MemoryControllerId:0x", HEX), (b"ChannelId:0x", HEX), (b"DimmSlotId:0x", HEX),
    (b"PhysicalRankId:0x", HEX), (b"Row:0x", HEX), (b"Column:0x", HEX), (b"Bank:0x", HEX), (b"BankGroup:0x", HEX),
    (b"ChipId:0x", HEX), (b"socket:", DECIMAL), (b"node:", DECIMAL), (b"imc:", DECIMAL), (b"rank:", DECIMAL),
    (b"bg:", DECIMAL), (b"ba:", DECIMAL), (b"row:0x", HEX), (b"col:0x", HEX), (b"row:", DECIMAL), (b"col:", DECIMAL),
    (b"column:", DECIMAL), (b"bank:", DECIMAL), (b"bank_group:", DECIMAL), (b"bank_address:", DECIMAL),
    (b"device:", DECIMAL), (b"channel:", DECIMAL), (b"slot:", DECIMAL),
)  # fmt: skip
"""Where EDAC drivers and CPER records put DRAM coordinates."""
SCRUB, READ, WRITE = b"scrubbing error", b"read error", b"write error"
EDAC_FIELDS: tuple[tuple[bytes, int], ...] = (
    *CELL_FIELDS, (SCRUB, NO_NUMBER), (READ, NO_NUMBER), (WRITE, NO_NUMBER), (b"grain:", DECIMAL), (b" on ", NO_NUMBER),
    (b" (", NO_NUMBER),
)  # fmt: skip

_CELLS: dict[str, tuple[bytes, ...]] = {
    "socket": (b"ProcessorSocketId:0x", b"socket:", b"node:"),
    "channel": (b"ChannelId:0x", b"channel:"),
    "slot": (b"DimmSlotId:0x", b"slot:"),
    "rank": (b"PhysicalRankId:0x", b"rank:"),
    "bank_group": (b"BankGroup:0x", b"bg:", b"bank_group:"),
    "bank": (b"Bank:0x", b"ba:", b"bank:", b"bank_address:"),
    "row": (b"Row:0x", b"row:0x", b"row:"),
    "column": (b"Column:0x", b"col:0x", b"column:", b"col:"),
    "device": (b"device:",),
}


class Table:
    """Patterns with names: those that make a line count, and the fields looked for from there on.

    Examples:
        >>> Table([(b"page ", DECIMAL)], [(b"row:", DECIMAL)]).place[b"row:"]
        1
    """

    def __init__(self, heads: Sequence[tuple[bytes, int]], fields: Sequence[tuple[bytes, int]]) -> None:
        self.heads = [text for text, _ in heads]
        rows = [(text, number, True) for text, number in heads] + [(text, number, False) for text, number in fields]
        self.patterns: Patterns = patterns(rows)
        self.place = {text: i for i, (text, _, _) in enumerate(rows)}


@dataclass(eq=False)
class Found:
    """The lines of a block that hold a head, and what was found in them.

    Args:
        block: The block.
        table: What was looked for.
        rows: Places of the lines in the block, int64[n].
        where: Place of each line's head in the text, int64[n].
        pick: The lines' places in the next two, int64[n].
        values: Numbers behind the patterns, int64[k, m].
        places: What follows the patterns in the text, int32[k, m]; -1 not found.
        state: As of `numbers_behind`, int8[n].
        fate: What becomes of every line of the block, int8[n_lines]: `OTHER`, `USED`, `DAMAGED`.
        time: When, filled by the reader, datetime64[us][n].
        host: Where, likewise, int32[n].
    """

    block: Block
    table: Table
    rows: I64
    where: I64
    pick: I64
    values: I64
    places: I32
    state: I8
    fate: I8
    time: NDArray[np.datetime64]
    host: I32

    @classmethod
    def of(cls, block: Block, table: Table) -> Self:
        """What a table finds in a block."""
        where = heads(block.text, block.starts, block.ends, table.patterns)
        rows = np.flatnonzero(where >= 0)
        return cls._within(block, table, rows, where[rows])

    @classmethod
    def of_block(cls, block: Block, table: Table) -> Self:
        """What a table finds in every line of a block, whether it holds a head or not."""
        return cls._within(block, table, np.arange(len(block.lines)), block.starts)

    @classmethod
    def _within(cls, block: Block, table: Table, rows: I64, where: I64) -> Self:
        values, places, state = numbers_behind(block.text, where, block.ends[rows], table.patterns)
        fate, time = np.zeros(len(block.lines), np.int8), np.full(len(rows), np.datetime64("NaT", "us"))
        host, pick = np.full(len(rows), UNKNOWN, np.int32), np.arange(len(rows))
        return cls(block, table, rows, where, pick, values, places, state, fate, time, host)

    def __len__(self) -> int:
        return len(self.rows)

    def only(self, mask: Bools | I64) -> Self:
        """The lines of a mask or at places; what becomes of them is noted in the same place."""
        names = ("rows", "where", "pick", "state", "time", "host")
        return replace(self, **{name: getattr(self, name)[mask] for name in names})

    def has(self, *texts: bytes) -> Bools:
        """Which lines hold any of these patterns, bool[n]."""
        held = np.zeros(len(self), np.bool_)
        for text in texts:
            held |= self.places[self.table.place[text]][self.pick] >= 0
        return held

    def value(self, *texts: bytes, default: int = UNKNOWN) -> I64:
        """The number behind the first of these patterns that a line holds, int64[n]."""
        found = np.full(len(self), default)
        for text in reversed(texts):
            column = self.table.place[text]
            found = np.where(self.places[column][self.pick] >= 0, self.values[column][self.pick], found)
        return found

    def at(self, text: bytes) -> I64:
        """The place behind a pattern in the text, int64[n]; -1 not found."""
        places: I64 = self.places[self.table.place[text]][self.pick].astype(np.int64)
        return places

    def used(self, mask: Bools | None = None) -> None:
        """Notes that lines gave an event or told more of one."""
        self.fate[self.rows if mask is None else self.rows[mask]] = USED

    def damaged(self, mask: Bools, what: str, context: Context) -> None:
        """Counts lines as damaged."""
        self.fate[self.rows[mask]] = DAMAGED
        count_damage(context.report, self.block, self.rows[mask], what)

    def settle(self, context: Context) -> None:
        """Adds to the report what became of the lines of the block."""
        n = np.bincount(self.fate, minlength=3)
        context.report.n_records += len(self.fate)
        context.report.n_used += int(n[USED])
        context.report.n_other += int(n[OTHER])

    def labels(self, context: Context, after: bytes = b" on ", before: bytes = b" (") -> I32:
        """Numbers of the DIMM labels between two patterns, int32[n]."""
        begin, end = self.at(after), self.at(before) - len(before)
        begin, end = np.where((begin < 0) | (end < begin), 0, begin), np.where((begin < 0) | (end < begin), 0, end)
        return named(context.labels, self.block, begin, np.minimum(end, begin + 300))

    def cells(self) -> dict[str, I64]:
        """Columns of DRAM coordinates, and what found the error."""
        columns = {name: self.value(*where) for name, where in _CELLS.items()}
        columns["found_by"] = found_by(self.has(SCRUB), self.has(READ), self.has(WRITE))
        return columns


def found_by(scrub: Bools, read: Bools, write: Bools) -> I64:
    """Codes of what found errors, int64[n]."""
    return np.select([scrub, read, write], [FoundBy.SCRUB, FoundBy.READ, FoundBy.WRITE], FoundBy.UNKNOWN)


def merged(into: EventBatch, events: EventBatch, same: I64, context: Context) -> None:
    """Adds to events what others, which are the same, know beyond them: severity, access, coordinates, count.

    Args:
        into: Events that stay; their arrays are changed.
        events: The others.
        same: For each of the others its place in `into`, int64[n]; -1 those that are to be passed over.
    """
    places, here = same[same >= 0], np.flatnonzero(same >= 0)
    for name in (
        "found_by",
        "socket",
        "mc",
        "channel",
        "slot",
        "rank",
        "bank_group",
        "bank",
        "row",
        "column",
        "device",
    ):
        mine, theirs = getattr(into, name), getattr(events, name)[here]
        new = (theirs >= 0) & (mine[places] < 0)
        mine[places[new]] = theirs[new]
    np.maximum.at(into.severity, places, events.severity[here])
    context.report.n_merged += len(places)
