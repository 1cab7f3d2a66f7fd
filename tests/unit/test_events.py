"""What events are the first to hit, against plain code that looks through all earlier ones."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from poisonsim.engine.events import (
    ALONE_IN_GROUP,
    CORRECTED,
    FIRST_IN_CHUNK,
    FIRST_IN_GROUP,
    LEVEL_BITS,
    index_events,
)

GROUP = 9
"""log2 of base pages of a group of the direct map."""


def plain_flags(pages: list[int], corrected: list[int], shifts: list[int], chunk: int) -> list[int]:
    """Flags of the events of one trial."""
    flags = []
    for e, page in enumerate(pages):
        if corrected[e]:
            flags.append(CORRECTED | len(shifts))
            continue
        others = [p for k, p in enumerate(pages) if k != e and not corrected[k]]
        before = [p for k, p in enumerate(pages[:e]) if not corrected[k]]
        new = [all(p >> shift != page >> shift for p in before) for shift in shifts]
        flag = new.index(True) if True in new else len(shifts)
        flag |= FIRST_IN_CHUNK * all(p >> chunk != page >> chunk for p in before)
        flag |= FIRST_IN_GROUP * all(p >> GROUP != page >> GROUP for p in before)
        flags.append(flag | ALONE_IN_GROUP * all(p >> GROUP != page >> GROUP for p in others))
    return flags


@pytest.mark.parametrize("shifts", [[18, 9, 0], [18, 13, 9, 4, 0], [18, 0], [9, 0]])
@pytest.mark.parametrize("n_regions", [64, 1024])  # with few, poison alone in its region is not looked for
def test_flags_are_those_of_a_search_through_all_earlier_events(shifts: list[int], n_regions: int) -> None:
    rng = np.random.default_rng(n_regions + len(shifts))
    lengths = [1, 0, 2, 60, 100, 3]
    start = np.concatenate(([0], np.cumsum(lengths)))
    page: NDArray[np.int64] = rng.integers(n_regions << shifts[0], size=start[-1])
    again = rng.random(len(page)) < 0.4  # near another one, or the same page
    page[again] = page[rng.integers(len(page), size=again.sum())] ^ (rng.integers(3, size=again.sum()) << 3)
    corrected = (rng.random(len(page)) < 0.1).astype(np.uint8)
    flags = index_events(start, page, corrected, np.array(shifts), 18, GROUP, n_regions)
    for first, last in zip(start[:-1], start[1:], strict=True):
        right = plain_flags(page[first:last].tolist(), corrected[first:last].tolist(), shifts, 18)
        assert flags[first:last].tolist() == right
    levels = flags[corrected == 0] & LEVEL_BITS
    assert levels.min() == 0 and levels.max() == len(shifts)
