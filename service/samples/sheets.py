"""Contact sheets as answers: which pictures, how many at most, drawn by `dayrun.sheet`. Reads files; call it in a thread."""

import io
from urllib.parse import unquote

from dayrun.sheet import Row, progress_sheet, read
from service.http.problem import ErrorDetail, Problem
from service.samples.reading import picture
from service.samples.schemas import Comparison, Sample

MOST_PICTURES = 400
"""On one sheet: about a second of work, and a page that can still be looked at."""


def refuse_too_many(count: int, steps: list[int]) -> None:
    """Raises Problem 422 that names steps whose pictures fit on a sheet."""
    if count <= MOST_PICTURES:
        return
    each = max(1, -(-count // max(1, len(steps))))
    fitting = MOST_PICTURES // each
    stride = -(-len(steps) // fitting) if fitting else 0
    some = steps[(len(steps) - 1) % stride :: stride] if stride else []
    because = f"{count:,} pictures are too many for one sheet, {MOST_PICTURES} is the most: name fewer steps, or one set"
    detail = ErrorDetail(pointer="query steps", because=because, nearest=[",".join(map(str, some))] if some else [])
    raise Problem(422, because, kind="too-many-pictures", errors=[detail])


def sheet_of_run(url: str, title: str, samples: list[Sample], cell: int) -> bytes:
    """Prompts from top to bottom, steps from left to right (PNG)."""
    rows: dict[tuple[str, int], Row] = {}
    for one in samples:
        row = rows.setdefault((one.prompt, one.seed), Row(one.prompt))
        row.pictures[str(one.step)] = read(picture(url, one.step, file_of(one)))
    return png(title, list(rows.values()), [str(step) for step in sorted({one.step for one in samples})], cell)


def sheet_of_comparison(urls: list[str], names: list[str], comparison: Comparison, cell: int) -> bytes:
    """Prompts from top to bottom, runs from left to right (PNG)."""
    columns = [f"{name} · {step}" if step is not None else name for name, step in zip(names, comparison.steps, strict=True)]
    rows: list[Row] = []
    for pair in comparison.pairs:
        row = Row(pair.prompt)
        for url, column, one in zip(urls, columns, pair.samples, strict=True):
            if one is not None:
                row.pictures[column] = read(picture(url, one.step, file_of(one)))
        rows.append(row)
    return png("side by side", rows, columns, cell)


def file_of(sample: Sample) -> str:
    return unquote(sample.url.rsplit("/", 1)[-1])


def png(title: str, rows: list[Row], columns: list[str], cell: int) -> bytes:
    buffer = io.BytesIO()
    progress_sheet(title, rows, columns, cell).save(buffer, "PNG")
    return buffer.getvalue()
