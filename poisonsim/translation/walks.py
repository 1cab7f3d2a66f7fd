"""What a nested page walk costs, and the run-time model's own numbers."""

from __future__ import annotations

from poisonsim.units import page_bytes

from .cpus import CatalogueNumber

CYCLES_PER_ACCESS = 60.0
"""Default cycles of one memory access without translation."""

SLOPES = (0.55, 0.93, 1.7)
"""Cycles of run time per cycle of walking: low, mid, high."""

_ACCESSES_4K_ON_4K = 4.4
# Per dimension (guest, host): the leaf entry and, below it, a PDE are always read; what is left of the published
# average goes to the levels above the PDE, of which the walk caches answer nearly all.
_UPPER_READS = _ACCESSES_4K_ON_4K / 2 - 2.0
_READS = {4: 2.0 + _UPPER_READS, 3: 1.0 + _UPPER_READS, 2: 1.0}


def model_numbers() -> tuple[CatalogueNumber, ...]:
    """The numbers of the run-time model that belong to no CPU, with source and quality.

    Examples:
        >>> [number.key for number in model_numbers() if number.quality == "assumed"]
        ['walk_upper_reads', 'cycles_per_access']
    """
    mitosis = (
        "Achermann et al., Mitosis, ASPLOS 2020, artifact mitosis-project/mitosis-asplos20-artifact,"
        " evaluation/reference: run time against walk cycles, 4K against 2M, 8 workloads"
    )
    park = "Park et al., Every walk's a hit, ASPLOS 2022, abstract: average memory accesses of a virtualised walk"
    fitted = "a round number; with it published GUPS runs and, at 8 accesses per page visit, MemCycler's are met"
    flat = "used for CPU files without caches only: "
    low, mid, high = SLOPES
    return (
        CatalogueNumber("slope_low", low, "cycles/cycle", f"derived, least: {mitosis}", "published"),
        CatalogueNumber("slope_mid", mid, "cycles/cycle", f"derived, median: {mitosis}", "published"),
        CatalogueNumber("slope_high", high, "cycles/cycle", f"derived, most: {mitosis}", "published"),
        CatalogueNumber("walk_accesses_4k_on_4k", _ACCESSES_4K_ON_4K, "accesses", flat + park, "published"),
        CatalogueNumber(
            "walk_upper_reads", round(_UPPER_READS, 3), "accesses", f"{flat}half the rest of: {park}", "assumed"
        ),
        CatalogueNumber("cycles_per_access", CYCLES_PER_ACCESS, "cycles", fitted, "assumed"),
    )


def table_levels(size: str) -> int:
    """Table levels read to reach a leaf of that size: 4 for 4K, 3 for 2M, 2 for 1G; sizes between as the smaller.

    That serves every granule: the base page of each comes out as 4K does, the block above it (2M, 32M, 512M) as 2M.
    A leaf of contiguous entries ends where its entries do, so callers pass the size of these.

    Examples:
        >>> [table_levels(size) for size in ("4K", "64K", "2M", "32M", "1G", "16G")]
        [4, 4, 3, 3, 2, 2]
    """
    size_bytes = page_bytes(size)
    return 2 if size_bytes >= page_bytes("1G") else 3 if size_bytes >= page_bytes("2M") else 4


def walk_references(guest_page: str, host_leaf: str, table_leaf: str = "1G") -> int:
    """Table entries that a nested walk reads if no cache helps, guest page tables lying on `table_leaf` host leaves.

    Every guest level costs a host walk to find its table and one read of it; the data's host walk follows.

    Examples:
        >>> [[walk_references(guest, host) for host in ("4K", "2M", "1G")] for guest in ("4K", "2M", "1G")]
        [[16, 15, 14], [13, 12, 11], [10, 9, 8]]
        >>> walk_references("4K", "4K", table_leaf="4K")
        24
    """
    return table_levels(guest_page) * (table_levels(table_leaf) + 1) + table_levels(host_leaf)


def walk_accesses(guest_page: str, host_leaf: str) -> float:
    """References of a nested walk that no walk cache answers; 4.4 on average for 4K on 4K, as published.

    The host walks for the guest's page tables are answered (few large host leaves, always in use). In either
    dimension the leaf entry is read every time, as is the PDE above a 4K leaf (a walk cache of some tens of
    PDEs covers some tens of MiB); of the entries above a PDE 0.2 are read, which is what 4.4 leaves for them.

    Examples:
        >>> [[round(walk_accesses(guest, host), 1) for host in ("4K", "2M", "1G")] for guest in ("4K", "2M", "1G")]
        [[4.4, 3.4, 3.2], [3.4, 2.4, 2.2], [3.2, 2.2, 2.0]]
    """
    return _READS[table_levels(guest_page)] + _READS[table_levels(host_leaf)]
