"""What the steps of a policy do to a region or to the whole VM: moves, restarts, collapses; parts of the kernel.

What the kernel keeps of one VM, beside its state `s`: `v`, numbers of the VM; `regions` and `ledgers`, a row for each
region, valid where its stamp is that of now; `touched`, the regions with valid rows. Events that poisoned a page anew
are linked: `earlier[e]` is the one before in its region and the one before with the same hash of its page, `latest` the
last of each hash; those of a region stand from its `L_FROM` on. `gone[e]` is what became of such an event's leaf: 0
nothing new, level + 1 a hole, -(level + 1) it was kept.
"""

from __future__ import annotations

import numpy as np

from poisonsim.compiled import compiled, inlined
from poisonsim.engine.answers import free_pages, give_up, pages_to_split_down, split_down
from poisonsim.engine.codes import (
    EVACUATE,
    G_LUCK,
    G_MOVES_POISON,
    G_REGION_PAGES,
    G_REGIONS,
    G_REPLENISH,
    G_RESTORES_SPLIT,
    G_SHARED,
    G_SPARE_HOSTS,
    G_SPARE_ROWS,
    G_SPARES,
    G_STALL_CLEAR_NS,
    G_STALL_COLLAPSE_NS,
    G_STALL_COPY_NS,
    G_STALL_EVACUATE_NS,
    G_STALL_MIGRATE_NS,
    G_STALL_REBOOT_NS,
    G_STALL_RESTART_NS,
    G_STALL_RESTORE_NS,
    G_STALL_UNMAP_NS,
    G_UNMOVABLE,
    G_VM_PAGES,
    HOLE,
    OFFLINE,
    REBOOT,
)
from poisonsim.engine.hashing import bits_for, claim, lucky, put
from poisonsim.engine.state import (
    DIRECT_MAP_PAGES,
    DISSOLVED_REGIONS,
    EVACUATIONS,
    GUEST_LOST_PAGES,
    HOST_LOST_PAGES,
    LEAKED_REGIONS,
    LEAVES,
    REBOOTS,
    RESTARTS,
    RESTORED_REGIONS,
    SPARES_ADDED,
    SPARES_EXHAUSTED,
    SPARES_USED,
    STALL_NS,
    STRANDED_PAGES,
    TABLE_PAGES,
)

# numbers of the VM: the level above which its leaves have been split as a whole; regions split, and lost in one piece;
# poisons acted on since the VM moved or restarted; the stamp of now; regions touched since then; pages with poison;
# regions whose huge page has its whole vmemmap back, and whether at some time all got it; and of the host, bad base
# pages, huge pages with any, pages found bad or taken out since it booted, and spare rows used; the trial's number; the
# stamp from which on a region's poisons are known, and the first event whose poison stands in all others; the first
# event that no collapse has seen
V_LEVEL, V_SPLIT, V_HOLES, V_HITS, V_STAMP, V_TOUCHED, V_POISONS, V_RESTORED, V_ALL_RESTORED = range(9)
V_BAD, V_BAD_HUGE, V_SINCE_BOOT, V_ROWS, V_TRIAL, V_KNOWN_FROM, V_FROM, V_COLLAPSED = range(9, 17)
N_VM_NUMBERS = 17

# columns of a region's row
R_STAMP, R_SPLIT_TO, R_COPY, R_HITS, R_RESTORED = range(5)
N_REGION_COLUMNS = 5

# columns of its ledger, kept only for policies that do more than unmap: its last poison, the first event whose poison
# stands, and how many do, all of which outlives an evacuation; and what does not; leaf counts follow
L_LAST, L_FROM, L_POISONS, L_LOST, L_TABLES, L_VM_LEVEL, L_LEAVES = range(7)

_HOLE_OF = 8  # in a key, beside the level: not that the block is split, but that it is a hole


@compiled
def sync(ledger, vm_level, shift, tables):
    """Makes up for a split of the whole VM since the region was last looked at."""
    if ledger[L_VM_LEVEL] < vm_level:
        ledger[L_VM_LEVEL] = vm_level
        ledger[L_TABLES] += pages_to_split_down(ledger, L_LEAVES, vm_level, tables)
        split_down(ledger, L_LEAVES, vm_level, shift)


@compiled
def poisoned_in(page, earlier, ledger, level_shift, block):
    """Poisoned pages of a block of the region whose `ledger` this is."""
    n = np.int64(0)
    e = ledger[L_LAST]
    while e >= ledger[L_FROM]:
        n += page[e] >> level_shift == block
        e = np.int64(earlier[e, 0])
    return n


@compiled
def is_poisoned(page, e, earlier, last, ledger):
    """Whether the page of event `e` is poisoned; `last` is the latest poison with the same hash of its page."""
    while last >= ledger[L_FROM] and page[last] != page[e]:
        last = np.int64(earlier[last, 1])
    return last >= ledger[L_FROM]


@inlined
def moved_by(s, regions, region, geometry):
    """What is added to the page numbers of a region, so that nothing is found of where it was before it moved.

    A reboot makes everything whole where it is.
    """
    return regions[region, R_COPY] * geometry[G_VM_PAGES] + (s[REBOOTS] << 50)


@inlined
def restore(s, v, regions, region, geometry):
    """The huge page of a region gets its whole vmemmap back, unless it has it."""
    if regions[region, R_RESTORED] == 0:
        regions[region, R_RESTORED] = 1
        s[RESTORED_REGIONS] += 1
        s[STALL_NS] += geometry[G_STALL_RESTORE_NS] * geometry[G_RESTORES_SPLIT]
        v[V_RESTORED] += 1


@compiled
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
        give_up(s, healthy, leaks, regions[region, R_RESTORED] == 1, geometry)
        v[V_RESTORED] -= regions[region, R_RESTORED]
    regions[region, R_RESTORED] = 0
    if vm_level > 0:
        v[V_SPLIT] += was_hole
        restore(s, v, regions, region, geometry)
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
    # what was dissolved is free, but never one piece again
    if geometry[G_REPLENISH] > 0 and free_pages(s, geometry) - s[STRANDED_PAGES] >= geometry[G_REGION_PAGES]:
        attempt = s[SPARES_USED] + (s[EVACUATIONS] << 16) + (s[REBOOTS] << 32)
        s[SPARES_ADDED] += lucky(geometry[G_LUCK], v[V_TRIAL], attempt, geometry[G_REPLENISH])


@inlined
def spares_of(s, geometry):
    """Spare huge pages left."""
    return geometry[G_SPARES] + s[SPARES_ADDED] - s[SPARES_USED]


@compiled
def migrate(s, v, regions, ledgers, moved_at, region, now, suspect, shift, tables, geometry):
    """Moves a region's healthy data to a spare huge page; pages newly lost: holes come back, poison does not."""
    s[STALL_NS] += geometry[G_STALL_MIGRATE_NS]
    if suspect:  # the kernel copies over a free huge page as it is
        s[STALL_NS] -= geometry[G_STALL_CLEAR_NS]
    renew(s, v, regions, ledgers, moved_at, region, now, suspect, shift, tables, geometry)
    return ledgers[region, L_POISONS] - ledgers[region, L_LOST]


@inlined
def forget(s, v, ledger, end):
    """The guest has no memory of what it retired or lost, before event `end`, in a region that is whole again."""
    s[GUEST_LOST_PAGES] -= ledger[L_LOST]
    v[V_POISONS] -= ledger[L_POISONS]
    ledger[L_LOST] = ledger[L_POISONS] = 0
    ledger[L_FROM] = end


@compiled
def offline(s, v, regions, ledgers, moved_at, end, region, now, shift, tables, geometry):
    """The guest vacates a region of one leaf: a spare huge page is plugged in, or it stays away; pages newly lost."""
    if spares_of(s, geometry) > 0:
        s[STALL_NS] += geometry[G_STALL_MIGRATE_NS]
        renew(s, v, regions, ledgers, moved_at, region, now, 0, shift, tables, geometry)
        forget(s, v, ledgers[region], end)
        return np.int64(0)
    s[SPARES_EXHAUSTED] = 1
    s[STALL_NS] += geometry[G_STALL_UNMAP_NS] + geometry[G_STALL_COPY_NS]
    lose_whole(s, v, regions, region, geometry)
    ledgers[region, L_LEAVES] -= 1
    return (np.int64(1) << shift[0]) - ledgers[region, L_LOST]


@inlined
def lose_whole(s, v, regions, region, geometry):
    """A region of one leaf becomes a hole, and its huge page is given up."""
    s[LEAVES] -= 1
    regions[region, R_SPLIT_TO] = HOLE
    v[V_HOLES] += 1
    was_restored = regions[region, R_RESTORED] == 1
    healthy = geometry[G_REGION_PAGES] - regions[region, R_HITS]
    give_up(s, healthy, geometry[G_SHARED] == 1, was_restored, geometry)
    v[V_RESTORED] -= was_restored


@compiled
def able(s, v, region, geometry):
    """A bit for each act that can be done now, spares apart; `region` is -1 where no leaf was hit.

    To evacuate there must be a host to go to, and the VMM must take the VM as it is. To offline the guest must be able
    to vacate the region. A reboot must leave huge pages enough for the VM.
    """
    acts = np.int64(-1)
    if s[EVACUATIONS] >= geometry[G_SPARE_HOSTS] or (geometry[G_MOVES_POISON] == 0 and v[V_POISONS] > 0):
        acts &= ~(np.int64(1) << EVACUATE)
    if region < geometry[G_UNMOVABLE]:
        acts &= ~(np.int64(1) << OFFLINE)
    repairs = v[V_BAD] <= geometry[G_SPARE_ROWS] - v[V_ROWS]
    if not repairs and v[V_BAD_HUGE] > geometry[G_SPARES]:
        acts &= ~(np.int64(1) << REBOOT)
    return acts


@compiled
def reboot(s, v, regions, ledgers, touched, moved_at, end, now, n_levels, geometry):
    """Boots the host: bad rows are repaired if there are spare ones for all, else huge pages with any are left out.

    The VM starts again on whole huge pages: those of regions that had a bad page are others, where none was repaired.
    """
    s[REBOOTS] += 1
    s[STALL_NS] += geometry[G_STALL_REBOOT_NS]
    if v[V_BAD] <= geometry[G_SPARE_ROWS] - v[V_ROWS]:
        v[V_ROWS] += v[V_BAD]
        v[V_BAD] = v[V_BAD_HUGE] = 0
    for i in range(v[V_TOUCHED]):
        row, ledger = regions[touched[i]], ledgers[touched[i]]
        if v[V_BAD] > 0 and (row[R_HITS] > 0 or row[R_SPLIT_TO] == HOLE):
            moved_at[touched[i]] = now
            row[R_COPY] += 1
        row[R_SPLIT_TO] = row[R_HITS] = row[R_RESTORED] = 0
        ledger[L_FROM] = end
        ledger[L_POISONS:] = 0
        ledger[L_LEAVES] = 1
    v[V_KNOWN_FROM], v[V_FROM] = v[V_STAMP], end
    s[HOST_LOST_PAGES] = v[V_BAD]
    s[STRANDED_PAGES] = v[V_BAD_HUGE] * geometry[G_REGION_PAGES] - v[V_BAD]
    s[SPARES_USED] = s[DISSOLVED_REGIONS] = s[RESTORED_REGIONS] = v[V_BAD_HUGE]
    s[SPARES_ADDED] = s[LEAKED_REGIONS] = s[TABLE_PAGES] = s[DIRECT_MAP_PAGES] = s[GUEST_LOST_PAGES] = 0
    s[LEAVES : LEAVES + n_levels] = 0
    s[LEAVES] = geometry[G_REGIONS]
    v[V_LEVEL] = v[V_SPLIT] = v[V_HOLES] = v[V_HITS] = v[V_POISONS] = v[V_RESTORED] = v[V_ALL_RESTORED] = 0
    v[V_SINCE_BOOT] = 0


@compiled
def evacuate(s, v, n_levels, geometry):
    """Takes the VM to a clean host with as many spares: whole leaves, no tables, nothing lost but poisoned pages.

    These stay poisoned there, so that a guest that was to die of one still does.
    """
    s[EVACUATIONS] += 1
    s[STALL_NS] += geometry[G_STALL_EVACUATE_NS]
    s[GUEST_LOST_PAGES] = v[V_POISONS]
    s[HOST_LOST_PAGES] = s[STRANDED_PAGES] = s[TABLE_PAGES] = s[DIRECT_MAP_PAGES] = s[SPARES_USED] = 0
    s[SPARES_ADDED] = s[LEAKED_REGIONS] = s[DISSOLVED_REGIONS] = s[RESTORED_REGIONS] = 0
    s[LEAVES : LEAVES + n_levels] = 0
    s[LEAVES] = geometry[G_REGIONS]
    v[V_LEVEL] = v[V_SPLIT] = v[V_HOLES] = v[V_HITS] = v[V_TOUCHED] = v[V_RESTORED] = v[V_ALL_RESTORED] = 0
    v[V_BAD] = v[V_BAD_HUGE] = v[V_SINCE_BOOT] = v[V_ROWS] = 0
    v[V_STAMP] += 1


@compiled
def restart(s, v, regions, ledgers, touched, moved_at, end, now, dearest, shift, tables, geometry):
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
            if spares_of(s, geometry) <= 0:
                continue
            s[STALL_NS] += geometry[G_STALL_CLEAR_NS]
            renew(s, v, regions, ledgers, moved_at, region, now, 0, shift, tables, geometry)
        forget(s, v, ledger, end)
    if s[EVACUATIONS] > 0:  # of regions that nothing touched since the VM moved
        untouched = v[V_POISONS]
        for i in range(v[V_TOUCHED]):
            untouched -= ledgers[touched[i], L_POISONS]
        s[GUEST_LOST_PAGES] -= untouched
        v[V_POISONS] -= untouched
        v[V_KNOWN_FROM], v[V_FROM] = v[V_STAMP], end
    v[V_HITS] = 0


@compiled
def collapse(
    s, v, regions, ledgers, touched, moved_at, keys, stamps, values, mask, page, years, earlier, gone, end, shift,
    tables, geometry,
):  # fmt: skip
    """Maps every region by the largest leaves that hold no hole and no poison; whether anything changed."""
    changed = False
    n_levels = len(shift)
    seen = v[V_COLLAPSED] if v[V_LEVEL] == 0 else np.int64(-1)  # regions without a later poison are as they were left
    v[V_COLLAPSED] = end
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
        if ledger[L_LAST] < seen:
            continue
        sync(ledger, v[V_LEVEL], shift, tables)
        if regions[region, R_SPLIT_TO] == HOLE or (regions[region, R_SPLIT_TO] == 0 and v[V_LEVEL] == 0):
            ledger[L_VM_LEVEL] = 0
            continue
        new[:] = 0
        pages = np.int64(0)
        split = False
        offset = moved_by(s, regions, region, geometry)
        new[0] = 1
        block_mask = (np.int64(1) << bits_for(n_levels * ledger[L_POISONS])) - 1
        blocks, counted = np.empty(block_mask + 1, np.int64), np.zeros(block_mask + 1, np.bool_)
        e = ledger[L_LAST]
        while e >= ledger[L_FROM] and years[e] > moved_at[region]:
            last = abs(gone[e]) - 1  # the level of the leaf that is a hole, or kept; -1 for neither
            for level in range(last):  # split every block above it, once
                if claim(blocks, counted, block_mask, ((page[e] >> shift[level]) << 4) | level, True):
                    new[level] -= 1
                    new[level + 1] += np.int64(1) << (shift[level] - shift[level + 1])
                    pages += tables[level, level + 1]
                    split = True
                    if level > 0 and e >= seen:  # an earlier collapse has put the others there
                        key = (((page[e] + offset) >> shift[level]) << 4) | level
                        put(keys, stamps, values, mask, key, v[V_STAMP], level + 1)
            hole = ((page[e] >> shift[last]) << 4) | _HOLE_OF | last
            if gone[e] > 0 and claim(blocks, counted, block_mask, hole, True):
                new[last] -= 1
                if 0 < last < n_levels - 1 and e >= seen:
                    key = (((page[e] + offset) >> shift[last]) << 4) | last
                    put(keys, stamps, values, mask, key, v[V_STAMP], HOLE)
            e = np.int64(earlier[e, 0])
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
