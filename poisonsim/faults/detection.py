"""Detection: a bad cache line is found by the patrol scrub or by the next read, whichever comes first.

Patrol reaches it after a time uniform over one pass; reads of a line are a Poisson process whose rate is log-normal
over lines. Found by a read, the error is action required (AR), the reader must stop; found by patrol, action optional
(AO).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from poisonsim.units import HOURS_PER_YEAR

F64 = NDArray[np.float64]

_N_RATES = 1024  # equally likely classes of how often a line is read
PER_UNIT = 32
"""Entries of `Detection.tables` per unit of -log(share still unfound)."""
_UNITS = 40


@dataclass(frozen=True)
class Detection:
    """How bad lines are found.

    Args:
        patrol_years: Time of one patrol pass over all memory.
        reads_per_hour: Median number of times that memory is read at a cache line, per hour.
        spread: Standard deviation of the logarithm of that rate between lines.

    Examples:
        >>> day = 1 / 365.25
        >>> round(Detection(patrol_years=day, reads_per_hour=0.32, spread=2.3).p_ar, 3)
        0.72
        >>> round(Detection(patrol_years=day, reads_per_hour=3.5 / 24, spread=0.0).p_ar, 3)  # 1 - (1 - exp(-3.5)) / 3.5
        0.723
    """

    patrol_years: float
    reads_per_hour: float
    spread: float

    @property
    def reads_per_year(self) -> float:
        """Median reads of a line per year."""
        return self.reads_per_hour * HOURS_PER_YEAR

    @property
    def mean_reads_per_year(self) -> float:
        """Mean reads of a line per year, which the busiest lines decide."""
        return float(self.reads_per_year * np.exp(self.spread**2 / 2))

    @cached_property
    def _rates(self) -> F64:
        """Reads per year of equally likely classes of lines: float64[_N_RATES]."""
        quantiles = ndtri((np.arange(_N_RATES) + 0.5) / _N_RATES)
        rates: F64 = self.reads_per_year * np.exp(self.spread * quantiles)
        return rates

    @cached_property
    def p_ar(self) -> float:
        """Probability that a bad line is found by a read."""
        x = self._rates * self.patrol_years
        small = x < 1e-6
        return float(np.mean(np.where(small, x / 2, 1 + np.expm1(-x) / np.where(small, 1, x))))

    def p_unfound(self, years: F64) -> F64:
        """Probability that a bad line is still not found after `years`: float64[n].

        Examples:
            >>> Detection(1.0, 0.0, 0.0).p_unfound(np.array([0.0, 0.25, 2.0])).tolist()
            [1.0, 0.75, 0.0]
        """
        unread = np.exp(-np.outer(years, self._rates)).mean(axis=1)
        unscrubbed: F64 = np.clip(1 - np.asarray(years) / self.patrol_years, 0, 1)
        unfound: F64 = unscrubbed * unread
        return unfound

    @cached_property
    def tables(self) -> tuple[F64, F64]:
        """Years until found, and the share of AR among lines found then, by -log of the share still unfound.

        Entry i of both stands for -log(share) = i / `PER_UNIT`; float64[n].
        """
        least = min(1e-6 / self._rates[-1] if self._rates[-1] > 0 else 1.0, 1e-6 * self.patrol_years)
        years = np.concatenate(([0.0], np.geomspace(least, self.patrol_years, 4096)))
        hazard = -np.log(np.maximum(self.p_unfound(years), 1e-300))
        at = np.arange(_UNITS * PER_UNIT + 1) / PER_UNIT
        found = np.interp(at, hazard, years)
        decayed = np.exp(-np.outer(found, self._rates))
        by_read = np.clip(1 - found / self.patrol_years, 0, 1) * (decayed * self._rates).mean(axis=1)
        by_patrol = decayed.mean(axis=1) / self.patrol_years
        total = by_read + by_patrol
        ar: F64 = np.divide(by_read, total, out=np.zeros_like(total), where=total > 0)
        return found, ar
