"""What to expect of a scenario's errors before any policy is run: counts per VM, from one block of histories."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from poisonsim.engine.plan import Plan
from poisonsim.faults.history import History, draw_history
from poisonsim.faults.tables import MODES
from poisonsim.results.statistics import Distribution, Estimate
from poisonsim.units import DAYS_PER_YEAR

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

CONSOLIDATION_SECONDS = 30.0
"""Errors of a host nearer together than this count as one event in field studies (Levy et al., SC 2018)."""

_SECONDS_PER_YEAR = DAYS_PER_YEAR * 86400


@dataclass(frozen=True)
class Expected:
    """Means per VM over the horizon, from `n_simulated` lifetimes.

    Attributes:
        n_simulated: Lifetimes simulated, each with an incident where sampling is stratified.
        seen: Probability that a VM meets any error.
        faults_met: Faults that give the VM any error; those that first strike elsewhere and reach in count.
        errors: Uncorrected errors, one for each bad cache line found.
        events: The same, those within 30 seconds of the one before not counted again.
        events_hour: The same with an hour.
        base_pages: Base pages poisoned.
        groups: 2 MiB of guest memory with any of them.
        regions: Backing pages with any of them.
        ar: Share of the errors that a read finds.
        by_mode: Share of the errors from faults of each mode; empty where nothing is known of them.
        faults_by_mode: Share of each mode among the faults that give the VM any error.
    """

    n_simulated: int
    seen: Estimate
    faults_met: float
    errors: Estimate
    events: Estimate
    events_hour: Estimate
    base_pages: Estimate
    groups: Estimate
    regions: Estimate
    ar: float
    by_mode: dict[str, float]
    faults_by_mode: dict[str, float]


def expected(plan: Plan) -> Expected:
    """What a plan's scenario lets expect, from the first block of its histories.

    Examples:
        >>> import poisonsim as ps
        >>> from poisonsim.results.runs import plan_run
        >>> found = expected(plan_run(ps.load_scenario("seed-1t"), policies=["unmap1g"]))
        >>> found.errors.best, round(found.regions.best)
        (100.0, 95)
    """
    vm = plan.scenario.vm
    history = draw_history(plan.scenario, plan.seed, 0, plan.block_trials).uncorrected
    n_events = np.diff(history.start)
    trial = np.repeat(np.arange(len(history.trial)), n_events)
    groups = history.page // max((2 << 20) // vm.base_bytes, 1)
    gaps = np.diff(history.years, prepend=-np.inf) * _SECONDS_PER_YEAR
    gaps[history.start[:-1][n_events > 0]] = np.inf

    def mean(values: I64) -> Estimate:
        return _distribution(plan, history, values).mean()

    everywhere = _distribution(plan, history, (n_events > 0).astype(np.int64))
    weight = _weight_of_events(plan, history, trial)
    total = max(float(weight.sum()), 1e-300)
    met = _first_of_each(trial, history.born)

    def by_mode(which: NDArray[np.bool_]) -> dict[str, float]:
        known = which & (history.mode < len(MODES))
        of_all = max(float(weight[which].sum()), 1e-300)
        shares = np.bincount(history.mode[known], weight[known], minlength=len(MODES)) / of_all
        return {mode: float(share) for mode, share in zip(MODES, shares, strict=True) if share > 0}

    return Expected(
        n_simulated=len(history.trial),
        seen=everywhere.share(everywhere.values > 0),
        faults_met=float(weight[met].sum()),
        errors=mean(n_events),
        events=mean(np.bincount(trial[gaps > CONSOLIDATION_SECONDS], minlength=len(n_events))),
        events_hour=mean(np.bincount(trial[gaps > 3600], minlength=len(n_events))),
        base_pages=mean(_distinct(trial, history.page, len(n_events))),
        groups=mean(_distinct(trial, groups, len(n_events))),
        regions=mean(_distinct(trial, history.page // vm.pages_per_region, len(n_events))),
        ar=float(weight @ history.ar / total),
        by_mode=by_mode(np.ones(len(trial), np.bool_)),
        faults_by_mode=by_mode(met),
    )


def _distribution(plan: Plan, history: History, values: I64) -> Distribution:
    """`values` of the simulated trials, with those that were not simulated, where the value is 0."""
    counts = np.append(plan.block_trials - len(values), np.ones(len(values), np.int64))
    return Distribution.of(
        np.append(0, values).astype(float), counts, np.append(0, history.stratum), plan.strata.weights
    )


def _weight_of_events(plan: Plan, history: History, trial: I64) -> F64:
    """Probability that the trial of each event stands for."""
    strata = plan.strata
    n = np.bincount(history.stratum, minlength=len(strata.weights))
    return (strata.weights / np.maximum(n, 1))[history.stratum[trial]]


def _first_of_each(trial: I64, born: F64) -> NDArray[np.bool_]:
    """Whether each error is the first of its fault that the VM meets: bool[n_events]; faults differ in their birth."""
    order = np.lexsort((born, trial))  # stable: in order of time within each fault
    first = np.zeros(len(trial), np.bool_)
    first[order[(np.diff(trial[order], prepend=-1) != 0) | (np.diff(born[order], prepend=-1.0) != 0)]] = True
    return first


def _distinct(trial: I64, what: I64, n_trials: int) -> I64:
    """Distinct values of `what` in each trial: int64[n_trials]."""
    order = np.lexsort((what, trial))
    fresh = np.diff(trial[order], prepend=-1) | np.diff(what[order], prepend=-1)
    return np.bincount(trial[order][fresh != 0], minlength=n_trials)
