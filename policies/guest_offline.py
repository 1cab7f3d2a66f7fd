from poisonsim.policy import BACKING, OFFLINE, UNMAP, Policy, on


class GuestOffline(Policy):
    """Ask the guest to vacate the region, and plug a spare huge page in; lose it where the guest cannot.

    The guest migrates what lies there to other memory of its own and unplugs the block; without a spare the block stays
    away. Regions with memory that the guest cannot move (vm.unmovable) meet the status quo.
    Status: proposed.
    Needs: a guest with virtio-mem or memory hotplug, and memory of its own to move to.
    Source: virtio-mem unplug of a block (QEMU docs, virtio-mem); Linux memory hotplug, offlining of ZONE_MOVABLE.
    """

    rules = [on(BACKING).do(OFFLINE), on(BACKING).do(UNMAP)]
