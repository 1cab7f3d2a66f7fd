"""`catalog show`: files that go round, files of one's own, and numbers under names that can be read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import shipped_text
from typer.testing import Result as CliResult

from poisonsim import catalog
from poisonsim.catalog.entries import of_file
from poisonsim.report.assumptions import numbers_in_use
from poisonsim.scenario import load_scenario

Cli = Callable[..., CliResult]
ENTRIES = [(kind, name) for kind in catalog.KINDS for name in catalog.names(kind)]
QUALITIES = set(catalog.QUALITIES)


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_what_toml_prints_is_the_file_and_shows_the_same_again(cli: Cli, kind: str, name: str) -> None:
    printed = cli("catalog", "show", name, "--toml")
    assert (printed.exit_code, printed.stderr) == (0, "")
    assert printed.stdout == shipped_text(kind, name)
    Path("mine.toml").write_text(printed.stdout, encoding="utf-8")
    assert of_file("mine.toml").kind == kind
    again = cli("catalog", "show", "./mine.toml")
    assert again.exit_code == 0, again.stderr
    assert catalog.load(kind, name)["title"] in again.stdout
    ours, theirs = (json.loads(cli("catalog", "show", n, "--json").stdout) for n in ("mine.toml", name))
    assert ours["kind"] == kind and ours["numbers"] == theirs["numbers"]


def test_an_edited_file_is_what_a_run_uses(cli: Cli) -> None:
    text = cli("catalog", "show", "field", "--toml").stdout
    Path("mine.toml").write_text(text.replace("reads_spread = 2.3", "reads_spread = 0.5"))
    scenario = load_scenario("cloud-1t-ddr4", overrides=["faults.laws=./mine.toml"])
    assert {n.value for n in numbers_in_use(scenario) if n.key == "detection.reads_spread"} == {"0.5"}
    shown = cli("catalog", "show", "mine.toml")
    assert "detection.reads_spread" in shown.stdout and "0.5" in shown.stdout


@pytest.mark.parametrize(
    ("kind", "name", "old", "new", "problem"),
    [
        ("laws", "field", "shape = 0.30", "shape = 0", "repeat.shape: 0 is not a number"),
        ("dimms", "ddr4-16g-1rx4", "n_ranks = 1", "n_ranks = 3", "module.n_ranks: 3 is not a power of two"),
        ("maps", "skx-open-6ch", 'what = "rank"', 'what = "rnk"', "'rnk' is not something to take turns over"),
        ("costs", "linux", "value = 33_000", "value = -1", "split_table_page_ns.value: -1 is not a whole number"),
        ("cpus", "zen5", "entries = 96", "entries = 0", "l1[0].entries: 0 is not a whole number"),
        ("faults", "jaguar-ddr2", "= 14.2", "= -1", "modes.bit.fit_transient: -1 is not FIT per chip"),
        ("scenarios", "seed-1t", "errors = 100", "errors = -5", "faults.errors"),
    ],
)
def test_a_file_with_a_mistake_says_which(cli: Cli, kind: str, name: str, old: str, new: str, problem: str) -> None:
    text = shipped_text(kind, name)
    assert old in text
    Path("mine.toml").write_text(text.replace(old, new, 1), encoding="utf-8")
    result = cli("catalog", "show", "mine.toml")
    assert result.exit_code == 2 and problem in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            'title = "nothing"\n',
            "mine.toml: cannot tell what it describes, it is of no kind of the catalogue: a scenario",
        ),
        ("[modes]\n[shapes]\n", "it has tables of a fault table and a set of laws of the catalogue"),
        ("a = [", "mine.toml: line 1"),
    ],
    ids=["nothing", "two kinds", "no TOML"],
)
def test_a_file_of_no_kind_is_refused(cli: Cli, text: str, told: str) -> None:
    Path("mine.toml").write_text(text)
    result = cli("catalog", "show", "mine.toml")
    assert (result.exit_code, result.stdout) == (2, "") and told in result.stderr


def test_formats_exclude_each_other_and_names_can_be_files(cli: Cli) -> None:
    assert "exclude each other" in cli("catalog", "show", "field", "--toml", "--json").stderr
    assert "a file works too: ./nope.toml" in cli("catalog", "show", "nope").stderr
    assert cli("catalog", "show", "gone.toml").exit_code == 2


def test_how_to_make_one_s_own_is_told_where_it_is_looked_for(cli: Cli) -> None:
    assert "make your own: poisonsim catalog show NAME --toml > mine.toml" in cli("catalog", "list").stdout
    assert "make your own: poisonsim catalog show linear --toml > mine.toml" in cli("catalog", "show", "linear").stdout
    text = " ".join(cli("catalog", "show", "--help").stdout.split())
    assert "poisonsim catalog show field --toml > mine.toml" in text and "--set faults.laws=./mine.toml" in text


@pytest.mark.parametrize(
    ("name", "label", "value"),
    [
        ("skx-closed-6ch", "interleave[1: channel].ways", "3"),
        ("field", "shapes.row[1: two adjacent rows].window.rows", "2"),
        ("field", "shapes.row[0: one row].window.lines", "0 (all)"),
        ("field", "thresholds.cec.window_hours", "0 (without a window)"),
        ("zen5", "l2[0: 4K, 2M].entries", "4,096"),
        ("jaguar-ddr2", "modes.bit.fit_transient", "14.2 FIT per chip"),
        ("ddr4-alibaba", "modes.bit.n_permanent", "14,515 faults"),
        ("ddr4-alibaba", "vendors.a.bit", "147 FIT per chip"),
        ("ddr5-64g-2rx4", "module.on_die_ecc", "true"),
    ],
)
def test_numbers_are_listed_with_what_they_belong_to_and_their_unit(
    cli: Cli, name: str, label: str, value: str
) -> None:
    rows = [line for line in cli("catalog", "show", name).stdout.splitlines() if line.startswith(label)]
    assert len(rows) == 1 and rows[0].removeprefix(label).lstrip().startswith(f"{value} "), rows
    numbers = json.loads(cli("catalog", "show", name, "--json").stdout)["numbers"]
    assert [n for n in numbers if n["label"] == label]


def test_dimms_say_their_generation_and_maps_which_dimms_they_fit(cli: Cli) -> None:
    assert (
        "DDR5, 64 GiB, 40 chips, which correct single bits themselves" in cli("catalog", "show", "ddr5-64g-2rx4").stdout
    )
    assert "DDR4, 16 GiB, 18 chips, which correct nothing" in cli("catalog", "show", "ddr4-16g-1rx4").stdout
    fitting = cli("catalog", "show", "skx-closed-6ch").stdout.splitlines()[2]
    assert fitting == "Its bits fit the DIMMs ddr4-16g-1rx4, ddr4-32g-2rx4, ddr4-32g-2rx8, ddr4-64g-2rx4."


def test_a_scenario_shows_words_and_grades_and_its_table_on_demand(cli: Cli) -> None:
    numbers = numbers_in_use(load_scenario("cloud-1t-ddr4"))
    short, full = (
        cli("catalog", "show", "cloud-1t-ddr4").stdout,
        cli("catalog", "show", "cloud-1t-ddr4", "--all").stdout,
    )
    assert max(map(len, short.splitlines())) <= 120 and len(short.splitlines()) < 70
    n_assumed = sum(number.assumed for number in numbers)
    assert f"{len(numbers)} numbers in use, {n_assumed} of them assumed" in short
    total = [line.split() for line in short.splitlines() if line.startswith("all ")]
    assert sum(map(int, total[0][1:])) == len(numbers) and str(n_assumed) == total[0][-1]
    assert "poisonsim catalog show cloud-1t-ddr4 --all" in short and "shapes.bit[0: one line]" not in short
    assert "shapes.bit[0: one line].window.rows" in full
    data = json.loads(cli("catalog", "show", "cloud-1t-ddr4", "--json").stdout)
    assert len(data["in_use"]) == len(numbers) and data["words"]
    assert {row["quality"] for row in data["in_use"]} <= QUALITIES


def test_windows_count_as_assumed_wherever_numbers_are_counted() -> None:
    numbers = numbers_in_use(load_scenario("cloud-1t-ddr4"))
    rows = {n.key: n.quality for n in numbers if n.key.startswith("shapes.column[0")}
    assert rows["shapes.column[0: a column of one sub-array].window.rows"] == "assumed"
    assert rows["shapes.column[0: a column of one sub-array].n_faults"] == "measured-field"


def test_sources_are_cut_to_the_terminal_only_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from poisonsim.cli import catalog as command

    printed: list[list[list[str]]] = []
    monkeypatch.setattr(command, "print_table", lambda header, rows, right: printed.append(rows))
    row = ["a.key", "12345", "assumed", "s" * 500]
    command._print_sourced(["key", "value", "quality", "source"], [row])
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    command._print_sourced(["key", "value", "quality", "source"], [row])
    whole, cut = printed
    assert whole == [row]
    assert sum(len(cell) + 2 for cell in cut[0]) - 2 == 100 and cut[0][-1].endswith("…")
