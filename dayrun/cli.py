"""What a person types. Every command loads what it needs when it runs: `dayrun --help` must come at once."""

import json
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dayrun import __version__, complete
from dayrun.cli_input import NOT_OK, WRONG, fail, labels_of, named_recipe, one_field, patch_of
from dayrun.manual import Group, rest_of_page

if TYPE_CHECKING:
    from collections.abc import Generator

    from rich.console import Console

    from dayrun.client import Client, Run


def console() -> "Console":
    from rich.console import Console

    # into a file or a pipe go whole lines
    return Console() if sys.stdout.isatty() else Console(width=160)


@contextmanager
def connected(url: str | None) -> "Generator[Client]":
    """A client; what the service refuses becomes lines on stderr and an exit code."""
    from dayrun.client import Client, ServiceError, Unreachable
    from dayrun.show import problem_lines

    try:
        with Client(url) as client:
            yield client
    except Unreachable as error:
        raise fail(str(error)) from None
    except ServiceError as error:
        raise fail(*problem_lines(error.detail, error.errors)) from None


def chosen(client: "Client", run_id: str | None) -> str:
    """The run that was named, by its id or an unmistakable part of it; the newest when none was."""
    runs = list(client.runs(limit=1 if run_id is None else None)) if run_id is None or len(run_id) < 30 else []
    if run_id is None:
        if not runs:
            raise fail("there is no run yet; start one with `dayrun run demo`")
        return runs[0].id
    matching = [run.id for run in runs if run_id in run.id]
    if len(matching) > 1:
        raise fail(f"{run_id} could be {', '.join(matching[:4])}: give more of it")
    return matching[0] if matching else run_id


SET = click.option("--set", "settings", multiple=True, metavar="/POINTER=JSON", help="Override one field, e.g. --set /seed=7. Repeatable.")
OVERRIDES = click.option(
    "--overrides", type=click.Path(path_type=Path), help="File with a JSON Merge Patch onto the recipe. Default: none."
)
URL = click.option("--url", help="Address of the service. Default: DAYRUN_URL, or the service on this machine.")
RUN = click.argument("run_id", metavar="[RUN]", required=False, shell_complete=complete.run_ids)
RECIPE = click.argument("recipe", shell_complete=complete.recipes)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="dayrun")
def main() -> None:
    """A recipe in, a text-to-image model in a day, at a price told beforehand.

    Start with `dayrun serve` in one terminal and `dayrun run demo` in another. Where RUN is left out, the newest run is meant; a part of
    its id is enough.
    """


@main.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True}, add_help_option=False)
@click.pass_context
def serve(ctx: click.Context) -> None:
    """Run the service with all its parts on this machine, until Ctrl-C."""
    become(ctx, "service", [], "this is the client alone; the service comes with a clone of the repository: run `make serve` there")


def become(ctx: click.Context, module: str, arguments: list[str], absent: str) -> None:
    """Let a module of the repository carry the command out, in place of this process; for its help, print it and the rest of the page."""
    import os
    import subprocess

    root = Path(__file__).resolve().parents[1]
    asked = bool({"-h", "--help"} & set(ctx.args))
    if not (root / module.split(".")[0] / "__main__.py").is_file():
        if asked:
            click.echo(ctx.get_help())
            return
        raise fail(absent, code=WRONG)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", module, *arguments, *ctx.args]
    if not asked:
        os.execv(sys.executable, command)
    sys.stdout.flush()
    code = subprocess.run(command).returncode
    click.echo(f"\n{rest_of_page(ctx)}", nl=False)
    raise click.exceptions.Exit(code)


@main.command()
@RECIPE
@SET
@OVERRIDES
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Label the run. Repeatable.")
@click.option("--project", default="default", show_default=True, help="Whose run it is.")
@click.option(
    "--priority",
    type=click.IntRange(-100, 100),
    default=0,
    show_default=True,
    help="Higher ones leave the queue first. Above 0 takes an admin.",
)
@click.option("--detach", is_flag=True, help="Return at once instead of watching.")
@URL
def run(
    recipe: str,
    settings: tuple[str, ...],
    overrides: Path | None,
    labels: tuple[str, ...],
    project: str,
    priority: int,
    detach: bool,
    url: str | None,
) -> None:
    """Train RECIPE: the name of a built-in one, or a JSON file."""
    document, patch, named = named_recipe(recipe), patch_of(settings, overrides), labels_of(labels)
    with connected(url) as client:
        made = client.create_run(document, overrides=patch or None, labels=named, project=project, priority=priority)
        click.echo(f"{made.id}  {client.url}/#/runs/{made.id}")
        if not detach:
            report_end(watched(client, made.id))


@main.command()
@RECIPE
@SET
@OVERRIDES
@click.option("--json", "as_json", is_flag=True, help="As JSON: every figure with its interval, and the arithmetic.")
@click.option("--explain", is_flag=True, help="With the arithmetic, line by line.")
def plan(recipe: str, settings: tuple[str, ...], overrides: Path | None, as_json: bool, explain: bool) -> None:
    """What training RECIPE will take: hours, dollars, memory. Needs no service and no accelerator.

    RECIPE is the name of a built-in one, or a JSON file. Exit code 1 if the recipe makes no sense; a plan that breaks a limit, or that this
    trainer cannot carry out yet, is still a plan.
    """
    import os

    from dayrun import builtin
    from dayrun.plan import plan as planned
    from dayrun.recipe import merge_patch
    from dayrun.rules import RecipeErrors, load

    document = named_recipe(recipe)
    try:
        whole = builtin.get(recipe) if document is recipe else document
    except builtin.UnknownRecipe as error:
        raise fail(str(error), code=WRONG) from None
    try:
        loaded = load(merge_patch(whole, patch_of(settings, overrides)), for_training=False)
        found = planned(loaded, cores=os.cpu_count())
    except RecipeErrors as errors:
        raise fail(*(f"{recipe}: {error}" for error in errors.errors)) from None
    if as_json:
        click.echo(found.model_dump_json(indent=1))
    else:
        from dayrun.plan_table import show

        show(console(), found, explain)


@main.command("list")
@click.option("--state", "states", multiple=True, shell_complete=complete.states, help="Only runs in this state. Repeatable.")
@click.option("--project", help="Only runs of this project.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Only runs with this label. Repeatable.")
@click.option("--recipe", "fields", multiple=True, metavar="/POINTER=JSON", help="Only runs whose recipe has this value. Repeatable.")
@click.option("--limit", default=20, show_default=True, help="How many, newest first.")
@click.option("--json", "as_json", is_flag=True, help="As JSON lines.")
@URL
def list_runs(
    states: tuple[Any, ...],
    project: str | None,
    labels: tuple[str, ...],
    fields: tuple[str, ...],
    limit: int,
    as_json: bool,
    url: str | None,
) -> None:
    """Runs, newest first."""
    from dayrun.show import run_table

    with connected(url) as client:
        wanted = dict(one_field(field) for field in fields)
        runs = list(client.runs(list(states), limit, project=project, labels=labels_of(labels), recipe=wanted))
    if as_json:
        for one in runs:
            click.echo(one.model_dump_json())
    elif runs:
        console().print(run_table(runs))
    else:
        filtered = states or project or labels or fields
        click.echo("no run fits" if filtered else "no runs; start one with `dayrun run demo`")


@main.command()
@RUN
@click.option("--json", "as_json", is_flag=True, help="As JSON, with the recipe.")
@URL
def show(run_id: str | None, as_json: bool, url: str | None) -> None:
    """One run: state, progress, cost, what happened last."""
    from dayrun.show import run_in_full

    with connected(url) as client:
        run = client.run(chosen(client, run_id))
        events = [] if as_json else list(client.events(run.id))
    if as_json:
        click.echo(run.model_dump_json(indent=1))
    else:
        console().print(run_in_full(run, events))


@main.command()
@RUN
@URL
def watch(run_id: str | None, url: str | None) -> None:
    """Follow a run: progress, time left, loss, images/s. Ctrl-C leaves it running. Exit code 0 only if it succeeded."""
    with connected(url) as client:
        report_end(watched(client, chosen(client, run_id)))


@main.command()
@RUN
@click.option("--attempt", type=int, help="Which launch. Default: the newest.")
@click.option("--rank", help="Which process, or `launcher`. Default: 0.")
@click.option("--tail", type=int, help="Only the last lines: how many.")
@URL
def logs(run_id: str | None, attempt: int | None, rank: str | None, tail: int | None, url: str | None) -> None:
    """What the processes of a run printed."""
    with connected(url) as client:
        click.echo(client.logs(chosen(client, run_id), attempt, rank, tail), nl=False)


def move_command(name: str, help: str) -> None:
    @main.command(name, help=help)
    @RUN
    @URL
    def command(run_id: str | None, url: str | None) -> None:  # pyright: ignore[reportUnusedFunction]
        with connected(url) as client:
            moves: dict[str, Callable[[str], Run]] = {"pause": client.pause, "resume": client.resume}
            moved = moves[name](chosen(client, run_id))
            click.echo(f"{moved.id}  {moved.state}")


move_command("pause", "Write a checkpoint and stop; `resume` goes on from there.")
move_command("resume", "Go on with a paused or failed run from its newest good checkpoint.")


@main.command()
@RUN
@click.option("--out", type=click.Path(path_type=Path), help="File to write. Default: <run>.png here.")
@click.option("--set", "name", help="Which sample set. Default: the first.")
@click.option("--width", type=click.IntRange(32, 256), default=112, show_default=True, help="Pixels of each picture on the sheet.")
@URL
def samples(run_id: str | None, out: Path | None, name: str | None, width: int, url: str | None) -> None:
    """Download what the model drew so far as one contact sheet: prompts from top to bottom, steps from left to right."""
    from dayrun.sheet import Row, progress_sheet, read

    with connected(url) as client:
        run = client.run(chosen(client, run_id))
        found = list(client.samples(run.id, sets=[name] if name else None))
        if not found:
            raise fail(f"{run.id} has not drawn {f'any of set {name!r}' if name else 'anything'} yet")
        found = [one for one in found if one.set == (name or found[0].set)]
        rows: dict[str, Row] = {}
        for one in found[:2000]:
            rows.setdefault(one.prompt, Row(one.prompt)).pictures[str(one.step)] = read(client.picture(one))
        page = progress_sheet(
            f"{run.name} · {run.id}", list(rows.values())[:200], [str(s) for s in sorted({one.step for one in found})], width
        )
    target = out or Path(f"{run.id}.png")
    try:
        page.save(target, "PNG")
    except OSError as error:
        raise fail(f"--out {target}: {error.strerror or error}") from None
    click.echo(f"{target}: {len(rows)} prompts")


@main.group()
def recipe() -> None:
    """Built-in recipes, and what is wrong with one of yours."""


@recipe.command("list")
def recipe_list() -> None:
    """Recipes that `dayrun run` knows by name."""
    from rich.table import Table

    from dayrun import builtin

    table = Table(box=None, pad_edge=False, show_header=False)
    for name in builtin.names():
        table.add_row(name, builtin.about(name))
    console().print(table)


@recipe.command("show")
@click.argument("name", shell_complete=complete.builtin_recipes)
@click.option("--effective", is_flag=True, help="With every default written out.")
def recipe_show(name: str, effective: bool) -> None:
    """Print a built-in recipe as JSON: a start for your own."""
    from dayrun import builtin
    from dayrun.recipe import Recipe

    try:
        document = builtin.get(name)
    except builtin.UnknownRecipe as error:
        raise fail(str(error), code=WRONG) from None
    click.echo(json.dumps(Recipe.model_validate(document).model_dump(mode="json") if effective else document, indent=2, ensure_ascii=False))


@recipe.command("check")
@click.argument("file", type=click.Path(path_type=Path))
def recipe_check(file: Path) -> None:
    """Say everything that is wrong with the recipe in FILE (`-` reads standard input), as the service would."""
    from dayrun.rules import RecipeErrors, load

    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise fail(f"FILE {file}: {error.strerror}", code=WRONG) from None
    try:
        found = load(data)
    except RecipeErrors as errors:
        for error in errors.errors:
            click.echo(f"{file}: {error}", err=True)
        raise click.exceptions.Exit(NOT_OK) from None
    hardware = found.hardware
    click.echo(f"{file}: {found.name} can be trained: {found.total_steps:,} steps on {hardware.world_size} × {hardware.accelerator}")


@main.command()
def version() -> None:
    """The version of dayrun."""
    click.echo(__version__)


def watched(client: "Client", run_id: str) -> "Run":
    from dayrun.show import watch

    try:
        return watch(client, run_id, console())
    except KeyboardInterrupt:
        click.echo(f"\n{run_id} trains on; `dayrun watch` follows it again, `dayrun cancel` stops it", err=True)
        raise click.exceptions.Exit(130) from None


def report_end(run: "Run") -> None:
    if run.state == "succeeded":
        click.echo(f"{run.id} succeeded after {run.progress.step} steps; `dayrun samples` downloads its pictures")
        return
    lines = [f"{run.id} {run.state}" + (f": {run.cause}" if run.cause else ""), *run.evidence[:12]]
    raise fail(*lines)


# the commands of other files: they take options and errors from above, and add themselves to `main`
from dayrun import cli_access as cli_access  # noqa: E402
from dayrun import cli_completion as cli_completion  # noqa: E402
from dayrun import cli_data as cli_data  # noqa: E402
from dayrun import cli_log as cli_log  # noqa: E402
from dayrun import cli_money as cli_money  # noqa: E402
from dayrun import cli_preflight as cli_preflight  # noqa: E402
from dayrun import cli_report as cli_report  # noqa: E402
from dayrun import cli_work as cli_work  # noqa: E402
