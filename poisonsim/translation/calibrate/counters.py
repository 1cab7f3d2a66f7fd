"""What the kernel says of itself in /proc and /sys: texts in, numbers out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from poisonsim.errors import MachineError
from poisonsim.units import KIB

_LINE = re.compile(r"^(\S+):\s+(\d+)(?: (kB))?\s*$", re.MULTILINE)
_MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) ", re.MULTILINE)

# CPUs of the catalogue by (vendor, family, first model, last model, first stepping) as /proc/cpuinfo gives them.
_X86 = (
    ("AuthenticAMD", 23, 0x30, 0x3F, 0, "zen2"),
    ("AuthenticAMD", 25, 0x00, 0x0F, 0, "zen3"),
    ("AuthenticAMD", 25, 0x10, 0x1F, 0, "zen4"),
    ("AuthenticAMD", 25, 0xA0, 0xAF, 0, "zen4"),
    ("AuthenticAMD", 26, 0x00, 0x1F, 0, "zen5"),
    ("GenuineIntel", 6, 85, 85, 5, "cascade-lake"),
    ("GenuineIntel", 6, 85, 85, 0, "skylake-sp"),
    ("GenuineIntel", 6, 106, 106, 0, "ice-lake-sp"),
    ("GenuineIntel", 6, 143, 143, 0, "sapphire-rapids"),
    ("GenuineIntel", 6, 207, 207, 0, "emerald-rapids"),
    ("GenuineIntel", 6, 173, 173, 0, "granite-rapids"),
)
_ARM_PARTS = {"0xd0c": "neoverse-n1", "0xd40": "neoverse-v1", "0xd49": "neoverse-n2", "0xd4f": "neoverse-v2"}


class Processor(NamedTuple):
    """The CPU a process runs on.

    Examples:
        >>> text = "vendor_id : AuthenticAMD\\ncpu family : 26\\nmodel : 2\\nmodel name : EPYC\\nflags : fpu hypervisor"
        >>> processor(text)
        Processor(title='EPYC, family 26 model 2', catalogue='zen5', virtual=True)
    """

    title: str
    catalogue: str
    virtual: bool


def parse_counters(text: str) -> dict[str, int]:
    """Counters of /proc/meminfo or /proc/PID/status by name: bytes where the line says kB, counts elsewhere.

    Examples:
        >>> parse_counters("Name:\\tcat\\nVmPTE:\\t      52 kB\\nThreads:\\t1\\n")
        {'VmPTE': 53248, 'Threads': 1}
    """
    return {name: int(value) * (KIB if unit else 1) for name, value, unit in _LINE.findall(text)}


def parse_vmstat(text: str) -> dict[str, int]:
    """Counters of /proc/vmstat by name.

    Examples:
        >>> parse_vmstat("nr_memmap_pages 0\\nnr_memmap_boot_pages 98304\\n")["nr_memmap_boot_pages"]
        98304
    """
    return {name: int(value) for name, value in re.findall(r"^(\S+) (\d+)$", text, re.MULTILINE)}


def huge_bytes(smaps: str, address: int, size_bytes: int) -> int:
    """Bytes of a range of addresses that transparent huge pages map, from the text of /proc/self/smaps.

    Args:
        smaps: The text.
        address: Where the range begins.
        size_bytes: How long it is.

    Examples:
        >>> text = "1000-3000 rw-p 0\\nAnonHugePages:  8 kB\\n4000-5000 rw-p 0\\nAnonHugePages:  4 kB\\n"
        >>> huge_bytes(text, 0x1000, 0x2000)
        8192
    """
    starts = list(_MAPPING.finditer(smaps))
    total = 0
    for i, match in enumerate(starts):
        if int(match[1], 16) < address + size_bytes and int(match[2], 16) > address:
            own = smaps[match.end() : starts[i + 1].start() if i + 1 < len(starts) else len(smaps)]
            counters = parse_counters(own)
            total += counters.get("AnonHugePages", 0) + counters.get("ShmemPmdMapped", 0)
    return total


def processor(cpuinfo: str) -> Processor:
    """The CPU of /proc/cpuinfo, its catalogue name (empty where it has none), and whether a hypervisor runs it.

    A hypervisor may show a processor that is not the one it runs on, so the catalogue name is a guess.

    Examples:
        >>> processor("CPU implementer : 0x41\\nCPU part : 0xd40\\n").catalogue
        'neoverse-v1'
    """
    first = dict(re.findall(r"^([^\n:]*?)\s*:[ \t]*([^\n]*)$", cpuinfo.split("\n\n")[0], re.MULTILINE))
    flags = first.get("flags", "").split()
    if first.get("CPU implementer") == "0x41":
        part = first.get("CPU part", "")
        return Processor(f"Arm part {part}", _ARM_PARTS.get(part, ""), False)
    family, model, stepping = (_whole(first.get(key)) for key in ("cpu family", "model", "stepping"))
    title = f"{first.get('model name', 'unknown processor')}, family {family} model {model}"
    for vendor, known_family, low, high, least_stepping, name in _X86:
        same = (vendor, known_family) == (first.get("vendor_id"), family)
        if same and low <= model <= high and stepping >= least_stepping:
            return Processor(title, name, "hypervisor" in flags)
    return Processor(title, "", "hypervisor" in flags)


def _whole(text: str | None) -> int:
    return int(text) if text is not None and text.isdigit() else 0


def read_text(path: Path) -> str:
    """The text of a file that the kernel keeps.

    Raises:
        MachineError: It cannot be read.

    Examples:
        >>> read_text(Path("/nowhere/meminfo"))
        Traceback (most recent call last):
        ...
        poisonsim.errors.MachineError: /nowhere/meminfo: cannot be read (No such file or directory); this needs Linux
    """
    try:
        return path.read_text()
    except OSError as error:
        raise MachineError(f"{path}: cannot be read ({error.strerror}); this needs Linux") from None


def available_bytes() -> int:
    """Memory that can be taken without swapping, by /proc/meminfo.

    Raises:
        MachineError: /proc/meminfo cannot be read.

    Examples:
        >>> available_bytes() > 0
        True
    """
    return parse_counters(read_text(Path("/proc/meminfo"))).get("MemAvailable", 0)
