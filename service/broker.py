"""The queue of hints: Celery on the broker of the settings, and how a hint is sent. What is done with one: `tasks.py`."""

from typing import Any

# Celery brings no types
from celery import Celery  # pyright: ignore[reportMissingTypeStubs]
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from service import queue
from service.hints import HINT_SECONDS
from service.settings import Settings

TRACE = "traceparent"
"""Header of a hint."""


def make_celery(settings: Settings) -> Any:
    """The Celery app, on the broker of the settings or on a folder below the service's home."""
    app: Any = Celery("dayrun")
    app.conf.update(
        **(redis_broker(settings) if settings.broker else folder_broker(settings)),
        task_ignore_result=True,
        worker_hijack_root_logger=False,
        worker_enable_remote_control=False,
        worker_prefetch_multiplier=1,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # a worker outlives its broker, however long that is away
    )
    return app


def folder_broker(settings: Settings) -> dict[str, Any]:
    folder = settings.queue_folder
    messages = folder / "messages"
    messages.mkdir(parents=True, exist_ok=True)
    options = {
        "data_folder_in": str(messages),
        "data_folder_out": str(messages),
        "control_folder": str(folder / "control"),
        "polling_interval": 0.05,
    }
    return {"broker_url": f"{queue.SCHEME}://localhost//", "broker_transport_options": options}


def redis_broker(settings: Settings) -> dict[str, Any]:
    """Redis or Valkey, through kombu."""
    wait = settings.broker_wait_seconds
    options = {
        "visibility_timeout": 60,  # a hint that a killed worker had taken comes again; by then it has expired, and is dropped
        "priority_steps": [0],  # one list a queue: hints have no priorities, and each step would be one more list to watch
        "socket_connect_timeout": wait,
        "socket_timeout": 5 + wait,  # above the seconds for which a worker's read waits for a hint
        "max_retries": 1,
        "interval_start": 0,
        "interval_step": 0,
        "interval_max": 0,
        "connect_retries_timeout": wait,
    }
    return {"broker_url": settings.broker, "broker_connection_timeout": wait, "broker_transport_options": options}


def send_hint(app: Any, run_id: str, trace: str | None = None) -> bool:
    """Ask a worker to look at a run now; False when the broker did not take it. Costs time only: the sweep comes anyway.

    trace: the traceparent of whoever asks, for the look to be a part of that trace.
    """
    again = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}  # a connection that idled may be dead
    try:
        headers = {TRACE: trace} if trace else None
        app.send_task("look", args=[run_id], headers=headers, expires=HINT_SECONDS, ignore_result=True, retry=True, retry_policy=again)
    except (OperationalError, RedisError, OSError):
        return False
    return True
