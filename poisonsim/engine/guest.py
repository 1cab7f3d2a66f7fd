"""What the guest makes of memory it loses: machine checks it gets, and whether and when one of them kills it.

A share of its base pages the guest cannot do without. Of such a page, an error that a read finds kills it at once, and
one that the patrol finds at the next touch. The rest it retires, though a few it fails to and touches again. A hole of
many pages it meets touch by touch, each a machine check: until one is of a page it cannot do without, or two come so
close on one vCPU that its handler has not returned, which resets the guest; or until every page is retired.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from poisonsim.catalog import Costs
from poisonsim.compiled import compiled
from poisonsim.faults.detection import Detection
from poisonsim.memory import Ladder
from poisonsim.scenario import Vm
from poisonsim.units import DAYS_PER_YEAR

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

FAULT_PARTS = 1000
"""Machine checks are counted in thousandths."""

_LINE_BYTES = 64
_NS_PER_YEAR = DAYS_PER_YEAR * 86400e9


class GuestLaw(NamedTuple):
    """The guest as the kernel knows it; arrays have one entry per leaf level, largest leaf first.

    Attributes:
        p_dies: Probability that losing such a leaf kills it, sooner or later.
        deaths_per_year: Rate of touches of such a hole that kill it, given that some will.
        kept_per_year: The same rate for a base page left mapped, of which only the bad line counts.
        faults: int64, mean machine checks that such a loss brings, in thousandths.
        kept_faults: The same for a base page left mapped.
        p_panics: Probability that the guest survives a base page left in the process table but does not retire it, so
            that the host's kernel goes on reading it for the guest.
        panics_per_year: Rate of those reads, each of which panics the host.
    """

    p_dies: F64
    deaths_per_year: F64
    kept_per_year: float
    faults: I64
    kept_faults: int
    p_panics: float
    panics_per_year: float

    @classmethod
    def of(
        cls, vm: Vm, ladder: Ladder, detection: Detection, costs: Costs, years: float, kernel_reads: float = 0.0
    ) -> GuestLaw:
        """The law of a VM whose lines are read as `detection` says, for losses that it outlives by half of `years`.

        The host's own kernel makes the share `kernel_reads` of the reads.

        Examples:
            >>> from poisonsim.catalog import load_costs
            >>> from poisonsim.memory import ladder
            >>> reads = Detection(1 / 365.25, 0.32, 2.3)
            >>> law = GuestLaw.of(Vm(), ladder("x86-64", "1G"), reads, load_costs("linux"), 5)
            >>> law.p_dies.round(5).tolist(), float(round(365.25 * 86400e3 / law.deaths_per_year[0], 1))  # milliseconds
            ([1.0, 0.99997, 0.02], 0.9)
            >>> (law.faults / FAULT_PARTS).tolist()
            [19.656, 49.848, 1.068]
        """
        pages = np.array(ladder.pages, float)
        f, again, many = vm.unrecoverable, vm.unretired, pages > 1
        lines = vm.base_bytes / _LINE_BYTES
        touches = pages * lines * detection.mean_reads_per_year  # of the whole hole, per year
        close = np.where(many, touches * costs.guest_machine_check_ns / _NS_PER_YEAR, 0.0)
        close = np.minimum(close, 1.0)  # probability that a touch comes too close to the one before
        p_dies = -np.expm1(pages * np.log1p(-f) - pages * close / 2)  # as pages are retired, touches come ever slower
        per_touch = f + (1 - f) * close
        with np.errstate(divide="ignore", invalid="ignore"):
            met = np.where(per_touch > 0, -np.expm1(pages * np.log1p(-per_touch)) / per_touch, pages)
        retouched = f * (1 - detection.p_ar) + (1 - f) * again / (1 - again)  # of a page, after the first error
        line, page = detection.reads_per_year, lines * detection.reads_per_year
        more = _brought(np.where(many, met - 1, retouched), np.where(many, touches, page) * years / 2)
        kept = _brought(np.array([retouched]), np.array([line * years / 2]))
        return cls(
            p_dies,
            np.where(many, touches * per_touch, page),
            line,
            np.round(FAULT_PARTS * (1 + more)).astype(np.int64),
            round(FAULT_PARTS * (1 + float(kept[0]))),
            (1 - f) * vm.unretired if kernel_reads > 0 else 0.0,
            line * kernel_reads,
        )


def _brought(more: F64, reads: F64) -> F64:
    """So many of the expected touches `more` as come where there are `reads` in all: as many, if those abound.

    Examples:
        >>> _brought(np.array([0.05, 0.05, 0.05]), np.array([0.0, 0.05, 1e6])).round(3).tolist()
        [0.0, 0.032, 0.05]
    """
    share = np.divide(reads, more, out=np.full(len(more), np.inf), where=more > 0)
    brought: F64 = more * -np.expm1(-share)
    return brought


@compiled
def years_to_death(fate, p_dies, ar, pages, deaths_per_year):
    """Years from a loss that kills the guest to its death.

    Args:
        fate: Below `p_dies`, uniform; the smaller, the later.
        ar: Whether a read found the error, which then kills at once where one page is lost.
        pages: Base pages lost.
        deaths_per_year: From a `GuestLaw`.
    """
    if ar and pages == 1:
        return 0.0
    if deaths_per_year <= 0 or fate <= 0:
        return np.inf
    return -np.log(fate / p_dies) / deaths_per_year


@compiled
def years_to_panic(fate, p_panics, panics_per_year):
    """Years from an error that the guest survives to a read of it by the host's kernel; infinite for never.

    Args:
        fate: What is left of the uniform number once the guest has survived; below `p_panics` the host will panic.
        p_panics, panics_per_year: From a `GuestLaw`.
    """
    if fate <= 0 or fate >= p_panics or panics_per_year <= 0:
        return np.inf
    return -np.log(fate / p_panics) / panics_per_year
