"""A service's home with more than anybody could train in a test: runs as rows, their curves, and pictures in a run folder."""

import io
import math
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from sqlalchemy import Engine, create_engine, insert, update
from sqlalchemy.orm import Session

from dayrun import builtin
from dayrun.objects import Prefix
from dayrun.rules import load
from dayrun.run_folder import RunFolder
from service.database import new_id, now
from service.revisions import bring_up_to_date, sync_url
from service.runs.states import State
from service.runs.tables import MetricRow, RunRow
from service.settings import Settings

NAMES = ("baseline", "muon", "tread", "repa", "contrastive")
LATELY = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
OVER = (State.SUCCEEDED, State.SUCCEEDED, State.SUCCEEDED, State.FAILED, State.CANCELLED)
TOTAL_STEPS = 2600


def fill(home: Path, runs: int, prompts: int = 0, steps: int = 0) -> list[str]:
    """`runs` runs that are over in a new database, newest last; the newest has `prompts` × `steps` pictures and three curves.

    Returns their ids.
    """
    settings = Settings(home=home)
    bring_up_to_date(settings, False)
    engine = create_engine(sync_url(settings))
    ids = sorted(new_id("run") for _ in range(runs))
    recipe = load(builtin.get("demo")).model_dump(mode="json")
    with Session(engine) as session:
        for begin in range(0, runs, 1000):
            session.execute(insert(RunRow), [row(ids[i], i, recipe) for i in range(begin, min(runs, begin + 1000))])
        session.commit()
    if prompts and steps:
        curves(engine, ids[-1])
        pictures(RunFolder(Prefix(settings.run_url(ids[-1]))), prompts, steps)
    engine.dispose()
    return ids


def row(run_id: str, number: int, recipe: dict[str, Any]) -> dict[str, Any]:
    at = LATELY + timedelta(minutes=number)
    state = OVER[number % len(OVER)]
    return {
        "id": run_id,
        "name": f"{NAMES[number % len(NAMES)]}-{number:05d}",
        "labels": {"team": "vision", "sweep": str(number // 100)},
        "recipe": recipe,
        "total_steps": TOTAL_STEPS,
        "world_size": 1,
        "dollars_per_accelerator_hour": 2.0,
        "state": state,
        "cause": "data" if state == State.FAILED else None,
        "evidence": [],
        "created_at": at,
        "started_at": at,
        "ended_at": at + timedelta(hours=1),
        "updated_at": at,
        "attempt": 1,
        "step": TOTAL_STEPS,
        "stage": "32px",
        "loss": 0.2 + number % 17 / 100,
        "images_per_second": 64.0,
        "step_seconds": 0.25,
        "accelerator_seconds": 3600.0,
        "events_cursor": {},
        "metrics_cursor": {},
    }


def curves(engine: Engine, run_id: str, points: int = 10_000) -> None:
    chance = random.Random(0)
    series = {
        "loss": lambda step: 0.15 + 0.9 * math.exp(-step / 1500) + 0.04 * chance.random(),
        "images_per_second": lambda step: 60 + 4 * chance.random(),
        "gradient_norm": lambda step: 0.5 + chance.random() / (1 + step / 1000),
    }
    with Session(engine) as session:
        for name, value in series.items():
            rows = [{"run_id": run_id, "name": name, "step": step, "value": value(step), "time": LATELY} for step in range(points)]
            session.execute(insert(MetricRow), rows)
        session.commit()


SHEET = Path(__file__).parents[2] / "docs" / "images" / "demo.png"
SHEET_LEFT, SHEET_TOP, SHEET_STRIDE, SHEET_SIDE, SHEET_STEPS, DEMO_SIDE = 185, 64, 80, 74, 277, 32
"""Where the pictures of `make demo` lie on its contact sheet, in pixels, and how many steps lie between two columns."""


def show_demo(home: Path, run_id: str, columns: int, *, running: bool) -> None:
    """Let a run of `fill` have drawn what is in the first `columns` columns of the contact sheet of `make demo`, with curves as long."""
    settings, at = Settings(home=home), (columns - 1) * SHEET_STEPS
    engine = create_engine(sync_url(settings))
    curves(engine, run_id, at)
    live = {"state": State.RUNNING, "cause": None, "ended_at": None, "created_at": now(), "started_at": now(), "step_seconds": 0.25}
    said = {"name": "demo", "total_steps": 10 * SHEET_STEPS, "step": at, **(live if running else {"state": State.SUCCEEDED, "cause": None})}
    with Session(engine) as session:
        session.execute(update(RunRow).where(RunRow.id == run_id).values(said))
        session.commit()
    engine.dispose()
    folder, prompts = RunFolder(Prefix(settings.run_url(run_id))), builtin.get("demo")["samples"]["sets"][0]["prompts"]
    with Image.open(SHEET) as opened:
        sheet = opened.convert("RGB")
    for column in range(columns):
        drawn: list[tuple[str, Image.Image]] = []
        for line, prompt in enumerate(prompts):
            left, top = SHEET_LEFT + column * SHEET_STRIDE, SHEET_TOP + line * SHEET_STRIDE
            picture = sheet.crop((left, top, left + SHEET_SIDE, top + SHEET_SIDE)).resize((DEMO_SIDE, DEMO_SIDE), Image.Resampling.BOX)
            drawn.append((prompt, picture))
        put(folder, column * SHEET_STEPS, drawn)


def put(folder: RunFolder, step: int, drawn: list[tuple[str, Image.Image]]) -> None:
    """Write the pictures of one step and their index, as a trainer does."""
    images: list[Any] = []
    for number, (prompt, picture) in enumerate(drawn):
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", compress_level=1)
        file = f"preview-{number:05d}.png"
        folder.put_sample_picture(step, file, buffer.getvalue())
        same = {"set": "preview", "seed": 1000 + number, "guidance": 1.5, "steps": 24, "ema": True}
        images.append({"file": file, "prompt": prompt, "width": picture.width, "height": picture.height, **same})
    folder.put_sample_index(
        {"step": step, "attempt": 1, "time": LATELY.timestamp(), "complete": True, "checkpoint": None, "images": images}
    )


def pictures(folder: RunFolder, prompts: int, steps: int, side: int = 64) -> None:
    """Each picture another colour, sharper with the step."""
    for at in range(steps):
        drawn: list[tuple[str, Image.Image]] = []
        for number in range(prompts):
            hue = (number * 47) % 360
            picture = Image.new("RGB", (side, side), f"hsl({(hue + 150) % 360}, 40%, 80%)")
            reach = side * (0.15 + 0.3 * at / max(1, steps - 1))
            ImageDraw.Draw(picture).ellipse(
                [side / 2 - reach, side / 2 - reach, side / 2 + reach, side / 2 + reach], f"hsl({hue}, 60%, 45%)"
            )
            drawn.append((f"a thing of colour {hue} on a pale background, number {number}", picture))
        put(folder, at * 100, drawn)
