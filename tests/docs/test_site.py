"""The site of the docs: built without a warning, without the network, and whole; its search finds things in a browser."""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import sync_playwright

from tests.conftest import PATIENCE_SECONDS, ROOT, until

pytestmark = pytest.mark.long
LOADS = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src", "object": "data"}
"""Elements that make a browser fetch something, and where they say what. A link for people to follow (a) may go anywhere."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"})
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return folder


class Addresses(HTMLParser):
    """What a page loads, what it links to, and the places in it that can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.ids |= {value for name in ("id", "name") if (value := named.get(name))}
        if (value := named.get(LOADS.get(tag, ""))) and not (tag == "link" and named.get("rel") in ("prev", "next", "canonical")):
            self.loads.append(value)
        if tag == "a" and (value := named.get("href")):
            self.links.append(value)


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Addresses]:
    return {page: Addresses(page.read_text()) for page in site.rglob("*.html")}


def test_every_page_loads_only_what_the_site_has(site: Path, pages: dict[Path, Addresses]):
    assert len(pages) > 40
    for page, found in pages.items():
        for address in found.loads:
            assert not urlsplit(address).netloc, f"{page.relative_to(site)} loads {address}"
            assert target_of(site, page, address).is_file(), f"{page.relative_to(site)} loads {address}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import\s)['\"]?(?:https?:)?//", sheet.read_text()), sheet.name


def test_every_link_within_the_site_leads_to_a_place_that_is_there(site: Path, pages: dict[Path, Addresses]):
    checked = 0
    for page, found in pages.items():
        if page.name == "404.html":  # its links begin at wherever the site will be served
            continue
        for address in found.links:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = target_of(site, page, address)
            assert target.is_file(), f"{page.relative_to(site)} links to {address}"
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].ids, f"{page.relative_to(site)} links to {address}"
            checked += 1
    assert checked > 1000


def target_of(site: Path, page: Path, address: str) -> Path:
    path = unquote(urlsplit(address).path)
    if page.name == "404.html" and path.startswith("/"):
        return site / path[1:]
    target = (page.parent / path).resolve() if path else page
    return target / "index.html" if target.is_dir() else target


def test_every_operation_and_method_has_its_place(pages: dict[Path, Addresses]):
    ids = {id for found in pages.values() for id in found.ids}
    assert {"create_run", "list_all_events", "send_test", "healthz"} <= ids
    assert {"serviceerror", "follow"} <= ids


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_search_finds_what_is_looked_for_and_nothing_is_fetched_from_elsewhere(address: str):
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert program, "this test needs Chromium: install it, or set CHROMIUM"
    asked: list[str] = []
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_SECONDS * 1000)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        found = page.locator(".md-search-result__item a", has_text="Recipes").first

        def search() -> bool:  # again, since what is typed before the page listens is lost
            page.get_by_role("textbox", name="Search").fill("")
            page.get_by_role("textbox", name="Search").press_sequentially("straggler_factor")
            return found.is_visible()

        until(search, "the search to find the field", pause=0.5)
        found.click()
        page.wait_for_url("**/recipes/**")
        assert page.locator("h1").inner_text().startswith("Recipes")
        browser.close()
    assert asked
    assert {url for url in asked if not url.startswith((address, "data:", "blob:"))} == set()
