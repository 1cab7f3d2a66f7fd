"""Workers in other processes, Dask's among them: the same bytes as one thread, whoever dies, and none that differs."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result as CliResult

import poisonsim as ps
from poisonsim.engine import cluster as engine_cluster
from poisonsim.engine import order as engine_order
from poisonsim.engine import remote
from poisonsim.engine.cluster import cluster
from poisonsim.engine.order import compute, difference, environment, write_order
from poisonsim.engine.store import packed, unpacked, write_whole
from poisonsim.errors import PolicyError, ScenarioError, WorkerError
from poisonsim.results.result import Result
from poisonsim.results.runs import execute, plan_run
from poisonsim.scenario import CountFaults, Horizon, Scenario

Cli = Callable[..., CliResult]
Hashes = Callable[[Path], dict[str, str]]

# Many errors per trial make small blocks; a region of its own for each, and a coarse grid, make few different states.
SCENARIO = Scenario(
    faults=CountFaults(errors=1000, placement="distinct-regions"), horizon=Horizon(years=2, grid="6months")
)
POLICIES = ["unmap1g", "hgm2m", "migrate1g:spares=2"]
PLAN = plan_run(SCENARIO, policies=POLICIES, seed=3)
BLOCK = PLAN.block_trials
TRIALS = 30 * BLOCK + BLOCK // 3
DECIDE = """class Mine(Policy):
    \"\"\"In code.\"\"\"

    @staticmethod
    def decide(c, p):
        return UNMAP if c.leaf_level == c.base_level else SPLIT
"""

# Quantiles are not what these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore::poisonsim.errors.FewTailTrials")


def run(out: Path | None, trials: int = TRIALS, **changes: Any) -> Result:
    """The run of this file."""
    return execute(PLAN, trials=trials, out=out, **changes)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of that run on one thread."""
    folder = tmp_path_factory.mktemp("workers") / "run"
    run(folder, threads=1)
    return folder


@pytest.fixture(scope="module")
def forks() -> Any:
    """How processes are started: forked from one that has loaded all they need."""
    import dask
    from distributed.utils import get_mp_context

    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        get_mp_context()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["distributed", "poisonsim.engine.order"])
        yield context


@pytest.fixture(scope="module")
def dask_cluster(forks: Any) -> Iterator[Any]:
    """Three workers of one thread each, which are started again when they die."""
    from distributed import LocalCluster

    made = LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address=None, silence_logs=50, host="127.0.0.1")
    yield made
    # Closing waits for a lock of distributed's event loop, now and then for ever.
    closing = threading.Thread(target=made.close, daemon=True)
    closing.start()
    closing.join(timeout=60)


@pytest.fixture
def dask(dask_cluster: Any) -> Iterator[Executor]:
    """An executor on them, as a user makes one."""
    from distributed import Client

    with Client(dask_cluster.scheduler_address, set_as_default=False) as client:
        yield client.get_executor()


@pytest.fixture
def short_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few blocks per task, so that there are some."""
    monkeypatch.setattr(remote, "TASK_SECONDS", 0.1)


class Inline(Executor):
    """Computes in this thread when asked, as an executor of any other kind would elsewhere."""

    def __init__(self) -> None:
        self.orders: list[str] = []
        self.n_blocks: list[int] = []
        self._max_workers = 2

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.orders.append(args[0])
        self.n_blocks.append(len(args[2]))
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


# ------------------------------------------------------------------------------------------------ the same bytes


def test_three_dask_workers_write_what_one_thread_does(
    dask: Executor, made: Path, tmp_path: Path, hashes: Hashes, short_tasks: None
) -> None:
    result = run(tmp_path / "run", executor=dask)
    assert hashes(tmp_path / "run") == hashes(made)
    assert result.summary().equals(ps.open_run(made).summary())


@pytest.mark.parametrize("command", ["run", "sweep", "plan"])
def test_the_command_line_prints_the_same_with_a_cluster(
    dask_cluster: Any, cli: Cli, hashes: Hashes, command: str
) -> None:
    words = {
        "run": ["--policy", "hgm2m", "--until", "mean(table_bytes) within 1%", "--no-report", "--trials", "30000"],
        "sweep": ["--policy", "hgm2m", "--over", "host.spares=0,4", "--over", "host.cpu=zen4,zen5", "--no-report"],
        "plan": ["--policy", "hgm2m", "--policy", "unmap1g", "--require", "guest_lost_bytes <= 1GiB", "--no-flips"],
    }[command]
    few = [] if command == "run" else ["--trials", "1000"]
    alone = cli(command, "seed-1t-distinct", *words, *few, "--json", "--out", "alone")
    spread = cli(
        command, "seed-1t-distinct", *words, *few, "--json", "--out", "spread",
        "--cluster", dask_cluster.scheduler_address,
    )  # fmt: skip
    assert (alone.exit_code, spread.exit_code) == (0, 0), spread.stderr
    assert spread.stdout == alone.stdout
    assert hashes(Path("spread")) == hashes(Path("alone"))


def test_workers_that_are_killed_change_nothing(
    dask_cluster: Any, dask: Executor, made: Path, tmp_path: Path, hashes: Hashes, short_tasks: None
) -> None:
    """Six SIGKILLs at random moments; a task that has lost four workers stops the run, which then goes on."""
    rng, killed, over = random.Random(20261129), [], threading.Event()

    def kill() -> None:
        while len(killed) < 6 and not over.wait(rng.uniform(0.05, 0.5)):
            pid = rng.choice(list(dask_cluster.workers.values())).pid
            with contextlib.suppress(ProcessLookupError, TypeError):  # it has just died
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        for _ in range(20):
            try:
                run(tmp_path / "run", executor=dask)
                break
            except WorkerError as error:
                assert f"finished blocks are kept in {tmp_path / 'run'}" in str(error)
    finally:
        over.set()
        killer.join()
    assert len(killed) >= 2
    assert hashes(tmp_path / "run") == hashes(made)


def test_blocks_that_are_there_are_not_asked_for_again(made: Path, tmp_path: Path, hashes: Hashes) -> None:
    blocks = sorted((made / "blocks").iterdir())
    (tmp_path / "run" / "blocks").mkdir(parents=True)
    for block in [*blocks[:3], *blocks[5:29]]:
        (tmp_path / "run" / "blocks" / block.name).write_bytes(block.read_bytes())
    (tmp_path / "run" / "blocks" / blocks[10].name).write_bytes(blocks[11].read_bytes())  # a foreign one
    (tmp_path / "run" / "run.json").write_bytes((made / "run.json").read_bytes())
    executor = Inline()
    with pytest.warns(ps.errors.DamagedBlock, match="000010.npz: is block 11 under another name"):
        run(tmp_path / "run", executor=executor)
    assert sum(executor.n_blocks) == len(blocks) - 26
    assert hashes(tmp_path / "run") == hashes(made)


def test_fewer_trials_do_not_touch_the_last_block_of_a_longer_run(made: Path, tmp_path: Path, hashes: Hashes) -> None:
    run(tmp_path / "run", trials=2 * BLOCK, executor=Inline())
    before = hashes(tmp_path / "run" / "blocks")
    with pytest.warns(ps.errors.RunFolderNotice, match="keeps them"):
        run(tmp_path / "run", trials=2 * BLOCK - 5, executor=Inline())
    assert hashes(tmp_path / "run" / "blocks") == before


def test_without_a_folder_no_files_are_made(made: Path) -> None:
    result = run(None, trials=3 * BLOCK, executor=Inline())
    assert result.summary().equals(run(None, trials=3 * BLOCK, threads=1).summary())
    done = compute(write_order(PLAN), 0, [5, 5], merge=True, pack=False)
    assert done.files == () and done.tally is not None and done.tally.n_trials == 10


def test_tasks_grow_until_they_take_a_second_and_shrink_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """With blocks that are said to take 20 ms, on two workers."""
    plan = plan_run(SCENARIO, policies=["unmap1g"], seed=3)
    one = compute(write_order(plan), 0, [1], merge=True, pack=False)
    monkeypatch.setattr(remote, "compute", lambda order, first, sizes, **_: one._replace(seconds=0.02 * len(sizes)))
    executor = Inline()
    execute(plan, trials=300 * BLOCK, executor=executor)
    assert sum(executor.n_blocks) == 300
    assert executor.n_blocks[:6] == [1] * 6 and max(executor.n_blocks) == 50
    assert executor.n_blocks[-1] <= 2


def test_a_block_comes_back_from_its_file_and_a_damaged_one_does_not(made: Path) -> None:
    block = engine_order.run_block(PLAN, 1, BLOCK)
    file = packed(PLAN.run_id, block)
    assert file == (made / "blocks" / "000001.npz").read_bytes()
    back = unpacked(file, PLAN.run_id, 1)
    assert back is not None and back.n_trials == BLOCK and (back.counts[0] == block.counts[0]).all()
    assert unpacked(file[:-100], PLAN.run_id, 1) is None
    assert unpacked(file, "of another run", 1) is None


# --------------------------------------------------------------------------------- what the workers do not have


def test_a_worker_needs_no_policy_file(dask: Executor, policy_file: Callable[..., str]) -> None:
    """Neither of rules nor of code: both are gone before anything is computed."""
    rules = (
        'class Two(Policy):\n    """Rules."""\n\n'
        "    rules = [on(BACKING, when='hits_in_vm <= 2').do(KEEP), on(BACKING).do(UNMAP)]\n"
    )
    files = [policy_file(DECIDE), policy_file(rules, name="two")]
    plan = plan_run(SCENARIO, policies=[f"{files[0]}:Mine", files[1]], seed=3)
    expected = execute(plan, trials=100, threads=1)
    for file in files:
        Path(file).unlink()
    assert execute(plan, trials=100, executor=dask).summary().equals(expected.summary())


def test_a_worker_needs_no_file_that_the_scenario_names(
    dask: Executor, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {
        "faults.table": "ddr4-alibaba",
        "faults.dimm": "ddr4-32g-2rx4",
        "faults.map": "skx-open-6ch",
        "host.cpu": "zen4",
    }
    for key, name in names.items():
        Path(f"{key}.toml").write_text(cli("catalog", "show", name, "--toml").stdout)
    overrides = [f"{key}=./{key}.toml" for key in names]
    overrides[2] += ":ranks=4"
    plan = plan_run(ps.load_scenario("cloud-1t-ddr4", overrides=overrides), policies=["hgm2m"])
    order = json.loads(write_order(plan))
    assert sorted(order["files"]) == sorted(f"./{key}.toml" for key in names)
    expected = execute(plan, trials=1000, threads=1).summary()
    assert execute(plan, trials=1000, executor=dask).summary().equals(expected)  # their directory is another
    Path("faults.table.toml").unlink()
    with pytest.raises(ScenarioError, match=r"^\./faults\.table\.toml: cannot be read: No such file"):
        write_order(plan)


def test_a_class_in_code_is_refused_before_anything_is_computed() -> None:
    class Coded(ps.Policy):
        """In code, without a file."""

        @staticmethod
        def decide(c: Any, p: Any) -> int:
            return 1

    executor = Inline()
    with pytest.raises(PolicyError, match="policy coded answers in code and was given as a class, which cannot travel"):
        ps.run(SCENARIO, policies=[Coded], trials=10, executor=executor)
    assert executor.orders == []


def test_what_travels_is_text_without_code_objects(policy_file: Callable[..., str]) -> None:
    path = policy_file(DECIDE)
    order = json.loads(write_order(plan_run(SCENARIO, policies=[path, "hgm2m"], seed=3)))
    assert order["policies"][0]["source"] == Path(path).read_text() and order["policies"][1]["source"] == ""
    assert set(order) == {"environment", "run_id", "seed", "scenario", "policies", "files"}


def test_a_decide_that_answers_wrongly_is_the_same_error_as_here(
    dask: Executor, policy_file: Callable[..., str]
) -> None:
    path = policy_file(DECIDE.replace("UNMAP if c.leaf_level == c.base_level else SPLIT", "99"))
    with pytest.raises(PolicyError, match="policy mine: decide answered 99 for a 1G leaf in trial 0"):
        ps.run(SCENARIO, policies=[path], trials=10, executor=dask)


# ------------------------------------------------------------------------------------------- workers that differ


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"poisonsim": "0.0.9"}, "has poisonsim 0.0.9, where this process has "),
        ({"numpy": "1.26.4", "numba": "0.61"}, "has numpy 1.26.4, numba 0.61, where this process has numpy "),
        ({"streams": "2", "sources": "x"}, "has streams 2, where this process has 4; install the same versions there"),
        ({"sources": "x", "rounding": "y"}, "has other code of poisonsim "),
        ({"rounding": "y"}, "rounds floats otherwise than this process (processor or C library); leave it out"),
        ({}, ""),
    ],
)
def test_a_worker_that_would_compute_something_else_is_told_apart(changes: dict[str, str], said: str) -> None:
    told = difference(environment(), {**environment(), **changes})
    assert told.startswith(said) and bool(told) == bool(said)


def test_a_cluster_of_another_version_is_refused_with_its_workers(
    dask_cluster: Any, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_cluster, "difference", lambda here, there: difference({**here, "numpy": "9.9"}, there))
    done = cli("run", "-p", "hgm2m", "--out", "x", "--cluster", dask_cluster.scheduler_address)
    assert (done.exit_code, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert len(lines) == 3 and not Path("x").exists()
    for line, worker in zip(lines, sorted(dask_cluster.scheduler.workers), strict=True):
        version = environment()["numpy"]
        assert line.startswith(f"error: worker {worker} has numpy {version}, where this process has 9.9; install")


def test_a_worker_that_joins_later_is_refused_by_itself(dask: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    other = {**environment(), "poisonsim": "9.9"}
    monkeypatch.setattr(engine_order, "environment", lambda: other)
    with pytest.raises(WorkerError) as caught:
        run(None, executor=dask)
    assert str(caught.value).startswith("worker tcp://127.0.0.1:")
    assert " has poisonsim 0." in str(caught.value) and "where this process has 9.9" in str(caught.value)
    assert "nothing is kept, as the run has no folder" in str(caught.value)


def test_a_worker_that_reads_another_run_out_of_it_refuses() -> None:
    order = json.loads(write_order(PLAN))
    order["scenario"]["host"]["spares"] = 7
    with pytest.raises(WorkerError, match="process .* reads another run out of the same plan"):
        compute(json.dumps(order), 0, [1], merge=True, pack=False)
    order["scenario"]["host"]["cpu"] = "./gone.toml"
    with pytest.raises(WorkerError, match="process .* cannot take the run: .*gone.toml"):
        compute(json.dumps(order), 0, [1], merge=True, pack=False)


# ----------------------------------------------------------------------------------------- what breaks on the way


def test_a_pool_that_breaks_keeps_what_is_finished(
    forks: Any, made: Path, tmp_path: Path, hashes: Hashes, short_tasks: None
) -> None:
    with ProcessPoolExecutor(2, mp_context=forks) as pool:

        def kill(done: int, wanted: int, tally: object) -> None:
            with contextlib.suppress(ProcessLookupError, StopIteration):  # it is dead already
                os.kill(next(iter(pool._processes)), signal.SIGKILL)

        with pytest.raises(WorkerError) as caught:
            run(tmp_path / "run", executor=pool, progress=kill)
    assert str(caught.value).startswith("a process of the executor died (killed, or out of memory")
    assert f"finished blocks are kept in {tmp_path / 'run'}, and the same run goes on from there on a new" in str(
        caught.value
    )
    assert list((tmp_path / "run" / "blocks").iterdir())
    with pytest.raises(WorkerError, match="a process of the executor died"):
        run(tmp_path / "run", executor=pool)
    run(tmp_path / "run", executor=Inline())
    assert hashes(tmp_path / "run") == hashes(made)


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


def test_a_scheduler_that_is_lost_keeps_what_is_finished(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, hashes: Hashes, short_tasks: None
) -> None:
    """First it has no worker; then it has one, and is killed once a block is there."""
    monkeypatch.setattr(engine_cluster, "_WORKERS_SECONDS", 0.2)
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    words = ["run", "seed-1t-distinct", "-p", "hgm2m", "--trials", "60000", "--no-report", "--out", "x"]
    monkeypatch.setattr(sys, "argv", ["poisonsim", *words, "--cluster", address])
    started = [dask_process("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")]
    try:
        while socket.socket().connect_ex(("127.0.0.1", port)):
            time.sleep(0.1)
        lonely = cli(*words, "--cluster", address)
        assert lonely.exit_code == 2 and not Path("x").exists()
        assert (
            f"error: the scheduler at {address} has no workers after 0 s; start some with `dask worker" in lonely.stderr
        )
        monkeypatch.setattr(engine_cluster, "_WORKERS_SECONDS", 60.0)
        started.append(dask_process("worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"))

        def write(path: Path, data: bytes) -> None:
            write_whole(path, data)
            started[0].kill()

        monkeypatch.setattr(remote, "write_whole", write)
        lost = cli(*words, "--cluster", address)
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert (lost.exit_code, lost.stdout) == (2, ""), lost.output
    assert lost.stderr == (
        "error: the scheduler was lost, or the executor was shut down; finished blocks are kept in x, and the same run "
        f"goes on from there; go on with:\n  poisonsim {' '.join(words)} --cluster {address}\n"
    )
    there = hashes(Path("x") / "blocks")
    assert 0 < len(there) < 60000 // 2048
    assert cli(*words).exit_code == 0
    assert cli(*words[:-1], "y").exit_code == 0
    assert hashes(Path("x")) == hashes(Path("y"))
    assert there.items() <= hashes(Path("x") / "blocks").items()


def dask_process(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "dask", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def test_a_cluster_that_loses_all_workers_for_long_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Client:
        def nthreads(self) -> dict[str, int]:
            return {}

    class Deserted(Inline):
        _client = Client()

        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            return Future()

    monkeypatch.setattr(remote, "_LOOKS", 0.01)
    monkeypatch.setattr(remote, "_PATIENCE", 0.05)
    with pytest.raises(WorkerError, match="the cluster has had no workers for 0 s; start some; finished blocks"):
        run(tmp_path / "run", executor=Deserted())


# --------------------------------------------------------------------------------------------------- bad inputs


@pytest.mark.parametrize(
    "address", ["", "scheduler", "scheduler:8786", "tcp://scheduler", "tcp://:8786", "tcp://a:0", "tcp://a:65536",
                "http://a:8786", "inproc://1", "tcp://a:8786/x", "tcp://a b:1", "x" * 5000, "tcp://\n:1"],
)  # fmt: skip
def test_what_is_no_address_is_refused(cli: Cli, address: str) -> None:
    done = cli("run", "-p", "hgm2m", "--out", "x", "--cluster", address)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.endswith("is no address of a Dask scheduler; write it as tcp://scheduler:8786\n")
    assert len(done.stderr) < 200 and done.stderr.count("\n") == 1 and not Path("x").exists()


@pytest.mark.parametrize("command", ["run", "sweep", "plan"])
def test_an_address_where_nobody_is_is_refused_within_seconds(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    assert engine_cluster._CONNECT_SECONDS <= 5
    monkeypatch.setattr(engine_cluster, "_CONNECT_SECONDS", 0.2)
    more = {"run": [], "sweep": ["--over", "host.spares=0,1"], "plan": ["--require", "vm_lost <= 1%"]}[command]
    address = f"tcp://127.0.0.1:{free_port()}"
    done = cli(command, "seed-1t", "-p", "hgm2m", *more, "--out", "x", "--cluster", address)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: no Dask scheduler answers at {address} (") and "Traceback" not in done.stderr
    assert f"start one with `dask scheduler`, and workers with `dask worker {address}`\n" in done.stderr
    assert not Path("x").exists()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n" * 9, b"\0" * 400, b""])
def test_a_server_of_another_kind_is_refused(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    monkeypatch.setattr(engine_cluster, "_CONNECT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = server.accept()
                    peer.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        with (
            pytest.raises(WorkerError, match=r"^no Dask scheduler answers at tcp://127.0.0.1"),
            cluster(f"tcp://127.0.0.1:{server.getsockname()[1]}"),
        ):
            pass


def test_without_dask_the_error_says_what_to_install(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    done = cli("run", "-p", "hgm2m", "--cluster", "tcp://127.0.0.1:8786")
    assert done.exit_code == 2 and done.stderr.startswith("error: a cluster needs Dask, which is not installed (")
    assert done.stderr.endswith("; pip install 'dask[distributed]'\n")


def test_a_cluster_has_threads_of_its_own(cli: Cli) -> None:
    done = cli("run", "-p", "hgm2m", "--cluster", "tcp://127.0.0.1:8786", "--threads", "2")
    assert done.exit_code == 2 and done.stderr.startswith("error: --cluster and --threads exclude each other")


def test_an_executor_that_is_shut_down_is_refused(tmp_path: Path) -> None:
    pool = ProcessPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(WorkerError, match="the executor was shut down; finished blocks are kept in"):
        run(tmp_path / "run", executor=pool)


@pytest.mark.parametrize("executor", ["threads", 2, object, ProcessPoolExecutor])
def test_what_is_no_executor_is_refused(executor: Any) -> None:
    with pytest.raises(ScenarioError, match=r"^executor = .* is no concurrent\.futures\.Executor; give one"):
        run(None, executor=executor)


def test_dask_is_loaded_where_it_is_used_only() -> None:
    work = "import sys, poisonsim as ps; ps.run('seed-1t', policies=['unmap1g'], trials=10)"
    code = f"{work}; print('dask' in sys.modules, 'distributed' in sys.modules)"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
