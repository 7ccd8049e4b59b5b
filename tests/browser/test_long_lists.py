"""Long lists, narrow screens, services that go away: the page with more than a screen holds, and with less than it wants."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open, comes_true, serious_findings
from tests.browser.filled import fill
from tests.service.inside import listening

RUNS = 1200
VIEWS = ("", "new", "runs/{run}", "runs/{run}/samples", "runs/{run}/logs", "runs/{run}/recipe", "runs/{run}/plan", "compare/{run},{other}")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[str]]]:
    """The address of a service with 1,200 runs, the newest of which has 20 × 30 pictures, and their ids."""
    home = tmp_path_factory.mktemp("many")
    ids = fill(home, RUNS, prompts=20, steps=30)
    with listening(home, auth="none") as (url, _):
        yield url, ids


def at(many: tuple[str, list[str]], view: str) -> str:
    url, ids = many
    return f"{url}/#/{view.format(run=ids[-1], other=ids[-2])}"


def settled(page: Page) -> None:
    """What a view shows by itself is there."""
    expect(page.locator("main:not([aria-busy])")).to_be_visible()


def test_only_what_is_in_sight_is_drawn(tab: Open, many: tuple[str, list[str]]):
    page = tab(at(many, ""))
    rows = page.get_by_test_id("run-row")
    expect(rows.first).to_have_attribute("data-key", many[1][-1])
    oldest = page.locator(f'[data-key="{many[1][0]}"]')
    down = "(id) => { scrollTo(0, document.body.scrollHeight); return document.querySelector(`[data-key=${id}]`) }"
    comes_true(page, down, many[1][0])
    expect(oldest).to_be_in_viewport()
    expect(page.get_by_test_id("end")).to_have_text("1,200 runs")
    expect(oldest).to_have_attribute("aria-posinset", str(RUNS))
    assert rows.count() < 60
    page.goto(at(many, "runs/{run}"))
    samples = page.get_by_test_id("sample")
    expect(samples.first).to_be_visible()
    page.get_by_test_id("show-all").click()
    assert 0 < samples.count() < 400  # of 600
    page.locator(".set .scroll").evaluate("(one) => (one.scrollLeft = 0)")
    expect(page.locator('[data-testid=sample][data-step="0"]').first).to_be_visible()


WATCH = """
(parent) => {
  window.touched = []
  const note = ({ removedNodes, addedNodes }) => window.touched.push([removedNodes.length, [...addedNodes].map((one) => one.dataset.key)])
  new MutationObserver((changes) => changes.forEach(note)).observe(document.querySelector(parent), { childList: true })
}
"""


@pytest.mark.parametrize(
    ("view", "parent", "by"),
    [("", ".runs", "scrollBy(0, 1200)"), ("runs/{run}", ".matrix thead tr", "document.querySelector('.set .scroll').scrollLeft = 0")],
)
def test_what_stays_in_sight_is_not_touched(tab: Open, many: tuple[str, list[str]], view: str, parent: str, by: str):
    """Who moves a row lays it out anew."""
    page = tab(at(many, view))
    one = f"{parent} > [data-key]"
    expect(page.locator(one).nth(8)).to_be_visible()
    keys = f"[...document.querySelectorAll('{one}')].map((one) => one.dataset.key)"
    before: set[str] = set(page.evaluate(keys))
    page.evaluate(WATCH, parent)
    page.evaluate(by)
    comes_true(page, "window.touched.some(([gone, come]) => gone) && window.touched.some(([gone, come]) => come.length)")
    after: set[str] = set(page.evaluate(keys))
    come = [key for _, added in page.evaluate("window.touched") for key in added]
    assert before & after
    assert sorted(come) == sorted(after - before)


def test_a_list_is_narrowed_by_state_label_field_and_name(tab: Open, many: tuple[str, list[str]]):
    page = tab(at(many, ""))
    search, end = page.locator("#search"), page.get_by_test_id("end")
    page.keyboard.press("/")
    expect(search).to_be_focused()
    search.fill("repa-00003")
    expect(end).to_have_text("1 run")
    search.fill("sweep=3 /optimizer/kind=muon")
    expect(end).to_have_text("100 runs")
    page.get_by_test_id("filter-failed").click()
    expect(end).to_have_text("20 runs")
    assert "state=failed" in page.url
    page.reload()
    expect(end).to_have_text("20 runs")  # the address holds the filters
    search.fill("no such run")
    expect(page.get_by_test_id("no-match")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.get_by_test_id("shortcuts")).to_be_visible()


def test_curves_are_zoomed_and_read_by_keyboard(tab: Open, many: tuple[str, list[str]]):
    page = tab(at(many, "runs/{run}"))
    chart = page.get_by_test_id("chart-loss")
    drawing = chart.get_by_role("img")
    expect(chart.locator("path.line")).to_have_count(1)
    drawing.focus()
    page.keyboard.press("PageUp")
    expect(chart.locator("circle")).to_have_count(1)
    page.keyboard.press("+")
    expect(page.get_by_test_id("zoom-out")).to_be_visible()
    page.get_by_test_id("zoom-out").click()
    expect(page.get_by_test_id("zoom-out")).to_be_hidden()
    box = drawing.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 100, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 60)
    page.mouse.up()
    expect(page.get_by_test_id("zoom-out")).to_be_visible()
    page.get_by_test_id("add-curve").select_option("gradient_norm")
    expect(page.get_by_test_id("chart-gradient_norm").locator("path.line")).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.long)])
def test_nobody_is_kept_out(tab: Open, many: tuple[str, list[str]], scheme: str):
    page = tab(at(many, ""), color_scheme=scheme, reduced_motion="reduce")
    found: dict[str, list[str]] = {}
    for view in VIEWS:
        page.goto(at(many, view))
        settled(page)
        found[view] = serious_findings(page)
    assert {view: findings for view, findings in found.items() if findings} == {}


def test_nothing_is_wider_than_a_narrow_screen(tab: Open, many: tuple[str, list[str]]):
    page = tab(at(many, ""), viewport={"width": 320, "height": 640}, has_touch=True)
    wide: dict[str, int] = {}
    for view in VIEWS:
        page.goto(at(many, view))
        settled(page)
        wide[view] = page.evaluate("document.documentElement.scrollWidth")
    assert set(wide.values()) == {320}, wide


def test_a_service_that_is_away_is_said_and_what_was_shown_stays(tab: Open, tmp_path: Path):
    fill(tmp_path, 3)
    with listening(tmp_path, auth="none") as (url, _):
        page = tab(f"{url}/")
        rows, lost = page.get_by_test_id("run-row"), page.get_by_test_id("lost")
        expect(rows).to_have_count(3)
    expect(lost).to_contain_text("Service unreachable")
    expect(rows).to_have_count(3)
    with listening(tmp_path, port=int(url.rsplit(":", 1)[1]), auth="none"):
        expect(lost).to_be_hidden()
