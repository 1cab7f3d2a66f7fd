"""`poisonsim splits`: when 2M beats 4K, as a sentence, a table and a picture."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result as CliResult

import poisonsim as ps
from poisonsim.report.splits import splits_html, splits_png, splits_svg
from poisonsim.results.splits import Splits, better_from
from poisonsim.results.splits_words import rows_of
from poisonsim.results.statistics import Estimate
from poisonsim.translation.sensitivity import Case

Cli = Callable[..., CliResult]


@pytest.fixture(scope="module")
def found() -> Splits:
    return ps.splits("seed-1t", cpus=["zen5", "zen4"], guest_pages=["2M", "4K"])


def made(*slopes: tuple[str, float, float], access: str = "uniform") -> Splits:
    """Cases of these CPUs, whose losses per split region are these with 4K and with 2M."""
    n = np.array([1, 100])
    cases = tuple(
        Case(cpu, "2M", access, 100, n, *(np.outer(n, [slope] * 3) for slope in each)) for cpu, *each in slopes
    )
    return Splits(cases, cases[0], 1.0, cases[0], Estimate(5, 5, 5, "regions"), 5.0, 0.01)


def test_the_table_and_the_sentences_say_the_same(cli: Cli, found: Splits) -> None:
    words = ("splits", "seed-1t", "--cpu", "zen5", "--cpu", "zen4", "--guest-page", "2M", "--guest-page", "4K")
    result = cli(*words)
    assert (result.exit_code, result.stderr) == (0, "zen5: comparing\nzen4: comparing\n")
    assert result.stdout.startswith("2M beats 4K once ")
    lines = result.stdout.splitlines()
    rows = [re.split(r"  +", line) for line in lines if line.startswith(("zen5 ", "zen4 "))]
    assert rows == rows_of(found) and len(rows) == 20
    better = sorted(int(row[3]) for row in rows if row[3] != "never")
    costs = sorted(int(row[4]) for row in rows if row[4] != "never")
    told = " ".join(lines[:2])
    assert f"once {better[0]} to {better[-1]} of 1,024 regions are split" in told
    assert f"2M costs that itself from {costs[0]} to {costs[-1]} on." in told
    assert "under sequential access neither ever does" in told
    assert all(len(line) <= 118 for line in lines)
    assert "95 regions are hit in 5 years" in " ".join(result.stdout.split())


def test_more_cases_than_fit_are_a_grid_of_where_the_verdict_turns(
    cli: Cli, found: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    from poisonsim.cli import splits as command

    monkeypatch.setattr(command, "_FEW", 4)
    words = ("splits", "seed-1t", "--cpu", "zen5", "--guest-page", "2M")
    lines = cli(*words).stdout.splitlines()
    (row,) = [re.split(r"  +", line) for line in lines if line.startswith("zen5 ")]
    own = [case for case in found.cases if (case.cpu, case.guest_page) == ("zen5", "2M")]
    assert row[2:-1] == [f"{better_from(case)} / {case.matters_from('mixed')}" for case in own[:-1]]
    assert (row[:2], row[-1], own[-1].access) == (["zen5", "2M"], "never", "sequential")
    assert any("a row per case: --all" in line for line in lines)
    every = cli(*words, "--all").stdout.splitlines()
    assert sum(line.startswith("zen5 ") for line in every) == 5


def test_json_and_csv_hold_what_the_table_does(cli: Cli, found: Splits) -> None:
    words = ("splits", "seed-1t", "--cpu", "zen5", "--guest-page", "2M")
    data = json.loads(cli(*words, "--json").stdout)
    assert data["schema"] == "poisonsim.splits/1" and data["own"]["access"] == "zipf 0.99 over 4K"
    mine = [case for case in found.cases if (case.cpu, case.guest_page) == ("zen5", "2M")]
    assert [row["better_2m_from"] for row in data["cases"]] == [better_from(case) for case in mine]
    assert data["cases"][-1]["better_2m_from"] is None
    header, *rows = cli(*words, "--csv").stdout.splitlines()
    assert header.startswith("cpu,guest_page,access,regions,better_2m_from,") and len(rows) == 5
    assert cli(*words, "--csv", "--json").exit_code == 2


def test_the_scenario_gives_memory_workload_and_its_own_case(cli: Cli) -> None:
    settings = [
        "vm.memory=64GiB",
        "workload.access=hot-cold",
        "workload.share=0.8",
        "vm.guest_page={'2M'=0.5,'4K'=0.5}",
    ]
    scenario = ps.load_scenario("seed-1t", overrides=[*settings, "workload.accesses_per_page_visit=1"])
    found = ps.splits(scenario, cpus=["zen5"])
    assert found.n_regions == 64 and found.visits_sentence == ""
    assert (found.own.guest_page, found.own.access) == ("50 % 2M + 50 % 4K", "hot-cold 0.1/0.8 over 4K")
    assert len(found.cases) == 4 * 6
    often = ps.splits(ps.load_scenario("seed-1t", overrides=settings), cpus=["zen5"])
    assert often.own.loss("all_4k", 64) < 0.3 * found.own.loss("all_4k", 64)
    assert "with 8 accesses per page visit" in often.visits_sentence


def test_what_the_sentence_says_of_other_outcomes() -> None:
    assert made(("a", 1e-5, 1e-6)).verdict == (
        "Neither way to split costs 1 % of run time in any case, however many of 100 are split."
    )
    assert made(("a", 1e-3, 1e-6), ("b", 1e-5, 1e-6)).verdict == (
        "2M beats 4K once 10 of 100 regions are split; with fewer, neither costs 1 % of run time, and in 1 of 2 cases "
        "neither ever does; 2M never costs that."
    )
    assert made(("a", 1e-4, 1e-3)).verdict == (
        "2M is never better than 4K by 1 % of run time; 4K is better at some number of regions in every case."
    )
    assert made(("a", 1e-3, 1e-4), ("b", 5e-4, 1e-4)).sensitivity == (
        "What moves that point most is the CPU (2.0 times): most over least, the others held."
    )
    assert made(("a", 1e-3, 1e-4)).sensitivity == ""


def test_the_picture_is_written_where_asked_and_the_same_each_time(cli: Cli, found: Splits) -> None:
    names = ["a.png", "a.svg", "a.html"]
    words = [word for name in names for word in ("--out", name)]
    result = cli("splits", "--cpu", "zen5", "--guest-page", "2M", *words)
    assert result.exit_code == 0 and result.stderr.endswith("wrote a.png\nwrote a.svg\nwrote a.html\n")
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")
    assert Path("a.svg").read_text().startswith("<?xml") and "zen5" in Path("a.svg").read_text()
    for draw in (
        lambda: splits_png(found, "n", "c"),
        lambda: splits_svg(found, "n"),
        lambda: splits_html(found, "n", ""),
    ):
        assert draw() == draw()


def test_the_page_escapes_and_asks_for_nothing(found: Splits) -> None:
    name = "<script>alert(1)</script>"
    mine = replace(found.own, cpu=name)
    html = splits_html(replace(found, cases=(mine,), own=mine), name, name)
    assert name not in html and "&lt;script&gt;" in html
    assert not re.search(r"(src|href)=\"(?!#|data:)", html)
    for n in (better_from(found.own), found.own.matters_from("mixed")):
        assert f">{n}<" in html  # in a strip and in the table


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--threshold", "much"], "--threshold: 'much' is no share of run time; write one such as 1% or 0.01"),
        (["--threshold", "1"], "threshold: 1.0 is no share of run time; allowed: above 0 and below 1, as 0.01"),
        (["--threshold", "nan"], "threshold: nan is no share of run time"),
        (["--cpu", "zen6"], "'zen6' is not a CPU of the catalogue"),
        (["--cpu", "zen5", "--cpu", "zen5"], "--cpu: zen5, zen5: one of them is named twice; name each once"),
        (["--guest-page", "3M"], "--guest-page: '3M' is no page size"),
        (["--guest-page", "16G"], "--guest-page: 16G is larger than the 1G pages that back the VM"),
        (["--set", "vm.backing=2M"], "vm.backing = 2M, vm.arch = x86-64: 2M and 4K are ways to split a region of 1G"),
        (["--out", "splits.pdf"], "--out splits.pdf: says no kind of picture; end it in .png, .svg, .html"),
        (["--cpu", "zen5", "--guest-page", "4K", "--out", "a.csv/b.png"], "a.csv/b.png: cannot be written"),
        (["sed-1t"], "did you mean seed-1t"),
    ],
)
def test_mistakes(cli: Cli, words: list[str], said: str) -> None:
    Path("a.csv").write_text("kept")
    result = cli("splits", *words)
    assert result.exit_code == 2 and said in result.stderr and result.stdout == ""
    assert Path("a.csv").read_text() == "kept"
