"""What is installed: a wheel with policies, catalogue and templates, and packages of others that add policies.

Everything is built from copies in a temporary directory and installed with pip into a directory of its own, which
PYTHONPATH puts before the checkout. Commands run interpreted there (NUMBA_DISABLE_JIT), as compiling takes longer.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from poisonsim import catalog
from poisonsim.policy import policy_names

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
POLICY = """from poisonsim.policy import BACKING, KEEP, UNMAP, Policy, on


class {name}(Policy):
    \"\"\"Keep the first poisons, then lose the huge page.

    Status: hypothetical.
    Source: a test.
    \"\"\"

    rules = [on(BACKING, when="hits_in_vm <= {kept}").do(KEEP), on(BACKING).do(UNMAP)]
"""


def build(source: Path, out: Path) -> Path:
    """The wheel of the project in `source`."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    [wheel] = out.glob("*.whl")
    return wheel


def install(wheel: Path, target: Path) -> None:
    """Installs a wheel alone into `target`."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    done = subprocess.run([*command, str(wheel)], text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of this repository."""
    place = tmp_path_factory.mktemp("wheel")
    skipped = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "tests", "reports")
    shutil.copytree(ROOT, place / "source", ignore=skipped)
    return build(place / "source", place / "out")


@pytest.fixture(scope="module")
def target(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where it is installed."""
    place = tmp_path_factory.mktemp("installed")
    install(wheel, place)
    return place


@pytest.fixture(scope="module")
def third_party(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Builds the wheel of a package that offers one policy."""

    def make(package: str, offered: str, kept: int) -> Path:
        source = tmp_path_factory.mktemp(package)
        (source / "pyproject.toml").write_text(
            "[build-system]\n"
            'requires = ["setuptools"]\n'
            'build-backend = "setuptools.build_meta"\n'
            "[project]\n"
            f'name = "{package}"\n'
            'version = "1.0"\n'
            '[project.entry-points."poisonsim.policies"]\n'
            f'{offered} = "{package}:Patient"\n'
            "[tool.setuptools]\n"
            f'py-modules = ["{package}"]\n'
        )
        (source / f"{package}.py").write_text(POLICY.format(name="Patient", kept=kept))
        return build(source, source / "out")

    return make


def run(target: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The installed command, from a directory that has nothing to do with the checkout."""
    environment = {**os.environ, "PYTHONPATH": str(target), "PYTHONSAFEPATH": "1", "NUMBA_DISABLE_JIT": "1"}
    return subprocess.run(
        [str(target / "bin" / "poisonsim"), *arguments],
        text=True, capture_output=True, cwd=cwd, env=environment, timeout=120,
    )  # fmt: skip


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_a_wheel_holds_every_module_policy_catalogue_file_and_template(wheel: Path) -> None:
    names = names_in(wheel)
    wanted = {
        str(path.relative_to(ROOT))
        for pattern in ("**/*.py", "catalog/*/*.toml", "report/templates/*", "py.typed")
        for path in (ROOT / "poisonsim").glob(pattern)
    }
    wanted |= {f"poisonsim_policies/{path.name}" for path in (ROOT / "policies").glob("*.py")}
    assert wanted - names == set()
    assert any(name.startswith("poisonsim/report/templates/") for name in wanted)
    assert sum(name.startswith("poisonsim/catalog/") and name.endswith(".toml") for name in names) >= 19


def test_a_wheel_holds_nothing_else(wheel: Path) -> None:
    top = {name.partition("/")[0] for name in names_in(wheel)}
    assert {name for name in top if not name.endswith(".dist-info")} == {"poisonsim", "poisonsim_policies"}
    assert not [name for name in names_in(wheel) if "__pycache__" in name or name.endswith((".nbi", ".nbc"))]
    assert any(name.endswith("licenses/LICENSE") for name in names_in(wheel))


def test_building_leaves_nothing_in_the_checkout(wheel: Path) -> None:
    assert not (ROOT / "build").exists() and not (ROOT / "dist").exists()


def test_the_installed_package_is_the_one_that_runs(target: Path, tmp_path: Path) -> None:
    code = "import poisonsim, poisonsim_policies; print(poisonsim.__file__, *poisonsim_policies.__path__)"
    environment = {**os.environ, "PYTHONPATH": str(target)}
    found = subprocess.run(
        [sys.executable, "-P", "-c", code], text=True, capture_output=True, cwd=tmp_path, env=environment, check=True
    ).stdout.split()
    assert found == [str(target / "poisonsim" / "__init__.py"), str(target / "poisonsim_policies")]


def test_the_installed_command_finds_policies_and_catalogue(target: Path, tmp_path: Path) -> None:
    listed = run(target, tmp_path, "policies", "list", "--json")
    assert (listed.returncode, listed.stderr) == (0, "")
    shipped = [entry["name"] for entry in json.loads(listed.stdout)["policies"] if entry["origin"] == "poisonsim"]
    assert shipped == [name for name in policy_names() if (ROOT / "policies" / f"{name.replace('-', '_')}.py").exists()]
    assert "hgm2m" in shipped
    entries = json.loads(run(target, tmp_path, "catalog", "list", "--json").stdout)["catalog"]
    assert {entry["name"] for entry in entries} == {name for kind in catalog.KINDS for name in catalog.names(kind)}
    assert run(target, tmp_path, "--version").stdout.startswith("poisonsim ")


def test_the_installed_command_writes_a_report(target: Path, tmp_path: Path) -> None:
    done = run(target, tmp_path, "run", "--policy", "hgm2m", "--trials", "20", "--out", "run")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000


def test_interpreted_and_compiled_runs_give_the_same_numbers(target: Path, tmp_path: Path) -> None:
    import poisonsim as ps

    arguments = ("--policy", "migrate-then-hgm2m", "--trials", "20", "--seed", "3", "--no-report", "--out", "run")
    done = run(target, tmp_path, "run", *arguments)
    assert done.returncode == 0, done.stderr
    interpreted = ps.open_run(tmp_path / "run")
    compiled = ps.run("seed-1t", policies=["unmap1g", "migrate-then-hgm2m"], trials=20, seed=3)
    assert interpreted.plan.run_id == compiled.plan.run_id
    assert interpreted.samples().equals(compiled.samples())
    assert "Warning" not in done.stderr, done.stderr[:500]


def test_a_package_of_others_adds_a_policy(target: Path, tmp_path: Path, third_party: Callable[..., Path]) -> None:
    place = tmp_path / "site"
    shutil.copytree(target, place)
    install(third_party("acme_policies", "acme-patient", kept=30), place)
    listed = run(place, tmp_path, "policies", "list")
    assert (listed.returncode, listed.stderr) == (0, "")
    [row] = [line for line in listed.stdout.splitlines() if line.startswith("acme-patient ")]
    assert "hypothetical" in row and "Keep the first poisons, then lose the huge page." in row
    assert "acme-patient  (acme" in run(place, tmp_path, "policies", "show", "acme-patient").stdout
    done = run(
        place,
        tmp_path,
        "run",
        "seed-1t-distinct",
        "--policy",
        "acme-patient",
        "--trials",
        "20",
        "--no-report",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    lost = [
        row["mean"]
        for row in json.loads(done.stdout)["summary"]
        if (row["policy"], row["metric"], row["year"]) == ("acme-patient", "guest_lost_bytes", 5)
    ]
    assert lost == [70 * 2**30 + 30 * 4096]


def test_two_packages_that_offer_one_name_are_refused(
    target: Path, tmp_path: Path, third_party: Callable[..., Path]
) -> None:
    place = tmp_path / "site"
    shutil.copytree(target, place)
    for package in ("acme_one", "acme_two"):
        install(third_party(package, "patient", kept=1), place)
    done = run(place, tmp_path, "run", "--policy", "patient")
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: policy name 'patient' is taken 2 times" in done.stderr
    assert "acme" in done.stderr and "uninstall one of the packages or rename its entry point" in done.stderr
    assert "Traceback" not in done.stderr
    other = run(place, tmp_path, "policies", "check", "hgm2m")
    assert (other.returncode, other.stderr) == (0, "")  # what is not ambiguous still works
