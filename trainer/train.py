"""The training loop, to be read from top to bottom: what one run does from its recipe to its last picture."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from dayrun.layers import sprint_of
from dayrun.recipe import Recipe
from dayrun.run_folder import EventType, Fork, RunFolder
from trainer import checkpoint, fork, microbatch
from trainer.autoencoder import autoencoder_of
from trainer.data import shelves
from trainer.data.loader import BadSamples, Batch, Loader
from trainer.data.records import Chain
from trainer.ema import AveragedWeights
from trainer.faults import DivergedError, StopSignal, StorageFault
from trainer.flow import contrastive_flow_loss, draw, flow_loss, interpolate, target_velocity, velocity_of
from trainer.gradients import Agreed, Signals, gradients_of
from trainer.guard import Guard
from trainer.limits import Timer
from trainer.meter import Meter
from trainer.model import Denoiser
from trainer.objective.parts import Frozen, PartMeans, weighted
from trainer.objective.representation import hold, token_grid
from trainer.optim import Optimizers
from trainer.padding import trimmed
from trainer.parallel import prepare
from trainer.precision import autocast
from trainer.profiling import Profiler
from trainer.routing import route
from trainer.samples import encode_prompts, stage_ends
from trainer.saving import Saver
from trainer.schedule import after_stages, rate_factor, stage_is_over, with_stage_steps
from trainer.showing import Showing
from trainer.telemetry import Telemetry
from trainer.text import tower_of
from trainer.timing import Timing
from trainer.world import World

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
        timing: Timing | None = None,
    ) -> None:
        self.recipe, self.folder, self.attempt, self.world = recipe, folder, attempt, world
        self.telemetry, self.stop, self.timing = telemetry, stop, timing or Timing(world.device)
        torch.manual_seed(recipe.seed)
        model = Denoiser(recipe.model, sprint_of(recipe))
        self.frozen, self.autoencoder = Frozen(recipe, world), autoencoder_of(recipe, world)
        model.projector = self.frozen.projector()  # beside the denoiser's own parts, so that whatever is done to those is done to it
        self.model = prepare(model, recipe.hardware, world)
        self.gradients = gradients_of(self.model, world)
        self.optimizers = Optimizers(self.model, recipe.optimizer)
        self.ema = AveragedWeights(self.model, recipe.ema) if recipe.ema else None
        self.progress = Progress()
        self.saver = Saver(folder, world, attempt, recipe.checkpoints, telemetry)
        self.timer = Timer(recipe, world, clock)
        self.stages_ended: list[int] = []  # steps of each stage that is over, where they need not be what the recipe asks for
        self.guard = Guard(recipe.guard, self.tell)
        self.meter, self.parts = Meter(recipe, world, telemetry, self.timing), PartMeans(world)
        self.profiler = Profiler(folder, world, telemetry)
        self.chain = Chain(telemetry.trained)
        self.read = list[BadSamples]()  # by each loader of this attempt
        about = (self.model, self.ema, self.autoencoder, stop, self.timing)
        self.showing = Showing(recipe, folder, attempt, world, *about, self.finish_save, self.tell, telemetry.metric)

    @property
    def course(self) -> Recipe:
        """The recipe with its stages as long as they were or will be: with /schedule/by limits that need not be what it asks for."""
        return with_stage_steps(self.recipe, after_stages(self.recipe, self.stages_ended))

    def train(self) -> Literal["succeeded", "stopped"]:
        """Run from where the newest good checkpoint left off to the end, or to the stop signal."""
        self.resume()
        # the loaders before anything else: unusable data must end the run before it costs a minute
        loaders = self.loaders()
        self.showing.prove()
        self.prompts, self.tower = encode_prompts(self.recipe, self.world), tower_of(self.recipe, self.world)
        try:
            self.show()
            while (outcome := self.train_stages(loaders)) == "rolled_back":
                loaders = self.loaders()
            return outcome
        finally:
            self.saver.close(LAST_SAVE_SECONDS)

    def loaders(self) -> dict[int, Loader]:
        """One for every stage that is left, by its number."""
        left = [i for i, (_, end) in enumerate(stage_ends(self.course)) if end > self.progress.step]
        return {i: self.loader(i) for i in left}

    def loader(self, index: int) -> Loader:
        stage = self.recipe.stages[index]
        pin = self.world.device.type == "cuda"
        made = Loader(self.recipe.at_stage(index), stage.pixels, lambda bad: self.report_bad(index, bad), stage.batch_size, pin)
        self.read.append(made.bad)
        return made

    def train_stages(self, loaders: dict[int, Loader]) -> Literal["succeeded", "stopped", "rolled_back"]:
        for i, loader in loaders.items():
            if not self.ends(i) and (ended := self.train_stage(i, loader)) != "done":
                return ended
        self.save(wait=True)
        return "succeeded"

    def train_stage(self, index: int, loader: Loader) -> Literal["done", "stopped", "rolled_back"]:
        """Train until the stage is over, unless the run was told to stop before, or goes back to an earlier step."""
        progress, world, timing = self.progress, self.world, self.timing
        recipe, stage = self.recipe.at_stage(index), self.recipe.stages[index]
        share = stage.batch_size // world.size
        hold(self.model.projector, held=recipe.representation is None)
        self.gradients.be_careful()
        micro_batch = microbatch.chosen(stage, share, world, self.folder, lambda images: self.try_out(recipe, loader, images))
        batches = loader.batches(progress.position, stage.batch_size, micro_batch, world.rank, world.size)
        about = {"stage": stage.name, "pixels": stage.pixels, "batch_size": stage.batch_size, "micro_batch_size": micro_batch}
        self.tell("stage_started", **about)
        self.meter.begin_stage(recipe, stage)
        if progress.step == sum(after_stages(self.recipe, self.stages_ended)[:index]):
            self.guard.begin_stage()
        while not self.ends(index):
            timing.begin_step()
            agreed = self.accumulate(recipe, batches, share // micro_batch)
            if agreed.out_of_memory:
                before, micro_batch = micro_batch, microbatch.shrunk(recipe, share, micro_batch, world)
                self.gradients.be_careful()
                self.tell("micro_batch_reduced", stage=stage.name, before=before, now=micro_batch)
                batches = loader.batches(progress.position, stage.batch_size, micro_batch, world.rank, world.size)
                continue
            with timing.part("optimizer"):
                loss, norm = agreed.loss, self.gradients.clip(recipe.optimizer.gradient_clip)
                verdict = self.guard.judge(progress.step + 1, loss, norm, lambda: self.guard.whose(world, loader.sample_at))
                if world.leads:
                    self.chain.saw(index, loader, progress.position, progress.step)
                progress.position += stage.batch_size
                if verdict == "roll_back":
                    self.roll_back()
                    return "rolled_back"
                factor = rate_factor(progress.step, self.recipe.total_steps, recipe.schedule, self.timer.share(agreed.seconds))
                progress.step += 1
                if verdict == "step":
                    hold(self.model.projector, held=recipe.representation is None)  # once more: sliced gradients are anew in every step
                    with self.meter.norms_of(self.model, progress.step, norm):
                        self.optimizers.step(factor)
                    if self.ema:
                        self.ema.update(progress.step)
            timing.end_step(progress.step)
            last = self.ends(index) and progress.step == self.course.total_steps
            self.meter.report(progress.step, last, loss, norm, recipe.optimizer.learning_rate * factor, self.parts.means, self.read_so_far)
            self.profiler.stepped(progress.step, agreed.profile)
            if agreed.save_failed:
                self.finish_save()
            if agreed.stop:
                self.tell("stop_requested", signal=self.stop.name or "on another rank")
            if last or agreed.stop or agreed.save or progress.step % recipe.checkpoints.every == 0:
                self.save(wait=last or agreed.stop)
            if agreed.stop:
                return "stopped"
            self.show()
        return "done"

    def ends(self, index: int) -> bool:
        """Whether stage `index` is over; when that is before its last step, the next one has the steps that are left."""
        if index < len(self.stages_ended):
            return True
        lengths, schedule = after_stages(self.recipe, self.stages_ended), self.recipe.schedule
        over = stage_is_over(self.progress.step, sum(lengths[: index + 1]), self.recipe.total_steps, schedule, self.timer.used)
        if over and schedule.by == "limits":
            self.stages_ended = [*lengths[:index], self.progress.step - sum(lengths[:index])]
        return over

    def accumulate(self, recipe: Recipe, batches: Iterator[Batch], count: int) -> Agreed:
        """Forward and backward over `count` micro-batches; gradients and loss are means over all ranks afterwards."""
        timing = self.timing
        self.gradients.zero()
        self.guard.begin_step()
        total = torch.zeros((), device=self.world.device)
        out_of_memory = False
        try:
            for left in reversed(range(count)):
                with timing.part("data_wait"):
                    batch = next(batches)
                self.gradients.before_backward(last=left == 0)
                with timing.part("forward"):
                    loss = self.loss(recipe, batch) / count
                with timing.part("backward"):
                    loss.backward()
                total += loss.detach()
                self.guard.saw(batch.positions, loss)
        except (RuntimeError, MemoryError) as error:
            if not microbatch.ran_out(error) or not self.gradients.survives:
                raise
            out_of_memory = True
        with timing.part("communication"):
            signals = Signals(bool(self.stop), out_of_memory, self.saver.failed, self.timer.seconds(), *self.stop.take_wishes())
            return self.gradients.average(total, signals)

    def try_out(self, recipe: Recipe, loader: Loader, images: int) -> None:
        """Forward and backward of so many images, for what they take; nothing of them stays."""
        self.gradients.zero()
        self.gradients.before_backward(last=False)
        self.loss(recipe, loader.heaviest(images)).backward()
        self.gradients.forget()
        self.meter.forget()
        self.parts.means()

    def loss(self, recipe: Recipe, batch: Batch) -> Tensor:
        """The objective on one micro-batch, a float32 scalar."""
        objective, device = recipe.objective, self.world.device
        pictures = batch.images_on(device)
        clean = self.autoencoder.encode(pictures) if self.autoencoder else pictures
        _, *shape = clean.shape
        draws = draw(recipe.seed, batch.positions, (shape[0], shape[1], shape[2]), objective)
        noise, times = draws.noise.to(device), draws.times.to(device)
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
            parts |= self.frozen.aligned(recipe, pictures, grid, projected, kept)
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
        self.timer.start(self.folder, self.attempt)
        if resumed is None and (parent := self.world.together(lambda: self.folder.fork() if self.world.leads else None)[0]):
            self.start_from(parent)

    def resumed_from(self, step: int) -> bool:
        """Whether the checkpoint of `step` is whole; if so, this run now stands where it was written."""
        manifest = self.loaded(step)
        if manifest is None:
            return False
        self.stand_at(manifest)
        self.saver.step = step
        self.guard.remember(manifest.get("guard", {}))
        self.meter.went_on_from(manifest.get("seconds", 0.0))
        self.tell("resumed", checkpoint=step)
        return True

    def stand_at(self, manifest: dict[str, Any]) -> None:
        self.progress = Progress(manifest["step"], manifest["position"])
        self.stages_ended = manifest.get("stages_ended", []) if self.recipe.schedule.by == "limits" else []
        self.chain.stand_at(manifest.get("trained"))

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
        because, position = self.guard.because(self.progress.step + 1), self.progress.position
        self.finish_save()  # the newest may still be on its way
        steps = self.world.together(lambda: self.folder.checkpoints() if self.world.leads else [])[0]
        for step in reversed([step for step in steps if step <= self.guard.good_until]):
            if (manifest := self.loaded(step)) is not None:
                self.stand_at({**manifest, "position": position})
                self.saver.step = -1
                self.guard.rolled_back(manifest.get("guard", {}))
                self.tell("rolled_back", checkpoint=step, position=position, because=because, count=self.guard.roll_backs)
                self.save(wait=True)  # the same state at another position: whoever resumes from here must not meet the same data again
                return
        raise DivergedError(f"{because}; there is no checkpoint from before it to go back to")

    def start_from(self, parent: Fork) -> None:
        """Take over the parent's state, and save it as our own at once: the parent may delete its checkpoint at any time."""
        manifest, digest = fork.take_over(parent, self.recipe, self.world, self.model, self.state())
        if parent["weights"] == "all":
            self.stand_at(manifest)
            self.guard.remember(manifest.get("guard", {}))
        else:
            self.chain.stand_at(manifest.get("trained"))  # what the parent has seen is in these weights too
            if self.ema:
                self.ema.restart()
        about = {"from": parent["from"], "weights": parent["weights"], "digest": digest}
        self.tell("forked", checkpoint=manifest["step"], **about)
        self.save(wait=True)

    def save(self, wait: bool = False) -> None:
        """A checkpoint of now, written while the training goes on, or on return if it is to be waited for."""
        step = self.progress.step
        with self.timing.part("checkpoint"):
            if self.saver.step != step:
                self.finish_save()
                trained = self.chain.close(step)
                self.telemetry.flush()  # so that no line before a checkpoint can be lost by what comes after it
                about = {"position": self.progress.position, "stages_ended": self.stages_ended, "trained": trained}
                self.saver.begin(self.state(), step, about | {"seconds": self.meter.seconds, "guard": self.guard.memory()})
            if wait:
                self.finish_save(needed=True)

    def finish_save(self, needed: bool = False) -> None:
        """Wait for the checkpoint that is on its way. When it could not be written, the recipe says whether the run goes on."""
        error = self.saver.wait()
        if error is not None and not isinstance(error, OSError):
            raise error
        if error is not None and (needed or self.recipe.checkpoints.on_storage_error == "stop"):
            raise StorageFault(str(error)) from error

    # what people see
    def tell(self, type: EventType, step: int | None = None, **data: Any) -> None:
        """An event that all ranks know of, once."""
        if self.world.leads:
            self.telemetry.event(type, self.progress.step if step is None else step, **data)

    def show(self) -> None:
        """Pictures and measurements that are due."""
        self.showing.show(self.course, self.progress.step, self.meter.attempt_seconds, self.prompts, self.tower, self.guard.roll_backs)

    def read_so_far(self) -> dict[str, float]:
        """What the loaders of this process have done in this attempt."""
        read = {"samples_read": sum(one.seen for one in self.read), "bad_samples": sum(one.count for one in self.read)}
        return {**read, **shelves.counts()}

    def report_bad(self, stage: int, bad: BadSamples) -> None:
        """Every bad sample is listed in the folder; an event tells of some. Called from threads."""
        while bad.untold:
            self.telemetry.bad_sample({"stage": stage, **bad.untold.popleft()})
        if bad.count in (1, 10) or bad.count % 100 == 0:
            self.telemetry.event("bad_samples", self.progress.step, count=bad.count, first=bad.first)
