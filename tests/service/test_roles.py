"""The role table, against the real app: every route × who asks × whose project. A route that is added is a new row by itself."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from fastapi.routing import RouteContext, iter_route_contexts
from sqlalchemy import text

from dayrun import builtin
from dayrun.objects import Prefix
from service.access import LOWEST_ROLE, Action, Role
from service.app import create_app
from service.http.door import OPEN, OPEN_BELOW
from service.http.identity import May
from service.settings import Settings
from tests.service.inside import Inside, inside, kind
from tests.service.issuer import Provider

BODIES: dict[str, dict[str, Any]] = {}
"""`METHOD /path` → a body, where none can be made from the schema that gets as far as the question of who may."""
QUERIES = {
    "/audit": "project={project_id}",
    "/recipes/{name}": "project={project_id}",
    "/samples:compare": "runs={run_id},{twin}",
    "/samples:compare-sheet": "runs={run_id},{twin}",
}
"""Paths where the query says what of the project is wanted."""
SPENT = "DELETE /webhooks/{webhook_id}"
"""What takes the thing away: each asks for one of its own."""
SOMEBODY = "oidc:https:%2F%2Fissuer.example|somebody"
NO_SUCH = {f"no-such-{one}" for one in ("run", "project", "key", "draw", "export", "webhook", "delivery", "recipe")}
DENIED = NO_SUCH | {"no-credentials", "no-membership", "role-too-low"}
ROLES = {"stranger": 0, "viewer": Role.VIEWER, "writer": Role.WRITER, "admin": Role.ADMIN, "operator": Role.OPERATOR}
PATIENCE_SECONDS = 60

app = create_app(Settings())
document = app.openapi()


def action_of(dependant: Any) -> Action | None:
    """The action that a route's `May` asks for, wherever among its dependencies."""
    for one in dependant.dependencies if dependant else []:
        if isinstance(one.call, May):
            return one.call.action
        if (found := action_of(one)) is not None:
            return found
    return None


def rows() -> list[tuple[str, str, Action | None]]:
    found: list[tuple[str, str, Action | None]] = []
    for route in iter_route_contexts(app.routes):
        dependant = getattr(route, "dependant", None)
        found += [(method, route_path(route), action_of(dependant)) for method in sorted(getattr(route, "methods", None) or {"GET"})]
    return sorted(found)


def route_path(route: RouteContext) -> str:
    return getattr(route, "path_format", None) or getattr(route, "path", "")


ROWS = rows()
CLOSED = [row for row in ROWS if row[1] not in OPEN | {"/metrics"} and not row[1].startswith(OPEN_BELOW)]


@dataclass
class World:
    """Two projects with something of each kind in them, and everybody's credentials."""

    api: Inside
    keys: dict[str, str | None]
    things: dict[str, dict[str, str]] = field(default_factory=dict)
    """By project: path parameter → what there is of it."""

    async def make(self, path: str, body: dict[str, Any] | None = None) -> str:
        answer = await self.api.ask("POST", path, self.api.operator, json=body)
        assert answer.status_code in (201, 202), answer.text
        return answer.json()["id"]

    async def webhook(self, project: str) -> str:
        return await self.make("/webhooks", {"url": "http://127.0.0.1:9", "project": project})

    async def furnish(self, project: str) -> dict[str, str]:
        """A project with one of each kind in it."""
        await self.api.project(project)
        run, twin = [await self.make("/runs", {"recipe": "demo", "project": project}) for _ in range(2)]
        Prefix(self.api.context.settings.run_url(run)).put("checkpoints/00000010/complete.json", b"{}")
        stored = builtin.get("demo")
        await self.api.ask("PUT", f"/recipes/kept?project={project}", self.api.operator, json=stored)
        hook = await self.webhook(project)
        return {
            "project_id": project,
            "run_id": run,
            "twin": twin,
            "name": "kept",
            "key_id": (await self.api.made_key("viewer", project))["id"],
            "subject": SOMEBODY,
            "draw_id": await self.make(f"/runs/{run}/samples", {"prompts": ["a pear"]}),
            "export_id": await self.make(f"/runs/{run}/exports", {}),
            "webhook_id": hook,
            "delivery_id": await self.make(f"/webhooks/{hook}:test"),
        }


@pytest_asyncio.fixture(scope="module")
async def world(address: str | None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    with Provider() as provider:
        settings = {"database": address, "webhook_networks": "127.0.0.0/8", "jobs_waiting": 1000, **provider.settings}
        async with inside(tmp_path_factory.mktemp("roles"), **settings) as api:
            world = World(api, {"nobody": None, "stranger": provider.token("a stranger"), "operator": api.operator})
            for project in ("own", "other"):
                world.things[project] = await world.furnish(project)
            for role in ("viewer", "writer", "admin"):
                world.keys[role] = await api.key(role, "own")
            async with api.context.database.write() as session:  # a run that is over: its streams end
                await session.execute(text("UPDATE runs SET state = 'cancelled'"))
            yield world


def expected(action: Action | None, role: str, placed: bool, place: str) -> set[int | str]:
    """The statuses that mean no, or {"yes"}."""
    if role == "nobody":
        return {401}
    if role == "operator" or action is None:
        return {"yes"}
    if ROLES[role] < LOWEST_ROLE[action]:
        return {403}
    return {404} if placed and place == "other" else {"yes"}


@pytest.mark.parametrize(("method", "path", "action"), CLOSED, ids=[f"{method} {path}" for method, path, _ in CLOSED])
async def test_a_route_lets_in_whom_the_table_says(world: World, method: str, path: str, action: Action | None):
    assert action is not None, "the route has neither a May nor a place among the open ones"
    operation = document["paths"][path][method.lower()]
    wrong: list[str] = []
    for place in ("own", "other"):
        things = dict(world.things[place])
        body = BODIES.get(f"{method} {path}") or body_of(operation, place)
        query = QUERIES.get(path, "")
        placed = any(f"{{{name}}}" in path + query for name in things) or (body is not None and body.get("project") == place)
        for role, key in world.keys.items():
            if f"{method} {path}" == SPENT:
                things["webhook_id"] = await world.webhook(place)
            url = path_of(path, operation, things) + (f"?{query.format(**things)}" if query else "")
            answer = await asyncio.wait_for(world.api.ask(method, url, key, json=body), PATIENCE_SECONDS)
            wanted = expected(action, role, placed, place)
            is_no = answer.status_code in (401, 403, 404) and (wanted == {404} or kind(answer) in DENIED)
            no = answer.status_code if is_no else "yes"
            if wanted == {404} and answer.status_code == 422 and kind(answer) == "invalid-request":
                wrong.append(f"the body {body} does not get as far as the question of who may: put a better one into BODIES")
            elif no not in wanted:
                wrong.append(f"{role} × {place} project: {answer.status_code} instead of {wanted}: {answer.text[:200]}")
            others = {thing for name, thing in world.things["other"].items() if name.endswith("_id") and name != "project_id"}
            if answer.status_code == 200 and role != "operator" and others & words(answer.text):
                wrong.append(f"{role} sees something of the other project in {url}")
    assert not wrong, "\n".join(wrong)


def words(text: str) -> set[str]:
    return set(text.replace('"', " ").replace("/", " ").replace(",", " ").split())


def path_of(path: str, operation: dict[str, Any], things: dict[str, str]) -> str:
    """The path with something in each of its parameters: what there is in the project, else what at least has the right type."""
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "path":
            plain = "1" if parameter["schema"].get("type") == "integer" else "x1"
            path = path.replace(f"{{{parameter['name']}}}", things.get(parameter["name"], plain))
    return path


def body_of(operation: dict[str, Any], project: str) -> dict[str, Any] | None:
    """The least that the schema of the body takes, in `project` where it has such a field."""
    content = operation.get("requestBody", {}).get("content", {})
    if "application/json" not in content:
        return None
    schema = resolved(content["application/json"]["schema"])
    body = example(schema)
    if "project" in schema.get("properties", {}):
        body["project"] = project
    return body


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    return document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema


def example(schema: dict[str, Any]) -> Any:
    schema = resolved(schema)
    if schema.get("examples"):
        return schema["examples"][0]
    if "enum" in schema or "const" in schema:
        return schema.get("enum", [schema.get("const")])[0]
    if "anyOf" in schema:
        return example(schema["anyOf"][0])
    match schema.get("type"):
        case "object":
            return {name: example(schema["properties"][name]) for name in schema.get("required", [])}
        case "array":
            return [example(schema["items"])] * schema.get("minItems", 0)
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "string":
            return ("x" * max(2, schema.get("minLength", 0)))[: schema.get("maxLength", 99)]
        case _:
            return "demo"  # a recipe, which the schema leaves to dayrun


def test_what_is_open_is_only_what_is_listed():
    of_the_page = {OPEN_BELOW + name for name in ("{path}", "recipe.schema.json", "sign-in.json", "token")}
    assert {path for _, path, _ in ROWS} - {path for _, path, _ in CLOSED} == OPEN | {"/metrics"} | of_the_page


async def test_open_paths_need_nobody(world: World):
    for path in (*OPEN, "/metrics", "/web/app.js"):
        assert (await world.api.ask("GET", path)).status_code in (200, 503), path  # ready it is not: there is no worker


async def test_what_does_not_exist_asks_for_a_key_too(world: World):
    assert (await world.api.ask("GET", "/nowhere")).status_code == 401
    assert (await world.api.ask("GET", "/nowhere", world.keys["viewer"])).status_code == 404


def test_every_action_has_a_lowest_role():
    assert set(LOWEST_ROLE) == set(Action)
