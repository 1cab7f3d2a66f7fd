"""Fleets of several scenarios: totals, intervals, independence of components, folders."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from math import comb
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import poisonsim as ps
from poisonsim.results.fleet_file import WHOLE
from poisonsim.results.fleet_totals import combined
from poisonsim.results.fleets import plan_fleet
from poisonsim.results.statistics import Estimate, binomial, binomial_quantile

POLICIES = ["unmap1g", "hgm2m"]


def parts(few: int = 10, **changes: int) -> list[ps.FleetPart]:
    """Two components whose VMs see few errors, and none or one."""
    sizes = {"many": 300, "one": 700} | changes
    many = ps.load_scenario("seed-1t", overrides=[f"faults.errors={few}", "horizon.years=2"])
    one = ps.load_scenario("seed-1t", overrides=["faults.errors=1", "horizon.years=2", "vm.memory=256GiB"])
    return [ps.FleetPart("many", many, sizes["many"]), ps.FleetPart("one", one, sizes["one"])]


@pytest.fixture(scope="module")
def found() -> ps.FleetRun:
    return ps.run_fleet(parts(), policies=POLICIES, trials=1000, seed=5)


def test_totals_are_sums_over_vms(found: ps.FleetRun) -> None:
    assert found.vms == 1000
    assert found.total("hgm2m", "errors").best == 300 * 10 + 700
    assert found.mean("hgm2m", "errors", 2).best == pytest.approx(3.7)
    lost = [result.mean("unmap1g", "vm_lost") for result in found.results]
    total = found.total("unmap1g", "vm_lost")
    assert total.best == pytest.approx(300 * lost[0].best + 700 * lost[1].best)
    below = np.hypot(300 * (lost[0].best - lost[0].low), 700 * (lost[1].best - lost[1].low))
    assert total.best - total.low == pytest.approx(below)


def test_the_summary_is_of_components_and_of_the_fleet(found: ps.FleetRun) -> None:
    frame = found.summary()
    for part, result in zip(found.parts, found.results, strict=True):
        own = frame[frame["component"] == part.name]
        pd.testing.assert_series_equal(own["mean"].reset_index(drop=True), result.summary()["mean"], check_names=False)
    whole = frame[(frame["component"] == WHOLE) & (frame["year"] == 2)].set_index(["policy", "metric"])
    assert set(whole["vms"]) == {1000}
    for policy, metric in product(POLICIES, ("vm_lost", "slowdown", "guest_lost_bytes")):
        mean = found.mean(policy, metric)
        row = whole.loc[(policy, metric)]
        assert tuple(row[["mean_low", "mean", "mean_high"]]) == pytest.approx((mean.low, mean.best, mean.high))
    assert whole.loc[("hgm2m", "errors"), "total"] == 3700
    assert np.isnan(whole.loc[("hgm2m", "slowdown"), "total"])
    assert {"life", 1, 2} == set(frame["year"])


def test_vms_to_drain_add_up(found: ps.FleetRun) -> None:
    table = found.exceeding("guest_lost_bytes >= 1GiB")
    at = table[(table["policy"] == "unmap1g") & (table["year"] == 2)].set_index("component")
    assert at.loc[WHOLE, "expected_vms"] == 1000  # every VM has an error by then
    early = table[(table["policy"] == "unmap1g") & (table["year"] == 1)].set_index("component")
    assert early.loc[WHOLE, "expected_vms"] == pytest.approx(early.loc[["many", "one"], "expected_vms"].sum())
    assert early.loc[WHOLE, "expected_vms"] < early.loc[WHOLE, "p95_vms"] < 1000
    assert list(table["component"].unique()) == ["many", "one", WHOLE]


def test_no_mixture_of_vms_exceeds_the_quantile_of_their_mean_probability() -> None:
    def pmf(n: int, p: float) -> np.ndarray:
        return np.array([comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)])

    for (n, p), (m, q) in product([(40, 0.01), (30, 0.2), (50, 0.9)], [(60, 0.05), (20, 0.5), (10, 0.0)]):
        law = np.cumsum(np.convolve(pmf(n, p), pmf(m, q)))
        bound = binomial_quantile(0.95, n + m, (n * p + m * q) / (n + m))
        assert law[bound] >= 0.95


@pytest.mark.parametrize(("p", "q"), [(0.02, 0.5), (0.1, 0.1), (0.0, 0.3), (0.9, 0.02)])
def test_the_joint_interval_of_two_components_holds_the_total_as_often_as_it_should(p: float, q: float) -> None:
    n, weights = 60, (6000.0, 2000.0)
    law = [np.array([comb(n, k) * r**k * (1 - r) ** (n - k) for k in range(n + 1)]) for r in (p, q)]
    each = [binomial(k, n) for k in range(n + 1)]
    right, held = weights[0] * p + weights[1] * q, 0.0
    for i, j in product(range(n + 1), repeat=2):
        if law[0][i] * law[1][j] > 1e-9:
            found = combined(zip(weights, (each[i], each[j]), strict=True))
            held += law[0][i] * law[1][j] * (found.low <= right + 1e-9 and right <= found.high + 1e-9)
    assert 0.94 < held <= 1  # exact intervals are held more often than 95 %


def test_one_exact_component_keeps_the_others_interval() -> None:
    one = combined([(3.0, Estimate(1.0, 2.0, 4.0, "bytes")), (2.0, Estimate(7.0, 7.0, 7.0, "bytes"))], "bytes")
    assert one == Estimate(17.0, 20.0, 26.0, "bytes")


def test_components_are_independent_and_policies_within_meet_the_same_errors() -> None:
    same = ps.load_scenario("cloud-1t-ddr4")
    plan = plan_fleet([ps.FleetPart("a", same, 1), ps.FleetPart("b", same, 1)], policies=POLICIES, seed=3)
    seeds = [run.seed for _, run in plan.parts]
    assert len(set(seeds)) == 2 and 3 not in seeds
    fleet = ps.run_fleet(parts(), policies=POLICIES, trials=1000, seed=5)
    for result in fleet.results:
        assert result.compare("hgm2m", to="unmap1g").differences("errors").mean().high == 0


def test_a_component_does_not_depend_on_the_others(found: ps.FleetRun) -> None:
    alone = ps.run_fleet(parts()[1:], policies=POLICIES, trials=1000, seed=5, threads=1)
    pd.testing.assert_frame_equal(alone.results[0].summary(), found.results[1].summary())
    plain = ps.run(parts()[1].scenario, policies=POLICIES, trials=1000, seed=alone.results[0].plan.seed)
    assert plain.plan.run_id == alone.results[0].plan.run_id


def test_an_executor_computes_the_same(found: ps.FleetRun) -> None:
    with ThreadPoolExecutor(2) as executor:
        other = ps.run_fleet(parts(), policies=POLICIES, trials=1000, seed=5, executor=executor)
    pd.testing.assert_frame_equal(other.summary(), found.summary())


def test_a_fleet_folder_is_opened_and_gone_on_with(found: ps.FleetRun, tmp_path: Path) -> None:
    here = tmp_path / "fleet"
    made = ps.run_fleet(parts(), policies=POLICIES, trials=1000, seed=5, out=here)
    pd.testing.assert_frame_equal(made.summary(), found.summary())
    opened = ps.open_fleet(here)
    pd.testing.assert_frame_equal(opened.summary(), found.summary())
    assert repr(opened) == "<poisonsim fleet: 300 many, 700 one; unmap1g, hgm2m; seed 5>"
    table = (here / "fleet.csv").read_bytes()
    (here / "fleet.csv").unlink()
    shutil.rmtree(here / "components" / "one")  # as if it had been stopped between the two
    ps.run_fleet(parts(), policies=POLICIES, trials=1000, seed=5, out=here)
    assert (here / "fleet.csv").read_bytes() == table


def test_other_numbers_of_vms_need_no_new_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from poisonsim.engine import run

    here = tmp_path / "fleet"
    ps.run_fleet(parts(), policies=["hgm2m"], trials=2000, out=here)

    def refuse(*_: object) -> None:
        raise AssertionError("a trial ran")

    monkeypatch.setattr(run, "run_block", refuse)
    more = ps.run_fleet(parts(many=500), policies=["hgm2m"], trials=2000, out=here)
    assert (more.vms, ps.open_fleet(here).vms) == (1200, 1200)
    assert pd.read_csv(here / "fleet.csv")["vms"].max() == 1200


def test_fewer_trials_leave_what_a_folder_holds(tmp_path: Path) -> None:
    here = tmp_path / "fleet"
    ps.run_fleet(parts(), policies=["hgm2m"], trials=2000, out=here)
    table = (here / "fleet.csv").read_bytes()
    with pytest.warns(ps.errors.RunFolderNotice, match="holds this fleet with more trials and keeps it"):
        ps.run_fleet(parts(), policies=["hgm2m"], trials=1000, out=here)
    assert (here / "fleet.csv").read_bytes() == table


def test_other_folders_are_refused(tmp_path: Path) -> None:
    here = tmp_path / "fleet"
    ps.run_fleet(parts(), policies=["hgm2m"], trials=1000, out=here)
    with pytest.raises(ps.RunFolderError, match="holds another fleet"):
        ps.run_fleet(parts(few=11), policies=["hgm2m"], trials=1000, out=here)
    with pytest.raises(ps.RunFolderError, match=r"is a fleet folder; its page is fleet\.html"):
        ps.open_run(here)
    with pytest.raises(ps.RunFolderError, match="no fleet folder"):
        ps.open_fleet(here / "components" / "one")
    manifest = json.loads((here / "fleet.json").read_text())
    for change, told in {
        "{": "cannot be read as JSON",
        json.dumps(manifest | {"schema": "poisonsim.fleet-folder/9"}): "another version wrote it",
        json.dumps(manifest | {"components": [{"name": "../x", "vms": 1, "trials": 1}]}): "is not as it was written",
        json.dumps(manifest | {"components": manifest["components"][:1]}): "does not match its id",
        json.dumps(
            manifest | {"components": [{"name": "one", "vms": 0, "trials": 1000}]}
        ): "one: vms = 0 is not a whole",
    }.items():
        (here / "fleet.json").write_text(change)
        with pytest.raises(ps.RunFolderError, match=told):
            ps.open_fleet(here)


def test_mistakes_in_code_are_told() -> None:
    one, other = parts()
    later = ps.FleetPart("later", one.scenario.replace({"horizon.years": 3}), 1)
    for fleet, told in (
        ([], "is neither a TOML file nor a list of FleetPart"),
        (3, "fleet = 3 is neither a TOML file"),
        ([one.scenario], "is neither a TOML file nor a list of FleetPart"),
        ([one, one], "more than one component is called many"),
        ([one, later], "different horizons, in years: many 2, later 3"),
    ):
        with pytest.raises(ps.ScenarioError, match=told):
            ps.run_fleet(fleet, policies=["hgm2m"])  # type: ignore[arg-type]
    with pytest.raises(ps.ScenarioError, match="seed = -1 is not"):
        ps.run_fleet([one], policies=["hgm2m"], seed=-1)
    with pytest.raises(ps.ScenarioError, match="trials = 0 is not a whole number of at least 1; in component many"):
        ps.run_fleet([one, other], policies=["hgm2m"], trials=0)
    with pytest.raises(ps.PolicyError) as caught:
        ps.run_fleet([one, other], policies=["hgm2"])
    assert len(caught.value.problems) == 1
    with pytest.raises(ps.ScenarioError, match="old/er: name = 'old/er' cannot name a folder"):
        ps.FleetPart("old/er", one.scenario, 1)
    with pytest.raises(ps.ScenarioError, match="'seed-1t' is no Scenario"):
        ps.FleetPart("old", "seed-1t", 1)  # type: ignore[arg-type]
