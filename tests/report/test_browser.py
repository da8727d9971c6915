"""Does the page work in a real browser: charts, tables, timelines, on wide and narrow screens, without the network?"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")]

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
KINDS = ("plain", "hostile", "cpu", "layered", "several")
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Any, dossiers: dict[str, Path]) -> Iterator[Open]:
    """A function that opens a dossier; whatever went wrong on the page fails the test at its end."""
    trouble: list[str] = []
    contexts = []

    def opened(kind: str, width: int = 1440, scheme: str = "light", *, unfold: bool = True) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        url = dossiers[kind].as_uri()
        page.on("console", lambda message: trouble.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (trouble.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: trouble.append(request.url) if not request.url.startswith((url, "data:,")) else None)
        page.goto(url)
        if unfold:
            page.evaluate("document.querySelectorAll('details.trace').forEach((trace) => { trace.open = true; })")
        page.wait_for_timeout(150)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert trouble == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_every_chart_is_drawn_and_the_page_never_scrolls_sideways(visit: Open, kind: str, width: int, scheme: str) -> None:
    page = visit(kind, width, scheme)
    plots = page.eval_on_selector_all(
        "[data-figure]",
        "all => all.map((plot) => { const box = plot.querySelector('svg.main-svg')?.getBoundingClientRect();"
        " return [box?.width ?? 0, box?.height ?? 0, plot.querySelectorAll('.trace path, .point path, .points path').length]; })",
    )
    assert len(plots) == {"plain": 4, "hostile": 10, "cpu": 1, "layered": 4, "several": 11}[kind]
    for wide, high, marks in plots:
        assert min(wide, high) > 50
        assert marks > 0
    for canvas in page.query_selector_all("canvas"):
        box = canvas.bounding_box()
        assert min(box["width"], box["height"]) > 50
        assert page.evaluate(
            "(canvas) => new Set(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data).size > 8", canvas
        )
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_nothing_of_a_hostile_trace_becomes_an_element(visit: Open, hostile: tuple[str, ...]) -> None:
    page = visit("hostile")
    hovered = ""
    for mark in page.query_selector_all(".trace .point path, .trace path.point")[::25]:
        mark.scroll_into_view_if_needed()
        box = mark.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2 - 1, box["y"] + box["height"] / 2)
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.wait_for_timeout(60)
        hovered += "".join(page.eval_on_selector_all(".hoverlayer", "layers => layers.map((layer) => layer.textContent)"))
    assert hostile[0] in hovered
    for summary in page.query_selector_all("details.full > summary")[:3]:
        summary.click()
    assert (
        page.evaluate("document.querySelectorAll('img, iframe, object, body a[href^=javascript], [onload], [onerror]').length")
        == 0
    )
    assert page.evaluate("document.scripts.length - document.querySelectorAll('script[type=\"application/json\"]').length") == 2
    # Plotly draws links as <a> and bold as bold: neither may come from a name.
    assert page.evaluate("document.querySelectorAll('svg a').length") == 0
    first = page.text_content("#t0-kernels ~ *, [data-table] tbody tr td.name")
    assert first is not None
    assert hostile[0] in page.text_content("body")


def column(page: Any, at: int) -> list[str]:
    values: list[str] = page.eval_on_selector_all(
        "[data-table]:has(#t0-kernels) tbody tr:not([hidden])",
        "(rows, at) => rows.map((row) => row.cells[at].dataset.v ?? row.cells[at].textContent)",
        at,
    )
    return values


def test_tables_sort_by_click_and_by_key(visit: Open) -> None:
    page = visit("plain")
    heading = page.locator("[data-table]:has(#t0-kernels) th", has_text="Count")
    at = heading.evaluate("(cell) => cell.cellIndex")
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    values = [float(value) for value in column(page, at)]
    assert values == sorted(values, reverse=True)
    heading.locator("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    values = [float(value) for value in column(page, at)]
    assert values == sorted(values)
    other = page.locator("[data-table]:has(#t0-kernels) th", has_text="Family")
    other.locator("button").press("Space")
    assert other.get_attribute("aria-sort") == "ascending"
    assert heading.get_attribute("aria-sort") is None
    assert column(page, 1) == sorted(column(page, 1))


def test_tables_fold_and_filter_by_the_whole_name(visit: Open) -> None:
    page = visit("plain")
    table = page.locator("[data-table]:has(#t0-kernels)")
    rows = table.locator("tbody tr:not([hidden])")
    assert rows.count() == 12
    table.locator(".more-rows").click()
    assert rows.count() == 40
    table.locator(".more-rows").click()
    # The shortened name does not hold this, the whole name does.
    table.locator("input").fill("char*, 39UL")
    assert rows.count() == 1
    rows.locator("summary").click()
    assert "vectorized_elementwise_kernel<4," in rows.locator("code").inner_text()
    rows.locator(".copy").click()
    table.locator("input").fill("no such kernel")
    assert rows.count() == 0


def test_the_timeline_answers_to_pointer_keys_and_selector(visit: Open) -> None:
    page = visit("plain")
    canvas = page.locator("canvas")
    canvas.scroll_into_view_if_needed()
    before = canvas.evaluate("(node) => node.toDataURL()")
    canvas.press("+")
    zoomed = canvas.evaluate("(node) => node.toDataURL()")
    assert zoomed != before
    canvas.press("0")
    assert canvas.evaluate("(node) => node.toDataURL()") == before
    page.select_option(".controls select", index=1)
    assert canvas.evaluate("(node) => node.toDataURL()") != before
    box = canvas.bounding_box()
    for y in range(30, int(box["height"]), 6):
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + y)
        if page.is_visible("#tip"):
            break
    assert "into the window" in page.inner_text("#tip")


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_flashattention_has_a_section_of_its_own(visit: Open, width: int, scheme: str) -> None:
    page = visit("plain", width, scheme)
    section = page.locator("#flashattention")
    section.scroll_into_view_if_needed()
    assert "0.9\u00a0% is the KV cache" in section.locator(".lead").inner_text()
    tables = section.locator("table")
    assert tables.count() == 4
    for at in range(4):
        box = tables.nth(at).bounding_box()
        assert box["height"] > 60
        assert box["x"] < width
    words = section.locator("td.words").first
    assert words.inner_text() == "“T4 (SM75) lacks LDMatrix + MMA instructions required for FlashAttention”"
    assert words.evaluate("(cell) => getComputedStyle(cell).fontStyle") == "italic"  # quoted, and looks it
    meters = section.locator(".meter").evaluate_all("all => all.map((one) => Number(one.style.getPropertyValue('--w')))")
    assert meters == pytest.approx([0.0094, 0.0368, 0.1324, 0.0527, 0.1], abs=6e-5)
    shares = section.locator("[data-table]:has(#f-decode) th", has_text="KV share")
    shares.locator("button").click()
    first = section.locator("[data-table]:has(#f-decode) tbody tr").first
    assert first.locator("td").nth(1).inner_text() == "1,024"
    assert visit("cpu").locator("#flashattention").count() == 0  # neither a Turing nor a run of GPT-2


def test_a_link_opens_the_folded_trace(visit: Open) -> None:
    page = visit("several")
    page.evaluate("document.querySelectorAll('details.trace').forEach((trace) => { trace.open = false; })")
    page.click("#comparison a[href='#t1']")
    page.wait_for_timeout(50)
    assert page.evaluate("document.getElementById('t1').open")


def test_a_folded_trace_is_built_when_it_is_first_needed(visit: Open, dossiers: dict[str, Path]) -> None:
    page = visit("several", unfold=False)
    assert page.query_selector("#t1-kernels-section") is None
    page.evaluate("location.hash = '#t1-kernels-section'")
    page.wait_for_timeout(100)
    assert page.is_visible("#t1-kernels-section")
    table = page.locator("[data-table]:has(#t1-kernels)")
    table.locator("th", has_text="Count").locator("button").click()
    assert table.locator("th[aria-sort=descending]").count() == 1
    table.locator("input").fill("char*, 19ul")
    assert table.locator("tbody tr:not([hidden])").count() == 1
    assert page.locator("#t1 .toc a").count() > 3
    assert page.query_selector("#t2-host-section") is None
    page.click("#t2 > summary")
    page.wait_for_timeout(100)
    assert page.is_visible("#t2-host-section")


def test_layers_unfold_and_filter(visit: Open) -> None:
    page = visit("layered")
    assert page.is_visible("#t0-step0-mlp")
    assert not page.is_visible("#t0-step1-mlp")
    page.click("#t0-layers-section summary:has-text('All layers')")
    tree = page.locator("[data-tree]")
    rows = tree.locator("tbody tr:not([hidden])")
    assert rows.locator("td:first-child").first.inner_text() == "prefill"
    assert tree.locator("tr:not([hidden])", has_text="activation").count() == 0
    before = rows.count()
    rows.first.locator(".twist").click()
    assert rows.count() < before
    tree.locator("input").fill("ACTIVATION")
    assert [text.strip() for text in rows.locator("td:first-child").all_inner_texts()] == [
        *("prefill", "blocks", "block", "mlp", "activation"),
        *("decode", "blocks", "block", "mlp", "activation"),
    ]
    tree.locator("input").fill("")
    assert rows.count() < before


def test_the_colours_follow_the_scheme(visit: Open) -> None:
    page = visit("plain")

    def first_bar() -> str:
        fill: str = page.eval_on_selector("#t0-budget .point path", "(bar) => bar.style.fill")
        return fill

    light = first_bar()
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(200)
    assert first_bar() != light


def test_it_prints(visit: Open) -> None:
    assert len(visit("several", scheme="dark").pdf()) > 20_000
