"""The figures of a sweep: a map of two keys by which policy is best, or the means of each policy over one key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from math import log10, prod

import numpy as np

from poisonsim.report.canvas import Canvas, text_width
from poisonsim.report.charts import Axis, Line, Stretch, lines
from poisonsim.report.labels import Frame
from poisonsim.report.maps import ALL_ALIKE, Cell, Steps, best_map, map_height
from poisonsim.report.picture import Pen, Picture
from poisonsim.report.scales import Linear, LogBytes, Ticks
from poisonsim.report.style import Style
from poisonsim.report.verdict import heading
from poisonsim.results.metric_words import SAME_SLOWDOWN, in_points, value_shown, value_text
from poisonsim.results.metrics import Metric, known_metric
from poisonsim.results.numbers import listed
from poisonsim.results.statistics import Estimate
from poisonsim.results.sweep import Sweep, SweepPoint
from poisonsim.results.sweep_findings import clearly_best, crossovers
from poisonsim.results.sweep_grid import settings_text, spelled
from poisonsim.results.sweep_words import best_where, in_order, overtakings

_MOST_PICTURES = 12
_UNCLEAR = "not clear"
_LOG_FROM = 20.0
"""An axis whose greatest value is so many times its least is logarithmic."""


def sweep_pictures(
    found: Sweep, metrics: Sequence[str], year: float | None, looks: Sequence[Style], pen: Pen
) -> tuple[list[Picture], list[str]]:
    """The figures that can be drawn, and why others are not."""
    moving = [key for key, values in found.over.items() if len(values) > 1]
    if not moving:
        return [], ["There is no picture of a single point."]
    slices = prod(len(found.over[key]) for key in moving[:-2])
    refused = []
    drawable = list(metrics)
    if len(moving) > 1:
        flat = [metric for metric in metrics if registered(found, metric).better == "-"]
        drawable = [metric for metric in metrics if metric not in flat] if len(found.policies) > 1 else []
        if len(found.policies) == 1:
            refused.append("A map shows which policy is best where, so it takes two policies or more.")
        elif flat:
            refused.append(f"There is no map of {listed(flat)}, of which no value is better than another.")
    room = _MOST_PICTURES // slices
    if drawable and not room:
        refused.append(
            f"A map is of two keys, and {listed(moving[:-2])} have {slices:,} combinations of values, for which there "
            f"is no room; hold them still with --set, or give at most {_MOST_PICTURES}. The tables have every point."
        )
    elif len(drawable) > room:
        refused.append(f"Not drawn, for want of room: {listed(drawable[room:])}; ask for it with --metric.")
    drawn = []
    for metric in drawable[:room]:
        for number, (held, part) in enumerate(_slices(found, moving), 1):
            name = f"sweep-{metric}" + (f"-{number}" if slices > 1 else "")
            at = f", at {settings_text(held)}" if held else ""
            if len(moving) > 1:
                drawn.append(_map(part, metric, year, looks, pen, name, at))
            else:
                drawn.append(_chart(part, metric, year, looks, pen, name))
    return drawn, refused


def _slices(found: Sweep, moving: Sequence[str]) -> Iterator[tuple[Mapping[str, object], Sweep]]:
    """The sweep over the last two keys that move, for all values of those before them."""
    kept, others = moving[-2:], moving[:-2]
    for values in product(*(found.over[key] for key in others)):
        held = dict(zip(others, values, strict=True))
        points = [
            SweepPoint({key: settings[key] for key in kept}, result)
            for settings, result in found.points
            if all(settings[key] == value for key, value in held.items())
        ]
        yield held, replace(found, over={key: found.over[key] for key in kept}, points=tuple(points))


def _map(
    found: Sweep, metric: str, year: float | None, looks: Sequence[Style], pen: Pen, name: str, at: str
) -> Picture:  # fmt: skip
    """The map of two keys: the first goes up, the second to the right."""
    up, right = found.over
    rows, columns = in_order(found, up), in_order(found, right)
    if rows[0][1] is None:
        rows = rows[::-1]  # values that are no numbers are read from above
    cells = {}
    for settings, result in found.points:
        best = clearly_best(result, metric, year)
        words = _UNCLEAR
        if best:
            mean = value_shown(known_metric(metric, result.metrics), result.mean(best[0], metric, year))
            words = f"{mean.value} {mean.unit}".rstrip()
        where = spelled(settings[up]), spelled(settings[right])
        cells[where] = Cell(tuple(result.policies.index(label) for label in best), words)
    grid = [[cells[row, column] for column, _ in columns] for row, _ in rows]
    best_heading = f"Best policy by {in_sentence(metric)}{at}"
    caption = (
        f"The policy with the best mean {when_in(found, year)}, and that mean; its interval is in the table of every "
        "point. Solid lines: on their two sides not the same policies are best. "
        f"A cell in strips, or “{ALL_ALIKE}”: those are alike there, the same or, of a share, the same to 0.01 "
        f"points, of slowdown to {SAME_SLOWDOWN:g}. "
        f"“{_UNCLEAR}” or ~, beyond a dashed line: the 95 % interval of the paired difference includes zero."
    )
    alternative = f"{best_heading}: " + "; ".join(
        f"{up}={row} {right}={column} " + (f"{_names(found, cell)} {cell.words}" if cell.best else cell.words)
        for (row, column), cell in cells.items()
    )
    steps = Steps(up, tuple(text for text, _ in rows)), Steps(right, tuple(text for text, _ in columns))
    height = map_height(len(rows))
    return pen.picture(
        name, best_heading, _overtaking(found, metric, year), caption, alternative,
        lambda frame: best_map(grid, found.policies, looks, *steps, frame),
        height=height, narrow_height=min(height, 420),
    )  # fmt: skip


def _names(found: Sweep, cell: Cell) -> str:
    if len(cell.best) == len(found.policies) > 1:
        return ALL_ALIKE
    return " and ".join(found.policies[p] for p in cell.best)


def _overtaking(found: Sweep, metric: str, year: float | None) -> str:
    """Where policies change places, in sentences."""
    if len(found.policies) == 1:
        return ""
    if told := overtakings(found, [metric], year, called=in_sentence):
        return " ".join(f"{line}." for line in told)
    where = best_where(found, metric, year) if registered(found, metric).better != "-" else ""
    best = f" Best: {where}." if where else ""
    return f"No policy clearly overtakes another along a key of numbers.{best}"


def _chart(found: Sweep, metric: str, year: float | None, looks: Sequence[Style], pen: Pen, name: str) -> Picture:
    """One key: the mean of each policy over its values, and where one overtakes another."""
    (key,) = found.over
    known, texts = registered(found, metric), [text for text, _ in in_order(found, key)]
    places, joined, logarithmic = _places(in_order(found, key))
    first, last = min(places.values()), max(places.values())
    margin = (last - first) * (0.03 if joined else 0.4 / (len(places) - 1))
    x = Linear((first - margin, last + margin))
    means = [
        {spelled(s[key]): result.mean(result.policies[p], metric, year) for s, result in found.points}
        for p in range(len(found.policies))
    ]
    on_axis = [{text: _on_axis(known, mean) for text, mean in own.items()} for own in means]
    ends = [v for own in on_axis for e in own.values() for v in (e.low, e.best, e.high)]
    in_bytes = known.unit == "bytes"
    y = LogBytes(np.maximum(ends, 0.0)) if in_bytes else Linear.holding(ends)
    series = []
    for i, own in enumerate(on_axis):
        aside = 0.0 if joined else (i - (len(means) - 1) / 2) * 0.5 / len(means)
        low, best, high = (y.place([getattr(own[text], end) for text in texts]) for end in ("low", "best", "high"))
        xs = np.array([places[text] + aside for text in texts])
        series.append(Line(found.policies[i], looks[i], xs, best, low, high, tuple(range(len(xs))), len(xs) - 1))
    stretches = _stretches(found, metric, year, places)
    title = heading(metric)
    caption = [f"Means {when_in(found, year)}, with 95 % intervals."]
    if stretches:
        caption.append("Grey: somewhere there one policy overtakes another, paired trial by trial.")
    if isinstance(y, LogBytes) and y.zero is not None:
        caption.append("The axis is logarithmic above the dotted line; 0 has the place below it.")
    alternative = f"{title} over {key}: " + "; ".join(
        f"{policy} " + ", ".join(f"{value_text(known, mean)} at {text}" for text, mean in own.items())
        for policy, own in zip(found.policies, means, strict=True)
    )
    unit = "log" if in_bytes else "%" if in_points(known) else known.unit
    x_title, y_title = f"{key} (log)" if logarithmic else key, f"{title}, mean ({unit})"

    def draw(frame: Frame) -> Canvas:
        points = (frame.width - 110) / (x.limits[1] - x.limits[0])
        return lines(
            series, frame, Axis(x_title, x, _ticks(places, points)), Axis(y_title, y, y.ticks(8)),
            joined=joined, stretches=stretches,
        )  # fmt: skip

    return pen.picture(
        name, f"{title} over {key}", _overtaking(found, metric, year), " ".join(caption), alternative, draw
    )


def _stretches(found: Sweep, metric: str, year: float | None, places: Mapping[str, float]) -> list[Stretch]:
    """Where policies change places; those that overtake the same one there are told together."""
    better: dict[tuple[str, str, str], list[str]] = {}
    for crossing in crossovers(found, metric, year):
        better.setdefault((crossing.low, crossing.high, crossing.overtaken), []).append(crossing.policy)
    return [
        Stretch(places[low], places[high], f"{listed(names)} {'overtake' if names[1:] else 'overtakes'} {overtaken}")
        for (low, high, overtaken), names in better.items()
    ]


def _places(steps: Sequence[tuple[str, float | None]]) -> tuple[dict[str, float], bool, bool]:
    """Where the values of a key stand on an axis; whether they are numbers, and whether the axis is logarithmic."""
    numbers = {text: value for text, value in steps if value is not None}
    if not numbers:
        return {text: float(place) for place, (text, _) in enumerate(steps)}, False, False
    least, most = min(numbers.values()), max(numbers.values())
    if least > 0 and most / least >= _LOG_FROM:
        return {text: log10(value) for text, value in numbers.items()}, True, True
    return numbers, True, False


def _ticks(places: Mapping[str, float], points: float) -> Ticks:
    """A tick at each value of a key, less those whose texts would touch the one before.

    Args:
        points: Points of the figure to one unit of the axis.
    """
    kept: list[tuple[str, float]] = []
    for text, place in places.items():
        room = (text_width(kept[-1][0]) + text_width(text)) / 2 + 10 if kept else 0.0
        if not kept or (place - kept[-1][1]) * points > room:
            kept.append((text, place))
    return Ticks(tuple(place for _, place in kept), tuple(text for text, _ in kept))


def _on_axis(known: Metric, value: Estimate) -> Estimate:
    """An estimate as its axis shows it: shares in per cent, and a slowdown as what it adds to the run time."""
    if not in_points(known):
        return value
    less = 1.0 if known.name.startswith("slowdown") else 0.0
    return Estimate(100 * (value.low - less), 100 * (value.best - less), 100 * (value.high - less), "%")


def when_in(found: Sweep, year: float | None) -> str:
    """Which year the means are of, in words."""
    if year is not None:
        return f"in year {year:g}"
    if "horizon.years" in found.over:
        return "at the end of each horizon"
    return f"after {found.points[0].result.years[-1]:g} years"


def in_sentence(metric: str) -> str:
    """What a metric is called within a sentence."""
    name = heading(metric)
    return name[0].lower() + name[1:] if name[1].islower() else name


def registered(found: Sweep, metric: str) -> Metric:
    """What the registry says of a metric."""
    return known_metric(metric, found.points[0].result.metrics)
