"""`poisonsim life`: one VM's life, event by event."""

from __future__ import annotations

import typer

from poisonsim.cli.common import collected_warnings, print_json, user_errors


@user_errors
def life_command(
    run: str = typer.Argument(..., metavar="RUN", help="Run folder that `poisonsim run` named."),
    trial: int = typer.Option(
        -1, "--trial", help="Which VM. Default: the first that sees an error.", show_default=False
    ),
    policy: str = typer.Option("", "--policy", help="Policy of the run. Default: its last.", show_default=False),
    as_json: bool = typer.Option(False, "--json", help="Print JSON on stdout."),
) -> None:
    """One VM's life event by event: what struck, what the policy did, and what every step changed."""
    from poisonsim.results.life import first_hit, life_of
    from poisonsim.results.runs import open_run

    with collected_warnings():
        result = open_run(run)
        life = life_of(result, first_hit(result) if trial == -1 else trial, policy or None)
    if as_json:
        data = {"schema": "poisonsim.life/1", "trial": life.trial, "policy": life.policy, "start": dict(life.start)}
        print_json({**data, "steps": [step.to_dict() for step in life.steps], "end": dict(life.end)})
        return
    for line in life.lines():
        typer.echo(line)
