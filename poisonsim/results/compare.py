"""Two policies on the same histories: differences trial by trial."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from poisonsim.engine.block import year_points
from poisonsim.engine.state import STRATUM
from poisonsim.errors import MetricError
from poisonsim.results.statistics import Distribution, Estimate, ratio_of_means

if TYPE_CHECKING:
    from poisonsim.results.result import Result

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Comparison:
    """How `policy` differs from `to` in each trial; made by `Result.compare`."""

    result: Result
    policy: str
    to: str

    @staticmethod
    def of(result: Result, policy: int, to: int) -> Comparison:
        """The comparison of two policies of a run, by their place in it."""
        return Comparison(result, result.policies[policy], result.policies[to])

    def table(self) -> pd.DataFrame:
        """Paired differences of every metric at every whole year.

        Returns:
            Columns metric, unit, year, diff, diff_low, diff_high (mean of `policy` minus `to`), share_less,
            share_more (probabilities that `policy` has the lower or the higher value), and significant:
            whether the interval leaves out zero.
        """
        rows = []
        for metric in self.result.metrics:
            for year in self.result.years:
                d = self.differences(metric.name, year)
                mean = d.mean()
                rows.append(
                    {
                        "metric": metric.name,
                        "unit": metric.unit,
                        "year": year,
                        "diff": mean.best,
                        "diff_low": mean.low,
                        "diff_high": mean.high,
                        "share_less": d.share(d.values < 0).best,
                        "share_more": d.share(d.values > 0).best,
                        "significant": mean.low > 0 or mean.high < 0,
                    }
                )
        return pd.DataFrame(rows)

    def differences(self, metric: str, year: float | None = None) -> Distribution:
        """Distribution over trials of `policy` minus `to`.

        Raises:
            MetricError: No such metric, or a year that is not one of the run's whole years.
        """
        a, b, counts, stratum = self._pair(metric, year)
        return Distribution.of(a - b, counts, stratum, self.result.weights)

    def ratio(self, metric: str, year: float | None = None) -> Estimate | None:
        """Mean of `policy` over mean of `to`, with a paired (delta method) interval; None where the latter is 0.

        Examples:
            >>> import poisonsim as ps
            >>> res = ps.run(ps.load_scenario("seed-1t-distinct"), policies=["hgm2m", "hgm4k"], trials=1000, seed=7)
            >>> print(res.compare("hgm4k", to="hgm2m").ratio("table_bytes"))
            256.5
        """
        a, b, counts, stratum = self._pair(metric, year)
        return ratio_of_means(a, b, counts, stratum, self.result.weights)

    def _pair(self, metric: str, year: float | None) -> tuple[F64, F64, I64, I64]:
        result = self.result
        points = year_points(result.plan)
        point = result._point_of(year)
        if point not in points:
            years = ", ".join(f"{y:g}" for y in result.years)
            raise MetricError(f"year {year} is not one at which policies are compared; those are {years}")
        y = points.index(point)
        m = result._column(metric)
        rows = result.tally.joint[y]
        p, q = result.policies.index(self.policy), result.policies.index(self.to)
        a, b = result._values[p][rows[:, p], m], result._values[q][rows[:, q], m]
        return a, b, result.tally.joint_counts[y], result.tally.states[p][rows[:, p], STRATUM]
