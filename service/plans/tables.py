"""What runs measured, kept to predict the next ones by."""

from datetime import datetime

from sqlalchemy import Float, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from service.database import Base, UtcDateTime


class MeasuredStageRow(Base):
    """One stage that a run has trained far enough to be believed; predicted figures beside the measured one."""

    __tablename__ = "measured_stages"

    run_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    stage: Mapped[str] = mapped_column(String(40), primary_key=True)
    accelerator: Mapped[str] = mapped_column(String(20))
    matrix_rate: Mapped[float] = mapped_column(Float)  # FLOP/s of one process
    processes: Mapped[int] = mapped_column(Integer)
    flops_per_process_step: Mapped[float] = mapped_column(Float)
    step_seconds: Mapped[float] = mapped_column(Float)
    predicted_step_seconds: Mapped[float | None] = mapped_column(Float)  # by the plan that the run was accepted with
    steps: Mapped[int] = mapped_column(Integer)  # that the mean is taken over
    measured_at: Mapped[datetime] = mapped_column(UtcDateTime)

    __table_args__ = (Index("ix_measured_stages_accelerator", "accelerator", "measured_at"),)
