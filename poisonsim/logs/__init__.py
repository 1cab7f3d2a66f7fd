"""Logs of memory errors as machines write them, read into one event model.

from poisonsim.logs import read, read_all

log = read_all(["kern.log", "ras-mc_event.db"])      # everything at once
log.events.address, log.events.time                  # columns: see `EventBatch`
print(*log.report.warnings(), sep="\\n")              # what was damaged, merged, assumed

reading = read(["huge.log.gz"], format="kernel")     # or batch by batch, in bounded memory
for batch in reading:
    ...
reading.report                                       # complete when the batches are through
"""

from poisonsim.logs.codes import FORMATS, FoundBy, Kind, Outcome, PageType, Severity
from poisonsim.logs.events import EventBatch
from poisonsim.logs.names import Names
from poisonsim.logs.reading import Log, Reading, read, read_all
from poisonsim.logs.report import Damage, FileReport, ReadReport
from poisonsim.logs.write import write

__all__ = [
    "FORMATS", "Damage", "EventBatch", "FileReport", "FoundBy", "Kind", "Log", "Names", "Outcome", "PageType",
    "ReadReport", "Reading", "Severity", "read", "read_all", "write",
]  # fmt: skip
