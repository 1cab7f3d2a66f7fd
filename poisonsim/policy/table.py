"""From a policy to the rule table that the kernel interprets, with every static check on the way."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poisonsim.errors import PolicyError, did_you_mean
from poisonsim.memory import Ladder
from poisonsim.policy.rules import (
    BACKING,
    BASE,
    COUNTERS,
    HOST_SPARES,
    MAX_CONDITIONS,
    OPERATORS,
    Act,
    Condition,
    Policy,
    Rule,
    SizedAct,
)

I64 = NDArray[np.int64]
ROW_WIDTH = 3 + 3 * MAX_CONDITIONS
UNBOUNDED = 2**62


@dataclass(frozen=True)
class Situation:
    """What a policy is compiled for: the ladder of leaf sizes and the host it acts on."""

    ladder: Ladder
    n_regions: int
    spares: int
    mapping: str
    horizon_days: int


@dataclass(frozen=True)
class CompiledPolicy:
    """A checked policy as integers.

    Attributes:
        label: Name with the parameters that were given.
        spec: What the policy was loaded from, as the user wrote it; empty for a class.
        rows: int64[n_rules, ROW_WIDTH], sorted by leaf level: number of conditions, then (counter, operator,
            value) for each, action, target level.
        row_start: int64[n_levels + 1], first row of each leaf level.
        params: Every parameter with its value, in name order.
        shared: Whether the VM's memory is mapped shared, so that a huge page given up is leaked, not dissolved.
        decide: The policy's own function of counters and parameters, or None.
        digest: SHA-256 over everything above that can change an outcome.
    """

    label: str
    spec: str
    summary: str
    text: tuple[str, ...]
    rows: I64
    row_start: I64
    params: Mapping[str, int]
    shared: bool
    decide: Callable[[Any, Any], int] | None
    digest: str

    @property
    def takes_spares(self) -> bool:
        """Whether it can take spare huge pages; `decide` might."""
        return self.decide is not None or bool((self.rows[:, -2] == Act.MIGRATE).any())

    @property
    def spares(self) -> int:
        """Spare huge pages it may take."""
        return self.params["spares"] if self.takes_spares else 0

    @property
    def uses_hgm(self) -> bool:
        """Whether it can map a region with smaller leaves, which needs high-granularity mapping; `decide` might."""
        return self.decide is not None or bool(np.isin(self.rows[:, -2], (Act.SPLIT_TO, Act.SPLIT_VM_TO)).any())

    def to_dict(self) -> dict[str, Any]:
        """The policy as plain data; of a `decide` only the digest is kept, the code stays in its file."""
        return {
            "label": self.label,
            "spec": self.spec,
            "summary": self.summary,
            "text": list(self.text),
            "rows": self.rows.tolist(),
            "row_start": self.row_start.tolist(),
            "params": dict(self.params),
            "shared": self.shared,
            "has_decide": self.decide is not None,
            "digest": self.digest,
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> CompiledPolicy:
        """The rule table that `to_dict` wrote; its digest is recomputed, so an edited one is another policy."""
        rows = np.array(data["rows"], np.int64).reshape(-1, ROW_WIDTH)
        row_start = np.array(data["row_start"], np.int64)
        params, shared = {str(k): int(v) for k, v in data["params"].items()}, bool(data["shared"])
        return CompiledPolicy(
            label=str(data["label"]),
            spec=str(data["spec"]),
            summary=str(data["summary"]),
            text=tuple(str(line) for line in data["text"]),
            rows=rows,
            row_start=row_start,
            params=params,
            shared=shared,
            decide=None,
            digest=_digest(rows, row_start, params, shared, ""),
        )


def compile_policy(policy: Policy, situation: Situation) -> CompiledPolicy:
    """`policy` as a checked rule table for `situation`.

    Raises:
        PolicyError: All problems found: an open case, a dead rule, an unknown counter or size, SPLIT at the
            base page, a guard that is no guard.

    Examples:
        >>> from poisonsim.memory import ladder
        >>> from poisonsim.policy import UNMAP, Policy, on
        >>> class Whole(Policy):
        ...     "Lose the huge page."
        ...     rules = [on("BACKING").do(UNMAP)]
        >>> compiled = compile_policy(Whole(), Situation(ladder("x86-64"), 1024, 4, "shared", 1826))
        >>> compiled.rows[:, -2].tolist() == [UNMAP], compiled.uses_hgm
        (True, False)
    """
    _check_declaration(policy)
    params = resolve_params(policy, situation.spares)
    decide = _decide_function(policy)
    rows_by_level: list[list[list[int]]] = [[] for _ in situation.ladder.sizes]
    if decide is None:
        rows_by_level = _Checker(policy, params, situation).rows_by_level()
    flat = [row for rows in rows_by_level for row in rows]
    rows = np.array(flat, dtype=np.int64).reshape(len(flat), ROW_WIDTH)
    row_start = np.cumsum([0, *(len(level_rows) for level_rows in rows_by_level)]).astype(np.int64)
    shared = (policy.mapping or situation.mapping) == "shared"
    return CompiledPolicy(
        label=policy.label,
        spec=policy.spec,
        summary=(inspect.getdoc(type(policy)) or "").partition("\n")[0],
        text=tuple(str(rule) for rule in policy.rules) or ("decide(c, p)",),
        rows=rows,
        row_start=row_start,
        params=params,
        shared=shared,
        decide=decide,
        digest=_digest(rows, row_start, params, shared, "" if decide is None else _source_of(policy, decide)),
    )


def _check_declaration(policy: Policy) -> None:
    """Raises PolicyError unless `rules` is a list of rules with text guards, and `mapping` a kind of mapping."""
    problems = []
    rules = policy.rules
    if not isinstance(rules, (list, tuple)) or not all(isinstance(rule, Rule) for rule in rules):
        problems.append(
            f"policy {policy.name}: rules = {rules!r} is not a list of rules; write rules = [on(...).do(...), ...]"
        )
    elif wrong := [rule.guard for rule in rules if not isinstance(rule.guard, str)]:
        problems.append(f'policy {policy.name}: guard {wrong[0]!r} is not text; write it as when="hits_in_region >= 3"')
    if policy.mapping not in (None, "shared", "private"):
        problems.append(f"policy {policy.name}: mapping = {policy.mapping!r} is not 'shared' or 'private'")
    if problems:
        raise PolicyError(problems)


def _digest(rows: I64, row_start: I64, params: Mapping[str, int], shared: bool, source: str) -> str:
    identity = [rows.tolist(), row_start.tolist(), dict(params), shared, source]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def resolve_params(policy: Policy, host_spares: int) -> dict[str, int]:
    """Every parameter of `policy` with its value, the host's spares where neither policy nor user says."""
    values = {name: policy.params.get(name, p.default) for name, p in sorted(policy.parameters().items())}
    if values.get("spares") == HOST_SPARES:
        values["spares"] = host_spares
    return values


def _decide_function(policy: Policy) -> Callable[[Any, Any], int] | None:
    if not policy.has_decide():
        return None
    if policy.rules:
        raise PolicyError(f"policy {policy.name}: has both rules and decide; keep one of them")
    decide = inspect.getattr_static(type(policy), "decide")
    decide = decide.__func__ if isinstance(decide, staticmethod) else decide
    if not callable(decide) or list(inspect.signature(decide).parameters) != ["c", "p"]:
        raise PolicyError(f"policy {policy.name}: decide must be a @staticmethod with the arguments (c, p)")
    return decide


def _source_of(policy: Policy, decide: Callable[[Any, Any], int]) -> str:
    """Source text of the module that `decide` lives in, so that a changed helper changes the digest too."""
    if policy.source:
        return policy.source
    module = inspect.getmodule(decide)
    for part in (module, type(policy), decide):
        try:
            return inspect.getsource(part)  # type: ignore[arg-type]
        except (OSError, TypeError):
            continue
    code = decide.__code__
    return f"{code.co_code.hex()} {code.co_consts!r} {code.co_names!r}"


class _Checker:
    """Expands the rules over the ladder and collects every problem before it gives up."""

    def __init__(self, policy: Policy, params: Mapping[str, int], situation: Situation) -> None:
        self.policy, self.params, self.ladder = policy, params, situation.ladder
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
        if not self.policy.rules:
            self.problem("it has no rules", "add rules = [on(...).do(...), ...]")
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
            if parts is None or level not in parts[0]:
                continue
            _, conditions, always, target = parts
            used.add(index)
            act = rule.action.act if isinstance(rule.action, SizedAct) else rule.action
            if act is Act.SPLIT:
                act, target = Act.SPLIT_TO, level + 1
            padded = [part for condition in conditions for part in condition]
            padded += [0] * (3 * MAX_CONDITIONS - len(padded))
            rows.append([len(conditions), *padded, int(act), target])
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


def _holds(x: int, operator: str, value: int) -> bool:
    return {"<": x < value, "<=": x <= value, ">": x > value, ">=": x >= value, "==": x == value, "!=": x != value}[
        operator
    ]
