"""Muon for the 2-D weights inside the blocks and Adam for the rest, or AdamW for everything, as the recipe says.

Muon (Jordan 2024): momentum, then the nearest orthogonal matrix by Newton–Schulz. Matrices of one shape are orthogonalised together,
which turns a model's many small products into a few large ones, and the products are spread over the ranks.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dayrun.recipe import Optimizer as OptimizerFields

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrices: Tensor, steps: int) -> Tensor:
    """Each matrix of (n, rows, columns) moved to its nearest semi-orthogonal one, roughly: singular values end in [0.7, 1.2].

    In bfloat16 on accelerators as published; in float32 on a CPU, where bfloat16 products are slower. Source: Jordan 2024.
    """
    dtype = torch.float32 if matrices.device.type == "cpu" else torch.bfloat16
    a, b, c = NEWTON_SCHULZ
    x = matrices.to(dtype)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


def orthogonalise_together(matrices: Tensor, steps: int) -> Tensor:
    """`orthogonalise`, each rank doing its share of the matrices; every rank passes the same ones and gets all of the results."""
    size = dist.get_world_size() if dist.is_initialized() else 1
    if size == 1:
        return orthogonalise(matrices, steps)
    share = -(-len(matrices) // size)
    padded = torch.nn.functional.pad(matrices, (0, 0, 0, 0, 0, share * size - len(matrices)))
    mine = padded[dist.get_rank() * share :][:share]
    everyone = torch.empty_like(padded)
    dist.all_gather_into_tensor(everyone, orthogonalise(mine, steps).contiguous())
    return everyone[: len(matrices)]


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum; the update is scaled by 0.2·√max(rows, columns) so that AdamW's learning rates carry over (Liu et al.
    2025, eq. 4). Equal to `torch.optim.Muon(adjust_lr_fn="match_rms_adamw")` on whole matrices."""

    def __init__(self, weights: Iterable[Tensor], lr: float, momentum: float, steps: int, weight_decay: float) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "steps": steps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    alike[weight.shape].append(weight)
            for shape, weights in alike.items():
                buffers = [self.state[w].setdefault("momentum_buffer", torch.zeros_like(w)) for w in weights]
                gradients = [w.grad for w in weights]
                torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
                looked_ahead = torch._foreach_lerp(gradients, buffers, group["momentum"])
                updates = orthogonalise_together(torch.stack(looked_ahead), group["steps"])
                if group["weight_decay"]:
                    torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(weights, list(updates.unbind(0)), alpha=-group["lr"] * 0.2 * max(shape) ** 0.5)


class Optimizers:
    """The run's optimizers behind one `step`; learning rates are the recipe's times the schedule's factor."""

    def __init__(self, model: nn.Module, fields: OptimizerFields) -> None:
        named = dict(model.named_parameters())
        matrices = {n: p for n, p in named.items() if fields.kind == "muon" and n.startswith("blocks.") and p.ndim == 2}
        rest = [p for n, p in named.items() if n not in matrices]
        self._parts: dict[str, tuple[torch.optim.Optimizer, float, list[str]]] = {}
        adam = torch.optim.AdamW(
            rest,
            lr=fields.learning_rate,
            betas=(fields.betas[0], fields.betas[1]),
            eps=fields.epsilon,
            weight_decay=fields.weight_decay,
            fused=True,
        )
        self._parts["adamw"] = (adam, fields.learning_rate, [n for n in named if n not in matrices])
        if matrices:
            muon = Muon(matrices.values(), fields.muon_learning_rate, fields.muon_momentum, fields.muon_steps, fields.weight_decay)
            self._parts["muon"] = (muon, fields.muon_learning_rate, list(matrices))

    def step(self, factor: float) -> None:
        for optimizer, rate, _ in self._parts.values():
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
            optimizer.step()

    def tensors(self) -> dict[str, Tensor]:
        """All state by name ("adamw.<weight>.exp_avg"), created where a step has not done so yet: what a checkpoint holds and restores."""
        found: dict[str, Tensor] = {}
        for part, (optimizer, _, names) in self._parts.items():
            weights = [p for group in optimizer.param_groups for p in group["params"]]
            for name, weight in zip(names, weights, strict=True):
                state = optimizer.state[weight]
                if part == "muon":
                    state.setdefault("momentum_buffer", torch.zeros_like(weight))
                elif not state:
                    state.update(step=torch.zeros((), device=weight.device), exp_avg=torch.zeros_like(weight))
                    state["exp_avg_sq"] = torch.zeros_like(weight)
                found |= {f"{part}.{name}.{key}": value for key, value in state.items()}
        return found
