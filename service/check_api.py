"""`python -m service.check_api --write | --check | --release`: docs/openapi.json is the interface as it is in the code, and keeps what the
last release promised (docs/openapi.released.json), unless the change log says under Unreleased, Breaking, which operation does not.

A release calls `--release` once its section of the change log is written: what was new becomes the promise.
"""

import argparse
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from service.http.compatibility import Break, breaks

ROOT = Path(__file__).resolve().parents[1]
PRESENT, RELEASED, CHANGES = ROOT / "docs/openapi.json", ROOT / "docs/openapi.released.json", ROOT / "CHANGELOG.md"


def written() -> str:
    """The document of an app with default settings."""
    from service.app import create_app
    from service.settings import Settings

    with tempfile.TemporaryDirectory() as home:
        return json.dumps(create_app(Settings(home=Path(home))).openapi(), indent=1, ensure_ascii=False) + "\n"


def admitted(changes: str) -> str:
    """What the change log says under Unreleased, Breaking."""
    unreleased = re.search(r"^## \[Unreleased\]$(.*?)(?=^## |\Z)", changes, re.M | re.S)
    section = re.search(r"^### Breaking$(.*?)(?=^### |\Z)", unreleased[1], re.M | re.S) if unreleased else None
    return section[1] if section else ""


def unsaid(found: list[Break], changes: str) -> list[Break]:
    """Those of `found` whose operation the change log does not name."""
    named = set(re.findall(r"\w+", admitted(changes)))
    return [one for one in found if one.operation not in named]


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m service.check_api")
    which = parser.add_mutually_exclusive_group(required=True)
    for option in ("--write", "--check", "--release"):
        which.add_argument(option, action="store_true")
    asked = parser.parse_args()
    if asked.write:
        PRESENT.write_text(written(), encoding="utf-8")
        return 0
    if not PRESENT.exists() or PRESENT.read_text(encoding="utf-8") != written():
        print(f"{PRESENT} is not the interface as it is in the code: run `make schema`", file=sys.stderr)
        return 1
    if asked.release:
        RELEASED.write_bytes(PRESENT.read_bytes())
        return 0
    broken = unsaid(breaks(read(RELEASED), read(PRESENT)), CHANGES.read_text(encoding="utf-8"))
    for one in broken:
        print(f"{PRESENT.name} breaks clients of the last release: {one}", file=sys.stderr)
    if broken:
        print(f"keep it as it was, or name the operation in {CHANGES.name} under Unreleased, `### Breaking`", file=sys.stderr)
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
