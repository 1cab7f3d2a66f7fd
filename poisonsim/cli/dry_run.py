"""`run --dry-run`: what would be simulated, where each value comes from, and what to expect of it."""

from __future__ import annotations

import os
import textwrap
import time
import warnings

import typer

from poisonsim.cli.common import print_table
from poisonsim.engine.block import run_block, year_points
from poisonsim.engine.merge import Merger
from poisonsim.engine.plan import Plan
from poisonsim.faults.corrected import Ratio, trigger_quality
from poisonsim.faults.field import field_model
from poisonsim.faults.words import faults_in_question, in_words
from poisonsim.memory import hvo_net_saving_bytes, split_cost
from poisonsim.results.cost_words import hvo_sentence
from poisonsim.results.expected import expected
from poisonsim.results.numbers import as_probability, in_number, in_percent
from poisonsim.results.result import Result
from poisonsim.results.statistics import Estimate
from poisonsim.scenario import FieldFaults, ResolvedScenario
from poisonsim.units import format_bytes


def print_dry_run(resolved: ResolvedScenario, plan: Plan, trials: int, threads: int | None) -> None:
    """Prints the resolved scenario, the expected errors, the price of one split and of the run."""
    from poisonsim.report.assumptions import title_of  # the reports' package takes a second to load

    scenario = resolved.scenario
    typer.echo(f"scenario {resolved.name}: {title_of(scenario)}\n")
    quality = {number.key: f"{number.quality}: {number.source}" for number in resolved.numbers}
    rows = []
    for section, table in scenario.to_dict().items():
        if isinstance(table, dict):
            for key, value in table.items():
                dotted = f"{section}.{key}"
                text = _plain(key, value)
                rows.append([dotted, text, resolved.origins.get(dotted, "default"), quality.get(dotted, "")])
    print_table(["key", "value", "from", "source"], rows, right=9)
    _print_errors(plan)
    _print_split(plan)
    _print_time(plan, trials, threads)


def _plain(key: str, value: object) -> str:
    """A value of the scenario as its file could spell it."""
    if key in ("memory", "free_memory") and isinstance(value, int):
        return format_bytes(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _print_errors(plan: Plan) -> None:
    scenario = plan.scenario
    typer.echo()
    for sentence in in_words(scenario):
        typer.echo(textwrap.fill(sentence, width=118, subsequent_indent="  "))
    found, years = expected(plan), scenario.horizon.years
    typer.echo(f"\nexpected per VM in {years:g} years, from {found.n_simulated:,} simulated histories:")
    base, backing = plan.ladder.sizes[-1], plan.ladder.sizes[0]
    rows = []
    if isinstance(scenario.faults, FieldFaults):
        model = field_model(scenario)
        rows.append([f"{faults_in_question(model)}, on its host", f"{model.mean:.4g}"])
        if (share := model.memory.vm_share) < 1:
            rows.append([f"of them in the {share:.0%} of the memory that back the VM", f"{model.mean * share:.4g}"])
            rows.append(["that the VM meets, with those that reach in from the rest", f"{found.faults_met:.4g}"])
    rows += [
        ["VMs that see an uncorrected error", str(as_probability(found.seen))],
        ["errors (bad cache lines found)", str(in_number(found.errors))],
        ["events: errors within 30 s of the last taken as one", str(in_number(found.events))],
        ["events: errors within 1 h of the last taken as one", str(in_number(found.events_hour))],
        [f"base pages poisoned ({base})", str(in_number(found.base_pages))],
        ["2 MiB groups hit", str(in_number(found.groups))],
        [f"regions hit ({backing})", str(in_number(found.regions))],
    ]
    if found.errors.best:
        rows.append(["found by a read (AR)", f"{found.ar:.1%}"])
    print_table(["", ""], [[f"  {name}", value] for name, value in rows], right=9)
    if found.by_mode:
        for line in _modes(plan, found.faults_by_mode, found.by_mode):
            typer.echo(textwrap.fill(line, width=118, initial_indent="  ", subsequent_indent="    "))
    if isinstance(scenario.faults, FieldFaults):
        _print_triggers(plan)


def _modes(plan: Plan, faults: dict[str, float], errors: dict[str, float]) -> list[str]:
    """The modes of the faults that give the VM errors, and of the errors, which few large faults can dominate."""
    model, published = field_model(plan.scenario), ""
    if model.faults.ue == "empirical":
        rates = {mode.name: mode.n_ue / sum(m.n_ue for m in model.table.modes) for mode in model.table.modes}
        published = f" (published mix: {_mix(rates)})"
    return [
        f"of the faults that the VM meets: {_mix(faults)}{published}",
        f"of the errors: {_mix(errors)}",
    ]


def _mix(shares: dict[str, float]) -> str:
    return ", ".join(f"{mode} {share:.1%}" for mode, share in shares.items() if share)


def _print_triggers(plan: Plan) -> None:
    """What acting on corrected errors would be worth, as the model implies it."""
    typer.echo("\npages that pass a threshold of corrected errors (on_ce), and what that foretells:")
    rows = []
    for quality in trigger_quality(field_model(plan.scenario), seed=plan.seed):
        shares = (quality.precision, quality.recall, quality.first_recall, quality.fault_recall)
        rows.append([f"  {quality.threshold.name}", _estimate(quality.per_vm_year), *map(_share, shares)])
    header = ["", "pages per VM-year", "precision", "recall", "first pages met", "faults announced"]
    print_table(header, rows)
    typer.echo(
        "  precision: share of these pages that an uncorrected error hits later\n"
        "  recall: share of the pages hit by uncorrected errors that passed the threshold before\n"
        "  first pages met: the same of the first page that each fault hits, so that the VM never meets that fault\n"
        "  faults announced: share of the faults with errors of which any page passed the threshold before the first"
    )


def _estimate(ratio: Ratio) -> str:
    return str(in_number(Estimate(ratio.low, ratio.best, ratio.high, "1")))


def _share(ratio: Ratio) -> str:
    return str(in_percent(Estimate(ratio.low, ratio.best, ratio.high, "1")))


def _print_split(plan: Plan) -> None:
    ladder, host = plan.ladder, plan.scenario.host
    backing, base = ladder.sizes[0], ladder.sizes[-1]
    paths = {(base,)} | ({tuple(ladder.sizes[1:])} if len(ladder.sizes) > 2 else set())
    tables = f"{host.page_tables} process table{'' if host.page_tables == 1 else 's'}"
    typer.echo(f"\none poisoned {base} in one {backing} page, {tables} + stage 2:")
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
    if note := hvo_sentence(plan.scenario):
        typer.echo(textwrap.fill(note, width=118, initial_indent="  ", subsequent_indent="  "))


def _print_time(plan: Plan, trials: int, threads: int | None) -> None:
    size, n_cores = min(trials, plan.block_trials), os.cpu_count() or 1
    n_threads = min(threads or n_cores, n_cores)  # more of them are no faster
    _time_block(plan, size)  # loads the compiled kernels
    block, rest = (seconds * trials / size for seconds in _time_block(plan, size))
    names = ", ".join(policy.label for policy in plan.policies)
    few = "" if plan.strata.plain else f" ({plan.strata.n_simulated(trials):,} of them with faults)"
    typer.echo(
        f"\n{trials:,} trials{few} of {names}: about {_duration(block / n_threads + rest)} on "
        f"{n_threads} thread{'s' * (n_threads > 1)}, measured on one block of {size:,},\nand a few seconds "
        "to start and for the report"
    )


def _time_block(plan: Plan, n_trials: int) -> tuple[float, float]:
    """Seconds for a block on its thread (draw, index, kernel, counting), and to add it up and evaluate what it met."""
    started = time.perf_counter()
    block = run_block(plan, 0, n_trials)
    done = time.perf_counter()
    merger = Merger(len(plan.policies), len(year_points(plan)))
    merger.add(block)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that one block holds few trials
        Result(plan, merger.tally()).summary()
    return done - started, time.perf_counter() - done


def _duration(seconds: float) -> str:
    return f"{max(seconds, 0.01):.2g} s" if seconds < 10 else f"{seconds:,.0f} s"
