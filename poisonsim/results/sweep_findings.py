"""What a sweep tells: which policy is best where, and where one overtakes another."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from poisonsim.engine.state import ERRORS
from poisonsim.faults.arrivals import arrivals_of
from poisonsim.results.enough import TAIL_TRIALS
from poisonsim.results.metric_words import clear_sign, faster, tied
from poisonsim.results.metrics import known_metric
from poisonsim.results.result import Result
from poisonsim.results.sweep import Sweep, SweepPoint
from poisonsim.results.sweep_grid import Settings, is_parameter, settings_text, spelled


@dataclass(frozen=True)
class Crossover:
    """Where one policy becomes better than another as a swept value grows.

    Attributes:
        key: The swept key.
        low, high: The values between which it happens, as `--over` spells them: the other is clearly better at `low`
            and below, this one at `high` and above, up to the next crossover.
        settings: Values of the other swept keys.
    """

    key: str
    metric: str
    policy: str
    overtaken: str
    low: str
    high: str
    settings: Settings

    def __str__(self) -> str:
        where = f", at {settings_text(self.settings)}" if self.settings else ""
        return (
            f"{self.policy} overtakes {self.overtaken} on {self.metric} between {self.key}={self.low} and "
            f"{self.high}{where}"
        )


def crossovers(found: Sweep, metric: str, year: float | None = None) -> tuple[Crossover, ...]:
    """Where policies change places by the mean of a metric, along each key whose values are numbers.

    Only clear differences count, paired trial by trial, at 95 % each, and of shares those of 0.01 points and more,
    of slowdowns those of 0.05; where some in between are not clear, the stretch is that much longer.

    Raises:
        MetricError: No such metric, or a year at which policies are not compared.

    Examples:
        >>> import poisonsim as ps
        >>> over = {"faults.errors": [1, 10, 100]}
        >>> found = ps.sweep("seed-1t-distinct", over=over, policies=["unmap1g", "hgm2m"], trials=1000)
        >>> print(*crossovers(found, "capacity_cost_bytes"), sep="\\n")
        hgm2m overtakes unmap1g on capacity_cost_bytes between faults.errors=10 and 100
    """
    higher = known_metric(metric, found.points[0].result.metrics).better == "higher"
    lines: list[Crossover] = []
    for key in found.over:
        for others, points in _along(found, key):
            signs = [_signs(point.result, metric, year) for point in points]
            for pair in combinations(range(len(found.policies)), 2):
                clear = [(place, sign[pair]) for place, sign in enumerate(signs) if sign[pair]]
                for (before, was), (after, now) in zip(clear, clear[1:], strict=False):
                    if was != now:
                        first_wins = (now < 0) != higher
                        better, worse = pair if first_wins else pair[::-1]
                        low, high = (spelled(points[i].settings[key]) for i in (before, after))
                        names = found.policies[better], found.policies[worse]
                        lines.append(Crossover(key, metric, *names, low, high, others))
    return tuple(lines)


def clearly_best(result: Result, metric: str, year: float | None = None) -> tuple[str, ...]:
    """Policies whose mean of a metric is better than that of all others, paired trial by trial, at 95 % each.

    Those that never differ, or in shares by less than 0.01 points, in slowdown by less than 0.05, are best together. A
    slowdown below 0 is never best, since such a VM has less memory left to touch. None where a difference is not clear,
    fewer than 10 trials saw a UE, or no value of the metric is better than another.

    Examples:
        >>> import poisonsim as ps
        >>> res = ps.run("seed-1t-distinct", policies=["unmap1g", "hgm4k", "hgm2m"], trials=1000)
        >>> clearly_best(res, "guest_lost_bytes"), clearly_best(res, "capacity_cost_bytes")
        (('hgm4k', 'hgm2m'), ('hgm2m',))
        >>> clearly_best(res, "tlb_reach_bytes"), clearly_best(res, "errors")
        (('hgm2m',), ())
    """
    known = known_metric(metric, result.metrics)
    if known.better == "-" or _too_few(result):
        return ()
    sign = -1 if known.better == "higher" else 1
    means = {policy: result.distribution(policy, metric, year).mean() for policy in result.policies}
    if metric == "slowdown":
        means = {policy: mean for policy, mean in means.items() if not faster(mean)}
    if not means:
        return ()
    best = min(means, key=lambda policy: sign * means[policy].best)
    together = {best}
    for other in means.keys() - together:
        gap = result.compare(other, to=best).differences(metric, year).mean()
        if tied(known, gap):
            together.add(other)
        elif clear_sign(known, gap) != sign:
            return ()
    return tuple(policy for policy in result.policies if policy in together)


def _too_few(result: Result) -> bool:
    """Whether so few trials saw an error that no difference is clear."""
    errors = result.tally.states[0][:, ERRORS] > 0
    n_hit = int(result.tally.counts[0][errors, -1].sum())
    return arrivals_of(result.plan.scenario).mean > 0 and n_hit < TAIL_TRIALS


def _signs(result: Result, metric: str, year: float | None) -> dict[tuple[int, int], int]:
    """Of each pair of policies, whether the first is clearly lower (-1) or higher (1), or neither (0)."""
    found = {}
    few, known = _too_few(result), known_metric(metric, result.metrics)
    for i, j in combinations(range(len(result.policies)), 2):
        gap = result.compare(result.policies[i], to=result.policies[j]).difference(metric, year)
        found[i, j] = 0 if few else clear_sign(known, gap)
    return found


def _along(found: Sweep, key: str) -> list[tuple[Settings, list[SweepPoint]]]:
    """Points by their other keys, each lot sorted by the value of `key`; none unless its values are numbers."""
    lots: dict[str, tuple[Settings, list[SweepPoint]]] = {}
    for point in found.points:
        others = {name: value for name, value in point.settings.items() if name != key}
        lots.setdefault(settings_text(others), (others, []))[1].append(point)
    order = [number_at(point, key) for point in found.points]
    if None in order:
        return []
    return [
        (others, sorted(points, key=lambda point: number_at(point, key) or 0.0)) for others, points in lots.values()
    ]


def number_at(point: SweepPoint, key: str) -> float | None:
    """The value of a swept key at a point as a number, in the scenario's own units; None where it is no number.

    Examples:
        >>> import poisonsim as ps
        >>> found = ps.sweep("seed-1t", over={"vm.memory": ["1TiB"]}, policies=["hgm2m"], trials=10)
        >>> number_at(found.points[0], "vm.memory") == 2**40
        True
    """
    value: object
    if is_parameter(key):
        value = point.settings[key]
    else:
        table, _, last = key.partition(".")
        value = point.result.plan.scenario.to_dict()[table].get(last)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
