"""Projects and their members: what changes, what is refused, and how soon it counts."""

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from tests.service.inside import Inside, inside, kind
from tests.service.issuer import Provider


@pytest.fixture(scope="module")
def provider():
    with Provider() as provider:
        yield provider


@pytest_asyncio.fixture(scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> AsyncIterator[Inside]:
    async with inside(tmp_path_factory.mktemp("projects"), **provider.settings) as api:
        yield api


async def patch(api: Inside, project: str, key: str, match: str | None, **body: object) -> httpx.Response:
    return await api.ask("PATCH", f"/projects/{project}", key, json=body, headers={"If-Match": match} if match else {})


async def test_a_project_is_made_once_and_read_by_its_members(api: Inside):
    body = {"id": "vision", "name": "Vision"}
    made = await api.ask("POST", "/projects", api.operator, json=body)
    assert (made.status_code, made.headers["Location"], made.headers["ETag"]) == (201, "/projects/vision", '"1"')
    assert made.json()["dollars_per_day"] is None
    again = await api.ask("POST", "/projects", api.operator, json=body)
    assert (again.status_code, kind(again)) == (409, "project-exists")
    viewer = await api.key("viewer", "vision")
    assert (await api.ask("GET", "/projects/vision", viewer)).json() == made.json()
    listed = (await api.ask("GET", "/projects", viewer)).json()["items"]
    assert [project["id"] for project in listed] == ["vision"]
    assert (await api.ask("GET", "/projects/nowhere", api.operator)).status_code == 404


async def test_projects_come_in_pages(api: Inside):
    for name in ("page-a", "page-b", "page-c"):
        await api.project(name)
    seen, path = [], "/projects?limit=2"
    while path:
        answer = await api.ask("GET", path, api.operator)
        seen += [project["id"] for project in answer.json()["items"]]
        path = answer.links["next"]["url"] if "next" in answer.links else None
    assert seen == sorted(set(seen))
    assert {"default", "page-a", "page-b", "page-c"} <= set(seen)


async def test_a_change_needs_the_version_that_was_seen(api: Inside):
    await api.project("etag")
    admin = await api.key("admin", "etag")
    without = await patch(api, "etag", admin, None, name="E")
    assert (without.status_code, kind(without)) == (428, "if-match-needed")
    changed = await patch(api, "etag", admin, '"1"', name="E")
    assert (changed.status_code, changed.json()["name"], changed.headers["ETag"]) == (200, "E", '"2"')
    stale = await patch(api, "etag", admin, '"1"', name="F")
    assert (stale.status_code, kind(stale)) == (412, "changed-since")
    assert (await patch(api, "etag", admin, '"2"', name="E")).headers["ETag"] == '"2"'  # nothing was to be changed


async def test_quotas_take_an_operator_and_null_takes_them_away(api: Inside):
    await api.project("quota")
    refused = await patch(api, "quota", await api.key("admin", "quota"), '"1"', name="Q", dollars_per_day=5)
    assert (refused.status_code, kind(refused)) == (403, "role-too-low")
    limited = await patch(api, "quota", api.operator, '"1"', accelerators=8, dollars_per_day=5.5, dollars_per_month=100)
    assert [limited.json()[name] for name in ("name", "accelerators", "dollars_per_day", "dollars_per_month")] == ["quota", 8, 5.5, 100]
    lifted = await patch(api, "quota", api.operator, '"2"', dollars_per_day=None)
    assert [lifted.json()[name] for name in ("accelerators", "dollars_per_day")] == [8, None]
    for bad in ({"accelerators": -1}, {"dollars_per_day": "NaN"}, {"archived": "perhaps"}, {"color": "red"}):
        assert (await patch(api, "quota", api.operator, '"3"', **bad)).status_code == 422, bad


async def test_an_archived_project_takes_no_new_runs(api: Inside):
    await api.project("old")
    writer = await api.key("writer", "old")
    run = await api.ask("POST", "/runs", writer, json={"recipe": "demo", "project": "old"})
    await patch(api, "old", api.operator, '"1"', archived=True)
    refused = await api.ask("POST", "/runs", writer, json={"recipe": "demo", "project": "old"})
    assert (refused.status_code, kind(refused)) == (409, "project-archived")
    assert (await api.ask("GET", f"/runs/{run.json()['id']}", writer)).status_code == 200
    await patch(api, "old", api.operator, '"2"', archived=False)
    assert (await api.ask("POST", "/runs", writer, json={"recipe": "demo", "project": "old"})).status_code == 201


async def test_a_run_needs_a_project_that_there_is(api: Inside):
    refused = await api.ask("POST", "/runs", api.operator, json={"recipe": "demo", "project": "never-made"})
    assert (refused.status_code, kind(refused)) == (404, "no-such-project")


async def test_a_membership_counts_at_once_and_ends_at_once(api: Inside, provider: Provider):
    await api.project("people")
    token, path = provider.token("grace"), f"/projects/people/members/{provider.subject('grace').replace('/', '%2F')}"
    assert kind(await api.ask("GET", "/projects", token)) == "no-membership"
    assert (await api.ask("PUT", path, api.operator, json={"role": "viewer"})).status_code == 201
    assert (await api.ask("GET", "/projects/people", token)).status_code == 200
    assert (await api.ask("POST", "/runs", token, json={"recipe": "demo", "project": "people"})).status_code == 403
    assert (await api.ask("PUT", path, api.operator, json={"role": "writer"})).status_code == 200
    run = await api.ask("POST", "/runs", token, json={"recipe": "demo", "project": "people"})
    assert run.status_code == 201
    members = (await api.ask("GET", "/projects/people/members", token)).json()["items"]
    assert [(member["subject"], member["role"]) for member in members] == [(provider.subject("grace"), "writer")]
    assert (await api.ask("DELETE", path, api.operator)).status_code == 204
    assert (await api.ask("GET", f"/runs/{run.json()['id']}", token)).status_code == 403
    gone = await api.ask("DELETE", path, api.operator)
    assert (gone.status_code, kind(gone)) == (404, "no-such-member")


async def test_the_last_admin_stays_unless_an_operator_says_otherwise(api: Inside, provider: Provider):
    await api.project("led")
    token, path = provider.token("ada"), f"/projects/led/members/{provider.subject('ada')}"
    await api.ask("PUT", path, api.operator, json={"role": "admin"})
    assert kind(await api.ask("DELETE", path, token)) == "last-admin"
    assert kind(await api.ask("PUT", path, token, json={"role": "viewer"})) == "last-admin"
    second = f"/projects/led/members/{provider.subject('second')}"
    assert (await api.ask("PUT", second, token, json={"role": "admin"})).status_code == 201
    assert (await api.ask("DELETE", path, token)).status_code == 204
    assert (await api.ask("DELETE", second, api.operator)).status_code == 204


@pytest.mark.parametrize("subject", ["key:key_01m87n1jvde9ct9f7vyytvx9r4", "local", "oidc:no-bar", "oidc:https://x|" + "s" * 300])
async def test_only_people_are_members(api: Inside, subject: str):
    refused = await api.ask("PUT", f"/projects/default/members/{subject}", api.operator, json={"role": "viewer"})
    assert (refused.status_code, kind(refused)) == (422, "no-such-subject")
