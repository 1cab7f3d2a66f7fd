"""Loads that wait for each other: the compiled loops that are timed. Loads Numba; import it late.

The clock is the thread's own, which stands still while another process has the core.
"""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from poisonsim.compiled import compiled

from .areas import Words

Offsets = npt.NDArray[np.uint64]

# A round of xorshift is six operations of one cycle, each of which waits for the one before.
_CYCLES_PER_ROUND = 6
_ROUNDS = 4_000_000
_SLICES = 12


@compiled
def follow(words, start, n_loads):
    """The word reached from `start` after so many loads, each of which gives the index of the next."""
    at = start
    for _ in range(n_loads):
        at = words[at]
    return at


@compiled
def load_each(words, offsets, zero):
    """Loads the words at `offsets` in turn, all of which hold 0; each address waits for the load before."""
    for k in range(offsets.size):
        zero = words[offsets[k] + zero]
    return zero


@compiled
def _xorshift(state, n_rounds):
    for _ in range(n_rounds):
        state ^= state << np.uint64(13)
        state ^= state >> np.uint64(7)
        state ^= state << np.uint64(17)
    return state


def link(words: Words, offsets: Offsets) -> None:
    """Writes a ring through the words at `offsets`: each gets the index of the next."""
    words[offsets] = np.roll(offsets, -1)


def unlink(words: Words, offsets: Offsets) -> None:
    """Takes the ring out again."""
    words[offsets] = 0


def time_ring(words: Words, offsets: Offsets, n_loads: int) -> float:
    """Nanoseconds per load of a linked ring; one whole turn first warms it up.

    Args:
        words: The memory.
        offsets: uint64[n], as linked.
        n_loads: How many loads are timed.
    """
    start = np.uint64(follow(words, offsets[0], offsets.size))  # Numba returns an int, which would be int64
    began = time.thread_time_ns()
    follow(words, start, n_loads)
    return (time.thread_time_ns() - began) / n_loads


def time_loads(words: Words, offsets: Offsets, n_warm: int) -> float:
    """Nanoseconds per load, the first `n_warm` loads left out: the lower quartile of slices.

    What else the machine does only ever adds time, and to some slices more than to others.

    Args:
        words: The memory, 0 at every offset.
        offsets: uint64[n], in the order of the loads.
        n_warm: Loads before the clock starts.
    """
    zero = np.uint64(load_each(words, offsets[:n_warm], np.uint64(0)))
    timed = offsets[n_warm:]
    slices = np.array_split(timed, min(_SLICES, timed.size))
    times = np.zeros(len(slices))
    for i, part in enumerate(slices):
        began = time.thread_time_ns()
        zero = np.uint64(load_each(words, part, zero))
        times[i] = (time.thread_time_ns() - began) / part.size
    return float(np.quantile(times, 0.25))


def clock_ghz() -> float:
    """Cycles per nanosecond of the core this runs on, from a chain of one-cycle operations; the best of five."""
    _xorshift(np.uint64(1), 10)
    best = np.inf
    for _ in range(5):
        began = time.thread_time_ns()
        _xorshift(np.uint64(88172645463325252), _ROUNDS)
        best = min(best, time.thread_time_ns() - began)
    return float(_ROUNDS * _CYCLES_PER_ROUND / best)
