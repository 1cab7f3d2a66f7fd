"""What work costs, in units of a calibration loop of this process, beside what it cost before.

`python tests/bench/costs.py` fails where something costs twice what the last line of `costs.csv` says; with `--record`
it adds lines there instead. Such a ratio hardly depends on the machine, or on what else runs there.
"""

from __future__ import annotations

import csv
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from poisonsim import __version__
from poisonsim.engine.block import follow, run_block
from poisonsim.engine.heap import keep_freed_memory
from poisonsim.engine.plan import make_plan
from poisonsim.faults.history import draw_history
from poisonsim.logs import read_all
from poisonsim.logs.codes import Kind
from poisonsim.logs.events import EventBatch
from poisonsim.logs.write import write
from poisonsim.results.values import Valuer
from poisonsim.scenario import load_scenario

HISTORY = Path(__file__).with_name("costs.csv")
HEAD = ["version", "work", "cost"]
TOO_MUCH = 2.0
"""Times the last recorded cost, from which on a check fails."""


def calibration() -> None:
    """A fixed load: half a million random numbers, a sort and a gather of them, and some plain Python.

    The sort is one that has no version for wide vectors, which would make the unit a fifth on some machines.
    """
    rng = np.random.Generator(np.random.PCG64(1))
    values = rng.standard_exponential(500_000)
    np.cumsum(values[np.argsort(values, kind="stable")])
    sum(i * i for i in range(200_000))


def works(folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """What is measured, by name."""
    for name, settings, policies in (
        ("seed-1t", [], ["hgm2m"]),
        ("seed-1t", [], ["unmap1g", "hgm4k", "hgm2m", "migrate1g"]),
        ("cloud-1t-ddr4", [], ["hgm2m"]),
        ("cloud-1t-ddr4", ["faults.ue=ecc"], ["hgm2m"]),
        ("bad-dimm", [], ["hgm2m"]),
    ):
        plan = make_plan(load_scenario(name, overrides=settings), policies, seed=1)
        trials = min(plan.block_trials, 100_000)
        what = f"{trials:,} trials of {' '.join([name, *settings])} under {', '.join(policies)}"
        yield what, partial(run_block, plan, 0, trials)
    plan = make_plan(load_scenario("seed-1t"), ["hgm4k"], seed=1)
    states = follow(plan, draw_history(plan.scenario, 1, 0, 40), 0)[0].states[:2000]
    yield "every metric of 2,000 states", lambda: Valuer(plan).values(plan.policies[0], states)
    n = 20_000
    events = EventBatch.of(
        kind=[Kind.CE] * n, time=np.datetime64("2025-03-01", "us") + np.arange(n) * np.timedelta64(1, "m"),
        address=np.arange(n) * 4096, row=np.arange(n) % 65536,
    )  # fmt: skip
    for format_, suffix in (("csv", "csv"), ("kernel", "log"), ("mcelog", "log"), ("rasdaemon", "db")):
        path = folder / f"{format_}.{suffix}"
        write(events, path, format=format_)
        yield f"{n:,} corrected errors in {format_}", partial(read_all, path)


def cost_of(work: Callable[[], object], repeats: int) -> float:
    """Time of `work` over that of the calibration loop, each the least of several, taken by turns."""
    work()
    least = [np.inf, np.inf]
    for _ in range(repeats):
        for i, run in enumerate((work, calibration)):
            started = time.perf_counter()
            run()
            least[i] = min(least[i], time.perf_counter() - started)
    return float(least[0] / least[1])


def recorded(path: Path) -> dict[str, float]:
    """The last cost of each work in a history file; empty where there is none."""
    if not path.exists():
        return {}
    with path.open() as file:
        return {row["work"]: float(row["cost"]) for row in csv.DictReader(file)}


def main(words: Sequence[str], path: Path = HISTORY, repeats: int = 7) -> str | None:
    """Prints a table; returns what costs too much, in words, or None."""
    before, now, risen = recorded(path), {}, []
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        for what, work in works(Path(folder)):
            now[what] = cost_of(work, repeats)
            last = before.get(what)
            print(f"{what:<66} {now[what]:7.2f}  " + ("new" if last is None else f"{now[what] / last:.2f} x of before"))
            if last is not None and now[what] > TOO_MUCH * last:
                risen.append(what)
    if "--record" in words:
        known = path.read_text() if path.exists() else ",".join(HEAD) + "\n"
        with path.open("w", newline="") as file:
            file.write(known)
            csv.writer(file, lineterminator="\n").writerows((__version__, what, f"{x:.3g}") for what, x in now.items())
        return None
    return f"costs more than {TOO_MUCH:g} times what {path.name} says: {'; '.join(risen)}" if risen else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
