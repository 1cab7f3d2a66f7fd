"""Hosts and their rates: how many faults that lead to uncorrected errors a VM's host meets, and of which kinds.

Hosts differ: each is of one class (vendor, batch), and the number of incidents of a VM is a mixture over them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from poisonsim.faults.address_map import load_address_map
from poisonsim.faults.detection import Detection
from poisonsim.faults.ecc import ChipRates, load_ecc, p_at_least
from poisonsim.faults.geometry import Dimm, load_dimm
from poisonsim.faults.growth import GrowthLaw, draw_strikes
from poisonsim.faults.host import HostMemory
from poisonsim.faults.laws import CeThreshold, Laws, load_laws
from poisonsim.faults.reach import F_BANKS, F_LINES, F_RANKS, F_ROWS, N_FAULT_COLUMNS
from poisonsim.faults.strata import MOST, Strata, TabulatedCounts, pmf_of_counts
from poisonsim.faults.tables import MODES, FaultTable, load_fault_table
from poisonsim.scenario import FieldFaults, Scenario

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


def detection_for(scenario: Scenario, reads_spread: float) -> Detection:
    """How the host of a scenario finds bad lines that are read so differently."""
    return _detection(scenario.host.patrol, scenario.workload.reads_per_hour, reads_spread)


_detection = lru_cache(maxsize=8)(Detection)


@dataclass(frozen=True, eq=False)
class FieldRates:
    """A scenario's field faults with all that its names stand for; made by `of`.

    Examples:
        >>> from poisonsim.scenario import load_scenario
        >>> model = FieldRates.of(load_scenario("cloud-1t-ddr4"))
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
    def of(cls, scenario: Scenario) -> Self:
        """Those of a scenario whose faults are `FieldFaults`."""
        faults = scenario.faults
        assert isinstance(faults, FieldFaults)
        dimm = load_dimm(faults.dimm)
        memory = HostMemory(load_address_map(faults.map, dimm), scenario.vm.memory_bytes)
        return cls(scenario, faults, load_fault_table(faults.table), load_laws(faults.laws), dimm, memory)

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
        from scipy.stats import binom  # takes half a second to load, which few runs need

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
        strikes = draw_strikes(rng, np.zeros(len(once)), once, self.growth, repair, years)
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

    @cached_property
    def growth(self) -> GrowthLaw:
        """The laws of growth and detection as the kernel takes them."""
        return GrowthLaw.of(self.laws, self.detection)

    @property
    def detection(self) -> Detection:
        """How the host finds bad lines."""
        return detection_for(self.scenario, self.laws.reads_spread)
