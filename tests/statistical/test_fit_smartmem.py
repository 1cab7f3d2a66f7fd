"""A fit of the SmartMem sample: real corrected errors of 16 DIMMs, with their cells and physical addresses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import poisonsim as ps


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> ps.Fit:
    of: Callable[[str], Path] = request.getfixturevalue("field_data")
    return ps.fit(of("smartmem/events.csv.gz"))


def test_modes_are_told_from_real_coordinates(found: ps.Fit) -> None:
    assert found.observed.n_corrected == 64_748 and len(found.observed.hosts) == 16
    names = found.observed.hosts
    modes = {(names[fault.host], fault.mode): fault.n_cells for fault in found.faults}
    assert modes["sn_10", "row"] == 10  # columns of row 53,266
    assert {mode for name, mode in modes if name == "sn_16171"} == {"bank"}  # 61 cells in nine rows
    assert {mode for name, mode in modes if name == "sn_7"} == {"bit", "row"}  # stray bits beside row 88,398
    assert modes["sn_5", "row"] >= 12  # of row 82,702
    assert sum(mode.n for mode in found.modes) == len(found.faults)


def test_the_maps_of_two_hosts_are_those_of_the_catalogue(found: ps.Fit) -> None:
    names = found.observed.hosts
    known = {names[each.host]: each.known for each in found.maps if each.known}
    assert known == {"sn_10": "skx-closed-6ch", "sn_16171": "skx-open-fbg-6ch"}
    best = {names[each.host]: each.fit for each in found.maps if each.explained}
    assert best["sn_16171"] is not None and best["sn_16171"].residual_bytes == 0
    assert any("no map of those tried" in each.why for each in found.maps if names[each.host] == "sn_7")


def test_what_the_sample_cannot_say_is_refused(found: ps.Fit) -> None:
    assert {"hosts.with_ue", "dispersion.ue", "shape"} <= {refusal.name for refusal in found.refusals}
    assert any("the log has no UE" in notice for notice in found.notices)
    with pytest.raises(ps.FitError, match="there is no UE"):
        found.to_toml()


@pytest.mark.parametrize(("threshold", "ces"), [("mcelog", 2), ("rasdaemon", 50)])
def test_storms_that_cross_a_threshold_move_regions(
    threshold: str, ces: int, field_data: Callable[[str], Path]
) -> None:
    log = field_data("smartmem/events.csv.gz")
    found = ps.replay(log, policies=["hgm2m", "soft-offline"], ce_threshold=threshold, imputations=1)
    rows = pd.read_csv(log, usecols=["src", "LogTime", "MciAddr"])
    pages: dict[str, set[int]] = {}
    for (name, page), own in rows.assign(page=rows.MciAddr // 4096).groupby(["src", "page"]):
        times = sorted(own.LogTime)
        if any(last - first <= 86_400 for first, last in zip(times, times[ces - 1 :], strict=False)):
            pages.setdefault(name, set()).add(page)
    passed = dict(zip(found.hosts["host"], found.hosts["passed"], strict=True))
    assert {name: n for name, n in passed.items() if n} == {name: len(own) for name, own in pages.items()}
    by_policy = found.fleet().set_index(["policy", "metric"])["mean"]
    regions = sum(len({page >> 18 for page in own}) for own in pages.values())
    spares = found.plan.scenario.host.spares
    used = sum(min(len({page >> 18 for page in own}), spares) for own in pages.values())
    assert by_policy["soft-offline", "spares_used"] == used <= regions
    assert by_policy["hgm2m", "leaves_1g"] == 16 * 1024  # it acts on uncorrected errors only
    assert found.modes.set_index("mode")["ce_pages"].sum() == passed_in_cells(found) == sum(passed.values())


def passed_in_cells(found: ps.Replay) -> float:
    """Pages that passed and whose fault is known: all of this log, as every record names its cell."""
    return float(found.modes[found.modes["mode"] != "unknown"]["ce_pages"].sum())
