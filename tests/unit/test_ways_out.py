"""Shipped policies against what their prose says, in closed form: 100 errors in 100 regions of a 1 TiB VM."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import poisonsim as ps
from poisonsim.policy import BACKING, KEEP, RESTART, every, on
from poisonsim.units import GIB

HOST = ["host.spares=200", "host.spare_hosts=1000", "host.moves_poison=true"]
POLICIES = [
    "unmap1g", "hgm4k", "hgm2m", "migrate1g", "keep-mapped", "collapse-nightly", "hgm2m-then-migrate:n=1",
    "hgm2m-then-migrate:n=512", "restart-after", "restart-after:n=4", "evacuate-after", "evacuate-after:n=1000",
]  # fmt: skip
POISON = 100 * 4096
SPLIT_TABLES, SPLIT_4K = 16_752, 4_296_888


@pytest.fixture(scope="module")
def at_end() -> dict[str, pd.DataFrame]:
    scenario = ps.load_scenario("seed-1t-distinct", overrides=HOST)
    samples = ps.run(scenario, policies=POLICIES, trials=1000, seed=3).samples()
    return {policy: frame.reset_index(drop=True) for policy, frame in samples.groupby("policy")}


def same(frame: pd.DataFrame, **expected: float) -> None:
    for metric, value in expected.items():
        np.testing.assert_allclose(frame[metric], value, rtol=1e-12, err_msg=metric)


def test_kept_poison_costs_a_page_each_and_nothing_else(at_end: dict[str, pd.DataFrame]) -> None:
    same(
        at_end["keep-mapped"], leaves_1g=1024, table_bytes=0, guest_lost_bytes=POISON, host_lost_bytes=POISON,
        spares_used=0, stranded_bytes=0, reserved_bytes=0, vmemmap_bytes=0, tlb_reach_loss=0,
    )  # fmt: skip


def test_after_a_night_4k_leaves_are_as_if_they_had_been_split_in_steps(at_end: dict[str, pd.DataFrame]) -> None:
    """Only errors of the last six hours, after the last night, still have all their leaves of 4K."""
    frame = at_end["collapse-nightly"]
    fresh = (frame["table_bytes"] - 100 * SPLIT_TABLES) / (SPLIT_4K - SPLIT_TABLES)
    assert set(fresh) <= {0.0, 1.0} and 0 < fresh.sum() < 50
    same(frame, guest_lost_bytes=POISON, leaves_1g=924, leaves_2m=511 * (100 - fresh))
    same(frame, leaves_4k=511 * (100 - fresh) + 262_143 * fresh)
    nights = frame["stall_seconds"] - at_end["hgm4k"]["stall_seconds"]
    np.testing.assert_allclose(nights, 100 - fresh, rtol=1e-9)  # a second for each collapse


def test_moving_at_the_first_poison_is_migrating(at_end: dict[str, pd.DataFrame]) -> None:
    a, b = at_end["hgm2m-then-migrate:n=1"], at_end["migrate1g"]
    hvo = ["policy", "vmemmap_bytes", "capacity_cost_bytes"]  # it could split, and is charged for that
    pd.testing.assert_frame_equal(a.drop(columns=hvo), b.drop(columns=hvo))
    same(a, leaves_1g=1024, guest_lost_bytes=POISON, spares_used=100, worst_stall_seconds=0.152014)


@pytest.mark.parametrize("policy", ["hgm2m-then-migrate:n=512", "evacuate-after:n=1000"])
def test_a_guard_that_never_holds_changes_nothing(at_end: dict[str, pd.DataFrame], policy: str) -> None:
    held = ["policy", "reserved_bytes", "vmemmap_bytes", "capacity_cost_bytes"]  # spares that a rule might take
    pd.testing.assert_frame_equal(at_end[policy].drop(columns=held), at_end["hgm2m"].drop(columns=held))


def test_restarting_at_every_poison_gives_everything_back_for_a_spare_each(at_end: dict[str, pd.DataFrame]) -> None:
    frame = at_end["restart-after"]
    same(
        frame, guest_lost_bytes=0, leaves_1g=1024, spares_used=100, restarts=100, host_lost_bytes=100 * GIB,
        reserved_bytes=100 * GIB, vm_lost=0, guest_faults=100, stall_seconds=100 * 120.058, worst_stall_seconds=120.058,
    )  # fmt: skip


def test_restarting_at_every_fourth_poison(at_end: dict[str, pd.DataFrame]) -> None:
    """100 is 25 times 4: after the last restart nothing is lost, though the guest died of its holes many a time."""
    frame = at_end["restart-after:n=4"]
    same(frame, guest_lost_bytes=0, leaves_1g=1024, spares_used=100, restarts=25, host_lost_bytes=100 * GIB)
    assert frame["vm_lost"].mean() > 0.99


def test_evacuating_at_every_third_poison(at_end: dict[str, pd.DataFrame]) -> None:
    """33 moves; the hundredth error strikes the 34th host, and what was poisoned before stays retired."""
    same(
        at_end["evacuate-after"], evacuations=33, guest_lost_bytes=POISON, host_lost_bytes=4096, leaves_1g=1023,
        leaves_2m=511, leaves_4k=511, table_bytes=SPLIT_TABLES, worst_stall_seconds=0.05,
    )  # fmt: skip


def test_memory_lost_and_tables_keep_their_order(at_end: dict[str, pd.DataFrame]) -> None:
    lost = {name: frame["guest_lost_bytes"].to_numpy() for name, frame in at_end.items()}
    tables = {name: frame["table_bytes"].to_numpy() for name, frame in at_end.items()}
    assert (lost["hgm4k"] == lost["hgm2m"]).all() and (lost["hgm2m"] <= lost["unmap1g"]).all()
    assert (tables["hgm2m"] <= tables["collapse-nightly"]).all()
    assert (tables["collapse-nightly"] <= tables["hgm4k"]).all()
    for frame in at_end.values():
        assert (frame["spares_used"] <= 200).all()
        assert (frame["worst_stall_seconds"] <= frame["stall_seconds"]).all()


def test_without_spares_and_hosts_they_fall_back() -> None:
    scenario = ps.load_scenario("seed-1t", overrides=["host.spares=2", "host.spare_hosts=1", "host.moves_poison=true"])
    res = ps.run(scenario, policies=["restart-after", "evacuate-after:n=1"], trials=200, seed=1)
    assert res.distribution("restart-after", "restarts").mean().best == 2
    assert res.distribution("restart-after", "spares_exhausted").mean().best == 1
    assert res.distribution("evacuate-after:n=1", "evacuations").mean().best == 1


def test_a_rule_that_acts_every_day_finds_room_for_its_states() -> None:
    """A guest that died at once is restarted day after day, which gives far more states than records are kept."""

    class Daily(ps.Policy):
        """Restarts day after day."""

        rules = [on(BACKING).do(KEEP), every(days=1, when="age_days > 1").do(RESTART)]

    scenario = ps.load_scenario("seed-1t", overrides=["faults.errors=1", "vm.unrecoverable=0.5", "host.spares=2"])
    res = ps.run(scenario, policies=[Daily], trials=200, seed=1)
    frame = res.samples()
    dead = frame["vm_lost"] == 1
    assert 0.3 < dead.mean() < 0.7
    assert frame.loc[dead, "restarts"].max() > 1700 and (frame.loc[~dead, "restarts"] == 1).all()
    assert (frame["guest_lost_bytes"] == 0).all() and (frame["spares_used"] == 1).all()
