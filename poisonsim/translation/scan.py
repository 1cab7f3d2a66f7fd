"""TLB reach under a scan of memory: the bytes of its last entries, which depend on how small leaves lie together.

Touches in random order meet the entries of all leaves in turn. A scan passes those of a split region one after another,
so that a TLB holds little memory for a short while and much of it in between. Regions, whole and split, lie in random
order, the same for all states; inside a region entries of all sizes lie evenly, and what is lost is in no region.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from poisonsim.compiled import compiled

from .tlb import EXCLUSIVE, TlbArray, array_pools
from .touch import F64

I64 = npt.NDArray[np.int64]

_FEWEST_REGIONS = 4096
"""Regions passed in all: a smaller memory is passed several times, each time in another order."""
_STARTS = 8
"""Places in each region from where the scan is looked back upon; even."""
_MOST_REGIONS = 16384
"""Regions with such places; of a memory of more, as many that lie evenly."""


@dataclass(frozen=True)
class Regions:
    """A memory of whole and of split regions in n states, by the p populations of leaves in them.

    Args:
        n_places: Regions of the memory, mapped or not.
        region_bytes: Bytes of a region.
        n_whole: int64[n], regions mapped by one leaf of the host each.
        n_split: int64[n], regions mapped by smaller ones.
        whole: float64[p], share of a whole region's bytes in leaves of each population.
        split_bytes: float64[n, p], bytes of each population in a split region; what is lost is in none.

    Examples:
        >>> one = Regions(4, 1 << 30, np.array([3]), np.array([1]), np.array([1.0, 0.0]), np.array([[0.0, 1 << 30]]))
        >>> one.n_whole + one.n_split
        array([4])
    """

    n_places: int
    region_bytes: int
    n_whole: I64
    n_split: I64
    whole: F64
    split_bytes: F64


@dataclass(frozen=True)
class _Window:
    """The last entries of some populations: which populations count, as entries of which size, and how many last."""

    counted: tuple[bool, ...]
    sizes: tuple[int, ...]
    entries: float


def reach_of_scan(
    l1: Sequence[TlbArray],
    l2: Sequence[TlbArray],
    sizes: Sequence[tuple[int, int]],
    regions: Regions,
    threads: int = 1,
) -> F64:
    """Bytes that a TLB translates on average while memory is read from one end to the other: float64[n].

    Args:
        l1: First-level arrays.
        l2: Second-level arrays.
        sizes: Bytes of the entries as which the first and the second level hold each population's leaves.
        regions: Where they lie.
        threads: Threads that share the TLB, each with as many entries of its own.

    Examples:
        >>> array = TlbArray((4096, 1 << 21), 1024)
        >>> leaves = Regions(1024, 1 << 30, np.array([929]), np.array([95]), np.array([1.0, 0.0]),
        ...                  np.array([[0.0, 1 << 30]]))
        >>> reach = reach_of_scan([array], [array], [(1 << 21, 1 << 21), (4096, 4096)], leaves)
        >>> (reach / 2**30).round(2)
        array([1.66])
    """
    held = [list(_held_while(l1, l2, sizes, i)) for i in range(len(sizes))]
    windows = list(dict.fromkeys(window for ways in held for way in ways for window in way))
    ways = np.array([[windows.index(way[0]), windows.index(way[-1])] for ways in held for way in ways])
    ways_of = np.cumsum([0, *(len(ways) for ways in held)])
    entries = np.array([window.sizes for window in windows], dtype=np.float64)
    counted = np.array([window.counted for window in windows]) / entries
    lasting = np.array([window.entries for window in windows]) / threads
    # Regions that are all alike come in any order, and no window reaches back over more of them than this.
    alike = (regions.n_whole == 0) | (regions.n_split == 0)
    orders, of_alike = _orders(1 if alike.all() else regions.n_places), np.arange(_MOST_REGIONS)[None]
    reach = np.zeros(regions.n_whole.size)
    for state, (n_whole, n_split) in enumerate(zip(regions.n_whole, regions.n_split, strict=True)):
        held_bytes = np.stack([regions.region_bytes * regions.whole, regions.split_bytes[state]], axis=1)
        costs = counted @ held_bytes
        if alike[state]:
            n_whole, n_split = min(n_whole, _MOST_REGIONS), min(n_split, _MOST_REGIONS)
        if n_whole + n_split:
            order = of_alike if alike[state] else orders
            reach[state] = _mean_held(order, n_whole, n_split, held_bytes, costs, lasting, ways, ways_of)
    return reach


def _held_while(
    l1: Sequence[TlbArray], l2: Sequence[TlbArray], sizes: Sequence[tuple[int, int]], of: int
) -> Iterator[tuple[_Window, ...]]:
    """Ways in which the leaves of population `of` are held: while they are in all windows of one of them.

    What arrays have in common goes where an entry was not used for longest. So they keep the last entries of them all;
    but what one array only can hold gets no more than that array has, and all else no less than the others have.
    """
    for level, arrays in enumerate((l1, l2)):
        level_sizes = tuple(pair[level] for pair in sizes)
        pool = next(pool for pool in array_pools(arrays) if any(level_sizes[of] in a.sizes_bytes for a in pool))
        homes = [tuple(i for i, array in enumerate(pool) if size in array.sizes_bytes) for size in level_sizes]
        # What the first level holds comes on top of what a second holds that is exclusive of it.
        exclusive = any(array.fill == EXCLUSIVE for array in pool)
        beside = sum(a.entries for a in l1 if exclusive and level_sizes[of] in a.sizes_bytes)
        total = sum(array.entries for array in pool) + beside
        windows = [_Window(tuple(bool(home) for home in homes), level_sizes, total)]
        for i, array in enumerate(pool):
            if (i,) in homes and homes[of] != (i,):
                rest = tuple(bool(home) and home != (i,) for home in homes)
                windows.append(_Window(rest, level_sizes, total - array.entries))
        most: tuple[_Window, ...] = ()
        if len(homes[of]) == 1:
            own = tuple(home == homes[of] for home in homes)
            most = (_Window(own, level_sizes, pool[homes[of][0]].entries + beside),)
        yield from ((*most, window) for window in windows)


@functools.lru_cache(maxsize=8)
def _orders(n_places: int) -> I64:
    """int64[k, places]: orders of a memory's regions by number: first split ones, then whole ones, then lost ones."""
    rng = np.random.Generator(np.random.PCG64(n_places))
    return np.stack([rng.permutation(n_places) for _ in range(-(-_FEWEST_REGIONS // n_places))])


@compiled
def _mean_held(orders, n_whole, n_split, held_bytes, costs, lasting, ways, ways_of):
    """Mean bytes held over all places that a scan can be at.

    `held_bytes` [populations, 2] are those of a whole and of a split region, `costs` [windows, 2] their entries, of
    which `lasting` [windows] last; `ways` [ways, 2] are two windows each, those of population i from `ways_of[i]` on.
    """
    n, n_windows, n_populations = n_whole + n_split, lasting.size, held_bytes.shape[0]
    mapped = (held_bytes[:, 0].sum(), held_bytes[:, 1].sum())
    kinds = np.empty(2 * n, np.int64)
    passed = np.zeros((2 * n + 1, 2))
    entries = np.zeros((n_windows, 2 * n + 1))
    ends = np.zeros(n_windows, np.int64)
    begins, fronts = np.empty(n_windows), np.empty(n_windows)
    # Soon after entering a region much changes: half the places lie where windows reach back beyond it.
    earlies = np.zeros(2)
    for kind in range(2):
        for w in range(n_windows):
            if costs[w, kind] > lasting[w]:
                earlies[kind] = max(earlies[kind], lasting[w] / costs[w, kind])
        if earlies[kind] == 0.0:
            earlies[kind] = 0.5
    half = _STARTS // 2
    total, weight = 0.0, 0.0
    for order in orders:
        # Two passes one after the other: the scan is in the second and looks back into the first.
        at = 0
        for _ in range(2):
            for number in order:
                if number < n:
                    kinds[at] = 1 if number < n_split else 0
                    at += 1
        for r in range(2 * n):
            for kind in range(2):
                passed[r + 1, kind] = passed[r, kind] + (kinds[r] == kind)
            for w in range(n_windows):
                entries[w, r + 1] = entries[w, r] + costs[w, kinds[r]]
        ends[:] = 0
        for r in range(n, 2 * n, -(-n // _MOST_REGIONS)):
            kind = kinds[r]
            early = earlies[kind]
            for start in range(_STARTS):
                width = early / half if start < half else (1.0 - early) / half
                part = (start + 0.5) * width if start < half else early + (start - half + 0.5) * width
                weight += width * mapped[kind]
                for w in range(n_windows):
                    # What the current entry covers is held beyond the place that the scan is at.
                    entered = np.ceil(part * costs[w, kind])
                    fronts[w] = r + (min(entered / costs[w, kind], 1.0) if entered > 0 else part)
                    least = entries[w, r] + (fronts[w] - r) * costs[w, kind] - lasting[w]
                    end = ends[w]
                    while entries[w, end + 1] < least:
                        end += 1
                    ends[w] = end
                    begins[w] = end + max(0.0, (least - entries[w, end]) / max(costs[w, kinds[end]], 1e-300))
                for i in range(n_populations):
                    begin, front = r + part, r + part
                    for way in range(ways_of[i], ways_of[i + 1]):
                        begin = min(begin, max(begins[ways[way, 0]], begins[ways[way, 1]]))
                        front = max(front, min(fronts[ways[way, 0]], fronts[ways[way, 1]]))
                    begin = max(begin, front - n)
                    first = min(int(begin), 2 * n - 1)
                    for k in range(2):
                        since = passed[r, k] - passed[first, k]
                        since += (front - r) * (kind == k) - (begin - first) * (kinds[first] == k)
                        total += width * mapped[kind] * since * held_bytes[i, k]
    return total / weight
