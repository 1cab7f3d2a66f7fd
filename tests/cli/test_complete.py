"""Shell completion: what is offered, asked as a shell asks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from poisonsim import catalog
from poisonsim.cli import complete
from poisonsim.policy import policy_names


@pytest.mark.parametrize(
    ("what", "incomplete", "some", "none"),
    [
        (complete.scenarios, "", ["seed-1t", "cloud-1t-ddr4"], ["zen5"]),
        (complete.scenarios, "seed", ["seed-1t", "seed-1t-distinct"], ["cloud-1t-ddr4"]),
        (complete.entries, "ze", ["zen5"], ["seed-1t"]),
        (complete.policies, "", list(policy_names()), []),
        (complete.policies, "hgm", ["hgm2m", "hgm4k"], ["unmap1g"]),
        (complete.policies, "migrate1g:", ["migrate1g:spares="], ["migrate1g"]),
        (complete.metrics, "table", ["table_bytes"], ["slowdown"]),
        (complete.settings, "host.hvo", ["host.hvo=", "host.hvo_with_hgm=", "host.hvo_with_keep="], ["vm.memory="]),
        (complete.settings, "host.hvo_with_hgm=o", ["host.hvo_with_hgm=off-everywhere"], ["host.hvo=true"]),
        (complete.settings, "host.cpu=z", ["host.cpu=zen5"], ["host.cpu=sapphire-rapids"]),
        (complete.swept, "host.hvo", ["host.hvo", "host.hvo_with_hgm", "host.hvo_with_keep"], ["title"]),
        (complete.swept, "host.cpu=zen4,zen", ["host.cpu=zen4,zen5"], []),
    ],
)  # fmt: skip
def test_names_that_begin_so(what: object, incomplete: str, some: list[str], none: list[str]) -> None:
    found = what(incomplete)  # type: ignore[operator]
    assert all(name.startswith(incomplete) for name in found)
    assert set(some) <= set(found) and not set(none) & set(found)


@pytest.mark.parametrize(
    "incomplete", ["nope:", "./gone.py:", "\0:", "host.memory=", "x=", "=", "faults.map=a", "host="]
)
def test_what_cannot_be_completed_is_not(incomplete: str) -> None:
    for what in (complete.policies, complete.settings, complete.swept):
        assert what(incomplete) == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("poisonsim run seed-1t --policy hgm4k_", set()),
        ("poisonsim run cloud", {"cloud-1t-ddr4"}),
        ("poisonsim run --policy unmap1g-", {"unmap1g-private"}),
        ("poisonsim compare a -m capacity", {"capacity_cost_bytes"}),
        ("poisonsim catalog show seed-1t-", {"seed-1t-distinct"}),
        ("poisonsim run --set host.hvo", {"host.hvo=", "host.hvo_with_hgm=", "host.hvo_with_keep="}),
        ("poisonsim sweep --over host.hvo", {"host.hvo", "host.hvo_with_hgm", "host.hvo_with_keep"}),
        ("poisonsim sweep --vary host.hvo_with_hgm=k", {"host.hvo_with_hgm=kept"}),
        ("poisonsim sweep --metric capacity", {"capacity_cost_bytes"}),
        ("poisonsim pol", {"policies"}),
    ],
)
def test_a_shell_is_answered(line: str, expected: set[str], tmp_path: Path) -> None:
    words = line.split()
    environment = {**os.environ, "_POISONSIM_COMPLETE": "complete_bash", "COMP_WORDS": line}
    environment["COMP_CWORD"] = str(len(words) - 1)
    code = "import sys; sys.argv = ['poisonsim']; from poisonsim.cli import app; app(prog_name='poisonsim')"
    done = subprocess.run([sys.executable, "-c", code], env=environment, text=True, capture_output=True, cwd=tmp_path)
    assert done.stderr == ""
    assert {word for word in done.stdout.split("\n") if word} == expected


def test_completion_installs(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "SHELL": "/bin/bash"}
    code = "import sys; sys.argv = ['poisonsim', '--install-completion', 'bash']; from poisonsim.cli import app; "
    code += "app(prog_name='poisonsim')"
    done = subprocess.run([sys.executable, "-c", code], env=environment, text=True, capture_output=True, cwd=tmp_path)
    assert (done.returncode, "completion installed" in done.stdout) == (0, True), done.stderr
    assert any("poisonsim" in path.read_text() for path in tmp_path.rglob("*") if path.is_file())


def test_every_scenario_is_offered() -> None:
    assert complete.scenarios("") == list(catalog.names("scenarios"))
