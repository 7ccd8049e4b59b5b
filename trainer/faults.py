"""What goes wrong, by name: the stop signal, and from an exception the cause that the run's end is recorded with."""

import errno
import signal
import traceback
from types import FrameType

import torch

from dayrun.objects import StoreError
from dayrun.rules import RecipeErrors
from dayrun.run_folder import Cause
from trainer.data.cache import CacheFull
from trainer.text import TowerError


class StopSignal:
    """Set by SIGTERM or SIGINT. Installed first thing: a process with pid 1 ignores both unless it handles them itself.

    SIGUSR1 asks for a checkpoint after this step, SIGUSR2 for a profile of the next ones: one signal to any rank, all of them do it.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self.checkpoint_asked = False
        self.profile_asked = False
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, self._receive)

    def __bool__(self) -> bool:
        return self.name is not None

    def take_wishes(self) -> tuple[bool, bool]:
        """(checkpoint now, profile): what was asked for since the last call."""
        taken = self.checkpoint_asked, self.profile_asked
        self.checkpoint_asked = self.checkpoint_asked and not taken[0]
        self.profile_asked = self.profile_asked and not taken[1]
        return taken

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGUSR1:
            self.checkpoint_asked = True
        elif number == signal.SIGUSR2:
            self.profile_asked = True
        else:
            self.name = signal.Signals(number).name


class DataFault(Exception):
    """The training data cannot be used as they are; the message names file and offset."""


class DivergedError(Exception):
    """Loss or gradients are no longer numbers."""


class StorageFault(Exception):
    """The run folder could not be written and the recipe says to stop then."""


class PeerLostError(Exception):
    """Another rank went away. Its fault, not ours: the cause is told by whoever saw that rank end."""


def cause_of(error: BaseException) -> Cause | None:
    """The typed cause of an exception that ended the training, or None where another rank is to blame."""
    text = str(error)
    if isinstance(error, RecipeErrors | TowerError):
        return "spec"
    if isinstance(error, DataFault):
        return "data"
    if isinstance(error, DivergedError):
        return "diverged"
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in text:
        return "oom"
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    if full or isinstance(error, StorageFault | StoreError | CacheFull):
        return "storage"
    if isinstance(error, torch.distributed.DistBackendError) or "gloo" in text.lower() or "nccl" in text.lower():
        return "nccl_timeout" if "timed out" in text.lower() or "timeout" in text.lower() else None
    if "CUDA error" in text:
        return "gpu_fault"
    return "unknown"


def evidence_of(error: BaseException, lines: int = 8) -> list[str]:
    """The last lines of the traceback: what a person would look for in the log."""
    return "".join(traceback.format_exception(error)).rstrip().splitlines()[-lines:]
