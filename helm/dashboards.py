"""Writes helm/dayrun/dashboards/*.json and docs/dashboards.md from helm/boards/.

`python helm/dashboards.py --write`, or `--check` that they are current. Grafana, the chart's ConfigMaps and the tests read the JSON.
"""

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from helm.boards.control_plane import control_plane
from helm.boards.data import data
from helm.boards.explained import page
from helm.boards.fleet import fleet
from helm.boards.run import run

ROOT = Path(__file__).resolve().parents[1]
BOARDS = {"fleet": fleet, "run": run, "control-plane": control_plane, "data": data}
FOLDER = ROOT / "helm" / "dayrun" / "dashboards"
PAGE = ROOT / "docs" / "dashboards.md"


def files() -> dict[Path, str]:
    """Everything that is written, by where it lies."""
    made = {
        FOLDER / f"{name}.json": json.dumps(board().build(), cls=JSONEncoder, indent=1, ensure_ascii=False) + "\n"
        for name, board in BOARDS.items()
    }
    return made | {PAGE: page({path.stem: json.loads(text) for path, text in made.items()})}


def main() -> int:
    wanted = files()
    strangers = set(FOLDER.glob("*.json")) - set(wanted)
    if sys.argv[1:] == ["--write"]:
        FOLDER.mkdir(exist_ok=True)
        for path, text in wanted.items():
            path.write_text(text)
        for path in strangers:
            path.unlink()
        return 0
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text] + sorted(strangers)
    for path in stale:
        print(f"{path.relative_to(ROOT)} is not what helm/boards makes: run `make chart`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
