"""CPUs: TLB arrays and cycle counts from TOML files, each number with its source and quality."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from poisonsim.errors import ScenarioError, did_you_mean
from poisonsim.units import page_bytes

from .tlb import TlbArray

PAGE_SIZES = ("16G", "1G", "512M", "32M", "2M", "64K", "16K", "4K")
"""Leaf and guest page sizes the model knows, largest first."""

QUALITIES = ("measured-field", "published", "vendor", "assumed")
ARCHITECTURES = ("x86-64", "arm64", "riscv64")

_CYCLE_KEYS = ("stlb_hit_cycles", "reference_cycles")
_CPU_KEYS = ("title", "arch", "notes", "l1", "l2", *_CYCLE_KEYS)
_ARRAY_KEYS = ("sizes", "entries", "ways", "source", "quality")


class CatalogueNumber(NamedTuple):
    """One catalogue number and where it comes from.

    Examples:
        >>> CatalogueNumber("l2[0].entries", 1536, "entries", "CPUID leaf 2", "vendor").quality
        'vendor'
    """

    key: str
    value: float
    unit: str
    source: str
    quality: str


@dataclass(frozen=True)
class Cpu:
    """A CPU's data TLBs and the cycles a translation takes.

    Args:
        name: Name in the catalogue, or the stem of the file it came from.
        title: Name people use.
        arch: One of `ARCHITECTURES`.
        l1: First-level arrays.
        l2: Second-level (shared) arrays.
        stlb_hit_cycles: Cycles lost when the second level has the translation and the first has not.
        reference_cycles: Cycles of one page-table read that no walk cache answers.
        notes: What the numbers leave out.
        numbers: Every number above with its source and quality.

    Examples:
        >>> load_cpu("zen4").l2[1].entries
        64
    """

    name: str
    title: str
    arch: str
    l1: tuple[TlbArray, ...]
    l2: tuple[TlbArray, ...]
    stlb_hit_cycles: float
    reference_cycles: float
    notes: tuple[str, ...] = ()
    numbers: tuple[CatalogueNumber, ...] = ()


@functools.cache
def cpu_names() -> tuple[str, ...]:
    """Names of the shipped CPUs, sorted.

    Examples:
        >>> "sapphire-rapids" in cpu_names()
        True
    """
    files = (resources.files("poisonsim.catalog") / "cpus").iterdir()
    return tuple(sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml")))


def load_cpu(name_or_path: str | Path) -> Cpu:
    """The CPU of that name in the catalogue, or the one described by a TOML file.

    Args:
        name_or_path: A name from `cpu_names()`, or a path that ends in `.toml`.

    Raises:
        ScenarioError: No such CPU or file, or a file with problems (all of them are listed).

    Examples:
        >>> load_cpu("zen6")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        poisonsim.errors.ScenarioError: unknown cpu 'zen6'; did you mean zen...?
          known: cascade-lake, emerald-rapids, granite-rapids, ...
          a TOML file works too: ./zen6.toml
    """
    text = str(name_or_path)
    if text in cpu_names():
        return _load_shipped(text)
    if not text.endswith(".toml"):
        raise ScenarioError(
            f"unknown cpu '{text}'{did_you_mean(text, cpu_names())}\n"
            f"  known: {', '.join(cpu_names())}\n  a TOML file works too: ./{text}.toml"
        )
    try:
        source = Path(text).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ScenarioError(f"cpu file {text}: cannot be read ({reason})") from error
    return _parse(source, name=Path(text).stem, where=text)


@functools.cache
def _load_shipped(name: str) -> Cpu:
    text = (resources.files("poisonsim.catalog") / "cpus" / f"{name}.toml").read_text(encoding="utf-8")
    return _parse(text, name=name, where=f"{name}.toml")


def _parse(text: str, *, name: str, where: str) -> Cpu:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{where}: not a TOML file: {error}") from error
    return parse_cpu(table, name=name, where=where)


def parse_cpu(table: Mapping[str, Any], *, name: str, where: str = "cpu") -> Cpu:
    """The CPU described by a table laid out as the catalogue's TOML files are.

    Args:
        table: Keys `title`, `arch`, `notes`; arrays of tables `l1` and `l2` with `sizes`, `entries`, optional `ways`,
            `source`, `quality`; tables `stlb_hit_cycles` and `reference_cycles` with `value`, `source`, `quality`.
        name: Name the CPU gets.
        where: Words that error messages begin with.

    Raises:
        ScenarioError: Anything missing, unknown or out of range; all problems are listed.

    Examples:
        >>> parse_cpu({"title": "toy"}, name="toy")
        Traceback (most recent call last):
        ...
        poisonsim.errors.ScenarioError: cpu: arch: missing; allowed: x86-64, arm64, riscv64
        cpu: l1: missing; write at least one [[l1]] with sizes, entries, source and quality
        cpu: l2: missing; write at least one [[l2]] with sizes, entries, source and quality
        cpu: stlb_hit_cycles: missing; write a table with value, source and quality
        cpu: reference_cycles: missing; write a table with value, source and quality
    """
    reader = _Reader(where)
    reader.known_keys("", table, _CPU_KEYS)
    title = reader.text("title", table.get("title"))
    arch = table.get("arch", "")
    if arch not in ARCHITECTURES:
        what = f"{arch!r} is unknown" if arch else "missing"
        reader.problem("arch", f"{what}; allowed: {', '.join(ARCHITECTURES)}{did_you_mean(arch, ARCHITECTURES)}")
    notes = table.get("notes", [])
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
        reader.problem("notes", f"{notes!r} is not a list of texts")
        notes = []
    l1, l2 = reader.arrays("l1", table.get("l1")), reader.arrays("l2", table.get("l2"))
    stlb_hit, reference = (reader.cycles(key, table.get(key)) for key in _CYCLE_KEYS)
    if reader.problems:
        raise ScenarioError(reader.problems)
    return Cpu(name, title, arch, l1, l2, stlb_hit, reference, tuple(notes), tuple(reader.numbers))


class _Reader:
    """Reads parts of a CPU table, keeping every problem met and every sourced number."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.problems: list[str] = []
        self.numbers: list[CatalogueNumber] = []

    def problem(self, key: str, what: str) -> None:
        self.problems.append(f"{self.where}: {key}: {what}")

    def known_keys(self, prefix: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
        for key in table:
            if key not in known:
                self.problem(f"{prefix}{key}", f"unknown key{did_you_mean(key, known)} (known: {', '.join(known)})")

    def text(self, key: str, value: object) -> str:
        if isinstance(value, str) and value.strip():
            return value
        self.problem(key, "missing; write a text" if value is None else f"{value!r} is not a text")
        return ""

    def source(self, key: str, table: Mapping[str, Any]) -> tuple[str, str]:
        quality = table.get("quality", "")
        if quality not in QUALITIES:
            what = f"{quality!r} is unknown" if quality else "missing"
            self.problem(f"{key}.quality", f"{what}; allowed: {', '.join(QUALITIES)}{did_you_mean(quality, QUALITIES)}")
        return self.text(f"{key}.source", table.get("source")), str(quality)

    def cycles(self, key: str, table: object) -> float:
        if not isinstance(table, dict):
            what = "missing" if table is None else f"{table!r} is a bare value"
            self.problem(key, f"{what}; write a table with value, source and quality")
            return 0.0
        self.known_keys(f"{key}.", table, ("value", "source", "quality"))
        value = table.get("value")
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= 10_000:
            self.problem(f"{key}.value", f"{value!r} is not a number of cycles from 0 to 10000")
            value = 0.0
        self.numbers.append(CatalogueNumber(key, value, "cycles", *self.source(key, table)))
        return float(value)

    def arrays(self, key: str, tables: object) -> tuple[TlbArray, ...]:
        if not isinstance(tables, list) or not tables or not all(isinstance(t, dict) for t in tables):
            what = "missing" if not tables else f"{tables!r} is not a list of tables"
            self.problem(key, f"{what}; write at least one [[{key}]] with sizes, entries, source and quality")
            return ()
        arrays = tuple(self.array(f"{key}[{i}]", table) for i, table in enumerate(tables))
        if all(array is not None and page_bytes("4K") not in array.sizes_bytes for array in arrays):
            self.problem(key, "no array holds 4K; larger pages that no array holds are kept as 4K, so one must")
        return tuple(array for array in arrays if array is not None)

    def array(self, key: str, table: Mapping[str, Any]) -> TlbArray | None:
        n_before = len(self.problems)
        self.known_keys(f"{key}.", table, _ARRAY_KEYS)
        sizes, entries, ways = table.get("sizes"), table.get("entries"), table.get("ways")
        if not isinstance(sizes, list) or not sizes:
            self.problem(f"{key}.sizes", 'missing or empty; write a list such as ["4K", "2M"]')
            sizes = []
        for size in sizes:
            if size not in PAGE_SIZES:
                close = did_you_mean(size, PAGE_SIZES)
                self.problem(f"{key}.sizes", f"{size!r} is unknown{close}; allowed: {', '.join(PAGE_SIZES)}")
        if len({str(size) for size in sizes}) < len(sizes):
            self.problem(f"{key}.sizes", f"{sizes} lists a size twice")
        if not _is_count(entries):
            self.problem(f"{key}.entries", f"{entries!r} is not a whole number of entries, 1 or more")
            entries = 0
        elif ways is not None and (not _is_count(ways) or entries % ways):
            self.problem(f"{key}.ways", f"{ways!r} does not divide {entries} entries; leave it out if unknown")
        source, quality = self.source(key, table)
        if len(self.problems) > n_before:
            return None
        self.numbers.append(CatalogueNumber(f"{key}.entries ({', '.join(sizes)})", entries, "entries", source, quality))
        if ways is not None:
            self.numbers.append(CatalogueNumber(f"{key}.ways", ways, "ways", source, quality))
        return TlbArray(tuple(page_bytes(size) for size in sizes), entries, ways)


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
