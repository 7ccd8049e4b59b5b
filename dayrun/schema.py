"""`python -m dayrun.schema --write | --check`: what docs/ shows of the code, made from the code alone.

The recipe's JSON Schema, its table of fields, and the worked example of the estimate.
"""

import argparse
import io
import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from dayrun import builtin
from dayrun.plan import Plan, plan
from dayrun.recipe import Recipe
from dayrun.rules import load

DOCS = Path(__file__).resolve().parents[1] / "docs"
BEGIN, END = "<!-- fields: made by `make schema` -->", "<!-- end of fields -->"
PLAN_BEGIN, PLAN_END = "<!-- plan: made by `make schema` -->", "<!-- end of plan -->"


def schema() -> str:
    """JSON Schema 2020-12 of a recipe. What it cannot say, the arithmetic between fields, `dayrun recipe check` says."""
    document = Recipe.model_json_schema()
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **document}, indent=1, ensure_ascii=False) + "\n"


def kind_of(annotation: Any) -> str:
    """A type in a word or two."""
    arguments = [argument for argument in get_args(annotation) if argument is not type(None)]
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(kind_of(a) for a in arguments) + " or null"
    if origin is Literal:
        return " or ".join(f"`{json.dumps(a)}`" for a in arguments)
    if origin is list:
        return f"list of {kind_of(arguments[0])}"
    if origin is dict:
        return "object"
    if hasattr(annotation, "__metadata__"):
        return kind_of(arguments[0])
    names = {int: "integer", float: "number", str: "string", bool: "boolean"}
    return names.get(annotation, "object")


def part_in(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The section inside a type, and whether it is one of a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    for argument in get_args(annotation):
        found, _ = part_in(argument)
        if found is not None:
            return found, get_origin(annotation) is list
    return None, False


def rows(part: type[BaseModel], at: str) -> Iterator[str]:
    for name, field in part.model_fields.items():
        place = f"{at}/{name}"
        inner, listed = part_in(field.annotation)
        default = "required" if field.is_required() else f"`{shown(field.default)}`"
        about = field.description or ((inner.__doc__ or "").strip().splitlines() or [""])[0] if inner else field.description or ""
        # a section with defaults of its own is told by its fields
        if inner is None or field.annotation is not inner:
            said = about.replace("|", "\\|")
            yield f"| `{place}` | {kind_of(field.annotation).replace('|', '/')} | {default} | {said} |"
        if inner is not None:
            yield from rows(inner, f"{place}/0" if listed else place)


def shown(default: Any) -> str:
    if isinstance(default, BaseModel):
        return "{}"
    if isinstance(default, list) and any(isinstance(item, BaseModel) for item in default):  # pyright: ignore[reportUnknownVariableType]
        return "[{}]"
    return json.dumps(default, ensure_ascii=False)


def table() -> str:
    return "\n".join([BEGIN, "| field | type | default | meaning |", "| --- | --- | --- | --- |", *rows(Recipe, ""), END])


def worked_example() -> str:
    """What `dayrun plan prx-24h` prints, without what this trainer cannot do yet: that changes with the trainer, not with the estimate."""
    from rich.console import Console

    from dayrun.plan_table import show

    found = plan(load(builtin.get("prx-24h"), for_training=False))
    page = io.StringIO()
    verdicts = [verdict for verdict in found.verdicts if verdict.about != "trainer"]
    show(Console(file=page, width=120), Plan(estimate=found.estimate, verdicts=verdicts))
    lines = "\n".join(line.rstrip() for line in page.getvalue().splitlines())
    return f"{PLAN_BEGIN}\n```console\n$ dayrun plan prx-24h\n{lines}\n```\n{PLAN_END}"


def wanted() -> dict[Path, str]:
    """What the files in docs/ should hold."""
    recipes, estimate = DOCS / "recipes.md", DOCS / "estimate.md"
    return {
        DOCS / "recipe.schema.json": schema(),
        recipes: replaced(recipes, BEGIN, table(), END),
        estimate: replaced(estimate, PLAN_BEGIN, worked_example(), PLAN_END),
    }


def replaced(page: Path, begin: str, by: str, end: str) -> str:
    """The page with what stands between two marks replaced."""
    text = page.read_text(encoding="utf-8")
    return text[: text.index(begin)] + by + text[text.index(end) + len(end) :]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m dayrun.schema")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--write", action="store_true")
    which.add_argument("--check", action="store_true")
    writing = parser.parse_args().write
    stale = [path for path, text in wanted().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        if writing:
            path.write_text(wanted()[path], encoding="utf-8")
        else:
            print(f"{path} does not show what is in the code: run `make schema`", file=sys.stderr)
    return 0 if writing else bool(stale)


if __name__ == "__main__":
    sys.exit(main())
