from poisonsim.policy import BACKING, UNMAP, Policy, on


class Unmap1GPrivate(Policy):
    """Lose the whole huge page, but dissolve it (what Linux does today for private mappings).

    With an anonymous mapping memory_failure() drops the last reference and dissolves the page: its vmemmap is
    restored, the healthy base pages go back to the buddy allocator, and the hugetlb pool is one page smaller.
    Status: mainline.
    Needs: any Linux; as of 6.12.
    Source: Linux 6.12 mm/memory-failure.c me_huge_page(), mm/hugetlb.c dissolve_free_hugetlb_folio().
    """

    mapping = "private"
    rules = [on(BACKING).do(UNMAP)]
