"""How long entries last in arrays of sets: a set of W ways keeps an entry while at most W - 1 others of it are used."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .touch import F64

if TYPE_CHECKING:
    from .tlb import Demand, TlbArray

# Times at which the ways of a set are counted, around the time of all sets, in ln t. Popular leaves of a crowded set
# are lost long before that time, so there are more below than above.
_SPREAD = np.linspace(-5.0, 3.0, 33)
_MIDDLE = int(np.searchsorted(_SPREAD, 0.0))
_HALVINGS = 12
_TINY = 1e-300
_LEAST = 1e-12
# Sets of a kind that are no larger a share are left out.
_RARE = 1e-3


@dataclass(frozen=True)
class _Counted:
    """Entries of one demand that a set holds after a time: a binomial number of this mean and variance, float64[n, j].

    Args:
        mean: Their mean number.
        variance: Its variance between sets.
        own: What an entry of this demand, accessed after that time, is itself of the mean in its set.
    """

    mean: F64
    variance: F64
    own: F64

    def of(self, rows: npt.NDArray[np.bool_ | np.int64]) -> _Counted:
        """The same of some states."""
        return _Counted(self.mean[rows], self.variance[rows], self.own[rows])

    def part(self, share: F64) -> _Counted:
        """What is left where each entry is in the set with a chance only."""
        return _Counted(share * self.mean, share**2 * self.variance + share * (1 - share) * self.mean, self.own)

    def chances(self, ways: int, seen: bool = False) -> F64:
        """Chances of 0 … ways - 1 entries, or of as many others than one of them: float64[n, j, ways]."""
        chance = np.clip(1.0 - self.variance / np.maximum(self.mean, _TINY), _LEAST, 1.0 - _LEAST)
        mean = np.maximum(self.mean - self.own, 0.0) if seen else self.mean
        return _binomial(mean / chance, chance, ways)


def times_by_set(
    pool: Sequence[TlbArray], demands: Sequence[Demand], shared: F64, threads: int
) -> list[tuple[F64, F64]]:
    """Times that entries of each demand last, and the share of each time, float64[n, j] each.

    Args:
        pool: Arrays of equally many sets; a size that several hold may take the ways of all.
        demands: What competes for them.
        shared: float64[n], finite: how long entries last in a fully associative array of as many entries.
        threads: Threads that share the arrays.
    """
    t = shared[:, None] * np.exp(_SPREAD)
    counts = [_counted(demand, t, pool[0].sets, threads) for demand in demands]
    if len(pool) == 2:
        kept = _kept_by_places(pool, demands, counts, threads)
    else:
        kept = _kept(counts, sum(array.entries // array.sets for array in pool))
    times = np.concatenate((t[:, :1], np.sqrt(t[:, 1:] * t[:, :-1]), t[:, -1:]), axis=1)
    ends = np.ones((shared.size, 1))
    falling = [np.minimum.accumulate(np.minimum(each, 1.0), axis=1) for each in kept]
    return [(times, -np.diff(np.concatenate((ends, each, 0 * ends), axis=1), axis=1)) for each in falling]


def _counted(demand: Demand, t: F64, n_sets: int, threads: int) -> _Counted:
    chance = demand.held(t)
    mean = demand.entries[:, None] * chance / n_sets
    square = chance if demand.crowding is None else np.maximum(demand.crowding(t), chance)
    own = chance if demand.reused is None else _seen(demand, t, chance)
    if demand.clustered and demand.lumps is None:
        # Every set has its share of the entries of each rate.
        return _Counted(mean * threads, mean * (1.0 - square) * threads, own)
    # A set's entries are drawn without putting back, from all places where such an entry could be.
    places = demand.entries[:, None] if demand.lumps is None else demand.lumps
    full = np.minimum(mean * n_sets / np.maximum(places, 1.0), 1.0) * (1.0 - 1.0 / n_sets)
    variance = mean * np.maximum(1.0 - square / n_sets - full, 0.0)
    return _Counted(mean * threads, variance * threads, full + own / n_sets)


def _seen(demand: Demand, t: F64, chance: F64) -> F64:
    """Mean chance to be held, after t, of the entries that are accessed next about then."""
    assert demand.reused is not None
    held, missed = demand.reused(t)
    steps = np.diff(missed, axis=1)
    mean = np.divide(np.diff(held, axis=1), steps, out=chance[:, 1:].copy(), where=steps < 0)
    mean = np.clip(mean, 0.0, 1.0)
    return np.concatenate((mean[:, :1], (mean[:, 1:] + mean[:, :-1]) / 2, mean[:, -1:]), axis=1)


def _kept(counts: Sequence[_Counted], ways: int) -> list[F64]:
    """Chance that at most `ways - 1` others of its set are held, for an entry of each demand: float64[n, j] each."""
    chances = [count.chances(ways) for count in counts]
    kept = []
    for i, count in enumerate(counts):
        others = chances[:i] + chances[i + 1 :]
        kept.append(_at_most([*others, count.chances(ways, seen=True)]))
    return kept


def _kept_by_places(
    pool: Sequence[TlbArray], demands: Sequence[Demand], counts: Sequence[_Counted], threads: int
) -> list[F64]:
    """The same for sets of two arrays, apart by how many places of a set are leaves that lie there by chance.

    How two arrays share what both may hold depends on how much room those leaves leave, from set to set.
    """
    lumpy = [i for i, demand in enumerate(demands) if demand.lumps is not None]
    if len(lumpy) != 1 or threads > 1:
        return _kept_in_two(pool, demands, counts)
    seen, n_sets = lumpy[0], pool[0].sets
    demand, count = demands[seen], counts[seen]
    assert demand.lumps is not None
    most = max(1, round(demand.lumps / n_sets))
    filled = np.clip(demand.entries / demand.lumps, 0.0, 1.0)[:, None]
    numbers = _number_filled(filled, most)
    by_entry = numbers * np.arange(most + 1) / np.maximum(filled * most, _TINY)
    held = np.divide(count.mean * n_sets, demand.entries[:, None], out=np.zeros(count.mean.shape), where=filled > 0)
    number, state = np.nonzero(numbers.T)
    known, held = [other.of(state) for other in counts], held[state]
    mean = number[:, None].astype(np.float64) * held
    known[seen] = _Counted(mean, mean * (1.0 - held), held)
    result = [np.zeros(count.mean.shape) for _ in counts]
    for i, kept in enumerate(_kept_in_two(pool, demands, known)):
        weighted = (by_entry if i == seen else numbers)[state, number][:, None] * kept
        for each in range(most + 1):
            result[i][state[number == each]] += weighted[number == each]
    return result


def _number_filled(filled: F64, most: int) -> F64:
    """Chances that 0 … most of the places of a set are filled, float64[n, most + 1], rare numbers left out."""
    from scipy.special import gammaln, xlog1py, xlogy

    k = np.arange(most + 1.0)
    ways = gammaln(most + 1.0) - gammaln(k + 1.0) - gammaln(most - k + 1.0)
    numbers = np.exp(ways + xlogy(k, filled) + xlog1py(most - k, -filled))
    numbers = np.where(numbers > _RARE, numbers, 0.0)
    return np.asarray(numbers / numbers.sum(axis=1, keepdims=True))


def _kept_in_two(pool: Sequence[TlbArray], demands: Sequence[Demand], counts: Sequence[_Counted]) -> list[F64]:
    """The same for sets of two arrays; sizes that both arrays hold fill the way used least recently in either.

    So each set is one of its own, for what only its array holds and a share of the rest. In the array with more ways
    for that rest entries last until its ways are filled on average; the other gets what comes while one of its ways
    was not used for longer.
    """
    ways = [array.entries // array.sets for array in pool]
    own = [[demand.size not in other.sizes_bytes for demand in demands] for other in reversed(pool)]
    both = [not any(of) for of in zip(*own, strict=True)]
    shape = counts[0].mean.shape
    means = [sum((c.mean for c, yes in zip(counts, of, strict=True) if yes), np.zeros(shape)) for of in own]
    free = [way - mean[:, _MIDDLE] for way, mean in zip(ways, means, strict=True)]
    share = np.zeros(shape)
    for this, that in ((0, 1), (1, 0)):
        mine = free[this] >= free[that] if this == 0 else free[this] > free[that]
        if mine.any():
            rows = [count.of(mine) for count in counts]
            found = _share(rows, own[that], both, means[this][mine], ways[this], ways[that])
            share[mine] = found if that == 1 else 1.0 - found
    result = [np.zeros(shape) for _ in counts]
    for j, part in ((0, 1.0 - share), (1, share)):
        here = [i for i in range(len(counts)) if own[j][i] or both[i]]
        loads = [counts[i].part(part) if both[i] else counts[i] for i in here]
        for i, kept in zip(here, _kept(loads, ways[j]), strict=True):
            result[i] = result[i] + (part * kept if both[i] else kept)
    return result


def _share(
    counts: Sequence[_Counted], others: Sequence[bool], both: Sequence[bool], even: F64, even_ways: int, ways: int
) -> F64:
    """Share, float64[n, 1], of the entries that both arrays may hold which one of them gets.

    Args:
        counts: All demands.
        others: Which of them only this array holds.
        both: Which of them both may hold.
        even: float64[n, j], entries that only the array with more ways for the rest holds.
        even_ways: Its ways.
        ways: Those of this array.
    """
    mean_both = sum((c.mean for c, yes in zip(counts, both, strict=True) if yes), np.zeros(even.shape))
    mean_own = sum((c.mean for c, yes in zip(counts, others, strict=True) if yes), np.zeros(even.shape))
    low, high = np.zeros((len(even), 1)), np.ones((len(even), 1))
    for _ in range(_HALVINGS):
        share = (low + high) / 2
        filled = even + (1.0 - share) * mean_both
        place = np.clip((filled < even_ways).sum(axis=1), 1, _SPREAD.size - 1)[:, None]
        before, after = (np.take_along_axis(filled, at, axis=1) for at in (place - 1, place))
        part = np.clip((even_ways - before) / np.maximum(after - before, _TINY), 0.0, 1.0)

        def then(values: F64, place: np.ndarray = place, part: F64 = part) -> F64:
            before, after = (np.take_along_axis(values, at, axis=1) for at in (place - 1, place))
            return np.asarray(before + (after - before) * part)

        loads = [_Counted(then(c.mean), then(c.variance), then(c.own)) for c in counts]
        # Ways that nothing else wants are filled once in that time each, the others by chance.
        rest = share * then(mean_both)
        steady = np.minimum(np.maximum(ways - then(mean_own), 0.0), rest) / np.maximum(rest, _TINY)
        chances = [load.chances(ways) for load, yes in zip(loads, others, strict=True) if yes]
        for load, yes in zip(loads, both, strict=True):
            if yes:
                thinned = load.part(share)
                variance = np.maximum(thinned.variance - steady * thinned.mean, 0.0)
                chances.append(_Counted(thinned.mean, variance, load.own).chances(ways))
        has_room = _at_most(chances) if chances else np.ones(share.shape)
        low, high = np.where(has_room > share, share, low), np.where(has_room > share, high, share)
    return (low + high) / 2


def _at_most(chances: Sequence[F64]) -> F64:
    """Chance that independent numbers add up to no more than the last that is listed: float64[…]."""
    *others, last = chances
    if not others:
        return np.asarray(last.sum(axis=-1))
    return np.asarray((functools.reduce(_sum_of, others) * np.cumsum(last, axis=-1)[..., ::-1]).sum(axis=-1))


def _binomial(n: F64, p: F64, length: int) -> F64:
    """Chances of 0 … length - 1 successes in n trials, float64[…, length]; n need not be whole."""
    odds = p / (1 - p)
    result = np.zeros((*p.shape, length))
    result[..., 0] = np.exp(n * np.log1p(-p))
    for k in range(1, length):
        result[..., k] = np.maximum(result[..., k - 1] * (n - k + 1) / k * odds, 0.0)
    return result


def _sum_of(one: F64, other: F64) -> F64:
    """Chances of the sum of two independent counts, float64[…, length]."""
    result = np.zeros_like(one)
    length = one.shape[-1]
    for k in range(length):
        result[..., k:] += other[..., k : k + 1] * one[..., : length - k]
    return result
