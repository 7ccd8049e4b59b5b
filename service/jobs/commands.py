"""What a job's program is: the trainer's own, on the run's folder. The trainer knows nothing of jobs."""

from service.jobs.tables import JobRow, Kind


def arguments_of(job: JobRow, url: str) -> list[str]:
    """The arguments of the Python program that does `job` for the run in the folder `url`."""
    if job.kind == Kind.DRAW:
        return ["-m", "trainer.draw", url, "--request-key", f"draws/{job.id}/request.json"]
    return ["-m", "trainer.export", url, "--step", str(job.step), "--id", job.id]
