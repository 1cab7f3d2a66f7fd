"""Scenario files, overrides, and where values come from."""
# ruff: noqa: E501 - a message that is expected stays on one line

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import shipped_text

from poisonsim import catalog
from poisonsim.errors import ScenarioError
from poisonsim.scenario import CountFaults, FieldFaults, RateFaults, Scenario, load_scenario, resolve_scenario
from poisonsim.units import TIB

TEN_MISTAKES = """
title = 7
[vm]
memry = "1TiB"
memory = 4.5
backing = "3G"
[host]
cpu = "saphire-rapids"
spares = "5"
hvo = 1
[faults]
model = "rate"
ue_per_tib_year = 0.01
errors = 3
[workload]
access = "zipfian"
[horizon]
years = 1
grid = "7d"
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes fleet.toml in an empty current directory and returns its name."""
    monkeypatch.chdir(tmp_path)

    def write_text(text: str | bytes) -> str:
        Path("fleet.toml").write_bytes(text.encode() if isinstance(text, str) else text)
        return "fleet.toml"

    return write_text


def problems_of(*args: Any, **kwargs: Any) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        load_scenario(*args, **kwargs)
    assert str(caught.value).count("\n") == len(caught.value.problems) - 1
    return list(caught.value.problems)


# ------------------------------------------------------------------------------------------------- problems


def test_ten_mistakes_in_one_file_are_ten_lines(write: Any) -> None:
    lines = problems_of(write(TEN_MISTAKES))
    cpus = ", ".join(catalog.names("cpus"))
    assert sorted(lines) == sorted(
        [
            "fleet.toml: title: 7 is not text",
            "fleet.toml: vm.memry: unknown key; did you mean memory?",
            'fleet.toml: vm.memory: 4.5 is not a size; write it as text with a unit, such as "1TiB"',
            "fleet.toml: vm.backing: '3G' is not one of 1G, 2M, the huge pages of x86-64",
            f"fleet.toml: host.cpu: 'saphire-rapids' is not a CPU of the catalogue; known: {cpus}; did you mean sapphire-rapids?",
            "fleet.toml: host.spares: '5' is not a whole number; write the number alone, without a unit or quotes",
            "fleet.toml: host.hvo: 1 is not true or false",
            'fleet.toml: faults.errors: belongs to model = "count", but model is "rate"; set faults.model as well',
            "fleet.toml: workload.access: 'zipfian' is not one of zipf, uniform, hot-cold, sequential; did you mean zipf?",
            "fleet.toml: horizon.grid: '7d' cuts 1y into 52.1786 steps, not a whole number; "
            "write a step that divides the horizon, such as 1month",
        ]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("[vm\n", "line 1, column 4"),
        ("title = 'x'\n[vm]\nmemory 1TiB\n", "line 3, column 8"),
        ("[vm]\nmemory = \n", "line 2, column 10"),
        ("[vm]\nmemory = 1TiB\n", "line 2, column 11"),
        ("[vm]\nmemory = '''", "line 2, column 13"),
        ("[vm]\n[vm]\n", "line 2, column 4"),
    ],
)
def test_a_syntax_error_is_one_line_with_its_position(write: Any, text: str, position: str) -> None:
    [line] = problems_of(write(text))
    assert line.startswith(f"fleet.toml: {position}: not TOML: ")


def test_files_that_are_not_text(write: Any) -> None:
    assert problems_of(write(b"title = '\xff'")) == ["fleet.toml: byte 10 is not UTF-8 text; save the file as UTF-8"]
    assert "not TOML" in problems_of(write("x = " + "9" * 5000))[0]


def test_missing_files_and_unknown_names_list_the_catalogue(write: Any) -> None:
    known = ", ".join(catalog.names("scenarios"))
    assert problems_of("seed-1.toml") == [
        f"seed-1.toml: cannot be read: No such file or directory; tried {Path.cwd() / 'seed-1.toml'}; scenarios of the catalogue: {known}; did you mean seed-1t?"
    ]
    assert problems_of("cloud-1t-ddr5") == [
        f"'cloud-1t-ddr5' is not a scenario of the catalogue; known: {known}; did you mean cloud-1t-ddr4 or ddr5-1t?; "
        "a file works too: ./cloud-1t-ddr5.toml; `poisonsim catalog list` says what each is"
    ]
    Path("folder.toml").mkdir()
    assert problems_of("folder.toml") == ["folder.toml: is a directory; name a TOML file in it"]
    Path("folder").mkdir()
    assert problems_of("folder") == ["folder: is a directory; name a TOML file in it"]
    assert problems_of("a\0.toml")[0].startswith("'a\\x00.toml': cannot be read: no path has a NUL character")


def test_an_unknown_base_hides_no_other_mistake_and_invents_none(write: Any) -> None:
    # The base might set the model, the backing and the horizon: nothing may be said of how they fit.
    text = 'base = "cloud-1t-ddr5"\n[faults]\nscale = -1\n[vm]\nmemory = "3MiB"\n[horizon]\ngrid = "7d"\n[workload]\nalpha = 9\n'
    lines = problems_of(write(text))
    assert [line.split(": ")[1] for line in lines] == ["base", "faults.scale", "workload.alpha"]
    assert lines[0].endswith("; did you mean cloud-1t-ddr4 or ddr5-1t?; a file works too: ./cloud-1t-ddr5.toml")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("keys = ['vm.memory']\nsource = 'us'\nquality = 'guessed'", "each entry needs keys (a list), source (text) and quality, one of measured-field"),
        ("keys = ['vm.memory']\nquality = 'assumed'", "each entry needs keys (a list)"),
        ("keys = ['vm.backing']\nsource = 'us'\nquality = 'assumed'", "'vm.backing' has no value in this file"),
    ],
)  # fmt: skip
def test_wrong_provenance(write: Any, entry: str, message: str) -> None:
    lines = problems_of(write(f'[vm]\nmemory = "2TiB"\nunrecoverable = 2\n[[provenance]]\n{entry}\n'))
    assert lines[0].startswith(f"fleet.toml: provenance: {message}")
    assert lines[1:] == ["fleet.toml: vm.unrecoverable: 2 is not a share between 0 and 0.5; write 0.02 for 2 %"]


# ------------------------------------------------------------------------------------------------- layers


@pytest.mark.parametrize("name", catalog.names("scenarios"))
def test_every_shipped_scenario_loads(name: str) -> None:
    resolved = resolve_scenario(name)
    assert resolved.name == name and resolved.scenario.title
    assert Scenario.from_dict(resolved.scenario.to_dict()) == resolved.scenario


def test_shipped_fault_models() -> None:
    assert load_scenario("seed-1t-distinct").faults == CountFaults(errors=100, placement="distinct-regions")
    assert load_scenario("cloud-1t-ddr4").faults == FieldFaults(table="ddr4-alibaba", dimm="ddr4-32g-2rx4")


def test_what_a_file_does_not_say_is_the_default(write: Any) -> None:
    assert load_scenario(write("[vm]")) == Scenario()
    assert load_scenario(Path(write("[vm]"))) == Scenario()


@pytest.mark.parametrize("text", ["", "# nothing yet\n"])
def test_a_file_that_says_nothing_is_refused(write: Any, text: str) -> None:
    name = write(text)
    [problem] = problems_of(name)
    assert problem.startswith(f'{name}: is empty; write what differs from the defaults, such as base = "cloud-1t-ddr4"')


def test_a_file_goes_over_its_base_and_set_over_the_file_and_years_over_all(write: Any) -> None:
    name = write('base = "cloud-1t-ddr4"\n[vm]\nmemory = "2TiB"\n[host]\nspares = 2\n[horizon]\nyears = 3\n')
    resolved = resolve_scenario(name, overrides=["host.spares=9", "horizon.years=4"], years="10y")
    assert resolved.name == "fleet"
    assert (resolved.scenario.vm.memory_bytes, resolved.scenario.host.spares) == (2 * TIB, 9)
    assert resolved.scenario.horizon.years == 10
    keys = ("vm.memory", "host.spares", "horizon.years", "faults.table", "faults.scale", "title")
    assert [resolved.origins[key] for key in keys] == [
        "fleet.toml", "--set", "--years", "catalogue: cloud-1t-ddr4", "default", "default",
    ]  # fmt: skip
    assert resolved.scenario.title == ""  # that of the base speaks of the values of the base
    changed = resolve_scenario("seed-1t", overrides=["host.cpu=zen5"], years=3)
    assert changed.scenario.title.endswith(", with other host.cpu, horizon.years")


def test_every_key_has_an_origin(write: Any) -> None:
    resolved = resolve_scenario(write('[vm]\nguest_page = {"2M" = 0.9, "4K" = 0.1}\n'))
    tables = resolved.scenario.to_dict()
    assert list(resolved.origins) == ["title", *(f"{t}.{k}" for t in tables if t != "title" for k in tables[t])]
    assert {key for key, origin in resolved.origins.items() if origin != "default"} == {"vm.guest_page"}


def test_numbers_follow_the_values_in_use(write: Any) -> None:
    name = write(
        'base = "seed-1t"\n[vm]\nmemory = "2TiB"\n[host]\nspares = 2\n'
        '[[provenance]]\nkeys = ["vm.memory"]\nsource = "our fleet"\nquality = "measured-field"\n'
    )
    numbers = {number.key: number for number in resolve_scenario(name).numbers}
    assert (numbers["vm.memory"].value, numbers["vm.memory"].source) == ("2TiB", "our fleet")
    assert "host.spares" not in numbers  # the user's own, with no source stated
    assert numbers["faults.errors"].quality == "assumed"
    assert "faults.errors" not in {n.key for n in resolve_scenario("seed-1t", overrides=["faults.model=field"]).numbers}
    assert "vm.unrecoverable" in {n.key for n in resolve_scenario(write("[vm]")).numbers}  # a default is assumed too


def test_switching_the_model_drops_what_the_new_one_does_not_have(write: Any) -> None:
    text = 'base = "seed-1t-distinct"\n[faults]\nmodel = "rate"\nue_per_tib_year = "1/month"\n[workload]\naccess = "uniform"\n'
    scenario = load_scenario(write(text))
    assert scenario.faults == RateFaults(ue_per_tib_year=12.0)
    assert scenario.workload.access == "uniform" and "alpha" not in scenario.to_dict()["workload"]
    switched = resolve_scenario(write(text), overrides={"faults.model": "count"})
    assert switched.scenario.faults == CountFaults()
    assert switched.origins["faults.placement"] == "default"


def test_switching_the_model_keeps_what_both_have(write: Any) -> None:
    name = write('[faults]\nmodel = "rate"\nue_per_tib_year = 1\nshape = 2.0\n')
    assert load_scenario(name, overrides=["faults.model=field"]).faults == FieldFaults(shape=2.0)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("vm.memory=8TiB", 8 * TIB),
        ('vm.memory = "8TiB"', 8 * TIB),
        ("vm.memory=8_796_093_022_208", 8 * TIB),
        ("vm.contiguous=false", False),
        ("vm.unrecoverable=0.5", 0.5),
        ('vm.guest_page={"2M" = 0.5, "4K" = 0.5}', {"2M": 0.5, "4K": 0.5}),
        ("vm.guest_page=4K", "4K"),
    ],
)
def test_overrides_are_toml_values_or_plain_text(override: str, value: object) -> None:
    key = override.partition("=")[0].strip().partition(".")[2]
    assert getattr(load_scenario("seed-1t", overrides=[override]).vm, key) == value


def test_the_last_override_of_a_key_wins_and_order_does_not_matter_across_keys() -> None:
    overrides = ["faults.ue_per_tib_year=1", "faults.model=rate", "faults.ue_per_tib_year=66FIT"]
    faults = load_scenario("seed-1t", overrides=overrides).faults
    assert isinstance(faults, RateFaults) and faults.ue_per_tib_year == pytest.approx(5.78556e-4)


def test_one_override_may_be_plain_text() -> None:
    assert load_scenario("seed-1t", overrides="host.spares=7").host.spares == 7


def test_an_override_may_set_the_title() -> None:
    assert load_scenario("seed-1t", overrides=["title=12"]).title == "12"


def test_wrong_overrides_are_reported_together_and_say_where() -> None:
    overrides = [
        "vm.memry=8TiB",
        "memory=8TiB",
        "vm.memory=8T",
        "host.spares",
        "host.spares=true",
        "faults.scale=2",
        "vm=3",
        "vm.horizon=4y",
    ]
    assert problems_of("seed-1t", overrides=overrides, years="1m") == [
        "--set vm.memory: '8T' is ambiguous: 8TiB is 8796093022208 bytes, 8TB is 8000000000000; write one of them",
        "--set host.spares: true is not a whole number",
        '--set faults.scale: belongs to model = "field", but model is "count"; set faults.model as well',
        "--years: '1m' is ambiguous: m may be minutes or months; write 1months or 0.0166667h",
        "--set 'host.spares': write key=value, such as vm.memory=8TiB",
        "--set vm.memry: unknown key; did you mean vm.memory?",
        "--set memory: unknown key; did you mean vm.memory?",
        "--set vm: is a table; set one of its keys, such as vm.memory",
        "--set vm.horizon: unknown key; horizon is a table of its own, with horizon.years, horizon.grid",
    ]


def test_an_override_that_breaks_a_fit_names_the_scenario() -> None:
    assert problems_of("seed-1t", overrides=["vm.backing=2M", "vm.guest_page=1G"]) == [
        "--set vm.guest_page: '1G' is larger than the backing; write 2M or smaller"
    ]
    [line] = problems_of("seed-1t-distinct", overrides=["vm.memory=50GiB"])
    assert line == "seed-1t-distinct: faults.errors: 100 errors do not fit in distinct regions; the VM has 50"


# ------------------------------------------------------------------------------------------------- files that files name


def copy_of(kind: str, name: str, path: Path) -> None:
    path.write_text(shipped_text(kind, name), encoding="utf-8")


OWN_FILES = {
    "host.costs": ("costs", "linux"),
    "host.cpu": ("cpus", "zen4"),
    "faults.table": ("faults", "ddr4-alibaba"),
    "faults.laws": ("laws", "field"),
    "faults.dimm": ("dimms", "ddr4-32g-2rx4"),
    "faults.map": ("maps", "skx-open-6ch"),
}


@pytest.mark.parametrize("key", OWN_FILES)
@pytest.mark.parametrize("absolute", [False, True])
def test_files_named_in_a_file_lie_beside_it(write: Any, tmp_path: Path, key: str, absolute: bool) -> None:
    Path("conf/parts").mkdir(parents=True)
    copy_of(*OWN_FILES[key], Path("conf/parts/mine.toml"))
    named = f"{tmp_path}/conf/parts/mine.toml" if absolute else "./parts/mine.toml"
    table, _, last = key.partition(".")
    named += ":ranks=4" if last == "map" else ""
    Path("conf/fleet.toml").write_text(f'base = "cloud-1t-ddr4"\n[{table}]\n{last} = "{named}"\n')
    scenario = load_scenario("conf/fleet.toml")
    expected = named if absolute else f"conf/{named.removeprefix('./')}"
    assert getattr(getattr(scenario, table), last) == expected
    assert Scenario.from_dict(scenario.to_dict()) == scenario
    assert load_scenario(tmp_path / "conf" / "fleet.toml").to_dict()[table][last].endswith(named.removeprefix("."))


@pytest.mark.parametrize("key", OWN_FILES)
def test_a_file_that_is_not_there_is_named_in_full(write: Any, tmp_path: Path, key: str) -> None:
    Path("conf").mkdir()
    table, _, last = key.partition(".")
    Path("conf/fleet.toml").write_text(f'base = "cloud-1t-ddr4"\n[{table}]\n{last} = "./mine.toml"\n')
    assert problems_of("conf/fleet.toml") == [
        f"conf/fleet.toml: {key}: conf/mine.toml: cannot be read: No such file or directory; tried {tmp_path}/conf/mine.toml"
    ]


def test_files_named_by_an_override_lie_in_the_current_directory(write: Any) -> None:
    Path("conf").mkdir()
    Path("conf/fleet.toml").write_text('base = "cloud-1t-ddr4"\n[faults]\ndimm = "./mine.toml"\n')
    copy_of("dimms", "ddr4-32g-2rx4", Path("mine.toml"))
    override = "faults.dimm=./mine.toml"
    assert load_scenario("conf/fleet.toml", overrides=[override]).to_dict()["faults"]["dimm"] == "./mine.toml"
    assert problems_of("conf/fleet.toml")


def test_values_of_a_file_that_are_no_paths_stay_as_they_are(write: Any) -> None:
    Path("conf").mkdir()
    Path("conf/fleet.toml").write_text('base = "cloud-1t-ddr4"\n[faults]\nmap = "skx-open-6ch:ranks=4"\ntable = 3\n')
    assert problems_of("conf/fleet.toml") == [
        "conf/fleet.toml: faults.table: 3 is not text; write a name of the catalogue, or a file such as ./mine.toml"
    ]
    Path("conf/fleet.toml").write_text('base = "cloud-1t-ddr4"\n[faults]\nmap = "skx-open-6ch:ranks=4"\n')
    assert load_scenario("conf/fleet.toml").to_dict()["faults"]["map"] == "skx-open-6ch:ranks=4"


# ------------------------------------------------------------------------------------------------- units, idle keys


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[host]\npatrol = 24\n", "fleet.toml: host.patrol: 24 has no unit; write 24h, 7d or 1y"),
        ("[horizon]\ngrid = 0.25\n", "fleet.toml: horizon.grid: 0.25 has no unit; write 7d, 1month or 1y"),
        ('[faults]\nmodel = "field"\nrepair = 7\n', "fleet.toml: faults.repair: 7 has no unit; write 24h, 7d or 1y"),
        ('[faults]\nmodel = "field"\necc = "chipkill"\n', 'fleet.toml: faults.ecc: belongs to ue = "ecc", but ue is "empirical"'),
        ('base = "bad-dimm"\n[faults]\nrepair = "7d"\n', 'fleet.toml: faults.repair: belongs to service = "replace", but service is "left-in"'),
        ('base = "cloud-1t-ddr4"\n[faults]\nservice = "left-in"\nrepair = "7d"\n', 'fleet.toml: faults.repair: belongs to service = "replace", but service is "left-in"'),
        ('[host]\nce_threshold = "cec"\n', 'fleet.toml: host.ce_threshold: \'cec\' goes with faults.model = "field" only, not "count"; write "off"'),
    ],
)  # fmt: skip
def test_times_without_units_and_keys_without_effect(write: Any, text: str, problem: str) -> None:
    assert problems_of(write(text)) == [problem]


def test_the_horizon_alone_may_be_a_bare_number(write: Any) -> None:
    assert load_scenario(write("[horizon]\nyears = 3\n")).horizon.years == 3
    assert load_scenario("seed-1t", overrides=["horizon.years=3"]).horizon.years == 3
    assert load_scenario("seed-1t", years="3").horizon.years == load_scenario("seed-1t", years=3).horizon.years == 3


# ------------------------------------------------------------------------------------------------- base files


def test_a_base_may_be_a_file_named_as_from_the_file_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "house.toml").write_text('base = "cloud-1t-ddr4"\n[vm]\nmemory = "2TiB"\n[host]\nspares = 2\n')
    (tmp_path / "conf" / "mine.toml").write_text('base = "../house.toml"\n[host]\nspares = 7\n')
    found = resolve_scenario(tmp_path / "conf" / "mine.toml")
    assert found.scenario.host.spares == 7 and found.scenario.vm.memory_bytes == 2 << 40
    assert found.scenario.faults == load_scenario("cloud-1t-ddr4").faults
    assert found.origins["vm.memory"] == f"{tmp_path}/conf/../house.toml"


@pytest.mark.parametrize(
    ("base", "house", "problem"),
    [
        ("house.toml", 'base = "mine.toml"\n', "mine.toml: base: {house}: base: 'mine.toml' is based on this file"),
        ("mine.toml", "", "mine.toml: base: 'mine.toml' is based on this file; a base goes over another one"),
        ("none.toml", "", "mine.toml: base: {folder}/none.toml: cannot be read: No such file or directory"),
        ("house.toml", "[host]\nspares = -7\n", "{house}: host.spares: -7 is not between 0 and 65,536"),
        ("house.toml", "[host]\nspare = 7\n", "{house}: host.spare: unknown key; did you mean spares?"),
        ("house.toml", "[host", "mine.toml: base: {house}: "),
        ("house", "", "'house' is not a scenario of the catalogue; known: "),
    ],
)
def test_a_base_file_that_cannot_be_used(tmp_path: Path, base: str, house: str, problem: str) -> None:
    (tmp_path / "house.toml").write_text(house or "[vm]\n")
    (tmp_path / "mine.toml").write_text(f'base = "{base}"\n')
    told = problems_of(tmp_path / "mine.toml")[0]
    assert problem.format(folder=tmp_path, house=tmp_path / "house.toml") in told


# ------------------------------------------------------------------------------------------------- arm64


@pytest.mark.parametrize(
    ("overrides", "hvo"),
    [
        (["vm.arch=arm64", "host.cpu=neoverse-v2"], False),
        (["vm.arch=arm64-64k", "vm.backing=512M", "vm.guest_page=64K", "host.cpu=neoverse-v2"], False),
        (["vm.arch=arm64", "host.cpu=neoverse-v2", "host.hvo=true"], True),
        ([], True),
    ],
)
def test_arm64_has_no_hvo_unless_it_is_asked_for(overrides: list[str], hvo: bool) -> None:
    found = resolve_scenario("cloud-1t-ddr4", overrides=overrides)
    assert found.scenario.host.hvo is hvo
    assert found.origins["host.hvo"] == ("--set" if "host.hvo=true" in overrides else "default")
