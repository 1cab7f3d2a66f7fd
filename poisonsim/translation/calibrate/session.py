"""A calibration from beginning to end: which memory can be had, what is measured in it, and the profile."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from poisonsim.errors import MachineError
from poisonsim.translation.cpus import Cpu, load_cpu
from poisonsim.units import GIB, MIB, format_bytes, page_bytes

from .areas import Area, mapped, require_memory
from .counters import Processor, available_bytes, processor, read_text
from .mixes import PATTERNS, Mix, MixChase, Profile, compare, resolution
from .pool import MorePages, Pool, while_changed
from .profile_file import cpu_table, parsed, stlb_hit_ns, toml_text
from .spread import F64
from .sweeps import Effort, Fracture, Sweep, WalkCost, find_fracture, slowness, sweep_capacity, time_walks, walk_costs
from .timing import MachineTimer, Timer

LEAST_AREA_BYTES = 64 * MIB
"""Smallest area: with less, a second-level TLB may hold all of it."""

_MOST_AREA_BYTES = 4 * GIB
_QUICK_AREA_BYTES = 256 * MIB
_QUICK = Effort(rounds=5, n_warm=30_000, n_timed=30_000)
# Three areas are mapped at once, and this part of the available memory is taken at most unless an area is given.
_N_AREAS = 3
_SHARE = 0.6

# Load per core above which a measurement is as good as sure to be disturbed.
_BUSY = 0.75
# A round that takes no more than this times the fastest is not disturbed.
_QUIET = 1.15

Notice = Callable[[str], None]
Round = tuple[dict[tuple[str, int], tuple[float, float]], list[F64]]


@dataclass(frozen=True)
class Calibration:
    """What a calibration found.

    Attributes:
        processor: Where it ran.
        ghz: Cycles per nanosecond.
        area_bytes: Largest area measured.
        leaves: How each leaf size was had, by size, largest first.
        missing: Why others were not, by size.
        fractures: As what huge pages are held.
        sweeps: Capacity sweeps, of leaf sizes held whole only.
        walks: Walk costs by leaf size and area.
        mixes: Measured against predicted slowdown of mixed mappings.
        resolution: Least slowdown told from none: the median over pairs of sizes and patterns; None without any.
        cpu: The profile.
        toml: The profile as a file that `load_cpu` reads.

    Examples:
        >>> Calibration.__name__
        'Calibration'
    """

    processor: Processor
    ghz: float
    area_bytes: int
    leaves: Mapping[str, str]
    missing: Mapping[str, str]
    fractures: Sequence[Fracture]
    sweeps: Sequence[Sweep]
    walks: Sequence[WalkCost]
    mixes: Sequence[Mix]
    resolution: float | None
    cpu: Cpu
    toml: str

    @property
    def reach_measured(self) -> bool:
        """Whether some huge page is one TLB entry here, so that reach with it can be measured."""
        return any(not fracture.fractured for fracture in self.fractures)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "schema": "poisonsim.calibration/1",
            "processor": self.processor._asdict(),
            "ghz": self.ghz,
            "area_bytes": self.area_bytes,
            "leaves": dict(self.leaves),
            "missing": dict(self.missing),
            "reach_measured": self.reach_measured,
            "fracture": [
                {**each._asdict(), "ratio": None if np.isnan(each.ratio) else each.ratio} for each in self.fractures
            ],
            "sweeps": [
                {
                    "leaf": sweep.leaf,
                    "n_entries": sweep.n_entries.tolist(),
                    "extra_ns": sweep.extra_ns.round(4).tolist(),
                    "knees": [knee._asdict() for knee in sweep.knees],
                }
                for sweep in self.sweeps
            ],
            "walks": [
                {
                    "leaf": walk.leaf,
                    "area_bytes": walk.area_bytes,
                    **{key: getattr(walk, key)._asdict() for key in ("load_ns", "hit_ns", "walk_ns")},
                }
                for walk in self.walks
            ],
            "resolution": self.resolution,
            "mixes": [
                {
                    **{key: getattr(mix, key) for key in ("base", "part", "pattern", "fraction")},
                    "measured": mix.measured._asdict(),
                    "predicted": mix.predicted._asdict(),
                    "difference": mix.difference,
                    "reason": mix.reason,
                }
                for mix in self.mixes
            ],
            "profile": self.toml,
        }


def calibrate(
    *,
    area_bytes: int | None = None,
    quick: bool = False,
    cpu: str | None = None,
    reserve: bool = False,
    seed: int = 1,
    notice: Notice | None = None,
    timer: Timer | None = None,
    pool: Pool | None = None,
) -> Calibration:
    """Measures this machine's TLB, page walks and mixed mappings, in real huge pages where they can be had.

    Args:
        area_bytes: Largest area, a power of two from 64 MiB; three of it are mapped at once. By default up to 4 GiB.
        quick: Fewer repeats and a smaller default area.
        cpu: Catalogue CPU (or CPU file) for what cannot be measured. By default recognised from /proc/cpuinfo.
        reserve: Whether the kernel's pool of huge pages may be grown meanwhile; it is set back in any case.
        seed: Of the places that loads go to.
        notice: Is told what goes on, one line at a time.
        timer: Times loads; the machine's by default.
        pool: Pools of huge pages; the kernel's by default.

    Raises:
        MachineError: No Linux with 4K base pages, or too little memory.
        ScenarioError: Unknown `cpu`.
    """
    tell = notice or (lambda _: None)
    pool = pool or Pool()
    if page_bytes("4K") != mmap.PAGESIZE:
        raise MachineError(f"base pages of {format_bytes(mmap.PAGESIZE)}: calibrate measures 4K, 2M and 1G pages only")
    if cpu is not None:
        load_cpu(cpu)  # a wrong name is said before anything is measured
    area_bytes = _area(area_bytes, quick)
    wanted = [leaf for leaf in ("1G", "2M") if area_bytes >= page_bytes(leaf)]
    changes = [
        MorePages(pool, leaf, more)
        for leaf in (wanted if reserve else [])
        if (state := pool.state(leaf)) is not None and (more := area_bytes // page_bytes(leaf) - state.usable) > 0
    ]
    for change in changes:
        tell(f"pool: adding {change.n} {change.size} pages to {change.before}; set back at the end")
    effort, rng = _QUICK if quick else Effort(), np.random.default_rng(seed)
    load, n_cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    if load > n_cores * _BUSY:
        tell(
            f"load average {load:.1f} on {n_cores} cores: other work disturbs the measurement; better wait till it ends"
        )

    def measure() -> Calibration:
        with ExitStack() as stack:
            areas, missing = _areas(stack, wanted, area_bytes, pool, reserve, tell)
            return _measure(areas, missing, area_bytes, effort, cpu, rng, timer or MachineTimer(), tell)

    return while_changed(changes, measure)


def _area(area_bytes: int | None, quick: bool) -> int:
    available = available_bytes()
    if area_bytes is None:
        area_bytes = _QUICK_AREA_BYTES if quick else _MOST_AREA_BYTES
        while area_bytes > LEAST_AREA_BYTES and area_bytes * _N_AREAS > available * _SHARE:
            area_bytes //= 2
    if area_bytes < LEAST_AREA_BYTES or area_bytes & (area_bytes - 1):
        raise MachineError(
            f"area: {format_bytes(area_bytes)} cannot be used; allowed: a power of two, 64 MiB or more, such as 4GiB"
        )
    require_memory(_N_AREAS * area_bytes, f"area: {_N_AREAS} × {format_bytes(area_bytes)}")
    return area_bytes


def _areas(
    stack: ExitStack, huge: Sequence[str], area_bytes: int, pool: Pool, grown: bool, tell: Notice
) -> tuple[dict[str, Area], dict[str, str]]:
    """Memory by leaf size, largest first, and why other sizes are missing."""
    areas: dict[str, Area] = {}
    missing: dict[str, str] = {}
    if "1G" not in huge:
        missing["1G"] = f"1G huge pages: the area is {format_bytes(area_bytes)}; give --area 1GiB or more"
    for leaf in (*huge, "4K"):
        tell(f"mapping {format_bytes(area_bytes)} in {leaf} pages")
        try:
            areas[leaf] = stack.enter_context(mapped(leaf, area_bytes, pool=pool, grown=grown))
        except MachineError as error:
            if leaf == "4K":
                raise
            missing[leaf] = str(error)
    if "2M" in missing:
        try:
            areas["2M"] = stack.enter_context(mapped("2M", area_bytes, transparent=True))
        except MachineError as error:
            missing["2M"] += f"; and {error}"
        else:
            tell(f"{missing.pop('2M')}; transparent huge pages are taken instead")
    for reason in missing.values():
        tell(f"not measured: {reason}")
    return {leaf: areas[leaf] for leaf in sorted(areas, key=page_bytes, reverse=True)}, missing


def _measure(
    areas: Mapping[str, Area], missing: Mapping[str, str], area_bytes: int, effort: Effort, cpu: str | None,
    rng: np.random.Generator, timer: Timer, tell: Notice,
) -> Calibration:  # fmt: skip
    where = processor(read_text(Path("/proc/cpuinfo")))
    ghz = timer.ghz()
    tell("fracture and capacities")
    fractures = [find_fracture(areas[leaf], areas["4K"], timer, effort, rng) for leaf in areas if leaf != "4K"]
    whole = [each.leaf for each in fractures if not each.fractured]
    sweeps = [sweep_capacity(areas[leaf], timer, effort, rng) for leaf in (*whole, "4K")]
    sizes = [LEAST_AREA_BYTES << i for i in range((area_bytes // LEAST_AREA_BYTES).bit_length())]
    pairs = [(base, part) for base in areas for part in areas if page_bytes(part) < page_bytes(base)]
    chases = [
        MixChase(areas[base], areas[part], area_bytes, pattern, rng) for base, part in pairs for pattern in PATTERNS
    ]
    tell(f"walks and mixed mappings, {effort.rounds} rounds")
    rounds = _quiet_rounds(
        lambda: (
            time_walks(areas, sizes, timer, effort, rng),
            [chase.time(timer, effort, rng) for chase in chases],
        ),
        effort.rounds,
        tell,
    )
    walks = walk_costs([walk_times for walk_times, _ in rounds])
    times: list[F64] = [np.array([mix_times[i] for _, mix_times in rounds]) for i in range(len(chases))]

    known = cpu or where.catalogue
    table = cpu_table(
        processor=where, ghz=ghz, sweeps=sweeps, fractures=fractures, walks=walks,
        base=load_cpu(known) if known else None,
    )  # fmt: skip
    text = toml_text(table)
    profile_cpu = parsed(text, "calibrated")
    held_as = {each.leaf: each.held_as or "4K" for each in fractures} | {"4K": "4K"}
    hit = stlb_hit_ns(sweeps[-1])
    profile = Profile(profile_cpu, held_as, walks, hit.mid if hit else 0.0)
    mixes = [row for chase, each in zip(chases, times, strict=True) for row in compare(chase, each, profile)]
    return Calibration(
        processor=where,
        ghz=ghz,
        area_bytes=area_bytes,
        leaves={leaf: area.how for leaf, area in areas.items()},
        missing=missing,
        fractures=fractures,
        sweeps=sweeps,
        walks=walks,
        mixes=mixes,
        resolution=float(np.median([resolution(each) for each in times])) if times else None,
        cpu=profile_cpu,
        toml=text,
    )


def _quiet_rounds(measure: Callable[[], Round], wanted: int, tell: Notice) -> list[Round]:
    """Rounds that nothing else on the machine slowed down, or the least slowed of twice as many."""
    rounds: list[Round] = []
    while True:
        rounds.append(measure())
        tell(f"round {len(rounds)} done")
        if len(rounds) < wanted:
            continue
        flat = [[*np.ravel(list(walks.values())), *np.concatenate([[], *mixes])] for walks, mixes in rounds]
        slow = slowness(np.array(flat))
        n_quiet = int((slow <= _QUIET).sum())
        if n_quiet >= wanted or len(rounds) == 2 * wanted:
            break
    if n_quiet < len(rounds):
        tell(f"{len(rounds) - n_quiet} of {len(rounds)} rounds were slowed by something else on the machine")
    return [rounds[i] for i in np.argsort(slow, kind="stable")[:wanted]]
