"""Uncorrected errors of a log placed in their hosts' memory: each page once, and what is not known as a range.

An error has a range of addresses and a range of times. A known page is a range of one base page; an error of which only
the number is known can be anywhere in its host's memory. What draws from the ranges is `poisonsim.replaying.replay`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from poisonsim.errors import LogError
from poisonsim.logs.codes import FoundBy, Kind, Severity
from poisonsim.logs.events import I64, EventBatch
from poisonsim.logs.gather import Gathered
from poisonsim.units import GIB

MOST_COUNTED = 100_000
"""So many errors without an address are placed for one host; a counter that says more is taken for broken."""
SAME_ERROR_US = 60_000_000
"""A UE without an address is that of a page the same host poisoned no longer than this before or after."""


@dataclass(frozen=True)
class Placed:
    """Uncorrected errors of hosts, sorted by host; each array has one entry per error.

    Args:
        host: Number of the host, int64[n].
        low: First byte of the range of physical addresses it lies in, int64[n].
        span: Bytes of that range, int64[n]; one base page where the page is known; 0 where nothing is.
        begin, end: Microseconds since 1970 between which it happened, int64[n]; equal where the time is known.
        ar: 1 action required, 0 action optional, -1 unknown, int8[n].
        n_again: Per host: errors of a page that was poisoned already, or told of twice.
        n_fatal: Per host: errors that took the host down.
    """

    host: I64
    low: I64
    span: I64
    begin: I64
    end: I64
    ar: Any
    n_again: I64
    n_fatal: I64


def place(gathered: Gathered, *, page_bytes: int, end: int) -> Placed:
    """The uncorrected errors of a log, each once.

    Errors of one page are one: the first. A UE without an address within a minute of a page that the kernel poisoned
    on the same host is that page's. Counters count only what goes beyond the errors that the log tells one by one, and
    of several readings of a counter the highest.

    Args:
        end: Until when errors without a time may have happened, microseconds since 1970.

    Raises:
        LogError: A counter of more errors than can be.

    Examples:
        >>> batch = EventBatch.of(kind=Kind.UE, address=[4096, 4160, -1], host=0, time=np.datetime64(9, "us"))
        >>> found = Gathered(batch, None, np.zeros((5, 1), int), 9, 9, np.array([0]))
        >>> placed = place(found, page_bytes=4096, end=9)
        >>> placed.low.tolist(), placed.span.tolist(), placed.n_again.tolist()
        ([4096, 0], [4096, 0], [1])
    """
    events, n_hosts = gathered.errors, gathered.by_kind.shape[1]
    begin_all = gathered.first if gathered.first is not None else end
    n_again, n_fatal = np.zeros(n_hosts, np.int64), np.zeros(n_hosts, np.int64)
    told, counted = events[~events.is_counter], events[events.is_counter]
    np.add.at(n_fatal, told.host[told.severity == Severity.FATAL], 1)

    at = told[told.address >= 0]
    pages = _distinct(at, page_bytes)
    np.add.at(n_again, pages.host, pages.n_more)
    nowhere = told[told.address < 0]
    left = _unmatched(nowhere, at[at.kind == Kind.POISON])
    np.add.at(n_again, nowhere.host, nowhere.count - left)

    when = np.repeat(nowhere.time.astype(np.int64), left)
    none = np.zeros(int(left.sum()), np.int64)
    host = [pages.host, np.repeat(nowhere.host.astype(np.int64), left)]
    low, span, ar = [pages.low, none], [pages.span, none], [pages.ar, np.repeat(_ar(nowhere), left)]
    begin = [np.where(time == _NEVER, begin_all, time) for time in (pages.time, when)]
    until = [np.where(time == _NEVER, end, time) for time in (pages.time, when)]

    known = np.bincount(np.concatenate(host), minlength=n_hosts)
    for number, extra, since, to in _counted(counted, known, begin_all, end):
        host.append(np.full(extra, number))
        low.append(np.zeros(extra, np.int64))
        span.append(np.zeros(extra, np.int64))
        begin.append(np.full(extra, since))
        until.append(np.full(extra, to))
        ar.append(np.full(extra, -1, np.int8))
    columns = [np.concatenate(parts) for parts in (host, low, span, begin, until, ar)]
    order = np.lexsort((columns[3], columns[0]))
    n_nowhere = np.bincount(columns[0][columns[2] == 0], minlength=n_hosts)
    if (n_nowhere > MOST_COUNTED).any():
        raise LogError(
            f"logs: {int(n_nowhere.max()):,} uncorrected errors without an address on one host are more than "
            f"{MOST_COUNTED:,}; leave that log out, or replay without such errors: --impute none"
        )
    hosts, lows, spans, begins, ends, found = (column[order] for column in columns)
    return Placed(hosts, lows, spans, begins, ends, found, n_again, n_fatal)


_NEVER = np.iinfo(np.int64).min  # what NaT is as a number


def _ar(events: EventBatch) -> Any:
    by_severity = np.where(events.severity >= 0, np.minimum(events.severity, 1), -1)
    by_access = np.where(events.found_by == FoundBy.SCRUB, 0, np.where(events.found_by >= 0, 1, -1))
    return np.where(by_severity >= 0, by_severity, by_access).astype(np.int8)


class _Pages(NamedTuple):
    """Pages or coarser ranges with errors, each once: the earliest, and how many more there were."""

    host: I64
    low: I64
    span: I64
    time: I64
    ar: Any
    n_more: I64


def _distinct(at: EventBatch, page_bytes: int) -> _Pages:
    """The pages of errors whose address is known; who found one is as the earliest says, or any of them."""
    span = np.maximum(page_bytes, at.grain_bytes)
    low = at.address // span * span
    time, ar = at.time.astype(np.int64), _ar(at)
    early = np.where(time == _NEVER, np.iinfo(np.int64).max, time)
    order = np.lexsort((early, span, low, at.host))
    host, low, span = at.host[order].astype(np.int64), low[order], span[order]
    fresh = np.ones(len(order), np.bool_)
    fresh[1:] = (np.diff(host) != 0) | (np.diff(low) != 0) | (np.diff(span) != 0)
    first = np.flatnonzero(fresh)
    if not len(first):
        return _Pages(host, low, span, time, ar, host)
    said, n_errors = np.maximum.reduceat(ar[order], first), np.add.reduceat(at.count[order], first)
    found = ar[order][first]
    return _Pages(
        host[first], low[first], span[first], time[order][first], np.where(found >= 0, found, said),
        np.maximum(n_errors - 1, 0),
    )  # fmt: skip


def _unmatched(nowhere: EventBatch, notices: EventBatch) -> I64:
    """How many errors of each UE without an address are not those of a page poisoned about then: int64[n]."""
    left = np.maximum(nowhere.count, 0).astype(np.int64)
    open_notices: dict[int, list[int]] = {}
    for host, time in zip(notices.host.tolist(), notices.time.astype(np.int64).tolist(), strict=True):
        if time != _NEVER:
            open_notices.setdefault(host, []).append(time)
    for i, (host, time) in enumerate(zip(nowhere.host.tolist(), nowhere.time.astype(np.int64).tolist(), strict=True)):
        if time == _NEVER or host not in open_notices:
            continue
        near = [notice for notice in open_notices[host] if abs(notice - time) <= SAME_ERROR_US]
        for notice in near[: int(left[i])]:
            open_notices[host].remove(notice)
            left[i] -= 1
    return left


def _counted(counted: EventBatch, known: I64, begin: int, end: int) -> list[tuple[int, int, int, int]]:
    """What counters say beyond the errors told one by one: host, how many, and between which times."""
    if not len(counted):
        return []
    frame = counted.to_frame()[["kind", "outcome", "socket", "mc", "channel", "slot", "label"]]
    frame = frame.assign(host=counted.host, count=counted.count)
    highest = frame.groupby([name for name in frame if name != "count"], observed=True)["count"].max()
    totals = highest.groupby(["host", "kind"], observed=True).sum().groupby("host").max()
    found = []
    for host, total in totals.items():
        of = counted[counted.host == host]
        extra = int(total) - int(known[int(host)])
        if extra > MOST_COUNTED:
            raise LogError(
                f"logs: a counter says {int(total):,} uncorrected errors of one host, more than {MOST_COUNTED:,}; "
                "leave that log out, or replay without errors that have no address: --impute none"
            )
        if extra > 0:
            times = of.time[~np.isnat(of.time)].astype(np.int64)
            to = int(times.max()) if len(times) else end
            aged = of.span_s[of.span_s > 0]
            since = to - int(aged.max()) * 1_000_000 if len(aged) == len(of) else begin
            found.append((int(host), extra, max(min(since, to), begin), to))
    return found


def memory_of(largest: int, *, base: int, vm_bytes: int, given: int | None) -> int:
    """Bytes of a host's memory as its addresses run: what is given, else up to the largest address seen, in whole GiB.

    Examples:
        >>> memory_of(5 << 30, base=0, vm_bytes=1 << 30, given=None) >> 30, memory_of(-1, base=0, vm_bytes=7, given=9)
        (6, 9)
    """
    return given if given is not None else max((largest // GIB + 1) * GIB, base + vm_bytes)
