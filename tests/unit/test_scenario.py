"""Scenarios in code: values, derived figures, and what is said of wrong ones."""
# ruff: noqa: E501 - a message that is expected stays on one line

from __future__ import annotations

import dataclasses
import json
import math
import pickle
from importlib import resources
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from poisonsim.errors import ScenarioError
from poisonsim.memory import ARCHITECTURES, backings, ladder
from poisonsim.scenario import (
    CountFaults,
    FieldFaults,
    Horizon,
    Host,
    RateFaults,
    Scenario,
    Vm,
    Workload,
    load_scenario,
)
from poisonsim.scenario_checks import SECTIONS, TAGS, all_keys
from poisonsim.units import GIB, TIB


def problems_of(make: Any, *args: Any, **kwargs: Any) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        make(*args, **kwargs)
    return list(caught.value.problems)


# ------------------------------------------------------------------------------------------------- values


def test_the_default_is_seed_1t() -> None:
    shipped = load_scenario("seed-1t")
    assert dataclasses.replace(shipped, title="") == Scenario()
    assert Scenario().vm.memory_bytes == TIB
    assert Scenario().faults == CountFaults(errors=100, placement="uniform")
    assert (Scenario().horizon.years, Scenario().horizon.n_steps) == (5.0, 60)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_derived_counts_agree_with_the_ladder(arch: str) -> None:
    for backing in backings(arch):
        vm = Vm(arch=arch, backing=backing, memory=3 * 16 * GIB, guest_page=ladder(arch, backing).sizes[-1])
        rungs = ladder(arch, backing)
        assert vm.pages_per_region == rungs.pages[0]
        assert vm.base_bytes * vm.pages_per_region == vm.region_bytes
        assert vm.n_regions * vm.region_bytes == vm.memory_bytes == vm.n_base_pages * vm.base_bytes


def test_the_architectures_accepted_are_those_of_the_ladder() -> None:
    assert set(get_args(get_type_hints(Vm)["arch"])) == set(ARCHITECTURES)


@pytest.mark.parametrize("memory", ["3TiB", 3 * TIB, "3072GiB"])
def test_memory_is_stored_in_bytes(memory: int | str) -> None:
    assert Vm(memory=memory).memory == Vm(memory=memory).memory_bytes == 3 * TIB


def test_rates_and_times_are_stored_per_year_and_in_years() -> None:
    assert RateFaults(ue_per_tib_year="66FIT").ue_per_tib_year == pytest.approx(66 * 8766 / 1e9)
    assert Horizon(years="18months", grid="3months").n_steps == 6
    assert isinstance(Horizon(years=5).years, float)


def test_grid_years_run_from_zero_to_the_horizon() -> None:
    grid = Horizon(years=5, grid="1month").grid_years
    assert grid.dtype == np.float64 and grid.shape == (61,)
    assert grid[0] == 0 and grid[-1] == 5
    np.testing.assert_allclose(np.diff(grid), 1 / 12)


@pytest.mark.parametrize(
    ("years", "grid", "n_steps"),
    [(5, "1y", 5), (100, "1month", 1200), ("70d", "7d", 10), (1, "0.25y", 4), (0.1, "0.1y", 1), (0.3, "0.1y", 3)],
)
def test_grids_that_divide_the_horizon(years: Any, grid: Any, n_steps: int) -> None:
    assert Scenario(horizon=Horizon(years=years, grid=grid)).horizon.n_steps == n_steps


def test_guest_page_shares_are_ordered_and_comparable() -> None:
    vm = Vm(guest_page={"4K": 0.1, "2M": 0.9})
    assert list(vm.guest_page_shares.items()) == [("2M", 0.9), ("4K", 0.1)]
    assert vm == Vm(guest_page={"2M": 0.9, "4K": 0.1}) and hash(vm) == hash(Vm(guest_page={"2M": 0.9, "4K": 0.1}))
    assert vm.guest_page == {"2M": 0.9, "4K": 0.1}
    assert Vm(guest_page={"2M": 1}) == Vm(guest_page="2M")


def test_scenarios_are_frozen_hashable_and_picklable() -> None:
    scenario = Scenario(vm=Vm(guest_page={"2M": 0.5, "4K": 0.5}), faults=FieldFaults(dimm="ddr4-64g-2rx4"))
    assert pickle.loads(pickle.dumps(scenario)) == scenario
    assert len({scenario, pickle.loads(pickle.dumps(scenario)), Scenario()}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        scenario.title = "other"  # type: ignore[misc]


def test_replace_checks_again() -> None:
    assert dataclasses.replace(Scenario().vm, memory="2TiB").n_regions == 2048
    assert problems_of(dataclasses.replace, Scenario(), horizon=Horizon(years=1, grid="7d"))


# ------------------------------------------------------------------------------------------------- wrong values


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: Vm(memory=4.5), 'vm.memory: 4.5 is not a size; write it as text with a unit, such as "1TiB"'),
        (lambda: Vm(memory=True), 'vm.memory: True is not a size; write it as text with a unit, such as "1TiB"'),
        (lambda: Vm(arch="x86"), "vm.arch: 'x86' is not one of x86-64, arm64, arm64-16k, arm64-64k, riscv64; did you mean x86-64?"),
        (lambda: Vm(contiguous=1), "vm.contiguous: 1 is not true or false"),
        (lambda: Vm(backing=1), "vm.backing: 1 is not text"),
        (lambda: Vm(unrecoverable=0.6), "vm.unrecoverable: 0.6 is not a share between 0 and 0.5"),
        (lambda: Vm(unrecoverable=math.nan), "vm.unrecoverable: nan is not a finite number"),
        (lambda: Vm(unrecoverable=True), "vm.unrecoverable: true is not a share between 0 and 0.5"),
        (lambda: Vm(on_loss="stop"), "vm.on_loss: 'stop' is not one of count, restart, end"),
        (lambda: Vm(guest_page=3), 'vm.guest_page: 3 is not a page size or shares of page sizes; write "2M", or shares such as {"2M" = 0.9, "4K" = 0.1}'),
        (lambda: Vm(guest_page={"2M": 0.9}), "vm.guest_page: shares add up to 0.9, not to 1"),
        (lambda: Vm(guest_page={"2M": 0.9, "3M": 0.1}), "vm.guest_page: '3M' is not a page size; write one such as 4K, 2M, 1G"),
        (lambda: Vm(guest_page={"2M": 1.5, "4K": -0.5}), "vm.guest_page: share 1.5 of 2M is not above 0 and at most 1"),
        (lambda: Vm(memry="1TiB"), "vm.memry: unknown key; did you mean memory?"),
        (lambda: Vm(spares=4), "vm.spares: unknown key; did you mean host.spares?"),
        (lambda: Vm("1TiB"), "vm: '1TiB' has no name; give every value by name, as in memory=…"),
        (lambda: Host(spares=5.5), "host.spares: 5.5 is not a whole number"),
        (lambda: Host(spares="5"), "host.spares: '5' is not a whole number; write the number alone, without a unit or quotes"),
        (lambda: Host(spares=5.0), "host.spares: 5.0 is not a whole number; write it without point or exponent: 5"),
        (lambda: Host(spares=True), "host.spares: true is not a whole number"),
        (lambda: Host(spares=65537), "host.spares: 65537 is not between 0 and 65,536"),
        (lambda: Host(page_tables=0), "host.page_tables: 0 is not between 1 and 64"),
        (lambda: Host(kernel_reads=2), "host.kernel_reads: 2 is not a share between 0 and 1; write 0.02 for 2 %"),
        (lambda: Host(replenish=-0.1), "host.replenish: -0.1 is not a share between 0 and 1"),
        (lambda: Host(table_lock="per-vma"), "host.table_lock: 'per-vma' is not one of per-pmd, per-mm; did you mean per-mm?"),
        (lambda: Host(free_memory="-1GiB"), "host.free_memory: '-1GiB' is not a positive whole number of bytes below 1 EiB"),
        (lambda: Host(free_memory=False), 'host.free_memory: False is not a size; write it as text with a unit, such as "1TiB"'),
        (lambda: Host(spare_rows=1.5), "host.spare_rows: 1.5 is not a whole number"),
        (lambda: Vm(vcpus=0), "vm.vcpus: 0 is not between 1 and 4,096"),
        (lambda: Vm(unmovable=1.1), "vm.unmovable: 1.1 is not a share between 0 and 1; write 0.011 for 1.1 %"),
        (lambda: CountFaults(errors=10**40), "faults.errors: an integer of 133 bits is not between 0 and 10,000,000"),
        (lambda: CountFaults(ue_per_tib_year=1), 'faults.ue_per_tib_year: belongs to model = "rate", but model is "count"; set faults.model as well'),
        (lambda: CountFaults(shape=1.0), 'faults.shape: belongs to model = "rate" or "field", but model is "count"; set faults.model as well'),
        (lambda: RateFaults(), 'faults.ue_per_tib_year: missing; model = "rate" needs it'),
        (lambda: RateFaults(ue_per_tib_year=math.inf), "faults.ue_per_tib_year: inf is not a rate between 0 and 1e12 per year"),
        (lambda: FieldFaults(errors=3), 'faults.errors: belongs to model = "count", but model is "field"; set faults.model as well'),
        (lambda: FieldFaults(shape=0.1), "faults.shape: 0.1 is not between 0.2 and 10"),
        (lambda: FieldFaults(dispersion=101), "faults.dispersion: 101 is not between 0 and 100"),
        (lambda: Workload(hot=1), "workload.hot: 1 is not a share above 0 and below 1"),
        (lambda: Workload(hot=5), "workload.hot: 5 is not a share above 0 and below 1; write 0.05 for 5 %"),
        (lambda: Vm(unretired=6), "vm.unretired: 6 is not a share between 0 and 0.5; write 0.06 for 6 %"),
        (lambda: Vm(unretired="6 %"), "vm.unretired: '6 %' is not a share between 0 and 0.5; write 0.06 for 6 %"),
        (lambda: Vm(unretired="0.06"), "vm.unretired: '0.06' is not a share between 0 and 0.5; write 0.06 without quotes"),
        (lambda: Vm(unretired="few"), "vm.unretired: 'few' is not a share between 0 and 0.5; write a number such as 0.05"),
        (lambda: Vm(unretired=None), "vm.unretired: NoneType None is not a share between 0 and 0.5; write a number such as 0.05"),
        (lambda: Host(patrol=24), "host.patrol: 24 has no unit; write 24h, 7d or 1y"),
        (lambda: Host(patrol="24"), "host.patrol: '24' has no unit; write 24h, 7d or 1y"),
        (lambda: Host(patrol=1 / 365.25), "host.patrol: 0.0027378507871321013 has no unit; write 24h, 7d or 1y"),
        (lambda: Host(patrol=True), "host.patrol: true is not a time; write 24h, 7d or 1y"),
        (lambda: Host(patrol="2y"), "host.patrol: '2y' is above 1y; write at most 1y, which is all but no patrol at all"),
        (lambda: Host(cpu={"x": 1}), "host.cpu: {'x': 1} is not text; write a name of the catalogue, or a file such as ./mine.toml"),
        (lambda: FieldFaults(repair=7), "faults.repair: 7 has no unit; write 24h, 7d or 1y"),
        (lambda: FieldFaults(map={"what": 1}), "faults.map: {'what': 1} is not text; write a name of the catalogue, or a file such as ./mine.toml"),
        (lambda: Horizon(grid=0.25), "horizon.grid: 0.25 has no unit; write 7d, 1month or 1y"),
        (lambda: Horizon(grid=10**40), "horizon.grid: an integer of 133 bits is too large"),
        (lambda: Workload(cycles_per_access=0), "workload.cycles_per_access: 0 is not above 0 and at most 1,000,000"),
        (lambda: Horizon(years="1m"), "horizon.years: '1m' is ambiguous: m may be minutes or months; write 1months or 0.0166667h"),
        (lambda: Horizon(years=0), "horizon.years: 0 is not a time above 0 and below 1000 years"),
        (lambda: Scenario(vm=3), "vm: 3 is not a Vm; write Vm(…)"),
        (lambda: Scenario(faults=3), "faults: 3 is not one of CountFaults, RateFaults, FieldFaults; write CountFaults(…)"),
        (lambda: Scenario(faults=Vm()), None),
        (lambda: Scenario(faults={"model": "count"}), None),
        (lambda: Scenario(vmm=Vm()), "vmm: unknown key; did you mean vm?"),
    ],
)  # fmt: skip
def test_wrong_values_in_code(make: Any, problem: str | None) -> None:
    found = problems_of(make)
    assert len(found) == 1
    assert problem is None or found == [problem]


def test_all_problems_of_one_table_are_reported_together() -> None:
    found = problems_of(Vm, memory="1T", arch="vax", unrecoverable=2, contiguous="yes", on_loss=0, size=3)
    assert [problem.partition(":")[0] for problem in found] == [
        "vm.memory", "vm.arch", "vm.contiguous", "vm.on_loss", "vm.unrecoverable", "vm.size",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: Scenario(vm=Vm(backing="3G")), "vm.backing: '3G' is not one of 1G, 2M, the huge pages of x86-64"),
        (lambda: Scenario(vm=Vm(memory="1.5GiB")), "vm.memory: 1.5 GiB (1610612736 bytes) is 1.5 pages of 1G; the nearest whole number of them is: 2GiB"),
        (lambda: Scenario(vm=Vm(memory=1)), "vm.memory: 1 B (1 bytes) is less than a page of 1G; the nearest whole number of them is: 1GiB; a number alone is bytes: write 1TiB"),
        (lambda: Scenario(vm=Vm(memory="1PiB", backing="2M")), "vm.memory: 1 PiB is 536,870,912 pages of 2M; at most 16,777,216 are simulated: take 32 TiB, or a larger vm.backing"),
        (lambda: Scenario(vm=Vm(guest_page="64K")), "vm.guest_page: '64K' is not one of 1G, 2M, 4K, the pages of x86-64 guests"),
        (lambda: Scenario(vm=Vm(backing="2M", guest_page={"1G": 0.5, "4K": 0.5})), "vm.guest_page: '1G' is larger than the backing; write 2M or smaller"),
        (lambda: Scenario(vm=Vm(arch="arm64")), "host.cpu: 'sapphire-rapids' is x86-64, but vm.arch is arm64; name a CPU of arm64: neoverse-n1, neoverse-n2, neoverse-v1, neoverse-v2"),
        (lambda: Scenario(host=Host(costs="linus")), "host.costs: 'linus' is not a table of time costs of the catalogue; known: linux; did you mean linux?"),
        (lambda: Scenario(host=Host(cpu="./none.toml")), f"host.cpu: ./none.toml: cannot be read: No such file or directory; tried {Path.cwd() / 'none.toml'}"),
        (lambda: Scenario(faults=FieldFaults(table="ddr5-alibaba")), "faults.table: 'ddr5-alibaba' is not a fault table of the catalogue; known: ddr4-alibaba, jaguar-ddr2; did you mean ddr4-alibaba?"),
        (lambda: Scenario(faults=CountFaults(errors=1025, placement="distinct-regions")), "faults.errors: 1,025 errors do not fit in distinct regions; the VM has 1,024"),
        (lambda: Scenario(faults=RateFaults(ue_per_tib_year=1e9)), "faults.ue_per_tib_year: 1e+09 means 5e+09 errors in 1 TiB over 5 years; at most 10,000,000 are simulated"),
        (lambda: Scenario(horizon=Horizon(years=1, grid="7d")), "horizon.grid: '7d' cuts 1y into 52.1786 steps, not a whole number; write a step that divides the horizon, such as 1month"),
        (lambda: Scenario(horizon=Horizon(years=0.7)), "horizon.grid: '1month' cuts 0.7y into 8.4 steps, not a whole number; write a step that divides the horizon, such as 0.1y"),
        (lambda: Scenario(vm=Vm(memory="1.5TB")), "vm.memory: 1.364 TiB (1500000000000 bytes) is 1396.98 pages of 1G; the nearest whole number of them is: 1397GiB; memory comes in binary units, so write 1.5TiB"),
        (lambda: Scenario(horizon=Horizon(years=1, grid="2y")), "horizon.grid: '2y' cuts 1y into 0.5 steps, not a whole number; write a step that divides the horizon, such as 1y"),
        (lambda: Scenario(horizon=Horizon(years=0.3, grid="2y")), "horizon.grid: '2y' cuts 0.3y into 0.15 steps, not a whole number; write a step that divides the horizon, such as 0.3y"),
        (lambda: Scenario(host=Host(costs="windows")), "host.costs: 'windows' is not a table of time costs of the catalogue; known: linux"),
        (lambda: Scenario(host=Host(cpu=".toml/\0.toml")), "host.cpu: '.toml/\\x00.toml': cannot be read: no path has a NUL character; write the name of a TOML file"),
        (lambda: Scenario(faults=FieldFaults(table="a\0.toml")), "faults.table: 'a\\x00.toml': cannot be read: no path has a NUL character; write the name of a TOML file"),
        (lambda: Scenario(faults=FieldFaults(ecc="none")), 'faults.ecc: belongs to ue = "ecc", but ue is "empirical"'),
        (lambda: Scenario(faults=FieldFaults(service="left-in", repair="1d")), 'faults.repair: belongs to service = "replace", but service is "left-in"'),
        (lambda: Scenario(horizon=Horizon(years=101)), "horizon.grid: '1month' cuts 101y into 1212 steps; at most 1200"),
        (lambda: Scenario(workload=Workload(access="uniform", alpha=0.5)), 'workload.alpha: belongs to access = "zipf", but access is "uniform"'),
        (lambda: Scenario(workload=Workload(access="sequential", over="1G")), 'workload.over: belongs to access = "zipf" or "hot-cold", but access is "sequential"'),
    ],
)  # fmt: skip
def test_values_that_do_not_fit_together(make: Any, problem: str) -> None:
    assert problems_of(make) == [problem]


def test_an_unknown_cpu_is_one_line_with_the_names() -> None:
    [problem] = problems_of(Scenario, host=Host(cpu="saphire-rapids"))
    assert problem.startswith("host.cpu: 'saphire-rapids' is not a CPU of the catalogue; known: ")
    assert problem.endswith("; did you mean sapphire-rapids?")


def test_a_cpu_may_be_read_another_way(tmp_path: Path) -> None:
    """As `catalog show` says it is written; the reading reaches the model and the run id."""
    from poisonsim.engine.plan import make_plan

    shipped = resources.files("poisonsim.catalog") / "cpus" / "zen4.toml"
    (mine := tmp_path / "mine.toml").write_text(shipped.read_text(encoding="utf-8"), encoding="utf-8")
    for name in ("zen4", str(mine)):
        one, other = (
            make_plan(Scenario(host=Host(cpu=cpu), vm=Vm(guest_page="1G")), ["unmap1g"], seed=1)
            for cpu in (name, f"{name}:l2_1g=exclusive")
        )
        assert one.run_id != other.run_id
    [problem] = problems_of(Scenario, host=Host(cpu="zen4:l2_1g=both"))
    assert problem == "host.cpu: zen4.toml: options: l2_1g = 'both' is not one of inclusive-fill, exclusive"
    [problem] = problems_of(Scenario, host=Host(cpu="zen44:l2_1g=exclusive"))
    assert problem.startswith("host.cpu: 'zen44' is not a CPU of the catalogue; known: ")
    [problem] = problems_of(Scenario, host=Host(cpu="./none.toml:l2_1g=exclusive"))
    assert problem.startswith("host.cpu: ./none.toml: cannot be read: No such file or directory")


def test_contiguous_entries_are_refused_where_there_are_none() -> None:
    [problem] = problems_of(Scenario, vm=Vm(contiguous=True))
    assert problem.startswith("vm.contiguous: ") and "x86-64" in problem
    arm = Scenario(vm=Vm(arch="arm64", contiguous=True), host=Host(cpu="neoverse-v2"))
    assert arm.vm.contiguous


def test_arm64_granules_take_an_arm64_cpu() -> None:
    scenario = Scenario(vm=Vm(arch="arm64-64k", backing="512M", guest_page="64K"), host=Host(cpu="neoverse-n1"))
    assert scenario.vm.base_bytes == 65536


def test_a_cpu_file_of_ones_own_is_accepted(tmp_path: Any) -> None:
    text = (resources.files("poisonsim.catalog") / "cpus" / "zen4.toml").read_text(encoding="utf-8")
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    assert Scenario(host=Host(cpu=str(path))).host.cpu == str(path)


def test_checks_across_keys_are_not_masked_by_other_mistakes() -> None:
    found = problems_of(
        Scenario.from_dict,
        {
            "vm": {"memory": "1.5GiB", "unrecoverable": 7, "guest_page": "64K"},
            "host": {"cpu": "pentium", "spares": -1},
            "faults": {"model": "field", "table": "none", "scale": -1},
            "horizon": {"years": 1, "grid": "7d", "step": 1},
        },
    )
    assert sorted(problem.partition(":")[0] for problem in found) == [
        "faults.scale", "faults.table", "horizon.grid", "horizon.step", "host.cpu", "host.spares",
        "vm.guest_page", "vm.memory", "vm.unrecoverable",
    ]  # fmt: skip


def test_checks_that_need_a_wrong_value_are_left_out() -> None:
    # memory and backing are both wrong on their own: nothing is said of how they fit together
    found = problems_of(Scenario.from_dict, {"vm": {"memory": "1T", "backing": "3G", "arch": "vax"}})
    assert [problem.partition(":")[0] for problem in found] == ["vm.memory", "vm.arch", "vm.backing"]
    assert found[2].startswith("vm.backing: '3G' is not one of 1G, 2M, 32M")


# ------------------------------------------------------------------------------------------------- plain tables


def test_unused_keys_of_the_access_pattern_are_not_in_the_tables() -> None:
    assert Scenario(workload=Workload(access="uniform")).to_dict()["workload"] == {
        "access": "uniform", "cycles_per_access": 60.0, "accesses_per_page_visit": 8.0, "reads_per_hour": 0.32,
    }  # fmt: skip


def test_tables_have_a_fixed_order_and_plain_values() -> None:
    tables = Scenario(vm=Vm(guest_page={"4K": 0.5, "2M": 0.5}), faults=FieldFaults()).to_dict()
    assert list(tables) == ["title", "vm", "host", "faults", "workload", "horizon"]
    assert json.dumps(tables["vm"]["guest_page"]) == '{"2M": 0.5, "4K": 0.5}'
    assert json.dumps(tables["faults"]) == (
        '{"model": "field", "table": "ddr4-alibaba", "laws": "field", "dimm": "ddr4-32g-2rx4", "map": "skx-closed-6ch", '
        '"ue": "empirical", "service": "replace", "repair": "7d", "vendor": "fleet", '
        '"bad_batch": 0.0, "scale": 1.0, "dispersion": 0.0, "shape": 1.0}'
    )


def test_times_keep_their_unit_on_the_way_through_tables_copies_and_pickles() -> None:
    scenario = Scenario(host=Host(patrol="36h"), faults=FieldFaults(repair="0.3y"))
    tables = scenario.to_dict()
    assert (tables["host"]["patrol"], tables["faults"]["repair"]) == ("36h", "0.3y")
    assert Scenario.from_dict(json.loads(json.dumps(tables))) == scenario
    assert dataclasses.replace(scenario.host, spares=9).patrol == scenario.host.patrol == 36 / 8766
    assert pickle.loads(pickle.dumps(scenario)).to_dict() == tables
    assert Host(patrol=scenario.host.patrol) == scenario.host


@pytest.mark.parametrize("ue", ["empirical", "ecc"])
@pytest.mark.parametrize("service", ["replace", "left-in"])
def test_tables_have_no_fault_key_without_effect(ue: Any, service: Any) -> None:
    scenario = Scenario(faults=FieldFaults(ue=ue, service=service))
    faults = scenario.to_dict()["faults"]
    assert ("ecc" in faults, "repair" in faults) == (ue == "ecc", service == "replace")
    assert Scenario.from_dict(scenario.to_dict()) == scenario


def test_equal_values_written_differently_give_equal_tables() -> None:
    one = {"vm": {"memory": "2TiB"}, "horizon": {"years": 2}, "faults": {"model": "rate", "ue_per_tib_year": 12}}
    two = {
        "vm": {"memory": 2 * TIB},
        "horizon": {"years": "24months"},
        "faults": {"model": "rate", "ue_per_tib_year": "1/month"},
    }
    assert json.dumps(Scenario.from_dict(one).to_dict()) == json.dumps(Scenario.from_dict(two).to_dict())


@pytest.mark.parametrize(
    ("tables", "problem"),
    [
        ({"vm": 3}, "vm: 3 is not a table; write [vm]"),
        ({"vmm": {}}, "vmm: unknown table; did you mean vm?"),
        ({"memory": "1TiB"}, "memory: unknown key; did you mean vm.memory?"),
        ({"title": 3}, "title: 3 is not text"),
        ({"faults": {"model": "rates", "ue_per_tib_year": 1}}, "faults.model: 'rates' is not one of count, rate, field; did you mean rate?"),
        ({"faults": {"model": ["rate"]}}, "faults.model: ['rate'] is not one of count, rate, field; did you mean rate?"),
        ({"faults": {"ue_per_tib_year": 1}}, 'faults.ue_per_tib_year: belongs to model = "rate", but model is "count"; set faults.model as well'),
        ({"host": {"patrol": 24}}, "host.patrol: 24 has no unit; write 24h, 7d or 1y"),
        ({"faults": {"model": "field", "ecc": "chipkill"}}, 'faults.ecc: belongs to ue = "ecc", but ue is "empirical"'),
        ({"faults": {"model": "field", "service": "left-in", "repair": "7d"}}, 'faults.repair: belongs to service = "replace", but service is "left-in"'),
        ({"faults": {"model": "rate", "ue_per_tib_year": 1, "repair": "7d"}}, 'faults.repair: belongs to model = "field", but model is "rate"; set faults.model as well'),
        ({"workload": {"access": "uniform", "alpha": 0.99}}, 'workload.alpha: belongs to access = "zipf", but access is "uniform"'),
        ({"workload": {"access": ["zipf"], "alpha": 0.99}}, "workload.access: ['zipf'] is not one of zipf, uniform, hot-cold, sequential; did you mean zipf?"),
    ],
)  # fmt: skip
def test_wrong_tables(tables: dict[str, Any], problem: str) -> None:
    assert problems_of(Scenario.from_dict, tables) == [problem]


def test_an_unknown_model_does_not_hide_mistakes_in_its_keys() -> None:
    found = problems_of(Scenario.from_dict, {"faults": {"model": "rats", "ue_per_tib_year": "x", "shap": 1}})
    assert [problem.partition(":")[0] for problem in found] == ["faults.model", "faults.ue_per_tib_year", "faults.shap"]


SHARES = st.floats(0.01, 0.99)
VALID = st.builds(
    Scenario,
    title=st.text(max_size=8),
    vm=st.builds(
        Vm,
        memory=st.integers(1, 4096).map(lambda n: n * GIB),
        backing=st.sampled_from(["1G", "2M"]),
        guest_page=st.sampled_from(["2M", "4K"]) | SHARES.map(lambda x: {"2M": x, "4K": 1 - x}),
        on_loss=st.sampled_from(["count", "end"]),
        unrecoverable=st.floats(0, 0.5),
    ),
    host=st.builds(
        Host,
        cpu=st.sampled_from(["zen5", "sapphire-rapids"]),
        spares=st.integers(0, 65536),
        mapping=st.sampled_from(["shared", "private"]),
        hvo=st.booleans(),
    ),
    faults=st.builds(CountFaults, errors=st.integers(0, 10**7))
    | st.builds(RateFaults, ue_per_tib_year=st.floats(0, 10), dispersion=st.floats(0, 100), shape=st.floats(0.2, 10))
    | st.builds(FieldFaults, dimm=st.sampled_from(["ddr4-32g-2rx8", "ddr4-64g-2rx4"]), scale=st.floats(1e-9, 1e3)),
    workload=st.builds(Workload, alpha=st.floats(0, 3), over=st.sampled_from(["4K", "1G"]))
    | st.builds(Workload, access=st.just("hot-cold"), hot=SHARES, share=SHARES)
    | st.builds(Workload, access=st.sampled_from(["uniform", "sequential"])),
    horizon=st.builds(Horizon, years=st.integers(1, 100), grid=st.sampled_from(["1month", "1y", "0.5y"])),
)


@settings(max_examples=150, deadline=None)
@given(VALID)
def test_tables_survive_a_round_trip_through_json(scenario: Scenario) -> None:
    text = json.dumps(scenario.to_dict())
    assert Scenario.from_dict(json.loads(text)) == scenario
    assert json.dumps(Scenario.from_dict(json.loads(text)).to_dict()) == text


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.integers(), st.floats(), st.text(max_size=6),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2), st.just(b"x"),
    st.sampled_from(["1T", "1TiB", "4K", "7Q", "zipf", "rate", "a\nb", "x" * 500, 10**400, ("a", 1)]),
)  # fmt: skip
KEYS = st.sampled_from(all_keys()) | st.sampled_from(["vm.x", "host.memory", "faults.", "vm.mem ory", "horizon.a.b"])


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(KEYS, JUNK, max_size=6), st.sampled_from(["count", "rate", "field", None]))
def test_junk_is_refused_in_our_own_words_or_accepted(junk: dict[str, Any], model: str | None) -> None:
    tables: dict[str, Any] = {"faults": {"model": model}} if model else {}
    for key, value in junk.items():
        section, _, last = key.partition(".")
        if last or key == "faults.":
            tables.setdefault(section, {})[last] = value
        else:
            tables[section] = value
    try:
        Scenario.from_dict(tables)
    except ScenarioError as error:
        assert len(set(error.problems)) == len(error.problems)
        for problem in error.problems:
            assert "pydantic" not in problem and "Input should" not in problem and "cannot be used here" not in problem
            assert "\n" not in problem


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([cls for classes in SECTIONS.values() for cls in classes]), st.data())
def test_constructors_never_raise_pydantics_error(cls: type[Any], data: st.DataObject) -> None:
    keys = data.draw(st.lists(st.sampled_from([key.partition(".")[2] or key for key in all_keys()]), max_size=4))
    try:
        cls(**{key: data.draw(JUNK) for key in keys})
    except ScenarioError as error:
        assert error.__cause__ is None and error.problems
    except ValidationError:
        pytest.fail("pydantic's own error reached the caller")


def test_tags_and_access_patterns_are_those_of_the_classes() -> None:
    from poisonsim.scenario_checks import ACCESS_KEYS

    assert set(TAGS) <= set(SECTIONS)
    assert tuple(ACCESS_KEYS) == get_args(get_type_hints(Workload)["access"])
    optional = {key for keys in ACCESS_KEYS.values() for key in keys}
    assert optional == {"alpha", "hot", "share", "over"}
