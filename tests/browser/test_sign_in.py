"""Who may see the page's contents: keys, an OpenID provider, sessions that end, tabs that know each other."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open, comes_true, serious_findings
from tests.browser.filled import fill
from tests.service.inside import listening
from tests.service.issuer import AUDIENCE, Provider


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, str]]:
    """The address of a service that asks for keys, an operator's key, and the id of a run with pictures."""
    home = tmp_path_factory.mktemp("keys")
    newest = fill(home, 3, prompts=2, steps=2)[-1]
    with listening(home, identity_seconds=0) as (url, key):
        yield url, key, newest


def sign_in(page: Page, key: str) -> None:
    page.get_by_test_id("key").fill(key)
    page.get_by_test_id("sign-in").click()


def made(url: str, operator: str, name: str) -> tuple[str, str]:
    """Id and text of a viewer's key."""
    answer = httpx.post(
        f"{url}/keys", json={"name": name, "role": "viewer", "project": "default"}, headers={"Authorization": f"Bearer {operator}"}
    ).json()
    return answer["id"], answer["key"]


def test_a_page_without_a_key_asks_for_one(tab: Open, house: tuple[str, str, str]):
    url, operator, newest = house
    page = tab(f"{url}/#/runs/{newest}")
    expect(page.get_by_test_id("no-key")).to_contain_text("this service takes requests with a key")
    assert serious_findings(page) == []
    sign_in(page, "dayrun_wrong")
    expect(page.get_by_test_id("key-refused")).to_be_visible()
    sign_in(page, made(url, operator, "reader")[1])
    expect(page.get_by_test_id("no-key")).to_have_count(0)
    expect(page.get_by_test_id("sample").first).to_be_visible()
    comes_true(page, "[...document.querySelectorAll('[data-testid=sample]')].every((one) => one.naturalWidth > 0)")
    assert page.get_by_test_id("sample").first.get_attribute("src").startswith("blob:")  # an img cannot send a key
    other = tab(f"{url}/", context=page.context)
    expect(other.get_by_test_id("run-row").first).to_be_visible()  # it asked the first tab
    other.get_by_test_id("sign-out").click()
    expect(other.get_by_test_id("no-key")).to_be_visible()
    expect(page.get_by_test_id("no-key")).to_be_visible()  # who leaves leaves everywhere


def test_a_session_that_ends_is_taken_up_where_it_was(tab: Open, house: tuple[str, str, str]):
    url, operator, _ = house
    page = tab(f"{url}/")
    key_id, key = made(url, operator, "short")
    sign_in(page, key)
    page.goto(f"{url}/#/new")
    page.locator('[data-at="/name"] input').fill("typed-before")
    httpx.delete(f"{url}/keys/{key_id}", headers={"Authorization": f"Bearer {operator}"}).raise_for_status()
    page.get_by_test_id("plan-it").click()
    expect(page.get_by_test_id("no-key")).to_contain_text("Your session has ended")
    sign_in(page, operator)
    expect(page.get_by_test_id("no-key")).to_have_count(0)
    expect(page.locator('[data-at="/name"] input')).to_have_value("typed-before")
    page.get_by_test_id("plan-it").click()
    expect(page.get_by_test_id("plan")).to_be_visible()


def test_people_sign_in_at_their_provider(tab: Open, tmp_path: Path):
    with Provider() as provider:
        groups = {"team": "default:viewer"}
        settings = {**provider.settings, "oidc_client": AUDIENCE, "oidc_groups": groups}
        with listening(tmp_path, **settings) as (url, _):
            provider.signs_in("ada", groups=["team"])
            page = tab(f"{url}/#/new", allowed=(provider.url,))
            page.get_by_test_id("sign-in-provider").click()
            expect(page.get_by_test_id("sign-out")).to_be_visible()
            assert page.url == f"{url}/#/new"  # back where it was, and no code in the address
            assert provider.exchanged == ["ada"]
            page.get_by_test_id("sign-out").click()
            provider.signs_in("eve", spoil_verifier=True)
            page.get_by_test_id("sign-in-provider").click()
            expect(page.get_by_test_id("no-key")).to_contain_text("refused the sign-in")
