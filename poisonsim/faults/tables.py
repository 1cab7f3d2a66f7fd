"""Fault tables: how often each DRAM fault mode strikes a fleet, and how often an uncorrected error follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeGuard

from poisonsim import catalog
from poisonsim.errors import ScenarioError, did_you_mean
from poisonsim.units import HOURS_PER_YEAR, MONTHS_PER_YEAR, TIB

MODES = ("bit", "row", "column", "bank", "multi-bank", "multi-rank")
"""Fault modes by the part of the DIMM they reach, smallest first; `bank` is more than a row or column of one bank."""

_POPULATION_KEYS = ("n_dimms", "n_chips_per_dimm", "hours")
_TICKET_KEYS = ("n_ue_tickets", "n_servers", "n_server_months")
_COUNT_KEYS = ("n_permanent", "n_transient", "n_ue_permanent", "n_ue_transient")
_PROVENANCE_KEYS = ("source", "quality", "unit", "title", "notes", "categories")


@dataclass(frozen=True, kw_only=True)
class FaultMode:
    """Faults of one mode in a fleet.

    Args:
        name: One of `MODES`.
        n_permanent: Faults that stayed.
        n_transient: Faults that went away.
        n_ue_permanent: Those of `n_permanent` on servers that failed by an uncorrected error.
        n_ue_transient: Those of `n_transient` on such servers.
        chip_hours: Chip-hours in which they were seen.

    Examples:
        >>> row = load_fault_table("ddr4-alibaba").mode("row")
        >>> row.n_faults, row.n_ue, round(row.p_ue, 3), round(row.fit_per_chip_permanent, 2)
        (2735, 82, 0.03, 7.63)
    """

    name: str
    n_permanent: int
    n_transient: int
    n_ue_permanent: int
    n_ue_transient: int
    chip_hours: float

    @property
    def n_faults(self) -> int:
        """Faults, permanent and transient."""
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
    def fit_per_chip_permanent(self) -> float:
        """Permanent faults per 10⁹ chip-hours."""
        return self.n_permanent / self.chip_hours * 1e9

    @property
    def fit_per_chip_transient(self) -> float:
        """Transient faults per 10⁹ chip-hours."""
        return self.n_transient / self.chip_hours * 1e9

    @property
    def fit_per_chip(self) -> float:
        """Faults per 10⁹ chip-hours."""
        return self.n_faults / self.chip_hours * 1e9


@dataclass(frozen=True, kw_only=True)
class FaultTable:
    """Faults of a fleet by mode, calibrated to the fleet's failure tickets.

    The faults say how uncorrected errors share out over the modes; the tickets say how many there are in all.

    Args:
        name: Name in the catalogue, or the stem of the file it came from.
        title: What it describes.
        modes: The modes present, in the order of `MODES`.
        n_dimms: DIMMs observed.
        n_chips_per_dimm: DRAM chips per DIMM.
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
    n_dimms: int
    n_chips_per_dimm: int
    hours: float
    n_ue_tickets: int
    n_servers: int
    n_server_months: int

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
        scale = self.calibration / self.dimm_years * TIB / dimm_bytes
        return {mode.name: mode.n_ue * scale for mode in self.modes}

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


class _Reader:
    """Picks counts out of a table, keeping every problem met."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.problems: list[str] = []

    def problem(self, key: str, what: str) -> None:
        self.problems.append(f"{self.where}: {key}: {what}")

    def is_table(self, table: object, key: str) -> TypeGuard[Mapping[str, Any]]:
        if not isinstance(table, Mapping):
            what = "missing" if table is None else f"{table!r} is not a table"
            self.problem(key, f"{what}; write [{key}]")
        return isinstance(table, Mapping)

    def known(self, key: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
        for name in table:
            if name not in known and name not in _PROVENANCE_KEYS:
                self.problem(f"{key}.{name}".removeprefix("."), f"unknown key{did_you_mean(name, known)}")

    def counts(self, key: str, table: object, names: tuple[str, ...], least: int) -> dict[str, int]:
        """Whole numbers of at least `least`, plain or as `{value, source, quality}`; bad ones become 1."""
        if not self.is_table(table, key):
            return dict.fromkeys(names, 1)
        self.known(key, table, names)
        return {name: self.count(f"{key}.{name}", table, table.get(name), least) for name in names}

    def count(self, key: str, table: Mapping[str, Any], value: object, least: int) -> int:
        if isinstance(value, Mapping):
            table, value = value, value.get("value")
        if value is None:
            self.problem(key, f"missing; write a whole number, {least} or more")
        elif not isinstance(value, int) or isinstance(value, bool) or not least <= value <= 10**15:
            self.problem(key, f"{value!r} is not a whole number, {least} or more")
        else:
            quality = table.get("quality")
            if not isinstance(table.get("source"), str) or quality not in catalog.QUALITIES:
                self.problem(key, f"needs a source and a quality, one of {', '.join(catalog.QUALITIES)}")
            return value
        return 1


def _parse(tables: Mapping[str, Any], *, name: str, where: str) -> FaultTable:
    reader = _Reader(where)
    reader.known("", tables, ("population", "tickets", "modes"))
    population, tickets = (
        reader.counts(key, tables.get(key), names, 1)
        for key, names in (("population", _POPULATION_KEYS), ("tickets", _TICKET_KEYS))
    )
    chip_hours = float(population["n_dimms"] * population["n_chips_per_dimm"] * population["hours"])

    found = tables.get("modes")
    if not reader.is_table(found, "modes"):
        found = {}
    for key in found:
        if key not in MODES:
            reader.problem(f"modes.{key}", f"unknown mode; known: {', '.join(MODES)}{did_you_mean(key, MODES)}")
    modes = []
    for key in (mode for mode in MODES if mode in found):
        n_before = len(reader.problems)
        counts = reader.counts(f"modes.{key}", found[key], _COUNT_KEYS, 0)
        for kind in ("permanent", "transient"):
            n, n_ue = counts[f"n_{kind}"], counts[f"n_ue_{kind}"]
            if n_ue > n and len(reader.problems) == n_before:
                reader.problem(f"modes.{key}.n_ue_{kind}", f"{n_ue} is more than the {n} faults of n_{kind}")
        modes.append(FaultMode(name=key, **counts, chip_hours=chip_hours))
    if not reader.problems and not any(mode.n_ue for mode in modes):
        reader.problem("modes", "no fault led to an uncorrected error, so there is nothing to simulate")
    if reader.problems:
        raise ScenarioError(reader.problems)
    return FaultTable(name=name, title=str(tables.get("title", "")), modes=tuple(modes), **population, **tickets)
