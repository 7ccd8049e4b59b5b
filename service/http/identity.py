"""Who sends a request: turns credentials into an `Actor`, and an `Actor` with an action into a `Permit` for the endpoint."""

from typing import Annotated

from fastapi import Depends, Request

from service.access import LOCAL, Action, Actor, Permit
from service.context import Context, context_of


async def recognise(request: Request, context: Context) -> Actor:
    """The sender of `request`. Raises Problem 401 where credentials are asked for and missing, wrong, expired or revoked."""
    return LOCAL


class May:
    """A dependency that gives an endpoint its `Permit`; the role table of the tests finds the action of each route by it."""

    def __init__(self, action: Action) -> None:
        self.action = action

    async def __call__(self, request: Request) -> Permit:
        return Permit(await recognise(request, context_of(request)), self.action)


ReadRuns = Annotated[Permit, Depends(May(Action.READ_RUNS))]
CreateRuns = Annotated[Permit, Depends(May(Action.CREATE_RUNS))]
MoveRuns = Annotated[Permit, Depends(May(Action.MOVE_RUNS))]
ReadProject = Annotated[Permit, Depends(May(Action.READ_PROJECT))]
ReadAudit = Annotated[Permit, Depends(May(Action.READ_AUDIT))]
ManageWebhooks = Annotated[Permit, Depends(May(Action.MANAGE_WEBHOOKS))]
DrawSamples = Annotated[Permit, Depends(May(Action.DRAW_SAMPLES))]
ExportRuns = Annotated[Permit, Depends(May(Action.EXPORT_RUNS))]
