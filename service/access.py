"""Who may do what: roles, actions, and one table between them. Knows nothing of how somebody proved who they are (`http/identity.py`).

A project's runs are seen by its members only: to anybody else they do not exist (404). A member whose role is too low is told so (403).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum

from service.http.problem import ErrorDetail, Problem

DEFAULT_PROJECT = "default"


class Role(IntEnum):
    """Each may do what those before it may. OPERATOR is of the whole service, the others are of a project."""

    VIEWER = 1
    WRITER = 2
    ADMIN = 3
    OPERATOR = 4


class Action(StrEnum):
    READ_RUNS = "read runs"
    CREATE_RUNS = "create runs"
    MOVE_RUNS = "pause, resume, cancel or reorder runs"
    PRIORITISE_RUNS = "give runs a priority above 0"
    DRAW_SAMPLES = "draw samples"
    EXPORT_RUNS = "export checkpoints"
    READ_PROJECT = "read a project and its budget"
    READ_AUDIT = "read the audit log"
    MANAGE_WEBHOOKS = "manage webhooks"
    MANAGE_KEYS = "manage keys"
    MANAGE_MEMBERS = "manage members"
    EDIT_PROJECT = "rename or archive a project"
    MANAGE_QUOTAS = "set quotas and budgets"
    MANAGE_PROJECTS = "create projects"


LOWEST_ROLE: Mapping[Action, Role] = {
    Action.READ_RUNS: Role.VIEWER,
    Action.READ_PROJECT: Role.VIEWER,
    Action.CREATE_RUNS: Role.WRITER,
    Action.MOVE_RUNS: Role.WRITER,
    Action.DRAW_SAMPLES: Role.WRITER,
    Action.EXPORT_RUNS: Role.WRITER,
    Action.PRIORITISE_RUNS: Role.ADMIN,
    Action.READ_AUDIT: Role.ADMIN,
    Action.MANAGE_WEBHOOKS: Role.ADMIN,
    Action.MANAGE_KEYS: Role.ADMIN,
    Action.MANAGE_MEMBERS: Role.ADMIN,
    Action.EDIT_PROJECT: Role.ADMIN,
    Action.MANAGE_QUOTAS: Role.OPERATOR,
    Action.MANAGE_PROJECTS: Role.OPERATOR,
}
"""The one table of role × action."""


@dataclass(frozen=True)
class Actor:
    """Somebody who was recognised."""

    subject: str
    """Unmistakable and stable: `local`, `key:key_…`, `oidc:<issuer>|<subject>`. Events and audit name it."""
    name: str
    roles: Mapping[str, Role] = field(default_factory=dict[str, Role])
    """By project."""
    operator: bool = False

    def role_in(self, project_id: str) -> Role | None:
        return Role.OPERATOR if self.operator else self.roles.get(project_id)


LOCAL = Actor("local", "whoever uses this machine", operator=True)
"""Everyone, where no sign-in is asked for: a service on the loopback address."""
SERVICE = "service"
"""The subject of what the service does by itself."""


@dataclass(frozen=True)
class Permit:
    """An actor who wants to do one kind of thing; ask it about the project once that is known."""

    actor: Actor
    action: Action

    @property
    def projects(self) -> list[str] | None:
        """Projects where the actor may do it; None: all of them."""
        if self.actor.operator:
            return None
        return sorted(project for project, role in self.actor.roles.items() if role >= LOWEST_ROLE[self.action])

    def sees(self, project_id: str) -> bool:
        """Whether the project and what is in it exist for the actor."""
        return self.actor.role_in(project_id) is not None

    def to(self, action: Action) -> "Permit":
        """The same actor, who wants to do something else."""
        return replace(self, action=action)

    def somewhere(self) -> None:
        """Raises Problem 403 where there is no project in which the actor may do it. Says nothing of any project, so it may come first."""
        actor, needed = self.actor, LOWEST_ROLE[self.action]
        if actor.operator or any(role >= needed for role in actor.roles.values()):
            return
        if not actor.roles:
            how = f"an admin of one can change that with `dayrun projects add PROJECT '{actor.subject}' viewer`"
            raise Problem(403, f"{actor.name} is a member of no project; {how}", kind="no-membership")
        highest = max(actor.roles.values())
        said = f"{self.action} takes the role {needed.name.lower()}; the highest that {actor.name} has is {highest.name.lower()}"
        raise Problem(403, said, kind="role-too-low")

    def on_service(self) -> None:
        """Raises Problem 403 for who is no operator of the whole service."""
        if not self.actor.operator:
            said = f"that is the whole service's and takes an operator; {self.actor.name} has roles in projects only"
            raise Problem(403, said, kind="role-too-low")

    def on(self, project_id: str) -> None:
        """Raises Problem 404 where the actor has no role in the project, 403 where it is too low."""
        role, needed = self.actor.role_in(project_id), LOWEST_ROLE[self.action]
        if role is None:
            raise no_such_project(project_id, sorted(self.actor.roles))
        if role < needed:
            said = (
                f"{self.action} in project {project_id!r} takes the role {needed.name.lower()}, {self.actor.name} has {role.name.lower()}"
            )
            raise Problem(403, said, kind="role-too-low")


def no_such_project(project_id: str, nearest: list[str]) -> Problem:
    detail = f"there is no project {project_id[:60]!r} that you can see; GET /projects lists those that you can"
    return Problem(404, detail, kind="no-such-project", errors=[ErrorDetail(pointer="/project", because=detail, nearest=nearest[:5])])
