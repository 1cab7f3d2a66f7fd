from poisonsim.policy import BACKING, KEEP, Policy, on


class KeepMapped(Policy):
    """Leave the huge page mapped, poison and all; take the bad pages out only when the VM closes.

    The guest is told of the poisoned base page and retires it, or consumes it again where it fails to. The rest of the
    huge page stays in use, and is dissolved when its file is truncated or closed.
    Status: patches, not merged.
    Needs: memfd with MFD_MF_KEEP_UE_MAPPED, patches of February 2026; HVO is an open point (host.hvo_with_keep).
    Source: J. Yan, MFD_MF_KEEP_UE_MAPPED v3, 20260203192352.2674184-1-jiaqiyan@google.com.
    """

    rules = [on(BACKING).do(KEEP)]
