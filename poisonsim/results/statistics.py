"""Estimates with intervals, 95 % throughout: exact binomial for probabilities, order statistics for quantiles.

The same for trials by stratum, each with its exact weight; one stratum is plain counting.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, bdtrik, betaincinv

from poisonsim.results.enough import TAIL_TRIALS, is_certain, is_reported, trials_needed

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

CONFIDENCE = 0.95
Z = 1.959963984540054


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval.

    Examples:
        >>> print(Estimate(0.0312, 0.0334, 0.0357, "1"))
        0.033 (0.031–0.036)
    """

    low: float
    best: float
    high: float
    unit: str

    def __str__(self) -> str:
        unit = "" if self.unit == "1" else f" {self.unit}"
        if self.low == self.high:
            return f"{self.best:.6g}{unit}"
        width = max(self.high - self.low, 1e-300)
        digits = int(np.clip(np.ceil(np.log10(max(abs(self.best), abs(self.high)) / width)) + 1, 2, 9))
        return f"{self.best:.{digits}g} ({self.low:.{digits}g}–{self.high:.{digits}g}){unit}"


@dataclass(frozen=True, repr=False)
class Distribution:
    """Values with how many trials have each, ascending, by stratum.

    With one stratum all trials count alike. With more, `weights` are the exact probabilities of the strata; the first
    holds the VMs without incidents, all in one known state, so that it adds nothing to any interval. A stratum
    without trials is taken to be like the one below it, with a standard error of its mean as large as what that
    differs from the first; one with a single trial has the variance of its trial together with those below, or as
    large as that trial differs from all of these.

    Attributes:
        values: float64[n], strictly ascending.
        counts: int64[n, H], trials of each stratum that have the value.
        weights: float64[H].
        trials: int64[H], all trials of each stratum, where `values` are only of those that meet a condition.
    """

    values: F64
    counts: I64
    weights: F64 = field(default_factory=lambda: np.ones(1))
    trials: I64 | None = None

    @staticmethod
    def of(
        values: F64, counts: I64, stratum: I64 | None = None, weights: F64 | None = None, trials: I64 | None = None
    ) -> Distribution:
        """The distribution of `values` that occur `counts` times each, in any order; one stratum if none is given."""
        weights = np.ones(1) if weights is None else weights
        present = counts > 0
        distinct, place = np.unique(values[present], return_inverse=True)
        totals = np.zeros((len(distinct), len(weights)), np.int64)
        column = np.zeros(len(place.ravel()), np.int64) if stratum is None else stratum[present]
        np.add.at(totals, (place.ravel(), column), counts[present])
        return Distribution(distinct, totals, weights, trials)

    def __repr__(self) -> str:
        n = len(self.values)
        spread = f", from {self.values[0]:g} to {self.values[-1]:g}" if n else ""
        return f"<poisonsim distribution: {self.n_trials:,} trials, {n:,} value{'' if n == 1 else 's'}{spread}>"

    @property
    def n_trials(self) -> int:
        """Number of trials."""
        return int(self.counts.sum())

    @property
    def n_simulated(self) -> int:
        """Number of trials that were run: all, or those of the strata that see an incident."""
        return int(self.counts[:, 1:].sum()) if self.stratified else self.n_trials

    @property
    def stratified(self) -> bool:
        """Whether trials count by stratum."""
        return len(self.weights) > 1

    def mean(self, unit: str = "1") -> Estimate:
        """The mean; its interval is the normal one, moved by how skewed values are, down to the least possible.

        Hall's monotone transformation ("On the removal of skewness by transformation", 1992), so that a mean that few
        trials carry is held as often as it should. Under a condition by the delta method.

        Examples:
            >>> Distribution.of(np.array([2.0]), np.array([50])).mean()
            Estimate(low=2.0, best=2.0, high=2.0, unit='1')
        """
        if self.trials is not None:
            found = self._conditional_mean(self.trials)
        else:
            mean, variance, third = self._moments_by_stratum() if self.stratified else self._moments()
            low, high = _skewed_interval(mean, variance, third)
            found = Estimate(low, mean, high, unit)
        return Estimate(min(max(found.low, self._least()), found.best), found.best, found.high, unit)

    def share(self, holds: NDArray[np.bool_]) -> Estimate:
        """The probability of the values where `holds`, with the exact binomial interval, or MOVER's over strata."""
        successes = self.counts[holds].sum(axis=0)
        if not self.stratified:
            return binomial(int(successes[0]), self.n_trials)
        return weighted_binomial(self._probabilities(), successes, self.counts.sum(axis=0))

    def quantile(self, q: float, unit: str = "1") -> Estimate | None:
        """The `q` quantile with its order-statistic interval, or None where fewer than 10 trials lie beyond it.

        Over strata, the interval holds the values at which MOVER's interval of the distribution function reaches `q`,
        and 10 trials are 10 of those that count most.

        Examples:
            >>> d = Distribution.of(np.arange(1000.0), np.ones(1000, int))
            >>> d.quantile(0.99)
            Estimate(low=982.0, best=989.0, high=996.0, unit='1')
            >>> d.quantile(0.999) is None
            True
        """
        if self.stratified:
            return self._stratified_quantile(q, unit)
        n = self.n_trials
        if trials_needed(q) > n:
            return None
        cumulative = np.cumsum(self.counts[:, 0])
        ranks = [
            _binomial_ppf((1 - CONFIDENCE) / 2, n, q),
            np.ceil(q * n),
            _binomial_ppf((1 + CONFIDENCE) / 2, n, q) + 1,
        ]
        low, best, high = (float(self.values[np.searchsorted(cumulative, min(max(rank, 1), n))]) for rank in ranks)
        return Estimate(low, best, high, unit)

    def _least(self) -> float:
        """What the mean cannot be below: 0 if no value is; over strata that of the least value, if ten have it."""
        floor = floor_of(self.values)
        if not self.stratified or self.trials is not None:
            return floor
        hit = self.counts[:, 1:].sum(axis=1)
        least, without = int(np.argmax(hit > 0)), float(self.values[np.argmax(self.counts[:, 0] > 0)])
        if hit[least] < TAIL_TRIALS:
            return floor
        return without + float(self.weights[1:].sum()) * (float(self.values[least]) - without)

    def _moments(self) -> tuple[float, float, float]:
        """Mean, and the variance and third cumulant of its estimate."""
        n, counts = self.n_trials, self.counts[:, 0]
        offset = self.values[0]  # keeps a constant exactly constant
        mean = float(offset + np.dot(self.values - offset, counts) / n)
        gaps = self.values - mean
        return mean, float(gaps**2 @ counts) / max(n - 1, 1) / n, float(gaps**3 @ counts) / n**3

    def _moments_by_stratum(self) -> tuple[float, float, float]:
        """The same over strata: sums of W m, of W² s² / n and of W³ m3 / n²."""
        origin = float(self.values[np.argmax(self.counts[:, 0] > 0)])  # of the VMs without incidents
        shifted, n = self.values - origin, self.counts.sum(axis=0)
        weights = without_empty(self.weights, n)
        mean = variance = third = 0.0
        below = np.zeros(len(self.values), np.int64)
        below[np.argmax(self.counts[:, 0] > 0)] = 1
        for h in np.flatnonzero(n[1:]) + 1:
            here = self.counts[:, h]
            centre = float(np.dot(shifted, here)) / n[h]
            mean += weights[h] * centre
            pool = here if n[h] > 1 else here + below
            gaps = shifted - np.dot(shifted, pool) / pool.sum()
            spread = float(gaps**2 @ pool) / (pool.sum() - 1)
            variance += weights[h] ** 2 * max(spread, float(gaps**2 @ here) if n[h] == 1 else 0.0) / n[h]
            variance += ((weights[h] - self.weights[h]) * centre) ** 2  # of strata without trials
            third += weights[h] ** 3 * float(gaps**3 @ pool) / pool.sum() / float(n[h]) ** 2
            below = here
        return float(origin + mean), variance, third

    def _conditional_mean(self, trials: I64) -> Estimate:
        """Mean over trials that meet the condition, a ratio of two means over all of them."""
        strata = np.arange(len(self.weights))
        counts = np.append(self.counts.ravel(), trials - self.counts.sum(axis=0))
        stratum = np.append(np.tile(strata, len(self.values)), strata)
        offset = self.values[0]
        of_those = np.append(np.repeat(self.values - offset, len(strata)), np.zeros(len(strata)))
        meets = np.append(np.ones(self.counts.size), np.zeros(len(strata)))
        found = ratio_of_means(of_those, meets, counts, stratum, self.weights)
        assert found is not None
        return Estimate(float(offset + found.low), float(offset + found.best), float(offset + found.high), "1")

    def _stratified_quantile(self, q: float, unit: str) -> Estimate | None:
        weights, n = self._probabilities(), self.counts.sum(axis=0)
        if is_certain(q, weights):
            value = float(self.values[np.argmax(self.counts[:, 0] > 0)])
            return Estimate(value, value, value, unit)
        if not is_reported(q, weights, n):
            return None
        cumulative = np.cumsum(self.counts, axis=0)
        reached = cumulative @ (without_empty(weights, n) / np.maximum(n, 1))
        best = min(int(np.searchsorted(reached, q - 1e-12)), len(reached) - 1)

        def limits(i: int) -> Estimate:
            return weighted_binomial(weights, cumulative[i], n)

        low = bisect_left(range(best), True, key=lambda i: limits(i).high >= q)
        high = bisect_left(range(len(reached) - 1), True, lo=best, key=lambda i: limits(i).low >= q)
        return Estimate(float(self.values[low]), float(self.values[best]), float(self.values[high]), unit)

    def _probabilities(self) -> F64:
        """Weights of the strata: among the trials that meet the condition, as many as were found to."""
        if self.trials is None:
            return self.weights
        met = without_empty(self.weights, self.trials) * self.counts.sum(axis=0) / np.maximum(self.trials, 1)
        return np.asarray(met / met.sum())


def _skewed_interval(mean: float, variance: float, third: float) -> tuple[float, float]:
    """Ends of the interval of a mean, from the variance and the third cumulant of its estimate."""
    error = variance**0.5
    skew = third / error**3 if error > 0 else 0.0

    def end(z: float) -> float:
        return z if abs(skew) < 1e-6 else 3 / skew * (float(np.cbrt(1 + skew * (z - skew / 6))) - 1)

    return float(mean - error * end(Z)), float(mean - error * end(-Z))


def without_empty(weights: F64, n: I64) -> F64:
    """Weights where those of strata without trials go to the next lower one with any, or else the lowest.

    Examples:
        >>> without_empty(np.array([0.9, 0.08, 0.015, 0.005]), np.array([5, 4, 0, 0])).round(6).tolist()
        [0.9, 0.1, 0.0, 0.0]
    """
    filled = np.flatnonzero(n[1:]) + 1
    if len(filled) == len(weights) - 1:
        return weights
    to = np.arange(len(weights))
    for h in np.flatnonzero(n[1:] == 0) + 1:
        lower = filled[filled < h]
        to[h] = lower[-1] if len(lower) else filled[0] if len(filled) else 0
    return np.bincount(to, weights, minlength=len(weights)).astype(np.float64)


def weighted_mean(values: F64, counts: I64, stratum: I64 | None = None, weights: F64 | None = None) -> float:
    """Mean of values that occur `counts` times each."""
    if weights is None or len(weights) == 1:
        return float(values @ counts) / int(counts.sum())
    return Distribution.of(values, counts, stratum, weights).mean().best


def ratio_of_means(
    a: F64, b: F64, counts: I64, stratum: I64 | None = None, weights: F64 | None = None
) -> Estimate | None:
    """Mean of `a` over mean of `b`, trial by trial, with a delta-method interval; None where the latter is 0.

    Examples:
        >>> print(ratio_of_means(np.array([1.0, 4.0]), np.array([2.0, 8.0]), np.array([30, 20])))
        0.5
    """
    mean_b = weighted_mean(b, counts, stratum, weights)
    if mean_b == 0:
        return None
    ratio = weighted_mean(a, counts, stratum, weights) / mean_b
    residual = Distribution.of(a - ratio * b, counts, stratum, weights).mean()
    ends = sorted((residual.low - residual.best, residual.high - residual.best))
    low, high = (0.0 if abs(end) < 1e-12 * abs(ratio * mean_b) else end / abs(mean_b) for end in ends)
    return Estimate(max(ratio + low, floor_of(a, b)), ratio, ratio + high, "1")


def floor_of(*values: F64) -> float:
    """What a mean of values, or a ratio of such means, cannot be below: 0 where none is negative.

    Examples:
        >>> floor_of(np.array([0.0, 2.0])), floor_of(np.array([0.0, 2.0]), np.array([-1.0]))
        (0.0, -inf)
    """
    return 0.0 if all(each.min() >= 0 for each in values) else -np.inf


def binomial(successes: int, n: int) -> Estimate:
    """A probability with its exact (Clopper and Pearson) interval.

    Examples:
        >>> print(binomial(0, 1000))
        0 (0–0.0037)
    """
    tail = (1 - CONFIDENCE) / 2
    low = float(betaincinv(successes, n - successes + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, n - successes, 1 - tail)) if successes < n else 1.0
    return Estimate(low, successes / n, high, "1")


def weighted_binomial(weights: F64, successes: I64, n: I64) -> Estimate:
    """A probability from strata, the first of which is all or nothing for certain, with MOVER's interval.

    Each stratum has an interval, Jeffreys', or the exact one (Clopper and Pearson) where none or all of its trials
    are successes; their distances from the estimates, weighted, add up in quadrature (Zou and Donner, "Construction of
    confidence limits about effect measures", 2008). A stratum without trials may be anything from 0 to 1, and is
    estimated to be like the next lower one.

    Examples:
        >>> print(weighted_binomial(np.array([0.9, 0.09, 0.01]), np.array([0, 0, 50]), np.array([1, 5000, 50])))
        0.01 (0.00929–0.0101)
    """
    tail = (1 - CONFIDENCE) / 2
    all_of_first = bool(successes[0] > 0)
    filled = np.flatnonzero(n[1:]) + 1
    k, m = successes[1:], n[1:]
    best = k / np.maximum(m, 1)
    if len(filled) < len(m):
        like = np.append(float(all_of_first), best)
        for h in np.flatnonzero(m == 0) + 1:
            lower = filled[filled < h]
            best[h - 1] = like[lower[-1] if len(lower) else filled[0] if len(filled) else 0]
    shift = np.where((k > 0) & (k < m), 0.5, 0.0)
    low = np.where(k > 0, betaincinv(np.maximum(k, 1) + shift, m - k + 1 - shift, tail), 0.0)
    high = np.where(k < m, betaincinv(k + 1 - shift, np.maximum(m - k, 1) + shift, 1 - tail), 1.0)
    w = weights[1:]
    # Summed from the side of the first stratum, so that what is rare keeps its digits.
    p = float(1 - w @ (1 - best)) if all_of_first else float(w @ best)
    if weights[0] == 0 and best[w > 0].all() and (best[w > 0] == 1).all():
        p = 1.0
    below, above = (float(np.sqrt(((w * gap) ** 2).sum())) for gap in (best - low, high - best))
    return Estimate(max(p - below, 0.0), p, min(p + above, 1.0), "1")


def binomial_quantile(q: float, n: int, p: float) -> int:
    """Smallest k with P(Binomial(n, p) <= k) >= q.

    Examples:
        >>> binomial_quantile(0.95, 10_000, 0.05)
        536
    """
    return int(_binomial_ppf(q, n, p)) if 0 < p < 1 else round(n * p)


def _binomial_ppf(q: float, n: int, p: float) -> float:
    k = float(np.ceil(bdtrik(q, n, p)))
    below = max(k - 1, 0.0)
    return below if bdtr(below, n, p) >= q else k
