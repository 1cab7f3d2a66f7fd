"""A fit of the SmartMem sample: real corrected errors of 16 DIMMs, with their cells and physical addresses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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
