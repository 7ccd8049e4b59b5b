"""Projects and their members over HTTP: in and out, nothing else."""

from typing import Any

from fastapi import APIRouter, Request, Response

from service.context import Ctx
from service.http.etags import MustMatch
from service.http.idempotency import Answer, IdempotencyKey, once
from service.http.identity import EditProject, ManageMembers, ManageProjects, ReadProject
from service.http.paging import Cursor, Limit, link_next
from service.http.problem import problems
from service.projects import repository, service
from service.projects.schemas import Member, MemberPage, Membership, NewProject, Project, ProjectChange, ProjectPage

router = APIRouter(tags=["projects"])


@router.post("/projects", status_code=201, response_model=Project, responses=problems(409, 422))
async def create_project(
    request: Request, context: Ctx, permit: ManageProjects, new: NewProject, idempotency_key: IdempotencyKey = None
) -> Response:
    """Make a project, without members and without limits. Projects are never deleted, only archived."""

    async def work(session: Any) -> Answer:
        made = Project.of(await service.create(session, new, permit))
        headers = {"Location": f"/projects/{made.id}", "ETag": f'"{made.version}"'}
        return Answer(status=201, body=made.model_dump_json().encode(), headers=headers)

    return await once(request, context.database, idempotency_key, work)


@router.get("/projects", responses=problems(422))
async def list_projects(
    request: Request, response: Response, context: Ctx, permit: ReadProject, limit: Limit = 50, cursor: Cursor = None
) -> ProjectPage:
    """Projects that you are a member of, by id."""
    async with context.database.read() as session:
        rows = await repository.page(session, cursor, limit + 1, permit.projects)
    following = rows[limit - 1].id if len(rows) > limit else None
    link_next(request, response, following)
    return ProjectPage(items=[Project.of(row) for row in rows[:limit]], next=following)


@router.get("/projects/{project_id}", responses=problems(404))
async def show_project(context: Ctx, permit: ReadProject, project_id: str, response: Response) -> Project:
    """One project with its quotas and budgets."""
    async with context.database.read() as session:
        project = Project.of(await service.find(session, project_id, permit))
    response.headers["ETag"] = f'"{project.version}"'
    return project


@router.patch("/projects/{project_id}", responses=problems(404, 412, 422, 428))
async def change_project(
    context: Ctx, permit: EditProject, project_id: str, change: ProjectChange, response: Response, match: MustMatch
) -> Project:
    """Rename or archive a project, or (operators) set its quotas and budgets. Takes the ETag that was seen."""
    async with context.database.write() as session:
        project = Project.of(await service.change(session, project_id, change, match, permit))
    response.headers["ETag"] = f'"{project.version}"'
    return project


@router.get("/projects/{project_id}/members", responses=problems(404, 422))
async def list_members(
    request: Request, response: Response, context: Ctx, permit: ReadProject, project_id: str, limit: Limit = 50, cursor: Cursor = None
) -> MemberPage:
    """People of a project and their roles, by subject. Keys are listed by GET /keys, roles of groups are in the settings."""
    async with context.database.read() as session:
        await service.find(session, project_id, permit)
        rows = await repository.members(session, project_id, cursor, limit + 1)
    following = rows[limit - 1].subject if len(rows) > limit else None
    link_next(request, response, following)
    return MemberPage(items=[Member.of(row) for row in rows[:limit]], next=following)


@router.put(
    "/projects/{project_id}/members/{subject:path}", response_model=Member, responses={**problems(404, 409, 422), 201: {"model": Member}}
)
async def put_member(
    context: Ctx, permit: ManageMembers, project_id: str, subject: str, membership: Membership, response: Response
) -> Member:
    """Give somebody a role in the project, or change the one they have."""
    async with context.database.write() as session:
        row, is_new = await service.put_member(session, project_id, subject, membership.role, permit)
        member = Member.of(row)
    context.credentials.forget(subject)
    response.status_code = 201 if is_new else 200
    return member


@router.delete("/projects/{project_id}/members/{subject:path}", status_code=204, responses=problems(404, 409))
async def remove_member(context: Ctx, permit: ManageMembers, project_id: str, subject: str) -> None:
    """Take somebody's role in the project away. Their runs stay."""
    async with context.database.write() as session:
        await service.remove_member(session, project_id, subject, permit)
    context.credentials.forget(subject)
