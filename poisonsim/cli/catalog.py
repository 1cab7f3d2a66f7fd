"""`poisonsim catalog`: the numbers that ship with poisonsim, each with its source and quality."""

from __future__ import annotations

import dataclasses
import textwrap

import typer

from poisonsim.cli.common import print_json, print_table, user_errors

app = typer.Typer(help="List and show scenarios, CPUs, fault tables and costs.", no_args_is_help=True)


@app.command("list")
@user_errors
def list_command(as_json: bool = typer.Option(False, "--json", help="Print JSON on stdout.")) -> None:
    """Every entry of the catalogue."""
    from poisonsim import catalog

    entries = [
        (kind, name, str(catalog.load(kind, name).get("title", "")))
        for kind in catalog.KINDS
        for name in catalog.names(kind)
    ]
    if as_json:
        print_json({"catalog": [{"kind": k, "name": n, "title": t} for k, n, t in entries]})
        return
    print_table(["kind", "name", "title"], [list(entry) for entry in entries], right=9)


@app.command("show")
@user_errors
def show_command(
    name: str = typer.Argument(..., help="Name of an entry, as `catalog list` prints it."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON on stdout."),
) -> None:
    """Every number of one entry with its unit, quality and source; for a scenario its fault model in words as well."""
    from poisonsim import catalog
    from poisonsim.errors import ScenarioError, did_you_mean
    from poisonsim.translation.cpus import load_cpu
    from poisonsim.units import page_name

    kinds = [kind for kind in catalog.KINDS if name in catalog.names(kind)]
    if not kinds:
        known = [entry for kind in catalog.KINDS for entry in catalog.names(kind)]
        raise ScenarioError(f"'{name}' is not in the catalogue{did_you_mean(name, known)}; known: {', '.join(known)}")
    kind = kinds[0]
    if kind == "scenarios":
        _show_scenario(name, as_json)
        return
    numbers = catalog.numbers(kind, name)
    if as_json:
        print_json({"kind": kind, "name": name, "numbers": [number._asdict() for number in numbers]})
        return
    typer.echo(f"{catalog.KINDS[kind]} {name}: {catalog.load(kind, name).get('title', '')}\n")
    if kind == "cpus":
        cpu = load_cpu(name)
        for level, arrays in (("l1", cpu.l1), ("l2", cpu.l2)):
            held = "; ".join(
                f"{level}[{i}] holds {', '.join(map(page_name, array.sizes_bytes))}" for i, array in enumerate(arrays)
            )
            typer.echo(f"TLB {held}")
        typer.echo()
    rows = [[n.key, f"{n.value} {n.unit}".strip(), n.quality, n.source] for n in numbers]
    print_table(["key", "value", "quality", "source"], rows, right=9)


def _show_scenario(name: str, as_json: bool) -> None:
    """The fault model in words, and every number that a run of the scenario would use."""
    from poisonsim import catalog
    from poisonsim.faults.words import in_words
    from poisonsim.report.assumptions import numbers_in_use
    from poisonsim.scenario import load_scenario

    scenario = load_scenario(name)
    words, numbers = in_words(scenario), numbers_in_use(scenario)
    if as_json:
        own = [number._asdict() for number in catalog.numbers("scenarios", name)]
        in_use = [dataclasses.asdict(number) for number in numbers]
        print_json({"kind": "scenarios", "name": name, "words": words, "numbers": own, "in_use": in_use})
        return
    typer.echo(f"scenario {name}: {scenario.title}\n")
    for sentence in words:
        typer.echo(textwrap.fill(sentence, width=118, subsequent_indent="  "))
    typer.echo(f"\n{len(numbers)} numbers in use, {sum(number.assumed for number in numbers)} of them assumed:\n")
    rows = [[number.where, number.key, number.value, number.quality, number.source] for number in numbers]
    print_table(["of", "key", "value", "quality", "source"], rows, right=9)
