"""What can be wrong with a scenario, in words: single values as pydantic finds them, then values that do not fit.

Every problem is found in one pass: a check across several keys runs wherever the keys it reads are themselves valid.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import annotated_types
from pydantic import ValidationError
from pydantic_core import ArgsKwargs, ErrorDetails

from poisonsim.errors import ScenarioError, did_you_mean
from poisonsim.scenario_fault_checks import FAULT_CHECKS
from poisonsim.scenario_problem import Problem, lines, loads, shown
from poisonsim.units import binary_meant, format_bytes, page_bytes, parse_years, size_text, time_text

T = TypeVar("T")

SECTIONS: dict[str, list[type[Any]]] = {}
"""Classes of each table of a scenario; more than one where the table's tag picks the class."""

TAGS = {"faults": "model", "workload": "access"}
"""Key whose value decides which other keys its table may have."""

SHARE = "share"
"""Mark of a field whose value is a share."""

ACCESS_KEYS = {
    "zipf": ("alpha", "over"),
    "uniform": (),
    "hot-cold": ("hot", "share", "over"),
    "sequential": (),
}
"""Keys that only some access patterns use."""

SWITCHES: dict[str, dict[str, Mapping[str, tuple[str, ...]]]] = {
    "faults": {"ue": {"empirical": (), "ecc": ("ecc",)}, "service": {"replace": ("repair",), "left-in": ()}},
    "workload": {"access": ACCESS_KEYS},
}
"""Keys of a table whose value decides which others have an effect, and which ones each value does."""

FILE_KEYS = {"host.cpu", "host.costs", "faults.table", "faults.laws", "faults.dimm", "faults.map"}
"""Keys whose value names a catalogue entry or a TOML file."""

MAX_STEPS = 1200

MAX_REGIONS = 1 << 24
"""Huge pages of one VM; as many take 1.3 GiB a thread."""

GUEST_PAGES = {
    "x86-64": ("1G", "2M", "4K"),
    "arm64": ("16G", "1G", "512M", "32M", "2M", "64K", "16K", "4K"),
    "riscv64": ("1G", "2M", "64K", "4K"),
}
"""Pages that guests of an instruction set map their memory with, largest first."""


def family(arch: str) -> str:
    """Instruction set of an architecture, whatever its base page.

    Examples:
        >>> family("arm64-16k")
        'arm64'
    """
    return "arm64" if arch.startswith("arm64") else arch


def section(name: str) -> Callable[[type[T]], type[T]]:
    """Decorator that registers a pydantic dataclass as table `name` and makes its constructor raise ScenarioError."""

    def register(cls: type[T]) -> type[T]:
        SECTIONS.setdefault(name, []).append(cls)
        return speak_plainly(cls)

    return register


def speak_plainly(cls: type[T]) -> type[T]:
    """The pydantic dataclass `cls` with a constructor that raises ScenarioError in place of pydantic's error."""

    @functools.wraps(cls.__init__)
    def construct(self: T, *args: object, **kwargs: object) -> None:
        if problems := fill(self, args, kwargs):
            raise ScenarioError([str(problem) for problem in problems])

    cls.__init__ = construct  # type: ignore
    return cls


def fill(instance: object, args: Sequence[object], kwargs: Mapping[str, object]) -> list[Problem]:
    """Problems of the values given; where there are none, `instance` holds them."""
    cls: Any = type(instance)
    try:
        cls.__pydantic_validator__.validate_python(ArgsKwargs(tuple(args), dict(kwargs)), self_instance=instance)
    except ValidationError as error:
        return [_word(cls, details) for details in error.errors(include_url=False)]
    return []


def section_of(cls: type[Any]) -> str:
    """Table that `cls` is registered for; empty for the scenario itself."""
    return next((name for name, classes in SECTIONS.items() if cls in classes), "")


def keys_of(cls: type[Any]) -> tuple[str, ...]:
    """Keys of a table's class, in order."""
    return tuple(cls.__pydantic_fields__)


def all_keys() -> list[str]:
    """Every dotted key that some scenario can have."""
    found = {f"{name}.{key}": None for name, classes in SECTIONS.items() for cls in classes for key in keys_of(cls)}
    return ["title", *found]


def unknown_key(name: str, key: str, known: Sequence[str]) -> str:
    """Words for a key that table `name` does not have."""
    above, _, last = key.rpartition(".")
    if (name or above) and last in SECTIONS:
        own = ", ".join(dotted for dotted in all_keys() if dotted.startswith(f"{last}."))
        return f"unknown key; {last} is a table of its own, with {own}"
    elsewhere = [dotted for dotted in all_keys() if dotted.rpartition(".")[2] == key]
    hint = did_you_mean(key, known)
    if elsewhere and not (hint and name):
        hint = f"; did you mean {elsewhere[0]}?"
    return f"unknown key{hint or did_you_mean(f'{name}.{key}', all_keys())}"


_TYPE_WORDS = {
    "int_type": "is not a whole number",
    "float_type": "is not a number",
    "finite_number": "is not a finite number",
    "bool_type": "is not true or false",
    "string_type": "is not text",
}
_RANGE_TYPES = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")
_NOT_A_TABLE = ("dataclass_type", "dataclass_exact_type", "model_attributes_type", "union_tag_not_found")


_MOST_BITS = 128


def _word(cls: type[Any], details: ErrorDetails) -> Problem:
    """One of pydantic's findings as a problem in our words."""
    kind, context, value = details["type"], details.get("ctx", {}), shown(details["input"])
    name, key = section_of(cls), str(next(iter(details["loc"]), ""))
    dotted = ".".join(filter(None, (name, key))) or "scenario"
    metadata = cls.__pydantic_fields__[key].metadata if key in cls.__pydantic_fields__ else []
    if SHARE in metadata and kind in (*_RANGE_TYPES, "float_type"):
        return Problem(dotted, f"{value} is not a share {range_words(metadata)}{_as_share(details['input'], metadata)}")
    if kind in _TYPE_WORDS:
        hint = "; write a name of the catalogue, or a file such as ./mine.toml" if dotted in FILE_KEYS else ""
        given = details["input"]
        if kind == "int_type" and isinstance(given, str) and given[:1].isdecimal():
            hint = "; write the number alone, without a unit or quotes"
        elif kind == "int_type" and isinstance(given, float) and given.is_integer() and abs(given) < 2**63:
            hint = f"; write it without point or exponent: {int(given)}"
        return Problem(dotted, f"{value} {_TYPE_WORDS[kind]}{hint}")
    if kind in _RANGE_TYPES:
        return Problem(dotted, f"{value} is not {range_words(metadata)}")
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", context["expected"])
        hint = did_you_mean(str(details["input"]), allowed)
        return Problem(dotted, f"{value} is not one of {', '.join(allowed)}{hint}")
    if kind == "value_error":
        message, whole = str(context["error"]), details["input"]
        if isinstance(whole, (str, float)) or (isinstance(whole, int) and whole.bit_length() <= _MOST_BITS):
            message = message.replace(f"'{whole}'", value)  # shortened, and on one line
        return Problem(dotted, message)
    if kind == "missing":
        return Problem(dotted, f'missing; {TAGS[name]} = "{getattr(cls, TAGS[name])}" needs it')
    if kind == "unexpected_keyword_argument":
        return Problem(dotted, _foreign_key(cls, name, key))
    if kind == "unexpected_positional_argument":
        return Problem(name or "scenario", f"{value} has no name; give every value by name, as in {keys_of(cls)[0]}=…")
    if kind in _NOT_A_TABLE:
        names = [table.__name__ for table in SECTIONS[key]]
        what = f"a {names[0]}" if len(names) == 1 else f"one of {', '.join(names)}"
        return Problem(dotted, f"{value} is not {what}; write {names[0]}(…)")
    return Problem(dotted, f"{value} cannot be used here")


def _foreign_key(cls: type[Any], name: str, key: str) -> str:
    """Words for a key that `cls` does not have: another model's, or nobody's."""
    owners = [other for other in SECTIONS.get(name, []) if key in keys_of(other)]
    if not owners:
        return unknown_key(name, key, keys_of(cls))
    tag = TAGS[name]
    models = " or ".join(f'"{getattr(other, tag)}"' for other in owners)
    return f'belongs to {tag} = {models}, but {tag} is "{getattr(cls, tag)}"; set {name}.{tag} as well'


def range_words(metadata: Sequence[object]) -> str:
    """Words for the bounds of a field."""
    words: dict[str, tuple[str, Any]] = {}
    for bound in metadata:
        match bound:
            case annotated_types.Ge(ge=low):
                words["low"] = ("at least", low)
            case annotated_types.Gt(gt=low):
                words["low"] = ("above", low)
            case annotated_types.Le(le=high):
                words["high"] = ("at most", high)
            case annotated_types.Lt(lt=high):
                words["high"] = ("below", high)
    if [word for word, _ in words.values()] == ["at least", "at most"]:
        return f"between {words['low'][1]:,.10g} and {words['high'][1]:,.10g}"
    return " and ".join(f"{word} {bound:,.10g}" for word, bound in words.values())


def _as_share(value: object, metadata: Sequence[object]) -> str:
    """The clause that says how a share is written that looks like a percentage; empty where none does."""
    text = str(value).strip().removesuffix("%").strip() if isinstance(value, (str, int, float)) else ""
    try:
        percent = float(text)
    except (ValueError, OverflowError):
        return "" if isinstance(value, (int, float)) else "; write a number such as 0.05"
    most = next(getattr(bound, "le", 0) or getattr(bound, "lt", 0) for bound in reversed(metadata) if bound != SHARE)
    if isinstance(value, str) and "%" not in value:
        return f"; write {text} without quotes" if 0 <= percent <= most else ""
    is_percentage = isinstance(value, str) or percent > 1
    return f"; write {percent / 100:.10g} for {percent:g} %" if is_percentage and 0 < percent / 100 <= most else ""


def check(values: Mapping[str, Any]) -> list[Problem]:
    """Problems between keys.

    Args:
        values: The keys whose own values are valid, with those values; checks that need another key are left out.
    """
    usable, problems = dict(values), []
    for needs, find in _CHECKS:
        if all(key in usable for key in needs):
            for problem in find(*(usable[key] for key in needs)):
                usable.pop(problem.key, None)
                problems.append(problem)
    return problems


def _backing(arch: str, backing: str) -> Iterator[Problem]:
    from poisonsim.memory import backings

    if backing not in (allowed := backings(arch)):
        yield Problem("vm.backing", f"{shown(backing)} is not one of {', '.join(allowed)}, the huge pages of {arch}")


def _any_backing(backing: str) -> Iterator[Problem]:
    from poisonsim.memory import ARCHITECTURES, backings

    allowed = dict.fromkeys(size for arch in ARCHITECTURES for size in backings(arch))
    if backing not in allowed:
        yield Problem("vm.backing", f"{shown(backing)} is not one of {', '.join(allowed)}")


def _contiguous(arch: str, backing: str, contiguous: bool) -> Iterator[Problem]:
    from poisonsim.memory import ladder

    try:
        ladder(arch, backing, contiguous=contiguous)
    except ScenarioError as error:
        for line in lines(error):
            yield Problem("vm.contiguous", line)


def _stage2_contiguous(arch: str, backing: str, contiguous: bool, stage2: bool) -> Iterator[Problem]:
    from poisonsim.memory import ARCHITECTURES, backings, ladder

    if not stage2 or backing not in backings(arch) or contiguous and not ARCHITECTURES[arch].contiguous_sizes:
        return  # nothing is asked for, or that is a problem of another key
    if not ARCHITECTURES[arch].contiguous_sizes:
        yield Problem("host.stage2_contiguous", f"true, but {arch} has no contiguous entries; write false")
    elif not (rungs := ladder(arch, backing, contiguous=contiguous)).contiguous_sizes:
        mend = f"{backing} has none below it" if contiguous else "set vm.contiguous = true as well"
        what = f"true, but no leaf here takes contiguous entries ({', '.join(rungs.sizes)}); {mend}, or write false"
        yield Problem("host.stage2_contiguous", what)


_BARE = 1 << 16
"""Bytes below which the memory of a VM is taken to have been meant in GiB or TiB."""


def _memory(memory: int, backing: str) -> Iterator[Problem]:
    region_bytes = page_bytes(backing)
    if memory % region_bytes:
        n_regions = max(round(memory / region_bytes), 1)
        meant = binary_meant(memory)
        pages = f"{memory / region_bytes:.6g} pages of {backing}"
        if memory < region_bytes:
            pages = f"less than a page of {backing}"
        elif "." not in pages or "e+" in pages:
            pages = f"no whole number of pages of {backing}"
        yield Problem(
            "vm.memory",
            f"{format_bytes(memory)} ({memory} bytes) is {pages}; the nearest whole number of them is: "
            f"{size_text(n_regions * region_bytes)}"
            + (f"; a number alone is bytes: write {memory}{'TiB' if memory < 64 else 'GiB'}" if memory < _BARE else "")
            + (f"; memory comes in binary units, so write {meant}" if meant else ""),
        )
    elif memory > MAX_REGIONS * region_bytes:
        yield Problem(
            "vm.memory",
            f"{format_bytes(memory)} is {memory // region_bytes:,} pages of {backing}; at most {MAX_REGIONS:,} are "
            f"simulated: take {format_bytes(MAX_REGIONS * region_bytes)}, or a larger vm.backing",
        )


def _guest_page_known(arch: str, guest_page: str | Mapping[str, float]) -> Iterator[Problem]:
    allowed = GUEST_PAGES[family(arch)]
    for size in _sizes(guest_page):
        if size not in allowed:
            pages = f"{', '.join(allowed)}, the pages of {family(arch)} guests"
            yield Problem("vm.guest_page", f"{shown(size)} is not one of {pages}")


def _guest_page_fits(backing: str, guest_page: str | Mapping[str, float]) -> Iterator[Problem]:
    for size in _sizes(guest_page):
        if page_bytes(size) > page_bytes(backing):
            yield Problem("vm.guest_page", f"{shown(size)} is larger than the backing; write {backing} or smaller")


def _sizes(guest_page: str | Mapping[str, float]) -> list[str]:
    return [guest_page] if isinstance(guest_page, str) else list(guest_page)


def _cpu(name: str) -> Iterator[Problem]:
    from poisonsim.translation.cpus import load_cpu

    for problem in loads("cpus", name, load_cpu):
        yield Problem("host.cpu", problem)


def _cpu_arch(arch: str, name: str) -> Iterator[Problem]:
    from poisonsim.translation.cpus import cpu_names, load_cpu

    if (cpu_arch := load_cpu(name).arch) != family(arch):
        fitting = ", ".join(each for each in cpu_names() if load_cpu(each).arch == family(arch))
        which = f"name a CPU of {family(arch)}{f': {fitting}' if fitting else ''}"
        yield Problem("host.cpu", f"{shown(name)} is {cpu_arch}, but vm.arch is {arch}; {which}")


def _costs(name: str) -> Iterator[Problem]:
    from poisonsim.catalog import load_costs

    for problem in loads("costs", name, load_costs):
        yield Problem("host.costs", problem)


def _grid(years: float, grid: str | float) -> Iterator[Problem]:
    n_steps = years / parse_years(grid)
    if n_steps > MAX_STEPS + 0.5:
        yield Problem("horizon.grid", f"{shown(grid)} cuts {years:g}y into {n_steps:.0f} steps; at most {MAX_STEPS}")
    elif round(n_steps) < 1 or abs(n_steps - round(n_steps)) > 1e-9 * n_steps:
        yield Problem(
            "horizon.grid",
            f"{shown(grid)} cuts {time_text(years)} into {n_steps:.6g} steps, not a whole number; "
            f"write a step that divides the horizon, such as {_dividing(years, n_steps)}",
        )


def _dividing(years: float, n_steps: float) -> str:
    """A step that divides the horizon, about as long as one that cuts it into `n_steps`."""
    near = {text: years / parse_years(text) for text in ("1d", "1week", "1month", "3months", "6months", "1y")}
    whole = {text: n for text, n in near.items() if 1 <= round(n) <= MAX_STEPS and abs(n - round(n)) <= 1e-9 * n}
    if whole:
        return min(whole, key=lambda text: abs(math.log(whole[text] / n_steps)))
    fewest, most = max(round(n_steps / 1.5), 1), min(round(n_steps * 1.5), MAX_STEPS)
    return min((time_text(round(years / n, 10)) for n in range(fewest, most + 1)), key=len, default=time_text(years))


def unused_key(name: str, table: Mapping[str, Any], key: str) -> str:
    """Words for a key that has no effect in table `name` with these values; empty where it has one.

    Examples:
        >>> unused_key("faults", {"service": "left-in"}, "repair")
        'belongs to service = "replace", but service is "left-in"'
        >>> unused_key("faults", {"service": "replace"}, "repair")
        ''
    """
    for switch, users in SWITCHES.get(name, {}).items():
        owners = [f'"{value}"' for value, keys in users.items() if key in keys]
        value = str(table.get(switch, ""))
        if owners and value in users and key not in users[value]:
            return f'belongs to {switch} = {" or ".join(owners)}, but {switch} is "{value}"'
    return ""


def _unused(name: str, switch: str) -> tuple[tuple[str, ...], Callable[..., Iterator[Problem]]]:
    """A check that no key has a value of its own that `switch` takes the effect from."""
    keys = tuple(dict.fromkeys(key for keys in SWITCHES[name][switch].values() for key in keys))

    def find(value: str, *values: object) -> Iterator[Problem]:
        cls = next(cls for cls in SECTIONS[name] if switch in keys_of(cls))
        for key, given in zip(keys, values, strict=True):
            if given != getattr(cls, key) and (problem := unused_key(name, {switch: value}, key)):
                yield Problem(f"{name}.{key}", problem)

    return tuple(f"{name}.{key}" for key in (switch, *keys)), find


_CHECKS: list[tuple[tuple[str, ...], Callable[..., Iterator[Problem]]]] = [
    (("vm.arch", "vm.backing"), _backing),
    (("vm.backing",), _any_backing),
    (("vm.arch", "vm.backing", "vm.contiguous"), _contiguous),
    (("vm.arch", "vm.backing", "vm.contiguous", "host.stage2_contiguous"), _stage2_contiguous),
    (("vm.memory", "vm.backing"), _memory),
    (("vm.arch", "vm.guest_page"), _guest_page_known),
    (("vm.backing", "vm.guest_page"), _guest_page_fits),
    (("host.cpu",), _cpu),
    (("vm.arch", "host.cpu"), _cpu_arch),
    (("host.costs",), _costs),
    *FAULT_CHECKS,
    (("horizon.years", "horizon.grid"), _grid),
    *(_unused(name, switch) for name, switches in SWITCHES.items() for switch in switches),
]
