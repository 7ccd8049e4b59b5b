"""Which recipes can take over which weights, told from the recipes alone."""

import pytest

from dayrun.forks import fields_behind, fork_conflicts
from dayrun.recipe import Recipe, merge_patch
from dayrun.rules import load
from tests.tiny import tiny_recipe
from trainer.model import Denoiser

PARENT = tiny_recipe("data", steps=40, processes=1)


def recipe(patch: dict) -> Recipe:
    return load(merge_patch(PARENT, patch))


@pytest.mark.parametrize(
    ("patch", "weights", "places"),
    [
        ({}, "all", []),
        ({"optimizer": {"learning_rate": 0.1}, "seed": 5, "stages": [PARENT["stages"][0] | {"steps": 90}]}, "all", []),
        ({"model": {"text_width": 12}}, "ema", ["/model/text_width"]),
        ({"model": {"depth": 3, "mlp_ratio": 2.0}}, "model", ["/model/depth", "/model/mlp_ratio"]),
        ({"model": {"bottleneck_size": None}}, "model", ["/model/bottleneck_size"]),
        ({"model": {"resolution_conditioning": "vec"}}, "model", ["/model/resolution_conditioning"]),
        ({"model": {"rotary_theta": 500}, "optimizer": {"kind": "adamw"}, "ema": None}, "ema", []),
        ({"model": {"rotary_theta": 500}}, "all", ["/model/rotary_theta"]),
        ({"routing": {"kind": "sprint", "start": 0, "end": 1}}, "ema", ["/routing"]),
        ({"routing": {"kind": "tread", "start": 0, "end": 1}}, "all", []),
        ({"optimizer": {"kind": "adamw"}, "ema": None}, "all", ["/optimizer/kind", "/ema"]),
        ({"objective": {"prediction": "velocity"}}, "all", ["/objective/prediction"]),
        ({"stages": [PARENT["stages"][0] | {"steps": 10}]}, "all", ["/stages"]),
    ],
)
def test_a_fork_may_change_what_its_weights_do_not_depend_on(patch: dict, weights, places: list[str]):
    errors = fork_conflicts(recipe({}), recipe(patch), weights, step=20)
    assert [error.at for error in errors] == places
    assert all(error.because for error in errors)


def test_averages_that_a_parent_never_kept_cannot_be_taken_over():
    errors = fork_conflicts(recipe({"ema": None}), recipe({}), "ema")
    assert ["fork its weights 'model' instead" in error.because for error in errors] == [True]


@pytest.mark.parametrize(
    "patch",
    [
        {"hidden_size": 32, "rotary_axes": [8, 8]},
        {"depth": 1},
        {"heads": 4, "rotary_axes": [2, 2]},
        {"mlp_ratio": 2.0},
        {"patch_size": 2},
        {"in_channels": 4},
        {"bottleneck_size": 4},
        {"bottleneck_size": None},
        {"text_width": 12},
        {"resolution_conditioning": "vec"},
        {"resolution_conditioning": "token"},
    ],
)
def test_every_weight_whose_shape_differs_is_explained_by_a_field(patch: dict):
    """The table in forks.py against the model itself: a field that it forgot would leave a shape without a reason."""
    parent, child = (Recipe.model_validate(merge_patch(PARENT, {"model": change})) for change in ({}, patch))
    ours, theirs = ({n: p.shape for n, p in Denoiser(r.model).named_parameters()} for r in (child, parent))
    differing = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    assert differing
    for name in differing:
        assert {error.at.removeprefix("/model/") for error in fields_behind(name, parent, child)} & set(patch)
    assert fork_conflicts(parent, child, "model")
