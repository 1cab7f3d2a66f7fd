"""`poisonsim sweep`: its table, its other outputs, and mistakes."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result as CliResult

import poisonsim as ps
from poisonsim.cli import progress
from poisonsim.cli.sweep import EXAMPLES

Cli = Callable[..., CliResult]
HVO = ("--over", "host.hvo_with_hgm", "--policy", "unmap1g", "--policy", "hgm2m")
QUICK = ("--trials", "1000")


@pytest.fixture
def no_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    from poisonsim.engine import run

    def refuse(*_: object) -> None:
        raise AssertionError("a trial ran")

    monkeypatch.setattr(run, "run_block", refuse)


def test_hvo_with_hgm_in_one_line(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 1e9)  # none on a busy machine either
    result = cli("sweep", "seed-1t-distinct", *HVO, *QUICK)
    assert (result.exit_code, result.stderr) == (0, "")
    [folder] = Path("reports").iterdir()
    assert re.fullmatch(r"sweep-seed-1t-distinct-[0-9a-f]{12}", folder.name)
    assert (
        result.stdout.replace(str(folder), "FOLDER")
        == """\
seed-1t-distinct: 1 TiB VM, 1G pages, 5 years, 3 points of 1,000 trials, seed 1

host.hvo_with_hgm  policy   guest lost  host cost   slower              VMs lost
off-everywhere     unmap1g     100 GiB    100 GiB  −0.02 %  100.0 (99.6–100.0) %
                   hgm2m       400 KiB  15.97 GiB   0.31 %    86.7 (84.4–88.7) %
off-where-split    unmap1g     100 GiB    100 GiB  −0.02 %  100.0 (99.6–100.0) %
                   hgm2m       400 KiB  1.565 GiB   0.31 %    86.7 (84.4–88.7) %
kept               unmap1g     100 GiB    100 GiB  −0.02 %  100.0 (99.6–100.0) %
                   hgm2m       400 KiB  2.769 MiB   0.31 %    86.7 (84.4–88.7) %
means at the end of the horizon, with 95 % intervals; every metric and year is in sweep.csv

all points see the same errors
the same at every point, as far as shown: unmap1g
loses the least guest memory: hgm2m at every point
costs the host least: hgm2m at every point

sweep folder  FOLDER
every figure  FOLDER/sweep.csv
open          FOLDER/sweep.html
next          poisonsim run seed-1t-distinct --policy unmap1g --policy hgm2m --set host.hvo_with_hgm=kept --trials 1000
"""
    )


def test_the_cheapest_policy_depends_on_hvo_at_field_rates(cli: Cli) -> None:
    result = cli("sweep", "cloud-1t-ddr4", *HVO, "--trials", 20_000)
    assert result.exit_code == 0
    assert (
        "costs the host least: unmap1g at host.hvo_with_hgm=off-everywhere; "
        "hgm2m at host.hvo_with_hgm=off-where-split|kept" in result.stdout.replace("\n  ", " ")
    )


def test_a_grid_has_a_row_per_point_and_policy_but_for_what_a_key_does_not_change(cli: Cli) -> None:
    grid = ("--over", "host.spares=0,2", "--over", "faults.errors=10,20")
    result = cli("sweep", *grid, "-p", "unmap1g", "-p", "migrate1g", "-m", "spares_used", "-m", "errors", *QUICK)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    header = next(i for i, line in enumerate(lines) if line.startswith("host.spares"))
    assert [line.split() for line in lines[header : header + 7]] == [
        ["host.spares", "faults.errors", "policy", "spares_used", "errors"],
        ["0", "10", "unmap1g", "0", "10"],
        ["migrate1g", "0", "10"],
        ["20", "unmap1g", "0", "20"],
        ["migrate1g", "0", "20"],
        ["2", "10", "migrate1g", "2", "10"],
        ["20", "migrate1g", "2", "20"],
    ]
    assert "the same at every host.spares, as far as shown, and listed at the first only: unmap1g" in result.stdout
    assert "points that differ in host.spares only see the same errors" in result.stdout
    text = result.stdout.replace("\n  ", " ")
    assert "loses the least guest memory: all alike at host.spares=0; migrate1g at host.spares=2" in text


@pytest.mark.parametrize(
    ("metric", "shown"),
    [
        ("tlb_reach_loss", r"TLB reach lost\n.*hgm2m +.*%"),
        ("slowdown_high", r"slowdown_high\n.*hgm2m +.*%"),
        ("share_2m", r"share_2m\n.*hgm2m +9\.7\d* %"),
        ("spares_exhausted", r"spares_exhausted\n.*hgm2m +0 \(0–0.37\) %"),
        ("walks_per_access", r"walks_per_access\n.*hgm2m +0\.\d+"),
        ("stall_seconds", r"stall_seconds\n.*hgm2m +[\d.]+"),
    ],
)
def test_every_kind_of_metric_has_its_form(cli: Cli, metric: str, shown: str) -> None:
    result = cli("sweep", "seed-1t-distinct", "--over", "host.spares=1", "-p", "hgm2m", "-m", metric, *QUICK)
    assert re.search(shown, result.stdout), result.stdout
    assert "1 point of 1,000 trials" in result.stdout


def test_a_year_before_the_end(cli: Cli) -> None:
    over = ("--over", "horizon.years=2,4")
    result = cli("sweep", "seed-1t", *over, "-p", "unmap1g", "-m", "errors", "--year", 2, *QUICK)
    rows = [line.split()[:3] for line in result.stdout.splitlines() if "unmap1g" in line and line[0] in "24"]
    assert [row[:2] for row in rows] == [["2", "unmap1g"], ["4", "unmap1g"]]
    assert rows[0][2] == "100" and 48 < float(rows[1][2]) < 52
    assert "means in year 2" in result.stdout and "5 years" not in result.stdout


def test_json_is_all_there_is_on_stdout(cli: Cli) -> None:
    options = ("--seed", 5, "--years", 2, "--set", "host.cpu=zen5", *QUICK, "--json")
    result = cli("sweep", *HVO, *options)
    assert result.exit_code == 0
    data = json.loads(result.stdout)
    assert (data["schema"], data["seed"], data["policies"]) == ("poisonsim.sweep/1", 5, ["unmap1g", "hgm2m"])
    assert data["over"] == {"host.hvo_with_hgm": ["off-everywhere", "off-where-split", "kept"]}
    assert (data["scenario"]["host"]["cpu"], data["scenario"]["horizon"]["years"]) == ("zen5", 2)
    assert [point["trials"] for point in data["points"]] == [1000] * 3
    scenario = ps.load_scenario("seed-1t", overrides=["host.cpu=zen5"], years=2)
    found = ps.sweep(scenario, over={"host.hvo_with_hgm": None}, policies=["unmap1g", "hgm2m"], trials=1000, seed=5)
    assert data == json.loads(json.dumps(found.to_dict()))
    assert "next          poisonsim run" in result.stderr


def test_csv_has_every_metric_and_year(cli: Cli, tmp_path: Path) -> None:
    result = cli("sweep", *HVO, *QUICK, "--csv", "--out", "out")
    assert result.exit_code == 0
    assert result.stdout == Path("out/sweep.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert len(rows) == 3 * 2 * 32 * 6
    assert rows[0]["host.hvo_with_hgm"] == "off-everywhere" and rows[-1]["host.hvo_with_hgm"] == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_next_command_finds_the_same(cli: Cli) -> None:
    mix = 'vm.guest_page=2M,{"2M" = 0.9, "4K" = 0.1}'
    result = cli("sweep", "--over", mix, "--set", "host.spares=2", "-p", "migrate1g", "--seed", 3, "--years", 2, *QUICK)
    found = re.search(r"^next +poisonsim (.*)$", result.stdout, re.MULTILINE)
    assert found is not None
    again = cli(*shlex.split(found[1]), "--json", "--no-report")
    assert again.exit_code == 0, again.stderr
    data = json.loads(again.stdout)
    assert (data["seed"], data["trials"], data["scenario"]["host"]["spares"]) == (3, 1000, 2)
    assert data["scenario"]["vm"]["guest_page"] == {"2M": 0.9, "4K": 0.1}


def test_without_a_policy_four_are_swept(cli: Cli) -> None:
    result = cli("sweep", "seed-1t-distinct", "--over", "host.hvo=true", *QUICK, "--json")
    assert json.loads(result.stdout)["policies"] == ["unmap1g", "hgm4k", "hgm2m", "migrate1g"]


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_in_the_help_are_commands(cli: Cli, example: str) -> None:
    result = cli(*shlex.split(example)[1:], *QUICK)
    assert result.exit_code == 0, result.stderr


def test_policies_that_stand_for_one_mapping_are_pointed_out(cli: Cli) -> None:
    result = cli("sweep", "--over", "host.mapping", "-p", "unmap1g", "-p", "unmap1g-private", "-p", "migrate1g", *QUICK)
    assert result.exit_code == 0
    assert result.stderr == "note: host.mapping is not used by unmap1g, unmap1g-private, which stand for one of them\n"


def test_progress_names_the_point(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    result = cli("sweep", "seed-1t-distinct", "--over", "host.spares=0,1", "-p", "hgm2m", *QUICK)
    assert re.fullmatch(
        r"1,000/2,000 trials(, \d+ s left)?, host\.spares=0: hgm2m: (p99|most) guest lost 400 KiB\n", result.stderr
    )


def test_after_ctrl_c_the_command_it_prints_goes_on(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, hashes: Callable[[Path], dict[str, str]]
) -> None:
    """Stopped at the third of four points; the first two are not simulated again, and all is as if never stopped."""
    from poisonsim.engine import run as engine

    arguments = ["sweep", "--over", "faults.errors=1,2,3,4", "-p", "unmap1g", "-p", "hgm2m", *QUICK]
    whole = [*arguments, "--out", "whole"]
    assert cli(*whole).exit_code == 0
    simulate, simulated = engine.run_block, []

    def interrupted(plan: Any, *rest: Any) -> Any:
        if plan.scenario.faults.errors == 3:
            raise KeyboardInterrupt
        simulated.append(plan.scenario.faults.errors)
        return simulate(plan, *rest)

    monkeypatch.setattr(engine, "run_block", interrupted)
    monkeypatch.setattr(sys, "argv", ["poisonsim", *arguments, "--out", "out"])
    result = cli(*arguments, "--out", "out")
    assert (result.exit_code, result.stdout) == (130, "")
    told, command = result.stderr.splitlines()
    assert told == "interrupted; finished points and blocks are kept in out; go on with:"
    assert simulated == [1, 2] and not Path("out/sweep.csv").exists()

    def noted(plan: Any, *rest: Any) -> Any:
        simulated.append(plan.scenario.faults.errors)
        return simulate(plan, *rest)

    monkeypatch.setattr(engine, "run_block", noted)
    assert cli(*shlex.split(command)[1:]).exit_code == 0
    assert simulated == [1, 2, 3, 4]
    assert hashes(Path("out")) == hashes(Path("whole"))
    assert cli(*shlex.split(command)[1:]).exit_code == 0
    assert simulated == [1, 2, 3, 4] and hashes(Path("out")) == hashes(Path("whole"))


def test_a_point_is_a_run_folder_like_any_other(cli: Cli) -> None:
    over = ("--over", "migrate1g:spares=0,4", "-p", "unmap1g", "-p", "migrate1g")
    assert cli("sweep", "seed-1t-distinct", *over, *QUICK, "--out", "out").exit_code == 0
    manifest = json.loads(Path("out/sweep.json").read_text())
    assert [point["settings"] for point in manifest["points"]] == [{"migrate1g:spares": n} for n in (0, 4)]
    folders = [Path("out") / point["run"] for point in manifest["points"]]
    assert ps.open_run(folders[1]).policies == ("unmap1g", "migrate1g:spares=4")
    told = cli("compare", *folders, "--policy", "migrate1g:spares=4", "--to", "migrate1g:spares=0", "-m", "spares_used")
    assert told.exit_code == 0 and "paired over 1,000 trials" in told.stdout.replace("\n  ", " ")
    (folders[1] / "blocks" / "000000.npz").unlink()
    broken = cli("report", folders[1])
    assert broken.exit_code == 2 and "blocks 0 are missing or damaged" in broken.stderr
    command = shlex.split(broken.stderr.partition("poisonsim ")[2])
    assert cli(*command).exit_code == 0
    assert ps.open_run(folders[1]).n_trials == 1000


def test_vary_is_over(cli: Cli) -> None:
    one, other = (cli("sweep", word, "host.spares=0,1", "-p", "hgm2m", *QUICK).stdout for word in ("--over", "--vary"))
    assert one == other


def test_a_parameter_of_a_policy_is_a_key(cli: Cli) -> None:
    over = ("--over", "migrate1g:spares=0,100", "-p", "unmap1g", "-p", "migrate1g", "-m", "spares_used")
    result = cli("sweep", "seed-1t-distinct", *over, *QUICK)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    header = next(i for i, line in enumerate(lines) if line.startswith("migrate1g:spares"))
    assert [line.split() for line in lines[header : header + 5]] == [
        ["migrate1g:spares", "policy", "spares_used"],
        ["0", "unmap1g", "0"], ["migrate1g", "0"],
        ["100", "unmap1g", "0"], ["migrate1g", "100"],
    ]  # fmt: skip
    assert "all points see the same errors" in result.stdout
    assert (
        "next          poisonsim run seed-1t-distinct --policy unmap1g --policy migrate1g:spares=100" in result.stdout
    )


def test_where_one_overtakes_another_is_said_in_words(cli: Cli) -> None:
    result = cli(
        "sweep", "seed-1t-distinct", "--over", "faults.errors=1,10,30,100", "-p", "unmap1g", "-p", "hgm2m", *QUICK
    )
    assert "hgm2m overtakes unmap1g on capacity_cost_bytes between faults.errors=10 and 30\n" in result.stdout
    both = ("--over", "faults.errors=1,100", "--over", "host.spares=0,2")
    result = cli("sweep", "seed-1t-distinct", *both, "-p", "unmap1g", "-p", "hgm2m", *QUICK)
    assert result.stdout.count("overtakes") == 1
    assert "hgm2m overtakes unmap1g on capacity_cost_bytes between faults.errors=1 and 100\n" in result.stdout


def test_where_too_few_vms_are_hit_nothing_is_called_clear(cli: Cli) -> None:
    result = cli("sweep", "cloud-1t-ddr4", *HVO, "--trials", 50)
    assert "loses the least guest memory: not clear at every point" in result.stdout


# ------------------------------------------------------------------------------------------------- mistakes

SPARES = ("--over", "host.spares=1,2")


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        ((), ("no key is swept; name one, such as --over host.hvo_with_hgm",)),
        (("--over", "host.spare=1"), ("--over host.spare: unknown key; did you mean host.spares?",)),
        (("--over", "host"), ("--over host: is a table; sweep one of its keys, such as host.cpu",)),
        (
            ("--over", "host.spares"),
            ("host.spares: has no closed set of values; name them", "(it is 4 in this scenario)"),
        ),
        (("--over", "host.spares=1,-1"), ("--over host.spares: -1 is not between 0 and 65,536; at host.spares=-1",)),
        (
            (*SPARES, "--over", "faults.errors=x"),
            ("'x' is not a whole number; at every point",),
        ),
        (("--over", "vm.arch"), ("host.cpu: 'sapphire-rapids' is x86-64, but vm.arch is arm64", "at vm.arch=arm64")),
        ((*SPARES, "--over", "host.spares=3"), ("--over host.spares: is given twice; give it once",)),
        (("--over", "host.spares=0..8"), ("--over host.spares: 0..8 is a range; write every value, as in",)),
        (("--over", "host.spares=1,1"), ("'1' is given twice; give each value once",)),
        (("--over", "host.spares="), ("--over host.spares: has no values; write every value",)),
        (("--over", "host.spares=1,,2"), ("value 2 of '1,,2' is empty",)),
        (("--over", "=1"), ("'=1': names no key; write KEY or KEY=V1,V2",)),
        (
            ("--over", "faults.errors=" + ",".join(map(str, range(401)))),
            ("the grid has 401 points (401); give fewer values, for at most 400",),
        ),
        ((*SPARES, "--set", "host.spares=3"), ("is swept, but --set host.spares=3 holds it still; drop one of them",)),
        (("--over", "horizon.years=1,2", "--years", "2"), ("is swept, but --years 2 holds it still",)),
        (
            (*SPARES, "--metric", "guest_lost"),
            ("--metric: unknown metric 'guest_lost'; did you mean guest_lost_bytes?",),
        ),
        (
            ("--over", "vm.backing", "-p", "unmap1g", "-m", "leaves_1g"),
            ("unknown metric 'leaves_1g'", "at vm.backing=2M"),
        ),
        ((*SPARES, "--year", "2.5"), ("--year: 2.5 is not a year of the summary; write one of 1, 2, 3, 4, 5",)),
        (("--over", "horizon.years=1,5", "--year", "3"), ("3 is not a year", "one of 1; at horizon.years=1")),
        ((*SPARES, "--policy", "hgm2"), ("unknown policy 'hgm2'; did you mean hgm2m?",)),
        ((*SPARES, "--policy", "hgm2m", "--policy", "hgm2m"), ("'hgm2m' is named twice",)),
        ((*SPARES, "--seed", str(2**64)), ("is not a whole number from 0 to 2**64 - 1",)),
        ((*SPARES, "--trials", str(10**15)), ("is more than one run can take", "at host.spares=1")),
        ((*SPARES, "--set", "vm.memry=1TiB"), ("--set vm.memry: unknown key; did you mean vm.memory?",)),
        ((*SPARES, "--csv", "--json"), ("--json and --csv exclude each other",)),
        ((*SPARES, "--out", "x" * 300), ("cannot be used as a sweep folder", "choose another with --out")),
        (("--over", "migrate1g:spares=1,2", "-p", "hgm2m"), ("no policy of the sweep is called 'migrate1g'; add it",)),
        (
            ("--over", "migrate1g:spare=1,2", "-p", "migrate1g"),
            ("migrate1g has no parameter 'spare'; did you mean spares?; it has spares",),
        ),
        (("--over", "hgm2m:spares=1", "-p", "hgm2m"), ("hgm2m has no parameter 'spares'; it has none",)),
        (
            ("--over", "migrate1g:spares=1,x", "-p", "migrate1g"),
            ("spares = x is not a whole number from 0 to 65536; at migrate1g:spares=x",),
        ),
        (("--over", "migrate1g:spares", "-p", "migrate1g"), ("has no closed set of values; name them",)),
        (
            ("--over", "migrate1g:spares=1,2", "-p", "migrate1g:spares=3"),
            ("is swept, but --policy migrate1g:spares=3 holds it still; drop one of them",),
        ),
        (("nope", *SPARES), ("'nope' is not a scenario of the catalogue",)),
    ],
)
def test_a_mistake_is_refused_before_any_trial(
    cli: Cli, no_trials: None, tmp_path: Path, arguments: tuple[str, ...], fragments: tuple[str, ...]
) -> None:
    result = cli("sweep", *arguments)
    crash = "" if isinstance(result.exception, SystemExit) else repr(result.exception)
    assert (result.exit_code, crash, result.stdout) == (2, "", "")
    assert all(line.startswith("error: ") for line in result.stderr.splitlines())
    assert [fragment for fragment in fragments if fragment not in result.stderr] == [], result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_else_is_left_alone(cli: Cli, no_trials: None, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "sweep.json").write_text(
        '{"schema": "poisonsim.sweep-folder/1", "sweep_id": "12345678901234"}'
    )
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "sweep.json").write_text('{"sweep_id"')
    for name, fragment in (
        ("full", "full: exists and is no sweep folder; choose another with --out"),
        ("file", "file: exists and is no sweep folder"),
        ("other", "other: holds another sweep (123456789012, this one is "),
        ("torn", "sweep.json: cannot be read as JSON, and nothing else says that"),
    ):
        result = cli("sweep", *SPARES, "-p", "hgm2m", "--out", name)
        assert (result.exit_code, result.stdout) == (2, "") and fragment in result.stderr, result.stderr
    assert (tmp_path / "full" / "a").read_text() == (tmp_path / "file").read_text() == "mine"


def test_a_wrong_answer_names_the_point(cli: Cli, policy_file: Callable[..., str]) -> None:
    policy_file(
        'class Mine(Policy):\n    """Mine."""\n\n    @staticmethod\n    def decide(c, p):\n        return MIGRATE\n'
    )
    result = cli("sweep", "--over", "host.spares=0,4", "-p", "./mine.py", *QUICK)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "decide answered MIGRATE for a 1G leaf in trial 0" in result.stderr and "; at host.spares=0" in result.stderr


def test_the_page_is_of_the_metrics_and_the_year_asked_for(cli: Cli) -> None:
    command = ("sweep", *HVO, *QUICK, "--out", "out")
    result = cli(*command, "-m", "vmemmap_bytes", "--year", 2)
    assert result.exit_code == 0 and "open          out/sweep.html\n" in result.stdout
    assert sorted(path.name for path in Path("out").glob("*.png")) == ["sweep-vmemmap_bytes.png"]
    page = Path("out/sweep.html").read_text()
    assert (
        "--trials 1000 --metric vmemmap_bytes --year 2\n" in re.sub("<[^>]+>", "", page) and "Means in year 2" in page
    )
    few = cli(*command[:-4], "--trials", 10, "--out", "out")
    assert "holds this sweep with more trials and keeps it" in few.stderr
    assert Path("out/sweep.html").read_text() == page
    without = cli(*command, "--no-report")
    assert "sweep.html" not in without.stdout and not Path("out/sweep.html").exists()
    assert not list(Path("out").glob("*.png"))


SPARE_FIRST = (
    "class SpareFirst(Policy):\n    spares: int = 4\n"
    "    rules = [on(BACKING, when='spares_left > 1').do(MIGRATE), on(BACKING).do(UNMAP)]\n"
)


def test_a_rule_without_spares_enough_is_a_note_for_none_and_for_one(cli: Cli, policy_file: Callable[..., str]) -> None:
    path = policy_file(SPARE_FIRST.replace("    spares: int = 4\n", ""), "spare_first")
    over = ("--over", "host.spares=0,1,2", "-p", path, "--trials", "50", "--no-report")
    result = cli("sweep", "seed-1t-distinct", *over)
    assert result.exit_code == 0
    notes = [line for line in result.stderr.splitlines() if line.startswith("note: policy spare-first: on(BACKING")]
    assert [line.partition("; at ")[2] for line in notes] == ["host.spares=0", "host.spares=1"]
    assert all("can never hold" in line and "more spares change that" in line for line in notes)
    assert "can never hold" in cli("run", "-p", path, "--set", "host.spares=1", "-n", "10", "--no-report").stderr


def test_a_parameter_is_swept_by_the_file_of_its_policy(cli: Cli, policy_file: Callable[..., str]) -> None:
    path = policy_file(SPARE_FIRST, "spare_first")
    words = ("--over", f"{path}:spares=2,4", "-p", path, "--trials", "50", "--no-report", "-m", "spares_used")
    result = cli("sweep", "seed-1t-distinct", *words)
    assert result.exit_code == 0
    assert f"{path}:spares=4" in result.stdout
    shown = cli("policies", "show", f"{path}:spares=2").stdout
    assert "spares = 2  (" in shown and f"set with {path}:spares=N" in shown
