"""Growth: how a fault's bad cache lines appear, are found, and strike again; the kernel that draws poisoned pages.

A fault makes some lines of its reach bad at once (few as a rule, sometimes many), and where the part stays in service
does so again and again, after Weibull-distributed waits. Only as many cells are drawn as go bad, never the whole reach.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from poisonsim.compiled import compiled, inlined
from poisonsim.faults.address_map import encode_cell
from poisonsim.faults.detection import PER_UNIT, Detection
from poisonsim.faults.laws import Laws
from poisonsim.faults.tables import MODES

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

# columns of a fault's row: where in the host's memory it can reach; its mode; whether it spoils many lines at once
(F_SET, F_CONTROLLER, F_CHANNEL, F_RANK, F_RANKS, F_BANK, F_BANKS, F_ROW, F_ROWS, F_LINE, F_LINES, F_MODE,
 F_MANY) = range(13)  # fmt: skip
N_FAULT_COLUMNS = 13

_MOST_STRIKES = 10_000
"""No part strikes more often than this in one life; a law that would is cut off there."""


class GrowthLaw(NamedTuple):
    """The laws as the kernel takes them.

    Attributes:
        log_few: float64[n_modes], log(1 - 1 / mean of the few); -inf where it is always one line.
        p_many, log_low, log_ratio: float64[n_modes], probability of many lines, log of their range's low end and
            of high / low.
        repeat_shape, repeat_scale_years: Weibull law of the wait for the next strike.
        found_years, found_ar: As `Detection.tables`.
    """

    log_few: F64
    p_many: F64
    log_low: F64
    log_ratio: F64
    repeat_shape: float
    repeat_scale_years: float
    found_years: F64
    found_ar: F64

    @classmethod
    def of(cls, laws: Laws, detection: Detection) -> GrowthLaw:
        """The arrays of these laws, modes in the order of `MODES`."""
        lines = [laws.lines[mode] for mode in MODES]
        found_years, found_ar = detection.tables
        with np.errstate(divide="ignore"):
            return cls(
                np.log1p(-1 / np.array([law.small_mean for law in lines])),
                np.array([law.large_share for law in lines]),
                np.log([law.large_low for law in lines]),
                np.log([(law.large_high + 1) / law.large_low for law in lines]),
                laws.repeat_shape,
                laws.repeat_scale_years,
                found_years,
                found_ar,
            )


@inlined
def reach_of(row: Any, set_pages: int) -> Any:
    """What a fault can reach, as `page_of` takes it: its interleave set's first page, and of each part of a place.

    Args:
        row: int64[N_FAULT_COLUMNS], the fault.
        set_pages: As for `find_lines`.
    """
    row_shift = log2_of(row[F_LINES])
    bank_shift = row_shift + log2_of(row[F_ROWS])
    rank_shift = bank_shift + log2_of(row[F_BANKS])
    return (
        row[F_SET] * set_pages, row[F_CONTROLLER], row[F_CHANNEL], row[F_RANK], rank_shift, row[F_RANKS] - 1,
        row[F_BANK], bank_shift, row[F_BANKS] - 1, row[F_ROW], row_shift, row[F_ROWS] - 1, row[F_LINE],
        row[F_LINES] - 1,
    )  # fmt: skip


@inlined
def page_of(encoder: Any, reach: Any, where: int, page_shift: int) -> Any:
    """Base page of one cache line of a fault's reach.

    Args:
        encoder: `AddressMap.encoder()`.
        reach: That of the fault, from `reach_of`.
        where: Random bits, lowest first: line, row, bank, rank.
        page_shift: As for `find_lines`.
    """
    (first_page, controller, channel, rank, rank_shift, rank_mask, bank, bank_shift, bank_mask, row, row_shift,
     row_mask, line, line_mask) = reach  # fmt: skip
    address = encode_cell(
        encoder, controller, channel,
        rank + ((where >> rank_shift) & rank_mask),
        bank + ((where >> bank_shift) & bank_mask),
        row + ((where >> row_shift) & row_mask),
        line + (where & line_mask),
    )  # fmt: skip
    return first_page + (address >> page_shift)


@inlined
def found_after(unfound: float, found_years: Any) -> Any:
    """Years until the share exp(-`unfound`) of a strike's lines is left to find, by the table of `GrowthLaw`."""
    entry = np.int64(min(unfound * PER_UNIT, len(found_years) - 2))
    part = min(unfound * PER_UNIT - entry, 1.0)
    return found_years[entry] + part * (found_years[entry + 1] - found_years[entry])


class Strikes(NamedTuple):
    """When faults make lines bad, and how many.

    Attributes:
        first: int64[n_faults + 1], first strike of each fault.
        years: float64[n_strikes].
        n_lines: int64[n_strikes].
        unfound: float64[n_strikes], for the line of each strike that is found first, as `found_after` takes it.
        until: float64[n_faults], years at which the part leaves service; infinite where it stays in.
    """

    first: I64
    years: F64
    n_lines: I64
    unfound: F64
    until: F64


@compiled
def draw_strikes(rng: Any, years: Any, faults: Any, law: Any, repair_years: float, horizon_years: float) -> Any:
    """When each fault makes lines bad, and how many: the fields of `Strikes`.

    Many at once only in its first strike; and never more in one strike than its reach has. A part is replaced some
    time after the first of its lines is found, whoever's memory that is.

    Args:
        rng: Generator of the block's growth stream.
        years: float64[n_faults], when each first strikes.
        faults: int64[n_faults, N_FAULT_COLUMNS], what each can reach.
        law: A `GrowthLaw`.
        repair_years: From the first line found to the part's replacement, infinite where parts stay in.
        horizon_years: End of the simulated life.
    """
    first = np.zeros(len(years) + 1, np.int64)
    until = np.full(len(years), np.inf)
    log_few, log_low, log_ratio, found_years = law.log_few, law.log_low, law.log_ratio, law.found_years
    exponent, scale_years = 1 / law.repeat_shape, law.repeat_scale_years
    room = 2 * len(years) + 16
    when = np.empty(room, np.float64)
    n_lines = np.empty(room, np.int64)
    unfound = np.empty(room, np.float64)
    n = 0
    for f in range(len(years)):
        mode = faults[f, F_MODE]
        reach = faults[f, F_RANKS] * faults[f, F_BANKS] * faults[f, F_ROWS] * faults[f, F_LINES]
        strike = years[f]
        for i in range(_MOST_STRIKES):
            if i == 0 and faults[f, F_MANY]:
                lines = np.int64(np.exp(log_low[mode] + rng.random() * log_ratio[mode]))
            elif log_few[mode] > -np.inf:
                lines = 1 + np.int64(rng.standard_exponential() / -log_few[mode])
            else:
                lines = np.int64(1)
            if n == len(when):
                when = np.append(when, np.empty(n, np.float64))
                n_lines = np.append(n_lines, np.empty(n, np.int64))
                unfound = np.append(unfound, np.empty(n, np.float64))
            when[n] = strike
            n_lines[n] = min(lines, reach)
            unfound[n] = rng.standard_exponential() / n_lines[n]
            until[f] = min(until[f], strike + found_after(unfound[n], found_years) + repair_years)
            n += 1
            strike += scale_years * rng.standard_exponential() ** exponent
            if strike > until[f] or strike > horizon_years:
                break
        first[f + 1] = n
    return first, when[:n].copy(), n_lines[:n].copy(), unfound[:n].copy(), until


@compiled
def find_lines(
    start: Any, began: Any, strikes: Any, faults: Any, law: Any, encoder: Any,
    waits: Any, bits: Any, set_pages: int, vm_pages: int, page_shift: int, horizon_years: float,
) -> Any:  # fmt: skip
    """The errors that strikes give: which pages of the VM, when found, and how.

    Args:
        start: int64[n_trials + 1], first fault of each trial.
        began: float64[n_faults], when each first struck.
        strikes: A `Strikes`; what is not found when the part leaves service goes with it.
        faults: int64[n_faults, N_FAULT_COLUMNS].
        law: A `GrowthLaw`.
        encoder: `AddressMap.encoder()`.
        waits: float64[n_lines - n_strikes], standard exponential, for all lines of a strike but the first found.
        bits: uint64[n_lines], random: the lowest say where the line is, the highest how it is found.
        set_pages: Base pages of one interleave set; sets follow each other in the VM's memory.
        vm_pages: Base pages of the VM; what lies beyond belongs to others.
        page_shift: log2 of the bytes of a base page.
        horizon_years: End of the simulated life.

    Returns:
        event_start int64[n_trials + 1]; page int64, years float64, born float64, ar uint8, mode uint8 [n_events], in
        time order within each trial.
    """
    last_entry = len(law.found_years) - 2
    found = np.empty((last_entry + 1, 4))  # side by side, so that one look brings all: years, AR, and by how much each
    for i in range(last_entry + 1):  # differs from the next entry's
        found[i, 0], found[i, 1] = law.found_years[i], law.found_years[i + 1] - law.found_years[i]
        found[i, 2], found[i, 3] = law.found_ar[i], law.found_ar[i + 1] - law.found_ar[i]
    event_start = np.zeros(len(start), np.int64)
    first, strike_years, n_lines, first_unfound, until = strikes
    page = np.empty(len(bits), np.int64)
    when = np.empty(len(bits), np.float64)
    born = np.empty(len(bits), np.float64)
    ar = np.empty(len(bits), np.uint8)
    mode_of = np.empty(len(bits), np.uint8)
    n = 0
    drawn = 0
    waited = 0
    for t in range(len(start) - 1):
        begin = n
        for f in range(start[t], start[t + 1]):
            row = faults[f]
            mode = np.uint8(row[F_MODE])
            reach = reach_of(row, set_pages)
            last_moment, since = min(until[f], horizon_years), began[f]
            for k in range(first[f], first[f + 1]):
                strike, run = strike_years[k], n
                unfound = first_unfound[k]  # -log of the share of this strike's lines that is not yet found
                for left in range(n_lines[k], 0, -1):
                    if left < n_lines[k]:
                        unfound += waits[waited] / left  # so the times come out in order
                        waited += 1
                    where = np.int64(bits[drawn] & np.uint64(0xFFFFFFFFFFFF))
                    chance = np.int64(bits[drawn] >> np.uint64(48))
                    drawn += 1
                    entry = np.int64(min(unfound * PER_UNIT, last_entry))
                    part = min(unfound * PER_UNIT - entry, 1.0)
                    moment = strike + found[entry, 0] + part * found[entry, 1]
                    here = page_of(encoder, reach, where, page_shift)
                    page[n] = here  # given up again by the next one, if it does not count
                    when[n] = moment
                    born[n] = since
                    ar[n] = chance < 65536 * (found[entry, 2] + part * found[entry, 3])
                    mode_of[n] = mode
                    n += (here < vm_pages) & (moment <= last_moment)
                if begin < run < n and when[run] < when[run - 1]:  # strikes overlap
                    merge(begin, run, n, when, page, born, ar, mode_of)
        event_start[t + 1] = n
    return event_start, page[:n], when[:n], born[:n], ar[:n], mode_of[:n]


@compiled
def merge(begin: int, run: int, end: int, when: Any, page: Any, born: Any, ar: Any, mode_of: Any) -> None:
    """Puts the events from `run` to `end` among those from `begin` on, in place; both ascend in time.

    Of the same time, the earlier ones stay first.
    """
    late = when[run:end].copy(), page[run:end].copy(), born[run:end].copy(), ar[run:end].copy(), mode_of[run:end].copy()
    i, j = run - 1, end - run - 1
    for k in range(end - 1, begin - 1, -1):
        if j < 0:
            break
        if i >= begin and when[i] > late[0][j]:
            when[k], page[k], born[k], ar[k], mode_of[k] = when[i], page[i], born[i], ar[i], mode_of[i]
            i -= 1
        else:
            when[k], page[k], born[k], ar[k], mode_of[k] = late[0][j], late[1][j], late[2][j], late[3][j], late[4][j]
            j -= 1


@compiled
def log2_of(n: int) -> int:
    """log2 of a power of two."""
    bits = 0
    while (1 << bits) < n:
        bits += 1
    return bits


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
        reach = reach_of(faults[owner[i]], set_pages)
        where = np.int64(bits[i] & np.uint64(0xFFFFFFFFFFFF))
        page[i] = page_of(encoder, reach, where, page_shift)
    return page
