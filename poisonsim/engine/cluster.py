"""A Dask cluster as an executor, refused before anything is computed where it cannot be used."""

from __future__ import annotations

import logging
import re
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from poisonsim.engine.order import difference, environment
from poisonsim.errors import WorkerError, shown

if TYPE_CHECKING:
    from distributed import Client

_ADDRESS = re.compile(r"(tcp|tls)://(\[[0-9a-fA-F:.]+\]|[\w.-]+):(\d{1,5})")
_CONNECT_SECONDS = 5.0
_WORKERS_SECONDS = 10.0
_MOST_TOLD = 10  # workers that are named


@contextmanager
def cluster(address: str) -> Iterator[Executor]:
    """An executor whose tasks run on the workers of a Dask scheduler, while it lasts.

    Args:
        address: Such as `"tcp://scheduler:8786"`.

    Raises:
        WorkerError: No address, Dask is not installed, no scheduler or no worker answers within seconds, or a worker
            would compute something else.

    Examples:
        >>> with cluster("scheduler"):
        ...     pass
        Traceback (most recent call last):
        ...
        poisonsim.errors.WorkerError: 'scheduler' is no address of a Dask scheduler; write it as tcp://scheduler:8786
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or not 0 < int(match[3]) < 65536:
        raise WorkerError(f"{shown(address)} is no address of a Dask scheduler; write it as tcp://scheduler:8786")
    try:
        from distributed import Client
    except ImportError as error:
        raise WorkerError(
            f"a cluster needs Dask, which is not installed ({error}); pip install 'dask[distributed]'"
        ) from None
    log = logging.getLogger("distributed")
    level = log.level
    log.setLevel(logging.CRITICAL)  # what matters is raised
    try:
        client = _connect(Client, address)
        try:
            _check(client, address)
            yield client.get_executor(pure=False)
        finally:
            with suppress(Exception):  # a scheduler that is gone has nothing to be told
                client.close(timeout=2)
    finally:
        log.setLevel(level)


def _connect(client: type[Client], address: str) -> Client:
    """A client of a scheduler.

    It is made on a thread that can be left behind, for Dask waits for ever on a peer that takes connections and is
    silent.
    """
    made: Future[Client] = Future()

    def make() -> None:
        try:
            made.set_result(client(address, timeout=_CONNECT_SECONDS, set_as_default=False))
        except Exception as error:  # what does not speak Dask's protocol is answered with errors of any kind
            made.set_exception(error)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # versions of what poisonsim does not use
        threading.Thread(target=make, name="poisonsim-connect", daemon=True).start()
        try:
            return made.result(2 * _CONNECT_SECONDS)
        except Exception as error:
            reason = _one_line(error) or "it takes connections and is silent"
    raise WorkerError(
        f"no Dask scheduler answers at {address} ({reason}); start one with `dask scheduler`, and workers with "
        f"`dask worker {address}`"
    )


def _check(client: Client, address: str) -> None:
    """Refuses a cluster without workers, and workers that would compute something else."""
    ends, answers = time.monotonic() + _WORKERS_SECONDS, dict[str, Any]()
    try:
        while not answers:
            client.wait_for_workers(1, timeout=max(ends - time.monotonic(), 0.1))
            told = client.run(environment, on_error="return")
            # a worker that died meanwhile, which Dask tells by what became of its connection, is none
            answers = {worker: there for worker, there in told.items() if not isinstance(there, OSError)}
            if not answers and time.monotonic() > ends:
                raise TimeoutError
    except TimeoutError:
        raise WorkerError(
            f"the scheduler at {address} has no workers after {_WORKERS_SECONDS:.0f} s; start some with "
            f"`dask worker {address}`"
        ) from None
    except Exception as error:
        raise WorkerError(f"the cluster at {address} failed: {_one_line(error)}") from None
    here, problems = environment(), []
    for worker, there in sorted(answers.items()):
        if isinstance(there, BaseException):
            problems.append(
                f"worker {worker} has no poisonsim {here['poisonsim']} that answers ({type(there).__name__}: {there}); "
                f"install it there: pip install 'poisonsim[cluster]=={here['poisonsim']}'"
            )
        elif problem := difference(here, there):
            problems.append(f"worker {worker} {problem}")
    if problems:
        more = len(problems) - _MOST_TOLD
        raise WorkerError([*problems[:_MOST_TOLD], *([f"{more} more workers like these"] if more > 0 else [])])


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
