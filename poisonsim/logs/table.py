"""Readers of tables with a row per event: our own CSV, and the CSV made from mcelog that the SmartMem data set uses.

A CSV has a header that names columns of `EventBatch` in any order; only `kind` has to be there. Empty fields are
unknown. Times are ISO 8601, with seconds or without, or seconds since 1970, UTC where they name no zone; numbers are
decimal or `0x…`; codes are words (`UE`, `AR`, `scrub`, `recovered`, `huge`). Columns of other names are passed over.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from poisonsim.errors import LogError, shown
from poisonsim.logs.codes import CODES, UNKNOWN, FoundBy, Kind
from poisonsim.logs.context import Context, coded, count_damage
from poisonsim.logs.events import COLUMNS, DEFAULTS, I32, I64, Bools, EventBatch
from poisonsim.logs.names import Names, printable
from poisonsim.logs.scan import DIGIT, split, whole_numbers
from poisonsim.logs.source import Block, blocks
from poisonsim.logs.stamps import NO_STAMP, stamps

MOST_COLUMNS = 200
NAMED = ("host", "label")
WORDS: dict[str, dict[str, int]] = {
    name: {code.label.lower(): code.value for code in codes}  # type: ignore[attr-defined]
    for name, codes in CODES.items()
}
"""Of each coded column the words for its codes, in lower case."""
_SMARTMEM = {
    "logtime": "time", "log_time": "time", "mciaddr": "address", "cpuid": "socket", "channelid": "channel",
    "dimmid": "slot", "rankid": "rank", "bankgroupid": "bank_group", "bankid": "bank", "rowid": "row",
    "columnid": "column", "deviceid": "device", "error_type_full_name": "kind", "error_type": "kind", "src": "label",
    "serial_number": "label", "sn_name": "label",
}  # fmt: skip
_LINE_BYTES = 64
WANTED = "kind, and as far as they are known time, host, address and found_by"
"""The columns that a table must have, and those that say most beside them."""


class _Header(NamedTuple):
    """Which field holds which column, and how many fields a row has."""

    field: dict[str, int]
    n_fields: int


def read_csv(context: Context) -> Iterator[EventBatch]:
    """The events of our own CSV, block by block."""
    for block, header in _blocks(context, {name: name for name in COLUMNS if name != "source"}):
        rows = _Rows(block, header, context)
        columns: dict[str, NDArray[Any]] = {}
        for name in header.field:
            if name in CODES:
                columns[name] = rows.coded(name)
            elif name in NAMED:
                names = context.hosts if name == "host" else context.labels
                columns[name] = rows.named(name, names)
            else:
                columns[name] = rows.times() if name == "time" else rows.numbers(name)
        yield rows.kept(context.batch(**columns))


def read_smartmem(context: Context) -> Iterator[EventBatch]:
    """The events of a CSV of the SmartMem data set, block by block.

    It names no hosts: every DIMM is taken for a host of its own, named by its serial, or by its file where the table
    has no column for that. Ranks stay as they are logged: 0 to 3 on the channel's first DIMM, 4 to 7 on its second.
    """
    stem = context.path.name.split(".")[0]
    context.report.remark("the data name no hosts: took every DIMM for a host of its own")
    for block, header in _blocks(context, _SMARTMEM):
        rows = _Rows(block, header, context)
        kind, found_by = rows.error_types()
        numbers = {name: rows.numbers(name) for name in header.field if name not in ("time", "kind", "label")}
        address = numbers.pop("address")
        if "label" in header.field:
            own: dict[str, Any] = {
                "host": rows.named("label", context.hosts),
                "label": rows.named("label", context.labels),
            }
        else:
            own = {name: np.int32(of.number(stem)) for name, of in (("host", context.hosts), ("label", context.labels))}
        yield rows.kept(context.batch(
            time=rows.times(), kind=kind, found_by=found_by, address=np.where(address > 0, address, -1),
            grain_bytes=np.where(address > 0, _LINE_BYTES, 0), **numbers, **own,
        ))  # fmt: skip


def _blocks(context: Context, meaning: dict[str, str]) -> Iterator[tuple[Block, _Header]]:
    """The rows of a table, and what its header says."""
    header = None
    for block in blocks(context.path, context.report, context.progress):
        if header is None:
            header = _header(_whole_line(block) if len(block.lines) else b"", context, meaning)
            block = Block(block.text, block.starts[1:], block.ends[1:], block.lines[1:], block.is_cut)
        if len(block.lines):
            yield block, header


def _whole_line(block: Block) -> bytes:
    return block.text[block.starts[0] : block.ends[0]].tobytes()


def _header(line: bytes, context: Context, meaning: dict[str, str]) -> _Header:
    path = context.report.path
    names = [printable(name.strip(b' "'), 60) for name in line.removeprefix(b"\xef\xbb\xbf").split(b",")]
    if len(names) > MOST_COLUMNS:
        raise LogError(f"{path}: line 1: has {len(names)} columns; a table of events has no more than {MOST_COLUMNS}")
    field: dict[str, int] = {}
    for place, name in enumerate(names):
        column = meaning.get(name.lower())
        if column is not None:
            field.setdefault(column, place)
    needed = ("kind", "time", "address") if "mciaddr" in meaning else ("kind",)
    for column in needed:
        if column not in field:
            known = [name for name, of in meaning.items() if of == column]
            raise LogError(
                f"{path}: line 1: no column {' or '.join(known)} in '{printable(line, 80)}'"
                f"{_meant(names, known)}; name the columns in the first line: it takes {_wanted(meaning)}; "
                "see `poisonsim help own-logs`"
            )
    strange = [name for name in names if name.lower() not in meaning and name.lower() != "source"]
    if strange and "mciaddr" not in meaning:
        context.report.remark(f"columns that mean nothing here: {', '.join(strange[:8])}")
    return _Header(field, len(names))


def _meant(names: list[str], known: list[str]) -> str:
    """The clause `; did you mean X for 'Y'?` of a column that is spelled like a known one; else empty."""
    for name in names:
        if close := difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6):
            return f"; did you mean {close[0]} by {shown(printable(name, 40))}?"
    return ""


def _wanted(meaning: dict[str, str]) -> str:
    if "mciaddr" in meaning:
        return "a type of error, a time and an address, as the SmartMem data name them"
    return WANTED


def _dates(text: NDArray[np.uint8], begin: I64, stop: I64) -> Bools:
    """Which fields are a date such as 2024-01-09 and nothing else."""
    last = len(text) - 1
    found: Bools = stop - begin == 10
    for k in range(10):
        letter = text[np.minimum(begin + k, last)]
        found &= letter == 45 if k in (4, 7) else DIGIT[letter] < 10
    return found


class _Rows:
    """The rows of one block, read column by column, and which of them are damaged."""

    def __init__(self, block: Block, header: _Header, context: Context) -> None:
        self.context = context
        blank = block.ends == block.starts
        context.report.n_records += len(block.lines)
        context.report.n_other += int(blank.sum())
        block = Block(block.text, block.starts[~blank], block.ends[~blank], block.lines[~blank], block.is_cut)
        begin, stop, n_fields = split(block.text, block.starts, block.ends, header.n_fields, ord(","))
        whole = n_fields == header.n_fields
        count_damage(context.report, block, ~whole, f"row of other than {header.n_fields} fields")
        self.block = Block(block.text, block.starts[whole], block.ends[whole], block.lines[whole], block.is_cut)
        self.begin, self.stop, self.header = begin[whole], stop[whole], header
        self.bad = np.zeros(len(self), np.bool_)

    def __len__(self) -> int:
        return len(self.block.lines)

    def damaged(self, which: Bools, what: str) -> None:
        """Counts rows as damaged, each once."""
        count_damage(self.context.report, self.block, which & ~self.bad, what)
        self.bad |= which

    def field(self, name: str) -> tuple[I64, I64]:
        """Where a column's fields begin and end, int64[n] each."""
        place = self.header.field[name]
        return self.begin[:, place], self.stop[:, place]

    def numbers(self, name: str) -> I64:
        """A column of whole numbers, int64[n]; what it holds where nothing is said is as of `EventBatch`."""
        values, state = whole_numbers(self.block.text, *self.field(name))
        limits = np.iinfo(COLUMNS[name])
        self.damaged(state == 2, f"{name} that is no whole number")
        self.damaged((state == 0) & ((values < -1) | (values > limits.max)), f"{name} out of range")
        numbers: I64 = np.where(state == 0, values, DEFAULTS.get(name, UNKNOWN))
        return numbers

    def times(self) -> NDArray[np.datetime64]:
        """UTC, datetime64[us][n]; `NaT` where nothing is said."""
        begin, stop = self.field("time")
        kinds, micros, _, _ = stamps(self.block.text, begin, stop)
        seconds, state = whole_numbers(self.block.text, begin, stop)
        plain = (state == 0) & (seconds >= 0) & (seconds < 1 << 36)
        half_day = np.isin(self.block.text[np.maximum(stop - 1, 0)], (77, 109)) & (stop > begin)  # AM, PM
        none = (state != 1) & ~plain & ((kinds < 3) | half_day)
        if none.any():
            self.damaged(none & _dates(self.block.text, begin, stop), "date without a time of day")
            self.damaged(none, "time that is none")
        times = self.context.clock().times(np.where(none | plain, NO_STAMP, kinds), micros)
        times[plain] = (seconds[plain] * 1_000_000).view("M8[us]")
        return times

    def named(self, name: str, names: Names) -> I32:
        """A column of texts as numbers of names, int32[n]."""
        number = coded(self.block, *self.field(name), lambda text: names.number(text.replace(b'""', b'"')))
        return number.astype(np.int32)

    def coded(self, name: str) -> I64:
        """A column of words as codes, int64[n]."""
        of, lowest = WORDS[name], Kind.CE if name == "kind" else UNKNOWN
        found = coded(self.block, *self.field(name), lambda word: of.get(word.strip().decode("latin-1").lower(), -9))
        self.damaged(found < lowest, f"unknown {name}")
        return found

    def error_types(self) -> tuple[I64, I64]:
        """Kind and access of words such as `CE.SCRUB`, int64[n] each."""
        kinds, accesses = {b"CE": Kind.CE, b"UE": Kind.UE}, {b"SCRUB": FoundBy.SCRUB, b"READ": FoundBy.READ}
        field = self.field("kind")
        kind = coded(self.block, *field, lambda word: kinds.get(word.strip().upper()[:2], -1))
        access = coded(self.block, *field, lambda word: accesses.get(word.strip().upper().partition(b".")[2], -1))
        self.damaged(kind < 0, "unknown type of error")
        return kind, access

    def kept(self, events: EventBatch) -> EventBatch:
        """The events of the rows that are not damaged; counts them."""
        self.context.report.n_used += int((~self.bad).sum())
        return events[~self.bad] if self.bad.any() else events
