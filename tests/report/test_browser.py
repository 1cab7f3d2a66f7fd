"""The report in a browser: it needs no network and no script, every control works, and it can be read."""

from __future__ import annotations

import csv
import itertools
import re
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import poisonsim as ps
from poisonsim.errors import FewTailTrials
from poisonsim.policy import BACKING, KEEP, UNMAP, Policy, on
from poisonsim.report import write_comparison, write_fleet, write_report, write_sweep
from poisonsim.results.result import Result

COMMAND = 'poisonsim run seed-1t --set title="a & <b>"'


class Lazy(Policy):
    """Keep the poison once, then lose the huge page."""

    name = "<script>alert(1)</script>"
    rules = [on(BACKING, when="hits_in_region < 2").do(KEEP), on(BACKING).do(UNMAP)]


@pytest.fixture(scope="module")
def crowded() -> Result:
    """Many policies, one of them with a name that means harm, and too few trials for p99."""
    labels = ["unmap1g", "unmap1g-private", "hgm4k", "hgm4k-vma", "hgm2m", "migrate1g:spares=2"]
    scenario = ps.load_scenario("seed-1t", overrides=["vm.guest_page=1G", "faults.errors=20"])
    return ps.run(
        scenario, policies=[*labels, "migrate1g:spares=16", "migrate-then-hgm2m:spares=32", Lazy], trials=300, seed=1
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on this machine")
    with playwright.sync_playwright() as p:
        running = p.chromium.launch(executable_path=path, args=["--headless", "--no-sandbox", "--disable-gpu"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, crowded: Result) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("error", FewTailTrials)  # the page tells; the caller is not told again
        return write_report(crowded, tmp_path_factory.mktemp("report"), command=COMMAND)


@pytest.fixture(scope="module")
def field_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run in which few VMs are hit, beside the summary it must agree with."""
    folder = tmp_path_factory.mktemp("field")
    policies = ["unmap1g", "hgm2m", "migrate1g"]
    result = ps.run("cloud-1t-ddr4", policies=policies, trials=20_000, seed=1, out=folder)
    return write_report(result, folder, command="poisonsim run cloud-1t-ddr4 --trials 20000")


@pytest.fixture(scope="module")
def fleet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a fleet of two components with long names."""
    scenario = ps.load_scenario("seed-1t", overrides=["faults.errors=3"])
    parts = [ps.FleetPart(f"{name}-{'long' * 12}", scenario, 12_345) for name in ("old", "new")]
    found = ps.run_fleet(parts, policies=["unmap1g", "hgm2m", Lazy], trials=1000)
    thresholds = ["guest_lost_bytes >= 1GiB", "slowdown > 1.01", "vm_lost >= 1"]
    return write_fleet(
        found, tmp_path_factory.mktemp("fleet"), thresholds=thresholds, command=COMMAND, fleet_id="0" * 64
    )


@pytest.fixture(scope="module")
def sweep_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a small sweep: one map and many marks."""
    over = {"faults.errors": [1, 30], "host.hvo_with_hgm": ["off-everywhere", "kept"]}
    found = ps.sweep("seed-1t-distinct", over=over, policies=["unmap1g", "hgm2m", Lazy], trials=100)
    folder = tmp_path_factory.mktemp("sweep")
    return write_sweep(found, folder, metrics=["capacity_cost_bytes"], command=COMMAND, sweep_id="0" * 64)


@pytest.fixture(scope="module")
def several_file(tmp_path_factory: pytest.TempPathFactory, crowded: Result) -> Path:
    """One page about two runs."""
    runs = [("<b>before</b>", crowded, COMMAND), ("after", crowded, COMMAND)]
    return write_comparison(runs, tmp_path_factory.mktemp("several") / "page.html")


SHOWN = """series => [...document.querySelectorAll(`svg.wide [data-series="${series}"]`)]
    .filter(part => getComputedStyle(part).display !== "none").length"""


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page without a network that collects what it asks for and complains of; both must stay empty."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    page = context.new_page()
    seen: list[str] = []
    page.on("request", lambda request: seen.append(request.url))
    page.on("console", lambda message: seen.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: seen.append(f"error: {error}"))
    yield page
    assert seen == [page.url]
    context.close()


def test_policies_can_be_switched_by_mouse_and_keyboard(page: Any, file: Path) -> None:
    page.goto(file.as_uri())
    assert page.title().startswith("1 TiB VM, 100 uniform errors")
    assert page.evaluate(SHOWN, 1) > 5 and page.evaluate(SHOWN, 2) > 5
    buttons = page.locator('button[data-toggle="1"]')
    n = buttons.count()
    assert n == page.locator("svg.wide").count()
    buttons.first.click()
    assert [buttons.nth(i).get_attribute("aria-pressed") for i in range(n)] == ["false"] * n
    assert page.evaluate(SHOWN, 1) == 0 and page.evaluate(SHOWN, 2) > 5
    buttons.last.focus()
    page.keyboard.press("Space")
    assert buttons.first.get_attribute("aria-pressed") == "true" and page.evaluate(SHOWN, 1) > 5
    page.keyboard.press("Enter")
    assert buttons.first.get_attribute("aria-pressed") == "false" and page.evaluate(SHOWN, 1) == 0


def test_another_reference_can_be_chosen(page: Any, file: Path) -> None:
    page.goto(file.as_uri())
    sentences = page.locator(".sentences p[data-against]:visible")
    assert "than under unmap1g" in sentences.nth(2).inner_text()
    assert page.locator(".tag:visible").count() == 1
    page.locator("select[data-reference]").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert "than under hgm4k" in sentences.nth(0).inner_text()
    assert sentences.count() == 9 and page.locator(".tag:visible").count() == 1
    assert page.locator(".sentences li").nth(2).locator(".tag").is_visible()
    page.locator("select[data-reference]").select_option(label="<script>alert(1)</script>")
    assert page.locator("#differences .caption:visible").inner_text().startswith("Against <script>alert(1)</script>")


def test_a_life_is_stepped_through_by_buttons_and_keys(page: Any, file: Path) -> None:
    page.goto(file.as_uri())
    count = page.locator('[data-count="0"]')
    now = page.locator("[data-now]")
    at_end = int(count.inner_text())
    assert now.inner_text().startswith("Step ") and at_end < 1024
    page.locator('[data-step="first"]').click()
    assert count.inner_text() == "1024" and now.inner_text().startswith("Before the first of")
    page.locator('[data-step="on"]').click()
    assert now.inner_text().startswith("Step 1 of") and page.locator(".cells .now").count() == 1
    page.locator("[data-cells]").focus()
    page.keyboard.press("ArrowRight")
    assert now.inner_text().startswith("Step 2 of")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert now.inner_text().startswith("Before")
    page.keyboard.press("End")
    assert int(count.inner_text()) == at_end
    page.keyboard.press("Home")
    page.locator('[data-step="back"]').focus()
    page.keyboard.press("Enter")
    assert now.inner_text().startswith("Before")
    n = page.locator("[data-whose] option").count()
    assert n == 18 == page.locator("details[data-steps]").count()
    page.locator("[data-whose]").select_option(index=n - 1)
    assert "lost" in now.inner_text() or "error" in now.inner_text()


def test_the_grid_after_the_last_step_is_the_one_without_a_script(page: Any, file: Path) -> None:
    drawn = re.findall(r'<i class="(k\d+)"></i>', file.read_text().split("data-cells>")[1].split("</div>")[0])
    page.goto(file.as_uri())
    shown = page.evaluate("[...document.querySelectorAll('[data-cells] i')].map(cell => cell.classList[0])")
    assert shown == drawn


def test_table_holds_what_summary_csv_holds(page: Any, field_file: Path) -> None:
    page.goto(field_file.as_uri())
    with (field_file.parent / "summary.csv").open() as lines:
        rows = {(r["policy"], r["metric"]): r for r in csv.DictReader(lines) if r["year"] == "5"}
    cells = page.evaluate("[...document.querySelectorAll('[data-value]')].map(cell => ({...cell.dataset}))")
    assert len(cells) == 3 * (5 + 4)
    for cell in cells:
        assert float(cell["value"]) == float(rows[cell["policy"], cell["metric"]][cell["stat"]])
    assert "of VMs see an error in 5 years." in page.locator("#verdict p.finding:not(.glance)").inner_text()
    assert "Of the VMs that see an error" in page.locator("#verdict .caption").inner_text()
    assert page.locator("#modes svg.wide").is_visible()
    assert "of VMs that are hit" in page.locator("#reach figcaption").inner_text()
    assert "row" in page.locator("#faults").inner_text()


def test_every_control_and_scrolled_part_can_be_reached_by_keyboard(page: Any, field_file: Path) -> None:
    page.goto(field_file.as_uri())
    wanted = page.evaluate(
        """[...document.querySelectorAll("button, select, summary, .scroll, .cells, a")]
            .filter(part => part.checkVisibility()).length"""
    )
    reached = set()
    for _ in range(3 * wanted):
        page.keyboard.press("Tab")
        place = page.evaluate(
            """(() => { const part = document.activeElement;
                const outline = getComputedStyle(part).outlineStyle;
                return [[...document.querySelectorAll("*")].indexOf(part), part.tagName, outline]; })()"""
        )
        if place[1] == "BODY":
            break
        assert place[2] != "none", place
        reached.add(place[0])
    assert len(reached) >= wanted


LOW_CONTRAST = """() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const paper = (part) => {
    for (; part; part = part.parentElement) {
      const [r, g, b, a = 1] = channels(getComputedStyle(part).backgroundColor);
      if (a > 0) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const part of document.querySelectorAll("body *")) {
    const own = [...part.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    if (!own || !part.getClientRects().length || part.closest(".off")) continue;
    const style = getComputedStyle(part), drawn = part instanceof SVGElement;
    const ends = [light(channels(drawn ? style.fill : style.color)), light(paper(part))].sort((a, b) => a - b);
    const ratio = (ends[1] + 0.05) / (ends[0] + 0.05);
    if (ratio < 4.5) found.push([part.tagName, part.textContent.trim().slice(0, 40), ratio]);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_the_contrast_that_wcag_asks_for(page: Any, file: Path, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.goto(file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    assert page.evaluate(LOW_CONTRAST) == []
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate(LOW_CONTRAST) == []


def test_the_page_can_be_read_without_a_script(browser: Any, file: Path) -> None:
    context = browser.new_context(offline=True, java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())
    assert page.locator("button[data-toggle]").first.is_disabled()
    assert not page.locator("select").first.is_visible() and not page.locator("[data-step]").first.is_visible()
    assert page.locator(".sentences p[data-against]:visible").count() == 9
    page.locator("details[data-steps] summary").first.click()
    assert page.locator("details[data-steps] li").first.is_visible()
    context.close()


def test_no_sideways_scrolling_and_figures_follow_the_theme(browser: Any, file: Path, field_file: Path) -> None:
    context = browser.new_context(offline=True)
    page = context.new_page()
    for of, width, scheme in itertools.product((file, field_file), (390, 1280), ("light", "dark")):
        page.goto(of.as_uri())
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        shown, hidden = ("narrow", "wide") if width < 700 else ("wide", "narrow")
        assert page.locator(f"svg.{shown}").first.is_visible() and not page.locator(f"svg.{hidden}").first.is_visible()
        fill = page.evaluate(f"getComputedStyle(document.querySelector('svg.{shown} text')).fill")
        assert fill == page.evaluate("getComputedStyle(document.body).color")
        assert (sum(map(int, re.findall(r"\d+", fill)[:3])) > 380) == (scheme == "dark")
    context.close()


def _can_be_read(page: Any) -> None:
    """Asserts that a page fits narrow and wide windows and has contrast on light and dark ground."""
    for width, scheme in itertools.product((390, 1280), ("light", "dark")):
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(LOW_CONTRAST) == []


def test_the_page_of_a_fleet_can_be_read_in_both_themes_and_widths(page: Any, fleet_file: Path) -> None:
    page.goto(fleet_file.as_uri())
    _can_be_read(page)
    assert page.locator("#components a").count() == 2


def test_pages_without_a_script_can_be_read_in_both_themes_and_widths(
    page: Any, sweep_file: Path, several_file: Path, browser: Any
) -> None:
    page.goto(sweep_file.as_uri())
    _can_be_read(page)
    context = browser.new_context(offline=True)
    other = context.new_page()
    said: list[str] = []
    other.on("console", lambda message: said.append(message.text))
    other.goto(several_file.as_uri())
    assert other.locator("h2", has_text="<b>before</b>").count() == 1 and said == []
    assert other.evaluate(LOW_CONTRAST) == []
    context.close()


CUT = """[...document.querySelectorAll(".scroll")].filter(part => part.scrollWidth > part.clientWidth + 1)
    .map(part => part.getAttribute("aria-label"))"""
OUTSIDE = """[...document.querySelectorAll("td, tbody th")].filter(cell => cell.getClientRects().length)
    .filter(cell => cell.getBoundingClientRect().right > innerWidth || cell.scrollWidth > cell.clientWidth + 1)
    .map(cell => cell.textContent)"""
BROKEN = """[...document.querySelectorAll(".whole")].filter(word => word.getClientRects().length > 1)
    .map(word => word.textContent)"""


@pytest.mark.parametrize("which", ["field_file", "file", "fleet_file", "several_file"])
def test_a_narrow_window_shows_every_cell_below_its_heading(
    browser: Any, which: str, request: pytest.FixtureRequest
) -> None:
    context = browser.new_context(offline=True, viewport={"width": 390, "height": 800})
    page = context.new_page()
    page.goto(request.getfixturevalue(which).as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    assert page.evaluate(CUT) == [] and page.evaluate(OUTSIDE) == [] and page.evaluate(BROKEN) == []
    bare = page.evaluate(
        """[...document.querySelectorAll("table.stack td")]
            .filter(cell => cell.textContent && !cell.dataset.head).map(cell => cell.textContent)"""
    )
    assert bare == []
    page.evaluate("document.body.style.overflowWrap = 'normal'")  # nothing but names and sources is broken in a word
    cells = page.evaluate(OUTSIDE.replace("td, tbody th", "table.stack td:not(.source, .value)"))
    assert cells == []
    page.set_viewport_size({"width": 1280, "height": 800})
    assert page.evaluate(BROKEN) == []
    assert page.evaluate("getComputedStyle(document.querySelector('table.stack thead')).display") != "none"
    context.close()


def test_values_leave_sources_the_room_they_need(page: Any, field_file: Path) -> None:
    page.goto(field_file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    assert [name for name in page.evaluate(CUT) if name != "One VM's life"] == []
    shares = page.evaluate(
        """[...document.querySelectorAll("table.sources")].map(table =>
            table.querySelector(".source").offsetWidth / table.offsetWidth)"""
    )
    assert len(shares) > 5 and min(shares) > 0.35


HIDDEN_SCROLLS = """[...document.querySelectorAll(".scroll")].filter(part => part.scrollWidth > part.clientWidth)
    .map(part => [getComputedStyle(part).backgroundAttachment, part.tabIndex, part.getAttribute("aria-label")])"""


def test_a_table_that_is_cut_shows_it_and_can_be_scrolled_by_keyboard(page: Any, sweep_file: Path) -> None:
    page.goto(sweep_file.as_uri())
    page.set_viewport_size({"width": 390, "height": 800})
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    cut = page.evaluate(HIDDEN_SCROLLS)
    assert cut and all("local" in shade and "scroll" in shade and tab == 0 and name for shade, tab, name in cut)
    table = page.locator(".scroll").first
    table.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(500)  # the page's policy lets no condition be waited for in it
    assert page.evaluate("document.querySelector('.scroll').scrollLeft") > 0


def test_on_paper_nothing_is_dark_or_folded_away(page: Any, field_file: Path) -> None:
    page.goto(field_file.as_uri())
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    for part in page.locator("details > .scroll, details > p:not(.on-paper)").all():
        assert part.bounding_box()["height"] > 10
    steps = page.evaluate(
        """[...document.querySelectorAll("details[data-steps]")].map(life => [
            life.querySelectorAll("li").length,
            [...life.querySelectorAll("li")].filter(step => step.getClientRects().length).length,
            !!life.querySelector(".on-paper")?.getClientRects().length])"""
    )
    assert max(n for n, _, _ in steps) > 12
    assert all(shown == min(n, 12) and told == (n > 12) for n, shown, told in steps)
    assert not page.locator(".choose").first.is_visible()
    assert page.locator("svg.wide").first.is_visible() and not page.locator("svg.narrow").first.is_visible()
    wide = page.evaluate("""[...document.querySelectorAll("figure > svg.wide")]
        .map(svg => svg.getBoundingClientRect()).filter(box => box.right > innerWidth + 1).length""")
    assert wide == 0
