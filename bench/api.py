"""Claim: creating and listing runs is at least half as fast as a bare FastAPI + SQLAlchemy endpoint that stores and lists the same rows.

Both are one uvicorn process on SQLite with a write-ahead log, asked by the same eight clients, in turns. Creating is `POST /runs` of the
demo, with an Idempotency-Key, validation, event, hint; the bare endpoint stores the same JSON in one row. Listing is a page of 50.
"""

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[1]
CLIENTS, CREATES, LISTS, TURNS = 8, 400, 400, 3


def bare_app(path: str):
    """The least that stores and lists runs."""
    from fastapi import FastAPI
    from sqlalchemy import JSON, String, event, select
    from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
    from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

    class Base(DeclarativeBase):
        pass

    class Row(Base):
        __tablename__ = "runs"
        id: Mapped[str] = mapped_column(String(40), primary_key=True)
        recipe: Mapped[dict] = mapped_column(JSON)

    engine = create_async_engine(f"sqlite+aiosqlite:///{path}", connect_args={"timeout": 30})
    event.listen(
        engine.sync_engine, "connect", lambda c, _: c.execute("PRAGMA journal_mode=WAL") and c.execute("PRAGMA synchronous=NORMAL")
    )
    sessions = async_sessionmaker(engine, expire_on_commit=False)

    @asynccontextmanager
    async def lifespan(_: FastAPI):
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/runs", status_code=201)
    async def create(body: dict) -> dict:
        row = Row(id=f"run_{uuid.uuid4().hex}", recipe=body)
        async with sessions() as session, session.begin():
            session.add(row)
        return {"id": row.id, "recipe": row.recipe}

    @app.get("/runs")
    async def page(limit: int = 50) -> dict:
        async with sessions() as session:
            rows = (await session.scalars(select(Row).order_by(Row.id.desc()).limit(limit))).all()
        return {"items": [{"id": row.id, "recipe": row.recipe} for row in rows]}

    return app


def our_app(home: str):
    """The API process of the service, without the worker: what is stored stays queued."""
    from service.app import create_app
    from service.revisions import bring_up_to_date
    from service.settings import Settings

    settings = Settings(home=Path(home))
    bring_up_to_date(settings, False)
    return create_app(settings)


def serve(kind: str, place: str, port: int) -> None:
    import uvicorn

    uvicorn.run(bare_app(place) if kind == "bare" else our_app(place), host="127.0.0.1", port=port, log_level="error")


class Server:
    def __init__(self, kind: str, place: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen([sys.executable, __file__, kind, str(place), str(port)], env=environment)
        self.url = f"http://127.0.0.1:{port}"
        while True:
            try:
                httpx.get(f"{self.url}/openapi.json")
                return
            except httpx.TransportError:
                time.sleep(0.05)

    def requests_a_second(self, count: int, ask: Callable[[httpx.Client], httpx.Response]) -> float:
        def work() -> None:
            with httpx.Client(base_url=self.url, timeout=60) as client:
                for _ in range(count // CLIENTS):
                    ask(client).raise_for_status()

        threads = [threading.Thread(target=work) for _ in range(CLIENTS)]
        begun = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return count / (time.perf_counter() - begun)


def main() -> None:
    if len(sys.argv) == 4:
        return serve(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    from dayrun import builtin

    document = builtin.get("demo")

    def create(client: httpx.Client) -> httpx.Response:
        return client.post("/runs", json={"recipe": document}, headers={"Idempotency-Key": str(uuid.uuid4())})

    def page(client: httpx.Client) -> httpx.Response:
        return client.get("/runs?limit=50")

    with tempfile.TemporaryDirectory() as name:
        servers = {"bare": Server("bare", Path(name) / "bare.db"), "dayrun": Server("dayrun", Path(name) / "home")}
        try:
            for what, count, ask in (("create", CREATES, create), ("list 50", LISTS, page)):
                rates = {kind: [server.requests_a_second(count, ask) for _ in range(TURNS)] for kind, server in servers.items()}
                best = {kind: statistics.median(found) for kind, found in rates.items()}
                ratio = best["dayrun"] / best["bare"]
                print(f"{what}: bare {best['bare']:.0f}/s, dayrun {best['dayrun']:.0f}/s, ratio {ratio:.2f} (claim: at least 0.5)")
            print(f"a page of 50 runs: {len(httpx.get(servers['dayrun'].url + '/runs?limit=50').content) / 1000:.0f} kB")
        finally:
            for server in servers.values():
                server.process.terminate()
                server.process.wait()


if __name__ == "__main__":
    main()
    sys.stdout.flush()
