"""Reader of the system event log of a BMC, as `ipmitool sel list` prints it: memory events without an address."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from poisonsim.logs.clock import to_utc
from poisonsim.logs.codes import Kind
from poisonsim.logs.context import Context, count_damage, texts
from poisonsim.logs.events import I64, EventBatch, Times
from poisonsim.logs.scan import split
from poisonsim.logs.source import Block, blocks
from poisonsim.logs.stamps import LOCAL, stamps

_FIELDS = 6
_KINDS = (
    (b"uncorrectable ecc", Kind.UE), (b"logging limit", Kind.NOTICE), (b"correctable ecc", Kind.CE),
)  # fmt: skip


def read_ipmi_sel(context: Context) -> Iterator[EventBatch]:
    """The memory events of a system event log, block by block."""
    report = context.report
    for block in blocks(context.path, report, context.progress):
        begin, stop, n_fields = split(block.text, block.starts, block.ends, _FIELDS, ord("|"))
        n = len(block.lines)
        report.n_records += n
        blank = block.ends == block.starts
        sensors = np.zeros(n, np.bool_)
        sensors[:] = [b"memory" in text.lower() for text in texts(block, begin[:, 3], stop[:, 3])]
        words = [text.strip().lower() for text in texts(block, begin[:, 4], stop[:, 4])]
        short = ~blank & (n_fields < _FIELDS)
        count_damage(report, block, short, "line cut short")
        rows = np.flatnonzero(~short & sensors & (n_fields >= _FIELDS))
        asserted = np.array(
            [b"deassert" not in text.lower() for text in texts(block, begin[rows, 5], stop[rows, 5])], bool
        )
        rows = rows[asserted] if len(rows) else rows
        time = _times(block, begin[rows], stop[rows], context)
        kinds = [next((kind for text, kind in _KINDS if text in words[i]), Kind.NOTICE) for i in rows.tolist()]
        report.n_used += len(rows)
        report.n_other += n - len(rows) - int(short.sum())
        labels = [text.strip() for text in texts(block, begin[rows, 3], stop[rows, 3])]
        yield context.batch(
            kind=np.array(kinds, np.int8), time=time, label=context.labels.numbers(labels),
        )  # fmt: skip


def _times(block: Block, begin: I64, stop: I64, context: Context) -> Times:
    """UTC of `03/03/2025 | 02:07:55`, month first, with or without a zone; `NaT` before the clock was set."""
    dates = texts(block, begin[:, 1], stop[:, 1])
    clocks = texts(block, begin[:, 2], stop[:, 2])
    lines = []
    for date, clock in zip(dates, clocks, strict=True):
        month, _, rest = date.strip().partition(b"/")
        day, _, year = rest.partition(b"/")
        lines.append(b"%s-%s-%s %s" % (year[:4], month[:2].zfill(2), day[:2].zfill(2), clock.strip()[:40]))
    if not lines:
        return np.empty(0, "M8[us]")
    text = np.frombuffer(b"\n".join(lines) + b"\n", np.uint8)
    ends = np.flatnonzero(text == 10)
    kinds, micros, _, _ = stamps(text, np.concatenate([[0], ends[:-1] + 1]), ends)
    times: Times = micros.view("M8[us]").copy()
    times[kinds < LOCAL] = np.datetime64("NaT")
    if context.tz.key != "UTC":
        times[kinds == LOCAL] = to_utc(times[kinds == LOCAL], context.tz)
    return times
