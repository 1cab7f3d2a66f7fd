"""Numbers in words that are shown to users: as many digits as their intervals bear."""

from __future__ import annotations

import pytest

import poisonsim as ps
from poisonsim.results.cost_words import cost_sentence, loss_sentence, reach_sentence
from poisonsim.results.numbers import in_number, vms_of
from poisonsim.results.statistics import Estimate
from poisonsim.results.words import too_few_seen

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


@pytest.mark.parametrize(
    ("on_loss", "words"),
    [
        ("count", "its memory goes on as if it still ran"),
        ("restart", "its guest is restarted"),
        ("end", "its memory stays as it was at the loss"),
    ],
)
def test_what_follows_a_loss_is_said(on_loss: str, words: str) -> None:
    scenario = ps.load_scenario("seed-1t", overrides=[f"vm.on_loss={on_loss}"])
    found = ps.run(scenario, policies=["unmap1g"], trials=20)
    assert loss_sentence(found) == f"a lost VM is counted, and {words} (vm.on_loss = {on_loss})"


def test_the_largest_part_of_a_cost_is_named_where_it_is_not_what_is_lost() -> None:
    found = ps.run("cloud-1t-ddr4", policies=["unmap1g", "hgm2m", "migrate1g"], trials=20_000)
    told = [cost_sentence(found, policy) for policy in found.policies]
    assert told[0] == "" and told[1].endswith("given-up HVO (vmemmap): all 15.96 GiB")
    assert told[2].startswith("Most of what migrate1g costs the host is spares still held: 3.9")
    assert loss_sentence(ps.run("seed-1t-distinct", policies=["hgm2m"], trials=1, seed=2)) in ("", loss_sentence(found))
    assert reach_sentence(ps.run("seed-1t", policies=["unmap1g"], trials=20)) == ""
