"""`python -m service.launchers.attempt FOLDER`: the parent of one attempt's processes; outlives the service that started it.

It holds a lock on FOLDER/lock as long as it lives, so that who finds the lock free knows that nobody watches the attempt any more.
Only the holder of the lock may write exit.json, and nothing is started where exit.json is: that makes an attempt one at most.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import IO, Any


def take_lock(folder: Path) -> IO[bytes] | None:
    """The lock of an attempt, or None while somebody else holds it. Closing the file, or dying, lets it go."""
    file = (folder / "lock").open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def put(path: Path, content: dict[str, Any]) -> None:
    """Write JSON at once or not at all."""
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    draft.write_text(json.dumps(content))
    draft.replace(path)


def main() -> int:
    folder = Path(sys.argv[1])
    lock = take_lock(folder)
    if lock is None or (folder / "exit.json").exists():
        return 0
    order = json.loads((folder / "order.json").read_text())
    child: subprocess.Popen[bytes] | None = None
    asked: list[int] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        asked.append(number)
        if child is not None:
            child.send_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, pass_on)
    log = Path(order["log"])
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with log.open("ab") as output:
            child = subprocess.Popen(order["command"], env={**os.environ, **order["environment"]}, stdout=output, stderr=output)
        # pid and start time of ours: a pid alone may be somebody else's by the time it is used
        put(folder / "started.json", {"pid": os.getpid(), "child": child.pid, "time": time.time()})
        if asked:
            child.send_signal(signal.SIGTERM)
        code = child.wait()
        because = ""
    except OSError as error:
        code, because = 127, f"{order['command'][0]} could not be started: {error}"
    put(folder / "exit.json", {"code": code, "time": time.time(), "because": because})
    lock.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
