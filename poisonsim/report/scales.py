"""Axes of the figures: where a value goes, and which ticks stand there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log2, log10

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from poisonsim.units import format_bytes

F64 = NDArray[np.float64]

_MOST_OCTAVES = 40
_OCTAVES_PER_TICK = (1, 2, 5, 10, 20)  # 10 octaves are one unit prefix


@dataclass(frozen=True)
class Ticks:
    """Positions on an axis and the texts that stand there."""

    positions: tuple[float, ...]
    texts: tuple[str, ...]


class LogBytes:
    """A logarithmic axis of bytes with a place of its own for nothing, below the smallest value.

    Attributes:
        zero: Position of 0, or None where every value is positive.
        first: Lowest position of a positive value.
        limits: Lowest and highest position.

    Examples:
        >>> axis = LogBytes([0, 4096, 1 << 30])
        >>> axis.ticks(6).texts
        ('0', '32 KiB', '1 MiB', '32 MiB', '1 GiB')
        >>> float(axis.place(1 << 30)), axis.place(0) == axis.zero
        (30.0, np.True_)
    """

    def __init__(self, values: ArrayLike) -> None:
        found = np.asarray(values, float)
        found = found[np.isfinite(found)]
        positive = found[found > 0]
        low, high = (floor(log2(positive.min())), ceil(log2(positive.max()))) if positive.size else (12, 22)
        if high - low < 2:
            low, high = low - 1, high + 1
        self._low, self._high = max(low, high - _MOST_OCTAVES), high
        self.zero = self._low - max(0.12 * (high - self._low), 0.5) if (found <= 0).any() else None
        self.first = float(self._low)
        self.limits = (self.first if self.zero is None else self.zero, float(high))

    def place(self, values: ArrayLike) -> F64:
        """Positions of `values`; what is too small for the axis goes to its lowest place."""
        given = np.asarray(values, float)
        least = 2.0**self._low
        positions = np.log2(np.maximum(given, least))
        lowest = np.where((given <= 0) & (self.zero is not None), self.limits[0], positions)
        return np.asarray(np.where(np.isnan(given), np.nan, lowest))

    def ticks(self, most: int) -> Ticks:
        """At most `most` ticks at powers of two, and one for 0."""
        room = most - (self.zero is not None)
        for step in _OCTAVES_PER_TICK:
            powers = range(-(-self._low // step) * step, self._high + 1, step)
            if len(powers) <= room:
                break
        zero = () if self.zero is None else (self.zero,)
        return Ticks((*zero, *map(float, powers)), (*("0" for _ in zero), *(format_bytes(2.0**p) for p in powers)))


class Decades:
    """A logarithmic axis of plain numbers, over whole powers of ten.

    Attributes:
        limits: Lowest and highest position.

    Examples:
        >>> axis = Decades(0.002, 1)
        >>> axis.limits, axis.ticks(lambda share: f"{100 * share:g} %").texts
        ((-3.0, 0.0), ('0.1 %', '1 %', '10 %', '100 %'))
    """

    def __init__(self, low: float, high: float) -> None:
        self._low = floor(log10(low))
        self._high = max(ceil(log10(high)), self._low + 1)
        self.limits = (float(self._low), float(self._high))

    def place(self, values: ArrayLike) -> F64:
        """Positions of `values`; what is too small for the axis goes to its lowest place."""
        return np.asarray(np.log10(np.maximum(np.asarray(values, float), 10.0**self._low)))

    def ticks(self, text: Callable[[float], str]) -> Ticks:
        """A tick at powers of ten, no more than eight."""
        powers = range(self._low, self._high + 1, ceil((self._high - self._low + 1) / 8))
        return Ticks(tuple(map(float, powers)), tuple(text(10.0**power) for power in powers))


class Linear:
    """A linear axis.

    Attributes:
        limits: Lowest and highest position.

    Examples:
        >>> Linear((0, 0.95)).ticks(6).texts
        ('0', '0.2', '0.4', '0.6', '0.8')
    """

    def __init__(self, limits: tuple[float, float]) -> None:
        self.limits = limits

    @classmethod
    def holding(cls, values: ArrayLike, *, least_high: float = 0.0) -> Linear:
        """An axis that holds 0, every value and `least_high`.

        Examples:
            >>> Linear.holding([-0.5, 1.5]).limits
            (-0.62, 1.62)
        """
        found = np.asarray(values, float)
        found = found[np.isfinite(found)]
        low, high = float(found.min(initial=0.0)), max(float(found.max(initial=0.0)), least_high)
        if high - low < 1e-9:
            low, high = 0.0, 1.0
        margin = 0.06 * (high - low)
        return cls((low - margin if low < 0 else 0.0, high + margin if high > 0 else 0.0))

    def place(self, values: ArrayLike) -> F64:
        """Positions of `values`, which are the values."""
        return np.asarray(values, float)

    def ticks(self, most: int) -> Ticks:
        """About `most` ticks at round values."""
        low, high = self.limits
        values = MaxNLocator(nbins=max(most - 1, 2), steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        return fixed_ticks([v for v in values if low - 1e-12 <= v <= high + 1e-12])


def fixed_ticks(values: Sequence[float]) -> Ticks:
    """Ticks at these values.

    Examples:
        >>> fixed_ticks([-0.5, 0, 0.5]).texts
        ('−0.5', '0', '0.5')
    """
    rounded = [float(f"{value:.10g}") + 0.0 for value in values]
    return Ticks(tuple(rounded), tuple(f"{value:g}".replace("-", "−") for value in rounded))


Scale = LogBytes | Decades | Linear
"""Any of the axes."""
