from poisonsim.policy import BASE, SPLIT, UNMAP, Policy, on


class Hgm2M(Policy):
    """Map around the poison with the largest leaves that fit (HGM with intermediate sizes).

    A hit 1 GiB leaf becomes 2 MiB leaves, and only the hit 2 MiB becomes base pages: two page-table pages per
    table. On poison the kernel splits to the optimal sizes and unmaps the raw page only.
    Status: patches, not merged.
    Needs: HGM: the series of February 2023, and that on memory_failure() of April.
    Source: memory-failure on HGM, lore.kernel.org 20230428004139.2899856-1-jiaqiyan@google.com.
    """

    rules = [on(">BASE").do(SPLIT), on(BASE).do(UNMAP)]
