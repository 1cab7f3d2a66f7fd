"""Plans end to end, where the answer is known: spares are a quantile of a Poisson number of errors."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from scipy.stats import poisson

import poisonsim as ps
from poisonsim.engine import run as engine_run
from poisonsim.errors import MetricError, PolicyError, RunFolderError, ScenarioError
from poisonsim.results.plan_candidates import candidates
from poisonsim.results.plan_flips import contenders
from poisonsim.results.plan_search import Choice, Family
from poisonsim.results.plan_words import answer, choice_words, flip_lines, not_in_cost, not_known, order_words
from poisonsim.scenario import CountFaults, RateFaults, Scenario, Vm

GIB = 1 << 30
MEAN = 2.0
SMALL = Scenario(vm=Vm(memory="256GiB"), faults=RateFaults(ue_per_tib_year=MEAN / 0.25 / 5))
OUT = "spares_exhausted <= 7%"
QUICK = {"trials": 40_000, "seed": 3}


def quantile(mean: float, beyond: float = 0.07) -> int:
    """Spares that run out with at most this probability: one is taken for each error."""
    return int(poisson.ppf(1 - beyond, mean))


@pytest.fixture(scope="module")
def small() -> ps.CapacityPlan:
    return ps.plan(SMALL, levels=[OUT], policies=["migrate1g"], **QUICK)


def test_spares_are_the_quantile_of_the_number_of_errors(small: ps.CapacityPlan) -> None:
    assert small.best is not None
    assert (small.best.policy, small.best.spares, small.best.standing) == ("migrate1g", quantile(MEAN), "met")
    assert "are equal" not in order_words(small)  # there is one row
    [value] = small.best.measured.values
    assert value is not None and value.low < poisson.sf(quantile(MEAN), MEAN) < value.high
    cost = small.best.measured.cost  # spares that are held, and poisoned pages that are leaked
    assert cost.low <= cost.best <= cost.high and cost.best / GIB == pytest.approx(quantile(MEAN), rel=0.1)
    assert small.runner_up is None and small.alike == ()
    assert answer(small).startswith(f"cheapest that meets the level: migrate1g ({quantile(MEAN)} spares)")
    assert answer(small).endswith("; no other policy is known to meet it")


def test_at_twice_the_rate_spares_are_searched_anew(small: ps.CapacityPlan) -> None:
    flips = {flip.value: flip for flip in small.flips if flip.group == "error rate"}
    assert flips["×2"].best is not None and flips["×2"].best.spares == quantile(2 * MEAN)
    assert flips["×2"].stays
    [cpu] = [flip for flip in small.flips if flip.group == "CPU"]
    assert cpu.note == "no level is of reach, walks or slowdown" and cpu.stays
    assert any(line.startswith("CPU: cannot flip it") for line in flip_lines(small.flips))


def test_no_more_choices_than_a_bisection_takes_are_measured(small: ps.CapacityPlan) -> None:
    assert small.n_choices <= 2 + 5  # both ends, and 32 halved five times


def test_tables_and_plain_data(small: ps.CapacityPlan) -> None:
    frame = small.table()
    assert list(frame.columns[:5]) == ["policy", "spec", "status", "spares", "hvo"]
    assert frame.loc[0, "spec"] == f"migrate1g:spares={quantile(MEAN)}"
    assert frame.loc[0, "mean(spares_exhausted) <= 7% standing"] == "met"
    data = json.loads(json.dumps(small.to_dict(), allow_nan=False))
    assert set(data) == {
        "schema", "scenario", "seed", "levels", "best", "alike", "runner_up", "runner_up_costs_more_bytes", "policies",
        "choices", "flips", "left_out", "n_choices", "n_runs", "cost_leaves_out_spare_hosts_of",
    }  # fmt: skip
    assert (data["schema"], data["best"]["spares"], data["runner_up"]) == ("poisonsim.plan/1", quantile(MEAN), None)
    assert repr(small).startswith("<poisonsim plan: migrate1g:spares=")


def test_the_same_on_any_number_of_threads_and_from_a_folder(
    small: ps.CapacityPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hashes: Callable[[Path], dict[str, str]]
) -> None:
    given = {"levels": [OUT], "policies": ["migrate1g"], "out": tmp_path / "a", **QUICK}
    again = ps.plan(SMALL, threads=1, **given)
    assert again.to_dict() == small.to_dict()
    before = hashes(tmp_path / "a")

    def refuse(*_: object) -> None:
        raise AssertionError("a block was simulated again")

    monkeypatch.setattr(engine_run, "run_block", refuse)
    assert ps.plan(SMALL, **given).to_dict() == small.to_dict()
    assert hashes(tmp_path / "a") == before
    with pytest.raises(RunFolderError, match="holds another plan"):
        ps.plan(SMALL, **{**given, "levels": ["vm_lost <= 1%"]})
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine").touch()
    with pytest.raises(RunFolderError, match="exists and is no plan folder"):
        ps.plan(SMALL, **{**given, "out": tmp_path / "b"})


def test_the_cheapest_of_several_with_what_hvo_decides() -> None:
    sure = Scenario(faults=CountFaults(errors=100, placement="distinct-regions"))
    levels = ["guest_lost_bytes <= 1MiB", "capacity_cost_bytes <= 3GiB"]
    found = ps.plan(sure, levels=levels, policies=["unmap1g", "hgm4k", "hgm2m"], trials=500)
    assert found.best is not None and found.runner_up is not None and found.gap is not None
    assert (found.best.text, found.runner_up.text) == (
        "hgm2m with host.hvo_with_hgm=kept", "hgm4k with host.hvo_with_hgm=kept",
    )  # fmt: skip
    assert found.gap.low == found.gap.best == found.gap.high
    assert found.gap.best == pytest.approx((4_296_888 - 16_752) * 100, rel=0.01)
    assert [row.standing for row in found.rows] == ["met", "met", "failed"]
    by_hvo = {flip.value: flip for flip in found.flips if flip.group == "HVO with HGM"}
    assert by_hvo["off-everywhere"].best is None and not by_hvo["off-everywhere"].stays
    assert by_hvo["off-where-split"].best is not None
    assert choice_words(by_hvo["off-where-split"].best) == "hgm2m (HVO off where split)"
    assert by_hvo["kept"].stays
    kernel = {flip.value: flip for flip in found.flips if flip.group == "kernel"}
    assert kernel["mainline only"].best is None and kernel["mainline or posted patches"].stays
    rates = {flip.value: flip for flip in found.flips if flip.group == "error rate"}
    assert rates["×0.1"].stays and rates["×0.5"].stays


def test_what_the_host_does_with_hvo_as_it_is_decides_too() -> None:
    sure = Scenario(faults=CountFaults(errors=100, placement="distinct-regions"))
    given = {"levels": ["capacity_cost_bytes <= 20GiB"], "policies": ["hgm2m", "keep-mapped"], "trials": 200}
    found = ps.plan(sure, **given)
    by_hvo = {flip.value: flip for flip in found.flips if flip.group == "HVO with HGM and kept poison"}
    assert list(by_hvo) == ["as the scenario has it", "off-everywhere", "off-where-split", "kept"]
    own, off = by_hvo["as the scenario has it"].best, by_hvo["off-everywhere"].best
    assert own is not None and choice_words(own) == "keep-mapped (HVO kept)"  # only HGM costs this host its HVO
    assert off is not None and off.hvo == "off-everywhere" and off.measured.cost.best > 15 * GIB
    assert ". If HGM and kept poison turn HVO off everywhere, it is " in answer(found)
    found = ps.plan(sure.replace({"host.hvo_with_keep": "off-everywhere"}), **given)
    assert {flip.group for flip in found.flips if "HVO" in flip.group} == {"HVO with HGM and kept poison"}
    text = answer(found)
    assert ". With host.hvo_with_hgm=off-everywhere and host.hvo_with_keep=off-everywhere, as the scenario has " in text
    alone = answer(ps.plan(sure, **{**given, "policies": ["hgm2m"], "hvo": ["off-everywhere", "kept"]}, flips=False))
    assert ". With host.hvo_with_hgm=off-everywhere, as the scenario has it, it is hgm2m (HVO off " in alone


def test_a_choice_that_ties_and_is_cheaper_is_told_with_what_puts_it_behind() -> None:
    sure = Scenario(faults=CountFaults(errors=1, placement="distinct-regions"))
    found = ps.plan(
        sure, levels=["errors <= 2"], policies=["hgm2m", "keep-mapped"], hvo="kept", trials=200, flips=False
    )
    first, second = found.rows
    assert (first.policy, second.policy) == ("keep-mapped", "hgm2m") and "cheaper but" not in answer(found)
    assert "costs within 1 MiB of each other are equal, and of those comes first the faster" in order_words(found)
    turned = dataclasses.replace(found, rows=(second, dataclasses.replace(first, just=True)))
    assert answer(turned).partition(", of which ")[2].startswith("keep-mapped is cheaper but meets a level only just")


def test_flips_that_the_trials_leave_open_are_told_as_such(small: ps.CapacityPlan) -> None:
    [double] = [flip for flip in small.flips if flip.value == "×2"]
    assert small.best is not None and double.best is not None
    n = double.best.spares
    assert flip_lines([double]) == [f"error rate: ×2: stays, with {n} spares"]
    fewer = dataclasses.replace(double.best, found=dataclasses.replace(double.best.found, fewer_open=True))
    assert flip_lines([dataclasses.replace(double, best=fewer)]) == [
        f"error rate: ×2: stays, with {n} spares, perhaps fewer"
    ]
    assert flip_lines([dataclasses.replace(double, best=fewer, stays=False)]) == [
        f"error rate: ×2: migrate1g ({n} spares), perhaps fewer spares"
    ]
    none = dataclasses.replace(double, best=None, stays=False, cheaper_open=small.best)
    assert flip_lines([none]) == [
        f"error rate: ×2: too close to tell: none, or migrate1g ({quantile(MEAN)} spares) if it meets the levels there"
    ]


def test_the_runner_up_is_looked_at_elsewhere_however_many_tie_with_the_best() -> None:
    sure = Scenario(faults=CountFaults(errors=1, placement="distinct-regions"))
    found = ps.plan(sure, levels=["errors <= 2"], policies=["hgm2m", "unmap1g"], hvo="kept", trials=200, flips=False)
    best, other = found.rows
    assert found.runner_up is other
    ties = [
        dataclasses.replace(
            best, policy=f"tie{i}", found=dataclasses.replace(best.found, choice=Choice(Family("x"), i))
        )
        for i in range(7)
    ]
    who = contenders([best, *ties, other], 1 << 20, found.levels)
    assert [row.policy for row in who[:2]] == ["hgm2m", "unmap1g"] and len(who) == 5


def test_nothing_meets_the_levels_and_what_comes_nearest() -> None:
    sure = Scenario(faults=CountFaults(errors=10, placement="distinct-regions"))
    levels = ["guest_lost_bytes <= 1GiB", "capacity_cost_bytes <= 1GiB"]
    found = ps.plan(sure, levels=levels, policies=["unmap1g", "hgm2m"], hvo=["off-everywhere"], trials=200, flips=False)
    assert (found.best, found.runner_up, found.gap, found.flips) == (None, None, None, ())
    assert answer(found) == (
        "none of 2 policies is known to meet all 2 levels; the nearest is hgm2m (HVO off everywhere): "
        "mean(capacity_cost_bytes) is 15.97 GiB, not <= 1GiB"
    )


def test_a_level_that_the_trials_do_not_decide_is_open() -> None:
    lost = ps.run("seed-1t", policies=["hgm2m"], trials=1000, seed=3).mean("hgm2m", "vm_lost").best
    found = ps.plan(
        "seed-1t", levels=[f"vm_lost <= {lost + 0.001:.4f}"], policies=["hgm2m"], hvo="kept", trials=1000, seed=3,
        flips=False,
    )  # fmt: skip
    assert found.best is None and found.rows[0].standing == "open" and found.rows[0].measured.trials == 1000
    [line] = not_known(found)
    assert line.startswith("hgm2m (HVO kept) is ") and "trials would decide it" in line


def test_cheaper_policies_that_fail_are_contenders_elsewhere() -> None:
    policies = ["unmap1g", "migrate1g", "hgm2m"]
    found = ps.plan(SMALL, levels=["vm_lost <= 30%"], policies=policies, hvo="off-everywhere", flips=False, **QUICK)
    assert found.best is not None and [row.policy for row in found.rows][-1] == "unmap1g"
    assert "unmap1g" in [row.policy for row in contenders(found.rows, 0.0, found.levels)]


def test_parameters_of_policies_are_searched_and_those_given_are_not() -> None:
    host = SMALL.replace({"host.spare_hosts": 2, "host.moves_poison": True})
    families = candidates(host, ["evacuate-after"], hvo=["kept"]).families
    assert [family.params for family in families] == [(), (("n", 1),), (("n", 2),), (("n", 5),), (("n", 10),)]
    assert [family.params for family in candidates(host, ["evacuate-after:n=4"], hvo=["kept"]).families] == [()]
    spares = {name: candidates(host, [name]).families[0].takes_spares for name in ("migrate1g", "migrate1g:spares=2")}
    assert spares == {"migrate1g": True, "migrate1g:spares=2": False}


def test_a_plan_says_whose_cost_leaves_out_hosts_and_counts_the_rows_of_its_table() -> None:
    host = SMALL.replace({"host.spare_hosts": 2, "host.moves_poison": True})
    found = ps.plan(host, levels=[OUT], policies=["evacuate-after:n=5", "migrate1g"], hvo="kept", flips=False, **QUICK)
    assert not_in_cost(found) == "host cost leaves out the 2 hosts kept to evacuate to (host.spare_hosts): " + (
        "evacuate-after:n=5"
    )
    assert found.to_dict()["cost_leaves_out_spare_hosts_of"] == ["evacuate-after:n=5"]
    assert len(found.choices()) == len(found.every) < found.n_choices
    assert not_in_cost(dataclasses.replace(found, evacuate=())) is None


def test_policies_that_the_host_cannot_run_are_left_out_with_the_reason() -> None:
    found = candidates(SMALL)
    assert "there is no host to go to; set host.spare_hosts" in found.left_out["evacuate-after"]
    assert found.left_out["unmap1g-private"] == "it stands for private mappings, and host.mapping = shared"
    assert "unmap1g" in found.policies and "evacuate-after" not in found.policies


@pytest.mark.parametrize(
    ("given", "kind", "fragment"),
    [
        ({"levels": []}, MetricError, "no service level is given"),
        ({"levels": ["p99(slowdown) < 1.01"], "trials": 500}, MetricError, "it takes at least 1,000: raise `trials`"),
        ({"policies": ["evacuate-after"]}, PolicyError, "there is no host to go to"),
        ({"policies": ["hgm2"]}, PolicyError, "did you mean hgm2m?"),
        ({"policies": []}, ScenarioError, "no policy is named"),
        ({"hvo": ["on"]}, ScenarioError, "allowed are values of host.hvo_with_hgm: off-everywhere"),
        ({"hvo": []}, ScenarioError, "allowed are values of host.hvo_with_hgm"),
        ({"spares": -1}, ScenarioError, "spares = -1 is not a whole number from 0 to 65536"),
        ({"most_spares": 1.5}, ScenarioError, "most_spares = 1.5 is not a whole number"),
        ({"trials": 0}, ScenarioError, "trials = 0 is not a whole number of at least 1"),
        ({"threads": 0}, ScenarioError, "threads = 0 is not a whole number of at least 1"),
        ({"threads": 10**8}, ScenarioError, "threads = 100,000,000 is more than 4,096; leave it out for one per core"),
        ({"seed": -1}, ScenarioError, "seed = -1"),
    ],
)
def test_arguments_that_cannot_be_used(given: dict[str, object], kind: type[Exception], fragment: str) -> None:
    with pytest.raises(kind) as caught:
        ps.plan(SMALL, **{"levels": [OUT], "policies": ["migrate1g"], **given})  # type: ignore[arg-type]
    assert fragment in str(caught.value)
