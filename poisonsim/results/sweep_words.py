"""A sweep in words: what its points have in common, which policy is best where, and where one overtakes another."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from poisonsim.results.sweep import SAME_ERRORS_KEYS, Sweep
from poisonsim.results.sweep_findings import clearly_best, crossovers
from poisonsim.results.sweep_grid import Settings, is_parameter, settings_text, spelled
from poisonsim.units import format_bytes

_MOST_NAMED = 3
_MOST_TOLD = 12


def in_common(found: Sweep) -> str:
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


def errors_shared(found: Sweep) -> list[str]:
    """Which points see the very same errors."""
    same = [key for key in found.over if key in SAME_ERRORS_KEYS or is_parameter(key)]
    if len(found.points) == 1 or not same:
        return []
    if len(same) == len(found.over):
        return ["all points see the same errors"]
    return [f"points that differ in {' and '.join(same)} only see the same errors"]


def best_where(found: Sweep, metric: str, year: float | None) -> str:
    """Which policies have the best mean at which points, where that is clear."""
    where: dict[tuple[str, ...], list[int]] = {}
    for i, (_, result) in enumerate(found.points):
        names = dict(zip(result.policies, found.policies, strict=True))
        where.setdefault(tuple(names[label] for label in clearly_best(result, metric, year)), []).append(i)
    unclear = where.pop((), [])
    clauses = [f"{_joined(policies, len(found.policies))} {_points(found, at)}" for policies, at in where.items()]
    if unclear:
        clauses.append(f"not clear {_points(found, unclear)}")
    return "; ".join(clauses)


def _joined(policies: tuple[str, ...], n_policies: int) -> str:
    return "all alike" if len(policies) == n_policies else _listed(policies)


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


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


def overtakings(found: Sweep, metrics: Sequence[str], year: float | None) -> list[str]:
    """Where policies change places by each metric; the same place along other keys is told once.

    Examples:
        >>> import poisonsim as ps
        >>> over = {"faults.errors": [1, 10, 100]}
        >>> found = ps.sweep("seed-1t-distinct", over=over, policies=["unmap1g", "hgm4k", "hgm2m"], trials=1000)
        >>> overtakings(found, ["capacity_cost_bytes"], None)
        ['hgm4k and hgm2m overtake unmap1g on capacity_cost_bytes between faults.errors=10 and 100']
    """
    pairs: dict[tuple[str, str, str], list[Settings]] = {}
    for metric in metrics:
        for c in crossovers(found, metric, year):
            place = f"on {metric} between {c.key}={c.low} and {c.high}"
            pairs.setdefault((place, c.overtaken, c.policy), []).append(c.settings)
    # Those that overtake the same one at the same place are told together, then those overtaken by the same.
    better: dict[tuple[str, str], list[str]] = {}
    for (place, overtaken, policy), where in pairs.items():
        better.setdefault((f"{place}{_elsewhere(found, where)}", overtaken), []).append(policy)
    told: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (place, overtaken), names in better.items():
        told.setdefault((place, tuple(names)), []).append(overtaken)
    lines = [
        f"{_listed(names)} {'overtake' if names[1:] else 'overtakes'} {_listed(tuple(worse))} {place}"
        for (place, names), worse in told.items()
    ]
    left = len(lines) - _MOST_TOLD
    return [*lines[:_MOST_TOLD], *([f"and {left} more such places"] if left > 0 else [])]


def _elsewhere(found: Sweep, where: Sequence[Settings]) -> str:
    """At which values of the other keys something is so; empty where at all of them."""
    if len(where) == prod(len(found.over[key]) for key in where[0]):
        return ""
    named = ", ".join(settings_text(settings) for settings in where[:_MOST_NAMED])
    return f", at {named}{f' and {len(where) - _MOST_NAMED} more' if len(where) > _MOST_NAMED else ''}"
