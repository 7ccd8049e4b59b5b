"""The card of an exported model: what it is, what it was made of and how to load it, as Markdown. A pure function of facts."""

from dayrun.recipe import Recipe
from trainer.samples import stage_at
from trainer.trained import Trained

FLOOR = 0.05
"""The floor that diffusers' pixel pipeline puts under times when it turns x̂0 into a velocity."""


def card(trained: Trained, losses: list[float], dollars: float | None, pipeline: str | None, beyond: bool) -> str:
    """`pipeline`: the class of diffusers that draws with it; `beyond`: whether its transformer has weights that diffusers does not know."""
    recipe, step = trained.recipe, trained.manifest["step"]
    parameters = sum(weight.numel() for weight in trained.model.parameters())
    facts = [
        ("recipe", f"`{recipe.name}` ({recipe.description})" if recipe.description else f"`{recipe.name}`"),
        ("parameters", f"{parameters:,} in float32, {'averaged (EMA)' if trained.ema else 'as trained'}"),
        ("steps", f"{step:,} of {recipe.total_steps:,}, {trained.manifest['position']:,} images seen"),
        ("data", ", ".join(f"`{source.url}`" for source in recipe.data.sources)),
        ("samples", record_of(trained.manifest.get("trained"))),
        ("loss", f"{sum(losses) / len(losses):.4f}, mean of the last {len(losses)} steps" if losses else "not known"),
        ("cost", "not told" if dollars is None else f"${dollars:,.2f}"),
        ("text tower", f"`{recipe.text.source}`, {recipe.text.tokens} tokens, cleaning `{recipe.text.cleaning}`; not part of this folder"),
        ("checkpoint", f"step {step}, SHA-256 of its manifest `{trained.digest}`"),
    ]
    rows = [(name, " ".join(value.split()).replace("|", r"\|")) for name, value in facts]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return f"""---
library_name: diffusers
pipeline_tag: text-to-image
---

# {recipe.name}

| | |
| --- | --- |
{table}

`recipe.json` holds every setting that it was trained with.

## Use

{usage(stage_at(recipe, step)[0], pipeline, beyond)}"""


def record_of(digest: str | None) -> str:
    return "not recorded" if digest is None else f"by the chain of records in the run's folder that ends with `{digest}`"


def usage(recipe: Recipe, pipeline: str | None, beyond: bool) -> str:
    """How to draw with it; `recipe` is that of the stage."""
    trust = ", trust_remote_code=True" if beyond else ""
    why = "\nIts transformer has weights that diffusers has no place for: its source is in `transformer/routed.py`.\n" if beyond else ""
    if pipeline is None:
        module, name = ("routed", "RoutedTransformer") if beyond else ("diffusers", "PRXTransformer2DModel")
        given = "velocities" if recipe.objective.prediction == "velocity" else "clean latents"
        return f"""The transformer outputs {given}, which no pipeline of diffusers for its input expects; load it by itself:

```python
from {module} import {name}

transformer = {name}.from_pretrained("FOLDER", subfolder="transformer")
```
{why}"""
    if recipe.latents is not None:
        source, samples = recipe.latents.source, recipe.samples
        return f"""```python
from diffusers import PRXPipeline

# tower and tokenizer: of {recipe.text.source}; autoencoder: {source}, scaling {recipe.latents.scaling:g}, shift {recipe.latents.shift:g}
pipe = PRXPipeline.from_pretrained("FOLDER", text_encoder=tower, tokenizer=tokenizer, vae=autoencoder{trust})
pipe("a prompt", num_inference_steps={samples.steps}, guidance_scale={samples.guidance:g}, use_resolution_binning=False)
```
{why}"""
    samples, shift = recipe.samples, recipe.samples.shift or recipe.objective.times.shift
    floor = recipe.objective.velocity_floor
    differs = (
        "" if floor == FLOOR else f"\nIt was trained with a velocity floor of {floor}; diffusers uses {FLOOR}, so its last steps differ.\n"
    )
    return f"""```python
from diffusers import PRXPixelPipeline

# tower and tokenizer: of {recipe.text.source}
pipe = PRXPixelPipeline.from_pretrained("FOLDER", text_encoder=tower, tokenizer=tokenizer{trust})
pipe("a prompt", num_inference_steps={samples.steps}, guidance_scale={samples.guidance:g}, use_resolution_binning=False)
```

The samples of the run itself end on noise level 0 after the last step, diffusers' scheduler one step later. To draw exactly as the run did:

```python
levels = [{shift:g} * t / (1 + {shift - 1:g} * t) for t in (1 - i / {samples.steps} for i in range({samples.steps}))]
pipe.scheduler.set_shift(1.0)
pipe("a prompt", timesteps=[1000 * level for level in levels], guidance_scale={samples.guidance:g}, use_resolution_binning=False)
```
{differs}{why}{self_guided(recipe)}"""


def self_guided(recipe: Recipe) -> str:
    if recipe.routing is None:
        return ""
    share = f"{recipe.routing.rate:g} of the image tokens skip blocks {recipe.routing.start} to {recipe.routing.end}"
    return f"""
It was trained with routing ({share}), after which it is better guided by its own routed pass than by the empty prompt, as the samples of
the run are. `pipeline.py` does that; a picture follows from its prompt and seed:

```python
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained(
    "FOLDER", custom_pipeline="FOLDER/pipeline.py", trust_remote_code=True, text_encoder=tower, tokenizer=tokenizer
)
pipe("a prompt", seeds=[0])
```
"""
