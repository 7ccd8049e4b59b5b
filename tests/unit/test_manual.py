"""Every command's `--help` is a whole page: what it is for, arguments, options with defaults, exit codes, environment, valid examples."""

import shlex
from collections.abc import Iterator

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from dayrun.cli import main
from dayrun.manual import ENVIRONMENT
from dayrun.manual_pages import PAGES

PASSED_ON = ("serve", "data ")
"""Commands that another program of the repository carries out."""
SHELL = {"|", ">", "<", "&&"}


def commands(at: click.Command = main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command and group, by its words after `dayrun`."""
    yield " ".join(path), at
    if isinstance(at, click.Group):
        for name, one in at.commands.items():
            yield from commands(one, (*path, name))


ALL = dict(commands())
LEAVES = [path for path, one in ALL.items() if not isinstance(one, click.Group)]


def help_of(path: str) -> str:
    """As click writes it; what another program adds is not in it."""
    words = path.split()
    ctx = click.Context(main, info_name="dayrun")
    for depth in range(len(words)):
        ctx = click.Context(ALL[" ".join(words[: depth + 1])], info_name=words[depth], parent=ctx)
    return ctx.command.get_help(ctx)


def test_the_pages_are_those_of_the_commands_that_there_are():
    assert set(PAGES) == set(ALL)


@pytest.mark.parametrize("path", ALL)
def test_a_page_is_whole(path: str):
    command, page, said = ALL[path], PAGES[path], help_of(path)
    assert command.help
    assert len(command.help.splitlines()[0]) > 10
    assert page.examples
    assert "Examples:" in said
    for line, about in page.examples:
        assert line.startswith("dayrun ")
        assert line in said
        assert about.endswith(".")
    if path in LEAVES:
        assert "Exit codes:" in said
        assert all(text.endswith(".") for text in page.exits.values())
    assert set(page.environment) <= set(ENVIRONMENT)
    if any(param.name == "url" for param in command.params):
        assert "DAYRUN_KEY" in said
    listed = said.partition("Arguments:")[2].partition("\n\n")[0].splitlines()
    described = dict(line.strip().split("  ", 1) for line in listed if "  " in line.strip())
    context = click.Context(command)
    for param in command.params:
        if isinstance(param, click.Argument):
            assert described[param.make_metavar(context)].strip()
        elif isinstance(param, click.Option):
            must_explain(param)
    assert set(page.arguments) <= set(described)


def must_explain(option: click.Option) -> None:
    """What it is for; and, if it takes a value, what holds without one."""
    assert option.help, option.name
    if option.is_flag or option.count:
        return
    told = option.show_default and option.default is not None
    assert told or any(word in option.help for word in ("Default", "Only", "only", "Repeatable")), f"--{option.name}: {option.help}"


@pytest.mark.parametrize("path", LEAVES)
def test_examples_are_valid_command_lines(path: str):
    for line, _ in PAGES[path].examples:
        words = shlex.split(line)[1:]
        words = words[: next((i for i, word in enumerate(words) if word in SHELL), len(words))]
        at: click.Command = main
        while isinstance(at, click.Group):
            at = at.commands[words.pop(0)]
        assert at is ALL[path]
        at.make_context(at.name, list(words))  # raises what a person would be told
        if path.startswith("data "):
            parser_of(path).parse_args([at.name or "", *words])  # exits where argparse would refuse


def parser_of(path: str):
    from trainer.data.__main__ import parser as looking
    from trainer.data.convert.__main__ import parser as converting

    return converting() if path in ("data convert", "data text-latents", "data image-latents", "data recaption") else looking()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_given_what_completes(shell: str):
    done = CliRunner().invoke(main, ["completion", shell], prog_name="dayrun")
    assert done.exit_code == 0
    assert f"_DAYRUN_COMPLETE={shell}_complete" in done.output


@pytest.mark.parametrize(
    ("words", "begun", "found"),
    [
        ([], "re", {"report", "reprioritise", "resume", "recipe"}),
        (["keys"], "", {"create", "list", "revoke"}),
        (["run"], "prx-24", {"prx-24h", "prx-24"}),  # and what begins as a file's name does
        (["recipe", "show"], "de", {"demo"}),
        (["list", "--state"], "p", {"paused", "pausing"}),
        (["draw", "run_1", "--e"], "--e", {"--ema"}),
        (["completion"], "z", {"zsh"}),
    ],
)
def test_commands_recipes_and_states_are_completed(words: list[str], begun: str, found: set[str]):
    assert {item.value for item in ShellComplete(main, {}, "dayrun", "_DAYRUN_COMPLETE").get_completions(words, begun)} == found


def test_without_a_service_no_run_is_completed_and_nothing_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("DAYRUN_URL", "http://127.0.0.1:9")
    assert ShellComplete(main, {}, "dayrun", "_DAYRUN_COMPLETE").get_completions(["show"], "") == []
    assert capsys.readouterr() == ("", "")
