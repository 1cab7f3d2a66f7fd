"""What was found of a fleet: totals over its components, differences of policies, VMs beyond thresholds."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import pandas as pd

from poisonsim.errors import FewTailTrials, FewTrialsHit, warn
from poisonsim.results.enough import few_for_means
from poisonsim.results.fleet_file import WHOLE, FleetPart
from poisonsim.results.fleet_totals import adds_up, combined, drained, scaled
from poisonsim.results.result import Result
from poisonsim.results.statistics import Estimate


@dataclass(frozen=True, repr=False)
class FleetRun:
    """Everything a run of a fleet found; made by `poisonsim.run_fleet`.

    Attributes:
        title: What the fleet is called; may be empty.
        seed: What it was run with; each component has a seed of its own, made of this and its name.
        parts: The components.
        results: What `poisonsim.run` found for each.

    Examples:
        >>> import poisonsim as ps
        >>> hit = ps.load_scenario("seed-1t-distinct")
        >>> few = ps.load_scenario("seed-1t-distinct", overrides=["faults.errors=1"])
        >>> parts = [ps.FleetPart("hit", hit, vms=200), ps.FleetPart("few", few, vms=100)]
        >>> found = ps.run_fleet(parts, policies=["unmap1g"], trials=500)
        >>> found.vms, round(found.total("unmap1g", "guest_lost_bytes").best / 2**30)
        (300, 20100)
    """

    title: str
    seed: int
    parts: tuple[FleetPart, ...]
    results: tuple[Result, ...]

    @property
    def vms(self) -> int:
        """VMs of all components."""
        return sum(part.vms for part in self.parts)

    @property
    def memory_bytes(self) -> int:
        """Memory of all VMs together."""
        return sum(part.memory_bytes for part in self.parts)

    @property
    def policies(self) -> tuple[str, ...]:
        """Labels of the policies, in the order they were asked for."""
        return self.results[0].policies

    @property
    def years(self) -> list[float]:
        """Whole years and the end of the horizon, where every component has them."""
        return [year for year in self.results[0].years if all(year in result.years for result in self.results[1:])]

    def mean(self, policy: str, metric: str, year: float | None = None) -> Estimate:
        """Mean of a metric over all VMs of the fleet; of a 0/1 metric the share of VMs.

        Raises:
            MetricError: No such policy or metric in some component, or a year that is not on its grid.
        """
        found = [result.mean(policy, metric, year) for result in self.results]
        shares = (part.vms / self.vms for part in self.parts)
        return combined(zip(shares, found, strict=True), found[0].unit)

    def total(self, policy: str, metric: str, year: float | None = None) -> Estimate:
        """Sum of a metric over all VMs of the fleet; of a 0/1 metric the expected number of VMs.

        Raises:
            MetricError: As `mean`.
        """
        return scaled(self.mean(policy, metric, year), self.vms)

    def difference(self, policy: str, metric: str, *, to: str, year: float | None = None) -> Estimate:
        """How much more of a metric the fleet has under `policy` than under `to`, on the same errors, VM by VM.

        Args:
            metric: One that adds up over VMs, such as `capacity_cost_bytes`, or the 0/1 metric `vm_lost`.

        Raises:
            MetricError: As `mean`.

        Examples:
            >>> import poisonsim as ps
            >>> parts = [ps.FleetPart("mine", ps.load_scenario("seed-1t-distinct"), 10)]
            >>> found = ps.run_fleet(parts, policies=["unmap1g", "hgm2m"], trials=1000)
            >>> found.difference("unmap1g", "guest_lost_bytes", to="hgm2m").best // 2**30
            999.0
        """
        found = [result.compare(policy, to=to).difference(metric, year) for result in self.results]
        return combined(zip((part.vms for part in self.parts), found, strict=True), found[0].unit)

    def exceeding(self, expression: str) -> pd.DataFrame:
        """How many VMs meet `expression` by each whole year, such as `"guest_lost_bytes >= 1GiB"`.

        Returns:
            Columns component, vms, policy, year, expected_vms, expected_low, expected_high (interval from the number of
            trials), p95_vms (not exceeded in 19 fleets out of 20, at the upper end of the interval); the rows of
            component `fleet` are of all of them.

        Raises:
            MetricError: The expression means nothing.
        """
        tables = (
            (part.name, part.vms, result.fleet(part.vms).exceeding(expression))
            for part, result in zip(self.parts, self.results, strict=True)
        )
        return drained(tables, WHOLE)

    def summary(self) -> pd.DataFrame:
        """One row per component, policy, metric and year; those of component `fleet` are of all VMs together.

        Returns:
            Columns component, vms, policy, metric, unit, year (a number, or `"life"`), mean, mean_low, mean_high of one
            VM, and total, total_low, total_high of all of them, missing for metrics that do not add up, such as
            `slowdown`. A metric or year that some component lacks, as leaves of a size, has no row of the fleet.
        """
        frames = []
        for part, result in zip(self.parts, self.results, strict=True):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FewTailTrials)  # quantiles are in the summaries of the components
                frame = result.summary()[["policy", "metric", "unit", "year", "mean", "mean_low", "mean_high"]]
            if few := few_for_means(result.plan.strata, result.n_trials):
                warn(f"{part.name}: {few}", FewTrialsHit)
            frame.insert(0, "vms", part.vms)
            frame.insert(0, "component", part.name)
            frames.append(frame)
        every = pd.concat(frames, ignore_index=True)
        rows = []
        for (policy, metric, unit, year), own in every.groupby(["policy", "metric", "unit", "year"], sort=False):
            if len(own) == len(self.parts):
                means = (Estimate(r.mean_low, r.mean, r.mean_high, unit) for r in own.itertuples())
                found = combined(zip(own["vms"] / self.vms, means, strict=True))
                rows.append({
                    "component": WHOLE, "vms": self.vms, "policy": policy, "metric": metric, "unit": unit, "year": year,
                    "mean": found.best, "mean_low": found.low, "mean_high": found.high,
                })  # fmt: skip
        every = pd.concat([every, pd.DataFrame(rows)], ignore_index=True)
        known = {metric.name: metric for result in self.results for metric in result.metrics}
        factor = every["vms"].where(every["metric"].map(lambda name: adds_up(known[name])))
        for column in ("", "_low", "_high"):
            every[f"total{column}"] = every[f"mean{column}"] * factor
        return every

    def to_dict(self, thresholds: Sequence[str] = ()) -> dict[str, Any]:
        """The fleet as plain data: what `--json` prints.

        Args:
            thresholds: As `exceeding` takes them.
        """
        return {
            "schema": "poisonsim.fleet/1",
            "title": self.title,
            "vms": self.vms,
            "seed": self.seed,
            "policies": list(self.policies),
            "components": [
                {
                    "name": part.name, "vms": part.vms, "trials": result.n_trials, "run_id": result.plan.run_id,
                    "scenario": part.scenario.to_dict(),
                }
                for part, result in zip(self.parts, self.results, strict=True)
            ],
            "summary": _records(self.summary()),
            "thresholds": [{"threshold": text, "rows": _records(self.exceeding(text))} for text in thresholds],
        }  # fmt: skip

    def __repr__(self) -> str:
        names = ", ".join(f"{part.vms:,} {part.name}" for part in self.parts)
        return f"<poisonsim fleet: {names}; {', '.join(self.policies)}; seed {self.seed}>"


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {str(key): None if isinstance(value, float) and isnan(value) else value for key, value in row.items()}
        for row in frame.to_dict("records")
    ]
