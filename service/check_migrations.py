"""`python -m service.check_migrations`: do the migrations lead to exactly the tables of the code, and back to nothing? May they run
while others use the database? squawk judges the SQL that each of them would send to Postgres.
"""

import io
import subprocess
import sys
import tempfile
from itertools import takewhile
from pathlib import Path

from alembic import command
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from service.revisions import MIGRATIONS, config

BASELINE = "0003"
"""Made before there was a Postgres in use; what comes after it must not stop one."""
LET_PASS = {
    "require-statement-timeout": "env.py limits how long a lock is waited for, which is what others feel; filling a column may take longer",
    "prefer-text-field": "String(n) says what the interface takes; a wider one is a new migration, judged by the rule on changed types",
    "prefer-bigint-over-int": "steps, attempts and versions stay small; SQLite gives ids by itself to an INTEGER only",
    "prefer-identity": "SQLAlchemy's autoincrement gives SERIAL; nothing else writes these ids",
    "prefer-timestamp-tz": "UtcDateTime stores UTC on both databases; SQLite has no zones",
    "prefer-robust-stmts": "each migration is one transaction: half of one does not happen (expand.py's indexes see to themselves)",
}
"""Rules of squawk that do not hold here, and why."""


def sql_of(revision: str, before: str) -> str:
    """What `revision` sends to a Postgres that is at revision `before`."""
    made = config("postgresql+psycopg://")
    made.output_buffer = written = io.StringIO()
    command.upgrade(made, f"{before}:{revision}", sql=True)
    return written.getvalue()


def after_baseline() -> list[tuple[str, str]]:
    """Each revision after BASELINE with the one before it, oldest first."""
    newest_first = ScriptDirectory(str(MIGRATIONS)).walk_revisions()
    newer = takewhile(lambda script: script.revision != BASELINE, newest_first)
    return [(script.revision, str(script.down_revision)) for script in newer][::-1]


def judged(sql: str, name: str) -> str:
    """What squawk has against `sql`; empty when nothing."""
    program = Path(sys.executable).with_name("squawk")
    flags = ["--reporter", "gcc", "--pg-version", "15", "--stdin-filepath", name, "--exclude", ",".join(LET_PASS)]
    done = subprocess.run([program, *flags], input=sql, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else (done.stdout + done.stderr).strip()


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
    against = [said for revision, before in after_baseline() if (said := judged(sql_of(revision, before), f"{revision}.sql"))]
    for said in against:
        print(said, file=sys.stderr)
    if against:
        print("migrations/: docs/migrations.md says how to do it without stopping those who use the database", file=sys.stderr)
    return bool(against)


if __name__ == "__main__":
    sys.exit(main())
