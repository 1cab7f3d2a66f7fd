from poisonsim.policy import BASE, SPLIT_TO, UNMAP, Policy, on


class Hgm4K(Policy):
    """Map the hit huge page with base pages only and leave out the poisoned one.

    High-granularity mapping without intermediate sizes: simple to implement, 513 page-table pages per hit 1 GiB
    and table, and a region that the TLB can hold only 4 KiB at a time.
    Status: patches, not merged.
    Needs: HGM: the series of February 2023, MAP_SHARED, HVO off.
    Source: HGM series v2, lore.kernel.org 20230218002819.1486479-1-jthoughton@google.com.
    """

    rules = [on(">BASE").do(SPLIT_TO(BASE)), on(BASE).do(UNMAP)]
