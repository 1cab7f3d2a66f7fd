"""`poisonsim splits`: when a region mapped with 2M beats one mapped with 4K, and when neither matters."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from poisonsim.cli import complete
from poisonsim.cli.common import (
    WIDTH,
    collected_warnings,
    command_given,
    one_output,
    options_named,
    print_csv,
    print_json,
    print_table,
    user_errors,
)

if TYPE_CHECKING:
    from poisonsim.results.splits import Splits

EXAMPLES = (
    "poisonsim splits seed-1t --cpu zen5 --guest-page 2M",
    "poisonsim splits cloud-1t-ddr4 --cpu zen4 --cpu neoverse-n1 --guest-page 1G --out splits.png",
    "poisonsim splits --cpu zen5 --guest-page 4K --threshold 5% --json",
)
_FEW = 20
"""Cases up to which each has a row of its own; of more, a grid answers."""
_SUFFIXES = (".png", ".svg", ".html")


_OPTIONS = {"guest_page": "--guest-page", "guest_pages": "--guest-page", "cpus": "--cpu", "threshold": "--threshold"}


@user_errors
def splits_command(
    scenario: str = typer.Argument(
        "seed-1t", metavar="SCENARIO", autocompletion=complete.scenarios,
        help="Scenario: a name from `poisonsim catalog list`, or a TOML file.",
    ),
    cpu: list[str] = typer.Option(
        [], "--cpu", metavar="CPU|FILE.toml", show_default=False,
        help="CPU to compare on; repeat for more, the first is taken to be the scenario's. Default: four of different "
        "make, and the scenario's.",
    ),
    guest_page: list[str] = typer.Option(
        [], "--guest-page", metavar="SIZE", show_default=False,
        help="Guest page, such as 2M; repeat for more, as with --cpu. Default: 1G, 2M, 4K, and the scenario's.",
    ),
    threshold: str = typer.Option(
        "1%", "--threshold", metavar="SHARE", help="Share of run time below which a loss does not matter."
    ),
    settings: list[str] = typer.Option(
        [], "--set", metavar="KEY=VALUE", autocompletion=complete.settings,
        help="Override a scenario key; repeat for more. Default: none."
    ),
    out: list[Path] = typer.Option(
        [], "--out", "-o", metavar="FILE", show_default=False,
        help="Write the picture there: .png or .svg, or .html with the table; repeat for more. Default: none.",
    ),
    all_rows: bool = typer.Option(
        False, "--all", help=f"Print a row per case, however many. Default: a grid where there are more than {_FEW}."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print everything as JSON on stdout, nothing else there."),
    as_csv: bool = typer.Option(False, "--csv", help="Print the table as CSV on stdout, nothing else there."),
) -> None:  # fmt: skip
    """Say when a region that lost a page is better mapped with 2M than with 4K, and when neither matters.

    For every CPU, guest page and access pattern: from how many split regions on 2M is better, and from how many on it
    costs run time itself. --all, --json and --csv add what both ways cost with as many regions split as the scenario
    has hit.
    """
    from poisonsim.engine.store import write_whole
    from poisonsim.errors import ScenarioError
    from poisonsim.results.splits import splits
    from poisonsim.results.splits_words import grid_header_of, grid_of, header_of, heading_of, notes_of, rows_of
    from poisonsim.scenario import resolve_scenario

    one_output({"--json": as_json, "--csv": as_csv})
    wrong = [path for path in out if path.suffix not in _SUFFIXES]
    if wrong:
        raise ScenarioError(
            [f"--out {path}: says no kind of picture; end it in {', '.join(_SUFFIXES)}" for path in wrong]
        )
    resolved = resolve_scenario(scenario, overrides=settings)
    with collected_warnings(), options_named(_OPTIONS):
        found = splits(
            resolved.scenario, cpus=cpu, guest_pages=guest_page, threshold=_share(threshold),
            progress=lambda name: typer.echo(f"{name}: comparing", err=True),
        )  # fmt: skip
        command = command_given()
        for path in out:
            write_whole(path, _picture(path.suffix, found, resolved.name, command))
    for path in out:
        typer.echo(f"wrote {path}", err=True)
    if as_json:
        print_json({"scenario": resolved.name} | found.to_dict())
    elif as_csv:
        print_csv(found.table())
    else:
        typer.echo(textwrap.fill(found.verdict, WIDTH) + f"\n\n{heading_of(found, resolved.name)}\n")
        if all_rows or len(found.cases) <= _FEW:
            print_table(header_of(found), rows_of(found), right=3)
        else:
            print_table(grid_header_of(found), grid_of(found), right=2)
            typer.echo("of so many split regions: 2M better from / 2M costs from; losses and a row per case: --all")
        typer.echo("")
        for text in notes_of(found):
            typer.echo(textwrap.fill(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False))


def _share(text: str) -> float:
    from poisonsim.errors import ScenarioError, shown

    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise ScenarioError(
            f"--threshold: {shown(text)} is no share of run time; write one such as 1% or 0.01"
        ) from None


def _picture(suffix: str, found: Splits, name: str, command: str) -> bytes:
    from poisonsim.report.splits import splits_html, splits_png, splits_svg

    if suffix == ".png":
        return splits_png(found, name, command)
    return (splits_svg(found, name) if suffix == ".svg" else splits_html(found, name, command)).encode()
