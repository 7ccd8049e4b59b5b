"""Contact sheets: pictures of a run on one page, as people want to see them. Pillow only; knows no run and no service."""

import io
from dataclasses import dataclass, field

from PIL import Image, ImageDraw, ImageFont

PAPER, INK, GREY, BOX = (255, 255, 255), (24, 24, 27), (113, 113, 122), (244, 244, 245)
MARGIN, GAP, TEXT, TITLE = 28, 8, 15, 22


@dataclass
class Row:
    """One prompt, and its pictures by column."""

    prompt: str
    pictures: dict[str, Image.Image] = field(default_factory=dict[str, Image.Image])


def read(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png)).convert("RGB")


def progress_sheet(title: str, rows: list[Row], columns: list[str], cell: int = 112) -> Image.Image:
    """Prompts from top to bottom, columns (steps) from left to right; a picture that is missing leaves an empty box."""
    label_width = min(300, max((round(width_of(row.prompt)) for row in rows), default=0)) + 12
    width = MARGIN * 2 + label_width + len(columns) * (cell + GAP)
    width = max(width, MARGIN * 2 + round(width_of(title, TITLE)))
    top = MARGIN + TITLE * 2 + TEXT + GAP
    page = Image.new("RGB", (width, top + len(rows) * (cell + GAP) + MARGIN), PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((MARGIN, MARGIN), title, INK, font(TITLE))
    for column, name in enumerate(columns):
        x = MARGIN + label_width + column * (cell + GAP)
        draw.text((x + cell / 2, top - GAP), name, GREY, font(TEXT), anchor="ms")
    for number, row in enumerate(rows):
        y = top + number * (cell + GAP)
        lines = wrapped(row.prompt, label_width - 12)
        for i, line in enumerate(lines):
            draw.text((MARGIN, y + cell / 2 + (i - (len(lines) - 1) / 2) * TEXT * 1.3), line, INK, font(TEXT), anchor="lm")
        for column, name in enumerate(columns):
            put(page, row.pictures.get(name), (MARGIN + label_width + column * (cell + GAP), y), cell)
    return page


def gallery(title: str, pictures: list[tuple[str, Image.Image]], columns: int = 8, cell: int = 128) -> Image.Image:
    """A grid of pictures, each above its prompt."""
    label = max((len(wrapped(prompt, cell)) for prompt, _ in pictures), default=1)
    height = cell + round(label * (TEXT - 3) * 1.3) + 2 * GAP
    rows = -(-len(pictures) // columns)
    width = max(MARGIN * 2 + columns * (cell + GAP) - GAP, MARGIN * 2 + round(width_of(title, TITLE)))
    page = Image.new("RGB", (width, MARGIN * 2 + TITLE * 2 + rows * height), PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((MARGIN, MARGIN), title, INK, font(TITLE))
    for number, (prompt, picture) in enumerate(pictures):
        x, y = MARGIN + number % columns * (cell + GAP), MARGIN + TITLE * 2 + number // columns * height
        put(page, picture, (x, y), cell)
        for i, line in enumerate(wrapped(prompt, cell, TEXT - 3)):
            draw.text((x, y + cell + GAP / 2 + i * (TEXT - 3) * 1.3), line, GREY, font(TEXT - 3))
    return page


def put(page: Image.Image, picture: Image.Image | None, place: tuple[int, int], cell: int) -> None:
    if picture is None:
        ImageDraw.Draw(page).rectangle((*place, place[0] + cell - 1, place[1] + cell - 1), BOX)
        return
    scale = cell / max(picture.size)
    page.paste(picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC), place)


def font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def width_of(text: str, size: int = TEXT) -> float:
    return font(size).getlength(text)


def wrapped(text: str, width: float, size: int = TEXT, most: int = 4) -> list[str]:
    """`text` in lines of at most `width` pixels; what does not fit into `most` lines ends in an ellipsis."""
    lines, words = [""], text.split()
    for word in words:
        longer = f"{lines[-1]} {word}".strip()
        if width_of(longer, size) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > most:
        lines = [*lines[: most - 1], lines[most - 1] + " …"]
    for i, line in enumerate(lines):
        while width_of(line, size) > width and len(line) > 2:
            line = line.rstrip("…")[:-1] + "…"
        lines[i] = line
    return lines
