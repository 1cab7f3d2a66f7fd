"""Histories of a known model, written as logs, read and fitted: the truth is in the intervals as often as they say.

Each test says how often it fails by chance though all is right: once in a million, for every number it looks at.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

import poisonsim as ps
from poisonsim.faults.address_map import load_address_map
from poisonsim.faults.field import field_model
from poisonsim.faults.geometry import load_dimm
from poisonsim.faults.history import draw_history
from poisonsim.fitting.counts import HostCounts, rate_interval
from poisonsim.fitting.exposure import US_PER_YEAR, Exposure
from poisonsim.logs import EventBatch, FoundBy, Kind, Names, write
from poisonsim.scenario import Scenario

FALSE_ALARM = 1e-6
SEED = int(os.environ.get("POISONSIM_TEST_SEED", "1"))
BEGIN = np.datetime64("2020-01-01", "us")
FORMATS = ("csv", "parquet", "rasdaemon", "kernel", "mcelog", "trace")
ONE_HOST = ("rasdaemon", "mcelog", "trace")
"""Formats that name no host, so that every host has a file."""


def fleet(scenario: Scenario, n_hosts: int, seed: int) -> EventBatch:
    """The errors of hosts whose VM is all their memory."""
    history = draw_history(scenario, seed, 0, n_hosts)
    assert not history.stratum.any(), "hosts of strata are no fair sample of a fleet"
    order = np.argsort(history.years, kind="stable")
    found = np.where(history.ar == 1, FoundBy.READ, FoundBy.SCRUB)
    return EventBatch.of(
        kind=np.full(len(order), Kind.UE), time=BEGIN + (history.years[order] * US_PER_YEAR).astype("m8[us]"),
        address=history.page[order] * 4096, severity=history.ar[order], found_by=found[order], grain_bytes=64,
        host=np.repeat(history.trial, np.diff(history.start))[order], hosts=Names(f"h{i}" for i in range(n_hosts)),
    )  # fmt: skip


def fitted(logs: Any, scenario: Scenario, n_hosts: int, **given: Any) -> ps.Fit:
    until = BEGIN + np.timedelta64(round(scenario.horizon.years * US_PER_YEAR), "us")
    return ps.fit(
        logs, hosts=n_hosts, memory=scenario.vm.memory_bytes, since=BEGIN, until=until, installed=BEGIN, **given
    )


def held(found: ps.Fit, name: str, truth: float) -> bool:
    estimate = found[name].estimate
    return estimate.low <= truth <= estimate.high


def fewest(n: int, share: float = 0.95) -> int:
    """What n intervals of 95 % hold the truth no less often than, but once in a million."""
    return int(binom.ppf(FALSE_ALARM, n, share))


def coverage(folder: Path, scenario: Scenario, n_hosts: int, n_fits: int) -> Counter[str]:
    faults, held_by = scenario.faults, Counter[str]()
    assert isinstance(faults, ps.RateFaults)
    truth = {
        "rate.ue_per_tib_year": faults.ue_per_tib_year, "rate.ue_per_tib_year_wide": faults.ue_per_tib_year,
        "dispersion.ue": faults.dispersion, "shape": faults.shape,
    }  # fmt: skip
    log = folder / "errors.csv"
    for i in range(n_fits):
        write(fleet(scenario, n_hosts, SEED * 1_000_000 + i), log, format="csv")
        found = fitted(log, scenario, n_hosts)
        held_by.update(name for name, value in truth.items() if held(found, name, value))
        held_by["alike"] += next(check.holds for check in found.checks if check.name == "alike.ue")
        held_by["even"] += next(check.holds for check in found.checks if check.name == "even")
        held_by["field"] += found.model == "field"
    return held_by


def scenario_of(dispersion: float, shape: float, rate: float = 0.3) -> Scenario:
    """Most hosts have an error, so that trials are drawn alike and are a fair sample."""
    faults = ps.RateFaults(ue_per_tib_year=rate, dispersion=dispersion, shape=shape)
    return Scenario(faults=faults, horizon=ps.Horizon(years=5))


def test_hosts_alike(tmp_path: Path) -> None:
    n = 60
    found = coverage(tmp_path, scenario_of(0.0, 1.0), 60, n)
    for name in ("rate.ue_per_tib_year", "rate.ue_per_tib_year_wide", "dispersion.ue", "shape"):
        assert found[name] >= fewest(n), name
    assert found["alike"] >= fewest(n, 0.99) and found["even"] >= fewest(n, 0.99)
    assert found["field"] <= n - fewest(n, 0.97)  # three checks of 1 % each


def test_hosts_that_differ_and_age(tmp_path: Path) -> None:
    n = 50
    found = coverage(tmp_path, scenario_of(1.0, 1.8), 80, n)
    for name in ("rate.ue_per_tib_year_wide", "dispersion.ue", "shape"):
        assert found[name] >= fewest(n), name
    assert found["rate.ue_per_tib_year"] < found["rate.ue_per_tib_year_wide"]
    assert found["even"] < n / 2  # a rate that rises is told from a constant one


@pytest.mark.parametrize(("mean", "dispersion"), [(0.04, 0.0), (0.04, 3.0), (0.4, 0.5)])
def test_hosts_that_mostly_have_no_error(mean: float, dispersion: float) -> None:
    """Counts of hosts drawn here, as the engine draws such fleets by strata; 94 % as in `test_many_fits`."""
    n_hosts, n, rng = 400, 100, np.random.default_rng(SEED)
    exposure = Exposure(n_hosts, 1 << 40, 0, round(US_PER_YEAR))
    held_by = Counter[str]()
    for _ in range(n):
        frailty = rng.gamma(1 / dispersion, dispersion, n_hosts) if dispersion else np.ones(n_hosts)
        counts = HostCounts(rng.poisson(mean * frailty))
        rate, (low, high) = rate_interval(counts, exposure), counts.dispersion_interval
        held_by["rate"] += rate.low <= mean <= rate.high
        held_by["dispersion"] += low <= dispersion <= high
    assert held_by["rate"] >= fewest(n, 0.94) and held_by["dispersion"] >= fewest(n, 0.94)


@pytest.mark.long
@pytest.mark.parametrize(
    ("dispersion", "shape", "rate"), [(0.0, 1.0, 0.3), (0.5, 0.7, 0.3), (2.0, 1.0, 0.6), (1.0, 2.5, 0.3)]
)
def test_many_fits(tmp_path: Path, dispersion: float, shape: float, rate: float) -> None:
    """Profile intervals are of the likelihood, and of so few errors hold a little less often than they say: 94 %."""
    n = 1000
    found = coverage(tmp_path, scenario_of(dispersion, shape, rate), 80, n)
    for name in ("rate.ue_per_tib_year_wide", "dispersion.ue", "shape"):
        assert found[name] >= fewest(n, 0.94), name
    if not dispersion:
        assert found["rate.ue_per_tib_year"] >= fewest(n)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> tuple[EventBatch, Scenario, ps.Fit]:
    scenario, folder = scenario_of(1.0, 1.0), tmp_path_factory.mktemp("one")
    events = fleet(scenario, 30, SEED)
    events = events[np.isin(events.host, np.unique(events.host)[:12])]
    write(events, folder / "errors.csv", format="csv")
    return events, scenario, fitted(folder / "errors.csv", scenario, 30)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_numbers(
    tmp_path: Path, name: str, one: tuple[EventBatch, Scenario, ps.Fit]
) -> None:
    events, scenario, known = one
    logs = []
    for host in np.unique(events.host) if name in ONE_HOST else [None]:
        path = tmp_path / f"{'all' if host is None else events.hosts[host]}.log"
        write(events if host is None else events[events.host == host], path, format=name)
        logs.append(path)
    found = fitted(logs, scenario, 30)
    assert [f.name for f in found.findings] == [f.name for f in known.findings]
    for a, b in zip(found.findings, known.findings, strict=True):  # times are kept to the second at least
        assert (a.estimate.low, a.estimate.best, a.estimate.high) == pytest.approx(
            (b.estimate.low, b.estimate.best, b.estimate.high), rel=1e-4
        ), a.name
        assert a.counts == b.counts


def test_faults_of_the_field_model_are_found_as_incidents(tmp_path: Path) -> None:
    """All DIMMs of the host back the VM, so that every fault is seen; few are so near that they are taken for one."""
    changes = {"vm.memory": "1152GiB", "faults.scale": 12.0, "horizon.years": 5}
    scenario, n = ps.load_scenario("cloud-1t-ddr4", overrides=changes), 8
    truth = field_model(scenario).mean / 5 / (scenario.vm.memory_bytes / 2**40)
    log, held_by = tmp_path / "errors.csv", Counter[str]()
    for i in range(n):
        write(fleet(scenario, 60, SEED * 1_000_000 + i), log, format="csv")
        found = fitted(log, scenario, 60)
        held_by["rate"] += held(found, "rate.incident_per_tib_year_wide", truth)
        held_by["pages"] += held(found, "rate.ue_per_tib_year", truth)
        held_by[found.model] += 1
    assert held_by["rate"] >= fewest(n, 0.93) and held_by["field"] == n and held_by["pages"] < n / 2
    [text] = found.to_toml().values()
    (tmp_path / "model.toml").write_text(text)
    again = ps.load_scenario(tmp_path / "model.toml").faults
    assert isinstance(again, ps.FieldFaults) and 6 < again.scale < 24


@pytest.mark.parametrize(("name", "n_told"), [("skx-closed-6ch", 3), ("skx-open-fbg-6ch", 2)])
def test_modes_and_maps_that_cells_were_made_with_are_found(
    tmp_path: Path, name: str, n_told: int, made_up_faults: Callable[[str], EventBatch]
) -> None:
    """With open pages one row lies within 1 MiB, which tells no map from another."""
    write(made_up_faults(name), tmp_path / "errors.csv", format="csv")
    found = ps.fit(
        tmp_path / "errors.csv", hosts=40, memory="192GiB", since="2020-01-01", until="2021-01-01", model="field"
    )
    assert {found.observed.hosts[fault.host]: fault.mode for fault in found.faults} == {
        "a": "row", "b": "column", "c": "bank", "d": "bit", "e": "bit",
    }  # fmt: skip
    assert [each.known for each in found.maps if each.explained] == [name] * n_told
    assert f'map = "{name}"' in found.to_toml()["model.toml"]


@pytest.fixture
def made_up_faults() -> Callable[[str], EventBatch]:
    dimm = load_dimm("ddr4-32g-2rx4")

    def of(name: str) -> EventBatch:
        amap, rng = load_address_map(name, dimm), np.random.default_rng(SEED)
        rows = rng.choice(dimm.n_rows, 30, replace=False)
        lines = 8 * rng.choice(dimm.n_lines_per_row, 30, replace=False)
        fixed = np.zeros(30, np.int64)
        places = {"a": (fixed + 77_000, lines), "b": (rows, fixed + 64), "c": (rows, lines), "d": (rows[:1], lines[:1]),
                  "e": (rows[:1], lines[:1])}  # fmt: skip
        parts = []
        hosts = Names(places)
        for host, (row, column) in places.items():
            one, zero = np.ones_like(row), np.zeros_like(row)
            where = amap.decode(zero)._replace(
                controller=one, channel=one, rank=one, bank_group=3 * one, bank=one, row=row, column=column
            )
            parts.append(EventBatch.of(
                kind=np.where(np.arange(len(row)) == 0, Kind.UE, Kind.CE), address=amap.encode(where) + (3 << 30),
                grain_bytes=64, time=BEGIN + (rng.random(len(row)) * 0.9 * US_PER_YEAR).astype("m8[us]"),
                host=hosts.number(host), hosts=hosts, labels=LABELS, label=0, rank=one, bank_group=3 * one, bank=one,
                row=row, column=column,
            ))  # fmt: skip
        return EventBatch.concat(parts).in_order()

    return of


LABELS = Names(["DIMM_A1"])
