"""What is to be simulated, resolved to integers once: the same for every block, thread and machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poisonsim.catalog import Costs, load_costs
from poisonsim.engine.codes import (
    G_ANSWERS,
    G_CHUNK_SHIFT,
    G_DIRECT_MAP,
    G_END_AT_LOSS,
    G_FREE_PAGES,
    G_GROUP_SHIFT,
    G_MOVES_POISON,
    G_REFAULT_NS,
    G_REGION_PAGES,
    G_REGIONS,
    G_REPLENISH,
    G_RESTART_AT_LOSS,
    G_RESTORE_PAGES,
    G_RESTORES_SPLIT,
    G_SHARED,
    G_SPARE_HOSTS,
    G_SPARE_ROWS,
    G_SPARES,
    G_STAGE2_ONLY,
    G_STALL_CLEAR_NS,
    G_STALL_COLLAPSE_NS,
    G_STALL_COPY_NS,
    G_STALL_EVACUATE_NS,
    G_STALL_MIGRATE_NS,
    G_STALL_REBOOT_NS,
    G_STALL_RESTART_NS,
    G_STALL_RESTORE_NS,
    G_STALL_UNMAP_NS,
    G_TABLES,
    G_UNMOVABLE,
    G_VCPUS,
    G_VM_PAGES,
    N_GEOMETRY,
)
from poisonsim.engine.guest import GuestLaw
from poisonsim.engine.known import Told
from poisonsim.engine.state import LEAVES, STRATUM
from poisonsim.errors import PolicyError
from poisonsim.faults.arrivals import arrivals_of
from poisonsim.faults.corrected import bystander_lines
from poisonsim.faults.field import detection_of, field_model
from poisonsim.faults.strata import Strata
from poisonsim.faults.streams import STREAM_VERSION
from poisonsim.memory import ARCHITECTURES, HvoWithHgm, Ladder, hvo_saved_bytes, ladder
from poisonsim.policy import CompiledPolicy, Policy, Situation, compile_policy, load_policies, load_policy
from poisonsim.policy.check import unmet_need
from poisonsim.policy.needs import needs_of, settings_to_add
from poisonsim.scenario import FieldFaults, Scenario
from poisonsim.translation.cpus import load_cpu
from poisonsim.units import DAYS_PER_YEAR, GIB, MIB, page_bytes

I64 = NDArray[np.int64]

# Blocks hold about this many errors, and never simulate more than this many trials: some ten milliseconds of work,
# which makes what a block costs besides its errors small, on arrays that stay in the caches. Where few trials are
# simulated, a block counts as many as floats can. Part of STREAM_VERSION.
_ERRORS_PER_BLOCK = 1 << 18
_MOST_TRIALS_PER_BLOCK = 1 << 20
_MOST_NOMINAL_PER_BLOCK = 1 << 52

# More blocks are more than anyone can wait for, and all trials together must be countable.
_MOST_BLOCKS = 10_000_000
MOST_TRIALS = 1 << 62


@dataclass(frozen=True)
class Plan:
    """A scenario, policies and a seed, ready for the kernel.

    Attributes:
        ladder: Leaf sizes of the VM's memory.
        policies: Checked rule tables in the order asked for.
    """

    scenario: Scenario
    seed: int
    ladder: Ladder
    policies: tuple[CompiledPolicy, ...]

    @property
    def labels(self) -> list[str]:
        """Labels of the policies."""
        return [policy.label for policy in self.policies]

    @cached_property
    def costs(self) -> Costs:
        """What each step of handling an error takes."""
        return load_costs(self.scenario.host.costs)

    @cached_property
    def strata(self) -> Strata:
        """How trials are shared out over numbers of incidents."""
        return arrivals_of(self.scenario).strata

    @cached_property
    def errors_per_trial(self) -> float:
        """About how many errors are simulated per trial, those that are not simulated included."""
        strata = self.strata
        if isinstance(self.scenario.faults, FieldFaults):
            model = field_model(self.scenario)
            return model.lines_per_trial(strata) + (bystander_lines(model) if model.threshold else 0.0)
        return arrivals_of(self.scenario).mean if strata.plain else strata.p_any * strata.per_simulated(1.0, 0.0)

    @cached_property
    def block_trials(self) -> int:
        """Trials in one block, a power of two that depends on the scenario only."""
        least, most = (1, _MOST_TRIALS_PER_BLOCK) if self.strata.plain else (2, _MOST_NOMINAL_PER_BLOCK)
        wanted = np.log2(_ERRORS_PER_BLOCK) - np.log2(max(self.errors_per_trial, 1e-300))
        return int(np.clip(2.0 ** round(wanted), least, most))

    @property
    def most_trials(self) -> int:
        """More trials than these cannot be run."""
        return min(_MOST_BLOCKS * self.block_trials, MOST_TRIALS)

    @cached_property
    def run_id(self) -> str:
        """SHA-256 over all that can change a result; trials, threads and progress are not in it."""
        identity = {
            "scenario": self.scenario.to_dict(),
            "inputs": self._inputs(),
            "policies": [[policy.label, policy.digest] for policy in self.policies],
            "seed": self.seed,
            "stream_version": STREAM_VERSION,
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def _inputs(self) -> str:
        """What the files say that the scenario only names: CPU, costs, fault table, laws, DIMMs and their layout."""
        host, faults = self.scenario.host, self.scenario.faults
        inputs: list[object] = [load_cpu(host.cpu), self.costs]
        if isinstance(faults, FieldFaults):
            model = field_model(self.scenario)
            inputs += [model.table, model.laws, model.memory.address_map]
        return repr(inputs)

    @cached_property
    def zero_states(self) -> I64:
        """The state before any error, every region one leaf, by stratum: int64[n_strata, n_columns]."""
        states = np.zeros((len(self.strata.count), LEAVES + len(self.ladder.sizes)), np.int64)
        states[:, STRATUM] = np.arange(len(states))
        states[:, LEAVES] = self.scenario.vm.n_regions
        return states

    @cached_property
    def shifts(self) -> I64:
        """log2 of base pages per leaf, by level."""
        return np.array([pages.bit_length() - 1 for pages in self.ladder.pages], np.int64)

    @cached_property
    def geometry(self) -> I64:
        """The kernel's view of VM and host; a policy's own entries are filled in by `geometry_of`."""
        vm, host, costs = self.scenario.vm, self.scenario.host, self.costs
        region_shift = int(self.shifts[0])
        chunk_pages = max(GIB // vm.base_bytes, 1)
        vector = np.zeros(N_GEOMETRY, np.int64)
        vector[G_REGIONS] = vm.n_regions
        vector[G_VM_PAGES] = -(-vm.n_base_pages // chunk_pages) * chunk_pages
        vector[G_END_AT_LOSS] = vm.on_loss == "end"
        vector[G_DIRECT_MAP] = ARCHITECTURES[vm.arch].direct_map_splits
        vector[G_CHUNK_SHIFT] = chunk_pages.bit_length() - 1 if vector[G_DIRECT_MAP] else region_shift
        vector[G_GROUP_SHIFT] = max(2 * MIB // vm.base_bytes, 1).bit_length() - 1
        vector[G_STALL_UNMAP_NS] = costs.shootdown_ns
        vector[G_STALL_MIGRATE_NS] = (
            costs.shootdown_ns + (costs.copy_gib_ns + costs.clear_gib_ns) * vm.region_bytes // GIB
        )
        vector[G_STALL_CLEAR_NS] = costs.clear_gib_ns * vm.region_bytes // GIB
        vector[G_STALL_EVACUATE_NS] = costs.evacuate_ns
        vector[G_STALL_RESTART_NS] = costs.restart_ns
        vector[G_STALL_COLLAPSE_NS] = costs.collapse_gib_ns * vm.region_bytes // GIB
        vector[G_STALL_COPY_NS] = costs.copy_gib_ns * vm.region_bytes // GIB
        vector[G_STALL_REBOOT_NS] = costs.reboot_ns
        vector[G_SPARE_HOSTS] = host.spare_hosts
        vector[G_MOVES_POISON] = host.moves_poison
        vector[G_RESTART_AT_LOSS] = vm.on_loss == "restart"
        vector[G_UNMOVABLE] = int(np.ceil(vm.unmovable * vm.n_regions))
        vector[G_SPARE_ROWS] = host.spare_rows
        vector[G_REGION_PAGES] = vm.pages_per_region
        vector[G_FREE_PAGES] = host.free_bytes // vm.base_bytes
        vector[G_REPLENISH] = int(host.replenish * 2.0**53)
        vector[G_REFAULT_NS] = costs.refault_leaf_ns
        vector[G_VCPUS] = vm.vcpus
        return vector

    def geometry_of(self, policy: CompiledPolicy) -> I64:
        """`geometry` as one policy meets it."""
        vm, host, costs = self.scenario.vm, self.scenario.host, self.costs
        vector = self.geometry.copy()
        vector[G_SPARES] = self.spares_of(policy)
        vector[G_SHARED] = policy.leaks
        vector[G_ANSWERS] = sum(1 << act for act in policy.answers)
        vector[G_STAGE2_ONLY] = policy.stage2_only
        vector[G_TABLES] = 1 if policy.stage2_only else host.page_tables + 1
        hvo = self.hvo_of(policy)
        if host.hvo and hvo != "off-everywhere":
            vector[G_RESTORE_PAGES] = hvo_saved_bytes(vm.arch, vm.backing) // vm.base_bytes
            if vector[G_RESTORE_PAGES] > 0:
                vector[G_STALL_RESTORE_NS] = costs.hvo_restore_gib_ns * vm.region_bytes // GIB
            vector[G_RESTORES_SPLIT] = hvo == "off-where-split"
        return vector

    def hvo_of(self, policy: CompiledPolicy) -> HvoWithHgm:
        """What a policy does to the vmemmap optimisation of a host that has it.

        High-granularity mapping needs struct pages that HVO has freed, and so may poison that stays mapped.
        """
        host = self.scenario.host
        if policy.keeps and host.hvo_with_keep == "off-everywhere":
            return "off-everywhere"
        return host.hvo_with_hgm if policy.uses_hgm else "kept"

    def spares_of(self, policy: CompiledPolicy) -> int:
        """Spare huge pages that the host keeps under a policy: its own, or those a restart of a lost VM may take."""
        restarts = self.scenario.vm.on_loss == "restart"
        return self.scenario.host.spares if restarts and not policy.takes_spares else policy.spares

    def storm_ns(self, n_leaves: int, n_locks: int) -> int:
        """Nanoseconds until the virtual CPUs, side by side, have taken a fault for each of so many leaves.

        Args:
            n_leaves: Leaves to map again.
            n_locks: Page-table locks of the process that they take.
        """
        costs, vcpus = self.costs, self.scenario.vm.vcpus
        return max(n_leaves * costs.refault_leaf_ns // vcpus, n_leaves * costs.refault_locked_ns // min(n_locks, vcpus))

    def steps_down(self, policy: CompiledPolicy) -> I64:
        """The level to which a policy's SPLIT leads from each: int64[n_levels]."""
        levels = range(len(self.ladder.sizes))
        return np.array([self.ladder.step_down(level, policy.contiguous) for level in levels], np.int64)

    def stall_split(self, policy: CompiledPolicy) -> I64:
        """Nanoseconds that the VM waits for one split under a policy: int64[n_levels, n_levels].

        Each table gets its pages, then virtual CPUs fault until stage 2 maps every leaf again. Under one page-table
        lock for all tables of the process they do so one by one, with one per lowest table side by side. Where stage 2
        alone is split, all of it is zapped and faulted in when the hole is cut, and only then.
        """
        host, arch, costs = self.scenario.host, ARCHITECTURES[self.ladder.arch], self.costs
        n_tables = 1 if policy.stage2_only else host.page_tables + 1
        stall: I64 = self.ladder.table_pages_matrix() * n_tables * costs.split_table_page_ns
        if policy.stage2_only:
            return stall
        for level, size in enumerate(self.ladder.sizes):
            for target in range(level + 1, len(self.ladder.sizes)):
                to = self.ladder.sizes[target]
                n_leaves = page_bytes(size) // page_bytes(arch.stage2_size(to, host.stage2_contiguous))
                spans = page_bytes(arch.entry_size(to)) * arch.entries_per_table
                n_locks = max(page_bytes(size) // spans, 1) if host.table_lock == "per-pmd" else 1
                stall[level, target] += self.storm_ns(n_leaves, n_locks)
        return stall

    def told(self, policy: CompiledPolicy) -> Told:
        """What the kernel is told of one policy, worked out once."""
        told = self._told.get(id(policy))
        if told is None:
            told = self._told[id(policy)] = Told.of(
                policy, self.geometry_of(policy), self.ladder.table_pages_matrix(), self.stall_split(policy),
                self.steps_down(policy), self.shifts, self.guest, self.zero_states.shape[1],
            )  # fmt: skip
        return told

    @cached_property
    def _told(self) -> dict[int, Told]:  # by the identity of policies, which those in here keep alive
        return {}

    @cached_property
    def guest(self) -> GuestLaw:
        """What the guest makes of memory it loses."""
        scenario, years = self.scenario, self.scenario.horizon.years
        reads = scenario.host.kernel_reads
        return GuestLaw.of(scenario.vm, self.ladder, detection_of(scenario), self.costs, years, reads)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as plain data, so that a process without a policy's module can load it from its file."""
        return restore_plan, (self.scenario, self.seed, [policy.to_dict() for policy in self.policies])

    def describe(self) -> dict[str, Any]:
        """Everything that a run folder must say to be recomputed, as plain data."""
        return {
            "run_id": self.run_id,
            "seed": self.seed,
            "stream_version": STREAM_VERSION,
            "block_trials": self.block_trials,
            "scenario": self.scenario.to_dict(),
            "policies": [policy.to_dict() for policy in self.policies],
        }


def make_plan(
    scenario: Scenario, policies: Iterable[str | Policy | type[Policy]], seed: int, *, any_host: bool = False,
    counts_ces: bool = False,
) -> Plan:  # fmt: skip
    """A plan with every policy loaded and checked.

    Args:
        scenario: What they act in.
        policies: Names, files, classes or instances.
        seed: Of all that is drawn.
        any_host: Check policies as for a host that has all they ask for, even if that of the scenario lacks it.
        counts_ces: The host counts corrected errors, whatever the scenario says.

    Raises:
        PolicyError: All problems of all policies.

    Examples:
        >>> make_plan(Scenario(), ["unmap1g"], seed=7).block_trials
        2048
    """
    situation = situation_of(scenario)
    if counts_ces:
        situation = replace(situation, counts_ces=True)
    if any_host:
        situation = replace(situation, counts_ces=True, spare_hosts=1, moves_poison=True, pinned=False, hgm=True)
    loaded = load_policies(policies)
    compiled: list[CompiledPolicy] = []
    problems: list[str] = []
    for policy in loaded:
        if not any_host and (unmet := unmet_need(policy, situation.ladder)):
            problems.append(unmet)
            continue
        try:
            compiled.append(compile_policy(policy, situation))
        except PolicyError as error:
            problems += error.problems
    needs = [need for policy in loaded for need in needs_of(policy, situation)]
    if sum(not need.met for need in needs) > 1:
        add = settings_to_add(needs, field=isinstance(scenario.faults, FieldFaults))
        problems.append(f"for a host that has all of it, add: {' '.join(add)}")
    if problems:
        raise PolicyError(problems)
    return Plan(scenario, seed, situation.ladder, tuple(compiled))


def situation_of(scenario: Scenario) -> Situation:
    """What a policy of this scenario is compiled for."""
    vm = scenario.vm
    return Situation(
        ladder=ladder(vm.arch, vm.backing, contiguous=vm.contiguous),
        n_regions=vm.n_regions,
        spares=scenario.host.spares,
        mapping=scenario.host.mapping,
        horizon_days=int(scenario.horizon.years * DAYS_PER_YEAR),
        counts_ces=scenario.host.ce_threshold != "off",
        spare_hosts=scenario.host.spare_hosts,
        moves_poison=scenario.host.moves_poison,
        pinned=scenario.host.pinned,
        hgm=scenario.host.hgm,
    )


def restore_plan(scenario: Scenario, seed: int, policies: Iterable[Mapping[str, Any]]) -> Plan:
    """The plan whose policies were written by `CompiledPolicy.to_dict`.

    Rules are data. A `decide` is code: it is loaded from the entry's `source`, or where there is none from where it
    was, and must not have changed.

    Raises:
        PolicyError: A `decide` that cannot be loaded, or is another one now.
    """
    situation = situation_of(scenario)
    return Plan(scenario, seed, situation.ladder, tuple(_restore_policy(entry, situation) for entry in policies))


def _restore_policy(entry: Mapping[str, Any], situation: Situation) -> CompiledPolicy:
    if not entry["has_decide"]:
        return CompiledPolicy.from_dict(entry)
    label = entry["label"]
    if not entry["spec"]:
        raise PolicyError(
            f"policy {label} answers in code and was given as a class; give its file, so that it can be loaded"
        )
    try:
        compiled = compile_policy(load_policy(entry["spec"], source=entry.get("source", "")), situation)
    except PolicyError as error:
        raise PolicyError(f"policy {label} answers in code that cannot be loaded: {error}") from None
    if compiled.digest != entry["digest"]:
        raise PolicyError(f"policy {label} has changed since the run was made; run the command again")
    return compiled
