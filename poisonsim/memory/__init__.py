"""What mapping memory in pieces costs the host: page tables, vmemmap and direct map, in exact integers."""

from .direct_map import FIRST_SPLIT_TABLE_PAGES, FURTHER_SPLIT_TABLE_PAGES, direct_map_bytes, direct_map_table_pages
from .ladder import ARCHITECTURES, Architecture, Ladder, backings, ladder
from .tables import (
    SplitCost,
    expected_distinct,
    process_table_bytes,
    split_cost,
    stage2_metadata_bytes,
    stage2_table_bytes,
    table_bytes,
)
from .vmemmap import STRUCT_PAGE_BYTES, HvoWithHgm, hvo_net_saving_bytes, hvo_saved_bytes, memmap_bytes, vmemmap_bytes

__all__ = [
    "ARCHITECTURES",
    "FIRST_SPLIT_TABLE_PAGES",
    "FURTHER_SPLIT_TABLE_PAGES",
    "STRUCT_PAGE_BYTES",
    "Architecture",
    "HvoWithHgm",
    "Ladder",
    "SplitCost",
    "backings",
    "direct_map_bytes",
    "direct_map_table_pages",
    "expected_distinct",
    "hvo_net_saving_bytes",
    "hvo_saved_bytes",
    "ladder",
    "memmap_bytes",
    "process_table_bytes",
    "split_cost",
    "stage2_metadata_bytes",
    "stage2_table_bytes",
    "table_bytes",
    "vmemmap_bytes",
]
