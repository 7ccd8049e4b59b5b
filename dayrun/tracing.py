"""Spans of OpenTelemetry, where `DAYRUN_OTLP_ENDPOINT` asks for them; without it nothing is imported and every call is an empty one.

One trace goes from a request through the worker and the launcher to the trainer's first step. Between processes it travels as W3C
`traceparent`: a header of the request and of the hint, the variable TRACEPARENT of what is launched. Sampling, headers, certificates and
batching are the SDK's own variables (OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS, …). A collector that is away costs spans, never work.
"""

import os
import re
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

ENDPOINT = "DAYRUN_OTLP_ENDPOINT"
TRACEPARENT = "TRACEPARENT"
FORM = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
"""Version 0 of W3C's traceparent: trace, span, flags."""
NOTHING = re.compile("0+")
END_SECONDS = 2.0
"""How long a process that ends waits for the collector."""

Kind = Literal["internal", "server", "producer", "consumer"]
About = Mapping[str, str | int | float | None]
"""Attributes by OpenTelemetry's names for what it has names for, by dayrun.… for the rest."""
_provider: Any = None
_tracer: Any = None


def begin(part: str, **about: str | int) -> None:
    """From now on this process makes spans, if the environment names a collector. `about`: attributes of all of them, as resource.

    part: api, worker, trainer. Raises ModuleNotFoundError, with what to install, where the SDK is missing.
    """
    global _provider, _tracer
    endpoint = os.environ.get(ENDPOINT)
    if not endpoint or _tracer is not None:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        because = f"{ENDPOINT}={endpoint}: traces need {error.name}, which is not installed: "
        raise ModuleNotFoundError(because + "pip install opentelemetry-exporter-otlp-proto-http, or leave the setting out") from error
    from dayrun import __version__

    names = {f"dayrun.{name}": value for name, value in about.items()}
    resource = Resource.create({"service.namespace": "dayrun", "service.name": f"dayrun-{part}", "service.version": __version__, **names})
    _provider = TracerProvider(resource=resource, shutdown_on_exit=False)  # `end` waits for so long and no longer
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")))
    _tracer = _provider.get_tracer("dayrun", __version__)


def end() -> None:
    """Send what is still here, if that takes no longer than two seconds."""
    if _provider is not None:
        # in a thread of its own: the SDK takes a limit and does not keep it
        sending = threading.Thread(target=_provider.force_flush, name="last spans", daemon=True)
        sending.start()
        sending.join(END_SECONDS)


def is_on() -> bool:
    """Whether this process makes spans."""
    return _tracer is not None


class Span:
    """A stretch of work that goes on. All that is done to it is forgotten where no spans are made."""

    def __init__(self, span: Any = None) -> None:
        self._span = span

    def name(self, name: str) -> None:
        """Call it `name`, from a small set: ids go into `set`."""
        if self._span is not None:
            self._span.update_name(name)

    def set(self, about: About) -> None:
        """Attributes by their names; those without a value are left out."""
        if self._span is not None:
            self._span.set_attributes(without_none(about))

    def failed(self, because: str) -> None:
        """Mark it as an error."""
        if self._span is not None:
            from opentelemetry.trace import Status, StatusCode

            self._span.set_status(Status(StatusCode.ERROR, because))


EMPTY = Span()


@contextmanager
def span(
    name: str, parent: str | None = None, about: About | None = None, *, kind: Kind = "internal", since: float | None = None
) -> Generator[Span]:
    """What happens in this block, as a child of `parent` (a traceparent), or of the block around it in this process.

    A block of the same trace is closer than `parent` and wins. since: seconds since the epoch, for what began before. An exception that
    leaves the block is recorded, and goes on.
    """
    if _tracer is None:
        yield EMPTY
        return
    from opentelemetry.trace import SpanKind

    begun = None if since is None else int(since * 1e9)
    kinds = SpanKind[kind.upper()]
    with _tracer.start_as_current_span(name, _context(parent), kinds, without_none(about or {}), start_time=begun) as one:
        yield Span(one)


def _context(parent: str | None) -> Any:
    """The context that a child of `parent` begins in; None: the present one."""
    found = parsed(parent)
    if found is None or found[0] == trace_id():
        return None
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    trace, span_id, flags = found
    context = SpanContext(int(trace, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
    return set_span_in_context(NonRecordingSpan(context))


def without_none(about: About) -> dict[str, str | int | float]:
    return {name: value for name, value in about.items() if value is not None}


def parsed(traceparent: str | None) -> tuple[str, str, str] | None:
    """(trace, span, flags) of a W3C traceparent; None for one that is none, whoever sent it."""
    match = FORM.fullmatch(traceparent or "")
    if match is None or NOTHING.fullmatch(match[1]) or NOTHING.fullmatch(match[2]):
        return None
    return match[1], match[2], match[3]


def traceparent() -> str | None:
    """Of the span that goes on here, for whoever goes on with it elsewhere; None without one."""
    if _tracer is None:
        return None
    from opentelemetry.trace import get_current_span

    context: Any = get_current_span().get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}" if context.is_valid else None


def trace_id() -> str | None:
    """Of the span that goes on here, as 32 hexadecimal digits; None without one."""
    found = parsed(traceparent())
    return found[0] if found else None


class Start:
    """A process's way to its first result: one span from `since` on, whose children are its steps, each from the end of the one before.

    All of it is sent when it ends, since a span of a process that is killed never arrives: nothing here is open for longer than a start.
    """

    def __init__(self, name: str, parent: str | None, since: float) -> None:
        self._name, self._parent, self._since = name, parent, since
        self._steps: list[tuple[str, float]] = []
        self._is_over = False

    def done(self, step: str) -> None:
        """What was done since the last call, or since the begin, is called `step`. Nothing after the end."""
        if not self._is_over:
            self._steps.append((step, time.time()))

    def end(self, error: str | None = None) -> None:
        """It ended with the last `done`, or now by `error`. Once."""
        if self._is_over or _tracer is None:
            return
        self._is_over = True
        with span(self._name, self._parent, since=self._since) as whole:
            at = self._since
            for step, until in self._steps:
                _tracer.start_span(step, start_time=int(at * 1e9)).end(int(until * 1e9))
                at = until
            if error is not None:
                whole.failed(error)
