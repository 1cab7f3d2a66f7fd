"""The hosts of a fleet one by one: how much memory each has, when it was watched, and when it went into service."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from poisonsim.errors import ScenarioError, did_you_mean, shown
from poisonsim.fitting.findings import I64
from poisonsim.fitting.times import moment
from poisonsim.logs.names import Names, printable
from poisonsim.units import parse_bytes

COLUMNS = ("host", "memory", "since", "until", "installed")
UNKNOWN = -(1 << 62)
"""What a time or size holds that is not known."""
_MOST_TOLD = 8


@dataclass(frozen=True, eq=False)
class Inventory:
    """Hosts in the order of their file.

    Attributes:
        path: The file, as messages call it.
        number: Place of each host by its name.
        columns: By name of `COLUMNS` but `host`, int64[n]: bytes, or microseconds since 1970; `UNKNOWN` where empty.
    """

    path: str
    number: Mapping[str, int]
    columns: Mapping[str, I64]

    def places(self, names: Names, numbers: I64) -> I64:
        """Places of the hosts that a log calls by those numbers, int64[n].

        Raises:
            ScenarioError: A host that the file does not have.
        """
        missing = [names[number] for number in numbers.tolist() if names[number] not in self.number]
        if missing:
            some = ", ".join(shown(name) for name in missing[:5]) + (", …" if len(missing) > 5 else "")
            hint = did_you_mean(missing[0], list(self.number)[:1000])
            raise ScenarioError(f"{self.path}: no row for {some} of the log{hint}; list every host that was watched")
        return np.array([self.number[names[number]] for number in numbers.tolist()], np.int64)


def read_inventory(path: str | Path) -> Inventory:
    """The hosts of a CSV file: column `host`, and if there are some `memory`, `since`, `until` and `installed`.

    Raises:
        ScenarioError: A file that cannot be read, or with problems; the first of them are listed.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = Path(folder, "hosts.csv").write_text("host,memory,installed\\na,1TiB,2024-06-01\\nb,512GiB,\\n")
        ...     found = read_inventory(Path(folder, "hosts.csv"))
        >>> found.number, (found.columns["memory"] >> 30).tolist(), (found.columns["installed"] == UNKNOWN).tolist()
        ({'a': 0, 'b': 1}, [1024, 512], [False, True])
    """
    where = printable(str(path))
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise ScenarioError(f"{where}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    rows = _rows(text, where)
    header = [name.strip().lower() for name in next(rows, (0, []))[1]]
    if "host" not in header or len(set(header)) < len(header):
        raise ScenarioError(f"{where}: line 1: needs a column host, and each once; allowed: {', '.join(COLUMNS)}")
    if unknown := [name for name in header if name not in COLUMNS]:
        hint = did_you_mean(unknown[0], COLUMNS)
        raise ScenarioError(f"{where}: line 1: unknown column {shown(unknown[0])}{hint}; allowed: {', '.join(COLUMNS)}")
    number: dict[str, int] = {}
    values: dict[str, list[int]] = {name: [] for name in COLUMNS[1:]}
    problems: list[str] = []
    for line, row in rows:
        at = f"{where}: line {line}"
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            problems.append(f"{at}: has {len(row)} fields, not {len(header)}")
            continue
        cells = {name: cell.strip() for name, cell in zip(header, row, strict=True)}
        name = printable(cells["host"])
        if not name or name in number:
            problems.append(f"{at}: {f'host {shown(name)} comes twice' if name else 'names no host'}")
            continue
        number[name] = len(number)
        for column, known in values.items():
            try:
                known.append(_value(column, cells.get(column, "")))
            except (ValueError, ScenarioError) as error:
                known.append(UNKNOWN)
                problems.append(f"{at}: {error}" if isinstance(error, ScenarioError) else f"{at}: {column}: {error}")
    if not number and not problems:
        problems.append(f"{where}: names no host; write a row for each that was watched")
    if problems:
        more = [f"{where}: and {len(problems) - _MOST_TOLD:,} more problems"] if len(problems) > _MOST_TOLD else []
        raise ScenarioError([*problems[:_MOST_TOLD], *more])
    return Inventory(where, number, {name: np.array(column, np.int64) for name, column in values.items()})


def _rows(text: str, where: str) -> Iterator[tuple[int, list[str]]]:
    """Rows of a CSV file, and the line each ends in."""
    rows = csv.reader(text.splitlines())
    try:
        for row in rows:
            yield rows.line_num, row
    except csv.Error as error:
        raise ScenarioError(f"{where}: line {rows.line_num}: is no CSV ({error}); write a row for each host") from None


def _value(column: str, text: str) -> int:
    if not text:
        return UNKNOWN
    if column == "memory":
        return parse_bytes(text)
    found = moment(column, text)
    assert found is not None
    return found
