"""The engine end to end: numbers that are known exactly, and what must never change one."""

from __future__ import annotations

import dataclasses
import functools
import multiprocessing
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

import poisonsim as ps
from poisonsim.engine.block import follow
from poisonsim.engine.merge import Tally
from poisonsim.engine.run import block_sizes
from poisonsim.errors import PolicyError, ScenarioError
from poisonsim.faults.field import detection_of
from poisonsim.faults.history import draw_history
from poisonsim.results.result import Result
from poisonsim.results.runs import default_trials, plan_run
from poisonsim.scenario import CountFaults, Horizon, Host, RateFaults, Scenario, Vm, load_scenario

GIB, PAGE = 1 << 30, 4096
HVO_OFF_BYTES = 17_142_120_448  # 1,024 huge pages, each 4,095 memmap pages less the 8 tables that HVO itself split
HVO_OFF_ONE_BYTES = 4095 * 4096
HGM2M_DECIDE = """class Mine(Policy):
    \"\"\"As hgm2m, in code.\"\"\"

    @staticmethod
    def decide(c, p):
        return UNMAP if c.leaf_level == c.base_level else SPLIT
"""


def same_tally(a: Tally, b: Tally) -> bool:
    parts = ("states", "counts", "joint", "joint_counts")
    return a.n_trials == b.n_trials and all(
        len(getattr(a, part)) == len(getattr(b, part))
        and all(np.array_equal(x, y) for x, y in zip(getattr(a, part), getattr(b, part), strict=True))
        for part in parts
    )


@functools.lru_cache(maxsize=8)
def samples_of(res: Result, year: float) -> pd.DataFrame:
    return res.samples(year=year)


def one_value(res: Result, policy: str, metric: str, year: float = 5) -> float:
    """The value that every single trial has."""
    samples = samples_of(res, year)
    values = samples.loc[samples["policy"] == policy, metric].unique()
    assert len(samples) == res.n_trials * len(res.policies)
    assert len(values) == 1, f"{policy} {metric}: {len(values)} values"
    return float(values[0])


# ------------------------------------------------------------------------------------------------- exact numbers


TABLES = {  # page-table bytes: (process + EPT page + 184 B of KVM's) x pages
    "unmap1g": 0,
    "unmap1g-private": 0,
    "hgm4k": 429_688_800,
    "hgm2m": 1_675_200,
    "hgm4k-vma": 1024 * 513 * 8376,
    "migrate1g": 0,
    "migrate1g:spares=0": 0,
    "migrate-then-hgm2m": 96 * 2 * 8376,
}


@pytest.mark.parametrize("policy", TABLES)
def test_page_tables_after_100_errors(distinct: Result, policy: str) -> None:
    assert one_value(distinct, policy, "table_bytes") == TABLES[policy]


@pytest.mark.parametrize(
    ("policy", "guest", "host", "stranded"),
    [
        ("unmap1g", 100 * GIB, 100 * GIB, 0),
        ("unmap1g-private", 100 * GIB, 100 * PAGE, 100 * (GIB - PAGE)),
        ("hgm4k", 100 * PAGE, 100 * PAGE, 0),
        ("hgm2m", 100 * PAGE, 100 * PAGE, 0),
        ("hgm4k-vma", 100 * PAGE, 100 * PAGE, 0),
        ("migrate1g", 96 * GIB + 4 * PAGE, 100 * GIB, 0),
        ("migrate1g:spares=0", 100 * GIB, 100 * GIB, 0),
        ("migrate-then-hgm2m", 100 * PAGE, 4 * GIB + 96 * PAGE, 0),
    ],
)
def test_memory_lost_after_100_errors(distinct: Result, policy: str, guest: int, host: int, stranded: int) -> None:
    assert one_value(distinct, policy, "guest_lost_bytes") == guest
    assert one_value(distinct, policy, "host_lost_bytes") == host
    assert one_value(distinct, policy, "stranded_bytes") == stranded


@pytest.mark.parametrize(
    ("policy", "leaves"),
    [
        ("unmap1g", (924, 0, 0)),
        ("unmap1g-private", (924, 0, 0)),
        ("hgm4k", (924, 0, 100 * 262_143)),
        ("hgm2m", (924, 51_100, 51_100)),
        ("hgm4k-vma", (0, 0, 2**28 - 100)),
        ("migrate1g", (928, 0, 0)),
        ("migrate1g:spares=0", (924, 0, 0)),
        ("migrate-then-hgm2m", (928, 96 * 511, 96 * 511)),
    ],
)
def test_leaves_after_100_errors(distinct: Result, policy: str, leaves: tuple[int, int, int]) -> None:
    sizes = (("1g", 2**18), ("2m", 2**9), ("4k", 1))
    for (size, pages), n in zip(sizes, leaves, strict=True):
        assert one_value(distinct, policy, f"leaves_{size}") == n
        assert one_value(distinct, policy, f"share_{size}") == n * pages / 2**28


def test_all_4k_maps_a_tenth_of_the_vm_with_4k_to_the_page(distinct: Result) -> None:
    share = one_value(distinct, "hgm4k", "share_4k")
    assert share == (100 * 262_144 - 100) / 2**28
    assert round(share, 4) == 0.0977


@pytest.mark.parametrize("policy", ["hgm4k", "hgm2m", "hgm4k-vma"])
@pytest.mark.parametrize("year", [0, 5])
def test_hvo_off_everywhere_costs_the_same_from_the_start(distinct: Result, policy: str, year: int) -> None:
    assert one_value(distinct, policy, "vmemmap_bytes", year) == HVO_OFF_BYTES


def test_hvo_is_given_up_for_spares_too(distinct: Result) -> None:
    assert one_value(distinct, "migrate-then-hgm2m", "vmemmap_bytes") == 1028 * (4095 - 8) * 4096


@pytest.mark.parametrize(
    ("hvo_with_hgm", "expected"),
    [
        ("off-everywhere", {"unmap1g": 0, "unmap1g-private": 100, "hgm2m": None, "hgm4k-vma": None, "migrate1g": 0}),
        ("off-where-split", {"unmap1g": 0, "unmap1g-private": 100, "hgm2m": 100, "hgm4k-vma": 1024, "migrate1g": 0}),
        ("kept", {"unmap1g": 0, "unmap1g-private": 100, "hgm2m": 0, "hgm4k-vma": 0, "migrate1g": 0}),
    ],
)
def test_what_is_given_up_of_hvo(hvo_with_hgm: str, expected: dict[str, int | None]) -> None:
    """Huge pages whose memory map is restored; None where the whole pool gives it up, net of HVO's own tables."""
    scenario = load_scenario("seed-1t-distinct", overrides={"host.hvo_with_hgm": hvo_with_hgm})
    res = ps.run(scenario, policies=list(expected), trials=50, seed=7)
    for policy, pages in expected.items():
        at_start = HVO_OFF_BYTES if pages is None else 0
        assert one_value(res, policy, "vmemmap_bytes", 0) == at_start
        assert one_value(res, policy, "vmemmap_bytes") == (at_start if pages is None else pages * HVO_OFF_ONE_BYTES)


def test_without_hvo_there_is_nothing_to_give_up() -> None:
    scenario = load_scenario("seed-1t-distinct", overrides=["host.hvo=false"])
    res = ps.run(scenario, policies=["hgm2m", "hgm4k-vma", "unmap1g-private"], trials=50, seed=7)
    assert all(one_value(res, policy, "vmemmap_bytes") == 0 for policy in res.policies)


@pytest.mark.parametrize("page_tables", [1, 3])
def test_every_process_has_its_own_page_table(page_tables: int) -> None:
    scenario = load_scenario("seed-1t-distinct", overrides={"host.page_tables": page_tables})
    res = ps.run(scenario, policies=["hgm2m", "hgm4k"], trials=50, seed=7)
    per_page = 4096 * page_tables + 4096 + 184
    assert one_value(res, "hgm2m", "table_bytes") == 200 * per_page
    assert one_value(res, "hgm4k", "table_bytes") == 51_300 * per_page


@pytest.mark.parametrize("policy", TABLES)
def test_before_any_error_nothing_is_lost(distinct: Result, policy: str) -> None:
    values = {metric.name: one_value(distinct, policy, metric.name, 0) for metric in distinct.metrics}
    spares = {"migrate1g": 4, "migrate-then-hgm2m": 4}.get(policy, 0)
    ones = ("share_1g", "slowdown", "slowdown_low", "slowdown_high")
    assert all(values.pop(name) == 1 for name in ones)
    assert values.pop("leaves_1g") == 1024
    assert values.pop("reserved_bytes") == spares * GIB
    vmemmap = values.pop("vmemmap_bytes")
    assert vmemmap == {"hgm2m": 1024, "hgm4k": 1024, "hgm4k-vma": 1024, "migrate-then-hgm2m": 1028}.get(policy, 0) * (
        4087 * 4096
    )
    assert values.pop("capacity_cost_bytes") == vmemmap + spares * GIB
    assert values.pop("tlb_reach_bytes") > 0 and values.pop("walks_per_access") > 0
    assert values == dict.fromkeys(values, 0.0)


@pytest.mark.parametrize(
    ("policy", "used", "exhausted", "reserved"),
    [("migrate1g", 4, 1, 0), ("migrate-then-hgm2m", 4, 1, 0), ("migrate1g:spares=0", 0, 1, 0), ("hgm2m", 0, 0, 0)],
)
def test_spares_after_100_errors(distinct: Result, policy: str, used: int, exhausted: int, reserved: int) -> None:
    assert one_value(distinct, policy, "spares_used") == used
    assert one_value(distinct, policy, "spares_exhausted") == exhausted
    assert one_value(distinct, policy, "reserved_bytes") == reserved


@pytest.mark.parametrize("policy", TABLES)
def test_every_error_is_delivered_and_splits_the_direct_map(distinct: Result, policy: str) -> None:
    assert one_value(distinct, policy, "errors") == 100
    assert one_value(distinct, policy, "regions_hit") == 100
    # 2 % of poisoned pages kill the guest, 28 % of those at a later touch; of the rest 6 % are touched again and again
    per_page = round(1000 * (1 + 0.02 * (1 - detection_of(Scenario()).p_ar) + 0.98 * 0.06 / 0.94)) / 1000
    faults = one_value(distinct, policy, "guest_faults")
    if policy.startswith("unmap1g") or policy == "migrate1g:spares=0":
        assert 100 * 10 < faults < 100 * 50  # a hole of 1 GiB is touched until that kills the guest, 50 times at most
    elif policy == "migrate1g":  # four pages to spare
        assert 4 * per_page < faults < 100 * 50
    else:
        assert faults == pytest.approx(100 * per_page, rel=1e-12)
    assert one_value(distinct, policy, "direct_map_bytes") == 100 * 2 * PAGE  # 1G to 2M, and one 2M to 4K


def test_as_many_spares_as_errors_lose_single_pages_only() -> None:
    res = ps.run("seed-1t-distinct", policies=["migrate1g:spares=100", "migrate1g:spares=130"], trials=50, seed=7)
    for policy, left in (("migrate1g:spares=100", 0), ("migrate1g:spares=130", 30)):
        assert one_value(res, policy, "guest_lost_bytes") == 100 * PAGE
        assert one_value(res, policy, "leaves_1g") == 1024
        assert one_value(res, policy, "spares_exhausted") == 0
        assert one_value(res, policy, "reserved_bytes") == left * GIB
        assert one_value(res, policy, "host_lost_bytes") == 100 * GIB


def test_the_capacity_cost_is_the_sum_of_its_parts(uniform: Result) -> None:
    parts = ["table_bytes", "vmemmap_bytes", "direct_map_bytes", "host_lost_bytes", "reserved_bytes"]
    for year in (0, 2, 5):
        samples = uniform.samples(year=year)
        assert (samples["capacity_cost_bytes"] == samples[parts].sum(axis=1)).all()


# ------------------------------------------------------------------------------------------------- between policies


@pytest.fixture(scope="module")
def by_policy(uniform: Result) -> dict[float, dict[str, pd.DataFrame]]:
    """Samples by year and policy, in trial order."""
    return {
        year: {name: frame.reset_index(drop=True) for name, frame in uniform.samples(year=year).groupby("policy")}
        for year in (0.5, 3, 5)
    }


def test_every_policy_sees_the_same_errors(by_policy: dict[float, dict[str, pd.DataFrame]]) -> None:
    for frames in by_policy.values():
        first = frames["unmap1g"]
        assert first["errors"].nunique() > 1 or first["errors"].iloc[0] == 100
        for frame in frames.values():
            assert frame["trial"].equals(first["trial"])
            assert frame["errors"].equals(first["errors"]) and frame["regions_hit"].equals(first["regions_hit"])


def test_finer_mappings_lose_less_in_every_trial(by_policy: dict[float, dict[str, pd.DataFrame]]) -> None:
    for frames in by_policy.values():
        lost = {name: frame["guest_lost_bytes"] for name, frame in frames.items()}
        assert lost["hgm4k"].equals(lost["hgm2m"]) and lost["hgm4k"].equals(lost["hgm4k-vma"])
        assert lost["hgm2m"].equals(lost["migrate-then-hgm2m"])
        hit = frames["hgm2m"]["errors"] > 0
        assert (lost["hgm2m"] < lost["unmap1g"])[hit].all() and lost["unmap1g"].equals(lost["unmap1g-private"])
        assert (lost["hgm2m"] <= lost["migrate1g"]).all() and (lost["migrate1g"] <= lost["unmap1g"]).all()


def test_coarser_splits_need_fewer_tables_in_every_trial(by_policy: dict[float, dict[str, pd.DataFrame]]) -> None:
    for frames in by_policy.values():
        tables = {name: frame["table_bytes"] for name, frame in frames.items()}
        hit = frames["hgm2m"]["errors"] > 0
        assert (tables["hgm2m"] < tables["hgm4k"])[hit].all() and (tables["hgm4k"] < tables["hgm4k-vma"])[hit].all()
        assert (tables["hgm4k-vma"] == 0)[~hit].all()
        assert (tables["migrate-then-hgm2m"] <= tables["hgm2m"]).all()
        assert (tables["unmap1g"] == 0).all() and (tables["migrate1g"] == 0).all()


def test_no_policy_takes_more_spares_than_there_are(by_policy: dict[float, dict[str, pd.DataFrame]]) -> None:
    for frames in by_policy.values():
        for name, frame in frames.items():
            takers = ("migrate1g", "migrate-then-hgm2m", "hgm2m-then-migrate", "restart-after", "guest-offline")
            spares = 4 if name in (*takers, "reboot-after") else 0
            assert (frame["spares_used"] <= spares).all()
            assert (frame["reserved_bytes"] == (spares - frame["spares_used"]) * GIB).all()


def test_migrating_without_spares_is_the_status_quo(by_policy: dict[float, dict[str, pd.DataFrame]]) -> None:
    for frames in by_policy.values():
        told = ["policy", "spares_exhausted", "fallbacks"]
        a, b = (frames[name].drop(columns=told) for name in ("migrate1g:spares=0", "unmap1g"))
        pd.testing.assert_frame_equal(a, b)
        assert (frames["migrate1g:spares=0"]["fallbacks"] == frames["unmap1g"]["regions_hit"]).all()
        hit = frames["unmap1g"]["errors"] > 0
        assert (frames["migrate1g:spares=0"]["spares_exhausted"] == hit).all()
        assert (frames["unmap1g"]["spares_exhausted"] == 0).all()


def test_time_only_adds(by_policy: dict[float, dict[str, pd.DataFrame]]) -> None:
    grow = ["errors", "regions_hit", "guest_lost_bytes", "host_lost_bytes", "spares_used", "vm_lost", "guest_faults",
            "stall_seconds", "direct_map_bytes"]  # fmt: skip
    years = sorted(by_policy)
    for earlier, later in zip(years, years[1:], strict=False):
        for name, frame in by_policy[earlier].items():
            assert (frame[grow] <= by_policy[later][name][grow]).all().all()


def test_a_lost_vm_may_end_its_trial() -> None:
    scenario = Scenario(vm=Vm(on_loss="end", unrecoverable=0.01))
    ends = ps.run(scenario, policies=["hgm2m"], trials=1000, seed=7)
    counts = ps.run(dataclasses.replace(scenario, vm=Vm(unrecoverable=0.01)), policies=["hgm2m"], trials=1000, seed=7)
    early, late, going_on = ends.samples(year=2), ends.samples(year=5), counts.samples(year=5)
    lost = early["vm_lost"] == 1
    assert 100 < lost.sum() < 900
    pd.testing.assert_frame_equal(early[lost], late[lost])
    assert (going_on["vm_lost"] == late["vm_lost"]).all()  # whether it is lost does not depend on what follows
    alive = late["vm_lost"] == 0
    pd.testing.assert_frame_equal(late[alive], going_on[alive])
    assert (late.loc[lost, "errors"] < 100).all() and (going_on["errors"] == 100).all()


# ------------------------------------------------------------------------------------------------- what changes nothing


# Many errors per trial make small blocks, a coarse grid makes few states.
SCENARIO = Scenario(faults=RateFaults(ue_per_tib_year=200.0, dispersion=0.3), horizon=Horizon(years=5, grid="1year"))


@pytest.fixture(scope="module")
def trials() -> int:
    """Two full blocks and a part of a third."""
    return int(2.4 * plan_run(SCENARIO, policies=["hgm2m"]).block_trials)


@pytest.fixture(scope="module")
def reference(trials: int) -> Result:
    return ps.run(SCENARIO, policies=["unmap1g", "hgm2m", "migrate1g"], trials=trials, seed=9, threads=1)


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_change_nothing(reference: Result, trials: int, threads: int) -> None:
    again = ps.run(SCENARIO, policies=reference.policies, trials=trials, seed=9, threads=threads)
    assert same_tally(again.tally, reference.tally)


def test_another_seed_changes_something(reference: Result, trials: int) -> None:
    other = ps.run(SCENARIO, policies=reference.policies, trials=trials, seed=10)
    assert not same_tally(other.tally, reference.tally)


def test_an_executor_that_is_passed_in_is_used_and_left_running(reference: Result, trials: int) -> None:
    with ThreadPoolExecutor(2, thread_name_prefix="mine") as executor:
        again = ps.run(SCENARIO, policies=reference.policies, trials=trials, seed=9, executor=executor)
        assert executor.submit(int, "7").result() == 7
    assert same_tally(again.tally, reference.tally)


class Counting(ThreadPoolExecutor):
    """Counts what is submitted."""

    n = 0

    def submit(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
        self.n += 1
        return super().submit(*args, **kwargs)  # type: ignore[arg-type]


def test_an_executor_gets_one_task_per_block(trials: int) -> None:
    with Counting(1) as executor:
        ps.run(SCENARIO, policies=["hgm2m"], trials=trials, seed=9, executor=executor)
    assert executor.n == 3


def test_processes_change_nothing(reference: Result, trials: int) -> None:
    executor: Executor = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))
    with executor:
        again = ps.run(SCENARIO, policies=reference.policies, trials=trials, seed=9, executor=executor)
    assert same_tally(again.tally, reference.tally)


@pytest.mark.parametrize("policies", [["hgm2m"], ["migrate1g", "hgm2m"], ["hgm2m", "hgm4k", "unmap1g", "migrate1g"]])
def test_other_policies_and_their_order_change_nothing(reference: Result, trials: int, policies: list[str]) -> None:
    res = ps.run(SCENARIO, policies=policies, trials=trials, seed=9)
    for policy in set(policies) & set(reference.policies):
        for year in (1, 5):
            a, b = (
                frame[frame["policy"] == policy].reset_index(drop=True)
                for frame in (res.samples(year=year), reference.samples(year=year))
            )
            pd.testing.assert_frame_equal(a, b, check_exact=True)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999, 1.0, 1.7])
def test_fewer_trials_are_the_first_ones(reference: Result, share: float) -> None:
    few = int(share * reference.plan.block_trials)
    res = ps.run(SCENARIO, policies=reference.policies, trials=few, seed=9)
    whole = reference.samples(year=3, trials=few)
    keys = ["policy", "trial"]
    pd.testing.assert_frame_equal(
        res.samples(year=3).sort_values(keys, ignore_index=True),
        whole.sort_values(keys, ignore_index=True),
        check_exact=True,
    )


def test_blocks_are_full_but_the_last() -> None:
    plan = plan_run(SCENARIO, policies=["hgm2m"])
    n = plan.block_trials
    assert n.bit_count() == 1
    assert block_sizes(plan, 1) == [1]
    assert block_sizes(plan, n) == [n]
    assert block_sizes(plan, 2 * n + 5) == [n, n, 5]


def test_the_size_of_a_block_depends_on_the_scenario_only() -> None:
    choices = [(policies, seed) for policies in (["hgm2m"], ["unmap1g", "hgm4k"]) for seed in (1, 9)]
    sizes = {plan_run(SCENARIO, policies=policies, seed=seed).block_trials for policies, seed in choices}
    assert len(sizes) == 1
    empty = plan_run(Scenario(faults=CountFaults(errors=0)), policies=["hgm2m"])
    assert empty.block_trials == 1 << 20


def test_the_run_id_is_of_all_that_can_change_a_result() -> None:
    def run_id(scenario: Scenario = SCENARIO, policies: tuple[str, ...] = ("hgm2m", "migrate1g"), seed: int = 1) -> str:
        return plan_run(scenario, policies=policies, seed=seed).run_id

    ids = [
        run_id(),
        run_id(seed=2),
        run_id(policies=("hgm2m",)),
        run_id(policies=("migrate1g", "hgm2m")),
        run_id(policies=("hgm2m", "migrate1g:spares=3")),
        run_id(dataclasses.replace(SCENARIO, host=Host(spares=5))),
        run_id(dataclasses.replace(SCENARIO, vm=Vm(unrecoverable=0.03))),
        run_id(dataclasses.replace(SCENARIO, faults=RateFaults(ue_per_tib_year=200.0, dispersion=0.31))),
        run_id(dataclasses.replace(SCENARIO, horizon=Horizon(years=5, grid="2months"))),
    ]
    assert len(set(ids)) == len(ids)
    assert run_id() == ids[0] and len(ids[0]) == 64


@pytest.mark.parametrize("key", ["threads", "trials"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "7"])
def test_trials_and_threads_are_positive_whole_numbers(key: str, value: object) -> None:
    with pytest.raises(ScenarioError, match=f"{key} = .* is not a whole number of at least 1"):
        ps.run(SCENARIO, policies=["hgm2m"], **{key: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, True, "7"])
def test_a_seed_is_a_whole_number(seed: object) -> None:
    with pytest.raises(ScenarioError, match="is not a whole number from 0 to"):
        ps.run(SCENARIO, policies=["hgm2m"], seed=seed)  # type: ignore[arg-type]


def test_a_run_needs_a_policy() -> None:
    with pytest.raises(ScenarioError, match="no policy is named"):
        ps.run(SCENARIO, policies=[])


def test_progress_ends_where_the_run_does(trials: int) -> None:
    seen: list[tuple[int, int, int]] = []
    ps.run(
        SCENARIO, policies=["hgm2m"], trials=trials, seed=9, threads=2,
        progress=lambda done, wanted, tally: seen.append((done, wanted, tally().n_trials)),
    )  # fmt: skip
    n = plan_run(SCENARIO, policies=["hgm2m"]).block_trials
    assert seen == [(n, trials, n), (2 * n, trials, 2 * n), (trials, trials, trials)]


def test_a_tally_that_a_callback_keeps_stays_as_it_was(trials: int) -> None:
    kept: list[Tally] = []
    run = functools.partial(ps.run, SCENARIO, policies=["hgm2m", "unmap1g"], seed=9, threads=2)
    whole = run(trials=trials, progress=lambda done, wanted, tally: kept.append(tally()))
    assert len(kept) == 3 and same_tally(kept[-1], whole.tally)
    for tally in kept:
        assert same_tally(tally, run(trials=tally.n_trials).tally)


def test_default_trials_let_enough_vms_be_hit() -> None:
    assert default_trials(Scenario()) == 20_000
    assert default_trials(Scenario(faults=RateFaults(ue_per_tib_year=0.0))) == 20_000  # nothing to wait for
    assert default_trials(Scenario(faults=RateFaults(ue_per_tib_year=1e-9))) == pytest.approx(4e12, rel=1e-2)
    sparse = Scenario(faults=RateFaults(ue_per_tib_year=0.01))
    assert default_trials(sparse) == pytest.approx(20_000 / (1 - np.exp(-0.05)), abs=1000)


@pytest.mark.parametrize(("name", "trials"), [("seed-1t", 10**12), ("cloud-1t-ddr4", 10**30)])
def test_more_trials_than_a_run_can_take_are_refused_in_words(name: str, trials: int) -> None:
    with pytest.raises(ScenarioError, match=r"is more than one run can take; give at most [\d,]+ for this scenario"):
        ps.run(name, policies=["hgm2m"], trials=trials)


# ------------------------------------------------------------------------------------------------- decide


def test_decide_may_say_what_rules_say(policy_file: Callable[..., str], uniform: Result) -> None:
    path = policy_file(HGM2M_DECIDE)
    scenario = dataclasses.replace(load_scenario("seed-1t"), host=Host(spares=0))
    res = ps.run(scenario, policies=[path, "hgm2m"], trials=1000, seed=11)
    coded, rules = (res.samples()[lambda f, p=p: f["policy"] == p].drop(columns="policy") for p in ("mine", "hgm2m"))
    pd.testing.assert_frame_equal(coded.reset_index(drop=True), rules.reset_index(drop=True), check_exact=True)
    summary = res.summary().drop(columns="policy")
    half = len(summary) // 2
    pd.testing.assert_frame_equal(summary[:half], summary[half:].reset_index(drop=True), check_exact=True)


def test_decide_sees_its_parameters_and_counters(policy_file: Callable[..., str]) -> None:
    path = policy_file(
        "class Mine(Policy):\n"
        '    """Keeps the first few, then gives up."""\n'
        "    keeps = True\n"
        "    few: Annotated[int, Range(0, 99)] = 10\n\n"
        "    @staticmethod\n"
        "    def decide(c, p):\n"
        "        return KEEP if c.hits_in_vm <= p.few else UNMAP\n"
    )
    rules = policy_file(
        "class Same(Policy):\n"
        '    """As rules."""\n'
        "    few: Annotated[int, Range(0, 99)] = 10\n"
        "    rules = [on(BACKING, when='hits_in_vm <= few').do(KEEP), on(BACKING).do(UNMAP)]\n",
        name="same",
    )
    scenario = load_scenario("seed-1t-distinct", overrides=["host.spares=0", "host.hvo=false"])
    res = ps.run(scenario, policies=[f"{path}:few=30", f"{rules}:few=30"], trials=50, seed=7)
    assert one_value(res, "mine:few=30", "guest_lost_bytes") == 70 * GIB + 30 * PAGE
    assert one_value(res, "mine:few=30", "leaves_1g") == 1024 - 70
    coded, same = (frame.drop(columns="policy").reset_index(drop=True) for _, frame in res.samples().groupby("policy"))
    pd.testing.assert_frame_equal(coded, same, check_exact=True)


@pytest.mark.parametrize(
    ("answer", "fragment"),
    [
        ("SPLIT", "decide answered SPLIT for a 4K leaf in trial 0"),
        ("MIGRATE", "decide answered MIGRATE for a 1G leaf in trial 0"),
        ("99", "decide answered 99 for a 1G leaf in trial 0"),
        ("0", "decide answered 0 for a 1G leaf in trial 0"),
        ("UNMAP if c.hits_in_vm < 70 else 42", "decide answered 42 for a 1G leaf in trial 0"),
    ],
)
def test_an_answer_that_cannot_be_done_is_an_error(policy_file: Callable[..., str], answer: str, fragment: str) -> None:
    path = policy_file(HGM2M_DECIDE.replace("UNMAP if c.leaf_level == c.base_level else SPLIT", answer))
    with pytest.raises(PolicyError) as caught:
        ps.run("seed-1t", policies=["unmap1g", path], trials=100, seed=7)
    assert fragment in str(caught.value) and "policy mine: " in str(caught.value)
    assert "allowed: UNMAP, SPLIT above the base page, MIGRATE while c.spares_left > 0" in str(caught.value)


ALL_BUT_KEEP = "UNMAP, SPLIT above the base page, MIGRATE while c.spares_left > 0"


@pytest.mark.parametrize(
    ("says", "answer", "allowed"),
    [
        ("", "KEEP", f"{ALL_BUT_KEEP}; KEEP if the class says keeps = True"),
        ("splits = False", "SPLIT", "UNMAP, MIGRATE while c.spares_left > 0; SPLIT if the class says splits = True"),
        ("moves = False", "MIGRATE", "UNMAP, SPLIT above the base page; MIGRATE if the class says moves = True"),
    ],
)  # fmt: skip
def test_an_answer_that_the_class_does_not_say_is_an_error(
    policy_file: Callable[..., str], says: str, answer: str, allowed: str
) -> None:
    body = HGM2M_DECIDE.replace("UNMAP if c.leaf_level == c.base_level else SPLIT", answer)
    path = policy_file(body.replace("    @static", f"    {says}\n\n    @static"))
    with pytest.raises(PolicyError) as caught:
        ps.run("seed-1t", policies=[path], trials=100, seed=7)
    told = f"policy mine: decide answered {answer} for a 1G leaf in trial 0; allowed: {allowed}"
    assert caught.value.problems == (told,)


def test_code_costs_what_its_class_says_that_it_may_do(policy_file: Callable[..., str]) -> None:
    """As migrate1g in code: charged for HGM and refused without it, unless the class says that it never splits."""
    body = HGM2M_DECIDE.replace(
        "UNMAP if c.leaf_level == c.base_level else SPLIT", "MIGRATE if c.spares_left > 0 else UNMAP"
    )
    might = policy_file(body, name="might")
    never = policy_file(body.replace("    @static", "    splits = False\n\n    @static"), name="never")
    res = ps.run("cloud-1t-ddr4", policies=["migrate1g", might, never], trials=20_000, seed=7)
    coded, rules = (res.samples()[lambda f, p=p: f["policy"] == p] for p in ("never", "migrate1g"))
    apart = ["policy", "spares_exhausted", "fallbacks"]  # code never counts as having asked for what was not there
    pd.testing.assert_frame_equal(
        coded.drop(columns=apart).reset_index(drop=True), rules.drop(columns=apart).reset_index(drop=True)
    )
    assert res.mean("might", "capacity_cost_bytes").best > res.mean("never", "capacity_cost_bytes").best + 10 * GIB
    ps.run(load_scenario("cloud-1t-ddr4", overrides=["host.hgm=false"]), policies=[never], trials=10)
    for key, problem, hint in (
        ("host.hgm=false", "decide may answer SPLIT: it maps huge pages with high granularity", "splits = False"),
        ("host.pinned=true", "it moves memory, and that of this scenario's VM is pinned", "moves = False"),
    ):
        with pytest.raises(PolicyError) as caught:
            ps.run(load_scenario("cloud-1t-ddr4", overrides=[key]), policies=[might], trials=10)
        [told] = caught.value.problems
        assert told.startswith(f"policy might: {problem}") and f"(or say {hint}, if might does not" in told


def test_migrating_until_the_spares_are_gone_is_an_error_then(policy_file: Callable[..., str]) -> None:
    path = policy_file(HGM2M_DECIDE.replace("UNMAP if c.leaf_level == c.base_level else SPLIT", "MIGRATE"))
    scenario = load_scenario("seed-1t-distinct", overrides=["faults.errors=4", "host.spares=4"])
    res = ps.run(scenario, policies=[path], trials=20, seed=7)
    assert one_value(res, "mine", "spares_used") == 4
    more = load_scenario("seed-1t-distinct", overrides=["faults.errors=5", "host.spares=4"])
    with pytest.raises(PolicyError, match="decide answered MIGRATE for a 1G leaf in trial 0"):
        ps.run(more, policies=[path], trials=20, seed=7)


@pytest.mark.parametrize("answer", ["open('x')", "UNMAP if c.hitz > 1 else KEEP", "c", "p.limit"])
def test_a_decide_that_cannot_be_compiled_says_where(policy_file: Callable[..., str], answer: str) -> None:
    path = policy_file(HGM2M_DECIDE.replace("UNMAP if c.leaf_level == c.base_level else SPLIT", answer))
    with pytest.raises(PolicyError) as caught:
        ps.run("seed-1t", policies=[path], trials=100, seed=7)
    assert path in str(caught.value) and "cannot be compiled" in str(caught.value)
    assert "use whole numbers, comparisons and the fields of c and p only" in str(caught.value)


def test_a_decide_that_answers_text_is_told_so(policy_file: Callable[..., str]) -> None:
    path = policy_file(HGM2M_DECIDE.replace("UNMAP if c.leaf_level == c.base_level else SPLIT", "'UNMAP'"))
    with pytest.raises(PolicyError, match="if it answers text, write UNMAP, not 'UNMAP'"):
        ps.run("seed-1t", policies=[path], trials=100, seed=7)


@pytest.mark.parametrize(("answer", "word"), [("UNMAP if c.hitz > 1 else KEEP", "hitz"), ("p.limit", "limit")])
def test_a_field_that_does_not_exist_is_named(policy_file: Callable[..., str], answer: str, word: str) -> None:
    path = policy_file(HGM2M_DECIDE.replace("UNMAP if c.leaf_level == c.base_level else SPLIT", answer))
    with pytest.raises(PolicyError, match=word):
        ps.run("seed-1t", policies=[path], trials=100, seed=7)


def test_a_decide_runs_in_processes_too(policy_file: Callable[..., str]) -> None:
    path = policy_file(HGM2M_DECIDE)
    expected = ps.run("seed-1t", policies=[path], trials=100, seed=7)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        res = ps.run("seed-1t", policies=[path], trials=100, seed=7, executor=executor)
    assert same_tally(res.tally, expected.tally)


def test_an_edited_decide_has_another_digest_and_another_answer(policy_file: Callable[..., str]) -> None:
    answers = {}
    for name, act in (("a", "UNMAP"), ("b", "KEEP")):
        body = HGM2M_DECIDE.replace("UNMAP if c.leaf_level == c.base_level else SPLIT", act)
        body = body.replace("    @static", f"    keeps = {act == 'KEEP'}\n\n    @static")
        path = policy_file(body, name=f"{name}/mine")
        res = ps.run("seed-1t-distinct", policies=[path], trials=20, seed=7)
        answers[act] = (res.plan.policies[0].digest, res.plan.run_id, one_value(res, "mine", "guest_lost_bytes"))
    assert answers["UNMAP"][2] == 100 * GIB and answers["KEEP"][2] == 100 * PAGE
    assert answers["UNMAP"][0] != answers["KEEP"][0] and answers["UNMAP"][1] != answers["KEEP"][1]


def test_a_history_does_not_know_of_policies() -> None:
    """The only arguments are scenario, seed, block and its size; the engine draws exactly that."""
    plan = plan_run(SCENARIO, policies=["unmap1g", "hgm2m"], seed=9)
    history = draw_history(SCENARIO, 9, 1, plan.block_trials)
    res = ps.run(SCENARIO, policies=["hgm2m"], trials=2 * plan.block_trials, seed=9)
    errors = res.samples().query("trial >= @plan.block_trials")["errors"].to_numpy()
    drawn = np.zeros(plan.block_trials, np.int64)
    drawn[history.trial] = np.diff(history.start)
    assert np.array_equal(errors, drawn)


def test_a_pool_is_exhausted_however_the_rule_is_spelled() -> None:
    from poisonsim.policy import BACKING, MIGRATE, UNMAP, Policy, on

    class Guarded(Policy):
        """Migrate while there is a spare, spelled out."""

        rules = [on(BACKING, when="spares_left > 0").do(MIGRATE), on(BACKING).do(UNMAP)]

    res = ps.run("seed-1t", policies=["migrate1g", Guarded], trials=200, seed=7)
    assert [one_value(res, label, "spares_exhausted") for label in res.policies] == [1, 1]


def test_one_trial_of_a_hundred_thousand_errors_changes_no_other() -> None:
    """A bank that goes bad line by line: the trials beside it come out as without it."""
    plan = plan_run(load_scenario("seed-1t"), policies=["hgm2m", "migrate-then-hgm2m"])
    usual = draw_history(plan.scenario, 1, 0, 40)
    rng = np.random.default_rng(1)
    n = 100_000
    added = {
        "page": rng.integers(plan.scenario.vm.n_base_pages, size=n),
        "years": np.sort(rng.random(n)) * 5,
        "fate": rng.random(n),
        "ar": np.ones(n, np.uint8),
        "mode": np.zeros(n, np.uint8),
    }
    added["born"] = added["years"]
    by_event = {name: np.concatenate((getattr(usual, name), values)) for name, values in added.items()}
    crowded = dataclasses.replace(
        usual,
        trial=np.append(usual.trial, 40),
        stratum=np.append(usual.stratum, 0),
        start=np.append(usual.start, usual.start[-1] + n),
        **by_event,
    )
    for alone, beside in zip(follow(plan, usual, 0), follow(plan, crowded, 0), strict=True):
        last = alone.start[-1]
        assert np.array_equal(alone.start, beside.start[:41])
        assert np.array_equal(alone.grid, beside.grid[:last])
        assert np.array_equal(alone.states[alone.state], beside.states[beside.state[:last]])
        assert beside.start[-1] - last <= 60 + 1  # one state for each month, and perhaps the guest's death
