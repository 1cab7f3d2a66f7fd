"""The fault model of a fit as files that `poisonsim run` takes: a scenario, and a fault table where there is one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from poisonsim.errors import FitError, ScenarioError
from poisonsim.faults.tables import load_fault_table
from poisonsim.fitting.counts import MOST_DISPERSION, rate_interval
from poisonsim.fitting.exposure import US_PER_YEAR, Exposure
from poisonsim.fitting.findings import F64, Finding, counted
from poisonsim.fitting.inventory import UNKNOWN
from poisonsim.fitting.mode_rates import ModeRate, dimm_years_of, n_dimms_of
from poisonsim.fitting.timing import writable_shape
from poisonsim.results.statistics import Estimate
from poisonsim.scenario_problem import MAX_ERRORS
from poisonsim.units import HOURS_PER_YEAR, MONTHS_PER_YEAR

if TYPE_CHECKING:
    from poisonsim.fitting.fit import Fit

_BASES = {"rate": "seed-1t", "field": "cloud-1t-ddr4"}
DEFAULT_DIMM = "ddr4-32g-2rx4"
"""What the base of the field model has, and a fit takes DIMMs to be unless it is told."""
_FEWEST_FAULTS = 10
_DIGITS = 6
Value = tuple[str, object, str]
"""A key of the scenario, its value, and where it comes from."""


_MOST_PER_TIB_YEAR = MAX_ERRORS / 10
"""UEs per TiB-year above which no scenario of the size of those that ship can be simulated."""


def model_files(found: Fit, *, name: str = "model.toml") -> dict[str, str]:
    """The files of a fit's model by name, the scenario first.

    Raises:
        FitError: The log has no uncorrected error, nobody says how many hosts were watched, or it was for too short a
            time to make a rate of.
    """
    if not found.errors.total:
        high = found["rate.ue_per_tib_year"].estimate.high
        raise FitError(
            f"model: there is no UE in {found.exposure.tib_years:,.4g} TiB-years, so the rate may be 0 or up to "
            f"{high:.2g} per TiB-year; write a scenario with a rate you want to be safe for, or watch longer"
        )
    if "hosts" in found.exposure.derived:
        raise FitError("model: hosts without a record count too, and nobody says how many; give --hosts")
    rate = max(found["rate.ue_per_tib_year"].estimate.best, _rate(found).best)
    if rate > _MOST_PER_TIB_YEAR:
        told = f"{counted(found.errors.total, 'UE')} in {found.exposure.tib_years:.2g} TiB-years"
        raise FitError(
            f"model: {told} would be {rate:.2g} per TiB-year, which is no rate to simulate; say with --since and "
            "--until how long the hosts were watched"
        )
    files: dict[str, str] = {}
    if found.model == "rate":
        values = list(_rate_values(found))
    else:
        table = f"{PurePath(name).stem}-faults.toml"
        text = _table(found)
        if text:
            files[table] = text
        values = list(_field_values(found, table if text else ""))
    values += _shape_values(found)
    return {name: _scenario(found, values), **files}


def _source(found: Fit, what: str, estimate: Estimate | None = None) -> str:
    """Where a number comes from: the logs with their digests, what was counted, the interval."""
    files = ", ".join(f"{PurePath(file.path).name} (sha256 {file.sha256})" for file in found.report.files)
    interval = "" if estimate is None else f"; 95 % interval {estimate.low:.3g} to {estimate.high:.3g}"
    return f"{files}: {what}{interval}"


def _told(finding: Finding) -> str:
    return f"{finding.counts}, {finding.method}"


def rate_of_model(found: Fit) -> tuple[str, Estimate]:
    """Key of the scenario that says how often errors come, and its interval, of all that the log says about it.

    With a fault table of the log's own the rates are in that, and the key multiplies them.
    """
    if found.model == "rate":
        return "faults.ue_per_tib_year", _rate(found)
    if _table(found):
        rate = rate_interval(found.incidents, found.exposure)
        return "faults.scale", Estimate(rate.low / rate.best, 1.0, rate.high / rate.best, "1")
    return "faults.scale", _scale(found)


def _rate(found: Fit) -> Estimate:
    """UEs per TiB-year, as the mean over the hosts' life where they age."""
    estimate, shaped = rate_interval(found.errors, found.exposure), _shape(found)
    factor = 1.0 if shaped is None else _over_life(found.exposure, shaped.estimate.best)
    return Estimate(estimate.low * factor, estimate.best * factor, estimate.high * factor, estimate.unit)


def _scale(found: Fit) -> Estimate:
    """Incidents per DIMM-year as a multiple of those behind the table of the catalogue."""
    rate = rate_interval(found.incidents, found.exposure)
    to_scale = found.exposure.tib_years / dimm_years_of(found.exposure, found.dimm) / _table_ue_per_dimm_year()
    return Estimate(rate.low * to_scale, rate.best * to_scale, rate.high * to_scale, "1")


def _table_ue_per_dimm_year() -> float:
    return load_fault_table("ddr4-alibaba").ticket_ue_per_dimm_year


def _rate_values(found: Fit) -> Iterator[Value]:
    yield "model", "rate", ""
    exposure, scaled = found.exposure, _rate(found)
    more = "" if _shape(found) is None else ", as the mean over horizon.years"
    alike = "" if found.errors.mean_interval else ", were all hosts alike, which so few errors cannot tell"
    what = f"{counted(found.errors.total, 'UE')} in {exposure.tib_years:,.4g} TiB-years{more}{alike}"
    yield "ue_per_tib_year", scaled.best, _source(found, what, scaled)
    yield from _dispersion_values(found)


def _field_values(found: Fit, table: str) -> Iterator[Value]:
    yield "model", "field", ""
    exposure, n = found.exposure, found.incidents.total
    if found.dimm_name not in ("", DEFAULT_DIMM):
        is_file = found.dimm_name.endswith(".toml")
        yield "dimm", str(Path(found.dimm_name).absolute()) if is_file else found.dimm_name, ""
    known = [each.known for each in found.maps if each.known]
    if known:
        most = max(set(known), key=known.count)
        why = f"explains the cells of {known.count(most)} of {counted(len(found.maps), 'DIMM')} with enough of them"
        yield "map", most, _source(found, why)
    if table:
        yield "table", table, _source(found, f"{counted(len(found.faults), 'fault')} by coordinates; see the table")
    else:
        scale = _scale(found)
        what = (
            f"{counted(n, 'incident')} in {dimm_years_of(exposure, found.dimm):,.4g} DIMM-years, against "
            f"{_table_ue_per_dimm_year():.3g} per DIMM-year of the table ddr4-alibaba, whose modes are kept"
        )
        yield "scale", scale.best, _source(found, what, scale)
    yield from _dispersion_values(found)


def _dispersion_values(found: Fit) -> Iterator[Value]:
    counts = found.events
    low, high = counts.dispersion_interval if counts.total else (0.0, MOST_DISPERSION)
    if low > 0 and high < MOST_DISPERSION:
        estimate = Estimate(low, counts.dispersion, high, "1")
        what = f"{counted(counts.n, 'host')}, {int((counts.counts > 1).sum()):,} with several"
        yield "dispersion", estimate.best, _source(found, what, estimate)


def _shape(found: Fit) -> Finding | None:
    """The shape, where the log gives reason not to take 1."""
    if "shape" not in found:
        return None
    estimate = found["shape"].estimate
    return None if estimate.low <= 1 <= estimate.high else found["shape"]


def _shape_values(found: Fit) -> Iterator[Value]:
    if (shaped := _shape(found)) is not None:
        yield "shape", writable_shape(shaped.estimate.best), _source(found, _told(shaped), shaped.estimate)


def _over_life(exposure: Exposure, shape: float) -> float:
    """What the rate over the window is multiplied by to be the mean over the hosts' age until its end.

    Examples:
        >>> later = Exposure(1, 1 << 40, 50, 100, installed=0)
        >>> _over_life(later, 1.0), round(_over_life(later, 2.0), 3)
        (1.0, 0.667)
    """
    begin, end = _ages(exposure)
    memory = exposure.of_all(exposure.memory_bytes)[_aged(exposure)]
    return float((memory * (end - begin)).sum() / (memory * (end**shape - begin**shape)).sum())


def _aged(exposure: Exposure) -> Any:
    """Which hosts have a known age, bool[n_hosts]."""
    assert exposure.installed is not None
    return exposure.of_all(exposure.installed) != UNKNOWN


def _ages(exposure: Exposure) -> tuple[F64, F64]:
    """Ages at which hosts of a known one were first and last watched, as shares of the oldest."""
    assert exposure.installed is not None
    known, installed = _aged(exposure), exposure.of_all(exposure.installed)
    begin, end = (exposure.of_all(each)[known] - installed[known] for each in (exposure.begin, exposure.end))
    return begin / end.max(), end / end.max()


def _oldest(exposure: Exposure) -> int:
    """Age of the oldest host at the end of its window, in microseconds."""
    assert exposure.installed is not None
    return int((exposure.of_all(exposure.end) - exposure.of_all(exposure.installed))[_aged(exposure)].max())


def _scenario(found: Fit, values: list[Value]) -> str:
    base, exposure = _BASES[found.model], found.exposure
    lines = [
        f"# Fitted by poisonsim to {counted(found.errors.total, 'UE')} ({counted(found.incidents.total, 'incident')}) "
        f"of {exposure.n_hosts:,} hosts in {exposure.tib_years:,.4g} TiB-years.",
        "# What is not said here is as in the base. Intervals are of 95 %.",
    ]
    if not any(key == "dispersion" for key, _, _ in values):
        lines += ["# The log gives no reason, or is too short, to say that hosts differ: faults.dispersion is 0."]
    lines += [f"# Not known: {refusal.label}: {refusal.why}." for refusal in found.refusals if refusal.name in _SAID]
    lines += [f"base = {json.dumps(base)}", f"title = {json.dumps('Errors as fitted to a log')}", "provenance = ["]
    for key, _, source in values:
        if source:
            text = json.dumps(source, ensure_ascii=False)
            lines.append(f'    {{ keys = ["faults.{key}"], source = {text}, quality = "measured-field" }},')
    lines += ["]", "", "[faults]"]
    lines += [f"{key} = {_toml(value)}" for key, value, _ in values]
    if any(key == "shape" for key, _, _ in values) and exposure.installed is not None:
        years = _oldest(exposure) / US_PER_YEAR
        months = max(round(years * MONTHS_PER_YEAR), 1)
        lines += ["", "[horizon]", f"years = {_toml(months / MONTHS_PER_YEAR)}  # as old as the hosts were in the end"]
    return "\n".join(lines) + "\n"


_SAID = ("shape", "modes", "map")


def _toml(value: object) -> str:
    if isinstance(value, float):
        return repr(float(f"{value:.{_DIGITS}g}"))
    return json.dumps(value, ensure_ascii=False)


def _table(found: Fit) -> str:
    """The fault table; empty where the log names too few cells, or no fault that led to an error."""
    n = sum(mode.n for mode in found.modes)
    if n < _FEWEST_FAULTS or not any(mode.n_ue for mode in found.modes):
        return ""
    exposure = found.exposure
    n_dimms = n_dimms_of(exposure, found.dimm)
    hours = round(dimm_years_of(exposure, found.dimm) / n_dimms * HOURS_PER_YEAR)
    server_months = round(exposure.host_years * MONTHS_PER_YEAR)
    if not hours or not server_months:
        return ""
    numbers: list[tuple[str, Mapping[str, object], str]] = [  # the first, of DIMMs, may be assumed
        ("population", {"n_dimms": n_dimms, "n_chips_per_dimm": found.dimm.n_chips, "hours": hours},
         _source(found, f"{exposure.n_hosts:,} hosts watched, with DIMMs taken to be {found.dimm.name}")),
        ("tickets", {"n_ue_tickets": found.incidents.total, "n_servers": exposure.n_hosts,
                     "n_server_months": server_months},
         _source(found, "incidents by UEs, counted as tickets", rate_interval(found.incidents, exposure))),
    ]  # fmt: skip
    numbers += [(f"modes.{mode.mode}", _counts(mode), _source(found, _of_mode(mode))) for mode in found.modes]
    lines = ["# Faults by mode, told from the coordinates of logged cells.", 'title = "Faults as fitted to a log"']
    for place, (section, values, source) in enumerate(numbers):
        quality = "assumed" if place == 0 and not found.dimm_name else "measured-field"
        lines += ["", f"[{section}]", *(f"{key} = {_toml(value)}" for key, value in values.items())]
        lines += [f"source = {json.dumps(source, ensure_ascii=False)}", f'quality = "{quality}"']
    text = "\n".join(lines) + "\n"
    return text if _is_sound(text) else ""


def _counts(mode: ModeRate) -> dict[str, object]:
    return {
        "n_permanent": mode.n_permanent, "n_transient": mode.n_transient, "n_ue_permanent": mode.n_ue_permanent,
        "n_ue_transient": mode.n_ue_transient,
    }  # fmt: skip


def _of_mode(mode: ModeRate) -> str:
    fit, p = mode.fit_per_chip, mode.p_ue
    return (
        f"95 % intervals: {fit.low:.3g} to {fit.high:.3g} FIT per chip; {p.low:.2g} to {p.high:.2g} of the faults are "
        "on hosts with a UE after"
    )


def _is_sound(text: str) -> bool:
    """Whether the table can be used: incidents that far outnumber the faults seen would make more than one of each."""
    with TemporaryDirectory() as folder:
        path = PurePath(folder, "table.toml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        try:
            load_fault_table(str(path))
        except ScenarioError:
            return False
    return True
