"""A real S3 server for tests: SeaweedFS as one child process on free loopback ports, with its data in a folder of the test's."""

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from dayrun.objects import Prefix
from tests.conftest import until

ACCESS_KEY, SECRET_KEY = "a-key-of-the-tests", "a-secret-of-the-tests"


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [taken.getsockname()[1] for taken in sockets]
    for taken in sockets:
        taken.close()
    return ports


class S3Server:
    """Answers at the endpoint that `environment` names; `kill` and `start` again keep data and address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ports = free_ports(8)
        self.ports = dict(zip(("master", "volume", "filer", "s3"), zip(ports[:4], ports[4:], strict=True), strict=True))
        """Of each part: for HTTP, for gRPC."""
        identity = {"name": "tests", "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}], "actions": ["Admin"]}
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to use the server."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.ports['s3'][0]}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": "us-east-1",
        }

    def url(self, name: str) -> str:
        return f"s3://tests/{name}"

    def start(self) -> None:
        weed = shutil.which("weed") or str(Path(sys.executable).with_name("weed"))
        command = [weed, "server", f"-dir={self.folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", f"-s3.config={self.folder}/s3.json"]
        command += [f"-{part}.port={http}" for part, (http, _) in self.ports.items()]
        command += [f"-{part}.port.grpc={grpc}" for part, (_, grpc) in self.ports.items()]
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
        command += ["-master.volumeSizeLimitMB=64", "-volume.max=32", "-master.electionTimeout=1s", "-volume.preStopSeconds=0"]
        with (self.folder / "weed.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, start_new_session=True)
        until(self.answers, "the S3 server to take an object")

    def answers(self) -> bool:
        assert self.process.poll() is None, (self.folder / "weed.log").read_text()[-2000:]
        try:
            with socket.create_connection(("127.0.0.1", self.ports["s3"][0]), timeout=1):
                Prefix(self.url("ready"), patience_seconds=1).put("ready", b"yes")
        except OSError:
            return False
        return True

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    stop = kill
    """Its data are the test's: an orderly end takes a quarter of a minute and saves nothing that is wanted."""
