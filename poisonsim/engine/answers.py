"""How rules answer: guards, what giving up a huge page means, and what poison always does where no guard is asked."""

from __future__ import annotations

import numpy as np
from numba import njit

from poisonsim.engine.codes import (
    EVACUATE,
    G_SHARED,
    G_STALL_UNMAP_NS,
    HOLE,
    MIGRATE,
    NO_MATCH,
    RESTART,
    SPARES_LEFT,
    SPLIT_TO,
    UNMAP,
)
from poisonsim.engine.state import (
    DISSOLVED_REGIONS,
    GUEST_FAULTS,
    GUEST_LOST_PAGES,
    HOST_LOST_PAGES,
    LEAKED_REGIONS,
    LEAVES,
    RESTORED_REGIONS,
    STALL_NS,
    STRANDED_PAGES,
    TABLE_PAGES,
)


@njit(cache=True, nogil=True, inline="always")
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


@njit(cache=True, nogil=True)
def matching(rows, first, last, counters, spares_left, evacuates):
    """The first of some rules that matches: its action and target, and whether one failed for want of a spare only.

    Where the VM cannot be evacuated (`evacuates`), rules that would do it do not match.
    """
    lacks_spare = False
    for r in range(first, last):
        matches = matches_but_for_spares = True
        for c in range(rows[r, 0]):
            agrees = holds(counters[rows[r, 1 + 3 * c]], rows[r, 2 + 3 * c], rows[r, 3 + 3 * c])
            matches &= agrees
            matches_but_for_spares &= agrees or rows[r, 1 + 3 * c] == SPARES_LEFT
        if (rows[r, -2] == MIGRATE or rows[r, -2] == RESTART) and spares_left <= 0:
            matches = False
            lacks_spare |= matches_but_for_spares
        if matches and (evacuates or rows[r, -2] != EVACUATE):
            return rows[r, -2], rows[r, -1], lacks_spare
    return np.int64(NO_MATCH), np.int64(-1), lacks_spare


@njit(cache=True, nogil=True, inline="always")
def give_up(s, healthy_pages, shared, was_split):
    """The host loses a huge page: leaked while it is mapped shared, else dissolved, which restores its vmemmap."""
    if shared:
        s[LEAKED_REGIONS] += 1
        s[HOST_LOST_PAGES] += healthy_pages
    else:
        s[DISSOLVED_REGIONS] += 1
        s[STRANDED_PAGES] += healthy_pages
        if not was_split:
            s[RESTORED_REGIONS] += 1


@njit(cache=True, nogil=True, inline="always")
def split_down(counts, first, target, shift):
    """Turns every leaf above `target` in `counts`, which starts at column `first`, into leaves of `target`."""
    for above in range(target):
        n = counts[first + above]
        counts[first + above] = 0
        counts[first + target] += n << (shift[above] - shift[target])


@njit(cache=True, nogil=True, inline="always")
def pages_to_split_down(counts, first, target, pages):
    """Sum over leaves above `target` of the entry of `pages` for splitting one of them to `target`."""
    total = np.int64(0)
    for above in range(target):
        total += counts[first + above] * pages[above, target]
    return total


@njit(cache=True, nogil=True)
def fixed_answers(rows, row_start, shift, tables, stall_split, faults, geometry, n_columns, usable):
    """What poison in a leaf of each level always does, where no rule on the way has a guard or needs a spare.

    Returns:
        fixed bool[n_levels]; change int64[n_levels, n_columns], what it adds to each column of the state;
        becomes int32[n_levels, n_levels], what the leaves on the way down become; last int64[n_levels], the level lost.
    """
    n_levels = len(shift)
    fixed = np.zeros(n_levels, np.bool_)
    change = np.zeros((n_levels, n_columns), np.int64)
    becomes = np.zeros((n_levels, n_levels), np.int32)
    last = np.zeros(n_levels, np.int64)
    for level in range(n_levels if usable else 0):
        here = level
        while row_start[here] < row_start[here + 1]:
            r = row_start[here]
            act = rows[r, -2]
            if rows[r, 0] > 0 or (act != SPLIT_TO and act != UNMAP):
                break
            if act == UNMAP:
                fixed[level] = True
                change[level, LEAVES + here] -= 1
                change[level, GUEST_LOST_PAGES] += np.int64(1) << shift[here]
                change[level, HOST_LOST_PAGES] += 1
                change[level, GUEST_FAULTS] += faults[here]
                change[level, STALL_NS] += geometry[G_STALL_UNMAP_NS]
                if here == 0:
                    give_up(change[level], (np.int64(1) << shift[0]) - 1, geometry[G_SHARED], False)
                becomes[level, here] = HOLE
                last[level] = here
                break
            target = rows[r, -1]
            change[level, LEAVES + here] -= 1
            change[level, LEAVES + target] += np.int64(1) << (shift[here] - shift[target])
            change[level, TABLE_PAGES] += tables[here, target]
            change[level, STALL_NS] += stall_split[here, target]
            if here == 0:
                change[level, RESTORED_REGIONS] += 1
            becomes[level, here] = target
            here = target
    return fixed, change, becomes, last


@njit(cache=True, nogil=True)
def settle(s, due, change):
    """Adds to the state what fixed answers change, as often as each is due; none are due after that: 0."""
    for level in range(len(due)):
        if due[level] > 0:
            for k in range(len(s)):
                s[k] += due[level] * change[level, k]
            due[level] = 0
    return 0
