"""The page in a real Chromium, while a run trains: it fills in by itself, shows what failed, and asks no other address for anything."""

from pathlib import Path

from playwright.sync_api import expect

from tests.browser.conftest import PROMPTS, Open, comes_true
from tests.conftest import Service
from tests.tiny import tiny_recipe

NEWEST = "Math.max(...[...document.querySelectorAll('[data-testid=sample]')].map((one) => Number(one.dataset.step)))"


def test_samples_and_curves_appear_without_a_reload(tab: Open, service: Service, drawing: dict):
    page = tab(f"{service.url}/")
    run = service.client.create_run(drawing)
    row = page.locator(f'[data-testid="run-row"][data-key="{run.id}"]')
    expect(row).to_be_visible()
    row.get_by_role("link").click()
    page.evaluate("window.sameDocument = true")
    samples = page.get_by_test_id("sample")
    expect(samples.nth(3)).to_be_visible()  # two prompts at two steps
    assert page.evaluate("window.sameDocument") is True
    comes_true(page, "[...document.querySelectorAll('[data-testid=sample]')].every((image) => image.complete && image.naturalWidth > 0)")
    expect(page.get_by_role("rowheader", name=PROMPTS[1], exact=True)).to_be_visible()  # markup in a prompt stays text
    expect(page.get_by_test_id("state")).to_have_text("running")
    comes_true(page, "document.querySelector('[data-testid=chart-loss] path.line')?.getAttribute('d').includes('L')")
    expect(page.locator('[data-testid="event-row"][data-type="samples_drawn"]').first).to_be_visible()
    before = page.evaluate(NEWEST)
    waiting = service.client.create_run(drawing)  # the machine holds one run at once
    other = tab(f"{service.url}/", context=page.context)
    behind = other.locator(f'[data-testid="run-row"][data-key="{waiting.id}"]')
    expect(behind.get_by_test_id("waiting")).to_contain_text("1 run may hold this machine")
    other.goto(f"{service.url}/#/runs/{waiting.id}")  # rows move while a list is new: a click may miss
    expect(other.get_by_test_id("waiting")).to_contain_text("place 1 in the queue")
    other.get_by_test_id("move-pause").click()
    other.get_by_test_id("confirm-yes").click()
    expect(other.get_by_test_id("waiting")).to_be_hidden()
    other.close()
    page.bring_to_front()
    comes_true(page, f"(step) => {NEWEST} > step", before)
    page.get_by_test_id("move-cancel").click()
    page.get_by_test_id("confirm-no").click()
    expect(page.get_by_test_id("state")).to_have_text("running")
    page.get_by_test_id("move-cancel").click()
    page.get_by_test_id("confirm-yes").click()
    expect(page.get_by_test_id("state")).to_have_text("cancelled")
    expect(page.get_by_test_id("move-cancel")).to_have_count(0)
    service.client.cancel(waiting.id)


def test_a_failed_run_shows_its_cause_and_evidence(tab: Open, service: Service, tmp_path: Path):
    run = service.end(service.client.create_run(tiny_recipe(tmp_path / "missing")))
    page = tab(f"{service.url}/#/runs/{run.id}")
    expect(page.get_by_test_id("state")).to_have_text("failed: data")
    expect(page.get_by_test_id("evidence")).to_contain_text(str(tmp_path / "missing"))
    page.get_by_test_id("tab-logs").click()
    expect(page.get_by_test_id("log")).to_contain_text("missing")


def test_a_run_that_does_not_exist_is_said(tab: Open, service: Service):
    page = tab(f"{service.url}/#/runs/run_nope")
    expect(page.get_by_text("there is no run 'run_nope'")).to_be_visible()
