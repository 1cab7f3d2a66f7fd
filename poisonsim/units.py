"""Quantities with units at the boundary: bytes, years, FIT, rates, page sizes.

A year is 365.25 days; one FIT is one failure per 10⁹ device-hours. Inside the engine everything is an
integer count of base pages, so this module is only ever used where text meets numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fractions import Fraction

from poisonsim.errors import shown

HOURS_PER_YEAR = 8766.0
DAYS_PER_YEAR = 365.25
MONTHS_PER_YEAR = 12

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40

_BYTE_UNITS = {
    "B": 1,
    "KiB": KIB,
    "MiB": MIB,
    "GiB": GIB,
    "TiB": TIB,
    "PiB": 1 << 50,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "PB": 10**15,
}
_YEAR_UNITS = {
    "y": 1.0,
    "year": 1.0,
    "years": 1.0,
    "month": 1 / 12,
    "months": 1 / 12,
    "week": 7 / DAYS_PER_YEAR,
    "weeks": 7 / DAYS_PER_YEAR,
    "d": 1 / DAYS_PER_YEAR,
    "day": 1 / DAYS_PER_YEAR,
    "days": 1 / DAYS_PER_YEAR,
    "h": 1 / HOURS_PER_YEAR,
    "hour": 1 / HOURS_PER_YEAR,
    "hours": 1 / HOURS_PER_YEAR,
}


class Time(float):
    """Years that were written with their unit, as against a number that may have meant hours.

    Examples:
        >>> Time(0.5) * 2
        1.0
    """


_NUMBER = re.compile(r"\s*([+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)\s*(\S*)\s*")
_PAGE_SIZE = re.compile(r"(\d+)([KMG])")


def _split(text: str, what: str, example: str) -> tuple[str, str]:
    match = _NUMBER.fullmatch(text) if len(text) <= 100 else None
    if match is None:
        raise ValueError(f"'{text}' is not {what}; write a number and a unit, such as {example}")
    return match[1].replace("_", ""), match[2]


def _unknown(unit: str, known: Iterable[str]) -> str:
    """That a unit is unknown, and which is meant where it is a known one but for small and capital letters."""
    meant = next((f"; did you mean {each}?" for each in known if each.lower() == unit.lower()), "")
    return f"has unknown unit {unit!r}{meant}"


def parse_bytes(text: str | int) -> int:
    """Bytes named by `text`, such as `"1TiB"`; an int is taken as bytes already.

    Raises:
        ValueError: No unit, an unknown one, an ambiguous one (`4T` may be 4 TiB or 4 TB), or not a whole
            positive number of bytes.

    Examples:
        >>> parse_bytes("1TiB") == 1 << 40
        True
        >>> parse_bytes("4T")
        Traceback (most recent call last):
        ...
        ValueError: '4T' is ambiguous: 4TiB is 4398046511104 bytes, 4TB is 4000000000000; write one of them
    """
    if isinstance(text, bool) or not isinstance(text, (str, int)):
        raise ValueError(f'{text!r} is not a size; write it as text with a unit, such as "1TiB"')
    if isinstance(text, int):
        size = Fraction(text)
    else:
        digits, unit = _split(text, "a size", "1TiB")
        number = Fraction(digits)
        if unit in ("K", "M", "G", "T", "P") or unit in ("k", "m", "g", "t", "p"):
            binary, decimal = unit.upper() + "iB", ("k" if unit in "kK" else unit.upper()) + "B"
            raise ValueError(
                f"'{text}' is ambiguous: {digits}{binary} is {round(number * _BYTE_UNITS[binary])} bytes, "
                f"{digits}{decimal} is {round(number * _BYTE_UNITS[decimal])}; write one of them"
            )
        if unit not in _BYTE_UNITS:
            raise ValueError(
                f"'{text}' {_unknown(unit, _BYTE_UNITS) if unit else 'has no unit'}; allowed: {', '.join(_BYTE_UNITS)}"
            )
        size = number * _BYTE_UNITS[unit]
    if not 0 < size < 2**60 or size != int(size):
        raise ValueError(f"'{text}' is not a positive whole number of bytes below 1 EiB")
    return int(size)


def format_bytes(size: float) -> str:
    """`size` in the binary unit that keeps it readable, to four significant digits.

    Examples:
        >>> format_bytes(1 << 40), format_bytes(429_688_800), format_bytes(0)
        ('1 TiB', '409.8 MiB', '0 B')
        >>> format_bytes((1 << 30) - 4096)
        '1 GiB'
    """
    for unit, scale in (("PiB", 1 << 50), ("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if abs(size) >= scale:
            return f"{size / scale:.4g} {unit}"
        if abs(float(f"{size / (scale / 1024):.4g}")) >= 1024:  # it would be 1024 of the unit below
            return f"{1 if size > 0 else -1} {unit}"
    return f"{size:.4g} B"


def size_text(size: int) -> str:
    """Bytes with a unit, as short as it can be and still mean exactly this.

    Examples:
        >>> size_text(1 << 40), size_text(1863 << 30), size_text(2 * 10**12 + 512), size_text(0)
        ('1TiB', '1863GiB', '2000000000512', '0')
    """
    for unit in ("PiB", "TiB", "GiB", "MiB", "KiB"):
        if size and size % _BYTE_UNITS[unit] == 0:
            return f"{size // _BYTE_UNITS[unit]}{unit}"
    return str(size)


def binary_meant(size: int) -> str:
    """The size in binary units that a round number of decimal ones was likely meant to be; empty where it is none.

    Examples:
        >>> binary_meant(2 * 10**12), binary_meant(1500 * 10**9), binary_meant(512 * 10**9), binary_meant(1536 << 20)
        ('2TiB', '1.5TiB', '512GiB', '')
    """
    for unit, decimal in (("TiB", "TB"), ("GiB", "GB"), ("MiB", "MB")):
        number = Fraction(size, _BYTE_UNITS[decimal])
        if number >= 1 and (number * 4).denominator == 1:
            return f"{float(number):g}{unit}"
    return ""


def parse_years(text: str | float) -> float:
    """Years named by `text`, such as `"10y"`, `"18months"` or `"90d"`; a bare number is years.

    Raises:
        ValueError: Unknown unit (`m` alone could be minutes or months), or not positive and finite.

    Examples:
        >>> parse_years("18months"), parse_years(5)
        (1.5, 5.0)
    """
    if isinstance(text, bool) or not isinstance(text, (str, int, float)):
        raise ValueError(f'{text!r} is not a time; write years as a number, or text such as "18months"')
    digits, unit = _split(text, "a time", "5y or 18months") if isinstance(text, str) else (text, "y")
    number = float(digits)
    if unit == "m":
        raise ValueError(f"'{text}' is ambiguous: m may be minutes or months; write {digits}months or {number / 60:g}h")
    if unit and unit not in _YEAR_UNITS:
        raise ValueError(f"'{text}' {_unknown(unit, _YEAR_UNITS)}; allowed: y, months, weeks, d, h")
    years = number * _YEAR_UNITS[unit or "y"]
    if not 0 < years < 1000:
        raise ValueError(f"'{text}' is not a time above 0 and below 1000 years")
    return years


def parse_time(value: object, *, such_as: str) -> Time:
    """The time that `value` names with a unit: text such as `"24h"`, or what this returned before.

    Args:
        value: What was written.
        such_as: Times of the right scale, for the message.

    Raises:
        ValueError: As `parse_years`, and a number without a unit.

    Examples:
        >>> parse_time("6months", such_as="1y")
        0.5
        >>> parse_time(24, such_as="24h, 7d or 1y")
        Traceback (most recent call last):
        ...
        ValueError: 24 has no unit; write 24h, 7d or 1y
    """
    if isinstance(value, Time):
        return value
    match = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    if (match and not match[2]) or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        raise ValueError(f"{shown(value)} has no unit; write {such_as}")
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is not a time; write {such_as}")
    return Time(parse_years(value))


def time_text(years: float) -> str:
    """`years` with a unit, as short as it can be and still mean exactly this.

    Examples:
        >>> time_text(parse_years("24h")), time_text(parse_years("7d")), time_text(0.25), time_text(2.0), time_text(0.3)
        ('24h', '7d', '3months', '2y', '0.3y')
    """
    order = ("h", "d", "months", "y") if years < 2.5 / DAYS_PER_YEAR else ("y", "months", "d", "h")
    for unit in order:
        text = f"{round(years / _YEAR_UNITS[unit])}{unit}"
        if not text.startswith("0") and parse_years(text) == years:
            return text
    return f"{years!r}y"


def format_years(years: float) -> str:
    """A time in the unit that reads best.

    Examples:
        >>> format_years(1 / 365.25), format_years(115 / 365.25), format_years(3.0)
        ('24 hours', '115 days', '3 years')
    """
    if years < 2.5 / DAYS_PER_YEAR:
        return f"{years * HOURS_PER_YEAR:.3g} hours"
    return f"{years * DAYS_PER_YEAR:.4g} days" if years < 1 else f"{years:.3g} years"


def parse_rate_per_year(text: str | float) -> float:
    """Events per year named by `text`: `"66FIT"`, `"1/month"`, `"0.2/y"`; a bare number is per year.

    Raises:
        ValueError: Unknown unit, negative or not finite.

    Examples:
        >>> parse_rate_per_year("1/month")
        12.0
        >>> round(parse_rate_per_year("66FIT") * 1e6, 2)
        578.56
    """
    if isinstance(text, bool) or not isinstance(text, (str, int, float)):
        raise ValueError(f'{text!r} is not a rate; write events per year as a number, or text such as "66FIT"')
    if isinstance(text, (int, float)):
        rate = float(text)
    else:
        digits, unit = _split(text, "a rate", "66FIT or 1/month")
        number = float(digits)
        if unit == "FIT":
            rate = number * HOURS_PER_YEAR / 1e9
        elif unit.startswith("/") and unit[1:] in _YEAR_UNITS:
            rate = number / _YEAR_UNITS[unit[1:]]
        elif not unit:
            raise ValueError(f"'{text}' has no unit; write {digits}FIT, {digits}/y, or {number:g} as a number")
        else:
            raise ValueError(f"'{text}' {_unknown(unit, ['FIT'])}; allowed: FIT, /y, /month, /week, /d, /h")
    if not 0 <= rate < 1e12:
        raise ValueError(f"'{text}' is not a rate between 0 and 1e12 per year")
    return rate


def page_bytes(size: str) -> int:
    """Bytes of a page size spelled as the kernel does: `4K`, `2M`, `1G`.

    Raises:
        ValueError: Anything that is not a power of two with K, M or G.

    Examples:
        >>> page_bytes("2M")
        2097152
    """
    match = _PAGE_SIZE.fullmatch(str(size))
    if match is None or int(match[1]).bit_count() != 1 or int(match[1]) >= 1024:
        raise ValueError(f"'{size}' is not a page size; write one such as 4K, 2M, 1G")
    return int(match[1]) * {"K": KIB, "M": MIB, "G": GIB}[match[2]]


def page_name(size_bytes: int) -> str:
    """The kernel's spelling of a page size, the inverse of `page_bytes`.

    Examples:
        >>> page_name(1 << 21)
        '2M'
    """
    for letter, scale in (("G", GIB), ("M", MIB), ("K", KIB)):
        if size_bytes >= scale:
            return f"{size_bytes // scale}{letter}"
    raise ValueError(f"{size_bytes} bytes is no page size")
