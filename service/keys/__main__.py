"""`python -m service.keys`: the first key, written straight into the database that the settings name. For who has a shell on the server.

Every other key is made through the API by somebody who may; there is no password to begin with.
"""

import argparse
import asyncio
import sys

from sqlalchemy.exc import DBAPIError

from service.database import Database, now
from service.keys import repository
from service.keys.schemas import NewKey
from service.keys.service import store
from service.revisions import WrongVersion, bring_up_to_date
from service.settings import Settings

BY = "bootstrap"


class OperatorExists(Exception):
    """There is an operator's key that works; the message says what to do."""


async def first_key(settings: Settings, new: NewKey, force: bool) -> str:
    """The key itself. Raises OperatorExists."""
    database = Database(settings)
    try:
        async with database.write() as session:
            existing = await repository.working_operators(session, now())
            if existing and not force:
                named = ", ".join(f"{row.id} ({row.name})" for row in existing[:3])
                raise OperatorExists(f"there is an operator's key already: {named}; if it is lost, make another with --force and revoke it")
            return (await store(session, new, BY))[1]
    finally:
        await database.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="dayrun keys create --bootstrap", description="Make the first operator's key on the server.")
    parser.add_argument("--name", default="first operator", help="what it is for")
    parser.add_argument("--days", type=int, default=90, help="how long it works; 0: until it is revoked")
    parser.add_argument("--force", action="store_true", help="although an operator's key exists")
    options = parser.parse_args()
    try:
        settings = Settings()
        new = NewKey(name=options.name, role="operator", days=options.days or None)
        bring_up_to_date(settings, False)
        key = asyncio.run(first_key(settings, new, options.force))
    except (OperatorExists, WrongVersion) as error:
        print(f"dayrun keys: {error}", file=sys.stderr)
        return 2
    except DBAPIError as error:
        print(f"dayrun keys: the database cannot be used: {error.orig}", file=sys.stderr)
        return 2
    except ValueError as error:  # pydantic's among them
        print(f"dayrun keys: {error}", file=sys.stderr)
        return 2
    print(key)
    print("This key is shown once. It may do everything: keep it in a secret store, and use it as DAYRUN_KEY.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
