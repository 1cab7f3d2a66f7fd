"""Cycles of a page walk from where the tables lie: leaf tables of split regions outgrow the caches, others do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from poisonsim.units import page_bytes

from .access import AccessPattern, Sequential
from .cpus import Cpu
from .popularity import Population, RandomPopulation, merged, population
from .tlb import Demand, lasting_time
from .touch import F64, LINE_BYTES
from .walks import table_levels, walk_accesses

_ENTRIES_PER_LINE = 8
_ENTRIES_PER_TABLE = 512
_PDE_BYTES, _PDPTE_BYTES = page_bytes("2M"), page_bytes("1G")
# Where a line lies is known to no better than this: classes of an e-fold of popularity and less do.
_COARSE = 0.8


@dataclass(frozen=True)
class _Read:
    """Reads of one kind of table: bytes a line of it covers, chance to be made on a walk, walks per access there."""

    covers: int
    chance: F64
    walks: F64


class WalkCosts:
    """What walks cost on one CPU in one memory.

    A read of a table costs what the cache costs that holds its line. Lines of data and of tables compete for the
    caches; a line of leaf entries covers 8 leaves, so the leaf entries of a region take 2 MiB if it is mapped with 4K
    and 4 KiB if with 2M, in the guest's table as in the host's. Of the levels above, the walk caches answer for what
    they cover; the top levels are always answered. The host's walk for a page of the guest's tables costs one read
    where that page lies on a 4K leaf, and nothing where it lies on a larger one. Without virtualisation there is one
    table.

    Args:
        cpu: Whose caches; without caches each read costs `reference_cycles`, and reads are as `walk_accesses` says.
        access: Access pattern; a sequential scan finds its lines in the second-level cache.
        memory_bytes: Memory.
        guest: Shares of memory by guest page; ignored unless `virtualised`.
        leaves: Sizes as which walks find the host's leaves.
        virtualised: Whether the walk is nested.
        smt_threads: Threads that share the second-level cache and the walk caches, each with entries of its own.

    Examples:
        >>> from poisonsim.translation import Uniform, load_cpu
        >>> costs = WalkCosts(load_cpu("cascade-lake"), Uniform(), 64 << 30, {"4K": 1.0}, ["2M", "4K"], True, 1)
        >>> one = np.ones(1)
        >>> all_2m = costs.cycles(np.array([[1.0, 0.0]]), {("4K", 0): one, ("4K", 1): one})
        >>> all_4k = costs.cycles(np.array([[0.0, 1.0]]), {("4K", 0): one, ("4K", 1): one})
        >>> bool(all_4k["4K", 1] > 1.5 * all_2m["4K", 0])
        True
    """

    def __init__(
        self,
        cpu: Cpu,
        access: AccessPattern,
        memory_bytes: int,
        guest: Mapping[str, float],
        leaves: Sequence[str],
        virtualised: bool,
        smt_threads: int,
    ) -> None:
        self._cpu, self._access, self._memory_bytes = cpu, access, memory_bytes
        self._guest, self._leaves, self._virtualised = guest, leaves, virtualised
        self._capacities = [cache.bytes / LINE_BYTES for cache in cpu.caches]
        if self._capacities:
            self._capacities[0] /= smt_threads
        self._walk_cache_entries = {covers: n / smt_threads for covers, n in cpu.walk_cache_entries}
        self._known: dict[int, Population] = {}

    def cycles(self, shares: F64, walks: Mapping[tuple[str, int], F64]) -> dict[tuple[str, int], F64]:
        """Cycles of one walk, float64[n], by guest page and column of the host's leaves.

        Args:
            shares: float64[n, columns], share of the memory mapped that each leaf size maps.
            walks: float64[n], walks per access to memory of that guest page and leaf.
        """
        if not self._cpu.caches:
            return {key: np.full(len(shares), self._flat(*key)) for key in walks}
        by_guest = {
            guest: sum((walks[guest, c] * shares[:, c] for c in range(len(self._leaves))), np.zeros(len(shares)))
            for guest in self._guest
        }
        # Columns whose leaves walks find alike (contiguous ones, say) are one table and share its walk caches.
        host: list[list[_Read]] = []
        for leaf in self._leaves:
            alike = [c for c, other in enumerate(self._leaves) if other == leaf]
            share = shares[:, alike].sum(axis=1)
            walked = sum(
                (part * walks[guest, c] * shares[:, c] for guest, part in self._guest.items() for c in alike),
                0.0 * share,
            )
            host.append(self._reads(leaf, walked / np.maximum(share, 1e-300), share))
        guests: dict[str, list[_Read]] = {guest: [] for guest in self._guest}
        if self._virtualised:
            small = sum(
                (shares[:, c] for c, leaf in enumerate(self._leaves) if table_levels(leaf) == 4), 0 * shares[:, 0]
            )
            for guest, share in self._guest.items():
                on_small = _Read(_ENTRIES_PER_LINE * _ENTRIES_PER_TABLE * page_bytes(guest), small, by_guest[guest])
                guests[guest] = [*self._reads(guest, by_guest[guest], np.full(len(shares), share)), on_small]
        times = self._line_times(shares, guests, host)
        return {
            (guest, c): self._cost([*guests[guest], *host[c]], times) for guest in self._guest for c in range(len(host))
        }

    def _flat(self, guest: str, column: int) -> float:
        leaf = self._leaves[column]
        reads = walk_accesses(guest, leaf) if self._virtualised else walk_accesses(leaf, leaf) / 2
        return reads * self._cpu.reference_cycles

    def _reads(self, leaf: str, walks: F64, share: F64) -> list[_Read]:
        """Reads that a walk makes in one dimension, leaf entry first."""
        levels = table_levels(leaf)
        found = [_Read(_ENTRIES_PER_LINE * page_bytes(leaf), np.ones(walks.shape), walks)]
        chance = np.ones(walks.shape)
        for fewest_levels, covers in ((4, _PDE_BYTES), (3, _PDPTE_BYTES)):
            if levels >= fewest_levels:
                chance = chance * self._walk_cache_miss(covers, walks, share)
                found.append(_Read(_ENTRIES_PER_LINE * covers, chance, walks * chance))
        return found

    def _walk_cache_miss(self, covers: int, walks: F64, share: F64) -> F64:
        entries = self._walk_cache_entries.get(covers, 0)
        if not entries:
            return np.ones(walks.shape)
        leaves = self._leaves_of(covers)
        number = share * max(1.0, self._memory_bytes / covers)
        rate = np.maximum(walks, 1e-12)
        t = lasting_time(entries, [Demand(covers, number, lambda t: leaves.touched(t * rate))])
        return np.where(np.isfinite(t), leaves.missed(np.where(np.isfinite(t), t, 1.0) * rate), 0.0)

    def _line_times(self, shares: F64, guests: Mapping[str, list[_Read]], host: Sequence[list[_Read]]) -> list[F64]:
        """Accesses for which each cache keeps a line, float64[n] per cache."""
        mapped = np.ones(len(shares))
        demands = [self._lines(_Read(LINE_BYTES, mapped, mapped), mapped)]
        for guest, share in self._guest.items():
            demands += [self._lines(read, share * mapped) for read in guests[guest][:2]]
        for column, reads in enumerate(host):
            # Each column has its share of the lines, at the rate of all that are alike.
            demands += [self._lines(read, shares[:, column]) for read in reads[:2]]
        return [lasting_time(capacity, demands) for capacity in self._capacities]

    def _lines(self, read: _Read, share: F64) -> Demand:
        leaves, rate = self._leaves_of(read.covers), np.maximum(read.walks, 1e-12)
        number = share * max(1.0, self._memory_bytes / read.covers)
        return Demand(read.covers, number, lambda t: leaves.touched(t * rate))

    def _cost(self, reads: Sequence[_Read], times: Sequence[F64]) -> F64:
        last = self._cpu.caches[-1].cycles
        total = np.zeros(times[0].shape)
        for read in reads:
            cycles = np.full(total.shape, self._cpu.caches[0].cycles)
            slower = [*(cache.cycles for cache in self._cpu.caches[1:]), self._cpu.memory_cycles]
            for cache, beyond, t in zip(self._cpu.caches, slower, times, strict=True):
                cycles = cycles + self._missed(read, t) * (beyond - cache.cycles)
            total = total + read.chance * cycles / last
        return total * self._cpu.reference_cycles

    def _missed(self, read: _Read, t: F64) -> F64:
        """Chance that a cache that keeps lines for t has lost the line read."""
        if isinstance(self._access, Sequential):
            return np.zeros(t.shape)
        lasting = np.where(np.isfinite(t), t, 1.0) * np.maximum(read.walks, 1e-12)
        return np.where(np.isfinite(t), self._leaves_of(read.covers).missed(lasting), 0.0)

    def _leaves_of(self, covers: int) -> Population:
        """Popularity of blocks of memory as large as a line of a table covers."""
        covers = min(covers, self._memory_bytes)
        if covers not in self._known:
            found = population(self._access, self._memory_bytes, covers, covers)
            if isinstance(found, RandomPopulation):
                classes = merged(found.shares, found.rates, _COARSE)
                found = RandomPopulation(covers, covers, *classes, found.unit_bytes)
            self._known[covers] = found
        return self._known[covers]
