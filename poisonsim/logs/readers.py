"""The reader of each format."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from poisonsim.logs.context import Context
from poisonsim.logs.counts import read_counters, read_edac_sysfs, read_redfish
from poisonsim.logs.events import EventBatch
from poisonsim.logs.ipmi import read_ipmi_sel
from poisonsim.logs.journal import read_journal
from poisonsim.logs.kernel import read_kernel
from poisonsim.logs.mcelog import read_mcelog
from poisonsim.logs.parquet import read_parquet
from poisonsim.logs.rasdaemon import read_rasdaemon
from poisonsim.logs.table import read_csv, read_smartmem
from poisonsim.logs.trace import read_trace

READERS: dict[str, Callable[[Context], Iterator[EventBatch]]] = {
    "kernel": read_kernel,
    "journal": read_journal,
    "rasdaemon": read_rasdaemon,
    "mcelog": read_mcelog,
    "trace": read_trace,
    "csv": read_csv,
    "parquet": read_parquet,
    "smartmem": read_smartmem,
    "edac-sysfs": read_edac_sysfs,
    "counters": read_counters,
    "ipmi-sel": read_ipmi_sel,
    "redfish": read_redfish,
}
"""By the name of the format."""
REPEATS_ARE_REAL = ("rasdaemon", "csv", "parquet", "smartmem")
"""Formats in which every row stands for an event of its own, however alike two may be."""
