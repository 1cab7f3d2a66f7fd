from typing import Annotated

from poisonsim.policy import BACKING, REBOOT, UNMAP, Policy, Range, every, on


class RebootAfter(Policy):
    """Lose the huge page; reboot the host in the monthly window once it has leaked n of them.

    Only a reboot gives leaked huge pages back. Firmware repairs bad rows then if it has spare ones for all
    (host.spare_rows, hPPR); where it has not, huge pages with a bad base page are left out of the pool, and the VM
    starts on spares.
    Status: proposed.
    Needs: bad pages that stay out of use over a boot (memmap=, or firmware); rows are repaired by firmware (hPPR).
    Source: Linux 6.12 mm/memory-failure.c me_huge_page() for the leak; JEDEC post-package repair, EDAC memory_repair.
    """

    n: Annotated[int, Range(1, 1000)] = 2
    rules = [on(BACKING).do(UNMAP), every(days=30, when="leaked_regions >= n").do(REBOOT)]
