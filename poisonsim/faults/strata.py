"""Stratified sampling of VMs by their incidents: exact weights, and trials spent where something happens.

Where most VMs see no incident, nearly all plain trials would come out alike. Their state is known without running
them, and so is the probability of every number of incidents, and of how many of these spoil many lines at once; so
trials are spent on VMs that see some, in known numbers per stratum, each of which counts with its exact probability.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

# Above this probability of any incident most trials are worth running, and sampling is plain.
MOST = 0.5

_LEAST_TAIL = 1e-13  # no stratum of its own for what is less likely than this
_MOST_INCIDENTS = 9  # nor for more incidents than these
_MOST_STRATA = 20
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: multiples of it fill the circle evenly

# What listed probabilities may leave out, as a share of the probability of any incident.
_NEGLIGIBLE = 1e-17

_LARGE = 300.0  # a mean number of incidents


class Drawn(NamedTuple):
    """Trials of a block that see an incident, ascending.

    Attributes:
        trial: int64[n], which.
        incidents: int64[n], how many each sees.
        many: int64[n], how many of these spoil many lines at once; None where that is left to chance.
        stratum: int64[n], the stratum of each; 0 where sampling is plain.
    """

    trial: I64
    incidents: I64
    many: I64 | None
    stratum: I64


@dataclass(frozen=True, eq=False)
class Strata:
    """VMs by their number of incidents, and of those with many lines; one stratum stands for plain sampling.

    Attributes:
        count, many: int64[H], those numbers in each stratum; those of the last, which holds all else, are its least.
        weights: float64[H], exact probability of each stratum.
        shares: float64[H], share of the simulated trials that each gets; 0 for the stratum without incidents.
        rest_count, rest_many: int64[m], the pairs of numbers that the last stratum holds.
        rest: float64[m], their probabilities within it, cumulated.
    """

    count: I64
    many: I64
    weights: F64
    shares: F64
    rest_count: I64
    rest_many: I64
    rest: F64

    @property
    def plain(self) -> bool:
        """Whether trials are not stratified."""
        return len(self.count) == 1

    @property
    def p_any(self) -> float:
        """Probability of any incident, where sampling is stratified."""
        return float(self.weights[1:].sum())

    def per_simulated(self, each: float, many: float) -> float:
        """Mean over simulated trials of a sum that has `each` for an incident, and `many` more if it spoils many lines.

        Examples:
            >>> design(np.array([[0.9, 0.0], [0.06, 0.04]])).per_simulated(1.0, 0.0)
            1.0
        """
        values = each * self.count.astype(float) + many * self.many
        chances = np.diff(self.rest, prepend=0.0)
        values[-1] = (each * self.rest_count + many * self.rest_many) @ chances
        return float(values @ self.shares)

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
            >>> design(np.array([[0.9], [0.1]])).n_simulated(4096)
            410
        """
        return max(round(n_trials * self.p_any), 1) if self.p_any > 0 else 0

    def draw(self, rng: np.random.Generator, n_trials: int, block: int) -> Drawn:
        """The simulated trials of a block of `n_trials`.

        Which trials are simulated, and in which stratum each lies, depends on the arguments' numbers only: evenly
        spread over the block, and by multiples of the golden ratio, so that every stratum gets its share of any run
        of trials to within one or two. `rng` is asked only for what those of the last stratum have.

        Examples:
            >>> rng = np.random.default_rng(1)
            >>> drawn = design(np.array([[0.99], [0.0099], [0.0001]])).draw(rng, 1000, block=0)
            >>> drawn.trial.tolist(), drawn.incidents.tolist()
            ([50, 150, 250, 350, 450, 550, 650, 750, 850, 950], [1, 1, 1, 1, 1, 1, 1, 1, 2, 1])
        """
        n = self.n_simulated(n_trials)
        j = np.arange(n)
        stratum = 1 + np.searchsorted(np.cumsum(self.shares[1:-1]), _golden(block * n + j), side="right")
        count, many = self.count[stratum], self.many[stratum]
        last = np.flatnonzero(stratum == len(self.count) - 1)
        which = np.minimum(np.searchsorted(self.rest, rng.random(len(last)), side="right"), len(self.rest) - 1)
        count[last], many[last] = self.rest_count[which], self.rest_many[which]
        return Drawn(_middles(n_trials, n), count, many, stratum)


_ZERO = np.zeros(1, np.int64)
PLAIN = Strata(_ZERO, _ZERO, np.ones(1), np.ones(1), _ZERO, _ZERO, np.ones(1))
"""No strata: every trial is drawn, and counts alike."""


def design(law: F64, cost: F64 | None = None) -> Strata:
    """Strata for a law of the incidents of a VM.

    Trials are shared out by the square root of the weights, between what is best for common events (the weights) and
    for those that only many incidents bring about (all alike); and by that of the costs, so that none takes all time.

    Args:
        law: float64[n, m], P(n incidents, m of them with many lines), to a negligible tail.
        cost: float64[n, m], of simulating such a trial, up to a factor; all alike where it is not said.

    Examples:
        >>> strata = design(np.array([[0.98], [0.0196], [0.0004]]))
        >>> strata.count.tolist(), strata.weights.tolist(), strata.shares.round(9).tolist()
        ([0, 1, 2], [0.98, 0.0196, 0.0004], [0.0, 0.875, 0.125])
        >>> design(np.array([[0.4], [0.6]])).plain
        True
    """
    if law[1:].sum() > MOST:
        return PLAIN
    cost = np.ones(law.shape) if cost is None else cost
    count, many = (index.ravel() for index in np.indices(law.shape))
    p, c = law.ravel(), cost.ravel()
    tails = np.cumsum(law.sum(axis=1)[::-1])[::-1]  # P(n or more), summed from the small end
    top = int(np.clip((tails[1:] >= _LEAST_TAIL).sum(), 1, _MOST_INCIDENTS))
    own = np.flatnonzero((count > 0) & (count < top) & (p >= _LEAST_TAIL))
    own = np.sort(own[np.argsort(-p[own], kind="stable")][: _MOST_STRATA - 2])
    rest = np.setdiff1d(np.flatnonzero((count > 0) & (p > 0)), own)
    if len(rest) == 0:
        rest = np.array([len(p)])
        count, many, p, c = np.append(count, top), np.append(many, 0), np.append(p, 0.0), np.append(c, 1.0)
    p_rest = p[rest].sum()
    weights = np.concatenate((law[:1].sum(keepdims=True).ravel(), p[own], [p_rest]))
    costs = np.concatenate(([1.0], c[own], [p[rest] @ c[rest] / p_rest if p_rest > 0 else 1.0]))
    root = np.sqrt(weights / costs)
    root[0] = 0.0
    shares = root / root.sum() if root.sum() > 0 else root
    within = np.cumsum(p[rest]) / p_rest if p_rest > 0 else np.ones(1)
    return Strata(
        np.concatenate(([0], count[own], [count[rest].min()])),
        np.concatenate(([0], many[own], [many[rest].min()])),
        weights, shares, count[rest], many[rest], within,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class TabulatedCounts:
    """Incidents per VM by a table of probabilities.

    Attributes:
        mean: Expected incidents of one VM over the horizon.
        law: float64[n, m], P(n incidents, m of them with many lines), to a negligible tail; m = 1 leaves the latter to
            chance.
        cost: float64[n, m], of simulating such a trial, up to a factor.
        all_matter: Whether VMs without incidents have a life of their own too, so that they cannot be left out.

    Examples:
        >>> counts = TabulatedCounts(0.3, np.array([[0.8], [0.1], [0.1]]), np.ones((3, 1)))
        >>> round(counts.p_any, 3), counts.strata.count.tolist()
        (0.2, [0, 1, 2])
    """

    mean: float
    law: F64
    cost: F64
    all_matter: bool = False

    fixed = False

    @property
    def p_any(self) -> float:
        """Probability that a VM sees at least one incident."""
        return float(self.law[1:].sum())

    def pmf(self) -> F64:
        """P(n incidents) from n = 0: float64[n]."""
        pmf: F64 = self.law.sum(axis=1)
        return pmf

    @cached_property
    def strata(self) -> Strata:
        """How trials are shared out: plain where most VMs see an incident or all matter, else by their incidents."""
        return PLAIN if self.all_matter else design(self.law, self.cost)

    def draw_counts(self, rng: np.random.Generator, n_trials: int, block: int) -> Drawn:
        """The trials of a block that see any."""
        if not self.strata.plain:
            drawn = self.strata.draw(rng, n_trials, block)
            return drawn if self.law.shape[1] > 1 else drawn._replace(many=None)
        cumulative = np.cumsum(self.pmf())
        every = np.searchsorted(cumulative / cumulative[-1], rng.random(n_trials), side="right")
        hit = np.flatnonzero(every)
        return Drawn(hit, every[hit], None, np.zeros(len(hit), np.int64))


def pmf_of_counts(mean: float, dispersion: float) -> F64:
    """P(n) from n = 0 of a Poisson law whose rate is gamma-distributed, to a negligible tail: float64[m].

    Args:
        mean: Expected number.
        dispersion: Variance of the rate over the square of its mean; 0 is plain Poisson.

    Examples:
        >>> pmf_of_counts(0.05, 0.0)[:3].round(6).tolist()
        [0.951229, 0.047561, 0.001189]
    """
    spread = mean * dispersion
    if mean > _LARGE:  # there the first of them would be lost to underflow
        from scipy.stats import nbinom, poisson  # takes half a second to load, which few runs need

        law = poisson(mean) if dispersion == 0 else nbinom(1 / dispersion, 1 / (1 + spread))
        return np.asarray(law.pmf(np.arange(int(law.isf(1e-16)) + 2)), np.float64)
    # Each probability is the one before times a ratio, which tends to a limit below 1: 0 without frailty.
    limit = spread / (1 + spread)
    n = np.arange(int(-np.log(_NEGLIGIBLE) * (1 + spread) * 1.2 + 4 * mean) + 60)
    ratio = limit * (n - 1) / np.maximum(n, 1) + mean / (1 + spread) / np.maximum(n, 1)
    ratio[0] = np.exp(-mean) if dispersion == 0 else np.exp(-np.log1p(spread) / dispersion)
    pmf = np.cumprod(ratio)
    tails = np.cumsum(pmf[::-1])[::-1]
    return np.asarray(pmf[: max(int((tails > _NEGLIGIBLE * pmf[1:].sum()).sum()), 1)], np.float64)


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
