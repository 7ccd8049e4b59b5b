"""The ledger: which attempt held how many accelerators, at what price, from when until when."""

from datetime import datetime

from sqlalchemy import Float, ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from service.database import Base, UtcDateTime

NO_CAUSE = "none"


class UsageRow(Base):
    """One attempt. Written with its launch and closed with its end, in the transactions that decide them; never changed after that."""

    __tablename__ = "usage"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    attempt: Mapped[int] = mapped_column(Integer, primary_key=True)
    project_id: Mapped[str] = mapped_column(String(40))
    accelerators: Mapped[int] = mapped_column(Integer)
    dollars_per_accelerator_hour: Mapped[float] = mapped_column(Float)
    held_from: Mapped[datetime] = mapped_column(UtcDateTime)
    held_until: Mapped[datetime | None] = mapped_column(UtcDateTime)  # null while it holds them
    dollars: Mapped[float | None] = mapped_column(Float)  # of the whole attempt, once it is over: what a database can add up

    # what its launch and its end were like; null where that is not known
    waited_seconds: Mapped[float | None] = mapped_column(Float)  # in the queue before it
    start_seconds: Mapped[float | None] = mapped_column(Float)  # from the launch to the first step
    cause: Mapped[str | None] = mapped_column(String(20))  # why it ended: as a run's; NO_CAUSE where it ended as it should

    __table_args__ = (
        Index("ix_usage_project", "project_id", "held_from"),
        # the few that sums cannot take whole: what is held now
        Index("ix_usage_held", "held_until"),
    )
