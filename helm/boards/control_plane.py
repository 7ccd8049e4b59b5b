"""The control plane: is it answered, is it worked off, are its stores there, does anything expire."""

from helm.boards.frame import Row, dashboard, grown, whole
from helm.boards.style import Panel, Query, bars, heat, lines, number

SECONDS = "dayrun_http_request_seconds"
ASKED = 'route!~"/healthz|/readyz|/metrics"'
"""Probes and scrapes are not what a client asks for."""
FAILED = f'status=~"5..",{ASKED}'


def rate(counter: str, *labels: str, matchers: str = "") -> str:
    """Of a process's counter, all processes together."""
    summed = f"rate({counter}{{$where{',' if matchers else ''}{matchers}}}[$__rate_interval])"
    return f"sum by ({', '.join(labels)}) ({summed})" if labels else f"sum({summed})"


FAILURES = rate("dayrun_http_requests_total", matchers=FAILED)


IN_VIEW = f"sum by (le, method, route) (increase({SECONDS}_bucket{{$where,{ASKED}}}[$__range]))"
CERTIFICATES = f"min by (file) ({whole('dayrun_certificate_expiry_timestamp_seconds', 'file')}) - time()"


def answered_within(share: float, *labels: str) -> str:
    return f"histogram_quantile({share}, {rate(f'{SECONDS}_bucket', 'le', *labels, matchers=ASKED)})"


def control_plane():
    return dashboard(
        "dayrun-control-plane",
        "dayrun: control plane",
        "The service itself: requests, the loop that looks after runs, what waits, the stores, what expires.",
        [],
        [
            Row("Does it do its work", at_a_glance()),
            Row("Requests", requests()),
            Row("Looking after runs", reconciling()),
            Row("What waits", waiting()),
            Row("Stores, processes and expiry", stores()),
            Row("Pods, as kube-state-metrics and the kubelet tell", pods()),
        ],
    )


def at_a_glance() -> list[Panel]:
    return [
        number(
            "Requests",
            "reqps",
            "Answered a second, by all API processes; probes and scrapes are left out, here and below.",
            Query(rate("dayrun_http_requests_total", matchers=ASKED)),
            first="text",
        ),
        number(
            "Failed",
            "percentunit",
            "Answers with 5xx. What is promised is 99.9 % in a month without.",
            Query(f"({FAILURES} or vector(0)) / {rate('dayrun_http_requests_total', matchers=ASKED)}"),
            steps=[(0.001, "orange"), (0.0144, "red")],
        ),
        number(
            "Slowest in a hundred",
            "s",
            "99 of 100 requests are answered within this time; a stream counts to its beginning.",
            Query(answered_within(0.99)),
            steps=[(0.5, "orange"), (2, "red")],
        ),
        number(
            "Lag of the reconciler",
            "s",
            "How old the oldest change may be that no finished sweep over the runs has seen.",
            Query(f"max({whole('dayrun_reconcile_lag_seconds')})"),
            steps=[(15, "orange"), (60, "red")],
        ),
        number(
            "Oldest hint",
            "s",
            "Age of the oldest message in Celery's queues. Hints may be lost; a second later a sweep finds the same.",
            Query(f"max({whole('dayrun_celery_queue_oldest_seconds', 'queue')})"),
            steps=[(30, "orange"), (120, "red")],
        ),
        number(
            "Stores",
            "none",
            "Whether every process reaches database, broker and objects.",
            Query("min(dayrun_part_up{$where})"),
            names={"0": ("one is away", "red"), "1": ("all there", "green")},
            graph=False,
        ),
    ]


def requests() -> list[Panel]:
    return [
        lines(
            "Requests by status",
            "reqps",
            "All API processes together.",
            Query(rate("dayrun_http_requests_total", "status", matchers=ASKED), "{{status}}"),
            stacked=True,
            least=0,
        ),
        lines(
            "Time to answer",
            "s",
            "Half, nine of ten and 99 of 100 requests are answered within these times. Dots are single requests with their ids.",
            Query(answered_within(0.5), "half"),
            Query(answered_within(0.9), "9 of 10"),
            Query(answered_within(0.99), "99 of 100", exemplars=True),
            least=0,
        ),
        heat(
            "Time to answer, all of them",
            "s",
            "How many requests took how long.",
            Query(rate(f"{SECONDS}_bucket", "le", matchers=ASKED)),
            span=8,
        ),
        bars(
            "Slowest routes",
            "s",
            "In the time in view, nine of ten requests of a route were answered within this time; the ten slowest.",
            Query(f"topk(10, histogram_quantile(0.9, {IN_VIEW}) > 0)", "{{method}} {{route}}"),
            span=12,
            steps=[(0.5, "orange"), (2, "red")],
        ),
        lines(
            "Failures by route",
            "reqps",
            "Answers with 5xx, by method and route; nothing is good news.",
            Query(rate("dayrun_http_requests_total", "method", "route", matchers=FAILED), "{{method}} {{route}}"),
            span=6,
            stacked=True,
            least=0,
        ),
        lines(
            "Open requests",
            "none",
            "Being answered now, and of them clients that listen to events.",
            Query("sum(dayrun_http_requests_in_progress{$where})", "open"),
            Query("sum(dayrun_event_stream_clients{$where})", "listening"),
            span=6,
            least=0,
        ),
    ]


def reconciling() -> list[Panel]:
    return [
        lines(
            "Lag",
            "s",
            "How old the oldest unseen change may be, and since when no worker has begun a sweep. Runs train on without workers, but "
            "none starts, "
            "stops or is mended.",
            Query(f"max({whole('dayrun_reconcile_lag_seconds')})", "lag"),
            Query(f"max({whole('dayrun_worker_silent_seconds')})", "silent"),
            least=0,
            steps=[(15, "orange"), (60, "red")],
        ),
        lines(
            "A sweep",
            "s",
            "Mean time of the sweeps that ended.",
            Query(
                f"sum({grown('dayrun_sweep_seconds_sum')}) / (sum({grown('dayrun_sweep_seconds_count')}) > 0)",
                "mean",
            ),
            least=0,
        ),
        lines(
            "Sweeps and stolen leases",
            "none",
            "Sweeps that ended, and leases that had lapsed and were taken over, in each interval of the curve: their holder died or "
            "stood still.",
            Query(f"sum({grown('dayrun_sweep_seconds_count')})", "sweeps"),
            Query(f"sum({grown('dayrun_lease_steals_total')})", "stolen leases"),
            least=0,
            colours={"sweeps": "blue", "stolen leases": "red"},
        ),
    ]


def waiting() -> list[Panel]:
    return [
        lines(
            "How much waits",
            "none",
            "Looks that are due and taken by nobody (outbox), hints in Celery's queues and in the API processes, messages to webhooks.",
            Query(f"sum({whole('dayrun_outbox_rows')})", "outbox"),
            Query(f"sum by (queue) ({whole('dayrun_celery_queue_messages', 'queue')})", "Celery: {{queue}}"),
            Query("sum(dayrun_hints_waiting{$where})", "hints in processes"),
            Query(f"sum({whole('dayrun_webhook_deliveries_due')})", "webhooks"),
            least=0,
        ),
        lines(
            "How long the oldest has waited",
            "s",
            "Of the same, and of draws and exports. Depth comes and goes; age is what must not grow.",
            Query(f"max({whole('dayrun_outbox_oldest_seconds')})", "outbox"),
            Query(f"max by (queue) ({whole('dayrun_celery_queue_oldest_seconds', 'queue')})", "Celery: {{queue}}"),
            Query(f"max({whole('dayrun_webhook_oldest_seconds')})", "webhooks"),
            Query(f"max by (kind) ({whole('dayrun_jobs_oldest_queued_seconds', 'kind')})", "{{kind}}"),
            least=0,
            steps=[(120, "orange"), (600, "red")],
        ),
        lines(
            "Draws and exports",
            "none",
            "Pictures on request and exports that are queued or at work.",
            Query(f"sum by (kind, state) ({whole('dayrun_jobs', 'kind', 'state')})", "{{kind}}, {{state}}"),
            stacked=True,
            least=0,
            stairs=True,
        ),
    ]


def stores() -> list[Panel]:
    return [
        lines(
            "Who reaches what",
            "none",
            "Processes that reach database, broker and store of objects.",
            Query("sum by (part) (dayrun_part_up{$where})", "{{part}}"),
            span=6,
            least=0,
            stairs=True,
        ),
        lines(
            "Connections to the database",
            "none",
            "Of all API processes, and dashed how many they may have. Requests wait once all are used.",
            Query("sum by (state) (dayrun_database_connections{$where})", "{{state}}"),
            Query("sum(dayrun_database_connections_max{$where})", "may have"),
            span=6,
            stacked=True,
            least=0,
            dashed="^may have$",
            colours={"used": "orange", "idle": "green"},
        ),
        lines(
            "API processes by version",
            "none",
            "Those that are scraped.",
            Query("count by (version) (dayrun_build_info{$where})", "{{version}}"),
            span=6,
            stacked=True,
            least=0,
            stairs=True,
        ),
        bars(
            "Expires in",
            "s",
            "The next API key of each project, of those in use, and the certificates that the settings name.",
            Query(f"min by (project) ({whole('dayrun_key_expiry_timestamp_seconds', 'project')}) - time()", "key: {{project}}"),
            Query(f'label_replace({CERTIFICATES}, "file", "$1", "file", ".*/(.+)")', "{{file}}"),
            span=6,
            steps=[(3 * 86400, "orange"), (14 * 86400, "green")],
            first="red",
        ),
    ]


def pods() -> list[Panel]:
    ours = 'namespace=~"$namespace",pod=~".*dayrun.*|run-.*"'
    return [
        lines(
            "Restarts",
            "none",
            "Containers of the release and of runs that were started again, in each interval of the curve.",
            Query(f"sum by (pod) (increase(kube_pod_container_status_restarts_total{{{ours}}}[$__rate_interval])) > 0", "{{pod}}"),
            least=0,
        ),
        lines(
            "Pods by phase",
            "none",
            "Pending ones wait for nodes, quotas or images.",
            Query(f"sum by (phase) (kube_pod_status_phase{{{ours}}})", "{{phase}}"),
            stacked=True,
            least=0,
            stairs=True,
        ),
        lines(
            "Memory",
            "bytes",
            "Working set by pod of the release.",
            Query('sum by (pod) (container_memory_working_set_bytes{namespace=~"$namespace",pod=~".*dayrun.*",container!=""})', "{{pod}}"),
            least=0,
        ),
    ]
