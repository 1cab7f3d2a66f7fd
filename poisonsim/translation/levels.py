"""A first and a second level together: which accesses miss the first, which miss both, and what is held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .behind import BehindTable
from .popularity import Population, RandomPopulation
from .tlb import EXCLUSIVE, Demand, Lifetimes, TlbArray, level_lifetimes
from .touch import F64


@dataclass(frozen=True)
class Outcome:
    """What becomes of the leaves of one population, in n memory states.

    Args:
        l1_miss: float64[n], chance that an access to them misses the first level.
        walks: float64[n], chance that it misses both.
        resident: float64[n], share of their bytes that either level translates.

    Examples:
        >>> Outcome(np.ones(1), np.zeros(1), np.ones(1)).walks
        array([0.])
    """

    l1_miss: F64
    walks: F64
    resident: F64


class TwoLevels:
    """The TLB of a CPU before leaves of some populations.

    Args:
        l1: First-level arrays.
        l2: Second-level arrays.
        leaves: Populations, by the sizes as which the levels hold them.
        memory_bytes: Memory they lie in.
        region_bytes: Size of the largest leaves, which lie at random places; smaller ones fill such regions.
        smt_threads: Threads that share the TLB, each with entries of its own.

    Examples:
        >>> from poisonsim.translation.access import Uniform
        >>> from poisonsim.translation.popularity import population
        >>> leaves = population(Uniform(), 1 << 40, 1 << 30, 1 << 30)
        >>> array = TlbArray((1 << 30,), 64)
        >>> tlb = TwoLevels([array], [array], [leaves], memory_bytes=1 << 40, region_bytes=1 << 30)
        >>> tlb.outcomes([np.array([1 << 40])])[0].walks.round(2)
        array([0.94])
    """

    def __init__(
        self,
        l1: Sequence[TlbArray],
        l2: Sequence[TlbArray],
        leaves: Sequence[Population],
        *,
        memory_bytes: int,
        region_bytes: int,
        smt_threads: int = 1,
    ) -> None:
        self._l1, self._l2, self._leaves = l1, l2, leaves
        self._memory_bytes, self._region_bytes, self._threads = memory_bytes, region_bytes, smt_threads
        self._behind = [BehindTable(one, _is_exclusive(l2, one.size2)) for one in leaves]

    def outcomes(self, leaf_bytes: Sequence[F64]) -> list[Outcome]:
        """What becomes of each population's leaves.

        Args:
            leaf_bytes: float64[n] per population, bytes that its leaves map in each of n states.
        """
        first = [
            Demand(one.size1, n_bytes / one.size1, one.touched)
            for one, n_bytes in zip(self._leaves, leaf_bytes, strict=True)
        ]
        times1 = [kept.times[:, 0] for kept in level_lifetimes(self._l1, first, self._threads, by_set=False)]
        second = [self._second(i, leaf_bytes[i], times1[i]) for i in range(len(self._leaves))]
        by_set = all(isinstance(one, RandomPopulation) for one in self._leaves)
        kept2 = level_lifetimes(self._l2, second, self._threads, by_set)
        return [self._outcome(i, t1, kept) for i, (t1, kept) in enumerate(zip(times1, kept2, strict=True))]

    def _second(self, i: int, n_bytes: F64, t1: F64) -> Demand:
        table, size = self._behind[i], self._leaves[i].size2

        def held(t: F64) -> F64:
            return table.present(_beside(t1, t), t)

        def crowding(t: F64) -> F64:
            return table.crowding(_beside(t1, t), t)

        def reused(t: F64) -> tuple[F64, F64]:
            beside = _beside(t1, t)
            return table.reused(beside, t), table.missed(beside, t)

        # A leaf as large as a region lies in a set by chance; of smaller ones each region brings every set some.
        lumps = self._memory_bytes / size if size >= self._region_bytes else None
        return Demand(size, n_bytes / size, held, crowding, reused, lumps, _clustered(self._leaves[i]))

    def _outcome(self, i: int, t1: F64, kept: Lifetimes) -> Outcome:
        table, beside = self._behind[i], _beside(t1, kept.times)
        walks = (table.missed(beside, kept.times) * kept.shares).sum(axis=1)
        absent = (table.absent(beside, kept.times) * kept.shares).sum(axis=1)
        lasting = np.where(np.isfinite(t1), t1, 1.0)
        l1_miss = np.where(np.isfinite(t1), self._leaves[i].missed(lasting), 0.0)
        return Outcome(l1_miss, np.minimum(walks, l1_miss), 1.0 - absent)


def _beside(t1: F64, t2: F64) -> F64:
    return t1[:, None] if t2.ndim > 1 else t1


def _clustered(leaves: Population) -> bool:
    return isinstance(leaves, RandomPopulation) and leaves.size2 < leaves.unit_bytes


def _is_exclusive(arrays: Sequence[TlbArray], size: int) -> bool:
    return any(size in array.sizes_bytes and array.fill == EXCLUSIVE for array in arrays)
