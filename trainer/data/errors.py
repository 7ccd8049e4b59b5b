"""What can be wrong with shards, and with one sample in a good one: said with file, place, reason and what would work."""

from pathlib import Path


class ShardError(Exception):
    """Shards that cannot be used: says where, why, and what would work. `file` is a path or a URL."""

    def __init__(self, file: Path | str, offset: int | None, because: str, nearest: str) -> None:
        self.file, self.offset, self.because, self.nearest = str(file), offset, because, nearest
        super().__init__(f"{file}{'' if offset is None else f' at byte {offset}'}: {because}; {nearest}")


class BadSample(Exception):
    """One sample that cannot be decoded; the others may be good. `sample` counts from the start of its shard."""

    def __init__(self, file: Path | str, offset: int, sample: int, because: str) -> None:
        self.file, self.offset, self.sample, self.because = str(file), offset, sample, because
        super().__init__(f"{file} at byte {offset}: sample {sample}: {because}")
