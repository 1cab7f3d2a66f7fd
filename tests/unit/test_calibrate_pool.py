"""The pool of huge pages is set back, whatever ends the work and whenever."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from poisonsim.errors import MachineError
from poisonsim.translation.calibrate import pool as pool_module
from poisonsim.translation.calibrate.pool import MorePages, Pool, Setting, while_changed

KIB_OF = {"1G": 1 << 20, "2M": 1 << 11}


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """A folder like /sys/kernel/mm/hugepages with two 1G pages and five 2M pages, three of them free."""
    for size, total, free, reserved in (("1G", 2, 2, 0), ("2M", 5, 3, 1)):
        folder = tmp_path / f"hugepages-{KIB_OF[size]}kB"
        folder.mkdir()
        for name, value in (("nr_hugepages", total), ("free_hugepages", free), ("resv_hugepages", reserved)):
            (folder / name).write_text(f"{value}\n")
    return tmp_path


def totals(root: Path) -> tuple[int, int]:
    one, two = (Pool(root).state(size) for size in ("1G", "2M"))
    assert one is not None and two is not None
    return one.total, two.total


def test_state_and_command(sysfs: Path) -> None:
    state = Pool(sysfs).state("2M")
    assert state is not None and (state.total, state.free, state.usable) == (5, 3, 2)
    assert Pool(sysfs).state("32M") is None
    assert Pool(sysfs).command("2M", 3) == f"echo 8 | sudo tee {sysfs}/hugepages-2048kB/nr_hugepages"


def test_the_pool_is_larger_meanwhile_and_set_back(sysfs: Path) -> None:
    changes = [MorePages(Pool(sysfs), "1G", 4), MorePages(Pool(sysfs), "2M", 10)]
    assert while_changed(changes, lambda: totals(sysfs)) == (6, 15)
    assert totals(sysfs) == (2, 5)


def test_pages_that_somebody_else_adds_meanwhile_stay(sysfs: Path) -> None:
    file = Pool(sysfs).file("1G")
    while_changed([MorePages(Pool(sysfs), "1G", 4)], lambda: file.write_text("9"))
    assert totals(sysfs) == (5, 5)


def test_what_was_never_applied_is_not_undone(sysfs: Path) -> None:
    later = MorePages(Pool(sysfs), "2M", 10)
    Pool(sysfs).file("2M").write_text("15")  # somebody else
    later.undo()
    assert totals(sysfs) == (2, 15)


def test_a_pool_that_somebody_else_shrinks_meanwhile_is_left_alone(sysfs: Path) -> None:
    file = Pool(sysfs).file("1G")
    while_changed([MorePages(Pool(sysfs), "1G", 4)], lambda: file.write_text("1"))
    assert totals(sysfs) == (1, 5)


def test_a_kernel_that_finds_fewer_pages_is_asked_again_and_set_back(
    sysfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def stingy(path: Path, value: int) -> None:
        asked.append(value)
        path.write_text(f"{min(value, 3)}\n")

    monkeypatch.setattr(pool_module, "write_setting", stingy)
    monkeypatch.setattr(pool_module, "_SECONDS_BETWEEN_ATTEMPTS", 0.0)
    assert while_changed([MorePages(Pool(sysfs), "1G", 4)], lambda: totals(sysfs)) == (3, 5)
    assert asked == [6, 6, 6, 6, 2]
    assert totals(sysfs) == (2, 5)


def test_of_a_kernel_that_finds_fewer_pages_only_these_are_taken_out(
    sysfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One page of four came and somebody else adds two: theirs stay."""
    file = Pool(sysfs).file("1G")
    monkeypatch.setattr(pool_module, "write_setting", lambda path, value: path.write_text(f"{min(value, 3)}\n"))
    monkeypatch.setattr(pool_module, "_SECONDS_BETWEEN_ATTEMPTS", 0.0)
    change = MorePages(Pool(sysfs), "1G", 4)
    change.apply()
    monkeypatch.undo()
    file.write_text("5")
    change.undo()
    assert totals(sysfs) == (4, 5)


def test_each_node_gets_back_what_it_had(sysfs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel adds to nodes that have room, and takes from all nodes in turn where only a total is asked for."""
    held = {}
    for node, n in enumerate((2, 0)):
        folder = tmp_path / f"node{node}" / "hugepages" / f"hugepages-{KIB_OF['1G']}kB"
        folder.mkdir(parents=True)
        held[folder / "nr_hugepages"] = n
    first, second = held
    total = Pool(sysfs).file("1G")

    def kernel(path: Path, value: int) -> None:
        if path == total:
            while sum(held.values()) != value:
                step = 1 if sum(held.values()) < value else -1
                node = second if step > 0 else max(held, key=lambda each: held[each])
                held[node] += step
        else:
            held[path] = value
        for node, n in held.items():
            node.write_text(f"{n}\n")
        total.write_text(f"{sum(held.values())}\n")

    monkeypatch.setattr(pool_module, "write_setting", kernel)
    kernel(first, 2)
    pool = Pool(sysfs, nodes=tmp_path)
    assert while_changed([MorePages(pool, "1G", 2)], lambda: list(held.values())) == [2, 2]
    assert list(held.values()) == [2, 0]
    while_changed([MorePages(pool, "1G", 2)], lambda: kernel(first, 5))  # somebody else, meanwhile
    assert list(held.values()) == [5, 0]
    assert MorePages(Pool(sysfs, nodes=tmp_path / "none"), "1G", 1)._nodes_before == {}


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt(), SystemExit(1)], ids=repr)
def test_the_pool_is_set_back_when_the_work_fails(sysfs: Path, error: BaseException) -> None:
    def fail() -> None:
        assert totals(sysfs) == (6, 5)
        raise error

    with pytest.raises(type(error)):
        while_changed([MorePages(Pool(sysfs), "1G", 4)], fail)
    assert totals(sysfs) == (2, 5)


def interrupted_at(step: int) -> tuple[Callable[[FrameType, str, Any], Any], list[int]]:
    """A trace function that raises KeyboardInterrupt at one line of the module, counted from the start."""
    seen = [0]

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename != pool_module.__file__:
            return None
        if event == "line":
            seen[0] += 1
            if seen[0] == step:
                raise KeyboardInterrupt
        return trace

    return trace, seen


def test_interrupted_at_any_line_the_pool_and_settings_are_set_back(sysfs: Path) -> None:
    setting = sysfs / "hugetlb_optimize_vmemmap"
    setting.write_text("0\n")
    step, n_interrupted = 0, 0
    while True:
        step += 1
        changes = [Setting(setting, 1), MorePages(Pool(sysfs), "1G", 4), MorePages(Pool(sysfs), "2M", 10)]
        trace, seen = interrupted_at(step)
        before = sys.gettrace()
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
        sys.settrace(trace)
        try:
            while_changed(changes, lambda: None)
        except KeyboardInterrupt:
            n_interrupted += 1
        finally:
            sys.settrace(before)
            for number, handler in zip((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), handlers, strict=True):
                signal.signal(number, handler)
        assert (totals(sysfs), setting.read_text()) == ((2, 5), "0\n"), f"interrupted at line event {step}"
        if seen[0] < step:
            break
    assert n_interrupted > 80


CHILD = """
import sys, time
from pathlib import Path
from poisonsim.translation.calibrate.pool import MorePages, Pool, Terminated, while_changed

def work():
    print("ready", flush=True)
    time.sleep(30)

try:
    while_changed([MorePages(Pool(Path(sys.argv[1])), "1G", 4)], work)
except KeyboardInterrupt:
    print("interrupted")
except Terminated as error:
    print(error)
"""


@pytest.mark.parametrize(
    "signals, said",
    [
        ([signal.SIGTERM], "SIGTERM"),
        ([signal.SIGHUP], "SIGHUP"),
        ([signal.SIGINT], "interrupted"),
        ([signal.SIGINT] * 5, "interrupted"),
        ([signal.SIGTERM, signal.SIGINT, signal.SIGTERM], "SIGTERM"),
    ],
)
def test_real_signals_leave_the_pool_as_it_was(sysfs: Path, signals: list[signal.Signals], said: str) -> None:
    command = [sys.executable, "-P", "-c", CHILD, str(sysfs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        assert totals(sysfs) == (6, 5)
        for number in signals:
            child.send_signal(number)
            time.sleep(0.001)
        assert said in child.communicate(timeout=20)[0] or len(signals) > 1
    assert totals(sysfs) == (2, 5)


def test_no_permission_is_said_with_what_to_do(sysfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    change = MorePages(Pool(sysfs), "1G", 4)
    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(MachineError, match=r"nr_hugepages: cannot be set to 6 \(Permission denied\); run as root, or"):
        while_changed([change], lambda: None)


def test_what_cannot_be_undone_is_said(sysfs: Path) -> None:
    def remove() -> None:
        (sysfs / "setting").unlink()

    (sysfs / "setting").write_text("0")
    with pytest.raises(MachineError, match=r"setting.*could not be undone"):
        while_changed([Setting(sysfs / "setting", 1)], remove)


def test_a_size_or_setting_that_the_kernel_lacks(sysfs: Path) -> None:
    with pytest.raises(MachineError, match="this kernel has no 32M pages"):
        MorePages(Pool(sysfs), "32M", 1)
    with pytest.raises(MachineError, match="this kernel does not have the setting"):
        Setting(sysfs / "none", 1)
