"""What tests ask of a report: its tags and attributes as a browser reads them, its exact figures, and that it asks nobody for anything."""

import re
from html.parser import HTMLParser

ADDRESSES = {"src", "href", "xlink:href", "action", "formaction", "srcset", "poster", "data", "background", "ping"}
ACTIVE = {"script", "link", "iframe", "frame", "object", "embed", "base", "form", "audio", "video", "a"}


class Read(HTMLParser):
    """A document: `tags` with their attributes, `text`, and the figures that it names."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.document = document
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.styles, self._text, self._open = "", list[str](), list[str]()
        self.feed(document)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            self.styles += data
        else:
            self._text.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self._text))

    @property
    def figures(self) -> dict[str, float]:
        return {at["data-figure"]: float(at["value"] or "nan") for tag, at in self.tags if tag == "data" and at.get("data-figure")}

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)

    def must_stand_alone(self) -> None:
        """Nothing is loaded, nothing runs, nothing leads away."""
        assert {tag for tag, _ in self.tags} & ACTIVE == set()
        for tag, attributes in self.tags:
            for name, value in attributes.items():
                assert not name.startswith("on"), f"<{tag} {name}>"
                assert name not in ADDRESSES or (value or "").startswith("data:image/"), f"<{tag} {name}={value!r}>"
                assert name != "style" or "url" not in (value or "")
        assert not re.search(r"url\(|@import|https?:", self.styles)
        policies = [at.get("content") for tag, at in self.tags if tag == "meta" and at.get("http-equiv") == "Content-Security-Policy"]
        assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
