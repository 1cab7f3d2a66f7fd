"""Intervals worked out in another way than the package does."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats


def of_a_mean(values: ArrayLike) -> tuple[float, float]:
    """Ends of Hall's interval of the mean of values that count alike."""
    x = np.asarray(values, float)
    return by_moments(float(x.mean()), float(x.var(ddof=1)) / len(x), float(((x - x.mean()) ** 3).mean()) / len(x) ** 2)


def by_moments(mean: float, variance: float, third: float) -> tuple[float, float]:
    """The same from the variance and the third cumulant of the estimate, by the roots of Hall's cubic."""
    error = variance**0.5
    if error == 0:
        return mean, mean
    skew = third / error**3

    def cubic(t: float, z: float) -> float:
        return t + skew * t**2 / 3 + skew**2 * t**3 / 27 + skew / 6 - z

    ends = [optimize.brentq(cubic, -1e3, 1e3, args=(z,), xtol=1e-13) for z in stats.norm.ppf([0.975, 0.025])]
    return mean - error * ends[0], mean - error * ends[1]
