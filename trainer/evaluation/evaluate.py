"""An evaluation: pictures of the reference's captions drawn by all ranks in chunks, their features compared with those of real pictures,
and the validation loss. What is known so far stands in evaluations/<step>.json at any moment; with the last metric it is complete.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dayrun.recipe import Recipe
from dayrun.run_folder import RunFolder
from trainer.autoencoder import Autoencoder
from trainer.data.loader import Batch
from trainer.evaluation.distances import frechet, kernel_distance, moments
from trainer.evaluation.features import Networks, load_networks
from trainer.evaluation.reference import Reference
from trainer.evaluation.validation import validation_loss
from trainer.faults import StopSignal
from trainer.flow import mix
from trainer.samples import Prompts, draw_pictures, levels, stage_at
from trainer.text import TextEncoder
from trainer.timing import Timing
from trainer.world import World

CHUNK = 32
"""Pictures that a rank draws at a time. Chunks do not depend on the number of ranks, so that neither do the pictures."""
PUT_SECONDS = 10.0
"""How often the file says how far the drawing is."""

Features = dict[str, Tensor]
"""By network: (n, d) float32 on the CPU, in order; on rank 0 only, empty elsewhere."""


def numbers(metrics: dict[str, float], report: dict[str, Any]) -> dict[str, float]:
    """Those that are numbers, for JSON has no way to say what a model that diverged is worth; the report names the others."""
    if others := [name for name, value in metrics.items() if not math.isfinite(value)]:
        report["no_numbers"] = report.get("no_numbers", []) + others
    return {name: value for name, value in metrics.items() if name not in others}


def with_count(metric: str, images: int) -> str:
    """The metric's name with the number of pictures behind it: fid → fid_10k. A figure from 10,000 must never pass for one from 50,000."""
    return f"{metric}_{images // 1000}k" if images % 1000 == 0 else f"{metric}_{images}"


class Evaluator:
    """Evaluates one run. `prove` tells early what would fail late."""

    def __init__(
        self,
        recipe: Recipe,
        folder: RunFolder,
        attempt: int,
        world: World,
        autoencoder: Autoencoder | None,
        stop: StopSignal,
        timing: Timing,
    ) -> None:
        assert recipe.evaluation is not None
        self._autoencoder = autoencoder
        self._recipe, self._fields = recipe, recipe.evaluation
        self._folder, self._attempt, self._world, self._stop, self._timing = folder, attempt, world, stop, timing
        self._real: dict[int, Features] = {}  # by side of the pictures

    def prove(self) -> None:
        """Raises RecipeErrors or DataFault, on every rank, when networks or reference cannot be used."""

        def look() -> None:
            if self._world.leads:
                Reference(self._recipe, self._recipe.stages[0].pixels, None)
                load_networks(self._fields, torch.device("cpu"), None)

        self._world.together(look)

    def due(self, step: int, total_steps: int) -> bool:
        """Whether the step is one to evaluate at. It may have been done by an earlier attempt."""
        return step > 0 and (step % self._fields.every == 0 or step == total_steps)

    def done(self, step: int, roll_backs: int) -> bool:
        """Whether an attempt on the same way, with as many roll-backs behind it, has finished the evaluation of `step`."""

        def look() -> bool:
            if not self._world.leads:
                return False
            try:
                found = self._folder.evaluation(step)
            except (FileNotFoundError, ValueError):
                return False
            return bool(found.get("complete")) and found.get("roll_backs") == roll_backs

        return self._world.together(look)[0]

    @torch.no_grad()
    def evaluate(
        self,
        model: nn.Module,
        course: Recipe,
        prompts: Prompts,
        tower: TextEncoder | None,
        step: int,
        roll_backs: int,
        tell: Callable[..., None],
        metric: Callable[..., None],
    ) -> None:
        """Measure `model`, which is in its evaluation mode, unless that was done. Every rank must call it. `course` is the recipe with
        its stages as long as they are.

        A store that takes nothing is told of and no more; when any rank is told to stop, it is left unfinished.
        """
        try:
            if self.done(step, roll_backs):
                return
            begun = time.monotonic()
            recipe, stage = stage_at(course, step)
            pixels = stage.pixels
            report: dict[str, Any] = {
                "step": step,
                "attempt": self._attempt,
                "roll_backs": roll_backs,
                "checkpoint": self._folder.checkpoint_digest(step) if self._world.leads else None,
                "reference": self._fields.reference,
                "ema": self._recipe.ema is not None,
                "pixels": pixels,
                **{name: getattr(self._fields, name) for name in ("guidance", "steps", "seed")},
            }
            metrics = self._measure(model, recipe, prompts, Reference(recipe, pixels, tower), pixels, report)
            if metrics is None:
                return
            report["seconds"] = round(time.monotonic() - begun, 3)
            self._put({**report, "metrics": metrics, "complete": True})
            metric(step, **metrics)
            tell("evaluated", images=report.get("images", 0), seconds=report["seconds"], metrics=metrics)
        except OSError as error:
            tell("evaluation_failed", because=str(error))

    def _measure(
        self, model: nn.Module, recipe: Recipe, prompts: Prompts, reference: Reference, pixels: int, report: dict[str, Any]
    ) -> dict[str, float] | None:
        """Metrics by name with their counts, on every rank; None when somebody is to stop. `recipe` is that of the stage."""
        metrics: dict[str, float] = {}
        if "validation_loss" in self._fields.metrics:
            samples = min(self._fields.validation_samples, len(reference))
            losses = validation_loss(model, self._autoencoder, recipe, reference, samples, self._world)
            metrics |= numbers({with_count(name, samples): value for name, value in losses.items()}, report)
            report |= {"validation_samples": samples}
        if set(self._fields.metrics) == {"validation_loss"}:
            return metrics
        networks = load_networks(self._fields, self._world.device, self._world)
        compared = min(self._fields.images, len(reference))
        report |= {"images": self._fields.images, "reference_images": compared}

        def real(places: list[int]) -> Features:
            return embed(networks, reference.some(places).images.to(self._world.device))

        def drawn(places: list[int]) -> Features:
            some = reference.some(places)
            found = embed(networks, self._draw(model, recipe, prompts, some, places, pixels))
            if "prompt_alignment" in self._fields.metrics and networks.clip is not None:
                found["alignment"] = (found["clip"] * networks.clip.captions(some.captions).cpu()).sum(1, keepdim=True)
            return found

        if pixels not in self._real:
            known = self._in_chunks(compared, real, lambda _: None)
            if known is None:
                return None
            self._real = {pixels: known}
        ours = self._in_chunks(
            self._fields.images, drawn, lambda n: self._put({**report, "drawn": n, "metrics": metrics, "complete": False})
        )
        if ours is None:
            return None
        distances = self._world.agree(self._compare(self._real[pixels], ours) if self._world.leads else None)
        return metrics | numbers({with_count(name, self._fields.images): value for name, value in distances.items()}, report)

    def _compare(self, real: Features, drawn: Features) -> dict[str, float]:
        found: dict[str, float] = {}
        for metric in self._fields.metrics:
            if metric == "fid":
                found[metric] = frechet(moments(real["fid"]), moments(drawn["fid"]))
            elif metric == "cmmd":
                found[metric] = kernel_distance(real["clip"], drawn["clip"])
            elif metric == "dino_mmd":
                found[metric] = kernel_distance(real["dino"], drawn["dino"])
            elif metric == "prompt_alignment":
                found[metric] = float(drawn["alignment"].double().mean())
        return found

    def _draw(self, model: nn.Module, recipe: Recipe, prompts: Prompts, some: Batch, places: list[int], pixels: int) -> Tensor:
        """A picture for each caption of `some`, with the levels of a PNG, as real pictures have."""
        told = {f"{i}": (text, mask) for i, (text, mask) in enumerate(zip(some.text, some.text_mask, strict=True))}
        samples = recipe.samples.model_copy(update={"guidance": self._fields.guidance, "steps": self._fields.steps})
        seeds = [mix(self._fields.seed, place) for place in places]
        empty = {"": prompts.states[""]} if "" in prompts.states else {}
        asked, prompts = recipe.model_copy(update={"samples": samples}), Prompts(told | empty)
        pictures = draw_pictures(model, asked, prompts, list(told), seeds, pixels, self._autoencoder)
        return levels(pictures.float()) / 127.5 - 1

    def _in_chunks(self, count: int, work: Callable[[list[int]], Features], tell: Callable[[int], None]) -> Features | None:
        """`work` on places 0 … count − 1, shared out by chunks; all features in order. `tell` hears how many are done, now and then."""
        starts = list(range(0, count, CHUNK))
        mine: dict[int, Features] = {}
        told = time.monotonic()
        for first in range(0, len(starts), self._world.size):
            self._timing.get_on()
            if any(self._world.gather(bool(self._stop))):
                return None
            if first + self._world.rank < len(starts):
                start = starts[first + self._world.rank]
                mine[start] = work(list(range(start, min(start + CHUNK, count))))
            if self._world.agree(time.monotonic() - told > PUT_SECONDS):
                told = time.monotonic()
                tell(min(count, (first + self._world.size) * CHUNK))
        everyone: dict[int, Features] = {}
        for one in self._world.gather_to_lead(mine):
            everyone |= one
        in_order = [everyone[start] for start in sorted(everyone)]
        return {name: torch.cat([chunk[name] for chunk in in_order]) for name in (in_order[0] if in_order else ())}

    def _put(self, report: dict[str, Any]) -> None:
        def put() -> None:
            if self._world.leads:
                self._folder.check_attempt(self._attempt)
                self._folder.put_evaluation({**report, "time": time.time()})

        self._world.together(put)


def embed(networks: Networks, pictures: Tensor) -> Features:
    return {name: network(pictures).float().cpu() for name, network in networks.pictures.items()}
