"""Muon (Jordan 2024) for whole and for sharded weights: momentum, then the nearest orthogonal matrix by Newton–Schulz.

Orthogonalising needs whole matrices. Each matrix has one owner among all ranks, chosen so that their work is even: the owner is sent the
slices, does the products, and sends slices back; where there are copies of the model, each copy does its share and the copies exchange
results. Matrices of one shape travel and are multiplied together, and one shape travels while another is multiplied.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from dayrun.layers import newton_schulz_flop
from trainer.parallel import local

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def working_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 on accelerators, as published; float32 on a CPU, where bfloat16 products are slower."""
    return torch.float32 if device.type == "cpu" else torch.bfloat16


def orthogonalise(matrices: Tensor, steps: int, dtype: torch.dtype | None = None) -> Tensor:
    """Each matrix of (n, rows, columns) moved to its nearest semi-orthogonal one, roughly: singular values end in [0.7, 1.2].

    Computed in `dtype`, by default `working_dtype`. Source: Jordan 2024.
    """
    a, b, c = NEWTON_SCHULZ
    x = matrices.to(dtype or working_dtype(matrices.device))
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)


def owners(costs: list[float], ranks: int) -> list[int]:
    """Which rank does which job, so that the busiest has little more than the mean: the dearest first, each to who has least to do."""
    load, chosen = [0.0] * ranks, [0] * len(costs)
    for job in sorted(range(len(costs)), key=lambda i: -costs[i]):
        chosen[job] = min(range(ranks), key=lambda rank: (load[rank], rank))
        load[chosen[job]] += costs[job]
    return chosen


@dataclass(frozen=True)
class Layout:
    """How weights lie over ranks: `copies` groups of `slices` ranks, rank (copy, slice) holding that slice of the rows."""

    copies: int
    copy: int
    copy_group: dist.ProcessGroup | None
    slices: int
    slice: int
    slice_group: dist.ProcessGroup | None

    @staticmethod
    def of(weight: Tensor) -> "Layout":
        """Of a weight that is whole on every rank of the process group, or sharded over a mesh of one or two dimensions."""
        if isinstance(weight, DTensor):
            mesh = weight.device_mesh
            slices, slice, group = mesh.size(-1), mesh.get_local_rank(mesh.ndim - 1), mesh.get_group(mesh.ndim - 1)
            if mesh.ndim == 1:
                return Layout(1, 0, None, slices, slice, group)
            return Layout(mesh.size(0), mesh.get_local_rank(0), mesh.get_group(0), slices, slice, group)
        if dist.is_initialized():
            return Layout(dist.get_world_size(), dist.get_rank(), None, 1, 0, None)
        return Layout(1, 0, None, 1, 0, None)

    def rows(self, rows: int, slice: int) -> tuple[int, int]:
        """(first row, number of rows) of a slice: equal chunks, rounded up, so that the last ones may be short or empty."""
        chunk = -(-rows // self.slices)
        first = min(rows, slice * chunk)
        return first, min(rows - first, chunk)


class Together:
    """Matrices of one shape on their way: `gather`, `orthogonalise`, `scatter`, `exchange`, `results`, called by all ranks in one order."""

    def __init__(self, layout: Layout, slices: list[Tensor], shape: tuple[int, int], owner: list[int], steps: int) -> None:
        self._layout, self._slices, self._shape, self._steps = layout, slices, shape, steps
        self._dtype = working_dtype(slices[0].device)
        # by copy, then by slice of the owner: the order in which results lie in every buffer
        self._plan: list[list[list[int]]] = [
            [[i for i, o in enumerate(owner) if divmod(o, layout.slices) == (copy, slice)] for slice in range(layout.slices)]
            for copy in range(layout.copies)
        ]
        self._mine = self._plan[layout.copy][layout.slice]
        self._works: list[dist.Work | None] = []

    def gather(self) -> None:
        layout, here = self._layout, self._plan[self._layout.copy]
        if layout.slices == 1:
            return
        rows, columns = self._shape
        own = layout.rows(rows, layout.slice)[1] * columns
        self._out = self._flat([self._slices[i] for to in here for i in to])
        counts = [len(self._mine) * layout.rows(rows, s)[1] * columns for s in range(layout.slices)]
        self._in = self._out.new_empty(sum(counts))
        self._send(self._in, self._out, counts, [len(to) * own for to in here])

    def orthogonalise(self) -> None:
        layout, (rows, columns) = self._layout, self._shape
        if layout.slices == 1:
            whole = torch.stack([self._slices[i] for i in self._mine]).to(self._dtype) if self._mine else None
        else:
            self._wait()
            sizes = [len(self._mine) * layout.rows(rows, s)[1] * columns for s in range(layout.slices)]
            parts = [part.view(len(self._mine), -1, columns) for part in self._in.split(sizes) if part.numel()]
            whole = torch.cat(parts, dim=1) if self._mine else None
        self._whole = None if whole is None else orthogonalise(whole, self._steps, self._dtype)

    def scatter(self) -> None:
        layout, (rows, columns) = self._layout, self._shape
        here = self._plan[layout.copy]
        if layout.slices == 1:
            self._in = self._flat([] if self._whole is None else [self._whole])
            return
        own = layout.rows(rows, layout.slice)[1] * columns
        bounds = [layout.rows(rows, s) for s in range(layout.slices)]
        self._out = self._flat([] if self._whole is None else [self._whole[:, first : first + count] for first, count in bounds])
        counts = [len(of) * own for of in here]
        self._in = self._out.new_empty(sum(counts))
        self._send(self._in, self._out, counts, [len(self._mine) * count * columns for _, count in bounds])

    def exchange(self) -> None:
        """Between copies: everyone gets everyone's slices; buffers are as long as the longest, since a gathering needs equal ones."""
        layout, (rows, columns) = self._layout, self._shape
        self._wait()
        self._one = layout.rows(rows, layout.slice)[1] * columns
        longest = max(sum(len(of) for of in copy) for copy in self._plan) * self._one
        if layout.copies == 1 or not longest:
            self._everyone = self._in.expand(layout.copies, -1)
            return
        self._out = torch.nn.functional.pad(self._in, (0, longest - self._in.numel()))
        self._everyone = self._out.new_empty(layout.copies, longest)
        self._works.append(dist.all_gather_into_tensor(self._everyone.view(-1), self._out, group=layout.copy_group, async_op=True))

    def results(self) -> list[Tensor]:
        """This rank's slices of the orthogonalised matrices, in the order and dtype of those given."""
        self._wait()
        found: list[Tensor] = [torch.empty(0)] * len(self._slices)
        for copy, plan in enumerate(self._plan):
            for place, i in enumerate(i for of in plan for i in of):
                like = self._slices[i]
                found[i] = self._everyone[copy, place * self._one : (place + 1) * self._one].view_as(like).to(like.dtype)
        return found

    def _flat(self, tensors: list[Tensor]) -> Tensor:
        """All values one after the other, in the format they are multiplied in: nothing is lost by sending no more than that."""
        if not tensors:
            return self._slices[0].new_empty(0, dtype=self._dtype)
        return torch.cat([tensor.reshape(-1).to(self._dtype) for tensor in tensors])

    def _send(self, into: Tensor, out: Tensor, into_counts: list[int], out_counts: list[int]) -> None:
        work = dist.all_to_all_single(into, out, into_counts, out_counts, group=self._layout.slice_group, async_op=True)
        self._works.append(work)

    def _wait(self) -> None:
        for work in self._works:
            if work is not None:
                work.wait()
        self._works.clear()


def orthogonalise_everywhere(layout: Layout, slices: list[Tensor], shapes: list[tuple[int, int]], steps: int) -> list[Tensor]:
    """Slices of matrices → the same slices of the orthogonalised matrices. Every rank passes its own slices, in the same order."""
    alike: dict[tuple[int, int], list[int]] = defaultdict(list)
    for i, shape in enumerate(shapes):
        alike[shape].append(i)
    cost = {shape: newton_schulz_flop(*shape, steps) for shape in alike}
    owner = owners([cost[shape] for shape in shapes], layout.copies * layout.slices)
    # the dearest first: what comes after it travels meanwhile
    order = sorted(alike, key=lambda shape: -cost[shape] * len(alike[shape]))
    groups = [Together(layout, [slices[i] for i in alike[s]], s, [owner[i] for i in alike[s]], steps) for s in order]
    for group in groups:
        group.gather()
    for before, group in zip([None, *groups], groups, strict=False):
        group.orthogonalise()
        group.scatter()
        if before is not None:
            before.exchange()
    groups[-1].exchange()
    found = list(slices)
    for shape, group in zip(order, groups, strict=True):
        for i, result in zip(alike[shape], group.results(), strict=True):
            found[i] = result
    return found


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum; the update is scaled by 0.2·√max(rows, columns) so that AdamW's learning rates carry over (Liu et al.
    2025, eq. 4). Equal to `torch.optim.Muon(adjust_lr_fn="match_rms_adamw")` on whole matrices, however they are sharded."""

    def __init__(self, weights: Iterable[Tensor], lr: float, momentum: float, steps: int, weight_decay: float) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "steps": steps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            buffers = [local(self.state[w].setdefault("momentum_buffer", torch.zeros_like(w))) for w in weights]
            gradients = [local(w.grad) for w in weights]
            torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
            ahead = list(torch._foreach_lerp(gradients, buffers, group["momentum"]))
            shapes = [(w.shape[0], w.shape[1]) for w in weights]
            updates = orthogonalise_everywhere(Layout.of(weights[0]), ahead, shapes, group["steps"])
            if group["weight_decay"]:
                torch._foreach_mul_([local(w) for w in weights], 1 - group["lr"] * group["weight_decay"])
            scaled = torch._foreach_mul(updates, [group["lr"] * 0.2 * max(shape) ** 0.5 for shape in shapes])
            torch._foreach_sub_([local(w) for w in weights], scaled)
