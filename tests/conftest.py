"""What several test files share: golden files, policy files, the command line in this process, one run."""

from __future__ import annotations

import difflib
import hashlib
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import poisonsim_policies
import pytest
from typer.testing import CliRunner

import poisonsim as ps
from poisonsim.policy import Act, load_policy
from poisonsim.results.result import Result


def shipped_text(kind: str, name: str) -> str:
    """The file of an entry of the catalogue."""
    return (resources.files("poisonsim.catalog") / kind / f"{name}.toml").read_text(encoding="utf-8")


GOLDEN = Path(__file__).parent / "golden"
FILES = tuple(path for path in Path(poisonsim_policies.__path__[0]).glob("*.py") if path.stem != "__init__")
SHIPPED = tuple(sorted(path.stem.replace("_", "-") for path in FILES))
EVERYWHERE = tuple(
    name
    for name, policy in ((name, load_policy(name)) for name in SHIPPED)
    if not policy.needs_contiguous
    and not any(rule.trigger == "on_ce" or rule.action is Act.EVACUATE for rule in policy.rules)
)
"""Those of the shipped policies that ask nothing of the host that a scenario may not have."""
POLICY_HEADER = "from typing import Annotated\n\nfrom poisonsim.policy import *\n\n\n"


def on_a_terminal(*arguments: str, cwd: Path | None = None, **changes: str) -> str:
    """What a command line, which must succeed, writes to a terminal; `changes` are of its environment."""
    reader, writer = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "poisonsim", *arguments],
        stdout=writer, stderr=writer, cwd=cwd, env={**environment, "TERM": "xterm-256color", **changes},
    )  # fmt: skip
    os.close(writer)
    output = b""
    while True:
        try:
            chunk = os.read(reader, 65536)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        output += chunk
    os.close(reader)
    assert child.wait() == 0
    return output.decode()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="Run what takes long too. Default: without it.")
    parser.addoption("--update-golden", action="store_true", help="Rewrite tests/golden/*.txt. Default: compare.")


_COMPILED_TOGETHER = (
    "ps.run('cloud-1t-ddr4', policies=['hgm2m', 'migrate1g'], trials=2000)",
    "res = ps.run('seed-1t', policies=['migrate1g', 'collapse-nightly'], trials=20); res.samples(); life_of(res, 0)",
)
"""What compiles most of what tests need, in two halves."""


def _compile() -> None:
    """Compiles the kernels in two processes, as workers that start together would all compile the same ones."""
    code = "import poisonsim as ps; from poisonsim.results.life import life_of; "
    halves = [subprocess.Popen([sys.executable, "-W", "ignore", "-c", code + half]) for half in _COMPILED_TOGETHER]
    assert [half.wait() for half in halves] == [0, 0]


def pytest_configure(config: pytest.Config) -> None:
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        _compile()
    config.addinivalue_line("markers", "slow: takes seconds; deselect with -m 'not slow'")
    config.addinivalue_line("markers", "long: takes longer than a check of every change may; run with --all")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--all"):
        left = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders of tests need not survive a power cut, and waiting for the disk takes most of their time."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compares text with tests/golden/NAME.txt, or writes it there under --update-golden."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / f"{name}.txt"
        if request.config.getoption("--update-golden"):
            path.write_text(text)
        known = path.read_text() if path.exists() else ""
        if text != known:
            diff = difflib.unified_diff(known.splitlines(), text.splitlines(), str(path), "now", lineterm="")
            pytest.fail("\n".join([*diff, "if this is meant: pytest tests/golden --update-golden"]), pytrace=False)

    return check


@pytest.fixture
def policy_file(tmp_path: Path) -> Callable[..., str]:
    """Writes a policy file, with the usual imports before its body, and returns its path."""

    def write(body: str, name: str = "mine", header: str = POLICY_HEADER) -> str:
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(header + body)
        return str(path)

    return write


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., object]:
    """Runs a command line in this process, from an empty directory."""
    from poisonsim.cli import app, progress

    monkeypatch.setattr(progress, "kernel_must_compile", lambda: False)  # what stderr has depends on no cache
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="session")
def distinct() -> Result:
    """Every shipped policy on 100 errors in 100 different 1 GiB pages: all trials must come out the same."""
    return ps.run("seed-1t-distinct", policies=[*EVERYWHERE, "migrate1g:spares=0"], trials=1000, seed=7)


@pytest.fixture(scope="session")
def uniform() -> Result:
    """Every shipped policy on 100 errors anywhere."""
    return ps.run("seed-1t", policies=[*EVERYWHERE, "migrate1g:spares=0"], trials=1000, seed=11)


@pytest.fixture(scope="session")
def statistical_seed() -> int:
    """Fixed, so that CI never fails by chance; POISONSIM_TEST_SEED sets another one."""
    return int(os.environ.get("POISONSIM_TEST_SEED", "20261123"))


@pytest.fixture(scope="session")
def field_data() -> Callable[[str], Path]:
    """Finds a file of the field data in `POISONSIM_DATA`, or in shared/data beside the repository; skips without it."""
    root = Path(os.environ.get("POISONSIM_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))

    def find(name: str) -> Path:
        if not (root / name).is_file():
            pytest.skip(f"no {name}: point POISONSIM_DATA at the folder that holds the field data")
        return root / name

    return find


@pytest.fixture(scope="session")
def hashes() -> Callable[[Path], dict[str, str]]:
    """SHA-256 of every file below a folder, by its path there."""

    def of(folder: Path) -> dict[str, str]:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    return of
