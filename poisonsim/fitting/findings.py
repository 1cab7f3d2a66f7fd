"""What a fit says: findings with their intervals, refusals with what is missing, checks with their p-values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

from poisonsim.results.statistics import CONFIDENCE, Estimate

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

TAIL = (1 - CONFIDENCE) / 2
DOUBT = 0.01
"""A check with a p-value below this does not hold."""


@dataclass(frozen=True)
class Finding:
    """A number that the log gives.

    Attributes:
        name: What JSON calls it, such as `rate.ue_per_tib_year`.
        label: What a reader calls it.
        estimate: The number with its interval of 95 %.
        counts: What was counted, such as `12 errors in 812 TiB-years`.
        method: How the interval is made.
    """

    name: str
    label: str
    estimate: Estimate
    counts: str
    method: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        e = self.estimate
        return {
            "name": self.name, "label": self.label, "value": e.best, "low": e.low, "high": e.high, "unit": e.unit,
            "counts": self.counts, "method": self.method, "quality": "measured-field",
        }  # fmt: skip


@dataclass(frozen=True)
class Refusal:
    """A number that the log cannot give.

    Attributes:
        name, label: As of a `Finding`.
        why: What keeps it from being said.
        needed: What, or how much more, it would take.
    """

    name: str
    label: str
    why: str
    needed: str

    def to_dict(self) -> dict[str, str]:
        """Plain data for JSON."""
        return {"name": self.name, "label": self.label, "why": self.why, "needed": self.needed}


@dataclass(frozen=True)
class Check:
    """How well a simple law describes the log.

    Attributes:
        name, label: As of a `Finding`.
        law: What was held against the log.
        seen, expected: The same number of the log, and under the law.
        p: Probability under the law of what is at least as far from it.
    """

    name: str
    label: str
    law: str
    seen: float
    expected: float
    p: float

    @property
    def holds(self) -> bool:
        """Whether the log gives no reason to doubt the law."""
        return self.p >= DOUBT

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "name": self.name, "label": self.label, "law": self.law, "seen": self.seen, "expected": self.expected,
            "p": self.p, "holds": self.holds,
        }  # fmt: skip


def poisson(n: int, exposure: float, unit: str) -> Estimate:
    """A rate with its exact interval (F. Garwood, "Fiducial limits for the Poisson distribution", Biometrika 1936).

    Args:
        n: Events seen.
        exposure: How much was watched, in what the rate is per.

    Examples:
        >>> print(poisson(0, 100.0, "per TiB-year"))
        0 (0–0.037) per TiB-year
        >>> print(poisson(10, 100.0, "per TiB-year"))
        0.1 (0.048–0.18) per TiB-year
    """
    low = float(gammaincinv(n, TAIL)) if n else 0.0
    return Estimate(low / exposure, n / exposure, float(gammaincinv(n + 1, 1 - TAIL)) / exposure, unit)


def counted(n: int, one: str, many: str = "") -> str:
    """A number with the word for what it counts.

    Examples:
        >>> counted(1, "host"), counted(1200, "host"), counted(0, "UE of", "UEs of")
        ('1 host', '1,200 hosts', '0 UEs of')
    """
    return f"{n:,} {one if n == 1 else many or one + 's'}"
