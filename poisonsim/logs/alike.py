"""The loops that find what is alike: pieces of a text, records of one event from two sources, events seen before."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from poisonsim.compiled import bare, compiled, inlined

I64 = NDArray[np.int64]


@compiled
def pair(key_a: Any, time_a: Any, key_b: Any, time_b: Any, window: Any) -> Any:
    """For each of `a` the one of `b` with the same key that is nearest in turn, within `window` of its time.

    Both are sorted by key, those of one key in the order of the log; no one of `b` is given twice.

    Returns:
        Places in `b`, int64[len(a)]; -1 where there is none.
    """
    found = np.full(len(key_a), -1)
    i, j = 0, 0
    while i < len(key_a) and j < len(key_b):
        if key_a[i] < key_b[j]:
            i += 1
        elif key_a[i] > key_b[j]:
            j += 1
        elif abs(time_a[i] - time_b[j]) <= window:
            found[i] = j
            i += 1
            j += 1
        elif time_a[i] < time_b[j]:
            i += 1
        else:
            j += 1
    return found


@inlined
def _digest(text: Any, begin: Any, stop: Any) -> Any:
    """FNV-1a in four lanes, which the processor works at together."""
    prime = np.uint64(1_099_511_628_211)
    a = b = c = d = np.uint64(14_695_981_039_346_656_037)
    at = begin
    while at + 3 < stop:
        a = (a ^ np.uint64(text[at])) * prime
        b = (b ^ np.uint64(text[at + 1])) * prime
        c = (c ^ np.uint64(text[at + 2])) * prime
        d = (d ^ np.uint64(text[at + 3])) * prime
        at += 4
    while at < stop:
        a = (a ^ np.uint64(text[at])) * prime
        at += 1
    return (((a * prime ^ b) * prime ^ c) * prime ^ d) * prime


@inlined
def _same(text: Any, begin: Any, stop: Any, i: Any, j: Any) -> Any:
    n = stop[i] - begin[i]
    same = stop[j] - begin[j] == n
    for k in range(n if same else 0):
        if text[begin[i] + k] != text[begin[j] + k]:
            same = False
            break
    return same


@bare
def _distinct(text: Any, begin: Any, stop: Any, slots: Any, number: Any, first: Any) -> Any:
    mask, n = len(slots) - 1, 0
    for i in range(len(begin)):
        if i > 0 and _same(text, begin, stop, i, i - 1):
            number[i] = number[i - 1]
            continue
        slot = np.int64(_digest(text, begin[i], stop[i]) >> np.uint64(20)) & mask
        while True:
            known = slots[slot]
            if known < 0:
                slots[slot], first[n], number[i] = n, i, n
                n += 1
                break
            if _same(text, begin, stop, i, first[known]):
                number[i] = known
                break
            slot = (slot + 1) & mask
    return n


def distinct(text: NDArray[np.uint8], begin: I64, stop: I64) -> tuple[I64, I64]:
    """Tells apart the pieces of a text.

    Returns:
        For each piece the number of those alike, int64[n]; for each number the place of its first piece, int64[m].

    Examples:
        >>> distinct(np.frombuffer(b"abcab", np.uint8), np.array([0, 3, 1]), np.array([2, 5, 3]))
        (array([0, 0, 1]), array([0, 2]))
    """
    n = len(begin)
    slots = np.full(1 << max(4, (2 * n).bit_length()), -1)
    number, first = np.zeros(n, np.int64), np.zeros(n, np.int64)
    m = _distinct(text, begin, stop, slots, number, first) if n else 0
    return number, first[:m]


@bare
def _remember(table: Any, digests: Any, known: Any) -> Any:
    mask = len(table) - 1
    for i in range(len(digests)):
        digest = digests[i]
        row = np.int64(digest >> np.uint64(32)) & mask
        for k in range(table.shape[1]):
            if table[row, k] == digest:
                known[i] = True
                break
        else:
            for k in range(table.shape[1] - 1, 0, -1):
                table[row, k] = table[row, k - 1]
            table[row, 0] = digest


def remember(table: NDArray[np.uint64], digests: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which digests are in a table of the latest ones, uint64[2**b, ways], or came before; puts the others in."""
    known = np.zeros(len(digests), np.bool_)
    _remember(table, digests, known)
    return known
