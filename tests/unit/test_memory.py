"""Page-table, vmemmap and direct-map arithmetic: published figures, a walk by addresses, conservation, bad input."""

from __future__ import annotations

import dataclasses
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from poisonsim.errors import ScenarioError
from poisonsim.memory import (
    ARCHITECTURES,
    FIRST_SPLIT_TABLE_PAGES,
    FURTHER_SPLIT_TABLE_PAGES,
    STRUCT_PAGE_BYTES,
    Ladder,
    SplitCost,
    backings,
    direct_map_bytes,
    direct_map_table_pages,
    expected_distinct,
    hvo_net_saving_bytes,
    hvo_saved_bytes,
    ladder,
    memmap_bytes,
    process_table_bytes,
    split_cost,
    stage2_metadata_bytes,
    stage2_table_bytes,
    table_bytes,
    vmemmap_bytes,
)
from poisonsim.units import page_bytes

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40

LADDERS = [
    ladder(arch, backing, contiguous)
    for arch in ARCHITECTURES
    for backing in backings(arch)
    for contiguous in (False, True)[: 1 + bool(ARCHITECTURES[arch].contiguous_sizes)]
]


def name_of(rungs: Ladder) -> str:
    return f"{rungs.arch}:{'>'.join(rungs.sizes)}"


def paths_from(arch: str, leaf: str) -> list[tuple[str, ...]]:
    """Every way down from a leaf: any of the sizes between it and the base page."""
    sizes = ARCHITECTURES[arch].sizes
    between, base = sizes[sizes.index(leaf) + 1 : -1], sizes[-1]
    return [(*some, base) for n in range(len(between) + 1) for some in combinations(between, n)]


SPLITS = [(arch, leaf, path) for arch in ARCHITECTURES for leaf in backings(arch) for path in paths_from(arch, leaf)]

# ---------------------------------------------------------------- geometry


def test_architectures_and_their_backings() -> None:
    assert {arch: backings(arch) for arch in ARCHITECTURES} == {
        "x86-64": ("1G", "2M"),
        "arm64": ("1G", "32M", "2M", "64K"),
        "arm64-16k": ("1G", "32M", "2M"),
        "arm64-64k": ("16G", "512M", "2M"),
        "riscv64": ("1G", "2M", "64K"),
    }


@pytest.mark.parametrize("arch", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_a_table_is_one_base_page_of_8_byte_entries_and_spans_one_entry_of_the_level_above(arch: Any) -> None:
    assert arch.entries_per_table * 8 == arch.base_bytes
    assert arch.base_bytes == page_bytes(arch.leaf_sizes[-1])
    assert arch.table_span_bytes[1:] == tuple(page_bytes(size) for size in arch.leaf_sizes[:-1])
    assert arch.backing_sizes == arch.sizes[:-1]
    assert arch.vmemmap_leaf in arch.leaf_sizes


@pytest.mark.parametrize(
    ("arch", "entry", "run", "entries"),
    [
        ("arm64", "4K", "64K", 16),
        ("arm64", "2M", "32M", 16),
        ("arm64-16k", "16K", "2M", 128),
        ("arm64-16k", "32M", "1G", 32),
        ("arm64-64k", "64K", "2M", 32),
        ("arm64-64k", "512M", "16G", 32),
        ("riscv64", "4K", "64K", 16),
    ],
)
def test_contiguous_sizes_are_runs_of_entries_that_save_no_table(arch: str, entry: str, run: str, entries: int) -> None:
    rungs = Ladder(arch, (run, entry))
    assert run in ARCHITECTURES[arch].contiguous_sizes
    assert rungs.leaves_per(0, 1) == entries
    assert rungs.table_pages(0, 1) == 0


@pytest.mark.parametrize(
    ("arch", "backing", "contiguous", "sizes"),
    [
        ("x86-64", "1G", False, "1G 2M 4K"),
        ("x86-64", "2M", False, "2M 4K"),
        ("arm64", "1G", False, "1G 2M 4K"),
        ("arm64", "1G", True, "1G 32M 2M 64K 4K"),
        ("arm64", "32M", False, "32M 2M 4K"),
        ("arm64", "32M", True, "32M 2M 64K 4K"),
        ("arm64", "64K", False, "64K 4K"),
        ("arm64", "64K", True, "64K 4K"),
        ("arm64-16k", "1G", False, "1G 32M 16K"),
        ("arm64-16k", "1G", True, "1G 32M 2M 16K"),
        ("arm64-16k", "2M", False, "2M 16K"),
        ("arm64-64k", "16G", False, "16G 512M 64K"),
        ("arm64-64k", "16G", True, "16G 512M 2M 64K"),
        ("riscv64", "1G", False, "1G 2M 4K"),
        ("riscv64", "1G", True, "1G 2M 64K 4K"),
    ],
)
def test_ladder_sizes(arch: str, backing: str, contiguous: bool, sizes: str) -> None:
    assert ladder(arch, backing, contiguous=contiguous).sizes == tuple(sizes.split())


@pytest.mark.parametrize(
    ("arch", "above", "below", "n_tables"),
    [
        ("x86-64", "1G", "4K", 513),
        ("x86-64", "1G", "2M", 1),
        ("x86-64", "2M", "4K", 1),
        ("riscv64", "1G", "4K", 513),
        ("arm64", "1G", "4K", 513),  # stage2_block_get_nr_page_tables: PTRS_PER_PTE + 1 for a 1G block
        ("arm64", "2M", "4K", 1),  # and 1 for a 2M block
        ("arm64", "1G", "64K", 513),
        ("arm64", "1G", "32M", 1),
        ("arm64", "32M", "2M", 0),
        ("arm64", "32M", "64K", 16),
        ("arm64", "2M", "64K", 1),
        ("arm64", "64K", "4K", 0),
        ("arm64-16k", "1G", "32M", 0),
        ("arm64-16k", "1G", "16K", 32),
        ("arm64-16k", "1G", "2M", 32),
        ("arm64-16k", "32M", "16K", 1),
        ("arm64-64k", "16G", "512M", 0),
        ("arm64-64k", "16G", "64K", 32),
        ("arm64-64k", "512M", "64K", 1),
    ],
)
def test_table_pages_of_one_step(arch: str, above: str, below: str, n_tables: int) -> None:
    assert Ladder(arch, (above, below)).table_pages(0, 1) == n_tables


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_entries_and_stage_2_leaves_of_every_size(arch: str) -> None:
    """A contiguous leaf is a run of entries; stage 2 has its run only where KVM uses contiguous entries too."""
    geometry = ARCHITECTURES[arch]
    for size in geometry.sizes:
        entry = geometry.entry_size(size)
        assert (entry == size) == (size in geometry.leaf_sizes)
        assert page_bytes(size) // page_bytes(entry) in (1, 16, 32, 128)
        assert geometry.stage2_size(size) == entry
        assert geometry.stage2_size(size, contiguous=True) == size
    assert ladder(arch, geometry.backing_sizes[0]).contiguous_sizes == tuple(
        size for size in geometry.backing_sizes[:1] if size in geometry.contiguous_sizes
    )


def test_levels_are_found_by_size() -> None:
    rungs = ladder("arm64", contiguous=True)
    assert [rungs.level(size) for size in rungs.sizes] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("rungs", LADDERS, ids=name_of)
def test_ladder_descends_from_its_backing_to_the_base_page(rungs: Ladder) -> None:
    assert rungs.pages[-1] == 1
    assert all(above > below and above % below == 0 for above, below in zip(rungs.pages, rungs.pages[1:], strict=False))
    assert [page_bytes(size) for size in rungs.sizes] == [n * rungs.base_bytes for n in rungs.pages]


@pytest.mark.parametrize("rungs", LADDERS, ids=name_of)
def test_matrix_holds_table_pages_above_the_diagonal_and_nothing_elsewhere(rungs: Ladder) -> None:
    matrix, n = rungs.table_pages_matrix(), len(rungs.sizes)
    assert matrix.dtype == np.int64
    assert matrix.shape == (n, n)
    assert_array_equal(matrix, np.triu(matrix, 1))
    assert matrix.tolist() == [[rungs.table_pages(a, b) for b in range(n)] for a in range(n)]


@pytest.mark.parametrize("rungs", LADDERS, ids=name_of)
def test_table_pages_do_not_depend_on_the_steps_taken(rungs: Ladder) -> None:
    for a, b, c in combinations(range(len(rungs.sizes)), 3):
        assert rungs.table_pages(a, c) == rungs.table_pages(a, b) + rungs.leaves_per(a, b) * rungs.table_pages(b, c)
        assert rungs.leaves_per(a, c) == rungs.leaves_per(a, b) * rungs.leaves_per(b, c)


# ---------------------------------------------------------------- what one error costs

ONE_ERROR = {
    # case: (arch, leaf, path, table pages of one table, their bytes, leaves)
    "x86 all 4K": ("x86-64", "1G", "4K", 513, 2_101_248, {"4K": 262_143}),
    "arm64 all 4K": ("arm64", "1G", "4K", 513, 2_101_248, {"4K": 262_143}),
    "riscv all 4K": ("riscv64", "1G", "4K", 513, 2_101_248, {"4K": 262_143}),
    "x86 2M and 4K": ("x86-64", "1G", "2M 4K", 2, 8_192, {"2M": 511, "4K": 511}),
    "arm64 2M and 4K": ("arm64", "1G", "2M 4K", 2, 8_192, {"2M": 511, "4K": 511}),
    "riscv 2M and 4K": ("riscv64", "1G", "2M 4K", 2, 8_192, {"2M": 511, "4K": 511}),
    "arm64 contiguous": ("arm64", "1G", "32M 2M 64K 4K", 2, 8_192, {"32M": 31, "2M": 15, "64K": 31, "4K": 15}),
    "riscv Svnapot": ("riscv64", "1G", "2M 64K 4K", 2, 8_192, {"2M": 511, "64K": 31, "4K": 15}),
    "arm64-16k all 16K": ("arm64-16k", "1G", "16K", 32, 524_288, {"16K": 65_535}),
    "arm64-16k 32M": ("arm64-16k", "1G", "32M 16K", 1, 16_384, {"32M": 31, "16K": 2_047}),
    "arm64-16k contiguous": ("arm64-16k", "1G", "32M 2M 16K", 1, 16_384, {"32M": 31, "2M": 15, "16K": 127}),
    "arm64-64k 512M": ("arm64-64k", "512M", "64K", 1, 65_536, {"64K": 8_191}),
    "arm64-64k 512M contiguous": ("arm64-64k", "512M", "2M 64K", 1, 65_536, {"2M": 255, "64K": 31}),
    "arm64-64k 16G": ("arm64-64k", "16G", "512M 2M 64K", 1, 65_536, {"512M": 31, "2M": 255, "64K": 31}),
}
LEAVES_IN_ALL = {
    "x86 2M and 4K": 1_022,
    "arm64 contiguous": 92,
    "riscv Svnapot": 557,
    "arm64-16k 32M": 2_078,
    "arm64-16k contiguous": 173,
    "arm64-64k 512M contiguous": 286,
    "arm64-64k 16G": 317,
}


@pytest.mark.parametrize("case", ONE_ERROR)
def test_tables_and_leaves_after_one_error(case: str) -> None:
    arch, leaf, path, n_tables, n_bytes, leaves = ONE_ERROR[case]
    cost = split_cost(arch=arch, leaf=leaf, path=path.split())
    assert (cost.table_pages, cost.process_bytes, cost.stage2_bytes) == (n_tables, n_bytes, n_bytes)
    assert cost.leaves == leaves
    assert list(cost.leaves) == path.split()
    assert cost.metadata_bytes == (184 * n_tables if arch == "x86-64" else 0)
    assert cost.table_bytes == 2 * n_bytes + cost.metadata_bytes


@pytest.mark.parametrize("case", LEAVES_IN_ALL)
def test_leaves_in_all_after_one_error(case: str) -> None:
    arch, leaf, path, *_ = ONE_ERROR[case]
    assert sum(split_cost(arch=arch, leaf=leaf, path=path.split()).leaves.values()) == LEAVES_IN_ALL[case]


def test_defaults_are_one_poison_in_1g_by_2m_on_x86() -> None:
    assert split_cost() == SplitCost(2, 8_192, 8_192, 368, 16_752, {"2M": 511, "4K": 511})


@pytest.mark.parametrize(
    ("path", "metadata_bytes", "ept_bytes", "all_bytes"),
    [("4K", 94_392, 2_195_640, 4_296_888), ("2M 4K", 368, 8_560, 16_752)],
)
def test_ept_costs_184_bytes_more_per_table(path: str, metadata_bytes: int, ept_bytes: int, all_bytes: int) -> None:
    cost = split_cost(path=path.split())
    assert cost.metadata_bytes == metadata_bytes
    assert cost.stage2_bytes + cost.metadata_bytes == ept_bytes
    assert cost.table_bytes == all_bytes


def test_every_further_2m_hit_adds_8376_bytes() -> None:
    costs = [split_cost(poisons=m).table_bytes for m in range(1, 513)]
    assert set(np.diff(costs)) == {8_376}


@pytest.mark.parametrize("m", [1, 2, 10, 48, 91, 511])
def test_m_distinct_2m_take_1_plus_m_tables_but_all_4k_stays_at_513(m: int) -> None:
    cost = split_cost(poisons=m)
    assert cost.table_pages == 1 + m
    assert cost.leaves == {"2M": 512 - m, "4K": 511 * m}
    assert split_cost(path=("4K",), poisons=m).table_pages == 513


def test_all_2m_hit_is_as_dear_as_all_4k() -> None:
    cost, all_4k = split_cost(poisons=512), split_cost(path=("4K",), poisons=512)
    assert cost == all_4k
    assert cost.leaves == {"4K": 262_144 - 512}


def test_poisons_lie_as_far_apart_as_the_leaf_allows() -> None:
    # 40 poisons, but only 32 leaves of 32M: all of these are broken, and 40 of the 512 of 2M
    cost = split_cost(arch="arm64", path=("32M", "2M", "64K", "4K"), poisons=40)
    assert cost.table_pages == 41
    assert cost.leaves == {"2M": 512 - 40, "64K": 40 * 31, "4K": 40 * 15}


def test_each_further_process_that_maps_the_memory_adds_a_copy() -> None:
    one, three = split_cost(path=("4K",)), split_cost(path=("4K",), page_tables=3)
    assert three.process_bytes == 3 * 2_101_248
    assert three.table_bytes - one.table_bytes == 2 * 2_101_248
    for field in ("table_pages", "stage2_bytes", "metadata_bytes", "leaves"):
        assert getattr(three, field) == getattr(one, field)


def test_a_second_mapping_costs_8_bytes_per_base_page_in_its_last_tables() -> None:
    last_tables = ladder("x86-64").table_pages(0, 2) - ladder("x86-64").table_pages(0, 1)
    assert last_tables * 4096 / 262_144 == 8


@pytest.mark.parametrize(("size", "kib_per_gib"), [("1G", 0), ("2M", 4), ("4K", 2_052)])
def test_tables_of_one_gib_are_those_measured_on_linux_6_18(size: str, kib_per_gib: int) -> None:
    rungs = ladder("x86-64")
    assert process_table_bytes(rungs, rungs.table_pages(0, rungs.level(size))) == kib_per_gib * KIB


# ---------------------------------------------------------------- the seed case: 100 errors in 100 of 1,024 1G pages


@pytest.mark.parametrize(("size", "seed_bytes", "mib"), [("4K", 429_688_800, 409.8), ("2M", 1_675_200, 1.60)])
def test_seed_case_tables(size: str, seed_bytes: int, mib: float) -> None:
    path = ("4K",) if size == "4K" else ("2M", "4K")
    pages = 100 * split_cost(path=path).table_pages
    assert table_bytes(ladder("x86-64"), pages) == seed_bytes == 100 * split_cost(path=path).table_bytes
    assert round(seed_bytes / MIB, 1 if mib > 2 else 2) == mib


def test_seed_case_intermediate_size_is_256_times_cheaper() -> None:
    assert 429_688_800 // 1_675_200 == 256
    assert split_cost(path=("4K",)).table_bytes / split_cost().table_bytes == 256.5


def test_seed_case_vmemmap_is_40_times_the_tables() -> None:
    given_up = vmemmap_bytes(
        arch="x86-64", backing="1G", hvo=True, hvo_with_hgm="off-everywhere", uses_hgm=True,
        pool_pages=1024, restored_pages=100, dissolved_pages=0,
    )  # fmt: skip
    assert given_up == 17_142_120_448
    assert int(given_up / GIB * 100) / 100 == 15.96
    assert round(given_up / 429_688_800) == 40


def test_seed_case_lost_memory() -> None:
    rungs = ladder("x86-64")
    assert 100 * rungs.pages[0] * rungs.base_bytes == 100 * GIB
    assert round(100 * 100 * GIB / TIB, 2) == 9.77
    assert 100 * rungs.pages[-1] * rungs.base_bytes == 400 * KIB


@pytest.mark.parametrize(
    ("n_boxes", "n_balls", "digits", "mean"),
    [
        (512, 1, 1, 1), (512, 10, 1, 9.9), (512, 50, 1, 47.7), (512, 100, 1, 90.9),
        (1024, 10, 1, 10.0), (1024, 100, 1, 95.3), (1024, 300, 0, 260), (1024, 1000, 1, 638.5),
    ],
)  # fmt: skip
def test_expected_distinct_published(n_boxes: int, n_balls: int, digits: int, mean: float) -> None:
    assert round(expected_distinct(n_boxes, n_balls), digits) == mean


@pytest.mark.parametrize(("n", "k"), [(1, 0), (1, 5), (2, 3), (3, 4), (5, 0), (6, 5)])
def test_expected_distinct_equals_the_mean_over_all_outcomes(n: int, k: int) -> None:
    outcomes = np.indices((n,) * k).reshape(k, -1).T if k else np.empty((1, 0))
    assert expected_distinct(n, k) == pytest.approx(np.mean([len(set(row)) for row in outcomes.tolist()]), rel=1e-12)


def test_expected_distinct_keeps_its_digits_for_many_boxes() -> None:
    assert expected_distinct(1 << 40, 2) == pytest.approx(2 - 2.0**-40, rel=1e-15)


# ---------------------------------------------------------------- the same by addresses

# log2 of the bytes that one entry maps on each level, base page first.
SHIFTS = {
    "x86-64": (12, 21, 30),
    "arm64": (12, 21, 30),
    "arm64-16k": (14, 25),
    "arm64-64k": (16, 29),
    "riscv64": (12, 21, 30),
}


def tables_of(arch: str, leaves: list[tuple[int, int]]) -> set[tuple[int, int]]:
    """(level, place) of every table that mapping these (address, bytes) leaves takes, up to the last of `SHIFTS`."""
    shifts, entry_bits = SHIFTS[arch], {12: 9, 14: 11, 16: 13}[SHIFTS[arch][0]]
    found = set()
    for address, n_bytes in leaves:
        for level, shift in enumerate(shifts):
            if level == len(shifts) - 1 or n_bytes < 1 << shifts[level + 1]:
                found.add((level, address >> (shift + entry_bits)))
    return found


@pytest.mark.parametrize(("arch", "leaf", "path"), SPLITS, ids=lambda x: x if isinstance(x, str) else ">".join(x))
@pytest.mark.parametrize("poisons", [1, 3, 20])
def test_split_cost_equals_a_walk_by_addresses(arch: str, leaf: str, path: tuple[str, ...], poisons: int) -> None:
    n_most = page_bytes(leaf) // page_bytes(path[-2] if len(path) > 1 else path[-1])
    poisons = min(poisons, n_most)
    leaves, bad = [(0, page_bytes(leaf))], [i * page_bytes(leaf) // poisons for i in range(poisons)]
    before = tables_of(arch, leaves)
    final: dict[str, list[tuple[int, int]]] = {}
    for size in path:
        step = page_bytes(size)
        pieces = [(address, step) for start, n_bytes in leaves for address in range(start, start + n_bytes, step)]
        hit = {address // step for address in bad}
        leaves = [piece for piece in pieces if piece[0] // step in hit]
        final[size] = [piece for piece in pieces if piece[0] // step not in hit]
    present = leaves + [piece for pieces in final.values() for piece in pieces]
    cost = split_cost(arch=arch, leaf=leaf, path=path, poisons=poisons)
    assert cost.leaves == {size: len(pieces) for size, pieces in final.items() if pieces}
    assert cost.table_pages == len(tables_of(arch, present) - before)


# ---------------------------------------------------------------- conservation


@given(case=st.sampled_from(SPLITS), data=st.data())
def test_present_leaves_and_holes_make_up_the_leaf(case: tuple[str, str, tuple[str, ...]], data: st.DataObject) -> None:
    arch, leaf, path = case
    rungs = Ladder(arch, (leaf, *path))
    poisons = data.draw(st.integers(1, rungs.pages[0] // (rungs.pages[-2] if len(path) > 1 else 1)))
    page_tables = data.draw(st.integers(1, 64))
    cost = split_cost(arch=arch, leaf=leaf, path=path, poisons=poisons, page_tables=page_tables)
    assert sum(n * rungs.pages[rungs.level(size)] for size, n in cost.leaves.items()) + poisons == rungs.pages[0]
    assert all(n > 0 for n in cost.leaves.values())
    assert cost.table_bytes == cost.process_bytes + cost.stage2_bytes + cost.metadata_bytes
    assert cost.process_bytes == page_tables * cost.stage2_bytes
    assert 0 <= cost.table_pages <= rungs.table_pages(0, len(path))
    assert cost.table_bytes == table_bytes(rungs, cost.table_pages, page_tables)


@given(case=st.sampled_from([c for c in SPLITS if len(c[2]) > 1]), data=st.data())
def test_one_more_poison_never_takes_fewer_tables(case: tuple[str, str, tuple[str, ...]], data: st.DataObject) -> None:
    arch, leaf, path = case
    most = Ladder(arch, (leaf, *path)).leaves_per(0, len(path) - 1)
    poisons = data.draw(st.integers(1, most - 1))
    fewer, more = (split_cost(arch=arch, leaf=leaf, path=path, poisons=n) for n in (poisons, poisons + 1))
    assert fewer.table_pages <= more.table_pages


@pytest.mark.parametrize("rungs", LADDERS, ids=name_of)
def test_bytes_of_arrays_are_those_of_their_items(rungs: Ladder) -> None:
    pages = np.array([[0, 1, 2], [513, 51_300, 1 << 40]], np.int64)
    for bytes_of in (table_bytes, process_table_bytes):
        found = bytes_of(rungs, pages, 2)
        assert found.dtype == np.int64
        assert found.tolist() == [[bytes_of(rungs, n, 2) for n in row] for row in pages.tolist()]
    for bytes_of_one in (stage2_table_bytes, stage2_metadata_bytes):
        assert bytes_of_one(rungs, pages).tolist() == [[bytes_of_one(rungs, n) for n in row] for row in pages.tolist()]


# ---------------------------------------------------------------- vmemmap


@pytest.mark.parametrize(
    ("size", "n_structs", "n_bytes", "n_pages"), [("1G", 262_144, 16_777_216, 4_096), ("2M", 512, 32 * KIB, 8)]
)
def test_memory_map_of_a_huge_page(size: str, n_structs: int, n_bytes: int, n_pages: int) -> None:
    assert STRUCT_PAGE_BYTES == 64
    assert memmap_bytes("x86-64", size) == n_bytes == 64 * n_structs == 4096 * n_pages


@pytest.mark.parametrize(
    ("arch", "size", "n_pages"),
    [
        ("x86-64", "1G", 4_095), ("x86-64", "2M", 7), ("riscv64", "1G", 4_095), ("riscv64", "64K", 0),
        ("arm64", "32M", 127), ("arm64", "64K", 0), ("arm64-16k", "32M", 7), ("arm64-16k", "2M", 0),
        ("arm64-64k", "16G", 255), ("arm64-64k", "512M", 7), ("arm64-64k", "2M", 0),
    ],
)  # fmt: skip
def test_hvo_frees_all_but_one_page_of_the_memory_map(arch: str, size: str, n_pages: int) -> None:
    assert hvo_saved_bytes(arch, size) == n_pages * ARCHITECTURES[arch].base_bytes


def test_hvo_on_x86_in_bytes() -> None:
    assert hvo_saved_bytes("x86-64", "1G") == 16_773_120 == 16_380 * KIB  # as measured on Linux 6.18
    assert hvo_saved_bytes("x86-64", "2M") == 28 * KIB


def test_hvo_splits_8_tables_per_1g() -> None:
    assert hvo_saved_bytes("x86-64", "1G") - hvo_net_saving_bytes("x86-64", "1G") == 8 * 4096 == 32 * KIB
    assert hvo_net_saving_bytes("x86-64", "1G") == 16_740_352
    assert round(16_740_352 / MIB, 3) == 15.965


def test_one_tib_of_1g_pages() -> None:
    gross, net = 1024 * hvo_saved_bytes("x86-64", "1G"), hvo_net_saving_bytes("x86-64", "1G", 1024)
    assert 1024 * memmap_bytes("x86-64", "1G") == 16 * GIB
    assert 16 * GIB - gross == 4 * MIB
    assert gross - net == 32 * MIB
    assert net == 17_142_120_448
    assert round(net / GIB, 3) == 15.965
    assert round(100 * net / TIB, 2) == 1.56


def test_one_tib_of_2m_pages() -> None:
    n = TIB // page_bytes("2M")
    gross = n * hvo_saved_bytes("x86-64", "2M")
    assert gross == 14 * GIB
    assert n * memmap_bytes("x86-64", "2M") - gross == 2 * GIB
    assert gross - hvo_net_saving_bytes("x86-64", "2M", n) == 32 * MIB  # as many tables as for 1G pages


def test_2m_pages_share_the_tables_of_their_memory_map_by_64() -> None:
    n = np.array([0, 1, 63, 64, 65, 128, 129], np.int64)
    tables = (n * hvo_saved_bytes("x86-64", "2M") - hvo_net_saving_bytes("x86-64", "2M", n)) // 4096
    assert tables.tolist() == [0, 1, 1, 1, 2, 2, 3]


@pytest.mark.parametrize(("arch", "size"), [("arm64-16k", "1G"), ("arm64-16k", "32M"), ("arm64-64k", "16G")])
def test_no_table_is_split_where_base_pages_map_the_memory_map(arch: str, size: str) -> None:
    assert hvo_net_saving_bytes(arch, size, 5) == 5 * hvo_saved_bytes(arch, size) > 0


@pytest.mark.parametrize(("arch", "size"), [("arm64", "64K"), ("riscv64", "64K"), ("arm64-16k", "2M")])
def test_nothing_is_saved_where_the_memory_map_fits_a_base_page(arch: str, size: str) -> None:
    assert hvo_net_saving_bytes(arch, size, 1000) == 0


@given(arch=st.sampled_from(sorted(ARCHITECTURES)), n_pages=st.integers(1, 1 << 24), data=st.data())
def test_net_saving_lies_between_nothing_and_the_gross_one(arch: str, n_pages: int, data: st.DataObject) -> None:
    size = data.draw(st.sampled_from(backings(arch)))
    net, gross = hvo_net_saving_bytes(arch, size, n_pages), n_pages * hvo_saved_bytes(arch, size)
    assert 0 <= net <= gross
    assert isinstance(net, int)
    assert hvo_net_saving_bytes(arch, size, np.array([n_pages])).tolist() == [net]


GIVEN_UP = {
    # (hvo, hvo_with_hgm, uses_hgm): bytes with a pool of 1,024, 7 pages ever split or dissolved, 3 of them dissolved
    (False, "off-everywhere", True): 0,
    (False, "off-where-split", True): 0,
    (False, "kept", True): 0,
    (False, "off-everywhere", False): 0,
    (True, "off-everywhere", True): 17_142_120_448,
    (True, "off-where-split", True): 7 * 16_773_120,
    (True, "kept", True): 3 * 16_773_120,
    (True, "off-everywhere", False): 3 * 16_773_120,
    (True, "off-where-split", False): 3 * 16_773_120,
    (True, "kept", False): 3 * 16_773_120,
}


@pytest.mark.parametrize(("hvo", "hvo_with_hgm", "uses_hgm"), GIVEN_UP)
def test_vmemmap_given_up(hvo: bool, hvo_with_hgm: Any, uses_hgm: bool) -> None:
    host: dict[str, Any] = {"arch": "x86-64", "backing": "1G", "pool_pages": 1024}
    host |= {"hvo": hvo, "hvo_with_hgm": hvo_with_hgm, "uses_hgm": uses_hgm}
    expected = GIVEN_UP[hvo, hvo_with_hgm, uses_hgm]
    assert vmemmap_bytes(**host, restored_pages=7, dissolved_pages=3) == expected
    found = vmemmap_bytes(**host, restored_pages=np.full(2, 7, np.int64), dissolved_pages=np.full(2, 3, np.int64))
    assert found.dtype == np.int64
    assert found.tolist() == [expected, expected]


@pytest.mark.parametrize(
    ("hvo_with_hgm", "dearer"), [("off-everywhere", 17_142_120_448), ("off-where-split", 16_773_120), ("kept", 0)]
)
def test_what_hgm_costs_a_tib_with_one_split_page(hvo_with_hgm: Any, dearer: int) -> None:
    assert dearer == vmemmap_bytes(
        arch="x86-64", backing="1G", hvo=True, hvo_with_hgm=hvo_with_hgm, uses_hgm=True,
        pool_pages=1024, restored_pages=1, dissolved_pages=0,
    )  # fmt: skip


# ---------------------------------------------------------------- direct map


def test_first_poison_in_1g_of_direct_map_takes_8_kib_and_each_further_2m_4_kib() -> None:
    tables = direct_map_table_pages("x86-64", n_1g_hit=1, n_2m_hit=1)
    assert tables == FIRST_SPLIT_TABLE_PAGES == 2
    assert direct_map_bytes("x86-64", tables) == 8 * KIB
    more = direct_map_table_pages("x86-64", n_1g_hit=1, n_2m_hit=2)
    assert more - tables == FURTHER_SPLIT_TABLE_PAGES == 1
    assert direct_map_bytes("x86-64", more) == 12 * KIB


def test_direct_map_splits_as_a_1g_leaf_does_by_2m() -> None:
    n_2m_hit = np.arange(1, 513)
    tables = direct_map_table_pages("x86-64", n_1g_hit=np.ones_like(n_2m_hit), n_2m_hit=n_2m_hit)
    assert tables.tolist() == [split_cost(poisons=m).table_pages for m in range(1, 513)]


def test_direct_map_of_100_errors_far_apart() -> None:
    assert direct_map_bytes("x86-64", direct_map_table_pages("x86-64", n_1g_hit=100, n_2m_hit=100)) == 800 * KIB


@pytest.mark.parametrize("arch", [arch for arch in ARCHITECTURES if arch != "x86-64"])
def test_other_direct_maps_are_left_alone(arch: str) -> None:
    hit = np.array([0, 1, 100], np.int64)
    assert direct_map_table_pages(arch, n_1g_hit=hit, n_2m_hit=hit).tolist() == [0, 0, 0]
    assert direct_map_bytes(arch, np.array([0, 2, 200], np.int64)).tolist() == [0, 0, 0]


# ---------------------------------------------------------------- bad input


def said(error: pytest.ExceptionInfo[ScenarioError], *words: str) -> None:
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    "call", [ladder, backings, lambda arch: split_cost(arch=arch), lambda arch: memmap_bytes(arch, "1G")]
)
def test_unknown_architecture_is_refused_with_those_known(call: Any) -> None:
    with pytest.raises(ScenarioError) as error:
        call("x86_64")
    said(error, "'x86_64'", "did you mean x86-64?", "x86-64, arm64, arm64-16k, arm64-64k, riscv64")


@pytest.mark.parametrize(
    "call", [direct_map_bytes, lambda arch, n: direct_map_table_pages(arch, n_1g_hit=n, n_2m_hit=n)]
)
def test_unknown_architecture_is_refused_by_the_direct_map(call: Any) -> None:
    with pytest.raises(ScenarioError):
        call("sparc", 1)


@pytest.mark.parametrize(
    ("arch", "backing", "words"),
    [
        ("x86-64", "32M", ("'32M'", "did you mean 2M?", "1G, 2M")),
        ("x86-64", "4K", ("'4K'", "1G, 2M")),
        ("arm64-64k", "1G", ("'1G'", "did you mean 16G?", "16G, 512M, 2M")),
        ("riscv64", "512M", ("'512M'", "1G, 2M, 64K")),
    ],
)
def test_backing_that_an_architecture_does_not_have(arch: str, backing: str, words: tuple[str, ...]) -> None:
    with pytest.raises(ScenarioError) as error:
        ladder(arch, backing)
    said(error, *words)


def test_contiguous_entries_on_x86_are_refused() -> None:
    with pytest.raises(ScenarioError) as error:
        ladder("x86-64", contiguous=True)
    said(error, "contiguous", "x86-64", "false")


def test_size_outside_the_ladder() -> None:
    with pytest.raises(ScenarioError) as error:
        ladder("arm64").level("32M")
    said(error, "'32M'", "1G, 2M, 4K")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"path": ()}, ("path: ()", "'4K'")),
        ({"path": "4K"}, ("path: '4K'", "('4K',)")),
        ({"path": ("2M",)}, ("path", "'2M'", "end it with '4K'")),
        ({"path": ("4K", "2M")}, ("path: 1G > 4K > 2M does not descend",)),
        ({"path": ("2M", "2M", "4K")}, ("path: 1G > 2M > 2M > 4K does not descend",)),
        ({"path": ("1G", "4K")}, ("path: 1G > 1G > 4K does not descend",)),
        ({"path": ("32M", "4K")}, ("path: '32M'", "x86-64", "1G, 2M, 4K")),
        ({"arch": "arm64-16k", "path": ("32M", "4K")}, ("path: '4K'", "1G, 32M, 2M, 16K")),
        ({"arch": "arm64-64k", "path": ("64K",)}, ("leaf: '1G'", "16G, 512M, 2M, 64K")),
        ({"leaf": "3G"}, ("leaf: '3G'", "1G, 2M, 4K")),
        ({"leaf": "4K", "path": ("4K",)}, ("leaf: '4K'", "base page", "1G or 2M")),
        ({"poisons": 0}, ("poisons: 0", "between 1 and 512")),
        ({"poisons": 513}, ("poisons: 513", "between 1 and 512", "2M leaf in 1G")),
        ({"path": ("4K",), "poisons": 262_145}, ("poisons: 262145", "between 1 and 262144")),
        ({"poisons": 1.5}, ("poisons: 1.5",)),
        ({"poisons": True}, ("poisons: True",)),
        ({"page_tables": 0}, ("page_tables: 0", "above 0")),
    ],
    ids=str,
)
def test_split_that_cannot_be(arguments: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(ScenarioError) as error:
        split_cost(**arguments)
    said(error, *words)


@pytest.mark.parametrize("saving", [memmap_bytes, hvo_saved_bytes, hvo_net_saving_bytes])
def test_memory_map_of_a_size_that_is_not_there(saving: Any) -> None:
    with pytest.raises(ScenarioError) as error:
        saving("x86-64", "16G")
    said(error, "'16G'", "1G, 2M, 4K")


@pytest.mark.parametrize("hvo", [True, False])
def test_unknown_way_of_hvo_with_hgm(hvo: bool) -> None:
    wrong: Any = "off-where-spilt"
    with pytest.raises(ScenarioError) as error:
        vmemmap_bytes(
            arch="x86-64", backing="1G", hvo=hvo, hvo_with_hgm=wrong, uses_hgm=True,
            pool_pages=1, restored_pages=0, dissolved_pages=0,
        )  # fmt: skip
    said(error, "hvo_with_hgm", "'off-where-spilt'", "did you mean off-where-split?")
    said(error, "off-everywhere, off-where-split, kept")


def test_results_are_immutable() -> None:
    records = {"table_pages": split_cost(), "sizes": ladder("x86-64"), "base_bytes": ARCHITECTURES["arm64"]}
    for field, record in records.items():
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(record, field, 1)
    with pytest.raises(TypeError):
        ARCHITECTURES["x86-64"] = ARCHITECTURES["arm64"]  # type: ignore[index]
