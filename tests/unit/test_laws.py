"""The laws of footprint, growth and repetition: against the data they come from, and what is said of wrong files."""
# ruff: noqa: E501 - a message that is expected stays on one line

from __future__ import annotations

import csv
import gzip
import math
from collections import Counter, defaultdict
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from poisonsim import catalog
from poisonsim.errors import ScenarioError
from poisonsim.faults.laws import LinesLaw, load_laws
from poisonsim.faults.tables import MODES, load_fault_table

LAWS = load_laws("field")
DAY = 1 / 365.25
ROW = "window.rows = 1\nwindow.lines = 0"
ROW_WINDOW = f"""{ROW}
window.banks = 1
window.ranks = 1
window.source = "by definition: all lines of one row"
window.quality = "published"
"""


# ------------------------------------------------------------------------------------------------- where they are from


@pytest.mark.parametrize(
    ("days", "share", "n"), [(30, 0.48, 333), (90, 0.62, 316), (365, 0.75, 290)], ids=["30d", "90d", "1y"]
)
def test_parts_left_in_strike_again_as_titan_gpus_did(days: float, share: float, n: int) -> None:
    """Within what so few GPUs leave open: three standard errors."""
    assert LAWS.p_repeat_within(days * DAY) == pytest.approx(share, abs=3 * math.sqrt(share * (1 - share) / n))


def test_the_same_law_gives_the_bursts_that_it_was_not_fitted_to() -> None:
    """Consolidation within 30 s and within an hour removes 3 and 12 per cent of Titan's events."""
    assert LAWS.p_repeat_within(30 / 86400 * DAY) == pytest.approx(0.03, abs=0.01)
    assert LAWS.p_repeat_within(DAY / 24) == pytest.approx(0.12, abs=0.04)


def test_forms_cover_every_fault_of_the_table_once() -> None:
    table = load_fault_table("ddr4-alibaba")
    for mode in table.modes:
        forms = LAWS.shapes[mode.name]
        assert sum(form.n_faults for form in forms) == mode.n_faults, mode.name
        assert sum(form.n_ue for form in forms) == mode.n_ue, mode.name
        assert sum(form.shape.share for form in forms) == pytest.approx(1)


def test_forms_are_sums_of_the_categories_they_name(field_data: Callable[[str], Path]) -> None:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    with field_data("alibaba/FITrate.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            counts[row["category"]]["n_faults"] += int(row["count"])
            counts[row["category"]]["n_ue"] += int(row["count"]) * (row["failure_classification"] == "Uncorrectable")
    for mode in MODES:
        for entry in catalog.load("laws", "field")["shapes"][mode]:
            named = [
                category
                for category in counts
                if category in entry["source"].replace(",", " ").replace(";", " ").split()
            ]
            if mode != "word":
                assert named, entry["name"]
                for key in ("n_faults", "n_ue"):
                    assert sum(counts[category][key] for category in named) == entry[key], entry["name"]


def test_three_per_cent_of_faults_with_errors_spoil_hundreds_of_lines() -> None:
    """3 to 7 % of HBM banks with errors have hundreds of rows; most others have two, bad at different times."""
    table = load_fault_table("ddr4-alibaba")
    n_ue = {mode.name: mode.n_ue for mode in table.modes}
    large = sum(n * LAWS.lines[mode].p_more_than(99) for mode, n in n_ue.items()) / sum(n_ue.values())
    assert large == pytest.approx(0.03, abs=0.001)
    assert LAWS.lines["bank"].p_more_than(1) == pytest.approx(LAWS.lines["bank"].large_share)
    assert LAWS.lines["bank"].p_more_than(1563) == 0


@pytest.fixture
def smartmem_records(field_data: Callable[[str], Path]) -> dict[str, list[int]]:
    """Times of the corrected errors of each DIMM of the sample, in seconds."""
    times: dict[str, list[int]] = defaultdict(list)
    with gzip.open(field_data("smartmem/events.csv.gz"), "rt", newline="") as file:
        for row in csv.DictReader(file):
            times[row["src"]].append(int(row["LogTime"]))
    return times


def test_rates_of_corrected_errors_are_those_of_the_smartmem_sample(smartmem_records: dict[str, list[int]]) -> None:
    spans = {dimm: max((max(times) - min(times)) / 86400, 1) for dimm, times in smartmem_records.items()}
    rates = np.log([len(times) / spans[dimm] for dimm, times in smartmem_records.items()])
    assert len(rates) == 16
    assert LAWS.ce_per_day == pytest.approx(math.exp(rates.mean()), rel=0.02)
    assert LAWS.ce_spread == pytest.approx(rates.std(ddof=1), abs=0.05)


def test_days_with_corrected_errors_are_those_of_the_smartmem_sample(smartmem_records: dict[str, list[int]]) -> None:
    shares = []
    for times in smartmem_records.values():
        span = (max(times) - min(times)) / 86400
        if len(times) >= 10 and span > 1:
            shares.append(len({t // 86400 for t in times}) / span)
    assert len(shares) == 8
    assert LAWS.active_share == pytest.approx(float(np.median(shares)), abs=0.01)


def test_the_lead_is_the_share_of_faults_with_errors_over_their_hazard() -> None:
    table = load_fault_table("ddr4-alibaba")
    share = sum(mode.n_ue for mode in table.modes) / sum(mode.n_faults for mode in table.modes)
    assert LAWS.lead_years * 12 == pytest.approx(share / 0.0057, rel=0.01)


# ------------------------------------------------------------------------------------------------------ the line laws


def test_the_mean_of_a_line_law_is_that_of_its_tail() -> None:
    law = LinesLaw(small_mean=3.0, large_share=0.2, large_low=10, large_high=200)
    assert law.mean == pytest.approx(sum(law.p_more_than(n) for n in range(400)), rel=0.02)


# ------------------------------------------------------------------------------------------------------- wrong files


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("shape = 0.30", "shape = 0", "repeat.shape: 0 is not a number from 0.05 to 20"),
        ("shape = 0.30", 'shape = "k"', "repeat.shape: 'k' is not a number from 0.05 to 20"),
        ("scale_days = 115.0\n", "", "repeat.scale_days: missing; write a number from 0.001 to 1e+06"),
        ("value = 0.27", "value = 1.27", "corrected.sudden_share: 1.27 is not a number from 0 to 1"),
        ("[[shapes.row]]", "[[shapes.rwo]]", "shapes.rwo: unknown key; did you mean row?"),
        ("rows = { value = 512,", "rows = { value = 500,", "shapes.column[0].window.rows: 500 is not a power of two, nor 0 for all of them"),
        ("rows = { value = 512,", "rows = { valeu = 512,", "shapes.column[0].window.rows.valeu: unknown key; did you mean value?"),
        (ROW, "window.rows = 3\nwindow.lines = 0", "shapes.row[0].window.rows: 3 is not a power of two, nor 0 for all of them"),
        (ROW, "window.lines = 0", "shapes.row[0].window.rows: missing; write a whole number from 0 to 1073741824"),
        (ROW, "window.rows = { value = 1 }\nwindow.lines = 0", "shapes.row[0].window.rows: needs a source and a quality, one of measured-field, published, vendor, assumed"),
        (ROW_WINDOW, "", "shapes.row[0].window: missing; write window.rows, window.lines, window.banks, window.ranks, window.source, window.quality"),
        (ROW_WINDOW, "rows = 1\nlines = 0\nbanks = 1\nranks = 1\n", "shapes.row[0].rows: unknown key; allowed: name, window, n_faults, n_ue"),
        ("n_ue = 69", "n_ue = 6900", "shapes.row[0].n_ue: 6900 is more than the 2487 faults of n_faults, a share above 1"),
        ("large_low = 100\nlarge_high = 1563", "large_low = 100\nlarge_high = 10", "lines.column.large_high: 10 is below large_low, 100"),
        ("small_mean = 8.0", "small_mean = 0.5", "lines.row.small_mean: 0.5 is not a number from 1 to 1e+09"),
        ("ces = 50", "ces = 0", "thresholds.rasdaemon.ces: 0 is not a whole number from 1 to 1000000"),
        ("[bad_batch]", "[bad_btch]", "bad_btch: unknown key; did you mean bad_batch?"),
        ('failures"\nquality = "measured-field"', 'failures"\nquality = "sure"', "shapes.bit[0]: needs a source and a quality, one of measured-field, published, vendor, assumed"),
    ],
)  # fmt: skip
def test_what_is_said_of_wrong_laws(tmp_path: Path, old: str, new: str, problem: str) -> None:
    text = (resources.files(catalog) / "laws" / "field.toml").read_text()
    assert old in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ScenarioError) as caught:
        load_laws(path)
    assert f"{path}: {problem}" in caught.value.problems


def test_what_forms_reach_is_graded_apart_from_how_many_there_were() -> None:
    """Counts are data. What a category reaches is read from its name: only what the name itself says is published."""
    numbers = [n for n in catalog.numbers("laws", "field") if n.key.startswith("shapes.")]
    counts = {n.quality for n in numbers if n.key.rpartition(".")[2] in ("n_faults", "n_ue") and "word" not in n.key}
    assert counts == {"measured-field"}
    windows = {n.key: n for n in numbers if ".window." in n.key}
    assert {n.quality for n in windows.values()} == {"published", "assumed"}
    assert all(n.source.startswith("by definition") for n in windows.values() if n.quality == "published")
    assert len(windows) == 4 * sum(map(len, LAWS.shapes.values()))
    for key in ("row[1].window.rows", "column[0].window.rows", "bank[0].window.rows", "bank[1].window.lines"):
        assert windows[f"shapes.{key}"].quality == "assumed"
    for key in ("bit[0].window.lines", "row[0].window.rows", "row[0].window.lines"):
        assert windows[f"shapes.{key}"].quality == "published"


def test_a_window_without_source_is_complained_of_once(tmp_path: Path) -> None:
    text = (resources.files(catalog) / "laws" / "field.toml").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(text.replace('window.source = "by definition: all lines of one row"\n', "", 1))
    with pytest.raises(ScenarioError) as caught:
        load_laws(path)
    needs = "needs a source and a quality, one of measured-field, published, vendor, assumed"
    assert caught.value.problems == (f"{path}: shapes.row[0].window: {needs}",)


def test_laws_of_ones_own_may_be_a_copy(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text((resources.files(catalog) / "laws" / "field.toml").read_text())
    assert load_laws(path).shapes == LAWS.shapes
