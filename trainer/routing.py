"""Which image tokens skip which blocks (TREAD, SPRINT): drawn here, on the CPU, and handed to the model as indices.

A draw is a function of (seed, place of the sample in the run's order), as noise levels and noise are: it does not depend on the number of
ranks, and a forward that is done again sees the same tokens (docs/decisions/0012-routing-draws-follow-samples.md). No model here.
"""

import torch
from torch import Tensor

from dayrun.layers import kept_tokens
from dayrun.recipe import Routing
from trainer.flow import mix
from trainer.model import Route

STREAM = 0x726F757465  # "route": keeps these draws apart from those of noise, which have the same seed and positions


def draw_kept(seed: int, positions: list[int], tokens: int, routing: Routing) -> Tensor:
    """The tokens that stay, for the samples at `positions`: (n, k) int64, each row ascending; k is the same for every row."""
    kept = kept_tokens(tokens, routing)
    rows = [torch.randperm(tokens, generator=torch.Generator().manual_seed(mix(seed ^ STREAM, p)))[:kept] for p in positions]
    return torch.stack(rows).sort(dim=1).values


def route(seed: int, positions: list[int], tokens: int, routing: Routing | None, device: torch.device) -> Route | None:
    """The route of a batch on `device`, without waiting for it; None where nothing is to skip. `positions` as in `draw_kept`."""
    if routing is None:
        return None
    kept = draw_kept(seed, positions, tokens, routing)
    if device.type == "cuda":
        kept = kept.pin_memory()  # from pageable memory the copy would wait for the device
    return Route(kept.to(device, non_blocking=True), routing.start, routing.end, routing.detach)
