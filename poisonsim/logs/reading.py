"""Reading of many logs: which format each is, which host it is of, what is the same twice, how far the reading is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from poisonsim.errors import LogError, did_you_mean, shown
from poisonsim.logs.clock import zone
from poisonsim.logs.codes import FORMATS
from poisonsim.logs.context import Context
from poisonsim.logs.events import EventBatch
from poisonsim.logs.names import MOST_NAMES, Names, printable
from poisonsim.logs.readers import READERS, REPEATS_ARE_REAL
from poisonsim.logs.repeats import Repeats
from poisonsim.logs.report import FileReport, ReadReport
from poisonsim.logs.sniff import sniff
from poisonsim.logs.source import head

CLOCK_SLACK = np.timedelta64(2, "s")
"""How much earlier than the one before it an event may be without the clock having been set back."""

_NO_LABELS = ("unknown memory", "any memory", "unknown label")
"""What EDAC says where it knows no DIMM."""

Progress: TypeAlias = Callable[[int, int, int], None]
"""Told how many bytes have been read, of how many, and how many events they gave."""
PathLike: TypeAlias = str | os.PathLike[str]


@dataclass
class Log:
    """All events of some logs, and the report of their reading.

    Args:
        events: The events, by time; those without one last.
        report: What was read, damaged and assumed.
    """

    events: EventBatch
    report: ReadReport


class Reading:
    """The batches of some logs, each in the order of its file; made by `read`.

    Args:
        report: What has been read so far; complete once the batches are through.
        hosts, labels: Names that all batches share.
    """

    def __init__(self, contexts: Sequence[Context], named: str | None, repeats: str | None, progress: Progress) -> None:
        self._contexts, self._named, self._progress = contexts, named, progress
        self._repeats = repeats
        self.report = ReadReport([context.report for context in contexts])
        self.hosts, self.labels = contexts[0].hosts, contexts[0].labels
        self._sizes = [_size(context.path) for context in contexts]
        self._taken = False

    def __iter__(self) -> Iterator[EventBatch]:
        if self._taken:
            raise RuntimeError("a reading is read once; call read() again")
        self._taken = True
        total = sum(self._sizes)
        seen, before = Repeats(), 0
        hosts = own_hosts([context.path for context in self._contexts])
        for context, own, size in zip(self._contexts, hosts, self._sizes, strict=True):
            report = context.report
            context.progress = partial(self._told, before, total)
            real = report.format in REPEATS_ARE_REAL if self._repeats is None else self._repeats == "keep"
            last: np.datetime64 = np.datetime64("NaT", "us")
            for batch in READERS[report.format](context):
                batch = self._with_host(batch, own)
                looked = not real or report.format != "rasdaemon"  # whose rows are events, and come too fast to compare
                again = seen.of(batch) if looked else np.zeros(len(batch), np.bool_)
                report.n_repeats += int(again.sum())
                if not real:
                    report.n_repeats_dropped += int(again.sum())
                    batch = batch[~again]
                last = _note_times(batch, report, last)
                report.n_events += len(batch)
                if len(batch):
                    yield batch
            before += size
            self._note_copies(report)
            if self.hosts.n_left_out or self.labels.n_left_out:
                report.remark(f"more than {MOST_NAMES:,} different hosts or labels: the rest have no name")
            self._told(before, total, 0)

    def _note_copies(self, report: FileReport) -> None:
        for other in self.report.files:
            if other is report:
                return
            if other.sha256 == report.sha256:
                report.remark(f"is the same as {other.path}, to the byte: give it once")

    def _told(self, before: int, total: int, n: int) -> None:
        self._progress(before + n, total, self.report.n_events)

    def _with_host(self, batch: EventBatch, own: str) -> EventBatch:
        if self._named is not None:
            batch.host[:] = self.hosts.number(self._named)
        elif (batch.host < 0).any():
            batch.host[batch.host < 0] = self.hosts.number(own)
        return batch


def read(
    paths: PathLike | Sequence[PathLike],
    *,
    format: str | None = None,
    host: str | None = None,
    tz: str = "UTC",
    year: int | None = None,
    boot: str | np.datetime64 | None = None,
    repeats: Literal["keep", "drop"] | None = None,
    progress: Progress = lambda done, total, n_events: None,
) -> Reading:
    """The events of logs, batch by batch in bounded memory, and the report of the reading.

    Args:
        paths: Logs, gzip-, bzip2- or xz-packed or not. Only opened for reading; nothing in them is ever executed.
        format: One of `FORMATS`, of all of them; if not given, each is told by its content.
        host: Host of all events. If not given, the one that a record names, and else the name of the file (with its
            folder's, where two have the same).
        tz: Zone of times that name none.
        year: Year of the first time that names none; if not given, the latest that fits the file's own time.
        boot: When the host was booted, UTC, for times that count from then.
        repeats: What to do with events equal to an earlier one in every column. If not given they are dropped from
            logs, where they are mostly copies of a line, and kept from tables with a row for every event.
        progress: Told how many bytes have been read, of how many, and how many events they gave.

    Raises:
        LogError: A file that cannot be opened or is of no known format; an unknown format, zone or time.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> line = "[ 1.5] EDAC MC0: 1 CE memory read error on DIMM_A1 (channel:0 slot:0 page:0x7 offset:0x40 grain:64)"
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "host17.dmesg")
        ...     _ = path.write_text(line)
        ...     reading = read(path, boot="2025-03-01")
        ...     [batch] = reading
        >>> batch.address.tolist(), batch.hosts[batch.host[0]], str(batch.time[0])
        ([28736], 'host17', '2025-03-01T00:00:01.500000')
        >>> reading.report.files[0].format, reading.report.n_damaged
        ('kernel', 0)
    """
    files = [Path(path) for path in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]
    if not files:
        raise LogError("logs: none given; name one or more files")
    if format is not None and format not in FORMATS:
        raise LogError(
            f"format: {shown(format)} is not known{did_you_mean(format, FORMATS)}; known: {', '.join(FORMATS)}"
        )
    if repeats not in (None, "keep", "drop"):
        raise LogError(f'repeats: {shown(repeats)} is neither "keep" nor "drop"')
    if year is not None and not 1970 <= year <= 9999:
        raise LogError(f"year: {shown(year)} is not between 1970 and 9999")
    hosts, labels, in_zone, booted = Names(), Names(nameless=_NO_LABELS), zone(tz), _moment(boot)
    contexts = []
    for path in files:
        start = head(path)
        report = FileReport(printable(str(path)), format or sniff(start, path))
        contexts.append(Context(path, report, hosts, labels, in_zone, year, booted))
    return Reading(contexts, host, repeats, progress)


def read_all(paths: PathLike | Sequence[PathLike], **options: object) -> Log:
    """All events of logs at once, by time, and the report of the reading; options as of `read`.

    Needs about 80 bytes of memory an event.

    Raises:
        LogError: As `read`.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "kern.log")
        ...     _ = path.write_text("Mar  3 02:07:55 a kernel: Soft offline: 0x7f: invalidated")
        ...     log = read_all(path, year=2025)
        >>> log.events.pfn.tolist() == [0x7F], log.events.to_frame().loc[0, ["kind", "host"]].tolist()
        (True, ['soft-offline', 'a'])
    """
    reading = read(paths, **options)  # type: ignore[arg-type]
    batches = list(reading)
    return Log(EventBatch.concat(batches).in_order(), reading.report)


def own_hosts(paths: Sequence[Path]) -> list[str]:
    """What to call the host of each log that names none: its file, with the folder's name where files have the same.

    Examples:
        >>> own_hosts([Path("a/ras-mc_event.db"), Path("b/ras-mc_event.db"), Path("kern.log.1.gz")])
        ['a/ras-mc_event', 'b/ras-mc_event', 'kern']
    """
    stems = [path.name.split(".")[0] or path.name for path in paths]
    return [
        f"{path.absolute().parent.name}/{stem}" if stems.count(stem) > 1 else stem
        for path, stem in zip(paths, stems, strict=True)
    ]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _moment(text: str | np.datetime64 | None) -> np.datetime64 | None:
    if text is None:
        return None
    moment: np.datetime64
    try:
        moment = np.datetime64(str(text), "us")
    except ValueError:
        moment = np.datetime64("NaT", "us")
    if np.isnat(moment):
        raise LogError(f'boot: {shown(str(text))} is not a time; write one such as "2025-03-01T06:00:00", UTC')
    return moment


def _note_times(batch: EventBatch, report: FileReport, last: np.datetime64) -> np.datetime64:
    """Adds a batch's times to the report; gives the last of them."""
    known = batch.time[~np.isnat(batch.time)]
    if len(known) < len(batch) and not batch.is_counter.all():
        report.remark("some events have no time")
    if not len(known):
        return last
    report.first, report.last = np.fmin(report.first, known.min()), np.fmax(report.last, known.max())
    host = batch.host[~np.isnat(batch.time)]
    order = np.argsort(host, kind="stable")
    steps = np.diff(known[order]) < -CLOCK_SLACK
    report.n_clock_steps += int((steps & (np.diff(host[order]) == 0)).sum())
    if (batch.host == batch.host[0]).all():
        report.n_clock_steps += bool(known[0] - last < -CLOCK_SLACK)
    latest: np.datetime64 = known[-1]
    return latest
