"""Hints on their way to the broker: sent by one thread, so that a broker that is slow or away holds up no request and piles up nothing.

A hint says that a run is worth a look now. It may be lost: the row in the outbox, written with the change that it tells of, is looked at
by the next sweep all the same.
"""

import logging
import threading
import time
from collections import OrderedDict

from dayrun import tracing
from service.settings import Settings

MOST = 1000
"""Runs that may wait for the broker; beyond them the oldest hints are dropped."""
PER_SECOND = 10
"""Hints that one process sends at most. A single run is looked at at once; a hundred that come together are found by the next sweep, and
to tell Celery of each would cost a request more than all the rest of it."""
HINT_SECONDS = 30
"""After which the broker drops one: a late hint is worth nothing, the sweep has been there."""
log = logging.getLogger("dayrun")


class Hints:
    """Put a run's id in and forget it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._due: OrderedDict[str, str | None] = OrderedDict()  # run → the trace that asks; a run that is due twice needs one look
        self._changed = threading.Condition()
        self._open = True
        self._broker_answers = True
        threading.Thread(target=self._send_all, name="hints", daemon=True).start()

    def put(self, run_id: str) -> None:
        """Never waits."""
        trace = tracing.traceparent()
        with self._changed:
            self._due[run_id] = trace
            if len(self._due) > MOST:
                self._due.popitem(last=False)
            self._changed.notify()

    def __len__(self) -> int:
        return len(self._due)

    def close(self) -> None:
        """Send nothing any more."""
        with self._changed:
            self._open = False
            self._changed.notify()

    def _send_all(self) -> None:
        queue = None
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._due or not self._open)
                if not self._open:
                    return
                run_id, trace = self._due.popitem(last=False)
            # with the first hint: Celery takes as long to import as half of all else, and an API that starts is waited for
            from service.broker import make_celery, send_hint

            queue = queue or make_celery(self._settings)
            begun = time.monotonic()
            answers = send_hint(queue, run_id, trace)
            if answers != self._broker_answers:
                log.warning("the broker %s", "takes hints again" if answers else "takes no hints: runs wait for the next sweep")
            self._broker_answers = answers
            with self._changed:
                self._changed.wait_for(lambda: not self._open, max(0.0, begun + 1 / PER_SECOND - time.monotonic()))
