"""The picture of when a region mapped with 2M beats one mapped with 4K."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from poisonsim.translation.sensitivity import MATTERS, Choice

_COLOURS = {"all 4K": "#b5482f", "2M + 4K": "#2f6fb5"}


def splits_figure(rows: Sequence[Choice]) -> Figure:
    """Run time lost over regions split, a panel per CPU and guest page, a line style per access pattern.

    Lines are mid estimates; below the grey band's upper edge a loss does not matter.

    Args:
        rows: What `choices` found.

    Raises:
        ValueError: No rows.

    Examples:
        >>> from poisonsim.translation import Uniform
        >>> from poisonsim.translation.sensitivity import choices
        >>> len(splits_figure(choices(["zen5"], ["1G", "2M"], {"uniform": Uniform()}, (1, 100))).axes)
        2
    """
    if not rows:
        raise ValueError("no rows to draw; pass what choices() returned")
    cpus, guests, patterns = (
        list(dict.fromkeys(getattr(r, k) for r in rows)) for k in ("cpu", "guest_page", "pattern")
    )
    styles = dict(zip(patterns, ("-", "--", "-.", ":") * len(patterns), strict=False))
    figure = Figure(figsize=(1.5 + 2.6 * len(cpus), 1.2 + 2.1 * len(guests)), layout="constrained")
    panels = figure.subplots(len(guests), len(cpus), sharex=True, sharey=True, squeeze=False)
    for i, guest in enumerate(guests):
        for j, cpu in enumerate(cpus):
            panel = panels[i][j]
            panel.axhspan(1e-3, 100 * MATTERS, color="0.93", lw=0)
            for pattern in patterns:
                mine = [row for row in rows if (row.cpu, row.guest_page, row.pattern) == (cpu, guest, pattern)]
                n = [row.n_split for row in mine]
                for label, bands in (
                    ("all 4K", [row.all_4k for row in mine]),
                    ("2M + 4K", [row.mixed for row in mine]),
                ):
                    losses = [max(100 * (band.mid - 1), 1e-3) for band in bands]
                    panel.plot(n, losses, styles[pattern], color=_COLOURS[label], lw=1.3, label=f"{label}, {pattern}")
            panel.set(xscale="log", yscale="log", ylim=(1e-3, 1e3))
            if i == 0:
                panel.set_title(cpu, fontsize=9)
            if j == 0:
                panel.set_ylabel(f"guest {guest}\nrun time lost, %", fontsize=8)
            if i == len(guests) - 1:
                panel.set_xlabel("regions split, of 1024", fontsize=8)
            panel.tick_params(labelsize=7)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), fontsize=7, frameon=False)
    return figure


def splits_svg(rows: Sequence[Choice]) -> str:
    """The picture as SVG, the same bytes for the same rows.

    Examples:
        >>> from poisonsim.translation import Uniform
        >>> from poisonsim.translation.sensitivity import choices
        >>> splits_svg(choices(["zen5"], ["1G"], {"uniform": Uniform()}, (1, 100))).startswith("<?xml")
        True
    """
    import matplotlib

    figure = splits_figure(rows)
    with matplotlib.rc_context({"svg.hashsalt": "poisonsim"}):
        out = io.BytesIO()
        FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None})  # type: ignore[no-untyped-call]
    return out.getvalue().decode("utf-8")
