"""What stands in the files of a run folder, as types: events, metrics, indexes of pictures, where a fork came from, why something failed.

Where those files lie is `run_folder.py`'s business; import the types from there.
"""

from typing import Any, Literal, TypedDict

Cause = Literal[
    "oom",
    "nccl_timeout",
    "gpu_fault",
    "data",
    "image_pull",
    "node_lost",
    "preempted",
    "diverged",
    "budget",
    "deadline",
    "storage",
    "spec",
    "unknown",
]

EventType = Literal[
    "attempt_started",  # world_size, host, device, device_name, versions
    "resumed",  # checkpoint (step)
    "stage_started",  # stage, pixels, batch_size, micro_batch_size
    "micro_batch_reduced",  # stage, before, now
    "checkpoint_saved",  # seconds, bytes, stalled_seconds
    "checkpoint_failed",  # because
    "checkpoint_rejected",  # checkpoint (step), because
    "checkpoint_proved",  # checkpoint (step), seconds, bytes
    "forked",  # from (url), checkpoint (step), weights, digest
    "samples_drawn",  # set, images, seconds
    "samples_failed",  # because
    "bad_samples",  # count, first: [{file, sample, because}]
    "samples_postponed",  # set, because
    "step_skipped",  # loss, gradient_norm (text: they are no numbers), in_a_row, where: [{rank, positions, samples}]
    "loss_spike",  # loss, usual, factor
    "rolled_back",  # checkpoint (step), position, because, count
    "straggler",  # rank, node, host, seconds, median, factor
    "straggler_over",  # rank, node, host
    "hang",  # ranks, silent, seconds, limit_seconds, doing: {rank: part}
    "profiled",  # steps, file
    "evaluated",  # images, seconds, metrics
    "evaluation_failed",  # because
    "stop_requested",  # signal
    "ended",  # outcome, cause, evidence
]


class Event(TypedDict):
    time: float
    attempt: int
    step: int
    type: EventType
    data: dict[str, Any]


class Metric(TypedDict):
    step: int
    name: str
    value: float
    time: float


class BadSampleLine(TypedDict):
    stage: int
    position: int
    """In the run's order."""
    number: int
    """Of the sample, in the data that the recipe names."""
    instead: int
    """The sample that stood in."""
    file: str
    offset: int
    sample: int
    """In its file."""
    because: str


class SampleImage(TypedDict):
    file: str
    set: str
    prompt: str
    seed: int
    guidance: float
    steps: int
    ema: bool
    width: int
    height: int


class SampleIndex(TypedDict):
    step: int
    attempt: int
    time: float
    complete: bool
    checkpoint: str | None
    """SHA-256 of the checkpoint's complete.json, when this step has one."""
    images: list[SampleImage]


Weights = Literal["ema", "model", "all"]
"""What a fork takes over: the averaged weights or the trained ones, each into a fresh run from step 0; or all, to go on where it was."""

Fork = TypedDict("Fork", {"from": str, "step": int, "weights": Weights})
"""Where a run's first state comes from: the URL of a run folder and a checkpoint in it; or of a folder of diffusers, step 0, 'model'."""


class Failure(TypedDict):
    """Why a draw or an export came to nothing."""

    cause: Cause
    because: str
    evidence: list[str]


class ExportManifest(TypedDict):
    """The last file of an export: without it there is none."""

    step: int
    checkpoint: str
    """SHA-256 of the checkpoint's complete.json."""
    ema: bool
    time: float
    files: dict[str, dict[str, Any]]
    """Name → bytes, sha256."""
