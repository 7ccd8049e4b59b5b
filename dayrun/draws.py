"""Pictures on request: what can be asked of a checkpoint, and why a recipe cannot draw it. For who takes the request and for who draws."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from dayrun.recipe import Natural, Part, Positive, Recipe
from dayrun.recipe_errors import RecipeError

MOST = 256
"""Pictures in one request: minutes of work on one accelerator, not hours."""


class DrawRequest(Part):
    """Prompts to be drawn from one checkpoint of a run. What is null is as the run's own samples are drawn."""

    step: Natural | None = Field(default=None, description="The checkpoint; null: the newest.")
    prompts: list[Annotated[str, Field(max_length=2000)]] = Field(min_length=1, max_length=MOST)
    seed: Natural = Field(default=0, description="Picture i starts from noise drawn with seed + i, unless `seeds` says otherwise.")
    seeds: list[Natural] | None = Field(default=None, description="One seed a prompt.")
    guidance: Annotated[float, Field(ge=0, le=50)] | None = None
    steps: Annotated[int, Field(gt=0, le=1000)] | None = Field(default=None, description="Euler steps from noise to data.")
    ema: bool | None = Field(default=None, description="Draw with the averaged weights.")
    pixels: Annotated[Positive, Field(le=4096)] | None = Field(default=None, description="Side of a picture; null: of the stage.")

    @model_validator(mode="after")
    def one_seed_a_prompt(self) -> Self:
        if self.seeds is not None and len(self.seeds) != len(self.prompts):
            raise ValueError(f"{len(self.seeds)} seeds for {len(self.prompts)} prompts: one a prompt, or none")
        return self

    @property
    def all_seeds(self) -> list[int]:
        return self.seeds if self.seeds is not None else [self.seed + number for number in range(len(self.prompts))]


def draw_conflicts(recipe: Recipe, request: DrawRequest) -> list[RecipeError]:
    """Why a run of `recipe` cannot draw `request`; places are in the request."""
    errors: list[RecipeError] = []
    patch = recipe.model.patch_size
    if request.pixels is not None and request.pixels % patch:
        below = request.pixels // patch * patch
        near = [below, below + patch] if below else [patch]
        errors.append(RecipeError("/pixels", request.pixels, f"the model's patches of {patch} pixels do not divide it", near))
    if request.ema and recipe.ema is None:
        errors.append(RecipeError("/ema", True, "the run keeps no averaged weights (its /ema is null)", [False]))
    self_guided = recipe.routing is not None and recipe.samples.self_guidance
    if request.guidance not in (None, 1.0) and recipe.objective.caption_dropout == 0 and not self_guided:
        because = "guidance compares with the empty prompt, and the run's /objective/caption_dropout 0 never trained it"
        errors.append(RecipeError("/guidance", request.guidance, because, [1.0]))
    return errors
