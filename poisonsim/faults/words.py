"""A scenario's fault model in plain sentences, with the figures that it works with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal

from poisonsim import catalog
from poisonsim.errors import ScenarioError
from poisonsim.faults.address_map import load_address_map
from poisonsim.faults.boxes import Shape
from poisonsim.faults.ecc import load_ecc
from poisonsim.faults.field import FieldModel, detection_of, field_model
from poisonsim.faults.laws import CeThreshold, LinesLaw, ModeShape
from poisonsim.faults.rates import HostClass
from poisonsim.scenario import CountFaults, FieldFaults, RateFaults, Scenario
from poisonsim.units import DAYS_PER_YEAR, HOURS_PER_YEAR, format_bytes, format_years


def in_words(scenario: Scenario) -> list[str]:
    """What the faults of a scenario are, one sentence or two per entry.

    Examples:
        >>> from poisonsim.scenario import load_scenario
        >>> print(in_words(load_scenario("seed-1t"))[0])
        Exactly 100 uncorrected errors strike in 5 years, at uniform times, each in one base page anywhere in the VM.
    """
    faults, years = scenario.faults, scenario.horizon.years
    if isinstance(faults, FieldFaults):
        return [*_field(field_model(scenario)), *_found_and_felt(scenario)]
    if isinstance(faults, CountFaults):
        where = "anywhere in the VM" if faults.placement == "uniform" else "in regions all different"
        first = (
            f"Exactly {faults.errors:,} uncorrected errors strike in {years:g} years, at uniform times, each in one "
            f"base page {where}."
        )
    else:
        assert isinstance(faults, RateFaults)
        first = (
            f"Uncorrected errors are a Poisson process of {faults.ue_per_tib_year:.4g} per TiB-year, each in one base "
            "page anywhere in the VM."
        )
        first += _differ(faults.dispersion, faults.shape)
    return [first, *_found_and_felt(scenario)]


def figure(value: float) -> str:
    """Three significant digits, without an exponent.

    Examples:
        >>> figure(1083.2), figure(0.000036), figure(66.1), figure(0)
        ('1,080', '0.000036', '66.1', '0')
    """
    return f"{Decimal(f'{value:.3g}'):,f}"


def departures(model: FieldModel) -> list[str]:
    """Why the model's rate is not that of the fleet to whose tickets its table is calibrated; empty where it is.

    Examples:
        >>> from poisonsim.scenario import load_scenario
        >>> departures(field_model(load_scenario("cloud-1t-ddr4")))
        []
        >>> departures(field_model(load_scenario("bad-dimm")))
        ['all hosts are of a bad batch, 12.3 times as bad (faults.bad_batch = 1)']
    """
    faults, table, dimm = model.faults, model.table, model.dimm
    found = []
    if faults.ue == "ecc":
        found.append(f'uncorrected errors follow from the code (faults.ecc = "{faults.ecc}"), which no ticket bears on')
    if faults.vendor in table.vendors:
        found.append(f'all DIMMs are of one vendor (faults.vendor = "{faults.vendor}")')
    if faults.bad_batch:
        who = "all hosts are" if faults.bad_batch == 1 else f"{_percent(faults.bad_batch)} of the hosts are"
        worse = f"{model.laws.bad_batch_factor:g} times as bad"
        found.append(f"{who} of a bad batch, {worse} (faults.bad_batch = {faults.bad_batch:g})")
    if faults.scale != 1:
        found.append(f"all rates are multiplied (faults.scale = {faults.scale:g})")
    observed = re.search(r"DDR\d", table.title)
    if observed and observed[0] != dimm.generation:
        less = ", less the single-bit ones, which the chips correct" if model.hidden_modes else ""
        found.append(f"{dimm.generation} takes over the faults of {observed[0]}{less}")
    elif model.hidden_modes:
        found.append("single-bit faults are left out, which the chips correct")
    return found


def faults_in_question(model: FieldModel, n: str = "") -> str:
    """What the model counts on hosts: `n` faults with errors, or DIMMs with faults enough to defeat their code.

    Examples:
        >>> from poisonsim.scenario import load_scenario
        >>> faults_in_question(field_model(load_scenario("cloud-1t-ddr4")))
        'faults that lead to errors'
        >>> faults_in_question(field_model(load_scenario("cloud-1t-ddr4", overrides=["faults.ue=ecc"])), "0.2")
        '0.2 DIMMs with 2 faults or more'
    """
    if model.faults.ue == "empirical":
        return f"{n} faults that lead to errors".strip()
    units = "DIMMs" if model.dimm.n_subchannels == 1 else "subchannels"
    return f"{n} {units} with {'a fault' if model.fewest_faults == 1 else '2 faults'} or more".strip()


def _differ(dispersion: float, shape: float) -> str:
    words = ""
    if dispersion > 0:
        words += f" Hosts differ: their rates are gamma-distributed with variance {dispersion:g} and mean 1."
    if shape != 1:
        words += f" The hazard {_slope(shape)} over the horizon (Weibull shape {shape:g})."
    return words


def _slope(shape: float) -> str:
    return "rises" if shape > 1 else "falls"


def _field(model: FieldModel) -> Iterator[str]:
    yield from _where(model)
    yield from _chip_faults(model) if model.faults.ue == "ecc" else _ue_faults(model)
    one = model.classes[0] if len(model.classes) == 1 else None
    if text := _differ(model.faults.dispersion, one.shape if one else 1.0):
        yield text.strip()
    yield _how_many(model)
    yield from _laws(model)


def _where(model: FieldModel) -> Iterator[str]:
    """The DIMMs that the VM lies on."""
    memory, amap, dimm = model.memory, model.memory.address_map, model.dimm
    sets = "one interleave set" if memory.n_sets == 1 else f"{memory.n_sets} interleave sets"
    yield (
        f"The VM's memory lies in {sets} of {_n(amap.n_dimms, 'DIMM')} ({dimm.title})"
        + (f", {memory.n_dimms} DIMMs in all," if memory.n_sets > 1 else "")
        + f" and takes {memory.vm_share:.0%} of {'them' if memory.n_sets > 1 else 'it'}; addresses are laid out as "
        f"{amap.title}." + (" Errors beyond the VM's share do not count." if memory.vm_share < 1 else "")
    )
    n_channels = amap.n_controllers * amap.n_channels // dimm.n_subchannels
    if memory.n_sets <= 2 or n_channels == 1:
        return
    on_each = amap.n_dimms // n_channels
    text = (
        f"A set is {_n(on_each, 'DIMM')} on each of the {n_channels} channels of one socket, so that this VM spans as "
        f"many sockets as sets, {memory.n_sets}: more than most hosts have. It bears on how far the pages of one fault "
        "lie apart."
    )
    name, options = catalog.split_options(model.faults.map)
    wider = f"{name}:ranks={2 * amap.n_ranks}"
    try:
        larger = load_address_map(wider, dimm)
    except ScenarioError:  # no map of so many ranks
        larger = amap
    if not options and larger.n_dimms > amap.n_dimms:
        n_sets = -(-memory.vm_bytes // larger.n_bytes)
        text += f' faults.map = "{wider}" puts {2 * on_each} DIMMs on each channel: {_n(n_sets, "set")}.'
    yield text


def _ue_faults(model: FieldModel) -> Iterator[str]:
    """How often faults lead to errors, by class of host, and what that has to do with the table's fleet."""
    table, classes = model.table, model.classes
    by_class = [model.ue_faults_per_dimm_year(host.vendor) for host in classes]
    rates = [sum(rates.values()) * host.factor for host, rates in zip(classes, by_class, strict=True)]
    mean = sum(host.share * rate for host, rate in zip(classes, rates, strict=True))
    what = "Faults that lead to uncorrected errors"
    if len(classes) == 1:
        yield f"{what}: {figure(mean)} per DIMM-year, by mode {_shares(by_class[0])}."
    else:
        of_each = ", ".join(f"{_class(host)} {figure(rate)}" for host, rate in zip(classes, rates, strict=True))
        yield f"{what}, per DIMM-year: on hosts of {of_each}; in the mean {figure(mean)}."
        yield f"By mode: {_by_vendor(classes, map(_shares, by_class))}."
    fleet = (
        f"{table.title}: its faults on servers with UE tickets, times {table.calibration:.3f} so that they come to the "
        f"rate of its {table.n_ue_tickets} failure tickets"
    )
    if reasons := departures(model):
        yield (
            f"That is {figure(mean / table.ticket_ue_per_dimm_year)} times the rate of the fleet of the table: "
            f"{'; '.join(reasons)}. The fleet is {fleet}."
        )
    else:
        mixed = "the mean over hosts is that of " if len(classes) > 1 else ""
        yield f"Source: {mixed}{fleet}."


def _chip_faults(model: FieldModel) -> Iterator[str]:
    """How often chips fail, by class of host, and what the code makes of it."""
    table, dimm, ecc = model.table, model.dimm, load_ecc(model.faults.ecc)

    classes = model.classes
    rates = [model.chip_rates(host) for host in classes]
    shares = [
        _shares({m: f + g for m, f, g in zip(r.modes, r.fit_transient, r.fit_permanent, strict=True)}) for r in rates
    ]
    what = f"Chip faults ({table.title}), {_n(dimm.n_chips, 'chip')} per DIMM"
    if len(classes) == 1:
        yield f"{what}: {figure(rates[0].fit)} FIT per chip, by mode {shares[0]}."
    else:
        of_each = ", ".join(f"{_class(host)} {figure(r.fit)}" for host, r in zip(classes, rates, strict=True))
        yield f"{what}, FIT per chip: on hosts of {of_each}. By mode: {_by_vendor(classes, shares)}."
    yield (
        ecc.title
        + (" The chips correct single bits themselves." if dimm.on_die_ecc else "")
        + " Transient faults go at the next patrol pass."
    )
    if ecc.name != "none":
        yield (
            "Faults overlap where their footprints do, all lines of them, as FaultSim has it: an upper bound, since "
            "only some of those lines are bad. What overlaps is one fault from then on, and spoils few lines mostly."
        )
    yield f"The rate of uncorrected errors is not that of a fleet: {'; '.join(departures(model))}."


def _how_many(model: FieldModel) -> str:
    """Faults expected on the VM's host, and in its share of it."""
    memory, years = model.memory, model.scenario.horizon.years
    on = _n(memory.n_dimms, "DIMM")
    text = f"Expected in {years:g} years: {faults_in_question(model, figure(model.mean))} on the {on} of the VM's host"
    if memory.vm_share < 1:
        text += f", {figure(model.mean * memory.vm_share)} of them in the {memory.vm_share:.0%} that back the VM"
    if len(model.classes) > 1:
        by_class = zip(model.classes, model.means, strict=True)
        text += "; on hosts of " + ", ".join(f"{_name(host)} {figure(mean)}" for host, mean in by_class)
    if model.faults.ue == "ecc" and model.fewest_faults > 1:
        text += "; few of those overlap, and all others are corrected"
    return f"{text}."


def _class(host: HostClass) -> str:
    hazard = f", hazard {_slope(host.shape)}, Weibull shape {host.shape:g}" if host.shape != 1 else ""
    return f"{_name(host)} ({_percent(host.share)} of all{hazard})"


def _name(host: HostClass) -> str:
    return "other batches" if host.name == "all hosts" and host.share < 1 else host.name


def _by_vendor(classes: Iterable[HostClass], told: Iterable[str]) -> str:
    """What is told of each class, once where it is the same for those of a vendor."""
    of = {f"vendor {host.vendor}" if host.vendor else "all": text for host, text in zip(classes, told, strict=True)}
    return "; ".join(text if name == "all" else f"{name} {text}" for name, text in of.items())


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"


def _shares(rates: Mapping[str, float]) -> str:
    total = sum(rates.values()) or 1.0
    return ", ".join(f"{mode} {rate / total:.0%}" for mode, rate in rates.items() if rate)


def _n(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _laws(model: FieldModel) -> Iterator[str]:
    """What faults reach and spoil, when they strike again, and what announces them."""
    faults, laws = model.faults, model.laws
    fit = model.table.fit_by_mode()
    struck = [mode for mode, pair in fit.items() if sum(pair) and mode not in model.hidden_modes]
    yield "What a fault can reach: " + "; ".join(f"{mode}: {_forms(laws.shapes[mode])}" for mode in struck) + "."
    by_law: dict[str, list[str]] = {}
    for mode in struck:
        by_law.setdefault(_lines(laws.lines[mode]), []).append(mode)
    spoiled = "; ".join(f"{', '.join(modes)}: {law}" for law, modes in by_law.items())
    yield f"How many cache lines of that go bad when it first strikes: {spoiled}."
    if faults.service == "replace":
        yield (
            f"The part is replaced {format_years(faults.repair)} after its first uncorrected error. Until then it "
            f"strikes again with probability {laws.p_repeat_within(faults.repair):.0%}"
            f" (Weibull, shape {laws.repeat_shape:g}, scale {format_years(laws.repeat_scale_years)})."
        )
    else:
        within = ", ".join(
            f"{format_years(days / DAYS_PER_YEAR)} {laws.p_repeat_within(days / DAYS_PER_YEAR):.0%}"
            for days in (30, 90, 365)
        )
        yield (
            f"Parts stay in service. They strike again within {within} (Weibull, shape {laws.repeat_shape:g}, scale "
            f"{format_years(laws.repeat_scale_years)})."
        )
    acts = f"A host can act at {_alternatives(laws.thresholds.values())}; this one does not (host.ce_threshold)."
    if model.threshold is not None:
        acts = f"This host counts them, and acts at {_alternatives([model.threshold])}."
    yield (
        f"Faults give corrected errors for {laws.lead_years * DAYS_PER_YEAR:.3g} days on average, until they lead to "
        f"uncorrected ones ({laws.sudden_share:.0%} of those that do give none before) or leave off; "
        f"{laws.ce_per_day:g} a day in the median (log-normal, {laws.ce_spread:g} in the logarithm), on "
        f"{laws.active_share:.0%} of days. {acts}"
    )


def _forms(forms: Sequence[ModeShape]) -> str:
    total = sum(form.n_ue for form in forms)
    return " or ".join(
        f"{form.name} ({_reach(form.shape)}{f', {form.n_ue / total:.0%}' if len(forms) > 1 else ''})" for form in forms
    )


def _reach(shape: Shape) -> str:
    parts = [
        f"{'all' if n == 0 else n} {what}{'s' * (n != 1)}"
        for n, what in (
            (shape.n_ranks, "rank"),
            (shape.n_banks, "bank"),
            (shape.n_rows, "row"),
            (shape.n_lines, "line"),
        )
        if n != 1
    ]
    return " x ".join(parts) or "1 line"


def _lines(law: LinesLaw) -> str:
    few = "one line" if law.small_mean == 1 else f"{law.small_mean:g} lines in the mean"
    if not law.large_share:
        return few
    return f"{few}, or with probability {law.large_share:.1%} {law.large_low:,.0f} to {law.large_high:,.0f}"


def _alternatives(thresholds: Iterable[CeThreshold]) -> str:
    return ", ".join(
        f"{t.ces:,} in a page" + ("" if t.window_years > 1e3 else f" in {t.window_years * HOURS_PER_YEAR:g} h")
        + f" ({t.name})"
        for t in thresholds
    )  # fmt: skip


def _found_and_felt(scenario: Scenario) -> Iterator[str]:
    detection, vm = detection_of(scenario), scenario.vm
    yield (
        f"Memory is patrolled once in {format_years(scenario.host.patrol)}, and reads reach a cache line "
        f"{scenario.workload.reads_per_hour:g} times an hour in the median: {detection.p_ar:.0%} of bad lines are "
        "found by a read (AR), the rest by the patrol (AO)."
    )
    yield (
        f"The guest cannot do without {vm.unrecoverable:.1%} of its base pages, and fails to retire {vm.unretired:.1%} "
        f"of the others, which it touches again. A hole of {format_bytes(vm.region_bytes)} is met page by page until a "
        "touch kills the guest, or two touches come too close for its machine-check handler."
    )
