"""`poisonsim compare`: two policies of one run, or of two."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from poisonsim.cli import complete
from poisonsim.cli.common import WIDTH, collected_warnings, one_output, print_csv, print_json, print_table, user_errors

if TYPE_CHECKING:
    import pandas as pd

    from poisonsim.results.compare import Comparison
    from poisonsim.results.result import Result

METRICS = ["guest_lost_bytes", "capacity_cost_bytes", "table_bytes", "tlb_reach_loss", "slowdown", "vm_lost"]
_METRICS = ", ".join(METRICS)
EXAMPLES = (
    "poisonsim compare reports/mine --policy hgm2m --to hgm4k",
    "poisonsim compare reports/before reports/after --policy hgm2m",
    "poisonsim compare reports/mine --metric table_bytes --year 3 --json",
)


@user_errors
def compare_command(
    runs: list[Path] = typer.Argument(
        ..., metavar="RUN [RUN]", help="Run folders that `poisonsim run` named: one, or two of which the first is the "
        "one to compare with.", show_default=False,
    ),
    policy: list[str] = typer.Option(
        [], "--policy", "-p", metavar="NAME", autocompletion=complete.policies,
        help="Policy of the run, of the second if there are two; repeat for more. Default: all, or all that both have, "
        "and what else each has if that is one.",
        show_default=False,
    ),
    to: str = typer.Option(
        "", "--to", metavar="NAME", autocompletion=complete.policies, show_default=False,
        help="Policy to compare with, of the first run. Default: its first other policy; with two runs the same.",
    ),
    metric: list[str] = typer.Option(
        [], "--metric", "-m", metavar="NAME", autocompletion=complete.metrics, show_default=False,
        help=f"Metric to compare by; repeat for more. Default: {_METRICS}.",
    ),
    year: float = typer.Option(
        None, "--year", metavar="YEAR", help="Year of the comparison. Default: the last that both know.",
        show_default=False,
    ),
    as_json: bool = typer.Option(
        False, "--json", help="Print every metric and year, or those named, as JSON on stdout, nothing else there."
    ),
    as_csv: bool = typer.Option(
        False, "--csv", help="Print every metric and year, or those named, as CSV on stdout, nothing else there."
    ),
) -> None:  # fmt: skip
    """Say how policies differ, with intervals: of one run, or of two runs.

    Where both saw the same errors, differences are taken VM by VM, and are as sharp as they can be. Where seeds or
    faults differ, they cannot be paired; means are compared then, with the wider interval that this gives.
    """
    from poisonsim.results.compare_runs import what_differs, what_else_differs
    from poisonsim.results.compare_words import left_out
    from poisonsim.results.metrics import known_metric
    from poisonsim.results.runs import open_run

    one_output({"--json": as_json, "--csv": as_csv})
    _check_runs(runs)
    with collected_warnings():
        opened = [open_run(folder) for folder in runs]
        base, result = opened[0], opened[-1]
        for name in metric:
            known_metric(name, result.metrics)
            known_metric(name, base.metrics)
        if len(runs) == 2:
            _check_policies(runs, base, result, policy, to)
        found = [_compared(result, base, each, other) for each, other in _pairs(result, base, policy, to)]
        for comparison in found:
            comparison.difference("errors", year)  # refuses a year that is not there
        if len(runs) == 2:  # what nothing came of is last
            found.sort(key=lambda each: all(each.difference(name, year).best == 0 for name in METRICS))
        if as_json or as_csv:
            _print_data(found, runs, opened, metric, year, as_json=as_json)
            return
        if len(runs) == 2:
            what = what_differs(base.plan, result.plan) or " and ".join(what_else_differs(opened)) or "nothing"
            text = f"differs in: {what}"
            typer.echo(textwrap.fill(text, width=WIDTH, subsequent_indent="  ", break_on_hyphens=False) + "\n")
        for place, comparison in enumerate(found):
            typer.echo("\n" * bool(place), nl=False)
            _print_comparison(comparison, runs, list(dict.fromkeys(metric)) or METRICS, year)
        names = str(runs[-1]), str(runs[0])
        if len(runs) == 2 and not policy and not to and (left := left_out(result, base, names=names)):
            left += "; name two with --policy (of the second run) and --to (of the first)"
            typer.echo("\n" + textwrap.fill(left, width=WIDTH, subsequent_indent="  ", break_on_hyphens=False))


def _check_runs(runs: Sequence[Path]) -> None:
    from poisonsim.errors import RunFolderError
    from poisonsim.results.run_folder import require_folder

    for folder in runs:
        require_folder(folder)
    if len(runs) > 2:
        raise RunFolderError(f"{len(runs)} runs are named; compare one, or two with each other")
    if len(runs) == 2 and runs[0].resolve() == runs[1].resolve():
        raise RunFolderError(f"{runs[0]}: is named twice; name it once, with --policy and --to, or name another run")


def _check_policies(runs: Sequence[Path], base: Result, result: Result, policies: Sequence[str], to: str) -> None:
    """Refuses names of policies that the run which they are asked of lacks."""
    from poisonsim.errors import MetricError, no_such_policy

    for name, where, run, other in [
        *((each, runs[1], result, base) for each in policies),
        *((each, runs[0], base, result) for each in ([to] if to else policies)),
    ]:
        if name not in run.policies:
            order = "; --policy is of the second run, --to of the first" if name in other.policies else ""
            raise MetricError(no_such_policy(name, run.policies, str(where)) + order)


def _pairs(result: Result, base: Result, policies: Sequence[str], to: str) -> list[tuple[str, str]]:
    """Which policy is compared with which."""
    from poisonsim.errors import MetricError
    from poisonsim.results.compare_runs import pairs_of

    if result is base:
        reference = to or next((each for each in result.policies if each not in policies), result.policies[0])
        chosen = list(dict.fromkeys(policies)) or [each for each in result.policies if each != reference]
        if not chosen or chosen == [reference]:
            raise MetricError(
                f"the run has nothing to compare {reference} with; it has {', '.join(result.policies)}; "
                "name two of them with --policy and --to, or a second run"
            )
        return [(each, reference) for each in chosen if each != reference]
    if to:
        return [(each, to) for each in policies or result.policies]
    pairs = [(each, each) for each in dict.fromkeys(policies)] or pairs_of(result, base)
    if not pairs:
        raise MetricError(
            f"the runs have no policy in common: one has {', '.join(base.policies)}, the other "
            f"{', '.join(result.policies)}; name two of them with --policy and --to"
        )
    return pairs


def _compared(result: Result, base: Result, policy: str, to: str) -> Comparison:
    from poisonsim.results.compare_runs import compare

    return compare(result, base, policy=policy, to=to)


def _names(comparison: Comparison, runs: Sequence[Path]) -> tuple[str, str]:
    """What to call the two: with their runs where there are two."""
    if len(runs) == 1:
        return comparison.policy, comparison.to
    last = [folder.resolve().name for folder in runs]
    base, other = last if last[0] != last[1] else [str(folder) for folder in runs]
    return f"{comparison.policy} of {other}", f"{comparison.to} of {base}"


def _print_comparison(comparison: Comparison, runs: Sequence[Path], metrics: Sequence[str], year: float | None) -> None:
    from poisonsim.results.compare_words import compared

    names = _names(comparison, runs)
    told = compared(comparison, metrics, year, names=names)
    typer.echo(textwrap.fill(f"{told.what}: {told.how}", width=WIDTH, subsequent_indent="  ") + "\n")
    print_table(["mean", *names, "difference", "ratio"], [list(row) for row in told.rows])
    if told.unclear:
        typer.echo("~ the interval spans zero: there may be no difference")
    typer.echo("")
    for sentence in told.sentences:
        typer.echo(textwrap.fill(sentence, width=WIDTH, subsequent_indent="  ", break_on_hyphens=False))


def _print_data(
    found: Sequence[Comparison], runs: Sequence[Path], opened: Sequence[Result], metrics: Sequence[str],
    year: float | None, *, as_json: bool,
) -> None:  # fmt: skip
    import pandas as pd

    frames = [_chosen(comparison, metrics, year) for comparison in found]
    if not as_json:
        for comparison, frame in zip(found, frames, strict=True):
            for place, (name, value) in enumerate(
                {"policy": comparison.policy, "to": comparison.to, "paired": comparison.paired}.items()
            ):
                frame.insert(place, name, value)
        print_csv(pd.concat(frames, ignore_index=True))
        return
    print_json(
        {
            "schema": "poisonsim.compare/1",
            "runs": [
                {
                    "folder": str(folder),
                    "run_id": result.plan.run_id,
                    "seed": result.plan.seed,
                    "trials": result.n_trials,
                }
                for folder, result in zip(runs, opened, strict=True)
            ],
            "comparisons": [
                {
                    "policy": comparison.policy, "to": comparison.to, "paired": comparison.paired,
                    "unpaired_because": comparison.unpaired_because, "trials": comparison.n_trials,
                    "rows": _records(frame),
                }
                for comparison, frame in zip(found, frames, strict=True)
            ],
        }
    )  # fmt: skip


def _chosen(comparison: Comparison, metrics: Sequence[str], year: float | None) -> pd.DataFrame:
    """The rows of the table that were asked for: all, unless metrics or a year were named."""
    frame = comparison.table()
    if metrics:
        frame = frame[frame["metric"].isin(metrics)]
    return frame if year is None else frame[(frame["year"] - year).abs() < 1e-9]


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain data, with null where there is no number."""
    return [
        {key: None if isinstance(value, float) and value != value else value for key, value in row.items()}
        for row in frame.to_dict("records")
    ]
