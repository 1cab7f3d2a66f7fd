"""Readers of what only counts errors: EDAC's sysfs, poisoned pages in /proc and /sys, Redfish.

Their rows are counters (`EventBatch.is_counter`): how many errors since when, without an address.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from poisonsim.errors import LogError
from poisonsim.logs.codes import UNKNOWN, Kind, Outcome
from poisonsim.logs.context import Context
from poisonsim.logs.events import EventBatch
from poisonsim.logs.names import printable
from poisonsim.logs.source import Block, blocks
from poisonsim.units import format_bytes

MOST_BYTES = 64 << 20
_MOST_COUNT = 1 << 60
_EDAC = re.compile(rb"/edac/mc/mc(\d{1,4})/(?:(dimm|rank|csrow)(\d{1,4})/)?(\w{1,40})[:=]\s*(.*?)\s*\Z")
_EDAC_NAMED = {b"dimm_label": "label", b"dimm_location": "location"}
_EDAC_COUNTS = {
    b"ce_count": (Kind.CE, "all"), b"ue_count": (Kind.UE, "all"), b"ce_noinfo_count": (Kind.CE, "nowhere"),
    b"ue_noinfo_count": (Kind.UE, "nowhere"), b"dimm_ce_count": (Kind.CE, "dimm"), b"dimm_ue_count": (Kind.UE, "dimm"),
}  # fmt: skip
_LOCATION = re.compile(rb"(\w+) (-?\d{1,5})")
_NODE = re.compile(rb"/node(\d{1,5})/memory_failure/(total|ignored|failed|delayed|recovered)[:=]\s*(.*?)\s*\Z")
_CORRUPTED = re.compile(rb"(?:.*:)?HardwareCorrupted:\s*(.*?)\s*(?:kB)?\s*")
_OUTCOMES = {
    b"ignored": Outcome.IGNORED, b"failed": Outcome.FAILED, b"delayed": Outcome.DELAYED,
    b"recovered": Outcome.RECOVERED,
}  # fmt: skip
_KIB_PER_PAGE = 4


def _lines(context: Context) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of every line of a file that has to be small."""
    for block in _small(context):
        data = block.text.tobytes()
        for i, n in enumerate(block.lines.tolist()):
            yield n, data[block.starts[i] : block.ends[i]]


def _small(context: Context) -> Iterator[Block]:
    n_bytes = 0
    for block in blocks(context.path, context.report, context.progress):
        n_bytes += len(block.text)
        if n_bytes > MOST_BYTES:
            raise LogError(
                f"{context.report.path}: holds more than {format_bytes(MOST_BYTES)}, which no list of counters does; "
                "name the format that it really has"
            )
        yield block


def _count(text: bytes, line: int, context: Context) -> int | None:
    if text.isdigit() and len(text) < 20 and int(text) < _MOST_COUNT:
        return int(text)
    context.report.damaged("counter that is no number", line, text)
    return None


def _rows(rows: list[dict[str, Any]], context: Context) -> EventBatch:
    """A batch of counters; each row names only the columns it knows."""
    names = sorted({name for row in rows for name in row})
    if not rows:
        return EventBatch.concat([context.batch(kind=Kind.CE)[:0]])
    defaults = {"span_s": UNKNOWN}
    return context.batch(**{name: [row.get(name, defaults.get(name, UNKNOWN)) for row in rows] for name in names})


def read_edac_sysfs(context: Context) -> Iterator[EventBatch]:
    """Counters of EDAC, as `grep -r . /sys/devices/system/edac/mc` lists them: one row per DIMM and kind.

    Errors that a controller counted and no DIMM did have a row without a DIMM.
    """
    report = context.report
    counts: dict[tuple[int, Kind, int | str], int] = {}
    dimms: dict[tuple[int, int], dict[str, Any]] = {}
    ages: dict[int, int] = {}
    for n, line in _lines(context):
        report.n_records += 1
        match = _EDAC.search(line)
        if match is None:
            report.n_other += 1
            continue
        mc, of, dimm, name, value = int(match[1]), match[2], int(match[3] or -1), match[4], match[5]
        if name == b"seconds_since_reset" or (name in _EDAC_COUNTS and of != b"csrow"):
            number = _count(value, n, context)
            if number is None:
                continue
            if name == b"seconds_since_reset":
                ages[mc] = number
            else:
                kind, where = _EDAC_COUNTS[name]
                counts[mc, kind, dimm if where == "dimm" else where] = number
        elif of in (b"dimm", b"rank") and name in _EDAC_NAMED:
            about = dimms.setdefault((mc, dimm), {})
            if name == b"dimm_label":
                about["label"] = context.labels.number(value)
            else:
                places = {word: int(place) for word, place in _LOCATION.findall(value)}
                for word, column in ((b"channel", "channel"), (b"slot", "slot"), (b"csrow", "slot")):
                    about.update({column: places[word]} if word in places else {})
        else:
            report.n_other += 1
            continue
        report.n_used += 1
    rows = []
    for mc, kind in sorted({(mc, kind) for mc, kind, _ in counts}):
        of_dimms = {where: n for (m, k, where), n in counts.items() if (m, k) == (mc, kind) and isinstance(where, int)}
        nowhere = counts.get((mc, kind, "all"), 0) - sum(of_dimms.values())
        nowhere = max(nowhere, counts.get((mc, kind, "nowhere"), 0))
        common = {"kind": kind, "mc": mc, "span_s": ages.get(mc, UNKNOWN) or UNKNOWN}
        rows += [{**common, "count": n, **dimms.get((mc, dimm), {})} for dimm, n in sorted(of_dimms.items())]
        if nowhere > 0 or not of_dimms:
            rows.append({**common, "count": nowhere})
    yield _rows(rows, context)


def read_counters(context: Context) -> Iterator[EventBatch]:
    """Pages that the kernel poisoned: `HardwareCorrupted` of /proc/meminfo and the nodes' `memory_failure` counters.

    Where the nodes count, they are taken, and `HardwareCorrupted`, which counts the same pages, is not.
    """
    report = context.report
    nodes: dict[tuple[int, bytes], int] = {}
    corrupted = None
    for n, line in _lines(context):
        report.n_records += 1
        node, whole = _NODE.search(line), _CORRUPTED.fullmatch(line)
        match = node or whole
        if match is None:
            report.n_other += 1
            continue
        number = _count(match[match.lastindex or 1], n, context)
        if number is None:
            continue
        report.n_used += 1
        if match is whole:
            corrupted = number // _KIB_PER_PAGE
        else:
            nodes[int(match[1]), match[2]] = number
    rows = []
    for node_id in sorted({node_id for node_id, _ in nodes}):
        ended = {code: nodes.get((node_id, word), 0) for word, code in _OUTCOMES.items()}
        rest = nodes.get((node_id, b"total"), 0) - sum(ended.values())
        rows += [
            {"kind": Kind.POISON, "count": n, "outcome": code, "socket": node_id} for code, n in ended.items() if n
        ]
        rows += [{"kind": Kind.POISON, "count": rest, "socket": node_id}] if rest > 0 else []
    if nodes and corrupted is not None:
        report.n_merged += 1
        total = sum(row["count"] for row in rows)
        if total != corrupted:
            report.remark(f"the nodes count {total} poisoned pages, HardwareCorrupted {corrupted}: took the nodes'")
    elif corrupted is not None:
        rows.append({"kind": Kind.POISON, "count": corrupted})
    yield _rows([{**row, "span_s": UNKNOWN} for row in rows], context)


_PERIODS = ("LifeTime", "CurrentPeriod")
_REDFISH = {
    "CorrectableECCErrorCount": Kind.CE, "UncorrectableECCErrorCount": Kind.UE,
    "IndeterminateCorrectableErrorCount": Kind.NOTICE, "IndeterminateUncorrectableErrorCount": Kind.NOTICE,
}  # fmt: skip


def read_redfish(context: Context) -> Iterator[EventBatch]:
    """Error counts of Redfish `MemoryMetrics`, of one resource, a list of them or one on each line.

    Of each DIMM the counts of its life are taken, or those of the current period where there are no others.
    """
    report = context.report
    text = b"".join(block.text.tobytes() for block in _small(context)).decode("utf-8", "replace")
    documents: list[tuple[int, Any]] = []
    try:
        documents = [(1, json.loads(text))] if text.strip() else []
    except (ValueError, RecursionError):
        for n, line in enumerate(text.splitlines(), 1):
            if not line.strip():
                continue
            try:
                documents.append((n, json.loads(line)))
            except (ValueError, RecursionError):
                report.n_records += 1
                report.damaged("text that is no JSON", n, line)
    rows: list[dict[str, Any]] = []
    for n, document in documents:
        report.n_records += 1
        found = [row for metrics in _metrics(document) for row in _redfish_rows(metrics, n, context)]
        rows += found
        if found:
            report.n_used += 1
        elif not any(n in damage.lines for damage in report.damage.values()):
            report.n_other += 1
    yield _rows(rows, context)


def _metrics(document: Any) -> Iterator[dict[str, Any]]:
    """Every resource with error counts in a document, however deep."""
    rest = [document]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            if any(isinstance(value.get(period), dict) for period in _PERIODS):
                yield value
            else:
                rest += reversed(value.values())
        elif isinstance(value, list):
            rest += reversed(value)


def _redfish_rows(metrics: dict[str, Any], n: int, context: Context) -> list[dict[str, Any]]:
    where = str(metrics.get("@odata.id", "")).rstrip("/").removesuffix("/MemoryMetrics").rpartition("/")[2]
    label = context.labels.number(where or str(metrics.get("Name", "")))
    rows = []
    for name, kind in _REDFISH.items():
        counts = [metrics[period].get(name) for period in _PERIODS if isinstance(metrics.get(period), dict)]
        count = next((count for count in counts if count is not None), None)
        if count is None or (kind == Kind.NOTICE and count == 0):
            continue
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count < _MOST_COUNT:
            context.report.damaged("counter that is no number", n, printable(f"{name}: {count}"))
            return []
        rows.append({"kind": kind, "count": count, "span_s": UNKNOWN, "label": label})
    return rows
