"""Leaf sizes of an architecture and the page tables that going from one to another takes.

A leaf of size S sits in the table whose entries are the largest hardware leaf not above S; breaking it into
smaller leaves adds every table page on the way down. Contiguous entries are a TLB hint on a run of ordinary
entries, so they add leaf sizes but never save table pages.

KVM today sets that hint in no stage 2: on arm64 a contPMD of the host is mapped by PMD entries and a contPTE by PTEs
(user_mem_abort, arch/arm64/kvm/mmu.c, Linux 6.12), and on RISC-V it knows PUD, PMD and base pages only
(kvm_riscv_mmu_map, arch/riscv/kvm/mmu.c, which refuses 64K hugetlb pages altogether). A leaf of contiguous entries in
the process table, a contiguous backing among them, is therefore a run of smaller leaves in stage 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from poisonsim.errors import ScenarioError, did_you_mean
from poisonsim.units import KIB, page_bytes, page_name


@dataclass(frozen=True)
class Architecture:
    """Page-table geometry of one architecture and granule.

    Attributes:
        name: Key in `ARCHITECTURES`.
        base_bytes: Smallest page, which is also the size of a page-table page.
        entries_per_table: Entries of a page-table page, 8 bytes each, on every level.
        leaf_sizes: Sizes that one hardware entry can map, largest first.
        contiguous_sizes: Sizes that a run of contiguous entries can map, largest first.
        backing_sizes: Sizes that hugetlb offers as backing, largest first.
        stage2_metadata_bytes: What the hypervisor keeps for each stage-2 table page besides the page.
        direct_map_splits: Whether poison splits the kernel's direct map.
        vmemmap_leaf: Page size that maps the kernel's memory map.
        source: Where the geometry is from.

    Examples:
        >>> ARCHITECTURES["arm64"].leaf_sizes, ARCHITECTURES["arm64"].contiguous_sizes
        (('1G', '2M', '4K'), ('32M', '64K'))
    """

    name: str
    base_bytes: int
    entries_per_table: int
    leaf_sizes: tuple[str, ...]
    contiguous_sizes: tuple[str, ...]
    backing_sizes: tuple[str, ...]
    stage2_metadata_bytes: int
    direct_map_splits: bool
    vmemmap_leaf: str
    source: str

    @property
    def sizes(self) -> tuple[str, ...]:
        """Every size a leaf can have, largest first.

        Examples:
            >>> ARCHITECTURES["arm64-64k"].sizes
            ('16G', '512M', '2M', '64K')
        """
        return tuple(sorted((*self.leaf_sizes, *self.contiguous_sizes), key=page_bytes, reverse=True))

    @property
    def table_span_bytes(self) -> tuple[int, ...]:
        """Bytes that a table covers whose entries are of each of `leaf_sizes`, in their order.

        Examples:
            >>> [span >> 20 for span in ARCHITECTURES["x86-64"].table_span_bytes]
            [524288, 1024, 2]
        """
        return tuple(self.entries_per_table * page_bytes(size) for size in self.leaf_sizes)

    def entry_size(self, size: str) -> str:
        """Size of the entries that map a leaf: its own, or that of the run's entries where it is contiguous.

        Examples:
            >>> [ARCHITECTURES["arm64"].entry_size(size) for size in ("1G", "32M", "64K")]
            ['1G', '2M', '4K']
        """
        return max((leaf for leaf in self.leaf_sizes if page_bytes(leaf) <= page_bytes(size)), key=page_bytes)

    def stage2_size(self, size: str, contiguous: bool = False) -> str:
        """Size of the stage-2 leaves behind a leaf of the process table.

        Args:
            size: One of `sizes`.
            contiguous: Whether stage 2 uses contiguous entries too, as no KVM does today.

        Examples:
            >>> arm = ARCHITECTURES["arm64"]
            >>> arm.stage2_size("32M"), arm.stage2_size("32M", contiguous=True)
            ('2M', '32M')
        """
        return size if contiguous else self.entry_size(size)


_ARM64 = (
    "Linux 6.12 arch/arm64/Kconfig ARM64_CONT_PTE_SHIFT and ARM64_CONT_PMD_SHIFT, "
    "arch/arm64/include/asm/pgtable-hwdef.h, arch/arm64/mm/hugetlbpage.c __hugetlb_valid_size, arch/arm64/mm/mmu.c "
    "vmemmap_populate (huge entries with 4K pages only); no per-table KVM structure beyond struct page is assumed, "
    "not read"
)

ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        a.name: a
        for a in (
            Architecture(
                name="x86-64", base_bytes=4 * KIB, entries_per_table=512,
                leaf_sizes=("1G", "2M", "4K"), contiguous_sizes=(), backing_sizes=("1G", "2M"),
                stage2_metadata_bytes=184, direct_map_splits=True, vmemmap_leaf="2M",
                source="Linux 6.12 Documentation/mm/vmemmap_dedup.rst, arch/x86/kvm/mmu/mmu_internal.h struct "
                "kvm_mmu_page (184 B as compiled), arch/x86/mm/pat/set_memory.c; 4- and 5-level tables are alike below "
                "1 GiB",
            ),
            Architecture(
                name="arm64", base_bytes=4 * KIB, entries_per_table=512,
                leaf_sizes=("1G", "2M", "4K"), contiguous_sizes=("32M", "64K"),
                backing_sizes=("1G", "32M", "2M", "64K"),
                stage2_metadata_bytes=0, direct_map_splits=False, vmemmap_leaf="2M", source=_ARM64,
            ),
            Architecture(
                name="arm64-16k", base_bytes=16 * KIB, entries_per_table=2048,
                leaf_sizes=("32M", "16K"), contiguous_sizes=("1G", "2M"), backing_sizes=("1G", "32M", "2M"),
                stage2_metadata_bytes=0, direct_map_splits=False, vmemmap_leaf="16K", source=_ARM64,
            ),
            Architecture(
                name="arm64-64k", base_bytes=64 * KIB, entries_per_table=8192,
                leaf_sizes=("512M", "64K"), contiguous_sizes=("16G", "2M"), backing_sizes=("16G", "512M", "2M"),
                stage2_metadata_bytes=0, direct_map_splits=False, vmemmap_leaf="64K", source=_ARM64,
            ),
            Architecture(
                name="riscv64", base_bytes=4 * KIB, entries_per_table=512,
                leaf_sizes=("1G", "2M", "4K"), contiguous_sizes=("64K",), backing_sizes=("1G", "2M", "64K"),
                stage2_metadata_bytes=0, direct_map_splits=False, vmemmap_leaf="2M",
                source="Linux 6.12 arch/riscv/include/asm/pgtable-64.h (Svnapot offers 64K only; Sv39 to Sv57 are "
                "alike below 1 GiB), arch/riscv/mm/init.c vmemmap_populate; no per-table KVM structure beyond struct "
                "page is assumed, not read",
            ),
        )
    }
)  # fmt: skip
"""Every architecture by name."""


def architecture(name: str) -> Architecture:
    """The architecture called `name`.

    Raises:
        ScenarioError: There is none.

    Examples:
        >>> architecture("arm64-16k").leaf_sizes
        ('32M', '16K')
    """
    if name not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ScenarioError(f"arch '{name}' is not known{did_you_mean(name, ARCHITECTURES)}; allowed: {known}")
    return ARCHITECTURES[name]


def require_leaf_size(arch: str, size: str, where: str) -> None:
    """Nothing, if `size` is a leaf size of `arch`; `where` names the argument in the message.

    Raises:
        ScenarioError: Unknown architecture, or a size that it does not have.

    Examples:
        >>> require_leaf_size("x86-64", "2M", "leaf")
    """
    sizes = architecture(arch).sizes
    if size not in sizes:
        hint, allowed = did_you_mean(size, sizes), ", ".join(sizes)
        raise ScenarioError(f"{where}: {size!r} is no leaf size of {arch}{hint}; allowed: {allowed}")


def backings(arch: str) -> tuple[str, ...]:
    """Page sizes that can back a VM, largest first.

    Raises:
        ScenarioError: No such architecture.

    Examples:
        >>> backings("x86-64")
        ('1G', '2M')
    """
    return architecture(arch).backing_sizes


@dataclass(frozen=True)
class Ladder:
    """Leaf sizes that a VM's memory can be mapped with, the backing first and the base page last.

    Examples:
        >>> rungs = ladder("x86-64")
        >>> rungs.sizes, rungs.pages, rungs.table_pages(0, 2)
        (('1G', '2M', '4K'), (262144, 512, 1), 513)
    """

    arch: str
    sizes: tuple[str, ...]

    @property
    def base_bytes(self) -> int:
        """Bytes of the base page, and of a page-table page.

        Examples:
            >>> ladder("arm64-64k", "16G").base_bytes
            65536
        """
        return ARCHITECTURES[self.arch].base_bytes

    @property
    def pages(self) -> tuple[int, ...]:
        """Base pages per leaf of each size.

        Examples:
            >>> ladder("arm64-16k").pages
            (65536, 2048, 1)
        """
        return tuple(page_bytes(size) // self.base_bytes for size in self.sizes)

    @property
    def contiguous_sizes(self) -> tuple[str, ...]:
        """Sizes that take contiguous entries, the backing's among them, largest first.

        Examples:
            >>> ladder("arm64", contiguous=True).contiguous_sizes, ladder("arm64-16k").contiguous_sizes
            (('32M', '64K'), ('1G',))
        """
        return tuple(size for size in self.sizes if size in ARCHITECTURES[self.arch].contiguous_sizes)

    def level(self, size: str) -> int:
        """Place of `size` in the ladder.

        Raises:
            ScenarioError: The ladder does not have it.

        Examples:
            >>> ladder("x86-64").level("2M")
            1
        """
        if size not in self.sizes:
            hint, allowed = did_you_mean(size, self.sizes), ", ".join(self.sizes)
            raise ScenarioError(f"'{size}' is no leaf size of {self.arch} here{hint}; allowed: {allowed}")
        return self.sizes.index(size)

    def step_down(self, level: int, contiguous: bool = False) -> int:
        """The next level below one, or the next that is mapped by single entries; the last level stays.

        Args:
            level: Place of a size in the ladder.
            contiguous: Whether a size of contiguous entries will do.

        Examples:
            >>> rungs = ladder("arm64", contiguous=True)
            >>> rungs.sizes[rungs.step_down(0)], rungs.sizes[rungs.step_down(0, contiguous=True)]
            ('2M', '32M')
        """
        last = len(self.sizes) - 1
        below = range(level + 1, last)
        return next((k for k in below if contiguous or self.sizes[k] not in self.contiguous_sizes), last)

    def leaves_per(self, from_level: int, to_level: int) -> int:
        """Leaves of `to_level` that one leaf of `from_level` holds; 0 where they are larger.

        Examples:
            >>> ladder("x86-64").leaves_per(0, 1)
            512
        """
        return self.pages[from_level] // self.pages[to_level]

    def table_pages(self, from_level: int, to_level: int) -> int:
        """Table pages that one table gains when one leaf of `from_level` is replaced wholly by leaves of `to_level`.

        0 where `to_level` is no smaller, and between a contiguous size and the entries of its run.

        Examples:
            >>> rungs = ladder("arm64", contiguous=True)
            >>> [rungs.table_pages(0, level) for level in range(5)]
            [0, 1, 1, 513, 513]
        """
        if to_level <= from_level:
            return 0
        hardware = [page_bytes(size) // self.base_bytes for size in ARCHITECTURES[self.arch].leaf_sizes]
        leaf, target = self.pages[from_level], self.pages[to_level]
        # What maps an entry of size E in pieces is one table. It is needed for every E within the leaf and above the
        # target; the entries of a contiguous leaf have theirs already.
        return sum(leaf // entry for entry in hardware if target < entry <= leaf)

    def table_pages_matrix(self) -> NDArray[np.int64]:
        """`table_pages` of every pair of levels, from row to column: int64[n_levels, n_levels], read-only.

        Examples:
            >>> ladder("x86-64").table_pages_matrix().tolist()
            [[0, 1, 513], [0, 0, 1], [0, 0, 0]]
        """
        return _matrix(self)


@cache
def _matrix(rungs: Ladder) -> NDArray[np.int64]:
    n = len(rungs.sizes)
    matrix = np.array([[rungs.table_pages(a, b) for b in range(n)] for a in range(n)], np.int64)
    matrix.setflags(write=False)
    return matrix


def ladder(arch: str, backing: str = "1G", contiguous: bool = False) -> Ladder:
    """The leaf sizes of memory backed by `backing` pages.

    Args:
        arch: Key in `ARCHITECTURES`.
        backing: One of `backings(arch)`, a contiguous size even without `contiguous`.
        contiguous: Whether leaves of contiguous entries are used below the backing.

    Raises:
        ScenarioError: Unknown architecture, a backing it does not have, or contiguous entries where it has none.

    Examples:
        >>> ladder("arm64", "1G", contiguous=True).sizes
        ('1G', '32M', '2M', '64K', '4K')
        >>> ladder("arm64-16k").sizes
        ('1G', '32M', '16K')
    """
    a = architecture(arch)
    if backing not in a.backing_sizes:
        raise ScenarioError(
            f"backing '{backing}' is no huge page size of {arch}{did_you_mean(backing, a.backing_sizes)}; "
            f"allowed: {', '.join(a.backing_sizes)}"
        )
    if contiguous and not a.contiguous_sizes:
        raise ScenarioError(f"contiguous = true: {arch} has no contiguous entries; set it to false")
    sizes = {backing, *a.leaf_sizes, *(a.contiguous_sizes if contiguous else ())}
    wanted = sorted((page_bytes(size) for size in sizes if page_bytes(size) <= page_bytes(backing)), reverse=True)
    return Ladder(arch, tuple(page_name(size) for size in wanted))
