"""The sections of a report, each a function of the facts that returns its HTML. Words and order; the figures are the service's."""

import json
from typing import Any

from dayrun import __version__
from dayrun.calibration import Comparison, Renewal
from dayrun.quantities import Interval
from dayrun.recipe_errors import as_text
from dayrun.report import story
from dayrun.report.curves import Line, Mark, chart
from dayrun.report.gather import Facts, SampleSheet
from dayrun.report.markup import Child, Markup, el
from dayrun.report.tables import dollars, exact, figure, instant, interval, note, pairs, section, span, table
from dayrun.show import duration

HARDWARE = ("nodes", "processes_per_node", "accelerator", "dollars_per_accelerator_hour", "sharding")
UNITS = {"dollars": "$", "hours": "h"}
MARKS_SHOWN = 12
"""Marks on a curve: more would hide it."""


def summary(facts: Facts) -> Markup:
    """The sentence that a decision rests on, and the figures beside it."""
    run, cost = facts.run, facts.cost
    loss = story.start_and_end(facts, "loss")
    held, many = duration(story.held_time(facts).total_seconds()), cost.accelerators
    on = f"{held} on {many} accelerator{'s' if many != 1 else ''}"
    said: list[Child] = [
        el("b", state_said(facts)),
        f" after {run.progress.step:,} of {run.progress.total_steps:,} steps and {on}, for ",
        dollars(cost.dollars),
        f"; {story.promises_said(facts)}",
        f"; the loss went from {loss[0]:.4g} to {loss[1]:.4g}" if loss else None,
        f"; {chain_said(facts)}.",
    ]
    evidence = [el("li", line) for line in run.evidence]
    return el(
        "section",
        el("p", *said, class_=f"verdict {verdict_of(facts)}"),
        el("ul", evidence, class_="evidence") if evidence else None,
        el("dl", [card(*one) for one in cards(facts)], class_="cards"),
        id="summary",
    )


def verdict_of(facts: Facts) -> str:
    """How the summary is coloured: good only where nothing of it is bad."""
    if facts.broken or facts.run.state in ("failed", "cancelled") or not all(one.kept for one in story.promises(facts)):
        return "bad"
    return "good" if facts.run.state == "succeeded" else "open"


def cards(facts: Facts) -> list[tuple[str, Child, Child]]:
    """Name, figure, and what stands beside it."""
    run, cost, progress = facts.run, facts.cost, facts.run.progress
    rate = story.typical(facts.series.get("images_per_second", []))
    found: list[tuple[str, Child, Child]] = [
        ("cost", dollars(cost.dollars, "dollars"), of_prediction(facts)),
        ("accelerator-hours", exact(f"{cost.accelerator_hours:,.3f}", cost.accelerator_hours, "accelerator-hours"), None),
        ("steps", exact(f"{progress.step:,}", progress.step, "steps"), f"of {progress.total_steps:,}"),
        ("loss", figure(progress.loss, name="loss") if progress.loss is not None else "–", "of the last step"),
        ("images/s", figure(rate) if rate is not None else "–", "median"),
        ("attempts", exact(str(run.attempt), run.attempt, "attempts"), f"of {run.attempts_allowed}" if run.attempts_allowed else None),
    ]
    for name in story.score_names(facts)[:6]:
        step, value, _ = facts.series[name][-1]
        found.append((name.replace("_", " "), figure(value, name=name), f"at step {step:,}"))
    return found


def card(name: str, value: Child, beside: Child) -> Markup:
    return el("div", el("dt", name), el("dd", value), el("dd", beside, class_="quiet") if beside else None)


def state_said(facts: Facts) -> str:
    run = facts.run
    words = {"succeeded": "Succeeded", "failed": "Failed", "cancelled": "Cancelled", "paused": "Paused"}
    word = words.get(run.state, f"Not over ({run.state})")
    return f"{word} by {run.cause}" if run.cause and run.state in ("failed", "paused") else word


def of_prediction(facts: Facts) -> Child:
    caps = [one.cap for one in story.promises(facts) if one.cap.unit == "dollars"]
    if caps:
        return f"of ${caps[0].limit:,.2f} promised"
    return f"${facts.cost.predicted.dollars:,.2f} predicted" if facts.cost.predicted else None


def asked(facts: Facts) -> Markup:
    """The recipe in short, and what a fork changed."""
    run, recipe = facts.run, facts.recipe
    predicted = facts.estimate.predicted if facts.estimate else None
    rows: list[tuple[str, Child]] = [
        ("recipe", run.name),
        ("about", recipe.get("description")),
        ("model", in_words(recipe, "model", ("hidden_size", "depth", "heads", "patch_size", "bottleneck_size"))),
        ("parameters", f"{predicted['parameters']:,}" if predicted else None),
        ("text", in_words(recipe, "text", ("source", "tokens"))),
        ("data", sources(recipe)),
        ("optimizer", in_words(recipe, "optimizer", ("kind", "learning_rate", "muon_learning_rate"))),
        ("schedule", in_words(recipe, "schedule", ("kind", "warmup_steps"))),
        ("hardware", in_words(recipe, "hardware", HARDWARE)),
        ("limits", in_words(recipe, "limits", ("hours", "dollars")) or "none promised"),
        ("seed", as_text(recipe.get("seed"))),
        ("labels", ", ".join(f"{key}={value}" for key, value in run.labels.items())),
        ("project", run.project),
        ("forked from", f"{run.parent.run} at step {run.parent.step:,} ({run.parent.weights})" if run.parent else None),
    ]
    stages: list[list[Child]] = []
    for stage in recipe.get("stages", []):
        overrides = as_text(stage["overrides"]) if stage.get("overrides") else "none"
        stages.append([stage.get("name"), stage.get("pixels"), f"{stage.get('steps', 0):,}", stage.get("batch_size"), overrides])
    parts: list[Child] = [pairs(rows), table(["stage", "pixels", "steps", "images a step", "overrides"], stages)]
    if run.parent:
        changed = [[el("code", one.pointer), brief(one.before), brief(one.after)] for one in facts.diff]
        parts.append(el("h3", "What the fork changes in its parent's recipe"))
        parent_unseen = note("Nothing, or the parent cannot be seen.")
        parts.append(table(["field", "parent", "this run"], changed, words=3) if changed else parent_unseen)
    return section("What was asked", *parts, note("The whole recipe stands at the end."), id="asked")


def in_words(recipe: dict[str, Any], section: str, names: tuple[str, ...]) -> str:
    part: dict[str, Any] = recipe.get(section) or {}
    words = [(name.replace("_", " "), part[name]) for name in names if part.get(name) is not None]
    return ", ".join(f"{name} {value if isinstance(value, str) else as_text(value)}" for name, value in words)


def sources(recipe: dict[str, Any]) -> str:
    data: dict[str, Any] = recipe.get("data") or {}
    urls: list[dict[str, Any]] = data.get("sources") or []
    return ", ".join(str(source.get("url")) for source in urls)


def brief(value: Any) -> str:
    return "nothing" if value is None else story.text(as_text(value))


def learned(facts: Facts) -> Markup:
    """Curves: the loss, what was held out, speed, gradients; then whatever else an evaluation measured."""
    marks = marks_of(facts)

    def lines(*names: str) -> list[Line]:
        return [Line(name, [(float(step), value) for step, value, _ in facts.series.get(name, [])]) for name in names]

    scores = story.score_names(facts)
    validation = [name for name in scores if name.startswith("validation_loss_")]
    charts = [
        chart("loss", "", lines("loss"), marks),
        chart("validation loss", "held-out samples", lines(*validation), marks, smooth=False),
        chart("speed", "images/s", lines("images_per_second"), marks),
        chart("gradient norm", "before clipping", lines("gradient_norm"), marks),
        *(chart(name.replace("_", " "), "", lines(name), marks, smooth=False) for name in scores if name not in validation),
    ]
    return section("What it learned", el("div", charts, class_="charts"), id="curves")


def marks_of(facts: Facts) -> list[Mark]:
    """Stages after the first, and attempts that went on from a checkpoint."""
    stages = [Mark(event.step or 0, str(event.data.get("stage")), "stage") for event in facts.of_type("stage_started") if event.step]
    again = [Mark(event.step or 0, f"attempt {event.attempt}", "attempt") for event in facts.of_type("resumed")]
    unique = {(one.step, one.text): one for one in [*stages, *again]}
    return list(unique.values())[:MARKS_SHOWN]


def drawn(facts: Facts) -> Markup:
    parts: list[Child] = [sheet(one) for one in facts.sheets]
    nothing = note("No pictures were drawn: the recipe has no prompts, or it has not come to them.")
    return section("What it drew", *(parts or [nothing]), id="samples")


def sheet(one: SampleSheet) -> list[Child]:
    """Prompts from top to bottom, steps from left to right."""
    head = el("tr", el("th", "prompt", scope="col", class_="word"), [el("th", f"step {step:,}", scope="col") for step in one.steps])
    body: list[Markup] = []
    for row in one.rows:
        cells: list[Markup] = []
        for step in one.steps:
            found = row.pictures.get(step)
            how = f"{row.prompt} · step {step} · seed {row.seed}"
            side = max(found.sample.width, found.sample.height) if found else 0
            small = "pixels" if side <= 64 else None  # small pictures are shown as they are, not blurred
            cells.append(el("td", el("img", src=found.uri, alt=how, title=how, class_=small) if found else None))
        body.append(el("tr", el("th", row.prompt, scope="row", class_="word"), cells))
    first = next((found.sample for row in one.rows for found in row.pictures.values()), None)
    weights = "averaged weights" if first and first.ema else "weights as trained"
    how = f"{first.width} × {first.height} px, {first.steps} Euler steps, guidance {first.guidance:g}, {weights}; " if first else ""
    left_out = f"{one.left_out} more prompts are not shown; " if one.left_out else ""
    return [
        el("h3", f"Set {one.name}"),
        el("div", el("table", el("thead", head), el("tbody", body), class_="sheet"), class_="scroll"),
        note(f"{how}{left_out}a row is one prompt from the same noise."),
    ]


def plan_and_actual(facts: Facts) -> Markup:
    estimate = facts.estimate
    if estimate is None or estimate.predicted is None:
        return section("Plan against actual", note("The run was accepted without a plan."), id="plan")
    compared = [Comparison.model_validate(one) for one in estimate.comparison]
    rows = [
        [
            one.name,
            el("span", "as predicted" if one.inside else "not as predicted", class_="good" if one.inside else "bad"),
            interval(one.predicted, one.unit),
            figure(one.actual, one.unit, f"actual {one.name}"),
            f"× {one.ratio:.2f}" if one.ratio is not None else "–",
        ]
        for one in compared
    ]
    parts: list[Child] = [table(["", "", "predicted [nine in ten]", "actual", "actual / expected"], rows, words=2)]
    if estimate.renewed:
        now = Renewal.model_validate(estimate.renewed)
        between = f"from {now.ends_at_earliest:%m-%d %H:%M} to {now.ends_at_latest:%m-%d %H:%M}"
        said = f"At its present speed it ends {now.ends_at:%Y-%m-%d %H:%M} ({between}), "
        parts.append(el("p", said, *interval(now.hours, "h"), " and ", *interval(now.dollars, "$"), " in all."))
    use = Interval.model_validate({key: estimate.predicted["utilisation"][key] for key in ("low", "expected", "high")})
    shares = f"{use.expected:.0%} ({use.low:.0%} to {use.high:.0%})"
    parts.append(note(f"Predicted with {shares} of the accelerators' matrix rate. As of {estimate.as_of:%Y-%m-%d %H:%M:%S} UTC."))
    return section("Plan against actual", *parts, id="plan")


def money(facts: Facts) -> Markup:
    cost = facts.cost
    rows = [
        [
            str(one.attempt),
            instant(one.held_from),
            span(one.held_from, one.held_until),
            str(one.accelerators),
            dollars(one.dollars_per_accelerator_hour),
            figure(one.accelerator_hours),
            dollars(one.dollars, f"dollars of attempt {one.attempt}"),
        ]
        for one in cost.attempts
    ]
    titles = ["attempt", "from (UTC)", "held for", "accelerators", "$ each hour", "accelerator-hours", "cost"]
    limits = [
        [
            el("code", cap.name) if cap.name.startswith("/") else cap.name,
            cap.period or "the whole run",
            figure(cap.used, UNITS[cap.unit]),
            figure(cap.limit, UNITS[cap.unit]),
            el("span", "kept" if cap.used <= cap.limit else "passed", class_="good" if cap.used <= cap.limit else "bad"),
        ]
        for cap in cost.caps
    ]
    predicted = cost.predicted
    said = f"${predicted.dollars:,.2f} predicted, by {predicted.basis}. " if predicted else ""
    parts: list[Child] = [
        table(titles, rows, words=2) if rows else note("It has held no accelerator."),
        table(["limit", "of", "used", "promised or allowed", ""], limits, words=2) if limits else None,
        note(said, "Machines cost from launch to release, whether they compute or not."),
    ]
    return section("Cost", *parts, id="cost")


def went_wrong(facts: Facts) -> Markup:
    """Attempts with their ends and what each cost, then what went wrong within them."""
    found = story.attempts(facts)
    rows: list[list[Child]] = []
    for one in found:
        evidence = [el("br"), el("small", " · ".join(one.evidence[:6]))] if one.evidence else None
        ended = [f"{one.ending}{f': {one.cause}' if one.cause else ''}", evidence]
        cost = dollars(one.cost.dollars) if one.cost else "–"
        lost = [f"{one.lost_steps:,} steps, about ", dollars(one.lost_dollars)] if one.lost_steps or one.lost_dollars else "nothing"
        rows.append([str(one.number), ended, f"{one.began_at:,} to {one.reached:,}", cost, lost])
    never = note("It was never launched.")
    parts: list[Child] = [table(["attempt", "how it ended", "steps", "cost", "lost"], rows, words=2) if rows else never]
    faults = story.faults(facts)
    if faults:
        parts.append(el("h3", "While it trained"))
        listed = [[el("code", one.type), [one.meaning, el("br"), el("small", one.last)], str(len(one.events)), one.steps] for one in faults]
        parts.append(table(["event", "", "times", "steps"], listed, words=2))
    else:
        parts.append(note("Nothing else went wrong: no step skipped, no checkpoint lost, no process slow."))
    return section("Faults", *parts, id="faults")


def environment(facts: Facts) -> Markup:
    """What it ran on, as the trainer of each attempt told, and what it left."""
    rows: list[list[Child]] = []
    for event in facts.of_type("attempt_started"):
        told = event.data
        programs: dict[str, str] = told.get("versions") or {}
        versions = ", ".join(f"{name} {version}" for name, version in programs.items())
        device = told.get("device_name") or told.get("device") or "–"
        rows.append([str(event.attempt), str(told.get("host", "–")), str(device), versions or "not told", str(told.get("world_size", "–"))])
    kept = facts.checkpoints
    left: list[tuple[str, Child]] = [
        ("checkpoints", f"{len(kept)}, the newest of step {kept[-1].step:,} ({kept[-1].bytes / 1e6:,.1f} MB)" if kept else "none"),
        ("its digest", el("code", kept[-1].digest) if kept else None),
        ("exports", ", ".join(f"{one.id} of step {one.step:,}: {one.state}" for one in facts.exports)),
        ("service", f"dayrun {facts.service_version}"),
        ("this report", f"dayrun {__version__}"),
    ]
    titles, nobody = ["attempt", "host of rank 0", "device", "versions", "processes"], note("No trainer has reported for work.")
    return section("Environment", table(titles, rows, words=4) if rows else nobody, pairs(left), id="environment")


def chain_said(facts: Facts) -> str:
    return f"its log is broken at event {facts.broken.sequence}" if facts.broken else "its log is whole"


def log(facts: Facts) -> Markup:
    """Whether what is told here is what was recorded."""
    chain = facts.chain
    if facts.broken:
        said = f"Broken: {facts.broken}. Do not rest a decision on this run's history."
        return section("The log", el("p", said, class_="verdict bad"), id="log")
    forgotten = f"; the first {chain.forgotten} are forgotten, as the settings say" if chain.forgotten else ""
    said = f"Proven: each of {chain.length} events is linked to the one before by its digest{forgotten}."
    command = el("code", f"dayrun events --verify {facts.run.id} --noted {chain.length}:{chain.digest}")
    how = note("This proves later that the log still leads through what is reported here: ", command)
    return section("The log", el("p", said, class_="verdict good"), how, id="log")


def recipe(facts: Facts) -> Markup:
    written = json.dumps(facts.recipe, indent=1, ensure_ascii=False)
    return section("The whole recipe", el("pre", written), id="recipe")
