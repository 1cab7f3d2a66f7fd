"""The page of a sweep: what is drawn of one, two and more keys, what is not, and that all of it is text."""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import poisonsim as ps
from poisonsim.policy import BACKING, UNMAP, Policy, on
from poisonsim.report import remove_sweep_page, render_sweep, write_sweep
from poisonsim.results.metric_words import value_shown
from poisonsim.results.metrics import known_metric
from poisonsim.results.sweep import SweepPoint
from poisonsim.results.sweep_words import best_where

METRICS = ["guest_lost_bytes", "capacity_cost_bytes"]
COMMAND = "poisonsim sweep '</pre><img src=x onerror=alert(2)>'"
KEPT = {"host.hvo_with_hgm": ["off-everywhere", "kept"]}


class Harmful(Policy):
    """Lose <b>it</b>."""

    name = "<script>alert(1)</script>"
    rules = [on(BACKING).do(UNMAP)]


def sweep(over: dict[str, list[Any]], policies: list[Any] | None = None, **changes: Any) -> ps.Sweep:
    scenario = ps.load_scenario("seed-1t-distinct", overrides=[f"{key}={value}" for key, value in changes.items()])
    return ps.sweep(scenario, over=over, policies=policies or ["unmap1g", "hgm4k", "hgm2m"], trials=100)


def rendered(found: ps.Sweep, metrics: list[str] = METRICS, **changes: Any) -> tuple[str, dict[str, bytes]]:
    return render_sweep(found, metrics=metrics, command=COMMAND, sweep_id="ab" * 32, **changes)


@pytest.fixture(scope="module")
def grid() -> ps.Sweep:
    return sweep({"faults.errors": [30, 3], **KEPT}, ["unmap1g", "hgm2m", Harmful], title='Tom\'s "big" <b>VM</b>')


def texts_of(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def figures(html: str) -> dict[tuple[str, str], str]:
    """Every drawing by the section it is in and the width it is for."""
    found = {}
    for section in re.findall(r'<section id="(sweep-[^"]+)">(.*?)</section>', html, re.DOTALL):
        for form in re.findall(r'<svg class="(wide|narrow)".*?</svg>', section[1], re.DOTALL):
            found[section[0], form] = re.findall(rf'<svg class="{form}".*?</svg>', section[1], re.DOTALL)[0]
    return found


def test_a_map_says_which_policy_is_best_where(grid: ps.Sweep) -> None:
    html, images = rendered(grid)
    drawn = figures(html)
    assert {name for name, _ in drawn} == {f"sweep-{metric}" for metric in METRICS}
    assert sorted(images) == sorted(f"sweep-{metric}.png" for metric in METRICS)
    cost = drawn["sweep-capacity_cost_bytes", "wide"]
    alternative = re.findall('aria-label="([^"]*)"', cost)[0]
    for point in (
        "faults.errors=3 host.hvo_with_hgm=off-everywhere unmap1g and &lt;script&gt;alert(1)&lt;/script&gt; 3 GiB",
        "faults.errors=30 host.hvo_with_hgm=off-everywhere hgm2m 15.97 GiB",
        "faults.errors=3 host.hvo_with_hgm=kept hgm2m 85.08 KiB",
    ):
        assert point in alternative
    words = texts_of(cost)
    assert words.count("hgm2m") == 3 and words.count("15.97 GiB") == 1
    assert words.index("3") < words.index("30")  # numbers rise, in whatever order they were given
    assert "hgm2m overtakes unmap1g and" in html and "between faults.errors=3 and 30" in html


def test_lines_part_cells_whose_best_policies_differ(grid: ps.Sweep) -> None:
    bold = [len(re.findall(r"stroke-width: 2\.4", figures(rendered(grid)[0])[f"sweep-{m}", "wide"])) for m in METRICS]
    assert bold == [0, 2]  # hgm2m loses least everywhere; off-everywhere with 3 errors is parted from two cells


def test_a_cell_that_is_not_clear_says_so() -> None:
    found = sweep({"faults.errors": [1, 2], **KEPT}, ["hgm2m", "unmap1g"])
    html, _ = rendered(found, ["guest_faults"])
    assert "~" not in texts_of(figures(html)["sweep-guest_faults", "wide"])
    few = ps.sweep("seed-1t", over={"faults.errors": [1, 2], **KEPT}, policies=["hgm2m", "unmap1g"], trials=5)
    svg = figures(rendered(few, ["guest_faults"])[0])["sweep-guest_faults", "wide"]
    assert texts_of(svg).count("not clear") == 4 and "hgm2m" not in texts_of(svg)


def test_large_maps_have_names_on_stretches_and_marks_elsewhere(grid: ps.Sweep) -> None:
    """Results of a small sweep, laid out as a large one."""
    few, many = grid.points[2].result, grid.points[0].result
    over = {"faults.errors": [3, 30, *range(31, 40)], "host.hvo_with_hgm": ["off-everywhere", *"abcdefghij"]}
    points = [
        SweepPoint({"faults.errors": errors, "host.hvo_with_hgm": hvo}, few if errors == 3 else many)
        for errors in over["faults.errors"]
        for hvo in over["host.hvo_with_hgm"]
    ]
    found = dataclasses.replace(grid, over={key: tuple(v) for key, v in over.items()}, points=tuple(points))
    svg = figures(rendered(found, ["capacity_cost_bytes"])[0])["sweep-capacity_cost_bytes", "narrow"]
    assert texts_of(svg).count("hgm2m") == 1  # the area is one, and all else of it has its marker
    assert len(re.findall(r"<use", svg)) >= 11 * 9


def test_one_key_of_numbers_is_drawn_as_lines_with_where_they_cross() -> None:
    html, _ = rendered(sweep({"faults.errors": [1, 30, 3]}))
    svg = figures(html)["sweep-capacity_cost_bytes", "wide"]
    words = texts_of(svg)
    assert "hgm4k and hgm2m overtake unmap1g" in words and "faults.errors (log)" in words
    assert [word for word in words if word in ("1", "3", "30")] == ["1", "3", "30"]
    assert "hgm2m 15.96 GiB at 1, 15.97 GiB at 30, 15.96 GiB at 3" in svg
    assert "overtake" not in texts_of(figures(html)["sweep-guest_lost_bytes", "wide"])
    assert "hgm4k and hgm2m overtake unmap1g on host memory it costs between faults.errors=3 and 30." in html


def test_one_key_of_names_is_drawn_as_marks() -> None:
    html, _ = rendered(sweep(KEPT), ["slowdown"])
    words = texts_of(figures(html)["sweep-slowdown", "wide"])
    assert {"off-everywhere", "kept", "hgm2m", "Slowdown, mean (%)"} <= set(words)
    assert "No policy clearly overtakes another" in html


def test_more_keys_are_drawn_side_by_side_or_refused_with_the_reason() -> None:
    over = {"faults.errors": [1, 2], "host.spares": [1, 2], **KEPT}
    found = sweep(over)
    html, images = rendered(found, METRICS)
    assert sorted(images) == sorted(f"sweep-{metric}-{i}.png" for metric in METRICS for i in (1, 2))
    assert "Best policy by guest memory lost, at faults.errors=1" in html
    html, images = rendered(found, [*METRICS, "vm_lost"])
    assert len(images) == 6 and "for want of room" not in html
    points = [
        SweepPoint({**settings, "faults.errors": errors}, result)
        for errors in range(1, 14)
        for settings, result in found.points[:4]
    ]
    many = dataclasses.replace(found, over={**found.over, "faults.errors": tuple(range(1, 14))}, points=tuple(points))
    html, images = rendered(many, METRICS)
    assert images == {} and "faults.errors have 13 combinations of values, for which there is no room" in html
    assert html.count("<td>off-everywhere</td>") == 13 * 2 * len(METRICS)


@pytest.mark.parametrize(
    ("over", "policies", "metric", "reason"),
    [
        ({"faults.errors": [1]}, ["unmap1g", "hgm2m"], "slowdown", "no picture of a single point"),
        ({"faults.errors": [1, 2], **KEPT}, ["hgm2m"], "slowdown", "it takes two policies or more"),
        ({"faults.errors": [1, 2], **KEPT}, ["hgm2m", "hgm4k"], "errors", "no map of errors, of which no value"),
    ],
)
def test_what_cannot_be_drawn_is_said(
    over: dict[str, list[Any]], policies: list[str], metric: str, reason: str
) -> None:
    html, images = rendered(sweep(over, policies), [metric])
    assert images == {} and reason in html and "<table" in html


def test_one_policy_over_one_key_is_drawn() -> None:
    html, images = rendered(sweep({"faults.errors": [1, 2]}, ["hgm2m"]), ["errors"])
    assert list(images) == ["sweep-errors.png"] and "nan" not in html


def test_the_page_names_what_is_swept_and_says_alike_where_no_difference_shows() -> None:
    found = sweep({"vm.memory": ["1TiB", "2TiB"], "faults.errors": [1, 100]}, ["unmap1g", "hgm2m"])
    html, _ = rendered(found, ["slowdown"])
    assert "<h1>Sweep over vm.memory and faults.errors</h1>" in html
    svg = figures(html)["sweep-slowdown", "wide"]
    alternative = re.findall('aria-label="([^"]*)"', svg)[0]
    one_error = [part for part in alternative.split("; ") if "faults.errors=1 " in part]
    assert len(one_error) == 2 and all("all alike 0 %" in part for part in one_error)
    assert "all alike" in texts_of(svg)
    assert "Best by slowdown" in html and "all alike at faults.errors=1" in html


def test_names_titles_and_commands_are_text_never_markup(grid: ps.Sweep) -> None:
    html, _ = rendered(grid)
    assert "<script" not in html and "<img" not in html and "<b>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html and "&lt;b&gt;VM&lt;/b&gt;" in html
    assert """content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">""" in html
    assert re.findall(r"""(?:src|href)="(?!#|data:)""", html) == [] and "url(" not in html


def test_pictures_and_page_are_the_same_bytes_and_say_how_to_make_them(
    grid: ps.Sweep, tmp_path: Path, hashes: Callable[[Path], dict[str, str]]
) -> None:
    for place in ("a", "b"):
        write_sweep(grid, tmp_path / place, metrics=METRICS, command=COMMAND, sweep_id="ab" * 32)
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    for path in (tmp_path / "a").glob("*.png"):
        texts = Image.open(io.BytesIO(path.read_bytes())).text  # type: ignore[attr-defined]
        assert (texts["Command"], texts["Sweep-Id"], texts["Seed"]) == (COMMAND, "ab" * 32, "1")
    (tmp_path / "a" / "sweep.csv").write_text("mine")
    remove_sweep_page(tmp_path / "a")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["sweep.csv"]


def test_tables_have_every_point_with_its_interval(grid: ps.Sweep) -> None:
    html, _ = rendered(grid, ["vm_lost"], year=2)
    rows = re.findall(r"<tr>\n((?:<td.*?</td>\n)+)</tr>", html)
    assert len(rows) == 4 and all(len(re.findall(r"<td", row)) == 2 + 3 for row in rows)
    mean = grid.points[0].result.mean("hgm2m", "vm_lost", 2)
    assert f"{100 * mean.low:.2g}" in rows[0] and "Means in year 2" in html


def test_what_the_report_calls_no_difference_is_none_in_text_and_map() -> None:
    """Slowdowns that differ in every trial, but by less than 0.05 points."""
    found = sweep({"faults.errors": [1, 2], "host.spares": [0, 4]}, ["unmap1g", "hgm2m"])
    gaps = [result.compare("hgm2m", to="unmap1g").difference("slowdown") for _, result in found.points]
    assert any(gap.low > 0 and gap.best < 5e-4 for gap in gaps)
    html, _ = rendered(found, ["slowdown"])
    assert "Best by slowdown: all alike at every point" in html
    svg = figures(html)["sweep-slowdown", "wide"]
    assert texts_of(svg).count("all alike") == 4 and "stroke-width: 2.4" not in svg


def test_where_a_policy_is_best_is_told_in_ranges(grid: ps.Sweep) -> None:
    few, many = grid.points[2].result, grid.points[0].result  # unmap1g and its twin are best with few errors
    over = {"mine:a": (0, 1, 2, 3), "mine:b": (0, 2, 4)}
    points = [
        SweepPoint({"mine:a": a, "mine:b": b}, few if a <= 1 or (a == 2 and b >= 2) else many)
        for a in over["mine:a"]
        for b in over["mine:b"]
    ]
    told = best_where(dataclasses.replace(grid, over=over, points=tuple(points)), "capacity_cost_bytes", None)
    assert told == (
        "unmap1g and <script>alert(1)</script> at mine:a up to 1 and at mine:a up to 2 with mine:b from 2 on; "
        "hgm2m at mine:a=3 and at mine:a from 2 on with mine:b=0"
    )


def test_a_map_has_no_more_digits_than_its_interval_bears_and_one_caption() -> None:
    over = {"faults.scale": [1, 4], "host.spares": [0, 4]}
    scenario = ps.load_scenario("cloud-1t-ddr4")
    found = ps.sweep(scenario, over=over, policies=["unmap1g", "hgm2m"], trials=2_000)
    html, _ = rendered(found)
    shown = value_shown(
        known_metric("guest_lost_bytes", found.points[0].result.metrics),
        found.points[0].result.mean("hgm2m", "guest_lost_bytes"),
    )
    assert shown.interval
    assert f"{shown.value} {shown.unit}" in texts_of(figures(html)["sweep-guest_lost_bytes", "wide"])
    assert html.count("The policy with the best mean") == 1 and html.count("To be read as the") == 1
