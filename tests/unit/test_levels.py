"""Service levels: what they mean, what is refused before anything runs, and what an interval makes of them."""

from __future__ import annotations

from math import inf
from pathlib import Path

import pytest

from poisonsim.errors import MetricError, ScenarioError
from poisonsim.results.levels import parse_levels, read_levels
from poisonsim.results.metrics import metrics_for
from poisonsim.results.statistics import Estimate

METRICS = metrics_for(("1G", "2M", "4K"))


def test_levels_of_any_kind() -> None:
    texts = ["vm_lost per year <= 0.1%", "p99(slowdown) < 1.01", "capacity_cost_bytes <= 0.5% of memory",
             "mean(tlb_reach_bytes) >= 1GiB", "P(guest_lost_bytes > 8GiB) <= 1%"]  # fmt: skip
    levels = parse_levels(texts, METRICS)
    assert [level.text for level in levels] == [
        "mean(vm_lost) per year <= 0.1%", "p99(slowdown) < 1.01", "mean(capacity_cost_bytes) <= 0.5% of memory",
        "mean(tlb_reach_bytes) >= 1GiB", "P(guest_lost_bytes > 8GiB) <= 1%",
    ]  # fmt: skip
    assert [level.lower_is_better for level in levels] == [True, True, True, False, True]


@pytest.mark.parametrize(
    ("texts", "fragment"),
    [
        ([], 'no service level is given; name what must hold, for example levels=["vm_lost per year <= 0.1%"'),
        (5, "is not a list of conditions"),
        ("vm_lost", "OP is one of < <= > >=; write for example levels="),
        ([3], "is not a list of conditions"),
        (["speed < 1"], "unknown metric 'speed'"),
        (["slow_down < 1"], "did you mean slowdown?"),
        (["vm_lost"], "is no condition"),
        (["hgm2m: vm_lost <= 1%"], "a service level holds for every policy; drop 'hgm2m:'"),
        (["vm_lost <= 100%"], "can never fail, for vm_lost is at most 1; drop it, or ask more"),
        (["vm_lost <= 250%"], "can never fail"),
        (["guest_lost_bytes >= 0"], "can never fail, for guest_lost_bytes is at least 0"),
        (["P(errors > 2) <= 1"], "can never fail, for P is at most 1"),
        (["vm_lost <= -1%"], "can never be met, for vm_lost is at least 0; ask less"),
        (["vm_lost < 0"], "can never be met"),
        (["capacity_cost_bytes <= -5% of memory"], "can never be met, for capacity_cost_bytes is at least 0"),
        (["share_1g > 1"], "can never be met, for share_1g is at most 1"),
        (["p99(slowdown) < 1.01", "p99(slowdown) > 1.02"], "contradicts 'p99(slowdown) < 1.01'; no value meets both"),
        (["vm_lost per year > 0.1%"], "write 'mean(vm_lost) per year <= 0.1%'"),
        (["P(slowdown < 1.01) <= 5%"], "holds where things are bad (slowdown: lower is better)"),
        (["errors < 5", "errors >= 5"], "contradicts 'mean(errors) < 5'"),
        (["errors < 5", "mean(errors) < 5"], "is given twice, as 'mean(errors) < 5'; drop one"),
    ],
)
def test_levels_that_make_no_sense(texts: list[str], fragment: str) -> None:
    with pytest.raises(MetricError) as caught:
        parse_levels(texts, METRICS)
    assert fragment in str(caught.value)


def test_every_problem_is_told_and_bounds_that_leave_room_are_none() -> None:
    with pytest.raises(MetricError) as caught:
        parse_levels(["a < 1", "b < 1", "vm_lost >= 0"], METRICS)
    assert len(caught.value.problems) == 3
    assert len(parse_levels(["errors <= 5", "errors >= 5", "tlb_reach_bytes >= 5", "vm_lost <= 0"], METRICS)) == 4
    assert len(parse_levels(["errors < 5", "errors per year > 5"], METRICS)) == 2


def test_standings_and_how_many_trials_decide() -> None:
    most, least = parse_levels(["vm_lost <= 10%", "tlb_reach_bytes >= 0.1"], METRICS)
    below, across, above = (Estimate(b - 0.01, b, b + 0.02, "1") for b in (0.05, 0.095, 0.15))
    assert [most.standing(value) for value in (below, across, above, None)] == ["met", "open", "failed", "open"]
    assert [least.standing(value) for value in (below, across, above)] == ["failed", "open", "met"]
    assert most.standing(Estimate(0.1, 0.1, 0.1, "1")) == "met"
    assert most.trials_to_decide(across, 1000) == pytest.approx(1000 * (0.02 / 0.005) ** 2)
    assert most.trials_to_decide(Estimate(0.095, 0.105, 0.2, "1"), 1000) == pytest.approx(4000)
    assert most.trials_to_decide(Estimate(0.09, 0.1, 0.11, "1"), 1000) == inf
    assert most.trials_to_decide(Estimate(0.08, 0.09, 0.1001, "1"), 1000) == 1250  # 1,000 have not done it


def test_files_of_levels(tmp_path: Path) -> None:
    path = tmp_path / "levels.toml"
    path.write_text('levels = ["vm_lost per year <= 0.1%", "p99(slowdown) < 1.01"]\n')
    assert read_levels(path) == ("vm_lost per year <= 0.1%", "p99(slowdown) < 1.01")


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("levels = [", "levels.toml: "),
        ("", "has no levels; write levels = ["),
        ('level = ["a < 1"]', "level: unknown key; did you mean levels?"),
        ('levels = "vm_lost < 1%"', "levels: 'vm_lost < 1%' is not a list of conditions"),
        ("levels = [1]", "levels: [1] is not a list of conditions"),
        ("[levels]\nvm_lost = 1", "is not a list of conditions"),
    ],
)
def test_files_that_hold_no_levels(tmp_path: Path, text: str, fragment: str) -> None:
    path = tmp_path / "levels.toml"
    path.write_text(text)
    with pytest.raises(ScenarioError) as caught:
        read_levels(path)
    assert fragment in str(caught.value)
    with pytest.raises(ScenarioError, match="cannot be read"):
        read_levels(tmp_path / "none.toml")
