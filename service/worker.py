"""`python -m service.worker`: a worker process: Celery's consumer of hints, and the chores in a thread beside it.

Any number of workers may run. On SIGTERM one frees the run that it looks at, and ends.
"""

import signal
import sys

from dayrun import json_logs, tracing
from service.parent import die_with_parent
from service.tasks import app, worker


def main() -> None:
    die_with_parent()
    json_logs.begin()
    tracing.begin("worker")
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))  # until Celery takes it over
    shared = worker()
    shared.run(shared.begin_chores())  # before the broker is asked for: runs are looked after without it
    try:
        quiet = ["--quiet"] if json_logs.is_wanted() else []  # a banner is no line of JSON
        app.worker_main(
            [*quiet, "worker", "--pool=solo", "--loglevel=WARNING", "--without-mingle", "--without-gossip", "--without-heartbeat"]
        )
    finally:
        shared.run(shared.end_chores())
        tracing.end()


if __name__ == "__main__":
    main()
