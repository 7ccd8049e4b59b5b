"""What a trainer process prints, into its run folder as well, by a process of its own that outlives a kill −9 of the trainer.

    python -m trainer.logs RUN_FOLDER_URL ATTEMPT RANK

copies standard input to standard output and to logs/<attempt>/<rank>.log of an object store, once a second at most. A folder can be
appended to, and `tee` does it. It never holds its writer back: while the store is away, text waits, and too much of it is given up.

With DAYRUN_LOG_FORMAT=json, standard output gets each line as JSON, whoever has printed it (a library, a dying interpreter); the run
folder's log, which people read, stays as it was printed.
"""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from dayrun import json_logs, tracing
from dayrun.objects import Prefix
from dayrun.run_folder import LogWriter, RunFolder

PUT_SECONDS = 1.0
READ_BYTES = 64 * 1024
LINE_BYTES = 64 * 1024
"""A line that is longer is cut in two: what reads JSON lines has limits of its own."""


class CopiedOutput:
    """From now on, everything that this process and its children print goes through a copier; `end` waits until it has come through."""

    def __init__(self, folder: RunFolder, attempt: int, rank: int) -> None:
        path = folder.prefix.path
        if path is None or json_logs.is_wanted():
            command = [sys.executable, "-m", "trainer.logs", folder.prefix.url, str(attempt), str(rank)]
        else:
            file = path / folder.log_key(attempt, rank)
            file.parent.mkdir(parents=True, exist_ok=True)
            command = ["tee", "-a", str(file)]
        # a session of its own: the signals that stop the trainer must not cut off the last lines it prints about it
        self._copier = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        assert self._copier.stdin is not None
        self._own = os.dup(1), os.dup(2)
        flush()
        os.dup2(self._copier.stdin.fileno(), 1)
        os.dup2(self._copier.stdin.fileno(), 2)
        self._copier.stdin.close()
        self._waits = command[0] != "tee"

    def end(self, patience_seconds: float) -> None:
        """Give the process its own output back. In a container nothing outlives the trainer, so the last lines must be put before."""
        flush()
        os.dup2(self._own[0], 1)
        os.dup2(self._own[1], 2)
        if self._waits:
            self._copier.terminate()  # not only the end of the pipe: children that hold it must not hold us
            with suppress(subprocess.TimeoutExpired):
                self._copier.wait(patience_seconds)


def flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def main() -> int:
    url, attempt, rank = sys.argv[1:]
    told, tell = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.write(tell, b"."))
    prefix, done = Prefix(url), threading.Event()
    log: Log = LogWriter(prefix, int(attempt), rank)
    if prefix.path is not None:
        log = File(prefix.path / RunFolder.log_key(int(attempt), rank))
    log.append(b"")  # there from the start, as a file would be
    shown: Callable[[bytes], bytes] = Lines(int(attempt), int(rank)) if json_logs.is_wanted() else bytes
    putter = threading.Thread(target=put_often, args=(log, done), daemon=True)
    putter.start()
    copy(0, 1, told, log, shown)
    done.set()
    putter.join()
    return 0 if put(log) else 1


class Log(Protocol):
    def append(self, data: bytes) -> None: ...
    def flush(self) -> None: ...


class File:
    """A log that can be appended to: there at once."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)

    def append(self, data: bytes) -> None:
        self._file.write(data)

    def flush(self) -> None:
        """Nothing waits."""


class Lines:
    """Turns what is printed into JSON lines that say whose they are. Called with the next bytes, it gives the lines that they end;
    with none, what is left."""

    def __init__(self, attempt: int, rank: int) -> None:
        self._rest = b""
        self._about: dict[str, Any] = {"run": os.environ.get("DAYRUN_RUN"), "attempt": attempt, "rank": rank}
        if (found := tracing.parsed(os.environ.get(tracing.TRACEPARENT))) is not None:
            self._about["trace_id"] = found[0]

    def __call__(self, data: bytes) -> bytes:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if not data or len(self._rest) > LINE_BYTES:
            lines, self._rest = [*lines, self._rest], b""
        return b"".join(self._as_json(line) for line in lines if line.strip())

    def _as_json(self, line: bytes) -> bytes:
        message = line.decode("utf-8", "replace").rpartition("\r")[2]  # of a progress bar, its last state
        said = {"time": json_logs.instant(time.time()), "message": message, **self._about}
        return json.dumps(said, ensure_ascii=False).encode() + b"\n"


def copy(source: int, target: int | None, told: int, log: Log, shown: Callable[[bytes], bytes] = bytes) -> None:
    """Until the source ends, or until we are told to end and have read all there is. shown: bytes as the target is to have them."""
    ending = False

    def show(data: bytes) -> None:
        nonlocal target
        try:
            while target is not None and data:
                data = data[os.write(target, data) :]
        except OSError:
            target = None  # nobody reads our output any more; the log still wants it

    while True:
        ready, _, _ = select.select([source] if ending else [source, told], [], [], 0 if ending else None)
        if source in ready:
            data = os.read(source, READ_BYTES)
            if data:
                log.append(data)
            show(shown(data))
            if not data:
                return
        elif ending:
            return show(shown(b""))
        ending = ending or told in ready


def put_often(log: Log, done: threading.Event) -> None:
    while not done.wait(PUT_SECONDS):
        put(log)


def put(log: Log) -> bool:
    try:
        log.flush()
    except OSError:
        return False  # kept; there is no better place to say so than the log itself
    return True


if __name__ == "__main__":
    status = main()
    os._exit(status)  # a put that still waits for the store must not hold the end back
