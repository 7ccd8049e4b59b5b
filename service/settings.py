"""Every knob of the service, with its default and its environment name (`DAYRUN_` and the field's name in capitals)."""

import ipaddress
import json
import os
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

GroupRole = Annotated[str, Field(pattern=r"^(operator|[a-z0-9][a-z0-9-]*:(viewer|writer|admin))$")]


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
    cluster: Path | None = Field(default=None, description="File that describes the cluster (k8s/profile.py): runs are PyTorchJobs there.")
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
    database_connections: int = Field(default=16, ge=1, description="Connections that a process keeps to the database.")
    database_more_connections: int = Field(default=0, ge=0, description="Connections that it may open beyond these for a moment.")
    database_wait_seconds: float = Field(default=10.0, gt=0, description="How long a request waits for a connection before it gets a 503.")
    database_pgbouncer: bool = Field(default=False, description="Postgres is reached through PgBouncer in transaction mode.")
    otlp_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="Collector of OpenTelemetry that traces go to, http://HOST:4318; default: no traces.",
    )
    log_format: Literal["text", "json"] = Field(default="text", description="Of what API, worker and trainer print: docs/tracing.md.")

    auth: Literal["none", "required"] | None = Field(
        default=None, description="Whether requests need a key or token; default: none on the loopback address, required on any other."
    )
    metrics_need_key: bool = Field(default=False, description="Whether /metrics asks for a key too.")
    certificates: str = Field(default="", description="PEM files, with commas between, whose expiry /metrics tells: those of your proxy.")
    identity_seconds: float = Field(
        default=5.0, ge=0, le=60, description="How long a process trusts what it knows of a key: a revoked one works on for at most this."
    )
    requests_per_second: float = Field(default=50.0, ge=0, description="What one key or person may ask of a process for long; 0: no limit.")
    requests_burst: int = Field(default=500, ge=1, description="...and at once, after a pause.")
    wrong_keys_per_minute: int = Field(default=30, ge=1, description="Unknown keys and tokens that are looked at from one address.")
    oidc_issuer: str | None = Field(default=None, description="https://… of an OpenID provider whose tokens are taken beside keys.")
    oidc_audience: str | None = Field(default=None, description="What its tokens must name in `aud`: the provider's name for us.")
    oidc_client: str | None = Field(
        default=None, description="The page's client id at the provider: people sign in there. Its redirect URI is the page's address."
    )
    oidc_client_secret: str | None = Field(default=None, repr=False, description="For providers that want one beside PKCE, e.g. Google.")
    oidc_skew_seconds: float = Field(default=60.0, ge=0, le=600, description="How far the provider's clock may be off.")
    oidc_max_age_hours: float = Field(default=24.0, gt=0, description="How long its signing keys are trusted while it does not answer.")
    oidc_groups_claim: str = Field(default="groups", description="Claim that lists somebody's groups.")
    oidc_groups: dict[str, GroupRole] = Field(default={}, description='Roles of groups, as JSON: {"GROUP": "PROJECT:ROLE" or "operator"}.')

    @field_validator("oidc_issuer")
    @classmethod
    def issuer_is_safe(cls, issuer: str | None) -> str | None:
        """Whoever can change what a plain-http issuer answers can sign in as anybody."""
        if issuer is not None and urlsplit(issuer).scheme != "https" and not is_loopback(urlsplit(issuer).hostname or ""):
            raise ValueError("an issuer must be reached by https://")
        return issuer

    @model_validator(mode="after")
    def issuer_has_audience(self) -> Self:
        """A token that was made for another service must not open this one."""
        if self.oidc_issuer is not None and self.oidc_audience is None:
            raise ValueError("DAYRUN_OIDC_ISSUER takes DAYRUN_OIDC_AUDIENCE too: what its tokens name in `aud`")
        return self

    @property
    def needs_credentials(self) -> bool:
        """Whether requests must say who sends them. Never false where others can reach the service."""
        return self.auth == "required" or not is_loopback(self.host)

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

    @property
    def for_trainers(self) -> dict[str, str]:
        """Variables by which an attempt's processes trace and log as the service does."""
        found = {"DAYRUN_OTLP_ENDPOINT": self.otlp_endpoint, "DAYRUN_LOG_FORMAT": self.log_format if self.log_format != "text" else None}
        return {name: value for name, value in found.items() if value is not None}

    def job_folder(self, job_id: str) -> Path:
        """Where a job's program is watched, and what it printed."""
        return self.root / "jobs" / job_id

    def for_children(self) -> dict[str, str]:
        """Environment in which another process finds these same settings."""
        own = {f"DAYRUN_{name.upper()}": as_variable(value) for name, value in self.model_dump().items() if value is not None}
        return {**os.environ, **own, "DAYRUN_HOME": str(self.root), "DAYRUN_DATA": str(self.data_folder)}


def as_variable(value: Any) -> str:
    """A setting as its environment variable holds it."""
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
