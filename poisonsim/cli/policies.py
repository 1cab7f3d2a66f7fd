"""`poisonsim policies`: list, show, check and start policies."""

from __future__ import annotations

import keyword
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from poisonsim.cli import complete
from poisonsim.cli.common import examples, one_output, print_json, print_rows, print_table, user_errors
from poisonsim.cli.usage import Command

if TYPE_CHECKING:
    from poisonsim.policy import CompiledPolicy

app = typer.Typer(help="List, show, check and start policies.", no_args_is_help=True)

_TEMPLATE = '''from poisonsim.policy import BASE, SPLIT, UNMAP, Policy, on


class {class_name}(Policy):
    """Map around the poison with the largest leaves that fit.

    Say here which mechanism of the kernel or the hypervisor this stands for.
    Status: hypothetical.
    Needs: the kernel version, patches or features it takes.
    Source: where it is described.
    """

    rules = [on(">BASE").do(SPLIT), on(BASE).do(UNMAP)]
'''


@app.command(
    "list",
    epilog=examples("poisonsim policies list", "poisonsim policies list --csv", "poisonsim policies list --json"),
)
@user_errors
def list_command(
    as_json: bool = typer.Option(False, "--json", help="Print JSON on stdout, nothing else there."),
    as_csv: bool = typer.Option(False, "--csv", help="Print CSV on stdout, nothing else there."),
) -> None:
    """Name, status and summary of every policy that is shipped or installed."""
    from poisonsim.policy import all_policies

    one_output({"--json": as_json, "--csv": as_csv})
    sources, problems = all_policies()
    for problem in problems:
        typer.echo(f"warning: {problem}", err=True)
    if as_json or as_csv:
        rows = [
            {
                "name": s.name,
                "status": s.note("Status"),
                "needs": s.note("Needs"),
                "summary": s.summary,
                "origin": s.origin,
            }
            for s in sources
        ]
        print_json({"policies": rows}) if as_json else print_rows(rows)
        return
    print_table(["policy", "status", "summary"], [[s.name, s.note("Status"), s.summary] for s in sources], right=9)


@app.command(
    "show",
    cls=Command,
    epilog=examples(
        "poisonsim policies show hgm2m",
        "poisonsim policies show ./my_policy.py",
        "poisonsim policies show migrate1g --scenario cloud-1t-ddr4 --json",
    ),
)
@user_errors
def show_command(
    name: str = typer.Argument(
        ..., metavar="NAME[:PARAM=N]|FILE.py", autocompletion=complete.policies, help="Policy to show."
    ),
    scenario: str = typer.Option(
        None,
        "--scenario",
        metavar="SCENARIO",
        autocompletion=complete.scenarios,
        help="Scenario whose leaf sizes and spares it is shown for. Default: seed-1t, or arm64-1t for a policy that "
        "maps with contiguous entries.",
        show_default=False,
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON on stdout, nothing else there."),
) -> None:
    """What a policy does, its parameters, its rules and where its mechanism is described."""
    import inspect

    from poisonsim.engine.plan import make_plan
    from poisonsim.policy import COUNTERS, Act, find_policy, load_policy
    from poisonsim.policy.drawing import state_ladder
    from poisonsim.policy.loader import split_spec
    from poisonsim.policy.table import resolve_params
    from poisonsim.report.assumptions import numbers_behind
    from poisonsim.scenario import load_scenario

    bare, _ = split_spec(name)
    source = find_policy(bare)
    policy = load_policy(name)
    scenario = scenario or ("arm64-1t" if policy.needs_contiguous else "seed-1t")
    resolved = load_scenario(scenario)
    plan = make_plan(resolved, [policy], seed=1, any_host=True)
    (compiled,) = plan.policies
    values = resolve_params(policy, resolved.host.spares)
    behind = numbers_behind(compiled, resolved)
    if as_json:
        print_json(
            {
                "name": source.name,
                "origin": source.origin,
                "description": inspect.getdoc(source.cls) or "",
                "status": source.note("Status"),
                "needs": source.note("Needs"),
                "scenario": scenario,
                "shared": compiled.shared,
                "uses_hgm": compiled.uses_hgm,
                "acts_on_corrected_errors": compiled.acts_on_ces,
                "stage2_only": compiled.stage2_only,
                "rules": list(compiled.text),
                "ladder": state_ladder(compiled, plan.ladder.sizes),
                "parameters": [
                    {"name": p.name, "value": values[p.name], "low": p.allowed.low, "high": p.allowed.high}
                    for p in source.cls.parameters().values()
                ],
                "numbers": [{"key": row.key, "value": row.value, "quality": row.quality} for row in behind],
                "digest": compiled.digest,
            }
        )
        return
    typer.echo(f"{source.name}  ({source.origin})\n\n{inspect.getdoc(source.cls) or 'no description'}\n")
    if (
        set(compiled.rows[:, -2].tolist()) & {Act.UNMAP, Act.MIGRATE, Act.OFFLINE, Act.RESTART}
        and not compiled.uses_hgm
    ):
        how = "leaked (shared mapping)" if compiled.leaks else "dissolved"
        typer.echo(f"huge pages with poison that it gives up are {how}")
    typer.echo(f"needs high-granularity mapping: {'yes' if compiled.uses_hgm else 'no'}")
    if compiled.keeps:
        typer.echo("needs memory whose poison stays mapped (MFD_MF_KEEP_UE_MAPPED); see host.hvo_with_keep")
    if compiled.acts_on_ces:
        typer.echo("needs a host that counts corrected errors: host.ce_threshold other than off")
    if compiled.stage2_only:
        typer.echo("splits stage 2 only: the process table stays as it is")
    if Act.OFFLINE in compiled.rows[:, -2]:
        typer.echo("needs a guest that can vacate the region: all but vm.unmovable of them")
    if policy.needs_contiguous:
        typer.echo("needs leaves of contiguous entries: vm.contiguous = true (arm64, riscv64)")
    if Act.EVACUATE in compiled.rows[:, -2]:
        typer.echo("needs hosts to go to: host.spare_hosts, and host.moves_poison where the VM has poison")
    typer.echo("\nrules, tried in order:")
    for line in compiled.text:
        typer.echo(f"  {line}")
    typer.echo(f"\nstate ladder ({scenario}):")
    for line in state_ladder(compiled, plan.ladder.sizes):
        typer.echo(f"  {line}")
    typer.echo("\ncounters a guard may compare:")
    for counter, meaning in COUNTERS.items():
        typer.echo(f"  {counter:<15} {meaning}")
    if values:
        typer.echo("\nparameters:")
        for parameter in source.cls.parameters().values():
            allowed = f"{parameter.allowed.low} to {parameter.allowed.high}"
            typer.echo(
                f"  {parameter.name} = {values[parameter.name]}  ({allowed}; set with {bare}:{parameter.name}=N)"
            )
    if behind:
        typer.echo(f"\nnumbers the model takes for it ({scenario}; sources: poisonsim catalog show {scenario} --all):")
        width = max(len(row.key) for row in behind)
        for row in behind:
            typer.echo(f"  {row.key:<{width}}  {row.value:>18}  {row.quality}")
    typer.echo(f"\ndigest {compiled.digest[:12]}")


@app.command(
    "check",
    epilog=examples(
        "poisonsim policies check hgm2m",
        "poisonsim policies check ./my_policy.py migrate1g:spares=8",
        "poisonsim policies check hgm-contig --scenario arm64-1t",
    ),
)
@user_errors
def check_command(
    names: list[str] = typer.Argument(
        ..., metavar="NAME|FILE.py...", autocompletion=complete.policies, help="Policies to check."
    ),
    scenario: str = typer.Option(
        "seed-1t",
        "--scenario",
        metavar="SCENARIO",
        autocompletion=complete.scenarios,
        help="Scenario whose leaf sizes they are checked against.",
    ),
) -> None:
    """Load policies, run every static check and a few trials, and say what they need; exit code 2 if a check fails."""
    from poisonsim.cli.progress import compiling, kernel_must_compile
    from poisonsim.engine.block import run_block
    from poisonsim.engine.plan import make_plan, situation_of
    from poisonsim.policy import load_policies
    from poisonsim.policy.check import unmet_need
    from poisonsim.policy.needs import needs_of, settings_to_add
    from poisonsim.scenario import FieldFaults, load_scenario

    resolved = load_scenario(scenario)
    loaded = load_policies(names)
    plan = make_plan(resolved, loaded, seed=1, any_host=True)
    if kernel_must_compile():
        typer.echo(compiling(), err=True)
    run_block(plan, 0, min(plan.block_trials, 256))  # a decide may still answer what cannot be done
    here, add = situation_of(resolved), []
    for policy, compiled in zip(loaded, plan.policies, strict=True):
        typer.echo(f"{compiled.label}: ok; {'; '.join(compiled.text)}")
        needs = list(needs_of(policy, here))
        for need in needs:
            typer.echo(f"  needs {need.told}{'' if need.met else f' (not so in {scenario})'}")
        for note in compiled.notes:
            typer.echo(f"  {note}")
        for line in _other_needs(compiled):
            typer.echo(f"  {line}")
        add += settings_to_add(needs, field=isinstance(resolved.faults, FieldFaults))
    lacking = [unmet_need(policy, here.ladder) for policy in loaded]
    if any(lacking):
        typer.echo(f"not run in {scenario}: {'; '.join(filter(None, lacking))}")
        return
    words = [f"--policy {shlex.quote(name)}" for name in names]
    typer.echo(" ".join(["run with    poisonsim run", shlex.quote(scenario), *words, *dict.fromkeys(add)]))


def _other_needs(compiled: CompiledPolicy) -> Iterator[str]:
    """What a policy takes, and what memory it stands for, a line each."""
    if compiled.takes_spares:
        name = compiled.label.partition(":")[0]
        yield f"takes spare huge pages, {compiled.params['spares']} here: host.spares, or {name}:spares=N"
    if compiled.contiguous:
        yield "needs leaves of contiguous entries: vm.contiguous = true (arm64, riscv64)"
    yield f"its memory is mapped {'shared' if compiled.shared else 'private'}: host.mapping"
    if compiled.keeps:
        yield "needs memory whose poison stays mapped (MFD_MF_KEEP_UE_MAPPED); see host.hvo_with_keep"


@app.command(
    "new",
    epilog=examples(
        "poisonsim policies new my-policy",
        "poisonsim policies new keep-some --folder trials",
        "poisonsim policies new move-early --folder ../policies",
    ),
)
@user_errors
def new_command(
    name: str = typer.Argument(..., metavar="NAME", help="Name of the new policy, such as my-policy."),
    folder: Path = typer.Option(
        Path("."), "--folder", metavar="FOLDER", help="Where to write the file; made if it is not there."
    ),
) -> None:
    """Write a policy file to start from."""
    from poisonsim.engine.store import write_whole
    from poisonsim.errors import PolicyError
    from poisonsim.policy import policy_names

    stem = name.replace("-", "_")
    if not stem.isidentifier() or stem != stem.lower() or keyword.iskeyword(stem):
        raise PolicyError(
            f"'{name}' is not a policy name; use lower-case letters, digits and hyphens, and begin with a letter, "
            "such as my-policy"
        )
    if name in policy_names():
        raise PolicyError(f"'{name}' is the name of a policy already; choose another")
    path = folder / f"{stem}.py"
    if path.exists():
        raise PolicyError(f"{path} exists already; choose another name, or remove it")
    class_name = "".join(part.capitalize() for part in stem.split("_"))
    write_whole(path, _TEMPLATE.format(class_name=class_name).encode())
    typer.echo(f"{path}\ncheck it    poisonsim policies check {path}\nrun it      poisonsim run --policy {path}")
