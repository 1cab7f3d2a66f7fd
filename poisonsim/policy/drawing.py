"""A policy drawn as a ladder: what becomes of a leaf of each size, for each thing that can happen to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from poisonsim.policy.rules import COUNTERS, OPERATORS, Act
from poisonsim.policy.table import CompiledPolicy

_OUTCOMES = {
    Act.UNMAP: "hole",
    Act.KEEP: "poison kept",
    Act.MIGRATE: "{whole} on a spare",
    Act.OFFLINE: "{whole} on a spare, or unplugged",
    Act.EVACUATE: "{whole} leaves on another host",
    Act.RESTART: "guest restarts, spares for what it lost",
    Act.COLLAPSE: "largest leaves without poison",
    Act.REBOOT: "{whole} leaves on a host without leaks",
}


_BECOMES = {Act.UNMAP: "hole", Act.SPLIT: "split", Act.KEEP: "kept", Act.MIGRATE: "on a spare"}


def state_ladder(policy: CompiledPolicy, sizes: Sequence[str]) -> list[str]:
    """What becomes of leaves, a line for each rule that can be reached, under a heading for each trigger.

    Args:
        sizes: Leaf sizes that the policy was compiled for, largest first.

    Examples:
        >>> from poisonsim.memory import ladder
        >>> from poisonsim.policy import Situation, compile_policy, load_policy
        >>> situation = Situation(ladder("x86-64"), 1024, 4, "shared", 1826)
        >>> print(*state_ladder(compile_policy(load_policy("migrate1g"), situation), situation.ladder.sizes), sep="\\n")
        poison in a leaf
          1G ┬─ MIGRATE ──▶ 1G on a spare
             └─ UNMAP ──▶ hole
    """
    if policy.decide is not None:
        *some, last = [_BECOMES[act] for act in policy.answers]
        becomes = f"{', '.join(some)} or {last}" if some else last
        return ["poison in a leaf", f"  {' '.join(sizes)} ── decide(c, p) ──▶ {becomes}"]
    lines: list[str] = []
    n_levels = len(sizes)
    for heading, first in (("poison in a leaf", 0), ("corrected errors past the threshold", n_levels)):
        drawn = [line for level, size in enumerate(sizes) for line in _branches(policy, size, first + level, sizes)]
        lines += [heading, *drawn] if drawn else []
    for row in policy.rows[policy.row_start[-2] :].tolist():
        days = f"{row[-1]} days" if row[-1] > 1 else "day"
        lines += [
            f"every {days}",
            f"  VM ── {_guard(row)}{_name(policy, row, True)} ──▶ {_outcome(policy, row, sizes, True)}",
        ]
    return lines


def _branches(policy: CompiledPolicy, size: str, group: int, sizes: Sequence[str]) -> Iterator[str]:
    rows = policy.rows[policy.row_start[group] : policy.row_start[group + 1]].tolist()
    for i, row in enumerate(rows):
        fork = "──" if len(rows) == 1 else "┬─" if i == 0 else "└─" if i == len(rows) - 1 else "├─"
        leaf = (size if i == 0 else "").ljust(max(map(len, sizes)))
        whole = group % len(sizes) == 0  # UNMAP of a whole region is one of the process table, too
        yield f"  {leaf} {fork} {_guard(row)}{_name(policy, row, whole)} ──▶ {_outcome(policy, row, sizes, whole)}"


def _guard(row: Sequence[int]) -> str:
    names = tuple(COUNTERS)
    parts = [f"{names[row[1 + 3 * c]]} {OPERATORS[row[2 + 3 * c]]} {row[3 + 3 * c]}" for c in range(row[0])]
    return f"{' and '.join(parts)}: " if parts else ""


def _cuts_stage2(policy: CompiledPolicy, act: Act, whole: bool) -> bool:
    return policy.stage2_only and (act is Act.SPLIT_TO or (act is Act.UNMAP and not whole))


def _name(policy: CompiledPolicy, row: Sequence[int], whole: bool) -> str:
    act = Act(row[-2])
    if _cuts_stage2(policy, act, whole):
        act = Act.UNMAP_STAGE2
    return (Act.SPLIT if act is Act.SPLIT_TO else act).name  # to which size, the outcome says


def _outcome(policy: CompiledPolicy, row: Sequence[int], sizes: Sequence[str], whole: bool) -> str:
    act = Act(row[-2])
    where = " in stage 2" if _cuts_stage2(policy, act, whole) else ""
    if act is Act.SPLIT_TO:
        return f"{sizes[row[-1]]} leaves{where}"
    if act is Act.SPLIT_VM_TO:
        return f"{sizes[row[-1]]} leaves in the whole VM"
    return _OUTCOMES[act].format(whole=sizes[0]) + where
