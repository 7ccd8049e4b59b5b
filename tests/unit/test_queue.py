"""Celery's filesystem broker as we use it: every message is read whole, by one reader."""

import concurrent.futures
import time
from contextlib import suppress
from pathlib import Path
from queue import Empty

from kombu import Connection

from service import queue


def connection(folder: Path) -> Connection:
    options = {"data_folder_in": str(folder), "data_folder_out": str(folder), "control_folder": str(folder / "control")}
    return Connection(f"{queue.SCHEME}://localhost//", transport_options=options)


def test_many_writers_and_readers_lose_and_double_nothing(tmp_path: Path):
    writers, each, patience = 4, 100, time.monotonic() + 60
    sent = sorted(f"{writer}-{i}" for writer in range(writers) for i in range(each))
    found: list[str] = []
    with connection(tmp_path) as link:  # the queue is known before anybody writes, as a worker's is before its first hint
        link.SimpleQueue("hints").close()

    def write(writer: int) -> None:
        with connection(tmp_path) as link:
            for i in range(each):
                link.SimpleQueue("hints").put(f"{writer}-{i}")

    def read(_: int) -> None:
        with connection(tmp_path) as link:
            hints = link.SimpleQueue("hints")
            while len(found) < len(sent) and time.monotonic() < patience:
                with suppress(Empty):
                    message = hints.get(block=False)
                    found.append(message.payload)
                    message.ack()

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda work: work[0](work[1]), [(kind, i) for i in range(4) for kind in (read, write)]))
    assert sorted(found) == sent
    assert not [path for path in tmp_path.iterdir() if path.is_file()]
