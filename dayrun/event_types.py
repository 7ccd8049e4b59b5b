"""Every type of event: who tells of it, what it means, what its data hold. docs/events.md has this table; webhooks are asked for by it."""

from typing import NamedTuple


class EventType(NamedTuple):
    teller: str
    """`service`, `trainer`, or `project`: what happens to a project as such, which the audit shows and webhooks do not send."""
    meaning: str
    data: str


EVENT_TYPES: dict[str, EventType] = {
    "run_created": EventType("service", "A run was stored and queued.", "name, project, labels; traceparent where there are traces"),
    "run_forked": EventType("service", "The run begins from another's checkpoint.", "parent, checkpoint, weights"),
    "run_changed": EventType("service", "Somebody changed a run's priority or labels.", "priority, labels: from, to"),
    "state_changed": EventType("service", "A run made a move.", "from, to, move; cause and evidence where there is one; next_attempt_at"),
    "attempt_adopted": EventType("service", "The run goes on with an attempt that a restored database did not know.", ""),
    "stop_sent": EventType("service", "The workers were asked to write a checkpoint and end.", "signal"),
    "stop_forced": EventType("service", "They had not ended in time, and were ended.", "waited_seconds"),
    "cap_near": EventType("service", "Four fifths of a quota or budget are used.", "cap, limit, used, unit, period, because"),
    "estimate_compared": EventType("service", "A run has ended well: its plan beside what it took.", "comparison"),
    "draw_requested": EventType("service", "Somebody asked for pictures from a checkpoint.", "id, checkpoint"),
    "draw_done": EventType("service", "They are there.", "id, checkpoint"),
    "draw_failed": EventType("service", "They could not be drawn.", "id, checkpoint, because"),
    "draw_stop_requested": EventType("service", "Somebody asked for the drawing to end.", "id, checkpoint"),
    "draw_cancelled": EventType("service", "The drawing was ended, or never begun.", "id, checkpoint"),
    "export_requested": EventType("service", "Somebody asked for a checkpoint's export.", "id, checkpoint"),
    "export_done": EventType("service", "It is there.", "id, checkpoint"),
    "export_failed": EventType("service", "It could not be written.", "id, checkpoint, because"),
    "export_stop_requested": EventType("service", "Somebody asked for the export to end.", "id, checkpoint"),
    "export_cancelled": EventType("service", "The export was ended, or never begun.", "id, checkpoint"),
    "artifacts_deleted": EventType("service", "Files of a run that is over were deleted, as the settings say.", "kind, files, bytes"),
    "attempt_started": EventType("trainer", "The trainer of an attempt reported for work.", "world_size, host, device, versions"),
    "resumed": EventType("trainer", "It goes on from a checkpoint.", "checkpoint"),
    "forked": EventType("trainer", "It begins with a checkpoint of another run.", "from, checkpoint, weights, digest"),
    "stage_started": EventType("trainer", "A stage of the recipe began.", "stage, pixels, batch_size, micro_batch_size"),
    "micro_batch_reduced": EventType("trainer", "Memory ran out; the same batch goes on in smaller micro-batches.", "stage, before, now"),
    "checkpoint_saved": EventType("trainer", "A checkpoint is complete.", "seconds, bytes, stalled_seconds"),
    "checkpoint_failed": EventType("trainer", "A checkpoint could not be written; the training goes on.", "because"),
    "checkpoint_rejected": EventType("trainer", "A checkpoint is damaged; an older one is taken.", "checkpoint, because"),
    "checkpoint_proved": EventType("trainer", "The newest checkpoint was read back: it can be resumed from.", "checkpoint, seconds, bytes"),
    "samples_drawn": EventType("trainer", "Pictures of a sample set are there.", "set, images, seconds"),
    "samples_failed": EventType("trainer", "Pictures could not be drawn; the training goes on.", "because"),
    "bad_samples": EventType("trainer", "Samples of the data could not be read and were left out.", "count, first"),
    "samples_postponed": EventType("trainer", "Pictures would cost more than their budget; they are drawn later.", "set, because"),
    "step_skipped": EventType("trainer", "Loss or gradients were no numbers; weights stay.", "loss, gradient_norm, in_a_row, where"),
    "loss_spike": EventType("trainer", "The loss jumped far above what it was lately.", "loss, usual, factor"),
    "rolled_back": EventType("trainer", "Training goes on from a checkpoint with other data.", "checkpoint, position, because, count"),
    "straggler": EventType("trainer", "A process is slower than the others.", "rank, node, host, seconds, median, factor"),
    "straggler_over": EventType("trainer", "It is as fast as the others again.", "rank, node, host"),
    "hang": EventType("trainer", "No step ended for too long; stacks are kept.", "ranks, silent, seconds, limit_seconds, doing"),
    "profiled": EventType("trainer", "A profile that was asked for is there.", "steps, file"),
    "evaluated": EventType("trainer", "The model was measured.", "images, seconds, metrics"),
    "evaluation_failed": EventType("trainer", "It could not be measured; the training goes on.", "because"),
    "stop_requested": EventType("trainer", "The trainer was told to stop by a signal.", "signal"),
    "ended": EventType("trainer", "The trainer ended, and says how.", "outcome, cause, evidence"),
    "project_created": EventType("project", "A project was made.", "name"),
    "project_changed": EventType("project", "A project's name, quotas or budgets were changed, or it was archived.", "changes: from, to"),
    "member_added": EventType("project", "Somebody got a role in a project.", "member, role"),
    "member_changed": EventType("project", "Their role was changed.", "member, role: from, to"),
    "member_removed": EventType("project", "It was taken away.", "member"),
    "key_created": EventType("project", "A key was made.", "key, name, role, days"),
    "key_revoked": EventType("project", "A key opens nothing any more.", "key, name"),
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
