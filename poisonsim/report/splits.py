"""The picture of when a region mapped with 2M beats one mapped with 4K, alone and on a page with its table."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.patches import Rectangle

from poisonsim.report.canvas import INK, PAPER, Canvas, fixed_settings, text_width, with_page_colours
from poisonsim.report.page import environment
from poisonsim.report.style import Style
from poisonsim.results.splits import Splits
from poisonsim.results.splits_words import header_of, heading_of, notes_of, rows_of
from poisonsim.translation.sensitivity import ALIKE, COSTS, FREE, HIGH, LOW, NEITHER, WORSE, Case

_ROW, _STRIP, _GAP = 19.0, 13.0, 9.0
_SMALL = 10.5
_BOLD = 1.16  # how much wider bold text is


def _zone(colour: str, light: str, dark: str) -> Style:
    return Style(colour, light, dark, (), "s")


# Told apart by lightness alone as well, on white and on a dark page.
ZONES = {
    NEITHER: _zone("zone-neither", "#dfe4e9", "#2f3740"),
    FREE: _zone("zone-free", "#86abf3", "#4675c9"),
    COSTS: _zone("zone-costs", "#1b2f75", "#d3e5ff"),
    ALIKE: _zone("zone-alike", "#e8b33a", "#d9a32f"),
    WORSE: _zone("zone-worse", "#c62f20", "#f0503a"),
}
"""Colours of the verdicts."""

ON_DARK = _zone("zone-text", "#fefefe", "#101418")
"""Colour of text on `COSTS` and `WORSE`."""


@dataclass(frozen=True)
class _Panel:
    """Cases of one guest page, and where they go: left and right end of the axis, and height of the first row."""

    guest: str
    left: float
    right: float
    top: float


def splits_canvas(found: Splits, *, name: str = "", narrow: bool = False, heading: bool = False) -> Canvas:
    """The picture: a strip per case, from 1 to all regions split, coloured by the verdict.

    Args:
        name: Of the scenario.
        narrow: For a telephone: panels below each other instead of side by side.
        heading: Whether the verdict is written above it, for a picture that travels alone.
    """
    guests = list(dict.fromkeys(case.guest_page for case in found.cases))
    groups = _groups(found)
    n_rows = sum(map(len, groups.values()))
    block = n_rows * _ROW + len(groups) * _GAP + (len(groups) * 16 if narrow else 0)
    lines = _wrapped(found.verdict, 120, 11.5) if heading else []
    head = (42 + 16 * len(lines) if lines else 0) + (64 if narrow else 24)
    width = 360.0 if narrow else 860.0
    labels = _BOLD * max(text_width(case.cpu, _SMALL) for case in found.cases) + 12
    names = 0.0 if narrow else _BOLD * max(text_width(name, _SMALL) for name in groups) + 10
    height = head + (len(guests) * (block + 64) if narrow else block + 64) + (24 if heading else 4)
    canvas = Canvas((width, height), (0, 0, 0, 0))
    canvas.axes.set_axis_off()
    _write_heading(canvas, lines)
    if heading:
        canvas.text(2, 10, reading_of(found, name), fontsize=_SMALL)
    _write_key(canvas, found, height - head + (50 if narrow else 10), narrow)
    left = names + labels
    room = (width - left - 14) / (1 if narrow else len(guests))
    for i, guest in enumerate(guests):
        x = left if narrow else left + i * room
        top = height - head - 26 - (i * (block + 64) if narrow else 0)
        panel = _Panel(guest, x, x + room - (0 if narrow else 16), top)
        _draw_panel(canvas, found, panel, groups, block, narrow)
        if narrow or i == 0:
            _write_labels(canvas, found, panel, groups, narrow)
    return canvas


def reading_of(found: Splits, name: str) -> str:
    """How to read the picture."""
    return (
        f"Number in a strip: from how many regions on a verdict holds; line below it: by the high to the low estimate. "
        f"Framed: {name}, of which {found.n_hit:,} regions are hit."
    )


def _groups(found: Splits) -> dict[str, list[str]]:
    """CPUs under each access pattern, the pattern that matters first on top."""
    first: dict[str, float] = {}
    for case in found.cases:
        at = case.matters_from("all_4k") or 2 * case.n_regions
        first[case.access] = min(first.get(case.access, at), at)
    order = sorted(first, key=lambda name: first[name])
    return {name: list(dict.fromkeys(c.cpu for c in found.cases if c.access == name)) for name in order}


def _write_heading(canvas: Canvas, lines: Sequence[str]) -> None:
    if lines:
        y = canvas.size[1] - 18
        canvas.text(2, y, "When 2M beats 4K around a lost page, and when neither matters", fontsize=16, weight="bold")
        for i, line in enumerate(lines):
            canvas.text(2, y - 24 - 16 * i, line, fontsize=11.5)


def _write_key(canvas: Canvas, found: Splits, y: float, narrow: bool) -> None:
    per_cent = f"{100 * found.threshold:g} %"
    words = {
        NEITHER: f"neither matters: both cost under {per_cent}",
        FREE: "2M is better, and costs under that",
        COSTS: "2M is better, and costs more itself",
        ALIKE: "both cost more, alike",
        WORSE: "4K is better",
    }
    used = {zone.verdict for case in found.cases for zone in case.zones}
    x = 2.0
    for name, text in words.items():
        if name in used:
            _box(canvas, x, y - 6, 18, 12, ZONES[name].light)
            canvas.text(x + 23, y, text, fontsize=_SMALL)
            if narrow:
                y -= 17
            else:
                x += 23 + text_width(text, _SMALL) + 20


def _draw_panel(
    canvas: Canvas, found: Splits, panel: _Panel, groups: dict[str, list[str]], block: float, narrow: bool
) -> None:
    n = found.n_regions
    cases = {(case.access, case.cpu): case for case in found.cases if case.guest_page == panel.guest}
    canvas.text(panel.left, panel.top + 14, f"guest page {panel.guest}", weight="bold", fontsize=12)
    bottom = panel.top - block
    at, hit = _place(found.n_hit, n, panel), f"{found.n_hit:,} hit"
    canvas.line([at, at], [bottom + 2, panel.top], color=INK, linewidth=1.2, zorder=0)  # strips cover it
    for (access, cpu), y in _rows(groups, panel.top, narrow):
        _draw_strip(canvas, found, cases[access, cpu], panel, y)
    taken: list[tuple[float, float]] = []
    for tick in [found.n_hit, n, *(10**k for k in range(7) if 10**k < n)]:
        own = not taken
        words = hit if own else f"{tick:,}"
        width = text_width(words, _SMALL) * (_BOLD if own else 1)
        left = min(max(_place(tick, n, panel) - width / 2, panel.left), panel.right - width)
        if not any(left - 4 < high and low < left + width + 4 for low, high in taken):
            taken.append((left, left + width))
            looks = {"weight": "bold"} if own else {"alpha": 0.75}
            canvas.text(left + width / 2, bottom - 5, words, ha="center", fontsize=_SMALL, **looks)
    middle = (panel.left + panel.right) / 2
    canvas.text(middle, bottom - 22, "regions split (log)", ha="center", fontsize=_SMALL)


def _draw_strip(canvas: Canvas, found: Splits, case: Case, panel: _Panel, y: float) -> None:
    """One case: its zones, the number at which each begins, and how far the low and high estimates move that."""
    n = case.n_regions
    for zone in case.zones:
        left, right = _place(zone.first - (zone.first > 1) * 0.5, n, panel), _place(zone.last + 0.5, n, panel)
        right = min(right, panel.right)
        _box(canvas, left, y - _STRIP / 2, right - left, _STRIP, ZONES[zone.verdict].light)
        words = f"{zone.first:,}"
        if zone.first > 1 and text_width(words, 9.5) + 6 < right - left:
            colour = ON_DARK.light if zone.verdict in (COSTS, WORSE) else INK
            canvas.text(left + 3, y + 0.5, words, fontsize=9.5, colour=colour)
    for way in ("all_4k", "mixed"):
        early, late = case.matters_from(way, HIGH), case.matters_from(way, LOW)
        if early is not None:
            ends = _place(early, n, panel), panel.right if late is None else _place(late, n, panel)
            canvas.line(ends, [y - _STRIP / 2 - 1.7] * 2, color=INK, linewidth=1.4, solid_capstyle="butt", alpha=0.8)
    if case is found.own:
        frame = Rectangle(
            (panel.left - 2, y - _STRIP / 2 - 3.6), panel.right - panel.left + 4, _STRIP + 6, fill=False,
            edgecolor=INK, linewidth=1.6, transform=canvas.points,
        )  # fmt: skip
        canvas.figure.add_artist(frame)


def _write_labels(canvas: Canvas, found: Splits, panel: _Panel, groups: dict[str, list[str]], narrow: bool) -> None:
    told = set()
    for (access, cpu), y in _rows(groups, panel.top, narrow):
        own = found.own.access == access and found.own.cpu == cpu
        canvas.text(panel.left - 8, y, cpu, ha="right", fontsize=_SMALL, weight="bold" if own else "normal")
        if access not in told:
            where = (2.0, y + 17) if narrow else (2.0, y)
            canvas.text(*where, access, fontsize=_SMALL, weight="bold" if narrow or own else "normal")
            told.add(access)


def _rows(groups: dict[str, list[str]], top: float, narrow: bool) -> list[tuple[tuple[str, str], float]]:
    """Access pattern and CPU of each row, and its height."""
    found, y = [], top - _ROW / 2 + 2
    for access, cpus in groups.items():
        y -= 16 if narrow else 0
        for cpu in cpus:
            found.append(((access, cpu), y))
            y -= _ROW
        y -= _GAP
    return found


def _place(n_split: float, n_regions: int, panel: _Panel) -> float:
    return panel.left + (panel.right - panel.left) * log(max(n_split, 1)) / log(max(n_regions, 2))


def _box(canvas: Canvas, x: float, y: float, width: float, height: float, colour: str) -> None:
    canvas.figure.add_artist(Rectangle((x, y), width, height, facecolor=colour, linewidth=0, transform=canvas.points))


def _wrapped(text: str, most: int, size: float) -> list[str]:
    """Lines of about the picture's width."""
    import textwrap

    n = most
    while max(text_width(line, size) for line in textwrap.wrap(text, n)) > 850:
        n -= 4
    return textwrap.wrap(text, n)


def splits_png(found: Splits, name: str, command: str) -> bytes:
    """The picture as a PNG file that carries `command`.

    Examples:
        >>> import poisonsim as ps
        >>> splits_png(ps.splits("seed-1t", cpus=["zen5"], guest_pages=["4K"]), "seed-1t", "poisonsim splits")[1:4]
        b'PNG'
    """
    with fixed_settings():
        return splits_canvas(found, name=name, heading=True).png({"Title": "When 2M beats 4K", "Command": command})


def splits_svg(found: Splits, name: str) -> str:
    """The picture as an SVG file, the same bytes for the same cases.

    Examples:
        >>> import poisonsim as ps
        >>> splits_svg(ps.splits("seed-1t", cpus=["zen5"], guest_pages=["4K"]), "seed-1t").startswith("<?xml")
        True
    """
    with fixed_settings():
        figure = splits_canvas(found, name=name, heading=True).figure
        figure.set_facecolor(PAPER)
        out = io.BytesIO()
        FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None})  # type: ignore[no-untyped-call]
    return out.getvalue().decode("utf-8")


def splits_html(found: Splits, name: str, command: str) -> str:
    """A page with the verdict, the picture and the table.

    Args:
        name: Of the scenario.
        command: What the reader runs to get the same page.

    Examples:
        >>> import poisonsim as ps
        >>> html = splits_html(ps.splits("seed-1t", cpus=["zen5"], guest_pages=["4K"]), "seed-1t", "poisonsim splits")
        >>> html.startswith("<!DOCTYPE html>"), "https:" in html
        (True, False)
    """
    colours = [*ZONES.values(), ON_DARK]
    with fixed_settings():
        wide, narrow = (
            Markup(
                with_page_colours(splits_canvas(found, narrow=small).svg(f"splits-{css}", found.verdict, css), colours)
            )
            for css, small in (("wide", False), ("narrow", True))
        )
    return (
        environment()
        .get_template("splits.html")
        .render(
            name=name, found=found, colours=colours, wide=wide, narrow=narrow, heading=heading_of(found, name),
            header=header_of(found), rows=rows_of(found), notes=notes_of(found), command=command,
            reading=reading_of(found, name),
        )
    )  # fmt: skip
