"""What a look found, as Prometheus' families of series. Pure: figures in, series out; names, kinds and labels are the catalogue's."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric, SummaryMetricFamily

from service.metrics.catalogue import CATALOGUE, OTHERS, Kind
from service.metrics.rows import RATIOS, STARTS, WAITS, Rows, Spread
from service.metrics.tallies import LEASE_STEALS, SWEEP_SECONDS, SWEEPS
from service.runs.states import HOLDS_MACHINES, State
from service.runs.tables import SWEPT, WORKER

ROUNDED = 6
"""Digits of sums that a database adds up in any order: the last bits differ from time to time, and a counter that falls by one of
them counts as one that began anew.
"""


def family(name: str, series: Mapping[tuple[str, ...], float]) -> Metric:
    """The gauge or counter `name`: values of its labels, in the catalogue's order, → value."""
    figure = CATALOGUE[name]
    kinds = {Kind.GAUGE: GaugeMetricFamily, Kind.COUNTER: CounterMetricFamily}
    made = kinds[figure.kind](figure.name, figure.help, labels=figure.labels)
    for labels, value in series.items():
        made.add_metric(labels, value)
    return made


def single(name: str, value: float) -> Metric:
    return family(name, {(): value})


def histogram(name: str, bounds: Sequence[float], series: Mapping[tuple[str, ...], Spread]) -> Metric:
    figure = CATALOGUE[name]
    made = HistogramMetricFamily(figure.name, figure.help, labels=figure.labels)
    for labels, one in series.items():
        buckets = [(f"{bound:g}" if bound % 1 else f"{bound:.1f}", count) for bound, count in zip(bounds, one.at_most, strict=True)]
        made.add_metric(labels, [*buckets, ("+Inf", one.number)], round(one.sum, ROUNDED))
    return made


def added(each: Iterable[tuple[tuple[str, ...], float]]) -> dict[tuple[str, ...], float]:
    """Sums by labels."""
    found = defaultdict[tuple[str, ...], float](float)
    for labels, value in each:
        found[labels] += value
    return {labels: round(value, ROUNDED) for labels, value in found.items()}


def empty(bounds: Sequence[float]) -> Spread:
    return Spread((0,) * len(bounds), 0, 0.0)


def age(at: datetime, since: datetime | None) -> float:
    """Seconds; 0 where there is nothing."""
    return max(0.0, (at - since).total_seconds()) if since else 0.0


def of_rows(found: Rows, accelerators: int | None) -> Iterator[Metric]:
    """Everything but the live runs' own. accelerators: that there are; None: no limit."""
    yield from of_the_control_plane(found)
    yield from of_runs(found)
    yield from of_money(found)
    if accelerators is not None:
        yield single("dayrun_accelerators_max", accelerators)


def of_the_control_plane(found: Rows) -> Iterator[Metric]:
    ages = {part: age(found.at, found.beats[part]) if part in found.beats else math.nan for part in (WORKER, SWEPT)}
    yield single("dayrun_worker_silent_seconds", ages[WORKER])
    yield single("dayrun_reconcile_lag_seconds", ages[SWEPT])
    figure = CATALOGUE["dayrun_sweep_seconds"]
    sweeps, seconds = found.tallies.get(SWEEPS, 0.0), found.tallies.get(SWEEP_SECONDS, 0.0)
    yield SummaryMetricFamily(figure.name, figure.help, count_value=int(sweeps), sum_value=seconds)
    yield single("dayrun_lease_steals_total", found.tallies.get(LEASE_STEALS, 0.0))
    yield single("dayrun_outbox_rows", found.outbox.number)
    yield single("dayrun_outbox_oldest_seconds", age(found.at, found.outbox.since))
    yield single("dayrun_webhook_deliveries_due", found.deliveries.number)
    yield single("dayrun_webhook_oldest_seconds", age(found.at, found.deliveries.since))
    places = [(kind, state) for kind in ("draw", "export") for state in ("queued", "working")]
    known = {place: found.jobs.get(place) for place in places}
    yield family("dayrun_jobs", {place: one.number if one else 0 for place, one in known.items()})
    oldest = {(kind,): age(found.at, one.since if one else None) for (kind, state), one in known.items() if state == "queued"}
    yield family("dayrun_jobs_oldest_queued_seconds", oldest)
    named = {project: when.timestamp() for project, when in found.keys.items() if project in found.projects or project == "*"}
    others = [when.timestamp() for project, when in found.keys.items() if project not in named]
    expiries = named | ({OTHERS: min(others)} if others else {})
    yield family("dayrun_key_expiry_timestamp_seconds", {(project,): when for project, when in expiries.items()})


def of_runs(found: Rows) -> Iterator[Metric]:
    yield family("dayrun_runs", {(state.value,): found.states.get(state, 0) for state in State})
    yield single("dayrun_queue_oldest_seconds", age(found.at, found.queued_since))
    live = sum(found.states.get(state, 0) for state in HOLDS_MACHINES)
    yield single("dayrun_live_runs", live)
    yield single("dayrun_live_runs_dropped", max(0, live - len(found.live)))
    waited = sum((one.waited for one in found.attempts), empty(WAITS))
    started = sum((one.started for one in found.attempts), empty(STARTS))
    yield histogram("dayrun_queue_wait_seconds", WAITS, {(): waited})
    yield histogram("dayrun_first_step_seconds", STARTS, {(): started})
    yield histogram("dayrun_estimate_step_ratio", RATIOS, {(accelerator,): one for accelerator, one in found.ratios.items()})


def of_money(found: Rows) -> Iterator[Metric]:
    over = [one for one in found.attempts if one.cause is not None]
    project = {
        one: one if one in found.projects else OTHERS for one in {*(row.project_id for row in over), *(row[0] for row in found.held)}
    }
    yield family("dayrun_attempts_total", added(((project[one.project_id], one.cause or ""), one.number) for one in over))
    yield family("dayrun_attempt_dollars_total", added(((project[one.project_id],), one.dollars) for one in over))
    seconds = added(((project[one.project_id],), one.accelerator_seconds) for one in over)
    yield family("dayrun_attempt_accelerator_seconds_total", seconds)
    yield family("dayrun_accelerators_held", added(((project[name],), held) for name, held, _ in found.held))
    yield family("dayrun_dollars_per_hour", added(((project[name],), burn) for name, _, burn in found.held))
    spent, budgets, left = dict[tuple[str, ...], float](), dict[tuple[str, ...], float](), dict[tuple[str, ...], float]()
    for name, used in found.spent.items():
        caps = found.caps.get(name)
        for period, dollars, budget in (
            ("day", used.today, caps and caps.dollars_per_day),
            ("month", used.this_month, caps and caps.dollars_per_month),
        ):
            spent[name, period] = dollars
            if budget is not None:
                budgets[name, period], left[name, period] = budget, max(0.0, budget - dollars)
    yield family("dayrun_spent_dollars", spent)
    yield family("dayrun_budget_dollars", budgets)
    yield family("dayrun_budget_left_dollars", left)
