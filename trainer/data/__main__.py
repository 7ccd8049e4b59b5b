"""The command line of looking into data: `dayrun data inspect`, `verify`, `stats`, `trained-on`, which start this module.

Exit codes: 0 well; 1 the data are not what they should be, or the sample is not known; 2 wrong usage.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dayrun.objects import StoreError
from trainer.data import looking
from trainer.data.errors import ShardError
from trainer.data.looking import Numbers, Overview, Statistics
from trainer.data.shelves import close_cache

TOLD = 10
"""Places that are named of each thing; the rest is counted."""
ON_SHEET = 64


def main() -> int:
    options = parser().parse_args()
    try:
        return options.act(options)
    except (ShardError, StoreError) as error:
        print(f"dayrun: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(prog="dayrun data", description="Look into training data.")
    commands = whole.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, act: Any, about: str, *, url: bool = True) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=about, description=about)
        command.set_defaults(act=act)
        if url:
            command.add_argument("url", metavar="URL", help="folder or object-store prefix of the data set; relative ones as in recipes")
        return command

    command = add("inspect", inspect, "What a data set is: samples, buckets, columns, bytes. Reads its indexes only.")
    command.add_argument("--json", action="store_true", help="as JSON")
    add("verify", verify, "Read every byte of a data set and compare: sizes, hashes, samples. Exit code 1 if anything is wrong.")
    command = add("stats", stats, "Look into samples of a data set: captions, pictures, duplicates.")
    command.add_argument("--samples", type=positive, default=1000, help="how many to look at, from few shards (default 1000)")
    command.add_argument("--all", action="store_true", help="look at every sample: duplicates are found for certain")
    command.add_argument("--image-column", default="image", help="column that holds the pictures (default image)")
    command.add_argument("--sheet", type=Path, metavar="FILE", help="write a contact sheet with captions as PNG")
    command.add_argument("--json", action="store_true", help="as JSON")
    command = add("trained-on", trained_on, "Whether, when and how often a run was trained on a sample.", url=False)
    command.add_argument("id", metavar="ID", help="of the sample, as its data set calls it")
    command.add_argument("--run", required=True, help="the run's folder, as a path or URL; or its id, below DAYRUN_RUNS or DAYRUN_HOME")
    command.add_argument("--column", default="id", help="column that holds the samples' names (default id)")
    command.add_argument("--json", action="store_true", help="as JSON")
    return whole


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


# ---- inspect ---------------------------------------------------------------------------------------------------------------------------


def inspect(options: argparse.Namespace) -> int:
    found = looking.inspect(options.url)
    print(json.dumps(asdict(found), indent=1) if options.json else "\n".join(overview_lines(found)))
    return 0


def overview_lines(found: Overview) -> Iterator[str]:
    stored = "" if found.stored_bytes == found.bytes else f", {size(found.stored_bytes)} as stored ({', '.join(found.compressions)})"
    shards = sum(bucket.shards for bucket in found.buckets)
    yield found.url
    yield f"{found.samples:,} samples in {shards:,} shards, {size(found.bytes)}{stored}"
    yield f"hashes   {', '.join(found.hashes) or 'none: bytes cannot be proven'}"
    yield from (f"column   {name}  {encoding}" for name, encoding in found.columns.items())
    yield from (f"reject   {count:,} × {reason}" for reason, count in found.rejects.items())
    if len(found.buckets) > 1:
        for bucket in found.buckets:
            yield f"bucket   {bucket.name:<11}{bucket.samples:>12,}{bucket.samples / found.samples:>8.2%}  {size(bucket.bytes)}"


def size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


# ---- verify ----------------------------------------------------------------------------------------------------------------------------


def verify(options: argparse.Namespace) -> int:
    shards = wrong = count = 0
    with tempfile.TemporaryDirectory(prefix="dayrun-verify-") as cache:
        try:
            for read, trouble in looking.verify(options.url, Path(cache)):
                shards, count, wrong = shards + bool(read), count + read, wrong + len(trouble)
                for line in trouble:
                    print(line, file=sys.stderr)
        finally:
            close_cache(Path(cache))
    print(f"{shards:,} shards, {size(count)}: {f'{wrong:,} things are wrong' if wrong else 'every byte is as its index says'}")
    return 1 if wrong else 0


# ---- stats -----------------------------------------------------------------------------------------------------------------------------


def stats(options: argparse.Namespace) -> int:
    from dayrun.sheet import gallery

    pictures: list[Any] | None = [] if options.sheet else None
    found = looking.statistics(options.url, None if options.all else options.samples, options.image_column, pictures)
    print(json.dumps(asdict(found), indent=1) if options.json else "\n".join(statistics_lines(found)))
    if pictures:
        some = pictures[:: max(1, len(pictures) // ON_SHEET)][:ON_SHEET]
        try:
            gallery(found.url, some).save(options.sheet, "PNG")
        except OSError as error:
            print(f"dayrun: --sheet {options.sheet}: {error.strerror or error}", file=sys.stderr)
            return 1
    return 0


def statistics_lines(found: Statistics) -> Iterator[str]:
    yield found.url
    yield f"looked at {found.seen:,} of {found.samples:,} samples"
    for name, words in found.captions.items():
        empty = f", {found.empty_captions[name]:,} empty" if found.empty_captions[name] else ""
        yield f"caption  {name}: {spread(words)} words{empty}"
    yield f"picture  {', '.join(f'{count:,} {name}' for name, count in found.formats.items()) or 'none'}"
    for name, numbers in (("width", found.widths), ("height", found.heights), ("bytes", found.picture_bytes)):
        if numbers:
            yield f"picture  {name} {spread(numbers)}"
    among = "" if found.seen == found.samples else " among these"
    doubles = sum(len(names) - 1 for names in found.same_picture)
    yield f"double   {doubles:,} pictures are another's, byte for byte{among}"
    yield from (f"         {', '.join(names)}" for names in found.same_picture[:TOLD])
    if found.same_id:
        yield f"double   {len(found.same_id):,} ids name several samples: {', '.join(found.same_id[:TOLD])}"
    yield f"unusable {len(found.unusable):,}"
    yield from (f"         {line}" for line in found.unusable[:TOLD])


def spread(numbers: Numbers | None) -> str:
    if numbers is None:
        return "no"
    return f"{numbers.least:,.0f} to {numbers.greatest:,.0f} (half {numbers.median:,.0f} at most, 95 % {numbers.most_of_them:,.0f} at most)"


# ---- trained-on ------------------------------------------------------------------------------------------------------------------------


def trained_on(options: argparse.Namespace) -> int:
    from dayrun.objects import Prefix
    from dayrun.run_folder import RunFolder
    from trainer.data import records
    from trainer.faults import DataFault

    place = folder_of_run(options.run)
    there = "://" in place or Path(place).is_dir()  # opening would make it
    folder = RunFolder(Prefix(place)) if there else None
    if folder is None or not folder.prefix.exists("recipe.json"):
        print(f"dayrun: --run {options.run}: no run in {place}; give its folder, or DAYRUN_RUNS as the service has it", file=sys.stderr)
        return 2
    try:
        found = records.trained_on(folder, options.id, options.column)
    except (records.RecordError, DataFault) as error:
        print(f"dayrun: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps([asdict(one) | {"times": one.times} for one in found], indent=1))
        return 0
    for one in found:
        print("\n".join(trained_lines(options.id, one)))
    return 0


def trained_lines(name: str, one: Any) -> Iterator[str]:
    if one.held_out:
        yield f"{name}: sample {one.number} is held out: the run is measured by it and was never trained on it"
    elif not one.times:
        yield f"{name}: sample {one.number} was not trained on"
    else:
        yield f"{name}: sample {one.number} was trained on {one.times} times, at positions {listed(one.positions + one.instead_of_others)}"
    if one.instead_of_others:
        yield f"    of these, in the place of others that could not be read: {listed(one.instead_of_others)}"
    if one.could_not_be_read:
        yield f"    it could not be read when its turn came: {listed(one.could_not_be_read)}"


def listed(positions: list[int]) -> str:
    more = f" and {len(positions) - TOLD:,} more" if len(positions) > TOLD else ""
    return ", ".join(map(str, sorted(positions)[:TOLD])) + more


def folder_of_run(named: str) -> str:
    """The address of a run's folder: itself, or that of the run with this id where the service keeps its runs."""
    if "/" in named or Path(named).is_dir():
        return named
    home = os.environ.get("DAYRUN_HOME") or str(Path.home() / ".dayrun")
    return f"{(os.environ.get('DAYRUN_RUNS') or f'{home}/runs').rstrip('/')}/{named}"


if __name__ == "__main__":
    sys.exit(main())
