"""What stands behind a verdict: the largest part of a host's cost, what follows a loss, and reach that is gained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poisonsim.results.statistics import Estimate
from poisonsim.results.words import in_bytes

if TYPE_CHECKING:
    from poisonsim.results.result import Result

_PARTS = {
    "vmemmap_bytes": "given-up HVO (vmemmap)",
    "reserved_bytes": "spares still held",
    "table_bytes": "page tables",
    "direct_map_bytes": "page tables of the direct map",
    "host_lost_bytes": "lost memory",
}
"""The sum that `capacity_cost_bytes` is, in words."""
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
    cost = _mean(result, policy, "capacity_cost_bytes")
    parts = {name: _mean(result, policy, name).best for name in _PARTS}
    largest = max(parts, key=lambda name: parts[name])
    if largest == "host_lost_bytes" or 2 * parts[largest] < cost.best or cost.best == 0:
        return ""
    size, whole = (in_bytes(Estimate(value, value, value, "bytes")) for value in (parts[largest], cost.best))
    of = f"{size.value} of {whole}" if size.unit == whole.unit else f"{size} of {whole}"
    of = f"all {whole}" if str(size) == str(whole) else of
    return f"Most of what {policy} costs the host is {_PARTS[largest]}: {of}"


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


def reach_sentence(result: Result) -> str:
    """Why a policy may lose less than no TLB reach, where one does; else empty.

    Examples:
        >>> import poisonsim as ps
        >>> reach_sentence(ps.run("seed-1t", policies=["hgm2m"], trials=100))[:47]
        'TLB reach lost below 0 is reach gained: the CPU'
    """
    losses = [result.distribution(policy, "tlb_reach_loss").mean().best for policy in result.policies]
    return f"TLB reach lost below 0 is reach gained: {REACH_GAINED}" if min(losses) <= -5e-5 else ""


REACH_GAINED = "the CPU keeps TLB entries for small pages alone, and splits put them to use"


def _mean(result: Result, policy: str, metric: str) -> Estimate:
    return result.distribution(policy, metric).mean("bytes")
