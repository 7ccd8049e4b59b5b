"""The interface as an OpenAPI document, worth generating a client from.

FastAPI writes down what it sees in the signatures. What follows from a signature without standing in it is added here, once for all
operations: which problems it can answer with, which headers its answers carry, who may call it, and what leads on from it. An endpoint's
own `responses=problems(...)` names only what follows from nothing but its meaning. No resource is known here but by its operations.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts

from service.context import context_of
from service.http.deprecation import Deprecated
from service.http.etags import must_match
from service.http.examples import examples
from service.http.identity import May
from service.http.problem import MEDIA_TYPE, ProblemDetail

Json = dict[str, Any]
PROBLEM_REF = "#/components/schemas/ProblemDetail"
WRITES = ("post", "put", "patch")

TAGS = {
    "runs": "Recipes being trained: made, moved, and what they leave behind.",
    "recipes": "The recipes that come with dayrun.",
    "health": "For probes and for Prometheus.",
}
SECURITY = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key as the bearer token. A service that listens on the loopback address only asks for none.",
    },
    "oidc": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A token of the OpenID Connect issuer that the service was told to trust, for the service's audience.",
    },
}
HEADERS = {
    "X-Request-Id": "Names this request in the service's log: the one that was sent, or a new one.",
    "ETag": "The version of what was answered; for If-Match.",
    "Location": "Where it is.",
    "Link": 'The next page, as rel="next" (RFC 8288); absent on the last one.',
    "Idempotency-Replayed": "`true`: the request was done before, this is the answer that it got then.",
    "Retry-After": "Seconds to wait before the next try.",
    "RateLimit": "What is left of the limit, and when it is whole again.",
    "RateLimit-Policy": "The limit that holds for the sender.",
    "WWW-Authenticate": "How to show who you are.",
    "Deprecation": "When the operation was deprecated (RFC 9745).",
    "Sunset": "When it will be gone (RFC 8594).",
}


@dataclass(frozen=True)
class Takes:
    """What an operation takes, as far as errors follow from it."""

    permit: bool = False
    database: bool = False
    identifier: bool = False
    parameters: bool = False
    body: bool = False
    writes: bool = False
    key: bool = False
    match: bool = False
    must_match: bool = False


@dataclass(frozen=True)
class Follows:
    """A problem that whatever takes one thing may answer with."""

    status: int
    when: Callable[[Takes], bool]
    because: str
    headers: tuple[str, ...] = ()


FOLLOWS = (
    Follows(401, lambda takes: takes.permit, "No credentials, or none that are valid.", ("WWW-Authenticate",)),
    Follows(
        403, lambda takes: takes.permit or takes.writes, "The sender's role is too low, or a page of another origin made a browser send it."
    ),
    Follows(404, lambda takes: takes.identifier, "It does not exist, or not for the sender."),
    Follows(
        409,
        lambda takes: takes.key,
        "The state does not allow it, or the first request with this Idempotency-Key is in flight.",
        ("Retry-After",),
    ),
    Follows(412, lambda takes: takes.match, "It has changed since: If-Match names another version."),
    Follows(413, lambda takes: takes.writes, "The body is larger than a request may be. It was not read."),
    Follows(415, lambda takes: takes.writes, "The body is not JSON by its Content-Type."),
    Follows(
        422,
        lambda takes: takes.parameters or takes.writes,
        "Something in the request is not valid: `errors` has the place, the value and why.",
    ),
    Follows(428, lambda takes: takes.must_match, "The change takes an If-Match header."),
    Follows(429, lambda takes: takes.permit, "Too many requests of this sender.", ("Retry-After", "RateLimit", "RateLimit-Policy")),
    Follows(503, lambda takes: takes.database, "The database cannot be reached; nothing was done.", ("Retry-After",)),
)
"""Which problem follows from what: the one table of it."""
BECAUSE = {follows.status: follows for follows in FOLLOWS}


def problems_of(takes: Takes) -> list[int]:
    """Statuses of the problems that an operation which takes this may answer with."""
    return [follows.status for follows in FOLLOWS if follows.when(takes)]


def install(app: FastAPI, issuer: str | None = None) -> None:
    """Let `app` serve the whole document. `issuer`: of the OpenID Connect tokens that it takes."""
    written: list[Json] = []

    def openapi() -> Json:
        if not written:
            written.append(document(app, issuer))
        return written[0]

    app.openapi = openapi


def document(app: FastAPI, issuer: str | None = None) -> Json:
    """The OpenAPI document of `app`: the same bytes for the same code."""
    contexts = [context for context in iter_route_contexts(app.routes) if is_listed(context)]
    made: Json = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        servers=[{"url": "/", "description": "The service that this document was read from"}],
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        tags=[{"name": name, "description": TAGS.get(name, "")} for name in tags_of(contexts)],
    )
    components = made.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    add_model(schemas, ProblemDetail)
    used: set[int] = set()
    for context in contexts:
        for method in sorted(context.methods or ()):
            operation = made["paths"][context.path_format][method.lower()]
            complete(operation, method.lower(), context, schemas)
            used |= {int(status) for status, answer in operation["responses"].items() if "$ref" in answer}
    link(made["paths"])
    for name, example in examples().items():
        if name in schemas:
            schemas[name]["examples"] = [example]
    components["schemas"] = dict(sorted(schemas.items()))
    components["headers"] = {name: {"description": said, "schema": {"type": "string"}} for name, said in HEADERS.items()}
    components["responses"] = {f"Problem{status}": problem_response(status) for status in sorted(used)}
    components["securitySchemes"] = dict(SECURITY)
    if issuer is not None:
        found = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
        components["securitySchemes"]["oidc"] = {"type": "openIdConnect", "openIdConnectUrl": found}
    return made


def operation_id(route: APIRoute) -> str:
    """The endpoint's name: it stays when a path or a method changes, and generated clients have it as theirs."""
    return route.name


def is_listed(context: RouteContext) -> bool:
    return isinstance(context.original_route, APIRoute) and bool(context.include_in_schema)


def tags_of(contexts: list[RouteContext]) -> list[str]:
    return list(dict.fromkeys(str(tag) for context in contexts for tag in context.tags))


def add_model(schemas: Json, model: Any) -> None:
    found = model.model_json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
    schemas.update(found.pop("$defs", {}))
    schemas[model.__name__] = found


def dependencies(of: Dependant) -> Iterator[Any]:
    """Everything that is called before the endpoint."""
    for one in of.dependencies:
        yield one.call
        yield from dependencies(one)


def complete(operation: Json, method: str, context: RouteContext, schemas: Json) -> None:
    """Add to `operation` what follows from its signature."""
    called = list(dependencies(context.dependant))
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "header":
            parameter["name"] = as_header(parameter["name"])
        without_null(parameter)
    operation["summary"], _, _ = operation.get("description", operation["summary"]).partition(". ")
    operation["summary"] = operation["summary"].split("\n")[0].rstrip(".")
    takes = takes_of(operation, method, called)
    operation["security"] = [{"key": []}, {"oidc": []}] if takes.permit else []
    answers = operation["responses"]
    for status, answer in list(answers.items()):
        if is_problem(answer):
            answers[status] = {"$ref": f"#/components/responses/Problem{status}"}
        elif "$ref" not in answer:
            answer["description"] = said_of(int(status), answer)
            answer["headers"] = {
                **{name: as_component(name) for name in headers_of(int(status), takes, answer, operation, schemas)},
                **answer.get("headers", {}),
            }
    for status in problems_of(takes):
        answers.setdefault(str(status), {"$ref": f"#/components/responses/Problem{status}"})
    operation["responses"] = dict(sorted(answers.items()))
    for one in called:
        if isinstance(one, Deprecated):
            deprecate(operation, one)


def takes_of(operation: Json, method: str, called: list[Any]) -> Takes:
    parameters = operation.get("parameters", [])
    headers = {one["name"] for one in parameters if one["in"] == "header"}
    return Takes(
        permit=any(isinstance(one, May) for one in called),
        database=context_of in called or any(isinstance(one, May) for one in called),
        identifier=any(one["in"] == "path" for one in parameters),
        parameters=bool(parameters),
        body="requestBody" in operation,
        writes=method in WRITES,
        key="Idempotency-Key" in headers,
        match="If-Match" in headers,
        must_match=must_match in called,
    )


def as_header(name: str) -> str:
    return "-".join({"id": "ID"}.get(word, word.capitalize()) for word in name.split("-"))


def without_null(parameter: Json) -> None:
    """A parameter that is left out is absent, not null: neither a query nor a header can say null."""
    kinds = [kind for kind in parameter["schema"].get("anyOf", []) if kind != {"type": "null"}]
    if len(kinds) == 1:
        parameter["schema"] = {**{key: value for key, value in parameter["schema"].items() if key != "anyOf"}, **kinds[0]}
    for shown in ("description", "title"):
        parameter["schema"].pop(shown, None)


def is_problem(answer: Json) -> bool:
    """Whether an answer was declared with `problems(...)`, or is FastAPI's own of a request that is not valid."""
    found = [media.get("schema", {}).get("$ref", "") for media in answer.get("content", {}).values()]
    return any(ref.rsplit("/", 1)[-1] in ("ProblemDetail", "HTTPValidationError") for ref in found)


def problem_response(status: int) -> Json:
    follows = BECAUSE.get(status)
    headers = ("X-Request-Id", *(follows.headers if follows else ()))
    return {
        "description": follows.because if follows else HTTPStatus(status).phrase,
        "headers": {name: as_component(name) for name in headers},
        "content": {MEDIA_TYPE: {"schema": {"$ref": PROBLEM_REF}}},
    }


def as_component(header: str) -> Json:
    return {"$ref": f"#/components/headers/{header}"}


def said_of(status: int, answer: Json) -> str:
    """FastAPI says "Successful Response" of everything."""
    return HTTPStatus(status).phrase if answer["description"] == "Successful Response" else answer["description"]


def headers_of(status: int, takes: Takes, answer: Json, operation: Json, schemas: Json) -> Iterator[str]:
    """Headers that an answer can carry: they too follow from what the operation takes and answers."""
    yield "X-Request-Id"
    model = schemas.get(name_of(answer.get("content", {}).get("application/json", {}).get("schema", {})), {})
    if "version" in model.get("properties", {}):
        yield "ETag"
    if status in (201, 202):
        yield "Location"
    if any(one["name"] == "cursor" for one in operation.get("parameters", [])):
        yield "Link"
    if takes.key:
        yield "Idempotency-Replayed"
    if takes.permit:
        yield from ("RateLimit", "RateLimit-Policy")


def name_of(schema: Json) -> str:
    return schema.get("$ref", "").rsplit("/", 1)[-1]


def deprecate(operation: Json, deprecated: Deprecated) -> None:
    operation["deprecated"] = True
    operation["description"] = f"{operation.get('description', '')}\n\n{deprecated.said()}".strip()
    for answer in operation["responses"].values():
        if "$ref" not in answer:
            answer["headers"] |= {name: as_component(name) for name in deprecated.headers()}


def link(paths: Json) -> None:
    """What was made leads to the operations on it: `POST /runs` to everything below `/runs/{run_id}`."""
    for path, operations in paths.items():
        answer = operations.get("post", {}).get("responses", {}).get("201", {})
        below = {} if "{" in path else dict(operations_on_one(paths, path))
        if below and "application/json" in answer.get("content", {}):
            answer["links"] = {
                name: {"operationId": name, "parameters": {parameter: "$response.body#/id"}} for name, parameter in sorted(below.items())
            }


def operations_on_one(paths: Json, collection: str) -> Iterator[tuple[str, str]]:
    """Operations on one item of a collection that need nothing but its id: their ids, and the parameter's name."""
    for path, operations in paths.items():
        if path.startswith(f"{collection}/{{") and path.count("{") == 1:
            for operation in operations.values():
                yield operation["operationId"], path[path.index("{") + 1 : path.index("}")]
