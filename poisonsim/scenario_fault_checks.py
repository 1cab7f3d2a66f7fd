"""What can be wrong with a scenario's faults: names and files that do not load, and models that do not fit together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from poisonsim.errors import ScenarioError, did_you_mean
from poisonsim.scenario_problem import MAX_ERRORS, Problem, loads, one_line, shown
from poisonsim.units import HOURS_PER_YEAR, TIB, format_bytes, page_bytes


def _named(kind: str, key: str, loader: str) -> Callable[[str], Iterator[Problem]]:
    """A check that a catalogue entry or file can be read with `loader`, a function of `poisonsim.faults`."""

    def check(name: str) -> Iterator[Problem]:
        if problem := loads(kind, name, _loader(loader)):
            yield Problem(key, problem)

    return check


def _loader(dotted: str) -> Callable[[str], Any]:
    from importlib import import_module

    module, _, function = dotted.rpartition(".")
    load: Callable[[str], Any] = getattr(import_module(f"poisonsim.faults.{module}"), function)
    return load


def _map(name: str, dimm: str) -> Iterator[Problem]:
    from poisonsim.faults.address_map import load_address_map
    from poisonsim.faults.geometry import load_dimm

    try:
        load_address_map(name, load_dimm(dimm))
    except ScenarioError as error:
        yield Problem("faults.map", one_line(error))


def _outcomes(name: str, ue: str) -> Iterator[Problem]:
    if ue == "empirical" and not _loader("tables.load_fault_table")(name).has_outcomes:
        yield Problem(
            "faults.ue", f"'empirical' needs to know which faults led to errors, and {name} does not say; write \"ecc\""
        )


def _vendor(name: str, vendor: str) -> Iterator[Problem]:
    vendors: Mapping[str, Any] = _loader("tables.load_fault_table")(name).vendors
    allowed = ("fleet", *(["mixed"] if vendors else []), *vendors)
    if vendor not in allowed:
        hint = did_you_mean(vendor, allowed)
        yield Problem("faults.vendor", f"{shown(vendor)} is not one of {', '.join(allowed)}, those of {name}{hint}")


def _chipkill(ue: str, ecc: str, dimm: str) -> Iterator[Problem]:
    width = _loader("geometry.load_dimm")(dimm).device_width_bits
    if ue == "ecc" and ecc == "chipkill" and width > 4:
        yield Problem("faults.ecc", f"chipkill corrects x4 chips, and those of {dimm} are x{width}; write sec-ded")


def _frailty(ue: str, dispersion: float) -> Iterator[Problem]:
    if ue == "ecc" and dispersion > 0:
        yield Problem(
            "faults.dispersion",
            f'{dispersion:g} goes with ue = "empirical" only; with ue = "ecc" let hosts differ by vendor or bad_batch',
        )


def _distinct(memory: int, backing: str, errors: int, placement: str) -> Iterator[Problem]:
    n_regions = memory // page_bytes(backing)
    if placement == "distinct-regions" and errors > n_regions:
        yield Problem("faults.errors", f"{errors:,} errors do not fit in distinct regions; the VM has {n_regions:,}")


def _expected(memory: int, ue_per_tib_year: float, years: float) -> Iterator[Problem]:
    expected = ue_per_tib_year * memory / TIB * years
    if expected > MAX_ERRORS:
        yield Problem(
            "faults.ue_per_tib_year",
            f"{ue_per_tib_year:g} means {expected:.3g} errors in {format_bytes(memory)} over {years:g} years; "
            f"at most {MAX_ERRORS:,} are simulated",
        )


_MAX_FAULTS = 1_000_000
"""Faults of one VM's host above which a scenario is refused: each may spoil a thousand lines."""


def _expected_faults(
    memory: int, table: str, dimm: str, bad_batch: float, scale: float, years: float
) -> Iterator[Problem]:
    faults = _loader("tables.load_fault_table")(table)
    n_dimms = memory / _loader("geometry.load_dimm")(dimm).bytes
    fit = sum(mode.fit_per_chip for mode in faults.modes) * (faults.n_chips_per_dimm or 18)
    expected = scale * fit * HOURS_PER_YEAR * 1e-9 * n_dimms * years * (1 + 100 * bad_batch)
    if expected > _MAX_FAULTS:
        yield Problem(
            "faults.scale",
            f"{scale:g} means {expected:.3g} DRAM faults in {format_bytes(memory)} over {years:g} years; "
            f"at most {_MAX_FAULTS:,} are simulated",
        )


FAULT_CHECKS: list[tuple[tuple[str, ...], Callable[..., Iterator[Problem]]]] = [
    (("faults.table",), _named("faults", "faults.table", "tables.load_fault_table")),
    (("faults.laws",), _named("laws", "faults.laws", "laws.load_laws")),
    (("faults.dimm",), _named("dimms", "faults.dimm", "geometry.load_dimm")),
    (("faults.map", "faults.dimm"), _map),
    (("faults.table", "faults.ue"), _outcomes),
    (("faults.table", "faults.vendor"), _vendor),
    (("faults.ue", "faults.ecc", "faults.dimm"), _chipkill),
    (("faults.ue", "faults.dispersion"), _frailty),
    (("vm.memory", "vm.backing", "faults.errors", "faults.placement"), _distinct),
    (("vm.memory", "faults.ue_per_tib_year", "horizon.years"), _expected),
    (
        ("vm.memory", "faults.table", "faults.dimm", "faults.bad_batch", "faults.scale", "horizon.years"),
        _expected_faults,
    ),
]
