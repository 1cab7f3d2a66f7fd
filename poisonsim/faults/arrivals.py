"""How many uncorrected errors (UEs) a VM sees in its life, and with which hazard over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from poisonsim.faults.tables import load_fault_table
from poisonsim.scenario import CountFaults, RateFaults, Scenario
from poisonsim.units import TIB

I64 = NDArray[np.int64]

# Above this mean most VMs see an error, and drawing every count is cheaper than finding those that do.
_DENSE_MEAN = 1.0

# Below this probability no run of any length sees an error.
_NEVER = 1e-30

# A gamma frailty of less variance cannot be told from none, and its shape overflows.
_LEAST_DISPERSION = 1e-12


@dataclass(frozen=True)
class Arrivals:
    """Number of UEs per VM: fixed, Poisson, or Poisson with a gamma-distributed rate (negative binomial).

    Attributes:
        mean: Expected UEs of one VM over the horizon.
        fixed: Whether every VM sees exactly `mean`.
        dispersion: Variance of the gamma frailty between VMs, whose mean is 1; 0 is plain Poisson.
        shape: Weibull shape of the hazard over the horizon; the expected total stays `mean`.
    """

    mean: float
    fixed: bool = False
    dispersion: float = 0.0
    shape: float = 1.0

    @property
    def p_any(self) -> float:
        """Probability that a VM sees at least one UE.

        Examples:
            >>> round(Arrivals(mean=0.05).p_any, 6)
            0.048771
        """
        if self.fixed:
            return float(self.mean > 0)
        if self.dispersion == 0:
            return float(-np.expm1(-self.mean))
        return float(-np.expm1(-np.log1p(self.mean * self.dispersion) / self.dispersion))

    def draw_counts(self, rng: np.random.Generator, n_trials: int) -> tuple[I64, I64]:
        """The trials that see any UE, ascending, and how many each sees: int64[n_hit], int64[n_hit].

        Where few trials are hit, only those are drawn: the gaps between them are geometric, and their counts are
        positive by inversion of the zero-truncated distribution. Untouched trials cost nothing.
        """
        if self.p_any < _NEVER:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        if self.fixed:
            return np.arange(n_trials), np.full(n_trials, int(self.mean))
        if self.mean >= _DENSE_MEAN:
            rates: float | NDArray[np.float64] = self.mean
            if self.dispersion > 0:
                rates = self.mean * self.dispersion * rng.standard_gamma(1 / self.dispersion, n_trials)
            counts = rng.poisson(rates, n_trials)
            hit = np.flatnonzero(counts)
            return hit, counts[hit]
        hit = _scattered(rng, self.p_any, n_trials)
        return hit, self._positive(rng.random(len(hit)))

    def _positive(self, u: NDArray[np.float64]) -> I64:
        """Quantiles of the count, given that it is at least 1."""
        counts = np.ones(len(u), np.int64)
        p_zero = 1 - self.p_any
        left = np.arange(len(u))
        pmf = p_zero * (self.mean / (1 + self.mean * self.dispersion))
        tail = self.p_any - pmf  # P(count > k), which u, scaled, is compared with
        k = 1
        u_tail = (1 - u) * self.p_any
        while True:
            left = left[u_tail[left] < tail]
            if not len(left) or pmf < 1e-18:
                return counts
            counts[left] += 1
            pmf *= self.mean * (1 + k * self.dispersion) / ((k + 1) * (1 + self.mean * self.dispersion))
            k += 1
            tail = max(tail - pmf, 0.0)


def _scattered(rng: np.random.Generator, probability: float, n_trials: int) -> I64:
    """Each of `n_trials` with the same probability, by geometric gaps: int64[n], ascending."""
    found: list[I64] = []
    position = -1
    while position < n_trials:
        expected = (n_trials - position) * probability
        gaps = np.minimum(rng.geometric(probability, size=int(expected + 6 * expected**0.5) + 16), n_trials + 1)
        places = position + np.cumsum(gaps)
        found.append(places)
        position = int(places[-1])
    every = np.concatenate(found)
    return every[: np.searchsorted(every, n_trials)]


def arrivals_of(scenario: Scenario) -> Arrivals:
    """The arrival law of a scenario's fault model for one VM.

    Examples:
        >>> from poisonsim.scenario import RateFaults, Scenario
        >>> arrivals_of(Scenario(faults=RateFaults(ue_per_tib_year=0.01))).mean
        0.05
    """
    faults, years = scenario.faults, scenario.horizon.years
    if isinstance(faults, CountFaults):
        return Arrivals(mean=faults.errors, fixed=True)
    per_tib_year = (
        faults.ue_per_tib_year
        if isinstance(faults, RateFaults)
        else faults.scale * load_fault_table(faults.table).ue_per_tib_year(faults.dimm_bytes)
    )
    mean = float(per_tib_year) * (scenario.vm.memory_bytes / TIB) * years
    dispersion = faults.dispersion if faults.dispersion > _LEAST_DISPERSION else 0.0
    return Arrivals(mean=mean, dispersion=dispersion, shape=faults.shape)
