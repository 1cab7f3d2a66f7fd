"""How well simple laws fit a log, as one drawing: hosts by their number of errors, and times of incidents."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import kstwobign

from poisonsim.report.canvas import INK, PAPER, fixed_settings
from poisonsim.report.style import SHIPPED

if TYPE_CHECKING:
    from poisonsim.fitting.fit import Fit

_SEEN, _ALIKE, _DIFFERING = (SHIPPED[name].light for name in ("unmap1g", "hgm4k", "hgm2m"))
_LEAST = 0.05


def fit_png(found: Fit) -> bytes:
    """The goodness of a fit as a PNG file; what the log cannot show is said in its place.

    Left, hosts by their number of uncorrected errors, and what two laws expect. Right, each incident's place in the
    window against that at a constant rate, with the band that holds all of them in 95 % of logs.
    """
    with fixed_settings():
        figure = Figure((11, 4.6), dpi=144, facecolor=PAPER)
        FigureCanvasAgg(figure)
        hosts, times = figure.subplots(1, 2)
        _draw_hosts(hosts, found)
        _draw_times(times, found)
        for axes in (hosts, times):
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(colors=INK)
        figure.tight_layout()
        out = io.BytesIO()
        figure.savefig(out, format="png", metadata={"Software": None, "Title": "Goodness of a fit to a log"})
    return out.getvalue()


def _draw_hosts(axes: Any, found: Fit) -> None:
    what = "UEs" if found.model == "rate" else "incidents"
    axes.set_title(f"Hosts by their number of {what}", color=INK)
    rows = found.hosts_by_number()
    if not rows:
        _say(axes, "nobody says how many hosts have none" if found.errors.total else "there is no UE")
        return
    place = np.arange(len(rows))
    axes.bar(place, [max(row["seen"], 0) for row in rows], 0.55, color=_SEEN, label="seen")
    for key, colour, marker, label in (
        ("alike", _ALIKE, "^", "were all hosts alike (Poisson)"),
        ("differing", _DIFFERING, "s", "as they differ (negative binomial)"),
    ):
        expected = [max(row[key], _LEAST) for row in rows]
        axes.plot(place, expected, marker=marker, color=colour, linestyle=":", label=label)
    axes.set_yscale("log")
    axes.set_ylim(_LEAST, 30 * max(max(row["seen"], row["alike"], row["differing"]) for row in rows))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xticks(place, [f"{row['events']}{'+' if row['or_more'] else ''}" for row in rows])
    axes.set_xlabel(f"{what} of a host")
    axes.set_ylabel("hosts")
    axes.legend(frameon=False, loc="upper right")


def _draw_times(axes: Any, found: Fit) -> None:
    axes.set_title("When incidents came", color=INK)
    rows = found.quantiles()
    if not rows:
        _say(axes, "no incident has a known time")
        return
    even = np.array([row["even"] for row in rows])
    half = float(kstwobign.ppf(0.95)) / np.sqrt(len(rows))
    axes.fill_between([0, 1], [-half, 1 - half], [half, 1 + half], color=_SEEN, alpha=0.15, linewidth=0)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1)
    axes.plot(even, [row["seen"] for row in rows], ".", color=_DIFFERING)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("part of the window, at a constant rate")
    axes.set_ylabel("part of the window, seen")


def _say(axes: Any, words: str) -> None:
    axes.text(0.5, 0.5, words, ha="center", va="center", transform=axes.transAxes, color=INK, parse_math=False)
    axes.set_xticks([])
    axes.set_yticks([])
