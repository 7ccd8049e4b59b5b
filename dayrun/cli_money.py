"""What a person types about money and room: `dayrun cost`, `usage`, `reprioritise`. They add themselves to `main`."""

import click

from dayrun import complete
from dayrun.cli import RUN, URL, chosen, connected, console, main


@main.command(context_settings={"ignore_unknown_options": True})  # -5 is a priority, no option
@click.argument("run_id", metavar="RUN", shell_complete=complete.run_ids)
@click.argument("priority", type=click.IntRange(-100, 100))
@URL
def reprioritise(run_id: str, priority: int, url: str | None) -> None:
    """Give a queued RUN another PRIORITY: those with higher ones leave the queue first."""
    with connected(url) as client:
        changed = client.change_run(chosen(client, run_id), priority=priority)
        click.echo(f"{changed.id}  {changed.state}, priority {changed.priority}")


@main.command()
@RUN
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@URL
def cost(run_id: str | None, as_json: bool, url: str | None) -> None:
    """What a run has cost by attempt, what it will cost, and what its limits leave."""
    from dayrun.show_money import cost_in_full

    with connected(url) as client:
        found = client.cost(chosen(client, run_id))
    if as_json:
        click.echo(found.model_dump_json(indent=1))
    else:
        console().print(cost_in_full(found))


@main.command()
@click.argument("project", default="default")
@click.option("--runs", default=20, show_default=True, type=click.IntRange(0, 200), help="How many runs, the dearest first.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@URL
def usage(project: str, runs: int, as_json: bool, url: str | None) -> None:
    """What PROJECT spends today and this month, what it holds, reserves and may."""
    from dayrun.show_money import usage_in_full

    with connected(url) as client:
        found = client.usage(project, runs)
    if as_json:
        click.echo(found.model_dump_json(indent=1))
    else:
        console().print(usage_in_full(found))
