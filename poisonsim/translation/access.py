"""Access patterns: which part of the VM's memory the workload touches, and how often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from poisonsim.errors import ScenarioError, did_you_mean
from poisonsim.units import page_bytes

from .touch import F64, Scan, Scattered, Touches

_OVER = ("4K", "1G")
_MAX_ALPHA = 3.0
# Ranks summed one by one; later ones share bins this wide in ln(rank), weighed by the integral of the power law.
_EXACT_RANKS = 1000
_LOG_RANK_STEP = 0.02


def _check_number(where: str, value: float, allowed: str, ok: bool) -> None:
    if not ok:
        raise ScenarioError(f"{where}: {value!r} is out of range; allowed: {allowed}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_over(where: str, over: str) -> None:
    if over not in _OVER:
        raise ScenarioError(
            f"{where}: over = {over!r} is no popularity grain; allowed: {', '.join(_OVER)}{did_you_mean(over, _OVER)}"
        )


def _n_units(memory_bytes: int, over: str) -> int:
    return max(1, round(memory_bytes / page_bytes(over)))


@dataclass(frozen=True)
class Uniform:
    """Every byte equally likely at every access: the pessimistic bound.

    Examples:
        >>> touches = Uniform().touches(1 << 40)
        >>> np.exp(touches.log_missed((1 << 30, np.array([1024.0])))).round(4)
        array([0.3679])
    """

    def touches(self, memory_bytes: int) -> Touches:
        """Log non-touch functions of any leaf of a memory of `memory_bytes`, vectorised over time."""
        n_units = float(_n_units(memory_bytes, "4K"))
        return Scattered(memory_bytes, np.array([n_units]), np.array([1.0 / n_units]))


@dataclass(frozen=True)
class Zipf:
    """Popularity falls as rank to the power `-alpha`; ranks are scattered over memory at random.

    Args:
        alpha: Exponent, 0 (uniform) to 3. YCSB uses 0.99.
        over: What is ranked: `"4K"` base pages, or `"1G"` regions with uniform access inside.

    Raises:
        ScenarioError: `alpha` or `over` out of range.

    Examples:
        >>> Zipf(4)
        Traceback (most recent call last):
        ...
        poisonsim.errors.ScenarioError: zipf alpha: 4 is out of range; allowed: 0 to 3
    """

    alpha: float = 0.99
    over: str = "4K"

    def __post_init__(self) -> None:
        ok = _is_number(self.alpha) and 0 <= self.alpha <= _MAX_ALPHA
        _check_number("zipf alpha", self.alpha, f"0 to {_MAX_ALPHA:g}", ok)
        _check_over("zipf", self.over)

    def touches(self, memory_bytes: int) -> Touches:
        """Log non-touch functions of any leaf of a memory of `memory_bytes`, vectorised over time."""
        return Scattered(memory_bytes, *zipf_bins(_n_units(memory_bytes, self.over), self.alpha))


@dataclass(frozen=True)
class HotCold:
    """A share of all accesses goes to a small hot part of memory, the rest to the cold part; uniform in each.

    Args:
        hot: Hot part of memory, above 0 and below 1.
        share: Part of the accesses that go there, above 0 and below 1.
        over: Grain in which the hot part is scattered: `"4K"` base pages or `"1G"` regions.

    Raises:
        ScenarioError: A number out of range or an unknown grain.

    Examples:
        >>> HotCold(hot=0.2, share=0.8).over
        '4K'
    """

    hot: float = 0.1
    share: float = 0.9
    over: str = "4K"

    def __post_init__(self) -> None:
        for key, value in (("hot", self.hot), ("share", self.share)):
            _check_number(f"hot-cold {key}", value, "above 0 and below 1", _is_number(value) and 0 < value < 1)
        _check_over("hot-cold", self.over)

    def touches(self, memory_bytes: int) -> Touches:
        """Log non-touch functions of any leaf of a memory of `memory_bytes`, vectorised over time."""
        n_units = _n_units(memory_bytes, self.over)
        if n_units == 1:
            return Uniform().touches(memory_bytes)
        n_hot = min(max(round(self.hot * n_units), 1), n_units - 1)
        counts = np.array([n_hot, n_units - n_hot], dtype=np.float64)
        return Scattered(memory_bytes, counts, np.array([self.share, 1 - self.share]) / counts)


@dataclass(frozen=True)
class Sequential:
    """One pass after another over all memory, a cache line per access: one walk per leaf passed.

    Examples:
        >>> 4096 * np.exp(Sequential().touches(1 << 40).log_missed((4096, np.array([5.0])))).round(9)
        array([64.])
    """

    def touches(self, memory_bytes: int) -> Touches:
        """Log non-touch functions of any leaf of a memory of `memory_bytes`, vectorised over time."""
        return Scan(memory_bytes)


AccessPattern: TypeAlias = Uniform | Zipf | HotCold | Sequential


def zipf_bins(n_units: int, alpha: float) -> tuple[F64, F64]:
    """Units in each popularity bin and the access share of one unit, float64[k] each; shares sum to 1.

    Args:
        n_units: Units ranked, up to 2**36 and beyond.
        alpha: Exponent of the power law.

    Examples:
        >>> counts, weights = zipf_bins(1 << 28, 0.99)
        >>> int(counts.sum()) == 1 << 28, round(float(counts @ weights), 12), counts.size < 2000
        (True, 1.0, True)
    """
    n_exact = min(n_units, _EXACT_RANKS)
    counts, weights = [np.ones(n_exact)], [np.arange(1, n_exact + 1, dtype=np.float64) ** -alpha]
    if n_units > n_exact:
        n_bins = int(np.ceil(np.log(n_units / n_exact) / _LOG_RANK_STEP))
        edges = np.unique(np.rint(np.geomspace(n_exact, n_units, n_bins + 1)))
        counts.append(np.diff(edges))
        # Rank r stands for the interval r ± ½: the midpoint rule, good to 1e-7 past rank 1000.
        low, high = edges[:-1] + 0.5, edges[1:] + 0.5
        power = 1.0 - alpha
        log_ratio = np.log(high / low)
        weights.append(low**power * (np.expm1(power * log_ratio) / power if power else log_ratio) / counts[-1])
    all_counts, all_weights = np.concatenate(counts), np.concatenate(weights)
    return all_counts, all_weights / (all_counts @ all_weights)
