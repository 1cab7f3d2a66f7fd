"""Ten thousand damaged inputs, each refused with a reason of its own: no traceback, no hang, nothing executed.

Whole inputs are damaged as hands, editors, disks and attackers do. What is still valid is accepted; all else must
raise an error of ours, whose problems are one line each. The command line turns exactly these into exit code 2.
Every parser works in a process of its own that has 2 s for an input, and 500 MB.
"""

from __future__ import annotations

import io
import random
import tomllib
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from bounded import MOST_BYTES, Hung, apart, timed
from sound_logs import FORMATS, sound_logs
from typer.testing import CliRunner

import poisonsim as ps
from poisonsim import catalog, units
from poisonsim.catalog.entries import of_file
from poisonsim.cli import app
from poisonsim.engine.store import block_path, read_block
from poisonsim.errors import DamagedBlock, PoisonsimError, PoisonsimWarning
from poisonsim.faults.tables import load_fault_table
from poisonsim.fitting.inventory import read_inventory
from poisonsim.logs import read_all
from poisonsim.policy import load_policy
from poisonsim.results.claim import claimed
from poisonsim.results.conditions import parse_condition, parse_width
from poisonsim.results.fleet_file import read_fleet
from poisonsim.results.fleet_folder import FleetFolder
from poisonsim.results.levels import parse_levels, read_levels
from poisonsim.results.metrics import metrics_for
from poisonsim.results.sweep_folder import SweepFolder
from poisonsim.results.sweep_grid import values_of
from poisonsim.scenario import Scenario, load_scenario
from poisonsim.translation.cpus import load_cpu

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
HOSTS = "host,memory,installed\na,1TiB,2024-06-01\nb,512GiB,\nc,,2023-01-02 03:04:05\n"
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


def _of_manifest(read: Callable[[Path], object], folder: Path, name: str) -> Callable[[str], object]:
    """A reader of a folder, whose file of that name is another then."""

    def reopened(text: str) -> object:
        whole = (folder / name).read_bytes()
        try:
            (folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))
            return read(folder)
        finally:
            (folder / name).write_bytes(whole)

    return reopened


def _claim_plan(folder: Path) -> None:
    with claimed(folder, "plan", "poisonsim.plan/1", "0123"):
        pass


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


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A sweep, a fleet and a plan folder, of very few trials."""
    at = tmp_path_factory.mktemp("folders")
    (at / "hosts.toml").write_text(FLEET)
    sweep = ["sweep", "seed-1t", "--policy", "hgm2m", "--over", "host.spares=0,1", "--trials", "10", "--no-report"]
    fleet = ["fleet", str(at / "hosts.toml"), "--policy", "hgm2m", "--trials", "10", "--no-report"]
    plan = ["plan", "seed-1t", "--policy", "hgm2m", "--require", "vm_lost <= 90%", "--trials", "1000", "--no-flips"]
    for words in (sweep, fleet, plan):
        assert CliRunner().invoke(app, [*words, "--out", str(at / words[0])]).exit_code in (0, 3)
    return {kind: at / kind for kind in ("sweep", "fleet", "plan")}


@pytest.fixture
def parsers(tmp_path: Path, run_folder: Path, folders: dict[str, Path]) -> dict[str, tuple[int, Parser]]:
    """Every parser of the package with how many inputs it gets, valid ones to damage, and how it is called."""
    file = tmp_path / "input.toml"
    readers: dict[str, tuple[Path, Callable[[Path], object]]] = {
        "run": (run_folder, ps.open_run),
        "sweep": (folders["sweep"], lambda folder: SweepFolder(folder).read()),
        "fleet": (folders["fleet"], lambda folder: FleetFolder(folder).read()),
        "plan": (folders["plan"], _claim_plan),
    }
    manifests = {
        f"{kind}.json": (
            400 if kind == "run" else 150,
            (((folder / f"{kind}.json").read_text(),), _of_manifest(read, folder, f"{kind}.json")),
        )
        for kind, (folder, read) in readers.items()
    }
    sound = sound_logs(tmp_path)
    logs = {
        f"{format_} log": (
            60,
            (
                (sound[format_].decode("utf-8", "surrogateescape"),),
                _of_file(lambda path, format_=format_: read_all(path, format=format_), tmp_path / "input.log"),
            ),
        )
        for format_ in FORMATS
    }
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
        "inventory": (300, ((HOSTS,), _of_file(read_inventory, tmp_path / "hosts.csv"))),
        "log": (60, (("Jan  1 00:00:00 h kernel: EDAC MC0: 1 CE\n",), _of_file(read_all, tmp_path / "input.log"))),
        **logs,
        **manifests,
    }  # fmt: skip


def inputs(parser: Parser, n: int, seed: int) -> Iterator[str]:
    rng = random.Random(seed)
    valid = parser[0]
    for i in range(n):
        yield damaged(valid[i % len(valid)], rng)


def outcomes_of(parse: Callable[[str], object], texts: Iterable[str]) -> tuple[Counter[str], list[str]]:
    """How many inputs a parser takes and refuses, and what else it does with one."""
    outcomes, wrong = Counter[str](), list[str]()
    for number, text in enumerate(texts):
        try:
            with timed():
                parse(text)
            outcomes["accepted"] += 1
        except PoisonsimError as error:
            outcomes["refused"] += 1
            if not error.problems or any(not p.strip() or "\n" in p or len(p) > 2000 for p in error.problems):
                wrong.append(f"{number}: its reason is not a line: {str(error)[:200]!r}")
        except (Exception, Hung) as error:
            wrong.append(f"{number}: {type(error).__name__}: {error!s:.100} of {len(text)} {text[:200]!r}")
    return outcomes, wrong


def extremes(size: int) -> Iterator[str]:
    """Inputs of about that many characters: deep, long, many, or of a number that no memory holds."""
    pieces = ["[", "(", "{a=", "a.", "9", "a", '"', "\\", "-", "1_", "a,", ":", "٠", "|"]
    for piece in (*pieces, "\n", " ", "not ", "# c\n", "| "):
        yield piece * (size // len(piece))
    nested = size // 2
    yield "x = " + "[" * nested + "]" * nested
    yield f"x = 0x{'f' * size}"
    yield f"0x{'f' * size}"
    yield f"1e{'9' * size}"
    yield f'x = "{"a" * size}"'
    yield "".join(f"k{i} = {i}\n" for i in range(size // 10))
    yield "".join(f"[t{i}]\n" for i in range(size // 10))
    yield "[[fleet]]\n" * (size // 10)
    yield "levels = [" + (size // 20) * '"vm_lost <= 1%",' + "]"
    yield " and ".join(["mean(slowdown) > 1"] * (size // 20))


def test_ten_thousand_damaged_inputs_are_refused_in_one_line_each(
    parsers: dict[str, tuple[int, Parser]], statistical_seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workplace = tmp_path / "work"
    workplace.mkdir()
    monkeypatch.chdir(workplace)
    warnings.simplefilter("ignore", PoisonsimWarning)
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    for kind, (n, parser) in parsers.items():
        for text in (*parser[0], *(inputs(parser, 20, statistical_seed) if kind.endswith("log") else ())):
            with suppress(PoisonsimError):  # compiles what it needs, some of it for what is damaged only
                parser[1](text)
        found, odd = apart(lambda: outcomes_of(parser[1], inputs(parser, n, statistical_seed)))  # noqa: B023
        outcomes += found
        wrong += [f"{kind} {each}" for each in odd]
    assert not wrong, "\n".join(wrong[:20])
    assert outcomes.total() >= 10_000 and outcomes["refused"] > 0.6 * outcomes.total(), outcomes
    assert not any(workplace.iterdir())  # nothing was written, nothing executed


@pytest.mark.parametrize("size", [20_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_extreme_inputs_take_neither_time_nor_memory(
    parsers: dict[str, tuple[int, Parser]], size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workplace = tmp_path / "work"
    workplace.mkdir()
    monkeypatch.chdir(workplace)
    warnings.simplefilter("ignore", PoisonsimWarning)
    wrong: list[str] = []
    for kind, (_, parser) in parsers.items():
        with suppress(PoisonsimError):
            parser[1](parser[0][0])
        most = min(size, 200_000) if kind.endswith("log") else size  # a log may be long, and then takes its time
        wrong += [f"{kind} {each}" for each in apart(lambda: outcomes_of(parser[1], extremes(most)))[1]]  # noqa: B023
    assert not wrong, "\n".join(wrong[:20])
    assert not any(workplace.iterdir())


def test_a_block_that_is_far_larger_than_its_file_is_not_unpacked(run_folder: Path) -> None:
    run_id, path = ps.open_run(run_folder).plan.run_id, block_path(run_folder, 0)
    whole, header = path.read_bytes(), io.BytesIO()
    size = 2 * MOST_BYTES
    np.lib.format.write_array_header_1_0(header, {"descr": "<i8", "fortran_order": False, "shape": (size // 8,)})
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as bomb,
        bomb.open("states_0.npy", "w", force_zip64=True) as file,
    ):
        file.write(header.getvalue())
        for _ in range(size >> 24):
            file.write(bytes(1 << 24))
    try:
        assert path.stat().st_size < size // 200
        assert apart(lambda: read_block(run_folder, run_id, 0)) is None
        with pytest.warns(DamagedBlock, match="MiB in memory, more than any block of its size"):
            assert read_block(run_folder, run_id, 0, tell=True) is None
    finally:
        path.write_bytes(whole)


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
