"""The static checks of a rule table: every case covered, no rule dead, no guard that cannot hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from poisonsim.errors import PolicyError, did_you_mean
from poisonsim.memory import Ladder
from poisonsim.policy.rules import (
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


@dataclass(frozen=True)
class Situation:
    """What a policy is compiled for: the ladder of leaf sizes and the host it acts on.

    Attributes:
        counts_ces: Whether the host counts corrected errors, so that rules of `on_ce` are ever tried.
    """

    ladder: Ladder
    n_regions: int
    spares: int
    mapping: str
    horizon_days: int
    counts_ces: bool = True


class Checker:
    """Expands the rules over the ladder and collects every problem before it gives up."""

    def __init__(self, policy: Policy, params: Mapping[str, int], situation: Situation) -> None:
        self.policy, self.params, self.ladder = policy, params, situation.ladder
        self.counts_ces = situation.counts_ces
        self.problems: list[str] = []
        pages = situation.ladder.pages[0]
        self.bounds = {
            "spares_left": (0, params.get("spares", 0)),
            "hits_in_region": (1, pages),
            "hits_in_vm": (1, pages * situation.n_regions),
            "regions_split": (0, situation.n_regions),
            "leaked_regions": (0, situation.n_regions + params.get("spares", 0)),
            "table_pages": (0, UNBOUNDED),
            "age_days": (0, situation.horizon_days),
        }

    def rows_by_level(self) -> list[list[list[int]]]:
        """Rows of each leaf level, trigger by trigger."""
        if not self.policy.rules:
            self.problem("it has no rules", "add rules = [on(...).do(...), ...]")
        if not self.counts_ces and any(rule.trigger == "on_ce" for rule in self.policy.rules):
            self.problem(
                "it acts on corrected errors, which the host of this scenario does not count",
                "set host.ce_threshold, for example --set host.ce_threshold=cec (faults.model = field only)",
            )
        expanded = [self._expand(rule) for rule in self.policy.rules]
        self._give_up()
        used: set[int] = set()
        rows: list[list[list[int]]] = [[] for _ in self.ladder.sizes]
        reachable, queue = {0}, [0]
        while queue:
            level = queue.pop()
            for target in self._level_rows(level, expanded, used, rows[level]):
                if target not in reachable:
                    reachable.add(target)
                    queue.append(target)
        rows += [self._ce_rows(level, expanded, used) if level in reachable else [] for level in range(len(rows))]
        for index, rule in enumerate(self.policy.rules):
            if index not in used and expanded[index] is not None:
                self.problem(
                    f"rule {index + 1} is dead: {rule}",
                    "an earlier rule always acts first, or no leaf of that size ever arises; remove it or move it up",
                )
        self._give_up()
        return rows

    def problem(self, what: str, hint: str) -> None:
        self.problems.append(f"policy {self.policy.name}: {what}; {hint}")

    def _give_up(self) -> None:
        if self.problems:
            raise PolicyError(self.problems)

    def _expand(self, rule: Rule) -> tuple[list[int], list[list[int]], bool, int] | None:
        """(levels, encoded conditions, always true, target level or -1), or None where the rule is wrong."""
        before = len(self.problems)
        levels = self._levels(rule.size, rule)
        try:
            encoded = [c for part in rule.conditions() if (c := self._encode(part, rule)) is not None]
        except PolicyError as error:
            self.problem(f"{rule}: {error}", 'such as "hits_in_region >= 3 and spares_left > 0"')
            return None
        if rule.trigger == "on_ce" and rule.action is not Act.MIGRATE:
            self.problem(f"{rule}: the page is not poisoned yet", "the one action that on_ce knows is MIGRATE")
        conditions = self._reduce(rule, encoded)
        if len(conditions) > MAX_CONDITIONS:
            self.problem(f"{rule}: {len(conditions)} comparisons in one guard", f"at most {MAX_CONDITIONS} are allowed")
        target = -1
        if isinstance(rule.action, SizedAct):
            target = self._exact_level(rule.action.size, rule)
        base = len(self.ladder.sizes) - 1
        for level in levels:
            size = self.ladder.sizes[level]
            if rule.action is Act.SPLIT and level == base:
                self.problem(f"{rule}: SPLIT at the base page {size}", "a base page cannot be split; use UNMAP or KEEP")
            elif isinstance(rule.action, SizedAct) and 0 <= target <= level:
                self.problem(
                    f"{rule}: a {size} leaf cannot be split to {self.ladder.sizes[target]}", "name a smaller size"
                )
        return None if len(self.problems) > before else (levels, conditions, not conditions, target)

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
            f"{rule}: '{size}' is no leaf size of {self.ladder.arch}{did_you_mean(size, allowed)}",
            f"allowed: {', '.join(allowed)}, and > or < before one of them",
        )
        return -1

    def _encode(self, condition: Condition, rule: Rule) -> list[int] | None:
        """[counter, operator, value], or None where the comparison is wrong."""
        if condition.counter not in COUNTERS:
            self.problem(
                f"{rule}: unknown counter '{condition.counter}'{did_you_mean(condition.counter, COUNTERS)}",
                f"counters: {', '.join(COUNTERS)}",
            )
            return None
        value = condition.operand
        if isinstance(value, str):
            if value not in self.params:
                self.problem(
                    f"{rule}: '{value}' is neither a number nor a parameter{did_you_mean(value, self.params)}",
                    f"parameters: {', '.join(self.params) or 'none'}",
                )
                return None
            value = self.params[value]
        return [list(COUNTERS).index(condition.counter), OPERATORS.index(condition.operator), value]

    def _reduce(self, rule: Rule, encoded: list[list[int]]) -> list[list[int]]:
        """The comparisons that can fail; reports those that no value of their counter can satisfy together."""
        kept = []
        for index, counter in enumerate(COUNTERS):
            tests = [(OPERATORS[op], value) for i, op, value in encoded if i == index]
            low, high = self.bounds[counter]
            if rule.trigger == "on_ce" and counter in ("hits_in_region", "hits_in_vm"):
                low = 0
            edges = {low, high} | {value + step for _, value in tests for step in (-1, 0, 1)}
            values = [x for x in edges if low <= x <= high]
            if (
                tests
                and not any(all(_holds(x, *test) for test in tests) for x in values)
                and (counter, high) != ("spares_left", 0)
            ):
                self.problem(
                    f"{rule}: the guard on {counter} can never hold ({counter} lies between {low} and {high})",
                    "remove the rule or mend the comparison",
                )
            kept += [[index, OPERATORS.index(op), v] for op, v in tests if not all(_holds(x, op, v) for x in values)]
        return kept

    def _level_rows(
        self,
        level: int,
        expanded: list[tuple[list[int], list[list[int]], bool, int] | None],
        used: set[int],
        rows: list[list[int]],
    ) -> list[int]:
        """Fills `rows` for one leaf size, marks the rules used, and returns the leaf levels that it leads to."""
        leads_to: list[int] = []
        for index, (rule, parts) in enumerate(zip(self.policy.rules, expanded, strict=True)):
            if parts is None or level not in parts[0] or rule.trigger != "on":
                continue
            _, conditions, always, target = parts
            used.add(index)
            act = rule.action.act if isinstance(rule.action, SizedAct) else rule.action
            if act is Act.SPLIT:
                act, target = Act.SPLIT_TO, level + 1
            rows.append(_row(conditions, act, target))
            if target >= 0:
                leads_to.append(target)
            if always and act is not Act.MIGRATE:
                return leads_to
        size = self.ladder.sizes[level]
        self.problem(
            f"rules leave one case open: poison in a {size} leaf with no rule that always acts",
            f'end with on("{size}").do(UNMAP), or another rule without a guard (MIGRATE may find no spare)',
        )
        return leads_to

    def _ce_rows(
        self, level: int, expanded: list[tuple[list[int], list[list[int]], bool, int] | None], used: set[int]
    ) -> list[list[int]]:
        """Rows of `on_ce` for one leaf size; marks the rules used. What no rule covers is left as it is."""
        rows = []
        for index, (rule, parts) in enumerate(zip(self.policy.rules, expanded, strict=True)):
            if parts is None or level not in parts[0] or rule.trigger != "on_ce":
                continue
            _, conditions, always, target = parts
            used.add(index)
            rows.append(_row(conditions, Act.MIGRATE, target))
            if always:
                break
        return rows


def _row(conditions: list[list[int]], act: Act, target: int) -> list[int]:
    padded = [part for condition in conditions for part in condition]
    padded += [0] * (3 * MAX_CONDITIONS - len(padded))
    return [len(conditions), *padded, int(act), target]


def _holds(x: int, operator: str, value: int) -> bool:
    return {"<": x < value, "<=": x <= value, ">": x > value, ">=": x >= value, "==": x == value, "!=": x != value}[
        operator
    ]
