"""The OpenAPI document: what follows from a signature, and what a generated client relies on."""

from datetime import UTC, datetime
from typing import Any

import httpx
import jsonschema
import pytest
from fastapi import APIRouter, Depends, FastAPI

from service.app import create_app
from service.http import openapi
from service.http.deprecation import Deprecated
from service.http.etags import MustMatch
from service.http.examples import examples
from service.http.openapi import Takes, problems_of
from service.http.problem import Problem, install
from service.http.request_id import Named
from service.settings import Settings


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return create_app(Settings(home=tmp_path_factory.mktemp("home"))).openapi()


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for methods in document["paths"].values() for operation in methods.values()]


@pytest.mark.parametrize(
    ("takes", "problems"),
    [
        (Takes(), []),
        (Takes(permit=True, database=True), [401, 403, 429, 503]),
        (Takes(identifier=True, parameters=True), [404, 422]),
        (Takes(writes=True), [403, 413, 415, 422]),
        (Takes(key=True), [409]),
        (Takes(match=True), [412]),
        (Takes(match=True, must_match=True), [412, 428]),
    ],
)
def test_problems_follow_from_what_an_operation_takes(takes: Takes, problems: list[int]):
    assert problems_of(takes) == problems


def test_operation_ids_are_the_endpoints_names(document: dict[str, Any]):
    found = [operation["operationId"] for operation in operations(document)]
    assert {"create_run", "list_runs", "show_run", "pause_run", "list_events", "show_recipe"} <= set(found)
    assert len(found) == len(set(found))


def test_every_operation_says_what_it_does_and_every_error_is_a_problem(document: dict[str, Any]):
    for operation in operations(document):
        name = operation["operationId"]
        assert operation["tags"], name
        assert operation["summary"], name
        assert operation["description"], name
        for status, answer in operation["responses"].items():
            if int(status) >= 400 and name != "readyz":
                assert answer == {"$ref": f"#/components/responses/Problem{status}"}, name


def test_what_takes_a_permit_takes_a_key_or_a_token(document: dict[str, Any]):
    by_name = {operation["operationId"]: operation for operation in operations(document)}
    assert by_name["create_run"]["security"] == [{"key": []}, {"oidc": []}]
    assert by_name["healthz"]["security"] == []
    assert {"401", "403", "429"} <= set(by_name["create_run"]["responses"])
    assert not {"401", "429"} & set(by_name["healthz"]["responses"])


def test_answers_name_their_headers(document: dict[str, Any]):
    created = document["paths"]["/runs"]["post"]["responses"]["201"]["headers"]
    assert {"ETag", "Location", "Idempotency-Replayed", "RateLimit", "X-Request-Id"} <= set(created)
    assert "Link" in document["paths"]["/runs"]["get"]["responses"]["200"]["headers"]
    assert set(document["components"]["responses"]["Problem429"]["headers"]) >= {"Retry-After", "RateLimit"}


def test_a_new_run_links_to_what_can_be_done_with_it(document: dict[str, Any]):
    links = document["paths"]["/runs"]["post"]["responses"]["201"]["links"]
    assert links["pause_run"] == {"operationId": "pause_run", "parameters": {"run_id": "$response.body#/id"}}
    assert {"show_run", "cancel_run", "list_events"} <= set(links)


def named_schemas(document: dict[str, Any]) -> set[str]:
    """Of all bodies and answers."""
    parts = [part for one in operations(document) for part in (one.get("requestBody", {}), *one["responses"].values())]
    media = [media for part in parts for media in part.get("content", {}).values()]
    return {ref.rsplit("/", 1)[-1] for one in media if (ref := one.get("schema", {}).get("$ref"))}


def test_every_body_and_answer_has_an_example_that_its_schema_takes(document: dict[str, Any]):
    schemas = document["components"]["schemas"]
    missing = sorted(name for name in named_schemas(document) if name not in examples())
    assert not missing, f"service/http/examples.json has no example of {', '.join(missing)}"
    for name, example in examples().items():
        assert name in schemas, f"service/http/examples.json: no schema is called {name}"
        jsonschema.Draft202012Validator({**schemas[name], "components": document["components"]}).validate(example)


def test_the_issuer_of_tokens_is_named_where_there_is_one():
    schemes = openapi.document(FastAPI(), "https://login.example/")["components"]["securitySchemes"]
    assert schemes["oidc"]["openIdConnectUrl"] == "https://login.example/.well-known/openid-configuration"


SINCE, SUNSET = datetime(2026, 11, 1, tzinfo=UTC), datetime(2027, 5, 1, 12, tzinfo=UTC)


def old_app() -> FastAPI:
    router = APIRouter(dependencies=[Depends(Deprecated(SINCE, SUNSET, "/new"))], tags=["old"])

    @router.get("/old")
    async def old(fails: bool = False) -> dict[str, str]:
        """An operation that will go."""
        if fails:
            raise Problem(409, "not now")
        return {}

    app = FastAPI(generate_unique_id_function=openapi.operation_id)
    install(app)
    openapi.install(app)
    app.include_router(router)
    app.add_middleware(Named)

    @app.put("/guarded")
    async def guarded(match: MustMatch) -> str:
        """A change that nobody makes unseen."""
        return match

    return app


async def test_an_operation_that_will_go_says_so_in_every_answer():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(old_app()), base_url="http://x") as client:
        for path, status in (("/old", 200), ("/old?fails=true", 409), ("/old?fails=perhaps", 422)):
            response = await client.get(path)
            assert response.status_code == status
            assert response.headers["Deprecation"] == "@1793491200"
            assert response.headers["Sunset"] == "Sat, 01 May 2027 12:00:00 GMT"
            assert response.headers["Link"] == '</new>; rel="successor-version"'
    operation = old_app().openapi()["paths"]["/old"]["get"]
    assert operation["deprecated"] is True
    assert "gone on 2027-05-01; /new replaces it" in operation["description"]
    assert {"Deprecation", "Sunset", "Link"} <= set(operation["responses"]["200"]["headers"])


def test_a_sunset_before_the_deprecation_is_a_mistake():
    with pytest.raises(ValueError, match="the sunset must come later"):
        Deprecated(SUNSET, SINCE)


async def test_a_change_that_takes_an_etag_is_refused_without_one():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(old_app()), base_url="http://x") as client:
        assert (await client.put("/guarded")).status_code == 428
        assert (await client.put("/guarded", headers={"If-Match": '"1"'})).status_code == 200
    assert "428" in old_app().openapi()["paths"]["/guarded"]["put"]["responses"]


async def test_a_failure_is_found_in_the_log_by_its_request_id(caplog: pytest.LogCaptureFixture):
    app = old_app()

    @app.get("/broken")
    async def broken() -> None:
        """It fails."""
        raise RuntimeError("a mistake of ours")

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        response = await client.get("/broken", headers={"X-Request-Id": "find-me"})
    assert response.status_code == 500
    assert response.headers["X-Request-Id"] == response.json()["request_id"] == "find-me"
    assert any("find-me" in record.getMessage() and record.exc_info for record in caplog.records)
