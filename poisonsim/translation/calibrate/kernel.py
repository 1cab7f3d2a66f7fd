"""The running kernel's own counters against our arithmetic, byte for byte.

Real memory is mapped as each policy would leave 1 GiB of it. Mainline cannot split a hugetlb page, so a region mapped
in pieces is put together from pages of these sizes: the page tables do not know the difference.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poisonsim.errors import MachineError
from poisonsim.memory import hvo_saved_bytes, ladder, process_table_bytes, split_cost
from poisonsim.units import GIB, KIB, page_bytes

from .areas import require_free, require_memory
from .counters import parse_counters, parse_vmstat, read_text
from .pool import Change, MorePages, Pool, Setting, while_changed
from .probe import Segment

ARCH = "x86-64"
HVO_SETTING = Path("/proc/sys/vm/hugetlb_optimize_vmemmap")
"""Whether the kernel optimises the memory map of huge pages that come into the pool."""

_TABLE_BYTES = page_bytes("4K")
_BASE, _MIDDLE = page_bytes("4K"), page_bytes("2M")
_SECONDS = 180
# Huge pages added to see what HVO saves, by size.
_HVO_PAGES = {"1G": 1, "2M": 64}

Notice = Callable[[str], None]


@dataclass(frozen=True)
class Case:
    """Memory mapped in one way, and the page tables that it takes by our arithmetic.

    Attributes:
        what: The mapping in words.
        policies: Policies that leave memory so; empty for a control.
        segments: How it is mapped.
        expected_bytes: Page tables beyond the first one of a fresh stretch of address space.
        rule: Where the number comes from.

    Examples:
        >>> [case.expected_bytes for case in cases()][:4]
        [0, 8192, 16384, 2101248]
    """

    what: str
    policies: str
    segments: tuple[Segment, ...]
    expected_bytes: int
    rule: str


@dataclass(frozen=True)
class Check:
    """One number of ours beside the kernel's.

    Attributes:
        what: What was mapped or done.
        policies: Policies that leave memory so.
        counter: The kernel's counter.
        expected_bytes: Our number.
        measured_bytes: The kernel's; None where it could not be had.
        why: Why not, and what would help; or where our number comes from.
        exact: Whether the two must be equal; a rough figure is shown and not judged.

    Examples:
        >>> Check("1G", "", "VmPTE", 0, 4096, "").verdict
        'differs'
    """

    what: str
    policies: str
    counter: str
    expected_bytes: int
    measured_bytes: int | None
    why: str
    exact: bool = True

    @property
    def verdict(self) -> str:
        """`agrees`, `differs`, `rough` or `not checked`."""
        if self.measured_bytes is None:
            return "not checked"
        if not self.exact:
            return "rough"
        return "agrees" if self.measured_bytes == self.expected_bytes else "differs"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**vars(self), "verdict": self.verdict}


def cases() -> list[Case]:
    """Every mapping that is tried, 1 GiB of guest memory each.

    Examples:
        >>> [case.policies for case in cases()][1]
        'hgm2m'
    """
    rungs = ladder(ARCH)
    to_2m, to_4k = (process_table_bytes(rungs, rungs.table_pages(0, level)) for level in (1, 2))
    split = {n: split_cost(arch=ARCH, leaf="1G", path=("2M", "4K"), poisons=n).process_bytes for n in (1, 3)}
    all_4k = split_cost(arch=ARCH, leaf="1G", path=("4K",)).process_bytes
    hole = Segment("hole", _BASE)
    broken_2m = (hole, Segment("4K", _MIDDLE - _BASE))
    return [
        Case("one 1G leaf", "unmap1g elsewhere, migrate1g", (Segment("1G", GIB),), 0, "no table below a 1G leaf"),
        Case(
            "2M and 4K leaves, 1 poison", "hgm2m", (*broken_2m, Segment("2M", GIB - _MIDDLE)), split[1],
            "split_cost 1G > 2M > 4K",
        ),
        Case(
            "2M and 4K leaves, 3 poisons", "hgm2m", (*broken_2m * 3, Segment("2M", GIB - 3 * _MIDDLE)), split[3],
            "split_cost 1G > 2M > 4K, 3 poisons",
        ),
        Case("4K leaves, 1 poison", "hgm4k", (hole, Segment("4K", GIB - _BASE)), all_4k, "split_cost 1G > 4K"),
        Case("2M leaves", "backing 2M", (Segment("2M", GIB),), to_2m, "ladder.table_pages 1G > 2M"),
        Case("4K leaves", "", (Segment("4K", GIB),), to_4k, "ladder.table_pages 1G > 4K"),
        Case(
            "anonymous THP, 2M leaves", "", (Segment("thp", GIB),), to_4k,
            "control: a table of 4K entries is kept for each THP, so it costs what 4K leaves do",
        ),
        Case(
            "shmem THP, 2M leaves", "", (Segment("shmem-thp", GIB),), to_2m,
            "control: no such tables are kept in shared memory",
        ),
    ]  # fmt: skip


Probe = Callable[[Sequence[Segment]], dict[str, Any]]


def run_probe(segments: Sequence[Segment]) -> dict[str, Any]:
    """What a fresh process finds for a mapping: `{"table_bytes": n}` or `{"refused": "why"}`.

    Raises:
        MachineError: The process could not be run or ended otherwise, as by the out-of-memory killer.
    """
    command = [sys.executable, "-P", "-m", "poisonsim.translation.calibrate.probe", json.dumps(segments)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MachineError(f"the process that maps it could not be run ({error})") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise MachineError(f"the process that maps it ended early ({last})")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def verify_kernel(
    *,
    reserve: bool = False,
    notice: Notice | None = None,
    pool: Pool | None = None,
    hvo_setting: Path = HVO_SETTING,
    probe: Probe = run_probe,
    settle_seconds: float = 0.5,
) -> list[Check]:
    """Every check that this machine allows, and the others with the reason.

    Args:
        reserve: Whether the kernel's pool of huge pages may be grown and HVO switched meanwhile; both are set back.
        notice: Is told what goes on, one line at a time.
        pool: Pools of huge pages; the kernel's by default.
        hvo_setting: File that switches HVO.
        probe: Maps the segments of a case.
        settle_seconds: Wait before free memory is read, which goes on changing after memory is unmapped.

    Raises:
        MachineError: Not an x86-64 Linux, or no permission to reserve.
    """
    tell = notice or (lambda _: None)
    if platform.machine() != "x86_64":
        raise MachineError(f"--kernel: {platform.machine()} is not checked yet; run it on an x86-64 Linux")
    pool = pool or Pool()
    checks = []
    for case in cases():
        tell(f"mapping 1 GiB: {case.what}")
        checks.append(_check_case(case, reserve, pool, probe))
    for size in _HVO_PAGES:
        checks += _check_hvo(size, reserve, pool, hvo_setting, settle_seconds, tell)
    return checks


def _check_case(case: Case, reserve: bool, pool: Pool, probe: Probe) -> Check:
    def check(measured: int | None, why: str) -> Check:
        return Check(case.what, case.policies, "VmPTE", case.expected_bytes, measured, why)

    needed = {
        size: sum(segment.size_bytes for segment in case.segments if segment.kind == size) for size in ("1G", "2M")
    }
    changes = [
        MorePages(pool, size, more)
        for size, size_bytes in (needed.items() if reserve else ())
        if (state := pool.state(size)) is not None and (more := size_bytes // page_bytes(size) - state.usable) > 0
    ]

    def measure() -> dict[str, Any]:
        for size, size_bytes in needed.items():
            if size_bytes:
                require_free(size, size_bytes, pool, grown=reserve)
        return probe(case.segments)

    in_pool_bytes = sum(needed.values())
    grown_bytes = sum(change.n * page_bytes(change.size) for change in changes)
    taken_bytes = sum(segment.size_bytes for segment in case.segments) - in_pool_bytes + grown_bytes
    try:
        require_memory(taken_bytes, "1 GiB to map")
        found = while_changed(changes, measure)
    except MachineError as error:
        if any("could not be undone" in problem for problem in error.problems):
            raise
        return check(None, "; ".join(error.problems))
    if "refused" in found:
        return check(None, f"{found['refused']}{_help(case)}")
    # The first table of the fresh address space is not the case's: it holds the 1G entries.
    return check(found["table_bytes"] - _TABLE_BYTES, case.rule)


def _help(case: Case) -> str:
    kinds = {segment.kind for segment in case.segments}
    folder = "/sys/kernel/mm/transparent_hugepage"
    if "thp" in kinds:
        return f"; allow them: echo madvise | sudo tee {folder}/enabled"
    if "shmem-thp" in kinds:
        return f"; allow them: echo advise | sudo tee {folder}/shmem_enabled"
    return ""


def _check_hvo(size: str, reserve: bool, pool: Pool, setting: Path, settle_seconds: float, tell: Notice) -> list[Check]:
    """What the memory map shrinks by when pages come into the pool with HVO, and that it does not without."""
    n = _HVO_PAGES[size]
    checks = []
    for on in (True, False):
        what = f"{n} more {size} page{'s' if n > 1 else ''} in the pool, HVO {'on' if on else 'off'}"
        expected = -n * hvo_saved_bytes(ARCH, size) if on else 0
        rule = "hvo_saved_bytes" if on else "control: the memory map stays whole"
        measured, free, why = None, None, ""
        if not reserve:
            why = (
                f"changes the pool: add --reserve as root; by hand: compare nr_memmap_boot_pages + nr_memmap_pages of "
                f"/proc/vmstat around: echo {int(on)} | sudo tee {setting}; {pool.command(size, n)}"
            )
        else:
            tell(f"pool: {what}; set back at the end")
            try:
                measured, free = _memmap_change(size, n, on, pool, setting, settle_seconds)
            except MachineError as error:
                if any("could not be undone" in problem for problem in error.problems):
                    raise
                why = "; ".join(error.problems)
        policies = "every policy that keeps HVO" if on else ""
        checks.append(Check(what, policies, "memmap pages", expected, measured, why or rule))
        if measured is not None and size == "1G":
            taken = -(n * page_bytes(size) + expected)
            checks.append(Check(what, policies, "MemFree", taken, free, "rough: pages lie on per-CPU lists", False))
    return checks


def _memmap_change(size: str, n: int, on: bool, pool: Pool, setting: Path, settle_seconds: float) -> tuple[int, int]:
    """Change of the memory map and of free memory, bytes, when n pages come into the pool."""
    switch = Setting(setting, int(on))
    growth = MorePages(pool, size, n)
    changes: list[Change] = [] if switch.before == int(on) else [switch]
    require_memory(n * page_bytes(size), f"{n} {size} pages")

    def measure() -> tuple[int, int]:
        time.sleep(settle_seconds)
        memmap, free = _memmap_bytes(), _free_bytes()

        def grown() -> tuple[int, int]:
            state = pool.state(size)
            if state is None or state.total != growth.before + n:
                raise MachineError(f"{size} huge pages: the kernel found no room for {n} more; free some memory")
            return _memmap_bytes() - memmap, _free_bytes() - free

        return while_changed([growth], grown)

    return while_changed(changes, measure)


def _memmap_bytes() -> int:
    counters = parse_vmstat(read_text(Path("/proc/vmstat")))
    if "nr_memmap_boot_pages" not in counters:
        raise MachineError("/proc/vmstat has no nr_memmap_boot_pages: it needs Linux 6.11 or later")
    return (counters["nr_memmap_boot_pages"] + counters.get("nr_memmap_pages", 0)) * 4 * KIB


def _free_bytes() -> int:
    return parse_counters(read_text(Path("/proc/meminfo")))["MemFree"]
