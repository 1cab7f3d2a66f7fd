"""Whatever ends a process, its folder goes on to the same bytes, and two processes do not get in each other's way."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextvars import Context
from pathlib import Path
from typing import Any

import pytest

import poisonsim as ps
from poisonsim.engine import lock
from poisonsim.engine import plan as engine_plan
from poisonsim.engine import run as engine_run
from poisonsim.engine.lock import LOCK_FILE, hold
from poisonsim.engine.store import block_path
from poisonsim.errors import RunFolderError, RunFolderNotice
from poisonsim.results.result import Result
from poisonsim.scenario import CountFaults, Horizon, Scenario

SCENARIO = Scenario(faults=CountFaults(errors=8), horizon=Horizon(years=1, grid="1year"))
BLOCK = 512
TRIALS = 9 * BLOCK + 100
UNTIL: dict[str, Any] = {"trials": None, "policies": ["unmap1g"], "until": "mean(guest_lost_bytes) within 0.1%"}
SMALL = ("seed-1t", "--policy", "hgm2m", "--set", "faults.errors=8", "--years", "1", "--set", "horizon.grid=1year")
KILLS = Path(__file__).parents[1] / "kills.py"

pytestmark = pytest.mark.filterwarnings("ignore::poisonsim.errors.FewTailTrials")

Cli = Callable[..., Any]
Hashes = Callable[[Path], dict[str, str]]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_plan, "_ERRORS_PER_BLOCK", 8 * BLOCK)


def run(out: Path, trials: int | None = TRIALS, **changes: Any) -> Result:
    """The run of this file in folder `out`."""
    return ps.run(SCENARIO, **{"policies": ["unmap1g", "hgm2m"], "trials": trials, "seed": 3, "out": out, **changes})


def interrupt(done: int, wanted: int, tally: object) -> None:
    if done >= 3 * BLOCK:
        raise KeyboardInterrupt


def refuse_to_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a block was computed")

    monkeypatch.setattr(engine_run, "run_block", refuse)


# ------------------------------------------------------------------------------------------------- the same bytes


@pytest.mark.slow
@pytest.mark.parametrize(("runs", "others"), [(20, 1), pytest.param(100, 6, marks=pytest.mark.long)])
def test_kills_lose_nothing(runs: int, others: int) -> None:
    """Runs with a report, runs that stop by themselves, sweeps, plans and fleets, killed at random and gone on with."""
    jobs = {"run": runs, "until": others, "sweep": others, "plan": others, "fleet": others}
    done = subprocess.run(
        [sys.executable, KILLS, *(f"{job}={n}" for job, n in jobs.items())], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition(",")[0] for line in lines] == [f"{n} kills of {job}" for job, n in jobs.items()]
    in_stages = [int(n) for n in re.findall(r"(\d+) (?=before|among|in)", lines[0])]
    assert len(in_stages) == 4 and sum(in_stages) == runs, lines[0]
    assert min(in_stages) > 0 or runs < 100, lines[0]


@pytest.mark.slow
@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=pytest.mark.long)])
def test_kills_of_workers_lose_nothing(kills: int) -> None:
    """Processes of a Dask cluster, and now and then the run that they work for."""
    done = subprocess.run([sys.executable, KILLS, f"cluster={kills}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{kills} kills of cluster, "), done.stdout
    assert kills < 100 or re.search(r"([6-9]\d) of workers, ", done.stdout), done.stdout


def test_threads_and_a_broken_run_give_one_sha256(tmp_path: Path, hashes: Hashes) -> None:
    for threads in (1, 2, 4):
        run(tmp_path / str(threads), threads=threads)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", threads=2, progress=interrupt)
    assert not (tmp_path / "broken" / "summary.csv").exists()
    run(tmp_path / "broken", threads=2)
    found = {hashlib.sha256(repr(hashes(folder)).encode()).hexdigest() for folder in tmp_path.iterdir()}
    assert len(found) == 1
    assert len(list((tmp_path / "broken" / "blocks").iterdir())) == 10


def test_a_stop_rule_sees_the_first_blocks_only_in_order(
    tmp_path: Path, hashes: Hashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first block is the last to be computed; a run that was broken off comes out alike, and again does nothing."""
    run(tmp_path / "one", **UNTIL, threads=1)
    real = getattr(engine_run, "run_block")  # noqa: B009 - imported there, not exported

    def late(plan: Any, index: int, n_trials: int) -> Any:
        if index == 0:
            time.sleep(0.2)
        return real(plan, index, n_trials)

    monkeypatch.setattr(engine_run, "run_block", late)
    run(tmp_path / "four", **UNTIL, threads=4)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", **UNTIL, threads=4, progress=interrupt)
    assert [path.name for path in sorted((tmp_path / "broken" / "blocks").iterdir())] == [
        f"{index:06d}.npz" for index in range(3)
    ]
    run(tmp_path / "broken", **UNTIL, threads=2)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "four") == hashes(tmp_path / "broken")
    refuse_to_work(monkeypatch)
    assert run(tmp_path / "one", **UNTIL).n_trials >= 8 * BLOCK
    assert hashes(tmp_path / "one") == hashes(tmp_path / "four")


def test_a_finished_run_again_says_so_and_touches_nothing(cli: Cli, tmp_path: Path) -> None:
    command = ("run", *SMALL, "--trials", "1000", "--no-report", "--out", "a")
    first = cli(*command)
    assert first.exit_code == 0 and "nothing was simulated" not in first.stderr
    before = {path: path.stat().st_mtime_ns for path in Path("a").rglob("*") if path.is_file()}
    again = cli(*command)
    assert again.exit_code == 0 and again.stdout == first.stdout
    assert "note: a held all 1,000 trials already; nothing was simulated\n" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in Path("a").rglob("*") if path.is_file()} == before
    block_path(Path("a"), 0).write_bytes(b"cut")
    mended = cli(*command)
    assert mended.exit_code == 0 and "nothing was simulated" not in mended.stderr
    assert "warning: a/blocks/000000.npz: is cut short, damaged or no block; it is computed again\n" in mended.stderr
    Path("a", "summary.csv").write_text("edited\n")
    assert "warning: a/summary.csv: was not what the blocks say" in cli(*command).stderr
    assert "edited" not in Path("a", "summary.csv").read_text()


# ------------------------------------------------------------------------------------------------- two processes


@pytest.mark.parametrize(
    "command",
    [("run", "--no-report"), ("sweep", "--over", "host.spares=0,4"), ("plan", "--require", "guest_lost_bytes <= 1MiB")],
)
def test_a_second_process_is_told_who_writes_there(cli: Cli, command: tuple[str, ...]) -> None:
    with hold(Path("a")):
        result = Context().run(cli, command[0], *SMALL, *command[1:], "--trials", "100", "--out", "a")
        assert [path.name for path in Path("a").iterdir()] == [LOCK_FILE]
    assert (result.exit_code, result.stdout) == (2, "")
    told = (
        rf"error: a: process {os.getpid()} on \S+ has been writing there since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC; "
    )
    assert re.fullmatch(told + "wait until it ends, end it, or choose another folder with --out\n", result.stderr)
    assert not Path("a").exists()  # nothing was written there


def test_a_report_waits_for_nobody_either(cli: Cli, tmp_path: Path) -> None:
    run(tmp_path / "a", trials=100)
    with hold(tmp_path / "a"):
        refused = Context().run(cli, "report", "a")
    assert refused.exit_code == 2 and "has been writing there since" in refused.stderr


def test_a_lock_that_says_nothing_is_one(tmp_path: Path) -> None:
    with hold(tmp_path):
        (tmp_path / LOCK_FILE).write_text("{")
        with pytest.raises(RunFolderError, match="another process is writing there; wait until it ends"):
            Context().run(run, tmp_path, 100)


def test_a_forked_worker_does_not_keep_the_lock(tmp_path: Path) -> None:
    with hold(tmp_path):
        [held] = lock._open
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(OSError):
                os.fstat(held)
                os._exit(1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert (tmp_path / LOCK_FILE).exists()


def test_a_lock_that_goes_while_it_is_waited_for_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever held it has removed its file since it was opened; what is locked must be the file that others see."""
    real, seen = lock.fcntl.flock, []

    def flock(descriptor: int, how: int) -> None:
        if not seen:
            (tmp_path / LOCK_FILE).unlink()
        seen.append(descriptor)
        real(descriptor, how)

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    with hold(tmp_path):
        assert (tmp_path / LOCK_FILE).read_text().startswith(f'{{"pid": {os.getpid()}, "host": ')
    assert len(seen) == 2 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["no lock manager", "no fcntl"])
def test_without_locks_it_goes_on_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    if how == "no fcntl":
        monkeypatch.setattr(lock, "fcntl", None)
    else:
        monkeypatch.setattr(lock.fcntl, "flock", fail)
    with pytest.warns(RunFolderNotice, match="its file system knows no locks"):
        run(tmp_path / "a", trials=100)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["blocks", "run.json", "summary.csv"]


# ------------------------------------------------------------------------------------------------- no room


def test_a_file_that_grows_too_large_loses_no_block(tmp_path: Path, hashes: Hashes) -> None:
    """A limit on the size of files stands in for a disk that is full, where none can be mounted."""
    run(tmp_path / "a", trials=2 * BLOCK)
    before = hashes(tmp_path / "a")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))
    try:
        with pytest.raises(RunFolderError) as caught:
            run(tmp_path / "a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert re.fullmatch(
        r".*/blocks/00000\d\.npz: cannot be written \(File too large\); what was written before is intact; make room "
        "and run the same command again, or choose another folder with `out`",
        str(caught.value),
    )
    assert hashes(tmp_path / "a") == before
    run(tmp_path / "a")
    run(tmp_path / "b")
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Mounts `tmp_path / "disk"`, of 32 KiB, and gives what sets its options anew; skips where that is not allowed."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o"]
    try:
        subprocess.run([*command, "size=32k", "none", disk], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small file system cannot be mounted here ({error})")
    yield lambda options: void(subprocess.run(["mount", "-o", f"remount,{options}", disk], check=True))
    subprocess.run(["umount", disk], check=True)


def void(_: object) -> None:
    """Nothing, of anything."""


def test_a_full_and_a_read_only_disk(
    cli: Cli, tmp_path: Path, hashes: Hashes, small_disk: Callable[[str], None]
) -> None:
    command = ("run", *SMALL, "--trials", TRIALS, "--no-report", "--out")
    full = cli(*command, "disk/a")
    assert (full.exit_code, full.stdout) == (2, "")
    assert "cannot be written (No space left on device); what was written before is intact; make room" in full.stderr
    kept = hashes(tmp_path / "disk" / "a")
    assert any(name.endswith(".npz") for name in kept) and not any(Path(name).name.startswith(".") for name in kept)
    small_disk("ro")
    for place in ("disk/a", "disk/b"):
        refused = cli(*command, place)
        assert refused.exit_code == 2 and f"error: {place}: cannot be written (Read-only file system)" in refused.stderr
    assert hashes(tmp_path / "disk" / "a") == kept
    small_disk("rw,size=8m")
    assert cli(*command, "disk/a").exit_code == cli(*command, "whole").exit_code == 0
    found = hashes(tmp_path / "disk" / "a")
    assert found == hashes(tmp_path / "whole") and kept.items() <= found.items()


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_that_may_not_be_written_to(cli: Cli, tmp_path: Path, hashes: Hashes) -> None:
    run(tmp_path / "a", trials=100)
    before = hashes(tmp_path / "a")
    (tmp_path / "a").chmod(0o555)
    refused = cli("run", *SMALL, "--out", "a/b")
    assert refused.exit_code == 2 and "cannot be written (Permission denied)" in refused.stderr
    with pytest.raises(RunFolderError, match="Permission denied"):
        run(tmp_path / "a", trials=200)
    (tmp_path / "a").chmod(0o755)
    assert hashes(tmp_path / "a") == before


# ------------------------------------------------------------------------------------------------- more trials


def test_a_plan_of_fewer_trials_leaves_one_of_more(tmp_path: Path, hashes: Hashes) -> None:
    given: dict[str, Any] = {
        "levels": ["guest_lost_bytes <= 1MiB"], "policies": ["hgm2m"], "hvo": ["kept"], "flips": False,
        "out": tmp_path / "a",
    }  # fmt: skip
    ps.plan(SCENARIO, trials=2000, **given)
    before = hashes(tmp_path / "a")
    with pytest.warns(
        RunFolderNotice, match="holds this plan from up to 2,000 trials and keeps it: its plan.csv is of"
    ):
        few = ps.plan(SCENARIO, trials=1000, **given)
    assert few.rows[0].measured.trials <= 1000
    after = hashes(tmp_path / "a")
    assert {name: after[name] for name in before} == before
    ps.plan(SCENARIO, trials=4000, **given)
    assert hashes(tmp_path / "a")["plan.csv"] != before["plan.csv"]


def test_a_finished_sweep_is_spoken_of_until_one_of_more_trials_is(tmp_path: Path) -> None:
    given: dict[str, Any] = {"over": {"host.spares": [0, 4]}, "policies": ["hgm2m"], "out": tmp_path / "a"}
    ps.sweep(SCENARIO, trials=200, **given)
    before = (tmp_path / "a" / "sweep.json").read_bytes()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ps.sweep(SCENARIO, trials=400, progress=stop, **given)
    assert (tmp_path / "a" / "sweep.json").read_bytes() == before and (tmp_path / "a" / "sweep.csv").exists()
    ps.sweep(SCENARIO, trials=400, **given)
    assert (tmp_path / "a" / "sweep.json").read_bytes() != before
