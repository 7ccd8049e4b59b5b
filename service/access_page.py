"""`python -m service.access_page --write | --check`: the role table of docs/access.md, made from the code alone."""

import argparse
import sys
from pathlib import Path

from service.access import LOWEST_ROLE, Role

PAGE = Path(__file__).resolve().parents[1] / "docs" / "access.md"
BEGIN, END = "<!-- roles: made by `python -m service.access_page --write` -->", "<!-- end of roles -->"


def table() -> str:
    head = ["may", *(role.name.lower() for role in Role)]
    lines = [[str(action), *("yes" if role >= lowest else "" for role in Role)] for action, lowest in LOWEST_ROLE.items()]
    return "\n".join([BEGIN, *(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *lines)), END])


def wanted(text: str) -> str:
    """The page with the table as the code has it."""
    before, after = text[: text.index(BEGIN)], text[text.index(END) + len(END) :]
    return before + table() + after


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m service.access_page")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--write", action="store_true")
    which.add_argument("--check", action="store_true")
    writing = parser.parse_args().write
    text = PAGE.read_text(encoding="utf-8")
    if text == wanted(text):
        return 0
    if writing:
        PAGE.write_text(wanted(text), encoding="utf-8")
        return 0
    print(f"{PAGE} does not show the roles as they are in the code: run `python -m service.access_page --write`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
