"""The decisions about projects and their members, each inside the caller's transaction."""

from sqlalchemy.ext.asyncio import AsyncSession

from service import events
from service.access import Action, Permit, Role, no_such_project
from service.database import now, upsert
from service.http.etags import check_match, version_tag
from service.http.problem import ErrorDetail, Problem
from service.projects import repository
from service.projects.schemas import QUOTAS, MemberRole, NewProject, ProjectChange
from service.projects.tables import MemberRow, ProjectRow


async def create(session: AsyncSession, new: NewProject, permit: Permit) -> ProjectRow:
    """Raises Problem 403, and 409 for an id that is taken."""
    permit.on_service()
    values = {"id": new.id, "name": new.name or new.id, "created_at": now(), "created_by": permit.actor.subject}
    made = upsert(session, ProjectRow).values(**values, archived=False, version=1).on_conflict_do_nothing().returning(ProjectRow)
    row = (await session.scalars(made)).one_or_none()
    if row is None:
        detail = ErrorDetail(pointer="/id", value=new.id, because="a project has this id already", nearest=[f"{new.id[:38]}-2"])
        raise Problem(
            409, f"there is a project {new.id!r} already; ids of projects are never used twice", kind="project-exists", errors=[detail]
        )
    await events.record_project(session, row.id, "project_created", by=permit.actor.subject, name=row.name)
    return row


async def find(session: AsyncSession, project_id: str, permit: Permit, *, to_change: bool = False) -> ProjectRow:
    """The project, if `permit` covers it. Raises Problem 403 and 404."""
    permit.on(project_id)
    row = await repository.get(session, project_id, to_change=to_change)
    if row is None:  # an operator's role is in every project, also in those that there are not
        raise no_such_project(project_id, [])
    return row


async def open_for_runs(session: AsyncSession, project_id: str, permit: Permit) -> ProjectRow:
    """The project of a new run. Raises Problem 403, 404, and 409 where it is archived."""
    row = await find(session, project_id, permit)
    if row.archived:
        raise Problem(
            409, f"project {project_id!r} is archived and takes no new runs; an admin of it can undo that", kind="project-archived"
        )
    return row


async def change(session: AsyncSession, project_id: str, wanted: ProjectChange, match: str, permit: Permit) -> ProjectRow:
    """Raises Problem 403, 404, and 412 where the project has changed since it was looked at."""
    row = await find(session, project_id, permit, to_change=True)
    given = wanted.model_dump(exclude_unset=True)
    if any(name in given for name in QUOTAS):
        permit.to(Action.MANAGE_QUOTAS).on(project_id)
    check_match(match, version_tag(row.version))
    for name in ("name", "archived"):  # these are never null: null says nothing about them
        if given.get(name, "") is None:
            del given[name]
    changes = {name: {"from": getattr(row, name), "to": value} for name, value in given.items() if getattr(row, name) != value}
    if changes:
        for name, change in changes.items():
            setattr(row, name, change["to"])
        row.version += 1
        await events.record_project(session, row.id, "project_changed", by=permit.actor.subject, changes=changes)
    return row


async def put_member(session: AsyncSession, project_id: str, subject: str, role: MemberRole, permit: Permit) -> tuple[MemberRow, bool]:
    """Give somebody a role; also says whether they are new. Raises Problem 403, 404, 409 for the last admin, 422 for the subject."""
    if not (subject.startswith("oidc:") and "|" in subject and len(subject) <= 300 and subject.isprintable()):
        because = "members are people, as `oidc:ISSUER|SUBJECT`; a key has its project and role in itself (POST /keys)"
        detail = ErrorDetail(pointer="path subject", value=subject[:120], because=because)
        raise Problem(422, f"{subject[:60]!r} cannot be a member: {because}", kind="no-such-subject", errors=[detail])
    await find(session, project_id, permit, to_change=True)
    row = await repository.member(session, project_id, subject)
    wanted = Role[role.upper()]
    if row is None:
        row = MemberRow(project_id=project_id, subject=subject, role=wanted, added_at=now(), added_by=permit.actor.subject)
        session.add(row)
        await events.record_project(session, project_id, "member_added", by=permit.actor.subject, member=subject, role=role)
        return row, True
    if wanted < Role.ADMIN:
        await leave_an_admin(session, row, permit)
    if row.role != wanted:
        before, row.role = Role(row.role).name.lower(), wanted
        await events.record_project(
            session, project_id, "member_changed", by=permit.actor.subject, member=subject, role={"from": before, "to": role}
        )
    return row, False


async def remove_member(session: AsyncSession, project_id: str, subject: str, permit: Permit) -> None:
    """Raises Problem 403, 404, and 409 for the last admin."""
    await find(session, project_id, permit, to_change=True)
    row = await repository.member(session, project_id, subject)
    if row is None:
        said = f"{subject[:60]!r} is no member of project {project_id!r}; GET /projects/{project_id}/members lists them"
        raise Problem(404, said, kind="no-such-member")
    await leave_an_admin(session, row, permit)
    await session.delete(row)
    await events.record_project(session, project_id, "member_removed", by=permit.actor.subject, member=subject)


async def leave_an_admin(session: AsyncSession, row: MemberRow, permit: Permit) -> None:
    """Raises Problem 409 where `row` is the project's last admin, unless an operator asks: they can make another."""
    is_last = row.role >= Role.ADMIN and await repository.count_admins(session, row.project_id) == 1
    if is_last and not permit.actor.operator:
        said = f"{row.subject} is the last admin of project {row.project_id!r}: make somebody else one first, or ask an operator"
        raise Problem(409, said, kind="last-admin")
