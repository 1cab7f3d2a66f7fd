"""The terminal summary of a run: one table, paired sentences, and what it means for a fleet."""

from __future__ import annotations

import textwrap

import typer
from scipy.special import gammaincinv

from poisonsim.cli.common import print_table
from poisonsim.faults.arrivals import arrivals_of
from poisonsim.faults.tables import FaultTable, load_fault_table
from poisonsim.results.result import Result
from poisonsim.results.statistics import Estimate
from poisonsim.results.verdict import Cell, five_metrics, paired_sentence, show_mean
from poisonsim.scenario import FieldFaults, ResolvedScenario
from poisonsim.units import format_bytes


def print_result(result: Result, resolved: ResolvedScenario, *, vms: int) -> None:
    """Prints the verdict on each policy at the end of the horizon."""
    scenario = result.plan.scenario
    vm, horizon = scenario.vm, scenario.horizon
    typer.echo(
        f"{resolved.name}: {format_bytes(vm.memory_bytes)} VM, {vm.backing} pages, {horizon.years:g} years, "
        f"{result.n_trials:,} trials, seed {result.plan.seed}, run {result.plan.run_id[:12]}\n"
    )
    columns = five_metrics(result)
    print_table(
        ["policy", *(column.title for column in columns)],
        [[policy, *(_cell(column.cells[p]) for column in columns)] for p, policy in enumerate(result.policies)],
    )
    typer.echo(
        "mean, or probability, at the end of the horizon; [p99]; intervals (95 %) are in summary.csv and the report\n"
    )
    reference = result.policies[0]
    for policy in result.policies[1:]:
        typer.echo(textwrap.fill(paired_sentence(result, policy, to=reference), width=118, subsequent_indent="  "))
    _print_fleet(result, vms)


def _cell(cell: Cell) -> str:
    return f"{cell.mean} [{cell.p99}]" if cell.p99 else cell.mean


def _print_fleet(result: Result, vms: int) -> None:
    scenario = result.plan.scenario
    years = f"{scenario.horizon.years:g} years"
    if arrivals_of(scenario).fixed:
        field = load_fault_table("ddr4-alibaba").ue_per_tib_year(32 << 30)
        expected = field * scenario.vm.memory_bytes / (1 << 40) * scenario.horizon.years
        typer.echo(
            f"\nnote: {arrivals_of(scenario).mean:g} UEs in {years} is a thought experiment. At the rate of a real "
            f"DDR4 fleet ({field:.4f} UEs per TiB-year)\n"
            f"a VM of this size expects {expected:.3f}; see it with: poisonsim run cloud-1t-ddr4"
        )
        return
    hit = result.distribution(result.policies[0], "errors")
    share = hit.share(hit.values > 0)
    typer.echo(f"\nof {vms:,} such VMs, {_of(vms, share)} see a UE in {years}")
    if share.best == 0:
        return
    rows = []
    for policy in result.policies:
        lost = result.when_hit(policy, "guest_lost_bytes").mean("bytes")
        cost = result.distribution(policy, "capacity_cost_bytes").mean("bytes")
        fleet_cost = Estimate(cost.low * vms, cost.best * vms, cost.high * vms, "bytes")
        dead = result.distribution(policy, "vm_lost")
        cells = [show_mean("guest_lost_bytes", lost), show_mean("capacity_cost_bytes", fleet_cost)]
        rows.append([policy, *cells, _of(vms, dead.share(dead.values == 1))])
    print_table(["policy", "guest memory lost per VM hit", f"host memory cost of {vms:,} VMs", "VMs lost"], rows)
    if isinstance(scenario.faults, FieldFaults):
        _print_source(load_fault_table(scenario.faults.table))


def _print_source(table: FaultTable) -> None:
    """Where the rates are from, and how well the tickets behind them pin them down (exact Poisson interval)."""
    n = table.n_ue_tickets
    low, high = gammaincinv(n, 0.025) / n - 1, gammaincinv(n + 1, 0.975) / n - 1
    typer.echo(f"rates: {table.title}, {n} failures by UEs in {table.n_server_months:,} server-months")
    typer.echo(
        f"the intervals are from the number of trials; the rate itself is known to {low:+.0%} to {high:+.0%}; "
        f"see poisonsim catalog show {table.name}"
    )


def _of(vms: int, share: Estimate) -> str:
    return f"{share.best * vms:,.0f} ({share.low * vms:,.0f}–{share.high * vms:,.0f})"
