"""Memory that one block gave back serves the next: the C library is asked not to hand it to the system in between."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

# glibc: malloc.h, M_TRIM_THRESHOLD and M_MMAP_THRESHOLD; the latter takes no more than this
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT_BYTES, _LARGEST_BYTES = 256 << 20, 32 << 20


@cache
def keep_freed_memory() -> bool:
    """Lets the process keep up to 256 MiB that it has freed, arrays of up to 32 MiB among it; whether that worked.

    A block makes and drops arrays of some 20 MiB. Where malloc gives their pages back each time, the system must find
    and clear thousands of pages for every block, which took a quarter of its time. Only glibc can be asked so; with
    another C library nothing changes.

    Examples:
        >>> keep_freed_memory() in (True, False)
        True
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # musl has none
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_BYTES) and mallopt(_TRIM_THRESHOLD, _KEPT_BYTES))
