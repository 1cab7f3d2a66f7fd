"""The one hot loop: poison by poison, what a policy makes of a trial's history.

Compiled by Numba; with NUMBA_DISABLE_JIT=1 the same source runs interpreted. All arithmetic is on int64. Guest
memory is numbered in base pages. A region that a policy has migrated gets fresh page numbers (one whole copy of
guest memory further on), so that whatever was known of its old huge page is simply not found any more.
"""

from __future__ import annotations

import numpy as np

from poisonsim.compiled import bare
from poisonsim.engine.acting import V_FROM, V_KNOWN_FROM, V_STAMP, V_TRIAL
from poisonsim.engine.codes import G_END_AT_LOSS, G_GROUP_SHIFT, NO_ROOM
from poisonsim.engine.deliver import deliver
from poisonsim.engine.events import CORRECTED, LEVEL_BITS
from poisonsim.engine.hashing import bits_for
from poisonsim.engine.records import note, record, record_rarely
from poisonsim.engine.room import FEWEST_SLOTS
from poisonsim.engine.state import DIRECT_MAP_PAGES, ERRORS, REGIONS_HIT, STALL_NS, VM_LOST, WORST_STALL_NS
from poisonsim.engine.timed import DIES_AT, MOVED_AT, pass_time


@bare
def simulate(
    start, trial, page, years, born, grid, day, fate, ar, flags,
    shift, tables, stall_split, guest, geometry, steps_per_year, last_step,
    rows, row_start, params, decide, step_down,
    stratum, zero_states, timed, trace, found, records, kept, fault,
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
        found, records, kept: Room for states, records, and what is known of a VM.
        fault: int64[4], filled with a report if the kernel gives up: 1, the trial, what decide answered and at which
            leaf level; or `NO_ROOM`.

    Returns:
        How many states and records there are. The first states are `zero_states`; from the grid point of a record on
        its trial is in that state.
    """
    n_trials = len(start) - 1
    n_levels, n_strata = len(shift), len(zero_states)
    ends_at_loss = geometry[G_END_AT_LOSS] == 1
    first_timed, n_timed = row_start[2 * n_levels], row_start[2 * n_levels + 1] - row_start[2 * n_levels]
    states, hashes, index = found
    n_states = n_strata
    index_mask = np.int64(FEWEST_SLOTS - 1)  # the index grows in place: only as much as needed is used
    index[:FEWEST_SLOTS] = -1
    record_start, record_grid, record_state = records
    n_records = 0
    n_traced = 0
    s, v, regions, ledgers, touched, moved_at, earlier, latest, gone, keys, stamps, values = kept.vm
    counters, asked, ages, clock, marks = kept.now
    has_ledger = len(ledgers) > 0
    keys_per_event = n_levels - 2 + 2 * has_ledger
    alone_from = n_levels  # leaves from this level down lie within one group of the direct map
    while alone_from > 0 and shift[alone_from - 1] <= geometry[G_GROUP_SHIFT]:
        alone_from -= 1

    for t in range(n_trials):
        record_start[t] = n_records
        first, last = start[t], start[t + 1]
        dies_at = np.inf  # years
        news = False  # whether the state is another than the last one recorded
        regions_hit = 0
        errors = 0
        stop = last
        for k in range(len(s)):
            s[k] = zero_states[stratum[t], k]
        salt = stratum[t] * np.int64(3202034522624059733)
        mask = (np.int64(1) << bits_for(keys_per_event * (last - first))) - 1
        stamp = v[V_STAMP] + 1
        v[:] = 0
        v[V_STAMP] = v[V_KNOWN_FROM] = stamp
        v[V_FROM] = first
        v[V_TRIAL] = trial[t]
        vm_moved_at = -1.0  # years
        today = np.int64(0)
        asked[:] = False
        direct_map_pages = np.int64(0)
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
                        moved_at, keys, stamps, values, mask, page, years, earlier, gone, e, last, shift, tables,
                        geometry, steps_per_year, last_step, errors, regions_hit, salt, record_start[t], states, hashes,
                        index, n_strata, record_grid, record_state, trace, marks,
                    )  # fmt: skip
                    if today < 0:
                        fault[0] = NO_ROOM
                        return n_strata, 0
                    dies_at, vm_moved_at = clock[DIES_AT], clock[MOVED_AT]
                    n_states, index_mask, n_records, n_traced = marks
                    direct_map_pages = s[DIRECT_MAP_PAGES]
                if e == last or (ends_at_loss and s[VM_LOST] == 1):
                    break
                today = np.int64(day[e])
            flag = flags[e]
            before_ns = s[STALL_NS]
            corrected = flag & CORRECTED > 0
            errors += not corrected
            regions_hit += flag & LEVEL_BITS == 0
            acts, found_level, more, direct_map_pages, dies_at, vm_moved_at = deliver(
                e, flag, (page, years, born, day, fate, ar, earlier, latest, gone),
                (s, v, regions, ledgers, touched, moved_at), (keys, stamps, values, mask), has_ledger, alone_from,
                (shift, tables, stall_split, guest, geometry), (rows, row_start, params, step_down, counters),
                decide, direct_map_pages, dies_at, vm_moved_at, fault,
            )  # fmt: skip
            if fault[0] != 0:
                fault[1] = t
                return n_strata, 0
            news |= more or not corrected
            s[WORST_STALL_NS] = max(s[WORST_STALL_NS], s[STALL_NS] - before_ns)
            lost = s[VM_LOST] == 1
            if timed is not None and (news or not corrected):
                asked[:] = False
            if trace is not None:
                n_traced = note(
                    trace, n_traced, e, day[e], acts, found_level, dies_at, s, errors, regions_hit,
                    direct_map_pages,
                )  # fmt: skip

            # the guest may die at once, or before anything else happens
            death_step = last_step + 1
            is_doomed = n_timed == 0 and not lost and dies_at < np.inf  # with timed rules, what comes next looks at it
            if is_doomed and dies_at < (years[e + 1] if e + 1 < last else np.inf):
                news = True
                death_step = np.int64(min(np.ceil(dies_at * steps_per_year), last_step + 1.0))
                if death_step <= grid[e]:
                    lost = True
                    s[VM_LOST] = 1
                    death_step = last_step + 1
            dies_next = death_step <= last_step
            ends = ends_at_loss and (lost or dies_next)

            # the state that holds from this event's grid point on
            if not news or (n_timed == 0 and e + 1 < last and grid[e + 1] == grid[e] and not ends):
                continue
            news = False
            s[ERRORS] = errors
            s[REGIONS_HIT] = regions_hit
            s[DIRECT_MAP_PAGES] = direct_map_pages
            n_states, index_mask, n_records = record(
                s, salt, np.int64(grid[e]), record_start[t], states, hashes, index, index_mask, n_states, n_strata,
                record_grid, record_state, n_records,
            )  # fmt: skip
            if dies_next:
                lost = news = True
                s[VM_LOST] = 1
                if ends or e + 1 == last or death_step < grid[e + 1]:
                    news = False
                    n_states, index_mask, n_records = record_rarely(
                        s, salt, death_step, record_start[t], states, hashes, index, index_mask, n_states, n_strata,
                        record_grid, record_state, n_records,
                    )  # fmt: skip
            if ends:
                break
    record_start[n_trials] = n_records
    return n_states, n_records
