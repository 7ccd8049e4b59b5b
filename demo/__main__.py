"""`make demo`: data, service, `POST /runs` of the recipe `demo`, a progress bar, and at the end pictures and honest scores.

It is a user of the service like any other: everything it does goes through the HTTP API, except drawing the contact sheet and scoring.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.markup import escape

from dayrun import builtin
from dayrun.client import Client, Run, ServiceError, Unreachable
from dayrun.sheet import Row, gallery, progress_sheet, read
from dayrun.show import duration, watch

ROOT = Path(__file__).resolve().parents[1]
STAGE = builtin.get("demo")["stages"][0]
PIXELS, BATCH = STAGE["pixels"], STAGE["batch_size"]
SPEED_STEPS = 60
LEAST_STEPS = 60
LONGEST_MINUTES = 240.0
MOST_PROCESSES = 4
console = Console(width=None if sys.stdout.isatty() else 120)


class Stopped(Exception):
    """The demo cannot go on; the message says why and what to do."""


def main() -> int:
    options = parse()
    os.environ["DAYRUN_HOME"] = str(options.home)
    begun = time.monotonic()
    try:
        data = prepare_data(options.home)
        with service(options.home) as client:
            console.print(f"service: {client.url}")
            processes = min(MOST_PROCESSES, 1 << (os.cpu_count() or 1).bit_length() - 1)
            speed = measure_speed(client, processes)
            steps = max(LEAST_STEPS, 10 * round(options.minutes * 6 * speed / BATCH))  # a multiple of ten: previews come at each tenth
            console.print(f"speed:   {speed:.0f} images/s here, so {options.minutes:g} minutes are {steps} steps of {BATCH} images")
            run = client.create_run("demo", overrides=overrides(steps, processes, data, options.prompts), labels={"made-by": "make demo"})
            console.print(f"run:     {run.id}\n\n  Watch it learn: [bold]{client.url}/#/runs/{run.id}[/bold]\n")
            asked = time.monotonic()
            run = finished(client, watch(client, run.id, console))
            times = [at for _, _, at in client.metrics(run.id, ["loss"])["loss"]]
            spent, whole = (times[-1] - times[0]).total_seconds(), time.monotonic() - asked
            console.print(f"trained: {len(times)} steps in {duration(spent)}; with its start and the scored pictures {duration(whole)}")
            show(client, run, data, options.home)
    except (Stopped, Unreachable, ServiceError) as error:
        console.print(f"[red]demo:[/red] {escape(str(error))}")
        return 1
    except KeyboardInterrupt:
        console.print("\nstopped; what was begun is kept, and `make demo` starts from the data that are there")
        return 130
    console.print(f"\nThe whole demo took {duration(time.monotonic() - begun)}. {NEXT.format(home=options.home)}")
    return 0


NEXT = """What to try next:
  make demo PROMPTS='a fox on a yellow background;a red apple on a white background'   draw your own
  make demo MINUTES=30                                                               let it learn for longer
  .venv/bin/dayrun serve --home {home}                          look at the run again, in the page
  .venv/bin/dayrun recipe show demo > mine.json                                      a recipe of your own, then `dayrun run mine.json`
  docs/quickstart.md                                                                 the same, by curl"""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=(__doc__ or "").splitlines()[0])
    home = os.environ.get("DAYRUN_HOME") or Path.home() / ".dayrun"
    parser.add_argument("--minutes", type=float, default=9.25, help="minutes of training (default 9.25)")
    parser.add_argument("--prompts", default="", help="more prompts to draw, with semicolons between them")
    parser.add_argument("--home", type=Path, default=home, help=f"folder for data, runs and pictures (default {home})")
    options = parser.parse_args()
    if not 0.1 <= options.minutes <= LONGEST_MINUTES:
        parser.error(f"MINUTES={options.minutes:g}: between 0.1 and {LONGEST_MINUTES:g}")
    options.home = options.home.expanduser().absolute()
    options.prompts = [prompt.strip() for prompt in options.prompts.split(";") if prompt.strip()]
    return options


def prepare_data(home: Path) -> Path:
    """The demo's data; in a process of its own, since the text tower's memory is not needed again."""
    folder = home / "data" / f"fluent-emoji-{PIXELS}"
    done = subprocess.run([sys.executable, "-m", "demo.data", "--out", str(folder), "--pixels", str(PIXELS)], cwd=ROOT, check=False)
    if done.returncode:
        raise Stopped("the data could not be made; the lines above say why. What was fetched is kept: try again")
    return folder


@contextmanager
def service(home: Path):
    """A client of the service on `home`: one that runs already, or one that is started here and stopped at the end."""
    try:
        client = Client(json.loads((home / "serve.json").read_text())["url"])
        client.recipes()
        yield client
        return
    except (OSError, ValueError, Unreachable):
        pass
    started = subprocess.Popen(
        [sys.executable, "-m", "service", "--home", str(home), "--port", str(port())], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert started.stdout is not None
        line = started.stdout.readline()
        if "ready" not in line:
            raise Stopped("the service did not start; the line above says why")
        yield Client(line.split()[-1])
    finally:
        started.terminate()
        started.wait()


def port() -> int:
    """The usual port, or 0 for any when that is taken."""
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", 8765))
        except OSError:
            return 0
    return 8765


def hardware(processes: int) -> dict[str, object]:
    return {"processes_per_node": processes, "threads_per_process": max(1, (os.cpu_count() or 1) // processes)}


def measure_speed(client: Client, processes: int) -> float:
    """Images/s of a short run of the same recipe: how many steps fit into the minutes depends on the machine."""
    console.print("speed:   a short run measures this machine", highlight=False)
    short = {
        "description": "How fast is this machine?",
        "stages": [{**STAGE, "name": "speed", "steps": SPEED_STEPS}],
        "schedule": {"warmup_steps": 0},
        "samples": {"sets": []},
        "hardware": hardware(processes),
    }
    run = client.create_run("demo", overrides=short, labels={"made-by": "make demo", "purpose": "speed"})
    *_, run = client.follow(run.id)
    finished(client, run)
    rates = [value for _, value, _ in client.metrics(run.id, ["images_per_second"])["images_per_second"]]
    return sorted(rates)[len(rates) // 2]  # the first steps warm up, and a short run feels every disturbance


def overrides(steps: int, processes: int, data: Path, prompts: list[str]) -> dict[str, object]:
    """The built-in recipe, with as many steps as there is time for and the prompts that are scored."""
    preview = builtin.get("demo")["samples"]["sets"][0]
    rows = json.loads((data / "prompts.json").read_text())
    score = [row["prompt"] for kind in ("held_out", "trained", "held_out_objects") for row in rows[kind]]
    sets = [
        {**preview, "every": max(10, steps // 10)},
        {"name": "score", "prompts": score, "seed": 5000, "at_start": True, "at_end": True},
    ]
    if prompts:
        sets.insert(1, {"name": "yours", "prompts": prompts, "seed": 9000, "every": max(10, steps // 10), "at_end": True})
    return {
        "stages": [{**STAGE, "steps": steps}],
        "schedule": {"warmup_steps": min(100, steps // 4)},
        "samples": {"sets": sets},
        "checkpoints": {"every": max(20, steps // 8)},
        "hardware": hardware(processes),
    }


def finished(client: Client, run: Run) -> Run:
    """`run` once it has succeeded. Raises Stopped with its cause and evidence."""
    if run.state != "succeeded":
        log = "\n  ".join(["", *run.evidence])
        raise Stopped(f"{run.id} ended as {run.state}, cause {run.cause}:{log}\nits log: dayrun logs {run.id}")
    return run


def show(client: Client, run: Run, data: Path, home: Path) -> None:
    """Contact sheets, scores beside their controls, and where they are."""
    from demo.score import score, table, to_json

    pictures: dict[tuple[str, int], dict[str, Image.Image]] = {}
    for one in client.samples(run.id):
        pictures.setdefault((one.set, one.step), {})[one.prompt] = read(client.picture(one))
    last = run.progress.total_steps
    out = home / "demo" / run.id
    out.mkdir(parents=True, exist_ok=True)
    sheet = out / "contact-sheet.png"
    names = [name for name in ("preview", "yours") if (name, last) in pictures]
    steps = sorted({step for name, step in pictures if name in names})
    rows = [
        Row(prompt, {f"step {s}": pictures[name, s][prompt] for s in steps if prompt in pictures.get((name, s), {})})
        for name in names
        for prompt in pictures[name, last]
    ]
    progress_sheet("dayrun demo: the same prompts while the model learns", rows, [f"step {step}" for step in steps]).save(sheet)
    prompts = json.loads((data / "prompts.json").read_text())
    unseen = [(row["prompt"], pictures["score", last][row["prompt"]]) for row in prompts["held_out"]]
    gallery("dayrun demo: pairs of object and background that were never in the training data", unseen[:40]).save(out / "held-out.png")
    console.print("scores:  comparing with real pictures (half a minute)")
    found = score(data, {f"trained, {last} steps": pictures["score", last], "untrained": pictures["score", 0]})
    (out / "scores.json").write_text(to_json(found))
    console.print(f"\n{table(found)}\n", highlight=False, markup=False)
    console.print(f"pictures: [bold]{sheet}[/bold]\n          {out / 'held-out.png'}", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
