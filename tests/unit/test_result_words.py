"""Numbers in words that are shown to users: as many digits as their intervals bear."""

from __future__ import annotations

import pytest

import poisonsim as ps
from poisonsim.results.statistics import Estimate
from poisonsim.results.words import in_number, too_few_seen, vms_of

FLAWLESS = ["faults.ue=ecc", "faults.dimm=ddr5-64g-2rx4", "faults.map=spr-8ch", "faults.scale=0.01"]


@pytest.mark.parametrize(
    ("low", "best", "high", "text"),
    [
        (0.95, 1.0, 1.1, "1.00 (0.95–1.10)"),
        (0.89, 0.97, 1.0, "0.97 (0.89–1.00)"),
        (16.2, 17.6, 19.1, "18 (16–19)"),
        (4.56, 4.8, 5.04, "4.8 (4.6–5.0)"),
        (101_000.0, 105_000.0, 109_000.0, "105,000 (101,000–109,000)"),
        (0.0, 0.07, 0.15, "0.07 (0–0.15)"),
        (0.00011, 0.00012, 0.00013, "0.00012 (0.00011–0.00013)"),
        (-0.5, 0.2, 0.9, "0.2 (−0.5 to 0.9)"),
        (100.0, 100.0, 100.0, "100"),
    ],
)
def test_a_number_and_its_interval_have_the_same_decimals(low: float, best: float, high: float, text: str) -> None:
    assert str(in_number(Estimate(low, best, high, "1"))) == text


@pytest.mark.parametrize(
    ("low", "best", "high", "text"),
    [
        (0.0574, 0.0577, 0.058, "577 (574–580)"),
        (1.1e-7, 1.2e-7, 1.3e-7, "0.0012 (0.0011–0.0013)"),
        (3.1e-4, 3.4e-4, 3.8e-4, "3.4 (3.1–3.8)"),
        (1.2e-7, 1.2e-7, 1.2e-7, "0.0012"),
        (0.0, 0.0, 4.4e-5, "0 (0–0.44)"),
        (0.0, 0.0, 0.0037, "0 (0–37)"),
        (0.0, 0.0, 0.0, "0"),
    ],
)
def test_parts_of_a_vm_are_told_where_few_are_expected(low: float, best: float, high: float, text: str) -> None:
    assert vms_of(10_000, Estimate(low, best, high, "1")) == text


def test_where_the_code_corrects_everything_more_trials_are_not_asked_for() -> None:
    res = ps.run(ps.load_scenario("cloud-1t-ddr4", overrides=FLAWLESS), policies=["unmap1g"], trials=1000)
    text = too_few_seen(res)
    assert text.startswith("none of 1,000 trials saw a UE: chipkill corrects all but a few") and "--trials" not in text
    assert "% of VMs see one (95 %)" in text
    few = ps.run(ps.load_scenario("cloud-1t-ddr4"), policies=["unmap1g"], trials=20)
    assert "raise --trials" in too_few_seen(few)
