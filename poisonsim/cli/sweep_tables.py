"""The terminal summary of a sweep: one table of all points, and what can be said of it for sure."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from math import prod

import typer

from poisonsim.cli.common import WIDTH, print_table
from poisonsim.results.metric_words import TITLES, value_text
from poisonsim.results.metrics import known_metric
from poisonsim.results.sweep import SAME_ERRORS_KEYS, Sweep
from poisonsim.results.sweep_findings import clearly_lowest, crossovers
from poisonsim.results.sweep_grid import Settings, is_parameter, settings_text, spelled
from poisonsim.units import format_bytes

_MOST_NAMED = 3
_MOST_TOLD = 12


def print_sweep(found: Sweep, name: str, metrics: Sequence[str], year: float | None) -> None:
    """One table of all points and policies, and what can be said of it for sure."""
    typer.echo(f"{name}: {_what(found)}\n")
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
    lines = _errors_shared(found)
    alike = [policy for policy in found.policies if len(cells[policy]) == 1]
    if alike and len(found.points) > 1:
        lines.append(f"the same at every point, as far as shown: {', '.join(alike)}")
    if len(found.policies) > 1:
        lines.append(f"loses the least guest memory: {_lowest(found, 'guest_lost_bytes', year)}")
        lines.append(f"costs the host least: {_lowest(found, 'capacity_cost_bytes', year)}")
        lines += _overtakings(found, metrics, year)
    if lines:
        typer.echo("")
    for line in lines:
        typer.echo(textwrap.fill(line, width=WIDTH, subsequent_indent="  ", break_on_hyphens=False))


def _what(found: Sweep) -> str:
    """What the points have in common, in words."""
    vm, n_points = found.scenario.vm, len(found.points)
    common = {
        "vm.memory": f"{format_bytes(vm.memory_bytes)} VM", "vm.backing": f"{vm.backing} pages",
        "horizon.years": f"{found.scenario.horizon.years:g} years",
    }  # fmt: skip
    n_trials = sorted({result.n_trials for _, result in found.points})
    trials = " to ".join(f"{n:,}" for n in dict.fromkeys((n_trials[0], n_trials[-1])))
    points = f"{n_points} point{'s' if n_points > 1 else ''} of {trials} trial{'s' if n_trials[-1] > 1 else ''}"
    words = [text for key, text in common.items() if key not in found.over]
    return ", ".join([*words, points, f"seed {found.points[0].result.plan.seed}"])


def _errors_shared(found: Sweep) -> list[str]:
    """Which points see the very same errors."""
    same = [key for key in found.over if key in SAME_ERRORS_KEYS or is_parameter(key)]
    if len(found.points) == 1 or not same:
        return []
    if len(same) == len(found.over):
        return ["all points see the same errors"]
    return [f"points that differ in {' and '.join(same)} only see the same errors"]


def _lowest(found: Sweep, metric: str, year: float | None) -> str:
    """Which policies have the lowest mean at which points, where that is clear."""
    where: dict[tuple[str, ...], list[int]] = {}
    for i, (_, result) in enumerate(found.points):
        names = dict(zip(result.policies, found.policies, strict=True))
        where.setdefault(tuple(names[label] for label in clearly_lowest(result, metric, year)), []).append(i)
    unclear = where.pop((), [])
    clauses = [f"{_joined(policies, len(found.policies))} {_points(found, at)}" for policies, at in where.items()]
    if unclear:
        clauses.append(f"not clear {_points(found, unclear)}")
    return "; ".join(clauses)


def _joined(policies: tuple[str, ...], n_policies: int) -> str:
    if len(policies) == n_policies:
        return "all alike"
    return " and ".join(filter(None, (", ".join(policies[:-1]), policies[-1])))


def _points(found: Sweep, at: list[int]) -> str:
    """Points in words: all, a part of the grid, or the first few by name."""
    if len(at) == len(found.points):
        return "at every point" if len(at) > 1 else "there"
    used = {key: list(dict.fromkeys(spelled(found.points[i].settings[key]) for i in at)) for key in found.over}
    if prod(len(values) for values in used.values()) == len(at):
        parts = [f"{key}={'|'.join(values)}" for key, values in used.items() if len(values) < len(found.over[key])]
        return f"at {' '.join(parts)}"
    named = ", ".join(settings_text(found.points[i].settings) for i in at[:_MOST_NAMED])
    more = len(at) - _MOST_NAMED
    return f"at {named}{f' and {more} more' if more > 0 else ''}"


def _overtakings(found: Sweep, metrics: Sequence[str], year: float | None) -> list[str]:
    """Where policies change places by the metrics that are shown; the same place along other keys is told once."""
    told: dict[str, list[Settings]] = {}
    for metric in metrics:
        for crossing in crossovers(found, metric, year):
            told.setdefault(str(replace(crossing, settings={})), []).append(crossing.settings)
    lines = []
    for text, where in list(told.items())[:_MOST_TOLD]:
        n_others = prod(len(found.over[key]) for key in where[0])
        named = ", ".join(settings_text(settings) for settings in where[:_MOST_NAMED])
        more = f" and {len(where) - _MOST_NAMED} more" if len(where) > _MOST_NAMED else ""
        lines.append(text if len(where) == n_others else f"{text}, at {named}{more}")
    left = len(told) - _MOST_TOLD
    return [*lines, *([f"and {left} more such places"] if left > 0 else [])]
