"""Policies whose every answer is known are counted, not walked: the states are those that rules lead to."""

from __future__ import annotations

import numpy as np
import pytest

from poisonsim.engine import block
from poisonsim.engine.block import Paths, follow
from poisonsim.engine.plan import Plan, make_plan
from poisonsim.faults.history import draw_history
from poisonsim.scenario import Scenario, load_scenario

KNOWN = ["unmap1g", "hgm2m", "hgm4k"]


def paths_of(plan: Plan) -> tuple[Paths, ...]:
    return follow(plan, draw_history(plan.scenario, plan.seed, 0, plan.block_trials).first(plan.block_trials // 16), 0)


def assert_same(some: tuple[Paths, ...], others: tuple[Paths, ...]) -> None:
    for one, other in zip(some, others, strict=True):
        for name in ("states", "start", "grid", "state"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("scenario", ["seed-1t", "cloud-1t-ddr4", "arm64-1t"])
def test_counting_finds_what_walking_finds(scenario: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(load_scenario(scenario), KNOWN, seed=5)
    counted = paths_of(plan)
    monkeypatch.setattr(block, "answers_for", lambda known, start: None)
    assert_same(counted, paths_of(plan))


def test_more_states_than_there_is_room_for_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(Scenario(), KNOWN, seed=5)
    usual = paths_of(plan)
    monkeypatch.setattr(block, "FEW_STATES", 128)
    assert len(usual[1].states) > 128
    assert_same(usual, paths_of(plan))


def test_which_policies_have_known_answers() -> None:
    plan = make_plan(Scenario(), [*KNOWN, "migrate1g", "hgm4k-vma", "collapse-nightly"], seed=5)
    told = [plan.told(policy) for policy in plan.policies]
    assert [each.known is not None for each in told] == [True, True, True, False, False, False]
    assert [each.has_ledger for each in told] == [False, False, False, True, False, True]
