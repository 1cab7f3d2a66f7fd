"""Who finds a bad line, and when: closed forms, and the same race run by hand."""

from __future__ import annotations

import numpy as np
import pytest

from poisonsim.faults.detection import PER_UNIT, Detection

DAY = 1 / 365.25
HOURS = 8766.0


@pytest.mark.parametrize("reads", [1e-6, 0.01, 0.3, 5.0, 1e4])
def test_one_rate_for_all_lines_has_a_closed_form(reads: float) -> None:
    """P(read first) = 1 - (1 - exp(-x)) / x with x the reads expected in one patrol pass."""
    x = reads * 24
    assert Detection(DAY, reads, 0.0).p_ar == pytest.approx(1 + np.expm1(-x) / x, rel=1e-6, abs=1e-12)


def test_memory_that_nobody_reads_is_left_to_the_patrol() -> None:
    idle = Detection(DAY, 0.0, 2.0)
    years, ar = idle.tables
    assert idle.p_ar == 0.0
    assert (ar == 0).all()
    at = np.array([0.5, 1.0, 3.0])
    found = np.interp(at, np.arange(len(years)) / PER_UNIT, years)
    assert found == pytest.approx(DAY * -np.expm1(-at), rel=1e-3)  # uniform over one pass


def test_the_slower_the_patrol_the_more_is_found_by_reads() -> None:
    shares = [Detection(days * DAY, 0.32, 2.3).p_ar for days in (0.1, 1, 2, 30, 3650)]
    assert shares == sorted(shares)
    assert shares[-1] > 0.99


@pytest.mark.parametrize(
    ("hours", "reads", "spread"), [(24, 0.32, 2.3), (1, 0.32, 2.3), (24, 5.0, 0.5), (720, 0.01, 1.0)]
)
def test_the_tables_are_the_race_itself(hours: float, reads: float, spread: float) -> None:
    """Times and AR shares by table against a million races; the bounds are six standard errors."""
    rng = np.random.default_rng(1)
    n = 1_000_000
    patrol = rng.random(n) * hours
    read = rng.standard_exponential(n) / (reads * np.exp(spread * rng.standard_normal(n)))
    found = np.minimum(patrol, read)
    detection = Detection(hours / HOURS, reads, spread)
    years, ar = detection.tables
    wait = rng.standard_exponential(n)
    at = np.minimum(wait * PER_UNIT, len(years) - 1)
    drawn = np.interp(at, np.arange(len(years)), years) * HOURS
    by_read = rng.random(n) < np.interp(at, np.arange(len(ar)), ar)
    assert by_read.mean() == pytest.approx((read < patrol).mean(), abs=6 * 0.5 / n**0.5 + 0.002)
    for q in (0.1, 0.5, 0.9):
        assert np.quantile(drawn, q) == pytest.approx(np.quantile(found, q), rel=0.05), q
    early = found < np.median(found)
    assert by_read[drawn < np.median(found)].mean() == pytest.approx((read < patrol)[early].mean(), abs=0.01)
