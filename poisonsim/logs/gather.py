"""What of a log a replay needs: every uncorrected error and poisoned page, and corrected errors as page and second."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from poisonsim.errors import LogError, did_you_mean, shown
from poisonsim.logs.codes import Kind
from poisonsim.logs.events import I64, EventBatch

_SECOND = 1_000_000


class Corrected(NamedTuple):
    """Corrected errors whose page and time are known: host int32[n], page, second since 1970
    and how many errors int64[n]."""

    host: I64
    page: I64
    second: I64
    errors: I64


@dataclass
class Gathered:
    """The events of a log that matter to a replay.

    Args:
        errors: UEs and newly poisoned pages, as events at a moment and as counters.
        corrected: Corrected errors that can be counted page by page.
        by_kind: Events of each kind, int64[n_kinds, n_hosts]: counts, not rows.
        first, last: Earliest and latest time of any event, microseconds since 1970; `None` if none has a time.
        hosts: Numbers of the hosts that have events, ascending.
        n_early: Events before `since`, which are left out.
        largest: Largest address of each host, int64[n_hosts]; -1 if none is known.
    """

    errors: EventBatch
    corrected: Corrected
    by_kind: I64
    first: int | None
    last: int | None
    hosts: I64
    n_early: int = 0
    largest: I64 = field(default_factory=lambda: np.zeros(0, np.int64))

    def renumbered(self, order: I64) -> Gathered:
        """The same with other numbers of hosts: `order` has the old ones in their new order, and none but these."""
        new = np.full(self.by_kind.shape[1], -1)
        new[order] = np.arange(len(order))
        return replace(
            self, errors=replace(self.errors, host=new[self.errors.host].astype(np.int32)),
            corrected=self.corrected._replace(host=new[self.corrected.host]), by_kind=self.by_kind[:, order],
            hosts=np.arange(len(order)), largest=self.largest[order],
        )  # fmt: skip


def gather(
    batches: Iterable[EventBatch], *, page_bytes: int, since: np.datetime64 | None = None, hosts: Collection[str] = ()
) -> Gathered:
    """Takes the batches of a reading, and keeps what a replay needs.

    Args:
        page_bytes: Size of a base page, by which corrected errors are counted.
        since: Leave out what happened before, UTC.
        hosts: Names of the hosts to keep; none is all of them.

    Raises:
        LogError: No event at all, none since then, or a host that the log does not name.

    Examples:
        >>> batch = EventBatch.of(kind=[Kind.CE, Kind.UE], address=[4096, 8192], host=0, time=np.datetime64(0, "us"))
        >>> batch.hosts.number("a")
        0
        >>> found = gather([batch], page_bytes=4096)
        >>> len(found.errors), found.corrected.page.tolist(), found.by_kind[:2].tolist()
        (1, [1], [[1], [1]])
    """
    errors: list[EventBatch] = []
    corrected: list[Corrected] = []
    by_kind = np.zeros((len(Kind), 0), np.int64)
    largest = np.zeros(0, np.int64)
    first: int | None = None
    last: int | None = None
    latest, n_early, n_events = np.datetime64("NaT", "us"), 0, 0
    names = None
    for batch in batches:
        names = batch.hosts
        n_events += len(batch)
        if hosts:
            wanted = [number for number, name in enumerate(names.all()) if name in hosts]
            batch = batch[np.isin(batch.host, wanted)]
        if since is not None and len(batch):
            latest = np.fmax(latest, batch.time.max() if not np.isnat(batch.time).all() else latest)
            early = batch.time < since
            n_early += int(early.sum())
            batch = batch[~early]
        if not len(batch):
            continue
        n_hosts = max(len(names), by_kind.shape[1])
        by_kind = np.pad(by_kind, ((0, 0), (0, n_hosts - by_kind.shape[1])))
        largest = np.pad(largest, (0, n_hosts - len(largest)), constant_values=-1)
        np.add.at(by_kind, (batch.kind, batch.host), np.maximum(batch.count, 0))
        np.maximum.at(largest, batch.host, batch.address)
        known = ~np.isnat(batch.time)
        microseconds = batch.time.astype(np.int64)
        if known.any():
            ends = int(microseconds[known].min()), int(microseconds[known].max())
            first, last = min(first or ends[0], ends[0]), max(last or ends[1], ends[1])
        chosen = ((batch.kind == Kind.UE) | batch.new_poison) & (batch.count > 0)
        if chosen.any():
            errors.append(batch[chosen])
        page_known = (batch.address >= 0) & (batch.grain_bytes <= page_bytes) & ~batch.is_counter & known
        ces = page_known & (batch.kind == Kind.CE) & (batch.count > 0)
        if ces.any():
            corrected.append(Corrected(
                batch.host[ces], batch.address[ces] // page_bytes, microseconds[ces] // _SECOND, batch.count[ces]
            ))  # fmt: skip
    if names is None or not n_events:
        raise LogError("logs: hold no event that can be read; see what was read with --format, or name other files")
    known_names = names.all()
    if unknown := [name for name in hosts if name not in known_names]:
        some = ", ".join(known_names[:10]) + (", …" if len(known_names) > 10 else "")
        raise LogError(
            [f"host: {shown(name)} is not in the log{did_you_mean(name, known_names)}; it names {some}"
             for name in unknown]
        )  # fmt: skip
    if not by_kind.sum():
        if since is not None:
            last_one = "" if np.isnat(latest) else f", the last of which was at {latest.astype('M8[s]')}"
            raise LogError(f"since: {since} is after all {n_events:,} events{last_one}; give an earlier time")
        raise LogError("logs: hold no event of these hosts; name others, or leave --host out")
    empty = np.zeros(0, np.int64)
    joined = Corrected(*(np.concatenate([getattr(c, n) for c in corrected] or [empty]) for n in Corrected._fields))
    present = np.flatnonzero(by_kind.sum(axis=0))
    kept = EventBatch.concat(errors) if errors else EventBatch.empty()
    return Gathered(kept, joined, by_kind, first, last, present, n_early, largest)


def passed_threshold(corrected: Corrected, *, ces: int, window_s: float) -> Corrected:
    """The pages whose corrected errors passed a threshold, and when they first did.

    Args:
        ces: Errors that set it off.
        window_s: Seconds within which they must come; infinite where they never expire.

    Examples:
        >>> seen = Corrected(*np.array([[0, 0, 0, 0], [7, 7, 7, 9], [0, 90_000, 90_100, 5], [1, 1, 1, 1]]))
        >>> passed_threshold(seen, ces=2, window_s=86_400.0).second.tolist()
        [90100]
        >>> passed_threshold(seen, ces=2, window_s=np.inf).second.tolist()
        [90000]
    """
    if not len(corrected.page):
        return corrected
    order = np.lexsort((corrected.second, corrected.page, corrected.host))
    host, page, second, count = (column[order] for column in corrected)
    fresh = np.append(True, (np.diff(host) != 0) | (np.diff(page) != 0))
    group = np.cumsum(fresh) - 1
    since = second - second.min()
    width = int(since.max()) + 2  # of one page's seconds, so that the pages' do not overlap
    at = group * width + since
    begin = np.searchsorted(at, group * width + np.maximum(since - min(window_s, width), 0).astype(np.int64))
    total = np.append(0, np.cumsum(count))
    passed = np.flatnonzero(total[1:] - total[begin] >= ces)
    _, earliest = np.unique(group[passed], return_index=True)
    which = passed[earliest]
    return Corrected(host[which], page[which], second[which], count[which])
