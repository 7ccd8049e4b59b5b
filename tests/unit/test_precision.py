"""Products in float8: as near to exact ones as the format allows, forward and backward; refused where there are none."""

import pytest
import torch

from dayrun.recipe import Hardware, Precision
from dayrun.recipe_errors import RecipeErrors
from trainer.model import Block
from trainer.parallel import prepare
from trainer.precision import BACKWARD, FORWARD, Float8Product, linear_in_float8, quantised, use_float8
from trainer.world import World


def apart(found: torch.Tensor, exact: torch.Tensor) -> float:
    """Norm of the difference over the norm of what is exact."""
    found, exact = found.detach().float(), exact.detach().float()
    return float((found - exact).norm() / exact.norm())


@pytest.mark.parametrize(("dtype", "bits"), [(FORWARD, 3), (BACKWARD, 2)])
def test_a_tensor_is_scaled_to_the_range_of_the_format(dtype: torch.dtype, bits: int):
    torch.manual_seed(0)
    x = torch.randn(64, 64) * 1e-4
    narrow, scale = quantised(x, dtype)
    assert narrow.dtype == dtype
    assert float(narrow.float().abs().max()) == torch.finfo(dtype).max
    # rounding to `bits` of mantissa is off by at most 2⁻⁽ᵇⁱᵗˢ⁺¹⁾ of each value
    large = x.abs() > x.abs().max() / 100
    assert float(((narrow.float() * scale - x)[large] / x[large]).abs().max()) < 2.0 ** -(bits + 1) * 1.01


def test_products_and_gradients_are_near_the_exact_ones():
    torch.manual_seed(0)
    x, weight, g = torch.randn(48, 64), torch.randn(32, 64), torch.randn(48, 32)
    ours = [t.bfloat16().requires_grad_() for t in (x, weight)]
    exact = [t.clone().requires_grad_() for t in (x, weight)]
    product = Float8Product.apply(*ours)
    product.backward(g.bfloat16())
    (exact[0] @ exact[1].t()).backward(g)
    assert apart(product, x @ weight.t()) < 0.05
    assert apart(ours[0].grad, exact[0].grad) < 0.1
    assert apart(ours[1].grad, exact[1].grad) < 0.1


def test_sizes_that_are_no_multiples_of_16_stay_in_bfloat16():
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(20, 16), torch.randn(3, 16, 20)
    assert torch.equal(linear_in_float8(layer, x), layer(x))


def test_a_block_in_float8_keeps_its_names_and_is_near_the_block():
    torch.manual_seed(0)
    block = Block(32, 2, 3.5)
    torch.nn.init.normal_(block.modulation.lin.weight, std=0.1)
    image, text, activated = torch.randn(2, 16, 32), torch.randn(2, 16, 32), torch.randn(2, 32)
    rotary = torch.stack([torch.ones(16, 16), torch.zeros(16, 16)])
    names, exact = list(block.state_dict()), block(image, text, activated, rotary, None)
    use_float8(block)
    with torch.autocast("cpu", torch.bfloat16):
        narrow = block(image, text, activated, rotary, None)
    assert list(block.state_dict()) == names
    assert 0 < apart(narrow - image, exact - image) < 0.15


def test_a_machine_without_float8_refuses_it_by_name():
    hardware = Hardware(accelerator="h200", precision=Precision(compute="float8"))
    model = torch.nn.Module()
    model.blocks = torch.nn.ModuleList()
    with pytest.raises(RecipeErrors, match=r"/hardware/precision/compute.*no float8.*bfloat16"):
        prepare(model, hardware, World(0, 1, torch.device("cpu")))
