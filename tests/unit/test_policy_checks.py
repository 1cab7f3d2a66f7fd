"""From rules to a table: what the kernel gets, and every mistake that is found before it runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import pytest

from poisonsim.engine.plan import make_plan
from poisonsim.errors import PolicyError
from poisonsim.memory import ladder
from poisonsim.policy import (
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
    UNMAP,
    UNMAP_STAGE2,
    Act,
    CompiledPolicy,
    Policy,
    Range,
    Rule,
    Situation,
    compile_policy,
    every,
    load_policy,
    on,
    on_ce,
)
from poisonsim.scenario import Host, Scenario, Vm

ARM = {"cpu": "neoverse-n1"}
X86 = Situation(ladder("x86-64"), n_regions=1024, spares=4, mapping="shared", horizon_days=1826)
END = [on(">BASE").do(SPLIT), on(BASE).do(UNMAP)]


def policy_of(*rules: Rule, **attributes: Any) -> Policy:
    made: Policy = type("Mine", (Policy,), {"__doc__": "Mine.", "rules": list(rules), **attributes})()
    return made


def problems_of(policy: Policy, situation: Situation = X86) -> tuple[str, ...]:
    with pytest.raises(PolicyError) as caught:
        compile_policy(policy, situation)
    return caught.value.problems


def compiled(spec: str | Policy, situation: Situation = X86) -> CompiledPolicy:
    return compile_policy(load_policy(spec), situation)


def actions(policy: CompiledPolicy, level: int) -> list[tuple[int, int, int]]:
    """(conditions, action, target level) of the rows of one leaf level."""
    rows = policy.rows[policy.row_start[level] : policy.row_start[level + 1]]
    return [(int(row[0]), int(row[-2]), int(row[-1])) for row in rows]


# ------------------------------------------------------------------------------------------------- tables


def test_hgm2m_is_a_step_down_at_a_time() -> None:
    table = compiled("hgm2m")
    assert [actions(table, level) for level in range(3)] == [
        [(0, Act.SPLIT_TO, 1)],
        [(0, Act.SPLIT_TO, 2)],
        [(0, Act.UNMAP, -1)],
    ]
    assert (table.uses_hgm, table.takes_spares, table.spares, table.shared) == (True, False, 0, True)


def test_hgm4k_skips_the_middle_size() -> None:
    table = compiled("hgm4k")
    assert actions(table, 0) == [(0, Act.SPLIT_TO, 2)]
    assert actions(table, 1) == []  # no 2M leaf ever arises
    assert actions(table, 2) == [(0, Act.UNMAP, -1)]


def test_rules_follow_the_ladder_of_the_architecture() -> None:
    arm = dataclasses.replace(X86, ladder=ladder("arm64", "1G", contiguous=True))
    assert arm.ladder.sizes == ("1G", "32M", "2M", "64K", "4K")
    assert [actions(compiled("hgm2m", arm), level)[0][2] for level in (0, 2, 4)] == [2, 4, -1]


def test_guards_become_counter_operator_value() -> None:
    rule = on(BACKING, when="hits_in_region >= 3 and leaked_regions < 7").do(UNMAP)
    table = compile_policy(policy_of(rule, on(BACKING).do(KEEP)), X86)
    names = list(COUNTERS)
    assert table.rows[0, :7].tolist() == [2, names.index("hits_in_region"), 3, 3, names.index("leaked_regions"), 0, 7]
    assert table.rows[1, 0] == 0


def test_a_parameter_in_a_guard_has_its_value_there() -> None:
    class Patient(Policy):
        """Waits."""

        limit: Annotated[int, Range(1, 64)] = 3
        rules = [on(BACKING, when="hits_in_region >= limit").do(UNMAP), on(BACKING).do(KEEP)]

    assert compile_policy(Patient(), X86).rows[0, 3] == 3
    assert compile_policy(Patient(limit=9), X86).rows[0, 3] == 9
    assert compile_policy(Patient(limit=9), X86).params == {"limit": 9}


def test_a_comparison_that_always_holds_is_dropped() -> None:
    table = compile_policy(policy_of(on(BACKING, when="hits_in_vm >= 1 and age_days <= 1826").do(UNMAP)), X86)
    assert actions(table, 0) == [(0, Act.UNMAP, -1)]


@pytest.mark.parametrize(("host", "given", "expected"), [(4, None, 4), (9, None, 9), (4, 8, 8), (4, 0, 0)])
def test_spares_are_the_hosts_unless_they_are_given(host: int, given: int | None, expected: int) -> None:
    spec = "migrate1g" if given is None else f"migrate1g:spares={given}"
    table = compiled(spec, dataclasses.replace(X86, spares=host))
    assert (table.spares, table.params["spares"], table.takes_spares) == (expected, expected, True)


def test_a_policy_that_declares_spares_has_its_own_default() -> None:
    class Own(Policy):
        """Own spares."""

        spares: Annotated[int, Range(0, 100)] = 17
        rules = [on(BACKING).do(MIGRATE), on(BACKING).do(UNMAP)]

    assert compile_policy(Own(), X86).spares == 17


def test_spares_that_no_rule_can_take_are_not_held() -> None:
    assert compiled("hgm2m").spares == 0
    assert compiled("unmap1g").spares == 0


@pytest.mark.parametrize(
    ("spec", "host", "shared"),
    [
        ("unmap1g", "private", True),
        ("unmap1g-private", "shared", False),
        ("migrate1g", "shared", True),
        ("migrate1g", "private", False),
    ],
)
def test_a_policy_may_override_the_hosts_mapping(spec: str, host: str, shared: bool) -> None:
    assert compiled(spec, dataclasses.replace(X86, mapping=host)).shared is shared


def test_a_mapping_that_does_not_exist_is_refused() -> None:
    assert "sharde" in problems_of(policy_of(on(BACKING).do(UNMAP), mapping="sharde"))[0]


# ------------------------------------------------------------------------------------------------- digests


def test_a_digest_is_a_pure_function_of_what_can_change_an_outcome() -> None:
    digest = compiled("migrate1g").digest
    assert len(digest) == 64
    assert compiled("migrate1g").digest == digest
    assert compiled("migrate1g:spares=4").digest == digest  # the host's value, spelled out
    assert compiled("migrate1g:spares=5").digest != digest
    assert compiled("migrate1g", dataclasses.replace(X86, spares=5)).digest != digest
    assert compiled("migrate1g", dataclasses.replace(X86, mapping="private")).digest != digest
    assert compiled("migrate1g", dataclasses.replace(X86, ladder=ladder("x86-64", "2M"))).digest != digest


def test_what_a_policy_asks_of_its_memory_is_part_of_its_digest() -> None:
    class Unmap(Policy):
        """Lose the huge page."""

        rules = [on("BACKING").do(UNMAP)]

    class UnmapKept(Unmap):
        """Lose the huge page that memory_failure() had left mapped."""

        keeps = True

    assert compile_policy(UnmapKept(), X86).digest != compile_policy(Unmap(), X86).digest


def test_what_code_may_answer_is_part_of_its_digest() -> None:
    class Whole(Policy):
        """In code."""

        @staticmethod
        def decide(c: Any, p: Any) -> int:
            return UNMAP

    class NeverSplits(Whole):
        """The same code, of which more is known."""

        splits = False

    class NeverMoves(Whole):
        """The same code, of which something else is known."""

        moves = False

    digests = {compile_policy(cls(), X86).digest for cls in (Whole, NeverSplits, NeverMoves)}
    assert len(digests) == 3
    assert [compile_policy(cls(), X86).uses_hgm for cls in (Whole, NeverSplits)] == [True, False]
    assert [compile_policy(cls(), X86).takes_spares for cls in (Whole, NeverMoves)] == [True, False]


def test_two_ways_to_write_the_same_rules_have_one_digest() -> None:
    spelled_out = policy_of(on("1G").do(SPLIT_TO("2M")), on("2M").do(SPLIT_TO("4K")), on("4K").do(UNMAP))
    assert compile_policy(spelled_out, X86).digest == compiled("hgm2m").digest


def test_every_shipped_policy_has_its_own_digest() -> None:
    specs = ["unmap1g", "unmap1g-private", "hgm4k", "hgm2m", "hgm4k-vma", "migrate1g", "migrate-then-hgm2m"]
    assert len({compiled(spec).digest for spec in specs}) == len(specs)


def test_a_table_survives_being_written_down() -> None:
    import json

    table = compiled("migrate-then-hgm2m:spares=3")
    again = CompiledPolicy.from_dict(json.loads(json.dumps(table.to_dict())))
    assert again.to_dict() == table.to_dict()
    assert again.digest == table.digest
    assert np.array_equal(again.rows, table.rows) and np.array_equal(again.row_start, table.row_start)


def test_a_table_that_was_edited_has_another_digest() -> None:
    data = compiled("hgm2m").to_dict()
    data["rows"][-1][-2] = int(KEEP)
    assert CompiledPolicy.from_dict(data).digest != data["digest"]


# ------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("rules", "fragments"),
    [
        pytest.param([], ["it has no rules", "add rules = [on(...).do(...), ...]"], id="no rules"),
        pytest.param(
            [on(">BASE").do(SPLIT)],
            ["rules leave one case open: poison in a 4K leaf", 'end with on("4K").do(UNMAP)'],
            id="open at the base page",
        ),
        pytest.param(
            [on(BACKING, when="hits_in_vm > 3").do(UNMAP)],
            ["rules leave one case open: poison in a 1G leaf"],
            id="open behind a guard",
        ),
        pytest.param(
            [on(BACKING).do(MIGRATE)],
            ["rules leave one case open: poison in a 1G leaf", "MIGRATE and RESTART may find no spare"],
            id="open when spares run out",
        ),
        pytest.param(
            [on(BACKING).do(SPLIT), on("4K").do(UNMAP)],
            ["rules leave one case open: poison in a 2M leaf"],
            id="open in the middle",
        ),
        pytest.param(
            [on(BACKING).do(UNMAP), on(BACKING).do(KEEP)],
            ["rule 2 is dead: on(BACKING): KEEP", "an earlier rule always acts first"],
            id="shadowed",
        ),
        pytest.param(
            [on(BACKING, when="hits_in_vm >= 1").do(UNMAP), on(BACKING).do(KEEP)],
            ["rule 2 is dead"],
            id="shadowed by a guard that always holds",
        ),
        pytest.param(
            [on(BACKING).do(UNMAP), on("2M").do(UNMAP)],
            ["rule 2 is dead: on(2M): UNMAP", "no leaf of that size ever arises"],
            id="a size that never arises",
        ),
        pytest.param(
            [on(">BACKING").do(SPLIT), on(BACKING).do(UNMAP)],
            ["rule 1 is dead: on(>BACKING): SPLIT"],
            id="larger than the largest",
        ),
        pytest.param(
            [on(BACKING, when="hits_in_region < 1").do(KEEP), on(BACKING).do(UNMAP)],
            ["the guard on hits_in_region can never hold", "lies between 1 and 262144"],
            id="never holds",
        ),
        pytest.param(
            [on(BACKING, when="spares_left > 4 and spares_left < 3").do(MIGRATE), on(BACKING).do(UNMAP)],
            ["the guard on spares_left can never hold (spares_left lies between 0 and 4)"],
            id="no number of spares",
        ),
        pytest.param(
            [on(BACKING, when="age_days > 1826").do(KEEP), on(BACKING).do(UNMAP)],
            ["the guard on age_days can never hold (age_days lies between 0 and 1826)"],
            id="older than the horizon",
        ),
        pytest.param(
            [on(BACKING, when="hits_in_vm < 3 and hits_in_vm > 5").do(KEEP), on(BACKING).do(UNMAP)],
            ["the guard on hits_in_vm can never hold"],
            id="contradiction",
        ),
        pytest.param(
            [on(BACKING, when="hits_in_vm > 3 and hits_in_vm < 4").do(KEEP), on(BACKING).do(UNMAP)],
            ["the guard on hits_in_vm can never hold"],
            id="contradiction between neighbours",
        ),
        pytest.param(
            [on(BACKING, when="regions_split == 3 and regions_split != 3").do(KEEP), on(BACKING).do(UNMAP)],
            ["the guard on regions_split can never hold"],
            id="equal and unequal",
        ),
        pytest.param(
            [on(BACKING, when="hits_in_regoin > 3").do(KEEP), on(BACKING).do(UNMAP)],
            ["unknown counter 'hits_in_regoin'; did you mean hits_in_region?", "counters: spares_left"],
            id="unknown counter",
        ),
        pytest.param(
            [on(">BASE", when="hits > 3").do(KEEP), on(BASE, when="hits > 3").do(KEEP), *END],
            [": on(>BASE, when hits > 3): KEEP: unknown counter 'hits' (and so in 1 more rule); counters"],
            id="the same in two rules",
        ),
        pytest.param(
            [on(BACKING, when="hits_in_vm > limit").do(KEEP), on(BACKING).do(UNMAP)],
            ["'limit' is neither a number nor a parameter", "parameters: none"],
            id="unknown parameter",
        ),
        pytest.param(
            [on(BACKING, when="hits_in_vm").do(KEEP), on(BACKING).do(UNMAP)],
            ["guard 'hits_in_vm' is not `counter operator number-or-parameter`"],
            id="no comparison",
        ),
        pytest.param(
            [
                on(
                    BACKING,
                    when="hits_in_vm > 1 and hits_in_vm > 2 and hits_in_vm > 3 and hits_in_vm > 4 and hits_in_vm > 5",
                ).do(KEEP),
                on(BACKING).do(UNMAP),
            ],
            ["5 comparisons in one guard", "at most 4"],
            id="too many comparisons",
        ),
        pytest.param(
            [on(">BASE").do(SPLIT), on(BASE).do(SPLIT)],
            ["on(BASE): SPLIT: SPLIT at the base page 4K", "use UNMAP or KEEP"],
            id="SPLIT at the base page",
        ),
        pytest.param(
            [on("2M").do(SPLIT_TO("1G")), *END],
            ["on(2M): SPLIT_TO(1G): a 2M leaf cannot be split to 1G", "name a smaller size"],
            id="SPLIT_TO a larger size",
        ),
        pytest.param(
            [on("2M").do(SPLIT_TO("2M")), *END],
            ["a 2M leaf cannot be split to 2M"],
            id="SPLIT_TO the same size",
        ),
        pytest.param(
            [on(BASE).do(SPLIT_VM_TO(BACKING)), *END],
            ["a 4K leaf cannot be split to 1G"],
            id="SPLIT_VM_TO a larger size",
        ),
        pytest.param(
            [on("3M").do(UNMAP), on(BACKING).do(UNMAP)],
            ["'3M' is no leaf size of x86-64", "allowed: BACKING, BASE, 1G, 2M, 4K, and > or < before one of them"],
            id="no such size",
        ),
        pytest.param(
            [on("BAKING").do(UNMAP), on(BACKING).do(UNMAP)],
            ["'BAKING' is no leaf size of x86-64; did you mean BACKING?"],
            id="misspelt size",
        ),
        pytest.param([on(">").do(UNMAP), on(BACKING).do(UNMAP)], ["'' is no leaf size"], id="half a size"),
        pytest.param(
            [on(BACKING).do(SPLIT_TO("64K")), on("<1G").do(UNMAP)],
            ["'64K' is no leaf size of x86-64"],
            id="SPLIT_TO no such size",
        ),
    ],
)
def test_mistakes_are_found_before_anything_runs(rules: Sequence[Rule], fragments: list[str]) -> None:
    text = "\n".join(problems_of(policy_of(*rules)))
    assert [fragment for fragment in fragments if fragment not in text] == []
    assert all(line.startswith("policy mine: ") for line in text.splitlines())


def test_a_number_that_lacks_its_annotation_is_shown_one() -> None:
    class Mine(Policy):
        limit = 3
        rules = [on(BACKING, when="hits_in_vm > limit").do(KEEP), on(BACKING).do(UNMAP)]

    [problem] = problems_of(Mine())
    assert problem.endswith(
        "parameters: none; limit = 3 becomes one with its range: limit: Annotated[int, Range(1, 64)] = 3"
    )


def test_every_mistake_is_reported_at_once() -> None:
    found = problems_of(
        policy_of(
            on("3M").do(UNMAP),
            on(BACKING, when="hitz > 1").do(KEEP),
            on(BASE).do(SPLIT),
            on(BACKING).do(UNMAP),
        )
    )
    assert len(found) == 3


@pytest.mark.parametrize("spares", [0, 1])
def test_a_guard_on_spares_is_no_mistake_where_the_host_has_none(spares: int) -> None:
    rules = [on(BACKING, when="spares_left > 0").do(MIGRATE), on(BACKING).do(UNMAP)]
    assert compile_policy(policy_of(*rules), dataclasses.replace(X86, spares=spares)).spares == spares


def test_a_ladder_of_two_sizes_needs_no_middle() -> None:
    small = dataclasses.replace(X86, ladder=ladder("x86-64", "2M"))
    assert [actions(compiled("hgm2m", small), level) for level in (0, 1)] == [
        [(0, Act.SPLIT_TO, 1)],
        [(0, Act.UNMAP, -1)],
    ]


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param([on(BACKING)], id="do(...) forgotten"),
        pytest.param(["UNMAP"], id="text"),
        pytest.param(on(BACKING).do(UNMAP), id="one rule, no list"),
        pytest.param(None, id="None"),
    ],
)
def test_rules_that_are_no_rules_are_refused_in_words(rules: object) -> None:
    class Mine(Policy):
        """Mine."""

    Mine.rules = rules  # type: ignore[assignment]
    assert "rules" in problems_of(Mine())[0]


def test_a_guard_that_is_no_text_is_refused_in_words() -> None:
    assert "3" in problems_of(policy_of(on(BACKING, when=3).do(UNMAP), on(BACKING).do(KEEP)))[0]  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------- decide


def test_decide_is_kept_and_needs_no_rules() -> None:
    class Coded(Policy):
        """In code."""

        @staticmethod
        def decide(c: Any, p: Any) -> int:
            return UNMAP

    table = compile_policy(Coded(), X86)
    assert table.decide is not None
    assert table.text == ("decide(c, p)",)
    assert table.takes_spares and table.uses_hgm  # it might
    assert table.to_dict()["has_decide"] is True


@pytest.mark.parametrize(
    ("attributes", "fragment"),
    [
        ({"decide": staticmethod(lambda c: UNMAP)}, "decide must be a @staticmethod with the arguments (c, p)"),
        ({"decide": staticmethod(lambda p, c: UNMAP)}, "decide must be a @staticmethod with the arguments (c, p)"),
        ({"decide": lambda self, c, p: UNMAP}, "decide must be a @staticmethod with the arguments (c, p)"),
        ({"decide": 3}, "decide must be a @staticmethod with the arguments (c, p)"),
        (
            {"decide": staticmethod(lambda c, p: UNMAP), "rules": [on(BACKING).do(UNMAP)]},
            "has both rules and decide; keep one of them",
        ),
    ],
)
def test_a_wrong_decide_is_refused(attributes: dict[str, Any], fragment: str) -> None:
    policy = type("Mine", (Policy,), {"__doc__": "Mine.", **attributes})()
    assert fragment in problems_of(policy)[0]


# ------------------------------------------------------------------------------------------------- contiguous entries


@pytest.mark.parametrize(
    ("vm", "host", "words"),
    [
        ({}, {}, "which x86-64 does not have; take hgm2m"),
        ({"arch": "arm64"}, ARM, "which no leaf below the backing has here (1G, 2M, 4K); set vm.contiguous = true"),
        (
            {"arch": "arm64-16k"},
            ARM,
            "which no leaf below the backing has here (1G, 32M, 16K); set vm.contiguous = true",
        ),
        ({"arch": "arm64", "backing": "64K", "contiguous": True, "guest_page": "4K"}, ARM, "has here (64K, 4K)"),
    ],
    ids=["x86-64", "not asked for", "only the backing", "too small a backing"],
)
def test_a_policy_that_needs_contiguous_entries_is_refused_without(vm: Any, host: Any, words: str) -> None:
    scenario = Scenario(vm=Vm(**vm), host=Host(**host))
    with pytest.raises(PolicyError) as caught:
        make_plan(scenario, ["hgm2m", "hgm-contig"], seed=1)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith("policy hgm-contig: it maps with contiguous entries, ")
    assert words in caught.value.problems[0]
    assert make_plan(scenario, ["hgm-contig"], seed=1, any_host=True).policies  # to show and check it


def test_a_policy_that_needs_contiguous_entries_is_taken_with_them() -> None:
    arm = Scenario(vm=Vm(arch="arm64", contiguous=True), host=Host(**ARM))
    with_them, without = make_plan(arm, ["hgm-contig", "hgm2m"], seed=1).policies
    assert [actions(with_them, level)[0][2] for level in range(5)] == [1, 2, 3, 4, -1]
    assert [actions(without, level) for level in (1, 3)] == [[], []], "no leaf of contiguous entries ever arises"
    assert "needs_contiguous" not in load_policy("hgm-contig").parameters()


# ------------------------------------------------------------------------------------------------- corrected errors


def test_a_rule_of_corrected_errors_needs_a_host_that_counts_them() -> None:
    acting = policy_of(on_ce(BACKING).do(MIGRATE), *END)
    assert compile_policy(acting, X86).acts_on_ces
    assert problems_of(acting, dataclasses.replace(X86, counts_ces=False)) == (
        "policy mine: it acts on corrected errors, which the host of this scenario does not count; "
        "set host.ce_threshold, for example --set host.ce_threshold=cec (faults.model = field only)",
    )
    assert not compile_policy(policy_of(*END), dataclasses.replace(X86, counts_ces=False)).acts_on_ces


@pytest.mark.parametrize("action", [UNMAP, KEEP, SPLIT, SPLIT_TO("4K"), SPLIT_VM_TO("2M")])
def test_corrected_errors_know_two_actions(action: Any) -> None:
    [problem] = problems_of(policy_of(on_ce(BACKING).do(action), *END))
    assert "on_ce knows no " in problem and problem.endswith("allowed: MIGRATE, EVACUATE")


def test_a_rule_of_corrected_errors_behind_one_without_a_guard_is_dead() -> None:
    [problem] = problems_of(
        policy_of(on_ce(BACKING).do(MIGRATE), on_ce(BACKING, when="age_days > 3").do(MIGRATE), *END)
    )
    assert "rule 2 is dead: on_ce(BACKING, when age_days > 3): MIGRATE" in problem
    guarded = policy_of(on_ce(BACKING, when="spares_left > 1").do(MIGRATE), on_ce(BACKING).do(MIGRATE), *END)
    assert compile_policy(guarded, X86).acts_on_ces


# ------------------------------------------------------------------------------------------- what the host must have


@pytest.mark.parametrize(
    ("rules", "lacks", "words"),
    [
        (
            [on(BACKING).do(EVACUATE), on(BACKING).do(UNMAP)],
            {"spare_hosts": 0},
            "there is no host to go to; set host.spare_hosts",
        ),
        (
            [on(BACKING).do(EVACUATE), on(BACKING).do(UNMAP)],
            {"moves_poison": False},
            "a VM that has poison, which QEMU refuses; evacuate on_ce",
        ),
        (
            [on(BACKING).do(MIGRATE), on(BACKING).do(UNMAP)],
            {"pinned": True},
            "that of this scenario's VM is pinned for devices; choose",
        ),
        (
            [every(days=9).do(EVACUATE), on(BACKING).do(KEEP)],
            {"pinned": True},
            "that of this scenario's VM is pinned for devices; choose",
        ),
        ([every(days=9).do(EVACUATE), on(BACKING).do(KEEP)], {"spare_hosts": 0}, "there is no host to go to"),
        ([every(days=9).do(EVACUATE), on(BACKING).do(KEEP)], {"moves_poison": False}, "which QEMU refuses"),
        (END, {"hgm": False}, "and the host has no HGM; choose a policy that does not split, or set host.hgm=true"),
    ],
)
def test_what_the_host_lacks_is_said_before_anything_runs(rules: list[Rule], lacks: dict[str, Any], words: str) -> None:
    assert compile_policy(policy_of(*rules), X86)
    with pytest.raises(PolicyError, match=words):
        compile_policy(policy_of(*rules), dataclasses.replace(X86, **lacks))


def test_a_clean_vm_may_leave_on_corrected_errors_whatever_the_vmm_does_with_poison() -> None:
    policy = policy_of(on_ce(BACKING).do(EVACUATE), on(BACKING).do(UNMAP))
    assert compile_policy(policy, dataclasses.replace(X86, moves_poison=False)).acts_on_ces


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (
            on(BACKING).do(COLLAPSE),
            "on knows no COLLAPSE, which is for every; allowed: SPLIT, SPLIT_TO, SPLIT_VM_TO, UNMAP, UNMAP_STAGE2, "
            "KEEP, MIGRATE, OFFLINE, EVACUATE, RESTART",
        ),
        (on_ce(BACKING).do(RESTART), "on_ce knows no RESTART, which is for on and every; allowed: MIGRATE, EVACUATE"),
        (
            every(days=1).do(UNMAP),
            "every knows no UNMAP, which is for on; allowed: COLLAPSE, EVACUATE, RESTART, REBOOT",
        ),
        (on(BACKING).do(REBOOT), "on knows no REBOOT, which is for every; allowed: "),
        (on_ce(BACKING).do(OFFLINE), "on_ce knows no OFFLINE, which is for on; allowed: MIGRATE, EVACUATE"),
        (every(days=0).do(COLLAPSE), "days is not a whole number of 1 or more, nor a parameter; write every"),
        (every(days="often").do(COLLAPSE), "days is not a whole number of 1 or more, nor a parameter"),
        (every(days=1.5).do(COLLAPSE), "days is not a whole number of 1 or more, nor a parameter"),  # type: ignore[arg-type]
    ],
)
def test_a_trigger_knows_its_own_actions(rule: Rule, words: str) -> None:
    with pytest.raises(PolicyError, match=words):
        compile_policy(policy_of(rule, *END), X86)


@pytest.mark.parametrize("other", [
    on(">BASE").do(SPLIT), on(BACKING).do(SPLIT_TO(BASE)), on(BACKING).do(SPLIT_VM_TO("2M")), on(BASE).do(UNMAP),
    on(BACKING).do(KEEP), on(BACKING).do(OFFLINE), every(days=1).do(COLLAPSE),
])  # fmt: skip
def test_a_hole_in_stage_2_leaves_the_process_table_whole(other: Rule) -> None:
    cut = [on(">BASE").do(UNMAP_STAGE2), on(BASE).do(UNMAP_STAGE2)]
    assert (
        f"policy mine: {other}: not together with UNMAP_STAGE2, which leaves the process table whole; take one of "
        "them; allowed beside it: UNMAP on BACKING, MIGRATE, EVACUATE, RESTART, REBOOT"
        in problems_of(policy_of(other, *cut))
    )
    beside = policy_of(on(BACKING, when="hits_in_vm > 9").do(UNMAP), on(BACKING).do(MIGRATE), *cut)
    table = compile_policy(beside, X86)
    assert table.stage2_only and not table.uses_hgm
    assert not compiled("hgm2m").stage2_only


def test_only_whole_regions_are_taken_offline() -> None:
    [problem] = problems_of(policy_of(on("2M").do(OFFLINE), *END))
    assert (
        problem
        == "policy mine: on(2M): OFFLINE: OFFLINE of a 2M leaf; the guest vacates whole regions; write on(BACKING)"
    )


def test_offline_may_find_memory_that_cannot_move() -> None:
    [problem] = problems_of(policy_of(on(BACKING).do(OFFLINE)))
    assert "no rule that always acts" in problem and "OFFLINE memory that the guest cannot move" in problem


def test_days_may_be_a_parameter() -> None:
    class Nightly(Policy):
        """Collapses now and then."""

        days: Annotated[int, Range(1, 365)] = 7
        rules = [*END, every(days="days").do(COLLAPSE)]

    table = compile_policy(Nightly(days=30), X86)
    assert table.rows[-1, -2:].tolist() == [COLLAPSE, 30] and table.row_start[-2:].tolist() == [3, 4]
    assert str(Nightly.rules[-1]) == "every(days=days): COLLAPSE"


def test_a_parameter_that_stands_in_no_rule_is_noted() -> None:
    class Idle(Policy):
        """Names a limit, and forgets it."""

        limit: Annotated[int, Range(1, 64)] = 2
        spares: Annotated[int, Range(0, 100)] = 17
        days: Annotated[int, Range(1, 365)] = 7
        rules = [*END, every(days="days").do(COLLAPSE)]

    assert compile_policy(Idle(), X86).notes == ("parameter limit stands in no rule, so its value changes nothing",)


def test_restarting_takes_spares_and_evacuating_does_not() -> None:
    assert compile_policy(policy_of(on(BACKING).do(RESTART), on(BACKING).do(UNMAP)), X86).takes_spares
    assert not compile_policy(policy_of(on(BACKING).do(EVACUATE), on(BACKING).do(UNMAP)), X86).takes_spares
    with pytest.raises(PolicyError, match="leave one case open"):
        compile_policy(policy_of(on(BACKING).do(RESTART)), X86)
