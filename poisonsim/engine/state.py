"""The integer state of one VM and its host, one int64 vector; everything reported derives from it.

The stratum is no state of a VM: it says how much the trial counts, and never changes.
"""

from __future__ import annotations

ERRORS = 0
REGIONS_HIT = 1
TABLE_PAGES = 2
GUEST_LOST_PAGES = 3
HOST_LOST_PAGES = 4
STRANDED_PAGES = 5
LEAKED_REGIONS = 6
DISSOLVED_REGIONS = 7
RESTORED_REGIONS = 8
SPARES_USED = 9
SPARES_EXHAUSTED = 10
DIRECT_MAP_PAGES = 11
GUEST_FAULTS = 12
VM_LOST = 13
STALL_NS = 14
WORST_STALL_NS = 15
EVACUATIONS = 16
RESTARTS = 17
REBOOTS = 18
SPARES_ADDED = 19
FALLBACKS = 20
STRATUM = 21
LEAVES = 22

COLUMNS = (
    "errors",
    "regions_hit",
    "table_pages",
    "guest_lost_pages",
    "host_lost_pages",
    "stranded_pages",
    "leaked_regions",
    "dissolved_regions",
    "restored_regions",
    "spares_used",
    "spares_exhausted",
    "direct_map_pages",
    "guest_faults",
    "vm_lost",
    "stall_ns",
    "worst_stall_ns",
    "evacuations",
    "restarts",
    "reboots",
    "spares_added",
    "fallbacks",
    "stratum",
)


def state_columns(leaf_sizes: tuple[str, ...]) -> tuple[str, ...]:
    """Column names of a state vector for a ladder of leaf sizes, leaf counts last.

    Examples:
        >>> state_columns(("1G", "4K"))[-2:]
        ('leaves_1G', 'leaves_4K')
    """
    return (*COLUMNS, *(f"leaves_{size}" for size in leaf_sizes))
