"""`run --dry-run`: what is expected is told with units, sources and a price that is measured."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import exp

import pytest
from typer.testing import Result as CliResult

from poisonsim.cli import dry_run
from poisonsim.engine.plan import Plan
from poisonsim.faults.tables import load_fault_table
from poisonsim.results.runs import plan_run
from poisonsim.scenario import load_scenario

Cli = Callable[..., CliResult]


def told(cli: Cli, scenario: str, *overrides: str) -> str:
    settings = [word for override in overrides for word in ("--set", override)]
    result = cli("run", scenario, "--dry-run", "--policy", "hgm2m", *settings)
    assert (result.exit_code, result.stderr) == (0, "")
    return str(result.stdout)


def best(text: str, row: str) -> float:
    match = re.search(rf"^  {re.escape(row)} +([\d.,]+)", text, re.MULTILINE)
    assert match, row
    return float(match[1].replace(",", ""))


def test_both_consolidations_both_mixes_and_the_vm_s_share_are_told(cli: Cli) -> None:
    text = told(cli, "cloud-1t-ddr4")
    seconds, hour = (best(text, f"events: errors within {t} of the last taken as one") for t in ("30 s", "1 h"))
    assert best(text, "errors (bad cache lines found)") > seconds > hour > 0
    on_host = best(text, "faults that lead to errors, on its host")
    assert best(text, "of them in the 89% of the memory that back the VM") == pytest.approx(on_host * 8 / 9, rel=1e-3)
    joined = " ".join(text.split())
    mix = re.search(r"of the faults that the VM meets: bit [\d.]+%.*?\(published mix: (.*?)\) of the errors: ", joined)
    table = load_fault_table("ddr4-alibaba")
    total = sum(mode.n_ue for mode in table.modes)
    assert mix and mix[1] == ", ".join(f"{mode.name} {mode.n_ue / total:.1%}" for mode in table.modes)
    assert (
        "first pages met: the same of the first page that each fault hits, so that the VM never meets that fault"
        in text
    )


def test_intervals_have_as_many_decimals_as_their_numbers(cli: Cli) -> None:
    numbers = re.findall(r"([\d,.]+) \(([\d,.]+)–([\d,.]+)\)", told(cli, "bad-dimm"))
    assert len(numbers) > 15
    for three in numbers:
        places = {len(number.partition(".")[2]) for number in three if number != "0"}
        assert len(places) == 1, three


def test_under_a_code_dimms_are_told_that_have_faults_enough(cli: Cli) -> None:
    text = told(cli, "cloud-1t-ddr4", "faults.ue=ecc")
    assert best(text, "DIMMs with 2 faults or more, on its host") > 0
    assert "published mix" not in text and "incident" not in text


def test_the_price_is_that_of_whole_blocks_after_a_warm_up_and_of_evaluating_them(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_run(load_scenario("cloud-1t-ddr4"), policies=["unmap1g", "hgm2m"])
    ran: list[tuple[int, int]] = []
    run_block = dry_run.run_block

    def counted(plan: Plan, index: int, n_trials: int) -> object:
        ran.append((index, n_trials))
        return run_block(plan, index, n_trials)

    monkeypatch.setattr(dry_run, "run_block", counted)
    block, rest = dry_run._time_block(plan, 4000)
    assert block > 0 and rest > 0 and ran == [(0, 4000)]

    timed: list[int] = []
    monkeypatch.setattr(dry_run, "_time_block", lambda plan, size: timed.append(size) or (4.0, 0.5))
    printed: list[str] = []
    monkeypatch.setattr("typer.echo", printed.append)
    dry_run._print_time(plan, 10 * plan.block_trials, threads=2)
    assert timed == [plan.block_trials] * 2
    assert "about 25 s on 2 threads" in printed[0]  # blocks side by side, what they met one after the other


def test_hvo_on_arm64_is_noted_where_it_is_counted(cli: Cli) -> None:
    small = ("run", "arm64-1t", "-p", "hgm2m", "--trials", "100", "--no-report")
    assert "arm64 has no HVO" not in cli(*small).stdout
    for told in (cli(*small, "--set", "host.hvo=true"), cli(*small, "--set", "host.hvo=true", "--dry-run")):
        assert "Linux on arm64 has no HVO" in told.stdout and "--set host.hvo=false" in told.stdout


def test_sizes_are_told_with_their_unit(cli: Cli) -> None:
    assert re.search(r"host\.free_memory +16 GiB", told(cli, "seed-1t"))


def test_faults_that_reach_in_from_the_rest_explain_the_vms_that_see_an_error(cli: Cli) -> None:
    text = told(cli, "cloud-1t-ddr4")
    inside = best(text, "of them in the 89% of the memory that back the VM")
    met = best(text, "that the VM meets, with those that reach in from the rest")
    seen = best(text, "VMs that see an uncorrected error")
    assert inside < met < 1.05 * inside
    assert abs(100 * (1 - exp(-met)) - seen) < 0.02
