"""The figures: the trade between memory and speed, and curves over the years."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from poisonsim.report.canvas import INK, Canvas, group, line_style, text_width
from poisonsim.report.scales import Linear, LogBytes, Ticks, fixed_ticks
from poisonsim.report.style import Style

F64 = NDArray[np.float64]
Point = tuple[float, float]
Box = tuple[float, float, float, float]

_LABEL_HEIGHT = 15.0
# Angles from a mark to its label, and which part of the label is there: from 0, its left end, to 1, its right end.
_DIRECTIONS = [
    (math.radians(degrees), align)
    for degrees, align in (
        (0, 0), (40, 0), (-40, 0), (180, 1), (140, 1), (-140, 1), (90, 0.5), (-90, 0.5),
        (90, 0), (90, 1), (-90, 0), (-90, 1), (65, 0), (115, 1), (-65, 0), (-115, 1), (20, 0), (160, 1),
    )
]  # fmt: skip
_MARKER_SIZE = 9.0


@dataclass(frozen=True)
class Frame:
    """Size of a figure, and what it says of itself.

    Attributes:
        narrow: Drawn for a telephone: more upright, and only as many labels as fit.
        heading: Title and subtitle, for a figure that travels without its page.
    """

    width: float
    height: float
    narrow: bool = False
    heading: tuple[str, ...] = ()

    @property
    def top(self) -> float:
        """Height kept above the axes, in points."""
        return 34.0 + (56.0 if self.heading else 0.0)


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

    Examples:
        >>> at = lambda x, y: Mark("", None, Spread(x, None), Spread(y, None))
        >>> undominated([at(4, 1), at(1, 3), at(4, 3), at(9, 0)])
        [1, 0, 3]
    """
    at = [(mark.cost_bytes.p50, mark.slowdown_pct.p50) for mark in marks]
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
    _write_titles(canvas, frame, "Slowdown, % of run time", "Host memory the policy costs (log)")
    canvas.text(frame.width - 8, frame.height - frame.top + 20, "↙ lower left is better", ha="right", alpha=0.75)

    best = [marks[i] for i in undominated(marks)]
    front = [float(v) for v in x.place([m.cost_bytes.p50 for m in best])], [m.slowdown_pct.p50 for m in best]
    canvas.axes.plot(*front, color=INK, alpha=0.4, linewidth=1.2, linestyle=(0, (4, 3)), zorder=2)
    (zero_x, zero_y), right = canvas.place(x.limits[0], 0), canvas.box[2]
    taken = [(zero_x, zero_y - 1, right, zero_y + 1)]
    taken += list(_along([canvas.place(*corner) for corner in zip(*front, strict=True)]))
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
        _label_mark(canvas, i, mark, centre, taken, labels, must=not frame.narrow)
    return canvas


def curves(series: Sequence[Curve], frame: Frame, title: str, scale: LogBytes | Linear, y_ticks: Ticks) -> Canvas:
    """Each policy over the years: median, mean, and the band that holds 90 % of VMs, labelled at its end."""
    labels = [] if frame.narrow else [f"{curve.label}  {curve.end}" for curve in series]
    widest = max(map(text_width, labels), default=0.0)
    labels, right = (labels, widest + 36) if widest < 0.42 * frame.width else ([], 20.0)
    left = 14 + max(map(text_width, y_ticks.texts))
    canvas = Canvas((frame.width, frame.height), (left, right, frame.top, 52))
    years = series[0].years
    horizon = Linear((0.0, float(years[-1])))
    canvas.set_axes(horizon, scale, _year_ticks(horizon, frame.narrow), y_ticks)
    _write_titles(canvas, frame, title, "Years since the VM started")
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
    heights = spread_apart([y for _, y in ends], _LABEL_HEIGHT, canvas.box[1], canvas.box[3])
    for i, (label, (x, y), height) in enumerate(zip(labels, ends, heights, strict=False)):
        colour = series[i].style.light
        bend = [x + 3, x + 9, x + 19, x + 22], [y, y, height, height]
        canvas.line(*bend, series=i, color=colour, linewidth=0.9, alpha=0.8)
        canvas.text(x + 25, height, label, series=i, colour=colour)
    return canvas


def reach_scale(series: Sequence[Curve]) -> tuple[Linear, Ticks]:
    """Axis for shares in per cent, from 0 to 100 or what is reached above it."""
    scale = Linear.holding([v for c in series for v in (c.p95, c.p50, c.mean)], least_high=100)
    above = [tick for tick in scale.ticks(6).positions if tick > 110]
    return scale, fixed_ticks([0, 25, 50, 75, 90, 100, *above] if not above or above[0] < 500 else [0, 100, *above])


def bytes_scale(series: Sequence[Curve]) -> tuple[LogBytes, Ticks]:
    """Logarithmic axis for bytes, with a place for 0."""
    scale = LogBytes([v for c in series for v in (c.p05, c.p95, c.p50, c.mean)])
    return scale, scale.ticks(8)


def spread_apart(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places as near to `wanted` as can be (least squares) that keep `gap` between them, within `low` and `high`.

    Examples:
        >>> spread_apart([49, 51, 90], 10, 0, 100)
        [45.0, 55.0, 90.0]
        >>> spread_apart([98, 100], 10, 0, 100)
        [90.0, 100.0]
    """
    n = len(wanted)
    if not n:
        return []
    gap = min(gap, (high - low) / max(n - 1, 1))
    order = sorted(range(n), key=lambda i: (wanted[i], -i))
    # Isotonic regression, once the gaps are taken off: means of neighbours that touch, and how many they are.
    pools: list[tuple[float, int]] = []
    for rank, i in enumerate(order):
        pools.append((float(wanted[i] - rank * gap), 1))
        while len(pools) > 1 and pools[-2][0] >= pools[-1][0]:
            (b, n_b), (a, n_a) = pools.pop(), pools.pop()
            pools.append(((a * n_a + b * n_b) / (n_a + n_b), n_a + n_b))
    flat = [mean for mean, times in pools for _ in range(times)]
    places = [0.0] * n
    for rank, i in enumerate(order):
        places[i] = float(min(max(flat[rank], low), high - (n - 1) * gap) + rank * gap)
    return places


def _write_titles(canvas: Canvas, frame: Frame, y_title: str, x_title: str) -> None:
    top = frame.height - frame.top
    canvas.text(2, top + 20, y_title, ha="left", fontweight="bold" if frame.heading else "normal")
    canvas.text((canvas.box[0] + canvas.box[2]) / 2, 12, x_title, ha="center")
    for words, (drop, size, weight) in zip(frame.heading, ((18, 16.0, "bold"), (40, 11.5, "normal")), strict=False):
        canvas.text(2, frame.height - drop, words, ha="left", fontsize=size, fontweight=weight)


def _label_mark(
    canvas: Canvas, series: int, mark: Mark, centre: Point, taken: list[Box], labels: list[Box], *, must: bool
) -> None:
    """Writes a label where it covers nothing, as near to its mark as that allows; adds to what is taken."""
    inside = (canvas.box[0], canvas.box[1], canvas.size[0] - 4, canvas.box[3] + 8)
    places = list(_places_around(centre, text_width(mark.label), 200 if must else 44))
    free = [box for box in places if _within(box, inside) and _clear([box], taken)]
    neat = (box for box in free if _clear(_along(_leader(centre, box)), labels))
    box = next(neat, None) or (next(iter(free or places)) if must else None)
    if box is None:
        return
    labels.append(box)
    leader = _leader(centre, box)
    taken += [box, *_along(leader)]
    if leader:
        xs, ys = zip(*leader, strict=True)
        canvas.line(xs, ys, series=series, color=mark.style.light, linewidth=0.9, alpha=0.7, zorder=1)
    canvas.text(box[0] + 2, (box[1] + box[3]) / 2, mark.label, series=series, colour=mark.style.light)


def _leader(centre: Point, box: Box) -> list[Point]:
    """Ends of the line from a mark to a label too far off to be read as its own; none where it is near."""
    (x, y), (low_x, low_y, high_x, high_y) = centre, box
    near = min(max(x, low_x), high_x), min(max(y, low_y), high_y)
    return [centre, near] if np.hypot(near[0] - x, near[1] - y) > 16 else []


def _places_around(centre: Point, width: float, reach: float) -> Iterator[Box]:
    """Boxes for a label around a mark, the nearest first; beside it, then above and below."""
    (x, y), width, height = centre, width + 4, _LABEL_HEIGHT + 1
    for radius in (r for r in (10, 18, 30, 44, 60, 78, 98, 120, 144, 170, 200) if r <= reach):
        for angle, align in _DIRECTIONS:
            low_x = x + radius * math.cos(angle) - width * align
            low_y = y + radius * math.sin(angle) - height * (1 - math.sin(angle)) / 2
            yield low_x, low_y, low_x + width, low_y + height


def _along(corners: Sequence[Point]) -> Iterator[Box]:
    """Small boxes along a line, so that labels keep off it."""
    for (x0, y0), (x1, y1) in pairwise(corners):
        n = int(np.hypot(x1 - x0, y1 - y0) / 4) + 1
        for x, y in zip(np.linspace(x0, x1, n), np.linspace(y0, y1, n), strict=True):
            yield float(x) - 1, float(y) - 1, float(x) + 1, float(y) + 1


def _within(box: Box, outer: Box) -> bool:
    return box[0] >= outer[0] and box[1] >= outer[1] and box[2] <= outer[2] and box[3] <= outer[3]


def _clear(boxes: Iterable[Box], taken: Sequence[Box]) -> bool:
    """Whether no box overlaps one that is taken."""
    return not any(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for a in boxes for b in taken)


def _last(first_choice: F64, second_choice: F64) -> float:
    return float(first_choice[-1] if np.isfinite(first_choice[-1]) else second_choice[-1])


def _year_ticks(scale: Linear, narrow: bool) -> Ticks:
    years, most = scale.limits[1], 6 if narrow else 11
    return scale.ticks(most) if years < 2 else fixed_ticks(range(0, int(years) + 1, -(-int(years) // (most - 1))))
