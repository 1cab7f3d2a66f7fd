"""Reads the tables of a CPU file, keeping every problem met and every sourced number."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

from poisonsim.errors import ScenarioError, did_you_mean
from poisonsim.units import page_bytes, page_name, parse_bytes

from .tlb import EXCLUSIVE, FILLS, INCLUSIVE, TlbArray

PAGE_SIZES = ("16G", "1G", "512M", "32M", "2M", "64K", "16K", "4K")
"""Leaf and guest page sizes the model knows, largest first."""

WALK_CACHE_COVERS = ("2M", "1G")
"""What one entry of a paging-structure cache may cover: a table of 4K entries, or one of 2M entries."""

QUALITIES = ("measured-field", "published", "vendor", "assumed")

_READING_KEYS = ("name", "of", "value", "others", "source", "quality")
_READING_WORDS = (
    "name, of (where the number stands, such as l2.1.fill), value (as it stands there, as text) and others (a list)"
)
_MOST_ENTRIES = 1_000_000
_ARRAY_KEYS = ("sizes", "entries", "ways", "fill", "source", "quality")


class CatalogueNumber(NamedTuple):
    """One catalogue number and where it comes from.

    Examples:
        >>> CatalogueNumber("l2[0].entries", 1536, "entries", "CPUID leaf 2", "vendor").quality
        'vendor'
    """

    key: str
    value: float | str
    unit: str
    source: str
    quality: str


class CpuReader:
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

    def cycles(self, key: str, table: object, unit: str = "cycles") -> float:
        if not isinstance(table, dict):
            what = "missing" if table is None else f"{table!r} is a bare value"
            self.problem(key, f"{what}; write a table with value, source and quality")
            return 0.0
        self.known_keys(f"{key}.", table, ("value", "source", "quality"))
        value = table.get("value")
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= 10_000:
            self.problem(f"{key}.value", f"{value!r} is not a number of {unit} from 0 to 10000")
            value = 0.0
        self.numbers.append(CatalogueNumber(key, value, unit, *self.source(key, table)))
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

    def fills(self, l1: Sequence[TlbArray], l2: Sequence[TlbArray]) -> None:
        """Refuses second levels that cannot be exclusive of the first."""
        if any(array.fill == EXCLUSIVE for array in l1):
            self.problem("l1", "only second-level arrays can be exclusive; leave fill out")
        held = {size for array in l1 for size in array.sizes_bytes}
        held2 = {size for array in l2 for size in array.sizes_bytes}
        for i, array in enumerate(l2):
            homes = [other for other in l2 if set(other.sizes_bytes) & set(array.sizes_bytes)]
            if array.fill == EXCLUSIVE and (len(homes) > 1 or held != held2):
                self.problem(
                    f"l2[{i}].fill", "exclusive needs levels that hold the same sizes, and sizes no other array holds"
                )

    def rows(self, key: str, names: tuple[str, str], table: Mapping[str, Any]) -> list[tuple[float, float]]:
        """Pairs of sizes and numbers of an optional array of tables, in bytes and plain."""
        tables = table.get(key, [])
        if not isinstance(tables, list) or not all(isinstance(row, dict) for row in tables):
            self.problem(key, f"{tables!r} is not a list of tables; write [[{key}]] with {' and '.join(names)}")
            return []
        return [self._row(f"{key}[{i}]", names, row) for i, row in enumerate(tables)]

    def walk_caches(self, key: str, table: Mapping[str, Any]) -> tuple[tuple[int, int], ...]:
        """Entries of the paging-structure caches by the bytes that one entry covers.

        Refuses what the model would not use: it asks for entries that cover 2M and 1G, once each.
        """
        rows = self.rows(key, ("covers", "entries"), table)
        allowed = [page_bytes(size) for size in WALK_CACHE_COVERS]
        for i, (covers, entries) in enumerate(rows):
            if covers and covers not in allowed:
                known = ", ".join(WALK_CACHE_COVERS)
                self.problem(f"{key}[{i}].covers", f"{page_name(int(covers))} is not used; allowed: {known}")
            elif covers and covers in [other for other, _ in rows[:i]]:
                self.problem(f"{key}[{i}].covers", f"{page_name(int(covers))} is there twice; write it once")
            if entries != int(entries):
                self.problem(f"{key}[{i}].entries", f"{entries!r} is not a whole number of entries")
        return tuple((int(covers), int(entries)) for covers, entries in rows)

    def _row(self, key: str, names: tuple[str, str], row: Mapping[str, Any]) -> tuple[float, float]:
        self.known_keys(f"{key}.", row, (*names, "source", "quality"))
        size, number = row.get(names[0]), row.get(names[1])
        try:
            n_bytes = parse_bytes(size) if names[0] == "bytes" else page_bytes(size)  # type: ignore[arg-type]
        except (ScenarioError, KeyError, ValueError, TypeError):
            hint = '"2MiB"' if names[0] == "bytes" else '"2M"'
            self.problem(f"{key}.{names[0]}", f"{size!r} is not a size; write one such as {hint}")
            n_bytes = 0
        if not isinstance(number, (int, float)) or isinstance(number, bool) or not 0 < number <= 1_000_000:
            self.problem(f"{key}.{names[1]}", f"{number!r} is not a number above 0")
            number = 0
        source, quality = self.source(key, row)
        if names[0] == "bytes":
            self.numbers.append(CatalogueNumber(f"{key}.bytes", n_bytes, "bytes", source, quality))
        self.numbers.append(CatalogueNumber(f"{key}.{names[1]}", number, names[1], source, quality))
        return n_bytes, number

    def read_as(self, table: Mapping[str, Any], options: str) -> Mapping[str, Any]:
        """The table with the readings that options ask for; each is `name=value`, commas between."""
        readings = table.get("reading", [])
        if not isinstance(readings, list) or not all(isinstance(row, dict) for row in readings):
            self.problem("reading", f"{readings!r} is not a list of tables; write [[reading]] with {_READING_WORDS}")
            readings = []
        asked = dict(option.partition("=")[::2] for option in options.split(",") if option)
        changed = copy.deepcopy(dict(table))
        for i, row in enumerate(readings):
            self.known_keys(f"reading[{i}].", row, _READING_KEYS)
            name, place, others = str(row.get("name", "")), str(row.get("of", "")), row.get("others")
            there = self._at(changed, place)
            if there is None or str(there) != row.get("value") or not isinstance(others, list) or not others:
                self.problem(f"reading[{i}]", f"does not fit this file; write {_READING_WORDS}")
                continue
            value = asked.pop(name, str(there))
            if value not in (allowed := [str(there), *map(str, others)]):
                self.problem("options", f"{name} = {value!r} is not one of {', '.join(allowed)}")
                continue
            self._put(changed, place, int(value) if isinstance(there, int) and value.isdigit() else value)
            self.numbers.append(CatalogueNumber(f"reading {name}", value, "", *self.source(f"reading[{i}]", row)))
        known = [str(row.get("name")) for row in readings]
        for name in asked:
            names = ", ".join(known) or "none"
            self.problem("options", f"{name!r} is no reading of this CPU{did_you_mean(name, known)}; known: {names}")
        return changed

    @staticmethod
    def _put(table: dict[str, Any], place: str, value: object) -> None:
        *path, last = place.split(".")
        node: Any = table
        for key in path:
            node = node[int(key)] if isinstance(node, list) else node[key]
        node[last] = value

    @staticmethod
    def _at(table: Mapping[str, Any], place: str) -> object:
        node: Any = table
        for key in place.split("."):
            if isinstance(node, list) and key.isdigit() and int(key) < len(node):
                node = node[int(key)]
            elif isinstance(node, dict) and key in node:
                node = node[key]
            else:
                return None
        return node

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
            what = f"is not a whole number of entries, 1 or more and {_MOST_ENTRIES} at most"
            self.problem(f"{key}.entries", f"{entries!r} {what}")
            entries = 0
        elif ways is not None and (not _is_count(ways) or entries % ways):
            self.problem(f"{key}.ways", f"{ways!r} does not divide {entries} entries; leave it out if unknown")
        fill = table.get("fill", INCLUSIVE)
        if fill not in FILLS:
            self.problem(
                f"{key}.fill", f"{fill!r} is unknown{did_you_mean(str(fill), FILLS)}; allowed: {', '.join(FILLS)}"
            )
        source, quality = self.source(key, table)
        if len(self.problems) > n_before:
            return None
        self.numbers.append(CatalogueNumber(f"{key}.entries ({', '.join(sizes)})", entries, "entries", source, quality))
        if ways is not None:
            self.numbers.append(CatalogueNumber(f"{key}.ways", ways, "ways", source, quality))
        return TlbArray(tuple(page_bytes(size) for size in sizes), entries, ways, fill)


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MOST_ENTRIES
