"""`--help` as a page of a manual: what a command is for, its arguments, options, exit codes, environment and examples.

click writes the summary and the options; the rest stands in `manual_pages.py`, one entry a command, and what many share is said here once.
"""

from dataclasses import dataclass, field

import click


@dataclass(frozen=True)
class Page:
    """What click cannot know of a command. `examples`: command line and what it does; `exits` add to, or replace, the usual ones."""

    examples: tuple[tuple[str, str], ...]
    arguments: dict[str, str] = field(default_factory=dict[str, str])
    exits: dict[int, str] = field(default_factory=dict[int, str])
    environment: tuple[str, ...] = ()


ARGUMENTS = {
    "RUN": "Id of a run, or a part of it that no other run has.",
    "[RUN]": "Id of a run, or a part of it that no other run has. Default: the newest run.",
    "RECIPE": "Name of a recipe, built in or kept by the project (mine, mine@3), or a JSON file.",
    "PROJECT": "Id of a project.",
    "WEBHOOK": "Id of a webhook, as `dayrun webhooks list` shows it.",
    "KEY": "Id of a key (key_…), as `dayrun keys list` shows it; not the key itself.",
    "SUBJECT": "Somebody, as the OpenID provider knows them: oidc:ISSUER|SUBJECT.",
}
ENVIRONMENT = {
    "DAYRUN_URL": "Address of the service. Default: that of the one that runs on DAYRUN_HOME, else http://127.0.0.1:8765.",
    "DAYRUN_KEY": "API key that is sent with each request. A flag would show in the list of processes.",
    "DAYRUN_HOME": "Folder of the service on this machine. Default: ~/.dayrun.",
    "DAYRUN_DATA": "Where relative data URLs of recipes start. Default: the folder data of DAYRUN_HOME.",
    "DAYRUN_*": "Every other setting of the service: docs/settings.md.",
    "AWS_*": "AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY: the object store of s3:// addresses.",
    "CHROMIUM": "Program that prints PDFs. Default: the first Chromium or Chrome in PATH.",
    "NO_COLOR": "Set to anything: no colours.",
}
DONE, REFUSED, USAGE = "Done.", "The service refused, or none answers; stderr says why and what to do.", "Wrong usage."


def page_of(ctx: click.Context) -> Page:
    """The entry of a command, by the words after `dayrun`."""
    from dayrun.manual_pages import PAGES

    words: list[str] = []
    while ctx.parent is not None:
        words.insert(0, ctx.info_name or "")
        ctx = ctx.parent
    return PAGES.get(" ".join(words), Page(()))


class Sections(click.Command):
    """The parts of a page that click does not write."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        given = page_of(ctx).arguments
        rows = [(name, given.get(name) or ARGUMENTS.get(name, "")) for name in map(str, self.arguments(ctx))]
        rows = list(dict([*rows, *((name, text) for name, text in given.items() if name not in dict(rows))]).items())
        if rows:
            with formatter.section("Arguments"):
                formatter.write_dl(rows)
        super().format_options(ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        page = page_of(ctx)
        talks = any(param.name == "url" for param in self.params)
        if not isinstance(self, click.Group):
            exits = {0: DONE, **({1: REFUSED} if talks else {}), 2: USAGE, **page.exits}
            with formatter.section("Exit codes"):
                formatter.write_dl([(str(code), text) for code, text in sorted(exits.items())])
        names = [*(("DAYRUN_URL", "DAYRUN_KEY", "DAYRUN_HOME") if talks or ctx.parent is None else ()), *page.environment]
        if names:
            with formatter.section("Environment"):
                formatter.write_dl([(name, ENVIRONMENT[name]) for name in dict.fromkeys(names)])
        if page.examples:
            with formatter.section("Examples"):
                for command, about in page.examples:
                    formatter.write(f"{'':{formatter.current_indent}}{command}\n")
                    formatter.indent()
                    formatter.write_text(about)
                    formatter.dedent()

    def arguments(self, ctx: click.Context) -> list[str]:
        return [param.make_metavar(ctx) for param in self.params if isinstance(param, click.Argument)]


class Command(Sections):
    """A command with a whole page of help."""


class Group(Sections, click.Group):
    """Commands with whole pages of help."""

    command_class = Command
    group_class = type


def rest_of_page(ctx: click.Context) -> str:
    """Exit codes, environment and examples of a command that another program carries out, whose own options that program tells."""
    formatter = ctx.make_formatter()
    ctx.command.format_epilog(ctx, formatter)
    return formatter.getvalue()
