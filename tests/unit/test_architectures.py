"""Every architecture through the whole pipeline: tables and leaves by the engine, what stage 2 leaves of contiguous
entries, and every shipped policy on every ladder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from typer.testing import Result as CliResult

import poisonsim as ps
from poisonsim.engine.plan import make_plan
from poisonsim.errors import PolicyError, ScenarioError
from poisonsim.memory import ARCHITECTURES, ladder
from poisonsim.policy import policy_names
from poisonsim.results.result import Result
from poisonsim.scenario import CountFaults, Horizon, Host, Scenario, Vm, load_scenario
from poisonsim.translation import Translator, Uniform
from poisonsim.units import KIB, page_bytes

CPUS = {"x86-64": "sapphire-rapids", "riscv64": "xiangshan-kunminghu"}
LADDERS = [
    (arch, backing, contiguous)
    for arch, geometry in ARCHITECTURES.items()
    for backing in geometry.backing_sizes
    for contiguous in ((False, True) if geometry.contiguous_sizes else (False,))
]
TRANSLATION = ("tlb_reach_bytes", "tlb_reach_loss", "walks_per_access", "slowdown_low", "slowdown", "slowdown_high")


def scenario_of(
    arch: str, backing: str = "1G", contiguous: bool = False, *, errors: int = 1, regions: int = 4, **host: Any
) -> Scenario:
    """A small VM, its guest on pages as large as its backing where the guest has them."""
    return Scenario(
        vm=Vm(
            memory=regions * page_bytes(backing),
            arch=arch,  # type: ignore[arg-type]
            backing=backing,
            contiguous=contiguous,
            guest_page=backing,
        ),
        host=Host(cpu=CPUS.get(arch, "neoverse-v2"), **host),
        faults=CountFaults(errors=errors),
        horizon=Horizon(years=1, grid="3months"),
    )


def the_one_value(res: Result, policy: str, metric: str) -> float:
    """Value at the horizon, which is the same in every trial."""
    (value,) = res.distribution(policy, metric).values
    return float(value)


# One poisoned page: architecture, backing, contiguous, policy; table pages per table; leaves of the hit region.
ONE_POISON = [
    ("x86-64", "1G", False, "hgm4k", 513, {"4K": 262_143}),
    ("x86-64", "1G", False, "hgm2m", 2, {"2M": 511, "4K": 511}),
    ("arm64", "1G", False, "hgm4k", 513, {"4K": 262_143}),
    ("arm64", "1G", False, "hgm2m", 2, {"2M": 511, "4K": 511}),
    ("arm64", "1G", True, "hgm4k", 513, {"4K": 262_143}),
    ("arm64", "1G", True, "hgm-contig", 2, {"32M": 31, "2M": 15, "64K": 31, "4K": 15}),
    ("arm64-16k", "1G", False, "hgm4k", 32, {"16K": 65_535}),
    ("arm64-16k", "1G", False, "hgm2m", 1, {"32M": 31, "16K": 2047}),
    ("arm64-16k", "1G", True, "hgm-contig", 1, {"32M": 31, "2M": 15, "16K": 127}),
    ("arm64-64k", "512M", False, "hgm2m", 1, {"64K": 8191}),
    ("arm64-64k", "512M", True, "hgm-contig", 1, {"2M": 255, "64K": 31}),
    ("arm64-64k", "16G", True, "hgm-contig", 1, {"512M": 31, "2M": 255, "64K": 31}),
    ("riscv64", "1G", False, "hgm4k", 513, {"4K": 262_143}),
    ("riscv64", "1G", False, "hgm2m", 2, {"2M": 511, "4K": 511}),
    ("riscv64", "1G", True, "hgm-contig", 2, {"2M": 511, "64K": 31, "4K": 15}),
]
IN_ALL = {("arm64", "1G"): 92, ("riscv64", "1G"): 557, ("arm64-16k", "1G"): 173, ("arm64-64k", "512M"): 286}


@pytest.mark.parametrize(
    ("arch", "backing", "contiguous", "policy", "tables", "leaves"), ONE_POISON, ids=lambda x: str(x).replace(" ", "")
)
def test_tables_and_leaves_after_one_poison(
    arch: str, backing: str, contiguous: bool, policy: str, tables: int, leaves: dict[str, int]
) -> None:
    """Facts, table a.2, by the kernel: whichever page is hit, every trial ends alike."""
    res = ps.run(scenario_of(arch, backing, contiguous), policies=[policy], trials=40, seed=3)
    found = {size: the_one_value(res, policy, f"leaves_{size.lower()}") for size in res.plan.ladder.sizes}
    assert found.pop(backing) == 3
    assert {size: n for size, n in found.items() if n} == leaves
    if policy == "hgm-contig" and (arch, backing) in IN_ALL:
        assert sum(leaves.values()) == IN_ALL[arch, backing]
    per_page = 2 * ARCHITECTURES[arch].base_bytes + ARCHITECTURES[arch].stage2_metadata_bytes
    assert the_one_value(res, policy, "table_bytes") == tables * per_page
    assert the_one_value(res, policy, "guest_lost_bytes") == ARCHITECTURES[arch].base_bytes


# ---------------------------------------------------------------- stage 2


@pytest.mark.parametrize(
    ("arch", "backing"),
    [("arm64", "1G"), ("arm64-16k", "1G"), ("arm64-64k", "512M"), ("arm64-64k", "16G"), ("riscv64", "1G")],
)
def test_contiguous_leaves_of_the_process_table_change_nothing_for_the_guest_today(arch: str, backing: str) -> None:
    """The same errors with and without contiguous entries in the VMM's table: the same translation, fewer leaves."""
    policies = ["hgm2m", "hgm-contig"]
    res = ps.run(scenario_of(arch, backing, True, errors=6), policies=policies, trials=60, seed=5)
    plain, contiguous = ([res.distribution(policy, name).mean().best for name in TRANSLATION] for policy in policies)
    np.testing.assert_allclose(contiguous, plain, rtol=1e-9, atol=1e-12)
    base = ladder(arch, backing).sizes[-1].lower()
    more, fewer = (res.distribution(policy, f"leaves_{base}").mean().best for policy in policies)
    assert fewer < more / 10
    tables = [res.distribution(policy, "table_bytes").mean().best for policy in policies]
    assert tables[0] == tables[1]


@pytest.mark.parametrize(("arch", "backing"), [("arm64", "1G"), ("arm64-16k", "1G"), ("arm64-64k", "16G")])
def test_a_future_kvm_gains_reach_and_no_table(arch: str, backing: str) -> None:
    # enough regions that the second level of the TLB is short of entries for pieces
    runs = [
        ps.run(
            scenario_of(arch, backing, True, errors=60, regions=128, stage2_contiguous=future),
            policies=["hgm-contig"], trials=20, seed=5,
        )
        for future in (False, True)
    ]  # fmt: skip
    today, future = ({name: res.distribution("hgm-contig", name).mean().best for name in TRANSLATION} for res in runs)
    assert future["tlb_reach_bytes"] > today["tlb_reach_bytes"]
    assert future["walks_per_access"] < today["walks_per_access"]
    columns = ("table_bytes", "leaves_" + backing.lower())
    assert [runs[0].distribution("hgm-contig", name).mean() for name in columns] == [
        runs[1].distribution("hgm-contig", name).mean() for name in columns
    ]
    assert runs[0].plan.run_id != runs[1].plan.run_id


@pytest.mark.parametrize(
    ("arch", "leaf", "pieces", "n"),
    [
        ("arm64", "32M", "2M", 16),
        ("arm64", "64K", "4K", 16),
        ("arm64-16k", "1G", "32M", 32),
        ("arm64-64k", "2M", "64K", 32),
        ("arm64-64k", "16G", "512M", 32),
        ("riscv64", "64K", "4K", 16),
    ],
)
def test_a_contiguous_leaf_translates_as_its_entries(arch: str, leaf: str, pieces: str, n: int) -> None:
    shared: dict[str, Any] = {"cpu": "neoverse-n1", "memory_bytes": 4096 * page_bytes(leaf), "access": Uniform()}
    states = {
        "whole": Translator(**shared, leaf_sizes=[leaf], guest_page=leaf, arch=arch),
        "in pieces": Translator(**shared, leaf_sizes=[pieces], guest_page=leaf, arch=arch),
        "future": Translator(**shared, leaf_sizes=[leaf], guest_page=leaf, arch=arch, stage2_contiguous=True),
        "no arch": Translator(**shared, leaf_sizes=[leaf], guest_page=leaf),
    }
    found = {name: t.evaluate(np.array([[4096 * (n if name == "in pieces" else 1)]])) for name, t in states.items()}
    assert found["whole"].reach_bytes == found["in pieces"].reach_bytes
    assert found["whole"].cycles.tolist() == found["in pieces"].cycles.tolist()
    assert found["future"].reach_bytes == found["no arch"].reach_bytes
    if page_bytes(leaf) < page_bytes("16G"):  # larger than any entry of this TLB either way
        assert found["future"].reach_bytes > found["whole"].reach_bytes
    small = Translator(**shared, leaf_sizes=[leaf], guest_page="4K", arch=arch, stage2_contiguous=True)
    assert small.baseline.reach_bytes <= found["whole"].reach_bytes * (1 + 1e-6), (
        "the guest's own page is the limit there"
    )


def test_a_walk_of_a_contiguous_leaf_is_as_deep_as_its_entries() -> None:
    """With no walk saved by reach, what differs between 1G on arm64 and 1G on arm64-16k is the depth of the walk."""
    shared: dict[str, Any] = {
        "cpu": "neoverse-n1", "memory_bytes": 1 << 50, "access": Uniform(), "leaf_sizes": ["1G"], "guest_page": "1G",
    }  # fmt: skip
    block, run = (Translator(**shared, arch=a, stage2_contiguous=True).baseline for a in ("arm64", "arm64-16k"))
    assert block.walks_per_access == run.walks_per_access
    assert (run.cycles - block.cycles > 0).all()


def test_sizes_of_another_architecture_are_refused() -> None:
    with pytest.raises(ScenarioError, match="leaf_sizes: '32M' is no leaf size of x86-64"):
        ps.translate(cpu="zen4", leaves={"32M": 4}, access=Uniform(), arch="x86-64")
    with pytest.raises(ScenarioError, match="arch 'arm' is not known"):
        ps.translate(cpu="neoverse-n1", leaves={"32M": 4, "2M": 1}, access=Uniform(), arch="arm")


@pytest.mark.parametrize(
    ("vm", "words"),
    [
        ({}, "host.stage2_contiguous: true, but x86-64 has no contiguous entries; write false"),
        ({"arch": "arm64"}, "no leaf here takes contiguous entries (1G, 2M, 4K); set vm.contiguous = true as well"),
        (
            {"arch": "riscv64", "backing": "2M", "guest_page": "4K"},
            "no leaf here takes contiguous entries (2M, 4K); set vm.contiguous = true as well, or write false",
        ),
    ],
)
def test_the_switch_is_refused_where_no_leaf_is_contiguous(vm: dict[str, Any], words: str) -> None:
    host = Host(cpu=CPUS.get(vm.get("arch", "x86-64"), "neoverse-v2"), stage2_contiguous=True)
    with pytest.raises(ScenarioError) as caught:
        Scenario(vm=Vm(**vm), host=host)
    assert len(caught.value.problems) == 1 and words in caught.value.problems[0]


def test_the_switch_is_taken_where_only_the_backing_is_contiguous() -> None:
    future = dataclasses.replace(scenario_of("arm64-16k"), host=Host(cpu="neoverse-v2", stage2_contiguous=True))
    assert future.to_dict()["host"]["stage2_contiguous"] is True
    assert Scenario.from_dict(future.to_dict()) == future


def test_scenarios_without_contiguous_leaves_do_not_mention_the_switch() -> None:
    """So runs of before it keep their ids."""
    assert "stage2_contiguous" not in Scenario().to_dict()["host"]
    assert "stage2_contiguous" not in scenario_of("arm64").to_dict()["host"]
    assert scenario_of("arm64", contiguous=True).to_dict()["host"]["stage2_contiguous"] is False
    with pytest.raises(ScenarioError, match=r"host.stage2_contiguous: 'yes' is not true or false"):
        Host(stage2_contiguous="yes")  # type: ignore[arg-type]


# ---------------------------------------------------------------- the whole way


@pytest.mark.parametrize(("arch", "backing", "contiguous"), LADDERS, ids=str)
def test_every_shipped_policy_runs_on_every_ladder_or_is_refused_in_words(
    arch: str, backing: str, contiguous: bool
) -> None:
    scenario = scenario_of(arch, backing, contiguous, errors=12)
    fit = []
    for policy in policy_names():
        try:
            make_plan(scenario, [policy], seed=1)
            fit.append(policy)
        except PolicyError as error:
            assert policy in ("soft-offline", "hgm-contig", "evacuate-after")
            assert f"policy {policy}: " in str(error) and ("; set " in str(error) or "; take " in str(error))
    assert {"unmap1g", "hgm4k", "hgm2m", "migrate1g"} <= set(fit)
    res = ps.run(scenario, policies=fit, trials=1100, seed=1)
    summary = res.summary()
    assert np.isfinite(summary[["mean", "mean_low", "mean_high", "p50"]]).all(axis=None)
    at_end = summary[summary["year"] == res.years[-1]].set_index(["policy", "metric"])["mean"]
    for policy in fit:
        mapped = sum(at_end[policy, f"share_{size.lower()}"] for size in res.plan.ladder.sizes)
        lost = at_end[policy, "guest_lost_bytes"] / scenario.vm.memory_bytes
        assert 0 < lost <= 1
        assert 1 - lost - 1e-12 <= mapped <= 1, "only what is lost is not mapped"
        assert arch == "x86-64" or at_end[policy, "direct_map_bytes"] == 0


@pytest.mark.parametrize("arch", [arch for arch in ARCHITECTURES if arch != "x86-64"])
def test_soft_offline_and_field_faults_work_on_every_architecture(arch: str) -> None:
    backing = "512M" if arch == "arm64-64k" else "1G"
    cpu = CPUS.get(arch, "neoverse-n1")
    settings = [f"vm.arch={arch}", f"vm.backing={backing}", f"host.cpu={cpu}", "host.ce_threshold=rasdaemon"]
    res = ps.run(
        load_scenario("cloud-1t-ddr4", overrides=settings), policies=["unmap1g", "soft-offline"], trials=60_000, seed=2
    )
    assert res.distribution("soft-offline", "spares_used").mean().best > 0
    assert res.distribution("unmap1g", "guest_lost_bytes").mean().best > 0


def test_what_arm64_1t_assumes() -> None:
    scenario = load_scenario("arm64-1t")
    assert (scenario.vm.arch, scenario.vm.contiguous, scenario.vm.n_regions) == ("arm64", True, 1024)
    assert not scenario.host.hvo and not scenario.host.stage2_contiguous
    seed = load_scenario("seed-1t")
    assert (scenario.faults, scenario.workload, scenario.horizon) == (seed.faults, seed.workload, seed.horizon)
    res = ps.run(scenario, policies=["hgm4k", "hgm-contig"], trials=300, seed=7)
    means = {p: res.distribution(p, "capacity_cost_bytes").mean().best for p in res.policies}
    assert means["hgm4k"] < 100 * (513 * 8 * KIB + 4 * KIB), "tables and lost pages only: no HVO to give up"
    assert means["hgm-contig"] < means["hgm4k"] / 150
    assert not res.distribution("hgm4k", "vmemmap_bytes").values.any()


GRANULES = {
    "arm64-1t": (),
    "16k": ("vm.arch=arm64-16k",),
    "64k": ("vm.arch=arm64-64k", "vm.backing=512M"),
    "riscv": ("vm.arch=riscv64", "host.cpu=xiangshan-kunminghu"),
}


@pytest.mark.parametrize("name", GRANULES)
def test_the_command_line_prints_runs_and_reports(cli: Callable[..., CliResult], name: str, tmp_path: Any) -> None:
    chosen = [word for setting in GRANULES[name] for word in ("--set", setting)]
    policies = [word for policy in ("hgm4k", "hgm2m", "hgm-contig") for word in ("--policy", policy)]
    command = ["run", "arm64-1t", *chosen, *policies, "--trials", "200", "--out", str(tmp_path / "out")]
    done = cli(*command, "--json")
    assert done.exit_code == 0, done.output
    data = json.loads(done.stdout)
    sizes = ladder(*_ladder_of(data["scenario"]["vm"])).sizes
    metrics = {row["metric"] for row in data["summary"]}
    assert {metric for metric in metrics if metric.startswith("leaves_")} == {f"leaves_{s.lower()}" for s in sizes}
    html = (tmp_path / "out" / "report.html").read_text()
    assert "Stage 2 has no contiguous entries (host.stage2_contiguous = false), so it maps" in html
    if name == min(GRANULES):
        future = cli(*command, "--set", "host.stage2_contiguous=true", "--out", str(tmp_path / "future"))
        assert future.exit_code == 0, future.output
        assert "Stage 2 has no contiguous entries" not in (tmp_path / "future" / "report.html").read_text()
    dry = cli(*command, "--dry-run")
    assert f"one poisoned {sizes[-1]} in one {sizes[0]} page" in dry.output
    assert " > ".join(sizes) in dry.output


def _ladder_of(vm: dict[str, Any]) -> tuple[str, str, bool]:
    return vm["arch"], vm["backing"], vm["contiguous"]
