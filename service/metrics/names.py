"""What the trainer calls the figures that /metrics passes on: names of its metrics and events, as docs/run-folder.md lists them."""

PARTS = ("data_wait", "forward", "backward", "communication", "optimizer")
"""Of a step: `<part>_seconds`."""
BESIDE = ("checkpoint", "preview", "evaluation")
"""What takes time beside the steps: `<part>_seconds`, since the last line."""
LOSS_PARTS = ("flow", "lpips", "dino", "representation")
"""`loss_<part>`."""
NOISE = ("0_30", "30_60", "60_100")
"""`loss_time_<part>`."""
TROUBLES = (
    "step_skipped",
    "loss_spike",
    "rolled_back",
    "straggler",
    "hang",
    "micro_batch_reduced",
    "bad_samples",
    "checkpoint_failed",
    "checkpoint_rejected",
    "samples_failed",
    "samples_postponed",
    "evaluation_failed",
)
"""Events that are worth a look."""
