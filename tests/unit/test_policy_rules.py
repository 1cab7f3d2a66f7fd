"""The words of a policy: rules as text, guards, parameters, labels."""

from __future__ import annotations

from typing import Annotated

import pytest

from poisonsim.errors import PolicyError
from poisonsim.policy import (
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
    load_policy,
    on,
)


class Patient(Policy):
    """Keeps the first few poisons, then gives the huge page up."""

    limit: Annotated[int, Range(1, 64)] = 3
    rules = [on(BACKING, when="hits_in_region >= limit").do(UNMAP), on(BACKING).do(KEEP)]


class Mover(Policy):
    """Moves while it may."""

    rules = [on(BACKING).do(MIGRATE), on(BACKING).do(UNMAP)]


class OwnSpares(Policy):
    """Moves, with spares of its own."""

    spares: Annotated[int, Range(0, 8)] = 6
    rules = [on(BACKING).do(MIGRATE), on(BACKING).do(UNMAP)]


# ------------------------------------------------------------------------------------------------- text


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (on(BACKING).do(UNMAP), "on(BACKING): UNMAP"),
        (on(">BASE").do(SPLIT), "on(>BASE): SPLIT"),
        (on("2M").do(KEEP), "on(2M): KEEP"),
        (on(BACKING, when="spares_left > 0").do(MIGRATE), "on(BACKING, when spares_left > 0): MIGRATE"),
        (on(">BASE").do(SPLIT_TO(BASE)), "on(>BASE): SPLIT_TO(BASE)"),
        (on("1G").do(SPLIT_TO("2M")), "on(1G): SPLIT_TO(2M)"),
        (on("<1G").do(SPLIT_VM_TO("4K")), "on(<1G): SPLIT_VM_TO(4K)"),
    ],
)
def test_a_rule_reads_as_it_was_written(rule: object, text: str) -> None:
    assert str(rule) == text


def test_a_guard_is_a_conjunction_of_comparisons() -> None:
    rule = on(BACKING, when="hits_in_vm>=1_000 and spares_left != n and age_days < -1").do(MIGRATE)
    found = [(c.counter, c.operator, c.operand) for c in rule.conditions()]
    assert found == [("hits_in_vm", ">=", 1000), ("spares_left", "!=", "n"), ("age_days", "<", -1)]


@pytest.mark.parametrize("guard", ["", "   "])
def test_no_guard_has_no_conditions(guard: str) -> None:
    assert on(BACKING, when=guard).do(UNMAP).conditions() == ()


@pytest.mark.parametrize(
    "guard",
    [
        "hits_in_vm",
        "hits_in_vm >",
        "> 3",
        "hits_in_vm = 3",
        "3 < hits_in_vm",
        "hits_in_vm > 3 or spares_left > 0",
        "hits_in_vm > 1.5",
        "hits_in_vm > 3 and",
        "0 < hits_in_vm < 5",
        "__import__('os')",
    ],
)
def test_anything_else_is_no_guard(guard: str) -> None:
    with pytest.raises(PolicyError, match="is not `counter operator number-or-parameter`") as caught:
        on(BACKING, when=guard).do(UNMAP).conditions()
    assert "counters: spares_left, hits_in_region" in str(caught.value)


@pytest.mark.parametrize("action", ["UNMAP", 2, None, Act.SPLIT_TO, Act.SPLIT_VM_TO, UNMAP.value])
def test_only_actions_can_be_done(action: object) -> None:
    with pytest.raises(PolicyError, match="is not an action; allowed: SPLIT, SPLIT_TO|is text; write UNMAP without"):
        on(BACKING).do(action)  # type: ignore[arg-type]


def test_counters_are_described() -> None:
    assert tuple(COUNTERS) == (
        "spares_left",
        "hits_in_region",
        "hits_in_vm",
        "regions_split",
        "leaked_regions",
        "table_pages",
        "age_days",
    )
    assert all(COUNTERS.values())


# ------------------------------------------------------------------------------------------------- names and labels


@pytest.mark.parametrize(
    ("class_name", "name"),
    [("Hgm2M", "hgm2m"), ("Hgm4KVma", "hgm4k-vma"), ("MigrateThenHgm2M", "migrate-then-hgm2m"), ("X", "x")],
)
def test_a_class_has_a_name_before_it_has_a_file(class_name: str, name: str) -> None:
    made: type[Policy] = type(class_name, (Policy,), {"rules": [on(BACKING).do(UNMAP)]})
    assert made.name == name


def test_a_label_names_what_was_given_in_name_order() -> None:
    class Two(Policy):
        zeta: int = 1
        alpha: int = 1

    assert Two().label == "two"
    assert Two(zeta=3, alpha=2).label == "two:alpha=2,zeta=3"
    assert repr(Two(zeta=3)) == "<policy two:zeta=3>"


@pytest.mark.parametrize("spec", ["hgm2m", "migrate1g:spares=8", "migrate-then-hgm2m:spares=0"])
def test_a_label_loads_the_same_policy_again(spec: str) -> None:
    policy = load_policy(spec)
    again = load_policy(policy.label)
    assert policy.label == again.label == spec
    assert (type(policy), policy.params, policy.spec) == (type(again), again.params, spec)


# ------------------------------------------------------------------------------------------------- parameters


def test_parameters_have_defaults_and_ranges() -> None:
    [limit] = Patient.parameters().values()
    assert (limit.name, limit.default, limit.allowed) == ("limit", 3, Range(1, 64))
    assert Patient().params == {} and Patient(limit=64).params == {"limit": 64}


def test_only_a_policy_that_can_migrate_takes_spares() -> None:
    assert Mover.takes_spares() and OwnSpares.takes_spares() and not Patient.takes_spares()
    assert list(Mover.parameters()) == ["spares"]
    assert Mover.parameters()["spares"].allowed == Range(0, 65536)
    assert OwnSpares.parameters()["spares"].allowed == Range(0, 8)


@pytest.mark.parametrize(
    ("make", "fragment"),
    [
        (lambda: Patient(limit=0), "policy patient: limit = 0 is not a whole number from 1 to 64"),
        (lambda: Patient(limit=65), "limit = 65 is not a whole number from 1 to 64"),
        (lambda: Patient(limit=True), "limit = True is not a whole number"),
        (
            lambda: Patient(limit=2.0),  # type: ignore[arg-type]
            "limit = 2.0 is not a whole number",
        ),
        (lambda: Patient(limti=3), "unknown parameter 'limti'; did you mean limit?; it has limit"),
        (lambda: Patient(spares=3), "unknown parameter 'spares'; it has limit"),
        (lambda: Mover(spares=65537), "spares = 65537 is not a whole number from 0 to 65536"),
        (lambda: Mover(spares=-1), "spares = -1 is not a whole number from 0 to 65536"),
        (lambda: OwnSpares(spares=9), "spares = 9 is not a whole number from 0 to 8"),
    ],
)
def test_wrong_parameters_are_refused(make: object, fragment: str) -> None:
    with pytest.raises(PolicyError) as caught:
        make()  # type: ignore[operator]
    assert fragment in str(caught.value)


def test_every_wrong_parameter_is_reported_at_once() -> None:
    with pytest.raises(PolicyError) as caught:
        Patient(limit=0, other=1)
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    ("body", "fragment"),
    [
        ({"__annotations__": {"n": int}}, "parameter n needs the annotation int and a default value"),
        ({"__annotations__": {"n": str}, "n": "x"}, "parameter n needs the annotation int"),
        ({"__annotations__": {"n": float}, "n": 1.5}, "parameter n needs the annotation int"),
        (
            {"__annotations__": {"n": Annotated[int, Range(1, 5)]}, "n": 9},
            "the default n = 9 is not a whole number from 1 to 5",
        ),
        (
            {"__annotations__": {"n": Annotated[int, Range(0, 5)]}, "n": True},
            "the default n = True is not a whole number",
        ),
        ({"__annotations__": {"n": int}, "n": -1}, "the default n = -1 is not a whole number from 0 to 2147483647"),
        ({"__annotations__": {"n": "Undefined"}, "n": 1}, "n"),
    ],
)
def test_wrong_declarations_are_refused(body: dict[str, object], fragment: str) -> None:
    with pytest.raises(PolicyError) as caught:
        type("Bad", (Policy,), body)()
    assert fragment in str(caught.value)
