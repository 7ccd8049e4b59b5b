"""Pictures as answers: whole, or as thumbnails that are made once and kept for as long as there is room. Knows no run."""

import asyncio
import io
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Literal

from fastapi import Query, Response
from PIL import Image
from pydantic import BeforeValidator

from service.http.etags import content_tag, is_known

ROOM_BYTES = 16 * 2**20
"""Thumbnails that a process keeps: some thousands."""


def as_number(given: object) -> object:
    """A query carries text, and a literal number is none to pydantic."""
    return int(given) if isinstance(given, str) and given.isdecimal() and len(given) < 6 else given


Width = Annotated[
    Literal[64, 128, 256] | None,
    BeforeValidator(as_number),
    Query(description="A thumbnail (WebP) of at most this width and height; default: the PNG."),
]
FOREVER = "private, max-age=31536000, immutable"
"""A drawn picture does not change: prompt, seed, step and weights are in its address."""

workers = ThreadPoolExecutor(2, thread_name_prefix="picture")
"""Pictures are worked on by few threads, so that the others go on answering. They belong to no event loop."""


async def worked_on(work: Callable[[], bytes]) -> bytes:
    """What `work` makes, in one of these threads."""
    return await asyncio.get_running_loop().run_in_executor(workers, work)


class Kept:
    """Bytes by name, the least recently used thrown out first."""

    def __init__(self, room: int) -> None:
        self._room, self._used = room, 0
        self._items: OrderedDict[str, bytes] = OrderedDict()

    def get(self, name: str) -> bytes | None:
        if name in self._items:
            self._items.move_to_end(name)
        return self._items.get(name)

    def put(self, name: str, data: bytes) -> None:
        self._used += len(data) - len(self._items.pop(name, b""))
        self._items[name] = data
        while self._used > self._room:
            self._used -= len(self._items.popitem(last=False)[1])


kept = Kept(ROOM_BYTES)


def thumbnail(png: bytes, width: int) -> bytes:
    """The picture, no larger than `width` on either side, as WebP. A smaller one keeps its size."""
    with Image.open(io.BytesIO(png)) as picture:
        small = picture.convert("RGB")
    small.thumbnail((width, width), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=85, method=4)
    return buffer.getvalue()


async def as_image(name: str, read: Callable[[], bytes], width: int | None, if_none_match: str | None) -> Response:
    """The picture `name` that `read` reads (in a thread), or its thumbnail; 304 to who has it."""
    known = f"{name}?{width}"
    data = kept.get(known) if width else None
    if data is None:
        data = await worked_on(lambda: thumbnail(read(), width) if width else read())
        if width:
            kept.put(known, data)
    headers = {"ETag": content_tag(data), "Cache-Control": FOREVER}
    if is_known(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers, media_type="image/webp" if width else "image/png")
