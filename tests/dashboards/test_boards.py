"""What every dashboard, panel and query of ours must have: Grafana's own linter cannot be had offline, and knows nothing of our metrics."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from helm.boards.ask import VARIABLE, Window, panels_of
from helm.boards.numbers import COLOURS, shown
from service.metrics.catalogue import CATALOGUE, GROUPS, Kind, Source
from tests.conftest import ROOT

FILES = sorted((ROOT / "helm" / "dayrun" / "dashboards").glob("*.json"))
BOARDS: dict[str, dict[str, Any]] = {path.stem: json.loads(path.read_text()) for path in FILES}
PANELS = [pytest.param(board, panel, id=f"{name}-{panel['id']}") for name, board in BOARDS.items() for panel in panels_of(board)]
MACROS = set(Window(0, 1, 1).macros())
SELECTOR = re.compile(r"\b(?P<name>[a-zA-Z_]\w*)\{(?P<matchers>[^}]*)\}")
NOT_OURS = ("ALERTS", "DCGM_", "kube_", "container_")
OF_TARGETS = {"cluster", "namespace", "le", "pod", "instance", "job"}
UNDRAWN: dict[str, str] = {
    "dayrun_run_accelerators": "dollars an hour and share of peak say the same better",
    "dayrun_run_checkpoint_bytes": "does not move within a run; the checkpoint's event has it",
    "dayrun_budget_left_dollars": "spent over budget says the same, and by how much more than all was spent",
    "dayrun_attempt_accelerator_seconds_total": "for chargeback; dollars are drawn",
}


def queries(board: dict[str, Any]) -> list[str]:
    panels = [target["expr"] for panel in panels_of(board) for target in panel["targets"]]
    lists = [one["query"] for one in board["templating"]["list"] if one["type"] == "query"]
    marks = [mark["expr"] for mark in (board.get("annotations") or {}).get("list", []) if "expr" in mark]
    return panels + marks + [re.sub(r"^(?:label_values\((.*),\s*\w+|query_result\((.*))\)$", r"\1\2", one) for one in lists]


def filled(promql: str) -> str:
    """With something in the place of each variable: for the parser alone."""
    return VARIABLE.sub(lambda match: "5m" if (match["braced"] or match["bare"]) in MACROS else "x", promql)


def figure_of(name: str) -> str:
    """The figure that a series belongs to."""
    stem = re.sub(r"_(bucket|sum|count)$", "", name)
    return stem if stem in CATALOGUE and CATALOGUE[stem].kind in (Kind.HISTOGRAM, Kind.SUMMARY) else name


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_has_a_name_an_address_and_lists_to_choose_from(name: str):
    board = BOARDS[name]
    assert board["uid"] == f"dayrun-{name}"
    assert board["title"].startswith("dayrun: ")
    assert board["description"].endswith(".")
    assert board["tags"] == ["dayrun"]  # by which the dashboards find each other
    lists = {one["name"]: one for one in board["templating"]["list"]}
    assert lists["datasource"]["type"] == "datasource"
    for scope in ("cluster", "namespace"):
        assert lists[scope]["allValue"] == ".*", "a series without the label must be matched, too"
    for one in lists.values():
        assert one["label"], one["name"]
        assert one["description"].endswith("."), one["name"]
        assert one["type"] != "query" or one["datasource"]["uid"] == "${datasource}"
    titles = [panel["title"] for panel in panels_of(board)]
    assert len(set(titles)) == len(titles), titles
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


@pytest.mark.parametrize("name", BOARDS)
def test_panels_fill_the_width_and_do_not_overlap(name: str):
    taken: dict[tuple[int, int], str] = {}
    for panel in BOARDS[name]["panels"]:
        place = panel["gridPos"]
        cells = [(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])]
        assert not (on := {taken[cell] for cell in cells if cell in taken}), f"{panel['title']} lies on {on}"
        taken |= dict.fromkeys(cells, panel["title"])
    assert {x for x, _ in taken} == set(range(24))
    heights = [y for _, y in taken]
    holes = [(x, y) for y in range(max(heights) + 1) for x in range(24) if (x, y) not in taken]
    assert not holes, f"nothing is drawn at {holes[:5]}"


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_a_panel_says_what_it_is_in_which_unit_and_of_which_source(board: dict[str, Any], panel: dict[str, Any]):
    assert panel["title"]
    assert panel["title"][0] == panel["title"][0].upper()
    assert len(panel["description"]) > 20
    assert panel["description"].endswith((".", "…"))
    assert panel["datasource"]["uid"] == "${datasource}"
    shown(1.5, panel["fieldConfig"]["defaults"]["unit"])  # a unit that can be drawn is one of Grafana's
    steps = (panel["fieldConfig"]["defaults"].get("thresholds") or {}).get("steps", [])
    values = [step["value"] for step in steps]
    assert values == [*values[:1], *sorted(values[1:])]
    assert {step["color"] for step in steps} <= set(COLOURS)
    refs = [target["refId"] for target in panel["targets"]]
    assert refs
    assert len(set(refs)) == len(refs)
    for target in panel["targets"]:
        assert target["datasource"]["uid"] == "${datasource}"
        assert panel["type"] != "timeseries" or target["legendFormat"], "a curve has a name"


@pytest.mark.parametrize("name", BOARDS)
def test_queries_name_real_figures_their_labels_and_whose_they_are(name: str):
    for promql in queries(BOARDS[name]):
        for found in SELECTOR.finditer(promql):
            series, matchers = found["name"], found["matchers"]
            if series.startswith(NOT_OURS):
                continue
            figure = CATALOGUE.get(figure_of(series))
            assert figure is not None, f"{series} is no figure of the catalogue\n  in: {promql}"
            matched = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
            assert matched <= {*figure.labels, *OF_TARGETS}, (
                f"{series} has no label {matched - {*figure.labels, *OF_TARGETS}}\n  in: {promql}"
            )
            # a run's id is of one installation; and the list of clusters comes before any is chosen
            assert "run" in matched or 'cluster=~"$cluster"' in matchers or "query" in promql, promql
        bare = set(re.findall(r"\bdayrun_\w+(?![\w{])", promql)) - {found["name"] for found in SELECTOR.finditer(promql)}
        assert bare <= {"dayrun_build_info"}, f"{bare} would be taken from every installation\n  in: {promql}"


@pytest.mark.parametrize("name", BOARDS)
def test_ranges_follow_what_is_looked_at(name: str):
    """A fixed range is too short for a long view or too long for a short one; below two scrapes it is empty."""
    for promql in queries(BOARDS[name]):
        for span in re.findall(r"\[([^\]]*)\]|offset (\S+?)\b(?=[\s)]|$)", promql):
            assert (span[0] or span[1]) in ("$__rate_interval", "$__range", "$__interval"), promql
        for function in ("rate", "increase", "deriv", "changes"):
            for argument in re.findall(rf"\b{function}\(\w+(?:\{{[^}}]*\}})?\[([^\]]*)\]", promql):
                assert argument in ("$__rate_interval", "$__range"), promql


@pytest.mark.parametrize("name", BOARDS)
def test_every_variable_in_use_can_be_chosen_and_every_link_leads_somewhere(name: str):
    board = BOARDS[name]
    lists = {one["name"] for one in board["templating"]["list"]}
    for promql in queries(board):
        used = {match["braced"] or match["bare"] for match in VARIABLE.finditer(promql)}
        assert used <= lists | MACROS, promql
    for url in re.findall(r'"url": "([^"]*)"', json.dumps(board).replace('\\"', "'")):
        for match in VARIABLE.finditer(url):
            assert (match["braced"] or match["bare"]) in lists | {"__url_time_range"}, url
        if led := re.match(r"/d/dayrun-([\w-]+)", url):
            theirs = {one["name"] for one in BOARDS[led[1]]["templating"]["list"]}
            assert set(re.findall(r"var-(\w+)=", url)) <= theirs, url
        else:
            assert url == "${page}" or url.startswith("${page}/#/runs/"), url


def test_every_query_parses(tmp_path: Path):
    """promtool reads them as rules: the parser is Prometheus' own."""
    rules = [
        {"record": "x", "expr": filled(promql), "labels": {"n": str(n)}}
        for n, promql in enumerate(q for b in BOARDS.values() for q in queries(b))
    ]
    assert len(rules) > 100
    file = tmp_path / "queries.yaml"
    file.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))  # JSON is YAML
    told = subprocess.run(["promtool", "check", "rules", "--lint=none", str(file)], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    file.write_text(json.dumps({"groups": [{"name": "queries", "rules": [{"record": "x", "expr": "sum(rate(x))"}]}]}))
    assert subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, check=False).returncode != 0


def test_every_figure_is_drawn_or_said_why_not():
    drawn = {figure_of(found["name"]) for board in BOARDS.values() for promql in queries(board) for found in SELECTOR.finditer(promql)}
    drawn |= {found for board in BOARDS.values() for promql in queries(board) for found in re.findall(r"\bdayrun_build_info\b", promql)}
    missing = set(CATALOGUE) - drawn
    assert missing == set(UNDRAWN), f"draw, or say why not: {missing ^ set(UNDRAWN)}"


def test_figures_of_runs_are_told_apart_by_the_run_alone():
    """Other labels of the target would make two curves of one run where two API processes are scraped."""
    of_runs = {figure.name for source, figures in GROUPS.values() if source is Source.RUN for figure in figures}
    for board in BOARDS.values():
        for promql in queries(board):
            for found in SELECTOR.finditer(promql):
                if found["name"] in of_runs and "query_result" not in promql:
                    before = promql[: found.start()]
                    assert re.search(r"\b(max|sum) by \([^)]*\brun\b[^)]*\) \((\w+\()*$", before) or re.search(
                        r"(and|on \(run\)) $", before
                    ), promql
