"""What was watched and what was seen: hosts, memory and time, and the errors of a log that fall into them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from poisonsim.errors import LogError, ScenarioError
from poisonsim.fitting.cells import CellCounter, Cells
from poisonsim.fitting.exposure import DERIVED, Exposure, checked, exposure_of, exposure_of_hosts
from poisonsim.fitting.findings import I64, counted
from poisonsim.fitting.inventory import Inventory, read_inventory
from poisonsim.logs import EventBatch, Kind, read
from poisonsim.logs.gather import Corrected, Gathered, gather
from poisonsim.logs.placing import Placed, place
from poisonsim.logs.report import ReadReport
from poisonsim.units import GIB, format_bytes

PAGE_BYTES = 4096


@dataclass(frozen=True)
class Observed:
    """A log within its window.

    Attributes:
        exposure: What was watched.
        errors: Uncorrected errors, each page once; hosts are numbered 0 to `exposure.n_hosts` - 1.
        corrected: Corrected errors by page and second.
        cells: DRAM cells that the log names.
        by_kind: Events of each kind, int64[n_kinds, n_hosts_seen].
        hosts: Names of the hosts seen.
        report: What was read and assumed.
        n_outside: Events outside the window.
    """

    exposure: Exposure
    errors: Placed
    corrected: Corrected
    cells: Cells
    by_kind: I64
    hosts: tuple[str, ...]
    report: ReadReport
    n_outside: int

    @property
    def n_errors(self) -> int:
        """Uncorrected errors, each page once."""
        return len(self.errors.host)

    @property
    def n_corrected(self) -> int:
        """Corrected errors."""
        return int(self.by_kind[Kind.CE].sum())

    @property
    def counts(self) -> I64:
        """Uncorrected errors of each host, int64[n_hosts]."""
        return np.bincount(self.errors.host, minlength=self.exposure.n_hosts)

    @property
    def timed(self) -> tuple[I64, I64]:
        """Host and time of the errors whose time is known, by host and then time: int64[n] each."""
        known = self.errors.begin == self.errors.end
        return self.errors.host[known], self.errors.begin[known]


def observe(
    logs: str | Path | Sequence[str | Path],
    *,
    hosts: int | None = None,
    memory: int | str | None = None,
    since: str | np.datetime64 | None = None,
    until: str | np.datetime64 | None = None,
    installed: str | np.datetime64 | None = None,
    inventory: str | Path | None = None,
    **reading: Any,
) -> Observed:
    """Reads logs, and keeps what a fit needs of what happened in the window.

    Args:
        logs, **reading: As `poisonsim.logs.read` takes them.
        hosts: How many hosts were watched, those without any record among them; default those that the log names.
        memory: Of each host; default up to the largest address seen, in whole GiB.
        since, until: The window, UTC; default from the first to the last event.
        installed: When the hosts went into service, UTC, if all did at about the same time.
        inventory: A CSV file of the hosts, where they are not all alike: columns host, memory, since, until and
            installed. The arguments of these names then hold for what it leaves open.

    Raises:
        LogError: A log that cannot be read, or that leaves open what was watched.
        ScenarioError: An argument that cannot be used.
    """
    if inventory is not None and hosts is not None:
        raise ScenarioError("hosts and inventory exclude each other; the inventory lists the hosts")
    given = checked(hosts, memory, since, until, installed)
    listed = None if inventory is None else read_inventory(inventory)
    known = None if listed is None else exposure_of_hosts(listed, given)
    reading_of = read(list(logs) if isinstance(logs, (list, tuple)) else logs, **reading)
    window = _Window(given["since"], given["until"]) if known is None else _Window(known.begin, known.end, listed)
    try:
        gathered = gather(window.inside(reading_of), page_bytes=PAGE_BYTES)
    except LogError as error:
        begin, end = (given["since"], given["until"]) if known is None else known.window
        if begin is None or end is None or window.n_inside:
            raise LogError(_nothing_inside(window, reading_of.report) or error.problems) from None
        gathered = _nothing(begin, end)
    numbers = gathered.hosts
    gathered = gathered.renumbered(numbers)
    if known is None or listed is None:
        exposure = exposure_of(gathered, given)
    else:
        exposure = known.reordered(listed.places(reading_of.hosts, numbers))
    begin, end = exposure.window
    whole = replace(gathered, first=begin)  # what has no time may have been at any of the window
    return Observed(
        exposure, place(whole, page_bytes=PAGE_BYTES, end=end), gathered.corrected,
        window.cells.found(numbers), gathered.by_kind, tuple(reading_of.hosts[number] for number in numbers.tolist()),
        reading_of.report, window.n_outside,
    )  # fmt: skip


class _Window:
    """Passes on the events of a window, or of each host's own, and notes the cells they name.

    Args:
        begin, end: Microseconds since 1970, of all hosts or in the order of `inventory`; `None` for no limit.
    """

    def __init__(self, begin: int | I64 | None, end: int | I64 | None, inventory: Inventory | None = None) -> None:
        self.begin, self.end, self.inventory = begin, end, inventory
        self.n_outside = self.n_inside = 0
        self.cells = CellCounter()
        self._place: list[int] = []

    def inside(self, batches: Iterable[EventBatch]) -> Iterator[EventBatch]:
        """The events of the window, and those without a time."""
        for batch in batches:
            time, known = batch.time.astype(np.int64), ~np.isnat(batch.time)
            begin, end = self._limits(batch)
            outside = np.zeros(len(batch), np.bool_)
            if begin is not None:
                outside |= known & (time < begin)
            if end is not None:
                outside |= known & (time > end)
            self.n_outside += int(outside.sum())
            batch = batch[~outside]
            self.n_inside += len(batch)
            if len(batch):
                self.cells.take(batch)
                yield batch

    def _limits(self, batch: EventBatch) -> tuple[int | I64 | None, int | I64 | None]:
        """The window of each event; hosts that the inventory lacks are refused once all is read."""
        if self.inventory is None:
            return self.begin, self.end
        for number in range(len(self._place), len(batch.hosts)):
            self._place.append(self.inventory.number.get(batch.hosts[number], 0))
        place = np.array(self._place, np.int64)[batch.host]
        return np.asarray(self.begin)[place], np.asarray(self.end)[place]


def _nothing_inside(window: _Window, report: ReadReport) -> list[str]:
    if window.n_inside:
        return []
    told = f"all {window.n_outside:,} events are outside the window" if window.n_outside else "there is no event"
    return [
        f"logs: {told}; no errors are an answer where both --since and --until say how long was watched",
        *([] if window.n_outside else report.without_events()),
        *report.warnings(),
    ]


def _nothing(begin: int, end: int) -> Gathered:
    """A log without an event in its window, which is an answer where the window is given."""
    empty = np.zeros(0, np.int64)
    return Gathered(
        EventBatch.empty(), Corrected(empty, empty, empty, empty), np.zeros((len(Kind), 0), np.int64), begin, end, empty
    )


def notices_of(observed: Observed) -> list[str]:
    """What one should know of what was watched, a sentence each.

    Examples:
        >>> sorted(DERIVED)
        ['hosts', 'memory', 'since', 'until']
    """
    exposure, errors = observed.exposure, observed.errors
    told = [DERIVED[name].format(memory=format_bytes(exposure.mean_memory_bytes)) for name in exposure.derived]
    n_untimed = int((errors.begin != errors.end).sum())
    if n_untimed:
        told.append(f"{counted(n_untimed, 'UE')} without a time: taken to be in the window; when they came is not used")
    if again := int(errors.n_again.sum()):
        told.append(f"{counted(again, 'record')} of pages that were poisoned already: not counted again")
    if observed.n_outside:
        told.append(f"{counted(observed.n_outside, 'event')} outside the window: left out")
    memory = exposure.of("memory_bytes", errors.host)
    beyond = int((errors.low + errors.span > memory + 4 * GIB).sum())
    if beyond and "memory" not in exposure.derived:
        told.append(
            f"{counted(beyond, 'UE has', 'UEs have')} an address more than 4 GiB beyond the memory given: is that the "
            "memory of a host?"
        )
    return told
