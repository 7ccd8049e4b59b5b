"""A researcher's way through the page: a recipe's form, its plan, the run, its pictures, prompts of one's own, two runs side by side."""

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PROMPTS, Open, comes_true, serious_findings
from tests.conftest import Service


@pytest.fixture(scope="module")
def recipe(service: Service, drawing: dict[str, Any]) -> str:
    """The name of a stored recipe, which the form offers beside the built-in ones."""
    service.client.put_recipe("drawing", drawing)
    return "drawing"


def field(page: Page, pointer: str):
    return page.locator(f'[data-at="{pointer}"] :is(input, select, textarea)').first


@pytest.mark.long
def test_from_the_form_to_pictures_beside_another_run_s(tab: Open, service: Service, recipe: str):
    page = tab(f"{service.url}/#/new?recipe={recipe}")
    field(page, "/stages/0/batch_size").fill("seven")
    page.get_by_test_id("plan-it").click()
    expect(page.locator('[data-at="/stages/0/batch_size"] .wrong')).to_contain_text("integer")
    expect(field(page, "/stages/0/batch_size")).to_be_focused()
    field(page, "/stages/0/batch_size").fill("16")
    field(page, "/name").fill("first")
    page.get_by_label("Labels, one a line").fill("purpose=page-test")
    page.get_by_test_id("plan-it").click()
    expect(page.get_by_test_id("plan")).to_have_attribute("data-can-start", "true")
    assert serious_findings(page) == []
    field(page, "/seed").fill("5")
    expect(page.get_by_test_id("start")).to_be_disabled()  # the plan was of another recipe
    page.get_by_test_id("plan-it").click()
    with page.expect_request(lambda one: one.method == "POST" and one.url.endswith("/runs")) as sent:
        page.get_by_test_id("start").click()
    assert sent.value.headers["if-match"].startswith('"')
    assert sent.value.headers["idempotency-key"]
    assert sent.value.post_data_json["recipe"] == recipe
    assert sorted(sent.value.post_data_json["overrides"]) == ["name", "seed", "stages"]
    expect(page.get_by_test_id("state")).to_have_text("running")
    first = page.url.rsplit("/", 1)[-1]
    run = service.client.run(first)
    assert (run.recipe["seed"], run.recipe["stages"][0]["batch_size"], run.labels) == (5, 16, {"purpose": "page-test"})

    page.get_by_test_id("tab-samples").click()
    pictures = page.get_by_test_id("sample-at")
    expect(pictures).to_have_count(len(PROMPTS))
    slider = page.get_by_test_id("step-slider")
    expect(slider).not_to_have_attribute("max", "0")
    slider.evaluate("(one) => { one.value = 0; one.dispatchEvent(new Event('input')) }")
    expect(pictures.first).to_have_attribute("data-step", "0")
    expect(pictures.first).to_have_attribute("src", re.compile("/samples/0/"))
    pictures.first.click()
    expect(page.get_by_test_id("viewer")).to_contain_text("step 0 ·")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_test_id("viewer")).to_contain_text("step 100 ·")
    page.keyboard.press("Escape")
    page.get_by_test_id("prompts").fill("a blue pear\na green fox")
    page.get_by_test_id("draw").click()
    drawn = page.get_by_test_id("drawn")
    expect(drawn).to_have_count(2)
    comes_true(page, "[...document.querySelectorAll('[data-testid=drawn]')].every((one) => one.naturalWidth > 0)")
    assert serious_findings(page) == []

    page.get_by_test_id("tab-logs").click()
    expect(page.get_by_test_id("log")).not_to_be_empty()
    page.get_by_test_id("tab-plan").click()
    expect(page.get_by_test_id("compared")).to_contain_text("dollars")
    page.get_by_test_id("tab-manifest").click()
    expect(page.get_by_test_id("manifest")).to_contain_text(first)

    page.get_by_test_id("move-pause").click()
    expect(page.get_by_test_id("confirm")).to_contain_text("writes a checkpoint")
    assert serious_findings(page) == []
    page.get_by_test_id("confirm-yes").click()
    expect(page.get_by_test_id("state")).to_have_text("paused")
    page.get_by_test_id("move-fork").click()
    field(page, "/name").fill("second")
    field(page, "/optimizer/learning_rate").evaluate("(one) => one.closest('details').open = true")
    field(page, "/optimizer/learning_rate").fill("0.0005")
    page.get_by_test_id("plan-it").click()
    page.get_by_test_id("start").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("second")
    page.get_by_test_id("tab-recipe").click()
    expect(page.get_by_test_id("diff")).to_contain_text("/optimizer/learning_rate")
    expect(page.get_by_test_id("diff")).to_contain_text("0.0005")
    second = page.url.split("/runs/")[1].split("/")[0]
    page.get_by_test_id("tab-overview").click()
    expect(page.get_by_test_id("sample").first).to_be_visible()

    page.goto(f"{service.url}/#/")
    for run_id in (first, second):
        page.locator(f'[data-key="{run_id}"]').get_by_test_id("select").check()
    page.get_by_test_id("compare").click()
    expect(page.get_by_test_id("compared-run")).to_have_count(2)
    comes_true(page, "document.querySelectorAll('[data-testid=chart-loss] path.line').length === 2")
    expect(page.get_by_test_id("pair")).to_have_count(len(PROMPTS))
    expect(page.get_by_test_id("pair-picture")).to_have_count(2 * len(PROMPTS))
    assert serious_findings(page) == []
    service.client.cancel(second)
    page.goto(f"{service.url}/#/runs/{first}")
    page.get_by_test_id("move-resume").click()
    page.get_by_test_id("confirm-yes").click()
    expect(page.get_by_test_id("state")).to_have_text("running")
    page.get_by_test_id("move-cancel").click()
    page.get_by_test_id("confirm-yes").click()
    expect(page.get_by_test_id("state")).to_have_text("cancelled")
