"""A report on paper: printed by the Chromium of this machine. Nothing is loaded: the page has everything in it."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE_SECONDS = 180


class NotPrinted(Exception):
    """No PDF was written; the message says why, and what to do."""


def browser() -> str:
    """The Chromium to print with: CHROMIUM, else the first of PATH. Raises NotPrinted."""
    named = os.environ.get("CHROMIUM")
    found = shutil.which(named) if named else next(filter(None, map(shutil.which, NAMES)), None)
    if found:
        return found
    if named:
        raise NotPrinted(f"CHROMIUM={named}: there is no such program; name a Chromium or Chrome, or unset it to take one from PATH")
    raise NotPrinted(
        f"a PDF is printed by Chromium, and none of {', '.join(NAMES)} is in PATH: install it (Debian: apt-get install chromium), "
        "or set CHROMIUM=/path/to/it"
    )


def print_page(html: Path, pdf: Path) -> None:
    """Write `html` as a PDF, A4 as its style sheet says. Raises NotPrinted."""
    program = browser()
    with tempfile.TemporaryDirectory(prefix="dayrun-report-") as profile:
        command = [
            program,
            "--headless",
            "--disable-gpu",
            "--no-pdf-header-footer",
            f"--user-data-dir={profile}",
            f"--print-to-pdf={pdf.absolute()}",
            html.absolute().as_uri(),
        ]
        if hasattr(os, "geteuid") and os.geteuid() == 0:  # it refuses to be root with a sandbox; the page is ours and runs no script
            command.insert(1, "--no-sandbox")
        pdf.unlink(missing_ok=True)  # what is there afterwards is what was printed now
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotPrinted(f"{program} did not print: {error}") from error
    if done.returncode != 0 or not pdf.is_file():
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise NotPrinted(f"{program} did not print (exit code {done.returncode}): {last}")
