"""The report: what is on the page, what must not be on it, and that a browser shows it."""

from __future__ import annotations

import io
import itertools
import re
import warnings
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

import poisonsim as ps
from poisonsim.engine.store import REPORT_FILES
from poisonsim.errors import FewTailTrials
from poisonsim.policy import BACKING, KEEP, UNMAP, Policy, on
from poisonsim.report import render, render_comparison, write_comparison, write_report
from poisonsim.report.assumptions import numbers_in_use, settings
from poisonsim.report.canvas import fixed_settings
from poisonsim.report.figures import Curve, Mark, Spread, reach_scale, trade
from poisonsim.report.labels import Frame, spread_apart
from poisonsim.report.page import command_text, name_text
from poisonsim.report.scales import Linear, LogBytes
from poisonsim.report.style import MARKER_PATHS, SHIPPED, styles
from poisonsim.results.compare_words import METRICS
from poisonsim.results.numbers import minus
from poisonsim.results.result import Result
from poisonsim.results.statistics import Estimate
from poisonsim.results.words import Gap

COMMAND = 'poisonsim run seed-1t --policy hgm2m --trials 2000 --seed 7 --set title="a & <b>"'
POLICIES = ["unmap1g", "hgm4k", "hgm2m", "migrate1g"]
SECTIONS = [
    "verdict", "trade", "reach", "tables", "stage2", "tail", "fleet", "life", "differences", "convergence",
    "policies", "faults", "assumptions", "reproduce",
]  # fmt: skip
FIGURES = ["convergence", "differences", "reach", "stage2", "tables", "tail", "trade"]
PNGS = sorted(f"{name}.png" for name in [*FIGURES, "life"])
DECIDING = ("vm_lost", "guest_lost_bytes", "capacity_cost_bytes", "slowdown", "tlb_reach_loss")
Rendered = tuple[str, dict[str, bytes]]
VOID = {"meta", "link", "br", "path", "line", "use", "wbr"}


class Lazy(Policy):
    """Keep the poison once, then lose the huge page."""

    name = "<script>alert(1)</script>"
    rules = [on(BACKING, when="hits_in_region < 2").do(KEEP), on(BACKING).do(UNMAP)]


class Dollar(Policy):
    """Lose $x^2$ and \\frac{."""

    name = "cost$\\frac{$"
    rules = [on(BACKING).do(UNMAP)]


class Page(HTMLParser):
    """Every start tag with its attributes, the text, and whether tags nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def having(self, key: str) -> list[dict[str, str]]:
        return [attrs for _, attrs in self.tags if key in attrs]

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


@pytest.fixture(scope="module")
def result() -> Result:
    return ps.run("seed-1t", policies=POLICIES, trials=2000, seed=7)


@pytest.fixture(scope="module")
def rendered(result: Result) -> Rendered:
    return render(result, command=COMMAND)


@pytest.fixture(scope="module")
def crowded() -> Result:
    labels = ["unmap1g", "unmap1g-private", "hgm4k", "hgm4k-vma", "hgm2m", "migrate1g:spares=2"]
    scenario = ps.load_scenario("seed-1t", overrides=["vm.guest_page=1G", "faults.errors=20"])
    return ps.run(
        scenario, policies=[*labels, "migrate1g:spares=16", "migrate-then-hgm2m:spares=32", Lazy], trials=300, seed=1
    )


def test_sections_stand_in_their_order_and_every_figure_says_what_it_shows(
    rendered: Rendered,
) -> None:
    page = Page(rendered[0])
    sections = [attrs["id"] for tag, attrs in page.tags if tag == "section"]
    assert sections == SECTIONS
    figures = [attrs for tag, attrs in page.tags if tag == "svg" and attrs.get("role") == "img"]
    assert len(figures) == 2 * len(FIGURES)  # each for a page and for a telephone
    named = [attrs["aria-label"] for attrs in figures]
    for words in named[:10]:  # those of paired differences and of convergence say what differs, or is not yet known
        assert all(label in words for label in POLICIES)
    assert all(named) and "nan" not in " ".join(named)
    ids = [attrs["id"] for attrs in page.having("id")]
    assert len(ids) == len(set(ids))
    assert rendered[0].index("1 TiB VM, 100 uniform errors in 5 years") < rendered[0].index('id="verdict"')


def test_one_sentence_per_policy_compares_with_the_first(rendered: Rendered) -> None:
    text = Page(rendered[0]).text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{WORD JOINER}", "")
    assert "The guest loses 400 KiB of memory instead of 95.27 GiB; the policy costs the host 15.97 GiB" in text
    assert text.count("slower than under unmap1g") == 2
    assert text.count("of VMs are lost") == len(POLICIES) ** 2  # with each policy as the reference
    shown = Page(re.sub(r"<p data-against[^>]* hidden>.*?</p>", "", rendered[0])).text
    assert shown.count("of VMs are lost") == len(POLICIES)


def test_page_needs_nothing_but_itself(rendered: Rendered) -> None:
    html = rendered[0]
    assert len(html.encode()) < 1_500_000
    for _, attrs in Page(html).tags:
        assert "src" not in attrs and "srcset" not in attrs
        for key in ("href", "xlink:href"):
            assert attrs.get(key, "#").startswith(("#", "data:,"))
    assert re.findall(r"url\((?!data:)", html) == []
    assert "@import" not in html and "//" not in html.split("<main>")[0]
    assert html.count("<script") == html.count("<style") == 1


def test_rendering_again_gives_the_same_bytes_whatever_matplotlib_is_set_to(result: Result, rendered: Rendered) -> None:
    with mpl.rc_context({"font.size": 30, "axes.grid": True, "svg.fonttype": "path", "savefig.bbox": "tight"}):
        before = dict(mpl.rcParams)
        again = render(result, command=COMMAND)
        assert dict(mpl.rcParams) == before
    assert again == rendered


def test_verdict_table_holds_the_summary_to_the_last_bit(result: Result, rendered: Rendered) -> None:
    summary = result.summary()
    rows = summary[summary["year"] == 5].set_index(["policy", "metric"])
    cells = Page(rendered[0]).having("data-value")
    found = {(c["data-policy"], c["data-metric"], c["data-stat"]): float(c["data-value"]) for c in cells}
    assert len(found) == len(cells) == len(POLICIES) * (5 + 4)  # five means; p99 of all but the probability
    for (policy, metric, stat), value in found.items():
        assert value == rows.loc[(policy, metric), stat]
    assert {metric for _, metric, _ in found} == set(DECIDING)


def test_png_files_say_how_to_make_them_again(result: Result, rendered: Rendered) -> None:
    assert sorted(rendered[1]) == PNGS
    for data in rendered[1].values():
        texts = Image.open(io.BytesIO(data)).text  # type: ignore[attr-defined]
        assert texts["Command"] == COMMAND
        assert texts["Run-Id"] == result.plan.run_id
        assert set(texts) == {"Title", "Command", "Run-Id", "Seed", "Trials"}


def test_names_and_titles_are_text_never_markup() -> None:
    scenario = ps.Scenario(title="""Tom's "big" <b>VM</b> & $x^2$ {{ 7*7 }}""", faults=ps.CountFaults(errors=5))
    result = ps.run(scenario, policies=["unmap1g", Lazy, Dollar], trials=50, seed=1)
    html, _ = render(result, command="poisonsim run '</pre><img src=x onerror=alert(2)>'")
    page = Page(html)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert {"img", "b"}.isdisjoint(tag for tag, _ in page.tags)
    assert scenario.title in page.text
    assert "<script>alert(1)</script>" in page.text
    assert page.text.count("cost$\\frac{$") > 5
    shown = [attrs["data-policy"] for attrs in page.having("data-policy")]
    assert Lazy.name in shown
    assert "49" not in page.text.split("Verdict")[0]


@pytest.mark.parametrize(
    ("policies", "errors", "trials"),
    [(["hgm2m"], 0, 2000), (["hgm2m"], 3, 15), (["unmap1g", "hgm2m", "migrate1g"], 0, 300)],
)
def test_small_and_empty_runs_render(policies: list[str], errors: int, trials: int) -> None:
    scenario = ps.Scenario(faults=ps.CountFaults(errors=errors))
    html, images = render(ps.run(scenario, policies=policies, trials=trials, seed=1), command="x")
    page = Page(html)
    assert set(PNGS) - set(images) <= {"life.png", "differences.png"}
    assert ("life.png" in images) == (errors > 0) and ("differences.png" in images) == (len(policies) > 1)
    assert "nan" not in page.text.lower()
    assert ("reference" in html.split("<main>")[1].split("<section")[1]) == (len(policies) > 1)


def test_too_few_trials_leave_out_p99_and_say_so(crowded: Result) -> None:
    page = Page(render(crowded, command=COMMAND)[0])
    assert "p99 needs at least 1,000" in page.text
    assert not [c for c in page.having("data-value") if c["data-stat"] == "p99"]
    assert re.search(r"\d+ assumed values in use", page.text)


def test_write_report_leaves_whole_files_only_and_runs_no_policy_file(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    text = "from poisonsim.policy import *\nclass Mine(Policy):\n    'Mine.\\n\\nStatus: secret.'\n"
    mine.write_text(text + "    rules = [on(BACKING).do(UNMAP)]\n")
    result = ps.run(ps.Scenario(faults=ps.CountFaults(errors=1)), policies=[str(mine)], trials=20, seed=1)
    mine.unlink()
    page = write_report(result, tmp_path / "new" / "folder", command="x")
    assert page.name == "report.html"
    assert sorted(p.name for p in page.parent.iterdir()) == sorted({*PNGS, "report.html"} - {"differences.png"})
    assert {*PNGS, "report.html"} <= set(REPORT_FILES)
    assert "Mine." in page.read_text() and "secret" not in page.read_text()


def test_policies_tell_rules_parameters_and_status(rendered: Rendered) -> None:
    text = Page(rendered[0]).text
    assert "on(>BASE): SPLIT" in text and "patches, not merged" in text and "spares = 4" in text


def test_assumed_numbers_come_first_and_chosen_values_lose_their_source() -> None:
    rows = numbers_in_use(ps.load_scenario("cloud-1t-ddr4"))
    assumed = [row.assumed for row in rows]
    assert assumed == sorted(assumed, reverse=True)
    of = {"fault table ddr4-alibaba", "set of laws field", "DIMM ddr4-32g-2rx4", "address map skx-closed-6ch"}
    assert of | {"costs linux", "CPU cascade-lake", "scenario"} <= {row.where for row in rows}
    assert all(row.source for row in rows)
    assert "walkers" not in {row.key for row in rows}  # no result depends on it
    changed = {s.key: s for s in settings(ps.load_scenario("seed-1t", overrides=["host.spares=9"]))}
    assert (changed["host.spares"].value, changed["host.spares"].quality) == ("9", "")
    assert changed["host.page_tables"].quality == "assumed"


def test_differences_that_may_be_none_are_marked() -> None:
    unclear = Gap("capacity_cost_bytes", Estimate(-1 << 30, 2 << 30, 5 << 30, "bytes"))
    assert unclear.words("less", "more") == "~2 (−1 to 5) GiB more"
    assert not Gap("vm_lost", Estimate(0.01, 0.02, 0.03, "1")).words("fewer", "more").startswith("~")
    assert Gap("vm_lost", Estimate(0, 0, 0, "1")).words("fewer", "more") == "the same"


def test_labels_of_the_trade_do_not_cover_each_other(crowded: Result) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewTailTrials)
        summary = crowded.summary()
    at = summary[summary["year"] == 5].set_index(["policy", "metric"])
    looks = styles(crowded.policies)
    marks = [
        Mark(
            label,
            look,
            Spread(at.loc[(label, "capacity_cost_bytes"), "p50"], None),
            Spread(100 * (at.loc[(label, "slowdown"), "p50"] - 1), None),
        )
        for label, look in zip(crowded.policies, looks, strict=True)
    ]
    same = [Mark(m.label, m.style, Spread(1 << 30, None), Spread(0.5, None)) for m in marks]
    for case in (marks, same):
        with fixed_settings():
            canvas = trade(case, Frame(860, 400))
            boxes = [text.get_window_extent() for text in canvas.figure.texts if text.get_text() in crowded.policies]
        assert len(boxes) == len(crowded.policies)
        for a, b in itertools.combinations(boxes, 2):
            assert not a.overlaps(b)
        assert all(box.x0 >= 0 and box.x1 <= 860 for box in boxes)


def test_places_spread_apart_keep_order_gap_and_bounds() -> None:
    rng = np.random.default_rng(3)
    for n in range(1, 30):
        wanted = list(rng.uniform(-20, 320, n))
        places = spread_apart(wanted, 12, 0, 300)
        by_wish = np.array(places)[np.argsort(wanted)]
        assert by_wish.min() >= -1e-9 and by_wish.max() <= 300 + 1e-9
        assert np.all(np.diff(by_wish) >= min(12, 300 / max(n - 1, 1)) - 1e-9)


@pytest.mark.parametrize("values", [[], [0], [0, 0.001], [5], [4096, 4097], [1e-30, 1e15], [0, 1 << 40]])
def test_byte_axes_hold_what_they_are_given(values: list[float]) -> None:
    axis = LogBytes(values)
    low, high = axis.limits
    assert low < high
    places = axis.place(values)
    assert np.all((places >= low) & (places <= high))
    ticks = axis.ticks(8)
    assert 2 <= len(ticks.positions) <= 8
    assert all(low <= position <= high for position in ticks.positions)
    assert ("0" in ticks.texts) == any(v == 0 for v in values)


@pytest.mark.parametrize("values", [[], [0], [-0.3, 0.9], [1e-15], [250]])
def test_linear_axes_hold_zero(values: list[float]) -> None:
    low, high = Linear.holding(values).limits
    assert low <= min([0, *values]) and high >= max([0, *values]) and low < high
    assert "0" in Linear.holding(values).ticks(6).texts


def test_looks_depend_on_the_name_only_and_never_coincide() -> None:
    assert styles(["hgm2m"]) == styles(["unmap1g", "hgm2m"])[1:] == (SHIPPED["hgm2m"],)
    assert styles(["mine", "hgm2m"])[0] == styles(["hgm4k", "mine"])[1]
    many = styles([*SHIPPED, *(f"hgm2m:n={i}" for i in range(20)), *(f"mine{i}" for i in range(20))])
    assert len(set(many)) == len(many)
    assert {style.marker for style in many} <= set(MARKER_PATHS)


def test_shipped_colours_can_be_read_and_told_apart_by_the_colour_blind() -> None:
    for tones, page in (("light", "#ffffff"), ("dark", "#14181d")):
        colours = [getattr(style, tones) for style in SHIPPED.values()]
        for style in styles([*SHIPPED, "a", "b", "c", "d"]):
            lights = sorted(_linear(c) @ [0.2126, 0.7152, 0.0722] + 0.05 for c in (getattr(style, tones), page))
            assert lights[1] / lights[0] >= 4.5
        for matrix in _COLOUR_BLIND:
            seen = [_lab(np.array(matrix) @ _linear(colour)) for colour in colours]
            assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 15


# G. M. Machado et al., A physiologically-based model for simulation of color vision deficiency, IEEE TVCG 15(6),
# 2009, severity 1.0: protanopia, deuteranopia, tritanopia; and normal sight.
_COLOUR_BLIND = (
    ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
    ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
)


def _linear(colour: str) -> Any:
    c = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def _lab(rgb: Any) -> Any:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x = to_xyz @ np.clip(rgb, 0, 1) / [0.9505, 1, 1.089]
    f = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_several_runs_make_one_page(tmp_path: Path) -> None:
    results = {}
    for name, errors in (("few", 5), ("many", 20)):
        scenario = ps.load_scenario("seed-1t", overrides=[f"faults.errors={errors}"])
        results[name] = ps.run(scenario, policies=["unmap1g", Lazy, "hgm2m"][: 2 + (name == "few")], trials=60, seed=1)
    runs = [(name, result, f"poisonsim run {name}") for name, result in results.items()]
    html = write_comparison(runs, tmp_path / "new" / "page.html").read_text()
    assert html == render_comparison(runs)
    page = Page(html)
    assert [tag for tag, _ in page.tags].count("script") == 0 and Lazy.name in page.text
    ids = [attrs["id"] for attrs in page.having("id")]
    assert len(ids) == len(set(ids)) and {"what-differs", "verdict", "trade-0", "trade-1"} <= set(ids)
    assert "faults.errors" in page.text and "vm.memory" not in page.text
    assert "few and many compared" in page.text
    assert "Not paired, since faults.errors is 5 in one and 20 in the other" in page.text
    assert page.text.index("unmap1g of many loses") < page.text.index("What differs")
    cells = page.having("data-value")
    assert len(cells) == (3 + 2) * 5
    for cell in cells:
        own = results[cell["data-run"]].distribution(cell["data-policy"], cell["data-metric"])
        assert float(cell["data-value"]) == pytest.approx(own.mean().best)


def test_a_page_of_three_runs_begins_with_the_table_of_all() -> None:
    runs = []
    for errors in (5, 6, 7):
        scenario = ps.load_scenario("seed-1t", overrides=[f"faults.errors={errors}"])
        runs.append((f"r{errors}", ps.run(scenario, policies=["unmap1g"], trials=60, seed=1), "c"))
    for n, first in ((2, ["comparison", "what-differs", "verdict"]), (3, ["verdict", "what-differs", "comparison"])):
        assert re.findall('<section id="([^"]*)"', render_comparison(runs[:n]))[:3] == first


def test_names_titles_and_folders_on_a_page_of_several_runs_are_text(tmp_path: Path) -> None:
    title = """Tom's "big" <b>VM</b> & {{ 7*7 }}"""
    scenario = ps.Scenario(title=title, faults=ps.CountFaults(errors=5))
    name = "<img src=x onerror=alert(3)>"
    command = "poisonsim run '</pre><img src=x onerror=alert(2)>'"
    runs = [(name, ps.run(scenario, policies=["unmap1g", Lazy], trials=50, seed=seed), command) for seed in (1, 2)]
    html = render_comparison(runs)
    page = Page(html)
    assert {"img", "b", "script"}.isdisjoint(tag for tag, _ in page.tags)
    for text in (title, name, command, Lazy.name):
        assert text in page.text
    (policy,) = [a["content"] for a in page.having("http-equiv")]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_a_page_forbids_all_that_it_does_not_need(rendered: Rendered) -> None:
    (policy,) = [a["content"] for a in Page(rendered[0]).having("http-equiv")]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def test_where_slowdown_is_a_tie_the_trade_says_so_and_what_the_winner_loses() -> None:
    hit = ps.run("cloud-1t-ddr4", policies=["unmap1g", "hgm2m", "migrate1g"], trials=20_000, seed=1)
    trade = Page(render(hit, command="c")[0]).text.split("Memory cost against slowdown")[1]
    told = trade.replace("\N{NO-BREAK SPACE}", " ").replace("\N{WORD JOINER}", "")
    assert (
        "costs the host least; in slowdown where it is hit none differs by more than 0.05 points, by the median."
        in told
    )
    shares = dict(
        re.findall(r"(\w+) ([\d.]+) \([\d.–]+\) %", told.split("VMs lost are not in this picture (of all VMs): ")[1])
    )
    for policy in hit.policies:
        assert float(shares[policy]) == pytest.approx(100 * hit.mean(policy, "vm_lost").best, rel=0.1)


def test_no_slowdown_is_called_best_that_is_below_zero_for_want_of_memory(result: Result, rendered: Rendered) -> None:
    assert result.mean("unmap1g", "slowdown").best < 1
    bold = {
        (c["data-policy"], c["data-metric"])
        for c in Page(rendered[0]).having("data-value")
        if "least" in c.get("class", "")
    }
    assert ("unmap1g", "slowdown") not in bold and ("hgm2m", "guest_lost_bytes") in bold
    assert "a slowdown below 0 never is" in Page(rendered[0]).text
    hgm = ps.run("seed-1t", policies=["hgm2m", "hgm4k"], trials=100, seed=7)
    assert "a slowdown below 0 never is" not in Page(render(hgm, command="c")[0]).text


def test_every_value_stands_once_with_its_unit_in_parts_that_are_folded(rendered: Rendered) -> None:
    part = rendered[0].split('id="numbers"')[1].split("</section>")[0]
    assert part.count("<details>") == part.count("<table") == 4 and not re.search("<details[^>]* open", part)
    keys = [
        (title, key)
        for title, table in re.findall(r"<summary>(.*?):.*?(<table.*?</table>)", part, re.DOTALL)
        for key in re.findall(r"<code>([^<]+)</code>", table)
    ]
    assert len(keys) == len(set(keys))
    scenario = ps.load_scenario("seed-1t")
    assert {s.key for s in settings(scenario)} <= {key for title, key in keys if title == "Scenario"}
    assert {row.key for row in numbers_in_use(scenario)} <= {key for _, key in keys}
    for told in ("2 min", "15 min", "105 MiB", "0.001 %"):
        assert f">{told}</td>" in part
    assert " ns</td>" not in part and " bytes</td>" not in part


def test_notes_on_rates_are_sentences() -> None:
    hit = ps.run("cloud-1t-ddr4", policies=["hgm2m"], trials=5_000, seed=1)
    told = Page(render(hit, command="c")[0]).text.split("The faults")[1].split("Assumptions")[0]
    assert "server-months. Intervals are from the number of trials" in told and told.rstrip().endswith(".")


@pytest.mark.parametrize("height", [400, 320])
def test_labels_in_the_trade_are_nearest_to_their_own_marks_or_have_a_line(height: int) -> None:
    """Two marks close together near the edge, of which the first has the longer name."""
    names = ["unmap1g", "early-bail:patience=2", "hgm2m"]
    costs = [1 << 30, 20 << 30, 16 << 30]
    marks = [
        Mark(name, look, Spread(cost, None), Spread(0.002 * (i > 0), None))
        for i, (name, look, cost) in enumerate(zip(names, styles(names), costs, strict=True))
    ]
    with fixed_settings():
        canvas = trade(marks, Frame(860 if height == 400 else 360, height, narrow=height == 320))
        boxes = {t.get_text(): t.get_window_extent() for t in canvas.figure.texts if t.get_text() in names}
        lined = {line.get_gid() for line in canvas.figure.lines}
    at = [canvas.place(np.log2(cost), m.slowdown_pct.p50) for cost, m in zip(costs, marks, strict=True)]
    assert {"early-bail:patience=2", "hgm2m"} <= boxes.keys()
    for i, name in enumerate(names):
        if name in boxes and f"series-{i}" not in lined:
            far = [np.hypot(*(max(a - x, 0, x - b) for a, b, x in _sides(boxes[name], place))) for place in at]
            assert int(np.argmin(far)) == i


def _sides(box: Any, place: tuple[float, float]) -> list[tuple[float, float, float]]:
    return [(box.x0, box.x1, place[0]), (box.y0, box.y1, place[1])]


def test_reach_that_hardly_moves_is_drawn_on_a_scale_that_shows_it() -> None:
    years, near = np.array([0.0, 5.0]), np.array([100.0, 100.2])
    curve = lambda values: Curve("hgm2m", styles(["hgm2m"])[0], "", years, values, values, values, values)  # noqa: E731
    scale, ticks = reach_scale([curve(near)])
    assert 99.5 < scale.limits[0] < 100 < 100.2 < scale.limits[1] < 100.5 and len(ticks.positions) >= 3
    scale, ticks = reach_scale([curve(near), curve(near / 2)])
    assert scale.limits[0] == 0 and ticks.texts == ("0", "25", "50", "75", "100")


def test_two_runs_on_the_same_errors_begin_with_their_paired_differences() -> None:
    runs = []
    for spares in (0, 4):
        scenario = ps.load_scenario("seed-1t-distinct", overrides=[f"host.spares={spares}"])
        runs.append((f"s{spares}", ps.run(scenario, policies=["hgm2m", "migrate1g"], trials=200, seed=1), "c"))
    page = Page(render_comparison(runs))
    told = page.text.split("The differences")[1].split("What differs")[0]
    gap = ps.compare(runs[1][1], runs[0][1], policy="migrate1g").difference("guest_lost_bytes")
    assert told.count("The same errors, paired over 200 trials, with 95 % intervals.") == 1
    assert "migrate1g of s4 against migrate1g of s0, in year 5." in told
    assert f"{minus(f'{gap.best / 2**30:.4g}')}" in told.replace("\N{WORD JOINER}", "")
    assert told.index("migrate1g of s4 against") < told.index("hgm2m of s4 against")  # what differs comes first
    assert "hgm2m of s4 against hgm2m of s0" not in [a["aria-label"] for a in page.having("aria-label")]
    other = ps.run("seed-1t-distinct", policies=["unmap1g"], trials=50, seed=1)
    none = Page(render_comparison([*runs, ("u", other, "c")])).text
    assert "These runs have no policy in common." in none


def test_what_only_one_of_two_runs_has_is_compared_or_named() -> None:
    runs = [
        (name, ps.run("seed-1t-distinct", policies=["unmap1g", *policies], trials=50), "c")
        for name, policies in (("a", ["hgm4k"]), ("b", ["hgm2m"]), ("c", ["hgm2m", "keep-mapped"]))
    ]
    told = Page(render_comparison(runs)).text.split("The differences")[1].split("What differs")[0]
    first, second = told.split("c against a")
    assert "hgm2m of b against hgm4k of a, in year 5." in first and "Not compared" not in first
    assert "Not compared, as only one run has them: hgm4k of a, hgm2m of c, keep-mapped of c." in second


def test_commands_are_not_broken_in_their_options_nor_names_in_their_words() -> None:
    assert str(command_text("run --seed 7 '<a>'")) == 'run <span class="whole">--seed</span> 7 &#39;&lt;a&gt;&#39;'
    assert str(name_text("<b>:n=1")) == "&lt;b&gt;:<wbr>n=1"


def test_cli_and_page_compare_by_the_same_metrics() -> None:
    from poisonsim.cli.compare import METRICS as OF_CLI

    assert tuple(OF_CLI) == METRICS


def test_marks_on_one_another_have_their_names_beside_them_on_a_telephone() -> None:
    labels = ["unmap1g", "hgm4k", "hgm2m", "migrate1g"]
    costs = [1 << 30, (16 << 30) + 4096, 16 << 30, 4 << 30]
    marks = [
        Mark(label, style, Spread(float(cost), None), Spread(0.0, None))
        for label, style, cost in zip(labels, styles(labels), costs, strict=True)
    ]
    with fixed_settings():
        drawn = trade(marks, Frame(360, 320.0, narrow=True)).svg("x", "x", "narrow")
    assert [label for label in labels if f">{label}<" not in drawn] == []


def test_where_no_policy_adds_tables_the_sentence_stands_alone() -> None:
    result = ps.run("seed-1t", policies=["unmap1g", "hgm4k"], trials=200, seed=1)
    none = ps.run("seed-1t", policies=["unmap1g", "migrate1g"], trials=200, seed=1)
    for of, drawn in ((result, True), (none, False)):
        html, images = render(of, command="")
        for name in ("tables", "stage2"):
            section = html.partition(f'<section id="{name}">')[2].partition("</section>")[0]
            assert ("<figure>" in section) == drawn and ("No policy of this run adds any." in section) != drawn
            assert f"{name}.png" in images


def test_policies_that_come_to_the_same_are_told_on_the_page() -> None:
    small = ps.load_scenario("seed-1t", overrides=["vm.memory=64GiB", "vm.backing=2M"])
    html, _ = render(ps.run(small, policies=["unmap1g", "hgm4k", "hgm2m"], trials=100, seed=1), command="")
    assert "hgm4k and hgm2m come to the same in every figure: there is no leaf size between 2M and 4K." in html
