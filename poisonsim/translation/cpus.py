"""CPUs: TLB arrays and cycle counts from TOML files, each number with its source and quality."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from poisonsim import catalog
from poisonsim.errors import ScenarioError, did_you_mean

from .cpu_reader import PAGE_SIZES, QUALITIES, CatalogueNumber, CpuReader
from .tlb import TlbArray

__all__ = [
    "ARCHITECTURES",
    "PAGE_SIZES",
    "QUALITIES",
    "Cache",
    "CatalogueNumber",
    "Cpu",
    "cpu_names",
    "load_cpu",
    "parse_cpu",
]

ARCHITECTURES = ("x86-64", "arm64", "riscv64")

FOR_THE_RECORD = ("walkers",)
"""Numbers of a CPU file that no result depends on."""

_CYCLE_KEYS = ("stlb_hit_cycles", "reference_cycles")
_CPU_KEYS = (
    "title",
    "arch",
    "notes",
    "l1",
    "l2",
    *_CYCLE_KEYS,
    "memory_cycles",
    "walkers",
    "cache",
    "walk_cache",
    "reading",
)


class Cache(NamedTuple):
    """A data cache that page-table reads go to.

    Args:
        bytes: Capacity for one core's reads; of a shared cache all of it, as all cores behind it run the VM.
        cycles: Latency.

    Examples:
        >>> load_cpu("zen4").caches[-1].bytes == 32 << 20
        True
    """

    bytes: int
    cycles: float


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
        reference_cycles: Cycles lost by one page-table read that the last-level cache answers (or any, without caches).
        caches: Data caches from the second level on, the smallest first; empty where a read costs the same everywhere.
        memory_cycles: Latency of memory.
        walk_cache_entries: Entries of the paging-structure caches by the bytes that one entry covers.
        walkers: Walks in flight at once, 0 if unknown; for the record.
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
    caches: tuple[Cache, ...] = ()
    memory_cycles: float = 0.0
    walk_cache_entries: tuple[tuple[int, int], ...] = ()
    walkers: int = 0


@functools.cache
def cpu_names() -> tuple[str, ...]:
    """Names of the shipped CPUs, sorted.

    Examples:
        >>> "sapphire-rapids" in cpu_names()
        True
    """
    return catalog.names("cpus")


def tlb_designs() -> dict[str, tuple[str, ...]]:
    """Every pair of TLB levels in the catalogue, by one CPU that has it, with all CPUs and readings that do.

    Examples:
        >>> tlb_designs()["emerald-rapids"], "zen4:l2_1g=exclusive" in tlb_designs()
        (('emerald-rapids', 'ice-lake-sp', 'sapphire-rapids'), True)
    """
    found: dict[object, list[str]] = {}
    for name in cpu_names():
        readings = catalog.load("cpus", name).get("reading", [])
        for each in (name, *(f"{name}:{one['name']}={other}" for one in readings for other in one["others"])):
            cpu = load_cpu(each)
            found.setdefault((cpu.l1, cpu.l2), []).append(each)
    return {names[0]: tuple(names) for names in found.values()}


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
        poisonsim.errors.ScenarioError: 'zen6' is not a CPU of the catalogue; known: ...; a TOML file works too: ...
    """
    text, options = catalog.split_options(str(name_or_path))
    if text in cpu_names():
        return _load_shipped(text, options)
    if not text.endswith(".toml"):
        raise ScenarioError(f"{catalog.unknown_name('cpus', text)}; a TOML file works too: ./{text}.toml")
    tables = catalog.read_toml(Path(text), where=f"cpu file {text}")
    return _of_tables(tables, name=Path(text).stem, where=text, options=options)


@functools.cache
def _load_shipped(name: str, options: str) -> Cpu:
    return _of_tables(catalog.load("cpus", name), name=name, where=f"{name}.toml", options=options)


def _of_tables(tables: Mapping[str, Any], *, name: str, where: str, options: str) -> Cpu:
    return parse_cpu(tables, name=f"{name}:{options}" if options else name, where=where, options=options)


def parse_cpu(table: Mapping[str, Any], *, name: str, where: str = "cpu", options: str = "") -> Cpu:
    """The CPU described by a table laid out as the catalogue's TOML files are.

    Args:
        table: Keys `title`, `arch`, `notes`; arrays of tables `l1` and `l2` with `sizes`, `entries`, optional `ways`,
            `fill`, `source`, `quality`; tables `stlb_hit_cycles` and `reference_cycles` with `value`, `source`,
            `quality`. Optional are `memory_cycles` and `walkers` like these, arrays of tables `cache` (`bytes`,
            `cycles`) and `walk_cache` (`covers`, `entries`), and `reading`: what else a number may be read as.
        name: Name the CPU gets.
        where: Words that error messages begin with.
        options: Readings to take in place of those in the table, such as `"l2_1g=exclusive"`; commas between.

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
    reader = CpuReader(where)
    reader.known_keys("", table, _CPU_KEYS)
    table = reader.read_as(table, options)
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
    reader.fills(l1, l2)
    stlb_hit, reference = (reader.cycles(key, table.get(key)) for key in _CYCLE_KEYS)
    caches = tuple(Cache(int(size), cycles) for size, cycles in reader.rows("cache", ("bytes", "cycles"), table))
    entries = reader.walk_caches("walk_cache", table)
    memory = reader.cycles("memory_cycles", table["memory_cycles"]) if "memory_cycles" in table else 0.0
    walkers = reader.cycles("walkers", table["walkers"], unit="walks") if "walkers" in table else 0.0
    if bool(caches) != bool(memory) or any(
        big.bytes <= small.bytes or big.cycles < small.cycles for small, big in itertools.pairwise(caches)
    ):
        reader.problem("cache", "write caches the smallest and fastest first, and memory_cycles with them, or neither")
    elif caches and memory < caches[-1].cycles:
        reader.problem("memory_cycles.value", f"{memory:g} is less than the last cache's {caches[-1].cycles:g} cycles")
    if reader.problems:
        raise ScenarioError(reader.problems)
    numbers = tuple(reader.numbers)
    return Cpu(
        name, title, arch, l1, l2, stlb_hit, reference, tuple(notes), numbers, caches, memory, entries, int(walkers)
    )
