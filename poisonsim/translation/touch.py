"""How likely a TLB entry was used lately: touch probabilities of leaves under an access pattern.

Time is counted in accesses. A leaf that covers n popularity units picked at random has the product form
`P(not touched in t) = phi(t)**n`, with phi(t) the mean of `exp(-w t)` over the units' access shares w; seen
from an access, the unit accessed is weighted by its share and the others are not: `phi(t)**(n-1) * psi(t)`
with psi(t) the sum of `w exp(-w t)`. So leaves never have to be listed or binned by popularity.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

LINE_BYTES = 64
"""Bytes a sequential scan moves on with each access: one cache line."""

# Step of the table in ln t; linear interpolation of ln(-ln phi / t) is then good to about 1e-5.
_LOG_STEP = 0.02
_ROWS_AT_ONCE = 128


class Touches(Protocol):
    """Touch probabilities of leaves in one memory; `held` is bytes of the leaf and a time, float64[n] in accesses."""

    def log_untouched(self, held: tuple[int, F64]) -> F64:
        """float64[n]: log probability that the leaf of a random byte went untouched for its time."""
        ...

    def log_missed(self, held: tuple[int, F64]) -> F64:
        """float64[n]: log probability that an access finds its leaf untouched for its time."""
        ...


class Scattered:
    """Independent accesses to units of memory whose popularities lie anywhere; uniform inside a unit.

    Args:
        memory_bytes: Memory the units fill.
        n_units: float64[k], units in each popularity bin.
        weights: float64[k], access share of one unit of each bin; `n_units @ weights` is 1.

    Examples:
        >>> touches = Scattered(1 << 30, np.array([512.0]), np.array([1 / 512]))
        >>> np.exp(touches.log_untouched((1 << 21, np.array([512.0])))).round(4)
        array([0.3679])
    """

    def __init__(self, memory_bytes: int, n_units: F64, weights: F64) -> None:
        self.n_units, self.weights = n_units, weights
        self.unit_bytes = memory_bytes / float(n_units.sum())
        # From where every unit is as good as untouched to where the rarest is touched for certain.
        self._log_t = np.arange(np.log(1e-5 / weights.max()), np.log(750.0 / weights.min()), _LOG_STEP)
        shares = np.stack([n_units / n_units.sum(), n_units * weights], axis=1)
        self._log_rates = np.log(_minus_log_mean(np.exp(self._log_t), weights, shares)).T - self._log_t

    def log_untouched(self, held: tuple[int, F64]) -> F64:
        """float64[n]: log probability that the leaf of a random byte went untouched for its time."""
        return self._log(*held, own=0)

    def log_missed(self, held: tuple[int, F64]) -> F64:
        """float64[n]: log probability that an access finds its leaf untouched for its time."""
        return self._log(*held, own=1)

    def _minus_log(self, which: int, t: F64) -> F64:
        # The table holds -log / t, which is flat at both ends: np.interp's clamping is the right limit there.
        return np.asarray(t * np.exp(np.interp(np.log(t), self._log_t, self._log_rates[which])))

    def _log(self, leaf_bytes: int, t: F64, own: int) -> F64:
        result = -self._minus_log(own, min(self.unit_bytes, leaf_bytes) / self.unit_bytes * t)
        n_others = max(0.0, leaf_bytes - self.unit_bytes) / self.unit_bytes
        return result - n_others * self._minus_log(0, t) if n_others > 0 else result


def _minus_log_mean(t: F64, weights: F64, shares: F64) -> F64:
    """float64[n, m]: -log(exp(-t w) @ shares), exact in relative terms for tiny and for huge t alike."""
    result = np.empty((t.size, shares.shape[1]))
    for start in range(0, t.size, _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        exponent = -np.multiply.outer(t[rows], weights)
        touched = -np.expm1(exponent) @ shares
        small = -np.log1p(-np.minimum(touched, 0.5))
        if touched.max() <= 0.5:
            result[rows] = small
            continue
        # Past one half the difference from 1 loses digits: sum what is left, relative to the rarest unit.
        rarest = exponent.max(axis=1, keepdims=True)
        large = -rarest - np.log(np.exp(exponent - rarest) @ shares)
        result[rows] = np.where(touched <= 0.5, small, large)
    return result


class Scan:
    """One pass after another over all memory, one cache line per access.

    Args:
        memory_bytes: Memory one pass covers.

    Examples:
        >>> np.exp(Scan(1 << 20).log_missed((4096, np.array([100.0])))) * 4096 / 64
        array([1.])
    """

    def __init__(self, memory_bytes: int) -> None:
        self._accesses_per_pass = memory_bytes / LINE_BYTES

    def log_untouched(self, held: tuple[int, F64]) -> F64:
        """float64[n]: log share of memory that the scan has not passed within the time."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log1p(-np.minimum(1.0, held[1] / self._accesses_per_pass)))

    def log_missed(self, held: tuple[int, F64]) -> F64:
        """float64[n]: log share of accesses that enter a leaf, if leaves are not kept for a whole pass."""
        leaf_bytes, t = held
        return np.where(t < self._accesses_per_pass, np.log(min(1.0, LINE_BYTES / leaf_bytes)), -np.inf)
