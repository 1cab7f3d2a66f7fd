"""Ten thousand damaged inputs, each refused with a reason of its own: no traceback, no hang, nothing executed.

Whole inputs are damaged as hands, editors, disks and attackers do. What is still valid is accepted; all else must
raise an error of ours, whose problems are one line each. The command line turns exactly these into exit code 2.
"""

from __future__ import annotations

import random
import resource
import time
import tomllib
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import poisonsim as ps
from poisonsim import catalog, units
from poisonsim.catalog.entries import of_file
from poisonsim.engine.store import block_path, read_block
from poisonsim.errors import PoisonsimError, PoisonsimWarning
from poisonsim.faults.tables import load_fault_table
from poisonsim.policy import load_policy
from poisonsim.results.conditions import parse_condition, parse_width
from poisonsim.results.fleet_file import read_fleet
from poisonsim.results.levels import parse_levels, read_levels
from poisonsim.results.metrics import metrics_for
from poisonsim.results.sweep_grid import values_of
from poisonsim.scenario import Scenario, load_scenario
from poisonsim.translation.cpus import load_cpu

_MOST_SECONDS = 2.0
_MOST_BYTES = 500 << 20
_CATALOG = Path(catalog.__file__).parent
METRICS = metrics_for(("1G", "2M", "4K"))
FLEET = """\
title = "Two generations of hosts"
vms = 8000

[[fleet]]
scenario = "cloud-1t-ddr4"
weight = 3

[[fleet]]
name = "new"
scenario = "seed-1t"
weight = 1.5
set = { vm.memory = "2TiB", host.cpu = "zen5", vm.guest_page = { "2M" = 0.9, "4K" = 0.1 } }
"""
LEVELS = 'levels = ["vm_lost per year <= 0.1%", "p99(slowdown) < 1.01", "capacity_cost_bytes <= 0.5% of memory"]\n'
TOKENS = (
    "-1", "0", "1e999", "nan", "inf", "-0.0", "99999999999999999999999", "0x7f", "1_000", "''", '""', "[]", "{}",
    "[[]]", "true", "1TiB", "-1GiB", "7.5 years", "<script>alert(1)</script>", "'; DROP TABLE runs; --", "{{ 7*7 }}",
    "%s%n", "$(touch executed)", "__import__('os').mkdir('executed')", "../../../etc/passwd", "/dev/zero", "\u202e",
    "\x00",
    "\x1b[31m",
    "é", "1979-05-27T07:32:00Z", "=", ".", "[", "]", "#",
    "(" * 200, "[" * 3000, "9" * 5000, "a" * 20_000,
)  # fmt: skip


def damaged(text: str, rng: random.Random) -> str:
    """`text` with one to four mistakes."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at, to = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        to = min(to, at + rng.choice((1, 1, 3, 30)))
        lines = text.split("\n")
        match rng.randrange(8):
            case 0:
                text = text[:at] + text[to:]
            case 1:
                text = text[:at] + rng.choice(TOKENS) + text[to:]
            case 2:
                text = text[:at] + chr(rng.choice((0, 9, 10, 34, 39, 0x7F, 0xFFFD, rng.randrange(32, 127)))) + text[at:]
            case 3:
                text = text[:at]
            case 4:
                rng.shuffle(lines)
                text = "\n".join(lines)
            case 5:  # another value behind a key
                line = rng.randrange(len(lines))
                key, sign, _ = lines[line].partition("=")
                lines[line] = f"{key}{sign}{rng.choice(TOKENS)}"
                text = "\n".join(lines)
            case 6:
                lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
                text = "\n".join(lines)
            case _:
                words = text.split(" ")
                words[rng.randrange(len(words))] = rng.choice(TOKENS)
                text = " ".join(words)
        if not text:
            return " "
    return text


Parser = tuple[tuple[str, ...], Callable[[str], object]]


def _shipped(kind: str) -> tuple[str, ...]:
    return tuple(path.read_text() for path in sorted((_CATALOG / kind).glob("*.toml")))


def _of_file(read: Callable[[Path], object], path: Path) -> Callable[[str], object]:
    def parse(text: str) -> object:
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        return read(path)

    return parse


def _ours(parse: Callable[[str], object]) -> Callable[[str], object]:
    """A parser of units, whose ValueError every caller puts a place to."""

    def parsed(text: str) -> object:
        try:
            return parse(text)
        except ValueError as error:
            raise PoisonsimError(str(error)) from None

    return parsed


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    ps.run("seed-1t", policies=["hgm2m", "migrate1g:spares=2"], trials=1000, seed=3, out=folder)
    return folder


@pytest.fixture
def parsers(tmp_path: Path, run_folder: Path) -> dict[str, tuple[int, Parser]]:
    """Every parser of the package with how many inputs it gets, valid ones to damage, and how it is called."""
    file = tmp_path / "input.toml"
    manifest = run_folder / "run.json"

    def reopened(text: str) -> object:
        whole = manifest.read_bytes()
        try:
            manifest.write_bytes(text.encode("utf-8", "surrogateescape"))
            return ps.open_run(run_folder)
        finally:
            manifest.write_bytes(whole)

    sizes = ("1TiB", "64 GiB", "4K", "1048576", "2M")
    conditions = ("p99(slowdown) > 1.02", "hgm2m: mean(vm_lost) at year 3 >= 0.1%", "guest_lost_bytes > 8GiB")
    specs = ("migrate1g:spares=8", "hgm2m", "storm-evac:storm_hits=3", "./none.py:a=1")
    overrides = ("vm.memory=8TiB", 'vm.guest_page={"2M" = 0.9, "4K" = 0.1}', "host.spares=4", "workload.alpha=0.99")
    return {
        "scenario": (1500, (_shipped("scenarios"), _of_file(load_scenario, file))),
        "--set": (1200, (overrides, lambda text: load_scenario("seed-1t", overrides=[text]))),
        "cpu": (1000, (_shipped("cpus"), _of_file(load_cpu, file))),
        "fault table": (700, (_shipped("faults"), _of_file(load_fault_table, file))),
        "map": (400, (_shipped("maps"), _of_file(lambda path: of_file(str(path)), file))),
        "dimm": (300, (_shipped("dimms"), _of_file(lambda path: of_file(str(path)), file))),
        "policy spec": (1000, (specs, load_policy)),
        "size": (600, (sizes, _ours(units.parse_bytes))),
        "years": (400, (("5", "18 months", "1y", "30 days"), _ours(units.parse_years))),
        "rate": (300, (("0.011", "3 / day", "50 per year"), _ours(units.parse_rate_per_year))),
        "condition": (1000, (conditions, lambda text: parse_condition(text, METRICS, ("hgm2m", "hgm4k")))),
        "width": (300, (("p99(guest_lost_bytes) within 5%",), lambda text: parse_width(text, METRICS, ("hgm2m",)))),
        "levels": (300, ((LEVELS,), _of_file(read_levels, file))),
        "fleet": (400, ((FLEET,), _of_file(read_fleet, file))),
        "level": (400, (tuple(tomllib.loads(LEVELS)["levels"]), lambda text: parse_levels([text], METRICS))),
        "sweep": (400, (("host.spares", "host.cpu"), lambda text: values_of(Scenario(), {text: [text, "4"]}))),
        "run.json": (400, ((manifest.read_text(),), reopened)),
    }  # fmt: skip


def inputs(parser: Parser, n: int, seed: int) -> Iterator[str]:
    rng = random.Random(seed)
    valid = parser[0]
    for i in range(n):
        yield damaged(valid[i % len(valid)], rng)


def test_ten_thousand_damaged_inputs_are_refused_in_one_line_each(
    parsers: dict[str, tuple[int, Parser]], statistical_seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workplace = tmp_path / "work"
    workplace.mkdir()
    monkeypatch.chdir(workplace)
    warnings.simplefilter("ignore", PoisonsimWarning)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    for kind, (n, parser) in parsers.items():
        for number, text in enumerate(inputs(parser, n, statistical_seed)):
            begin = time.process_time()
            try:
                parser[1](text)
                outcomes["accepted"] += 1
            except PoisonsimError as error:
                outcomes["refused"] += 1
                if not error.problems or any(not p.strip() or "\n" in p or len(p) > 2000 for p in error.problems):
                    wrong.append(f"{kind} {number}: its reason is not a line: {str(error)[:200]!r}")
            except Exception as error:
                wrong.append(f"{kind} {number}: {type(error).__name__}: {error!s:.100} of {text[:200]!r}")
            if time.process_time() - begin > _MOST_SECONDS:
                wrong.append(f"{kind} {number}: took more than {_MOST_SECONDS} s: {text[:200]!r}")
    assert not wrong, "\n".join(wrong[:20])
    assert outcomes.total() >= 10_000 and outcomes["refused"] > 0.6 * outcomes.total(), outcomes
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident) << 10 < _MOST_BYTES
    assert not any(workplace.iterdir())  # nothing was written, nothing executed


def test_damaged_blocks_are_never_taken(run_folder: Path, statistical_seed: int) -> None:
    run_id, path = ps.open_run(run_folder).plan.run_id, block_path(run_folder, 0)
    whole, rng = path.read_bytes(), random.Random(statistical_seed)
    valid = read_block(run_folder, run_id, 0)
    assert valid is not None
    taken = 0
    for _ in range(600):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 2, 20))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data if rng.random() < 0.7 else data[: rng.randrange(len(data))])
        block = read_block(run_folder, run_id, 0)
        if block is not None:  # the damage lies where zip files hold nothing of ours, such as a time stamp
            taken += 1
            assert all((a == b).all() for a, b in zip(block.counts, valid.counts, strict=True))
            assert all((a == b).all() for a, b in zip(block.states, valid.states, strict=True))
    path.write_bytes(whole)
    assert taken < 150


@pytest.mark.long
@pytest.mark.parametrize("kind", ["scenario", "run.json", "policy spec"])
def test_the_command_line_exits_with_2(
    cli: Callable[..., object], parsers: dict[str, tuple[int, Parser]], run_folder: Path, tmp_path: Path, kind: str
) -> None:
    _, parser = parsers[kind]
    manifest, file = run_folder / "run.json", tmp_path / "input.toml"
    whole = manifest.read_bytes()
    refused = 0
    for text in inputs(parser, 60, 5):
        try:
            parser[1](text)
            continue
        except PoisonsimError:
            refused += 1
        if kind == "scenario":
            arguments = ["run", file, "--policy", "hgm2m", "--dry-run"]
        elif kind == "run.json":
            manifest.write_bytes(text.encode("utf-8", "surrogateescape"))
            arguments = ["report", run_folder]
        else:
            arguments = ["run", "--dry-run", f"--policy={text}"]
        result = cli(*arguments)
        manifest.write_bytes(whole)
        assert result.exit_code == 2, (text, result.output)  # type: ignore[attr-defined]
        assert "Traceback" not in result.output  # type: ignore[attr-defined]
    assert refused > 20
