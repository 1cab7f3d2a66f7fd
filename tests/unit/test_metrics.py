"""The registry of metrics, and expressions over it."""

from __future__ import annotations

import numpy as np
import pytest

from poisonsim.errors import MetricError
from poisonsim.results.metrics import known_metric, metrics_for, parse_threshold

X86 = metrics_for(("1G", "2M", "4K"))
NAMES = [metric.name for metric in X86]


def test_every_metric_of_the_design_is_there_once() -> None:
    wanted = """
        errors regions_hit leaves_1g leaves_2m leaves_4k share_1g share_2m share_4k table_bytes vmemmap_bytes
        direct_map_bytes guest_lost_bytes host_lost_bytes stranded_bytes reserved_bytes capacity_cost_bytes spares_used
        spares_exhausted tlb_reach_bytes tlb_reach_loss walks_per_access slowdown slowdown_low slowdown_high vm_lost
        guest_faults stall_seconds worst_stall_seconds evacuations restarts reboots fallbacks
    """
    assert sorted(NAMES) == sorted(wanted.split())


def test_the_mapping_metrics_follow_the_ladder() -> None:
    arm = [m.name for m in metrics_for(("1G", "32M", "2M", "64K", "4K")) if m.group == "mapping"]
    assert arm == [
        *(f"leaves_{size}" for size in ("1g", "32m", "2m", "64k", "4k")),
        *(f"share_{size}" for size in ("1g", "32m", "2m", "64k", "4k")),
    ]


@pytest.mark.parametrize("metric", X86, ids=lambda metric: metric.name)
def test_a_metric_is_described(metric: object) -> None:
    from poisonsim.results.metrics import Metric

    assert isinstance(metric, Metric)
    assert metric.better in ("lower", "higher", "-")
    assert metric.kind in ("count", "amount", "flag")
    assert metric.unit and 15 <= len(metric.definition) <= 120 and "\n" not in metric.definition
    assert metric.name.endswith("_bytes") == (metric.unit == "bytes")
    assert (metric.kind == "flag") == (metric.name in ("vm_lost", "spares_exhausted"))


def test_an_unknown_metric_is_answered_with_the_nearest() -> None:
    with pytest.raises(MetricError, match="unknown metric 'tabel_bytes'; did you mean table_bytes\\?; known: errors"):
        known_metric("tabel_bytes", X86)
    assert known_metric("table_bytes", X86).unit == "bytes"


@pytest.mark.parametrize(
    ("text", "metric", "symbol", "value"),
    [
        ("guest_lost_bytes > 8GiB", "guest_lost_bytes", ">", 8 << 30),
        ("guest_lost_bytes>=8 GiB", "guest_lost_bytes", ">=", 8 << 30),
        ("guest_lost_bytes > 0GiB", "guest_lost_bytes", ">", 0),
        ("guest_lost_bytes > 409600", "guest_lost_bytes", ">", 409_600),
        ("guest_lost_bytes == 1.5KiB", "guest_lost_bytes", "==", 1536),
        ("  tlb_reach_loss<5%  ", "tlb_reach_loss", "<", 0.05),
        ("tlb_reach_loss > -0.5", "tlb_reach_loss", ">", -0.5),
        ("tlb_reach_loss <= 1e-3", "tlb_reach_loss", "<=", 1e-3),
        ("vm_lost == 1", "vm_lost", "==", 1),
        ("regions_hit != 3 regions", "regions_hit", "!=", 3),
        ("stall_seconds > 2.5s", "stall_seconds", ">", 2.5),
        ("leaves_4k > 1_000", "leaves_4k", ">", 1000),
    ],
)
def test_expressions(text: str, metric: str, symbol: str, value: float) -> None:
    threshold = parse_threshold(text, X86)
    assert (threshold.metric.name, threshold.symbol) == (metric, symbol)
    assert threshold.value == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [
        (">", [False, False, True]),
        (">=", [False, True, True]),
        ("<", [True, False, False]),
        ("<=", [True, True, False]),
        ("==", [False, True, False]),
        ("!=", [True, False, True]),
    ],
)
def test_an_expression_holds_elementwise(symbol: str, expected: list[bool]) -> None:
    assert parse_threshold(f"errors {symbol} 2", X86).holds(np.array([1.0, 2.0, 3.0]), 1 << 40).tolist() == expected


def test_a_share_of_memory_is_of_the_vm_that_it_is_asked_of() -> None:
    found = parse_threshold("guest_lost_bytes >= 25% of the VM's memory", X86)
    assert (found.value, found.of_memory) == (0.25, True)
    assert found.holds(np.array([255.0, 256.0]), 1024).tolist() == [False, True]
    assert found.holds(np.array([255.0, 256.0]), 2048).tolist() == [False, False]


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("", "is not `metric operator value`"),
        ("guest_lost_bytes", "is not `metric operator value`; write for example"),
        ("guest_lost_bytes >", "is not `metric operator value`"),
        ("8GiB < guest_lost_bytes", "is not `metric operator value`"),
        ("guest_lost_bytes > 8GiB and vm_lost == 1", "is not `metric operator value`"),
        ("guest_lost_bytes = 8GiB", "is not `metric operator value`"),
        ("__import__('os').system('true') > 1", "is not `metric operator value`"),
        ("guest_lost > 8GiB", "unknown metric 'guest_lost'; did you mean guest_lost_bytes?"),
        ("guest_lost_bytes > 8G", "'8G' is ambiguous: 8GiB is"),
        ("guest_lost_bytes > 8XiB", "unknown unit 'XiB'"),
        (
            "guest_lost_bytes > 5%",
            "does not say of what it is a share; guest_lost_bytes takes a size such as 8GiB, or a "
            "share such as 1% of memory",
        ),
        ("slowdown > 1% of memory", "only an amount of bytes is a share of memory"),
        ("guest_lost_bytes > x% of memory", "'x% of memory' is no share of memory; write one such as 0.5% of memory"),
        ("tlb_reach_loss > 8GiB", "unit 'GiB' does not fit; tlb_reach_loss takes a number, or per cent such as 5%"),
        ("regions_hit > 3 pages", "unit 'pages' does not fit; regions_hit takes a number of regions"),
        ("errors > 1.2.3", "errors takes a number of UEs"),
        ("errors > .", "errors takes a number of UEs"),
    ],
)
def test_expressions_that_mean_nothing(text: str, fragment: str) -> None:
    with pytest.raises(MetricError) as caught:
        parse_threshold(text, X86)
    assert fragment in str(caught.value)


def test_per_cent_of_a_slowdown_is_refused() -> None:
    """`slowdown > 1%` would mean 0.01 and always hold, where a slowdown of 1.01 was meant."""
    with pytest.raises(MetricError, match="a number such as 1.01, which is 1 % slower"):
        parse_threshold("slowdown > 1%", metrics_for(("1G", "4K")))
