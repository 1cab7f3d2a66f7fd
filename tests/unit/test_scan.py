"""Reach under a scan, against a TLB that is simulated entry by entry over memory laid out in the same order."""

from __future__ import annotations

import numpy as np
import pytest
from toy_tlbs import array, toy

from poisonsim.translation import Cpu, Sequential, Translator, scan
from poisonsim.translation.cpus import PAGE_SIZES
from poisonsim.translation.lru import CHUNK_BYTES, ExactTlb
from poisonsim.units import page_bytes

GIB = 1 << 30
N_REGIONS = 32
PER_REGION = GIB // CHUNK_BYTES


BY_SIZE = [array("4K", 64, 4), array("2M", 32, 4), array("1G", 4)]
CPUS = {
    "one array": toy(BY_SIZE, [array("4K 2M 1G", 1024, 8)]),
    "1G apart": toy(BY_SIZE, [array("4K 2M", 1536, 12), array("1G", 16)]),
    "2M and 1G apart, 4K in both": toy(BY_SIZE, [array("4K 2M", 1024, 8), array("4K 1G", 1024, 8)]),
    "behind a first level of all sizes": toy([array("4K 2M 1G", 64, 8)], [array("4K 2M", 2048, 16), array("1G", 16)]),
    "exclusive": toy([array("4K 2M 1G", 256, 8)], [array("4K 2M 1G", 1024, 8, "exclusive")]),
}


def laid_out(order: np.ndarray, n_split: int, in_4k: int, guest: str, rng: np.random.Generator) -> np.ndarray:
    """int8[chunks]: entry sizes where the regions numbered below `n_split` have `in_4k` chunks of 4K leaves each."""
    largest = PAGE_SIZES.index(guest)
    chunks = np.full((N_REGIONS, PER_REGION), largest, dtype=np.int8)
    for region in np.flatnonzero(order < n_split):
        chunks[region] = max(largest, PAGE_SIZES.index("2M"))
        chunks[region, rng.permutation(PER_REGION)[:in_4k]] = PAGE_SIZES.index("4K")
    return chunks.ravel()


def entries_of(chunks: np.ndarray) -> np.ndarray:
    """int64[entries]: where the pages of a layout begin, in order."""
    steps = np.array([min(page_bytes(size), CHUNK_BYTES) for size in PAGE_SIZES])[chunks]
    counts = CHUNK_BYTES // steps
    begins = np.repeat(np.arange(chunks.size) * CHUNK_BYTES, counts)
    begins += (np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)) * np.repeat(steps, counts)
    return begins[begins % np.repeat([page_bytes(PAGE_SIZES[size]) for size in chunks], counts) == 0]


def translated_bytes(tlb: ExactTlb) -> int:
    """Bytes of which either level has a translation."""
    tags = np.unique(np.concatenate([tags for tags, _ in tlb._state]))
    tags = tags[tags >= 0]
    starts, sizes = tags >> 6 << (tags & 63), 1 << (tags & 63)
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], (starts + sizes)[order]
    covered = np.concatenate(([0], np.maximum.accumulate(ends)[:-1]))
    return int(np.maximum(ends - np.maximum(starts, covered), 0).sum())


def simulated_reach(cpu: Cpu, chunks: np.ndarray, n_samples: int) -> float:
    """Mean of what the TLB translates at places spread evenly over the memory, in the second pass over it."""
    tlb, begins = ExactTlb(cpu), entries_of(chunks)
    edges = np.searchsorted(begins, (np.arange(n_samples) + 0.37) * (chunks.size * CHUNK_BYTES / n_samples))
    tlb.touch(chunks, begins)
    seen = []
    for low, high in zip(np.concatenate(([0], edges[:-1])), edges, strict=True):
        tlb.touch(chunks, begins[low:high])
        seen.append(translated_bytes(tlb))
    return float(np.mean(seen))


def modelled_reach(
    monkeypatch: pytest.MonkeyPatch, cpu: Cpu, order: np.ndarray, guest: str | dict[str, float], counts: list[int]
) -> float:
    """Reach by the model, of regions in one order."""
    monkeypatch.setattr(scan, "_orders", lambda n_places: order[None])
    translator = Translator(cpu=cpu, memory_bytes=N_REGIONS * GIB, access=Sequential(), guest_page=guest)
    return float(translator.evaluate(np.array([counts])).reach_bytes[0])


def compared(monkeypatch: pytest.MonkeyPatch, cpu: Cpu, guest: str, n_split: int, in_4k: int) -> tuple[float, float]:
    """Reach by the model and by simulation, of the same order of regions."""
    rng = np.random.default_rng(n_split + in_4k)
    order = rng.permutation(N_REGIONS)
    counts = [N_REGIONS - n_split, n_split * (PER_REGION - in_4k), n_split * in_4k * 512]
    model = modelled_reach(monkeypatch, cpu, order, guest, counts)
    return model, simulated_reach(cpu, laid_out(order, n_split, in_4k, guest, rng), 1009)


@pytest.mark.parametrize("guest", ["2M", "1G"])
@pytest.mark.parametrize("n_split", [2, 8])
@pytest.mark.parametrize("name", CPUS)
def test_a_scan_over_regions_in_4k_is_as_simulated(
    name: str, n_split: int, guest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, exact = compared(monkeypatch, CPUS[name], guest, n_split, PER_REGION)
    assert model == pytest.approx(exact, rel=0.03)


@pytest.mark.parametrize(
    ("guest", "in_4k", "within"),
    [("2M", 0, 0.01), ("2M", 1, 0.05), ("2M", 256, 0.05), ("1G", 0, 0.05), ("1G", 1, 0.05), ("1G", 256, 0.05)],
)
@pytest.mark.parametrize("name", CPUS)
def test_a_scan_over_regions_in_2m_but_for_some_is_as_simulated(
    name: str, guest: str, in_4k: int, within: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (name, guest, in_4k) == ("2M and 1G apart, 4K in both", "1G", 1):
        within = 0.35  # which array gets the 4K pages changes within a region
    model, exact = compared(monkeypatch, CPUS[name], guest, 4, in_4k)
    assert model == pytest.approx(exact, rel=within)


@pytest.mark.parametrize("name", CPUS)
def test_lost_regions_are_passed_over_as_simulated(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    n_split, n_lost, rng = 4, 8, np.random.default_rng(3)
    order = rng.permutation(N_REGIONS)
    counts = [N_REGIONS - n_split - n_lost, 0, n_split * PER_REGION * 512]
    model = modelled_reach(monkeypatch, CPUS[name], order, "2M", counts)
    there = np.repeat(order < N_REGIONS - n_lost, PER_REGION)
    chunks = laid_out(order, n_split, PER_REGION, "2M", rng)[there]  # those that are left, one after the other
    assert model == pytest.approx(simulated_reach(CPUS[name], chunks, 1009), rel=0.03)


@pytest.mark.parametrize("name", CPUS)
def test_a_guest_of_two_page_sizes_is_as_simulated(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    n_split, rng = 4, np.random.default_rng(5)
    order = rng.permutation(N_REGIONS)
    counts = [N_REGIONS - n_split, 0, n_split * PER_REGION * 512]
    model = modelled_reach(monkeypatch, CPUS[name], order, {"2M": 0.75, "4K": 0.25}, counts)
    chunks = laid_out(order, n_split, PER_REGION, "2M", rng)
    of_guest = rng.random(chunks.shape) < 0.25  # at random: one in four would spare sets of the TLB
    chunks[of_guest] = PAGE_SIZES.index("4K")
    within = 0.15 if name == "exclusive" else 0.05  # a few chunks of 4K fill it, and the model has them lie evenly
    assert model == pytest.approx(simulated_reach(CPUS[name], chunks, 1009), rel=within)


@pytest.mark.parametrize("kind", [0, 1])
def test_regions_that_are_all_alike_need_no_order(kind: int) -> None:
    counts = np.array([[1 << 18, 0], [0, 1 << 27]][kind])
    translator = Translator(cpu=CPUS["one array"], memory_bytes=1 << 39, access=Sequential(), leaf_sizes=("2M", "4K"))
    assert translator.evaluate(counts[None]).reach_bytes[0] == pytest.approx(1024 * (2 << 20, 4096)[kind], rel=1e-3)
