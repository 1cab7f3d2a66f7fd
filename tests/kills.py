"""Kills a run, a sweep or a plan again and again, goes on to the end each time, and compares with one never killed.

One process imports and compiles, and forks for every try, so that a kill costs a fraction of a second. Half of the
kills come at a random time, half right before a random step on the file system.

    python tests/kills.py [--seed 1] [run=100] [until=6] [sweep=6] [plan=6]
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import itertools
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import poisonsim.report.page as report_page
from poisonsim.cli import main
from poisonsim.engine import plan as engine_plan
from poisonsim.engine import run as engine_run

THREADS = 2
QUICK = [
    "seed-1t",
    "--threads",
    str(THREADS),
    "--years",
    "1",
    "--set",
    "horizon.grid=1year",
    "--set",
    "faults.errors=8",
]
JOBS = {
    "run": ["run", *QUICK, "--policy", "unmap1g", "--trials", "10000"],
    "until": ["run", *QUICK, "--policy", "unmap1g", "--until", "mean(guest_lost_bytes) within 0.1%", "--no-report"],
    "sweep": ["sweep", *QUICK, "--policy", "hgm2m", "--over", "host.spares=0,4", "--trials", "3000", "--no-report"],
    "plan": ["plan", *QUICK, "--policy", "hgm2m", "--hvo", "kept", "--require", "P(guest_lost_bytes > 31KiB) < 10%",
             "--trials", "12000", "--no-flips"],
}  # fmt: skip
"""A command line of each kind, of many small blocks."""
STAGES = ("before run.json", "among the blocks", "before the summary", "in the report")
"""When a run was killed, as its folder shows."""
_SEARCHED = ("open", "os.rename", "os.remove", "os.mkdir", "os.chmod", "os.scandir", "os.listdir")


def prepare() -> None:
    """Makes blocks small, notes each one that is computed, and draws no report: only that it is written matters."""
    real = engine_run.run_block
    engine_plan._ERRORS_PER_BLOCK = 1 << 12
    pictures = {name: name.encode() * 1000 for name in ("trade.png", "reach.png")}
    report_page.render = lambda result, command: (f"{command}: {result.n_trials} trials", pictures)

    def noted(plan: Any, *args: Any) -> Any:
        block = real(plan, *args)
        if computed := os.environ.get("COMPUTED"):
            with open(computed, "ab", buffering=0) as file:
                file.write(b"x")
        return block

    engine_run.run_block = noted


def run_here(job: str, folder: Path) -> int:
    """Runs a job in this process; its exit code, or 0 for a verdict against it (3), with which all is written."""
    sys.argv = ["poisonsim", *JOBS[job], "--out", str(folder)]
    try:
        main()
    except SystemExit as done:
        return 0 if done.code == 3 else int(done.code or 0)
    return 0


def attempt(
    job: str, folder: Path, log: Path, *, kill_at_step: int | None = None, kill_after: float | None = None
) -> tuple[int, int]:
    """Runs a job in a fork; its exit code, or the negative number of the signal that ended it, and steps that it took.

    Args:
        kill_at_step: Right before this step on a file below the folder.
        kill_after: After so many seconds.
    """
    steps_read, steps_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        numbers = itertools.count(1)

        def watch(event: str, args: tuple[Any, ...]) -> None:
            if event in _SEARCHED and any(str(arg).startswith(str(folder)) for arg in args):
                os.write(steps_write, b"x")
                if next(numbers) == kill_at_step:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        os.environ["COMPUTED"] = f"{log}.computed"
        os._exit(run_here(job, folder))
    os.close(steps_write)
    started = time.monotonic()
    while kill_after is not None and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() - started >= kill_after:
            os.kill(pid, signal.SIGKILL)
            break
        time.sleep(0.002)
    _, status = os.waitpid(pid, 0)
    with os.fdopen(steps_read, "rb") as taken:
        return os.waitstatus_to_exitcode(status), len(taken.read())


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by its path there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def kill_many(job: str, kills: int, seed: int, place: Path) -> Counter[str]:
    """Kills a job so many times, whatever number of runs that takes; how many kills fell into which stage.

    Raises:
        AssertionError: A run did not go on by itself, lost more than a block per thread, or came out different.
    """
    rng = random.Random(seed)
    folder, log, stages = place / "killed", place / "log", Counter[str]()
    computed = Path(f"{log}.computed")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        assert run_here(job, place / "compiled") == 0  # what is forked from here on need not do that again
    started = time.monotonic()
    code, n_steps = attempt(job, place / "unbroken", log)
    assert code == 0, log.read_text()
    seconds, unbroken = time.monotonic() - started, hashes(place / "unbroken")
    n_blocks = len(blocks_of(place / "unbroken"))
    rounds = 0
    while stages.total() < kills or folder.exists():
        computed.write_bytes(b"")
        before = len(blocks_of(folder))
        how: dict[str, Any] = {}
        if stages.total() < kills:
            at_step = stages.total() % 2 == 0
            how = {"kill_at_step": rng.randint(1, n_steps)} if at_step else {"kill_after": rng.uniform(0, seconds)}
        code, _ = attempt(job, folder, log, **how)
        told = log.read_text()
        assert code in (0, -signal.SIGKILL) and "computed again" not in told and "damaged" not in told, told
        if code == 0:
            if "kill_after" in how:  # it came too late
                seconds = min(seconds, how["kill_after"])
            assert hashes(folder) == unbroken, sorted(set(hashes(folder).items()) ^ set(unbroken.items()))
            shutil.rmtree(folder)
            rounds += 1
            continue
        lost = before + computed.stat().st_size - len(blocks_of(folder))
        assert lost <= (THREADS if job != "until" else 2 * n_blocks), f"{lost} blocks were computed and lost"
        stages[stage_of(folder, n_blocks)] += 1
    stages["runs"] = rounds
    return stages


def blocks_of(folder: Path) -> list[Path]:
    """Whole blocks below a folder."""
    return list(folder.rglob("[0-9]*.npz"))


def stage_of(folder: Path, n_blocks: int) -> str:
    """How far a run was when it was killed."""
    if not any(folder.glob("*.json")):
        return STAGES[0]
    if len(blocks_of(folder)) < n_blocks:
        return STAGES[1]
    return STAGES[3] if any(folder.glob("*.csv")) else STAGES[2]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kills", nargs="*", default=["run=100", "until=6", "sweep=6", "plan=6"], metavar="JOB=N")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    prepare()
    for asked in given.kills:
        name, _, number = asked.partition("=")
        with tempfile.TemporaryDirectory() as where:
            found = kill_many(name, int(number), given.seed, Path(where).resolve())
        n_runs = found.pop("runs")
        told = ", ".join(f"{found[stage]} {stage}" for stage in STAGES)
        print(f"{found.total()} kills of {name}, {n_runs} times gone on to the same bytes: {told}", flush=True)
    print(f"{sum(os.times()[:4]):.0f} s of CPU", file=sys.stderr)
