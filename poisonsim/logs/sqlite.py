"""SQLite databases read without changing them, and what can still be read of damaged ones."""

from __future__ import annotations

import shutil
import sqlite3
from array import array
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import numpy as np

from poisonsim.errors import LogError
from poisonsim.logs.columns import NOTHING, NUMBER, TEXT, Columns
from poisonsim.logs.context import Context
from poisonsim.logs.events import I64
from poisonsim.logs.names import printable
from poisonsim.logs.source import Block, opened
from poisonsim.logs.sqlite_pages import Rows, Tree, Unsound

ROWS, FEW = 50_000, 500
MOST_BYTES = 32 << 20
"""Text that is held at a time."""
_LONGEST_TEXT = 64 << 10
_LOCK_SECONDS = 2.0
_MOST_JUMPS, _MOST_ASTRAY = 64, 100_000
_UTF8 = 1
_LAST = 2**63 - 1


class _Asked:
    """Rows as SQLite gives them, gathered as columns."""

    def __init__(self, how: dict[str, int]) -> None:
        self._how = how
        self._whole: dict[str, list[I64]] = {name: [] for name in how}
        self._odd: dict[str, list[int]] = {name: [] for name in how}
        self._texts: dict[str, list[bytes]] = {name: [] for name in how}
        self._sizes: dict[str, list[I64]] = {name: [] for name in how}
        self._ids: list[int] = []
        self.n_bytes = 0

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, rows: list[tuple[Any, ...]]) -> None:
        """Takes rows, each with its id first. Few at a time are several times faster than many."""
        ids, *columns = zip(*rows, strict=True)
        for (name, how), values in zip(self._how.items(), columns, strict=True):
            if how == NUMBER:
                self._whole[name].append(self._numbers(name, values))
                continue
            try:
                text = b"".join(values)
            except TypeError:
                values = tuple(value if isinstance(value, bytes) else b"" for value in values)
                text = b"".join(values)
            self._texts[name].append(text)
            self._sizes[name].append(np.fromiter(map(len, values), np.int64, len(values)))
            self.n_bytes += len(text)
        self._ids += ids

    def _numbers(self, name: str, values: tuple[Any, ...]) -> I64:
        try:
            return np.frombuffer(array("q", values), np.int64)  # which takes nothing but whole numbers
        except (TypeError, OverflowError):
            found = np.full(len(values), NOTHING)
            for i, value in enumerate(values):
                if isinstance(value, int):
                    found[i] = value
                elif value is not None:
                    self._odd[name].append(len(self) + i)
            return found

    def columns(self, context: Context, table: str) -> Columns:
        """All of them."""
        ids = np.array(self._ids, np.int64)
        whole = {name: np.concatenate(pieces) for name, pieces in self._whole.items() if pieces}
        odd = {name: np.isin(np.arange(len(ids)), places) for name, places in self._odd.items() if places}
        texts = {}
        for name in self._texts.keys() - whole.keys():
            stop = np.cumsum(np.concatenate(self._sizes[name]))
            text = np.frombuffer(b"".join(self._texts[name]), np.uint8)
            texts[name] = Block(text, np.append(0, stop[:-1]), stop, ids, is_cut=False)
        return Columns(context, table, ids, whole, odd, texts)


class Database:
    """A database open for reading; made by `opened_database`.

    Args:
        connection: To it, in a transaction, so that nobody changes it while it is read.
        file: The same file as bytes.
        is_whole: Whether all of it is there, and nothing elsewhere.
    """

    def __init__(self, connection: sqlite3.Connection, context: Context, file: BinaryIO, is_whole: bool) -> None:
        self.connection, self.context, self._file, self._is_whole = connection, context, file, is_whole

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

        Whole pages are read as they are. For what is not in them, and from the first damaged page on, SQLite is asked.

        Args:
            how: Of each column whether it holds `NUMBER` or `TEXT`.

        Raises:
            LogError: The database is locked.
        """
        last, tree = NOTHING, None
        try:
            tree, places = self._tree(table, how)
            if not self._is_whole:
                raise Unsound
            there = {kind: [name for name in how if how[name] == kind and name in places] for kind in (NUMBER, TEXT)}
            for rows in tree.rows(*([places[name] for name in names] for names in there.values())):
                if rows.is_beyond:
                    yield from self._asked(table, how, last, int(rows.ids[-1]), ends=True)
                else:
                    yield self._columns(table, how, rows, *there.values())
                last = int(rows.ids[-1])
        except (Unsound, sqlite3.Error, OSError):
            yield from self._asked(table, how, last, _LAST, ends=tree is not None and tree.is_tree())

    def _tree(self, table: str, how: dict[str, int]) -> tuple[Tree, dict[str, int]]:
        """Where the table's rows are in the file, and the place of each column in a row.

        Raises:
            Unsound: Rows that hold something else than what SQLite says they do.
        """
        self._file.seek(0)
        header = self._file.read(100)
        page_bytes = int.from_bytes(header[16:18], "big")
        page_bytes = 65536 if page_bytes == 1 else page_bytes
        n_pages = self._file.seek(0, 2) // max(page_bytes, 1)
        columns = [(name.decode("utf-8", "replace"), *more) for _, name, *more in self._ask(
            f'PRAGMA table_xinfo("{table}")')]  # fmt: skip
        for name, kind, _, default, key, hidden in columns:
            is_real = name in how and any(word in kind.upper() for word in (b"REAL", b"FLOA", b"DOUB"))
            if hidden or (name in how and (default is not None or key or is_real)):
                raise Unsound
        [(root,)] = self._ask("SELECT rootpage FROM sqlite_master WHERE type = 'table' AND name = ?", (table,))
        if header[56:60] != _UTF8.to_bytes(4, "big") or page_bytes < 512 or not root:
            raise Unsound
        tree = Tree(self._file, page_bytes, page_bytes - header[20], n_pages, root)
        return tree, {name: place for place, (name, *_) in enumerate(columns)}

    def _columns(self, table: str, how: dict[str, int], rows: Rows, numbers: list[str], texts: list[str]) -> Columns:
        none, nowhere = np.full(len(rows.ids), NOTHING), np.zeros(len(rows.ids), np.int64)
        whole = {name: none for name in how if how[name] == NUMBER} | dict(zip(numbers, rows.whole, strict=True))
        pieces = {name: (nowhere, nowhere) for name in how if how[name] == TEXT}
        pieces |= dict(zip(texts, zip(rows.begin, rows.stop, strict=True), strict=True))
        blocks = {name: Block(rows.text, *ends, rows.ids, is_cut=False) for name, ends in pieces.items()}
        return Columns(self.context, table, rows.ids, whole, dict(zip(numbers, rows.odd, strict=True)), blocks)

    def _asked(self, table: str, how: dict[str, int], last: int, until: int, ends: bool) -> Iterator[Columns]:
        """The rows whose ids are above `last`, up to `until`, as SQLite gives them.

        Where pages are damaged it goes on behind them, as far as there is something to find.

        Args:
            ends: Whether the table comes to an end; rows behind one of a higher id are left out if it may not.
        """
        path = printable(str(self.context.path))
        jump, jumps, few, astray = 1, 0, FEW, 0
        asked = _Asked(how)
        while True:
            begun = last
            try:
                held = {row[1].decode("utf-8", "replace") for row in self._ask(f'PRAGMA table_info("{table}")')}
                names = ", ".join(_short(name) if name in held else "NULL" for name in how)
                cursor = self.connection.execute(
                    f'SELECT rowid, {names} FROM "{table}" WHERE rowid > ? AND rowid <= ? ORDER BY rowid', (last, until)
                )
                while rows := cursor.fetchmany(few):
                    before = last
                    kept, last = (rows, rows[-1][0]) if ends else _ascending(rows, last)
                    if (jump > 1 and last > begun) or (len(kept) < len(rows) and not astray):
                        self._lost(table, before)
                    if jump > 1 and last > begun:
                        jump, jumps, few = 1, 0, FEW
                    if kept:
                        asked.add(kept)
                    astray = astray + len(rows) - len(kept) if len(kept) < len(rows) else 0
                    if astray > _MOST_ASTRAY:
                        raise sqlite3.DatabaseError
                    if len(asked) >= ROWS or asked.n_bytes >= MOST_BYTES:
                        yield asked.columns(self.context, table)
                        asked = _Asked(how)
                break
            except sqlite3.OperationalError as error:
                if "locked" in str(error) or "busy" in str(error):
                    raise LogError(_unreadable(path, error)) from None
            except sqlite3.DatabaseError:
                pass
            last = max(last, begun)
            if few > 1:  # once more, up to the very row
                few = 1
                continue
            jumps += 1
            if jumps > _MOST_JUMPS or last + jump >= 2**62:
                break
            last, jump = max(last, 0) + jump, jump * 2
        if jump > 1:
            self._lost(table, last)
        if len(asked):
            yield asked.columns(self.context, table)

    def _lost(self, table: str, after: int) -> None:
        self.context.report.n_records += 1
        self.context.report.damaged(f"{table}: pages that cannot be read", max(after, 0))


def _unreadable(path: str, error: sqlite3.Error) -> str:
    why = printable(str(error), 80)
    if "locked" in why or "busy" in why:
        return f"{path}: is locked by a program that writes to it; wait for that, or give a copy (`sqlite3 … .backup`)"
    return f"{path}: cannot be read as an SQLite database: {why}; give a copy that is whole"


def _ascending(rows: list[tuple[Any, ...]], last: int) -> tuple[list[tuple[Any, ...]], int]:
    """The rows whose ids are above `last` and those before them, and the new last; one id far too high is passed over.

    Examples:
        >>> _ascending([(5,), (900,), (6,), (2,), (7,)], 4)
        ([(5,), (900,), (6,), (7,)], 7)
    """
    kept = []
    for row, after in zip(rows, [*rows[1:], (_LAST,)], strict=True):
        if row[0] > last:
            kept.append(row)
            last = last if last < after[0] < row[0] else row[0]
    return kept, last


def _short(name: str) -> str:
    """A column in SQL, texts of it no longer than anyone writes them."""
    return f'CASE WHEN length("{name}") > {_LONGEST_TEXT} THEN substr("{name}", 1, {_LONGEST_TEXT}) ELSE "{name}" END'


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
    beside = [side for side in _beside(path) if side.is_file() and side.stat().st_size]
    with TemporaryDirectory(prefix="poisonsim-") as folder:
        where, how = path, "mode=ro" if header[18:19] != b"\x02" else "immutable=1"
        if beside:
            where, how = Path(folder, "copy.db"), "mode=rw"
            _copy(path, where, beside)
            report.remark(f"read with what {beside[0].name[len(path.name) :]} beside it holds")
        # The file is closed after the connection: closing it would end the locks that SQLite holds on it.
        with opened(where, "rb") as file, closing(_connected(where, how, path)) as connection:
            is_whole = _settle(connection, report.n_bytes, header, context, whole=not beside)
            try:
                if beside:
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                connection.execute("BEGIN")
                connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
            except sqlite3.Error:
                is_whole = False
            elsewhere = any(side.is_file() and side.stat().st_size for side in _beside(where))
            yield Database(connection, context, file, is_whole and not elsewhere)


def _beside(path: Path) -> tuple[Path, Path]:
    return Path(f"{path}-wal"), Path(f"{path}-journal")


def _connected(where: Path, how: str, path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(f"{where.absolute().as_uri()}?{how}", uri=True, timeout=_LOCK_SECONDS)
    except sqlite3.Error as error:
        raise LogError(_unreadable(printable(str(path)), error)) from None
    connection.text_factory = bytes
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _copy(path: Path, to: Path, beside: list[Path]) -> None:
    try:
        shutil.copyfile(path, to)
        for side in beside:
            shutil.copyfile(side, f"{to}{str(side)[len(str(path)) :]}")
    except OSError as error:
        raise LogError(
            f"{printable(str(path))}: cannot be copied to be read: {error.strerror}; free some room"
        ) from None


def _settle(connection: sqlite3.Connection, n_bytes: int, header: bytes, context: Context, whole: bool) -> bool:
    """Lets SQLite read what is there of a file that is shorter than it says; nothing in the file is ever run.

    Returns:
        Whether all of it is there.
    """
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
        return False
    return True
