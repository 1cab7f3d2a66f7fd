from typing import Annotated

from poisonsim.policy import BASE, MIGRATE, SPLIT, UNMAP, Policy, Range, on


class Hgm2MThenMigrate(Policy):
    """Map around the poison with 2M leaves; move the region to a spare huge page at its n-th poison.

    Status: hypothetical.
    Needs: what hgm2m and migrate1g need.
    Source: the two mechanisms of hgm2m and migrate1g, combined.
    """

    n: Annotated[int, Range(1, 512)] = 3
    rules = [
        on(">BASE", when="hits_in_region >= n").do(MIGRATE),
        on(BASE, when="hits_in_region >= n").do(MIGRATE),
        on(">BASE").do(SPLIT),
        on(BASE).do(UNMAP),
    ]
