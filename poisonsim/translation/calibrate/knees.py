"""Where a working-set sweep bends: capacities of TLB levels and what missing them costs.

The curve is the extra time per load when N entries are visited in a ring. A level of C entries that is true LRU adds
its miss cost at once past C; other replacement and unevenly filled sets make a ramp. So the curve is fitted by one or
two ramps in ln N, the second followed by a gentle slope, as walks get dearer when page tables leave the caches.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np

from .spread import F64

Ramp = tuple[int, int]

# Sample points that a first-level and a second-level ramp may span.
_FIRST_SPAN, _SECOND_SPAN = 4, 12
# Part of its height that the second ramp may go on rising by for each unit of ln N.
_SLOPES = (0.0, 0.25, 0.5)
# Part of a ramp, in ln N, within which it rises by a tenth of its height.
_TENTH = 0.196
# A sweep has seen the end of a bend when its last samples, from this factor below the last one on, rise by no more.
_FLAT_FACTOR, _FLAT_RISE = 1.5, 0.3
# A ramp is believed when it is this many times the noise and explains this part of what was unexplained.
_NOISES = 4.0
_EXPLAINED = 0.5
# Relative error of a sample that no repeat shows: cache sets that happen to collide.
_RELATIVE = 0.08


class Knee(NamedTuple):
    """One bend of a sweep.

    Attributes:
        entries: Capacity: the last N without extra time where the bend is sharp, else the middle of the ramp.
        low: Up to so many entries a tenth of the loads miss at most; none where the bend is sharp.
        high: From so many entries on a tenth of the loads hit at most.
        step_ns: Time per load that the bend adds.

    Examples:
        >>> Knee(96, 96, 104, 1.7).entries
        96
    """

    entries: int
    low: int
    high: int
    step_ns: float


def fit_knees(n_entries: F64, extra_ns: F64, noise_ns: float) -> list[Knee]:
    """The bends of a sweep, at most two, smallest capacity first; one that the sweep sees no end of is left out.

    Args:
        n_entries: float64[n], entries visited, rising.
        extra_ns: float64[n], extra time per load.
        noise_ns: What a sample is off by at random.

    Examples:
        >>> n = np.array([16.0, 32, 64, 80, 96, 112, 128, 192, 256, 512])
        >>> fit_knees(n, np.where(n > 96, 1.7, 0.0), noise_ns=0.02)
        [Knee(entries=96, low=96, high=112, step_ns=1.7)]
    """
    knees = _fitted(n_entries, extra_ns, noise_ns)
    before = float(np.interp(n_entries[-1] / _FLAT_FACTOR, n_entries, extra_ns))
    still_rises = extra_ns[-1] - before > _FLAT_RISE * max(before, 0.0) + _NOISES * noise_ns
    if still_rises and knees and knees[-1].high > n_entries[-1] / _FLAT_FACTOR**2:
        return knees[:-1]
    return knees


def _fitted(n_entries: F64, extra_ns: F64, noise_ns: float) -> list[Knee]:
    x = np.log(n_entries)
    weight = 1 / (noise_ns + _RELATIVE * np.abs(extra_ns))
    n = n_entries.size
    first = [(i, j) for i in range(n - 1) for j in range(i + 1, min(n, i + 1 + _FIRST_SPAN))]
    second = [(i, j) for i in range(n - 1) for j in range(i + 1, min(n, i + 1 + _SECOND_SPAN))]
    none = float(((weight * extra_ns) ** 2).sum())
    one, ramp, heights = _best(x, extra_ns, weight, [(ramp,) for ramp in first])
    if ramp is None or heights[0] < _NOISES * noise_ns or one > (1 - _EXPLAINED) * none:
        return []
    pairs: list[tuple[Ramp, ...]] = [pair for pair in product(first, second) if pair[0][1] <= pair[1][0]]
    two, both, both_heights = _best(x, extra_ns, weight, pairs)
    least = _NOISES * noise_ns
    if both is not None and min(both_heights) >= least and two <= (1 - _EXPLAINED) * one:
        return [_knee(n_entries, ramp, float(height)) for ramp, height in zip(both, both_heights, strict=True)]
    return [_knee(n_entries, ramp[0], float(heights[0]))]


def _best(
    x: F64, y: F64, weight: F64, candidates: list[tuple[Ramp, ...]]
) -> tuple[float, tuple[Ramp, ...] | None, F64]:
    """Least weighted squares over candidates: the sum, the ramps and their heights."""
    best: tuple[float, tuple[Ramp, ...] | None, F64] = (np.inf, None, np.zeros(0))
    if not candidates:
        return best
    ends = np.array(candidates)
    low, high = x[ends[..., 0]], x[ends[..., 1]]
    ramps = np.clip((x - low[..., None]) / (high - low)[..., None], 0, 1)
    ramps = ramps * ramps * (3 - 2 * ramps)  # as sets fill by chance: slowly at first and at last
    for slope in _SLOPES if ends.shape[1] == 2 else (0.0,):
        columns = ramps.copy()
        columns[:, -1] += slope * np.maximum(0, x - high[:, -1:])
        scaled = columns * weight
        normal = scaled @ scaled.transpose(0, 2, 1) + 1e-12 * np.eye(scaled.shape[1])
        heights = np.linalg.solve(normal, scaled @ (weight * y)[:, None])[..., 0]
        heights = np.maximum(heights, 0)  # a candidate that wants a fall loses to the one without it
        sums = (((heights[:, None, :] @ scaled)[:, 0] - weight * y) ** 2).sum(axis=1)
        at = int(np.argmin(sums))
        if sums[at] < best[0]:
            best = (float(sums[at]), candidates[at], heights[at])
    return best


def _knee(n_entries: F64, ramp: Ramp, height: float) -> Knee:
    low, high = np.log(n_entries[list(ramp)])
    middle = low
    if ramp[1] > ramp[0] + 1:
        middle, rise = (low + high) / 2, high - low
        low, high = low + _TENTH * rise, high - _TENTH * rise
    entries, low, high = np.rint(np.exp([middle, low, high])).astype(int).tolist()
    return Knee(entries, low, high, round(height, 9))
