"""What a job's program is: the trainer's own, on the run's folder. The trainer knows nothing of jobs."""

import sys

from service.jobs.tables import JobRow, Kind


def command_of(job: JobRow, url: str) -> list[str]:
    """The command that does `job` for the run in the folder `url`."""
    if job.kind == Kind.DRAW:
        return [sys.executable, "-m", "trainer.draw", url, "--request-key", f"draws/{job.id}/request.json"]
    return [sys.executable, "-m", "trainer.export", url, "--step", str(job.step), "--id", job.id]
