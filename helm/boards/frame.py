"""What all our dashboards have in common: lists to choose from, links to each other and to the page, rows; and the idioms of our queries.

Figures of the service are the same whoever serves them: `whole` takes one of several copies. A run's figures are told by `run` alone:
`of_run` takes one copy, `named` joins what people call it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import dashboard as models

from helm.boards.style import SOURCE, WHERE, Panel, link

PAGE = "http://127.0.0.1:8765"
"""Where dayrun's page is by default; the chart puts the address of its values here."""
TAG = "dayrun"
CHOSEN = "${datasource:queryparam}&${cluster:queryparam}&${namespace:queryparam}&${page:queryparam}&${__url_time_range}"
"""What a link to another dashboard takes along."""
INFO = 'max by (run, name) (dayrun_run_info{$where,project=~"$project"})'


def whole(figure: str, *labels: str, matchers: str = "", ago: str = "") -> str:
    """A figure of the service by `labels`, once an installation, whichever of its processes served it. `ago`: as it was then."""
    selected = f"{figure}{{$where{',' if matchers else ''}{matchers}}}{f' offset {ago}' if ago else ''}"
    return f"max by ({', '.join(('cluster', 'namespace', *labels))}) ({selected})"


def of_project(figure: str, *labels: str, matchers: str = "") -> str:
    return whole(figure, "project", *labels, matchers=f'project=~"$project"{"," if matchers else ""}{matchers}')


def grown(counter: str, *labels: str, matchers: str = "") -> str:
    """By how much a counter of the service grew in an interval of the curve.

    It is no `increase`, which sees nothing of a series that begins with its first event; a series that begins counts from 0, unless nothing
    at all was seen of the installation before.
    """
    now, before = whole(counter, *labels, matchers=matchers), whole(counter, *labels, matchers=matchers, ago="$__rate_interval")
    seen = f"on (cluster, namespace) {whole('dayrun_live_runs', ago='$__rate_interval')}"
    return f"clamp_min({now} - ({before} or 0 * {now} and {seen}), 0)"


def quantile(share: float, histogram: str, over: str | None = None) -> str:
    """Of a histogram of the service, all installations in view together. `over`: of what came in that time; else of all there ever was."""
    bucket = f"{histogram}_bucket"
    counted = f"max by (cluster, namespace, le) (increase({bucket}{{$where}}[{over}]))" if over else whole(bucket, "le")
    return f"histogram_quantile({share}, sum by (le) ({counted}))"


def of_run(figure: str, *labels: str, matchers: str = "") -> str:
    """A figure of the chosen run."""
    return f'max by ({", ".join(("run", *labels))}) ({figure}{{$where,run="$run"{"," if matchers else ""}{matchers}}})'


def of_runs(figure: str, *labels: str, matchers: str = "") -> str:
    """A figure of every run that holds machines, by `run` and `labels`."""
    return f"max by ({', '.join(('run', *labels))}) ({figure}{{$where{',' if matchers else ''}{matchers}}})"


def named(figures: str, info: str = INFO) -> str:
    """`figures` by run, with the name of each; runs of projects that are not chosen fall out."""
    return f"{figures} * on (run) group_left (name) {info}"


@dataclass(frozen=True)
class Row:
    """Panels beneath a title, from left to right; the widths of a line add up to 24."""

    title: str
    panels: Sequence[Panel]


def datasource() -> builders.DatasourceVariable:
    return builders.DatasourceVariable("datasource").label("Prometheus").description("Where the figures are.").type("prometheus")


def chosen_from(name: str, label: str, description: str, query: str, everything: bool = True, pattern: str = "") -> builders.QueryVariable:
    """A list that `query` fills. `everything`: begins with "All", takes several, and "All" matches what lacks the label, too."""
    variable = builders.QueryVariable(name).label(label).description(description).datasource(SOURCE).query(query.replace("$where", WHERE))
    variable = variable.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(models.VariableSort.ALPHABETICAL_ASC)
    variable = variable.regex(pattern) if pattern else variable
    if not everything:
        return variable
    return variable.multi(True).include_all(True).all_value(".*").current(models.VariableOption(True, "All", "$__all"))


def scope() -> list[Any]:
    """Datasource, cluster and namespace: of every dashboard."""
    return [
        datasource(),
        chosen_from("cluster", "Cluster", "Where several clusters report to one Prometheus.", "label_values(dayrun_build_info, cluster)"),
        chosen_from(
            "namespace",
            "Namespace",
            "An installation of dayrun.",
            'label_values(dayrun_build_info{cluster=~"$cluster"}, namespace)',
        ),
    ]


def project() -> builders.QueryVariable:
    return chosen_from("project", "Project", "Whose runs and money.", "label_values(dayrun_accelerators_held{$where}, project)")


def page() -> builders.TextBoxVariable:
    return builders.TextBoxVariable("page").label("Page").description("Address of dayrun's page, for links to it.").default_value(PAGE)


def dashboard(
    uid: str, title: str, description: str, variables: Sequence[Any], rows: Sequence[Row], since: str = "now-6h", refresh: str = "30s"
):
    """Puts it all together: numbered panels, the lists, links to the other dashboards and to the page."""
    made = (
        builders.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .readonly()
        .timezone("browser")
        .time(since, "now")
        .refresh(refresh)
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .variables([*scope(), *variables, page()])
        .link(
            builders.DashboardLink("dayrun")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .icon("external link")
            .include_vars(True)
            .keep_time(True)
        )
        .link(link("The page", "${page}", new_tab=True).tooltip("Runs, samples and curves in dayrun's own page"))
    )
    number = 0
    for row in rows:
        number += 1
        made = made.with_row(builders.Row(row.title).id(number))
        for panel in row.panels:
            number += 1
            made = made.with_panel(panel.id(number))
    return made


def to_run(title: str = "This run", run: str = "${__data.fields.Run}") -> builders.DashboardLink:
    """A link to the dashboard of one run. `run`: how the clicked place says which; of a curve, `${__field.labels.run}`."""
    return link(title, f"/d/dayrun-run?var-run={run}&{CHOSEN}")


def to_page(title: str = "Its samples", run: str = "${__data.fields.Run}") -> builders.DashboardLink:
    return link(title, f"${{page}}/#/runs/{run}", new_tab=True)
