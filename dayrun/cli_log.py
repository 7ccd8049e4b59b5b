"""`dayrun events`, `audit` and `webhooks`: what happened, who did it, and who is told."""

from typing import TYPE_CHECKING

import click

from dayrun.cli import RUN, URL, WRONG, chosen, connected, console, fail, labels_of, main

if TYPE_CHECKING:
    from dayrun.client import Client
    from dayrun.event_chain import Head


@main.command()
@RUN
@click.option("--verify", is_flag=True, help="Prove that nothing in the log was changed, removed, added or moved; say where if it was.")
@click.option("--all", "everything", is_flag=True, help="With --verify: every run.")
@click.option(
    "--noted", metavar="LENGTH:DIGEST", help="With --verify: a head noted before, which the log must still lead through. Default: none."
)
@URL
def events(run_id: str | None, verify: bool, everything: bool, noted: str | None, url: str | None) -> None:
    """What happened to a run, oldest first; or whether its log is whole."""
    from dayrun.show import event_line

    if (everything or noted) and not verify:
        raise fail("--all and --noted go with --verify", code=WRONG)
    if everything and (run_id or noted):
        raise fail("--all is every run: leave out RUN and --noted", code=WRONG)
    head = noted_head(noted) if noted else None
    with connected(url) as client:
        if not verify:
            for event in client.events(chosen(client, run_id)):
                console().print(event_line(event))
            return
        runs = [run.id for run in client.runs()] if everything else [chosen(client, run_id)]
        broken = [one for one in runs if not proven(client, one, head)]
    if broken:
        raise fail(f"{len(broken)} of {len(runs)} logs {'is' if len(broken) == 1 else 'are'} broken")


def proven(client: "Client", run_id: str, noted: "Head | None") -> bool:
    broken = client.verify_events(run_id, noted)
    if broken:
        click.echo(f"dayrun: {broken}", err=True)
        return False
    chain = client.chain(run_id)
    forgotten = f", the first {chain.forgotten} are forgotten" if chain.forgotten else ""
    click.echo(f"{run_id}  {chain.length} events{forgotten}  {chain.length}:{chain.digest}")
    return True


def noted_head(text: str) -> "Head":
    from dayrun.event_chain import Head

    length, _, digest = text.partition(":")
    if not (length.isdigit() and len(digest) == 64):
        raise fail(f"--noted {text!r}: write LENGTH:DIGEST as `dayrun events --verify` prints it", code=WRONG)
    return Head(int(length), digest)


@main.command()
@click.option("--project", help="Only of this project.")
@click.option("--actor", help="Only what this one did.")
@click.option("--type", help="Only events of this type.")
@click.option("--limit", default=50, show_default=True, help="How many, newest first.")
@URL
def audit(project: str | None, actor: str | None, type: str | None, limit: int, url: str | None) -> None:
    """Who did what, newest first."""
    filters = {name: value for name, value in (("project", project), ("actor", actor), ("type", type)) if value}
    with connected(url) as client:
        for entry in client.audit(limit, **filters):
            said = "  ".join(f"{name} {value}" for name, value in entry.data.items())
            at = entry.time.astimezone().strftime("%Y-%m-%d %H:%M:%S")
            click.echo(f"{at}  {entry.actor}  {entry.type}  {entry.run_id or entry.project}  {said}  {entry.request_id or ''}".rstrip())


@main.group()
def webhooks() -> None:
    """Addresses that are told of events by signed requests."""


@webhooks.command("list")
@URL
def webhooks_list(url: str | None) -> None:
    """Webhooks of your projects."""
    with connected(url) as client:
        for one in client.webhooks():
            state = f"disabled: {one.disabled_because}" if one.disabled_at else "on"
            click.echo(f"{one.id}  {one.project}  {one.url}  {','.join(one.events)}  {state}")


@webhooks.command("create")
@click.argument("address", metavar="ADDRESS")
@click.option("--event", "types", multiple=True, help="Only events of this type. Repeatable.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Only of runs with this label. Repeatable.")
@click.option("--project", default="default", show_default=True, help="Whose runs it is told of.")
@URL
def webhooks_create(address: str, types: tuple[str, ...], labels: tuple[str, ...], project: str, url: str | None) -> None:
    """Send events to ADDRESS. Prints the id, and the secret, which is not shown again."""
    named = labels_of(labels)
    with connected(url) as client:
        made = client.create_webhook(address, events=list(types) or None, labels=named, project=project)
        click.echo(f"{made.id}  {made.secret}")


@webhooks.command("delete")
@click.argument("webhook_id", metavar="WEBHOOK")
@URL
def webhooks_delete(webhook_id: str, url: str | None) -> None:
    """Send nothing more."""
    with connected(url) as client:
        client.delete_webhook(webhook_id)


@webhooks.command("enable")
@click.argument("webhook_id", metavar="WEBHOOK")
@URL
def webhooks_enable(webhook_id: str, url: str | None) -> None:
    """Send to a disabled webhook again."""
    with connected(url) as client:
        click.echo(client.enable_webhook(webhook_id).id)


@webhooks.command("test")
@click.argument("webhook_id", metavar="WEBHOOK")
@URL
def webhooks_test(webhook_id: str, url: str | None) -> None:
    """Send a test message."""
    with connected(url) as client:
        click.echo(client.test_webhook(webhook_id).id)


@webhooks.command("deliveries")
@click.argument("webhook_id", metavar="WEBHOOK")
@click.option("--state", type=click.Choice(["due", "delivered", "failed"]), help="Only messages of which this came.")
@click.option("--limit", default=20, show_default=True, help="How many, newest first.")
@URL
def webhooks_deliveries(webhook_id: str, state: str | None, limit: int, url: str | None) -> None:
    """What was sent and what is due."""
    with connected(url) as client:
        for one in client.deliveries(webhook_id, state, limit):
            answer = (one.answer or "").splitlines()[:1]
            click.echo(f"{one.id}  {one.type}  {one.run_id or '-'}  {one.state}  {one.tries} tries  {''.join(answer)[:80]}".rstrip())


@webhooks.command("replay")
@click.argument("webhook_id", metavar="WEBHOOK")
@click.argument("delivery_id", metavar="DELIVERY")
@URL
def webhooks_replay(webhook_id: str, delivery_id: str, url: str | None) -> None:
    """Send a message again, with the same id."""
    with connected(url) as client:
        click.echo(f"{client.replay(webhook_id, delivery_id).id}  due")
