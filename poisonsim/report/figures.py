"""The figures: the trade between memory and speed, and curves over the years."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import hypot

import numpy as np
from numpy.typing import NDArray

from poisonsim.report.canvas import INK, Canvas, group, line_style, text_width
from poisonsim.report.labels import LABEL_HEIGHT, Box, Frame, along, place_label, spread_apart, write_titles
from poisonsim.report.scales import Linear, LogBytes, Scale, Ticks, fixed_ticks
from poisonsim.report.style import Style
from poisonsim.results.metric_words import SAME_SLOWDOWN

F64 = NDArray[np.float64]

_MARKER_SIZE = 9.0
_SAME_PLACE = 6.0
"""Points within which marks lie on one another, so that a label near one is near all."""
_NEAR = 10.0
"""Points of TLB reach from 100 % within which an axis from 0 would show next to nothing."""


@dataclass(frozen=True)
class Spread:
    """A median and, where there are enough trials, what 1 % of VMs exceed."""

    p50: float
    p99: float | None


@dataclass(frozen=True)
class Mark:
    """One policy in the trade."""

    label: str
    style: Style
    cost_bytes: Spread
    slowdown_pct: Spread


@dataclass(frozen=True)
class Curve:
    """One policy over the years; float64[n_points] each, NaN where there are too few trials.

    Attributes:
        end: The value at the horizon in words.
    """

    label: str
    style: Style
    end: str
    years: F64 = field(repr=False)
    mean: F64 = field(repr=False)
    p05: F64 = field(repr=False)
    p50: F64 = field(repr=False)
    p95: F64 = field(repr=False)


def undominated(marks: Sequence[Mark]) -> list[int]:
    """Places of the marks that no other beats in one median without losing in the other, by rising cost.

    Slowdowns count as the same where they round to the same multiple of `SAME_SLOWDOWN`.

    Examples:
        >>> at = lambda x, y: Mark("", None, Spread(x, None), Spread(y, None))
        >>> undominated([at(4, 1), at(1, 3), at(4, 3), at(9, 0)])
        [1, 0, 3]
    """
    at = [(mark.cost_bytes.p50, round(mark.slowdown_pct.p50 / SAME_SLOWDOWN)) for mark in marks]
    best = [i for i, (x, y) in enumerate(at) if not any(p <= x and q <= y and (p, q) != (x, y) for p, q in at)]
    return sorted(best, key=lambda i: (*at[i], i))


def trade(marks: Sequence[Mark], frame: Frame) -> Canvas:
    """Host memory that each policy costs (log) against how much it slows the VM: medians, with lines to the 99 %."""
    spreads = [(mark.cost_bytes, mark.slowdown_pct) for mark in marks]
    x = LogBytes([v for cost, _ in spreads for v in (cost.p50, cost.p99) if v is not None])
    y = Linear.holding([v for _, slow in spreads for v in (slow.p50, slow.p99) if v is not None], least_high=0.1)
    x_ticks, y_ticks = x.ticks(4 if frame.narrow else 8), y.ticks(8)
    left = 14 + max(map(text_width, y_ticks.texts))
    canvas = Canvas((frame.width, frame.height), (left, 28, frame.top, 52))
    canvas.set_axes(x, y, x_ticks, y_ticks)
    write_titles(canvas, frame, "Slowdown, % of run time", "Host memory the policy costs (log)")
    canvas.text(frame.width - 8, frame.height - frame.top + 20, "↙ lower left is better", ha="right", alpha=0.75)

    best = [marks[i] for i in undominated(marks)]
    front = [float(v) for v in x.place([m.cost_bytes.p50 for m in best])], [m.slowdown_pct.p50 for m in best]
    canvas.axes.plot(*front, color=INK, alpha=0.4, linewidth=1.2, linestyle=(0, (4, 3)), zorder=2)
    (zero_x, zero_y), right = canvas.place(x.limits[0], 0), canvas.box[2]
    taken = [(zero_x, zero_y - 1, right, zero_y + 1)]
    taken += list(along([canvas.place(*corner) for corner in zip(*front, strict=True)]))
    centres = []
    for i, mark in enumerate(marks):
        at = float(x.place(mark.cost_bytes.p50)), mark.slowdown_pct.p50
        tail = (
            at[0] if mark.cost_bytes.p99 is None else float(x.place(mark.cost_bytes.p99)),
            at[1] if mark.slowdown_pct.p99 is None else mark.slowdown_pct.p99,
        )
        looks = {"color": mark.style.light, "gid": group(i)}
        canvas.axes.plot([at[0], tail[0]], [at[1], at[1]], linewidth=1.6, solid_capstyle="butt", zorder=3, **looks)
        canvas.axes.plot([at[0], at[0]], [at[1], tail[1]], linewidth=1.6, solid_capstyle="butt", zorder=3, **looks)
        canvas.axes.plot([at[0]], [at[1]], mark.style.marker, markersize=_MARKER_SIZE, zorder=4, **looks)
        (px, py), (qx, qy) = canvas.place(*at), canvas.place(*tail)
        centres.append((px, py))
        taken += [
            (px - 7, py - 7, px + 7, py + 7),
            (min(px, qx), py - 2, max(px, qx), py + 2),
            (px - 2, min(py, qy), px + 2, max(py, qy)),
        ]
    labels: list[Box] = []
    for i, (mark, centre) in enumerate(zip(marks, centres, strict=True)):
        others = [at for at in centres if hypot(at[0] - centre[0], at[1] - centre[1]) > _SAME_PLACE]
        place_label(
            canvas, i, mark.label, mark.style, centre, taken, labels, must=not frame.narrow, others=others,
            shared=len(others) < len(centres) - 1,
        )  # fmt: skip
    return canvas


def curves(series: Sequence[Curve], frame: Frame, title: str, scale: Scale, y_ticks: Ticks) -> Canvas:
    """Each policy over the years: median, mean, and the band that holds 90 % of VMs, labelled at its end."""
    labels = [] if frame.narrow else [f"{curve.label}  {curve.end}" for curve in series]
    widest = max(map(text_width, labels), default=0.0)
    labels, right = (labels, widest + 36) if widest < 0.42 * frame.width else ([], 20.0)
    left = 14 + max(map(text_width, y_ticks.texts))
    canvas = Canvas((frame.width, frame.height), (left, right, frame.top, 52))
    years = series[0].years
    horizon = Linear((0.0, float(years[-1])))
    canvas.set_axes(horizon, scale, _year_ticks(horizon, frame.narrow), y_ticks)
    write_titles(canvas, frame, title, "Years since the VM started")
    stride = max(len(years) // 6, 1)
    for i, curve in enumerate(series):
        # Lines that coincide stay told apart: their markers take turns along the line.
        turns = (stride * (2 * i + 1) // (2 * len(series)), stride)
        looks = {"color": curve.style.light, "gid": group(i)}
        low, high = scale.place(curve.p05), scale.place(curve.p95)
        if np.isfinite(low).any():
            canvas.axes.fill_between(years, low, high, alpha=0.16, linewidth=0, zorder=2, **looks)
        canvas.axes.plot(years, scale.place(curve.mean), linewidth=1.1, linestyle=(0, (1, 2.2)), zorder=3, **looks)
        canvas.axes.plot(
            years, scale.place(curve.p50), linewidth=2.1, linestyle=line_style(curve.style), zorder=4,
            marker=curve.style.marker, markersize=6.5, markevery=turns, **looks,
        )  # fmt: skip
    ends = [canvas.place(years[-1], _last(scale.place(c.p50), scale.place(c.mean))) for c in series]
    heights = spread_apart([y for _, y in ends], LABEL_HEIGHT, canvas.box[1], canvas.box[3])
    for i, (label, (x, y), height) in enumerate(zip(labels, ends, heights, strict=False)):
        colour = series[i].style.light
        bend = [x + 3, x + 9, x + 19, x + 22], [y, y, height, height]
        canvas.line(*bend, series=i, color=colour, linewidth=0.9, alpha=0.8)
        canvas.text(x + 25, height, label, series=i, colour=colour)
    return canvas


def reach_scale(series: Sequence[Curve]) -> tuple[Linear, Ticks]:
    """Axis for shares in per cent, from 0 to 100 or what is reached above it; where all are near 100, just these."""
    values = np.array([v for c in series for v in (c.p05, c.p95, c.p50, c.mean)])
    low, high = (float(pick([100.0, pick(values[np.isfinite(values)], initial=100.0)])) for pick in (np.min, np.max))
    if low > 100 - _NEAR and high < 100 + _NEAR:
        margin = max(0.15 * (high - low), 0.05)
        near = Linear((low - margin, high + margin))
        return near, near.ticks(6)
    scale = Linear.holding(values, least_high=100)
    above = [tick for tick in scale.ticks(6).positions if tick > 110]
    return scale, fixed_ticks([0, 25, 50, 75, 100, *above] if not above or above[0] < 500 else [0, 100, *above])


def bytes_scale(series: Sequence[Curve]) -> tuple[LogBytes, Ticks]:
    """Logarithmic axis for bytes, with a place for 0."""
    scale = LogBytes([v for c in series for v in (c.p05, c.p95, c.p50, c.mean)])
    return scale, scale.ticks(8)


def _last(first_choice: F64, second_choice: F64) -> float:
    return float(first_choice[-1] if np.isfinite(first_choice[-1]) else second_choice[-1])


def _year_ticks(scale: Linear, narrow: bool) -> Ticks:
    years, most = scale.limits[1], 6 if narrow else 11
    return scale.ticks(most) if years < 2 else fixed_ticks(range(0, int(years) + 1, -(-int(years) // (most - 1))))
