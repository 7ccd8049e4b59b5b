"""Padded text before it goes to the device: cut to what is used, in few different widths, and without a mask where nothing is left to mask.

Attention's fastest kernels take no mask, and every padded column costs a key, a value and their projections in every block. It is decided
here, on the CPU, since asking the device would make it wait. The result is exact: a masked key has no weight, and text has no order.
"""

import torch
from torch import Tensor

STEP = 32
"""Widths are multiples of this, or the full one: compiled blocks are built for every width there is."""


def trimmed(text: Tensor, mask: Tensor, step: int = STEP) -> tuple[Tensor, Tensor | None]:
    """text (n, m, width), mask (n, m) bool, on the CPU → the same with fewer columns; mask None where every token that is left is real.

    A column goes if it is padding in every row; as many of these stay as fill up the last `step`.
    """
    used = mask.any(dim=0)
    width = min(mask.shape[1], max(1, -(-int(used.sum()) // step)) * step)
    if width < mask.shape[1]:
        columns = torch.argsort((~used).byte(), stable=True)[:width].sort().values
        text, mask = text[:, columns], mask[:, columns]
    return text, None if bool(mask.all()) else mask
