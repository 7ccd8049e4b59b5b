"""What the wire carries about API keys."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from service.access import Role
from service.keys.tables import KeyRow

RoleName = Literal["viewer", "writer", "admin", "operator"]
KeyName = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$", description="What it is for.")]


class NewKey(BaseModel):
    """A key to be made: for one project and role, or for the whole service with the role `operator`."""

    model_config = {"extra": "forbid"}

    name: KeyName
    role: RoleName = "writer"
    project: str | None = Field(default=None, min_length=1, max_length=40, description="Needed for every role but operator.")
    days: int | None = Field(strict=True, default=90, ge=1, le=3650, description="How long it works; null: until it is revoked.")

    @model_validator(mode="after")
    def scope_is_whole(self) -> Self:
        if (self.role == "operator") == (self.project is not None):
            raise ValueError("an operator's key is of no project, every other key is of one")
        return self


class Key(BaseModel):
    """What is known of a key; the key itself is not."""

    id: str
    name: str
    role: RoleName
    project: str | None = Field(description="null: the whole service.")
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    last_used_at: datetime | None = Field(description="To the minute.")
    revoked_at: datetime | None

    @classmethod
    def of(cls, row: KeyRow) -> Self:
        times = {name: getattr(row, name) for name in ("created_at", "created_by", "expires_at", "last_used_at", "revoked_at")}
        return cls(id=row.id, name=row.name, role=role_name(row), project=row.project_id, **times)


class MadeKey(Key):
    """A key just made. The only answer that holds the key itself."""

    key: str | None = Field(description="Send it as `Authorization: Bearer …`. null where the answer is repeated: it is shown once.")


class KeyPage(BaseModel):
    items: list[Key]
    next: str | None


def role_name(row: KeyRow) -> RoleName:
    names: dict[Role, RoleName] = {Role.VIEWER: "viewer", Role.WRITER: "writer", Role.ADMIN: "admin", Role.OPERATOR: "operator"}
    return names[Role(row.role)]
