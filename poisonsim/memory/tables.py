"""Bytes of page tables that a finer mapping adds, and what isolating a few base pages costs.

The memory of a VM is mapped by the page table of each process that maps it and by one stage-2 table (EPT, NPT, arm64
stage 2). KVM picks a stage-2 leaf no larger than the host's (host_pfn_mapping_level, arch/x86/kvm/mmu/mmu.c, Linux
6.12), so stage 2 takes the same table pages as a process table. That KVM uses no contiguous entries in stage 2
(see `poisonsim.memory.ladder`) changes no table page: every entry of a run is written all the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from poisonsim.errors import ScenarioError
from poisonsim.memory.ladder import ARCHITECTURES, Ladder, architecture, backings, require_leaf_size
from poisonsim.units import page_bytes

Count = TypeVar("Count", int, NDArray[np.int64])
"""One count, or int64 counts of any shape."""


def process_table_bytes(ladder: Ladder, table_pages: Count, page_tables: int = 1) -> Count:
    """Bytes of added process page tables.

    Args:
        ladder: Gives the size of a table page.
        table_pages: Table pages added to one table, int or int64[...].
        page_tables: Process page tables that map the memory.

    Returns:
        Shaped as `table_pages`.

    Examples:
        >>> from poisonsim.memory import ladder
        >>> process_table_bytes(ladder("x86-64"), 513)
        2101248
    """
    return table_pages * (ladder.base_bytes * page_tables)


def stage2_table_bytes(ladder: Ladder, table_pages: Count) -> Count:
    """Bytes of added stage-2 tables, without what KVM keeps beside them.

    Args:
        ladder: Gives the size of a table page.
        table_pages: Table pages added to one table, int or int64[...].

    Returns:
        Shaped as `table_pages`.

    Examples:
        >>> from poisonsim.memory import ladder
        >>> stage2_table_bytes(ladder("x86-64"), 2)
        8192
    """
    return table_pages * ladder.base_bytes


def stage2_metadata_bytes(ladder: Ladder, table_pages: Count) -> Count:
    """Bytes that KVM keeps beside added stage-2 tables.

    Args:
        ladder: Gives the architecture.
        table_pages: Table pages added to one table, int or int64[...].

    Returns:
        Shaped as `table_pages`.

    Examples:
        >>> from poisonsim.memory import ladder
        >>> stage2_metadata_bytes(ladder("x86-64"), 513)
        94392
    """
    return table_pages * ARCHITECTURES[ladder.arch].stage2_metadata_bytes


def table_bytes(ladder: Ladder, table_pages: Count, page_tables: int = 1) -> Count:
    """Bytes of added page tables in all: every process table, one stage-2 table and KVM's metadata.

    Args:
        ladder: Gives the architecture.
        table_pages: Table pages added to one table, int or int64[...].
        page_tables: Process page tables that map the memory.

    Returns:
        Shaped as `table_pages`.

    Examples:
        >>> from poisonsim.memory import ladder
        >>> table_bytes(ladder("x86-64"), 51_300)  # 100 regions of 1G, all of it mapped with 4K
        429688800
    """
    processes = process_table_bytes(ladder, table_pages, page_tables)
    return processes + stage2_table_bytes(ladder, table_pages) + stage2_metadata_bytes(ladder, table_pages)


def expected_distinct(n_boxes: int, n_balls: int) -> float:
    """Mean number of boxes that are hit when balls fall uniformly: n(1 - (1 - 1/n)^k).

    Examples:
        >>> round(expected_distinct(1024, 100), 1)
        95.3
    """
    if n_boxes == 1:
        return float(n_balls > 0)
    return -n_boxes * math.expm1(n_balls * math.log1p(-1 / n_boxes))


@dataclass(frozen=True)
class SplitCost:
    """What it takes to isolate base pages inside one leaf.

    Attributes:
        table_pages: Table pages added to each table.
        process_bytes: Added process page tables.
        stage2_bytes: Added stage-2 tables.
        metadata_bytes: What KVM keeps beside these.
        table_bytes: The sum of the three.
        leaves: Present leaves of each size afterwards; sizes without any are left out.

    Examples:
        >>> split_cost(path=("4K",)).leaves
        {'4K': 262143}
    """

    table_pages: int
    process_bytes: int
    stage2_bytes: int
    metadata_bytes: int
    table_bytes: int
    leaves: Mapping[str, int]


def split_cost(
    *,
    arch: str = "x86-64",
    leaf: str = "1G",
    path: Sequence[str] = ("2M", "4K"),
    poisons: int = 1,
    page_tables: int = 1,
) -> SplitCost:
    """Cost of isolating poisoned base pages inside one leaf, the pages then being holes.

    The poisons lie as far apart as the leaf allows: each in an intermediate leaf of its own, on every level of the
    path that has that many. This is the dearest placement; for one poison there is no other.

    Args:
        arch: Key in `ARCHITECTURES`.
        leaf: Size of the leaf that is split.
        path: Sizes it is split to in turn, down to the base page; `("4K",)` maps all of it with base pages.
            Contiguous sizes may be named.
        poisons: Base pages to isolate, at most one per leaf of the smallest intermediate size.
        page_tables: Process page tables that map the memory.

    Raises:
        ScenarioError: A size the architecture does not have, a path that does not lead down to the base page, or
            more poisons than fit.

    Examples:
        >>> cost = split_cost(arch="x86-64", leaf="1G", path=("2M", "4K"), poisons=1)
        >>> cost.table_pages, cost.table_bytes, cost.leaves
        (2, 16752, {'2M': 511, '4K': 511})
    """
    rungs = _path(arch, leaf, path)
    # Level by level how many leaves have a poison inside; the last level is the poisons themselves.
    whole = [rungs.leaves_per(0, level) for level in range(len(rungs.sizes))]
    most, among = (whole[-2], rungs.sizes[-2]) if len(whole) > 2 else (whole[-1], rungs.sizes[-1])
    poisons = _count("poisons", poisons, most, f"one for each {among} leaf in {leaf}; lower it, or take another path")
    page_tables = _count("page_tables", page_tables, None, "the processes that map the memory")
    broken = [min(poisons, n) for n in whole]
    steps = range(1, len(whole))
    leaves = {
        rungs.sizes[level]: broken[level - 1] * rungs.leaves_per(level - 1, level) - broken[level] for level in steps
    }
    table_pages = sum(broken[level - 1] * rungs.table_pages(level - 1, level) for level in steps)
    return SplitCost(
        table_pages=table_pages,
        process_bytes=process_table_bytes(rungs, table_pages, page_tables),
        stage2_bytes=stage2_table_bytes(rungs, table_pages),
        metadata_bytes=stage2_metadata_bytes(rungs, table_pages),
        table_bytes=table_bytes(rungs, table_pages, page_tables),
        leaves={size: n for size, n in leaves.items() if n},
    )


def _path(arch: str, leaf: str, path: Sequence[str]) -> Ladder:
    """The ladder that has only the sizes of a path."""
    require_leaf_size(arch, leaf, "leaf")
    base = architecture(arch).sizes[-1]
    if leaf == base:
        raise ScenarioError(f"leaf: {leaf!r} is the base page and cannot be split; take {' or '.join(backings(arch))}")
    if isinstance(path, str) or not path:
        raise ScenarioError(f"path: {path!r} is not a list of sizes; write those to split to, such as ({base!r},)")
    for size in path:
        require_leaf_size(arch, size, "path")
    descent = (leaf, *path)
    if any(page_bytes(above) <= page_bytes(below) for above, below in pairwise(descent)):
        shown = " > ".join(descent)
        raise ScenarioError(f"path: {shown} does not descend; list sizes below {leaf}, each once and largest first")
    if path[-1] != base:
        raise ScenarioError(f"path: ends at {path[-1]!r}, but poison is isolated as a base page; end it with {base!r}")
    return Ladder(arch, descent)


def _count(name: str, value: int, most: int | None, meaning: str) -> int:
    """`value`, if it is a whole number from 1 up to `most`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1 or (most and value > most):
        allowed = f"between 1 and {most}" if most else "above 0"
        raise ScenarioError(f"{name}: {value!r} is not a whole number {allowed}, {meaning}")
    return int(value)
