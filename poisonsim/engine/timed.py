"""What happens between errors: rules that are tried from time to time, and deaths; parts of the kernel."""

from __future__ import annotations

import numpy as np

from poisonsim.compiled import compiled
from poisonsim.engine.acting import (
    V_HITS,
    V_POISONS,
    V_SINCE_BOOT,
    V_SPLIT,
    able,
    collapse,
    evacuate,
    reboot,
    restart,
    spares_of,
)
from poisonsim.engine.answers import matching
from poisonsim.engine.codes import (
    AGE_DAYS,
    COLLAPSE,
    EVACUATE,
    G_END_AT_LOSS,
    G_RESTART_AT_LOSS,
    REBOOT,
    RESTART,
    SPARES_LEFT,
)
from poisonsim.engine.records import RESTARTED, note, record_rarely
from poisonsim.engine.state import (
    DIRECT_MAP_PAGES,
    ERRORS,
    FALLBACKS,
    LEAKED_REGIONS,
    REGIONS_HIT,
    SPARES_EXHAUSTED,
    STALL_NS,
    TABLE_PAGES,
    VM_LOST,
    WORST_STALL_NS,
)
from poisonsim.units import DAYS_PER_YEAR


@compiled
def looks_at_age(rows, first_timed, n_timed):
    """Which timed rules have a guard on the VM's age: bool[n_timed]."""
    ages = np.zeros(n_timed, np.bool_)
    for r in range(n_timed):
        for c in range(rows[first_timed + r, 0]):
            ages[r] |= rows[first_timed + r, 1 + 3 * c] == AGE_DAYS
    return ages


@compiled
def next_tick(rows, first_timed, asked, ages, today):
    """The next day on which a timed rule must be tried; one that was waits for a change, unless it looks at the age."""
    tick = np.int64(1) << 40
    for r in range(len(asked)):
        if ages[r] or not asked[r]:
            days = rows[first_timed + r, -1]
            tick = min(tick, (today // days + 1) * days)
    return tick


@compiled
def try_timed(
    rows, first_timed, asked, ages, counters, today, s, v, regions, ledgers, touched, moved_at, keys, stamps, values,
    mask, page, years, earlier, gone, end, shift, tables, geometry,
):  # fmt: skip
    """Tries the timed rules that are due today, in their order, before the event `end`.

    Args:
        asked: bool[n_timed], rules that were tried since the last change; kept up to date.

    Returns:
        What they did, as digits to the base 256 (0 nothing); whether the VM has moved; whether it is safe from what
        would have killed it.
    """
    acts, moved, calmed = np.int64(0), False, False
    now = today / DAYS_PER_YEAR
    for r in range(len(asked)):
        if today % rows[first_timed + r, -1] != 0 or (asked[r] and not ages[r]):
            continue
        asked[r] = True
        spares_left = spares_of(s, geometry)
        counters[SPARES_LEFT], counters[1], counters[2], counters[3] = spares_left, 0, v[V_HITS], v[V_SPLIT]
        counters[4], counters[5], counters[AGE_DAYS] = s[LEAKED_REGIONS], s[TABLE_PAGES], today
        can = able(s, v, -1, geometry)
        act, _, lacks_spare, passed_over = matching(
            rows, first_timed + r, first_timed + r + 1, counters, spares_left, can
        )
        wanted = rows[first_timed + r, -2]
        if wanted == REBOOT:
            has_reason = v[V_SINCE_BOOT] > 0  # there is something to cure
        elif wanted == RESTART:
            has_reason = v[V_POISONS] > 0 or (s[VM_LOST] == 1 and geometry[G_RESTART_AT_LOSS] == 0)
        else:
            has_reason = True
        if lacks_spare and has_reason:
            s[SPARES_EXHAUSTED] = 1
        s[FALLBACKS] += passed_over and has_reason
        acted = False
        if not has_reason:
            continue
        if act == COLLAPSE:
            acted = collapse(
                s, v, regions, ledgers, touched, moved_at, keys, stamps, values, mask, page, years, earlier, gone, end,
                shift, tables, geometry,
            )  # fmt: skip
        elif act == EVACUATE:
            evacuate(s, v, len(shift), geometry)
            acted = moved = True
        elif act == RESTART:
            restart(s, v, regions, ledgers, touched, moved_at, end, now, -1, shift, tables, geometry)
            acted = calmed = True
        elif act == REBOOT:
            reboot(s, v, regions, ledgers, touched, moved_at, end, now, len(shift), geometry)
            acted = calmed = True
        if acted:
            acts = acts * 256 + 16 * act
            asked[:] = False
            asked[r] = True
    return acts, moved, calmed


# times in years that passing time can change: when the guest dies of what it has lost, and when the VM last moved
DIES_AT, MOVED_AT = range(2)
N_CLOCK = 2


@compiled
def pass_time(
    rows, first_timed, asked, ages, counters, today, clock, s, v, regions, ledgers, touched, moved_at, keys, stamps,
    values, mask, page, years, earlier, gone, end, last, shift, tables, geometry, steps_per_year, last_step,
    errors, regions_hit, salt, first_record, states, hashes, index, n_strata, record_grid, record_state, trace, marks,
):  # fmt: skip
    """Deaths and timed rules that are due before the event `end`, or before the end of the trial if `end` is `last`.

    Args:
        today: Day on which timed rules were last tried, or an error came.
        clock: float64[N_CLOCK], kept up to date; as are the state and all that is known of the VM.
        marks: int64[4], how many states there are, the mask of their index, records, rows of the trace; kept up to
            date.

    Returns:
        The day now, or -1 where `states` have no room left.
    """
    restarts = geometry[G_RESTART_AT_LOSS] == 1
    until = years[end] if end < last else np.inf
    while True:
        if marks[0] + 4 > len(states):  # records that gave way to others have left states behind
            return np.int64(-1)
        tick = next_tick(rows, first_timed, asked, ages, today)
        is_due = tick <= (until if end < last else last_step / steps_per_year) * DAYS_PER_YEAR
        dies = s[VM_LOST] == 0 or restarts
        if is_due:
            dies &= clock[DIES_AT] < tick / DAYS_PER_YEAR
        else:
            dies &= clock[DIES_AT] < until and clock[DIES_AT] * steps_per_year <= last_step
        if not dies and not is_due:
            return today
        now = clock[DIES_AT] if dies else tick / DAYS_PER_YEAR
        before_ns, acts, level = s[STALL_NS], np.int64(0), -1
        if dies:
            s[VM_LOST] = 1
            clock[DIES_AT] = np.inf
            if restarts and spares_of(s, geometry) <= 0:
                s[SPARES_EXHAUSTED] = 1
                s[FALLBACKS] += 1
            elif restarts:
                restart(s, v, regions, ledgers, touched, moved_at, end, now, -1, shift, tables, geometry)
                acts, level = np.int64(16 * RESTART), RESTARTED
                asked[:] = False
                today = max(today, np.int64(now * DAYS_PER_YEAR))
        else:
            today = tick
            fallbacks = s[FALLBACKS]
            acts, moved, calmed = try_timed(
                rows, first_timed, asked, ages, counters, today, s, v, regions, ledgers, touched, moved_at, keys,
                stamps, values, mask, page, years, earlier, gone, end, shift, tables, geometry,
            )  # fmt: skip
            if acts == 0 and s[FALLBACKS] == fallbacks:
                continue
            if moved:
                clock[MOVED_AT] = now
            if calmed:
                clock[DIES_AT] = np.inf
        s[WORST_STALL_NS] = max(s[WORST_STALL_NS], s[STALL_NS] - before_ns)
        s[ERRORS] = errors
        s[REGIONS_HIT] = regions_hit
        if trace is not None and acts > 0:
            day = np.int64(now * DAYS_PER_YEAR) if dies else tick
            marks[3] = note(
                trace, marks[3], -1, day, acts, level, clock[DIES_AT], s, errors, regions_hit, s[DIRECT_MAP_PAGES]
            )
        marks[0], marks[1], marks[2] = record_rarely(
            s, salt, min(np.int64(np.ceil(now * steps_per_year)), last_step), first_record, states, hashes, index,
            marks[1], marks[0], n_strata, record_grid, record_state, marks[2],
        )  # fmt: skip
        if dies and geometry[G_END_AT_LOSS] == 1:
            return today
