"""Fault modes behind a log's errors, told from the DRAM cells that it names, and what was lost to each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from poisonsim.engine.plan import Plan
from poisonsim.faults.history import NO_MODE, History
from poisonsim.faults.tables import MODES
from poisonsim.fitting.cells import CellCounter, Cells
from poisonsim.fitting.modes import Fault
from poisonsim.logs.events import EventBatch
from poisonsim.results.by_mode import pages_lost_by_mode
from poisonsim.results.statistics import Estimate

I64 = NDArray[np.int64]

UNKNOWN = "unknown"
"""Mode of errors of which the log names no cell."""
MODE_COLUMNS = {
    "mode": "fault mode; `unknown` for errors of which the log names no cell",
    "faults": "faults of that mode",
    "hosts": "hosts that have one",
    "errors": "errors of their cells, corrected and uncorrected",
    "ue_pages": "uncorrected errors in the VMs from them, mean over imputations",
    "ce_pages": "base pages of the VMs whose corrected errors passed the threshold",
}
"""Columns of `Replay.modes`."""
_MOST_TRIALS = 2000


def noted(batches: Iterable[EventBatch], cells: CellCounter, since: np.datetime64 | None) -> Iterator[EventBatch]:
    """Passes batches on, and notes the cells of what was not before `since`."""
    for batch in batches:
        cells.take(batch if since is None else batch[~(batch.time < since)])
        yield batch


def modes_of_pages(faults: Sequence[Fault], cells: Cells, numbers: I64, page_bytes: int) -> dict[tuple[int, int], int]:
    """Mode of each page with an error, by host and page; of several faults of a page that with the most cells.

    Args:
        numbers: int64[n_hosts], what each host of `cells` is called in the result.

    Returns:
        Places in `MODES`.
    """
    found: dict[tuple[int, int], int] = {}
    addresses, number = cells.column("address"), numbers.tolist()
    for fault in sorted(faults, key=lambda fault: fault.n_cells):
        at, mode = addresses[fault.where], MODES.index(fault.mode)
        for page in np.unique(at[at >= 0] // page_bytes).tolist():
            found[number[fault.host], page] = mode
    return found


def modes_at(pages: Mapping[tuple[int, int], int], host: I64, address: I64, page_bytes: int) -> NDArray[np.uint8]:
    """Mode of errors at addresses of hosts, uint8[n]; `NO_MODE` where nothing is known.

    Examples:
        >>> modes_at({(7, 1): 2}, np.array([7, 7]), np.array([4096, -1]), 4096).tolist()
        [2, 255]
    """
    places = zip(host.tolist(), (address // page_bytes).tolist(), strict=True)
    return np.array([pages.get(place, NO_MODE) for place in places], np.uint8)


def modes_table(faults: Sequence[Fault], histories: Sequence[History], imputations: int) -> pd.DataFrame:
    """`MODE_COLUMNS` of every mode that has a fault or an error."""
    ues, ces = np.zeros(NO_MODE + 1), np.zeros(NO_MODE + 1)
    for history in histories:
        corrected = history.corrected == 1
        ues += np.bincount(history.mode[~corrected], minlength=len(ues))
        ces += np.bincount(history.mode[corrected], minlength=len(ces))
    rows = []
    for place, mode in [*enumerate(MODES), (NO_MODE, UNKNOWN)]:
        own = [fault for fault in faults if fault.mode == mode]
        if own or ues[place] or ces[place]:
            rows.append((
                mode, len(own), len({fault.host for fault in own}), sum(fault.n_errors for fault in own),
                ues[place] / imputations, ces[place] / imputations,
            ))  # fmt: skip
    return pd.DataFrame(rows, columns=list(MODE_COLUMNS))


def shares_by_mode(
    plan: Plan, histories: Sequence[History], n_hosts: int, imputations: int
) -> dict[str, dict[str, Estimate]]:
    """Share of the guest memory lost on all hosts that is from faults of each mode, by policy.

    The lowest and the highest are of imputations, of which the first few are followed where hosts are many. A policy
    that loses nothing is left out.
    """
    n_followed = min(imputations, max(_MOST_TRIALS // n_hosts, 1))
    found = {}
    for policy in plan.policies:
        lost = np.zeros((n_followed, len(MODES) + 1))
        for history in histories:
            draw = np.arange(len(history.trial)) % imputations
            followed = _only(history, draw < n_followed)
            np.add.at(lost, draw[draw < n_followed], pages_lost_by_mode(plan, policy, followed))
        lost = lost[lost.sum(axis=1) > 0]
        if len(lost):
            share = lost / lost.sum(axis=1, keepdims=True)
            found[policy.label] = {
                mode: Estimate(float(own.min()), float(own.mean()), float(own.max()), "1")
                for mode, own in zip((*MODES, UNKNOWN), share.T, strict=True) if own.any()
            }  # fmt: skip
    return found


def _only(history: History, kept: NDArray[np.bool_]) -> History:
    """Some of the trials of a history."""
    n_events = np.diff(history.start)
    start = np.concatenate(([0], np.cumsum(n_events[kept])))
    return history.cut(history.trial[kept], history.stratum[kept], start, np.repeat(kept, n_events))
