"""The compiled kernel against a second, independent answer, and against its own source interpreted."""

from __future__ import annotations

import math
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
from oracle import Errors, Event, Life, grid_point, life, loss_of, stateless_states
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
from poisonsim.engine.state import SPARES_EXHAUSTED, STRATUM, state_columns
from poisonsim.errors import PolicyError
from poisonsim.faults.history import draw_history
from poisonsim.policy import BACKING, BASE, MIGRATE, SPLIT, SPLIT_VM_TO, UNMAP, Policy, load_policy, on, policy_names
from poisonsim.scenario import CountFaults, Horizon, Host, RateFaults, Scenario, Vm, Workload

I64 = NDArray[np.int64]
Test = Callable[..., None]
RESEED = os.environ.get("POISONSIM_TEST_SEED")
SWEPT_CASES = 1200
INTERPRETED_CASES = 150
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
        (1, False, 0.5, 0.5, 0.0, 0.5, 0.0, 2000),  # one, half a touch of vital memory, half a failure to retire
        (1, False, 0.02, 0.06, 0.32, 0.02, 179_527.68, 1068),
        (1, True, 0.02, 0.06, 0.32, 0.02, 2805.12, 1068),
        (512, False, 0.5, 0.0, 0.0, 1.0, 0.0, 2000),
        (512, False, 0.0, 0.5, 0.0, 0.0, 0.0, 512_000),
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
    assert loss == (pages, pytest.approx(fatal, rel=1e-10), pytest.approx(per_year, rel=1e-10), checks)


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
ARM = Host(cpu="neoverse-n1", page_tables=2)
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


@pytest.mark.parametrize(("rate", "n_trials"), [(1e5, 100), (1e4, 400)], ids=["plain", "by stratum"])
def test_block_counts_what_the_oracle_sees(rate: float, n_trials: int) -> None:
    """Counts per state and grid point, and joint counts per year, on a history that a run draws."""
    scenario = Scenario(
        vm=Vm(memory="16MiB", backing="2M", unrecoverable=0.3),
        faults=RateFaults(ue_per_tib_year=rate),
        workload=SELDOM_READ,
        horizon=Horizon(years=2.0, grid="6months"),
    )
    policies = [load_policy("migrate-then-hgm2m:spares=1"), load_policy("unmap1g")]
    plan = make_plan(scenario, policies, seed=3)
    assert plan.strata.plain == (rate == 1e5)
    block = run_block(plan, 1, n_trials)
    history = draw_history(scenario, 3, 1, plan.block_trials).first(n_trials)
    assert 0 < len(history.trial) < n_trials
    lives = []
    for first, last, stratum in zip(history.start, history.start[1:], history.stratum, strict=False):
        columns = (array[first:last].tolist() for array in (history.page, history.years, history.fate, history.ar))
        events = [Event(*event) for event in zip(*columns, strict=True)]
        lives.append([life(plan, policy, events, int(stratum)) for policy in policies])
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


def met_in(case: Case) -> set[str]:
    """What happens in a case that no state column tells."""
    met = set()
    horizon, ends = case.scenario.horizon, case.scenario.vm.on_loss == "end"
    for events in case.trials:
        vm = Life(case.plan, case.policy)
        for event in events:
            if event.years > vm.died:
                met.add("after the end" if ends else "after a death")
                if ends:
                    break
            elif event.years == vm.died:
                met.add("at the moment of a death")
            elif vm.died <= horizon.years:
                met.add("before a death to come")
            before = vm.died
            if event.page in vm.poisoned:
                met.add("duplicate")
            elif not vm.mapped[event.page]:
                met.add("in a hole")
            vm.strike(event)
            if vm.died < before:
                met.add("dies at once" if vm.died == event.years else "dies later")
                met |= {"dies sooner"} if before < math.inf else set()
            struck = grid_point(event.years, case.scenario)
        if struck < (lost_from := grid_point(vm.died, case.scenario)) <= horizon.n_steps:
            met.add("dies at a grid point of its own")
        if horizon.n_steps < lost_from < math.inf:
            met.add("outlives the horizon")
    return met


MEETINGS = 11


def test_cases_reach_every_corner() -> None:
    """The generator is worth what it reaches: every state column moves, spares run out, trials end early."""
    seen: Counter[str] = Counter()
    for number in range(INTERPRETED_CASES):
        case = seeded_case(number)
        last = case.follow().states[1:]
        seen.update(name for k, name in enumerate(COLUMNS_THAT_MOVE) if (last[:, k] > 0).any())
        seen.update(met_in(case))
    assert min(seen.values()) >= INTERPRETED_CASES // 20 and len(seen) == len(COLUMNS_THAT_MOVE) + MEETINGS, seen
