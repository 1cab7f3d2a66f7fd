"""How many uncorrected errors (UEs) a VM sees in its life, and with which hazard over time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from poisonsim.faults.field import field_model
from poisonsim.faults.strata import MOST, PLAIN, Drawn, Strata, TabulatedCounts, design, pmf_of_counts
from poisonsim.scenario import CountFaults, RateFaults, Scenario
from poisonsim.units import TIB

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

# Above this mean a law that leaves most VMs alone has a tail too long to be listed, and sampling is plain.
_LONGEST_MEAN = 100.0

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

    def pmf(self) -> F64:
        """P(n UEs) from n = 0, to a negligible tail: float64[m].

        Examples:
            >>> Arrivals(mean=0.05).pmf()[:3].round(6).tolist()
            [0.951229, 0.047561, 0.001189]
        """
        if self.fixed:
            return np.append(np.zeros(int(self.mean)), 1.0)
        return pmf_of_counts(self.mean, self.dispersion)

    @property
    def strata(self) -> Strata:
        """How trials are shared out: plain where most VMs see a UE, else by their number.

        Examples:
            >>> Arrivals(mean=0.05).strata.count.tolist(), Arrivals(mean=100, fixed=True).strata.plain
            ([0, 1, 2, 3, 4, 5, 6, 7], True)
        """
        return _strata(self)

    def draw_counts(self, rng: np.random.Generator, n_trials: int, block: int) -> Drawn:
        """The trials of a block that see any UE, and how many.

        Where few VMs are hit, `strata` says which trials those are; all others cost nothing.
        """
        if not self.strata.plain:
            return self.strata.draw(rng, n_trials, block)
        if self.p_any == 0:
            hit = count = np.empty(0, np.int64)
        elif self.fixed:
            hit, count = np.arange(n_trials), np.full(n_trials, int(self.mean))
        else:
            rates: float | F64 = self.mean
            if self.dispersion > 0:
                rates = self.mean * self.dispersion * rng.standard_gamma(1 / self.dispersion, n_trials)
            every = rng.poisson(rates, n_trials)
            hit = np.flatnonzero(every)
            count = every[hit]
        return Drawn(hit, count, None, np.zeros(len(hit), np.int64))


@cache
def _strata(arrivals: Arrivals) -> Strata:
    if arrivals.fixed or arrivals.p_any > MOST or arrivals.mean > _LONGEST_MEAN:
        return PLAIN
    return design(arrivals.pmf()[:, None])


def arrivals_of(scenario: Scenario) -> Arrivals | TabulatedCounts:
    """How many incidents a VM of a scenario meets: UEs, or where the model is `field`, faults that lead to them.

    Examples:
        >>> from poisonsim.scenario import RateFaults, Scenario
        >>> arrivals_of(Scenario(faults=RateFaults(ue_per_tib_year=0.01))).mean
        0.05
    """
    faults = scenario.faults
    if isinstance(faults, CountFaults):
        return Arrivals(mean=faults.errors, fixed=True)
    if isinstance(faults, RateFaults):
        mean = faults.ue_per_tib_year * (scenario.vm.memory_bytes / TIB) * scenario.horizon.years
        dispersion = faults.dispersion if faults.dispersion > _LEAST_DISPERSION else 0.0
        return Arrivals(mean=mean, dispersion=dispersion, shape=faults.shape)
    return field_model(scenario).counts
