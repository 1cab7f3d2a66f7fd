from poisonsim.policy import BASE, UNMAP_STAGE2, Policy, on


class KeepMappedHole(Policy):
    """Leave the huge page mapped in the process, and cut the poisoned base page out of stage 2 only.

    The guest cannot reach the page any more: a touch exits to the VMM, which injects the machine check. Only stage 2 is
    split. Changing the memslot zaps all of stage 2, and vCPUs map it again as they go.
    Status: hypothetical.
    Needs: what keep-mapped needs, and memslots that the VMM can split.
    Source: keep-mapped with a memslot split, or KVM Userfault (v1 Dec 2024 to v3 2025), in place of the VMM's caution.
    """

    rules = [on(">BASE").do(UNMAP_STAGE2), on(BASE).do(UNMAP_STAGE2)]
