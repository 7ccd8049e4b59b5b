"""Rows of projects and of who belongs to them."""

from datetime import datetime

from sqlalchemy import Boolean, Float, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from service.database import Base, UtcDateTime


class ProjectRow(Base):
    """A team's namespace. Projects are never deleted: runs, costs and the audit name them."""

    __tablename__ = "projects"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)  # a slug, as people type it
    name: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    created_by: Mapped[str] = mapped_column(String(300))
    archived: Mapped[bool] = mapped_column(Boolean, default=False)
    version: Mapped[int] = mapped_column(Integer, default=1)

    # null: no limit
    accelerators: Mapped[int | None] = mapped_column(Integer)  # held at once
    dollars_per_day: Mapped[float | None] = mapped_column(Float)
    dollars_per_month: Mapped[float | None] = mapped_column(Float)


class MemberRow(Base):
    __tablename__ = "members"

    project_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    subject: Mapped[str] = mapped_column(String(300), primary_key=True)
    role: Mapped[int] = mapped_column(Integer)
    added_at: Mapped[datetime] = mapped_column(UtcDateTime)
    added_by: Mapped[str] = mapped_column(String(300))
