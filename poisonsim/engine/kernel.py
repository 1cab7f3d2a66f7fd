"""The one hot loop: poison by poison, what a policy makes of a trial's history.

Compiled by Numba; with NUMBA_DISABLE_JIT=1 the same source runs interpreted. All arithmetic is on int64. Guest
memory is numbered in base pages. A region that a policy has migrated gets fresh page numbers (one whole copy of
guest memory further on), so that whatever was known of its old huge page is simply not found any more.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from poisonsim.engine.answers import fixed_answers, give_up, matching, pages_to_split_down, settle, split_down
from poisonsim.engine.codes import (
    G_CHUNK_SHIFT,
    G_DIRECT_MAP,
    G_END_AT_LOSS,
    G_GROUP_SHIFT,
    G_HAS_DECIDE,
    G_REGIONS,
    G_SHARED,
    G_SPARES,
    G_STALL_MIGRATE_NS,
    G_STALL_UNMAP_NS,
    G_VM_PAGES,
    HOLE,
    KEEP,
    MIGRATE,
    NO_MATCH,
    SPARES_LEFT,
    SPLIT,
    SPLIT_TO,
    SPLIT_VM_TO,
    UNMAP,
)
from poisonsim.engine.events import (
    ALONE_IN_GROUP,
    CORRECTED,
    FIRST_IN_CHUNK,
    FIRST_IN_GROUP,
    FIRST_IN_PAGE,
    FIRST_IN_REGION,
    KEY_CHUNK,
    KEY_GROUP,
)
from poisonsim.engine.guest import years_to_death
from poisonsim.engine.hashing import bits_for, claim, longest_run, put, rebuild_index, slot_of
from poisonsim.engine.state import (
    DIRECT_MAP_PAGES,
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
    TABLE_PAGES,
    VM_LOST,
)

# columns of a region's row
R_TRIAL, R_SPLIT_TO, R_COPY, R_HITS = range(4)

# columns of its ledger, kept only for policies that can migrate or keep poison; leaf counts follow
L_POISONS, L_TABLES, L_LOST, L_VM_LEVEL, L_LEAVES = range(5)


@njit(cache=True, nogil=True)
def simulate(
    start, page, years, born, grid, day, fate, ar, flags,
    shift, tables, stall_split, guest, geometry, steps_per_year, last_step,
    rows, row_start, params, decide,
    stratum, zero_states,
):  # fmt: skip
    """Runs every trial through one policy.

    Args:
        start: int64[n_trials + 1], first event of each trial; events are in time order.
        page, years, born: int64, float64, float64 [n_events]: base page, when found, when its fault began.
        grid, day: int32[n_events], first grid point at or after `years`, age in days.
        fate, ar: float64, uint8 [n_events], what the guest makes of it; see `years_to_death`.
        flags: uint8[n_events] from `index_events`.
        shift: int64[n_levels], log2 of base pages per leaf.
        tables, stall_split: int64[n_levels, n_levels], page-table pages and stall of one split.
        guest: A `GuestLaw`.
        geometry: int64[N_GEOMETRY].
        steps_per_year, last_step: The grid.
        rows, row_start, params, decide: the compiled policy.
        stratum: int64[n_trials], the row of `zero_states` that each trial starts from.
        zero_states: int64[n_strata, n_columns], the state before any error, by stratum.

    Returns:
        states int64[n_states, n_columns] (the first are `zero_states`); record_start int64[n_trials + 1]; record_grid
        int32 and record_state int32 [n_records]: from that grid point on the trial is in that state; and a fault
        report int64[4] (0 in its first place, or 1, the trial, what decide answered and at which leaf level).
    """
    n_trials, n_events = len(start) - 1, len(page)
    n_levels, n_columns = len(shift), zero_states.shape[1]
    base = n_levels - 1
    region_pages = np.int64(1) << shift[0]
    has_decide = geometry[G_HAS_DECIDE] == 1
    has_ledger = has_decide
    for r in range(len(rows)):
        if rows[r, -2] == KEEP or rows[r, -2] == MIGRATE:
            has_ledger = True
    fixed, change, becomes, last_level = fixed_answers(
        rows, row_start, shift, tables, stall_split, guest.faults, geometry, n_columns, not has_ledger
    )

    due = np.zeros(n_levels, np.int64)  # fixed answers not yet in the state, by level
    n_due = 0
    alone_from = n_levels  # leaves from this level down lie within one group of the direct map
    while alone_from > 0 and shift[alone_from - 1] <= geometry[G_GROUP_SHIFT]:
        alone_from -= 1

    p_dies, deaths_per_year, faults = guest.p_dies, guest.deaths_per_year, guest.faults
    kept_per_year, kept_faults = guest.kept_per_year, guest.kept_faults

    # what is known of nodes (leaves that were split or lost), regions and ledgers, for the trial in their stamp
    keys_per_event = (
        n_levels - 2 + 2 * has_ledger
    )  # a node of each level between; chunk and group, of a region that moved
    size = 1 << bits_for(keys_per_event * longest_run(start))
    keys = np.empty(size, np.int64)
    stamps = np.full(size, -1, np.int32)
    values = np.empty(size, np.int32)
    regions = np.full((geometry[G_REGIONS], 4), -1, np.int32)
    ledgers = np.empty((geometry[G_REGIONS] if has_ledger else 1, L_LEAVES + n_levels), np.int64)
    moved_at = np.empty(geometry[G_REGIONS] if has_ledger else 1, np.float64)  # years
    poisons = np.empty(n_events if has_ledger else 1, np.bool_)  # whether each error poisons a page of the VM anew

    # distinct states, found by hash
    n_strata = len(zero_states)
    most_records = n_events + n_trials  # a trial may record its guest's death beside its errors
    states = np.empty((most_records + n_strata, n_columns), np.int64)
    hashes = np.empty(most_records + n_strata, np.int64)
    states[:n_strata] = zero_states
    n_states = n_strata
    index = np.empty(
        1 << max(bits_for(2 * most_records), 12), np.int32
    )  # grows in place: only as much as needed is used
    index_mask = np.int64((1 << 12) - 1)
    rebuild_index(index, index_mask, hashes, n_strata, n_states)

    record_start = np.empty(n_trials + 1, np.int64)
    record_grid = np.empty(most_records, np.int32)
    record_state = np.empty(most_records, np.int32)
    n_records = 0
    fault = np.zeros(4, np.int64)
    counters = np.zeros(9, np.int64)
    counters[8] = base
    s = zero_states[0].copy()

    for t in range(n_trials):
        record_start[t] = n_records
        s[:] = zero_states[stratum[t]]
        salt = stratum[t] * np.int64(3202034522624059733)
        first, last = start[t], start[t + 1]
        mask = (np.int64(1) << bits_for(keys_per_event * (last - first))) - 1
        vm_level = 0  # leaves above this level have been split in the whole VM
        regions_split = 0
        region_holes = 0
        hits_in_vm = 0
        regions_hit = 0
        errors = 0
        direct_map_pages = 0
        dies_at = np.inf  # years
        news = False  # whether the state is another than the last one recorded
        for e in range(first, last):
            flag = flags[e]
            corrected = flag & CORRECTED > 0
            errors += not corrected
            news |= not corrected
            regions_hit += (flag & FIRST_IN_REGION) > 0
            region = page[e] >> shift[0]
            felt = flag & FIRST_IN_PAGE > 0
            if regions[region, R_TRIAL] != t:
                regions[region, R_TRIAL] = t
                regions[region, R_SPLIT_TO] = 0
                regions[region, R_COPY] = 0
                regions[region, R_HITS] = 0
                if has_ledger:
                    ledgers[region, :] = 0
                    ledgers[region, L_LEAVES] = 1
                    moved_at[region] = -1.0
            known_to = alone_from if flag & ALONE_IN_GROUP else base  # of leaves from here on nothing can be known
            if has_ledger:
                if born[e] <= moved_at[region]:  # in DRAM that backs the region no more
                    felt = False
                elif not felt and (moved_at[region] >= 0 or corrected):  # whether poison lies in the page now
                    felt = True
                    for before in range(first, e):
                        felt &= not poisons[before] or page[before] != page[e]
                poisons[e] = felt and not corrected
            if felt:
                if has_ledger:
                    ledgers[region, L_POISONS] += not corrected
                    if ledgers[region, L_VM_LEVEL] < vm_level:  # the VM was split since the region's last poison
                        ledgers[region, L_VM_LEVEL] = vm_level
                        ledgers[region, L_TABLES] += pages_to_split_down(ledgers[region], L_LEAVES, vm_level, tables)
                        split_down(ledgers[region], L_LEAVES, vm_level, shift)

                # walk down to the leaf that maps this page
                copy = regions[region, R_COPY]
                here = page[e] + copy * geometry[G_VM_PAGES]
                level = 0
                became = regions[region, R_SPLIT_TO]
                while became > 0 or (became == 0 and level < vm_level):
                    level = became if became > 0 else level + 1  # holes from before the VM was split stay holes
                    if level == base:
                        became = 0
                        break
                    became = 0
                    if level < known_to:
                        slot = slot_of(keys, stamps, mask, ((here >> shift[level]) << 4) | level, t)
                        if stamps[slot] == t:
                            became = values[slot]

                if became != HOLE and not corrected:
                    hits_in_vm += 1
                    regions[region, R_HITS] += 1
                    if geometry[G_DIRECT_MAP]:
                        new_chunk, new_group = (flag & FIRST_IN_CHUNK) > 0, (flag & FIRST_IN_GROUP) > 0
                        if has_ledger:  # a region that moved lies elsewhere
                            chunk, group = here >> geometry[G_CHUNK_SHIFT], here >> geometry[G_GROUP_SHIFT]
                            new_chunk = claim(keys, stamps, mask, (chunk << 4) | KEY_CHUNK, t)
                            new_group = claim(keys, stamps, mask, (group << 4) | KEY_GROUP, t)
                        direct_map_pages += np.int64(new_chunk) + np.int64(new_group)

                    if fixed[level]:
                        top, level = level, last_level[level]
                        due[top] += 1
                        n_due += 1
                        if top == 0:  # then every answer is fixed: nobody asks how many regions are split or lost
                            regions[region, R_SPLIT_TO] = becomes[0, 0]
                        for between in range(max(top, 1), min(level + 1, known_to)):
                            if becomes[top, between] != 0:
                                key = ((here >> shift[between]) << 4) | between
                                put(keys, stamps, values, mask, key, t, becomes[top, between])
                        if fate[e] < p_dies[level]:
                            wait = years_to_death(
                                fate[e], p_dies[level], ar[e], np.int64(1) << shift[level], deaths_per_year[level]
                            )
                            dies_at = min(dies_at, years[e] + wait)
                        became = HOLE
                    else:
                        s[HOST_LOST_PAGES] += 1

                if n_due > 0 and became != HOLE:
                    n_due = settle(s, due, change)
                while became != HOLE:
                    # which rule acts
                    spares_left = geometry[G_SPARES] - s[SPARES_USED]
                    counters[SPARES_LEFT] = spares_left
                    counters[1] = regions[region, R_HITS]
                    counters[2] = hits_in_vm
                    counters[3] = regions_split
                    counters[4] = s[LEAKED_REGIONS]
                    counters[5] = s[TABLE_PAGES]
                    counters[6] = day[e]
                    counters[7] = level
                    if has_decide:
                        act = decide(counters, params)
                        target = level + 1
                        possible = act in (UNMAP, KEEP)
                        possible |= act == SPLIT and level < base
                        possible |= act == MIGRATE and spares_left > 0
                        if not possible:
                            fault[0], fault[1], fault[2], fault[3] = 1, t, act, level
                            return states[:n_strata], record_start, record_grid[:0], record_state[:0], fault
                        if act == SPLIT:
                            act = SPLIT_TO
                    else:
                        first_rules = level + n_levels * corrected
                        act, target, lacks_spare = matching(
                            rows, row_start[first_rules], row_start[first_rules + 1], counters, spares_left
                        )
                        if lacks_spare:
                            s[SPARES_EXHAUSTED] = 1
                            news = True
                        if act == NO_MATCH:  # of what only corrected errors ask
                            break

                    # splits deliver the poison again, to a smaller leaf
                    if act == SPLIT_TO:
                        if level == 0:
                            regions_split += 1
                            s[RESTORED_REGIONS] += 1
                            regions[region, R_SPLIT_TO] = target
                        elif level < known_to:
                            put(keys, stamps, values, mask, ((here >> shift[level]) << 4) | level, t, target)
                        more = np.int64(1) << (shift[level] - shift[target])
                        s[LEAVES + level] -= 1
                        s[LEAVES + target] += more
                        s[TABLE_PAGES] += tables[level, target]
                        s[STALL_NS] += stall_split[level, target]
                        if has_ledger:
                            ledgers[region, L_LEAVES + level] -= 1
                            ledgers[region, L_LEAVES + target] += more
                            ledgers[region, L_TABLES] += tables[level, target]
                        level = target
                        continue
                    if act == SPLIT_VM_TO:
                        s[RESTORED_REGIONS] += geometry[G_REGIONS] - region_holes - regions_split
                        regions_split = geometry[G_REGIONS] - region_holes
                        s[TABLE_PAGES] += pages_to_split_down(s, LEAVES, target, tables)
                        s[STALL_NS] += pages_to_split_down(s, LEAVES, target, stall_split)
                        split_down(s, LEAVES, target, shift)
                        if has_ledger:
                            ledgers[region, L_VM_LEVEL] = target
                            ledgers[region, L_TABLES] += pages_to_split_down(ledgers[region], L_LEAVES, target, tables)
                            split_down(ledgers[region], L_LEAVES, target, shift)
                        vm_level = level = target
                        continue

                    # all else ends the matter
                    lost = np.int64(1)
                    lost_level = base
                    if act == UNMAP:
                        lost_level = level
                        lost = np.int64(1) << shift[level]
                        s[LEAVES + level] -= 1
                        s[STALL_NS] += geometry[G_STALL_UNMAP_NS]
                        if has_ledger:
                            ledgers[region, L_LEAVES + level] -= 1
                        if level == 0:
                            regions[region, R_SPLIT_TO] = HOLE
                            region_holes += 1
                            give_up(s, region_pages - regions[region, R_HITS], geometry[G_SHARED], False)
                            if has_ledger:
                                lost -= ledgers[region, L_LOST]
                        elif level < base:
                            if level < known_to:
                                put(keys, stamps, values, mask, ((here >> shift[level]) << 4) | level, t, HOLE)
                            if has_ledger:  # pages kept, or retired by an earlier migration, are lost already
                                for before in range(first, e):
                                    if poisons[before] and page[before] >> shift[level] == page[e] >> shift[level]:
                                        lost -= 1
                    elif act == MIGRATE:
                        news = True
                        was_split = regions[region, R_SPLIT_TO] > 0 or vm_level > 0
                        s[SPARES_USED] += 1
                        s[STALL_NS] += geometry[G_STALL_MIGRATE_NS]
                        suspect = np.int64(corrected)  # the page itself is taken out of use
                        s[HOST_LOST_PAGES] += suspect
                        healthy = region_pages - regions[region, R_HITS] - suspect
                        leaks = geometry[G_SHARED] == 1 and regions[region, R_HITS] > 0  # of poison, not of suspicion
                        give_up(s, healthy, leaks, was_split)
                        if vm_level > 0:
                            s[RESTORED_REGIONS] += 1
                        elif was_split:
                            regions_split -= 1
                        for k in range(n_levels):
                            s[LEAVES + k] -= ledgers[region, L_LEAVES + k]
                            ledgers[region, L_LEAVES + k] = 0
                        ledgers[region, L_LEAVES + vm_level] = np.int64(1) << (shift[0] - shift[vm_level])
                        s[LEAVES + vm_level] += ledgers[region, L_LEAVES + vm_level]
                        s[TABLE_PAGES] += tables[0, vm_level] - ledgers[region, L_TABLES]
                        ledgers[region, L_TABLES] = tables[0, vm_level]
                        lost = ledgers[region, L_POISONS] - ledgers[region, L_LOST]  # holes come back, poison does not
                        regions[region, R_SPLIT_TO] = 0
                        regions[region, R_HITS] = 0
                        regions[region, R_COPY] += 1
                        moved_at[region] = years[e]
                    s[GUEST_LOST_PAGES] += lost
                    if has_ledger:
                        ledgers[region, L_LOST] += lost
                    if corrected:
                        break
                    s[GUEST_FAULTS] += kept_faults if act == KEEP else faults[lost_level]
                    if fate[e] < p_dies[lost_level]:
                        rate = kept_per_year if act == KEEP else deaths_per_year[lost_level]
                        wait = years_to_death(
                            fate[e], p_dies[lost_level], ar[e], np.int64(1) << shift[lost_level], rate
                        )
                        dies_at = min(dies_at, years[e] + wait)
                    break

            # the guest may die at once, or before anything else happens
            death_step = last_step + 1
            if s[VM_LOST] == 0 and dies_at < (years[e + 1] if e + 1 < last else np.inf):
                news = True
                death_step = np.int64(min(np.ceil(dies_at * steps_per_year), last_step + 1.0))
                if death_step <= grid[e]:
                    s[VM_LOST] = 1
                    death_step = last_step + 1
            dies_next = death_step <= last_step
            ends = geometry[G_END_AT_LOSS] == 1 and (s[VM_LOST] == 1 or dies_next)

            # the state that holds from this event's grid point on
            if not news or (e + 1 < last and grid[e + 1] == grid[e] and not ends):
                continue
            news = False
            if n_due > 0:
                n_due = settle(s, due, change)
            s[ERRORS] = errors
            s[REGIONS_HIT] = regions_hit
            s[DIRECT_MAP_PAGES] = direct_map_pages
            point = np.int64(grid[e])
            recording = True
            while recording:  # twice where the guest dies at a grid point of its own
                h = (  # of the columns that tell most states apart; the comparison below sees all of them
                    salt
                    + s[ERRORS] * np.int64(-7046029254386353131)
                    + s[REGIONS_HIT] * np.int64(-4417276706812531889)
                    + s[TABLE_PAGES] * np.int64(1609587929392839161)
                    + s[GUEST_LOST_PAGES] * np.int64(-8796714831421723037)
                    + s[DIRECT_MAP_PAGES] * np.int64(2870177450012600261)
                    + s[SPARES_USED] * np.int64(6364136223846793005)
                    + s[VM_LOST] * np.int64(-49064778989728563)
                )
                h ^= h >> 32
                if 4 * n_states > index_mask and 2 * n_states < len(index):
                    index_mask = min(4 * index_mask + 3, np.int64(len(index) - 1))
                    rebuild_index(index, index_mask, hashes, n_strata, n_states)
                i = h & index_mask
                while True:
                    found = index[i]
                    if found < 0:
                        found = n_states
                        index[i] = found
                        hashes[found] = h
                        states[found] = s
                        n_states += 1
                        break
                    if hashes[found] == h:
                        same = True
                        for k in range(n_columns):
                            same &= states[found, k] == s[k]
                        if same:
                            break
                    i = (i + 1) & index_mask
                record_grid[n_records] = point
                record_state[n_records] = found
                n_records += 1
                recording = False
                if dies_next:
                    dies_next = False
                    s[VM_LOST] = 1
                    news = True
                    if ends or e + 1 == last or death_step < grid[e + 1]:
                        news = False
                        point = death_step
                        recording = True
            if ends:
                break
    record_start[n_trials] = n_records
    return states[:n_states], record_start, record_grid[:n_records], record_state[:n_records], fault
