"""How long TLB entries last: characteristic times of LRU arrays that hold leaves of several sizes.

An LRU array of C entries keeps what was used within a time T (Che's approximation), the same T for all leaves
that compete for the array: `sum over sizes of N * P(touched within T) = C`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .touch import F64, Touches

# An array of one entry or more lasts at least one access; 1e86 accesses outlast every pattern.
_LOG_T_MAX = 200.0
_HALVINGS = 52


@dataclass(frozen=True)
class TlbArray:
    """One TLB array, taken as fully associative LRU.

    Args:
        sizes_bytes: Page sizes it can hold.
        entries: How many entries, whatever their size.
        ways: Associativity as the vendor states it, if known; for the record only.

    Examples:
        >>> TlbArray((4096, 1 << 21), entries=1536, ways=12).entries
        1536
    """

    sizes_bytes: tuple[int, ...]
    entries: int
    ways: int | None = None


def held_bytes(arrays: Sequence[TlbArray], leaf_bytes: int) -> int:
    """Size as which a TLB level holds a leaf: its own, or else the next smaller one that the level has.

    Examples:
        >>> zen2_l2 = [TlbArray((4096, 1 << 21), entries=2048)]
        >>> held_bytes(zen2_l2, 1 << 30) == 1 << 21
        True
    """
    return max(size for array in arrays for size in array.sizes_bytes if size <= leaf_bytes)


def level_times(arrays: Sequence[TlbArray], entries: Mapping[int, F64], touches: Touches) -> dict[int, F64]:
    """Accesses for which each entry size stays in one TLB level, float64[n] each, inf where all entries fit.

    Arrays that share a size form one pool. Where the sizes that only one array of the pool can hold would take
    more than that array has, these sizes get the array to themselves and all others the rest of the pool.

    Args:
        arrays: The level.
        entries: Entries wanted, float64[n] per entry size in bytes; every size must be held by some array.
        touches: The access pattern over the memory.

    Examples:
        >>> from poisonsim.translation import Uniform
        >>> t = level_times([TlbArray((1 << 30,), entries=64)], {1 << 30: np.array([64.0, 128.0])},
        ...                 Uniform().touches(128 << 30))[1 << 30]
        >>> t.round(2), (128 * np.log(2)).round(2)
        (array([  inf, 88.72]), np.float64(88.72))
    """
    times: dict[int, F64] = {}
    for pool in _pools(arrays):
        sizes = {size for array in pool for size in array.sizes_bytes}
        times |= _pool_times(pool, {size: n for size, n in entries.items() if size in sizes}, touches)
    return times


def _pools(arrays: Sequence[TlbArray]) -> list[list[TlbArray]]:
    pools: list[list[TlbArray]] = []
    for array in arrays:
        linked = [p for p in pools if any(set(other.sizes_bytes) & set(array.sizes_bytes) for other in p)]
        pools = [p for p in pools if p not in linked] + [[other for p in linked for other in p] + [array]]
    return pools


def _pool_times(pool: list[TlbArray], entries: Mapping[int, F64], touches: Touches) -> dict[int, F64]:
    if not entries:
        return {}
    shared = _solve(sum(array.entries for array in pool), entries, touches)
    times = {size: shared.copy() for size in entries}
    if len(pool) == 1:
        return times
    open_states = np.ones(shared.size, dtype=np.bool_)
    for array in pool:
        others = [other for other in pool if other is not array]
        elsewhere = {size for other in others for size in other.sizes_bytes}
        own = {size: n for size, n in entries.items() if size not in elsewhere}
        taken = sum((_occupied(size, n, shared, touches) for size, n in own.items()), np.zeros(shared.size))
        over = open_states & (taken > array.entries * (1 + 1e-9))
        if not over.any():
            continue
        open_states &= ~over
        rest = {size: n[over] for size, n in entries.items() if size not in own}
        alone = _solve(array.entries, {size: n[over] for size, n in own.items()}, touches)
        for size, t in (dict.fromkeys(own, alone) | level_times(others, rest, touches)).items():
            times[size][over] = t
    return times


def _occupied(size_bytes: int, n: F64, t: F64, touches: Touches) -> F64:
    return np.asarray(n * -np.expm1(touches.log_untouched((size_bytes, t))))


def _solve(capacity: int, entries: Mapping[int, F64], touches: Touches) -> F64:
    """Time at which the entries touched fill the capacity, float64[n]; bisection in ln t on all states at once."""
    wanted = np.sum(list(entries.values()), axis=0)
    result = np.full(wanted.shape, np.inf)
    crowded = wanted > capacity
    if not crowded.any():
        return result
    used = {size: n[crowded] for size, n in entries.items() if n[crowded].any()}
    low = np.zeros(np.count_nonzero(crowded))
    high = np.full(low.size, _LOG_T_MAX)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        t = np.exp(middle)
        full = sum((_occupied(size, n, t, touches) for size, n in used.items()), np.zeros(low.size)) >= capacity
        high = np.where(full, middle, high)
        low = np.where(full, low, middle)
    result[crowded] = np.exp(low)
    return result
