"""`python helm/draw_dashboards.py http://127.0.0.1:9090 --minutes 10`: every dashboard as a picture, of what that Prometheus knows.

It is how the pictures in docs/ were made, and a way to look at a change of a panel without a Grafana. `make watch` starts a Prometheus.
"""

import argparse
import json
import time
from pathlib import Path

from helm.boards.ask import Prometheus, Reader, Window
from helm.boards.draw import save

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    told = argparse.ArgumentParser(description=__doc__)
    told.add_argument("prometheus", help="its address")
    told.add_argument("--minutes", type=float, default=30.0, help="how far back the pictures begin")
    told.add_argument("--end", type=float, default=None, help="Unix seconds of their right edge; now by default")
    told.add_argument("--scrape-seconds", type=float, default=5.0, help="how often that Prometheus scrapes")
    told.add_argument(
        "--choose", action="append", default=[], metavar="VARIABLE=VALUE", help="such as run=run_01…; the first of each list by default"
    )
    told.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "dashboards")
    told.add_argument("names", nargs="*", help="of files in helm/dayrun/dashboards; all by default")
    wanted = told.parse_intermixed_args()
    end = time.time() if wanted.end is None else wanted.end
    window = Window(end - 60 * wanted.minutes, end, wanted.scrape_seconds)
    chosen = dict(one.split("=", 1) for one in wanted.choose)
    for path in sorted((ROOT / "helm" / "dayrun" / "dashboards").glob("*.json")):
        if not wanted.names or path.stem in wanted.names:
            board = json.loads(path.read_text())
            save(Reader(board, Prometheus(wanted.prometheus), window, chosen), wanted.out / f"{path.stem}.png")
            print(wanted.out / f"{path.stem}.png")


if __name__ == "__main__":
    main()
