"""Where the words of a figure go: its titles, and labels that cover neither marks nor each other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from poisonsim.report.canvas import Canvas, text_width
from poisonsim.report.style import Style

Point = tuple[float, float]
Box = tuple[float, float, float, float]

LABEL_HEIGHT = 15.0
_NEAR = 36.0
"""Points from its mark up to which the colour tells whose a label is, where a line would strike out another label."""
HEADING_HEIGHT = 56.0
# Angles from a mark to its label, and which part of the label is there: from 0, its left end, to 1, its right end.
_DIRECTIONS = [
    (math.radians(degrees), align)
    for degrees, align in (
        (0, 0), (40, 0), (-40, 0), (180, 1), (140, 1), (-140, 1), (90, 0.5), (-90, 0.5),
        (90, 0), (90, 1), (-90, 0), (-90, 1), (65, 0), (115, 1), (-65, 0), (-115, 1), (20, 0), (160, 1),
        (90, 0.25), (-90, 0.25), (90, 0.75), (-90, 0.75),
    )
]  # fmt: skip


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
        return 34.0 + (HEADING_HEIGHT if self.heading else 0.0)


def write_titles(canvas: Canvas, frame: Frame, y_title: str, x_title: str) -> None:
    """Writes the titles of the axes, and the heading of a figure that travels without its page."""
    top = frame.height - frame.top
    canvas.text(2, top + 20, y_title, ha="left")
    canvas.text((canvas.box[0] + canvas.box[2]) / 2, 12, x_title, ha="center")
    for words, (drop, size, weight) in zip(frame.heading, ((18, 16.0, "bold"), (40, 11.5, "normal")), strict=False):
        canvas.heading(words, drop, fontsize=size, fontweight=weight)
    canvas.cut = HEADING_HEIGHT if frame.heading else 0.0


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


def place_label(
    canvas: Canvas,
    series: int,
    label: str,
    style: Style,
    centre: Point,
    taken: list[Box],
    labels: list[Box],
    *,
    must: bool,
    others: Sequence[Point] = (),
    shared: bool = False,
) -> None:
    """Writes a label where it covers nothing, as near to its mark as that allows; adds to what is taken.

    Args:
        others: Centres of other marks. If there is room the label is nearer to its own than to any of these, else it
            has a line to its own that passes none of them.
        shared: Whether another mark lies in the same place, with a label that a line would have to pass.
    """
    inside = (canvas.box[0], canvas.box[1], canvas.size[0] - 4, canvas.box[3] + 8)
    places = list(_places_around(centre, text_width(label), 200 if must else 60))
    free = [box for box in places if _within(box, inside) and _clear([box], taken)]
    marks = [(x - 8, y - 8, x + 8, y + 8) for x, y in others]
    told = [box for box in free if _clear(along(_leader(centre, box)), [*labels, *marks])]
    own = (box for box in told if all(_gap(box, centre) + 4 < _gap(box, at) for at in others))
    led = (box for box in told if _leader(centre, box))
    box = next(own, None) or next(led, None) or (next(iter(free or places)) if must else None)
    if box is None:
        return
    labels.append(box)
    through = box not in told and shared and _gap(box, centre) < _NEAR
    leader = [] if through else _leader(centre, box)
    taken += [box, *along(leader)]
    if leader:
        xs, ys = zip(*leader, strict=True)
        canvas.line(xs, ys, series=series, color=style.light, linewidth=0.9, alpha=0.7, zorder=1)
    canvas.text(box[0] + 2, (box[1] + box[3]) / 2, label, series=series, colour=style.light)


def _leader(centre: Point, box: Box) -> list[Point]:
    """Ends of the line from a mark to a label too far off to be read as its own; none where it is near."""
    return [centre, _nearest(box, centre)] if _gap(box, centre) > 16 else []


def _nearest(box: Box, point: Point) -> Point:
    """The point of a box that is nearest to a point."""
    return min(max(point[0], box[0]), box[2]), min(max(point[1], box[1]), box[3])


def _gap(box: Box, point: Point) -> float:
    """Distance from a point to a box."""
    x, y = _nearest(box, point)
    return float(np.hypot(x - point[0], y - point[1]))


def _places_around(centre: Point, width: float, reach: float) -> Iterator[Box]:
    """Boxes for a label around a mark, the nearest first; beside it, then above and below."""
    (x, y), width, height = centre, width + 4, LABEL_HEIGHT + 1
    for radius in (r for r in (10, 18, 30, 44, 60, 78, 98, 120, 144, 170, 200) if r <= reach):
        for angle, align in _DIRECTIONS:
            low_x = x + radius * math.cos(angle) - width * align
            low_y = y + radius * math.sin(angle) - height * (1 - math.sin(angle)) / 2
            yield low_x, low_y, low_x + width, low_y + height


def along(corners: Sequence[Point]) -> Iterator[Box]:
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
