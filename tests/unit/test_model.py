"""The denoiser is diffusers' PRX transformer: same names, same outputs, same gradients."""

import pytest
import torch
from diffusers.models.transformers.transformer_prx import PRXTransformer2DModel

from dayrun.recipe import Model
from trainer.model import Denoiser, patchify, rotary_table, unpatchify

CONFIGURATIONS = {
    "pixels with a bottleneck": (
        Model(hidden_size=64, depth=2, heads=4, rotary_axes=[8, 8], patch_size=4, bottleneck_size=16, text_width=24),
        16,
        24,
    ),
    "latents, plain input": (
        Model(hidden_size=48, depth=3, heads=2, rotary_axes=[8, 16], patch_size=2, in_channels=16, text_width=40),
        12,
        8,
    ),
    "resolution as a vector": (
        Model(
            hidden_size=64,
            depth=1,
            heads=2,
            rotary_axes=[16, 16],
            patch_size=8,
            bottleneck_size=8,
            text_width=24,
            resolution_conditioning="vec",
        ),
        32,
        16,
    ),
    "another theta and MLP ratio": (
        Model(hidden_size=32, depth=2, heads=2, rotary_axes=[8, 8], rotary_theta=500, mlp_ratio=2.0, patch_size=2, text_width=8),
        8,
        8,
    ),
}


def theirs(fields: Model) -> PRXTransformer2DModel:
    return PRXTransformer2DModel(
        in_channels=fields.in_channels,
        patch_size=fields.patch_size,
        context_in_dim=fields.text_width,
        hidden_size=fields.hidden_size,
        mlp_ratio=fields.mlp_ratio,
        num_heads=fields.heads,
        depth=fields.depth,
        axes_dim=list(fields.rotary_axes),
        theta=fields.rotary_theta,
        bottleneck_size=fields.bottleneck_size,
        resolution_embeds=fields.resolution_conditioning == "vec",
    )


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_outputs_and_gradients_equal_diffusers(configuration: str, masked: bool) -> None:
    fields, height, width = CONFIGURATIONS[configuration]
    torch.manual_seed(0)
    ours, reference = Denoiser(fields), theirs(fields)
    for weight in ours.parameters():  # zero-initialised layers would hide what is behind them
        torch.nn.init.normal_(weight, std=0.06)
    reference.load_state_dict(ours.state_dict(), strict=True)
    noisy, time = torch.randn(3, fields.in_channels, height, width, requires_grad=True), torch.tensor([0.02, 0.5, 0.97])
    text = torch.randn(3, 7, fields.text_width)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0]], dtype=torch.bool) if masked else None
    probe = torch.randn(3, fields.in_channels, height, width)

    output = ours(noisy, time, text, mask)
    wanted = reference(noisy, time, text, mask).sample
    torch.testing.assert_close(output, wanted, atol=1e-5, rtol=1e-5)

    names = list(dict(ours.named_parameters()))
    got = torch.autograd.grad((output * probe).mean(), [noisy, *ours.parameters()])
    expected = torch.autograd.grad((wanted * probe).mean(), [noisy, *(dict(reference.named_parameters())[name] for name in names)])
    for name, a, b in zip(["noisy", *names], got, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5, msg=lambda text, name=name: f"gradient of {name}: {text}")


def test_an_untrained_model_outputs_zero() -> None:
    fields = CONFIGURATIONS["pixels with a bottleneck"][0]
    assert Denoiser(fields)(torch.randn(2, 3, 16, 16), torch.rand(2), torch.randn(2, 3, 24)).abs().max() == 0


def test_patches_come_back_as_they_went() -> None:
    images = torch.randn(2, 3, 8, 12)
    assert torch.equal(unpatchify(patchify(images, 4), 4, 8, 12), images)


def test_masked_text_changes_nothing() -> None:
    fields = CONFIGURATIONS["pixels with a bottleneck"][0]
    model = Denoiser(fields)
    torch.nn.init.normal_(model.final_layer.linear.weight)
    for block in model.blocks:
        torch.nn.init.normal_(block.modulation.lin.weight, std=0.1)
    noisy, time, text = torch.randn(1, 3, 16, 16), torch.rand(1), torch.randn(1, 5, 24)
    mask = torch.tensor([[True, True, False, False, False]])
    other = text.clone()
    other[:, 2:] = 1e3
    assert torch.equal(model(noisy, time, text, mask), model(noisy, time, other, mask))


def test_the_rotary_table_is_a_rotation() -> None:
    cosines, sines = rotary_table(3, 5, (8, 8), 10_000, torch.device("cpu"))
    torch.testing.assert_close(cosines**2 + sines**2, torch.ones(15, 16))
    assert torch.equal(cosines[0], torch.ones(16))  # row 0, column 0
