"""What the wire carries about projects and their members."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field

from service.access import Role
from service.projects.tables import MemberRow, ProjectRow

MemberRole = Literal["viewer", "writer", "admin"]
ProjectName = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
Dollars = Annotated[float, Field(strict=True, ge=0, le=1e9, allow_inf_nan=False)]
QUOTAS = ("accelerators", "dollars_per_day", "dollars_per_month")


class NewProject(BaseModel):
    """A team's namespace to be made."""

    model_config = {"extra": "forbid"}

    id: str = Field(min_length=1, max_length=40, pattern=r"^[a-z0-9][a-z0-9-]*$", description="A short name, as people type it.")
    name: ProjectName | None = Field(default=None, description="As people read it; default: the id.")


class ProjectChange(BaseModel):
    """What is to be different; what is left out stays. Quotas and budgets take an operator, the rest an admin of the project."""

    model_config = {"extra": "forbid", "strict": True}

    name: ProjectName | None = None
    archived: bool | None = Field(default=None, description="An archived project takes no new runs; all it has stays readable.")
    accelerators: Annotated[int, Field(ge=0, le=1_000_000)] | None = Field(default=None, description="Held at once; null: no limit.")
    dollars_per_day: Dollars | None = Field(default=None, description="null: no limit.")
    dollars_per_month: Dollars | None = Field(default=None, description="null: no limit.")


class Project(BaseModel):
    id: str
    name: str
    archived: bool
    accelerators: int | None = Field(description="That its runs may hold at once; null: no limit.")
    dollars_per_day: float | None
    dollars_per_month: float | None
    created_at: datetime
    created_by: str
    version: int

    @classmethod
    def of(cls, row: ProjectRow) -> Self:
        return cls(**{name: getattr(row, name) for name in cls.model_fields})


class ProjectPage(BaseModel):
    items: list[Project]
    next: str | None


class Membership(BaseModel):
    """What somebody is to be in a project."""

    model_config = {"extra": "forbid"}

    role: MemberRole


class Member(BaseModel):
    subject: str = Field(description="`oidc:ISSUER|SUBJECT`")
    role: MemberRole
    added_at: datetime
    added_by: str

    @classmethod
    def of(cls, row: MemberRow) -> Self:
        names: dict[int, MemberRole] = {Role.VIEWER: "viewer", Role.WRITER: "writer", Role.ADMIN: "admin"}
        return cls(subject=row.subject, role=names[row.role], added_at=row.added_at, added_by=row.added_by)


class MemberPage(BaseModel):
    items: list[Member]
    next: str | None
