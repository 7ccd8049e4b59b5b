"""Log lines as JSON, one object a line, where `DAYRUN_LOG_FORMAT=json` asks for them: what a log store takes without parsing.

Each line says of what it is: `run`, `attempt`, `rank`, `request_id` where they are known, and `trace_id`, `span_id` where spans are made
(`tracing.py`). What is true of all lines of a piece of work is said once, by `about`.
"""

import json
import logging
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from dayrun import tracing

FORMAT = "DAYRUN_LOG_FORMAT"
FIELDS = "dayrun_fields"
"""Of a log record: fields of its line alone."""
_about: ContextVar[dict[str, Any]] = ContextVar("log_fields", default={})  # noqa: B039  (it is replaced, never changed)


def is_wanted() -> bool:
    return os.environ.get(FORMAT) == "json"


def begin() -> None:
    """From now on this process logs to stderr as JSON, if the environment asks for that; also what ends it by an exception."""
    if not is_wanted():
        return
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("dayrun").setLevel(logging.INFO)
    logging.captureWarnings(True)
    sys.excepthook = last_words


def last_words(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("dayrun").critical("%s: %s", kind.__name__, error, exc_info=(kind, error, trace))


@contextmanager
def about(**fields: Any) -> Generator[None]:
    """Lines that are logged in this block, and in what it calls, are about these."""
    token = _about.set({**_about.get(), **fields})
    try:
        yield
    finally:
        _about.reset(token)


def fields(**more: Any) -> dict[str, Any]:
    """`extra` of one log call: fields of its line alone."""
    return {FIELDS: more}


def instant(seconds: float) -> str:
    """RFC 3339, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": instant(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= _about.get() | getattr(record, FIELDS, {})
        if (found := tracing.parsed(tracing.traceparent())) is not None:
            line |= {"trace_id": found[0], "span_id": found[1]}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps({name: value for name, value in line.items() if value is not None}, default=str, ensure_ascii=False)
