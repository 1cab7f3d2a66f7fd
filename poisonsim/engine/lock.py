"""One process at a time writes to a folder: an advisory lock that ends with its process, however that ends."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path

from poisonsim.engine.store import cannot_be_written, make_folder
from poisonsim.errors import RunFolderError, RunFolderNotice, warn

try:
    import fcntl
except ImportError:  # a system without it
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = ".lock"
"""Says who writes to the folder that it is in; the lock on it, not the file, is what counts."""

_mine: ContextVar[frozenset[Path]] = ContextVar("_mine", default=frozenset())
_open: set[int] = set()


def _leave_to_parent() -> None:
    """A forked child, such as a worker, must not keep a lock alive when its parent is killed."""
    for descriptor in _open:
        os.close(descriptor)
    _open.clear()


os.register_at_fork(after_in_child=_leave_to_parent)


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Makes a folder if need be, and keeps every other process out of it that would hold it too.

    Who holds it already, further out in the same call, goes on. Where the file system knows no locks, as some over a
    network, that is said and nobody is kept out; blocks are whole and the same whoever writes them, so that two
    processes then do work twice at worst.

    Raises:
        RunFolderError: Another process holds it, or it cannot be written.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as place:
        ...     with hold(Path(place)):
        ...         print([path.name for path in Path(place).iterdir()])
        ...     print(list(Path(place).iterdir()))
        ['.lock']
        []
    """
    try:
        made = make_folder(folder)
        place = folder.resolve()
        descriptor = None if place in _mine.get() else _locked(folder / LOCK_FILE)
    except (OSError, ValueError) as error:
        raise cannot_be_written(folder, error) from error
    token = _mine.set(_mine.get() | {place})
    try:
        yield
    finally:
        _mine.reset(token)
        if descriptor is not None and descriptor in _open:  # a forked child holds it no more
            with suppress(OSError):  # while it is locked, so that nobody else's file is removed
                (place / LOCK_FILE).unlink()
            _open.discard(descriptor)
            os.close(descriptor)
        with suppress(OSError):  # where nothing was written, nothing stays
            for each in made:
                each.rmdir()


def _locked(path: Path) -> int | None:
    """An open and locked file of that path, which says who locked it; None where locks are not to be had."""
    while fcntl is not None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_there(descriptor, path):  # else who held it has removed it since it was opened
                _sign(descriptor)
                _open.add(descriptor)
                return descriptor
        except BlockingIOError:
            raise RunFolderError(
                f"{path.parent}: {_holder(descriptor)}; wait until it ends, end it, or choose another folder with --out"
            ) from None
        except OSError:
            if os.fstat(descriptor).st_size == 0:  # it is ours
                path.unlink(missing_ok=True)
            break
        finally:
            if descriptor not in _open:
                os.close(descriptor)
    warn(
        f"{path.parent}: its file system knows no locks, so nothing keeps another process from writing there as well",
        RunFolderNotice,
    )
    return None


def _is_there(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one of that path."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _sign(descriptor: int) -> None:
    """Writes who holds the lock, where there is room for it."""
    since = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "host": platform.node(), "since": since}).encode(), 0)


def _holder(descriptor: int) -> str:
    """Who writes to the folder, as the file says."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        told = json.loads(os.pread(descriptor, 1000, 0))
        return f"process {told['pid']} on {told['host']} has been writing there since {told['since']}"
    return "another process is writing there"
