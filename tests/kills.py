"""Kills a run, a sweep, a plan or a fleet again and again, goes on each time, and compares with one never killed.

One process imports and compiles, and forks for every try, so that a kill costs a fraction of a second. Half of the
kills come at a random time, half right before a random step on the file system. On a cluster most of them strike
workers, which are replaced after a while, and some the run itself.

    python tests/kills.py [--seed 1] [run=100] [until=6] [sweep=6] [plan=6] [fleet=6] [cluster=100]
"""

from __future__ import annotations

import argparse
import asyncio
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import poisonsim.report.page as report_page
from poisonsim.cli import main
from poisonsim.engine import plan as engine_plan
from poisonsim.engine import remote
from poisonsim.engine import run as engine_run
from poisonsim.engine.order import environment

THREADS = 2
ON_CLUSTER = ["seed-1t", "--years", "1", "--set", "horizon.grid=1year", "--set", "faults.errors=8"]
QUICK = [*ON_CLUSTER, "--threads", str(THREADS)]
FLEET = """[[fleet]]
scenario = "seed-1t"
vms = 10
set = { faults.errors = 8, horizon.grid = "1year" }

[[fleet]]
name = "new"
scenario = "seed-1t"
vms = 30
set = { faults.errors = 9, horizon.grid = "1year" }
"""
JOBS = {
    "run": ["run", *QUICK, "--policy", "unmap1g", "--trials", "10000"],
    "until": ["run", *QUICK, "--policy", "unmap1g", "--until", "mean(guest_lost_bytes) within 0.1%", "--no-report"],
    "sweep": ["sweep", *QUICK, "--policy", "hgm2m", "--over", "host.spares=0,4", "--trials", "3000", "--no-report"],
    "plan": ["plan", *QUICK, "--policy", "hgm2m", "--hvo", "kept", "--require", "P(guest_lost_bytes > 31KiB) < 10%",
             "--trials", "12000", "--no-flips"],
    "fleet": ["fleet", "hosts.toml", "--threads", str(THREADS), "--years", "1", "--policy", "hgm2m", "--trials", "3000",
              "--no-report"],
    "cluster": ["run", *ON_CLUSTER, "--policy", "hgm2m", "--policy", "migrate1g", "--trials", "100000", "--no-report"],
}  # fmt: skip
"""A command line of each kind, of many small blocks; `hosts.toml` lies beside the folder."""
WORKERS = 3
STAGES = ("before run.json", "among the blocks", "before the summary", "in the report")
"""When a run was killed, as its folder shows."""
_SEARCHED = ("open", "os.rename", "os.remove", "os.mkdir", "os.chmod", "os.scandir", "os.listdir")


def prepare() -> None:
    """Makes blocks small, notes each one that is computed, and draws no report: only that it is written matters."""
    real = engine_run.run_block
    engine_plan._ERRORS_PER_BLOCK = 1 << 12
    remote.TASK_SECONDS = 0.05
    pictures = {name: name.encode() * 1000 for name in ("trade.png", "reach.png")}
    report_page.render = lambda result, command, vms: (f"{command}: {result.n_trials} trials", pictures)

    def noted(plan: Any, *args: Any) -> Any:
        block = real(plan, *args)
        if computed := os.environ.get("COMPUTED"):
            with open(computed, "ab", buffering=0) as file:
                file.write(b"x")
        return block

    engine_run.run_block = noted


def run_here(job: str, folder: Path, *more: str) -> int:
    """Runs a job in this process; its exit code, or 0 for a verdict against it (3), with which all is written."""
    os.chdir(folder.parent)
    Path("hosts.toml").write_text(FLEET)
    sys.argv = ["poisonsim", *JOBS[job], *more, "--out", str(folder)]
    try:
        main()
    except SystemExit as done:
        return 0 if done.code == 3 else int(done.code or 0)
    return 0


def attempt(
    job: str, folder: Path, log: Path, *more: str, kill_at_step: int | None = None, kill_after: float | None = None,
    meanwhile: Callable[[int], None] = lambda pid: None,
) -> tuple[int, int]:  # fmt: skip
    """Runs a job in a fork; its exit code, or the negative number of the signal that ended it, and steps that it took.

    Args:
        kill_at_step: Right before this step on a file below the folder.
        more: Words for its command line.
        kill_after: After so many seconds.
        meanwhile: Called with its process again and again as long as it runs.
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
        os._exit(run_here(job, folder, *more))
    os.close(steps_write)
    started = time.monotonic()
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if kill_after is not None and time.monotonic() - started >= kill_after:
            os.kill(pid, signal.SIGKILL)
            break
        meanwhile(pid)
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


class Cluster:
    """A Dask scheduler and workers, each a fork of this process."""

    def __init__(self, n_workers: int) -> None:
        self.workers: list[int] = []
        reader, writer = os.pipe()
        self._scheduler = self._fork(self._schedule, writer)
        os.close(writer)
        with os.fdopen(reader) as said:
            self.address = said.readline().strip()
        for _ in range(n_workers):
            self.add()

    @classmethod
    @contextlib.contextmanager
    def of(cls, n_workers: int) -> Iterator[Cluster]:
        """One that lasts as long as the context."""
        made = cls(n_workers)
        try:
            yield made
        finally:
            for pid in [*made.workers, made._scheduler]:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    def add(self) -> None:
        """Starts one more worker, of one thread."""
        self.workers.append(self._fork(self._work))

    def kill(self, which: int) -> None:
        """Kills a worker."""
        pid = self.workers.pop(which)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    async def _schedule(self, writer: int) -> None:
        from distributed import Scheduler

        async with Scheduler(host="127.0.0.1", port=0, dashboard=False) as scheduler:
            os.write(writer, f"{scheduler.address}\n".encode())
            os.close(writer)
            await scheduler.finished()

    async def _work(self) -> None:
        from distributed import Worker

        async with Worker(self.address, host="127.0.0.1", nthreads=1, dashboard=False) as worker:
            await worker.finished()

    @staticmethod
    def _fork(target: Callable[..., Any], *args: Any) -> int:
        pid = os.fork()
        if pid:
            return pid
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            asyncio.run(target(*args))
        finally:
            os._exit(1)


def kill_on_cluster(kills: int, seed: int, place: Path) -> Counter[str]:
    """Kills workers of runs on a cluster, and every fifth time the run itself; how many kills struck what.

    Raises:
        AssertionError: A run failed but for a task that has lost too many workers, or came out different from one on
            one thread.
    """
    import distributed  # noqa: F401 - before anything is forked

    rng = random.Random(seed)
    folder, log, struck = place / "killed", place / "log", Counter[str]()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        assert run_here("cluster", place / "unbroken", "--threads", "1") == 0
    unbroken, dead = hashes(place / "unbroken"), list[float]()  # when each of the missing workers comes back
    environment()  # what each worker would have to work out
    with Cluster.of(WORKERS) as cluster:
        assert attempt("cluster", place / "whole", log, "--cluster", cluster.address)[0] == 0, log.read_text()
        assert hashes(place / "whole") == unbroken
        due = time.monotonic()

        def strike(pid: int) -> None:
            nonlocal due
            now = time.monotonic()
            while dead and now >= dead[0]:
                dead.pop(0)
                cluster.add()
            if now < due or struck.total() >= kills:
                return
            due = now + rng.uniform(0.05, 0.8)
            if rng.randrange(5) == 0:
                os.kill(pid, signal.SIGKILL)
                struck["of the run"] += 1
            elif cluster.workers:
                cluster.kill(rng.randrange(len(cluster.workers)))
                struck["of workers"] += 1
                dead.append(now + rng.uniform(0, 0.5))
                dead.sort()

        rounds = given_up = 0
        while struck.total() < kills or folder.exists():
            due = time.monotonic() + rng.uniform(0, 0.8)
            code, _ = attempt("cluster", folder, log, "--cluster", cluster.address, meanwhile=strike)
            told = log.read_text()
            assert code in (0, 2, -signal.SIGKILL) and "computed again" not in told and "damaged" not in told, told
            if code == 2:
                assert "finished blocks are kept" in told or "no workers" in told, told
                given_up += 1
            if code == 0:
                assert hashes(folder) == unbroken, sorted(set(hashes(folder).items()) ^ set(unbroken.items()))
                shutil.rmtree(folder)
                rounds += 1
    return struck + Counter({"runs": rounds, "given up": given_up})


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
    every = ["run=100", "until=6", "sweep=6", "plan=6", "fleet=6", "cluster=100"]
    parser.add_argument("kills", nargs="*", default=every, metavar="JOB=N")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    prepare()
    for asked in given.kills:
        name, _, number = asked.partition("=")
        with tempfile.TemporaryDirectory() as where:
            at = Path(where).resolve()
            on_cluster = name == "cluster"
            found = kill_on_cluster(int(number), given.seed, at) if on_cluster else kill_many(
                name, int(number), given.seed, at
            )  # fmt: skip
            os.chdir("/")
        n_runs, n_given_up = found.pop("runs"), found.pop("given up", 0)
        told = ", ".join(
            f"{found[stage]} {stage}" for stage in (("of workers", "of the run") if on_cluster else STAGES)
        )
        if on_cluster:
            told += f"; {n_given_up} times a run gave up, and was gone on with"
        print(f"{found.total()} kills of {name}, {n_runs} times gone on to the same bytes: {told}", flush=True)
    print(f"{sum(os.times()[:4]):.0f} s of CPU", file=sys.stderr)
