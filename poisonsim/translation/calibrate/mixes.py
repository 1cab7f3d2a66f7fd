"""The slowdown of memory mapped partly with smaller leaves: measured, and predicted from the measured profile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from poisonsim.translation.access import AccessPattern, HotCold, Uniform, Zipf
from poisonsim.translation.cpus import Cpu
from poisonsim.translation.model import Translator
from poisonsim.units import page_bytes

from .areas import Area
from .spread import F64, Spread
from .sweeps import Effort, WalkCost
from .timing import I64, Timer, at_random_lines, joined

PATTERNS: Mapping[str, AccessPattern] = {
    "uniform": Uniform(),
    "zipf 0.99": Zipf(0.99, over="4K"),
    "hot/cold 10/90": HotCold(0.1, 0.9, over="4K"),
}
"""Access patterns that are chased, all of them over 4K pages scattered at random."""

TOLERANCE = 0.15
"""Relative difference between measured and predicted above which a row needs a reason."""

_FRACTIONS = (0.1, 0.25, 0.5, 0.75, 1.0)
_PTES_PER_LINE = 8
_HALVINGS = 30


@dataclass(frozen=True)
class Mix:
    """Slowdown of one mixed mapping against the same memory in its base leaf size.

    Attributes:
        base: Leaf size of the area.
        part: Leaf size of the part that replaces some of it.
        pattern: Key in `PATTERNS`.
        fraction: Part replaced, 0 to 1.
        measured: Run time relative to the unmixed mapping, paired by round.
        predicted: The same from the profile; the interval is that of the walk costs.
        reason: Why the two differ by more than `TOLERANCE`; empty where they do not.

    Examples:
        >>> Mix("1G", "4K", "uniform", 1.0, Spread(1.4, 1.5, 1.6), Spread(1.4, 1.5, 1.6), "").difference
        0.0
    """

    base: str
    part: str
    pattern: str
    fraction: float
    measured: Spread
    predicted: Spread
    reason: str

    @property
    def difference(self) -> float:
        """Predicted relative to measured, less 1."""
        return self.predicted.mid / self.measured.mid - 1


def page_weights(pattern: AccessPattern, n_pages: int, rng: np.random.Generator) -> F64:
    """Access share of each 4K page, float64[n_pages], popular pages scattered at random.

    Examples:
        >>> weights = page_weights(HotCold(0.5, 0.9), 4, np.random.default_rng(1))
        >>> sorted(weights.round(2).tolist())
        [0.05, 0.05, 0.45, 0.45]
    """
    if isinstance(pattern, Zipf):
        weights = np.arange(1, n_pages + 1, dtype=np.float64) ** -pattern.alpha
    elif isinstance(pattern, HotCold):
        n_hot = max(1, round(pattern.hot * n_pages))
        weights = np.full(n_pages, (1 - pattern.share) / (n_pages - n_hot))
        weights[:n_hot] = pattern.share / n_hot
    else:
        weights = np.ones(n_pages)
    return np.asarray(rng.permutation(weights / weights.sum()))


class MixChase:
    """A chase over an area in which some units are mapped with smaller leaves.

    Both areas are mapped all the time. A unit (a region of 1 GiB where the base has 1G leaves, else 2 MiB) that is
    replaced is visited in the other area.

    Args:
        base: Memory in the base leaf size.
        part: As much memory in smaller leaves.
        size_bytes: How much of both is used.
        pattern: Key in `PATTERNS`.
        rng: Draws popular pages and the order in which units are replaced.
    """

    def __init__(self, base: Area, part: Area, size_bytes: int, pattern: str, rng: np.random.Generator) -> None:
        self.base, self.part, self.pattern, self.size_bytes = base.leaf, part.leaf, pattern, size_bytes
        self._words, self._at_base, self._at_part = joined(base, part)
        self._unit_pages = page_bytes(base.leaf) // page_bytes("4K")
        self._n_pages = size_bytes // page_bytes("4K")
        self._n_units = n_units = self._n_pages // self._unit_pages
        self.weights = page_weights(PATTERNS[pattern], self._n_pages, rng)
        self._cumulative = np.cumsum(self.weights)
        self._rank = rng.permutation(n_units)
        self.fractions = (0.0, *sorted({round(f * n_units) / n_units for f in _FRACTIONS} - {0.0}), 0.0)
        """Parts replaced: 0 first, and once more last, the null control."""

    def time(self, timer: Timer, effort: Effort, rng: np.random.Generator) -> F64:
        """One round: nanoseconds per load at every fraction, float64[n_fractions].

        The order of pages is the same at every fraction, with other cache lines; the order of fractions is random.
        """
        draws = rng.random(effort.n_warm + effort.n_timed) * self._cumulative[-1]
        pages: I64 = np.minimum(np.searchsorted(self._cumulative, draws, side="right"), self._n_pages - 1)
        times = np.zeros(len(self.fractions))
        for column in rng.permutation(times.size):
            replaced = self._rank[pages // self._unit_pages] < round(self.fractions[column] * self._n_units)
            offsets = at_random_lines(pages, rng) + np.where(replaced, self._at_part, self._at_base).astype(np.uint64)
            times[column] = timer.loads(self._words, offsets, effort.n_warm)
        return times


def resolution(times_ns: F64) -> float:
    """Least slowdown that is told from none: how far the interval of the null control reaches from 1.

    Args:
        times_ns: float64[n_rounds, n_fractions], first and last without replaced units.

    Examples:
        >>> resolution(np.array([[1.0, 2.0, 1.1]] * 5))
        0.1
    """
    null = Spread.of(times_ns[:, -1] / times_ns[:, 0])
    return round(max(abs(null.low - 1), abs(null.high - 1)), 4)


@dataclass(frozen=True)
class Profile:
    """What predictions rest on.

    Attributes:
        cpu: TLB arrays.
        held_as: Size of the TLB entry by leaf size.
        walks: Measured walk costs, of the same rounds as the mixes.
        stlb_hit_ns: Time lost when only the second level has a translation.

    Examples:
        >>> from poisonsim.translation import load_cpu
        >>> Profile(load_cpu("zen5"), {"2M": "4K", "4K": "4K"}, [], 1.7).stlb_hit_ns
        1.7
    """

    cpu: Cpu
    held_as: Mapping[str, str]
    walks: Sequence[WalkCost]
    stlb_hit_ns: float


def compare(chase: MixChase, times_ns: F64, profile: Profile) -> list[Mix]:
    """Measured against predicted slowdown at every fraction.

    The prediction takes misses from the analytic model with the sizes as which the TLB holds these leaves, the time
    of a walk from the walk costs of the same round, and the time without replaced units from the measurement.

    Args:
        chase: What was timed.
        times_ns: float64[n_rounds, n_fractions], time per load.
        profile: What the prediction rests on.
    """
    unmixed = (times_ns[:, 0] + times_ns[:, -1]) / 2

    @cache
    def walk(leaf: str, walked: float) -> F64:
        return walk_ns(leaf, profile.held_as[leaf], profile.walks, chase.weights, walked)

    before = _translation_ns(chase, 0.0, profile, walk)
    rows = []
    for column, fraction in enumerate(chase.fractions[:-1]):
        added = _translation_ns(chase, fraction, profile, walk) - before
        predicted = Spread.of(np.maximum(0, 1 + added / unmixed))
        # The null control stands for fraction 0; elsewhere both unmixed times of the round are the reference.
        ratios = times_ns[:, column] / unmixed if fraction else times_ns[:, -1] / times_ns[:, 0]
        row = Mix(chase.base, chase.part, chase.pattern, fraction, Spread.of(ratios), predicted, "")
        rows.append(with_reason(row, resolution(times_ns), profile.held_as))
    return rows


def _translation_ns(chase: MixChase, fraction: float, profile: Profile, walk: Callable[[str, float], F64]) -> F64:
    """Nanoseconds of translation per load in each round, float64[n_rounds]; `walk` is one walk of a leaf size."""
    shares, held_as, size_bytes = {chase.base: 1 - fraction, chase.part: fraction}, profile.held_as, chase.size_bytes
    sizes = sorted({held_as[leaf] for leaf in shares}, key=page_bytes, reverse=True)
    translator = Translator(
        cpu=profile.cpu, memory_bytes=size_bytes, access=PATTERNS[chase.pattern], leaf_sizes=sizes, guest_page="1G"
    )
    leaves = np.zeros((1, len(sizes)), dtype=np.int64)
    for leaf, share in shares.items():
        leaves[0, sizes.index(held_as[leaf])] += round(share * (size_bytes // page_bytes(held_as[leaf])))
    state = translator.evaluate(leaves)
    total = np.full(
        profile.walks[0].walks_ns.size, (state.l1_miss[0] - state.walks_per_access[0]) * profile.stlb_hit_ns
    )
    for leaf, share in shares.items():
        column = sizes.index(held_as[leaf])
        # Walks of this entry size in a chase that has no other, per load there.
        share_of_size = leaves[0, column] * page_bytes(sizes[column]) / size_bytes
        walked = state.walks_by_leaf[0, column] / share_of_size if share_of_size else 0.0
        if share and walked:
            total += share * walked * walk(leaf, round(float(walked), 6))
    return total


def walk_ns(leaf: str, held_as: str, walks: Sequence[WalkCost], weights: F64, walked: float) -> F64:
    """Cost of a walk for a leaf size under a pattern in each round, float64[n_rounds], nanoseconds.

    A walk is as dear as the cache line of its table entries is cold. Under uniform access to an area, each line
    comes up once in area / (bytes that it maps) loads; under a pattern, a page's line comes up at the rate of the
    pages that share it, so its walk costs what it does in the uniform area with that rate.

    Args:
        leaf: Leaf size.
        held_as: Size of its TLB entries.
        walks: Measured under uniform access; a size that was not is taken as 4K.
        weights: float64[n_pages], access share of each 4K page.
        walked: Walks per load.

    Examples:
        >>> from poisonsim.translation.calibrate.sweeps import walk_costs
        >>> rounds = [{("4K", 1 << 20): (20.0, 12.5), ("4K", 1 << 30): (200.0, 125.0)}] * 2
        >>> walk_ns("4K", "4K", walk_costs(rounds), np.full(1 << 18, 2.0**-18), 0.9).round(6)
        array([100., 100.])
    """
    own = [walk for walk in walks if walk.leaf == leaf] or [walk for walk in walks if walk.leaf == "4K"]
    entry_pages = page_bytes(held_as) // page_bytes("4K")
    entries = weights.reshape(-1, entry_pages).sum(axis=1)
    per_line = min(_PTES_PER_LINE, entries.size)
    lines = np.repeat(entries.reshape(-1, per_line).sum(axis=1), per_line)
    missing = entries * np.exp(-entries * _time_kept(entries, walked))
    log_line_area = np.log(page_bytes(held_as) * per_line / lines)
    # The mean cost is linear in the costs measured: the weight of each area in it, once for all rounds.
    log_area = np.log([walk.area_bytes for walk in own])
    parts = [np.interp(log_line_area, log_area, unit) @ missing for unit in np.eye(len(own))]
    mean = np.array([walk.walks_ns for walk in own]).T @ (np.array(parts) / missing.sum())
    return np.asarray(np.maximum(0, mean))


def _time_kept(weights: F64, walked: float) -> float:
    """Loads for which an entry lasts, so that the share of loads that walk comes out."""
    # From where nothing has come up twice to where the rarest entry has, for certain.
    low, high = np.log(1e-6 / weights.max()), np.log(700.0 / weights.min())
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if float(weights @ np.exp(-weights * np.exp(middle))) > walked:
            low = middle
        else:
            high = middle
    return float(np.exp(low))


def with_reason(row: Mix, resolved: float, held_as: Mapping[str, str]) -> Mix:
    """The row with the reason why prediction and measurement differ by more than `TOLERANCE`, if they do.

    Examples:
        >>> row = Mix("1G", "4K", "uniform", 1.0, Spread(1.9, 2.0, 2.1), Spread(1.4, 1.5, 1.6), "")
        >>> with_reason(row, 0.05, {"1G": "1G", "4K": "4K"}).reason
        'the model'
    """
    if abs(row.difference) <= TOLERANCE:
        return row
    measured, predicted = row.measured, row.predicted
    slack = 1 + TOLERANCE
    if max(abs(measured.mid - 1), abs(predicted.mid - 1)) < resolved:
        reason = f"below the resolution, {100 * resolved:.0f} %"
    elif predicted.low <= measured.high * slack and predicted.high * slack >= measured.low:
        reason = "noise: the intervals, with 15 %, meet"
    elif any(held_as[leaf] != leaf for leaf in (row.base, row.part)):
        reason = "fracture: the hypervisor's tables are not seen from here"
    else:
        reason = "the model"
    return Mix(row.base, row.part, row.pattern, row.fraction, measured, predicted, reason)
