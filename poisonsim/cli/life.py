"""`poisonsim life`: one VM's life, event by event."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import typer

from poisonsim.cli import complete
from poisonsim.cli.common import collected_warnings, one_output, print_json, print_rows, user_errors

if TYPE_CHECKING:
    from poisonsim.results.life import Step

EXAMPLES = (
    "poisonsim life reports/mine",
    "poisonsim life reports/mine --trial 17 --policy hgm2m",
    "poisonsim life reports/mine --trial 17 --json",
)


@user_errors
def life_command(
    run: str = typer.Argument(..., metavar="RUN", help="Run folder that `poisonsim run` named."),
    trial: int = typer.Option(
        None,
        "--trial",
        min=0,
        metavar="N",
        help="Which VM. Default: the first that sees an error.",
        show_default=False,
    ),
    policy: str = typer.Option(
        "",
        "--policy",
        "-p",
        metavar="NAME",
        autocompletion=complete.policies,
        help="Policy of the run. Default: its last.",
        show_default=False,
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON on stdout, nothing else there."),
    as_csv: bool = typer.Option(
        False, "--csv", help="Print a row per step and metric that it changed as CSV on stdout, nothing else there."
    ),
) -> None:
    """Tell one VM's life event by event: what struck, what the policy did, and what that changed.

    Shown are mapping, lost memory, page tables and spares; every metric is in --json and --csv.
    """
    from poisonsim.results.life import first_hit, life_of
    from poisonsim.results.runs import open_run

    one_output({"--json": as_json, "--csv": as_csv})
    with collected_warnings():
        result = open_run(run)
        life = life_of(result, first_hit(result) if trial is None else trial, policy or None)
    if as_json:
        data = {"schema": "poisonsim.life/1", "trial": life.trial, "policy": life.policy, "start": dict(life.start)}
        print_json({**data, "steps": [step.to_dict() for step in life.steps], "end": dict(life.end)})
        return
    if as_csv:
        print_rows([row for number, step in enumerate(life.steps, 1) for row in _rows(number, step)])
        return
    for line in life.lines():
        typer.echo(line)


def _rows(number: int, step: Step) -> Iterator[dict[str, Any]]:
    """A step as rows, one per metric that it changed; one without a metric where it changed none."""
    about = {
        "step": number, "years": step.years, "what": step.what, "page": step.page, "region": step.region,
        "leaf": step.leaf, "found_by": step.found_by, "mode": step.mode, "acts": " ".join(step.acts),
    }  # fmt: skip
    for metric, change in step.changes.items() or [("", "")]:
        yield {**about, "metric": metric, "change": change}
