"""Whatever is sent, what comes back is in the document: schemathesis makes the requests and judges the answers."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")


def judged(url: str, examples: int) -> int:
    """Cases of one run over all operations, with at most `examples` invented ones each; fails where a check does."""
    program = Path(sys.executable).with_name("schemathesis")
    flags = ["--no-color", "--seed", "1", "--max-examples", str(examples), "--generation-database", "none"]
    command = [program, "--config-file", CONFIGURATION, "run", f"{url}/openapi.json", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = re.search(r"(\d[\d,]*) generated, (\d[\d,]*) passed", done.stdout)
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr
    assert found, done.stdout[-3000:]
    return int(found[1].replace(",", ""))


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_thousands_of_requests_get_what_the_document_says(url: str):
    assert judged(url, examples=70) >= 5000
