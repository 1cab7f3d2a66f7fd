"""Laws of a DRAM fault: what it can reach, how much of that goes bad, when it strikes again, what announces it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poisonsim import catalog
from poisonsim.catalog.problems import FileProblems
from poisonsim.errors import ScenarioError, shown
from poisonsim.faults.boxes import Shape
from poisonsim.faults.tables import MODES
from poisonsim.units import DAYS_PER_YEAR, HOURS_PER_YEAR

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_EXTENTS = ("rows", "lines", "banks", "ranks")
_COUNTS = ("n_faults", "n_ue")
_SECTIONS: dict[str, tuple[str, ...]] = {
    "shapes": MODES,
    "lines": MODES,
    "repeat": ("shape", "scale_days"),
    "bad_batch": ("factor", "shape"),
    "detection": ("reads_spread",),
    "corrected": ("lead_days", "ce_per_day", "ce_spread", "sudden_share", "active_share"),
    "thresholds": (),
}


@dataclass(frozen=True, kw_only=True)
class ModeShape:
    """One form that faults of a mode take.

    Args:
        name: In words.
        shape: The part of a rank it reaches; its share is that among faults at large.
        n_faults: Faults seen in this form.
        n_ue: Those of them on servers with uncorrected errors.
    """

    name: str
    shape: Shape
    n_faults: int
    n_ue: int


@dataclass(frozen=True, kw_only=True)
class LinesLaw:
    """How many cache lines a fault makes bad: few as a rule (geometric), sometimes many (log-uniform).

    Args:
        small_mean: Mean of the few, 1 or more.
        large_share: Probability of many.
        large_low: Fewest of the many.
        large_high: Most of the many.

    Examples:
        >>> round(LinesLaw(small_mean=2.0, large_share=0.5, large_low=100, large_high=1000).mean, 2)
        196.43
    """

    small_mean: float
    large_share: float
    large_low: float = 1.0
    large_high: float = 1.0

    @property
    def mean(self) -> float:
        """Expected number of bad lines, whatever the reach."""
        width = np.log(self.large_high / self.large_low)
        many = (self.large_high - self.large_low) / width if width else self.large_low
        return float((1 - self.large_share) * self.small_mean + self.large_share * many)

    def p_more_than(self, n: float) -> float:
        """Probability of more than `n` bad lines, whatever the reach.

        Examples:
            >>> law = load_laws("field").lines["bank"]
            >>> round(law.p_more_than(4), 3), round(law.p_more_than(100), 3)
            (0.04, 0.04)
        """
        few = (1 - 1 / self.small_mean) ** np.floor(n) if n >= 0 else 1.0
        if n < self.large_low:
            many = 1.0
        else:
            many = max(1 - np.log((n + 1) / self.large_low) / np.log((self.large_high + 1) / self.large_low), 0.0)
        return float((1 - self.large_share) * few + self.large_share * many)


@dataclass(frozen=True, kw_only=True)
class CeThreshold:
    """So many corrected errors in one base page that the host acts.

    Args:
        name: Who counts.
        ces: Corrected errors that set it off.
        window_years: Time within which they must come; infinite where they never expire.

    Examples:
        >>> load_laws("field").thresholds["mcelog"].ces
        2
    """

    name: str
    ces: int
    window_years: float


@dataclass(frozen=True, kw_only=True)
class Laws:
    """Everything that a field model takes from published field data beside its rates.

    Args:
        name: Name in the catalogue, or the stem of the file.
        title: What the laws describe.
        shapes: Forms of each mode.
        lines: Bad lines by mode.
        repeat_shape: Weibull shape of the time until a part left in service strikes again.
        repeat_scale_years: Its scale.
        bad_batch_factor: How many times more errors parts of a bad batch give.
        bad_batch_shape: Weibull shape of their hazard.
        reads_spread: Standard deviation of the logarithm of how often cache lines are read.
        lead_years: Mean time from the first corrected error of a fault to its first UE.
        ce_per_day: Median corrected errors per day of a fault.
        ce_spread: Standard deviation of their logarithm between faults.
        sudden_share: Share of UEs that no corrected error announces.
        active_share: Share of days on which a fault gives corrected errors.
        thresholds: When a host acts on them, by who counts.

    Examples:
        >>> laws = load_laws("field")
        >>> [form.name for form in laws.shapes["row"]], laws.repeat_shape
        (['one row', 'two adjacent rows'], 0.3)
        >>> [round(laws.p_repeat_within(days / 365.25), 2) for days in (30, 90, 365)]
        [0.49, 0.61, 0.76]
    """

    name: str
    title: str
    shapes: Mapping[str, tuple[ModeShape, ...]]
    lines: Mapping[str, LinesLaw]
    repeat_shape: float
    repeat_scale_years: float
    bad_batch_factor: float
    bad_batch_shape: float
    reads_spread: float
    lead_years: float
    ce_per_day: float
    ce_spread: float
    sudden_share: float
    active_share: float
    thresholds: Mapping[str, CeThreshold]

    def p_repeat_within(self, years: float) -> float:
        """Probability that a part left in service strikes again within `years`."""
        return float(-np.expm1(-((years / self.repeat_scale_years) ** self.repeat_shape)))


def load_laws(name_or_path: str | Path) -> Laws:
    """The laws of that name in the catalogue, or those of a TOML file.

    Raises:
        ScenarioError: No such entry or file, or a file with problems (all of them are listed).

    Examples:
        >>> load_laws("feld")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        poisonsim.errors.ScenarioError: 'feld' is not a set of laws of the catalogue; known: field; ...
    """
    text = str(name_or_path)
    if text.endswith(".toml"):
        return _parse(catalog.read_toml(Path(text), where=text), name=Path(text).stem, where=text)
    return _shipped(text)


@cache
def _shipped(name: str) -> Laws:
    if problem := catalog.unknown_name("laws", name):
        raise ScenarioError(f"{problem}; a file works too: ./{name}.toml")
    return _parse(catalog.load("laws", name), name=name, where=f"{name}.toml")


def _parse(tables: Mapping[str, Any], *, name: str, where: str) -> Laws:
    problems = FileProblems(where)
    problems.known("", tables, tuple(_SECTIONS))
    sections = {section: problems.table(section, tables.get(section)) for section in _SECTIONS}
    for section, keys in _SECTIONS.items():
        if keys:
            problems.known(section, sections[section], keys)

    def number(key: str, least: float, most: float) -> float:
        section, _, last = key.partition(".")
        return problems.number(key, sections[section], last, least=least, most=most)

    laws = Laws(
        name=name,
        title=str(tables.get("title", "")),
        shapes={mode: _forms(problems, mode, sections["shapes"].get(mode)) for mode in MODES},
        lines={mode: _lines_law(problems, mode, sections["lines"].get(mode)) for mode in MODES},
        repeat_shape=number("repeat.shape", 0.05, 20),
        repeat_scale_years=number("repeat.scale_days", 1e-3, 1e6) / DAYS_PER_YEAR,
        bad_batch_factor=number("bad_batch.factor", 1, 1e4),
        bad_batch_shape=number("bad_batch.shape", 0.05, 20),
        reads_spread=number("detection.reads_spread", 0, 10),
        lead_years=number("corrected.lead_days", 1e-3, 1e5) / DAYS_PER_YEAR,
        ce_per_day=number("corrected.ce_per_day", 1e-6, 1e9),
        ce_spread=number("corrected.ce_spread", 0, 10),
        sudden_share=number("corrected.sudden_share", 0, 1),
        active_share=number("corrected.active_share", 1e-6, 1),
        thresholds={name: _threshold(problems, name, entry) for name, entry in sections["thresholds"].items()},
    )
    problems.raise_any()
    return laws


def _forms(problems: FileProblems, mode: str, entries: object) -> tuple[ModeShape, ...]:
    """The `[[shapes.MODE]]` entries."""
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, Mapping) for entry in entries):
        problems.add(f"shapes.{mode}", f"write one or more [[shapes.{mode}]] entries")
        return ()
    rows = []
    for i, entry in enumerate(entries):
        where = f"shapes.{mode}[{i}]"
        problems.known(where, entry, ("name", "window", *_COUNTS))
        problems.sourced(where, entry)
        n, n_ue = (problems.whole(f"{where}.{key}", entry.get(key), least=0, most=10**15) for key in _COUNTS)
        if n_ue > n:
            problems.add(f"{where}.n_ue", f"{n_ue} is more than the {n} faults of n_faults, a share above 1")
        extents = _window(problems, f"{where}.window", entry.get("window"))
        rows.append((str(entry.get("name", f"form {i + 1}")), extents, n, n_ue))
    total = sum(n for _, _, n, _ in rows)
    if not total or not any(n_ue for *_, n_ue in rows):
        problems.add(f"shapes.{mode}", "no fault in any form; n_faults and n_ue say how common each form is")
    return tuple(
        ModeShape(name=name, shape=Shape(n / max(total, 1), *extents), n_faults=n, n_ue=n_ue)
        for name, extents, n, n_ue in rows
    )


def _window(problems: FileProblems, where: str, entry: object) -> list[int]:
    """The extents of a form's window; each may have a source and a quality of its own."""
    if not isinstance(entry, Mapping):
        what = "missing" if entry is None else f"{shown(entry)} is not a table"
        keys = ", ".join(f"window.{key}" for key in (*_EXTENTS, "source", "quality"))
        problems.add(where, f"{what}; write {keys}")
        return [1] * len(_EXTENTS)
    problems.known(where, entry, _EXTENTS)
    if any(key in entry and not isinstance(entry[key], Mapping) for key in _EXTENTS):
        problems.sourced(where, entry)
    extents = []
    for key in _EXTENTS:
        value = entry.get(key)
        if isinstance(value, Mapping):
            problems.known(f"{where}.{key}", value, ("value",))
            problems.sourced(f"{where}.{key}", value)
            value = value.get("value")
        extents.append(problems.whole(f"{where}.{key}", value, least=0, most=1 << 30))
        if extents[-1].bit_count() > 1:
            problems.add(f"{where}.{key}", f"{extents[-1]} is not a power of two, nor 0 for all of them")
    return extents


def _threshold(problems: FileProblems, name: str, entry: object) -> CeThreshold:
    where = f"thresholds.{name}"
    table = problems.table(where, entry)
    if not table:
        return CeThreshold(name=name, ces=1, window_years=np.inf)
    problems.known(where, table, ("ces", "window_hours"))
    problems.sourced(where, table)
    ces = problems.whole(f"{where}.ces", table.get("ces"), least=1, most=1_000_000)
    hours = problems.number(f"{where}.window_hours", table, "window_hours", least=0, most=1e6)
    return CeThreshold(name=name, ces=ces, window_years=hours / HOURS_PER_YEAR if hours else np.inf)


def _lines_law(problems: FileProblems, mode: str, entry: object) -> LinesLaw:
    where = f"lines.{mode}"
    table = problems.table(where, entry)
    if not table:
        return LinesLaw(small_mean=1.0, large_share=0.0)
    problems.known(where, table, ("small_mean", "large_share", "large_low", "large_high"))
    small = problems.number(f"{where}.small_mean", table, "small_mean", least=1, most=1e9)
    share = problems.number(f"{where}.large_share", table, "large_share", least=0, most=1)
    if not share:
        return LinesLaw(small_mean=small, large_share=0.0)
    low, high = (
        problems.number(f"{where}.{key}", table, key, least=1, most=1e9) for key in ("large_low", "large_high")
    )
    if high < low:
        problems.add(f"{where}.large_high", f"{high:g} is below large_low, {low:g}")
    return LinesLaw(small_mean=small, large_share=share, large_low=low, large_high=max(low, high))
