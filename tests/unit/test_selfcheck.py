"""The self-check: it holds as things are, fails where something is wrong, and its page says so."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from typer.testing import Result as CliResult

import poisonsim.results.statistics as statistics
from poisonsim.report.verification import render_verification
from poisonsim.results.runs import run
from poisonsim.results.selfcheck import Check, Section, closed_forms, coverage, every, translation
from poisonsim.results.selfcheck.checks import equal, within_law, within_normal
from poisonsim.translation.agreement import Agreement
from poisonsim.translation.validation import compare

Cli = Callable[..., CliResult]
HARM = "<script>alert(1)</script>"


def sections(verdict: bool = True) -> list[Section]:
    checks = (equal("what is equal", 1, 1, "by hand"), equal("what may differ", 1, 1 if verdict else 2, HARM))
    shown = Check("what is shown", "–", "2.57: a paper", "the band", "shown", (0.1, 1.9, 2.0), word="above", note=HARM)
    return [
        Section("first", "First kind", "by hand", "Equal.", checks, (HARM,)),
        Section("second", "Second kind", "papers", "Shown.", (shown,)),
    ]


# ------------------------------------------------------------------------------------------------- checks


def test_bounds_are_those_of_the_law() -> None:
    law = stats.binom(1000, 0.3)
    low, high = law.ppf(5e-7), law.isf(5e-7)
    for k, verdict, place in (
        (low, "holds", -1),
        (low - 1, "fails", None),
        (high, "holds", 1),
        (high + 1, "fails", None),
    ):
        check = within_law("a", law, int(k), 1000, "b", 1e-6)
        assert check.verdict == verdict and check.at is not None
        assert check.at[1] == pytest.approx(place) if place is not None else abs(check.at[1]) > 1
    assert [within_normal("a", x, 0.0, 1.0, "b", 1e-6).verdict for x in (4.89, -4.89, 4.9, -4.9)] == [
        "holds", "holds", "fails", "fails",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "fails"),
    [
        (
            lambda s: (
                s.replace({"faults.ue_per_tib_year": 0.875 * s.faults.ue_per_tib_year})
                if s.faults.model == "rate"
                else s
            ),
            "errors per VM, at a rate",
        ),
        (lambda s: s.replace({"host.spares": s.host.spares + 1}), "hosts that run out of 2 spares, 4 errors expected"),
        (lambda s: s.replace({"vm.unrecoverable": 0.018}), "VMs lost by 100 pages, each fatal with 2 %"),
        (lambda s: s.replace({"host.page_tables": 2}), "bytes of page tables, 100 regions split to 4K"),
    ],
)
def test_a_run_of_something_else_fails(monkeypatch: pytest.MonkeyPatch, wrong: Any, fails: str) -> None:
    monkeypatch.setattr(closed_forms, "run", lambda scenario, **kw: run(wrong(scenario), **kw))
    found = closed_forms.closed_forms(3)
    assert found.verdict == "fails"
    assert fails in [check.what for check in found.checks if check.verdict == "fails"]


def test_intervals_that_are_too_narrow_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "Z", 1.3)
    verdicts = {check.what: check.verdict for check in coverage.coverage(150, seed=5).checks}
    assert verdicts["mean of errors, plain"] == verdicts["mean of errors, by strata, mean 2"] == "fails"


def test_threads_do_not_change_a_value() -> None:
    assert coverage.coverage(20, threads=1) == coverage.coverage(20, threads=3)


def test_the_exact_coverage_is_that_of_drawn_counts() -> None:
    counts = np.random.default_rng(1).binomial(500, 0.02, 4000)
    held = [(e := statistics.binomial(int(k), 500)).low <= 0.02 <= e.high for k in counts]
    assert np.mean(held) == pytest.approx(coverage.exact_coverage(500, 0.02), abs=5 * (0.25 / 4000) ** 0.5)


def test_a_model_that_is_off_fails_and_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def cells(name: str, *, seed: int) -> list[Agreement]:
        off = 1.03 if name == "zen4" else 1.001
        found = [(0.5, 0.5 * off), (0.4, 0.4), (1e-4, 2e-4)]  # of the last there are too few walks
        return [Agreement(name, "uniform", "4K", 64, 1024, s, 1e-5, m, 0.7, 0.7) for s, m in found]

    monkeypatch.setattr(translation, "hardest_cells", cells)
    monkeypatch.setattr(translation, "agreement_grid", lambda names, seed: cells(names[0], seed=seed))
    for full in (False, True):
        told: list[str] = []
        found = translation.oracle(1, full=full, progress=told.append)
        off = {check.what: check for check in found.checks if check.verdict == "fails"}
        assert list(off) == ["zen4: 2 cells"] and len(found.checks) > 15
        assert "1 cells beyond" in off["zen4: 2 cells"].found
        assert "uniform, 64 regions in 4K" in off["zen4: 2 cells"].note
        assert bool(found.notes) == (not full)


def test_published_runs_hide_no_miss() -> None:
    words = [check.word for check in translation.published_runs().checks]
    assert words == [row.verdict for row in compare()]
    for check in translation.published_runs().checks:
        inside = check.at is not None and abs(check.at[1]) <= 1
        assert inside == (check.word == "inside") and check.verdict == "shown"


# ------------------------------------------------------------------------------------------------- page


def test_the_page_says_it_all_escaped_and_without_a_script() -> None:
    html = render_verification(sections(), seed=1, command=f"poisonsim verify {HARM}")
    assert html == render_verification(sections(), seed=1, command=f"poisonsim verify {HARM}")
    assert "All 2 checks hold; 1 more numbers are shown and not judged." in html
    assert "<script" not in html and html.count("&lt;script&gt;") == 4
    assert not re.search(r"(src|href)=\"(?!#|data:)", html) and not re.search(r"20\d\d-\d\d-\d\d", html)
    assert 'class="cross"/>' in html.split("</style>")[1] and ">above<" in html
    failing = render_verification(sections(verdict=False), seed=1, command="")
    assert "1 of 2 checks fails: First kind (what may differ)." in failing and ">fails<" in failing


def test_verify_alone_writes_the_page_and_prints_verdicts(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poisonsim.results.selfcheck.self_check", lambda **_: sections())
    result = cli("verify")
    assert result.exit_code == 0
    assert "All 2 checks hold" in result.stdout and result.stdout.endswith("every number  reports/verification.html\n")
    assert "poisonsim verify<" in Path("reports/verification.html").read_text()
    data = json.loads(cli("verify", "--all", "--runs", "50", "--json").stdout)
    assert [section["verdict"] for section in data["self_check"]] == ["holds", "shown"]
    assert 'poisonsim verify <span class="whole">--runs</span> 50<' in Path("reports/verification.html").read_text()


def test_a_failed_check_is_exit_code_3_and_named(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poisonsim.results.selfcheck.self_check", lambda **_: sections(verdict=False))
    result = cli("verify", "--out", "mine.html")
    assert result.exit_code == 3 and "1 of 2 checks fails: First kind (what may differ)." in result.stdout
    assert Path("mine.html").exists() and not Path("reports").exists()


def test_what_cannot_be_written_or_asked(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poisonsim.results.selfcheck.self_check", lambda **_: sections())
    Path("file").write_text("kept")
    result = cli("verify", "--out", "file/page.html")
    assert result.exit_code == 2 and "file/page.html: cannot be written" in result.stderr
    assert cli("verify", "--runs", "0").exit_code == 2 and cli("verify", "--seed", "-1").exit_code == 2


def test_every_section_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    for name in ("closed_forms", "coverage", "oracle"):
        monkeypatch.setattr(every, name, lambda *_, name=name, **__: Section(name, name, "", "", ()))
    keys = [section.key for section in every.self_check(progress=told.append)]
    assert keys == ["closed_forms", "coverage", "oracle", "published", "kernel"] and len(told) == 3
