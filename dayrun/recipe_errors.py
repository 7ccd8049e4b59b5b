"""What is wrong with a recipe, as values: the place, what stands there, why it cannot be, and the nearest that can.

Only the types and how they print. It knows neither the schema nor the rules; `rules.py` re-exports both names, import them from there.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

SECRETS = re.compile(r'(?<=://)[^/?#\s"]*@|(?<=\?)[^#\s"]+')
"""Where a URL holds what opens it: before the host, and in the query (signatures, tokens)."""
SHOWN = 120
"""Characters of a value that an error repeats: a reader has the document, and a hostile one must not come back multiplied."""


@dataclass(frozen=True)
class RecipeError:
    at: str
    """JSON pointer (RFC 6901) into the recipe; "" is the whole document."""
    value: object
    """What stands there; null where nothing does. Long values are cut to a string."""
    because: str
    """Why that cannot be, with the arithmetic that failed."""
    nearest: list[Any] = field(default_factory=list[Any])
    """Valid values near to it; for a field in the wrong place, pointers to the right ones (they begin with a slash)."""

    def __str__(self) -> str:
        value = "" if self.value is None else f"{as_text(self.value)}: "
        nearest = f"; nearest: {', '.join(as_text(value) for value in self.nearest)}" if self.nearest else ""
        return printable(f"{self.at or 'recipe'}: {value}{self.because}{nearest}")


class RecipeErrors(ValueError):
    """Everything that is wrong with one recipe, in the order in which a reader meets it."""

    def __init__(self, errors: Sequence[RecipeError]) -> None:
        self.errors = list(errors)
        super().__init__("\n".join(str(error) for error in self.errors))


def pointer(*steps: str | int) -> str:
    """The JSON pointer that walks `steps` from the root. A name longer than any of ours is cut, like a value."""
    return "".join(f"/{printable(cut(str(step))).replace('~', '~0').replace('/', '~1')}" for step in steps)


def steps_of(at: str) -> list[str]:
    """The steps of a JSON pointer: the inverse of `pointer`, with list positions as text."""
    return [step.replace("~1", "/").replace("~0", "~") for step in at.split("/")[1:]]


def as_text(value: object) -> str:
    """`value` as compact JSON on one line, cut where it grows long."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return cut(text)


def cut(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def shown(value: object) -> object:
    """`value` as an error may carry it: itself when it is small and can be JSON, else a text that stands for it."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, int):
        return value if abs(value) < 2**63 else f"an integer of {value.bit_length()} bits"
    if isinstance(value, str):
        return cut(printable(masked(value)))
    text = printable(masked(as_text(value)))
    harmless = len(text) < SHOWN and is_clean(text) and text == as_text(value)
    return value if isinstance(value, dict | list) and harmless else text  # pyright: ignore[reportUnknownVariableType]


def masked(text: str) -> str:
    """`text`; where it is a URL, without what opens it: an error is printed, logged and pasted into tickets."""
    return SECRETS.sub(lambda found: "***@" if found[0].endswith("@") else "***", text) if "://" in text else text


def is_clean(text: str) -> bool:
    return "\\ud" not in text and "NaN" not in text and "Infinity" not in text


def printable(text: str) -> str:
    """`text` without the lone surrogates that JSON allows and UTF-8 does not."""
    return text.encode("utf-8", "backslashreplace").decode()
