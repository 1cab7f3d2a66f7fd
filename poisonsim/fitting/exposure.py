"""How much memory of how many hosts was watched for how long: as given, as listed host by host, or from the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from poisonsim.errors import LogError, ScenarioError, shown
from poisonsim.fitting.findings import F64, I64
from poisonsim.fitting.inventory import UNKNOWN, Inventory
from poisonsim.fitting.times import moment
from poisonsim.logs.gather import Gathered
from poisonsim.units import DAYS_PER_YEAR, GIB, TIB, parse_bytes

US_PER_YEAR = DAYS_PER_YEAR * 86_400e6
MOST_HOSTS = 10_000_000


@dataclass(frozen=True, eq=False)
class Exposure:
    """How much memory was watched for how long.

    What may be an array has one entry per host, int64[n_hosts]; a number is that of every host.

    Attributes:
        n_hosts: Hosts, those without any record among them.
        memory_bytes: Memory of each.
        begin, end: When each was watched, microseconds since 1970.
        installed: When each went into service, likewise, `UNKNOWN` where that is not known; `None` if of none.
        derived: Of `hosts`, `memory`, `since` and `until` those that were not given but taken from the log.

    Examples:
        >>> exposure = Exposure(10, 2 << 40, 0, int(0.5 * US_PER_YEAR))
        >>> exposure.years, exposure.tib_years, exposure.weight
        (0.5, 10.0, None)
    """

    n_hosts: int
    memory_bytes: int | I64
    begin: int | I64
    end: int | I64
    installed: int | I64 | None = None
    derived: tuple[str, ...] = ()

    def _sum(self, each: int | float | I64 | F64) -> float:
        return float(np.sum(np.broadcast_to(each, self.n_hosts)))

    @property
    def years(self) -> float:
        """Years each host was watched; the mean where they differ."""
        return self.host_years / self.n_hosts

    @property
    def host_years(self) -> float:
        """Years of all hosts together."""
        return self._sum((self.end - self.begin) / US_PER_YEAR)

    @property
    def tib_years(self) -> float:
        """TiB-years of all hosts together."""
        return self._sum((self.end - self.begin) / US_PER_YEAR * (self.memory_bytes / TIB))

    @property
    def mean_memory_bytes(self) -> int:
        """Memory of a host, the mean where they differ."""
        return round(self._sum(self.memory_bytes) / self.n_hosts)

    @property
    def weight(self) -> F64 | None:
        """How much of each host was watched, against the mean of all, float64[n_hosts]; `None` where all are alike."""
        each = np.asarray((self.end - self.begin) / US_PER_YEAR * (self.memory_bytes / TIB))
        if each.ndim == 0 or (each == each[0]).all():
            return None
        found: F64 = each / each.mean()
        return found

    @property
    def window(self) -> tuple[int, int]:
        """From when on any host was watched, and until when any was."""
        return int(np.min(self.begin)), int(np.max(self.end))

    def reordered(self, first: I64) -> Exposure:
        """The same hosts, these first: places int64[m] of arrays."""
        rest = np.ones(self.n_hosts, np.bool_)
        rest[first] = False
        order = np.append(first, np.flatnonzero(rest))

        def of(each: int | I64) -> I64:
            return self.of_all(each)[order]

        installed = None if self.installed is None else of(self.installed)
        return Exposure(self.n_hosts, of(self.memory_bytes), of(self.begin), of(self.end), installed, self.derived)

    def of_all(self, each: int | I64) -> I64:
        """A number or array for every host, int64[n_hosts]."""
        return np.broadcast_to(np.asarray(each, np.int64), self.n_hosts)

    def of(self, name: str, host: I64) -> I64:
        """An attribute for each of some hosts, int64[len(host)]."""
        return self.of_all(getattr(self, name))[host]


def checked(hosts: Any, memory: Any, since: Any, until: Any, installed: Any) -> dict[str, int | None]:
    """The arguments of a fit as numbers, once all are known to be good.

    Raises:
        ScenarioError: All that is wrong with them.
    """
    problems: list[str] = []
    found: dict[str, int | None] = {"hosts": hosts, "memory": None}
    if hosts is not None and (isinstance(hosts, bool) or not isinstance(hosts, int) or not 1 <= hosts <= MOST_HOSTS):
        problems.append(f"hosts: {shown(hosts)} is not a whole number from 1 to {MOST_HOSTS:,}")
    try:
        found["memory"] = None if memory is None else parse_bytes(memory)
    except ValueError as error:
        problems.append(f"memory: {error}")
    for name, value in (("since", since), ("until", until), ("installed", installed)):
        try:
            found[name] = moment(name, value)
        except ScenarioError as error:
            problems += error.problems
    if not problems:
        begin, end, first = found["since"], found["until"], found["installed"]
        if begin is not None and end is not None and begin >= end:
            problems.append(f"until: {until} is not after since, {since}; give a later time")
        if first is not None and begin is not None and first > begin:
            problems.append(f"installed: {installed} is after since, {since}; watch hosts from when they are there on")
    if problems:
        raise ScenarioError(problems)
    return found


def exposure_of(gathered: Gathered, given: dict[str, int | None]) -> Exposure:
    """What was watched of hosts that are all alike; what is not given is taken from the log.

    Raises:
        LogError, ScenarioError: It cannot be told, or the log contradicts it.
    """
    n_seen, derived = len(gathered.hosts), tuple(name for name in DERIVED if given[name] is None)
    n_hosts = given["hosts"] or n_seen
    if n_hosts < n_seen:
        raise ScenarioError(
            f"hosts: {n_hosts:,} is fewer than the {n_seen:,} that the log names; count every host that was watched"
        )
    if not n_hosts:
        raise ScenarioError("hosts: the log names none in this window; say how many were watched, such as --hosts 400")
    begin = gathered.first if given["since"] is None else given["since"]
    end = gathered.last if given["until"] is None else given["until"]
    if begin is None or end is None:
        raise LogError(
            "logs: no event has a time, so that nobody can say how long was watched; give --since and --until (and "
            "--boot for a log that counts from boot)"
        )
    if begin >= end:
        raise LogError(
            "logs: all events are of one moment, so that nobody can say how long was watched; give --since and --until"
        )
    largest = int(gathered.largest.max(initial=-1))
    memory = given["memory"] or (largest // GIB + 1) * GIB
    if not memory:
        raise ScenarioError("memory: no event has an address to tell it from; give the memory of a host: --memory 1TiB")
    installed = given["installed"]
    if installed is not None and installed > begin:
        raise ScenarioError("installed: is after the first event; give an earlier time, or a later --since")
    return Exposure(n_hosts, memory, begin, end, installed, derived)


DERIVED = {
    "hosts": "hosts: not given, so only those with a record count: every rate is too high, and how much hosts differ "
    "cannot be said; give --hosts",
    "memory": "memory: not given; took {memory}, up to the largest address seen, for each host, which is too little: "
    "rates per TiB are too high; give --memory",
    "since": "since: not given; the first event begins the window, so that rates are too high; give --since",
    "until": "until: not given; the last event ends the window, so that rates are too high; give --until",
}
"""What taking each from the log does to the numbers."""


def exposure_of_hosts(inventory: Inventory, given: dict[str, int | None]) -> Exposure:
    """What was watched of the hosts of an inventory, in its order; what it leaves open is as given for all.

    Raises:
        ScenarioError: Something that is open for a host, or contradicts itself.
    """
    columns = {}
    problems: list[str] = []
    names = list(inventory.number)

    def first(wrong: Any) -> str:
        return shown(names[int(np.flatnonzero(wrong)[0])])

    for name, known in inventory.columns.items():
        default = given[name]
        columns[name] = np.where(known == UNKNOWN, UNKNOWN if default is None else default, known)
        if name != "installed" and (open_ := columns[name] == UNKNOWN).any():
            problems.append(f"{inventory.path}: {name} of host {first(open_)} is not said; write it, or give --{name}")
    if not problems:
        begin, end, installed = columns["since"], columns["until"], columns["installed"]
        if (wrong := begin >= end).any():
            problems.append(f"{inventory.path}: until of host {first(wrong)} is not after its since")
        if (wrong := installed > begin).any():
            problems.append(
                f"{inventory.path}: installed of host {first(wrong)} is after its since; hosts are watched from when "
                "they are there on"
            )
    if problems:
        raise ScenarioError(problems)
    of_installed = None if (columns["installed"] == UNKNOWN).all() else columns["installed"]
    return Exposure(len(names), columns["memory"], columns["since"], columns["until"], of_installed)
