"""Which changes of the interface break a client that was made for the one before."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from service.check_api import unsaid
from service.http.compatibility import Break, breaks

Json = dict[str, Any]


def document() -> Json:
    run = {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "state": {"type": "string", "enum": ["queued", "running"]},
            "step": {"type": "integer"},
            "parent": {"$ref": "#/components/schemas/Run"},
        },
        "required": ["id", "state"],
    }
    new = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 40},
            "kind": {"enum": ["a", "b"], "type": "string"},
            "size": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]},
        },
        "required": ["name"],
    }
    reference = {"schema": {"$ref": "#/components/schemas/Run"}}
    create = {
        "operationId": "create_run",
        "parameters": [{"in": "query", "name": "limit", "schema": {"type": "integer", "maximum": 100}}],
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/New"}}}},
        "responses": {"201": {"headers": {"ETag": {}}, "content": {"application/json": reference}}, "404": {"content": {}}},
    }
    return {"paths": {"/runs": {"post": create}}, "components": {"schemas": {"Run": run, "New": new}}}


def operation(changed: Json) -> Json:
    return changed["paths"]["/runs"]["post"]


def schema(changed: Json, name: str) -> Json:
    return changed["components"]["schemas"][name]


def parameter(changed: Json) -> Json:
    return operation(changed)["parameters"][0]


BREAKING: list[tuple[Callable[[Json], Any], str]] = [
    (lambda d: d["paths"].clear(), "POST /runs is gone"),
    (lambda d: operation(d).update(operationId="make_run"), "it is called make_run now"),
    (lambda d: operation(d)["responses"].pop("404"), "it no longer answers 404"),
    (lambda d: operation(d)["responses"]["201"]["headers"].clear(), "201 no longer has the header ETag"),
    (lambda d: operation(d)["responses"]["201"]["content"].clear(), "201 no longer comes as application/json"),
    (lambda d: operation(d).pop("requestBody"), "it no longer takes a body"),
    (lambda d: operation(d)["parameters"].clear(), "query limit is gone"),
    (lambda d: parameter(d).update(required=True), "query limit is required now"),
    (lambda d: parameter(d)["schema"].update(maximum=50), "query limit: maximum is 50, it was 100"),
    (lambda d: parameter(d)["schema"].update(type="string"), "query limit may no longer be integer"),
    (
        lambda d: operation(d)["parameters"].append({"in": "header", "name": "X", "required": True, "schema": {}}),
        "header X is new and required",
    ),
    (lambda d: schema(d, "New")["properties"].pop("kind"), "body/kind is gone"),
    (lambda d: schema(d, "New")["required"].append("kind"), "body/kind is required now"),
    (lambda d: schema(d, "New")["required"].append("extra"), "body/extra is new and required"),
    (lambda d: schema(d, "New")["properties"]["kind"].update(enum=["a"]), "body/kind may no longer be 'b'"),
    (lambda d: schema(d, "New")["properties"]["name"].update(maxLength=20), "body/name: maxLength is 20, it was 40"),
    (lambda d: schema(d, "New")["properties"]["name"].update(pattern="^a"), "body/name must match ^a now"),
    (lambda d: schema(d, "New")["properties"]["size"].update(anyOf=[{"type": "integer", "minimum": 1}]), "body/size may no longer be null"),
    (lambda d: schema(d, "New").update(additionalProperties=False), "body takes no other fields now"),
    (lambda d: schema(d, "Run")["properties"].pop("step"), "201 body/step is gone"),
    (lambda d: schema(d, "Run")["required"].remove("id"), "201 body/id may be absent now"),
    (lambda d: schema(d, "Run")["properties"]["state"]["enum"].append("lost"), "201 body/state may be 'lost' now"),
    (lambda d: schema(d, "Run")["properties"]["step"].update(type="number"), "201 body/step may be number now"),
    (lambda d: schema(d, "Run")["properties"]["step"].update(type=["integer", "null"]), "201 body/step may be null now"),
]

HARMLESS: list[Callable[[Json], Any]] = [
    lambda d: None,
    lambda d: d["paths"].update({"/new": {"get": {"operationId": "new", "responses": {}}}}),
    lambda d: operation(d)["responses"].update({"429": {}}),
    lambda d: operation(d)["parameters"].append({"in": "query", "name": "q", "schema": {"type": "string"}}),
    lambda d: parameter(d)["schema"].update(maximum=1000),
    lambda d: schema(d, "New")["properties"].update(extra={"type": "string"}),
    lambda d: schema(d, "New")["properties"]["kind"]["enum"].append("c"),
    lambda d: schema(d, "New")["properties"]["size"].update(anyOf=[{"type": "number"}, {"type": "null"}]),
    lambda d: schema(d, "New").update(required=[]),
    lambda d: schema(d, "Run")["properties"].update(extra={"type": "string"}),
    lambda d: schema(d, "Run")["properties"]["state"].update(enum=["queued"]),
    lambda d: schema(d, "Run")["required"].append("step"),
]


@pytest.mark.parametrize(("change", "because"), BREAKING)
def test_what_breaks_a_client_is_found_and_named(change: Callable[[Json], Any], because: str):
    changed = copy.deepcopy(document())
    change(changed)
    found = breaks(document(), changed)
    assert {one.operation for one in found} == {"create_run"}
    assert any(one.because.startswith(because) for one in found), found


@pytest.mark.parametrize("change", HARMLESS)
def test_what_a_client_need_not_notice_is_no_break(change: Callable[[Json], Any]):
    changed = copy.deepcopy(document())
    change(changed)
    assert breaks(document(), changed) == []


@pytest.mark.parametrize(
    ("changes", "let_through"),
    [
        ("## [Unreleased]\n\n### Breaking\n\n- `create_run` takes no name any more.\n", True),
        ("## [Unreleased]\n\n### Breaking\n\n- `list_runs` is gone.\n", False),
        ("## [Unreleased]\n\n### Added\n\n- `create_run` is faster.\n", False),
        ("## [Unreleased]\n\n### Added\n\n## [0.1.0]\n\n### Breaking\n\n- `create_run`\n", False),
        ("", False),
    ],
)
def test_a_break_passes_only_where_the_change_log_names_its_operation(changes: str, let_through: bool):
    assert (unsaid([Break("create_run", "it is gone")], changes) == []) is let_through
