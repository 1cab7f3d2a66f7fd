"""Real memory mapped with leaves of one size."""

from __future__ import annotations

import errno
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from poisonsim.errors import MachineError
from poisonsim.units import GIB, format_bytes, page_bytes

from .counters import available_bytes, huge_bytes, read_text
from .pool import Pool

Words = npt.NDArray[np.uint64]

MAP_HUGETLB = 0x40000
_HUGE_SHIFT = 26
_MADV_POPULATE_WRITE = 23
WORD_BYTES = 8
# Memory left to the rest of the machine beyond what is mapped.
_MARGIN_BYTES = GIB // 2
_PIECE_BYTES = GIB


@dataclass(frozen=True)
class Area:
    """Memory of this process, all of it present and zero.

    Attributes:
        leaf: Leaf size that maps it, as the page table of this process has it.
        how: `"hugetlb"`, `"THP"` or `"base pages"`.
        words: uint64[n], the memory.

    Examples:
        >>> with mapped("4K", 1 << 20) as area:
        ...     area.leaf, area.how, area.words.nbytes, int(area.words.sum())
        ('4K', 'base pages', 1048576, 0)
    """

    leaf: str
    how: str
    words: Words


@contextmanager
def mapped(
    leaf: str, size_bytes: int, *, pool: Pool | None = None, grown: bool = False, transparent: bool = False
) -> Iterator[Area]:
    """Memory mapped with leaves of one size, given back when the block ends.

    Args:
        leaf: `"1G"` and `"2M"` are hugetlb pages, the base page is what remains.
        size_bytes: A whole number of leaves.
        pool: Where free huge pages are counted.
        grown: Whether the pool was grown for this.
        transparent: Take transparent huge pages for `"2M"` instead of hugetlb ones.

    Raises:
        MachineError: Not enough free huge pages or memory, or no transparent huge pages came.
    """
    if leaf == "4K" or transparent:
        require_memory(size_bytes, f"{format_bytes(size_bytes)} of {'transparent 2M' if transparent else leaf} pages")
    extra = page_bytes("2M") if transparent else 0
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    if leaf != "4K" and not transparent:
        require_free(leaf, size_bytes, pool or Pool(), grown=grown)
        flags |= MAP_HUGETLB | (page_bytes(leaf).bit_length() - 1) << _HUGE_SHIFT
    try:
        memory = mmap.mmap(-1, size_bytes + extra, flags=flags)
    except OSError as error:
        raise MachineError(
            f"{format_bytes(size_bytes)} of {leaf} pages: the kernel refuses to map them ({error.strerror})"
        ) from None
    words: Words | None = None
    try:
        if leaf == "4K":
            _advise(memory, mmap.MADV_NOHUGEPAGE)
        elif transparent:
            memory.madvise(mmap.MADV_HUGEPAGE)
        words = np.frombuffer(memory, dtype=np.uint64)
        start = -int(words.ctypes.data) % page_bytes("2M") if transparent else 0
        words = words[start // WORD_BYTES : (start + size_bytes) // WORD_BYTES]
        _populate(memory, words, start, size_bytes)
        if transparent:
            _require_transparent(words)
        yield Area(leaf, "THP" if transparent else "base pages" if leaf == "4K" else "hugetlb", words)
    finally:
        del words
        _close(memory)


def require_free(leaf: str, size_bytes: int, pool: Pool, *, grown: bool = False) -> None:
    """Nothing, if the pool has the pages.

    Args:
        leaf: Size of the huge pages.
        size_bytes: How much memory is wanted.
        pool: The pool.
        grown: Whether the kernel has been asked for them already.

    Raises:
        MachineError: It has not; the message names the command that gives it more.
    """
    n_wanted = size_bytes // page_bytes(leaf)
    state = pool.state(leaf)
    if state is None:
        raise MachineError(f"{leaf} huge pages: this kernel has none")
    if state.usable < n_wanted:
        help_ = f"add --reserve, or reserve them: {pool.command(leaf, n_wanted - state.usable)}"
        if grown:
            help_ = (
                f"the kernel found no room for more; free memory, or boot with hugepagesz={leaf} hugepages={n_wanted}"
            )
        raise MachineError(f"{leaf} huge pages: {n_wanted} wanted, {state.usable} free; {help_}")


def require_memory(size_bytes: int, what: str) -> None:
    """Nothing, if the machine has that much memory to spare.

    Raises:
        MachineError: It has not.
    """
    spare = available_bytes() - _MARGIN_BYTES
    if size_bytes > spare:
        raise MachineError(
            f"{what}: too little memory, {format_bytes(max(0, spare))} can be taken "
            f"(MemAvailable less {format_bytes(_MARGIN_BYTES)}); give a smaller --area"
        )


def _populate(memory: mmap.mmap, words: Words, start: int, size_bytes: int) -> None:
    """Has every page present; unlike a touch, the advice fails with an error where a page cannot be had."""
    try:
        # In pieces, between which a signal gets through.
        for at in range(start, start + size_bytes, _PIECE_BYTES):
            memory.madvise(_MADV_POPULATE_WRITE, at, min(_PIECE_BYTES, start + size_bytes - at))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise MachineError(
                f"{format_bytes(size_bytes)}: the kernel cannot make all pages present ({error.strerror}); "
                "a memory or hugetlb cgroup limit may be in force"
            ) from None
        words[:: page_bytes("4K") // WORD_BYTES] = 0  # before Linux 5.14


def _require_transparent(words: Words) -> None:
    got = huge_bytes(read_text(Path("/proc/self/smaps")), int(words.ctypes.data), words.nbytes)
    if got < words.nbytes:
        raise MachineError(
            f"transparent huge pages: {format_bytes(got)} of {format_bytes(words.nbytes)} came; see "
            "/sys/kernel/mm/transparent_hugepage/enabled (always or madvise), or free memory is fragmented"
        )


def _advise(memory: mmap.mmap, advice: int) -> None:
    try:
        memory.madvise(advice)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a kernel without transparent huge pages
            raise


def _close(memory: mmap.mmap) -> None:
    try:
        memory.close()
    except BufferError:  # an exception on its way out still holds the array; the memory goes with it
        memory.madvise(mmap.MADV_DONTNEED)
