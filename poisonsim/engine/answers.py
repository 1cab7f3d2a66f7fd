"""How rules answer: guards, what giving up a huge page means, and what poison always does where no guard is asked."""

from __future__ import annotations

import numpy as np

from poisonsim.compiled import compiled, inlined
from poisonsim.engine.codes import (
    G_FREE_PAGES,
    G_REGION_PAGES,
    G_RESTORE_PAGES,
    G_RESTORES_SPLIT,
    G_SHARED,
    G_STALL_RESTORE_NS,
    G_STALL_UNMAP_NS,
    G_TABLES,
    HOLE,
    MIGRATE,
    NO_MATCH,
    RESTART,
    SPARES_LEFT,
    SPLIT_TO,
    UNMAP,
)
from poisonsim.engine.state import (
    DIRECT_MAP_PAGES,
    DISSOLVED_REGIONS,
    GUEST_FAULTS,
    GUEST_LOST_PAGES,
    HOST_LOST_PAGES,
    LEAKED_REGIONS,
    LEAVES,
    RESTORED_REGIONS,
    SPARES_ADDED,
    STALL_NS,
    STRANDED_PAGES,
    TABLE_PAGES,
)


@inlined
def holds(x, operator, value):
    """Whether `x operator value`, the operator given by its place in `poisonsim.policy.rules.OPERATORS`."""
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


@inlined
def matching(rows, first, last, counters, spares_left, able):
    """The first of some rules that matches.

    Args:
        able: A bit for each act, by its number, that can be done now, spares apart.

    Returns:
        Its act and target; whether a rule before it failed for want of a spare only; whether one failed for want of
        that or of anything else that its act needs.
    """
    lacks_spare = passed_over = False
    for r in range(first, last):
        matches = matches_but_for_spares = True
        for c in range(rows[r, 0]):
            agrees = holds(counters[rows[r, 1 + 3 * c]], rows[r, 2 + 3 * c], rows[r, 3 + 3 * c])
            matches &= agrees
            matches_but_for_spares &= agrees or rows[r, 1 + 3 * c] == SPARES_LEFT
        if (rows[r, -2] == MIGRATE or rows[r, -2] == RESTART) and spares_left <= 0:
            matches = False
            lacks_spare |= matches_but_for_spares
        if matches and (able >> rows[r, -2]) & 1 == 0:
            matches = False
            passed_over = True
        if matches:
            return rows[r, -2], rows[r, -1], lacks_spare, passed_over or lacks_spare
    return np.int64(NO_MATCH), np.int64(-1), lacks_spare, passed_over or lacks_spare


@inlined
def free_pages(s, geometry):
    """Base pages of the host that are free outside the pool; below 0 where tables took more than there was."""
    restored = s[RESTORED_REGIONS] if geometry[G_RESTORES_SPLIT] == 1 else s[DISSOLVED_REGIONS]
    return (
        geometry[G_FREE_PAGES]
        + s[STRANDED_PAGES]
        - s[TABLE_PAGES] * geometry[G_TABLES]
        - s[DIRECT_MAP_PAGES]
        - restored * geometry[G_RESTORE_PAGES]
        - s[SPARES_ADDED] * (geometry[G_REGION_PAGES] - geometry[G_RESTORE_PAGES])
    )


@inlined
def give_up(s, healthy_pages, leaks, was_split, geometry):
    """The host loses a huge page: leaked, or dissolved, which first restores its vmemmap.

    Where there is no memory for that it stays in the pool, poisoned, as good as leaked.
    """
    restores = geometry[G_RESTORE_PAGES] > 0 and not (was_split and geometry[G_RESTORES_SPLIT] == 1)
    if restores:
        leaks |= free_pages(s, geometry) < geometry[G_RESTORE_PAGES]
    if leaks:
        s[LEAKED_REGIONS] += 1
        s[HOST_LOST_PAGES] += healthy_pages
    else:
        s[DISSOLVED_REGIONS] += 1
        s[STRANDED_PAGES] += healthy_pages
        s[RESTORED_REGIONS] += not was_split
        if restores:
            s[STALL_NS] += geometry[G_STALL_RESTORE_NS]


@inlined
def split_down(counts, first, target, shift):
    """Turns every leaf above `target` in `counts`, which starts at column `first`, into leaves of `target`."""
    for above in range(target):
        n = counts[first + above]
        counts[first + above] = 0
        counts[first + target] += n << (shift[above] - shift[target])


@inlined
def pages_to_split_down(counts, first, target, pages):
    """Sum over leaves above `target` of the entry of `pages` for splitting one of them to `target`."""
    total = np.int64(0)
    for above in range(target):
        total += counts[first + above] * pages[above, target]
    return total


@compiled
def follow_rules(rows, row_start, shift, tables, stall_split, faults, geometry, change, becomes, loses):
    """What poison always does in a leaf of each level that there can be; whether no rule on the way has a guard.

    Args:
        rows, row_start, shift, tables, stall_split, geometry: As for `simulate`.
        faults: That of a `GuestLaw`.
        change: int64[n_levels, n_columns], filled with what it adds to each column of the state.
        becomes: int64[n_levels], filled with the level to which such a leaf is split, or `HOLE`.
        loses: int64[n_levels], filled with the level of the leaf that is lost in the end.
    """
    top = 0
    while top != HOLE:
        here = top
        while True:
            r = row_start[here]
            act, target = rows[r, -2], rows[r, -1]
            if r == row_start[here + 1] or rows[r, 0] > 0 or (act != SPLIT_TO and act != UNMAP):
                return False
            change[top, LEAVES + here] -= 1
            becomes[here] = target if act == SPLIT_TO else HOLE
            if act == UNMAP:
                break
            change[top, LEAVES + target] += np.int64(1) << (shift[here] - shift[target])
            change[top, TABLE_PAGES] += tables[here, target]
            change[top, STALL_NS] += stall_split[here, target]
            if here == 0:
                change[top, RESTORED_REGIONS] += 1
                change[top, STALL_NS] += geometry[G_STALL_RESTORE_NS] * geometry[G_RESTORES_SPLIT]
            here = target
        loses[top] = here
        change[top, GUEST_LOST_PAGES] += np.int64(1) << shift[here]
        change[top, HOST_LOST_PAGES] += 1
        change[top, GUEST_FAULTS] += faults[here]
        change[top, STALL_NS] += geometry[G_STALL_UNMAP_NS]
        if here == 0:  # whether it finds memory to dissolve is known: what the first gives back is enough for the next
            give_up(change[top], (np.int64(1) << shift[0]) - 1, geometry[G_SHARED] == 1, False, geometry)
        top = becomes[top]
    return True
