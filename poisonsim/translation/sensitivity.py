"""When a region mapped with 2M beats one mapped with 4K, and when neither matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from poisonsim.units import page_bytes

from .access import AccessPattern, HotCold, Sequential, Uniform, Zipf
from .cpus import load_cpu
from .model import GuestPage, Translator
from .touch import F64
from .walks import CYCLES_PER_ACCESS

I64 = npt.NDArray[np.int64]

CPUS: dict[str, tuple[str, ...]] = {
    "x86-64": ("cascade-lake", "sapphire-rapids", "zen4", "zen5"),
    "arm64": ("neoverse-n1", "neoverse-v1", "neoverse-n2", "neoverse-v2"),
    "riscv64": ("xiangshan-kunminghu",),
}
"""CPUs of different make, by architecture."""
GUEST_PAGES = ("1G", "2M", "4K")
PATTERNS: dict[str, AccessPattern] = {
    "uniform": Uniform(),
    "hot-cold over 1G": HotCold(over="1G"),
    "zipf 0.99 over 1G": Zipf(0.99, over="1G"),
    "zipf 0.99 over 4K": Zipf(0.99),
    "sequential": Sequential(),
}

THRESHOLD = 0.01
"""Share of run time from which a loss matters, unless told otherwise.

The smallest loss by splitting that a published run has resolved is 1.2 % (MemCycler in a VM, 5 % of the memory split to
4K; `validation.py`): what is below 1 % nobody has told apart from noise.
"""

NEITHER, FREE, COSTS = "neither matters", "2M is better", "2M is better, and costs"
ALIKE, WORSE = "both cost alike", "4K is better"
LOW, MID, HIGH = range(3)

_COUNTS = 48
"""Numbers of split regions at which run times are computed; between them a straight line is read."""


def verdict(loss_4k: float, loss_2m: float, threshold: float = THRESHOLD) -> str:
    """Which way to split is better, by the shares of run time that they lose.

    Args:
        loss_4k: If regions are mapped with 4K.
        loss_2m: If they are mapped with 2M, and 4K around the page lost.
        threshold: Share of run time from which a loss, or a difference between two losses, matters.

    Examples:
        >>> [verdict(*losses) for losses in ((0.004, 0.001), (0.02, 0.002), (0.2, 0.02), (0.2, 0.195), (0.2, 0.3))]
        ['neither matters', '2M is better', '2M is better, and costs', 'both cost alike', '4K is better']
    """
    if max(loss_4k, loss_2m) < threshold:
        return NEITHER
    if loss_2m < threshold:
        return FREE
    if loss_4k < threshold or loss_2m - loss_4k >= threshold:
        return WORSE
    return COSTS if loss_4k - loss_2m >= threshold else ALIKE


@dataclass(frozen=True)
class Zone:
    """Numbers of split regions, `first` to `last`, over which the verdict is the same."""

    verdict: str
    first: int
    last: int


@dataclass(frozen=True)
class Case:
    """Run time lost with some regions mapped with 4K or with 2M, of a VM that is else mapped with 1G.

    Args:
        cpu: CPU.
        guest_page: Guest page, or the mix of guest pages in words.
        access: Name of the access pattern.
        n_regions: Regions of 1 GiB in the VM.
        n_split: int64[k], numbers of regions split, rising from 1 to `n_regions`; one page of each is lost.
        all_4k: float64[k, 3], share of run time lost if they are mapped with 4K, by a low, mid and high estimate.
        mixed: The same if they are mapped with 2M, and 4K around the page lost.
        threshold: Share of run time from which a loss matters.

    Examples:
        >>> n = np.array([1, 100])
        >>> case = Case("zen5", "2M", "uniform", 100, n, 1e-3 * np.outer(n, [1, 2, 3]), 1e-4 * np.outer(n, [1, 2, 3]))
        >>> case.zones
        (Zone(verdict='neither matters', first=1, last=4), Zone(verdict='2M is better', first=5, last=49), \
Zone(verdict='2M is better, and costs', first=50, last=100))
        >>> case.matters_from("all_4k"), case.matters_from("mixed", LOW)
        (5, 100)
    """

    cpu: str
    guest_page: str
    access: str
    n_regions: int
    n_split: I64 = field(repr=False)
    all_4k: F64 = field(repr=False)
    mixed: F64 = field(repr=False)
    threshold: float = THRESHOLD

    def loss(self, way: str, n_split: npt.ArrayLike, estimate: int = MID) -> F64:
        """Share of run time lost with `n_split` regions split: float64, of the same shape.

        Args:
            way: `"all_4k"` or `"mixed"`.
            estimate: `LOW`, `MID` or `HIGH`.
        """
        zero = np.zeros(1)
        found = np.append(zero, getattr(self, way)[:, estimate])
        return np.asarray(np.interp(np.asarray(n_split, float), np.append(zero, self.n_split), found))

    def matters_from(self, way: str, estimate: int = MID) -> int | None:
        """Fewest split regions at which `way` costs the threshold; None if it never does."""
        n = np.arange(1, self.n_regions + 1)
        reached = self.loss(way, n, estimate) >= self.threshold * (1 - 1e-9)
        return int(n[np.argmax(reached)]) if reached.any() else None

    def verdict_at(self, n_split: int) -> str:
        """The verdict with `n_split` regions split, by the mid estimates."""
        loss_4k, loss_2m = (float(self.loss(way, n_split)) for way in ("all_4k", "mixed"))
        return verdict(loss_4k, loss_2m, self.threshold * (1 - 1e-9))

    @cached_property
    def zones(self) -> tuple[Zone, ...]:
        """The verdicts from 1 to all regions split."""
        n = np.arange(1, self.n_regions + 1)
        least = self.threshold * (1 - 1e-9)
        pairs = zip(*(self.loss(way, n).tolist() for way in ("all_4k", "mixed")), strict=True)
        verdicts = [verdict(loss_4k, loss_2m, least) for loss_4k, loss_2m in pairs]
        ends = [n for n in range(1, self.n_regions) if verdicts[n] != verdicts[n - 1]]
        return tuple(Zone(verdicts[first], first + 1, last) for first, last in pairwise([0, *ends, self.n_regions]))


def cases(
    cpus: Sequence[str | Path] = CPUS["x86-64"],
    guest_pages: Mapping[str, GuestPage] | Sequence[str] = GUEST_PAGES,
    patterns: Mapping[str, AccessPattern] | None = None,
    *,
    n_regions: int = 1024,
    cycles_per_access: float = CYCLES_PER_ACCESS,
    accesses_per_page_visit: float = 1.0,
    smt_threads: int = 1,
    threshold: float = THRESHOLD,
) -> list[Case]:
    """Both ways to split, for every CPU, guest page and access pattern.

    Args:
        cpus: Names or files of CPUs.
        guest_pages: Sizes of guest pages, or sizes and mixes by name.
        patterns: Access patterns by name; `PATTERNS` if left out.
        n_regions: Regions of 1 GiB in the VM.
        cycles_per_access: Cycles of an access without translation.
        accesses_per_page_visit: Accesses in a row to the same page.
        smt_threads: Busy threads of a core.
        threshold: Share of run time from which a loss matters.

    Raises:
        ScenarioError: An unknown CPU or size, or a number out of range.

    Examples:
        >>> [case] = cases(["zen5"], ["1G"], {"uniform": Uniform()})
        >>> [zone.verdict for zone in case.zones]
        ['neither matters', '2M is better', '2M is better, and costs']
    """
    named = guest_pages if isinstance(guest_pages, Mapping) else {size: size for size in guest_pages}
    n = np.unique(np.rint(np.geomspace(1, n_regions, _COUNTS))).astype(np.int64)
    found = []
    for cpu in map(load_cpu, cpus):
        for words, guest in named.items():
            for name, access in (PATTERNS if patterns is None else patterns).items():
                translator = Translator(
                    cpu=cpu,
                    memory_bytes=n_regions * page_bytes("1G"),
                    access=access,
                    guest_page=guest,
                    cycles_per_access=cycles_per_access,
                    accesses_per_page_visit=accesses_per_page_visit,
                    smt_threads=smt_threads,
                )
                all_4k, mixed = (
                    np.sort(translator.evaluate(leaves).cycles / translator.baseline.cycles - 1, axis=1)
                    for leaves in (
                        np.stack([n_regions - n, 0 * n, 262_143 * n], axis=1),
                        np.stack([n_regions - n, 511 * n, 511 * n], axis=1),
                    )
                )
                found.append(Case(cpu.name, words, name, n_regions, n, all_4k, mixed, threshold))
    return found
