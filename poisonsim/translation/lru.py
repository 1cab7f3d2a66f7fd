"""Exact TLB: true LRU, set-associative, two levels, simulated access by access; what the analytic model is held to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from poisonsim.compiled import compiled
from poisonsim.errors import ScenarioError
from poisonsim.units import page_bytes

from .access import AccessPattern, HotCold, Sequential, Uniform, Zipf, zipf_bins
from .cpus import PAGE_SIZES, Cpu
from .tlb import EXCLUSIVE, TlbArray, held_bytes
from .touch import LINE_BYTES

I64 = npt.NDArray[np.int64]

CHUNK_BYTES = page_bytes("2M")
"""Grain of a layout: all leaves in a chunk have one size, and larger leaves cover whole chunks."""

_HOLE = -1
_AT_ONCE = 1 << 16
# Larger unit spaces are scattered by a bijection of bits in place of a table.
_MOST_TABLED = 1 << 20


@dataclass(frozen=True)
class Simulated:
    """What an exact simulation counted.

    Args:
        n_counted: Accesses counted.
        l1_miss: Share of them that missed the first level.
        walks_per_access: Share of them that missed both levels.
        walks_by_leaf: The same by size of the leaf.

    Examples:
        >>> Simulated(4, 0.5, 0.25, {"1G": 0.25}).standard_error
        0.21650635094610965
    """

    n_counted: int
    l1_miss: float
    walks_per_access: float
    walks_by_leaf: dict[str, float]

    @property
    def standard_error(self) -> float:
        """Of `walks_per_access`, as if walks came independently; reuse of one leaf makes it somewhat larger."""
        return float(np.sqrt(self.walks_per_access * (1 - self.walks_per_access) / self.n_counted))


def layout(
    memory_bytes: int, leaves: Mapping[str, int], rng: np.random.Generator, region: str = "1G"
) -> npt.NDArray[np.int8]:
    """Where leaves lie: int8[chunks], the index in `PAGE_SIZES` of each 2M chunk's leaf size, -1 for a hole.

    Whole regions lie at random; what is not whole is shared evenly by the other regions: in each, chunks of the smaller
    leaves lie at random among those of the larger ones.

    Args:
        memory_bytes: Memory, a whole number of regions.
        leaves: Leaves by size; those of sizes below 2M fill whole chunks.
        rng: Where the random places come from.
        region: Size of a region.

    Raises:
        ScenarioError: Counts that do not fit.

    Examples:
        >>> sizes = layout(4 << 30, {"1G": 3, "2M": 511, "4K": 512}, np.random.default_rng(1))
        >>> [int((sizes == PAGE_SIZES.index(size)).sum()) for size in ("1G", "2M", "4K")]
        [1536, 511, 1]
    """
    region_bytes = page_bytes(region)
    if memory_bytes % region_bytes or region_bytes % CHUNK_BYTES:
        raise ScenarioError(
            f"memory_bytes: {memory_bytes} is not a whole number of {region} regions of whole 2M chunks"
        )
    n_regions, per_region = memory_bytes // region_bytes, region_bytes // CHUNK_BYTES
    chunks = np.full((n_regions, per_region), _HOLE, dtype=np.int8)
    used = {size: n for size, n in leaves.items() if n}
    n_whole = used.pop(region, 0)
    order = rng.permutation(n_regions)
    chunks[order[:n_whole]] = PAGE_SIZES.index(region)
    split = order[n_whole:]
    # Chunks of split regions in turn: one of each region, then the next, so that every region gets its share.
    places = np.stack([rng.permutation(per_region) for _ in split], axis=1) if split.size else np.zeros((0, 0), int)
    turns = np.tile(split, len(places)) * per_region + places.ravel()
    whole = chunks.ravel()
    at = 0
    for size in sorted(used, key=page_bytes):
        n_chunks, rest = divmod(used[size] * page_bytes(size), CHUNK_BYTES)
        if page_bytes(size) > CHUNK_BYTES or rest or at + n_chunks > turns.size:
            raise ScenarioError(
                f"leaves: {used[size]} leaves of {size} do not fill whole 2M chunks outside {region} leaves"
            )
        whole[turns[at : at + n_chunks]] = PAGE_SIZES.index(size)
        at += n_chunks
    return whole


def simulate(
    *,
    cpu: Cpu,
    chunks: npt.NDArray[np.int8],
    access: AccessPattern,
    n_warm: int,
    n_counted: int,
    rng: np.random.Generator,
    smt_threads: int = 1,
) -> Simulated:
    """Runs accesses through the CPU's TLB and counts misses.

    A first-level hit touches the first level only; a second-level hit touches that level and fills the first; a walk
    fills both, unless the second-level array is exclusive of the first: then it takes what the first level evicts and
    gives up what it hits. An array evicts the least recently used way of a set, of all arrays that may hold the page.

    Args:
        cpu: Whose TLB; arrays without ways are fully associative.
        chunks: int8[chunks], as `layout` makes.
        access: Which bytes are accessed; units of popularity lie at random. Holes are not accessed.
        n_warm: Accesses before counting starts.
        n_counted: Accesses counted.
        rng: Where the accesses come from.
        smt_threads: Threads that share the TLB, each with entries of its own; they take turns.

    Examples:
        >>> from poisonsim.translation import load_cpu
        >>> rng = np.random.default_rng(7)
        >>> chunks = layout(128 << 30, {"1G": 128}, rng)
        >>> counted = simulate(cpu=load_cpu("cascade-lake"), chunks=chunks, access=Uniform(), n_warm=5_000,
        ...                    n_counted=100_000, rng=rng)
        >>> abs(counted.walks_per_access - (1 - 16 / 128)) < 0.01
        True
    """
    if not (chunks >= 0).any():
        raise ScenarioError("chunks: nothing is mapped, so nothing can be accessed")
    stream = AddressStream(access, chunks.size * CHUNK_BYTES, rng)
    tlb = ExactTlb(cpu, smt_threads)
    tlb.follow(chunks, stream, n_warm)
    counts = tlb.follow(chunks, stream, n_counted)
    walks = counts[2] / counts[0].sum()
    return Simulated(
        n_counted=int(counts[0].sum()),
        l1_miss=float(counts[1].sum() / counts[0].sum()),
        walks_per_access=float(walks.sum()),
        walks_by_leaf={size: float(walks[i]) for i, size in enumerate(PAGE_SIZES) if (chunks == i).any()},
    )


class AddressStream:
    """Addresses of accesses, drawn from a pattern whose units of popularity lie at random places.

    Args:
        access: The pattern.
        memory_bytes: Memory, a whole number of units.
        rng: Where places and draws come from.

    Examples:
        >>> stream = AddressStream(Sequential(), 1 << 20, np.random.default_rng(1))
        >>> stream.draw(3)
        array([  0,  64, 128])
    """

    def __init__(self, access: AccessPattern, memory_bytes: int, rng: np.random.Generator) -> None:
        self.memory_bytes, self.step, self.unit_bytes = memory_bytes, 0, page_bytes("4K")
        self._at = 0
        match access:
            case Sequential():
                self.step = LINE_BYTES
                return
            case Uniform():
                n_units = memory_bytes // self.unit_bytes
                counts, weights = np.array([n_units]), np.array([1 / n_units])
            case Zipf():
                self.unit_bytes = page_bytes(access.over)
                n_units = memory_bytes // self.unit_bytes
                counts, weights = zipf_bins(n_units, access.alpha)
            case HotCold():
                self.unit_bytes = page_bytes(access.over)
                n_units = memory_bytes // self.unit_bytes
                n_hot = min(max(round(access.hot * n_units), 1), n_units - 1)
                counts = np.array([n_hot, n_units - n_hot])
                weights = np.array([access.share, 1 - access.share]) / counts
        self.weights = weights
        self.edges = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        cumulated = np.cumsum(counts * weights)
        self._cumulated = cumulated / cumulated[-1]
        self._table = rng.permutation(n_units) if n_units <= _MOST_TABLED else np.zeros(0, np.int64)
        self._keys = rng.integers(1 << 40, size=3) * 2 + 1
        self._seed = np.array([rng.integers(1 << 62)], dtype=np.uint64)

    def places(self, n: int) -> I64:
        """int64[n]: where the n most popular units lie, in units."""
        out = np.empty(n, dtype=np.int64)
        _place(out, int(self.edges[-1]), self._table, self._keys)
        return out

    def draw(self, n: int) -> I64:
        """int64[n]: addresses of the next n accesses."""
        if self.step:
            out = (self._at + np.arange(n) * self.step) % self.memory_bytes
            self._at = int((self._at + n * self.step) % self.memory_bytes)
            return np.asarray(out)
        out = np.empty(n, dtype=np.int64)
        _draw(out, self.unit_bytes, self._cumulated, self.edges, self._table, self._keys, self._seed)
        return out


class ExactTlb:
    """The state of a two-level TLB; see `simulate`.

    Args:
        cpu: Whose TLB.
        smt_threads: Threads that take turns.

    Examples:
        >>> from poisonsim.translation import load_cpu
        >>> tlb = ExactTlb(load_cpu("zen5"))
        >>> stream = AddressStream(Sequential(), 1 << 21, np.random.default_rng(1))
        >>> tlb.follow(np.array([PAGE_SIZES.index("4K")], dtype=np.int8), stream, 128)[:, PAGE_SIZES.index("4K")]
        array([128,   2,   2])
    """

    def __init__(self, cpu: Cpu, smt_threads: int = 1) -> None:
        held = [[held_bytes(level, page_bytes(size)) for size in PAGE_SIZES] for level in (cpu.l1, cpu.l2)]
        self._shifts = np.array([[size.bit_length() - 1 for size in level] for level in held], dtype=np.int64)
        self._levels = tuple(_geometry(level) for level in (cpu.l1, cpu.l2))
        self._exclusive = np.array([array.fill == EXCLUSIVE for array in cpu.l2])
        self._state = tuple(_empty(sum(array.entries for array in level)) for level in (cpu.l1, cpu.l2))
        self._threads, self._now = smt_threads, 0

    def follow(self, chunks: npt.NDArray[np.int8], stream: AddressStream, n: int) -> I64:
        """int64[3, sizes]: accesses, first-level misses and walks of the next n accesses, by size of the leaf."""
        counts = np.zeros((3, len(PAGE_SIZES)), dtype=np.int64)
        for start in range(0, n, _AT_ONCE):
            counts += self.touch(chunks, stream.draw(min(_AT_ONCE, n - start)))
        return counts

    def touch(self, chunks: npt.NDArray[np.int8], addresses: I64) -> I64:
        """int64[3, sizes]: accesses, first-level misses and walks of accesses to the addresses, by size of the leaf."""
        counts = np.zeros((3, len(PAGE_SIZES)), dtype=np.int64)
        _follow(
            addresses, chunks, self._shifts, *self._levels, self._exclusive, *self._state,
            self._now, self._threads, counts,
        )  # fmt: skip
        self._now += addresses.size
        return counts


def _empty(n_entries: int) -> tuple[I64, I64]:
    return np.full(n_entries, -1, dtype=np.int64), np.zeros(n_entries, dtype=np.int64)


def _geometry(arrays: tuple[TlbArray, ...]) -> tuple[I64, I64, I64, I64]:
    """Sets, ways and first place of each array, and which arrays hold a size: int64[log2 bytes, n + 1], ended by -1."""
    ways = np.array([array.ways or array.entries for array in arrays], dtype=np.int64)
    sets = np.array([array.entries for array in arrays], dtype=np.int64) // ways
    holds = np.full((64, len(arrays) + 1), -1, dtype=np.int64)
    for shift in range(64):
        homes = [i for i, array in enumerate(arrays) if 1 << shift in array.sizes_bytes]
        holds[shift, : len(homes)] = homes
    return sets, ways, np.cumsum(sets * ways) - sets * ways, holds


@compiled
def _mixed(state):
    """SplitMix64: the next state and 64 random bits."""
    state += np.uint64(0x9E3779B97F4A7C15)
    z = state
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state, z ^ (z >> np.uint64(31))


@compiled
def _scattered(rank, n_units, keys):
    """A bijection of 0 … n_units - 1: rounds of odd multiples and shifts on enough bits, until it falls inside."""
    bits = 0
    while (1 << bits) < n_units:
        bits += 1
    mask, half = np.int64((1 << bits) - 1), bits // 2
    x = np.int64(rank)
    while True:
        for key in keys:
            x = (x * key + (key >> 3)) & mask
            x ^= x >> half
        if x < n_units:
            return x


@compiled
def _place(out, n_units, table, keys):
    for rank in range(out.size):
        out[rank] = table[rank] if table.size else _scattered(rank, n_units, keys)


@compiled
def _draw(out, unit_bytes, cumulated, edges, table, keys, seed):
    state, n_units = seed[0], edges[-1]
    for i in range(out.size):
        state, bits = _mixed(state)
        share = np.float64(bits >> np.uint64(11)) * 2.0**-53
        b = np.searchsorted(cumulated, share, side="right") if cumulated.size > 1 else 0
        b = min(b, cumulated.size - 1)
        state, bits = _mixed(state)
        rank = edges[b] + np.int64(np.float64(bits >> np.uint64(11)) * 2.0**-53 * (edges[b + 1] - edges[b]))
        unit = table[rank] if table.size else _scattered(rank, n_units, keys)
        state, bits = _mixed(state)
        out[i] = unit * unit_bytes + np.int64(bits % np.uint64(unit_bytes))
    seed[0] = state


@compiled
def _touched(level, state, homes, tag, page, now):
    """Place of a page's entry, stamped as used now; -1 where there is none."""
    sets, ways, offsets, _ = level
    tags, stamps = state
    for i in homes:
        if i < 0:
            return -1
        start = offsets[i] + (page % sets[i]) * ways[i]
        for place in range(start, start + ways[i]):
            if tags[place] == tag:
                stamps[place] = now
                return place
    return -1


@compiled
def _filled(level, state, homes, tag, page, now):
    """Puts a page into the place used least recently of all it may take; the tag that was there."""
    sets, ways, offsets, _ = level
    tags, stamps = state
    best, oldest = -1, now + 1
    for i in homes:
        if i < 0:
            break
        start = offsets[i] + (page % sets[i]) * ways[i]
        for place in range(start, start + ways[i]):
            if stamps[place] < oldest:
                best, oldest = place, stamps[place]
    evicted = tags[best]
    tags[best], stamps[best] = tag, now
    return evicted


@compiled
def _follow(addresses, chunks, shifts, l1, l2, exclusive, state1, state2, start, n_threads, counts):
    now = start
    for address in addresses:
        now += 1
        size = chunks[address >> 21]
        if size < 0:
            continue
        thread = now % n_threads
        counts[0, size] += 1
        shift = shifts[0, size]
        page = address >> shift
        tag = ((page << 6) | shift) * n_threads + thread
        homes = l1[3][shift]
        if _touched(l1, state1, homes, tag, page, now) >= 0:
            continue
        counts[1, size] += 1
        evicted = _filled(l1, state1, homes, tag, page, now)
        shift = shifts[1, size]
        page = address >> shift
        tag = ((page << 6) | shift) * n_threads + thread
        homes = l2[3][shift]
        place = _touched(l2, state2, homes, tag, page, now)
        if place < 0:
            counts[2, size] += 1
        if exclusive[homes[0]]:
            if place >= 0:
                state2[0][place], state2[1][place] = -1, 0
        elif place < 0:
            _filled(l2, state2, homes, tag, page, now)
        if evicted >= 0:
            key = evicted // n_threads
            homes = l2[3][key & 63]
            if homes[0] >= 0 and exclusive[homes[0]]:
                _filled(l2, state2, homes, evicted, key >> 6, now)
