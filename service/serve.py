"""All embedded parts in one command: API and worker as children, watched, started anew when they die, stopped together.

Nothing is changed until the folder, the port and the database have been found to be ours. Runs are not children of this process: they
train on when it ends, and the next `serve` on the same folder finds them.
"""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import IO
from urllib.request import urlopen

from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from service.launchers.local import ROOT
from service.parts import MissingProgram, PartFailed
from service.revisions import WrongVersion, bring_up_to_date, sync_url
from service.settings import Settings
from service.stack import Stack

PARTS = {"api": "service.api", "worker": "service.worker"}
GOOD_LIFE_SECONDS = 10.0
"""A part that lived this long did not fail at its start: it is started again without waiting."""
LONGEST_WAIT_SECONDS = 10.0
STOP_SECONDS = 10.0


class Refused(Exception):
    """The service cannot start; the message is one line that says why and what to do. Nothing was changed."""


def start_stack(settings: Settings) -> tuple[Stack, Settings]:
    """Parts of a cluster in HOME/stack, and settings that use them. Raises Refused."""
    given = [f"DAYRUN_{name.upper()}" for name in ("database", "broker", "runs") if getattr(settings, name) is not None]
    if given:
        raise Refused(f"--stack brings a database, a broker and a store, and {', '.join(given)} names another: leave out one or the other")
    try:
        stack = Stack(settings.root / "stack")
        stack.start()
    except (MissingProgram, PartFailed) as error:
        raise Refused(f"--stack: {error}") from error
    os.environ.update(stack.environment)  # our children's too: the store's credentials are no settings of ours
    return stack, settings.model_copy(update=stack.settings)


def lock_home(settings: Settings) -> IO[str]:
    """The folder is ours as long as the file is open. Raises Refused."""
    path = settings.root / "serve.lock"
    try:
        settings.root.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise Refused(f"{settings.root} cannot be used as a folder for runs ({error.strerror}): choose another with --home") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "another process"
        file.close()
        raise Refused(f"{settings.root} is in use by {holder}: stop that one, or choose another folder with --home") from None
    return file


def check_auth(settings: Settings) -> None:
    """Raises Refused where everybody who reaches the address could do everything."""
    if settings.auth == "none" and settings.needs_credentials:
        raise Refused(
            f"DAYRUN_AUTH=none would let everybody who reaches {settings.host} do everything: "
            "leave it out and make a key with `dayrun keys create --bootstrap`, or listen on 127.0.0.1"
        )


def bind(settings: Settings) -> socket.socket:
    """The listening socket. Raises Refused."""
    try:
        return socket.create_server((settings.host, settings.port), backlog=512, reuse_port=False)
    except OSError as error:
        free = socket.create_server((settings.host if error.errno == 98 else "127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        raise Refused(
            f"{settings.host}:{settings.port} cannot be listened on ({os.strerror(error.errno or 0)}): try --port {port}"
        ) from error


class Part:
    """A child process that is kept running."""

    def __init__(self, name: str, module: str, settings: Settings, listener: socket.socket) -> None:
        self._name, self._module, self._settings, self._listener = name, module, settings, listener
        self._begun, self._wait, self._due = 0.0, 0.5, 0.0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        logs = self._settings.root / "logs"
        logs.mkdir(exist_ok=True)
        number = self._listener.fileno()
        environment = {
            **self._settings.for_children(),
            "PYTHONPATH": str(ROOT),
            "DAYRUN_PARENT": str(os.getpid()),
            "DAYRUN_LISTENER": str(number),
        }
        with (logs / f"{self._name}.log").open("ab") as log:
            # not in our process group: a Ctrl-C reaches us alone, and we stop the parts in order
            self.process = subprocess.Popen(
                [sys.executable, "-m", self._module],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[number],
                start_new_session=True,
            )
        self._begun = time.monotonic()

    def keep_alive(self) -> None:
        """Start the child again if it has died: at once the first time, later the more often it dies young."""
        if self.process is None or self.process.poll() is None:
            return
        at = time.monotonic()
        if not self._due:
            lived = at - self._begun
            self._wait = 0.0 if lived > GOOD_LIFE_SECONDS else min(max(0.5, self._wait * 2), LONGEST_WAIT_SECONDS)
            self._due = at + self._wait
            log = self._settings.root / "logs" / f"{self._name}.log"
            print(f"{self._name} ended with code {self.process.returncode}; starting it again ({log})", file=sys.stderr, flush=True)
        if at >= self._due:
            self._due = 0.0
            self.start()
            write_state(self._settings)

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


STATE: dict[str, object] = {}


def write_state(settings: Settings, parts: dict[str, Part] | None = None, url: str | None = None) -> None:
    """HOME/serve.json: where the service is and who its processes are, for `dayrun` on this machine."""
    if parts is not None:
        STATE.update(url=url, pid=os.getpid(), parts=parts)
    known = STATE.get("parts")
    pids = {name: part.process.pid for name, part in known.items() if part.process} if isinstance(known, dict) else {}  # pyright: ignore
    path = settings.root / "serve.json"
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps({"url": STATE["url"], "pid": STATE["pid"], "parts": pids}))
    draft.replace(path)


def wait_until_ready(url: str, stopping: threading.Event, seconds: float = 60.0) -> str | None:
    """None once the service would take and train a run; else what is still missing after `seconds`."""
    until, said = time.monotonic() + seconds, "no answer"
    while time.monotonic() < until and not stopping.is_set():
        try:
            with urlopen(f"{url}/readyz", timeout=5) as answer:
                if answer.status == 200:
                    return None
        except OSError as error:  # URLError among them; a part that is still starting lets the request wait
            said = str(error)
        stopping.wait(0.05)
    return said


def active_runs(settings: Settings) -> int:
    """Runs that hold machines now; asked of the database, since the API may want a key."""
    states = ", ".join(f"'{state}'" for state in ("launching", "running", "pausing"))
    with suppress(SQLAlchemyError), create_engine(sync_url(settings), poolclass=NullPool).connect() as connection:
        return connection.scalar(text(f"SELECT count(*) FROM runs WHERE state IN ({states})")) or 0
    return 0


def serve(settings: Settings, may_migrate: bool = False, with_stack: bool = False) -> int:
    """Run until Ctrl-C or SIGTERM; returns the exit code."""
    stack: Stack | None = None
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    try:
        check_auth(settings)
        lock = lock_home(settings)
        listener = bind(settings)
        if with_stack:
            stack, settings = start_stack(settings)
        bring_up_to_date(settings, may_migrate)
    except (Refused, WrongVersion) as error:
        print(f"dayrun serve: {error}", file=sys.stderr)
        if stack is not None:
            stack.stop()
        return 2
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    settings.data_folder.mkdir(parents=True, exist_ok=True)
    url = f"http://{settings.host}:{listener.getsockname()[1]}"
    lock.truncate(0)
    lock.write(f"the service at {url} (pid {os.getpid()})")
    lock.flush()
    parts = {name: Part(name, module, settings, listener) for name, module in PARTS.items()}
    for part in parts.values():
        part.start()
    write_state(settings, parts, url)
    missing = wait_until_ready(url, stopping)
    if missing is not None and not stopping.is_set():
        print(f"dayrun serve: not ready after a minute ({missing}); see {settings.root / 'logs'}", file=sys.stderr)
    elif not stopping.is_set():
        asks = "; it asks for keys (docs/access.md)" if settings.needs_credentials else ""
        print(f"dayrun is ready: {url}\nruns, logs and pictures are kept in {settings.root}{asks}; stop with Ctrl-C", flush=True)
    while not stopping.wait(0.2):
        for part in parts.values():
            part.keep_alive()
    left = active_runs(settings)
    for part in parts.values():
        part.stop()
    Path(settings.root / "serve.json").unlink(missing_ok=True)
    listener.close()
    if stack is not None:
        stack.stop()
    if left:
        with suppress(BrokenPipeError):  # whoever started us may be gone
            print(f"{left} run{'s' if left > 1 else ''} train on without the service; the next `dayrun serve` finds them again", flush=True)
    return 0
