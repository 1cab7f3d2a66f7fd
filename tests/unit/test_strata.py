"""Strata: exact weights, known numbers of trials in each, a pure function of block and place."""

from __future__ import annotations

import dataclasses

import intervals
import numpy as np
import pandas as pd
import pytest
from numpy.random import default_rng
from scipy import stats

import poisonsim as ps
from poisonsim.engine.plan import make_plan
from poisonsim.errors import FewTailTrials, FewTrialsHit
from poisonsim.faults.arrivals import Arrivals
from poisonsim.faults.history import draw_history
from poisonsim.faults.strata import PLAIN, Strata, design
from poisonsim.results.result import Result
from poisonsim.scenario import Horizon, RateFaults, Scenario

LAWS = [(0.01, 0.0), (0.4, 0.0), (0.69, 0.0), (1e-7, 0.0), (0.01, 2.0), (0.4, 0.5), (0.9, 30.0), (0.05, 100.0)]
SPARSE = Scenario(faults=RateFaults(ue_per_tib_year=0.05), horizon=Horizon(years=2, grid="3months"))


def law_of(mean: float, dispersion: float) -> stats.rv_discrete:
    """The law of the count, from scipy."""
    return stats.poisson(mean) if dispersion == 0 else stats.nbinom(1 / dispersion, 1 / (1 + mean * dispersion))


def strata_of(mean: float, dispersion: float = 0.0) -> Strata:
    return design(Arrivals(mean, dispersion=dispersion).pmf()[:, None])


@pytest.fixture(scope="module")
def res() -> Result:
    """A tenth of its VMs see an error."""
    return ps.run(SPARSE, policies=["unmap1g", "hgm2m"], trials=60_000, seed=5)


# ------------------------------------------------------------------------------------------------- the design


@pytest.mark.parametrize(("mean", "dispersion"), LAWS)
def test_weights_are_exact(mean: float, dispersion: float) -> None:
    strata, law = strata_of(mean, dispersion), law_of(mean, dispersion)
    assert strata.count.tolist() == list(range(len(strata.count)))
    assert strata.weights[:-1] == pytest.approx(law.pmf(strata.count[:-1]), rel=1e-9)
    assert strata.weights[-1] == pytest.approx(law.sf(strata.count[-1] - 1), rel=1e-9)
    assert strata.weights.sum() == pytest.approx(1, abs=1e-14)
    assert 2 <= len(strata.count) <= 10
    assert len(strata.count) == 10 or law.sf(strata.count[-1]) < 1e-13


@pytest.mark.parametrize(("mean", "dispersion"), LAWS)
def test_shares_go_by_the_root_of_the_weights(mean: float, dispersion: float) -> None:
    strata, law = strata_of(mean, dispersion), law_of(mean, dispersion)
    assert strata.shares[0] == 0 and strata.shares.sum() == pytest.approx(1, rel=1e-12)
    assert strata.shares[1:] ** 2 / strata.weights[1:] == pytest.approx(strata.shares[1] ** 2 / strata.weights[1])
    assert strata.p_any == pytest.approx(law.sf(0), rel=1e-12)
    top = int(strata.count[-1])
    of_last = mean - (np.arange(top) * law.pmf(np.arange(top))).sum()
    by_hand = strata.count[:-1] @ strata.shares[:-1] + strata.shares[-1] * of_last / strata.weights[-1]
    if strata.weights[-1] > 1e-9:  # else the difference above has no digits left
        assert strata.per_simulated(1.0, 0.0) == pytest.approx(by_hand, rel=1e-4)


def test_where_most_vms_are_hit_sampling_is_plain() -> None:
    assert design(np.array([[0.49], [0.51]])) is PLAIN and not design(np.array([[0.5], [0.5]])).plain
    assert (PLAIN.plain, PLAIN.weights.tolist(), PLAIN.heaviest) == (True, [1.0], 1.0)


def test_any_law_will_do() -> None:
    """A mixture of two kinds of host, one of which sees nothing but pairs."""
    pmf = 0.8 * np.array([1.0, 0, 0, 0, 0]) + 0.2 * np.array([0.5, 0, 0.4, 0, 0.1])
    strata = design(pmf[:, None])
    trial, count, _, stratum = strata.draw(default_rng(1), 1 << 12, block=0)
    assert strata.weights == pytest.approx([0.9, 0.08, 0.02])
    assert set(count.tolist()) == {2, 4} and (strata.count[stratum] == count).all()
    assert len(trial) == round(4096 * 0.1)


def test_incidents_with_many_lines_have_strata_of_their_own() -> None:
    """P(n, m) of a Poisson number n of incidents of which each has many lines with chance q: m is binomial."""
    n = np.arange(30)
    law = stats.poisson(0.1).pmf(n)[:, None] * stats.binom(n[:, None], 0.03).pmf(n)
    few, many = 3.0, 500.0
    strata = design(law, 15 + few * n[:, None] + many * n)
    by_hand = stats.poisson(0.1).pmf(strata.count) * stats.binom(strata.count, 0.03).pmf(strata.many)
    assert len(strata.count) == 20 and strata.weights[:-1] == pytest.approx(by_hand[:-1], rel=1e-9)
    assert strata.weights.sum() == pytest.approx(1, abs=1e-13)
    costs = 15 + few * strata.count + many * strata.many
    root = np.sqrt(strata.weights / costs)[1:-1]
    assert strata.shares[1:-1] / strata.shares[1] == pytest.approx(root / root[0], rel=1e-9)
    drawn = strata.draw(default_rng(1), 1 << 24, block=0)
    inside = drawn.stratum < len(strata.count) - 1
    assert (drawn.incidents == strata.count[drawn.stratum])[inside].all()
    assert (drawn.many == strata.many[drawn.stratum])[inside].all()
    pairs = set(zip(strata.count[1:-1].tolist(), strata.many[1:-1].tolist(), strict=True))
    others = list(zip(drawn.incidents[~inside].tolist(), drawn.many[~inside].tolist(), strict=True))
    assert others and not pairs & set(others)
    mean = (few * drawn.incidents + many * drawn.many).mean()
    assert strata.per_simulated(few, many) == pytest.approx(mean, rel=0.01)


def test_where_nothing_can_happen_nothing_is_simulated() -> None:
    for pmf in (np.array([1.0]), np.array([1.0, 0.0])):
        strata = design(pmf[:, None])
        assert not strata.plain and strata.weights.tolist() == [1, 0] and strata.heaviest == 0
        assert [len(part) for part in strata.draw(default_rng(1), 1 << 52, block=3)] == [0, 0, 0, 0]


# ------------------------------------------------------------------------------------------------- the draw


@pytest.mark.parametrize("block", [0, 1, 9_999_999])
@pytest.mark.parametrize(("mean", "dispersion", "n_trials"), [(0.4, 0.0, 1 << 14), (0.05, 100.0, 1 << 18)])
def test_every_stratum_gets_its_share_to_within_two(mean: float, dispersion: float, n_trials: int, block: int) -> None:
    """The fractional parts of multiples of the golden ratio are spread evenly in every run of them."""
    strata = strata_of(mean, dispersion)
    _, count, _, stratum = strata.draw(default_rng(1), n_trials, block)
    n = len(stratum)
    found = np.bincount(stratum, minlength=len(strata.count))
    assert abs(found - n * strata.shares).max() <= 2
    half = np.bincount(stratum[: n // 2], minlength=len(strata.count))
    assert abs(half - n // 2 * strata.shares).max() <= 2
    assert (count[stratum < strata.count[-1]] == stratum[stratum < strata.count[-1]]).all()
    assert (count[stratum == strata.count[-1]] >= strata.count[-1]).all()


@pytest.mark.parametrize(
    ("mean", "n_trials"), [(0.69, 2), (0.69, 1 << 12), (0.001, 1 << 20), (1e-9, 1 << 45), (1e-15, 1 << 52)]
)
def test_simulated_trials_are_spread_evenly(mean: float, n_trials: int) -> None:
    strata = strata_of(mean)
    trial, *_ = strata.draw(default_rng(1), n_trials, block=0)
    n = len(trial)
    assert n == max(round(n_trials * strata.p_any), 1)
    exactly = [(2 * j + 1) * n_trials // (2 * n) for j in range(n)]
    assert trial.tolist() == exactly and trial[0] >= 1  # trial 0 is never one of them


def test_which_trials_are_simulated_is_no_matter_of_chance() -> None:
    strata = strata_of(0.3)
    for block in (0, 7):
        a, b = (strata.draw(default_rng(seed), 4096, block) for seed in (1, 2))
        assert np.array_equal(a.trial, b.trial) and np.array_equal(a.stratum, b.stratum)
    first, second = (strata.draw(default_rng(1), 4096, block).stratum for block in (0, 1))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("rate", [1e-30, 1e-12, 1e-6, 0.01, 0.1])
def test_a_block_holds_so_many_errors_however_rare_they_are(rate: float) -> None:
    plan = make_plan(Scenario(faults=RateFaults(ue_per_tib_year=rate)), ["hgm2m"], seed=1)
    size = plan.block_trials
    assert size.bit_count() == 1 and 2 <= size <= 1 << 52
    history = draw_history(plan.scenario, 1, 5, size)
    assert len(history.trial) <= 1 << 20
    if size < 1 << 52:
        assert 0.65 < len(history.page) / 2**18 < 1.5
    assert history.trial[-1] < size


# ------------------------------------------------------------------------------------------------- through a run


def test_raising_trials_never_changes_earlier_ones(res: Result) -> None:
    few = ps.run(SPARSE, policies=res.policies, trials=20_000, seed=5)
    a, b = few.samples(year=1), res.samples(year=1)
    b = b[b["trial"] < 20_000]
    keys = ["policy", "trial"]
    a, b = (frame.sort_values(keys, ignore_index=True).drop(columns="weight") for frame in (a, b))
    pd.testing.assert_frame_equal(a, b, check_exact=True)


def test_samples_are_the_simulated_trials_and_one_for_all_others(res: Result) -> None:
    frame = res.samples()
    one = frame[frame["policy"] == "hgm2m"]
    assert len(one) == res.n_simulated + 1 and res.n_simulated == pytest.approx(60_000 * -np.expm1(-0.1), abs=2)
    assert one["trial"].is_unique and one["trial"].min() == 0
    assert one.loc[one["trial"] == 0, ["errors", "weight"]].to_numpy().tolist() == [[0, res.weights[0]]]
    assert (one.loc[one["trial"] > 0, "errors"] >= 1).all()
    assert one["weight"].sum() == pytest.approx(1, rel=1e-12)


def test_weighted_samples_give_the_summary(res: Result) -> None:
    summary = res.summary().set_index(["policy", "metric", "year"])
    for year in (1, 2):
        for policy, frame in res.samples(year=year).groupby("policy"):
            for metric in ("errors", "guest_lost_bytes", "vm_lost", "slowdown", "tlb_reach_bytes", "table_bytes"):
                row = summary.loc[(policy, metric, year)]
                assert (frame["weight"] * frame[metric]).sum() == pytest.approx(row["mean"], rel=1e-9, abs=1e-15)
                ordered = frame.sort_values(metric)
                for q, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99")):
                    place = np.searchsorted(ordered["weight"].cumsum(), q - 1e-12)
                    assert row[name] == ordered[metric].iloc[place]


def test_the_life_row_is_the_trapezoid_of_the_series(res: Result) -> None:
    life = res.summary().query("year == 'life'").set_index(["policy", "metric"])["mean"]
    for metric in ("errors", "guest_lost_bytes", "tlb_reach_bytes", "vm_lost"):
        for policy, series in res.series(metric).groupby("policy"):
            assert life[policy, metric] == pytest.approx(np.trapezoid(series["mean"], series["year"]) / 2, rel=1e-12)


def test_what_is_known_has_no_interval(res: Result) -> None:
    """Up to what is so rare that no trial has it."""
    mean = res.distribution("hgm2m", "errors").mean()
    assert mean.low <= 0.1 <= mean.high and mean.high - mean.low < 1e-7
    zero = ps.run(Scenario(faults=RateFaults(ue_per_tib_year=0.0)), policies=["hgm2m"], seed=1)
    assert (zero.n_trials, zero.n_simulated) == (20_000, 0)
    assert zero.probability("errors > 0") == ps.Estimate(0, 0, 0, "1")


def test_the_mean_of_vms_hit_is_a_ratio(res: Result) -> None:
    """By the end every simulated VM is hit; before, the share of those that are is an estimate too."""
    at_end = res.when_hit("hgm2m", "errors").mean()
    assert at_end.low <= 0.1 / -np.expm1(-0.1) <= at_end.high and at_end.high - at_end.low < 1e-6
    frame = res.samples(year=1).query("policy == 'hgm2m'")
    hit = frame["errors"] > 0
    expected = (frame["weight"] * frame["errors"])[hit].sum() / frame["weight"][hit].sum()
    found = res.when_hit("hgm2m", "errors", year=1).mean()
    assert found.best == pytest.approx(expected, rel=1e-12)
    weights, variance, third = res.weights, 0.0, 0.0
    residual = (frame["errors"] - expected).where(hit, 0.0)
    for h in np.flatnonzero(res._by_stratum[1:]) + 1:
        of_stratum = residual[np.isclose(frame["weight"], weights[h] / res._by_stratum[h], rtol=1e-12)]
        n = len(of_stratum)
        variance += weights[h] ** 2 * of_stratum.var() / n if n > 1 else 0.0
        third += weights[h] ** 3 * ((of_stratum - of_stratum.mean()) ** 3).mean() / n**2
    share = frame["weight"][hit].sum()
    low, high = intervals.by_moments(found.best, variance / share**2, third / share**3)
    assert (found.low, found.high) == (pytest.approx(low, rel=1e-5), pytest.approx(high, rel=1e-5))


def test_a_rare_chance_costs_no_more_than_a_common_one() -> None:
    rare = ps.run(Scenario(faults=RateFaults(ue_per_tib_year=1e-13)), policies=["hgm2m"], seed=1)
    assert rare.n_trials == 40_000_000_000_000_000 and rare.n_simulated == pytest.approx(20_000, abs=20)
    lost = rare.probability("vm_lost == 1")
    assert lost.low < 5e-13 * 0.02 < lost.high and lost.high < 5e-13 * 0.03


def test_counts_beyond_32_bits_survive_the_disk(tmp_path: object) -> None:
    scenario = Scenario(faults=RateFaults(ue_per_tib_year=1e-9))
    made = ps.run(scenario, policies=["hgm2m"], seed=1, out=f"{tmp_path}/run")
    again = ps.open_run(f"{tmp_path}/run")
    assert made.tally.counts[0].max() > 2**32
    assert np.array_equal(made.tally.counts[0], again.tally.counts[0])


@pytest.mark.parametrize("trials", [1, 2, 30, 500])
def test_few_trials_are_honest(trials: int) -> None:
    few = ps.run(SPARSE, policies=["unmap1g", "hgm2m"], trials=trials, seed=5)
    faults = "of them with faults: .* intervals of means hold from 5,255 trials on, raise --trials"
    with pytest.warns(FewTrialsHit, match=faults), pytest.warns(FewTailTrials, match="p99 needs at least"):
        summary = few.summary()
    assert summary["mean"].notna().all()
    assert few.samples(year=1)["weight"].sum() == pytest.approx(2, rel=1e-12)
    lost = few.probability("vm_lost == 1", policy="hgm2m")
    assert lost.low <= 0.1 * 0.02 <= lost.high


def test_plain_and_by_stratum_are_dealt_with_alike(res: Result) -> None:
    """The fields of a distribution are the same; only the number of strata differs."""
    plain = ps.run("seed-1t", policies=["hgm2m"], trials=100, seed=1).distribution("hgm2m", "errors")
    stratified = res.distribution("hgm2m", "errors")
    assert plain.counts.shape == (1, 1) and stratified.counts.shape[1] == len(res.weights)
    assert dataclasses.asdict(plain).keys() == dataclasses.asdict(stratified).keys()
