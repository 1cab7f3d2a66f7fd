"""Logs of any length, and lines of any length, are read in the memory that a short one takes."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from sound_logs import sound_logs

from poisonsim.logs import EventBatch, write

TEXTS = ("kernel", "journal", "mcelog", "trace", "csv", "smartmem", "ipmi-sel", "edac-sysfs", "counters", "redfish")
EDAC = (
    "Mar  3 02:07:{:02d} h kernel: EDAC MC0: 1 CE memory read error on D (channel:0 slot:0 page:0x7 offset:0x40 "
    "grain:64)"
)
_READ = """
import json
from pathlib import Path
import sys
from poisonsim.logs import read
reading = read(sys.argv[1], year=2024, repeats="keep")
n = sum(len(batch) for batch in reading)
[report] = reading.report.files
told = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
peak = int(told["VmHWM"].split()[0]) << 10  # what getrusage says may be of the process that started this one
print(json.dumps({"events": n, "records": report.n_records, "damaged": report.n_damaged, "peak": peak}))
"""
_READ_ALL = """
import json
import sys
from pathlib import Path
from poisonsim.logs import read
found = {}
for format in sys.argv[2:]:
    reading = read(Path(sys.argv[1]) / format, format=format, year=2024)
    events = sum(len(batch) for batch in reading)
    found[format] = [events, reading.report.files[0].n_damaged]
told = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
print(json.dumps([found, int(told["VmHWM"].split()[0]) << 10]))
"""
pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc that tells the peak of memory")
MOST_BYTES = 600 << 20
"""Resident at most, Python and its libraries with their compiler included."""


def told(path: Path) -> dict[str, int]:
    """What a process of its own makes of a log, and the memory that it takes."""
    done = subprocess.run([sys.executable, "-c", _READ, str(path)], check=True, capture_output=True, text=True)
    found: dict[str, int] = json.loads(done.stdout)
    return found


def _with_long_line(path: Path, n_bytes: int) -> None:
    piece = b"x" * (1 << 20)
    with path.open("wb") as file:
        file.write(EDAC.format(55).encode() + b"\n")
        for _ in range(n_bytes >> 20):
            file.write(piece)
        file.write(b"\n" + EDAC.format(56).encode() + b"\n")


def _database(path: Path, n: int) -> None:
    """A database of a little more than `n` errors: one in ten with its machine check, one in a thousand a UE."""
    few = 20_000
    events = EventBatch.of(
        time=np.datetime64("2024-01-01", "us") + np.arange(few).astype("m8[s]"), kind=np.arange(few) % 1000 == 0,
        severity=np.where(np.arange(few) % 1000 == 0, 1, -1), address=np.arange(1, few + 1) << 12, grain_bytes=64,
        row=np.arange(few), bank=1, column=3, found_by=0,
    )  # fmt: skip
    write(events, path, format="rasdaemon")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        for table in ("mc_event", "mce_record"):
            names = ", ".join(row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[1] != "id")
            later = "datetime(substr(timestamp, 1, 19), ? || ' seconds') || ' +0000'"
            again = names.replace("timestamp", later)
            for k in range(1, n // few):
                connection.execute(
                    f"INSERT INTO {table} ({names}) SELECT {again} FROM {table} WHERE id <= ?",
                    (k * few, few if table == "mc_event" else few // 1000),
                )


@pytest.mark.parametrize(
    "n_bytes", [pytest.param(200 << 20, id="200MiB"), pytest.param(2 << 30, id="2GiB", marks=pytest.mark.long)]
)
def test_a_line_without_an_end_is_one_damaged_record(tmp_path: Path, n_bytes: int) -> None:
    path = tmp_path / "kern.log"
    _with_long_line(path, n_bytes)
    found = told(path)
    path.unlink()
    assert {name: found[name] for name in ("events", "records", "damaged")} == {"events": 2, "records": 3, "damaged": 1}
    assert found["peak"] < MOST_BYTES


def test_lines_of_megabytes_in_a_log_of_any_text_format_are_damage(tmp_path: Path) -> None:
    for format, sound in sound_logs(tmp_path).items():
        *_, line = sound.splitlines()
        half = len(line) // 2
        long = line[:half] + (line[half:] + b" ") * ((1 << 21) // (len(line) - half + 1)) + line[half:] + b"\n"
        (tmp_path / format).write_bytes(sound + b"\n" + 10 * long + sound)
    command = [sys.executable, "-W", "ignore", "-c", _READ_ALL, str(tmp_path), *TEXTS]
    found, peak = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert all(events > 0 and n_damaged >= 10 for events, n_damaged in found.values()) and len(found) == len(TEXTS)
    assert peak < MOST_BYTES


@pytest.mark.parametrize(
    "n", [pytest.param(300_000, id="300k"), pytest.param(10_000_000, id="10M", marks=pytest.mark.long)]
)
@pytest.mark.parametrize("format", ["kernel", "csv", "rasdaemon"])
def test_a_log_of_millions_of_records_takes_no_more_memory(tmp_path: Path, format: str, n: int) -> None:
    path = tmp_path / "log"
    if format == "rasdaemon":
        _database(path, n)
    else:
        line = EDAC.format(55) if format == "kernel" else "2024-03-03T02:07:55Z,CE,0x7000,5"
        few = (line + "\n").encode() * 10_000
        with path.open("wb") as file:
            file.write(b"time,kind,address,row\n" if format == "csv" else b"")
            for _ in range(n // 10_000):
                file.write(few)
    found = told(path)
    path.unlink()
    assert found["events"] == n and found["damaged"] == 0
    assert found["records"] == n + (n // 1000 if format == "rasdaemon" else 0)
    assert found["peak"] < MOST_BYTES
