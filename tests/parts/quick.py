"""`python -m tests.parts.quick api|worker`: the product's own processes, with a training that takes no time and writes down that it began.

The local launcher is the real one, with its folders, locks and processes; only the program that it starts is another.
"""

import sys
from typing import Any

from service import api, launchers, worker
from service.launchers import chosen
from service.launchers.local import LocalLauncher
from service.settings import Settings

ENDED = '{"time":%s,"attempt":%s,"step":60,"type":"ended","data":{"outcome":"succeeded"}}'
TRAINING = """
echo "$DAYRUN_RUN $DAYRUN_ATTEMPT" >> "$1"
mkdir -p "$2/events"
printf "$3\\n" "$(date +%s)" "$DAYRUN_ATTEMPT" > "$2/events/$(printf %04d "$DAYRUN_ATTEMPT")-000000000.jsonl"
"""


class QuickLauncher(LocalLauncher):
    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._written = settings.root / "launched"

    def manifest(self, order: launchers.Order) -> dict[str, Any]:
        command = ["sh", "-c", TRAINING, "training", str(self._written), order.folder, ENDED]
        return super().manifest(order) | {"command": command}


if __name__ == "__main__":
    chosen.LocalLauncher = QuickLauncher
    {"api": api, "worker": worker}[sys.argv[1]].main()
