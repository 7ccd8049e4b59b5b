"""Traces cost nothing where nobody asked for them, and hold nobody up where nobody takes them."""

import socket
import subprocess
import sys

import pytest

from dayrun import tracing
from tests.conftest import PATIENCE_SECONDS, ROOT, without_settings

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {**without_settings(), "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([sys.executable, "-c", code], env=known, capture_output=True, text=True, timeout=PATIENCE_SECONDS)


def test_without_a_collector_nothing_is_imported_and_nothing_is_told():
    done = python(
        "import sys\n"
        "from dayrun import tracing\n"
        "tracing.begin('api')\n"
        "with tracing.span('one', None, {'a': 1}) as span:\n"
        "    span.set({'b': 2})\n"
        "    assert tracing.traceparent() is None\n"
        "start = tracing.Start('start', None, 0.0)\n"
        "start.done('import'); start.end(); tracing.end()\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry', 'requests'))])\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_a_collector_that_never_answers_does_not_keep_a_process_from_ending():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        done = python(
            "import os\n"
            "from dayrun import tracing\n"
            "tracing.begin('trainer', rank=0)\n"
            "with tracing.span('one'):\n"
            "    print(len(tracing.traceparent()))\n"
            "tracing.end()\n"
            "print('over', flush=True)\n"
            "os._exit(0)\n",
            DAYRUN_OTLP_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}",
            OTEL_EXPORTER_OTLP_TIMEOUT="3600",
        )
    assert done.stdout == "55\nover\n", done.stderr


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"00-{TRACE}-{SPAN}-01", (TRACE, SPAN, "01")),
        (f"00-{TRACE}-{SPAN}-00", (TRACE, SPAN, "00")),  # not sampled: and whoever goes on with it does not either
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}-01\n", None),
        ("", None),
        (None, None),
    ],
)
def test_a_traceparent_is_taken_as_w3c_has_it_or_not_at_all(text: str | None, found: tuple[str, str, str] | None):
    assert tracing.parsed(text) == found
