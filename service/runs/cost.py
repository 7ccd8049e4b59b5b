"""What a run has cost so far, by its own row: whole attempts that are over, and the one that holds machines now."""

from datetime import datetime

from service.runs.tables import RunRow


def used_accelerator_seconds(run: RunRow, at: datetime) -> float:
    """Seconds × accelerators that the run has held so far, the attempt under way included."""
    running = (at - run.holding_since).total_seconds() * run.world_size if run.holding_since else 0.0
    return run.accelerator_seconds + max(0.0, running)


def used_dollars(run: RunRow, at: datetime) -> float:
    return used_accelerator_seconds(run, at) / 3600 * run.dollars_per_accelerator_hour
