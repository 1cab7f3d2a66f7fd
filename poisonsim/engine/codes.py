"""Integer codes that the plan and the compiled kernel share."""

from __future__ import annotations

from poisonsim.policy import COUNTERS, Act

# geometry: what the kernel knows of the VM and its host
(G_REGIONS, G_VM_PAGES, G_SPARES, G_SHARED, G_END_AT_LOSS, G_ANSWERS, G_DIRECT_MAP, G_GROUP_SHIFT, G_CHUNK_SHIFT,
 G_STALL_UNMAP_NS, G_STALL_MIGRATE_NS, G_STALL_CLEAR_NS, G_STALL_EVACUATE_NS, G_STALL_RESTART_NS, G_STALL_COLLAPSE_NS,
 G_STALL_REBOOT_NS, G_STALL_COPY_NS, G_STALL_RESTORE_NS, G_SPARE_HOSTS, G_MOVES_POISON, G_RESTART_AT_LOSS,
 G_STAGE2_ONLY, G_UNMOVABLE, G_SPARE_ROWS, G_REGION_PAGES, G_FREE_PAGES, G_TABLES, G_RESTORE_PAGES, G_RESTORES_SPLIT,
 G_LUCK, G_REPLENISH, G_REFAULT_NS, G_VCPUS) = range(33)  # fmt: skip
N_GEOMETRY = 33

# the kernel's report that it has met more states than it has room for: run again with more
NO_ROOM = 2

# what can be done with a leaf, as plain integers
SPLIT, UNMAP, KEEP, MIGRATE, SPLIT_TO, SPLIT_VM_TO, EVACUATE, RESTART, COLLAPSE, OFFLINE, REBOOT, UNMAP_STAGE2 = (
    int(act) for act in Act
)
NO_MATCH = 0

# the counter that a migration without a spare fails on, by its place among the counters
SPARES_LEFT = tuple(COUNTERS).index("spares_left")

# the one that changes by itself
AGE_DAYS = tuple(COUNTERS).index("age_days")

# what became of a leaf: 0 = still mapped by one entry, > 0 = split to that level
HOLE = -1
