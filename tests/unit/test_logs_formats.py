"""Readers of logs: what each format says, from composed snippets and from the samples where they are."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from poisonsim.errors import LogError
from poisonsim.logs import EventBatch, FoundBy, Kind, Log, Names, Outcome, PageType, Severity, read_all, write
from poisonsim.logs.write import WRITERS

Write = Callable[..., Path]


@pytest.fixture
def log(tmp_path: Path) -> Callable[..., Log]:
    """Reads text as a log."""

    def of(text: str | bytes, name: str = "host7.log", **options: Any) -> Log:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return read_all(path, **options)

    return of


def column(log: Log, name: str) -> list[Any]:
    """A column as `to_frame` shows it."""
    values: list[Any] = log.events.to_frame()[name].tolist()
    return values


SAMPLES = {
    "kernel.synthetic.log": ("kernel", 15, {"CE": 1, "UE": 2, "poison": 3, "soft-offline": 1}),
    "ras-mc_event.synthetic.db": ("rasdaemon", 11, {"CE": 3, "UE": 2, "poison": 4}),
    "mcelog.synthetic.log": ("mcelog", 2, {"CE": 1, "UE": 1}),
    "trace.synthetic.txt": ("trace", 2, {"UE": 1, "poison": 1}),
    "edac_sysfs.synthetic.txt": ("edac-sysfs", 15, {"CE": 1, "UE": 1}),
    "counters.synthetic.txt": ("counters", 6, {"poison": 2}),
    "ipmi_sel.synthetic.txt": ("ipmi-sel", 5, {"CE": 1, "UE": 1, "notice": 3}),
    "redfish_memorymetrics.synthetic.json": ("redfish", 1, {"CE": 1, "UE": 1}),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_hold_what_they_say(field_data: Callable[[str], Path], name: str) -> None:
    log = read_all(field_data(f"log-formats/{name}"), year=2025)
    [report] = log.report.files
    format, n_records, kinds = SAMPLES[name]
    assert (report.format, report.n_records, report.n_damaged) == (format, n_records, 0)
    assert log.events.to_frame()["kind"].value_counts().loc[lambda n: n > 0].to_dict() == kinds
    assert report.n_records == report.n_used + report.n_other


def test_the_database_sample_and_the_log_sample_tell_of_the_same_error(field_data: Callable[[str], Path]) -> None:
    logs = [read_all(field_data(f"log-formats/{name}"), year=2025) for name in list(SAMPLES)[:3]]
    scrubbed = [log.events[(log.events.kind == Kind.UE) & (log.events.found_by == FoundBy.SCRUB)] for log in logs]
    assert [events.address.tolist() for events in scrubbed] == [[0x4F7B113100]] * 3
    assert [str(events.time[0]) for events in scrubbed] == ["2025-03-03T02:07:55.000000"] * 3
    assert [events.severity.tolist() for events in scrubbed] == [[Severity.AO]] * 3


def test_smartmem_is_read_whole(field_data: Callable[[str], Path]) -> None:
    log = read_all(field_data("smartmem/events.csv.gz"))
    events = log.events
    assert (len(events), log.report.n_damaged, len(events.labels)) == (64_748, 0, 16)
    assert (events.kind == Kind.CE).all() and events.knows_cell.all() and (events.address > 0).all()
    assert np.bincount(events.found_by + 1).tolist() == [26, 63_869, 853]
    assert log.report.files[0].n_repeats_dropped == 0 < log.report.files[0].n_repeats


EDAC = (
    "EDAC MC2: 3 CE memory read error on CPU_SrcID#1_MC#0_Chan#2_DIMM#1 (channel:2 slot:1 page:0x1f00ff offset:0xa40 "
    "grain:32 syndrome:0x0 -  err_code:0x0101:0x0092 ProcessorSocketId:0x1 MemoryControllerId:0x0 PhysicalRankId:0x3 "
    "Row:0x1ab Column:0x1f8 Bank:0x2 BankGroup:0x3)"
)


@pytest.mark.parametrize(
    ("start", "time"),
    [
        ("Jan  9 23:59:58 n1 kernel: ", "2024-01-09T23:59:58"),
        ("Jan  9 23:59:58 n1 kernel: [ 1234.567890] ", "2024-01-09T23:59:58"),
        ("2024-01-09T23:59:58+01:00 n1 kernel: ", "2024-01-09T22:59:58"),
        ("2024-01-09T23:59:58.250000-0330 n1 kernel: ", "2024-01-10T03:29:58.25"),
        ("2024-01-09T23:59:58,250000+00:00 ", "2024-01-09T23:59:58.25"),
        ("[Tue Jan  9 23:59:58 2024] ", "2024-01-09T23:59:58"),
        ("[ 1234.500000] ", "2024-01-01T00:20:34.5"),
        ("<4>[ 1234.500000] ", "2024-01-01T00:20:34.5"),
        ("4,812,1234500000,-;", "2024-01-01T00:20:34.5"),
        ("<4>1 2024-01-09T23:59:58Z n1 kernel - - - ", "2024-01-09T23:59:58"),
        ("Tue 2024-01-09 23:59:58 UTC n1 kernel: ", "2024-01-09T23:59:58"),
        ("1704844798.250000 n1 kernel: ", "2024-01-09T23:59:58.25"),
        ("\0\0\0Jan  9 23:59:58 n1 kernel: ", "2024-01-09T23:59:58"),
    ],
)
def test_a_kernel_line_is_read_behind_every_kind_of_stamp(log: Callable[..., Log], start: str, time: str) -> None:
    events = log(start + EDAC + "\n", year=2024, boot="2024-01-01", format="kernel").events
    assert str(np.datetime64(time, "us")) == str(events.time[0])
    assert column(Log(events, None), "host") == ["n1" if "n1" in start else "host7"]  # type: ignore[arg-type]
    row = events.to_frame().loc[0, ["kind", "count", "address", "grain_bytes", "mc", "channel", "slot", "rank"]]
    assert row.tolist() == ["CE", 3, 0x1F00FFA40, 32, 2, 2, 1, 3]
    row = events.to_frame().loc[0, ["socket", "bank_group", "bank", "row", "column", "found_by", "label"]]
    assert row.tolist() == [1, 3, 2, 0x1AB, 0x1F8, "read", "CPU_SrcID#1_MC#0_Chan#2_DIMM#1"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "EDAC MC0: 1 UE memory read error on DIMM_A (channel:0 slot:0 page:0x7 offset:0x0 grain:32 -  err_code:"
            "0x00a0:0x0090  socket:1 imc:0 rank:2 bg:1 ba:3 row:0x12ab col:0x1c8)",
            {"kind": "UE", "socket": 1, "rank": 2, "bank_group": 1, "bank": 3, "row": 0x12AB, "column": 0x1C8},
        ),
        (
            "EDAC MC1: 2 CE on mc#1csrow#3channel#1 (csrow:3 channel:1 page:0x20 offset:0x40 grain:64 syndrome:0x9)",
            {"kind": "CE", "count": 2, "slot": 3, "channel": 1, "label": "mc#1csrow#3channel#1", "address": 0x20040},
        ),
        (
            "EDAC MC0: 1 CE Cannot decode normalized address on any memory ( page:0x0 offset:0x0 grain:64 syndrome:0x0"
            ")",
            {"kind": "CE", "address": -1, "grain_bytes": 0, "label": ""},
        ),
        (
            "EDAC MC0: 1 UE multi-bit ECC on unknown memory (node:1 card:2 module:0 rank:1 bank:5 device:3 row:77 col:9"
            " page:0x2 offset:0x40 grain:64)",
            {"kind": "UE", "socket": 1, "rank": 1, "bank": 5, "device": 3, "row": 77, "column": 9, "label": ""},
        ),
        ('EDAC MC0: CE page 0x9f, offset 0x80, grain 128, syndrome 0x40, row 6, channel 1, label "D1": amd64_edac',
         {"kind": "CE", "count": 1, "address": 0x9F080, "grain_bytes": 128}),
        ("Memory failure: 0x99: recovery action for free huge page: Delayed",
         {"kind": "poison", "address": 0x99000, "page_type": "free", "outcome": "delayed", "grain_bytes": 4096}),
        ("Memory failure: 0x99: recovery action for reserved kernel page: Ignored",
         {"kind": "poison", "page_type": "kernel", "outcome": "ignored"}),
        ("Memory failure: 0x99: recovery action for clean LRU page: Recovered",
         {"kind": "poison", "page_type": "base", "outcome": "recovered"}),
        ("Memory failure: 0x99: already hardware poisoned", {"kind": "poison", "page_type": "already-poisoned"}),
        ("Memory failure: 0x99: Sending SIGBUS to vm:1 due to hardware memory corruption",
         {"kind": "poison", "page_type": "", "outcome": ""}),
        ("soft_offline: 0x7f: page migration failed 1",
         {"kind": "soft-offline", "address": 0x7F000, "outcome": "failed"}),
    ],
)  # fmt: skip
def test_a_kernel_line_says(log: Callable[..., Log], line: str, said: dict[str, Any]) -> None:
    read = log(f"[ 5.000001] {line}\n", boot="2024-01-01")
    assert read.report.files[0].n_used == 1 and read.report.n_damaged == 0
    assert {name: column(read, name)[0] for name in said} == said


def test_a_machine_check_and_its_edac_line_are_one_event_with_what_both_know(log: Callable[..., Log]) -> None:
    check = "[ 9.000001] mce: [Hardware Error]: "
    lines = [
        check + "CPU 3: Machine Check: 0 Bank 1: bd80000000100134",
        check + "TSC 0 ADDR 40a1c0 MISC 86 PPIN 1",
        check + "PROCESSOR 0:50657 TIME 1700000009 SOCKET 1 APIC 2 microcode 1",
        check + "CPU 3: Machine Check: 0 Bank 7: bc00000000010091",
        check + "TSC 0 ADDR 40a1c0 MISC 86 PPIN 1",
        "[ 9.100000] EDAC MC0: 1 UE memory read error on D (channel:0 slot:0 page:0x40a offset:0x1c0 grain:32)",
        "[ 9.200000] Memory failure: 0x40a: Sending SIGBUS to vm:1 due to hardware memory corruption",
        "[ 9.200001] Memory failure: 0x40a: recovery action for huge page: Recovered",
    ]
    read = log("\n".join(lines) + "\n")
    assert column(read, "kind") == ["UE", "poison"]
    assert (column(read, "severity")[0], column(read, "socket")[0], read.report.files[0].n_merged) == ("AR", 1, 3)
    assert str(read.events.time[0])[:19] == "2023-11-14T22:13:29"  # the boot follows from the machine check
    assert read.events.new_poison.tolist() == [False, True]


def test_a_machine_check_that_no_edac_driver_decodes_counts_by_itself_and_others_do_not(
    log: Callable[..., Log],
) -> None:
    check = "Mar  3 02:07:55 h kernel: mce: [Hardware Error]: "
    statuses = ("8c00010000010091", "be00000000800400", "bd000000001000c1")  # CE ×4, a bus error, patrol scrub
    lines = [
        f"{check}CPU 1: Machine Check: 0 Bank 7: {s}\n{check}TSC 0 ADDR {n}a000 MISC 86" for n, s in enumerate(statuses)
    ]
    read = log("\n".join(lines) + "\n", year=2024)
    assert column(read, "kind") == ["CE", "UE"] and column(read, "count") == [4, 1]
    assert column(read, "severity") == ["", "AO"] and column(read, "address") == [0xA000, 0x2A000]
    assert (read.report.files[0].n_used, read.report.files[0].n_other) == (4, 2)


def test_addresses_of_amd_controllers_are_no_addresses_of_the_host(log: Callable[..., Log]) -> None:
    check = "Mar  3 02:07:55 h kernel: mce: [Hardware Error]: "
    lines = [
        f"{check}CPU 1: Machine Check: 0 Bank 17: 9c2040000000011b",
        f"{check}TSC 0 ADDR a000 MISC 86",
        f"{check}PROCESSOR 2:a20f10 TIME 1740967675 SOCKET 0 APIC 2",
    ]
    assert len(log("\n".join(lines) + "\n", year=2025).events) == 0


def test_firmware_reports_are_read_also_where_two_are_mixed(log: Callable[..., Log]) -> None:
    def start(n: int) -> str:
        return f"Mar  5 06:14:44 h kernel: {{{n}}}[Hardware Error]: "

    lines = [
        start(1) + "Hardware error from APEI Generic Hardware Error Source: 4",
        start(2) + "Hardware error from APEI Generic Hardware Error Source: 5",
        start(1) + "event severity: recoverable",
        start(2) + "event severity: corrected",
        start(1) + "  section_type: memory error",
        start(2) + "  section_type: memory error",
        start(1) + "  physical_address: 0x0000000000123440",
        start(2) + "  physical_address: 0x0000000000987000",
        start(2) + "  physical_address_mask: 0xfffffffffffff000",
        start(1) + "  node: 1 card: 2 module: 0 rank: 1 bank: 5 device: 3 row: 77 column: 9",
        start(1) + "  error_type: 3, multi-bit ECC",
        start(2) + "  error_type: 13, scrub corrected error",
        start(3) + "Hardware error from APEI Generic Hardware Error Source: 4",
        start(3) + "event severity: fatal",
        start(3) + "  section_type: PCIe error",
    ]
    read = log("\n".join(lines) + "\n", year=2024)
    assert column(read, "kind") == ["UE", "CE"] and column(read, "address") == [0x123440, 0x987000]
    assert column(read, "grain_bytes") == [64, 4096] and column(read, "found_by") == ["", "scrub"]
    assert [column(read, name)[0] for name in ("socket", "rank", "bank", "row", "column", "device")] == [
        1,
        1,
        5,
        77,
        9,
        3,
    ]
    assert (read.report.files[0].n_used, read.report.files[0].n_other, read.report.n_damaged) == (12, 3, 0)


def test_mcelog_blocks_and_pages_taken_out_of_use(log: Callable[..., Log]) -> None:
    block = (
        "Hardware event. This is not a software error.\nMCE {n}\nCPU 1 BANK 8 \nMISC 86 ADDR {address:x} \n"
        "TIME {time} x\nMCG status:\nMCi status:\n{text}\nSTATUS {status:x} MCGSTATUS 0\nSOCKETID 1\n"
    )
    text = block.format(n=0, address=0x7000, time=1_700_000_000, text="Corrected error", status=0x8C00004000010091)
    text += "Corrected memory errors on page 7000 exceed threshold 2 in 24h: 2 in 24h\nOfflining page 7000\n"
    text += block.format(n=1, address=0x9000, time=1_700_000_060, text="SRAR", status=0xBD80000000100134)
    text += block.format(n=2, address=0x9000, time=1_700_000_060, text="bus", status=0x8C00004000010400)
    read = log(text, repeats="keep")
    in_order = read_all(read.report.files[0].path).events
    assert column(read, "kind") == ["CE", "UE", "soft-offline"]  # the last has no time
    assert column(read, "severity") == ["", "AR", ""] and column(read, "socket") == [1, 1, -1]
    assert column(read, "address") == [0x7000, 0x9000, 0x7000] and len(in_order) == 3
    assert read.report.files[0].n_records == 4 and read.report.files[0].n_other == 1


@pytest.mark.parametrize("start", [" mce/12-0 [012] 8412.55: ", " perf 123 [000] d..1  8412.550000: ras:"])
def test_trace_lines(log: Callable[..., Log], start: str) -> None:
    text = (
        f"# tracer: nop\n{start}mc_event: 2 Corrected errors: memory write error on DIMM_B (mc:1 location:2:0:-1 "
        f"address:0x00abc040 grain:64 syndrome:0x00000000 Row:0x11 Column:0x22 Bank:0x3)\n"
        f"{start}memory_failure_event: pfn 0xabc: recovery action for huge page: Failed\n"
    )
    read = log(text, boot="2024-01-01")
    assert column(read, "kind") == ["CE", "poison"] and column(read, "address") == [0xABC040, 0xABC000]
    names = ("count", "mc", "channel", "slot", "row", "column", "bank", "found_by", "label")
    assert [column(read, name)[0] for name in names] == [2, 1, 2, 0, 0x11, 0x22, 3, "write", "DIMM_B"]
    assert [str(time) for time in read.events.time] == ["2024-01-01T02:20:12.550000"] * 2
    assert (read.report.files[0].n_used, read.report.files[0].n_other) == (2, 1)


CHECK = "[Hardware Error]: "
SCALABLE = [
    f"mce: {CHECK}Machine check events logged",
    f"{CHECK}Corrected error, no action required.",
    f"{CHECK}CPU:1 (17:31:0) MC18_STATUS[Over|CE|MiscV|AddrV|-|-|SyndV|CECC|-|-|-]: 0xdc2040000000011b",
    f"{CHECK}Error Addr: 0x0000000313c7a020",
    f"{CHECK}IPID: 0x0000009600350f00, Syndrome: 0x9fec08000a800a01",
    f"{CHECK}Unified Memory Controller Ext. Error Code: 0, DRAM ECC error.",
]
LEVEL = f"{CHECK}cache level: L3/GEN, tx: GEN, mem-tx: RD"
DEFERRED = [
    f"{CHECK}Deferred error, no action required.",
    f"{CHECK}CPU:0 (19:11:1) MC21_STATUS[-|-|-|AddrV|-|-|SyndV|UECC|Deferred|-|Scrub]: 0x942031000400011b",
    f"{CHECK}Error Addr: 0x0000000006350a00",
    f"{CHECK}PPIN: 0x02b69e294c148024",
    f"{CHECK}IPID: 0x0000109600250f00, Syndrome: 0x9a4a00000b800000",
    f"{CHECK}Unified Memory Controller Ext. Error Code: 0",
]
CONSUMED = [
    f"{CHECK}Uncorrected, software restartable error.",
    f"{CHECK}CPU:7 (19:11:1) MC0_STATUS[-|UE|MiscV|AddrV|-|-|-|UECC|-|Poison|-]: 0xbc002800000c0135",
    f"{CHECK}Error Addr: 0x000000079d6c8440",
    f"{CHECK}IPID: 0x000000b000000000",
    f"{CHECK}Load Store Unit Ext. Error Code: 12, DC Data error type 1 and poison consumption.",
]


def seconds(lines: list[str]) -> str:
    """Lines of a kernel log, a second apart."""
    return "".join(f"[ {n + 1}.000000] {line}\n" for n, line in enumerate(lines))


def test_scalable_machine_checks_of_amd_and_their_edac_line_are_one_event(log: Callable[..., Log]) -> None:
    edac = "EDAC MC0: 1 CE on mc#0csrow#1channel#3 (csrow:1 channel:3 page:0x10b544 offset:0xfc0 grain:64 syndrome:0x8)"
    read = log(seconds([*SCALABLE, edac, LEVEL, *SCALABLE, LEVEL]))
    assert column(read, "kind") == ["CE", "CE"] and column(read, "address") == [0x10B544FC0, -1]
    assert column(read, "channel") == [3, 3] and column(read, "slot") == [1, 1]
    assert column(read, "found_by") == ["read", "read"]
    [report] = read.report.files
    assert (report.n_used, report.n_other, report.n_merged, report.n_damaged) == (13, 2, 1, 0)
    assert [str(time)[11:19] for time in read.events.time] == ["00:00:07", "00:00:11"]


def test_deferred_errors_of_amd_are_consumed_once(log: Callable[..., Log]) -> None:
    edac = "EDAC MC0: 1 UE on mc#0csrow#0channel#2 (csrow:0 channel:2 page:0x79d6c8 offset:0x440 grain:64)"
    failure = "Memory failure: 0x79d6c8: recovery action for dirty LRU page: Recovered"
    seen = log(seconds([*DEFERRED, edac, LEVEL]))
    assert [column(seen, name)[0] for name in ("kind", "severity", "found_by")] == ["UE", "AO", "scrub"]
    read = log(seconds([*DEFERRED, edac, LEVEL, *CONSUMED, failure]))
    assert column(read, "kind") == ["UE", "poison"] and column(read, "severity") == ["AR", ""]
    assert column(read, "address") == [0x79D6C8440, 0x79D6C8000]
    alone = log(seconds(CONSUMED))
    assert column(alone, "kind") == ["UE"] and column(alone, "address") == [0x79D6C8440]


def test_scalable_machine_checks_of_two_hosts_may_be_mixed(log: Callable[..., Log]) -> None:
    edac = "EDAC MC0: 1 CE on mc#0csrow#1channel#3 (csrow:1 channel:3 page:0x{} offset:0x0 grain:64 syndrome:0x8)"
    lines = [
        f"2024-01-01T00:00:0{n}Z {host} kernel: {line}"
        for n, pair in enumerate(zip([*SCALABLE, edac.format(7)], [*SCALABLE, edac.format(9)], strict=True))
        for host, line in zip(("a", "b"), pair, strict=True)
    ]
    read = log("\n".join(lines) + "\n")
    assert list(zip(column(read, "host"), column(read, "address"), strict=True)) == [("a", 0x7000), ("b", 0x9000)]
    assert read.report.files[0].n_merged == 2


def test_pieces_of_scalable_machine_checks_and_of_other_banks_are_told(log: Callable[..., Log]) -> None:
    cache = [
        line.replace("Unified Memory Controller", "L3 Cache").replace("0096", "01b0").replace(", DRAM ECC error", "")
        for line in SCALABLE
    ]
    assert len(log(seconds(cache)).events) == 0 and log(seconds(cache)).report.n_damaged == 0
    torn = log(seconds(SCALABLE[3:]))
    assert torn.report.files[0].damage["piece of a machine check"].n == 3 and len(torn.events) == 0
    cut = log(seconds(SCALABLE[:3]))
    assert cut.report.files[0].damage["machine check cut short"].lines == [3] and len(cut.events) == 0
    raw = [
        "mce: [Hardware Error]: CPU 1: Machine Check: 0 Bank 18: dc2040000000011b",
        "mce: [Hardware Error]: TSC 0 ADDR 313c7a020 SYND 9fec08000a800a01 IPID 9600350f00",
        "mce: [Hardware Error]: PROCESSOR 2:a20f10 TIME 1740967675 SOCKET 0 APIC 2",
    ]
    read = log(seconds(raw))
    assert column(read, "kind") == ["CE"] and column(read, "channel") == [3] and column(read, "address") == [-1]


def entry(message: Any = EDAC, **fields: Any) -> str:
    """A journal's entry as JSON."""
    about = {"__REALTIME_TIMESTAMP": "1704844798250000", "_HOSTNAME": "n1", "_TRANSPORT": "kernel", "MESSAGE": message}
    return json.dumps({name: value for name, value in (about | fields).items() if value != ""})


def test_a_journal_is_read_whatever_form_its_messages_have(log: Callable[..., Log]) -> None:
    label = "CPU_SrcID#1_MC#0_Chan#2_DIMM#1"
    odd = EDAC.replace(label, 'é"\\/')
    entries = [
        entry(), entry(list(odd.encode())), entry(odd), entry([EDAC, "more"]),
        entry(_TRANSPORT="syslog", SYSLOG_IDENTIFIER="kernel"), entry(_TRANSPORT="", _HOSTNAME="a b"),
        "\x1e" + entry().replace(": ", ":").replace(":2 slot", ": 2 slot"),
        entry(_TRANSPORT="syslog", SYSLOG_IDENTIFIER="rasdaemon"), entry("systemd: started"), entry(None), "",
        entry(__REALTIME_TIMESTAMP=""),
    ]  # fmt: skip
    read = log("\n".join(entries) + "\n", repeats="keep")
    [report] = read.report.files
    assert (report.format, report.n_records, report.n_used, report.n_other) == ("journal", 12, 8, 4)
    assert column(read, "address") == [0x1F00FFA40] * 8 and column(read, "row") == [0x1AB] * 8
    assert column(read, "label") == [label, 'é"\\/', 'é"\\/', *[label] * 5]
    assert column(read, "host") == ["n1"] * 5 + ["a_b", "n1", "host7"]
    assert {str(time) for time in read.events.time[:7]} == {"2024-01-09T23:59:58.250000"}
    assert np.isnat(read.events.time[7])


def test_a_journal_keeps_its_machine_checks_whole(log: Callable[..., Log]) -> None:
    edac = "EDAC MC0: 1 CE on mc#0csrow#1channel#3 (csrow:1 channel:3 page:0x7 offset:0x0 grain:64 syndrome:0x8)"
    read = log("".join(entry(line) + "\n" for line in [*SCALABLE, edac, LEVEL]))
    assert column(read, "address") == [0x7000] and read.report.files[0].n_merged == 1


def test_what_is_no_entry_of_a_journal_is_told(log: Callable[..., Log]) -> None:
    bad = [entry()[:-1], "[1]", entry() + "x", '{"MESSAGE" "x"}', '{"a":}', '{"a":1,}', "{", '{"a":"\\"}', '{"a":[1}']
    read = log("\n".join([entry(), *bad]) + "\n")
    assert read.report.files[0].damage["line that is no JSON object"].n == len(bad) and len(read.events) == 1
    with pytest.raises(LogError, match="is a journal with many lines an entry; write it with journalctl -o json"):
        log(json.dumps(json.loads(entry()), indent=8), "pretty.json")


RECORD = "mce_record: CPU: 0, MCGc/s: f000c15/0, MC13: {status:016x}, "


def test_machine_checks_of_a_trace_in_every_kernels_words(log: Callable[..., Log]) -> None:
    start = " kworker/0:2-235     [000] .....   8412.55{}: "
    old = "ADDR/MISC: {a:016x}/{m:016x}, RIP: 00:<0>, TSC: 1, PROCESSOR: 0:c06f1, TIME: 1, SOCKET: 1, APIC: 0"
    middle = "IPID: 0, ADDR/MISC/SYND: {a:016x}/{m:016x}/0, RIP: 00:<0>, TSC: 1, PROCESSOR: 0:c06f1, TIME: 1, SOCKET: 1"
    new = "IPID: 0, ADDR: {a:016x}, MISC: {m:016x}, SYND: 0, RIP: 00:<0>, TSC: 1, vendor: 0, CPUID: c06f1, socket: 1"
    lines = [
        start.format(n) + RECORD.format(status=0x8C00004000010091) + words.format(a=0x3000 + 64 * n, m=0x86)
        for n, words in enumerate((old, middle, new))
    ]
    umc = (
        "IPID: 0000009600350f00, ADDR: 313c7a020, MISC: 0, SYND: 9fec08000a800a01, vendor: 2, CPUID: a60f12, socket: 0"
    )
    lines += [
        start.format(5) + RECORD.format(status=0xBD80000000100134) + middle.format(a=0xABC040, m=0x86),
        start.format(6) + "mc_event: 1 Uncorrected error: memory read error on D (mc:1 location:2:0:-1 "
        "address:0x00abc040 grain:32 syndrome:0x00000000 Row:0x11)",
        start.format(7) + RECORD.format(status=0xDC2040000000011B) + umc,
        start.format(8) + "mc_event: 1 Corrected error: on mc#0csrow#1channel#3 (mc:0 location:1:3:-1 "
        "address:0x00005040 grain:64 syndrome:0x8)",
        start.format(9) + RECORD.format(status=0xBE00000000800400) + old.format(a=0x5000, m=0),
        start.format(9) + RECORD.format(status=0x8C00004000010091)[:60],
    ]
    read = log("\n".join(lines) + "\n", boot="2024-01-01")
    assert column(read, "kind") == ["CE"] * 3 + ["UE", "CE"]
    assert column(read, "address") == [0x3000, 0x3040, 0x3080, 0xABC040, 0x5040]
    assert column(read, "severity") == [""] * 3 + ["AR", ""] and column(read, "socket") == [1, 1, 1, 1, 0]
    assert column(read, "grain_bytes") == [64, 64, 64, 32, 64] and column(read, "row")[3] == 0x11
    [report] = read.report.files
    assert (report.n_used, report.n_other, report.n_merged) == (7, 1, 2)
    assert report.damage["mce_record cut short"].lines == [9]


def test_a_database_tells_of_errors_of_amd_once_with_or_without_edac(tmp_path: Path) -> None:
    path = tmp_path / "ras-mc_event.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE mc_event (id INTEGER PRIMARY KEY, timestamp, err_type, label, address)")
        connection.execute(
            "CREATE TABLE mce_record (id INTEGER PRIMARY KEY, timestamp, status, addr, cpuvendor, bank_name)"
        )
        status = 0xDC2040000000011B - (1 << 64)
        for second, name in ((1, "Unified Memory Controller (bank=21)"), (30, "Unified Memory Controller V2 (bank=2)"),
                             (40, "L3 Cache (bank=7)")):  # fmt: skip
            row = (f"2024-01-01 00:00:{second:02d} +0000", status, 0x313C7A020, 2, name)
            connection.execute(
                "INSERT INTO mce_record (timestamp, status, addr, cpuvendor, bank_name) VALUES (?, ?, ?, ?, ?)", row
            )
        connection.execute(
            "INSERT INTO mc_event VALUES (1, '2024-01-01 00:00:02 +0000', 'Corrected', 'mc#0csrow#1channel#3', 20480)"
        )
    read = read_all(path)
    assert column(read, "kind") == ["CE", "CE"] and column(read, "address") == [20480, -1]
    assert (read.report.files[0].n_merged, read.report.files[0].n_other) == (1, 1)


def test_edac_counters_that_no_dimm_has_are_a_row_of_their_own(log: Callable[..., Log]) -> None:
    mc = "/sys/devices/system/edac/mc/mc3/"
    lines = ["seconds_since_reset:3600", "ce_count:10", "ue_count:0", "csrow0/ce_count:9", "dimm0/dimm_ce_count:4",
             "dimm1/dimm_ce_count:5", "dimm1/dimm_label:B1", "dimm1/dimm_location:channel 1 slot 0 "]  # fmt: skip
    read = log("".join(f"{mc}{line}\n" for line in lines))
    assert list(zip(column(read, "kind"), column(read, "count"), column(read, "label"), strict=True)) == [
        ("CE", 4, ""), ("CE", 5, "B1"), ("CE", 1, ""), ("UE", 0, ""),
    ]  # fmt: skip
    assert set(column(read, "span_s")) == {3600} and set(column(read, "mc")) == {3} and read.events.is_counter.all()
    assert column(read, "channel") == [-1, 1, -1, -1]


def test_hardware_corrupted_counts_base_pages_and_yields_to_the_nodes(log: Callable[..., Log]) -> None:
    alone = log("MemTotal:  1 kB\nHardwareCorrupted:    12 kB\n")
    assert column(alone, "count") == [3] and column(alone, "kind") == ["poison"] and alone.events.is_counter.all()
    node = "/sys/devices/system/node/node1/memory_failure/"
    both = log(f"HardwareCorrupted: 12 kB\n{node}total:5\n{node}recovered:3\n{node}failed:1\n")
    assert list(zip(column(both, "outcome"), column(both, "count"), strict=True)) == [
        ("failed", 1), ("recovered", 3), ("", 1),
    ]  # fmt: skip
    assert "took the nodes'" in both.report.warnings()[0]


def test_ipmi_events_have_no_address(log: Callable[..., Log]) -> None:
    text = (
        " 1 | 01/09/2024 | 23:59:58 | Memory DIMM_C2 | Correctable ECC | Asserted\n"
        " 2 | 01/09/2024 | 23:59:59 CET | Memory DIMM_C2 | Uncorrectable ECC | Asserted\n"
        " 3 | Pre-Init | 0000000012 | Memory DIMM_C2 | Uncorrectable ECC | Asserted\n"
        " 4 | 01/09/2024 | 23:59:59 | Memory DIMM_C2 | Uncorrectable ECC | Deasserted\n"
        " 5 | 01/09/2024 | 23:59:59 | Fan FAN1 | Lower Critical | Asserted\n"
    )
    read = log(text)
    assert column(read, "kind") == ["CE", "UE", "UE"] and column(read, "label") == ["Memory DIMM_C2"] * 3
    assert np.isnat(read.events.time).tolist() == [False, False, True] and (read.events.address == -1).all()
    assert (read.report.files[0].n_used, read.report.files[0].n_other) == (3, 2)


def test_redfish_takes_a_dimms_life_before_its_period(log: Callable[..., Log]) -> None:
    def metrics(dimm: str, **periods: Any) -> dict[str, Any]:
        return {"@odata.id": f"/redfish/v1/Systems/1/Memory/{dimm}/MemoryMetrics", **periods}

    life = {"CorrectableECCErrorCount": 50, "UncorrectableECCErrorCount": 2}
    now = {"CorrectableECCErrorCount": 7, "IndeterminateUncorrectableErrorCount": 1}
    documents = [metrics("A1", LifeTime=life, CurrentPeriod=now), metrics("A2", CurrentPeriod=now)]
    for text in (json.dumps({"Members": documents}), "\n".join(map(json.dumps, documents))):
        read = log(text)
        assert list(zip(column(read, "label"), column(read, "kind"), column(read, "count"), strict=True)) == [
            ("A1", "CE", 50), ("A1", "UE", 2), ("A1", "notice", 1), ("A2", "CE", 7), ("A2", "notice", 1),
        ]  # fmt: skip


def test_a_csv_needs_no_more_than_kinds(log: Callable[..., Log]) -> None:
    text = (
        "kind,time,address,host,row,note\nUE,2024-01-09T23:59:58+01:00,0x7fff000,a,5,x\nce,1704844798,8192,,,y\n"
        'poison,1704844798.5,,"a ""b"", c",,z\n'
    )
    read = log(text)
    assert column(read, "kind") == ["UE", "CE", "poison"] and column(read, "address") == [0x7FFF000, 8192, -1]
    assert column(read, "host") == ["a", "host7", 'a "b", c'] and column(read, "row") == [5, -1, -1]
    assert [str(time)[11:21] for time in read.events.time] == ["22:59:58.0", "23:59:58.0", "23:59:58.5"]
    assert read.report.warnings()[0].endswith("columns that mean nothing here: note")


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("2024-01-09 23:59", "2024-01-09T23:59:00"),
        ("2024-01-09T23:59Z", "2024-01-09T23:59:00"),
        ("2024-01-09 23:59+01:00", "2024-01-09T22:59:00"),
        ("2024/01/09 23:59 UTC", "2024-01-09T23:59:00"),
    ],
)
def test_times_of_a_csv_need_no_seconds(log: Callable[..., Log], written: str, read_as: str) -> None:
    assert str(log(f"kind,time\nUE,{written}\n").events.time[0])[:19] == read_as


def test_a_date_of_a_csv_without_a_time_of_day_is_told(log: Callable[..., Log]) -> None:
    read = log("kind,time\nUE,2024-01-09\nCE,2024-01-10 10:00\n")
    assert read.report.files[0].damage["date without a time of day"].lines == [2] and len(read.events) == 1


@pytest.mark.parametrize("written", ["2024-01-09 23:5", "2024-01-09 23:59:", "2024-01-09 23:59.5", "2024-01-09 23:59 x",
                                     "2024-01-09 23:599", "2024-01-09 24:00", "2024-02-30 23:59", "2024-01-09 11:59 PM",
                                     "2024-01-09 11:59:00 PM"])  # fmt: skip
def test_other_times_of_a_csv_are_none(log: Callable[..., Log], written: str) -> None:
    read = log(f"kind,time\nUE,{written}\n")
    assert read.report.files[0].damage["time that is none"].lines == [2] and len(read.events) == 0


def test_a_table_of_strange_columns_is_told_what_it_takes(log: Callable[..., Log]) -> None:
    for header in ("Date,Node,Type", '"Date","Node (name)"', "when;what;where", "a\tb"):
        with pytest.raises(LogError, match="line 1: names no column of a table of events .*it takes kind, and as far"):
            log(f"{header}\n2024-01-09,n1,CE\n")
    with pytest.raises(LogError, match="its columns are set apart by semicolons, and commas are wanted"):
        log("kind;time;address\nUE;2024-01-09;0x1000\n")
    with pytest.raises(LogError, match=r"begins like no log that is known \('Dear all,'\)"):
        log("Dear all,\nthe server is down. Regards, Bob!\n")


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_packed_logs_are_unpacked(log: Callable[..., Log], pack: Callable[[bytes], bytes]) -> None:
    read = log(pack(f"Jan  9 23:59:58 n1 kernel: {EDAC}\n".encode()), "kern.log.1.packed", year=2024)
    assert read.report.files[0].format == "kernel" and len(read.events) == 1


def events_of_every_kind(n: int = 400) -> EventBatch:
    """Events of one host as a machine would log them, a second or more apart."""
    rng = np.random.default_rng(5)
    kind = rng.choice([0, 0, 0, 1, 2, 3], n)
    error, ue = kind < 2, kind == 1
    of = {name: np.where(error, rng.integers(0, high, n), -1) for name, high in (
        ("socket", 2), ("mc", 4), ("channel", 3), ("slot", 2), ("rank", 4), ("bank_group", 4), ("bank", 4),
        ("row", 1 << 17), ("column", 1024), ("found_by", 3),
    )}  # fmt: skip
    line = rng.permutation(1 << 20)[:n].astype(np.int64) + 1 << 18
    severity = np.where(ue, np.where(of["found_by"] == FoundBy.SCRUB, Severity.AO, Severity.AR), -1)
    return EventBatch.of(
        time=np.datetime64("2024-12-30T00:00:00", "us") + np.cumsum(rng.integers(1, 3600, n)).astype("m8[s]"),
        kind=kind, count=np.where(kind == 0, rng.integers(1, 9, n), 1), severity=severity,
        page_type=np.where(kind == 2, rng.choice([PageType.HUGE, PageType.BASE, PageType.ALREADY_POISONED], n), -1),
        outcome=np.where(kind == 2, rng.integers(0, 4, n), np.where(kind == 3, rng.choice([1, 3], n), -1)),
        address=np.where(error, line + 64, line & ~4095), grain_bytes=np.where(error, 64, 4096), **of,
        host=0, hosts=Names(["h"]), label=np.where(error, of["slot"], -1), labels=Names(["DIMM A", "DIMM_B"]),
    )  # fmt: skip


CARRIED = {
    "csv": None,
    "parquet": None,
    "kernel": None,
    "rasdaemon": None,
    "journal": None,
    "trace": (
        "time",
        "kind",
        "count",
        "severity",
        "found_by",
        "address",
        "grain_bytes",
        "mc",
        "channel",
        "slot",
        "row",
        "column",
    ),
    "mcelog": ("time", "kind", "count", "severity", "found_by", "address", "grain_bytes", "socket", "channel"),
}


@pytest.mark.parametrize("format", WRITERS)
def test_events_written_and_read_again_are_the_same(tmp_path: Path, format: str) -> None:
    if format == "parquet":
        pytest.importorskip("pyarrow", reason="no pyarrow: install poisonsim[parquet]")
    events = events_of_every_kind()
    lacks = {"rasdaemon": [Kind.SOFT_OFFLINE], "trace": [Kind.SOFT_OFFLINE], "mcelog": [Kind.POISON, Kind.SOFT_OFFLINE]}
    events = events[~np.isin(events.kind, lacks.get(format, []))]
    path = tmp_path / "h.log"
    write(events, path, format=format)
    log = read_all(path)
    assert log.report.files[0].format == format and log.report.n_damaged == 0
    mine, again = events.to_frame(), log.events.to_frame()
    names = list(CARRIED[format] or [name for name in mine if name != "source"])
    assert mine[names].astype(str).to_dict("list") == again[names].astype(str).to_dict("list")
    if format in ("kernel", "journal", "rasdaemon", "trace"):
        assert log.report.files[0].n_merged >= (events.severity >= 0).sum()


def test_outcomes_and_kinds_have_words() -> None:
    assert [kind.label for kind in Kind] == ["CE", "UE", "poison", "soft-offline", "notice"]
    assert [code.label for code in Outcome] == ["", "ignored", "failed", "delayed", "recovered"]
