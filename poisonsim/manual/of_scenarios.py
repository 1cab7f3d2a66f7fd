"""The pages on scenario keys, metrics and the catalogue."""

from __future__ import annotations

import inspect
from collections import Counter
from typing import Any, get_args

from pydantic_core import PydanticUndefined

import poisonsim.scenario  # noqa: F401 - it defines the keys
from poisonsim import catalog
from poisonsim.catalog.entries import shipped
from poisonsim.manual.markdown import code, meanings_of, page, table
from poisonsim.results.metrics import Metric, metrics_for
from poisonsim.scenario_checks import SECTIONS, SHARE, SWITCHES, TAGS, keys_of, range_words
from poisonsim.units import format_bytes, time_text

_SIZE = "text with a unit (`KiB` to `PiB`, `kB` to `PB`), or bytes"
_TIME = "text with a unit: `h`, `d`, `weeks`, `months` or `y`"
_NAMED = "a name (`poisonsim catalog list`) or a TOML file"
_TAKES = {
    "vm.memory": _SIZE,
    "vm.backing": "a huge page size of the architecture: on x86-64 `1G` or `2M`",
    "vm.guest_page": 'a page size, or shares such as `{"2M" = 0.9, "4K" = 0.1}`',
    "host.cpu": _NAMED,
    "host.costs": _NAMED,
    "host.patrol": _TIME,
    "host.ce_threshold": "`off`, or a threshold of the laws: `poisonsim catalog show field` lists them",
    "host.free_memory": f"{_SIZE}, or 0",
    "faults.ue_per_tib_year": 'a number per TiB and year, or text such as `"66FIT"` or `"1/month"`',
    "faults.table": _NAMED,
    "faults.laws": _NAMED,
    "faults.dimm": _NAMED,
    "faults.map": f"{_NAMED}; options go behind a colon, such as `:ranks=4`",
    "faults.repair": _TIME,
    "faults.vendor": "`fleet`, `mixed`, or a vendor of the table",
    "horizon.years": f"years, or {_TIME}",
    "horizon.grid": _TIME,
}
"""What keys take whose type does not say it."""

_TITLES = {
    "vm": "The VM", "host": "The host", "faults": "The errors", "workload": "What the guest touches",
    "horizon": "How long",
}  # fmt: skip


def keys_page() -> str:
    """Every key of a scenario: default, unit, what is allowed, and what it means."""
    parts = []
    for section, classes in SECTIONS.items():
        parts.append(f"## `[{section}]` {_TITLES[section]}")
        for cls in classes:
            tag = TAGS.get(section, "") if len(classes) > 1 else ""
            if tag:
                parts.append(f'### `{tag} = "{getattr(cls, tag)}"`')
            parts.append((inspect.getdoc(cls) or "").partition("\n")[0])
            parts.append(table(["key", "takes", "default", "meaning"], _rows(section, cls, tag)))
    for section, switches in SWITCHES.items():
        for key, uses in switches.items():
            told = [f"`{value}`: {', '.join(map(code, keys)) or 'none'}" for value, keys in uses.items()]
            parts.append(f"Keys that depend on `{section}.{key}`: {'; '.join(told)}. Others have no effect there.")
    return page(
        "Scenario keys",
        "Every key: what it takes, its unit, default and meaning.",
        "A scenario is a TOML file with the tables below. It may begin with `title`, and with `base`, a scenario of "
        "the catalogue or another file, named as from this one, to go over; what neither says has the default. "
        "`--set KEY=VALUE` goes over the file, and `--years` over everything. A year is 365.25 days; one FIT is one "
        "failure per 10⁹ hours of a chip. `poisonsim run SCENARIO --dry-run` prints every value with where it came "
        "from.",
        *parts,
        "## `[[provenance]]` Where numbers are from",
        "Lists of `keys` with their `source` (text) and `quality`, one of "
        f"{', '.join(map(code, catalog.QUALITIES))}. Reports list every value that is assumed.",
    )


def _rows(section: str, cls: type[Any], tag: str) -> list[list[str]]:
    meanings = meanings_of(cls)
    rows = []
    for key in keys_of(cls):
        if key == tag:
            continue
        field = cls.__pydantic_fields__[key]
        dotted = f"{section}.{key}"
        rows.append([code(dotted), _takes(dotted, field), _shown(dotted, field.default), meanings[key]])
    return rows


def _takes(dotted: str, field: Any) -> str:
    if dotted in _TAKES:
        return _TAKES[dotted]
    if field.annotation is bool:
        return "`true` or `false`"
    if choices := get_args(field.annotation):
        return " or ".join(map(code, choices))
    kind = "a share" if SHARE in field.metadata else {int: "a whole number", float: "a number"}[field.annotation]
    return f"{kind} {range_words(field.metadata)}"


def _shown(dotted: str, value: object) -> str:
    """A default as a file spells it."""
    if value is PydanticUndefined:
        return "none: it must be given"
    if dotted in ("vm.memory", "host.free_memory"):
        return code(f'"{format_bytes(float(str(value))).replace(" ", "")}"')
    if dotted in ("host.patrol", "faults.repair"):
        return code(f'"{time_text(float(str(value)))}"')
    if isinstance(value, bool):
        return code(str(value).lower())
    return code(f'"{value}"' if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else value)


def metrics_page() -> str:
    """Every metric: unit, direction and definition."""
    metrics = metrics_for(("1G", "2M", "4K"))
    groups = dict.fromkeys(metric.group for metric in metrics)
    return page(
        "Metrics",
        "Every reported quantity: unit, direction and definition.",
        "They are what `summary.csv`, `--json`, `--metric`, `--fail-if` and `--until` speak of. Each is known at every "
        "point of the grid, and as a mean over the life (`year = life`). The mean of a 0/1 metric is a probability. "
        "There is one `leaves_` and one `share_` metric for each leaf size of the architecture; those of x86-64 are "
        "listed.",
        *(
            f"## {group.capitalize()}\n\n"
            + table(["metric", "unit", "better", "definition"], [_metric(m) for m in metrics if m.group == group])
            for group in groups
        ),
    )


def _metric(metric: Metric) -> list[str]:
    unit = "0 or 1" if metric.kind == "flag" else "ratio" if metric.unit == "1" else metric.unit
    return [code(metric.name), unit, metric.better, metric.definition]


def catalogue_page() -> str:
    """Every entry of the catalogue, by kind, with how its numbers are graded."""
    parts = []
    for kind, called in catalog.KINDS.items():
        rows = []
        for name in catalog.names(kind):
            entry = shipped(name)
            counts = Counter(line.number.quality for line in entry.listed)
            rows.append([code(name), entry.title, *(str(counts[q] or "-") for q in catalog.QUALITIES)])
        plural = "sets of laws" if kind == "laws" else f"{called.replace('table', 'tables', 1)}"
        heading = plural if plural != called else f"{called}s"
        parts.append(f"## {heading[0].upper()}{heading[1:]}\n\n" + table(["name", "is", *catalog.QUALITIES], rows))
    return page(
        "The catalogue",
        "Every scenario, CPU, DIMM, map, fault table and law.",
        "`poisonsim catalog show NAME` prints every number of an entry with its unit, quality and source, and with "
        "`--toml` the file itself, to make one of your own from. The columns on the right count numbers by quality: "
        "measured in the field, published, from the vendor, or assumed.",
        *parts,
    )
