"""Records of the kernel's log that take several lines: machine checks, and reports of firmware (GHES, CPER)."""

from __future__ import annotations

import numpy as np

from poisonsim.logs.codes import FoundBy, Kind, Severity
from poisonsim.logs.context import Context
from poisonsim.logs.events import I64, Bools, EventBatch
from poisonsim.logs.fields import Found
from poisonsim.logs.mce import AMD, decode, is_umc, umc_place
from poisonsim.logs.scan import DECIMAL, DECIMAL_THEN_HEX, HEX, MALFORMED, NO_NUMBER

_BANK, _CHECK = b" Bank ", b"Machine Check"
_SOURCE, _MEMORY, _SECTION = b"APEI Generic Hardware Error Source", b"section_type: memory error", b"section_type:"
_SEVERITIES = {
    b"severity: corrected": (Kind.CE, Severity.UNKNOWN), b"severity: recoverable": (Kind.UE, Severity.UNKNOWN),
    b"severity: fatal": (Kind.UE, Severity.FATAL), b"severity: info": (Kind.NOTICE, Severity.UNKNOWN),
}  # fmt: skip
_STATUS, _ADDR, _IPID, _SYNDROME = b"]: 0x", b"Error Addr: 0x", b"IPID: 0x", b"Syndrome: 0x"
_UMC, _CODE, _DRAM, _LEVEL = b"Unified Memory Controller", b" Ext. Error Code: ", b"DRAM ECC error", b"cache level:"
_SAID = (b" error, no action required", b" software restartable error", b" software containable error",
         b"System Fatal error")  # fmt: skip
_SCALABLE = (b" (17:", b" (18:", b" (19:", b" (1a:")
"""How a family with scalable machine checks is named, in hex before its model."""
BLOCK_FIELDS: tuple[tuple[bytes, int], ...] = (
    *((text, NO_NUMBER) for text in (_CHECK, _SOURCE, _MEMORY, _SECTION, *_SEVERITIES)),
    (_BANK, DECIMAL_THEN_HEX), (b"ADDR ", HEX), (b"MISC ", HEX), (b"TIME ", DECIMAL), (b"SOCKET ", DECIMAL),
    (b"PROCESSOR ", DECIMAL), (b"physical_address: 0x", HEX), (b"physical_address_mask: 0x", HEX),
    (b"error_type: ", DECIMAL), (b"SYND ", HEX), (b"IPID ", HEX),
    *((text, HEX) for text in (_STATUS, _ADDR, _IPID, _SYNDROME)), (_CODE, DECIMAL),
    *((text, NO_NUMBER) for text in (_UMC, _DRAM, _LEVEL, *_SAID, *_SCALABLE)),
)  # fmt: skip
_MOST_LINES, _MOST_AMD_LINES = 8, 24
_UNCORRECTED, _SCRUBBED = (3, 5, 14), (13, 14)
"""Memory error types of CPER: multi-bit ECC, multi-symbol chipkill, scrub uncorrected; those found by scrubbing."""


def _filled(of: Found, block: I64, n: int, text: bytes, default: int) -> I64:
    """The number behind a pattern in any line of each block, int64[n]; `default` where none holds it."""
    column = np.full(n, default)
    held = of.has(text) & (block >= 0)
    column[block[held]] = of.value(text)[held]
    return column


def machine_checks(found: Found, context: Context) -> tuple[EventBatch, I64]:
    """The memory errors among machine checks, and the places of their first lines."""
    starts = found.has(_CHECK)
    torn = starts & ~found.has(_BANK)
    found.damaged(torn, "machine check cut short", context)
    block = np.cumsum(starts) - 1
    n = int(starts.sum())
    first = found.rows[starts]
    more = found.has(b"ADDR ", b"MISC ", b"PROCESSOR ") & ~starts
    near = (block >= 0) & (found.rows - first[block] <= _MOST_LINES) if n else np.zeros(len(found), np.bool_)
    found.damaged(more & ~near, "piece of a machine check", context)
    block = np.where(near & (starts | more), block, -1)
    status = np.zeros(n, np.int64)
    status[block[starts]] = np.where(found.has(_BANK), found.value(_BANK), 0)[starts]
    amd, ipid = _filled(found, block, n, b"PROCESSOR ", 0) == AMD, _filled(found, block, n, b"IPID ", 0)
    address, misc = _filled(found, block, n, b"ADDR ", 0), _filled(found, block, n, b"MISC ", 0)
    checks = decode(status, address, misc, amd, umc := amd & is_umc(ipid))
    channel, slot = umc_place(ipid, _filled(found, block, n, b"SYND ", 0))
    keep = checks.is_memory & ~torn[starts]
    found.used((block >= 0) & keep[block] if n else np.zeros(len(found), np.bool_))
    events = context.batch(
        time=found.time[starts], host=found.host[starts], kind=checks.kind, count=checks.n_errors,
        severity=checks.severity, found_by=checks.found_by, address=checks.address, grain_bytes=checks.grain_bytes,
        socket=_filled(found, block, n, b"SOCKET ", -1), channel=np.where(umc, channel, checks.channel),
        slot=np.where(umc, slot, -1),
    )  # fmt: skip
    return events[keep], first[keep]


def amd_checks(found: Found, context: Context) -> tuple[EventBatch, I64]:
    """The memory errors among machine checks that AMD's decoder prints, and the places of the lines with the status.

    They hold no address of the host but where a core met poison. An EDAC line that follows one tells of the same.
    """
    found = found.only(np.lexsort((found.rows, found.host)))  # hosts may be mixed
    starts = found.has(_STATUS)
    torn = starts & (found.state == MALFORMED)
    found.damaged(torn, "machine check cut short", context)
    block = np.cumsum(starts) - 1
    n, first = int(starts.sum()), found.rows[starts]
    piece = found.has(_ADDR, _IPID, _CODE) & ~starts
    near = np.zeros(len(found), np.bool_)
    if n:
        near = (block >= 0) & (found.rows - first[block] <= _MOST_AMD_LINES) & (found.host == found.host[starts][block])
    found.damaged(piece & ~near, "piece of a machine check", context)
    more = (piece | found.has(_LEVEL, _DRAM)) & near
    said = np.append(starts[1:] & found.has(*_SAID)[:-1], False) if len(found) else starts
    block = np.where(said, block + 1, np.where(starts | more, block, -1))
    status, ipid = _filled(found, block, n, _STATUS, 0), _filled(found, block, n, _IPID, -1)
    ecc = is_umc(ipid) & (ipid >= 0)
    ecc[block[found.has(_UMC, _DRAM) & (block >= 0)]] = True
    whole = ecc | (ipid >= 0) | ~found.has(*_SCALABLE)[starts]
    whole[block[found.has(_CODE) & (block >= 0)]] = True
    found.damaged(short := starts & ~torn & ~_of(whole, block), "machine check cut short", context)
    amd = np.ones(n, np.bool_)
    checks = decode(status, _filled(found, block, n, _ADDR, 0), np.zeros(n, np.int64), amd, ecc)
    keep = checks.is_memory & ~torn[starts] & ~short[starts]
    found.used(_of(keep, block))
    channel, slot = umc_place(ipid, _filled(found, block, n, _SYNDROME, 0))
    placed = ecc & (ipid >= 0)
    events = context.batch(
        time=found.time[starts], host=found.host[starts], kind=checks.kind, severity=checks.severity,
        found_by=checks.found_by, address=checks.address, grain_bytes=checks.grain_bytes,
        channel=np.where(placed, channel, -1), slot=np.where(placed, slot, -1),
    )  # fmt: skip
    return events[keep], first[keep]


def told_by_edac(checks: EventBatch, at: I64, events: EventBatch, rows: I64) -> I64:
    """For each of AMD's machine checks the place of the EDAC event that follows it, int64[n]; -1 where there is none.

    Args:
        at, rows: Lines of the machine checks and of the events.
    """
    found = np.full(len(checks), -1)
    keys = events.host.astype(np.int64) << 40 | rows
    order, starts = np.argsort(keys), checks.host.astype(np.int64) << 40 | at
    next_start = np.append(np.sort(starts), np.iinfo(np.int64).max)[np.searchsorted(np.sort(starts), starts, "right")]
    place = np.searchsorted(keys[order], starts, "right")
    there = np.flatnonzero(place < len(order))
    event = order[place[there]]
    follows = keys[event] < np.minimum(next_start[there], starts[there] + _MOST_AMD_LINES)
    follows &= (events.kind[event] == checks.kind[there]) & (checks.address[there] < 0)
    found[there[follows]] = event[follows]
    return found


def _of(of_block: Bools, block: I64) -> Bools:
    """What holds of the block that each line belongs to, bool[n]; of none, nothing."""
    held = np.zeros(len(block), np.bool_)
    held[block >= 0] = of_block[block[block >= 0]]
    return held


def firmware_reports(found: Found, context: Context) -> tuple[EventBatch, I64]:
    """The memory errors that firmware reported, and the places of their first lines."""
    order = np.lexsort((found.rows, found.value(b"}[Hardware Error]:"), found.host))
    found = found.only(order)  # reports of several sources may be mixed
    starts = found.has(_SOURCE)
    section = found.has(_SECTION, _MEMORY)
    report = np.cumsum(starts) - 1
    memory = found.has(_MEMORY)
    part = np.cumsum(section | starts) - 1
    n = int(memory.sum())
    number = np.full(int(part[-1]) + 2 if len(part) else 1, -1)
    number[part[memory]] = np.arange(n)
    block = number[part] if len(part) else part  # the memory error that each line belongs to
    of_report = np.isin(report, report[memory]) & (report >= 0)
    kinds, severities = np.full(len(found), Kind.UE), np.full(len(found), Severity.UNKNOWN)
    said = np.zeros(len(found), np.bool_)
    for text, (code, severity) in _SEVERITIES.items():
        held = found.has(text)
        kinds[held], severities[held], said[held] = code, severity, True
    by_report = np.full(int(report[-1]) + 2 if len(report) else 1, -1)
    by_report[report[said][::-1]] = np.flatnonzero(said)[::-1]  # the first line that says it
    line = by_report[report[memory]]
    error_type = _filled(found, block, n, b"error_type: ", -1)
    kind = np.where(line >= 0, kinds[line], np.where(np.isin(error_type, _UNCORRECTED), Kind.UE, Kind.CE))
    address = _filled(found, block, n, b"physical_address: 0x", -1)
    mask = _filled(found, block, n, b"physical_address_mask: 0x", 0)
    grain = np.where(mask != 0, -mask, 64)
    cells = {name: _any(values, block, n) for name, values in found.cells().items()}
    cells["found_by"] = np.where(np.isin(error_type, _SCRUBBED), FoundBy.SCRUB, cells["found_by"])
    orphan = (found.has(b"physical_address: 0x", b"error_type: ") | memory) & (report < 0)
    found.damaged(orphan, "piece of a firmware report", context)
    whole = report[memory] >= 0
    found.used(of_report & ~orphan)
    events = context.batch(
        time=found.time[memory], host=found.host[memory], kind=kind,
        severity=np.where(line >= 0, severities[line], Severity.UNKNOWN), address=np.where(address > 0, address, -1),
        grain_bytes=np.where(address > 0, np.where(grain > 0, grain, 64), 0), **cells,
    )  # fmt: skip
    return events[whole], found.rows[memory][whole]


def _any(values: I64, block: I64, n: int) -> I64:
    column = np.full(n, -1)
    held = (values >= 0) & (block >= 0)
    column[block[held]] = values[held]
    return column
