"""How long TLB entries last: characteristic times of LRU arrays that hold leaves of several sizes.

An LRU array of C entries keeps what was used within a time T (Che's approximation), the same T for all leaves
that compete for the array: `sum over sizes of N * P(held for T) = C`. Where the array has sets, T differs between them
and with what they hold at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .sets import times_by_set
from .touch import F64

INCLUSIVE = "inclusive-fill"
EXCLUSIVE = "exclusive"
FILLS = (INCLUSIVE, EXCLUSIVE)
"""Whether walks fill both levels, or a second-level array takes what the first level evicts."""

_LONGEST_STEP = 3.0
_LOG_FOR_EVER = 150.0
_MOST_STEPS = 300
_CLOSE = 1e-11


@dataclass(frozen=True)
class TlbArray:
    """One TLB array.

    Args:
        sizes_bytes: Page sizes it can hold.
        entries: How many entries, whatever their size.
        ways: Associativity, if known; without it the array counts as fully associative.
        fill: For second-level arrays, one of `FILLS`.

    Examples:
        >>> TlbArray((4096, 1 << 21), entries=1536, ways=12).sets
        128
    """

    sizes_bytes: tuple[int, ...]
    entries: int
    ways: int | None = None
    fill: str = INCLUSIVE

    @property
    def sets(self) -> int:
        """Sets of ways."""
        return self.entries // self.ways if self.ways else 1


@dataclass(frozen=True)
class Demand:
    """Entries of one size that compete for a level, in n memory states.

    Args:
        size: Bytes of an entry.
        entries: float64[n], how many there are.
        held: Share of them held if entries last for a time, float64[n, …] to float64[n, …].
        crowding: Mean of the squared chance to be held over the mean chance, of a time.
        reused: `Behind.reused` and `Behind.missed` of a time.
        lumps: Entries that one set can have at most if they lie at random places, whole; None where sets have the same
            number.
        clustered: Whether neighbours have the same rate, so that every set has its share of the hot ones.

    Examples:
        >>> demand = Demand(4096, np.array([128.0]), lambda t: -np.expm1(-t / 128))
        >>> lasting_time(64, [demand]).round(2)
        array([88.72])
    """

    size: int
    entries: F64
    held: Callable[[F64], F64]
    crowding: Callable[[F64], F64] | None = None
    reused: Callable[[F64], tuple[F64, F64]] | None = None
    lumps: float | None = None
    clustered: bool = False


@dataclass(frozen=True)
class Lifetimes:
    """Times that entries last: float64[n, j] in accesses, inf where all fit, and the share of each, float64[n, j]."""

    times: F64
    shares: F64


def held_bytes(arrays: Sequence[TlbArray], leaf_bytes: int) -> int:
    """Size as which a TLB level holds a leaf: its own, or else the next smaller one that the level has.

    Examples:
        >>> zen2_l2 = [TlbArray((4096, 1 << 21), entries=2048)]
        >>> held_bytes(zen2_l2, 1 << 30) == 1 << 21
        True
    """
    return max(size for array in arrays for size in array.sizes_bytes if size <= leaf_bytes)


def level_lifetimes(
    arrays: Sequence[TlbArray], demands: Sequence[Demand], threads: int = 1, by_set: bool = True
) -> list[Lifetimes]:
    """How long the entries of each demand last in one TLB level.

    Arrays that share a size form one pool. Where the sizes that only one array of the pool can hold would take
    more than that array has, these sizes get the array to themselves and all others the rest of the pool.

    Args:
        arrays: The level.
        demands: What competes for it; every size must be held by some array.
        threads: Threads that share the level, each with as many entries of its own; times count one thread's accesses.
        by_set: Whether sets are told apart where there are many.

    Examples:
        >>> demand = Demand(1 << 30, np.array([64.0, 128.0]), lambda t: -np.expm1(-t / 128))
        >>> level_lifetimes([TlbArray((1 << 30,), entries=64)], [demand])[0].times.round(2).tolist()
        [[inf], [88.72]]
    """
    found: dict[int, Lifetimes] = {}
    for pool in array_pools(arrays):
        sizes = {size for array in pool for size in array.sizes_bytes}
        members = [i for i, demand in enumerate(demands) if demand.size in sizes]
        if members:
            pooled = _pool_lifetimes(pool, [demands[i] for i in members], threads, by_set)
            found |= dict(zip(members, pooled, strict=True))
    return [found[i] for i in range(len(demands))]


def array_pools(arrays: Sequence[TlbArray]) -> list[list[TlbArray]]:
    """Arrays of a level that compete for leaves: each with all that share a size with it, or with another of them.

    Examples:
        >>> array_pools([TlbArray((4096, 1 << 21), 1024), TlbArray((1 << 30,), 16)])[1]
        [TlbArray(sizes_bytes=(1073741824,), entries=16, ways=None, fill='inclusive-fill')]
    """
    pools: list[list[TlbArray]] = []
    for array in arrays:
        linked = [p for p in pools if any(set(other.sizes_bytes) & set(array.sizes_bytes) for other in p)]
        pools = [p for p in pools if p not in linked] + [[other for p in linked for other in p] + [array]]
    return pools


def _pool_lifetimes(pool: list[TlbArray], demands: Sequence[Demand], threads: int, by_set: bool) -> list[Lifetimes]:
    entries = sum(array.entries for array in pool) / threads
    shared = lasting_time(entries, demands)
    result = _lifetimes(pool, demands, shared, threads, by_set)
    still_shared = np.ones(shared.size, dtype=np.bool_)
    for array in pool if len(pool) > 1 else ():
        others = [other for other in pool if other is not array]
        elsewhere = {size for other in others for size in other.sizes_bytes}
        own = [i for i, demand in enumerate(demands) if demand.size not in elsewhere]
        at_end = np.where(np.isfinite(shared), shared, 1.0)
        taken = sum((_held(demands[i], shared, at_end) for i in own), np.zeros(shared.size))
        over = still_shared & (taken > array.entries / threads * (1 + 1e-9))
        if not over.any():
            continue
        still_shared &= ~over
        rest = [i for i in range(len(demands)) if i not in own]
        apart = dict(zip(own, _pool_lifetimes([array], [demands[i] for i in own], threads, by_set), strict=True))
        if rest:
            left = level_lifetimes(others, [demands[i] for i in rest], threads, by_set)
            apart |= dict(zip(rest, left, strict=True))
        result = [_chosen(over, apart[i], result[i]) for i in range(len(demands))]
    return result


def _held(demand: Demand, t: F64, finite: F64) -> F64:
    """Entries held if they last for t; `finite` is t with something finite where it is inf."""
    return np.where(np.isfinite(t), demand.entries * demand.held(finite), demand.entries)


def _chosen(first: npt.NDArray[np.bool_], one: Lifetimes, other: Lifetimes) -> Lifetimes:
    """Lifetimes of `one` in the states where `first`, else of `other`."""
    n_times = max(one.times.shape[1], other.times.shape[1])
    pick = first[:, None]
    one, other = _padded(one, n_times), _padded(other, n_times)
    return Lifetimes(np.where(pick, one.times, other.times), np.where(pick, one.shares, other.shares))


def _padded(lifetimes: Lifetimes, n_times: int) -> Lifetimes:
    more = n_times - lifetimes.times.shape[1]
    return Lifetimes(
        np.pad(lifetimes.times, ((0, 0), (0, more)), mode="edge"), np.pad(lifetimes.shares, ((0, 0), (0, more)))
    )


def _lifetimes(
    pool: list[TlbArray], demands: Sequence[Demand], shared: F64, threads: int, by_set: bool
) -> list[Lifetimes]:
    """Lifetimes of the entries of each demand, sets told apart where there are several."""
    sets = {array.sets for array in pool}
    crowded = np.isfinite(shared)
    if not by_set or len(sets) > 1 or min(sets) == 1 or not crowded.any():
        return [Lifetimes(shared[:, None], np.ones((shared.size, 1)))] * len(demands)
    found = times_by_set(pool, demands, np.where(crowded, shared, 1.0), threads)
    return [Lifetimes(np.where(crowded[:, None], times, np.inf), shares) for times, shares in found]


def lasting_time(capacity: float, demands: Sequence[Demand]) -> F64:
    """Time for which entries last in a fully associative array, float64[n]; inf where all entries fit.

    The share held as a function of ln t is close to `1 - exp(-t)`, so the secant method runs on its double logarithm,
    within a bracket that it halves where it would leave it.
    """
    entries = np.sum([demand.entries for demand in demands], axis=0)
    crowded = entries > capacity * (1 + 1e-12)
    result = np.full(entries.shape, np.inf)
    if not crowded.any():
        return result
    total = np.where(crowded, entries, 2.0 * capacity)
    target = _double_log(capacity / total)

    def value(log_t: F64) -> F64:
        t = np.exp(log_t)
        held = sum((demand.entries * demand.held(t) for demand in demands), np.zeros(total.shape))
        return _double_log(np.where(crowded, held, capacity) / total)

    # As many entries as accesses at most, so they last for as many accesses as there are entries, or longer.
    at = np.full(total.shape, np.log(capacity))
    before, low, high = at - 1.0, at - 2.0, np.full(total.shape, np.inf)
    value_before, found = value(before), value(at)
    for _ in range(_MOST_STEPS):
        high, low = np.where(found >= target, at, high), np.where(found < target, at, low)
        with np.errstate(divide="ignore", invalid="ignore"):
            guess = at + (target - found) * (at - before) / (found - value_before)
        inside = (guess > low) & (guess < np.minimum(high, at + _LONGEST_STEP))
        step = np.where(inside, guess, np.minimum((low + high) / 2, at + _LONGEST_STEP))
        step = np.minimum(np.where(found == target, at, step), _LOG_FOR_EVER)
        if (np.abs(step - at) < _CLOSE).all():
            break
        settled = np.abs(step - at) < _CLOSE
        before, value_before = np.where(settled, before, at), np.where(settled, value_before, found)
        at = np.where(settled, at, step)
        found = value(at)
    result[crowded] = np.where(at >= _LOG_FOR_EVER, np.inf, np.exp(at))[crowded]
    return result


def _double_log(share: F64) -> F64:
    """ln(-ln(1 - share)), which is ln t where the share is 1 - exp(-t)."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(-np.log1p(-np.clip(share, 1e-300, 1.0 - 1e-16))))
