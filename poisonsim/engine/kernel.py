"""The one hot loop: poison by poison, what each policy makes of a trial's history.

Compiled by Numba; with NUMBA_DISABLE_JIT=1 the same source runs interpreted. All arithmetic is on int64. Guest
memory is numbered in base pages. A region that a policy has migrated gets fresh page numbers (one whole copy of
guest memory further on), so that whatever was known of its old huge page is simply not found any more.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from poisonsim.engine.state import (
    DIRECT_MAP_PAGES,
    DISSOLVED_REGIONS,
    ERRORS,
    GUEST_FAULTS,
    GUEST_LOST_PAGES,
    HOST_LOST_PAGES,
    LEAKED_REGIONS,
    LEAVES,
    REGIONS_HIT,
    RESTORED_REGIONS,
    SPARES_EXHAUSTED,
    SPARES_USED,
    STALL_NS,
    STRANDED_PAGES,
    TABLE_PAGES,
    VM_LOST,
)

# geometry vector: what the kernel knows of the VM and its host
(G_REGIONS, G_VM_PAGES, G_SPARES, G_SHARED, G_END_AT_LOSS, G_HAS_DECIDE, G_DIRECT_MAP, G_GROUP_SHIFT, G_CHUNK_SHIFT,
 G_STALL_UNMAP_NS, G_STALL_MIGRATE_NS) = range(11)  # fmt: skip
N_GEOMETRY = 11

# columns of a region's row
R_TRIAL, R_SPLIT_TO, R_COPY, R_HITS = range(4)

# columns of its ledger, kept only for policies that can migrate or keep poison; leaf counts follow
L_POISONS, L_TABLES, L_LOST, L_VM_LEVEL, L_LEAVES = range(5)

# what became of a leaf: not in the table = still mapped by one entry, > 0 = split to that level
HOLE = -1

SPLIT_TO, SPLIT_VM_TO, UNMAP, KEEP, MIGRATE, SPLIT = 5, 6, 2, 3, 4, 1
NO_MATCH = 0

# kinds of keys in the node table; leaf levels use 0..7
KEY_CHUNK, KEY_GROUP = 8, 9

# flags of an event: the first poison of its base page, region, and chunk and group of the direct map
FIRST_IN_PAGE, FIRST_IN_REGION, FIRST_IN_CHUNK, FIRST_IN_GROUP = 1, 2, 4, 8


@njit(cache=True, nogil=True, inline="always")
def _slot(keys, stamps, mask, key, stamp):
    """Index of `key` in an open-addressing table, or of the free slot where it belongs."""
    i = (key * np.int64(-7046029254386353131) >> np.int64(20)) & mask
    while stamps[i] == stamp and keys[i] != key:
        i = (i + 1) & mask
    return i


@njit(cache=True, nogil=True, inline="always")
def _claim(keys, stamps, mask, key, stamp):
    """Whether `key` is new in the table; from now on it is there."""
    i = _slot(keys, stamps, mask, key, stamp)
    if stamps[i] == stamp:
        return False
    keys[i] = key
    stamps[i] = stamp
    return True


@njit(cache=True, nogil=True)
def _bits_for(n):
    """Smallest power of two, at least 16, with room for `n` keys at half load."""
    bits = 4
    while (1 << bits) < 2 * n:
        bits += 1
    return bits


@njit(cache=True, nogil=True)
def _longest(start):
    longest = 1
    for t in range(len(start) - 1):
        longest = max(longest, start[t + 1] - start[t])
    return longest


@njit(cache=True, nogil=True)
def index_events(start, page, region_shift, chunk_shift, group_shift, n_regions):
    """Flags uint8[n_events] of what is hit for the first time in its trial; the same for every policy."""
    size = 1 << _bits_for(2 * _longest(start))
    keys = np.empty(size, np.int64)
    stamps = np.full(size, -1, np.int32)
    latest = np.empty(size, np.int32)  # last new base page of a group, as an event of this trial
    previous = np.empty(_longest(start), np.int32)  # the new base page of the same group before that
    region_stamp = np.full(n_regions, -1, np.int32)
    flags = np.empty(len(page), np.uint8)
    for t in range(len(start) - 1):
        first = start[t]
        mask = (np.int64(1) << _bits_for(2 * (start[t + 1] - first))) - 1
        for e in range(first, start[t + 1]):
            here = page[e]
            key = ((here >> group_shift) << 4) | KEY_GROUP
            i = _slot(keys, stamps, mask, key, t)
            if stamps[i] == t:
                flag = FIRST_IN_PAGE
                other = latest[i]
                while other >= 0:
                    if page[first + other] == here:
                        flag = 0
                        break
                    other = previous[other]
            else:
                keys[i] = key
                stamps[i] = t
                latest[i] = -1
                flag = FIRST_IN_PAGE | FIRST_IN_GROUP
                if chunk_shift != region_shift and _claim(keys, stamps, mask, ((here >> chunk_shift) << 4) | KEY_CHUNK, t):
                    flag |= FIRST_IN_CHUNK
            if flag & FIRST_IN_PAGE:
                previous[e - first] = latest[i]
                latest[i] = e - first
                if region_stamp[here >> region_shift] != t:
                    region_stamp[here >> region_shift] = t
                    flag |= FIRST_IN_REGION
                    if chunk_shift == region_shift:
                        flag |= FIRST_IN_CHUNK
            flags[e] = flag
    return flags


@njit(cache=True, nogil=True, inline="always")
def _compare(x, operator, value):
    if operator == 0:
        return x < value
    if operator == 1:
        return x <= value
    if operator == 2:
        return x > value
    if operator == 3:
        return x >= value
    if operator == 4:
        return x == value
    return x != value


@njit(cache=True, nogil=True)
def simulate(
    start, page, grid, day, fate, flags,
    shift, tables, stall_split, loss_below, geometry,
    rows, row_start, params, decide,
    zero_state,
):  # fmt: skip
    """Runs every trial through one policy.

    Args:
        start: int64[n_trials + 1], first event of each trial; events are in time order.
        page, grid, day: int64, int32, int32 [n_events]: base page, first grid point at or after it, age in days.
        fate: float64[n_events]: the guest dies if this lies below `loss_below` of the leaf it loses.
        flags: uint8[n_events] from `index_events`.
        shift: int64[n_levels], log2 of base pages per leaf.
        tables, stall_split: int64[n_levels, n_levels], page-table pages and stall of one split.
        loss_below: float64[n_levels].
        geometry: int64[N_GEOMETRY].
        rows, row_start, params, decide: the compiled policy.
        zero_state: int64[n_columns], the state before any error.

    Returns:
        states int64[n_states, n_columns] (row 0 is `zero_state`); record_start int64[n_trials + 1]; record_grid
        int32 and record_state int32 [n_records]: from that grid point on the trial is in that state; and a fault
        report int64[4] (0 in its first place, or 1, the trial, what decide answered and at which leaf level).
    """
    n_trials = len(start) - 1
    n_events = len(page)
    n_levels = len(shift)
    n_columns = len(zero_state)
    base = n_levels - 1
    region_pages = np.int64(1) << shift[0]
    has_ledger = geometry[G_HAS_DECIDE] == 1
    for r in range(len(rows)):
        if rows[r, -2] == KEEP or rows[r, -2] == MIGRATE:
            has_ledger = True

    size = 1 << _bits_for((n_levels + 1) * _longest(start))
    keys = np.empty(size, np.int64)
    stamps = np.full(size, -1, np.int32)
    values = np.empty(size, np.int32)
    regions = np.full((geometry[G_REGIONS], 4), -1, np.int32)
    ledgers = np.empty((geometry[G_REGIONS] if has_ledger else 1, L_LEAVES + n_levels), np.int64)

    capacity = n_events + 1
    states = np.empty((capacity, n_columns), np.int64)
    states[0] = zero_state
    n_states = 1
    index = np.full(1 << 12, -1, np.int32)
    hashes = np.empty(capacity, np.int64)
    hashes[0] = 0
    record_start = np.empty(n_trials + 1, np.int64)
    record_grid = np.empty(n_events, np.int32)
    record_state = np.empty(n_events, np.int32)
    n_records = 0
    fault = np.zeros(4, np.int64)
    needs_counters = geometry[G_HAS_DECIDE] == 1
    for r in range(len(rows)):
        if rows[r, 0] > 0:
            needs_counters = True
    counters = np.zeros(9, np.int64)
    counters[8] = base
    s = zero_state.copy()

    for t in range(n_trials):
        record_start[t] = n_records
        s[:] = zero_state
        first, last = start[t], start[t + 1]
        mask = (np.int64(1) << _bits_for((n_levels + 1) * (last - first))) - 1
        vm_level = 0
        regions_split = 0
        hits_in_vm = 0
        region_holes = 0
        for e in range(first, last):
            flag = flags[e]
            s[ERRORS] += 1
            if flag & FIRST_IN_REGION:
                s[REGIONS_HIT] += 1
            if flag & FIRST_IN_PAGE:
                region = page[e] >> shift[0]
                if regions[region, R_TRIAL] != t:
                    regions[region, R_TRIAL] = t
                    regions[region, R_SPLIT_TO] = 0
                    regions[region, R_COPY] = 0
                    regions[region, R_HITS] = 0
                    if has_ledger:
                        ledgers[region, :] = 0
                        ledgers[region, L_LEAVES] = 1
                if has_ledger:
                    ledgers[region, L_POISONS] += 1
                    for above in range(ledgers[region, L_VM_LEVEL], vm_level):  # the VM was split since the last visit
                        n = ledgers[region, L_LEAVES + above]
                        ledgers[region, L_LEAVES + above] = 0
                        ledgers[region, L_LEAVES + vm_level] += n << (shift[above] - shift[vm_level])
                        ledgers[region, L_TABLES] += n * tables[above, vm_level]
                    ledgers[region, L_VM_LEVEL] = vm_level

                # walk down to the leaf that maps this page
                copy = regions[region, R_COPY]
                here = page[e] + copy * geometry[G_VM_PAGES]
                level = 0
                slot = np.int64(-1)
                became = regions[region, R_SPLIT_TO]
                while True:
                    if became > 0:
                        level = became
                    elif became == 0 and level < vm_level:
                        level = vm_level
                    else:
                        break
                    if level == base:
                        became = 0
                        break
                    slot = _slot(keys, stamps, mask, ((here >> shift[level]) << 4) | level, t)
                    became = values[slot] if stamps[slot] == t else 0

                if became != HOLE:
                    hits_in_vm += 1
                    regions[region, R_HITS] += 1
                    s[HOST_LOST_PAGES] += 1
                    s[GUEST_FAULTS] += 1
                    if geometry[G_DIRECT_MAP]:
                        new_chunk, new_group = flag & FIRST_IN_CHUNK, flag & FIRST_IN_GROUP
                        if copy > 0:
                            new_chunk = _claim(keys, stamps, mask, ((here >> geometry[G_CHUNK_SHIFT]) << 4) | KEY_CHUNK, t)
                            new_group = _claim(keys, stamps, mask, ((here >> geometry[G_GROUP_SHIFT]) << 4) | KEY_GROUP, t)
                        if new_chunk:
                            s[DIRECT_MAP_PAGES] += 1
                        if new_group:
                            s[DIRECT_MAP_PAGES] += 1

                while became != HOLE:
                    # which rule acts
                    act = NO_MATCH
                    target = np.int64(-1)
                    spares_left = geometry[G_SPARES] - s[SPARES_USED]
                    if needs_counters:
                        counters[0] = spares_left
                        counters[1] = regions[region, R_HITS]
                        counters[2] = hits_in_vm
                        counters[3] = regions_split
                        counters[4] = s[LEAKED_REGIONS]
                        counters[5] = s[TABLE_PAGES]
                        counters[6] = day[e]
                        counters[7] = level
                    if geometry[G_HAS_DECIDE]:
                        act = decide(counters, params)
                        target = level + 1
                        if act == SPLIT:
                            act = SPLIT_TO
                        if (act != SPLIT_TO and act != UNMAP and act != KEEP and act != MIGRATE) or (
                            act == SPLIT_TO and level == base
                        ) or (act == MIGRATE and spares_left <= 0):
                            fault[0], fault[1], fault[2], fault[3] = 1, t, SPLIT if act == SPLIT_TO else act, level
                            return states[:1], record_start, record_grid[:0], record_state[:0], fault
                    else:
                        for r in range(row_start[level], row_start[level + 1]):
                            holds = True
                            for c in range(rows[r, 0]):
                                if not _compare(counters[rows[r, 1 + 3 * c]], rows[r, 2 + 3 * c], rows[r, 3 + 3 * c]):
                                    holds = False
                                    break
                            if holds and rows[r, -2] == MIGRATE and spares_left <= 0:
                                s[SPARES_EXHAUSTED] = 1
                                holds = False
                            if holds:
                                act = rows[r, -2]
                                target = rows[r, -1]
                                break

                    # what it does
                    if act == SPLIT_TO:
                        more = np.int64(1) << (shift[level] - shift[target])
                        if level == 0:
                            regions_split += 1
                            s[RESTORED_REGIONS] += 1
                            regions[region, R_SPLIT_TO] = target
                        else:
                            key = ((here >> shift[level]) << 4) | level
                            slot = _slot(keys, stamps, mask, key, t)
                            keys[slot] = key
                            stamps[slot] = t
                            values[slot] = target
                        s[LEAVES + level] -= 1
                        s[LEAVES + target] += more
                        s[TABLE_PAGES] += tables[level, target]
                        if has_ledger:
                            ledgers[region, L_LEAVES + level] -= 1
                            ledgers[region, L_LEAVES + target] += more
                            ledgers[region, L_TABLES] += tables[level, target]
                        s[STALL_NS] += stall_split[level, target]
                        level = target
                        continue
                    if act == SPLIT_VM_TO:
                        s[RESTORED_REGIONS] += geometry[G_REGIONS] - region_holes - regions_split
                        regions_split = geometry[G_REGIONS] - region_holes
                        for above in range(target):
                            n = s[LEAVES + above]
                            s[LEAVES + above] = 0
                            s[LEAVES + target] += n << (shift[above] - shift[target])
                            s[TABLE_PAGES] += n * tables[above, target]
                            s[STALL_NS] += n * stall_split[above, target]
                            if has_ledger:
                                n = ledgers[region, L_LEAVES + above]
                                ledgers[region, L_LEAVES + above] = 0
                                ledgers[region, L_LEAVES + target] += n << (shift[above] - shift[target])
                                ledgers[region, L_TABLES] += n * tables[above, target]
                        vm_level = target
                        if has_ledger:
                            ledgers[region, L_VM_LEVEL] = target
                        level = target
                        continue
                    lost = np.int64(1)
                    if act == UNMAP:
                        s[LEAVES + level] -= 1
                        if has_ledger:
                            ledgers[region, L_LEAVES + level] -= 1
                        s[STALL_NS] += geometry[G_STALL_UNMAP_NS]
                        lost = np.int64(1) << shift[level]
                        if level == 0:
                            if has_ledger:
                                lost -= ledgers[region, L_LOST]
                            regions[region, R_SPLIT_TO] = HOLE
                            region_holes += 1
                            if geometry[G_SHARED]:
                                s[LEAKED_REGIONS] += 1
                                s[HOST_LOST_PAGES] += region_pages - regions[region, R_HITS]
                            else:
                                s[DISSOLVED_REGIONS] += 1
                                s[RESTORED_REGIONS] += 1
                                s[STRANDED_PAGES] += region_pages - regions[region, R_HITS]
                        elif level < base:
                            key = ((here >> shift[level]) << 4) | level
                            slot = _slot(keys, stamps, mask, key, t)
                            keys[slot] = key
                            stamps[slot] = t
                            values[slot] = HOLE
                            if has_ledger:  # pages kept, or retired by an earlier migration, are lost already
                                for before in range(first, e):
                                    if flags[before] & FIRST_IN_PAGE and page[before] >> shift[level] == page[e] >> shift[level]:
                                        lost -= 1
                    elif act == MIGRATE:
                        s[SPARES_USED] += 1
                        s[STALL_NS] += geometry[G_STALL_MIGRATE_NS]
                        was_split = regions[region, R_SPLIT_TO] > 0 or vm_level > 0
                        if geometry[G_SHARED]:
                            s[LEAKED_REGIONS] += 1
                            s[HOST_LOST_PAGES] += region_pages - regions[region, R_HITS]
                        else:
                            s[DISSOLVED_REGIONS] += 1
                            s[RESTORED_REGIONS] += 0 if was_split else 1
                            s[STRANDED_PAGES] += region_pages - regions[region, R_HITS]
                        for k in range(n_levels):
                            s[LEAVES + k] -= ledgers[region, L_LEAVES + k]
                            ledgers[region, L_LEAVES + k] = 0
                        ledgers[region, L_LEAVES + vm_level] = np.int64(1) << (shift[0] - shift[vm_level])
                        s[LEAVES + vm_level] += ledgers[region, L_LEAVES + vm_level]
                        s[TABLE_PAGES] += tables[0, vm_level] - ledgers[region, L_TABLES]
                        ledgers[region, L_TABLES] = tables[0, vm_level]
                        if vm_level > 0:
                            s[RESTORED_REGIONS] += 1
                        elif was_split:
                            regions_split -= 1
                        lost = ledgers[region, L_POISONS] - ledgers[region, L_LOST]
                        regions[region, R_SPLIT_TO] = 0
                        regions[region, R_HITS] = 0
                        regions[region, R_COPY] += 1
                    s[GUEST_LOST_PAGES] += lost
                    if has_ledger:
                        ledgers[region, L_LOST] += lost
                    if fate[e] < loss_below[level if act == UNMAP else base]:
                        s[VM_LOST] = 1
                    break

            # the state that holds from this event's grid point on
            if e + 1 < last and grid[e + 1] == grid[e] and not (geometry[G_END_AT_LOSS] and s[VM_LOST]):
                continue
            h = (  # of the columns that tell most states apart; the comparison below sees all of them
                s[ERRORS] * np.int64(-7046029254386353131)
                + s[REGIONS_HIT] * np.int64(-4417276706812531889)
                + s[TABLE_PAGES] * np.int64(1609587929392839161)
                + s[GUEST_LOST_PAGES] * np.int64(-8796714831421723037)
                + s[DIRECT_MAP_PAGES] * np.int64(2870177450012600261)
                + s[SPARES_USED] * np.int64(6364136223846793005)
                + s[VM_LOST] * np.int64(-49064778989728563)
            )
            h ^= h >> 32
            if 4 * n_states > len(index):
                index = np.full(4 * len(index), -1, np.int32)
                for old in range(1, n_states):
                    i = hashes[old] & (len(index) - 1)
                    while index[i] >= 0:
                        i = (i + 1) & (len(index) - 1)
                    index[i] = old
            i = h & (len(index) - 1)
            while True:
                found = index[i]
                if found < 0:
                    index[i] = n_states
                    found = n_states
                    hashes[n_states] = h
                    states[n_states] = s
                    n_states += 1
                    break
                if hashes[found] == h:
                    same = True
                    for k in range(n_columns):
                        same &= states[found, k] == s[k]
                    if same:
                        break
                i = (i + 1) & (len(index) - 1)
            record_grid[n_records] = grid[e]
            record_state[n_records] = found
            n_records += 1
            if geometry[G_END_AT_LOSS] and s[VM_LOST]:
                break
    record_start[n_trials] = n_records
    return states[:n_states], record_start, record_grid[:n_records], record_state[:n_records], fault


@njit(cache=True, nogil=True)
def count_states(record_start, record_grid, record_state, n_states, n_grid, n_untouched):
    """How many trials are in each state at each grid point: int64[n_states, n_grid].

    `n_untouched` trials have no event and stay in state 0 throughout.
    """
    counts = np.zeros((n_states, n_grid + 1), np.int64)
    counts[0, 0] = n_untouched + len(record_start) - 1
    for t in range(len(record_start) - 1):
        state = 0
        for r in range(record_start[t], record_start[t + 1]):
            counts[state, record_grid[r]] -= 1
            state = record_state[r]
            counts[state, record_grid[r]] += 1
    for i in range(n_states):
        for g in range(1, n_grid):
            counts[i, g] += counts[i, g - 1]
    return counts[:, :n_grid]


@njit(cache=True, nogil=True)
def states_at(record_start, record_grid, record_state, grid_point):
    """State of each trial at one grid point: int32[n_trials]."""
    out = np.zeros(len(record_start) - 1, np.int32)
    for t in range(len(record_start) - 1):
        for r in range(record_start[t], record_start[t + 1]):
            if record_grid[r] > grid_point:
                break
            out[t] = record_state[r]
    return out


@njit(cache=True, nogil=True)
def count_rows(rows):
    """The distinct rows of int32[n, width] in order of first appearance, and how often each occurs: int64[n_distinct]."""
    n, width = rows.shape
    mask = (np.int64(1) << _bits_for(n)) - 1
    index = np.full(mask + 1, -1, np.int32)
    first = np.empty(n, np.int64)
    counts = np.zeros(n, np.int64)
    n_distinct = 0
    for r in range(n):
        h = np.int64(0)
        for k in range(width):
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
