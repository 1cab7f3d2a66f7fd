"""The kernel's memory map (vmemmap) of huge pages, and what its optimisation (HVO) saves or no longer saves.

HVO keeps one page of each huge page's struct pages and frees the others (HUGETLB_VMEMMAP_RESERVE_SIZE,
mm/hugetlb_vmemmap.h, Linux 6.12). Where the memory map is mapped by huge entries it must first split each of them
into a table (vmemmap_split_pmd, mm/hugetlb_vmemmap.c), and these tables stay when a huge page gets its memory map
back. So what a host saves is net of the tables, but what one page takes back is gross.

arm64 kernels do not offer HVO so far, as live kernel mappings must not change without break-before-make
(D. Hildenbrand, 2025-10-29, in the thread of lore.kernel.org/all/20251028211533.47694-1-luizcap@redhat.com);
the numbers for arm64 say what it would save.
"""

from __future__ import annotations

from typing import Literal, get_args, overload

import numpy as np
from numpy.typing import NDArray

from poisonsim.errors import ScenarioError, did_you_mean
from poisonsim.memory.ladder import ARCHITECTURES, require_leaf_size
from poisonsim.memory.tables import Count
from poisonsim.units import page_bytes

I64 = NDArray[np.int64]

STRUCT_PAGE_BYTES = 64
"""Bytes of one struct page (Documentation/mm/vmemmap_dedup.rst, Linux 6.12)."""

HvoWithHgm = Literal["off-everywhere", "off-where-split", "kept"]
"""What high-granularity mapping does to HVO: off for the whole pool, off for pages that were split, or kept."""


def memmap_bytes(arch: str, size: str) -> int:
    """Bytes of struct pages that describe one page of a size.

    Raises:
        ScenarioError: Unknown architecture, or a size that it does not have.

    Examples:
        >>> memmap_bytes("x86-64", "1G") >> 20
        16
    """
    require_leaf_size(arch, size, "size")
    return page_bytes(size) // ARCHITECTURES[arch].base_bytes * STRUCT_PAGE_BYTES


def hvo_saved_bytes(arch: str, size: str) -> int:
    """Bytes of memory map that HVO frees for one huge page, gross; 0 where all of it fits one base page.

    Raises:
        ScenarioError: Unknown architecture, or a size that it does not have.

    Examples:
        >>> hvo_saved_bytes("x86-64", "1G"), hvo_saved_bytes("x86-64", "2M")
        (16773120, 28672)
    """
    return max(memmap_bytes(arch, size) - ARCHITECTURES[arch].base_bytes, 0)


@overload
def hvo_net_saving_bytes(arch: str, size: str, n_pages: int = 1) -> int: ...
@overload
def hvo_net_saving_bytes(arch: str, size: str, n_pages: I64) -> I64: ...
def hvo_net_saving_bytes(arch: str, size: str, n_pages: int | I64 = 1) -> int | I64:
    """Bytes that HVO saves on a pool of huge pages, less the page tables that it splits for them.

    One table is split per huge entry of the memory map, and huge pages whose memory map is less than one such entry
    share it: 8 tables for one 1G page, one table for up to 64 2M pages, taken to lie side by side.

    Args:
        arch: Key in `ARCHITECTURES`.
        size: Size of the huge pages.
        n_pages: Huge pages, int or int64[...].

    Returns:
        Shaped as `n_pages`.

    Raises:
        ScenarioError: Unknown architecture, or a size that it does not have.

    Examples:
        >>> hvo_net_saving_bytes("x86-64", "1G"), hvo_net_saving_bytes("x86-64", "1G", 1024)
        (16740352, 17142120448)
    """
    saved_bytes, geometry = hvo_saved_bytes(arch, size), ARCHITECTURES[arch]
    entry_bytes = page_bytes(geometry.vmemmap_leaf)
    if saved_bytes == 0 or entry_bytes == geometry.base_bytes:
        return n_pages * saved_bytes
    n_tables = -(n_pages * -memmap_bytes(arch, size) // entry_bytes)  # rounded up
    return n_pages * saved_bytes - n_tables * geometry.base_bytes


def vmemmap_bytes(
    *,
    arch: str,
    backing: str,
    hvo: bool,
    hvo_with_hgm: HvoWithHgm,
    uses_hgm: bool,
    pool_pages: int,
    restored_pages: Count,
    dissolved_pages: Count,
) -> Count:
    """Bytes of memory map that the host no longer saves because of a policy.

    Without HVO there is nothing to give up. A policy that needs HVO off everywhere gives up the net saving on the
    whole pool, and a page dissolved later takes nothing more. Otherwise pages take back their memory map one by one:
    each that was ever split or dissolved where HVO is off for split pages, else each dissolved one. The tables that
    HVO split for them are not given back, so that such a page costs the gross saving.

    Args:
        arch: Key in `ARCHITECTURES`.
        backing: Size of the huge pages.
        hvo: Whether the host optimises the memory map.
        hvo_with_hgm: What high-granularity mapping does to that.
        uses_hgm: Whether the policy maps with high granularity.
        pool_pages: Huge pages of the VM and its spares.
        restored_pages: Huge pages that were ever split or dissolved, int or int64[...].
        dissolved_pages: Huge pages given back as base pages, of the same shape.

    Returns:
        Shaped as `restored_pages`.

    Raises:
        ScenarioError: Unknown architecture, size or `hvo_with_hgm`.

    Examples:
        >>> host = dict(arch="x86-64", backing="1G", hvo=True, pool_pages=1024, restored_pages=100, dissolved_pages=0)
        >>> vmemmap_bytes(hvo_with_hgm="off-everywhere", uses_hgm=True, **host)
        17142120448
        >>> vmemmap_bytes(hvo_with_hgm="off-where-split", uses_hgm=True, **host)
        1677312000
    """
    if hvo_with_hgm not in (known := get_args(HvoWithHgm)):
        hint, allowed = did_you_mean(hvo_with_hgm, known), ", ".join(known)
        raise ScenarioError(f"hvo_with_hgm: {hvo_with_hgm!r} is not known{hint}; allowed: {allowed}")
    gross_bytes = hvo_saved_bytes(arch, backing)
    if not hvo:
        return 0 * (restored_pages + dissolved_pages)
    if not uses_hgm or hvo_with_hgm == "kept":
        return gross_bytes * dissolved_pages
    if hvo_with_hgm == "off-where-split":
        return gross_bytes * restored_pages
    return 0 * (restored_pages + dissolved_pages) + hvo_net_saving_bytes(arch, backing, pool_pages)
