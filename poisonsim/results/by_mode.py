"""Which fault modes the loss of guest memory is from, under each policy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from poisonsim.engine.block import trace_trial
from poisonsim.engine.plan import Plan
from poisonsim.engine.records import N_TRACE, T_EVENT
from poisonsim.engine.state import GUEST_LOST_PAGES
from poisonsim.faults.history import History, draw_history
from poisonsim.faults.tables import MODES
from poisonsim.policy import CompiledPolicy
from poisonsim.results.result import Result
from poisonsim.results.statistics import Estimate, ratio_of_means
from poisonsim.scenario import FieldFaults

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_ONE_BY_ONE = 400
"""Trials traced where a policy's own clock, or a restart, needs a trace of its own for each."""


def loss_by_mode(result: Result) -> dict[str, dict[str, Estimate]]:
    """Share of the guest memory lost that is from faults of each mode, by policy, over the first block of trials.

    Empty without a field model.

    What is lost counts when it is lost, whether or not it comes back later. A policy that loses nothing is left out.
    Shares are ratios of two means over the trials, with delta-method intervals, since trials are independent but the
    modes of one trial are not.

    Examples:
        >>> import poisonsim as ps
        >>> res = ps.run("cloud-1t-ddr4", policies=["unmap1g"], trials=20_000)
        >>> shares = loss_by_mode(res)["unmap1g"]
        >>> round(sum(share.best for share in shares.values()), 9), all(s.low < s.high for s in shares.values())
        (1.0, True)
    """
    plan = result.plan
    if not isinstance(plan.scenario.faults, FieldFaults):
        return {}
    history = draw_history(plan.scenario, plan.seed, 0, plan.block_trials).first(result.n_trials)
    if not len(history.page):
        return {}
    found = {}
    for policy in plan.policies:
        lost = pages_lost_by_mode(plan, policy, history, _ONE_BY_ONE)
        stratum = history.stratum[: len(lost)]
        if lost.any():
            found[policy.label] = _shares(result, lost, stratum, len(lost) == len(history.trial))
    return found


def _shares(result: Result, lost: F64, stratum: I64, whole: bool) -> dict[str, Estimate]:
    """Shares of the modes that lose any, from pages lost per trial and mode.

    Args:
        lost: float64[n, modes + 1].
        whole: Whether all trials of the block that see a fault are among them.
    """
    counts = np.ones(len(lost) + 1, np.int64)
    # The trials that lose nothing because they see no fault: where all count alike they matter to intervals.
    nominal = min(result.n_trials, result.plan.block_trials)
    counts[-1] = max(nominal - len(lost), 1) if whole and len(result.weights) == 1 else 1
    strata = np.append(stratum, 0)
    total = np.append(lost.sum(axis=1), 0.0)
    shares: dict[str, Estimate] = {}
    for place, mode in enumerate(MODES):
        if lost[:, place].any():
            ratio = ratio_of_means(np.append(lost[:, place], 0.0), total, counts, strata, result.weights)
            assert ratio is not None
            shares[mode] = replace(ratio, low=max(ratio.low, 0.0), high=min(ratio.high, 1.0))
    return shares


def pages_lost_by_mode(plan: Plan, policy: CompiledPolicy, history: History, most: int | None = None) -> F64:
    """Pages that each trial of a history loses to errors of each mode; those that come back later count, too.

    Args:
        most: Trials to follow where each needs a trace of its own; None for all.

    Returns:
        float64[n_trials, len(MODES) + 1]; the last is of errors whose mode is not known.
    """
    parts = [_lost(plan, policy, part) for part in _parts(plan, policy, history, most)]
    return np.concatenate([*parts, np.zeros((0, len(MODES) + 1))])


def _parts(plan: Plan, policy: CompiledPolicy, history: History, most: int | None) -> Iterator[History]:
    """Histories that one trace has room for."""
    if not policy.has_timed_rules and plan.scenario.vm.on_loss == "count":
        yield history
        return
    for i in range(len(history.trial))[:most]:
        first, end = int(history.start[i]), int(history.start[i + 1])
        yield history.cut(
            history.trial[i : i + 1], history.stratum[i : i + 1], np.array([0, end - first]), slice(first, end)
        )


def _lost(plan: Plan, policy: CompiledPolicy, history: History) -> F64:
    rows = trace_trial(plan, policy, history, 0)
    seen = history if policy.acts_on_ces else history.uncorrected
    event = rows[:, T_EVENT]
    trial = np.searchsorted(seen.start, np.maximum(event, 0), side="right") - 1
    pages = rows[:, N_TRACE + GUEST_LOST_PAGES]
    before = np.where(np.diff(trial, prepend=-1) == 0, np.concatenate(([0], pages[:-1])), 0)
    more = np.where(event >= 0, np.maximum(pages - before, 0), 0)
    mode = np.minimum(seen.mode[np.maximum(event, 0)], len(MODES))
    lost = np.zeros((len(history.trial), len(MODES) + 1))
    np.add.at(lost, (trial, mode), more)
    return lost
