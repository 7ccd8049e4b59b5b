"""Shell blocks of all pages: bash can read them, and every program that they call knows the subcommands and flags that they give it.

`python -m tests.docs.test_shell_blocks` records anew what helm and kubectl know (flags.json), where these are installed. What cannot be
executed where there is no cluster is at least this; quickstart's blocks are executed (`test_quickstart.py`).
"""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from dayrun.cli import main
from tests.conftest import ROOT
from tests.docs.blocks import DOCS, Block, blocks_of, shell_blocks
from tests.docs.operations import EXECUTED, NOT_EXECUTED

PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
RECORD = Path(__file__).parent / "flags.json"
Known = dict[str, dict[str, str]]
"""Program → subcommand → its flags, with blanks between."""
RECORDED = ("helm", "kubectl")
KEYWORDS = {"!", "do", "then", "else", "if", "while", "until", "export", "exec", "$", "{"}
SEPARATORS = "();<>|&\n"
HEREDOC = re.compile(r"<<-?'?(\w+)'?(.*?)\n.*?\n\1$", re.M | re.S)
COMMENT = re.compile(r"(?:^|(?<=\s))#.*$", re.M)
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
FLAG = re.compile(r"^\s+(?:(-\w), )?(--[a-z][a-z0-9-]*)", re.M)
TYPED = re.compile(r"^(?:\$ |(?:dayrun|curl|kubectl|helm|make|export) )", re.M)
"""Lines that only a shell block has."""
OFTEN = {
    "helm": ["get", "history", "list", "status"],
    "kubectl": ["cordon", "describe", "drain", "logs", "rollout restart", "top", "uncordon"],
}
"""Subcommands that are recorded although no page has them today: the next runbook may."""


def commands(text: str) -> Iterator[list[str]]:
    """The words of each simple command, without assignments and redirections before it; approximately, as docs are written."""
    plain = COMMENT.sub("", HEREDOC.sub(r"\2", text)).replace("\\\n", " ")
    lexer = shlex.shlex(plain, posix=True, punctuation_chars=SEPARATORS)
    lexer.whitespace, lexer.commenters, lexer.whitespace_split = " \t", "", True
    words: list[str] = []
    for token in [*lexer, "\n"]:
        if set(token) <= set(SEPARATORS):
            if words:
                yield words
            words = []
        elif words or not (token in KEYWORDS or ASSIGNMENT.match(token)):
            words.append(token)


def typed() -> list[tuple[Block, list[str]]]:
    """Every command of every page's blocks, prompts of consoles taken off."""
    found: list[tuple[Block, list[str]]] = []
    for page in PAGES:
        for block in blocks_of(page):
            if block.language in ("sh", "bash"):
                found += [(block, words) for words in commands(block.text)]
            elif block.language == "console":
                found += [(block, words) for line in re.findall(r"^\$ (.*)$", block.text, re.M) for words in commands(line)]
    return found


def test_there_are_blocks_of_every_kind():
    programs = {Path(words[0]).name for _, words in typed()}
    assert {"dayrun", "helm", "kubectl", "curl", "torchrun"} <= programs


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_say_what_they_are_and_bash_can_read_them(page: Path):
    for block in blocks_of(page):
        assert block.language or not TYPED.search(block.text), f"{block}: say sh, which is checked, or console or text, which is shown"
    for block in shell_blocks(page):
        done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), str(block)


def test_dayrun_knows_every_command_and_flag_of_the_docs():
    checked = 0
    for block, words in typed():
        if Path(words[0]).name == "dayrun":
            said = misunderstood(words[1:])
            assert said is None, f"{block}: {shlex.join(words)}: {said}"
            checked += 1
    assert checked > 20


def misunderstood(words: list[str]) -> str | None:
    """What `dayrun` would answer to words that it does not know."""
    command: click.Command = main
    context = click.Context(main)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name, *words = words
        found = command.get_command(context, name)
        if found is None:
            return f"no command {name!r}; there are {', '.join(command.list_commands(context))}"
        command, context = found, click.Context(found, context)
    if command.context_settings.get("ignore_unknown_options"):  # passed on to a program of the trainer
        return None
    try:
        command.make_parser(context).parse_args([word for word in words if word != "…"])
    except click.UsageError as error:
        return error.format_message()
    return None


def test_misunderstandings_are_found():
    assert misunderstood(["run", "demo", "--sett", "/seed=7"]) is not None
    assert misunderstood(["rnu", "demo"]) is not None
    assert misunderstood(["run", "demo", "--set", "/seed=7"]) is None
    wrong = ["kubectl", "get", "pods", "--namespaces", "dayrun"]
    assert unknown_flags(wrong, json.loads(RECORD.read_text())) == ["--namespaces"]


def test_helm_and_kubectl_know_every_subcommand_and_flag_of_the_docs():
    check_flags(json.loads(RECORD.read_text()))


def check_flags(known: Known) -> None:
    """Fails for the first command of the docs that helm or kubectl would not understand."""
    for block, words in typed():
        if words[0] in RECORDED:
            assert unknown_flags(words, known) == [], f"{block}: {shlex.join(words)}"


def unknown_flags(words: list[str], known: Known) -> list[str]:
    """Flags that the program's subcommand does not have. Fails for a subcommand that nobody recorded."""
    name = subcommand_of(words)
    assert name in known[words[0]], f"{shlex.join(words)}: {name!r} is not recorded: python -m tests.docs.test_shell_blocks"
    flags = known[words[0]][name].split()
    until = words.index("--") if "--" in words else len(words)
    given = [word.partition("=")[0] for word in words[1:until] if re.match(r"--?[a-zA-Z]", word)]
    return [flag for flag in given if not is_known(flag, flags)]


def is_known(flag: str, flags: list[str]) -> bool:
    """Short flags may be written in one: -it."""
    return flag in flags or (not flag.startswith("--") and all(f"-{letter}" in flags for letter in flag[1:]))


def subcommand_of(words: list[str]) -> str:
    """`create secret generic` of a kubectl, `repo add` of a helm: two or three words where the first is a group."""
    plain = [word for word in words[1:] if re.fullmatch(r"[a-z][a-z-]*", word)]
    plain = plain[plain.index(first_plain(words)) :]
    groups = {("helm", "repo"): 2, ("kubectl", "rollout"): 2, ("kubectl", "create"): 2}
    depth = 3 if plain[:2] == ["create", "secret"] else groups.get((words[0], plain[0]), 1)
    return " ".join(plain[:depth])


def first_plain(words: list[str]) -> str:
    """The first word that is neither a flag nor the value of the one before it (-n dayrun)."""
    following = iter(words[1:])
    for word in following:
        if word in ("-n", "--namespace"):
            next(following)
        elif not word.startswith("-"):
            return word
    raise AssertionError(f"{shlex.join(words)}: no subcommand")


def test_every_block_of_operations_is_executed_on_a_cluster_or_says_why_not():
    headings = {block.heading for block in shell_blocks(DOCS / "operations.md")}
    assert headings == {*EXECUTED, *NOT_EXECUTED}


def recorded_now() -> Known:
    """What the installed programs say themselves of the subcommands that the docs use."""
    wanted = {program: set(often) for program, often in OFTEN.items()}
    for _, words in typed():
        if words[0] in RECORDED:
            wanted[words[0]].add(subcommand_of(words))
    return {program: {name: flags_of(program, name) for name in sorted(names)} for program, names in wanted.items()}


def flags_of(program: str, subcommand: str) -> str:
    helps = [[program, *subcommand.split(), "--help"], *([["kubectl", "options"]] if program == "kubectl" else [])]
    said = "".join(subprocess.run(one, capture_output=True, text=True, check=True).stdout for one in helps)
    return " ".join(sorted({flag for pair in FLAG.findall(said) for flag in pair if flag}))


if __name__ == "__main__":
    RECORD.write_text(json.dumps(recorded_now(), indent=1) + "\n")
    sys.exit(0)
