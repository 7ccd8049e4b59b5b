"""From bytes to a recipe, or to a list of everything that keeps them from being one.

First the document is read as JSON within fixed bounds (size, depth, size of numbers), then pydantic holds it against the schema of
`recipe.py`, and what pydantic says is put into the words of `RecipeError`. It knows no arithmetic between fields: that is `rules.py`.
"""

import copy
import difflib
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, cast, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined

from dayrun.recipe import Part, Recipe
from dayrun.recipe_errors import SHOWN, RecipeError, pointer, shown

MAX_BYTES = 8 * 2**20
"""A recipe with 10,000 long prompts stays below; a body that would cost the service its memory does not."""
MAX_DEPTH = 32
"""The schema itself is 5 deep; recursion in any reader must stay far from Python's own limit."""
MAX_ERRORS = 100

Location = tuple[int | str, ...]
SECRET_NAME = re.compile(r"secret|passw|credential|token$|api_?key|access_?key", re.IGNORECASE)
NOT_TWICE: tuple[dict[str, Any], list[str]] = ({}, [])


@dataclass
class Parsed:
    """A document held against the schema. `recipe` is what could be read, with defaults in place of the `spoiled` sections."""

    recipe: Recipe | None
    errors: list[RecipeError] = field(default_factory=list[RecipeError])
    spoiled: set[str] = field(default_factory=set[str])
    """Top-level fields of which something could not be read: nothing may be concluded from them."""


def parse(document: object) -> Parsed:
    """Hold `document` (a dict as `json.loads` gives it, or JSON as str or bytes) against the schema."""
    twice: dict[int, tuple[dict[str, Any], list[str]]] = {}
    if isinstance(document, str | bytes | bytearray):
        try:
            document = read_json(document, twice)
        except NotJson as error:
            return Parsed(None, [RecipeError("", None, str(error))])
    found, fatal = outside_json(document, twice)
    if fatal:
        return Parsed(None, found)
    if not isinstance(document, dict):
        return Parsed(None, [RecipeError("", shown(document), f"a recipe is a JSON object, this is {kind_of(document)}")])
    fields = cast("dict[str, Any]", document)
    already = {error.at for error in found}
    try:
        recipe, faults = Recipe.model_validate(fields), []
    except ValidationError as error:
        recipe, faults = None, error.errors(include_url=False, include_context=True)
    told = faults[: MAX_ERRORS + 1]  # nobody is shown more, and to word each takes time
    errors = found + [said for fault in told if (said := in_our_words(fault, fields)).at not in already]
    spoiled = {str(fault["loc"][0]) for fault in faults if fault["type"] != "extra_forbidden"} | {at.split("/")[1] for at in already}
    return Parsed(recipe or salvage(fields, faults, spoiled), errors, spoiled)


class NotJson(ValueError):
    """The document cannot be read as JSON at all; the message says where it breaks."""


def read_json(document: str | bytes | bytearray, twice: dict[int, tuple[dict[str, Any], list[str]]]) -> object:
    """The JSON value of `document`; objects that name a field more than once are left in `twice`, by identity."""
    if len(document) > MAX_BYTES:
        raise NotJson(f"{len(document):,} bytes are more than a recipe may have ({MAX_BYTES:,})")

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        collected = dict(pairs)
        if len(collected) < len(pairs):
            names = [name for name, _ in pairs]
            twice[id(collected)] = (collected, sorted({name for name in names if names.count(name) > 1}))
        return collected

    def refuse(constant: str) -> object:
        raise NotJson(f"not JSON: {constant} is not a JSON number")

    try:
        text = document if isinstance(document, str) else bytes(document).decode("utf-8-sig")
        return json.loads(text, object_pairs_hook=collect, parse_constant=refuse)
    except UnicodeDecodeError as error:
        raise NotJson(f"not JSON: byte {error.start} is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise NotJson(f"not JSON: line {error.lineno}, column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise NotJson(f"nested deeper than {MAX_DEPTH} levels") from error
    except NotJson:
        raise
    except ValueError as error:  # Python refuses to read integers of thousands of digits
        raise NotJson("not JSON that can be read: it holds an integer of thousands of digits") from error


def outside_json(document: object, twice: dict[int, tuple[dict[str, Any], list[str]]]) -> tuple[list[RecipeError], bool]:
    """What the document holds that no recipe may, whatever the field; and whether it is such that nothing else can be said.

    Without recursion: this is what makes recursion safe for everyone after it.
    """
    if not twice and is_plain(document):
        return [], False
    errors: list[RecipeError] = []
    todo: list[tuple[Location, object]] = [((), document)]
    while todo:
        at, value = todo.pop()
        if len(at) > MAX_DEPTH:
            return [RecipeError(pointer(*at[:3]), None, f"nested deeper than {MAX_DEPTH} levels")], True
        if isinstance(value, dict):
            fields = cast("dict[Any, object]", value)
            if not all(map(is_string, fields)):
                return [RecipeError(pointer(*at), shown(value), "the names of fields are strings")], True  # pyright: ignore[reportUnknownArgumentType]
            errors += [
                RecipeError(pointer(*at, name), shown(fields[name]), "the field is given twice; only one can count")
                for name in twice.get(id(fields), NOT_TWICE)[1]
            ]
            todo += [((*at, name), inner) for name, inner in fields.items()]
        elif isinstance(value, list):
            todo += [((*at, i), inner) for i, inner in enumerate(cast("list[object]", value))]
        elif isinstance(value, float) and not math.isfinite(value):
            errors.append(RecipeError(pointer(*at), shown(value), "not a finite number"))
        elif isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**63:
            errors.append(RecipeError(pointer(*at), shown(value), "beyond 64 bits", [2**63 - 1 if value > 0 else 1 - 2**63]))
        elif not isinstance(value, str | int | float | NoneType):
            return [RecipeError(pointer(*at), shown(value), f"{type(value).__name__} is not a JSON value")], True
    return [error for error in errors if error.at], False


def is_plain(document: object) -> bool:
    """Whether a walk that tells no places finds nothing: almost every document is such, and each submission takes the time of this."""
    level: list[object] = [document]
    for _ in range(MAX_DEPTH + 1):
        following: list[object] = []
        for value in level:
            kind = type(value)
            if kind is dict:
                fields = cast("dict[Any, object]", value)
                if not all(map(is_string, fields)):
                    return False
                following += fields.values()
            elif kind is list:
                following += cast("list[object]", value)
            elif kind is float:
                if not math.isfinite(cast("float", value)):
                    return False
            elif kind is int:
                if abs(cast("int", value)) >= 2**63:
                    return False
            elif kind is not str and kind is not bool and value is not None:
                return False
        level = following
    return not level


def salvage(document: dict[str, Any], faults: list[ErrorDetails], spoiled: set[str]) -> Recipe | None:
    """The recipe as far as it could be read, so that the rules can speak in the same answer; None where too little is left."""
    kept = copy.deepcopy(document)
    for fault in faults:
        if fault["type"] == "extra_forbidden":
            *path, name = fault["loc"]
            holder: Any = kept
            for step in path:
                holder = holder[step]
            holder.pop(name, None)
    for section in spoiled:
        kept.pop(section, None)
    stand_in = {"name": "unreadable", "data": {"sources": [{"url": "unreadable"}]}}
    stage = {"name": "unreadable", "pixels": 32, "steps": 1, "batch_size": 1}
    try:
        return Recipe.model_validate({**stand_in, "stages": [stage], **kept})
    except ValidationError:
        return None


def in_our_words(fault: ErrorDetails, document: object, prefix: Location = ()) -> RecipeError:
    """What pydantic says about `document`, as a RecipeError; `prefix` is where the document lies in the recipe."""
    loc, kind, value = fault["loc"], fault["type"], fault["input"]
    at, ctx = pointer(*prefix, *loc), fault.get("ctx", {})
    about = field_at(loc)
    default: list[Any] = [] if about is None or default_of(about) is None else [default_of(about)]
    if kind == "extra_forbidden":
        return unknown_field(at, loc, value, fields_given(document, loc[:-1]))
    if kind == "missing":
        said = f" ({about.description.rstrip('.')})" if about is not None and about.description else ""
        return RecipeError(at, None, f"required, and not given{said}")
    if value is None:
        return RecipeError(at, None, "null is not a value here; leave the field out to get its default", default)
    because, nearest = fault["msg"][0].lower() + fault["msg"][1:], default
    match kind:
        case "literal_error":
            choices = choices_of(about) if about is not None else []
            close = difflib.get_close_matches(str(value)[:SHOWN], [str(choice) for choice in choices], cutoff=0.5)
            because = (
                f"must be one of {', '.join(json.dumps(choice) for choice in choices)}" if len(choices) > 1 else f"must be {choices[0]}"
            )
            nearest = close or choices
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            sign, bound = (
                {"greater_than": ">", "greater_than_equal": "≥", "less_than": "<", "less_than_equal": "≤"}[kind],
                next(iter(ctx.values())),
            )
            because = f"must be {sign} {bound:g}" if isinstance(bound, float) else f"must be {sign} {bound}"
            nearest = nearest_in_range(kind, bound, isinstance(value, int), default)
        case "int_type" | "int_from_float":
            because, nearest = f"must be an integer, this is {kind_of(value)}", as_integer(value) or default
        case "float_type":
            because, nearest = f"must be a number, this is {kind_of(value)}", as_number(value) or default
        case "bool_type":
            because = f"must be true or false, this is {kind_of(value)}"
            nearest = {"0": [False], "1": [True], "false": [False], "true": [True]}.get(str(value).lower(), default)
        case "string_type":
            because = f"must be a string, this is {kind_of(value)}"
        case "list_type":
            because = f"must be a list, this is {kind_of(value)}"
        case "dict_type" | "model_type" | "model_attributes_type":
            because, nearest = f"must be an object, this is {kind_of(value)}", []
        case "string_too_short":
            because = "must not be empty" if ctx["min_length"] == 1 else f"must have at least {ctx['min_length']} characters"
        case "string_too_long":
            because = f"must have at most {ctx['max_length']} characters, this has {len(value)}"
            nearest = [value[: ctx["max_length"]]] if ctx["max_length"] <= 100 else []
        case "too_short":
            because = "must not be empty" if ctx["min_length"] == 1 else f"must have {ctx['min_length']} entries, this has {len(value)}"
        case "too_long":
            because = f"must have at most {ctx['max_length']} entries, this has {len(value)}"
        case "string_pattern_mismatch":
            because = "must be lower-case letters, digits, '.', '_' and '-', a letter or digit first"
            name = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in value.lower()).strip("._-")
            nearest = [name[:100]] if name else []
        case "string_unicode":
            because, nearest = "holds a character that UTF-8 cannot carry (a lone surrogate)", []
        case _:
            pass
    return RecipeError(at, shown(value), because, [shown(near) for near in nearest])


def unknown_field(at: str, loc: Location, value: object, given: set[str]) -> RecipeError:
    """An unknown field: a misspelt neighbour, or one that lives elsewhere."""
    name, here = str(loc[-1])[:SHOWN], fields_of(loc[:-1])  # finding what is alike takes the square of the length
    value = "***" if SECRET_NAME.search(name) else value  # somebody tried to put it here; it must not go into a log as well
    where = pointer(*loc[:-1]) or "a recipe"
    close = difflib.get_close_matches(name, [field for field in here if field not in given], cutoff=0.6)
    elsewhere = [place for place in places() if place.rsplit("/", 1)[1] == name]
    if elsewhere and not (close and difflib.SequenceMatcher(None, name, close[0]).ratio() > 0.8):
        return RecipeError(at, shown(value), f"{where} has no such field; it lives elsewhere", [*elsewhere[:3]])
    if not close and (alike := difflib.get_close_matches(name, [p.rsplit("/", 1)[1] for p in places()], n=1, cutoff=0.8)):
        return RecipeError(at, shown(value), f"{where} has no such field", [p for p in places() if p.rsplit("/", 1)[1] == alike[0]][:3])
    return RecipeError(at, shown(value), f"{where} has no such field" + ("" if close else f"; it has {', '.join(here)}"), [*close])


def fields_given(document: object, loc: Location) -> set[str]:
    """Names already used in the object at `loc`: no use in proposing them again."""
    holder: Any = document
    for step in loc:
        try:
            holder = holder[step]
        except (KeyError, IndexError, TypeError):
            return set()
    return set(cast("dict[str, Any]", holder)) if isinstance(holder, dict) else set()


def nearest_in_range(kind: str, bound: float, integer: bool, default: list[Any]) -> list[Any]:
    """The value at the bound where there is one; an open bound of a real number has none, so the default is shown."""
    if kind in ("greater_than_equal", "less_than_equal"):
        return [bound]
    if integer and isinstance(bound, int) and not any(isinstance(value, float) for value in default):
        return [bound + 1 if kind == "greater_than" else bound - 1]
    return default


def as_number(value: object) -> list[Any]:
    """The number that a string spells, if it spells one."""
    try:
        number = float(value) if isinstance(value, str) and len(value) < 40 else math.nan
    except ValueError:
        return []
    return [number] if math.isfinite(number) else []


def as_integer(value: object) -> list[Any]:
    """The integers next to a number or to what a string spells."""
    number = value if isinstance(value, float) else next(iter(as_number(value)), None)
    if number is None or not math.isfinite(number) or abs(number) >= 2**53:
        return []
    return sorted({math.floor(number), math.ceil(number)})


def kind_of(value: object) -> str:
    names: dict[type[Any], str] = {
        dict: "an object",
        list: "a list",
        str: "a string",
        bool: "true or false",
        int: "an integer",
        float: "a number",
        NoneType: "null",
    }
    return names.get(type(value), type(value).__name__)


# ---- the schema, as something to walk ------------------------------------------------------------------------------------------------


def part_in(annotation: Any) -> type[Part] | None:
    """The part that a field's type holds, through null, lists and Annotated; None for a plain value."""
    if get_origin(annotation) in (Annotated, list, Union, UnionType):
        return next((part for inner in get_args(annotation) if (part := part_in(inner)) is not None), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, Part) else None


def field_at(loc: Location) -> FieldInfo | None:
    """The field that `loc` leads to; None for an entry of a list or where the schema has nothing."""
    part: type[Part] | None = Recipe
    found: FieldInfo | None = None
    for step in loc:
        if isinstance(step, int):
            found = None
        elif part is None or (found := part.model_fields.get(step)) is None:
            return None
        else:
            part = part_in(found.annotation)
    return found


def fields_of(loc: Location) -> list[str]:
    """Names of the fields of the object at `loc`."""
    holder = field_at(tuple(step for step in loc if isinstance(step, str)))
    part = Recipe if not loc else part_in(holder.annotation) if holder is not None else None
    return list(part.model_fields) if part is not None else []


def default_of(about: FieldInfo) -> Any:
    """A field's default as JSON, or None where it has none worth naming."""
    default: Any = None if about.default is PydanticUndefined else about.default
    return default if isinstance(default, bool | int | float | str) else [*cast("list[Any]", default)] if plain_list(default) else None


def plain_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, int | float | str) for entry in cast("list[Any]", value))


def choices_of(about: FieldInfo) -> list[Any]:
    """The values that a Literal allows."""

    def literals(annotation: Any) -> Iterator[Any]:
        for inner in get_args(annotation):
            if isinstance(inner, str | int) and not isinstance(inner, bool):
                yield inner
            else:
                yield from literals(inner)

    return list(literals(about.annotation))


@cache
def places() -> tuple[str, ...]:
    """Pointers to every field of the schema, the shallow ones first; a list is shown by its first entry."""

    def walk(part: type[Part], at: str) -> Iterator[str]:
        for name, about in part.model_fields.items():
            yield f"{at}/{name}"
            if (inner := part_in(about.annotation)) is not None:
                yield from walk(inner, f"{at}/{name}/0" if is_list(about.annotation) else f"{at}/{name}")

    return tuple(sorted(walk(Recipe, ""), key=lambda place: place.count("/")))


def is_list(annotation: Any) -> bool:
    return get_origin(annotation) is list or (get_origin(annotation) is Annotated and is_list(get_args(annotation)[0]))


def is_string(value: object) -> bool:
    return isinstance(value, str)
