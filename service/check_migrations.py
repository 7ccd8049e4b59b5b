"""`python -m service.check_migrations`: do the migrations lead to exactly the tables of the code, and back to nothing?"""

import sys
import tempfile
from pathlib import Path

from alembic import command
from alembic.util import CommandError

from service.revisions import config


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        made = config(f"sqlite:///{Path(folder) / 'check.db'}")
        command.upgrade(made, "head")
        try:
            command.check(made)
        except CommandError as error:
            print(f"migrations/: {error}; write one with `alembic revision --autogenerate`", file=sys.stderr)
            return 1
        command.downgrade(made, "base")
    return 0


if __name__ == "__main__":
    sys.exit(main())
