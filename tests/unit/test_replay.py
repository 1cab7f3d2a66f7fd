"""Replays of logs against closed forms, against the simulation that a log was written from, and of bad input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import poisonsim as ps
from poisonsim.errors import LogError, MetricError, PoisonsimError, PolicyError, ScenarioError
from poisonsim.faults.history import draw_history
from poisonsim.logs import EventBatch, Kind, Names, Severity, write
from poisonsim.replaying.histories import US_PER_YEAR
from poisonsim.results.runs import plan_run

GIB = 1 << 30
HEADER = "time,host,kind,address,severity,count,span_s"


def log_of(path: Path, *rows: str) -> Path:
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


def ue(day: int, address: int | str, host: str = "a", kind: str = "UE", severity: str = "", count: int = 1) -> str:
    where = address if isinstance(address, str) else hex(address)
    return f"2025-01-{day:02}T00:00:00Z,{host},{kind},{where},{severity},{count},0"


def fleet(found: ps.Replay, metric: str, policy: str = "") -> Any:
    rows = found.fleet().set_index(["policy", "metric"])
    return rows.loc[(policy or found.policies[-1], metric)]


def summary(found: ps.Replay, host: str, metric: str, column: str = "mean") -> float:
    rows = found.summary().query(f"host == '{host}' and metric == '{metric}' and policy == '{found.policies[-1]}'")
    return float(rows.iloc[0][column])


# --------------------------------------------------------------------------------------------- closed forms, simulation


def written(pages: Any, years: Any, path: Path, ar: Sequence[int] | None = None) -> Path:
    time = np.datetime64("2020-01-01", "us") + (np.asarray(years) * US_PER_YEAR).astype("m8[us]")
    severity = Severity.UNKNOWN if ar is None else ar
    events = EventBatch.of(
        kind=np.full(len(pages), Kind.UE), address=np.asarray(pages) * 4096, time=time, severity=severity, host=0,
        hosts=Names(["a"]),
    )  # fmt: skip
    write(events, path, format="csv")
    return path


def test_a_hundred_errors_in_a_hundred_regions_cost_exactly_what_they_must(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    pages = rng.permutation(1024)[:100] * (1 << 18) + rng.integers(1 << 18, size=100)
    log = written(pages, np.sort(rng.random(100)) * 5, tmp_path / "a.csv")
    found = ps.replay(log, policies=["unmap1g", "hgm4k", "hgm2m"], imputations=2)
    for policy, lost, tables in (
        ("unmap1g", 100 * GIB, 0), ("hgm4k", 100 * 4096, 100 * 4_296_888), ("hgm2m", 100 * 4096, 100 * 16_752)
    ):  # fmt: skip
        for metric, value in (("guest_lost_bytes", lost), ("table_bytes", tables), ("regions_hit", 100)):
            row = fleet(found, metric, policy)
            assert (row["mean"], row["low"], row["high"]) == (value, value, value)


@pytest.mark.parametrize("scenario", ["seed-1t", "seed-1t-distinct"])
def test_a_simulated_history_that_is_written_and_replayed_ends_as_it_did(scenario: str, tmp_path: Path) -> None:
    policies = ["unmap1g", "hgm4k", "hgm2m"]
    plan = plan_run(ps.load_scenario(scenario), policies=policies, seed=5)
    history = draw_history(plan.scenario, 5, 0, plan.block_trials)
    of = slice(history.start[2], history.start[3])
    log = written(history.page[of], history.years[of], tmp_path / "a.csv", history.ar[of].tolist())
    found = ps.replay(log, policies=policies, years=5, imputations=1)
    simulated = ps.run(scenario, policies=policies, trials=3, seed=5).samples().query("trial == 2")
    chance = {"vm_lost", "guest_faults"}  # whether the guest survives is drawn again
    for policy in policies:
        expected = simulated[simulated["policy"] == policy].iloc[0]
        for metric in set(expected.index) - {"policy", "trial", "weight"} - chance:
            assert fleet(found, metric, policy)["mean"] == pytest.approx(expected[metric], rel=1e-12, abs=1e-12), metric


# -------------------------------------------------------------------------------------------------------------- placing


@pytest.mark.long
def test_each_page_counts_once_and_only_what_backs_the_vm(tmp_path: Path) -> None:
    log = log_of(
        tmp_path / "a.csv", ue(1, 4 * GIB), ue(2, 4 * GIB + 4095), ue(3, 4 * GIB, kind="poison"),
        ue(4, 4 * GIB + 4096, count=3), ue(5, 4 * GIB - 1), ue(6, 6 * GIB), ue(7, 40 * GIB),
    )  # fmt: skip
    scenario = ps.load_scenario("seed-1t", overrides={"vm.memory": "2GiB", "workload.access": "uniform"})
    found = ps.replay(log, policies=["hgm2m"], scenario=scenario, base="4GiB", host_memory="32GiB")
    row = found.hosts.iloc[0]
    assert row[["uncorrected", "again", "placed", "outside", "beyond"]].tolist() == [5, 4, 2, 2, 1]
    assert fleet(found, "guest_lost_bytes")["mean"] == 2 * 4096
    assert found.life("a").steps[0].page == 0
    everything = ps.replay(log, policies=["hgm2m"], scenario=scenario, base="4GiB")
    assert everything.hosts.iloc[0][["outside", "beyond"]].tolist() == [3, 0]


def test_errors_without_an_address_are_drawn_over_the_hosts_memory(tmp_path: Path) -> None:
    log = log_of(tmp_path / "a.csv", *[ue(1 + k % 28, "") for k in range(40)], ue(1, 0))
    scenario = ps.load_scenario("seed-1t", overrides={"vm.memory": "512GiB"})
    found = ps.replay(log, policies=["unmap1g"], scenario=scenario, host_memory="1TiB", imputations=200)
    row = found.hosts.iloc[0]
    assert row["without_address"] == 40 and row["placed"] + row["outside"] == 41
    assert abs(row["placed"] - 21) < 5 * (10 / 200) ** 0.5 and row["placed_low"] < row["placed_high"]
    assert fleet(found, "guest_lost_bytes")["low"] < fleet(found, "guest_lost_bytes")["high"]
    assert any("40 uncorrected errors of 41 without an address placed anywhere" in line for line in found.notices)
    near = ps.replay(log, policies=["unmap1g"], scenario=scenario, impute="known")
    assert fleet(near, "regions_hit")[["low", "high"]].tolist() == [1, 1]
    without = ps.replay(log, policies=["unmap1g"], scenario=scenario, impute="none")
    assert without.hosts.iloc[0]["placed"] == 1


def test_counters_and_notices_add_only_what_is_not_told_one_by_one(tmp_path: Path) -> None:
    counter = "2025-01-20T00:00:00Z,a,UE,,,5,-1"
    log = log_of(tmp_path / "a.csv", ue(1, 0), ue(2, GIB), ue(3, ""), ue(3, 2 * GIB, kind="poison"), counter, counter)
    row = ps.replay(log, policies=["hgm2m"]).hosts.iloc[0]
    assert row[["uncorrected", "without_address", "again"]].tolist() == [5, 2, 1]


def test_an_error_of_unknown_time_lies_anywhere_in_the_log(tmp_path: Path) -> None:
    log = log_of(tmp_path / "a.csv", ue(1, 0), ",a,UE,0x40000000,,1,0", ue(31, 2 * GIB))
    found = ps.replay(log, policies=["hgm2m"], imputations=50)
    when = [found.life("a", imputation=k).steps[1].years * 365.25 for k in range(50)]
    assert 0 < min(when) < 10 < 20 < max(when) < 31 and found.hosts.iloc[0]["placed"] == 3


def test_who_found_an_error_is_as_logged(tmp_path: Path) -> None:
    log = log_of(
        tmp_path / "a.csv", ue(1, 0, severity="AR"), ue(2, GIB, severity="AO"), ue(3, 2 * GIB, severity="fatal")
    )
    found = ps.replay(log, policies=["hgm2m"], imputations=3)
    for k in range(3):
        assert [step.found_by for step in found.life("a", imputation=k).steps if step.what == "error"] == [
            "read", "patrol", "read"
        ]  # fmt: skip
    assert found.hosts.iloc[0]["fatal"] == 1


# ----------------------------------------------------------------------------------------------------- corrected errors


def ces(*at: tuple[int, int, int], page: int = 7) -> list[str]:
    return [f"2025-01-{day:02}T{hour:02}:00:00Z,a,CE,{page * 4096:#x},,{count},0" for day, hour, count in at]


@pytest.mark.parametrize(
    ("rows", "threshold", "passed"),
    [
        (ces((1, 0, 49)), "rasdaemon", 0), (ces((1, 0, 50)), "rasdaemon", 1),
        (ces((1, 0, 25), (1, 23, 25)), "rasdaemon", 1), (ces((1, 0, 25), (2, 1, 25)), "rasdaemon", 0),
        (ces((1, 0, 1), (1, 9, 1)), "mcelog", 1), (ces((1, 0, 1)) + ces((1, 0, 1), page=8), "mcelog", 0),
        (ces((1, 0, 2), (9, 0, 2)) + ces((3, 0, 9), page=9), "mcelog", 2),
    ],
)  # fmt: skip
def test_pages_pass_a_threshold_within_its_window(rows: list[str], threshold: str, passed: int, tmp_path: Path) -> None:
    found = ps.replay(log_of(tmp_path / "a.csv", *rows), policies=["soft-offline"], ce_threshold=threshold)
    assert found.hosts.iloc[0]["passed"] == passed
    assert fleet(found, "spares_used")["mean"] == (passed > 0)  # both pages are of one region
    assert any("no uncorrected error" in line and "soft-offline" in line for line in found.notices)


def test_what_moved_away_in_time_is_spared_a_later_error(tmp_path: Path) -> None:
    log = log_of(tmp_path / "a.csv", *ces((1, 0, 60)), ue(20, 7 * 4096), ue(21, GIB))
    found = ps.replay(log, policies=["unmap1g", "soft-offline"])
    assert fleet(found, "guest_lost_bytes", "unmap1g")["mean"] == 2 * GIB
    assert fleet(found, "guest_lost_bytes", "soft-offline")["mean"] == GIB


# ----------------------------------------------------------------------------------------------------- hosts, the fleet


def test_hosts_are_told_apart_and_add_up(tmp_path: Path) -> None:
    log = log_of(tmp_path / "a.csv", ue(1, 0), ue(1, 0, "b"), ue(2, GIB, "b"), ue(2, 0, "c", kind="CE"))
    found = ps.replay(log, policies=["unmap1g"])
    assert found.hosts["host"].tolist() == ["a", "b", "c"]
    assert [summary(found, host, "guest_lost_bytes") / GIB for host in "abc"] == [1, 2, 0]
    assert fleet(found, "guest_lost_bytes")["mean"] == 3 * GIB and fleet(found, "vm_lost")["high"] <= 3
    assert fleet(found, "share_1g")["over"] == "mean" and fleet(found, "worst_stall_seconds")["over"] == "highest"
    one = ps.replay(log, policies=["unmap1g"], hosts=["b"])
    assert one.hosts["host"].tolist() == ["b"] and summary(one, "b", "guest_lost_bytes") == 2 * GIB


def test_many_hosts_are_replayed_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [ue(1 + k % 9, k * GIB, f"h{k % 7}") for k in range(30)]
    log = log_of(tmp_path / "a.csv", *rows)
    whole = ps.replay(log, policies=["hgm2m"])
    monkeypatch.setattr("poisonsim.replaying.histories._ERRORS_AT_ONCE", 150)
    pieces = ps.replay(log, policies=["hgm2m"])
    assert len(pieces._histories) > 1
    assert pieces.to_dict() == whole.to_dict()
    assert [len(pieces.life(f"h{k}").steps) for k in range(7)] == [len(whole.life(f"h{k}").steps) for k in range(7)]


def cell_log(path: Path) -> Path:
    """Host a: errors in one row of a bank, of which one names no cell; host b: a CE in one cell, and a UE elsewhere."""
    rows = ["time,host,kind,address,rank,bank_group,bank,row,column"]
    rows += [f"2025-01-01T00:00:0{k}Z,a,CE,{0x40000000 + k * 4096:#x},0,1,2,77,{8 * k}" for k in range(4)]
    rows += ["2025-01-05T00:00:00Z,a,UE,0x40000000,0,1,2,77,0", "2025-01-06T00:00:00Z,a,UE,0x40001000,,,,,"]
    rows += ["2025-01-05T00:00:00Z,b,CE,0x80000000,0,0,0,5,8", "2025-01-06T00:00:00Z,b,UE,0x90000000,,,,,"]
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize("anonymise", [False, True])
def test_losses_are_told_apart_by_the_modes_of_their_faults(anonymise: bool, tmp_path: Path) -> None:
    found = ps.replay(
        cell_log(tmp_path / "a.csv"), policies=["unmap1g", "hgm4k", "collapse-nightly"], imputations=2,
        anonymise=anonymise,
    )  # fmt: skip
    rows = found.modes.set_index("mode")
    assert rows.loc["row", ["faults", "hosts", "errors", "ue_pages"]].tolist() == [1, 1, 5, 2]
    assert rows.loc["bit", ["faults", "hosts", "errors", "ue_pages"]].tolist() == [1, 1, 1, 0]
    assert rows.loc["unknown", "ue_pages"] == 1
    shares = found.loss_by_mode()
    assert shares["hgm4k"]["row"].best == pytest.approx(2 / 3) and set(shares["hgm4k"]) == {"row", "unknown"}
    assert shares["unmap1g"]["row"].best == pytest.approx(1 / 2)  # both UEs of the row lose the same region
    assert found.to_dict()["loss_by_mode"]["unmap1g"]["unknown"]["high"] == pytest.approx(1 / 2)


def test_without_cells_no_mode_is_known(tmp_path: Path) -> None:
    found = ps.replay(log_of(tmp_path / "a.csv", ue(1, 4096)), policies=["hgm2m"], imputations=1)
    assert found.modes["mode"].tolist() == ["unknown"] and set(found.loss_by_mode()["hgm2m"]) == {"unknown"}


def test_the_same_seed_gives_the_same_and_another_another(tmp_path: Path) -> None:
    log = log_of(tmp_path / "a.csv", *[ue(1, "")] * 9)
    first, again, *others = (
        ps.replay(log, policies=["hgm2m"], seed=seed, repeats="keep").to_dict()["summary"] for seed in (1, 1, 2, 3, 4)
    )
    assert first == again and any(first != other for other in others)


def test_anonymised_output_tells_no_name_time_or_text_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "secret.csv"
    log.write_text("time,host,kind,address,label\n2031-07-09T01:02:03Z,zeta9,UE,0x0,SN777\n"
                   "2031-07-10T01:02:03Z,alpha9,UE,0x0,SN777\nzeta9 damaged SN777,zeta9,UE,x,y\n")  # fmt: skip
    found = ps.replay(log, policies=["hgm2m"], anonymise=True)
    text = str(found.to_dict()) + "".join(found.report.warnings()) + "".join(found.life("host-2").lines())
    for secret in ("zeta9", "alpha9", "SN777", "secret", "2031", str(tmp_path)):
        assert secret not in text
    assert sorted(found.hosts["host"]) == ["host-1", "host-2"] and found.report.n_damaged == 1
    assert "SN777" not in str(ps.replay(log, policies=["hgm2m"]).hosts)


def test_anonymised_times_are_all_shifted_by_one_span(tmp_path: Path) -> None:
    rows = ["time,host,kind,address", "2031-07-09T01:02:03Z,a,UE,0x0", "2031-07-10T04:02:03.5Z,a,UE,0x1000"]
    log = tmp_path / "a.csv"
    log.write_text("\n".join(rows))
    real, found = (ps.replay(log, policies=["hgm2m"], anonymise=hide) for hide in (False, True))
    shifts = {
        np.datetime64(after.rstrip("Z"), "us") - np.datetime64(before.rstrip("Z"), "us")
        for before, after in (
            (real.setting.start, found.setting.start),
            *((str(getattr(real.report.files[0], end)), str(getattr(found.report.files[0], end)))
              for end in ("first", "last")),
        )
    }  # fmt: skip
    [shift] = shifts
    assert shift % np.timedelta64(1, "s") == np.timedelta64(0) != shift
    assert "1970" <= found.setting.start[:4] <= "1999" and any("times are shifted" in text for text in found.notices)
    assert not any("shifted" in text for text in real.notices)
    assert [step.years for step in real.life("a").steps] == [step.years for step in found.life("host-1").steps]
    log.write_text("\n".join([*rows, "2031-07-10T04:02:03Z,a,CE,0x1000"]))
    assert ps.replay(log, policies=["hgm2m"], anonymise=True).setting.start != found.setting.start


def test_anonymised_hosts_are_not_in_the_order_of_their_names(tmp_path: Path) -> None:
    log = log_of(tmp_path / "a.csv", *[ue(1, h * GIB, f"n{h}") for h in range(8)])
    pages = [ps.replay(log, policies=["hgm2m"], anonymise=True, imputations=1).life(f"host-{k}").steps[0].region
             for k in range(1, 9)]  # fmt: skip
    assert sorted(pages) == list(range(8)) != pages  # type: ignore[type-var]


# ------------------------------------------------------------------------------------------------------------ bad input


def test_since_leaves_out_what_was_before(tmp_path: Path) -> None:
    log = log_of(tmp_path / "a.csv", ue(1, 0), ue(9, GIB))
    found = ps.replay(log, policies=["hgm2m"], since="2025-01-05")
    assert found.hosts.iloc[0]["placed"] == 1 and found.life("a").steps[0].years == pytest.approx(4 / 365.25)
    assert any("1 event before the start" in line for line in found.notices)


@pytest.mark.parametrize(
    ("rows", "given", "error", "told"),
    [
        ([], {}, LogError, r"no event that can be read.*\n.*csv: read as csv, 0 lines or rows, and no event in it"),
        (["nonsense"], {}, LogError, "record"),
        ([ue(1, 0)], {"hosts": ["b"]}, LogError, "'b' is not in the log.*it names a"),
        ([ue(1, 0)], {"since": "2026-01-01"}, LogError, "is after all 1 events, the last of which was at 2025-01-01"),
        ([ue(1, 0)], {"since": "soon"}, ScenarioError, "since: 'soon' is not a time"),
        ([",a,UE,0x0,,1,0"], {}, LogError, "no event has a time.*`years`"),
        ([ue(1, 0), "1902-01-01T00:00:00Z,a,CE,0x0,,1,0"], {}, LogError, "more than 100 years"),
        ([",a,UE,,,200000,-1"], {"years": 1}, LogError, "200,000 uncorrected errors of one host"),
        ([ue(1, 0)], {"base": 4096}, ScenarioError, "base: 4096 is not a whole number of backing pages of 1G"),
        ([ue(1, 0)], {"base": "0xzz"}, ScenarioError, "base: '0xzz' is not a number"),
        ([ue(1, 0)], {"host_memory": "1GiB"}, ScenarioError, "no room for the VM: base and vm.memory need 1 TiB"),
        ([ue(1, 0)], {"ce_threshold": "mce"}, ScenarioError, "'mce' is not one of rasdaemon, mcelog, cec"),
        ([ue(1, 0)], {"impute": "unifrom"}, ScenarioError, "did you mean uniform"),
        ([ue(1, 0)], {"imputations": 0}, ScenarioError, "imputations: 0 is not"),
        ([ue(1, 0)], {"seed": -1}, ScenarioError, "seed = -1"),
        ([ue(1, 0)], {"years": "0"}, ScenarioError, "years: "),
        ([ue(1, 0)], {"years": 101}, ScenarioError, "years: 101 is not between"),
        ([ue(1, 0)], {"policies": []}, ScenarioError, "no policy is named"),
        ([ue(1, 0)], {"policies": ["hgm2"]}, PolicyError, "hgm2"),
        ([ue(1, 0)], {"format": "cvs"}, LogError, "did you mean csv"),
    ],
)
def test_bad_input_is_told_in_words(
    rows: list[str], given: dict[str, Any], error: type[PoisonsimError], told: str, tmp_path: Path
) -> None:
    log = log_of(tmp_path / "a.csv", *rows)
    with pytest.raises(error, match=f"(?s){told}"):
        ps.replay(log, **{"policies": ["hgm2m"], **given})


def test_what_is_not_in_a_replay_has_no_life(tmp_path: Path) -> None:
    found = ps.replay(log_of(tmp_path / "a.csv", ue(1, 0)), policies=["hgm2m"])
    for given in ({"host": "aa"}, {"host": "a", "policy": "hgm4k"}, {"host": "a", "imputation": 20}):
        with pytest.raises(MetricError, match="is not"):
            found.life(**given)  # type: ignore[arg-type]
    with pytest.raises(LogError, match=r"no\.log"):
        ps.replay(tmp_path / "no.log", policies=["hgm2m"])


def test_a_host_without_errors_under_its_vm_loses_nothing(tmp_path: Path) -> None:
    found = ps.replay(log_of(tmp_path / "a.csv", ue(1, 5 << 40)), policies=["unmap1g"])
    assert fleet(found, "guest_lost_bytes")["mean"] == 0 and found.life("a").steps == ()
    assert any("look at --base" in line for line in found.notices)


def test_a_row_of_no_errors_is_none(tmp_path: Path) -> None:
    log = log_of(tmp_path / "a.csv", ue(1, GIB), ue(2, 2 * GIB, host="b", count=0), ue(3, 3 * GIB, count=0))
    found = ps.replay(log, policies=["unmap1g"])
    assert found.hosts["host"].tolist() == ["a"] and fleet(found, "regions_hit")["mean"] == 1


def test_an_address_far_beyond_the_vm_is_doubted_unless_the_memory_is_given(tmp_path: Path) -> None:
    log = tmp_path / "far.csv"
    log.write_text("time,host,kind,address\n2025-01-05T10:00Z,h1,UE,0x999999999999\n2025-02-05T10:00Z,h1,UE,\n")
    doubt = "1 host with an address more than 8 times as high as the VM's end, up to 153.6 TiB: is it right?"
    assert any(doubt in line for line in ps.replay(log, policies=["unmap1g"]).notices)
    given = ps.replay(log, policies=["unmap1g"], host_memory="2TiB")
    assert not any("is it right?" in line for line in given.notices)
