"""The training loop, to be read from top to bottom: what one run does from its recipe to its last picture."""

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from dayrun.recipe import Recipe, Stage
from dayrun.run_folder import Fork, RunFolder
from trainer import checkpoint, fork, microbatch
from trainer.data.loader import BadSamples, Batch, Loader
from trainer.ema import AveragedWeights
from trainer.faults import DivergedError, StopSignal, StorageFault
from trainer.flow import contrastive_flow_loss, draw, flow_loss, interpolate, target_velocity, velocity_of
from trainer.gradients import Agreed, Signals, gradients_of
from trainer.limits import Timer
from trainer.model import Denoiser
from trainer.optim import Optimizers
from trainer.parallel import World, autocast, gathered, prepare
from trainer.samples import draw_sets, due, encode_prompts, stage_ends
from trainer.saving import Saver
from trainer.schedule import after_stages, rate_factor, stage_is_over, with_stage_steps
from trainer.telemetry import LOG_EVERY, Telemetry

LAST_SAVE_SECONDS = 60.0
"""How long a run that ends by a fault waits for the checkpoint that is still on its way."""


@dataclass
class Progress:
    """How far the run is: all there is to save beside tensors, since data order and noise follow from it."""

    step: int = 0  # optimizer steps done
    position: int = 0  # samples seen, over all ranks


class Run:
    """One attempt at a recipe: model, averages, optimizers and progress, with the run folder they are saved to."""

    def __init__(
        self,
        recipe: Recipe,
        folder: RunFolder,
        attempt: int,
        world: World,
        telemetry: Telemetry,
        stop: StopSignal,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.recipe, self.folder, self.attempt, self.world = recipe, folder, attempt, world
        self.telemetry, self.stop = telemetry, stop
        torch.manual_seed(recipe.seed)
        self.model = prepare(Denoiser(recipe.model), recipe.hardware, world)
        self.gradients = gradients_of(self.model, world)
        self.optimizers = Optimizers(self.model, recipe.optimizer)
        self.ema = AveragedWeights(self.model, recipe.ema) if recipe.ema else None
        self.progress = Progress()
        self.saver = Saver(folder, world, attempt, recipe.checkpoints, telemetry)
        self.timer = Timer(recipe, world, clock)
        self.stages_ended: list[int] = []  # steps of each stage that is over, where they need not be what the recipe asks for

    @property
    def course(self) -> Recipe:
        """The recipe with its stages as long as they were or will be: with /schedule/by limits that need not be what it asks for."""
        return with_stage_steps(self.recipe, after_stages(self.recipe, self.stages_ended))

    def train(self) -> Literal["succeeded", "stopped"]:
        """Run from where the newest good checkpoint left off to the end, or to the stop signal."""
        self.resume()
        # one loader before anything else: unusable data must end the run before it costs a minute
        left = [i for i, (_, end) in enumerate(stage_ends(self.course)) if end > self.progress.step]
        loaders = [Loader(self.recipe.at_stage(i), self.recipe.stages[i].pixels, self.report_bad) for i in left]
        self.prompts = encode_prompts(self.recipe, self.world)
        try:
            self.draw_due_samples()
            for i, loader in zip(left, loaders, strict=True):
                if not self.ends(i) and not self.train_stage(i, loader):
                    return "stopped"
            self.save(wait=True)
            return "succeeded"
        finally:
            self.saver.close(LAST_SAVE_SECONDS)

    def train_stage(self, index: int, loader: Loader) -> bool:
        """Train until the stage is over; False when the run was told to stop before."""
        progress, world = self.progress, self.world
        recipe, stage = self.recipe.at_stage(index), self.recipe.stages[index]
        share = stage.batch_size // world.size
        self.gradients.be_careful()
        micro_batch = microbatch.chosen(stage, share, world, self.folder, lambda images: self.try_out(recipe, loader, images))
        batches = loader.batches(progress.position, stage.batch_size, micro_batch, world.rank, world.size)
        if world.leads:
            about = {"stage": stage.name, "pixels": stage.pixels, "batch_size": stage.batch_size, "micro_batch_size": micro_batch}
            self.telemetry.event("stage_started", progress.step, **about)
        window = Window()
        while not self.ends(index):
            begun = time.monotonic()
            agreed = self.accumulate(recipe, batches, share // micro_batch, window)
            if agreed.out_of_memory:
                before, micro_batch = micro_batch, microbatch.shrunk(recipe, share, micro_batch, world)
                self.gradients.be_careful()
                if world.leads:
                    self.telemetry.event("micro_batch_reduced", progress.step, stage=stage.name, before=before, now=micro_batch)
                batches = loader.batches(progress.position, stage.batch_size, micro_batch, world.rank, world.size)
                continue
            loss, norm = agreed.loss, self.gradients.clip(recipe.optimizer.gradient_clip)
            if norm != norm or norm == float("inf"):
                raise DivergedError(f"step {progress.step + 1}: loss {loss}, gradient norm {norm}; a lower learning rate may hold")
            used = self.timer.share(agreed.seconds)
            factor = rate_factor(progress.step, self.recipe.total_steps, recipe.schedule, used)
            self.optimizers.step(factor)
            progress.step += 1
            progress.position += stage.batch_size
            if self.ema:
                self.ema.update(progress.step)
            window.steps += 1
            window.seconds += time.monotonic() - begun
            self.report(loss, norm, factor, stage, window)
            if agreed.save_failed:
                self.finish_save()
            if agreed.stop and world.leads:
                self.telemetry.event("stop_requested", progress.step, signal=self.stop.name or "on another rank")
            last = agreed.stop or (self.ends(index) and progress.step == self.course.total_steps)
            if last or progress.step % recipe.checkpoints.every == 0:
                self.save(wait=last)
            if agreed.stop:
                return False
            self.draw_due_samples()
        return True

    def ends(self, index: int) -> bool:
        """Whether stage `index` is over; when that is before its last step, the next one has the steps that are left."""
        if index < len(self.stages_ended):
            return True
        lengths, schedule = after_stages(self.recipe, self.stages_ended), self.recipe.schedule
        over = stage_is_over(self.progress.step, sum(lengths[: index + 1]), self.recipe.total_steps, schedule, self.timer.used)
        if over and schedule.by == "limits":
            self.stages_ended = [*lengths[:index], self.progress.step - sum(lengths[:index])]
        return over

    def accumulate(self, recipe: Recipe, batches: Iterator[Batch], count: int, window: "Window") -> Agreed:
        """Forward and backward over `count` micro-batches; gradients and loss are means over all ranks afterwards."""
        self.gradients.zero()
        total = torch.zeros((), device=self.world.device)
        out_of_memory = False
        try:
            for left in reversed(range(count)):
                waiting = time.monotonic()
                batch = next(batches)
                window.data_wait += time.monotonic() - waiting
                self.gradients.before_backward(last=left == 0)
                loss = self.loss(recipe, batch) / count
                loss.backward()
                total += loss.detach()
        except (RuntimeError, MemoryError) as error:
            if not microbatch.ran_out(error) or not self.gradients.survives:
                raise
            out_of_memory = True
        return self.gradients.average(total, Signals(bool(self.stop), out_of_memory, self.saver.failed, self.timer.seconds()))

    def try_out(self, recipe: Recipe, loader: Loader, images: int) -> None:
        """Forward and backward of so many images, for what they take."""
        self.gradients.zero()
        self.gradients.before_backward(last=False)
        self.loss(recipe, loader.load(list(range(images)))).backward()
        self.gradients.forget()

    def loss(self, recipe: Recipe, batch: Batch) -> Tensor:
        """The objective on one micro-batch, a float32 scalar."""
        objective, device = recipe.objective, self.world.device
        draws = draw(recipe.seed, batch.positions, tuple(batch.images.shape[1:]), objective)
        clean, noise, times = batch.images.to(device), draws.noise.to(device), draws.times.to(device)
        text, mask = batch.text, batch.text_mask
        if objective.caption_dropout > 0:
            empty, empty_mask = self.prompts.of([""], torch.device("cpu"))
            text = torch.where(draws.drop_caption[:, None, None], empty, text)
            mask = torch.where(draws.drop_caption[:, None], empty_mask, mask)
        noisy = interpolate(clean, noise, times, objective.noise_scale)
        with autocast(recipe.hardware, self.world):
            predicted = self.model(noisy, times, text.to(device), mask.to(device)).float()
        velocity = velocity_of(predicted, noisy, times, objective)
        target = target_velocity(clean, noise, noisy, times, objective)
        if objective.contrastive:
            return contrastive_flow_loss(velocity, target, objective.contrastive.weight)
        return flow_loss(velocity, target)

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
        self.timer.start(self.folder, self.attempt)
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
        self.stand_at(manifest)
        self.saver.step = step
        if self.world.leads:
            self.telemetry.event("resumed", step, checkpoint=step)
        return True

    def stand_at(self, manifest: dict[str, Any]) -> None:
        self.progress = Progress(manifest["step"], manifest["position"])
        self.stages_ended = manifest.get("stages_ended", []) if self.recipe.schedule.by == "limits" else []

    def start_from(self, parent: Fork) -> None:
        """Take over the parent's state, and save it as our own at once: the parent may delete its checkpoint at any time."""
        manifest, digest = fork.take_over(parent, self.recipe, self.world, self.model, self.state())
        if parent["weights"] == "all":
            self.stand_at(manifest)
        elif self.ema:
            self.ema.restart()
        if self.world.leads:
            about = {"from": parent["from"], "weights": parent["weights"], "digest": digest}
            self.telemetry.event("forked", self.progress.step, checkpoint=manifest["step"], **about)
        self.save(wait=True)

    def save(self, wait: bool = False) -> None:
        """A checkpoint of now, written while the training goes on, or on return if it is to be waited for."""
        step = self.progress.step
        if self.saver.step != step:
            self.finish_save()
            self.telemetry.flush()  # so that no line before a checkpoint can be lost by what comes after it
            about = {"position": self.progress.position, "stages_ended": self.stages_ended}
            self.saver.begin(self.state(), step, about)
        if wait:
            self.finish_save(needed=True)

    def finish_save(self, needed: bool = False) -> None:
        """Wait for the checkpoint that is on its way. When it could not be written, the recipe says whether the run goes on."""
        error = self.saver.wait()
        if error is not None and not isinstance(error, OSError):
            raise error
        if error is not None and (needed or self.recipe.checkpoints.on_storage_error == "stop"):
            raise StorageFault(str(error)) from error

    def draw_due_samples(self) -> None:
        step, course = self.progress.step, self.course
        sets = [s for s in course.samples.sets if due(s, step, course.total_steps)]
        if not sets:
            return
        averaged = self.ema.in_place() if self.ema and course.samples.ema else nullcontext()
        with averaged, gathered(self.model), autocast(course.hardware, self.world):
            self.model.eval()
            try:
                for name, images, seconds in draw_sets(self.model, course, self.prompts, sets, self.folder, self.world, step, self.attempt):
                    if self.world.leads:
                        self.telemetry.event("samples_drawn", step, set=name, images=images, seconds=round(seconds, 3))
                    self.finish_save()  # the index names the checkpoint of its step, so it must be there before the index is complete
            except OSError as error:  # on every rank: pictures are no reason to stop
                if self.world.leads:
                    self.telemetry.event("samples_failed", step, because=str(error))
            self.model.train()

    def report(self, loss: float, norm: float, factor: float, stage: Stage, window: "Window") -> None:
        step = self.progress.step
        self.telemetry.check()
        self.telemetry.metric(step, loss=loss)
        if step % LOG_EVERY == 0 or step == self.course.total_steps:
            seconds = window.seconds / window.steps
            self.telemetry.metric(
                step,
                gradient_norm=norm,
                learning_rate=self.recipe.optimizer.learning_rate * factor,
                step_seconds=seconds,
                images_per_second=stage.batch_size / seconds,
                data_wait_seconds=window.data_wait / window.steps,
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
