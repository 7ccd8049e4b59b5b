"""Counters of what no row tells otherwise, kept in the database: workers have no /metrics of their own, and come and go."""

from sqlalchemy import Float, String, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from service.database import Base, upsert

LEASE_STEALS = "lease_steals"
SWEEPS = "sweeps"
SWEEP_SECONDS = "sweep_seconds"


class TallyRow(Base):
    __tablename__ = "tallies"

    name: Mapped[str] = mapped_column(String(60), primary_key=True)
    value: Mapped[float] = mapped_column(Float)


async def add(session: AsyncSession, **more: float) -> None:
    """Count, in the transaction of what is counted. Names are taken in their order, so that two that count never wait for each other."""
    for name in sorted(more):
        statement = upsert(session, TallyRow).values(name=name, value=more[name])
        sum_of_both = {"value": TallyRow.value + statement.excluded.value}
        await session.execute(statement.on_conflict_do_update(index_elements=["name"], set_=sum_of_both))


async def all_of(session: AsyncSession) -> dict[str, float]:
    return {row.name: row.value for row in (await session.scalars(select(TallyRow))).all()}
