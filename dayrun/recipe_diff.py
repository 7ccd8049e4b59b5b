"""What differs between two JSON documents, field by field, as a reader of recipes wants to see it. Pure; knows no schema."""

from typing import Any, TypedDict, cast

from dayrun.recipe_errors import pointer

Difference = TypedDict("Difference", {"pointer": str, "from": Any, "to": Any})
"""One place where the documents differ. A field that one of them lacks is null there."""

Path = tuple[str | int, ...]


def recipe_diff(before: Any, after: Any) -> list[Difference]:
    """Where `after` differs from `before`, in the order in which a reader of `before` meets it, then what is new.

    Objects are compared field by field, lists item by item: the smallest places that differ are named. 1 and 1.0 are the same number,
    1 and true are not the same value.
    """
    return differences(before, after, ())


def differences(before: Any, after: Any, at: Path) -> list[Difference]:
    if isinstance(before, dict) and isinstance(after, dict):
        left, right = cast("dict[str, Any]", before), cast("dict[str, Any]", after)
        return [one for key in {**left, **right} for one in differences(left.get(key), right.get(key), (*at, key))]
    if isinstance(before, list) and isinstance(after, list):
        these, those = cast("list[Any]", before), cast("list[Any]", after)
        longer = range(max(len(these), len(those)))
        return [one for i in longer for one in differences(item(these, i), item(those, i), (*at, i))]
    if isinstance(before, bool) == isinstance(after, bool) and before == after:
        return []
    return [{"pointer": pointer(*at), "from": before, "to": after}]


def item(items: list[Any], index: int) -> Any:
    return items[index] if index < len(items) else None
