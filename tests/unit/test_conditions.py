"""Conditions that fail a run, and precisions that end one: what they mean, and that no text makes them do more."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import poisonsim as ps
from poisonsim.errors import MetricError
from poisonsim.results.conditions import STATISTICS, parse_condition, parse_width
from poisonsim.results.metrics import metrics_for
from poisonsim.results.result import Result
from poisonsim.results.statistics import Estimate

ENDS = ("low", "best", "high")
METRICS = metrics_for(("1G", "2M", "4K"))
LABELS = ["unmap1g", "hgm2m", "migrate1g:spares=2"]


@pytest.fixture(scope="module")
def res() -> Result:
    return ps.run("seed-1t", policies=LABELS, trials=1000, seed=7)


@pytest.mark.parametrize(
    ("text", "name", "symbol", "bound", "policies"),
    [
        ("p99(slowdown) > 1.02", "p99(slowdown)", ">", 1.02, LABELS),
        (" hgm2m :p50( table_bytes )<=2MiB ", "p50(table_bytes)", "<=", 2 << 20, ["hgm2m"]),
        ("migrate1g:spares=2: mean(vm_lost) >= 5%", "mean(vm_lost)", ">=", 0.05, ["migrate1g:spares=2"]),
        ("P(guest_lost_bytes > 8GiB) > 1%", "P(guest_lost_bytes > 8GiB)", ">", 0.01, LABELS),
        ("unmap1g: P(errors >= 1) < 0.5", "P(errors >= 1)", "<", 0.5, ["unmap1g"]),
        ("mean(stall_seconds) > 2.5s", "mean(stall_seconds)", ">", 2.5, LABELS),
        ("slowdown > 1", "mean(slowdown)", ">", 1.0, LABELS),
        ("hgm2m: vm_lost  per  year <= 0.1%", "mean(vm_lost) per year", "<=", 0.001, ["hgm2m"]),
        ("vm_lost<=0.1%  per year ", "mean(vm_lost) per year", "<=", 0.001, LABELS),
        ("guest_lost_bytes < 1% of memory per year", "mean(guest_lost_bytes) per year", "<", 0.01, LABELS),
        ("p99.9(stall_seconds) > 30", "p99.9(stall_seconds)", ">", 30.0, LABELS),
        ("p99(stall_seconds) per year<30", "p99(stall_seconds) per year", "<", 30.0, LABELS),
        ("P(errors > 2) per year < 1%", "P(errors > 2) per year", "<", 0.01, LABELS),
        ("capacity_cost_bytes <= 0.5% of memory", "mean(capacity_cost_bytes)", "<=", 0.005, LABELS),
        ("p99(table_bytes) <= 1%of host memory", "p99(table_bytes)", "<=", 0.01, LABELS),
        ("guest_lost_bytes per year < 2 % of the VM's memory", "mean(guest_lost_bytes) per year", "<", 0.02, LABELS),
    ],
)
def test_conditions(text: str, name: str, symbol: str, bound: float, policies: list[str]) -> None:
    found = parse_condition(text, METRICS, LABELS)
    assert (found.quantity.text, found.symbol, found.bound) == (name, symbol, bound)
    assert list(found.quantity.policies) == policies


def test_any_percentile_is_the_quantile_of_that_name(res: Result) -> None:
    lost = res.distribution("unmap1g", "guest_lost_bytes")
    for text, q in (("p90", 0.9), ("p97.5", 0.975), ("p5", 0.05)):
        quantity = parse_condition(f"unmap1g: {text}(guest_lost_bytes) > 1", METRICS, LABELS).quantity
        assert quantity.of(res, "unmap1g") == lost.quantile(q, "bytes") is not None
    rare = parse_condition("p99.9(guest_lost_bytes) > 1", METRICS, LABELS).quantity
    assert (rare.of(res, "unmap1g"), rare.trials_needed(res.plan)) == (None, 10_000)


def test_a_condition_is_asked_of_those_asked_for_and_of_any_by_name() -> None:
    assert parse_condition("mean(errors) > 1", METRICS, LABELS, ["hgm2m"]).quantity.policies == ("hgm2m",)
    assert parse_condition("unmap1g: mean(errors) > 1", METRICS, LABELS, ["hgm2m"]).quantity.policies == ("unmap1g",)


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("", "is no condition: it is `[POLICY:] QUANTITY OP VALUE`"),
        ("p99(slowdown)", "is no condition"),
        ("slow_down > 1", "unknown metric 'slow_down'; did you mean slowdown?"),
        (
            "slowdown per year > 1",
            "slowdown does not add up over the years; drop 'per year', or ask it of one of errors",
        ),
        ("P(slowdown > 1) per year > 1%", "slowdown does not add up over the years"),
        ("vm_lost per month > 1", "is no condition"),
        ("slowdown < 1% of memory", "only an amount of bytes is a share of memory, as in"),
        ("P(errors > 1) < 1% of memory", "'1% of memory' is no probability; write one such as 1% or 0.01"),
        ("table_bytes < x% of memory", "'x% of memory' is no share of memory; write one such as 0.5% of memory"),
        ("table_bytes < 1% of disk", ": '1% of disk' is no value; table_bytes takes a size such as 8GiB"),
        ("p99(slowdown) == 1.02", "is no condition"),
        ("p99(slowdown) > 1.02 or 1", ": '1.02 or 1' is no value; slowdown takes a number such as 1.01"),
        ("__import__('os').system('true') > 1", "is no condition"),
        ("exec(slowdown) > 1", "'exec' is not one of mean, p50, p95, p99, p99.9, P, nor"),
        ("vm_lost per year > 1% per year", "says 'per year' twice; say it once"),
        ("table_bytes > 5q", "'table_bytes > 5q': '5q' has unknown unit 'q'"),
        ("p100(slowdown) > 1", "nor another percentile between p0 and p100"),
        ("p0.0(slowdown) > 1", "'p0.0' is not one of"),
        ("pp99(slowdown) > 1", "did you mean p99?"),
        ("hgm2: p99(slowdown) > 1", "policy 'hgm2' is not in this run; did you mean hgm2m?; it has unmap1g, hgm2m"),
        ("p99(slow_down) > 1", "unknown metric 'slow_down'; did you mean slowdown?"),
        ("p99(slowdown) > 1%", "a slowdown is a ratio; slowdown takes a number such as 1.01"),
        ("p99(guest_lost_bytes) > 8G", "'8G' is ambiguous"),
        ("P(slowdown) > 1%", "'slowdown' is not `metric operator value`"),
        ("P(errors > 1) > 5", "'5' is no probability; write one such as 1% or 0.01"),
        ("P(errors > 1) > x%", "'x%' is no probability"),
        ("P(errors > 1) > nan", "'nan' is no probability"),
        ("p99(slowdown) > " + "1" * 400, "is no condition"),
    ],
)
def test_conditions_that_mean_nothing(text: str, fragment: str) -> None:
    with pytest.raises(MetricError) as caught:
        parse_condition(text, METRICS, LABELS)
    assert fragment in str(caught.value)


@pytest.mark.parametrize(
    ("text", "relative", "bound"),
    [
        ("p99(guest_lost_bytes) within 5%", True, 0.05),
        ("hgm2m: mean(slowdown) within 0.001", False, 0.001),
        ("mean(table_bytes) within 64 KiB", False, 65536),
        ("P(guest_lost_bytes > 8GiB) within 0.1%", True, 0.001),
        ("P(guest_lost_bytes > 8GiB) within 0.001", False, 0.001),
    ],
)
def test_widths(text: str, relative: bool, bound: float) -> None:
    found = parse_width(text, METRICS, LABELS)
    assert (found.relative, found.bound) == (relative, bound)


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("p99(slowdown) > 1.02", "is no width to reach; write for example 'p99(guest_lost_bytes) within 5%'"),
        ("p99(slowdown) within", "is no width to reach"),
        ("p99(slowdown) within 0%", "'0%' is no half-width; write for example 5%"),
        ("p99(slowdown) within -1", "'-1' is no half-width; write for example 5% or an amount above 0"),
        ("p99(slowdown) within x%", "'x%' is no half-width"),
        ("p99(slowdown) within inf%", "'inf%' is no half-width"),
        ("mean(table_bytes) within 5 apples", "unknown unit 'apples'"),
        ("P(errors > 1) within y", "'y' is no half-width"),
        ("median(errors) within 5%", "'median' is not one of mean"),
    ],
)
def test_widths_that_mean_nothing(text: str, fragment: str) -> None:
    with pytest.raises(MetricError) as caught:
        parse_width(text, METRICS, LABELS)
    assert fragment in str(caught.value)


WORDS = st.sampled_from(
    [*STATISTICS, *LABELS, "errors", "slowdown", "guest_lost_bytes", "vm_lost", "(", ")", ":", ">", "<=", "==",
     "within", "per year", "of memory",
     "5%", "8GiB", "1e999", "-1", "nan", "inf", "1_0", "٣", "²", ".", "__import__('os')",
     "{}", "\0", "\n", "lambda: 0"]
)  # fmt: skip


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(st.text(max_size=80), st.lists(WORDS, max_size=12).map(" ".join), st.lists(WORDS).map("".join)))
@example("p99(slowdown) > 1" + " " * 5000)
@example(":" * 299)
@example("a:" * 149 + "(")
@example("p99(errors) > ²")
@example("mean(table_bytes) > 1e999GiB")
@example("mean(table_bytes) within ._")
def test_any_text_is_a_condition_or_a_clear_error(text: str) -> None:
    for parse in (parse_condition, parse_width):
        try:
            found = parse(text, METRICS, LABELS)
        except MetricError as error:
            assert len(error.problems) == 1 and error.problems[0]
        else:
            assert not math.isnan(found.bound)
            assert found.quantity.statistic in STATISTICS and set(found.quantity.policies) <= set(LABELS)


def test_verdicts_say_the_value_and_whether_it_is_clear(res: Result) -> None:
    [sure] = parse_condition("hgm2m: p99(guest_lost_bytes) < 1MiB", res.metrics, res.policies).verdicts(res)
    assert (sure.holds, sure.clear, str(sure)) == (True, True, "hgm2m: p99(guest_lost_bytes) is 400 KiB, < 1MiB")
    share = res.probability("vm_lost == 1", policy="hgm2m")
    for bound, holds in (((share.low + share.best) / 2, True), ((share.high + share.best) / 2, False)):
        [near] = parse_condition(f"hgm2m: P(vm_lost == 1) > {bound}", res.metrics, res.policies).verdicts(res)
        assert (near.holds, near.clear) == (holds, False)
        assert str(near).endswith("; the interval spans the bound, so more trials (--trials) may turn it")
    of_all = parse_condition("mean(errors) > 99", res.metrics, res.policies).verdicts(res)
    assert [(verdict.policy, verdict.holds) for verdict in of_all] == [(label, True) for label in LABELS]


def test_amounts_per_year_and_shares_of_memory(res: Result) -> None:
    whole, share = res.mean("hgm2m", "vm_lost"), res.mean("hgm2m", "guest_lost_bytes").best / (1 << 40)
    lost = parse_condition("hgm2m: vm_lost per year > 1%", res.metrics, res.policies)
    [verdict] = lost.verdicts(res)
    assert verdict.value is not None
    assert (verdict.value.low, verdict.value.best) == (whole.low / 5, whole.best / 5)
    assert re.fullmatch(r"hgm2m: mean\(vm_lost\) per year is 1[67]\.\d* \([\d.–]+\) %, > 1%", str(verdict))
    of_memory = parse_condition("hgm2m: guest_lost_bytes < 0.5% of memory", res.metrics, res.policies).verdicts(res)
    assert of_memory[0].value is not None and of_memory[0].value.best == share and of_memory[0].value.unit == "1"
    assert str(of_memory[0]) == "hgm2m: mean(guest_lost_bytes) is 0 % of memory, < 0.5% of memory"
    both = parse_condition("hgm2m: guest_lost_bytes per year < 0.5% of memory", res.metrics, res.policies)
    assert both.verdicts(res)[0].value == Estimate(*(getattr(of_memory[0].value, end) / 5 for end in ENDS), "1")


def test_a_quantile_that_is_not_known_holds(res: Result) -> None:
    few = ps.run("seed-1t", policies=["hgm2m"], trials=100, seed=7)
    [verdict] = parse_condition("p99(slowdown) > 5", few.metrics, few.policies).verdicts(few)
    assert (verdict.holds, verdict.clear) == (True, False)
    assert str(verdict) == "hgm2m: p99(slowdown) cannot be told from so few trials; raise --trials"


def test_a_width_is_the_longer_side_of_the_interval(res: Result) -> None:
    value = res.probability("vm_lost == 1", policy="hgm2m")
    half = max(value.high - value.best, value.best - value.low)
    for bound, reached in ((half * 1.001, True), (half * 0.999, False)):
        for text in (f"within {bound!r}", f"within {100 * bound / value.best!r}%"):
            width = parse_width(f"hgm2m: P(vm_lost == 1) {text}", res.metrics, res.policies)
            assert width.reached(res) == reached
            assert width.trials_wanted(res) == pytest.approx(1000, rel=0.01)


def test_a_share_of_nothing_is_never_reached_and_an_amount_is(res: Result) -> None:
    share = parse_width("hgm2m: mean(reserved_bytes) within 5%", res.metrics, res.policies)
    assert not share.reached(res) and math.isinf(share.trials_wanted(res))
    assert share.problem(res).startswith(
        "mean(reserved_bytes) of hgm2m is 0 in 1,000 trials, and no interval is within"
    )
    assert "give an amount, as in 'mean(reserved_bytes) within 1MiB'" in share.problem(res)
    amount = parse_width("hgm2m: mean(reserved_bytes) within 1MiB", res.metrics, res.policies)
    assert amount.reached(res) and amount.problem(res) == ""


@pytest.mark.parametrize("bound", ["1e-300", "1e-320", "1e-318%", "5e-324"])
def test_a_width_that_nothing_reaches_takes_more_trials_than_there_are(res: Result, bound: str) -> None:
    try:
        width = parse_width(f"hgm2m: P(vm_lost == 1) within {bound}", res.metrics, res.policies)
    except MetricError as error:
        assert "is no half-width" in str(error)
        return
    assert not width.reached(res) and width.trials_wanted(res) > res.plan.most_trials
