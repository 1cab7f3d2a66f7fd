"""TLB capacities by working-set sweep, fracture, and walk costs as a function of the area."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from poisonsim.units import page_bytes

from .areas import Area
from .knees import Knee, fit_knees
from .spread import F64, Spread
from .timing import Timer, packed, page_passes, spread_over

# Odd, so that pages fill all TLB sets evenly, and above 16, so that no two share an entry that merges neighbours.
_STRIDE_PAGES = 17
# Further on the page tables of so many scattered pages leave the caches, and the curve rises for that.
_SWEEP_ENTRIES = (
    8, 12, 16, 24, 28, 32, 40, 44, 48, 56, 60, 64, 68, 72, 80, 88, 96, 104, 112, 128, 160, 192, 256, 384, 512, 768,
    1024, 1280, 1536, 2048, 2560, 3072, 3584, 4096, 5120, 6144, 8192, 10240, 12288, 15360,
)  # fmt: skip
_RING_LOADS = 60_000
_LEAST_NOISE_NS = 0.02

# More offsets than any first level has entries, and fewer than one 2M page has.
_FRACTURE_ENTRIES = 256
_FRACTURE_PAGES = 16
_SPLIT_RATIO = 0.5

_VISIT_LOADS = 4


class Sweep(NamedTuple):
    """A working-set sweep with leaves of one size.

    Attributes:
        leaf: Leaf size.
        n_entries: float64[n], entries visited.
        extra_ns: float64[n], time per load beyond that of as many cache lines on few pages.
        knees: Its bends.

    Examples:
        >>> Sweep("4K", np.array([16.0]), np.array([0.0]), []).leaf
        '4K'
    """

    leaf: str
    n_entries: F64
    extra_ns: F64
    knees: list[Knee]


class Fracture(NamedTuple):
    """As what the TLB holds a huge page of this machine.

    Attributes:
        leaf: The page's size in the page table of this process.
        held_as: Size of its TLB entries; smaller than `leaf` where a hypervisor backs it with smaller pages; empty
            where the test could not tell.
        ratio: Cost of scattered loads inside one page, relative to as many 4K pages: 0 whole, 1 split.
        n_split: Tested pages that were split.
        n_tested: Pages tested.

    Examples:
        >>> Fracture("2M", "4K", 0.98, 16, 16).fractured
        True
    """

    leaf: str
    held_as: str
    ratio: float
    n_split: int
    n_tested: int

    @property
    def fractured(self) -> bool:
        """Whether the page is more than one entry, or may be.

        Examples:
            >>> Fracture("1G", "1G", 0.02, 0, 16).fractured
            False
        """
        return self.held_as != self.leaf


class WalkCost(NamedTuple):
    """What loads from one area cost when every page visit misses the TLB.

    Attributes:
        leaf: Leaf size that maps the area.
        area_bytes: The area.
        load_ns: Time of a load from a cold cache line on another page than the last.
        hit_ns: The same with the translation at hand.
        walk_ns: The difference: an upper estimate of a walk in a running program, whose loads overlap.
        walks_ns: float64[n_rounds], the same round by round.

    Examples:
        >>> walk_costs([{("2M", 1 << 30): (150.0, 150.0)}] * 5)[0].walk_ns
        Spread(low=0.0, mid=0.0, high=0.0)
    """

    leaf: str
    area_bytes: int
    load_ns: Spread
    hit_ns: Spread
    walk_ns: Spread
    walks_ns: F64


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        rounds: Repeats of everything, interleaved.
        n_warm: Loads before the clock starts.
        n_timed: Loads timed.

    Examples:
        >>> Effort().rounds
        9
    """

    rounds: int = 9
    n_warm: int = 120_000
    n_timed: int = 120_000


def sweep_capacity(area: Area, timer: Timer, effort: Effort, rng: np.random.Generator) -> Sweep:
    """TLB capacities for the leaves of an area, as far as it has enough of them.

    Args:
        area: Memory; more of it shows larger capacities.
        timer: Times the rings.
        effort: How many rounds.
        rng: Draws places.
    """
    stride = _STRIDE_PAGES if area.leaf == "4K" else page_bytes(area.leaf) // page_bytes("4K")
    most = area.words.nbytes // page_bytes("4K") // stride
    entries = [n for n in _SWEEP_ENTRIES if n <= most] or [most]
    scattered, dense = np.zeros((2, 2 * effort.rounds, len(entries)))
    for round_ in range(2 * effort.rounds):
        for i, n in enumerate(entries):
            n_loads = max(_RING_LOADS, 4 * n)
            scattered[round_, i] = timer.ring(area.words, spread_over(n, stride, 0, rng), n_loads)
            dense[round_, i] = timer.ring(area.words, packed(n, rng), n_loads)
    # Others on the machine only ever add time, so the lower quartile is less disturbed than the median.
    extra_ns = np.quantile(scattered, 0.25, axis=0) - np.quantile(dense, 0.25, axis=0)
    n_entries = np.array(entries, dtype=np.float64)
    return Sweep(area.leaf, n_entries, extra_ns, fit_knees(n_entries, extra_ns, noise_of(scattered - dense)))


def noise_of(rounds: F64) -> float:
    """What a median of rounds is off by at random: float64[n_rounds, n] to one number, 0.02 ns at least.

    The half with the least scatter counts, which is where loads hit the caches.

    Examples:
        >>> noise_of(np.zeros((9, 4)))
        0.02
    """
    deviation = np.median(np.abs(rounds - np.median(rounds, axis=0)), axis=0)
    return max(_LEAST_NOISE_NS, float(1.48 * np.median(np.sort(deviation)[: -(-deviation.size // 2)])))


def find_fracture(huge: Area, base: Area, timer: Timer, effort: Effort, rng: np.random.Generator) -> Fracture:
    """As what the TLB holds the pages of an area.

    One cache line in each of 256 places inside one huge page: if the page is one entry, this costs no more than as
    many lines packed together; if it is many, it costs what as many 4K pages do. Tried in some of the pages, at the
    scale of 4K and, in 1G pages, of 2M.

    Args:
        huge: Memory mapped with 2M or 1G pages.
        base: Memory mapped with 4K pages, for comparison.
        timer: Times the rings.
        effort: How many rounds.
        rng: Draws places.
    """
    for held_as in ("4K", "2M"):
        if held_as == huge.leaf:
            break
        costs, reference = _inside(huge, base, held_as, timer, effort, rng)
        judged = judge_fracture(huge.leaf, held_as, costs, reference)
        if judged.fractured:
            return judged
    return judged


def judge_fracture(leaf: str, held_as: str, costs_ns: F64, reference_ns: F64) -> Fracture:
    """Whether pages of a size are held as smaller entries.

    Args:
        leaf: Size of the pages.
        held_as: Scale of the test.
        costs_ns: float64[n_rounds, n_pages], extra time per load inside each page tested.
        reference_ns: float64[n_rounds], extra time per load of as many 4K pages.

    Examples:
        >>> judge_fracture("2M", "4K", np.full((5, 3), 1.6), np.full(5, 1.7)).held_as
        '4K'
        >>> judge_fracture("2M", "4K", np.full((5, 3), 0.01), np.full(5, 1.7)).held_as
        '2M'
        >>> judge_fracture("2M", "4K", np.full((5, 3), 0.01), np.array([0.1, -0.1, 0.0, 0.1, -0.1])).held_as
        ''
    """
    n_tested = costs_ns.shape[1]
    reference = Spread.of(reference_ns)
    if reference.low <= 2 * _LEAST_NOISE_NS:
        return Fracture(leaf, "", float("nan"), 0, n_tested)
    ratios = np.median(costs_ns, axis=0) / reference.mid
    n_split = int((ratios > _SPLIT_RATIO).sum())
    return Fracture(leaf, held_as if n_split else leaf, float(np.median(ratios)), n_split, n_tested)


def _inside(
    huge: Area, base: Area, held_as: str, timer: Timer, effort: Effort, rng: np.random.Generator
) -> tuple[F64, F64]:
    stride = page_bytes(held_as) // page_bytes("4K")
    span = page_bytes("2M" if held_as == "4K" else "1G")
    n_spans = huge.words.nbytes // span
    chosen = rng.choice(n_spans, size=min(_FRACTURE_PAGES, n_spans), replace=False)
    costs, reference = np.zeros((effort.rounds, chosen.size)), np.zeros(effort.rounds)
    n = _FRACTURE_ENTRIES
    for round_ in range(effort.rounds):
        least = timer.ring(huge.words, packed(n, rng), _RING_LOADS)
        reference[round_] = timer.ring(base.words, spread_over(n, _STRIDE_PAGES, 0, rng), _RING_LOADS) - least
        for i, place in enumerate(chosen):
            first = int(place) * (span // page_bytes("4K"))
            costs[round_, i] = timer.ring(huge.words, spread_over(n, stride, first, rng), _RING_LOADS) - least
    return costs, reference


def time_walks(
    areas: Mapping[str, Area], sizes_bytes: Sequence[int], timer: Timer, effort: Effort, rng: np.random.Generator
) -> dict[tuple[str, int], tuple[float, float]]:
    """One round of loads by leaf size and area: nanoseconds per load with one load a page visit, and with four.

    Args:
        areas: Memory by leaf size.
        sizes_bytes: How much of each area is used.
        timer: Times the loads.
        effort: How many loads.
        rng: Draws places.
    """
    times: dict[tuple[str, int], tuple[float, float]] = {}
    for size in sizes_bytes:
        for leaf, area in areas.items():
            once, often = (
                timer.loads(area.words, page_passes(size // page_bytes("4K"), n_visits, n_loads, rng), effort.n_warm)
                for n_loads in (1, _VISIT_LOADS)
                for n_visits in [(effort.n_warm + effort.n_timed) // n_loads]
            )
            times[leaf, size] = once, often
    return times


def slowness(times_ns: F64) -> F64:
    """How much slower each round was than the fastest, float64[n_rounds]: the median over all that it timed.

    Args:
        times_ns: float64[n_rounds, n], what each round timed.

    Examples:
        >>> slowness(np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 3.0]]))
        array([1., 2.])
    """
    return np.asarray(np.median(times_ns / times_ns.min(axis=0), axis=1))


def walk_costs(rounds: Sequence[Mapping[tuple[str, int], tuple[float, float]]]) -> list[WalkCost]:
    """Walk costs from rounds of `time_walks`.

    A page is visited for one load or for four, always of cold lines: the first load of a visit walks, the others do
    not, so that the walk is the difference between the two, times 4/3.

    Examples:
        >>> [cost] = walk_costs([{("4K", 1 << 30): (200.0, 155.0)}] * 5)
        >>> cost.hit_ns.mid, cost.walks_ns.tolist()
        (140.0, [60.0, 60.0, 60.0, 60.0, 60.0])
    """
    costs = []
    for leaf, size in rounds[0]:
        once, often = np.array([times[leaf, size] for times in rounds]).T
        walks = (once - often) * _VISIT_LOADS / (_VISIT_LOADS - 1)
        costs.append(WalkCost(leaf, size, Spread.of(once), Spread.of(once - walks), Spread.of(walks), walks))
    return costs
