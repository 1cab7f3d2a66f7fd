"""Small tables of whole numbers that must not change unnoticed. `pytest tests/golden --update-golden` rewrites them.

Only integers, so that they are exact on every machine: what the streams draw, what the kernel counts, what is printed
of rules. They change when STREAM_VERSION does, or the block size, or a policy; a change must be meant.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from typer.testing import Result as CliResult

import poisonsim as ps
from poisonsim.engine.block import year_points
from poisonsim.engine.state import state_columns
from poisonsim.faults.history import draw_history
from poisonsim.faults.streams import STREAM_VERSION
from poisonsim.results.result import Result
from poisonsim.results.runs import plan_run
from poisonsim.scenario import CountFaults, RateFaults, Scenario, Vm

Golden = Callable[[str, str], None]

POLICIES = ["unmap1g", "unmap1g-private", "hgm4k", "hgm2m", "hgm4k-vma", "migrate1g:spares=3", "migrate-then-hgm2m"]
SCENARIOS = {
    "count": Scenario(),
    "distinct": Scenario(faults=CountFaults(errors=100, placement="distinct-regions")),
    "rate, sparse": Scenario(faults=RateFaults(ue_per_tib_year=0.01)),
    "rate, dense": Scenario(faults=RateFaults(ue_per_tib_year=3.0)),
    "rate, frail": Scenario(faults=RateFaults(ue_per_tib_year=0.01, dispersion=4.0)),
    "rate, ageing": Scenario(faults=RateFaults(ue_per_tib_year=3.0, shape=2.0)),
    "arm64": Scenario(vm=Vm(arch="arm64", contiguous=True), host=ps.Host(cpu="neoverse-v2")),
}


def table(header: tuple[str, ...], rows: list[list[object]]) -> str:
    """Aligned columns."""
    cells = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = ("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "".join(f"{line}\n" for line in lines)


def test_histories(golden: Golden) -> None:
    """The first errors of block 0 and of block 5, with seed 7: trial, base page, minute, and fate in millionths."""
    rows: list[list[object]] = []
    for name, scenario in SCENARIOS.items():
        for block in (0, 5):
            history = draw_history(scenario, 7, block, 512)
            trial = np.repeat(history.trial, np.diff(history.start))
            for e in range(4):
                minute, fate = int(history.years[e] * 525_960), int(history.fate[e] * 1_000_000)
                rows.append([name.replace(", ", "-"), block, trial[e], history.page[e], minute, fate])
    header = ("model", "block", "trial", "page", "minute", "fate")
    golden("histories", f"stream version {STREAM_VERSION}\n{table(header, rows)}")


def totals(res: Result) -> str:
    """Sum over all trials of every column of the state, by policy and year."""
    columns = state_columns(res.plan.ladder.sizes)
    rows: list[list[object]] = []
    for p, policy in enumerate(res.policies):
        states, counts = res.tally.states[p], res.tally.counts[p]
        by_year = [counts[:, point] @ states for point in (0, *year_points(res.plan))]
        for c, column in enumerate(columns):
            rows.append([policy, column, *(int(total[c]) for total in by_year)])
    return table(("policy", "column", *(f"year {year:g}" for year in (0, *res.years))), rows)


@pytest.mark.parametrize("name", ["seed-1t", "seed-1t-distinct", "cloud-1t-ddr4"])
def test_states(golden: Golden, name: str) -> None:
    res = ps.run(name, policies=POLICIES, trials={"cloud-1t-ddr4": 100_000}.get(name, 1000), seed=7)
    golden(f"states_{name}", totals(res))


def test_rule_tables(golden: Golden) -> None:
    """Rows, parameters and the start of the digest of every shipped policy on two ladders."""
    text = ""
    for scenario in (SCENARIOS["count"], SCENARIOS["arm64"]):
        for policy in plan_run(scenario, policies=POLICIES).policies:
            text += f"{policy.label} on {scenario.vm.arch}: shared={policy.shared} hgm={policy.uses_hgm} "
            text += f"spares={policy.spares} digest={policy.digest[:12]}\n"
            text += "".join(f"  {line}\n" for line in policy.text)
            for level in range(len(policy.row_start) - 1):
                rows = policy.rows[policy.row_start[level] : policy.row_start[level + 1]]
                for row in rows:
                    text += f"    level {level}: {row[0]} conditions, action {row[-2]}, to {row[-1]}\n"
    golden("rule_tables", text)


@pytest.mark.parametrize("name", ["hgm2m", "migrate1g", "unmap1g-private"])
def test_policies_show(golden: Golden, cli: Callable[..., CliResult], name: str) -> None:
    golden(f"show_{name}", cli("policies", "show", name).stdout)


def test_policies_list(golden: Golden, cli: Callable[..., CliResult]) -> None:
    golden("policies_list", cli("policies", "list").stdout)
