"""Every knob of the service, with its default and its environment name (`DAYRUN_` and the field's name in capitals)."""

import os
from functools import cached_property
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """The embedded defaults: SQLite, a folder, Celery's filesystem broker, torchrun on this machine."""

    model_config = SettingsConfigDict(env_prefix="DAYRUN_", frozen=True)

    home: Path = Field(default=Path.home() / ".dayrun", description="Folder of everything: database, queue, runs, logs.")
    data: Path | None = Field(default=None, description="Where relative data URLs of recipes start; default: HOME/data.")
    host: str = Field(default="127.0.0.1", description="Address that the API listens on.")
    port: int = Field(default=8765, ge=0, le=65535, description="Port of the API; 0 takes a free one.")
    runs_at_once: int = Field(default=1, ge=1, description="Runs that may hold this machine together, where `accelerators` is not set.")
    accelerators: int | None = Field(default=None, ge=1, description="Accelerators that all runs together may hold; default: no limit.")
    database: str | None = Field(default=None, description="postgresql://USER:PASSWORD@HOST/NAME; default: SQLite in HOME.")
    broker: str | None = Field(default=None, description="Celery's broker, redis://HOST:PORT/0 (Valkey too); default: a folder in HOME.")
    runs: str | None = Field(default=None, description="Where run folders go: a folder or s3://BUCKET/PREFIX; default: HOME/runs.")
    jobs_at_once: int = Field(default=1, ge=1, description="Draws and exports that a machine works on together, beside training.")
    jobs_waiting: int = Field(default=32, ge=0, description="Draws and exports that may wait; more get a 429.")
    job_seconds: float = Field(default=1800.0, gt=0, description="A draw or an export that takes longer is ended.")
    sweep_seconds: float = Field(default=1.0, gt=0, description="Every active run is looked at this often, hints or no hints.")
    lease_seconds: float = Field(default=30.0, gt=0, description="A reconciler that died frees its run after this.")
    stop_seconds: float = Field(default=60.0, gt=0, description="Time for a checkpoint between the stop signal and the kill.")
    broker_wait_seconds: float = Field(default=2.0, gt=0, description="How long a hint may take to reach the broker before it is dropped.")
    idempotency_claim_seconds: float = Field(
        default=60.0, gt=0, description="A request whose process died leaves its Idempotency-Key in flight for this long."
    )
    idempotency_hours: float = Field(default=24.0, gt=0, description="How long answers to an Idempotency-Key are kept.")
    keep_logs_days: float | None = Field(
        default=None, gt=0, description="Logs of a run, after its end. Default: for ever, as for the next."
    )
    keep_thumbnails_days: float | None = Field(default=None, gt=0, description="Thumbnails of its pictures, which can be made again.")
    keep_checkpoints_days: float | None = Field(default=None, gt=0, description="Checkpoints of a run but the newest, after its end.")
    keep_events_days: float | None = Field(default=None, gt=0, description="Events of a run but the last, after its end.")
    keep_deliveries_days: float | None = Field(default=30.0, gt=0, description="Messages to webhooks that are not due any more.")
    webhook_networks: str = Field(
        default="", description="Networks, with commas between, that webhooks may reach though they are private, e.g. 10.1.0.0/16."
    )
    webhook_seconds: float = Field(default=10.0, gt=0, description="How long a webhook's receiver may take to answer.")
    secret_key: str | None = Field(
        default=None, repr=False, description="Webhooks' secrets are derived from it; the same for all processes. Default: HOME/secret.key."
    )
    request_bytes: int = Field(default=9 * 2**20, gt=0, description="Largest request body.")
    database_busy_seconds: float = Field(default=15.0, gt=0, description="How long a statement waits for a lock of the database.")
    database_statement_seconds: float = Field(default=60.0, gt=0, description="A statement that takes longer is ended (Postgres).")
    database_connections: int = Field(default=8, ge=1, description="Connections that a process keeps to the database.")
    database_more_connections: int = Field(default=8, ge=0, description="Connections that it may open beyond these when it is busy.")
    database_wait_seconds: float = Field(default=10.0, gt=0, description="How long a request waits for a connection before it gets a 503.")
    database_pgbouncer: bool = Field(default=False, description="Postgres is reached through PgBouncer in transaction mode.")

    @cached_property
    def root(self) -> Path:
        """`home`, absolute: children run in other working directories."""
        return self.home.expanduser().absolute()

    @property
    def data_folder(self) -> Path:
        return (self.data or self.root / "data").expanduser().absolute()

    @property
    def database_url(self) -> str:
        """Of the database, for SQLAlchemy's asynchronous engine; psycopg's address serves the synchronous one too."""
        if self.database is None:
            return f"sqlite+aiosqlite:///{self.root / 'dayrun.db'}"
        scheme, _, rest = self.database.partition("://")
        return f"postgresql+psycopg://{rest}" if scheme in ("postgres", "postgresql") else self.database

    @property
    def database_file(self) -> Path | None:
        """The file of an SQLite database; None for a server."""
        return None if self.database else self.root / "dayrun.db"

    @property
    def queue_folder(self) -> Path:
        return self.root / "queue"

    def run_url(self, run_id: str) -> str:
        """Prefix of a run's folder."""
        return f"{(self.runs or str(self.root / 'runs')).rstrip('/')}/{run_id}"

    def launch_folder(self, run_id: str, attempt: int) -> Path:
        """Where the local launcher keeps its claim on one attempt."""
        return self.root / "launches" / f"{run_id}-{attempt:04d}"

    def job_folder(self, job_id: str) -> Path:
        """Where a job's program is watched, and what it printed."""
        return self.root / "jobs" / job_id

    def for_children(self) -> dict[str, str]:
        """Environment in which another process finds these same settings."""
        own = {f"DAYRUN_{name.upper()}": str(value) for name, value in self.model_dump().items() if value is not None}
        return {**os.environ, **own, "DAYRUN_HOME": str(self.root), "DAYRUN_DATA": str(self.data_folder)}
