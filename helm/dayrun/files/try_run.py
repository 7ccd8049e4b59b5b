"""What `helm test` runs: post a short run through the API, follow it to its end, and say why if that is not `succeeded`.

Reads DAYRUN_URL, TEST_FILE (a JSON file with recipe, overrides and seconds) and DAYRUN_KEY. Without a key it makes an operator's key for
itself, straight in the database, and revokes it when done.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from dayrun.client import Client, ServiceError, Unreachable


def own_key() -> str:
    """An operator's key, made as docs/access.md says. `--force`: somebody else's may be there."""
    command = [sys.executable, "-m", "service.keys", "--name", "helm test", "--days", "1", "--force"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def trained(client: Client, test: dict[str, Any]) -> bool:
    """Whether the run succeeded in time; tells how it goes."""
    posted = client.create_run(test["recipe"], overrides=test["overrides"] or None, labels={"purpose": "helm-test"})
    until, told = time.monotonic() + test["seconds"], ""
    print(f"posted {posted.id}", flush=True)
    run = posted
    for run in client.follow(posted.id, every_seconds=1.0):
        waits = f": {run.waiting.because}" if run.waiting else ""
        if (now := f"{run.state}{waits}, attempt {run.attempt}, step {run.progress.step}") != told:
            told = now
            print(now, flush=True)
        if time.monotonic() > until:
            client.cancel(run.id)
            print(f"not over after {test['seconds']} s, cancelled; see `dayrun show {run.id}`", file=sys.stderr)
            return False
    if run.state != "succeeded":
        print("\n".join([f"{run.state}, cause {run.cause}", *run.evidence]), file=sys.stderr)
    return run.state == "succeeded"


def main() -> int:
    given = os.environ.get("DAYRUN_KEY")
    key = given or own_key()
    with Client(key=key) as client:
        try:
            return 0 if trained(client, json.loads(Path(os.environ["TEST_FILE"]).read_text())) else 1
        except (ServiceError, Unreachable) as error:
            print(f"helm test: {error}", *getattr(error, "errors", []), sep="\n", file=sys.stderr)
            return 1
        finally:
            if not given:
                client.revoke_key(f"key_{key.split('_')[1]}")


if __name__ == "__main__":
    sys.exit(main())
