from poisonsim.policy import BACKING, MIGRATE, UNMAP, Policy, on


class Migrate1G(Policy):
    """Move the healthy data to a spare huge page; lose the huge page when no spare is left.

    The copy skips the poisoned base page, which the guest has retired. Mainline migrates only before the error
    (soft offline); after it, user space can copy with pread() and map a new page, at the price of a pause.
    Status: proposed.
    Needs: Linux 6.12 (pread() up to the poison), a VMM that maps anew; no vhost-user, no VFIO.
    Source: M. Kravetz in the HGM v1 thread; Linux 6.12 fs/hugetlbfs/inode.c adjust_range_hwpoison().
    """

    rules = [on(BACKING).do(MIGRATE), on(BACKING).do(UNMAP)]
