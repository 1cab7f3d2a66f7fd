"""From counts of host leaves to TLB reach, page walks and run time."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from poisonsim.errors import ScenarioError, did_you_mean
from poisonsim.memory.ladder import architecture, require_leaf_size
from poisonsim.units import format_bytes, page_bytes

from .access import AccessPattern, HotCold, Sequential, Uniform, Zipf
from .cpus import PAGE_SIZES, Cpu, load_cpu
from .levels import Outcome, TwoLevels
from .popularity import population
from .tlb import held_bytes
from .touch import F64
from .walk_cost import WalkCosts
from .walks import CYCLES_PER_ACCESS, SLOPES

I64 = npt.NDArray[np.int64]
GuestPage = str | Mapping[str, float]

_AT_ONCE = 1 << 13
"""States that are evaluated together, so that memory does not grow with their number."""


class SlowdownBand(NamedTuple):
    """Run time relative to a baseline; `low` and `high` span the published costs of a walk cycle.

    Examples:
        >>> SlowdownBand(1.0, 1.1, 1.2).mid
        1.1
    """

    low: float
    mid: float
    high: float


@dataclass(frozen=True)
class TranslationStates:
    """Translation of many memory states, one row each.

    Args:
        reach_bytes: float64[n], guest memory whose translation the TLB holds on average.
        l1_miss: float64[n], accesses that miss the first level.
        walks_per_access: float64[n], accesses that miss both levels.
        walks_by_leaf: float64[n, n_sizes], the same by size of the host leaf.
        cycles: float64[n, 3], cycles per access for a low, mid and high cost of a walk cycle.

    Examples:
        >>> translator = Translator(cpu="zen4", memory_bytes=1 << 40, access=Uniform(), guest_page="1G")
        >>> translator.baseline.walks_per_access.round(2)
        array([0.93])
    """

    reach_bytes: F64
    l1_miss: F64
    walks_per_access: F64
    walks_by_leaf: F64
    cycles: F64


@dataclass(frozen=True)
class Translation:
    """Translation of one memory state; `slowdown` is relative to the same memory in its largest leaf size.

    Examples:
        >>> translate(cpu="zen5", leaves={"1G": 1024}, access=Uniform(), guest_page="1G").slowdown.mid
        1.0
    """

    reach_bytes: float
    l1_miss: float
    walks_per_access: float
    walks_by_leaf: dict[str, float]
    slowdown: SlowdownBand


class Translator:
    """Translation of any state of one VM's memory on one CPU under one access pattern.

    The TLB holds the smaller of guest page and stage-2 leaf; the VMM's own table does not matter to the guest. Host
    leaves are spread evenly over guest pages of every size in a mix, and over popular and unpopular memory; accesses go
    to mapped memory only.

    Contiguous leaves are TLB entries of their own only where stage 2 has contiguous entries too; where it has none they
    count as leaves of the next size that one entry maps. Three things are assumed: that the TLB honours the hint
    wherever the guest's page and the arrays allow, that the guest's own contiguous pages are set in its table, and that
    a walk ends at one entry of a run, as deep as any other entry of that size.

    Args:
        cpu: A CPU, a catalogue name or a TOML file.
        memory_bytes: The VM's memory, a whole number of its largest leaves.
        access: Access pattern.
        leaf_sizes: Host leaf sizes, largest first: the columns of `evaluate`.
        guest_page: Guest page size, or shares of memory by size: `{"2M": 0.9, "4K": 0.1}`.
        arch: Whose leaf sizes these are, for its contiguous ones; without it one entry maps a leaf of any size.
        stage2_contiguous: Whether stage 2 has contiguous entries where the process table has them.
        cycles_per_access: Cycles of an access without translation.
        accesses_per_page_visit: Accesses in a row to the same page, 1 or more; divides misses and walks.
        smt_threads: Busy threads of the core, each with TLB entries of its own; rates stay those of one thread.
        virtualised: Whether leaves are a host's, below a guest's; else they are the only table, and `guest_page` is
            not used.

    Raises:
        ScenarioError: An unknown CPU or size, or a number out of range.

    Examples:
        >>> translator = Translator(cpu="sapphire-rapids", memory_bytes=1 << 40, access=Uniform(), guest_page="1G")
        >>> states = translator.evaluate(np.array([[1024, 0, 0], [1014, 10 * 512, 0]]))
        >>> states.walks_per_access.round(4)
        array([0.    , 0.0078])
    """

    def __init__(
        self,
        *,
        cpu: Cpu | str | Path,
        memory_bytes: int,
        access: AccessPattern,
        leaf_sizes: Sequence[str] = ("1G", "2M", "4K"),
        guest_page: GuestPage = "2M",
        arch: str | None = None,
        stage2_contiguous: bool = False,
        cycles_per_access: float = CYCLES_PER_ACCESS,
        accesses_per_page_visit: float = 1.0,
        smt_threads: int = 1,
        virtualised: bool = True,
    ) -> None:
        problems = _leaf_size_problems(leaf_sizes)
        if arch is not None and not problems:
            problems += _foreign_sizes(arch, leaf_sizes)
        problems += _number_problems("cycles_per_access", cycles_per_access, "above 0", 0, exclusive=True)
        problems += _number_problems("accesses_per_page_visit", accesses_per_page_visit, "1 or more", 1)
        if isinstance(smt_threads, bool) or smt_threads not in range(1, 9):
            problems.append(f"smt_threads: {smt_threads!r} is out of range; allowed: a whole number from 1 to 8")
        guest, guest_problems = _guest_shares(guest_page)
        problems += guest_problems
        if not isinstance(access, (Uniform, Zipf, HotCold, Sequential)):
            problems.append(f"access: {access!r} is no access pattern; allowed: Uniform, Zipf, HotCold, Sequential")
        if not isinstance(memory_bytes, (int, np.integer)):
            problems.append(f"memory_bytes: {memory_bytes!r} is not a whole number of bytes")
        elif not problems and (memory_bytes <= 0 or memory_bytes % page_bytes(leaf_sizes[0])):
            problems.append(f"memory_bytes: {memory_bytes} is not a whole number of {leaf_sizes[0]} leaves, 1 or more")
        if problems:
            raise ScenarioError(problems)
        self.cpu = cpu if isinstance(cpu, Cpu) else load_cpu(cpu)
        self.memory_bytes = memory_bytes
        self.leaf_sizes = tuple(leaf_sizes)
        self._leaf_bytes = np.array([page_bytes(size) for size in leaf_sizes], dtype=np.int64)
        self._entry_sizes, self._stage2_bytes = list(leaf_sizes), self._leaf_bytes
        if arch is not None:
            geometry = architecture(arch)
            self._entry_sizes = [geometry.entry_size(size) for size in leaf_sizes]
            stage2 = [geometry.stage2_size(size, stage2_contiguous) for size in leaf_sizes]
            self._stage2_bytes = np.array([page_bytes(size) for size in stage2], dtype=np.int64)
        self._guest = guest if virtualised else {leaf_sizes[0]: 1.0}
        self._pairs = sorted({self._pair(size, column) for size in self._guest for column in range(len(leaf_sizes))})
        self._tlb = TwoLevels(
            self.cpu.l1,
            self.cpu.l2,
            [population(access, memory_bytes, *pair) for pair in self._pairs],
            memory_bytes=memory_bytes,
            region_bytes=int(self._stage2_bytes[0]),
            smt_threads=smt_threads,
        )
        self._walk_costs = WalkCosts(
            self.cpu, access, memory_bytes, self._guest, self._entry_sizes, virtualised, smt_threads
        )
        self._access, self._smt_threads = access, smt_threads
        self._cycles_per_access = cycles_per_access
        self._accesses_per_page_visit = accesses_per_page_visit

    @cached_property
    def baseline(self) -> TranslationStates:
        """One state: all memory in the largest leaf size."""
        leaves = np.zeros((1, len(self.leaf_sizes)), dtype=np.int64)
        leaves[0, 0] = self.memory_bytes // self._leaf_bytes[0]
        return self.evaluate(leaves)

    def evaluate(self, leaves: npt.ArrayLike) -> TranslationStates:
        """Reach, misses, walks and cycles of each state.

        Args:
            leaves: int64[n, n_sizes], present host leaves by size, in the order of `leaf_sizes`.

        Raises:
            ScenarioError: Wrong shape or type, a negative count, or more memory than the VM has.
        """
        counts = self._checked(leaves)
        pieces = [self._evaluated(counts[at : at + _AT_ONCE]) for at in range(0, max(len(counts), 1), _AT_ONCE)]
        if len(pieces) == 1:
            return pieces[0]
        columns = [field.name for field in dataclasses.fields(TranslationStates)]
        return TranslationStates(**{name: np.concatenate([getattr(p, name) for p in pieces]) for name in columns})

    def _evaluated(self, counts: I64) -> TranslationStates:
        """What `evaluate` says of states few enough."""
        size_bytes = counts * self._leaf_bytes
        mapped_bytes = size_bytes.sum(axis=1)
        # A VM with nothing mapped makes no accesses: all shares are 0.
        shares = size_bytes / np.maximum(mapped_bytes, 1)[:, None]
        outcomes, visits = self._outcomes(size_bytes), self._accesses_per_page_visit
        walks = {
            (guest, column): outcomes[self._pair(guest, column)].walks
            for guest in self._guest
            for column in range(len(self.leaf_sizes))
        }
        cycles = self._walk_costs.cycles(shares, {key: walked / visits for key, walked in walks.items()})
        n_states, n_sizes = counts.shape
        l1_miss, reach_bytes, walk_cycles = np.zeros((3, n_states))
        walks_by_leaf = np.zeros((n_states, n_sizes))
        for (guest, column), walked in walks.items():
            outcome, share = outcomes[self._pair(guest, column)], self._guest[guest] * shares[:, column]
            l1_miss += share * outcome.l1_miss
            walks_by_leaf[:, column] += share * walked
            walk_cycles += share * walked * cycles[guest, column]
            reach_bytes += self._guest[guest] * size_bytes[:, column] * outcome.resident
        if isinstance(self._access, Sequential):
            reach_bytes = self._reach_of_scan(counts)
        stlb_cycles = (l1_miss - walks_by_leaf.sum(axis=1)) * self.cpu.stlb_hit_cycles
        translation_cycles = (walk_cycles[:, None] * np.array(SLOPES) + stlb_cycles[:, None]) / visits
        return TranslationStates(
            reach_bytes=np.minimum(reach_bytes, mapped_bytes),
            l1_miss=l1_miss / visits,
            walks_per_access=walks_by_leaf.sum(axis=1) / visits,
            walks_by_leaf=walks_by_leaf / visits,
            cycles=self._cycles_per_access + translation_cycles,
        )

    def _checked(self, leaves: npt.ArrayLike) -> I64:
        counts = np.asarray(leaves)
        if counts.ndim != 2 or counts.shape[1] != len(self.leaf_sizes) or counts.dtype.kind not in "iu":
            raise ScenarioError(
                f"leaves: {counts.dtype}{list(counts.shape)} cannot be used; "
                f"pass integers of shape [states, {len(self.leaf_sizes)}] ({', '.join(self.leaf_sizes)})"
            )
        counts = counts.astype(np.int64)
        if counts.size and counts.min() < 0:
            raise ScenarioError(f"leaves: {counts.min()} is negative; counts are 0 or more")
        most_bytes = int((counts @ self._leaf_bytes).max(initial=0))
        if most_bytes > self.memory_bytes:
            raise ScenarioError(
                f"leaves: a state maps {format_bytes(most_bytes)}, more than the VM's {format_bytes(self.memory_bytes)}"
            )
        return counts

    def _pair(self, guest: str, column: int) -> tuple[int, int]:
        """Entry sizes as which the first and the second level hold a host leaf under a guest page."""
        effective = min(page_bytes(guest), int(self._stage2_bytes[column]))
        return held_bytes(self.cpu.l1, effective), held_bytes(self.cpu.l2, effective)

    def _reach_of_scan(self, counts: I64) -> F64:
        """float64[n]: reach where all but the largest leaves fill as few regions of that size as they fit in."""
        from .scan import Regions, reach_of_scan  # imports Numba, which other patterns do without

        size_bytes, region_bytes = counts * self._leaf_bytes, int(self._leaf_bytes[0])
        n_split = -(-size_bytes[:, 1:].sum(axis=1) // region_bytes)
        whole, split_bytes = np.zeros(len(self._pairs)), np.zeros((len(counts), len(self._pairs)))
        for guest, share in self._guest.items():
            places = [self._pairs.index(self._pair(guest, column)) for column in range(len(self.leaf_sizes))]
            whole[places[0]] += share
            for column, place in enumerate(places[1:], start=1):
                split_bytes[:, place] += share * size_bytes[:, column] / np.maximum(n_split, 1)
        n_places = self.memory_bytes // region_bytes
        regions = Regions(n_places, region_bytes, counts[:, 0], n_split, whole, split_bytes)
        return reach_of_scan(self.cpu.l1, self.cpu.l2, self._pairs, regions, self._smt_threads)

    def _outcomes(self, size_bytes: I64) -> dict[tuple[int, int], Outcome]:
        """What becomes of the leaves that the levels hold as each pair of sizes."""
        demanded = {pair: np.zeros(len(size_bytes)) for pair in self._pairs}
        for guest, guest_share in self._guest.items():
            for column in range(len(self.leaf_sizes)):
                demanded[self._pair(guest, column)] += guest_share * size_bytes[:, column]
        return dict(zip(self._pairs, self._tlb.outcomes([demanded[pair] for pair in self._pairs]), strict=True))


def translate(
    *,
    cpu: Cpu | str | Path,
    leaves: Mapping[str, int],
    access: AccessPattern,
    guest_page: GuestPage = "2M",
    memory_bytes: int | None = None,
    arch: str | None = None,
    stage2_contiguous: bool = False,
    cycles_per_access: float = CYCLES_PER_ACCESS,
    accesses_per_page_visit: float = 1.0,
    smt_threads: int = 1,
    virtualised: bool = True,
) -> Translation:
    """TLB reach, misses, walks and slowdown of one memory state.

    Args:
        cpu: A CPU, a catalogue name or a TOML file.
        leaves: Present host leaves by size.
        access: Access pattern.
        guest_page: Guest page size, or shares of memory by size.
        memory_bytes: The VM's memory, holes included; by default the mapped bytes, rounded up to whole largest leaves.
        arch: Whose leaf sizes these are, for its contiguous ones; without it one entry maps a leaf of any size.
        stage2_contiguous: Whether stage 2 has contiguous entries where the process table has them.
        cycles_per_access: Cycles of an access without translation.
        accesses_per_page_visit: Accesses in a row to the same page.
        smt_threads: Busy threads of the core, each with TLB entries of its own.
        virtualised: Whether leaves are a host's, below a guest's; else `guest_page` is not used.

    Raises:
        ScenarioError: An unknown CPU or size, or a number out of range.

    Examples:
        >>> result = translate(cpu="zen5", leaves={"1G": 922, "2M": 0, "4K": 26_738_688}, access=Uniform(),
        ...                    guest_page="1G")
        >>> round(result.walks_per_access, 3), result.slowdown.low < result.slowdown.mid < result.slowdown.high
        (0.1, True)
        >>> vm = dict(cpu="neoverse-n1", leaves={"32M": 32_768}, access=Uniform(), guest_page="1G", arch="arm64")
        >>> [round(translate(**vm, stage2_contiguous=future).reach_bytes / 2**30, 3) for future in (False, True)]
        [2.506, 40.097]
    """
    unknown = [size for size in leaves if size not in PAGE_SIZES]
    if unknown:
        raise ScenarioError([_unknown_size("leaves", size) for size in unknown])
    bad = [size for size, n in leaves.items() if not isinstance(n, (int, np.integer)) or n < 0]
    if bad:
        raise ScenarioError([f"leaves: {size} = {leaves[size]!r} is not a count; allowed: 0 or more" for size in bad])
    if not any(leaves.values()):
        raise ScenarioError("leaves: nothing is mapped; give one size or more with its count, such as {'1G': 1024}")
    sizes = sorted(leaves, key=page_bytes, reverse=True)
    if memory_bytes is None:
        largest_bytes = page_bytes(sizes[0])
        memory_bytes = -(-sum(n * page_bytes(size) for size, n in leaves.items()) // largest_bytes) * largest_bytes
    translator = Translator(
        cpu=cpu,
        memory_bytes=memory_bytes,
        access=access,
        leaf_sizes=sizes,
        guest_page=guest_page,
        arch=arch,
        stage2_contiguous=stage2_contiguous,
        cycles_per_access=cycles_per_access,
        accesses_per_page_visit=accesses_per_page_visit,
        smt_threads=smt_threads,
        virtualised=virtualised,
    )
    states = translator.evaluate(np.array([[leaves[size] for size in sizes]]))
    # Where splits help, the costliest walk gives the smallest ratio.
    low, mid, high = np.sort(states.cycles[0] / translator.baseline.cycles[0])
    return Translation(
        reach_bytes=float(states.reach_bytes[0]),
        l1_miss=float(states.l1_miss[0]),
        walks_per_access=float(states.walks_per_access[0]),
        walks_by_leaf=dict(zip(sizes, states.walks_by_leaf[0].tolist(), strict=True)),
        slowdown=SlowdownBand(float(low), float(mid), float(high)),
    )


def _unknown_size(where: str, size: object) -> str:
    known = ", ".join(PAGE_SIZES)
    return f"{where}: {size!r} is no page size{did_you_mean(str(size), PAGE_SIZES)}; allowed: {known}"


def _leaf_size_problems(leaf_sizes: Sequence[str]) -> list[str]:
    problems = [_unknown_size("leaf_sizes", size) for size in leaf_sizes if size not in PAGE_SIZES]
    ranked = sorted(set(leaf_sizes) & set(PAGE_SIZES), key=page_bytes, reverse=True)
    if not problems and (not ranked or list(leaf_sizes) != ranked):
        problems.append(f"leaf_sizes: {list(leaf_sizes)} is not a list of distinct sizes, largest first")
    return problems


def _foreign_sizes(arch: str, leaf_sizes: Sequence[str]) -> list[str]:
    problems: list[str] = []
    for size in leaf_sizes:
        try:
            require_leaf_size(arch, size, "leaf_sizes")
        except ScenarioError as error:
            problems += [problem for problem in error.problems if problem not in problems]
    return problems


def _number_problems(key: str, value: float, allowed: str, least: float, exclusive: bool = False) -> list[str]:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and least <= value < float("inf") and not (exclusive and value == least):
        return []
    return [f"{key}: {value!r} is out of range; allowed: a finite number, {allowed}"]


def _guest_shares(guest_page: GuestPage) -> tuple[dict[str, float], list[str]]:
    if not isinstance(guest_page, (str, Mapping)):
        return {}, [f"guest_page: {guest_page!r} is neither a page size nor shares by page size"]
    shares = {guest_page: 1.0} if isinstance(guest_page, str) else dict(guest_page)
    problems = [_unknown_size("guest_page", size) for size in shares if size not in PAGE_SIZES]
    for size, share in shares.items():
        problems += _number_problems(f"guest_page {size}", share, "0 or more", 0)
    if not problems and abs(sum(shares.values()) - 1) > 1e-6:
        problems.append(f"guest_page: the shares {shares} add up to {sum(shares.values()):g}; they must add up to 1")
    return shares, problems
