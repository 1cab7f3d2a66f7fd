"""The fault model in words: what is said is what is simulated, for every kind of host."""

from __future__ import annotations

import re

import pytest

from poisonsim.faults.field import field_model
from poisonsim.faults.words import departures, figure, in_words
from poisonsim.results.words import rate_notes
from poisonsim.scenario import load_scenario

SCALED = "faults.scale=2"
ECC = "faults.ue=ecc"
DDR2 = ("faults.ue=ecc", "faults.table=jaguar-ddr2", "faults.dimm=ddr2-2g-1rx4", "faults.map=linear")


def said(*overrides: str, name: str = "cloud-1t-ddr4") -> str:
    return " ".join(in_words(load_scenario(name, overrides=overrides)))


def shares_in(text: str) -> dict[str, float]:
    return {mode: int(share) / 100 for mode, share in re.findall(r"([a-z-]+) (\d+)%", text)}


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("faults.vendor=a",),
        ("faults.vendor=b",),
        ("faults.bad_batch=1",),
        (SCALED,),
        ("faults.dimm=ddr4-64g-2rx4",),
    ],
    ids=str,
)
def test_the_rate_said_of_hosts_alike_is_that_simulated(overrides: tuple[str, ...]) -> None:
    scenario = load_scenario("cloud-1t-ddr4", overrides=overrides)
    model, text = field_model(scenario), said(*overrides)
    rate = model.mean / model.memory.n_dimms / scenario.horizon.years
    match = re.search(r"lead to uncorrected errors: ([\d.]+) per DIMM-year, by mode (.*?)\. ", text)
    assert match and float(match[1]) == pytest.approx(rate, rel=0.005)
    by_mode = model.ue_faults_per_dimm_year(model.classes[0].vendor)
    expected = {mode: rate / sum(by_mode.values()) for mode, rate in by_mode.items() if rate}
    assert shares_in(match[2]) == pytest.approx(expected, abs=0.006)
    assert f"{figure(model.mean)} faults that lead to errors on the {model.memory.n_dimms} DIMMs" in text


def test_every_class_of_hosts_is_told_with_its_share_rate_and_modes() -> None:
    overrides = ("faults.vendor=mixed", "faults.bad_batch=0.05")
    model, text = field_model(load_scenario("cloud-1t-ddr4", overrides=overrides)), said(*overrides)
    assert len(model.classes) == 6
    for host in model.classes:
        rate = sum(model.ue_faults_per_dimm_year(host.vendor).values()) * host.factor
        assert re.search(rf"{host.name} \({100 * host.share:.3g}% of all[^)]*\) {figure(rate)}[,;]", text), host
    for vendor in "abc":
        by_mode = model.ue_faults_per_dimm_year(vendor)
        told = re.search(rf"By mode: .*?vendor {vendor} (bit .*?)[;.]", text)
        assert told and shares_in(told[1]) == pytest.approx(
            {mode: rate / sum(by_mode.values()) for mode, rate in by_mode.items() if rate}, abs=0.006
        )
    assert "hazard rises, Weibull shape 2.67" in text
    assert "That is 1.56 times the rate of the fleet of the table: 5% of the hosts are of a bad batch" in text


def test_what_remains_beside_a_bad_batch_is_not_called_all_hosts() -> None:
    text = said("faults.bad_batch=0.05")
    assert "on hosts of other batches (95% of all)" in text and "bad batch (5% of all" in text


@pytest.mark.parametrize(
    ("overrides", "name", "ratio", "why"),
    [
        ((SCALED,), "cloud-1t-ddr4", "2", "all rates are multiplied (faults.scale = 2)"),
        (("faults.vendor=a",), "cloud-1t-ddr4", "0.831", 'all DIMMs are of one vendor (faults.vendor = "a")'),
        ((), "bad-dimm", "12.3", "all hosts are of a bad batch, 12.3 times as bad"),
        ((), "ddr5-1t", "0.881", "DDR5 takes over the faults of DDR4, less the single-bit ones"),
    ],
    ids=["scale", "vendor", "bad batch", "DDR5"],
)
def test_rates_that_are_not_the_fleet_s_say_so_and_claim_no_tickets(
    overrides: tuple[str, ...], name: str, ratio: str, why: str
) -> None:
    text = said(*overrides, name=name)
    assert f"That is {ratio} times the rate of the fleet of the table: " in text and why in text
    notes = " ".join(rate_notes(load_scenario(name, overrides=overrides)))
    assert why in notes and "leave the rate open" not in notes


def test_the_fleet_s_own_rate_rests_on_its_tickets() -> None:
    for overrides in ((), ("faults.vendor=mixed",), ("faults.dispersion=1",), ("faults.shape=2",)):
        assert departures(field_model(load_scenario("cloud-1t-ddr4", overrides=overrides))) == []
    assert "times 1.057 so that they come to the rate of its 567 failure tickets" in said()
    notes = rate_notes(load_scenario("cloud-1t-ddr4"))
    assert notes[0].endswith("567 failure tickets for UEs in 1,629,967 server-months")
    assert "the tickets alone leave the rate open by -8% to +9%" in notes[1]
    assert rate_notes(load_scenario("seed-1t")) == []


def test_a_code_is_judged_for_every_class_and_its_overlap_is_called_an_upper_bound() -> None:
    text = said(ECC, "faults.vendor=mixed")
    for vendor, fit in (("a", "95.3"), ("b", "34.5"), ("c", "34.3")):
        assert f"vendor {vendor} (33.3% of all) {fit}" in text
    assert "as FaultSim has it: an upper bound" in text and "spoils few lines" in text
    assert "DIMMs with 2 faults or more on the 36 DIMMs" in text and "567 failure tickets" not in text
    notes = rate_notes(load_scenario("cloud-1t-ddr4", overrides=[ECC]))
    assert 'faults.ecc = "chipkill"' in notes[1] and not any("leave the rate open" in note for note in notes)
    assert not any("tickets for UEs" in note for note in notes)


def test_rates_are_written_without_exponents_and_sets_of_one_dimm_in_the_singular() -> None:
    text = said(*DDR2, "faults.scale=16.4")
    assert "1,080 FIT per chip" in text and "e+" not in text
    assert "512 interleave sets of 1 DIMM (" in text
    assert "1 DIMMs" not in text


def test_modes_that_the_chips_correct_are_not_described() -> None:
    for overrides in ((), (ECC,)):
        text = said(*overrides, name="ddr5-1t")
        assert "What a fault can reach: row: " in text
        assert not re.search(r"first strikes: [^.]*\bbit\b", text)


def test_the_vm_s_share_of_its_host_and_the_sockets_it_spans_are_told() -> None:
    text = said()
    assert (
        "6 interleave sets of 6 DIMMs (DDR4 RDIMM, 32 GiB, 2 ranks, x4), 36 DIMMs in all, and takes 89% of them" in text
    )
    assert "0.0649 faults that lead to errors on the 36 DIMMs of the VM's host, 0.0577 of them in the 89%" in text
    assert "1 DIMM on each of the 6 channels of one socket" in text and "more than most hosts have" in text
    assert 'faults.map = "skx-closed-6ch:ranks=4" puts 2 DIMMs on each channel: 3 sets' in text
    wider = said("faults.map=skx-closed-6ch:ranks=4")
    assert "3 interleave sets of 12 DIMMs" in wider and "2 DIMMs on each of the 6 channels" in wider
    assert "of one socket" not in said(name="ddr5-1t")  # two sets are two sockets, as hosts have
    assert "of one socket" not in said("faults.map=linear")


def test_whether_the_host_counts_corrected_errors_is_told() -> None:
    assert "this one does not (host.ce_threshold)" in said()
    assert "This host counts them, and acts at 1,023 in a page (cec)." in said("host.ce_threshold=cec")
