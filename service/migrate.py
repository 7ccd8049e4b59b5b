"""`python -m service.migrate`: create the tables or bring them up to date, and end. What a deployment runs before its API and workers."""

import sys

from sqlalchemy.exc import DBAPIError

from service.revisions import WrongVersion, bring_up_to_date, newest_revision
from service.settings import Settings


def main() -> int:
    settings = Settings()
    try:
        bring_up_to_date(settings, may_migrate=True)
    except WrongVersion as error:
        print(f"migrate: {error}", file=sys.stderr)
        return 2
    except DBAPIError as error:
        print(f"migrate: DAYRUN_DATABASE cannot be used ({str(error.orig).strip()}); nothing was changed", file=sys.stderr)
        return 1
    print(f"the database is at revision {newest_revision()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
