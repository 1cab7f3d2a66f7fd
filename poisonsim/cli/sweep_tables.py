"""The terminal summary of a sweep: one table of all points, and what can be said of it for sure."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import typer

from poisonsim.cli.common import WIDTH, print_table
from poisonsim.results.metric_words import TITLES, value_text
from poisonsim.results.metrics import known_metric
from poisonsim.results.sweep import Sweep
from poisonsim.results.sweep_grid import spelled
from poisonsim.results.sweep_words import best_where, errors_shared, in_common, overtakings


def _idle_keys(found: Sweep, cells: Mapping[tuple[str, ...], tuple[str, ...]]) -> list[int]:
    """Places of the keys of several values that change nothing of what a policy's rows show."""
    idle = []
    for k, values in enumerate(found.over.values()):
        apart = {(point[:k], point[k + 1 :], shown) for point, shown in cells.items()}
        if len(values) > 1 and len(apart) * len(values) == len(cells):
            idle.append(k)
    return idle


def print_sweep(found: Sweep, name: str, metrics: Sequence[str], year: float | None) -> None:
    """One table of all points and policies, and what can be said of it for sure."""
    typer.echo(f"{name}: {in_common(found)}\n")
    header = [*found.over, "policy", *(TITLES.get(metric, metric) for metric in metrics)]
    rows, above = [], [""] * len(found.over)
    cells: dict[str, dict[tuple[str, ...], tuple[str, ...]]] = {policy: {} for policy in found.policies}
    for settings, result in found.points:
        point = tuple(spelled(value) for value in settings.values())
        for label, policy in zip(result.policies, found.policies, strict=True):
            cells[policy][point] = tuple(
                value_text(known_metric(metric, result.metrics), result.mean(label, metric, year)) for metric in metrics
            )
    idle = {policy: _idle_keys(found, own) for policy, own in cells.items()}
    n_moving = sum(len(values) > 1 for values in found.over.values())
    first = [spelled(values[0]) for values in found.over.values()]
    for settings, _ in found.points:
        values = [spelled(value) for value in settings.values()]
        for policy in found.policies:
            if n_moving > 1 and any(values[k] != first[k] for k in idle[policy]):
                continue
            differs = next(
                (i for i, pair in enumerate(zip(values, above, strict=True)) if pair[0] != pair[1]), len(values)
            )
            rows.append([*[""] * differs, *values[differs:], policy, *cells[policy][tuple(values)]])
            above = values
    print_table(header, rows, right=len(found.over) + 1)
    when = f"in year {year:g}" if year is not None else "at the end of the horizon"
    typer.echo(f"means {when}, with 95 % intervals; every metric and year is in sweep.csv")
    lines = errors_shared(found)
    alike: dict[str, list[str]] = {}
    for policy, keys in idle.items():
        if keys:
            of = "point" if len(keys) == n_moving else " and ".join(list(found.over)[k] for k in keys)
            alike.setdefault(of, []).append(policy)
    once = ", and listed at the first only" if n_moving > 1 else ""
    lines += [f"the same at every {of}, as far as shown{once}: {', '.join(names)}" for of, names in alike.items()]
    if len(found.policies) > 1:
        lines.append(f"loses the least guest memory: {best_where(found, 'guest_lost_bytes', year)}")
        lines.append(f"costs the host least: {best_where(found, 'capacity_cost_bytes', year)}")
        lines += overtakings(found, metrics, year)
    if lines:
        typer.echo("")
    for line in lines:
        typer.echo(textwrap.fill(line, width=WIDTH, subsequent_indent="  ", break_on_hyphens=False))
