"""States of policies whose answers are all known, made of tallies and found by them; part of the kernel."""

from __future__ import annotations

import numpy as np

from poisonsim.compiled import compiled, inlined
from poisonsim.engine.hashing import rebuild_index
from poisonsim.engine.state import DIRECT_MAP_PAGES, ERRORS, REGIONS_HIT, STALL_NS, VM_LOST, WORST_STALL_NS

# columns of the tallies of a state: both words, the rest of what it depends on, and their hash
T_LOW, T_HIGH, T_REST, T_HASH = range(4)
N_TALLY_COLUMNS = 4


@inlined
def lane(low, high, k, bits):
    """Tally `k`: poisons that met a leaf of level `k`, or after those the pages of the direct map that were split."""
    word = high if k & 1 else low
    return (word >> (k // 2 * bits)) & ((np.int64(1) << bits) - 1)


@compiled
def _state_of(known, low, high, errors, lost, zero_state, s):
    """Fills in the state `s` that tallies stand for."""
    n_levels = len(known.change)
    s[:] = zero_state
    for level in range(n_levels):
        n = lane(low, high, level, known.bits)
        if n > 0:
            for k in range(len(s)):
                s[k] += n * known.change[level, k]
            s[WORST_STALL_NS] = max(s[WORST_STALL_NS], known.change[level, STALL_NS])
    s[ERRORS] = errors
    s[REGIONS_HIT] = lane(low, high, 0, known.bits)
    s[DIRECT_MAP_PAGES] = lane(low, high, n_levels, known.bits)
    s[VM_LOST] = lost


def _tallied(
    known, low, high, errors, lost, stratum, point, first_record, zero_states, states, tallies, index, index_mask,
    n_states, record_grid, record_state, n_records,
):  # fmt: skip
    """As `records.record`, for the state that tallies stand for; different ones stand for different states.

    They do because poison in a leaf of some level takes one from that level's leaves, and adds to smaller ones only.

    Args:
        tallies: int64[most_states, N_TALLY_COLUMNS], of each state.
    """
    rest = (np.int64(stratum) << 40) | (errors << 1) | lost
    h = low * np.int64(-7046029254386353131) + high * np.int64(-4417276706812531889)
    h += rest * np.int64(1609587929392839161)
    h ^= h >> 32
    if 4 * n_states > index_mask and 2 * n_states < len(index):
        index_mask = min(4 * index_mask + 3, np.int64(len(index) - 1))
        rebuild_index(index, index_mask, tallies[:, T_HASH], len(zero_states), n_states)
    i = h & index_mask
    while True:
        found = index[i]
        if found < 0:
            found = n_states
            index[i] = found
            tallies[found, T_LOW] = low
            tallies[found, T_HIGH] = high
            tallies[found, T_REST] = rest
            tallies[found, T_HASH] = h
            _state_of(known, low, high, errors, lost, zero_states[stratum], states[found])
            n_states += 1
            break
        if tallies[found, T_LOW] == low and tallies[found, T_HIGH] == high and tallies[found, T_REST] == rest:
            break
        i = (i + 1) & index_mask
    if n_records > first_record and record_grid[n_records - 1] == point:
        n_records -= 1
    record_grid[n_records] = point
    record_state[n_records] = found
    return n_states, index_mask, n_records + 1


tallied = inlined(_tallied)
tallied_rarely = compiled(_tallied)
