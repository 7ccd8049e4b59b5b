"""What a person types before the money starts: `dayrun preflight`. It adds itself to `main`."""

from pathlib import Path

import click

from dayrun.cli import NOT_OK, OVERRIDES, RECIPE, SET, URL, connected, console, main, named_recipe, patch_of


@main.command()
@RECIPE
@SET
@OVERRIDES
@click.option("--nodes", is_flag=True, help="Also start pods of the run's shape for a matrix product and an all-reduce. Takes its nodes.")
@click.option("--project", default="default", show_default=True, help="Whose run it would be.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@URL
def preflight(
    recipe: str, settings: tuple[str, ...], overrides: Path | None, nodes: bool, project: str, as_json: bool, url: str | None
) -> None:
    """Try the cluster for a run of RECIPE before it costs anything: quotas, queue, nodes, image, store.

    Takes up to three minutes, and leaves nothing. What stands against the run says what to change: a place in the recipe, one in the
    cluster's `profile:`, or a `setting:` of the service. Exit code 1 if anything does.
    """
    from dayrun.plan import Finding
    from dayrun.plan_table import verdict_lines

    document, patch = named_recipe(recipe), patch_of(settings, overrides)
    with connected(url) as client:
        found = client.preflight(document, overrides=patch or None, project=project, nodes=nodes)
    if as_json:
        click.echo(found.model_dump_json(indent=1))
    else:
        console().print(verdict_lines([Finding.model_validate(one) for one in found.findings]))
    if not found.can_start:
        raise click.exceptions.Exit(NOT_OK)
