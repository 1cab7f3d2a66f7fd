"""Reader of the system event log of a BMC, as `ipmitool sel list` prints it: memory events without an address."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from poisonsim.logs.alike import distinct
from poisonsim.logs.clock import to_utc
from poisonsim.logs.codes import Kind
from poisonsim.logs.context import Context, coded, count_damage, texts
from poisonsim.logs.events import I8, I64, EventBatch, Times
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
        short = (block.ends > block.starts) & (n_fields < _FIELDS)
        count_damage(report, block, short, "line cut short")
        whole = np.flatnonzero(n_fields >= _FIELDS)
        begin, stop = begin[whole], stop[whole]

        def codes(field: int, code: Callable[[bytes], int], begin: I64 = begin, stop: I64 = stop) -> I64:
            return coded(block, begin[:, field], stop[:, field], lambda text: code(text.strip()))  # noqa: B023

        of_memory = codes(3, lambda sensor: b"memory" in sensor.lower()) > 0
        of_memory &= codes(5, lambda text: b"deassert" not in text.lower()) > 0
        begin, stop = begin[of_memory], stop[of_memory]
        report.n_used += len(begin)
        report.n_other += n - len(begin) - int(short.sum())
        yield context.batch(
            kind=codes(4, _kind, begin, stop), time=_times(block, begin, stop, context),
            label=codes(3, context.labels.number, begin, stop),
        )  # fmt: skip


def _kind(words: bytes) -> int:
    return next((kind for text, kind in _KINDS if text in words.lower()), Kind.NOTICE)


def _times(block: Block, begin: I64, stop: I64, context: Context) -> Times:
    """UTC of `03/03/2025 | 02:07:55`, month first, with or without a zone; `NaT` before the clock was set."""

    def stamped(field: int, line: Callable[[bytes], bytes]) -> tuple[I8, I64]:
        """Kinds and microseconds of the stamps that are made of the different texts of a field."""
        number, first = distinct(block.text, begin[:, field], stop[:, field])
        lines = [line(text.strip()[:40]) for text in texts(block, begin[first, field], stop[first, field])]
        text = np.frombuffer(b"\n".join(lines) + b"\n", np.uint8)
        ends = np.flatnonzero(text == 10)
        kinds, micros, _, _ = stamps(text, np.append(0, ends[:-1] + 1), ends)
        return kinds[number], micros[number]

    if not len(begin):
        return np.empty(0, "M8[us]")
    day_kinds, days = stamped(1, _day)
    kinds, clocks = stamped(2, lambda clock: b"1970-01-01 " + clock.replace(b"\n", b" "))
    times: Times = (days + clocks).view("M8[us]")
    times[(day_kinds < LOCAL) | (kinds < LOCAL)] = np.datetime64("NaT")
    if context.tz.key != "UTC":
        times[kinds == LOCAL] = to_utc(times[kinds == LOCAL], context.tz)
    return times


def _day(date: bytes) -> bytes:
    """A date as a time of ISO 8601."""
    month, _, rest = date.partition(b"/")
    day, _, year = rest.partition(b"/")
    return b"%s-%s-%s 00:00:00" % (year[:4], month[:2].zfill(2), day[:2].zfill(2))
