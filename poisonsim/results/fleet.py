"""What a run of one VM says about a fleet of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from poisonsim.errors import MetricError
from poisonsim.results.statistics import binomial_quantile

if TYPE_CHECKING:
    from poisonsim.results.result import Result


class Fleet:
    """`vms` independent VMs like the simulated one; made by `Result.fleet`."""

    def __init__(self, result: Result, vms: int) -> None:
        if isinstance(vms, bool) or not isinstance(vms, int) or vms < 1:
            raise MetricError(f"vms = {vms!r} is not a positive whole number of VMs")
        self.result = result
        self.vms = vms

    def __repr__(self) -> str:
        policies = ", ".join(self.result.policies)
        return f"<poisonsim fleet: {self.vms:,} VMs like the one of {self.result.n_trials:,} trials; {policies}>"

    def exceeding(self, expression: str) -> pd.DataFrame:
        """How many VMs meet `expression` by each whole year, such as `"tlb_reach_loss > 0.05"`.

        Returns:
            Columns policy, year, expected_vms, expected_low, expected_high (interval from the number of trials),
            p95_vms (not exceeded in 19 fleets out of 20, at the upper end of the interval).

        Raises:
            MetricError: The expression means nothing.

        Examples:
            >>> import poisonsim as ps
            >>> res = ps.run(ps.load_scenario("seed-1t-distinct"), policies=["unmap1g"], trials=1000, seed=7)
            >>> res.fleet(vms=12_000).exceeding("guest_lost_bytes > 99GiB").query("year == 5").expected_vms.item()
            12000.0
        """
        rows = []
        for policy in self.result.policies:
            for year in self.result.years:
                p = self.result.probability(expression, year=year, policy=policy)
                rows.append(
                    {
                        "policy": policy,
                        "year": year,
                        "expected_vms": self.vms * p.best,
                        "expected_low": self.vms * p.low,
                        "expected_high": self.vms * p.high,
                        "p95_vms": binomial_quantile(0.95, self.vms, p.high),
                    }
                )
        return pd.DataFrame(rows)
