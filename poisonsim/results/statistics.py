"""Estimates with intervals: exact binomial for probabilities, order statistics for quantiles, 95 % throughout."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, bdtrik, betaincinv

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

CONFIDENCE = 0.95
Z = 1.959963984540054
TAIL_TRIALS = 10  # a quantile is reported only where at least this many trials lie beyond it


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


@dataclass(frozen=True)
class Distribution:
    """Values with how many trials have each, ascending.

    Attributes:
        values: float64[n], strictly ascending.
        counts: int64[n], all positive.
    """

    values: F64
    counts: I64

    @staticmethod
    def of(values: F64, counts: I64) -> Distribution:
        """The distribution of `values` that occur `counts` times each, in any order."""
        present = counts > 0
        distinct, place = np.unique(values[present], return_inverse=True)
        totals = np.zeros(len(distinct), np.int64)
        np.add.at(totals, place.ravel(), counts[present])
        return Distribution(distinct, totals)

    @property
    def n_trials(self) -> int:
        """Number of trials."""
        return int(self.counts.sum())

    def mean(self, unit: str = "1") -> Estimate:
        """The mean with a normal-theory interval.

        Examples:
            >>> Distribution.of(np.array([2.0]), np.array([50])).mean()
            Estimate(low=2.0, best=2.0, high=2.0, unit='1')
        """
        n = self.n_trials
        offset = self.values[0]  # keeps a constant exactly constant
        mean = float(offset + np.dot(self.values - offset, self.counts) / n)
        variance = float(np.dot((self.values - mean) ** 2, self.counts)) / max(n - 1, 1)
        half = Z * (variance / n) ** 0.5
        return Estimate(mean - half, mean, mean + half, unit)

    def share(self, holds: NDArray[np.bool_]) -> Estimate:
        """The probability of the values where `holds`, with the exact binomial interval."""
        return binomial(int(self.counts[holds].sum()), self.n_trials)

    def quantile(self, q: float, unit: str = "1") -> Estimate | None:
        """The `q` quantile with its order-statistic interval, or None where fewer than 10 trials lie beyond it.

        Examples:
            >>> d = Distribution.of(np.arange(1000.0), np.ones(1000, int))
            >>> d.quantile(0.99)
            Estimate(low=982.0, best=989.0, high=996.0, unit='1')
            >>> d.quantile(0.999) is None
            True
        """
        n = self.n_trials
        if trials_needed(q) > n:
            return None
        cumulative = np.cumsum(self.counts)
        ranks = [
            _binomial_ppf((1 - CONFIDENCE) / 2, n, q),
            np.ceil(q * n),
            _binomial_ppf((1 + CONFIDENCE) / 2, n, q) + 1,
        ]
        low, best, high = (float(self.values[np.searchsorted(cumulative, min(max(rank, 1), n))]) for rank in ranks)
        return Estimate(low, best, high, unit)


def trials_needed(q: float) -> int:
    """Trials below which the `q` quantile is not reported.

    Examples:
        >>> trials_needed(0.99), trials_needed(0.5)
        (1000, 20)
    """
    return int(np.ceil(TAIL_TRIALS / min(q, 1 - q) - 1e-9))


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
