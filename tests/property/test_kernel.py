"""The compiled kernel against a second, independent answer, and against its own source interpreted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, seed, settings
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from oracle import Event, life, stateless_states
from strategies import (
    VMS,
    Case,
    MovesByRules,
    MovesInCode,
    SplitsInCode,
    cases,
    fingerprint,
    random_policy,
    random_scenario,
    random_trials,
    seeded_case,
)

from poisonsim.engine.block import Paths, follow, run_block, year_points
from poisonsim.engine.plan import Plan, make_plan
from poisonsim.engine.state import SPARES_EXHAUSTED, state_columns
from poisonsim.errors import PolicyError
from poisonsim.faults.history import draw_history
from poisonsim.policy import BACKING, BASE, MIGRATE, SPLIT, SPLIT_VM_TO, UNMAP, Policy, load_policy, on, policy_names
from poisonsim.scenario import CountFaults, Horizon, Host, RateFaults, Scenario, Vm

I64 = NDArray[np.int64]
Test = Callable[..., None]
RESEED = os.environ.get("POISONSIM_TEST_SEED")
SWEPT_CASES = 1200
INTERPRETED_CASES = 150


def searched(max_examples: int) -> Callable[[Test], Test]:
    """Decorator: hypothesis searches the same examples every time, or others where POISONSIM_TEST_SEED says so."""

    def decorate(test: Test) -> Test:
        chosen = settings(deadline=None, max_examples=max_examples, derandomize=RESEED is None, database=None)(test)
        return chosen if RESEED is None else seed(int(RESEED))(chosen)

    return decorate


def states_on(paths: Paths, plan: Plan, points: list[int]) -> I64:
    """States of the trials at some grid points, int64[n_trials, n_points, n_columns]; the records must be in order."""
    owner = np.repeat(np.arange(len(paths.start) - 1), np.diff(paths.start))
    assert len(owner) == len(paths.grid) == len(paths.state)
    assert (np.diff(paths.grid)[np.diff(owner) == 0] > 0).all(), "two records of a trial at one grid point"
    assert_array_equal(paths.states[0], plan.zero_state)
    assert len(np.unique(paths.states, axis=0)) == len(paths.states), "a state is listed twice"
    rows = []
    for point in points:
        passed = np.bincount(owner[paths.grid <= point], minlength=len(paths.start) - 1)
        latest = np.append(paths.state, 0)[paths.start[:-1] + passed - 1]
        rows.append(paths.states[np.where(passed > 0, latest, 0)])
    return np.stack(rows, axis=1)


def check(case: Case) -> None:
    """Asserts that kernel and oracle agree on every column, trial and grid point."""
    plan = case.plan
    points = list(range(plan.scenario.horizon.n_steps + 1))
    got = states_on(case.follow(), plan, points)
    for trial, (states, events) in enumerate(zip(got, case.trials, strict=True)):
        want = life(plan, case.policy, events)
        for point, column in np.argwhere(states != want):
            name = state_columns(plan.ladder.sizes)[column]
            pytest.fail(
                f"trial {trial}, grid point {point}: {name} is {states[point, column]} by the kernel, "
                f"{want[point, column]} by the oracle\n{replace(case, trials=(events,))!r}"
            )


@searched(max_examples=300)
@given(case=cases())
def test_random_policies(case: Case) -> None:
    check(case)


def test_more_random_policies() -> None:
    """As above without the search, which makes each case several times as dear."""
    for number in range(SWEPT_CASES):
        check(seeded_case(int(RESEED or 0) + number))


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


class VmTo2M(Policy):
    """The whole VM to 2M at the first error, then each hit 2M to base pages."""

    rules = [on(BACKING).do(SPLIT_VM_TO("2M")), on(">BASE").do(SPLIT), on(BASE).do(UNMAP)]


class In2M(Policy):
    """Holes of 2M."""

    mapping = "private"
    rules = [on(">2M").do(SPLIT), on("2M").do(UNMAP)]


STATELESS = ("unmap1g", "unmap1g-private", "hgm4k", "hgm2m", "hgm4k-vma")
MONTHLY = Horizon(years=5.0, grid="1month")
ARM = Host(cpu="neoverse-n1", page_tables=2)


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
    ],
    ids=["seed-1t", "distinct-regions", "few-errors", "backed-by-2M", "crowded-2M", "crowded-1G", "arm64", "arm64-16k"],
)
def test_stateless_policies_in_closed_form(scenario: Scenario, extra: list[type[Policy]], n_trials: int) -> None:
    """The state is a function of the set of poisoned pages so far, here on histories as runs draw them."""
    scenario = replace(scenario, horizon=MONTHLY)
    policies = [*map(load_policy, STATELESS), *(policy() for policy in extra)]
    plan = make_plan(scenario, policies, seed=11)
    history = draw_history(scenario, 11, 0, n_trials)
    trial = np.repeat(np.arange(len(history.trial)), np.diff(history.start))
    points = [17, 60]
    for policy, paths in zip(policies, follow(plan, history, 0), strict=True):
        got = states_on(paths, plan, points)
        for k, point in enumerate(points):
            seen = history.years <= point / 12
            events = (trial[seen], history.page[seen], history.fate[seen])
            want = stateless_states(plan, policy, *events, n_trials=len(history.trial))
            assert_array_equal(got[:, k], want, err_msg=f"{policy.label} at {point} months")


def test_block_counts_what_the_oracle_sees() -> None:
    """Counts per state and grid point, and joint counts per year, on a history that a run draws."""
    scenario = Scenario(
        vm=Vm(memory="16MiB", backing="2M"),
        faults=RateFaults(ue_per_tib_year=1e5),
        horizon=Horizon(years=2.0, grid="6months"),
    )
    policies = [load_policy("migrate-then-hgm2m:spares=1"), load_policy("unmap1g")]
    plan = make_plan(scenario, policies, seed=3)
    n_trials = 100
    block = run_block(plan, 1, n_trials)
    history = draw_history(scenario, 3, 1, plan.block_trials).first(n_trials)
    assert 0 < len(history.trial) < n_trials
    lives = []
    for first, last in zip(history.start, history.start[1:], strict=False):
        columns = (history.page[first:last], history.years[first:last], history.fate[first:last])
        events = [Event(int(p), float(y), float(f)) for p, y, f in zip(*columns, strict=True)]
        lives.append([life(plan, policy, events) for policy in policies])
    lives += [[life(plan, policy, []) for policy in policies]] * (n_trials - len(lives))
    for k, (states, counts) in enumerate(zip(block.states, block.counts, strict=True)):
        for point in range(scenario.horizon.n_steps + 1):
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
        want = states_on(in_rules.follow(), in_rules.plan, points)
        want[:, :, SPARES_EXHAUSTED] = 0  # code takes what there is, and never says that it wanted more
        assert_array_equal(states_on(case.follow(), case.plan, points), want, err_msg=repr(case))


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


def test_cases_reach_every_corner() -> None:
    """The generator is worth what it reaches: every state column moves, spares run out, trials end early."""
    seen: Counter[str] = Counter()
    for number in range(INTERPRETED_CASES):
        case = seeded_case(number)
        last = case.follow().states[1:]
        seen.update(name for k, name in enumerate(state_columns(())) if (last[:, k] > 0).any())
        pages = [[event.page for event in trial] for trial in case.trials]
        seen["duplicate"] += any(len(set(trial)) < len(trial) for trial in pages)
        seen["in a hole"] += bool((last[:, 0] > last[:, state_columns(()).index("guest_faults")]).any())
    assert min(seen.values()) >= INTERPRETED_CASES // 20 and len(seen) == len(state_columns(())) + 2, seen
