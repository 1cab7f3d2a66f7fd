"""Policies: the rule language, its static checks, and where policies are found."""

from poisonsim.policy.check import Situation
from poisonsim.policy.loader import (
    PolicySource,
    all_policies,
    find_policy,
    load_policies,
    load_policy,
    policy_names,
)
from poisonsim.policy.rules import (
    BACKING,
    BASE,
    COLLAPSE,
    COUNTERS,
    EVACUATE,
    KEEP,
    MIGRATE,
    OFFLINE,
    REBOOT,
    RESTART,
    SPLIT,
    SPLIT_TO,
    SPLIT_VM_TO,
    TRIGGERS,
    UNMAP,
    UNMAP_STAGE2,
    Act,
    Policy,
    Range,
    Rule,
    every,
    on,
    on_ce,
)
from poisonsim.policy.table import CompiledPolicy, compile_policy

__all__ = [
    "BACKING", "BASE", "COLLAPSE", "COUNTERS", "EVACUATE", "KEEP", "MIGRATE", "OFFLINE", "REBOOT", "RESTART",
    "SPLIT", "SPLIT_TO", "SPLIT_VM_TO", "TRIGGERS", "UNMAP", "UNMAP_STAGE2",
    "Act", "CompiledPolicy", "Policy", "PolicySource", "Range", "Rule", "Situation",
    "all_policies", "compile_policy", "every", "find_policy", "load_policies", "load_policy", "on", "on_ce",
    "policy_names",
]  # fmt: skip
