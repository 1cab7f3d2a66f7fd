"""One VM's life in words: how it starts, what each step does to mapping and memory, and what it comes to."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import TYPE_CHECKING

from poisonsim.units import DAYS_PER_YEAR, format_bytes

if TYPE_CHECKING:
    from poisonsim.results.life import Life, Step

_INDENT = " " * 15
_WIDTH = 118
_MOST_IDLE = 3
"""Steps in a row in which nothing changes that are told one by one."""
_AT_LOSS = {
    "count": "the loss is counted and its memory goes on",
    "restart": "it is restarted",
    "end": "its life ends here",
}


def lines_of(life: Life) -> Iterator[str]:
    """A life in words, a line each: its start, every step with what it changed, and its end.

    Examples:
        >>> import poisonsim as ps
        >>> from poisonsim.results.life import life_of
        >>> res = ps.run("seed-1t-distinct", policies=["hgm2m"], trials=10, seed=7)
        >>> lines = list(lines_of(life_of(res, trial=3)))
        >>> lines[1]
        'at the start   1,024 leaves of 1G; nothing lost; costs the host 15.96 GiB, of it given-up HVO 15.96 GiB'
        >>> lines[4]
        '               leaves 1G −1, 2M +511, 4K +511; guest lost +4 KiB; page tables +16.36 KiB'
    """
    name = f"trial {life.trial:,} under {life.policy}"
    if not life.steps:
        yield f"{name}: no error in its whole life"
        return
    yield f"{name}: {_several(life.n_steps, 'step')}"
    yield from _paragraph("at the start", _state(life.start))
    idle = [not (_changes(step.changes) or step.acts or step.what == "guest dies") for step in life.steps]
    for alike, run in groupby(zip(life.steps, idle, strict=True), lambda pair: pair[1]):
        steps = [step for step, _ in run]
        if alike and len(steps) > _MOST_IDLE:
            until = f" until day {steps[-1].years * DAYS_PER_YEAR:.2f}"
            yield from _paragraph(
                f"day {steps[0].years * DAYS_PER_YEAR:9.2f}",
                f"{_several(len(steps), 'step')}{until} that change nothing of mapping and memory",
            )
        else:
            yield from (line for step in steps for line in _told(step, life.on_loss))
    if left_out := life.n_steps - len(life.steps):
        yield f"{_INDENT}and {_several(left_out, 'more step')}"
    yield from _paragraph("at the end", _state(life.end))
    yield from _paragraph("", _consequences(life.end))
    yield f"{_INDENT}every metric of every step: --json or --csv"


def _told(step: Step, on_loss: str) -> Iterator[str]:
    """A step: what happened, what the policy did, and what that changed."""
    yield from _paragraph(f"day {step.years * DAYS_PER_YEAR:9.2f}", _what(step, on_loss))
    if step.acts:
        yield f"{_INDENT}{', '.join(step.acts)}"
    if step.what != "guest dies":
        yield from _paragraph("", _changes(step.changes) or "nothing changes")


def _paragraph(head: str, text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=f"{head:<15}", subsequent_indent=_INDENT)


def _several(n: float, what: str) -> str:
    return f"{n:,.0f} {what}{'' if n == 1 else 's'}"


def _what(step: Step, on_loss: str) -> str:
    """What happened, where, and how it was found."""
    if step.what == "guest dies":
        return f"the guest dies of it; {_AT_LOSS[on_loss]} (vm.on_loss = {on_loss})"
    what = {"error": "UE"}.get(step.what, step.what)
    if step.page is None:
        return what
    leaf = f"mapped by a {step.leaf} leaf" if step.leaf else "not mapped"
    by, fault = step.found_by and f"found by {step.found_by}", step.mode and f"{step.mode} fault"
    return ", ".join(filter(None, (f"{what} in page {step.page:#x} of region {step.region:,}", leaf, by, fault)))


def _sizes(values: Mapping[str, float]) -> list[tuple[str, float]]:
    """Leaves by size, the largest first."""
    return [(name.removeprefix("leaves_").upper(), n) for name, n in values.items() if name.startswith("leaves_")]


def _signed(text: str, value: float) -> str:
    return f"{'+' if value > 0 else '−'}{text}"


def _changes(changes: Mapping[str, float]) -> str:
    """What a step did to mapping, memory and spares; empty where it did nothing to them."""
    parts = []
    if leaves := [f"{size} {_signed(f'{abs(n):,.0f}', n)}" for size, n in _sizes(changes)]:
        parts.append(f"leaves {', '.join(leaves)}")
    names = {
        "guest_lost_bytes": "guest lost", "host_lost_bytes": "host lost", "stranded_bytes": "never a huge page again",
        "table_bytes": "page tables", "vmemmap_bytes": "given-up HVO",
    }  # fmt: skip
    for name, words in names.items():
        value = changes.get(name, 0.0)
        if value and not (name == "host_lost_bytes" and value == changes.get("guest_lost_bytes")):
            parts.append(f"{words} {_signed(format_bytes(abs(value)), value)}")
    if used := changes.get("spares_used", 0.0):
        parts.append(f"spares {_signed(f'{abs(used):,.0f}', -used)}")
    if changes.get("spares_exhausted", 0.0) > 0:
        parts.append("no spare was left")
    return "; ".join(parts)


def _state(values: Mapping[str, float]) -> str:
    """How the memory is mapped, what is lost, and what that costs the host."""
    leaves = ", ".join(f"{n:,.0f} of {size}" for size, n in _sizes(values) if n)
    parts = [f"{leaves.replace(' of ', ' leaves of ', 1)}" if leaves else "nothing is mapped"]
    guest, host = values["guest_lost_bytes"], values["host_lost_bytes"]
    if guest or host:
        parts.append(f"guest lost {format_bytes(guest)}" + (f", host {format_bytes(host)}" if host != guest else ""))
    else:
        parts.append("nothing lost")
    cost = values["capacity_cost_bytes"]
    names = {
        "vmemmap_bytes": "given-up HVO", "reserved_bytes": "spares", "host_lost_bytes": "lost memory",
        "table_bytes": "page tables", "direct_map_bytes": "direct map",
    }  # fmt: skip
    found = sorted(((values[name], words) for name, words in names.items() if values[name]), reverse=True)
    shares = ", ".join(f"{words} {format_bytes(size)}" for size, words in found)
    parts.append(f"costs the host {format_bytes(cost)}, of it {shares}" if cost else "costs the host nothing")
    return "; ".join(parts)


def _consequences(values: Mapping[str, float]) -> str:
    """What the whole life was to the guest."""
    errors, regions = _several(values["errors"], "UE"), _several(values["regions_hit"], "region")
    slower = 100 * (values["slowdown"] - 1)
    speed = f"{abs(slower):.2g} % {'slower' if slower > 0 else 'faster'} than" if abs(slower) >= 5e-4 else "as fast as"
    reach = f"{-100 * values['tlb_reach_loss']:+.2f}"
    parts = [
        f"{errors} in {regions}",
        f"{speed} without errors",
        f"TLB reach {reach if float(reach) else 'the same'}{' %' if float(reach) else ''}".replace("-", "−"),
        f"stalled {values['stall_seconds']:.3g} s in all, {values['worst_stall_seconds']:.3g} s at worst",
        f"VM {'lost' if values['vm_lost'] else 'not lost'}",
    ]
    return "; ".join(parts)
