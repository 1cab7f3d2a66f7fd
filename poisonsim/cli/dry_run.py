"""`run --dry-run`: what would be simulated, where each value comes from, and what to expect of it."""

from __future__ import annotations

import os
import time

import typer

from poisonsim.cli.common import print_table
from poisonsim.engine.block import run_block
from poisonsim.engine.plan import Plan
from poisonsim.faults.arrivals import arrivals_of
from poisonsim.faults.tables import load_fault_table
from poisonsim.memory import hvo_net_saving_bytes, split_cost
from poisonsim.scenario import FieldFaults, ResolvedScenario
from poisonsim.units import format_bytes


def print_dry_run(resolved: ResolvedScenario, plan: Plan, trials: int, threads: int | None) -> None:
    """Prints the resolved scenario, the expected errors, the price of one split and of the run."""
    scenario = resolved.scenario
    typer.echo(f"scenario {resolved.name}: {scenario.title or 'untitled'}\n")
    quality = {number.key: f"{number.quality}: {number.source}" for number in resolved.numbers}
    rows = []
    for section, table in scenario.to_dict().items():
        if isinstance(table, dict):
            for key, value in table.items():
                dotted = f"{section}.{key}"
                text = (
                    format_bytes(value)
                    if key in ("memory", "dimm")
                    else str(value).lower()
                    if value in (True, False)
                    else str(value)
                )
                rows.append([dotted, text, resolved.origins.get(dotted, "default"), quality.get(dotted, "")])
    print_table(["key", "value", "from", "source"], rows, right=9)
    _print_errors(resolved, plan)
    _print_split(plan)
    _print_time(plan, trials, threads)


def _print_errors(resolved: ResolvedScenario, plan: Plan) -> None:
    scenario, arrivals = resolved.scenario, arrivals_of(resolved.scenario)
    years = scenario.horizon.years
    typer.echo(f"\nexpected UEs per VM in {years:g} years: {arrivals.mean:.4g}; VMs that see any: {arrivals.p_any:.4%}")
    if isinstance(scenario.faults, FieldFaults):
        table = load_fault_table(scenario.faults.table)
        scale = arrivals.mean / table.ue_per_tib_year(scenario.faults.dimm_bytes)
        modes = table.ue_per_tib_year_by_mode(scenario.faults.dimm_bytes)
        typer.echo("  by fault mode: " + ", ".join(f"{mode} {rate * scale:.3g}" for mode, rate in modes.items()))
        typer.echo(f"  rates: {table.title}, calibrated to its failure tickets (x {table.calibration:.3f})")
        typer.echo(
            "  each UE poisons one base page anywhere in the VM; footprints of row and bank faults are not modelled"
        )


def _print_split(plan: Plan) -> None:
    ladder, host = plan.ladder, plan.scenario.host
    backing, base = ladder.sizes[0], ladder.sizes[-1]
    paths = {(base,)} | ({tuple(ladder.sizes[1:])} if len(ladder.sizes) > 2 else set())
    typer.echo(f"\none poisoned {base} in one {backing} page, {host.page_tables} process table(s) + stage 2:")
    for path in sorted(paths, key=len):
        cost = split_cost(arch=ladder.arch, leaf=backing, path=path, page_tables=host.page_tables)
        leaves = " + ".join(f"{n:,} x {size}" for size, n in cost.leaves.items())
        tables = f"{format_bytes(cost.table_bytes)} of tables ({cost.table_bytes:,} B)"
        typer.echo(f"  {' > '.join((backing, *path))}: {tables}, then {leaves}")
    vm = plan.scenario.vm
    if host.hvo and any(policy.uses_hgm for policy in plan.policies):
        saving = hvo_net_saving_bytes(vm.arch, vm.backing, vm.n_regions)
        typer.echo(f"  giving up HVO for the whole VM: {format_bytes(saving)} ({saving:,} B)")
        typer.echo(f"  what happens to it here: host.hvo_with_hgm = {host.hvo_with_hgm}")


def _print_time(plan: Plan, trials: int, threads: int | None) -> None:
    size = min(trials, plan.block_trials)
    run_block(plan, 0, 1)  # loads the compiled kernel
    started = time.perf_counter()
    run_block(plan, 0, size)
    seconds = (time.perf_counter() - started) * trials / size / (threads or os.cpu_count() or 1)
    names = ", ".join(policy.label for policy in plan.policies)
    typer.echo(f"\n{trials:,} trials of {names}: about {_duration(seconds)}, measured on one block")


def _duration(seconds: float) -> str:
    return f"{max(seconds, 0.01):.2g} s" if seconds < 10 else f"{seconds:,.0f} s"
