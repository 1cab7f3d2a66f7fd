"""Field faults of a scenario that cannot be used: each is said with its key, its value and what is allowed."""
# ruff: noqa: E501 - a message that is expected stays on one line

from __future__ import annotations

from pathlib import Path

import pytest

from poisonsim.errors import ScenarioError
from poisonsim.scenario import load_scenario


def problems(*overrides: str, name: str = "cloud-1t-ddr4") -> tuple[str, ...]:
    with pytest.raises(ScenarioError) as caught:
        load_scenario(name, overrides=list(overrides))
    return caught.value.problems


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["faults.map=skx-clsed-6ch"], "--set faults.map: 'skx-clsed-6ch' is not an address map of the catalogue; known: linear, "),
        (["faults.map=mine.toml"], "--set faults.map: mine.toml: cannot be read: No such file or directory"),
        (["faults.dimm=64GiB"], "--set faults.dimm: '64GiB' is not a DIMM of the catalogue; known: ddr2-2g-1rx4, "),
        (["faults.laws=feld"], "--set faults.laws: 'feld' is not a set of laws of the catalogue; known: field; did you mean field?"),
        (["faults.table=jaguar-ddr2"], "cloud-1t-ddr4: faults.ue: 'empirical' needs to know which faults led to errors, and jaguar-ddr2 does not say; write \"ecc\""),
        (["faults.vendor=d"], "--set faults.vendor: 'd' is not one of fleet, mixed, a, b, c, those of ddr4-alibaba"),
        (["faults.ue=ecc", "faults.table=jaguar-ddr2", "faults.vendor=a"], "--set faults.vendor: 'a' is not one of fleet, those of jaguar-ddr2"),
        (["faults.ue=ecc", "faults.dispersion=1"], "--set faults.dispersion: 1 goes with ue = \"empirical\" only; with ue = \"ecc\" let hosts differ by vendor or bad_batch"),
        (["faults.ue=ecc", "faults.dimm=ddr4-32g-2rx8"], "faults.ecc: chipkill corrects x4 chips, and those of ddr4-32g-2rx8 are x8; write sec-ded"),
        (["faults.ecc=chipkil"], "--set faults.ecc: 'chipkil' is not one of none, sec-ded, chipkill, bounded; did you mean chipkill?"),
        (["faults.service=never"], "--set faults.service: 'never' is not one of replace, left-in"),
        (["faults.bad_batch=1.5"], "--set faults.bad_batch: 1.5 is not between 0 and 1"),
        (["faults.scale=-1"], "--set faults.scale: -1 is not between 0 and 1,000,000"),
        (["faults.scale=1e6"], "--set faults.scale: 1e+06 means 2.76e+06 DRAM faults in 1 TiB over 5 years; at most 1,000,000 are simulated"),
        (["faults.repair=7m"], "--set faults.repair: '7m' is ambiguous: m may be minutes or months; write 7months or 0.116667h"),
        (["host.patrol=0h"], "--set host.patrol: '0h' is not a time between 0 and 1000 years"),
        (["workload.reads_per_hour=-1"], "--set workload.reads_per_hour: -1 is not between 0 and 1,000,000,000"),
        (["vm.unretired=0.9"], "--set vm.unretired: 0.9 is not between 0 and 0.5"),
    ],
)  # fmt: skip
def test_what_is_said_of_wrong_faults(overrides: list[str], said: str) -> None:
    found = problems(*overrides)
    assert len(found) == 1, found
    assert said in found[0]


def test_every_problem_is_listed_at_once() -> None:
    found = problems("faults.map=x", "faults.laws=y", "faults.vendor=z", "vm.unretired=2")
    assert [problem.split(": ")[0] for problem in found] == [
        "--set vm.unretired", "--set faults.laws", "--set faults.map", "--set faults.vendor",
    ]  # fmt: skip


def test_a_map_that_does_not_cover_the_dimm_is_refused(tmp_path: Path) -> None:
    """Bit 33 of the rank's address appears nowhere: two cells would share an address."""
    path = tmp_path / "mine.toml"
    path.write_text(
        'title = "mine"\n[[interleave]]\nwhat = "channel"\nshift = 8\nways = 6\nsource = "us"\nquality = "assumed"\n'
        '[bits.column]\nvalue = "3 4 5 6 7 8 9 10 11 12"\nsource = "us"\nquality = "assumed"\n'
        '[bits.row]\nvalue = "17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 32"\nsource = "us"\nquality = "assumed"\n'
        '[bits.bank]\nvalue = "15 16"\nsource = "us"\nquality = "assumed"\n'
        '[bits.bank_group]\nvalue = "13 14"\nsource = "us"\nquality = "assumed"\n'
    )
    found = problems(f"faults.map={path}")
    assert len(found) == 1 and str(path) in found[0], found


def test_dimms_and_laws_of_ones_own_are_read_and_are_part_of_the_run(tmp_path: Path) -> None:
    from importlib import resources

    from poisonsim.engine.plan import make_plan

    path = tmp_path / "laws.toml"
    text = (resources.files("poisonsim.catalog") / "laws" / "field.toml").read_text()
    path.write_text(text)
    scenario = load_scenario("cloud-1t-ddr4", overrides=[f"faults.laws={path}"])
    before = make_plan(scenario, ["hgm2m"], seed=1).run_id
    path.write_text(text.replace("scale_days = 115.0", "scale_days = 30.0"))
    assert make_plan(scenario, ["hgm2m"], seed=1).run_id != before


def test_the_guest_is_judged_by_the_laws_its_scenario_names(tmp_path: Path) -> None:
    """How unevenly lines are read decides who finds an error; a file of one's own says so for the guest as well."""
    from importlib import resources

    from poisonsim.faults.detection import Detection
    from poisonsim.faults.field import detection_of

    path = tmp_path / "laws.toml"
    text = (resources.files("poisonsim.catalog") / "laws" / "field.toml").read_text()
    path.write_text(text.replace("reads_spread = 2.3", "reads_spread = 0.5"))
    scenario = load_scenario("cloud-1t-ddr4", overrides=[f"faults.laws={path}"])
    assert detection_of(scenario) == Detection(scenario.host.patrol, scenario.workload.reads_per_hour, 0.5)
