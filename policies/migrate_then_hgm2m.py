from poisonsim.policy import BACKING, BASE, MIGRATE, SPLIT, UNMAP, Policy, on


class MigrateThenHgm2M(Policy):
    """Move to a spare huge page while there is one, then map around the poison with 2M leaves.

    Keeps every region in its largest leaf while spares last, and loses no healthy memory after that.
    Status: proposed.
    Needs: what migrate1g and hgm2m need.
    Source: the two mechanisms of migrate1g and hgm2m, combined.
    """

    rules = [on(BACKING).do(MIGRATE), on(">BASE").do(SPLIT), on(BASE).do(UNMAP)]
