"""Laws of the number of errors: parameters, exact probabilities, inversion, extremes. Samples are in statistical/."""

from __future__ import annotations

import tomllib
from importlib import resources

import numpy as np
import pytest
from numpy.random import default_rng
from scipy import stats

from poisonsim.faults.arrivals import Arrivals, arrivals_of
from poisonsim.scenario import CountFaults, FieldFaults, Horizon, RateFaults, Scenario, Vm

LAWS = [(0.01, 0.0), (0.4, 0.0), (0.99, 0.0), (0.01, 2.0), (0.4, 0.5), (0.99, 30.0), (0.05, 100.0)]


def count_law(mean: float, dispersion: float) -> stats.rv_discrete:
    """The law of the count, zero included, from scipy."""
    if dispersion == 0:
        return stats.poisson(mean)
    return stats.nbinom(1 / dispersion, 1 / (1 + mean * dispersion))


@pytest.mark.parametrize(("mean", "dispersion"), [*LAWS, (3.0, 0.0), (3.0, 1.5), (100.0, 0.2)])
def test_the_chance_of_any_error_is_one_less_the_zero_class(mean: float, dispersion: float) -> None:
    assert Arrivals(mean, dispersion=dispersion).p_any == pytest.approx(count_law(mean, dispersion).sf(0), rel=1e-12)


def test_the_chance_of_any_error_keeps_its_digits_where_it_is_tiny() -> None:
    assert Arrivals(1e-15).p_any == pytest.approx(1e-15, rel=1e-12)
    assert Arrivals(1e-15, dispersion=2.0).p_any == pytest.approx(1e-15, rel=1e-12)


def test_a_fixed_count_is_no_chance() -> None:
    assert Arrivals(3, fixed=True).p_any == 1.0
    assert Arrivals(0, fixed=True).p_any == 0.0
    trials, counts = Arrivals(3, fixed=True).draw_counts(default_rng(1), 5)
    assert trials.tolist() == [0, 1, 2, 3, 4] and counts.tolist() == [3] * 5


@pytest.mark.parametrize("law", [Arrivals(0), Arrivals(0, fixed=True), Arrivals(0, dispersion=1.0)])
def test_without_errors_nothing_is_drawn(law: Arrivals) -> None:
    trials, counts = law.draw_counts(default_rng(1), 1 << 20)
    assert len(trials) == len(counts) == 0


@pytest.mark.parametrize(("mean", "dispersion"), LAWS)
def test_positive_counts_are_quantiles_of_the_truncated_law(mean: float, dispersion: float) -> None:
    law = count_law(mean, dispersion)
    u = np.linspace(0.0005, 0.9995, 1000)
    cumulative = (law.cdf(np.arange(0, 4000)) - law.pmf(0)) / law.sf(0)
    expected = np.searchsorted(cumulative, u)
    clear = np.abs(cumulative[expected] - u) > 1e-9  # a quantile that lies on a step may round either way
    clear &= np.abs(cumulative[expected - 1] - u) > 1e-9
    assert clear.sum() > 900
    assert np.array_equal(Arrivals(mean, dispersion=dispersion)._positive(u)[clear], expected[clear])


@pytest.mark.parametrize(("mean", "dispersion"), [*LAWS, (1.0, 0.0), (5.0, 0.0), (5.0, 3.0)])
def test_hit_trials_ascend_and_see_at_least_one_error(mean: float, dispersion: float) -> None:
    trials, counts = Arrivals(mean, dispersion=dispersion).draw_counts(default_rng(3), 4096)
    assert trials.dtype == counts.dtype == np.int64
    assert len(trials) == len(counts) > 0
    assert trials[0] >= 0 and trials[-1] < 4096 and (np.diff(trials) > 0).all()
    assert counts.min() >= 1


@pytest.mark.parametrize("mean", [1e-6, 1e-12, 1e-17, 1e-18, 1e-19, 1e-20, 1e-25])
def test_the_tiniest_rates_hit_only_trials_that_exist(mean: float) -> None:
    for seed in range(20):
        trials, _ = Arrivals(mean).draw_counts(default_rng(seed), 1 << 20)
        assert ((trials >= 0) & (trials < 1 << 20)).all()
        assert len(trials) <= 1 + (mean > 1e-9) * 20  # 2^20 trials expect 1 hit at 1e-6, else less than 1e-6


# ------------------------------------------------------------------------------------------------- scenarios


def test_a_count_is_fixed() -> None:
    assert arrivals_of(Scenario(faults=CountFaults(errors=17))) == Arrivals(17, fixed=True)


def test_a_rate_is_per_tebibyte_and_year() -> None:
    scenario = Scenario(
        vm=Vm(memory="4TiB"),
        faults=RateFaults(ue_per_tib_year=0.01, dispersion=0.7, shape=2.0),
        horizon=Horizon(years=3),
    )
    law = arrivals_of(scenario)
    assert law.mean == pytest.approx(0.01 * 4 * 3, rel=1e-15)
    assert (law.fixed, law.dispersion, law.shape) == (False, 0.7, 2.0)


@pytest.mark.parametrize(("dimm", "scale", "years"), [("32GiB", 1.0, 5), ("64GiB", 1.0, 5), ("32GiB", 3.0, 2)])
def test_the_field_rate_is_the_tickets_of_the_fleet(dimm: str, scale: float, years: int) -> None:
    text = resources.files("poisonsim.catalog").joinpath("faults/ddr4-alibaba.toml").read_text()
    tables = tomllib.loads(text)
    n = {key: value["value"] for key, value in tables["tickets"].items() if isinstance(value, dict)}
    per_server_year = n["n_ue_tickets"] / (n["n_server_months"] / 12)
    per_dimm_year = per_server_year * n["n_servers"] / tables["population"]["n_dimms"]
    dimms_per_tib = 1024 / int(dimm.removesuffix("GiB"))
    scenario = Scenario(vm=Vm(memory="2TiB"), faults=FieldFaults(dimm=dimm, scale=scale), horizon=Horizon(years=years))
    assert arrivals_of(scenario).mean == pytest.approx(per_dimm_year * dimms_per_tib * 2 * years * scale, rel=1e-12)
