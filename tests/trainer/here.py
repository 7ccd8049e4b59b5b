"""Training in the test's own process: for tests about state and files, which need no second start of torch."""

import signal
from typing import Any

from dayrun.run_folder import RunFolder
from trainer.__main__ import train
from trainer.faults import StopSignal
from trainer.world import leave


def train_here(recipe: dict[str, Any], folder: RunFolder) -> int:
    """Train in this process, as the trainer's own `main` does but for its output and its signals; the exit code."""
    folder.put_recipe(recipe)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)}
    try:
        return train(f"{folder.prefix.url}/recipe.json", folder, folder.newest_attempt() + 1, 0, StopSignal())
    finally:
        leave()
        for number, handler in handlers.items():
            signal.signal(number, handler)
