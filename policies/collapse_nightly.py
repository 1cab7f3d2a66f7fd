from poisonsim.policy import BASE, COLLAPSE, SPLIT_TO, UNMAP, Policy, every, on


class CollapseNightly(Policy):
    """Map the hit region with 4K at once, and each night by the largest leaves that hold no poison.

    Splitting is simple and quick; collapsing costs a second per huge page, at a time when it hurts least.
    Status: patches, not merged.
    Needs: HGM with MADV_COLLAPSE: the series of February 2023.
    Source: J. Houghton, HGM v1 and v2 (MADV_SPLIT, MADV_COLLAPSE), 20230218002819.1486479-1-jthoughton@google.com.
    """

    rules = [on(">BASE").do(SPLIT_TO(BASE)), on(BASE).do(UNMAP), every(days=1).do(COLLAPSE)]
