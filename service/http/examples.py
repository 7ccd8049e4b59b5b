"""One example for every body and answer of the interface, in `examples.json`, by the name of its schema.

They are records of a service at work. A test holds each against its schema, and finds the schemas that have none.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any


@cache
def examples() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("examples.json").read_text(encoding="utf-8"))
