"""What one poison does: the walk to the leaf that maps it, the rule that answers, the act; part of the kernel."""

from __future__ import annotations

import numpy as np

from poisonsim.compiled import inlined
from poisonsim.engine.acting import (
    L_FROM,
    L_LAST,
    L_LEAVES,
    L_LOST,
    L_POISONS,
    L_TABLES,
    L_VM_LEVEL,
    R_COPY,
    R_HITS,
    R_RESTORED,
    R_SPLIT_TO,
    R_STAMP,
    V_ALL_RESTORED,
    V_BAD,
    V_BAD_HUGE,
    V_FROM,
    V_HITS,
    V_HOLES,
    V_KNOWN_FROM,
    V_LEVEL,
    V_POISONS,
    V_RESTORED,
    V_SINCE_BOOT,
    V_SPLIT,
    V_STAMP,
    V_TOUCHED,
    able,
    evacuate,
    is_poisoned,
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
from poisonsim.engine.answers import matching, pages_to_split_down, split_down
from poisonsim.engine.codes import (
    EVACUATE,
    G_ANSWERS,
    G_CHUNK_SHIFT,
    G_DIRECT_MAP,
    G_GROUP_SHIFT,
    G_REFAULT_NS,
    G_REGIONS,
    G_RESTORES_SPLIT,
    G_STAGE2_ONLY,
    G_STALL_RESTORE_NS,
    G_STALL_UNMAP_NS,
    G_VCPUS,
    HOLE,
    KEEP,
    MIGRATE,
    NO_MATCH,
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
    KEY_CHUNK,
    KEY_GROUP,
    LEVEL_BITS,
)
from poisonsim.engine.guest import FAULT_PARTS, years_to_death, years_to_panic
from poisonsim.engine.hashing import bucket_of, claim, put, slot_of
from poisonsim.engine.state import (
    DIRECT_MAP_PAGES,
    FALLBACKS,
    GUEST_FAULTS,
    GUEST_LOST_PAGES,
    HOST_LOST_PAGES,
    LEAKED_REGIONS,
    LEAVES,
    REBOOTS,
    RESTORED_REGIONS,
    SPARES_EXHAUSTED,
    STALL_NS,
    TABLE_PAGES,
)


@inlined
def deliver(
    e, flag, events, vm, nodes, has_ledger, alone_from, laws, rules, decide, direct_map_pages, dies_at,
    vm_moved_at, fault,
):  # fmt: skip
    """One event; what is known of the VM is kept up to date.

    Args:
        flag: That of the event, from `index_events`.
        events: page, years, born, day, fate, ar as `simulate` takes them; earlier, latest and gone: see `acting`.
        vm: s, v, regions, ledgers, touched, moved_at: see `acting`.
        nodes: keys, stamps, values, mask of the table of leaves that were split or lost.
        has_ledger: Whether the policy does more than unmap, so that ledgers are kept.
        alone_from: Leaves from this level down lie within one group of the direct map.
        laws: shift, tables, stall_split, guest, geometry as `simulate` takes them.
        rules: rows, row_start, params, step_down as `simulate` takes them; counters int64[9].
        decide: As `simulate` takes it.
        direct_map_pages, dies_at, vm_moved_at: Pages by which the direct map is split; years of the guest's death by
            what it has lost, and of the VM's last move.
        fault: int64[4], see `simulate`; all 0 if all is well.

    Returns:
        The acts as digits to the base 256; leaf level found; whether more than the number of errors is another than
        before; and direct_map_pages, dies_at, vm_moved_at anew.
    """
    page, years, born, day, fate, ar, earlier, latest, gone = events
    s, v, regions, ledgers, touched, moved_at = vm
    keys, stamps, values, mask = nodes
    shift, tables, stall_split, guest, geometry = laws
    rows, row_start, params, step_down, counters = rules
    base = len(shift) - 1
    acts, found_level = np.int64(0), np.int64(-1)
    corrected = flag & CORRECTED > 0
    felt = flag & LEVEL_BITS <= base
    news = fell_back = False
    region = page[e] >> shift[0]
    if regions[region, R_STAMP] != v[V_STAMP]:
        if has_ledger:
            if regions[region, R_STAMP] < v[V_KNOWN_FROM]:
                ledgers[region, L_LAST], ledgers[region, L_FROM], ledgers[region, L_POISONS] = -1, v[V_FROM], 0
            ledgers[region, L_TABLES:] = 0
            ledgers[region, L_LOST] = ledgers[region, L_POISONS]  # poison of an earlier host is retired and lost
            ledgers[region, L_LEAVES] = 1
            moved_at[region] = vm_moved_at
            touched[v[V_TOUCHED]] = region
            v[V_TOUCHED] += 1
        regions[region, R_STAMP] = v[V_STAMP]
        regions[region, R_SPLIT_TO] = 0
        regions[region, R_COPY] = 0
        regions[region, R_HITS] = 0
        regions[region, R_RESTORED] = v[V_ALL_RESTORED]
    known_to = alone_from if flag & ALONE_IN_GROUP else base  # of leaves from here on nothing can be known
    bucket = bucket_of(page[e], mask)
    if has_ledger:
        if born[e] <= moved_at[region]:  # in DRAM that backs the region no more
            felt = False
        elif not felt and (moved_at[region] >= 0 or s[REBOOTS] > 0 or corrected):  # whether it has poison now
            felt = not is_poisoned(page, e, earlier, np.int64(latest[bucket]), ledgers[region])
    if felt:
        if has_ledger:
            if not corrected:
                v[V_POISONS] += 1
                ledgers[region, L_POISONS] += 1
                earlier[e, 0], earlier[e, 1], gone[e] = ledgers[region, L_LAST], latest[bucket], 0
                ledgers[region, L_LAST] = latest[bucket] = e
            if ledgers[region, L_VM_LEVEL] < v[V_LEVEL]:
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
            s[DIRECT_MAP_PAGES] = direct_map_pages  # the direct map is split once the page is dealt with
            if geometry[G_DIRECT_MAP]:
                new_chunk, new_group = (flag & FIRST_IN_CHUNK) > 0, (flag & FIRST_IN_GROUP) > 0
                if has_ledger:  # a region that moved lies elsewhere
                    chunk, group = here >> geometry[G_CHUNK_SHIFT], here >> geometry[G_GROUP_SHIFT]
                    new_chunk = claim(keys, stamps, mask, (chunk << 4) | KEY_CHUNK, stamp)
                    new_group = claim(keys, stamps, mask, (group << 4) | KEY_GROUP, stamp)
                direct_map_pages += np.int64(new_chunk) + np.int64(new_group)
            s[HOST_LOST_PAGES] += 1
        if corrected:
            s[DIRECT_MAP_PAGES] = direct_map_pages
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
            if geometry[G_ANSWERS] != 0:
                act = decide(counters, params)
                target = step_down[level]
                possible = act in (UNMAP, KEEP, SPLIT, MIGRATE) and (geometry[G_ANSWERS] >> act) & 1 == 1
                possible &= act != SPLIT or level < base
                possible &= act != MIGRATE or spares_left > 0
                if not possible:
                    fault[0], fault[2], fault[3] = 1, act, level
                    break
                if act == SPLIT:
                    act = SPLIT_TO
            else:
                first_rules = level + len(shift) * corrected
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
                        others = poisoned_in(page, earlier, ledgers[region], shift[level], page[e] >> shift[level])
                        lost -= others - (not corrected)
            elif act == MIGRATE:
                news = True
                suspect = np.int64(corrected)  # the page itself is taken out of use
                v[V_SINCE_BOOT] += suspect
                lost = migrate(s, v, regions, ledgers, moved_at, region, years[e], suspect, shift, tables, geometry)
            elif act == OFFLINE:
                lost = offline(s, v, regions, ledgers, moved_at, e + 1, region, years[e], shift, tables, geometry)
            elif act == EVACUATE:
                news = True
                evacuate(s, v, len(shift), geometry)
                vm_moved_at, direct_map_pages, lost = years[e], np.int64(0), np.int64(0)
            elif act == RESTART:
                restart(s, v, regions, ledgers, touched, moved_at, e + 1, years[e], region, shift, tables, geometry)
                dies_at, lost = np.inf, np.int64(0)
            if has_ledger and not corrected:
                gone[e] = -(level + 1) if act == KEEP else lost_level + 1
                if act == OFFLINE:  # a hole, unless it is whole again and all is forgotten
                    gone[e] = 1
            s[GUEST_LOST_PAGES] += lost
            if has_ledger:
                ledgers[region, L_LOST] += lost
            if corrected:
                break
            if act == RESTART:  # the guest starts again without the page
                s[GUEST_FAULTS] += FAULT_PARTS
                break
            s[GUEST_FAULTS] += guest.kept_faults if act == KEEP else guest.faults[lost_level]
            if fate[e] < guest.p_dies[lost_level]:
                rate = guest.kept_per_year if act == KEEP else guest.deaths_per_year[lost_level]
                wait = years_to_death(fate[e], guest.p_dies[lost_level], ar[e], np.int64(1) << shift[lost_level], rate)
                dies_at = min(dies_at, years[e] + wait)
            elif act == KEEP or (act == UNMAP and geometry[G_STAGE2_ONLY] == 1 and lost_level == base):
                wait = years_to_panic(fate[e] - guest.p_dies[base], guest.p_panics, guest.panics_per_year)
                dies_at = min(dies_at, years[e] + wait)
            break
    return acts, found_level, news, direct_map_pages, dies_at, vm_moved_at
