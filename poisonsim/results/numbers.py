"""Numbers as text: estimates with as many digits as they bear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from poisonsim.results.statistics import Estimate
from poisonsim.units import GIB, KIB, MIB, TIB

_BYTE_UNITS = (("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB), ("B", 1))
_MOST_DIGITS, _MOST_PLACES = 4, 5


@dataclass(frozen=True)
class Shown:
    """An estimate as text.

    Attributes:
        interval: `"95.2–95.4"`, without the unit; empty where it is no wider than the last digit.
    """

    value: str
    interval: str
    unit: str

    @property
    def none(self) -> bool:
        """Whether nothing is left of the value at this many digits."""
        return not self.value.strip("0.")

    def __str__(self) -> str:
        return f"{self.value}{f' ({self.interval})' if self.interval else ''} {self.unit}".rstrip()


def in_bytes(estimate: Estimate) -> Shown:
    """An estimate of bytes, in the unit that keeps it readable.

    Examples:
        >>> print(in_bytes(Estimate(102.20e9, 102.29e9, 102.39e9, "bytes")))
        95.26 (95.18–95.36) GiB
        >>> print(in_bytes(Estimate(409600, 409600, 409600, "bytes")))
        400 KiB
    """
    largest = max(abs(estimate.best), abs(estimate.high) / 10)
    unit, scale = next(((unit, scale) for unit, scale in _BYTE_UNITS if largest >= scale), _BYTE_UNITS[-1])
    return _shown(estimate, 1 / scale, unit)


def in_percent(estimate: Estimate, *, unit: str = "%", most_places: int = 2) -> Shown:
    """An estimate of a share, times 100.

    Args:
        most_places: Digits after the point that still mean something.

    Examples:
        >>> print(in_percent(Estimate(0, 0, 0.00184, "1")))
        0 (0–0.18) %
        >>> print(in_percent(Estimate(-0.0002, 0.0001, 0.0004, "1")))
        0.01 (−0.02 to 0.04) %
    """
    return _shown(estimate, 100, unit, most_places)


def as_probability(estimate: Estimate, *, unit: str = "%") -> Shown:
    """A probability, times 100; the small ones keep their digits, since many VMs may be exposed to them.

    Examples:
        >>> print(as_probability(Estimate(0.000011, 0.000018, 0.000028, "1")))
        0.0018 (0.0011–0.0028) %
        >>> print(as_probability(Estimate(0.0, 0.0, 0.000018, "1")))
        0 (0–0.0018) %
    """
    most = 9 if 0 < abs(estimate.best or estimate.high) < 0.001 else 2
    return in_percent(estimate, unit=unit, most_places=most)


def in_number(estimate: Estimate) -> Shown:
    """A plain number, with as many digits after the point as the width of its interval bears.

    Examples:
        >>> print(in_number(Estimate(0.95, 1.0, 1.1, "1")), in_number(Estimate(15.9, 17.6, 19.2, "1")))
        1.00 (0.95–1.10) 18 (16–19)
        >>> print(in_number(Estimate(100, 100, 100, "1")), in_number(Estimate(0.0, 0.00012, 0.0003, "1")))
        100 0.0001 (0–0.0003)
    """
    low, best, high = estimate.low, estimate.best, estimate.high
    if low == high:
        return Shown(f"{best:,.6g}", "", "")
    places = max(ceil(-log10((high - low) / 2)), 0)
    if best:
        places = min(places, max(_MOST_PLACES - floor(log10(abs(best))), 0))
    words = ["0" if value == 0 else _fixed(value, places) for value in (low, best, high)]
    interval = "" if len(set(words)) == 1 else f"{words[0]}{' to ' if low < 0 else '–'}{words[2]}"
    return Shown(words[1], interval, "")


def vms_of(vms: int, share: Estimate) -> str:
    """How many of a fleet of `vms` a share of all VMs is; parts of one VM where it is few.

    Examples:
        >>> vms_of(10_000, Estimate(0.0574, 0.0577, 0.058, "1"))
        '577 (574–580)'
        >>> vms_of(10_000, Estimate(1.1e-7, 1.2e-7, 1.3e-7, "1")), vms_of(10_000, Estimate(0.0, 0.0, 0.0, "1"))
        ('0.0012 (0.0011–0.0013)', '0')
    """
    low, best, high = (p * vms for p in (share.low, share.best, share.high))
    if (best or high) >= 10:
        words = [f"{value:,.0f}" for value in (low, best, high)]
        return words[1] if words[0] == words[2] else f"{words[1]} ({words[0]}–{words[2]})"
    return str(in_number(Estimate(low, best, high, "1")) if best else _shown(Estimate(low, best, high, "1"), 1, ""))


def minus(text: str) -> str:
    """`text` with a proper minus sign."""
    return text.replace("-", "−")


def _shown(estimate: Estimate, factor: float, unit: str, most_places: int = 9) -> Shown:
    low, best, high = (value * factor for value in (estimate.low, estimate.best, estimate.high))
    largest = max(abs(best), abs(high) if best == 0 else 0.0)
    if largest == 0:
        return Shown("0", "", unit)
    relative_width = max((high - low) / largest, 10.0**-_MOST_DIGITS)
    digits = min(max(ceil(-log10(relative_width)) + 1, 2), _MOST_DIGITS)
    order = floor(log10(largest))
    places = max(min(digits - 1 - order, most_places), 0)
    if all(value == round(value) for value in (low, best, high)):
        places = 0
    words = ["0" if value == 0 else _fixed(value, places) for value in (low, best, high)]
    interval = "" if words[0] == words[1] == words[2] else f"{words[0]}{' to ' if low < 0 else '–'}{words[2]}"
    value = words[1]
    if not interval and "." in value:  # one way to write a value in a column, whether or not it is exact
        value = value.rstrip("0").rstrip(".")
    return Shown(value, interval, unit)


def _fixed(value: float, places: int) -> str:
    text = f"{value:,.{places}f}"
    return minus(text) if float(text.replace(",", "")) else text.lstrip("-")


def with_half(best: float, half: float) -> str:
    """A ratio with the half-width of its interval, in hundreds and more both to the second digit of that.

    Examples:
        >>> with_half(136_909, 5_955), with_half(4.0, 0.83), with_half(256.5, 0.0)
        ('136,900 ± 6,000', '4.00 ± 0.83', '256 ± 0')
    """
    places = 0 if best >= 100 else 2
    if half >= 100:  # but two digits of the ratio stay
        places = max(1 - floor(log10(half)), 1 - floor(log10(best)))
    best, half = (round(value, places) for value in (best, half))
    return f"{best:,.{max(places, 0)}f} ± {half:,.{max(places, 0)}f}"


def times_text(ratio: Estimate, *, less: str = "less", more: str = "more") -> str:
    """A ratio as so many times less or more, with the half-width of its interval, or where that is wide its lower end.

    Examples:
        >>> times_text(Estimate(256.5, 256.5, 256.5, "1")), times_text(Estimate(0.2, 0.25, 0.3, "1"))
        ('256 ± 0 times more', '4.00 ± 0.83 times less')
        >>> times_text(Estimate(-0.1, 0.01, 0.2, "1"))
        'at least 5.00 times less'
        >>> times_text(Estimate(0.00125, 0.0025, 0.1, "1"))
        'at least 10.00 times less'
        >>> times_text(Estimate(1.0, 1.0, 1.0, "1"))
        'the same'
    """
    if ratio.low == ratio.high == 1:
        return "the same"
    near, best, far, word = ratio.low, ratio.best, ratio.high, more
    if best < 1:
        if near <= 0:
            return f"at least {_places(1 / far)} times {less}"
        near, best, far, word = 1 / far, 1 / best, 1 / near, less
    half = (far - near) / 2
    if half > best / 2 and near > 1:
        return f"at least {_places(near)} times {word}"
    return f"{with_half(best, half)} times {word}"


def _places(value: float) -> str:
    return f"{value:,.{0 if abs(value) >= 100 else 2}f}"


def listed(words: Sequence[str]) -> str:
    """Words as a list in a sentence.

    Examples:
        >>> listed(["a"]), listed(["a", "b", "c"])
        ('a', 'a, b and c')
    """
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
