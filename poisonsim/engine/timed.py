"""Rules that are tried from time to time; parts of the kernel."""

from __future__ import annotations

import numpy as np
from numba import njit

from poisonsim.engine.acting import V_HITS, V_POISONS, V_SPLIT, can_evacuate, collapse, evacuate, restart
from poisonsim.engine.answers import matching
from poisonsim.engine.codes import AGE_DAYS, COLLAPSE, EVACUATE, G_SPARES, RESTART, SPARES_LEFT
from poisonsim.engine.state import LEAKED_REGIONS, SPARES_USED, TABLE_PAGES, VM_LOST
from poisonsim.units import DAYS_PER_YEAR


@njit(cache=True, nogil=True)
def looks_at_age(rows, first_timed, n_timed):
    """Which timed rules have a guard on the VM's age: bool[n_timed]."""
    ages = np.zeros(n_timed, np.bool_)
    for r in range(n_timed):
        for c in range(rows[first_timed + r, 0]):
            ages[r] |= rows[first_timed + r, 1 + 3 * c] == AGE_DAYS
    return ages


@njit(cache=True, nogil=True)
def next_tick(rows, first_timed, asked, ages, today):
    """The next day on which a timed rule must be tried; one that was waits for a change, unless it looks at the age."""
    tick = np.int64(1) << 40
    for r in range(len(asked)):
        if ages[r] or not asked[r]:
            days = rows[first_timed + r, -1]
            tick = min(tick, (today // days + 1) * days)
    return tick


@njit(cache=True, nogil=True)
def try_timed(
    rows, first_timed, asked, ages, counters, today, s, v, regions, ledgers, touched, moved_at, keys, stamps, values,
    mask, page, years, poisons, gone, first, end, shift, tables, geometry,
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
        spares_left = geometry[G_SPARES] - s[SPARES_USED]
        counters[SPARES_LEFT], counters[1], counters[2], counters[3] = spares_left, 0, v[V_HITS], v[V_SPLIT]
        counters[4], counters[5], counters[AGE_DAYS] = s[LEAKED_REGIONS], s[TABLE_PAGES], today
        act, _, _ = matching(
            rows, first_timed + r, first_timed + r + 1, counters, spares_left, can_evacuate(s, v, geometry)
        )
        acted = False
        if act == COLLAPSE:
            acted = collapse(
                s, v, regions, ledgers, touched, moved_at, keys, stamps, values, mask, page, years, gone, first, end,
                shift, tables, geometry,
            )  # fmt: skip
        elif act == EVACUATE:
            evacuate(s, v, len(shift), geometry)
            acted = moved = calmed = True
        elif act == RESTART and (v[V_POISONS] > 0 or s[VM_LOST] == 1):
            restart(
                s, v, regions, ledgers, touched, moved_at, page, poisons, gone, first, end, now, -1, shift, tables,
                geometry,
            )  # fmt: skip
            acted = calmed = True
        if acted:
            acts = acts * 256 + 16 * act
            asked[:] = False
            asked[r] = True
    return acts, moved, calmed
