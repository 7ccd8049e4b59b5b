"""Pictures while the model learns: fixed prompts and seeds, drawn by all ranks together, appearing in the run folder as they come."""

import io
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from dayrun.recipe import Recipe, SampleSet, Stage
from dayrun.run_folder import RunFolder, SampleImage, SampleIndex
from trainer.autoencoder import Autoencoder
from trainer.flow import euler, sampling_grid, start_noise, velocity_of
from trainer.model import Route
from trainer.padding import trimmed
from trainer.routing import route
from trainer.text import TowerError, load_text_encoder
from trainer.world import World

SEED = 0
"""Of which tokens skip in the routed pass: with the picture's own seed in the place of a position, it is the same in every run."""
CHUNK = 16
"""Pictures that one rank draws at a time: small enough that a person sees them come."""


@dataclass(frozen=True)
class Prompts:
    """Text states of every prompt a run can draw, and of the empty prompt, from the frozen tower; encoded once, kept on the CPU."""

    states: dict[str, tuple[Tensor, Tensor]]  # prompt → (tokens, width) float32, (tokens,) bool

    def of(self, prompts: list[str], device: torch.device) -> tuple[Tensor, Tensor]:
        """(n, tokens, width) float32 and (n, tokens) bool."""
        pairs = [self.states[prompt] for prompt in prompts]
        return torch.stack([s for s, _ in pairs]).to(device), torch.stack([m for _, m in pairs]).to(device)


def encode_prompts(recipe: Recipe, world: World) -> Prompts:
    """The states of what the recipe draws and drops; nothing is loaded when there is neither."""
    texts = [prompt for s in recipe.samples.sets for prompt in s.prompts]
    return encode(recipe, texts, world) if recipe.objective.caption_dropout > 0 or texts else Prompts({})


def encode(recipe: Recipe, texts: list[str], world: World) -> Prompts:
    """Load the text tower on rank 0, encode `texts` and the empty prompt, let the tower go, share the states. Raises TowerError."""
    encoded: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    if world.leads:
        tower = load_text_encoder(recipe.text.source, recipe.text.tokens, recipe.text.encoder, cleaning=recipe.text.cleaning)
        if tower.width != recipe.model.text_width:
            because = f"its states are {tower.width} wide, /model/text_width is {recipe.model.text_width}: the model learnt from another"
            raise TowerError(f"/text/source: {recipe.text.source!r}: {because}")
        wanted = list(dict.fromkeys(["", *texts]))
        states, masks = tower.encode(wanted)
        encoded = {text: (s.numpy(), m.numpy()) for text, s, m in zip(wanted, states, masks, strict=True)}
    return Prompts({text: (torch.from_numpy(s), torch.from_numpy(m)) for text, (s, m) in world.agree(encoded).items()})


@torch.no_grad()
def draw_pictures(
    model: nn.Module,
    recipe: Recipe,
    prompts: Prompts,
    texts: list[str],
    seeds: list[int],
    pixels: int,
    autoencoder: Autoencoder | None = None,
) -> Tensor:
    """Draw one picture a text: (n, 3, pixels, pixels) float32 in [−1, 1]. `recipe` is that of the stage.

    What a model draws that works on latents, `autoencoder` turns into pictures; without one it stays as it is.

    Guided by the empty prompt (Ho & Salimans 2022, eq. 6), or, where the recipe routes, by the model's own routed pass with the same
    prompt, since the former is poor after training with routing. Which tokens that pass leaves out follows from the picture's seed.
    """
    fields, objective = recipe.samples, recipe.objective
    device = next(model.parameters()).device
    side = pixels // (recipe.latents.downscale if recipe.latents else 1)
    shape = (recipe.model.in_channels, side, side)
    start = torch.cat([start_noise(seed, shape, objective.noise_scale) for seed in seeds]).to(device)
    guided = fields.guidance != 1.0
    tokens = (side // recipe.model.patch_size) ** 2
    skipping = route(SEED, seeds, tokens, recipe.routing, device) if guided and fields.self_guidance else None
    with_empty = guided and skipping is None
    shown = texts + [""] * len(texts) if with_empty else texts
    text, mask = trimmed(*prompts.of(shown, torch.device("cpu")))
    text, mask = text.to(device), mask if mask is None else mask.to(device)

    def velocity(x: Tensor, t: Tensor, skipping: Route | None = None) -> Tensor:
        return velocity_of(model(x, t, text, mask, skipping).float(), x, t, objective)

    def guided_velocity(x: Tensor, t: Tensor) -> Tensor:
        if with_empty:
            strong, weak = velocity(torch.cat([x, x]), torch.cat([t, t])).chunk(2)
        else:
            strong, weak = velocity(x, t), velocity(x, t, skipping)
        return weak + fields.guidance * (strong - weak)

    grid = sampling_grid(fields.steps, fields.shift or objective.times.shift)
    drawn = euler(guided_velocity if guided else velocity, start, grid)
    if recipe.latents:
        return autoencoder.decode(drawn) if autoencoder else drawn
    return drawn.clamp(-1, 1)


def due(sample_set: SampleSet, step: int, total_steps: int) -> bool:
    """Whether the set is drawn once `step` steps are done."""
    periodic = step > 0 and sample_set.every is not None and step % sample_set.every == 0
    return due_at_an_end(sample_set, step, total_steps) or periodic


def due_at_an_end(sample_set: SampleSet, step: int, total_steps: int) -> bool:
    """Whether it is drawn since the run begins, or is over, with `step`."""
    return (step == 0 and sample_set.at_start) or (step == total_steps and sample_set.at_end)


def levels(pictures: Tensor) -> Tensor:
    """[−1, 1] → whole numbers from 0 to 255, as a PNG has them; the dtype stays."""
    return ((pictures + 1) * 127.5).round().clamp(0, 255)


def png(picture: Tensor) -> bytes:
    """(3, height, width) in [−1, 1] → PNG bytes."""
    pixels = levels(picture).byte().permute(1, 2, 0).cpu().numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def draw_sets(
    model: nn.Module,
    autoencoder: Autoencoder | None,
    recipe: Recipe,
    prompts: Prompts,
    sets: list[SampleSet],
    folder: RunFolder,
    world: World,
    step: int,
    attempt: int,
) -> Iterator[tuple[str, int, float]]:
    """Draw `sets` into samples/<step>/, adding to the index after every chunk; yields (set, pictures, seconds) as each is done.

    Every rank calls it with the same arguments. A set that an earlier attempt finished at this step is not drawn again. Raises on
    every rank: OSError when the store takes no pictures, StaleAttempt when the folder belongs to a later attempt.
    """
    recipe, stage = stage_at(recipe, step)
    pixels = stage.pixels
    index = world.together(lambda: read_index(folder, step, attempt) if world.leads else None)[0]
    assert index is not None

    def put(gathered: list[list[tuple[SampleImage, bytes]]]) -> None:
        """Pictures first, so that the index never names one that is not there."""
        folder.check_attempt(attempt)
        for entry, data in (pair for rank in gathered for pair in rank):
            folder.put_sample_picture(step, entry["file"], data)
            index["images"].append(entry)
        index["images"].sort(key=lambda image: (image["set"], image["seed"]))
        put_index(folder, index)

    for sample_set in sets:
        have = {(i["set"], i["prompt"], i["seed"]) for i in index["images"]}
        wanted = [
            (number, prompt, sample_set.seed + number)
            for number, prompt in enumerate(sample_set.prompts)
            if (sample_set.name, prompt, sample_set.seed + number) not in have
        ]
        begun = time.monotonic()
        for first in range(0, len(wanted), CHUNK * world.size):
            mine = wanted[first : first + CHUNK * world.size][world.rank :: world.size]
            drawn: list[tuple[SampleImage, bytes]] = []
            if mine:
                texts, seeds = [prompt for _, prompt, _ in mine], [seed for _, _, seed in mine]
                pictures = draw_pictures(model, recipe, prompts, texts, seeds, pixels, autoencoder)
                drawn = [(about(recipe, sample_set.name, n, p, s, pixels), png(x)) for (n, p, s), x in zip(mine, pictures, strict=True)]
            gathered = world.gather(drawn)
            world.together(lambda gathered=gathered: put(gathered) if world.leads else None)
        yield sample_set.name, len(wanted), time.monotonic() - begun
    index["complete"] = True
    world.together(lambda: put([]) if world.leads else None)


def stage_at(recipe: Recipe, step: int) -> tuple[Recipe, Stage]:
    """The stage that ends at `step` or is under way, and the recipe as it sees it."""
    index = next(i for i, (_, end) in enumerate(stage_ends(recipe)) if step <= end)
    return recipe.at_stage(index), recipe.stages[index]


def stage_ends(recipe: Recipe) -> list[tuple[Stage, int]]:
    """Each stage with the number of steps done when it ends."""
    ends, done = [], 0
    for stage in recipe.stages:
        done += stage.steps
        ends.append((stage, done))
    return ends


def read_index(folder: RunFolder, step: int, attempt: int) -> SampleIndex:
    try:
        found = folder.sample_index(step)
    except (FileNotFoundError, ValueError):
        found = SampleIndex(step=step, attempt=attempt, time=0.0, complete=False, checkpoint=None, images=[])
    return {**found, "attempt": attempt, "complete": False}


def put_index(folder: RunFolder, index: SampleIndex) -> None:
    index["time"] = time.time()
    index["checkpoint"] = folder.checkpoint_digest(index["step"])
    folder.put_sample_index(index)


def about(recipe: Recipe, name: str, number: int, prompt: str, seed: int, pixels: int) -> SampleImage:
    return SampleImage(
        file=f"{name}-{number:05d}.png",
        set=name,
        prompt=prompt,
        seed=seed,
        guidance=recipe.samples.guidance,
        steps=recipe.samples.steps,
        ema=recipe.samples.ema and recipe.ema is not None,
        width=pixels,
        height=pixels,
    )
