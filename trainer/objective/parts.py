"""The parts of a step's loss beside flow matching: the frozen networks of a run, and what each part is on a micro-batch.

Every rank runs every network of its stage in every step, whatever the noise levels are: ranks must not wait for one another because of
what they happened to draw.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dayrun.recipe import PDino, Recipe
from trainer.objective.perceptual import lpips, mean_below, p_dino
from trainer.objective.pictures import crop_places, cropped, for_imagenet, nearest, resized
from trainer.objective.representation import alignment, projector, spatially_normalised
from trainer.objective.teachers import Vit, load_vgg, load_vit
from trainer.pretrained import refusal
from trainer.world import World

NAMES = ("flow", "lpips", "dino", "representation")
"""Parts of the loss, as `loss_<name>` in the metrics, in this order."""
LPIPS_CROP, DINO_CROP = 1, 2
"""Keep the draws of the crops apart."""
TEACHER = "/representation/teacher"


class Frozen:
    """The frozen networks of all stages of a run, each loaded once, on this rank's device. Raises RecipeErrors when one cannot be used."""

    def __init__(self, recipe: Recipe, world: World) -> None:
        self._stages = [recipe.at_stage(i) for i in range(len(recipe.stages))]
        hardware = recipe.hardware
        losses = [stage.perceptual for stage in self._stages]
        self.vggs = {
            source: load_vgg(source, "/perceptual/lpips/source", hardware, world)
            for source in dict.fromkeys(loss.lpips.source for loss in losses if loss.lpips)
        }
        places = {loss.dino.source: "/perceptual/dino/source" for loss in losses if loss.dino}
        places |= {stage.representation.teacher: TEACHER for stage in self._stages if stage.representation}
        self.vits = {source: load_vit(source, at, hardware, world) for source, at in places.items()}
        for loss in losses:
            if loss.dino and (wrong := loss.dino.pixels % self.vits[loss.dino.source].patch):
                patch, pixels = self.vits[loss.dino.source].patch, loss.dino.pixels
                because = f"the patches of {loss.dino.source} are {patch} pixels"
                raise refusal("/perceptual/dino/pixels", pixels, because, [n for n in (pixels - wrong, pixels - wrong + patch) if n])

    def projector(self) -> nn.Module | None:
        """What learns to speak the teacher's language: a part of the model, for all stages that align; None where none does."""
        aligned = [stage for stage in self._stages if stage.representation]
        if not aligned:
            return None
        assert aligned[0].representation is not None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(aligned[0].seed)  # whatever loading the networks has drawn
            return projector(aligned, self.vits[aligned[0].representation.teacher].width)

    def perceptual(self, recipe: Recipe, positions: list[int], predicted: Tensor, clean: Tensor, times: Tensor) -> dict[str, Tensor]:
        """The perceptual parts that the stage's recipe has, before their weights: x̂0 and x0 (n, 3, h, w) in [−1, 1], times (n,)."""
        found: dict[str, Tensor] = {}
        if fields := recipe.perceptual.lpips:
            ours, theirs = both(predicted, clean, recipe.seed, positions, fields.crop, LPIPS_CROP)
            size = [int(side * fields.resize) for side in ours.shape[-2:]]
            ours, theirs = (resized(pictures, size[0], size[1], fields.antialias) for pictures in (ours, theirs))
            found["lpips"] = mean_below(lpips(self.vggs[fields.source], ours, theirs), times, fields.below_time)
        if fields := recipe.perceptual.dino:
            ours, theirs = both(predicted, clean, recipe.seed, positions, fields.crop, DINO_CROP)
            network = self.vits[fields.source]
            with torch.no_grad():
                wanted = network.features(seen_by_dino(theirs, fields))
            distances = p_dino(network.features(seen_by_dino(ours, fields)), wanted)
            found["dino"] = mean_below(distances, times, fields.below_time)
        return found

    @torch.no_grad()
    def taught(self, recipe: Recipe, clean: Tensor, grid: tuple[int, int]) -> Tensor:
        """The teacher's features of x0 (n, 3, h, w) on the grid of the model's tokens: (n, rows·columns, width)."""
        part = recipe.representation
        assert part is not None
        network: Vit = self.vits[part.teacher]
        height, width = grid[0] * network.patch, grid[1] * network.patch
        pictures = resized(clean, height, width) if part.antialias else nearest(clean, height, width)
        features = network.features(for_imagenet(pictures))
        return spatially_normalised(features) if part.kind == "irepa" else features.float()

    def aligned(self, recipe: Recipe, clean: Tensor, grid: tuple[int, int], projected: Tensor, kept: Tensor | None) -> dict[str, Tensor]:
        """The part of representation alignment, before its weight; `projected` are the tokens at `kept`, or all."""
        return {"representation": alignment(projected, self.taught(recipe, clean, grid), kept)}


def both(predicted: Tensor, clean: Tensor, seed: int, positions: list[int], crop: int | None, salt: int) -> tuple[Tensor, Tensor]:
    """The two pictures, or the same random square of both."""
    if crop is None:
        return predicted, clean
    height, width = clean.shape[-2:]
    side = min(crop, height, width)  # the narrow side of an aspect bucket may be shorter
    places = crop_places(seed, positions, salt, height, width, side)
    return cropped(predicted, places, side), cropped(clean, places, side)


def seen_by_dino(pictures: Tensor, fields: PDino) -> Tensor:
    return for_imagenet(resized(pictures, fields.pixels, fields.pixels, fields.antialias))


def weights_of(recipe: Recipe) -> dict[str, float]:
    """How much each part of the loss counts in the stage's recipe."""
    perceptual, representation = recipe.perceptual, recipe.representation
    return {
        "flow": 1.0,
        "lpips": perceptual.lpips.weight if perceptual.lpips else 0.0,
        "dino": perceptual.dino.weight if perceptual.dino else 0.0,
        "representation": representation.weight if representation else 0.0,
    }


class PartMeans:
    """Each part's mean over the steps since it was last asked for, kept on the device: no step waits for it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._sums = torch.zeros(2 * len(NAMES), device=world.device)

    @torch.no_grad()
    def add(self, parts: dict[str, Tensor]) -> None:
        """Take in one micro-batch; a part that is no number is left out, since the step that it belongs to is."""
        for i, name in enumerate(NAMES):
            if name in parts:
                part = parts[name].detach()
                self._sums[i] += part.nan_to_num(0.0, 0.0, 0.0)
                self._sums[len(NAMES) + i] += part.isfinite()

    def means(self) -> dict[str, float]:
        """`loss_<part>` over all ranks, and begin anew. Every rank must call it; the same values on every rank."""
        if self._world.size > 1:
            dist.all_reduce(self._sums)
        sums, counts = self._sums.view(2, -1).tolist()
        self._sums.zero_()
        return {f"loss_{name}": total / count for name, total, count in zip(NAMES, sums, counts, strict=True) if count}


def weighted(parts: dict[str, Tensor], recipe: Recipe) -> Tensor:
    """The loss: the sum of its parts times their weights."""
    weights = weights_of(recipe)
    return torch.stack([weights[name] * part for name, part in parts.items()]).sum()
