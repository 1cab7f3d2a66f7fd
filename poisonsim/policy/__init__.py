"""Policies: the rule language, its static checks, and where policies are found."""

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
    COUNTERS,
    KEEP,
    MIGRATE,
    SPLIT,
    SPLIT_TO,
    SPLIT_VM_TO,
    UNMAP,
    Act,
    Policy,
    Range,
    Rule,
    on,
)
from poisonsim.policy.table import CompiledPolicy, Situation, compile_policy

__all__ = [
    "BACKING", "BASE", "COUNTERS", "KEEP", "MIGRATE", "SPLIT", "SPLIT_TO", "SPLIT_VM_TO", "UNMAP",
    "Act", "CompiledPolicy", "Policy", "PolicySource", "Range", "Rule", "Situation",
    "all_policies", "compile_policy", "find_policy", "load_policies", "load_policy", "on", "policy_names",
]  # fmt: skip
