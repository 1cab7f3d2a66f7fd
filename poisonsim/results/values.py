"""From integer states to metrics: page-table arithmetic, vmemmap and translation, once per distinct state."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from poisonsim.engine.guest import FAULT_PARTS
from poisonsim.engine.plan import Plan
from poisonsim.engine.state import (
    DIRECT_MAP_PAGES,
    DISSOLVED_REGIONS,
    ERRORS,
    EVACUATIONS,
    FALLBACKS,
    GUEST_FAULTS,
    GUEST_LOST_PAGES,
    HOST_LOST_PAGES,
    LEAVES,
    REBOOTS,
    REGIONS_HIT,
    RESTARTS,
    RESTORED_REGIONS,
    SPARES_ADDED,
    SPARES_EXHAUSTED,
    SPARES_USED,
    STALL_NS,
    STRANDED_PAGES,
    TABLE_PAGES,
    VM_LOST,
    WORST_STALL_NS,
)
from poisonsim.memory import direct_map_bytes, table_bytes, vmemmap_bytes
from poisonsim.policy import CompiledPolicy
from poisonsim.results.metrics import Metric, metrics_for
from poisonsim.scenario import Scenario, Workload
from poisonsim.translation import AccessPattern, HotCold, Sequential, Translator, Uniform, Zipf
from poisonsim.translation.cpus import Cpu, load_cpu

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class Valuer:
    """Values every metric of a plan's states.

    Attributes:
        metrics: The metrics, in the order of the columns of `values`.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.metrics: tuple[Metric, ...] = metrics_for(plan.ladder.sizes)
        scenario = plan.scenario
        self._translator = _translator(
            load_cpu(scenario.host.cpu),
            scenario.vm.memory_bytes,
            plan.ladder.sizes,
            access_pattern(scenario),
            tuple(scenario.vm.guest_page_shares.items()),
            scenario.vm.arch,
            scenario.host.stage2_contiguous,
            scenario.workload,
        )

    def column(self, name: str) -> int:
        """Column of a metric in `values`."""
        return [metric.name for metric in self.metrics].index(name)

    def values(self, policy: CompiledPolicy, states: I64) -> F64:
        """Metrics of `states` under `policy`: float64[n_states, n_metrics]."""
        plan, vm = self.plan, self.plan.scenario.vm
        host, base, spares = plan.scenario.host, plan.scenario.vm.base_bytes, plan.spares_of(policy)
        found: dict[str, NDArray[np.generic]] = {
            "errors": states[:, ERRORS],
            "regions_hit": states[:, REGIONS_HIT],
            "guest_lost_bytes": states[:, GUEST_LOST_PAGES] * base,
            "host_lost_bytes": states[:, HOST_LOST_PAGES] * base,
            "stranded_bytes": states[:, STRANDED_PAGES] * base,
            "reserved_bytes": (spares + states[:, SPARES_ADDED] - states[:, SPARES_USED]) * vm.region_bytes,
            "spares_used": states[:, SPARES_USED],
            "spares_exhausted": states[:, SPARES_EXHAUSTED],
            "vm_lost": states[:, VM_LOST],
            "guest_faults": states[:, GUEST_FAULTS] / FAULT_PARTS,
            "stall_seconds": states[:, STALL_NS] / 1e9,
            "worst_stall_seconds": states[:, WORST_STALL_NS] / 1e9,
            "evacuations": states[:, EVACUATIONS],
            "restarts": states[:, RESTARTS],
            "reboots": states[:, REBOOTS],
            "fallbacks": states[:, FALLBACKS],
            "table_bytes": table_bytes(
                plan.ladder, states[:, TABLE_PAGES], page_tables=0 if policy.stage2_only else host.page_tables
            ),
            "direct_map_bytes": direct_map_bytes(vm.arch, states[:, DIRECT_MAP_PAGES]),
            "vmemmap_bytes": np.broadcast_to(
                vmemmap_bytes(
                    arch=vm.arch,
                    backing=vm.backing,
                    hvo=host.hvo,
                    hvo_with_hgm=plan.hvo_of(policy),
                    uses_hgm=True,
                    pool_pages=vm.n_regions + spares,
                    restored_pages=states[:, RESTORED_REGIONS],
                    dissolved_pages=states[:, DISSOLVED_REGIONS],
                ),
                len(states),
            ),
        }
        for level, size in enumerate(plan.ladder.sizes):
            leaves = states[:, LEAVES + level]
            found[f"leaves_{size.lower()}"] = leaves
            found[f"share_{size.lower()}"] = leaves * plan.ladder.pages[level] / vm.n_base_pages
        found["capacity_cost_bytes"] = sum(
            (
                found[name]
                for name in ("table_bytes", "vmemmap_bytes", "direct_map_bytes", "host_lost_bytes", "reserved_bytes")
            ),
            start=np.zeros(len(states), np.int64),
        )
        found |= self._translation(states)
        return np.column_stack([found[metric.name] for metric in self.metrics]).astype(np.float64, copy=False)

    def _translation(self, states: I64) -> dict[str, F64]:
        """Reach, walks and slowdown, evaluated once per distinct mapping and compared with the VM without errors."""
        mappings, place = np.unique(states[:, LEAVES:], axis=0, return_inverse=True)
        mappings = np.concatenate((self.plan.zero_states[:1, LEAVES:], mappings))
        place = place.ravel() + 1
        t = self._translator.evaluate(mappings)
        slowdown = t.cycles / t.cycles[0]
        ends = np.sort(slowdown[:, [0, 2]], axis=1)  # where the VM speeds up, the lowest slope gives the higher end
        loss = 1 - t.reach_bytes / t.reach_bytes[0]
        return {
            "tlb_reach_bytes": t.reach_bytes[place],
            "tlb_reach_loss": np.where(np.abs(loss) < 1e-12, 0.0, loss)[place],  # rounding is no loss
            "walks_per_access": t.walks_per_access[place],
            "slowdown_low": ends[place, 0],
            "slowdown": slowdown[place, 1],
            "slowdown_high": ends[place, 1],
        }


@lru_cache(maxsize=8)
def _translator(
    cpu: Cpu, memory_bytes: int, leaf_sizes: tuple[str, ...], access: AccessPattern,
    guest_page: tuple[tuple[str, float], ...], arch: str, stage2_contiguous: bool, workload: Workload,
) -> Translator:  # fmt: skip
    """One for all runs that translate alike: it keeps tables of what it was asked, which take long to fill."""
    return Translator(
        cpu=cpu,
        memory_bytes=memory_bytes,
        leaf_sizes=leaf_sizes,
        access=access,
        guest_page=dict(guest_page),
        arch=arch,
        stage2_contiguous=stage2_contiguous,
        cycles_per_access=workload.cycles_per_access,
        accesses_per_page_visit=workload.accesses_per_page_visit,
        smt_threads=workload.smt_threads,
        virtualised=workload.virtualised,
    )


def access_pattern(scenario: Scenario) -> AccessPattern:
    """The access pattern of a scenario's workload.

    Examples:
        >>> access_pattern(Scenario())
        Zipf(alpha=0.99, over='4K')
    """
    workload = scenario.workload
    match workload.access:
        case "zipf":
            return Zipf(workload.alpha, over=workload.over)
        case "hot-cold":
            return HotCold(workload.hot, workload.share, over=workload.over)
        case "sequential":
            return Sequential()
        case _:
            return Uniform()
