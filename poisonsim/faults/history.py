"""Histories: the time-ordered poisoned base pages of every trial of one block, the same for all policies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poisonsim.compiled import compiled
from poisonsim.faults.arrivals import arrivals_of
from poisonsim.faults.corrected import draw_onsets, draw_watched
from poisonsim.faults.field import FieldModel, Incidents, detection_of, field_model
from poisonsim.faults.streams import Purpose, stream
from poisonsim.scenario import CountFaults, FieldFaults, RateFaults, Scenario

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]


NO_MODE = 255
"""Mode of errors of which nothing is known but that they happened."""


@dataclass(frozen=True)
class History:
    """Errors of the trials of one block that see any, and what their hosts learn from corrected ones.

    Attributes:
        trial: int64[n_hit], the trial within the block, ascending; all others see no error.
        stratum: int64[n_hit], the stratum of each; 0 where sampling is plain.
        start: int64[n_hit + 1], where each of them begins in the event arrays.
        page: int64[n_events], poisoned base page of guest memory.
        years: float64[n_events], when it is found, ascending within a trial.
        born: float64[n_events], when the fault behind it first struck; what moves away later is out of its reach.
        fate: float64[n_events] in [0, 1), small where the guest cannot do without what it loses.
        ar: uint8[n_events], 1 where a read found it (action required), 0 where the patrol did.
        mode: uint8[n_events], mode of the DRAM fault behind it, by its place in `MODES`; `NO_MODE` for none.
        corrected: uint8[n_events], 1 where nothing is poisoned, but the corrected errors of the page have passed the
            threshold of a host that counts them.
    """

    trial: I64
    stratum: I64
    start: I64
    page: I64
    years: F64
    born: F64
    fate: F64
    ar: U8
    mode: U8
    corrected: U8

    def cut(self, trial: I64, stratum: I64, start: I64, events: slice | NDArray[np.bool_]) -> History:
        """Other trials with some of these events: a slice of them, or those where bool[n_events] holds."""
        return History(
            trial, stratum, start, self.page[events], self.years[events], self.born[events], self.fate[events],
            self.ar[events], self.mode[events], self.corrected[events],
        )  # fmt: skip

    def first(self, n_trials: int) -> History:
        """The histories of trials 0 to `n_trials` - 1 of this block."""
        n = int(np.searchsorted(self.trial, n_trials))
        end = int(self.start[n])
        return self.cut(self.trial[:n], self.stratum[:n], self.start[: n + 1], slice(end))

    @property
    def uncorrected(self) -> History:
        """The same trials with their errors only: what a policy sees that does not act on corrected ones."""
        if not self.corrected.any():
            return self
        kept = self.corrected == 0
        start = np.concatenate(([0], np.cumsum(kept)))[self.start]
        return self.cut(self.trial, self.stratum, start, kept)


def draw_history(scenario: Scenario, seed: int, block: int, n_trials: int) -> History:
    """The histories of block `block`, which holds `n_trials` trials.

    A pure function of its arguments and of the files that the scenario names.

    Examples:
        >>> from poisonsim.scenario import Scenario
        >>> h = draw_history(Scenario(), seed=7, block=0, n_trials=4)
        >>> h.start.tolist(), bool((np.diff(h.years[:100]) >= 0).all())
        ([0, 100, 200, 300, 400], True)
    """
    arriving, where = (stream(seed, purpose, block) for purpose in (Purpose.ARRIVALS, Purpose.GEOMETRY))
    trial, count, many, stratum = arrivals_of(scenario).draw_counts(arriving, n_trials, block)
    if isinstance(scenario.faults, FieldFaults):
        model = field_model(scenario)
        incidents = model.draw_incidents(arriving, where, count, many)
        growing = stream(seed, Purpose.GROWTH, block)
        if model.threshold is not None:
            return _watched(model, stream(seed, Purpose.CORRECTED, block), growing, n_trials, trial, incidents)
        events = model.draw_events(growing, incidents)
        return History(trial, stratum, *events, np.zeros(len(events.page), np.uint8))

    start = np.concatenate(([0], np.cumsum(count))).astype(np.int64)
    n_events = int(start[-1])
    gaps = arriving.standard_exponential(n_events + len(trial))
    shape = scenario.faults.shape if isinstance(scenario.faults, RateFaults) else 1.0
    years = sorted_times(gaps, start, scenario.horizon.years, 1.0 / shape)
    page = _scatter(scenario, where, len(trial), n_events)
    found = stream(seed, Purpose.DETECTION, block).random(n_events, dtype=np.float32)
    ar = (found < detection_of(scenario).p_ar).view(np.uint8)
    return History(
        trial, stratum, start, page, years, years, stream(seed, Purpose.GUEST, block).random(n_events), ar,
        np.full(n_events, NO_MODE, np.uint8), np.zeros(n_events, np.uint8),
    )  # fmt: skip


def _watched(
    model: FieldModel, watching: np.random.Generator, growing: np.random.Generator, n_trials: int, trial: I64,
    incidents: Incidents,
) -> History:  # fmt: skip
    """The histories of a host that counts corrected errors: its errors, and the pages that pass its threshold."""
    threshold = model.threshold
    assert threshold is not None
    onset, strikes = draw_onsets(model, watching, incidents), model.strike(growing, incidents)
    events = model.find(growing, incidents, strikes, np.minimum(onset, incidents.years))
    watched = draw_watched(model, watching, threshold, onset, strikes.until, n_trials, trial, incidents)
    n_errors, n_watched = len(events.page), len(watched.page)
    owner = np.concatenate((np.repeat(trial, np.diff(events.start)), watched.trial))
    years = np.concatenate((events.years, watched.years))
    order = np.lexsort((years, owner))
    hit, start = np.unique(owner[order], return_index=True)

    def both(errors: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate((errors, others))[order]

    return History(
        hit, np.zeros(len(hit), np.int64), np.append(start, len(order)).astype(np.int64),
        both(events.page, watched.page), years[order], both(events.born, watched.born),
        both(events.fate, np.ones(n_watched)), both(events.ar, np.zeros(n_watched, np.uint8)),
        both(events.mode, watched.mode), both(np.zeros(n_errors, np.uint8), np.ones(n_watched, np.uint8)),
    )  # fmt: skip


def _scatter(scenario: Scenario, where: np.random.Generator, n_trials: int, n_events: int) -> I64:
    """A base page for each error: anywhere in the VM, or each of a trial in a region of its own."""
    faults, vm = scenario.faults, scenario.vm
    if not isinstance(faults, CountFaults) or faults.placement == "uniform" or n_events == 0:
        return where.integers(vm.n_base_pages, size=n_events)
    left = vm.n_regions - np.arange(faults.errors)
    region = without_replacement(where.integers(np.tile(left, n_trials)), faults.errors, vm.n_regions)
    page: I64 = region * vm.pages_per_region + where.integers(vm.pages_per_region, size=n_events)
    return page


@compiled
def sorted_times(gaps: Any, start: Any, horizon_years: float, exponent: float) -> Any:
    """Ascending times of each trial's events, float64[n_events].

    Normalised partial sums of n + 1 exponential gaps are the order statistics of n uniforms, so nothing needs
    sorting; raising them to `exponent` = 1 / shape gives events the Weibull hazard of that shape.
    """
    years = np.empty(start[-1])
    for t in range(len(start) - 1):
        first, last = start[t], start[t + 1]
        total = 0.0
        for e in range(first, last):
            total += gaps[e + t]
            years[e] = total
        total += gaps[last + t]
        if exponent == 1.0:  # apart, and divided without asking for zeros each time, so that it is done four at a time
            of_trial = years[first:last]
            for k in range(len(of_trial)):
                of_trial[k] = horizon_years * np.divide(of_trial[k], total)
        else:
            for e in range(first, last):
                years[e] = horizon_years * (years[e] / total) ** exponent
    return years


@compiled
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
