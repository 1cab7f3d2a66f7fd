"""What stands behind a verdict: the largest part of a cost, policies that come to the same, losses, reach gained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poisonsim.memory import hvo_saved_bytes
from poisonsim.results.numbers import in_bytes, listed
from poisonsim.results.statistics import Estimate

if TYPE_CHECKING:
    from poisonsim.engine.plan import Plan
    from poisonsim.results.result import Result
    from poisonsim.scenario import Scenario

_PARTS = {
    "vmemmap_bytes": "given-up HVO (vmemmap)",
    "reserved_bytes": "spares still held",
    "table_bytes": "page tables",
    "direct_map_bytes": "page tables of the direct map",
    "host_lost_bytes": "lost memory",
}
"""The sum that `capacity_cost_bytes` is, in words."""
MANY_SPARES = 0.02
"""Share of a VM's memory from which on its spares are told to be many."""
_MUCH_REACH = 0.05
"""Share of TLB reach from which on its loss under a scan is explained."""

_AT_LOSS = {
    "count": "a lost VM is counted, and its memory goes on as if it still ran",
    "restart": "a lost VM is counted, and its guest is restarted",
    "end": "a lost VM is counted, and its memory stays as it was at the loss",
}


def cost_sentence(result: Result, policy: str) -> str:
    """Which part of its host cost is the largest, where that is not the memory lost; else empty.

    Examples:
        >>> import poisonsim as ps
        >>> res = ps.run("seed-1t-distinct", policies=["unmap1g", "hgm2m"], trials=100)
        >>> cost_sentence(res, "hgm2m"), cost_sentence(res, "unmap1g")
        ('Most of what hgm2m costs the host is given-up HVO (vmemmap): 15.96 of 15.97 GiB', '')
    """
    part, of = largest_part(result, policy)
    return "" if part in ("", _PARTS["host_lost_bytes"]) else f"Most of what {policy} costs the host is {part}: {of}"


def largest_part(result: Result, policy: str) -> tuple[str, str]:
    """The part that makes at least half of a policy's host cost, and how much of it that is; empty where none does.

    Examples:
        >>> import poisonsim as ps
        >>> res = ps.run("seed-1t-distinct", policies=["unmap1g", "hgm2m"], trials=100)
        >>> largest_part(res, "hgm2m"), largest_part(res, "unmap1g")
        (('given-up HVO (vmemmap)', '15.96 of 15.97 GiB'), ('lost memory', 'all 100 GiB'))
    """
    cost = _mean(result, policy, "capacity_cost_bytes")
    parts = {name: _mean(result, policy, name).best for name in _PARTS}
    largest = max(parts, key=lambda name: parts[name])
    if 2 * parts[largest] < cost.best or cost.best == 0:
        return "", ""
    size, whole = (in_bytes(Estimate(value, value, value, "bytes")) for value in (parts[largest], cost.best))
    of = f"{size.value} of {whole}" if size.unit == whole.unit else f"{size} of {whole}"
    of = f"all {whole}" if str(size) == str(whole) else of
    return _PARTS[largest], of


def loss_sentence(result: Result) -> str:
    """What follows when a VM is lost, where one is; else empty.

    Examples:
        >>> import poisonsim as ps
        >>> loss_sentence(ps.run("seed-1t", policies=["unmap1g"], trials=100))
        'a lost VM is counted, and its memory goes on as if it still ran (vm.on_loss = count)'
    """
    if not any(result.distribution(policy, "vm_lost").values.any() for policy in result.policies):
        return ""
    on_loss = result.plan.scenario.vm.on_loss
    return f"{_AT_LOSS[on_loss]} (vm.on_loss = {on_loss})"


def same_sentence(result: Result) -> str:
    """Which policies come to the same in every figure of a run in which VMs are hit, where some do; else empty.

    Examples:
        >>> import poisonsim as ps
        >>> of_2m = ps.load_scenario("seed-1t", overrides=["vm.memory=64GiB", "vm.backing=2M", "vm.guest_page=2M"])
        >>> same_sentence(ps.run(of_2m, policies=["unmap1g", "hgm4k", "hgm2m"], trials=100))
        'hgm4k and hgm2m come to the same in every figure: there is no leaf size between 2M and 4K'
    """
    frame, sizes = result._summary, result.plan.ladder.sizes
    if not result.distribution(result.policies[0], "errors").values.any():
        return ""
    alike: dict[bytes, list[str]] = {}
    for policy, own in frame.drop(columns=["unit", "year"]).groupby("policy", sort=False):
        alike.setdefault(own.drop(columns=["policy", "metric"]).to_numpy(float).tobytes(), []).append(str(policy))
    split = {policy.label for policy in result.plan.policies if policy.uses_hgm}
    told = []
    for policies in (policies for policies in alike.values() if len(policies) > 1):
        none_between = len(sizes) == 2 and split.issuperset(policies)
        why = f": there is no leaf size between {sizes[0]} and {sizes[-1]}" if none_between else ""
        told.append(f"{listed(policies)} come to the same in every figure{why}")
    return "; ".join(told)


def hvo_sentence(scenario: Scenario) -> str:
    """That no kernel of this architecture gives up what the scenario counts as given up; else empty.

    Examples:
        >>> import poisonsim as ps
        >>> hvo_sentence(ps.load_scenario("arm64-1t", overrides=["host.hvo=true"]))[:56]
        'Linux on arm64 has no HVO, so a real host gives up none '
        >>> hvo_sentence(ps.load_scenario("arm64-1t")), hvo_sentence(ps.load_scenario("seed-1t"))
        ('', '')
    """
    vm, host = scenario.vm, scenario.host
    if not (host.hvo and vm.arch.startswith("arm64") and hvo_saved_bytes(vm.arch, vm.backing)):
        return ""
    return (
        "Linux on arm64 has no HVO, so a real host gives up none (host.hvo = true asks what it would change); for what "
        "runs today add --set host.hvo=false"
    )


def spares_sentence(plan: Plan) -> str:
    """That spares are a large part of the memory that they serve, where they are under some policy; else empty.

    Examples:
        >>> import poisonsim as ps
        >>> small = ps.load_scenario("seed-1t", overrides=["vm.memory=64GiB"])
        >>> spares_sentence(ps.run(small, policies=["hgm2m", "migrate1g"], trials=100).plan)[:65]
        'the 4 spares of migrate1g are 6.2 % of the memory that they serve'
    """
    vm = plan.scenario.vm
    most = max(plan.policies, key=plan.spares_of)
    n_spares = plan.spares_of(most)
    if n_spares < MANY_SPARES * vm.n_regions:
        return ""
    spares = "spare" if n_spares == 1 else f"{n_spares} spares"
    return (
        f"the {spares} of {most.label} {'is' if n_spares == 1 else 'are'} {100 * n_spares / vm.n_regions:.2g} % of the "
        "memory that they serve; if the pool serves more VMs of the host, let vm.memory be all of theirs: "
        "poisonsim help size-spares"
    )


def kept_sentence(plan: Plan) -> str:
    """What the figures of policies that leave poison mapped rest on that no kernel has shown yet; else empty.

    Examples:
        >>> from poisonsim.engine.plan import make_plan
        >>> from poisonsim.scenario import load_scenario
        >>> kept_sentence(make_plan(load_scenario("seed-1t"), ["hgm2m", "keep-mapped"], seed=1)).partition(":")[0]
        'keep-mapped leaves poison mapped, as no merged kernel does'
        >>> kept_sentence(make_plan(load_scenario("seed-1t"), ["hgm2m"], seed=1))
        ''
    """
    policies, host = [policy.label for policy in plan.policies if policy.keeps], plan.scenario.host
    if not policies:
        return ""
    leave = "leave" if len(policies) > 1 else "leaves"
    hvo = host.hvo and host.hvo_with_keep == "kept"
    guesses, them = ("and whether HVO stays (host.hvo_with_keep) are guesses", "them") if hvo else ("is a guess", "it")
    return (
        f"{listed(policies)} {leave} poison mapped, as no merged kernel does: how often the host's own kernel reads it "
        f"(host.kernel_reads) {guesses}; vary {them} before you choose"
    )


def reach_sentence(result: Result) -> str:
    """Why a policy may lose less than no TLB reach, or much of it for nothing, where one does; else empty.

    Examples:
        >>> import poisonsim as ps
        >>> reach_sentence(ps.run("seed-1t", policies=["hgm2m"], trials=100))[:47]
        'TLB reach lost below 0 is reach gained: the CPU'
        >>> scan = ps.load_scenario("seed-1t", overrides=["workload.access=sequential"])
        >>> reach_sentence(ps.run(scan, policies=["hgm4k"], trials=100))[:34]
        'A scan walks once per page it ente'
    """
    losses = [result.distribution(policy, "tlb_reach_loss").mean().best for policy in result.policies]
    told = []
    if min(losses) <= -5e-5:
        told.append(f"TLB reach lost below 0 is reach gained: {REACH_GAINED}")
    if result.plan.scenario.workload.access == "sequential" and max(losses) >= _MUCH_REACH:
        told.append(_SCANS)
    return ". ".join(told)


_SCANS = "A scan walks once per page it enters, so lost TLB reach hardly slows it; lost memory counts as lost reach"
REACH_GAINED = "the CPU keeps TLB entries for small pages alone, and splits put them to use"


def _mean(result: Result, policy: str, metric: str) -> Estimate:
    return result.distribution(policy, metric).mean("bytes")
