"""Bring one run a step further: lease its row, look, decide (`decide.py`), write down, act. Level-triggered: call it as often as you like.

What was decided is committed before it is done, and everything done can be done again, so that a crash at any line loses nothing: the
next look finds the same difference and takes the same step.
"""

import asyncio
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from dayrun.objects import Prefix
from dayrun.recipe import Recipe
from dayrun.run_folder import Cursor, Event, Fork, Metric, RunFolder
from service import events
from service.access import SERVICE
from service.database import Database, new_id, now
from service.launchers import Launched, Launcher, Observation, Order
from service.runs import repository
from service.runs.decide import Change, Launch, Standing, Step, Stop, Wait, next_step
from service.runs.states import OVER, Move, State, after
from service.runs.tables import OutboxRow, RunRow
from service.settings import Settings


@dataclass
class Seen:
    """One look at a run: its launcher, and what is new in its folder."""

    launcher: Observation
    events: list[Event]
    metrics: list[Metric]
    events_cursor: Cursor
    metrics_cursor: Cursor


class Reconciler:
    def __init__(self, settings: Settings, database: Database, launcher: Launcher) -> None:
        self._settings, self._database, self._launcher = settings, database, launcher
        self._pid = os.getpid()

    async def look(self, run_id: str) -> None:
        """One step for one run; returns at once when another process holds its lease."""
        owner = f"{self._pid}:{new_id('look')}"
        async with self._database.write() as session:
            run = await repository.lease(session, run_id, owner, self._settings.lease_seconds)
        if run is None:
            return
        try:
            seen = await asyncio.to_thread(self._observe, run)
            async with self._database.write() as session:
                run = await repository.leased(session, run_id, owner)
                if run is None:  # we were slow and somebody else took over
                    return
                await take_in(session, run, seen)
                held = await repository.held_machines(session)
                standing = self._standing(run, room=held < self._settings.runs_at_once)
                step = next_step(standing, seen.launcher, now())
                self._write_down(session, run, step, seen.launcher)
            await asyncio.to_thread(self._act, run, step)
        finally:
            async with self._database.write() as session:
                await repository.release(session, run_id, owner)

    def _observe(self, run: RunRow) -> Seen:
        launched = Observation(Launched.ABSENT)
        if run.attempt and run.state != State.QUEUED:
            launched = self._launcher.observe(run.id, run.attempt)  # before the folder: its last lines come before the end
        folder = RunFolder(Prefix(self._settings.run_url(run.id)))
        seen = Seen(launched, [], [], Cursor(dict(run.events_cursor)), Cursor(dict(run.metrics_cursor)))
        seen.events += folder.new_lines("events", seen.events_cursor)
        seen.metrics += folder.new_lines("metrics", seen.metrics_cursor)
        return seen

    def _standing(self, run: RunRow, room: bool) -> Standing:
        recipe = Recipe.model_validate(run.recipe)
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
            over_limit=limit_reached(recipe, used_accelerator_seconds(run, now())),
            room=room,
        )

    def _write_down(self, session: AsyncSession, run: RunRow, step: Step, seen: Observation) -> None:
        """The decision as rows, in the transaction that took it."""
        match step:
            case Wait():
                return
            case Stop(force):
                if run.stop_asked_at is None:
                    run.stop_asked_at = now()
                    events.record(session, run, "stop_sent", signal="SIGTERM")
                elif force:
                    events.record(session, run, "stop_forced", waited_seconds=self._settings.stop_seconds)
            case Launch(attempt):
                if attempt == run.attempt:
                    return
                run.attempt, run.outcome = attempt, None
                move(session, run, Move.LAUNCH)
            case Change(wanted, cause, evidence, next_attempt_at):
                if seen.launched == Launched.ENDED:
                    settle_cost(run, seen.ended_at or now())
                if wanted == Move.RETRY:
                    run.faults += 1
                    run.next_attempt_at = next_attempt_at
                move(session, run, wanted, cause, evidence)

    def _act(self, run: RunRow, step: Step) -> None:
        match step:
            case Launch(attempt):
                url = self._settings.run_url(run.id)
                folder = RunFolder(Prefix(url))
                if not folder.prefix.exists("recipe.json"):
                    folder.put_recipe(run.recipe)
                if (fork := fork_of(run, self._settings)) is not None and folder.fork() is None:
                    folder.put_fork(fork)
                self._launcher.launch(order_of(run, attempt, url, self._settings.stop_seconds))
            case Stop(force):
                self._launcher.stop(run.id, run.attempt, force)
            case Wait() | Change():
                return


def fork_of(run: RunRow, settings: Settings) -> Fork | None:
    """Where the trainer finds the first state of a forked run."""
    if run.parent_run_id is None or run.parent_step is None:
        return None
    weights: Any = run.parent_weights or "all"
    return {"from": settings.run_url(run.parent_run_id), "step": run.parent_step, "weights": weights}


def order_of(run: RunRow, attempt: int, url: str, stop_seconds: float) -> Order:
    hardware = Recipe.model_validate(run.recipe).hardware
    return Order(run.id, attempt, url, hardware.processes_per_node, hardware.threads_per_process, stop_seconds)


def move(
    session: AsyncSession, run: RunRow, wanted: Move, cause: str | None = None, evidence: list[str] | None = None, by: str = SERVICE
) -> None:
    """Change a run's state, and say so in the log and in the outbox. Raises NoSuchMove."""
    before, at = State(run.state), now()
    run.state = after(before, wanted)
    run.updated_at, run.version = at, run.version + 1
    # the cause of a fault stays readable while the run waits for its next attempt; a person's move wipes it
    if cause is not None or wanted in (Move.RESUME, Move.SUCCEED, Move.CANCEL, Move.START, Move.PAUSE):
        run.cause, run.evidence = cause, evidence or []
    if wanted == Move.LAUNCH:
        run.holding_since, run.stop_asked_at, run.next_attempt_at = at, None, None
        run.started_at = run.started_at or at
    if wanted == Move.RESUME:
        run.faults, run.ended_at, run.next_attempt_at = 0, None, None
    if run.state in OVER:
        run.ended_at = at
    said = {"cause": cause, "evidence": evidence or []} if cause else {}
    events.record(session, run, "state_changed", by=by, **{"from": before, "to": run.state}, move=wanted, **said)
    session.add(OutboxRow(run_id=run.id))


async def take_in(session: AsyncSession, run: RunRow, seen: Seen) -> None:
    """Copy what is new in the run folder into rows."""
    for event in seen.events:
        events.record_from_trainer(session, run, event)
        if event["attempt"] == run.attempt:
            run.began_attempt = run.attempt
            # several ranks may tell how they ended; a named cause says more than 'unknown', and the first more than the later
            if event["type"] == "ended" and (run.outcome is None or run.outcome.get("cause") == "unknown"):
                run.outcome = event["data"]
        if event["type"] == "stage_started":
            run.stage = event["data"]["stage"]
        if event["type"] in ("resumed", "ended"):
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
        run.events_cursor, run.metrics_cursor = seen.events_cursor.offsets, seen.metrics_cursor.offsets
        run.updated_at, run.version = now(), run.version + 1


# ---- what it costs -----------------------------------------------------------------------------------------------------------------


def used_accelerator_seconds(run: RunRow, at: datetime) -> float:
    """Seconds × accelerators that the run has held so far, the attempt under way included."""
    running = (at - run.holding_since).total_seconds() * run.world_size if run.holding_since else 0.0
    return run.accelerator_seconds + max(0.0, running)


def settle_cost(run: RunRow, ended_at: datetime) -> None:
    """The attempt holds its machines no longer."""
    run.accelerator_seconds, run.holding_since = used_accelerator_seconds(run, ended_at), None


def limit_reached(recipe: Recipe, accelerator_seconds: float) -> tuple[str, str] | None:
    """(cause, why) once the run has used the hours or the money that its recipe allows."""
    hours = accelerator_seconds / 3600
    dollars = hours * recipe.hardware.dollars_per_accelerator_hour
    wall = hours / recipe.hardware.world_size
    if recipe.limits.dollars is not None and dollars >= recipe.limits.dollars:
        return "budget", f"/limits/dollars: ${dollars:.2f} of ${recipe.limits.dollars:.2f} are used"
    if recipe.limits.hours is not None and wall >= recipe.limits.hours:
        return "deadline", f"/limits/hours: {wall:.2f} of {recipe.limits.hours:.2f} hours are used"
    return None
