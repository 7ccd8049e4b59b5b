"""A trace of a few steps on request: what each operator and kernel took, for chrome://tracing or Perfetto, in the run folder."""

import sys
import tempfile
from pathlib import Path

from torch.profiler import ProfilerActivity, profile

from dayrun.run_folder import RunFolder
from trainer.telemetry import Telemetry
from trainer.world import World

STEPS = 5
"""How many steps a trace covers: enough to see what repeats, small enough to open."""


class Profiler:
    """Told of every step; one rank of each node records, since the ranks of a node look much alike."""

    def __init__(self, folder: RunFolder, world: World, telemetry: Telemetry) -> None:
        self._folder, self._world, self._telemetry = folder, world, telemetry
        self._left = 0
        self._trace: profile | None = None

    def stepped(self, step: int, asked: bool) -> None:
        """After every step, on every rank. `asked` records the next ones, unless a recording lasts; a trace that is done is kept."""
        if self._left:
            self._left -= 1
            if not self._left and self._trace is not None:
                self._keep(step, self._trace)
                self._trace = None
        elif asked:
            self._left = STEPS
            if self._world.leads_node:
                cuda = [ProfilerActivity.CUDA] if self._world.device.type == "cuda" else []
                self._trace = profile(activities=[ProfilerActivity.CPU, *cuda])
                self._trace.start()

    def _keep(self, step: int, trace: profile) -> None:
        trace.stop()
        key = self._folder.profile_key(step, self._world.rank)
        try:
            with tempfile.TemporaryDirectory() as place:
                file = Path(place) / "trace.json.gz"
                trace.export_chrome_trace(str(file))
                self._folder.prefix.put_file(key, file)
        except OSError as error:  # a trace is no reason to stop
            print(f"the profile could not be kept: {error}", file=sys.stderr, flush=True)
            return
        self._telemetry.event("profiled", step, steps=STEPS, file=key)
