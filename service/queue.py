"""Celery's filesystem broker, made safe for readers: kombu's own writes a message in place, and a worker that reads it half-written dies.

A message is one file, put by a rename and taken by a rename, so that each is seen whole and by one reader. Hints may still be lost when a
worker is killed between taking and doing: the sweep makes up for that.
"""

import json
import os
import time
import uuid
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, filesystem  # pyright: ignore[reportMissingTypeStubs]

SCHEME = "folder"


class Channel(filesystem.Channel):
    def _put(self, queue: str, payload: Any, **_: Any) -> None:
        folder: Any = Path(self.data_folder_out)  # pyright: ignore
        draft = folder / f".{uuid.uuid4()}"
        draft.write_text(json.dumps(payload))
        draft.rename(folder / f"{time.time_ns():020d}_{uuid.uuid4()}.{queue}.msg")

    def _get(self, queue: str) -> Any:
        folder = Path(self.data_folder_in)  # pyright: ignore
        for name in sorted(os.listdir(folder)):
            if name.startswith(".") or name.partition(".")[2] != f"{queue}.msg":
                continue
            taken = folder / f".{uuid.uuid4()}"
            try:
                (folder / name).rename(taken)
            except FileNotFoundError:  # another reader was faster
                continue
            payload = json.loads(taken.read_bytes())
            taken.unlink()
            return payload
        raise Empty

    def get_table(self, exchange: str) -> list[Any]:
        try:
            rows = json.loads(self._exchange_file(exchange).read_text())  # pyright: ignore
        except FileNotFoundError:
            return []
        return [filesystem.exchange_queue_t(*row) for row in rows]

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        row = filesystem.exchange_queue_t(routing_key or "", pattern or "", queue or "")
        rows = self.get_table(exchange)
        if row in rows:
            return
        file: Any = self._exchange_file(exchange)  # pyright: ignore
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f".{uuid.uuid4()}")
        draft.write_text(json.dumps([row, *rows]))
        draft.replace(file)


class Transport(filesystem.Transport):
    Channel = Channel


TRANSPORT_ALIASES[SCHEME] = "service.queue:Transport"
