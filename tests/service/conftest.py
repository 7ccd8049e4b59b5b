"""What tests of the service share: the API on both databases."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import pytest_asyncio

from service.stack import Postgres
from tests.service.api import Api, settings_for


@pytest.fixture(scope="session")
def own_postgres() -> Iterator[Postgres]:
    # not below pytest's folder: that is closed to others, and Postgres, which refuses to be root, is another
    with TemporaryDirectory(prefix="dayrun-postgres-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        server = Postgres(Path(folder))
        server.start()
        yield server
        server.stop()


@pytest_asyncio.fixture(scope="module", params=["sqlite", "postgres"])
async def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """One API for the tests of a module, on SQLite and on Postgres."""
    home: Path = tmp_path_factory.mktemp("api")
    database = request.getfixturevalue("own_postgres").create_database(home.name) if request.param == "postgres" else None
    made = Api(settings_for(home, database, webhook_networks="127.0.0.0/8"))
    yield made
    await made.close()
