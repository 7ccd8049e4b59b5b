"""Which tokens skip: the draws, what training and sampling make of them, and a run whose stages route differently."""

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dayrun.objects import Prefix
from dayrun.recipe import Recipe, Routing, merge_patch
from dayrun.rules import load
from dayrun.run_folder import EXIT_FAILED, Fork, RunFolder
from tests.tiny import tiny_recipe
from tests.trainer.here import train_here
from trainer.flow import shift_times, start_noise
from trainer.model import Denoiser, Route
from trainer.routing import draw_kept, route
from trainer.samples import SEED, Prompts, draw_pictures, stage_at

HALF = Routing()
CPU = torch.device("cpu")


def test_a_draw_follows_the_sample_and_nothing_else():
    positions = [0, 1, 2, 999, 10**12]
    together = draw_kept(7, positions, 64, HALF)
    apart = torch.cat([draw_kept(7, [position], 64, HALF) for position in reversed(positions)]).flip(0)
    assert torch.equal(together, apart)  # however the batch is shared out
    assert len({tuple(row) for row in together.tolist()}) == len(positions)
    assert not torch.equal(together, draw_kept(8, positions, 64, HALF))
    assert torch.equal(together, together.sort(dim=1).values)
    assert all(len(set(row)) == 32 for row in together.tolist())


SHARES = [(256, 0.5, 128), (256, 0.75, 64), (2, 0.01, 1), (2, 0.99, 1), (100, 0.999, 1), (9, 0.5, 5)]


@pytest.mark.parametrize(("tokens", "rate", "kept"), SHARES)
def test_at_least_one_token_stays_and_one_goes(tokens: int, rate: float, kept: int):
    assert draw_kept(0, [0, 1], tokens, Routing(rate=rate)).shape == (2, kept)


def test_every_token_stays_equally_often():
    times = torch.bincount(draw_kept(0, list(range(4000)), 16, Routing(rate=0.75)).flatten(), minlength=16)
    deviation = (4000 * 0.25 * 0.75) ** 0.5
    assert (times - 1000).abs().max() < 4 * deviation


def test_noise_does_not_tell_which_tokens_skip():
    """The streams are different: the first draws of noise and of tokens at one position share no generator state."""
    orders = [torch.randperm(64, generator=torch.Generator().manual_seed(position)) for position in range(3)]
    assert not any(torch.equal(order[:32].sort().values, kept) for order in orders for kept in draw_kept(0, [0, 1, 2], 64, HALF))


def test_without_routing_there_is_no_route():
    assert route(0, [0], 16, None, CPU) is None
    found = route(0, [3], 16, Routing(start=1, end=3, detach=True), CPU)
    assert isinstance(found, Route)
    assert (found.start, found.end, found.detach) == (1, 3, True)


# ---- sampling ------------------------------------------------------------------------------------------------------------------------


def drawn_by_hand(model: Denoiser, recipe: Recipe, text: Tensor, mask: Tensor, seed: int, route: Route) -> Tensor:
    """Euler from noise to data; out = routed + g·(full − routed), and a velocity from x̂0."""
    objective = recipe.objective
    x = start_noise(seed, (3, 8, 8), objective.noise_scale)
    grid = shift_times(torch.linspace(1, 0, 4), objective.times.shift).tolist()
    for now, after in itertools.pairwise(grid):
        full = model(x, torch.tensor([now]), text, mask)
        routed = model(x, torch.tensor([now]), text, mask, route)
        out = routed + recipe.samples.guidance * (full - routed)
        x = x + (after - now) * (x - out) / max(now, objective.velocity_floor)
    return x.clamp(-1, 1)


@pytest.mark.parametrize("kind", ["tread", "sprint"])
@torch.no_grad()
def test_samples_are_guided_by_the_routed_pass(kind: str):
    routing = Routing(kind=kind, start=0, end=1)
    sections = {"routing": routing.model_dump(), "samples": {"steps": 3, "guidance": 2.5}, "objective": {"times": {"shift": 2.0}}}
    recipe = load(tiny_recipe("nowhere", **sections))
    torch.manual_seed(0)
    model = Denoiser(recipe.model, routing if kind == "sprint" else None)
    for weight in model.parameters():
        weight.copy_(torch.randn_like(weight) * 0.2)
    states = {text: (torch.randn(4, 8), torch.tensor([1, 1, 1, n], dtype=torch.bool)) for n, text in enumerate(("", "a fig"))}
    prompts = Prompts(states)
    drawn = draw_pictures(model, recipe, prompts, ["a fig", "a fig"], [3, 4], 8)
    text, mask = (one[None] for one in states["a fig"])
    for number, seed in enumerate((3, 4)):
        by_hand = drawn_by_hand(model, recipe, text, mask, seed, Route(draw_kept(SEED, [seed], 4, routing), 0, 1))
        torch.testing.assert_close(drawn[number : number + 1], by_hand, atol=1e-4, rtol=1e-4)
    other = Prompts(states | {"": (torch.randn(4, 8), torch.ones(4, dtype=torch.bool))})
    assert torch.equal(drawn, draw_pictures(model, recipe, other, ["a fig", "a fig"], [3, 4], 8))  # the empty prompt takes no part
    plain = recipe.model_copy(update={"samples": recipe.samples.model_copy(update={"self_guidance": False})})
    assert (drawn - draw_pictures(model, plain, prompts, ["a fig", "a fig"], [3, 4], 8)).abs().max() > 1e-3


# ---- runs ----------------------------------------------------------------------------------------------------------------------------

STEPS = 24


@pytest.fixture(scope="module")
def recipe(tiny_data: Path) -> dict:
    """SPRINT in the first stage, more lightly in the second, all tokens in the last."""
    stage = {"pixels": 8, "batch_size": 8}
    stages = [
        stage | {"name": "a", "steps": 10},
        stage | {"name": "b", "steps": 10, "overrides": {"routing": {"rate": 0.25, "detach": True}}},
        stage | {"name": "c", "steps": STEPS - 20, "overrides": {"routing": None}},
    ]
    wide = tiny_recipe(tiny_data)["model"] | {"depth": 3, "resolution_conditioning": "token"}
    routing = {"kind": "sprint", "rate": 0.5, "start": 1, "end": 1}
    sections = {"model": wide, "routing": routing, "stages": stages, "checkpoints": {"every": 8, "keep_last": 3}}
    return tiny_recipe(tiny_data, processes=1, **sections)


def losses(folder: RunFolder) -> dict[int, float]:
    return {m["step"]: m["value"] for m in folder.metrics() if m["name"] == "loss"}


@pytest.fixture(scope="module")
def straight(recipe: dict, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(Prefix(tmp_path_factory.mktemp("routed") / "run"))
    assert train_here(recipe, folder) == 0
    return folder


def test_a_routed_run_goes_on_exactly(recipe: dict, straight: RunFolder, tmp_path: Path):
    """From the middle of the second stage: bitwise, since the draws follow from the position."""
    child = RunFolder(Prefix(tmp_path / "child"))
    fork: Fork = {"from": straight.prefix.url, "step": 16, "weights": "all"}
    child.put_fork(fork)
    assert train_here(recipe, child) == 0
    assert losses(child) == {step: loss for step, loss in losses(straight).items() if step > 16}
    assert len(losses(straight)) == STEPS


def test_the_tokens_that_skip_do_not_depend_on_who_holds_the_sample(recipe: dict, straight: RunFolder, tmp_path: Path):
    """Two micro-batches are to one as two ranks are to one: the same positions, shared out differently."""
    folder = RunFolder(Prefix(tmp_path / "run"))
    halves = [stage | {"micro_batch_size": 4} for stage in recipe["stages"]]
    assert train_here(merge_patch(recipe, {"stages": halves}), folder) == 0
    found, expected = losses(folder), losses(straight)
    assert [found[step] for step in found] == pytest.approx([expected[step] for step in found], rel=1e-4)


@pytest.mark.parametrize(("stage", "first"), [(None, 1), (1, 11), (2, 21)])
def test_each_stage_is_trained_as_it_says(recipe: dict, straight: RunFolder, tmp_path: Path, stage: int | None, first: int):
    """Another routing in one stage changes the losses from its first step on, and none before."""
    stages = [fields | ({"overrides": {}} if number == stage else {}) for number, fields in enumerate(recipe["stages"])]
    rate = 0.25 if stage is None else 0.5
    folder = RunFolder(Prefix(tmp_path / "run"))
    assert train_here(merge_patch(recipe, {"stages": stages, "routing": {"rate": rate}}), folder) == 0
    found, expected = losses(folder), losses(straight)
    assert [found[step] for step in range(1, first)] == [expected[step] for step in range(1, first)]
    assert all(found[step] != expected[step] for step in range(max(first, 3), STEPS + 1))  # an untrained model outputs zero anyhow


def test_each_stage_is_sampled_as_it_was_trained(recipe: dict):
    rates = [stage_at(load(recipe), step)[0].routing for step in (0, 10, 11, 20, 21)]
    assert [routing.rate if routing else None for routing in rates] == [0.5, 0.5, 0.25, 0.25, None]


def test_a_fork_into_a_model_without_the_fusion_names_routing(recipe: dict, straight: RunFolder, tmp_path: Path):
    child = RunFolder(Prefix(tmp_path / "child"))
    child.put_fork({"from": straight.prefix.url, "step": 16, "weights": "model"})
    stages = [{"name": "a", "pixels": 8, "batch_size": 8, "steps": 10}]
    assert train_here(recipe | {"routing": {"kind": "tread", "start": 1, "end": 1}, "stages": stages}, child) == EXIT_FAILED
    ended = next(event["data"] for event in child.events() if event["type"] == "ended")
    said = " ".join(ended["evidence"])
    for part in ("/routing", "sprint.", "SPRINT's fusion is a part of the model", "the parent has one around blocks 1 to 1, this run none"):
        assert part in said
