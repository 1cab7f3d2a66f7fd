"""`poisonsim plan`: its answer, its other outputs, going on after Ctrl-C, and mistakes."""

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
from poisonsim.cli import plan as plan_module
from poisonsim.cli.plan import EXAMPLES

Cli = Callable[..., CliResult]
SURE = ("seed-1t-distinct", "-p", "unmap1g", "-p", "hgm4k", "-p", "hgm2m", "--trials", 500)
LEVELS = ("-r", "guest_lost_bytes <= 1MiB", "-r", "capacity_cost_bytes <= 3GiB")


@pytest.fixture(autouse=True)
def no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "_SECONDS_BETWEEN_LINES", 1e9)  # none on a busy machine either


@pytest.fixture
def no_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    from poisonsim.engine import run

    def refuse(*_: object) -> None:
        raise AssertionError("a trial ran")

    monkeypatch.setattr(run, "run_block", refuse)


def test_the_answer_comes_first(cli: Cli) -> None:
    result = cli("plan", *SURE, *LEVELS)
    assert (result.exit_code, result.stderr) == (0, "")
    [folder] = Path("reports").iterdir()
    assert re.fullmatch(r"plan-seed-1t-distinct-[0-9a-f]{12}", folder.name)
    head, _, rest = result.stdout.replace(str(folder), "FOLDER").partition("\n\nwhat would flip the choice\n")
    assert (
        head
        == """\
seed-1t-distinct: cheapest that meets all 2 levels: hgm2m (HVO kept), patches, at 2.769 MiB of host memory (under 0.01
  %); runner-up: hgm4k (HVO kept), 408.2 MiB more on the same errors. With host.hvo_with_hgm=off-everywhere, as the
  scenario has it, nothing is known to meet the levels

A  mean(guest_lost_bytes) <= 1MiB
B  mean(capacity_cost_bytes) <= 3GiB

policy   HVO   host cost          A            B  trials    status
hgm2m    kept  2.769 MiB  400 KiB ✓  2.769 MiB ✓     500   patches
hgm4k    kept    411 MiB  400 KiB ✓    411 MiB ✓     500   patches
unmap1g  -       100 GiB  100 GiB ✗    100 GiB ✗      50  mainline
those that meet all levels, then undecided ones, then others; each cheapest first. With 95 % intervals, at the end of
  5 years of a 1 TiB VM; 7 choices, measured in 14 runs; seed 1"""
    )
    assert (
        "HVO with HGM: off-everywhere: none is known to meet the levels; off-where-split: hgm2m (HVO off where split);"
        in rest.replace("\n  ", " ")
    )
    assert rest.endswith(
        "\n\nplan folder  FOLDER\nall choices  FOLDER/plan.csv\n"
        "next         poisonsim run seed-1t-distinct --policy hgm2m --set host.hvo_with_hgm=kept --trials 500\n"
    )


def test_json_and_csv_are_all_there_is_on_stdout(cli: Cli) -> None:
    result = cli("plan", *SURE, *LEVELS, "--no-flips", "--json", "--seed", 5)
    assert result.exit_code == 0 and "next         poisonsim run" in result.stderr
    found = ps.plan(
        "seed-1t-distinct", levels=list(LEVELS[1::2]), policies=["unmap1g", "hgm4k", "hgm2m"], trials=500, seed=5,
        flips=False,
    )  # fmt: skip
    assert json.loads(result.stdout) == json.loads(json.dumps(found.to_dict()))
    result = cli("plan", *SURE, *LEVELS, "--no-flips", "--csv", "--out", "out")
    assert result.stdout == Path("out/plan.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [(row["policy"], row["hvo"]) for row in rows].count(("hgm2m", "kept")) == 1 and len(rows) == 7


def test_levels_of_a_file_count_beside_those_required(cli: Cli) -> None:
    Path("levels.toml").write_text('levels = ["capacity_cost_bytes <= 3GiB"]\n')
    one = cli("plan", *SURE, "--no-flips", *LEVELS, "--json").stdout
    other = cli("plan", *SURE, "--no-flips", *LEVELS[:2], "--levels", "levels.toml", "--json").stdout
    assert one == other and json.loads(one)["levels"][1] == "mean(capacity_cost_bytes) <= 3GiB"


def test_what_set_says_is_held_still(cli: Cli) -> None:
    held = ("--set", "host.hvo_with_hgm=off-where-split", "--no-flips", "--json")
    data = json.loads(cli("plan", *SURE, *LEVELS, *held).stdout)
    assert {row["settings"].get("host.hvo_with_hgm") for row in data["choices"]} == {None, "off-where-split"}
    spares = ("-p", "migrate1g", "-r", "spares_exhausted <= 50%", "--trials", 200, "--no-flips", "--json")
    data = json.loads(cli("plan", "seed-1t-distinct", *spares, "--set", "host.spares=100").stdout)
    assert (data["best"]["spec"], data["best"]["spares"], data["n_choices"]) == ("migrate1g", None, 1)
    assert data == json.loads(cli("plan", "seed-1t-distinct", *spares, "--spares", 100).stdout)
    data = json.loads(cli("plan", "seed-1t-distinct", *spares).stdout)
    assert (data["best"]["spec"], data["best"]["spares"]) == ("migrate1g:spares=100", 100)


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_in_the_help_are_commands(cli: Cli, example: str) -> None:
    result = cli(*shlex.split(example)[1:], "--trials", 1000, "--no-flips")
    assert result.exit_code in (0, 3), result.stderr  # so few trials may leave a level undecided


def test_progress_says_what_is_measured(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "_SECONDS_BETWEEN_LINES", 0.0)
    result = cli("plan", *SURE, *LEVELS, "--no-flips")
    assert result.stderr.splitlines()[0] == "0 choices measured, now: unmap1g, hgm4k, hgm2m"


def test_after_ctrl_c_the_command_it_prints_goes_on(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, hashes: Callable[[Path], dict[str, str]]
) -> None:
    from poisonsim.engine import run as engine

    arguments = ["plan", *map(str, SURE), *LEVELS, "--no-flips"]
    assert cli(*arguments, "--out", "whole").exit_code == 0
    simulate, simulated = engine.run_block, []

    def interrupted(plan: Any, *rest: Any) -> Any:
        simulated.append(plan.run_id)
        if len(simulated) == 3:
            raise KeyboardInterrupt
        return simulate(plan, *rest)

    monkeypatch.setattr(engine, "run_block", interrupted)
    monkeypatch.setattr(sys, "argv", ["poisonsim", *arguments, "--out", "out"])
    result = cli(*arguments, "--out", "out")
    assert (result.exit_code, result.stdout) == (130, "")
    told, command = result.stderr.splitlines()
    assert told == "interrupted; finished simulations are kept in out; go on with:"
    done = simulated[:2]
    assert cli(*shlex.split(command)[1:]).exit_code == 0
    assert not set(done) & set(simulated[3:])
    assert hashes(Path("out")) == hashes(Path("whole"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no service level is given; name what must hold, for example --require 'vm_lost per year <= 0.1%'"),
        (("-r", "speed < 1"), "'speed < 1': unknown metric 'speed'"),
        (("-r", "vm_lost <= 100%"), "'vm_lost <= 100%': can never fail, for vm_lost is at most 1"),
        (("-r", "vm_lost <= -1%"), "'vm_lost <= -1%': can never be met"),
        (("-r", "errors < 1", "-r", "errors > 2"), "'errors > 2': contradicts 'mean(errors) < 1'"),
        (("-r", "p99(slowdown) < 1%"), "'p99(slowdown) < 1%': '1%': a slowdown is a ratio"),
        (("-r", "p99(slowdown) < 1.01", "-n", "500"), "p99(slowdown) cannot be told from 500 trials"),
        (("--levels", "none.toml"), "none.toml: cannot be read: No such file or directory"),
        (("--levels", "bad.toml"), "bad.toml: "),
        ((*LEVELS, "-p", "evacuate-after"), "policy evacuate-after: on(>BASE, when hits_in_vm >= n): EVACUATE"),
        ((*LEVELS, "--hvo", "on"), "hvo = ['on']: allowed are values of host.hvo_with_hgm: off-everywhere"),
        ((*LEVELS, "--json", "--csv"), "--json and --csv exclude each other"),
        ((*LEVELS, "--out", "full"), "full: exists and is no plan folder; choose another with --out"),
    ],
)
@pytest.mark.usefixtures("no_trials")
def test_mistakes_are_told_before_any_trial(cli: Cli, arguments: tuple[str, ...], message: str) -> None:
    Path("bad.toml").write_text("levels = [")
    Path("full").mkdir()
    Path("full/mine").touch()
    result = cli("plan", "seed-1t", *arguments)
    crash = "" if isinstance(result.exception, SystemExit) else repr(result.exception)
    assert (result.exit_code, crash, result.stdout) == (2, "", "")
    assert result.stderr.startswith(f"error: {message}"), result.stderr
    assert not Path("reports").exists()


def test_where_nothing_will_do_no_run_is_suggested_and_the_exit_code_is_3(cli: Cli) -> None:
    result = cli("plan", *SURE, "-r", "guest_lost_bytes < 1KiB", "--no-flips")
    assert result.exit_code == 3 and "next  " not in result.stdout
    assert "is known to meet the level" in result.stdout


def test_what_is_the_same_in_all_figures_is_one_choice_the_simplest(cli: Cli) -> None:
    words = ("seed-1t-distinct", "-p", "collapse-nightly", "-p", "hgm2m", "--trials", "100", "--no-flips")
    told = cli("plan", *words, "--set", "host.hvo_with_hgm=kept", "-r", "guest_lost_bytes <= 1MiB").stdout
    assert told.startswith("seed-1t-distinct: cheapest that meets the level: hgm2m (HVO kept)")
    assert "the same in all figures: collapse-nightly" in told.replace("\n  ", " ")
    assert "\nsame as hgm2m in all figures: collapse-nightly\n" in told
