"""`run --fail-if` and `run --until`: exit codes, what is said, and that nothing depends on threads."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result as CliResult

import poisonsim as ps

Cli = Callable[..., CliResult]
Hashes = Callable[[Path], dict[str, str]]
QUICK = ("--policy", "hgm2m", "--trials", "1000", "--no-report")
SMALL = (  # 256 trials to a block, and few points in time at which to work out what the TLB does
    "--set", "faults.errors=1000", "--set", "horizon.grid=5years", "--policy", "hgm2m", "--no-report",
)  # fmt: skip
WIDTH = "unmap1g: mean(guest_lost_bytes) within 0.05%"


def test_a_condition_that_holds_is_exit_code_3_after_all_is_written(cli: Cli) -> None:
    failing = ("--fail-if", "p99(slowdown) > 1.002", "--fail-if", "mean(guest_lost_bytes) > 1GiB")
    result = cli("run", *QUICK, *failing, "--out", "out")
    assert result.exit_code == 3
    assert result.stdout.rstrip().endswith("next        poisonsim policies show hgm2m")
    assert re.fullmatch(r"failed: hgm2m: p99\(slowdown\) is 1\.0\d+ \(1\.0\d+–1\.0\d+\), > 1\.002\n", result.stderr)
    assert ps.open_run("out").n_trials == 1000


def test_the_status_quo_that_runs_beside_is_asked_by_name_only(cli: Cli) -> None:
    assert cli("run", *QUICK, "--fail-if", "mean(guest_lost_bytes) > 1GiB").exit_code == 0
    result = cli("run", *QUICK, "--fail-if", "unmap1g: mean(guest_lost_bytes) > 1GiB")
    assert (result.exit_code, result.stderr[:44]) == (3, "failed: unmap1g: mean(guest_lost_bytes) is 9")
    named = cli("run", *QUICK, "--policy", "unmap1g", "--fail-if", "mean(guest_lost_bytes) > 1GiB")
    assert named.exit_code == 3


def test_where_the_interval_spans_the_bound_it_is_said(cli: Cli) -> None:
    lost = ps.run("seed-1t", policies=["hgm2m"], trials=1000, seed=1).probability("vm_lost == 1")
    result = cli("run", *QUICK, "--fail-if", f"mean(vm_lost) > {(lost.best + lost.high) / 2}")
    assert result.exit_code == 0
    assert (
        result.stderr.startswith("note: hgm2m: mean(vm_lost) is ") and "the interval spans the bound" in result.stderr
    )
    result = cli("run", *QUICK, "--fail-if", f"mean(vm_lost) > {(lost.best + lost.low) / 2}")
    assert result.exit_code == 3
    assert result.stderr.startswith("failed: hgm2m: ") and "the interval spans the bound" in result.stderr


def test_json_stays_alone_on_stdout(cli: Cli) -> None:
    result = cli("run", *QUICK, "--json", "--fail-if", "mean(errors) >= 100")
    assert (result.exit_code, json.loads(result.stdout)["trials"]) == (3, 1000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--fail-if", "slowdown"), "--fail-if 'slowdown' is no condition: it is `[POLICY:] QUANTITY OP VALUE`"),
        (
            ("--fail-if", "P(errors > 3) >= 0"),
            "--fail-if 'P(errors > 3) >= 0': holds always, for P is at least 0; name a",
        ),
        (
            ("--fail-if", "vm_lost > 100%"),
            "--fail-if 'vm_lost > 100%': can never hold, for vm_lost is at most 1; name another",
        ),
        (("--fail-if", "hgm4k: p99(slowdown) > 1"), "--fail-if 'hgm4k: p99(slowdown) > 1': policy 'hgm4k' is not in"),
        (("--until", "p99(slowdown) > 1"), "--until 'p99(slowdown) > 1' is no width to reach"),
        (
            ("--trials", "999", "--fail-if", "p99(slowdown) > 1"),
            "--fail-if p99(slowdown) cannot be told from 999 trials",
        ),
        (("--trials", "999", "--until", "p99(slowdown) within 1%"), "p99(slowdown) cannot be told from 999 trials"),
    ],
)
def test_a_condition_that_means_nothing_is_refused_before_any_trial(
    cli: Cli, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = cli("run", "--policy", "hgm2m", *arguments)
    crash = "" if isinstance(result.exception, SystemExit) else repr(result.exception)
    assert (result.exit_code, crash, result.stdout) == (2, "", "")
    assert result.stderr.startswith(f"error: {message}"), result.stderr
    assert list(tmp_path.iterdir()) == []


def test_every_condition_that_means_nothing_is_told(cli: Cli) -> None:
    assert len(cli("run", "--fail-if", "a", "--fail-if", "b").stderr.splitlines()) == 2


def test_a_run_goes_on_until_its_interval_is_narrow_on_any_number_of_threads(
    cli: Cli, hashes: Hashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    from poisonsim.cli import progress

    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 1e9)  # none on a busy machine either
    found = []
    for threads in (1, 3):
        result = cli("run", *SMALL, "--until", WIDTH, "--threads", threads, "--out", f"out{threads}")
        assert result.exit_code == 0, result.stderr
        found.append((hashes(Path(f"out{threads}")), result.stderr))
    assert found[0] == found[1]
    done = re.match(
        r"reached: mean\(guest_lost_bytes\) within 0\.05% after ([\d,]+) trials; ",
        found[0][1].replace("unmap1g: ", "", 1),
    )
    assert done is not None
    trials = int(done[1].replace(",", ""))
    res = ps.open_run("out1")
    mean = res.mean("unmap1g", "guest_lost_bytes")
    assert res.n_trials == trials and trials % res.plan.block_trials == 0 and trials >= 8 * res.plan.block_trials
    assert mean.high - mean.best <= 0.0005 * mean.best
    command = json.loads(Path("out1/run.json").read_text())["command"]
    assert f"--trials {trials}" in command and "--until" not in command
    assert cli(*shlex.split(command)[1:], "--no-report", "--out", "again").exit_code == 0
    assert hashes(Path("again")) == found[0][0]


def test_where_it_is_not_reached_it_says_how_many_trials_would_do(cli: Cli) -> None:
    result = cli("run", *SMALL, "--trials", "600", "--until", WIDTH)
    assert result.exit_code == 3
    told = r"warning: not reached: .* within 600 trials; .*; about [\d,]+ would do: raise --trials\n"
    assert re.search(told, result.stderr)


def test_where_no_number_of_trials_would_do_none_is_named(cli: Cli) -> None:
    result = cli("run", *QUICK, "--until", "P(vm_lost == 1) within 1e-200")
    assert result.exit_code == 3
    assert result.stderr.rstrip().endswith("; raise --trials, or ask for less")


def test_progress_says_at_most(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from poisonsim.cli import progress

    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    result = cli("run", *SMALL, "--trials", "600", "--until", WIDTH)
    assert re.search(r"^256 of at most 600 trials, hgm2m: (p99|most) guest lost ", result.stderr, re.MULTILINE)


def test_a_condition_that_holds_goes_over_what_cannot_converge(cli: Cli) -> None:
    result = cli("run", *QUICK, "--until", "mean(reserved_bytes) within 5%", "--fail-if", "errors > 0")
    assert result.exit_code == 3 and "error: --until: " in result.stderr


def test_what_cannot_converge_is_exit_code_2_at_the_cap(cli: Cli) -> None:
    result = cli("run", *QUICK, "--until", "mean(reserved_bytes) within 5%", "--out", "out")
    assert result.exit_code == 2
    assert "error: --until: mean(reserved_bytes) of hgm2m is 0 in 1,000 trials, and no interval" in result.stderr
    assert ps.open_run("out").n_trials == 1000


def test_from_python() -> None:
    arguments = {"policies": ["unmap1g"], "seed": 1, "trials": 20_000}
    res = ps.run("seed-1t", **arguments, until="mean(errors) within 1")  # type: ignore[arg-type]
    assert res.n_trials == 8 * res.plan.block_trials  # errors are the same in every trial
    with pytest.raises(ps.MetricError, match="is no width to reach"):
        ps.run("seed-1t", **arguments, until="soon")  # type: ignore[arg-type]


def test_a_condition_on_the_good_side_is_noted_with_what_to_write(cli: Cli) -> None:
    result = cli("run", *QUICK, "--fail-if", "mean(guest_lost_bytes) < 1KiB")
    assert result.exit_code == 0
    assert "fails where the figure is good" in result.stderr and "'mean(guest_lost_bytes) >= 1KiB'" in result.stderr


def test_verdict_and_report_are_due_though_nobody_reads_the_table(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    words = [*QUICK[:-1], "--out", str(tmp_path / "out"), "--fail-if", "mean(guest_lost_bytes) > 1KiB"]
    command = [sys.executable, "-m", "poisonsim", "run", *words]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False, timeout=300)
    os.close(writer)
    assert (done.returncode, done.stderr[:14]) == (3, "failed: hgm2m:")
    assert (tmp_path / "out" / "report.html").exists()
