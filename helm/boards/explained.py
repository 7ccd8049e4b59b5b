"""docs/dashboards.md: what each panel means, from the panels' own descriptions."""

from typing import Any

HEAD = """# Dashboards

Four for Grafana 11.6 or later, in `helm/dayrun/dashboards`: the chart ships them to Grafana's sidecar
(`metrics.dashboards`), a Grafana without one imports the files. What they draw is listed in [metrics.md](metrics.md). `make chart` writes
them and this page from `helm/boards/`.

Each has lists to choose from: the Prometheus, cluster and namespace where there are several, and projects or a run. `Page` is the address
of dayrun's own page, where links to samples lead; `metrics.dashboards.page` of the chart sets it. Dashed lines are limits and
predictions, not measurements.

```yaml
metrics:
  serviceMonitor: {enabled: true, labels: {release: prometheus}}   # what your Prometheus selects by
  dashboards: {enabled: true, annotations: {grafana_folder: dayrun}, page: "https://dayrun.example.com"}
```

The pictures below are no screenshots of Grafana: `python helm/draw_dashboards.py` asks a Prometheus what Grafana would ask it and draws
the answers. Beside `make watch`: `PYTHONPATH=. .venv/bin/python helm/draw_dashboards.py http://127.0.0.1:PORT --minutes 10`.
"""


def page(boards: dict[str, dict[str, Any]]) -> str:
    """The page of `boards`, by the names of their files."""
    return HEAD + "".join(_board(name, board) for name, board in boards.items())


def _board(name: str, board: dict[str, Any]) -> str:
    lines = [
        "",
        f"## {board['title'].removeprefix('dayrun: ').capitalize()}",
        "",
        f"{board['description']} UID `{board['uid']}`.",
        "",
        f"![{board['title']}](images/dashboards/{name}.png)",
        "",
    ]
    marks = [mark for mark in (board.get("annotations") or {}).get("list", []) if "expr" in mark]
    if marks:
        lines += [f"Vertical lines mark: {', '.join(_lower(mark['name']) for mark in marks)}.", ""]
    lines += ["| panel | meaning |", "| --- | --- |"]
    for panel in board["panels"]:
        if panel["type"] == "row":
            lines.append(f"| **{panel['title']}** | |")
        else:
            lines.append(f"| {panel['title']} | {_with_limits(panel)} |")
    return "\n".join(lines) + "\n"


def _with_limits(panel: dict[str, Any]) -> str:
    return panel["description"].replace("|", "\\|")


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]
