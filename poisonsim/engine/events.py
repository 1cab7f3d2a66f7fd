"""What can be said of a history before any policy sees it: grid points, ages, and what is hit for the first time."""

from __future__ import annotations

import numpy as np

from poisonsim.compiled import compiled
from poisonsim.engine.hashing import bits_for, claim, longest_run, slot_of

# flags of an event: the first poison of its base page, region, and chunk and group of the direct map; and whether it
# is the only error of its trial in that group; or that it is no error, but corrected ones that passed a threshold
FIRST_IN_PAGE, FIRST_IN_REGION, FIRST_IN_CHUNK, FIRST_IN_GROUP, ALONE_IN_GROUP, CORRECTED = 1, 2, 4, 8, 16, 32

# kinds of keys beside the leaf levels, which use 0 to 7
KEY_CHUNK, KEY_GROUP = 8, 9


@compiled
def grid_and_day(years, steps_per_year, days_per_year):
    """First grid point at or after each event, and its whole days of age: int32[n_events] each."""
    grid = np.empty(len(years), np.int32)
    day = np.empty(len(years), np.int32)
    for e in range(len(years)):
        grid[e] = np.ceil(years[e] * steps_per_year)
        day[e] = years[e] * days_per_year
    return grid, day


@compiled
def index_events(start, page, corrected, region_shift, chunk_shift, group_shift, n_regions):
    """Flags uint8[n_events] of what each event is the first of its trial to hit.

    Shifts are log2 of base pages per region, per chunk (1 GiB) and per group (2 MiB) of the direct map.
    """
    longest = longest_run(start)
    size = 1 << bits_for(2 * longest)
    keys = np.empty(size, np.int64)
    stamps = np.full(size, -1, np.int32)
    latest = np.empty(size, np.int32)  # last new base page of a group, as an event of this trial
    previous = np.empty(longest, np.int32)  # the new base page of the same group before that
    region_stamp = np.full(n_regions, -1, np.int32)
    flags = np.empty(len(page), np.uint8)
    for t in range(len(start) - 1):
        first = start[t]
        mask = (np.int64(1) << bits_for(2 * (start[t + 1] - first))) - 1
        for e in range(first, start[t + 1]):
            if corrected[e]:
                flags[e] = CORRECTED
                continue
            here = page[e]
            key = ((here >> group_shift) << 4) | KEY_GROUP
            i = slot_of(keys, stamps, mask, key, t)
            if stamps[i] == t:
                flag = FIRST_IN_PAGE
                other = latest[i]
                flags[first + other] &= 0xFF ^ ALONE_IN_GROUP
                while other >= 0:
                    if page[first + other] == here:
                        flag = 0
                        break
                    other = previous[other]
            else:
                keys[i] = key
                stamps[i] = t
                latest[i] = -1
                flag = FIRST_IN_PAGE | FIRST_IN_GROUP | ALONE_IN_GROUP
                if chunk_shift != region_shift and claim(
                    keys, stamps, mask, ((here >> chunk_shift) << 4) | KEY_CHUNK, t
                ):
                    flag |= FIRST_IN_CHUNK
            if flag & FIRST_IN_PAGE:
                previous[e - first] = latest[i]
                latest[i] = e - first
                if region_stamp[here >> region_shift] != t:
                    region_stamp[here >> region_shift] = t
                    flag |= FIRST_IN_REGION
                    if chunk_shift == region_shift:
                        flag |= FIRST_IN_CHUNK
            flags[e] = flag
    return flags
