"""`docker compose up` → POST /runs → samples, and what a stop of the worker costs: tried with whatever Compose there is.

    .venv/bin/python tests/compose/run.py                                   Docker Compose, images from their registries
    DEMO_DATA=FOLDER COMPOSE=podman-compose .venv/bin/python tests/compose/run.py --override tests/compose/stand-ins.yml --no-build

Works in a copy of the repository, under a project name and on a port of its own, and leaves nothing. `--override`: a Compose file with
other images, where no registry can be reached. DEMO_DATA: a folder fluent-emoji-32 that it mounts, where npm cannot be reached.
"""

import argparse
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from dayrun.client import Client

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 900.0
SMALL: dict[str, Any] = {"schedule": {"warmup_steps": 5}, "hardware": {"threads_per_process": 1}}
PROMPTS = ["a red apple on a blue background", "a panda on a green background"]


class Project:
    """The repository's project, in a copy at `folder`."""

    def __init__(self, folder: Path, override: Path | None) -> None:
        self._folder, self._command = folder, shlex.split(os.environ.get("COMPOSE", "docker compose"))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
        for name in filter(None, listed.decode().split("\0")):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target, follow_symlinks=False)
        if override:
            shutil.copy(override, folder / "docker-compose.override.yml")
        subprocess.run(["compose/secrets"], cwd=folder, check=True)
        if override:  # Prometheus and Grafana have no stand-ins
            env = folder / ".env"
            env.write_text("".join(line for line in env.read_text().splitlines(keepends=True) if not line.startswith("COMPOSE_PROFILES")))

    def __call__(self, *words: str, quiet: bool = False) -> str:
        environment = {**os.environ, "COMPOSE_PROJECT_NAME": "dayrun-test", "DAYRUN_HTTP_PORT": str(self.port)}
        done = subprocess.run([*self._command, *words], cwd=self._folder, env=environment, stdout=subprocess.PIPE, text=True)
        if done.returncode and not quiet:
            sys.exit(f"{' '.join([*self._command, *words])} ended with {done.returncode}")
        return done.stdout


def until(condition: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(1)
    sys.exit(f"waited {PATIENCE_SECONDS:.0f} s in vain for: {what}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--override", type=Path, help="Compose file that is read after ours")
    parser.add_argument("--no-build", action="store_true", help="the images are there already")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dayrun-compose-") as name:
        project = Project(Path(name), options.override)
        try:
            tried(project, options.no_build)
        except BaseException:
            print(project("logs", "api", "worker", "migrate", "bucket", quiet=True)[-6000:], file=sys.stderr)
            raise
        finally:
            project("down", "--volumes", quiet=True)


def tried(project: Project, built: bool) -> None:
    begun = time.monotonic()
    project("up", "--detach", *([] if built else ["--build"]))
    url = f"http://127.0.0.1:{project.port}"

    def ready() -> bool:
        try:
            with urlopen(f"{url}/readyz", timeout=10) as answer:
                return answer.status == 200
        except (URLError, OSError):
            return False

    until(ready, "API and worker to be ready")
    print(f"ready after {time.monotonic() - begun:.0f} s")
    if "DEMO_DATA" not in os.environ:
        project("run", "--rm", "demo-data")
    client = Client(url, key=project("exec", "-T", "api", "dayrun", "keys", "create", "--bootstrap").split()[0])

    sets = [{"name": "preview", "prompts": PROMPTS, "every": 10, "at_start": True}]
    short = {"stages": [{"name": "short", "pixels": 32, "steps": 20, "batch_size": 4}], **SMALL}
    run = client.create_run("demo", overrides={**short, "samples": {"sets": sets}, "checkpoints": {"every": 10}})
    run = until(lambda: (now := client.run(run.id)).over and now, "the run to end")
    drawn = list(client.samples(run.id))
    assert run.state == "succeeded", run.evidence
    assert {one.step for one in drawn} == {0, 10, 20}
    assert all(client.picture(one).startswith(b"\x89PNG") for one in drawn)
    print(f"{run.id} succeeded and drew {len(drawn)} pictures")

    longer = {"stages": [{"name": "long", "pixels": 32, "steps": 60, "batch_size": 4}], **SMALL}
    run = client.create_run("demo", overrides={**longer, "samples": {"sets": []}, "checkpoints": {"every": 10}})
    until(lambda: client.checkpoints(run.id), "a checkpoint")
    project("restart", "worker")
    run = until(lambda: (now := client.run(run.id)).over and now, "the run to end")
    assert run.state == "succeeded", run.evidence
    assert run.attempt == 2
    assert client.verify_events(run.id) is None
    print(f"{run.id} outlived a restart of the worker, by attempt {run.attempt}")


if __name__ == "__main__":
    main()
