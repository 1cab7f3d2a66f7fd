"""The page of a sweep: which policy is best where, where one overtakes another, and every point in tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import shorten

from poisonsim.engine.store import write_whole
from poisonsim.report.assumptions import software, title_of
from poisonsim.report.canvas import fixed_settings
from poisonsim.report.page import colours_of, environment, policy_text
from poisonsim.report.picture import Pen
from poisonsim.report.style import styles
from poisonsim.report.swept_pictures import in_sentence, registered, sweep_pictures, when_in
from poisonsim.report.verdict import heading
from poisonsim.results.metric_words import value_text
from poisonsim.results.metrics import known_metric
from poisonsim.results.numbers import listed
from poisonsim.results.sweep import Sweep
from poisonsim.results.sweep_findings import clearly_best
from poisonsim.results.sweep_grid import spelled
from poisonsim.results.sweep_words import best_where, errors_shared, in_common

SWEEP_PAGE = "sweep.html"


@dataclass(frozen=True)
class PointCell:
    """A policy's mean at one point in a table, and whether it is clearly the best there."""

    words: str
    best: bool


@dataclass(frozen=True)
class PointTable:
    """One metric at every point: values of the keys, then a cell for each policy."""

    title: str
    rows: list[tuple[list[str], list[PointCell]]]


def write_sweep(
    found: Sweep, folder: Path, *, metrics: Sequence[str], year: float | None = None, command: str, sweep_id: str
) -> Path:
    """Writes `sweep.html` and a PNG per figure into `folder`; returns the page's path. See `render_sweep`.

    Raises:
        RunFolderError: The folder cannot be written.
    """
    html, images = render_sweep(found, metrics=metrics, year=year, command=command, sweep_id=sweep_id)
    remove_sweep_page(folder)
    for name, data in images.items():
        write_whole(folder / name, data)
    write_whole(folder / SWEEP_PAGE, html.encode())
    return folder / SWEEP_PAGE


def remove_sweep_page(folder: Path) -> None:
    """Removes the page and its pictures from a sweep folder, where it has them."""
    for path in (folder / SWEEP_PAGE, *folder.glob("sweep-*.png")):
        path.unlink(missing_ok=True)


def render_sweep(
    found: Sweep, *, metrics: Sequence[str], year: float | None = None, command: str, sweep_id: str
) -> tuple[str, dict[str, bytes]]:
    """The page as text, and the PNG files by name; the same bytes every time.

    A sweep over one key is drawn as lines or, where its values are no numbers, as marks; one over two keys as a map.
    With more keys there is a map of the last two for all values of the others, as far as these are few.

    Args:
        metrics: What is drawn, one figure each.
        year: A whole year of the run; default the end of the horizon.
        command: What the reader runs to get the same sweep.

    Examples:
        >>> import poisonsim as ps
        >>> over = {"faults.errors": [1, 10], "host.spares": [0, 4]}
        >>> found = ps.sweep("seed-1t-distinct", over=over, policies=["unmap1g", "migrate1g"], trials=1000)
        >>> html, images = render_sweep(found, metrics=["capacity_cost_bytes"], command="x", sweep_id="0" * 64)
        >>> "migrate1g" in html, list(images)
        (True, ['sweep-capacity_cost_bytes.png'])
    """
    looks = styles(found.policies)
    title = f"Sweep over {listed(list(found.over))}"
    base = title_of(found.scenario)
    provenance = {"Command": command, "Sweep-Id": sweep_id, "Seed": str(found.points[0].result.plan.seed)}
    pen = Pen(looks, f"{shorten(f'{title}, from: {base}', 100, placeholder=' …')} · sweep {sweep_id[:12]}", provenance)
    with fixed_settings():
        drawn, refused = sweep_pictures(found, metrics, year, looks, pen)
    policies = [
        policy_text(str(p), replace(compiled, label=label), look)
        for p, (compiled, label, look) in enumerate(
            zip(found.points[0].result.plan.policies, found.policies, looks, strict=True)
        )
    ]
    html = environment().get_template("sweep.html").render(
        title=title,
        colours=colours_of(looks),
        policies=policies,
        facts=[
            ("Swept from the scenario", base),
            ("In common", in_common(found)),
            *((key, ", ".join(map(spelled, values))) for key, values in found.over.items()),
        ],
        findings=_findings(found, metrics, year),
        refused=refused,
        pictures=drawn,
        keys=list(found.over),
        tables=[_table(found, metric, year) for metric in metrics],
        when=when_in(found, year),
        command=command,
        seed=provenance["Seed"],
        sweep_id=sweep_id,
        software=software(),
    )  # fmt: skip
    return html, {f"{picture.name}.png": picture.png for picture in drawn}


def _findings(found: Sweep, metrics: Sequence[str], year: float | None) -> list[str]:
    """What can be said of the whole sweep for sure, a line each."""
    if len(found.policies) == 1:
        return ["There is one policy only: name a second one to see which is better where.", *errors_shared(found)]
    best = [
        f"Best by {in_sentence(metric)}: {best_where(found, metric, year)}"
        for metric in metrics
        if registered(found, metric).better != "-"
    ]
    return [*best, *errors_shared(found)]


def _table(found: Sweep, metric: str, year: float | None) -> PointTable:
    rows = []
    for settings, result in found.points:
        best, known = clearly_best(result, metric, year), known_metric(metric, result.metrics)
        differ = len(best) < len(result.policies)
        cells = [
            PointCell(value_text(known, result.mean(label, metric, year)), differ and label in best)
            for label in result.policies
        ]
        rows.append(([spelled(value) for value in settings.values()], cells))
    return PointTable(f"{heading(metric)} ({metric}): {registered(found, metric).definition}", rows)
