"""What a person types to go on from a run's checkpoints: fork, draw, export; and to cancel many runs. Registered by `cli.py`."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from dayrun import complete
from dayrun.cli import NOT_OK, OVERRIDES, RUN, SET, URL, WRONG, chosen, connected, fail, labels_of, main, patch_of, report_end, watched

if TYPE_CHECKING:
    from dayrun.answers import Job

STEP = click.option("--step", type=int, help="Which checkpoint. Default: the newest.")


def run_at_step(text: str) -> tuple[str, int | None]:
    """`RUN@STEP` as both."""
    run_id, at, step = text.partition("@")
    if at and not step.isdecimal():
        raise fail(f"{text}: after @ comes a step, e.g. {run_id}@1000", code=WRONG)
    return run_id, int(step) if at else None


@main.command()
@click.argument("place", metavar="RUN[@STEP]", shell_complete=complete.run_ids)
@SET
@OVERRIDES
@click.option(
    "--weights",
    type=click.Choice(["all", "model", "ema"]),
    default="all",
    show_default=True,
    help="all: go on where it was. model, ema: a fresh run whose first weights are the trained ones, or their averages.",
)
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Label the fork. Repeatable. Default: the run's labels.")
@click.option("--project", help="Whose run it will be. Default: the run's project.")
@click.option("--detach", is_flag=True, help="Return at once instead of watching.")
@URL
def fork(
    place: str,
    settings: tuple[str, ...],
    overrides: Path | None,
    weights: Literal["all", "model", "ema"],
    labels: tuple[str, ...],
    project: str | None,
    detach: bool,
    url: str | None,
) -> None:
    """Train on from a checkpoint of RUN (default: its newest) with another recipe. What the recipe changes is printed."""
    name, step = run_at_step(place)
    patch = patch_of(settings, overrides)
    with connected(url) as client:
        parent = chosen(client, name)
        named = labels_of(labels) if labels else None
        made = client.fork(parent, step, overrides=patch or None, weights=weights, labels=named, project=project)
        assert made.parent is not None
        click.echo(f"{made.id}  {client.url}/#/runs/{made.id}")
        click.echo(f"from step {made.parent.step} of {parent} ({weights})")
        for one in made.diff or []:
            click.echo(f"  {one.pointer}: {short(one.before)} → {short(one.after)}")
        if not detach:
            report_end(watched(client, made.id))


@main.command()
@click.argument("run_id", metavar="RUN", shell_complete=complete.run_ids)
@click.argument("prompts", nargs=-1, required=True, metavar="PROMPT…")
@STEP
@click.option("--seed", type=int, default=0, show_default=True, help="Of the first picture; each one after takes the next.")
@click.option("--guidance", type=float, help="Strength of classifier-free guidance; 1 is none. Default: as the run's own samples.")
@click.option("--steps", type=int, help="Euler steps from noise to picture. Default: as the run's own samples.")
@click.option("--ema/--no-ema", "ema", default=None, help="With the averaged weights or without. Default: as the run's own samples.")
@click.option("--out", type=click.Path(path_type=Path), help="File to write. Default: <draw>.png here.")
@URL
def draw(
    run_id: str,
    prompts: tuple[str, ...],
    step: int | None,
    seed: int,
    guidance: float | None,
    steps: int | None,
    ema: bool | None,
    out: Path | None,
    url: str | None,
) -> None:
    """Draw PROMPTs from a checkpoint of RUN, and save them as one picture, or as a gallery."""
    from dayrun.sheet import gallery, read

    with connected(url) as client:
        asked = client.draw(chosen(client, run_id), list(prompts), step=step, seed=seed, guidance=guidance, steps=steps, ema=ema)
        drawn = client.finished(asked)
        refuse_failure(drawn)
        pictures = [(one.prompt, read(client.picture(one))) for one in drawn.pictures]
    columns = min(8, math.ceil(math.sqrt(len(pictures))))
    page = pictures[0][1] if len(pictures) == 1 else gallery(f"step {drawn.step} of {drawn.run}", pictures, columns)
    target = out or Path(f"{drawn.id}.png")
    try:
        page.save(target, "PNG")
    except (OSError, ValueError) as error:  # ValueError: Pillow's word for an ending that it does not know
        raise fail(f"--out {target}: {error}") from None
    click.echo(f"{target}: {len(pictures)} drawn from step {drawn.step}")


@main.command()
@RUN
@STEP
@click.option("--out", type=click.Path(path_type=Path), help="Folder to download to. Default: <run>-<step> here.")
@click.option("--no-download", is_flag=True, help="Leave the files where they are; print their addresses.")
@URL
def export(run_id: str | None, step: int | None, out: Path | None, no_download: bool, url: str | None) -> None:
    """Make a diffusers folder of a checkpoint, and download it."""
    with connected(url) as client:
        made = client.finished(client.export(chosen(client, run_id), step))
        refuse_failure(made)
        target = out or Path(f"{made.run}-{made.step}")
        for file in made.files:
            if no_download:
                click.echo(f"{client.url}{file.url}  {file.bytes}")
                continue
            try:
                client.download(file, target / file.path)
            except OSError as error:
                raise fail(f"--out {target}: {error}") from None
    if not no_download:
        click.echo(f"{target}: step {made.step}, {len(made.files)} files, {made.bytes / 1e6:.1f} MB")


@main.command()
@RUN
@click.option("--all", "everything", is_flag=True, help="Every run that can be cancelled and fits the filters.")
@click.option("--state", "states", multiple=True, shell_complete=complete.states, help="With --all: only runs in this state. Repeatable.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="With --all: only runs with this label. Repeatable.")
@click.option("--project", help="With --all: only runs of this project.")
@URL
def cancel(
    run_id: str | None, everything: bool, states: tuple[Any, ...], labels: tuple[str, ...], project: str | None, url: str | None
) -> None:
    """Stop a run for good. What it made stays readable."""
    if not everything and (states or labels or project):
        raise fail("--state, --label and --project choose among many: add --all", code=WRONG)
    if everything and run_id is not None:
        raise fail(f"--all or {run_id}, not both", code=WRONG)
    with connected(url) as client:
        if not everything:
            moved = client.cancel(chosen(client, run_id))
            click.echo(f"{moved.id}  {moved.state}")
            return
        any_state: list[Any] = ["queued", "launching", "running", "pausing", "paused"]
        wanted = list(states) or ([] if labels or project else any_state)
        found = list(client.cancel_runs(wanted, labels_of(labels), project))
        for one in found:
            click.echo(f"{one.id}  {one.state}" + (f"  ({one.because})" if one.because else ""))
    if not found:
        click.echo("no run fits")


def refuse_failure(job: "Job") -> None:
    """End with what kept a draw or an export from being done."""
    if job.state != "done":
        because = f": {job.error.cause}: {job.error.because}" if job.error else ""
        raise fail(f"{job.id} {job.state}{because}", *(job.error.evidence if job.error else []), code=NOT_OK)


def short(value: Any) -> str:
    from dayrun.recipe_errors import as_text

    return "nothing" if value is None else as_text(value)
