"""Reader of the kernel's lines in the journal, as `journalctl -o json` prints it: one JSON object a line.

Of an entry five fields are looked at: `MESSAGE` (text, or an array of its bytes where they are no plain text),
`__REALTIME_TIMESTAMP` in microseconds, `_HOSTNAME`, and `_TRANSPORT` and `SYSLOG_IDENTIFIER`, which say whether the
kernel wrote it. They become lines of a kernel log, which is what the rest is read by.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from poisonsim.compiled import bare, inlined
from poisonsim.logs.context import Context, coded, count_damage
from poisonsim.logs.events import EventBatch
from poisonsim.logs.kernel import kernel_events, open_record
from poisonsim.logs.scan import DIGIT
from poisonsim.logs.source import Block, blocks

_KEYS = (b"MESSAGE", b"__REALTIME_TIMESTAMP", b"_HOSTNAME", b"_TRANSPORT", b"SYSLOG_IDENTIFIER")
_MESSAGE, _TIME, _HOST, _TRANSPORT, _NAME = range(5)
_LETTERS = np.frombuffer(b"".join(_KEYS), np.uint8)
_FIRST = np.cumsum([0, *map(len, _KEYS)])
_KERNEL = np.frombuffer(b" kernel: ", np.uint8)
_MORE_BYTES = 32
"""Bytes of a line beside what its entry holds: the point within the time, the word `kernel`, the line feed."""


def read_journal(context: Context) -> Iterator[EventBatch]:
    """The events of a journal, block by block."""
    clock = context.clock()
    for block in blocks(context.path, context.report, context.progress, open_record):
        yield kernel_events(_kernel_lines(block, context), context, clock)


def _kernel_lines(block: Block, context: Context) -> Block:
    """The kernel's lines of a block of entries; counts all others."""
    n, report = len(block.lines), context.report
    begin, stop = np.zeros((len(_KEYS), n), np.int64), np.zeros((len(_KEYS), n), np.int64)
    whole = np.zeros(n, np.bool_)
    _fields(block.text, block.starts, block.ends, _LETTERS, _FIRST, begin, stop, whole)
    blank = block.ends == block.starts
    count_damage(report, block, ~whole & ~blank, "line that is no JSON object")

    def is_kernel(word: bytes) -> int:
        return word == b'"kernel"'

    by_kernel = (stop[_TRANSPORT] == 0) & (stop[_NAME] == 0)
    for field in (_TRANSPORT, _NAME):
        by_kernel |= coded(block, begin[field], stop[field], is_kernel) > 0
    taken = np.flatnonzero(whole & by_kernel & (stop[_MESSAGE] > 0))
    report.n_records += n - len(taken)
    report.n_other += n - len(taken) - int((~whole & ~blank).sum())
    fields = begin[:, taken], stop[:, taken]
    size = int((fields[1][[_MESSAGE, _TIME, _HOST]] - fields[0][[_MESSAGE, _TIME, _HOST]]).sum())
    text, ends = np.empty(size + _MORE_BYTES * len(taken), np.uint8), np.zeros(len(taken), np.int64)
    _write(block.text, *fields, _KERNEL, text, ends)
    starts = np.append(0, ends[:-1] + 1)[: len(ends)]
    is_cut = block.is_cut and len(taken) > 0 and taken[-1] == n - 1
    return Block(text, starts, ends, block.lines[taken], is_cut)


@inlined
def _blanks(text: Any, at: Any, end: Any) -> Any:
    """What follows the blanks at a place."""
    while at < end and text[at] <= 32:
        at += 1
    return at


@inlined
def _quoted(text: Any, at: Any, end: Any) -> Any:
    """What follows the text in quotes that begins at a place; -1 if it does not end."""
    at += 1
    while at < end:
        byte = text[at]
        at += 1
        if byte == 34:
            return at
        if byte == 92:
            at += 1
    return -1


@inlined
def _value(text: Any, at: Any, end: Any) -> Any:
    """What follows the JSON value that begins at a place; -1 if it does not end, or is none."""
    depth, begin = 0, at
    while at < end:
        byte = text[at]
        if byte == 34:
            at = _quoted(text, at, end)
            if at < 0:
                return -1
        elif byte == 91 or byte == 123:
            depth, at = depth + 1, at + 1
        elif (byte == 93 or byte == 125) and depth > 0:
            depth, at = depth - 1, at + 1
        elif depth == 0 and (byte == 44 or byte == 125 or byte <= 32):
            return at if at > begin else -1
        else:
            at += 1
            continue
        if depth == 0 and byte != 91 and byte != 123:
            return at
    return at if depth == 0 and at > begin else -1


@bare
def _fields(text: Any, starts: Any, ends: Any, letters: Any, first: Any, begin: Any, stop: Any, whole: Any) -> Any:
    """Where the values of the fields of each line begin and end, quotes included; alike where there is none."""
    for i in range(len(starts)):
        end = ends[i]
        at = _blanks(text, starts[i], end)  # the mark before records of a JSON sequence is one
        if at >= end or text[at] != 123:
            continue
        at = _blanks(text, at + 1, end)
        sound = True
        while at < end and text[at] != 125:
            key = at + 1
            at = _quoted(text, at, end) if text[at] == 34 else -1
            if at < 0:
                sound = False
                break
            n_key = at - 1 - key
            at = _blanks(text, at, end)
            if at >= end or text[at] != 58:
                sound = False
                break
            at = _blanks(text, at + 1, end)
            value = at
            if at < end and text[at] == 34:
                at = _quoted(text, at, end)
            else:
                at = _value(text, at, end)
            if at < 0:
                sound = False
                break
            for k in range(len(first) - 1):
                same = first[k + 1] - first[k] == n_key
                for j in range(n_key if same else 0):
                    if text[key + j] != letters[first[k] + j]:
                        same = False
                        break
                if same and text[value] != 110:  # null
                    begin[k, i], stop[k, i] = value, at
                    break
            at = _blanks(text, at, end)
            if at < end and text[at] == 44:
                at = _blanks(text, at + 1, end)
                if at < end and text[at] == 125:
                    sound = False
                    break
            elif at >= end or text[at] != 125:
                sound = False
                break
        whole[i] = sound and at < end and _blanks(text, at + 1, end) == end


@inlined
def _plain(byte: Any) -> Any:
    """A byte as a line may hold it."""
    return byte if byte >= 32 and byte != 127 else np.uint8(32)


@inlined
def _copy(text: Any, at: Any, end: Any, into: Any, n: Any) -> Any:
    """Writes what a JSON value says, of which an array gives bytes, or its first text; gives what follows it."""
    if at < end and text[at] == 91:
        at = _blanks(text, at + 1, end)
        if at < end and text[at] != 34:
            value, digits = 0, 0
            while at < end:
                if DIGIT[text[at]] < 10 and value < 256:
                    value, digits = value * 10 + DIGIT[text[at]], digits + 1
                elif digits > 0:
                    into[n] = _plain(np.uint8(value)) if value < 256 else np.uint8(63)
                    n, value, digits = n + 1, 0, 0
                at += 1
            return n
        end = _quoted(text, at, end) if at < end else end
    if at < end and text[at] == 34:
        at, end = at + 1, end - 1
    while at < end:
        byte = text[at]
        at += 1
        if byte != 92 or at >= end:
            into[n] = _plain(byte)
            n += 1
            continue
        byte = text[at]
        at += 1
        if byte == 117 and at + 4 <= end:  # u and four hex digits
            code = np.int64(0)
            for k in range(4):
                code = code << 4 | np.int64(DIGIT[text[at + k]]) & 15
            at += 4
            if code < 128:
                into[n] = _plain(np.uint8(code))
            elif code < 2048:
                into[n] = 192 | code >> 6
                n += 1
                into[n] = 128 | code & 63
            elif code < 55_296 or code > 57_343:
                into[n] = 224 | code >> 12
                into[n + 1] = 128 | code >> 6 & 63
                n += 2
                into[n] = 128 | code & 63
            else:  # a half of a pair
                into[n] = 63
        elif byte == 34 or byte == 92 or byte == 47:
            into[n] = byte
        else:  # a line feed and the like
            into[n] = 32
        n += 1
    return n


@bare
def _write(text: Any, begin: Any, stop: Any, kernel: Any, into: Any, ends: Any) -> Any:
    """Writes entries as lines of a kernel log: seconds since 1970, host, the word `kernel`, message."""
    n = 0
    for i in range(len(ends)):
        at, end = begin[_TIME, i], stop[_TIME, i]
        if at < end and text[at] == 34:
            at, end = at + 1, end - 1
        digits = end - at
        for j in range(at, end):
            if DIGIT[text[j]] > 9:
                digits = 0
        if 6 < digits < 18:
            for j in range(at, end):
                if j == end - 6:
                    into[n] = 46
                    n += 1
                into[n] = text[j]
                n += 1
            into[n] = 32
            n += 1
            host = n
            n = _copy(text, begin[_HOST, i], stop[_HOST, i], into, n)
            for j in range(host, n):
                if into[j] == 32:
                    into[j] = 95
            for j in range(0 if n > host else 1, len(kernel)):
                into[n] = kernel[j]
                n += 1
        n = _copy(text, begin[_MESSAGE, i], stop[_MESSAGE, i], into, n)
        ends[i] = n
        into[n] = 10
        n += 1
