"""Policies of two runs: the same as of one run that has both, where the errors are the same."""

from __future__ import annotations

import pandas as pd
import pytest

import poisonsim as ps
from poisonsim.results.compare_runs import errors_differ
from poisonsim.results.metric_words import comparing_sentence
from poisonsim.results.runs import plan_run

pytestmark = pytest.mark.filterwarnings("ignore::poisonsim.errors.FewTailTrials")


@pytest.mark.parametrize(
    ("name", "overrides", "policies", "trials"),
    [
        ("seed-1t", [], ("unmap1g", "hgm2m"), (700, 700)),
        ("seed-1t", ["vm.on_loss=restart"], ("migrate1g:spares=2", "hgm4k"), (700, 3000)),
        ("cloud-1t-ddr4", [], ("migrate1g", "unmap1g"), (9000, 9000)),
        ("cloud-1t-ddr4", ["host.ce_threshold=rasdaemon"], ("soft-offline", "unmap1g"), (3000, 5000)),
        ("bad-dimm", [], ("hgm2m", "keep-mapped"), (2000, 1500)),
    ],
)
def test_two_runs_are_compared_as_one_of_both(
    name: str, overrides: list[str], policies: tuple[str, str], trials: tuple[int, int]
) -> None:
    scenario = ps.load_scenario(name, overrides=overrides)
    a, b = (ps.run(scenario, policies=[policy], trials=n, seed=5) for policy, n in zip(policies, trials, strict=True))
    both = ps.run(scenario, policies=policies, trials=min(trials), seed=5)
    found, wanted = ps.compare(a, b, policy=policies[0], to=policies[1]), both.compare(policies[0], to=policies[1])
    assert found.paired and found.n_trials == min(trials) and found.years == wanted.years
    pd.testing.assert_frame_equal(found.table(), wanted.table(), rtol=1e-9, atol=1e-9)
    for metric in ("guest_lost_bytes", "vm_lost"):
        assert found.means(metric)[1].best == pytest.approx(wanted.means(metric)[1].best, rel=1e-12)


def test_a_key_that_leaves_errors_alone_keeps_the_pairs() -> None:
    base = ps.load_scenario("seed-1t")
    a, b = (
        ps.run(base.replace(values), policies=["unmap1g-private"], trials=300, seed=5)
        for values in ({"host.hvo": True}, {"host.hvo": False, "horizon.grid": "3months", "host.cpu": "zen5"})
    )
    found = ps.compare(a, b, policy="unmap1g-private")
    assert found.paired
    lost = found.differences("errors").mean()
    assert (lost.low, lost.best, lost.high) == (0, 0, 0)


@pytest.mark.parametrize(
    ("settings", "same"),
    [({"host.spares": 4}, True), ({"host.cpu": "cascade-lake"}, False), ({"workload.access": "uniform"}, False)],
)
def test_runs_of_unlike_vms_are_each_compared_with_their_own(settings: dict[str, object], same: bool) -> None:
    scenario = ps.load_scenario("seed-1t-distinct")
    a, b = (ps.run(s, policies=["hgm4k"], trials=1000) for s in (scenario, scenario.replace(settings)))
    both = ps.compare(b, a, policy="hgm4k")
    assert both.same_baseline is same
    told = comparing_sentence(both, "slowdown", names=("b", "a"))
    assert told.endswith(", each against its own VM without errors") is not same
    assert ("slower" in told or "faster" in told) is False  # alike, or slowed more or less
    assert "each against" not in comparing_sentence(both, "table_bytes", names=("b", "a"))


def test_files_that_changed_between_the_runs_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenarios that say the same, and histories that are not."""
    from poisonsim.results import compare_runs

    a, b = (ps.run("seed-1t", policies=["hgm2m"], trials=300, seed=seed) for seed in (5, 6))
    monkeypatch.setattr(compare_runs, "errors_differ", lambda *_: "")
    found = ps.compare(a, b, policy="hgm2m")
    assert found.unpaired_because == "their histories are not the same"


def test_why_errors_differ_in_words() -> None:
    plans = [
        plan_run(ps.load_scenario(name, overrides=overrides), policies=["unmap1g"], seed=seed)
        for name, overrides, seed in (
            ("seed-1t", [], 1),
            ("seed-1t", ["host.spares=0", "vm.vcpus=3"], 1),
            ("seed-1t", ["faults.errors=9"], 2),
            ("cloud-1t-ddr4", [], 1),
        )
    ]
    assert errors_differ(plans[0], plans[1]) == ""
    assert errors_differ(plans[0], plans[2]) == (
        "seed is 1 in one and 2 in the other; faults.errors is 100 in one and 9 in the other"
    )
    assert errors_differ(plans[0], plans[3]).startswith("faults.model is count in one and field in the other; ")


def test_a_run_with_itself_is_its_own_comparison() -> None:
    res = ps.run("seed-1t", policies=["unmap1g", "hgm2m"], trials=100, seed=5)
    assert ps.compare(res, res, policy="hgm2m", to="unmap1g") == res.compare("hgm2m", to="unmap1g")
    with pytest.raises(ps.MetricError, match="policy 'hgm4k' is not in this run"):
        ps.compare(res, res, policy="hgm2m", to="hgm4k")
