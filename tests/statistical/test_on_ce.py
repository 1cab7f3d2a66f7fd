"""What a host that counts corrected errors sees in histories, against the model's own account of it.

Each comparison is of two independent simulations, and allows 4.9 standard errors: a false alarm in a million.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

import poisonsim
from poisonsim.faults.arrivals import arrivals_of
from poisonsim.faults.corrected import Ratio, trigger_quality
from poisonsim.faults.field import field_model
from poisonsim.faults.history import History, draw_history
from poisonsim.faults.streams import Purpose, stream
from poisonsim.scenario import Scenario, load_scenario

TOLERATED = 4.9
N_TRIALS = 1 << 17


def watched(*settings: str) -> Scenario:
    return load_scenario("cloud-1t-ddr4", overrides=["host.ce_threshold=rasdaemon", *settings])


@pytest.fixture(scope="module")
def history() -> History:
    return draw_history(watched(), 5, 0, N_TRIALS)


def standard_error(ratio: Ratio) -> float:
    return (ratio.high - ratio.best) / 1.96


def agrees(found: np.ndarray, below: np.ndarray | None, expected: Ratio, scale: float = 1.0) -> None:
    """Asserts that a mean per trial, or a ratio of two, is what `expected` says."""
    under = np.ones(len(found)) if below is None else below
    best = found.sum() / under.sum()
    error = np.sqrt(len(found) * np.var(found - best * under)) / under.sum()
    assert abs(best * scale - expected.best) < TOLERATED * np.hypot(error * scale, standard_error(expected))


def test_triggers_are_as_many_as_true_and_as_early_as_the_model_says(history: History) -> None:
    scenario = watched()
    (quality,) = (
        q for q in trigger_quality(field_model(scenario), seed=77, n_faults=40_000) if q.threshold.name == "rasdaemon"
    )
    owner = np.repeat(history.trial, np.diff(history.start))
    first_error: dict[tuple[int, int], float] = {}
    first_trigger: dict[tuple[int, int], float] = {}
    for trial, page, years, corrected in zip(owner, history.page, history.years, history.corrected, strict=True):
        (first_trigger if corrected else first_error).setdefault((trial, page), years)
    triggers, errors, met = (np.zeros(N_TRIALS) for _ in range(3))
    np.add.at(triggers, [trial for trial, _ in first_trigger], 1)
    np.add.at(errors, [trial for trial, _ in first_error], 1)
    both = [key for key in first_error.keys() & first_trigger.keys() if first_trigger[key] < first_error[key]]
    np.add.at(met, [trial for trial, _ in both], 1)
    assert len(both) > 100
    agrees(triggers, None, quality.per_vm_year, 1 / scenario.horizon.years)
    agrees(met, triggers, quality.precision)
    agrees(met, errors, quality.recall)


def test_as_many_vms_see_errors_as_without_watching(history: History) -> None:
    errors = history.uncorrected
    n_hit = int((np.diff(errors.start) > 0).sum())
    plain = draw_history(load_scenario("cloud-1t-ddr4"), 6, 0, 1 << 20)
    strata = field_model(load_scenario("cloud-1t-ddr4")).counts.strata
    seen = np.diff(plain.start) > 0
    p = sum(w * seen[plain.stratum == h].mean() for h, w in enumerate(strata.weights) if (plain.stratum == h).any())
    assert 5e-7 < binom.cdf(n_hit, N_TRIALS, p) < 1 - 5e-7


def test_a_fault_begins_before_its_first_error_and_its_trigger(history: History) -> None:
    assert (history.born <= history.years).all()
    early = history.born[history.corrected == 0] < history.years[history.corrected == 0] - 1 / 12
    assert 0.3 < early.mean() < 0.9  # 27 % of faults with errors give no sign before, others months ahead


@pytest.mark.parametrize("dispersion", [0.0, 2.0])
def test_hosts_with_errors_have_more_other_faults_where_hosts_differ(dispersion: float, tmp_path: Path) -> None:
    """Given n incidents, a gamma-distributed rate is expected at (1/d + n) / (1/d + mean) of its mean."""
    laws = tmp_path / "laws.toml"  # no fault with errors gives a sign before them: all triggers are of other faults
    text = (Path(poisonsim.__file__).parent / "catalog" / "laws" / "field.toml").read_text()
    laws.write_text(text.replace("value = 0.27", "value = 1.0"))
    scenario = watched(f"faults.laws={laws}", f"faults.dispersion={dispersion}", "faults.scale=4")
    model, n_trials = field_model(scenario), 1 << 16
    trial, count, *_ = arrivals_of(scenario).draw_counts(stream(3, Purpose.ARRIVALS, 0), n_trials, 0)
    incidents = np.zeros(n_trials, np.int64)
    incidents[trial] = count
    history = draw_history(scenario, 3, 0, n_trials)
    owner = np.repeat(history.trial, np.diff(history.start))
    triggers = np.bincount(owner[history.corrected == 1], minlength=n_trials)
    by_count = [triggers[incidents == n] for n in range(3)]
    assert min(map(len, by_count)) > 500
    shape = 1 / dispersion if dispersion else np.inf
    for n, seen in enumerate(by_count):
        expected = 1.0 if dispersion == 0 else (shape + n) / (shape + model.means[0])
        per_rate = triggers.mean()  # of a host at the mean rate
        error = np.hypot(seen.std() / len(seen) ** 0.5, expected * triggers.std() / n_trials**0.5)
        assert abs(seen.mean() - expected * per_rate) < TOLERATED * error


def test_policies_that_do_not_ask_are_not_told(history: History) -> None:
    assert history.uncorrected.corrected.sum() == 0
    assert len(history.uncorrected.page) + int(history.corrected.sum()) == len(history.page)
    assert history.uncorrected.start[-1] == len(history.uncorrected.page)
    first = history.first(1000)
    again = draw_history(watched(), 5, 0, N_TRIALS).first(1000)
    for name in ("trial", "start", "page", "years", "born", "fate", "ar", "mode", "corrected"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
