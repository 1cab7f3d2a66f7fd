"""`poisonsim catalog`: the numbers that ship with poisonsim, each with its source and quality."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import typer

from poisonsim.cli import complete
from poisonsim.cli.common import examples, one_output, print_json, print_rows, print_table, user_errors
from poisonsim.cli.usage import Command

if TYPE_CHECKING:
    from poisonsim.catalog.entries import Entry
    from poisonsim.report.assumptions import InUse

app = typer.Typer(help="List and show scenarios, CPUs, fault tables and costs.", no_args_is_help=True)

_OWN = "make your own: poisonsim catalog show {} --toml > mine.toml"
_LEAST_SOURCE = 30
"""Characters of a source below which it is not shortened, however narrow the terminal."""


@app.command(
    "list", epilog=examples("poisonsim catalog list", "poisonsim catalog list cpus", "poisonsim catalog list --json")
)
@user_errors
def list_command(
    only: str = typer.Argument(
        None, metavar="[KIND]", help="Of this kind only, such as cpus. Default: all kinds.", show_default=False
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON on stdout, nothing else there."),
    as_csv: bool = typer.Option(False, "--csv", help="Print CSV on stdout, nothing else there."),
) -> None:
    """Every entry of the catalogue, or those of one kind."""
    from poisonsim import catalog
    from poisonsim.errors import ScenarioError, did_you_mean, shown

    one_output({"--json": as_json, "--csv": as_csv})
    if only is not None and only not in catalog.KINDS:
        known = ", ".join(catalog.KINDS)
        raise ScenarioError(f"{shown(only)} is no kind of entry; kinds: {known}{did_you_mean(only, catalog.KINDS)}")
    entries = [
        (kind, name, str(catalog.load(kind, name).get("title", "")))
        for kind in catalog.KINDS
        if only in (None, kind)
        for name in catalog.names(kind)
    ]
    if as_json or as_csv:
        rows = [{"kind": k, "name": n, "title": t} for k, n, t in entries]
        print_json({"catalog": rows}) if as_json else print_rows(rows)
        return
    print_table(["kind", "name", "title"], [list(entry) for entry in entries], right=9)
    typer.echo(f"\n{_OWN.format('NAME')}, edit it, and name the file where the name stood")


@app.command(
    "show",
    cls=Command,
    epilog=examples(
        "poisonsim catalog show ddr4-alibaba",
        "poisonsim catalog show cloud-1t-ddr4 --all",
        "poisonsim catalog show sapphire-rapids --csv",
    ),
)
@user_errors
def show_command(
    name: str = typer.Argument(
        ...,
        metavar="NAME|FILE.toml",
        autocompletion=complete.entries,
        help="Name of an entry, as `catalog list` prints it, or a TOML file of your own.",
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON on stdout, nothing left out."),
    as_csv: bool = typer.Option(False, "--csv", help="Print every number with its source as CSV on stdout."),
    as_toml: bool = typer.Option(False, "--toml", help="Print the TOML file as it is, to make one of your own from."),
    all_numbers: bool = typer.Option(False, "--all", help="For a scenario: also every number that a run would use."),
) -> None:
    """Every number of one entry with its unit, quality and source; for a scenario its fault model in words.

    A file of your own starts from one that ships: poisonsim catalog show field --toml > mine.toml. Edit it, and name it
    where the name stood, as in --set faults.laws=./mine.toml; `catalog show ./mine.toml` checks and lists it. Every
    number needs a source and a quality: measured-field, published, vendor or assumed.
    """
    from poisonsim.catalog import KINDS
    from poisonsim.catalog.entries import of_file, shipped

    one_output({"--json": as_json, "--csv": as_csv, "--toml": as_toml, "--all": all_numbers})
    entry = of_file(name) if name.endswith(".toml") else shipped(name)
    if as_toml:
        typer.echo(entry.text, nl=False)
        return
    if as_csv:
        print_rows([line.number._asdict() for line in entry.listed])
        return
    if entry.kind == "scenarios":
        _show_scenario(entry, as_json, all_numbers)
        return
    notes = _notes(entry)
    listed = entry.listed
    if as_json:
        numbers = [{**line.number._asdict(), "label": line.label} for line in listed]
        print_json({"kind": entry.kind, "name": name, "notes": notes, "numbers": numbers})
        return
    typer.echo(f"{KINDS[entry.kind]} {name}: {entry.title}\n")
    for note in notes:
        typer.echo(textwrap.fill(note, width=118, subsequent_indent="  "))
    if notes:
        typer.echo()
    rows = [[line.label, line.shown, line.number.quality, line.number.source] for line in listed]
    _print_sourced(["key", "value", "quality", "source"], rows)
    typer.echo(f"\n{len(listed)} numbers: {_grades(line.number.quality for line in listed)}")
    if not name.endswith(".toml"):
        typer.echo(_OWN.format(name))


def _notes(entry: Entry) -> list[str]:
    """What can be said of an entry beside its numbers.

    Raises:
        ScenarioError: It is a file that cannot be used; all its problems are listed.
    """
    from poisonsim import catalog
    from poisonsim.catalog.entries import check_costs
    from poisonsim.errors import ScenarioError
    from poisonsim.faults.address_map import load_address_map
    from poisonsim.faults.geometry import load_dimm
    from poisonsim.faults.laws import load_laws
    from poisonsim.faults.tables import load_fault_table
    from poisonsim.translation.cpus import load_cpu
    from poisonsim.units import format_bytes, page_name

    if entry.kind == "cpus":
        cpu = load_cpu(entry.name)
        return [
            f"TLB {level}[{i}] holds {', '.join(map(page_name, array.sizes_bytes))}"
            for level, arrays in (("l1", cpu.l1), ("l2", cpu.l2))
            for i, array in enumerate(arrays)
        ] + [
            f"{row['of']} can be read as {other} too: write {entry.name}:{row['name']}={other}"
            for row in entry.tables.get("reading", [])
            for other in row["others"]
        ]
    if entry.kind == "dimms":
        dimm = load_dimm(entry.name)
        itself = "correct single bits themselves" if dimm.on_die_ecc else "correct nothing themselves"
        return [f"{dimm.generation}, {format_bytes(dimm.bytes)}, {dimm.n_chips} chips, which {itself} (on_die_ecc)"]
    if entry.kind == "maps":
        fitting, problems = [], []
        for name in catalog.names("dimms"):
            try:
                load_address_map(entry.name, load_dimm(name))
            except ScenarioError as error:
                problems.append(error)
            else:
                fitting.append(name)
        if not fitting:
            raise min(problems, key=lambda error: len(error.problems))
        return [
            f"Its bits fit the DIMMs {', '.join(fitting)}.",
            "shift is the logarithm to base 2 of the bytes in a turn.",
        ]
    if entry.kind == "laws":
        load_laws(entry.name)
        return [
            "In a window 0 stands for all rows, lines, banks or ranks; in a threshold 0 hours for a count that never "
            "expires."
        ]
    if entry.kind == "faults":
        load_fault_table(entry.name)
        return ["FIT: faults per 10⁹ hours of one chip. n_ue: those of the faults on servers with UE tickets."]
    check_costs(entry.tables, where=entry.name)
    return []


def _show_scenario(entry: Entry, as_json: bool, all_numbers: bool) -> None:
    """The fault model in words, and the numbers that a run of the scenario would use, by grade or one by one."""
    from poisonsim.faults.words import in_words
    from poisonsim.report.assumptions import InUse, numbers_in_use
    from poisonsim.scenario import load_scenario

    scenario = load_scenario(entry.name)
    words, numbers = in_words(scenario), numbers_in_use(scenario)
    if entry.name.endswith(".toml"):  # what the file accounts for itself goes over what the catalogue says of the key
        of_file = [InUse("scenario", n.label, n.shown, n.number.source, n.number.quality) for n in entry.listed]
        keys = {number.key for number in of_file}
        others = [number for number in numbers if number.where != "scenario" or number.key not in keys]
        numbers = sorted([*of_file, *others], key=lambda number: not number.assumed)
    if as_json:
        own = [line.number._asdict() for line in entry.listed]
        in_use = [dataclasses.asdict(number) for number in numbers]
        print_json({"kind": entry.kind, "name": entry.name, "words": words, "numbers": own, "in_use": in_use})
        return
    typer.echo(f"scenario {entry.name}: {scenario.title or 'untitled'}\n")
    for sentence in words:
        typer.echo(textwrap.fill(sentence, width=118, subsequent_indent="  "))
    typer.echo(f"\n{len(numbers)} numbers in use, {sum(number.assumed for number in numbers)} of them assumed:\n")
    if all_numbers:
        rows = [[number.where, number.key, number.value, number.quality, number.source] for number in numbers]
        _print_sourced(["of", "key", "value", "quality", "source"], rows)
        return
    _print_grades(numbers)
    typer.echo(f"\nall of them, with their sources: poisonsim catalog show {entry.name} --all")
    if not entry.name.endswith(".toml"):
        typer.echo(_OWN.format(entry.name))


def _print_grades(numbers: Sequence[InUse]) -> None:
    """How many numbers of each part have which grade."""
    from poisonsim.catalog import QUALITIES

    grades = [grade for grade in (*QUALITIES, "") if any(number.quality == grade for number in numbers)]
    counts = Counter((number.where, number.quality) for number in numbers)
    rows = [
        [where, *(str(counts[where, grade] or "-") for grade in grades)]
        for where in dict.fromkeys(sorted(number.where for number in numbers))
    ]
    rows.append(["all", *(str(sum(number.quality == grade for number in numbers)) for grade in grades)])
    print_table(["numbers of", *(grade or "not read" for grade in grades)], rows)


def _grades(qualities: Iterable[str]) -> str:
    from poisonsim.catalog import QUALITIES

    counts = Counter(qualities)
    return ", ".join(f"{counts[grade]} {grade}" for grade in QUALITIES if counts[grade])


def _print_sourced(header: list[str], rows: list[list[str]]) -> None:
    """A table whose last column, the sources, is cut to the width of the terminal, if there is one."""
    if sys.stdout.isatty():
        others = sum(max(len(row[i]) for row in [header, *rows]) + 2 for i in range(len(header) - 1))
        most = max(shutil.get_terminal_size().columns - others, _LEAST_SOURCE)
        rows = [[*row[:-1], row[-1] if len(row[-1]) <= most else f"{row[-1][: most - 1]}…"] for row in rows]
    print_table(header, rows, right=9)
