"""What a shell completes after `dayrun …`: names and ids. Asked at each press of a key: quick, and silent where nothing can be known."""

from typing import TYPE_CHECKING, get_args

from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    import click

SECONDS = 1.0
"""A service that takes longer is not waited for."""
RUNS = 50


def run_ids(_ctx: "click.Context", _param: "click.Parameter", incomplete: str) -> list[CompletionItem]:
    """The newest runs, by id, with what they are."""
    from dayrun.client import Client, ServiceError, Unreachable

    try:
        with Client(timeout_seconds=SECONDS) as client:
            found = list(client.runs(limit=RUNS))
    except (ServiceError, Unreachable, ValueError):  # no service, no key, or something else at its address
        return []
    return [CompletionItem(run.id, help=f"{run.name}, {run.state}") for run in found if run.id.startswith(incomplete)]


def recipes(_ctx: "click.Context", _param: "click.Parameter", incomplete: str) -> list[CompletionItem]:
    """Built-in recipes; and files, which a recipe may be as well."""
    from dayrun import builtin

    names = [CompletionItem(name, help=builtin.about(name)) for name in builtin.names() if name.startswith(incomplete)]
    return [*names, CompletionItem(incomplete, type="file")]


def builtin_recipes(ctx: "click.Context", param: "click.Parameter", incomplete: str) -> list[CompletionItem]:
    return recipes(ctx, param, incomplete)[:-1]


def states(_ctx: "click.Context", _param: "click.Parameter", incomplete: str) -> list[CompletionItem]:
    from dayrun.answers import State

    return [CompletionItem(state) for state in get_args(State) if state.startswith(incomplete)]
