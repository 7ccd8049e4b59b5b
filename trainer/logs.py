"""What a trainer process prints, into its run folder as well, by a process of its own that outlives a kill −9 of the trainer.

    python -m trainer.logs RUN_FOLDER_URL ATTEMPT RANK

copies standard input to standard output and to logs/<attempt>/<rank>.log of an object store, once a second at most. A folder can be
appended to, and `tee` does it. It never holds its writer back: while the store is away, text waits, and too much of it is given up.
"""

import os
import select
import signal
import subprocess
import sys
import threading
from contextlib import suppress

from dayrun.objects import Prefix
from dayrun.run_folder import LogWriter, RunFolder

PUT_SECONDS = 1.0
READ_BYTES = 64 * 1024


class CopiedOutput:
    """From now on, everything that this process and its children print goes through a copier; `end` waits until it has come through."""

    def __init__(self, folder: RunFolder, attempt: int, rank: int) -> None:
        path = folder.prefix.path
        if path is not None:
            file = path / folder.log_key(attempt, rank)
            file.parent.mkdir(parents=True, exist_ok=True)
            command = ["tee", "-a", str(file)]
        else:
            command = [sys.executable, "-m", "trainer.logs", folder.prefix.url, str(attempt), str(rank)]
        # a session of its own: the signals that stop the trainer must not cut off the last lines it prints about it
        self._copier = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        assert self._copier.stdin is not None
        self._own = os.dup(1), os.dup(2)
        flush()
        os.dup2(self._copier.stdin.fileno(), 1)
        os.dup2(self._copier.stdin.fileno(), 2)
        self._copier.stdin.close()
        self._waits = path is None

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
    log, done = LogWriter(Prefix(url), int(attempt), rank), threading.Event()
    log.append(b"")  # there from the start, as a file would be
    putter = threading.Thread(target=put_often, args=(log, done), daemon=True)
    putter.start()
    copy(0, 1, told, log)
    done.set()
    putter.join()
    return 0 if put(log) else 1


def copy(source: int, target: int | None, told: int, log: LogWriter) -> None:
    """Until the source ends, or until we are told to end and have read all there is."""
    ending = False
    while True:
        ready, _, _ = select.select([source] if ending else [source, told], [], [], 0 if ending else None)
        if source in ready:
            data = os.read(source, READ_BYTES)
            if not data:
                return
            log.append(data)
            try:
                while target is not None and data:
                    data = data[os.write(target, data) :]
            except OSError:
                target = None  # nobody reads our output any more; the log still wants it
        elif ending:
            return
        ending = ending or told in ready


def put_often(log: LogWriter, done: threading.Event) -> None:
    while not done.wait(PUT_SECONDS):
        put(log)


def put(log: LogWriter) -> bool:
    try:
        log.flush()
    except OSError:
        return False  # kept; there is no better place to say so than the log itself
    return True


if __name__ == "__main__":
    status = main()
    os._exit(status)  # a put that still waits for the store must not hold the end back
