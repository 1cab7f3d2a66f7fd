"""Histories: the time-ordered poisoned base pages of every trial of one block, the same for all policies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from poisonsim.faults.arrivals import Arrivals, arrivals_of
from poisonsim.faults.streams import Purpose, stream
from poisonsim.scenario import CountFaults, Scenario

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class History:
    """Errors of the trials of one block that see any.

    Attributes:
        trial: int64[n_hit], the trial within the block, ascending; all others see no error.
        start: int64[n_hit + 1], where each of them begins in the event arrays.
        page: int64[n_events], poisoned base page of guest memory.
        years: float64[n_events], when, ascending within a trial.
        fate: float64[n_events] in [0, 1), small where the guest cannot do without what it loses.
    """

    trial: I64
    start: I64
    page: I64
    years: F64
    fate: F64

    def first(self, n_trials: int) -> History:
        """The histories of trials 0 to `n_trials` - 1 of this block."""
        n = int(np.searchsorted(self.trial, n_trials))
        end = int(self.start[n])
        return History(self.trial[:n], self.start[: n + 1], self.page[:end], self.years[:end], self.fate[:end])


def draw_history(scenario: Scenario, seed: int, block: int, n_trials: int) -> History:
    """The histories of block `block`, which holds `n_trials` trials.

    A pure function of its arguments. Each UE poisons one base page, anywhere in the VM with equal chance, or in
    regions all different where the scenario says `distinct-regions`.

    Examples:
        >>> from poisonsim.scenario import Scenario
        >>> h = draw_history(Scenario(), seed=7, block=0, n_trials=4)
        >>> h.start.tolist(), bool((np.diff(h.years[:100]) >= 0).all())
        ([0, 100, 200, 300, 400], True)
    """
    faults, vm = scenario.faults, scenario.vm
    arrivals: Arrivals = arrivals_of(scenario)
    arriving = stream(seed, Purpose.ARRIVALS, block)
    trial, count = arrivals.draw_counts(arriving, n_trials)
    start = np.concatenate(([0], np.cumsum(count))).astype(np.int64)
    n_events = int(start[-1])
    gaps = arriving.standard_exponential(n_events + len(trial))
    years = sorted_times(gaps, start, scenario.horizon.years, 1.0 / arrivals.shape)
    where = stream(seed, Purpose.GEOMETRY, block)
    if isinstance(faults, CountFaults) and faults.placement == "distinct-regions" and n_events > 0:
        left = vm.n_regions - np.arange(faults.errors)
        region = without_replacement(where.integers(np.tile(left, len(trial))), faults.errors, vm.n_regions)
        page = region * vm.pages_per_region + where.integers(vm.pages_per_region, size=n_events)
    else:
        page = where.integers(vm.n_base_pages, size=n_events)
    fate = stream(seed, Purpose.GUEST, block).random(n_events)
    return History(trial, start, page, years, fate)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def sorted_times(gaps: Any, start: Any, horizon_years: float, exponent: float) -> Any:
    """Ascending times of each trial's events, float64[n_events].

    Normalised partial sums of n + 1 exponential gaps are the order statistics of n uniforms, so nothing needs
    sorting; raising them to `exponent` = 1 / shape gives events the Weibull hazard of that shape.
    """
    years = np.empty(start[-1])
    for t in range(len(start) - 1):
        total = 0.0
        for e in range(start[t], start[t + 1]):
            total += gaps[e + t]
            years[e] = total
        total += gaps[start[t + 1] + t]
        for e in range(start[t], start[t + 1]):
            u = years[e] / total
            years[e] = horizon_years * (u if exponent == 1.0 else u**exponent)
    return years


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def without_replacement(draws: Any, n: int, population: int) -> Any:
    """Turns draws below population, population - 1, … into `n` different numbers per trial (Fisher and Yates)."""
    deck = np.arange(population)
    chosen = np.empty(len(draws), np.int64)
    for first in range(0, len(draws), n):
        for i in range(n):
            j = i + draws[first + i]
            deck[i], deck[j] = deck[j], deck[i]
            chosen[first + i] = deck[i]
        for i in range(n - 1, -1, -1):  # undo, so that every trial starts from the same deck
            j = i + draws[first + i]
            deck[i], deck[j] = deck[j], deck[i]
    return chosen
