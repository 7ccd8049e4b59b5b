"""The service from Python, typed: one method an operation. Answers are dataclass-like pydantic models; errors say what the service said.

client = Client("http://127.0.0.1:8765")
run = client.create_run("demo", overrides={"seed": 7})
for run in client.follow(run.id): print(run.progress.step)
"""

import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel

from dayrun import tracing
from dayrun.answers import (
    Cancelled,
    Chain,
    Checkpoint,
    Difference,
    Draw,
    DrawnPicture,
    Event,
    Export,
    ExportedFile,
    Job,
    Key,
    KeyRole,
    Member,
    MemberRole,
    Move,
    Planned,
    Preflight,
    Project,
    ProjectUsage,
    Run,
    RunCost,
    RunEstimate,
    Sample,
    State,
    StoredRecipe,
)
from dayrun.event_chain import Broken, Head, Link, first_break
from dayrun.run_folder import Weights
from dayrun.webhooks import AuditEntry, Delivery, ProjectEvent, Webhook

DEFAULT_URL = "http://127.0.0.1:8765"
HOLD_SECONDS = 20
"""How long an answer may be held back for news: less than the time-out of a request."""
PREFLIGHT_SECONDS = 240.0
"""A preflight ends by itself after three minutes."""
T = TypeVar("T", bound=BaseModel)
J = TypeVar("J", bound=Job)
Point = tuple[int, float, datetime]
"""Step, value, time."""


class ServiceError(Exception):
    """The service refused. `status`, `detail` and `errors` (pointer, value, because, nearest) are those of its problem details."""

    def __init__(self, status: int, detail: str, errors: list[dict[str, Any]] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors = status, detail, errors or []


class Unreachable(Exception):
    """No service answers at the address."""


class Client:
    """One service at `url`; default: DAYRUN_URL, or the service that `dayrun serve` runs on this machine.

    `key` is sent with each request; default: DAYRUN_KEY. So is TRACEPARENT, where the environment has one (docs/tracing.md).
    """

    def __init__(self, url: str | None = None, timeout_seconds: float = 30.0, *, key: str | None = None) -> None:
        self.url = (url or default_url()).rstrip("/")
        key = key or os.environ.get("DAYRUN_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        if tracing.parsed(trace := os.environ.get(tracing.TRACEPARENT, "")) is not None:
            headers["traceparent"] = trace
        self._http = httpx.Client(base_url=self.url, timeout=timeout_seconds, headers=headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # runs
    def create_run(
        self,
        recipe: str | dict[str, Any],
        *,
        overrides: dict[str, Any] | None = None,
        labels: dict[str, str] | None = None,
        project: str = "default",
        priority: int = 0,
        plan: Planned | None = None,
        idempotency_key: str | None = None,
    ) -> Run:
        """Store a run. It is sent with an Idempotency-Key, so that a lost answer never makes a second run. Raises ServiceError.

        plan: what `plan` answered for the same recipe: the run is refused (412) where it no longer holds.
        """
        body = {"recipe": recipe, "overrides": overrides, "labels": labels or {}, "project": project, "priority": priority}
        held = {"If-Match": plan.tag} if plan is not None else {}
        return Run.model_validate(self._post("/runs", idempotency_key, body, held).json())

    def plan(self, recipe: str | dict[str, Any], *, overrides: dict[str, Any] | None = None, project: str = "default") -> Planned:
        """What a run of `recipe` would be, take and cost, as of now; nothing is stored. Raises ServiceError."""
        answer = self._post("/runs:plan", None, {"recipe": recipe, "overrides": overrides, "project": project})
        return Planned.model_validate({**answer.json(), "tag": answer.headers["ETag"]})

    def preflight(
        self, recipe: str | dict[str, Any], *, overrides: dict[str, Any] | None = None, project: str = "default", nodes: bool = False
    ) -> Preflight:
        """Try the cluster for a run of `recipe`, `nodes`: with pods of its shape. Takes minutes; nothing is left. Raises ServiceError."""
        body = {"recipe": recipe, "overrides": overrides, "project": project}
        answer = self._send("POST", "/runs:preflight", params={"nodes": nodes}, json=body, timeout=PREFLIGHT_SECONDS)
        return Preflight.model_validate(answer.json())

    def estimate(self, run_id: str) -> RunEstimate:
        """The plan that a run was accepted with, what it looks like now, and what it came to."""
        return RunEstimate.model_validate(self._get(f"/runs/{quote(run_id)}/estimate").json())

    def run(self, run_id: str) -> Run:
        return Run.model_validate(self._get(f"/runs/{quote(run_id)}").json())

    def runs(
        self,
        states: list[State] | None = None,
        limit: int | None = None,
        *,
        project: str | None = None,
        labels: dict[str, str] | None = None,
        recipe: dict[str, Any] | None = None,
        name: str | None = None,
        parent: str | None = None,
    ) -> Iterator[Run]:
        """Runs, newest first; pages are fetched as they are needed. `recipe`: JSON pointer → value that it must have."""
        query: dict[str, Any] = {"state": states or [], "label": [f"{key}={value}" for key, value in (labels or {}).items()]}
        query["recipe"] = [f"{at}={json.dumps(value, ensure_ascii=False)}" for at, value in (recipe or {}).items()]
        query |= {key: value for key, value in (("project", project), ("name", name), ("parent", parent)) if value is not None}
        yield from self._pages("/runs", query, Run, limit)

    def pause(self, run_id: str) -> Run:
        return self._move(run_id, "pause")

    def resume(self, run_id: str) -> Run:
        return self._move(run_id, "resume")

    def cancel(self, run_id: str) -> Run:
        return self._move(run_id, "cancel")

    def change_run(self, run_id: str, *, priority: int | None = None, labels: dict[str, str | None] | None = None) -> Run:
        """Change a queued run's priority, or labels, which are merged into those that there are; None takes one away."""
        body = {name: value for name, value in (("priority", priority), ("labels", labels)) if value is not None}
        return Run.model_validate(self._send("PATCH", f"/runs/{quote(run_id)}", json=body).json())

    def cost(self, run_id: str) -> RunCost:
        return RunCost.model_validate(self._get(f"/runs/{quote(run_id)}/cost").json())

    def usage(self, project: str = "default", runs: int = 20) -> ProjectUsage:
        return ProjectUsage.model_validate(self._get(f"/projects/{quote(project)}/usage", {"limit": runs}).json())

    def cancel_runs(
        self, states: list[State] | None = None, labels: dict[str, str] | None = None, project: str | None = None
    ) -> Iterator[Cancelled]:
        """Cancel every run that fits all that is given, a bounded number a request; what became of each."""
        more = True
        while more:
            answer = self._post("/runs:cancel", None, {"state": states or [], "labels": labels or {}, "project": project}).json()
            items = [Cancelled.model_validate(item) for item in answer["items"]]
            yield from items
            more = answer["more"] and any(item.cancelled for item in items)

    def fork(
        self,
        run_id: str,
        step: int | None = None,
        *,
        overrides: dict[str, Any] | None = None,
        weights: Weights = "all",
        labels: dict[str, str] | None = None,
        project: str | None = None,
    ) -> Run:
        """A new run from a checkpoint of this one (None: the newest); `diff` says what its recipe changes. Raises ServiceError."""
        body = {"step": step, "overrides": overrides, "weights": weights, "labels": labels, "project": project}
        return Run.model_validate(self._post(f"/runs/{quote(run_id)}:fork", None, body).json())

    def recipe_diff(self, run_id: str, against: str | None = None) -> list[Difference]:
        """What the run's recipe changes in another run's; default: its parent's."""
        query = {"against": against} if against else None
        found = self._get(f"/runs/{quote(run_id)}/recipe:diff", query).json()
        return [Difference.model_validate(item) for item in found["items"]]

    def follow(self, run_id: str, every_seconds: float = 0.5) -> Iterator[Run]:
        """The run again and again, until it is over or paused; a service that is away for a moment is waited for, for a minute."""
        lost_since: float | None = None
        while True:
            try:
                run = self.run(run_id)
                lost_since = None
            except Unreachable:
                lost_since = lost_since or time.monotonic()
                if time.monotonic() - lost_since > 60:
                    raise
                time.sleep(every_seconds)
                continue
            yield run
            if run.over or run.state == "paused":
                return
            time.sleep(every_seconds)

    # what a run leaves behind
    def events(self, run_id: str, after: int = 0) -> Iterator[Event]:
        """Events that were recorded so far, oldest first."""
        yield from self._pages(f"/runs/{quote(run_id)}/events", {"cursor": after}, Event, None)

    def chain(self, run_id: str) -> Chain:
        """Where the log of a run begins and ends, as its row has it."""
        return Chain.model_validate(self._get(f"/runs/{quote(run_id)}/events", {"limit": 1}).json()["chain"])

    def verify_events(self, run_id: str, noted: Head | None = None) -> Broken | None:
        """Read a run's events and prove its chain, up to the head in its row and through `noted`, a head of before; None when it holds."""
        chain = self.chain(run_id)
        links = [Link.of(event) for event in self.events(run_id)]
        head, begin = Head(chain.length, chain.digest), Head(chain.forgotten, chain.forgotten_digest)
        broken = first_break(run_id, links, head, begin)
        return broken or (first_break(run_id, links, noted, begin) if noted else None)

    def metrics(self, run_id: str, names: list[str] | None = None, points: int | None = None) -> dict[str, list[Point]]:
        """Name → [(step, value, time)]."""
        query = {"names": ",".join(names) if names else None, "points": points}
        found = self._get(f"/runs/{quote(run_id)}/metrics", {k: v for k, v in query.items() if v is not None}).json()
        return {name: [(step, value, datetime.fromisoformat(at)) for step, value, at in series] for name, series in found["series"].items()}

    def samples(self, run_id: str, sets: list[str] | None = None, steps: list[int] | None = None) -> Iterator[Sample]:
        yield from self._pages(f"/runs/{quote(run_id)}/samples", {"set": sets or [], "step": steps or []}, Sample, None)

    def picture(self, sample: Sample | DrawnPicture, width: Literal[64, 128, 256] | None = None) -> bytes:
        """The PNG of a sample, or a thumbnail of it (WebP)."""
        return self._get(sample.url, {"width": width} if width else None).content

    def sheet(self, run_id: str, name: str | None = None, steps: list[int] | None = None, width: int = 112) -> bytes:
        """A contact sheet (PNG) of what the run drew of one set."""
        query = {"set": name, "steps": ",".join(map(str, steps)) if steps else None, "width": width}
        return self._get(f"/runs/{quote(run_id)}/samples:sheet", {k: v for k, v in query.items() if v is not None}).content

    # work on checkpoints
    def draw(
        self,
        run_id: str,
        prompts: list[str],
        *,
        step: int | None = None,
        seed: int = 0,
        guidance: float | None = None,
        steps: int | None = None,
        ema: bool | None = None,
    ) -> Draw:
        """Ask for pictures of prompts from a checkpoint (None: the newest); `finished` waits for them."""
        body = {"prompts": prompts, "step": step, "seed": seed, "guidance": guidance, "steps": steps, "ema": ema}
        return Draw.model_validate(self._post(f"/runs/{quote(run_id)}/samples", None, body).json())

    def draw_of(self, run_id: str, draw_id: str) -> Draw:
        return Draw.model_validate(self._get(f"/runs/{quote(run_id)}/draws/{quote(draw_id)}").json())

    def export(self, run_id: str, step: int | None = None) -> Export:
        """Ask for a diffusers folder made of a checkpoint (None: the newest); `finished` waits for it."""
        return Export.model_validate(self._post(f"/runs/{quote(run_id)}/exports", None, {"step": step}).json())

    def exports(self, run_id: str) -> Iterator[Export]:
        yield from self._pages(f"/runs/{quote(run_id)}/exports", {}, Export, None)

    def finished(self, job: J) -> J:
        """The draw or export once it is over; the service says so itself, in answers that are held back until there is news."""
        path = f"/runs/{quote(job.run)}/{'draws' if isinstance(job, Draw) else 'exports'}/{quote(job.id)}"
        tag = ""
        while not job.over:
            answer = self._get(path, headers={"Prefer": f"wait={HOLD_SECONDS}", "If-None-Match": tag} if tag else None)
            tag = answer.headers["ETag"]
            job = type(job).model_validate(answer.json()) if answer.status_code == 200 else job
        return job

    def download(self, file: ExportedFile, target: Path) -> None:
        """Write a file of an export to `target`. Raises ServiceError, and OSError when it cannot be written or came in part."""
        digest = hashlib.sha256()
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}.part")
        with self._http.stream("GET", file.url) as answer, draft.open("wb") as out:
            if not answer.is_success:
                answer.read()
                raise refusal(self.url, answer)
            for piece in answer.iter_bytes():
                out.write(piece)
                digest.update(piece)
        if digest.hexdigest() != file.sha256:
            raise OSError(f"{file.path} did not arrive as it is: try again")
        draft.replace(target)

    # recipes
    def put_recipe(self, name: str, recipe: dict[str, Any], *, project: str = "default", version: int | None = None) -> StoredRecipe:
        """Keep a recipe under a name; `version` is the one that is replaced, None where the name is new. Raises ServiceError."""
        headers = {"If-None-Match": "*"} if version is None else {"If-Match": f'"{version}"'}
        answer = self._send("PUT", f"/recipes/{quote(name)}", params={"project": project}, json=recipe, headers=headers)
        return StoredRecipe.model_validate(answer.json())

    def checkpoints(self, run_id: str) -> list[Checkpoint]:
        return [Checkpoint.model_validate(item) for item in self._get(f"/runs/{quote(run_id)}/checkpoints").json()["items"]]

    def logs(self, run_id: str, attempt: int | None = None, rank: str | None = None, tail: int | None = None) -> str:
        query = {"attempt": attempt, "rank": rank, "tail": tail}
        return self._get(f"/runs/{quote(run_id)}/logs", {k: v for k, v in query.items() if v is not None}).text

    def manifest(self, run_id: str) -> dict[str, Any]:
        return self._get(f"/runs/{quote(run_id)}/manifest").json()

    def recipes(self) -> list[dict[str, Any]]:
        return self._get("/recipes").json()["items"]

    def service_version(self) -> str:
        """The version of dayrun that answers."""
        return self._get("/openapi.json").json()["info"]["version"]

    # webhooks and the audit
    def create_webhook(
        self, url: str, *, events: list[str] | None = None, labels: dict[str, str] | None = None, project: str = "default"
    ) -> Webhook:
        """Send a project's events to `url`. Keep the secret of the answer: it is not shown again. Raises ServiceError."""
        body = {"url": url, "events": events or ["*"], "labels": labels or {}, "project": project}
        return Webhook.model_validate(self._post("/webhooks", None, body).json())

    def webhooks(self) -> Iterator[Webhook]:
        yield from self._pages("/webhooks", {}, Webhook, None)

    def delete_webhook(self, webhook_id: str) -> None:
        self._send("DELETE", f"/webhooks/{quote(webhook_id)}")

    def enable_webhook(self, webhook_id: str) -> Webhook:
        return Webhook.model_validate(self._post(f"/webhooks/{quote(webhook_id)}:enable", None, None).json())

    def test_webhook(self, webhook_id: str) -> Delivery:
        return Delivery.model_validate(self._post(f"/webhooks/{quote(webhook_id)}:test", None, None).json())

    def deliveries(self, webhook_id: str, state: str | None = None, limit: int | None = None) -> Iterator[Delivery]:
        """What was sent to a webhook and what is due, newest first."""
        yield from self._pages(f"/webhooks/{quote(webhook_id)}/deliveries", {"state": state} if state else {}, Delivery, limit)

    def replay(self, webhook_id: str, delivery_id: str) -> Delivery:
        """Send a message again, with the same id."""
        path = f"/webhooks/{quote(webhook_id)}/deliveries/{quote(delivery_id)}:replay"
        return Delivery.model_validate(self._post(path, None, None).json())

    def audit(self, limit: int | None = None, **filters: str) -> Iterator[AuditEntry]:
        """Who did what, newest first. `filters`: project, actor, type, since, until."""
        yield from self._pages("/audit", filters, AuditEntry, limit)

    def verify_project(self, project: str) -> Broken | None:
        """Read what was done to a project as such and prove its chain; None when it holds."""
        path = f"/audit/{quote(project)}/chain"
        head = self._get(path, {"limit": 1}).json()["chain"]
        links = [Link.of(event) for event in self._pages(path, {}, ProjectEvent, None)]
        return first_break(f"project:{project}", links, Head(head["length"], head["digest"]))

    # who may
    def create_key(self, name: str, role: KeyRole, project: str | None = None, days: int | None = 90) -> Key:
        """Make a key for a project (or, with the role operator, for the whole service). Its `key` cannot be had again."""
        body = {"name": name, "role": role, "project": project, "days": days}
        return Key.model_validate(self._post("/keys", None, body).json())

    def keys(self) -> Iterator[Key]:
        """Keys of the projects whose admin you are, newest first."""
        yield from self._pages("/keys", {}, Key, None)

    def revoke_key(self, key_id: str) -> None:
        self._send("DELETE", f"/keys/{quote(key_id)}")

    def create_project(self, project_id: str, name: str | None = None) -> Project:
        return Project.model_validate(self._post("/projects", None, {"id": project_id, "name": name}).json())

    def project(self, project_id: str) -> Project:
        return Project.model_validate(self._get(f"/projects/{quote(project_id)}").json())

    def projects(self) -> Iterator[Project]:
        yield from self._pages("/projects", {}, Project, None)

    def change_project(self, project: Project, **changes: Any) -> Project:
        """Change `name`, `archived` or (operators) quotas and budgets, unless somebody else has changed it since `project` was fetched."""
        headers = {"If-Match": f'"{project.version}"'}
        return Project.model_validate(self._send("PATCH", f"/projects/{quote(project.id)}", json=changes, headers=headers).json())

    def members(self, project_id: str) -> Iterator[Member]:
        yield from self._pages(f"/projects/{quote(project_id)}/members", {}, Member, None)

    def put_member(self, project_id: str, subject: str, role: MemberRole) -> Member:
        """Give somebody (`oidc:ISSUER|SUBJECT`) a role in a project."""
        return Member.model_validate(self._send("PUT", member_path(project_id, subject), json={"role": role}).json())

    def remove_member(self, project_id: str, subject: str) -> None:
        self._send("DELETE", member_path(project_id, subject))

    # transport
    def _move(self, run_id: str, move: Move) -> Run:
        return Run.model_validate(self._post(f"/runs/{quote(run_id)}:{move}", None, None).json())

    def _pages(self, path: str, query: dict[str, Any], kind: type[T], limit: int | None) -> Iterator[T]:
        left = limit
        while left is None or left > 0:
            page = self._get(path, {**query, "limit": min(left or 200, 200)}).json()
            for item in page["items"]:
                yield kind.model_validate(item)
            if page["next"] is None:
                return
            left = None if left is None else left - len(page["items"])
            query = {**query, "cursor": page["next"]}

    def _get(self, path: str, query: dict[str, Any] | None = None, headers: dict[str, str] | None = None) -> httpx.Response:
        return self._send("GET", path, params=query, headers=headers)

    def _post(self, path: str, key: str | None, body: Any, more: dict[str, str] | None = None) -> httpx.Response:
        """Sent again when the connection breaks: the key makes that safe. `more`: headers."""
        headers = {"Idempotency-Key": key or str(uuid.uuid4()), **(more or {})}
        for attempt in range(3):
            try:
                return self._send("POST", path, json=body, headers=headers)
            except Unreachable:
                if attempt == 2:
                    raise
                time.sleep(0.5)
        raise AssertionError

    def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **arguments)
        except httpx.TransportError as error:
            said = f"no service answers at {self.url} ({error}): start one with `dayrun serve`, or set --url or DAYRUN_URL"
            raise Unreachable(said) from error
        if response.is_success or response.status_code == 304:
            return response
        raise refusal(self.url, response)


def refusal(url: str, response: httpx.Response) -> ServiceError:
    """What the service said when it refused."""
    try:
        problem = response.json()
        return ServiceError(response.status_code, problem["detail"], problem.get("errors"))
    except (ValueError, KeyError, TypeError):
        return ServiceError(response.status_code, f"{url} answered {response.status_code}: {response.text[:200]}")


def member_path(project_id: str, subject: str) -> str:
    return f"/projects/{quote(project_id)}/members/{quote(subject, safe='')}"


def default_url() -> str:
    """DAYRUN_URL; else the service that runs on DAYRUN_HOME; else the default address."""
    if url := os.environ.get("DAYRUN_URL"):
        return url
    home = Path(os.environ.get("DAYRUN_HOME") or Path.home() / ".dayrun")
    try:
        return json.loads((home / "serve.json").read_text())["url"]
    except (OSError, ValueError, KeyError):
        return DEFAULT_URL
