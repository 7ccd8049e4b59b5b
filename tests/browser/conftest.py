"""A real Chromium for the page's tests. What breaks the policy, throws, or asks another address fails the test that opened the page."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.conftest import PATIENCE_SECONDS, until
from tests.tiny import tiny_recipe, write_data

PROMPTS = ["a red apple on a blue background", "<img src=x onerror=alert(1)>"]
REPORT_VIOLATIONS = (
    "document.addEventListener('securitypolicyviolation', (e) => console.error(`CSP: ${e.violatedDirective} ${e.blockedURI}`))"
)
SERIOUS = ("serious", "critical")
Open = Callable[..., Page]


@pytest.fixture(scope="module")  # Playwright's loop runs as long as it does: no other module's tests could have one in this process
def browser() -> Iterator[Browser]:
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert program, "tests/browser needs Chromium: install it, or set CHROMIUM"
    expect.set_options(timeout=PATIENCE_SECONDS * 1000)  # a training begins when it begins
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def tab(browser: Browser) -> Iterator[Open]:
    """`tab(url, …)`: a new page that may ask no address but that of `url` (and `allowed`); the rest goes to the browser context."""
    contexts: list[BrowserContext] = []
    wrong: list[str] = []

    def opened(url: str, allowed: tuple[str, ...] = (), context: BrowserContext | None = None, **options: Any) -> Page:
        if context is None:
            contexts.append(context := browser.new_context(**options))
        own = ("/".join(url.split("/")[:3]), "data:", "blob:", *allowed)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_SECONDS * 1000)
        page.add_init_script(REPORT_VIOLATIONS)
        page.on("request", lambda request: None if request.url.startswith(own) else wrong.append(f"asked {request.url}"))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if "CSP:" in said.text or "Content Security" in said.text else None)
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture(scope="module")
def drawing(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A recipe that draws two prompts every 100 steps; long enough that it never ends before the browser has looked."""
    from dayrun import builtin

    data = write_data(tmp_path_factory.mktemp("data") / "wide", tokens=16, width=384)
    sets = [{"name": "preview", "prompts": PROMPTS, "every": 100, "at_start": True}]
    recipe = tiny_recipe(data, steps=100_000, processes=1, samples={"sets": sets, "steps": 2, "guidance": 1.0})
    return recipe | {"model": recipe["model"] | {"text_width": 384}, "text": builtin.get("demo")["text"]}


def comes_true(page: Page, expression: str, argument: Any = None) -> None:
    """Return once `expression` is true in the page. Playwright's own wait evaluates it where the page's policy forbids that."""
    until(lambda: page.evaluate(expression, argument), expression)


def serious_findings(page: Page) -> list[str]:
    """What axe finds that keeps somebody out: each rule with the first element that breaks it."""
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html'][:160]}" for one in found if one["impact"] in SERIOUS]


def shot(page: Page, name: str) -> None:
    """Keep a picture for docs/images/page where SCREENSHOTS names that folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")
