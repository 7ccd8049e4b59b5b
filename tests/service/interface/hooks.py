"""Loaded by schemathesis: what it cannot find out by itself about the interface."""

from typing import Any

import schemathesis

UNKNOWN = "x-schemathesis-unknown-property"


@schemathesis.hook
def before_load_schema(_context: Any, document: dict[str, Any]) -> None:
    """schemathesis 4.32 turns prefixItems into a list under `items`, and then finds that no schema: it gets none."""
    waiting: list[Any] = [document]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            part.pop("prefixItems", None)
        if isinstance(part, dict | list):
            waiting += part.values() if isinstance(part, dict) else part


@schemathesis.hook
def filter_case(_context: Any, case: Any) -> bool:
    """A header that nobody knows is no mistake: proxies and browsers send many."""
    return UNKNOWN not in (case.headers or {})


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Of any JSON as recipe next to none can be trained: every other run is of a built-in one, so that there are runs to ask for."""
    made = context.operation is not None and context.operation.definition.raw.get("operationId") == "create_run"
    if not made or not isinstance(body, dict) or "recipe" not in body or len(str(body)) % 2:
        return body
    named = {"project": "default"} if isinstance(body.get("project"), str) and 0 < len(body["project"]) <= 40 else {}
    plain = {"overrides": None} if isinstance(body.get("overrides"), dict) else {}
    return {**body, "recipe": "demo", **named, **plain}
