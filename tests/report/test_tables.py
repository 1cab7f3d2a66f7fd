"""Tables and lives of the report: numbers against the result that they are from."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import poisonsim as ps
from poisonsim.faults.tables import MODES
from poisonsim.report.lives import Cells, kinds_of, lives
from poisonsim.report.tables import fleet_tables, how_sure, of_vms_hit, paired_tables
from poisonsim.report.verdict import glance, rows_of
from poisonsim.results import by_mode
from poisonsim.results.by_mode import loss_by_mode
from poisonsim.results.hits import rarely_hit, series_when_hit, share_hit
from poisonsim.results.life import life_of
from poisonsim.results.numbers import as_probability, in_bytes
from poisonsim.results.result import Result
from poisonsim.results.typical import typical_trials
from poisonsim.results.words import spread_sentence


@pytest.fixture(scope="module")
def field() -> Result:
    """Few VMs hit, by clustered faults."""
    return ps.run("cloud-1t-ddr4", policies=["unmap1g", "hgm2m", "migrate1g"], trials=30_000, seed=3)


def test_bands_over_vms_hit_are_those_of_when_hit(field: Result) -> None:
    assert rarely_hit(field) and 0.05 < share_hit(field).best < 0.07
    frame = series_when_hit(field, "guest_lost_bytes")
    last = frame[frame["year"] == 5].set_index("policy")
    for policy in field.policies:
        found = field.when_hit(policy, "guest_lost_bytes")
        assert last.loc[policy, "mean"] == found.mean().best
        assert last.loc[policy, "p50"] == found.quantile(0.5).best  # type: ignore[union-attr]
    assert frame[frame["year"] == 0][["mean", "p50"]].isna().all(axis=None)
    everywhere = field.series("guest_lost_bytes")
    assert everywhere["p50"].max() == 0 < last.loc["unmap1g", "p50"]


def test_vms_hit_are_shown_by_median_and_mean_since_these_are_far_apart(field: Result) -> None:
    table = of_vms_hit(field)
    assert table is not None and table.head[1] == "Guest memory lost"
    median, _, mean = dict(table.rows)[2][1].partition("; mean ")  # under migrate1g
    assert median.endswith("KiB") and "GiB" in mean
    found = field.when_hit("migrate1g", "guest_lost_bytes")
    mean = mean.partition(", p99")[0]
    assert str(in_bytes(found.mean())) == mean
    sentence = spread_sentence(field, "migrate1g")
    assert f"the median loses {median} and the mean {mean}, since " in sentence
    assert str(as_probability(found.share(found.values > found.mean().best))) in sentence


def test_what_is_led_by_few_is_marked(field: Result, uniform: Result) -> None:
    for result, marked in ((field, True), (uniform, False)):
        summary = result.summary()
        rows = rows_of(result, summary[summary["year"] == result.years[-1]].set_index(["policy", "metric"]))
        assert any(row.led_by_few for row in rows) == marked
        assert any("Where a VM is hit" in remark for row in rows for remark in row.remarks) == marked


def test_nothing_is_said_of_vms_hit_where_all_are(uniform: Result) -> None:
    assert of_vms_hit(uniform) is None and not rarely_hit(uniform)


def test_loss_by_mode_adds_up_and_blames_small_faults_less_where_the_mapping_is_fine(field: Result) -> None:
    shares = loss_by_mode(field)
    assert list(shares) == list(field.policies)
    for own in shares.values():
        assert sum(share.best for share in own.values()) == pytest.approx(1)
        assert all(0 <= share.low < share.best < share.high <= 1 for share in own.values())
    assert shares["hgm2m"]["bit"].best < shares["unmap1g"]["bit"].best


def test_intervals_of_shares_are_those_of_a_ratio_of_sums_over_trials() -> None:
    rng = np.random.default_rng(5)
    lost = np.zeros((300, len(MODES) + 1))
    lost[:, :2] = rng.integers(0, 9, (300, 2)) * (rng.random((300, 2)) < 0.2)
    run = SimpleNamespace(n_trials=5000, weights=np.ones(1), plan=SimpleNamespace(block_trials=4096))
    found = by_mode._shares(run, lost, np.zeros(300, np.int64), True)  # type: ignore[arg-type]
    drawn = [rng.choice(300, 300) for _ in range(4000)]
    shares = [lost[rows, 0].sum() / lost[rows, :2].sum() for rows in drawn]
    low, high = np.quantile(shares, (0.025, 0.975))
    share = found[MODES[0]]
    assert list(found) == list(MODES[:2]) and share.best == pytest.approx(lost[:, 0].sum() / lost.sum())
    assert (share.low, share.high) == pytest.approx((low, high), abs=0.2 * (high - low))


def test_loss_by_mode_is_that_of_single_lives() -> None:
    few = ps.run("cloud-1t-ddr4", policies=["migrate1g"], trials=600, seed=5)
    frame = few.samples()
    lost: dict[str, float] = {}
    for row in frame[frame["errors"] > 0].itertuples():
        for step in life_of(few, int(row.trial)).steps:
            more = max(step.changes.get("guest_lost_bytes", 0.0), 0.0)
            lost[step.mode] = lost.get(step.mode, 0.0) + row.weight * more
    whole = sum(lost.values())
    assert whole > 0
    expected = {mode: share / whole for mode, share in lost.items() if share > 0}
    assert {mode: share.best for mode, share in loss_by_mode(few)["migrate1g"].items()} == pytest.approx(expected)


def test_timed_policies_have_their_loss_by_mode_too() -> None:
    shares = loss_by_mode(ps.run("cloud-1t-ddr4", policies=["collapse-nightly"], trials=5_000, seed=3))
    assert sum(share.best for share in shares["collapse-nightly"].values()) == pytest.approx(1)


def test_fleet_counts_are_those_of_the_fleet(field: Result) -> None:
    tables = {table.title: table for table in fleet_tables(field, 10_000)}
    own = field.fleet(10_000).exceeding("vm_lost >= 1").query("policy == 'unmap1g'")
    cells = dict(tables["VMs lost as a whole"].rows)[0]
    assert len(cells) == 5
    for cell, expected, p95 in zip(cells, own["expected_vms"], own["p95_vms"], strict=True):
        assert cell == f"{expected:,.0f}; p95\N{NO-BREAK SPACE}{p95:,}"


def test_paired_tables_mirror_each_other(uniform: Result) -> None:
    few = ps.run("seed-1t", policies=["unmap1g", "hgm2m"], trials=500, seed=2)
    there, back = (dict(table.rows) for table in paired_tables(few))
    assert "less; less in 100 %" in there[1][1] and "more; more in 100 %" in back[0][1]
    assert there[1][1].split(" less")[0] == back[0][1].split(" more")[0]


def test_trials_that_would_do_do(uniform: Result) -> None:
    few = ps.run("cloud-1t-ddr4", policies=["unmap1g"], trials=20_000, seed=3)
    row = next(row for row in how_sure(few) if row.what == "mean of guest memory lost")
    assert not row.enough
    wanted = int(row.verdict.split(" trials")[0].replace(",", ""))
    assert wanted > 20_000
    more = ps.run("cloud-1t-ddr4", policies=["unmap1g"], trials=4 * wanted, seed=3)
    assert next(row for row in how_sure(more) if row.what == "mean of guest memory lost").enough


def test_typical_trials_stand_where_they_should(uniform: Result) -> None:
    frame = uniform.samples()
    for typical in typical_trials(uniform):
        own = frame[frame["policy"] == typical.policy]
        assert float(own[own["trial"] == typical.trial][typical.metric].iloc[0]) == typical.value
        assert (own[typical.metric] <= typical.value).mean() >= typical.quantile
        assert (own[typical.metric] < typical.value).mean() <= typical.quantile


def test_cells_of_every_policy_agree_with_the_leaves_of_its_states(uniform: Result) -> None:
    sizes = uniform.plan.ladder.sizes
    kinds = kinds_of(sizes)
    whole = {kinds.index(name) for name in (sizes[0], f"{sizes[0]}, moved")}
    for policy in uniform.policies:
        life = life_of(uniform, 5, policy)
        cells = Cells(uniform.plan.scenario.vm.n_regions, sizes)
        n_whole = cells.n_regions
        for step in life.steps:
            cells.take(step)
            n_whole += int(step.changes.get("leaves_1g", 0))
            shown = np.array(cells.shown())
            if kinds.index("not known") in shown:
                break
            kept = shown == kinds.index("poison kept")
            assert np.isin(shown, list(whole)).sum() <= n_whole <= np.isin(shown, list(whole)).sum() + kept.sum(), (
                policy
            )


def test_steps_make_the_grid_that_stands_at_their_end(field: Result) -> None:
    for view in lives(field):
        cells = [0] * len(view.end)
        for step in view.steps:
            for change in step.cells.split():
                cell, kind = change.split(":")
                if cell == "*":
                    cells = [int(kind)] * len(cells)
                else:
                    cells[int(cell)] = int(kind)
        assert tuple(cells) == view.end
        assert view.command.startswith("poisonsim life . --trial ")


def test_many_huge_pages_share_cells() -> None:
    small = ps.load_scenario("seed-1t", overrides=["vm.backing=2M", "faults.errors=3"])
    (view, _) = lives(ps.run(small, policies=["unmap1g"], trials=20, seed=1))
    assert len(view.end) == 1024
    assert sum(kind > 0 for kind in view.end) in (2, 3)


def test_the_first_line_names_the_best_ties_as_ties_and_what_costs_most(uniform: Result) -> None:
    summary = uniform.summary()
    line = glance(uniform, summary[summary["year"] == uniform.years[-1]].set_index(["policy", "metric"]))
    lost, guest, host, cost = line.removesuffix(".").split(". ")[-4:]
    assert lost.startswith("Fewest VMs lost: ") and guest.startswith("Least guest memory lost: ")
    assert host.startswith("Least host memory: ") and " costs the host, 15.96 of " in cost
    for policy in ("hgm4k", "hgm2m"):
        assert policy in guest
    assert "(not told apart), 400 KiB" in guest
