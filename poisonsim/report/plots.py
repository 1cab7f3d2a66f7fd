"""The report's figures from a result: data, words around them, and every form they are needed in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from poisonsim.memory import ARCHITECTURES, process_table_bytes, stage2_metadata_bytes, stage2_table_bytes
from poisonsim.report.distributions import convergence, differences, tail
from poisonsim.report.figures import (
    Curve,
    Mark,
    Spread,
    bytes_scale,
    curves,
    reach_scale,
    trade,
    undominated,
)
from poisonsim.report.modes import by_mode
from poisonsim.report.picture import Pen, Picture
from poisonsim.report.style import Style
from poisonsim.report.verdict import lost_vms
from poisonsim.results.cost_words import REACH_GAINED
from poisonsim.results.hits import rarely_hit, series_when_hit, share_hit
from poisonsim.results.metric_words import SAME_SLOWDOWN
from poisonsim.results.numbers import as_probability, listed, minus
from poisonsim.results.result import Result
from poisonsim.results.statistics import Distribution, Estimate
from poisonsim.units import format_bytes


def pictures(
    result: Result,
    looks: Sequence[Style],
    at_horizon: pd.DataFrame,
    *,
    subtitle: str,
    provenance: Mapping[str, str],
    vms: int,
) -> list[Picture]:
    """The figures of the report, in page order.

    Args:
        at_horizon: The summary at the end of the horizon, by policy and metric.
        subtitle: What the PNG files say below their title.
        provenance: Texts that every PNG file carries.
        vms: Size of the fleet that the tail speaks of.
    """
    pen = Pen(looks, subtitle, provenance)
    few = rarely_hit(result)
    found = [
        trade_picture(result, looks, at_horizon, pen, few),
        _reach(result, looks, pen, few),
        *_tables(result, looks, pen, few),
    ]
    found.append(tail(result, looks, pen, vms))
    if (modes := by_mode(result, looks, pen)) is not None:
        found.append(modes)
    if len(looks) > 1:
        found.append(differences(result, looks, pen))
    return [*found, convergence(result, looks, pen)]


def trade_picture(
    result: Result, looks: Sequence[Style], at_horizon: pd.DataFrame, pen: Pen, few: bool, name: str = "trade"
) -> Picture:
    """The trade between host memory and speed; over the VMs that are hit, where `few` are."""
    marks = []
    for label, style in zip(result.policies, looks, strict=True):
        of = result.when_hit if few else result.distribution
        cost = _spread(of(label, "capacity_cost_bytes"), float)
        slowdown = _spread(of(label, "slowdown"), lambda ratio: _round(100 * (ratio - 1)))
        marks.append(Mark(label, style, cost, slowdown))
    best = [marks[i].label for i in undominated(marks)]
    by = f", by the {'median' if result.reports(0.5) else 'mean'}"
    if len(marks) == 1:
        finding = "One policy only: name a second one to see a trade."
    elif len(best) == 1:
        finding = _one_best(marks, best[0], few, by)
    elif len({(mark.cost_bytes.p50, mark.slowdown_pct.p50) for mark in marks if mark.label in best}) == 1:
        finding = f"{listed(best)} are alike{by}{', and beat every other' if len(best) < len(marks) else ''}."
    elif len(best) == len(marks):
        finding = f"No policy beats another on both counts{by}."
    else:
        finding = f"The choice is between {listed(best)}{by}; every other policy is beaten by one of these."
    finding += _slow_tail(marks, few)
    lost = {label: at_horizon.loc[(label, "vm_lost")] for label in result.policies}
    shares = {label: (float(row["mean"]), _share_lost(row)) for label, row in lost.items()}
    finding += lost_vms(shares, "of all VMs" if few else "")
    alternative = "Host memory and slowdown at the median: " + "; ".join(
        f"{m.label} {format_bytes(m.cost_bytes.p50)}, {minus(f'{m.slowdown_pct.p50:.3g}')} per cent" for m in marks
    )
    lines = "lines from it: to the value that 1 % of VMs exceed"
    if marks[0].cost_bytes.p99 is None:
        lines = "there are too few trials for the worst 1 %"
    whose = f" Only the {as_probability(share_hit(result))} of VMs that are hit count here." if few else ""
    caption = (
        f"After {result.years[-1]:g} years.{whose} Marker: {_middle(result)}; {lines}. Dashed: policies that no other "
        f"beats in both, where {SAME_SLOWDOWN:g} points of run time are no difference. Host memory is page tables, "
        "vmemmap given up, direct map, memory lost and spares held. Slowdown is run time over that of the same VM "
        "without errors; it is below 0 where the guest has less memory left to touch."
    )
    heading = "Memory cost against slowdown"
    return pen.picture(name, heading, finding, caption, alternative, lambda frame: trade(marks, frame))


def _one_best(marks: Sequence[Mark], best: str, few: bool, by: str) -> str:
    """In what the one policy that no other beats is the best, which ties in slowdown leave open."""
    slowdowns = {mark.label: mark.slowdown_pct.p50 for mark in marks}
    where, points = " where it is hit" if few else "", f"{SAME_SLOWDOWN:g} points{by}"
    if max(slowdowns.values()) - min(slowdowns.values()) <= SAME_SLOWDOWN:
        return f"{best} costs the host least; in slowdown{where} none differs by more than {points}."
    if any(slowdown < slowdowns[best] for slowdown in slowdowns.values()):
        return f"{best} costs the host least; none slows the VM less{where} by more than {points}."
    return f"{best} costs the host least and slows the VM least{where}{by}."


def _slow_tail(marks: Sequence[Mark], few: bool) -> str:
    """What the medians leave out: the policy under which the worst 1 % are slowed most, where that is more."""
    known = [(mark.slowdown_pct.p99, mark) for mark in marks if mark.slowdown_pct.p99 is not None]
    p99, worst = max(known, key=lambda pair: pair[0], default=(0.0, marks[0]))
    if p99 <= worst.slowdown_pct.p50 + SAME_SLOWDOWN:
        return ""
    by = f"{p99:.2g}" if p99 < 10 else f"{p99:,.0f}"
    return f" 1 % of VMs{' hit' if few else ''} are slowed by {by} % or more under {worst.label}."


def _share_lost(row: pd.Series) -> str:
    return str(as_probability(Estimate(float(row["mean_low"]), float(row["mean"]), float(row["mean_high"]), "1")))


def _reach(result: Result, looks: Sequence[Style], pen: Pen, few: bool) -> Picture:
    table = result.series("tlb_reach_loss")
    shares = series_when_hit(result, "tlb_reach_loss") if few else table.copy()
    # A quantile of the loss from above is one of the share from below.
    mirrored = {"mean": "mean", "p50": "p50", "p05": "p95", "p95": "p05"}
    shares[list(mirrored)] = 100 * (1 - shares[list(mirrored.values())].to_numpy())
    series = _curves(result, looks, shares, lambda value: f"{abs(value):.1f} %")
    caption = (
        f"Share of the TLB reach of the same VM without errors. {_lines(result, few)} The TLB holds the smaller of "
        "guest page and host leaf, so splits down to the guest's own page size cost no reach."
    )
    caption += _in_pieces(result)
    if max(float(np.nanmax([c.mean, c.p50])) for c in series) > 100.05:
        caption += f" It can rise above 100 %: {REACH_GAINED}."
    scale, ticks = reach_scale(series)
    if scale.limits[0] > 0:
        caption += " The axis shows a small part of the whole and does not begin at 0."
    alternative = "TLB reach left at the horizon: " + "; ".join(f"{c.label} {c.end}" for c in series)
    title = "TLB reach of VMs hit, % of that without errors" if few else "TLB reach, % of that without errors"
    return pen.picture(
        "reach", "TLB reach over the years", _reach_in_words(result, table), caption, alternative,
        lambda frame: curves(series, frame, title, scale, ticks),
    )  # fmt: skip


def _tables(result: Result, looks: Sequence[Style], pen: Pen, few: bool) -> Iterator[Picture]:
    """Page tables of processes, and those of stage 2, each in a figure of its own."""
    table = series_when_hit(result, "table_bytes") if few else result.series("table_bytes")
    plan, n_tables = result.plan, result.plan.scenario.host.page_tables
    stage2_page = stage2_table_bytes(plan.ladder, 1) + stage2_metadata_bytes(plan.ladder, 1)
    process_page = process_table_bytes(plan.ladder, 1, n_tables)
    parts = {policy.label: 0 if policy.stage2_only else process_page for policy in plan.policies}
    in_process = table["policy"].map({label: part / (part + stage2_page) for label, part in parts.items()})
    many = f"{n_tables} process tables" if n_tables > 1 else "the page table of one process"
    kinds = (
        ("tables", "Process page tables", in_process, f"Pages added to {many}, {format_bytes(process_page)} in all for "
         "each table page of a split."),
        ("stage2", "Stage-2 tables", 1 - in_process, f"Pages added to stage 2 (EPT, NPT), with the "
         f"{stage2_metadata_bytes(plan.ladder, 1)} bytes that KVM keeps for each."),
    )  # fmt: skip
    for name, heading, share, what in kinds:
        scaled = table.copy()
        for column in ("mean", "p05", "p50", "p95"):
            scaled[column] = table[column] * share
        series = _curves(result, looks, scaled, format_bytes)
        scale, ticks = bytes_scale(series)
        most = max(series, key=lambda c: float(c.mean[-1]))
        finding = "No policy of this run adds any."
        flat = not any(curve.mean.any() for curve in series)
        if not flat:
            finding = "No policy of this run has any left at the end."
        if most.mean[-1] > 0:
            median = f"{format_bytes(float(most.p50[-1]))} to the median VM{' that is hit' if few else ''}, "
            finding = (
                f"{most.label} adds {'' if len(series) == 1 else 'most: '}{median if np.isfinite(most.p50[-1]) else ''}"
                f"{format_bytes(float(most.mean[-1]))} on average."
            )
        caption = f"{what} {_lines(result, few)}"
        if scale.zero is not None:
            caption += " The axis is logarithmic above the dotted line; 0 has the place below it."
        alternative = f"{heading} added at the horizon: " + "; ".join(f"{c.label} {c.end}" for c in series)
        title = f"{heading} added{' to VMs hit' if few else ''} (log)"
        yield pen.picture(
            name, f"{heading} over the years", finding, caption, alternative,
            partial(curves, series, title=title, scale=scale, y_ticks=ticks), height=340.0,
            flat=flat,
        )  # fmt: skip


def _curves(result: Result, looks: Sequence[Style], table: pd.DataFrame, end: Callable[[float], str]) -> list[Curve]:
    found = []
    for label, style in zip(result.policies, looks, strict=True):
        own = table[table["policy"] == label]
        columns = {name: own[name].to_numpy(float) for name in ("mean", "p05", "p50", "p95")}
        last = columns["p50"][-1] if np.isfinite(columns["p50"][-1]) else columns["mean"][-1]
        found.append(Curve(label, style, end(float(last)), own["year"].to_numpy(float), **columns))
    return found


def _in_pieces(result: Result) -> str:
    """Which leaves the TLB cannot hold whole because stage 2 has no contiguous entries; empty where there are none."""
    rungs, geometry = result.plan.ladder, ARCHITECTURES[result.plan.ladder.arch]
    if result.plan.scenario.host.stage2_contiguous or not rungs.contiguous_sizes:
        return ""
    pieces = listed([f"{size} as {geometry.stage2_size(size)}" for size in rungs.contiguous_sizes])
    return f" Stage 2 has no contiguous entries (host.stage2_contiguous = false), so it maps {pieces}."


def _reach_in_words(result: Result, loss: pd.DataFrame) -> str:
    """When the worst 1 % of VMs fall below 90 % of the reach, or that nothing changes."""
    if loss["p99"].isna().all():
        return "There are too few trials to tell when the worst 1 % of VMs fall below 90 %."
    if loss[["p05", "p99"]].abs().max(axis=None) < 0.01:
        return "In 99 % of VMs no policy changes the TLB reach by as much as 1 %."
    crossed = []
    for label in result.policies:
        own = loss[loss["policy"] == label]
        below = own[own["p99"] > 0.1]
        if len(below):
            crossed.append(f"{label} after {_time(float(below['year'].iloc[0]))}")
    if crossed:
        return f"The worst 1 % of VMs fall below 90 % of the reach under {listed(crossed)}."
    return "Under no policy do the worst 1 % of VMs fall below 90 % of the reach."


def _middle(result: Result) -> str:
    return "the median VM" if result.reports(0.5) else "the mean VM (too few trials for a median)"


def _lines(result: Result, few: bool) -> str:
    """How to read a figure of curves."""
    if few:
        hit = as_probability(share_hit(result))
        return (
            f"Of the {hit} of VMs that are hit, since the others see nothing: line, the median of those hit by then; "
            "band, 5 % to 95 % of them; dotted, their mean. Lines and bands begin where enough VMs are hit for them."
        )
    if not result.reports(0.5):
        return "Dotted: the mean; there are too few trials for a median."
    if not (result.reports(0.05) and result.reports(0.95)):
        return "Line: the median VM; dotted: the mean; there are too few trials for a band."
    return "Line: the median VM; band: 5 % to 95 % of VMs; dotted: the mean."


def _time(years: float) -> str:
    months = round(12 * years)
    return f"{years:.3g} years" if years > 2 else f"{months} months" if months > 1 else "a month"


def _spread(found: Distribution, unit: Callable[[float], float]) -> Spread:
    p50, p99 = found.quantile(0.5), found.quantile(0.99)
    return Spread(unit((found.mean() if p50 is None else p50).best), None if p99 is None else unit(p99.best))


def _round(value: float) -> float:
    """`value` without the last bits of floating-point noise."""
    return round(value, 9) + 0.0
