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

from numba import cfunc, njit


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
    return _kept(function, _nrt=True)


def bare(function: Callable[..., Any]) -> Any:
    """As `compiled`, for one that makes no arrays: whose arrays are in use is not counted, which took most of its time.

    It may make views of its arguments, but must not return them.
    """
    return _kept(function, _nrt=False)


def inlined(function: Callable[..., Any]) -> Any:
    """As `compiled`, and copied into every compiled function that calls it."""
    return _kept(function, inline="always")


def callback(signature: Any, function: Callable[..., Any]) -> Any:
    """`function` as what a compiled one can be given to call."""
    try:
        return cfunc(signature, cache=True)(function)
    except RuntimeError:  # as in `_kept`
        return cfunc(signature)(function)


def must_compile(dispatcher: Any) -> bool:
    """Whether a compiled function has to be compiled when it is next called, because nothing of it is kept."""
    if getattr(dispatcher, "signatures", True):  # those of a function that Numba does not compile are none
        return False
    load = getattr(_index(dispatcher), "_load_index", None)  # Numba's own way to tell what its cache holds
    return load is None or not load()


def kept_in(dispatcher: Any) -> Path | None:
    """The folder in which a compiled function is kept, or None where it is compiled in every process."""
    path = getattr(getattr(dispatcher, "_cache", None), "cache_path", None)
    return Path(path) if path else None


def _kept(function: Callable[..., Any], **options: Any) -> Any:
    try:
        dispatcher = njit(cache=True, nogil=True, **options)(function)
    except RuntimeError:  # neither beside the package nor in the user's cache may anything be written
        return njit(nogil=True, **options)(function)
    index = _index(dispatcher)
    if index is not None:
        index._source_stamp = sources_digest()
    return dispatcher


def _index(dispatcher: Any) -> Any:
    """What Numba keeps of a function on disk; None where it keeps or compiles nothing."""
    return getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
