"""The kernel's counters against our arithmetic, with kernels that agree, differ, refuse and have no pages."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from poisonsim.errors import MachineError
from poisonsim.memory import hvo_saved_bytes, split_cost
from poisonsim.translation.calibrate import kernel
from poisonsim.translation.calibrate.kernel import Check, cases, run_probe, verify_kernel
from poisonsim.translation.calibrate.pool import Pool
from poisonsim.translation.calibrate.probe import Segment
from poisonsim.units import GIB

TABLE = 4096
PAGES = {"1G": (1 << 20, 8), "2M": (1 << 11, 2048)}

pytestmark = pytest.mark.skipif(not Path("/proc/vmstat").exists(), reason="needs Linux")


@pytest.fixture(autouse=True)
def x86(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(kernel, "require_memory", lambda *_: None)


def pool_of(folder: Path, *, free: bool) -> Pool:
    for kib, n in PAGES.values():
        (folder / f"hugepages-{kib}kB").mkdir(parents=True)
        for name in ("nr_hugepages", "free_hugepages", "resv_hugepages"):
            (folder / f"hugepages-{kib}kB" / name).write_text(f"{n if free and name[0] != 'r' else 0}\n")
    return Pool(folder)


def kernel_says(segments: Sequence[Segment]) -> dict[str, Any]:
    """Tables of a kernel that counts as Linux does, worked out from the segments alone."""
    at = small = huge = 0
    tables = set()
    for kind, size in segments:
        if kind == "4K":
            tables |= set(range(at >> 21, (at + size - 1 >> 21) + 1))
        small += size if kind in ("4K", "thp") else 0
        huge += size if kind in ("2M", "shmem-thp", "thp", "4K") else 0
        at += size
    n = len(tables) + (512 if any(kind == "thp" for kind, _ in segments) else 0) + (1 if huge else 0)
    return {"table_bytes": (1 + n) * TABLE}


def test_the_cases_are_whole_gibibytes_and_their_numbers_those_of_the_split() -> None:
    for case in cases():
        assert sum(segment.size_bytes for segment in case.segments) == GIB
    numbers = {case.what: case.expected_bytes for case in cases()}
    assert numbers["2M and 4K leaves, 1 poison"] == split_cost(path=("2M", "4K")).process_bytes == 8192
    assert numbers["4K leaves, 1 poison"] == split_cost(path=("4K",)).process_bytes == 2_101_248


def test_a_kernel_that_agrees(tmp_path: Path) -> None:
    said: list[str] = []
    checks = verify_kernel(pool=pool_of(tmp_path, free=True), probe=kernel_says, notice=said.append)
    by_counter = [(check.counter, check.verdict) for check in checks]
    assert by_counter == [("VmPTE", "agrees")] * 8 + [("memmap pages", "not checked")] * 4
    assert len(said) == 8
    assert "--reserve" in checks[-1].why and "sudo tee" in checks[-1].why


def test_a_kernel_that_counts_one_table_more(tmp_path: Path) -> None:
    def one_more(segments: Sequence[Segment]) -> dict[str, Any]:
        return {"table_bytes": kernel_says(segments)["table_bytes"] + TABLE}

    checks = verify_kernel(pool=pool_of(tmp_path, free=True), probe=one_more)[:8]
    assert {check.verdict for check in checks} == {"differs"}
    assert {check.measured_bytes - check.expected_bytes for check in checks if check.measured_bytes} == {TABLE}


def test_without_free_pages_the_command_is_named_and_the_rest_is_checked(tmp_path: Path) -> None:
    checks = verify_kernel(pool=pool_of(tmp_path, free=False), probe=kernel_says)[:8]
    verdicts = {check.what: check.verdict for check in checks}
    assert [what for what, verdict in verdicts.items() if verdict == "agrees"] == [
        "4K leaves, 1 poison", "4K leaves", "anonymous THP, 2M leaves", "shmem THP, 2M leaves",
    ]  # fmt: skip
    assert f"511 wanted, 0 free; add --reserve, or reserve them: echo 511 | sudo tee {tmp_path}" in checks[1].why


def test_what_the_kernel_refuses_is_not_checked(tmp_path: Path) -> None:
    checks = verify_kernel(pool=pool_of(tmp_path, free=True), probe=lambda _: {"refused": "0 of 1024 MiB came"})[:8]
    assert {check.verdict for check in checks} == {"not checked"}
    assert checks[6].why.endswith("echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled")
    assert checks[7].why.endswith("echo advise | sudo tee /sys/kernel/mm/transparent_hugepage/shmem_enabled")


def test_too_little_memory_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from poisonsim.translation.calibrate import areas

    monkeypatch.setattr(areas, "available_bytes", lambda: GIB)
    monkeypatch.setattr(kernel, "require_memory", areas.require_memory)
    checks = verify_kernel(pool=pool_of(tmp_path, free=True), probe=kernel_says)[:8]
    assert [check.verdict for check in checks].count("not checked") == 4  # all but those in free huge pages
    assert "1 GiB to map: too little memory, 512 MiB can be taken" in checks[5].why


def test_the_pool_and_hvo_are_changed_and_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, setting = pool_of(tmp_path / "pool", free=False), tmp_path / "hvo"
    setting.write_text("0\n")

    def n_saved() -> int:
        n_pages = {size: int(pool.file(size).read_text()) for size in PAGES}
        return sum(n * hvo_saved_bytes("x86-64", size) for size, n in n_pages.items()) * int(setting.read_text())

    monkeypatch.setattr(kernel, "_memmap_bytes", lambda: (1 << 30) - n_saved())
    monkeypatch.setattr(kernel, "require_free", lambda *_, **__: None)
    checks = verify_kernel(reserve=True, pool=pool, hvo_setting=setting, probe=kernel_says, settle_seconds=0.0)
    assert [check.verdict for check in checks if check.exact] == ["agrees"] * 12
    assert [check.counter for check in checks if not check.exact] == ["MemFree"] * 2
    assert {check.verdict for check in checks if not check.exact} == {"rough"}
    assert [pool.file(size).read_text() for size in PAGES] == ["0\n", "0\n"]
    assert setting.read_text() == "0\n"


def test_no_permission_to_reserve_leaves_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from poisonsim.translation.calibrate import pool as pool_module

    def refuse(path: Path, value: int) -> None:
        raise MachineError(f"{path}: cannot be set to {value} (Permission denied); run as root")

    pool = pool_of(tmp_path, free=False)
    monkeypatch.setattr(pool_module, "write_setting", refuse)
    checks = verify_kernel(reserve=True, pool=pool, hvo_setting=tmp_path / "none", probe=kernel_says)
    refused = [check for check in checks[:8] if check.verdict == "not checked"]
    assert len(refused) == 4 and all("Permission denied" in check.why for check in refused)
    assert all("this kernel does not have the setting" in check.why for check in checks[8:])


def test_interrupted_while_mapping_the_pool_is_set_back(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, free=False)

    def interrupt(_: Sequence[Segment]) -> dict[str, Any]:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(kernel, "require_free", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            verify_kernel(reserve=True, pool=pool, probe=interrupt)
    assert [pool.file(size).read_text() for size in PAGES] == ["0\n", "0\n"]


def test_other_architectures_are_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel.platform, "machine", lambda: "aarch64")
    with pytest.raises(MachineError, match="kernel: aarch64 is not checked yet; run it on an x86-64 Linux"):
        verify_kernel()


def test_a_probe_that_dies_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.CompletedProcess([], -9, "", "")
    monkeypatch.setattr(kernel.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(MachineError, match=r"the process that maps it ended early \(exit code -9\)"):
        run_probe([Segment("4K", TABLE)])


@pytest.mark.parametrize(
    "check, verdict",
    [
        (Check("a", "", "c", 1, 1, ""), "agrees"),
        (Check("a", "", "c", 1, 2, ""), "differs"),
        (Check("a", "", "c", 1, 2, "", exact=False), "rough"),
        (Check("a", "", "c", 1, None, ""), "not checked"),
    ],
)
def test_verdicts(check: Check, verdict: str) -> None:
    assert check.verdict == verdict == json.loads(json.dumps(check.to_dict()))["verdict"]


@pytest.mark.skipif(sys.platform != "linux" or kernel.platform.machine() != "x86_64", reason="needs Linux on x86-64")
def test_real_page_tables_of_a_small_mapping() -> None:
    """A hole, some base pages and a hole again: the first table, one for the 1 GiB and one for each 2 MiB touched."""
    found = run_probe([Segment("hole", TABLE), Segment("4K", (2 << 20) - TABLE), Segment("4K", 6 << 20)])
    assert found == {"table_bytes": (1 + 1 + 4) * TABLE}
