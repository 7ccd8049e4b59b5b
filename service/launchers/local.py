"""torchrun on this machine: what an attempt's command is, and what its end says. How it is started and found again: `watched.py`.

One machine: every worker that launches here must share HOME, since the folder's lock is what makes an attempt one at most. Run folders
may be anywhere that the trainer can write to; credentials of object stores pass on to it in the environment.
"""

import os
import platform
import re
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from dayrun.plan import Finding, Verdict
from dayrun.recipe import Recipe
from service.launchers import Launched, Observation, Order, Unsuitable
from service.launchers.watched import ROOT, WatchedCommand
from service.settings import Settings

DEATHS = re.compile(r"exitcode\s*:\s*(-?\d+)\s*\(pid: (\d+)\)|rank\s*:\s*(\d+) \(local_rank")


class LocalLauncher:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def launch(self, order: Order) -> None:
        manifest = self.manifest(order)
        watched = self._watched(order.run_id, order.attempt)
        watched.start(manifest["command"], manifest["environment"], manifest["log"], {"launcher": manifest["launcher"]})

    def manifest(self, order: Order) -> dict[str, Any]:
        hardware = order.recipe.hardware
        threads = hardware.threads_per_process or max(1, (os.cpu_count() or 1) // hardware.processes_per_node)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={hardware.processes_per_node}"]
        # torchrun must not start workers anew by itself: an attempt is counted, and decided on, by the reconciler
        command += ["--max-restarts=0", f"--shutdown-timeout={round(order.stop_seconds)}"]
        command += ["-m", "trainer", f"{order.folder}/recipe.json", "--out", order.folder, "--attempt", str(order.attempt)]
        environment = {
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": str(threads),
            "DAYRUN_DATA": str(self._settings.data_folder),
            "DAYRUN_RUN": order.run_id,
            "DAYRUN_ATTEMPT": str(order.attempt),
            **order.environment,
        }
        log = self._settings.launch_folder(order.run_id, order.attempt) / "launcher.log"  # here, wherever the run folder is
        return {"launcher": "local", "command": command, "environment": environment, "log": str(log)}

    def must_suit(self, recipe: Recipe) -> None:
        hardware = recipe.hardware
        if hardware.nodes > 1:
            because = "runs start on the service's own machine, which is one node; a cluster has more (docs/operations.md)"
            raise Unsuitable("/hardware/nodes", hardware.nodes, because, [1])
        if hardware.accelerator == "cpu":
            return
        if not (gpus := gpus_here()):
            raise Unsuitable("/hardware/accelerator", hardware.accelerator, "this machine has no NVIDIA GPU", ["cpu"])
        if hardware.processes_per_node > gpus:
            because = f"one process a GPU, and this machine has {gpus}"
            raise Unsuitable("/hardware/processes_per_node", hardware.processes_per_node, because, [gpus])

    def verdicts(self, order: Order) -> list[Verdict]:
        try:
            self.must_suit(order.recipe)
        except Unsuitable as error:
            return [Verdict(about="cluster", level="no", at=error.at, because=error.because, nearest=error.changes)]
        return []

    def preflight(self, order: Order, with_nodes: bool) -> list[Finding]:
        """What trains here has the service's own programs, store and credentials."""
        because = "runs start on the service's own machine, by its own programs and with its own credentials: there is no cluster to try"
        return [Finding(check="cluster", level="note", because=because)]

    def observe(self, run_id: str, attempt: int) -> Observation:
        watched = self._watched(run_id, attempt)
        seen = watched.observe()
        if seen.launched == Launched.ENDED and (log := watched.log()) is not None:
            with suppress(OSError):
                return replace(seen, evidence=[*seen.evidence, *deaths(log.read_text(errors="replace"))])
        return seen

    def stop(self, run_id: str, attempt: int, force: bool) -> None:
        self._watched(run_id, attempt).stop(force)

    def logs(self, run_id: str, attempt: int) -> str | None:
        log = self._watched(run_id, attempt).log()
        try:
            return log.read_text(errors="replace") if log else None
        except FileNotFoundError:
            return None

    def unfinished(self) -> list[tuple[str, int]]:
        """Not looked for: an attempt here is one process group, and who launches the next one has seen its end."""
        return []

    def old(self, at: datetime) -> list[tuple[str, int]]:
        """None: a folder of a few hundred bytes, and the claim that keeps an attempt from being launched twice."""
        return []

    def forget(self, run_id: str, attempt: int) -> None:
        """Nothing that `old` would name."""

    def _watched(self, run_id: str, attempt: int) -> WatchedCommand:
        mark = {"DAYRUN_RUN": run_id, "DAYRUN_ATTEMPT": str(attempt)}
        return WatchedCommand(self._settings.launch_folder(run_id, attempt), mark)


class LocalPrograms:
    """Programs on this machine, each watched by a process of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self.place = settings, platform.node()

    def start(self, job_id: str, arguments: list[str]) -> None:
        environment = {"DAYRUN_DATA": str(self._settings.data_folder)}
        self._watched(job_id).start([sys.executable, *arguments], environment, str(self._settings.job_folder(job_id) / "output.log"))

    def observe(self, job_id: str) -> Observation:
        return self._watched(job_id).observe()

    def stop(self, job_id: str, force: bool) -> None:
        self._watched(job_id).stop(force)

    def _watched(self, job_id: str) -> WatchedCommand:
        return WatchedCommand(self._settings.job_folder(job_id), {"DAYRUN_JOB": job_id})


def gpus_here() -> int:
    """NVIDIA GPUs that this process may use; under Windows' own kernel there is one device for them all."""
    devices = Path("/dev")
    return sum(1 for one in devices.glob("nvidia*") if one.name.removeprefix("nvidia").isdecimal()) or int((devices / "dxg").exists())


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
