"""Runs a plan block by block, on threads or any executor, into memory or a run folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from pathlib import Path

from poisonsim.engine.block import Block, run_block, year_points
from poisonsim.engine.merge import Merger, Tally
from poisonsim.engine.plan import Plan
from poisonsim.engine.store import read_block, write_block
from poisonsim.errors import ScenarioError, shown

Progress = Callable[[int, int, Callable[[], Tally]], None]
Stop = Callable[[int, Callable[[], Tally]], bool]


def simulate_plan(
    plan: Plan,
    *,
    trials: int,
    threads: int | None = None,
    executor: Executor | None = None,
    folder: Path | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Tally:
    """The tally of the first `trials` trials of `plan`, or of as many whole blocks as `stop` wants.

    Blocks already in `folder` are read, not computed; new ones are written there, by this process. Who computes a block
    never changes a value, and blocks are added up in order.

    Args:
        threads: Worker threads; default one per core.
        executor: Any executor to use instead; it is not shut down. One that is not of threads gets the plan as text,
            and some blocks at a time; see `poisonsim.engine.remote`.
        progress: Called after each block, or some, with trials done, trials wanted, and a function that gives the tally
            so far, which may be kept, and then takes memory of its own.
        stop: Called after each block with the number of blocks added up, which are the first ones in order, and a
            function that gives their tally; true ends the run there. Blocks that were computed ahead are dropped, so
            that neither the result nor the folder depends on how many threads there were.

    Raises:
        PolicyError: A policy's `decide` answered what cannot be done.
        RunFolderError: The folder cannot be written.
        ScenarioError: `executor` is none.
        WorkerError: Its workers are lost, or would compute something else.
    """
    if executor is not None and not isinstance(executor, Executor):
        raise ScenarioError(
            f"executor = {shown(executor)} is no concurrent.futures.Executor; give one, or leave it out"
        )
    merger = Merger(len(plan.policies), len(year_points(plan)))
    own = None if executor is not None else ThreadPoolExecutor(threads or os.cpu_count() or 1, "poisonsim")
    try:
        # With a stop rule parts are single blocks; only then does it matter how many they are.
        for n_blocks, part in enumerate(_in_order(plan, trials, executor or own, folder, ahead=stop is None), 1):
            merger.add(part)
            if progress is not None:
                progress(merger.n_trials, trials, merger.tally)
            if stop is not None and stop(n_blocks, merger.tally):
                break
    finally:
        if own is not None:
            own.shutdown(wait=True, cancel_futures=True)
    return merger.tally()


def block_sizes(plan: Plan, trials: int) -> list[int]:
    """Trials counted in each block of a run: all full but the last."""
    full, rest = divmod(trials, plan.block_trials)
    return [plan.block_trials] * full + ([rest] if rest else [])


def _in_order(
    plan: Plan, trials: int, executor: Executor | None, folder: Path | None, *, ahead: bool
) -> Iterator[Block | Tally]:
    """Every block in order, with only a few computed ahead of the one that is due, so that memory stays flat.

    Args:
        ahead: Write blocks as soon as they are computed, and let them come added up; else one by one, and written only
            once all before them have been taken.
    """
    assert executor is not None
    sizes = block_sizes(plan, trials)
    if not isinstance(executor, ThreadPoolExecutor):
        from poisonsim.engine.remote import Workers

        yield from Workers(plan, sizes, executor, folder, ahead=ahead).parts()
        return
    most_ahead = 2 * (os.cpu_count() or 1) + 2
    pending: dict[Future[Block], int] = {}
    ready: dict[int, Block] = {}
    submitted = due = 0
    try:
        while due < len(sizes):
            while submitted < min(due + most_ahead, len(sizes)):
                future = executor.submit(_block, plan, submitted, sizes[submitted], folder, ahead)
                pending[future] = submitted
                submitted += 1
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                ready[pending.pop(future)] = future.result()
            while due in ready:
                block = ready.pop(due)
                if folder is not None and not ahead:
                    _keep(plan, block, folder)
                yield block
                due += 1
    finally:
        for future in pending:
            future.cancel()


def _block(plan: Plan, index: int, n_trials: int, folder: Path | None, write: bool) -> Block:
    """One block from the folder if it is there and covers the same trials, else computed."""
    stored = read_block(folder, plan.run_id, index, tell=True) if folder is not None else None
    if stored is not None and stored.n_trials == n_trials:
        return stored
    block = run_block(plan, index, n_trials)
    if folder is not None and write:
        _keep(plan, block, folder)
    return block


def _keep(plan: Plan, block: Block, folder: Path) -> None:
    """Writes a block, unless the folder holds it already, or a longer one."""
    stored = read_block(folder, plan.run_id, block.index)
    if stored is None or stored.n_trials < block.n_trials:
        write_block(folder, plan.run_id, block)
