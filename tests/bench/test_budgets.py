"""The benchmark runs and measures something for every budget; whether a budget is met is for its table to say."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import costs
import pytest
from budgets import LOG_GOALS, Budget, fleet_budget, kernel_budgets, log_budgets, rare_budget, thread_budget


def test_every_engine_budget_is_measured() -> None:
    rows = [*kernel_budgets(repeats=1), fleet_budget(repeats=1), thread_budget(repeats=1, blocks=2)]
    rows.append(rare_budget())
    assert len({row.what for row in rows}) == len(rows) == 7
    assert all(math.isfinite(row.measured) for row in rows)  # differences of noisy times may have either sign


def test_the_rate_of_every_format_of_logs_is_measured() -> None:
    rows = log_budgets(2_000, repeats=1)
    assert len(rows) == len(LOG_GOALS) and all(row.measured > 0 for row in rows)


@pytest.mark.long
def test_logs_are_read_at_the_rates_that_they_should(capsys: pytest.CaptureFixture[str]) -> None:
    """Prints the table, in seconds of a core; on a busy machine a core may do a third of what it does else."""
    rows = log_budgets(100_000, repeats=3)
    with capsys.disabled():
        for row in rows:
            print(f"\n{row.what:<44} {row.measured:6.3f} {row.unit} >= {row.goal:g}", end="")
    assert all(row.measured > row.goal / 3 for row in rows)


def test_a_budget_is_met_on_the_right_side_of_its_goal() -> None:
    assert Budget("a rate", 12.0, 10.0, "errors/s", at_most=False).met
    assert not Budget("a time", 12.0, 10.0, "s", at_most=True).met


def test_a_doubled_cost_fails_and_a_recorded_one_is_the_next_measure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    history, loops = tmp_path / "costs.csv", [1]
    monkeypatch.setattr(costs, "works", lambda _: [("loop", lambda: [costs.calibration() for _ in range(loops[0])])])
    assert costs.main([], history, repeats=3) is None and "new" in capsys.readouterr().out
    assert costs.main(["--record"], history, repeats=3) is None
    assert costs.main([], history, repeats=3) is None
    loops[0] = 4
    failed = costs.main([], history, repeats=3)
    assert failed is not None and failed.startswith("costs more than 2 times what costs.csv says: loop")
    assert costs.main(["--record"], history, repeats=3) is None
    assert costs.main([], history, repeats=3) is None
    assert len(history.read_text().splitlines()) == 3


def test_the_committed_costs_are_of_what_is_measured(tmp_path: Path) -> None:
    assert {what for what, _ in costs.works(tmp_path)} <= set(costs.recorded(costs.HISTORY))


@pytest.mark.long
@pytest.mark.parametrize(("scenario", "trials"), [("cloud-1t-ddr4", 100_000_000), ("seed-1t", 10_000_000)])
def test_the_longest_runs_fit_a_small_machine(scenario: str, trials: int, tmp_path: Path) -> None:
    """Under 1 GiB resident, and 200 MB on disk."""
    command = f"run {scenario} -p hgm2m --trials {trials} --no-report --out {tmp_path / 'run'}".split()
    with subprocess.Popen([sys.executable, "-m", "poisonsim", *command], stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert used.ru_maxrss < 1 << 20
    assert sum(file.stat().st_size for file in (tmp_path / "run").rglob("*")) < 200e6
