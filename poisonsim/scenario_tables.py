"""The tables of a scenario as frozen dataclasses: VM, host, faults, workload, horizon."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, PlainValidator
from pydantic.dataclasses import dataclass

from poisonsim.scenario_checks import SHARE, section
from poisonsim.scenario_problem import MAX_ERRORS, shown
from poisonsim.units import (
    GIB,
    TIB,
    Time,
    page_bytes,
    parse_bytes,
    parse_rate_per_year,
    parse_time,
    parse_years,
    time_text,
)

T = TypeVar("T")

CONFIG = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class PageShares(dict[str, float]):
    """Shares of page sizes, largest page first; hashable, so that a scenario is, and not to be changed."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self.items()))


def _guest_page(value: object) -> str | PageShares:
    if isinstance(value, str):
        page_bytes(value)
        return value
    if not isinstance(value, Mapping) or not value:
        allowed = 'write "2M", or shares such as {"2M" = 0.9, "4K" = 0.1}'
        raise ValueError(f"{shown(value)} is not a page size or shares of page sizes; {allowed}")
    for size, share in value.items():
        page_bytes(size)
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
            raise ValueError(f"share {shown(share)} of {size} is not above 0 and at most 1")
    if not math.isclose(total := math.fsum(value.values()), 1, abs_tol=1e-9):
        raise ValueError(f"shares add up to {total:.10g}, not to 1")
    largest_first = sorted(value, key=page_bytes, reverse=True)
    return largest_first[0] if len(value) == 1 else PageShares((size, float(value[size])) for size in largest_first)


def _small(parse: Callable[[Any], T]) -> Callable[[Any], T]:
    """`parse`, refusing integers that no float can hold."""

    def read(value: Any) -> T:
        if isinstance(value, int) and value.bit_length() > 128:
            raise ValueError(f"{shown(value)} is too large")
        return parse(value)

    return read


def _patrol(value: object) -> Time:
    patrol = parse_time(value, such_as="24h, 7d or 1y")
    if patrol > 1:
        raise ValueError(f"{shown(value)} is above 1y; write at most 1y, which is all but no patrol at all")
    return patrol


def _free_memory(value: Any) -> int:
    return 0 if value == 0 and not isinstance(value, bool) else parse_bytes(value)


def _repair(value: object) -> Time:
    return parse_time(value, such_as="24h, 7d or 1y")


def _grid(value: object) -> str:
    time = parse_time(value, such_as="7d, 1month or 1y")
    return value if isinstance(value, str) else time_text(time)


Bytes: TypeAlias = Annotated[int | str, PlainValidator(_small(parse_bytes))]
Years: TypeAlias = Annotated[float, PlainValidator(_small(parse_years))]
PerYear: TypeAlias = Annotated[float, PlainValidator(_small(parse_rate_per_year))]
Dispersion: TypeAlias = Annotated[float, Field(ge=0, le=100)]
Shape: TypeAlias = Annotated[float, Field(ge=0.2, le=10)]
Share: TypeAlias = Annotated[float, Field(gt=0, lt=1), SHARE]


@section("vm")
@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Vm:
    """A virtual machine whose memory the host backs with huge pages.

    Args:
        memory: Bytes, or text such as `"1TiB"`; a whole number of backing pages.
        backing: Huge page that backs the memory; one such page is a region.
        arch: Architecture, with its base page where that is a choice.
        contiguous: Whether the process table may use contiguous entries between the page sizes (arm64, riscv64).
        guest_page: Page with which the guest maps its memory, or shares such as `{"2M": 0.9, "4K": 0.1}`.
        on_loss: What follows when the VM is lost: counted, with the memory going on; a restart of the guest, for which
            spares replace what was lost; or the end of the trial.
        unrecoverable: Share of the guest's base pages whose loss kills the guest kernel.
        unretired: Share of the others that the guest fails to retire, and touches again.
        unmovable: Share of the regions that hold memory which the guest cannot move, and so cannot vacate.
        vcpus: Virtual CPUs, which take the refaults after a split side by side.

    Examples:
        >>> vm = Vm(memory="3TiB")
        >>> vm.memory_bytes >> 30, vm.n_regions, vm.pages_per_region
        (3072, 3072, 262144)
        >>> Vm(memory="3TiB", spares=8)
        Traceback (most recent call last):
        ...
        poisonsim.errors.ScenarioError: vm.spares: unknown key; did you mean host.spares?
    """

    memory: Bytes = TIB
    backing: str = "1G"
    arch: Literal["x86-64", "arm64", "arm64-16k", "arm64-64k", "riscv64"] = "x86-64"
    contiguous: bool = False
    guest_page: Annotated[str | Mapping[str, float], PlainValidator(_guest_page)] = "2M"
    on_loss: Literal["count", "restart", "end"] = "count"
    unrecoverable: Annotated[float, Field(ge=0, le=0.5), SHARE] = 0.02
    unretired: Annotated[float, Field(ge=0, le=0.5), SHARE] = 0.06
    unmovable: Annotated[float, Field(ge=0, le=1), SHARE] = 0.1
    vcpus: Annotated[int, Field(ge=1, le=4096)] = 64

    @property
    def memory_bytes(self) -> int:
        """Memory in bytes."""
        return int(self.memory)

    @property
    def region_bytes(self) -> int:
        """Bytes of one backing page."""
        return page_bytes(self.backing)

    @property
    def n_regions(self) -> int:
        """Backing pages."""
        return self.memory_bytes // self.region_bytes

    @property
    def base_bytes(self) -> int:
        """Bytes of a base page."""
        from poisonsim.memory import ARCHITECTURES

        return ARCHITECTURES[self.arch].base_bytes

    @property
    def n_base_pages(self) -> int:
        """Base pages in all."""
        return self.memory_bytes // self.base_bytes

    @property
    def pages_per_region(self) -> int:
        """Base pages of one region."""
        return self.region_bytes // self.base_bytes

    @property
    def guest_page_shares(self) -> dict[str, float]:
        """Share of the guest's memory mapped with each of its page sizes, largest first.

        Examples:
            >>> Vm(guest_page={"4K": 0.1, "2M": 0.9}).guest_page_shares
            {'2M': 0.9, '4K': 0.1}
        """
        return {self.guest_page: 1.0} if isinstance(self.guest_page, str) else dict(self.guest_page)


@section("host")
@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Host:
    """The machine that runs the VM.

    Args:
        cpu: Name of a CPU in the catalogue, or a TOML file.
        spares: Free huge pages kept in the pool for this VM alone; for several VMs on a host, let vm.memory be all of
            theirs.
        mapping: Whether the memory is mapped shared (a page given up is leaked) or private (it is dissolved); the
            policies `unmap1g` and `unmap1g-private` are of one kind each, whatever this says.
        page_tables: Process page tables that map the memory: the VMM's, and one per further process.
        stage2_contiguous: Whether KVM uses contiguous entries in stage 2 where the process table has them. None does
            today (Linux 6.12); without them the TLB holds such a leaf in pieces, whatever the VMM maps.
        hvo: Whether the hugetlb vmemmap optimisation is on. Linux on arm64 has had none since commit 060a2c92d1b6
            (2022): a file or `--set` that takes arm64 and does not name it gets false, and true asks what it would
            change.
        hvo_with_hgm: What high-granularity mapping does to it: off for the whole pool, off for the pages
            that are split, or kept.
        hvo_with_keep: What leaving poison mapped does to it: kept, or off for the whole pool, as version 3 of the
            patches cannot yet mark base pages whose struct pages are freed.
        hgm: Whether the kernel can map huge pages with high granularity at all.
        costs: Name of a table of time costs in the catalogue, or a TOML file.
        patrol: Time in which the patrol scrub reads all memory once, as text such as `"24h"`; `"1y"`, the longest, is
            all but none.
        ce_threshold: Who counts the corrected errors of each page, and so when `on_ce` rules are tried: a threshold of
            the fault laws, such as `"cec"` (with the fault model `field`), or `"off"`.
        spare_hosts: Hosts to which the VM can be evacuated, one after the other, each with as many spares.
        moves_poison: Whether the VMM can evacuate a VM that has poison; QEMU refuses to (commit 06152b89db64).
        pinned: Whether the VM's memory is pinned for devices (VFIO), so that neither its pages nor the VM can move.
        kernel_reads: Share of the reads of a poisoned line left in the process table that the host's own kernel makes
            (vhost, emulation), each of which panics the host. Only lines that the guest fails to retire are read.
        table_lock: What one page-table lock of the process covers: all its tables, or the entries below one PMD.
        free_memory: Memory of the host that is free outside the pool; text such as `"16GiB"`, or 0. Page tables always
            find room in it; the memory map of a huge page that is dissolved, and a spare that is made good, may not.
        replenish: Chance that the host, each time a spare is taken, finds enough of `free_memory` in one piece for
            another.
        spare_rows: Spare DRAM rows with which the host's firmware can repair bad ones when it reboots, in all; one is
            taken for each bad base page, and none unless there are enough for all.

    Examples:
        >>> Host(spares=8).cpu
        'sapphire-rapids'
    """

    cpu: str = "sapphire-rapids"
    spares: Annotated[int, Field(ge=0, le=65536)] = 4
    mapping: Literal["shared", "private"] = "shared"
    page_tables: Annotated[int, Field(ge=1, le=64)] = 1
    stage2_contiguous: bool = False
    hvo: bool = True
    hvo_with_hgm: Literal["off-everywhere", "off-where-split", "kept"] = "off-everywhere"
    hvo_with_keep: Literal["kept", "off-everywhere"] = "kept"
    hgm: bool = True
    costs: str = "linux"
    patrol: Annotated[float, PlainValidator(_small(_patrol))] = Time(1 / 365.25)
    ce_threshold: str = "off"
    spare_hosts: Annotated[int, Field(ge=0, le=1000)] = 0
    moves_poison: bool = False
    pinned: bool = False
    kernel_reads: Annotated[float, Field(ge=0, le=1), SHARE] = 1e-5
    table_lock: Literal["per-pmd", "per-mm"] = "per-pmd"
    free_memory: Annotated[int | str, PlainValidator(_small(_free_memory))] = 16 * GIB
    replenish: Annotated[float, Field(ge=0, le=1), SHARE] = 0.0
    spare_rows: Annotated[int, Field(ge=0, le=1_000_000)] = 0

    @property
    def free_bytes(self) -> int:
        """Free memory in bytes."""
        return int(self.free_memory)


@section("faults")
@dataclass(frozen=True, kw_only=True, config=CONFIG)
class CountFaults:
    """A fixed number of errors over the horizon, at uniform times.

    Args:
        errors: Uncorrected errors.
        placement: Uniform over base pages, or each in a region of its own.

    Examples:
        >>> CountFaults(errors=10).placement
        'uniform'
    """

    model: Literal["count"] = "count"
    errors: Annotated[int, Field(ge=0, le=MAX_ERRORS)] = 100
    placement: Literal["uniform", "distinct-regions"] = "uniform"


@section("faults")
@dataclass(frozen=True, kw_only=True, config=CONFIG)
class RateFaults:
    """Errors that arrive at a rate, uniform over the memory.

    Args:
        ue_per_tib_year: Uncorrected errors per TiB and year, or text such as `"66FIT"`, `"1/month"`.
        dispersion: Variance of the gamma frailty between VMs, whose mean is 1; 0 is none.
        shape: Weibull shape of the hazard over the horizon; 1 is constant.

    Examples:
        >>> RateFaults(ue_per_tib_year="1/month").ue_per_tib_year
        12.0
    """

    model: Literal["rate"] = "rate"
    ue_per_tib_year: PerYear
    dispersion: Dispersion = 0.0
    shape: Shape = 1.0


@section("faults")
@dataclass(frozen=True, kw_only=True, config=CONFIG)
class FieldFaults:
    """DRAM faults as fleets see them: modes, footprints through the address map, repeats, hosts that differ.

    Args:
        table: Name of a fault table in the catalogue, or a TOML file.
        laws: Name of the laws of footprint, growth and repetition in the catalogue, or a TOML file.
        dimm: Name of the host's DIMMs in the catalogue, or a TOML file.
        map: Name of the physical-address map in the catalogue, or a TOML file.
        ue: Where uncorrected errors come from: the share of each mode's faults that led to one in the fleet
            (`empirical`), or chip faults that the code cannot correct (`ecc`).
        ecc: Code of the ranks, for `ue = "ecc"` only. What DIMMs correct on the die is theirs.
        service: Whether a part is replaced after its first uncorrected error or left in.
        repair: Time until a part that is replaced leaves, as text such as `"7d"`; for `service = "replace"` only.
        vendor: `fleet` for the table's own mix, one of its vendors, or `mixed`: each host has DIMMs of one vendor,
            all equally likely, at the fleet's mean rate.
        bad_batch: Share of hosts whose DIMMs come from a bad batch; the mean over hosts is scaled up by it.
        scale: Factor on the table's rates.
        dispersion: Variance of the gamma frailty between hosts, whose mean is 1; 0 is none.
        shape: Weibull shape of the hazard over the horizon: above 1 ages, below 1 is infant mortality. That of a bad
            batch is the laws' own.

    Examples:
        >>> FieldFaults(repair="2weeks").service, FieldFaults().map
        ('replace', 'skx-closed-6ch')
    """

    model: Literal["field"] = "field"
    table: str = "ddr4-alibaba"
    laws: str = "field"
    dimm: str = "ddr4-32g-2rx4"
    map: str = "skx-closed-6ch"
    ue: Literal["empirical", "ecc"] = "empirical"
    ecc: Literal["none", "sec-ded", "chipkill", "bounded"] = "chipkill"
    service: Literal["replace", "left-in"] = "replace"
    repair: Annotated[float, PlainValidator(_small(_repair))] = Time(7 / 365.25)
    vendor: str = "fleet"
    bad_batch: Annotated[float, Field(ge=0, le=1), SHARE] = 0.0
    scale: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    dispersion: Dispersion = 0.0
    shape: Shape = 1.0

    @property
    def dimm_bytes(self) -> int:
        """Bytes of one DIMM."""
        from poisonsim.faults.geometry import load_dimm

        return load_dimm(self.dimm).bytes


Faults: TypeAlias = CountFaults | RateFaults | FieldFaults


@section("workload")
@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Workload:
    """Which memory the guest touches, and how often.

    Args:
        access: Access pattern.
        alpha: Exponent of `zipf`.
        over: Grain in which popularity is scattered (`zipf`, `hot-cold`).
        hot: Share of the memory that is hot (`hot-cold`).
        share: Share of the accesses that go there (`hot-cold`).
        cycles_per_access: Cycles between memory accesses, translation apart.
        accesses_per_page_visit: Accesses to a page in a row before the next page.
        smt_threads: Busy threads of a core, each with TLB entries of its own, between which the core's TLB is shared.
        virtualised: Whether accesses walk the guest's table and the host's; else the host's alone, as a process does,
            whatever `vm.guest_page` says. That is for translation only: second-stage tables still count as memory.
        reads_per_hour: Median number of times per hour that a cache line is read from memory.

    Examples:
        >>> Workload(access="hot-cold", hot=0.2, share=0.8).over
        '4K'
    """

    access: Literal["zipf", "uniform", "hot-cold", "sequential"] = "zipf"
    alpha: Annotated[float, Field(ge=0, le=3)] = 0.99
    over: Literal["4K", "1G"] = "4K"
    hot: Share = 0.1
    share: Share = 0.9
    cycles_per_access: Annotated[float, Field(gt=0, le=1e6)] = 60.0
    accesses_per_page_visit: Annotated[float, Field(ge=1, le=1e6)] = 8.0
    smt_threads: Annotated[int, Field(ge=1, le=8)] = 1
    virtualised: bool = True
    reads_per_hour: Annotated[float, Field(ge=0, le=1e9)] = 0.32


@section("horizon")
@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Horizon:
    """How long the VM is watched, and how often its state is noted.

    Args:
        years: Years, or text such as `"18months"`.
        grid: Time between notes, as text such as `"1month"`; divides the horizon, 1200 times at most.

    Examples:
        >>> Horizon(years=1, grid="3months").grid_years
        array([0.  , 0.25, 0.5 , 0.75, 1.  ])
    """

    years: Years = 5.0
    grid: Annotated[str, PlainValidator(_small(_grid))] = "1month"

    @property
    def n_steps(self) -> int:
        """Steps of the grid."""
        return round(self.years / parse_years(self.grid))

    @property
    def grid_years(self) -> NDArray[np.float64]:
        """Grid points in years from 0 to the horizon: float64[n_steps + 1]."""
        return np.linspace(0.0, self.years, self.n_steps + 1)
