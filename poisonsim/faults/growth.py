"""Growth: how a fault's bad cache lines appear, are found, and strike again; the kernel that draws poisoned pages.

A fault makes some lines of its reach bad at once (few as a rule, sometimes many), and where the part stays in service
does so again and again, after Weibull-distributed waits. Only as many cells are drawn as go bad, never the whole reach.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from poisonsim.compiled import bare, compiled, inlined
from poisonsim.faults.detection import PER_UNIT, Detection
from poisonsim.faults.draws import exponential, next_word, seed_state, uniform, wrapping
from poisonsim.faults.laws import Laws
from poisonsim.faults.reach import F_BANKS, F_LINES, F_MANY, F_MODE, F_RANKS, F_ROWS, F_SET, reach_of, scatter
from poisonsim.faults.tables import MODES

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

_16, _LOW_16 = np.uint64(16), np.uint64(0xFFFF)

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


@wrapping
def draw_strikes(
    rng: np.random.Generator, years: F64, faults: I64, law: GrowthLaw, repair_years: float, horizon_years: float
) -> Strikes:
    """When each fault makes lines bad, and how many.

    Many at once only in its first strike; and never more in one strike than its reach has. A part is replaced some
    time after the first of its lines is found, whoever's memory that is.

    Args:
        rng: Of the block's growth.
        years: float64[n_faults], when each first strikes.
        faults: int64[n_faults, N_FAULT_COLUMNS], what each can reach.
        law: The laws.
        repair_years: From the first line found to the part's replacement, infinite where parts stay in.
        horizon_years: End of the simulated life.
    """
    return Strikes(*_draw_strikes(seed_state(rng), years, faults, law, repair_years, horizon_years))


@compiled
def _draw_strikes(state: Any, years: Any, faults: Any, law: Any, repair_years: float, horizon_years: float) -> Any:
    first = np.zeros(len(years) + 1, np.int64)
    until = np.full(len(years), np.inf)
    log_few, log_low, log_ratio, found_years = law.log_few, law.log_low, law.log_ratio, law.found_years
    exponent, scale_years = 1 / law.repeat_shape, law.repeat_scale_years
    # waits beyond this end with the part's service or the horizon, and need not be worked out
    longest = (min(found_years[-1] + repair_years, horizon_years) / scale_years) ** law.repeat_shape * (1 + 1e-9)
    room = 2 * len(years) + 16
    when = np.empty(room, np.float64)
    n_lines = np.empty(room, np.int64)
    unfound = np.empty(room, np.float64)
    n = 0
    s = (state[0], state[1], state[2], state[3])
    for f in range(len(years)):
        mode = faults[f, F_MODE]
        reach = faults[f, F_RANKS] * faults[f, F_BANKS] * faults[f, F_ROWS] * faults[f, F_LINES]
        strike, end = years[f], np.inf
        for i in range(_MOST_STRIKES):
            lines = np.int64(1)
            if i == 0 and faults[f, F_MANY]:
                word, s = next_word(s)
                lines = np.int64(np.exp(log_low[mode] + uniform(word) * log_ratio[mode]))
            elif log_few[mode] > -np.inf:
                x, s = exponential(s)
                lines += np.int64(x / -log_few[mode])
            if n == len(when):
                when = np.append(when, np.empty(n, np.float64))
                n_lines = np.append(n_lines, np.empty(n, np.int64))
                unfound = np.append(unfound, np.empty(n, np.float64))
            when[n] = strike
            n_lines[n] = min(lines, reach)
            x, s = exponential(s)
            unfound[n] = x / n_lines[n]
            end = min(end, strike + found_after(unfound[n], found_years) + repair_years)
            n += 1
            x, s = exponential(s)
            if x > longest:
                break
            strike += scale_years * x**exponent
            if strike > end or strike > horizon_years:
                break
        until[f] = end
        first[f + 1] = n
    return first, when[:n].copy(), n_lines[:n].copy(), unfound[:n].copy(), until


class Events(NamedTuple):
    """Errors of the VM, in time order within each trial.

    Attributes:
        start: int64[n_trials + 1], first of each trial.
        page: int64[n], base page.
        years: float64[n], when it is found.
        born: float64[n], when the fault behind it began.
        fate: float64[n], what the guest makes of it; see `History`.
        ar: uint8[n], 1 where a read found it.
        mode: uint8[n], mode of the fault, by its place in `MODES`.
    """

    start: I64
    page: I64
    years: F64
    born: F64
    fate: F64
    ar: U8
    mode: U8


@wrapping
def find_lines(
    rng: np.random.Generator, start: I64, began: F64, strikes: Strikes, faults: I64, law: GrowthLaw,
    encoder: tuple[I64, ...], set_pages: int, vm_pages: int, page_shift: int, horizon_years: float,
) -> Events:  # fmt: skip
    """The errors that strikes give: which pages of the VM, when found, and how.

    Args:
        rng: Of the block's growth.
        start: int64[n_trials + 1], first fault of each trial.
        began: float64[n_faults], when each first struck.
        strikes: What is not found when the part leaves service goes with it.
        faults: int64[n_faults, N_FAULT_COLUMNS].
        law: The laws.
        encoder: `AddressMap.encoder()`.
        set_pages: Base pages of one interleave set; sets follow each other in the VM's memory.
        vm_pages: Base pages of the VM; what lies beyond belongs to others.
        page_shift: log2 of the bytes of a base page.
        horizon_years: End of the simulated life.
    """
    # side by side, so that one look brings all: years, AR, and by how much each differs from the next entry's
    years, ar = law.found_years, law.found_ar
    found = np.stack((years[:-1], np.diff(years), ar[:-1], np.diff(ar)), axis=1)
    columns, room = room_for(int(strikes.n_lines.sum())), room_for(int(strikes.n_lines.max(initial=0)))
    event_start = np.zeros(len(start), np.int64)
    _find_lines(
        seed_state(rng), start, began, strikes, faults, found, encoder, set_pages, vm_pages, page_shift, horizon_years,
        columns, room, event_start,
    )  # fmt: skip
    when, page, born, fate, read, mode = columns
    n = event_start[-1]
    return Events(event_start, page[:n], when[:n], born[:n], fate[:n], read[:n], mode[:n])


def room_for(n: int) -> tuple[F64, I64, F64, F64, U8, U8]:
    """Columns of so many events, as `merge` takes them."""
    years, born, fate = np.empty((3, n))
    ar, mode = np.empty((2, n), np.uint8)
    return years, np.empty(n, np.int64), born, fate, ar, mode


@bare
def _find_lines(
    state: Any, start: Any, began: Any, strikes: Any, faults: Any, found: Any, encoder: Any, set_pages: int,
    vm_pages: int, page_shift: int, horizon_years: float, columns: Any, room: Any, event_start: Any,
) -> None:  # fmt: skip
    last_entry = len(found) - 1
    when, page, born, fate, ar, mode_of = columns
    s = (state[0], state[1], state[2], state[3])
    n = 0
    for t in range(len(start) - 1):
        begin = n
        for f in range(start[t], start[t + 1]):
            row = faults[f]
            reach = reach_of(row, encoder, set_pages)
            last_moment, began_years, mode = min(strikes.until[f], horizon_years), began[f], row[F_MODE]
            for k in range(strikes.first[f], strikes.first[f + 1]):
                strike, run = strikes.years[k], n
                unfound = strikes.unfound[k]  # -log of the share of this strike's lines that is not yet found
                for left in range(strikes.n_lines[k] - 1, -1, -1):
                    at = unfound * PER_UNIT
                    whole = np.int64(min(at, last_entry))
                    part, entry = min(at - whole, 1.0), np.uint64(whole)
                    moment = strike + found[entry, 0] + part * found[entry, 1]
                    if moment > last_moment:
                        break  # and so are all later ones
                    word, s = next_word(s)
                    i = np.uint64(n)
                    when[i] = moment
                    ar[i] = np.int64(word & _LOW_16) < 65536 * (found[entry, 2] + part * found[entry, 3])
                    fate[i] = np.int64(word >> _16) * 2.0**-48
                    n += 1
                    if left > 0:
                        wait, s = exponential(s)
                        unfound += wait / left  # so the times come out in order
                s = scatter(page, run, n, encoder, reach, page_shift, s)
                for e in range(run, n):
                    i = np.uint64(e)
                    born[i] = began_years
                    mode_of[i] = mode
                if (row[F_SET] + 1) * set_pages > vm_pages:  # some of it belongs to others
                    end, n = n, run
                    for e in range(run, end):
                        page[n], when[n], fate[n], ar[n] = page[e], when[e], fate[e], ar[e]
                        n += page[e] < vm_pages
                if begin < run < n and when[run] < when[run - 1]:  # strikes overlap
                    merge(begin, run, n, columns, room)
        event_start[t + 1] = n


@inlined
def move_event(columns: Any, k: int, others: Any, i: int) -> None:
    """Puts event `i` of `others` in the place of event `k`; both as `merge` takes them."""
    when, page, born, fate, ar, mode = columns
    when[k], page[k], born[k] = others[0][i], others[1][i], others[2][i]
    fate[k], ar[k], mode[k] = others[3][i], others[4][i], others[5][i]


@bare
def merge(begin: int, run: int, end: int, columns: Any, room: Any) -> None:
    """Puts the events from `run` to `end` among those from `begin` on, in place; both ascend in time.

    Of the same time, the earlier ones stay first.

    Args:
        columns: Years, pages, births, fates, AR, modes.
        room: The same, for `end` - `run` events.
    """
    when = columns[0]
    for e in range(run, end):
        move_event(room, e - run, columns, e)
    i, j = run - 1, end - run - 1
    for k in range(end - 1, begin - 1, -1):
        if j < 0:
            break
        if i >= begin and when[i] > room[0][j]:
            move_event(columns, k, columns, i)
            i -= 1
        else:
            move_event(columns, k, room, j)
            j -= 1
