"""What the wire carries about plans."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from dayrun.calibration import Comparison, Renewal
from dayrun.estimate import Estimate
from dayrun.plan import Finding, Verdict


class PlanAnswer(BaseModel):
    """What a run would be and take. Its ETag, sent as If-Match with POST /runs, makes sure that this is what gets accepted."""

    recipe: dict[str, Any] = Field(description="The effective recipe: overrides merged in, defaults written out.")
    estimate: Estimate
    verdicts: list[Verdict] = Field(description="What stands against it, what may, and what was assumed.")
    manifest: dict[str, Any] | None = Field(description="What the launcher would start; null where a verdict says that it could not.")
    can_start: bool = Field(description="No verdict says no.")


class PreflightAnswer(BaseModel):
    """What the cluster showed when it was tried."""

    findings: list[Finding]
    can_start: bool = Field(description="No finding says no.")


class RunEstimate(BaseModel):
    """The plan that a run was accepted with, what it looks like now, and what it came to."""

    predicted: Estimate | None = Field(description="null for runs from before there were plans.")
    renewed: Renewal | None = Field(description="While it trains: from what was measured; null before the first steps and after the end.")
    comparison: list[Comparison] = Field(description="Predicted and actual side by side, for what was measured so far.")
    as_of: datetime
