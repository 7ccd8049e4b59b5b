"""The command line of conversion: `dayrun data convert`, `text-latents`, `image-latents`, `recaption`, which start this module."""

import argparse
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainer.data.convert.annotate import Network, annotate
from trainer.data.convert.conversion import Progress, convert
from trainer.data.convert.executors import Executor, Here, OnRay
from trainer.data.convert.filters import CAPTION, CASTS, Options
from trainer.data.convert.forecast import Forecast, forecast
from trainer.data.convert.output import ConversionError, DataSet
from trainer.data.convert.sources import SLICE, Reading, SourceError

DOLLARS_PER_CORE_HOUR = 0.05
"""What a core of a large cloud costs on demand, about."""


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        return options.act(options)
    except (SourceError, ConversionError) as error:
        print(f"dayrun: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"dayrun: {error}; what was committed stays: run it again", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("dayrun: ended; what was committed stays, and the same command goes on from there", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(prog="dayrun data", description="Make data sets to train from.")
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    add_convert(commands)
    for name, act, about in (
        ("text-latents", text_latents, "Add the states of captions by a recipe's text tower."),
        ("image-latents", image_latents, "Add the latents of pictures by an autoencoder."),
        ("recaption", recaption, "Add captions that a vision-language model writes."),
    ):
        command = commands.add_parser(name, help=about, description=f"{about} Reads the data set DATA and writes a new one to OUT.")
        command.set_defaults(act=act)
        command.add_argument("data", metavar="DATA", help="folder or object-store prefix with a dataset.json")
        command.add_argument("out", metavar="OUT", help="folder or object-store prefix to write")
        command.add_argument("--batch", type=positive, default=64, help="samples that go through the network at once (default 64)")
        if name == "text-latents":
            command.add_argument(
                "--recipe", required=True, help="built-in recipe or JSON file: its /text says which tower, /data/captions which columns"
            )
        else:
            command.add_argument("--model", required=True, help="folder, object-store prefix or hub name of the network")
            command.add_argument("--column", default="image_latent" if name == "image-latents" else None, help="column to add")
        if name == "recaption":
            command.set_defaults(column="caption_model")
            command.add_argument("--prompt", default="", help="what the model is asked")
            command.add_argument("--tokens", type=positive, default=128, help="most tokens of a caption (default 128)")
        add_running(command, workers=1)
        command.add_argument("--gpus", type=float, default=0.0, help="with --ray: GPUs of each worker (default 0)")
    return whole


def add_convert(commands: Any) -> None:
    command = commands.add_parser(
        "convert",
        help="Convert tars, folders or tables of pictures to shards.",
        description="Convert SOURCE to shards in OUT. SOURCE: a folder or object-store prefix of WebDataset tars, of pictures with their "
        "captions beside them or in a metadata.jsonl, or of parquet tables; or one tar or table. Ended, the same command goes on.",
    )
    command.set_defaults(act=converted)
    add, reading = command.add_argument, Reading()
    add("source", metavar="SOURCE")
    add("out", metavar="OUT")
    add("--recipe", help="built-in recipe or JSON file that --pixels, --patch and --square are taken from, as its last stage has them")
    add("--pixels", type=positive, help="side of the square that buckets have the area of (default 1024)")
    add("--patch", type=positive, help="pixels that sides are multiples of (default 32)")
    add("--square", action="store_true", default=None, help="one bucket: every picture becomes a square")
    add("--quality", type=int, choices=range(1, 101), default=92, metavar="1…100", help="of the JPEGs that are written (default 92)")
    add("--keep", action="store_true", help="keep every picture's own bytes and size; buckets only sort them")
    add("--caption", action="append", type=pair("COLUMN=FIELD"), help="a caption column and its field, `txt` for the .txt file; repeatable "
        f"(default: {CAPTION}, from the .txt file, or else a field caption or text)")  # fmt: skip
    add("--column", action="append", type=pair("FIELD=ENCODING"), help=f"a field that becomes a column: {', '.join(CASTS)}; repeatable")
    add("--min-side", type=positive, default=0, help="leave out pictures whose shorter side has fewer pixels")
    add("--max-ratio", type=float, default=math.inf, help="leave out pictures whose longer side is more than so many times the shorter")
    add(
        "--at-least",
        action="append",
        type=least,
        metavar="FIELD=NUMBER",
        help="leave out samples with less, such as aesthetic=5; repeatable",
    )
    add("--unique", action="store_true", help="leave out pictures that look the same as an earlier one (a second pass over the source)")
    add("--image-column", default=reading.image_column, help="of tables: the column with the bytes (default image)")
    add("--id-column", help="of tables: the column that samples are named by (default: the row's number)")
    add("--slice", type=positive, default=SLICE, help=f"of folders and tables: samples of a task (default {SLICE})")
    add("--shard-bytes", type=positive, default=1 << 26, help="most bytes of a shard (default 64 MiB)")
    add("--dry-run", action="store_true", help="convert some samples in memory and say what all would give and cost; write nothing")
    add("--json", action="store_true", help="print the result as JSON")
    add_running(command, workers=os.cpu_count() or 1)


def add_running(command: argparse.ArgumentParser, workers: int) -> None:
    command.add_argument("--workers", type=positive, default=workers, help=f"tasks at once (default here: {workers})")
    command.add_argument("--ray", metavar="ADDRESS", help="run the tasks on Ray: `auto`, ray://HOST:10001, or `local` to start one here")
    command.add_argument(
        "--dollars-per-core-hour", type=float, default=DOLLARS_PER_CORE_HOUR, help=f"for the estimate (default {DOLLARS_PER_CORE_HOUR})"
    )


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: 1 or more")
    return value


def pair(form: str) -> Callable[[str], tuple[str, str]]:
    def parse(text: str) -> tuple[str, str]:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise argparse.ArgumentTypeError(f"{text!r}: write {form}")
        return name, value

    return parse


def least(text: str) -> tuple[str, float]:
    name, value = pair("FIELD=NUMBER")(text)
    try:
        return name, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: {value!r} is no number") from None


def converted(given: argparse.Namespace) -> int:
    try:
        options = options_of(given)
    except ValueError as error:
        raise ConversionError(f"--pixels, --patch, --caption or --column: {error}") from None
    if given.dry_run:
        told = forecast(given.source, options, given.workers, given.dollars_per_core_hour)
        print(json.dumps(told.as_dict(), indent=1) if given.json else forecast_text(told))
        return 0
    with ProgressBar(given) as tell:
        made = convert(given.source, given.out, options, executor_of(given), tell)
    print(made.to_json().decode() if given.json else summary(made, given.out))
    return 0


def options_of(given: argparse.Namespace) -> Options:
    pixels, patch, square = given.pixels, given.patch, given.square
    if given.recipe:
        recipe = recipe_of(given.recipe)
        cell = recipe.latents.downscale if recipe.latents else 1
        pixels, patch = pixels or recipe.stages[-1].pixels, patch or recipe.model.patch_size * cell
        square = recipe.data.buckets == "square" if square is None else square
    return Options(
        pixels=pixels or 1024,
        patch=patch or 32,
        square=bool(square),
        quality=given.quality,
        keep=given.keep,
        captions=tuple((column, field) for column, field in given.caption) if given.caption else Options().captions,
        columns=tuple(given.column or ()),
        min_side=given.min_side,
        max_ratio=given.max_ratio,
        at_least=tuple(given.at_least or ()),
        unique=given.unique,
        shard_bytes=given.shard_bytes,
        reading=Reading(given.image_column, given.id_column, given.slice),
    )


def recipe_of(name: str) -> Any:
    """A built-in recipe or that of a file. Raises ConversionError."""
    from dayrun import builtin
    from dayrun.rules import RecipeErrors, load

    try:
        document = Path(name).read_bytes() if name.endswith(".json") or "/" in name else builtin.get(name)
        return load(document, for_training=False)
    except (OSError, builtin.UnknownRecipe, RecipeErrors) as error:
        raise ConversionError(f"--recipe {name}: {error}") from None


def text_latents(given: argparse.Namespace) -> int:
    from trainer.data.convert.networks import TextStatesOf

    recipe = recipe_of(given.recipe)
    text = recipe.text
    captions = tuple(
        (caption.column, caption.latent_column or f"{caption.column}_latent", caption.mask_column or f"{caption.column}_mask")
        for caption in recipe.data.captions
    )
    return annotated(given, TextStatesOf(text.source, text.tokens, text.encoder, text.cleaning, captions))


def image_latents(given: argparse.Namespace) -> int:
    from trainer.data.convert.networks import ImageLatentsOf

    return annotated(given, ImageLatentsOf(given.model, given.column))


def recaption(given: argparse.Namespace) -> int:
    from trainer.data.convert.networks import CaptionsOf

    return annotated(given, CaptionsOf(given.model, given.column, given.prompt, given.tokens))


def annotated(given: argparse.Namespace, network: Network) -> int:
    with ProgressBar(given) as tell:
        made = annotate(given.data, given.out, network, given.batch, executor_of(given, with_networks=True), tell)
    print(summary(made, given.out))
    return 0


def executor_of(given: argparse.Namespace, with_networks: bool = False) -> Executor:
    if given.ray:
        return OnRay(given.ray, given.workers, getattr(given, "gpus", 0.0), with_networks)
    return Here(given.workers)


# ---- what a person sees ---------------------------------------------------------------------------------------------------------------


class ProgressBar:
    """A bar on a terminal, else a line for each tenth; both on stderr, since stdout is for the result."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._workers, self._price = given.workers, given.dollars_per_core_hour
        self._told = -1
        self._bar: Any = None
        self._task: dict[str, Any] = {}

    def __enter__(self) -> Callable[[Progress], None]:
        if not sys.stderr.isatty():
            return self._line
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[told]}"))
        self._bar = Bar(*columns, console=Console(stderr=True))
        self._bar.start()
        return self._draw

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _line(self, progress: Progress) -> None:
        tenth = 10 * progress.done // progress.parts if progress.parts else 10
        if tenth != self._told:
            self._told = tenth
            print(f"{progress.what}: {progress.done} of {progress.parts} parts, {self._figures(progress)}", file=sys.stderr, flush=True)

    def _draw(self, progress: Progress) -> None:
        if progress.what not in self._task:
            self._task[progress.what] = self._bar.add_task(progress.what, total=progress.parts, told="")
        self._bar.update(self._task[progress.what], completed=progress.done, told=self._figures(progress))

    def _figures(self, progress: Progress) -> str:
        told = [f"{progress.samples:,} samples", f"{progress.rejects:,} left out"]
        if progress.seconds:
            told.append(f"{progress.images_per_second:,.1f} images/s")
        if progress.seconds_left is not None:
            whole = progress.seconds + progress.seconds_left
            told.append(f"{progress.seconds_left / 3600:.2f} h left, ${whole * self._workers / 3600 * self._price:,.2f} in all")
        return ", ".join(told)


def summary(made: DataSet, out: str) -> str:
    lines = [
        f"{out}: {made.samples:,} samples in {len(made.buckets)} buckets, {sum(b['bytes'] for b in made.buckets.values()) / 1e6:,.1f} MB"
    ]
    if made.rejects:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in made.rejects.items())
        lines.append(f"left out: {reasons}; each is in {out.rstrip('/')}/rejects.jsonl")
    if made.enlarged:
        lines.append(f"smaller than their bucket, and enlarged: {made.enlarged:,}; --min-side would leave such pictures out")
    return "\n".join(lines)


def forecast_text(told: Forecast) -> str:
    enlarged = f", {told.enlarged:,} of them enlarged" if told.enlarged else ""
    speed = f"{told.images_per_core_second:,.1f} images a core-second: {told.core_hours:,.3f} core-hours"
    lines = [
        f"tried:    {told.tried:,} samples of {told.parts:,} parts with {told.source_bytes / 1e9:,.3f} GB",
        f"source:   about {told.samples:,} samples, of which {told.stored:,} would be stored{enlarged}",
        f"shards:   about {told.bytes / 1e9:,.3f} GB",
        f"time:     {speed}, {told.hours:,.3f} h by {told.workers} workers",
        f"cost:     about ${told.dollars:,.2f}",
    ]
    lines += [f"bucket    {name}: {count:,}" for name, count in told.buckets.items()]
    lines += [f"left out  {reason}: {count:,}" for reason, count in told.rejects.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
