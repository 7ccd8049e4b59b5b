"""The key that cursors are sealed with: one for all API processes on a database, made by its migration. It guards no data."""

from sqlalchemy import String, select
from sqlalchemy.orm import Mapped, mapped_column

from service.context import Context
from service.database import Base


class SealRow(Base):
    __tablename__ = "seals"

    name: Mapped[str] = mapped_column(String(20), primary_key=True)
    key: Mapped[str] = mapped_column(String(64))


async def seal_key(context: Context) -> bytes:
    """Read once by each process."""
    if context.seal_key is None:
        async with context.database.read() as session:
            context.seal_key = bytes.fromhex((await session.scalars(select(SealRow.key).where(SealRow.name == "cursors"))).one())
    return context.seal_key
