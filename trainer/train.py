"""The training loop, to be read from top to bottom: what one run does from its recipe to its last picture."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from dayrun.layers import sprint_of
from dayrun.recipe import Recipe, SampleSet, Stage
from dayrun.run_folder import EventType, Fork, RunFolder
from trainer import checkpoint, fork
from trainer.budget import SampleBudget
from trainer.data.loader import BadSamples, Batch, Loader
from trainer.ema import AveragedWeights
from trainer.evaluation.evaluate import Evaluator
from trainer.faults import DivergedError, StopSignal, StorageFault
from trainer.flow import contrastive_flow_loss, draw, flow_loss, interpolate, target_velocity, velocity_of
from trainer.guard import Guard
from trainer.meter import Meter
from trainer.model import Denoiser
from trainer.objective.parts import Frozen, PartMeans, weighted
from trainer.objective.representation import hold, token_grid
from trainer.optim import Optimizers
from trainer.padding import trimmed
from trainer.parallel import Gradients, World, autocast, prepare
from trainer.profiling import Profiler
from trainer.routing import route
from trainer.samples import draw_sets, encode_prompts, stage_ends
from trainer.schedule import rate_factor
from trainer.telemetry import Telemetry
from trainer.text import tower_of
from trainer.timing import Timing


@dataclass
class Progress:
    """How far the run is: all there is to save beside tensors, since data order and noise follow from it."""

    step: int = 0  # optimizer steps done
    position: int = 0  # samples seen, over all ranks


class Run:
    """One attempt at a recipe: model, averages, optimizers and progress, with the run folder they are saved to."""

    def __init__(
        self, recipe: Recipe, folder: RunFolder, attempt: int, world: World, telemetry: Telemetry, stop: StopSignal, timing: Timing
    ) -> None:
        self.recipe, self.folder, self.attempt, self.world = recipe, folder, attempt, world
        self.telemetry, self.stop, self.timing = telemetry, stop, timing
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
        self.guard = Guard(recipe.guard, self.tell)
        self.meter = Meter(recipe, world, telemetry, timing)
        self.profiler = Profiler(folder, world, telemetry)
        self.budget = SampleBudget(recipe.samples.budget)
        self.evaluator = Evaluator(recipe, folder, attempt, world, stop, timing) if recipe.evaluation else None

    def train(self) -> Literal["succeeded", "stopped"]:
        """Run from where the newest good checkpoint left off to the end, or to the stop signal."""
        self.resume()
        # the loaders before anything else: unusable data must end the run before it costs a minute
        loaders = self.loaders()
        if self.evaluator:
            self.evaluator.prove()
        self.prompts = encode_prompts(self.recipe, self.world)
        self.tower = tower_of(self.recipe, self.world)
        self.show()
        while (outcome := self.train_stages(loaders)) == "rolled_back":
            loaders = self.loaders()
        return outcome

    def loaders(self) -> list[Loader]:
        """One for every stage that is left."""
        return [Loader(recipe, stage.pixels, self.report_bad) for recipe, stage, _ in self.stages_left()]

    def train_stages(self, loaders: list[Loader]) -> Literal["succeeded", "stopped", "rolled_back"]:
        for (recipe, stage, last_step), loader in zip(self.stages_left(), loaders, strict=True):
            ended = self.train_stage(recipe, stage, last_step, loader)
            if ended != "done":
                return ended
        return "succeeded"

    def stages_left(self) -> list[tuple[Recipe, Stage, int]]:
        """(recipe as the stage sees it, stage, steps done when it ends) of every stage that is not finished."""
        ends = stage_ends(self.recipe)
        return [(self.recipe.at_stage(i), stage, end) for i, (stage, end) in enumerate(ends) if end > self.progress.step]

    def train_stage(self, recipe: Recipe, stage: Stage, last_step: int, loader: Loader) -> Literal["done", "stopped", "rolled_back"]:
        """Train until `last_step` steps are done, unless the run was told to stop before, or goes back to an earlier step."""
        progress, world, timing = self.progress, self.world, self.timing
        share = stage.batch_size // world.size
        micro_batch = min(stage.micro_batch_size or share, share)
        batches = loader.batches(progress.position, stage.batch_size, micro_batch, world.rank, world.size)
        self.tell("stage_started", stage=stage.name, pixels=stage.pixels, batch_size=stage.batch_size)
        self.meter.begin_stage(recipe, stage)
        if progress.step == last_step - stage.steps:
            self.guard.begin_stage()
        hold(self.model.projector, held=recipe.representation is None)
        while progress.step < last_step:
            timing.begin_step()
            loss, (stopping, saving, profiling) = self.accumulate(recipe, batches, share // micro_batch)
            with timing.part("optimizer"):
                norm = self.gradients.clip(recipe.optimizer.gradient_clip)
                verdict = self.guard.judge(progress.step + 1, loss, norm, lambda: self.guard.whose(world, loader.order.sample_at))
                factor = rate_factor(progress.step, recipe.total_steps, recipe.schedule)
                progress.position += stage.batch_size
                if verdict == "roll_back":
                    self.roll_back()
                    return "rolled_back"
                progress.step += 1
                if verdict == "step":
                    with self.meter.norms_of(self.model, progress.step, norm):
                        self.optimizers.step(factor)
                    if self.ema:
                        self.ema.update(progress.step)
            timing.end_step(progress.step)
            self.meter.report(progress.step, loss, norm, recipe.optimizer.learning_rate * factor, self.parts.means)
            self.profiler.stepped(progress.step, profiling)
            if stopping:
                self.tell("stop_requested", signal=self.stop.name or "on another rank")
            if stopping or saving or progress.step % recipe.checkpoints.every == 0 or progress.step == recipe.total_steps:
                self.save()
            if stopping:
                return "stopped"
            self.show()
        return "done"

    def accumulate(self, recipe: Recipe, batches: Iterator[Batch], count: int) -> tuple[float, list[bool]]:
        """Forward and backward over `count` micro-batches; gradients and loss are means over all ranks afterwards. Also returns what
        any rank was asked for by a signal: stop, save, profile."""
        timing = self.timing
        self.gradients.zero()
        self.guard.begin_step()
        total = torch.zeros((), device=self.world.device)
        for _ in range(count):
            with timing.part("data_wait"):
                batch = next(batches)
            with timing.part("forward"):
                loss = self.loss(recipe, batch) / count
            with timing.part("backward"):
                loss.backward()
            total += loss.detach()
            self.guard.saw(batch.positions, loss)
        with timing.part("communication"):
            return self.gradients.average(total, self.stop.wishes())

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
        self.meter.saw(velocity, target, times)
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
        manifest = self.loaded(step)
        if manifest is None:
            return False
        self.progress = Progress(manifest["step"], manifest["position"])
        self.saved_step = step
        self.guard.remember(manifest.get("guard", {}))
        self.meter.went_on_from(manifest.get("seconds", 0.0))
        self.tell("resumed", checkpoint=step)
        return True

    def loaded(self, step: int) -> dict[str, Any] | None:
        """The manifest of the checkpoint of `step`, whose state this run now has; None, and an event, when it is not whole."""
        try:
            with self.timing.part("checkpoint"), checkpoint.at_hand(self.folder, self.world, step) as (files, manifest):
                checkpoint.load(files, self.state())
            return manifest
        except checkpoint.BadCheckpoint as error:
            self.tell("checkpoint_rejected", step, checkpoint=step, because=str(error))
            return None

    def roll_back(self) -> None:
        """Back to the newest checkpoint from before the trouble, and on from there with the data that come after it."""
        because = self.guard.because(self.progress.step + 1)
        steps = self.world.together(lambda: self.folder.checkpoints() if self.world.leads else [])[0]
        for step in reversed([step for step in steps if step <= self.guard.good_until]):
            if (manifest := self.loaded(step)) is not None:
                self.progress.step, self.saved_step = step, -1
                self.guard.rolled_back(manifest.get("guard", {}))
                self.tell("rolled_back", checkpoint=step, position=self.progress.position, because=because, count=self.guard.roll_backs)
                self.save()  # the same state at another position: whoever resumes from here must not meet the same data again
                return
        raise DivergedError(f"{because}; there is no checkpoint from before it to go back to")

    def start_from(self, parent: Fork) -> None:
        """Take over the parent's state, and save it as our own at once: the parent may delete its checkpoint at any time."""
        manifest, digest = fork.take_over(parent, self.recipe, self.world, self.model, self.state())
        if parent["weights"] == "all":
            self.progress = Progress(manifest["step"], manifest["position"])
            self.guard.remember(manifest.get("guard", {}))
        elif self.ema:
            self.ema.restart()
        about = {"from": parent["from"], "weights": parent["weights"], "digest": digest}
        self.tell("forked", checkpoint=manifest["step"], **about)
        self.save()

    def save(self) -> None:
        """A checkpoint of now. When it cannot be written, the recipe says whether the run goes on."""
        step = self.progress.step
        if self.saved_step == step:
            return
        self.telemetry.flush()  # so that no line before a checkpoint can be lost by what comes after it
        about = {"position": self.progress.position, "seconds": self.meter.seconds, "guard": self.guard.memory()}
        try:
            with self.timing.part("checkpoint"):
                saved = checkpoint.save(self.folder, self.world, self.state(), step, self.attempt, about)
        except OSError as error:
            self.tell("checkpoint_failed", because=str(error))
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
    def tell(self, type: EventType, step: int | None = None, **data: Any) -> None:
        """An event that all ranks know of, once."""
        if self.world.leads:
            self.telemetry.event(type, self.progress.step if step is None else step, **data)

    def show(self) -> None:
        """What is due of pictures and measurements, with the averaged weights where there are any."""
        step = self.progress.step
        sets, postponed = self.budget.sets(self.recipe, step, self.meter.attempt_seconds, self.world)
        for name, because in postponed:
            self.tell("samples_postponed", set=name, because=because)
        if sets:
            with self.timing.part("preview"), self.shown(self.recipe.samples.ema):
                self.draw_samples(sets)
        if self.evaluator and self.evaluator.due(step):
            with self.timing.part("evaluation"), self.shown(True):
                self.evaluator.evaluate(self.model, self.prompts, self.tower, step, self.guard.roll_backs, self.tell, self.telemetry.metric)

    @contextmanager
    def shown(self, averaged: bool) -> Iterator[None]:
        """The model as it is drawn with."""
        with self.ema.in_place() if self.ema and averaged else nullcontext():
            self.model.eval()
            try:
                yield
            finally:
                self.model.train()

    def draw_samples(self, sets: list[SampleSet]) -> None:
        step = self.progress.step
        try:
            for name, images, seconds in draw_sets(
                self.model, self.recipe, self.prompts, sets, self.folder, self.world, step, self.attempt
            ):
                self.timing.get_on()
                self.budget.spent_on(name, seconds)
                self.tell("samples_drawn", set=name, images=images, seconds=round(seconds, 3))
        except OSError as error:  # on every rank: pictures are no reason to stop
            self.tell("samples_failed", because=str(error))

    def report_bad(self, bad: BadSamples) -> None:
        if bad.count in (1, 10) or bad.count % 100 == 0:
            self.telemetry.event("bad_samples", self.progress.step, count=bad.count, first=bad.first)
