"""The compiled kernel against a second, independent answer, and against its own source interpreted."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, seed, settings
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from oracle import (
    Errors,
    Event,
    HugePage,
    Life,
    Tick,
    cuts_stage2,
    grid_point,
    life,
    loss_of,
    memory_map,
    split_stall_ns,
    stateless_states,
    with_ticks,
)
from strategies import (
    VMS,
    Case,
    MovesByRules,
    MovesInCode,
    SplitsInCode,
    cases,
    fingerprint,
    luck_of,
    mixed_in,
    random_policy,
    random_scenario,
    random_trials,
    seeded_case,
    with_rules,
)

from poisonsim.engine.block import Paths, follow, run_block, year_points
from poisonsim.engine.plan import Plan, make_plan
from poisonsim.engine.state import (
    ERRORS,
    FALLBACKS,
    REGIONS_HIT,
    SPARES_ADDED,
    SPARES_EXHAUSTED,
    SPARES_USED,
    STRATUM,
    state_columns,
)
from poisonsim.errors import PolicyError
from poisonsim.faults.history import History, draw_history
from poisonsim.policy import (
    BACKING,
    BASE,
    COLLAPSE,
    EVACUATE,
    KEEP,
    MIGRATE,
    OFFLINE,
    REBOOT,
    RESTART,
    SPLIT,
    SPLIT_TO,
    SPLIT_VM_TO,
    UNMAP,
    UNMAP_STAGE2,
    Policy,
    every,
    load_policy,
    on,
    on_ce,
    policy_names,
)
from poisonsim.scenario import CountFaults, FieldFaults, Horizon, Host, RateFaults, Scenario, Vm, Workload

I64 = NDArray[np.int64]
Test = Callable[..., None]
RESEED = os.environ.get("POISONSIM_TEST_SEED")
SWEPT_CASES = 400
INTERPRETED_CASES = 150
CORNER_CASES = 1000
COLUMNS_THAT_MOVE = state_columns(())[:STRATUM]  # a trial stays in its stratum


def searched(max_examples: int) -> Callable[[Test], Test]:
    """Decorator: hypothesis searches the same examples every time, or others where POISONSIM_TEST_SEED says so."""

    def decorate(test: Test) -> Test:
        chosen = settings(deadline=None, max_examples=max_examples, derandomize=RESEED is None, database=None)(test)
        return chosen if RESEED is None else seed(int(RESEED))(chosen)

    return decorate


def states_on(paths: Paths, plan: Plan, points: list[int], stratum: I64 | None = None) -> I64:
    """States of the trials at some grid points, int64[n_trials, n_points, n_columns]; the records must be in order."""
    owner = np.repeat(np.arange(len(paths.start) - 1), np.diff(paths.start))
    assert len(owner) == len(paths.grid) == len(paths.state)
    assert (np.diff(paths.grid)[np.diff(owner) == 0] > 0).all(), "two records of a trial at one grid point"
    assert_array_equal(paths.states[: len(plan.zero_states)], plan.zero_states)
    assert len(np.unique(paths.states, axis=0)) == len(paths.states), "a state is listed twice"
    rows = []
    for point in points:
        passed = np.bincount(owner[paths.grid <= point], minlength=len(paths.start) - 1)
        latest = np.append(paths.state, 0)[paths.start[:-1] + passed - 1]
        rows.append(paths.states[np.where(passed > 0, latest, 0 if stratum is None else stratum)])
    return np.stack(rows, axis=1)


def check(case: Case) -> None:
    """Asserts that kernel and oracle agree on every column, trial and grid point."""
    plan = case.plan
    points = list(range(plan.scenario.horizon.n_steps + 1))
    got = states_on(case.follow(), plan, points)
    for trial, (states, want) in enumerate(zip(got, case.lives(), strict=True)):
        for point, column in np.argwhere(states != want):
            name = state_columns(plan.ladder.sizes)[column]
            pytest.fail(
                f"trial {trial}, grid point {point}: {name} is {states[point, column]} by the kernel, "
                f"{want[point, column]} by the oracle\n{replace(case, trials=case.trials[: trial + 1])!r}"
            )


@searched(max_examples=300)
@given(case=cases())
def test_random_policies(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("sweep", [0, *(pytest.param(n, marks=pytest.mark.long) for n in (1, 2))])
def test_more_random_policies(sweep: int) -> None:
    """As above without the search, which makes each case several times as dear."""
    for number in range(SWEPT_CASES):
        check(seeded_case(int(RESEED or 0) + sweep * SWEPT_CASES + number))


@pytest.mark.parametrize("kind", [0, 4, 5, 6, 8], ids=lambda i: "-".join(VMS[i][:2]))
def test_long_lives(kind: int) -> None:
    """Many trials of many events: tables fill up, most hits land on what an earlier one changed."""
    rng = Random(kind)
    for _ in range(4):
        scenario = random_scenario(rng, VMS[kind])
        check(Case(scenario, random_policy(rng, scenario), random_trials(rng, scenario, 12, 80)))


@pytest.mark.parametrize("name", policy_names())
def test_shipped_policies(name: str) -> None:
    rng = Random(1)
    for kind in VMS:
        scenario = random_scenario(rng, kind)
        check(Case(scenario, load_policy(name), random_trials(rng, scenario, 3, 16)))


class VmTo2MThenSmaller(Policy):
    """A hole in a 2M leaf is still there when the whole VM goes on to base pages."""

    rules = [
        on(BACKING).do(SPLIT_VM_TO("2M")),
        on("2M", when="hits_in_vm == 1").do(UNMAP),
        on("2M").do(SPLIT_VM_TO(BASE)),
        on(BASE).do(UNMAP),
    ]


def test_hole_outlives_the_next_split_of_the_vm() -> None:
    pages = (0, 512, 1)  # the hole; another 2M, which splits the VM; a page of the hole
    events = tuple(Event(page, years, 0.9) for page, years in zip(pages, (0.1, 0.3, 0.6), strict=True))
    scenario = Scenario(vm=Vm(memory="1GiB"), horizon=Horizon(years=1.0, grid="3months"))
    check(Case(scenario, VmTo2MThenSmaller(), (events,)))


class MovesThenUnmaps(Policy):
    """Moves a region while there are spares; loses the leaf after that."""

    rules = [on(BACKING).do(MIGRATE), on(BACKING).do(UNMAP)]


def test_error_left_behind_by_a_move_does_not_shield_its_page() -> None:
    """The first error of page 9 lies in DRAM that the region has left; a new fault in the same page is felt."""
    events = (Event(5, 0.1, 0.9, born=0.1), Event(9, 0.3, 0.9, born=0.05), Event(9, 0.6, 0.9, born=0.6))
    scenario = Scenario(
        vm=Vm(memory="1GiB", backing="2M"), host=Host(spares=3), horizon=Horizon(years=1.0, grid="3months")
    )
    case = Case(scenario, MovesThenUnmaps(), (events,))
    check(case)
    columns = state_columns(case.plan.ladder.sizes)
    (last,) = states_on(case.follow(), case.plan, [scenario.horizon.n_steps])[0]
    assert (last[columns.index("spares_used")], last[columns.index("guest_lost_pages")]) == (2, 2)


GIB_PAGES = 262_144
ARM = Host(cpu="neoverse-n1", page_tables=2)
CALM = Scenario(  # a guest that nothing kills, a year in quarters
    vm=Vm(memory="2GiB", unrecoverable=0.0, unretired=0.0),
    host=Host(spares=2, mapping="shared"),
    workload=Workload(reads_per_hour=0.0),
    horizon=Horizon(years=1.0, grid="3months"),
)


def suspect(page: int, years: float, born: float | None = None) -> Event:
    """Corrected errors that pass the host's threshold; fate and detection must not matter."""
    return Event(page, years, 0.0, True, born, corrected=True)


def course(scenario: Scenario, policy: Policy, *events: Event) -> dict[str, list[int]]:
    """What kernel and oracle agree on: each column that is not what it was at first, at the end of each quarter."""
    case = Case(scenario, policy, (events,))
    check(case)
    states = states_on(case.follow(), case.plan, list(range(scenario.horizon.n_steps + 1)))[0]
    columns = dict(zip(state_columns(case.plan.ladder.sizes), states.T.tolist(), strict=True))
    return {name: values[1:] for name, values in columns.items() if set(values) != {values[0]}}


class Offlines(Policy):
    """Moves a region at corrected errors; loses the huge page at poison."""

    rules = [on_ce(BACKING).do(MIGRATE), on(BACKING).do(UNMAP)]


def test_soft_offline_of_a_clean_region() -> None:
    """Dissolved though mapped shared; its fault stays behind, and one that began later is felt: leaked."""
    page = GIB_PAGES + 7
    events = (suspect(page, 0.1, 0.05), Event(page, 0.3, 0.0, born=0.05), Event(page, 0.6, 0.0, born=0.2))
    assert course(CALM, Offlines(), *events) == {
        "errors": [0, 1, 2, 2],
        "regions_hit": [0, 1, 1, 1],
        "guest_lost_pages": [0, 0, GIB_PAGES, GIB_PAGES],
        "host_lost_pages": [1, 1, 1 + GIB_PAGES, 1 + GIB_PAGES],
        "stranded_pages": [GIB_PAGES - 1] * 4,
        "leaked_regions": [0, 0, 1, 1],
        "dissolved_regions": [1] * 4,
        "restored_regions": [1] * 4,
        "spares_used": [1] * 4,
        "direct_map_pages": [0, 0, 2, 2],  # of 1 GiB and of 2 MiB, around the poison
        "guest_faults": [0, 0, 1000, 1000],  # nobody reads in the hole
        "stall_ns": [104_514_000, 104_514_000, 104_528_000, 104_528_000],  # a flush, 1 GiB to copy, its memory map
        "worst_stall_ns": [104_514_000] * 4,
        "leaves_1G": [2, 2, 1, 1],
    }


def test_soft_offline_leaves_its_fault_behind_up_to_the_moment_of_the_move() -> None:
    """What began when the region moved is left behind, wherever in the region; in another region nothing moved."""
    moved = suspect(7, 0.125, 0.1)
    assert "leaked_regions" not in course(CALM, Offlines(), moved, Event(9, 0.3, 0.9, born=0.125))
    assert course(CALM, Offlines(), moved, Event(9, 0.3, 0.9, born=0.1251))["leaked_regions"] == [0, 1, 1, 1]
    elsewhere = Event(GIB_PAGES + 7, 0.3, 0.9, born=0.1)
    assert course(CALM, Offlines(), moved, elsewhere)["leaked_regions"] == [0, 1, 1, 1]
    before = Event(9, 0.1249, 0.9, born=0.1)
    assert course(CALM, Offlines(), before, moved)["leaked_regions"] == [1] * 4  # and a hole has nothing to move


def test_soft_offline_until_the_spares_run_out() -> None:
    """The same fault asks once; the fourth finds no spare, like the first where there is none."""
    events = (suspect(7, 0.1), suspect(7, 0.2, 0.1), suspect(7, 0.3), suspect(GIB_PAGES, 0.6, 0.0))
    want = {
        "host_lost_pages": [1, 2, 2, 2],
        "stranded_pages": [GIB_PAGES - 1, *[2 * GIB_PAGES - 2] * 3],
        "dissolved_regions": [1, 2, 2, 2],
        "restored_regions": [1, 2, 2, 2],
        "spares_used": [1, 2, 2, 2],
        "spares_exhausted": [0, 0, 1, 1],
        "stall_ns": [104_514_000, *[209_028_000] * 3],
        "worst_stall_ns": [104_514_000] * 4,
        "fallbacks": [0, 0, 1, 1],
    }
    assert course(CALM, Offlines(), *events) == want
    none = {"spares_exhausted": [1] * 4, "fallbacks": [2, 3, 4, 4]}  # nothing was left behind by a move
    assert course(replace(CALM, host=Host(spares=0)), Offlines(), *events) == none


@pytest.mark.parametrize(
    ("when", "exhausted"),
    [
        ("spares_left > 0", True),
        ("hits_in_vm == 0 and spares_left > 0 and hits_in_region < 1", True),
        ("hits_in_vm > 0", False),
        ("hits_in_region > 0 and spares_left > 0", False),
        ("age_days >= 73", True),
        ("age_days > 73", False),
    ],
)
def test_soft_offline_asks_for_a_spare_where_its_guard_holds(when: str, exhausted: bool) -> None:
    """On day 73.05, with no spare, and with one: there the same guard decides."""
    policy = with_rules(Offlines(), [on_ce(BACKING, when=when).do(MIGRATE), on(BACKING).do(UNMAP)])
    without = course(replace(CALM, host=Host(spares=0)), policy, suspect(7, 0.2))
    assert without == ({"spares_exhausted": [1] * 4, "fallbacks": [1] * 4} if exhausted else {})
    assert ("spares_used" in course(CALM, policy, suspect(7, 0.2))) == exhausted


class OfflinesPoisoned(Policy):
    """Keeps poison mapped, and moves its region at the corrected errors of another page."""

    rules = [on_ce(BACKING, when="hits_in_region > 0").do(MIGRATE), on(BACKING).do(KEEP)]


@pytest.mark.parametrize("mapping", ["shared", "private"])
def test_soft_offline_of_a_poisoned_region(mapping: Any) -> None:
    """Dissolved however it is mapped, as poison that stays mapped asks for memory from which it can be.

    The poisoned page stays lost, and is suspected neither before nor after the move.
    """
    events = (
        suspect(9, 0.05),  # no poison yet
        Event(7, 0.1, 0.9),
        suspect(7, 0.2),
        suspect(9, 0.3),
        suspect(11, 0.4),  # no poison in the new huge page
        Event(13, 0.55, 0.9),
        suspect(7, 0.6),
        Event(7, 0.65, 0.9),
        suspect(15, 0.8),
    )
    changed = course(replace(CALM, host=replace(CALM.host, mapping=mapping)), OfflinesPoisoned(), *events)
    assert changed == {
        "errors": [1, 1, 3, 3],
        "regions_hit": [1] * 4,
        "guest_lost_pages": [1, 1, 2, 2],
        "host_lost_pages": [1, 2, 3, 4],
        "stranded_pages": [0, GIB_PAGES - 2, GIB_PAGES - 2, 2 * GIB_PAGES - 4],
        "dissolved_regions": [0, 1, 1, 2],
        "restored_regions": [0, 1, 1, 2],
        "spares_used": [0, 1, 1, 2],
        "direct_map_pages": [2, 2, 4, 4],
        "guest_faults": [1000, 1000, 2000, 2000],
        "stall_ns": [0, 104_514_000, 104_514_000, 209_028_000],
        "worst_stall_ns": [0, *[104_514_000] * 3],
    }


class OfflinesAround(Policy):
    """Holes of 2M, and moves from what is left of the region."""

    rules = [on(BACKING).do(SPLIT_TO("2M")), on("2M").do(UNMAP), on_ce("2M").do(MIGRATE)]


def test_soft_offline_brings_holes_back() -> None:
    """In a whole region no rule is for its size, in a hole nothing is suspected; both poisoned pages stay lost."""
    events = (
        suspect(5, 0.05),
        Event(5, 0.1, 0.9),
        suspect(6, 0.2),
        Event(6, 0.3, 0.9),
        suspect(512, 0.6),
        suspect(6, 0.8),
    )
    assert course(CALM, OfflinesAround(), *events) == {
        "errors": [1, 2, 2, 2],
        "regions_hit": [1] * 4,
        "table_pages": [1, 1, 0, 0],
        "guest_lost_pages": [512, 512, 2, 2],
        "host_lost_pages": [1, 1, GIB_PAGES, GIB_PAGES],
        "leaked_regions": [0, 0, 1, 1],
        "restored_regions": [1] * 4,
        "spares_used": [0, 0, 1, 1],
        "direct_map_pages": [2] * 4,
        "guest_faults": [1000] * 4,
        "stall_ns": [592_000, 592_000, 94_606_000, 94_606_000],  # a table in two page tables, 512 faults, a flush
        "worst_stall_ns": [592_000, 592_000, 94_014_000, 94_014_000],
        "leaves_1G": [1, 1, 2, 2],
        "leaves_2M": [511, 511, 0, 0],
    }


class OfflinesBasePages(Policy):
    """Moves a region from the base pages around its poison only."""

    rules = [on(">BASE").do(SPLIT), on(BASE).do(UNMAP), on_ce(BASE).do(MIGRATE)]


@pytest.mark.parametrize(
    ("policy", "page", "moves"),
    [
        (OfflinesAround(), 6, False),  # in the hole
        (OfflinesAround(), 512, True),
        (OfflinesBasePages(), 5, False),
        (OfflinesBasePages(), 6, True),
        (OfflinesBasePages(), 512, False),  # mapped by a leaf of 2M
    ],
)
def test_soft_offline_sees_what_the_only_error_near_it_did(policy: Policy, page: int, moves: bool) -> None:
    """Where no other error follows in the 2 MiB of the first, corrected ones may."""
    assert ("spares_used" in course(CALM, policy, Event(5, 0.1, 0.9), suspect(page, 0.3))) == moves


@pytest.mark.parametrize("born", [0.1, 0.5], ids=["left behind", "felt"])
def test_direct_map_of_what_a_soft_offline_left(born: float) -> None:
    """Two regions of 2M in 1 GiB: an error in the one that moved is in another 1 GiB of the host, if it is felt."""
    scenario = replace(CALM, vm=replace(CALM.vm, memory="1GiB", backing="2M"))
    events = (suspect(7, 0.2), Event(7, 0.6, 0.9, born=born), Event(515, 0.8, 0.9))
    assert course(scenario, Offlines(), *events)["direct_map_pages"] == ([0, 0, 0, 2] if born < 0.2 else [0, 0, 2, 4])


MOVES_POISON = replace(CALM.host, spare_hosts=1, moves_poison=True)


class EvacuatesAtTwo(Policy):
    """Leaves at the second poison, if there is a host to go to."""

    rules = [on(BACKING, when="hits_in_vm >= 2").do(EVACUATE), on(BACKING).do(UNMAP)]


def test_evacuation_takes_only_retired_pages_along() -> None:
    """The old host's losses count no more, what began before it is left behind, and the only spare host is used up."""
    events = (
        Event(7, 0.1, 0.9),
        Event(GIB_PAGES + 9, 0.3, 0.9),
        Event(GIB_PAGES + 11, 0.6, 0.9, born=0.2),  # left behind
        Event(13, 0.7, 0.9),  # the first on the new host
        Event(GIB_PAGES + 1, 0.8, 0.9),  # no host to go to
    )
    assert course(replace(CALM, host=MOVES_POISON), EvacuatesAtTwo(), *events) == {
        "errors": [1, 2, 4, 5],
        "regions_hit": [1, 2, 2, 2],
        "guest_lost_pages": [GIB_PAGES, 2, GIB_PAGES + 1, 2 * GIB_PAGES],
        "host_lost_pages": [GIB_PAGES, 0, GIB_PAGES, 2 * GIB_PAGES],
        "leaked_regions": [1, 0, 1, 2],
        "direct_map_pages": [2, 0, 2, 4],
        "guest_faults": [1000, 2000, 3000, 4000],
        "stall_ns": [14_000, 50_014_000, 50_028_000, 50_042_000],
        "worst_stall_ns": [14_000, *[50_000_000] * 3],
        "evacuations": [0, 1, 1, 1],
        "fallbacks": [0, 0, 0, 1],
        "leaves_1G": [1, 2, 1, 0],
    }


class EvacuatesSuspects(Policy):
    """Leaves at corrected errors; loses the huge page at poison."""

    rules = [on_ce(BACKING).do(EVACUATE), on(BACKING).do(UNMAP)]


SUSPECT_TWICE_THEN_POISONED = (
    suspect(7, 0.1),
    Event(7, 0.2, 0.9, born=0.05),  # left behind
    suspect(9, 0.3, 0.1),  # it began by the time of the evacuation
    suspect(9, 0.4),
    Event(9, 0.55, 0.9),
    suspect(GIB_PAGES + 3, 0.6),
)


@pytest.mark.parametrize(
    ("spare_hosts", "evacuations", "fallbacks"), [(1, [1, 1, 1, 1], [0, 1, 2, 2]), (3, [1, 2, 2, 2], [0, 0, 1, 1])]
)
def test_evacuation_at_corrected_errors_of_a_clean_vm(
    spare_hosts: int, evacuations: list[int], fallbacks: list[int]
) -> None:
    """As QEMU has it, poison cannot be moved: the last corrected errors change nothing."""
    host = replace(CALM.host, spare_hosts=spare_hosts, moves_poison=False)
    stall_ns = [50_000_000 * n + (14_000 if quarter > 1 else 0) for quarter, n in enumerate(evacuations)]
    assert course(replace(CALM, host=host), EvacuatesSuspects(), *SUSPECT_TWICE_THEN_POISONED) == {
        "errors": [1, 1, 2, 2],
        "regions_hit": [1] * 4,
        "guest_lost_pages": [0, 0, GIB_PAGES, GIB_PAGES],
        "host_lost_pages": [0, 0, GIB_PAGES, GIB_PAGES],
        "leaked_regions": [0, 0, 1, 1],
        "direct_map_pages": [0, 0, 2, 2],
        "guest_faults": [0, 0, 1000, 1000],
        "stall_ns": stall_ns,
        "worst_stall_ns": [50_000_000] * 4,
        "evacuations": evacuations,
        "fallbacks": fallbacks,
        "leaves_1G": [2, 2, 1, 1],
    }


def test_evacuation_at_corrected_errors_of_a_poisoned_vm() -> None:
    host = replace(CALM.host, spare_hosts=3, moves_poison=True)
    assert course(replace(CALM, host=host), EvacuatesSuspects(), *SUSPECT_TWICE_THEN_POISONED) == {
        "errors": [1, 1, 2, 2],
        "regions_hit": [1] * 4,
        "guest_lost_pages": [0, 0, 1, 1],
        "guest_faults": [0, 0, 1000, 1000],
        "stall_ns": [50_000_000, 100_000_000, 150_014_000, 150_014_000],
        "worst_stall_ns": [50_000_000] * 4,
        "evacuations": [1, 2, 3, 3],
    }


@pytest.mark.parametrize("action", [MIGRATE, RESTART], ids=lambda action: action.name)
def test_evacuation_that_is_not_possible_leaves_the_rules_after_it_to_act(action: Any) -> None:
    rules = [on(BACKING).do(EVACUATE), on(BACKING).do(action), on(BACKING).do(UNMAP)]
    scenario = replace(CALM, host=replace(MOVES_POISON, spares=0))
    changed = course(scenario, with_rules(EvacuatesAtTwo(), rules), Event(7, 0.1, 0.9), Event(9, 0.3, 0.9))
    assert changed["evacuations"] == [1] * 4
    assert changed["spares_exhausted"] == changed["leaked_regions"] == [0, 1, 1, 1]


@pytest.mark.parametrize(
    ("action", "second", "on_loss", "errors", "lost"),
    [
        (RESTART, 0.25, "count", 2, 0),
        (RESTART, 0.25, "end", 2, 0),
        (RESTART, 0.2500001, "count", 2, 1),
        (RESTART, 0.2500001, "end", 1, 1),
        (EVACUATE, 0.25, "count", 2, 1),
        (EVACUATE, 0.25, "end", 2, 1),
        (EVACUATE, 0.2500001, "count", 2, 1),
        (EVACUATE, 0.2500001, "end", 1, 1),
    ],
)
def test_restart_at_the_moment_of_death_calls_it_off_and_evacuation_does_not(
    action: Any, second: float, on_loss: Any, errors: int, lost: int
) -> None:
    """The first error kills as it is found, at the end of the first quarter."""
    rules = [
        on(BACKING, when="hits_in_vm == 1").do(SPLIT_TO(BASE)),
        on(BACKING).do(action),
        on(BACKING).do(UNMAP),
        on(BASE).do(UNMAP),
    ]
    scenario = replace(CALM, vm=replace(CALM.vm, unrecoverable=0.5, on_loss=on_loss), host=MOVES_POISON)
    events = (Event(7, 0.25, 0.4, True), Event(GIB_PAGES + 9, second, 0.9))
    changed = course(scenario, with_rules(EvacuatesAtTwo(), rules), *events)
    assert (changed["errors"][-1], changed.get("vm_lost", [0])[-1]) == (errors, lost)


@pytest.mark.parametrize(("wait", "lost"), [(0.3, [0, 0, 1, 1]), (0.6, [0, 0, 0, 1])])
def test_poison_that_brings_an_evacuation_about_may_kill_the_guest_there(wait: float, lost: list[int]) -> None:
    """As one base page that is lost does, a touch per page and year."""
    vm, workload = replace(CALM.vm, unrecoverable=0.5), Workload(reads_per_hour=1 / (64 * 8766))
    scenario = replace(CALM, vm=vm, workload=workload, host=MOVES_POISON)
    policy = with_rules(EvacuatesAtTwo(), [on(BACKING).do(EVACUATE), on(BACKING).do(UNMAP)])
    assert course(scenario, policy, Event(7, 0.25, 0.5 * math.exp(-wait)))["vm_lost"] == lost


class RestartsAtTwo(Policy):
    """Loses a huge page, and starts anew at the second poison, if there is a spare."""

    rules = [on(BACKING, when="hits_in_vm >= 2").do(RESTART), on(BACKING).do(UNMAP)]


LOST_TWICE = (
    Event(7, 0.1, 0.9),
    Event(GIB_PAGES + 9, 0.3, 0.9),
    Event(GIB_PAGES + 11, 0.6, 0.9, born=0.2),  # left behind
    Event(GIB_PAGES + 9, 0.65, 0.9),
    Event(13, 0.8, 0.9),
)


def test_restart_gives_the_only_spare_to_the_region_just_hit() -> None:
    """The other stays a hole, into which the last error falls."""
    assert course(replace(CALM, host=replace(CALM.host, spares=1)), RestartsAtTwo(), *LOST_TWICE) == {
        "errors": [1, 2, 4, 5],
        "regions_hit": [1, 2, 2, 2],
        "guest_lost_pages": [GIB_PAGES, GIB_PAGES, 2 * GIB_PAGES, 2 * GIB_PAGES],
        "host_lost_pages": [GIB_PAGES, 2 * GIB_PAGES, 3 * GIB_PAGES, 3 * GIB_PAGES],
        "leaked_regions": [1, 2, 3, 3],
        "spares_used": [0, 1, 1, 1],
        "direct_map_pages": [2, 4, 6, 6],
        "guest_faults": [1000, 2000, 3000, 3000],
        "stall_ns": [14_000, 120_058_014_000, 120_058_028_000, 120_058_028_000],  # two minutes, and 1 GiB to clear
        "worst_stall_ns": [14_000, *[120_058_000_000] * 3],
        "restarts": [0, 1, 1, 1],
        "leaves_1G": [1, 1, 0, 0],
    }


def test_restart_until_the_spares_run_out() -> None:
    """Mapped private, both huge pages are dissolved and replaced; the last error asks for a spare in vain."""
    host = replace(CALM.host, spares=2, mapping="private")
    assert course(replace(CALM, host=host), RestartsAtTwo(), *LOST_TWICE) == {
        "errors": [1, 2, 4, 5],
        "regions_hit": [1, 2, 2, 2],
        "guest_lost_pages": [GIB_PAGES, 0, GIB_PAGES, 2 * GIB_PAGES],
        "host_lost_pages": [1, 2, 3, 4],
        "stranded_pages": [n * (GIB_PAGES - 1) for n in (1, 2, 3, 4)],
        "dissolved_regions": [1, 2, 3, 4],
        "restored_regions": [1, 2, 3, 4],
        "spares_used": [0, 2, 2, 2],
        "spares_exhausted": [0, 0, 0, 1],
        "direct_map_pages": [2, 4, 6, 8],
        "guest_faults": [1000, 2000, 3000, 4000],
        "stall_ns": [10_514_000, 120_137_014_000, 120_147_528_000, 120_158_042_000],  # a memory map each time
        "worst_stall_ns": [10_514_000, *[120_126_500_000] * 3],
        "restarts": [0, 1, 1, 1],
        "fallbacks": [0, 0, 0, 1],
        "leaves_1G": [1, 2, 1, 0],
    }


def test_restart_heals_without_a_spare_what_a_move_left_behind() -> None:
    """Page 7 is merely retired by the guest; healthy again, it can be hit again."""
    rules = [
        on(BACKING, when="hits_in_vm < 2").do(MIGRATE),
        on(BACKING, when="hits_in_vm == 2").do(RESTART),
        on(BACKING).do(UNMAP),
    ]
    events = (Event(7, 0.1, 0.9), Event(GIB_PAGES + 9, 0.3, 0.9), Event(7, 0.6, 0.9))
    assert course(CALM, with_rules(RestartsAtTwo(), rules), *events) == {
        "errors": [1, 2, 3, 3],
        "regions_hit": [1, 2, 2, 2],
        "guest_lost_pages": [1, 0, GIB_PAGES, GIB_PAGES],
        "host_lost_pages": [GIB_PAGES, 2 * GIB_PAGES, 3 * GIB_PAGES, 3 * GIB_PAGES],
        "leaked_regions": [1, 2, 3, 3],
        "spares_used": [1, 2, 2, 2],
        "spares_exhausted": [0, 0, 1, 1],
        "direct_map_pages": [2, 4, 6, 6],
        "guest_faults": [1000, 2000, 3000, 3000],
        "stall_ns": [152_014_000, 120_210_014_000, 120_210_028_000, 120_210_028_000],
        "worst_stall_ns": [152_014_000, *[120_058_000_000] * 3],
        "restarts": [0, 1, 1, 1],
        "fallbacks": [0, 0, 1, 1],
        "leaves_1G": [2, 2, 1, 1],
    }


def test_restart_heals_what_an_evacuation_left_behind() -> None:
    """On day 200, in a region that nothing has struck on the new host."""
    rules = [on(BACKING).do(EVACUATE), on(BACKING).do(UNMAP), every(days=200).do(RESTART)]
    scenario = replace(CALM, host=MOVES_POISON)
    assert course(scenario, with_rules(RestartsAtTwo(), rules), Event(7, 0.1, 0.9)) == {
        "errors": [1] * 4,
        "regions_hit": [1] * 4,
        "guest_lost_pages": [1, 1, 0, 0],
        "guest_faults": [1000] * 4,
        "stall_ns": [50_000_000, 50_000_000, 120_050_000_000, 120_050_000_000],
        "worst_stall_ns": [50_000_000, 50_000_000, 120_000_000_000, 120_000_000_000],
        "evacuations": [1] * 4,
        "restarts": [0, 0, 1, 1],
    }


class Collapses(Policy):
    """Base pages at once, and every hundred days the largest leaves around the holes."""

    rules = [on(">BASE").do(SPLIT_TO(BASE)), on(BASE).do(UNMAP), every(days=100).do(COLLAPSE)]


def test_collapse_leaves_what_a_step_by_step_split_would() -> None:
    """On days 100, 200 and 300: only the first finds anything to do. Each vmemmap is restored once."""
    events = (Event(7, 0.1, 0.9), Event(8, 0.6, 0.9), Event(1024, 0.85, 0.9))  # days 36, 219 and 310
    assert course(CALM, Collapses(), *events) == {
        "errors": [1, 1, 2, 3],
        "regions_hit": [1] * 4,
        "table_pages": [513, 2, 2, 3],
        "guest_lost_pages": [1, 1, 2, 3],
        "host_lost_pages": [1, 1, 2, 3],
        "restored_regions": [1] * 4,
        "direct_map_pages": [2, 2, 2, 3],
        "guest_faults": [1000, 1000, 2000, 3000],
        # 513 tables in two page tables, 4,096 faults in a row, a flush; a second; a flush; a table twice, 512 faults in
        # turn, a flush
        "stall_ns": [76_880_000, 1_076_880_000, 1_076_894_000, 1_077_486_000],
        "worst_stall_ns": [76_880_000, *[1_000_000_000] * 3],
        "leaves_1G": [1] * 4,
        "leaves_2M": [0, 511, 511, 510],
        "leaves_4K": [GIB_PAGES - 1, 511, 510, 1021],
    }


def test_collapse_to_contiguous_entries() -> None:
    """31 of 32M, 15 of 2M, 31 of 64K and 15 of 4K around one hole; the entries of 32M and 2M share a table."""
    scenario = replace(CALM, vm=replace(CALM.vm, arch="arm64", contiguous=True), host=ARM)
    changed = course(scenario, Collapses(), Event(7, 0.1, 0.9))
    leaves = {name: values for name, values in changed.items() if name.startswith("leaves") or name == "table_pages"}
    assert leaves == {
        "table_pages": [513, 2, 2, 2],
        "leaves_1G": [1] * 4,
        "leaves_32M": [0, 31, 31, 31],
        "leaves_2M": [0, 15, 15, 15],
        "leaves_64K": [0, 31, 31, 31],
        "leaves_4K": [GIB_PAGES - 1, 15, 15, 15],
    }


def test_collapse_spares_the_leaf_in_which_poison_stayed_mapped() -> None:
    rules = [on(BACKING).do(SPLIT_TO(BASE)), on("2M").do(SPLIT), on(BASE).do(KEEP), every(days=100).do(COLLAPSE)]
    changed = course(CALM, with_rules(Collapses(), rules), Event(7, 0.1, 0.9))
    assert changed["guest_lost_pages"] == [1] * 4
    assert changed["leaves_1G"] == [1] * 4
    assert changed["leaves_2M"] == [0, 511, 511, 511]
    assert changed["leaves_4K"] == [GIB_PAGES, 512, 512, 512]


def test_collapse_of_the_whole_vm() -> None:
    """The region that nothing struck is whole again until the next split; the hole of 2M and its neighbours stay."""
    rules = [on(BACKING).do(SPLIT_VM_TO("2M")), on("2M").do(UNMAP), every(days=100).do(COLLAPSE)]
    events = (Event(7, 0.1, 0.9), Event(GIB_PAGES + 9, 0.6, 0.9))  # days 36 and 219
    assert course(CALM, with_rules(Collapses(), rules), *events) == {
        "errors": [1, 1, 2, 2],
        "regions_hit": [1, 1, 2, 2],
        "table_pages": [2, 1, 2, 2],
        "guest_lost_pages": [512, 512, 1024, 1024],
        "host_lost_pages": [1, 1, 2, 2],
        "restored_regions": [2] * 4,
        "direct_map_pages": [2, 2, 4, 4],
        "guest_faults": [1000, 1000, 2000, 2000],
        "stall_ns": [1_170_000, 1_001_170_000, 1_001_762_000, 1_001_762_000],
        "worst_stall_ns": [1_170_000, *[1_000_000_000] * 3],
        "leaves_1G": [0, 1, 0, 0],
        "leaves_2M": [1023, 511, 1022, 1022],
    }


@pytest.mark.parametrize(
    ("timed", "leaves_1g", "leaves_2m"), [([], 0, 1024), ([every(days=100).do(COLLAPSE)], 2, 0)], ids=["stays", "ends"]
)
def test_collapse_ends_a_split_of_the_whole_vm(timed: Any, leaves_1g: int, leaves_2m: int) -> None:
    """A region that moves to a spare is mapped as the whole VM is."""
    rules = [
        on(BACKING).do(SPLIT_VM_TO("2M")),
        on("2M", when="hits_in_vm == 1").do(UNMAP),
        on("2M").do(MIGRATE),
        on("2M").do(UNMAP),
        *timed,
    ]
    changed = course(CALM, with_rules(Collapses(), rules), Event(7, 0.1, 0.9), Event(600, 0.6, 0.9))
    assert (changed["leaves_1G"][-1], changed.get("leaves_2M", [0])[-1]) == (leaves_1g, leaves_2m)


class RestartsInTime(Policy):
    """Keeps poison mapped until the guest starts anew."""

    period: int = 90
    rules = [on(BACKING).do(KEEP), every(days="period").do(RESTART)]


@pytest.mark.parametrize(
    ("years", "days", "when", "restarts"),
    [
        (0.1, 90, "", [1, 1, 1, 1]),  # on day 90; from then on there is no poison
        (0.1, "period", "", [1, 1, 1, 1]),
        (90 / 365.25, 90, "", [0, 1, 1, 1]),  # the event comes after what is due at its very moment
        (0.3, 90, "", [0, 1, 1, 1]),  # day 109: next is day 180
        (0.3, 110, "", [0, 1, 1, 1]),
        (0.3, 109, "", [0, 0, 1, 1]),  # day 109.6: next is day 218
        (0.3, 365, "", [0, 0, 0, 1]),
        (0.3, 366, "", None),
        (0.1, 90, "age_days >= 181", [0, 0, 1, 1]),
        (0.1, 90, "age_days != 90", [0, 1, 1, 1]),
        (0.1, 90, "age_days == 180", [0, 1, 1, 1]),
        (0.1, 90, "age_days == 181", None),
        (0.3, 90, "age_days < 180", None),
        (0.1, 90, "age_days > 90 and hits_in_vm > 0 and hits_in_region == 0", [0, 1, 1, 1]),
        (0.1, 90, "hits_in_vm > 1", None),
        (0.1, 90, "spares_left < 3", None),
    ],
)
def test_timed_rules_act_on_multiples_of_their_days(
    years: float, days: Any, when: str, restarts: list[int] | None
) -> None:
    policy = with_rules(RestartsInTime(), [on(BACKING).do(KEEP), every(days=days, when=when).do(RESTART)])
    scenario = replace(CALM, host=replace(CALM.host, spares=3))
    assert course(scenario, policy, Event(7, years, 0.9)).get("restarts") == restarts


def test_timed_rules_act_again_after_another_event() -> None:
    """On days 90, 180 and 360, after events on days 36, 109 and 310."""
    events = (Event(7, 0.1, 0.9), Event(7, 0.3, 0.9), Event(GIB_PAGES, 0.85, 0.9))
    scenario = replace(CALM, host=replace(CALM.host, spares=3))
    changed = course(scenario, RestartsInTime(), *events)
    assert changed["restarts"] == changed["spares_used"] == changed["dissolved_regions"] == [1, 2, 2, 3]


def test_vm_that_nothing_struck_is_left_alone() -> None:
    """Corrected errors count where the policy would see them; where nothing changes, a timed rule acts once."""
    scenario = replace(CALM, host=replace(CALM.host, spare_hosts=3))
    blind = with_rules(EvacuatesAtTwo(), [on(BACKING).do(UNMAP), every(days=90).do(EVACUATE)])
    sees = with_rules(blind, [*blind.rules, on_ce(BACKING, when="hits_in_vm > 0").do(EVACUATE)])
    assert course(scenario, blind) == course(scenario, blind, suspect(7, 0.3)) == course(scenario, sees) == {}
    once = {"evacuations": [0, 1, 1, 1], "stall_ns": [0, *[50_000_000] * 3], "worst_stall_ns": [0, *[50_000_000] * 3]}
    assert course(scenario, sees, suspect(7, 0.3)) == once


class HoleInStage2(Policy):
    """The process table keeps its huge leaves."""

    rules = [on(">BASE").do(UNMAP_STAGE2), on(BASE).do(UNMAP_STAGE2)]


def test_hole_in_stage_2_faults_all_of_it_in_again() -> None:
    """Tables of one kind only, no memory map restored, and each time every leaf there is over 64 CPUs."""
    events = (Event(7, 0.1, 0.9), Event(9, 0.3, 0.9), Event(GIB_PAGES + 1024, 0.6, 0.9))
    assert course(CALM, HoleInStage2(), *events) == {
        "errors": [1, 2, 3, 3],
        "regions_hit": [1, 1, 2, 2],
        "table_pages": [2, 2, 4, 4],
        "guest_lost_pages": [1, 2, 3, 3],
        "host_lost_pages": [1, 2, 3, 3],
        "direct_map_pages": [2, 2, 4, 4],
        "guest_faults": [1000, 2000, 3000, 3000],
        # two tables, a flush, 1,023 faults; a flush, 1,022 faults; two tables, a flush, 2,043 faults
        "stall_ns": [247_835, 429_506, 844_685, 844_685],
        "worst_stall_ns": [247_835, 247_835, 415_179, 415_179],
        "leaves_1G": [1, 1, 0, 0],
        "leaves_2M": [511, 511, 1022, 1022],
        "leaves_4K": [511, 510, 1021, 1021],
    }


def test_huge_page_with_a_hole_in_stage_2_gets_its_memory_map_back_when_it_is_dissolved() -> None:
    """Whatever high-granularity mapping does to HVO, unless poison that stays mapped takes it away from all."""
    rules = [
        on(BACKING).do(UNMAP_STAGE2),
        on("2M").do(UNMAP_STAGE2),
        on(BASE, when="hits_in_region > 1").do(MIGRATE),
        on(BASE).do(UNMAP_STAGE2),
    ]
    for hvo_with_hgm in ("off-everywhere", "off-where-split", "kept"):
        for hvo_with_keep, restore_ns in (("kept", 10_500_000), ("off-everywhere", 0)):
            host = replace(CALM.host, hvo_with_hgm=hvo_with_hgm, hvo_with_keep=hvo_with_keep)
            policy = with_rules(HoleInStage2(), rules)
            changed = course(replace(CALM, host=host), policy, Event(7, 0.1, 0.9), Event(9, 0.3, 0.9))
            assert changed["restored_regions"] == changed["dissolved_regions"] == [0, 1, 1, 1]
            assert changed["stall_ns"] == [247_835, *[247_835 + 152_014_000 + restore_ns] * 3]
            assert changed["guest_lost_pages"] == [1, 2, 2, 2]


class Vacates(Policy):
    """The guest unplugs what it can; poison stays mapped where it cannot."""

    rules = [on(BACKING).do(OFFLINE), on(BACKING).do(KEEP)]


def test_guest_unplugs_with_a_spare_and_without() -> None:
    """The first of two regions cannot be vacated; for the other there is one spare."""
    page = GIB_PAGES + 5
    events = (
        Event(7, 0.1, 0.9),
        Event(page, 0.3, 0.9),
        Event(page, 0.35, 0.9, born=0.2),  # left behind
        Event(page, 0.6, 0.9, born=0.35),  # the block stays away
        Event(page + 4, 0.8, 0.9),  # in the hole
    )
    scenario = replace(CALM, vm=replace(CALM.vm, unmovable=0.5), host=replace(CALM.host, spares=1))
    assert course(scenario, Vacates(), *events) == {
        "errors": [1, 3, 4, 5],
        "regions_hit": [1, 2, 2, 2],
        "guest_lost_pages": [1, 1, 1 + GIB_PAGES, 1 + GIB_PAGES],
        "host_lost_pages": [1, 2, 3, 3],
        "stranded_pages": [0, GIB_PAGES - 1, 2 * GIB_PAGES - 2, 2 * GIB_PAGES - 2],
        "dissolved_regions": [0, 1, 2, 2],
        "restored_regions": [0, 1, 2, 2],
        "spares_used": [0, 1, 1, 1],
        "spares_exhausted": [0, 0, 1, 1],
        "direct_map_pages": [2, 4, 6, 6],
        "guest_faults": [1000, 2000, 3000, 3000],
        "stall_ns": [
            0,
            162_514_000,
            267_028_000,
            267_028_000,
        ],  # a flush, 1 GiB to copy, its memory map to restore, and 1 GiB to clear for the spare
        "worst_stall_ns": [0, *[162_514_000] * 3],
        "fallbacks": [1] * 4,
        "leaves_1G": [2, 2, 1, 1],
    }


@pytest.mark.parametrize(("unmovable", "fallbacks"), [(0.0, [0, 0]), (0.01, [1, 1]), (0.5, [1, 1]), (0.51, [1, 2])])
def test_regions_with_unmovable_memory_are_the_first_ones(unmovable: float, fallbacks: list[int]) -> None:
    scenario = replace(CALM, vm=replace(CALM.vm, unmovable=unmovable))
    changed = course(scenario, Vacates(), Event(7, 0.1, 0.9), Event(GIB_PAGES + 5, 0.3, 0.9))
    assert changed.get("fallbacks", [0] * 4)[:2] == fallbacks


def test_pages_of_a_region_plugged_in_again_are_healthy() -> None:
    """Two pages retired before are there again, and can be hit again; deaths that are due stay due."""
    rules = [on(BACKING, when="hits_in_region >= 2").do(OFFLINE), on(BACKING).do(KEEP)]
    vm = replace(CALM.vm, unmovable=0.0, unrecoverable=0.5)
    scenario = replace(CALM, vm=vm, workload=Workload(reads_per_hour=1 / 8766))
    first = Event(7, 0.1, 0.5 * math.exp(-0.3))  # one line of a kept page is read once a year: dead at 0.4
    changed = course(scenario, with_rules(Vacates(), rules), first, Event(9, 0.3, 0.9), Event(7, 0.6, 0.9))
    assert changed["guest_lost_pages"] == [1, 0, 1, 1]
    assert changed["vm_lost"] == [0, 1, 1, 1]


class Reboots(Policy):
    """Loses a huge page; every hundred days the host boots, if it has found anything."""

    rules = [on(BACKING).do(UNMAP), every(days=100).do(REBOOT)]


def test_reboot_leaves_out_bad_huge_pages_while_there_are_spares() -> None:
    """On days 100 and 200, for one and two; day 300 would leave out three. The VM's other region stays where it was."""
    events = (
        Event(7, 0.1, 0.9),
        Event(7, 0.3, 0.9, born=0.2),  # left behind
        Event(GIB_PAGES + 7, 0.4, 0.9, born=0.2),
        Event(9, 0.6, 0.9),
    )
    assert course(CALM, Reboots(), *events) == {
        "errors": [1, 3, 4, 4],
        "regions_hit": [1, 2, 2, 2],
        "guest_lost_pages": [GIB_PAGES] * 4,
        "host_lost_pages": [GIB_PAGES, 1 + GIB_PAGES, 2 + GIB_PAGES, 2 + GIB_PAGES],
        "stranded_pages": [0, GIB_PAGES - 1, 2 * GIB_PAGES - 2, 2 * GIB_PAGES - 2],
        "leaked_regions": [1] * 4,
        "dissolved_regions": [0, 1, 2, 2],
        "restored_regions": [0, 1, 2, 2],
        "spares_used": [0, 1, 2, 2],
        "direct_map_pages": [2] * 4,
        "guest_faults": [1000, 2000, 3000, 3000],
        "stall_ns": [14_000, 900_000_028_000, 1_800_000_042_000, 1_800_000_042_000],
        "worst_stall_ns": [14_000, *[900_000_000_000] * 3],
        "reboots": [0, 1, 2, 2],
        "fallbacks": [0, 0, 0, 1],
        "leaves_1G": [1] * 4,
    }


@pytest.mark.parametrize("born", [0.1, 0.2, 0.3], ids=["same fault", "another", "new"])
@pytest.mark.parametrize("page", [7, 9])
def test_reboot_repairs_a_bad_page_where_it_is(page: int, born: float) -> None:
    """On day 100, with the only spare row; what strikes there after that is new, and has none on days 200 and 300."""
    host = replace(CALM.host, spares=0, spare_rows=1)
    assert course(replace(CALM, host=host), Reboots(), Event(7, 0.1, 0.9), Event(page, 0.3, 0.9, born=born)) == {
        "errors": [1, 2, 2, 2],
        "regions_hit": [1] * 4,
        "guest_lost_pages": [GIB_PAGES] * 4,
        "host_lost_pages": [GIB_PAGES] * 4,
        "leaked_regions": [1] * 4,
        "direct_map_pages": [2] * 4,
        "guest_faults": [1000, 2000, 2000, 2000],
        "stall_ns": [14_000, *[900_000_028_000] * 3],
        "worst_stall_ns": [14_000, *[900_000_000_000] * 3],
        "reboots": [0, 1, 1, 1],
        "fallbacks": [0, 0, 1, 1],  # day 300 is like day 200
        "leaves_1G": [1] * 4,
    }


@pytest.mark.parametrize(("rows", "reboots"), [(1, [0, 0, 0, 0]), (2, [0, 1, 1, 1]), (3, [0, 1, 2, 2])])
def test_reboot_repairs_all_bad_pages_or_none(rows: int, reboots: list[int]) -> None:
    host = replace(CALM.host, spares=0, spare_rows=rows)
    events = (Event(7, 0.1, 0.9), Event(GIB_PAGES + 9, 0.15, 0.9), Event(11, 0.5, 0.9))
    assert course(replace(CALM, host=host), Reboots(), *events).get("reboots", [0] * 4) == reboots


def test_reboot_gives_suspects_back() -> None:
    """A soft offline is a reason to boot, once."""
    policy = with_rules(Reboots(), [on_ce(BACKING).do(MIGRATE), *Reboots.rules])
    assert course(replace(CALM, host=replace(CALM.host, spares=1)), policy, suspect(7, 0.1)) == {
        "host_lost_pages": [1, 0, 0, 0],
        "stranded_pages": [GIB_PAGES - 1, 0, 0, 0],
        "dissolved_regions": [1, 0, 0, 0],
        "restored_regions": [1, 0, 0, 0],
        "spares_used": [1, 0, 0, 0],
        "stall_ns": [104_514_000, *[900_104_514_000] * 3],
        "worst_stall_ns": [104_514_000, *[900_000_000_000] * 3],
        "reboots": [0, 1, 1, 1],
    }


class LosesPages(Policy):
    """Holes of one base page."""

    rules = [on(BACKING).do(SPLIT_TO(BASE)), on(BASE).do(UNMAP)]


def test_lost_vm_is_restarted_as_often_as_it_dies() -> None:
    """The policy asks for no spares; the host's two serve two restarts, and the third death is the last."""
    events = (
        Event(7, 0.1, 0.1, ar=True),
        Event(9, 0.3, 0.9, ar=True),  # not vital
        Event(11, 0.6, 0.2, ar=True),
        Event(13, 0.8, 0.2, ar=True),
    )
    scenario = replace(CALM, vm=replace(CALM.vm, unrecoverable=0.5, on_loss="restart"))
    assert course(scenario, LosesPages(), *events) == {
        "errors": [1, 2, 3, 4],
        "regions_hit": [1] * 4,
        "table_pages": [0, 513, 0, 513],
        "guest_lost_pages": [0, 1, 0, 1],
        "host_lost_pages": [GIB_PAGES, GIB_PAGES + 1, 2 * GIB_PAGES, 2 * GIB_PAGES + 1],
        "leaked_regions": [1, 1, 2, 2],
        "restored_regions": [1, 2, 2, 3],
        "spares_used": [1, 1, 2, 2],
        "spares_exhausted": [0, 0, 0, 1],
        "direct_map_pages": [2, 4, 4, 6],
        "guest_faults": [1000, 2000, 3000, 4000],
        "vm_lost": [1] * 4,
        # a split to base pages takes 76,866,000 ns, a restart two minutes, and 1 GiB to clear 58,000,000 ns
        "stall_ns": [120_134_880_000, 120_211_760_000, 240_269_774_000, 240_346_654_000],
        "worst_stall_ns": [120_058_000_000] * 4,
        "restarts": [1, 1, 2, 2],
        "fallbacks": [0, 0, 0, 1],
        "leaves_1G": [2, 1, 2, 1],
        "leaves_4K": [0, GIB_PAGES - 1, 0, GIB_PAGES - 1],
    }


@pytest.mark.parametrize(
    ("second", "restarts", "lost"),
    [
        (0.5499, [0, 0, 1, 1], [0, 1]),  # a hole of the dead guest
        (0.5501, [0, 0, 1, 1], [0, 1]),  # the first of the new guest
        (0.9, [0, 0, 1, 1], [0, 1]),
    ],
)
def test_restart_of_a_lost_vm_comes_when_it_dies(second: float, restarts: list[int], lost: list[int]) -> None:
    """An error after it finds the guest anew; one before it is healed with the first."""
    vm = replace(CALM.vm, unrecoverable=0.5, on_loss="restart")
    scenario = replace(CALM, vm=vm, workload=Workload(reads_per_hour=1 / (64 * 8766)))
    events = (Event(7, 0.25, 0.5 * math.exp(-0.3)), Event(GIB_PAGES + 9, second, 0.9))
    changed = course(scenario, LosesPages(), *events)
    assert (changed["restarts"], changed["vm_lost"]) == (restarts, [0, 0, 1, 1])
    assert changed["guest_lost_pages"][-1] == (0 if second < 0.55 else 1)


@pytest.mark.parametrize(
    ("action", "on_loss", "restarts"), [(KEEP, "count", [0, 0, 1, 1]), (KEEP, "restart", [0, 1, 1, 1])]
)
def test_timed_restart_of_a_lost_vm(action: Any, on_loss: Any, restarts: list[int]) -> None:
    """On day 200, unless the host has done it when the VM was lost: nothing is wrong with it any more."""
    policy = with_rules(RestartsInTime(), [on(BACKING).do(action), every(days=200).do(RESTART)])
    scenario = replace(CALM, vm=replace(CALM.vm, unrecoverable=0.5, on_loss=on_loss))
    assert course(scenario, policy, Event(7, 0.3, 0.1, ar=True))["restarts"] == restarts


@pytest.mark.parametrize(
    ("free_pages", "added"),
    [
        (GIB_PAGES - 1, None),
        (GIB_PAGES, [1, 1, 1, 1]),
        (2 * GIB_PAGES - 4095 + 1, [1, 1, 1, 1]),
        (2 * GIB_PAGES - 4095 + 2, [1, 2, 2, 2]),  # two pages went to the direct map, a memory map came back
    ],
)
def test_spare_is_replaced_where_free_memory_allows(free_pages: int, added: list[int] | None) -> None:
    """Leaked huge pages give nothing back. The error's own pages of the direct map are taken later."""
    host = replace(CALM.host, spares=1, replenish=1.0, free_memory=free_pages * 4096)
    events = (Event(7, 0.1, 0.9), Event(9, 0.3, 0.9), Event(11, 0.6, 0.9))
    changed = course(replace(CALM, host=host), MovesThenUnmaps(), *events)
    assert changed.get("spares_added") == added
    assert changed["spares_used"][-1] == min(1 + max(added or [0]), 3)


def test_replaced_spare_takes_luck() -> None:
    """About half of 200 trials get one, and the same ones again."""
    host = replace(CALM.host, spares=1, replenish=0.5)
    scenario = replace(CALM, host=host)
    case = Case(scenario, MovesThenUnmaps(), ((Event(7, 0.1, 0.9),),) * 200)
    check(case)
    added = states_on(case.follow(), case.plan, [4])[:, 0, SPARES_ADDED]
    assert 60 < added.sum() < 140


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "hole in stage 2"])
@pytest.mark.parametrize(
    ("share", "fate", "lost"),
    [
        (1.0, 0.2 + 0.4 * math.exp(-0.3), [0, 0, 1, 1]),
        (0.5, 0.2 + 0.4 * math.exp(-0.3), [0, 0, 0, 1]),
        (1.0, 0.2 + 0.4 * math.exp(-0.7), [0, 0, 0, 1]),
        (0.5, 0.2 + 0.4 * math.exp(-0.7), None),
        (1.0, 0.2, None),  # never reads
        (1.0, 0.61, None),  # retires the page
        (0.0, 0.2 + 0.4 * math.exp(-0.3), None),
        (1.0, 0.2 * math.exp(-0.3), [0, 0, 1, 1]),  # the guest's own death
    ],
)
@pytest.mark.parametrize("ar", [False, True])
def test_host_kernel_reads_poison_left_in_the_process_table(
    kept: bool, share: float, fate: float, lost: list[int] | None, ar: bool
) -> None:
    """A year in quarters, an error after one. A line is read once a year: a page 64 times, where the guest reads it."""
    vm = replace(CALM.vm, unrecoverable=0.2, unretired=0.5)
    host = replace(CALM.host, kernel_reads=share)
    scenario = replace(CALM, vm=vm, host=host, workload=Workload(reads_per_hour=1 / 8766))
    policy: Policy = load_policy("keep-mapped") if kept else HoleInStage2()
    changed = course(scenario, policy, Event(7, 0.25, fate, ar))
    if fate < 0.2 and (ar or not kept):
        lost = [1, 1, 1, 1] if ar else [0, 1, 1, 1]
    assert changed.get("vm_lost") == lost


@pytest.mark.parametrize(
    ("policy", "hvo", "hvo_with_hgm", "free_pages", "leaked", "stall_ns"),
    [
        ("unmap1g-private", True, "kept", 4095, 0, 10_514_000),
        ("unmap1g-private", True, "kept", 4094, 1, 14_000),
        ("unmap1g-private", True, "off-everywhere", 4094, 1, 14_000),
        ("unmap1g-private", False, "kept", 0, 0, 14_000),
        ("splits-then-moves", True, "off-everywhere", 0, 0, 152_592_000),
        ("splits-then-moves", True, "off-where-split", 0, 0, 163_092_000),  # it got its memory map when it was split
        ("splits-then-moves", True, "kept", 4096, 1, 152_592_000),  # two tables
        ("splits-then-moves", True, "kept", 4097, 0, 163_092_000),
        ("splits-then-moves", False, "kept", 0, 0, 152_592_000),
    ],
)
def test_dissolving_takes_free_memory_for_the_memory_map(
    policy: str, hvo: bool, hvo_with_hgm: Any, free_pages: int, leaked: int, stall_ns: int
) -> None:
    """Without it the huge page stays, for nobody. The direct map is split only after that."""
    host = replace(CALM.host, mapping="private", hvo=hvo, hvo_with_hgm=hvo_with_hgm, free_memory=free_pages * 4096)
    rules = [on(BACKING).do(SPLIT_TO("2M")), on("2M").do(MIGRATE), on("2M").do(UNMAP)]
    acts = load_policy(policy) if policy == "unmap1g-private" else with_rules(LosesPages(), rules)
    changed = course(replace(CALM, host=host), acts, Event(7, 0.1, 0.9))
    assert changed["stall_ns"] == [stall_ns] * 4
    assert changed.get("leaked_regions", [0])[0] == leaked
    assert changed.get("dissolved_regions", [0])[0] == 1 - leaked
    assert changed["host_lost_pages"][0] == (GIB_PAGES if leaked else 1)
    assert changed.get("stranded_pages", [0])[0] == (0 if leaked else GIB_PAGES - 1)


def test_memory_map_of_every_region_that_is_split() -> None:
    """Twice 10,500,000 ns where HVO is off for split pages, once more when a region moves and is split at once."""
    rules = [
        on(BACKING).do(SPLIT_VM_TO("2M")),
        on("2M", when="hits_in_vm == 1").do(UNMAP),
        on("2M").do(MIGRATE),
        on("2M").do(UNMAP),
    ]
    host = replace(CALM.host, hvo_with_hgm="off-where-split")
    policy = with_rules(LosesPages(), rules)
    changed = course(replace(CALM, host=host), policy, Event(7, 0.1, 0.9), Event(600, 0.6, 0.9))
    assert changed["restored_regions"] == [2, 2, 3, 3]
    assert changed["stall_ns"] == [22_170_000, 22_170_000, 184_684_000, 184_684_000]


@pytest.mark.parametrize(
    ("arch", "sizes", "vcpus", "table_lock", "in_stage2", "stall_ns"),
    [
        ("x86-64", ("1G", "4K"), 64, "per-pmd", False, 513 * 66_000 + 43_008_000),
        ("x86-64", ("1G", "4K"), 64, "per-mm", False, 513 * 66_000 + 262_144_000),
        ("x86-64", ("1G", "4K"), 4096, "per-pmd", False, 513 * 66_000 + 672_000),
        ("x86-64", ("1G", "4K"), 4096, "per-mm", False, 513 * 66_000 + 262_144_000),
        ("x86-64", ("1G", "4K"), 1, "per-pmd", False, 513 * 66_000 + 2_752_512_000),
        ("x86-64", ("1G", "4K"), 64, "per-pmd", True, 513 * 33_000),
        ("x86-64", ("1G", "2M"), 64, "per-pmd", False, 66_000 + 512_000),
        ("x86-64", ("2M", "4K"), 3, "per-pmd", False, 66_000 + 1_792_000),
        ("arm64", ("1G", "32M"), 64, "per-pmd", False, 66_000 + 512_000),  # stage 2 has 2M entries
        ("arm64", ("32M", "2M"), 64, "per-pmd", False, 16_000),
        ("arm64", ("32M", "64K"), 64, "per-pmd", False, 16 * 66_000 + 1_344_000),
        ("arm64", ("32M", "64K"), 4096, "per-pmd", False, 16 * 66_000 + 512_000),
        ("arm64", ("64K", "4K"), 64, "per-pmd", False, 16_000),
    ],
)
def test_oracle_gives_stalls_worked_out_by_hand(
    arch: Any, sizes: tuple[str, str], vcpus: int, table_lock: Any, in_stage2: bool, stall_ns: int
) -> None:
    vm = Vm(arch=arch, contiguous=arch == "arm64", vcpus=vcpus)
    host = replace(ARM if arch == "arm64" else Host(), table_lock=table_lock, page_tables=1)
    assert split_stall_ns(Scenario(vm=vm, host=host), *sizes, stage2_only=in_stage2) == stall_ns


def test_plan_has_the_stalls_of_the_oracle() -> None:
    rng = Random(7)
    for kind in VMS * 5:
        scenario = random_scenario(rng, kind)
        for policy in (load_policy("hgm2m"), HoleInStage2()):
            plan = make_plan(scenario, [policy], 0, any_host=True)
            matrix = plan.stall_split(plan.policies[0])
            for (above, size), (below, to_size) in combinations(enumerate(plan.ladder.sizes), 2):
                want = split_stall_ns(scenario, size, to_size, stage2_only=isinstance(policy, HoleInStage2))
                assert matrix[above, below] == want, (scenario, size, to_size)


@pytest.mark.parametrize(
    ("policy", "leaves"),
    [
        ("hgm2m", {"leaves_1G": 1, "leaves_2M": 511, "leaves_4K": 511}),
        ("keep-mapped-hole", {"leaves_1G": 1, "leaves_2M": 511, "leaves_4K": 511}),
        ("hgm-contig", {"leaves_1G": 1, "leaves_32M": 31, "leaves_2M": 15, "leaves_64K": 31, "leaves_4K": 15}),
    ],
)
def test_split_goes_by_contiguous_sizes_only_where_the_policy_is_made_for_them(
    policy: str, leaves: dict[str, int]
) -> None:
    scenario = replace(CALM, vm=replace(CALM.vm, arch="arm64", contiguous=True), host=ARM)
    changed = course(scenario, load_policy(policy), Event(7, 0.1, 0.9))
    assert {name: values[-1] for name, values in changed.items() if name.startswith("leaves")} == leaves


@pytest.mark.parametrize(
    ("first", "fallbacks"),
    [
        ([on(BACKING).do(MIGRATE), on(BACKING).do(EVACUATE), on(BACKING).do(OFFLINE)], 1),  # once for all of them
        ([on(BACKING, when="spares_left > 1").do(MIGRATE)], 1),  # as there is none
        ([on(BACKING, when="hits_in_vm > 1 and spares_left > 1").do(MIGRATE)], 0),
        ([on(BACKING, when="spares_left > 0").do(EVACUATE)], 0),  # which asks for no spare
        ([on(BACKING, when="spares_left < 1").do(EVACUATE)], 1),
        ([on(BACKING, when="hits_in_vm > 1").do(OFFLINE)], 0),
        ([on(BACKING, when="spares_left > 0").do(RESTART)], 1),
        ([every(days=20).do(RESTART), every(days=20).do(REBOOT), every(days=20).do(EVACUATE)], 6),
        ([on("2M").do(MIGRATE)], 1),  # after a split
    ],
)
def test_fallbacks_are_events_that_found_what_they_asked_for_missing(first: list[Any], fallbacks: int) -> None:
    """No spare, no host to go to, and the guest cannot move anything.

    The second error is of the page of the first; timed rules are tried once after each.
    """
    last = [on(BACKING).do(SPLIT_TO("2M")), on("2M").do(UNMAP)]
    rules = [*first, *last, every(days=1000, when="leaked_regions > 1").do(REBOOT)]
    scenario = replace(
        CALM,
        vm=replace(CALM.vm, unmovable=1.0),
        host=replace(CALM.host, spares=0),
        horizon=Horizon(years=3.0, grid="1y"),
    )
    changed = course(scenario, with_rules(LosesPages(), rules), Event(7, 0.1, 0.9), Event(7, 0.3, 0.9))
    assert changed.get("fallbacks", [0])[-1] == fallbacks


CONSERVED_CASES = 400


def test_conservation_of_every_base_page() -> None:
    """What the kernel counts against the oracle's sets of pages, in every state that is recorded."""
    moved: Counter[str] = Counter()
    for number in range(CONSERVED_CASES):
        case = seeded_case(int(RESEED or 0) + number)
        plan, vm, host = case.plan, case.scenario.vm, case.scenario.host
        columns = state_columns(plan.ladder.sizes)
        memory, spares = memory_map(case.scenario, case.policy), plan.spares_of(plan.policies[0])
        n_tables = 1 if cuts_stage2(case.policy) else host.page_tables + 1
        pool, free_at_first = vm.n_regions + spares, host.free_bytes // vm.base_bytes
        states = states_on(case.follow(), plan, list(range(case.scenario.horizon.n_steps + 1)))
        for vector, ledger in (
            (s, b) for trial, book in zip(states, case.ledgers(), strict=True) for s, b in zip(trial, book, strict=True)
        ):
            state = dict(zip(columns, vector.tolist(), strict=True))
            mapped = sum(
                state[f"leaves_{n}"] * pages for n, pages in zip(plan.ladder.sizes, plan.ladder.pages, strict=True)
            )
            assert mapped + ledger.holes == vm.n_base_pages, repr(case)
            given_up = state["leaked_regions"] + state["dissolved_regions"]
            left = spares + state["spares_added"] - state["spares_used"]
            assert ledger.backed + left + given_up == pool + state["spares_added"], repr(case)
            lost = state["host_lost_pages"] - ledger.poison_in_use
            assert given_up * vm.pages_per_region == lost + state["stranded_pages"], repr(case)
            # All that the host had at first is free, in the pool, in a table, in a memory map, or lost.
            taken_back = state["restored_regions"] if memory.by_split else state["dissolved_regions"]
            elsewhere = state["table_pages"] * n_tables + state["direct_map_pages"] + lost
            elsewhere += memory.pages * (taken_back - state["spares_added"])
            in_pool = (ledger.backed + left) * vm.pages_per_region
            assert ledger.free + in_pool + elsewhere == free_at_first + pool * vm.pages_per_region, repr(case)
            moved.update(name for name, value in state.items() if value)
    assert min(moved[name] for name in ("leaked_regions", "stranded_pages", "spares_added", "reboots")) > 100, moved


ADDED = (on_ce(BACKING, when="hits_in_vm == 0").do(MIGRATE), on_ce(BACKING).do(MIGRATE))
PLAIN_CASES = 200


def plain_cases(first_seed: int) -> Iterator[tuple[Case, Case, Case, Case]]:
    """A case without rules of `on_ce`, the same with them added, and both without corrected errors."""
    for number in range(first_seed, first_seed + PLAIN_CASES):
        rng = Random(number)
        scenario = random_scenario(rng, rng.choice(VMS))
        scenario = replace(scenario, vm=replace(scenario.vm, on_loss="count"))
        policy = random_policy(rng, scenario, offlines=False, starts_anew=False)
        added = with_rules(policy, mixed_in(rng, policy.rules, ADDED))
        trials = random_trials(rng, scenario, 3, 12)
        errors = tuple(tuple(event for event in trial if not event.corrected) for trial in trials)
        yield (
            Case(scenario, policy, trials),
            Case(scenario, added, trials),
            Case(scenario, policy, errors),
            Case(scenario, added, errors),
        )


def test_only_corrected_errors_and_rules_for_them_together_matter() -> None:
    """Neither rules of `on_ce` without corrected errors nor these without those; together they change no error."""
    moved = 0
    for case, added, case_errors, added_errors in plain_cases(int(RESEED or 0)):
        points = list(range(case.scenario.horizon.n_steps + 1))
        want, with_both = (states_on(one.follow(), one.plan, points) for one in (case, added))
        for other in (case_errors, added_errors):
            assert_array_equal(states_on(other.follow(), other.plan, points), want, err_msg=repr(added))
        check(added)
        columns = [ERRORS, REGIONS_HIT]
        assert_array_equal(with_both[:, :, columns], want[:, :, columns], err_msg=repr(added))
        (compiled,) = added.plan.policies
        left = compiled.spares + with_both[:, :, SPARES_ADDED] - with_both[:, :, SPARES_USED]
        assert left.min() >= 0, repr(added)
        moved += (with_both != want).any()
    assert moved > PLAIN_CASES // 4


def test_oracle_gives_the_published_arithmetic() -> None:
    """513 table pages and 262,143 leaves where all is 4K, 2 and 511 + 511 with 2M between; 1 GiB lost without."""
    scenario = Scenario(vm=Vm(memory="3GiB"), horizon=Horizon(years=1.0, grid="1y"))
    events = [Event(262_144 + 777, 0.5, 0.99)]
    found = {}
    for name in ("unmap1g", "hgm4k", "hgm2m"):
        policy = load_policy(name)
        plan = make_plan(scenario, [policy], seed=0)
        state = dict(zip(state_columns(plan.ladder.sizes), life(plan, policy, events)[-1].tolist(), strict=True))
        found[name] = [state[c] for c in ("table_pages", "guest_lost_pages", "leaves_1G", "leaves_2M", "leaves_4K")]
    assert found == {
        "unmap1g": [0, 262_144, 2, 0, 0],
        "hgm4k": [513, 1, 2, 0, 262_143],
        "hgm2m": [2, 1, 2, 511, 511],
    }


@pytest.mark.parametrize(
    ("pages", "kept", "vital", "unretired", "reads", "fatal", "per_year", "checks"),
    [
        (1, False, 0.5, 0.5, 0.0, 0.5, 0.0, 1000),  # where nobody reads, only the error itself is told
        (1, False, 0.02, 0.06, 0.32, 0.02, 179_527.68, 1068),
        (1, True, 0.02, 0.06, 0.32, 0.02, 2805.12, 1068),
        (512, False, 0.5, 0.0, 0.0, 1.0, 0.0, 1000),
        (512, False, 0.0, 0.5, 0.0, 0.0, 0.0, 1000),
        (512, False, 0.02, 0.06, 0.32, 0.9999683109136, 25_968_551.5638, 49_848),
        (512, False, 0.0, 0.06, 0.01, 4.92130947536e-4, 77.7871578662, 511_749),
        (512, False, 0.0, 0.0, 1e9, 1.0, 4.04538915519e18, 1000),  # every touch comes too close to the one before
    ],
)
def test_oracle_gives_losses_worked_out_by_hand(
    pages: int, kept: bool, vital: float, unretired: float, reads: float, fatal: float, per_year: float, checks: int
) -> None:
    vm = Vm(unrecoverable=vital, unretired=unretired)
    loss = loss_of(Scenario(vm=vm, workload=Workload(reads_per_hour=reads)), pages, kept=kept)
    assert loss[:4] == (pages, pytest.approx(fatal, rel=1e-10), pytest.approx(per_year, rel=1e-10), checks)


@pytest.mark.parametrize(
    ("ar", "wait", "second", "on_loss", "errors", "lost"),
    [
        (True, 0.3, 0.25, "end", [0, 2, 2, 2, 2], [0, 1, 1, 1, 1]),  # an error at the moment of death still counts
        (True, 0.3, 0.2500001, "end", [0, 1, 1, 1, 1], [0, 1, 1, 1, 1]),
        (True, 0.3, 0.2500001, "count", [0, 1, 2, 2, 2], [0, 1, 1, 1, 1]),
        (False, 0.3, 0.25, "end", [0, 2, 2, 2, 2], [0, 0, 0, 1, 1]),
        (False, 0.3, 0.5, "end", [0, 1, 2, 2, 2], [0, 0, 0, 1, 1]),
        (False, 0.3, 0.5499, "end", [0, 1, 1, 2, 2], [0, 0, 0, 1, 1]),
        (False, 0.3, 0.5501, "end", [0, 1, 1, 1, 1], [0, 0, 0, 1, 1]),
        (False, 0.3, 0.5501, "count", [0, 1, 1, 2, 2], [0, 0, 0, 1, 1]),
        (False, 0.3, 0.9, "end", [0, 1, 1, 1, 1], [0, 0, 0, 1, 1]),
        (False, 0.3, 0.9, "count", [0, 1, 1, 1, 2], [0, 0, 0, 1, 1]),
        (False, 0.01, 0.2601, "end", [0, 1, 1, 1, 1], [0, 0, 1, 1, 1]),
        (False, 0.01, 0.2601, "count", [0, 1, 2, 2, 2], [0, 0, 1, 1, 1]),
        (False, 0.7499, 0.99995, "end", [0, 1, 1, 1, 1], [0, 0, 0, 0, 1]),
        (False, 0.7501, 0.99995, "end", [0, 1, 1, 1, 2], [0, 0, 0, 0, 0]),  # the guest outlives the horizon
        (False, math.inf, 0.9999, "end", [0, 1, 1, 1, 2], [0, 0, 0, 0, 0]),
    ],
)
def test_when_the_guest_dies(
    ar: bool, wait: float, second: float, on_loss: Any, errors: list[int], lost: list[int]
) -> None:
    """A year in quarters, a first error after one of them that kills, then a harmless one."""
    scenario = Scenario(
        vm=Vm(memory="2MiB", backing="2M", unrecoverable=0.5, on_loss=on_loss),
        workload=Workload(reads_per_hour=1 / (64 * 8766)),  # a touch per page and year
        horizon=Horizon(years=1.0, grid="3months"),
    )
    case = Case(scenario, load_policy("hgm4k"), ((Event(7, 0.25, 0.5 * math.exp(-wait), ar), Event(9, second, 0.9)),))
    check(case)
    columns = [state_columns(case.plan.ladder.sizes).index(name) for name in ("errors", "vm_lost")]
    assert life(case.plan, case.policy, case.trials[0])[:, columns].T.tolist() == [errors, lost]


class VmTo2M(Policy):
    """The whole VM to 2M at the first error, then each hit 2M to base pages."""

    rules = [on(BACKING).do(SPLIT_VM_TO("2M")), on(">BASE").do(SPLIT), on(BASE).do(UNMAP)]


class In2M(Policy):
    """Holes of 2M."""

    mapping = "private"
    rules = [on(">2M").do(SPLIT), on("2M").do(UNMAP)]


STATELESS = ("unmap1g", "unmap1g-private", "hgm4k", "hgm2m", "hgm4k-vma")
MONTHLY = Horizon(years=5.0, grid="1month")
SELDOM_READ = Workload(reads_per_hour=1e-6)  # months pass between an error and the death that it brings


@pytest.mark.parametrize(
    ("scenario", "extra", "n_trials"),
    [
        (Scenario(), [VmTo2M, In2M], 2000),
        (Scenario(faults=CountFaults(placement="distinct-regions")), [In2M], 500),
        (Scenario(faults=RateFaults(ue_per_tib_year=0.3, dispersion=2.0)), [VmTo2M], 3000),
        (Scenario(vm=Vm(backing="2M")), [], 300),
        (Scenario(vm=Vm(memory="64MiB", backing="2M"), faults=CountFaults(errors=900)), [], 100),
        (Scenario(vm=Vm(memory="3GiB"), faults=CountFaults(errors=3000)), [VmTo2M, In2M], 40),
        (Scenario(vm=Vm(arch="arm64", contiguous=True), host=ARM, faults=CountFaults(errors=300)), [VmTo2M, In2M], 300),
        (Scenario(vm=Vm(memory="64GiB", arch="arm64-16k"), host=ARM, faults=CountFaults(errors=500)), [], 200),
        (Scenario(workload=SELDOM_READ), [VmTo2M, In2M], 1000),
        (Scenario(vm=Vm(unretired=0.4), workload=Workload(reads_per_hour=0.0)), [VmTo2M, In2M], 200),
        (Scenario(vm=Vm(unrecoverable=0.0), faults=RateFaults(ue_per_tib_year=2.0)), [VmTo2M, In2M], 1000),
    ],
    ids=[
        "seed-1t", "distinct-regions", "few-errors", "backed-by-2M", "crowded-2M", "crowded-1G", "arm64", "arm64-16k",
        "seldom-read", "never-read", "nothing-vital",
    ],
)  # fmt: skip
def test_stateless_policies_in_closed_form(scenario: Scenario, extra: list[type[Policy]], n_trials: int) -> None:
    """The state is a function of the set of poisoned pages so far, here on histories as runs draw them."""
    scenario = replace(scenario, horizon=MONTHLY)
    policies = [*map(load_policy, STATELESS), *(policy() for policy in extra)]
    plan = make_plan(scenario, policies, seed=11)
    history = draw_history(scenario, 11, 0, n_trials)
    trial = np.repeat(np.arange(len(history.trial)), np.diff(history.start))
    points = [17, 60]
    for policy, paths in zip(policies, follow(plan, history, 0), strict=True):
        got = states_on(paths, plan, points, history.stratum)
        for k, point in enumerate(points):
            seen = history.years <= point / 12
            columns = (trial, history.page, history.years, history.fate, history.ar)
            errors = Errors(*(column[seen] for column in columns))
            want = stateless_states(plan, policy, errors, history.stratum, point)
            assert_array_equal(got[:, k], want, err_msg=f"{policy.label} at {point} months")


@pytest.mark.parametrize(
    ("faults", "threshold", "n_trials", "n_blocks"),
    [
        (RateFaults(ue_per_tib_year=2.5e4), "off", 100, 1),
        (RateFaults(ue_per_tib_year=2.5e3), "off", 400, 1),
        (FieldFaults(scale=3e3, service="left-in"), "mcelog", 60, 6),
    ],
    ids=["plain", "by stratum", "corrected"],
)
def test_block_counts_what_the_oracle_sees(faults: Any, threshold: str, n_trials: int, n_blocks: int) -> None:
    """Counts per state and grid point, and joint counts per year, on histories that a run draws."""
    scenario = Scenario(
        vm=Vm(memory="64MiB", backing="2M", unrecoverable=0.3),
        host=Host(ce_threshold=threshold),
        faults=faults,
        workload=SELDOM_READ,
        horizon=Horizon(years=2.0, grid="6months"),
    )
    specs = ["migrate-then-hgm2m:spares=1", "unmap1g", *(["soft-offline:spares=1"] if threshold != "off" else [])]
    policies = [load_policy(spec) for spec in specs]
    plan = make_plan(scenario, policies, seed=3)
    assert plan.strata.plain == (faults != RateFaults(ue_per_tib_year=2.5e3))
    seen: Counter[int] = Counter()
    for index in range(1, n_blocks + 1):
        history = draw_history(scenario, 3, index, plan.block_trials).first(n_trials)
        assert len(history.trial) < n_trials <= plan.block_trials
        seen.update(history.corrected.tolist())
        check_block(plan, policies, index, n_trials, history)
    assert seen[0] >= 20 and (seen[1] > 100) == (threshold != "off"), seen


def check_block(plan: Plan, policies: list[Policy], index: int, n_trials: int, history: History) -> None:
    """Asserts that a block counts what the oracle makes of its history."""
    block = run_block(plan, index, n_trials)
    lives = []
    luck = luck_of(plan, index)
    rows = zip(history.start, history.start[1:], history.stratum, history.trial, strict=False)
    for first, last, stratum, trial in rows:
        arrays = (history.page, history.years, history.fate, history.ar, history.born, history.corrected)
        columns = (array[first:last].tolist() for array in arrays)
        events = [Event(*event) for event in zip(*columns, strict=True)]
        lives.append([life(plan, policy, events, int(stratum), int(trial), luck) for policy in policies])
    lives += [[life(plan, policy, []) for policy in policies]] * (n_trials - len(lives))
    for k, (states, counts) in enumerate(zip(block.states, block.counts, strict=True)):
        for point in range(plan.scenario.horizon.n_steps + 1):
            want = Counter(tuple(both[k][point].tolist()) for both in lives)
            assert want == {tuple(s): n for s, n in zip(states.tolist(), counts[:, point].tolist(), strict=True) if n}
    for point, rows, counts in zip(year_points(plan), block.joint, block.joint_counts, strict=True):
        together = Counter(tuple(tuple(one[point].tolist()) for one in both) for both in lives)
        named = [tuple(tuple(s[i].tolist()) for s, i in zip(block.states, row, strict=True)) for row in rows]
        assert together == {name: n for name, n in zip(named, counts.tolist(), strict=True) if n}


@pytest.mark.parametrize(
    ("coded", "ruled"),
    [(SplitsInCode(), load_policy("hgm2m")), (MovesInCode(), MovesByRules())],
    ids=["hgm2m", "moves"],
)
def test_policy_in_code_equals_its_rules(coded: Policy, ruled: Policy) -> None:
    rng = Random(5)
    for kind in VMS * 3:
        scenario = random_scenario(rng, kind)
        case = Case(scenario, coded, random_trials(rng, scenario, 4, 20))
        points = list(range(scenario.horizon.n_steps + 1))
        in_rules = replace(case, policy=ruled)
        check(in_rules)
        want, got = (states_on(one.follow(), one.plan, points) for one in (in_rules, case))
        for states in (want, got):  # code takes what there is, and never says that it wanted more
            states[:, :, [SPARES_EXHAUSTED, FALLBACKS]] = 0
        assert_array_equal(got, want, err_msg=repr(case))


class AlwaysMoves(Policy):
    """Asks for a spare whether there is one or not."""

    @staticmethod
    def decide(c: Any, p: Any) -> int:
        return MIGRATE


def test_code_cannot_take_a_spare_that_is_not_there() -> None:
    scenario = Scenario(vm=Vm(memory="2GiB"), host=Host(spares=1), horizon=Horizon(years=1.0, grid="1y"))
    trials = ((Event(5, 0.1, 0.9),), (Event(5, 0.1, 0.9), Event(7, 0.2, 0.9)))
    with pytest.raises(PolicyError, match=r"decide answered MIGRATE for a 1G leaf in trial 3;.*spares_left > 0"):
        Case(scenario, AlwaysMoves(), trials).follow()
    Case(scenario, AlwaysMoves(), trials[:1]).follow()


def test_interpreted_kernel_gives_the_same_bytes() -> None:
    """The same source without compilation, in a process of its own; integers overflow there with a warning."""
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    script = "import numba, strategies; assert numba.config.DISABLE_JIT; "
    script += f"print(strategies.fingerprint({INTERPRETED_CASES}))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore::RuntimeWarning", "-c", script],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == fingerprint(INTERPRETED_CASES)


class Watched(Life):
    """Notes what happens that no state column tells."""

    def __init__(self, plan: Plan, policy: Policy) -> None:
        super().__init__(plan, policy)
        self.met: set[str] = set()

    def end(self, action: Any, event: Event) -> None:
        before, level = self.died, int(self.level[event.page])
        super().end(action, event)
        if action is UNMAP_STAGE2:
            self.met.add("hole in stage 2")
        if action is EVACUATE and self.died < before:
            self.met.add("dies of what is evacuated")
        if action in (KEEP, UNMAP_STAGE2) and self.died < before and event.fate >= self.losses[self.base].fatal:
            self.met.add("host panics")
        if action is UNMAP and level == 0 and self.stage2_only:
            self.met.add("all of a huge page lost beside holes in stage 2")

    def offline(self, event: Event) -> None:
        self.met.add("plugged in again" if self.spares_left() > 0 else "unplugged")
        super().offline(event)

    def reboot(self, years: float) -> bool:
        again, used = len(self.left_out) > 0, self.rows_used
        done = super().reboot(years)
        if self.fell_back:
            self.met.add("reboot short of spares")
        elif done and self.rows_used > used:
            self.met.add("bad pages repaired")
        elif done and self.left_out:
            self.met.add("more huge pages left out" if again else "huge pages left out")
        return done

    def give_up(self, huge: HugePage) -> None:
        whole = huge in self.with_memory_map()
        super().give_up(huge)
        if huge in self.leaked:
            self.met.add("leaked" if self.leaks and self.hits_in(huge) > 0 else "no memory to dissolve it")
        elif self.memory_map.pages > 0:
            self.met.add("memory map restored by a split" if whole else "memory map restored")

    def replenish(self) -> None:
        made, enough = len(self.made), self.free() - sum(map(self.usable_in, self.dissolved)) >= self.region_pages
        super().replenish()
        if self.plan.scenario.host.replenish > 0:
            no = "no luck for a spare" if enough else "no memory for a spare"
            self.met.add("spare replaced" if len(self.made) > made else no)


def met_in(case: Case) -> set[str]:
    """What happens in a case that no state column tells."""
    met = set()
    horizon, ends = case.scenario.horizon, case.scenario.vm.on_loss == "end"
    for events in case.trials:
        vm = Watched(case.plan, case.policy)
        averting: set[int] = set()  # regions that moved for corrected errors when they moved last
        for event in with_ticks(vm, events):
            timed = isinstance(event, Tick)
            if event.years > vm.died and vm.restarts_lost:
                met.add("restarted when lost" if vm.lost_at == math.inf else "restarted when lost again")
                vm.lose()
                met |= {"restarted short of spares"} if vm.poisoned else set()
            elif event.years > vm.died:
                met.add("after the end" if ends else "after a death")
                if ends:
                    break
            elif event.years == vm.died:
                met.add("at the moment of a death")
            elif vm.died <= horizon.years:
                met.add("before a death to come")
            before, moves, once = vm.died, len(vm.taken), (vm.evacuations, vm.restarts, vm.reboots, vm.stall_ns)
            dead, poisoned, vm_level, holes = vm.died < event.years, len(vm.poisoned), vm.vm_level, not vm.mapped.all()
            if not isinstance(event, Tick):
                met |= met_by_suspect(vm, event) if event.corrected else met_by_poison(vm, event, averting)
            vm.meet(event)
            when = (
                "in time" if timed else "at a suspect" if isinstance(event, Event) and event.corrected else "at poison"
            )
            if vm.evacuations > once[0]:
                met |= {f"evacuated {when}", "evacuated with poison" if poisoned else "evacuated clean"}
                averting.clear()
            elif vm.reboots > once[2]:
                met |= {"rebooted after a death"} if dead else set()
                averting.clear()
            elif vm.restarts > once[1]:
                met |= {
                    f"restarted {when}",
                    "restarted with a spare" if len(vm.taken) > moves else "merely restarted",
                }
                met |= {"restarted short of spares"} if vm.poisoned else set()
                met |= {"restarted after a death"} if dead else set()
            elif isinstance(event, Tick):
                collapsed = vm.stall_ns > once[3]
                met |= {"collapsed around holes" if holes else "collapsed without a hole"} if collapsed else set()
                met |= {"split of the VM ended"} if vm.vm_level < vm_level else set()
            elif len(vm.taken) > moves:
                (averting.add if event.corrected else averting.discard)(event.page // vm.region_pages)
            if vm.died < before:
                met.add("dies at once" if vm.died == event.years else "dies later")
                met |= {"dies sooner"} if before < math.inf else set()
            elif not dead and vm.died > before:
                met.add("death called off")
            struck = grid_point(event.years, case.scenario)
        if struck < (lost_from := grid_point(min(vm.lost_at, vm.died), case.scenario)) <= horizon.n_steps:
            met.add("dies at a grid point of its own")
        if horizon.n_steps < lost_from < math.inf:
            met.add("outlives the horizon")
        met |= vm.met
    return met


def met_by_poison(vm: Life, event: Event, averting: set[int]) -> set[str]:
    """What an error is about to meet."""
    if event.page in vm.poisoned:
        return {"duplicate"}
    if not vm.mapped[event.page]:
        return {"in a hole"}
    if event.began <= vm.evacuated_at:
        return {"left behind by an evacuation"}
    return {"averted"} if vm.left_behind(event) and event.page // vm.region_pages in averting else set()


def met_by_suspect(vm: Life, event: Event) -> set[str]:
    """What corrected errors are about to meet under a policy that would act on them."""
    if not any(rule.trigger == "on_ce" for rule in vm.policy.rules):
        return set()
    if vm.left_behind(event):
        return {"suspect left behind"}
    if not vm.mapped[event.page]:
        return {"suspect in a hole"}
    if event.page in vm.poisoned:
        return {"suspect poisoned already"}
    poisoned, level = vm.hits_in(vm.backing_of(event.page)) > 0, int(vm.level[event.page])
    if vm.choose(level, event) is None:
        return {"suspect without a spare" if vm.spares_left() <= 0 and vm.spares_exhausted else "suspect let be"}
    met = {"poisoned region moved" if poisoned else "clean region moved"}
    met |= {"poisoned region leaked"} if poisoned and vm.leaks else set()
    return met | ({"split region moved"} if level > 0 else set())


MEETINGS = 57


def test_cases_reach_every_corner() -> None:
    """The generator is worth what it reaches: every state column moves, spares run out, trials end early."""
    seen: Counter[str] = Counter()
    for number in range(CORNER_CASES):
        case = seeded_case(number)
        last = case.follow().states[1:]
        seen.update(name for k, name in enumerate(COLUMNS_THAT_MOVE) if (last[:, k] > 0).any())
        seen.update(met_in(case))
    assert min(seen.values()) >= CORNER_CASES // 200 and len(seen) == len(COLUMNS_THAT_MOVE) + MEETINGS, seen
