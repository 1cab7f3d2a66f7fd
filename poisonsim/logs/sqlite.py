"""SQLite databases read without changing them, and what can still be read of damaged ones."""

from __future__ import annotations

import shutil
import sqlite3
from array import array
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np

from poisonsim.errors import LogError
from poisonsim.logs.context import Context
from poisonsim.logs.events import I64, Bools, EventBatch
from poisonsim.logs.names import printable
from poisonsim.logs.scan import whole_numbers
from poisonsim.logs.source import Block, opened

NUMBER, TEXT, WORD = 0, 1, 2
ROWS, FEW = 50_000, 500
_NOTHING = np.iinfo(np.int64).min
_LOCK_SECONDS = 2.0
_MOST_JUMPS = 64


class Columns:
    """Some rows of a table, column by column, and which of them are damaged.

    Args:
        context: Where damage is counted.
        table: Name of the table.
        how: Of each column whether it holds `NUMBER`, `TEXT` or, of few different ones, `WORD`.
    """

    def __init__(self, context: Context, table: str, how: dict[str, int]) -> None:
        self.context, self.table, self._how = context, table, how
        self._pieces: dict[str, list[Any]] = {name: [] for name in how}
        self._odd: dict[str, list[int]] = {name: [] for name in how}
        self._words: dict[str, dict[Any, int]] = {name: {} for name in how}
        self.ids: list[int] = []
        self._bad = self._other = np.empty(0, np.bool_)

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, rows: list[tuple[Any, ...]]) -> None:
        """Takes rows as SQLite gives them, each with its id first. Few at a time are several times faster than many."""
        ids, *columns = zip(*rows, strict=True)
        for (name, how), values in zip(self._how.items(), columns, strict=True):
            of = (self._numbers, self._texts, self._coded)[how]
            self._pieces[name].append(of(name, values))
        self.ids += ids

    def close(self) -> Self:
        """Notes that all rows are there."""
        self._bad, self._other = np.zeros(len(self), np.bool_), np.zeros(len(self), np.bool_)
        for name, odd in self._odd.items():
            which = np.zeros(len(self), np.bool_)
            which[odd] = True
            self.damaged(which, f"{name} that is no whole number")
        return self

    def _numbers(self, name: str, values: tuple[Any, ...]) -> I64:
        try:
            return np.frombuffer(array("q", values), np.int64)  # which takes nothing but whole numbers
        except (TypeError, OverflowError):
            found = np.full(len(values), _NOTHING)
            for i, value in enumerate(values):
                if isinstance(value, int):
                    found[i] = value
                elif value is not None:
                    self._odd[name].append(len(self.ids) + i)
            return found

    def _texts(self, name: str, values: tuple[Any, ...]) -> bytes:
        try:
            joined = b"\n".join(values)
        except TypeError:
            joined = b"\n" * len(values)  # to be done again
        if joined.count(b"\n") != len(values) - 1:
            joined = b"\n".join(value.replace(b"\n", b" ") if isinstance(value, bytes) else b"" for value in values)
        return joined

    def _coded(self, name: str, values: tuple[Any, ...]) -> I64:
        of = self._words[name]
        try:
            return np.fromiter(map(of.__getitem__, values), np.int64, len(values))
        except KeyError:
            for value in values:
                of.setdefault(value, len(of))
            return np.fromiter(map(of.__getitem__, values), np.int64, len(values))

    def numbers(self, name: str, default: int = -1) -> I64:
        """A column of whole numbers, int64[n]; `default` where it holds nothing."""
        values = np.concatenate(self._pieces[name])
        return np.where(values == _NOTHING, default, values)

    def coded(self, name: str, code: Callable[[bytes], int]) -> I64:
        """Codes of a column of words, int64[n]."""
        codes = [int(code(value if isinstance(value, bytes) else b"")) for value in self._words[name]]
        of: I64 = np.array(codes, np.int64)[np.concatenate(self._pieces[name])]
        return of

    def text(self, name: str) -> Block:
        """A column of texts as one block of lines."""
        text = np.frombuffer(b"\n".join(self._pieces[name]) + b"\n", np.uint8)
        ends = np.flatnonzero(text == 10)
        return Block(text, np.concatenate([[0], ends[:-1] + 1]), ends, np.asarray(self.ids), is_cut=False)

    def hex(self, name: str) -> I64:
        """A column of texts that are numbers written `0x…`, int64[n]; -1 where it is none."""
        block = self.text(name)
        values, state = whole_numbers(block.text, block.starts, block.ends)
        return np.where(state == 0, values, -1)

    def damaged(self, which: Bools, what: str) -> None:
        """Counts rows as damaged, each once."""
        which = which & ~self._bad
        self._bad |= which
        report = self.context.report
        for n, i in enumerate(np.flatnonzero(which).tolist()):
            if n > 5:
                report.damage[f"{self.table}: {what}"].n += int(which.sum()) - n
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


class Database:
    """A database open for reading; made by `opened_database`."""

    def __init__(self, connection: sqlite3.Connection, context: Context) -> None:
        self.connection, self.context = connection, context

    def _ask(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        return self.connection.execute(sql, values).fetchall()

    def expect(self, known: Collection[str]) -> list[str]:
        """The tables of `known` that there are.

        Raises:
            LogError: None of them, or the list of tables cannot be read.
        """
        path = printable(str(self.context.path))
        try:
            names = [name.decode("utf-8", "replace") for (name,) in self._ask(
                "SELECT name FROM sqlite_master WHERE type = 'table' LIMIT 1000")]  # fmt: skip
        except sqlite3.Error as error:
            raise LogError(_unreadable(path, error)) from None
        found = [name for name in known if name in names]
        if not found:
            there = ", ".join(printable(name, 30) for name in sorted(names)[:8]) or "none"
            raise LogError(f"{path}: has no table of rasdaemon ({', '.join(known)}); it has {there}; give another file")
        return found

    def rows(self, table: str, how: dict[str, int]) -> Iterator[Columns]:
        """The rows of a table in the order of their ids, some at a time; columns that it lacks hold nothing.

        Where pages are damaged it goes on behind them, as far as there is something to find.

        Raises:
            LogError: The database is locked.
        """
        path = printable(str(self.context.path))
        last, jump, jumps, few = -(2**63), 1, 0, FEW
        columns = Columns(self.context, table, how)
        while True:
            try:
                held = {row[1].decode("utf-8", "replace") for row in self._ask(f'PRAGMA table_info("{table}")')}
                names = ", ".join(f'"{name}"' if name in held else "NULL" for name in how)
                cursor = self.connection.execute(
                    f'SELECT rowid, {names} FROM "{table}" WHERE rowid > ? ORDER BY rowid', (last,)
                )
                while rows := cursor.fetchmany(few):
                    if jump > 1:
                        self._lost(table, last)
                        jump, jumps, few = 1, 0, FEW
                    columns.add(rows)
                    last = rows[-1][0]
                    if len(columns) >= ROWS:
                        yield columns.close()
                        columns = Columns(self.context, table, how)
                break
            except sqlite3.OperationalError as error:
                if "locked" in str(error) or "busy" in str(error):
                    raise LogError(_unreadable(path, error)) from None
            except sqlite3.DatabaseError:
                pass
            if few > 1:  # once more, up to the very row
                few = 1
                continue
            jumps += 1
            if jumps > _MOST_JUMPS or last + jump >= 2**62:
                break
            last, jump = max(last, 0) + jump, jump * 2
        if jump > 1:
            self._lost(table, last)
        if len(columns):
            yield columns.close()

    def _lost(self, table: str, after: int) -> None:
        self.context.report.n_records += 1
        self.context.report.damaged(f"{table}: pages that cannot be read", max(after, 0))


def _unreadable(path: str, error: sqlite3.Error) -> str:
    why = printable(str(error), 80)
    if "locked" in why or "busy" in why:
        return f"{path}: is locked by a program that writes to it; wait for that, or give a copy (`sqlite3 … .backup`)"
    return f"{path}: cannot be read as an SQLite database: {why}; give a copy that is whole"


@contextmanager
def opened_database(context: Context) -> Iterator[Database]:
    """A database, never changed: one that has a write-ahead log or journal beside it is read as a copy.

    Raises:
        LogError: It cannot be opened.
    """
    path, report = context.path, context.report
    digest = sha256()
    with opened(path, "rb") as file:
        header = file.read(100)
        digest.update(header)
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            report.n_bytes += len(chunk)
    report.n_bytes += len(header)
    report.sha256 = digest.hexdigest()
    beside = [side for side in (Path(f"{path}-wal"), Path(f"{path}-journal")) if side.is_file() and side.stat().st_size]
    with TemporaryDirectory(prefix="poisonsim-") as folder:
        where, how = path, "mode=ro" if header[18:19] != b"\x02" else "immutable=1"
        if beside:
            where, how = Path(folder, "copy.db"), "mode=rw"
            _copy(path, where, beside)
            report.remark(f"read with what {beside[0].name[len(path.name) :]} beside it holds")
        try:
            connection = sqlite3.connect(f"{where.absolute().as_uri()}?{how}", uri=True, timeout=_LOCK_SECONDS)
        except sqlite3.Error as error:
            raise LogError(_unreadable(printable(str(path)), error)) from None
        with closing(connection):
            connection.text_factory = bytes
            connection.execute("PRAGMA trusted_schema = OFF")
            _settle(connection, report.n_bytes, header, context, whole=not beside)
            yield Database(connection, context)


def _copy(path: Path, to: Path, beside: list[Path]) -> None:
    try:
        shutil.copyfile(path, to)
        for side in beside:
            shutil.copyfile(side, f"{to}{str(side)[len(str(path)) :]}")
    except OSError as error:
        raise LogError(
            f"{printable(str(path))}: cannot be copied to be read: {error.strerror}; free some room"
        ) from None


def _settle(connection: sqlite3.Connection, n_bytes: int, header: bytes, context: Context, whole: bool) -> None:
    """Lets SQLite read what is there of a file that is shorter than it says; nothing in the file is ever run."""
    page = int.from_bytes(header[16:18], "big")
    page = 65536 if page == 1 else page
    n_pages = int.from_bytes(header[28:32], "big")
    if whole and page and n_pages * page > n_bytes:
        context.report.n_records += 1
        context.report.damaged(f"file cut short: {n_bytes} of {n_pages * page} bytes", 1)
        try:
            connection.execute("PRAGMA writable_schema = ON")
        except sqlite3.Error as error:
            raise LogError(_unreadable(printable(str(context.path)), error)) from None
