"""Between the service and Postgres there may be a PgBouncer in transaction mode: each transaction gets another connection."""

from collections.abc import Iterator

import psycopg
import pytest

from service.parts import PgBouncer
from service.stack import Stack
from tests.conftest import until
from tests.parts.conftest import Plane
from tests.parts.test_exactly_once import submit


@pytest.fixture
def bouncer(stack: Stack) -> Iterator[PgBouncer]:
    part = PgBouncer(stack.folder, stack.postgres)
    part.start()
    yield part
    part.stop()


@pytest.mark.long
def test_the_service_works_through_pgbouncer(plane: Plane, bouncer: PgBouncer):
    name = plane.settings["DAYRUN_DATABASE"].rsplit("/", 1)[-1]
    plane.settings |= {"DAYRUN_DATABASE": bouncer.url(name), "DAYRUN_DATABASE_PGBOUNCER": "true"}
    apis = [plane.api(), plane.api()]
    plane.start("worker")
    runs = {submit(apis, f"key-{i}") for i in range(10)}
    plane.until_all_succeeded(apis[1], runs)
    assert plane.launched() == {f"{run} 1": 1 for run in runs}
    assert apis[0].get("/readyz").json()["database"] == "ok"
    # a restart of the bouncer is noticed before a request is given a dead connection
    bouncer.stop()
    bouncer.start()
    assert apis[0].get("/runs").status_code == 200
    with psycopg.connect(bouncer.url("pgbouncer"), autocommit=True) as console:
        pools = console.execute("SHOW POOLS").fetchall()
    assert any(pool[0] == name for pool in pools)  # it was this way that they went
    until(lambda: apis[1].get("/readyz").status_code == 200, "the worker to sweep on")
