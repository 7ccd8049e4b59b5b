"""What the trainer calls the figures that /metrics passes on: names of its metrics and events, as docs/run-folder.md lists them."""

PARTS = ("data_wait", "forward", "backward", "communication", "optimizer")
"""Of a step: `<part>_seconds`."""
BESIDE = ("checkpoint", "preview", "evaluation")
"""What takes time beside the steps: `<part>_seconds`, since the last line."""
LOSS_PARTS = ("flow", "lpips", "dino", "representation")
"""`loss_<part>`."""
NOISE = ("0_30", "30_60", "60_100")
"""`loss_time_<part>`."""
RANK_SECONDS = "own_seconds_rank_"
"""...and the rank."""
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
AS_THEY_ARE = {
    "loss": "dayrun_run_loss",
    "gradient_norm": "dayrun_run_gradient_norm",
    "learning_rate": "dayrun_run_learning_rate",
    "images_per_second": "dayrun_run_images_per_second",
    "steps_per_second": "dayrun_run_steps_per_second",
    "step_seconds": "dayrun_run_step_seconds",
    "peak_share": "dayrun_run_peak_ratio",
    "memory_bytes": "dayrun_run_memory_peak_bytes",
    "samples_read": "dayrun_run_samples_read_total",
    "bad_samples": "dayrun_run_bad_samples_total",
    "cache_wait_seconds": "dayrun_run_cache_wait_seconds_total",
    "cache_fetched_bytes": "dayrun_run_cache_fetched_bytes_total",
    "cache_fetched_shards": "dayrun_run_cache_fetched_shards_total",
    "store_retries": "dayrun_run_store_retries_total",
}
"""The trainer's name → ours, where nothing but the name changes."""
CACHE_READS = {"cache_hits": "hit", "cache_waits": "wait"}
"""The trainer's name → the label `result`."""
LOADED = ("samples_read", "bad_samples", *CACHE_READS, "cache_wait_seconds", "cache_fetched_bytes", "cache_fetched_shards", "store_retries")
"""What the loaders did; the trainer leaves out what is 0."""
KEPT = frozenset(
    {
        *AS_THEY_ARE,
        *CACHE_READS,
        *(f"{part}_seconds" for part in PARTS),
        *(f"loss_{part}" for part in LOSS_PARTS),
        *(f"loss_time_{part}" for part in NOISE),
    }
)
"""All whose newest value is kept."""
