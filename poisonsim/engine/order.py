"""What travels to a worker and back: a plan as text, the files that it names, and blocks as their files.

Nothing of it is code but the text of policy files that answer by `decide`, which run as they do here. A worker that
would compute other values, or other bytes, refuses.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import gammainc, ndtri

from poisonsim.catalog import carrying, split_options, text_of, unreadable
from poisonsim.compiled import sources_digest
from poisonsim.engine.block import run_block, year_points
from poisonsim.engine.merge import Merger, Tally
from poisonsim.engine.plan import Plan, restore_plan
from poisonsim.engine.store import packed
from poisonsim.errors import PoisonsimError, PolicyError, ScenarioError, WorkerError
from poisonsim.faults.streams import STREAM_VERSION, Purpose, stream
from poisonsim.scenario import Scenario

_VERSIONS = ("poisonsim", "numpy", "scipy", "numba")


class Done(NamedTuple):
    """Consecutive blocks that a worker computed.

    Attributes:
        seconds: How long that took it.
        tally: All of them added up; None where they are wanted one by one.
        files: The file of each, as `poisonsim.engine.store.packed` makes it; none where nothing keeps them.
    """

    seconds: float
    tally: Tally | None
    files: tuple[bytes, ...]


@cache
def environment() -> dict[str, str]:
    """All that can change a value or a byte of a block beside the plan, by name.

    Versions are compared because draws differ between those of NumPy and SciPy, and what Numba compiles between its
    own; zlib because blocks are compressed. Processors and C libraries round differently, which a version does not
    say: so a sample of every kind of draw and function is compared too. Python and pandas compute nothing of a block.
    """
    return {
        **{name: version(name) for name in _VERSIONS},
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
        "streams": str(STREAM_VERSION),
        "sources": sources_digest(),
        "rounding": _rounding(),
    }


def _rounding() -> str:
    """SHA-256 over a sample of the draws and functions of floats that histories are made of."""
    from scipy.stats import binom, nbinom, poisson  # takes half a second to load, which few runs need

    rng, x = stream(1, Purpose.ARRIVALS, 0), np.linspace(1e-6, 9.0, 1009)
    parts = [
        rng.random(64), rng.standard_exponential(64), rng.standard_gamma(x[:64]), rng.standard_normal(64),
        rng.poisson(x[:64]), rng.integers(1 << 40, size=64),
        np.exp(x), np.expm1(x), np.log(x), np.log1p(x), np.log2(x), np.sqrt(x), x**0.7, np.cumsum(x),
        gammainc(0.7, x), ndtri(x / 10), poisson.pmf(np.arange(32), 3.3), nbinom.pmf(np.arange(32), 0.5, 0.2),
        binom.pmf(np.arange(32), 31, 0.3),
    ]  # fmt: skip
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def difference(here: Mapping[str, str], there: Mapping[str, str]) -> str:
    """What of two environments would let blocks differ, as the end of a sentence; empty where nothing would.

    Examples:
        >>> difference({"numpy": "2.4.1", "scipy": "1.17"}, {"numpy": "2.3.0", "scipy": "1.17"})
        'has numpy 2.3.0, where this process has 2.4.1; install the same versions there'
        >>> difference(environment(), environment())
        ''
    """
    other = [name for name, value in here.items() if there.get(name) != value]
    told = [name for name in other if name not in ("sources", "rounding")]
    if told:
        theirs = ", ".join(f"{name} {there.get(name, 'unknown')}" for name in told)
        ours = ", ".join(here[name] if len(told) == 1 else f"{name} {here[name]}" for name in told)
        return f"has {theirs}, where this process has {ours}; install the same versions there"
    if "sources" in other:
        return f"has other code of poisonsim {here['poisonsim']} than this process; install the same there"
    if other:
        return "rounds floats otherwise than this process (processor or C library); leave it out, blocks would differ"
    return ""


def write_order(plan: Plan) -> str:
    """A plan as text, with what a worker needs that has none of its files.

    Raises:
        PolicyError: A policy answers in code and was given as a class, which no text can tell.
        ScenarioError: A file that the scenario names is gone.
    """
    entries = []
    for policy in plan.policies:
        if policy.decide is not None and not policy.spec:
            raise PolicyError(
                f"policy {policy.label} answers in code and was given as a class, which cannot travel to workers; "
                "give its file, or leave out the executor"
            )
        entries.append({**policy.to_dict(), "source": policy.source})
    tables = plan.scenario.to_dict()
    files = sorted(set(_files_in(tables)))
    if gone := [problem for name in files if (problem := unreadable(Path(name), where=name))]:
        raise ScenarioError(gone)
    return json.dumps(
        {
            "environment": environment(), "run_id": plan.run_id, "seed": plan.seed, "scenario": tables,
            "policies": entries, "files": {name: text_of(Path(name)) for name in files},
        }
    )  # fmt: skip


def _files_in(node: object) -> list[str]:
    """Files that a scenario names."""
    if isinstance(node, Mapping):
        return [name for value in node.values() for name in _files_in(value)]
    if isinstance(node, (list, tuple)):
        return [name for value in node for name in _files_in(value)]
    name = split_options(node)[0] if isinstance(node, str) else ""
    return [name] if name.endswith(".toml") else []


def compute(order: str, first: int, sizes: Sequence[int], *, merge: bool, pack: bool) -> Done:
    """Computes consecutive blocks of an order, on one thread: what a worker is asked to do.

    Args:
        order: Written by `write_order`.
        first: Number of the first block.
        sizes: Trials counted in each.
        merge: Whether their sum is wanted.
        pack: Whether the file of each is.

    Raises:
        WorkerError: This process would compute something else.
        PolicyError: A policy's `decide` answered what cannot be done.
    """
    began = time.perf_counter()
    plan, files = _restored(order)
    merger = Merger(len(plan.policies), len(year_points(plan))) if merge else None
    packs = []
    with carrying(files):
        for index, n_trials in enumerate(sizes, first):
            block = run_block(plan, index, n_trials)
            if merger is not None:
                merger.add(block)
            if pack:
                packs.append(packed(plan.run_id, block))
    tally = None if merger is None else merger.tally()
    return Done(time.perf_counter() - began, tally, tuple(packs))


@lru_cache(maxsize=8)
def _restored(order: str) -> tuple[Plan, Mapping[str, str]]:
    """The plan of an order and the files it names, made once for all its blocks."""
    data: dict[str, Any] = json.loads(order)
    if problem := difference(data["environment"], environment()):
        raise WorkerError(f"{worker_name()} {problem}")
    with carrying(data["files"]):
        try:
            plan = restore_plan(Scenario.from_dict(data["scenario"]), data["seed"], data["policies"])
            run_id = plan.run_id
        except PoisonsimError as error:
            raise WorkerError(
                [f"{worker_name()} cannot take the run: {problem}" for problem in error.problems]
            ) from None
    if run_id != data["run_id"]:
        raise WorkerError(f"{worker_name()} reads another run out of the same plan; install the same poisonsim there")
    return plan, data["files"]


def worker_name() -> str:
    """What to call this process in a message: its address where it is a Dask worker."""
    if "distributed" in sys.modules:
        with suppress(ImportError, AttributeError, ValueError):
            return f"worker {sys.modules['distributed'].get_worker().address}"
    return f"process {os.getpid()} on {platform.node() or 'a machine without a name'}"
