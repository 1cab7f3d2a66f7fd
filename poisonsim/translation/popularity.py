"""How often leaves of one size are accessed, as a few classes of equal rates; what a two-level TLB does with them.

Time is counted in accesses. A leaf may be held by entries of another size: pieces of it, where a level has no entry as
large. A *piece* is the smaller of the two entries that the levels hold a leaf as; rates are those of pieces.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from poisonsim.units import page_bytes

from .access import AccessPattern, HotCold, Sequential, Uniform, Zipf
from .touch import F64, LINE_BYTES, Scattered

# Classes of a table of popularities keep this width in ln(rate), fitted ones this distance.
_CLASS_WIDTH = 0.15
_FIT_WIDTH = 0.08
_FIT_STEP = 0.15
_FIT_FLOOR = 1e-4
_CLOSE_TO_ONE = 1e-3


class Population(Protocol):
    """Leaves that the first level holds as `size1` and the second as `size2`; all times are float64, in accesses."""

    @property
    def size1(self) -> int: ...
    @property
    def size2(self) -> int: ...
    @property
    def n_classes(self) -> int: ...

    def touched(self, t: F64) -> F64:
        """Share of the first-level entries touched within t, and so held by an array that keeps them for t."""
        ...

    def missed(self, t: F64) -> F64:
        """Chance that an access finds its first-level entry untouched for t."""
        ...

    def behind(self, t1: F64, t2: F64, exclusive: bool) -> Behind:
        """What a second level that keeps entries for t2 does behind a first that keeps them for t1."""
        ...


@dataclass(frozen=True)
class Behind:
    """A second level behind a first.

    Args:
        present: Share of the second-level entries held.
        crowding: Mean of the squared chance to be held, over the mean chance: near 1 where the same ones always are.
        missed: Chance that an access misses both levels.
        absent: Share of the bytes that neither level translates.
        reused: Integral over `missed`, from 0, of the chance that an entry is held that is next accessed after t2:
            between two t2, the difference over that of `missed` is the mean chance of the entries accessed then.
    """

    present: F64
    crowding: F64
    missed: F64
    absent: F64
    reused: F64


@dataclass(frozen=True, eq=False)
class RandomPopulation:
    """Leaves accessed independently at random, at rates that differ.

    Args:
        size1: Bytes of their first-level entries.
        size2: Bytes of their second-level entries.
        shares: float64[k], share of the pieces in each class; adds up to 1.
        rates: float64[k], accesses to one piece of the class, per access.
        unit_bytes: Bytes in which all pieces have one rate, independent of that of other such units.

    Examples:
        >>> leaves = RandomPopulation(1 << 30, 1 << 30, np.ones(1), np.array([1 / 128]))
        >>> leaves.missed(np.array([128.0])).round(4)
        array([0.3679])
    """

    size1: int
    size2: int
    shares: F64
    rates: F64
    unit_bytes: float = 4096.0

    @property
    def n_classes(self) -> int:
        """Classes of different rates."""
        return self.rates.size

    def touched(self, t: F64) -> F64:
        """Share of the first-level entries touched within t."""
        return _weighed(-np.expm1(self._log_untouched1(t[..., None])), self.shares)

    def missed(self, t: F64) -> F64:
        """Chance that an access finds its first-level entry untouched for t."""
        return _weighed(np.exp(self._log_untouched1(t[..., None])), self._access_shares)

    def behind(self, t1: F64, t2: F64, exclusive: bool) -> Behind:
        """What a second level does behind a first; of an exclusive one t2 counts from the access, not from the fill.

        An inclusive second level sees the misses of the first only: an entry is used there when its page is accessed
        after a pause of t1 or longer.
        """
        t1, t2 = t1[..., None], t2[..., None]
        absent1, x, y = np.exp(self._log_untouched1(t1)), self.rates * t1, self.rates * t2
        later = np.maximum(y - x, 0.0)
        variance: F64 | float = 0.0
        if exclusive:
            absent_both = np.exp(-np.maximum(x, y))
            present = np.maximum(absent1 - absent_both, 0.0)
        elif self.size1 > self.size2:
            unused, absent_both = np.exp(-absent1 * y), absent1 * np.exp(-absent1 * later)
            present = 1.0 - unused
        else:
            unused = unrefilled(x, y)
            neighbours, spread = self._neighbours_unused(unused)
            variance = unused**2 * spread
            present = 1.0 - unused * neighbours
            absent_both = absent1 * unrefilled(x, later) * neighbours
        mean = _weighed(present, self.shares)
        square = _weighed(present**2 + variance, self.shares)
        crowding = np.divide(square, mean, out=np.zeros_like(mean), where=mean > 0)
        missed = _weighed(absent_both, self._access_shares)
        # Held is what was used, in the second level: 1 - absent_both / absent1, and absent1 less where it is exclusive.
        held = absent1 - 0.5 * absent_both if exclusive else 1.0 - 0.5 * absent_both / np.maximum(absent1, 1e-300)
        reused = _weighed(absent_both * held, self._access_shares)
        return Behind(mean, crowding, missed, _weighed(absent_both, self.shares), reused)

    def _neighbours_unused(self, unused: F64) -> tuple[F64 | float, F64 | float]:
        """Chance that the other first-level pieces of a second-level entry brought it no access, `unused` for one.

        Also the variance of that chance, as the rates of those that share an entry are a matter of chance.
        """
        if self.size1 == self.size2:
            return 1.0, 0.0
        alike = unused ** (self._alike - 1.0)
        if not self._others:
            return alike, 0.0
        one, squared = _weighed(unused, self.shares), _weighed(unused**2, self.shares)
        mean, square = one**self._others, squared**self._others
        return alike * mean[..., None], alike**2 * np.maximum(square - mean**2, 0.0)[..., None]

    def _log_untouched1(self, t: F64) -> F64:
        """float64[..., k]: log chance that the first-level entry of a piece went untouched for t."""
        if self.size1 <= self.size2:
            return -self.rates * t
        result = -self._alike * self.rates * t
        if self._others:
            untouched = _weighed(np.exp(-self.rates * t), self.shares)
            result = result + self._others * np.log(np.maximum(untouched, 1e-300))[..., None]
        return result

    @property
    def _alike(self) -> float:
        """Pieces of a larger entry that share one rate."""
        return max(1.0, min(max(self.size1, self.size2), self.unit_bytes) / min(self.size1, self.size2))

    @property
    def _others(self) -> float:
        """Further pieces of a larger entry, of rates of their own."""
        return max(self.size1, self.size2) / min(self.size1, self.size2) - self._alike

    @property
    def _access_shares(self) -> F64:
        weighted = self.shares * self.rates
        return np.asarray(weighted / weighted.sum())


@dataclass(frozen=True, eq=False)
class ScanPopulation:
    """Leaves that a scan of memory passes one after another, a cache line per access.

    Args:
        size1: Bytes of their first-level entries.
        size2: Bytes of their second-level entries.
        accesses_per_pass: Accesses of one pass over all memory.

    Examples:
        >>> ScanPopulation(4096, 4096, 1 << 20).missed(np.array([100.0])) * 4096 / 64
        array([1.])
    """

    size1: int
    size2: int
    accesses_per_pass: float

    @property
    def n_classes(self) -> int:
        """All leaves are alike."""
        return 1

    def touched(self, t: F64) -> F64:
        """Share of the entries passed within t."""
        return np.minimum(1.0, t / self.accesses_per_pass)

    def missed(self, t: F64) -> F64:
        """Share of the accesses that enter an entry's bytes, if entries do not last a whole pass."""
        return np.where(t < self.accesses_per_pass, min(1.0, LINE_BYTES / self.size1), 0.0)

    def behind(self, t1: F64, t2: F64, exclusive: bool) -> Behind:
        """The same of the second level, which every leaf reaches once per pass."""
        lasting = np.maximum(t1, t2)
        held1, held2 = self.touched(t1), self.touched(np.maximum(t1, t2) if exclusive else t2)
        present = held2 - held1 if exclusive else held2
        missed = np.where(lasting < self.accesses_per_pass, min(1.0, LINE_BYTES / max(self.size1, self.size2)), 0.0)
        return Behind(present, present, missed, 1.0 - self.touched(lasting), missed)


def _weighed(values: F64, weights: F64) -> F64:
    """Sum over the last axis, to the last bit the same whatever else is summed at once, as matrix products are not."""
    return np.asarray((values * weights).sum(axis=-1))


def unrefilled(x: F64, y: F64) -> F64:
    """Chance that an entry's first level is not refilled in y, when it keeps an entry for x without access.

    Both are in mean times between accesses to the entry, which come at random. Refills begin the busy periods of a
    queue M/D/∞, so the chance Q obeys `Q'(y) = -exp(-x) Q(y - x)`, solved piece by piece to 3 x and, beyond, by the two
    real roots of its characteristic equation, of which 1 is one.

    Args:
        x: float64, of a shape that broadcasts with that of `y`.
        y: float64.

    Examples:
        >>> unrefilled(np.array([0.0, 1.5, 5.0]), np.array([2.0, 1.5, 2.0])).round(4)
        array([0.1353, 0.6653, 0.9865])
    """
    from scipy.special import lambertw

    # At x = 1 the roots meet, and close to it their terms cancel.
    x = np.where(np.abs(x - 1.0) < _CLOSE_TO_ONE, 1.0 + np.where(x < 1, -_CLOSE_TO_ONE, _CLOSE_TO_ONE), x)
    x = np.clip(x, 1e-6, 600.0)
    root = -lambertw(-x * np.exp(-x), np.where(x < 1, -1, 0)).real / x
    root = np.where(np.isfinite(root), root, 1e9)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        rate = np.exp(-x)
        soon = 1.0 - rate * y + 0.5 * (rate * np.maximum(y - x, 0.0)) ** 2
        soon = soon - (rate * np.maximum(y - 2 * x, 0.0)) ** 3 / 6
        late = np.exp(-x - y) / (1.0 - x) + np.exp(-root * (x + y)) / (1.0 - root * x)
        return np.asarray(np.clip(np.where(y <= 3 * x, soon, late), 0.0, 1.0))


def population(access: AccessPattern, memory_bytes: int, size1: int, size2: int) -> Population:
    """The leaves of one memory that the levels hold as these sizes.

    Examples:
        >>> leaves = population(Uniform(), 1 << 40, 1 << 30, 1 << 30)
        >>> leaves.touched(np.array([1024.0])).round(4)
        array([0.6321])
    """
    if isinstance(access, Sequential):
        return ScanPopulation(size1, size2, memory_bytes / LINE_BYTES)
    inner = min(size1, size2)
    if isinstance(access, Uniform):
        return RandomPopulation(size1, size2, np.ones(1), np.array([inner / memory_bytes]), memory_bytes)
    return RandomPopulation(size1, size2, *_classes(access, memory_bytes, inner), page_bytes(access.over))


@functools.lru_cache(maxsize=64)
def _classes(access: Zipf | HotCold, memory_bytes: int, size: int) -> tuple[F64, F64]:
    """Shares and rates, float64[k] each, of a memory's pieces of one size."""
    touches = _touches(access, memory_bytes)
    if size <= touches.unit_bytes:
        shares, rates = touches.n_units / touches.n_units.sum(), touches.weights * size / touches.unit_bytes
        return merged(shares, rates)
    return _fitted(touches, size, size / memory_bytes)


@functools.lru_cache(maxsize=16)
def _touches(access: Zipf | HotCold, memory_bytes: int) -> Scattered:
    touches = access.touches(memory_bytes)
    assert isinstance(touches, Scattered)
    return touches


def merged(shares: F64, rates: F64, width: float = _CLASS_WIDTH) -> tuple[F64, F64]:
    """Classes of a width in ln(rate), each with the mean rate of its members; shares as given.

    Examples:
        >>> merged(np.array([0.5, 0.25, 0.25]), np.array([1.0, 1.01, 9.0]))
        (array([0.75, 0.25]), array([1.00333333, 9.        ]))
    """
    bins = np.floor(np.log(rates / rates.min()) / width + 1e-9).astype(np.int64)
    total = np.bincount(bins, shares).astype(np.float64)
    weighted = np.bincount(bins, shares * rates)
    used = total > 0
    return total[used], weighted[used] / total[used]


def _fitted(touches: Scattered, size: int, mean: float) -> tuple[F64, F64]:
    """Classes whose touch functions are those of leaves of many units each, drawn at random."""
    from scipy.optimize import nnls

    units = size / touches.unit_bytes
    low, high = 0.9 * units * touches.weights.min(), min(1.0, 2 * (touches.weights.max() + mean))
    steps = np.arange(np.floor(np.log(low / mean) / _FIT_WIDTH), np.ceil(np.log(high / mean) / _FIT_WIDTH) + 1)
    rates = mean * np.exp(_FIT_WIDTH * steps)
    t = np.exp(np.arange(np.log(1e-2 / high), np.log(20.0 / low), _FIT_STEP))
    untouched = np.exp(touches.log_untouched((size, t)))
    missed = np.exp(touches.log_missed((size, t)))
    left = np.exp(-np.multiply.outer(t, rates))
    rows = np.concatenate((left, left * (rates / mean)))
    wanted = np.concatenate((untouched, missed))
    weights = 1.0 / np.maximum(wanted, _FIT_FLOOR)
    shares, _ = nnls(rows * weights[:, None], wanted * weights, maxiter=50 * rates.size)
    used = shares > 1e-12
    shares, rates = shares[used], rates[used]
    shares = shares / shares.sum()
    return shares, rates * (mean / (shares @ rates))
