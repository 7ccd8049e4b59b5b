"""HTML from Python values: whatever is not markup already is escaped, so that a prompt or a name can never become a tag. Knows no run."""

import html
from collections.abc import Iterable
from typing import TypeAlias

EMPTY = frozenset({"br", "img", "meta", "line", "path", "polyline", "rect"})
"""Elements without content."""


class Markup(str):
    """Text that is HTML already. Only `el` and `raw` make it."""

    __slots__ = ()


Child: TypeAlias = "Markup | str | int | float | Iterable[Child] | None"
"""None is nothing; text is escaped; a list is its items one after the other."""


def el(name: str, /, *children: Child, **attributes: str | float | bool | None) -> Markup:
    """`<name attribute="…">children</name>`. An attribute that is None or False is left out, one that is True has no value; `class_` is
    `class`, and underscores become hyphens."""
    written = "".join(attribute(key, value) for key, value in attributes.items() if value is not None and value is not False)
    if name in EMPTY:
        return Markup(f"<{name}{written}>" if name in ("br", "img", "meta") else f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{inside(children)}</{name}>")


def raw(text: str) -> Markup:
    """Text of ours that is markup as it stands: a style sheet. Never a text that came from elsewhere."""
    return Markup(text)


def inside(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, str | int | float):
        return html.escape(str(child), quote=False)
    return "".join(map(inside, child))


def attribute(key: str, value: str | float | bool) -> str:
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(str(value))}"'
