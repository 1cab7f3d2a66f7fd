"""What a policy asks of the host and the VM, and which scenario keys give it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from poisonsim.policy.rules import Act, Policy, Rule, SizedAct

if TYPE_CHECKING:
    from poisonsim.policy.check import Situation

_SPLITS = (Act.SPLIT, Act.SPLIT_TO, Act.SPLIT_VM_TO)


@dataclass(frozen=True)
class Need:
    """Something that a policy asks for.

    Attributes:
        told: What, in words, and the key that says whether it is there.
        met: Whether the situation has it.
        settings: What gives it, by key.
        problem: What is wrong where it is not there.
        hint: What to do then.
    """

    told: str
    met: bool
    settings: Mapping[str, str]
    problem: str
    hint: str


def needs_of(policy: Policy, situation: Situation) -> Iterator[Need]:
    """What the rules of a policy ask of a host, or all that one in code may answer.

    Examples:
        >>> from poisonsim.memory import ladder
        >>> from poisonsim.policy import Situation, load_policy
        >>> bare = Situation(ladder("x86-64"), 1024, 4, "shared", 1826, spare_hosts=0, moves_poison=False)
        >>> [need.settings for need in needs_of(load_policy("evacuate-after"), bare) if not need.met]
        [{'host.spare_hosts': '1'}, {'host.moves_poison': 'true'}]
    """
    rules = [rule for rule in policy.rules if isinstance(rule, Rule)] if isinstance(policy.rules, (list, tuple)) else []
    if any(rule.trigger == "on_ce" for rule in rules):
        yield Need(
            "a host that counts corrected errors: host.ce_threshold other than off, with faults.model = field",
            situation.counts_ces,
            {"faults.model": "field", "host.ce_threshold": "cec"},
            "it acts on corrected errors, which the host of this scenario does not count",
            "set host.ce_threshold, for example --set host.ce_threshold=cec (faults.model = field only)",
        )
    moving = [rule for rule in rules if rule.action is Act.EVACUATE]
    if moving:
        yield Need(
            "hosts to go to: host.spare_hosts of 1 or more",
            situation.spare_hosts > 0,
            {"host.spare_hosts": "1"},
            f"{moving[0]}: there is no host to go to",
            "set host.spare_hosts, for example --set host.spare_hosts=1",
        )
    if any(rule.trigger != "on_ce" for rule in moving):
        yield Need(
            "a VMM that carries poison along, which QEMU does not: host.moves_poison = true",
            situation.moves_poison,
            {"host.moves_poison": "true"},
            "it evacuates a VM that has poison, which QEMU refuses",
            "evacuate on_ce, or set host.moves_poison=true for a VMM that carries poison along",
        )
    splits = [str(rule) for rule in rules if _act(rule.action) in _SPLITS]
    if Act.SPLIT in policy.answers():
        splits = ["decide may answer SPLIT"]
    if splits:
        yield Need(
            "a kernel with high-granularity mapping: host.hgm = true; what that does to HVO, host.hvo_with_hgm says",
            situation.hgm,
            {"host.hgm": "true"},
            f"{splits[0]}: it maps huge pages with high granularity, and the host has no HGM",
            "choose a policy that does not split"
            f"{f' (or say splits = False, if {policy.name} does not)' if policy.has_decide() else ''}, or set "
            "host.hgm=true",
        )
    if moving or Act.MIGRATE in policy.answers() or any(rule.action is Act.MIGRATE for rule in rules):
        yield Need(
            "memory that can move, not pinned for devices: host.pinned = false",
            not situation.pinned,
            {"host.pinned": "false"},
            "it moves memory, and that of this scenario's VM is pinned for devices",
            "choose a policy without MIGRATE and EVACUATE"
            f"{f' (or say moves = False, if {policy.name} does not move)' if policy.has_decide() else ''}, or set "
            "host.pinned=false",
        )


def settings_to_add(needs: Sequence[Need], *, field: bool) -> list[str]:
    """The settings that give what is not there, as `--set` takes them, each once.

    Args:
        field: Whether the scenario has a field model of faults already.
    """
    missing = {key: value for need in needs if not need.met for key, value in need.settings.items()}
    if field:
        missing.pop("faults.model", None)
    return [f"--set {key}={value}" for key, value in missing.items()]


def _act(action: Act | SizedAct) -> Act:
    return action.act if isinstance(action, SizedAct) else action
