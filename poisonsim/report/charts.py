"""Figures that are no curves over the years: lines in any two axes, and marks in rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from poisonsim.report.canvas import INK, Canvas, group, line_style, text_width
from poisonsim.report.labels import Box, Frame, along, place_label, write_titles
from poisonsim.report.scales import Linear, Scale, Ticks
from poisonsim.report.style import Style

F64 = NDArray[np.float64]

_MARKER_SIZE = 8.0
_ROW_HEIGHT = 34.0
_SMALL = 11.0


@dataclass(frozen=True)
class Line:
    """One policy as a line; positions on the axes, float64[n] each, none where there is nothing to draw.

    Attributes:
        low, high: Ends of the interval around `ys`.
        knots: Which points carry a marker.
        label_at: The point that the label stands at.
    """

    label: str
    style: Style
    xs: F64 = field(repr=False)
    ys: F64 = field(repr=False)
    low: F64 = field(repr=False)
    high: F64 = field(repr=False)
    knots: tuple[int, ...]
    label_at: int


@dataclass(frozen=True)
class Axis:
    """One axis of a figure of lines."""

    title: str
    scale: Scale
    ticks: Ticks


@dataclass(frozen=True)
class Stretch:
    """A part of the horizontal axis, and what happens there."""

    low: float
    high: float
    words: str


def lines(
    series: Sequence[Line], frame: Frame, x: Axis, y: Axis, right: tuple[str, ...] = (), *,
    joined: bool = True, stretches: Sequence[Stretch] = (),
) -> Canvas:  # fmt: skip
    """Each policy as a line with a band around it.

    Args:
        right: Title of a second axis on the right, then its texts, one for each tick of `y`.
        joined: Join the points; else each stands alone, with a whisker for a band.
        stretches: Parts of the horizontal axis to shade, each with its words at the top if the figure is wide.
    """
    left = 14 + max(map(text_width, y.ticks.texts))
    beyond = 28 if not right else 16 + max(map(text_width, right[1:]))
    canvas = Canvas((frame.width, frame.height), (left, beyond, frame.top, 52))
    canvas.set_axes(x.scale, y.scale, x.ticks, y.ticks)
    write_titles(canvas, frame, y.title, x.title)
    low_x, low_y, high_x, high_y = canvas.box
    taken: list[Box] = []
    if isinstance(y.scale, Linear) and y.scale.limits[0] < 0:
        zero = canvas.place(x.scale.limits[0], 0.0)[1]
        taken.append((low_x, zero - 1, high_x, zero + 1))
    if right:
        taken.append((high_x + 4, 0, frame.width, frame.height))
        canvas.text(frame.width - 2, high_y + 20, right[0], ha="right")
        for position, words in zip(y.ticks.positions, right[1:], strict=True):
            canvas.text(high_x + 8, canvas.place(x.scale.limits[1], position)[1], words, ha="left")
    for low, high in dict.fromkeys((stretch.low, stretch.high) for stretch in stretches):
        canvas.axes.axvspan(low, high, color=INK, alpha=0.08, linewidth=0, zorder=1)
    for i, stretch in enumerate(() if frame.narrow else stretches):
        middle, height = canvas.place((stretch.low + stretch.high) / 2, y.scale.limits[1])[0], high_y - 8 - 16 * i
        half = text_width(stretch.words, _SMALL) / 2
        middle = min(max(middle, low_x + half), frame.width - 4 - half)
        canvas.text(middle, height, stretch.words, ha="center", fontsize=_SMALL)
        taken.append((middle - half - 2, height - 8, middle + half + 2, height + 8))
    for i, line in enumerate(series):
        looks = {"color": line.style.light, "gid": group(i)}
        if not len(line.xs):
            continue
        if not joined:
            canvas.axes.vlines(line.xs, line.low, line.high, linewidth=1.6, zorder=3, **looks)
        elif (line.high > line.low).any():
            canvas.axes.fill_between(line.xs, line.low, line.high, alpha=0.16, linewidth=0, zorder=2, **looks)
        canvas.axes.plot(
            line.xs, line.ys, linewidth=2.1, linestyle=line_style(line.style) if joined else "none", zorder=4,
            marker=line.style.marker, markersize=6.5, markevery=list(line.knots), **looks,
        )  # fmt: skip
        corners = [canvas.place(float(px), float(py)) for px, py in zip(line.xs, line.ys, strict=True)]
        taken += list(along(corners)) if joined else [(cx - 5, cy - 5, cx + 5, cy + 5) for cx, cy in corners]
    labels: list[Box] = []
    for i, line in enumerate(series):
        if len(line.xs):
            at = canvas.place(float(line.xs[line.label_at]), float(line.ys[line.label_at]))
            at = min(max(at[0], low_x), high_x), min(max(at[1], low_y), high_y)
            place_label(canvas, i, line.label, line.style, at, taken, labels, must=not frame.narrow)
    return canvas


@dataclass(frozen=True)
class Marks:
    """One policy in rows: a value for each row with the ends of its interval, NaN where it has none."""

    label: str
    style: Style
    values: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def rows_height(n_rows: int) -> float:
    """Height in points of a figure of so many rows."""
    return 34 + 52 + _ROW_HEIGHT * n_rows


def rows(series: Sequence[Marks], names: Sequence[str], frame: Frame, title: str) -> Canvas:
    """A row for each name, and in it a mark with its interval for each policy, those that would coincide apart."""
    x = Linear((0.0, 100.0))
    places = np.arange(len(names), dtype=float)[::-1] + 0.5
    y = Linear((0.0, float(len(names))))
    left = 14 + max(map(text_width, names))
    canvas = Canvas((frame.width, frame.height), (left, 28, frame.top, 52))
    canvas.set_axes(x, y, x.ticks(6), Ticks(tuple(places.tolist()), tuple(names)))
    write_titles(canvas, frame, "Mode of the fault", title)
    step = min(0.8 / max(len(series), 1), 0.2)
    for i, marks in enumerate(series):
        aside = step * ((len(series) - 1) / 2 - i)
        values = np.array(marks.values)
        shown = np.isfinite(values)
        looks = {"color": marks.style.light, "gid": group(i)}
        canvas.axes.hlines(places[shown] + aside, 0, values[shown], linewidth=1.2, alpha=0.6, zorder=3, **looks)
        ends = (np.array(marks.low)[shown], np.array(marks.high)[shown])
        canvas.axes.hlines(places[shown] + aside, *ends, linewidth=4.5, alpha=0.35, zorder=3, **looks)
        canvas.axes.plot(
            values[shown], places[shown] + aside, marks.style.marker, markersize=_MARKER_SIZE, zorder=4, **looks
        )
    canvas.axes.axvline(0, color=INK, alpha=0.55, linewidth=1, zorder=1)
    return canvas
