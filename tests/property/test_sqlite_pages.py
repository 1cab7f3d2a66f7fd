"""Rows taken from the pages of a database are those that SQLite itself gives, whatever the database is like."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from poisonsim.logs import Log, read_all
from poisonsim.logs.sqlite_pages import Tree, Unsound

_COLUMNS = (
    "timestamp TEXT", "err_count INTEGER", "err_type TEXT", "err_msg TEXT", "label TEXT", "mc INTEGER",
    "top_layer INTEGER", "middle_layer INTEGER", "lower_layer INTEGER", "address INTEGER", "grain INTEGER",
    "syndrome INTEGER", "driver_detail TEXT",
)  # fmt: skip
_ODD = (None, 1.5, 3.0, "x", b"\x00\xff", 7, "", -1, 2**63 - 1, -(2**63), "a\nb", "é☃", "12", "\x00")


def _value(name: str, second: int, odd: float, rng: random.Random) -> Any:
    if rng.random() < odd:
        return rng.choice(_ODD)
    detail = f" Row:0x{rng.randrange(1 << 17):x} Column:0x{rng.randrange(1024):x} Bank:0x1"
    return {
        "timestamp": f"2024-01-0{1 + second // 86_400} {second // 3600 % 24:02d}:{second // 60 % 60:02d}:"
        f"{second % 60:02d} {rng.choice(['+0000', '+0100'])}",
        "err_count": rng.choice([0, 1, 2, 300]),
        "err_type": rng.choice(["Corrected", "Corrected", "Uncorrected", "Fatal", "Info"]),
        "err_msg": rng.choice(["memory read error", "memory scrubbing error"]),
        "label": rng.choice(["DIMM_A", "DIMM_B", "mc#0csrow#1channel#0", "unknown memory"]),
        "address": rng.choice([0, rng.randrange(1, 64) << 12, rng.randrange(1 << 45), -5]),
        "grain": rng.choice([0, 5, 12, 63, 100]),
        "syndrome": rng.randrange(1 << rng.randrange(1, 63)),
        "driver_detail": detail + "z" * rng.choice([0, 0, 0, 500]),
    }.get(name, rng.choice([-1, 0, 1, 2, 200, 70_000]))


def _database(path: Path, seed: int, style: int | None = None) -> None:
    rng = random.Random(seed)
    columns = list(_COLUMNS)
    late: list[str] = []
    page_bytes = rng.choice([512, 1024, 4096, 65536]) if style is None else 4096
    style = rng.randrange(6) if style is None else style
    if style == 1:
        columns, late = columns[:8], columns[8:]
    elif style == 2:
        columns = [column for column in columns if rng.random() < 0.8 or column.startswith(("timestamp", "err_type"))]
    elif style == 3:
        columns = [column.replace("INTEGER", rng.choice(["INTEGER", "REAL", ""])) for column in columns]
    elif style == 4:
        columns.insert(3, "made TEXT GENERATED ALWAYS AS (err_type) VIRTUAL")
    elif style == 5:
        columns[9] = "address INTEGER PRIMARY KEY"
    odd = rng.choice([0.0, 0.0, 0.03]) if style < 5 else 0.0
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size = {page_bytes}")
        connection.execute(f"PRAGMA encoding = '{'UTF-16le' if rng.random() < 0.1 and style else 'UTF-8'}'")
        connection.execute(f"PRAGMA auto_vacuum = {rng.choice([0, 1, 2])}")
        connection.execute("BEGIN")
        own_id = "" if style == 5 else "id INTEGER PRIMARY KEY, "
        connection.execute(f"CREATE TABLE mc_event ({own_id}{', '.join(columns)})")
        connection.execute(
            "CREATE TABLE memory_failure_event (id INTEGER PRIMARY KEY, timestamp TEXT, pfn TEXT, page_type TEXT, "
            "action_result TEXT)"
        )
        for second in range(0, 900, 3):
            if second == 450:
                for column in late:
                    connection.execute(f"ALTER TABLE mc_event ADD COLUMN {column}")
                columns += late
            names = [column.split()[0] for column in columns if "GENERATED" not in column]
            values = [_value(name, second, odd, rng) for name in names]
            marks = ", ".join("?" * len(names))
            connection.execute(f"INSERT OR IGNORE INTO mc_event ({', '.join(names)}) VALUES ({marks})", values)
            if rng.random() < 0.2:
                page = hex(rng.randrange(1, 64))
                connection.execute(
                    "INSERT INTO memory_failure_event (timestamp, pfn, page_type, action_result) VALUES "
                    "(?, ?, 'huge page', 'Failed')", (_value("timestamp", second, odd, rng), page),
                )  # fmt: skip
        if style != 5 and rng.random() < 0.3:
            connection.execute("INSERT INTO mc_event (id, err_type) VALUES (-9, 'Corrected'), (1 << 50, 'Corrected')")
            connection.execute("DELETE FROM mc_event WHERE id % 7 = 3")
        connection.execute("COMMIT")


def _told(log: Log) -> tuple[Any, ...]:
    report = vars(log.report.files[0])
    return log.events.to_frame().astype(str).to_dict("list"), {name: str(report[name]) for name in sorted(report)}


@pytest.mark.parametrize("seed", range(12))
def test_pages_and_sqlite_give_the_same_rows(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ras-mc_event.db"
    _database(path, seed)
    direct = read_all(path)
    with monkeypatch.context() as patch:

        def refuse(*_: object) -> None:
            raise Unsound

        patch.setattr(Tree, "rows", refuse)
        asked = read_all(path)
    assert _told(direct) == _told(asked) and len(direct.events) > 50


@pytest.mark.parametrize("style", [0, 1, 2])
def test_plain_databases_are_read_from_their_pages(style: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ras-mc_event.db"
    _database(path, 0, style=style)
    monkeypatch.setattr("poisonsim.logs.sqlite.Database._asked", lambda *_, **__: pytest.fail("asked SQLite"))
    assert len(read_all(path).events) > 50


@pytest.mark.parametrize("seed", range(30))
def test_pages_that_are_damaged_lose_no_more_than_they_hold(seed: int, tmp_path: Path) -> None:
    """Pages overwritten, copied over each other (which may make a circle of them), or with single bytes changed."""
    path, rng = tmp_path / "ras-mc_event.db", random.Random(seed)
    _database(path, 100 + seed)
    whole = len(read_all(path).events)
    data = bytearray(path.read_bytes())
    size = int.from_bytes(data[16:18], "big") % 65535 or 65536
    pages = len(data) // size
    for _ in range(rng.choice([1, 3, 9])):
        page, other = rng.randrange(1, pages), rng.randrange(1, pages)
        how = rng.randrange(3)
        if how == 0:
            data[page * size : (page + 1) * size] = bytes([rng.choice([0, 13, 255])]) * size
        elif how == 1:
            data[page * size : (page + 1) * size] = data[other * size : (other + 1) * size]
        else:
            data[page * size + rng.randrange(rng.choice([12, size]))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    try:
        log = read_all(path, format="rasdaemon")
    except Exception as error:
        assert type(error).__name__ == "LogError"
        return
    [report] = log.report.files
    assert report.n_records == report.n_used + report.n_other + report.n_damaged
    assert len(log.events) <= 3 * whole
