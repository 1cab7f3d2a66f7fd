"""A scenario's fault model in plain sentences, with the figures that it works with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from poisonsim.faults.boxes import Shape
from poisonsim.faults.ecc import load_ecc
from poisonsim.faults.field import FieldModel, detection_of
from poisonsim.faults.laws import CeThreshold, LinesLaw, ModeShape
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
        return [*_field(FieldModel.of(scenario)), *_found_and_felt(scenario)]
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


def _differ(dispersion: float, shape: float) -> str:
    words = ""
    if dispersion > 0:
        words += f" Hosts differ: their rates are gamma-distributed with variance {dispersion:g} and mean 1."
    if shape != 1:
        words += f" The hazard {'rises' if shape > 1 else 'falls'} over the horizon (Weibull shape {shape:g})."
    return words


def _field(model: FieldModel) -> Iterator[str]:
    faults, memory, dimm, laws = model.faults, model.memory, model.dimm, model.laws
    years = model.scenario.horizon.years
    yield (
        f"The VM's memory lies in {memory.n_sets} interleave set{'s' * (memory.n_sets > 1)} of "
        f"{memory.address_map.n_dimms} DIMMs ({dimm.title}) and takes {memory.vm_share:.0%} of "
        f"{'them' if memory.n_sets > 1 else 'it'}; addresses are laid out as {memory.address_map.title}. Errors beyond "
        "the VM's share do not count."
    )
    if faults.ue == "empirical":
        rates = model.ue_faults_per_dimm_year()
        by_mode = ", ".join(f"{mode} {rate / sum(rates.values()):.0%}" for mode, rate in rates.items() if rate)
        yield (
            f"Faults that lead to uncorrected errors: {sum(rates.values()) * faults.scale:.3g} per DIMM-year, by mode "
            f"{by_mode}. Source: {model.table.title}, calibrated to its {model.table.n_ue_tickets} failure tickets "
            f"(x {model.table.calibration:.3f})" + (f", scaled by {faults.scale:g}." if faults.scale != 1 else ".")
        )
        if dimm.on_die_ecc:
            yield "Single-bit faults are left out: the chips of these DIMMs correct them."
    else:
        rates_of = model.chip_rates(model.classes[0])
        ecc = load_ecc(faults.ecc)
        yield (
            f"Chip faults: {rates_of.fit:.3g} FIT per chip ({model.table.title}), {dimm.n_chips} chips per DIMM, in "
            f"{model.classes[0].name}. {ecc.title}"
            + (" The chips correct single bits themselves." if dimm.on_die_ecc else "")
            + " Transient faults go at the next patrol pass."
        )
    classes = model.classes
    if len(classes) > 1:
        yield "Hosts differ: " + "; ".join(
            f"{host.name}, {host.share:.3g} of all, {mean:.3g} incidents expected in {years:g} years"
            for host, mean in zip(classes, model.means, strict=True)
        ) + "."  # fmt: skip
    elif text := _differ(faults.dispersion, classes[0].shape):
        yield text.strip()
    struck = [mode for mode, pair in model.table.fit_by_mode().items() if sum(pair)]
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
    yield (
        f"Permanent faults give corrected errors first: {laws.lead_years * DAYS_PER_YEAR:.3g} days before the first "
        f"uncorrected one on average, {laws.sudden_share:.0%} of those come without; {laws.ce_per_day:g} a day in the "
        f"median (log-normal, {laws.ce_spread:g} in the logarithm), on {laws.active_share:.0%} of days. A host can act "
        f"at {_alternatives(laws.thresholds.values())}."
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
