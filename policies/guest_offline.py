from poisonsim.policy import BACKING, KEEP, OFFLINE, Policy, on


class GuestOffline(Policy):
    """Ask the guest to vacate the region, and plug in a spare; keep the poison mapped where it cannot.

    The poison stays mapped, so that the guest can move the rest to other memory of its own and unplug the block;
    without a spare the block stays away. Regions with memory that cannot move (vm.unmovable) stay as they are.
    Status: hypothetical.
    Needs: what keep-mapped needs, a guest with virtio-mem or memory hotplug, and memory of its own to move to.
    Source: virtio-mem unplug of a block (QEMU docs, virtio-mem); Linux memory hotplug, offlining of ZONE_MOVABLE.
    """

    rules = [on(BACKING).do(OFFLINE), on(BACKING).do(KEEP)]
