"""The result of a run: tidy tables of every metric, paired comparisons, probabilities, fleets."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from poisonsim.engine.block import year_points
from poisonsim.engine.counting import states_at
from poisonsim.engine.merge import Tally
from poisonsim.engine.plan import Plan
from poisonsim.engine.rows import Rows
from poisonsim.engine.state import ERRORS, STRATUM
from poisonsim.errors import FewTailTrials, FewTrialsHit, MetricError, no_such_policy, warn
from poisonsim.results.compare import Comparison
from poisonsim.results.enough import few_for_means, is_reported, trials_needed
from poisonsim.results.fleet import Fleet
from poisonsim.results.metrics import Metric, known_metric, mean_of, parse_threshold
from poisonsim.results.paths import histories, life_trials, time_averages
from poisonsim.results.statistics import Distribution, Estimate, floor_of, without_empty
from poisonsim.results.values import Valuer

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

LIFE = "life"
QUANTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


class Result:
    """Everything a run found. Made by `poisonsim.run` and `poisonsim.open_run`; immutable.

    Attributes:
        plan: What was simulated.
        tally: Distinct states and how many trials were in each at each grid point.

    Examples:
        >>> import poisonsim as ps
        >>> res = ps.run(ps.load_scenario("seed-1t-distinct"), policies=["unmap1g", "hgm2m"], trials=2000, seed=7)
        >>> row = res.summary().query("policy == 'hgm2m' and metric == 'table_bytes' and year == 5").iloc[0]
        >>> row["mean"], row["p99"]
        (np.float64(1675200.0), np.float64(1675200.0))
    """

    def __init__(self, plan: Plan, tally: Tally) -> None:
        self.plan = plan
        self.tally = tally

    # --- what was run -------------------------------------------------------------------------------------------

    @property
    def policies(self) -> tuple[str, ...]:
        """Labels of the policies, in the order they were asked for."""
        return tuple(policy.label for policy in self.plan.policies)

    @property
    def n_trials(self) -> int:
        """Number of VM lifetimes that the run stands for."""
        return self.tally.n_trials

    @property
    def n_simulated(self) -> int:
        """How many of them were run: all, or where most VMs see no incident those that do, weighted exactly."""
        return self.n_trials if self.plan.strata.plain else int(self._by_stratum[1:].sum())

    @property
    def weights(self) -> F64:
        """Exact probability of each stratum; one of weight 1 where all trials count alike."""
        return self.plan.strata.weights

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Every metric, in table order."""
        return self._valuer.metrics

    @property
    def years(self) -> list[float]:
        """Whole years on the grid, and the end of the horizon."""
        return [self._year_of(point) for point in year_points(self.plan)]

    # --- tables -------------------------------------------------------------------------------------------------

    def summary(self) -> pd.DataFrame:
        """One row per policy, metric and year: mean with interval, and quantiles.

        Returns:
            Columns policy, metric, unit, year (a number, or `"life"` for the average over the VM's life), mean,
            mean_low, mean_high, p50, p95, p99, p99_low, p99_high. A quantile that fewer than 10 trials lie beyond is
            missing, with a `FewTailTrials` warning; where too few VMs have faults for intervals of means, a
            `FewTrialsHit` warning says so. Quantiles of life averages are those of the first trials, as
            many as hold about two million errors or 65,536 VMs that see any.
        """
        self._warn_of_few_trials()
        return self._summary.copy()

    def series(self, metric: str) -> pd.DataFrame:
        """One metric at every grid point.

        Returns:
            Columns policy, year, mean, p05, p50, p95, p99.

        Raises:
            MetricError: No such metric.
        """
        m = self._column(metric)
        rows = []
        for p, policy in enumerate(self.policies):
            for point in range(self.plan.scenario.horizon.n_steps + 1):
                distribution = self._distribution(p, m, point)
                quantiles = {name: distribution.quantile(q) for name, q in {"p05": 0.05, **QUANTILES}.items()}
                rows.append(
                    {"policy": policy, "year": self._year_of(point), "mean": distribution.mean().best}
                    | {name: np.nan if e is None else e.best for name, e in quantiles.items()}
                )
        return pd.DataFrame(rows)

    def samples(self, year: float | None = None, trials: int | None = None) -> pd.DataFrame:
        """Every metric of single trials at one time, recomputed from the seed.

        Args:
            year: A time on the grid; default the end of the horizon.
            trials: How many trials, the first ones; default all of the run.

        Returns:
            Columns policy, trial, weight, then one per metric. `weight` is the probability that a row stands for, the
            same for all where trials are plain; `(frame["weight"] * frame["vm_lost"]).sum()` is a mean over VMs.
            Where most VMs see no incident, the rows are of the trials that do, and that of trial 0, which does not,
            stands for all others.

        Raises:
            MetricError: The year is not on the grid, or no trials are asked for.
        """
        point = self._point_of(year)
        if trials is not None and (isinstance(trials, bool) or not isinstance(trials, int) or trials < 1):
            raise MetricError(f"trials = {trials} is not a whole number of at least 1")
        wanted = self.n_trials if trials is None else min(trials, self.n_trials)
        frames, strata = [], []
        indices = [Rows.of(states) for states in self.tally.states]
        plain, none = self.plan.strata.plain, np.zeros(1, np.int64)
        for first, size, history, paths in histories(self.plan, wanted):
            shown = np.arange(size) if plain else np.append(none if first == 0 else none[:0], history.trial)
            rows = history.trial if plain else slice(len(shown) - len(history.trial), None)
            place, stratum = np.zeros(len(shown), np.int64), np.zeros(len(shown), np.int64)
            stratum[rows] = history.stratum
            for p, path in enumerate(paths):
                at = states_at(path.start, path.grid, path.state, history.stratum, np.array([point]))[0]
                place[rows] = indices[p].find(path.states)[at]
                frame = pd.DataFrame(self._values[p][place], columns=[metric.name for metric in self.metrics])
                frame.insert(0, "trial", first + shown)
                frame.insert(0, "policy", self.policies[p])
                frames.append(frame)
                strata.append(stratum)
        every = np.concatenate(strata)
        n = np.bincount(every, minlength=len(self.weights)) // len(self.policies)
        found = pd.concat(frames, ignore_index=True)
        found.insert(2, "weight", (without_empty(self.weights, n) / np.maximum(n, 1))[every])
        return found

    def compare(self, policy: str, *, to: str) -> Comparison:
        """`policy` against `to` on identical histories, paired trial by trial.

        Raises:
            MetricError: A policy that is not in this run.
        """
        return Comparison.of(self, self._policy(policy), self._policy(to))

    def probability(self, expression: str, *, year: float | None = None, policy: str | None = None) -> Estimate:
        """Probability that a VM meets `expression`, such as `"guest_lost_bytes > 8GiB"`, by `year`.

        Args:
            policy: Which policy; may be left out where the run has one only.

        Raises:
            MetricError: The expression, year or policy means nothing here.
        """
        if policy is None and len(self.policies) > 1:
            raise MetricError(
                f"the run has {len(self.policies)} policies; name one: policy=… of {', '.join(self.policies)}"
            )
        p = self._policy(policy) if policy is not None else 0
        threshold = parse_threshold(expression, self.metrics)
        distribution = self._distribution(p, self._column(threshold.metric.name), self._point_of(year))
        return distribution.share(threshold.holds(distribution.values, self.plan.scenario.vm.memory_bytes))

    def fleet(self, vms: int) -> Fleet:
        """A fleet of `vms` independent VMs like this one.

        Raises:
            MetricError: `vms` is not a positive whole number.
        """
        return Fleet(self, vms)

    def distribution(self, policy: str, metric: str, year: float | None = None) -> Distribution:
        """Values of a metric over all trials of one policy, with how many trials of each stratum have each."""
        return self._distribution(self._policy(policy), self._column(metric), self._point_of(year))

    def mean(self, policy: str, metric: str, year: float | None = None) -> Estimate:
        """Mean of a metric over all trials, with its interval; of a 0/1 metric the probability, with its exact one.

        Raises:
            MetricError: No such policy or metric, or a year that is not on the grid.

        Examples:
            >>> import poisonsim as ps
            >>> print(ps.run("seed-1t-distinct", policies=["hgm2m"], trials=100).mean("hgm2m", "errors"))
            100 UEs
        """
        known = known_metric(metric, self.metrics)
        return mean_of(known, self.distribution(policy, metric, year))

    def when_hit(self, policy: str, metric: str, year: float | None = None) -> Distribution:
        """As `distribution`, over VMs that have seen at least one UE by then; the mean has a delta-method interval.

        Of trials by stratum, `share` and `quantile` take how likely each stratum is among them to be as found.

        Raises:
            MetricError: As `distribution`, or no trial has seen one.
        """
        p, point = self._policy(policy), self._point_of(year)
        states, at = self.tally.states[p], self.tally.counts[p][:, point]
        counts = np.where(states[:, ERRORS] > 0, at, 0)
        if not counts.any():
            raise MetricError(
                f"none of {self.n_trials:,} trials saw a UE by then; raise trials, the rate or the horizon"
            )
        values, strata = self._values[p][:, self._column(metric)], self.plan.strata
        if strata.plain:
            return Distribution.of(values, counts)
        return Distribution.of(values, counts, states[:, STRATUM], strata.weights, trials=self._by_stratum)

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data: what `--json` prints."""
        summary = self.summary()
        records = [
            {key: None if isinstance(value, float) and np.isnan(value) else value for key, value in row.items()}
            for row in summary.to_dict("records")
        ]
        return {
            "schema": "poisonsim.result/1",
            "run_id": self.plan.run_id,
            "scenario": self.plan.scenario.to_dict(),
            "seed": self.plan.seed,
            "trials": self.n_trials,
            "summary": records,
        }

    def __repr__(self) -> str:
        return f"<poisonsim result: {', '.join(self.policies)}; {self.n_trials:,} trials; seed {self.plan.seed}>"

    def _repr_html_(self) -> str:
        summary = self.summary()
        return str(summary[summary["year"] == self.years[-1]].to_html(index=False))

    # --- inside -------------------------------------------------------------------------------------------------

    @cached_property
    def _summary(self) -> pd.DataFrame:
        rows: list[dict[str, Any]] = []
        for p, policy in enumerate(self.policies):
            for m, metric in enumerate(self.metrics):
                for year, point in zip(self.years, year_points(self.plan), strict=True):
                    rows.append({"policy": policy, "metric": metric.name, "unit": metric.unit, "year": year}
                                | self._row(metric, self._distribution(p, m, point)))  # fmt: skip
                averages, counts, stratum = self._life[p]
                distribution = Distribution.of(averages[:, m], counts, stratum, self.weights)
                row = self._row(metric, distribution)
                exact = self._life_mean(p, m)
                # Over all trials the interval is as much narrower as there are more of them.
                sampled, scale = distribution.mean(), (distribution.n_simulated / max(self.n_simulated, 1)) ** 0.5
                low, high = (exact + (end - sampled.best) * scale for end in (sampled.low, sampled.high))
                row |= {"mean": exact, "mean_low": max(low, floor_of(self._values[p][:, m])), "mean_high": high}
                rows.append({"policy": policy, "metric": metric.name, "unit": metric.unit, "year": LIFE} | row)
        frame = pd.DataFrame(rows)
        frame["year"] = frame["year"].astype(object)
        return frame

    @cached_property
    def _valuer(self) -> Valuer:
        return Valuer(self.plan)

    @cached_property
    def _values(self) -> tuple[F64, ...]:
        return tuple(
            self._valuer.values(policy, states)
            for policy, states in zip(self.plan.policies, self.tally.states, strict=True)
        )

    @cached_property
    def _by_stratum(self) -> I64:
        """Trials of each stratum."""
        n = np.zeros(len(self.weights), np.int64)
        np.add.at(n, self.tally.states[0][:, STRATUM], self.tally.counts[0][:, 0])
        return n

    @cached_property
    def _life(self) -> tuple[tuple[F64, I64, I64], ...]:
        """Per policy: life averages float64[n, n_metrics] of the first trials, how many have each, and the stratum."""
        n_trials = life_trials(self.plan, self.n_trials)
        indices = [Rows.of(states) for states in self.tally.states]
        found: list[list[F64]] = [[values[:1]] for values in self._values]
        strata = [np.zeros(1, np.int64)]
        for _, _, history, paths in histories(self.plan, n_trials):
            strata.append(history.stratum)
            for p, path in enumerate(paths):
                state = indices[p].find(path.states)[path.state]
                steps = self.plan.scenario.horizon.n_steps
                found[p].append(time_averages(path.start, path.grid, state, history.stratum, self._values[p], steps))
        stratum = np.concatenate(strata)
        counts = np.ones(len(stratum), np.int64)
        counts[0] = n_trials - (len(stratum) - 1)
        return tuple((np.concatenate(averages), counts, stratum) for averages in found)

    def _life_mean(self, p: int, m: int) -> float:
        """Average over the life of the mean over all trials, which needs no single trial."""
        values, shares = self._values[p][:, m], self._life_shares[p]
        return float(values[0] + (values - values[0]) @ shares)

    @cached_property
    def _life_shares(self) -> tuple[F64, ...]:
        """Per policy the share of all VMs' lives that is spent in each state, by the trapezoid rule on the grid."""
        shares = []
        for states, counts in zip(self.tally.states, self.tally.counts, strict=True):
            spent = (counts.sum(axis=1) - (counts[:, 0] + counts[:, -1]) / 2) / (counts.shape[1] - 1)
            if self.plan.strata.plain:
                shares.append(spent / self.n_trials)
            else:
                n = self._by_stratum
                shares.append(spent * (without_empty(self.weights, n) / np.maximum(n, 1))[states[:, STRATUM]])
        return tuple(shares)

    def _distribution(self, p: int, m: int, point: int) -> Distribution:
        stratum = self.tally.states[p][:, STRATUM]
        return Distribution.of(self._values[p][:, m], self.tally.counts[p][:, point], stratum, self.weights)

    def reports(self, q: float) -> bool:
        """Whether enough trials lie beyond the `q` quantile of what all VMs see.

        Examples:
            >>> import poisonsim as ps
            >>> res = ps.run("seed-1t", policies=["hgm2m"], trials=500, seed=7)
            >>> res.reports(0.95), res.reports(0.99)
            (True, False)
        """
        return is_reported(q, self.weights, self._by_stratum)

    @staticmethod
    def _row(metric: Metric, distribution: Distribution) -> dict[str, float]:
        mean = mean_of(metric, distribution)
        row = {"mean": mean.best, "mean_low": mean.low, "mean_high": mean.high}
        quantiles = {name: distribution.quantile(q) for name, q in QUANTILES.items()}
        row |= {name: np.nan if e is None else e.best for name, e in quantiles.items()}
        p99 = quantiles["p99"]
        return row | {"p99_low": np.nan if p99 is None else p99.low, "p99_high": np.nan if p99 is None else p99.high}

    def _warn_of_few_trials(self) -> None:
        heaviest = self.plan.strata.heaviest
        lacking = [
            f"{name} needs at least {max(trials_needed(q, heaviest), self.n_trials + 1):,}"
            for name, q in QUANTILES.items()
            if not self.reports(q)
        ]
        if lacking:
            warn(f"{self.n_trials:,} trials: {', '.join(lacking)}; those are left out, raise --trials", FewTailTrials)
        if few := few_for_means(self.plan.strata, self.n_trials):
            warn(few, FewTrialsHit)

    def _column(self, metric: str) -> int:
        return self.metrics.index(known_metric(metric, self.metrics))

    def _policy(self, label: str) -> int:
        if label not in self.policies:
            raise MetricError(no_such_policy(label, self.policies))
        return self.policies.index(label)

    def _year_of(self, point: int) -> float:
        horizon = self.plan.scenario.horizon
        year = point * horizon.years / horizon.n_steps
        return int(round(year)) if abs(year - round(year)) < 1e-9 else year

    def _point_of(self, year: float | None) -> int:
        horizon = self.plan.scenario.horizon
        if year is None:
            return horizon.n_steps
        if isinstance(year, bool) or not isinstance(year, (int, float)):
            raise MetricError(f"year = {year!r} is not a number of years; life averages are in summary() only")
        point = year * horizon.n_steps / horizon.years
        if not 0 <= point <= horizon.n_steps + 1e-6 or abs(point - round(point)) > 1e-6:
            raise MetricError(
                f"year {year} is not on the grid, which goes from 0 to {horizon.years:g} in {horizon.n_steps:,} steps"
                + (f"; nearest is {self._year_of(round(point)):.10g}" if 0 <= point <= horizon.n_steps else "")
            )
        return round(point)
