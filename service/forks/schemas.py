"""What the wire carries about forks."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from dayrun.recipe_diff import recipe_diff
from dayrun.run_folder import Weights
from service.runs.schemas import Label, Run
from service.runs.tables import RunRow


class NewFork(BaseModel):
    """A run that begins where another one was."""

    model_config = {"extra": "forbid"}

    step: int | None = Field(strict=True, default=None, ge=0, description="Of a complete checkpoint of the parent; null: the newest.")
    overrides: dict[str, Any] | None = Field(default=None, description="JSON Merge Patch (RFC 7396) onto the parent's recipe.")
    weights: Weights = Field(
        default="all",
        description="`all`: go on, with the optimizer's state and the position in the data; `model`, `ema`: a fresh run from step 0 whose "
        "first weights are the parent's trained ones, or their averages.",
    )
    labels: dict[Label, Label] | None = Field(default=None, max_length=20, description="null: the parent's.")
    project: str | None = Field(default=None, min_length=1, max_length=40, description="Whose run it is; null: the parent's.")


class Difference(BaseModel):
    """One place where two recipes differ; a field that one of them lacks is null there."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    pointer: str
    before: Any = Field(alias="from")
    after: Any = Field(alias="to")


class RecipeDiff(BaseModel):
    run: str
    against: str
    items: list[Difference]

    @classmethod
    def of(cls, run: RunRow, against: RunRow) -> Self:
        return cls(run=run.id, against=against.id, items=differences(against, run))


class ForkedRun(Run):
    """A fork as it was made, with what its recipe changes in its parent's."""

    diff: list[Difference]

    @classmethod
    def made(cls, run: RunRow, parent: RunRow) -> Self:
        return cls.model_construct(**Run.of(run).__dict__, diff=differences(parent, run))


def differences(before: RunRow, after: RunRow) -> list[Difference]:
    return [Difference.model_validate(one) for one in recipe_diff(before.recipe, after.recipe)]
