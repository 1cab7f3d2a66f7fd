"""The hot loop for policies whose answers are all known: poisons are counted, and states made of the tallies.

It keeps what holds at the grid points of one trial, and only then looks up the states: where each loop has no branch
that nobody can foresee, the processor goes on with the next event while the last one is still on its way.
"""

from __future__ import annotations

import numpy as np

from poisonsim.compiled import bare, compiled, inlined
from poisonsim.engine.guest import years_to_death
from poisonsim.engine.hashing import rebuild_index
from poisonsim.engine.room import FEWEST_SLOTS
from poisonsim.engine.state import DIRECT_MAP_PAGES, ERRORS, REGIONS_HIT, STALL_NS, VM_LOST, WORST_STALL_NS

# columns of the tallies of a state: both words, the rest of what it depends on, and their hash
T_LOW, T_HIGH, T_REST, T_HASH = range(4)

# that rest: the stratum from this bit on, the errors, and in the lowest bit whether the VM is lost
_STRATUM_BIT = 40

_CROWDED = 2  # poisons per grid point from which on those of a lost VM are worth counting apart


@inlined
def lane(low, high, k, bits):
    """Tally `k`: poisons that met a leaf of level `k`, or after those the pages of the direct map that were split."""
    word = high if k & 1 else low
    return (word >> (k // 2 * bits)) & ((np.int64(1) << bits) - 1)


@compiled
def _state_of(known, low, high, rest, zero_states, s):
    """Fills in the state `s` that tallies stand for."""
    n_levels = len(known.change)
    s[:] = zero_states[rest >> _STRATUM_BIT]
    for level in range(n_levels):
        n = lane(low, high, level, known.bits)
        if n > 0:
            for k in range(len(s)):
                s[k] += n * known.change[level, k]
            s[WORST_STALL_NS] = max(s[WORST_STALL_NS], known.change[level, STALL_NS])
    s[ERRORS] = (rest & ((np.int64(1) << _STRATUM_BIT) - 1)) >> 1
    s[REGIONS_HIT] = lane(low, high, 0, known.bits)
    s[DIRECT_MAP_PAGES] = lane(low, high, n_levels, known.bits)
    s[VM_LOST] = rest & 1


@inlined
def _keep(rows, i, low, high, rest):
    rows[i, T_LOW], rows[i, T_HIGH], rows[i, T_REST] = low, high, rest


@bare
def simulate_known(
    start, years, grid, fate, ar, flags, shift, guest, ends_at_loss, steps_per_year, last_step, stratum, zero_states,
    known, found, records, entries,
):  # fmt: skip
    """Runs every trial through a policy whose every answer is known beforehand, which takes no walk and no rules.

    Different tallies stand for different states, because poison in a leaf of some level takes one from that level's
    leaves, and adds to smaller ones only.

    Args:
        start, years, grid, fate, ar, flags, shift, guest, steps_per_year, last_step, stratum, zero_states, records: As
            for `kernel.simulate`.
        ends_at_loss: Whether the life of a lost VM ends.
        known: Its `KnownAnswers`.
        found: Room for states; instead of a hash, each has int64[N_TALLY_COLUMNS].
        entries: int64[longest trial + 1, N_TALLY_COLUMNS], room for the tallies of one trial at each grid point.

    Returns:
        How many states and records there are, as `kernel.simulate` says; -1 states where there is no room for more.
    """
    states, tallies, index = found
    n_states = n_strata = len(zero_states)
    index_mask = np.int64(FEWEST_SLOTS - 1)  # the index grows in place: only as much as needed is used
    index[:FEWEST_SLOTS] = -1
    record_start, record_grid, record_state = records
    n_records = np.int64(0)
    adds_low, adds_high, dies_by_flag, loses_by_flag = known.low, known.high, known.p_dies, known.loses

    for t in range(len(start) - 1):
        record_start[t] = n_records
        first, last = start[t], start[t + 1]
        if n_states + last - first + 1 > len(states):  # as many as there may be of events, and one of a death
            return -1, 0
        low, high, rest = np.int64(0), np.int64(0), stratum[t] << _STRATUM_BIT
        lost, dies_at = False, np.inf  # years
        n, previous = n_records - 1, np.int64(-1)
        tail = last
        for e in range(first, last):
            u = np.uint64(e)  # unsigned, so that nothing asks whether it counts from the end
            flag, point = np.uint64(flags[u]), np.int64(grid[u])
            low += adds_low[flag]
            high += adds_high[flag]
            rest += 2
            n += point != previous  # what holds after the last event of a grid point is kept
            previous = point
            if fate[u] < dies_by_flag[flag] and not lost:
                level = loses_by_flag[flag]
                pages = np.int64(1) << shift[level]
                wait = years_to_death(fate[e], guest.p_dies[level], ar[e], pages, guest.deaths_per_year[level])
                dies_at = min(dies_at, years[e] + wait)
            dies = dies_at < np.inf and dies_at < (years[e + 1] if e + 1 < last else np.inf)
            later = np.int64(0)
            if dies:
                later = np.int64(min(np.ceil(dies_at * steps_per_year), last_step + 1.0))
                dies = later <= last_step or later <= point
                if dies:
                    lost, dies_at = True, np.inf
                    rest += later <= point
            _keep(entries, np.uint64(n - n_records), low, high, rest)
            record_grid[np.uint64(n)] = point
            if dies:
                if later > point:
                    rest += 1
                    if ends_at_loss or e + 1 == last or later < grid[e + 1]:
                        n += 1
                        previous = later
                        _keep(entries, n - n_records, low, high, rest)
                        record_grid[n] = later
                if ends_at_loss:
                    break
                if last - first > _CROWDED * last_step:
                    tail = e + 1
                    break
        while tail < last:  # no fates to look at any more, and one entry for all at a grid point
            previous = np.int64(grid[tail])
            n += record_grid[n] != previous
            while tail < last and grid[tail] == previous:
                low += adds_low[flags[tail]]
                high += adds_high[flags[tail]]
                rest += 2
                tail += 1
            _keep(entries, n - n_records, low, high, rest)
            record_grid[n] = previous
        for r in range(n_records, n + 1):
            low, high, rest = entries[r - n_records, 0], entries[r - n_records, 1], entries[r - n_records, 2]
            h = low * np.int64(-7046029254386353131) + high * np.int64(-4417276706812531889)
            h += rest * np.int64(1609587929392839161)
            h ^= h >> 32
            i = h & index_mask
            while True:
                state = np.int64(index[i])
                if state < 0:
                    state = n_states
                    index[i] = state
                    _keep(tallies, state, low, high, rest)
                    tallies[state, T_HASH] = h
                    _state_of(known, low, high, rest, zero_states, states[state])
                    n_states += 1
                    if 4 * n_states > index_mask and 2 * n_states < len(index):
                        index_mask = min(4 * index_mask + 3, np.int64(len(index) - 1))
                        rebuild_index(index, index_mask, tallies[:, T_HASH], n_strata, n_states)
                    break
                same = (tallies[state, T_LOW] == low) & (tallies[state, T_HIGH] == high)
                if same & (tallies[state, T_REST] == rest):
                    break
                i = (i + 1) & index_mask
            record_state[r] = state
        n_records = n + 1
    record_start[len(start) - 1] = n_records
    return n_states, n_records
