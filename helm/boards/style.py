"""How our panels look and what each must have: a title, a unit, a description, a datasource that the reader chooses.

It knows nothing of metrics. In a query `$where` stands for the matchers of the dashboard's scope; everything else is PromQL with Grafana's
own variables and macros. Builders are those of grafana-foundation-sdk, whose types are Grafana 11.6's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from grafana_foundation_sdk.builders import bargauge, common, heatmap, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import prometheus as queries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmaps
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
WHERE = 'cluster=~"$cluster",namespace=~"$namespace"'
"""Neither label is there where one Prometheus scrapes one service: `.*`, which is "All", matches a label that is missing."""
Panel = Builder[models.Panel]
Steps = Sequence[tuple[float, str]]
"""Thresholds above the lowest, each with the colour from there on, in ascending order."""


@dataclass(frozen=True)
class Query:
    """What one line, number or column asks. `per`: it is a table's column, named `name`, of rows by these labels."""

    promql: str
    name: str = ""
    now: bool = False
    exemplars: bool = False

    def builder(self, ref: str, now: bool = False, shape: PromQueryFormat = PromQueryFormat.TIME_SERIES) -> queries.Dataquery:
        built = queries.Dataquery().ref_id(ref).datasource(SOURCE).expr(self.promql.replace("$where", WHERE)).format(shape)
        built = built.instant() if now or self.now else built.range()
        built = built.exemplar(True) if self.exemplars else built
        return built if shape is PromQueryFormat.TABLE else built.legend_format("{{le}}" if shape is PromQueryFormat.HEATMAP else self.name)


@dataclass(frozen=True)
class Column:
    """Of a table: its header, the unit of its values, where its colours change, and where a click on it leads."""

    title: str
    promql: str
    unit: str
    steps: Steps = ()
    first: str = "green"
    names: dict[str, tuple[str, str]] = field(default_factory=dict)
    """What is shown in the place of a value, and in which colour."""


def lines(
    title: str,
    unit: str,
    description: str,
    *asked: Query,
    span: int = 8,
    height: int = 8,
    steps: Steps = (),
    first: str = "green",
    stacked: bool = False,
    log: bool = False,
    least: float | None = None,
    most: float | None = None,
    stairs: bool = False,
    colours: dict[str, str] | None = None,
    dashed: str = "",
    links: Sequence[Builder[models.DashboardLink]] = (),
) -> Panel:
    """Curves over time, with `steps` as dashed lines. `dashed`: a regular expression of the names of curves that are limits or
    predictions, not measurements; they are not stacked either."""
    panel = timeseries.Panel().title(title).unit(unit).description(description).datasource(SOURCE).span(span).height(height)
    panel = _asking(panel, asked)
    panel = (
        panel.draw_style(looks.GraphDrawStyle.LINE)
        .line_width(1)
        .fill_opacity(30 if stacked else 8)
        .show_points(looks.VisibilityMode.AUTO)
        .span_nulls(False)
        .tooltip(common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI).sort(looks.SortOrder.DESCENDING))
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(looks.LegendDisplayMode.LIST)
            .placement(looks.LegendPlacement.BOTTOM)
            .calcs([])
        )
    )
    panel = panel.line_interpolation(looks.LineInterpolation.STEP_AFTER) if stairs else panel
    panel = panel.stacking(common.StackingConfig().mode(looks.StackingMode.NORMAL)) if stacked else panel
    panel = panel.scale_distribution(common.ScaleDistributionConfig().type(looks.ScaleDistribution.LOG).log(10)) if log else panel
    panel = panel if least is None else panel.min(least)
    panel = panel if most is None else panel.max(most)
    if steps:
        panel = panel.thresholds(_steps(first, steps)).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(looks.GraphThresholdsStyleMode.DASHED)
        )
    for name, colour in (colours or {}).items():
        panel = panel.override_by_name(name, [_fixed(colour)])
    if dashed:
        look = {
            "custom.lineStyle": {"fill": "dash", "dash": [8, 6]},
            "custom.fillOpacity": 0,
            "custom.stacking": {"mode": "none", "group": "A"},
        }
        panel = panel.override_by_regexp(f"/{dashed}/", [models.DynamicConfigValue(name, value) for name, value in look.items()])
    return panel.data_links(list(links)) if links else panel


def number(
    title: str,
    unit: str,
    description: str,
    asked: Query,
    span: int = 4,
    height: int = 4,
    steps: Steps = (),
    first: str = "green",
    names: dict[str, tuple[str, str]] | None = None,
    by_name: bool = False,
    nothing: str = "–",
    graph: bool = True,
    links: Sequence[Builder[models.DashboardLink]] = (),
) -> Panel:
    """One figure, as of now, before its own curve. `by_name`: what counts is the series' name. `nothing`: shown where there "
    "is no answer."""
    panel = stat.Panel().title(title).unit(unit).description(description).datasource(SOURCE).span(span).height(height)
    panel = (
        _asking(panel, [asked], now=not graph)
        .graph_mode(looks.BigValueGraphMode.AREA if graph else looks.BigValueGraphMode.NONE)
        .color_mode(looks.BigValueColorMode.VALUE)
        .text_mode(looks.BigValueTextMode.NAME if by_name else looks.BigValueTextMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False))
        .thresholds(_steps(first, steps))
        .no_value(nothing)
    )
    panel = panel.mappings([_names(names)]) if names else panel
    return panel.data_links(list(links)) if links else panel


def bars(
    title: str,
    unit: str,
    description: str,
    *asked: Query,
    span: int = 8,
    height: int = 8,
    steps: Steps = (),
    first: str = "green",
    **more: float,
) -> Panel:
    """What is highest now: one bar a series. `least` and `most` of `more`: where the bars begin and end."""
    panel = bargauge.Panel().title(title).unit(unit).description(description).datasource(SOURCE).span(span).height(height)
    panel = (
        _asking(panel, asked, now=True)
        .orientation(looks.VizOrientation.HORIZONTAL)
        .display_mode(looks.BarGaugeDisplayMode.BASIC)
        .show_unfilled(True)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False))
        .thresholds(_steps(first, steps))
        .min(more.get("least", 0))
    )
    return panel.max(more["most"]) if "most" in more else panel


def heat(title: str, unit: str, description: str, asked: Query, span: int = 12, height: int = 8) -> Panel:
    """A histogram over time, from buckets by `le`."""
    panel = heatmap.Panel().title(title).unit(unit).description(description).datasource(SOURCE).span(span).height(height)
    built = asked.builder("A", shape=PromQueryFormat.HEATMAP)
    colour = (
        heatmap.HeatmapColorOptions()
        .mode(heatmaps.HeatmapColorMode.SCHEME)
        .scheme("Viridis")
        .exponent(0.5)
        .steps(64)
        .reverse(False)
        .fill("")
    )
    return panel.with_target(built).calculate(False).color(colour).y_axis(heatmap.YAxisConfig().unit(unit)).show_color_scale(True)


def rows_of(
    title: str,
    description: str,
    labels: dict[str, str],
    *columns: Column,
    span: int = 24,
    height: int = 8,
    links: dict[str, Sequence[Builder[models.DashboardLink]]] | None = None,
    sorted_by: str | None = None,
) -> Panel:
    """A table of what is now. `labels`: the labels that tell rows apart, each with its header; every query must keep these "
    "and no others."""
    panel = table.Panel().title(title).unit("short").description(description).datasource(SOURCE).span(span).height(height)
    refs = [chr(ord("A") + number) for number in range(len(columns))]
    for ref, column in zip(refs, columns, strict=True):
        panel = panel.with_target(Query(column.promql).builder(ref, now=True, shape=PromQueryFormat.TABLE))
        properties = [models.DynamicConfigValue("unit", column.unit)]
        if column.steps or column.names:
            properties.append(models.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}))
        if column.steps:
            properties.append(models.DynamicConfigValue("thresholds", _steps(column.first, column.steps).build()))
        if column.names:
            properties.append(models.DynamicConfigValue("mappings", [_names(column.names)]))
        panel = panel.override_by_name(column.title, properties)
    for header, to in (links or {}).items():
        panel = panel.override_by_name(header, [models.DynamicConfigValue("links", [link.build() for link in to])])
    # with one query Grafana calls its column "Value", with more of them "Value #A", "Value #B", …
    values = ["Value"] if len(columns) == 1 else [f"Value #{ref}" for ref in refs]
    renamed = labels | dict(zip(values, (column.title for column in columns), strict=True))
    order = {name: place for place, name in enumerate(renamed)}
    panel = panel.with_transformation(models.DataTransformerConfig("merge", options={}))
    panel = panel.with_transformation(
        models.DataTransformerConfig("organize", options={"excludeByName": {"Time": True}, "indexByName": order, "renameByName": renamed})
    )
    if sorted_by:
        panel = panel.sort_by([common.TableSortByFieldState().display_name(sorted_by).desc(True)])
    return panel.cell_height(looks.TableCellHeight.SM)


def link(title: str, url: str, new_tab: bool = False) -> builders.DashboardLink:
    return builders.DashboardLink(title).url(url).type(models.DashboardLinkType.LINK).icon("external link").target_blank(new_tab)


class Mark(models.AnnotationQuery):
    """Vertical lines where a query has a value. Grafana reads more of it than the SDK's type can say; `text` may name labels: `{{run}}`."""

    def __init__(self, name: str, promql: str, colour: str, text: str) -> None:
        super().__init__(name=name, datasource=SOURCE, enable=True, icon_color=colour, expr=promql.replace("$where", WHERE))
        self._text = text

    def to_json(self) -> dict[str, object]:
        return super().to_json() | {"titleFormat": self.name, "textFormat": self._text, "step": "15s"}

    def build(self) -> models.AnnotationQuery:
        return self


def _asking(panel, asked: Sequence[Query], now: bool = False):
    for place, query in enumerate(asked):
        panel = panel.with_target(query.builder(chr(ord("A") + place), now))
    return panel


def _steps(first: str, steps: Steps) -> builders.ThresholdsConfig:
    made = [models.Threshold(None, first), *(models.Threshold(value, colour) for value, colour in steps)]
    return builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(made)


def _names(names: dict[str, tuple[str, str]]) -> models.ValueMap:
    return models.ValueMap({value: models.ValueMappingResult(text, colour) for value, (text, colour) in names.items()})


def _fixed(colour: str) -> models.DynamicConfigValue:
    return models.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})
