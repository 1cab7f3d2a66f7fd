"""Two policies compared: differences trial by trial where both saw the same errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from poisonsim.engine.state import STRATUM
from poisonsim.errors import MetricError
from poisonsim.results.metrics import Metric, known_metric, mean_of
from poisonsim.results.statistics import Distribution, Estimate, ratio_of_means

if TYPE_CHECKING:
    from poisonsim.results.result import Result

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Comparison:
    """How `policy` differs from `to`; made by `Result.compare` and `poisonsim.compare`.

    Attributes:
        result: The run that `policy` is of.
        unpaired_because: Why the errors of the two are not the same, in words; empty where they are, so that
            differences are taken trial by trial.
    """

    result: Result
    policy: str
    to: str
    unpaired_because: str = field(default="", kw_only=True)

    @staticmethod
    def of(result: Result, policy: int, to: int) -> Comparison:
        """The comparison of two policies of a run, by their place in it."""
        return Comparison(result, result.policies[policy], result.policies[to])

    @property
    def to_result(self) -> Result:
        """The run that `to` is of."""
        return self.result

    @property
    def paired(self) -> bool:
        """Whether both saw the same errors."""
        return not self.unpaired_because

    @property
    def same_baseline(self) -> bool:
        """Whether the VM without errors, which slowdowns and lost reach are relative to, is the same in both."""
        return True

    @property
    def n_trials(self) -> int:
        """Trials of `policy` that are compared."""
        return self.result.n_trials

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics that both have."""
        return self.result.metrics

    @property
    def years(self) -> list[float]:
        """The years at which both are known."""
        return self.result.years

    def table(self) -> pd.DataFrame:
        """Differences and ratios of every metric at every whole year.

        Returns:
            Columns metric, unit, year, diff, diff_low, diff_high (mean of `policy` minus `to`), share_less,
            share_more (probabilities that `policy` has the lower or the higher value, missing where unpaired),
            significant: whether the interval leaves out zero, and ratio, ratio_low, ratio_high (mean of `policy` over
            mean of `to`, missing where the latter is 0).
        """
        rows = []
        for metric in self.metrics:
            for year in self.years:
                mean, ratio = self.difference(metric.name, year), self.ratio(metric.name, year)
                less, more = self._shares(metric.name, year)
                ratio = Estimate(np.nan, np.nan, np.nan, "1") if ratio is None else ratio
                rows.append(
                    {
                        "metric": metric.name,
                        "unit": metric.unit,
                        "year": year,
                        "diff": mean.best,
                        "diff_low": mean.low,
                        "diff_high": mean.high,
                        "share_less": less,
                        "share_more": more,
                        "significant": mean.low > 0 or mean.high < 0,
                        "ratio": ratio.best,
                        "ratio_low": ratio.low,
                        "ratio_high": ratio.high,
                    }
                )
        return pd.DataFrame(rows)

    def differences(self, metric: str, year: float | None = None) -> Distribution:
        """Distribution over trials of `policy` minus `to`.

        Raises:
            MetricError: No such metric, a year that is not one of the run's whole years, or the errors are not the
                same, so that there is nothing to pair.
        """
        a, b, counts, stratum = self._pair(metric, year)
        return Distribution.of(a - b, counts, stratum, self.result.weights)

    def difference(self, metric: str, year: float | None = None) -> Estimate:
        """Mean of `policy` minus mean of `to`, with its interval: paired where both saw the same errors.

        Raises:
            MetricError: No such metric, or a year at which they are not compared.

        Examples:
            >>> import poisonsim as ps
            >>> res = ps.run(ps.load_scenario("seed-1t-distinct"), policies=["hgm2m", "hgm4k"], trials=1000, seed=7)
            >>> print(res.compare("hgm4k", to="hgm2m").difference("table_bytes"))
            4.28014e+08 bytes
        """
        return self.differences(metric, year).mean(known_metric(metric, self.metrics).unit)

    def means(self, metric: str, year: float | None = None) -> tuple[Estimate, Estimate]:
        """Mean of `policy` and mean of `to`, each with its own interval, over the trials that are compared.

        Raises:
            MetricError: No such metric, or a year at which they are not compared.

        Examples:
            >>> import poisonsim as ps
            >>> res = ps.run(ps.load_scenario("seed-1t-distinct"), policies=["hgm2m", "hgm4k"], trials=1000, seed=7)
            >>> [mean.best for mean in res.compare("hgm4k", to="hgm2m").means("table_bytes")]
            [429688800.0, 1675200.0]
        """
        known = known_metric(metric, self.metrics)
        a, b, counts, stratum = self._pair(metric, year)
        mine, theirs = (Distribution.of(values, counts, stratum, self.result.weights) for values in (a, b))
        return mean_of(known, mine), mean_of(known, theirs)

    def ratio(self, metric: str, year: float | None = None) -> Estimate | None:
        """Mean of `policy` over mean of `to`, with a delta-method interval, paired where it can be; None if `to` is 0.

        Examples:
            >>> import poisonsim as ps
            >>> res = ps.run(ps.load_scenario("seed-1t-distinct"), policies=["hgm2m", "hgm4k"], trials=1000, seed=7)
            >>> print(res.compare("hgm4k", to="hgm2m").ratio("table_bytes"))
            256.5
        """
        a, b, counts, stratum = self._pair(metric, year)
        return ratio_of_means(a, b, counts, stratum, self.result.weights)

    def _shares(self, metric: str, year: float) -> tuple[float, float]:
        d = self.differences(metric, year)
        return d.share(d.values < 0).best, d.share(d.values > 0).best

    def _pair(self, metric: str, year: float | None) -> tuple[F64, F64, I64, I64]:
        """Values of both that occur together, in how many trials each time, and in which stratum."""
        result = self.result
        y, m = self._year(year), result._column(metric)
        rows = result.tally.joint[y]
        p, q = result.policies.index(self.policy), result.policies.index(self.to)
        a, b = result._values[p][rows[:, p], m], result._values[q][rows[:, q], m]
        return a, b, result.tally.joint_counts[y], result.tally.states[p][rows[:, p], STRATUM]

    def _year(self, year: float | None) -> int:
        """Place of a year among those that are compared; None is the last."""
        if year is None:
            return len(self.years) - 1
        self.result._point_of(year)
        for place, known in enumerate(self.years):
            if abs(year - known) < 1e-9:
                return place
        years = ", ".join(f"{y:g}" for y in self.years)
        raise MetricError(f"year {year} is not one at which policies are compared; those are {years}")
