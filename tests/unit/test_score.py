"""The demo's scores, from figures to table, with the real network on simple shapes: the right picture scores 1, others near chance."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from dayrun import sheet
from demo.data import Pair, compose
from demo.objects import COLOURS
from demo.score import Row, score, table, to_json

SIDES = {"triangle": 3, "square": 4, "pentagon": 5, "disc": 60}
INKS = {"pink": (255, 120, 190), "grey": (128, 128, 128), "brown": (110, 70, 40)}
OBJECTS = [f"{ink} {shape}" for shape in SIDES for ink in INKS]
STRANGE = OBJECTS[-2:]


def figure(name: str) -> Image.Image:
    ink, shape = name.split()
    picture = Image.new("RGBA", (256, 256), (0, 0, 0, 0))
    ImageDraw.Draw(picture).regular_polygon((128, 128, 110), SIDES[shape], rotation=15, fill=(*INKS[ink], 255))
    return picture


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as demo.data leaves it: each trained object is asked for on two colours, each strange one on all."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "figures").mkdir()
    for name in OBJECTS:
        figure(name).save(folder / "figures" / f"{name}.png")
    colours = list(COLOURS)
    known = [name for name in OBJECTS if name not in STRANGE]
    kinds = {
        "trained": [Pair(name, colours[i % 8]) for i, name in enumerate(known)],
        "held_out": [Pair(name, colours[(i + 3) % 8]) for i, name in enumerate(known)],
        "held_out_objects": [Pair(name, colour) for name in STRANGE for colour in colours[:4]],
    }
    rows = {kind: [{"prompt": p.caption, "object": p.object, "colour": p.colour} for p in pairs] for kind, pairs in kinds.items()}
    (folder / "prompts.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture(scope="module")
def rows(data: Path) -> dict[tuple[str, str], Row]:
    """(kind, by) → row, for the right pictures and for pictures of another object on another colour than asked."""
    asked = [Pair(row["object"], row["colour"]) for rows in json.loads((data / "prompts.json").read_text()).values() for row in rows]
    colours = list(COLOURS)
    right = {pair.caption: compose(figure(pair.object), COLOURS[pair.colour], 32) for pair in asked}
    chance = random.Random(0)
    wrong = {
        pair.caption: compose(
            figure(chance.choice([name for name in OBJECTS if name != pair.object])),
            COLOURS[colours[(colours.index(pair.colour) + 1) % 8]],
            32,
        )
        for pair in asked
    }
    return {(row.kind, row.by): row for row in score(data, {"right": right, "wrong": wrong})}


KINDS = ["trained", "held_out", "held_out_objects"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_real_picture_scores_one(rows: dict[tuple[str, str], Row], kind: str):
    row = rows[kind, "right"]
    assert (row.recall_at_1, row.recall_at_5, row.colour) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_of_something_else_is_neither_the_object_nor_the_colour(rows: dict[tuple[str, str], Row], kind: str):
    assert rows[kind, "wrong"].recall_at_1 <= 0.3  # a shape is sometimes nearest to another one once its background is wrong
    assert rows[kind, "wrong"].colour == 0.0


def test_the_random_pick_is_near_chance(rows: dict[tuple[str, str], Row]):
    """Chance for twenty prompts is 1 in 12 for the object and 1 in 8 for the colour; these are four standard deviations above."""
    both = [rows[kind, "random pick"] for kind in ("trained", "held_out")]
    assert sum(row.recall_at_1 for row in both) / 2 <= 1 / 12 + 4 * (1 / 12 * 11 / 12 / 20) ** 0.5
    assert sum(row.colour for row in both) / 2 <= 1 / 8 + 4 * (1 / 8 * 7 / 8 / 20) ** 0.5


def test_every_painter_and_control_has_a_row_for_every_kind(rows: dict[tuple[str, str], Row]):
    assert set(rows) == {(kind, by) for kind in KINDS for by in ("right", "wrong", "random pick", "real (mirrored)")}


def test_the_table_names_its_features_and_the_json_holds_every_row(rows: dict[tuple[str, str], Row]):
    text = table(list(rows.values()))
    assert "kernel distance" in text
    assert "EfficientNet-Lite0" in text
    assert not any(name in text for name in ("FID", "KID", "CMMD"))
    assert len(json.loads(to_json(list(rows.values())))["rows"]) == len(rows)


LONG = "a goose and a very-long-word-that-no-cell-can-ever-hold-in-one-line beside a lighthouse at dusk, with waves that break far below it"


def margins_are_clean(page: Image.Image) -> bool:
    values = np.asarray(page)
    edge = sheet.MARGIN - 4  # a glyph may reach a little over its advance
    sides = (values[:, :edge], values[:, -edge:], values[:edge], values[-edge:])
    return all((side == 255).all() for side in sides)


@pytest.mark.parametrize("prompt", [LONG, "a fox"])
def test_a_gallery_has_room_for_its_grid_and_writes_nothing_into_the_margins(prompt: str):
    picture = Image.new("RGB", (32, 32), (20, 20, 20))
    page = sheet.gallery("a title", [(prompt, picture)] * 9, columns=4, cell=128)
    assert page.width == 2 * sheet.MARGIN + 4 * (128 + sheet.GAP) - sheet.GAP
    assert margins_are_clean(page)


@pytest.mark.parametrize("prompt", [LONG, "a fox"])
def test_a_progress_sheet_has_room_for_its_grid_and_writes_nothing_into_the_margins(prompt: str):
    picture = Image.new("RGB", (32, 32), (20, 20, 20))
    steps = [f"step {step}" for step in (0, 100, 1000)]
    page = sheet.progress_sheet("a title", [sheet.Row(prompt, dict.fromkeys(steps, picture))] * 3, steps, cell=112)
    assert page.width > 3 * 112 + 2 * sheet.MARGIN
    assert page.height > 3 * 112 + 2 * sheet.MARGIN
    assert margins_are_clean(page)
