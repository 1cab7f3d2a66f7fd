"""Histories of the hosts of a log: its errors as base pages of the VM on each host, drawn where the log says less."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from poisonsim.faults.history import History
from poisonsim.faults.streams import Purpose, stream
from poisonsim.logs.gather import Corrected, Gathered
from poisonsim.logs.placing import Placed, memory_of
from poisonsim.replaying.modes import modes_at

I64 = NDArray[np.int64]

US_PER_YEAR = 365.25 * 86_400 * 1e6
_ERRORS_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Memory:
    """Which addresses of a host back its VM.

    Args:
        base: First physical address that does, in bytes.
        vm_bytes: Memory of the VM, which lies in one piece.
        page_bytes: Size of a base page.
        region_bytes: Size of a backing page.
        given: Bytes of each host's memory as its addresses run; None for up to the largest address seen.
    """

    base: int
    vm_bytes: int
    page_bytes: int
    region_bytes: int
    given: int | None

    def page(self, address: I64) -> I64:
        """Base page of the VM that an address backs, int64[n]; -1 outside.

        Examples:
            >>> Memory(1 << 30, 1 << 30, 4096, 1 << 30, None).page(np.array([0, (1 << 30) + 8191, 2 << 30])).tolist()
            [-1, 1, -1]
        """
        inside = (address >= self.base) & (address < self.base + self.vm_bytes)
        page: I64 = np.where(inside, (address - self.base) // self.page_bytes, -1)
        return page


class Chunk(NamedTuple):
    """Some hosts' histories, `imputations` trials for each host, one host after the other.

    Attributes:
        hosts: Their places among the hosts of the log.
        history: As the engine takes it.
        counts: By name float64[n_hosts, imputations]: `placed`, `outside`, `beyond`, `passed`.
    """

    hosts: I64
    history: History
    counts: dict[str, Any]


def histories_of(
    gathered: Gathered, placed: Placed, passed: Corrected, memory: Memory, modes: Mapping[tuple[int, int], int], *,
    start: int, years: float, imputations: int, impute: str, p_ar: float, seed: int,
) -> Iterator[Chunk]:  # fmt: skip
    """The histories of all hosts, a few hosts at a time; each host's own depend on its place in the log and the seed.

    Args:
        passed: Pages whose corrected errors passed the threshold.
        modes: Fault modes by host and page, as `modes_of_pages` finds them.
        start: Where time begins, microseconds since 1970.
        years: How long the VMs are watched.
        impute: Where errors without an address go: `uniform`, `known` or `none`.
        p_ar: Probability that an error of which this is unknown was found by a read.
    """
    hosts = gathered.hosts
    first = np.searchsorted(placed.host, hosts)
    past = np.searchsorted(placed.host, hosts, side="right")
    order = np.argsort(passed.host, kind="stable")
    passed = Corrected(*(column[order] for column in passed))
    n_each = (past - first + 1) * imputations
    at = 0
    while at < len(hosts):
        size = max(int(np.searchsorted(np.cumsum(n_each[at:]), _ERRORS_AT_ONCE, side="right")), 1)
        some = np.arange(at, min(at + size, len(hosts)))
        drawn = [
            _host(modes, placed, int(first[i]), int(past[i]), memory, int(gathered.largest[hosts[i]]), impute, p_ar,
                  imputations, stream(seed, Purpose.GEOMETRY, int(i)))
            for i in some
        ]  # fmt: skip
        yield _chunk(some, hosts, drawn, passed, memory, modes, start, years, imputations)
        at += len(some)


class _Drawn(NamedTuple):
    """One host's errors, [imputations, n_errors] each.

    Attributes:
        address: -1 where not placed.
        time: Microseconds since 1970.
        ar: Found by a read, or the patrol.
        fate: As in `History`.
        mode: As in `History`.
    """

    address: I64
    time: I64
    ar: Any
    fate: Any
    mode: Any
    n_beyond: int


def _host(
    modes: Mapping[tuple[int, int], int], placed: Placed, first: int, past: int, memory: Memory, largest: int,
    impute: str, p_ar: float, n: int, rng: np.random.Generator,
) -> _Drawn:  # fmt: skip
    of = slice(first, past)
    low, span, shape = placed.low[of].copy(), placed.span[of].copy(), (n, past - first)
    where, when, found, fate = (rng.random(shape) for _ in range(4))
    n_bytes = memory_of(largest, base=memory.base, vm_bytes=memory.vm_bytes, given=memory.given)
    beyond = low >= n_bytes
    unknown = span == 0
    span[unknown] = n_bytes
    address = low + (where * (span // memory.page_bytes)).astype(np.int64) * memory.page_bytes
    bad = np.unique(low[~unknown & ~beyond] // memory.region_bytes)
    if impute == "known" and len(bad):
        in_region = where * memory.region_bytes // memory.page_bytes * memory.page_bytes
        region = rng.choice(bad, size=shape) * memory.region_bytes
        address = np.where(unknown, region + in_region.astype(np.int64), address)
    if impute == "none":
        address = np.where(unknown, -1, address)
    address = np.where(beyond, -1, address)
    time = placed.begin[of] + (when * (placed.end[of] - placed.begin[of])).astype(np.int64)
    ar = np.where(placed.ar[of] >= 0, placed.ar[of], found < p_ar).astype(np.uint8)
    known = np.where(unknown | beyond, -1, placed.low[of])
    mode = np.broadcast_to(modes_at(modes, placed.host[of], known, memory.page_bytes), shape)
    return _Drawn(address, time, ar, fate, mode, int(beyond.sum()))


def _chunk(
    some: I64, hosts: I64, drawn: list[_Drawn], passed: Corrected, memory: Memory,
    modes: Mapping[tuple[int, int], int], start: int, years: float, n: int,
) -> Chunk:  # fmt: skip
    owner = np.concatenate(
        [np.repeat(np.arange(n), d.address.shape[1]) + k * n for k, d in enumerate(drawn)] or [np.zeros(0, np.int64)]
    )
    address, time, ar, fate, mode = (
        np.concatenate([getattr(d, name).ravel() for d in drawn]) for name in ("address", "time", "ar", "fate", "mode")
    )
    page, when = memory.page(address), (time - start) / US_PER_YEAR
    in_time = (when >= 0) & (when <= years)
    inside = (page >= 0) & in_time
    counts = {
        "placed": _by_trial(owner[inside], len(some), n),
        "outside": _by_trial(owner[(page < 0) & (address >= 0)], len(some), n),
        "beyond": np.repeat([[float(d.n_beyond)] for d in drawn], n, axis=1),
    }
    mine = np.isin(passed.host, hosts[some])
    ce_page = memory.page(passed.page[mine] * memory.page_bytes)
    ce_years = (passed.second[mine] * 1e6 - start) / US_PER_YEAR
    kept = (ce_page >= 0) & (ce_years >= 0) & (ce_years <= years)
    ce_host = np.searchsorted(hosts[some], passed.host[mine][kept])
    ce_mode = modes_at(modes, passed.host[mine][kept], passed.page[mine][kept], 1)
    ce_owner = np.add.outer(ce_host * n, np.arange(n)).ravel()
    counts["passed"] = _by_trial(ce_owner, len(some), n)
    ce_page, ce_years, ce_mode = (np.repeat(of, n) for of in (ce_page[kept], ce_years[kept], ce_mode))

    owners, all_years = np.concatenate((owner[inside], ce_owner)), np.concatenate((when[inside], ce_years))
    order = np.lexsort((all_years, owners))
    n_ces, n_trials = len(ce_owner), len(some) * n

    def both(errors: Any, others: Any, dtype: Any) -> Any:
        return np.concatenate((errors, np.full(n_ces, others) if np.isscalar(others) else others)).astype(dtype)[order]

    history = History(
        np.arange(n_trials), np.zeros(n_trials, np.int64),
        np.searchsorted(owners[order], np.arange(n_trials + 1)).astype(np.int64),
        both(page[inside], ce_page, np.int64), all_years[order],
        np.zeros(len(order)),  # all of this host's DRAM: what has moved away is out of its reach
        both(fate[inside], 1.0, np.float64), both(ar[inside], 0, np.uint8), both(mode[inside], ce_mode, np.uint8),
        both(np.zeros(int(inside.sum())), 1, np.uint8),
    )  # fmt: skip
    return Chunk(some, history, counts)


def _by_trial(owner: I64, n_hosts: int, n: int) -> Any:
    return np.bincount(owner, minlength=n_hosts * n).reshape(n_hosts, n).astype(float)
