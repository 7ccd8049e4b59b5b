"""The demo's data, scores and sheets, on figures drawn here."""

import random

import pytest
import torch
from PIL import Image, ImageDraw

from dayrun.sheet import Row, gallery, progress_sheet, wrapped
from demo.data import Pair, article, compose, split_pairs
from demo.objects import COLOURS, NEVER_TRAINED, TRAINED
from demo.score import Gallery, background, kernel_distance, ranks


def figure(seed: int) -> Image.Image:
    chance = random.Random(seed)
    picture = Image.new("RGBA", (256, 256), (0, 0, 0, 0))
    draw = ImageDraw.Draw(picture)
    for _ in range(4):
        x, y, r = (chance.randrange(60, 196), chance.randrange(60, 196), chance.randrange(20, 60))
        draw.ellipse((x - r, y - r, x + r, y + r), (*(chance.randrange(256) for _ in range(3)), 255))
    return picture


def test_held_out_pairs_are_never_trained_but_their_halves_are():
    objects = [plain or label for label, plain in TRAINED.items()]
    trained, held_out = split_pairs(objects)
    assert len(trained) + len(held_out) == len(objects) * len(COLOURS)
    assert not set(trained) & set(held_out)
    assert 0.09 < len(held_out) / (len(trained) + len(held_out)) < 0.11
    assert {pair.object for pair in held_out} <= {pair.object for pair in trained}
    assert len({pair.object for pair in held_out}) == len(held_out)
    assert split_pairs(objects) == (trained, held_out)
    assert not set(TRAINED) & set(NEVER_TRAINED)


def test_captions_are_english():
    assert Pair("owl", "orange").caption == "an owl on an orange background"
    assert Pair("unicorn", "red").caption == "a unicorn on a red background"
    assert article("umbrella") == "an"


@pytest.mark.parametrize("colour", COLOURS)
def test_a_composed_picture_has_its_background(colour: str):
    picture = compose(figure(1), COLOURS[colour], 32)
    assert picture.size == (32, 32)
    assert background(picture) == colour


def test_a_transparent_edge_leaves_no_dark_fringe():
    soft = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    ImageDraw.Draw(soft).ellipse((8, 8, 56, 56), (255, 255, 255, 128))
    darkest = min(compose(soft, (200, 200, 200), 32).convert("L").tobytes())
    assert darkest >= 195


def test_the_distance_of_one_distribution_to_itself_is_about_zero_and_of_others_more():
    torch.manual_seed(0)
    a, b, c = torch.randn(200, 32), torch.randn(200, 32), torch.randn(200, 32) + 1
    assert abs(kernel_distance(a, b)) < 0.05 < kernel_distance(a, c)


def test_the_rank_is_the_place_of_the_right_object_on_the_asked_background():
    features = {"red": torch.eye(3), "blue": torch.eye(3).flip(0)}
    shelf = Gallery(["one", "two", "three"], [True] * 3, pictures={}, features=features)
    pairs = [Pair("one", "red"), Pair("one", "blue"), Pair("three", "red")]
    drawn = torch.tensor([[1.0, 0.1, 0.0], [1.0, 0.1, 0.0], [0.1, 1.0, 0.2]])
    assert ranks(drawn, pairs, shelf) == [1, 3, 2]


def test_sheets_hold_every_picture_and_no_line_is_wider_than_its_place():
    from dayrun.sheet import width_of

    long = (
        "a very long prompt about a lighthouse on a cliff at dusk with waves that break below and a word-that-is-far-too-long-for-any-line"
    )
    assert all(width_of(line) <= 120 for line in wrapped(long, 120))
    rows = [Row(long, {"step 0": figure(1).convert("RGB")}), Row("short", {})]
    page = progress_sheet("title", rows, ["step 0", "step 10"], cell=64)
    assert page.height > 2 * 64
    assert gallery("title", [(long, figure(i).convert("RGB")) for i in range(9)], columns=4, cell=64).height > 3 * 64
