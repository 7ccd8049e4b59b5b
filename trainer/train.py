"""The training loop, to be read from top to bottom: what one run does from its recipe to its last picture."""

import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dayrun.layers import sprint_of
from dayrun.recipe import Recipe, Stage
from dayrun.run_folder import Fork, RunFolder
from trainer import checkpoint, fork
from trainer.data.loader import BadSamples, Batch, Loader
from trainer.ema import AveragedWeights
from trainer.faults import DivergedError, StopSignal, StorageFault
from trainer.flow import contrastive_flow_loss, draw, flow_loss, interpolate, target_velocity, velocity_of
from trainer.model import Denoiser
from trainer.objective.parts import Frozen, PartMeans, weighted
from trainer.objective.representation import hold, token_grid
from trainer.optim import Optimizers
from trainer.padding import trimmed
from trainer.parallel import Gradients, World, autocast, prepare
from trainer.routing import route
from trainer.samples import draw_sets, due, encode_prompts, stage_ends
from trainer.schedule import rate_factor
from trainer.telemetry import LOG_EVERY, Telemetry
from trainer.text import tower_of


@dataclass
class Progress:
    """How far the run is: all there is to save beside tensors, since data order and noise follow from it."""

    step: int = 0  # optimizer steps done
    position: int = 0  # samples seen, over all ranks


class Run:
    """One attempt at a recipe: model, averages, optimizers and progress, with the run folder they are saved to."""

    def __init__(self, recipe: Recipe, folder: RunFolder, attempt: int, world: World, telemetry: Telemetry, stop: StopSignal) -> None:
        self.recipe, self.folder, self.attempt, self.world = recipe, folder, attempt, world
        self.telemetry, self.stop = telemetry, stop
        torch.manual_seed(recipe.seed)
        model = Denoiser(recipe.model, sprint_of(recipe))
        self.frozen = Frozen(recipe, world)
        model.projector = self.frozen.projector()  # beside the denoiser's own parts, so that whatever is done to those is done to it
        self.model = prepare(model, recipe.hardware, world)
        self.gradients = Gradients(self.model, world)
        self.optimizers = Optimizers(self.model, recipe.optimizer)
        self.ema = AveragedWeights(self.model, recipe.ema) if recipe.ema else None
        self.progress = Progress()
        self.parts = PartMeans(world)
        self.saved_step = -1

    def train(self) -> Literal["succeeded", "stopped"]:
        """Run from where the newest good checkpoint left off to the end, or to the stop signal."""
        self.resume()
        # one loader before anything else: unusable data must end the run before it costs a minute
        stages = self.stages_left()
        loaders = [Loader(recipe, stage.pixels, self.report_bad) for recipe, stage, _ in stages]
        self.prompts = encode_prompts(self.recipe, self.world)
        self.tower = tower_of(self.recipe, self.world)
        self.draw_due_samples()
        for (recipe, stage, last_step), loader in zip(stages, loaders, strict=True):
            if not self.train_stage(recipe, stage, last_step, loader):
                return "stopped"
        return "succeeded"

    def stages_left(self) -> list[tuple[Recipe, Stage, int]]:
        """(recipe as the stage sees it, stage, steps done when it ends) of every stage that is not finished."""
        ends = stage_ends(self.recipe)
        return [(self.recipe.at_stage(i), stage, end) for i, (stage, end) in enumerate(ends) if end > self.progress.step]

    def train_stage(self, recipe: Recipe, stage: Stage, last_step: int, loader: Loader) -> bool:
        """Train until `last_step` steps are done; False when the run was told to stop before."""
        progress, world = self.progress, self.world
        share = stage.batch_size // world.size
        micro_batch = min(stage.micro_batch_size or share, share)
        batches = loader.batches(progress.position, stage.batch_size, micro_batch, world.rank, world.size)
        if world.leads:
            self.telemetry.event("stage_started", progress.step, stage=stage.name, pixels=stage.pixels, batch_size=stage.batch_size)
        hold(self.model.projector, held=recipe.representation is None)
        window = Window()
        while progress.step < last_step:
            begun = time.monotonic()
            loss, stopping = self.accumulate(recipe, batches, share // micro_batch, window)
            norm = self.gradients.clip(recipe.optimizer.gradient_clip)
            if norm != norm or norm == float("inf"):
                raise DivergedError(f"step {progress.step + 1}: loss {loss}, gradient norm {norm}; a lower learning rate may hold")
            factor = rate_factor(progress.step, recipe.total_steps, recipe.schedule)
            self.optimizers.step(factor)
            progress.step += 1
            progress.position += stage.batch_size
            if self.ema:
                self.ema.update(progress.step)
            window.steps += 1
            window.seconds += time.monotonic() - begun
            self.report(loss, norm, factor, stage, window)
            if stopping and world.leads:
                self.telemetry.event("stop_requested", progress.step, signal=self.stop.name or "on another rank")
            if stopping or progress.step % recipe.checkpoints.every == 0 or progress.step == recipe.total_steps:
                self.save()
            if stopping:
                return False
            self.draw_due_samples()
        return True

    def accumulate(self, recipe: Recipe, batches: Iterator[Batch], count: int, window: "Window") -> tuple[float, bool]:
        """Forward and backward over `count` micro-batches; gradients and loss are means over all ranks afterwards."""
        self.gradients.zero()
        total = torch.zeros((), device=self.world.device)
        for _ in range(count):
            waiting = time.monotonic()
            batch = next(batches)
            window.data_wait += time.monotonic() - waiting
            loss = self.loss(recipe, batch) / count
            loss.backward()
            total += loss.detach()
        return self.gradients.average(total, bool(self.stop))

    def loss(self, recipe: Recipe, batch: Batch) -> Tensor:
        """The objective on one micro-batch, a float32 scalar."""
        objective, device = recipe.objective, self.world.device
        draws = draw(recipe.seed, batch.positions, tuple(batch.images.shape[1:]), objective)
        clean, noise, times = batch.images.to(device), draws.noise.to(device), draws.times.to(device)
        text, mask = self.tower.states(batch.captions) if self.tower else (batch.text, batch.text_mask)
        if objective.caption_dropout > 0:
            empty, empty_mask = self.prompts.of([""], torch.device("cpu"))
            text = torch.where(draws.drop_caption[:, None, None].to(text.device), empty.to(text.device), text)
            mask = torch.where(draws.drop_caption[:, None], empty_mask, mask)
        text, mask = trimmed(text, mask)
        noisy = interpolate(clean, noise, times, objective.noise_scale)
        aligned, grid = recipe.representation, token_grid(clean, recipe.model.patch_size)
        skipping = route(recipe.seed, batch.positions, grid[0] * grid[1], recipe.routing, device)
        projected, kept = None, None
        with autocast(recipe.hardware, self.world):
            mask = mask if mask is None else mask.to(device)
            predicted = self.model(noisy, times, text.to(device), mask, skipping, tap=aligned.block if aligned else None)
            if aligned:
                predicted, features = predicted
                kept = skipping.kept_in(aligned.block) if skipping else None
                projected = self.model.projector(features, kept, grid)
        predicted = predicted.float()
        velocity = velocity_of(predicted, noisy, times, objective)
        target = target_velocity(clean, noise, noisy, times, objective)
        contrastive = objective.contrastive
        parts = {"flow": contrastive_flow_loss(velocity, target, contrastive.weight) if contrastive else flow_loss(velocity, target)}
        parts |= self.frozen.perceptual(recipe, batch.positions, predicted, clean, times)
        if projected is not None:
            parts |= self.frozen.aligned(recipe, clean, grid, projected, kept)
        self.parts.add(parts)
        return weighted(parts, recipe)

    # state
    def state(self) -> checkpoint.State:
        """Everything a resume needs, by name; the tensors are the live ones."""
        state = {"model": dict(self.model.state_dict()), "optimizer": self.optimizers.tensors()}
        return state | ({"ema": self.ema.tensors} if self.ema else {})

    def resume(self) -> None:
        """Go on from the newest checkpoint that proves whole and say which ones did not; else from what the run was forked from."""
        steps = self.world.together(lambda: self.folder.checkpoints() if self.world.leads else [])[0]
        resumed = next((step for step in reversed(steps) if self.resumed_from(step)), None)
        if self.world.leads:  # before anything else is written: what an attempt that still lives saves past this is not ours
            self.folder.went_on_from(self.attempt, resumed or 0)
        if resumed is None and (parent := self.world.together(lambda: self.folder.fork() if self.world.leads else None)[0]):
            self.start_from(parent)

    def resumed_from(self, step: int) -> bool:
        """Whether the checkpoint of `step` is whole; if so, this run now stands where it was written."""
        try:
            with checkpoint.at_hand(self.folder, self.world, step) as (files, manifest):
                checkpoint.load(files, self.state())
        except checkpoint.BadCheckpoint as error:
            if self.world.leads:
                self.telemetry.event("checkpoint_rejected", step, checkpoint=step, because=str(error))
            return False
        self.progress = Progress(manifest["step"], manifest["position"])
        self.saved_step = step
        if self.world.leads:
            self.telemetry.event("resumed", step, checkpoint=step)
        return True

    def start_from(self, parent: Fork) -> None:
        """Take over the parent's state, and save it as our own at once: the parent may delete its checkpoint at any time."""
        manifest, digest = fork.take_over(parent, self.recipe, self.world, self.model, self.state())
        if parent["weights"] == "all":
            self.progress = Progress(manifest["step"], manifest["position"])
        elif self.ema:
            self.ema.restart()
        if self.world.leads:
            about = {"from": parent["from"], "weights": parent["weights"], "digest": digest}
            self.telemetry.event("forked", self.progress.step, checkpoint=manifest["step"], **about)
        self.save()

    def save(self) -> None:
        """A checkpoint of now. When it cannot be written, the recipe says whether the run goes on."""
        step = self.progress.step
        if self.saved_step == step:
            return
        self.telemetry.flush()  # so that no line before a checkpoint can be lost by what comes after it
        try:
            saved = checkpoint.save(self.folder, self.world, self.state(), step, self.attempt, {"position": self.progress.position})
        except OSError as error:
            if self.world.leads:
                self.telemetry.event("checkpoint_failed", step, because=str(error))
            if self.recipe.checkpoints.on_storage_error == "stop" or self.stop or step == self.recipe.total_steps:
                raise StorageFault(str(error)) from error
            return
        self.saved_step = step
        if self.world.leads:
            self.telemetry.event("checkpoint_saved", step, seconds=round(saved.seconds, 3), bytes=saved.bytes)
            try:
                checkpoint.prune(self.folder, self.attempt, self.recipe.checkpoints)
            except OSError as error:  # the next one prunes again
                print(f"old checkpoints are still there: {error}", file=sys.stderr, flush=True)

    # what people see
    def draw_due_samples(self) -> None:
        step = self.progress.step
        sets = [s for s in self.recipe.samples.sets if due(s, step, self.recipe.total_steps)]
        if not sets:
            return
        with self.ema.in_place() if self.ema and self.recipe.samples.ema else nullcontext():
            self.model.eval()
            try:
                for name, images, seconds in draw_sets(
                    self.model, self.recipe, self.prompts, sets, self.folder, self.world, step, self.attempt
                ):
                    if self.world.leads:
                        self.telemetry.event("samples_drawn", step, set=name, images=images, seconds=round(seconds, 3))
            except OSError as error:  # on every rank: pictures are no reason to stop
                if self.world.leads:
                    self.telemetry.event("samples_failed", step, because=str(error))
            self.model.train()

    def report(self, loss: float, norm: float, factor: float, stage: Stage, window: "Window") -> None:
        step = self.progress.step
        self.telemetry.check()
        self.telemetry.metric(step, loss=loss)
        if step % LOG_EVERY == 0 or step == self.recipe.total_steps:
            seconds = window.seconds / window.steps
            self.telemetry.metric(
                step,
                gradient_norm=norm,
                learning_rate=self.recipe.optimizer.learning_rate * factor,
                step_seconds=seconds,
                images_per_second=stage.batch_size / seconds,
                data_wait_seconds=window.data_wait / window.steps,
                **self.parts.means(),
            )
            window.clear()

    def report_bad(self, bad: BadSamples) -> None:
        if bad.count in (1, 10) or bad.count % 100 == 0:
            self.telemetry.event("bad_samples", self.progress.step, count=bad.count, first=bad.first)


@dataclass
class Window:
    """Time since the last report, in training steps alone: checkpoints and pictures are told by their own events."""

    steps: int = 0
    seconds: float = 0.0
    data_wait: float = 0.0

    def clear(self) -> None:
        self.steps, self.seconds, self.data_wait = 0, 0.0, 0.0
