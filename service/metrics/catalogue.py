"""Every figure that /metrics tells: its name, kind, unit, labels and meaning. docs/metrics.md is written from it; nothing else is told.

Three kinds of source, which say how copies of several API processes are to be put together:

`process`: what one API process knows of itself. Add them up (`sum`); a counter begins anew with the process.
`service`: derived from the database or the broker, and the same whoever serves it. Take one (`max`); its counters survive restarts.
`run`: as `service`, for each run that holds machines now; with `run` as the only label that names it. The series end with the attempt.
"""

from enum import StrEnum
from typing import NamedTuple

from service.metrics.names import BESIDE, LOSS_PARTS, PARTS, TROUBLES


class Source(StrEnum):
    PROCESS = "process"
    SERVICE = "service"
    RUN = "run"


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    SUMMARY = "summary"


class Figure(NamedTuple):
    """One family of series."""

    name: str
    """As queries have it: counters end in `_total`; histograms and summaries are without their `_bucket`, `_sum`, `_count`."""
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper bounds of a histogram, ascending, without +Inf."""

    @property
    def unit(self) -> str:
        """The base unit; empty for what is only counted."""
        stem = self.name.removesuffix("_total")
        return next((unit for unit in UNITS if stem.endswith(f"_{unit}") or f"_{unit}_" in stem), "")


UNITS = ("timestamp_seconds", "dollars_per_hour", "images_per_second", "steps_per_second", "seconds", "bytes", "dollars", "ratio")
MOST_RUNS = 200
"""Runs with series of their own; of more, those that hold most accelerators. The others are counted by `dayrun_live_runs_dropped`."""
MOST_RANKS = 256
"""Ranks of one run with a series of their own."""
MOST_PROJECTS = 200
"""Projects with series of their own; the others are added up as OTHERS."""
MOST_SCORES = 16
"""Evaluation scores of one run with a series of their own."""
OTHERS = "(others)"
MINUTE, HOUR = 60.0, 3600.0
ANSWER_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
WAIT_SECONDS = (1.0, 5.0, 15.0, MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 4 * HOUR, 12 * HOUR, 24 * HOUR, 72 * HOUR)
START_SECONDS = (5.0, 10.0, 20.0, 30.0, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 20 * MINUTE, HOUR)
RATIOS = (0.25, 0.5, 0.67, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0)

C, G, H, S = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM, Kind.SUMMARY

LABELS: dict[str, str] = {
    "method": "HTTP's",
    "route": "the route's pattern, never a path with ids; `none` where no route fits",
    "status": "HTTP's",
    "state": "of what is counted, as the interface names it",
    "part": f"of the service: `database`, `broker`, `objects`; of a step: {', '.join(f'`{one}`' for one in PARTS)}; beside the steps: "
    + f"{', '.join(f'`{one}`' for one in BESIDE)}; of the loss: {', '.join(f'`{one}`' for one in LOSS_PARTS)}",
    "queue": "Celery's",
    "kind": "`draw` or `export`",
    "project": f"at most {MOST_PROJECTS}; what is of more is added up as `{OTHERS}`, budgets are left out",
    "period": "`day` or `month`, in UTC",
    "cause": "of an attempt's end, as the interface names it; `none` where it ended as it should",
    "accelerator": "as the recipe has it",
    "file": "the path in `DAYRUN_CERTIFICATES`",
    "version": "of dayrun",
    "run": f"a run that holds machines now; at most {MOST_RUNS}",
    "name": "the run's",
    "rank": f"of a process of the run; at most {MOST_RANKS}",
    "noise": "part of the noise levels t: `0_30`, `30_60`, `60_100` (hundredths)",
    "score": f"an evaluation's metric such as `fid_10k`; at most {MOST_SCORES}",
    "type": f"an event of trouble: {', '.join(f'`{one}`' for one in TROUBLES)}",
    "result": "`hit`: the shard lay there; `wait`: it was waited for",
}

PROCESS = (
    Figure("dayrun_build_info", G, "1, with the version of the process that answers.", ("version",)),
    Figure("dayrun_http_requests_total", C, "Requests answered.", ("method", "route", "status")),
    Figure(
        "dayrun_http_request_seconds",
        H,
        "Time to the end of the answer, of an event stream to its beginning. Exemplars: `request_id`, `trace_id` where there is one.",
        ("method", "route"),
        ANSWER_SECONDS,
    ),
    Figure("dayrun_http_requests_in_progress", G, "Requests that are being answered, open event streams among them."),
    Figure("dayrun_event_stream_clients", G, "Clients that listen to events (SSE)."),
    Figure("dayrun_database_connections", G, "Connections of the process to the database: `used`, `idle`.", ("state",)),
    Figure("dayrun_database_connections_max", G, "Connections that it may have."),
    Figure("dayrun_hints_waiting", G, "Hints that wait in the process for the broker; the oldest of a thousand are dropped."),
    Figure("dayrun_part_up", G, "1 while the process reaches a part of the service, 0 while it does not.", ("part",)),
)

CONTROL = (
    Figure("dayrun_worker_silent_seconds", G, "Since a worker last began, or went on with, a sweep; NaN before the first."),
    Figure("dayrun_reconcile_lag_seconds", G, "How old the oldest change may be that no finished sweep has seen; NaN before the first."),
    Figure("dayrun_sweep_seconds", S, "Sweeps of all workers that were finished, and how long they took."),
    Figure("dayrun_lease_steals_total", C, "Leases on runs that had lapsed and were taken over: their holder died or stalled."),
    Figure("dayrun_outbox_rows", G, "Looks that are due: written with a change, and taken by no worker yet."),
    Figure("dayrun_outbox_oldest_seconds", G, "How long the oldest of these has been due; 0 without any."),
    Figure("dayrun_celery_queue_messages", G, "Hints in the broker's queue; absent while the broker is away.", ("queue",)),
    Figure("dayrun_celery_queue_oldest_seconds", G, "Age of the oldest of these; 0 without any.", ("queue",)),
    Figure("dayrun_webhook_deliveries_due", G, "Messages to webhooks that are to be sent, or tried again."),
    Figure("dayrun_webhook_oldest_seconds", G, "How long the oldest of these has been waiting; 0 without any."),
    Figure("dayrun_jobs", G, "Draws and exports that are `queued` or `working`.", ("kind", "state")),
    Figure("dayrun_jobs_oldest_queued_seconds", G, "How long the oldest queued one has waited; 0 without any.", ("kind",)),
    Figure(
        "dayrun_key_expiry_timestamp_seconds",
        G,
        "When the next API key expires, of those that were used within 30 days; absent where none will.",
        ("project",),
    ),
    Figure("dayrun_certificate_expiry_timestamp_seconds", G, "When a certificate expires that `DAYRUN_CERTIFICATES` names.", ("file",)),
)

RUNS = (
    Figure("dayrun_runs", G, "Runs in each state.", ("state",)),
    Figure("dayrun_queue_oldest_seconds", G, "How long the run that waits longest has been queued; 0 without any."),
    Figure("dayrun_queue_wait_seconds", H, "From joining the queue to the launch, of each attempt.", (), WAIT_SECONDS),
    Figure("dayrun_first_step_seconds", H, "From the launch to the first step, of each attempt that came so far.", (), START_SECONDS),
    Figure("dayrun_attempts_total", C, "Attempts that are over, by what ended them.", ("project", "cause")),
    Figure("dayrun_attempt_dollars_total", C, "What attempts that are over have cost.", ("project",)),
    Figure("dayrun_attempt_accelerator_seconds_total", C, "Accelerators × time that they held.", ("project",)),
    Figure("dayrun_accelerators_held", G, "Accelerators that runs hold now.", ("project",)),
    Figure("dayrun_accelerators_max", G, "Accelerators that there are; absent where no limit is set."),
    Figure("dayrun_dollars_per_hour", G, "What the held accelerators cost.", ("project",)),
    Figure("dayrun_spent_dollars", G, "Spent in the day or month so far, attempts under way included.", ("project", "period")),
    Figure("dayrun_budget_dollars", G, "The project's budget of a day or month; absent where it has none.", ("project", "period")),
    Figure("dayrun_budget_left_dollars", G, "What is left of it, never below 0.", ("project", "period")),
    Figure(
        "dayrun_estimate_step_ratio",
        H,
        "Seconds of a step as measured over those as planned, of each stage of a run that succeeded. 1: as planned; 2: twice as slow.",
        ("accelerator",),
        RATIOS,
    ),
    Figure("dayrun_live_runs", G, "Runs that hold machines."),
    Figure("dayrun_live_runs_dropped", G, f"Of these, how many have no series of their own, beyond {MOST_RUNS}."),
)

LIVE = (
    Figure(
        "dayrun_run_info",
        G,
        "1: the run's name, project and accelerator, to be joined on `run`.",
        ("run", "name", "project", "accelerator"),
    ),
    Figure("dayrun_run_state", G, "1, with its state.", ("run", "state")),
    Figure("dayrun_run_attempt", G, "Number of the attempt.", ("run",)),
    Figure("dayrun_run_accelerators", G, "Accelerators that it holds.", ("run",)),
    Figure("dayrun_run_step", G, "Optimizer steps done.", ("run",)),
    Figure("dayrun_run_steps_planned", G, "Steps of all stages together.", ("run",)),
    Figure("dayrun_run_silent_seconds", G, "Since the trainer last told of a step; since the launch, before it told of any.", ("run",)),
    Figure("dayrun_run_eta_seconds", G, "Until its last step, at the pace of the last steps.", ("run",)),
    Figure("dayrun_run_dollars", G, "What it has cost so far, all attempts.", ("run",)),
    Figure("dayrun_run_dollars_per_hour", G, "What its accelerators cost.", ("run",)),
    Figure("dayrun_run_budget_dollars", G, "The recipe's /limits/dollars; absent without.", ("run",)),
    Figure("dayrun_run_planned_dollars", G, "What it was predicted to cost when it was accepted.", ("run",)),
    Figure(
        "dayrun_run_estimate_ratio",
        G,
        "Hours that it will come to at its present pace, over those planned. 1: as planned; 2: twice as long.",
        ("run",),
    ),
    Figure("dayrun_run_loss", G, "Loss of the newest step.", ("run",)),
    Figure("dayrun_run_loss_part", G, "Parts of the loss, before their weights.", ("run", "part")),
    Figure("dayrun_run_loss_by_noise", G, "Squared error of velocities by noise level.", ("run", "noise")),
    Figure("dayrun_run_gradient_norm", G, "Norm of the gradient before clipping.", ("run",)),
    Figure("dayrun_run_learning_rate", G, "Of the newest step.", ("run",)),
    Figure("dayrun_run_images_per_second", G, "Training speed, of all accelerators together.", ("run",)),
    Figure("dayrun_run_steps_per_second", G, "Training speed.", ("run",)),
    Figure("dayrun_run_step_seconds", G, "Of a step.", ("run",)),
    Figure("dayrun_run_step_part_seconds", G, "Of a step, by part: the mean over ranks.", ("run", "part")),
    Figure("dayrun_run_beside_seconds_total", C, "Time that went into other things than steps.", ("run", "part")),
    Figure("dayrun_run_peak_ratio", G, "FLOP of a step over what a matrix product reached at the attempt's start.", ("run",)),
    Figure("dayrun_run_memory_peak_bytes", G, "Most that a rank has held.", ("run",)),
    Figure("dayrun_run_rank_step_seconds", G, "A rank's own share of a step, without its waits for others.", ("run", "rank")),
    Figure("dayrun_run_straggling_ranks", G, "Ranks that are named as slower than the others now.", ("run",)),
    Figure(
        "dayrun_run_troubles_total", C, "Events of trouble that the trainer told of; `step_skipped` are skipped steps.", ("run", "type")
    ),
    Figure("dayrun_run_checkpoint_step", G, "Step of the newest complete checkpoint.", ("run",)),
    Figure("dayrun_run_checkpoint_age_seconds", G, "Age of it; since the launch, where the attempt has none yet.", ("run",)),
    Figure("dayrun_run_checkpoint_due_seconds", G, "Time between checkpoints at the present pace: the recipe's steps × a step.", ("run",)),
    Figure("dayrun_run_checkpoint_seconds", G, "How long it took to write, beside the training for the most part.", ("run",)),
    Figure("dayrun_run_checkpoint_stalled_seconds", G, "How long the training stood still for it.", ("run",)),
    Figure("dayrun_run_checkpoint_bytes", G, "Size of it.", ("run",)),
    Figure("dayrun_run_score", G, "Newest evaluation.", ("run", "score")),
    Figure("dayrun_run_samples_read_total", C, "Samples that the loaders of all ranks have decoded in this attempt.", ("run",)),
    Figure("dayrun_run_bad_samples_total", C, "Of these, how many could not be read.", ("run",)),
    Figure("dayrun_run_cache_reads_total", C, "Times that a shard in the cache was opened in this attempt, all ranks.", ("run", "result")),
    Figure(
        "dayrun_run_cache_wait_seconds_total", C, "What the loaders' threads waited for shards, added up over threads and ranks.", ("run",)
    ),
    Figure("dayrun_run_cache_fetched_bytes_total", C, "Bytes of shards that this attempt brought into caches.", ("run",)),
    Figure("dayrun_run_cache_fetched_shards_total", C, "Shards that it brought.", ("run",)),
    Figure("dayrun_run_store_retries_total", C, "Requests to the store of the data that were slow and asked again.", ("run",)),
)

GROUPS: dict[str, tuple[Source, tuple[Figure, ...]]] = {
    "An API process": (Source.PROCESS, PROCESS),
    "The control plane": (Source.SERVICE, CONTROL),
    "Runs and money": (Source.SERVICE, RUNS),
    "Each run that holds machines": (Source.RUN, LIVE),
}
CATALOGUE: dict[str, Figure] = {figure.name: figure for _, figures in GROUPS.values() for figure in figures}
