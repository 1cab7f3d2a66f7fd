"""Histories: pure functions of scenario, seed and block; never of policies, threads or the number of trials."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from poisonsim.faults.history import History, draw_history
from poisonsim.faults.streams import Purpose, stream
from poisonsim.scenario import CountFaults, FieldFaults, Horizon, RateFaults, Scenario, Vm

SCENARIOS = {
    "count": Scenario(faults=CountFaults(errors=30)),
    "distinct": Scenario(faults=CountFaults(errors=30, placement="distinct-regions")),
    "sparse": Scenario(faults=RateFaults(ue_per_tib_year=0.02)),
    "dense": Scenario(faults=RateFaults(ue_per_tib_year=2.0)),
    "frail": Scenario(faults=RateFaults(ue_per_tib_year=0.02, dispersion=5.0)),
    "frail and dense": Scenario(faults=RateFaults(ue_per_tib_year=2.0, dispersion=0.5)),
    "ageing": Scenario(faults=RateFaults(ue_per_tib_year=2.0, shape=3.0)),
    "infant": Scenario(faults=RateFaults(ue_per_tib_year=2.0, shape=0.5)),
    "field": Scenario(faults=FieldFaults(scale=10.0)),
    "small pages": Scenario(vm=Vm(memory="64GiB", backing="2M"), faults=CountFaults(errors=30)),
}
FIELDS = [field.name for field in dataclasses.fields(History)]


def same(a: History, b: History) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in FIELDS)


@pytest.fixture(params=SCENARIOS)
def scenario(request: pytest.FixtureRequest) -> Scenario:
    return SCENARIOS[request.param]


def test_a_history_is_a_pure_function_of_scenario_seed_and_block(scenario: Scenario) -> None:
    first = draw_history(scenario, 7, 3, 512)
    draw_history(scenario, 8, 0, 100)  # nothing is carried over from one call to the next
    assert same(first, draw_history(scenario, 7, 3, 512))
    assert same(first, draw_history(dataclasses.replace(scenario, title="another title"), 7, 3, 512))


def test_seeds_and_blocks_have_streams_of_their_own(scenario: Scenario) -> None:
    pages = [draw_history(scenario, seed, block, 512).page for seed, block in ((7, 3), (7, 4), (8, 3), (2**40, 3))]
    n = min(map(len, pages))
    assert n > 10
    equal = [(pages[i][:n] == pages[j][:n]).mean() for i in range(4) for j in range(i)]
    assert max(equal) < 0.2


def test_a_history_is_well_formed(scenario: Scenario) -> None:
    history, vm, horizon = draw_history(scenario, 7, 0, 2048), scenario.vm, scenario.horizon
    assert (history.trial >= 0).all() and (history.trial < 2048).all() and (np.diff(history.trial) > 0).all()
    assert history.start[0] == 0 and history.start[-1] == len(history.page) == len(history.years) == len(history.fate)
    assert len(history.start) == len(history.trial) + 1
    # a fault may strike beyond the VM's share of the host's memory, or be found after the horizon
    assert (np.diff(history.start) >= (0 if isinstance(scenario.faults, FieldFaults) else 1)).all()
    assert set(np.unique(history.ar).tolist()) <= {0, 1}
    assert (history.page >= 0).all() and (history.page < vm.n_base_pages).all()
    assert (history.years >= 0).all() and (history.years <= horizon.years).all()
    assert (history.fate >= 0).all() and (history.fate < 1).all()
    assert len(history.stratum) == len(history.trial)
    assert [getattr(history, name).dtype for name in FIELDS] == [np.int64] * 4 + [np.float64] * 3 + [np.uint8] * 3


def test_times_ascend_within_each_trial(scenario: Scenario) -> None:
    history = draw_history(scenario, 7, 0, 2048)
    steps = np.diff(history.years)
    between_trials = np.zeros(len(steps), bool)
    first = history.start[:-1][np.diff(history.start) > 0]
    between_trials[first[1:] - 1] = True
    assert (steps[~between_trials] >= 0).all()
    if len(history.page) > 3 * len(history.trial) and not isinstance(scenario.faults, FieldFaults):
        assert (steps[between_trials] < 0).mean() > 0.9


@pytest.mark.parametrize("n", [0, 1, 100, 511, 512])
def test_the_first_trials_are_a_prefix(scenario: Scenario, n: int) -> None:
    whole = draw_history(scenario, 7, 1, 512)
    part = whole.first(n)
    n_hit = int((whole.trial < n).sum())
    n_events = int(whole.start[n_hit])
    assert np.array_equal(part.trial, whole.trial[:n_hit])
    assert np.array_equal(part.stratum, whole.stratum[:n_hit])
    assert np.array_equal(part.start, whole.start[: n_hit + 1])
    for name in ("page", "years", "born", "fate", "ar", "mode"):
        assert np.array_equal(getattr(part, name), getattr(whole, name)[:n_events])
    assert len(part.page) == n_events


def test_all_of_a_block_is_its_own_prefix(scenario: Scenario) -> None:
    whole = draw_history(scenario, 7, 1, 512)
    assert same(whole, whole.first(512))


def test_distinct_regions_are_distinct_in_every_trial() -> None:
    for errors, regions in ((100, 1024), (8, 8), (1, 3)):
        vm = Vm(memory=regions << 30)
        scenario = Scenario(vm=vm, faults=CountFaults(errors=errors, placement="distinct-regions"))
        history = draw_history(scenario, 5, 0, 300)
        hit = (history.page // vm.pages_per_region).reshape(300, errors)
        assert all(len(set(row)) == errors for row in hit.tolist())
        assert hit.min() >= 0 and hit.max() < regions


def test_where_and_when_do_not_depend_on_each_other() -> None:
    base = Scenario(faults=CountFaults(errors=20))
    later = dataclasses.replace(base, horizon=Horizon(years=10))
    spread = dataclasses.replace(base, faults=CountFaults(errors=20, placement="distinct-regions"))
    a, b, c = (draw_history(scenario, 7, 0, 64) for scenario in (base, later, spread))
    assert np.array_equal(a.page, b.page) and np.allclose(2 * a.years, b.years, rtol=1e-15)
    assert np.array_equal(a.years, c.years) and not np.array_equal(a.page, c.page)
    assert np.array_equal(a.fate, b.fate) and np.array_equal(a.fate, c.fate)


def test_ageing_only_bends_the_clock() -> None:
    steady, ageing = (
        draw_history(Scenario(faults=RateFaults(ue_per_tib_year=2.0, shape=shape)), 7, 0, 256) for shape in (1.0, 3.0)
    )
    assert np.array_equal(steady.page, ageing.page)
    assert np.allclose((ageing.years / 5) ** 3, steady.years / 5, rtol=1e-12)


def test_streams_differ_by_seed_purpose_and_block() -> None:
    draws = {
        (seed, purpose, block): tuple(stream(seed, purpose, block).integers(2**63, size=4).tolist())
        for seed in (0, 1, 2**32, 2**64 - 1)
        for purpose in Purpose
        for block in (0, 1, 2**20)
    }
    assert len(set(draws.values())) == len(draws)
    again = stream(1, Purpose.GUEST, 2**20).integers(2**63, size=4)
    assert tuple(again.tolist()) == draws[1, Purpose.GUEST, 2**20]


def test_no_errors_in_distinct_regions_are_no_events() -> None:
    scenario = Scenario(faults=CountFaults(errors=0, placement="distinct-regions"))
    assert len(draw_history(scenario, seed=1, block=0, n_trials=8).page) == 0
