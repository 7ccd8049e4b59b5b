"""What a conversion will give and cost, from converting a few samples of a few parts in memory. Nothing is written."""

import itertools
import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from trainer.data.convert.filters import Options
from trainer.data.convert.parts import converted
from trainer.data.convert.sources import Found, Reject, parts_of, samples_of

PARTS, SAMPLES = 8, 32
"""How many parts are looked into, and samples of each."""
OVERHEAD = 64
"""Bytes of a sample in a shard beside its columns, about."""


@dataclass(frozen=True)
class Forecast:
    """Figures of the whole source, extrapolated from `tried` samples; `rejects` and `buckets` in samples."""

    parts: int
    source_bytes: int
    tried: int
    samples: int  # in the source, whether they will be stored or not
    stored: int
    buckets: dict[str, int]
    rejects: dict[str, int]
    enlarged: int
    bytes: int  # of the shards
    images_per_core_second: float
    core_hours: float
    workers: int
    hours: float
    dollars: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def forecast(source: str, options: Options, workers: int, dollars_per_core_hour: float) -> Forecast:
    """Raises SourceError when there is nothing to convert.

    Parts at even distances are looked into, from their start. How many samples the source has is taken from its bytes: those of a sample
    among the ones that were read, for tars; for folders it is known by the number of files, about.
    """
    parts = parts_of(source, options.reading)
    chosen = [parts[i * len(parts) // min(PARTS, len(parts))] for i in range(min(PARTS, len(parts)))]
    buckets, rejects = Counter[str](), Counter[str]()
    stored = enlarged = written = 0
    read = 0  # bytes of the source
    begun = time.process_time()
    for part in chosen:
        found = list(itertools.islice(samples_of(part, options.reading), SAMPLES + 1))
        read += part.bytes if len(found) <= SAMPLES else sum(map(bytes_of, found[:SAMPLES]))
        for each in converted(found[:SAMPLES], options, {}):
            if isinstance(each, Reject):
                rejects[each.reason] += 1
                continue
            size, sample, _, was_enlarged = each
            buckets[str(size)] += 1
            stored += 1
            enlarged += was_enlarged
            written += sum(len(value) if isinstance(value, bytes) else len(str(value).encode()) for value in sample.values()) + OVERHEAD
    seconds = time.process_time() - begun
    tried = stored + sum(rejects.values())
    total = sum(part.bytes for part in parts)
    samples = round(tried * total / read) if read else tried
    scale = samples / tried if tried else 0.0
    core_hours = seconds * scale / 3600
    return Forecast(
        parts=len(parts),
        source_bytes=total,
        tried=tried,
        samples=samples,
        stored=round(stored * scale),
        buckets={name: round(count * scale) for name, count in sorted(buckets.items())},
        rejects={name: round(count * scale) for name, count in sorted(rejects.items())},
        enlarged=round(enlarged * scale),
        bytes=round(written * scale),
        images_per_core_second=tried / seconds if seconds else 0.0,
        core_hours=core_hours,
        workers=workers,
        hours=core_hours / workers,
        dollars=core_hours * dollars_per_core_hour,
    )


def bytes_of(sample: Found | Reject) -> int:
    """What a sample takes in its source, about."""
    return 0 if isinstance(sample, Reject) else len(sample.image) + len(str(sample.fields))
