"""The page with 10,000 runs and 5,000 pictures, in a real Chromium: how long frames take while one scrolls, slides and zooms.

Each motion is driven from requestAnimationFrame and every frame's length is noted. The limit is an empty page as tall as the list, scrolled
the same way in the same run: what browser and machine take for a frame with nothing in it. A flick of a trackpad reaches some thousand
pixels a second; the motions said to be wild are several times faster. `--runs` and `--pictures` choose how many.
"""

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser.filled import fill  # noqa: E402

SERVE = """
import socket, sys
import uvicorn
from service.app import create_app
from service.settings import Settings
uvicorn.Server(uvicorn.Config(create_app(Settings()), log_level="warning")).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])
"""
FRAMES = 240
PROMPTS = 50
MOVE = """
([frames, code]) => new Promise((resolve) => {
  const move = new Function('i', code)
  const lengths = []
  let last = null
  let i = 0
  const frame = (now) => {
    if (last !== null) lengths.push(now - last)
    last = now
    if (i >= frames) return resolve(lengths)
    move(i)
    i += 1
    requestAnimationFrame(frame)
  }
  requestAnimationFrame(frame)
})
"""
SCROLL, WILD_SCROLL = "scrollBy(0, 96)", "scrollBy(0, 480)"
SIDEWAYS = "const s = document.querySelector('.set .scroll'); s.scrollLeft = Math.abs(Math.sin(i / 180)) * s.scrollWidth"
WILD_SIDEWAYS = SIDEWAYS.replace("180", "60")
SLIDE = """
const s = document.querySelector('[data-testid=step-slider]')
s.value = Math.round(Math.abs(Math.sin(i / 40)) * Number(s.max))
s.dispatchEvent(new Event('input'))
"""
SMOOTH = """
const s = document.querySelector('[data-testid=smoothing]')
s.value = i % 7
s.dispatchEvent(new Event('input'))
"""


def moved(page: Page, code: str) -> list[float]:
    """Milliseconds of each frame while `code` moves something in every one."""
    return page.evaluate(MOVE, [FRAMES, code])


def told(what: str, frames: list[float], empty: list[float]) -> None:
    middle, late = statistics.median(frames), statistics.quantiles(frames, n=100)[98]
    limit = 2 * statistics.median(empty)
    slow = sum(one > limit for one in frames) / len(frames)
    ratio = statistics.fmean(frames) / statistics.fmean(empty)
    print(
        f"{what:34} median {middle:5.1f} ms  99 % {late:6.1f} ms  longest {max(frames):6.1f} ms  "
        f"late frames {slow:5.1%}  mean {ratio:4.2f} × the empty page's"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--pictures", type=int, default=5_000)
    options = parser.parse_args()
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if program is None:
        sys.exit("bench/page.py needs Chromium: install it, or set CHROMIUM")
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as listener:
        newest = fill(Path(name), options.runs, PROMPTS, max(1, options.pictures // PROMPTS))[-1]
        server = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(listener.fileno())],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "DAYRUN_HOME": name},
            pass_fds=[listener.fileno()],
        )
        try:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            while httpx.get(f"{url}/healthz", timeout=60).status_code != 200:
                time.sleep(0.1)
            measure(url, newest, program, options.runs)
        finally:
            server.terminate()
            server.wait()


def measure(url: str, newest: str, program: str, runs: int) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(120_000)
        page.set_content("<main></main>")
        page.evaluate("(rows) => { document.querySelector('main').style.height = `${rows * 58}px` }", runs)
        empty = moved(page, WILD_SCROLL)
        told("an empty page, scrolled", empty, empty)

        page.goto(f"{url}/#/")
        page.get_by_test_id("run-row").first.wait_for()
        told("runs, first scroll: pages load", moved(page, WILD_SCROLL), empty)
        while "so far" in (page.get_by_test_id("end").text_content() or ""):
            page.evaluate("scrollTo(0, document.body.scrollHeight)")
            page.wait_for_timeout(50)
        for how, code in (("", SCROLL), (", wild", WILD_SCROLL)):
            page.evaluate("scrollTo(0, 0)")
            told(f"{runs:,} runs, scrolled{how}", moved(page, code), empty)
        elements = page.evaluate("document.querySelectorAll('*').length")
        print(f"{'':34} rows drawn: {page.get_by_test_id('run-row').count()}, elements of the page: {elements}")

        page.goto(f"{url}/#/runs/{newest}")
        page.get_by_test_id("sample").first.wait_for()
        page.get_by_test_id("show-all").click()
        told("pictures: steps scrolled", moved(page, SIDEWAYS), empty)
        told("pictures: steps scrolled, wild", moved(page, WILD_SIDEWAYS), empty)
        page.evaluate("document.querySelector('.set').scrollIntoView()")
        told("pictures: prompts scrolled", moved(page, "scrollBy(0, 40)"), empty)
        print(f"{'':34} pictures drawn: {page.get_by_test_id('sample').count()}")
        page.evaluate("scrollTo(0, 0)")
        told("curves: smoothing moved", moved(page, SMOOTH), empty)
        page.goto(f"{url}/#/runs/{newest}/samples")
        page.get_by_test_id("sample-at").first.wait_for()
        told("pictures: the slider moved", moved(page, SLIDE), empty)
        browser.close()


if __name__ == "__main__":
    main()
