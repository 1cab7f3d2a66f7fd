from poisonsim.policy import BASE, SPLIT, UNMAP, Policy, on


class HgmContig(Policy):
    """Map around the poison with the largest leaves that fit, runs of contiguous entries among them.

    As hgm2m, and the healthy rest of each broken leaf keeps its contiguous bit (arm64 contPMD and contPTE, Svnapot):
    92 leaves instead of 1,022 in a hit 1 GiB of arm64 with 4K pages, and not one table page fewer. It is the process
    table that has them; KVM's stage 2 has none today, and the guest gains only with host.stage2_contiguous = true.
    Status: patches, not merged.
    Needs: HGM, its RFC of 2022 for arm64; arm64 (RISC-V with Svnapot is hypothetical).
    Source: J. Houghton in the HGM RFC thread, lore.kernel.org 20220624173656.2033256-1-jthoughton@google.com.
    """

    needs_contiguous = True
    rules = [on(">BASE").do(SPLIT), on(BASE).do(UNMAP)]
