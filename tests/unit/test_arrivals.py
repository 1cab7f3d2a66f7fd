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
    trials, counts, _, strata = Arrivals(3, fixed=True).draw_counts(default_rng(1), 5, block=0)
    assert trials.tolist() == [0, 1, 2, 3, 4] and counts.tolist() == [3] * 5 and strata.tolist() == [0] * 5


@pytest.mark.parametrize("law", [Arrivals(0), Arrivals(0, fixed=True), Arrivals(0, dispersion=1.0)])
def test_without_errors_nothing_is_drawn(law: Arrivals) -> None:
    trials, counts, _, strata = law.draw_counts(default_rng(1), 1 << 20, block=0)
    assert len(trials) == len(counts) == len(strata) == 0


LONG = [(1e-7, 0.0), (3.0, 50.0), (90.0, 100.0), (5000.0, 0.0), (900.0, 0.5)]


@pytest.mark.parametrize(("mean", "dispersion"), [*LAWS, *LONG])
def test_listed_probabilities_are_scipys(mean: float, dispersion: float) -> None:
    arrivals, law = Arrivals(mean, dispersion=dispersion), count_law(mean, dispersion)
    pmf = arrivals.pmf()
    likely = law.pmf(np.arange(len(pmf))) > 1e-12  # scipy loses digits beyond
    assert pmf[likely] == pytest.approx(law.pmf(np.arange(len(pmf)))[likely], rel=1e-9)
    assert pmf.sum() == pytest.approx(1, abs=1e-14 if mean < 300 else 1e-10)
    assert pmf[1:].sum() == pytest.approx(arrivals.p_any, rel=1e-12 if mean < 300 else 1e-10)
    assert pmf @ np.arange(len(pmf)) == pytest.approx(mean, rel=1e-9)


def test_a_fixed_count_is_listed_too() -> None:
    assert Arrivals(3, fixed=True).pmf().tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("law", "plain"),
    [
        (Arrivals(0.69), False),
        (Arrivals(0.70), True),
        (Arrivals(3.0, dispersion=50.0), False),
        (Arrivals(3.0), True),
        (Arrivals(5, fixed=True), True),
        (Arrivals(0), False),
        (Arrivals(1e6, dispersion=100.0), True),  # its tail is too long to list
    ],
)
def test_sampling_is_by_stratum_where_few_vms_are_hit(law: Arrivals, plain: bool) -> None:
    assert law.strata.plain == plain


@pytest.mark.parametrize(("mean", "dispersion"), [*LAWS, (1.0, 0.0), (5.0, 0.0), (5.0, 3.0)])
def test_hit_trials_ascend_and_see_at_least_one_error(mean: float, dispersion: float) -> None:
    trials, counts, _, strata = Arrivals(mean, dispersion=dispersion).draw_counts(default_rng(3), 4096, block=2)
    assert trials.dtype == counts.dtype == strata.dtype == np.int64
    assert len(trials) == len(counts) == len(strata) > 0
    assert trials[0] >= 0 and trials[-1] < 4096 and (np.diff(trials) > 0).all()
    assert counts.min() >= 1


@pytest.mark.parametrize("mean", [1e-6, 1e-12, 1e-17, 1e-18, 1e-19, 1e-20, 1e-25])
def test_the_tiniest_rates_hit_only_trials_that_exist(mean: float) -> None:
    for block in range(20):
        trials, counts, *_ = Arrivals(mean).draw_counts(default_rng(block), 1 << 20, block)
        assert len(trials) == 1  # 2^20 trials expect about one hit or far less; its weight says how likely it is
        assert 0 < trials[0] < 1 << 20 and counts[0] >= 1


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


@pytest.mark.parametrize(
    ("dimm", "n_dimms", "scale", "years"),
    [("ddr4-32g-2rx4", 48, 1.0, 5), ("ddr4-64g-2rx4", 24, 1.0, 5), ("ddr4-32g-2rx4", 48, 3.0, 2)],
)
def test_the_field_rate_is_the_tickets_of_the_fleet(dimm: str, n_dimms: int, scale: float, years: int) -> None:
    """1.5 TiB are whole interleave sets of six DIMMs."""
    text = resources.files("poisonsim.catalog").joinpath("faults/ddr4-alibaba.toml").read_text()
    tables = tomllib.loads(text)
    n = {key: value["value"] for key, value in tables["tickets"].items() if isinstance(value, dict)}
    per_server_year = n["n_ue_tickets"] / (n["n_server_months"] / 12)
    per_dimm_year = per_server_year * n["n_servers"] / tables["population"]["n_dimms"]
    faults = FieldFaults(dimm=dimm, scale=scale)
    scenario = Scenario(vm=Vm(memory="1536GiB"), faults=faults, horizon=Horizon(years=years))
    mean = per_dimm_year * n_dimms * years * scale
    assert arrivals_of(scenario).mean == pytest.approx(mean, rel=1e-12)
    assert arrivals_of(scenario).p_any == pytest.approx(-np.expm1(-mean), rel=1e-9)
