"""Everything that a report tells of a run, asked of a service once. Reads; words and decides nothing.

What a service does not have (an older one, a run without a plan) is None or empty: a report of less is still a report.
"""

import base64
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from dayrun.answers import Chain, Checkpoint, Difference, Event, Export, Run, RunCost, RunEstimate, Sample
from dayrun.client import Client, Point, ServiceError
from dayrun.event_chain import Broken, Head, Link, first_break

POINTS = 1200
"""Of a curve: more than a page has dots for."""
STEPS_SHOWN, PROMPTS_SHOWN = 7, 12
"""Of one set: what a page of A4 holds."""
CELL: Literal[128] = 128
LARGE: Literal[256] = 256
"""Pixels of a picture: of the newest step twice as many, since a reader looks at it closely, and paper is fine."""


@dataclass(frozen=True)
class Picture:
    """One picture as a data URI, with how it was drawn."""

    sample: Sample
    uri: str


@dataclass(frozen=True)
class PromptRow:
    """The same prompt from the same noise, by step."""

    prompt: str
    seed: int
    pictures: dict[int, Picture]


@dataclass(frozen=True)
class SampleSheet:
    """One sample set: the steps that are shown, and a row a prompt; `left_out`: prompts that are not shown."""

    name: str
    steps: list[int]
    rows: list[PromptRow]
    left_out: int


@dataclass(frozen=True)
class Facts:
    """What a service said of a run at `at`."""

    at: datetime
    service_version: str
    run: Run
    cost: RunCost
    estimate: RunEstimate | None
    events: list[Event]
    chain: Chain
    broken: Broken | None
    diff: list[Difference]
    series: dict[str, list[Point]]
    checkpoints: list[Checkpoint]
    exports: list[Export]
    sheets: list[SampleSheet] = field(default_factory=list[SampleSheet])

    @property
    def recipe(self) -> dict[str, Any]:
        return self.run.recipe or {}

    def of_type(self, *types: str) -> list[Event]:
        return [event for event in self.events if event.type in types]


def gather(client: Client, run_id: str) -> Facts:
    """Ask everything. Raises ServiceError and Unreachable, as the client does."""
    run = client.run(run_id)
    chain = client.chain(run_id)  # before the events: those that are recorded in between lie beyond its head
    events = list(client.events(run_id))
    head, begin = Head(chain.length, chain.digest), Head(chain.forgotten, chain.forgotten_digest)
    return Facts(
        at=datetime.now(UTC),
        service_version=client.service_version(),
        run=run,
        cost=client.cost(run_id),
        estimate=estimate_of(client, run_id),
        events=events,
        chain=chain,
        broken=first_break(run_id, [Link.of(event) for event in events], head, begin),
        diff=diff_of(client, run),
        series=client.metrics(run_id, points=POINTS),
        checkpoints=client.checkpoints(run_id),
        exports=list(client.exports(run_id)),
        sheets=sheets_of(client, run_id),
    )


def estimate_of(client: Client, run_id: str) -> RunEstimate | None:
    try:
        return client.estimate(run_id)
    except ServiceError as error:
        if error.status == 404:  # a service from before there were estimates
            return None
        raise


def diff_of(client: Client, run: Run) -> list[Difference]:
    """What a fork's recipe changes in its parent's; empty where there is no parent, or none that we may see."""
    if run.parent is None:
        return []
    try:
        return client.recipe_diff(run.id)
    except ServiceError as error:
        if error.status in (403, 404):
            return []
        raise


def sheets_of(client: Client, run_id: str) -> list[SampleSheet]:
    """The pictures of every set, thinned to what a page holds: first and last step always among them."""
    by_set: dict[str, list[Sample]] = {}
    for sample in client.samples(run_id):
        by_set.setdefault(sample.set, []).append(sample)
    return [sheet_of(client, name, samples) for name, samples in by_set.items()]


def sheet_of(client: Client, name: str, samples: list[Sample]) -> SampleSheet:
    by_prompt: dict[tuple[str, int], dict[int, Sample]] = {}
    for sample in samples:
        by_prompt.setdefault((sample.prompt, sample.seed), {})[sample.step] = sample
    steps = spread(sorted({sample.step for sample in samples}), STEPS_SHOWN)
    shown = list(by_prompt.items())[:PROMPTS_SHOWN]
    rows = [
        PromptRow(prompt, seed, {step: picture(client, drawn[step], step == steps[-1]) for step in steps if step in drawn})
        for (prompt, seed), drawn in shown
    ]
    return SampleSheet(name, steps, rows, len(by_prompt) - len(shown))


def picture(client: Client, sample: Sample, large: bool) -> Picture:
    """As a WebP in a data URI: some kilobytes each, where the PNGs of a run would make a report of hundreds of megabytes."""
    data = client.picture(sample, LARGE if large else CELL)
    return Picture(sample, f"data:image/webp;base64,{base64.b64encode(data).decode()}")


def spread(items: list[int], most: int) -> list[int]:
    """At most `most` of `items`, evenly spaced, the first and the last among them."""
    if len(items) <= most:
        return items
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]
