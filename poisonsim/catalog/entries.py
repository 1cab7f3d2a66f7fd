"""Entries of the catalogue and files of the user's own alike: what kind each is, its text, and its numbers by name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from poisonsim import catalog
from poisonsim.catalog import KINDS, Costs, Number
from poisonsim.catalog.problems import FileProblems
from poisonsim.errors import ScenarioError, nearest

_COSTS = tuple(field.name for field in fields(Costs))
_STEPS = ("split_table_page_ns", "refault_leaf_ns", "refault_locked_ns")
"""Costs of what happens once for a leaf or a page of a table, of which a region has hundreds of thousands."""
_MOST_STEP_NS, _MOST_NS = 10**9, 10**14
_KEYS = {
    "scenarios": ("vm", "host", "faults", "workload", "horizon", "base", "provenance"),
    "faults": ("population", "tickets", "modes", "vendors"),
    "costs": _COSTS,
    "cpus": ("arch", "l1", "l2", "stlb_hit_cycles", "reference_cycles"),
    "dimms": ("generation", "module", "banks", "array"),
    "maps": ("hash", "interleave", "bits", "order"),
    "laws": ("shapes", "lines", "repeat", "bad_batch", "detection", "corrected", "thresholds"),
}
"""What stands at the top of a file of each kind, and of no other."""

_IN_LIST = re.compile(r"\b(interleave|l1|l2|shapes\.[\w-]+)\[(\d+)\]")
_ZERO = (
    (re.compile(r"shapes\..*\.window\.(rows|lines|banks|ranks)"), "all"),
    (re.compile(r"thresholds\..*\.window_hours"), "without a window"),
)


class Listed(NamedTuple):
    """A number of an entry as it is listed.

    Attributes:
        label: Its key, with the name of the list entry it belongs to.
        shown: Its value and unit as text.
        number: The number.
    """

    label: str
    shown: str
    number: Number


@dataclass(frozen=True)
class Entry:
    """A file of the catalogue, or of the user's own.

    Attributes:
        kind: One of `KINDS`.
        name: Name in the catalogue, or the path of the file.
        text: The file as it is.
        tables: What it says.

    Examples:
        >>> entry = shipped("skx-closed-6ch")
        >>> entry.kind, entry.listed[0].label, entry.listed[0].shown
        ('maps', 'interleave[0: controller].shift', '8')
        >>> [n.shown for n in shipped("field").listed if n.label == "shapes.row[0: one row].window.lines"]
        ['0 (all)']
    """

    kind: str
    name: str
    text: str
    tables: Mapping[str, Any]

    @property
    def title(self) -> str:
        """What it is called."""
        return str(self.tables.get("title", ""))

    @property
    def listed(self) -> list[Listed]:
        """Every number in file order; of a scenario those that its provenance accounts for."""
        if self.kind == "scenarios":
            numbers = catalog.scenario_numbers(self.tables)
        else:
            numbers = [*catalog._walk("", self.tables), *self._switches()]
        return [Listed(self._label(n.key), _shown(n), n) for n in numbers]

    def _switches(self) -> Iterator[Number]:
        """Values that are no numbers, but decide as much."""
        module = self.tables.get("module")
        if self.kind == "dimms" and isinstance(module, Mapping) and isinstance(module.get("on_die_ecc"), bool):
            yes = "true" if module["on_die_ecc"] else "false"
            yield Number("module.on_die_ecc", yes, "", str(module.get("source")), str(module.get("quality")))

    def _label(self, key: str) -> str:
        def named(match: re.Match[str]) -> str:
            node: Any = self.tables
            for part in match[1].split("."):
                node = node[part]
            entry = node[int(match[2])]
            name = entry.get("what") or entry.get("name") or ", ".join(entry.get("sizes", ()))
            return f"{match[1]}[{match[2]}: {name}]" if name else match[0]

        return _IN_LIST.sub(named, key, count=1)


def _shown(number: Number) -> str:
    value = number.value
    text = f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)
    for key, meaning in _ZERO:
        if value == 0 and key.fullmatch(number.key):
            text += f" ({meaning})"
    return f"{text} {number.unit}".strip()


def shipped(name: str) -> Entry:
    """The entry of the catalogue of that name, of whatever kind.

    Raises:
        ScenarioError: There is none.

    Examples:
        >>> shipped("linux").kind, shipped("zen5").title
        ('costs', 'AMD EPYC 9005, Zen 5 (Turin)')
    """
    kinds = [kind for kind in KINDS if name in catalog.names(kind)]
    if not kinds:
        known = [entry for kind in KINDS for entry in catalog.names(kind)]
        near = nearest(name, known)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise ScenarioError(
            f"'{name}' is not in the catalogue; {hint}`poisonsim catalog list` shows all; "
            f"a file works too: ./{name}.toml"
        )
    text = (resources.files("poisonsim.catalog") / kinds[0] / f"{name}.toml").read_text(encoding="utf-8")
    return Entry(kinds[0], name, text, catalog.load(kinds[0], name))


def of_file(path: str) -> Entry:
    """The entry that a TOML file holds; its kind is told by what stands at its top.

    Raises:
        ScenarioError: It cannot be read, or is of no kind of the catalogue or of several.
    """
    tables = catalog.read_toml(Path(path), where=path)
    found = [kind for kind, keys in _KEYS.items() if tables.keys() & set(keys)]
    if len(found) == 1:
        return Entry(found[0], path, Path(path).read_text(encoding="utf-8"), tables)
    kinds = "; ".join(f"a {KINDS[kind]} has {', '.join(keys[:3])}" for kind, keys in _KEYS.items())
    what = f"it has tables of {' and '.join(f'a {KINDS[kind]}' for kind in found)}" if found else "it is of no kind"
    raise ScenarioError(f"{path}: cannot tell what it describes, {what} of the catalogue: {kinds}")


def check_costs(tables: Mapping[str, Any], *, where: str) -> None:
    """Refuses tables that are no table of time costs.

    Raises:
        ScenarioError: Anything missing, unknown or out of range; all problems are listed.

    Examples:
        >>> check_costs(catalog.load("costs", "linux"), where="linux.toml")
    """
    problems = FileProblems(where)
    problems.known("", tables, _COSTS)
    for name in _COSTS:
        table = problems.table(name, tables.get(name))
        if table:
            problems.known(name, table, ("value",))
            most = _MOST_STEP_NS if name in _STEPS else _MOST_NS
            problems.whole(f"{name}.value", table.get("value"), least=0, most=most)
            problems.sourced(name, table)
    problems.raise_any()
