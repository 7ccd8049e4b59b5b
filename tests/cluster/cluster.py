"""A Kubernetes as the tests see it: what can be asked of it, and what only one that was booted here can suffer.

The one that KUBECONFIG names is used as it is: it must run the training operator, and take our images by the names that
DAYRUN_TEST_SERVICE_IMAGE, DAYRUN_TEST_TRAINER_IMAGE and DAYRUN_TEST_PARTS_IMAGE hold. Without it, `boot/up.sh` makes one on this machine.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

import psutil
import pytest

from tests.conftest import until

BOOT = Path(__file__).parent / "boot"
POD_SECONDS = 180.0
"""An image that is on the node starts within seconds; torch takes long to load on two busy cores."""


class KubectlFailed(Exception):
    """What kubectl, or the API server through it, said."""


@dataclass(frozen=True)
class Images:
    service: str
    trainer: str
    parts: str
    pull_policy: str = "Never"


class Cluster:
    """Everything goes through the cluster's own API, by kubectl: nothing here depends on where the cluster runs."""

    def __init__(self, environment: dict[str, str], images: Images, ours: bool) -> None:
        self.environment, self.images, self.ours = environment, images, ours

    @classmethod
    def named(cls) -> Self:
        """The one that KUBECONFIG names."""
        names = {part: os.environ.get(f"DAYRUN_TEST_{part.upper()}_IMAGE") for part in ("service", "trainer", "parts")}
        if missing := [f"DAYRUN_TEST_{part.upper()}_IMAGE" for part, name in names.items() if name is None]:
            pytest.exit(f"KUBECONFIG is set: set {', '.join(missing)} too, to images that this cluster can pull", returncode=2)
        policy = os.environ.get("DAYRUN_TEST_PULL_POLICY", "IfNotPresent")
        return cls(dict(os.environ), Images(**names, pull_policy=policy), ours=False)  # pyright: ignore[reportArgumentType]

    @classmethod
    def booted(cls, nodes: int = 4) -> Self:
        """The one of this machine, booted when it does not run, with images of the code as it is now."""
        environment = boot_environment()
        names = {part: f"localhost/dayrun-{part}:{environment['TAG']}" for part in ("service", "trainer", "parts")}
        made = cls(environment, Images(**names), ours=True)
        with made.lock("boot"):  # who comes second finds it all done
            # where nothing is built yet, the images wait for disk and network while Go compiles
            with subprocess.Popen([BOOT / "images.sh"]) as building:
                subprocess.run([BOOT / "up.sh", str(nodes)], check=True)
            assert building.returncode == 0
            subprocess.run([BOOT / "images.sh", "--hand-over-only"], check=True)  # what was built before there was somebody to take it
        return made

    @contextmanager
    def lock(self, name: str, exclusive: bool = True) -> Iterator[IO[str]]:
        """Held against, or shared with, all test processes of this machine."""
        folder = Path(self.environment.get("CACHE", tempfile.gettempdir()))
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
            yield file

    # asking
    def kubectl(self, *arguments: str, stdin: str | bytes | None = None) -> str:
        """What it prints. Raises KubectlFailed."""
        given = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run([self._program("kubectl"), *arguments], input=given, env=self.environment, capture_output=True)
        if done.returncode != 0:
            raise KubectlFailed(f"kubectl {' '.join(arguments)}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode(errors="replace")

    def try_kubectl(self, *arguments: str) -> str:
        """What it prints, whatever it ends with: `auth can-i` says no by an exit code, too."""
        done = subprocess.run([self._program("kubectl"), *arguments], env=self.environment, capture_output=True, text=True)
        return done.stdout.strip()

    def helm(self, *arguments: str) -> str:
        """What it prints. Raises KubectlFailed."""
        done = subprocess.run([self._program("helm"), *arguments], env=self.environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise KubectlFailed(f"helm {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def get(self, *arguments: str) -> Any:
        """`kubectl get … -o json`, parsed."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, *objects: dict[str, Any]) -> None:
        """Server-side, all at once."""
        many = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(many))

    def simulate(self, nodes: int) -> None:
        """So many nodes of eight H200 that take pods and run none, in blocks of eight nodes; a foreign cluster has what it has."""
        if self.ours:
            subprocess.run([BOOT / "nodes.sh", str(nodes)], check=True, env=self.environment)

    def evidence(self, namespace: str) -> str:
        """What a person would look at first: pods, events, the ends of logs."""
        seen = [self.kubectl("-n", namespace, "get", "pods,events", "-o", "wide")]
        for pod in self.get("-n", namespace, "pods")["items"]:
            name = pod["metadata"]["name"]
            try:
                seen.append(f"--- {name}\n" + self.kubectl("-n", namespace, "logs", name, "--all-containers", "--tail=40"))
            except KubectlFailed as error:
                seen.append(f"--- {name}: {error}")
        return "\n".join(seen)

    def until_job(self, namespace: str, name: str, *conditions: str, patience: float = POD_SECONDS) -> str:
        """The first of `conditions` that becomes true of the PyTorchJob; another end of it is an error at once, with its evidence."""
        ends = {"Succeeded", "Failed"}

        def reached() -> str | None:
            job = self.get("-n", namespace, "pytorchjob", name)
            true = {c["type"] for c in job.get("status", {}).get("conditions", []) if c["status"] == "True"}
            for condition in conditions:
                if condition in true:
                    return condition
            assert not true & ends, f"{name} ended as {true & ends}\n{self.evidence(namespace)}"
            return None

        try:
            return until(reached, f"{name} to be {' or '.join(conditions)}", patience, pause=0.5)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.evidence(namespace)}") from None

    @contextmanager
    def reach(self, namespace: str, target: str, port: int) -> Iterator[int]:
        """A port of this machine that leads to `port` of `target` (svc/NAME, pod/NAME) as long as the context lasts."""
        forward = subprocess.Popen(
            [self._program("kubectl"), "-n", namespace, "port-forward", target, f":{port}"],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert forward.stdout is not None
        try:
            said = forward.stdout.readline()  # "Forwarding from 127.0.0.1:40123 -> 8333"
            assert said.startswith("Forwarding"), said + forward.stdout.read()
            yield int(said.split(" -> ")[0].rsplit(":", 1)[1])
        finally:
            forward.send_signal(signal.SIGTERM)
            forward.wait()
            forward.stdout.close()

    @contextmanager
    def without_api_server(self) -> Iterator[None]:
        """Kill the API server of the cluster that was booted here, and start it again as it was."""
        assert self.ours
        (server,) = (one for one in psutil.process_iter(["name"]) if one.info["name"] == "kube-apiserver")
        command, folder, space = server.cmdline(), server.cwd(), f"/proc/{server.pid}/ns/net"
        handle = os.open(space, os.O_RDONLY)  # the namespace outlives its process as long as somebody holds it
        server.kill()
        server.wait()
        try:
            yield
        finally:
            inside = ["nsenter", f"--net=/proc/{os.getpid()}/fd/{handle}", "--", *command]
            with (Path(folder) / "log" / "kube-apiserver").open("ab") as log:
                subprocess.Popen(
                    inside, cwd=folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            until(self.answers, "the API server to be back", 60)
            os.close(handle)

    def answers(self) -> bool:
        try:
            self.kubectl("--request-timeout=5s", "get", "--raw", "/readyz")
        except KubectlFailed:
            return False
        return True

    def _program(self, name: str) -> str:
        """kubectl of the cluster's own version comes first in its PATH."""
        found = shutil.which(name, path=self.environment["PATH"])
        assert found is not None, f"{name} is not installed"
        return found


def boot_environment() -> dict[str, str]:
    """With the programs and the KUBECONFIG of the cluster that is booted here."""
    said = subprocess.run([BOOT / "with.sh", "env", "-0"], check=True, capture_output=True, text=True).stdout
    return dict(line.split("=", 1) for line in said.split("\0") if line)
