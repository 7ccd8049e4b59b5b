"""The audit over HTTP."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from service.audit import repository
from service.audit.repository import Filter, Place
from service.audit.schemas import AuditPage, ChainHead, ProjectEvent, ProjectEventPage
from service.context import Ctx
from service.http.identity import ReadAudit
from service.http.instants import Instant
from service.http.paging import Cursor, Limit, link_next
from service.http.problem import ErrorDetail, Problem, problems

router = APIRouter(tags=["audit"])


@router.get("/audit", responses=problems(400, 403, 404, 422))
async def list_audit(
    request: Request,
    response: Response,
    context: Ctx,
    permit: ReadAudit,
    project: Annotated[str | None, Query(max_length=40, description="Only of this project.")] = None,
    actor: Annotated[str | None, Query(max_length=300, description="Only what this one did.")] = None,
    type: Annotated[str | None, Query(max_length=40, description="Only events of this type.")] = None,
    since: Annotated[Instant | None, Query(description="From this time on.")] = None,
    until: Annotated[Instant | None, Query(description="Before this time.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> AuditPage:
    """Who did what, newest first: to runs, and to projects, their keys, members, webhooks and quotas."""
    if project is not None:
        permit.on(project)
    wanted = Filter(permit.projects, project, actor, type, since, until)
    async with context.database.read() as session:
        found = await repository.page(session, wanted, place(cursor), limit + 1)
    following = str(found[limit - 1][0]) if len(found) > limit else None
    link_next(request, response, following)
    return AuditPage(items=[entry for _, entry in found[:limit]], next=following)


@router.get("/audit/{project_id}/chain", responses=problems(403, 404, 422))
async def list_project_events(
    request: Request,
    response: Response,
    context: Ctx,
    permit: ReadAudit,
    project_id: str,
    limit: Limit = 200,
    cursor: Annotated[int, Query(ge=0, le=2**31 - 1, description="Events after this sequence.")] = 0,
) -> ProjectEventPage:
    """What was done to a project as such, oldest first, with the head of the chain that it is; `*` is the service as a whole."""
    async with context.database.read() as session:
        head, rows = await repository.of_project(session, project_id, cursor, limit + 1)
    following = str(rows[limit - 1].sequence) if len(rows) > limit else None
    link_next(request, response, following)
    items = [ProjectEvent(**{name: getattr(row, name) for name in ProjectEvent.model_fields}) for row in rows[:limit]]
    chain = ChainHead(length=head.length, digest=head.digest) if head else ChainHead(length=0, digest=None)
    return ProjectEventPage(items=items, next=following, chain=chain)


def place(cursor: str | None) -> Place | None:
    """Raises Problem 400."""
    try:
        return None if cursor is None else Place.parse(cursor)
    except ValueError:
        said = f"cursor {cursor[:60] if cursor else ''!r} is none of ours; take `next` of the page before"
        raise Problem(400, said, kind="bad-cursor", errors=[ErrorDetail(pointer="query cursor", value=cursor, because=said)]) from None
