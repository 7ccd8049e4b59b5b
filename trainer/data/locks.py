"""Locks on open files (flock): the kernel lets go of them when the process ends, however it ends, so that none can be left behind."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any


def is_at(file: IO[Any], path: Path) -> bool:
    """Whether the open `file` is what lies at `path`."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def left_behind(path: Path, first: Callable[[bool], None] = lambda _: None) -> bool:
    """Whether nobody has the lock of the file at `path`, which then is removed, after `first` has removed what belongs to it."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_at(file, path):  # else it was removed, and another may lie there
                first(True)
                path.unlink()
            return True
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return True
