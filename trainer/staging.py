"""A temporary folder that the ranks of one machine share: checkpoints of an object store pass through it, to be written and read as files.

It lives as long as its lock is held: what a killed process left behind is removed by whoever comes next. It knows nothing of
checkpoints.
"""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainer.world import World

BEGINS = "dayrun-staging-"


@contextmanager
def staging(world: World) -> Iterator[Path]:
    """An empty folder, the same for all ranks of this machine; gone when the block is left. Every rank must enter and leave it."""
    with opened_by_one(world) as mine:
        paths = world.together(lambda: (world.node, str(mine) if mine else ""))
        yield Path(next(path for node, path in paths if node == world.node and path))


@contextmanager
def opened_by_one(world: World) -> Iterator[Path | None]:
    """The folder, on the rank that leads its machine; None on the others."""
    if not world.leads_node:
        yield None
        return
    sweep(Path(tempfile.gettempdir()))
    number, name = tempfile.mkstemp(prefix=BEGINS, suffix=".lock")
    path = Path(name).with_suffix("")
    with open(number, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path.mkdir(mode=0o700)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
            Path(name).unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what dead processes left: the kernel has let go of their locks."""
    for file in folder.glob(f"{BEGINS}*.lock"):
        try:
            with file.open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(file.with_suffix(""), ignore_errors=True)
                file.unlink(missing_ok=True)
        except OSError:
            continue  # in use, or swept by another
