"""Pages where faults strike, drawn many at a time, against one at a time."""

from __future__ import annotations

import numpy as np
import pytest

from poisonsim.faults.address_map import load_address_map
from poisonsim.faults.draws import next_word
from poisonsim.faults.geometry import load_dimm
from poisonsim.faults.host import HostMemory
from poisonsim.faults.reach import F_BANK, page_of, reach_of, scatter

LINES, ROWS, BANKS = (1, 1, 1, 128), (1, 1, 1 << 16, 128), (1, 8, 1 << 16, 128)
BOTH_RANKS = (2, 1, 1, 1)


@pytest.mark.parametrize(
    ("map_name", "dimm", "options"),
    [
        ("skx-closed-6ch", "ddr4-32g-2rx4", ""),  # six channels take turns: a digit in its place
        ("linear", "ddr4-16g-1rx4", ""),  # no digit
        ("skx-open-6ch", "ddr4-32g-2rx4", ":controllers=1,channels=2,ranks=4"),  # its digits just take some bits
    ],
)
@pytest.mark.parametrize("window", [LINES, ROWS, BANKS, BOTH_RANKS])
def test_pages_drawn_together_are_those_drawn_one_by_one(
    map_name: str, dimm: str, options: str, window: tuple[int, ...]
) -> None:
    amap = load_address_map(map_name + options, load_dimm(dimm))
    memory, encoder = HostMemory(amap, 2 * amap.n_bytes), amap.encoder()
    window = (min(window[0], amap.dimm.n_ranks), *window[1:])
    rng = np.random.default_rng(1)
    rows = memory.place(
        rng.integers(memory.n_lines, size=20), np.zeros(1, np.int64), np.array([window]), np.zeros(20, np.int64),
        np.zeros(20, np.bool_),
    )  # fmt: skip
    rows[0, F_BANK] |= 1  # a window that does not begin where its lower bits are 0
    for row in rows:
        reach = reach_of(row, encoder, amap.n_bytes >> 12)
        state = after = tuple(rng.integers(1 << 63, size=4, dtype=np.uint64))
        page = np.zeros(50, np.int64)
        one_by_one = np.zeros(50, np.int64)
        with np.errstate(over="ignore"):
            after = scatter(page, 5, 45, encoder, reach, 12, state)
            for e in range(5, 45):
                word, state = next_word(state)
                one_by_one[e] = page_of(encoder, reach, np.uint64(word), 12)
                state = tuple(np.uint64(part) for part in state)
        assert page.tolist() == one_by_one.tolist()
        assert tuple(np.uint64(part) for part in after) == state
