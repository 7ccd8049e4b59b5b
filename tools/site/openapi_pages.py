"""Pages of the API reference, from docs/openapi.json: one a tag, and one of all bodies. Pure functions of the document."""

import json
import re
from collections import defaultdict
from typing import Any

METHODS = ("get", "post", "put", "patch", "delete")
FOLDER = "reference/api"
SCHEMAS = "schemas.md"
TITLES = {"exports": "Exports to diffusers", "usage": "Cost and usage", "health": "Health and metrics", "audit": "The audit"}


def pages(document: dict[str, Any]) -> dict[str, str]:
    """Path of each page → its Markdown."""
    groups: dict[str, list[tuple[str, str, dict[str, Any]]]] = defaultdict(list)
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                groups[item[method]["tags"][0]].append((method.upper(), path, item[method]))
    found = {f"{FOLDER}/{tag}.md": tag_page(document, tag, operations) for tag, operations in groups.items()}
    return found | {f"{FOLDER}/{SCHEMAS}": schemas_page(document)}


def tag_page(document: dict[str, Any], tag: str, operations: list[tuple[str, str, dict[str, Any]]]) -> str:
    lines = [
        f"# {title(tag)}",
        "",
        "What holds for all of them: [the rules of the interface](../../http.md).",
        "",
        "| operation | |",
        "| --- | --- |",
    ]
    lines += [f"| [`{method} {path}`](#{one['operationId']}) | {cell(one['summary'])} |" for method, path, one in operations]
    for method, path, one in operations:
        lines += ["", *operation(document, method, path, one)]
    return "\n".join(lines) + "\n"


def operation(document: dict[str, Any], method: str, path: str, one: dict[str, Any]) -> list[str]:
    name = one["operationId"]
    lines = [f"## {name} {{ #{name} }}", "", f"`{method} {path}`", "", text(one.get("description") or one["summary"])]
    if found := [resolved(document, parameter) for parameter in one.get("parameters", [])]:
        lines += ["", "| parameter | in | type | |", "| --- | --- | --- | --- |"]
        lines += [parameter_row(parameter) for parameter in found]
    if body := one.get("requestBody"):
        ((media, content),) = list(body["content"].items())[:1]
        lines += ["", f"**Body**, `{media}`: {kind(content.get('schema', {}))}.", *example(content)]
    lines += ["", "| answer | |", "| --- | --- |"]
    problems: list[str] = []
    for status, answer in one["responses"].items():
        if "$ref" in answer:
            problems.append(status)
        else:
            lines.append(f"| {status} | {cell(answer_text(answer))} |")
    if problems:
        lines.append(f"| {', '.join(problems)} | a [problem](../../http.md#problems) |")
    for answer in one["responses"].values():
        for content in answer.get("content", {}).values():
            lines += example(content)
    return lines


def parameter_row(parameter: dict[str, Any]) -> str:
    schema = parameter.get("schema", {})
    about = parameter.get("description") or schema.get("description") or ""
    needed = "" if parameter["in"] == "path" else " **Needed.**" if parameter.get("required") else default_of(schema)
    return f"| `{parameter['name']}` | {parameter['in']} | {cell(kind(schema))} | {cell(about + needed)} |"


def answer_text(answer: dict[str, Any]) -> str:
    said = answer["description"]
    bodies = [f"`{media}`: {kind(content['schema'])}" for media, content in answer.get("content", {}).items() if content.get("schema")]
    headers = ", ".join(f"`{name}`" for name in answer.get("headers", {}) if name not in ("X-Request-Id", "RateLimit", "RateLimit-Policy"))
    return said + (f"; {'; '.join(bodies)}" if bodies else "") + (f". With {headers}" if headers else "")


def schemas_page(document: dict[str, Any]) -> str:
    lines = ["# Bodies", "", "Every body that requests and answers have, by name."]
    for name, schema in sorted(document["components"]["schemas"].items()):
        lines += ["", f"## {name} {{ #{anchor(name)} }}", ""]
        if schema.get("description"):
            lines += [text(schema["description"]), ""]
        if properties := schema.get("properties"):
            needed = schema.get("required", [])
            lines += ["| field | type | |", "| --- | --- | --- |"]
            lines += [field_row(field, value, field in needed) for field, value in properties.items()]
        else:
            lines.append(f"Type: {kind({key: value for key, value in schema.items() if key != 'title'})}.")
        lines += example(schema)
    return "\n".join(lines) + "\n"


def field_row(name: str, schema: dict[str, Any], is_needed: bool) -> str:
    about = schema.get("description", "") + (" **Needed.**" if is_needed else default_of(schema))
    return f"| `{name}` | {cell(kind(schema))} | {cell(about)} |"


def default_of(schema: dict[str, Any]) -> str:
    default = schema.get("default")
    return "" if default in (None, "", [], {}) else f" Default: `{json.dumps(default, ensure_ascii=False)}`."


def kind(schema: dict[str, Any]) -> str:
    """What a value is, in words, with links to the bodies that have names."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}]({SCHEMAS}#{anchor(name)})"
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(kind(one) for one in schema[several]))
    if "allOf" in schema:
        return " and ".join(kind(one) for one in schema["allOf"])
    if "const" in schema or "enum" in schema:
        return " or ".join(f"`{json.dumps(one)}`" for one in schema.get("enum", [schema.get("const")]))
    match schema.get("type"):
        case "array":
            return f"list of {kind(schema.get('items', {}))}"
        case "object" if isinstance(schema.get("additionalProperties"), dict):
            return f"object of {kind(schema['additionalProperties'])}"
        case "string" if "format" in schema:
            return f"string ({schema['format']})"
        case list() as types:
            return " or ".join(types)
        case None:
            return "anything"
        case found:
            return found + limits(schema)


def limits(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is not None and high is not None:
        return f", {low} to {high}"
    return f", at least {low}" if low is not None else f", at most {high}" if high is not None else ""


def example(content: dict[str, Any]) -> list[str]:
    """A folded block with the first example that there is."""
    found = content.get("examples") or ([content["example"]] if "example" in content else [])
    if not found:
        return []
    first = next(iter(found.values()))["value"] if isinstance(found, dict) else found[0]
    shown = json.dumps(first, indent=2, ensure_ascii=False).splitlines()
    return ["", '??? example "Example"', "", "    ```json", *(f"    {line}" for line in shown), "    ```"]


def resolved(document: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in value:
        return value
    found = document
    for name in value["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return found


def title(tag: str) -> str:
    return TITLES.get(tag, tag.capitalize())


def anchor(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def cell(words: str) -> str:
    """Fit for one cell of a table."""
    return " ".join(text(words).split()).replace("|", "\\|")


def text(words: str) -> str:
    """Markdown that shows <words> in angles instead of taking them for HTML."""
    return re.sub(r"<(?=[a-zA-Z/])", "&lt;", words)
