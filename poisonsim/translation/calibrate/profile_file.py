"""The CPU file that a calibration writes: what was measured, with intervals, and what a catalogue CPU adds.

A figure of the catalogue that lies within the measured interval is kept, as vendors know their entry counts better
than a sweep does; one that does not is replaced where only one array can be meant.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from poisonsim.translation.access import Uniform
from poisonsim.translation.cpus import Cpu, parse_cpu
from poisonsim.translation.tlb import INCLUSIVE, TlbArray
from poisonsim.translation.walk_cost import WalkCosts
from poisonsim.translation.walks import CYCLES_PER_ACCESS, walk_accesses
from poisonsim.units import format_bytes, page_bytes, page_name

from .counters import Processor
from .spread import Spread
from .sweeps import Fracture, Sweep, WalkCost

_MEASURED = "measured-field"
_LEVELS = ("l1", "l2")


def cpu_table(
    *,
    processor: Processor,
    ghz: float,
    sweeps: Sequence[Sweep],
    fractures: Sequence[Fracture],
    walks: Sequence[WalkCost],
    base: Cpu | None,
) -> dict[str, Any]:
    """A table that `parse_cpu` accepts.

    Args:
        processor: Where it was measured.
        ghz: Cycles per nanosecond.
        sweeps: Sweeps of leaf sizes whose TLB entries are whole; one of `"4K"` is among them.
        fractures: As what huge pages are held.
        walks: Walk costs, one of `"4K"` among them.
        base: Catalogue CPU that supplies what was not measured.
    """
    by_leaf = {sweep.leaf: sweep for sweep in sweeps}
    table: dict[str, Any] = {
        "title": f"{processor.title}, calibrated",
        "arch": base.arch if base else "x86-64",
        "notes": list(_notes(processor, ghz, fractures, walks, base)),
    }
    for level, key in enumerate(_LEVELS):
        table[key] = list(_arrays(level, by_leaf, base))
    table["stlb_hit_cycles"] = _stlb_hit(by_leaf["4K"], ghz, base)
    table["reference_cycles"] = _reference(processor, fractures, walks, ghz, base)
    return table | (_where_tables_lie(base) if base else {})


def toml_text(table: Mapping[str, Any]) -> str:
    """The table as a TOML file, laid out as the catalogue's.

    Examples:
        >>> text = toml_text({"title": "toy", "notes": ["a"], "l1": [{"sizes": ["4K"], "entries": 2}]})
        >>> tomllib.loads(text)
        {'title': 'toy', 'notes': ['a'], 'l1': [{'sizes': ['4K'], 'entries': 2}]}
    """
    lines: list[str] = []
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines += ["", f"[{key}]", *(f"{name} = {_spelled(each)}" for name, each in value.items())]
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for entry in value:
                lines += ["", f"[[{key}]]", *(f"{name} = {_spelled(each)}" for name, each in entry.items())]
        elif isinstance(value, list):
            lines += [f"{key} = [", *(f"    {_spelled(each)}," for each in value), "]"]
        else:
            lines.append(f"{key} = {_spelled(value)}")
    return "\n".join(lines) + "\n"


def parsed(text: str, name: str) -> Cpu:
    """The CPU that a calibration's text describes.

    Args:
        text: From `toml_text`.
        name: Name the CPU gets.

    Raises:
        ScenarioError: The text does not describe a CPU.
    """
    return parse_cpu(tomllib.loads(text), name=name)


def _spelled(value: object) -> str:
    """A text, number or list of texts as TOML, which spells them as JSON does."""
    return json.dumps(value, ensure_ascii=False)


def _notes(
    processor: Processor, ghz: float, fractures: Sequence[Fracture], walks: Sequence[WalkCost], base: Cpu | None
) -> Iterator[str]:
    where = "in a virtual machine" if processor.virtual else "without a hypervisor"
    yield f"Measured by poisonsim calibrate {where} at {ghz:.2f} GHz; intervals in brackets are those of the repeats."
    for fracture in fractures:
        yield fracture_words(fracture)
    for leaf in dict.fromkeys(walk.leaf for walk in walks):
        costs = ", ".join(
            f"{format_bytes(walk.area_bytes)} {interval(walk.walk_ns)}" for walk in walks if walk.leaf == leaf
        )
        yield f"Walk cost with {leaf} leaves by area, ns, an upper estimate in a running loop: {costs}."
    if base is not None:
        yield from base.notes


def fracture_words(fracture: Fracture) -> str:
    """What the fracture test found, as one sentence.

    Examples:
        >>> print(fracture_words(Fracture("2M", "4K", 0.98, 16, 16)))
        2M pages are held as 4K entries (16 of 16 tested; scattered loads inside one cost 98 % of what 4K pages cost).
        >>> print(fracture_words(Fracture("2M", "2M", 0.01, 0, 16)))
        2M pages are held whole (0 of 16 tested are split).
    """
    if not fracture.held_as:
        return f"{fracture.leaf} pages: whether they are held whole could not be told; they are taken as 4K entries."
    if not fracture.fractured:
        return f"{fracture.leaf} pages are held whole (0 of {fracture.n_tested} tested are split)."
    return (
        f"{fracture.leaf} pages are held as {fracture.held_as} entries ({fracture.n_split} of {fracture.n_tested} "
        f"tested; scattered loads inside one cost {100 * fracture.ratio:.0f} % of what 4K pages cost)."
    )


def interval(spread: Spread, digits: int = 0) -> str:
    """A figure with its interval.

    Examples:
        >>> interval(Spread(16.2, 18.0, 21.4))
        '18 (16–21)'
    """
    return f"{spread.mid:.{digits}f} ({spread.low:.{digits}f}–{spread.high:.{digits}f})"


def _arrays(level: int, sweeps: Mapping[str, Sweep], base: Cpu | None) -> Iterator[dict[str, Any]]:
    if base is None:
        yield from _measured_arrays(level, sweeps)
        return
    key = _LEVELS[level]
    arrays: tuple[TlbArray, ...] = getattr(base, key)
    for i, array in enumerate(arrays):
        sizes = [page_name(size) for size in array.sizes_bytes]
        number = next(number for number in base.numbers if number.key.startswith(f"{key}[{i}].entries"))
        entries, source, quality = array.entries, f"{number.source} (catalogue, {base.name})", number.quality
        findings = []
        for size in sizes:
            if size not in sweeps or len(sweeps[size].knees) <= level:
                findings.append(f"{size} not measured here")
                continue
            knee = sweeps[size].knees[level]
            holders = [other for other in arrays if page_bytes(size) in other.sizes_bytes]
            total = sum(other.entries for other in holders)
            found = f"{size} measured here: {knee.entries} ({knee.low}–{knee.high})"
            if knee.low <= total <= knee.high:
                findings.append(f"{found}, which agrees")
            elif len(holders) == 1 and entries == array.entries:
                entries, quality = knee.entries, _MEASURED
                findings.append(f"{found}, against {total} in the catalogue")
            else:
                findings.append(f"{found}, against {total} in all arrays that hold it")
        # As many ways as the vendor states, where that still divides the entries.
        ways = {"ways": array.ways} if array.ways and entries % array.ways == 0 else {}
        fill = {} if array.fill == INCLUSIVE else {"fill": array.fill}
        source = f"{source}; {'; '.join(findings)}"
        yield {"sizes": sizes, "entries": entries, **ways, **fill, "source": source, "quality": quality}


def _where_tables_lie(base: Cpu) -> dict[str, Any]:
    """Caches, memory and walk caches of a catalogue CPU, so that walks cost what they do where their tables lie."""
    if not base.caches:
        return {}

    def stated(key: str) -> dict[str, str]:
        number = next(number for number in base.numbers if number.key == key)
        return {"source": f"{number.source} (catalogue, {base.name})", "quality": number.quality}

    return {
        "memory_cycles": {"value": base.memory_cycles, **stated("memory_cycles")},
        "cache": [
            {"bytes": cache.bytes, "cycles": cache.cycles, **stated(f"cache[{i}].bytes")}
            for i, cache in enumerate(base.caches)
        ],
        "walk_cache": [
            {"covers": page_name(covers), "entries": entries, **stated(f"walk_cache[{i}].entries")}
            for i, (covers, entries) in enumerate(base.walk_cache_entries)
        ],
    }


def _measured_arrays(level: int, sweeps: Mapping[str, Sweep]) -> Iterator[dict[str, Any]]:
    """One array per size that was swept; others are held as the next smaller size that is."""
    for leaf in sorted(sweeps, key=page_bytes, reverse=True):
        sweep = sweeps[leaf]
        if len(sweep.knees) > level:
            knee = sweep.knees[level]
            source = f"working-set sweep with {leaf} pages: {knee.entries} ({knee.low}–{knee.high})"
            yield {"sizes": [leaf], "entries": knee.entries, "source": source, "quality": _MEASURED}
        else:
            most = round(float(sweep.n_entries[-1]))
            source = f"no such bend in a sweep of up to {most} {leaf} pages; taken as so many, may be more or fewer"
            yield {"sizes": [leaf], "entries": most, "source": source, "quality": "assumed"}


def stlb_hit_ns(sweep: Sweep) -> Spread | None:
    """Time lost when only the second level has a translation; None where the sweep shows no first level.

    Args:
        sweep: Its samples between the first bend and the second are the repeats.

    Examples:
        >>> from .knees import Knee
        >>> import numpy as np
        >>> stlb_hit_ns(Sweep("4K", np.array([64.0, 96, 128]), np.array([0, 0, 1.7]), [Knee(96, 96, 128, 1.7)]))
        Spread(low=1.7, mid=1.7, high=1.7)
    """
    if not sweep.knees:
        return None
    first = sweep.knees[0]
    last = sweep.knees[1].low if len(sweep.knees) > 1 else sweep.n_entries[-1]
    between = sweep.extra_ns[(sweep.n_entries >= first.high) & (sweep.n_entries <= last)]
    low, high = (float(between.min()), float(between.max())) if between.size else (first.step_ns, first.step_ns)
    return Spread(min(low, first.step_ns), first.step_ns, max(high, first.step_ns))


def _stlb_hit(sweep: Sweep, ghz: float, base: Cpu | None) -> dict[str, Any]:
    hit = stlb_hit_ns(sweep)
    if hit is not None:
        cycles = hit.times(ghz)
        source = (
            f"working-set sweep with 4K pages, {interval(hit, 2)} ns at {ghz:.2f} GHz: {interval(cycles, 1)} cycles"
        )
        return {"value": round(cycles.mid, 2), "source": source, "quality": _MEASURED}
    if base is None:
        return {"value": 0, "source": "no bend in the sweep: no cost seen", "quality": "assumed"}
    number = next(number for number in base.numbers if number.key == "stlb_hit_cycles")
    return {"value": number.value, "source": f"{number.source} (catalogue, {base.name})", "quality": number.quality}


def _reference(
    processor: Processor, fractures: Sequence[Fracture], walks: Sequence[WalkCost], ghz: float, base: Cpu | None
) -> dict[str, Any]:
    """Cycles of one table read: the dearest area's 4K walk over the reads that the model counts for it.

    With the caches of a catalogue CPU a read is one that the last of them answers, and others count by their latency.
    The chase loads cold lines one after another, a program does not: the model takes `CYCLES_PER_ACCESS` for a load.
    What carries over is the cost of a walk relative to that of a load, so the reads are scaled to the model's load; the
    clock cancels, be it the core's or one that ticks at a fixed rate. It is right for the default `cycles_per_access`.
    What the other leaf sizes say of the same area widens the interval.
    """
    largest = max(walk.area_bytes for walk in walks)
    held_as = {fracture.leaf: fracture.held_as or "4K" for fracture in fractures} | {"4K": "4K"}
    used = {walk.leaf: walk for walk in walks if walk.area_bytes == largest and held_as[walk.leaf] == "4K"}
    # The host's leaf is as large as the largest entry seen. A native walk is half of one nested in its like.
    host = max(held_as.values(), key=page_bytes)
    reads = {leaf: _reads(leaf, host if processor.virtual else "", largest, base) for leaf in used}
    costs = {leaf: walk.walk_ns.times(ghz / reads[leaf]) for leaf, walk in used.items()}
    own, load_cycles = costs["4K"], used["4K"].hit_ns.mid * ghz
    low, high = min(cost.low for cost in costs.values()), max(cost.high for cost in costs.values())
    cycles = Spread(max(0.0, min(low, own.mid)), max(0.0, own.mid), max(0.0, high, own.mid))
    scaled = cycles.times(CYCLES_PER_ACCESS / load_cycles)
    source = (
        f"walks over {format_bytes(largest)} in 4K pages, {interval(used['4K'].walk_ns)} ns, over the "
        f"{reads['4K']:.1f} table reads of the model: {interval(cycles)} cycles beside cold loads of "
        f"{load_cycles:.0f}; scaled to the model's load of {CYCLES_PER_ACCESS:g} cycles: {interval(scaled, 1)}, the "
        f"interval over {', '.join(used)} pages; an upper estimate, and smaller for smaller areas (see notes)"
    )
    return {"value": round(scaled.mid, 2), "source": source, "quality": _MEASURED}


def _reads(leaf: str, host: str, area_bytes: int, base: Cpu | None) -> float:
    """Reads that the model counts for a walk of each access to an area; nested where there is a host leaf."""
    if base is None or not base.caches:
        return walk_accesses(leaf, host) if host else walk_accesses(leaf, leaf) / 2
    costs = WalkCosts(
        replace(base, reference_cycles=1.0), Uniform(), area_bytes, {leaf: 1.0}, [host or leaf], bool(host), 1
    )
    return float(costs.cycles(np.ones((1, 1)), {(leaf, 0): np.ones(1)})[leaf, 0][0])
