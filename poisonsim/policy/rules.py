"""The words a policy is written in: sizes, actions, counters, guards, rules.

A policy chooses; it never accounts. When poison lands on a base page, the rules for the size of the leaf that
maps it are tried in order, and the first whose guard holds acts.

    class Hgm2M(Policy):
        rules = [on(">BASE").do(SPLIT), on(BASE).do(UNMAP)]

Rules of `on_ce` are tried when the corrected errors of a page have passed the host's threshold, rules of `every` from
time to time; there nothing is poisoned at that moment, and where no rule acts nothing happens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any, ClassVar, get_args, get_origin, get_type_hints

from poisonsim.errors import PolicyError, did_you_mean

BACKING = "BACKING"
BASE = "BASE"

COUNTERS: dict[str, str] = {
    "spares_left": "free huge pages left in the pool that this policy may take",
    "hits_in_region": "poisoned base pages acted on in the huge page that now backs this region, this one included",
    "hits_in_vm": "poisoned base pages acted on in the VM since it was last evacuated or restarted, this one included",
    "regions_split": "regions now mapped by more than one leaf",
    "leaked_regions": "huge pages the host has lost until it reboots",
    "table_pages": "page-table pages added so far, in one table",
    "age_days": "whole days since the VM started",
}
DECIDE_FIELDS = (*COUNTERS, "leaf_level", "base_level")
TRIGGERS = {
    "on": "poison lands in a leaf of that size",
    "on_ce": "the corrected errors of a page in a leaf of that size pass the host's threshold, `host.ce_threshold`",
    "every": "so many days have passed, once anything has struck the VM",
}
"""What rules are tried for, by the word they begin with."""
OPERATORS = ("<", "<=", ">", ">=", "==", "!=")
MAX_CONDITIONS = 4


class Act(IntEnum):
    """What can be done with a leaf on which poison landed, or with the whole VM."""

    SPLIT = 1
    UNMAP = 2
    KEEP = 3
    MIGRATE = 4
    SPLIT_TO = 5
    SPLIT_VM_TO = 6
    EVACUATE = 7
    RESTART = 8
    COLLAPSE = 9
    OFFLINE = 10
    REBOOT = 11
    UNMAP_STAGE2 = 12


SPLIT, UNMAP, KEEP, MIGRATE = Act.SPLIT, Act.UNMAP, Act.KEEP, Act.MIGRATE
EVACUATE, RESTART, COLLAPSE = Act.EVACUATE, Act.RESTART, Act.COLLAPSE
OFFLINE, REBOOT, UNMAP_STAGE2 = Act.OFFLINE, Act.REBOOT, Act.UNMAP_STAGE2

ACTS: Mapping[Act, str] = {
    SPLIT: "splits the leaf to the next smaller size, and the poison is delivered again, to the small leaf",
    Act.SPLIT_TO: "splits the leaf straight to a size, written `SPLIT_TO(size)`, and the poison is delivered again",
    Act.SPLIT_VM_TO: "splits every larger leaf of the VM to a size, written `SPLIT_VM_TO(size)`, and delivers it again",
    UNMAP: "makes the leaf a hole; a whole backing page that is given up is leaked (shared) or dissolved (private)",
    UNMAP_STAGE2: "cuts the poisoned base page out of stage 2 alone; the process table stays as it is",
    KEEP: "leaves the leaf mapped, poison and all",
    MIGRATE: "moves the healthy data of the region to a spare huge page; without a spare the next rule is tried",
    OFFLINE: "has the guest vacate the region, and plugs in a spare where there is one",
    EVACUATE: "live-migrates the VM to another host; without one that takes it the next rule is tried",
    RESTART: "restarts the guest; spares replace what it had lost",
    COLLAPSE: "maps again by the largest leaves that hold neither a hole nor poison",
    REBOOT: "reboots the host, which brings leaked huge pages back and lets firmware repair rows",
}
"""What each action does, as the manual says it."""

TAKES_SPARES = (Act.MIGRATE, Act.RESTART, Act.OFFLINE, Act.REBOOT)
"""Actions that need spare huge pages, or are the better for them."""

ACTS_BY_TRIGGER: Mapping[str, tuple[Act, ...]] = {
    "on": (SPLIT, Act.SPLIT_TO, Act.SPLIT_VM_TO, UNMAP, UNMAP_STAGE2, KEEP, MIGRATE, OFFLINE, EVACUATE, RESTART),
    "on_ce": (MIGRATE, EVACUATE),
    "every": (COLLAPSE, EVACUATE, RESTART, REBOOT),
}


@dataclass(frozen=True)
class SizedAct:
    """An action that names the leaf size to reach; made by `SPLIT_TO` and `SPLIT_VM_TO`."""

    act: Act
    size: str

    def __str__(self) -> str:
        return f"{self.act.name}({self.size})"


def SPLIT_TO(size: str) -> SizedAct:
    """The action that splits this leaf straight to leaves of `size` and delivers the poison again.

    Examples:
        >>> print(on(BACKING).do(SPLIT_TO(BASE)))
        on(BACKING): SPLIT_TO(BASE)
    """
    return SizedAct(Act.SPLIT_TO, size)


def SPLIT_VM_TO(size: str) -> SizedAct:
    """The action that splits every larger leaf of the VM to `size` and delivers the poison again.

    Examples:
        >>> print(on(">BASE").do(SPLIT_VM_TO(BASE)))
        on(>BASE): SPLIT_VM_TO(BASE)
    """
    return SizedAct(Act.SPLIT_VM_TO, size)


@dataclass(frozen=True)
class Condition:
    """One comparison of a counter with a whole number or with a parameter of the policy."""

    counter: str
    operator: str
    operand: int | str

    def __str__(self) -> str:
        return f"{self.counter} {self.operator} {self.operand}"


@dataclass(frozen=True)
class Rule:
    """On a leaf of `size`, when every condition holds, do `action`; what it is tried for is its `trigger`.

    Rules of `every` have no size, and `days` between the times at which they are tried.
    """

    size: str
    guard: str
    action: Act | SizedAct
    trigger: str = "on"
    days: int | str = 0

    def conditions(self) -> tuple[Condition, ...]:
        """The comparisons of the guard, joined by `and`; empty where the rule always acts.

        Raises:
            PolicyError: The guard is not a conjunction of `counter operator number-or-parameter`.

        Examples:
            >>> [str(c) for c in on(BACKING, when="spares_left > 0 and hits_in_region >= n").do(MIGRATE).conditions()]
            ['spares_left > 0', 'hits_in_region >= n']
        """
        return tuple(_parse_condition(part) for part in self.guard.split(" and ")) if self.guard.strip() else ()

    def __str__(self) -> str:
        action = self.action if isinstance(self.action, SizedAct) else self.action.name
        what = f"days={self.days}" if self.trigger == "every" else self.size
        return f"{self.trigger}({what}{f', when {self.guard}' if self.guard else ''}): {action}"


_CONDITION = re.compile(r"\s*([A-Za-z_]\w*)\s*(<=|>=|==|!=|<|>)\s*(-?\d[\d_]*|[A-Za-z_]\w*)\s*")


def _parse_condition(text: str) -> Condition:
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise PolicyError(
            f"guard '{text.strip()}' is not `counter operator number-or-parameter`; "
            f"counters: {', '.join(COUNTERS)}; join comparisons with `and`"
        )
    operand = match[3]
    return Condition(match[1], match[2], operand if operand[0].isalpha() or operand[0] == "_" else int(operand))


@dataclass(frozen=True)
class _On:
    size: str
    guard: str
    trigger: str
    days: int | str = 0

    def do(self, action: Act | SizedAct) -> Rule:
        """The rule that does `action` here."""
        if isinstance(action, str) and action in Act.__members__:
            raise PolicyError(f"{action!r} is text; write {action} without quotes, imported from poisonsim.policy")
        if not isinstance(action, (Act, SizedAct)) or action in (Act.SPLIT_TO, Act.SPLIT_VM_TO):
            raise PolicyError(
                f"{action!r} is not an action; allowed: SPLIT, SPLIT_TO(size), SPLIT_VM_TO(size), UNMAP, KEEP, "
                "UNMAP_STAGE2, MIGRATE, OFFLINE, EVACUATE, RESTART, COLLAPSE, REBOOT"
            )
        return Rule(self.size, self.guard, action, self.trigger, self.days)


def on(size: str, when: str = "") -> _On:
    """Start of a rule for poison in a leaf of `size`.

    Args:
        size: `BACKING`, `BASE`, a page size such as `"2M"`, or one of these behind `>` or `<`.
        when: Guard over counters, such as `"hits_in_region >= 3 and spares_left > 0"`.

    Examples:
        >>> print(on("2M", when="hits_in_vm > 8").do(UNMAP))
        on(2M, when hits_in_vm > 8): UNMAP
    """
    return _On(str(size), when, "on")


def on_ce(size: str, when: str = "") -> _On:
    """Start of a rule for a page in a leaf of `size` whose corrected errors passed the threshold of the host.

    The page is healthy yet. `MIGRATE` is soft offline, which moves the region to a spare huge page and takes the
    suspect page out of use; `EVACUATE` moves the whole VM. The scenario says what the threshold is:
    `host.ce_threshold`.

    Args:
        size: As for `on`.
        when: Guard over counters, as for `on`; `hits_in_region` and `hits_in_vm` count poison only, and may be 0.

    Examples:
        >>> print(on_ce(BACKING, when="spares_left > 1").do(MIGRATE))
        on_ce(BACKING, when spares_left > 1): MIGRATE
    """
    return _On(str(size), when, "on_ce")


def every(days: int | str, when: str = "") -> _On:
    """Start of a rule that is tried every so many days of the VM's life.

    Args:
        days: A whole number, or the name of a parameter of the policy.
        when: Guard over counters, as for `on`; there is no leaf, and `hits_in_region` is 0.

    Examples:
        >>> print(every(days=30, when="hits_in_vm >= 3").do(RESTART))
        every(days=30, when hits_in_vm >= 3): RESTART
    """
    return _On("", when, "every", days)


@dataclass(frozen=True)
class Range:
    """Allowed values of an integer parameter, both ends included: `n: Annotated[int, Range(1, 64)] = 3`."""

    low: int
    high: int


@dataclass(frozen=True)
class Parameter:
    """One parameter of a policy: its default and what is allowed."""

    name: str
    default: int
    allowed: Range


ANSWERS: Mapping[Act, str] = {UNMAP: "", SPLIT: "splits", KEEP: "keeps", MIGRATE: "moves"}
"""What a `decide` may answer, by the attribute of its class that says so; UNMAP always."""

_ANY_COUNT = Range(0, 2**31 - 1)


class Policy:
    """Base of every policy: a rule table, or a `decide(c, p)` for what rules cannot say.

    Subclasses set `rules`; annotated integer attributes are parameters. `mapping` overrides `host.mapping` where
    the mechanism exists for one kind of mapping only; `needs_contiguous` says that SPLIT goes down by the sizes of
    contiguous entries too, so that the policy has no meaning where no leaf below the backing takes them; `keeps` takes
    memory whose poison stays mapped. What a `decide` may answer decides what it asks of the host: UNMAP always, SPLIT
    unless `splits` is False, MIGRATE unless `moves` is False, KEEP if `keeps` (of rules all that is known). The
    docstring's first line is the summary that `policies list` prints, and a line `Status:` says how far the mechanism
    is from mainline Linux.

    Args:
        params: Values of the policy's parameters.

    Raises:
        PolicyError: A parameter that does not exist or is out of range.

    Examples:
        >>> class Patient(Policy):
        ...     limit: Annotated[int, Range(1, 64)] = 3
        ...     rules = [on(BACKING, when="hits_in_region >= limit").do(UNMAP), on(BACKING).do(KEEP)]
        >>> Patient(limit=5).label
        'patient:limit=5'
    """

    name: ClassVar[str] = "policy"
    rules: ClassVar[Sequence[Rule]] = ()
    mapping: ClassVar[str | None] = None
    needs_contiguous: ClassVar[bool] = False
    keeps: ClassVar[bool] = False
    splits: ClassVar[bool] = True
    moves: ClassVar[bool] = True
    source: ClassVar[str] = ""  # text of the file it was loaded from

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = re.sub(r"(?<=[A-Za-z0-9])(?=[A-Z][a-z])", "-", cls.__name__).lower()

    def __init__(self, **params: int) -> None:
        known = self.parameters()
        problems = [
            f"policy {self.name}: unknown parameter '{name}'{did_you_mean(name, known)}; "
            f"it has {', '.join(known) or 'none'}"
            for name in params
            if name not in known
        ]
        for name, value in params.items():
            if name in known and not _allowed(value, known[name].allowed):
                low, high = known[name].allowed.low, known[name].allowed.high
                problems.append(f"policy {self.name}: {name} = {value} is not a whole number from {low} to {high}")
        if problems:
            raise PolicyError(problems)
        self.params: Mapping[str, int] = dict(params)
        self.spec = ""

    @classmethod
    def parameters(cls) -> dict[str, Parameter]:
        """The policy's parameters by name.

        Raises:
            PolicyError: An annotation other than `int`, a missing default, or a default out of its range.
        """
        found: dict[str, Parameter] = {}
        try:
            hints = get_type_hints(cls, include_extras=True)
        except NameError as error:
            raise PolicyError(f"policy {cls.name}: an annotation cannot be read: {error}; use int") from None
        for name, hint in hints.items():
            if get_origin(hint) is ClassVar or name in ANSWERS.values():
                continue
            kind, *extras = get_args(hint) if get_origin(hint) is Annotated else (hint,)
            allowed = next((extra for extra in extras if isinstance(extra, Range)), _ANY_COUNT)
            default = getattr(cls, name, None)
            if name.startswith("_"):
                raise PolicyError(
                    f"policy {cls.name}: parameter {name} begins with an underscore; call it {name.strip('_')}"
                )
            if kind is not int or default is None:
                raise PolicyError(f"policy {cls.name}: parameter {name} needs the annotation int and a default value")
            if not _allowed(default, allowed):
                raise PolicyError(
                    f"policy {cls.name}: the default {name} = {default!r} is not a whole number "
                    f"from {allowed.low} to {allowed.high}"
                )
            found[name] = Parameter(name, int(default), allowed)
        if cls.takes_spares() and "spares" not in found:
            found["spares"] = Parameter("spares", HOST_SPARES, Range(0, 65536))
        return found

    @classmethod
    def takes_spares(cls) -> bool:
        """Whether the policy can take a spare huge page: a rule has one of `TAKES_SPARES`, or `decide` may."""
        rules = cls.rules if isinstance(cls.rules, (list, tuple)) else ()
        return MIGRATE in cls.answers() or any(getattr(rule, "action", None) in TAKES_SPARES for rule in rules)

    @classmethod
    def has_decide(cls) -> bool:
        """Whether the policy answers in code instead of rules."""
        return hasattr(cls, "decide")

    @classmethod
    def answers(cls) -> tuple[Act, ...]:
        """What a `decide` may answer; nothing where there is none.

        Examples:
            >>> class Mover(Policy):
            ...     splits = False
            ...     @staticmethod
            ...     def decide(c, p):
            ...         return MIGRATE if c.spares_left > 0 else UNMAP
            >>> [act.name for act in Mover.answers()]
            ['UNMAP', 'MIGRATE']
        """
        return tuple(a for a, says in ANSWERS.items() if not says or getattr(cls, says)) if cls.has_decide() else ()

    @property
    def label(self) -> str:
        """The policy's name with the parameters that were given, as the command line spells it."""
        given = ",".join(f"{name}={value}" for name, value in sorted(self.params.items()))
        return f"{self.name}:{given}" if given else self.name

    def __repr__(self) -> str:
        return f"<policy {self.label}>"


HOST_SPARES = -1  # parameter default that stands for the scenario's host.spares


def _allowed(value: object, allowed: Range) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and allowed.low <= value <= allowed.high
