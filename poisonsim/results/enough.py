"""How many trials are enough: for a quantile to be told, and for intervals of means to hold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from poisonsim.faults.strata import Strata

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

LEAST_HIT = 500
"""VMs with faults below which intervals of means are too narrow: 60 to 92 % hold the truth, 93 to 97 from there on."""

MOST_TRIALS_TOLD = 10**9
TAIL_TRIALS = 10  # a quantile is reported only where at least this many trials lie beyond it


def trials_needed(q: float, heaviest: float = 1.0) -> int:
    """Trials below which the `q` quantile is not reported.

    Args:
        heaviest: Probability that a simulated trial stands for at most, times the number of trials; 1 where all
            count alike.

    Examples:
        >>> trials_needed(0.99), trials_needed(0.5)
        (1000, 20)
    """
    return int(np.ceil(TAIL_TRIALS * heaviest / min(q, 1 - q) - 1e-9))


def trials_for_means(strata: Strata) -> int:
    """Trials from which on intervals of means hold the truth as often as they say; told by repeated runs.

    With fewer than 500 VMs that have faults, the rare fault that carries much of a mean may be missing altogether, and
    nothing in the other values tells. Where every trial counts alike, nothing is asked.

    Examples:
        >>> from poisonsim.faults.strata import PLAIN, design
        >>> trials_for_means(design(np.array([[0.95], [0.05]]))), trials_for_means(PLAIN)
        (10000, 1)
    """
    return 1 if strata.plain or not strata.p_any else int(np.ceil(LEAST_HIT / strata.p_any - 1e-6))


def few_for_means(strata: Strata, n_trials: int) -> str:
    """What to say where that many trials are too few for means; empty where they are not, or no number would do.

    Examples:
        >>> from poisonsim.faults.strata import design
        >>> few_for_means(design(np.array([[0.95], [0.05]])), 1000)[-61:]
        'intervals of means hold from 10,000 trials on, raise --trials'
    """
    needed = trials_for_means(strata)
    if n_trials >= needed or needed > MOST_TRIALS_TOLD:
        return ""
    return (
        f"{n_trials:,} trials, only {strata.n_simulated(n_trials):,} of them with faults: rarer faults that carry much "
        f"of a mean may be missing; intervals of means hold from {needed:,} trials on, raise --trials"
    )


def is_certain(q: float, weights: F64) -> bool:
    """Whether the `q` quantile is that of VMs without incidents, whatever the others are like.

    Examples:
        >>> is_certain(0.5, np.array([0.96, 0.04])), is_certain(0.99, np.array([0.96, 0.04]))
        (True, False)
    """
    return len(weights) > 1 and bool(weights[1:].sum() < q <= weights[0])


def is_reported(q: float, weights: F64, n: I64) -> bool:
    """Whether at least 10 trials lie beyond the `q` quantile, even where they are of those that count most.

    Examples:
        >>> is_reported(0.99, np.array([1.0]), np.array([1000])), is_reported(0.99, np.array([1.0]), np.array([999]))
        (True, False)
    """
    each = (weights / np.maximum(n, 1))[min(1, len(weights) - 1) :]
    return is_certain(q, weights) or bool(TAIL_TRIALS * each.max() <= min(q, 1 - q) * (1 + 1e-9))
