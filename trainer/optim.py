"""Muon for the 2-D weights inside the blocks and Adam for the rest, or AdamW for everything, as the recipe says."""

import torch
from torch import Tensor, nn

from dayrun.recipe import Optimizer as OptimizerFields
from trainer.muon import Muon


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
