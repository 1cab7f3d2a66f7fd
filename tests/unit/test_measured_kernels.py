"""What three real kernels did with one poisoned page, row by row: the policies of mainline Linux do the same.

Linux 6.1, 6.12 and 7.3 with poison by madvise and by injected machine checks: pages that a touch no longer reaches,
what the hugetlb pool has left, and what comes back to the buddy allocator after exit.
"""

from __future__ import annotations

import numpy as np
import pytest

from poisonsim.engine.block import follow
from poisonsim.engine.plan import make_plan
from poisonsim.engine.state import state_columns
from poisonsim.faults.history import History
from poisonsim.scenario import Host, Scenario, Vm

PAGES = {"1G": 262_144, "2M": 512}


def after(policy: str, backing: str, *, mapping: str, spares: int = 0, corrected: bool = False) -> dict[str, int]:
    """The state after one error, or corrected errors that pass the threshold, in a VM of two huge pages."""
    vm = Vm(memory={"1G": "2GiB", "2M": "4MiB"}[backing], backing=backing)
    plan = make_plan(Scenario(vm=vm, host=Host(mapping=mapping, spares=spares)), [policy], seed=1, any_host=True)
    one, when = np.ones(1, np.uint8), np.full(1, 0.5)
    history = History(
        trial=np.zeros(1, np.int64), stratum=np.zeros(1, np.int64), start=np.array([0, 1]), page=np.array([77]),
        years=when, born=when, fate=np.full(1, 0.9), ar=one, mode=255 * one, corrected=one * corrected,
    )  # fmt: skip
    (paths,) = follow(plan, history, 0)
    last = paths.states[paths.state[-1] if len(paths.state) else 0]
    return dict(zip(state_columns(plan.ladder.sizes), last.tolist(), strict=True))


@pytest.mark.parametrize("backing", ["1G", "2M"])
def test_private_memory_is_lost_whole_and_dissolved(backing: str) -> None:
    """SIGBUS on every address; the pool one page smaller; all but the bad page back to the buddy allocator."""
    state = after("unmap1g-private", backing, mapping="private")
    assert state["guest_lost_pages"] == PAGES[backing]
    assert (state["dissolved_regions"], state["leaked_regions"]) == (1, 0)
    assert (state["stranded_pages"], state["host_lost_pages"]) == (PAGES[backing] - 1, 1)
    assert state["restored_regions"] == 1  # dissolving takes its vmemmap first


@pytest.mark.parametrize("backing", ["1G", "2M"])
def test_shared_memory_is_lost_whole_and_leaked(backing: str) -> None:
    """The pool keeps its size and has one free page less, also after exit: the whole huge page is leaked."""
    state = after("unmap1g", backing, mapping="shared")
    assert state["guest_lost_pages"] == PAGES[backing]
    assert (state["dissolved_regions"], state["leaked_regions"]) == (0, 1)
    assert (state["stranded_pages"], state["host_lost_pages"]) == (0, PAGES[backing])
    assert state["restored_regions"] == 0


@pytest.mark.parametrize("mapping", ["private", "shared"])
@pytest.mark.parametrize("backing", ["1G", "2M"])
def test_soft_offline_with_a_spare_moves_the_page_and_dissolves_the_old_one(backing: str, mapping: str) -> None:
    """No signal, data intact, still one huge page; the pool one smaller, private and shared alike."""
    state = after("soft-offline", backing, mapping=mapping, spares=1, corrected=True)
    assert (state["guest_lost_pages"], state["guest_faults"], state[f"leaves_{backing}"]) == (0, 0, 2)
    assert (state["spares_used"], state["dissolved_regions"], state["leaked_regions"]) == (1, 1, 0)
    assert (state["stranded_pages"], state["host_lost_pages"]) == (PAGES[backing] - 1, 1)


@pytest.mark.parametrize("mapping", ["private", "shared"])
def test_soft_offline_without_a_spare_changes_nothing(mapping: str) -> None:
    """ENOMEM; free base pages do not help."""
    state = after("soft-offline", "1G", mapping=mapping, corrected=True)
    assert state["leaves_1G"] == 2 and state["spares_exhausted"] == state["fallbacks"] == 1
    ignored = ("leaves_1G", "spares_exhausted", "fallbacks")
    assert not any(value for name, value in state.items() if name not in ignored)


@pytest.mark.parametrize("policy", ["unmap1g", "hgm2m", "keep-mapped"])
def test_a_machine_check_splits_the_direct_map_to_511_and_511(policy: str) -> None:
    """Two new table pages turn its 1G leaf into 511 of 2M and 511 of 4K."""
    assert after(policy, "1G", mapping="shared")["direct_map_pages"] == 2
