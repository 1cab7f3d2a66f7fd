"""Sweeps: grids, what their points share, and that each point is what a run of it alone finds."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import EVERYWHERE, shipped_text

import poisonsim as ps
from poisonsim.engine.merge import Tally
from poisonsim.errors import MetricError, PolicyError, RunFolderError, RunFolderNotice, ScenarioError
from poisonsim.faults.history import draw_history
from poisonsim.results import sweep as module
from poisonsim.results.runs import default_trials, plan_run
from poisonsim.results.sweep import SAME_ERRORS_KEYS, VALUED_KEYS, plan_sweep
from poisonsim.results.sweep_findings import clearly_best, crossovers
from poisonsim.results.sweep_grid import MOST_POINTS, closed_values

HVO = {"host.hvo_with_hgm": None}
HOT_COLD = {"workload.access": "hot-cold"}

# key: what else it needs, and another value than the shipped scenarios have
OTHER: dict[str, tuple[Mapping[str, object], object]] = {
    "host.costs": ({}, "costs.toml"),
    "host.cpu": ({}, "zen4"),
    "host.free_memory": ({}, "1MiB"),
    "host.hgm": ({}, False),
    "host.hvo": ({}, False),
    "host.hvo_with_keep": ({}, "kept"),
    "host.hvo_with_hgm": ({}, "off-where-split"),
    "host.kernel_reads": ({}, 0.5),
    "host.mapping": ({}, "private"),
    "host.page_tables": ({}, 3),
    "host.pinned": ({}, True),
    "host.replenish": ({}, 0.5),
    "host.spare_rows": ({}, 9),
    "host.spares": ({}, 1),
    "host.stage2_contiguous": (
        {"vm.arch": "arm64", "host.cpu": "neoverse-n1", "host.hvo": False, "vm.contiguous": True},
        True,
    ),
    "host.table_lock": ({}, "per-mm"),
    "horizon.grid": ({}, "3months"),
    "vm.guest_page": ({}, {"1G": 0.5, "4K": 0.5}),
    "vm.on_loss": ({}, "end"),
    "vm.unmovable": ({}, 0.7),
    "vm.unrecoverable": ({}, 0.2),
    "vm.unretired": ({}, 0.3),
    "vm.vcpus": ({}, 3),
    "workload.access": ({}, "uniform"),
    "workload.alpha": ({}, 0.5),
    "workload.over": ({}, "1G"),
    "workload.hot": (HOT_COLD, 0.3),
    "workload.share": (HOT_COLD, 0.7),
    "workload.cycles_per_access": ({}, 20.0),
    "workload.accesses_per_page_visit": ({}, 8.0),
    "workload.smt_threads": ({}, 2),
    "workload.virtualised": ({}, False),
}


def pair(name: str, key: str) -> tuple[ps.Scenario, ps.Scenario]:
    """A shipped scenario, and it with another value of `key`; a file is made in the current directory."""
    needs, value = OTHER[key]
    if key == "host.costs":
        shipped = shipped_text("costs", "linux")
        assert "value = 94_000_000" in shipped
        Path(str(value)).write_text(shipped.replace("value = 94_000_000", "value = 95_000_000"), encoding="utf-8")
    scenario = ps.load_scenario(name).replace(needs)
    return scenario, scenario.replace({key: value})


def arrays_of(tally: Tally) -> list[bytes]:
    return [
        array.tobytes() for group in (tally.states, tally.counts, tally.joint, tally.joint_counts) for array in group
    ]


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> list[ps.Scenario]:
    """Scenarios that were simulated, in order."""
    found: list[ps.Scenario] = []
    execute = module.execute

    def counted(plan: Any, **options: Any) -> ps.Result:
        found.append(plan.scenario)
        return execute(plan, **options)

    monkeypatch.setattr(module, "execute", counted)
    return found


# ------------------------------------------------------------------------------------------------- what points share


def test_every_key_that_points_share_something_over_is_tried() -> None:
    assert OTHER.keys() == SAME_ERRORS_KEYS and VALUED_KEYS < SAME_ERRORS_KEYS


@pytest.mark.parametrize("key", sorted(VALUED_KEYS))
@pytest.mark.parametrize(("name", "trials"), [("seed-1t", 300), ("cloud-1t-ddr4", 3000)])
def test_a_key_that_only_values_states_changes_no_state(name: str, trials: int, key: str) -> None:
    one, other = (ps.run(scenario, policies=EVERYWHERE, trials=trials, seed=5) for scenario in pair(name, key))
    assert one.plan.scenario != other.plan.scenario
    assert arrays_of(one.tally) == arrays_of(other.tally)


@pytest.mark.parametrize("key", sorted(SAME_ERRORS_KEYS))
@pytest.mark.parametrize("name", ["seed-1t", "seed-1t-distinct", "cloud-1t-ddr4"])
def test_a_key_that_leaves_errors_alone_does(
    name: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one, other = (plan_run(scenario, policies=["unmap1g"], seed=5) for scenario in pair(name, key))
    assert one.block_trials == other.block_trials
    assert default_trials(one.scenario) == default_trials(other.scenario)
    first, second = (draw_history(plan.scenario, 5, 3, min(plan.block_trials, 1 << 30)) for plan in (one, other))
    assert len(first.page) > 0
    for field, values in vars(first).items():
        assert np.array_equal(values, getattr(second, field)), field


def test_keys_that_change_errors_are_not_called_harmless() -> None:
    changes = {
        "faults.errors",
        "faults.scale",
        "vm.memory",
        "host.patrol",
        "workload.reads_per_hour",
        "host.ce_threshold",
    }
    assert changes & SAME_ERRORS_KEYS == set()


def test_points_that_differ_in_value_only_are_simulated_once(simulated: list[ps.Scenario]) -> None:
    over = {"host.spares": [1, 2], "vm.guest_page": ["4K", "2M", "1G"], "host.cpu": ["zen4", "zen5"]}
    found = ps.sweep("seed-1t", over=over, policies=["migrate1g"], trials=100)
    assert len(found.points) == 12
    assert [scenario.host.spares for scenario in simulated] == [1, 2]


def test_a_dissolve_must_find_memory_for_what_hvo_freed() -> None:
    base = ps.load_scenario("seed-1t", overrides=["host.free_memory=0"])
    found = ps.sweep(base, over={"host.hvo": [True, False]}, policies=["unmap1g-private"], trials=100)
    leaked, dissolved = (
        point.result.distribution("unmap1g-private", "stranded_bytes").mean() for point in found.points
    )
    assert leaked.best == 0 < dissolved.best


# ------------------------------------------------------------------------------------------------- results


@pytest.mark.parametrize(
    ("name", "over"),
    [
        ("seed-1t", {"host.hvo_with_hgm": ["kept", "off-where-split"]}),
        ("cloud-1t-ddr4", {"host.cpu": ["zen5"], "faults.dimm": ["ddr4-32g-2rx8", "ddr4-32g-2rx4"]}),
    ],
)
def test_a_point_is_what_a_run_of_it_finds(name: str, over: dict[str, list[object]]) -> None:
    policies = ["hgm2m", "migrate1g:spares=2"]
    for settings, result in ps.sweep(name, over=over, policies=policies, trials=8000, seed=9).points:
        alone = ps.run(ps.load_scenario(name, overrides=settings), policies=policies, trials=8000, seed=9)
        assert result.plan.scenario.to_dict() | {"title": ""} == alone.plan.scenario.to_dict() | {"title": ""}
        pd.testing.assert_frame_equal(result.summary(), alone.summary())


def test_hvo_and_hgm_on_the_thought_experiment() -> None:
    found = ps.sweep("seed-1t", over=HVO, policies=["unmap1g", "hgm2m"], trials=2000, seed=1)
    summary = (
        found.summary().query("policy == 'hgm2m' and year == 5").set_index(["host.hvo_with_hgm", "metric"])["mean"]
    )
    hit = summary["kept", "regions_hit"]
    assert 95 < hit < 96
    assert summary["off-everywhere", "vmemmap_bytes"] == 17_142_120_448
    assert summary["off-where-split", "vmemmap_bytes"] == pytest.approx(hit * 16_773_120, rel=1e-12)
    assert summary["kept", "vmemmap_bytes"] == 0
    assert len({summary[choice, "guest_lost_bytes"] for choice in ("off-everywhere", "off-where-split", "kept")}) == 1


def test_a_summary_is_tidy() -> None:
    over = {"host.spares": [0, 2], "vm.guest_page": ["2M", {"2M": 0.5, "4K": 0.5}]}
    found = ps.sweep("seed-1t-distinct", over=over, policies=["unmap1g", "migrate1g"], trials=1000)
    frame = found.summary()
    own = found.points[0].result.summary()
    assert list(frame.columns) == ["host.spares", "vm.guest_page", *own.columns]
    assert len(frame) == 4 * len(own)
    assert list(dict.fromkeys(zip(frame["host.spares"], frame["vm.guest_page"], strict=True))) == [
        (0, "2M"), (0, '{"2M" = 0.5, "4K" = 0.5}'), (2, "2M"), (2, '{"2M" = 0.5, "4K" = 0.5}'),
    ]  # fmt: skip
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert list(data) == ["schema", "scenario", "over", "policies", "seed", "points", "summary"]
    assert data["points"][3]["settings"] == {"host.spares": 2, "vm.guest_page": {"2M": 0.5, "4K": 0.5}}
    assert len(data["summary"]) == len(frame)
    assert repr(found) == "<poisonsim sweep: 4 points over host.spares, vm.guest_page; unmap1g, migrate1g>"


def test_threads_change_nothing() -> None:
    frames = [
        ps.sweep("seed-1t", over={"faults.errors": [9, 90]}, policies=["hgm2m"], trials=5000, threads=n).summary()
        for n in (1, 2)
    ]
    pd.testing.assert_frame_equal(*frames)


def test_values_may_be_numpy_s() -> None:
    found = ps.sweep("seed-1t", over={"faults.errors": np.arange(1, 3)}, policies=["hgm2m"], trials=10)
    assert [result.plan.scenario.faults.errors for _, result in found.points] == [1, 2]  # type: ignore[union-attr]


def test_progress_counts_the_trials_that_are_simulated() -> None:
    seen: list[tuple[int, int, object]] = []

    def note(done: int, wanted: int, point: module.PlannedPoint, tally: Callable[[], Tally]) -> None:
        seen.append((done, wanted, point.settings["host.spares"]))

    over = {"host.spares": [1, 2], "vm.guest_page": ["4K", "2M"]}
    ps.sweep("seed-1t", over=over, policies=["migrate1g"], trials=100, progress=note)
    assert seen == [(100, 200, 1), (200, 200, 2)]


def test_a_policy_file_is_run_once(policy_file: Callable[..., str]) -> None:
    path = policy_file(
        "import pathlib\n\nwith pathlib.Path(__file__).with_suffix('.log').open('a') as log:\n    log.write('x')\n\n\n"
        'class Mine(Policy):\n    """Mine."""\n    rules = [on(BACKING).do(UNMAP)]\n'
    )
    ps.sweep("seed-1t", over={"host.spares": [1, 2, 3]}, policies=[path], trials=10)
    with open(path.replace(".py", ".log")) as log:
        assert log.read() == "x"


# ------------------------------------------------------------------------------------------------- what is clear


def test_the_lowest_is_named_only_where_it_is_clear(distinct: ps.Result) -> None:
    assert clearly_best(distinct, "guest_faults") != ()
    few = ps.run("cloud-1t-ddr4", policies=["unmap1g", "hgm2m"], trials=100, seed=1)
    assert clearly_best(few, "guest_lost_bytes") == ()
    close = ps.run("seed-1t", policies=["hgm2m", "hgm4k"], trials=50, seed=1)
    assert clearly_best(close, "guest_lost_bytes") == ("hgm2m", "hgm4k")  # never differ
    assert clearly_best(close, "capacity_cost_bytes") == ("hgm2m",)
    none = ps.run(ps.load_scenario("seed-1t", overrides=["faults.errors=0"]), policies=["unmap1g", "hgm2m"], trials=20)
    assert clearly_best(none, "capacity_cost_bytes") == ("unmap1g",)
    assert distinct.mean("unmap1g", "slowdown").best < 0.9999  # it has less memory left to touch, and so never is best
    assert "unmap1g" not in clearly_best(distinct, "slowdown")


def test_a_difference_that_may_be_none_is_not_clear() -> None:
    result = ps.run("seed-1t", policies=["unmap1g", "unmap1g-private", "migrate1g:spares=0"], trials=50, seed=1)
    assert set(clearly_best(result, "guest_lost_bytes")) == set(result.policies)
    few = ps.run(
        ps.load_scenario("bad-dimm"), policies=["migrate1g:spares=63", "migrate1g:spares=64"], trials=100, seed=1
    )
    difference = few.compare("migrate1g:spares=64", to="migrate1g:spares=63").differences("guest_lost_bytes").mean()
    assert difference.low <= 0 <= difference.high
    if difference.low < difference.high:
        assert clearly_best(few, "guest_lost_bytes") == ()


@pytest.mark.parametrize(
    ("name", "key", "some", "none"),
    [
        ("seed-1t", "host.mapping", ("shared", "private"), ()),
        ("seed-1t", "vm.contiguous", (True, False), ()),
        ("seed-1t", "faults.model", ("count", "rate", "field"), ()),
        ("seed-1t", "vm.backing", ("1G", "2M"), ("512M",)),
        ("seed-1t", "host.cpu", ("zen2", "sapphire-rapids"), ("neoverse-n1",)),
        ("cloud-1t-ddr4", "faults.map", ("skx-open-6ch", "skx-closed-6ch"), ()),
        ("cloud-1t-ddr4", "host.ce_threshold", ("off", "cec"), ()),
        ("seed-1t", "vm.memory", (), ("1TiB",)),
        ("seed-1t", "host.ce_threshold", (), ("cec",)),
    ],
)
def test_closed_sets_of_values(name: str, key: str, some: tuple[object, ...], none: tuple[object, ...]) -> None:
    found = closed_values(ps.load_scenario(name), key)
    assert set(some) <= set(found) and not set(none) & set(found) and (bool(found) == bool(some))


# ------------------------------------------------------------------------------------------------- overtaking, maps


def test_a_parameter_is_swept_as_runs_of_it_find() -> None:
    found = ps.sweep("seed-1t", over={"migrate1g:spares": [0, 8]}, policies=["unmap1g", "migrate1g"], trials=1000)
    assert found.policies == ("unmap1g", "migrate1g")
    assert set(found.summary()["policy"]) == set(found.policies)
    for settings, result in found.points:
        label = f"migrate1g:spares={settings['migrate1g:spares']}"
        alone = ps.run("seed-1t", policies=["unmap1g", label], trials=1000)
        assert result.plan.run_id == alone.plan.run_id
        assert result.mean(label, "spares_used") == alone.mean(label, "spares_used")


def test_overtaking_is_told_where_both_sides_are_clear() -> None:
    over = {"faults.errors": [100, 1, 30, 10], "host.spares": [0, 1]}
    found = ps.sweep("seed-1t-distinct", over=over, policies=["unmap1g", "hgm2m", "hgm4k"], trials=200)
    told = crossovers(found, "capacity_cost_bytes")
    assert [(c.policy, c.overtaken, c.key, c.low, c.high) for c in told if c.settings == {"host.spares": 0}] == [
        ("hgm2m", "unmap1g", "faults.errors", "10", "30"),
        ("hgm4k", "unmap1g", "faults.errors", "10", "30"),
    ]
    assert len(told) == 4
    assert str(told[0]) == (
        "hgm2m overtakes unmap1g on capacity_cost_bytes between faults.errors=10 and 30, at host.spares=0"
    )
    assert crossovers(found, "guest_lost_bytes") == ()  # hgm2m is better throughout
    [higher] = {c.policy for c in crossovers(found, "tlb_reach_bytes")} or {"none"}
    assert higher in ("none", *found.policies)


def test_nothing_overtakes_along_a_key_of_names_or_where_few_are_hit() -> None:
    names = ps.sweep("seed-1t-distinct", over={"host.hvo": None}, policies=["unmap1g", "hgm2m"], trials=100)
    assert crossovers(names, "capacity_cost_bytes") == ()
    few = ps.sweep("cloud-1t-ddr4", over={"host.spares": [0, 64]}, policies=["unmap1g", "migrate1g"], trials=40)
    assert crossovers(few, "capacity_cost_bytes") == ()


# ------------------------------------------------------------------------------------------------- folders


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ps.Sweep]:
    """A sweep folder over a key that is simulated, one that is valued, and a policy's parameter; and the sweep."""
    folder = tmp_path_factory.mktemp("sweep") / "out"
    over = {"faults.errors": [3, 5], "host.cpu": ["zen4", "zen5"], "migrate1g:spares": [0, 2]}
    return folder, ps.sweep("seed-1t", over=over, policies=["unmap1g", "migrate1g"], trials=1000, out=folder)


def test_a_sweep_folder_opens_to_the_same_sweep(written: tuple[Path, ps.Sweep]) -> None:
    folder, found = written
    opened = ps.open_sweep(folder)
    pd.testing.assert_frame_equal(opened.summary(), found.summary())
    assert json.loads(json.dumps(opened.to_dict())) == json.loads(json.dumps(found.to_dict()))
    assert (folder / "sweep.csv").read_text() == found.summary().to_csv(index=False)
    assert len(list((folder / "points").iterdir())) == 4


@pytest.mark.parametrize(
    ("old", "new", "fragment"),
    [
        ('"faults.errors": 3', '"faults.errors": 4', "does not match its id"),
        ('"schema": "poisonsim.sweep-folder/1"', '"schema": "poisonsim.sweep-folder/2"', "another version wrote it"),
        ('"run": "points/', '"run": "../points/', "sweep.json: is not as it was written"),
        ('"host.cpu": "zen5"', '"host.cpu": "zen55"', "is not as it was written"),
        ('"points": [', '"pints": [', "is not as it was written; run the command again"),
        ("{", "", "cannot be read as JSON"),
    ],
)
def test_an_edited_sweep_folder_is_refused(
    written: tuple[Path, ps.Sweep], tmp_path: Path, old: str, new: str, fragment: str
) -> None:
    folder = Path(shutil.copytree(written[0], tmp_path / "copy"))
    text = (folder / "sweep.json").read_text()
    assert old in text
    (folder / "sweep.json").write_text(text.replace(old, new, 1))
    with pytest.raises(RunFolderError, match=fragment):
        ps.open_sweep(folder)


@pytest.mark.filterwarnings("ignore::poisonsim.errors.FewTailTrials")
@pytest.mark.parametrize("text", ["", "[]", None])
def test_a_damaged_sweep_json_is_written_again_by_the_sweep(
    tmp_path: Path, hashes: Callable[[Path], dict[str, str]], text: str | None
) -> None:
    def again(**changes: Any) -> ps.Sweep:
        over = {"host.spares": [0, 1]}
        return ps.sweep(
            "seed-1t", **{"over": over, "policies": ["unmap1g"], "trials": 20, "out": tmp_path / "a", **changes}
        )

    again()
    before = hashes(tmp_path / "a")
    manifest = tmp_path / "a" / "sweep.json"
    manifest.unlink()
    if text is not None:
        manifest.write_text(text)
    with pytest.raises(RunFolderError, match=r"exists and is no sweep folder|sweep\.json: cannot be read as JSON"):
        again(seed=2)
    with pytest.warns(RunFolderNotice, match=r"sweep\.json was missing or damaged and is written again"):
        again()
    assert hashes(tmp_path / "a") == before


@pytest.mark.filterwarnings("ignore::poisonsim.errors.FewTailTrials")
def test_fewer_trials_leave_a_sweep_of_more_as_it_is(tmp_path: Path, hashes: Callable[[Path], dict[str, str]]) -> None:
    over = {"host.spares": [0, 1]}
    ps.sweep("seed-1t", over=over, policies=["unmap1g"], trials=40, out=tmp_path / "a")
    before = hashes(tmp_path / "a")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RunFolderNotice)
        few = ps.sweep("seed-1t", over=over, policies=["unmap1g"], trials=20, out=tmp_path / "a")
    assert [str(w.message) for w in caught if w.category is RunFolderNotice] == [
        f"{tmp_path / 'a'} holds this sweep with more trials and keeps it: its sweep.csv and page are of those"
    ]
    assert few.points[0].result.n_trials == 20 and hashes(tmp_path / "a") == before
    assert ps.open_sweep(tmp_path / "a").points[0].result.n_trials == 40
    ps.sweep("seed-1t", over=over, policies=["unmap1g"], trials=60, out=tmp_path / "a")
    assert ps.open_sweep(tmp_path / "a").points[0].result.n_trials == 60


def test_a_sweep_folder_with_a_point_missing_is_refused(written: tuple[Path, ps.Sweep], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(written[0], tmp_path / "copy"))
    shutil.rmtree(next((folder / "points").iterdir()))
    with pytest.raises(RunFolderError, match="does not exist"):
        ps.open_sweep(folder)
    with pytest.raises(RunFolderError, match="no sweep folder"):
        ps.open_sweep(tmp_path / "gone")


# ------------------------------------------------------------------------------------------------- bad inputs


@pytest.mark.parametrize(
    ("over", "fragment"),
    [
        ({}, "no key is swept"),
        (["host.spares"], "is not a table of keys"),
        ({"host.spares": "0,4"}, "'0,4' is not a list of values"),
        ({"host.spares": 4}, "4 is not a list of values"),
        ({"host.spares": []}, "over: host.spares: has no values"),
        ({"host.spares": [4, "4"]}, "'4' is given twice"),
        ({"host.spares": None}, "has no closed set of values"),
        ({"host.spare": [1]}, "over: host.spare: unknown key; did you mean host.spares?"),
        ({"host": [1]}, "is a table; sweep one of its keys, such as host.cpu"),
        ({"title": ["a"]}, "changes no result"),
        ({1: [1]}, "over: 1: unknown key"),
        ({"host.spares": range(MOST_POINTS + 1)}, f"the grid has {MOST_POINTS + 1} points"),
        ({"host.spares": [1, 1.5]}, "over: host.spares: 1.5 is not a whole number; at host.spares=1.5"),
        ({"vm.memory": ["1TiB", "100MiB"]}, "at vm.memory=100MiB"),
        (
            {"faults.map": None},
            'over: faults.map: belongs to model = "field", but model is "count"; set faults.model as well',
        ),
    ],
)
def test_a_grid_that_cannot_be(over: Any, fragment: str, simulated: list[ps.Scenario]) -> None:
    with pytest.raises(ScenarioError) as error:
        ps.sweep("seed-1t", over=over, policies=["hgm2m"], trials=10)
    assert fragment in str(error.value)
    assert simulated == []


def test_problems_are_told_once_with_a_point() -> None:
    with pytest.raises(ScenarioError) as error:
        plan_sweep("seed-1t", over={"host.spares": [0, -1], "faults.errors": [1, 2, 3]}, policies=["hgm2m"])
    assert error.value.problems == (
        "--over host.spares: -1 is not between 0 and 65,536; at host.spares=-1 faults.errors=1 and 2 other points",
    )


def test_a_policy_that_does_not_fit_a_point(policy_file: Callable[..., str]) -> None:
    body = (
        'class Mine(Policy):\n    """Mine."""\n'
        "    rules = [on(BACKING, when='age_days > 1000').do(MIGRATE), on(BACKING).do(UNMAP)]\n"
    )
    with pytest.raises(PolicyError, match=r"can never hold.*; at horizon\.years=2(\.0)?$"):
        plan_sweep("seed-1t", over={"horizon.years": [2, 5]}, policies=[policy_file(body)])


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"policies": []}, ScenarioError),
        ({"policies": ["hgm2"]}, PolicyError),
        ({"policies": 3}, ScenarioError),
        ({"seed": -1}, ScenarioError),
        ({"trials": 0}, ScenarioError),
        ({"threads": 0}, ScenarioError),
    ],
)
def test_arguments_that_cannot_be(arguments: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        ps.sweep("seed-1t", **{"over": HVO, "policies": ["hgm2m"], "trials": 10, **arguments})


def test_a_metric_that_is_not_there() -> None:
    found = ps.sweep("seed-1t", over=HVO, policies=["hgm2m"], trials=10)
    with pytest.raises(MetricError):
        clearly_best(found.points[0].result, "vmemap_bytes")
