"""Quality control of the shipped policies: what their docstrings promise, worked out by hand and not from their rules.

The numbers come from the prose of the policies, of the scenario tables and of the cost table, and from what Linux and
KVM do: a 1 GiB leaf of x86-64 broken for one bad base page needs two table pages with 2 MiB leaves and 513 without,
each 4 KiB in the process table and 4 KiB + 184 B in KVM's stage 2.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import poisonsim as ps

GIB, PAGE, NS = 1 << 30, 4096, 1e-9
N = 100  # errors of seed-1t-distinct, each in a region of its own
FALSE_ALARM = 1e-6

TABLE_PAGE = PAGE + (PAGE + 184)  # the process's, and stage 2's with its struct kvm_mmu_page
TABLES_2M, TABLES_4K = 2 * TABLE_PAGE, 513 * TABLE_PAGE  # 16,752 and 4,296,888 B per hit region
STAGE2_2M = 2 * (PAGE + 184)  # 8,560 B
DIRECT_MAP = 2 * PAGE  # 1G -> 512 x 2M -> 512 x 4K, with only the bad 4K not present
MEMMAP = 4095 * PAGE  # of the 4,096 pages with the structs of 1 GiB, HVO keeps one
UNSAVED = (
    MEMMAP - 8 * PAGE
)  # what a pool without HVO pays for 1 GiB: it need not split the memmap's own eight 2M leaves
HVO_OFF, HVO_OFF_SPARES = 1024 * UNSAVED, 1028 * UNSAVED  # "for the whole pool": the four spares are in it
HEALTHY = GIB - PAGE

TABLE_NS, REFAULT_NS, LOCKED_NS = 33_000, 10_500, 1_000  # catalog/costs/linux.toml
COPY_NS, CLEAR_NS, RESTORE_NS, FLUSH_NS = 94_000_000, 58_000_000, 10_500_000, 14_000
COLLAPSE_NS, EVACUATE_NS, RESTART_NS, REBOOT_NS = 10**9, 50_000_000, 120 * 10**9, 900 * 10**9
VCPUS = 64


def storm(n_leaves: int, locks: int | None = None) -> int:
    """Nanoseconds in which 64 virtual CPUs fault in the leaves; what is under a page-table lock goes in turn."""
    faults = n_leaves * REFAULT_NS // VCPUS
    return faults if locks is None else max(faults, n_leaves * LOCKED_NS // min(locks, VCPUS))


# 1G -> 512 x 2M, all below one PUD entry, and one 2M -> 512 x 4K below one PMD entry: one lock each
SPLIT_2M_NS = 2 * (2 * TABLE_NS + storm(512, locks=1))
SPLIT_4K_NS = 2 * 513 * TABLE_NS + storm(512 * 512, locks=512)
MOVE_NS = COPY_NS + CLEAR_NS + FLUSH_NS  # memory_failure() has unmapped the old page; the new one is cleared and filled


@functools.cache
def lives(
    policies: tuple[str, ...], *overrides: str, scenario: str = "seed-1t-distinct", trials: int = 5, year: float = 5
) -> dict[str, pd.DataFrame]:
    """The state of every VM at one time under each policy, all on the same errors."""
    res = ps.run(ps.load_scenario(scenario, overrides=list(overrides)), policies=policies, trials=trials, seed=5)
    return {name: frame.reset_index(drop=True) for name, frame in res.samples(year=year).groupby("policy")}


def life(policy: str, *overrides: str, **how: Any) -> pd.DataFrame:
    (frame,) = lives((policy,), *overrides, **how).values()
    return frame


def assert_state(policy: str, expected: dict[str, float], *overrides: str, **how: Any) -> None:
    """Every trial ends in exactly this state; the capacity cost is the sum of its parts."""
    frame = life(policy, *overrides, **how)
    parts = ("table_bytes", "vmemmap_bytes", "direct_map_bytes", "host_lost_bytes", "reserved_bytes")
    if all(part in expected for part in parts):
        expected = {**expected, "capacity_cost_bytes": sum(expected[part] for part in parts)}
    assert_values(frame, expected)


def assert_values(frame: pd.DataFrame, expected: dict[str, float]) -> None:
    """Every trial has exactly these values."""
    found = {metric: sorted(frame[metric].unique()) for metric in expected}
    wrong = {
        metric: (found[metric], f"not {value}")
        for metric, value in expected.items()
        if found[metric] != [pytest.approx(value, rel=1e-12)]
    }
    assert not wrong


def assert_share(frame: pd.DataFrame, flag: str, probability: float) -> None:
    """As many trials have the flag as a binomial law gives but once in a million."""
    low, high = stats.binom.ppf([FALSE_ALARM / 2, 1 - FALSE_ALARM / 2], len(frame), probability)
    assert low <= frame[flag].sum() <= high


QUIET: dict[str, float] = {
    "leaves_1g": 1024, "leaves_2m": 0, "leaves_4k": 0, "table_bytes": 0, "vmemmap_bytes": 0,
    "direct_map_bytes": N * DIRECT_MAP, "guest_lost_bytes": N * PAGE, "host_lost_bytes": N * PAGE, "stranded_bytes": 0,
    "reserved_bytes": 0, "spares_used": 0, "spares_exhausted": 0, "stall_seconds": 0, "worst_stall_seconds": 0,
    "evacuations": 0, "restarts": 0, "reboots": 0, "fallbacks": 0,
}  # fmt: skip
"""Each bad page is known to host and guest, and nothing else happens."""

STATUS_QUO = QUIET | {
    "leaves_1g": 924,
    "guest_lost_bytes": N * GIB,
    "host_lost_bytes": N * GIB,
    "stall_seconds": N * FLUSH_NS * NS,
    "worst_stall_seconds": FLUSH_NS * NS,
}
DISSOLVED = STATUS_QUO | {
    "vmemmap_bytes": N * MEMMAP,
    "host_lost_bytes": N * PAGE,
    "stranded_bytes": N * HEALTHY,
    "stall_seconds": N * (FLUSH_NS + RESTORE_NS) * NS,
    "worst_stall_seconds": (FLUSH_NS + RESTORE_NS) * NS,
}
AROUND_4K = QUIET | {
    "leaves_1g": 924,
    "leaves_4k": N * (512 * 512 - 1),
    "table_bytes": N * TABLES_4K,
    "vmemmap_bytes": HVO_OFF,
    "stall_seconds": N * (SPLIT_4K_NS + FLUSH_NS) * NS,
    "worst_stall_seconds": (SPLIT_4K_NS + FLUSH_NS) * NS,
}
WHOLE_VM_4K = AROUND_4K | {
    "leaves_1g": 0,
    "leaves_4k": 1024 * 512 * 512 - N,
    "table_bytes": 1024 * TABLES_4K,
    "stall_seconds": (1024 * SPLIT_4K_NS + N * FLUSH_NS) * NS,
    "worst_stall_seconds": (1024 * SPLIT_4K_NS + FLUSH_NS) * NS,
}
AROUND_2M = AROUND_4K | {
    "leaves_2m": N * 511,
    "leaves_4k": N * 511,
    "table_bytes": N * TABLES_2M,
    "stall_seconds": N * (SPLIT_2M_NS + FLUSH_NS) * NS,
    "worst_stall_seconds": (SPLIT_2M_NS + FLUSH_NS) * NS,
}
SPARES_FIRST = {
    "reserved_bytes": 0,
    "spares_used": 4,
    "spares_exhausted": 1,
    "fallbacks": N - 4,
    "stall_seconds": (4 * MOVE_NS + 96 * FLUSH_NS) * NS,
    "worst_stall_seconds": MOVE_NS * NS,
}
MIGRATED = QUIET | {
    "host_lost_bytes": N * GIB,
    "spares_used": N,
    "stall_seconds": N * MOVE_NS * NS,
    "worst_stall_seconds": MOVE_NS * NS,
}
FOUR_MIGRATED = STATUS_QUO | SPARES_FIRST | {"leaves_1g": 928, "guest_lost_bytes": 96 * GIB + 4 * PAGE}
FOUR_MIGRATED_THEN_2M = (
    AROUND_2M
    | SPARES_FIRST
    | {
        "vmemmap_bytes": HVO_OFF_SPARES,
        "leaves_1g": 928,
        "leaves_2m": 96 * 511,
        "leaves_4k": 96 * 511,
        "table_bytes": 96 * TABLES_2M,
        "host_lost_bytes": 4 * GIB + 96 * PAGE,
        "stall_seconds": (4 * MOVE_NS + 96 * (SPLIT_2M_NS + FLUSH_NS)) * NS,
    }
)
RESTARTED = STATUS_QUO | {
    "leaves_1g": 1024,
    "guest_lost_bytes": 0,
    "spares_used": N,
    "restarts": N,
    "stall_seconds": N * (RESTART_NS + CLEAR_NS) * NS,  # a restart covers the shootdown
    "worst_stall_seconds": (RESTART_NS + CLEAR_NS) * NS,
}
WITH_SPARES = {"reserved_bytes": 4 * GIB}
CANNOT = {"fallbacks": N}
NO_SPARE = {"fallbacks": N, "spares_exhausted": 1}
PRIVATE, NO_HVO, NO_MEMORY = "host.mapping=private", "host.hvo=false", "host.free_memory=0"
KEEPS_HVO, OFF_WHERE_SPLIT = "host.hvo_with_hgm=kept", "host.hvo_with_hgm=off-where-split"
HVO_OFF_TO_KEEP = "host.hvo_with_keep=off-everywhere"
PER_MM_NS = 2 * 513 * TABLE_NS + storm(512 * 512, locks=1)
ONE_TABLE_MORE_NS = SPLIT_2M_NS + 2 * TABLE_NS


@pytest.mark.parametrize(
    ("policy", "overrides", "expected"),
    [
        pytest.param(policy, overrides.split(), expected, id=f"{policy}: {fact}")
        for policy, fact, overrides, expected in (
            ("unmap1g", "the huge page is lost and leaked", "", STATUS_QUO),
            ("unmap1g", "shared whatever the host says", PRIVATE, STATUS_QUO),
            ("unmap1g", "a guest that is lost restarts on a spare",
             "faults.errors=1 vm.on_loss=restart workload.reads_per_hour=1e6",
             {"restarts": 1, "leaves_1g": 1024, "guest_lost_bytes": 0, "host_lost_bytes": GIB, "spares_used": 1}),
            ("unmap1g", "the trial ends with the VM", "vm.on_loss=end workload.reads_per_hour=1e6",
             {"errors": 1, "leaves_1g": 1023, "guest_lost_bytes": GIB, "host_lost_bytes": GIB, "vm_lost": 1}),
            ("unmap1g", "with 2M pages it loses 2 MiB", "vm.backing=2M",
             {"leaves_2m": 512 * 1024 - N, "guest_lost_bytes": N << 21, "host_lost_bytes": N << 21}),
            ("unmap1g-private", "the huge page is lost and dissolved", "", DISSOLVED),
            ("unmap1g-private", "private whatever the host says", "host.mapping=shared", DISSOLVED),
            ("unmap1g-private", "without HVO no memmap to restore", NO_HVO,
             STATUS_QUO | {"host_lost_bytes": N * PAGE, "stranded_bytes": N * HEALTHY}),
            ("unmap1g-private", "without HVO it needs no memory", f"{NO_HVO} {NO_MEMORY}",
             STATUS_QUO | {"host_lost_bytes": N * PAGE, "stranded_bytes": N * HEALTHY}),
            ("unmap1g-private", "without memory for the memmap it leaks", NO_MEMORY, STATUS_QUO),
            ("unmap1g-private", "what is dissolved pays for the next memmap", "host.free_memory=17MiB", DISSOLVED),
            ("unmap1g-private", "4,095 free pages will do for the first", f"host.free_memory={MEMMAP}", DISSOLVED),
            ("unmap1g-private", "one page less will not", f"host.free_memory={MEMMAP - PAGE}", STATUS_QUO),
            ("unmap1g-private", "with 2M pages 7 memmap pages each", "vm.backing=2M",
             {"vmemmap_bytes": N * 7 * PAGE, "stranded_bytes": N * ((1 << 21) - PAGE)}),
            ("hgm4k", "513 tables, one page lost", "", AROUND_4K),
            ("hgm4k", "HVO off for the regions that are split", OFF_WHERE_SPLIT,
             AROUND_4K | {"vmemmap_bytes": N * MEMMAP, "stall_seconds": N * (SPLIT_4K_NS + FLUSH_NS + RESTORE_NS) * NS,
                          "worst_stall_seconds": (SPLIT_4K_NS + FLUSH_NS + RESTORE_NS) * NS}),
            ("hgm4k", "HVO kept", KEEPS_HVO, AROUND_4K | {"vmemmap_bytes": 0}),
            ("hgm4k", "one lock for all tables serialises the faults", "host.table_lock=per-mm",
             {"worst_stall_seconds": (PER_MM_NS + FLUSH_NS) * NS, "stall_seconds": N * (PER_MM_NS + FLUSH_NS) * NS}),
            ("hgm4k", "one virtual CPU takes all faults", "vm.vcpus=1",
             {"worst_stall_seconds": (2 * 513 * TABLE_NS + 512 * 512 * REFAULT_NS + FLUSH_NS) * NS}),
            ("hgm4k-vma", "the whole VM at the first error", "", WHOLE_VM_4K),
            ("hgm4k-vma", "HVO off for all, as all are split", OFF_WHERE_SPLIT,
             {"vmemmap_bytes": 1024 * MEMMAP,
              "worst_stall_seconds": (1024 * (SPLIT_4K_NS + RESTORE_NS) + FLUSH_NS) * NS}),
            ("hgm4k-vma", "HVO kept", KEEPS_HVO, WHOLE_VM_4K | {"vmemmap_bytes": 0}),
            ("hgm4k-vma", "nothing happens without an error", "faults.errors=0 faults.placement=uniform",
             QUIET | {"vmemmap_bytes": HVO_OFF, "direct_map_bytes": 0, "guest_lost_bytes": 0, "host_lost_bytes": 0}),
            ("hgm2m", "two tables, one page lost", "", AROUND_2M),
            ("hgm2m", "HVO off for the regions that are split", OFF_WHERE_SPLIT,
             AROUND_2M | {"vmemmap_bytes": N * MEMMAP, "stall_seconds": N * (SPLIT_2M_NS + FLUSH_NS + RESTORE_NS) * NS,
                          "worst_stall_seconds": (SPLIT_2M_NS + FLUSH_NS + RESTORE_NS) * NS}),
            ("hgm2m", "HVO kept", KEEPS_HVO, AROUND_2M | {"vmemmap_bytes": 0}),
            ("hgm2m", "no HVO to give up", NO_HVO, AROUND_2M | {"vmemmap_bytes": 0}),
            ("hgm2m", "one lock per PMD or per process is one here", "host.table_lock=per-mm", AROUND_2M),
            ("hgm2m", "one table more for another process", "host.page_tables=2",
             {"table_bytes": N * (TABLES_2M + 2 * PAGE), "worst_stall_seconds": (ONE_TABLE_MORE_NS + FLUSH_NS) * NS}),
            ("hgm2m", "with 2M pages one table", "vm.backing=2M",
             {"leaves_2m": 512 * 1024 - N, "leaves_4k": N * 511, "table_bytes": N * TABLE_PAGE}),
            ("hgm2m", "tables always find room", NO_MEMORY, AROUND_2M),
            ("hgm2m-then-migrate", "no region is hit three times", "",
             AROUND_2M | WITH_SPARES | {"vmemmap_bytes": HVO_OFF_SPARES}),
            ("hgm2m-then-migrate:n=1", "moved at once while there are spares", "", FOUR_MIGRATED_THEN_2M),
            ("migrate-then-hgm2m", "four spares, then 2M leaves", "", FOUR_MIGRATED_THEN_2M),
            ("migrate-then-hgm2m", "HVO off for the regions that are split", OFF_WHERE_SPLIT,
             {"vmemmap_bytes": 96 * MEMMAP}),
            ("migrate-then-hgm2m", "HVO kept", KEEPS_HVO, FOUR_MIGRATED_THEN_2M | {"vmemmap_bytes": 0}),
            ("migrate-then-hgm2m:spares=0", "hgm2m without spares", "", AROUND_2M | NO_SPARE),
            ("migrate1g", "four spares, then lost", "", FOUR_MIGRATED),
            ("migrate1g:spares=0", "the status quo without spares", "", STATUS_QUO | NO_SPARE),
            ("migrate1g:spares=200", "the spares of the policy, not the host's", "",
             MIGRATED | {"reserved_bytes": 100 * GIB}),
            ("migrate1g", "private pages are dissolved", f"{PRIVATE} host.spares=100",
             MIGRATED | {"host_lost_bytes": N * PAGE, "stranded_bytes": N * HEALTHY, "vmemmap_bytes": N * MEMMAP,
                         "stall_seconds": N * (MOVE_NS + RESTORE_NS) * NS,
                         "worst_stall_seconds": (MOVE_NS + RESTORE_NS) * NS}),
            ("migrate1g", "each spare is found again", "host.replenish=1.0 host.free_memory=128GiB",
             MIGRATED | WITH_SPARES),
            ("migrate1g", "free memory holds 16 further spares", "host.replenish=1.0",
             {"spares_used": 20, "fallbacks": 80, "spares_exhausted": 1, "reserved_bytes": 0, "leaves_1g": 944}),
            ("keep-mapped", "nothing but the bad pages, and HVO off", HVO_OFF_TO_KEEP,
             QUIET | {"vmemmap_bytes": HVO_OFF}),
            ("keep-mapped", "nothing but the bad pages", "", QUIET),
            ("keep-mapped-hole", "only stage 2 is split", "",
             QUIET | {"leaves_1g": 924, "leaves_2m": N * 511, "leaves_4k": N * 511, "table_bytes": N * STAGE2_2M,
                      "stall_seconds": None, "worst_stall_seconds": None}),
            ("keep-mapped-hole", "further process tables stay whole", "host.page_tables=3",
             {"table_bytes": N * STAGE2_2M}),
            ("guest-offline", "kept mapped where memory cannot move", f"vm.unmovable=1.0 {HVO_OFF_TO_KEEP}",
             QUIET | WITH_SPARES | {"fallbacks": N, "vmemmap_bytes": HVO_OFF * 1028 // 1024}),
            ("guest-offline", "a spare for each block", f"vm.unmovable=0.0 host.spares=150 {HVO_OFF_TO_KEEP}",
             MIGRATED | {"guest_lost_bytes": 0, "reserved_bytes": 50 * GIB, "host_lost_bytes": N * PAGE,
                         "stranded_bytes": N * HEALTHY, "vmemmap_bytes": HVO_OFF * 1174 // 1024}),
            ("guest-offline", "without a spare the block stays away", "vm.unmovable=0.0",
             {"leaves_1g": 928, "guest_lost_bytes": 96 * GIB, "host_lost_bytes": N * PAGE, "spares_used": 4,
              "spares_exhausted": 1, "reserved_bytes": 0, "stranded_bytes": N * HEALTHY,
              "stall_seconds": (4 * MOVE_NS + 96 * (COPY_NS + FLUSH_NS) + N * RESTORE_NS) * NS}),
            ("guest-offline", "what is dissolved gets its memory map",
             "vm.unmovable=0.0 host.spares=100",
             {"guest_lost_bytes": 0, "host_lost_bytes": N * PAGE, "stranded_bytes": N * HEALTHY,
              "vmemmap_bytes": N * MEMMAP}),
            ("restart-after", "spares replace what was lost", "host.spares=100", RESTARTED),
            ("restart-after", "four spares", "",
             {"restarts": 4, "guest_lost_bytes": 96 * GIB, "host_lost_bytes": N * GIB, "leaves_1g": 928,
              "spares_used": 4, "reserved_bytes": 0, "fallbacks": 96, "spares_exhausted": 1}),
            ("restart-after:n=2", "at every second poison", "host.spares=100",
             {"restarts": 50, "guest_lost_bytes": 0, "host_lost_bytes": N * GIB, "spares_used": N}),
            ("restart-after:n=1000", "never", "", STATUS_QUO | WITH_SPARES),
            ("reboot-after:n=1000", "never", "", STATUS_QUO | WITH_SPARES),
            ("reboot-after", "never without spares to start the VM on", "host.spares=0",
             {name: value for name, value in STATUS_QUO.items() if name != "fallbacks"}),
            ("evacuate-after", "a clean host at the third poison",
             "faults.errors=3 host.spare_hosts=1 host.moves_poison=true",
             QUIET | {"vmemmap_bytes": HVO_OFF, "direct_map_bytes": 0, "guest_lost_bytes": 3 * PAGE,
                      "host_lost_bytes": 0, "evacuations": 1, "stall_seconds": None, "worst_stall_seconds": None}),
            ("evacuate-after", "its memmap is whole in the clean host",
             f"faults.errors=3 host.spare_hosts=1 host.moves_poison=true {OFF_WHERE_SPLIT}", {"vmemmap_bytes": 0}),
            ("evacuate-after", "three poisons on each host",
             "faults.errors=6 host.spare_hosts=2 host.moves_poison=true", {"evacuations": 2, "fallbacks": 0}),
            ("evacuate-after", "then no host is left", "faults.errors=5 host.spare_hosts=1 host.moves_poison=true",
             {"evacuations": 1, "leaves_1g": 1022, "table_bytes": 2 * TABLES_2M, "host_lost_bytes": 2 * PAGE,
              "guest_lost_bytes": 5 * PAGE}),
            ("evacuate-after:n=1", "hgm2m on the last host", "host.spare_hosts=1 host.moves_poison=true",
             {"evacuations": 1, "fallbacks": 99, "leaves_1g": 925, "table_bytes": 99 * TABLES_2M,
              "guest_lost_bytes": N * PAGE, "host_lost_bytes": 99 * PAGE, "direct_map_bytes": 99 * DIRECT_MAP}),
            ("evacuate-after:n=1000", "never", "host.spare_hosts=9 host.moves_poison=true", AROUND_2M),
        )
    ],
)  # fmt: skip
def test_a_policy_ends_in_the_state_that_its_prose_describes(policy, overrides, expected):
    expected = {metric: value for metric, value in expected.items() if value is not None}
    assert_state(policy, expected, *overrides)


@pytest.mark.parametrize(
    ("arch", "vm", "tables", "leaves", "hgm2m"),
    [
        # 1G -> 31 x 32M + 15 x 2M + 31 x 64K + 15 x 4K = 92, against 511 x 2M + 511 x 4K
        ("arm64", "", 2 * 2 * 4096, {"32m": 31, "2m": 15, "64k": 31, "4k": 15}, {"2m": 511, "4k": 511}),
        # Svnapot has 64K only: 511 + 31 + 15 = 557
        ("riscv64", "", 2 * 2 * 4096, {"2m": 511, "64k": 31, "4k": 15}, {"2m": 511, "4k": 511}),
        # 1G is 32 contiguous entries of a table that is there already; one 32M breaks: 31 + 15 + 127 = 173
        ("arm64-16k", "", 2 * 16384, {"32m": 31, "2m": 15, "16k": 127}, {"32m": 31, "16k": 2047}),
        # 512M -> 255 x 2M + 31 x 64K = 286
        ("arm64-64k", "vm.backing=512M", 2 * 65536, {"2m": 255, "64k": 31}, {"64k": 8191}),
    ],
)
def test_hgm_contig_keeps_the_contiguous_bit_of_the_healthy_rest_and_saves_no_table_page(
    arch, vm, tables, leaves, hgm2m
):
    cpu = "host.cpu=xiangshan-kunminghu" if arch == "riscv64" else "host.cpu=neoverse-v2"
    where = (f"vm.arch={arch}", "vm.contiguous=true", cpu, "faults.placement=distinct-regions", *vm.split())
    both = lives(("hgm-contig", "hgm2m"), *where, scenario="arm64-1t")
    for name, expected in (("hgm-contig", leaves), ("hgm2m", hgm2m)):
        small = {size for size in both[name] if size.startswith("leaves_")} - {"leaves_1g", "leaves_512m"}
        assert {size: set(both[name][size]) for size in small} == {
            size: {N * expected.get(size.removeprefix("leaves_"), 0)} for size in small
        }
    assert set(both["hgm-contig"]["table_bytes"]) == set(both["hgm2m"]["table_bytes"])
    assert set(both["hgm2m"]["table_bytes"]) == {N * tables}  # struct kvm_mmu_page is x86's own
    assert set(both["hgm2m"]["direct_map_bytes"]) == {0}  # set_mce_nospec() is x86's own
    # stage 2 has no contiguous entries: as many faults but for the runs that are broken, 16 entries each
    assert (both["hgm-contig"]["stall_seconds"] >= both["hgm2m"]["stall_seconds"]).all()
    assert (both["hgm-contig"]["stall_seconds"] <= 1.1 * both["hgm2m"]["stall_seconds"]).all()


def test_collapse_nightly_has_the_tables_of_hgm4k_until_the_night_and_those_of_hgm2m_after_it():
    frame = life("collapse-nightly", trials=500)
    by_day = (frame["table_bytes"] - N * TABLES_2M) / (TABLES_4K - TABLES_2M)  # regions hit since the last night
    assert (by_day == by_day.round()).all() and (by_day >= 0).all()
    assert by_day.sum() <= stats.poisson.ppf(1 - FALSE_ALARM, len(frame) * N / (5 * 365.25))
    assert (frame["leaves_2m"] == (N - by_day) * 511).all()
    assert (frame["leaves_4k"] == (N - by_day) * 511 + by_day * (512 * 512 - 1)).all()
    stall_ns = N * (SPLIT_4K_NS + FLUSH_NS) + (N - by_day) * COLLAPSE_NS  # a second per huge page
    np.testing.assert_allclose(frame["stall_seconds"], stall_ns * NS, rtol=1e-9)
    assert (frame["guest_lost_bytes"] == N * PAGE).all()


def test_collapse_nightly_maps_regions_that_are_hit_again_as_hgm2m_does_once_the_night_is_over():
    at = lives(("collapse-nightly", "hgm2m"), scenario="seed-1t", trials=500)
    nightly, hgm2m = at["collapse-nightly"], at["hgm2m"]
    assert (hgm2m["errors"] > hgm2m["regions_hit"]).mean() > 0.9
    settled = nightly["table_bytes"] == hgm2m["table_bytes"]
    assert settled.sum() >= stats.binom.ppf(FALSE_ALARM, len(settled), math.exp(-N / (5 * 365.25)))
    mapped = ["leaves_1g", "leaves_2m", "leaves_4k", "direct_map_bytes", "vmemmap_bytes", "guest_lost_bytes"]
    pd.testing.assert_frame_equal(nightly.loc[settled, mapped], hgm2m.loc[settled, mapped])


@pytest.mark.parametrize(
    ("spare_rows", "kept"),
    [(2, 0), (9, 0), (0, 2), (1, 2)],
    ids=["a row for each", "rows to spare", "no spare row", "not for all of them"],
)
def test_a_reboot_gives_the_leaked_pages_back_and_spares_replace_those_that_no_row_repairs(spare_rows, kept):
    frame = life("reboot-after", "faults.errors=2", f"host.spare_rows={spare_rows}", trials=1000)
    booted = frame[frame["reboots"] == 1]
    # no reboot where the second error comes after the last window, a month (or none) before the end
    assert len(frame) - len(booted) <= stats.binom.ppf(1 - FALSE_ALARM, len(frame), 1 - (59 / 60) ** 2)
    waiting = frame[frame["reboots"] == 0]
    assert (waiting["host_lost_bytes"] == 2 * GIB).all() and (waiting["leaves_1g"] == 1022).all()
    expected = {
        "leaves_1g": 1024,
        "guest_lost_bytes": 0,
        "host_lost_bytes": kept * PAGE,
        "stranded_bytes": kept * HEALTHY,  # left out of the pool: base pages like any other
        "reserved_bytes": (4 - kept) * GIB,
        "direct_map_bytes": 0,  # mapped anew, and no error has been handled since
        "stall_seconds": (2 * FLUSH_NS + REBOOT_NS) * NS,
        "worst_stall_seconds": REBOOT_NS * NS,
        "reboots": 1,
    }
    assert_values(booted, expected)
    # what HVO would save there; whether it had split the memmap before is not told
    assert booted["vmemmap_bytes"].between(kept * UNSAVED, kept * MEMMAP).all()


@pytest.mark.parametrize(("spare_rows", "kept"), [(4, 0), (3, 2), (2, 2), (1, 4)])
def test_a_spare_row_repairs_once(spare_rows, kept):
    frame = life("reboot-after", "faults.errors=4", f"host.spare_rows={spare_rows}", trials=500)
    twice = frame[frame["reboots"] == 2]  # after two errors each; a third in the same month is rare
    assert len(twice) > 400
    assert_values(twice, {"host_lost_bytes": kept * PAGE, "reserved_bytes": (4 - kept) * GIB, "leaves_1g": 1024})


def test_a_reboot_waits_until_n_huge_pages_are_leaked():
    frames = [life(f"reboot-after:n={n}", "faults.errors=2", "host.spare_rows=9", trials=1000) for n in (1, 2, 3)]
    once, twice, never = (frame["reboots"] for frame in frames)
    assert (once >= twice).all() and set(never) == {0}
    # one window for both errors, or one each: the same month has both with a chance of 1 / 60, the last may have none
    assert (once == 2).mean() > 0.9


@pytest.mark.parametrize("mapping", ["shared", "private"])
@pytest.mark.parametrize(("errors", "n"), [(2, 3), (3, 3), (2, 2), (3, 2), (4, 2), (5, 5), (4, 5)])
def test_hgm2m_then_migrate_moves_a_region_at_each_nth_poison(errors, n, mapping):
    policy = "hgm2m-then-migrate" if n == 3 else f"hgm2m-then-migrate:n={n}"  # the third unless told otherwise
    small = ("vm.memory=1GiB", "faults.placement=uniform", f"faults.errors={errors}", OFF_WHERE_SPLIT)
    frame = life(policy, *small, f"host.mapping={mapping}", trials=50)
    moves, since = divmod(errors, n)
    private = mapping == "private"
    expected = {
        "spares_used": moves,
        "leaves_1g": int(since == 0),
        "guest_lost_bytes": errors * PAGE,
        "host_lost_bytes": errors * PAGE if private else moves * GIB + since * PAGE,
        "stranded_bytes": moves * (GIB - n * PAGE) if private else 0,
        "vmemmap_bytes": (moves + (since > 0)) * MEMMAP,  # of every huge page since its split, leaked or dissolved
    }
    assert_values(frame, expected)
    assert ((frame["table_bytes"] == 0) == (since == 0)).all()
    if moves:
        assert_values(frame, {"worst_stall_seconds": MOVE_NS * NS})  # what is dissolved has its memmap back already


@pytest.mark.parametrize("errors", [2, 3])
@pytest.mark.parametrize(
    ("policy", "counter"), [("hgm2m-then-migrate", "spares_used"), ("evacuate-after", "evacuations")]
)
def test_the_nth_poison_counts_in_small_leaves_too(policy, counter, errors):
    small = ("vm.memory=2MiB", "vm.backing=2M", "faults.placement=uniform", f"faults.errors={errors}", KEEPS_HVO)
    third = int(errors == 3)  # the first has left only 4K leaves
    frame = life(policy, *small, "host.spare_hosts=1", "host.moves_poison=true", trials=50)
    frame = frame[frame["guest_lost_bytes"] == errors * PAGE]  # two of 512 pages may be the same
    assert_values(frame, {counter: third, "leaves_2m": third, "leaves_4k": 0 if third else 510})


def test_each_memslot_hole_has_all_of_stage_2_mapped_again_the_leaves_of_earlier_ones_too():
    # after the k-th error stage 2 has 1,024 - k leaves of 1G and k x 1,022 smaller ones, and each is faulted in once
    stalls = [2 * TABLE_NS + FLUSH_NS + storm(1024 - k + k * 1022) for k in range(1, N + 1)]
    assert_state("keep-mapped-hole", {"stall_seconds": sum(stalls) * NS, "worst_stall_seconds": stalls[-1] * NS})
    assert_state("keep-mapped-hole", {"stall_seconds": stalls[0] * NS}, "faults.errors=1")


def test_an_evacuation_takes_the_blackout_and_the_splits_before_it_their_own():
    stalls = {
        "worst_stall_seconds": EVACUATE_NS * NS,
        "stall_seconds": (EVACUATE_NS + 2 * (SPLIT_2M_NS + FLUSH_NS)) * NS,
    }
    assert_state("evacuate-after", stalls, "faults.errors=3", "host.spare_hosts=1", "host.moves_poison=true")


SOFT = ("host.ce_threshold=cec",)


def test_soft_offline_moves_regions_on_corrected_errors_and_loses_them_at_an_uncorrected_one():
    both = lives(("soft-offline:spares=64", "unmap1g"), *SOFT, scenario="bad-dimm", trials=400)
    frame, lost = both["soft-offline:spares=64"], both["unmap1g"]
    moved, holes = frame["spares_used"], 1024 - frame["leaves_1g"]
    assert moved.sum() > 100 and holes.sum() > 100 and moved.max() < 64
    assert (frame["guest_lost_bytes"] == holes * GIB).all()  # a corrected error loses no data
    assert (frame["guest_lost_bytes"] <= lost["guest_lost_bytes"]).all()
    assert (frame["reserved_bytes"] == (64 - moved) * GIB).all()
    # the old page is dissolved, shared or not, and the suspect base page is out of use
    assert (frame["host_lost_bytes"] == holes * GIB + moved * PAGE).all()
    assert (frame["stranded_bytes"] == moved * HEALTHY).all()
    assert (frame["vmemmap_bytes"] == moved * MEMMAP).all()
    assert (frame["direct_map_bytes"] == holes * DIRECT_MAP).all()  # soft offline takes nothing out of the direct map
    move_ns = COPY_NS + RESTORE_NS + FLUSH_NS  # the kernel clears no page that it copies to
    np.testing.assert_allclose(frame["stall_seconds"], (moved * move_ns + holes * FLUSH_NS) * NS, rtol=1e-9)


def test_soft_offline_without_a_spare_changes_nothing():
    both = lives(("soft-offline", "unmap1g"), *SOFT, "host.spares=0", scenario="bad-dimm", trials=400)
    same = both["unmap1g"].columns.drop(["policy", "fallbacks", "spares_exhausted"])
    pd.testing.assert_frame_equal(both["soft-offline"][same], both["unmap1g"][same])
    assert both["soft-offline"]["fallbacks"].sum() > 0 and (both["unmap1g"]["fallbacks"] == 0).all()


@pytest.mark.parametrize(
    ("policy", "overrides", "why"),
    [
        ("migrate1g", "host.pinned=true", "host.pinned"),
        ("migrate-then-hgm2m", "host.pinned=true", "host.pinned"),
        ("hgm2m-then-migrate", "host.pinned=true", "host.pinned"),
        ("evacuate-after", "host.pinned=true host.spare_hosts=1 host.moves_poison=true", "host.pinned"),
        ("evacuate-after", "host.spare_hosts=1", "QEMU refuses"),
        ("evacuate-after", "host.moves_poison=true", "host.spare_hosts"),
        ("soft-offline", "", "host.ce_threshold"),
        ("hgm-contig", "", "contiguous"),
    ],
)
def test_a_policy_that_could_never_do_what_it_is_for_is_refused(policy, overrides, why):
    with pytest.raises(ps.PolicyError, match=why):
        life(policy, *overrides.split())


# What holds for any errors

ALL = (
    "unmap1g", "unmap1g-private", "hgm4k", "hgm4k-vma", "hgm2m", "hgm2m-then-migrate", "migrate-then-hgm2m",
    "migrate1g", "keep-mapped", "keep-mapped-hole", "guest-offline", "restart-after", "reboot-after",
    "collapse-nightly", "evacuate-after",
)  # fmt: skip
UNIFORM = ("horizon.grid=6months", "host.spare_hosts=3", "host.moves_poison=true")
YEARS = [step / 2 for step in range(11)]


@functools.cache
def uniform(year: float) -> dict[str, pd.DataFrame]:
    return lives(ALL, *UNIFORM, scenario="seed-1t", trials=60, year=year)


@pytest.mark.parametrize("year", YEARS)
def test_at_every_grid_point_the_policies_keep_their_order(year):
    at = uniform(year)
    lost = {name: frame["guest_lost_bytes"] for name, frame in at.items()}
    assert (lost["hgm4k"] == lost["hgm2m"]).all() and (lost["hgm2m"] <= lost["unmap1g"]).all()
    assert (lost["unmap1g"] == lost["unmap1g-private"]).all()
    for name in ("hgm4k-vma", "keep-mapped", "keep-mapped-hole", "hgm2m-then-migrate", "migrate-then-hgm2m",
                 "collapse-nightly"):  # fmt: skip
        assert (lost[name] == lost["hgm2m"]).all(), name
    for name in ("migrate1g", "guest-offline", "restart-after", "reboot-after"):
        assert (lost[name] <= lost["unmap1g"]).all(), name
    tables = {name: frame["table_bytes"] for name, frame in at.items()}
    assert (tables["hgm2m"] <= tables["hgm4k"]).all() and (tables["hgm4k"] <= tables["hgm4k-vma"]).all()
    assert (tables["keep-mapped-hole"] * TABLES_2M == tables["hgm2m"] * STAGE2_2M).all()
    assert (tables["hgm2m"] <= tables["collapse-nightly"]).all()
    assert (tables["migrate-then-hgm2m"] <= tables["hgm2m"]).all()
    for name in ("unmap1g", "unmap1g-private", "migrate1g", "keep-mapped", "guest-offline", "restart-after",
                 "reboot-after"):  # fmt: skip
        assert (tables[name] == 0).all(), name


@pytest.mark.parametrize("year", [0, 2.5, 5])
def test_on_any_errors_the_bytes_follow_from_the_regions_and_pages_hit(year):
    at = uniform(year)
    errors, regions = at["unmap1g"]["errors"], at["unmap1g"]["regions_hit"]
    assert (errors > regions).any() == (year > 0)
    assert (at["unmap1g"]["guest_lost_bytes"] == regions * GIB).all()
    assert (at["unmap1g"]["host_lost_bytes"] == regions * GIB).all()
    assert (at["unmap1g"]["direct_map_bytes"] == regions * DIRECT_MAP).all()  # a second error in the hole does nothing
    assert (at["hgm2m"]["guest_lost_bytes"] == errors * PAGE).all()
    assert (at["hgm4k"]["table_bytes"] == regions * TABLES_4K).all()
    assert (at["hgm4k"]["leaves_4k"] == regions * 512 * 512 - errors).all()
    assert (at["hgm4k-vma"]["table_bytes"] == (1024 * TABLES_4K if year else 0)).all()
    # one PMD table per region and a PTE table per hit 2M, in process, stage 2 and direct map alike
    pages = at["hgm2m"]["table_bytes"] / TABLE_PAGE
    assert (pages >= 2 * regions).all() and (pages <= regions + errors).all()
    assert (at["hgm2m"]["direct_map_bytes"] == pages * PAGE).all()
    assert (at["hgm2m"]["leaves_2m"] == regions * 512 - (pages - regions)).all()
    assert (at["hgm2m"]["leaves_4k"] == (pages - regions) * 512 - errors).all()
    assert (at["keep-mapped"]["leaves_1g"] == 1024).all()
    assert (at["keep-mapped"]["tlb_reach_loss"] == 0).all() and (at["keep-mapped"]["slowdown"] == 1).all()
    assert (at["migrate1g"]["spares_used"] == np.minimum(regions, 4)).all()


@pytest.mark.parametrize("policy", ALL)
def test_no_policy_uses_more_spares_than_it_holds_and_the_host_pays_the_sum_of_the_parts(policy):
    held = 4
    for year in YEARS:
        frame = uniform(year)[policy]
        hosts = 1 + frame["evacuations"]
        assert (frame["spares_used"] <= held * hosts).all()
        if policy not in ("reboot-after", "evacuate-after") and frame["reserved_bytes"].any():
            assert (frame["reserved_bytes"] == (held - frame["spares_used"]) * GIB).all()
        parts = ["table_bytes", "vmemmap_bytes", "direct_map_bytes", "host_lost_bytes", "reserved_bytes"]
        assert (frame["capacity_cost_bytes"] == frame[parts].sum(axis=1)).all()
        assert (frame["worst_stall_seconds"] <= frame["stall_seconds"] * (1 + 1e-9)).all()


def test_a_guard_that_never_holds_changes_nothing():
    never = {
        "hgm2m-then-migrate:n=512": "hgm2m",
        "evacuate-after:n=1000": "hgm2m",
        "restart-after:n=1000": "unmap1g",
        "reboot-after:n=1000": "unmap1g",
    }
    at = lives((*never, *set(never.values())), *UNIFORM, KEEPS_HVO, scenario="seed-1t", trials=60)
    for name, without in never.items():
        same = at[name].columns.drop(["policy", "reserved_bytes", "capacity_cost_bytes"])
        pd.testing.assert_frame_equal(at[name][same], at[without][same])
        held = 0 if name.startswith("evacuate") else 4 * GIB
        assert (at[name]["capacity_cost_bytes"] == at[without]["capacity_cost_bytes"] + held).all()


# Lost VMs: every bad page is read at once, so that nothing waits for the end of the horizon

READ_AT_ONCE = ("workload.reads_per_hour=1e6", "faults.errors=20")


@pytest.mark.parametrize("unrecoverable", [0.02, 0.1])
@pytest.mark.parametrize(
    ("policy", "overrides"),
    [
        ("hgm2m", ""),
        ("hgm4k", ""),
        ("hgm4k-vma", ""),
        ("collapse-nightly", ""),
        ("hgm2m-then-migrate", ""),
        ("migrate-then-hgm2m", ""),
        ("migrate1g", "host.spares=20"),
        ("evacuate-after", "host.spare_hosts=3 host.moves_poison=true"),
        ("evacuate-after:n=1", "host.spare_hosts=20 host.moves_poison=true"),
        ("keep-mapped", "host.kernel_reads=0.0"),
        ("keep-mapped-hole", "host.kernel_reads=0.0"),
        ("guest-offline", "host.spares=20 vm.unmovable=0.0"),
    ],
)
def test_a_policy_that_loses_single_pages_loses_the_vm_where_one_of_them_is_the_kernels(
    policy, overrides, unrecoverable
):
    frame = life(policy, *READ_AT_ONCE, *overrides.split(), f"vm.unrecoverable={unrecoverable}", trials=4000)
    assert_share(frame, "vm_lost", 1 - (1 - unrecoverable) ** 20)


@pytest.mark.parametrize("policy", ["keep-mapped", "keep-mapped-hole"])
def test_a_host_kernel_that_makes_every_read_panics_on_each_page_that_the_guest_does_not_retire(policy):
    frame = life(policy, *READ_AT_ONCE, "host.kernel_reads=1.0", trials=4000)
    assert_share(frame, "vm_lost", 1 - (0.98 * 0.94) ** 20)  # unrecoverable 2 %, and 6 % of the others not retired


@pytest.mark.parametrize("policy", ["unmap1g", "unmap1g-private"])
def test_a_huge_page_has_a_page_of_the_guest_kernel_in_it(policy):
    frame = life(policy, *READ_AT_ONCE, trials=1000)
    assert frame["vm_lost"].all()  # 0.98 ** 262,144 is nothing


def test_errors_at_a_rate_lose_vms_at_a_rate():
    scenario = ps.Scenario(
        vm=ps.Vm(memory="256GiB"),
        faults=ps.RateFaults(ue_per_tib_year=40.0),
        workload=ps.Workload(reads_per_hour=1e6),
        horizon=ps.Horizon(years=2, grid="6months"),
    )
    res = ps.run(scenario, policies=["hgm2m"], trials=4000, seed=5)
    for year in (0.5, 1, 2):
        assert_share(res.samples(year=year), "vm_lost", -math.expm1(-0.02 * 40 / 4 * year))


@pytest.mark.parametrize("policy", ["hgm2m", "hgm4k", "keep-mapped", "keep-mapped-hole"])
def test_a_guest_that_retires_every_page_gets_one_machine_check_per_error(policy):
    retires = ("vm.unretired=0.0", "vm.unrecoverable=0.0")
    frame = life(policy, *retires)
    np.testing.assert_allclose(frame["guest_faults"], N, rtol=1e-3)
    assert not frame["vm_lost"].any()
    forgets = life(policy, "vm.unretired=0.5", "vm.unrecoverable=0.0")
    assert (forgets["guest_faults"] > N).all()
