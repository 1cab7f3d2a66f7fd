from poisonsim.policy import BACKING, UNMAP, Policy, on


class Unmap1G(Policy):
    """Lose the whole huge page (what Linux does today for shared mappings).

    memory_failure() unmaps the entire hugetlb page from every process and keeps its own reference, so the page
    cache holds it and the pool never gets it back: the huge page is leaked until the host reboots.
    Status: mainline.
    Needs: any Linux; as of 6.12.
    Source: Linux 6.12 mm/memory-failure.c me_huge_page(), fs/hugetlbfs/inode.c hugetlbfs_error_remove_folio().
    """

    mapping = "shared"
    rules = [on(BACKING).do(UNMAP)]
