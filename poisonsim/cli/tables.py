"""The terminal summary of a run: one table, paired sentences, and what it means for a fleet."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import replace

import typer

from poisonsim.cli.common import print_table
from poisonsim.faults.arrivals import arrivals_of
from poisonsim.results.cost_words import (
    cost_sentence,
    hvo_sentence,
    kept_sentence,
    loss_sentence,
    reach_sentence,
    same_sentence,
    spares_sentence,
)
from poisonsim.results.enough import TAIL_TRIALS
from poisonsim.results.numbers import Shown, as_probability, in_bytes, in_percent, vms_of
from poisonsim.results.result import Result
from poisonsim.results.statistics import Distribution, Estimate, binomial_quantile
from poisonsim.results.words import (
    fallback_sentence,
    paired_sentence,
    rate_notes,
    simulated_of,
    thought_experiment,
    too_few_seen,
)
from poisonsim.scenario import ResolvedScenario
from poisonsim.units import format_bytes


def print_result(result: Result, resolved: ResolvedScenario, *, vms: int) -> None:
    """Prints the verdict on each policy at the end of the horizon."""
    scenario = result.plan.scenario
    vm, horizon = scenario.vm, scenario.horizon
    typer.echo(
        f"{resolved.name}: {format_bytes(vm.memory_bytes)} VM, {vm.backing} pages, {horizon.years:g} years, "
        f"{_trials(result)}, seed {result.plan.seed}, "
        f"run {result.plan.run_id[:12]}\n"
    )
    print_table(
        ["policy", "guest lost", "p99", "host cost", "slower", "p99", "TLB reach lost", "VMs lost"],
        [[policy, *_cells(result, policy)] for policy in result.policies],
    )
    typer.echo("means at the end of the horizon, with 95 % intervals; every metric and year is in summary.csv")
    for note in filter(None, (loss_sentence(result), reach_sentence(result), same_sentence(result))):
        typer.echo(textwrap.fill(note, width=118, subsequent_indent="  "))
    for note in filter(None, (spares_sentence(result.plan), kept_sentence(result.plan))):
        typer.echo(textwrap.fill(f"note: {note}", width=118, subsequent_indent="  "))
    typer.echo("")
    reference = result.policies[0]
    errors = result.distribution(reference, "errors")
    n_hit = int(errors.counts[errors.values > 0].sum())
    if arrivals_of(scenario).mean > 0 and n_hit < TAIL_TRIALS:
        typer.echo(textwrap.fill(too_few_seen(result), width=118, subsequent_indent="  "))
        return
    for policy in result.policies[1:]:
        typer.echo(textwrap.fill(paired_sentence(result, policy, to=reference), width=118, subsequent_indent="  "))
    for policy in result.policies:
        for sentence in filter(None, (cost_sentence(result, policy), fallback_sentence(result, policy))):
            typer.echo(textwrap.fill(sentence, width=118, subsequent_indent="  "))
    if note := hvo_sentence(scenario):
        typer.echo(textwrap.fill(f"note: {note}", width=118, subsequent_indent="  "))
    _print_fleet(result, vms)


def _trials(result: Result) -> str:
    """How many VM lifetimes the run stands for, and how many of them had to be simulated."""
    text = f"{result.n_trials:,} trial{'s' if result.n_trials > 1 else ''}"
    simulated = simulated_of(result)
    return f"{text} ({simulated})" if simulated else text


def _cells(result: Result, policy: str) -> list[str]:
    lost, cost, slowdown, reach, vm_lost = (
        result.distribution(policy, metric)
        for metric in ("guest_lost_bytes", "capacity_cost_bytes", "slowdown", "tlb_reach_loss", "vm_lost")
    )
    slower = replace(slowdown, values=slowdown.values - 1)
    return [
        str(in_bytes(lost.mean())),
        _p99(lost, in_bytes),
        str(in_bytes(cost.mean())),
        str(in_percent(slower.mean())),
        _p99(slower, in_percent),
        str(in_percent(reach.mean())),
        str(as_probability(vm_lost.share(vm_lost.values == 1))),
    ]


def _p99(distribution: Distribution, shown: Callable[[Estimate], Shown]) -> str:
    """The 99th percentile, or a dash where too few trials lie beyond it."""
    p99 = distribution.quantile(0.99)
    return "-" if p99 is None else str(shown(p99))


def _print_fleet(result: Result, vms: int) -> None:
    scenario = result.plan.scenario
    years = f"{scenario.horizon.years:g} years"
    if note := thought_experiment(scenario):
        typer.echo("\n" + textwrap.fill(f"note: {note}", width=118, break_on_hyphens=False))
        return
    hit = result.distribution(result.policies[0], "errors")
    share = hit.share(hit.values > 0)
    few, many = binomial_quantile(0.025, vms, share.low), binomial_quantile(0.975, vms, share.high)
    typer.echo(
        f"\nof {vms:,} such VMs, {vms_of(vms, share)} are expected to see a UE in {years}; in 19 such fleets of 20 "
        + (f"it is {few:,} to {many:,}" if many else "none does")
    )
    if share.best == 0:
        return
    rows = []
    for policy in result.policies:
        lost = result.when_hit(policy, "guest_lost_bytes")
        median = lost.quantile(0.5)
        cost = result.distribution(policy, "capacity_cost_bytes").mean("bytes")
        fleet_cost = Estimate(cost.low * vms, cost.best * vms, cost.high * vms, "bytes")
        dead = result.distribution(policy, "vm_lost")
        cells = ["-" if median is None else str(in_bytes(median)), str(in_bytes(lost.mean("bytes")))]
        cells.append(str(in_bytes(fleet_cost)))
        rows.append([policy, *cells, vms_of(vms, dead.share(dead.values == 1))])
    hit_columns = ["guest lost per VM hit, median", "mean"]
    print_table(["policy", *hit_columns, f"host memory cost of {vms:,} VMs", "VMs lost"], rows)
    for line in rate_notes(scenario):
        typer.echo(line)
