"""One mapping in a process of its own, and the page tables it takes; run as `python -m` with a JSON argument.

The mapping lies in 512 GiB of address space that nothing else uses, so that no table page is shared with the rest of
the process. Only the standard library is used once the counter has been read.
"""

from __future__ import annotations

import ctypes
import gc
import json
import mmap
import os
import re
import sys
from collections.abc import Sequence
from typing import NamedTuple

SPAN_BYTES = 512 << 30
"""Address space under one table of 1G entries."""

_MAP_FIXED_NOREPLACE = 0x100000
_MAP_NORESERVE = 0x4000
_MAP_HUGETLB = 0x40000
_HUGE_SHIFT = 26
_MADV_COLLAPSE = 25
_HUGE_BYTES = {"1G": 1 << 30, "2M": 1 << 21}


class Segment(NamedTuple):
    """A run of memory mapped alike, or a hole.

    Attributes:
        kind: `"1G"` or `"2M"` (hugetlb), `"4K"`, `"thp"` (anonymous), `"shmem-thp"`, or `"hole"`.
        size_bytes: How long it is.

    Examples:
        >>> Segment("2M", 511 << 21).kind
        '2M'
    """

    kind: str
    size_bytes: int


class _Refused(Exception):
    """The kernel does not give what a segment needs."""


def table_bytes_of(segments: Sequence[Segment]) -> int:
    """Bytes of page tables that this process gains by mapping and touching the segments, one after another.

    Raises:
        OSError: The kernel refuses a mapping.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
    ]  # fmt: skip
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    at = _unused_span(libc)
    gc.disable()
    _vm_pte()
    before = _vm_pte()
    for kind, size_bytes in segments:
        if kind != "hole":
            _map(libc, at, kind, size_bytes)
        at += size_bytes
    return _vm_pte() - before


def _unused_span(libc: ctypes.CDLL) -> int:
    """Address of a stretch of 512 GiB, aligned so, in which nothing is mapped."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    start = _mmap(libc, None, 2 * SPAN_BYTES, flags, -1, protection=0)
    if libc.munmap(start, 2 * SPAN_BYTES):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return -(-start // SPAN_BYTES) * SPAN_BYTES


def _map(libc: ctypes.CDLL, at: int, kind: str, size_bytes: int) -> None:
    flags, file = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1
    if kind in _HUGE_BYTES:
        flags |= _MAP_HUGETLB | (_HUGE_BYTES[kind].bit_length() - 1) << _HUGE_SHIFT
    elif kind == "shmem-thp":
        file = os.memfd_create("poisonsim")
        os.ftruncate(file, size_bytes)
        flags = mmap.MAP_SHARED
    _mmap(libc, at, size_bytes, flags | _MAP_FIXED_NOREPLACE, file)
    if kind == "4K":
        libc.madvise(at, size_bytes, mmap.MADV_NOHUGEPAGE)  # fails, rightly, without transparent huge pages
    elif kind in ("thp", "shmem-thp"):
        libc.madvise(at, size_bytes, mmap.MADV_HUGEPAGE)
    ctypes.memset(at, 0, size_bytes)
    if kind == "shmem-thp":
        libc.madvise(at, size_bytes, _MADV_COLLAPSE)
    if kind in ("thp", "shmem-thp") and (got := _transparent_bytes()) < size_bytes:
        raise _Refused(f"{got >> 20} of {size_bytes >> 20} MiB came in transparent huge pages")


def _mmap(
    libc: ctypes.CDLL, at: int | None, size_bytes: int, flags: int, file: int,
    protection: int = mmap.PROT_READ | mmap.PROT_WRITE,
) -> int:  # fmt: skip
    got = libc.mmap(at, size_bytes, protection, flags, file, 0)
    if got is None or got == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(got)


def _vm_pte() -> int:
    with open("/proc/self/status") as status:
        return int(status.read().split("VmPTE:")[1].split()[0]) << 10


def _transparent_bytes() -> int:
    with open("/proc/self/smaps_rollup") as rollup:
        text = rollup.read()
    found = re.findall(r"^(?:AnonHugePages|ShmemPmdMapped): +(\d+) kB", text, re.MULTILINE)
    return sum(int(value) for value in found) << 10


def main() -> None:
    """Prints `{"table_bytes": n}` or `{"refused": "why"}` for the segments of the first argument."""
    segments = [Segment(kind, size) for kind, size in json.loads(sys.argv[1])]
    try:
        found: dict[str, object] = {"table_bytes": table_bytes_of(segments)}
    except OSError as error:
        found = {"refused": os.strerror(error.errno or 0), "errno": error.errno}
    except _Refused as error:
        found = {"refused": str(error)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
