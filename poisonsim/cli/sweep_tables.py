"""The terminal summary of a sweep: one table of all points, and what can be said of it for sure."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import typer

from poisonsim.cli.common import WIDTH, print_table
from poisonsim.results.metric_words import TITLES, value_text
from poisonsim.results.metrics import known_metric
from poisonsim.results.sweep import Sweep
from poisonsim.results.sweep_grid import spelled
from poisonsim.results.sweep_words import best_where, errors_shared, in_common, overtakings


def print_sweep(found: Sweep, name: str, metrics: Sequence[str], year: float | None) -> None:
    """One table of all points and policies, and what can be said of it for sure."""
    typer.echo(f"{name}: {in_common(found)}\n")
    header = [*found.over, "policy", *(TITLES.get(metric, metric) for metric in metrics)]
    rows, above = [], [""] * len(found.over)
    cells: dict[str, set[tuple[str, ...]]] = {}
    for settings, result in found.points:
        values = [spelled(value) for value in settings.values()]
        for label, policy in zip(result.policies, found.policies, strict=True):
            differs = next(
                (i for i, pair in enumerate(zip(values, above, strict=True)) if pair[0] != pair[1]), len(values)
            )
            shown = [
                value_text(known_metric(metric, result.metrics), result.mean(label, metric, year)) for metric in metrics
            ]
            rows.append([*[""] * differs, *values[differs:], policy, *shown])
            cells.setdefault(policy, set()).add(tuple(shown))
            above = values
    print_table(header, rows, right=len(found.over) + 1)
    when = f"in year {year:g}" if year is not None else "at the end of the horizon"
    typer.echo(f"means {when}, with 95 % intervals; every metric and year is in sweep.csv")
    lines = errors_shared(found)
    alike = [policy for policy in found.policies if len(cells[policy]) == 1]
    if alike and len(found.points) > 1:
        lines.append(f"the same at every point, as far as shown: {', '.join(alike)}")
    if len(found.policies) > 1:
        lines.append(f"loses the least guest memory: {best_where(found, 'guest_lost_bytes', year)}")
        lines.append(f"costs the host least: {best_where(found, 'capacity_cost_bytes', year)}")
        lines += overtakings(found, metrics, year)
    if lines:
        typer.echo("")
    for line in lines:
        typer.echo(textwrap.fill(line, width=WIDTH, subsequent_indent="  ", break_on_hyphens=False))
