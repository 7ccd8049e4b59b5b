"""The pictures of docs/page.md: `SCREENSHOTS` names their folder, `DEMO_HOME` a home with runs of `make demo`; else they are made up."""

import os
import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open, comes_true, shot
from tests.browser.filled import fill, show_demo
from tests.service.inside import listening

SCREEN = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce", "device_scale_factor": 1}
LOADED = """
[...document.querySelectorAll('main img:not(.missing)')].every((one) => {
  const { top, bottom, left, right } = one.getBoundingClientRect()
  const seen = bottom > 0 && top < innerHeight && right > 0 && left < innerWidth
  return one.src ? one.complete && one.naturalWidth > 0 : !seen
})
"""


def taken(page: Page, name: str) -> None:
    expect(page.locator("main:not([aria-busy])")).to_be_visible()
    comes_true(page, LOADED)
    shot(page, name)


@pytest.mark.long
def test_the_pictures_of_the_docs(tab: Open, tmp_path: Path):
    home = tmp_path / "home"
    if demo := os.environ.get("DEMO_HOME"):
        shutil.copytree(demo, home, ignore=shutil.ignore_patterns("serve.json"))
    else:
        ids = fill(home, 60)
        show_demo(home, ids[-2], 11, running=False)
        show_demo(home, ids[-1], 9, running=True)
    with listening(home, auth="none") as (url, _):
        for scheme in ("light", "dark"):
            page = tab(f"{url}/#/", color_scheme=scheme, **SCREEN)
            expect(page.get_by_test_id("run-row").first).to_be_visible()
            taken(page, f"list-{scheme}")
            newest, other = [row.get_attribute("data-key") for row in page.get_by_test_id("run-row").all()[:2]]
            page.goto(f"{url}/#/runs/{newest}")
            expect(page.get_by_test_id("sample").first).to_be_visible()
            taken(page, f"run-{scheme}")
            page.goto(f"{url}/#/runs/{newest}/samples")
            expect(page.get_by_test_id("sample-at").first).to_be_visible()
            taken(page, f"samples-{scheme}")
            page.goto(f"{url}/#/new?recipe=prx-24h")
            page.get_by_test_id("plan-it").click()
            expect(page.get_by_test_id("plan")).to_contain_text(re.compile("h200"))
            taken(page, f"plan-{scheme}")
            page.goto(f"{url}/#/compare/{newest},{other}")
            expect(page.get_by_test_id("compared-run")).to_have_count(2)
            taken(page, f"compare-{scheme}")
        phone = tab(f"{url}/#/runs/{newest}", viewport={"width": 390, "height": 844}, device_scale_factor=1, reduced_motion="reduce")
        expect(phone.get_by_test_id("state")).to_be_visible()  # samples are further down, and drawn as they come in sight
        taken(phone, "phone")
