"""What a reading met: how much was read, what it gave, and what was damaged, by kind and line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from poisonsim.logs.names import printable

MOST_LINES = 5


@dataclass
class Damage:
    """Records of one kind that could not be used.

    Args:
        n: How many.
        lines: The first few of them by number: lines of a text, rows of a table; both count from 1.
        example: What the first one says, safe to show.
    """

    n: int = 0
    lines: list[int] = field(default_factory=list)
    example: str = ""


@dataclass
class FileReport:
    """What one file held.

    Every record is used, other or damaged: `n_records == n_used + n_other + n_damaged`.

    Args:
        path: The file, safe to show.
        format: Its format, one of `FORMATS`.
        n_bytes: Size, as stored.
        sha256: Digest of the file as stored, in hex; empty until it has been read to its end.
        n_records: Lines of a text, rows of a table.
        n_used: Records that gave an event or told more about one.
        n_other: Records that are sound, but not about memory errors.
        n_events: Events given out.
        n_merged: Used records that told of an event that another record had given already.
        n_repeats: Events equal to an earlier one in every column.
        n_repeats_dropped: Those of them that were not given out.
        n_clock_steps: Events earlier than the one before them of the same host, by more than `report.CLOCK_SLACK`.
        damage: Damaged records by what is wrong.
        remarks: What had to be assumed, such as a year that the log does not say; each a sentence, once.
        first: Earliest time of an event, UTC; `NaT` if none is known.
        last: Latest, likewise.
    """

    path: str
    format: str
    n_bytes: int = 0
    sha256: str = ""
    n_records: int = 0
    n_used: int = 0
    n_other: int = 0
    n_events: int = 0
    n_merged: int = 0
    n_repeats: int = 0
    n_repeats_dropped: int = 0
    n_clock_steps: int = 0
    damage: dict[str, Damage] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    first: np.datetime64 = field(default_factory=lambda: np.datetime64("NaT", "us"))
    last: np.datetime64 = field(default_factory=lambda: np.datetime64("NaT", "us"))

    @property
    def n_damaged(self) -> int:
        """Damaged records of every kind."""
        return sum(damage.n for damage in self.damage.values())

    def damaged(self, what: str, line: int, text: str | bytes = b"", n: int = 1) -> None:
        """Counts `n` damaged records from `line` on, of the kind that `what` says in words.

        Examples:
            >>> report = FileReport("kern.log", "kernel")
            >>> report.damaged("EDAC line cut short", 12, b"EDAC MC0: 1 C")
            >>> report.n_damaged, report.warnings()
            (1, ["kern.log: 1 record damaged: EDAC line cut short (line 12: 'EDAC MC0: 1 C')"])
        """
        of = self.damage.setdefault(what, Damage(example=printable(text, 60)))
        of.n += n
        of.lines += list(range(line, line + n))[: MOST_LINES - len(of.lines)]

    def remark(self, sentence: str) -> None:
        """Notes an assumption, once."""
        if sentence not in self.remarks:
            self.remarks.append(sentence)

    def warnings(self) -> list[str]:
        """What a user should know of the reading of this file, a line each."""
        lines = []
        for what, damage in self.damage.items():
            where = "line " if damage.n == 1 else "lines "
            where += ", ".join(map(str, damage.lines)) + (", …" if damage.n > len(damage.lines) else "")
            text = f": '{damage.example}'" if damage.example else ""
            lines.append(f"{damage.n:,} record{'' if damage.n == 1 else 's'} damaged: {what} ({where}{text})")
        if self.n_repeats:
            kept = "dropped" if self.n_repeats_dropped else "kept"
            lines.append(
                f"{self.n_repeats:,} event{'' if self.n_repeats == 1 else 's'} equal to an earlier one: {kept}"
            )
        if self.n_clock_steps:
            n = f"{self.n_clock_steps:,} time{'' if self.n_clock_steps == 1 else 's'}"
            lines.append(f"the clock steps back {n}: events keep the times they were logged with")
        return [f"{self.path}: {line}" for line in lines + self.remarks]


@dataclass
class ReadReport:
    """What a reading met, file by file; it fills while the batches are taken.

    Examples:
        >>> ReadReport([FileReport("a.log", "kernel", n_records=3, n_events=1)]).n_records
        3
    """

    files: list[FileReport] = field(default_factory=list)

    def _sum(self, name: str) -> int:
        return sum(getattr(file, name) for file in self.files)

    @property
    def n_records(self) -> int:
        """Lines and rows read."""
        return self._sum("n_records")

    @property
    def n_events(self) -> int:
        """Events given out."""
        return self._sum("n_events")

    @property
    def n_damaged(self) -> int:
        """Records that could not be used."""
        return self._sum("n_damaged")

    def without_events(self) -> list[str]:
        """Files that hold no event, a line each, for a reading that has none.

        Examples:
            >>> ReadReport([FileReport("a.csv", "csv", n_records=1)]).without_events()
            ['a.csv: read as csv, 1 line or row, and no event in it']
        """
        return [
            f"{file.path}: read as {file.format}, {file.n_records:,} line{'s' * (file.n_records != 1)} or "
            f"row{'s' * (file.n_records != 1)}, and no event in it"
            for file in self.files
            if not file.n_events
        ]

    def warnings(self) -> list[str]:
        """What a user should know, a line each."""
        return [line for file in self.files for line in file.warnings()]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: a dictionary per file, times as ISO text."""
        plain = []
        for file in self.files:
            of = dict(vars(file))
            of["damage"] = {what: dict(vars(damage)) for what, damage in file.damage.items()}
            of["remarks"] = list(file.remarks)
            for end in ("first", "last"):
                of[end] = None if np.isnat(of[end]) else f"{of[end]}Z"
            plain.append(of)
        return {"files": plain}
