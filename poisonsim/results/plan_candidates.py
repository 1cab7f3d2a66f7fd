"""What a plan chooses from: policies that the host can run, the values of their parameters, and what becomes of HVO."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

from poisonsim.engine.plan import Plan
from poisonsim.errors import PolicyError, ScenarioError, shown
from poisonsim.memory import HvoWithHgm
from poisonsim.policy import CompiledPolicy, Policy, load_policies, load_policy, policy_names
from poisonsim.results.plan_search import Family
from poisonsim.results.runs import plan_run, policies_of
from poisonsim.scenario import Scenario

LADDER = (1, 2, 3, 5, 10)
"""Values of a parameter that are tried beside its default."""

KEEP_CHOICES = ("kept", "off-everywhere")
"""Of these `host.hvo_with_keep` may have."""

HVO_CHOICES: tuple[HvoWithHgm, ...] = get_args(HvoWithHgm)


@dataclass(frozen=True)
class Candidates:
    """What is searched.

    Attributes:
        policies: By label.
        families: Of each policy its default parameters and the scenario's own HVO first.
        left_out: Why policies are not searched, by name.
        plan: A run of all policies, as they were given.
    """

    policies: dict[str, Policy]
    families: tuple[Family, ...]
    left_out: dict[str, str]
    plan: Plan


def candidates(
    scenario: Scenario,
    policies: Iterable[str | Policy | type[Policy]] | None = None,
    *,
    hvo: Iterable[str] | None = None,
    hold_hvo: bool = False,
    search_spares: bool = True,
    seed: int = 1,
) -> Candidates:
    """The policies and choices that a plan searches.

    Args:
        scenario: What the host is like.
        policies: Default all that are shipped or installed and that the host can run.
        hvo: What may become of HVO, values of `host.hvo_with_hgm`, and of `host.hvo_with_keep` those that it has;
            default all.
        hold_hvo: Take what the scenario has of both instead.
        search_spares: Whether the number of spares is searched, where a policy does not fix it.

    Raises:
        PolicyError: A policy that is named and cannot be used, or none that can.
        ScenarioError: `hvo` has other values.

    Examples:
        >>> from poisonsim.scenario import load_scenario
        >>> found = candidates(load_scenario("seed-1t"), ["migrate1g", "hgm2m"])
        >>> for family in found.families:
        ...     print(family.policy, family.hvo, family.takes_spares)
        migrate1g None True
        hgm2m off-everywhere False
        hgm2m off-where-split False
        hgm2m kept False
    """
    values = (scenario.host.hvo_with_hgm,) if hold_hvo else _hvo_values(scenario, hvo)
    kept = (scenario.host.hvo_with_keep,) if hold_hvo else _keep_values(scenario, values)
    left_out: dict[str, str] = {}
    if policies is None:
        loaded, left_out = _all_that_run(scenario, seed)
    else:
        loaded = list(load_policies(policies_of(policies)))
    plan = plan_run(scenario, policies=loaded, seed=seed)
    families: list[Family] = []
    for policy, compiled in zip(loaded, plan.policies, strict=True):
        key, choices = _hvo_of(compiled, scenario, values, kept)
        spares = search_spares and "spares" not in policy.params and _can_take(compiled, scenario)
        for params in _parameter_values(scenario, policy, seed):
            families += [Family(policy.label, params, each, spares, key) for each in choices]
    return Candidates({policy.label: policy for policy in loaded}, tuple(families), left_out, plan)


def status_of(policy: Policy) -> str:
    """How far a policy's mechanism is from mainline Linux, as its docstring says; empty where it says nothing.

    Examples:
        >>> status_of(load_policy("unmap1g")), status_of(load_policy("hgm2m"))
        ('mainline', 'patches, not merged')
    """
    from poisonsim.policy.loader import PolicySource

    return PolicySource(policy.name, "", type(policy)).note("Status")


def _hvo_values(scenario: Scenario, hvo: Iterable[str] | None) -> tuple[str, ...]:
    own = scenario.host.hvo_with_hgm
    chosen = list(HVO_CHOICES) if hvo is None else [hvo] if isinstance(hvo, str) else list(hvo)
    if not chosen or any(each not in HVO_CHOICES for each in chosen):
        raise ScenarioError(f"hvo = {shown(chosen)}: allowed are values of host.hvo_with_hgm: {', '.join(HVO_CHOICES)}")
    return tuple(dict.fromkeys([*(each for each in chosen if each == own), *chosen]))


def _keep_values(scenario: Scenario, values: Iterable[str]) -> tuple[str, ...]:
    """Those of the values that `host.hvo_with_keep` may have; where it is off, or has none of them, its own."""
    own = scenario.host.hvo_with_keep
    found = [each for each in (own, *values) if each in values and each in KEEP_CHOICES]
    return (own,) if own == "off-everywhere" or not found else tuple(dict.fromkeys(found))


def _hvo_of(
    compiled: CompiledPolicy, scenario: Scenario, values: tuple[str, ...], kept: tuple[str, ...]
) -> tuple[str, Sequence[str | None]]:
    """Which key says what a policy does to HVO, and the values of it to choose from; None where it does nothing."""
    host = scenario.host
    keeps_off = compiled.keeps and host.hvo_with_keep == "off-everywhere"
    if not host.hvo or not (compiled.uses_hgm or compiled.keeps):
        return "host.hvo_with_hgm", (None,)
    return ("host.hvo_with_hgm", values) if compiled.uses_hgm and not keeps_off else ("host.hvo_with_keep", kept)


def _all_that_run(scenario: Scenario, seed: int) -> tuple[list[Policy], dict[str, str]]:
    """Every policy that the host can run, and why it cannot run the others."""
    found: list[Policy] = []
    left_out: dict[str, str] = {}
    mapping = scenario.host.mapping
    for name in policy_names():
        try:
            policy = load_policy(name)
            plan_run(scenario, policies=[policy], seed=seed)
        except PolicyError as error:
            left_out[name] = error.problems[0].removeprefix(f"policy {name}: ")
            continue
        if policy.mapping not in (None, mapping):
            left_out[name] = f"it stands for {policy.mapping} mappings, and host.mapping = {mapping}"
        else:
            found.append(policy)
    if not found:
        raise PolicyError([f"policy {name}: {reason}" for name, reason in left_out.items()])
    return found, left_out


def _can_take(compiled: CompiledPolicy, scenario: Scenario) -> bool:
    """Whether spares can matter: the policy takes them, or a restart of a lost VM does."""
    return compiled.takes_spares or scenario.vm.on_loss == "restart"


def _parameter_values(scenario: Scenario, policy: Policy, seed: int) -> Sequence[tuple[tuple[str, int], ...]]:
    """Values of the parameters that are not given: the defaults, and each alone along the ladder."""
    found: list[tuple[tuple[str, int], ...]] = [()]
    for name, parameter in type(policy).parameters().items():
        if name == "spares" or name in policy.params:
            continue
        for value in LADDER:
            if value != parameter.default and parameter.allowed.low <= value <= parameter.allowed.high:
                try:
                    plan_run(scenario, policies=[type(policy)(**{**policy.params, name: value})], seed=seed)
                except PolicyError:  # it has no meaning there
                    continue
                found.append(((name, value),))
    return found
