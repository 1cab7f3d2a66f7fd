"""The loop that follows the faults of each DIMM through time and finds those that the ECC scheme cannot correct."""

from __future__ import annotations

from typing import Any

import numpy as np

from poisonsim.compiled import compiled
from poisonsim.faults.boxes import BIT, ON_DIE_WORD_BITS, WORD
from poisonsim.faults.geometry import WORDS_PER_LINE

MODE, PERMANENT, WINDOWS = 0, 1, 2  # columns of `classes`
N_COLUMNS = 11  # of the events: DIMM, rank, mode, other, event, and the six of a box


@compiled
def find_uncorrected(
    start: Any,
    gaps: Any,
    klass: Any,
    place: Any,
    classes: Any,
    sizes: Any,
    alone: Any,
    same_word: bool,
    two_chips: bool,
    on_die: bool,
    horizon_hours: float,
    exponent: float,
    scrub_hours: float,
) -> Any:
    """Every uncorrected event, in order of DIMM and time.

    Args:
        start: int64[n_dimms + 1], where the faults of each DIMM begin.
        gaps: float64[n_faults + n_dimms], exponential; their partial sums are the times.
        klass: int64[n_faults], row of `classes`.
        place: int64[n_faults], one bit of the DIMM.
        classes: int64[n, 6]: mode, whether permanent, windows in ranks, banks, rows, lines.
        sizes: As from `dimm_sizes`.
        alone: bool[n_modes], modes that are uncorrected alone.
        same_word: Whether two bits of one word are uncorrected.
        two_chips: Whether two chips bad in the same line are uncorrected.
        on_die: Whether chips hide lone bit faults.
        horizon_hours: End of service.
        exponent: 1 / Weibull shape.
        scrub_hours: Time between scrub passes.

    Returns:
        int64[n, 11] and float64[n]: DIMM, rank, mode, other mode, event and box of each; its time in hours.
    """
    most = 0
    for d in range(len(start) - 1):
        most = max(most, start[d + 1] - start[d])
    # Faults that live and that the controller can correct alone; then bits that their chips hide.
    end, chip, bit, mode = np.empty(most), np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64)
    box = np.empty((most, 8), np.int64)
    hidden_end, hidden = np.empty(most), np.empty((most, 2), np.int64)  # on-die word of the DIMM, bit within it
    new, common = np.empty(8, np.int64), np.empty(8, np.int64)
    expected = 64
    for e in range(len(klass)):
        expected += alone[classes[klass[e], MODE]]
    events, when = np.empty((expected, N_COLUMNS), np.int64), np.empty(expected)
    n_rows = n_events = 0

    for d in range(len(start) - 1):
        first, last = start[d], start[d + 1]
        if last == first + 1:  # most DIMMs: nothing to overlap with
            only = classes[klass[first], MODE]
            if not alone[only] or (on_die and only == BIT):
                continue
        total = 0.0
        for e in range(first + d, last + d + 1):
            total += gaps[e]
        sofar = 0.0
        n_live = n_hidden = 0
        for e in range(first, last):
            sofar += gaps[e + d]
            u = sofar / total
            now = horizon_hours * (u if exponent == 1.0 else u**exponent)
            c = klass[e]
            new_mode = classes[c, MODE]
            new_end = np.inf if classes[c, PERMANENT] else (np.floor(now / scrub_hours) + 1.0) * scrub_hours
            new_chip, new_bit = unfold(place[e], classes[c, WINDOWS:], sizes, new)

            if on_die and new_mode == BIT:
                word, bit_in_word = place[e] // ON_DIE_WORD_BITS, place[e] % ON_DIE_WORD_BITS
                until = now
                for h in range(n_hidden):
                    if hidden[h, 0] == word and hidden[h, 1] != bit_in_word:
                        until = max(until, hidden_end[h])
                hidden_end[n_hidden], hidden[n_hidden, 0], hidden[n_hidden, 1] = new_end, word, bit_in_word
                n_hidden += 1
                if until <= now:
                    continue
                new_mode, new_end = WORD, min(new_end, until)
                lines = max(1, ON_DIE_WORD_BITS // sizes[5])
                new[6] = new[6] // lines * lines
                new[7] = lines

            if alone[new_mode]:
                events, when, n_rows = append(events, when, n_rows, new, d, new_mode, -1, n_events, now)
                n_events += 1
                continue
            kept = 0
            for f in range(n_live):
                if end[f] <= now:
                    continue
                if kept < f:
                    end[kept], chip[kept], bit[kept], mode[kept] = end[f], chip[f], bit[f], mode[f]
                    box[kept] = box[f]
                if two_chips:
                    defeats = chip[f] != new_chip
                else:
                    defeats = (
                        same_word
                        and bit[f] * WORDS_PER_LINE // sizes[5] == new_bit * WORDS_PER_LINE // sizes[5]
                        and not (chip[f] == new_chip and bit[f] == new_bit)
                    )
                if defeats and intersect(box[kept], new, common):
                    events, when, n_rows = append(events, when, n_rows, common, d, new_mode, mode[f], n_events, now)
                    n_events += 1
                kept += 1
            end[kept], chip[kept], bit[kept], mode[kept] = new_end, new_chip, new_bit, new_mode
            box[kept] = new
            n_live = kept + 1
    return events[:n_rows].copy(), when[:n_rows].copy()


@compiled
def append(events: Any, when: Any, n: int, box: Any, dimm: int, mode: int, other: int, event: int, now: float) -> Any:
    """Adds one row per rank of the box; gives back the arrays, larger where they were full, and the number of rows."""
    for rank in range(box[0], box[0] + box[1]):
        if n == len(when):
            more, later = np.empty((2 * n, N_COLUMNS), np.int64), np.empty(2 * n)
            more[:n], later[:n] = events, when
            events, when = more, later
        events[n, 0], events[n, 1], events[n, 2], events[n, 3], events[n, 4] = dimm, rank, mode, other, event
        events[n, 5:] = box[2:]
        when[n] = now
        n += 1
    return events, when, n


@compiled
def unfold(place: int, windows: Any, sizes: Any, box: Any) -> Any:
    """The box round a place: writes rank, bank, row and line windows as (low, n) into `box`, int64[8].

    Args:
        place: One bit of the DIMM, of ranks x chips x banks x rows x lines x bits, the last running fastest.
        windows: int64[4], extent in ranks, banks, rows, lines.
        sizes: As from `dimm_sizes`.
        box: Written to.

    Returns:
        The chip position in the rank, and the bit within the chip's part of the line.
    """
    bit = place % sizes[5]
    place //= sizes[5]
    for axis in (3, 2, 1):
        at = place % sizes[axis + 1]
        place //= sizes[axis + 1]
        box[2 * axis] = at // windows[axis] * windows[axis]
        box[2 * axis + 1] = windows[axis]
    box[0] = place // sizes[1] // windows[0] * windows[0]
    box[1] = windows[0]
    return place % sizes[1], bit


@compiled
def intersect(a: Any, b: Any, out: Any) -> Any:
    """Whether two boxes, int64[8] each, share any line; if so, `out` becomes what they share."""
    for axis in range(4):
        low = max(a[2 * axis], b[2 * axis])
        n = min(a[2 * axis] + a[2 * axis + 1], b[2 * axis] + b[2 * axis + 1]) - low
        if n <= 0:
            return False
        out[2 * axis] = low
        out[2 * axis + 1] = n
    return True
