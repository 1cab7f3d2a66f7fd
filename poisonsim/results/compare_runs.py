"""`poisonsim.compare`: policies of two runs, paired trial by trial where both saw the same errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from math import hypot

import numpy as np
from numpy.typing import NDArray

from poisonsim.engine.counting import count_rows, states_at
from poisonsim.engine.plan import Plan
from poisonsim.engine.rows import Rows
from poisonsim.engine.state import STRATUM
from poisonsim.errors import MetricError
from poisonsim.faults.history import History
from poisonsim.results.compare import Comparison
from poisonsim.results.metrics import Metric, known_metric
from poisonsim.results.paths import histories
from poisonsim.results.result import Result
from poisonsim.results.statistics import Distribution, Estimate
from poisonsim.results.sweep import SAME_ERRORS_KEYS, VALUED_KEYS
from poisonsim.scenario_problem import shown
from poisonsim.units import size_text

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

BASELINE_KEYS = VALUED_KEYS | {"vm.memory", "vm.backing", "vm.arch", "vm.contiguous"}
"""Keys that decide how fast the VM is without errors."""

_MOST_ERRORS = 1 << 27
"""Errors that are simulated again to pair two runs: some ten seconds of them."""


def compare(result: Result, to_result: Result, *, policy: str, to: str | None = None) -> Comparison:
    """`policy` of one run against `to` of another; paired where both saw the same errors.

    They did where seed and faults are the same, and all else that decides which errors there are. Their trials are then
    simulated once more, so that differences can be taken one by one; where one run is longer, its first trials are.
    Where they did not, means are compared as of independent samples, with the wider interval that this gives.

    Args:
        result: The run that `policy` is of.
        to_result: The run to compare with; the same one is `Result.compare`.
        policy: A policy of `result`.
        to: A policy of `to_result`; default the same.

    Raises:
        MetricError: A policy that is not in its run, or no year that both runs know.

    Examples:
        >>> import poisonsim as ps
        >>> a, b = (ps.run("seed-1t-distinct", policies=[name], trials=1000, seed=7) for name in ("hgm4k", "hgm2m"))
        >>> both = ps.compare(a, b, policy="hgm4k", to="hgm2m")
        >>> print(both.paired, both.ratio("table_bytes"))
        True 256.5
        >>> c = ps.run("seed-1t-distinct", policies=["hgm2m"], trials=1000, seed=8)
        >>> ps.compare(a, c, policy="hgm4k", to="hgm2m").unpaired_because
        'seed is 8 in one and 7 in the other'
    """
    to = policy if to is None else to
    p, q = result._policy(policy), to_result._policy(to)
    if result is to_result:
        return result.compare(policy, to=to)
    years = [year for year in result.years if any(abs(year - other) < 1e-9 for other in to_result.years)]
    if not years:
        raise MetricError(
            f"the runs have no year in common: one knows {_listed(result.years)}, the other "
            f"{_listed(to_result.years)}; run both to the same horizon (--years)"
        )
    because = errors_differ(to_result.plan, result.plan)
    joint = None if because else _joint(result, p, to_result, q, years)
    if joint is None:
        return _Unpaired(
            result, policy, to, unpaired_because=because or "their histories are not the same", other=to_result,
            common_years=years,
        )  # fmt: skip
    return _Paired(result, policy, to, other=to_result, common_years=years, joint=joint)


def pairs_of(result: Result, base: Result) -> list[tuple[str, str]]:
    """Policies of two runs that are compared where none is named: those that both have, and what else each has if one.

    Examples:
        >>> import poisonsim as ps
        >>> a, b = (ps.run("seed-1t-distinct", policies=["unmap1g", name], trials=100) for name in ("hgm4k", "hgm2m"))
        >>> pairs_of(b, a)
        [('unmap1g', 'unmap1g'), ('hgm2m', 'hgm4k')]
    """
    common = [(policy, policy) for policy in result.policies if policy in base.policies]
    ours, theirs = alone_in(result, base), alone_in(base, result)
    return [*common, (ours[0], theirs[0])] if len(ours) == len(theirs) == 1 else common


def alone_in(result: Result, other: Result) -> list[str]:
    """Policies that one run has and the other has not."""
    return [policy for policy in result.policies if policy not in other.policies]


def errors_differ(a: Plan, b: Plan) -> str:
    """Why two runs do not see the same errors, in words; empty where nothing in their scenarios says so.

    Examples:
        >>> import poisonsim as ps
        >>> plans = [ps.run("seed-1t", policies=["hgm2m"], trials=1, seed=seed).plan for seed in (1, 1, 2)]
        >>> errors_differ(plans[0], plans[1]), errors_differ(plans[0], plans[2])
        ('', 'seed is 1 in one and 2 in the other')
    """
    differing: list[tuple[str, object, object]] = [("seed", a.seed, b.seed)] if a.seed != b.seed else []
    one, other = _flat(a), _flat(b)
    for key in dict.fromkeys([*one, *other]):
        if key not in SAME_ERRORS_KEYS and key != "title" and one.get(key) != other.get(key):
            differing.append((key, one.get(key, "not set"), other.get(key, "not set")))
    return "; ".join(
        f"{key} is {_plain(key, x)} in one and {_plain(key, y)} in the other" for key, x, y in differing[:3]
    )


def what_else_differs(results: Sequence[Result]) -> list[str]:
    """Of what is no key of a scenario, what is not the same in all runs.

    Examples:
        >>> import poisonsim as ps
        >>> what_else_differs([ps.run("seed-1t", policies=["hgm2m"], trials=n, seed=n) for n in (1, 2)])
        ['seed', 'trials']
    """
    values: dict[str, list[object]] = {
        "policies": [result.policies for result in results], "seed": [result.plan.seed for result in results],
        "trials": [result.n_trials for result in results],
    }  # fmt: skip
    return [name for name, each in values.items() if any(value != each[0] for value in each)]


SIZE_KEYS = ("vm.memory", "host.free_memory")
"""Keys whose values are bytes."""


def what_differs(a: Plan, b: Plan) -> str:
    """Keys of the scenarios of two runs that differ, with both values, and their seeds; empty where none do.

    Examples:
        >>> import poisonsim as ps
        >>> spares = (ps.load_scenario("seed-1t", overrides=[f"host.spares={n}"]) for n in (0, 4))
        >>> what_differs(*(ps.run(each, policies=["hgm2m"], trials=1).plan for each in spares))
        'host.spares 0 → 4'
    """
    one, other = {**_flat(a), "seed": a.seed}, {**_flat(b), "seed": b.seed}
    keys = [key for key in dict.fromkeys([*one, *other]) if key != "title" and one.get(key) != other.get(key)]
    return ", ".join(
        f"{key} {_plain(key, one.get(key, 'not set'))} → {_plain(key, other.get(key, 'not set'))}" for key in keys
    )


def _plain(key: str, value: object) -> str:
    if key in SIZE_KEYS and isinstance(value, int):
        return size_text(value)
    return value if isinstance(value, str) and len(value) <= 60 else shown(value)


@dataclass(frozen=True)
class _OfTwoRuns(Comparison):
    other: Result = field(kw_only=True)
    common_years: list[float] = field(kw_only=True)

    @property
    def to_result(self) -> Result:
        return self.other

    @property
    def same_baseline(self) -> bool:
        one, other = _flat(self.result.plan), _flat(self.other.plan)
        return all(one.get(key) == other.get(key) for key in BASELINE_KEYS)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        theirs = {metric.name for metric in self.other.metrics}
        return tuple(metric for metric in self.result.metrics if metric.name in theirs)

    @property
    def years(self) -> list[float]:
        return self.common_years


@dataclass(frozen=True)
class _Paired(_OfTwoRuns):
    """Attributes: joint: Per common year int64[n, 2], rows of both runs' states that occur together, and how often."""

    joint: tuple[tuple[I64, I64], ...] = field(kw_only=True)

    @property
    def n_trials(self) -> int:
        return int(self.joint[0][1].sum())

    def _pair(self, metric: str, year: float | None) -> tuple[F64, F64, I64, I64]:
        known_metric(metric, self.metrics)
        rows, counts = self.joint[self._year(year)]
        p, q = self.result.policies.index(self.policy), self.other.policies.index(self.to)
        a = self.result._values[p][rows[:, 0], self.result._column(metric)]
        b = self.other._values[q][rows[:, 1], self.other._column(metric)]
        return a, b, counts, self.result.tally.states[p][rows[:, 0], STRATUM]


@dataclass(frozen=True)
class _Unpaired(_OfTwoRuns):
    def differences(self, metric: str, year: float | None = None) -> Distribution:
        raise MetricError(
            f"{self.policy} and {self.to} did not see the same errors ({self.unpaired_because}): there are no "
            "differences trial by trial; use difference(), which compares their means"
        )

    def difference(self, metric: str, year: float | None = None) -> Estimate:
        """Of independent means, by MOVER (Zou and Donner 2008): distances to the limits add up in quadrature."""
        a, b = self.means(metric, year)
        low = a.best - b.best - hypot(a.best - a.low, b.high - b.best)
        high = a.best - b.best + hypot(a.high - a.best, b.best - b.low)
        return Estimate(low, a.best - b.best, high, known_metric(metric, self.metrics).unit)

    def ratio(self, metric: str, year: float | None = None) -> Estimate | None:
        a, b = self.means(metric, year)
        if b.best == 0:
            return None
        best = a.best / b.best
        half = hypot(max(a.high - a.best, a.best - a.low), best * max(b.high - b.best, b.best - b.low)) / abs(b.best)
        return Estimate(best - half, best, best + half, "1")

    def means(self, metric: str, year: float | None = None) -> tuple[Estimate, Estimate]:
        known_metric(metric, self.metrics)
        at = self.years[self._year(year)]
        return self.result.mean(self.policy, metric, at), self.other.mean(self.to, metric, at)

    def _shares(self, metric: str, year: float) -> tuple[float, float]:
        return np.nan, np.nan


def _joint(a: Result, p: int, b: Result, q: int, years: list[float]) -> tuple[tuple[I64, I64], ...] | None:
    """Rows of states of both policies that occur together in the trials that both runs have, per year.

    None where the histories turn out to differ, as for files that were changed between the runs.
    """
    most = int(_MOST_ERRORS / max(a.plan.errors_per_trial, 1e-300)) + 1
    n_trials = min(a.n_trials, b.n_trials, most)
    plans = [replace(run.plan, policies=(run.plan.policies[i],)) for run, i in ((a, p), (b, q))]
    points = [np.array([run._point_of(year) for year in years]) for run in (a, b)]
    indices = [Rows.of(run.tally.states[i]) for run, i in ((a, p), (b, q))]
    found: list[list[tuple[I64, I64]]] = [[] for _ in years]
    for (_, size, history, (mine,)), (_, _, other, (theirs,)) in zip(
        *(histories(plan, n_trials) for plan in plans), strict=True
    ):
        if not _same(history, other):
            return None
        places = []
        for path, index, at in zip((mine, theirs), indices, points, strict=True):
            states = states_at(path.start, path.grid, path.state, history.stratum, at)
            places.append(index.find(path.states)[states])
        for y, together in enumerate(np.stack(places, axis=-1)):
            rows, counts = count_rows(np.concatenate((np.zeros((1, 2), np.int32), together.astype(np.int32))))
            counts[0] += size - len(history.trial) - 1  # row 0 was put there to stand for the untouched trials
            found[y].append((rows.astype(np.int64), counts))
    return tuple(_added(blocks) for blocks in found)


def _added(blocks: list[tuple[I64, I64]]) -> tuple[I64, I64]:
    rows, place = np.unique(np.concatenate([rows for rows, _ in blocks]), axis=0, return_inverse=True)
    counts = np.zeros(len(rows), np.int64)
    np.add.at(counts, place.ravel(), np.concatenate([counts for _, counts in blocks]))
    return rows, counts


def _same(a: History, b: History) -> bool:
    return all(np.array_equal(getattr(a, each.name), getattr(b, each.name)) for each in fields(a))


def _flat(plan: Plan) -> dict[str, object]:
    tables = plan.scenario.to_dict()
    flat: dict[str, object] = {}
    for name, table in tables.items():
        flat |= {f"{name}.{key}": value for key, value in table.items()} if isinstance(table, dict) else {name: table}
    return flat


def _listed(years: list[float]) -> str:
    return ", ".join(f"{year:g}" for year in years)
