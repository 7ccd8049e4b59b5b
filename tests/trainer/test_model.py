"""The denoiser against diffusers' transformer, and everything that diffusers has not against its definition."""

from functools import partial

import pytest
import torch
from diffusers import PRXTransformer2DModel
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from dayrun.layers import forward, kept_tokens, parameters, routing_parameters, total
from dayrun.recipe import Model, Routing
from trainer.model import Denoiser, Route, patchify, rotary_table, unpatchify
from trainer.padding import trimmed

WIDTH, TEXT = 16, 8
TINY = {"hidden_size": WIDTH, "depth": 4, "heads": 2, "rotary_axes": [4, 4], "patch_size": 4, "text_width": TEXT}
THREE = torch.tensor([[0, 3, 5], [1, 2, 7]])
"""Tokens that stay, of eight, in two pictures."""


def filled(model: nn.Module, seed: int = 0) -> nn.Module:
    """Every weight drawn, since an untrained model outputs zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.1)
    return model


def denoiser(sprint: Routing | None = None, **fields: object) -> Denoiser:
    model = filled(Denoiser(Model.model_validate(TINY | fields), sprint))
    assert isinstance(model, Denoiser)
    return model


def inputs(height: int = 8, width: int = 16, channels: int = 3, words: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, channels, height, width, generator=generator)
    return images, torch.rand(2, generator=generator), torch.randn(2, words, TEXT, generator=generator)


def run(model: Denoiser, *given: Tensor | None, **more: object) -> Tensor:
    with torch.no_grad():
        return model(*given, **more)


# ---- diffusers -----------------------------------------------------------------------------------------------------------------------

VARIANTS = {
    "linear": ({}, (8, 8), None),
    "bottleneck": ({"bottleneck_size": 6}, (8, 8), None),
    "rectangular": ({"bottleneck_size": 6}, (8, 20), None),
    "masked text": ({}, (8, 8), [5, 2]),
    "another theta and MLP": ({"rotary_theta": 500, "mlp_ratio": 2.0}, (8, 8), None),
    "resolution": ({"resolution_conditioning": "vec"}, (8, 16), None),
    "the 7 B": ({"bottleneck_size": 6, "resolution_conditioning": "vec"}, (16, 8), [4, 5]),
    "latents": ({"in_channels": 16, "patch_size": 2}, (8, 8), [3, 5]),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_outputs_and_gradients_are_those_of_diffusers(variant: str):
    fields, (height, width), lengths = VARIANTS[variant]
    ours = denoiser(**fields)
    model = ours.fields
    theirs = PRXTransformer2DModel(
        in_channels=model.in_channels,
        patch_size=model.patch_size,
        context_in_dim=TEXT,
        hidden_size=WIDTH,
        mlp_ratio=model.mlp_ratio,
        num_heads=model.heads,
        depth=model.depth,
        axes_dim=list(model.rotary_axes),
        theta=model.rotary_theta,
        bottleneck_size=model.bottleneck_size,
        resolution_embeds=model.resolution_conditioning == "vec",
    )
    theirs.load_state_dict(ours.state_dict())
    images, times, text = inputs(height, width, model.in_channels)
    mask = None if lengths is None else torch.arange(5) < torch.tensor(lengths)[:, None]
    found = []
    for module in (ours, theirs):
        given = [images.clone().requires_grad_(), text.clone().requires_grad_()]
        output = ours(given[0], times, given[1], mask) if module is ours else theirs(given[0], times, given[1], mask).sample
        output.square().sum().backward()
        gradients = {name: weight.grad for name, weight in module.named_parameters()}
        found.append({"output": output.detach(), "images": given[0].grad, "text": given[1].grad} | gradients)
    assert found[0].keys() == found[1].keys()
    for name in found[0]:
        scale = found[1][name].abs().max()  # sums of thousands of terms: 1e-5 of the tensor's own size
        torch.testing.assert_close(found[0][name] / scale, found[1][name] / scale, atol=1e-5, rtol=0, msg=lambda m, n=name: f"{n}: {m}")
        assert scale > 1e-5, f"{name} takes no part"


@pytest.mark.parametrize("routing", [None, Routing(), Routing(kind="sprint")])
@pytest.mark.parametrize("fields", [{}, {"bottleneck_size": 6}, {"resolution_conditioning": "vec"}, {"resolution_conditioning": "token"}])
def test_an_estimate_counts_the_models_parameters(fields: dict, routing: Routing | None):
    sprint = routing if routing and routing.kind == "sprint" else None
    model = Model.model_validate(TINY | fields)
    counted = total(parameters(model)) + total(routing_parameters(model, routing))
    assert sum(weight.numel() for weight in denoiser(sprint, **fields).parameters()) == counted


ROUTINGS = {"none": None, "tread": Routing(start=1, end=2), "sprint": Routing(kind="sprint", rate=0.75, start=0, end=1)}


@pytest.mark.parametrize("routing", ROUTINGS)
@pytest.mark.parametrize("resolution", ["none", "token"])
def test_an_estimate_counts_the_models_work(resolution: str, routing: str):
    fields, routed = Model.model_validate(TINY | {"resolution_conditioning": resolution}), ROUTINGS[routing]
    with torch.device("meta"):
        model = Denoiser(fields, routed if routing == "sprint" else None)
        kept = routed and Route(torch.zeros(1, kept_tokens(64, routed), dtype=torch.int64), routed.start, routed.end)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.empty(1, 3, 32, 32), torch.empty(1), torch.empty(1, 20, TEXT), route=kept)
    words = 22 if resolution == "token" else 20
    assert counter.get_total_flops() == sum(part.flops for part in forward(fields, 64, words, routed))


def test_an_untrained_model_outputs_zero():
    assert run(Denoiser(Model.model_validate(TINY)), *inputs()).abs().max() == 0


def test_patches_come_back_as_they_went():
    images = torch.randn(2, 3, 8, 12)
    assert torch.equal(unpatchify(patchify(images, 4), 4, 8, 12), images)


def test_the_rotary_table_is_a_rotation():
    cosines, sines = rotary_table(3, 5, (8, 8), 10_000, torch.device("cpu"))
    torch.testing.assert_close(cosines**2 + sines**2, torch.ones(15, 16))
    assert torch.equal(cosines[0], torch.ones(16))  # row 0, column 0


# ---- routing -------------------------------------------------------------------------------------------------------------------------


def by_hand(model: Denoiser, images: Tensor, times: Tensor, text: Tensor, mask: Tensor, route: Route) -> Tensor:
    """One picture at a time, with nothing of the model's own routing: its blocks, and indexing."""
    outputs = []
    for i in range(len(images)):
        seen: dict[str, Tensor] = {}
        hook = model.blocks[0].register_forward_pre_hook(lambda _, given, seen=seen: seen.update(enumerate(given)))
        run(model, images[i : i + 1], times[i : i + 1], text[i : i + 1], mask[i : i + 1])
        hook.remove()
        image, words, activated, rotary, keys = (seen[n] for n in range(5))
        places = route.kept[i].tolist()
        for number, block in enumerate(model.blocks):
            if route.start <= number <= route.end:
                some_keys = torch.cat([keys[..., : words.shape[1]], torch.ones(1, 1, 1, len(places), dtype=torch.bool)], dim=-1)
                if number == route.start:
                    before, image = image, image[:, places]
                image = block(image, words, activated, rotary[:, places], some_keys)
                if number == route.end:
                    restored = torch.zeros_like(before) + model.sprint.mask if model.sprint else before.clone()
                    restored[:, places] = image
                    image = model.sprint.fuse(torch.cat([before, restored], -1)) if model.sprint else restored
            else:
                image = block(image, words, activated, rotary, keys)
        seen.clear()
        last = model.final_layer.register_forward_pre_hook(lambda _, given, seen=seen: seen.update(moment=given[1]))
        run(model, images[i : i + 1], times[i : i + 1], text[i : i + 1], mask[i : i + 1])
        last.remove()
        tokens = model.final_layer(image, seen["moment"])
        p = model.fields.patch_size
        grid = tokens.reshape(1, images.shape[2] // p, images.shape[3] // p, 3, p, p)
        outputs.append(grid.permute(0, 3, 1, 4, 2, 5).reshape(1, *images.shape[1:]))
    return torch.cat(outputs)


@pytest.mark.parametrize("kind", ["tread", "sprint"])
@pytest.mark.parametrize(("start", "end"), [(1, 2), (0, 3), (2, 2)])
def test_tokens_skip_and_return_as_the_definition_says(kind: str, start: int, end: int):
    routing = Routing(kind=kind, start=start, end=end)
    model = denoiser(routing if kind == "sprint" else None)
    images, times, text = inputs()
    mask = torch.arange(5) < torch.tensor([[5], [3]])
    route = Route(THREE, start, end)
    routed = run(model, images, times, text, mask, route=route)
    with torch.no_grad():
        torch.testing.assert_close(routed, by_hand(model, images, times, text, mask, route), atol=1e-5, rtol=1e-5)
    assert (routed - run(model, images, times, text, mask)).abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["tread", "sprint"])
def test_with_all_tokens_kept_nothing_is_routed(kind: str):
    model = denoiser(Routing(kind="sprint", start=1, end=2) if kind == "sprint" else None)
    everyone = Route(torch.arange(8).repeat(2, 1), 1, 2)
    found = []
    for route in (None, everyone):
        model.zero_grad()
        output = model(*inputs(), route=route)
        output.square().sum().backward()
        gradients = {name: weight.grad for name, weight in model.named_parameters() if name != "sprint.mask"}
        found.append({"output": output.detach()} | gradients)
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-5)


def test_an_untrained_fusion_passes_tokens_through():
    torch.manual_seed(0)
    plain, fused = Denoiser(Model.model_validate(TINY)), Denoiser(Model.model_validate(TINY), Routing(kind="sprint", start=1, end=2))
    last = {"final_layer.linear.weight": torch.randn(48, WIDTH)}
    fused.load_state_dict(plain.state_dict() | last, strict=False)
    plain.load_state_dict(last, strict=False)
    torch.testing.assert_close(run(fused, *inputs(), tap=3), run(plain, *inputs(), tap=3))
    assert run(plain, *inputs()).abs().max() > 0.1


def test_a_route_around_other_blocks_than_the_fusion_is_refused():
    model = denoiser(Routing(kind="sprint", start=1, end=2))
    with pytest.raises(ValueError, match="tokens skip blocks range"):
        model(*inputs(), route=Route(THREE, 1, 3))


@pytest.mark.parametrize("kind", ["tread", "sprint"])
def test_detached_tokens_have_the_same_values_and_no_gradient(kind: str):
    model = denoiser(Routing(kind="sprint", start=0, end=3) if kind == "sprint" else None)
    outputs, reached = [], []
    for detach in (False, True):
        images, times, text = inputs()
        images.requires_grad_()
        output = model(images, times, text, route=Route(THREE, 0, 3, detach))
        output.square().sum().backward()
        outputs.append(output.detach())
        by_token = images.grad.unfold(2, 4, 4).unfold(3, 4, 4).abs().amax(dim=(1, 4, 5)).flatten(1)  # (2, 8)
        reached.append(by_token > 0)
    assert torch.equal(outputs[0], outputs[1])
    assert reached[0].all()
    assert torch.equal(reached[1], torch.zeros(2, 8, dtype=torch.bool).scatter(1, THREE, value=True))


def test_a_tap_gives_one_blocks_output_and_only_of_the_tokens_it_saw():
    model, given = denoiser(), inputs()
    seen: list[Tensor] = []
    for block in model.blocks:
        block.register_forward_hook(lambda _module, _given, output: seen.append(output))
    route = Route(THREE, 1, 2)
    for tap, tokens in enumerate((8, 3, 3, 8)):
        seen.clear()
        output, features = model(*given, route=route, tap=tap)
        assert torch.equal(features, seen[tap])
        assert features.shape == (2, tokens, WIDTH)
        assert features.requires_grad
        kept = route.kept_in(tap)
        assert (kept is None) == (tokens == 8)
        assert torch.equal(output, model(*given, route=route))
    assert model(*given, tap=3)[1].shape == (2, 8, WIDTH)


@pytest.mark.parametrize("kind", ["tread", "sprint"])
def test_recomputed_activations_give_the_same_gradients(kind: str):
    """Bitwise: the draw comes from outside, so that a block that runs again sees the same tokens."""
    found = []
    for again in (False, True):
        model = denoiser(Routing(kind="sprint", start=1, end=2) if kind == "sprint" else None)
        ran: list[None] = []
        for block in model.blocks:
            block.attention.register_forward_hook(lambda *_, ran=ran: ran.append(None))
            if again:
                block.forward = partial(checkpoint, block.forward, use_reentrant=False)
        output, features = model(*inputs(), torch.arange(5) < torch.tensor([[5], [3]]), route=Route(THREE, 1, 2), tap=1)
        (output.square().sum() + features.square().sum()).backward()
        found.append({name: weight.grad for name, weight in model.named_parameters()})
        assert len(ran) == (8 if again else 4)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.long
@pytest.mark.parametrize("kind", ["tread", "sprint"])
def test_compiled_blocks_are_the_same_model(kind: str):
    found = []
    for compiled in (False, True):
        torch._dynamo.reset()
        model = denoiser(Routing(kind="sprint", start=1, end=2) if kind == "sprint" else None)
        for block in model.blocks if compiled else ():
            block.compile()
        model.zero_grad()
        output, features = model(*inputs(), torch.arange(5) < torch.tensor([[5], [3]]), route=Route(THREE, 1, 2), tap=1)
        (output.square().sum() + features.square().sum()).backward()
        found.append({"output": output.detach()} | {name: weight.grad for name, weight in model.named_parameters()})
    for name, expected in found[0].items():
        torch.testing.assert_close(found[1][name] / expected.abs().max(), expected / expected.abs().max(), atol=1e-5, rtol=0)


# ---- text ----------------------------------------------------------------------------------------------------------------------------


def test_resolution_as_tokens_is_two_more_words():
    """With text taken as it is, prepending the two embeddings by hand must be the same."""
    told, plain = denoiser(resolution_conditioning="token", text_width=WIDTH), denoiser(text_width=WIDTH)
    plain.load_state_dict({name: weight for name, weight in told.state_dict().items() if not name.startswith("resolution_embedder")})
    with torch.no_grad():
        for model in (told, plain):
            model.txt_in.weight.copy_(torch.eye(WIDTH))
            model.txt_in.bias.zero_()
    images, times, _ = inputs()
    text, mask = torch.randn(2, 5, WIDTH), torch.arange(5) < torch.tensor([[5], [3]])
    with torch.no_grad():
        size = told.resolution_embedder(torch.full((2,), 8.0), torch.full((2,), 16.0), torch.float32)
    longer, longer_mask = torch.cat([size, text], 1), torch.cat([torch.ones(2, 2, dtype=torch.bool), mask], 1)
    torch.testing.assert_close(run(told, images, times, text, mask), run(plain, images, times, longer, longer_mask))
    torch.testing.assert_close(run(told, images, times, text), run(plain, images, times, longer))
    assert (size[:, 0] - size[:, 1]).abs().max() > 1e-2  # height and width have their own


@pytest.mark.parametrize(
    ("real", "step", "width", "masked"),
    [
        ([[0, 1, 2], [0]], 4, 4, True),
        ([[0, 1, 2, 3], [0, 1, 2, 3]], 4, 4, False),
        ([[7, 8, 9], [9]], 4, 4, True),  # padded on the left
        ([[6, 7, 8, 9], [6, 7, 8, 9]], 4, 4, False),
        ([[0, 1, 2, 3, 4], [0]], 4, 8, True),
        ([list(range(9)), [0]], 4, 10, True),  # the next multiple is more than there is
        ([[], []], 4, 4, True),
        ([list(range(10))] * 2, 4, 10, False),
    ],
)
def test_cut_padding_changes_nothing(real: list[list[int]], step: int, width: int, masked: bool):
    images, times, text = inputs(words=10)
    mask = torch.zeros(2, 10, dtype=torch.bool)
    for row, columns in enumerate(real):
        mask[row, columns] = True
    fewer, fewer_mask = trimmed(text, mask, step)
    assert fewer.shape[1] == width
    assert (fewer_mask is not None) == masked
    model = denoiser()
    torch.testing.assert_close(run(model, images, times, fewer, fewer_mask), run(model, images, times, text, mask), atol=1e-5, rtol=1e-5)


def test_masked_text_changes_nothing():
    model, (images, times, text) = denoiser(), inputs()
    mask = torch.arange(5) < torch.tensor([[2], [4]])
    assert torch.equal(run(model, images, times, text, mask), run(model, images, times, text.where(mask[..., None], 1e3), mask))
