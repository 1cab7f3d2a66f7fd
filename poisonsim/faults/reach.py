"""What a fault can reach, and which pages are hit where it strikes there."""

from __future__ import annotations

from typing import Any

import numpy as np

from poisonsim.compiled import compiled, inlined
from poisonsim.faults.draws import next_word
from poisonsim.faults.encoding import cell_of, encode_cell, undivided, unit_of

# columns of a fault's row: where in the host's memory it can reach; its mode; whether it spoils many lines at once
(F_SET, F_CONTROLLER, F_CHANNEL, F_RANK, F_RANKS, F_BANK, F_BANKS, F_ROW, F_ROWS, F_LINE, F_LINES, F_MODE,
 F_MANY) = range(13)  # fmt: skip
N_FAULT_COLUMNS = 13

_16 = np.uint64(16)


@inlined
def reach_of(row: Any, encoder: Any, set_pages: int) -> Any:
    """What a fault can reach, as `page_of` takes it.

    Args:
        row: int64[N_FAULT_COLUMNS], the fault.
        encoder: `AddressMap.encoder()`.
        set_pages: As for `find_lines`.

    Returns:
        First page of its interleave set; its first rank, and how many more; its first cell, and the bits of cells that
        vary; and from which of the random bits on ranks are chosen.
    """
    return (
        row[F_SET] * set_pages,
        unit_of(encoder, row[F_CONTROLLER], row[F_CHANNEL], row[F_RANK]),
        row[F_RANKS] - 1,
        cell_of(encoder, row[F_BANK], row[F_ROW], row[F_LINE]),
        cell_of(encoder, row[F_BANKS] - 1, row[F_ROWS] - 1, row[F_LINES] - 1),
        encoder[0][2],
    )


@inlined
def page_of(encoder: Any, reach: Any, word: Any, page_shift: int) -> Any:
    """Base page of one cache line of a fault's reach.

    Args:
        encoder: `AddressMap.encoder()`.
        reach: That of the fault, from `reach_of`.
        word: uint64, random; the highest bits count, more than the largest reach takes.
        page_shift: As for `find_lines`.
    """
    first_page, unit, ranks, cell, cells, rank_shift = reach
    where = np.int64(word >> _16)
    address = encode_cell(encoder, unit + ((where >> rank_shift) & ranks), cell + (where & cells))
    return first_page + (address >> page_shift)


@inlined
def scatter(page: Any, begin: int, end: int, encoder: Any, reach: Any, page_shift: int, state: Any) -> Any:
    """Puts base pages of random cache lines of a fault's reach into `page` from `begin` to `end`.

    Args:
        page: int64.
        encoder: `AddressMap.encoder()`.
        reach: That of the fault, from `reach_of`.
        page_shift: As for `find_lines`.
        state: For `next_word`.

    Returns:
        The state from then on.
    """
    first_page, unit, ranks, cell, cells, _ = reach
    _, parts, _, levels, digits, unhash = encoder
    few_bits = cells >> 27 == 0 and cells & cell == 0
    if ranks == 0 and few_bits and len(unhash) == 0 and (len(levels) == 0 or (len(levels) == 1 and levels[0, 2] < 0)):
        # nearly always: all but a few tables have the same to say of every line, and need to be asked once only
        fixed = undivided(encoder, unit, cell)
        shift, ways, digit, mask = np.int64(0), np.int64(1), np.int64(0), np.int64(0)
        if len(levels) == 1:
            shift, ways, digit, mask = levels[0, 0], levels[0, 1], digits[0, unit], levels[0, 3]
        for e in range(begin, end):
            word, state = next_word(state)
            where = np.int64(word >> _16) & cells
            a = fixed ^ parts[0, where & 511] ^ parts[1, (where >> 9) & 511] ^ parts[2, (where >> 18) & 511]
            address = (((a >> shift) * ways + digit) << shift) | (a & mask)
            page[np.uint64(e)] = first_page + (address >> page_shift)
    else:
        for e in range(begin, end):
            word, state = next_word(state)
            page[np.uint64(e)] = page_of(encoder, reach, word, page_shift)
    return state


@compiled
def draw_pages(owner: Any, faults: Any, encoder: Any, bits: Any, set_pages: int, page_shift: int) -> Any:
    """Base pages of random cache lines of faults: int64[n].

    Args:
        owner: int64[n], row of `faults`, for each line.
        faults: int64[n_faults, N_FAULT_COLUMNS].
        encoder, set_pages, page_shift: As for `find_lines`.
        bits: uint64[n], random.
    """
    page = np.empty(len(owner), np.int64)
    for i in range(len(owner)):
        reach = reach_of(faults[owner[i]], encoder, set_pages)
        page[i] = page_of(encoder, reach, bits[i], page_shift)
    return page
