"""What can be wrong with a scenario's faults: names and files that do not load, and models that do not fit together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from poisonsim.errors import ScenarioError, did_you_mean
from poisonsim.scenario_problem import MAX_ERRORS, Problem, lines, loads, shown
from poisonsim.units import HOURS_PER_YEAR, TIB, format_bytes, format_years, page_bytes


def _named(kind: str, key: str, loader: str) -> Callable[[str], Iterator[Problem]]:
    """A check that a catalogue entry or file can be read with `loader`, a function of `poisonsim.faults`."""

    def check(name: str) -> Iterator[Problem]:
        for problem in loads(kind, name, _loader(loader)):
            yield Problem(key, problem)

    return check


def _loader(dotted: str) -> Callable[[str], Any]:
    from importlib import import_module

    module, _, function = dotted.rpartition(".")
    load: Callable[[str], Any] = getattr(import_module(f"poisonsim.faults.{module}"), function)
    return load


def _table(name: str) -> Any:
    return _loader("tables.load_fault_table")(name)


def _laws(name: str) -> Any:
    return _loader("laws.load_laws")(name)


def _dimm(name: str) -> Any:
    return _loader("geometry.load_dimm")(name)


def _map(name: str, dimm: str) -> Iterator[Problem]:
    from poisonsim.faults.address_map import load_address_map

    try:
        load_address_map(name, _dimm(dimm))
    except ScenarioError as error:
        for line in lines(error):
            yield Problem("faults.map", line)


def _shapes(laws: str, dimm: str) -> Iterator[Problem]:
    from poisonsim.faults.boxes import dimm_problems, shape_problems

    found = _dimm(dimm)
    if problems := dimm_problems(found):
        for problem in problems:
            yield Problem("faults.dimm", f"{dimm}: {problem}")
        return
    shapes = {mode: tuple(form.shape for form in forms) for mode, forms in _laws(laws).shapes.items()}
    for problem in dict.fromkeys(shape_problems(shapes, shapes, found)):
        yield Problem("faults.laws", f"{laws}: {problem}, {dimm}; write 0 for all of them" if "divide" in problem
                      else f"{laws}: {problem}")  # fmt: skip


_MOST_LINES = 10_000_000
"""Lines that one strike may make bad."""
_MOST_STRIKES = 10_000
"""Strikes of one part over its time in service."""


def _many_lines(name: str) -> Iterator[Problem]:
    for mode, law in _laws(name).lines.items():
        for key in ("small_mean", "large_high"):
            if (value := getattr(law, key)) > _MOST_LINES:
                yield Problem(
                    "faults.laws",
                    f"{name}: lines.{mode}.{key}: {value:g} bad lines a strike; at most {_MOST_LINES:,} are simulated",
                )


def _strikes(name: str, service: str, repair: float, years: float) -> Iterator[Problem]:
    laws = _laws(name)
    serves = years if service == "left-in" else min(repair, years)
    expected = serves / _mean_below(laws.repeat_shape, laws.repeat_scale_years, serves)
    if expected > _MOST_STRIKES:
        yield Problem(
            "faults.laws",
            f"{name}: repeat.scale_days: a part strikes some {expected:,.0f} times in the {format_years(serves)} that "
            f"it serves on; at most {_MOST_STRIKES:,} times are simulated; write a longer scale",
        )


def _mean_below(shape: float, scale: float, limit: float) -> float:
    """Mean of a Weibull time or `limit`, whichever is less; `limit` over it is within a factor of 2 of the strikes."""
    from scipy.special import gammainc

    mean = scale * math.gamma(1 + 1 / shape) * float(gammainc(1 / shape, (limit / scale) ** shape))
    return max(mean, 1e-300)


def _outcomes(name: str, ue: str) -> Iterator[Problem]:
    if ue == "empirical" and not _table(name).has_outcomes:
        yield Problem(
            "faults.ue", f"'empirical' needs to know which faults led to errors, and {name} does not say; write \"ecc\""
        )


def _vendor(name: str, vendor: str) -> Iterator[Problem]:
    vendors: Mapping[str, Any] = _table(name).vendors
    allowed = ("fleet", *(["mixed"] if vendors else []), *vendors)
    if vendor not in allowed:
        hint = did_you_mean(vendor, allowed)
        yield Problem("faults.vendor", f"{shown(vendor)} is not one of {', '.join(allowed)}, those of {name}{hint}")


def _chipkill(ue: str, ecc: str, dimm: str) -> Iterator[Problem]:
    width = _dimm(dimm).device_width_bits
    if ue == "ecc" and ecc == "chipkill" and width > 4:
        yield Problem("faults.ecc", f"chipkill corrects x4 chips, and those of {dimm} are x{width}; write sec-ded")


def _frailty(ue: str, dispersion: float) -> Iterator[Problem]:
    if ue == "ecc" and dispersion > 0:
        yield Problem(
            "faults.dispersion",
            f'{dispersion:g} goes with ue = "empirical" only; with ue = "ecc" let hosts differ by vendor or bad_batch',
        )


def _counted(ce_threshold: str, laws: str) -> Iterator[Problem]:
    allowed = ("off", *_laws(laws).thresholds)
    if ce_threshold not in allowed:
        hint = did_you_mean(ce_threshold, allowed)
        yield Problem(
            "host.ce_threshold", f"{shown(ce_threshold)} is not one of {', '.join(allowed)}, those of {laws}{hint}"
        )


def _nothing_to_count(ce_threshold: str, model: str) -> Iterator[Problem]:
    if ce_threshold != "off" and model != "field":
        yield Problem(
            "host.ce_threshold",
            f'{shown(ce_threshold)} goes with faults.model = "field" only, not "{model}"; write "off"',
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


_LEAST_RATE = 1e-100
"""Rate, in any unit, below which chances are no longer numbers."""


def _no_faults(name: str, vendor: str, dimm: str, ue: str, scale: float) -> Iterator[Problem]:
    table, hidden = _table(name), ("bit",) if _dimm(dimm).on_die_ecc else ()
    vendors = list(table.vendors) if vendor == "mixed" else ["" if vendor == "fleet" else vendor]
    of_whom = "" if vendor == "fleet" else f" of vendor {shown(vendor)}"
    if ue == "empirical":
        rates = {
            who: math.fsum(
                rate for mode, rate in table.ue_per_dimm_year_by_mode(vendor=who).items() if mode not in hidden
            )
            for who in ("", *vendors)  # lines are counted by the mix of the fleet, whoever made the DIMMs
        }
        what = " that the host could see" + (f"; the chips of {dimm} correct bit faults themselves" if hidden else "")
    else:
        rates = {who: math.fsum(map(sum, table.fit_by_mode(vendor=who).values())) for who in vendors}
        what = ""
    empty = [who for who in vendors if not rates[who]]
    if not all(rates.values()) and (len(empty) == len(vendors) or not rates.get("", 1)):
        yield Problem("faults.table", f"{name}: leaves no fault{of_whom}{what}; name another table, vendor or DIMM")
    elif empty:
        yield Problem(
            "faults.vendor", f"'mixed' has vendors without any fault ({', '.join(empty)}); name one of the others"
        )
    elif scale * min(rates.values()) < _LEAST_RATE:
        yield Problem(
            "faults.scale",
            f'{scale:g} leaves no fault to simulate; write 1e-50 or more, or faults.model = "count" with errors = 0',
        )


def _no_check_bits(ue: str, ecc: str, dimm: str) -> Iterator[Problem]:
    found = _dimm(dimm)
    if ue == "ecc" and ecc != "none" and found.n_chips_per_rank * found.device_width_bits <= found.data_bits:
        yield Problem(
            "faults.ecc",
            f"{ecc} needs chips for check bits, and the {found.n_chips_per_rank} of {dimm} hold data only; "
            "write none, or name a DIMM with more chips",
        )


def _expected_faults(
    memory: int, table: str, laws: str, dimm: str, amap: str, vendor: str, bad_batch: float, scale: float, years: float
) -> Iterator[Problem]:
    from poisonsim.faults.address_map import load_address_map
    from poisonsim.faults.host import HostMemory

    faults, of_dimm = _table(table), _dimm(dimm)
    n_dimms = HostMemory(load_address_map(amap, of_dimm), memory).n_dimms
    who = "" if vendor in ("fleet", "mixed") else vendor
    n_chips = faults.n_chips_per_dimm or of_dimm.n_chips
    per_year = math.fsum(map(sum, faults.fit_by_mode(vendor=who).values())) * n_chips * HOURS_PER_YEAR * 1e-9
    # No more of them lead to errors: tables in which a fault would lead to more than one are refused.
    factor = scale * (1 + (_laws(laws).bad_batch_factor - 1) * bad_batch)
    expected = factor * per_year * n_dimms * years
    if expected > _MAX_FAULTS:
        yield Problem(
            "faults.scale",
            f"{scale:g} means {expected:.3g} DRAM faults on the host of {format_bytes(memory)} over {years:g} years; "
            f"at most {_MAX_FAULTS:,} are simulated",
        )


FAULT_CHECKS: list[tuple[tuple[str, ...], Callable[..., Iterator[Problem]]]] = [
    (("faults.table",), _named("faults", "faults.table", "tables.load_fault_table")),
    (("faults.laws",), _named("laws", "faults.laws", "laws.load_laws")),
    (("faults.dimm",), _named("dimms", "faults.dimm", "geometry.load_dimm")),
    (("faults.map", "faults.dimm"), _map),
    (("faults.laws", "faults.dimm"), _shapes),
    (("faults.laws",), _many_lines),
    (("faults.laws", "faults.service", "faults.repair", "horizon.years"), _strikes),
    (("faults.table", "faults.ue"), _outcomes),
    (("faults.table", "faults.vendor"), _vendor),
    (("faults.table", "faults.vendor", "faults.dimm", "faults.ue", "faults.scale"), _no_faults),
    (("faults.ue", "faults.ecc", "faults.dimm"), _chipkill),
    (("faults.ue", "faults.ecc", "faults.dimm"), _no_check_bits),
    (("faults.ue", "faults.dispersion"), _frailty),
    (("host.ce_threshold", "faults.laws"), _counted),
    (("host.ce_threshold", "faults.model"), _nothing_to_count),
    (("vm.memory", "vm.backing", "faults.errors", "faults.placement"), _distinct),
    (("vm.memory", "faults.ue_per_tib_year", "horizon.years"), _expected),
    (
        (
            "vm.memory",
            "faults.table",
            "faults.laws",
            "faults.dimm",
            "faults.map",
            "faults.vendor",
            "faults.bad_batch",
            "faults.scale",
            "horizon.years",
        ),
        _expected_faults,
    ),
]
