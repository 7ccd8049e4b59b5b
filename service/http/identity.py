"""What an endpoint takes to know who asks: a `Permit`, made of the `Actor` that the door has recognised and of the endpoint's action.

The role is looked at before the request's body: who may do a thing nowhere, or not in the project that the path names, hears so first.
"""

from typing import Annotated

from fastapi import Depends, Request

from service.access import Action, Actor, Permit
from service.http.credentials import Unrecognised
from service.http.problem import problems

GUARDED = problems(401, 403, 429, 503)
"""What every operation behind the door may answer besides its own."""


def actor_of(request: Request) -> Actor:
    """Who sends the request. Raises Problem 401 on a path that the door left open: nobody was recognised there."""
    actor: Actor | None = getattr(request.state, "actor", None)
    if actor is None:
        raise Unrecognised("no-credentials", "nobody is recognised on this path", is_guess=False)
    return actor


class May:
    """A dependency that gives an endpoint its `Permit`; the role table of the tests finds the action of each route by it."""

    def __init__(self, action: Action) -> None:
        self.action = action

    async def __call__(self, request: Request) -> Permit:
        permit = Permit(actor_of(request), self.action)
        permit.somewhere()
        if (project := request.path_params.get("project_id")) is not None:
            permit.on(project)
        return permit


ReadRuns = Annotated[Permit, Depends(May(Action.READ_RUNS))]
CreateRuns = Annotated[Permit, Depends(May(Action.CREATE_RUNS))]
MoveRuns = Annotated[Permit, Depends(May(Action.MOVE_RUNS))]
ReadProject = Annotated[Permit, Depends(May(Action.READ_PROJECT))]
ReadAudit = Annotated[Permit, Depends(May(Action.READ_AUDIT))]
ManageWebhooks = Annotated[Permit, Depends(May(Action.MANAGE_WEBHOOKS))]
DrawSamples = Annotated[Permit, Depends(May(Action.DRAW_SAMPLES))]
ExportRuns = Annotated[Permit, Depends(May(Action.EXPORT_RUNS))]
EditProject = Annotated[Permit, Depends(May(Action.EDIT_PROJECT))]
ManageProjects = Annotated[Permit, Depends(May(Action.MANAGE_PROJECTS))]
ManageMembers = Annotated[Permit, Depends(May(Action.MANAGE_MEMBERS))]
ManageKeys = Annotated[Permit, Depends(May(Action.MANAGE_KEYS))]
