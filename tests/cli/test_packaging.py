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
from pathlib import Path

import pytest

import poisonsim as ps
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


def third_party(source: Path, package: str, kept: int) -> Path:
    """The wheel of a package that offers the policy `acme-patient`, which keeps the first `kept` poisons."""
    source.mkdir()
    (source / "pyproject.toml").write_text(
        "[build-system]\n"
        'requires = ["setuptools"]\n'
        'build-backend = "setuptools.build_meta"\n'
        "[project]\n"
        f'name = "{package}"\n'
        'version = "1.0"\n'
        '[project.entry-points."poisonsim.policies"]\n'
        f'acme-patient = "{package}:Patient"\n'
        "[tool.setuptools]\n"
        f'py-modules = ["{package}"]\n'
    )
    (source / f"{package}.py").write_text(POLICY.format(name="Patient", kept=kept))
    return build(source, source / "out")


@pytest.fixture(scope="module")
def with_package(target: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of it beside which a package of others is installed."""
    place = tmp_path_factory.mktemp("others")
    shutil.copytree(target, place / "site")
    install(third_party(place / "one", "acme_one", kept=30), place / "site")
    return place / "site"


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
        for pattern in ("**/*.py", "catalog/*/*.toml", "report/templates/*", "manual/**/*.md", "py.typed")
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


@pytest.fixture(scope="module")
def interpreted(target: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run, with its report, by the installed command; and what it said on stderr."""
    place = tmp_path_factory.mktemp("run")
    arguments = ("--policy", "migrate-then-hgm2m", "--trials", "20", "--seed", "3", "--out", "run")
    done = run(target, place, "run", *arguments)
    assert done.returncode == 0, done.stderr
    return place / "run", done.stderr


def test_the_installed_command_writes_a_report(interpreted: tuple[Path, str]) -> None:
    assert (interpreted[0] / "report.html").stat().st_size > 10_000


def test_interpreted_and_compiled_runs_give_the_same_numbers(interpreted: tuple[Path, str]) -> None:
    opened = ps.open_run(interpreted[0])
    compiled = ps.run("seed-1t", policies=["unmap1g", "migrate-then-hgm2m"], trials=20, seed=3)
    assert opened.plan.run_id == compiled.plan.run_id
    assert opened.samples().equals(compiled.samples())


def test_interpreted_runs_warn_of_nothing_but_few_trials(interpreted: tuple[Path, str]) -> None:
    assert [line for line in interpreted[1].splitlines() if not line.startswith("warning: 20 trials")] == []


def test_a_package_of_others_adds_a_policy(with_package: Path, tmp_path: Path) -> None:
    listed = run(with_package, tmp_path, "policies", "list")
    assert (listed.returncode, listed.stderr) == (0, "")
    [row] = [line for line in listed.stdout.splitlines() if line.startswith("acme-patient ")]
    assert "hypothetical" in row and "Keep the first poisons, then lose the huge page." in row
    arguments = ("--policy", "acme-patient", "--trials", "20", "--no-report", "--json")
    done = run(with_package, tmp_path, "run", "seed-1t-distinct", *arguments)
    assert done.returncode == 0, done.stderr
    rows = {(row["policy"], row["metric"], row["year"]): row["mean"] for row in json.loads(done.stdout)["summary"]}
    assert rows["acme-patient", "guest_lost_bytes", 5] == 70 * 2**30 + 30 * 4096


def test_two_packages_that_offer_one_name_are_refused(with_package: Path, tmp_path: Path) -> None:
    shutil.copytree(with_package, tmp_path / "site")
    install(third_party(tmp_path / "two", "acme_two", kept=1), tmp_path / "site")
    done = run(tmp_path / "site", tmp_path, "run", "--policy", "acme-patient")
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("error: policy name 'acme-patient' is taken 2 times: acme")
    assert line.endswith("uninstall one of the packages or rename its entry point")
    other = run(tmp_path / "site", tmp_path, "policies", "check", "hgm2m")
    assert (other.returncode, other.stderr) == (0, "")  # what is not ambiguous still works
