"""A small sound log of each format, to be damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from poisonsim.logs import EventBatch, FoundBy, Names, write

FORMATS = (
    "kernel", "journal", "mcelog", "trace", "csv", "rasdaemon", "smartmem", "ipmi-sel", "edac-sysfs", "counters",
    "redfish",
)  # fmt: skip
_TEXTS = {
    "smartmem": "LogTime,MciAddr,error_type_full_name,RowId,src\n1716120124,85750650880,CE.READ,51,sn_1\n" * 2,
    "ipmi-sel": " 1 | 03/02/2025 | 04:11:09 | Memory #0x87 | Correctable ECC | Asserted\n" * 3,
    "edac-sysfs": "/sys/devices/system/edac/mc/mc0/ce_count:4\n/sys/devices/system/edac/mc/mc0/dimm1/dimm_ce_count:3\n",
    "counters": "HardwareCorrupted: 8 kB\n/sys/devices/system/node/node0/memory_failure/total:2\n",
    "redfish": '{"LifeTime": {"CorrectableECCErrorCount": 3}, "@odata.id": "/redfish/v1/M/D1/MemoryMetrics"}\n',
}
_FIRMWARE = "".join(
    f"2024-01-01T00:00:05Z h kernel: {{1}}[Hardware Error]: {line}\n"
    for line in (
        "Hardware error from APEI Generic Hardware Error Source: 4", "event severity: recoverable",
        "section_type: memory error", "physical_address: 0x0000000000123440", "error_type: 3, multi-bit ECC",
    )
)  # fmt: skip
_SCALABLE = "".join(
    f"2024-01-01T00:00:06Z h kernel: {line}\n"
    for line in (
        "[Hardware Error]: Corrected error, no action required.",
        "[Hardware Error]: CPU:1 (17:31:0) MC18_STATUS[Over|CE|MiscV|AddrV|-|-|SyndV|CECC|-|-|-]: 0xdc2040000000011b",
        "[Hardware Error]: IPID: 0x0000009600350f00, Syndrome: 0x9fec08000a800a01",
        "[Hardware Error]: Unified Memory Controller Ext. Error Code: 0, DRAM ECC error.",
        "EDAC MC0: 1 CE on mc#0csrow#1channel#3 (csrow:1 channel:3 page:0x1 offset:0x0 grain:64 syndrome:0x8)",
    )
)  # fmt: skip


def sound_logs(folder: Path) -> dict[str, bytes]:
    """A small sound log of each format; some are written to a folder."""
    events = EventBatch.of(
        time=np.datetime64("2024-01-01", "us") + np.arange(6).astype("m8[h]"), kind=[0, 1, 2, 3, 1, 0], count=1,
        severity=[-1, 1, -1, -1, 0, -1], found_by=[FoundBy.READ] * 6, page_type=[-1, -1, 1, -1, -1, -1],
        address=np.arange(1, 7) << 12, grain_bytes=64, row=5, bank=1, column=2, host=0, hosts=Names(["h"]), label=0,
        labels=Names(["DIMM_A"]),
    )  # fmt: skip
    made = {name: text.encode() for name, text in _TEXTS.items()}
    for name in set(FORMATS) - set(made):
        write(events, folder / name, format=name)
        made[name] = (folder / name).read_bytes() + ((_FIRMWARE + _SCALABLE).encode() if name == "kernel" else b"")
    return made
