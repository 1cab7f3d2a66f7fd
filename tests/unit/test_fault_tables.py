"""Fault tables against the published counts they were summed from."""
# ruff: noqa: E501 - a message that is expected stays on one line

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from poisonsim import catalog
from poisonsim.errors import ScenarioError
from poisonsim.faults.tables import MODES, load_fault_table

GIB = 1 << 30

# Mode: faults, permanent and transient FIT per chip, share of permanent, transient and all faults with a UE ticket.
PUBLISHED = {
    "bit": (23_789, 45.9, 29.3, 0.0017, 0.0060, 0.0034),
    "row": (2_735, 7.63, 1.02, 0.024, 0.075, 0.030),
    "column": (3_483, 2.85, 8.17, 0.023, 0.075, 0.062),
    "bank": (3_666, 4.17, 7.42, 0.056, 0.054, 0.055),
    "multi-bank": (439, 1.12, 0.27, 0.142, 0.209, 0.155),
    "multi-rank": (494, 1.31, 0.26, 0.068, 0.099, 0.073),
}


def to_digits_of(printed: float) -> Any:
    """Half a unit in the last digit that `printed` shows."""
    return pytest.approx(printed, abs=0.5 * 10.0 ** -len(repr(printed).partition(".")[2]) * 1.0001)


@pytest.mark.parametrize("name", PUBLISHED)
def test_modes_of_the_alibaba_table(name: str) -> None:
    n_faults, fit_permanent, fit_transient, p_permanent, p_transient, p_ue = PUBLISHED[name]
    mode = load_fault_table("ddr4-alibaba").mode(name)
    assert mode.n_faults == n_faults
    assert mode.fit_per_chip_permanent == to_digits_of(fit_permanent)
    assert mode.fit_per_chip_transient == to_digits_of(fit_transient)
    assert mode.fit_per_chip == pytest.approx(mode.fit_per_chip_permanent + mode.fit_per_chip_transient)
    assert mode.n_ue_permanent / mode.n_permanent == pytest.approx(p_permanent, abs=0.0006)
    assert mode.n_ue_transient / mode.n_transient == pytest.approx(p_transient, abs=0.0006)
    assert mode.p_ue == pytest.approx(p_ue, abs=0.0006)


def test_totals_of_the_alibaba_table() -> None:
    table = load_fault_table("ddr4-alibaba")
    assert [mode.name for mode in table.modes] == list(PUBLISHED) == [mode for mode in MODES if mode != "word"]
    assert sum(mode.n_faults for mode in table.modes) == 34_606
    assert sum(mode.n_ue for mode in table.modes) == 683
    assert sum(mode.fit_per_chip for mode in table.modes) == pytest.approx(109.4, abs=0.1)
    assert table.n_dimms * table.n_chips_per_dimm * table.hours == 316_224_000_000
    assert sum(mode.n_ue for mode in table.modes[:4]) / 683 == pytest.approx(0.85, abs=0.005)  # inside one bank


def test_rates_before_and_after_calibration() -> None:
    table = load_fault_table("ddr4-alibaba")
    assert table.n_ue_tickets / table.n_server_months * 12 == pytest.approx(0.00417, abs=5e-6)
    assert table.ue_per_dimm_year == pytest.approx(0.00034, abs=5e-6)
    assert table.ticket_ue_per_dimm_year == pytest.approx(0.00036, abs=5e-6)
    assert table.calibration == pytest.approx(0.000360373 / 0.000340800, rel=1e-5)
    assert table.ue_per_tib_year(32 * GIB) / table.calibration == pytest.approx(0.0109, abs=5e-5)
    assert table.ue_per_tib_year(32 * GIB) == pytest.approx(2 * table.ue_per_tib_year(64 * GIB))


def test_the_modes_share_out_the_calibrated_total() -> None:
    table = load_fault_table("ddr4-alibaba")
    by_mode = table.ue_per_tib_year_by_mode(32 * GIB)
    assert list(by_mode) == list(PUBLISHED)
    assert sum(by_mode.values()) == pytest.approx(table.ue_per_tib_year(32 * GIB))
    assert by_mode["column"] / by_mode["row"] == pytest.approx(215 / 82)


def test_the_table_is_the_sum_of_the_data_set(field_data: Callable[[str], Path]) -> None:
    with field_data("alibaba/FITrate.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    modes = catalog.load("faults", "ddr4-alibaba")["modes"]
    listed = [category for mode in modes.values() for category in mode["categories"]]
    assert sorted(listed) == sorted({row["category"] for row in rows})
    for name, mode in modes.items():
        counts: Counter[str] = Counter()
        for row in rows:
            if row["category"] in mode["categories"]:
                counts[f"n_{row['permanency']}"] += int(row["count"])
                if row["failure_classification"] == "Uncorrectable":
                    counts[f"n_ue_{row['permanency']}"] += int(row["count"])
        assert dict(counts) == {key: mode[key] for key in counts}, name
    table = load_fault_table("ddr4-alibaba")
    assert sum(float(row["FIT"]) for row in rows) == pytest.approx(sum(mode.fit_per_chip for mode in table.modes))


# ------------------------------------------------------------------------------------------------- files of one's own

OWN = """
title = "mine"
[population]
n_dimms = 1000
n_chips_per_dimm = 18
hours = 8766
source = "our fleet"
quality = "measured-field"
[tickets]
n_ue_tickets = 4
n_servers = 100
n_server_months = 1200
source = "our fleet"
quality = "measured-field"
[modes.row]
n_permanent = 6
n_transient = 4
n_ue_permanent = 1
n_ue_transient = 1
source = "our fleet"
quality = "measured-field"
"""


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(OWN)
    table = load_fault_table(path)
    assert (table.name, table.title) == ("mine", "mine")
    assert table.dimm_years == 1000
    assert table.ue_per_dimm_year == pytest.approx(2 / 1000)
    assert table.ticket_ue_per_dimm_year == pytest.approx(4 / 100 * 100 / 1000)
    assert table.calibration == pytest.approx(2)
    with pytest.raises(ScenarioError, match="'bit' is not a mode of mine; known: row"):
        table.mode("bit")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("n_dimms = 1000", "", "population.n_dimms: missing; write a whole number, 1 or more"),
        ("n_dimms = 1000", "n_dimms = 0", "population.n_dimms: 0 is not a whole number, 1 or more"),
        ("n_dimms = 1000", "n_dimms = 1e3", "population.n_dimms: 1000.0 is not a whole number, 1 or more"),
        ("hours = 8766", "hours = true", "population.hours: true is not a whole number, 1 or more"),
        ("n_permanent = 6", "n_permanent = -1", "modes.row.n_permanent: -1 is not a whole number, 0 or more"),
        ("n_ue_permanent = 1", "n_ue_permanent = 7", "modes.row.n_ue_permanent: 7 is more than the 6 faults of n_permanent, a share above 1; count each fault once"),
        ("n_transient = 4", "n_transient = 4\nn_transiet = 4", "modes.row.n_transiet: unknown key; did you mean n_transient?"),
        ("[modes.row]", "[modes.rows]", "modes.rows: unknown mode; known: bit, word, row, column, bank, multi-bank, multi-rank; did you mean row?"),
        ("n_ue_tickets = 4", "n_ue_tickets = 1201", "tickets.n_ue_tickets: 1201 in 1200 server-months are more than one a month and server; n_server_months is servers times months"),
        ("n_servers = 100", "n_servers = 1001", "tickets.n_servers: 1001 servers cannot hold the 1000 DIMMs of population.n_dimms, one each at least"),
        ("n_ue_tickets = 4", "n_ue_tickets = 21", "tickets.n_ue_tickets: 21 mean 10.5 times the errors that the faults led to, and so 2.1 for each row fault; at most 1 can be: are population and tickets of one fleet?"),
        ('title = "mine"', 'titel = "mine"', "titel: unknown key; did you mean title?"),
        ("[population]", "[populaton]\n[population]", "populaton: unknown key; did you mean population?"),
        ("n_dimms = 1000", "n_dimms = 0x" + "f" * 5000, "line 22, column 1: not TOML: an integer of more than 1,000 digits; write a smaller one"),
        ("n_dimms = 1000", "n_dimms = [0x" + "f" * 5000 + "]", "line 22, column 1: not TOML: an integer of more than 1,000 digits; write a smaller one"),
        ("n_ue_transient = 1", "n_ue_transient = 1\nunit = 'servers'", "modes.row.unit: 'servers' is not what is read here; give faults, or leave unit out"),
        ("hours = 8766", "hours = {value = 365, unit = 'days', source = 'us', quality = 'assumed'}", "population.hours.unit: 'days' is not what is read here; give hours, or leave unit out"),
        ("n_servers = 100", "n_servers = {value = 100}", "tickets.n_servers: needs a source and a quality, one of measured-field, published, vendor, assumed"),
    ],
)  # fmt: skip
def test_what_is_said_of_a_wrong_table(tmp_path: Path, old: str, new: str, problem: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(OWN.replace(old, new, 1))
    with pytest.raises(ScenarioError) as caught:
        load_fault_table(path)
    assert caught.value.problems == (f"{path}: {problem}",)


def test_all_problems_of_a_table_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("population = 3\n[modes.row]\nn_permanent = 'x'\nsource = 's'\nquality = 'guess'\n[mode]\n")
    with pytest.raises(ScenarioError) as caught:
        load_fault_table(path)
    assert [problem.split(": ")[1] for problem in caught.value.problems] == [
        "mode", "population", "tickets",
        "modes.row.n_permanent", "modes.row.n_transient", "modes.row.n_ue_permanent", "modes.row.n_ue_transient",
    ]  # fmt: skip


def test_a_table_without_an_uncorrected_error_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    path.write_text(
        OWN.replace("n_ue_permanent = 1", "n_ue_permanent = 0").replace("n_ue_transient = 1", "n_ue_transient = 0")
    )
    with pytest.raises(ScenarioError, match="modes: no fault led to an uncorrected error"):
        load_fault_table(path)


def test_unknown_tables_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="'ddr4' is not a fault table of the catalogue; known: ddr4-alibaba"):
        load_fault_table("ddr4")
    with pytest.raises(ScenarioError, match="cannot be read: No such file or directory"):
        load_fault_table(tmp_path / "gone.toml")


# ----------------------------------------------------------------------------------------------------- rates alone

RATES = """
title = "mine"
[modes.row]
fit_permanent = 8.2
fit_transient = 0.2
source = "our fleet"
quality = "measured-field"
"""


def test_a_table_of_rates_alone_knows_no_outcomes(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(RATES)
    table = load_fault_table(path)
    assert not table.has_outcomes
    assert table.fit_by_mode() == {"row": (0.2, 8.2)}


def test_the_jaguar_table_adds_up_to_its_published_totals() -> None:
    fit = load_fault_table("jaguar-ddr2").fit_by_mode()
    assert list(fit) == list(MODES)
    assert sum(transient for transient, _ in fit.values()) == pytest.approx(19.2)
    assert sum(permanent for _, permanent in fit.values()) == pytest.approx(46.9)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("8.2", "-8.2", "modes.row.fit_permanent: -8.2 is not FIT per chip from 0 to 1e+06"),
        ("8.2", "2e9", "modes.row.fit_permanent: 2000000000.0 is not FIT per chip from 0 to 1e+06"),
        ("8.2", "nan", "modes.row.fit_permanent: nan is not FIT per chip from 0 to 1e+06"),
        ("8.2", '"8.2"', "modes.row.fit_permanent: '8.2' is not FIT per chip from 0 to 1e+06"),
        ("fit_transient = 0.2\n", "", "modes.row.fit_transient: missing; write FIT per chip from 0 to 1e+06"),
        ("8.2\nfit_transient = 0.2", "0\nfit_transient = 0", "modes: no fault at all, so there is nothing to simulate"),
        ("fit_transient = 0.2", "fit_transient = 0.2\nunit = 'FIT per Mbit'", "modes.row.unit: 'FIT per Mbit' is not what is read here; give FIT per chip, or leave unit out"),
        ("0.2", "{value = 0.2, unit = 3, source = 'us', quality = 'assumed'}", "modes.row.fit_transient.unit: 3 is not what is read here; give FIT per chip, or leave unit out"),
        ("[modes.row]", "[modes.lane]", "modes.lane: unknown mode; known: bit, word, row, column, bank, multi-bank, multi-rank"),
        ('quality = "measured-field"', 'quality = "sure"', "modes.row.fit_permanent: needs a source and a quality, one of measured-field, published, vendor, assumed"),
    ],
)  # fmt: skip
def test_what_is_said_of_wrong_rates(tmp_path: Path, old: str, new: str, problem: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(RATES.replace(old, new, 1))
    with pytest.raises(ScenarioError) as caught:
        load_fault_table(path)
    assert f"{path}: {problem}" in caught.value.problems


def test_absurd_counts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        OWN.replace("n_permanent = 6", "n_permanent = 600_000_000").replace("n_dimms = 1000", "n_dimms = 1")
    )
    with pytest.raises(ScenarioError, match="at most 1e.06 FIT make sense"):
        load_fault_table(path)


def test_vendors_change_the_mix_of_modes() -> None:
    table = load_fault_table("ddr4-alibaba")
    assert sorted(table.vendors) == ["a", "b", "c"]
    mix = {vendor: table.ue_per_dimm_year_by_mode(vendor=vendor) for vendor in ("", "a", "b")}
    assert mix["a"]["bit"] > 1.9 * mix[""]["bit"] and mix["a"]["column"] < 0.25 * mix[""]["column"]
    assert mix["b"]["column"] > 2 * mix[""]["column"]
    assert mix["a"]["multi-bank"] == mix[""]["multi-bank"]
    assert sum(table.fit_by_mode(vendor="a")["row"]) == pytest.approx(17.0)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[vendors.a]\nrwo = 1.0\nsource = "us"\nquality = "assumed"\n', "vendors.a.rwo: unknown key; did you mean row?"),
        ('[vendors.a]\nrow = -1.0\nsource = "us"\nquality = "assumed"\n', "vendors.a.row: -1.0 is not FIT per chip from 0 to 1e+06"),
        ('[vendors.fleet]\nrow = 1.0\nsource = "us"\nquality = "assumed"\n', "vendors.fleet: scenarios mean something else by 'fleet'; name the vendor otherwise"),
        ('[vendors.mixed]\nrow = 1.0\nsource = "us"\nquality = "assumed"\n', "vendors.mixed: scenarios mean something else by 'mixed'; name the vendor otherwise"),
        ("[vendors]\na = 3\n", "vendors.a: 3 is not a table; write [vendors.a]"),
    ],
)  # fmt: skip
def test_what_is_said_of_wrong_vendors(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(RATES + text)
    with pytest.raises(ScenarioError) as caught:
        load_fault_table(path)
    assert caught.value.problems == (f"{path}: {problem}",)
