"""What is timed: orders of loads over mapped memory, and who times them."""

from __future__ import annotations

import ctypes
from typing import Protocol

import numpy as np
import numpy.typing as npt

from poisonsim.units import page_bytes

from .areas import WORD_BYTES, Area, Words

Offsets = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

PAGE_WORDS = page_bytes("4K") // WORD_BYTES
_LINE_WORDS = 64 // WORD_BYTES
_LINES = PAGE_WORDS // _LINE_WORDS


class Timer(Protocol):
    """Times loads; the real one runs compiled loops, tests bring one that computes what a machine would take."""

    def ring(self, words: Words, offsets: Offsets, n_loads: int) -> float:
        """Nanoseconds per load, going round the words at `offsets` until `n_loads` are done."""
        ...

    def loads(self, words: Words, offsets: Offsets, n_warm: int) -> float:
        """Nanoseconds per load of those after the first `n_warm`, each waiting for the one before."""
        ...

    def ghz(self) -> float:
        """Cycles per nanosecond."""
        ...


class MachineTimer:
    """Times loads on this machine; compiles its loops when it is made."""

    def __init__(self) -> None:
        from . import chase

        self._chase = chase
        words, offsets = np.zeros(8, np.uint64), np.zeros(2, np.uint64)
        chase.time_ring(words, offsets, 2)
        chase.time_loads(words, offsets, 1)

    def ring(self, words: Words, offsets: Offsets, n_loads: int) -> float:
        """Nanoseconds per load of a ring through the words, which are 0 again afterwards."""
        self._chase.link(words, offsets)
        try:
            return self._chase.time_ring(words, offsets, n_loads)
        finally:
            self._chase.unlink(words, offsets)

    def loads(self, words: Words, offsets: Offsets, n_warm: int) -> float:
        """Nanoseconds per load of those after the first `n_warm`."""
        return self._chase.time_loads(words, offsets, n_warm)

    def ghz(self) -> float:
        """Cycles per nanosecond of the core."""
        return self._chase.clock_ghz()


def at_random_lines(pages: I64, rng: np.random.Generator) -> Offsets:
    """Word offsets of a random cache line in each page, whichever page it is.

    Args:
        pages: int64[n], 4K pages by number.
        rng: Draws the lines.

    Returns:
        uint64[n].

    Examples:
        >>> offsets = at_random_lines(np.array([0, 3]), np.random.default_rng(1))
        >>> (offsets // 512).tolist(), (offsets % 8).tolist()
        ([0, 3], [0, 0])
    """
    return (pages * PAGE_WORDS + rng.integers(_LINES, size=pages.size) * _LINE_WORDS).astype(np.uint64)


def packed(n: int, rng: np.random.Generator) -> Offsets:
    """Word offsets of the first n cache lines in random order: as many lines on as few pages as can be, uint64[n].

    Examples:
        >>> sorted(packed(3, np.random.default_rng(1)).tolist())
        [0, 8, 16]
    """
    return rng.permutation(np.arange(n, dtype=np.uint64) * np.uint64(_LINE_WORDS))


def spread_over(n: int, stride_pages: int, first_page: int, rng: np.random.Generator) -> Offsets:
    """Word offsets of one cache line in each of n strides, in random order, uint64[n].

    The page within the stride is random too where the stride is a huge page, whose low address bits would otherwise
    be the same and fill few cache sets.

    Examples:
        >>> sorted((spread_over(3, 17, 0, np.random.default_rng(1)) // 512).tolist())
        [0, 17, 34]
    """
    pages = np.arange(n, dtype=np.int64) * stride_pages + first_page
    if stride_pages % _HUGE == 0:
        pages += rng.integers(stride_pages, size=n)
    return rng.permutation(at_random_lines(pages, rng))


_HUGE = page_bytes("2M") // page_bytes("4K")


def page_passes(n_pages: int, n_visits: int, loads_per_visit: int, rng: np.random.Generator) -> Offsets:
    """Word offsets of passes over all pages in random order, each page visited for some loads of random lines.

    A pass comes back to a page only after all others, so a TLB with fewer entries than pages misses at every visit.

    Returns:
        uint64[n_visits * loads_per_visit].

    Examples:
        >>> offsets = page_passes(4, 8, 2, np.random.default_rng(1))
        >>> offsets.size, sorted((offsets[:8:2] // 512).tolist())
        (16, [0, 1, 2, 3])
    """
    n_passes = -(-n_visits // n_pages)
    pages = np.concatenate([rng.permutation(n_pages) for _ in range(n_passes)])[:n_visits]
    return at_random_lines(np.repeat(pages, loads_per_visit), rng)


def joined(a: Area, b: Area) -> tuple[Words, int, int]:
    """One array from the lower area to the end of the higher, and the offset in it of each; nothing between is touched.

    Returns:
        The array, and word offsets of `a` and `b`.

    Examples:
        >>> both = np.arange(100, dtype=np.uint64)
        >>> words, at_a, at_b = joined(Area("4K", "", both[90:]), Area("4K", "", both[:10]))
        >>> int(words[at_a]), int(words[at_b])
        (90, 0)
    """
    starts = [int(area.words.ctypes.data) for area in (a, b)]
    ends = [start + area.words.nbytes for start, area in zip(starts, (a, b), strict=True)]
    low = min(starts)
    n_words = (max(ends) - low) // WORD_BYTES
    words = np.ctypeslib.as_array((ctypes.c_uint64 * n_words).from_address(low))
    return words, (starts[0] - low) // WORD_BYTES, (starts[1] - low) // WORD_BYTES
