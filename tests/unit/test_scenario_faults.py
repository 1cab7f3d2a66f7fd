"""Field faults of a scenario that cannot be used: each is said with its key, its value and what is allowed."""
# ruff: noqa: E501 - a message that is expected stays on one line

from __future__ import annotations

import re
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
        (["faults.ue=ecc", "faults.ecc=chipkil"], "--set faults.ecc: 'chipkil' is not one of none, sec-ded, chipkill, bounded; did you mean chipkill?"),
        (["faults.service=never"], "--set faults.service: 'never' is not one of replace, left-in"),
        (["faults.bad_batch=1.5"], "--set faults.bad_batch: 1.5 is not a share between 0 and 1; write 0.015 for 1.5 %"),
        (["faults.bad_batch=5%"], "--set faults.bad_batch: '5%' is not a share between 0 and 1; write 0.05 for 5 %"),
        (["faults.ecc=sec-ded"], '--set faults.ecc: belongs to ue = "ecc", but ue is "empirical"'),
        (["faults.service=left-in", "faults.repair=7d"], '--set faults.repair: belongs to service = "replace", but service is "left-in"'),
        (["faults.repair=7"], "--set faults.repair: 7 has no unit; write 24h, 7d or 1y"),
        (["host.patrol=24"], "--set host.patrol: 24 has no unit; write 24h, 7d or 1y"),
        (["host.patrol=13months"], "--set host.patrol: '13months' is above 1y; write at most 1y, which is all but no patrol at all"),
        (["horizon.grid=1"], "--set horizon.grid: 1 has no unit; write 7d, 1month or 1y"),
        (["host.ce_threshold=cecc"], "--set host.ce_threshold: 'cecc' is not one of off, "),
        (["host.ce_threshold=cec", "faults.model=count"], '--set host.ce_threshold: \'cec\' goes with faults.model = "field" only, not "count"; write "off"'),
        (["faults.scale=0"], '--set faults.scale: 0 leaves no fault to simulate; write 1e-50 or more, or faults.model = "count" with errors = 0'),
        (["faults.ue=ecc", "faults.scale=1e-300"], "--set faults.scale: 1e-300 leaves no fault to simulate; "),
        (["faults.scale=-1"], "--set faults.scale: -1 is not between 0 and 1,000,000"),
        (["faults.scale=1e6"], "--set faults.scale: 1e+06 means 3.11e+06 DRAM faults on the host of 1 TiB over 5 years; at most 1,000,000 are simulated"),
        (["faults.repair=7m"], "--set faults.repair: '7m' is ambiguous: m may be minutes or months; write 7months or 0.116667h"),
        (["host.patrol=0h"], "--set host.patrol: '0h' is not a time above 0 and below 1000 years"),
        (["workload.reads_per_hour=-1"], "--set workload.reads_per_hour: -1 is not between 0 and 1,000,000,000"),
        (["vm.unretired=0.9"], "--set vm.unretired: 0.9 is not a share between 0 and 0.5"),
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


# ------------------------------------------------------------------------------------------------- files of one's own


def shipped(kind: str, name: str) -> str:
    from importlib import resources

    return (resources.files("poisonsim.catalog") / kind / f"{name}.toml").read_text(encoding="utf-8")


def laws_of(tmp_path: Path, pattern: str, new: str) -> str:
    """A copy of the shipped laws with the first match of a pattern replaced."""
    text, n = re.subn(pattern, new, shipped("laws", "field"), count=1, flags=re.DOTALL)
    assert n == 1
    (tmp_path / "laws.toml").write_text(text)
    return str(tmp_path / "laws.toml")


@pytest.mark.parametrize("ue", ["empirical", "ecc"])
@pytest.mark.parametrize(
    ("key", "window", "problem"),
    [
        ("rows", 1048576, "1048576 rows do not divide the 131072 of the DIMM"),
        ("lines", 256, "256 lines do not divide the 128 of the DIMM"),
        ("banks", 32, "32 banks do not divide the 16 of the DIMM"),
        ("ranks", 4, "4 ranks do not divide the 2 of the DIMM"),
    ],
)
def test_windows_larger_than_the_dimm_are_refused(tmp_path: Path, ue: str, key: str, window: int, problem: str) -> None:
    path = laws_of(tmp_path, rf"(\[\[?shapes\.bank[^\n]*\n(?:(?!\[).)*?)\b{key} = \d+", rf"\g<1>{key} = {window}")
    found = problems(f"faults.laws={path}", f"faults.ue={ue}")
    assert found == (
        f"--set faults.laws: {path}: shapes.bank: {problem}, ddr4-32g-2rx4; write 0 for all of them",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "new", "problem"),
    [
        (r"large_high = [\d_]+", "large_high = 100_000_000", "large_high: 1e+08 bad lines a strike; at most 10,000,000 are simulated"),
        (r"(\[lines\.row\].*?)small_mean = [\d.]+", r"\1small_mean = 2e8", "lines.row.small_mean: 2e+08 bad lines a strike; at most 10,000,000 are simulated"),
        (r"scale_days = [\d.]+", "scale_days = 0.001", "repeat.scale_days: a part strikes some "),
    ],
)  # fmt: skip
def test_absurd_laws_are_refused(tmp_path: Path, pattern: str, new: str, problem: str) -> None:
    path = laws_of(tmp_path, r"(\[repeat\]\n)shape = [\d.]+", r"\1shape = 3.0") if "scale" in pattern else ""
    text = Path(path).read_text() if path else shipped("laws", "field")
    text, n = re.subn(pattern, new, text, count=1, flags=re.DOTALL)
    assert n == 1
    (tmp_path / "laws.toml").write_text(text)
    found = problems(f"faults.laws={tmp_path / 'laws.toml'}", "faults.service=left-in")
    assert len(found) == 1 and found[0].startswith(f"--set faults.laws: {tmp_path / 'laws.toml'}: ")
    assert problem in found[0]


def test_a_short_scale_with_a_long_tail_is_no_absurd_law(tmp_path: Path) -> None:
    """With a Weibull shape of 0.1 most parts soon wait longer than any horizon, however short the scale is."""
    path = laws_of(
        tmp_path, r"(\[repeat\]\n)shape = [\d.]+(.*?)scale_days = [\d.]+", r"\1shape = 0.1\2scale_days = 0.01"
    )
    load_scenario("cloud-1t-ddr4", overrides=[f"faults.laws={path}", "faults.service=left-in"])


BITS_ONLY = """
[population]
n_dimms = 1000
n_chips_per_dimm = 18
hours = 8766
source = "our fleet"
quality = "measured-field"
[tickets]
n_ue_tickets = 4
n_servers = 100
n_server_months = 1200
source = "our fleet"
quality = "measured-field"
[modes.bit]
n_permanent = 60
n_transient = 40
n_ue_permanent = 2
n_ue_transient = 2
source = "our fleet"
quality = "measured-field"
[vendors.quiet]
bit = 0
source = "our fleet"
quality = "measured-field"
[vendors.loud]
bit = 9
source = "our fleet"
quality = "measured-field"
"""


@pytest.mark.parametrize(
    ("name", "overrides", "problem"),
    [
        ("ddr5-1t", [], "faults.table: {path}: leaves no fault that the host could see; the chips of ddr5-64g-2rx4 correct bit faults themselves; name another table, vendor or DIMM"),
        ("cloud-1t-ddr4", ["faults.vendor=quiet"], "faults.table: {path}: leaves no fault of vendor 'quiet' that the host could see; name another table, vendor or DIMM"),
        ("cloud-1t-ddr4", ["faults.vendor=quiet", "faults.ue=ecc"], "faults.table: {path}: leaves no fault of vendor 'quiet'; name another table, vendor or DIMM"),
        ("cloud-1t-ddr4", ["faults.vendor=mixed", "faults.ue=ecc"], "faults.vendor: 'mixed' has vendors without any fault (quiet); name one of the others"),
    ],
)  # fmt: skip
def test_a_table_that_leaves_no_fault_is_refused(tmp_path: Path, name: str, overrides: list[str], problem: str) -> None:
    path = tmp_path / "bits.toml"
    path.write_text(BITS_ONLY)
    found = problems(f"faults.table={path}", *overrides, name=name)
    assert len(found) == 1 and problem.format(path=path) in found[0], found


def test_a_code_needs_chips_for_its_check_bits(tmp_path: Path) -> None:
    path = tmp_path / "plain.toml"
    path.write_text(
        shipped("dimms", "ddr4-32g-2rx4").replace("n_chips_per_rank = { value = 18", "n_chips_per_rank = { value = 16")
    )
    assert problems(f"faults.dimm={path}", "faults.ue=ecc") == (
        f"cloud-1t-ddr4: faults.ecc: chipkill needs chips for check bits, and the 16 of {path} hold data only; "
        "write none, or name a DIMM with more chips",
    )
    load_scenario("cloud-1t-ddr4", overrides=[f"faults.dimm={path}", "faults.ue=ecc", "faults.ecc=none"])


@pytest.mark.parametrize("key", ["table", "laws", "dimm"])
def test_every_problem_of_a_file_has_a_line_of_its_own(tmp_path: Path, key: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("x = 1\ny = 2\n")
    found = problems(f"faults.{key}={path}")
    assert len(found) > 3
    assert all(problem.startswith(f"--set faults.{key}: {path}: ") and ";" not in problem[:80] for problem in found)


def test_every_problem_of_a_map_has_a_line_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("x = 1\ny = 2\n")
    assert [problem.split(": ")[2] for problem in problems(f"faults.map={path}:ranks=2")] == [
        "x",
        "y",
        "option 'ranks'",
        "bits",
    ]


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.mkdir()
    for key in ("faults.table", "faults.laws", "faults.dimm", "faults.map", "host.cpu"):
        assert problems(f"{key}={path}") == (f"--set {key}: {path}: is a directory; name a TOML file in it",)


def test_what_a_later_layer_switches_off_is_dropped_without_a_word() -> None:
    """`cloud-1t-ddr4` has a repair time; a user who leaves parts in did not ask for one."""
    scenario = load_scenario("cloud-1t-ddr4", overrides=["faults.service=left-in"])
    assert "repair" not in scenario.to_dict()["faults"]
    again = load_scenario("bad-dimm", overrides=["faults.service=replace", "faults.repair=1d"])
    assert again.to_dict()["faults"]["repair"] == "24h"
