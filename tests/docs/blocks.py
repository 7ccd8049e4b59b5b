"""Fenced blocks of the docs: what a reader would type."""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
DOCS = ROOT / "docs"


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    heading: str
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """Every fenced block of a page, with the line that it begins at."""
    text = page.read_text()
    return [Block(page, text[: one.start()].count("\n") + 1, above(text[: one.start()]), one[1], one[2]) for one in FENCE.finditer(text)]


def above(text: str) -> str:
    """The last heading of `text`, outside of blocks."""
    return ["", *re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.M)][-1]


def shell_blocks(page: Path) -> list[Block]:
    return [block for block in blocks_of(page) if block.language in ("sh", "bash")]
