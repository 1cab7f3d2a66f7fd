"""Counts of trials by state, from the paths that the kernel returns."""

from __future__ import annotations

import numpy as np

from poisonsim.compiled import compiled
from poisonsim.engine.hashing import bits_for


@compiled
def count_states(record_start, record_grid, record_state, stratum, n_states, n_grid, n_untouched):
    """How many trials are in each state at each grid point: int64[n_states, n_grid].

    Each trial starts in the state of its stratum; `n_untouched` have no event and stay in state 0 throughout.
    """
    counts = np.zeros((n_states, n_grid + 1), np.int64)
    counts[0, 0] = n_untouched
    for t in range(len(record_start) - 1):
        state = stratum[t]
        counts[state, 0] += 1
        for r in range(record_start[t], record_start[t + 1]):
            counts[state, record_grid[r]] -= 1
            state = record_state[r]
            counts[state, record_grid[r]] += 1
    for i in range(n_states):
        for g in range(1, n_grid):
            counts[i, g] += counts[i, g - 1]
    return counts[:, :n_grid]


@compiled
def states_at(record_start, record_grid, record_state, stratum, points):
    """State of each trial at each of some ascending grid points: int32[n_points, n_trials]."""
    out = np.empty((len(points), len(record_start) - 1), np.int32)
    for t in range(len(record_start) - 1):
        state = stratum[t]
        r = record_start[t]
        for p in range(len(points)):
            while r < record_start[t + 1] and record_grid[r] <= points[p]:
                state = record_state[r]
                r += 1
            out[p, t] = state
    return out


@compiled
def count_rows(rows):
    """The distinct rows of int32[n, width], by first appearance, and how often each occurs: int64[n_distinct]."""
    n, width = rows.shape
    alone = width == 1  # a number is its own place, and there are few
    mask = (np.int64(1) << bits_for(rows.max() + 1 if alone else n)) - 1
    index = np.full(mask + 1, -1, np.int32)
    first = np.empty(n, np.int64)
    counts = np.zeros(n, np.int64)
    n_distinct = 0
    for r in range(n):
        h = np.int64(rows[r, 0]) if alone else np.int64(0)
        for k in range(0 if alone else width):
            h = (h ^ rows[r, k]) * np.int64(-7046029254386353131)
            h ^= h >> 29
        i = h & mask
        while True:
            found = index[i]
            if found < 0:
                index[i] = found = n_distinct
                first[n_distinct] = r
                n_distinct += 1
                break
            same = True
            for k in range(width):
                same &= rows[first[found], k] == rows[r, k]
            if same:
                break
            i = (i + 1) & mask
        counts[found] += 1
    return rows[first[:n_distinct]], counts[:n_distinct]
