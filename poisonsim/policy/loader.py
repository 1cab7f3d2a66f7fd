"""Finds policies: the shipped ones, those of installed packages, and files of the user's own.

A policy file is Python code and is run when it is loaded; nothing else that poisonsim reads is.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

import poisonsim_policies

from poisonsim.errors import PolicyError, did_you_mean
from poisonsim.policy.rules import COUNTERS, Policy

ENTRY_POINT_GROUP = "poisonsim.policies"
_PLACE = re.compile(r"(?<=') \([^()]*\.py\)$")  # where the module is that lacks a name


@dataclass(frozen=True)
class PolicySource:
    """Where a policy of a given name comes from."""

    name: str
    origin: str
    cls: type[Policy]

    @property
    def summary(self) -> str:
        """First line of the docstring."""
        return (inspect.getdoc(self.cls) or "").partition("\n")[0]

    def note(self, heading: str) -> str:
        """The docstring line that begins with `heading:`, without it; empty where there is none.

        Examples:
            >>> find_policy("unmap1g").note("Status")
            'mainline'
        """
        for line in (inspect.getdoc(self.cls) or "").splitlines():
            if line.startswith(f"{heading}:"):
                return line.removeprefix(f"{heading}:").strip().rstrip(".")
        return ""


def policy_names() -> tuple[str, ...]:
    """Names of the shipped policies and of those that installed packages offer.

    Examples:
        >>> "hgm2m" in policy_names()
        True
    """
    return tuple(sorted({*_shipped_names(), *_offered()}))


def all_policies() -> tuple[tuple[PolicySource, ...], tuple[str, ...]]:
    """Every shipped or installed policy in name order, and what is wrong with those that cannot be loaded."""
    sources: list[PolicySource] = []
    problems: list[str] = []
    for name in policy_names():
        try:
            sources.append(find_policy(name))
        except PolicyError as error:
            problems += error.problems
    return tuple(sources), tuple(problems)


def find_policy(name: str, *, source: str = "") -> PolicySource:
    """The policy called `name`, or the one in the file `name` (`./mine.py` or `./mine.py:MyPolicy`).

    Args:
        name: What it is called.
        source: Text of the file, which then need not be here.

    Raises:
        PolicyError: No such policy or file, two policies of that name, a file that raises, or one that does
            not define exactly one policy.

    Examples:
        >>> find_policy("hgm2m").cls.__name__
        'Hgm2M'
    """
    path, _, class_name = name.rpartition(":") if ".py:" in name else (name, "", "")
    if path.endswith(".py"):
        return _from_text(source, Path(path), class_name) if source else _from_file(Path(path), class_name)
    offered = _offered().get(name, ())
    origins = [*(["poisonsim"] if name in _shipped_names() else []), *(_distribution(point) for point in offered)]
    if len(origins) > 1:
        raise PolicyError(
            f"policy name '{name}' is taken {len(origins)} times: {', '.join(origins)}; "
            "uninstall one of the packages or rename its entry point"
        )
    if not origins:
        raise PolicyError(_unknown(name))
    if offered:
        return _from_entry_point(offered[0])
    module = importlib.import_module(f"poisonsim_policies.{name.replace('-', '_')}")
    return PolicySource(name, "poisonsim", _the_policy_in(module, name, f"poisonsim_policies/{module.__name__}"))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # no file can have such a name
        return False


def _unknown(name: str) -> str:
    """What to say of a name that no policy has: what else was likely meant."""
    if "," in name:
        given = [f"--policy {part.strip()}" for part in name.split(",") if part.strip()]
        return f"unknown policy '{name}'; give each policy an option of its own: {' '.join(given)}"
    stem = name.removesuffix(".")
    as_module = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", stem.replace("-", "_")).lower()  # a class is named MyPolicy
    for file in (Path(f"{stem}.py"), Path(f"{stem.replace('-', '_')}.py"), Path(f"{as_module}.py")):
        if _is_file(file):
            path = f"{'' if file.is_absolute() else './'}{file}"
            return f"unknown policy '{name}', but {path} is a file here; name it as one: --policy {path}"
    known = policy_names()
    head, colon, value = name.rpartition(":")
    if colon and head in known and (parameters := find_policy(head).cls.parameters()):
        such_as = f"{head}:{next(iter(parameters))}={value if value.isdecimal() else 'N'}"
        return f"unknown policy '{name}'; write a parameter with its name, as in {such_as}"
    return (
        f"unknown policy '{name}'{did_you_mean(name, known)}; known: {', '.join(known)}; "
        "a file works too: --policy ./mine.py"
    )


def load_policy(spec: str | Policy | type[Policy], *, source: str = "") -> Policy:
    """A policy with its parameters, from `"hgm2m"`, `"migrate1g:spares=8"`, `"./mine.py:n=3"`, a class or an instance.

    Args:
        spec: What to load.
        source: Text of the file that it names, which then need not be here.

    Raises:
        PolicyError: See `find_policy`; also a parameter that is unknown, not a whole number, or out of range.

    Examples:
        >>> load_policy("migrate1g:spares=8").params
        {'spares': 8}
    """
    if isinstance(spec, Policy):
        return spec
    if isinstance(spec, type) and issubclass(spec, Policy):
        return spec()
    if not isinstance(spec, str):
        raise PolicyError(f"{spec!r} is not a policy; give a name, a file, or a subclass of poisonsim.Policy")
    name, text = split_spec(spec)
    params: dict[str, int] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        key, _, value = (side.strip() for side in part.partition("="))
        if key in params:
            raise PolicyError(f"policy {name}: parameter '{key}' is given twice; give it once")
        try:
            params[key] = int(value.replace("_", ""))
        except ValueError:
            raise PolicyError(f"policy {name}: parameter '{part}' is not name=whole-number, such as spares=8") from None
    policy = find_policy(name, source=source).cls(**params)
    policy.spec = spec
    return policy


def split_spec(spec: str) -> tuple[str, str]:
    """What a policy is loaded from, and the parameters written behind it.

    Examples:
        >>> split_spec("./mine.py:Mine:n=3,m=4"), split_spec("./mine.py:Mine"), split_spec("hgm2m")
        (('./mine.py:Mine', 'n=3,m=4'), ('./mine.py:Mine', ''), ('hgm2m', ''))
    """
    head, separator, tail = spec.rpartition(":")
    return (head, tail) if separator and "=" in tail else (spec, "")


def load_policies(specs: Iterable[str | Policy | type[Policy]]) -> tuple[Policy, ...]:
    """Every policy of `specs`, each label once.

    Raises:
        PolicyError: See `load_policy`; also two policies that would carry the same label.

    Examples:
        >>> [p.label for p in load_policies(["unmap1g", "migrate1g:spares=2"])]
        ['unmap1g', 'migrate1g:spares=2']
    """
    loaded: list[Policy] = []
    problems: list[str] = []
    for spec in specs:
        try:
            policy = load_policy(spec)
        except PolicyError as error:
            problems += error.problems
            continue
        clash = next((other for other in loaded if other.label == policy.label), None)
        if clash is not None:
            where = {_module_file(type(clash)), _module_file(type(policy))}
            if len(where) == 1:
                problems.append(f"'{policy.label}' is named twice; name each policy once")
            else:
                problems.append(
                    f"two policies are called '{policy.label}' ({' and '.join(sorted(where))}); rename one file"
                )
        loaded.append(policy)
    if problems:
        raise PolicyError(problems)
    return tuple(loaded)


def _module_file(cls: type[Policy]) -> str:
    return getattr(sys.modules.get(cls.__module__), "__file__", None) or cls.__module__


@cache
def _shipped_names() -> tuple[str, ...]:
    return tuple(sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules(poisonsim_policies.__path__)))


@cache
def _offered() -> dict[str, tuple[EntryPoint, ...]]:
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        found[point.name] = (*found.get(point.name, ()), point)
    return found


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value


def _from_entry_point(point: EntryPoint) -> PolicySource:
    origin = _distribution(point)
    try:
        cls = point.load()
    except Exception as error:
        raise PolicyError(
            f"policy {point.name}: package {origin} raised {type(error).__name__} on import: {error}; "
            "mend or uninstall it"
        ) from error
    if not (isinstance(cls, type) and issubclass(cls, Policy)):
        raise PolicyError(
            f"policy {point.name}: {point.value} of package {origin} is not a subclass of poisonsim.Policy"
        )
    # a subclass, because a package may offer one class under several names
    named = type(cls.__name__, (cls,), {"name": point.name, "__doc__": cls.__doc__, "__module__": cls.__module__})
    return PolicySource(point.name, origin, named)


def _from_file(path: Path, class_name: str) -> PolicySource:
    if not _is_file(path):
        raise PolicyError(f"policy file {path} does not exist; give a file, or one of: {', '.join(policy_names())}")
    return _from_text(None, path, class_name)


def _from_text(source: str | None, path: Path, class_name: str) -> PolicySource:
    """The policy in a file; its text is read from there unless it is given."""
    name = path.stem.replace("_", "-")
    module = ModuleType(f"poisonsim_policy_file_{sha256(str(path.resolve()).encode()).hexdigest()[:12]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    try:
        source = path.read_text() if source is None else source
        exec(compile(source, str(path), "exec"), module.__dict__)
    except PolicyError as error:
        raise PolicyError([f"{path}: {problem}" for problem in error.problems]) from error
    except (Exception, SystemExit) as error:
        line = _last_line_in(path, error)
        what = f"{path}{line} raised {type(error).__name__} on import: {re.sub(_PLACE, '', str(error))}"
        raise PolicyError(f"{what}; {_missing_name(error) or 'mend the file'}") from error
    cls = _the_policy_in(module, name, str(path), class_name)
    cls.source = source
    return PolicySource(name, str(path), cls)


def _missing_name(error: BaseException) -> str:
    """What to write where a file uses or imports a name of poisonsim.policy that is not there; else empty."""
    offered = importlib.import_module("poisonsim.policy").__all__
    if isinstance(error, NameError) and error.name:
        if error.name in offered:
            return f"add it to the imports: from poisonsim.policy import {error.name}"
        if error.name in COUNTERS:
            return f'a guard is text: write it in quotes, as in when="{error.name} >= 2"'
        hint = did_you_mean(error.name, offered).removeprefix("; ")
        return f"{hint} mend the file".lstrip()
    wrong = re.match(r"cannot import name '(\w+)' from 'poisonsim\.policy'", str(error))
    if isinstance(error, ImportError) and wrong:
        hint = did_you_mean(wrong[1], offered).removeprefix("; ")
        return f"{hint} poisonsim.policy has {', '.join(offered)}".lstrip()
    return ""


def _last_line_in(path: Path, error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f":{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
    return f":{lines[-1]}" if lines else ""


def _the_policy_in(module: ModuleType, name: str, where: str, class_name: str = "") -> type[Policy]:
    classes = [
        cls
        for cls in vars(module).values()
        if isinstance(cls, type) and issubclass(cls, Policy) and cls.__module__ == module.__name__
    ]
    chosen: Sequence[type[Policy]] = [cls for cls in classes if cls.__name__ == class_name] if class_name else classes
    if len(chosen) != 1:
        found = ", ".join(cls.__name__ for cls in classes) or "none"
        wanted = f"no policy class '{class_name}'" if class_name else f"{len(classes)} policy classes, one is needed"
        raise PolicyError(f"{where}: {wanted} (found: {found}); a policy is a subclass of poisonsim.Policy")
    chosen[0].name = name
    return chosen[0]
