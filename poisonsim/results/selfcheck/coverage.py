"""How often 95 % intervals hold the truth, over many runs of the engine."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy import stats

from poisonsim.engine.block import run_block
from poisonsim.engine.plan import Plan
from poisonsim.engine.state import ERRORS, STRATUM
from poisonsim.results.runs import plan_run
from poisonsim.results.selfcheck.checks import ALPHA, FAILS, HOLDS, Check, Section
from poisonsim.results.statistics import Distribution, Estimate, binomial
from poisonsim.scenario import Horizon, RateFaults, Scenario, Vm

LEAST, MOST = 0.94, 0.97
RUNS = 2000


@dataclass(frozen=True)
class Interval:
    """One kind of interval and the truth it should hold.

    Args:
        what: What is estimated.
        truth: Its true value.
        point: Place on the grid of times.
        estimate: The estimate of one run.
        source: Where the truth comes from.
        exact: How often it holds the truth, where that can be computed; it is then held to that.
    """

    what: str
    truth: float
    point: int
    estimate: Callable[[Distribution], Estimate | None]
    source: str
    exact: float | None = None


@dataclass(frozen=True)
class Setting:
    """Runs whose intervals are looked at.

    Args:
        name: What kind of run it is.
        plan: What is run, but for the seed.
        n_trials: Trials of each run.
        intervals: What is estimated from each.
    """

    name: str
    plan: Plan
    n_trials: int
    intervals: tuple[Interval, ...]


def settings(*, full: bool = False) -> list[Setting]:
    """A run in which every trial counts alike, and one by strata; errors have a known law in both.

    Args:
        full: Two more by strata.

    Counts of errors are spread so widely (gamma frailty) that quantiles hardly feel that they are whole numbers; where
    many trials have the same value, intervals hold the truth more often than they say.

    Examples:
        >>> [setting.plan.strata.plain for setting in settings()]
        [True, False]
    """
    further = [_stratified(4.0, 100.0), _stratified(10.0, 100.0, 16_384)] if full else []
    return [_plain(200.0), _stratified(2.0, 100.0), *further]


def _plain(mean: float, n_trials: int = 1024) -> Setting:
    law = stats.nbinom(1.0, 1 / (1 + mean))

    def beyond(q: float, words: str, **exact: float) -> Interval:
        least = float(law.ppf(q))
        return Interval(
            words, float(law.sf(least)), 1, lambda d: d.share(d.values > least), "negative binomial", **exact
        )

    rare = float(law.sf(law.ppf(0.99)))
    return Setting(
        "plain", plan_run(_scenario(mean, 1.0, "1y"), policies=["unmap1g"]), n_trials,
        (
            Interval("mean", mean, 1, lambda d: d.mean(), "the scenario's mean"),
            Interval("p50", float(law.ppf(0.5)), 1, lambda d: d.quantile(0.5), "negative binomial"),
            Interval("p99", float(law.ppf(0.99)), 1, lambda d: d.quantile(0.99), "negative binomial"),
            beyond(0.95, "probability of 5 %"),
            beyond(0.99, "probability of 1 %", exact=exact_coverage(n_trials, rare)),
        ),
    )  # fmt: skip


def _stratified(mean: float, dispersion: float, n_trials: int = 32_768) -> Setting:
    """Trials by strata: most VMs see no error. In mid-life chance is left in every stratum, not only in the last."""
    shape = 1 / dispersion
    half, whole = (stats.nbinom(shape, 1 / (1 + m * dispersion)) for m in (mean / 2, mean))
    many = float(half.ppf(0.995))
    return Setting(
        f"by strata, mean {mean:g}", plan_run(_scenario(mean, dispersion, "6months"), policies=["unmap1g"]), n_trials,
        (
            Interval("mean", mean / 2, 1, lambda d: d.mean(), "half the scenario's mean"),
            Interval("p99", float(whole.ppf(0.99)), 2, lambda d: d.quantile(0.99), "negative binomial"),
            Interval("probability of 0.5 %", float(half.sf(many)), 1, lambda d: d.share(d.values > many),
                     "negative binomial, half the mean"),
        ),
    )  # fmt: skip


def _scenario(mean: float, dispersion: float, grid: str) -> Scenario:
    faults = RateFaults(ue_per_tib_year=16 * mean, dispersion=dispersion)
    return Scenario(vm=Vm(memory="64GiB"), faults=faults, horizon=Horizon(years=1, grid=grid))


def coverage(n_runs: int = RUNS, *, seed: int = 1, full: bool = False, threads: int | None = None) -> Section:
    """Shares of runs whose intervals hold the truth.

    Args:
        n_runs: Runs of each setting, each with a seed of its own.
        seed: Of the first run; those of the others follow.
        full: Every setting.
        threads: Worker threads; default one per core. They never change a value.

    Examples:
        >>> [check.what for check in coverage(40).checks][:2]
        ['mean of errors, plain', 'p50 of errors, plain']
    """
    checks = []
    for setting in settings(full=full):
        with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
            held = np.array(list(pool.map(lambda i, at=setting: _held(at, i), range(seed, seed + n_runs))))
        assert not np.isnan(held).any()
        checks += [
            _check(setting, each, int(n), n_runs) for each, n in zip(setting.intervals, held.sum(axis=0), strict=True)
        ]
    return Section(
        "coverage",
        "How often 95 % intervals hold the truth",
        "The laws of the numbers drawn: negative binomial, as rates differ between VMs by a gamma law.",
        f"{n_runs:,} runs of each kind, each with a seed of its own, from the errors that are drawn to the intervals "
        f"that a report shows. Between {LEAST:.0%} and {MOST:.0%} of them must hold the truth. The dot is where their "
        "share lies between these bounds, the line how well so many runs can tell it.".replace("%", " %"),
        tuple(checks),
        (
            "Intervals of probabilities are exact (Clopper and Pearson): with plain trials never below 95 %, and above "
            "97 % where few trials show the event. How often they hold the truth can then be computed; the row that "
            "expects 10 such trials of 1,024 is held to that.",
            "Intervals of means are moved by how skewed the values are; normal ones fell short of 95 % where few "
            "trials carry most of the mean. poisonsim verify --full adds two settings by strata.",
            "Quantiles of numbers that many trials share, such as bytes lost in whole pages, have intervals that hold "
            "the truth more often: both ends are values that occur.",
        ),
    )


@cache
def exact_coverage(n: int, p: float) -> float:
    """Chance that the interval of a probability `p` holds it, with `n` plain trials.

    Examples:
        >>> round(exact_coverage(1024, 0.01), 4)
        0.9584
    """
    law = stats.binom(n, p)
    likely = range(int(law.ppf(1e-12)), int(law.isf(1e-12)) + 1)
    return float(sum(law.pmf(k) for k in likely if (e := binomial(k, n)).low <= p <= e.high))


def _held(setting: Setting, seed: int) -> list[float]:
    """Whether each interval of one run holds the truth; nan where there is none."""
    plan = replace(setting.plan, seed=seed)
    block = run_block(plan, 0, setting.n_trials)
    states, counts = block.states[0], block.counts[0]
    found = []
    for each in setting.intervals:
        # As Result has them, but for the metrics that are not looked at.
        values, stratum = states[:, ERRORS].astype(np.float64), states[:, STRATUM]
        estimate = each.estimate(Distribution.of(values, counts[:, each.point], stratum, plan.strata.weights))
        found.append(np.nan if estimate is None else float(estimate.low <= each.truth <= estimate.high))
    return found


def _check(setting: Setting, interval: Interval, n_held: int, n_runs: int) -> Check:
    share, (least, most) = binomial(n_held, n_runs), (LEAST, MOST)
    expected = "95 %"
    if interval.exact is not None:
        law = stats.binom(n_runs, interval.exact)
        least, most = float(law.ppf(ALPHA / 2)) / n_runs, float(law.isf(ALPHA / 2)) / n_runs
        expected = f"exactly {100 * interval.exact:.2f} %"
    middle, half = (least + most) / 2, (most - least) / 2
    return Check(
        f"{interval.what} of errors, {setting.name}",
        f"{100 * share.best:.2f} ({100 * share.low:.1f}–{100 * share.high:.1f}) %",
        f"{expected}; truth {interval.truth:.6g}: {interval.source}",
        f"{100 * least:.4g} to {100 * most:.4g} %",
        HOLDS if least <= share.best <= most else FAILS,
        ((share.low - middle) / half, (share.best - middle) / half, (share.high - middle) / half),
    )
