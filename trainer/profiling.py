"""A trace of a few steps on request: what each operator and kernel took, for chrome://tracing or Perfetto, in the run folder."""

import tempfile
from pathlib import Path

from torch.profiler import ProfilerActivity, profile

from dayrun.run_folder import RunFolder
from trainer.parallel import World

STEPS = 5
"""How many steps a trace covers: enough to see what repeats, small enough to open."""


class Profiler:
    """Started by `start`, told of every step; one rank of each node records, since the ranks of a node look much alike."""

    def __init__(self, folder: RunFolder, world: World) -> None:
        self._folder, self._world = folder, world
        self._left = 0
        self._trace: profile | None = None

    def start(self) -> None:
        """Record the next steps; while a recording lasts, nothing new begins."""
        if self._left:
            return
        self._left = STEPS
        if self._world.leads_node:
            cuda = [ProfilerActivity.CUDA] if self._world.device.type == "cuda" else []
            self._trace = profile(activities=[ProfilerActivity.CPU, *cuda])
            self._trace.start()

    def stepped(self, step: int) -> str | None:
        """After every step; the place of the trace once it is there, on the ranks that recorded. Raises OSError as the store does."""
        if not self._left:
            return None
        self._left -= 1
        if self._left or self._trace is None:
            return None
        trace, self._trace = self._trace, None
        trace.stop()
        key = self._folder.profile_key(step, self._world.rank)
        with tempfile.TemporaryDirectory() as place:
            file = Path(place) / "trace.json.gz"
            trace.export_chrome_trace(str(file))
            self._folder.prefix.put_file(key, file)
        return key
