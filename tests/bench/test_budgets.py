"""The benchmark runs and measures something for every budget; whether a budget is met is for its table to say."""

from __future__ import annotations

import math

from budgets import Budget, fleet_budget, kernel_budgets, rare_budget, thread_budget


def test_every_engine_budget_is_measured() -> None:
    rows = [*kernel_budgets(repeats=1), fleet_budget(repeats=1), thread_budget(repeats=1, blocks=2)]
    rows.append(rare_budget())
    assert len({row.what for row in rows}) == len(rows) == 7
    assert all(math.isfinite(row.measured) for row in rows)  # differences of noisy times may have either sign


def test_a_budget_is_met_on_the_right_side_of_its_goal() -> None:
    assert Budget("a rate", 12.0, 10.0, "errors/s", at_most=False).met
    assert not Budget("a time", 12.0, 10.0, "s", at_most=True).met
