"""Which folders of shards a data set has: its own, or one for each bucket, which `dataset.json` names. Nothing is known of shards here."""

import json
from typing import Any

from trainer.data.buckets import Size
from trainer.data.errors import ShardError
from trainer.data.shelves import document

DATASET = "dataset.json"
"""What a conversion writes last, beside the folders of its buckets."""
HERE = "."
"""The bucket that lies in the data set's own folder: the only one, and square."""


def told_by(url: str) -> dict[str, Any] | None:
    """What the conversion said of the data set at `url`; None where there are shards and no more. Raises ShardError."""
    data = document(url, DATASET)
    if data is None:
        return None
    file = f"{url.rstrip('/')}/{DATASET}"
    try:
        told = json.loads(data)
        names = [name for name, about in told["buckets"].items() if about["samples"]]
        for name in names:
            if name != HERE:
                Size.of(name)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        nearest = 'expected {"buckets": {"WIDTHxHEIGHT": {"samples": …}}}; convert again'
        raise ShardError(file, None, f"does not say which buckets there are ({type(error).__name__}: {error})", nearest) from None
    if not names:
        raise ShardError(file, None, "names no bucket with samples", "convert at least one picture")
    return told


def folder_in(url: str, name: str) -> str:
    """Where the folder `name` of the data set at `url` lies."""
    return url if name == HERE else f"{url.rstrip('/')}/{name}"


def folders_of(url: str) -> list[str]:
    """The folders of a data set's buckets below `url`, in order of their names; `.` is its own. Raises ShardError."""
    told = told_by(url)
    return [HERE] if told is None else sorted(name for name, about in told["buckets"].items() if about["samples"])
