"""Damaged logs: what is wrong is counted by kind and line, what remains is right, and nothing is changed or run."""

from __future__ import annotations

import gzip
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from poisonsim.errors import LogError
from poisonsim.logs import EventBatch, Kind, Log, Names, read, read_all, write
from poisonsim.logs import source as source_module


@pytest.fixture
def log(tmp_path: Path) -> Callable[..., Log]:
    """Reads text as a log."""

    def of(text: str | bytes, name: str = "host7.log", **options: Any) -> Log:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return read_all(path, **options)

    return of


def edac(second: int, page: int = 7, *, label: str = "DIMM_A", start: str | None = None) -> str:
    """A line of the kernel on a corrected error."""
    start = f"2024-01-09T10:00:{second:02d}+00:00 n1 kernel: " if start is None else start
    return (
        f"{start}EDAC MC0: 1 CE memory read error on {label} (channel:0 slot:0 page:0x{page:x} offset:0x40 grain:64 "
        "syndrome:0x0 -  Row:0x5 Column:0x8 Bank:0x1 BankGroup:0x2)"
    )


def balanced(log: Log) -> dict[str, list[int]]:
    """The damage of the one file that was read, by kind and line, after the sums were checked."""
    [file] = log.report.files
    assert file.n_records == file.n_used + file.n_other + file.n_damaged
    return {what: damage.lines for what, damage in file.damage.items()}


def test_lines_cut_short_glued_or_garbled_are_counted_by_line(log: Callable[..., Log]) -> None:
    lines = [
        edac(1), edac(2)[:-1], edac(3)[:90], edac(4) + edac(5), edac(6).replace("page:0x7", "page:0x"),
        edac(7).replace("page:0x7", "page:0x" + "f" * 17), "Jan  9 n1 systemd: started", "",
        "2024-01-09T10:00:08+00:00 n1 kernel: Memory failure: 0xzz: recovery action", edac(9), edac(10)[:70],
    ]  # fmt: skip
    read = log("\n".join(lines))
    assert balanced(read) == {
        "two records on one line": [4], "number missing or too long": [5, 6, 9], "EDAC line cut short": [2, 3, 11],
    }  # fmt: skip
    assert read.events.time.astype("M8[s]").astype(object).tolist() == read.events.time.tolist()
    assert [str(time)[17:19] for time in read.events.time] == ["01", "09"]
    assert "host7.log: 3 records damaged: EDAC line cut short (lines 2, 3, 11: '2024-01-09T10" in "\n".join(
        read.report.warnings()
    )


def test_a_log_rotated_in_the_middle_of_records(log: Callable[..., Log]) -> None:
    check = "[ 1.000001] mce: [Hardware Error]: "
    rest = (
        f"{check}TSC 0 ADDR 4000 MISC 86\n[ 2.000001] {{1}}[Hardware Error]:   physical_address: 0x0000000000005000\n"
    )
    read = log(rest + f"{check}CPU 1: Machine Check: 0 Ba", format="kernel")
    assert balanced(read) == {
        "piece of a machine check": [1], "piece of a firmware report": [2], "machine check cut short": [3],
    }  # fmt: skip
    text = "ADDR 4000\nSTATUS 8c00004000010091 MCGSTATUS 0\nMCE 1\nCPU 0\nADDR 5000\n"
    assert balanced(log(text, format="mcelog")) == {"machine check cut short": [3], "piece of a machine check": [1]}
    assert len(log(text, format="mcelog").events) == 0


def test_other_text_formats_count_their_damage(log: Callable[..., Log]) -> None:
    trace = " a-1 [000] 5.5: mc_event: 1 Corrected error: x on D (mc:0 location:0:0:-1 address:0x40 grain:6"
    assert balanced(log(f"{trace}4 s)\n{trace[:60]}\n")) == {"mc_event cut short": [2]}
    assert balanced(
        log("1 | 01/09/2024 | 10:00:00 | Memory | Correctable ECC | Asserted\n2 | 01/09", format="ipmi-sel")
    ) == {"line cut short": [2]}
    assert balanced(log("/x/edac/mc/mc0/ce_count:9\n/x/edac/mc/mc0/ue_count:many\n")) == {
        "counter that is no number": [2]
    }
    assert balanced(log('{"LifeTime": {"CorrectableECCErrorCount": "x"}}')) == {"counter that is no number": [1]}
    assert balanced(log('{"LifeTime": {"CorrectableECCErrorCount": 1}}\n{"Life', format="redfish")) == {
        "text that is no JSON": [2]
    }


def test_rows_of_a_table_are_counted_once_however_much_is_wrong(log: Callable[..., Log]) -> None:
    rows = ["kind,time,address,row,severity", "CE,1704794400,0x40,1,", "XX,yesterday,0xg,1.5,?", "CE,,,,", "UE,1,2", ""]
    rows += ["CE,yesterday,,,", "CE,,,-7,", "CE,,,99999999999,", "CE,,0x1ffffffffffffffff,,", "UE,,,,perhaps", 'UE,"x']
    read = log("\n".join(rows) + "\n")
    assert balanced(read) == {
        "row of other than 5 fields": [5, 12], "unknown kind": [3], "time that is none": [7],
        "row out of range": [8, 9], "address that is no whole number": [10], "unknown severity": [11],
    }  # fmt: skip
    assert len(read.events) == 2


def test_smartmem_rows_are_checked(log: Callable[..., Log]) -> None:
    text = "LogTime,MciAddr,error_type,RowId\n1700000000,64,CE.READ,5\n1700000001,64,FINE,5\n1700000002,x,CE,5\n"
    read = log(text, "sn_9.csv.gz")
    assert balanced(read) == {"unknown type of error": [3], "address that is no whole number": [4]}
    assert read.events.to_frame()["host"].tolist() == ["sn_9"]


def test_a_line_longer_than_any_is_skipped_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "BLOCK_BYTES", 1 << 12)
    monkeypatch.setattr(source_module, "LONGEST_LINE", 1 << 13)
    path = tmp_path / "long.log"
    path.write_text(f"{edac(1)}\n{'x' * 100_000}{edac(2)}\n{edac(3)}\n{'y' * 9000}\n{edac(4)}\n{'z' * 50_000}")
    read = read_all(path)
    assert balanced(read) == {"line of more than 8 KiB": [2, 4, 6]}
    assert [str(time)[17:19] for time in read.events.time] == ["01", "03", "04"]


@pytest.mark.parametrize("block_bytes", [1 << 9, 1000, 3001])
def test_records_across_the_edges_of_blocks_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    rng = np.random.default_rng(3)
    n = 60
    events = EventBatch.of(
        time=np.datetime64("2024-01-01", "us") + np.arange(n).astype("m8[m]"), kind=rng.choice([1, 1, 2], n),
        severity=0, address=(rng.permutation(n) + 1) << 12, grain_bytes=64, found_by=1, host=0, hosts=Names(["h"]),
    )  # fmt: skip
    for format in ("kernel", "mcelog"):
        path = tmp_path / format
        write(events, path, format=format)
        whole = read_all(path)
        with monkeypatch.context() as patch:
            patch.setattr(source_module, "BLOCK_BYTES", block_bytes)
            pieces = read_all(path)
        assert pieces.events.to_frame().equals(whole.events.to_frame())
        assert balanced(pieces) == {} and pieces.report.files[0].n_merged == whole.report.files[0].n_merged


def test_binary_junk_and_other_files_are_refused_in_our_words(log: Callable[..., Log], tmp_path: Path) -> None:
    with pytest.raises(
        LogError, match="begins like no log that is known .*name its format .`format`., one of rasdaemon"
    ):
        log(bytes(range(256)) * 50)
    junk = log(np.random.default_rng(1).bytes(100_000), format="kernel")
    assert balanced(junk) == {} and len(junk.events) == 0
    for text, why in ((b"", "is empty"), (b"PK\x03\x04", "packed with zip"), (b"\x28\xb5\x2f\xfd", "packed with zstd")):
        with pytest.raises(LogError, match=why):
            log(text)
    with pytest.raises(LogError, match="cannot be read: No such file"):
        read(tmp_path / "none")
    with pytest.raises(LogError, match="is a folder; name the logs in it"):
        read(tmp_path)
    with pytest.raises(LogError, match="no file can have this name"):
        read("a\0b")
    with pytest.raises(LogError, match="is no file but a pipe or device"):
        read("/dev/null")
    with pytest.raises(LogError, match="none given"):
        read([])


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"format": "kernl"}, "format: 'kernl' is not known; did you mean kernel"),
        ({"tz": "Mars/Base"}, "time zone: 'Mars/Base' is not known"),
        ({"tz": "../../etc/passwd"}, "is not known"),
        ({"boot": "soon"}, "boot: 'soon' is not a time"),
        ({"year": 12}, "year: 12 is not between"),
        ({"repeats": "some"}, "repeats: 'some' is neither"),
    ],
)
def test_options_that_mean_nothing(log: Callable[..., Log], options: dict[str, Any], why: str) -> None:
    with pytest.raises(LogError, match=why):
        log(edac(1), **options)


def test_headers_without_the_columns_it_takes(log: Callable[..., Log]) -> None:
    with pytest.raises(LogError, match="line 1: no column kind in 'time,kinds'; did you mean kind by 'kinds'"):
        log("time,kinds\n1,CE\n")
    with pytest.raises(LogError, match="no column logtime or log_time"):
        log("MciAddr,error_type\n1,CE\n")


def test_an_archive_that_breaks_off_gives_what_can_be_unpacked(log: Callable[..., Log]) -> None:
    rng = np.random.default_rng(2)
    text = "\n".join(edac(i % 60, int(page)) for i, page in enumerate(rng.integers(1, 1 << 40, 4000))) + "\n"
    packed = gzip.compress(text.encode())
    read = log(packed[: len(packed) // 2])
    assert [what.split(" (")[0] for what in balanced(read)][-1] == "compressed data broken off"
    assert 1000 < len(read.events) < 3000
    spoilt = bytearray(packed)
    spoilt[len(packed) // 2] ^= 255
    assert any(what.startswith("compressed data broken off") for what in balanced(log(bytes(spoilt))))


def test_repeated_lines_are_dropped_and_counted_or_kept(log: Callable[..., Log], tmp_path: Path) -> None:
    text = f"{edac(1)}\n{edac(2)}\n{edac(2)}\n{edac(3)}\n"
    dropped, kept = log(text), log(text, repeats="keep")
    assert (len(dropped.events), dropped.report.files[0].n_repeats_dropped) == (3, 1)
    assert (len(kept.events), kept.report.files[0].n_repeats, kept.report.files[0].n_repeats_dropped) == (4, 1, 0)
    assert "1 event equal to an earlier one: dropped" in dropped.report.warnings()[0]
    copy = tmp_path / "host7.log.1"
    copy.write_text(f"{edac(0)}\n{edac(1)}\n")
    both = read_all([copy, tmp_path / "host7.log"])
    assert [file.n_repeats for file in both.report.files] == [0, 2] and len(both.events) == 4


def test_a_clock_that_steps_back_is_counted_and_events_sorted(log: Callable[..., Log]) -> None:
    read = log("\n".join(edac(second) for second in (30, 40, 10, 11, 12, 41)) + "\n")
    assert read.report.files[0].n_clock_steps == 1
    assert [str(time)[17:19] for time in read.events.time] == ["10", "11", "12", "30", "40", "41"]
    assert any("the clock steps back 1 time" in line for line in read.report.warnings())


def test_zones_may_be_mixed_and_years_run_on(log: Callable[..., Log]) -> None:
    starts = ["Dec 31 23:59:59 n1 kernel: ", "Jan  1 00:00:01 n1 kernel: ", "2025-01-01T02:00:02+02:00 n1 kernel: "]
    read = log("\n".join(edac(0, start=start) for start in starts) + "\n", year=2024)
    assert [str(time)[:19] for time in read.events.time] == [
        "2024-12-31T23:59:59", "2025-01-01T00:00:01", "2025-01-01T00:00:02",
    ]  # fmt: skip
    check = f"{starts[1]}mce: [Hardware Error]: "
    lines = f"{check}CPU 1: Machine Check: 0 Bank 7: 8c00010000010091\n{check}PROCESSOR 0:50657 TIME 1735689601"
    dated = log(f"{edac(0, start=starts[0])}\n{lines}\n")
    assert [str(time)[:10] for time in dated.events.time] == ["2024-12-31", "2025-01-01"]
    summer = log(edac(0, start="Jul  1 12:00:00 n1 kernel: "), year=2024, tz="Europe/Paris")
    assert str(summer.events.time[0])[:19] == "2024-07-01T10:00:00"
    guessed = log(edac(0, start="Jul  1 12:00:00 n1 kernel: "))
    assert "times name no year: took 20" in guessed.report.warnings()[0]


def test_text_of_a_record_is_data(log: Callable[..., Log]) -> None:
    bad = "'; DROP TABLE mc_event; -- <script>alert(1)</script>\x1b[31m\x00"
    read = log(edac(1, label=bad), "<b>x'; --.log")
    label = read.events.to_frame()["label"][0]
    assert label.startswith("'; DROP TABLE mc_event; -- <script>") and label.isprintable()
    assert read.report.files[0].path.endswith("<b>x'; --.log")
    named = read_all(read.report.files[0].path, host="a\nb\x07")
    assert named.events.to_frame()["host"].tolist() == ["a�b�"]


def test_addresses_beyond_memory_are_kept_for_the_reader_to_judge(log: Callable[..., Log]) -> None:
    read = log(f"{edac(1)}\n{edac(2, (1 << 36) + 5)}\n")
    assert read.events.beyond(1 << 40).tolist() == [False, True]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A rasdaemon database of 3,000 corrected errors."""
    n = 3000
    events = EventBatch.of(
        time=np.datetime64("2024-01-01", "us") + np.arange(n).astype("m8[m]"), kind=np.zeros(n, int),
        address=np.arange(1, n + 1) << 12, grain_bytes=64, found_by=0, row=np.arange(n), bank=1, column=3,
        label=0, labels=Names(["DIMM_A"]),
    )  # fmt: skip
    path = tmp_path / "ras-mc_event.db"
    write(events, path, format="rasdaemon")
    return path


@pytest.fixture
def untouched(database: Path) -> Iterator[Path]:
    """The database, which must be the same afterwards, with nothing beside it."""
    before = database.read_bytes()
    yield database
    assert database.read_bytes() == before and list(database.parent.iterdir()) == [database]


def test_a_whole_database_is_read_and_left_alone(untouched: Path) -> None:
    log = read_all(untouched)
    assert len(log.events) == 3000 and balanced(log) == {}
    assert log.report.files[0].n_bytes == untouched.stat().st_size and len(log.report.files[0].sha256) == 64


def test_rows_of_a_database_that_mean_nothing_are_counted(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE mc_event SET timestamp = 'yesterday' WHERE id = 5")
        connection.execute("UPDATE mc_event SET err_type = 'Odd' WHERE id IN (7, 8)")
        connection.execute("UPDATE mc_event SET address = 'x', err_type = 'Odd' WHERE id = 9")
        connection.execute("UPDATE mc_event SET grain = NULL, label = NULL, driver_detail = NULL WHERE id = 10")
        connection.execute("UPDATE mc_event SET driver_detail = ' Row:0x7' || char(10) || ' Bank:0x2' WHERE id = 11")
        connection.execute("UPDATE mc_event SET err_count = 1.5 WHERE id = 12")
        connection.execute("INSERT INTO memory_failure_event VALUES (1, '2024-01-01 00:00:00 +0000', 'no', 'x', 'y')")
    log = read_all(database)
    assert balanced(log) == {
        "mc_event: address that is no whole number": [9], "mc_event: unknown type of error": [7, 8],
        "mc_event: time that is none": [5], "memory_failure_event: page number that is none": [1],
        "mc_event: err_count that is no whole number": [12],
    }  # fmt: skip
    assert len(log.events) == 2995 and (log.events.row == 7).sum() == 1


def test_an_old_schema_lacks_columns(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE mc_event (id INTEGER PRIMARY KEY, timestamp, err_type, address)")
        connection.execute("INSERT INTO mc_event VALUES (1, '2024-01-01 00:00:00 +0100', 'Uncorrected', -4096)")
        connection.execute("CREATE TABLE mce_record (id INTEGER PRIMARY KEY, timestamp TEXT, status INT, addr INT)")
    log = read_all(path)
    assert log.events.to_frame().loc[0, ["kind", "count", "address", "mc"]].tolist() == ["UE", 1, -1, -1]
    assert str(log.events.time[0])[:19] == "2023-12-31T23:00:00"


@pytest.mark.parametrize("share", [0.3, 0.75, 0.98])
def test_of_a_database_cut_short_the_rest_is_read(database: Path, share: float) -> None:
    data = database.read_bytes()
    database.write_bytes(data[: int(len(data) * share)])
    log = read_all(database)
    damage = balanced(log)
    assert any("file cut short" in what for what in damage) and any(
        "pages that cannot be read" in what for what in damage
    )
    assert 0.5 * share < len(log.events) / 3000 < share + 0.02
    assert (log.events.address == (log.events.row.astype(int) + 1) << 12).all()


def test_a_page_overwritten_loses_its_rows_only(database: Path) -> None:
    data = bytearray(database.read_bytes())
    data[40 * 4096 : 41 * 4096] = b"\xff" * 4096
    database.write_bytes(data)
    log = read_all(database)
    assert 2800 < len(log.events) < 3000 and log.events.row.max() == 2999
    assert any("pages that cannot be read" in what for what in balanced(log))


def test_no_database_and_one_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(b"SQLite format 3\0" + b"junk" * 500)
    with pytest.raises(LogError, match="cannot be read as an SQLite database"):
        read_all(path)
    other = tmp_path / "y.db"
    with closing(sqlite3.connect(other)) as connection, connection:
        connection.execute('CREATE TABLE "t\'; --<b>" (a)')
    with pytest.raises(LogError, match="has no table of rasdaemon .*it has t'; --<b>"):
        read_all(other)


def test_a_locked_database_is_refused(untouched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poisonsim.logs.sqlite._LOCK_SECONDS", 0.05)
    with closing(sqlite3.connect(untouched, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LogError, match="is locked by a program that writes to it; wait for that, or give a copy"):
            read_all(untouched)
        writer.execute("ROLLBACK")


def test_what_a_write_ahead_log_holds_is_read_and_nothing_is_changed(database: Path) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute(
            "INSERT INTO mc_event (timestamp, err_type, address) VALUES ('2025-01-01 00:00:00 +0000', 'Corrected', 64)"
        )
        before = {path: path.read_bytes() for path in database.parent.iterdir()}
        assert database.with_name("ras-mc_event.db-wal") in before
        log = read_all(database)
        assert {path: path.read_bytes() for path in database.parent.iterdir()} == before
    assert len(log.events) == 3001 and "read with what -wal beside it holds" in log.report.warnings()[0]
    assert len(read_all(database).events) == 3001 and [path.name for path in database.parent.iterdir()] == [
        database.name
    ]


def test_parquet_checks_types_and_values(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="no pyarrow: install poisonsim[parquet]")
    parquet = pytest.importorskip("pyarrow.parquet")

    def table(**columns: Any) -> Path:
        parquet.write_table(pa.table(columns), tmp_path / "e.parquet")
        return tmp_path / "e.parquet"

    log = read_all(table(kind=["CE", "odd", None, "UE"], row=[1, 2, 3, 1 << 40], host=["a", None, "b", "c"]))
    assert balanced(log) == {"unknown kind": [2, 3], "row out of range": [4]} and len(log.events) == 1
    with pytest.raises(LogError, match="column row is of type string, not a whole number"):
        read_all(table(kind=["CE"], row=["x"]))
    with pytest.raises(LogError, match="column time is of type int64, not a timestamp"):
        read_all(table(kind=["CE"], time=[1]))
    with pytest.raises(LogError, match="has no column kind"):
        read_all(table(row=[1]))
    path = table(kind=["CE"] * 10)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(LogError, match="cannot be read as Parquet"):
        read_all(path)


def test_progress_and_batches_of_a_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "BLOCK_BYTES", 1 << 12)
    path = tmp_path / "kern.log"
    path.write_text("\n".join(edac(i % 60, i) for i in range(1, 200)) + "\n")
    told: list[tuple[int, int, int]] = []
    reading = read([path, path], progress=lambda *of: told.append(of), host="h")
    batches = list(reading)
    total = 2 * path.stat().st_size
    assert len(batches) > 5 and told[-1] == (total, total, 199) and sorted(told) == told
    assert {names for batch in batches for names in batch.hosts.texts(batch.host)} == {"h"}
    assert reading.report.files[1].n_repeats_dropped == 199
    assert reading.report.files[1].remarks[-1].endswith("kern.log, to the byte: give it once")
    with pytest.raises(RuntimeError, match="read once"):
        list(reading)


def test_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poisonsim.logs.names.MOST_NAMES", 3)
    names = Names()
    assert (
        names.numbers(["a", "b", "c", "d", "a", "x" * 500]).tolist() == [0, 1, 2, -1, 0, -1] and names.n_left_out == 2
    )


def test_batches_are_checked() -> None:
    with pytest.raises(TypeError, match="columns are time, kind"):
        EventBatch.of(kinds=[0])
    with pytest.raises(ValueError, match="batches of different readings"):
        EventBatch.concat([EventBatch.of(kind=[0]), EventBatch.of(kind=[0])])
    assert EventBatch.of(kind=[Kind.CE], row=[1 << 40], count=[3]).row.tolist() == [-1]
    assert len(EventBatch.empty()) == 0 == len(EventBatch.concat([]))
