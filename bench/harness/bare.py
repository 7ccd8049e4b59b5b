"""The control of `control_plane.py`: the least that stores, shows and lists runs, as one would write it in an afternoon.

`python bench/harness/bare.py DATABASE_URL PORT`, the address as SQLAlchemy spells it. One uvicorn worker, the same driver and the same rows
as the service: run, event, outbox and answer to the Idempotency-Key in one transaction; no validation of recipes, no sign-in, no roles, no
quotas, no paging, no metrics.
"""

import json
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import uvicorn
from fastapi import FastAPI, Header, HTTPException
from sqlalchemy import ForeignKey, String, Text, event, select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Run(Base):
    __tablename__ = "bare_runs"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    state: Mapped[str] = mapped_column(String(20))
    created_at: Mapped[datetime]
    recipe: Mapped[str] = mapped_column(Text)


class Event(Base):
    __tablename__ = "bare_events"
    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("bare_runs.id"), index=True)
    type: Mapped[str]
    time: Mapped[datetime]
    data: Mapped[str]


class Outbox(Base):
    __tablename__ = "bare_outbox"
    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[str]


class Answer(Base):
    __tablename__ = "bare_answers"
    key: Mapped[str] = mapped_column(primary_key=True)
    body: Mapped[str]


engine = create_async_engine(sys.argv[1], pool_size=16, max_overflow=0)
if engine.dialect.name == "sqlite":  # as the service sets it up

    @event.listens_for(engine.sync_engine, "connect")
    def prepared(connection: Any, _: Any) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=15000"):
            connection.execute(f"PRAGMA {pragma}")


sessions = async_sessionmaker(engine, expire_on_commit=False)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield


app = FastAPI(lifespan=lifespan)


def shown(run: Run) -> dict[str, Any]:
    return {"id": run.id, "name": run.name, "state": run.state, "created_at": run.created_at}


@app.post("/runs", status_code=201)
async def create(body: dict[str, Any], idempotency_key: str = Header()) -> dict[str, Any]:
    now = datetime.now(UTC).replace(tzinfo=None)
    run = Run(id=f"run_{uuid.uuid4().hex}", name=body["recipe"]["name"], state="queued", created_at=now, recipe=json.dumps(body["recipe"]))
    answer = {**shown(run), "recipe": body["recipe"]}
    async with sessions() as session, session.begin():
        session.add(run)
        await session.flush()
        session.add_all([Event(run_id=run.id, type="run_created", time=now, data="{}"), Outbox(run_id=run.id)])
        session.add(Answer(key=idempotency_key, body=json.dumps(answer, default=str)))
    return answer


@app.get("/runs/{run_id}")
async def show(run_id: str) -> dict[str, Any]:
    async with sessions() as session:
        run = await session.get(Run, run_id)
    if run is None:
        raise HTTPException(404)
    return {**shown(run), "recipe": json.loads(run.recipe)}


@app.get("/runs")
async def page(limit: int = 50) -> dict[str, Any]:
    async with sessions() as session:
        rows = (await session.scalars(select(Run).order_by(Run.id.desc()).limit(limit))).all()
    return {"items": [shown(run) for run in rows]}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error")
