"""Children that do not outlive their parent, whatever ends it: Linux tells them by a signal."""

import ctypes
import os
import signal
import sys


def die_with_parent() -> None:
    """Be killed when the process that started this one ends. To be called first thing in a child, with DAYRUN_PARENT set."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(os.environ["DAYRUN_PARENT"]):  # it ended before we could ask
        os._exit(1)
