"""The field model: DRAM faults of a host's DIMMs as a fleet saw them, and the errors that they give its VM.

An incident is a fault that leads to uncorrected errors or, with `ue = "ecc"`, a DIMM with as many faults as it takes to
defeat its code. Who meets how many of them is told in `rates`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from poisonsim.catalog import text_of
from poisonsim.faults.boxes import shape_windows
from poisonsim.faults.detection import Detection
from poisonsim.faults.ecc import draw_failures, load_ecc
from poisonsim.faults.growth import Events, Strikes, draw_strikes, find_lines
from poisonsim.faults.host import chosen, pick_kinds, sort_within
from poisonsim.faults.laws import load_laws
from poisonsim.faults.rates import FieldRates, detection_for
from poisonsim.faults.reach import F_MODE, F_RANK
from poisonsim.faults.tables import MODES
from poisonsim.scenario import FieldFaults, Scenario
from poisonsim.units import HOURS_PER_YEAR

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


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
    return _model(scenario, tuple(text_of(Path(name)) for name in files))


@lru_cache(maxsize=8)
def _model(scenario: Scenario, _files: tuple[str, ...]) -> FieldModel:
    return FieldModel.of(scenario)


def detection_of(scenario: Scenario) -> Detection:
    """How the host of a scenario finds bad lines; by the catalogue's laws where its faults name none.

    Examples:
        >>> round(detection_of(Scenario()).p_ar, 2)
        0.72
    """
    if isinstance(scenario.faults, FieldFaults):
        return field_model(scenario).detection
    return detection_for(scenario, load_laws("field").reads_spread)


@dataclass(frozen=True, eq=False)
class FieldModel(FieldRates):
    """What happens to a scenario's hosts and VMs: incidents, strikes, errors.

    Examples:
        >>> from poisonsim.scenario import load_scenario
        >>> model = FieldModel.of(load_scenario("cloud-1t-ddr4"))
        >>> rng = [np.random.default_rng(i) for i in range(3)]
        >>> events = model.draw_events(rng[0], model.draw_incidents(rng[1], rng[2], np.ones(100, np.int64)))
        >>> len(events.start), bool((events.page < 1 << 28).all())
        (101, True)
    """

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
        years = rng.random(len(host))
        if (shapes != 1).any():  # powers are slow
            years **= (1 / shapes)[host]
        years *= self.scenario.horizon.years
        u = rng.random(len(host))
        spoils = u < self.p_many[host] if many is None else chosen(u, start, many)
        kind = pick_kinds(rng.random(len(host)), host, spoils, self._kind_chances)
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
    def _kind_chances(self) -> F64:
        """Cumulative chances of the kinds of faults with few lines, and with many: float64[n_classes, 2, n_kinds]."""
        found = []
        for host in self.classes:
            rates = self.ue_faults_per_dimm_year(host.vendor)
            many = {mode: rate * self.laws.lines[mode].large_share for mode, rate in rates.items()}
            few = {mode: rate - many[mode] for mode, rate in rates.items()}
            found.append((self.kind_chances(few, among_ue=True), self.kind_chances(many, among_ue=True)))
        return np.array(found)

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
        return draw_strikes(rng, incidents.years, incidents.faults, self.growth, repair, horizon)

    def find(self, rng: np.random.Generator, incidents: Incidents, strikes: Strikes, began: F64) -> Events:
        """The errors of the VM that strikes give.

        Args:
            rng: Of the block's growth.
            incidents: The faults.
            strikes: Theirs.
            began: float64[n_faults], since when each lies in its memory.
        """
        vm, amap = self.scenario.vm, self.memory.address_map
        page_shift = vm.base_bytes.bit_length() - 1
        return find_lines(
            rng, incidents.start, began, strikes, incidents.faults, self.growth, amap.encoder(),
            amap.n_bytes >> page_shift, vm.n_base_pages, page_shift, self.scenario.horizon.years,
        )  # fmt: skip
