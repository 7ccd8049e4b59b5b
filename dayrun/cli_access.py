"""`dayrun keys` and `dayrun projects`: who may do what. A key is taken from DAYRUN_KEY only: a flag would show in the list of processes."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dayrun.cli import URL, WRONG, connected, console, fail, main

if TYPE_CHECKING:
    from dayrun.answers import Key, KeyRole, MemberRole

MEMBER_ROLES = click.Choice(["viewer", "writer", "admin"])


@main.group()
def keys() -> None:
    """API keys. The first one is made on the server: `dayrun keys create --bootstrap`."""


@keys.command("create")
@click.argument("name", required=False)
@click.option("--bootstrap", is_flag=True, help="Make the first operator's key: on the server, straight into its database.")
@click.option("--force", is_flag=True, help="With --bootstrap: although there is an operator's key.")
@click.option("--project", help="Whose runs it is for. Default: none, which an operator's key alone may have.")
@click.option(
    "--role", type=click.Choice(["viewer", "writer", "admin", "operator"]), default="writer", show_default=True, help="What it may do."
)
@click.option("--days", type=click.IntRange(0, 3650), default=90, show_default=True, help="Days that it works; 0: until it is revoked.")
@URL
def create_key(name: str | None, bootstrap: bool, force: bool, project: str | None, role: "KeyRole", days: int, url: str | None) -> None:
    """Make a key and print it, once: NAME says what it is for."""
    if bootstrap:
        if project is not None or url is not None:
            raise fail("--bootstrap makes an operator's key on this machine: it takes neither --project nor --url", code=WRONG)
        on_the_server(["--days", str(days), *(["--name", name] if name else []), *(["--force"] if force else [])])
    if not name:
        raise fail("NAME is missing: say what the key is for, e.g. `dayrun keys create ci --project team-a`", code=WRONG)
    if (role == "operator") == (project is not None):
        raise fail("an operator's key takes no --project, every other key takes one", code=WRONG)
    with connected(url) as client:
        made = client.create_key(name, role, project, days or None)
    click.echo(made.key)
    click.echo(f"{made.id} is shown this once; use it as DAYRUN_KEY, or as `Authorization: Bearer …`", err=True)


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON lines.")
@URL
def list_keys(as_json: bool, url: str | None) -> None:
    """Keys of the projects whose admin you are."""
    with connected(url) as client:
        found = list(client.keys())
    if as_json:
        for one in found:
            click.echo(one.model_dump_json(exclude={"key"}))
        return
    rows = [[one.id, one.name, one.project or "all", one.role, day(one.last_used_at), works(one)] for one in found]
    show(["key", "name", "project", "role", "last used", "works"], rows)


@keys.command("revoke")
@click.argument("key_id", metavar="KEY")
@URL
def revoke_key(key_id: str, url: str | None) -> None:
    """Let the key with the id KEY open nothing any more, within seconds and for good."""
    with connected(url) as client:
        client.revoke_key(key_id)
    click.echo(f"{key_id}  revoked")


@main.group()
def projects() -> None:
    """Projects, who is in them, and what they may use."""


@projects.command("list")
@URL
def list_projects(url: str | None) -> None:
    """Projects that you are a member of."""
    with connected(url) as client:
        found = list(client.projects())
    rows = [
        [one.id, one.name, limit(one.accelerators), limit(one.dollars_per_day), limit(one.dollars_per_month), "yes" if one.archived else ""]
        for one in found
    ]
    show(["project", "name", "accelerators", "$ a day", "$ a month", "archived"], rows)


@projects.command("create")
@click.argument("project")
@click.option("--name", help="As people read it. Default: the id.")
@URL
def create_project(project: str, name: str | None, url: str | None) -> None:
    """Make a project with the id PROJECT."""
    with connected(url) as client:
        click.echo(client.create_project(project, name).id)


@projects.command("set")
@click.argument("project")
@click.option("--name", help="As people read it. Default: as it is, like all below.")
@click.option("--archived/--not-archived", default=None, help="Whether it takes no new runs. Default: as it is.")
@click.option("--accelerators", metavar="N|none", help="Most that its runs hold at once. Default: as it is.")
@click.option("--dollars-per-day", metavar="N|none", help="Budget of a day (UTC), in dollars. Default: as it is.")
@click.option("--dollars-per-month", metavar="N|none", help="Budget of a month (UTC), in dollars. Default: as it is.")
@URL
def set_project(project: str, url: str | None, **given: Any) -> None:
    """Rename or archive PROJECT, or set its quota and budgets (operators)."""
    changes = {name: value for name, value in given.items() if value is not None}
    for name in ("accelerators", "dollars_per_day", "dollars_per_month"):
        if name in changes:
            changes[name] = number(changes[name], name)
    if not changes:
        raise fail("nothing to change: `dayrun projects set --help` lists what there is", code=WRONG)
    with connected(url) as client:
        changed = client.change_project(client.project(project), **changes)
    click.echo(f"{changed.id}  version {changed.version}")


@projects.command("members")
@click.argument("project")
@URL
def list_members(project: str, url: str | None) -> None:
    """People in PROJECT and their roles."""
    with connected(url) as client:
        show(["subject", "role", "added"], [[one.subject, one.role, day(one.added_at)] for one in client.members(project)])


@projects.command("add")
@click.argument("project")
@click.argument("subject")
@click.argument("role", type=MEMBER_ROLES)
@URL
def add_member(project: str, subject: str, role: "MemberRole", url: str | None) -> None:
    """Give SUBJECT (`oidc:ISSUER|SUBJECT`) a role in PROJECT, or another one."""
    with connected(url) as client:
        click.echo(f"{client.put_member(project, subject, role).subject}  {role}")


@projects.command("remove")
@click.argument("project")
@click.argument("subject")
@URL
def remove_member(project: str, subject: str, url: str | None) -> None:
    """Take SUBJECT's role in PROJECT away."""
    with connected(url) as client:
        client.remove_member(project, subject)
    click.echo(f"{subject}  removed")


def on_the_server(options: list[str]) -> None:
    """Become the program that writes into the database of this machine's service."""
    root = Path(__file__).resolve().parents[1]
    if not (root / "service" / "keys" / "__main__.py").is_file():
        raise fail("this is the client alone: run it on the server, where the service's settings are", code=WRONG)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    os.execv(sys.executable, [sys.executable, "-m", "service.keys", *options])


def show(titles: list[str], rows: list[list[str]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(*titles, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(escape, row))
    console().print(table)


def day(time: Any) -> str:
    return f"{time:%Y-%m-%d %H:%M}" if time is not None else "never"


def works(key: "Key") -> str:
    from datetime import UTC, datetime

    if key.revoked_at is not None:
        return f"revoked {day(key.revoked_at)}"
    if key.expires_at is None:
        return "until revoked"
    return f"{'expired' if key.expires_at <= datetime.now(UTC) else 'until'} {day(key.expires_at)}"


def limit(value: float | None) -> str:
    return "no limit" if value is None else f"{value:g}"


def number(text: str, name: str) -> float | None:
    """A limit that was typed; `none` takes it away."""
    if text == "none":
        return None
    try:
        return int(text) if name == "accelerators" else float(text)
    except ValueError:
        raise fail(f"--{name.replace('_', '-')} {text!r}: a number, or `none` for no limit", code=WRONG) from None
