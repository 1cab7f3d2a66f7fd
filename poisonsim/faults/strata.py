"""Stratified sampling of VMs by their number of incidents: exact weights, and trials spent where something happens.

Where most VMs see no incident, nearly all plain trials would come out alike. Their state is known without running
them, and so is the probability of every number of incidents; so trials are spent on VMs that see some, in known
numbers per stratum, and every stratum counts with its exact probability.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

# Above this probability of any incident most trials are worth running, and sampling is plain.
MOST = 0.5

_LEAST_TAIL = 1e-13  # no stratum of its own for what is less likely than this
_MOST_STRATA = 10
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: multiples of it fill the circle evenly


@dataclass(frozen=True, eq=False)
class Strata:
    """VMs by their number of incidents n; one stratum of weight 1 stands for plain sampling.

    Attributes:
        least: int64[H], lowest n of each stratum; all but the last hold that n only, the last all from there on.
        weights: float64[H], exact probability of each stratum.
        shares: float64[H], share of the simulated trials that each gets; 0 for the stratum without incidents.
        last: float64[m], P(n <= least[-1] + i) within the last stratum.
    """

    least: I64
    weights: F64
    shares: F64
    last: F64

    @property
    def plain(self) -> bool:
        """Whether trials are not stratified."""
        return len(self.least) == 1

    @property
    def p_any(self) -> float:
        """Probability of any incident, where sampling is stratified."""
        return float(self.weights[1:].sum())

    @property
    def incidents_per_simulated(self) -> float:
        """Mean incidents of a simulated trial, where sampling is stratified."""
        mean = self.least.astype(float)
        mean[-1] += (1 - self.last).sum()
        return float(mean @ self.shares)

    @property
    def heaviest(self) -> float:
        """Greatest probability that one simulated trial stands for, times the number of nominal trials."""
        if self.plain:
            return 1.0
        used = self.shares > 0
        return float((self.weights[used] / self.shares[used]).max() / self.p_any) if used.any() else 0.0

    def n_simulated(self, n_trials: int) -> int:
        """How many of the `n_trials` of a block have an incident and are simulated.

        Examples:
            >>> design(np.array([0.9, 0.1])).n_simulated(4096)
            410
        """
        return max(round(n_trials * self.p_any), 1) if self.p_any > 0 else 0

    def draw(self, rng: np.random.Generator, n_trials: int, block: int) -> tuple[I64, I64, I64]:
        """The simulated trials of a block of `n_trials`, ascending; their incidents; and their strata: int64[n] each.

        Which trials are simulated, and in which stratum each lies, depends on the arguments' numbers only: evenly
        spread over the block, and by multiples of the golden ratio, so that every stratum gets its share of any run
        of trials to within one or two. `rng` is asked only for how many incidents those of the last stratum have.

        Examples:
            >>> rng = np.random.default_rng(1)
            >>> trial, n, stratum = design(np.array([0.99, 0.0099, 0.0001])).draw(rng, 1000, block=0)
            >>> trial.tolist(), n.tolist()
            ([50, 150, 250, 350, 450, 550, 650, 750, 850, 950], [1, 1, 1, 1, 1, 1, 1, 1, 2, 1])
        """
        n = self.n_simulated(n_trials)
        j = np.arange(n)
        stratum = 1 + np.searchsorted(np.cumsum(self.shares[1:-1]), _golden(block * n + j), side="right")
        count = self.least[stratum]
        last = np.flatnonzero(stratum == len(self.least) - 1)
        more = np.searchsorted(self.last, rng.random(len(last)), side="right")
        count[last] += np.minimum(more, len(self.last) - 1)
        return _middles(n_trials, n), count, stratum


PLAIN = Strata(np.zeros(1, np.int64), np.ones(1), np.ones(1), np.ones(1))
"""No strata: every trial is drawn, and counts alike."""


def design(pmf: F64) -> Strata:
    """Strata for a law of the number of incidents of a VM.

    Trials are shared out by the square root of the weights, between what is best for common events (the weights) and
    for those that only many incidents bring about (all alike).

    Args:
        pmf: float64[m], P(n incidents) from n = 0, to a negligible tail.

    Examples:
        >>> strata = design(np.array([0.98, 0.0196, 0.0004]))
        >>> strata.least.tolist(), strata.weights.tolist(), strata.shares.round(9).tolist()
        ([0, 1, 2], [0.98, 0.0196, 0.0004], [0.0, 0.875, 0.125])
        >>> design(np.array([0.4, 0.6])).plain
        True
    """
    tails = np.cumsum(pmf[::-1])[::-1]  # P(n or more), summed from the small end
    tails = np.append(tails, np.zeros(max(2 - len(tails), 0)))
    if tails[1] > MOST:
        return PLAIN
    top = int(np.clip((tails[1:] >= _LEAST_TAIL).sum(), 1, _MOST_STRATA - 1))
    weights = np.append(pmf[:top], tails[top])
    root = np.sqrt(np.append(0.0, weights[1:]))
    shares = root / root.sum() if tails[1] > 0 else root
    last = np.cumsum(pmf[top:]) / tails[top] if tails[top] > 0 else np.ones(1)
    return Strata(np.arange(top + 1), weights, shares, last)


@dataclass(frozen=True, eq=False)
class TabulatedCounts:
    """Number of incidents per VM by a table of probabilities.

    Attributes:
        mean: Expected incidents of one VM over the horizon.
        law: float64[m], P(n incidents) from n = 0, to a negligible tail.

    Examples:
        >>> counts = TabulatedCounts(0.3, np.array([0.8, 0.1, 0.1]))
        >>> round(counts.p_any, 3), counts.strata.least.tolist()
        (0.2, [0, 1, 2])
    """

    mean: float
    law: F64

    fixed = False

    @property
    def p_any(self) -> float:
        """Probability that a VM sees at least one incident."""
        return float(self.law[1:].sum())

    def pmf(self) -> F64:
        """P(n incidents) from n = 0: float64[m]."""
        return self.law

    @cached_property
    def strata(self) -> Strata:
        """How trials are shared out: plain where most VMs see an incident, else by their number."""
        return design(self.law)

    def draw_counts(self, rng: np.random.Generator, n_trials: int, block: int) -> tuple[I64, I64, I64]:
        """The trials of a block that see any, ascending, how many each sees, and their strata: int64[n_hit] each."""
        if not self.strata.plain:
            return self.strata.draw(rng, n_trials, block)
        cumulative = np.cumsum(self.law)
        every = np.searchsorted(cumulative / cumulative[-1], rng.random(n_trials), side="right")
        hit = np.flatnonzero(every)
        return hit, every[hit], np.zeros(len(hit), np.int64)


def _golden(index: I64) -> F64:
    """Fractional parts of multiples of the golden ratio, exact to 53 bits however large `index` is."""
    turned = (index.astype(np.uint64) * _GOLDEN) >> np.uint64(11)
    return turned.astype(np.float64) * 2.0**-53


def _middles(n_trials: int, n: int) -> I64:
    """Middles of `n` equal parts of 0 … `n_trials` - 1, rounded down; in integers, and no product beyond 2^63."""
    if n == 0:
        return np.empty(0, np.int64)
    odd = 2 * np.arange(n) + 1
    whole, rest = divmod(n_trials, 2 * n)
    return odd * whole + odd * rest // (2 * n)
