from typing import Annotated

from poisonsim.policy import BASE, EVACUATE, SPLIT, UNMAP, Policy, Range, on


class EvacuateAfter(Policy):
    """Map around the poison with 2M leaves; live-migrate the VM to a clean host at its n-th poison.

    Status: hypothetical.
    Needs: HGM, spare hosts, and a VMM that takes poison along (UFFDIO_POISON marks whole huge pages only).
    Source: J. Yan, 20250604050902.3944054-1-jiaqiyan@google.com (move when distinct errors pass a number).
    """

    n: Annotated[int, Range(1, 1000)] = 3
    rules = [
        on(">BASE", when="hits_in_vm >= n").do(EVACUATE),
        on(BASE, when="hits_in_vm >= n").do(EVACUATE),
        on(">BASE").do(SPLIT),
        on(BASE).do(UNMAP),
    ]
