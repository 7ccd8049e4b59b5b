"""Starting and stopping the service: what it refuses, in one line, with nothing changed."""

import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command

from service.revisions import config, newest_revision, revision_of
from service.settings import Settings
from tests.conftest import ROOT, Service, until


def refused(*options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "service", *options], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done
    return done.stderr.removeprefix("dayrun serve: ").strip()


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def revision_in(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]


def test_a_port_that_is_taken_is_named_with_a_free_one(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = holder.getsockname()[1]
        said = refused("--home", str(tmp_path), "--port", str(taken))
    assert said.startswith(f"127.0.0.1:{taken} cannot be listened on (Address already in use): try --port ")
    assert not (tmp_path / "dayrun.db").exists()


def test_an_open_door_off_the_loopback_address_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DAYRUN_AUTH", "none")
    said = refused("--home", str(tmp_path / "home"), "--host", "0.0.0.0", "--port", "0")
    assert said == (
        "DAYRUN_AUTH=none would let everybody who reaches 0.0.0.0 do everything: "
        "leave it out and make a key with `dayrun keys create --bootstrap`, or listen on 127.0.0.1"
    )
    assert not (tmp_path / "home").exists()


def test_a_provider_without_an_audience_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DAYRUN_OIDC_ISSUER", "https://idp.example")
    said = refused("--home", str(tmp_path / "home"), "--port", "0")
    assert said == "DAYRUN_OIDC_ISSUER takes DAYRUN_OIDC_AUDIENCE too: what its tokens name in `aud`"


def test_a_folder_belongs_to_one_service(service: Service):
    said = refused("--home", str(service.home), "--port", "0")
    assert said == (
        f"{service.home} is in use by the service at {service.url} (pid {service.process.pid}): "
        "stop that one, or choose another folder with --home"
    )
    assert service.client.recipes()


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    assert "cannot be used as a folder for runs" in refused("--home", str(tmp_path / "file"), "--port", "0")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_port_that_is_none_is_refused(tmp_path: Path):
    assert refused("--home", str(tmp_path), "--port", "70000").startswith("--port=70000: ")


def test_an_older_database_is_migrated_only_when_told_and_a_copy_is_kept(tmp_path: Path):
    path = tmp_path / "dayrun.db"
    command.upgrade(config(f"sqlite:///{path}"), "0001")
    before = files(tmp_path)
    said = refused("--home", str(tmp_path), "--port", "0")
    assert said == (
        f"{path} is at revision 0001, this dayrun needs {newest_revision()}: "
        "run `dayrun serve --migrate` (a copy is kept as dayrun.db.0001)"
    )
    assert files(tmp_path)["dayrun.db"] == before["dayrun.db"]
    migrating = subprocess.Popen(
        [sys.executable, "-m", "service", "--home", str(tmp_path), "--port", "0", "--migrate"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert migrating.stdout is not None
    assert "ready" in migrating.stdout.readline()
    migrating.terminate()
    assert migrating.wait(60) == 0
    assert revision_of(Settings(home=tmp_path)) == newest_revision()
    assert revision_in(tmp_path / "dayrun.db.0001") == "0001"


def test_a_database_of_a_newer_dayrun_is_left_alone(tmp_path: Path):
    path = tmp_path / "dayrun.db"
    command.upgrade(config(f"sqlite:///{path}"), "head")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    assert "revision 9999" in refused("--home", str(tmp_path), "--port", "0", "--migrate")
    assert revision_of(Settings(home=tmp_path)) == "9999"


def test_ctrl_c_stops_every_part(tmp_path: Path):
    own = Service(tmp_path)
    pids = [own.process.pid, *own.pids.values()]
    assert own.stop() == 0
    until(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in pids), "all parts to be gone")
    assert not (tmp_path / "serve.json").exists()


@pytest.mark.parametrize("part", ["api", "worker"])
def test_a_part_that_dies_is_started_again(service: Service, part: str):
    import os
    import signal

    before = service.pids[part]
    os.kill(before, signal.SIGKILL)
    until(lambda: service.pids[part] != before, f"a new {part}")
    until(lambda: ready(service), "the service to be ready again")


def ready(service: Service) -> bool:
    import httpx

    try:
        return httpx.get(f"{service.url}/readyz").status_code == 200
    except httpx.TransportError:
        return False
