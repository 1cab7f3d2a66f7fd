"""Commands that work: what goes to which stream, which files are made, and what is never loaded or computed."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import on_a_terminal
from typer.testing import Result as CliResult

import poisonsim as ps
from poisonsim.cli import common, main, progress
from poisonsim.compiled import kept_in
from poisonsim.engine.kernel import simulate
from poisonsim.policy import policy_names

Cli = Callable[..., CliResult]
Hashes = Callable[[Path], dict[str, str]]
POISONSIM = [sys.executable, "-P", "-m", "poisonsim"]
QUICK = ("--trials", "1000", "--no-report")


def folder_of(result: CliResult) -> Path:
    """The run folder that a command named on either stream."""
    found = re.search(r"^run folder  (.*)$", result.stdout + result.stderr, re.MULTILINE)
    assert found is not None
    return Path(found[1])


# ------------------------------------------------------------------------------------------------- run


def test_run_prints_a_table_names_its_folder_and_the_next_command(cli: Cli) -> None:
    result = cli("run", "--policy", "hgm2m", *QUICK)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("seed-1t: 1 TiB VM, 1G pages, 5 years, 1,000 trials, seed 1, run ")
    [header] = [line for line in lines if line.startswith("policy ")]
    assert all(title in header for title in ("guest lost", "host cost", "slower", "TLB reach lost", "VMs lost"))
    rows = [line.split()[0] for line in lines if line.startswith(("unmap1g ", "hgm2m "))]
    assert rows[:2] == ["unmap1g", "hgm2m"]  # the status quo runs beside it, first
    assert "hgm2m loses" in result.stdout and "than unmap1g on the same errors" in result.stdout
    assert re.search(r"^hgm2m +400(\.0)? KiB +400(\.0)? KiB ", result.stdout, re.MULTILINE)
    folder = folder_of(result)
    assert folder.parent == Path("reports") and folder.name.startswith("seed-1t-")
    assert sorted(path.name for path in folder.iterdir()) == ["blocks", "run.json", "summary.csv"]


def test_the_status_quo_runs_once(cli: Cli) -> None:
    result = cli("run", "--policy", "hgm2m", "--policy", "unmap1g", "--json", *QUICK)
    assert list(dict.fromkeys(row["policy"] for row in json.loads(result.stdout)["summary"])) == ["hgm2m", "unmap1g"]


def test_without_a_policy_four_are_compared(cli: Cli) -> None:
    result = cli("run", "seed-1t-distinct", "--json", *QUICK)
    found = dict.fromkeys(row["policy"] for row in json.loads(result.stdout)["summary"])
    assert list(found) == ["unmap1g", "hgm4k", "hgm2m", "migrate1g"]


def test_the_same_seed_gives_the_same_bytes_on_any_number_of_threads(cli: Cli, hashes: Hashes) -> None:
    found = []
    for threads in (1, 2):
        result = cli("run", "--policy", "hgm2m", "--trials", "1000", "--threads", threads, "--out", f"out{threads}")
        assert (result.exit_code, result.stderr) == (0, "")
        found.append((hashes(Path(f"out{threads}")), result.stdout.replace(f"out{threads}", "out")))
    assert found[0] == found[1]
    names, text = found[0]
    assert "open        out/report.html" in text
    assert sorted(Path(name).suffix for name in names if "blocks" not in name) == [
        ".csv", ".html", ".json", *[".png"] * 8,
    ]  # fmt: skip
    assert [path.read_bytes()[:4] for path in Path("out1").glob("*.png")] == [b"\x89PNG"] * 8
    assert Path("out1/report.html").stat().st_size > 10_000


def test_a_report_can_be_written_again(cli: Cli, hashes: Hashes) -> None:
    folder = folder_of(cli("run", "--policy", "migrate1g:spares=2", "--trials", "1000"))
    before = hashes(folder)
    for path in [*folder.glob("*.png"), folder / "report.html"]:
        path.unlink()
    result = cli("report", folder)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.strip() == str(folder / "report.html")
    assert hashes(folder) == before


def test_a_run_of_fewer_trials_leaves_the_report_of_more(cli: Cli, hashes: Hashes) -> None:
    run = ("run", "--policy", "hgm2m", "--out", "out")
    cli(*run, "--trials", 1000)
    before = hashes(Path("out"))
    for options in ((), ("--no-report",)):
        result = cli(*run, "--trials", 100, *options)
        assert (
            result.exit_code == 0 and "100 trials" in result.stdout and "open        out/report.html" in result.stdout
        )
        assert "warning: out holds 1,000 trials of this run and keeps them" in result.stderr
        assert hashes(Path("out")) == before


def test_a_summary_edited_by_hand_is_written_again_by_report(cli: Cli, hashes: Hashes) -> None:
    folder = folder_of(cli("run", "--policy", "hgm2m", "--trials", 1000))
    before = hashes(folder)
    for text in ("mine", None):
        (folder / "summary.csv").unlink() if text is None else (folder / "summary.csv").write_text(text)
        result = cli("report", folder)
        assert (result.exit_code, result.stdout.strip()) == (0, str(folder / "report.html"))
        assert "summary.csv: " in result.stderr and "; it is written again" in result.stderr
        assert hashes(folder) == before


DAMAGE: dict[str, Callable[[Path], object]] = {
    "no run.json": lambda folder: (folder / "run.json").unlink(),
    "half a run.json": lambda folder: (folder / "run.json").write_text((folder / "run.json").read_text()[:200]),
    "another seed": lambda folder: _replace(folder / "run.json", '"seed": 1', '"seed": 2'),
    "another value": lambda folder: _replace(folder / "run.json", '"spares": 4', '"spares": 5'),
    "another version": lambda folder: _replace(folder / "run.json", "poisonsim.run/1", "poisonsim.run/2"),
    "other streams": lambda folder: _replace(folder / "run.json", '"run_id": "', '"run_id": "0'),
    "more trials": lambda folder: _replace(folder / "run.json", '"trials": 1000', '"trials": 9000'),
    "no block": lambda folder: (folder / "blocks" / "000000.npz").unlink(),
    "half a block": lambda folder: (folder / "blocks" / "000000.npz").write_bytes(b"PK\x03\x04"),
}


def _replace(path: Path, old: str, new: str) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


def test_every_command_refuses_a_damaged_run_folder_with_what_to_do(cli: Cli, tmp_path: Path) -> None:
    made, good = (folder_of(cli("run", "--policy", "hgm2m", "--trials", 1000, "--out", n)) for n in ("made", "good"))
    for name, damage in DAMAGE.items():
        folder = Path(shutil.copytree(made, tmp_path / name))
        damage(folder)
        for command in (
            ("report", folder), ("life", folder), ("compare", folder), ("compare", good, folder),
            ("report", good, folder, "--out", tmp_path / "page.html"),
        ):  # fmt: skip
            result = cli(*command)
            assert (result.exit_code, result.stdout) == (2, ""), (name, command)
            assert result.stderr.startswith(f"error: {folder}") and "Traceback" not in result.stderr
            assert re.search("run the (same )?command again|run again|give the folder", result.stderr), (name, command)
    assert not (tmp_path / "page.html").exists()


def test_json_is_all_there_is_on_stdout(cli: Cli) -> None:
    options = ("--json", "--seed", 5, "--years", 3, "--trials", 14000, "--no-report")
    result = cli("run", "cloud-1t-ddr4", "--policy", "hgm2m", *options)
    assert result.exit_code == 0
    data = json.loads(result.stdout)
    assert list(data) == ["schema", "run_id", "scenario", "seed", "trials", "summary"]
    assert (data["schema"], data["seed"], data["trials"]) == ("poisonsim.result/1", 5, 14000)
    assert data["scenario"]["horizon"]["years"] == 3
    assert set(data["summary"][0]) == {
        "policy", "metric", "unit", "year", "mean", "mean_low", "mean_high", "p50", "p95", "p99", "p99_low", "p99_high",
    }  # fmt: skip
    assert [row["year"] for row in data["summary"][:4]] == [1, 2, 3, "life"]
    assert data == ps.open_run(folder_of(result)).to_dict()
    assert "run folder" in result.stderr and "next " in result.stderr


def test_json_has_null_where_a_number_is_not_known(cli: Cli) -> None:
    result = cli("run", "--policy", "hgm2m", "--json", "--trials", 20, "--no-report")
    assert result.exit_code == 0
    assert "NaN" not in result.stdout
    rows = json.loads(result.stdout)["summary"]
    assert {row["p99"] for row in rows} == {None} and {row["p95"] for row in rows} == {None}
    assert all(isinstance(row["p50"], float) for row in rows)
    assert "warning: 20 trials: p95 needs at least 200, p99 needs at least 1,000" in result.stderr
    assert result.stderr.count("warning:") == 1


def test_csv_is_the_summary_file(cli: Cli) -> None:
    result = cli("run", "--policy", "hgm2m", "--csv", *QUICK)
    assert result.exit_code == 0
    assert result.stdout == (folder_of(result) / "summary.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert len(rows) == 2 * 32 * 6 and rows[0]["policy"] == "unmap1g"
    assert "run folder" in result.stderr


def test_a_dry_run_explains_and_leaves_nothing(cli: Cli, tmp_path: Path) -> None:
    result = cli(
        "run",
        "cloud-1t-ddr4",
        "--dry-run",
        "--policy",
        "hgm2m",
        "--set",
        "host.spares=8",
        "--years",
        "3",
        "--trials",
        5000,
    )
    assert (result.exit_code, result.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []
    lines = {line.split()[0]: line for line in result.stdout.splitlines() if line.strip()}
    assert re.search(r"^host\.spares\s+8\s+--set", lines["host.spares"])
    assert re.search(r"^horizon\.years\s+3\.0\s+--years", lines["horizon.years"])
    assert re.search(r"^vm\.memory\s+1 TiB\s+catalogue: cloud-1t-ddr4\s+assumed: ", lines["vm.memory"])
    assert re.search(r"^host\.hvo\s+true\s+default", lines["host.hvo"])
    assert "by mode bit 12%, row 12%, column 31%, bank 29%, multi-" in result.stdout
    assert re.search(r"expected per VM in 3 years, from [\d,]+ simulated histories:", result.stdout)
    assert re.search(r"faults that lead to errors, on its host +0\.03892", result.stdout)  # 36 DIMMs for 3 years
    assert re.search(r"VMs that see an uncorrected error +3\.\d+ \(3\.\d+–3\.\d+\) %", result.stdout)
    assert re.search(r"mcelog +[01]\.\d+ \(.*%", result.stdout)
    assert "1G > 4K: 4.098 MiB of tables (4,296,888 B), then 262,143 x 4K" in result.stdout
    assert "1G > 2M > 4K: 16.36 KiB of tables (16,752 B), then 511 x 2M + 511 x 4K" in result.stdout
    assert "giving up HVO for the whole VM: 15.96 GiB (17,142,120,448 B)" in result.stdout
    assert "5,000 trials (191 of them with faults) of unmap1g, hgm2m: about " in result.stdout


def test_a_fleet_is_spoken_of_in_its_size(cli: Cli) -> None:
    result = cli("run", "cloud-1t-ddr4", "--policy", "hgm2m", "--vms", 1200, *QUICK)
    assert result.exit_code == 0
    assert "of 1,200 such VMs, " in result.stdout and " see a UE in 5 years" in result.stdout
    assert "host memory cost of 1,200 VMs" in result.stdout


def test_the_report_speaks_of_the_same_fleet(cli: Cli, hashes: Hashes) -> None:
    run = ("run", "seed-1t", "-p", "hgm2m", "--trials", "1000", "--out", "a")
    assert cli(*run, "--vms", 4000).exit_code == 0
    page = Path("a/report.html")
    assert "from a fleet of 4,000" in page.read_text() and "VMs of 4,000" in page.read_text()
    before = hashes(Path("a"))
    assert cli("report", "a").exit_code == 0 and hashes(Path("a")) == before
    assert cli("report", "a", "--vms", 50).exit_code == 0 and "from a fleet of 50<" in page.read_text()
    assert cli(*run).exit_code == 0 and "from a fleet of 10,000<" in page.read_text()
    refused = cli("report", "a", "a", "--vms", 5, "--out", "two.html")
    assert refused.exit_code == 2 and "--vms: is of the page of one run" in refused.stderr


def test_the_page_of_one_run_goes_elsewhere_too(cli: Cli, hashes: Hashes) -> None:
    assert cli("run", "-p", "hgm2m", "--trials", 1000, "--out", "a").exit_code == 0
    before = hashes(Path("a"))
    result = cli("report", "a", "--out", "mail/q3.html")
    assert (result.exit_code, result.stdout) == (0, "mail/q3.html\n")
    assert Path("mail/q3.html").read_bytes() == Path("a/report.html").read_bytes()
    assert [file.name for file in Path("mail").iterdir()] == ["q3.html"] and hashes(Path("a")) == before
    for not_a_page in ("a/run.json", "a/", "page"):
        refused = cli("report", "a", "--out", not_a_page)
        assert (
            refused.exit_code == 2 and "is no page; end it in .html" in refused.stderr and hashes(Path("a")) == before
        )
    refused = cli("report", "a", "a")
    assert (refused.exit_code, refused.stderr) == (2, "error: 2 runs go to one page; name it: --out FILE.html\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--set", "faults.model=rate", "--set", "faults.ue_per_tib_year=0"),
        ("--set", "faults.errors=0"),
        ("cloud-1t-ddr4",),
    ],
)
def test_a_run_in_which_no_vm_is_hit_is_a_result_too(cli: Cli, arguments: tuple[str, ...]) -> None:
    result = cli("run", *arguments, "--policy", "hgm2m", "--trials", 10, "--no-report")
    assert (result.exit_code, [line for line in result.stderr.splitlines() if "error" in line]) == (0, [])


def test_settings_and_files_reach_the_scenario(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text('base = "seed-1t"\n[vm]\nmemory = "64GiB"\n[faults]\nerrors = 7\n')
    result = cli("run", "fleet.toml", "--policy", "hgm2m", "--set", "faults.errors=9", "--json", *QUICK)
    data = json.loads(result.stdout)
    assert (data["scenario"]["vm"]["memory"], data["scenario"]["faults"]["errors"]) == (64 << 30, 9)
    assert folder_of(result).name.startswith("fleet-")
    errors = [row["mean"] for row in data["summary"] if row["metric"] == "errors" and row["year"] == 5]
    assert errors == [9.0, 9.0]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--policy", "hgm2m"),
        ("seed-1t-distinct", "--policy", "migrate1g:spares=2", "--seed", "77"),
        ("--set", "faults.model=rate", "--set", "faults.ue_per_tib_year=1/month", "--years", "18months"),
    ],
)
def test_the_command_in_a_run_folder_makes_the_same_run(cli: Cli, hashes: Hashes, arguments: tuple[str, ...]) -> None:
    folder = folder_of(cli("run", *arguments, *QUICK))
    before = hashes(folder)
    command = json.loads((folder / "run.json").read_text())["command"]
    assert command.startswith("poisonsim run ")
    again = cli(*shlex.split(command)[1:], "--no-report", "--out", "again")
    assert again.exit_code == 0
    assert hashes(Path("again")) == before


def test_the_next_command_works(cli: Cli, policy_file: Callable[..., str]) -> None:
    body = 'class Mine(Policy):\n    """Lose it."""\n    rules = [on(BACKING).do(UNMAP)]\n'
    for policy in ("hgm2m", "migrate1g:spares=2", policy_file(body)):
        result = cli("run", "--policy", policy, *QUICK)
        found = re.search(r"^next        poisonsim (.*)$", result.stdout, re.MULTILINE)
        assert found is not None
        assert cli(*shlex.split(found[1])).exit_code == 0, found[0]


def test_progress_goes_to_stderr_in_lines(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    trials = 3 * ps.run("seed-1t", policies=["hgm2m"], trials=1).plan.block_trials
    result = cli("run", "seed-1t-distinct", "--policy", "hgm2m", "--json", "--trials", trials, "--no-report")
    assert json.loads(result.stdout)["trials"] == trials
    lines = [line for line in result.stderr.splitlines() if " trials, " in line]
    assert len(lines) == 2
    shown = r"[\d,]+/[\d,]+ trials(, \d+ s left)?, hgm2m: (p99|most) guest lost 400 KiB"
    assert [line for line in lines if not re.fullmatch(shown, line)] == []
    # Nothing is known of the speed before the second block, since the first waits for the kernel.
    assert [" s left" in line for line in lines] == [False, True]


def test_a_run_that_waits_for_the_compiler_says_so(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 1e9)
    monkeypatch.setattr(progress, "kernel_must_compile", lambda: True)
    result = cli("run", *QUICK, "--policy", "hgm2m", "--json")
    first = result.stderr.splitlines()[0]
    folder = kept_in(simulate)
    assert folder is not None and first.endswith(f"once for this version; it is kept in {folder}")
    monkeypatch.setattr(progress, "kept_in", lambda _: None)
    result = cli("run", *QUICK, "--policy", "hgm2m", "--json")
    assert "kept nowhere; set NUMBA_CACHE_DIR" in result.stderr.splitlines()[0]


def test_a_run_says_what_a_loss_is_and_what_its_cost_is_most_of(cli: Cli) -> None:
    told = cli("run", *QUICK, "--policy", "hgm2m").stdout.splitlines()
    assert "a lost VM is counted, and its memory goes on as if it still ran (vm.on_loss = count)" in told
    assert "Most of what hgm2m costs the host is given-up HVO (vmemmap): 15.96 of 15.97 GiB" in told


# ------------------------------------------------------------------------------------------------- policies, catalogue


def test_spares_that_are_much_of_the_memory_are_told(cli: Cli) -> None:
    told = cli("run", "--set", "vm.memory=100GiB", "-p", "hgm2m", "-p", "migrate1g:spares=2", *QUICK).stdout
    assert "note: the 2 spares of migrate1g:spares=2 are 2 % of the memory that they serve" in told
    assert "poisonsim help size-spares" in " ".join(told.split())
    assert "note: the" not in cli("run", "--set", "vm.memory=101GiB", "-p", "migrate1g:spares=2", *QUICK).stdout


def test_policies_list(cli: Cli) -> None:
    result = cli("policies", "list")
    assert (result.exit_code, result.stderr) == (0, "")
    header, *rows = result.stdout.splitlines()
    assert header.split() == ["policy", "status", "summary"]
    assert [row.split()[0] for row in rows] == list(policy_names())
    data = json.loads(cli("policies", "list", "--json").stdout)["policies"]
    assert [entry["name"] for entry in data] == list(policy_names())
    assert {entry["origin"] for entry in data if entry["name"] in ("hgm2m", "unmap1g")} == {"poisonsim"}
    assert {"name": "unmap1g", "status": "mainline"}.items() <= next(e for e in data if e["name"] == "unmap1g").items()


def test_policies_show(cli: Cli) -> None:
    result = cli("policies", "show", "migrate1g", "--scenario", "seed-1t")
    assert (result.exit_code, result.stderr) == (0, "")
    for fragment in (
        "migrate1g  (poisonsim)",
        "Move the healthy data to a spare huge page",
        "leaked (shared mapping)",
        "needs high-granularity mapping: no",
        "  on(BACKING): MIGRATE\n  on(BACKING): UNMAP\n",
        "spares = 4  (0 to 65536; set with migrate1g:spares=N)",
    ):
        assert fragment in result.stdout
    assert "needs high-granularity mapping: yes" in cli("policies", "show", "hgm2m").stdout
    assert "that it gives up are dissolved" in cli("policies", "show", "unmap1g-private").stdout


def test_policies_show_as_data(cli: Cli) -> None:
    data = json.loads(cli("policies", "show", "migrate1g", "--json").stdout)
    assert data["rules"] == ["on(BACKING): MIGRATE", "on(BACKING): UNMAP"]
    assert data["parameters"] == [{"name": "spares", "value": 4, "low": 0, "high": 65536}]
    assert (data["shared"], data["uses_hgm"], len(data["digest"])) == (True, False, 64)


@pytest.mark.parametrize(
    ("command", "key"),
    [(("policies", "list"), "policies"), (("catalog", "list"), "catalog")],
    ids=["policies", "catalog"],
)
def test_a_list_as_csv_has_the_rows_of_the_json(cli: Cli, command: tuple[str, ...], key: str) -> None:
    rows = list(csv.DictReader(io.StringIO(cli(*command, "--csv").stdout)))
    assert rows == json.loads(cli(*command, "--json").stdout)[key]
    assert "exclude each other" in cli(*command, "--csv", "--json").stderr


def test_the_numbers_of_an_entry_as_csv(cli: Cli) -> None:
    for name in ("ddr4-alibaba", "cloud-1t-ddr4", "sapphire-rapids"):
        rows = list(csv.DictReader(io.StringIO(cli("catalog", "show", name, "--csv").stdout)))
        numbers = json.loads(cli("catalog", "show", name, "--json").stdout)["numbers"]
        assert [row["key"] for row in rows] == [number["key"] for number in numbers] and all(
            row["source"] for row in rows
        )


def test_a_life_as_csv_adds_up(cli: Cli) -> None:
    cli("run", "--policy", "hgm2m", *QUICK, "--out", "out")
    rows = list(csv.DictReader(io.StringIO(cli("life", "out", "--trial", 3, "--csv").stdout)))
    data = json.loads(cli("life", "out", "--trial", 3, "--json").stdout)
    assert int(rows[-1]["step"]) == len(data["steps"])
    added = sum(float(row["change"]) for row in rows if row["metric"] == "table_bytes")
    assert added == data["end"]["table_bytes"] - data["start"]["table_bytes"] > 0


def test_policies_check(cli: Cli) -> None:
    result = cli("policies", "check", "hgm2m", "migrate1g:spares=3")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [line for line in result.stdout.splitlines() if ": ok" in line]
    assert len(lines) == 2 and lines[0].startswith("hgm2m: ok") and lines[1].startswith("migrate1g:spares=3: ok")


def test_policies_check_says_first_that_it_compiles(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "kernel_must_compile", lambda: True)
    assert cli("policies", "check", "hgm2m").stderr.startswith("compiling the simulation kernel, ")


def test_policies_show_takes_parameters_and_draws_what_becomes_of_leaves(cli: Cli) -> None:
    assert "spares = 2  (" in cli("policies", "show", "migrate1g:spares=2").stdout
    assert "1G ── SPLIT ──▶ 2M leaves" in cli("policies", "show", "hgm2m").stdout
    assert cli("run", "seed-1t-distinct", "-p", "hgm2m", "-n", "10", "--no-report", "--out", "ten").exit_code == 0
    assert "SPLIT_TO 2M" in cli("life", "ten").stdout


def test_policies_new_starts_a_policy_that_passes_its_checks_and_runs(cli: Cli, tmp_path: Path) -> None:
    result = cli("policies", "new", "my-own")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "my_own.py" in result.stdout and (tmp_path / "my_own.py").exists()
    assert cli("policies", "check", "my_own.py").stdout.startswith("my-own: ok")
    run = cli("run", "--policy", "./my_own.py", "--policy", "hgm2m", "--json", *QUICK)
    rows = {(row["policy"], row["metric"], row["year"]): row["mean"] for row in json.loads(run.stdout)["summary"]}
    assert rows["my-own", "table_bytes", 5] == rows["hgm2m", "table_bytes", 5]
    for line in result.stdout.splitlines()[1:]:
        assert cli(*shlex.split(line.partition("poisonsim ")[2]), *(QUICK if "run" in line else ())).exit_code == 0


def test_catalog_list_and_show(cli: Cli) -> None:
    result = cli("catalog", "list")
    assert (result.exit_code, result.stderr) == (0, "")
    entries = json.loads(cli("catalog", "list", "--json").stdout)["catalog"]
    assert {"seed-1t", "seed-1t-distinct", "cloud-1t-ddr4", "ddr4-alibaba", "linux", "sapphire-rapids"} <= {
        entry["name"] for entry in entries
    }
    assert len(result.stdout.splitlines()) == len(entries) + 3  # and how to make one of your own
    for entry in entries:
        shown = cli("catalog", "show", entry["name"])
        data = json.loads(cli("catalog", "show", entry["name"], "--json").stdout)
        assert shown.exit_code == 0 and entry["title"] in shown.stdout
        assert data["numbers"], entry["name"]
        for number in data["numbers"]:
            assert number["quality"] in ("measured-field", "published", "vendor", "assumed") and number["source"]


# ------------------------------------------------------------------------------------------------- version


def test_version(cli: Cli) -> None:
    result = cli("--version")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"poisonsim {version('poisonsim')}\n", "")
    assert ps.__version__ == version("poisonsim")


# ------------------------------------------------------------------------------------------------- as a process


def process(*arguments: str, **changes: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*POISONSIM, *arguments], text=True, capture_output=True, timeout=120, **changes)  # type: ignore[call-overload, no-any-return]


def test_into_a_pipe_there_are_no_control_codes(tmp_path: Path) -> None:
    result = process("run", "--policy", "hgm2m", *QUICK, cwd=tmp_path)
    notices = [line for line in result.stderr.splitlines() if not line.startswith("compiling the simulation kernel, ")]
    assert (result.returncode, notices) == (0, [])
    wrong = process("run", "--trials", "x", cwd=tmp_path)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    for text in (result.stdout, wrong.stderr):
        assert text and "\x1b" not in text


def test_no_color_means_none_on_a_terminal_too(tmp_path: Path) -> None:
    output = on_a_terminal("run", "--policy", "hgm2m", *QUICK, cwd=tmp_path, NO_COLOR="1")
    assert "400 KiB" in output
    assert re.findall(r"\x1b\[[0-9;]*m", output) == []


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    for arguments in (("run", "--csv", *QUICK), ("policies", "list")):
        reader, writer = os.pipe()
        os.close(reader)
        child = subprocess.run(
            [*POISONSIM, *arguments], stdout=writer, stderr=subprocess.PIPE, text=True, cwd=tmp_path, timeout=120
        )
        os.close(writer)
        assert (child.returncode, "Traceback" in child.stderr, "Exception" in child.stderr) == (0, False, False)


def loaded_after(code: str, cwd: Path) -> set[str]:
    """Top-level modules that a fresh interpreter holds after `code`."""
    code += "\nimport sys\nprint('\\n'.join({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-P", "-c", code], text=True, capture_output=True, cwd=cwd, check=True)
    return set(done.stdout.split())


QUIETLY = """
import contextlib, io
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    app()
"""
HEAVY = {"numpy", "scipy", "pandas", "numba", "llvmlite", "matplotlib", "pydantic", "jinja2"}


def test_importing_the_package_loads_nothing_heavy(tmp_path: Path) -> None:
    assert loaded_after("import poisonsim", tmp_path) & (HEAVY | {"typer", "rich"}) == set()


@pytest.mark.parametrize("arguments", [["--help"], ["help"], ["help", "run"], ["help", "metrics"]])
def test_help_loads_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    code = f"import sys; sys.argv = {['poisonsim', *arguments]}\nfrom poisonsim.cli import app\n"
    code += QUIETLY
    by_typer = set() if arguments == ["--help"] else {"pydantic"}  # typer loads it wherever it reads arguments
    assert loaded_after(code, tmp_path) & HEAVY <= by_typer


def test_a_run_without_a_report_does_not_load_matplotlib(tmp_path: Path) -> None:
    arguments = ["poisonsim", "run", "--policy", "hgm2m", *QUICK, "--json"]
    code = f"import sys; sys.argv = {arguments}\nfrom poisonsim.cli import app\n{QUIETLY}"
    assert loaded_after(code, tmp_path) & {"matplotlib", "jinja2"} == set()


# ------------------------------------------------------------------------------------------------- interruption, bugs


def test_ctrl_c_is_exit_code_130_and_says_what_is_kept(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from poisonsim.results import runs

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "simulate_plan", interrupt)
    arguments = ["run", *QUICK, "--policy", "hgm2m", "--set", 'vm.guest_page={"2M" = 0.9, "4K" = 0.1}', "--out", "a b"]
    monkeypatch.setattr(sys, "argv", ["poisonsim", *arguments])
    result = cli(*arguments)
    assert (result.exit_code, result.stdout) == (130, "")
    told, command = result.stderr.splitlines()
    assert told == "interrupted; 0 of 1,000 trials are kept in a b; go on with:"
    assert shlex.split(command) == ["poisonsim", *arguments]


def test_a_run_folder_that_was_to_stop_by_itself_says_the_command_that_goes_on(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from poisonsim.results import runs

    whole = runs.simulate_plan

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    until = "mean(guest_lost_bytes) within 5%"
    words = ("run", "--policy", "hgm2m", "--until", until, "--trials", "50000", "--no-report", "--out", "a")
    monkeypatch.setattr(runs, "simulate_plan", interrupt)
    assert cli(*words).exit_code == 130
    told = cli("compare", "a").stderr.partition("go on with: poisonsim ")[2]
    assert f"--policy hgm2m --trials 50000 --seed 1 --until '{until}' --out a" in told and "unmap1g" not in told
    monkeypatch.setattr(runs, "simulate_plan", whole)
    assert cli(*shlex.split(told), "--no-report").exit_code == 0
    manifest = json.loads(Path("a/run.json").read_text())
    assert "--until" not in manifest["command"] and f"--trials {manifest['trials']} " in manifest["command"]


def test_ctrl_c_elsewhere_is_exit_code_130_too(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from poisonsim import policy

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(policy, "all_policies", interrupt)
    result = cli("policies", "list")
    assert (result.exit_code, result.stdout, result.stderr) == (
        130,
        "",
        "interrupted; to go on, give the same command again\n",
    )


def test_a_bug_of_ours_is_exit_code_1_and_called_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from poisonsim.results import runs

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "simulate_plan", fail)
    monkeypatch.setattr(sys, "argv", ["poisonsim", "run", *QUICK])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "RuntimeError: a bug" in err
    assert err.endswith("this is a bug of ours; please report it with the lines above\n")


def test_other_warnings_are_not_swallowed() -> None:
    import warnings

    with pytest.warns(DeprecationWarning, match="old"), common.collected_warnings():
        warnings.warn("old", DeprecationWarning, stacklevel=1)


def wait_for_blocks(folder: Path, n: int, child: subprocess.Popen[str]) -> None:
    """Until `n` whole blocks are on disk."""
    deadline = time.monotonic() + 60
    while len(list(folder.glob("blocks/[0-9]*.npz"))) < n:
        assert child.poll() is None, "it ended before it could be stopped"
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_to_the_same_bytes(cli: Cli, tmp_path: Path, hashes: Hashes) -> None:
    """Stopped by SIGINT at about a tenth and by SIGKILL at about a half, then finished: as if nothing had happened."""
    block = ps.run("seed-1t-distinct", policies=["hgm2m"], trials=1).plan.block_trials
    n_blocks = 24
    command = ["run", "seed-1t-distinct", "--policy", "hgm2m", "--trials", str(n_blocks * block - 9), "--no-report"]
    command += ["--threads", "2"]
    killed, unbroken = tmp_path / "killed", tmp_path / "unbroken"
    for sent, code, blocks in ((signal.SIGINT, 130, n_blocks // 10), (signal.SIGKILL, -9, n_blocks // 2)):
        child = subprocess.Popen(
            [*POISONSIM, *command, "--out", str(killed)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # shells ignore it in the background
        )  # fmt: skip
        wait_for_blocks(killed, blocks, child)
        child.send_signal(sent)
        out, err = child.communicate(timeout=60)
        assert (child.returncode, out) == (code, ""), err
        there = len(list(killed.glob("blocks/[0-9]*.npz")))
        assert blocks <= there < n_blocks
        kept = f"{there * block:,} of {n_blocks * block - 9:,} trials are kept in {killed}"
        assert sent == signal.SIGKILL or f"\ninterrupted; {kept}; go on with:" in f"\n{err}"
    for out_folder in (killed, unbroken):
        assert cli(*command, "--out", out_folder).exit_code == 0
    left = hashes(killed)
    torn = [name for name in left if Path(name).name.startswith(".")]  # a temporary file that the kill left behind
    assert {name: value for name, value in left.items() if name not in torn} == hashes(unbroken)
    assert len(torn) <= 2


def test_a_report_of_other_trials_does_not_stay(cli: Cli) -> None:
    folder = folder_of(cli("run", "--policy", "hgm2m", "--trials", "1200", "--seed", "3"))
    assert (folder / "report.html").exists()
    assert folder_of(cli("run", "--policy", "hgm2m", "--trials", "1400", "--seed", "3", "--no-report")) == folder
    assert sorted(path.name for path in folder.iterdir()) == ["blocks", "run.json", "summary.csv"]


@pytest.mark.parametrize("options", [("--json", "--csv"), ("--dry-run", "--json")])
def test_two_kinds_of_output_exclude_each_other(cli: Cli, options: tuple[str, str]) -> None:
    result = cli("run", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "exclude each other" in result.stderr


def test_a_mapping_that_a_policy_does_not_use_is_pointed_out(cli: Cli) -> None:
    asked = cli("run", "--policy", "hgm2m", "--set", "host.mapping=private", *QUICK)
    assert "note: host.mapping = private is not used by unmap1g" in asked.stderr
    assert "note:" not in cli("run", "--policy", "unmap1g-private", *QUICK).stderr


def test_check_runs_a_few_trials_of_a_decide(cli: Cli, policy_file: Callable[..., str]) -> None:
    body = "class Mine(Policy):\n    @staticmethod\n    def decide(c, p):\n        return SPLIT\n"
    result = cli("policies", "check", policy_file(body))
    assert result.exit_code == 2 and "decide answered SPLIT for a 4K leaf" in result.stderr


@pytest.mark.parametrize("body", ["if c.leaf_level > 0:\n            return UNMAP", "return 2.5"])
def test_check_refuses_a_decide_that_may_not_answer(cli: Cli, policy_file: Callable[..., str], body: str) -> None:
    head = "class Mine(Policy):\n    @staticmethod\n    def decide(c, p):\n        "
    result = cli("policies", "check", policy_file(f"{head}{body}\n"))
    assert result.exit_code == 2 and "decide does not answer with an action in every case" in result.stderr


def test_a_run_that_the_memory_does_not_hold_says_what_takes_it(tmp_path: Path) -> None:
    command = [*POISONSIM, "run", "--set", "faults.errors=10000000", "--trials", "10", "--out", str(tmp_path / "run")]
    most = 3 << 30
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (most, most)),
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "error: out of memory: " in done.stderr and "errors per VM (faults)" in done.stderr
    assert "Traceback" not in done.stderr
