"""Fleet files: what they say, and every mistake in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

import poisonsim as ps
from poisonsim.results.fleet_file import read_fleet, shared_out

OLD = '[[fleet]]\nscenario = "cloud-1t-ddr4"\nvms = 6000\n'


def read(tmp_path: Path, text: str, **options: str) -> tuple[str, tuple[ps.FleetPart, ...]]:
    path = tmp_path / "hosts.toml"
    path.write_text(text)
    return read_fleet(path, **options)


def test_components_have_a_scenario_a_number_and_keys_over_it(tmp_path: Path) -> None:
    text = f'title = "Two  kinds"\n{OLD}[[fleet]]\nname = "new"\nscenario = "ddr5-1t"\nvms = 2000\n'
    text += 'set = { vm.memory = "2TiB", "host.cpu" = "zen5", vm.guest_page = { "2M" = 0.9, "4K" = 0.1 } }\n'
    title, (old, new) = read(tmp_path, text)
    assert title == "Two kinds"
    assert (old.name, old.vms, old.scenario) == ("cloud-1t-ddr4", 6000, ps.load_scenario("cloud-1t-ddr4"))
    assert (new.name, new.vms, new.scenario.host.cpu, new.scenario.vm.n_regions) == ("new", 2000, "zen5", 2048)
    assert new.scenario.vm.guest_page_shares == {"2M": 0.9, "4K": 0.1}


def test_files_lie_beside_the_fleet_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = tmp_path / "below"
    below.mkdir()
    (below / "mine.toml").write_text('base = "seed-1t"\n[faults]\nerrors = 7\n')
    (below / "hosts.toml").write_text('[[fleet]]\nscenario = "mine.toml"\nvms = 3\n')
    monkeypatch.chdir(tmp_path)
    [part] = read_fleet("below/hosts.toml")[1]
    assert (part.name, vars(part.scenario.faults)["errors"]) == ("mine", 7)


def test_years_go_over_all_scenarios(tmp_path: Path) -> None:
    [part] = read(tmp_path, OLD, years="18months")[1]
    assert part.scenario.horizon.years == 1.5


def test_weights_share_out_the_whole_fleet(tmp_path: Path) -> None:
    weights = {"a": 1, "b": 1, "c": 0.5}
    parts = "".join(f'[[fleet]]\nname = "{name}"\nscenario = "seed-1t"\nweight = {w}\n' for name, w in weights.items())
    assert [part.vms for part in read(tmp_path, "vms = 1001\n" + parts)[1]] == [401, 400, 200]


@pytest.mark.parametrize("total", [1, 7, 1000, 999_999_999])
def test_what_is_shared_out_adds_up_and_is_less_than_one_off(total: int) -> None:
    weights = [0.1, 3.0, 2e-9, 7.5, 7.5]
    sizes = shared_out(total, weights)
    assert sum(sizes) == total
    assert all(abs(size - total * w / sum(weights)) < 1 for size, w in zip(sizes, weights, strict=True))


MISTAKES = {
    "nothing": ("", "has no [[fleet]] tables; write one for each kind of VM"),
    "a scenario": ('base = "seed-1t"\n', "to run the one scenario: poisonsim run "),
    "a table": ("[fleet]\nvms = 3\n", "has no [[fleet]] tables"),
    "no TOML": ("[[fleet]\n", "line 1"),
    "unknown key": (f"vm = 3\n{OLD}", "unknown key 'vm'; did you mean vms?; allowed: title, vms, [[fleet]]"),
    "unknown key below": (f"{OLD}sett = 3\n", "[[fleet]] 1 (cloud-1t-ddr4): unknown key 'sett'; did you mean set?"),
    "title": (f"title = 3\n{OLD}", "title = 3 is not text"),
    "no scenario": ("[[fleet]]\nvms = 3\n", "[[fleet]] 1: names no scenario; write scenario ="),
    "scenario of no kind": ("[[fleet]]\nscenario = 3\nvms = 3\n", "scenario = 3 is neither a name of the catalogue"),
    "unknown scenario": ('[[fleet]]\nscenario = "cloud-1t-ddr5"\nvms = 3\n', "did you mean cloud-1t-ddr4"),
    "a very long name": (OLD.replace("cloud", "cloud" * 1000), "is not a scenario of the catalogue"),
    "a fleet in a fleet": ('[[fleet]]\nscenario = "hosts.toml"\nvms = 3\n', "is a fleet of several scenarios"),
    "no vms": ('[[fleet]]\nscenario = "seed-1t"\n', "[[fleet]] 1 (seed-1t): has no vms; say how many VMs there are"),
    "no VM": (OLD.replace("6000", "0"), "vms = 0 is not a whole number from 1 to 1,000,000,000"),
    "half a VM": (OLD.replace("6000", "0.5"), "vms = 0.5 is not a whole number"),
    "true VMs": (OLD.replace("6000", "true"), "vms = true is not a whole number"),
    "too many VMs": (OLD.replace("6000", "10000000000"), "vms = 10000000000 is not a whole number"),
    "both": (f"vms = 9\n{OLD}weight = 2\n", "has vms and weight; give one of them"),
    "weight of one": (f'vms = 9\n{OLD.replace("vms = 6000", "weight = 1")}[[fleet]]\nscenario = "seed-1t"\n',
                      "[[fleet]] 2 (seed-1t): has no weight, as others have"),
    "weight 0": (f"vms = 9\n{OLD.replace('vms = 6000', 'weight = 0')}", "weight = 0 is not a number above 0"),
    "weight nan": (f"vms = 9\n{OLD.replace('vms = 6000', 'weight = nan')}", "weight = nan is not a number above 0"),
    "weights of nothing": (OLD.replace("vms = 6000", "weight = 1"), "vms is missing; components have weights"),
    "weights of half": (f"vms = 0.5\n{OLD.replace('vms = 6000', 'weight = 1')}", "vms = 0.5 is not a whole number"),
    "a light weight": (f'vms = 9\n{OLD.replace("vms = 6000", "weight = 1")}[[fleet]]\nscenario = "seed-1t"\n'
                       "weight = 0.01\n", "[[fleet]] 2 (seed-1t): its weight is less than one of 9 VMs"),
    "whole and parts": (f"vms = 6000\n{OLD}", "vms of the whole fleet goes with weights"),
    "twice": (OLD + OLD, "2 components are called 'cloud-1t-ddr4'; give each a name of its own"),
    "case": (f'{OLD}name = "A"\n{OLD}name = "a"\n', "2 components are called 'a'"),
    "a path": (f'{OLD}name = "../a"\n', "name = '../a' cannot name a folder"),
    "the whole": (f'{OLD}name = "fleet"\n', "name = 'fleet' is what all components together are called"),
    "name of no kind": (f"{OLD}name = 3\n", "name = 3 is not text"),
    "set of no kind": (f"{OLD}set = 3\n", "set = 3 is not a table; write set = { vm.memory = "),
    "unknown key of set": (f'{OLD}set = {{ vm.memry = "2TiB" }}\n', "set vm.memry: unknown key; did you mean vm.mem"),
    "value of set": (f"{OLD}set = {{ host.spares = -1 }}\n", "set host.spares: -1 is not between 0 and 65,536"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_one_line_with_its_place(tmp_path: Path, mistake: str) -> None:
    text, told = MISTAKES[mistake]
    with pytest.raises(ps.ScenarioError) as caught:
        read(tmp_path, text)
    [problem] = caught.value.problems
    assert problem.startswith(str(tmp_path / "hosts.toml")) and told in problem


def test_all_mistakes_are_told(tmp_path: Path) -> None:
    text = (
        'x = 1\n[[fleet]]\nscenario = "seed-2t"\nvms = 0\n[[fleet]]\nscenario = "seed-1t"\nset = { vm.memory = 3.5 }\n'
    )
    with pytest.raises(ps.ScenarioError) as caught:
        read(tmp_path, text)
    assert len(caught.value.problems) == 5


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    for name, told in {
        "none.toml": "cannot be read",
        "seed-1t": "is no file; name a TOML file",
        ".": "is no file",
    }.items():
        with pytest.raises(ps.ScenarioError, match=told):
            read_fleet(tmp_path / name if name != "." else tmp_path)
