"""What a result says: tables, samples, life averages, paired differences, probabilities, fleets."""

from __future__ import annotations

import json
import math
import re

import intervals
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import poisonsim as ps
from poisonsim.errors import FewTailTrials, MetricError
from poisonsim.policy import BACKING, BASE, SPLIT, UNMAP, Policy, on
from poisonsim.results.conditions import parse_condition
from poisonsim.results.numbers import as_probability, in_bytes
from poisonsim.results.result import Result
from poisonsim.results.words import paired_sentence
from poisonsim.scenario import CountFaults, Horizon, Host, RateFaults, Scenario

POLICIES = ["unmap1g", "hgm2m", "migrate1g"]
COLUMNS = [
    "policy",
    "metric",
    "unit",
    "year",
    "mean",
    "mean_low",
    "mean_high",
    "p50",
    "p95",
    "p99",
    "p99_low",
    "p99_high",
]


@pytest.fixture(scope="module")
def res() -> Result:
    """A VM whose number of errors varies, over a short and coarse horizon."""
    scenario = Scenario(faults=RateFaults(ue_per_tib_year=3.0), horizon=Horizon(years=2, grid="3months"))
    return ps.run(scenario, policies=POLICIES, trials=1200, seed=5)


@pytest.fixture(scope="module")
def summary(res: Result) -> pd.DataFrame:
    return res.summary()


@pytest.fixture(scope="module")
def samples(res: Result) -> dict[float, pd.DataFrame]:
    return {year: res.samples(year=float(year)) for year in res.plan.scenario.horizon.grid_years}


def of(frame: pd.DataFrame, policy: str, metric: str) -> np.ndarray:
    return np.asarray(frame.loc[frame["policy"] == policy, metric])


# ------------------------------------------------------------------------------------------------- the summary


def test_a_summary_is_tidy(res: Result, summary: pd.DataFrame) -> None:
    assert list(summary.columns) == COLUMNS
    assert summary.index.equals(pd.RangeIndex(len(summary)))
    assert list(summary["year"].unique()) == [1, 2, "life"]
    assert len(summary) == len(POLICIES) * len(res.metrics) * 3
    assert not summary.duplicated(["policy", "metric", "year"]).any()
    units = {metric.name: metric.unit for metric in res.metrics}
    assert (summary["unit"] == summary["metric"].map(units)).all()
    assert (summary["mean_low"] <= summary["mean"]).all() and (summary["mean"] <= summary["mean_high"]).all()


def test_a_summary_is_that_of_the_samples(
    res: Result, summary: pd.DataFrame, samples: dict[float, pd.DataFrame]
) -> None:
    for row in summary[summary["year"] != "life"].itertuples():
        values = of(samples[row.year], row.policy, row.metric)
        ordered = np.sort(values)
        assert row.mean == pytest.approx(values.mean(), rel=1e-12, abs=1e-15)
        assert (row.p50, row.p95, row.p99) == (ordered[599], ordered[1139], ordered[1187])
        if row.metric in ("vm_lost", "spares_exhausted"):
            k, n = int(values.sum()), len(values)
            assert row.mean_low == pytest.approx(stats.beta.ppf(0.025, k, n - k + 1) if k else 0.0)
            assert row.mean_high == pytest.approx(stats.beta.ppf(0.975, k + 1, n - k) if k < n else 1.0)
        else:
            low, high = intervals.of_a_mean(values)
            slack = 1e-9 * max(abs(row.mean), 1e-3)
            assert row.mean_high == pytest.approx(high, rel=1e-6, abs=slack)
            assert row.mean_low == pytest.approx(low if values.min() < 0 else max(low, 0), rel=1e-6, abs=slack)


def test_the_life_row_is_the_trapezoid_of_the_series(res: Result, summary: pd.DataFrame) -> None:
    life = summary[summary["year"] == "life"].set_index(["policy", "metric"])["mean"]
    for metric in res.metrics:
        for policy, series in res.series(metric.name).groupby("policy"):
            expected = np.trapezoid(series["mean"], series["year"]) / 2
            assert life[policy, metric.name] == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_life_quantiles_are_those_of_each_trials_own_average(
    res: Result, summary: pd.DataFrame, samples: dict[float, pd.DataFrame]
) -> None:
    life = summary[summary["year"] == "life"].set_index(["policy", "metric"])
    for policy in POLICIES:
        for metric in ("guest_lost_bytes", "table_bytes", "tlb_reach_loss", "vm_lost", "reserved_bytes"):
            by_time = np.array([of(frame, policy, metric) for frame in samples.values()])
            average = np.sort(np.trapezoid(by_time, list(samples), axis=0) / 2)
            row = life.loc[(policy, metric)]
            assert [row["p50"], row["p95"], row["p99"]] == pytest.approx(
                average[[599, 1139, 1187]], rel=1e-9, abs=1e-15
            )


def test_years_are_whole_ones_and_the_end() -> None:
    scenario = Scenario(faults=RateFaults(ue_per_tib_year=3.0), horizon=Horizon(years=2.5, grid="6months"))
    res = ps.run(scenario, policies=["hgm2m"], trials=1000, seed=5)
    assert res.years == [1, 2, 2.5]
    assert list(res.summary()["year"].unique()) == [1, 2, 2.5, "life"]


# ------------------------------------------------------------------------------------------------- series and samples


def test_a_series_starts_without_errors_and_ends_at_the_horizon(res: Result, summary: pd.DataFrame) -> None:
    series = res.series("guest_lost_bytes")
    assert list(series.columns) == ["policy", "year", "mean", "p05", "p50", "p95", "p99"]
    assert len(series) == len(POLICIES) * 9
    first, last = (series[series["year"] == year] for year in (0, 2))
    assert (first[["mean", "p05", "p50", "p95", "p99"]] == 0).all().all()
    at_end = summary[(summary["year"] == 2) & (summary["metric"] == "guest_lost_bytes")]
    assert last["mean"].tolist() == at_end["mean"].tolist() and last["p99"].tolist() == at_end["p99"].tolist()
    for _, one in series.groupby("policy"):
        assert (np.diff(one["mean"]) >= 0).all()


def test_samples_number_every_trial_of_every_policy(res: Result) -> None:
    frame = res.samples()
    assert list(frame.columns) == ["policy", "trial", "weight", *(metric.name for metric in res.metrics)]
    assert (frame["weight"] == 1 / 1200).all()
    for policy in POLICIES:
        assert frame.loc[frame["policy"] == policy, "trial"].tolist() == list(range(1200))


@pytest.mark.parametrize("trials", [1, 7, 1199, 1200, 5000])
def test_fewer_samples_are_the_first_ones(res: Result, trials: int) -> None:
    whole, part = res.samples(year=1), res.samples(year=1, trials=trials)
    expected = whole[whole["trial"] < trials].reset_index(drop=True)
    pd.testing.assert_frame_equal(
        part.sort_values(["policy", "trial"], ignore_index=True).drop(columns="weight"),
        expected.sort_values(["policy", "trial"], ignore_index=True).drop(columns="weight"),
    )
    assert (part["weight"] == 1 / min(trials, 1200)).all()


@pytest.mark.parametrize("trials", [0, -1])
def test_samples_of_no_trials_are_refused_in_words(res: Result, trials: int) -> None:
    with pytest.raises(MetricError):
        res.samples(trials=trials)


def test_samples_do_not_change_when_trials_are_raised(res: Result) -> None:
    more = ps.run(res.plan.scenario, policies=POLICIES, trials=2600, seed=5)
    for year in (1, 2):
        a, b = res.samples(year=year), more.samples(year=year, trials=1200)
        pd.testing.assert_frame_equal(
            a.sort_values(["policy", "trial"], ignore_index=True), b.sort_values(["policy", "trial"], ignore_index=True)
        )


@pytest.mark.parametrize("year", [-1, 0.1, 2.25, 3, math.nan])
def test_a_time_off_the_grid_is_refused(res: Result, year: float) -> None:
    with pytest.raises(MetricError, match="is not on the grid, which goes from 0 to 2 in 8 steps"):
        res.samples(year=year)


def test_a_metric_or_policy_that_does_not_exist_is_refused(res: Result) -> None:
    with pytest.raises(MetricError, match="unknown metric 'slow_down'; did you mean slowdown\\?"):
        res.series("slow_down")
    with pytest.raises(MetricError, match="policy 'hgm2' is not in this run; did you mean hgm2m\\?; it has unmap1g"):
        res.compare("hgm2", to="unmap1g")
    with pytest.raises(MetricError, match="policy 'hgm4k' is not in this run"):
        res.compare("hgm2m", to="hgm4k")
    with pytest.raises(MetricError, match="unknown metric"):
        res.distribution("hgm2m", "tables")


# ------------------------------------------------------------------------------------------------- comparisons


def test_a_paired_difference_is_the_mean_of_the_differences(res: Result, samples: dict[float, pd.DataFrame]) -> None:
    table = res.compare("hgm2m", to="unmap1g").table()
    assert list(table.columns) == [
        "metric", "unit", "year", "diff", "diff_low", "diff_high", "share_less", "share_more", "significant",
        "ratio", "ratio_low", "ratio_high",
    ]  # fmt: skip
    assert len(table) == len(res.metrics) * 2
    for row in table.itertuples():
        d = of(samples[row.year], "hgm2m", row.metric) - of(samples[row.year], "unmap1g", row.metric)
        low, high = intervals.of_a_mean(d)
        if d.min() >= 0:
            low = max(low, 0.0)
        scale = max(abs(d).max(), 1e-12)
        assert row.diff == pytest.approx(d.mean(), rel=1e-9, abs=1e-12 * scale)
        assert (row.diff_low, row.diff_high) == pytest.approx((low, high), rel=1e-6, abs=1e-9 * scale)
        assert (row.share_less, row.share_more) == ((d < 0).mean(), (d > 0).mean())
        assert row.significant == (row.diff_low > 0 or row.diff_high < 0)


def test_pairing_is_what_makes_differences_sharp(res: Result) -> None:
    paired = res.compare("hgm2m", to="unmap1g").differences("guest_lost_bytes").mean()
    a, b = (res.distribution(policy, "guest_lost_bytes").mean() for policy in ("hgm2m", "unmap1g"))
    unpaired = math.hypot(a.high - a.best, b.high - b.best)
    assert paired.best == pytest.approx(a.best - b.best, rel=1e-12)
    assert paired.high - paired.best <= unpaired


def test_a_policy_does_not_differ_from_itself(res: Result) -> None:
    table = res.compare("hgm2m", to="hgm2m").table()
    assert (table[["diff", "diff_low", "diff_high", "share_less", "share_more"]] == 0).all().all()
    assert not table["significant"].any()


def test_swapping_the_policies_swaps_the_sign(res: Result) -> None:
    a = res.compare("hgm2m", to="migrate1g").table()
    b = res.compare("migrate1g", to="hgm2m").table()
    assert np.allclose(a["diff"], -b["diff"]) and np.allclose(a["diff_low"], -b["diff_high"])
    assert (a["share_less"] == b["share_more"]).all()


def test_a_ratio_has_the_delta_method_interval(res: Result, samples: dict[float, pd.DataFrame]) -> None:
    ratio = res.compare("unmap1g", to="hgm2m").ratio("guest_lost_bytes", year=1)
    assert ratio is not None
    a, b = (of(samples[1.0], policy, "guest_lost_bytes") for policy in ("unmap1g", "hgm2m"))
    best = a.mean() / b.mean()
    variance = (a.var(ddof=1) + best**2 * b.var(ddof=1) - 2 * best * np.cov(a, b)[0, 1]) / len(a)
    assert ratio.best == pytest.approx(best, rel=1e-12)
    assert ((a - best * b).var(ddof=1) / len(a)) == pytest.approx(variance)
    low, high = intervals.of_a_mean(a - best * b)
    assert (ratio.low, ratio.high) == pytest.approx((best + low / b.mean(), best + high / b.mean()), rel=1e-6)


def test_a_ratio_to_nothing_is_none(res: Result) -> None:
    assert res.compare("hgm2m", to="unmap1g").ratio("table_bytes") is None


def test_page_tables_of_4k_are_256_and_a_half_times_those_of_2m(distinct: Result) -> None:
    ratio = distinct.compare("hgm4k", to="hgm2m").ratio("table_bytes")
    assert ratio == ps.Estimate(256.5, 256.5, 256.5, "1")
    difference = distinct.compare("hgm4k", to="hgm2m").differences("table_bytes").mean("bytes")
    assert difference == ps.Estimate(428_013_600.0, 428_013_600.0, 428_013_600.0, "bytes")


@pytest.mark.parametrize("year", [0, 0.25, 1.5])
def test_policies_are_compared_at_whole_years(res: Result, year: float) -> None:
    with pytest.raises(MetricError, match="is not one at which policies are compared; those are 1, 2"):
        res.compare("hgm2m", to="unmap1g").differences("guest_lost_bytes", year)


# ------------------------------------------------------------------------------------------------- sentences


def test_what_is_certain_is_not_marked(distinct: Result) -> None:
    assert "hgm2m loses as much guest memory as hgm4k" in paired_sentence(distinct, "hgm2m", to="hgm4k")
    assert "~" not in paired_sentence(distinct, "hgm2m", to="unmap1g")


class WholeIfEarly(Policy):
    """As hgm2m, but in the first half of life the whole 2M leaf goes."""

    rules = [on(BACKING).do(SPLIT), on("2M", when="age_days < 913").do(UNMAP), on("2M").do(SPLIT), on(BASE).do(UNMAP)]


class WholeIfLate(Policy):
    """As hgm2m, but in the second half of life the whole 2M leaf goes."""

    rules = [on(BACKING).do(SPLIT), on("2M", when="age_days >= 913").do(UNMAP), on("2M").do(SPLIT), on(BASE).do(UNMAP)]


def test_an_uncertain_cost_is_marked() -> None:
    """An error comes early or late with the same chance, so that either policy costs more in half of the VMs."""
    scenario = Scenario(faults=CountFaults(errors=1), host=Host(hvo=False))
    res = ps.run(scenario, policies=[WholeIfEarly, WholeIfLate], trials=1000, seed=2)
    early, late = res.policies
    cost = res.compare(early, to=late).differences("capacity_cost_bytes").mean()
    assert cost.low < 0 < cost.high
    assert "costs the host ~" in paired_sentence(res, early, to=late)


def test_two_policies_that_lose_nothing_are_not_told_apart() -> None:
    res = ps.run(Scenario(faults=CountFaults(errors=0)), policies=["unmap1g", "hgm2m"], trials=1000, seed=5)
    text = paired_sentence(res, "hgm2m", to="unmap1g")
    assert "where unmap1g loses none" not in text and "~" not in text


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        ((95.18, 95.26, 95.36), "95.26 (95.18–95.36) GiB"),
        ((99.0, 99.0, 100.0), "99 (99–100) GiB"),
        ((100.0, 100.0, 100.0), "100 GiB"),
        ((0.0, 0.0, 0.0), "0 B"),
    ],
)
def test_sizes_are_shown_with_their_interval(estimate: tuple[float, float, float], text: str) -> None:
    low, best, high = (value * 2**30 for value in estimate)
    assert str(in_bytes(ps.Estimate(low, best, high, "bytes"))) == text


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        ((0.844, 0.867, 0.887), "86.7 (84.4–88.7) %"),
        ((0.8672, 0.8674, 0.8676), "86.74 (86.72–86.76) %"),
        ((0.0, 0.0, 0.0037), "0 (0–0.37) %"),
        ((0.000011, 0.000018, 0.000028), "0.0018 (0.0011–0.0028) %"),
        ((1.0, 1.0, 1.0), "100 %"),
    ],
)
def test_probabilities_are_shown_with_their_interval(estimate: tuple[float, float, float], text: str) -> None:
    assert str(as_probability(ps.Estimate(*estimate, "1"))) == text


# ------------------------------------------------------------------------------------------------- probabilities


@pytest.mark.parametrize(
    "expression", ["guest_lost_bytes > 4GiB", "errors == 0", "tlb_reach_loss > 0.1%", "vm_lost == 1", "errors >= 0"]
)
def test_a_probability_is_the_share_of_trials(res: Result, samples: dict[float, pd.DataFrame], expression: str) -> None:
    metric, symbol, value = expression.split()
    number = {"4GiB": 4 << 30, "0.1%": 0.001}.get(value) or float(value.rstrip("%GiB"))
    for policy in POLICIES:
        for year in (0.25, 1, 2):
            x = of(samples[float(year)], policy, metric)
            k = int({">": x > number, ">=": x >= number, "==": x == number}[symbol].sum())
            p = res.probability(expression, year=year, policy=policy)
            assert p.best == k / 1200
            assert p.low == pytest.approx(stats.beta.ppf(0.025, k, 1201 - k) if k else 0.0)
            assert p.high == pytest.approx(stats.beta.ppf(0.975, k + 1, 1200 - k) if k < 1200 else 1.0)


def test_the_default_is_the_end_and_the_only_policy(res: Result) -> None:
    with pytest.raises(MetricError, match="the run has 3 policies; name one: policy=… of unmap1g, hgm2m, migrate1g"):
        res.probability("errors > 3")
    one = ps.run(res.plan.scenario, policies=["hgm2m"], trials=1200, seed=5)
    assert one.probability("errors > 3") == res.probability("errors > 3", year=2, policy="hgm2m")


def test_a_fleet_is_so_many_independent_vms(res: Result) -> None:
    frame = res.fleet(vms=12_000).exceeding("guest_lost_bytes > 4GiB")
    assert list(frame.columns) == ["policy", "year", "expected_vms", "expected_low", "expected_high", "p95_vms"]
    assert len(frame) == len(POLICIES) * 2
    for row in frame.itertuples():
        p = res.probability("guest_lost_bytes > 4GiB", year=row.year, policy=row.policy)
        assert (row.expected_low, row.expected_vms, row.expected_high) == (
            12_000 * p.low,
            12_000 * p.best,
            12_000 * p.high,
        )
        assert row.p95_vms == stats.binom(12_000, p.high).ppf(0.95)
    assert 0 < frame["expected_vms"].max() < 12_000


@pytest.mark.parametrize("vms", [0, -5, 1.5, True, "12k"])
def test_a_fleet_of_no_vms_is_refused(res: Result, vms: object) -> None:
    with pytest.raises(MetricError, match="is not a positive whole number of VMs"):
        res.fleet(vms=vms)  # type: ignore[arg-type]


def test_vms_that_were_hit(res: Result, samples: dict[float, pd.DataFrame]) -> None:
    frame = samples[0.25][samples[0.25]["policy"] == "unmap1g"]
    lost = frame.loc[frame["errors"] > 0, "guest_lost_bytes"]
    hit = res.when_hit("unmap1g", "guest_lost_bytes", year=0.25)
    assert hit.n_trials == len(lost) < 1200
    assert hit.mean().best == pytest.approx(lost.mean(), rel=1e-12)
    with pytest.raises(MetricError, match="none of 1,200 trials saw a UE by then"):
        res.when_hit("unmap1g", "guest_lost_bytes", year=0)


# ------------------------------------------------------------------------------------------------- few trials, JSON


def test_quantiles_that_too_few_trials_lie_beyond_are_left_out_and_said_so(res: Result) -> None:
    few = ps.run(res.plan.scenario, policies=["hgm2m"], trials=999, seed=5)
    with pytest.warns(FewTailTrials, match="999 trials: p99 needs at least 1,000; those are left out, raise --trials"):
        summary = few.summary()
    assert summary["p99"].isna().all() and summary["p99_low"].isna().all()
    assert summary[["mean", "p50", "p95"]].notna().all().all()
    fewer = ps.run(res.plan.scenario, policies=["hgm2m"], trials=19, seed=5)
    with pytest.warns(FewTailTrials, match="19 trials: p50 needs at least 20, p95 needs at least 200, p99 needs"):
        assert fewer.summary()["p50"].isna().all()


def test_enough_trials_warn_of_nothing(res: Result, recwarn: pytest.WarningsRecorder) -> None:
    res.summary()
    assert [w for w in recwarn if issubclass(w.category, FewTailTrials)] == []


def test_a_result_is_plain_data(res: Result, summary: pd.DataFrame) -> None:
    data = json.loads(json.dumps(res.to_dict(), allow_nan=False))
    assert list(data) == ["schema", "run_id", "scenario", "seed", "trials", "summary"]
    assert (data["schema"], data["seed"], data["trials"]) == ("poisonsim.result/1", 5, 1200)
    assert data["run_id"] == res.plan.run_id
    assert Scenario.from_dict(data["scenario"]) == res.plan.scenario
    assert data["summary"] == json.loads(json.dumps(summary.to_dict("records")))


def test_missing_numbers_are_null(res: Result) -> None:
    few = ps.run(res.plan.scenario, policies=["hgm2m"], trials=100, seed=5)
    with pytest.warns(FewTailTrials):
        rows = json.loads(json.dumps(few.to_dict(), allow_nan=False))["summary"]
    assert {row["p99"] for row in rows} == {None} and all(row["p50"] is not None for row in rows)


def test_a_warning_points_at_the_line_of_the_caller(res: Result) -> None:
    few = ps.run(res.plan.scenario, policies=["hgm2m"], trials=100, seed=5)
    with pytest.warns(FewTailTrials) as caught:
        few.summary()
    assert {warning.filename for warning in caught} == {__file__}


def test_a_share_of_memory_is_a_threshold_too(res: Result) -> None:
    one_percent = res.plan.scenario.vm.memory_bytes / 100
    for policy in POLICIES:
        of_memory = res.probability("guest_lost_bytes > 1% of memory", policy=policy)
        assert of_memory == res.probability(f"guest_lost_bytes > {one_percent}", policy=policy)
        [verdict] = parse_condition(
            f"{policy}: P(guest_lost_bytes > 1% of memory) > 50%", res.metrics, res.policies
        ).verdicts(res)
        assert verdict.value == of_memory
    shares = res.fleet(10).exceeding("guest_lost_bytes > 1% of memory")
    assert shares.equals(res.fleet(10).exceeding(f"guest_lost_bytes > {one_percent}"))


def test_a_result_shows_itself(res: Result) -> None:
    assert repr(res.fleet(5)) == "<poisonsim fleet: 5 VMs like the one of 1,200 trials; unmap1g, hgm2m, migrate1g>"
    told = repr(res.distribution("unmap1g", "errors"))
    assert re.fullmatch(r"<poisonsim distribution: 1,200 trials, \d+ values, from \d+ to \d+>", told)
    assert repr(res) == "<poisonsim result: unmap1g, hgm2m, migrate1g; 1,200 trials; seed 5>"
    html = res._repr_html_()
    assert html.count("<tr") == 1 + len(POLICIES) * len(res.metrics)
