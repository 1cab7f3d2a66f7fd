"""Where policies come from: shipped ones, files, installed packages; and what is said when they cannot be loaded."""

from __future__ import annotations

import ast
import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import poisonsim_policies
import pytest

from poisonsim.errors import PolicyError
from poisonsim.policy import Policy, all_policies, find_policy, load_policies, load_policy, loader, policy_names

SHIPPED_FILES = sorted(path for path in Path(poisonsim_policies.__path__[0]).glob("*.py") if path.stem != "__init__")
WHOLE = 'class Mine(Policy):\n    """Lose it."""\n    rules = [on(BACKING).do(UNMAP)]\n'


def refusal(load: Callable[[], object]) -> str:
    with pytest.raises(PolicyError) as caught:
        load()
    return str(caught.value)


# ------------------------------------------------------------------------------------------------- shipped


def code_lines(path: Path) -> int:
    """Lines that are neither blank nor part of a docstring."""
    tree = ast.parse(path.read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    in_docstrings = {
        line
        for node in ast.walk(tree)
        if isinstance(node, documented) and ast.get_docstring(node) is not None
        for line in range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)
    }
    lines = path.read_text().splitlines()
    return sum(bool(line.strip()) for number, line in enumerate(lines, 1) if number not in in_docstrings)


@pytest.mark.parametrize("path", SHIPPED_FILES, ids=lambda path: path.stem)
def test_a_shipped_policy_is_short_named_like_its_file_and_documented(path: Path) -> None:
    name = path.stem.replace("_", "-")
    source = find_policy(name)
    assert code_lines(path) <= 15 and len(path.read_text().splitlines()) <= 20
    assert source.note("Needs")
    assert (source.name, source.cls.name, source.origin) == (name, name, "poisonsim")
    assert Path(inspect.getfile(source.cls)) == path
    assert source.summary.endswith(".") and len(source.summary) <= 100
    assert source.note("Status") in {"mainline", "patches, not merged", "proposed", "hypothetical"}
    assert len(source.note("Source")) > 10
    assert source.note("Nonsense") == ""


def test_every_way_out_is_shipped() -> None:
    wanted = """
        collapse-nightly evacuate-after guest-offline hgm-contig hgm2m hgm2m-then-migrate hgm4k hgm4k-vma keep-mapped
        keep-mapped-hole migrate-then-hgm2m migrate1g reboot-after restart-after soft-offline unmap1g unmap1g-private
    """
    assert policy_names() == tuple(wanted.split())
    assert [source.name for source in all_policies()[0]] == sorted(policy_names())


# ------------------------------------------------------------------------------------------------- specs


def test_a_spec_is_a_name_with_parameters() -> None:
    assert load_policy("migrate1g:spares=8").params == {"spares": 8}
    assert load_policy("migrate1g:spares=1_000").params == {"spares": 1000}
    assert load_policy("migrate1g").params == {}


def test_classes_and_instances_are_policies_too() -> None:
    cls = find_policy("migrate1g").cls
    assert load_policy(cls).label == "migrate1g"
    instance = cls(spares=3)
    assert load_policy(instance) is instance


@pytest.mark.parametrize(
    ("spec", "fragment"),
    [
        ("hgm2", "unknown policy 'hgm2'; did you mean hgm2m?; known: collapse-nightly, evacuate-after, guest-offline"),
        ("zebra", "unknown policy 'zebra'; known: collapse-nightly, evacuate-after, guest-offline"),
        ("", "unknown policy ''"),
        ("hgm2m:spares=3", "policy hgm2m: unknown parameter 'spares'; it has none"),
        ("migrate1g:spare=3", "unknown parameter 'spare'; did you mean spares?; it has spares"),
        ("migrate1g:spares=-1", "spares = -1 is not a whole number from 0 to 65536"),
        ("migrate1g:spares=65537", "spares = 65537 is not a whole number from 0 to 65536"),
        ("migrate1g:spares=1.5", "parameter 'spares=1.5' is not name=whole-number, such as spares=8"),
        ("migrate1g:spares=", "parameter 'spares=' is not name=whole-number"),
        ("migrate1g:spares=two", "parameter 'spares=two' is not name=whole-number"),
        ("migrate1g:spares=2,spares=3", "parameter 'spares' is given twice; give it once"),
        ("migrate1g:spares=2, spares =3", "parameter 'spares' is given twice; give it once"),
        (
            "migrate1g:spares",
            "unknown policy 'migrate1g:spares'; write a parameter with its name, as in migrate1g:spares=N",
        ),
        ("./nowhere.py", "policy file nowhere.py does not exist; give a file, or one of: collapse-nightly"),
    ],
)
def test_a_wrong_spec_says_what_is_wrong(spec: str, fragment: str) -> None:
    assert fragment in refusal(lambda: load_policy(spec))


@pytest.mark.parametrize("spec", [3, None, dict, object()])
def test_other_things_are_no_policy(spec: object) -> None:
    assert "is not a policy; give a name, a file, or a subclass" in refusal(lambda: load_policy(spec))  # type: ignore[arg-type]


def test_the_same_policy_twice_is_refused() -> None:
    text = refusal(lambda: load_policies(["hgm2m", "unmap1g", "hgm2m"]))
    assert "'hgm2m' is named twice; name each policy once" in text


def test_a_policy_may_run_twice_with_different_parameters() -> None:
    labels = [policy.label for policy in load_policies(["migrate1g", "migrate1g:spares=2", "migrate1g:spares=3"])]
    assert labels == ["migrate1g", "migrate1g:spares=2", "migrate1g:spares=3"]


def test_every_wrong_spec_is_reported_at_once() -> None:
    with pytest.raises(PolicyError) as caught:
        load_policies(["hgm2", "unmap1g", "migrate1g:spares=-1", "unmap1g"])
    assert len(caught.value.problems) == 3


# ------------------------------------------------------------------------------------------------- files


def test_a_file_is_a_policy_named_after_it(policy_file: Callable[..., str]) -> None:
    path = policy_file(WHOLE, name="big_hammer")
    policy = load_policy(path)
    assert (policy.name, policy.label, policy.spec) == ("big-hammer", "big-hammer", path)
    assert find_policy(path).origin == path


def test_a_file_may_offer_several_classes_if_one_is_named(policy_file: Callable[..., str]) -> None:
    path = policy_file(WHOLE + WHOLE.replace("Mine", "Other").replace("UNMAP", "KEEP"))
    assert "2 policy classes, one is needed (found: Mine, Other)" in refusal(lambda: load_policy(path))
    assert str(load_policy(f"{path}:Other").rules[0]) == "on(BACKING): KEEP"
    assert "no policy class 'Mien' (found: Mine, Other)" in refusal(lambda: load_policy(f"{path}:Mien"))


def test_a_file_takes_parameters_with_and_without_a_class_name(policy_file: Callable[..., str]) -> None:
    path = policy_file(WHOLE.replace("    rules", "    limit: Annotated[int, Range(1, 9)] = 3\n    rules"))
    assert load_policy(f"{path}:limit=4").params == load_policy(f"{path}:Mine:limit=4").params == {"limit": 4}


def test_a_parameter_whose_name_ends_like_another_is_not_given_twice(policy_file: Callable[..., str]) -> None:
    path = policy_file(WHOLE.replace("    rules", "    n: int = 1\n    min_n: int = 1\n    rules"))
    assert load_policy(f"{path}:n=2,min_n=3").params == {"n": 2, "min_n": 3}


def test_classes_that_a_file_imports_are_not_its_own(policy_file: Callable[..., str]) -> None:
    path = policy_file("from poisonsim_policies.unmap1g import Unmap1G\n\n\n" + WHOLE)
    assert load_policy(path).name == "mine"


@pytest.mark.parametrize(
    ("body", "fragments"),
    [
        ("x = 1\n", ["mine.py: 0 policy classes, one is needed (found: none)", "a subclass of poisonsim.Policy"]),
        ("x = 1\ny = 1 / 0\n", ["mine.py:7 raised ZeroDivisionError on import: division by zero; mend the file"]),
        ("x = 1\nclass Mine(Policy:\n", ["mine.py:7 raised SyntaxError on import"]),
        ("import nowhere_to_be_found\n", ["mine.py:6 raised ModuleNotFoundError on import"]),
        ("rules = [on(BACKING).do('UNMAP')]\n", ["mine.py: 'UNMAP' is text; write UNMAP without quotes"]),
        ("import sys\nsys.exit(3)\n", ["mine.py", "SystemExit"]),
    ],
)
def test_a_file_that_cannot_be_used_says_where(
    policy_file: Callable[..., str], body: str, fragments: list[str]
) -> None:
    path = policy_file(body)
    try:
        text = refusal(lambda: load_policy(path))
    except SystemExit as error:
        pytest.fail(f"a policy file ended the program: {error!r}")
    assert [fragment for fragment in fragments if fragment not in text] == []


def test_a_line_is_that_of_the_file_not_of_what_it_calls(policy_file: Callable[..., str]) -> None:
    path = policy_file("import json\n\n\njson.loads('no json')\n" + WHOLE)
    assert "mine.py:9 raised JSONDecodeError" in refusal(lambda: load_policy(path))


def test_a_folder_is_no_policy_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").mkdir()
    assert "does not exist" in refusal(lambda: load_policy(str(tmp_path / "mine.py")))


def test_two_files_of_one_name_are_refused_and_both_named(policy_file: Callable[..., str]) -> None:
    paths = [policy_file(WHOLE, name=f"{folder}/mine") for folder in ("a", "b")]
    text = refusal(lambda: load_policies(paths))
    assert "two policies are called 'mine'" in text
    assert all(path in text for path in paths)
    assert "rename one file" in text


def test_a_file_named_like_a_shipped_policy_cannot_run_beside_it(policy_file: Callable[..., str]) -> None:
    path = policy_file(WHOLE, name="hgm2m")
    text = refusal(lambda: load_policies(["hgm2m", path]))
    assert "two policies are called 'hgm2m'" in text and path in text


def test_two_files_of_one_class_name_keep_apart(policy_file: Callable[..., str]) -> None:
    paths = [policy_file(WHOLE.replace("UNMAP", action), name=name) for name, action in (("a", "UNMAP"), ("b", "KEEP"))]
    found = {policy.name: str(policy.rules[0]) for policy in load_policies(paths)}
    assert found == {"a": "on(BACKING): UNMAP", "b": "on(BACKING): KEEP"}


def test_an_edited_file_is_read_again(policy_file: Callable[..., str]) -> None:
    path = policy_file(WHOLE)
    assert str(load_policy(path).rules[0]) == "on(BACKING): UNMAP"
    policy_file(WHOLE.replace("UNMAP", "KEEP"))
    os.utime(path, (1, 1))
    assert str(load_policy(path).rules[0]) == "on(BACKING): KEEP"


def test_a_relative_path_is_relative_to_where_it_is_used(
    policy_file: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for folder, action in (("a", "UNMAP"), ("b", "KEEP")):
        policy_file(WHOLE.replace("UNMAP", action), name=f"{folder}/relative")
        monkeypatch.chdir(tmp_path / folder)
        found.append(str(load_policy("./relative.py").rules[0]))
    assert found == ["on(BACKING): UNMAP", "on(BACKING): KEEP"]


# ------------------------------------------------------------------------------------------------- packages


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str, str], None]]:
    """Installs a package, as files on sys.path, that offers policies through its entry points."""
    loader._offered.cache_clear()

    def add(distribution: str, module_text: str, entry_points: str) -> None:
        site = tmp_path / f"site_{distribution}"
        info = site / f"{distribution}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[poisonsim.policies]\n{entry_points}\n")
        (site / f"{distribution}.py").write_text("from poisonsim.policy import *\n\n\n" + module_text)
        monkeypatch.syspath_prepend(site)

    yield add
    loader._offered.cache_clear()


def test_an_installed_package_offers_policies(install: Callable[[str, str, str], None]) -> None:
    install("acme_one", WHOLE, "acme-whole = acme_one:Mine")
    source = find_policy("acme-whole")
    assert (source.name, source.cls.name, source.origin) == ("acme-whole", "acme-whole", "acme_one")
    assert issubclass(source.cls, Policy)
    assert "acme-whole" in policy_names()
    assert load_policy("acme-whole").label == "acme-whole"
    assert "did you mean acme-whole?" in refusal(lambda: find_policy("acme-hole"))


@pytest.mark.parametrize(
    ("module", "entry", "fragment"),
    [
        ("raise OSError('no licence')\n", "p = acme_bad:Mine", "package acme_bad raised OSError on import: no licence"),
        ("Mine = 3\n", "p = acme_bad:Mine", "acme_bad:Mine of package acme_bad is not a subclass of poisonsim.Policy"),
        (WHOLE, "p = acme_bad:Mien", "package acme_bad raised AttributeError"),
    ],
)
def test_a_package_that_cannot_be_used_is_named(
    install: Callable[[str, str, str], None], module: str, entry: str, fragment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.delitem(sys.modules, "acme_bad", raising=False)
    install("acme_bad", module, entry)
    assert fragment in refusal(lambda: find_policy("p"))


def test_two_packages_that_offer_one_name_are_named(install: Callable[[str, str, str], None]) -> None:
    install("acme_two", WHOLE, "whole = acme_two:Mine")
    install("acme_three", WHOLE, "whole = acme_three:Mine")
    text = refusal(lambda: find_policy("whole"))
    assert "policy name 'whole' is taken 2 times" in text and "acme_two" in text and "acme_three" in text
    assert "uninstall one of the packages or rename its entry point" in text


def test_a_package_cannot_take_the_name_of_a_shipped_policy(install: Callable[[str, str, str], None]) -> None:
    install("acme_four", WHOLE, "hgm2m = acme_four:Mine")
    assert "policy name 'hgm2m' is taken 2 times: poisonsim, acme_four" in refusal(lambda: find_policy("hgm2m"))
    assert find_policy("unmap1g").origin == "poisonsim"


def test_one_class_under_two_names_answers_to_both(install: Callable[[str, str, str], None]) -> None:
    install("acme_five", WHOLE, "first = acme_five:Mine\nsecond = acme_five:Mine")
    assert [policy.label for policy in load_policies(["first", "second"])] == ["first", "second"]
