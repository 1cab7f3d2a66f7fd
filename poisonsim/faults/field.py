"""The field model: DRAM faults of a host's DIMMs as a fleet saw them, and the errors that they give its VM.

An incident is a fault that leads to uncorrected errors or, with `ue = "ecc"`, a DIMM with as many faults as it takes to
defeat its code. Hosts differ: each is of one class (vendor, batch), and the number of incidents of a VM is a mixture
over them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from poisonsim.faults.address_map import load_address_map
from poisonsim.faults.boxes import shape_windows
from poisonsim.faults.detection import Detection
from poisonsim.faults.ecc import ChipRates, draw_failures, load_ecc, p_at_least
from poisonsim.faults.geometry import Dimm, load_dimm
from poisonsim.faults.growth import (
    F_BANKS,
    F_LINES,
    F_MODE,
    F_RANK,
    F_RANKS,
    F_ROWS,
    N_FAULT_COLUMNS,
    GrowthLaw,
    Strikes,
    draw_strikes,
    find_lines,
)
from poisonsim.faults.host import HostMemory, chosen, sort_within
from poisonsim.faults.laws import CeThreshold, Laws, load_laws
from poisonsim.faults.strata import MOST, Strata, TabulatedCounts, pmf_of_counts
from poisonsim.faults.tables import MODES, FaultTable, load_fault_table
from poisonsim.scenario import FieldFaults, Scenario
from poisonsim.units import HOURS_PER_YEAR

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_NEGLIGIBLE = 1e-16
_LEAST_DISPERSION = 1e-12  # less cannot be told from none
_LONGEST_TABLE = 1000  # incidents of one VM beyond which pairs of numbers are not listed
_TRIAL_LINES = 15.0  # what a trial costs beside its bad lines, in lines


class HostClass(NamedTuple):
    """Hosts alike in what their DIMMs do.

    Attributes:
        name: In words.
        share: Share of all hosts.
        vendor: Vendor of the table; empty for the fleet's mix.
        factor: On the rates of faults that lead to errors, which level vendors to the fleet's mean where they mix.
        worse: The same without that levelling.
        shape: Weibull shape of the hazard over the horizon.
    """

    name: str
    share: float
    vendor: str
    factor: float
    worse: float
    shape: float


class Incidents(NamedTuple):
    """Where and when faults first strike, and what they can reach.

    Attributes:
        start: int64[n_trials + 1], first fault of each trial.
        years: float64[n_faults], when each first strikes, ascending within a trial.
        faults: int64[n_faults, N_FAULT_COLUMNS], as `find_lines` takes them.
        of_class: int64[n_trials], class of each trial's host.
    """

    start: I64
    years: F64
    faults: I64
    of_class: I64


class Events(NamedTuple):
    """Errors of the VM, in time order within each trial; see `find_lines`."""

    start: I64
    page: I64
    years: F64
    born: F64
    ar: NDArray[np.uint8]
    mode: NDArray[np.uint8]


def field_model(scenario: Scenario) -> FieldModel:
    """The model of a scenario whose faults are `FieldFaults`, made once while its files stay as they are.

    Examples:
        >>> from poisonsim.scenario import load_scenario
        >>> field_model(load_scenario("ddr5-1t")).dimm.n_subchannels
        2
    """
    faults = scenario.faults
    assert isinstance(faults, FieldFaults)
    named = (faults.table, faults.laws, faults.dimm, faults.map.partition(":")[0])
    files = (name for name in named if name.endswith(".toml"))
    return _model(scenario, tuple(Path(name).read_bytes() for name in files))


@lru_cache(maxsize=8)
def _model(scenario: Scenario, _files: tuple[bytes, ...]) -> FieldModel:
    return FieldModel.of(scenario)


def detection_of(scenario: Scenario) -> Detection:
    """How the host of a scenario finds bad lines; by the catalogue's laws where its faults name none.

    Examples:
        >>> round(detection_of(Scenario()).p_ar, 2)
        0.72
    """
    if isinstance(scenario.faults, FieldFaults):
        return field_model(scenario).detection
    return _detection(scenario.host.patrol, scenario.workload.reads_per_hour, load_laws("field").reads_spread)


_detection = lru_cache(maxsize=8)(Detection)


@dataclass(frozen=True, eq=False)
class FieldModel:
    """A scenario's field faults with all that its names stand for; made by `FieldModel.of`.

    Examples:
        >>> from poisonsim.scenario import load_scenario
        >>> model = FieldModel.of(load_scenario("cloud-1t-ddr4"))
        >>> model.memory.n_dimms, round(model.mean, 4)
        (36, 0.0649)
    """

    scenario: Scenario
    faults: FieldFaults
    table: FaultTable
    laws: Laws
    dimm: Dimm
    memory: HostMemory

    @classmethod
    def of(cls, scenario: Scenario) -> FieldModel:
        """The model of a scenario whose faults are `FieldFaults`."""
        faults = scenario.faults
        assert isinstance(faults, FieldFaults)
        dimm = load_dimm(faults.dimm)
        memory = HostMemory(load_address_map(faults.map, dimm), scenario.vm.memory_bytes)
        return cls(scenario, faults, load_fault_table(faults.table), load_laws(faults.laws), dimm, memory)

    # --- who has how many -----------------------------------------------------------------------------------------

    @cached_property
    def classes(self) -> tuple[HostClass, ...]:
        """Classes of hosts: by vendor where they are mixed, and good and bad batches where there are bad ones."""
        faults, laws = self.faults, self.laws
        vendors = {"fleet": [""], "mixed": sorted(self.table.vendors)}.get(faults.vendor, [faults.vendor])
        level = dict.fromkeys(vendors, 1.0)
        if faults.vendor == "mixed":  # who is worse and who is better is kept, the mean over hosts is the fleet's
            rates = [self._rate(vendor) for vendor in vendors]
            level = dict.fromkeys(vendors, self._rate("") * len(vendors) / sum(rates))
        batches = [("", 1 - faults.bad_batch, 1.0, faults.shape)]
        batches += [("bad batch", faults.bad_batch, laws.bad_batch_factor, laws.bad_batch_shape)]
        return tuple(
            HostClass(
                " ".join(filter(None, (f"vendor {vendor}" if vendor else "", batch))) or "all hosts",
                share / len(vendors),
                vendor,
                faults.scale * level[vendor] * factor,
                faults.scale * factor,
                shape,
            )
            for vendor in vendors
            for batch, share, factor, shape in batches
            if share > 0
        )

    @property
    def hidden_modes(self) -> tuple[str, ...]:
        """Modes that the DIMM's own correction keeps from the host."""
        return ("bit",) if self.dimm.on_die_ecc else ()

    def ue_faults_per_dimm_year(self, vendor: str = "") -> dict[str, float]:
        """Faults that lead to uncorrected errors, per DIMM-year, by mode (`ue = "empirical"`)."""
        by_mode = self.table.ue_per_dimm_year_by_mode(vendor=vendor)
        return {mode: 0.0 if mode in self.hidden_modes else rate for mode, rate in by_mode.items()}

    def chip_rates(self, host: HostClass) -> ChipRates:
        """FIT of each chip in hosts of a class; a DIMM of other chips has as many faults as one of the table's."""
        n_chips = self.dimm.n_chips
        factor = host.factor * (self.table.n_chips_per_dimm / n_chips if self.table.has_outcomes else 1.0)
        fit = {mode: pair for mode, pair in self.table.fit_by_mode(vendor=host.vendor).items() if sum(pair)}
        transient, permanent = (tuple(pair[kind] * factor for pair in fit.values()) for kind in (0, 1))
        return ChipRates(tuple(fit), transient, permanent)

    def _rate(self, vendor: str) -> float:
        """What vendors are levelled by: faults that lead to errors, or all faults."""
        if self.faults.ue == "empirical":
            return sum(self.ue_faults_per_dimm_year(vendor).values())
        return sum(sum(pair) for pair in self.table.fit_by_mode(vendor=vendor).values())

    @property
    def fewest_faults(self) -> int:
        """Faults of a DIMM below which its code cannot be defeated (`ue = "ecc"`)."""
        ecc = load_ecc(self.faults.ecc)
        fit = self.table.fit_by_mode()
        alone = (mode for mode, pair in fit.items() if sum(pair) and mode not in (*ecc.corrects, *self.hidden_modes))
        return 1 if any(alone) else 2

    @property
    def n_units(self) -> int:
        """Independent parts of the host's memory: DIMMs, or subchannels of DDR5 DIMMs."""
        return self.memory.n_dimms * self.dimm.n_subchannels

    @cached_property
    def means(self) -> F64:
        """Expected incidents of a VM's host over the horizon, by class: float64[n_classes]."""
        years = self.scenario.horizon.years
        if self.faults.ue == "ecc":
            n = self.fewest_faults
            chances = [p_at_least(n, rates=self.chip_rates(host), dimm=self.dimm, years=years) for host in self.classes]
            return np.array(chances) * self.n_units
        rates = [sum(self.ue_faults_per_dimm_year(host.vendor).values()) * host.factor for host in self.classes]
        return np.array(rates) * self.memory.n_dimms * years

    @property
    def mean(self) -> float:
        """Expected incidents of a VM's host over the horizon."""
        return float(np.dot([host.share for host in self.classes], self.means))

    @cached_property
    def joint_pmf(self) -> F64:
        """P(host of class c, n incidents, m of them with many lines): float64[n_classes, n, m], to a negligible tail.

        Where it is of no use to know m beforehand there is no such dimension: its length is 1.
        """
        rows = []
        for host, mean in zip(self.classes, self.means, strict=True):
            if self.faults.ue == "ecc":
                law = binom(self.n_units, min(mean / self.n_units, 1.0))
                pmf = law.pmf(np.arange(int(law.isf(_NEGLIGIBLE)) + 2))
            else:
                dispersion = self.faults.dispersion
                pmf = pmf_of_counts(mean, dispersion if dispersion > _LEAST_DISPERSION else 0.0)
            rows.append(host.share * pmf)
        joint = np.zeros((len(rows), max(map(len, rows)), 1))
        for row, pmf in zip(joint, rows, strict=True):
            row[: len(pmf), 0] = pmf
        n = np.arange(joint.shape[1])
        plain = self.threshold is not None or joint[:, 1:].sum() > MOST
        if plain or self.faults.ue == "ecc" or not self.p_many.any() or len(n) > _LONGEST_TABLE:
            return joint
        by_many: F64 = joint * binom(n[:, None], self.p_many[:, None, None]).pmf(n)
        return by_many

    @cached_property
    def p_many(self) -> F64:
        """Share of the incidents that spoil many lines at once, by class of host: float64[n_classes]."""
        shares = np.array([self.laws.lines[mode].large_share for mode in MODES])
        rates = [[self.ue_faults_per_dimm_year(c.vendor).get(mode, 0.0) for mode in MODES] for c in self.classes]
        total = np.sum(rates, axis=1)
        found: F64 = np.divide(np.array(rates) @ shares, total, out=np.zeros(len(rates)), where=total > 0)
        return found

    @cached_property
    def counts(self) -> TabulatedCounts:
        """How many incidents a VM's host meets, and how many of them spoil many lines."""
        law = self.joint_pmf.sum(axis=0)
        n, m = np.indices(law.shape)
        few, many = self.lines_per_incident
        return TabulatedCounts(self.mean, law, _TRIAL_LINES + few * n + many * m, self.threshold is not None)

    @property
    def threshold(self) -> CeThreshold | None:
        """Corrected errors at which the host acts, if it counts them."""
        name = self.scenario.host.ce_threshold
        return None if name == "off" else self.laws.thresholds[name]

    @cached_property
    def lines_per_incident(self) -> tuple[float, float]:
        """About how many bad lines an incident makes, and how many more if many at once, for sizing work."""
        laws = [self.laws.lines[mode] for mode in MODES]
        rates = np.array([self.ue_faults_per_dimm_year().get(mode, 0.0) for mode in MODES])
        if self.faults.ue == "ecc" or not rates.any():
            rates = np.ones(len(MODES))
        few = rates @ [law.small_mean for law in laws] / rates.sum()
        large = rates @ [law.large_share for law in laws]
        beyond = rates @ [law.mean - (1 - law.large_share) * law.small_mean for law in laws]
        many = beyond / large if large else 0.0
        once = np.zeros((200, N_FAULT_COLUMNS), np.int64)
        once[:, [F_RANKS, F_BANKS, F_ROWS, F_LINES]] = 1
        repair = self.faults.repair if self.faults.service == "replace" else np.inf
        rng, years = np.random.Generator(np.random.PCG64DXSM(1)), self.scenario.horizon.years
        strikes = Strikes(*draw_strikes(rng, np.zeros(len(once)), once, self.growth, repair, years))
        return float(few) * len(strikes.years) / len(once), float(many)

    def lines_per_trial(self, strata: Strata) -> float:
        """About how many bad lines are drawn for a trial, those that are not simulated included."""
        few, many = self.lines_per_incident
        if strata.plain:
            share = (
                float(np.dot([host.share for host in self.classes], self.p_many)) if self.faults.ue != "ecc" else 0.05
            )
            return self.mean * (few + share * many)
        return strata.p_any * strata.per_simulated(few, many)

    # --- what happens ---------------------------------------------------------------------------------------------

    def draw_classes(self, rng: np.random.Generator, count: I64, many: I64 | None = None) -> I64:
        """Class of each trial's host, given its incidents and how many of them spoil many lines: int64[n_trials]."""
        if len(self.classes) == 1:
            return np.zeros(len(count), np.int64)
        chances = self.joint_pmf.sum(axis=2)[:, count] if many is None else self.joint_pmf[:, count, many]
        cumulative = np.cumsum(chances, axis=0)
        of_class: I64 = (rng.random(len(count)) * cumulative[-1] >= cumulative[:-1]).sum(axis=0)
        return of_class

    def draw_incidents(
        self, rng: np.random.Generator, where: np.random.Generator, count: I64, many: I64 | None = None
    ) -> Incidents:
        """Faults of trials that see so many incidents each.

        Args:
            rng: For who, when and which mode.
            where: For the place in the host's memory and the form.
            count: int64[n_trials], incidents of each.
            many: int64[n_trials], how many of them spoil many lines; left to chance where it is not said.
        """
        of_class = self.draw_classes(rng, count, many)
        if self.faults.ue == "ecc":
            return self._draw_overlaps(rng, where, count, of_class)
        start = np.concatenate(([0], np.cumsum(count)))
        host = np.repeat(of_class, count)
        shapes = np.array([c.shape for c in self.classes])
        years = self.scenario.horizon.years * rng.random(len(host)) ** (1 / shapes)[host]
        u = rng.random(len(host))
        spoils = u < self.p_many[host] if many is None else chosen(u, start, many)
        kind = np.empty(len(host), np.int64)
        u = rng.random(len(host))
        for c, chances in enumerate(self._kind_chances):
            for spoil, chance in enumerate(chances):
                mine = (host == c) & (spoils == spoil)
                kind[mine] = np.searchsorted(chance, u[mine] * chance[-1], side="right")
        faults = self.memory.place(where.integers(self.memory.n_lines, size=len(host)), *self.kinds, kind, spoils)
        sort_within(start, years, faults)
        return Incidents(start, years, faults, of_class)

    @cached_property
    def kinds(self) -> tuple[I64, I64]:
        """Every form of every mode: its mode int64[n_kinds]; ranks, banks, rows and lines int64[n_kinds, 4]."""
        forms = [(code, form) for code, mode in enumerate(MODES) for form in self.laws.shapes[mode]]
        windows = np.array([shape_windows(form.shape, self.dimm) for _, form in forms])
        return np.array([code for code, _ in forms]), windows

    def kind_chances(self, rates: Mapping[str, float], *, among_ue: bool) -> F64:
        """Cumulative chances of the kinds, given the rates of the modes: float64[n_kinds], up to a common factor.

        Args:
            rates: By mode; those left out are 0.
            among_ue: Whether forms are as common as among faults with uncorrected errors, or as among all.
        """
        chances = []
        for mode in MODES:
            counts = np.array([form.n_ue if among_ue else form.n_faults for form in self.laws.shapes[mode]], float)
            chances.append(rates.get(mode, 0.0) * counts / counts.sum())
        return np.cumsum(np.concatenate(chances))

    @cached_property
    def _kind_chances(self) -> list[tuple[F64, F64]]:
        """Cumulative chances of the kinds of faults with few lines, and with many, by class of host."""
        found = []
        for host in self.classes:
            rates = self.ue_faults_per_dimm_year(host.vendor)
            many = {mode: rate * self.laws.lines[mode].large_share for mode, rate in rates.items()}
            few = {mode: rate - many[mode] for mode, rate in rates.items()}
            found.append((self.kind_chances(few, among_ue=True), self.kind_chances(many, among_ue=True)))
        return found

    def _draw_overlaps(
        self, rng: np.random.Generator, where: np.random.Generator, count: I64, of_class: I64
    ) -> Incidents:
        """Uncorrected errors of DIMMs that have faults enough to defeat their code."""
        trials, years, rows = [], [], []
        for c, host in enumerate(self.classes):
            mine = np.flatnonzero(of_class == c)
            owner = np.repeat(mine, count[mine])
            found = draw_failures(
                rng, len(owner), rates=self.chip_rates(host), dimm=self.dimm, ecc=load_ecc(self.faults.ecc),
                shapes={mode: tuple(form.shape for form in forms) for mode, forms in self.laws.shapes.items()},
                years=self.scenario.horizon.years, scrub_hours=self.scenario.host.patrol * HOURS_PER_YEAR,
                weibull_shape=host.shape, at_least=self.fewest_faults,
            )  # fmt: skip
            unit = where.integers(self.n_units, size=len(owner))[found.dimm]
            mode = np.maximum(found.mode, found.other)
            many = rng.random(len(mode)) < self.growth.p_many[mode]
            placed = self.memory.place_box(unit, found.rank, found.box, mode, many)
            serves = found.years <= self._replaced(len(owner), found.dimm, found.years)[found.dimm]
            trials.append(owner[found.dimm][serves])
            years.append(found.years[serves])
            rows.append(placed[serves])
        trial, when, faults = np.concatenate(trials), np.concatenate(years), np.concatenate(rows)
        order = np.lexsort((faults[:, F_RANK], faults[:, F_MODE], when, trial))
        start = np.searchsorted(trial[order], np.arange(len(count) + 1))
        return Incidents(start, when[order], faults[order], of_class)

    def _replaced(self, n_dimms: int, dimm: I64, years: F64) -> F64:
        """Years at which each DIMM is replaced after the first of its errors, here once made: float64[n_dimms]."""
        first = np.full(n_dimms, np.inf)
        if self.faults.service == "replace":
            np.minimum.at(first, dimm, years + self.faults.repair)
        return first

    def draw_events(self, rng: np.random.Generator, incidents: Incidents) -> Events:
        """The errors that incidents give the VM."""
        return self.find(rng, incidents, self.strike(rng, incidents), incidents.years)

    def strike(self, rng: np.random.Generator, incidents: Incidents) -> Strikes:
        """When incidents make lines bad, and how many; `rng` is that of the block's growth."""
        repair = self.faults.repair if self.faults.service == "replace" else np.inf
        horizon = self.scenario.horizon.years
        return Strikes(*draw_strikes(rng, incidents.years, incidents.faults, self.growth, repair, horizon))

    def find(self, rng: np.random.Generator, incidents: Incidents, strikes: Strikes, began: F64) -> Events:
        """The errors of the VM that strikes give.

        Args:
            rng: Of the block's growth.
            incidents: The faults.
            strikes: Theirs.
            began: float64[n_faults], since when each lies in its memory.
        """
        vm = self.scenario.vm
        n = int(strikes.n_lines.sum())
        waits = rng.standard_exponential(n - len(strikes.n_lines))
        bits = rng.integers(0, 1 << 64, size=n, dtype=np.uint64)
        amap, page_shift = self.memory.address_map, vm.base_bytes.bit_length() - 1
        return Events(*find_lines(
            incidents.start, began, strikes, incidents.faults, self.growth, amap.encoder(), waits, bits,
            amap.n_bytes >> page_shift, vm.n_base_pages, page_shift, self.scenario.horizon.years,
        ))  # fmt: skip

    @cached_property
    def growth(self) -> GrowthLaw:
        """The laws of growth and detection as the kernel takes them."""
        return GrowthLaw.of(self.laws, self.detection)

    @property
    def detection(self) -> Detection:
        """How the host finds bad lines."""
        host, workload = self.scenario.host, self.scenario.workload
        return _detection(host.patrol, workload.reads_per_hour, self.laws.reads_spread)
