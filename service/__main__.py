"""`python -m service`: what `dayrun serve` starts. Options override settings from the environment."""

import argparse
import os
import sys
from pathlib import Path

from pydantic import ValidationError


def main() -> int:
    parser = argparse.ArgumentParser(prog="dayrun serve", description="The service with all its parts, until Ctrl-C.")
    parser.add_argument("--home", type=Path, help="folder of the database, runs and logs (DAYRUN_HOME; default ~/.dayrun)")
    parser.add_argument("--data", type=Path, help="where relative data URLs of recipes start (DAYRUN_DATA; default HOME/data)")
    parser.add_argument("--host", help="address to listen on (DAYRUN_HOST; default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on, 0 for a free one (DAYRUN_PORT; default 8765)")
    parser.add_argument("--stack", action="store_true", help="use Postgres, Valkey and S3, started with their data in HOME/stack")
    parser.add_argument("--migrate", action="store_true", help="bring an older database up to date; a copy is kept")
    options = parser.parse_args()
    given = {name: value for name in ("home", "data", "host", "port") if (value := getattr(options, name)) is not None}
    from service.serve import serve
    from service.settings import Settings

    try:
        settings = Settings(**given)
    except ValidationError as error:
        for one in error.errors():
            if not one["loc"]:  # about several settings
                print(f"dayrun serve: {one['msg'].removeprefix('Value error, ')}", file=sys.stderr)
                continue
            name = str(one["loc"][0])
            place = f"--{name}" if name in given else f"DAYRUN_{name.upper()}"
            print(f"dayrun serve: {place}={one['input']!r}: {one['msg'].lower()}", file=sys.stderr)
        return 2
    os.environ.update({key: value for key, value in settings.for_children().items() if key.startswith("DAYRUN_")})
    return serve(settings, options.migrate, options.stack)


if __name__ == "__main__":
    sys.exit(main())
