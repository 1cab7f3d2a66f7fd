"""Which format a log has, by what its first bytes say."""

from __future__ import annotations

import re
from pathlib import Path

from poisonsim.errors import LogError
from poisonsim.logs.codes import FORMATS
from poisonsim.logs.names import printable
from poisonsim.logs.table import WANTED

_SURE = (
    (rb"\ASQLite format 3\0", "rasdaemon"),
    (rb"\APAR1", "parquet"),
    (rb"\A[^\n]*\bMciAddr\b", "smartmem"),
    (rb'\A[\s\x1e]*\{[^\n]*"(?:__REALTIME_TIMESTAMP|__CURSOR|_TRANSPORT|_BOOT_ID)"\s*:', "journal"),
    (rb"\A(?:\xef\xbb\xbf)?\s*[\[{](?=[^\0]*(?:ECCErrorCount|MemoryMetrics))", "redfish"),
)
_LIKELY = (
    (rb"/edac/mc/mc\d+/[^:\n]+:", "edac-sysfs"),
    (rb"HardwareCorrupted:|/memory_failure/(?:total|ignored|failed|delayed|recovered):", "counters"),
    (rb"(?i)^[ \t]*[0-9a-f]+ \| [^|\n]+\| [^|\n]+\| [^|\n]+\|", "ipmi-sel"),
    (rb"^(?:Hardware event\. This is not a software error|HARDWARE ERROR\. This is \*NOT\*|MCE \d+\s*$)", "mcelog"),
    (rb"\b(?:mc_event: \d+ \w+ error|memory_failure_event: pfn|\] +\S* *\d+\.\d+: (?:ras:)?mc[e_]\w+:)", "trace"),
    (rb"EDAC MC\d|Memory failure: 0x|\[Hardware Error\]|[Ss]oft[ _]offline: 0x", "kernel"),
)
_LOOKS = (
    (rb"^# tracer: |^#\s+TASK-PID", "trace"),
    (rb"^(?:<\d+>)?(?:\[ *\d+\.\d{6}\] |\[\w{3} \w{3} +\d+ [\d:]{8} \d{4}\] |\d+,\d+,\d+,)", "kernel"),
    (rb"^\w{3} +\d+ \d\d:\d\d:\d\d \S+ |^(?:<\d+>\d? ?)?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S* ", "kernel"),
)


_TABLE = re.compile(
    rb'(?:\xef\xbb\xbf)?[ "]*[A-Za-z_][\w .:/#()-]{0,60}"?(?:[,;\t]"?[\w .:/#()-]{1,60}"?)+\r?(?:\n|\Z)'
)
"""What the first line of a table looks like whose columns we do not know."""
_OTHER_MARKS = ((b";", "semicolons"), (b"\t", "tabs"))
_TAR_MAGIC_AT = 257
_PRETTY = rb'\A[\s\x1e]*\{\s*\n\s*"(?:__CURSOR|__REALTIME_TIMESTAMP|MESSAGE|_\w+)"\s*:'


def sniff(start: bytes, path: Path) -> str:
    """The format of a file that starts like this, one of `FORMATS`.

    Raises:
        LogError: Of none that is known, or empty.

    Examples:
        >>> sniff(b"[ 8412.550] EDAC MC0: 1 CE memory read error on", Path("dmesg"))
        'kernel'
    """
    if start[_TAR_MAGIC_AT:].startswith(b"ustar"):
        raise LogError(f"{printable(str(path))}: is a tar archive; unpack it, and name the files in it")
    for pattern, name in _SURE:
        if re.search(pattern, start):
            return name
    if re.search(_PRETTY, start):
        raise LogError(
            f"{printable(str(path))}: is a journal with many lines an entry; write it with journalctl -o json"
        )
    if _is_table(start):
        return "csv"
    scores = {name: len(re.findall(pattern, start, re.MULTILINE)) for pattern, name in _LIKELY}
    best = max(scores, key=lambda name: scores[name])
    if scores[best]:
        return best
    for pattern, name in _LOOKS:
        if re.search(pattern, start, re.MULTILINE):
            return name
    shown = printable(str(path))
    if not start.strip(b"\0 \t\r\n"):
        raise LogError(
            f"{shown}: is empty; give a log, or name its format (--format) if it is empty by right: "
            f"{', '.join(FORMATS)}"
        )
    if _TABLE.match(start):
        header = start.splitlines()[0]
        other = next((name for mark, name in _OTHER_MARKS if mark in header and b"," not in header), "")
        told = f"; its columns are set apart by {other}, and commas are wanted" if other else ""
        raise LogError(
            f"{shown}: line 1: names no column of a table of events ('{printable(header, 80)}'){told}; if it "
            f"is one, name the columns there: it takes {WANTED}; see `poisonsim help own-logs`; else name its format "
            f"(--format), one of {', '.join(FORMATS)}"
        )
    begin = printable(start[:200].splitlines()[0], 40)
    raise LogError(
        f"{shown}: begins like no log that is known ('{begin}'); name its format (--format), "
        f"one of {', '.join(FORMATS)}"
    )


def _is_table(start: bytes) -> bool:
    header = start.split(b"\n", 1)[0].removeprefix(b"\xef\xbb\xbf")
    names = {name.strip(b' "\r').lower() for name in header.split(b",")}
    return len(names) > 1 and bool(names & {b"kind", b"address", b"time"})
