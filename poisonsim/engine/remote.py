"""Runs the blocks of a plan on workers in other processes: any executor, Dask's among them.

This process reads and writes the run folder, so that workers need not reach it. They get a plan as text and some
consecutive blocks at a time, about a second of work, so that handing them out costs next to nothing.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from poisonsim.engine.block import Block
from poisonsim.engine.merge import Tally
from poisonsim.engine.order import Done, compute, write_order
from poisonsim.engine.plan import Plan
from poisonsim.engine.store import block_path, read_block, unpacked, write_whole
from poisonsim.errors import PoisonsimError, WorkerError

TASK_SECONDS = 1.0
"""Work of one task, about: handing it out takes some milliseconds."""

_MOST_BLOCKS = 256
_LOST = ("CommClosedError", "ClosedClientError", "FutureCancelledError")  # of Dask, without its scheduler
_LOOKS = 5.0  # seconds between looks at how many workers there are
_PATIENCE = 60.0  # seconds without any of them after which nobody waits on


@dataclass
class _Lot:
    """Consecutive blocks of a run: on their way, here, or read from the folder.

    Attributes:
        first: Number of the first.
        n_blocks: How many.
        future: Who computes them; None once they are here.
        parts: What is added to the run.
        files: Their files that are still to be written.
    """

    first: int
    n_blocks: int
    future: Future[Done] | None
    parts: Sequence[Block | Tally] = ()
    files: Sequence[bytes] = ()


class Workers:
    """Tasks of one run on an executor.

    Args:
        plan: The run.
        sizes: Trials counted in each of its blocks.
        executor: It is not shut down.
        folder: Where blocks are read and written; None keeps nothing.
        ahead: Write blocks as soon as they are here, and give them added up; else one by one, and written only once
            all before them have been taken.
    """

    def __init__(self, plan: Plan, sizes: Sequence[int], executor: Executor, folder: Path | None, *, ahead: bool):
        self._plan, self._sizes, self._executor, self._folder, self._ahead = plan, sizes, executor, folder, ahead
        self._order = write_order(plan)
        self._lots: deque[_Lot] = deque()
        self._next = 0
        self._pace: float | None = None  # seconds for a block, where a worker has warmed up
        self._looked = self._seen = time.monotonic()
        self._slots = 1
        self._count_slots()

    def parts(self) -> Iterator[Block | Tally]:
        """All blocks in order, single or added up; only some are computed ahead of what is due.

        Raises:
            WorkerError: The workers are lost, or would compute something else.
            PolicyError: A policy's `decide` answered what cannot be done.
            RunFolderError: The folder cannot be written.
        """
        try:
            while self._next < len(self._sizes) or self._lots:
                self._hand_out()
                self._collect()
                while self._lots and self._lots[0].future is None:
                    lot = self._lots.popleft()
                    for i, part in enumerate(lot.parts):
                        self._write(lot.first + i, lot.files[i : i + 1])
                        yield part
        finally:
            for lot in self._lots:
                if lot.future is not None:
                    lot.future.cancel()

    def _hand_out(self) -> None:
        """Keeps every worker busy, and as many tasks waiting."""
        while self._next < len(self._sizes) and len(self._lots) < 2 * self._slots + 2:
            stored = self._stored(self._next)
            if stored is not None:
                self._lots.append(_Lot(self._next, 1, None, [stored]))
                self._next += 1
                continue
            first, n_blocks = self._next, 1
            while n_blocks < self._lot_size() and not self._is_there(first + n_blocks):
                n_blocks += 1
            sizes, pack = self._sizes[first : first + n_blocks], self._folder is not None or not self._ahead
            with self._telling():
                future = self._executor.submit(compute, self._order, first, sizes, merge=self._ahead, pack=pack)
            self._lots.append(_Lot(first, n_blocks, future))
            self._next += n_blocks

    def _lot_size(self) -> int:
        """Blocks of the next task; fewer near the end, so that no worker is left with all of it."""
        if self._pace is None:
            return 1
        left = -(-(len(self._sizes) - self._next) // (2 * self._slots))
        return max(min(round(TASK_SECONDS / self._pace), left, _MOST_BLOCKS), 1)

    def _collect(self) -> None:
        """Waits until the blocks that are due, or others, are here."""
        pending = {lot.future: lot for lot in self._lots if lot.future is not None}
        if not pending or self._lots[0].future is None:
            return
        done, _ = wait(pending, timeout=_LOOKS, return_when=FIRST_COMPLETED)
        for future in sorted(done, key=_has_failed):  # what has not is kept
            lot = pending[future]
            with self._telling():
                result = future.result()
            pace = result.seconds / lot.n_blocks
            self._pace = pace if self._pace is None else min(pace, self._pace)
            lot.future = None
            if result.tally is not None:
                lot.parts = [result.tally]
                self._write(lot.first, result.files)
            else:
                lot.parts = [self._block(lot.first + i, file) for i, file in enumerate(result.files)]
                lot.files = result.files
        self._look()

    def _look(self) -> None:
        """Follows how many workers there are, and gives up where there have been none for long."""
        now = time.monotonic()
        if now - self._looked < _LOOKS:
            return
        self._looked = now
        if self._count_slots():
            self._seen = now
        elif now - self._seen > _PATIENCE:
            raise WorkerError(
                f"the cluster has had no workers for {now - self._seen:.0f} s; start some; {self._kept()}"
            )

    def _count_slots(self) -> int:
        """Tasks that are worked on at a time, which it remembers; 0 where a cluster has no workers at the moment."""
        client = getattr(self._executor, "_client", None)  # of Dask
        with self._telling():
            slots = sum(client.nthreads().values()) if client is not None else None
        if slots is None:
            slots = getattr(self._executor, "_max_workers", None) or os.cpu_count() or 1
        self._slots = slots or self._slots
        return slots

    def _stored(self, index: int) -> Block | None:
        """A block of the folder that covers the same trials."""
        if not self._is_there(index):
            return None
        assert self._folder is not None
        stored = read_block(self._folder, self._plan.run_id, index, tell=True)
        return stored if stored is not None and stored.n_trials == self._sizes[index] else None

    def _is_there(self, index: int) -> bool:
        return self._folder is not None and block_path(self._folder, index).exists()

    def _block(self, index: int, file: bytes) -> Block:
        block = unpacked(file, self._plan.run_id, index)
        if block is None:
            raise WorkerError(f"block {index} was damaged on its way here; {self._kept()}")
        return block

    def _write(self, first: int, files: Sequence[bytes]) -> None:
        """Writes the files of blocks, but none that the folder holds already, or a longer one."""
        if self._folder is None:
            return
        for index, data in enumerate(files, first):
            stored = read_block(self._folder, self._plan.run_id, index) if self._is_there(index) else None
            if stored is None or stored.n_trials < self._sizes[index]:
                write_whole(block_path(self._folder, index), data)

    def _kept(self) -> str:
        if self._folder is None:
            return "nothing is kept, as the run has no folder (out=...)"
        return f"finished blocks are kept in {self._folder}, and the same run goes on from there"

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """What befalls workers, as an error that says what to do."""
        try:
            yield
        except PoisonsimError as error:
            if isinstance(error, WorkerError):
                raise WorkerError([f"{problem}; {self._kept()}" for problem in error.problems]) from None
            raise
        except BrokenExecutor as error:
            raise WorkerError(
                f"a process of the executor died (killed, or out of memory: {error}); {self._kept()} on a new executor"
            ) from None
        except (ImportError, AttributeError) as error:
            raise WorkerError(
                f"a worker cannot load poisonsim ({error}); install the same version on every worker; {self._kept()}"
            ) from None
        except Exception as error:
            shut = isinstance(error, RuntimeError) and ("closed" in str(error) or "shutdown" in str(error))
            if shut or isinstance(error, CancelledError) or type(error).__name__ in _LOST:
                raise WorkerError(f"the scheduler was lost, or the executor was shut down; {self._kept()}") from None
            if type(error).__module__.partition(".")[0] in ("distributed", "dask") or "deserializ" in str(error):
                raise WorkerError(f"the cluster failed ({_one_line(error)}); {self._kept()}") from None
            raise


def _has_failed(future: Future[Done]) -> bool:
    return future.cancelled() or future.exception() is not None


def _one_line(error: BaseException) -> str:
    """The kind and the text of an error, shortened."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 300 else f"{text[:297]}..."
