"""What a machine check says, from its registers.

Intel SDM volume 3, "Interpreting machine check codes"; AMD Processor Programming References, "Machine Check
Architecture", and how Linux reads both.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from poisonsim.logs.codes import FoundBy, Kind, Severity
from poisonsim.logs.events import I8, I16, I64, Bools

INTEL, AMD = 0, 2
"""Vendors as the kernel numbers them."""
_READ, _WRITE, _SCRUB = 1, 2, 4
_PHYSICAL = 2
UMC = 0x96
"""Hardware id of AMD's unified memory controllers in MCA_IPID."""


class MachineChecks(NamedTuple):
    """Decoded machine checks, each an array of one length.

    Args:
        is_memory: Whether it is of the memory at all: a memory controller's, or data or instructions that could not
            be used, bool[n].
        kind, severity, found_by, channel, address, grain_bytes: As in `EventBatch`.
        n_errors: Its `count`, int64[n].
    """

    is_memory: Bools
    kind: I8
    severity: I8
    found_by: I8
    channel: I16
    n_errors: I64
    address: I64
    grain_bytes: I64


def decode(status: I64, address: I64, misc: I64, amd: Bools, umc: Bools | None = None) -> MachineChecks:
    """What machine checks say.

    The memory controllers of AMD processors since Zen log an address within the controller, which is no physical
    address of the host: it is left out. Of the codes below memory errors only that a core met poison means the same.

    Args:
        status: MCi_STATUS, the 64 bits of it, int64[n].
        address: MCi_ADDR, int64[n]; 0 or less where there is none.
        misc: MCi_MISC, int64[n].
        amd: Which ones AMD processors logged, bool[n].
        umc: Which of these come from a unified memory controller, bool[n]; if not given, none.

    Examples:
        >>> status = np.array([0xBD000000001000C1], np.uint64).view(np.int64)
        >>> found = decode(status, np.array([0x4F7B113100]), np.array([0x86]), np.array([False]))
        >>> Kind(found.kind[0]).label, Severity(found.severity[0]).label, FoundBy(found.found_by[0]).label
        ('UE', 'AO', 'scrub')
    """
    s = status.view(np.uint64)

    def bit(n: int) -> Bools:
        return (s >> np.uint64(n) & np.uint64(1)).astype(np.bool_)

    code = (s & np.uint64(0xEFFF)).astype(np.int64)  # bit 12 says that reports were filtered
    model_code = (s >> np.uint64(16) & np.uint64(0xFFFF)).astype(np.int64)
    controller = (code & 0xFF80) == 0x80
    transaction = np.where(controller, code >> 4 & 7, 0)
    deferred = bit(44) & amd & ~bit(61)
    uncorrected = bit(61) | deferred | ((transaction == _SCRUB) & (model_code == 0x10) & ~amd)
    consumed = np.where(amd, bit(43) & bit(58), (code == 0x134) | (code == 0x150)) & bit(61)
    ecc = np.zeros(len(s), np.bool_) if umc is None else amd & umc & (model_code & 0x3F == 0)  # of the DRAM
    severity = np.full(len(s), Severity.UNKNOWN, np.int8)
    severity[uncorrected] = Severity.AO
    severity[np.where(amd, bit(61), uncorrected & bit(56) & bit(55))] = Severity.AR
    severity[uncorrected & bit(57)] = Severity.FATAL
    found_by = np.full(len(s), FoundBy.UNKNOWN, np.int8)
    found_by[(transaction == _READ) | consumed] = FoundBy.READ
    found_by[transaction == _WRITE] = FoundBy.WRITE
    found_by[amd & ((code & 0xFFF0) == 0x110)] = FoundBy.READ
    found_by[np.where(amd, bit(40), transaction == _SCRUB)] = FoundBy.SCRUB
    channel = np.where(controller & ~amd & (code & 15 != 15), code & 15, -1).astype(np.int16)
    mode = misc >> 6 & 7
    known = bit(58) & (address > 0) & np.where(amd, consumed, ~bit(59) | (mode == _PHYSICAL) | (mode == 0))
    low = np.where(bit(59) & ~amd, misc & 63, 6)
    grain = np.where(known & (low < 48), np.int64(1) << np.minimum(low, 47), 0)
    corrected = (s >> np.uint64(38) & np.uint64(0x7FFF)).astype(np.int64)
    is_memory = np.where(amd, ecc | consumed, controller | consumed)
    return MachineChecks(
        is_memory, np.where(uncorrected, Kind.UE, Kind.CE).astype(np.int8), severity, found_by, channel,
        np.where(uncorrected | amd, 1, np.maximum(corrected, 1)), np.where(known, address, -1), grain,
    )  # fmt: skip


def umc_place(ipid: I64, syndrome: I64) -> tuple[I64, I64]:
    """Channel and chip-select row that a unified memory controller names in MCA_IPID and MCA_SYND, int64[n] each.

    Examples:
        >>> [int(place[0]) for place in umc_place(np.array([0x9600350F00]), np.array([0x0A800A01]))]
        [3, 1]
    """
    return (ipid & 0xFFFFFFFF) >> 20, syndrome & 7


def is_umc(ipid: I64) -> Bools:
    """Which values of MCA_IPID are of unified memory controllers, bool[n]."""
    found: Bools = (ipid >> 32 & 0xFFF) == UMC
    return found
