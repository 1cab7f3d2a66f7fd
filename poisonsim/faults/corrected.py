"""Corrected errors: what faults give before, or instead of, uncorrected ones, and what a host learns from them.

A fault gives corrected errors (CEs) from its onset on: on some days, at a rate that is log-normal between faults, each
in one of its bad lines; until it leads to uncorrected errors, or leaves off, which it does at a constant rate. Where a
base page gives so many within a day, a host can act: `on_ce`. Whether that was right (precision) and how many errors it
would have met beforehand (recall) follow from the model: the lines that give CEs and those that give UEs lie in the
same reach, and that is all they have in common.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc

from poisonsim.faults.field import FieldModel, Incidents
from poisonsim.faults.growth import draw_strikes
from poisonsim.faults.laws import CeThreshold
from poisonsim.faults.reach import F_MODE, draw_pages
from poisonsim.faults.streams import Purpose, stream
from poisonsim.units import DAYS_PER_YEAR, HOURS_PER_YEAR

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_Z = 1.959963984540054
_MOST_LINES = 4e6  # about as many bad lines are drawn at once, to judge thresholds


class Triggers(NamedTuple):
    """Base pages whose corrected errors passed a threshold, once each and fault by fault.

    Attributes:
        fault: int64[n], which fault.
        page: int64[n], base page of the host's memory that backs the VM.
        years: float64[n], when.
    """

    fault: I64
    page: I64
    years: F64


@dataclass(frozen=True)
class Ratio:
    """A ratio of two rates with its 95 % interval."""

    low: float
    best: float
    high: float

    def __str__(self) -> str:
        return f"{self.best:.3g} ({self.low:.3g}–{self.high:.3g})"


@dataclass(frozen=True)
class TriggerQuality:
    """What acting on corrected errors would be worth.

    Attributes:
        threshold: When the host acts.
        per_vm_year: Base pages of the VM that pass the threshold, per year.
        precision: Share of them that an uncorrected error hits later.
        recall: Share of the base pages hit by uncorrected errors that passed the threshold before.
        first_recall: The same of the first page that each fault hits: a VM that would not have met the fault at all.
        fault_recall: Share of the faults with uncorrected errors that made some page pass it before the first.
    """

    threshold: CeThreshold
    per_vm_year: Ratio
    precision: Ratio
    recall: Ratio
    first_recall: Ratio
    fault_recall: Ratio


def draw_triggers(
    model: FieldModel,
    rng: np.random.Generator,
    faults: I64,
    onset: F64,
    until: F64,
    threshold: CeThreshold,
) -> Triggers:
    """The pages whose corrected errors pass the threshold, for faults that give any.

    Days are the windows: a fault is active on some of them, and then the corrected errors of a page are Poisson.

    Args:
        rng: Source of all randomness.
        faults: int64[n_faults, N_FAULT_COLUMNS], what each reaches.
        onset: float64[n_faults], years from which it gives corrected errors.
        until: float64[n_faults], when its part leaves service, or the horizon ends.
    """
    laws, memory, vm = model.laws, model.memory, model.scenario.vm
    _, _, n_lines, _, _ = draw_strikes(rng, np.zeros(len(faults)), faults, model.growth, np.inf, 0.0)  # one each
    fault = np.repeat(np.arange(len(faults)), n_lines)
    page_shift = vm.base_bytes.bit_length() - 1
    page = draw_pages(
        fault, faults, memory.address_map.encoder(), rng.integers(0, 1 << 64, size=len(fault), dtype=np.uint64),
        memory.address_map.n_bytes >> page_shift, page_shift,
    )  # fmt: skip
    per_day = laws.ce_per_day * np.exp(laws.ce_spread * rng.standard_normal(len(faults)))
    order = np.lexsort((page, fault))
    fault, page = fault[order], page[order]
    fresh = np.flatnonzero(np.diff(fault, prepend=-1) | np.diff(page, prepend=-1))
    lines = np.diff(np.append(fresh, len(page)))
    fault, page = fault[fresh], page[fresh]
    rate = per_day[fault] * lines / n_lines[fault]
    if np.isinf(threshold.window_years):
        days = rng.standard_gamma(threshold.ces, len(fault)) / rate
    else:
        window_days = threshold.window_years * DAYS_PER_YEAR
        reached = laws.active_share * gammainc(threshold.ces, rate * window_days / laws.active_share)
        wait = np.full(len(fault), np.inf)
        np.divide(np.log1p(-rng.random(len(fault))), np.log1p(-reached), out=wait, where=reached > 1e-15)
        days = np.ceil(wait) * window_days
    years = onset[fault] + days / DAYS_PER_YEAR
    kept = (years <= until[fault]) & (page < vm.n_base_pages)
    return Triggers(fault[kept], page[kept], years[kept])


def draw_onsets(model: FieldModel, rng: np.random.Generator, incidents: Incidents) -> F64:
    """Years at which faults with uncorrected errors begin to give corrected ones: float64[n_faults].

    Zero where they did before the VM came, infinite where they never do.
    """
    laws = model.laws
    onset = np.maximum(incidents.years - laws.lead_years * rng.standard_exponential(len(incidents.years)), 0.0)
    onset[rng.random(len(onset)) < laws.sudden_share] = np.inf
    return onset


def correctable_per_dimm_year(model: FieldModel, vendor: str = "") -> dict[str, float]:
    """Faults that never lead to uncorrected errors, per DIMM-year and mode, of the table's fleet or one vendor."""
    table, n_chips = model.table, model.table.n_chips_per_dimm or model.dimm.n_chips
    fit = table.fit_by_mode(vendor=vendor)
    return {
        mode.name: sum(fit[mode.name]) * n_chips * HOURS_PER_YEAR * 1e-9 * (1 - mode.p_ue)
        for mode in table.modes
        if mode.name not in model.hidden_modes
    }


def bystander_means(model: FieldModel) -> F64:
    """Faults that never lead to uncorrected errors, expected of a host over the horizon, by class: float64[n_classes].

    Those that the VM finds there when it comes are among them.
    """
    rate = {host.vendor: sum(correctable_per_dimm_year(model, host.vendor).values()) for host in model.classes}
    fleet = sum(correctable_per_dimm_year(model).values())
    level = fleet * len(rate) / max(sum(rate.values()), 1e-300) if len(rate) > 1 else 1.0
    years = model.scenario.horizon.years + model.laws.lead_years
    return np.array([host.worse * level * rate[host.vendor] for host in model.classes]) * model.memory.n_dimms * years


def bystander_lines(model: FieldModel) -> float:
    """About how many lines such faults make bad in one trial, for sizing work."""
    rates = correctable_per_dimm_year(model)
    mean = sum(model.laws.lines[mode].mean * rate for mode, rate in rates.items()) / max(sum(rates.values()), 1e-300)
    return mean * float(np.dot([host.share for host in model.classes], bystander_means(model)))


class Bystanders(NamedTuple):
    """Faults that never lead to uncorrected errors, of which the VM sees corrected ones only.

    Attributes:
        faults: int64[n, N_FAULT_COLUMNS], what each reaches.
        begin, end: float64[n], years of the VM's life between which it gives corrected errors.
    """

    faults: I64
    begin: F64
    end: F64


def draw_bystanders(model: FieldModel, rng: np.random.Generator, of_class: I64) -> Bystanders:
    """Such faults of hosts of given classes: one for each entry of int64[n]."""
    n, horizon, lead = len(of_class), model.scenario.horizon.years, model.laws.lead_years
    kind = np.empty(n, np.int64)
    u = rng.random(n)
    for c, host in enumerate(model.classes):
        mine = of_class == c
        chance = model.kind_chances(correctable_per_dimm_year(model, host.vendor), among_ue=False)
        kind[mine] = np.searchsorted(chance, u[mine] * chance[-1], side="right")
    many = rng.random(n) < model.growth.p_many[model.kinds[0][kind]]
    faults = model.memory.place(rng.integers(model.memory.n_lines, size=n), *model.kinds, kind, many)
    shapes = np.array([host.shape for host in model.classes])[of_class]
    begin = horizon * rng.random(n) ** (1 / shapes)
    begin[rng.random(n) * (horizon + lead) < lead] = 0.0  # there before the VM
    return Bystanders(faults, begin, np.minimum(begin + lead * rng.standard_exponential(n), horizon))


class Watched(NamedTuple):
    """Corrected errors that made the host act, in no order.

    Attributes:
        trial: int64[n], whose.
        page: int64[n], base page of the VM.
        years: float64[n], when the threshold was passed.
        born: float64[n], when the fault behind it began.
        mode: uint8[n], its mode.
    """

    trial: I64
    page: I64
    years: F64
    born: F64
    mode: NDArray[np.uint8]


def draw_watched(
    model: FieldModel, rng: np.random.Generator, threshold: CeThreshold, onset: F64, until: F64,
    n_trials: int, trial: I64, incidents: Incidents,
) -> Watched:  # fmt: skip
    """What a host that counts corrected errors sees pass its threshold, of all faults of its memory.

    Args:
        rng: Of the block's corrected errors.
        threshold: At which it acts.
        onset, until: float64[n_faults], since when they give corrected errors and when the part leaves service.
        n_trials: Trials of the block.
        trial: int64[n], those with incidents.
        incidents: The faults that lead to uncorrected errors, of those trials.
    """
    horizon, dispersion = model.scenario.horizon.years, model.faults.dispersion
    count = np.zeros(n_trials, np.int64)
    count[trial] = np.diff(incidents.start)
    of_class = model.draw_classes(rng, count)
    of_class[trial] = incidents.of_class
    means = bystander_means(model)[of_class]
    if dispersion > 0:  # what is known of a host's rate from its incidents, for its other faults
        means *= rng.standard_gamma(1 / dispersion + count) / (1 / dispersion + model.means[of_class])
    others = np.repeat(np.arange(n_trials), rng.poisson(means))
    bystanders = draw_bystanders(model, rng, of_class[others])
    owner = np.concatenate((np.repeat(trial, np.diff(incidents.start)), others))
    faults = np.concatenate((incidents.faults, bystanders.faults))
    begin = np.concatenate((onset, bystanders.begin))
    until = np.concatenate((np.minimum(until, horizon), bystanders.end))
    passed = draw_triggers(model, rng, faults, begin, until, threshold)
    mode = faults[passed.fault, F_MODE].astype(np.uint8)
    return Watched(owner[passed.fault], passed.page, passed.years, begin[passed.fault], mode)


def trigger_quality(model: FieldModel, *, seed: int, n_faults: int = 20_000) -> list[TriggerQuality]:
    """Precision and recall of every threshold of the laws, simulated with so many faults of each kind, or fewer.

    Fewer where faults spoil so many lines that memory would not hold them. Faults that lead to uncorrected errors and
    those that never do are drawn apart, and count by their rates.

    Examples:
        >>> from poisonsim.scenario import load_scenario
        >>> model = FieldModel.of(load_scenario("cloud-1t-ddr4"))
        >>> found = trigger_quality(model, seed=1, n_faults=2000)
        >>> [quality.threshold.name for quality in found], found[1].precision.best < 0.05
        (['rasdaemon', 'mcelog', 'cec'], True)
    """
    horizon = model.scenario.horizon.years
    few, many = model.lines_per_incident
    share = max(law.large_share for law in model.laws.lines.values())
    n_faults = int(min(n_faults, max(_MOST_LINES / (few + share * many), 100)))
    where, arriving, growing, corrected = (
        stream(seed, purpose, 0)
        for purpose in (Purpose.GEOMETRY, Purpose.ARRIVALS, Purpose.GROWTH, Purpose.CORRECTED)
    )  # fmt: skip
    incidents = model.draw_incidents(arriving, where, np.ones(n_faults, np.int64))
    strikes = model.strike(growing, incidents)
    events = model.find(growing, incidents, strikes, incidents.years)
    onset = draw_onsets(model, corrected, incidents)
    until = np.minimum(strikes.until, horizon)
    shares, means = np.array([host.share for host in model.classes]), bystander_means(model)
    n_others = float(shares @ means)
    classes = corrected.choice(len(means), size=n_faults, p=shares * means / n_others)
    bystanders = draw_bystanders(model, corrected, classes)
    rates = (model.mean / n_faults, n_others / n_faults)
    return [
        _quality(
            threshold, incidents.start, events.start, events.page, events.years,
            draw_triggers(model, corrected, incidents.faults, onset, until, threshold),
            draw_triggers(model, corrected, bystanders.faults, bystanders.begin, bystanders.end, threshold),
            rates, horizon,
        )
        for threshold in model.laws.thresholds.values()
    ]  # fmt: skip


def _quality(
    threshold: CeThreshold, fault_start: I64, event_start: I64, page: I64, years: F64,
    announced: Triggers, idle: Triggers, rates: tuple[float, float], horizon: float,
) -> TriggerQuality:  # fmt: skip
    n = len(event_start) - 1
    trial_of_fault = np.repeat(np.arange(n), np.diff(fault_start))
    # the first error of each page, and the first trigger of each page, of one trial
    hit = _first_of(np.repeat(np.arange(n), np.diff(event_start)), page, years)
    triggered = _first_of(trial_of_fault[announced.fault], announced.page, announced.years)
    both = [(key, hit[key], triggered[key]) for key in hit.keys() & triggered.keys()]
    n_hit, n_triggered, n_met, n_first_met, n_faults_met, n_faults_hit = (np.zeros(n) for _ in range(6))
    np.add.at(n_hit, [trial for trial, _ in hit], 1)
    np.add.at(n_triggered, [trial for trial, _ in triggered], 1)
    np.add.at(n_met, [key[0] for key, error, trigger in both if trigger < error], 1)
    seen = np.flatnonzero(np.diff(event_start))
    n_faults_hit[seen] = 1
    for trial in seen.tolist():
        first = event_start[trial]
        n_first_met[trial] = triggered.get((trial, int(page[first])), np.inf) < years[first]
    first_trigger = np.full(n, np.inf)
    np.minimum.at(first_trigger, trial_of_fault[announced.fault], announced.years)
    n_faults_met[seen] = first_trigger[seen] < years[event_start[seen]]
    n_idle = np.bincount(idle.fault, minlength=n).astype(float)
    w, w_idle = rates
    nothing = np.zeros(n)
    return TriggerQuality(
        threshold,
        _ratio([(w, n_triggered, nothing), (w_idle, n_idle, nothing)], horizon),
        _ratio([(w, n_met, n_triggered), (w_idle, nothing, n_idle)]),
        _ratio([(w, n_met, n_hit)]),
        _ratio([(w, n_first_met, n_faults_hit)]),
        _ratio([(w, n_faults_met, n_faults_hit)]),
    )


def _first_of(trial: I64, page: I64, years: F64) -> dict[tuple[int, int], float]:
    """The earliest time of each (trial, page)."""
    order = np.argsort(-years, kind="stable")
    return dict(zip(zip(trial[order].tolist(), page[order].tolist(), strict=True), years[order].tolist(), strict=True))


def _ratio(parts: list[tuple[float, F64, F64]], below: float = 0.0) -> Ratio:
    """Sum of weighted means over another, or over the constant `below`, with a delta-method interval.

    Args:
        parts: Weight of one fault, what each fault adds above, and below the line; one entry per kind of fault.
    """
    above = sum(w * float(a.sum()) for w, a, _ in parts)
    under = below or sum(w * float(b.sum()) for w, _, b in parts)
    if under == 0:
        return Ratio(0.0, 0.0, 1.0)
    best = above / under
    variance = sum(w**2 * len(a) * float(np.var(a if below else a - best * b)) for w, a, b in parts)
    half = _Z * variance**0.5 / under
    return Ratio(max(best - half, 0.0), best, best + half if below else min(best + half, 1.0))
