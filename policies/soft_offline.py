from poisonsim.policy import BACKING, MIGRATE, UNMAP, Policy, on, on_ce


class SoftOffline(Policy):
    """Move a region to a spare huge page on corrected errors; lose the huge page at a UE.

    Linux moves the whole huge page and takes only the suspect base page out of use; without a spare nothing changes.
    What comes without warning, or finds no spare, meets the status quo.
    Status: mainline.
    Needs: Linux 6.12 with vm.enable_soft_offline = 1, and who counts corrected errors (host.ce_threshold).
    Source: Linux 6.12 mm/memory-failure.c, soft_offline_page(), and mm/migrate.c.
    """

    rules = [on_ce(BACKING).do(MIGRATE), on(BACKING).do(UNMAP)]
