"""The page in a real Chromium, while a run trains: it fills in by itself, shows what failed, and asks no other address for anything."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.conftest import PATIENCE_SECONDS, Service
from tests.service.inside import listening
from tests.tiny import tiny_recipe, write_data

PROMPTS = ["a red apple on a blue background", "<img src=x onerror=alert(1)>"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert program, "tests/browser needs Chromium: install it, or set CHROMIUM"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser, service: Service) -> Iterator[Page]:
    context = browser.new_context()
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE_SECONDS * 1000)
    foreign, errors = [], []
    opened.on("request", lambda request: None if request.url.startswith((service.url, "data:")) else foreign.append(request.url))
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("console", lambda message: errors.append(message.text) if "Content Security" in message.text else None)
    yield opened
    context.close()
    assert foreign == []
    assert errors == []


@pytest.fixture(scope="module")
def drawing(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A recipe that draws two prompts every 100 steps; long enough that it never ends before the browser has looked."""
    from dayrun import builtin

    data = write_data(tmp_path_factory.mktemp("data") / "wide", tokens=16, width=384)
    sets = [{"name": "preview", "prompts": PROMPTS, "every": 100, "at_start": True}]
    recipe = tiny_recipe(data, steps=100_000, processes=1, samples={"sets": sets, "steps": 2, "guidance": 1.0})
    return recipe | {"model": recipe["model"] | {"text_width": 384}, "text": builtin.get("demo")["text"]}


def test_a_page_without_a_key_says_so(browser: Browser, tmp_path: Path):
    with listening(tmp_path) as (url, _):
        opened = browser.new_page()
        opened.goto(f"{url}/")
        expect(opened.get_by_test_id("no-key")).to_contain_text("this service takes requests with a key", timeout=PATIENCE_SECONDS * 1000)
        opened.close()


def test_samples_and_curves_appear_without_a_reload(page: Page, service: Service, drawing: dict):
    page.goto(f"{service.url}/")
    run = service.client.create_run(drawing)
    row = page.locator(f'[data-testid="run-row"][data-key="{run.id}"]')
    expect(row).to_be_visible(timeout=PATIENCE_SECONDS * 1000)
    row.get_by_role("link").click()
    page.evaluate("window.sameDocument = true")
    samples = page.get_by_test_id("sample")
    expect(samples.nth(3)).to_be_visible(timeout=PATIENCE_SECONDS * 1000)  # two prompts at two steps
    assert page.evaluate("window.sameDocument") is True
    page.wait_for_function(
        "[...document.querySelectorAll('[data-testid=sample]')].every((image) => image.complete && image.naturalWidth > 0)"
    )
    expect(page.get_by_role("rowheader", name=PROMPTS[1], exact=True)).to_be_visible()  # markup in a prompt stays text
    expect(page.get_by_test_id("state")).to_have_text("running")
    page.wait_for_function("document.querySelector('[data-testid=chart-loss] path.line')?.getAttribute('d').includes('L')")
    expect(page.locator('[data-testid="event-row"][data-type="samples_drawn"]').first).to_be_visible()
    before = samples.count()
    waiting = service.client.create_run(drawing)  # the machine holds one run at once
    other = page.context.new_page()
    other.goto(f"{service.url}/")
    behind = other.locator(f'[data-testid="run-row"][data-key="{waiting.id}"]')
    expect(behind.get_by_test_id("waiting")).to_contain_text("1 run may hold this machine", timeout=PATIENCE_SECONDS * 1000)
    other.goto(f"{service.url}/#/runs/{waiting.id}")  # rows move while a list is new: a click may miss
    expect(other.get_by_test_id("waiting")).to_contain_text("place 1 in the queue", timeout=PATIENCE_SECONDS * 1000)
    other.get_by_test_id("move-pause").click()
    expect(other.get_by_test_id("waiting")).to_be_hidden(timeout=PATIENCE_SECONDS * 1000)
    other.close()
    page.wait_for_function("(count) => document.querySelectorAll('[data-testid=sample]').length > count", arg=before)
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_test_id("move-cancel").click()
    expect(page.get_by_test_id("state")).to_have_text("cancelled", timeout=PATIENCE_SECONDS * 1000)
    expect(page.get_by_test_id("move-cancel")).to_have_count(0)


def test_a_failed_run_shows_its_cause_and_evidence(page: Page, service: Service, tmp_path: Path):
    run = service.end(service.client.create_run(tiny_recipe(tmp_path / "missing")))
    page.goto(f"{service.url}/#/runs/{run.id}")
    expect(page.get_by_test_id("state")).to_have_text("failed: data")
    expect(page.get_by_test_id("evidence")).to_contain_text(str(tmp_path / "missing"))


def test_a_run_that_does_not_exist_is_said(page: Page, service: Service):
    page.goto(f"{service.url}/#/runs/run_nope")
    expect(page.get_by_text("there is no run 'run_nope'")).to_be_visible()


def test_a_service_that_is_away_is_said_and_what_was_shown_stays(page: Page, service: Service, drawing: dict):
    page.goto(f"{service.url}/")
    rows = page.get_by_test_id("run-row")
    expect(rows.first).to_be_visible()
    page.context.set_offline(True)
    expect(page.get_by_role("status")).to_be_visible(timeout=PATIENCE_SECONDS * 1000)
    expect(rows.first).to_be_visible()
    page.context.set_offline(False)
    expect(page.get_by_role("status")).to_be_hidden(timeout=PATIENCE_SECONDS * 1000)
