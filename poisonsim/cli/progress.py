"""Progress on stderr with the current estimate in it: a bar on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from poisonsim.compiled import kept_in, must_compile
from poisonsim.engine.kernel import simulate
from poisonsim.engine.merge import Tally
from poisonsim.engine.plan import Plan
from poisonsim.engine.run import Progress
from poisonsim.engine.state import GUEST_LOST_PAGES, STRATUM
from poisonsim.results.statistics import Distribution
from poisonsim.units import format_bytes

_SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def progress(plan: Plan, *, at_most: bool = False) -> Iterator[Progress]:
    """A callback for `run` that shows how far it is and what it has found.

    Args:
        at_most: Whether it may stop before all its trials, so that nobody knows how long it takes.
    """
    with progress_with(lambda tally: current_estimate(plan, tally), at_most=at_most) as callback:
        yield callback


def kernel_must_compile() -> bool:
    """Whether the first block waits for the simulation kernel to be compiled."""
    return must_compile(simulate)


def compiling() -> str:
    """What a first run waits for, and where that is kept for later ones."""
    folder = kept_in(simulate)
    if folder is None:
        return "compiling the simulation kernel, which can be kept nowhere; set NUMBA_CACHE_DIR to a folder for it"
    return f"compiling the simulation kernel, once for this version; it is kept in {folder}"


@contextmanager
def progress_with(estimate: Callable[[Tally], str], *, at_most: bool = False) -> Iterator[Progress]:
    """As `progress`, for what `estimate` makes of the tally so far."""
    first = compiling() if kernel_must_compile() else ""
    if sys.stderr.isatty():
        with _bar(estimate, at_most, first or "starting") as callback:
            yield callback
    else:
        if first:
            print(first, file=sys.stderr)
        yield _lines(estimate, at_most)


@contextmanager
def progress_over(
    name: Callable[[Any], str], first: Any
) -> Iterator[Callable[[int, int, Any, Callable[[], Tally]], None]]:
    """A callback for what runs several parts, each with a `plan`, that shows the part at hand and what it has found.

    Args:
        name: What a part is called.
        first: The part that comes first.
    """
    at = first

    def estimate(tally: Tally) -> str:
        return f"{name(at)}: {current_estimate(at.plan, tally)}"

    with progress_with(estimate) as show:

        def show_part(done: int, wanted: int, part: Any, tally: Callable[[], Tally]) -> None:
            nonlocal at
            at = part
            show(done, wanted, tally)

        yield show_part


@contextmanager
def reading_progress() -> Iterator[Callable[[int, int, int], None]]:
    """A callback for `poisonsim.logs.read` that shows how much of the logs is read and what it gave."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (BarColumn(), DownloadColumn(binary_units=True), TextColumn("{task.description}"))
        with Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("reading", total=None)
            yield lambda done, total, n: bar.update(task, completed=done, total=total, description=f"{n:,} events")
        return
    last = time.monotonic()

    def show(done: int, total: int, n_events: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _SECONDS_BETWEEN_LINES and done < total:
            last = time.monotonic()
            print(f"read {format_bytes(done)} of {format_bytes(total)}, {n_events:,} events", file=sys.stderr)

    yield show


def current_estimate(plan: Plan, tally: Tally) -> str:
    """Guest memory lost so far under the last policy, as one clause."""
    states, counts = tally.states[-1], tally.counts[-1][:, -1]
    lost = states[:, GUEST_LOST_PAGES].astype(float)
    pages = Distribution.of(lost, counts, states[:, STRATUM], plan.strata.weights)
    p99 = pages.quantile(0.99)
    known = p99.best if p99 is not None else pages.values[-1]
    what = "p99" if p99 is not None else "most"
    return f"{plan.policies[-1].label}: {what} guest lost {format_bytes(known * plan.ladder.base_bytes)}"


def _lines(estimate: Callable[[Tally], str], at_most: bool) -> Progress:
    last = time.monotonic()
    begun: tuple[float, int] | None = None  # when the first block was there, since it waits for the kernel

    def show(done: int, wanted: int, tally: Callable[[], Tally]) -> None:
        nonlocal last, begun
        now = time.monotonic()
        begun = begun or (now, done)
        if now - last >= _SECONDS_BETWEEN_LINES and done < wanted:
            last = now
            far = f"{done:,} of at most {wanted:,} trials" if at_most else f"{done:,}/{wanted:,} trials"
            if not at_most and done > begun[1]:
                far += f", {(now - begun[0]) / (done - begun[1]) * (wanted - done):.0f} s left"
            print(f"{far}, {estimate(tally())}", file=sys.stderr)

    return show


@contextmanager
def _bar(estimate: Callable[[Tally], str], at_most: bool, first: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = [BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}")]
    if not at_most:
        columns.append(TimeRemainingColumn())
    last = 0.0
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(first, total=None)

        def show(done: int, wanted: int, tally: Callable[[], Tally]) -> None:
            nonlocal last
            if time.monotonic() - last > 0.5 or done == wanted:
                last = time.monotonic()
                bar.update(task, description=estimate(tally()))
            bar.update(task, completed=done, total=wanted)

        yield show
