"""What a newer OpenAPI document takes away from those who use an older one. Pure functions over two documents; no file, no app.

A request that was valid must stay valid and mean the same; an answer must stay one that an older client can read. Hence the two
directions: what is asked may only grow wider, what is answered may only grow narrower, apart from fields and errors that are added.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
METHODS = ("get", "post", "put", "patch", "delete")
UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
ANYTHING = "anything"


@dataclass(frozen=True)
class Break:
    """One thing that a client of the older document relies on and no longer gets."""

    operation: str
    """Its id in the older document: what a line of the change log must name."""
    because: str

    def __str__(self) -> str:
        return f"{self.operation}: {self.because}"


def breaks(old: Json, new: Json) -> list[Break]:
    """Everything in `new` that breaks clients made for `old`, in the order of `old`."""
    return [
        Break(was["operationId"], because) for path, method, was in operations(old) for because in of_operation(path, method, was, old, new)
    ]


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, methods in document["paths"].items():
        for method in METHODS:
            if method in methods:
                yield path, method, methods[method]


def of_operation(path: str, method: str, was: Json, old: Json, new: Json) -> Iterator[str]:
    now = new["paths"].get(path, {}).get(method)
    if now is None:
        yield f"{method.upper()} {path} is gone"
        return
    if now["operationId"] != was["operationId"]:
        yield f"it is called {now['operationId']} now: generated clients have it as a method's name"
    compared = Compared(old, new)
    yield from compared.parameters(was.get("parameters", []), now.get("parameters", []))
    yield from compared.request(was.get("requestBody"), now.get("requestBody"))
    for status, answer in was["responses"].items():
        if status not in now["responses"]:
            yield f"it no longer answers {status}"
        else:
            yield from compared.answer(status, compared.was(answer), compared.now(now["responses"][status]))


class Compared:
    """Two documents, to look references up in while their parts are compared."""

    def __init__(self, old: Json, new: Json) -> None:
        self._old, self._new = old, new
        self._inside: set[tuple[str, str]] = set()

    def was(self, part: Json) -> Json:
        return resolved(self._old, part)

    def now(self, part: Json) -> Json:
        return resolved(self._new, part)

    def parameters(self, was: list[Json], now: list[Json]) -> Iterator[str]:
        before, after = ({(one["in"], one["name"]): one for one in found} for found in (was, now))
        for place, parameter in before.items():
            at = " ".join(place)
            if place not in after:
                yield f"{at} is gone"
                continue
            if after[place].get("required") and not parameter.get("required"):
                yield f"{at} is required now"
            yield from self.asked(parameter["schema"], after[place]["schema"], at)
        for place, parameter in after.items():
            if place not in before and parameter.get("required"):
                yield f"{' '.join(place)} is new and required"

    def request(self, was: Json | None, now: Json | None) -> Iterator[str]:
        if was is None:
            if now is not None and now.get("required"):
                yield "it takes a body now"
            return
        if now is None:
            yield "it no longer takes a body"
            return
        if now.get("required") and not was.get("required"):
            yield "the body is required now"
        for media, content in was["content"].items():
            if media not in now["content"]:
                yield f"it no longer takes {media}"
            else:
                yield from self.asked(content.get("schema", {}), now["content"][media].get("schema", {}), "body")

    def answer(self, status: str, was: Json, now: Json) -> Iterator[str]:
        for media, content in was.get("content", {}).items():
            if media not in now.get("content", {}):
                yield f"{status} no longer comes as {media}"
            else:
                yield from self.answered(content.get("schema", {}), now["content"][media].get("schema", {}), f"{status} body")
        for header in was.get("headers", {}):
            if header not in now.get("headers", {}):
                yield f"{status} no longer has the header {header}"

    def asked(self, was: Json, now: Json, at: str) -> Iterator[str]:
        """What `now` no longer takes of what `was` took."""
        if (pair := self._enter(was, now)) is None:
            return
        before, after = kinds(self._old, was), kinds(self._new, now)
        if ANYTHING not in after:
            yield from (f"{at} may no longer be {kind}" for kind in before if not covers(after, kind))
            for kind in before.keys() & after.keys():
                yield from narrowed(before[kind], after[kind], at)
                yield from self._fields(before[kind], after[kind], at, asked=True)
        self._inside.discard(pair)

    def answered(self, was: Json, now: Json, at: str) -> Iterator[str]:
        """What `now` may answer that `was` never did, or leave out that `was` always had."""
        if (pair := self._enter(was, now)) is None:
            return
        before, after = kinds(self._old, was), kinds(self._new, now)
        if ANYTHING not in before:
            yield from (f"{at} may be {kind} now" for kind in after if not covers(before, kind))
            for kind in before.keys() & after.keys():
                added = values(after[kind]) - values(before[kind]) if values(before[kind]) else set[str]()
                yield from (f"{at} may be {value} now" for value in sorted(added))
                if values(before[kind]) and not values(after[kind]):
                    yield f"{at} may be any {kind} now"
                yield from self._fields(before[kind], after[kind], at, asked=False)
        self._inside.discard(pair)

    def _enter(self, was: Json, now: Json) -> tuple[str, str] | None:
        """Where a schema holds itself, it is compared once."""
        pair = (was.get("$ref", f"{id(was)}"), now.get("$ref", f"{id(now)}"))
        if pair in self._inside:
            return None
        self._inside.add(pair)
        return pair

    def _fields(self, was: Json, now: Json, at: str, asked: bool) -> Iterator[str]:
        compare = self.asked if asked else self.answered
        before, after = was.get("properties", {}), now.get("properties", {})
        for name, schema in before.items():
            if name in after:
                yield from compare(schema, after[name], f"{at}/{name}")
            else:
                yield f"{at}/{name} is gone"
        must, had = set(now.get("required", [])), set(was.get("required", []))
        if asked:
            yield from (f"{at}/{name} is {'required now' if name in before else 'new and required'}" for name in sorted(must - had))
        else:
            yield from (f"{at}/{name} may be absent now" for name in sorted(had - must) if name in after)
        for inner in ("items", "additionalProperties"):
            if isinstance(was.get(inner), dict) and isinstance(now.get(inner), dict):
                yield from compare(was[inner], now[inner], f"{at}/*")
        if (
            asked
            and was.get("additionalProperties") is not False
            and now.get("additionalProperties") is False
            and now.get("type") == "object"
        ):
            yield f"{at} takes no other fields now"


def resolved(document: Json, part: Json) -> Json:
    while "$ref" in part:
        found: Any = document
        for step in part["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        part = found
    return part


def kinds(document: Json, schema: Json) -> dict[str, Json]:
    """The JSON types that a schema takes, each with the schema that holds for it."""
    schema = resolved(document, schema)
    found: dict[str, Json] = {}
    for variant in [*schema.get("anyOf", []), *schema.get("oneOf", [])]:
        found |= kinds(document, variant)
    if found:
        return found
    said: str | list[str] = schema.get("type", ANYTHING)
    return dict.fromkeys([said] if isinstance(said, str) else said, schema)


def covers(wide: dict[str, Json], kind: str) -> bool:
    return kind in wide or ANYTHING in wide or (kind == "integer" and "number" in wide)


def values(schema: Json) -> set[str]:
    """The values that a schema lists, as they print; none where it lists none."""
    return {repr(value) for value in schema.get("enum", [schema["const"]] if "const" in schema else [])}


def narrowed(was: Json, now: Json, at: str) -> Iterator[str]:
    """Values, bounds and patterns that took more before."""
    if values(now):
        yield from (f"{at} may no longer be {value}" for value in sorted(values(was) - values(now)))
        if not values(was):
            yield f"{at} takes listed values only"
    for bound in UPPER:
        if bound in now and now[bound] < was.get(bound, float("inf")):
            yield f"{at}: {bound} is {now[bound]}, it was {was.get(bound, 'none')}"
    for bound in LOWER:
        if bound in now and now[bound] > was.get(bound, float("-inf")):
            yield f"{at}: {bound} is {now[bound]}, it was {was.get(bound, 'none')}"
    if "pattern" in now and now["pattern"] != was.get("pattern"):
        yield f"{at} must match {now['pattern']} now"
