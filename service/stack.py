"""The real parts of a cluster on this machine: Postgres, Valkey (or Redis) and an S3 server (SeaweedFS), on free loopback ports.

`make stack` and `dayrun serve --stack` use it, and the tests, which also stop and start single parts. A folder that is used again brings
its data and passwords back. Still, this is for trials: disks are not flushed, and a machine that loses power may lose everything.
"""

import shlex
import signal
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from service.parts import S3, MissingProgram, Part, PartFailed, Postgres, Valkey

BUCKET = "dayrun"


class Stack:
    """Parts of a cluster, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o711)  # Postgres runs under an account of its own and must be able to pass
        self.folder = folder
        self.postgres, self.valkey, self.s3 = Postgres(folder), Valkey(folder), S3(folder)
        self.parts: tuple[Part, ...] = (self.valkey, self.s3, self.postgres)

    def start(self) -> None:
        """All parts at once. Raises MissingProgram or PartFailed, with none left running."""
        try:
            for part in self.parts:
                part.begin()
            with ThreadPoolExecutor() as threads:
                list(threads.map(Part.wait, self.parts))
            self.s3.create_bucket(BUCKET)
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
    def settings(self) -> dict[str, str]:
        """Fields of Settings with which a service uses these parts."""
        return {"database": self.postgres.url(), "broker": self.valkey.url, "runs": f"s3://{BUCKET}/runs"}

    @property
    def environment(self) -> dict[str, str]:
        """The same as environment variables, with the credentials of the store."""
        return {f"DAYRUN_{name.upper()}": value for name, value in self.settings.items()} | self.s3.environment


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
