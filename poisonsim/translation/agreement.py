"""Analytic model beside exact simulation, on a grid of CPUs, access patterns and ways to split."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from poisonsim.units import page_bytes

from .access import AccessPattern, HotCold, Uniform, Zipf
from .cpus import PAGE_SIZES, Cpu, load_cpu
from .levels import TwoLevels
from .lru import CHUNK_BYTES, AddressStream, ExactTlb, layout
from .popularity import Population, RandomPopulation, merged
from .tlb import held_bytes
from .touch import F64

PATTERNS: dict[str, AccessPattern] = {
    "uniform": Uniform(),
    "zipf 0.99 over 4K": Zipf(0.99),
    "zipf 0.99 over 1G": Zipf(0.99, over="1G"),
    "zipf 1.2 over 1G": Zipf(1.2, over="1G"),
    "hot-cold over 4K": HotCold(),
    "hot-cold over 1G": HotCold(over="1G"),
}
"""The access patterns of the grid."""

SPLITS = ("4K", "2M", "2M + 4K")
"""What the split regions of the grid consist of; the last is 511 leaves of 2M and 512 of 4K."""

REGIONS = (0, 4, 16, 64, 256, 1024)
"""How many of 1024 regions are split on the grid."""

LEAST_WALKS = 1e-3
"""Walks per access below which a relative error says nothing: the simulation counts too few."""

HARDEST = (
    ("zipf 1.2 over 1G", "4K", 64),
    ("hot-cold over 1G", "4K", 64),
    ("zipf 0.99 over 4K", "2M", 64),
    ("zipf 1.2 over 1G", "2M + 4K", 512),
)
"""Pattern, split and regions of the hardest cells: few ways, arrays that share sizes, pieces in the first level."""

_HEADS = 1 << 20
# A leaf met this often on average is hardly ever missed: once in 3000 times.
_SURELY_MET = 8.0
# Accesses to rare leaves, in entries of the TLB, before the warm-up; far more of them than can be kept.
_FILLS = 16

Places = tuple[float, float, float, float]


@dataclass(frozen=True)
class Agreement:
    """One cell of the grid.

    Args:
        cpu: CPU.
        pattern: Name in `PATTERNS`.
        split: One of `SPLITS`.
        n_split: Regions split.
        n_regions: Regions in all.
        simulated: Walks per access of the exact simulation.
        standard_error: Of `simulated`, from the accesses counted and from the spread of the error between layouts.
        modelled: Walks per access of the model.
        l1_simulated: First-level misses per access of the simulation.
        l1_modelled: First-level misses per access of the model.

    Examples:
        >>> Agreement("zen4", "uniform", "4K", 0, 1024, 0.5, 0.001, 0.505, 0.7, 0.7).error
        0.010000000000000009
    """

    cpu: str
    pattern: str
    split: str
    n_split: int
    n_regions: int
    simulated: float
    standard_error: float
    modelled: float
    l1_simulated: float
    l1_modelled: float

    @property
    def error(self) -> float:
        """Relative error of the model; nan where the simulation saw no walk."""
        return self.modelled / self.simulated - 1 if self.simulated else float("nan")

    @property
    def counts(self) -> bool:
        """Whether there are enough walks for the relative error to mean something."""
        return self.simulated >= LEAST_WALKS


@dataclass(frozen=True)
class CpuAgreement:
    """Errors of the model on one CPU, over the cells with enough walks."""

    cpu: str
    n_cells: int
    worst: float
    median: float
    worst_cell: Agreement


def agreement_grid(
    cpus: Sequence[str],
    *,
    seed: int,
    patterns: Sequence[str] = tuple(PATTERNS),
    splits: Sequence[str] = SPLITS,
    regions: Sequence[int] = REGIONS,
    n_regions: int = 1024,
    n_places: int = 8,
    most_places: int = 32,
    precision: float = 0.004,
    n_warm: int = 300_000,
    n_counted: int = 150_000,
) -> list[Agreement]:
    """Runs the grid; guest pages are as large as the host's leaves, the hardest case for the TLB.

    Both sides see the same layouts: the model is told how popular the leaves of this very layout are, so that what
    differs is how the TLB is modelled, and not which regions happened to be hot.

    Args:
        cpus: Names or files of CPUs.
        seed: Of places and accesses; each cell has its own streams.
        patterns: Names of `PATTERNS`.
        splits: Of `SPLITS`.
        regions: Counts of split regions, `n_regions` at most.
        n_regions: Regions of 1 GiB.
        n_places: Layouts per cell at least, of which the mean is taken: with few sets it matters which hot leaves share
            one. Of fewer than some six the standard error itself is not known well.
        most_places: Layouts per cell at most; as many are simulated as it takes for `precision`.
        precision: Standard error of the simulation to reach, relative to its walks.
        n_warm: Accesses before counting starts, per layout.
        n_counted: Accesses counted, per layout.

    Examples:
        >>> cells = agreement_grid(["zen4"], seed=1, patterns=["uniform"], splits=["2M"], regions=[2], n_regions=128,
        ...                        n_warm=20_000, n_counted=20_000)
        >>> cells[0].counts, abs(cells[0].error) < 0.1
        (True, True)
    """
    cells = []
    for name in cpus:
        for p, pattern in enumerate(patterns):
            for split in splits:
                for n_split in regions:
                    if not n_split and split != splits[0]:
                        continue
                    rng = np.random.default_rng([seed, p, SPLITS.index(split), n_split])
                    once = functools.partial(
                        _one_place, _with_ways(load_cpu(name)), pattern, split, n_split, n_regions, (n_warm, n_counted)
                    )
                    found = [once(rng) for _ in range(n_places)]
                    while len(found) < most_places and not _precise(found, n_counted, precision):
                        found.append(once(rng))
                    simulated, walks, l1_simulated, l1 = np.mean(found, axis=0).tolist()
                    numbers = simulated, _standard_error(found, n_counted), walks, l1_simulated, l1
                    cells.append(Agreement(name, pattern, split, n_split, n_regions, *numbers))
    return cells


def hardest_cells(cpu: str, *, seed: int) -> list[Agreement]:
    """The hardest cells of the grid on one CPU, from four layouts each; a second or two.

    Examples:
        >>> max(abs(cell.error) for cell in hardest_cells("xiangshan-kunminghu", seed=11)) < 0.02
        True
    """
    return [
        cell
        for pattern, split, n_split in HARDEST
        for cell in agreement_grid(
            [cpu], seed=seed, patterns=[pattern], splits=[split], regions=[n_split], n_places=4, most_places=4,
            n_warm=150_000, n_counted=100_000,
        )
    ]  # fmt: skip


def by_cpu(cells: Sequence[Agreement]) -> list[CpuAgreement]:
    """Worst and median error of each CPU, in the order met.

    Examples:
        >>> cell = Agreement("zen4", "uniform", "4K", 0, 1024, 0.5, 0.001, 0.505, 0.7, 0.7)
        >>> [(row.cpu, row.n_cells, round(row.worst, 3)) for row in by_cpu([cell])]
        [('zen4', 1, 0.01)]
    """
    rows = []
    for cpu in dict.fromkeys(cell.cpu for cell in cells):
        mine = [cell for cell in cells if cell.cpu == cpu and cell.counts]
        if mine:
            errors = [abs(cell.error) for cell in mine]
            worst = mine[int(np.argmax(errors))]
            rows.append(CpuAgreement(cpu, len(mine), max(errors), float(np.median(errors)), worst))
    return rows


def split_leaves(split: str, n_split: int, n_regions: int) -> dict[str, int]:
    """Leaves by size where `n_split` of the regions are split.

    Examples:
        >>> split_leaves("2M + 4K", 2, 16)
        {'1G': 14, '2M': 1022, '4K': 1024}
    """
    per_region = {"4K": (0, 262_144), "2M": (512, 0), "2M + 4K": (511, 512)}[split]
    return {"1G": n_regions - n_split, "2M": n_split * per_region[0], "4K": n_split * per_region[1]}


def _with_ways(cpu: Cpu) -> Cpu:
    """The CPU with large arrays of unknown associativity as 16 ways: from there on it hardly matters, but for time."""
    l2 = tuple(replace(array, ways=16) if array.ways is None and array.entries % 16 == 0 else array for array in cpu.l2)
    return replace(cpu, l2=l2)


def _precise(found: Sequence[Places], n_counted: int, precision: float) -> bool:
    walks = max(float(np.mean([each[0] for each in found])), LEAST_WALKS)
    return _standard_error(found, n_counted) <= precision * walks


def _standard_error(found: Sequence[Places], n_counted: int) -> float:
    """Of the mean walks simulated, from the accesses counted and from the spread of the error between layouts."""
    values = np.array(found)
    simulated = float(values[:, 0].mean())
    drawn = simulated * (1 - simulated) / (len(found) * n_counted)
    between = float((values[:, 0] - values[:, 1]).var(ddof=1)) / len(found) if len(found) > 1 else 0.0
    return float(np.sqrt(max(drawn, between)))


def _one_place(
    cpu: Cpu, pattern: str, split: str, n_split: int, n_regions: int, n: tuple[int, int], rng: np.random.Generator
) -> Places:
    """Walks simulated and modelled, first-level misses simulated and modelled, per access, in one layout."""
    memory_bytes = n_regions * page_bytes("1G")
    chunks = layout(memory_bytes, split_leaves(split, n_split, n_regions), rng)
    stream = AddressStream(PATTERNS[pattern], memory_bytes, rng)
    tlb = ExactTlb(cpu)
    tlb.touch(chunks, _rare_touches(cpu, chunks, stream, n[0], rng))
    tlb.follow(chunks, stream, n[0])
    counts = tlb.follow(chunks, stream, n[1]).sum(axis=1) / n[1]
    leaves = populations(cpu, chunks, stream)
    levels = TwoLevels(
        cpu.l1, cpu.l2, [one for one, _, _ in leaves], memory_bytes=memory_bytes, region_bytes=page_bytes("1G")
    )
    outcomes = levels.outcomes([np.array([n_bytes]) for _, n_bytes, _ in leaves])
    l1, walks = (
        sum(share * float(getattr(outcome, what)[0]) for outcome, (_, _, share) in zip(outcomes, leaves, strict=True))
        for what in ("l1_miss", "walks")
    )
    return float(counts[2]), walks, float(counts[1]), l1


def _rare_touches(
    cpu: Cpu, chunks: npt.NDArray[np.int8], stream: AddressStream, n_warm: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Addresses of accesses before the warm-up, of those to leaves that the warm-up may not meet.

    Where most accesses hit, few leaves are met anew and a large TLB takes millions of accesses to fill. All of them but
    those to rare leaves only touch what the warm-up touches again, so the rare ones alone leave the same state.
    """
    per_chunk = _chunk_rates(stream)
    rare = np.zeros(chunks.size, dtype=np.bool_)
    for i, name in enumerate(PAGE_SIZES):
        held = held_bytes(cpu.l2, page_bytes(name))
        n_together = max(held // CHUNK_BYTES, 1)
        per_leaf = per_chunk.reshape(-1, n_together).sum(axis=1) * min(held / CHUNK_BYTES, 1.0)
        rare |= (chunks == i) & np.repeat(per_leaf * n_warm < _SURELY_MET, n_together)
    if not rare.any():
        return np.zeros(0, dtype=np.int64)
    spots, rates = np.flatnonzero(rare) * CHUNK_BYTES, per_chunk[rare]
    spans = np.full(spots.size, CHUNK_BYTES)
    if (unit := stream.unit_bytes) < CHUNK_BYTES:  # what is popular in a chunk stays longer
        places, weights, tail = _placed(stream)
        here = rare[places * unit // CHUNK_BYTES]
        spots, spans = (
            np.concatenate((spots, places[here] * unit)), np.concatenate((spans, np.full(np.count_nonzero(here), unit)))
        )  # fmt: skip
        rates = np.concatenate((np.full(rates.size, tail @ stream.weights / rare.size), weights[here]))
    cumulated = np.cumsum(rates)
    n = _FILLS * sum(array.entries for array in (*cpu.l1, *cpu.l2))
    drawn = np.searchsorted(cumulated, rng.random(n) * cumulated[-1], side="right").clip(max=spots.size - 1)
    return np.asarray(spots[drawn] + (rng.random(n) * spans[drawn]).astype(np.int64))


def populations(cpu: Cpu, chunks: npt.NDArray[np.int8], stream: AddressStream) -> list[tuple[Population, float, float]]:
    """The leaves of one layout with the popularity they have in one stream, their bytes and their share of accesses.

    Of patterns over more than 2**20 units the most popular 2**20 are placed one by one, the rest evenly.
    """
    memory_bytes, unit = stream.memory_bytes, stream.unit_bytes
    places, weights, tail = _placed(stream)
    per_chunk = _chunk_rates(stream)
    rates: F64
    number: F64
    found: list[tuple[Population, float, float]] = []
    for i, name in enumerate(PAGE_SIZES):
        mine = np.flatnonzero(chunks == i)
        if not mine.size:
            continue
        size = page_bytes(name)
        size1, size2 = held_bytes(cpu.l1, size), held_bytes(cpu.l2, size)
        inner = min(size1, size2)
        if inner >= CHUNK_BYTES:
            mapped = (chunks == i).reshape(-1, inner // CHUNK_BYTES).any(axis=1)
            rates = per_chunk.reshape(-1, inner // CHUNK_BYTES).sum(axis=1)[mapped]
            number = np.ones(rates.size)
        elif unit > inner:
            rates = per_chunk[mine] * inner / CHUNK_BYTES
            number = np.full(mine.size, CHUNK_BYTES / inner)
        else:
            heads_here = chunks[places * unit // CHUNK_BYTES] == i
            tail_here = tail * (mine.size / chunks.size)
            rates = np.concatenate((weights[heads_here], stream.weights[tail_here > 0]))
            number = np.concatenate((np.ones(np.count_nonzero(heads_here)), tail_here[tail_here > 0]))
        share = float(number @ rates)
        classes = merged(number / number.sum(), rates, 0.05)
        unit_bytes = memory_bytes if stream.weights.size == 1 else unit
        found.append((RandomPopulation(size1, size2, *classes, unit_bytes), mine.size * float(CHUNK_BYTES), share))
    return found


def _placed(stream: AddressStream) -> tuple[npt.NDArray[np.int64], F64, F64]:
    """Places of the most popular units and their shares of accesses; how many further units each bin has."""
    heads = min(stream.memory_bytes // stream.unit_bytes, _HEADS)
    bins = np.searchsorted(stream.edges, np.arange(heads), side="right") - 1
    tail = np.maximum(stream.edges[1:] - np.maximum(stream.edges[:-1], heads), 0).astype(np.float64)
    return stream.places(heads), stream.weights[bins], tail


def _chunk_rates(stream: AddressStream) -> F64:
    """float64[chunks]: share of accesses that go to each 2M chunk."""
    n_chunks, unit = stream.memory_bytes // CHUNK_BYTES, stream.unit_bytes
    places, weights, tail = _placed(stream)
    if unit <= CHUNK_BYTES:
        placed = np.bincount(places * unit // CHUNK_BYTES, weights, minlength=n_chunks)
        return np.asarray(placed + tail @ stream.weights / n_chunks)
    per_unit = np.bincount(places, weights, minlength=stream.memory_bytes // unit)
    return np.repeat(per_unit * (CHUNK_BYTES / unit), unit // CHUNK_BYTES)


def grid_header() -> tuple[str, ...]:
    """Names of the columns of `grid_rows`."""
    return ("cpu", "cells", "worst error", "median error", "worst at")


def grid_rows(cells: Sequence[Agreement]) -> list[tuple[str, ...]]:
    """The grid as text, one row per CPU.

    Examples:
        >>> cell = Agreement("zen4", "uniform", "4K", 0, 1024, 0.5, 0.001, 0.505, 0.7, 0.7)
        >>> grid_rows([cell])
        [('zen4', '1', '1.00 %', '1.00 %', 'uniform, 0 regions in 4K: 0.50500 beside 0.50000 ± 0.00100')]
    """
    return [
        (
            row.cpu,
            str(row.n_cells),
            f"{row.worst:.2%}".replace("%", " %"),
            f"{row.median:.2%}".replace("%", " %"),
            f"{at.pattern}, {at.n_split} regions in {at.split}: "
            f"{at.modelled:.5f} beside {at.simulated:.5f} ± {at.standard_error:.5f}",
        )
        for row in by_cpu(cells)
        for at in [row.worst_cell]
    ]
