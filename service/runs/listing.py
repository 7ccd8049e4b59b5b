"""Lists of runs: what they can be filtered by, and the one query. A list never reads a recipe that it does not filter by."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar, cast

from sqlalchemy import JSON, ColumnElement, Select, Text, column, exists, func, select
from sqlalchemy import cast as as_type
from sqlalchemy.ext.asyncio import AsyncSession

from dayrun.recipe_errors import steps_of
from service.http.problem import ErrorDetail, Problem
from service.runs.states import State
from service.runs.tables import RunRow

SUMMARY = (
    "id",
    "project_id",
    "name",
    "labels",
    "state",
    "cause",
    "attempt",
    "created_at",
    "started_at",
    "ended_at",
    "version",
    "priority",
    "waiting",
    "step",
    "total_steps",
    "stage",
    "loss",
    "images_per_second",
    "step_seconds",
    "accelerator_seconds",
    "holding_since",
    "world_size",
    "dollars_per_accelerator_hour",
    "parent_run_id",
    "parent_step",
    "parent_weights",
)
"""Columns that a run in a list is told from."""
Q = TypeVar("Q", bound="Select[*tuple[Any, ...]]")
POINTER = re.compile(r"(/[A-Za-z0-9_.-]{1,60}){1,12}")
MOST_CONDITIONS = 10


@dataclass(frozen=True)
class Condition:
    """A field of the recipe that must have a value; `texts`: how JSON may spell it."""

    steps: list[str]
    texts: list[str]


@dataclass(frozen=True)
class RunFilter:
    """Which runs: everything that is given must hold."""

    states: Sequence[State] = ()
    project: str | None = None
    name: str | None = None
    labels: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    recipe: list[Condition] = field(default_factory=list[Condition])
    created_after: datetime | None = None
    created_before: datetime | None = None
    parent: str | None = None
    search: str | None = None


def labels_of(given: Sequence[str]) -> list[tuple[str, str]]:
    """`KEY=VALUE` as pairs. Raises Problem 422."""
    return [split(one, "query label", "a label is KEY=VALUE, e.g. team=vision") for one in refuse_many(given, "query label")]


def conditions_of(given: Sequence[str]) -> list[Condition]:
    """`/POINTER=JSON` as conditions. Raises Problem 422."""
    found: list[Condition] = []
    for one in refuse_many(given, "query recipe"):
        place = "query recipe"
        at, text = split(one, place, 'write a JSON pointer, = and a value, e.g. /optimizer/kind="muon" or /seed=7')
        if not POINTER.fullmatch(at):
            raise invalid(place, one, f"{at[:60]!r} is no JSON pointer of a recipe's field, like /optimizer/kind or /stages/0/pixels")
        found.append(Condition(steps_of(at), spellings(text, one)))
    return found


def spellings(text: str, given: str) -> list[str]:
    """How JSON may spell the value that a person wrote; what is not JSON is meant as a string."""
    try:
        value: Any = json.loads(text, parse_constant=lambda name: name)
    except (ValueError, RecursionError):
        value = text
    if isinstance(value, dict | list):
        raise invalid("query recipe", given, "a filter compares one value: text, number, true, false or null")
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return [json.dumps(value, ensure_ascii=False)]
    number = cast("int | float", value)
    same = {json.dumps(number)}
    if isinstance(number, float) and number.is_integer() and abs(number) < 2**53:
        same.add(str(int(number)))
    if isinstance(number, int) and abs(number) < 2**53:
        same.add(json.dumps(float(number)))
    return sorted(same)


def split(given: str, place: str, because: str) -> tuple[str, str]:
    name, equals, value = given.partition("=")
    if not name or not equals or any(ord(character) < 32 or 0xD800 <= ord(character) < 0xE000 for character in given):
        raise invalid(place, given, because)
    return name, value


def refuse_many(given: Sequence[str], place: str) -> Sequence[str]:
    if len(given) > MOST_CONDITIONS:
        raise invalid(place, f"{len(given)} times", f"at most {MOST_CONDITIONS} in one request")
    return given


def invalid(place: str, given: str, because: str) -> Problem:
    value = given[:100].encode("utf-8", "backslashreplace").decode()
    detail = ErrorDetail(pointer=place, value=value, because=because)
    return Problem(422, f"{place} {value!r}: {because}", kind="invalid-request", errors=[detail])


async def summaries(session: AsyncSession, chosen: RunFilter, before: str | None, limit: int, projects: list[str] | None) -> Sequence[Any]:
    """Columns of `SUMMARY` of runs of `projects` (None: of all), newest first, with ids below `before`: ids sort by time."""
    columns: list[Any] = [getattr(RunRow, name) for name in SUMMARY]
    query = select(*columns).order_by(RunRow.id.desc()).limit(limit)
    return (await session.execute(narrowed(query, session, chosen, before, projects))).all()


async def ids(session: AsyncSession, chosen: RunFilter, limit: int, projects: list[str] | None) -> list[str]:
    """Ids of the oldest runs that match, to change them: in one order, so that two who do so never wait for each other."""
    query = narrowed(select(RunRow.id).order_by(RunRow.id).limit(limit), session, chosen, None, projects)
    return list((await session.scalars(query)).all())


def narrowed(query: Q, session: AsyncSession, chosen: RunFilter, before: str | None, projects: list[str] | None) -> Q:
    postgres = session.get_bind().dialect.name == "postgresql"
    wanted: list[ColumnElement[bool]] = []
    if before:
        wanted.append(RunRow.id < before)
    if chosen.states:
        wanted.append(RunRow.state.in_(chosen.states))
    if projects is not None:
        wanted.append(RunRow.project_id.in_(projects))
    if chosen.project is not None:
        wanted.append(RunRow.project_id == chosen.project)
    if chosen.name is not None:
        wanted.append(RunRow.name == chosen.name)
    if chosen.search is not None:
        wanted.append(RunRow.name.icontains(chosen.search, autoescape=True) | RunRow.id.contains(chosen.search, autoescape=True))
    if chosen.parent is not None:
        wanted.append(RunRow.parent_run_id == chosen.parent)
    if chosen.created_after is not None:
        wanted.append(RunRow.created_at > chosen.created_after)
    if chosen.created_before is not None:
        wanted.append(RunRow.created_at < chosen.created_before)
    wanted += [has_label(key, value, postgres) for key, value in chosen.labels]
    wanted += [has_value(condition, postgres) for condition in chosen.recipe]
    return query.where(*wanted)


def has_label(key: str, value: str, postgres: bool) -> ColumnElement[bool]:
    labels = as_type(RunRow.labels, Text)
    if postgres:
        return field_of(labels, [key]).in_(without_nul([json.dumps(value, ensure_ascii=False)]))
    each = func.json_each(labels).table_valued("key", "value")
    return exists().select_from(each).where(column("key") == key, column("value") == value)


def has_value(condition: Condition, postgres: bool) -> ColumnElement[bool]:
    """The field as JSON spells it, compared as text: the same on every database, and `1` is not `"1"`."""
    recipe = as_type(RunRow.recipe, Text)
    if postgres:
        return field_of(recipe, condition.steps).in_(without_nul(condition.texts))
    path = "$" + "".join(f"[{step}]" if step.isdigit() else f'."{step}"' for step in condition.steps)
    return recipe.op("->")(path).in_(condition.texts)


NUL, NO_NUL = "\\u0000", "\\ufffd"
"""Postgres reads no JSON in which a NUL is escaped, wherever it stands: for it, another character stands there."""


def field_of(document: ColumnElement[str], steps: list[str]) -> ColumnElement[str]:
    """The text of a field, on Postgres."""
    return as_type(func.json_extract_path(as_type(func.replace(document, NUL, NO_NUL), JSON), *steps), Text)


def without_nul(texts: list[str]) -> list[str]:
    return [text.replace(NUL, NO_NUL) for text in texts]
