"""Every type of event: who tells of it, what it means, what its data hold. docs/events.md has this table; webhooks are asked for by it."""

from typing import NamedTuple


class EventType(NamedTuple):
    teller: str
    """`service`, `trainer`, or `project`: what happens to a project as such, which the audit shows and webhooks do not send."""
    meaning: str
    data: str


EVENT_TYPES: dict[str, EventType] = {
    "run_created": EventType("service", "A run was stored and queued.", "name, project, labels"),
    "run_forked": EventType("service", "It begins with what another run had learned.", "parent, checkpoint, weights"),
    "run_changed": EventType("service", "Its labels or its priority were changed.", "labels, priority: from, to"),
    "state_changed": EventType("service", "A run made a move.", "from, to, move; cause and evidence where there is one; next_attempt_at"),
    "stop_sent": EventType("service", "The workers were asked to write a checkpoint and end.", "signal"),
    "stop_forced": EventType("service", "They had not ended in time, and were ended.", "waited_seconds"),
    "cap_near": EventType("service", "A limit or a budget is nearly used up.", "cap, limit, used, unit, period, because"),
    "estimate_compared": EventType("service", "A run ended well: what its plan said, and what came.", "comparison"),
    "artifacts_deleted": EventType("service", "Files of a run that is over were deleted, as the settings say.", "kind, files, bytes"),
    "attempt_started": EventType("trainer", "The trainer of an attempt reported for work.", "world_size, host"),
    "resumed": EventType("trainer", "It goes on from a checkpoint.", "checkpoint"),
    "forked": EventType("trainer", "It begins with a checkpoint of another run.", "from, checkpoint, weights, digest"),
    "stage_started": EventType("trainer", "A stage of the recipe began.", "stage, pixels, batch_size"),
    "checkpoint_saved": EventType("trainer", "A checkpoint is complete.", "seconds, bytes"),
    "checkpoint_failed": EventType("trainer", "A checkpoint could not be written; the training goes on.", "because"),
    "checkpoint_rejected": EventType("trainer", "A checkpoint is damaged; an older one is taken.", "checkpoint, because"),
    "samples_drawn": EventType("trainer", "Pictures of a sample set are there.", "set, images, seconds"),
    "samples_failed": EventType("trainer", "Pictures could not be drawn; the training goes on.", "because"),
    "bad_samples": EventType("trainer", "Samples of the data could not be read and were left out.", "count, first"),
    "stop_requested": EventType("trainer", "The trainer was told to stop by a signal.", "signal"),
    "ended": EventType("trainer", "The trainer ended, and says how.", "outcome, cause, evidence"),
    "webhook_created": EventType("project", "A webhook was made.", "webhook, host, events"),
    "webhook_deleted": EventType("project", "A webhook was deleted.", "webhook, host"),
    "webhook_disabled": EventType("project", "A webhook is sent nothing any more.", "webhook, host, because"),
    "webhook_enabled": EventType("project", "A disabled webhook is sent events again.", "webhook, host"),
    "webhook_tested": EventType("project", "A test message was asked for.", "webhook, host"),
    "webhook_replayed": EventType("project", "A message was asked for again.", "webhook, host, delivery"),
}
OF_RUNS = tuple(name for name, about in EVENT_TYPES.items() if about.teller != "project")


def table() -> str:
    """The table of docs/events.md."""
    rows = [f"| `{name}` | {about.teller} | {about.meaning} | {about.data} |" for name, about in EVENT_TYPES.items()]
    return "\n".join(["| type | told by | meaning | data |", "| --- | --- | --- | --- |", *rows])
