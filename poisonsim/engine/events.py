"""What can be said of a history before any policy sees it: grid points, ages, and what is hit for the first time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from poisonsim.compiled import bare, compiled
from poisonsim.engine.hashing import bits_for, claim, slot_of

I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

# Flags of an event. The lowest bits are the level of the largest leaf, of all that the ladder has, in which no earlier
# poison of its trial lies; as many as there are levels where its very page is poisoned already. Further, whether it is
# the first in its chunk and group of the direct map; whether it is the only error of its trial in that group; or that
# it is no error, but corrected ones that passed a threshold.
LEVEL_BITS, FIRST_IN_CHUNK, FIRST_IN_GROUP, ALONE_IN_GROUP, CORRECTED = 7, 8, 16, 32, 64
N_FLAGS = 128

# kinds of keys beside the leaf levels, which use 0 to 6
KEY_CHUNK, KEY_GROUP = 8, 9

_PER_GROUP = 4  # room for keys of groups, per event: a table so empty that hardly any search goes on to the next slot


@compiled
def grid_and_day(years, steps_per_year, days_per_year):
    """First grid point at or after each event, and its whole days of age: int32[n_events] each."""
    grid = np.empty(len(years), np.int32)
    day = np.empty(len(years), np.int32)
    for e in range(len(years)):
        grid[e] = np.ceil(years[e] * steps_per_year)
        day[e] = years[e] * days_per_year
    return grid, day


def index_events(
    start: I64, page: I64, corrected: U8, shift: I64, chunk_shift: int, group_shift: int, n_regions: int
) -> U8:
    """Flags uint8[n_events] of what each event is the first of its trial to hit.

    Args:
        start: int64[n_trials + 1], first event of each trial.
        page, corrected: int64, uint8 [n_events].
        shift: int64[n_levels], log2 of base pages per leaf.
        chunk_shift, group_shift: The same of a chunk (1 GiB) and a group (2 MiB) of the direct map.
        n_regions: Regions of the VM.

    Examples:
        >>> of_pages = np.array([0, 1, 512, 1, 1 << 18])
        >>> shift = np.array([18, 9, 0])
        >>> flags = index_events(np.array([0, 5]), of_pages, np.zeros(5, np.uint8), shift, 18, 9, 2)
        >>> (flags & LEVEL_BITS).tolist()  # the fourth page is poisoned already
        [0, 2, 1, 3, 0]
    """
    between = np.arange(1, len(shift) - 1)
    others = between[shift[1:-1] != group_shift]
    longest = max(int(np.diff(start).max(initial=1)), 1)
    keys_per_event = _PER_GROUP + int(chunk_shift != shift[0]) + len(others)
    size = 1 << bits_for(keys_per_event * longest)
    table = (np.empty(size, np.int64), np.full(size, -1, np.int32), np.empty(size, np.int32))
    previous, regions = np.empty(longest, np.int32), np.full((2, n_regions), -1, np.int32)
    flags = np.empty(len(page), np.uint8)
    _fill_in(
        start, page, corrected, shift, chunk_shift, group_shift, others if len(others) else None, table, previous,
        regions, flags,
    )  # fmt: skip
    return flags


@bare
def _fill_in(
    start, page, corrected, shift, chunk_shift, group_shift, others, table, previous, regions, flags
):  # fmt: skip
    """Fills in `flags`.

    Args:
        others: int64[n], levels between region and base page whose leaves are no groups; None where there are none.
        table: Keys and stamps of a table; and of a group its last new base page, as an event of this trial.
        previous: int32[longest trial], the new base page of the same group before that.
        regions: int32[2, n_regions], all -1: twice the last trial that hits a region, and 1 more if it does so again;
            and that trial, once the first of its poisons there has its flags.
    """
    keys, stamps, latest = table
    hit, region_stamp = regions[0], regions[1]
    base, region_shift, chunks_apart = len(shift) - 1, shift[0], chunk_shift != shift[0]
    group_level = base  # leaves of the size of a group, if there are any
    for level in range(1, base):
        if shift[level] == group_shift:
            group_level = level
    keys_per_event = _PER_GROUP + np.int64(chunks_apart)
    if others is not None:
        keys_per_event += len(others)
    n_regions = len(hit)
    region_mask = (np.int64(1) << bits_for(n_regions)) - 1  # changes nothing, but says that no region is below 0
    # poison alone in its region is so in its group; where regions are many, that is worth asking first
    asks_regions = not chunks_apart and group_shift <= region_shift
    alone = np.uint8(FIRST_IN_GROUP | ALONE_IN_GROUP | FIRST_IN_CHUNK)
    for t in range(len(start) - 1):
        first, last = start[t], start[t + 1]
        if last - first == 1 and not corrected[first]:  # nothing needs to be looked up
            flags[first] = alone
            continue
        once = np.int32(2 * t)
        few = asks_regions and 8 * (last - first) <= n_regions
        if few:
            for e in range(first, last):
                region = np.uint64((page[np.uint64(e)] >> region_shift) & region_mask)
                hit[region] = once + np.int32(hit[region] >= once)
        mask = (np.int64(1) << bits_for(keys_per_event * (last - first))) - 1
        for e in range(first, last):
            u = np.uint64(e)  # unsigned, so that nothing asks whether it counts from the end
            if corrected[u]:
                flags[u] = CORRECTED | (base + 1)
                continue
            here = page[u]
            region = np.uint64((here >> region_shift) & region_mask)
            if few and hit[region] == once:  # nor here
                flags[u] = alone
                continue
            key = ((here >> group_shift) << 4) | KEY_GROUP
            i = slot_of(keys, stamps, mask, key, t)
            flag = 0
            is_new = True
            if stamps[i] == t:
                level = base
                other = np.int64(latest[i])
                flags[np.uint64(first + other)] &= 0xFF ^ ALONE_IN_GROUP
                while other >= 0:
                    if page[np.uint64(first + other)] == here:
                        is_new = False
                        level = base + 1
                        break
                    other = np.int64(previous[np.uint64(other)])
            else:
                keys[i] = key
                stamps[i] = t
                latest[i] = -1
                flag = FIRST_IN_GROUP | ALONE_IN_GROUP
                level = group_level
                if chunks_apart and claim(keys, stamps, mask, ((here >> chunk_shift) << 4) | KEY_CHUNK, t):
                    flag |= FIRST_IN_CHUNK
            if is_new:
                previous[np.uint64(e - first)] = latest[i]
                latest[i] = e - first
                if others is not None:
                    for above in others:
                        if claim(keys, stamps, mask, ((here >> shift[above]) << 4) | above, t):
                            level = min(level, above)
                hit_before = np.int64(region_stamp[region] == t)  # by arithmetic, because nobody can foresee it
                region_stamp[region] = t
                level *= hit_before
                if not chunks_apart:
                    flag |= FIRST_IN_CHUNK * (1 - hit_before)
            flags[u] = flag | level
