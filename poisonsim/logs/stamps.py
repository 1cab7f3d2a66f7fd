"""The loops that read time stamps: at the start of a kernel's lines, in columns of tables, before a trace's events.

Text is uint8[n]; stamps are given as where they start and where the line, or they, end.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from poisonsim.compiled import compiled
from poisonsim.logs.scan import DIGIT, WORD

NO_STAMP, SINCE_BOOT, NO_YEAR, LOCAL, ABSOLUTE = 0, 1, 2, 3, 4
_MONTHS = np.frombuffer(b"JanFebMarAprMayJunJulAugSepOctNovDec", np.uint8)


@compiled
def _digits(text: Any, at: Any, end: Any, n: Any) -> Any:
    """The number of `n` decimal digits at a place; -1 if they are not there."""
    value = 0
    if at + n > end:
        return -1
    for k in range(n):
        digit = DIGIT[text[at + k]]
        if digit > 9:
            return -1
        value = value * 10 + digit
    return value


@compiled
def days_from_civil(year: Any, month: Any, day: Any) -> Any:
    """Days from 1970-01-01 to a date of the Gregorian calendar."""
    y = year - (month <= 2)
    era = y // 400
    of_era = y - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


@compiled
def _clock(text: Any, at: Any, end: Any) -> Any:
    """Microseconds of the day of `02:07:55`, `02:07:55.123456` at a place, and what follows it; -1 if there is none."""
    h, m, s = _digits(text, at, end, 2), _digits(text, at + 3, end, 2), _digits(text, at + 6, end, 2)
    if h < 0 or m < 0 or s < 0 or h > 23 or m > 59 or s > 60 or text[at + 2] != 58 or text[at + 5] != 58:
        return -1, at
    at += 8
    micros = (h * 3600 + m * 60 + s) * 1_000_000
    if at + 1 < end and (text[at] == 46 or text[at] == 44) and DIGIT[text[at + 1]] < 10:
        scale = 100_000
        at += 1
        while at < end and DIGIT[text[at]] < 10:
            micros += scale * DIGIT[text[at]]
            scale //= 10
            at += 1
    return micros, at


@compiled
def _minutes(text: Any, at: Any, end: Any) -> Any:
    """As `_clock`, of `02:07` without seconds."""
    h, m = _digits(text, at, end, 2), _digits(text, at + 3, end, 2)
    if h < 0 or m < 0 or h > 23 or m > 59 or text[at + 2] != 58:
        return -1, at
    return (h * 60 + m) * 60_000_000, at + 5


@compiled
def _zone(text: Any, at: Any, end: Any) -> Any:
    """Minutes east of Greenwich of `Z`, `+0100`, ` +01:00`, ` UTC` at a place, and what follows; 9999 if unsaid."""
    if at < end and (text[at] == 90 or text[at] == 122):
        return 0, at + 1
    space = at < end and text[at] == 32
    z = at + space
    if z < end and (text[z] == 43 or text[z] == 45):
        h = _digits(text, z + 1, end, 2)
        colon = z + 3 < end and text[z + 3] == 58
        m = _digits(text, z + 3 + colon, end, 2)
        if h >= 0 and m >= 0 and h < 24 and m < 60:
            return (h * 60 + m) * (1 if text[z] == 43 else -1), z + 5 + colon
    if space and z + 3 <= end and text[z + 1] in (77, 84):  # GMT, UTC
        if text[z] == 71 and text[z + 1] == 77 and text[z + 2] == 84:
            return 0, z + 3
        if text[z] == 85 and text[z + 1] == 84 and text[z + 2] == 67:
            return 0, z + 3
    return 9999, at


@compiled
def _month(text: Any, at: Any, end: Any) -> Any:
    if at + 3 <= end:
        for m in range(12):
            if text[at] == _MONTHS[3 * m] and text[at + 1] == _MONTHS[3 * m + 1] and text[at + 2] == _MONTHS[3 * m + 2]:
                return m + 1
    return 0


@compiled
def _valid_day(year: Any, month: Any, day: Any) -> Any:
    if month < 1 or month > 12 or day < 1:
        return False
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    last = 31 - (month in (4, 6, 9, 11)) - (month == 2) * (2 if leap else 3)
    return day <= last


@compiled
def _stamp(text: Any, at: Any, end: Any) -> Any:
    """Kind of the stamp at a place, microseconds, what follows it; of `NO_YEAR` the year is taken to be 2000."""
    if at + 3 < end and text[at] > 64 and text[at + 3] == 32:  # a weekday before it, or a month
        month = _month(text, at, end)
        if month == 0:
            at += 4
            month = _month(text, at, end)
        if month > 0:
            day_at = at + 4
            while day_at < end and text[day_at] == 32:
                day_at += 1
            n = 2 if day_at + 1 < end and DIGIT[text[day_at + 1]] < 10 else 1
            day = _digits(text, day_at, end, n)
            micros, after = _clock(text, day_at + n + 1, end)
            if day < 0 or micros < 0:
                return NO_STAMP, 0, at
            year = _digits(text, after + 1, end, 4) if after < end and text[after] == 32 else -1
            if year >= 1970 and (after + 5 == end or not WORD[text[after + 5]]):
                if not _valid_day(year, month, day):
                    return NO_STAMP, 0, at
                return LOCAL, days_from_civil(year, month, day) * 86_400_000_000 + micros, after + 5
            if not _valid_day(2000, month, day):
                return NO_STAMP, 0, at
            return NO_YEAR, days_from_civil(2000, month, day) * 86_400_000_000 + micros, after
    year = _digits(text, at, end, 4)
    if year >= 0 and at + 10 < end and text[at + 4] == text[at + 7] and (text[at + 4] == 45 or text[at + 4] == 47):
        month, day = _digits(text, at + 5, end, 2), _digits(text, at + 8, end, 2)
        micros, after = _clock(text, at + 11, end)
        short = micros < 0
        if short:
            micros, after = _minutes(text, at + 11, end)
        if micros < 0 or not _valid_day(year, month, day):
            return NO_STAMP, 0, at
        micros += days_from_civil(year, month, day) * 86_400_000_000
        zone, after = _zone(text, after, end)
        if short and after < end:  # `02:07 PM`
            return NO_STAMP, 0, at
        if zone == 9999:
            return LOCAL, micros, after
        return ABSOLUTE, micros - zone * 60_000_000, after
    seconds, begin = 0, at
    while at < end and DIGIT[text[at]] < 10 and at - begin < 12:
        seconds = seconds * 10 + DIGIT[text[at]]
        at += 1
    if at == begin or at >= end or text[at] != 46:
        return NO_STAMP, 0, begin
    scale, micros = 100_000, seconds * 1_000_000
    at += 1
    while at < end and DIGIT[text[at]] < 10:
        micros += scale * DIGIT[text[at]]
        scale //= 10
        at += 1
    return ABSOLUTE if seconds >= 500_000_000 else SINCE_BOOT, micros, at


@compiled
def stamps(text: Any, starts: Any, ends: Any) -> Any:
    """The time stamp at the start of each line, and the host named after it.

    Understood are syslog (`Mar  3 02:07:55 host`), ISO 8601 with and without zone, `[ 8412.550000]` of dmesg and
    `[Mon Mar  3 02:07:55 2025]` of dmesg -T, the records of /dev/kmsg, and seconds since 1970 with a fraction.

    Returns:
        Kind of each, int8[n]: `NO_STAMP`, `SINCE_BOOT`, `NO_YEAR`, `LOCAL` time of an unnamed zone, `ABSOLUTE`;
        microseconds since the boot or since 1970, int64[n], `NO_YEAR` as if it were 2000; start and end of the word
        before `kernel`, int64[n] each, alike where there is none.
    """
    n = len(starts)
    kinds, micros = np.zeros(n, np.int8), np.zeros(n, np.int64)
    host_from, host_to = np.zeros(n, np.int64), np.zeros(n, np.int64)
    for i in range(n):
        at, end = starts[i], ends[i]
        while at < end and text[at] <= 32:  # blanks, and the zeros that a crash leaves
            at += 1
        if at < end and text[at] == 60:  # <priority>
            close = at + 1
            while close < end and close < at + 5 and DIGIT[text[close]] < 10:
                close += 1
            if close < end and text[close] == 62:
                at = close + 1
                if at + 1 < end and text[at] == 49 and text[at + 1] == 32:
                    at += 2
        bracket = at < end and text[at] == 91
        if bracket:
            at += 1
            while at < end and text[at] == 32:
                at += 1
        kind, micro, after = _stamp(text, at, end)
        if kind == NO_STAMP and not bracket:  # /dev/kmsg: priority,number,microseconds,flag;
            comma, value = 0, 0
            for j in range(at, min(end, at + 50)):
                if text[j] == 44:
                    comma += 1
                    if comma == 3:
                        kind, micro = SINCE_BOOT, value
                        break
                    value = 0
                elif DIGIT[text[j]] < 10 and value < 100_000_000_000_000_000:
                    value = value * 10 + DIGIT[text[j]]
                else:
                    break
        kinds[i], micros[i] = kind, micro
        if kind != NO_STAMP and not bracket:
            while after < end and text[after] == 32:
                after += 1
            stop = after
            while stop < end and text[stop] > 32:
                stop += 1
            if stop + 6 < end and text[stop + 1] == 107 and text[stop + 2] == 101 and text[stop + 3] == 114:  # kernel
                host_from[i], host_to[i] = after, stop
    return kinds, micros, host_from, host_to


@compiled
def stamp_before(text: Any, starts: Any, where: Any) -> Any:
    """Where the stamp of a trace line begins and ends: `8412.55` in ` mce/12-0 [012] 8412.55: ras:mc_event: 1`.

    Args:
        where: Place of the event's name in each line, int64[n].

    Returns:
        First byte and what follows the last one, int64[n] each; alike where there is no stamp.
    """
    begin, stop = starts.copy(), starts.copy()
    for i in range(len(starts)):
        at = where[i]
        if at - 1 > starts[i] and text[at - 1] == 58:  # the system the event belongs to
            at -= 1
            while at > starts[i] and WORD[text[at - 1]]:
                at -= 1
        while at > starts[i] and text[at - 1] == 32:
            at -= 1
        if at > starts[i] and text[at - 1] == 58:
            end = at - 1
            at = end
            while at > starts[i] and (DIGIT[text[at - 1]] < 10 or text[at - 1] == 46):
                at -= 1
            begin[i], stop[i] = at, end
    return begin, stop
