"""The card of an exported model: what it is, what it was made of and how to load it, as Markdown. A pure function of facts."""

from dayrun.recipe import Recipe
from trainer.trained import Trained

FLOOR = 0.05
"""The floor that diffusers' pixel pipeline puts under times when it turns x̂0 into a velocity."""


def card(trained: Trained, losses: list[float], dollars: float | None) -> str:
    recipe, step = trained.recipe, trained.manifest["step"]
    parameters = sum(weight.numel() for weight in trained.model.parameters())
    facts = [
        ("recipe", f"`{recipe.name}` ({recipe.description})" if recipe.description else f"`{recipe.name}`"),
        ("parameters", f"{parameters:,} in float32, {'averaged (EMA)' if trained.ema else 'as trained'}"),
        ("steps", f"{step:,} of {recipe.total_steps:,}, {trained.manifest['position']:,} images seen"),
        ("data", ", ".join(f"`{source.url}`" for source in recipe.data.sources)),
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

{usage(recipe)}"""


def usage(recipe: Recipe) -> str:
    if recipe.objective.prediction != "x":
        return """The transformer outputs velocities, which no pipeline of diffusers for pixels expects; load it by itself:

```python
from diffusers import PRXTransformer2DModel

transformer = PRXTransformer2DModel.from_pretrained("FOLDER", subfolder="transformer")
```
"""
    samples, shift = recipe.samples, recipe.samples.shift or recipe.objective.times.shift
    floor = recipe.objective.velocity_floor
    differs = (
        "" if floor == FLOOR else f"\nIt was trained with a velocity floor of {floor}; diffusers uses {FLOOR}, so its last steps differ.\n"
    )
    return f"""```python
from diffusers import PRXPixelPipeline

# tower and tokenizer: of {recipe.text.source}
pipe = PRXPixelPipeline.from_pretrained("FOLDER", text_encoder=tower, tokenizer=tokenizer)
pipe("a prompt", num_inference_steps={samples.steps}, guidance_scale={samples.guidance:g}, use_resolution_binning=False)
```

The samples of the run itself end on noise level 0 after the last step, diffusers' scheduler one step later. To draw exactly as the run did:

```python
levels = [{shift:g} * t / (1 + {shift - 1:g} * t) for t in (1 - i / {samples.steps} for i in range({samples.steps}))]
pipe.scheduler.set_shift(1.0)
pipe("a prompt", timesteps=[1000 * level for level in levels], guidance_scale={samples.guidance:g}, use_resolution_binning=False)
```
{differs}"""
