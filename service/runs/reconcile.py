"""Let queued runs begin, and bring those that hold machines a step further: lease the row, look, decide (`decide.py`), write down, act.

Level-triggered: call it as often as you like. Which runs begin is decided for the whole queue at once (`placement.py`).

What was decided is committed before it is done, and everything done can be done again, so that a crash at any line loses nothing: the
next look finds the same difference and takes the same step.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from obstore.exceptions import BaseError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from dayrun import json_logs, tracing
from dayrun.objects import Prefix
from dayrun.recipe import Recipe
from dayrun.run_folder import Cursor, Event, Fork, Metric, RunFolder
from service import events, reachable
from service.database import Database, new_id, now
from service.launchers import Launched, Launcher, Observation, Order
from service.plans import service as plans
from service.projects.budget import Cap, caps_of_run, due_warnings, first_reached
from service.runs import repository, room
from service.runs.adopt import adopt
from service.runs.cost import used_accelerator_seconds
from service.runs.decide import Change, Launch, Standing, Step, Stop, Wait, next_step
from service.runs.figures import renewed
from service.runs.placement import Code, Waiting
from service.runs.room import Picture
from service.runs.states import ACTIVE, HOLDS_MACHINES, OVER, Move, State
from service.runs.tables import RunRow
from service.runs.transition import move, settle_cost
from service.settings import Settings
from service.usage import repository as ledger

log = logging.getLogger("dayrun")

TOGETHER = 100
"""Runs that a sweep leases, looks at and lets go together."""
AFTER_LIMIT_SECONDS = 600.0
"""A run is paused at its limit, with a checkpoint; Kubernetes knows only how to kill, and comes later."""
MOST_AVOIDED = 20
"""Nodes that a run keeps away from: the newest, should it meet more."""
AT_ONCE = 4
"""Runs that are looked at in the same moment: each may take a connection to the database, and the API wants some too."""


@dataclass
class Seen:
    """One look at a run: its launcher, and what is new in its folder."""

    launcher: Observation
    events: list[Event]
    metrics: list[Metric]
    events_cursor: Cursor
    metrics_cursor: Cursor


class Stepped(StrEnum):
    BUSY = "busy"  # another process acts on the run
    HELD = "held"  # it goes on holding its machines, or holds none and has nothing to be done
    FREED = "freed"  # its machines are free for another


def outcome_of(run: RunRow, stepped: Stepped | BaseException) -> Stepped:
    """What became of a look. One run that cannot be looked at must not keep the others from it; a database that is away must."""
    if not isinstance(stepped, BaseException):
        return stepped
    if not isinstance(stepped, Exception) or isinstance(stepped, SQLAlchemyError):
        raise stepped
    log.error("%s could not be looked at", run.id, exc_info=stepped)
    return Stepped.HELD


class Reconciler:
    def __init__(self, settings: Settings, database: Database, launcher: Launcher) -> None:
        self._settings, self._database, self._launcher = settings, database, launcher
        self._store = reachable.objects(settings)
        self._pid = os.getpid()

    async def look(self, run_id: str) -> bool:
        """What a hint asks for: one step for one run, or for the queue where the run is in it.

        False when another process has the run's lease: it may have looked before what the hint tells of.
        """
        async with self._database.read() as session:
            unplaced = await repository.is_unplaced(session, run_id)
        stepped = None if unplaced else await self.step(run_id)
        if unplaced or stepped == Stepped.FREED:
            for one in (await self.place()).begins:
                await self.step(one)
        return stepped != Stepped.BUSY

    async def sweep(self, go_on: Callable[[], Awaitable[None]]) -> None:
        """Place the queue once, then take one step for every run that holds machines: what makes lost hints harmless.

        go_on: called between runs; may raise to break off.
        """
        await adopt(self._database, self._launcher.unfinished())
        picture = await self.place()
        async with self._database.read() as session:
            run_ids = await repository.holding_ids(session)
        freed = False
        for first in range(0, len(run_ids), TOGETHER):
            await go_on()
            freed |= Stepped.FREED in await self._step_all(run_ids[first : first + TOGETHER], picture.budgets)
        for run_id in (await self.place()).begins if freed else []:
            await self.step(run_id)
        await self.end_leftovers()

    async def end_leftovers(self) -> None:
        """Stop what trains for no run's newest attempt: launched by one who had stalled, or broken and ended by nobody yet.

        Runs that this database does not know are another's, or newer than the backup it was restored from: they are left alone.
        """
        for key in await self._overtaken(self._launcher.unfinished()):
            await asyncio.to_thread(self._launcher.stop, *key, True)

    async def forget_old(self) -> None:
        """Remove what is kept of attempts that are long over."""
        for key in await self._overtaken(self._launcher.old(now())):
            await asyncio.to_thread(self._launcher.forget, *key)

    async def _overtaken(self, keys: list[tuple[str, int]]) -> list[tuple[str, int]]:
        """Those of known runs that hold no machines for this attempt, and will not (`adopt.py`)."""
        if not keys:
            return []
        async with self._database.read() as session:
            known = await repository.attempts_of(session, {run_id for run_id, _ in keys})
        return [key for key in keys if (newest := known.get(key[0])) is not None and is_overtaken(key[1], newest)]

    async def place(self) -> Picture:
        """Launch what has room, in rows: the next step of each run does it. Tell the others what they wait for."""
        async with self._database.write() as session:
            picture = await room.decide(session, self._settings)
            if picture.begins and (store := await self._store.says()) != "ok":
                picture = room.held_back(picture, store)
            for run in await repository.lock_queued(session, picture.begins):
                seen = Observation(Launched.ABSENT)  # a queued run has no attempt that could be seen
                await self._write_down(session, run, next_step(self._standing(run, own_caps(run)), seen, now()), seen)
            await room.tell(session, picture)
        return picture

    async def step(self, run_id: str) -> Stepped:
        """One step for one run that holds machines, unless another process has its lease."""
        stepped = await self._step_all([run_id], {})
        if stepped:
            return stepped[0]
        async with self._database.read() as session:
            return Stepped.BUSY if await repository.is_leased(session, run_id) else Stepped.HELD

    async def _step_all(self, run_ids: list[str], budgets: Mapping[str, list[Cap]]) -> list[Stepped]:
        """One step for each of `run_ids` that holds machines and that no other process has. Most of them have nothing to tell.

        budgets: what each project has left, where that is known.
        """
        owner = f"{self._pid}:{new_id('look')}"
        async with self._database.write() as session:
            runs = await repository.lease(session, run_ids, owner, self._settings.lease_seconds)
        at_once = asyncio.Semaphore(AT_ONCE)

        async def step(run: RunRow) -> Stepped:
            async with at_once:
                return await self._look_at(run, owner, budgets.get(run.project_id, []))

        try:
            stepped = await asyncio.gather(*map(step, runs), return_exceptions=True)
            return [outcome_of(run, one) for run, one in zip(runs, stepped, strict=True)]
        finally:
            async with self._database.write() as session:
                await repository.release(session, [run.id for run in runs], owner)

    async def _look_at(self, run: RunRow, owner: str, budget: list[Cap]) -> Stepped:
        """Look at a run that `owner` has leased; where there is something to do, write it down, then do it."""
        with json_logs.about(run=run.id, attempt=run.attempt):
            return await self._bring_further(run, owner, budget)

    async def _bring_further(self, run: RunRow, owner: str, budget: list[Cap]) -> Stepped:
        seen = await asyncio.to_thread(self._observe, run)
        caps = [*own_caps(run), *budget]
        is_news = seen.events or seen.metrics or due_warnings(caps, run.warned or {}) or run.waiting != waiting_of(run, seen.launcher)
        if not is_news and next_step(self._standing(run, caps), seen.launcher, now()) == Wait():
            return Stepped.HELD
        async with self._database.write() as session:
            locked = await repository.leased(session, run.id, owner)
            if locked is None:  # we were slow and somebody else took over
                return Stepped.BUSY
            await take_in(session, locked, seen)
            warn(session, locked, caps)
            tell_waiting(locked, seen.launcher)
            step = next_step(self._standing(locked, caps), seen.launcher, now())
            await self._write_down(session, locked, step, seen.launcher)
            trace = await repository.traceparent_of(session, locked.id) if isinstance(step, Launch) and tracing.is_on() else None
        # should we stall here until another has taken over, the effect is fenced by the attempt: a launcher starts each one once
        await asyncio.to_thread(self._act, locked, step, trace)
        return Stepped.HELD if locked.state in HOLDS_MACHINES else Stepped.FREED

    def _observe(self, run: RunRow) -> Seen:
        launched = Observation(Launched.ABSENT)
        if run.attempt:
            launched = self._launcher.observe(run.id, run.attempt)  # before the folder: its last lines come before the end
        cursors = Cursor(dict(run.events_cursor)), Cursor(dict(run.metrics_cursor))
        try:
            folder = RunFolder(Prefix(self._settings.run_url(run.id)))
            found, measured = folder.new_lines("events", cursors[0]), folder.new_lines("metrics", cursors[1])
            return Seen(launched, list(found), list(measured), *cursors)
        except (OSError, BaseError) as error:
            log.warning("%s: its folder cannot be read: %s", run.id, str(error).splitlines()[0])
        # a stop can be sent without the folder; nothing is launched, and no end is judged, before it says what has happened
        known = launched if launched.launched == Launched.RUNNING else Observation(Launched.UNREACHABLE)
        return Seen(known, [], [], Cursor(dict(run.events_cursor)), Cursor(dict(run.metrics_cursor)))

    def _standing(self, run: RunRow, caps: list[Cap]) -> Standing:
        """caps: its own and its project's."""
        recipe, reached = Recipe.model_validate(run.recipe), first_reached(caps)
        return Standing(
            state=State(run.state),
            attempt=run.attempt,
            began=run.began_attempt == run.attempt,
            outcome=run.outcome,
            faults=run.faults,
            attempts_allowed=run.attempts_allowed,
            wait_seconds=recipe.retries.wait_seconds,
            next_attempt_at=run.next_attempt_at,
            stop_asked_at=run.stop_asked_at,
            stop_seconds=self._settings.stop_seconds,
            over_limit=(reached.cause, reached.because) if reached else None,
        )

    async def _write_down(self, session: AsyncSession, run: RunRow, step: Step, seen: Observation) -> None:
        """The decision as rows, in the transaction that took it."""
        match step:
            case Wait():
                return
            case Stop(force):
                if run.stop_asked_at is None:
                    run.stop_asked_at = now()
                    events.record(session, run, "stop_sent", at=run.stop_asked_at, signal="SIGTERM")
                elif force:
                    events.record(session, run, "stop_forced", waited_seconds=self._settings.stop_seconds)
            case Launch(attempt):
                if attempt == run.attempt:
                    return
                run.attempt, run.outcome = attempt, None
                move(session, run, Move.LAUNCH)
                begun = run.holding_since or now()
                ledger.begin(session, run, begun, (begun - (run.queued_at or run.created_at)).total_seconds())
            case Change(wanted, cause, evidence, next_attempt_at, ends_group):
                if seen.launched == Launched.ENDED or ends_group:
                    await settle_cost(session, run, seen.ended_at or now(), cause)
                if seen.bad_nodes:
                    known = run.avoid_nodes or []
                    run.avoid_nodes = [*known, *(node for node in seen.bad_nodes if node not in known)][-MOST_AVOIDED:]
                if wanted == Move.RETRY:
                    run.faults += 1
                    run.next_attempt_at = next_attempt_at
                move(session, run, wanted, cause, evidence)
                if wanted == Move.SUCCEED:
                    await plans.learn_from(session, run)

    def _act(self, run: RunRow, step: Step, trace: str | None) -> None:
        """trace: traceparent of the request that the run was made by, where spans are made."""
        match step:
            case Launch(attempt):
                url = self._settings.run_url(run.id)
                folder = RunFolder(Prefix(url))
                if not folder.prefix.exists("recipe.json"):
                    folder.put_recipe(run.recipe)
                if (fork := fork_of(run, self._settings)) is not None and folder.fork() is None:
                    RunFolder(Prefix(fork["from"])).hold_checkpoint(fork["step"], run.id)
                    folder.put_fork(fork)
                with tracing.span("launch", trace, {"dayrun.run": run.id, "dayrun.attempt": attempt}, kind="producer"):
                    log.info("launching attempt %d", attempt, extra=json_logs.fields(attempt=attempt))
                    self._launcher.launch(order_of(run, attempt, self._settings, tracing.traceparent()))
            case Stop(force):
                self._launcher.stop(run.id, run.attempt, force)
            case Change(ends_group=ends_group):
                if ends_group:
                    self._launcher.stop(run.id, run.attempt, force=True)
                if run.state in OVER and (fork := fork_of(run, self._settings)) is not None:
                    RunFolder(Prefix(fork["from"])).release_checkpoint(fork["step"], run.id)
            case Wait():
                return


def is_overtaken(attempt: int, newest: repository.Newest) -> bool:
    """Whether nobody will come back to `attempt`, given the newest that the run's row knows."""
    if attempt > newest.attempt:
        return newest.state not in ACTIVE
    return attempt < newest.attempt or newest.state not in HOLDS_MACHINES


def fork_of(run: RunRow, settings: Settings) -> Fork | None:
    """Where the trainer finds the first state of a forked run."""
    if run.parent_run_id is None or run.parent_step is None:
        return None
    weights: Any = run.parent_weights or "all"
    return {"from": settings.run_url(run.parent_run_id), "step": run.parent_step, "weights": weights}


def order_of(run: RunRow, attempt: int, settings: Settings, trace: str | None = None) -> Order:
    """trace: traceparent of the span that launches it."""
    recipe = Recipe.model_validate(run.recipe)
    return Order(
        run.id,
        attempt,
        settings.run_url(run.id),
        recipe,
        settings.stop_seconds,
        project=run.project_id,
        avoid_nodes=tuple(run.avoid_nodes or ()),
        deadline_seconds=deadline_of(run, recipe),
        environment={**settings.for_trainers, **({tracing.TRACEPARENT: trace} if trace else {})},
    )


def deadline_of(run: RunRow, recipe: Recipe) -> float | None:
    """Seconds after which the machines end an attempt by themselves, should nobody be left to pause it at its limit."""
    limits, price = recipe.limits, recipe.hardware.world_size * recipe.hardware.dollars_per_accelerator_hour
    hours = [limit for limit in (limits.hours, limits.dollars / price if limits.dollars and price else None) if limit is not None]
    if not hours:
        return None
    used = used_accelerator_seconds(run, now()) / recipe.hardware.world_size
    return max(0.0, min(hours) * 3600 - used) + AFTER_LIMIT_SECONDS


def waiting_of(run: RunRow, seen: Observation) -> dict[str, Any] | None:
    """What a run that is launching waits for; as it was told, where nothing can be seen."""
    if run.state != State.LAUNCHING:
        return run.waiting if run.state == State.QUEUED else None
    if seen.launched == Launched.UNREACHABLE:
        return run.waiting
    return Waiting(Code(seen.waits_for[0]), seen.waits_for[1]).as_json() if seen.waits_for else None


def tell_waiting(run: RunRow, seen: Observation) -> None:
    if (waiting := waiting_of(run, seen)) != run.waiting:
        run.waiting, run.updated_at, run.version = waiting, now(), run.version + 1


async def take_in(session: AsyncSession, run: RunRow, seen: Seen) -> None:
    """Copy what is new in the run folder into rows."""
    await events.record_from_trainer(session, run, seen.events)
    for event in seen.events:
        if event["attempt"] >= run.attempt:  # a restored row may yet have to learn of the attempt
            run.began_attempt = event["attempt"]
        # several ranks may tell how they ended; a named cause says more than 'unknown', and the first more than the later
        is_end = event["attempt"] == run.attempt and event["type"] == "ended"
        if is_end and (run.outcome is None or run.outcome.get("cause") == "unknown"):
            run.outcome = event["data"]
        if event["type"] == "stage_started":
            run.stage = event["data"]["stage"]
        if event["type"] in ("resumed", "forked", "ended"):
            run.step = event["step"]
    if seen.metrics:
        time = {m["step"]: datetime.fromtimestamp(m["time"], UTC) for m in seen.metrics}
        await repository.put_metrics(session, run.id, seen.metrics, time)
        last = {m["name"]: m for m in seen.metrics}
        run.step = seen.metrics[-1]["step"]
        run.loss = last["loss"]["value"] if "loss" in last else run.loss
        run.images_per_second = last["images_per_second"]["value"] if "images_per_second" in last else run.images_per_second
        run.step_seconds = last["step_seconds"]["value"] if "step_seconds" in last else run.step_seconds
    if seen.events or seen.metrics:
        await renew_figures(session, run, seen)
        run.events_cursor, run.metrics_cursor = seen.events_cursor.offsets, seen.metrics_cursor.offsets
        run.updated_at, run.version = now(), run.version + 1


async def renew_figures(session: AsyncSession, run: RunRow, seen: Seen) -> None:
    """Keep the newest of what was measured in the row; an attempt that has taken its first step is told to the ledger."""
    before: Any = run.figures
    figures = renewed(before, run.attempt, seen.events, seen.metrics)
    run.figures = dict(figures)
    is_first = "began" in figures and (before is None or before["attempt"] != figures["attempt"] or "began" not in before)
    if is_first and figures["attempt"] == run.attempt and run.holding_since is not None:
        await ledger.began_to_train(session, run, max(0.0, figures.get("began", 0.0) - run.holding_since.timestamp()))


# ---- what it costs -----------------------------------------------------------------------------------------------------------------


def own_caps(run: RunRow) -> list[Cap]:
    """The limits of the run's own recipe, and how much of them is used."""
    return caps_of_run(Recipe.model_validate(run.recipe), used_accelerator_seconds(run, now()))


def warn(session: AsyncSession, run: RunRow, caps: list[Cap]) -> None:
    """Say once that a cap is nearly used up: for a project's, once a run and period."""
    for cap in due_warnings(caps, run.warned or {}):
        run.warned = {**(run.warned or {}), cap.name: cap.period}
        used, period = round(cap.used, 4), cap.period or None
        events.record(session, run, "cap_near", cap=cap.name, limit=cap.limit, used=used, unit=cap.unit, period=period, because=cap.because)
