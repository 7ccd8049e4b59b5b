"""The report as one HTML file: no script, no outside address, readable on a screen and on paper (A4)."""

from importlib.resources import files

from dayrun.report import sections
from dayrun.report.gather import Facts
from dayrun.report.markup import el, raw
from dayrun.report.tables import instant

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Even where a hostile name got through, a browser would load and run nothing."""


def page(facts: Facts) -> str:
    """The whole document, as text in UTF-8."""
    run = facts.run
    title = f"{run.name} · {run.id}"
    style = files("dayrun.report").joinpath("report.css").read_text(encoding="utf-8")
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="referrer", content="no-referrer"),
        el("title", title),
        el("style", raw(style)),
    )
    times = [" · made ", instant(run.created_at), " · ended ", instant(run.ended_at), " · as of ", instant(facts.at), " UTC"]
    header = el(
        "header",
        el("p", "Report of a training run", class_="quiet"),
        el("h1", run.name),
        el("p", el("code", run.id), *times),
    )
    body = el(
        "main",
        header,
        sections.summary(facts),
        sections.asked(facts),
        sections.learned(facts),
        sections.drawn(facts),
        sections.plan_and_actual(facts),
        sections.money(facts),
        sections.went_wrong(facts),
        sections.environment(facts),
        sections.log(facts),
        sections.recipe(facts),
    )
    return f"<!doctype html>\n{el('html', head, el('body', body), lang='en')}\n"
