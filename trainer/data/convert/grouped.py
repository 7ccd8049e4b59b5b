"""Samples that are several files of one name: in a WebDataset tar, or in a folder. `7.jpg`, `7.txt` and `7.json` are the sample `7`.

The key of a file is its name up to the first dot; what follows says what the file is. Other kinds of files are passed over.
"""

import csv
import io
import itertools
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dayrun.objects import Prefix
from trainer.data.convert.sources import METADATA, PICTURES, File, Found, Part, Reject, SourceError, local, slug

MOST_BYTES = 256 * 2**20
"""A longer file is no picture and no caption; it is not read."""
NAME_COLUMN = "file_name"


class Entry(NamedTuple):
    name: str
    bytes: int
    read: Callable[[], bytes]


def key_of(name: str) -> str:
    """`a/b.1.txt` → `a/b`."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.split(".", 1)[0]


def suffix_of(name: str) -> str:
    return name.rsplit("/", 1)[-1].rsplit(".", 1)[-1].lower()


class Bad(Exception):
    """A sample whose files cannot be used."""

    def __init__(self, reason: str, because: str) -> None:
        self.reason, self.because = reason, because
        super().__init__(because)


def samples(entries: Iterable[Entry], title: str, rows: dict[str, dict[str, Any]] | None = None) -> Iterator[Found | Reject]:
    """Samples of `entries`, whose files of one key follow one another. A key that comes again later is rejected: the first one counts."""
    seen: set[str] = set()
    for key, group in itertools.groupby(entries, lambda entry: key_of(entry.name)):
        id = f"{title}/{key}"
        if key in seen:
            for _ in group:  # passed over unread
                pass
            yield Reject(id, "duplicate_key", f"the key {key!r} is there twice; the first one is kept")
            continue
        seen.add(key)
        try:
            yield found_in(group, id, dict((rows or {}).get(key, {})))
        except Bad as bad:
            yield Reject(id, bad.reason, bad.because)


def found_in(group: Iterable[Entry], id: str, fields: dict[str, Any]) -> Found:
    """One sample of the files of a key. Raises Bad."""
    picture: tuple[str, bytes] | None = None
    names: list[str] = []
    for entry in group:
        names.append(entry.name)
        suffix = suffix_of(entry.name)
        if suffix not in (*PICTURES, "txt", "json"):
            continue
        if entry.bytes > MOST_BYTES:
            raise Bad("too_long", f"{entry.name} has {entry.bytes:,} bytes, more than the {MOST_BYTES:,} that are read")
        if suffix in PICTURES:
            if picture is not None:
                raise Bad("duplicate_key", f"{picture[0]} and {entry.name} are two pictures of one key")
            picture = entry.name, entry.read()
        elif suffix == "txt":
            fields["txt"] = text(entry)
        else:
            fields |= json_object(entry)
    if picture is None:
        raise Bad("no_picture", f"no picture (.{', .'.join(PICTURES)}) beside {names[0]}")
    return Found(id, picture[1], fields)


def text(entry: Entry) -> str:
    try:
        return entry.read().decode().strip()
    except UnicodeDecodeError as error:
        raise Bad("bad_caption", f"{entry.name} is not UTF-8 at byte {error.start}") from None


def json_object(entry: Entry) -> dict[str, Any]:
    try:
        value = json.loads(entry.read())
    except ValueError as error:  # UnicodeDecodeError is one
        raise Bad("bad_metadata", f"{entry.name} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Bad("bad_metadata", f"{entry.name} is no JSON object but {type(value).__name__}")
    return value


# ---- tars -----------------------------------------------------------------------------------------------------------------------------


def tar_samples(path: Path, title: str) -> Iterator[Found | Reject]:
    """The samples of a WebDataset tar. One that is cut short gives those that are whole, and a Reject that says where it ends.

    The sample in which a tar ends is not used, even if its picture is there: its caption may be in the rest.
    """
    cut: list[Reject] = []
    held: Found | Reject | None = None
    for sample in samples(tar_entries(path, title, cut), title):
        if held is not None:
            yield held
        held = sample
    if held is not None and held.id not in [reject.id for reject in cut]:
        yield held
    yield from cut


def tar_entries(path: Path, title: str, cut: list[Reject]) -> Iterator[Entry]:
    """The files in a tar, in its order. When it is cut short, `cut` gets the word and the entries end."""
    size, last = path.stat().st_size, ""

    def word(because: str) -> Reject:
        return Reject(f"{title}/{key_of(last)}", "tar_cut_short", because)

    with path.open("rb") as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for member in archive:
                    last, end = member.name, member.offset_data + member.size
                    if end > size:
                        cut.append(word(f"the tar ends at byte {size:,}, in the middle of {last}, which goes to {end:,}"))
                        return
                    if member.isfile() and not last.rsplit("/", 1)[-1].startswith((".", "__")):
                        yield Entry(last, member.size, lambda m=member: archive.extractfile(m).read())  # pyright: ignore[reportOptionalMemberAccess]
                file.seek(archive.offset)
                if file.read(512) != bytes(512):  # every tar ends with blocks of zeros
                    cut.append(word(f"the tar has no end: nothing that can be read follows {last or 'its start'}, of {size:,} bytes"))
        except (tarfile.TarError, EOFError) as error:
            cut.append(word(f"the tar ends at byte {size:,}: {error}" if last else f"no tar: {error}"))


# ---- folders --------------------------------------------------------------------------------------------------------------------------


def folder_parts(source: str, files: list[File], slice: int) -> list[Part]:
    """A folder of pictures, in parts of `slice` samples. What its metadata file names in vain are rejects of the first."""
    title = Path(local(source) or source).name
    metadata = [file for file in files if file.key in METADATA]
    if len(metadata) > 1:
        raise SourceError(f"SOURCE {source}: {METADATA[0]} and {METADATA[1]} are both there: keep one")
    rows = metadata_rows(source, metadata[0]) if metadata else {}
    useful = sorted((f for f in files if suffix_of(f.key) in (*PICTURES, "txt", "json")), key=lambda f: (key_of(f.key), f.key))
    groups = [(key, tuple(some)) for key, some in itertools.groupby(useful, lambda file: key_of(file.key))]
    there = {key for key, _ in groups}
    absent = tuple(
        Reject(f"{title}/{key}", "no_picture", f"{metadata[0].key} names {row[NAME_COLUMN]}, which is not there")
        for key, row in rows.items()
        if key not in there
    )
    return [
        Part(
            f"{slug(title)}-{first // slice:05d}",
            "folder",
            source,
            tuple(file for _, some in groups[first : first + slice] for file in some),
            rows={key: rows[key] for key, _ in groups[first : first + slice] if key in rows},
            rejects=absent if first == 0 else (),
        )
        for first in range(0, len(groups), slice)
    ]


def folder_samples(part: Part) -> Iterator[Found | Reject]:
    folder = local(part.source)
    prefix = Prefix(part.source) if folder is None else None

    def reader(key: str) -> Callable[[], bytes]:
        return (lambda: prefix.get(key)) if prefix is not None else (folder / key).read_bytes  # pyright: ignore[reportOptionalOperand]

    yield from samples((Entry(file.key, file.bytes, reader(file.key)) for file in part.files), part.title, part.rows)


def metadata_rows(source: str, file: File) -> dict[str, dict[str, Any]]:
    """What `metadata.jsonl` or `metadata.csv` says, by the key of the picture that its column `file_name` names. Raises SourceError."""
    folder = local(source)
    data = Prefix(source).get(file.key) if folder is None else (folder / file.key).read_bytes()
    place = f"{source}/{file.key}"
    rows: dict[str, dict[str, Any]] = {}
    try:
        content = data.decode()
        if file.key.endswith(".csv"):
            table: Iterable[tuple[int, Any]] = enumerate(csv.DictReader(io.StringIO(content)), start=2)
        else:
            table = ((n, json.loads(line)) for n, line in enumerate(content.splitlines(), start=1) if line.strip())
        for number, row in table:
            if not isinstance(row, dict) or not isinstance(row.get(NAME_COLUMN), str):
                raise SourceError(f"{place} line {number}: no {NAME_COLUMN!r}; each line names its picture there")
            rows[key_of(row[NAME_COLUMN])] = row
    except ValueError as error:
        raise SourceError(f"{place} line {len(rows) + 1}: cannot be read: {error}") from None
    return rows
