"""Fault tables: how often each DRAM fault mode strikes a fleet, and how often an uncorrected error follows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from poisonsim import catalog
from poisonsim.catalog.problems import FileProblems
from poisonsim.errors import ScenarioError, did_you_mean
from poisonsim.units import HOURS_PER_YEAR, MONTHS_PER_YEAR, TIB

MODES = ("bit", "word", "row", "column", "bank", "multi-bank", "multi-rank")
"""Fault modes by the part of the DIMM they reach, smallest first; `bank` is more than a row or column of one bank."""

MAX_FIT = 1e6
"""FIT per chip and mode above which a table is refused: a chip that fails every six weeks is no fault model."""

_POPULATION_KEYS = ("n_dimms", "n_chips_per_dimm", "hours")
_TICKET_KEYS = ("n_ue_tickets", "n_servers", "n_server_months")
_COUNT_KEYS = ("n_permanent", "n_transient", "n_ue_permanent", "n_ue_transient")
_FIT_KEYS = ("fit_permanent", "fit_transient")
_FIT = "FIT per chip"
_UNITS = {
    "hours": "hours", "n_dimms": "DIMMs", "n_chips_per_dimm": "chips", "n_ue_tickets": "tickets",
    "n_servers": "servers", "n_server_months": "server-months",
} | dict.fromkeys(_COUNT_KEYS, "faults")  # fmt: skip
"""What counts are read in."""


@dataclass(frozen=True, kw_only=True)
class FaultMode:
    """Faults of one mode.

    Args:
        name: One of `MODES`.
        fit_per_chip_permanent: Faults that stay, per 10⁹ chip-hours.
        fit_per_chip_transient: Faults that go away, per 10⁹ chip-hours.
        n_permanent: Faults seen that stayed; 0 where the table gives rates only.
        n_transient: Faults seen that went away.
        n_ue_permanent: Those of `n_permanent` on servers that failed by an uncorrected error.
        n_ue_transient: Those of `n_transient` on such servers.

    Examples:
        >>> row = load_fault_table("ddr4-alibaba").mode("row")
        >>> row.n_faults, row.n_ue, round(row.p_ue, 3), round(row.fit_per_chip_permanent, 2)
        (2735, 82, 0.03, 7.63)
    """

    name: str
    fit_per_chip_permanent: float
    fit_per_chip_transient: float
    n_permanent: int = 0
    n_transient: int = 0
    n_ue_permanent: int = 0
    n_ue_transient: int = 0

    @property
    def n_faults(self) -> int:
        """Faults seen, permanent and transient."""
        return self.n_permanent + self.n_transient

    @property
    def n_ue(self) -> int:
        """Faults on servers that failed by an uncorrected error."""
        return self.n_ue_permanent + self.n_ue_transient

    @property
    def p_ue(self) -> float:
        """Share of the faults that are on servers which failed by an uncorrected error."""
        return self.n_ue / self.n_faults if self.n_faults else 0.0

    @property
    def fit_per_chip(self) -> float:
        """Faults per 10⁹ chip-hours."""
        return self.fit_per_chip_permanent + self.fit_per_chip_transient


@dataclass(frozen=True, kw_only=True)
class FaultTable:
    """Faults by mode: rates alone, or those of a fleet, calibrated to the fleet's failure tickets.

    The faults say how uncorrected errors share out over the modes; the tickets say how many there are in all.

    Args:
        name: Name in the catalogue, or the stem of the file it came from.
        title: What it describes.
        modes: The modes present, in the order of `MODES`.
        vendors: Rates of single vendors: FIT per chip by mode, for the modes in which vendors differ.
        n_dimms: DIMMs observed; 0, as all that follow, where the table gives rates only.
        n_chips_per_dimm: DRAM chips that the rates count per DIMM.
        hours: Hours each DIMM was observed.
        n_ue_tickets: Server failures that an uncorrected error drove.
        n_servers: Servers that hold the DIMMs.
        n_server_months: Server-months in which the tickets arose.

    Examples:
        >>> table = load_fault_table("ddr4-alibaba")
        >>> round(table.calibration, 3), round(table.ue_per_tib_year(32 << 30), 5)
        (1.057, 0.01153)
    """

    name: str
    title: str
    modes: tuple[FaultMode, ...]
    vendors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    n_dimms: int = 0
    n_chips_per_dimm: int = 0
    hours: float = 0.0
    n_ue_tickets: int = 0
    n_servers: int = 0
    n_server_months: int = 0

    @property
    def has_outcomes(self) -> bool:
        """Whether the table knows which faults led to uncorrected errors, as `ue = "empirical"` needs."""
        return self.n_dimms > 0

    @property
    def dimm_years(self) -> float:
        """DIMM-years observed."""
        return self.n_dimms * self.hours / HOURS_PER_YEAR

    @property
    def ue_per_dimm_year(self) -> float:
        """UE-associated faults per DIMM-year, before calibration."""
        return sum(mode.n_ue for mode in self.modes) / self.dimm_years

    @property
    def ticket_ue_per_dimm_year(self) -> float:
        """Server failures by an uncorrected error per DIMM-year."""
        per_server_year = self.n_ue_tickets / self.n_server_months * MONTHS_PER_YEAR
        return per_server_year * self.n_servers / self.n_dimms

    @property
    def calibration(self) -> float:
        """What the fault counts must be multiplied by to give as many uncorrected errors as the tickets do."""
        return self.ticket_ue_per_dimm_year / self.ue_per_dimm_year

    def mode(self, name: str) -> FaultMode:
        """The mode of that name.

        Raises:
            ScenarioError: The table has no such mode.

        Examples:
            >>> load_fault_table("ddr4-alibaba").mode("multi-rank").n_faults
            494
        """
        for mode in self.modes:
            if mode.name == name:
                return mode
        known = [mode.name for mode in self.modes]
        hint = did_you_mean(name, known)
        raise ScenarioError(f"{name!r} is not a mode of {self.name}; known: {', '.join(known)}{hint}")

    def ue_per_tib_year_by_mode(self, dimm_bytes: int) -> dict[str, float]:
        """Calibrated uncorrected errors per TiB-year of memory, by mode.

        Args:
            dimm_bytes: Size of the DIMMs that make up the memory; fewer, larger DIMMs mean fewer errors.

        Examples:
            >>> by_mode = load_fault_table("ddr4-alibaba").ue_per_tib_year_by_mode(32 << 30)
            >>> {mode: round(rate, 4) for mode, rate in by_mode.items()}
            {'bit': 0.0014, 'row': 0.0014, 'column': 0.0036, 'bank': 0.0034, 'multi-bank': 0.0011, 'multi-rank': 0.0006}
        """
        return {mode: rate * TIB / dimm_bytes for mode, rate in self.ue_per_dimm_year_by_mode().items()}

    def ue_per_dimm_year_by_mode(self, *, vendor: str = "") -> dict[str, float]:
        """Calibrated faults that lead to an uncorrected error, per DIMM-year, by mode.

        Args:
            vendor: One of `vendors`, whose DIMMs have their own share of each mode; empty for the whole fleet.

        Examples:
            >>> by_mode = load_fault_table("ddr4-alibaba").ue_per_dimm_year_by_mode(vendor="a")
            >>> {mode: round(rate * 1e5, 2) for mode, rate in by_mode.items()}
            {'bit': 8.35, 'row': 8.5, 'column': 2.47, 'bank': 5.12, 'multi-bank': 3.59, 'multi-rank': 1.9}
        """
        scale = self.calibration / self.dimm_years
        own = self.vendors[vendor] if vendor else {}
        return {
            mode.name: mode.n_ue * scale * (own[mode.name] / mode.fit_per_chip if mode.name in own else 1.0)
            for mode in self.modes
        }

    def fit_by_mode(self, *, vendor: str = "") -> dict[str, tuple[float, float]]:
        """Transient and permanent FIT per chip by mode.

        Args:
            vendor: As for `ue_per_dimm_year_by_mode`; its rates keep the fleet's share of permanent faults.

        Examples:
            >>> load_fault_table("jaguar-ddr2").fit_by_mode()["row"]
            (0.2, 8.2)
        """
        own = self.vendors[vendor] if vendor else {}
        factor = {mode.name: own[mode.name] / mode.fit_per_chip for mode in self.modes if mode.name in own}
        return {
            mode.name: (
                mode.fit_per_chip_transient * factor.get(mode.name, 1.0),
                mode.fit_per_chip_permanent * factor.get(mode.name, 1.0),
            )
            for mode in self.modes
        }

    def ue_per_tib_year(self, dimm_bytes: int) -> float:
        """Calibrated uncorrected errors per TiB-year of memory made of DIMMs of `dimm_bytes`.

        Examples:
            >>> round(load_fault_table("ddr4-alibaba").ue_per_tib_year(64 << 30), 5)
            0.00577
        """
        return self.ticket_ue_per_dimm_year * TIB / dimm_bytes


def load_fault_table(name_or_path: str | Path) -> FaultTable:
    """The fault table of that name in the catalogue, or the one a TOML file holds.

    Args:
        name_or_path: A name from `catalog.names("faults")`, or a path that ends in `.toml`.

    Raises:
        ScenarioError: No such table or file, or a file with problems (all of them are listed).

    Examples:
        >>> load_fault_table("ddr9")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        poisonsim.errors.ScenarioError: 'ddr9' is not a fault table of the catalogue; known: ...
    """
    text = str(name_or_path)
    if text.endswith(".toml"):
        return _parse(catalog.read_toml(Path(text), where=text), name=Path(text).stem, where=text)
    return _load_shipped(text)


@cache
def _load_shipped(name: str) -> FaultTable:
    if problem := catalog.unknown_name("faults", name):
        raise ScenarioError(f"{problem}; a file works too: ./{name}.toml")
    return _parse(catalog.load("faults", name), name=name, where=f"{name}.toml")


def _parse(tables: Mapping[str, Any], *, name: str, where: str) -> FaultTable:
    problems = FileProblems(where)
    problems.known("", tables, ("population", "tickets", "modes", "vendors"))
    found = problems.table("modes", tables.get("modes"))
    for key in found:
        if key not in MODES:
            problems.add(f"modes.{key}", f"unknown mode; known: {', '.join(MODES)}{did_you_mean(key, MODES)}")
    given = {key: found[key] for key in MODES if key in found}
    fleet: dict[str, int] = {}
    if not {"population", "tickets"} & tables.keys() and any(
        isinstance(mode, Mapping) and set(_FIT_KEYS) & mode.keys() for mode in given.values()
    ):
        modes = [_mode_of_rates(problems, key, mode) for key, mode in given.items()]
    else:
        for key, names in (("population", _POPULATION_KEYS), ("tickets", _TICKET_KEYS)):
            fleet |= _counts(problems, key, tables.get(key), names, least=1)
        chip_hours = float(fleet["n_dimms"] * fleet["n_chips_per_dimm"] * fleet["hours"])
        modes = [_mode_of_counts(problems, key, mode, chip_hours) for key, mode in given.items()]
        if not problems.list and not any(mode.n_ue for mode in modes):
            problems.add("modes", "no fault led to an uncorrected error, so there is nothing to simulate")
    if not problems.list and not any(mode.fit_per_chip for mode in modes):
        problems.add("modes", "no fault at all, so there is nothing to simulate")
    vendors = _vendors(problems, tables.get("vendors", {}), modes)
    problems.raise_any()
    table = FaultTable(name=name, title=str(tables.get("title", "")), modes=tuple(modes), vendors=vendors, **fleet)
    if table.has_outcomes:
        _check_tickets(problems, table)
        problems.raise_any()
    return table


def _check_tickets(problems: FileProblems, table: FaultTable) -> None:
    """Keep what tickets and faults contradict each other in."""
    if table.n_ue_tickets > table.n_server_months:
        problems.add(
            "tickets.n_ue_tickets",
            f"{table.n_ue_tickets} in {table.n_server_months} server-months are more than one a month and server; "
            "n_server_months is servers times months",
        )
    if table.n_servers > table.n_dimms:
        problems.add(
            "tickets.n_servers",
            f"{table.n_servers} servers cannot hold the {table.n_dimms} DIMMs of population.n_dimms, one each at least",
        )
    if problems.list:
        return
    for mode in table.modes:
        if (p_ue := mode.p_ue * table.calibration) > 1:
            problems.add(
                "tickets.n_ue_tickets",
                f"{table.n_ue_tickets} mean {table.calibration:.3g} times the errors that the faults led to, and so "
                f"{p_ue:.3g} for each {mode.name} fault; at most 1 can be: are population and tickets of one fleet?",
            )


def _counts(problems: FileProblems, key: str, node: object, names: tuple[str, ...], *, least: int) -> dict[str, int]:
    """Whole numbers of at least `least`, plain or as `{value, source, quality}`; bad ones become `least`."""
    table = problems.table(key, node)
    if not isinstance(node, Mapping):
        return dict.fromkeys(names, least)
    problems.known(key, table, names)
    units = list(dict.fromkeys(_UNITS[name] for name in names))
    if len(units) == 1:
        problems.in_unit(key, table, *units)
    elif "unit" in table:
        problems.add(f"{key}.unit", f"its numbers are in {', '.join(units)}; say the unit of each, or leave unit out")
    found = {}
    for name in names:
        value = table.get(name)
        owner = value if isinstance(value, Mapping) else table
        if isinstance(value, Mapping):
            value = value.get("value")
        n_before = len(problems.list)
        found[name] = problems.whole(f"{key}.{name}", value, least=least)
        if owner is not table:
            problems.in_unit(f"{key}.{name}", owner, _UNITS[name])
        if len(problems.list) == n_before:
            problems.sourced(f"{key}.{name}", owner)
    return found


def _mode_of_counts(problems: FileProblems, key: str, table: object, chip_hours: float) -> FaultMode:
    n_before = len(problems.list)
    counts = _counts(problems, f"modes.{key}", table, _COUNT_KEYS, least=0)
    fit = {}
    for kind in ("permanent", "transient"):
        n, n_ue = counts[f"n_{kind}"], counts[f"n_ue_{kind}"]
        fit[kind] = n / chip_hours * 1e9
        if len(problems.list) > n_before:
            continue
        if n_ue > n:
            problems.add(
                f"modes.{key}.n_ue_{kind}",
                f"{n_ue} is more than the {n} faults of n_{kind}, a share above 1; count each fault once",
            )
        if fit[kind] > MAX_FIT:
            problems.add(
                f"modes.{key}.n_{kind}", f"{n} are {fit[kind]:.3g} FIT per chip; at most {MAX_FIT:g} FIT make sense"
            )
    return FaultMode(
        name=key, fit_per_chip_permanent=fit["permanent"], fit_per_chip_transient=fit["transient"], **counts
    )


def _mode_of_rates(problems: FileProblems, key: str, node: object) -> FaultMode:
    table = problems.table(f"modes.{key}", node)
    problems.known(f"modes.{key}", table, _FIT_KEYS)
    permanent, transient = _rates(problems, f"modes.{key}", table, _FIT_KEYS)
    return FaultMode(name=key, fit_per_chip_permanent=permanent, fit_per_chip_transient=transient)


def _rates(problems: FileProblems, key: str, table: Mapping[str, Any], names: Iterable[str]) -> list[float]:
    for where, owner in ((key, table), *((f"{key}.{name}", table.get(name)) for name in names)):
        if isinstance(owner, Mapping):
            problems.in_unit(where, owner, _FIT)
    return [problems.number(f"{key}.{name}", table, name, least=0, most=MAX_FIT, what=_FIT) for name in names]


def _vendors(problems: FileProblems, node: object, modes: Sequence[FaultMode]) -> dict[str, dict[str, float]]:
    """FIT per chip of single vendors, by vendor and mode."""
    found: dict[str, dict[str, float]] = {}
    known = tuple(mode.name for mode in modes if mode.fit_per_chip)
    for vendor, entry in problems.table("vendors", node).items():
        if vendor in ("fleet", "mixed"):
            problems.add(f"vendors.{vendor}", f"scenarios mean something else by {vendor!r}; name the vendor otherwise")
            continue
        table = problems.table(f"vendors.{vendor}", entry)
        problems.known(f"vendors.{vendor}", table, known)
        names = [mode for mode in known if mode in table]
        found[vendor] = dict(zip(names, _rates(problems, f"vendors.{vendor}", table, names), strict=True))
    return found
