"""What is read off curves and counters: knees, fracture, walk costs and kernel texts, on made-up data."""

from __future__ import annotations

import numpy as np
import pytest

from poisonsim.translation.calibrate.counters import Processor, huge_bytes, parse_counters, parse_vmstat, processor
from poisonsim.translation.calibrate.knees import Knee, fit_knees
from poisonsim.translation.calibrate.profile_file import cpu_table
from poisonsim.translation.calibrate.sweeps import _SWEEP_ENTRIES, Sweep, judge_fracture, noise_of, walk_costs

N = np.array(_SWEEP_ENTRIES, dtype=np.float64)
NOISE_NS = 0.05


def misses(n: np.ndarray, capacity: int, ways: int | None = None) -> np.ndarray:
    """Share of a ring over n random pages that misses an LRU array, fully associative or with sets filled by chance."""
    if ways is None:
        return (n > capacity).astype(float)
    from scipy.stats import poisson

    n_sets = capacity // ways
    # A load misses when its set holds more than `ways` pages: its own and a Poisson number of others.
    return np.asarray(poisson.sf(ways - 1, (n - 1) / n_sets))


def curve(l1: int, l2: int, ways: int | None, walk_ns: float, seed: int) -> np.ndarray:
    extra = 1.7 * misses(N, l1) + walk_ns * misses(N, l2, ways) * (1 + 0.25 * np.log(np.maximum(N / l2, 1)))
    rng = np.random.default_rng(seed)
    return np.asarray(extra * rng.normal(1, 0.04, N.size) + rng.normal(0, NOISE_NS, N.size))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("l1", [48, 72, 96])
@pytest.mark.parametrize("l2, ways", [(1280, None), (1536, 12), (2048, 16), (3072, 12), (4096, 16), (2048, 4)])
def test_knees_are_recovered(l1: int, l2: int, ways: int | None, seed: int) -> None:
    first, second = fit_knees(N, curve(l1, l2, ways, 25.0, seed), NOISE_NS)
    assert first.low <= l1 < first.high and first.entries == l1
    assert first.step_ns == pytest.approx(1.7, rel=0.15)
    assert second.entries == pytest.approx(l2, rel=0.25)
    assert second.low <= l2 <= second.high * 1.01
    assert 22 < second.step_ns < 41  # what a walk costs at the bend, and what at the end of the sweep


@pytest.mark.parametrize("seed", range(8))
def test_noise_alone_has_no_knee(seed: int) -> None:
    assert fit_knees(N, np.random.default_rng(seed).normal(0, NOISE_NS, N.size), NOISE_NS) == []


@pytest.mark.parametrize("n_most, n_knees", [(90, 0), (400, 1), (1600, 1), (3000, 1), (4000, 1), (16_000, 2)])
def test_a_bend_whose_end_is_not_seen_is_left_out(n_most: int, n_knees: int) -> None:
    seen = n_most >= N
    knees = fit_knees(N[seen], curve(96, 4096, 16, 25.0, 1)[seen], NOISE_NS)
    assert [knee.entries for knee in knees][:1] == [96][:n_knees]
    assert len(knees) == n_knees


def test_few_samples_have_no_knee() -> None:
    assert fit_knees(np.array([8.0]), np.array([0.0]), NOISE_NS) == []
    assert fit_knees(np.array([8.0, 12.0]), np.array([0.0, 0.0]), NOISE_NS) == []


def test_noise_is_that_of_the_quiet_half() -> None:
    rng = np.random.default_rng(3)
    rounds = rng.normal(0, 0.1, (9, 40))
    rounds[:, 20:] = rng.normal(0, 5, (9, 20))
    assert noise_of(rounds) == pytest.approx(0.08, rel=0.5)


def in_page(split: list[bool], seed: int = 1) -> np.ndarray:
    """Extra time inside each page, float64[9, n]: that of 4K pages where it is split, else none."""
    costs = np.where(split, 1.7, 0.0) + np.random.default_rng(seed).normal(0, 0.1, (9, len(split)))
    return np.asarray(costs)


@pytest.mark.parametrize("leaf", ["2M", "1G"])
@pytest.mark.parametrize(
    "split, held_as, n_split",
    [([True] * 16, "4K", 16), ([False] * 16, None, 0), ([True] * 2 + [False] * 14, "4K", 2)],
)
def test_fracture(leaf: str, split: list[bool], held_as: str | None, n_split: int) -> None:
    reference = np.random.default_rng(2).normal(1.7, 0.1, 9)
    found = judge_fracture(leaf, "4K", in_page(split), reference)
    assert (found.held_as, found.n_split, found.n_tested) == (held_as or leaf, n_split, 16)
    assert found.fractured == (n_split > 0)


def test_fracture_is_not_judged_where_4k_pages_cost_nothing_either() -> None:
    found = judge_fracture("2M", "4K", in_page([False] * 16), np.random.default_rng(2).normal(0.0, 0.1, 9))
    assert found.held_as == "" and found.fractured


def test_walk_costs_are_differences_round_by_round() -> None:
    rounds = [{("4K", 1 << 30): (200.0 + drift, 155.0 + drift)} for drift in (0, 50, 100, 20, 10)]
    [cost] = walk_costs(rounds)
    assert cost.walk_ns == (60, 60, 60)
    assert cost.load_ns == (200, 220, 300)


@pytest.mark.parametrize("ghz", [1.5, 4.0])
def test_the_clock_counts_for_hits_and_cancels_for_walks(ghz: float) -> None:
    """A walk of 60 ns beside a load of 100 - 15: a table read of the 2.2 of a native walk, for a load of 60 cycles."""
    sweep = Sweep("4K", np.array([64.0, 96, 512]), np.array([0, 2.0, 2.0]), [Knee(64, 64, 96, 2.0)])
    walks = walk_costs([{("4K", 1 << 30): (145.0, 100.0)}] * 5)
    here = Processor("toy", "", virtual=False)
    table = cpu_table(processor=here, ghz=ghz, sweeps=[sweep], fractures=[], walks=walks, base=None)
    assert table["reference_cycles"]["value"] == pytest.approx(60 / 85 * 60 / 2.2, abs=0.01)
    assert table["stlb_hit_cycles"]["value"] == pytest.approx(2.0 * ghz)


# ------------------------------------------------------------------------------------- texts of the kernel

MEMINFO = """MemTotal:       24684084 kB
MemFree:        22184720 kB
HugePages_Total:       4
HugePages_Free:        3
Hugepagesize:       2048 kB
DirectMap1G:    25165824 kB
"""
SMAPS = """7f0000000000-7f0000400000 rw-p 00000000 00:00 0
Size:               4096 kB
AnonHugePages:      2048 kB
ShmemPmdMapped:        0 kB
VmFlags: rd wr mr mw me ac sd hg
7f0000400000-7f0000600000 rw-p 00000000 00:00 0 [anon: x]
AnonHugePages:      2048 kB
7f0000600000-7f0000800000 rw-s 00000000 00:01 9 /memfd:a (deleted)
AnonHugePages:         0 kB
ShmemPmdMapped:     2048 kB
"""
INTEL = (
    "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: {}\nmodel name\t: Xeon\nstepping\t: {}\n"
)


def test_counters_are_bytes_where_they_say_kb_and_counts_elsewhere() -> None:
    counters = parse_counters(MEMINFO)
    assert counters["MemFree"] == 22184720 * 1024
    assert (counters["HugePages_Total"], counters["HugePages_Free"]) == (4, 3)
    assert parse_counters("Name:\tpython3\nState:\tR (running)\nVmPTE:\t      52 kB\n") == {"VmPTE": 52 * 1024}
    assert parse_counters("") == {}


def test_vmstat() -> None:
    assert parse_vmstat("nr_free_pages 5\nnr_memmap_boot_pages 98304\n") == {
        "nr_free_pages": 5,
        "nr_memmap_boot_pages": 98304,
    }


def test_huge_bytes_of_the_mappings_that_overlap_a_range() -> None:
    assert huge_bytes(SMAPS, 0x7F0000000000, 0x400000) == 2 << 20
    assert huge_bytes(SMAPS, 0x7F0000200000, 0x400000) == 4 << 20
    assert huge_bytes(SMAPS, 0x7F0000600000, 0x200000) == 2 << 20
    assert huge_bytes(SMAPS, 0x1000, 0x1000) == 0


@pytest.mark.parametrize(
    "model, stepping, name",
    [(85, 4, "skylake-sp"), (85, 7, "cascade-lake"), (106, 6, "ice-lake-sp"), (143, 8, "sapphire-rapids"), (1, 1, "")],
)
def test_processors_are_recognised(model: int, stepping: int, name: str) -> None:
    found = processor(INTEL.format(model, stepping) + "\nprocessor\t: 1\nvendor_id\t: Other\n")
    assert (found.catalogue, found.virtual) == (name, False)


def test_every_recognised_name_is_in_the_catalogue() -> None:
    from poisonsim.translation import cpu_names
    from poisonsim.translation.calibrate import counters

    names = {row[-1] for row in counters._X86} | set(counters._ARM_PARTS.values())
    assert names <= set(cpu_names())
