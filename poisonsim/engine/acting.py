"""What the steps of a policy do to a region or to the whole VM: moves, restarts, collapses; parts of the kernel.

What the kernel keeps of one VM, beside its state `s`: `v`, numbers of the VM; `regions` and `ledgers`, a row for each
region, valid where its stamp is that of now; `touched`, the regions with valid rows; `poisons[e]`, whether event e
poisoned a page anew; `gone[e]`, what became of its leaf: 0 nothing new, level + 1 a hole, -(level + 1) it was kept.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from poisonsim.engine.answers import give_up, pages_to_split_down, split_down
from poisonsim.engine.codes import (
    G_MOVES_POISON,
    G_REGIONS,
    G_SHARED,
    G_SPARE_HOSTS,
    G_SPARES,
    G_STALL_CLEAR_NS,
    G_STALL_COLLAPSE_NS,
    G_STALL_EVACUATE_NS,
    G_STALL_MIGRATE_NS,
    G_STALL_RESTART_NS,
    G_VM_PAGES,
    HOLE,
)
from poisonsim.engine.hashing import put
from poisonsim.engine.state import (
    DISSOLVED_REGIONS,
    EVACUATIONS,
    GUEST_LOST_PAGES,
    HOST_LOST_PAGES,
    LEAKED_REGIONS,
    LEAVES,
    RESTARTS,
    RESTORED_REGIONS,
    SPARES_USED,
    STALL_NS,
    STRANDED_PAGES,
    TABLE_PAGES,
)

# numbers of the VM: the level above which its leaves have been split as a whole; regions split, and lost in one piece;
# poisons acted on since the VM moved or restarted; the stamp of now; regions touched since then; pages with poison;
# regions whose huge page has its whole vmemmap back, and whether at some time all got it
V_LEVEL, V_SPLIT, V_HOLES, V_HITS, V_STAMP, V_TOUCHED, V_POISONS, V_RESTORED, V_ALL_RESTORED = range(9)
N_VM_NUMBERS = 9

# columns of a region's row
R_STAMP, R_SPLIT_TO, R_COPY, R_HITS, R_RESTORED = range(5)
N_REGION_COLUMNS = 5

# columns of its ledger, kept only for policies that do more than unmap; leaf counts follow
L_POISONS, L_TABLES, L_LOST, L_VM_LEVEL, L_LEAVES = range(5)


@njit(cache=True, nogil=True)
def sync(ledger, vm_level, shift, tables):
    """Makes up for a split of the whole VM since the region was last looked at."""
    if ledger[L_VM_LEVEL] < vm_level:
        ledger[L_VM_LEVEL] = vm_level
        ledger[L_TABLES] += pages_to_split_down(ledger, L_LEAVES, vm_level, tables)
        split_down(ledger, L_LEAVES, vm_level, shift)


@njit(cache=True, nogil=True)
def poisoned_in(page, poisons, first, end, level_shift, block):
    """Pages of a block that events from `first` up to `end` poisoned."""
    n = np.int64(0)
    for before in range(first, end):
        if poisons[before] and page[before] >> level_shift == block:
            n += 1
    return n


@njit(cache=True, nogil=True, inline="always")
def restore(s, v, regions, region):
    """The huge page of a region gets its whole vmemmap back, unless it has it."""
    if regions[region, R_RESTORED] == 0:
        regions[region, R_RESTORED] = 1
        s[RESTORED_REGIONS] += 1
        v[V_RESTORED] += 1


@njit(cache=True, nogil=True)
def renew(s, v, regions, ledgers, moved_at, region, now, suspect, shift, tables, geometry):
    """A spare huge page takes the place of the one that backs a region; the old one is given up.

    Args:
        suspect: 1 where a healthy page of the old one is taken out of use (soft offline).
    """
    ledger, n_levels, vm_level = ledgers[region], len(shift), v[V_LEVEL]
    was_split = regions[region, R_SPLIT_TO] > 0
    was_hole = regions[region, R_SPLIT_TO] == HOLE
    s[SPARES_USED] += 1
    if was_hole:  # what it had is given up already
        v[V_HOLES] -= 1
    else:
        s[HOST_LOST_PAGES] += suspect
        healthy = (np.int64(1) << shift[0]) - regions[region, R_HITS] - suspect
        leaks = geometry[G_SHARED] == 1 and regions[region, R_HITS] > 0  # of poison, not of suspicion
        give_up(s, healthy, leaks, regions[region, R_RESTORED] == 1)
        v[V_RESTORED] -= regions[region, R_RESTORED]
    regions[region, R_RESTORED] = 0
    if vm_level > 0:
        v[V_SPLIT] += was_hole
        restore(s, v, regions, region)
    elif was_split:
        v[V_SPLIT] -= 1
    for k in range(n_levels):
        s[LEAVES + k] -= ledger[L_LEAVES + k]
        ledger[L_LEAVES + k] = 0
    ledger[L_LEAVES + vm_level] = np.int64(1) << (shift[0] - shift[vm_level])
    s[LEAVES + vm_level] += ledger[L_LEAVES + vm_level]
    s[TABLE_PAGES] += tables[0, vm_level] - ledger[L_TABLES]
    ledger[L_TABLES] = tables[0, vm_level]
    regions[region, R_SPLIT_TO] = 0
    regions[region, R_HITS] = 0
    regions[region, R_COPY] += 1
    moved_at[region] = now


@njit(cache=True, nogil=True)
def migrate(s, v, regions, ledgers, moved_at, region, now, suspect, shift, tables, geometry):
    """Moves a region's healthy data to a spare huge page; pages newly lost: holes come back, poison does not."""
    s[STALL_NS] += geometry[G_STALL_MIGRATE_NS]
    renew(s, v, regions, ledgers, moved_at, region, now, suspect, shift, tables, geometry)
    return ledgers[region, L_POISONS] - ledgers[region, L_LOST]


@njit(cache=True, nogil=True, inline="always")
def can_evacuate(s, v, geometry):
    """Whether there is a host to go to, and the VMM can take the VM as it is."""
    return s[EVACUATIONS] < geometry[G_SPARE_HOSTS] and (geometry[G_MOVES_POISON] == 1 or v[V_POISONS] == 0)


@njit(cache=True, nogil=True)
def evacuate(s, v, n_levels, geometry):
    """Takes the VM to a clean host with as many spares: whole leaves, no tables, nothing lost but poisoned pages."""
    s[EVACUATIONS] += 1
    s[STALL_NS] += geometry[G_STALL_EVACUATE_NS]
    s[GUEST_LOST_PAGES] = v[V_POISONS]
    s[HOST_LOST_PAGES] = s[STRANDED_PAGES] = s[TABLE_PAGES] = s[SPARES_USED] = 0
    s[LEAKED_REGIONS] = s[DISSOLVED_REGIONS] = s[RESTORED_REGIONS] = 0
    s[LEAVES : LEAVES + n_levels] = 0
    s[LEAVES] = geometry[G_REGIONS]
    v[V_LEVEL] = v[V_SPLIT] = v[V_HOLES] = v[V_HITS] = v[V_TOUCHED] = v[V_RESTORED] = v[V_ALL_RESTORED] = 0
    v[V_STAMP] += 1


@njit(cache=True, nogil=True)
def restart(
    s, v, regions, ledgers, touched, moved_at, page, poisons, gone, first, end, now, dearest, shift, tables, geometry
):  # fmt: skip
    """Restarts the guest: while there are spares, every region with poison or a hole gets a fresh huge page.

    The guest forgets which pages it retired. Without a spare a region stays as it is; `dearest` is served first.
    """
    s[RESTARTS] += 1
    s[STALL_NS] += geometry[G_STALL_RESTART_NS]
    for i in range(-1, v[V_TOUCHED]):
        region = touched[i] if i >= 0 else dearest
        if region < 0:
            continue
        ledger = ledgers[region]
        if ledger[L_POISONS] == 0:
            continue
        sync(ledger, v[V_LEVEL], shift, tables)
        if regions[region, R_HITS] > 0 or regions[region, R_SPLIT_TO] != 0:  # else it moved since: only retired pages
            if s[SPARES_USED] >= geometry[G_SPARES]:
                continue
            s[STALL_NS] += geometry[G_STALL_CLEAR_NS]
            renew(s, v, regions, ledgers, moved_at, region, now, 0, shift, tables, geometry)
        s[GUEST_LOST_PAGES] -= ledger[L_LOST]
        v[V_POISONS] -= ledger[L_POISONS]
        ledger[L_LOST] = ledger[L_POISONS] = 0
        for before in range(first, end):
            if page[before] >> shift[0] == region:
                poisons[before] = False
                gone[before] = 0
    for before in range(first, end):  # of regions that nothing touched since the VM moved
        if poisons[before] and regions[page[before] >> shift[0], R_STAMP] != v[V_STAMP]:
            poisons[before] = False
            gone[before] = 0
            s[GUEST_LOST_PAGES] -= 1
            v[V_POISONS] -= 1
    v[V_HITS] = 0


@njit(cache=True, nogil=True)
def collapse(
    s, v, regions, ledgers, touched, moved_at, keys, stamps, values, mask, page, years, gone, first, end, shift, tables,
    geometry,
):  # fmt: skip
    """Maps every region by the largest leaves that hold no hole and no poison; whether anything changed."""
    changed = False
    n_levels = len(shift)
    if v[V_LEVEL] > 0:  # regions that nothing has touched become whole
        untouched = geometry[G_REGIONS] - v[V_TOUCHED]
        leaves = untouched << (shift[0] - shift[v[V_LEVEL]])
        s[LEAVES + v[V_LEVEL]] -= leaves
        s[LEAVES] += untouched
        s[TABLE_PAGES] -= untouched * tables[0, v[V_LEVEL]]
        s[STALL_NS] += untouched * geometry[G_STALL_COLLAPSE_NS]
        v[V_SPLIT] -= untouched
        changed = untouched > 0
    new = np.empty(n_levels, np.int64)
    for i in range(v[V_TOUCHED]):
        region = touched[i]
        ledger = ledgers[region]
        sync(ledger, v[V_LEVEL], shift, tables)
        if regions[region, R_SPLIT_TO] == HOLE or (regions[region, R_SPLIT_TO] == 0 and v[V_LEVEL] == 0):
            ledger[L_VM_LEVEL] = 0
            continue
        new[:] = 0
        pages = np.int64(0)
        split = False
        offset = regions[region, R_COPY] * geometry[G_VM_PAGES]
        new[0] = 1
        for e in range(first, end):
            if gone[e] == 0 or page[e] >> shift[0] != region or years[e] <= moved_at[region]:
                continue
            last = abs(gone[e]) - 1  # the level of the leaf that is a hole, or kept
            for level in range(last):  # split every block above it that no earlier error has split
                block = page[e] >> shift[level]
                fresh = True
                for before in range(first, e):
                    if gone[before] != 0 and years[before] > moved_at[region]:
                        fresh &= page[before] >> shift[level] != block or abs(gone[before]) - 1 <= level
                if fresh:
                    new[level] -= 1
                    new[level + 1] += np.int64(1) << (shift[level] - shift[level + 1])
                    pages += tables[level, level + 1]
                    split = True
                    if level > 0:
                        key = (((page[e] + offset) >> shift[level]) << 4) | level
                        put(keys, stamps, values, mask, key, v[V_STAMP], level + 1)
            if gone[e] > 0:
                fresh = True  # pages of a hole are counted once
                for before in range(first, e):
                    if gone[before] == gone[e] and years[before] > moved_at[region]:
                        fresh &= page[before] >> shift[last] != page[e] >> shift[last]
                if fresh:
                    new[last] -= 1
                    if 0 < last < n_levels - 1:
                        key = (((page[e] + offset) >> shift[last]) << 4) | last
                        put(keys, stamps, values, mask, key, v[V_STAMP], HOLE)
        same = True
        for k in range(n_levels):
            same &= ledger[L_LEAVES + k] == new[k]
        if not same:
            changed = True
            s[STALL_NS] += geometry[G_STALL_COLLAPSE_NS]
        for k in range(n_levels):
            s[LEAVES + k] += new[k] - ledger[L_LEAVES + k]
            ledger[L_LEAVES + k] = new[k]
        s[TABLE_PAGES] += pages - ledger[L_TABLES]
        ledger[L_TABLES] = pages
        ledger[L_VM_LEVEL] = 0
        if not split:
            v[V_SPLIT] -= 1
        regions[region, R_SPLIT_TO] = 1 if split else 0
    v[V_LEVEL] = 0
    return changed
