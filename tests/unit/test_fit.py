"""Fits of logs: against numbers worked out by hand, laws from elsewhere, and bad input."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import nbinom

import poisonsim as ps
from poisonsim.catalog import scenario_numbers
from poisonsim.errors import FitError, LogError, PoisonsimError, ScenarioError
from poisonsim.faults.tables import load_fault_table
from poisonsim.fitting.counts import HostCounts
from poisonsim.fitting.exposure import US_PER_YEAR, Exposure
from poisonsim.fitting.findings import poisson
from poisonsim.fitting.modes import mode_in_bank
from poisonsim.fitting.timing import Times, shape_of
from poisonsim.report.fitted import fit_png

HEADER = "time,host,kind,address,severity,count,label,rank,bank_group,bank,row,column,device"
YEAR: dict[str, Any] = {"hosts": 100, "memory": "1TiB", "since": "2025-01-01", "until": "2026-01-01"}
GIB = 1 << 30


def log_of(folder: Path, *rows: str, name: str = "errors.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


def ue(time: str, host: str, address: int | str = "", severity: str = "") -> str:
    return f"{time},{host},UE,{hex(address) if isinstance(address, int) else address},{severity},1,,,,,,,"


def ce(time: str, host: str, address: int, count: int) -> str:
    return f"{time},{host},CE,{hex(address)},,{count},,,,,,,"


def cells(host: str, places: list[tuple[int, ...]], *, kind: str = "CE", hours: int = 1) -> Iterator[str]:
    """Rows of cells, each rank, bank group, bank, row, column, and if given the device."""
    for i, (rank, group, bank, row, column, *device) in enumerate(places):
        time = np.datetime64("2025-03-01T00:00:00") + np.timedelta64(i * hours, "h")
        yield f"{time}Z,{host},{kind},,,1,D1,{rank},{group},{bank},{row},{column},{device[0] if device else ''}"


def value(found: Any, name: str) -> tuple[float, float, float]:
    e = found[name].estimate
    return e.low, e.best, e.high


# ---------------------------------------------------------------------------------------------------------- laws


def test_exact_rates_are_those_of_the_tables() -> None:
    """Limits of a Poisson mean: 0 gives 3.689, and 10 gives 4.795 and 18.39 (E. S. Pearson and H. O. Hartley)."""
    none, ten = poisson(0, 1.0, ""), poisson(10, 1.0, "")
    assert (none.low, round(none.high, 3)) == (0.0, 3.689)
    assert (round(ten.low, 3), round(ten.high, 2)) == (4.795, 18.39)


@pytest.mark.parametrize("dispersion", [0.01, 0.3, 2.0, 40.0])
def test_the_likelihood_is_that_of_the_negative_binomial_law(dispersion: float) -> None:
    counts = np.array([0, 0, 3, 1, 0, 7, 0, 0])
    law = nbinom(1 / dispersion, 1 / (1 + dispersion * 1.2))
    other = nbinom(2.0, 2.0 / (2.0 + 0.7))
    found = HostCounts(counts)
    ours = found.log_likelihood(1.2, dispersion) - found.log_likelihood(0.7, 0.5)
    assert ours == pytest.approx(law.logpmf(counts).sum() - other.logpmf(counts).sum())


def test_without_dispersion_it_is_that_of_poisson() -> None:
    found = HostCounts(np.array([0, 2, 1]))
    assert found.log_likelihood(1.5, 0.0) == pytest.approx(3 * np.log(1.5) - 4.5)
    assert found.log_likelihood(1.5, 1e-9) == pytest.approx(3 * np.log(1.5) - 4.5, abs=1e-6)


def test_hosts_alike_have_an_interval_of_dispersion_from_zero_on() -> None:
    found = HostCounts(np.array([1] * 20 + [0, 2] * 10))
    assert found.dispersion == 0.0 and found.dispersion_interval[0] == 0.0 and found.p_alike > 0.5
    low, high = found.mean_interval
    assert 0.6 < low < 1 < high < 1.6


def test_a_host_with_many_errors_tells_that_hosts_differ() -> None:
    found = HostCounts(np.array([0] * 99 + [20]))
    assert found.p_alike < 0.001 and found.dispersion > 10
    assert sum(found.expected(4)["differing"]) == pytest.approx(100)
    assert found.seen(4).tolist() == [99, 0, 0, 0, 1]


def test_the_shape_of_ages_watched_from_the_first_day_is_exact_and_else_by_likelihood() -> None:
    rng, year = np.random.default_rng(1), int(US_PER_YEAR)
    exact = Exposure(400, 1 << 40, 0, 4 * year, installed=0)
    age = rng.random(400) ** (1 / 2.5)
    found = shape_of(Times(np.arange(400), (age * 4 * year).astype(np.int64), exact))
    assert found.method == "exact (Crow)" and found.estimate.low < 2.5 < found.estimate.high
    later = Exposure(400, 1 << 40, year, 4 * year, installed=0)
    age = age[age > 0.25]
    found = shape_of(Times(np.arange(len(age)), (age * 4 * year).astype(np.int64), later))
    assert found.method == "profile likelihood" and found.estimate.low < 2.5 < found.estimate.high


@pytest.mark.parametrize(
    ("places", "mode"),
    [
        ([(5, 8)], "bit"), ([(5, 8), (5, 12)], "bit"), ([(5, 8), (5, 800)], "row"), ([(5, 8), (6, 80)], "row"),
        ([(5, 8), (9, 8), (700, 8)], "column"), ([(5, 8), (90, 80)], "bank"),
        ([(5, 8 * i) for i in range(40)] + [(999, 8)], "row"), ([(i, 16) for i in range(99)] + [(7, 80)], "column"),
    ],
)  # fmt: skip
def test_the_mode_of_a_fault_is_the_smallest_part_that_holds_nearly_all_its_cells(
    places: list[tuple[int, int]], mode: str
) -> None:
    row, column = np.array(places).T
    assert mode_in_bank(row, column) == mode


# -------------------------------------------------------------------------------------------------------- exposure


def test_hosts_without_a_record_count_as_hosts_without_an_error(tmp_path: Path) -> None:
    log = log_of(tmp_path, ue("2025-03-01T00:00:00Z", "a", GIB), ue("2025-06-01T00:00:00Z", "b", GIB))
    few, many = (ps.fit(log, **{**YEAR, "hosts": n}) for n in (10, 1000))
    assert few.exposure.tib_years == pytest.approx(10 * 365 / 365.25)
    assert value(few, "rate.ue_per_tib_year")[1] == pytest.approx(100 * value(many, "rate.ue_per_tib_year")[1])
    assert value(many, "hosts.with_ue")[1] == 0.002
    assert few.events.counts.tolist() == [1, 1] + 8 * [0]


def test_what_is_not_given_is_taken_from_the_log_and_said_to_be_biased(tmp_path: Path) -> None:
    log = log_of(tmp_path, ue("2025-03-01T00:00:00Z", "a", 5 * GIB), ue("2025-06-01T00:00:00Z", "b", GIB))
    found = ps.fit(log)
    assert found.exposure.derived == ("hosts", "memory", "since", "until")
    assert (found.exposure.n_hosts, found.exposure.memory_bytes) == (2, 6 * GIB)
    told = " ".join(found.notices)
    assert all(f"{name}: not given" in told for name in found.exposure.derived)
    assert {"dispersion.ue", "hosts.with_ue"} <= {refusal.name for refusal in found.refusals}
    assert found.hosts_by_number() == []
    with pytest.raises(FitError, match="nobody says how many; give `hosts`"):
        found.to_toml()


def test_what_is_outside_the_window_is_left_out(tmp_path: Path) -> None:
    times = ("2024-12-31T23:59:59Z", "2025-01-01T00:00:00Z", "2025-12-31T00:00:00Z", "2026-01-02T00:00:00Z")
    log = log_of(tmp_path, *(ue(time, "a", i * GIB) for i, time in enumerate(times)))
    found = ps.fit(log, **YEAR)
    assert found.errors.total == 2 and "2 events outside the window: left out" in found.notices


def test_no_error_in_a_given_window_is_an_answer(tmp_path: Path) -> None:
    log = log_of(tmp_path, ue("2024-03-01T00:00:00Z", "a", GIB))
    found = ps.fit(log, **YEAR)
    assert value(found, "rate.ue_per_tib_year") == pytest.approx((0, 0, 3.689 / found.exposure.tib_years), rel=1e-3)
    with pytest.raises(FitError, match="there is no UE in 99.93 TiB-years, so the rate may be 0 or up to 0.037"):
        found.to_toml()
    with pytest.raises(LogError, match="all 1 events are outside the window"):
        ps.fit(log, hosts=100, memory="1TiB", since="2025-01-01")


def test_a_page_counts_once_and_errors_without_a_time_count_too(tmp_path: Path) -> None:
    log = log_of(
        tmp_path, ue("2025-03-01T00:00:00Z", "a", GIB), ue("2025-03-02T00:00:00Z", "a", GIB + 64), ue("", "b", GIB)
    )
    found = ps.fit(log, **YEAR)
    assert found.errors.counts[:2].tolist() == [1, 1] and found.incidents.total == 2
    assert any("1 UE without a time" in notice for notice in found.notices)


# --------------------------------------------------------------------------------------------- time, space, warnings


def test_errors_within_a_month_of_the_last_are_one_incident_and_bursts_ask_for_the_field_model(tmp_path: Path) -> None:
    rows = [ue(f"2025-03-01T{h:02}:00:00Z", "a", (h + 1) << 12) for h in range(20)]
    log = log_of(tmp_path, *rows, ue("2025-09-01T00:00:00Z", "a", 9 * GIB), ue("2025-04-01T00:00:00Z", "b", GIB))
    found = ps.fit(log, **YEAR)
    assert (found.errors.total, found.incidents.total) == (22, 3)
    checks = {check.name: check for check in found.checks}
    assert checks["bursts"].seen == 19 and not checks["bursts"].holds
    assert checks["same_2m"].seen == 190 and not checks["same_2m"].holds
    assert (found.model, ps.fit(log, **YEAR, model="rate").model) == ("field", "rate")
    assert value(found, "repeat.within_24h")[1] == 0.5 and value(found, "space.same_2m")[1] == 1.0


def test_hosts_that_were_not_watched_long_enough_after_an_error_do_not_count(tmp_path: Path) -> None:
    log = log_of(tmp_path, ue("2025-12-20T00:00:00Z", "a", GIB), ue("2025-12-25T00:00:00Z", "a", 2 * GIB))
    found = ps.fit(log, **YEAR)
    assert value(found, "repeat.within_24h")[1] == 0.0
    [why] = [refusal.why for refusal in found.refusals if refusal.name == "repeat.within_30d"]
    assert "no host with a UE" in why and "for 30 d after it" in why


def test_the_precision_of_a_threshold_counts_warnings_that_came_before(tmp_path: Path) -> None:
    day = "2025-03-{:02}T00:00:00Z"
    log = log_of(
        tmp_path,
        ce(day.format(1), "right", GIB, 60), ue(day.format(9), "right", GIB),
        ce(day.format(1), "wrong", GIB, 60),
        ce(day.format(1), "elsewhere", GIB, 60), ue(day.format(5), "elsewhere", 2 * GIB),
        ue(day.format(1), "late", GIB), ce(day.format(7), "late", GIB, 60),
        ue(day.format(1), "sudden", GIB),
        ce("2025-12-20T00:00:00Z", "open", GIB, 60),
    )  # fmt: skip
    found = ps.fit(log, **YEAR)
    assert found["warning.rasdaemon.precision"].counts == "2 of 3 hosts with a UE in 30 d"
    assert found["warning.rasdaemon.page_precision"].counts == "1 of 5 pages"
    assert found["warning.rasdaemon.reach"].counts == "2 of 4 hosts"
    assert "warning.cec.precision" in {refusal.name for refusal in found.refusals}


# --------------------------------------------------------------------------------------------- modes, model files


FAULTY = {
    "bit": [(0, 0, 1, 5, 8)], "row": [(0, 0, 1, 5, 8), (0, 0, 1, 5, 80)], "column": [(0, 0, 1, 5, 8), (0, 0, 1, 9, 8)],
    "bank": [(0, 0, 1, 5, 8), (0, 0, 1, 90, 80)], "multi-bank": [(0, 0, 1, 5, 8), (0, 1, 1, 5, 8)],
    "multi-rank": [(0, 0, 1, 5, 8), (1, 0, 1, 5, 8)],
}  # fmt: skip


def test_every_mode_is_told_from_its_cells(tmp_path: Path) -> None:
    log = log_of(tmp_path, *(row for mode, places in FAULTY.items() for row in cells(mode, places)))
    found = ps.fit(log, **YEAR)
    assert {found.observed.hosts[fault.host]: fault.mode for fault in found.faults} == {mode: mode for mode in FAULTY}
    assert [rate.n for rate in found.modes] == [1] * 6
    chip_hours = 100 * 32 * 36 * 365 * 24
    assert found.modes[0].fit_per_chip.best == pytest.approx(1e9 / chip_hours)


def test_chips_are_told_apart_where_the_log_names_them(tmp_path: Path) -> None:
    log = log_of(tmp_path, *cells("a", [(0, 0, 1, 5, 8, 3), (0, 0, 1, 90, 80, 4)]))
    assert [fault.mode for fault in ps.fit(log, **YEAR).faults] == ["bit", "bit"]
    lasting = log_of(tmp_path, *cells("a", [(0, 0, 1, 5, 8), (0, 0, 1, 5, 80)], hours=25), name="b.csv")
    assert [rate.n_permanent for rate in ps.fit(lasting, **YEAR).modes] == [1]


def fleet_with_faults(folder: Path) -> Path:
    rows = [row for i in range(6) for row in cells(f"bit{i}", FAULTY["bit"])]
    rows += [row for i in range(6) for row in cells(f"row{i}", FAULTY["row"], hours=30)]
    rows += [ue(f"2025-03-04T0{i}:00:00Z", f"row{i % 3}", (i + 1) << 12) for i in range(6)]
    return log_of(folder, *rows)


def test_a_model_with_a_fault_table_loads_and_says_where_each_number_is_from(tmp_path: Path) -> None:
    found = ps.fit(fleet_with_faults(tmp_path), **YEAR, model="field")
    files = found.to_toml(name="mine.toml")
    assert list(files) == ["mine.toml", "mine-faults.toml"]
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    table = load_fault_table(tmp_path / "mine-faults.toml")
    assert {mode.name: (mode.n_faults, mode.n_ue) for mode in table.modes} == {"bit": (6, 0), "row": (6, 3)}
    rate = value(found, "rate.incident_per_tib_year")[1]
    assert table.ue_per_tib_year(32 * GIB) == pytest.approx(rate, rel=0.001)
    scenario = ps.load_scenario(tmp_path / "mine.toml")
    assert scenario.faults.table == str(tmp_path / "mine-faults.toml")  # type: ignore[union-attr]
    digest = found.report.files[0].sha256
    numbers = [n for text in files.values() for n in text.splitlines() if "source = " in n]
    assert tomllib.loads(files["mine-faults.toml"])["population"]["quality"] == "assumed"  # nobody says which DIMMs
    told = ps.fit(found.report.files[0].path, **YEAR, model="field", dimm="ddr4-32g-2rx4").to_toml()
    assert "assumed" not in "".join(told.values())
    assert len(numbers) >= 5 and all(digest in n and "measured-field" in text for n in numbers)


def test_a_model_of_rates_says_every_number_with_digest_and_interval(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    rows = []
    for host in range(40):
        for _ in range(rng.poisson(6 * rng.gamma(0.5, 2))):
            when = np.datetime64("2025-01-01T00:00:00") + np.timedelta64(int(364 * 86400 * rng.random() ** 0.4), "s")
            rows.append(ue(f"{when}Z", f"h{host}", int(rng.integers(1 << 28)) << 12))
    given = {**YEAR, "hosts": 40, "installed": "2025-01-01"}
    found = ps.fit(log_of(tmp_path, *rows), **given, model="rate")
    [text] = found.to_toml().values()
    tables = tomllib.loads(text)
    assert tables["base"] == "seed-1t" and tables["faults"]["model"] == "rate"
    assert tables["faults"]["shape"] > 1.3 and tables["faults"]["dispersion"] > 0.5
    assert tables["horizon"]["years"] == 1.0
    numbers = {number.key: number for number in scenario_numbers(tables)}
    assert set(numbers) == {"faults.ue_per_tib_year", "faults.dispersion", "faults.shape"}
    for number in numbers.values():
        assert number.quality == "measured-field" and "95 % interval" in number.source
        assert found.report.files[0].sha256 in number.source
    (tmp_path / "mine.toml").write_text(text)
    assert ps.load_scenario(tmp_path / "mine.toml").faults.model == "rate"


def test_names_of_a_log_cannot_break_out_of_the_files_or_the_picture(tmp_path: Path) -> None:
    nasty = 'a"]\\n[vm]{x}$\\alpha$<b>'
    log = log_of(tmp_path, ue("2025-03-01T00:00:00Z", nasty, GIB, "AR"), name="e $x$ '].csv")
    found = ps.fit(log, **YEAR)
    [text] = found.to_toml().values()
    assert set(tomllib.loads(text)) == {"base", "title", "provenance", "faults"}
    assert fit_png(found).startswith(b"\x89PNG")
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_picture_says_what_it_cannot_show(tmp_path: Path) -> None:
    assert fit_png(ps.fit(log_of(tmp_path), **YEAR)).startswith(b"\x89PNG")
    derived = ps.fit(log_of(tmp_path, ue("2025-03-01T00:00:00Z", "a", GIB), ue("2025-04-01T00:00:00Z", "b", GIB)))
    assert fit_png(derived).startswith(b"\x89PNG")


# ------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"hosts": 0}, "hosts: 0 is not a whole number"), ({"hosts": True}, "hosts: true is not"),
        ({"hosts": 2.5}, "hosts: 2.5 is not"), ({"hosts": 1}, "fewer than the 2 that the log names"),
        ({"memory": "1T"}, "memory: "), ({"memory": -1}, "memory: "), ({"memory": "lots"}, "memory: 'lots'"),
        ({"since": "soon"}, "since: 'soon' is not a time"), ({"until": "2025-99-01"}, "until: "),
        ({"until": "2024-01-01"}, "until: 2024-01-01 is not after since"),
        ({"installed": "2025-06-01"}, "installed: 2025-06-01 is after since"), ({"installed": ""}, "installed: "),
        ({"dimm": "ddr9"}, "'ddr9' is not a DIMM"), ({"model": "rates"}, "did you mean rate?"),
        ({"tz": "Mars"}, "Mars"), ({"format": "xml"}, "format: "),
    ],
)  # fmt: skip
def test_arguments_that_cannot_be_used_are_refused(tmp_path: Path, given: dict[str, Any], told: str) -> None:
    log = log_of(tmp_path, ue("2025-03-01T00:00:00Z", "a", GIB), ue("2025-06-01T00:00:00Z", "b", GIB))
    with pytest.raises(PoisonsimError) as caught:
        ps.fit(log, **{**YEAR, **given})
    assert told in str(caught.value)


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError) as caught:
        ps.fit(tmp_path / "none.csv", hosts=-1, memory="x", since="y")
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    ("rows", "given", "told"),
    [
        ([ue("", "a", GIB)], {}, "no event has a time"),
        ([ue("2025-03-01T00:00:00Z", "a", GIB)], {}, "all events are of one moment"),
        ([ue("2025-03-01T00:00:00Z", "a"), ue("2025-04-01T00:00:00Z", "a")], {}, "memory: no event has an address"),
        ([], {}, "there is no event"),
        ([], {"since": "2025-01-01", "until": "2026-01-01"}, "hosts: the log names none"),
    ],
)
def test_logs_that_leave_open_what_was_watched_are_refused(
    tmp_path: Path, rows: list[str], given: dict[str, Any], told: str
) -> None:
    with pytest.raises(PoisonsimError, match=told):
        ps.fit(log_of(tmp_path, *rows), **given)


def test_a_finding_that_is_refused_or_unknown_says_so(tmp_path: Path) -> None:
    found = ps.fit(log_of(tmp_path, ue("2025-03-01T00:00:00Z", "a", GIB)), **YEAR)
    assert "shape" not in found
    with pytest.raises(KeyError, match="age of the hosts is not known"):
        found["shape"]
    with pytest.raises(KeyError, match="did you mean rate.ue_per_tib_year"):
        found["rate.ue_per_tib_yea"]


def test_few_errors_may_all_be_of_one_bad_host(tmp_path: Path) -> None:
    rows = [ue(f"2025-0{i}-01T00:00:00Z", "a", i * GIB) for i in (3, 5, 7)]
    found = ps.fit(log_of(tmp_path, *rows), **{**YEAR, "hosts": 10})
    [refusal] = [each for each in found.refusals if each.name == "rate.ue_per_tib_year_wide"]
    assert "3 UEs on 1 of 10 hosts may all be of a few bad ones" in refusal.why
    assert "were all hosts alike, which so few errors cannot tell" in found.to_toml()["model.toml"]


def test_a_dimm_from_a_file_is_named_so_that_the_model_finds_it(tmp_path: Path) -> None:
    from poisonsim.catalog.entries import shipped

    (tmp_path / "mine.toml").write_text(shipped("ddr4-64g-2rx4").text)
    log = log_of(tmp_path, ue("2025-03-01T00:00:00Z", "a", GIB))
    found = ps.fit(log, **YEAR, dimm=str(tmp_path / "mine.toml"), model="field")
    (tmp_path / "model.toml").write_text(found.to_toml()["model.toml"])
    faults = ps.load_scenario(tmp_path / "model.toml").faults
    assert isinstance(faults, ps.FieldFaults) and faults.dimm == str(tmp_path / "mine.toml")


def test_errors_without_a_time_have_none_made_up(tmp_path: Path) -> None:
    found = ps.fit(log_of(tmp_path, ue("", "a", GIB), ue("", "b", GIB)), **YEAR)
    assert found.errors.total == 2 and len(found.times.time) == 0 and found.quantiles() == []
    assert {"repeat.within_24h", "shape"} <= {refusal.name for refusal in found.refusals}


def test_a_log_of_a_second_makes_no_model(tmp_path: Path) -> None:
    log = tmp_path / "short.csv"
    log.write_text("time,host,kind\n1735689600,a,UE\n1735689601,a,UE\n1735689601,b,UE\n")
    found = ps.fit(log, hosts=2, memory="1TiB")
    with pytest.raises(FitError, match="no rate to simulate; say with `since` and `until` how long"):
        found.to_toml()
