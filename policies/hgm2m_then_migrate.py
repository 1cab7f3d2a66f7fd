from typing import Annotated

from poisonsim.policy import BASE, MIGRATE, SPLIT, UNMAP, Policy, Range, on


class Hgm2MThenMigrate(Policy):
    """Map around the poison with 2M leaves; move the region to a spare huge page at its n-th poison.

    A region that is hit again and again lies on a failing part; while spares are left it is worth one of them.
    Status: hypothetical.
    Source: HGM as in hgm2m, the move as in migrate1g.
    """

    n: Annotated[int, Range(1, 512)] = 3
    rules = [
        on(">BASE", when="hits_in_region >= n").do(MIGRATE),
        on(BASE, when="hits_in_region >= n").do(MIGRATE),
        on(">BASE").do(SPLIT),
        on(BASE).do(UNMAP),
    ]
