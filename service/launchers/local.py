"""torchrun on this machine. An attempt is a folder: order, lock, started.json, exit.json (`attempt.py` watches the processes).

One machine: every worker that launches here must share HOME, since the folder's lock is what makes an attempt one at most. Run folders
may be anywhere that the trainer can write to; credentials of object stores pass on to it in the environment.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from service.launchers import Launched, Observation, Order
from service.launchers.attempt import put, take_lock
from service.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
"""Where the packages `service` and `trainer` lie."""
DEATHS = re.compile(r"exitcode\s*:\s*(-?\d+)\s*\(pid: (\d+)\)|rank\s*:\s*(\d+) \(local_rank")


class LocalLauncher:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def launch(self, order: Order) -> None:
        folder = self._settings.launch_folder(order.run_id, order.attempt)
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "exit.json").exists():
            return
        put(folder / "order.json", self.manifest(order))
        # in a session of its own: neither a Ctrl-C on the service nor its end may reach the training
        subprocess.Popen(
            [sys.executable, "-m", "service.launchers.attempt", str(folder)],
            cwd=ROOT,
            env={**without_secrets(os.environ), "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def manifest(self, order: Order) -> dict[str, Any]:
        threads = order.threads_per_process or max(1, (os.cpu_count() or 1) // order.processes)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={order.processes}"]
        # torchrun must not start workers anew by itself: an attempt is counted, and decided on, by the reconciler
        command += ["--max-restarts=0", f"--shutdown-timeout={round(order.stop_seconds)}"]
        command += ["-m", "trainer", f"{order.folder}/recipe.json", "--out", order.folder, "--attempt", str(order.attempt)]
        environment = {
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": str(threads),
            "DAYRUN_DATA": str(self._settings.data_folder),
            "DAYRUN_RUN": order.run_id,
            "DAYRUN_ATTEMPT": str(order.attempt),
        }
        log = self._settings.launch_folder(order.run_id, order.attempt) / "launcher.log"  # here, wherever the run folder is
        return {"launcher": "local", "command": command, "environment": environment, "log": str(log)}

    def observe(self, run_id: str, attempt: int) -> Observation:
        folder = self._settings.launch_folder(run_id, attempt)
        if not folder.is_dir():
            return Observation(Launched.ABSENT)
        if (ended := self._ended(folder)) is not None:
            return ended
        lock = take_lock(folder)
        if lock is None:
            return Observation(Launched.RUNNING)
        with lock:
            if (ended := self._ended(folder)) is not None:  # it ended while we looked
                return ended
            survivors = processes_of(run_id, attempt)
            if not (folder / "started.json").exists() and not survivors:
                return Observation(Launched.ABSENT)  # ordered, and whoever ordered it died before it began
            # nobody would see how the survivors end, and they would train beside the next attempt
            for process in survivors:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(survivors, timeout=10)
            now = datetime.now(UTC).timestamp()
            put(folder / "exit.json", {"code": None, "time": now, "because": "the launcher's own process was killed"})
        return self._ended(folder) or Observation(Launched.UNREACHABLE)

    def stop(self, run_id: str, attempt: int, force: bool) -> None:
        folder = self._settings.launch_folder(run_id, attempt)
        folder.mkdir(parents=True, exist_ok=True)
        lock = take_lock(folder)
        if lock is not None:  # not running: see to it that it never will
            with lock:
                if not (folder / "started.json").exists() and not (folder / "exit.json").exists():
                    now = datetime.now(UTC).timestamp()
                    put(folder / "exit.json", {"code": None, "time": now, "because": "stopped before it began"})
            return
        if force:
            for process in processes_of(run_id, attempt):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            return
        with suppress(FileNotFoundError, ProcessLookupError):  # still starting: the next look finds its pid
            os.kill(json.loads((folder / "started.json").read_text())["pid"], signal.SIGTERM)

    def logs(self, run_id: str, attempt: int) -> str | None:
        try:
            order = json.loads((self._settings.launch_folder(run_id, attempt) / "order.json").read_text())
            return Path(order["log"]).read_text(errors="replace")
        except FileNotFoundError:
            return None

    def _ended(self, folder: Path) -> Observation | None:
        try:
            said = json.loads((folder / "exit.json").read_text())
        except FileNotFoundError:
            return None
        evidence = [said["because"]] if said["because"] else []
        with suppress(OSError, ValueError):
            evidence += deaths(Path(json.loads((folder / "order.json").read_text())["log"]).read_text(errors="replace"))
        return Observation(Launched.ENDED, said["code"], datetime.fromtimestamp(said["time"], UTC), evidence)


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """What a trainer may see: it needs no database, no broker and no key, and what it prints is kept."""
    return {name: value for name, value in environment.items() if name not in ("DAYRUN_DATABASE", "DAYRUN_BROKER", "DAYRUN_KEY")}


def processes_of(run_id: str, attempt: int) -> list[psutil.Process]:
    """Live processes of one attempt, by the environment they were given: torchrun's workers outlive a kill of torchrun."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            environment = process.environ()
            if environment.get("DAYRUN_RUN") == run_id and environment.get("DAYRUN_ATTEMPT") == str(attempt) and process.pid != os.getpid():
                found.append(process)
    return found


def deaths(log: str) -> list[str]:
    """Which workers ended badly, from torchrun's own report: at most eight lines."""
    lines: list[str] = []
    rank = "?"
    for match in DEATHS.finditer(log):
        if match[3] is not None:
            rank = match[3]
            continue
        code = int(match[1])
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        lines.append(f"rank {rank} {how} (pid {match[2]})")
    return list(dict.fromkeys(lines))[:8]
