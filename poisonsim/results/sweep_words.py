"""A sweep in words: what its points have in common, which policy is best where, and where one overtakes another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, combinations_with_replacement, product
from math import prod

import numpy as np

from poisonsim.results.numbers import listed
from poisonsim.results.sweep import SAME_ERRORS_KEYS, Sweep
from poisonsim.results.sweep_findings import clearly_best, crossovers, number_at
from poisonsim.results.sweep_grid import Settings, is_parameter, settings_text, spelled
from poisonsim.units import format_bytes

_MOST_NAMED = 3
_MOST_TOLD = 12
_MOST_BOXES = 20_000  # parts of a grid that are tried
_MOST_SUBSETS = 6  # values of a key that are no numbers, any of which make a group


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
    """Which policies have the best mean at which points, where that is clear.

    Examples:
        >>> import poisonsim as ps
        >>> over = {"faults.errors": [1, 10, 30], "host.spares": [0, 4]}
        >>> found = ps.sweep("seed-1t-distinct", over=over, policies=["unmap1g", "migrate1g"], trials=100)
        >>> print(best_where(found, "capacity_cost_bytes", None))
        all alike at faults.errors from 10 on and at host.spares=0; unmap1g at faults.errors=1 with host.spares=4
    """
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
    return "all alike" if len(policies) == n_policies else listed(policies)


def _points(found: Sweep, at: list[int]) -> str:
    """Points in words: all, or ranges of the keys, the widest first."""
    if len(at) == len(found.points):
        return "at every point" if len(at) > 1 else "there"
    steps = {key: in_order(found, key) for key, values in found.over.items() if len(values) > 1}
    ranges = [list(_ranges(key, values)) for key, values in steps.items()]
    places = {key: {text: place for place, (text, _) in enumerate(values)} for key, values in steps.items()}
    if prod(map(len, ranges)) > _MOST_BOXES:
        named = tuple(settings_text(found.points[i].settings) for i in at[:_MOST_NAMED])
        return f"at {listed((*named, *([f'{len(at) - _MOST_NAMED} more'] if len(at) > _MOST_NAMED else [])))}"
    wanted = np.zeros([len(values) for values in steps.values()], bool)
    for i in at:
        wanted[tuple(place[spelled(found.points[i].settings[key])] for key, place in places.items())] = True
    told: list[str] = []
    left = wanted.copy()
    boxes = [box for box in product(*ranges) if wanted[np.ix_(*(one for one, _ in box))].all()]
    while left.any() and len(told) < _MOST_NAMED:
        cells = [np.ix_(*(one for one, _ in box)) for box in boxes]
        best = max(range(len(boxes)), key=lambda b: (left[cells[b]].sum(), wanted[cells[b]].size))
        left[cells[best]] = False
        first, *others = filter(None, (words for _, words in boxes[best]))
        told.append(f"at {first}{' with ' if others else ''}{' and '.join(others)}")
    more = int(left.sum())
    return listed((*told, *([f"at {more} more point{'s' if more > 1 else ''}"] if more else [])))


def in_order(found: Sweep, key: str) -> list[tuple[str, float | None]]:
    """Values of a key, spelled and as numbers; by size where all are numbers."""
    numbers: dict[str, float | None] = {}
    for point in found.points:
        numbers.setdefault(spelled(point.settings[key]), number_at(point, key))
    if None in numbers.values():
        return [(text, None) for text in numbers]
    return sorted(numbers.items(), key=lambda item: item[1] or 0.0)


def _ranges(key: str, values: Sequence[tuple[str, float | None]]) -> Iterator[tuple[list[int], str]]:
    """Ranges of a key that can be said in words: places of its values, and the words; none for all of them."""
    n, numbers = len(values), values[0][1] is not None
    if not numbers and n <= _MOST_SUBSETS:
        for size in range(n, 0, -1):
            for some in combinations(range(n), size):
                yield list(some), "" if size == n else f"{key}={'|'.join(values[i][0] for i in some)}"
        return
    for first, last in combinations_with_replacement(range(n), 2):
        low, high = values[first][0], values[last][0]
        words = "" if (first, last) == (0, n - 1) else f"{key}={low}" if first == last else f"{key}={low} to {high}"
        if numbers and first < last and words:
            words = f"{key} up to {high}" if first == 0 else f"{key} from {low} on" if last == n - 1 else words
        yield list(range(first, last + 1)), words


def overtakings(
    found: Sweep, metrics: Sequence[str], year: float | None, *, called: Callable[[str], str] = str
) -> list[str]:
    """Where policies change places by each metric; the same place along other keys is told once.

    Args:
        called: What to call a metric; default its name.

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
            place = f"on {called(metric)} between {c.key}={c.low} and {c.high}"
            pairs.setdefault((place, c.overtaken, c.policy), []).append(c.settings)
    # Those that overtake the same one at the same place are told together, then those overtaken by the same.
    better: dict[tuple[str, str], list[str]] = {}
    for (place, overtaken, policy), where in pairs.items():
        better.setdefault((f"{place}{_elsewhere(found, where)}", overtaken), []).append(policy)
    told: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (place, overtaken), names in better.items():
        told.setdefault((place, tuple(names)), []).append(overtaken)
    lines = [
        f"{listed(names)} {'overtake' if names[1:] else 'overtakes'} {listed(tuple(worse))} {place}"
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
