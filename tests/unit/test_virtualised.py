"""Accesses without a guest: `workload.virtualised = false`."""

from __future__ import annotations

import numpy as np
import pytest

import poisonsim as ps
from poisonsim.errors import ScenarioError
from poisonsim.translation import Translator, Zipf


def test_a_run_without_a_guest_walks_one_table() -> None:
    """The same states, the same id as ever where there is a guest, and walks of one dimension where there is none."""
    scenario = ps.load_scenario("seed-1t").replace({"vm.guest_page": "4K", "host.cpu": "zen4"})
    native = scenario.replace({"workload.virtualised": False})
    assert "virtualised" not in scenario.to_dict()["workload"]
    assert ps.Scenario.from_dict(native.to_dict()) == native != scenario
    nested, alone = (ps.run(each, policies=["hgm2m"], trials=50, seed=3) for each in (scenario, native))
    assert nested.plan.run_id != alone.plan.run_id
    for metric, changed in (("leaves_2m", False), ("table_bytes", False), ("walks_per_access", True)):
        same = np.array_equal(nested.samples(year=5)[metric], alone.samples(year=5)[metric])
        assert same != changed, metric
    leaves = alone.samples(year=5)[["leaves_1g", "leaves_2m", "leaves_4k"]].to_numpy(np.int64)
    states = Translator(
        cpu="zen4", memory_bytes=1 << 40, access=Zipf(0.99), guest_page="4K", accesses_per_page_visit=8.0,
        virtualised=False,
    ).evaluate(leaves)  # fmt: skip
    np.testing.assert_array_equal(alone.samples(year=5)["walks_per_access"], states.walks_per_access)


def test_whether_there_is_a_guest_is_true_or_false() -> None:
    with pytest.raises(ScenarioError, match="workload.virtualised: 'no' is not true or false"):
        ps.load_scenario("seed-1t").replace({"workload.virtualised": "no"})


def test_the_report_says_that_there_is_no_guest() -> None:
    from poisonsim.report.page import facts_of

    scenario = ps.load_scenario("seed-1t").replace({"workload.virtualised": False})
    facts = dict(facts_of(ps.run(scenario, policies=["hgm2m"], trials=5)))
    assert "accesses walk the host's table alone" in facts["VM"] and "guest pages" not in facts["VM"]
