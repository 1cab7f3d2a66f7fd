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

from poisonsim.errors import PolicyError
from poisonsim.policy.check import Checker, Situation
from poisonsim.policy.needs import needs_of
from poisonsim.policy.rules import (
    ANSWERS,
    HOST_SPARES,
    MAX_CONDITIONS,
    TAKES_SPARES,
    Act,
    Policy,
    Rule,
)

I64 = NDArray[np.int64]
ROW_WIDTH = 3 + 3 * MAX_CONDITIONS

FLAGS = ("shared", "keeps", "stage2_only", "contiguous")
"""What a policy asks of the host beside its rules; see `CompiledPolicy`."""


@dataclass(frozen=True)
class CompiledPolicy:
    """A checked policy as integers.

    Attributes:
        label: Name with the parameters that were given.
        spec: What the policy was loaded from, as the user wrote it; empty for a class.
        rows: int64[n_rules, ROW_WIDTH], sorted by trigger and leaf level: number of conditions, then (counter,
            operator, value) for each, action, target level.
        row_start: int64[2 * n_levels + 2], first row of each leaf level for `on`, then for `on_ce`, then of `every`,
            where the days between stand in place of the target level.
        params: Every parameter with its value, in name order.
        shared: Whether the VM's memory is mapped shared.
        keeps: Whether it needs memory that memory_failure() leaves mapped (KEEP, UNMAP_STAGE2, OFFLINE).
        stage2_only: Whether it splits stage 2 alone and leaves the process table whole.
        contiguous: Whether it splits to leaves of contiguous entries, too.
        decide: The policy's own function of counters and parameters, or None.
        answers: What `decide` may answer.
        digest: SHA-256 over everything above that can change an outcome.
        source: Text of the file that `decide` was loaded from; empty where it is installed code or a class.
        notes: Rules that never act for want of spares, and parameters that stand in no rule, in words.
    """

    label: str
    spec: str
    summary: str
    text: tuple[str, ...]
    rows: I64
    row_start: I64
    params: Mapping[str, int]
    shared: bool
    keeps: bool
    stage2_only: bool
    contiguous: bool
    decide: Callable[[Any, Any], int] | None
    digest: str
    answers: tuple[Act, ...] = ()
    source: str = ""
    notes: tuple[str, ...] = ()

    @property
    def takes_spares(self) -> bool:
        """Whether it can take spare huge pages."""
        return Act.MIGRATE in self.answers or bool(np.isin(self.rows[:, -2], TAKES_SPARES).any())

    @property
    def evacuates(self) -> bool:
        """Whether it can move the VM to another host."""
        return bool((self.rows[:, -2] == Act.EVACUATE).any())

    @property
    def spares(self) -> int:
        """Spare huge pages it may take."""
        return self.params["spares"] if self.takes_spares else 0

    @property
    def leaks(self) -> bool:
        """Whether a huge page with poison that is given up is leaked until the host reboots, not dissolved.

        It is where the memory is mapped shared and memory_failure() takes the page away.
        """
        return self.shared and not self.keeps

    @property
    def acts_on_ces(self) -> bool:
        """Whether corrected errors can make it act."""
        n_levels = (len(self.row_start) - 2) // 2
        return bool(self.row_start[2 * n_levels] > self.row_start[n_levels])

    @property
    def has_timed_rules(self) -> bool:
        """Whether it has rules that are tried from time to time."""
        return len(self.timed_rows) > 0

    @property
    def timed_rows(self) -> I64:
        """Those of `rows` that hold them."""
        return self.rows[self.row_start[-2] : self.row_start[-1]]

    @property
    def uses_hgm(self) -> bool:
        """Whether it can map a region with smaller leaves, which needs high-granularity mapping."""
        splits = bool(np.isin(self.rows[:, -2], (Act.SPLIT_TO, Act.SPLIT_VM_TO)).any())
        return Act.SPLIT in self.answers or (splits and not self.stage2_only)

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
            **{name: getattr(self, name) for name in FLAGS},
            "has_decide": self.decide is not None,
            "digest": self.digest,
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> CompiledPolicy:
        """The rule table that `to_dict` wrote; its digest is recomputed, so an edited one is another policy."""
        rows = np.array(data["rows"], np.int64).reshape(-1, ROW_WIDTH)
        row_start = np.array(data["row_start"], np.int64)
        params = {str(k): int(v) for k, v in data["params"].items()}
        flags = {name: bool(data[name]) for name in FLAGS}
        return CompiledPolicy(
            label=str(data["label"]),
            spec=str(data["spec"]),
            summary=str(data["summary"]),
            text=tuple(str(line) for line in data["text"]),
            rows=rows,
            row_start=row_start,
            params=params,
            decide=None,
            digest=_digest(rows, row_start, params, flags, ""),
            answers=(),
            source="",
            notes=(),
            **flags,
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
    rows_by_level: list[list[list[int]]] = [[] for _ in range(2 * len(situation.ladder.sizes) + 1)]
    notes: list[str] = []
    if decide is None:
        checker = Checker(policy, params, situation)
        rows_by_level, notes = checker.rows_by_level(), checker.notes
    elif lacking := [need for need in needs_of(policy, situation) if not need.met]:
        raise PolicyError([f"policy {policy.name}: {need.problem}; {need.hint}" for need in lacking])
    flat = [row for rows in rows_by_level for row in rows]
    rows = np.array(flat, dtype=np.int64).reshape(len(flat), ROW_WIDTH)
    row_start = np.cumsum([0, *(len(level_rows) for level_rows in rows_by_level)]).astype(np.int64)
    keeping = (Act.KEEP, Act.UNMAP_STAGE2, Act.OFFLINE)
    flags = {
        "shared": (policy.mapping or situation.mapping) == "shared",
        "keeps": policy.keeps or any(rule.action in keeping for rule in policy.rules),
        "stage2_only": any(rule.action is Act.UNMAP_STAGE2 for rule in policy.rules),
        "contiguous": policy.needs_contiguous,
    }
    return CompiledPolicy(
        label=policy.label,
        spec=policy.spec,
        summary=(inspect.getdoc(type(policy)) or "").partition("\n")[0],
        text=tuple(str(rule) for rule in policy.rules) or ("decide(c, p)",),
        rows=rows,
        row_start=row_start,
        params=params,
        decide=decide,
        digest=_digest(rows, row_start, params, flags, "" if decide is None else _code_of(policy, decide)),
        answers=policy.answers(),
        source="" if decide is None else policy.source,
        notes=tuple(dict.fromkeys(notes)),
        **flags,
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
    problems += [
        f"policy {policy.name}: {name} = {getattr(policy, name)!r} is not True or False; it says what code may answer, "
        "so call a parameter otherwise"
        for name in filter(None, ANSWERS.values())
        if not isinstance(getattr(policy, name), bool)
    ]
    if policy.mapping not in (None, "shared", "private"):
        problems.append(f"policy {policy.name}: mapping = {policy.mapping!r} is not 'shared' or 'private'")
    if problems:
        raise PolicyError(problems)


def _digest(rows: I64, row_start: I64, params: Mapping[str, int], flags: Mapping[str, bool], source: str) -> str:
    identity = [rows.tolist(), row_start.tolist(), dict(params), dict(flags), source]
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


def _code_of(policy: Policy, decide: Callable[[Any, Any], int]) -> str:
    """What stands for a policy in code: its text, and what it may answer, which a class above or beside may say."""
    return f"{_source_of(policy, decide)}\n{', '.join(act.name for act in policy.answers())}"


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
