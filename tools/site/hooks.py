"""What `make docs` adds to the pages of docs/: the reference, made from code, and the files of the repository that pages link to.

MkDocs calls the functions `on_…` by their names. Everything is a function of the working tree: no network, no clock.
"""

import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from tools.site import client_page, openapi_pages

ROOT = Path(__file__).resolve().parents[2]
SOURCE = "source"
"""Where files from outside docs/ lie in the site."""
LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")
LANGUAGES = {".yaml": "yaml", ".yml": "yaml", ".py": "python", ".json": "json", ".sh": "bash", ".toml": "toml"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Entries of the navigation that end in * are every page of that folder: those that are made as they come, others by name."""
    known = [*made(), *sorted(path.relative_to(config.docs_dir).as_posix() for path in Path(config.docs_dir).rglob("*.md"))]
    config.nav = [expanded(entry, known) for entry in config.nav or []]
    return config


def expanded(entry: Any, known: list[str]) -> Any:
    if not isinstance(entry, dict):
        return entry
    ((title, below),) = entry.items()
    if not isinstance(below, list):
        return entry
    entries: list[Any] = []
    for one in below:
        if not (isinstance(one, str) and one.endswith("/*")):
            entries.append(expanded(one, known))
            continue
        found = [
            page for page in known if posixpath.dirname(page) == one[:-2] and posixpath.basename(page) not in ("README.md", "index.md")
        ]
        if not found:
            raise ValueError(f"mkdocs.yml: {one}: there is no page in docs/{one[:-2]}")
        entries += found
    return {title: entries}


def made() -> dict[str, str]:
    """Path → Markdown of every page that is made from code."""
    found = openapi_pages.pages(json.loads((ROOT / "docs/openapi.json").read_text()))
    sources = [(ROOT / "dayrun" / name).read_text() for name in ("client.py", "answers.py")]
    return found | {"reference/client.md": client_page.page(sources[0], sources[1])}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for path, content in made().items():
        files.append(File.generated(config, path, content=content))
    for path in sorted(linked(ROOT / "docs")):
        file = ROOT / path
        text = file.read_text()
        if file.suffix != ".md":
            text = f"# {path}\n\n````{LANGUAGES.get(file.suffix, '')}\n{text}````\n"
        files.append(File.generated(config, page_of(path), content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links that lead out of docs/ go to the copies."""
    own = posixpath.dirname(page.file.src_uri)
    folder = posixpath.normpath(posixpath.join("docs", own))
    if own == SOURCE or own.startswith(f"{SOURCE}/"):
        folder = own.removeprefix(SOURCE).strip("/")
    return LINK.sub(lambda match: redirected(match[1], folder, own or "."), markdown)


def redirected(link: str, folder: str, own: str) -> str:
    """link: as it stands in a page of the repository's `folder`. own: the page's folder in the site."""
    target, _, fragment = link.partition("#")
    if not target or ":" in target:
        return link
    path = posixpath.normpath(posixpath.join(folder, target))
    inside = path.removeprefix("docs/") if path.startswith("docs/") else page_of(path) if (ROOT / path).is_file() else None
    if inside is None:
        return link
    return posixpath.relpath(inside, own) + (f"#{fragment}" if fragment else "")


def linked(docs: Path) -> set[str]:
    """Files of the repository outside of docs/ that its pages link to, and those that these link to."""
    found: set[str] = set()
    waiting = list(docs.rglob("*.md"))
    while waiting:
        page = waiting.pop()
        for link in LINK.findall(page.read_text()):
            target = link.partition("#")[0]
            if not target or ":" in target:
                continue
            path = Path(posixpath.normpath((page.parent / target).as_posix()))
            if path.is_file() and path.is_relative_to(ROOT) and not path.is_relative_to(docs):
                name = path.relative_to(ROOT).as_posix()
                if name not in found:
                    found.add(name)
                    waiting += [path] if path.suffix == ".md" else []
    return found


def page_of(path: str) -> str:
    """Where the copy of a file lies in the site."""
    return f"{SOURCE}/{path}" if path.endswith(".md") else f"{SOURCE}/{path}.md"
