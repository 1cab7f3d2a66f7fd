"""One drawing with one pair of axes, and how it leaves as SVG for the page or as PNG."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from markupsafe import escape
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.transforms import Affine2D

from poisonsim.report.scales import Linear, LogBytes, Scale, Ticks
from poisonsim.report.style import Style

INK = "#1d2329"
PAPER = "#ffffff"
TEXT_SIZE = 12.5
_PIXELS_PER_POINT = 2

_OWN_SETTINGS = {"font.family": ["DejaVu Sans"], "svg.fonttype": "none", "svg.hashsalt": "poisonsim"}


@contextmanager
def fixed_settings() -> Iterator[None]:
    """While it is entered, figures come out the same whatever the user's matplotlib settings are."""
    settings: dict[Any, Any] = {key: mpl.rcParamsDefault[key] for key in mpl.rcParamsDefault if "backend" not in key}
    settings |= _OWN_SETTINGS
    with warnings.catch_warnings(), mpl.rc_context(settings):
        # A scenario's title may hold letters that the font lacks; they are boxes in the PNG and right on the page.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font", category=UserWarning)
        yield


class Canvas:
    """A figure measured in points, whose artists can be switched by series.

    Args:
        size: Width and height in points.
        margins: Left, right, top and bottom of the axes, in points.

    Attributes:
        axes: The matplotlib axes.
        points: Transform from points, with the origin at the lower left of the figure.
        cut: Height at the top that only the heading takes, in points.
    """

    def __init__(self, size: tuple[float, float], margins: tuple[float, float, float, float]) -> None:
        (width, height), (left, right, top, bottom) = size, margins
        self.size = size
        self.figure = Figure((width / 72, height / 72), dpi=72)
        self.points = Affine2D().scale(1 / 72) + self.figure.dpi_scale_trans
        box = (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
        self.axes: Any = self.figure.add_axes(box, frameon=False)
        self.box = (left, bottom, width - right, height - top)
        self.cut = 0.0
        self._headings: list[Any] = []

    def set_axes(self, x: Scale, y: Scale, x_ticks: Ticks, y_ticks: Ticks) -> None:
        """Sets limits, ticks and grid; a dotted line parts the place of 0 from a logarithmic axis."""
        axes = self.axes
        axes.set_xlim(*x.limits)
        axes.set_ylim(*y.limits)
        axes.set_xticks(x_ticks.positions, x_ticks.texts, fontsize=TEXT_SIZE, color=INK)
        axes.set_yticks(y_ticks.positions, y_ticks.texts, fontsize=TEXT_SIZE, color=INK)
        axes.tick_params(length=0, pad=8)
        axes.grid(color=INK, alpha=0.13, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.axhline(y.limits[0], color=INK, alpha=0.55, linewidth=1, zorder=1)
        if isinstance(y, Linear) and y.limits[0] < 0:
            axes.axhline(0, color=INK, alpha=0.55, linewidth=1, zorder=1)
        breaks = {"color": INK, "alpha": 0.55, "linewidth": 1, "linestyle": (0, (1, 3)), "zorder": 1}
        for scale, line in ((x, axes.axvline), (y, axes.axhline)):
            if isinstance(scale, LogBytes) and scale.zero is not None:
                line((scale.zero + scale.first) / 2, **breaks)

    def text(
        self, x: float, y: float, words: str, *, series: int | None = None, colour: str = INK, **kwargs: Any
    ) -> None:
        """Writes `words` at a place in points, taken literally: no markup is understood in them."""
        self.figure.text(
            x, y, words, transform=self.points, color=colour, parse_math=False, gid=group(series),
            **{"fontsize": TEXT_SIZE, "va": "center", **kwargs},
        )  # fmt: skip

    def heading(self, words: str, drop: float, **kwargs: Any) -> None:
        """Writes a line of the heading so far below the top."""
        self.text(2, self.size[1] - drop, words, ha="left", **kwargs)
        self._headings.append(self.figure.texts[-1])

    def line(self, xs: Sequence[float], ys: Sequence[float], *, series: int | None = None, **kwargs: Any) -> None:
        """Draws a line between places in points."""
        line = mpl.lines.Line2D(xs, ys, transform=self.points, gid=group(series), **kwargs)
        self.figure.add_artist(line)

    def place(self, x: float, y: float) -> tuple[float, float]:
        """The place in points of a place in the axes' own units."""
        px, py = self.points.inverted().transform(self.axes.transData.transform((x, y)))
        return float(px), float(py)

    def svg(self, name: str, description: str, css_class: str) -> str:
        """The drawing as an `svg` element for an HTML page: text stays text, colours follow the page's.

        Its heading is cut off, since the page has it.

        Args:
            name: Makes the ids in it differ from those of other drawings on the page.
            description: What a screen reader says instead.
        """
        self._unclip()
        for text in self._headings:
            text.set_visible(False)
        FigureCanvasSVG(self.figure)
        out = io.StringIO()
        self.figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
        for text in self._headings:
            text.set_visible(True)
        inner = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", out.getvalue(), flags=re.DOTALL)
        inner = inner[inner.index(">", inner.index("<svg")) + 1 : inner.rindex("</svg>")]
        inner = re.sub(r'\bid="series-(\d+)"', r'data-series="\1"', inner)
        shared = set(re.findall(r'href="#([^"]+)"', inner))
        inner = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in shared else "", inner)
        inner = inner.replace('href="#', f'href="#{name}-')
        inner = re.sub(r' d="[^"]*"', lambda m: re.sub(r"(\.\d)\d+", r"\1", m[0]), inner)
        inner = re.sub(r"\n\s*", "\n", inner)
        width, height = self.size
        frame = f'class="{css_class}" viewBox="0 {self.cut:g} {width:g} {height - self.cut:g}"'
        return f'<svg {frame} role="img" aria-label="{escape(description)}">{inner}</svg>'

    def png(self, metadata: Mapping[str, str]) -> bytes:
        """The drawing on white as a PNG file, with `metadata` as text in it."""
        self._unclip()
        FigureCanvasAgg(self.figure)
        out = io.BytesIO()
        texts = {"Software": None, **metadata}
        self.figure.savefig(out, format="png", dpi=72 * _PIXELS_PER_POINT, facecolor=PAPER, metadata=texts)
        return out.getvalue()

    def _unclip(self) -> None:
        """Lets every artist draw past the axes' edge: limits hold all data, and markers on the edge stay whole."""
        for artist in self.figure.findobj():
            artist.set_clip_on(False)


def group(series: int | None) -> str | None:
    """Name of the SVG group of a series, which the page's script looks for."""
    return None if series is None else f"series-{series}"


def text_width(words: str, size: float = TEXT_SIZE) -> float:
    """Width in points of `words`."""
    font = FontProperties(family="DejaVu Sans", size=size)
    width, _, _ = text_to_path.get_text_width_height_descent(words, font, False)
    return float(width)


def line_style(style: Style) -> Any:
    """Matplotlib's spelling of a style's dashes."""
    return (0, style.dashes) if style.dashes else "-"


def with_page_colours(svg: str, policies: Sequence[Style]) -> str:
    """`svg` with the colours of the policies and of the text left to the page's style sheet."""
    names = {style.light: f"var(--{style.colour})" for style in policies} | {INK: "currentColor"}
    pattern = re.compile("|".join(map(re.escape, names)))
    return re.sub(r'style="[^"]*"', lambda m: pattern.sub(lambda c: names[c[0]], m[0]), svg)
