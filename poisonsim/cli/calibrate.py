"""`poisonsim calibrate`: the TLB, page walks and mixed mappings of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from poisonsim.cli.common import command_given, pool_set_back, print_json, print_table, user_errors

if TYPE_CHECKING:
    from poisonsim.translation.calibrate.mixes import Mix
    from poisonsim.translation.calibrate.session import Calibration

EXAMPLES = (
    "poisonsim calibrate --quick",
    "poisonsim calibrate --reserve --out mine.toml",
    "poisonsim run --set host.cpu=./mine.toml",
)


@user_errors
def calibrate_command(
    area: str = typer.Option(
        None, "--area", metavar="SIZE",
        help="Largest memory area measured, a power of two from 64MiB; three are mapped at once. "
        "Default: 4GiB, or less where memory is short.",
    ),
    quick: bool = typer.Option(False, "--quick", help="Fewer repeats and an area of 256 MiB: seconds, not minutes."),
    cpu: str = typer.Option(
        None, "--cpu", metavar="CPU|FILE.toml",
        help="Catalogue CPU or TOML file for what cannot be measured here. Default: recognised from /proc/cpuinfo.",
    ),
    reserve: bool = typer.Option(
        False, "--reserve", help="Grow the kernel's pool of huge pages meanwhile (needs root); it is always set back."
    ),
    seed: int = typer.Option(1, "--seed", min=0, metavar="N", help="Of the places that loads go to."),
    out: Path = typer.Option(
        None, "--out", "-o", metavar="FILE.toml", help="Write the CPU profile there. Default: it is not written."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print everything as JSON on stdout, nothing else there."),
) -> None:  # fmt: skip
    """Measure this machine: TLB capacities, cost of page walks, and the slowdown of memory mapped with mixed leaves.

    Real huge pages are used where they can be had: hugetlb 1G and 2M, transparent 2M, plain 4K. The slowdown of each
    mixture is printed beside what the model predicts from the measured profile. In a virtual machine the host may back
    huge pages with smaller ones; that is tested first and said.
    """
    from poisonsim.translation.calibrate.session import calibrate

    area_bytes = None if area is None else _bytes(area)
    if out is not None:
        _check_out(out)
    with pool_set_back("nothing was written, and "):
        found = calibrate(
            area_bytes=area_bytes, quick=quick, cpu=cpu, reserve=reserve, seed=seed,
            notice=lambda text: typer.echo(text, err=True),
        )  # fmt: skip
    if out is not None:
        _write(found.toml, out)
    if as_json:
        print_json(found.to_dict())
    else:
        _print(found)
    typer.echo("", err=as_json)
    if out is not None:
        typer.echo(f"profile  {out}", err=as_json)
        typer.echo(f"next     poisonsim run --set host.cpu={_as_path(out)}", err=as_json)
    else:
        typer.echo(f"next  {command_given()} --out mine.toml", err=as_json)


def _bytes(text: str) -> int:
    from poisonsim.errors import MachineError
    from poisonsim.units import parse_bytes

    try:
        return parse_bytes(text)
    except ValueError as error:
        raise MachineError(f"--area: {error}") from None


def _check_out(out: Path) -> None:
    """Refuses a file that cannot be written or loaded, before anything is measured."""
    from poisonsim.errors import MachineError

    if out.suffix != ".toml":
        raise MachineError(f"--out {out}: a CPU file ends in .toml; write {out.with_suffix('.toml')}")
    if out.exists() and not out.is_file():
        raise MachineError(f"--out {out}: exists and is no file; name another")
    if not out.parent.is_dir():
        raise MachineError(f"--out {out}: there is no folder {out.parent}; make it, or name a file elsewhere")


def _write(text: str, out: Path) -> None:
    from poisonsim.engine.store import write_whole
    from poisonsim.errors import MachineError, RunFolderError

    try:
        write_whole(out, text.encode())
    except RunFolderError as error:
        raise MachineError(f"--out {out}: cannot be written ({error.__cause__}); name another file") from None


def _as_path(out: Path) -> str:
    return str(out) if len(out.parts) > 1 else f"./{out}"


def _print(found: Calibration) -> None:
    from poisonsim.translation.calibrate.profile_file import fracture_words
    from poisonsim.units import format_bytes

    where = found.processor
    known = f"{where.catalogue} in the catalogue" if where.catalogue else "not in the catalogue"
    how = ", ".join(f"{leaf} ({how})" for leaf, how in found.leaves.items())
    typer.echo(
        f"{where.title}: {known}, {found.ghz:.2f} GHz, {'virtual machine' if where.virtual else 'no hypervisor'}\n"
        f"areas up to {format_bytes(found.area_bytes)} in {how}\n"
    )
    for fracture in found.fractures:
        typer.echo(fracture_words(fracture))
    if not found.fractures:
        typer.echo("No huge pages could be had: only 4K pages were measured, and no mixed mapping.")
    elif not found.reach_measured:
        typer.echo(
            "No huge page is one TLB entry here, so reach with huge pages is not measured; predictions take the\n"
            "entries found. What is measured of a mixture is the cost of its walks."
        )
    typer.echo("")
    _print_capacities(found)
    typer.echo("")
    _print_walks(found)
    if found.mixes:
        typer.echo("")
        _print_mixes(found)


def _print_capacities(found: Calibration) -> None:
    rows = []
    for sweep in found.sweeps:
        for level, knee in enumerate(sweep.knees):
            cells = [f"{knee.entries:,}", f"{knee.low:,}–{knee.high:,}", f"{knee.step_ns:.2f} ns"]
            rows.append([f"L{level + 1} TLB, {sweep.leaf} pages", *cells, f"{knee.step_ns * found.ghz:.1f}"])
        if len(sweep.knees) < 2:
            missing = f"no {'second ' if sweep.knees else ''}bend up to {sweep.n_entries[-1]:,.0f} pages"
            rows.append([f"L{len(sweep.knees) + 1} TLB, {sweep.leaf} pages", "-", missing, "-", "-"])
    print_table(["capacity", "entries", "interval", "cost of a miss", "cycles"], rows)


def _print_walks(found: Calibration) -> None:
    from poisonsim.translation.calibrate.profile_file import interval
    from poisonsim.units import format_bytes

    sizes = list(dict.fromkeys(walk.area_bytes for walk in found.walks))
    rows = [
        [f"{title}, {leaf} leaves", *(interval(getattr(walk, key)) for walk in found.walks if walk.leaf == leaf)]
        for title, key in (("walk", "walk_ns"), ("load at a hit", "hit_ns"))
        for leaf in found.leaves
    ]
    print_table(["ns, by area", *(format_bytes(size) for size in sizes)], rows)


def _print_mixes(found: Calibration) -> None:
    from poisonsim.translation.calibrate.mixes import TOLERANCE

    rows, above = [], ["", "", ""]
    for mix in found.mixes:
        names = [mix.base, mix.part, mix.pattern]
        first = next((i for i in range(3) if names[i] != above[i]), 3)
        shown = [*[""] * first, *names[first:]]
        above = names
        rows.append([*shown, *_mix_cells(mix)])
    off = [mix for mix in found.mixes if abs(mix.difference) > TOLERANCE]
    header = ["area in", "part in", "access", "part", "measured", "interval", "predicted", "interval", "off by", "why"]
    n_columns = len(header) if off else len(header) - 1
    print_table(header[:n_columns], [row[:n_columns] for row in rows], right=3)
    typer.echo(
        "run time relative to the area without the part; 0 % is the null control, the same mapping on both sides\n"
        f"resolution by the null control: {_percent(found.resolution or 0)}; "
        f"{len(found.mixes) - len(off)} of {len(found.mixes)} predictions are within {_percent(TOLERANCE)} of the "
        "measurement"
    )


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")


def _mix_cells(mix: Mix) -> list[str]:
    measured, predicted = mix.measured, mix.predicted
    return [
        _percent(mix.fraction),
        f"{measured.mid:.3f}",
        f"{measured.low:.3f}–{measured.high:.3f}",
        f"{predicted.mid:.3f}",
        f"{predicted.low:.3f}–{predicted.high:.3f}",
        f"{100 * mix.difference:+.1f} %",
        mix.reason,
    ]
