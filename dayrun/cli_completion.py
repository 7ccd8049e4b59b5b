"""`dayrun completion`: what makes a shell complete commands, options, recipes and runs. It adds itself to `main`."""

import click
from click.shell_completion import get_completion_class

from dayrun.cli import main


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete `dayrun`: commands, options, recipes, and ids of runs where a service answers."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(main, {}, "dayrun", "_DAYRUN_COMPLETE").source())
