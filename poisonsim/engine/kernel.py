"""The one hot loop: poison by poison, what a policy makes of a trial's history.

Compiled by Numba; with NUMBA_DISABLE_JIT=1 the same source runs interpreted. All arithmetic is on int64. Guest
memory is numbered in base pages. A region that a policy has migrated gets fresh page numbers (one whole copy of
guest memory further on), so that whatever was known of its old huge page is simply not found any more.
"""

from __future__ import annotations

import numpy as np

from poisonsim.compiled import compiled
from poisonsim.engine.acting import (
    L_LEAVES,
    L_LOST,
    L_POISONS,
    L_TABLES,
    L_VM_LEVEL,
    N_REGION_COLUMNS,
    N_VM_NUMBERS,
    R_COPY,
    R_HITS,
    R_RESTORED,
    R_SPLIT_TO,
    R_STAMP,
    V_ALL_RESTORED,
    V_BAD,
    V_BAD_HUGE,
    V_HITS,
    V_HOLES,
    V_LEVEL,
    V_POISONS,
    V_RESTORED,
    V_SINCE_BOOT,
    V_SPLIT,
    V_STAMP,
    V_TOUCHED,
    V_TRIAL,
    able,
    evacuate,
    lose_whole,
    migrate,
    moved_by,
    offline,
    poisoned_in,
    restart,
    restore,
    spares_of,
    sync,
)
from poisonsim.engine.answers import fixed_answers, matching, pages_to_split_down, settle, split_down
from poisonsim.engine.codes import (
    EVACUATE,
    G_CHUNK_SHIFT,
    G_DIRECT_MAP,
    G_END_AT_LOSS,
    G_GROUP_SHIFT,
    G_HAS_DECIDE,
    G_REFAULT_NS,
    G_REGIONS,
    G_RESTART_AT_LOSS,
    G_RESTORES_SPLIT,
    G_ROOM,
    G_STAGE2_ONLY,
    G_STALL_RESTORE_NS,
    G_STALL_UNMAP_NS,
    G_VCPUS,
    HOLE,
    KEEP,
    MIGRATE,
    NO_MATCH,
    NO_ROOM,
    OFFLINE,
    RESTART,
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
from poisonsim.engine.guest import FAULT_PARTS, years_to_death, years_to_panic
from poisonsim.engine.hashing import bits_for, claim, longest_run, put, rebuild_index, slot_of
from poisonsim.engine.records import note, record, record_rarely
from poisonsim.engine.state import (
    DIRECT_MAP_PAGES,
    ERRORS,
    EVACUATIONS,
    FALLBACKS,
    GUEST_FAULTS,
    GUEST_LOST_PAGES,
    HOST_LOST_PAGES,
    LEAKED_REGIONS,
    LEAVES,
    REBOOTS,
    REGIONS_HIT,
    RESTORED_REGIONS,
    SPARES_EXHAUSTED,
    STALL_NS,
    TABLE_PAGES,
    VM_LOST,
    WORST_STALL_NS,
)
from poisonsim.engine.timed import DIES_AT, MOVED_AT, N_CLOCK, looks_at_age, pass_time


@compiled
def simulate(
    start, trial, page, years, born, grid, day, fate, ar, flags,
    shift, tables, stall_split, guest, geometry, steps_per_year, last_step,
    rows, row_start, params, decide, step_down,
    stratum, zero_states, timed, trace,
):  # fmt: skip
    """Runs every trial through one policy.

    Args:
        start: int64[n_trials + 1], first event of each trial; events are in time order.
        trial: int64[n_trials], numbers of the trials.
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
        step_down: int64[n_levels], level to which SPLIT leads, for `decide`.
        stratum: int64[n_trials], the row of `zero_states` that each trial starts from.
        zero_states: int64[n_strata, n_columns], the state before any error, by stratum.
        timed: None if the policy has no timed rules and a lost VM is not restarted; the compiler then leaves out what
            they would take.
        trace: int64[n, N_TRACE + n_columns], filled with a row for each event and each timed rule that acts, in order:
            event (-1 for rules), day, the acts as digits to the base 256 (16 times the act, plus the level it splits
            to), leaf level found (`RESTARTED` where a lost VM is), nanoseconds at which the guest dies of what it has
            lost (-1 never), and the state. None where nobody asks; the compiler then leaves out what it would take.

    Returns:
        states int64[n_states, n_columns] (the first are `zero_states`); record_start int64[n_trials + 1]; record_grid
        int32 and record_state int32 [n_records]: from that grid point on the trial is in that state; and a fault
        report int64[4] (0 in its first place; or 1, the trial, what decide answered and at which leaf level; or
            `NO_ROOM`).
    """
    n_trials, n_events = len(start) - 1, len(page)
    n_levels, n_columns = len(shift), zero_states.shape[1]
    base = n_levels - 1
    has_decide = geometry[G_HAS_DECIDE] == 1
    restarts_at_loss = geometry[G_RESTART_AT_LOSS] == 1
    has_ledger = has_decide or restarts_at_loss
    for r in range(len(rows)):
        has_ledger |= rows[r, -2] >= EVACUATE or rows[r, -2] == KEEP or rows[r, -2] == MIGRATE
    first_timed, n_timed = row_start[2 * n_levels], row_start[2 * n_levels + 1] - row_start[2 * n_levels]
    # of what always happens, whether a dissolve finds memory is known: what the first gives back is enough for the next
    usable = not has_ledger and geometry[G_STAGE2_ONLY] == 0
    if trace is not None:
        usable = False
    fixed, change, becomes, last_level = fixed_answers(
        rows, row_start, shift, tables, stall_split, guest.faults, geometry, n_columns, usable
    )

    all_fixed = fixed.all()
    due = np.zeros(n_levels, np.int64)  # fixed answers not yet in the state, by level
    n_due = 0
    alone_from = n_levels  # leaves from this level down lie within one group of the direct map
    while alone_from > 0 and shift[alone_from - 1] <= geometry[G_GROUP_SHIFT]:
        alone_from -= 1

    p_dies, deaths_per_year, faults = guest.p_dies, guest.deaths_per_year, guest.faults
    kept_per_year, kept_faults = guest.kept_per_year, guest.kept_faults
    p_panics, panics_per_year = guest.p_panics, guest.panics_per_year

    # what is known of nodes (leaves that were split or lost), regions and ledgers, where their stamp is that of now
    keys_per_event = n_levels - 2 + 2 * has_ledger  # a node of each level between; and chunk and group
    size = 1 << bits_for(keys_per_event * longest_run(start))
    keys = np.empty(size, np.int64)
    stamps = np.full(size, -1, np.int32)
    values = np.empty(size, np.int32)
    regions = np.full((geometry[G_REGIONS], N_REGION_COLUMNS), -1, np.int32)
    n_kept = geometry[G_REGIONS] if has_ledger else 1
    ledgers = np.empty((n_kept, L_LEAVES + n_levels), np.int64)
    touched = np.empty(n_kept, np.int64)
    moved_at = np.empty(n_kept, np.float64)  # years
    poisons = np.empty(n_events if has_ledger else 1, np.bool_)
    gone = np.empty(n_events if has_ledger else 1, np.int8)
    v = np.zeros(N_VM_NUMBERS, np.int64)
    v[V_STAMP] = -1
    asked = np.zeros(n_timed, np.bool_)  # timed rules that were tried since the last change
    ages = looks_at_age(rows, first_timed, n_timed)

    # distinct states, found by hash
    n_strata = len(zero_states)
    # beside errors: death, timed rules
    most_records = n_events * (1 + restarts_at_loss) + n_trials * (1 if n_timed == 0 else last_step + 1)
    most_states = most_records * geometry[G_ROOM] + n_strata
    states = np.empty((most_states, n_columns), np.int64)
    hashes = np.empty(most_states, np.int64)
    states[:n_strata] = zero_states
    n_states = n_strata
    index = np.empty(
        1 << max(bits_for(2 * most_states), 12), np.int32
    )  # grows in place: only as much as needed is used
    index_mask = np.int64((1 << 12) - 1)
    rebuild_index(index, index_mask, hashes, n_strata, n_states)

    record_start = np.empty(n_trials + 1, np.int64)
    record_grid = np.empty(most_records, np.int32)
    record_state = np.empty(most_records, np.int32)
    n_records = 0
    n_traced = 0
    fault = np.zeros(4, np.int64)
    clock, marks = np.zeros(N_CLOCK), np.zeros(4, np.int64)
    counters = np.zeros(9, np.int64)
    counters[8] = base
    s = zero_states[0].copy()

    for t in range(n_trials):
        record_start[t] = n_records
        s[:] = zero_states[stratum[t]]
        salt = stratum[t] * np.int64(3202034522624059733)
        first, last = start[t], start[t + 1]
        mask = (np.int64(1) << bits_for(keys_per_event * (last - first))) - 1
        stamp = v[V_STAMP] + 1
        v[:] = 0
        v[V_STAMP] = stamp
        v[V_TRIAL] = trial[t]
        vm_moved_at = -1.0  # years
        today = np.int64(0)
        asked[:] = False
        regions_hit = 0
        errors = 0
        direct_map_pages = 0
        dies_at = np.inf  # years
        news = False  # whether the state is another than the last one recorded
        stop = last
        if timed is not None:
            stop = last + 1
        for e in range(first, stop):
            if timed is not None:
                if e > first:  # a VM that nothing struck is left alone
                    s[DIRECT_MAP_PAGES] = direct_map_pages
                    marks[0], marks[1], marks[2], marks[3] = n_states, index_mask, n_records, n_traced
                    clock[DIES_AT], clock[MOVED_AT] = dies_at, vm_moved_at
                    today = pass_time(
                        rows, first_timed, asked, ages, counters, today, clock, s, v, regions, ledgers, touched,
                        moved_at, keys, stamps, values, mask, page, years, poisons, gone, first, e, last, shift, tables,
                        geometry, steps_per_year, last_step, errors, regions_hit, salt, record_start[t], states, hashes,
                        index, n_strata, record_grid, record_state, trace, marks,
                    )  # fmt: skip
                    if today < 0:
                        fault[0] = NO_ROOM
                        return states[:n_strata], record_start, record_grid[:0], record_state[:0], fault
                    dies_at, vm_moved_at = clock[DIES_AT], clock[MOVED_AT]
                    n_states, index_mask, n_records, n_traced = marks
                    direct_map_pages = s[DIRECT_MAP_PAGES]
                if e == last or (geometry[G_END_AT_LOSS] == 1 and s[VM_LOST] == 1):
                    break
                today = np.int64(day[e])
            before_ns = s[STALL_NS]
            acts, found_level = np.int64(0), np.int64(-1)
            flag = flags[e]
            corrected = flag & CORRECTED > 0
            errors += not corrected
            news |= not corrected
            regions_hit += (flag & FIRST_IN_REGION) > 0
            region = page[e] >> shift[0]
            felt = flag & FIRST_IN_PAGE > 0
            fell_back = False
            if regions[region, R_STAMP] != v[V_STAMP]:
                regions[region, R_STAMP] = v[V_STAMP]
                regions[region, R_SPLIT_TO] = 0
                regions[region, R_COPY] = 0
                regions[region, R_HITS] = 0
                regions[region, R_RESTORED] = v[V_ALL_RESTORED]
                if has_ledger:
                    ledgers[region, :] = 0
                    ledgers[region, L_LEAVES] = 1
                    moved_at[region] = vm_moved_at
                    touched[v[V_TOUCHED]] = region
                    v[V_TOUCHED] += 1
                    if s[EVACUATIONS] > 0:  # what was poisoned on an earlier host is retired and lost
                        ledgers[region, L_POISONS] = poisoned_in(page, poisons, first, e, shift[0], region)
                        ledgers[region, L_LOST] = ledgers[region, L_POISONS]
            known_to = alone_from if flag & ALONE_IN_GROUP else base  # of leaves from here on nothing can be known
            if has_ledger:
                if born[e] <= moved_at[region]:  # in DRAM that backs the region no more
                    felt = False
                elif not felt and (moved_at[region] >= 0 or s[REBOOTS] > 0 or corrected):  # whether it has poison now
                    felt = True
                    for before in range(first, e):
                        felt &= not poisons[before] or page[before] != page[e]
                poisons[e] = felt and not corrected
                gone[e] = 0
                v[V_POISONS] += poisons[e]
            if felt:
                if has_ledger:
                    ledgers[region, L_POISONS] += not corrected
                    sync(ledgers[region], v[V_LEVEL], shift, tables)

                # walk down to the leaf that maps this page
                here = page[e] + moved_by(s, regions, region, geometry)
                level = 0
                became = regions[region, R_SPLIT_TO]
                stamp = v[V_STAMP]
                while became > 0 or (became == 0 and level < v[V_LEVEL]):
                    level = became if became > 0 else level + 1  # holes from before the VM was split stay holes
                    if level == base:
                        became = 0
                        break
                    became = 0
                    if level < known_to:
                        slot = slot_of(keys, stamps, mask, ((here >> shift[level]) << 4) | level, stamp)
                        if stamps[slot] == stamp:
                            became = values[slot]

                found_level = level if became != HOLE else np.int64(-1)
                if became != HOLE and not corrected:
                    v[V_HITS] += 1
                    regions[region, R_HITS] += 1
                    if has_ledger:
                        v[V_BAD] += 1
                        v[V_BAD_HUGE] += regions[region, R_HITS] == 1
                        v[V_SINCE_BOOT] += 1
                    if not all_fixed:  # the direct map is split once the page is dealt with
                        s[DIRECT_MAP_PAGES] = direct_map_pages
                    if geometry[G_DIRECT_MAP]:
                        new_chunk, new_group = (flag & FIRST_IN_CHUNK) > 0, (flag & FIRST_IN_GROUP) > 0
                        if has_ledger:  # a region that moved lies elsewhere
                            chunk, group = here >> geometry[G_CHUNK_SHIFT], here >> geometry[G_GROUP_SHIFT]
                            new_chunk = claim(keys, stamps, mask, (chunk << 4) | KEY_CHUNK, stamp)
                            new_group = claim(keys, stamps, mask, (group << 4) | KEY_GROUP, stamp)
                        direct_map_pages += np.int64(new_chunk) + np.int64(new_group)

                    if fixed[level]:
                        top, level = level, last_level[level]
                        due[top] += 1
                        n_due += 1
                        s[WORST_STALL_NS] = max(s[WORST_STALL_NS], change[top, STALL_NS])
                        if top == 0:  # then every answer is fixed: nobody asks how many regions are split or lost
                            regions[region, R_SPLIT_TO] = becomes[0, 0]
                        for between in range(max(top, 1), min(level + 1, known_to)):
                            if becomes[top, between] != 0:
                                key = ((here >> shift[between]) << 4) | between
                                put(keys, stamps, values, mask, key, stamp, becomes[top, between])
                        if fate[e] < p_dies[level]:
                            wait = years_to_death(
                                fate[e], p_dies[level], ar[e], np.int64(1) << shift[level], deaths_per_year[level]
                            )
                            dies_at = min(dies_at, years[e] + wait)
                        became = HOLE
                    else:
                        s[HOST_LOST_PAGES] += 1

                if corrected:
                    s[DIRECT_MAP_PAGES] = direct_map_pages
                if n_due > 0 and became != HOLE:
                    n_due = settle(s, due, change)
                    before_ns = s[STALL_NS]
                while became != HOLE:
                    # which rule acts
                    spares_left = spares_of(s, geometry)
                    counters[SPARES_LEFT] = spares_left
                    counters[1] = regions[region, R_HITS]
                    counters[2] = v[V_HITS]
                    counters[3] = v[V_SPLIT]
                    counters[4] = s[LEAKED_REGIONS]
                    counters[5] = s[TABLE_PAGES]
                    counters[6] = day[e]
                    counters[7] = level
                    if has_decide:
                        act = decide(counters, params)
                        target = step_down[level]
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
                        act, target, lacks_spare, passed_over = matching(
                            rows, row_start[first_rules], row_start[first_rules + 1], counters, spares_left,
                            able(s, v, region, geometry) if has_ledger else np.int64(-1),
                        )  # fmt: skip
                        if passed_over and not fell_back:
                            fell_back = news = True
                            s[FALLBACKS] += 1
                        if lacks_spare:
                            news |= s[SPARES_EXHAUSTED] == 0
                            s[SPARES_EXHAUSTED] = 1
                        if act == NO_MATCH:  # of what only corrected errors ask
                            break

                    acts = acts * 256 + act * 16 + max(target, 0)

                    # splits deliver the poison again, to a smaller leaf
                    if act == SPLIT_TO:
                        if level == 0:
                            v[V_SPLIT] += 1
                            if geometry[G_STAGE2_ONLY] == 0:
                                restore(s, v, regions, region, geometry)
                            regions[region, R_SPLIT_TO] = target
                        elif level < known_to:
                            put(keys, stamps, values, mask, ((here >> shift[level]) << 4) | level, stamp, target)
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
                        v[V_SPLIT] = geometry[G_REGIONS] - v[V_HOLES]
                        restored = v[V_SPLIT] - v[V_RESTORED]
                        s[RESTORED_REGIONS] += restored
                        s[STALL_NS] += restored * geometry[G_STALL_RESTORE_NS] * geometry[G_RESTORES_SPLIT]
                        v[V_RESTORED] = v[V_SPLIT]
                        v[V_ALL_RESTORED] = 1
                        if has_ledger:
                            for i in range(v[V_TOUCHED]):
                                regions[touched[i], R_RESTORED] = 1
                        s[TABLE_PAGES] += pages_to_split_down(s, LEAVES, target, tables)
                        s[STALL_NS] += pages_to_split_down(s, LEAVES, target, stall_split)
                        split_down(s, LEAVES, target, shift)
                        if has_ledger:
                            ledgers[region, L_VM_LEVEL] = target
                            ledgers[region, L_TABLES] += pages_to_split_down(ledgers[region], L_LEAVES, target, tables)
                            split_down(ledgers[region], L_LEAVES, target, shift)
                        v[V_LEVEL] = level = target
                        continue

                    # all else ends the matter
                    lost = np.int64(1)
                    lost_level = base
                    if act == UNMAP:
                        lost_level = level
                        lost = np.int64(1) << shift[level]
                        s[STALL_NS] += geometry[G_STALL_UNMAP_NS]
                        if has_ledger:
                            ledgers[region, L_LEAVES + level] -= 1
                        if level == 0:
                            lose_whole(s, v, regions, region, geometry)
                            if has_ledger:
                                lost -= ledgers[region, L_LOST]
                        else:
                            s[LEAVES + level] -= 1
                            if geometry[G_STAGE2_ONLY] == 1:  # a change of the memslot zaps all of stage 2
                                s[STALL_NS] += s[LEAVES:].sum() * geometry[G_REFAULT_NS] // geometry[G_VCPUS]
                            if level < min(base, known_to):
                                put(keys, stamps, values, mask, ((here >> shift[level]) << 4) | level, stamp, HOLE)
                            # pages kept, or retired before a migration, are lost already
                            if has_ledger and level < base:
                                lost -= poisoned_in(page, poisons, first, e, shift[level], page[e] >> shift[level])
                    elif act == MIGRATE:
                        news = True
                        suspect = np.int64(corrected)  # the page itself is taken out of use
                        v[V_SINCE_BOOT] += suspect
                        lost = migrate(
                            s, v, regions, ledgers, moved_at, region, years[e], suspect, shift, tables, geometry
                        )
                    elif act == OFFLINE:
                        lost = offline(
                            s, v, regions, ledgers, moved_at, page, poisons, gone, first, e + 1, region, years[e],
                            shift, tables, geometry,
                        )  # fmt: skip
                    elif act == EVACUATE:
                        news = True
                        evacuate(s, v, n_levels, geometry)
                        vm_moved_at, direct_map_pages, lost = years[e], 0, np.int64(0)
                    elif act == RESTART:
                        restart(
                            s, v, regions, ledgers, touched, moved_at, page, poisons, gone, first, e + 1, years[e],
                            region, shift, tables, geometry,
                        )  # fmt: skip
                        dies_at, lost = np.inf, np.int64(0)
                    if has_ledger and not corrected:
                        gone[e] = -(level + 1) if act == KEEP else lost_level + 1
                        if act == OFFLINE:  # a hole, or whole again
                            gone[e] = 1 if lost > 0 else 0
                    s[GUEST_LOST_PAGES] += lost
                    if has_ledger:
                        ledgers[region, L_LOST] += lost
                    if corrected:
                        break
                    if act == RESTART:  # the guest starts again without the page
                        s[GUEST_FAULTS] += FAULT_PARTS
                        gone[e] = 0
                        break
                    s[GUEST_FAULTS] += kept_faults if act == KEEP else faults[lost_level]
                    if fate[e] < p_dies[lost_level]:
                        rate = kept_per_year if act == KEEP else deaths_per_year[lost_level]
                        wait = years_to_death(
                            fate[e], p_dies[lost_level], ar[e], np.int64(1) << shift[lost_level], rate
                        )
                        dies_at = min(dies_at, years[e] + wait)
                    elif act == KEEP or (act == UNMAP and geometry[G_STAGE2_ONLY] == 1 and lost_level == base):
                        wait = years_to_panic(fate[e] - p_dies[base], p_panics, panics_per_year)
                        dies_at = min(dies_at, years[e] + wait)
                    break

            if not all_fixed:
                s[WORST_STALL_NS] = max(s[WORST_STALL_NS], s[STALL_NS] - before_ns)
            if timed is not None and (news or not corrected):
                asked[:] = False

            if trace is not None:
                n_traced = note(
                    trace, n_traced, e, day[e], acts, found_level, dies_at, s, errors, regions_hit, direct_map_pages
                )

            # the guest may die at once, or before anything else happens
            upcoming = years[e + 1] if e + 1 < last else np.inf
            death_step = last_step + 1
            if n_timed == 0 and s[VM_LOST] == 0 and dies_at < upcoming:  # with timed rules, what comes next looks at it
                news = True
                death_step = np.int64(min(np.ceil(dies_at * steps_per_year), last_step + 1.0))
                if death_step <= grid[e]:
                    s[VM_LOST] = 1
                    death_step = last_step + 1
            dies_next = death_step <= last_step
            ends = geometry[G_END_AT_LOSS] == 1 and (s[VM_LOST] == 1 or dies_next)

            # the state that holds from this event's grid point on
            if not news or (n_timed == 0 and e + 1 < last and grid[e + 1] == grid[e] and not ends):
                continue
            news = False
            if n_due > 0:
                n_due = settle(s, due, change)
            s[ERRORS] = errors
            s[REGIONS_HIT] = regions_hit
            s[DIRECT_MAP_PAGES] = direct_map_pages
            n_states, index_mask, n_records = record(
                s, salt, np.int64(grid[e]), record_start[t], states, hashes, index, index_mask, n_states, n_strata,
                record_grid, record_state, n_records,
            )  # fmt: skip
            if dies_next:
                s[VM_LOST] = 1
                news = True
                if ends or e + 1 == last or death_step < grid[e + 1]:
                    news = False
                    n_states, index_mask, n_records = record_rarely(
                        s, salt, death_step, record_start[t], states, hashes, index, index_mask, n_states, n_strata,
                        record_grid, record_state, n_records,
                    )  # fmt: skip
            if ends:
                break
    record_start[n_trials] = n_records
    return states[:n_states], record_start, record_grid[:n_records], record_state[:n_records], fault
