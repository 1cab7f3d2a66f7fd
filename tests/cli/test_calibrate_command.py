"""`poisonsim calibrate` and `poisonsim verify`: their output, and mistakes. Nothing is timed but for one smoke test."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import Result as CliResult

from poisonsim.errors import MachineError
from poisonsim.translation import load_cpu
from poisonsim.translation.calibrate import kernel, session
from poisonsim.translation.calibrate.counters import Processor
from poisonsim.translation.calibrate.kernel import Check
from poisonsim.translation.calibrate.knees import Knee
from poisonsim.translation.calibrate.mixes import Mix
from poisonsim.translation.calibrate.pool import Terminated
from poisonsim.translation.calibrate.profile_file import cpu_table, toml_text
from poisonsim.translation.calibrate.session import Calibration
from poisonsim.translation.calibrate.spread import Spread
from poisonsim.translation.calibrate.sweeps import Fracture, Sweep, walk_costs

Cli = Callable[..., CliResult]


def calibration(fractured: bool) -> Calibration:
    where = Processor("toy, family 1 model 2", "", virtual=fractured)
    fractures = [Fracture("2M", "4K" if fractured else "2M", 0.98 if fractured else 0.01, 16 * fractured, 16)]
    n = np.array([32.0, 64, 96, 512, 1024])
    sweeps = [Sweep("4K", n, np.array([0, 0, 1.7, 1.7, 30.0]), [Knee(64, 64, 96, 1.7)])]
    walks = walk_costs([{("2M", 64 << 20): (150.0, 139.0), ("4K", 64 << 20): (200.0, 155.0)}] * 5)
    table = cpu_table(processor=where, ghz=4.0, sweeps=sweeps, fractures=fractures, walks=walks, base=None)
    text = toml_text(table)
    near, far = Spread(1.4, 1.5, 1.6), Spread(1.9, 2.0, 2.1)
    mixes = [
        Mix("2M", "4K", "uniform", 0.0, Spread(0.98, 1.0, 1.02), Spread(1, 1, 1), ""),
        Mix("2M", "4K", "uniform", 1.0, near, near, ""),
        Mix("2M", "4K", "zipf 0.99", 1.0, near, far, "the model"),
    ]
    return Calibration(
        processor=where, ghz=4.0, area_bytes=64 << 20, leaves={"2M": "THP", "4K": "base pages"},
        missing={"1G": "1G huge pages: none"}, fractures=fractures, sweeps=sweeps, walks=walks, mixes=mixes,
        resolution=0.021, cpu=load_cpu("zen5"), toml=text,
    )  # fmt: skip


def made_up(monkeypatch: pytest.MonkeyPatch, *, fractured: bool) -> None:
    def calibrate(**how: Any) -> Calibration:
        how["notice"]("mapping 64 MiB in 4K pages")
        return calibration(fractured)

    monkeypatch.setattr(session, "calibrate", calibrate)


def test_the_tables_of_a_fractured_machine(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up(monkeypatch, fractured=True)
    result = cli("calibrate", "--out", "mine.toml")
    assert (result.exit_code, result.stderr) == (0, "mapping 64 MiB in 4K pages\n")
    assert (
        result.stdout
        == """\
toy, family 1 model 2: not in the catalogue, 4.00 GHz, virtual machine
areas up to 64 MiB in 2M (THP), 4K (base pages)

2M pages are held as 4K entries (16 of 16 tested; scattered loads inside one cost 98 % of what 4K pages cost).
No huge page is one TLB entry here, so reach with huge pages is not measured; predictions take the
entries found. What is measured of a mixture is the cost of its walks.

capacity          entries                          interval  cost of a miss  cycles
L1 TLB, 4K pages       64                             64–96         1.70 ns     6.8
L2 TLB, 4K pages        -  no second bend up to 1,024 pages               -       -

ns, by area                      64 MiB
walk, 2M leaves              15 (15–15)
walk, 4K leaves              60 (60–60)
load at a hit, 2M leaves  135 (135–135)
load at a hit, 4K leaves  140 (140–140)

area in  part in  access      part  measured     interval  predicted     interval   off by        why
2M       4K       uniform      0 %     1.000  0.980–1.020      1.000  1.000–1.000   +0.0 %
                             100 %     1.500  1.400–1.600      1.500  1.400–1.600   +0.0 %
                  zipf 0.99  100 %     1.500  1.400–1.600      2.000  1.900–2.100  +33.3 %  the model
run time relative to the area without the part; 0 % is the null control, the same mapping on both sides
resolution by the null control: 2 %; 2 of 3 predictions are within 15 % of the measurement

profile  mine.toml
next     poisonsim run --set host.cpu=./mine.toml
"""
    )
    assert load_cpu(Path("mine.toml")).l1[0].entries == 64


def test_a_machine_with_whole_pages_makes_no_excuse(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made_up(monkeypatch, fractured=False)
    result = cli("calibrate")
    assert result.exit_code == 0
    assert "2M pages are held whole (0 of 16 tested are split)." in result.stdout
    assert "reach with huge pages is not measured" not in result.stdout
    assert result.stdout.splitlines()[-1].startswith("next  poisonsim ")
    assert list(tmp_path.iterdir()) == []


def test_json_alone_on_stdout(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up(monkeypatch, fractured=True)
    result = cli("calibrate", "--json", "--out", "mine.toml")
    data = json.loads(result.stdout)
    assert (result.exit_code, data["schema"], data["reach_measured"]) == (0, "poisonsim.calibration/1", False)
    assert "profile  mine.toml" in result.stderr


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--area", "4"), r"error: --area: '4' has no unit; allowed: B, KiB, MiB"),
        (("--area", "4G"), r"error: --area: '4G' is ambiguous: 4GiB is"),
        (
            ("--area", "3GiB"),
            r"error: area: 3 GiB cannot be used; allowed: a power of two, 64 MiB or more, such as 4GiB",
        ),
        (("--area", "512TiB"), r"error: area: 3 × 512 TiB: too little memory, .* give a smaller --area"),
        (("--cpu", "zen9"), r"error: 'zen9' is not a CPU of the catalogue; .*; did you mean zen"),
        (("--out", "mine.cpu"), r"error: --out mine.cpu: a CPU file ends in .toml; write mine.toml"),
        (("--out", "no/mine.toml"), r"error: --out no/mine.toml: there is no folder no; make it"),
        (("--seed", "-1"), r"Invalid value for '--seed'"),
    ],
)
def test_mistakes(cli: Cli, arguments: tuple[str, ...], message: str) -> None:
    result = cli("calibrate", *arguments)
    assert result.exit_code == 2
    assert re.search(message, " ".join(result.stderr.split()))
    assert "Traceback" not in result.stderr and result.stdout == ""


def test_a_folder_is_no_output_file(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.toml").mkdir()
    result = cli("calibrate", "--out", "a.toml")
    assert (result.exit_code, result.stderr) == (2, "error: --out a.toml: exists and is no file; name another\n")


@pytest.mark.parametrize(
    "error, code, message",
    [
        (KeyboardInterrupt(), 130, "interrupted; nothing was written, and the pool of huge pages is as it was\n"),
        (Terminated(15), 143, "ended by SIGTERM; nothing was written, and the pool of huge pages is as it was\n"),
        (MachineError("x: cannot be set to 4 (Permission denied); run as root"), 2, "error: x: cannot be set to 4"),
    ],
)
def test_what_ends_it(cli: Cli, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(session, "_areas", fail)
    result = cli("calibrate", "--quick", "--area", "64MiB", "--out", "mine.toml")
    assert result.exit_code == code
    assert message in result.stderr and result.stdout == ""
    assert not Path("mine.toml").exists()


@pytest.mark.slow
def test_a_real_calibration_of_a_tiny_area(cli: Cli) -> None:
    """The one run on the machine itself: structure only, for its times are whatever they are."""
    result = cli("calibrate", "--quick", "--area", "64MiB", "--json", "--out", "mine.toml")
    assert result.exit_code == 0, result.stderr
    data = json.loads(result.stdout)
    assert data["leaves"]["4K"] == "base pages"
    assert {walk["area_bytes"] for walk in data["walks"]} == {64 << 20}
    assert {mix["pattern"] for mix in data["mixes"]} in (set(), {"uniform", "zipf 0.99", "hot/cold 10/90"})
    assert all(mix["measured"]["low"] <= mix["measured"]["mid"] <= mix["measured"]["high"] for mix in data["mixes"])
    assert load_cpu(Path("mine.toml")).title.endswith(", calibrated")


# ---------------------------------------------------------------------------------------------- verify

CHECKS = [
    Check("one 1G leaf", "migrate1g", "VmPTE", 0, None, "1G huge pages: 1 wanted, 0 free; add --reserve"),
    Check("4K leaves", "", "VmPTE", 2_101_248, 2_101_248, "ladder"),
    Check("64 more 2M pages in the pool, HVO on", "", "MemFree", -100, -90, "rough", exact=False),
]


def kernel_found(monkeypatch: pytest.MonkeyPatch, checks: Sequence[Check]) -> None:
    monkeypatch.setattr(kernel, "verify_kernel", lambda **_: list(checks))
    monkeypatch.setattr("platform.release", lambda: "6.18")


def test_verify_kernel_prints_a_verdict_for_each_row(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel_found(monkeypatch, CHECKS)
    result = cli("verify", "--kernel")
    assert (result.exit_code, result.stderr) == (0, "")
    assert (
        result.stdout
        == """\
Linux 6.18, 1 GiB of guest memory per mapping; bytes added

mapping                               as left by  counter       ours     kernel      verdict
one 1G leaf                           migrate1g   VmPTE            0          -  not checked
4K leaves                             -           VmPTE    2,101,248  2,101,248       agrees
64 more 2M pages in the pool, HVO on  -           MemFree       -100        -90        rough

1 of 1 agree; 1 not checked
one 1G leaf: 1G huge pages: 1 wanted, 0 free; add --reserve
"""
    )


def test_a_difference_is_exit_code_3(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel_found(monkeypatch, [*CHECKS, Check("2M leaves", "", "VmPTE", 4096, 8192, "ladder.table_pages 1G > 2M")])
    result = cli("verify", "--kernel")
    assert result.exit_code == 3
    assert "1 of 2 agree; 1 not checked" in result.stdout
    assert result.stdout.endswith("2M leaves: ladder.table_pages 1G > 2M\n")
    as_json = cli("verify", "--kernel", "--json")
    assert as_json.exit_code == 3
    assert [check["verdict"] for check in json.loads(as_json.stdout)["kernel"]] == [
        "not checked", "agrees", "rough", "differs",
    ]  # fmt: skip


@pytest.mark.parametrize("error, code", [(KeyboardInterrupt(), 130), (Terminated(15), 143)])
def test_an_interrupted_verification(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(kernel, "verify_kernel", fail)
    result = cli("verify", "--kernel")
    assert result.exit_code == code
    assert result.stderr.endswith("the pool of huge pages is as it was\n") and result.stdout == ""


def test_published_runs_are_shown_with_what_is_missed(cli: Callable[..., CliResult]) -> None:
    found = json.loads(cli("verify", "--published", "--json").stdout)["published"]
    verdicts = [row["verdict"] for row in found]
    assert len(found) == 20 and {"inside", "above", "below", "not predicted"} == set(verdicts)
    assert found[0]["run"] == "GUPS, native, 4K / 2M"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--published", "--cpu", "zen4"), "--cpu: says for which CPUs the model is checked; add --model"),
        (("--published", "--reserve"), "--reserve: grows the pool of huge pages for --kernel; add that"),
        (("--model", "--cpu", "zen6"), "'zen6' is not a CPU of the catalogue"),
        (("--published", "--full"), "--full: is of the self-check; add --all, or leave out what else is asked for"),
    ],
)
def test_options_of_verify_that_do_not_belong_together(
    cli: Callable[..., CliResult], args: tuple[str, ...], words: str
) -> None:
    result = cli("verify", *args)
    assert result.exit_code == 2 and words in result.stderr
