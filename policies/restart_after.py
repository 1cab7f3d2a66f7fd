from typing import Annotated

from poisonsim.policy import BACKING, RESTART, UNMAP, Policy, Range, on


class RestartAfter(Policy):
    """Lose the huge page, and restart the guest at its n-th poison: spares replace what was lost.

    On reset QEMU discards the poisoned huge pages, and fresh ones are taken from the pool at the next touch; without a
    spare there is no restart. A guest that reads poison it needs is restarted, too, and not counted as lost.
    Status: proposed.
    Needs: the QEMU series of February 2025, said to be in QEMU 10 (from memory).
    Source: W. Roche, QEMU 10: RAMBlock page size recorded with the poison, ram_block_discard_range() on reset.
    """

    n: Annotated[int, Range(1, 1000)] = 1
    rules = [on(BACKING, when="hits_in_vm >= n").do(RESTART), on(BACKING).do(UNMAP)]
