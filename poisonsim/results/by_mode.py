"""Which fault modes the loss of guest memory is from, under each policy, from the first block of a run's trials."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from poisonsim.engine.block import trace_trial
from poisonsim.engine.records import N_TRACE, T_EVENT
from poisonsim.engine.state import GUEST_LOST_PAGES
from poisonsim.faults.history import History, draw_history
from poisonsim.faults.tables import MODES
from poisonsim.policy import CompiledPolicy
from poisonsim.results.result import Result
from poisonsim.results.statistics import without_empty
from poisonsim.scenario import FieldFaults

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_ONE_BY_ONE = 400
"""Trials traced where a policy's own clock, or a restart, needs a trace of its own for each."""


def loss_by_mode(result: Result) -> dict[str, dict[str, float]]:
    """Share of the guest memory lost that is from faults of each mode, by policy; empty without a field model.

    What is lost counts when it is lost, whether or not it comes back later. A policy that loses nothing is left out.

    Examples:
        >>> import poisonsim as ps
        >>> res = ps.run("cloud-1t-ddr4", policies=["unmap1g"], trials=20_000)
        >>> shares = loss_by_mode(res)["unmap1g"]
        >>> round(sum(shares.values()), 9), max(shares, key=shares.get) in ("row", "column", "bank", "multi-bank")
        (1.0, True)
    """
    plan = result.plan
    if not isinstance(plan.scenario.faults, FieldFaults):
        return {}
    history = draw_history(plan.scenario, plan.seed, 0, plan.block_trials).first(result.n_trials)
    if not len(history.page):
        return {}
    found, weights = {}, _weights(result, history)
    for policy in plan.policies:
        lost = np.zeros(len(MODES) + 1)
        for part in _parts(result, policy, history):
            lost += _lost(result, policy, part, weights)
        if lost.sum() > 0:
            found[policy.label] = {
                mode: float(share) for mode, share in zip(MODES, lost / lost.sum(), strict=False) if share > 0
            }
    return found


def _parts(result: Result, policy: CompiledPolicy, history: History) -> Iterator[History]:
    """Histories that one trace has room for."""
    if not policy.has_timed_rules and result.plan.scenario.vm.on_loss == "count":
        yield history
        return
    for i in range(min(_ONE_BY_ONE, len(history.trial))):
        first, end = int(history.start[i]), int(history.start[i + 1])
        yield history.cut(
            history.trial[i : i + 1], history.stratum[i : i + 1], np.array([0, end - first]), slice(first, end)
        )


def _weights(result: Result, history: History) -> F64:
    """Probability that a simulated trial of each stratum stands for, but for a factor."""
    n = np.bincount(history.stratum, minlength=len(result.weights))
    return without_empty(result.weights, n) / np.maximum(n, 1)


def _lost(result: Result, policy: CompiledPolicy, history: History, weights: F64) -> F64:
    """Pages lost to errors of each mode, float64[modes + 1]; the last is of those of which no mode is known."""
    rows = trace_trial(result.plan, policy, history, 0)
    seen = history if policy.acts_on_ces else history.uncorrected
    event = rows[:, T_EVENT]
    trial = np.searchsorted(seen.start, np.maximum(event, 0), side="right") - 1
    pages = rows[:, N_TRACE + GUEST_LOST_PAGES]
    before = np.where(np.diff(trial, prepend=-1) == 0, np.concatenate(([0], pages[:-1])), 0)
    more = np.where(event >= 0, np.maximum(pages - before, 0), 0)
    mode = np.minimum(seen.mode[np.maximum(event, 0)], len(MODES))
    lost: F64 = np.bincount(mode, more * weights[seen.stratum[trial]], minlength=len(MODES) + 1).astype(np.float64)
    return lost
