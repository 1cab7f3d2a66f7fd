"""What block counts cannot say, recomputed from the seed: single trials, and averages over a VM's life."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poisonsim.compiled import compiled
from poisonsim.engine.block import Paths, follow
from poisonsim.engine.plan import Plan
from poisonsim.engine.run import block_sizes
from poisonsim.faults.arrivals import arrivals_of
from poisonsim.faults.history import History, draw_history

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

# Life averages follow each trial through every state it was in, so they use the first trials only: enough that
# their quantiles are known well, few enough that a long run neither runs twice nor fills memory.
_LIFE_ERRORS = 1 << 21
_LIFE_HIT_TRIALS = 1 << 16


def histories(plan: Plan, n_trials: int) -> Iterator[tuple[int, int, History, tuple[Paths, ...]]]:
    """(first trial, trials, history, paths of each policy) of each block of the first `n_trials` trials."""
    for index, size in enumerate(block_sizes(plan, n_trials)):
        history = draw_history(plan.scenario, plan.seed, index, plan.block_trials).first(size)
        yield index * plan.block_trials, size, history, follow(plan, history, index)


def life_trials(plan: Plan, n_trials: int) -> int:
    """How many of the first trials the distribution of life averages is taken from."""
    strata = plan.strata
    p_simulated = max(arrivals_of(plan.scenario).p_any, 1e-9) if strata.plain else max(strata.p_any, 1e-300)
    by_errors = _LIFE_ERRORS / max(plan.errors_per_trial, 1e-300)
    return int(min(n_trials, min(by_errors, _LIFE_HIT_TRIALS / p_simulated) + 1))


@compiled
def time_averages(start: Any, grid: Any, state: Any, stratum: Any, values: Any, n_steps: int) -> Any:
    """Average of each metric over the life of each trial, by the trapezoid rule on the grid.

    Args:
        start, grid, state: A policy's paths, `state` as rows of `values`.
        stratum: int64[n_trials], the row of `values` that each trial starts from.
        values: float64[n_states, n_metrics].

    Returns:
        float64[n_trials, n_metrics].
    """
    n_metrics = values.shape[1]
    out = np.empty((len(start) - 1, n_metrics))
    for t in range(len(start) - 1):
        now = stratum[t]
        since = 0.0  # grid steps weighted so far: grid point g stands for the half steps on both sides of it
        for m in range(n_metrics):
            out[t, m] = 0.0
        for r in range(start[t], start[t + 1] + 1):
            until = float(n_steps)
            if r < start[t + 1]:
                until = grid[r] - 0.5
            for m in range(n_metrics):
                out[t, m] += values[now, m] * (until - since)
            since = until
            if r < start[t + 1]:
                now = state[r]
        for m in range(n_metrics):
            out[t, m] /= n_steps
    return out
