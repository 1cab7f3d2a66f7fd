"""Runs something in a process of its own that may take neither much time nor much memory."""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

MOST_SECONDS = 2.0
MOST_BYTES = 500 << 20
_STUCK_SECONDS = 20.0  # beyond what is granted, for what no signal interrupts


class Hung(BaseException):
    """Too long, and no error that a parser may catch."""


@contextlib.contextmanager
def timed(seconds: float = MOST_SECONDS) -> Iterator[None]:
    """Raises `Hung` inside after so many seconds of CPU.

    Raises:
        Hung: It took that long.
    """

    def stop(*_: object) -> None:
        raise Hung(f"took more than {seconds:g} s")

    begin = time.process_time()
    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    if time.process_time() - begin > seconds:  # where what no signal interrupts took all of it
        stop()


def apart(work: Callable[[], Any], *, most_seconds: float = 600.0) -> Any:
    """What `work` returns in a fork of this process, where it may take `MOST_BYTES` more than there is now.

    Neither address space nor resident memory may grow by more: what asks for too much gets a `MemoryError`.

    Raises:
        AssertionError: It was killed, ran for longer than `most_seconds`, or its memory grew by more.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reader)
            before, space = _peak_bytes(reset=True), int(Path("/proc/self/statm").read_text().split()[0])
            most = space * resource.getpagesize() + MOST_BYTES
            resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))
            signal.setitimer(signal.ITIMER_REAL, most_seconds + _STUCK_SECONDS)  # ends the process
            found = work()
            with os.fdopen(writer, "wb") as file:
                pickle.dump((found, _peak_bytes() - before), file)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        data = file.read()
    _, status = os.waitpid(pid, 0)
    assert status == 0 and data, f"it ended with {os.waitstatus_to_exitcode(status)}"
    found, grown = pickle.loads(data)
    assert grown <= MOST_BYTES, f"its memory grew by {grown >> 20} MiB"
    return found


def _peak_bytes(*, reset: bool = False) -> int:
    """The most memory that this process has had resident, from now on if it is to be `reset`."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) << 10
