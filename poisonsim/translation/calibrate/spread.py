"""A measured figure with the interval that its repeats give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

_REPEATS_TO_DROP_ONE = 8


class Spread(NamedTuple):
    """Median of repeats, and an interval that covers the true median in 93 % of cases or more.

    The interval goes from the least to the most of 5 to 7 repeats; of 8 or more, from the second least to the second
    most.

    Examples:
        >>> Spread.of([3.0, 1.0, 2.0, 9.0, 2.5])
        Spread(low=1.0, mid=2.5, high=9.0)
    """

    low: float
    mid: float
    high: float

    @classmethod
    def of(cls, repeats: Sequence[float] | F64) -> Spread:
        """The spread of repeats, float64[n].

        Examples:
            >>> Spread.of(np.arange(9.0))
            Spread(low=1.0, mid=4.0, high=7.0)
        """
        ranked = np.sort(np.asarray(repeats, dtype=np.float64))
        drop = 1 if ranked.size >= _REPEATS_TO_DROP_ONE else 0
        return cls(float(ranked[drop]), float(np.median(ranked)), float(ranked[-1 - drop]))

    def times(self, factor: float) -> Spread:
        """Every figure multiplied by a positive factor.

        Examples:
            >>> Spread(1.0, 2.0, 3.0).times(2)
            Spread(low=2.0, mid=4.0, high=6.0)
        """
        return Spread(self.low * factor, self.mid * factor, self.high * factor)
