"""`python -m service.migrate`: create the tables or bring them up to date, and end. What a deployment runs before its API and workers.

With `--wait` it changes nothing and ends once somebody else has done that: what the API and the workers of a deployment start with. A
database that a newer dayrun has brought further is left as it is: migrations only add, and older code works on beside them (a rollback).
"""

import argparse
import sys
import time

from sqlalchemy.exc import DBAPIError

from service.revisions import WrongVersion, bring_up_to_date, known_revisions, newest_revision, revision_of
from service.settings import Settings

WAIT_SECONDS = 300.0
LOOK_SECONDS = 0.5


class NotYet(Exception):
    """The database is not as it must be, and may be soon; the message says what is missing."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m service.migrate", description="Bring the database to the revision of this code.")
    parser.add_argument("--wait", action="store_true", help="change nothing: end once another process has done it")
    parser.add_argument(
        "--patience", type=float, metavar="SECONDS", help=f"how long what is missing is waited for; 0, and {WAIT_SECONDS:.0f} with --wait"
    )
    options = parser.parse_args()
    settings = Settings()
    step, patience = (look, WAIT_SECONDS) if options.wait else (migrate, 0.0)
    until = time.monotonic() + (patience if options.patience is None else options.patience)
    said = ""
    while True:
        try:
            print(step(settings))
            return 0
        except WrongVersion as error:
            print(f"migrate: {error}", file=sys.stderr)
            return 2
        except NotYet as missing:
            if time.monotonic() >= until:
                print(f"migrate: {missing}; nothing was changed", file=sys.stderr)
                return 1
            if said != str(missing):
                said = str(missing)
                print(f"waiting: {said}", file=sys.stderr, flush=True)
        time.sleep(LOOK_SECONDS)


def migrate(settings: Settings) -> str:
    """What was done. Raises WrongVersion, and NotYet where the database cannot be used."""
    try:
        if newer := of_newer(revision_of(settings)):
            return newer
        bring_up_to_date(settings, may_migrate=True)
    except DBAPIError as error:
        raise NotYet(away(error)) from error
    return f"the database is at revision {newest_revision()}"


def look(settings: Settings) -> str:
    """What revision there is, if this code can work on it. Raises NotYet."""
    try:
        found = revision_of(settings)
    except DBAPIError as error:
        raise NotYet(away(error)) from error
    if newer := of_newer(found):
        return newer
    if found != newest_revision():
        there = "has no tables" if found is None else f"is at revision {found}"
        raise NotYet(f"the database {there}, this code needs {newest_revision()}: run `python -m service.migrate`")
    return f"the database is at revision {found}"


def of_newer(found: str | None) -> str | None:
    """A sentence about a revision that this code does not know."""
    if found is None or found in known_revisions():
        return None
    return f"the database is at revision {found}, which a newer dayrun made: there is nothing to do"


def away(error: DBAPIError) -> str:
    return f"DAYRUN_DATABASE cannot be used ({str(error.orig).strip()})"


if __name__ == "__main__":
    sys.exit(main())
