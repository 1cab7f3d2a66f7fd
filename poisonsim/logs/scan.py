"""The loops that go over the bytes of a log: patterns with the numbers behind them, and fields between commas.

Text is uint8[n] throughout; lines are given as where they start and end in it. Nothing here knows a format.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from poisonsim.compiled import bare, compiled, inlined

I64 = NDArray[np.int64]

NO_NUMBER, DECIMAL, HEX, DECIMAL_THEN_HEX, DECIMAL_BEFORE = 0, 1, 2, 3, 4
SOUND, MALFORMED, TWO_HEADS = 0, 1, 2

DIGIT = np.full(256, 99, np.uint8)
DIGIT[48:58] = np.arange(10)
DIGIT[65:71] = DIGIT[97:103] = np.arange(10, 16)
WORD = np.zeros(256, np.bool_)
WORD[48:58] = WORD[65:91] = WORD[97:123] = True
WORD[95] = True
_NO = np.False_


class Patterns(NamedTuple):
    """Literal texts to look for, and what kind of number follows each; made by `patterns`.

    Args:
        letters: The texts one after the other, uint8[...].
        first: Where each starts in `letters`, int64[k + 1].
        number: `NO_NUMBER`, `DECIMAL`, `HEX`, `DECIMAL_THEN_HEX` (as in `13: bd00c1`), or `DECIMAL_BEFORE` the text,
            int64[k].
        is_head: Whether it makes a line one that counts, bool[k].
        by_pair: First pattern that starts with a pair of bytes, int16[65536]; -1 none.
        then: Next pattern that starts with the same pair, int64[k]; -1 none.
        head_byte: Whether any head starts with a byte, bool[256].
    """

    letters: NDArray[np.uint8]
    first: NDArray[np.int64]
    number: NDArray[np.int64]
    is_head: NDArray[np.bool_]
    by_pair: NDArray[np.int16]
    then: NDArray[np.int64]
    head_byte: NDArray[np.bool_]


def patterns(table: Sequence[tuple[bytes, int, bool]]) -> Patterns:
    """Patterns from rows of text of two bytes or more, kind of number, and whether it is a head.

    Examples:
        >>> patterns([(b"page:0x", HEX, True)]).first.tolist()
        [0, 7]
    """
    letters = np.frombuffer(b"".join(text for text, _, _ in table), np.uint8)
    first = np.cumsum([0, *(len(text) for text, _, _ in table)])
    by_pair, then = np.full(1 << 16, -1, np.int16), np.full(len(table), -1)
    for p in sorted(range(len(table)), key=lambda p: len(table[p][0])):  # the longest comes first in the chain
        pair_of = table[p][0][0] << 8 | table[p][0][1]
        then[p], by_pair[pair_of] = by_pair[pair_of], p
    heads = np.zeros(256, np.bool_)
    heads[[text[0] for text, _, is_head in table if is_head]] = True
    number, is_head = np.array([row[1] for row in table]), np.array([row[2] for row in table], np.bool_)
    return Patterns(letters, first, number, is_head, by_pair, then, heads)


@inlined
def _match(text: Any, at: Any, end: Any, p: Any) -> Any:
    """The pattern at a place of the text, the longest of them; -1 none. One that starts a word asks for its start."""
    found = np.int64(p.by_pair[np.int64(text[at]) << 8 | np.int64(text[at + 1])]) if at + 1 < end else -1
    while found >= 0:
        n = p.first[found + 1] - p.first[found]
        if at + n <= end:
            same = True
            for k in range(2, n):
                if text[at + k] != p.letters[p.first[found] + k]:
                    same = False
                    break
            if same:
                break
        found = p.then[found]
    return found


def heads(text: NDArray[np.uint8], starts: I64, ends: I64, p: Patterns) -> I64:
    """Where the first head of each line is, int64[n]; -1 in lines without one."""
    where = np.full(len(starts), -1)
    _heads(text, starts, ends, p, where)
    return where


@bare
def _heads(text: Any, starts: Any, ends: Any, p: Any, where: Any) -> Any:
    for i in range(len(starts)):
        in_word = _NO
        for at in range(starts[i], ends[i]):
            byte = text[at]
            if p.head_byte[byte] and not (in_word and WORD[byte]):
                found = _match(text, at, ends[i], p)
                if found >= 0 and p.is_head[found]:
                    where[i] = at
                    break
            in_word = WORD[byte]


@bare
def _number_before(text: Any, end: Any) -> Any:
    """The decimal number that ends at a place, of up to 18 digits; -1 if none does."""
    at, value, scale = end, 0, 1
    while at > 0 and end - at < 18 and DIGIT[text[at - 1]] < 10:
        at -= 1
        value += scale * DIGIT[text[at]]
        scale *= 10
    return value if at < end else -1


def numbers_behind(
    text: NDArray[np.uint8], starts: I64, ends: I64, p: Patterns
) -> tuple[I64, NDArray[np.int32], NDArray[np.int8]]:
    """Every pattern's first place in each line, and the number behind it.

    Returns:
        Numbers as the 64 bits they have, int64[k, n]; places of what follows the pattern in `text`, int32[k, n], -1
        where the line does not hold it; state of each line, int8[n]: `SOUND`, `MALFORMED` where a number is missing
        or has more than 64 bits, `TWO_HEADS` where a head came twice.
    """
    n, k = len(starts), len(p.number)
    values, places = np.zeros((k, n), np.int64), np.full((k, n), -1, np.int32)
    state = np.zeros(n, np.int8)
    _numbers_behind(text, starts, ends, p, values, places, state)
    return values, places, state


@bare
def _numbers_behind(text: Any, starts: Any, ends: Any, p: Any, values: Any, places: Any, state: Any) -> Any:
    for i in range(len(starts)):
        at, end = starts[i], ends[i]
        in_word: Any = _NO
        while at < end:
            byte = text[at]
            inside, in_word = in_word & WORD[byte], WORD[byte]
            found = -1 if inside else _match(text, at, end, p)
            if found < 0:
                at += 1
                continue
            in_word = _NO
            at += p.first[found + 1] - p.first[found]
            if places[found, i] >= 0:
                if p.is_head[found]:
                    state[i] = TWO_HEADS
                continue
            places[found, i] = at
            if p.number[found] == DECIMAL_BEFORE:
                values[found, i] = _number_before(text, at - (p.first[found + 1] - p.first[found]))
            elif p.number[found] != NO_NUMBER:
                while at < end and text[at] == 32:
                    at += 1
                if p.number[found] == DECIMAL_THEN_HEX:
                    while at < end and DIGIT[text[at]] < 10:
                        at += 1
                    at += 2
                base = 10 if p.number[found] == DECIMAL else 16
                minus = base == 10 and at < end and text[at] == 45
                at += minus
                value, begin = np.uint64(0), at
                fits: Any = True
                while at < end and DIGIT[text[at]] < base:
                    digit = np.uint64(DIGIT[text[at]])
                    if base == 16:
                        fits = fits and value >> np.uint64(60) == 0
                        value = value << np.uint64(4) | digit
                    else:
                        fits = fits and value < np.uint64(900_000_000_000_000_000)
                        value = value * np.uint64(10) + digit
                    at += 1
                if at == begin or not fits:
                    state[i] = max(state[i], MALFORMED)
                values[found, i] = -np.int64(value) if minus else np.int64(value)


@compiled
def split(text: Any, starts: Any, ends: Any, n_fields: Any, comma: Any) -> Any:
    """Where the fields of each line begin and end.

    A field in double quotes may hold commas; its quotes are not part of it, doubled ones inside it are left doubled.

    Returns:
        First byte of each field and what follows its last one, int64[n, n_fields] each; number of fields that the
        line really has, int64[n], -1 where a quote is left open.
    """
    n = len(starts)
    begin, stop, count = np.zeros((n, n_fields), np.int64), np.zeros((n, n_fields), np.int64), np.zeros(n, np.int64)
    for i in range(n):
        at, end, field = starts[i], ends[i], 0
        while True:
            first = at
            quoted = at < end and text[at] == 34
            if quoted:
                at += 1
                while at < end and not (text[at] == 34 and not (at + 1 < end and text[at + 1] == 34)):
                    at += 1 + (text[at] == 34)
                if at >= end:
                    field = -2
                    break
                first, last = first + 1, at
                at += 1
            while at < end and text[at] != comma:
                at += 1
            if field < n_fields:
                begin[i, field], stop[i, field] = first, last if quoted else at
            if at >= end:
                break
            field += 1
            at += 1
        count[i] = field + 1
    return begin, stop, count


@compiled
def whole_numbers(text: Any, begin: Any, stop: Any) -> Any:
    """The whole number in each field: `12`, `-1`, `0x1f`, `7.0`; blanks around it do no harm.

    Returns:
        Numbers, int64[n] (hex as the 64 bits it has); state of each, int8[n]: 0 sound, 1 empty, 2 not such a number.
    """
    values, state = np.zeros(len(begin), np.int64), np.zeros(len(begin), np.int8)
    for i in range(len(begin)):
        at, end = begin[i], stop[i]
        while at < end and text[at] == 32:
            at += 1
        while at < end and text[end - 1] == 32:
            end -= 1
        if at >= end:
            state[i] = 1
            continue
        minus = text[at] == 45
        at += minus
        is_hex = at + 2 < end and text[at] == 48 and (text[at + 1] == 120 or text[at + 1] == 88)
        value, first = np.uint64(0), at
        if is_hex:
            at += 2
            while at < end and DIGIT[text[at]] < 16 and value >> np.uint64(60) == 0:
                value = value << np.uint64(4) | np.uint64(DIGIT[text[at]])
                at += 1
        else:
            while at < end and DIGIT[text[at]] < 10 and value < np.uint64(900_000_000_000_000_000):
                value = value * np.uint64(10) + np.uint64(DIGIT[text[at]])
                at += 1
            if at > first and at + 1 < end and text[at] == 46:
                at += 1
                while at < end and text[at] == 48:
                    at += 1
        if at == first or at < end or (minus and is_hex):
            state[i] = 2
        values[i] = -np.int64(value) if minus else np.int64(value)
    return values, state
