"""Distinct states found by hash, and from which grid point on a trial is in which; part of the kernel."""

from __future__ import annotations

from numpy import int64

from poisonsim.compiled import compiled, inlined
from poisonsim.engine.hashing import rebuild_index
from poisonsim.engine.state import (
    DIRECT_MAP_PAGES,
    ERRORS,
    GUEST_LOST_PAGES,
    REGIONS_HIT,
    SPARES_USED,
    TABLE_PAGES,
    VM_LOST,
)
from poisonsim.units import DAYS_PER_YEAR


def _record(
    s, salt, point, first_record, states, hashes, index, index_mask, n_states, n_strata, record_grid, record_state,
    n_records,
):  # fmt: skip
    """The trial is in state `s` from a grid point on; its last record gives way if it is of the same point.

    Returns:
        How many states there are, the mask of their index, and how many records.
    """
    h = (  # of the columns that tell most states apart; the comparison below sees all of them
        salt
        + s[ERRORS] * int64(-7046029254386353131)
        + s[REGIONS_HIT] * int64(-4417276706812531889)
        + s[TABLE_PAGES] * int64(1609587929392839161)
        + s[GUEST_LOST_PAGES] * int64(-8796714831421723037)
        + s[DIRECT_MAP_PAGES] * int64(2870177450012600261)
        + s[SPARES_USED] * int64(6364136223846793005)
        + s[VM_LOST] * int64(-49064778989728563)
    )
    h ^= h >> 32
    if 4 * n_states > index_mask and 2 * n_states < len(index):
        index_mask = min(4 * index_mask + 3, int64(len(index) - 1))
        rebuild_index(index, index_mask, hashes, n_strata, n_states)
    i = h & index_mask
    while True:
        found = index[i]
        if found < 0:
            found = n_states
            index[i] = found
            hashes[found] = h
            for k in range(len(s)):
                states[found, k] = s[k]
            n_states += 1
            break
        if hashes[found] == h:
            same = True
            for k in range(len(s)):
                same &= states[found, k] == s[k]
            if same:
                break
        i = (i + 1) & index_mask
    if n_records > first_record and record_grid[n_records - 1] == point:
        n_records -= 1
    record_grid[n_records] = point
    record_state[n_records] = found
    return n_states, index_mask, n_records + 1


record = inlined(_record)
record_rarely = compiled(_record)  # called, not inlined, which keeps the kernel small


# what a row of a trace says before the state
T_EVENT, T_DAY, T_ACTS, T_LEVEL, T_DIES = range(5)
N_TRACE = 5
RESTARTED = -2  # in place of a level, where a lost VM is restarted
NS_PER_YEAR = DAYS_PER_YEAR * 86400e9
MOST_YEARS = 200.0  # later deaths than these are not told


@compiled
def note(trace, n_traced, event, day, acts, level, dies_at, s, errors, regions_hit, direct_map_pages):
    """Writes one row of a trace, if it has room, and says how many there are."""
    if n_traced == len(trace):
        return n_traced
    row = trace[n_traced]
    row[T_EVENT], row[T_DAY], row[T_ACTS], row[T_LEVEL] = event, day, acts, level
    row[T_DIES] = -1 if dies_at > MOST_YEARS else int64(dies_at * NS_PER_YEAR)
    row[N_TRACE:] = s
    row[N_TRACE + ERRORS] = errors
    row[N_TRACE + REGIONS_HIT] = regions_hit
    row[N_TRACE + DIRECT_MAP_PAGES] = direct_map_pages
    return n_traced + 1
