"""Page tables that errors add to the kernel's own mapping of all memory, the direct map.

On x86 the kernel takes a poisoned base page out of its direct map (set_mce_nospec). Its 1G entry is split to 2M and
the one 2M entry to 4K, two tables; every further 2M takes one more. In Linux 6.12 nothing merges them again
(arch/x86/mm/pat/set_memory.c). A machine check injected under QEMU leaves 511 entries of 2M and 511 of 4K (measured).
Other architectures do nothing there (include/linux/set_memory.h). Whatever backs the VM, the memory is taken to be
mapped by 1G entries before the first error.
"""

from __future__ import annotations

from poisonsim.memory.ladder import architecture
from poisonsim.memory.tables import Count

FIRST_SPLIT_TABLE_PAGES = 2
"""Table pages added by the first poisoned base page in a 1 GiB entry of the direct map."""

FURTHER_SPLIT_TABLE_PAGES = 1
"""Table pages added by the first poisoned base page in each further 2 MiB of it."""


def direct_map_table_pages(arch: str, *, n_1g_hit: Count, n_2m_hit: Count) -> Count:
    """Table pages added to the direct map.

    Args:
        arch: Key in `ARCHITECTURES`.
        n_1g_hit: Distinct aligned 1 GiB of host memory with poison in it, int or int64[...].
        n_2m_hit: Distinct aligned 2 MiB of host memory with poison in it, of the same shape; never fewer.

    Returns:
        Shaped as `n_1g_hit`.

    Raises:
        ScenarioError: No such architecture.

    Examples:
        >>> direct_map_table_pages("x86-64", n_1g_hit=1, n_2m_hit=3)
        4
    """
    if not architecture(arch).direct_map_splits:
        return 0 * n_1g_hit
    return FIRST_SPLIT_TABLE_PAGES * n_1g_hit + FURTHER_SPLIT_TABLE_PAGES * (n_2m_hit - n_1g_hit)


def direct_map_bytes(arch: str, table_pages: Count) -> Count:
    """Bytes of table pages added to the direct map; 0 where an architecture leaves it alone.

    Args:
        arch: Key in `ARCHITECTURES`.
        table_pages: As from `direct_map_table_pages`, int or int64[...].

    Returns:
        Shaped as `table_pages`.

    Raises:
        ScenarioError: No such architecture.

    Examples:
        >>> direct_map_bytes("x86-64", 2), direct_map_bytes("arm64", 2)
        (8192, 0)
    """
    geometry = architecture(arch)
    return table_pages * (geometry.base_bytes if geometry.direct_map_splits else 0)
