"""Functions that Numba compiles, kept in its cache until any source of the package changes.

Numba itself looks only at the file of the function. What that calls, and constants of other modules, are compiled into
it, so that after an update it would go on with the old ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from numba import njit


@cache
def sources_digest() -> str:
    """SHA-256 over all Python files of the package."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def compiled(function: Callable[..., Any]) -> Any:
    """`function`, a module's, compiled when first called, and run without the GIL."""
    return _stamped(njit(cache=True, nogil=True, _nrt=True)(function))


def bare(function: Callable[..., Any]) -> Any:
    """As `compiled`, for one that makes no arrays: whose arrays are in use is not counted, which took most of its time.

    It may make views of its arguments, but must not return them.
    """
    return _stamped(njit(cache=True, nogil=True, _nrt=False)(function))


def inlined(function: Callable[..., Any]) -> Any:
    """As `compiled`, and copied into every compiled function that calls it."""
    return _stamped(njit(cache=True, nogil=True, inline="always")(function))


def must_compile(dispatcher: Any) -> bool:
    """Whether a compiled function has to be compiled when it is next called, because nothing of it is kept."""
    index = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    load = getattr(index, "_load_index", None)  # Numba's own way to tell what its cache holds
    return load is not None and not dispatcher.signatures and not load()


def _stamped(dispatcher: Any) -> Any:
    index = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)  # absent where nothing is compiled
    if index is not None:
        index._source_stamp = sources_digest()
    return dispatcher
