"""The report's figures from a result: data, words around them, and every form they are needed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup

from poisonsim.memory import ARCHITECTURES
from poisonsim.report.canvas import Canvas, with_page_colours
from poisonsim.report.figures import Curve, Frame, Mark, Spread, bytes_scale, curves, reach_scale, trade, undominated
from poisonsim.report.style import Style
from poisonsim.results.result import Result
from poisonsim.results.words import minus
from poisonsim.units import format_bytes

_QUANTILES = ("p05", "p50", "p95", "p99")


@dataclass(frozen=True)
class Picture:
    """One figure of the page.

    Attributes:
        finding: What it shows, in a sentence.
        caption: How to read it.
        wide, narrow: The drawing as SVG, for a page and for a telephone.
        png: The drawing as a PNG file.
    """

    name: str
    heading: str
    finding: str
    caption: str
    wide: Markup
    narrow: Markup
    png: bytes


def pictures(
    result: Result, looks: Sequence[Style], at_horizon: pd.DataFrame, *, subtitle: str, provenance: Mapping[str, str]
) -> list[Picture]:
    """The figures of the report, in page order.

    Args:
        at_horizon: The summary at the end of the horizon, by policy and metric.
        subtitle: What the PNG files say below their title.
        provenance: Texts that every PNG file carries.
    """
    pen = _Pen(looks, subtitle, provenance)
    return [_trade(result, looks, at_horizon, pen), _reach(result, looks, pen), _tables(result, looks, pen)]


class _Pen:
    """Draws a figure in all its forms."""

    def __init__(self, looks: Sequence[Style], subtitle: str, provenance: Mapping[str, str]) -> None:
        self._looks, self._subtitle, self._provenance = looks, subtitle, provenance

    def picture(
        self, name: str, heading: str, finding: str, caption: str, alternative: str, draw: Callable[[Frame], Canvas]
    ) -> Picture:
        """The figure that `draw` draws in a frame."""
        tall = max(400.0, 90 + 17.0 * len(self._looks))
        wide, narrow = draw(Frame(860, tall)), draw(Frame(360, 320, narrow=True))
        image = draw(Frame(860, tall + 56, heading=(heading, self._subtitle)))
        return Picture(
            name, heading, finding, caption,
            Markup(with_page_colours(wide.svg(f"{name}-wide", alternative, "wide"), self._looks)),
            Markup(with_page_colours(narrow.svg(f"{name}-narrow", alternative, "narrow"), self._looks)),
            image.png({"Title": heading, **self._provenance}),
        )  # fmt: skip


def _trade(result: Result, looks: Sequence[Style], at_horizon: pd.DataFrame, pen: _Pen) -> Picture:
    marks = []
    for label, style in zip(result.policies, looks, strict=True):
        cost = _spread(at_horizon.loc[(label, "capacity_cost_bytes")], float)
        slowdown = _spread(at_horizon.loc[(label, "slowdown")], lambda ratio: _round(100 * (ratio - 1)))
        marks.append(Mark(label, style, cost, slowdown))
    best = [marks[i].label for i in undominated(marks)]
    if len(marks) == 1:
        finding = "One policy only: name a second one to see a trade."
    elif len(best) == 1:
        finding = f"{best[0]} costs the host least and slows the VM least."
    elif len(best) == len(marks):
        finding = "No policy beats another on both counts."
    else:
        finding = f"The choice is between {_listed(best)}; every other policy is beaten by one of these."
    lost = {label: at_horizon.loc[(label, "vm_lost")]["mean"] for label in result.policies}
    if max(lost.values()) > min(lost.values()):
        worst = max(lost, key=lambda label: lost[label])
        finding += f" Lost VMs are not in this picture: {worst} loses {100 * lost[worst]:.3g} % of them."
    alternative = "Host memory and slowdown at the median: " + "; ".join(
        f"{m.label} {format_bytes(m.cost_bytes.p50)}, {minus(f'{m.slowdown_pct.p50:.3g}')} per cent" for m in marks
    )
    lines = "lines from it: to the value that 1 % of VMs exceed"
    if marks[0].cost_bytes.p99 is None:
        lines = "there are too few trials for the worst 1 %"
    caption = (
        f"After {result.years[-1]:g} years. Marker: {_middle(result)}; {lines}. "
        "Dashed: policies that no other beats in both. Host memory is page tables, vmemmap given up, direct map, "
        "memory lost and spares held. Slowdown is run time over that of the same VM without errors; it is below 0 "
        "where the guest has less memory left to touch."
    )
    heading = "Memory cost against slowdown"
    return pen.picture("trade", heading, finding, caption, alternative, lambda frame: trade(marks, frame))


def _reach(result: Result, looks: Sequence[Style], pen: _Pen) -> Picture:
    table = result.series("tlb_reach_loss")
    shares = table.copy()
    # A quantile of the loss from above is one of the share from below.
    for name, mirrored in {"mean": "mean", "p50": "p50", "p05": "p95", "p95": "p05"}.items():
        shares[name] = 100 * (1 - table[mirrored])
    series = _curves(result, looks, shares, lambda value: f"{abs(value):.1f} %")
    caption = (
        f"Share of the TLB reach of the same VM without errors. {_lines(result)} The TLB holds the smaller of guest "
        "page and host leaf, so splits down to the guest's own page size cost no reach."
    )
    caption += _in_pieces(result)
    if max(float(np.nanmax([c.mean, c.p50])) for c in series) > 100.05:
        caption += " The reach rises above 100 % where small leaves use TLB entries that large ones cannot."
    alternative = "TLB reach left at the horizon: " + "; ".join(f"{c.label} {c.end}" for c in series)
    scale, ticks = reach_scale(series)
    return pen.picture(
        "reach", "TLB reach over the years", _reach_in_words(result, table), caption, alternative,
        lambda frame: curves(series, frame, "TLB reach, % of that without errors", scale, ticks),
    )  # fmt: skip


def _tables(result: Result, looks: Sequence[Style], pen: _Pen) -> Picture:
    series = _curves(result, looks, result.series("table_bytes"), format_bytes)
    scale, ticks = bytes_scale(series)
    most = max(series, key=lambda c: float(c.mean[-1]))
    if most.mean[-1] == 0:
        finding = "No policy of this run adds page tables."
    elif len(series) == 1:
        finding = f"{most.label} adds {format_bytes(float(most.mean[-1]))} of page tables on average."
    else:
        finding = f"{most.label} adds most: {format_bytes(float(most.mean[-1]))} on average."
    n_tables = result.plan.scenario.host.page_tables
    caption = (
        f"Page tables added since the start: {n_tables} process table{'s' if n_tables > 1 else ''}, stage 2 and KVM's "
        f"own data for it, in one sum. {_lines(result)}"
    )
    if scale.zero is not None:
        caption += " The axis is logarithmic above the dotted line; 0 has the place below it."
    alternative = "Page tables added at the horizon: " + "; ".join(f"{c.label} {c.end}" for c in series)
    return pen.picture(
        "tables", "Page tables over the years", finding, caption, alternative,
        lambda frame: curves(series, frame, "Page tables added (log)", scale, ticks),
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
    pieces = _listed([f"{size} as {geometry.stage2_size(size)}" for size in rungs.contiguous_sizes])
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
        return f"The worst 1 % of VMs fall below 90 % of the reach under {_listed(crossed)}."
    return "Under no policy do the worst 1 % of VMs fall below 90 % of the reach."


def _middle(result: Result) -> str:
    return "the median VM" if result.reports(0.5) else "the mean VM (too few trials for a median)"


def _lines(result: Result) -> str:
    """How to read a figure of curves."""
    if not result.reports(0.5):
        return "Dotted: the mean; there are too few trials for a median."
    if not (result.reports(0.05) and result.reports(0.95)):
        return "Line: the median VM; dotted: the mean; there are too few trials for a band."
    return "Line: the median VM; band: 5 % to 95 % of VMs; dotted: the mean."


def _time(years: float) -> str:
    months = round(12 * years)
    return f"{years:.3g} years" if years > 2 else f"{months} months" if months > 1 else "a month"


def _spread(row: pd.Series, unit: Callable[[float], float]) -> Spread:
    p50, p99 = float(row["p50"]), float(row["p99"])
    return Spread(unit(float(row["mean"]) if np.isnan(p50) else p50), None if np.isnan(p99) else unit(p99))


def _round(value: float) -> float:
    """`value` without the last bits of floating-point noise."""
    return round(value, 9) + 0.0


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
