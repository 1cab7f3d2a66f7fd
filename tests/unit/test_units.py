"""Quantities at the boundary: every unit, every refusal."""

from __future__ import annotations

import math
import re

import pytest

from poisonsim.units import (
    Time,
    format_bytes,
    page_bytes,
    page_name,
    parse_bytes,
    parse_rate_per_year,
    parse_time,
    parse_years,
    time_text,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1B", 1),
        ("1KiB", 1024),
        ("4MiB", 4 << 20),
        ("1GiB", 1 << 30),
        ("0.5GiB", 1 << 29),
        ("1.5 TiB", 3 << 39),
        ("1PiB", 1 << 50),
        ("1kB", 1000),
        ("1MB", 10**6),
        ("2GB", 2 * 10**9),
        ("1TB", 10**12),
        ("3PB", 3 * 10**15),
        (" 1_024 B ", 1024),
        ("1e3B", 1000),
        (".5KiB", 512),
        (4096, 4096),
        (1, 1),
    ],
)
def test_sizes(text: str | int, expected: int) -> None:
    assert parse_bytes(text) == expected
    assert isinstance(parse_bytes(text), int)


@pytest.mark.parametrize("number", [2**53 + 1, 2**59 - 1])
def test_whole_bytes_beyond_the_precision_of_a_float_are_kept(number: int) -> None:
    assert parse_bytes(number) == number
    assert parse_bytes(f"{number}B") == number


@pytest.mark.parametrize("letter", ["K", "M", "G", "T", "P", "k", "m", "g", "t", "p"])
def test_a_bare_letter_is_ambiguous_and_both_readings_are_named(letter: str) -> None:
    upper = letter.upper()
    with pytest.raises(ValueError, match="ambiguous") as caught:
        parse_bytes(f"4{letter}")
    binary = 4 * 1024 ** ("KMGTP".index(upper) + 1)
    decimal = 4 * 1000 ** ("KMGTP".index(upper) + 1)
    assert f"4{upper}iB is {binary} bytes" in str(caught.value)
    assert f"is {decimal};" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("12", "no unit"),
        ("1 XiB", "unknown unit 'XiB'"),
        ("1gib", "unknown unit 'gib'; did you mean GiB\\?; allowed: B, KiB"),
        ("lots", "is not a size; write a number and a unit"),
        ("", "is not a size"),
        ("1,5GiB", "unknown unit"),
        ("0B", "not a positive whole number"),
        ("-1GiB", "not a positive whole number"),
        ("0.3B", "not a positive whole number"),
        ("1024PiB", "below 1 EiB"),
        ("1e400B", "below 1 EiB"),
        (0, "not a positive whole number"),
        (-5, "not a positive whole number"),
        (2**60, "below 1 EiB"),
        (True, "is not a size"),
        (1.5, "is not a size"),
        (None, "is not a size"),
        ([1], "is not a size"),
    ],
)
def test_sizes_that_are_refused(text: object, fragment: str) -> None:
    with pytest.raises(ValueError, match=fragment):
        parse_bytes(text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (409_600, "400 KiB"),
        (1_675_200, "1.598 MiB"),
        (429_688_800, "409.8 MiB"),
        (17_142_120_448, "15.96 GiB"),
        (100 << 30, "100 GiB"),
        (1 << 40, "1 TiB"),
        (1 << 50, "1 PiB"),
        (-3 << 20, "-3 MiB"),
        (0.5, "0.5 B"),
    ],
)
def test_sizes_as_people_read_them(size: float, text: str) -> None:
    assert format_bytes(size) == text


@pytest.mark.parametrize(
    ("text", "years"),
    [
        (5, 5.0),
        (0.5, 0.5),
        ("5", 5.0),
        ("10y", 10.0),
        ("1 year", 1.0),
        ("18months", 1.5),
        ("1month", 1 / 12),
        ("52weeks", 52 * 7 / 365.25),
        ("365.25d", 1.0),
        ("8766h", 1.0),
        ("2e-3y", 0.002),
    ],
)
def test_times(text: str | float, years: float) -> None:
    assert parse_years(text) == pytest.approx(years, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("5m", "ambiguous: m may be minutes or months; write 5months or 0.0833333h"),
        ("5min", "unknown unit 'min'; allowed: y, months, weeks, d, h"),
        ("0y", "not a time above 0 and below 1000 years"),
        ("-1y", "not a time above 0"),
        ("1000y", "not a time above 0"),
        (math.nan, "not a time above 0"),
        (math.inf, "not a time above 0"),
        ("soon", "is not a time"),
        (True, "is not a time"),
        (None, "is not a time"),
    ],
)
def test_times_that_are_refused(text: object, fragment: str) -> None:
    with pytest.raises(ValueError, match=fragment):
        parse_years(text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (24, "24 has no unit; write 24h"),
        ("24", "'24' has no unit; write 24h"),
        (" 2_4.0e0 ", "' 2_4.0e0 ' has no unit; write 24h"),
        (math.nan, "nan has no unit; write 24h"),
        (10**400, "an integer of 1329 bits has no unit; write 24h"),
        (True, "true is not a time; write 24h"),
        (None, "NoneType None is not a time; write 24h"),
        (["24h"], "['24h'] is not a time; write 24h"),
        ("24 minutes", "'24 minutes' has unknown unit 'minutes'; allowed: y, months, weeks, d, h"),
        ("9" * 5000 + "h", "is not a time; write a number and a unit"),
        ("soon", "'soon' is not a time; write a number and a unit, such as 5y or 18months"),
    ],
)
def test_times_that_need_their_unit(value: object, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_time(value, such_as="24h")


@pytest.mark.parametrize(
    "text", ["24h", "1h", "36h", "7d", "90d", "1week", "1month", "18months", "1y", "0.3y", "1e-5y"]
)
def test_times_are_written_as_they_are_read(text: str) -> None:
    time = parse_time(text, such_as="")
    assert isinstance(time, Time) and parse_time(time, such_as="") is time
    assert parse_time(time_text(time), such_as="") == time == parse_years(text)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        (0.011, 0.011),
        ("0.2/y", 0.2),
        ("1/month", 12.0),
        ("2/h", 2 * 8766.0),
        ("1/d", 365.25),
        ("1/week", 365.25 / 7),
        ("66FIT", 66 * 8766 / 1e9),  # failures per 10⁹ hours, in a year of 8,766 hours
        (0, 0.0),
    ],
)
def test_rates(text: str | float, rate: float) -> None:
    assert parse_rate_per_year(text) == pytest.approx(rate, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("1/fortnight", "unknown unit '/fortnight'; allowed: FIT, /y"),
        ("1fit", "unknown unit 'fit'; did you mean FIT\\?"),
        ("-1/y", "not a rate between 0 and 1e12"),
        (1e12, "not a rate between"),
        (math.nan, "not a rate between"),
        (False, "is not a rate"),
        (None, "is not a rate"),
        ("often", "is not a rate"),
    ],
)
def test_rates_that_are_refused(text: object, fragment: str) -> None:
    with pytest.raises(ValueError, match=fragment):
        parse_rate_per_year(text)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["4K", "16K", "64K", "512K", "2M", "32M", "512M", "1G", "16G"])
def test_page_sizes_go_both_ways(name: str) -> None:
    assert page_name(page_bytes(name)) == name


def test_page_sizes_are_the_kernels() -> None:
    assert [page_bytes(size) for size in ("4K", "2M", "1G")] == [4096, 2097152, 1073741824]


@pytest.mark.parametrize("name", ["3M", "0K", "1024K", "4k", "4KiB", "G", "", "-4K", "1T", None])
def test_page_sizes_that_are_refused(name: str | None) -> None:
    with pytest.raises(ValueError, match="is not a page size; write one such as 4K, 2M, 1G"):
        page_bytes(name)  # type: ignore[arg-type]


def test_fewer_bytes_than_a_kibibyte_are_no_page() -> None:
    with pytest.raises(ValueError, match="512 bytes is no page size"):
        page_name(512)
