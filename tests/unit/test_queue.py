"""Celery's filesystem broker as we use it: every message is read whole, by one reader."""

import concurrent.futures
import threading
from pathlib import Path
from queue import Empty

from kombu import Connection

from service import queue


def connection(folder: Path) -> Connection:
    options = {"data_folder_in": str(folder), "data_folder_out": str(folder), "control_folder": str(folder / "control")}
    return Connection(f"{queue.SCHEME}://localhost//", transport_options=options)


def test_many_writers_and_readers_lose_and_double_nothing(tmp_path: Path):
    written, done = 400, threading.Event()
    sent = {f"{writer}-{i}" for writer in range(4) for i in range(written // 4)}

    def write(writer: int) -> None:
        with connection(tmp_path) as link:
            for i in range(written // 4):
                link.SimpleQueue("hints").put(f"{writer}-{i}")

    def read(_: int) -> list[str]:
        found: list[str] = []
        with connection(tmp_path) as link:
            hints = link.SimpleQueue("hints")
            while True:
                last = done.is_set()
                try:
                    message = hints.get(block=False)
                except Empty:
                    if last:
                        return found
                    continue
                found.append(message.payload)
                message.ack()

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        readers = [threads.submit(read, i) for i in range(4)]
        list(threads.map(write, range(4)))
        done.set()
        found = [payload for reader in readers for payload in reader.result()]
    assert sorted(found) == sorted(sent)
    assert not [path for path in tmp_path.iterdir() if path.is_file()]
