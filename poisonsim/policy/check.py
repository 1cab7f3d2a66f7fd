"""The static checks of a rule table: every case covered, no rule dead, no guard that cannot hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from poisonsim.errors import PolicyError, did_you_mean
from poisonsim.memory import ARCHITECTURES, Ladder
from poisonsim.policy.needs import needs_of
from poisonsim.policy.rules import (
    ACTS_BY_TRIGGER,
    BACKING,
    BASE,
    COUNTERS,
    MAX_CONDITIONS,
    OPERATORS,
    Act,
    Condition,
    Policy,
    Rule,
    SizedAct,
)

UNBOUNDED = 2**62

Expanded: TypeAlias = tuple[list[int], list[list[int]], bool, int]
"""A rule on the ladder: levels, encoded conditions, whether it always holds, target level or -1."""


@dataclass(frozen=True)
class Situation:
    """What a policy is compiled for: the ladder of leaf sizes and the host it acts on.

    Attributes:
        counts_ces: Whether the host counts corrected errors, so that rules of `on_ce` are ever tried.
        spare_hosts: Hosts to which the VM can be evacuated, one after the other.
        moves_poison: Whether it can be evacuated while it has poison.
        pinned: Whether its memory is pinned for devices, so that nothing of it can move.
        hgm: Whether the host can map huge pages with high granularity.
    """

    ladder: Ladder
    n_regions: int
    spares: int
    mapping: str
    horizon_days: int
    counts_ces: bool = True
    spare_hosts: int = 1
    moves_poison: bool = True
    pinned: bool = False
    hgm: bool = True


class Checker:
    """Expands the rules over the ladder and collects every problem before it gives up."""

    def __init__(self, policy: Policy, params: Mapping[str, int], situation: Situation) -> None:
        self.policy, self.params, self.ladder = policy, params, situation.ladder
        self.situation = situation
        self._problems: dict[tuple[str, str], list[Rule | None]] = {}  # the rules that have each, by problem and hint
        self.notes: list[str] = []
        pages = situation.ladder.pages[0]
        self.bounds = {
            "spares_left": (0, params.get("spares", situation.spares)),
            "hits_in_region": (1, pages),
            "hits_in_vm": (1, pages * situation.n_regions),
            "regions_split": (0, situation.n_regions),
            "leaked_regions": (0, UNBOUNDED),  # spares may be made good
            "table_pages": (0, UNBOUNDED),
            "age_days": (0, situation.horizon_days),
        }

    def rows_by_level(self) -> list[list[list[int]]]:
        """Rows of each leaf level, trigger by trigger."""
        if not self.policy.rules:
            self.problem("it has no rules", "add rules = [on(...).do(...), ...]")
        self._check_host()
        expanded = [self._expand(rule) for rule in self.policy.rules]
        self._give_up()
        used: set[int] = set()
        rows: list[list[list[int]]] = [[] for _ in self.ladder.sizes]
        collapses = any(rule.action is Act.COLLAPSE for rule in self.policy.rules)
        reachable, queue = {0}, [0]
        while queue:
            level = queue.pop()
            for target in self._level_rows(level, expanded, used, rows[level]):
                # a collapse leaves leaves of every size down to the smallest
                for arising in range(target + 1) if collapses else [target]:
                    if arising not in reachable:
                        reachable.add(arising)
                        queue.append(arising)
        rows += [self._ce_rows(level, expanded, used) if level in reachable else [] for level in range(len(rows))]
        rows.append(self._timed_rows(expanded, used))
        for index, rule in enumerate(self.policy.rules):
            if index not in used and expanded[index] is not None:
                self.problem(
                    f"rule {index + 1} is dead: {rule}",
                    "an earlier rule always acts first, or no leaf of that size ever arises; remove it or move it up",
                )
        self._give_up()
        self._note_idle_parameters()
        return rows

    def _note_idle_parameters(self) -> None:
        """Notes parameters that stand in no rule; `spares` is the host's to give, whatever the rules say."""
        named = {part.operand for rule in self.policy.rules for part in rule.conditions()}
        named |= {rule.days for rule in self.policy.rules}
        for name in sorted(self.params.keys() - named - {"spares"}):
            self.notes.append(f"parameter {name} stands in no rule, so its value changes nothing")

    def _check_host(self) -> None:
        """Reports what the policy needs and the host of the scenario lacks."""
        for need in needs_of(self.policy, self.situation):
            if not need.met:
                self.problem(need.problem, need.hint)
        if any(rule.action is Act.UNMAP_STAGE2 for rule in self.policy.rules):
            self._check_stage2()

    def _check_stage2(self) -> None:
        """Reports rules that would split what a policy with UNMAP_STAGE2 leaves whole in the process table."""
        others = (Act.SPLIT, Act.SPLIT_TO, Act.SPLIT_VM_TO, Act.KEEP, Act.OFFLINE, Act.COLLAPSE)
        for rule in self.policy.rules:
            if _act(rule) in others or (rule.action is Act.UNMAP and rule.size != BACKING):
                self.problem(
                    "not together with UNMAP_STAGE2, which leaves the process table whole",
                    "take one of them; allowed beside it: UNMAP on BACKING, MIGRATE, EVACUATE, RESTART, REBOOT",
                    rule,
                )

    def problem(self, what: str, hint: str, rule: Rule | None = None) -> None:
        """Keep one problem, and the rule that has it; what several rules have is told once, of the first."""
        self._problems.setdefault((what, hint), []).append(rule)

    def _give_up(self) -> None:
        problems = []
        for (what, hint), rules in self._problems.items():
            where = "" if rules[0] is None else f"{rules[0]}: "
            more = len(set(map(str, rules))) - 1
            also = f" (and so in {more} more rule{'s' if more > 1 else ''})" if more else ""
            problems.append(f"policy {self.policy.name}: {where}{what}{also}; {hint}")
        if problems:
            raise PolicyError(problems)

    def _n_problems(self) -> int:
        return sum(map(len, self._problems.values()))

    def _expand(self, rule: Rule) -> Expanded | None:
        """What a rule means on the ladder, or None where it is wrong."""
        before = self._n_problems()
        levels = [0] if rule.trigger == "every" else self._levels(rule.size, rule)
        try:
            encoded = [c for part in rule.conditions() if (c := self._encode(part, rule)) is not None]
        except PolicyError as error:
            self.problem(str(error), 'such as "hits_in_region >= 3 and spares_left > 0"', rule)
            return None
        act = _act(rule)
        if act not in ACTS_BY_TRIGGER[rule.trigger]:
            allowed = ", ".join(act.name for act in ACTS_BY_TRIGGER[rule.trigger])
            belongs = " and ".join(trigger for trigger, acts in ACTS_BY_TRIGGER.items() if act in acts)
            self.problem(f"{rule.trigger} knows no {act.name}, which is for {belongs}", f"allowed: {allowed}", rule)
        if rule.trigger == "every" and self._days(rule) < 1:
            self.problem("days is not a whole number of 1 or more, nor a parameter", "write every(days=30)", rule)
        conditions = self._reduce(rule, encoded)
        if len(conditions) > MAX_CONDITIONS:
            self.problem(f"{len(conditions)} comparisons in one guard", f"at most {MAX_CONDITIONS} are allowed", rule)
        target = -1
        if isinstance(rule.action, SizedAct):
            target = self._exact_level(rule.action.size, rule)
        base = len(self.ladder.sizes) - 1
        for level in levels:
            size = self.ladder.sizes[level]
            if rule.action is Act.SPLIT and level == base:
                self.problem(f"SPLIT at the base page {size}", "a base page cannot be split; use UNMAP or KEEP", rule)
            elif rule.action is Act.OFFLINE and level > 0:
                self.problem(f"OFFLINE of a {size} leaf", "the guest vacates whole regions; write on(BACKING)", rule)
            elif isinstance(rule.action, SizedAct) and 0 <= target <= level:
                self.problem(
                    f"a {size} leaf cannot be split to {self.ladder.sizes[target]}",
                    "name a smaller size",
                    rule,
                )
        return None if self._n_problems() > before else (levels, conditions, not conditions, target)

    def _levels(self, size: str, rule: Rule) -> list[int]:
        if size[:1] in "<>" and size:
            pivot = self._exact_level(size[1:], rule)
            wanted = range(pivot) if size[0] == ">" else range(pivot + 1, len(self.ladder.sizes))
            return list(wanted) if pivot >= 0 else []
        level = self._exact_level(size, rule)
        return [level] if level >= 0 else []

    def _exact_level(self, size: str, rule: Rule) -> int:
        symbolic = {BACKING: 0, BASE: len(self.ladder.sizes) - 1}
        if size in symbolic:
            return symbolic[size]
        if size in self.ladder.sizes:
            return self.ladder.sizes.index(size)
        allowed = [BACKING, BASE, *self.ladder.sizes]
        self.problem(
            f"'{size}' is no leaf size of {self.ladder.arch}{did_you_mean(size, allowed)}",
            f"allowed: {', '.join(allowed)}, and > or < before one of them",
            rule,
        )
        return -1

    def _encode(self, condition: Condition, rule: Rule) -> list[int] | None:
        """[counter, operator, value], or None where the comparison is wrong."""
        if condition.counter not in COUNTERS:
            self.problem(
                f"unknown counter '{condition.counter}'{did_you_mean(condition.counter, COUNTERS)}",
                f"counters: {', '.join(COUNTERS)}",
                rule,
            )
            return None
        value = condition.operand
        if isinstance(value, str):
            if value not in self.params:
                self.problem(
                    f"'{value}' is neither a number nor a parameter{did_you_mean(value, self.params)}",
                    f"parameters: {', '.join(self.params) or 'none'}{self._lacks_annotation(value)}",
                    rule,
                )
                return None
            value = self.params[value]
        return [list(COUNTERS).index(condition.counter), OPERATORS.index(condition.operator), value]

    def _lacks_annotation(self, name: str) -> str:
        """What makes a parameter of a number of the class that has none."""
        number = vars(type(self.policy)).get(name)
        if isinstance(number, bool) or not isinstance(number, int):
            return ""
        annotated = f"{name}: Annotated[int, Range({min(number, 1)}, {max(number, 64)})] = {number}"
        return f"; {name} = {number} becomes one with its range: {annotated}"

    def _reduce(self, rule: Rule, encoded: list[list[int]]) -> list[list[int]]:
        """The comparisons that can fail; reports those that no value of their counter can satisfy together."""
        kept = []
        for index, counter in enumerate(COUNTERS):
            tests = [(OPERATORS[op], value) for i, op, value in encoded if i == index]
            low, high = self.bounds[counter]
            if rule.trigger != "on" and counter in ("hits_in_region", "hits_in_vm"):
                low = 0
            edges = {low, high} | {value + step for _, value in tests for step in (-1, 0, 1)}
            values = [x for x in edges if low <= x <= high]
            if tests and not any(all(_holds(x, *test) for test in tests) for x in values):
                given = [part.operand for part in rule.conditions() if isinstance(part.operand, str)]
                with_them = "".join(f" with {name} = {self.params[name]}" for name in given if name in self.params)
                span = f"({counter} lies between {low} and {high})"
                never = f"{rule}: the guard on {counter} can never hold{with_them} {span}"
                more = [x for x in edges if x > high]
                if counter == "spares_left" and any(all(_holds(x, *test) for test in tests) for x in more):
                    self.notes.append(f"{never}, so the rule never acts; more spares change that")
                else:
                    self.problem(never, "remove the rule or mend the comparison")
            kept += [[index, OPERATORS.index(op), v] for op, v in tests if not all(_holds(x, op, v) for x in values)]
        return kept

    def _tried(
        self, trigger: str, level: int, expanded: Sequence[Expanded | None]
    ) -> Iterator[tuple[int, Rule, Expanded]]:
        """The rules of a trigger that cover leaves of a level, in order: place, rule, and what it expands to."""
        for index, (rule, parts) in enumerate(zip(self.policy.rules, expanded, strict=True)):
            if parts is not None and rule.trigger == trigger and level in parts[0]:
                yield index, rule, parts

    def _level_rows(
        self,
        level: int,
        expanded: Sequence[Expanded | None],
        used: set[int],
        rows: list[list[int]],
    ) -> list[int]:
        """Fills `rows` for one leaf size, marks the rules used, and returns the leaf levels that it leads to."""
        leads_to: list[int] = []
        for index, rule, (_, conditions, always, target) in self._tried("on", level, expanded):
            used.add(index)
            act = _act(rule)
            if act is Act.UNMAP_STAGE2 and level == len(self.ladder.sizes) - 1:
                act = Act.UNMAP
            if act in (Act.SPLIT, Act.UNMAP_STAGE2):
                act, target = Act.SPLIT_TO, self.ladder.step_down(level, self.policy.needs_contiguous)
            rows.append(_row(conditions, act, target))
            if target >= 0:
                leads_to.append(target)
            if always and act not in (Act.MIGRATE, Act.OFFLINE, Act.EVACUATE, Act.RESTART):
                return leads_to
        size = self.ladder.sizes[level]
        cuts = any(rule.action is Act.UNMAP_STAGE2 for rule in self.policy.rules)
        end = "UNMAP_STAGE2" if cuts and level > 0 else "UNMAP"
        self.problem(
            f"rules leave one case open: poison in a {size} leaf with no rule that always acts",
            f'end with on("{size}").do({end}), or another rule without a guard (MIGRATE and RESTART may '
            "find no spare, OFFLINE memory that the guest cannot move, EVACUATE no host)",
        )
        return leads_to

    def _ce_rows(self, level: int, expanded: Sequence[Expanded | None], used: set[int]) -> list[list[int]]:
        """Rows of `on_ce` for one leaf size; marks the rules used. What no rule covers is left as it is."""
        rows: list[list[int]] = []
        for index, rule, (_, conditions, _, target) in self._tried("on_ce", level, expanded):
            if any(row[0] == 0 and row[-2] == rule.action for row in rows):
                continue  # what an earlier rule cannot do, this one cannot do either
            used.add(index)
            assert isinstance(rule.action, Act)
            rows.append(_row(conditions, rule.action, target))
        return rows

    def _days(self, rule: Rule) -> int:
        """Days between the times at which a rule of `every` is tried; 0 where they are wrong."""
        days = self.params.get(rule.days, 0) if isinstance(rule.days, str) else rule.days
        return days if isinstance(days, int) and not isinstance(days, bool) else 0

    def _timed_rows(self, expanded: Sequence[Expanded | None], used: set[int]) -> list[list[int]]:
        """Rows of `every`, with the days between in place of a target; marks the rules used."""
        rows: list[list[int]] = []
        for index, rule, (_, conditions, _, _) in self._tried("every", 0, expanded):
            used.add(index)
            assert isinstance(rule.action, Act)
            rows.append(_row(conditions, rule.action, self._days(rule)))
        return rows


def unmet_need(policy: Policy, ladder: Ladder) -> str:
    """What a policy needs that the ladder does not have, in words; empty where it has all.

    Examples:
        >>> from poisonsim.memory import ladder
        >>> from poisonsim.policy import load_policy
        >>> print(unmet_need(load_policy("hgm-contig"), ladder("x86-64")))
        policy hgm-contig: it maps with contiguous entries, which x86-64 does not have; take hgm2m
    """
    if not policy.needs_contiguous or set(ladder.contiguous_sizes) & set(ladder.sizes[1:]):
        return ""
    it = f"policy {policy.name}: it maps with contiguous entries, which"
    if not ARCHITECTURES[ladder.arch].contiguous_sizes:
        return f"{it} {ladder.arch} does not have; take hgm2m"
    sizes = ", ".join(ladder.sizes)
    return (
        f"{it} no leaf below the backing has here ({sizes}); set vm.contiguous = true, or a larger vm.backing, or "
        "take hgm2m"
    )


def _act(rule: Rule) -> Act:
    return rule.action.act if isinstance(rule.action, SizedAct) else rule.action


def _row(conditions: list[list[int]], act: Act, target: int) -> list[int]:
    padded = [part for condition in conditions for part in condition]
    padded += [0] * (3 * MAX_CONDITIONS - len(padded))
    return [len(conditions), *padded, int(act), target]


def _holds(x: int, operator: str, value: int) -> bool:
    return {"<": x < value, "<=": x <= value, ">": x > value, ">=": x >= value, "==": x == value, "!=": x != value}[
        operator
    ]
