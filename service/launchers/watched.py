"""A command on this machine as a folder: order, lock, started.json, exit.json. Started once at most, found again after any crash.

`attempt.py` is the process that watches the command; here are the verbs of those who order it. What the command does they decide: an
attempt of a run (`local.py`) or a job beside it (`service/jobs`).
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from service.launchers import Launched, Observation
from service.launchers.attempt import put, take_lock

ROOT = Path(__file__).resolve().parents[2]
"""Where the packages `service` and `trainer` lie."""


class WatchedCommand:
    """The command that `folder` stands for. `mark`: environment by which its processes are known, whoever their parent is by then."""

    def __init__(self, folder: Path, mark: dict[str, str]) -> None:
        self.folder, self.mark = folder, mark

    def start(self, command: list[str], environment: dict[str, str], log: str, more: dict[str, Any] | None = None) -> None:
        """Start it unless it was started, or stopped, before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / "exit.json").exists():
            return
        put(self.folder / "order.json", {**(more or {}), "command": command, "environment": {**environment, **self.mark}, "log": log})
        # in a session of its own: neither a Ctrl-C on the service nor its end may reach it
        subprocess.Popen(
            [sys.executable, "-m", "service.launchers.attempt", str(self.folder)],
            cwd=ROOT,
            env={**without_secrets(os.environ), "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def observe(self) -> Observation:
        """How it stands; what is left of one whose watcher was killed is ended first, since nobody would see how it ends."""
        if not self.folder.is_dir():
            return Observation(Launched.ABSENT)
        if (ended := self._ended()) is not None:
            return ended
        lock = take_lock(self.folder)
        if lock is None:
            return Observation(Launched.RUNNING)
        with lock:
            if (ended := self._ended()) is not None:  # it ended while we looked
                return ended
            survivors = self._processes()
            if not (self.folder / "started.json").exists() and not survivors:
                return Observation(Launched.ABSENT)  # ordered, and whoever ordered it died before it began
            kill(survivors)
            psutil.wait_procs(survivors, timeout=10)
            put(self.folder / "exit.json", self._said("the launcher's own process was killed"))
        return self._ended() or Observation(Launched.UNREACHABLE)

    def stop(self, force: bool) -> None:
        """Ask it to end, or end it; one that has not begun never will."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = take_lock(self.folder)
        if lock is not None:  # not running: see to it that it never will
            with lock:
                if not (self.folder / "started.json").exists() and not (self.folder / "exit.json").exists():
                    put(self.folder / "exit.json", self._said("stopped before it began"))
            return
        if force:
            kill(self._processes())
            return
        with suppress(FileNotFoundError, ProcessLookupError):  # still starting: the next look finds its pid
            os.kill(json.loads((self.folder / "started.json").read_text())["pid"], signal.SIGTERM)

    def log(self) -> Path | None:
        """The file that it prints to, once it was ordered."""
        with suppress(OSError, ValueError):
            return Path(json.loads((self.folder / "order.json").read_text())["log"])
        return None

    def _said(self, because: str) -> dict[str, Any]:
        return {"code": None, "time": datetime.now(UTC).timestamp(), "because": because}

    def _ended(self) -> Observation | None:
        try:
            said = json.loads((self.folder / "exit.json").read_text())
        except FileNotFoundError:
            return None
        evidence = [said["because"]] if said["because"] else []
        return Observation(Launched.ENDED, said["code"], datetime.fromtimestamp(said["time"], UTC), evidence)

    def _processes(self) -> list[psutil.Process]:
        """Its live processes, by their mark: torchrun's workers outlive a kill of torchrun."""
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                environment = process.environ()
                if process.pid != os.getpid() and all(environment.get(name) == value for name, value in self.mark.items()):
                    found.append(process)
        return found


SECRETS = ("DAYRUN_DATABASE", "DAYRUN_BROKER", "DAYRUN_KEY", "DAYRUN_SECRET_KEY", "DAYRUN_OIDC_CLIENT_SECRET")


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """What a trainer may see: it needs no database, no broker and no key, and what it prints is kept."""
    return {name: value for name, value in environment.items() if name not in SECRETS}


def kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
