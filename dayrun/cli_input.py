"""What a person typed, as values: recipes, overrides, labels; and how a command ends when it makes no sense. No command is defined here."""

import json
from pathlib import Path
from typing import Any

import click

NOT_OK = 1
WRONG = 2


def fail(*lines: str, code: int = NOT_OK) -> "click.exceptions.Exit":
    """Say on stderr why the command ends; raise what comes back."""
    for line in lines:
        click.echo(f"dayrun: {line}", err=True)
    return click.exceptions.Exit(code)


def named_recipe(recipe: str) -> Any:
    """The document in a file, or the name of a built-in recipe, unread: names are for others to judge."""
    # a file is meant where there is one, or where the name could only be one
    is_file = recipe.endswith(".json") or "/" in recipe or Path(recipe).is_file()
    return read_json(Path(recipe), "RECIPE") if is_file else recipe


def patch_of(settings: tuple[str, ...], overrides: Path | None) -> Any:
    """--overrides, then every --set, as one merge patch; empty where nothing was given."""
    from dayrun.recipe import merge_patch

    patch: Any = read_json(overrides, "--overrides") if overrides else {}
    for setting in settings:
        patch = merge_patch(patch, one_setting(setting))
    return patch


def read_json(path: Path, flag: str) -> Any:
    """The JSON in a file that a person named; duplicates and NaN are the service's to refuse."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise fail(f"{flag} {path}: {error.strerror}", code=WRONG) from None
    except ValueError as error:
        raise fail(f"{flag} {path}: not JSON: {error}", code=WRONG) from None


def labels_of(given: tuple[str, ...]) -> dict[str, str]:
    named: dict[str, str] = {}
    for label in given:
        key, equals, value = label.partition("=")
        if not (key and equals and value):
            raise fail(f"--label {label!r}: a label is KEY=VALUE", code=WRONG)
        named[key] = value
    return named


def one_field(field: str) -> tuple[str, Any]:
    """`/optimizer/kind=muon` as pointer and value. A value that is not JSON is taken as a string."""
    at, equals, text = field.partition("=")
    if not at.startswith("/") or not equals:
        raise fail(f"--recipe {field!r}: write /pointer=value, e.g. /optimizer/kind=muon", code=WRONG)
    try:
        return at, json.loads(text)
    except ValueError:
        return at, text


def one_setting(setting: str) -> dict[str, Any]:
    """`/model/depth=4` as a merge patch. A value that is not JSON is taken as a string."""
    at, equals, text = setting.partition("=")
    steps = [step.replace("~1", "/").replace("~0", "~") for step in at.split("/")[1:]]
    if not at.startswith("/") or not equals or not all(steps):
        raise fail(f"--set {setting!r}: write /pointer=value, e.g. /model/depth=4", code=WRONG)
    if any(step.isdigit() for step in steps):
        raise fail(f"--set {setting!r}: a merge patch replaces lists whole; give /{steps[0]}=[…], or a file with --overrides", code=WRONG)
    try:
        value: Any = json.loads(text)
    except ValueError:
        value = text
    for step in reversed(steps):
        value = {step: value}
    return value
