"""Children that do not outlive their parent, whatever ends it: Linux tells them by a signal."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Be killed when the process that started this one ends, if DAYRUN_PARENT says that one did. To be called first thing in a child."""
    parent = os.environ.get("DAYRUN_PARENT")
    if parent is None:  # started by a person, or as the only process of a container
        return
    end_with_parent(signal.SIGKILL)
    if os.getppid() != int(parent):  # it ended before we could ask
        os._exit(1)


def end_with_parent(number: int) -> None:
    """Have this process sent signal `number` when the thread that started it ends; outlives an exec of another program."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
